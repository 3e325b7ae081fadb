"""Rows inside the enclave: Arrow scalars and vector columns, each with what is known of its categories."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from securemllib.algorithms.transformer import Column
from securemllib.algorithms.vectors import VECTOR, AnyVector, SparseVector, Vector, stored_vector, to_stored
from securemllib.errors import DataError

__all__ = ["Rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows of one part between two steps of a plan.

    Attributes:
        count: Their number.
        columns: By name.
        positions: ``(n,)`` positions of the rows in the part as it was stored, which draw random splits.
        draw: Returns numbers from 0 to 1, one for each row of the part as it was stored, by what they are for and the analyst's seed.
    """

    count: int
    columns: dict[str, Column]
    positions: NDArray[np.int64]
    draw: Callable[[str, int], NDArray[np.float64]] | None = None

    def __post_init__(self) -> None:
        # A vector without columns tells no number of rows.
        if {column.rows for column in self.columns.values() if not isinstance(column.values, Vector) or column.values.width} - {self.count}:
            raise DataError("The columns of a part have different lengths.", code="data.length")

    @property
    def nbytes(self) -> int:
        """The bytes of all columns, of sparse ones at most so many."""
        return self.positions.nbytes + sum(_size(column.values) for column in self.columns.values())

    def take(self, mask: NDArray[np.bool_]) -> "Rows":
        """Return the rows where the mask is true."""
        if mask.all():
            return self
        columns = {name: replace(column, values=_taken(column.values, mask)) for name, column in self.columns.items()}
        return replace(self, count=int(mask.sum()), columns=columns, positions=self.positions[mask])

    def drawn(self, purpose: str, seed: int) -> NDArray[np.float64]:
        """Return ``(n,)`` random numbers from 0 to 1; those of a row are the same whatever rows stand beside it."""
        if self.draw is None:
            raise DataError("Rows without a key draw no random numbers.", code="data.expression")
        return self.draw(purpose, seed)[self.positions]

    def column(self, name: str) -> Column:
        """Return one column; `DataError` when there is none."""
        if name not in self.columns:
            raise DataError(f"The rows have no column {name!r}.", code="data.column")
        return self.columns[name]

    def scalar(self, name: str) -> pa.Array:
        """Return the array of one scalar column; `DataError` when there is none."""
        values = self.column(name).values
        if isinstance(values, Vector | SparseVector):
            raise DataError(f"The column {name!r} holds vectors.", code="data.column")
        return values

    def vector(self, name: str) -> AnyVector:
        """Return one vector column; a scalar column is a vector of one."""
        values = self.column(name).values
        return values if isinstance(values, Vector | SparseVector) else stored_vector(values, name)

    def stored(self, name: str) -> pa.Array:
        """Return one column as an Arrow array: vectors as `to_stored` makes them."""
        values = self.column(name).values
        return to_stored(values) if isinstance(values, Vector | SparseVector) else values

    def arity(self, name: str) -> NDArray[np.int64] | None:
        """Return the categories of each slot of a column, or None where none is nominal or there is no such column."""
        return self.columns[name].arity if name in self.columns else None

    def together(self, names: frozenset[str]) -> "Rows":
        """Return only the given columns, each vector in one piece, as a cache holds them: without what draws numbers, which a key makes."""
        kept = {name: column for name, column in self.columns.items() if name in names}
        whole = {name: replace(c, values=c.values.together()) for name, c in kept.items() if isinstance(c.values, Vector)}
        return replace(self, columns=kept | whole, draw=None)

    def with_columns(self, columns: Mapping[str, Column]) -> "Rows":
        """Return the rows with columns added or replaced, without categories where no slot has any."""
        added = {name: c if c.arity is None or c.arity.any() else replace(c, arity=None) for name, c in columns.items()}
        return replace(self, columns=self.columns | added)


def _size(values: pa.Array | AnyVector) -> int:
    if isinstance(values, SparseVector):
        return 16 * values.values.nnz + 8 * values.rows + 8
    return values.rows * values.width * 8 if isinstance(values, Vector) else int(values.nbytes)


def _taken(values: pa.Array | AnyVector, mask: NDArray[np.bool_]) -> pa.Array | AnyVector:
    if isinstance(values, Vector | SparseVector):
        return values.take(mask)
    # Without rows a stored vector column no longer tells how wide it is, so it is read while there are some; an empty list tells nothing.
    if not mask.any() and _tells_width(values) and (first := stored_vector(values.drop_null()[:1], "")).width:
        return first.take(np.zeros(1, dtype=bool))
    return values.filter(pa.array(mask))


def _tells_width(array: pa.Array) -> bool:
    values = array.type.value_type if pa.types.is_list(array.type) else pa.null()
    return bool((array.type == VECTOR or pa.types.is_floating(values)) and len(array) > array.null_count)
