"""Columns of any stored type as what a transformer reads: numbers, texts, lists of texts or vectors."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import sparse

from securemllib.algorithms.base import Block
from securemllib.algorithms.transformer import Column
from securemllib.algorithms.vectors import AnyVector, SparseVector, Vector, numbers, stored_vector
from securemllib.errors import DataError

__all__ = [
    "boolean",
    "decoded",
    "index_in",
    "inputs_of",
    "java_text",
    "numbers_of",
    "of_width",
    "refuse_invalid",
    "scaled",
    "standardised",
    "texts",
    "tokens_of",
    "vector_of",
]

# Where Java's `Double.toString` changes to computerised scientific notation.
_JAVA_SMALL, _JAVA_LARGE = 1e-3, 1e7


def inputs_of(block: Block) -> tuple[pa.Array, ...]:
    """Return a block's raw columns in the order of ``inputCols``."""
    return tuple(block.raw[f"input{index}"] for index in range(len(block.raw)))


def boolean(mask: pa.Array) -> NDArray[np.bool_]:
    """Return an Arrow mask without nulls as numpy."""
    return np.asarray(mask.to_numpy(zero_copy_only=False), dtype=bool)


def decoded(array: pa.Array) -> pa.Array:
    """Return a column without its dictionary, texts as ``string`` or ``large_string``."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array.cast(pa.string()) if str(array.type) == "string_view" else array


def _flat(column: Column | pa.Array) -> pa.Array:
    values = column.values if isinstance(column, Column) else column
    if isinstance(values, Vector | SparseVector):
        raise DataError("A transformer of scalars was given a vector column.", code="data.type")
    return decoded(values)


def numbers_of(column: Column | pa.Array, name: str) -> NDArray[np.float64]:
    """Return a scalar column as float64, NaN for null; `DataError` where it holds no numbers."""
    return numbers(_flat(column), name)


def vector_of(column: Column | pa.Array, name: str) -> AnyVector:
    """Return a vector column; `DataError` where it holds none."""
    values = column.values if isinstance(column, Column) else column
    return values if isinstance(values, Vector | SparseVector) else stored_vector(decoded(values), name)


def slots_of(block: Block) -> AnyVector:
    """Return a block's first raw column, of vectors from whose slots something is learned.

    Raises:
        DataError: The vectors have no slots.
    """
    vector = vector_of(inputs_of(block)[0], "input")
    if vector.rows and not vector.width:
        raise DataError("The vectors have no slots, so there is nothing to learn of them.", code="data.no_columns")
    return vector


def texts(column: Column | pa.Array, name: str) -> pa.Array:
    """Return a scalar column as texts with its nulls, numbers as Spark's cast to string writes them, NaN as null.

    Raises:
        DataError: The column holds neither texts nor numbers.
    """
    array = _flat(column)
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return array
    if pa.types.is_null(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal(kind):
        return array.cast(pa.string())
    if pa.types.is_floating(kind):
        encoded = array.dictionary_encode()
        distinct = encoded.dictionary.to_numpy(zero_copy_only=False)
        written = pa.array([None if np.isnan(value) else java_text(value) for value in distinct], pa.string())
        return written.take(encoded.indices)
    raise DataError(f"The column {name!r} is of type {kind}, neither text nor number.", code="data.type")


def tokens_of(column: Column | pa.Array, name: str) -> pa.Array:
    """Return a column of lists of texts; `DataError` where it holds none or a list is null."""
    array = _flat(column)
    kind = array.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not (
        pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type) or pa.types.is_null(kind.value_type)
    ):
        raise DataError(f"The column {name!r} is of type {kind}, not a list of texts.", code="data.type")
    if array.null_count:
        raise DataError(f"{array.null_count} rows of the column {name!r} are null.", code="data.null")
    if pa.types.is_null(kind.value_type):
        return array.cast(pa.list_(pa.string()))
    return array


def java_text(value: np.floating) -> str:
    """Return a floating point number as Java's ``toString`` writes it: ``1.0``, ``1.0E7``, ``NaN``."""
    if not np.isfinite(value):
        return "NaN" if np.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value == 0 or _JAVA_SMALL <= abs(value) < _JAVA_LARGE:
        return np.format_float_positional(value, unique=True, trim="0")
    return np.format_float_scientific(value, unique=True, trim="0", exp_digits=1).replace("e+", "E").replace("e", "E")


def refuse_invalid(invalid: NDArray[np.bool_], what: str, choices: str = '"skip" or "keep"') -> None:
    """Raise `DataError` where a row is invalid: ``handleInvalid="error"``.

    Args:
        invalid: ``(n,)``.
        what: What these rows have.
        choices: What ``handleInvalid`` may be set to instead.
    """
    if invalid.any():
        raise DataError(
            f"{int(invalid.sum())} rows have {what}.",
            code="data.invalid",
            next_step=f"Filter them, or set handleInvalid to {choices}.",
        )


def index_in(array: pa.Array, values: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the position of each text among distinct values, and which texts are not among them or null."""
    encoded = array.dictionary_encode()
    found = pc.index_in(encoded.dictionary.cast(values.type), value_set=values).take(encoded.indices)
    missing = boolean(pc.is_null(found))
    return np.asarray(found.fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int64), missing


def of_width(vector: AnyVector, width: int, what: str) -> AnyVector:
    """Return vectors that have so many slots; without rows, which tell no width, as many empty columns.

    Raises:
        DataError: The vectors have another number of slots.
    """
    if vector.width == width:
        return vector
    if vector.rows:
        raise DataError(f"{what} has {width} slots, the vectors have {vector.width}.", code="data.length")
    return Vector(tuple(np.zeros(0) for _ in range(width)))


def standardised(vector: AnyVector, centre: NDArray[np.float64] | None, spread: NDArray[np.float64] | None) -> AnyVector:
    """Return vectors less a centre, over a spread, 0 where that is 0; each where it is given. Sparse ones stay so unless centred."""
    if centre is not None:
        dense = vector if isinstance(vector, Vector) else Vector.of(vector.matrix())
        vector = Vector(tuple(values - middle for values, middle in zip(dense.columns, centre, strict=True)))
    if spread is None:
        return vector
    varies = spread != 0
    return scaled(vector, np.where(varies, 1.0 / np.where(varies, spread, 1.0), 0.0))


def scaled(vector: AnyVector, factors: NDArray[np.float64]) -> AnyVector:
    """Return vectors with each slot times its factor, sparse ones as such."""
    if isinstance(vector, Vector):
        return Vector(tuple(values * factor for values, factor in zip(vector.columns, factors, strict=True)))
    rows = vector.values
    return SparseVector(sparse.csr_array((rows.data * factors[rows.indices], rows.indices, rows.indptr), shape=rows.shape))
