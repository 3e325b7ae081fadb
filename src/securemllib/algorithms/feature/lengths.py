"""Vector columns whose vectors differ in length: what does not need one length reads each as it is."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from securemllib.algorithms.feature.values import decoded, vector_of
from securemllib.algorithms.transformer import Column
from securemllib.algorithms.vectors import VECTOR, AnyVector, SparseVector, Vector, is_stored_vector, stored_vector, to_stored
from securemllib.errors import DataError

__all__ = ["by_length", "lengths_of"]


def by_length(column: Column, change: Callable[[AnyVector], AnyVector]) -> Column:
    """Return what a function of single rows makes of a vector column, whose vectors may differ in length.

    Args:
        column: Vectors of one length, or a stored column of vectors of any, which becomes such a column again.
        change: Takes vectors of one length, and returns one for each.
    """
    stored = column.values
    lengths = lengths_of(column)
    distinct = np.unique(lengths)
    if len(distinct) <= 1:
        return Column(change(vector_of(column, "input")))
    groups = [np.flatnonzero(lengths == length) for length in distinct]
    made = [_to_spark(change(stored_vector(stored.take(pa.array(rows)), "input"))) for rows in groups]
    return Column(pa.concat_arrays(made).take(pa.array(np.argsort(np.concatenate(groups)))))


def lengths_of(column: Column, *, nulls: bool = False) -> NDArray[np.int64]:
    """Return how many slots each vector of a column has, 1 for numbers.

    Args:
        column: Vectors or numbers.
        nulls: Whether a vector may be null, which has -1 slots.

    Raises:
        DataError: The column holds neither, or a null that there may not be.
    """
    if isinstance(column.values, Vector | SparseVector):
        return np.full(column.values.rows, column.values.width)
    array = decoded(column.values)
    if not is_stored_vector(array.type):
        return np.ones(len(array), dtype=np.int64)
    if array.null_count and not nulls:
        raise DataError(f"{array.null_count} rows of the vector column are null.", code="data.null")
    if not pa.types.is_struct(array.type):
        return np.asarray(pc.call_function("list_value_length", [array]).fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64)
    if array.type.num_fields != VECTOR.num_fields or any(array.type.get_field_index(field.name) < 0 for field in VECTOR):
        raise DataError(f"The column is of type {array.type}, not a vector.", code="data.not_numeric")
    kinds, sizes, values = (array.field(field) for field in ("type", "size", "values"))
    dense = np.asarray(kinds.to_numpy(zero_copy_only=False)) == 1
    lengths = np.asarray(np.where(dense, values.value_lengths().fill_null(0), sizes.fill_null(0)), dtype=np.int64)
    return np.where(np.asarray(array.is_null()), -1, lengths)


def _to_spark(vector: AnyVector) -> pa.Array:
    """Return the vectors as Spark stores them, in one column with vectors of other lengths if need be."""
    if isinstance(vector, SparseVector):
        return to_stored(vector)
    rows = vector.rows
    values = pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32) * vector.width), pa.array(vector.matrix().ravel()))
    kinds, none = pa.array(np.ones(rows, dtype=np.int8)), pa.nulls(rows, pa.int32())
    return pa.StructArray.from_arrays([kinds, none, pa.nulls(rows, pa.list_(pa.int32())), values], fields=list(VECTOR))
