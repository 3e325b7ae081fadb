"""Columns of numbers, dates and times as 64-bit words, and back.

Each word has a kind beside it, and values are equal just if kind and word are: all integer types and booleans are ``integer``, dates are
``date``, timestamps count microseconds and are ``timestamp`` or, with a time zone, ``instant``, decimals count units of their last digit
and are ``decimal(SCALE)``. Floats are the bits of a double, with one zero and one not-a-number, as Spark groups them.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from securemllib.errors import DataError, UsageError

__all__ = ["TEXT", "Words", "from_words", "is_text", "kind_of", "literal", "nulls", "single", "to_words", "with_nulls"]

TEXT = "text"

Words = NDArray[np.int64]

_MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_NANOSECONDS = 1_000
_LARGEST = np.uint64(2**63 - 1)


def single(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return the column as one array."""
    found = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    return pa.concat_arrays(found.chunks) if isinstance(found, pa.ChunkedArray) else found


def is_text(kind: pa.DataType) -> bool:
    """Return whether a type is one of texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def kind_of(kind: pa.DataType) -> str:
    """Return the kind of a type's values; `DataError` for lists, vectors and other types that have no words."""
    if is_text(kind):
        return TEXT
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return "integer"
    if pa.types.is_floating(kind):
        return "float"
    if pa.types.is_date32(kind):
        return "date"
    if pa.types.is_timestamp(kind):
        return "timestamp" if kind.tz is None else "instant"
    if pa.types.is_decimal(kind):
        return f"decimal({kind.scale})"
    raise DataError(f"Columns of the type {kind} have no encoding but sealed.", next_step="Leave it out of the schema.", code="data.type")


def literal(value: object, kind: pa.DataType) -> pa.Array:
    """Return a query's literal as a column of one value of a column's type; `UsageError` where it is none, or null."""
    if value is None:
        raise UsageError("Null is compared with nothing.", next_step="Use IS NULL.", code="usage.literal")
    # Spark compares a float as a double: 0.1 is no value of a column of float32.
    kind = pa.float64() if pa.types.is_floating(kind) else kind
    try:
        found = pa.array([value], kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        raise UsageError(f"The literal is no value of a column of {kind}.", code="usage.literal") from None
    # Arrow cuts the fraction off a float that is to be an integer, and takes a time without a zone for one in UTC.
    if not pa.types.is_floating(kind) and found[0].as_py() != value:
        raise UsageError(f"The literal is not exactly a value of a column of {kind}.", code="usage.literal")
    return found


def nulls(array: pa.Array) -> NDArray[np.bool_] | None:
    """Return where a column is null, or None where it never is."""
    return pc.is_null(array).to_numpy(zero_copy_only=False) if array.null_count else None


def with_nulls(values: NDArray[Any], where: NDArray[np.bool_] | None, kind: pa.DataType | None = None) -> pa.Array:
    """Return numbers as a column that is null where it says."""
    return pa.array(values, type=kind, mask=where)


def to_words(array: pa.Array) -> Words:
    """Return the words of a column, anything at its nulls.

    Raises:
        DataError: A value has no word of 64 bits, or the type none at all.
    """
    kind = array.type
    if kind_of(kind) == TEXT:
        raise DataError("Texts have no words.", code="data.type")
    if pa.types.is_boolean(kind):
        return np.asarray(pc.cast(array, pa.int64()).fill_null(0), dtype=np.int64)
    if pa.types.is_decimal(kind):
        return _decimal_words(array)
    values = _numbers(array)
    if pa.types.is_floating(kind):
        return _float_words(values)
    if pa.types.is_timestamp(kind):
        return _microseconds(values, array)
    if values.dtype == np.uint64 and np.any(_present(values > _LARGEST, array)):
        raise DataError("A column of unsigned integers holds values from 2**63 on.", code="data.range")
    return values.astype(np.int64, copy=False)


def from_words(words: Words, where: NDArray[np.bool_] | None, kind: pa.DataType) -> pa.Array:
    """Return the column of a type that has these words."""
    if pa.types.is_decimal(kind):
        pairs = np.stack([words, words >> 63], axis=1)
        found = pa.Array.from_buffers(kind, len(words), [None, pa.py_buffer(pairs)])
        return found if where is None else pc.if_else(pa.array(~where), found, pa.scalar(None, kind))
    if pa.types.is_floating(kind):
        return with_nulls(words.view(np.float64), where).cast(kind)
    if pa.types.is_timestamp(kind):
        return with_nulls(words, where, pa.timestamp("us", tz=kind.tz)).cast(kind)
    if pa.types.is_date32(kind):
        return with_nulls(words.astype(np.int32), where, kind)
    return with_nulls(words, where).cast(kind)


def _numbers(array: pa.Array) -> NDArray[Any]:
    """Return the fixed-width values as they lie in memory, without a copy, anything at nulls."""
    kind, end = array.type, array.offset + len(array)
    dtype = np.dtype(f"i{kind.bit_width // 8}") if pa.types.is_temporal(kind) else np.dtype(kind.to_pandas_dtype())
    return np.frombuffer(array.buffers()[1], dtype, end)[array.offset :] if end else np.empty(0, dtype)


def _present(found: NDArray[np.bool_], array: pa.Array) -> NDArray[np.bool_]:
    where = nulls(array)
    return found if where is None else found & ~where


def _decimal_words(array: pa.Array) -> Words:
    end = array.offset + len(array)
    pairs = (np.frombuffer(array.buffers()[1], np.int64, 2 * end) if end else np.empty(0, np.int64)).reshape(-1, 2)[array.offset :]
    words = pairs[:, 0]
    if np.any(_present(pairs[:, 1] != words >> 63, array)):
        raise DataError("A column of decimals holds values of more than 18 digits.", next_step="Leave it sealed.", code="data.range")
    return np.ascontiguousarray(words)


def _float_words(values: NDArray[Any]) -> Words:
    doubles = values.astype(np.float64)
    doubles += 0.0  # minus zero becomes zero
    doubles[np.isnan(doubles)] = np.nan
    return doubles.view(np.int64)


def _microseconds(values: NDArray[Any], array: pa.Array) -> Words:
    unit = array.type.unit
    if unit == "ns":
        words = values // _NANOSECONDS
        if np.any(_present(words * _NANOSECONDS != values, array)):
            raise DataError("A column of timestamps counts nanoseconds, which Spark does not.", next_step="Round it.", code="data.range")
        return np.asarray(words, dtype=np.int64)
    factor = _MICROSECONDS[unit]
    words = values * factor
    if np.any(_present(words // factor != values, array)):
        raise DataError("A column of timestamps holds values beyond what microseconds count.", code="data.range")
    return np.asarray(words, dtype=np.int64)
