"""Vectors of another shape: slices, polynomials, products of several columns, and a checked size.

Objective: VectorSlicer the chosen slots; PolynomialExpansion every monomial of the slots up to a degree; Interaction the products of one
slot of each column, nominal columns as one-hot vectors; VectorSizeHint the same vector, its size checked.

Equivalence: ``pyspark.ml.feature.VectorSlicer`` (by indices: slots have no names here), ``PolynomialExpansion``, ``Interaction`` and
``VectorSizeHint``, with MLlib's order of slots. Sparse vectors stay sparse. What is expanded or checked may differ in length, as there. A
null vector is refused or skipped: a VectorAssembler with ``handleInvalid="keep"`` does not fill it with NaN, as MLlib's does behind a hint.

Reveals: nothing: a plan's step computes them inside enclaves.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from securemllib.algorithms.feature.lengths import by_length, lengths_of
from securemllib.algorithms.feature.values import numbers_of, of_width, vector_of
from securemllib.algorithms.params import require_choice, require_integer
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.algorithms.vectors import AnyVector, SparseVector, Vector, is_stored_vector
from securemllib.errors import DataError, UsageError

__all__ = ["Interaction", "PolynomialExpansion", "VectorSizeHint", "VectorSlicer"]

# Slots that a product of slots may have: beyond, a plan's step would fill the enclave.
_MOST_SLOTS = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorSlicer:
    """Params of ``pyspark.ml.feature.VectorSlicer``."""

    indices: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.indices or len(set(self.indices)) != len(self.indices) or min(self.indices) < 0:
            raise UsageError("indices must be different integers, at least 0 and at least one of them", code="usage.param")

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output``: the slots in the order of `indices`; `DataError` where the vectors are too short."""
        (column,) = columns
        vector, chosen = vector_of(column, "input"), list(self.indices)
        if vector.rows and max(chosen) >= vector.width:
            raise DataError(f"Slot {max(chosen)} is beyond the {vector.width} slots of the vectors.", code="data.length")
        if not vector.rows:
            return Transformed(columns={"output": Column(of_width(Vector(()), len(chosen), "A slice"))})
        sliced: AnyVector
        if isinstance(vector, Vector):
            sliced = Vector(tuple(vector.columns[index] for index in chosen))
        else:
            rows = sparse.csr_array(vector.values[:, chosen])
            rows.sort_indices()
            sliced = SparseVector(rows)
        return Transformed(columns={"output": Column(sliced, arity=None if column.arity is None else column.arity[chosen])})


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorSizeHint:
    """Params of ``pyspark.ml.feature.VectorSizeHint``."""

    size: int
    handle_invalid: str = "error"

    def __post_init__(self) -> None:
        require_integer(self, "size", 0)
        require_choice(self, "handle_invalid", ("error", "skip", "optimistic"))

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output``: the same vectors; `DataError` where their size is another one, or one is null and not to be skipped."""
        (column,) = columns
        if self.handle_invalid == "optimistic":
            return Transformed(columns={"output": column})
        fits = lengths_of(column, nulls=self.handle_invalid == "skip") == self.size
        if not fits.all() and self.handle_invalid == "error":
            raise DataError(f"The hint has {self.size} slots, the vectors of {int((~fits).sum())} rows have not.", code="data.length")
        if not fits.any():
            # Vectors of another size must not tell how wide the column is.
            empty = Vector(tuple(np.zeros(len(fits)) for _ in range(self.size)))
            return Transformed(columns={"output": Column(empty)}, keep=fits)
        return Transformed(columns={"output": column}, keep=None if fits.all() else fits)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolynomialExpansion:
    """Params of ``pyspark.ml.feature.PolynomialExpansion``."""

    degree: int = 2

    def __post_init__(self) -> None:
        require_integer(self, "degree", 1)

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output``: ``x, x x, y, x y, y y...``, the constant left out; `DataError` where these are too many."""
        (column,) = columns
        return Transformed(columns={"output": by_length(column, self._expanded)})

    def _expanded(self, vector: AnyVector) -> AnyVector:
        if comb(vector.width + self.degree, self.degree) - 1 > _MOST_SLOTS:
            raise DataError(f"An expansion of {vector.width} slots to degree {self.degree} is too large.", code="data.length")
        if isinstance(vector, Vector):
            one: Any = np.ones(vector.rows)
            return Vector(tuple(list(_monomials(vector.columns, vector.width - 1, self.degree, one))[1:]))
        by_column = sparse.csc_array(vector.values)
        slots = [by_column[:, [index]] for index in range(vector.width)]
        products = list(_monomials(slots, vector.width - 1, self.degree, None))[1:]
        stacked = sparse.csr_array(sparse.hstack(products, format="csr"))
        stacked.sort_indices()
        return SparseVector(stacked)


def _monomials(slots: Any, last: int, degree: int, factor: Any) -> Iterator[Any]:
    """Yield the monomials of slots ``0 .. last`` up to a degree, each times a factor (None is 1), in MLlib's order."""
    if degree == 0 or last < 0:
        yield factor
        return
    for power in range(degree + 1):
        yield from _monomials(slots, last - 1, degree - power, factor)
        factor = slots[last] if factor is None else factor * slots[last]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """``pyspark.ml.feature.Interaction``, which has no Params but its columns."""

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output``: the products of one slot of each column, the last column's slots fastest."""
        factors = [_slots(column, index) for index, column in enumerate(columns)]
        if np.prod([float(factor.shape[1]) for factor in factors]) > _MOST_SLOTS:
            raise DataError("The product of the columns' slots is too large.", code="data.length")
        product = factors[0]
        for factor in factors[1:]:
            width = factor.shape[1]
            left = product[:, np.repeat(np.arange(product.shape[1]), width)]
            product = sparse.csr_array(left.multiply(factor[:, np.tile(np.arange(width), product.shape[1])]))
        product.sort_indices()
        return Transformed(columns={"output": Column(SparseVector(product))})


def _slots(column: Column, index: int) -> sparse.csr_array:
    """Return a column as sparse slots: a nominal slot as one slot a category."""
    values = column.values
    is_vector = isinstance(values, Vector | SparseVector) or is_stored_vector(values.type)
    vector = vector_of(column, f"input{index}") if is_vector else Vector((numbers_of(column, f"input{index}"),))
    if vector.invalid().any():
        raise DataError(f"{int(vector.invalid().sum())} rows of input {index} have a null or NaN.", code="data.null")
    rows = vector.values if isinstance(vector, SparseVector) else sparse.csr_array(vector.matrix())
    if column.arity is None:
        return rows
    by_column, found = sparse.csc_array(rows), []
    for slot, arity in enumerate(column.arity):
        found.append(by_column[:, [slot]] if not arity else _one_hot(by_column[:, [slot]].toarray().ravel(), int(arity), index))
    return sparse.csr_array(sparse.hstack(found, format="csr"))


def _one_hot(values: NDArray[np.float64], arity: int, index: int) -> sparse.csr_array:
    if not ((values >= 0) & (values < arity) & (values == np.floor(values))).all():
        raise DataError(f"The values of input {index} must be category indices below {arity}.", code="data.category")
    return sparse.csr_array((np.ones(len(values)), values.astype(np.int64), np.arange(len(values) + 1)), shape=(len(values), arity))
