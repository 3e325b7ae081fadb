"""Rows inside the enclave: Arrow scalars beside vector columns, which Arrow would store badly."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from securemllib.algorithms.transformer import Column
from securemllib.algorithms.vectors import VECTOR, AnyVector, SparseVector, Vector, stored_vector
from securemllib.errors import DataError

__all__ = ["Rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows of one part between two steps of a plan.

    Attributes:
        count: Their number.
        scalars: Arrow arrays by column name.
        vectors: Vector columns by name.
        positions: ``(n,)`` positions of the rows in the part as it was stored, which draw random splits.
        draw: Returns numbers from 0 to 1, one for each row of the part as it was stored, by what they are for and the analyst's seed.
        arities: Categories of a nominal column, one number a slot (0: continuous), by column; a column without nominal slots has none.
        labels: What the categories of a nominal scalar column were called, by column.
    """

    count: int
    scalars: dict[str, pa.Array]
    vectors: dict[str, AnyVector]
    positions: NDArray[np.int64]
    draw: Callable[[str, int], NDArray[np.float64]] | None = None
    arities: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {len(array) for array in self.scalars.values()} | {vector.rows for vector in self.vectors.values() if vector.width}
        if lengths - {self.count}:
            raise DataError("The columns of a part have different lengths.", code="data.length")

    @property
    def names(self) -> frozenset[str]:
        """All columns."""
        return frozenset(self.scalars) | frozenset(self.vectors)

    @property
    def nbytes(self) -> int:
        """The bytes of all columns, of sparse ones at most so many."""
        sizes = (v.rows * v.width * 8 if isinstance(v, Vector) else 16 * v.values.nnz + 8 * v.rows + 8 for v in self.vectors.values())
        return self.positions.nbytes + sum(sizes) + sum(int(array.nbytes) for array in self.scalars.values())

    def take(self, mask: NDArray[np.bool_]) -> "Rows":
        """Return the rows where the mask is true."""
        if mask.all():
            return self
        selection = pa.array(mask)
        # Without rows a stored vector column no longer tells how wide it is, so it is read while there are some.
        last = {} if mask.any() else {name: array.drop_null()[:1] for name, array in self.scalars.items() if _tells_width(array)}
        return replace(
            self,
            count=int(mask.sum()),
            scalars={name: array.filter(selection) for name, array in self.scalars.items() if name not in last},
            vectors={name: stored_vector(array, name).take(np.zeros(1, dtype=bool)) for name, array in last.items()}
            | {name: vector.take(mask) for name, vector in self.vectors.items()},
            positions=self.positions[mask],
        )

    def drawn(self, purpose: str, seed: int) -> NDArray[np.float64]:
        """Return ``(n,)`` random numbers from 0 to 1; those of a row are the same whatever rows stand beside it."""
        if self.draw is None:
            raise DataError("Rows without a key draw no random numbers.", code="data.expression")
        return self.draw(purpose, seed)[self.positions]

    def scalar(self, name: str) -> pa.Array:
        """Return one scalar column; `DataError` when there is none."""
        if name not in self.scalars:
            raise DataError(f"The rows have no scalar column {name!r}.", code="data.column")
        return self.scalars[name]

    def vector(self, name: str) -> AnyVector:
        """Return one vector column; a scalar column is a vector of one."""
        if name in self.vectors:
            return self.vectors[name]
        if name not in self.scalars:
            raise DataError(f"The rows have no column {name!r}.", code="data.column")
        return stored_vector(self.scalars[name], name)

    def column(self, name: str) -> Column:
        """Return one column with what is known of its categories."""
        if name not in self.names:
            raise DataError(f"The rows have no column {name!r}.", code="data.column")
        values = self.vectors[name] if name in self.vectors else self.scalars[name]
        return Column(values, arity=self.arities.get(name), labels=self.labels.get(name))

    def arity(self, name: str) -> NDArray[np.int64] | None:
        """Return the categories of each slot of a column, or None where none is nominal."""
        return self.arities.get(name)

    def renamed(self, names: Mapping[str, str]) -> "Rows":
        """Return only the given columns, each under its new name.

        Args:
            names: Present names by the new ones.
        """
        return Rows(
            count=self.count,
            scalars={new: self.scalars[old] for new, old in names.items() if old in self.scalars},
            vectors={new: self.vectors[old] for new, old in names.items() if old in self.vectors},
            positions=self.positions,
            draw=self.draw,
            arities={new: self.arities[old] for new, old in names.items() if old in self.arities},
            labels={new: self.labels[old] for new, old in names.items() if old in self.labels},
        )

    def together(self, names: frozenset[str]) -> "Rows":
        """Return only the given columns, each vector in one piece, as a cache holds them: without what draws numbers, which a key makes."""
        kept = self.renamed({name: name for name in self.names & names})
        return replace(kept, vectors={n: v.together() if isinstance(v, Vector) else v for n, v in kept.vectors.items()}, draw=None)

    def with_columns(self, columns: Mapping[str, Column]) -> "Rows":
        """Return the rows with columns added or replaced."""
        kept = self.renamed({name: name for name in self.names if name not in columns})
        scalars, vectors, arities, labels = dict(kept.scalars), dict(kept.vectors), dict(kept.arities), dict(kept.labels)
        for name, column in columns.items():
            if isinstance(column.values, Vector | SparseVector):
                vectors[name] = column.values
            else:
                scalars[name] = column.values
            if column.arity is not None and column.arity.any():
                arities[name] = column.arity
            if column.labels is not None:
                labels[name] = column.labels
        return replace(kept, scalars=scalars, vectors=vectors, arities=arities, labels=labels)


def _tells_width(array: pa.Array) -> bool:
    values = array.type.value_type if pa.types.is_list(array.type) else pa.null()
    is_vector = array.type == VECTOR or pa.types.is_floating(values) or pa.types.is_integer(values)
    return bool(is_vector and len(array) > array.null_count)
