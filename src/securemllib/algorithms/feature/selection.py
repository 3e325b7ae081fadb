"""Chosen slots of vectors: the model that all selectors have, and which slots their p-values choose."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from securemllib.algorithms.feature.values import of_width, vector_of
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.algorithms.vectors import AnyVector, SparseVector, Vector

__all__ = ["MODES", "SelectorModel", "selected"]

MODES = ("numTopFeatures", "percentile", "fpr", "fdr", "fwe")

# Rounding makes slots that are mirror images of each other differ from the 45th bit on.
_TIED_BITS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectorModel:
    """The chosen slots of vectors with so many columns, in the order in which MLlib's model names them."""

    SUMMARY: ClassVar[tuple[str, ...]] = ()

    columns: int
    selected: NDArray[np.int64]

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output``: the chosen slots in the order of the vectors; sparse ones stay sparse."""
        (column,) = columns
        vector, chosen = of_width(vector_of(column, "input"), self.columns, "The model"), np.sort(self.selected)
        kept: AnyVector
        if isinstance(vector, Vector) and len(chosen):
            kept = Vector(tuple(vector.columns[index] for index in chosen))
        else:
            # Vectors without slots are sparse: no column would tell how many they are.
            rows = vector.values if isinstance(vector, SparseVector) else sparse.csr_array((vector.rows, self.columns))
            kept = SparseVector(sparse.csr_array(rows[:, chosen]))
        return Transformed(columns={"output": Column(kept, arity=None if column.arity is None else column.arity[chosen])})


def selected(p_values: NDArray[np.float64], mode: str, threshold: float) -> NDArray[np.int64]:
    """Return the slots that a mode chooses: the best first where they are ranked, otherwise in their own order.

    A slot without a p-value (NaN) is ranked last; of equal ones the first slot is first.
    """
    # MLlib's p-values are 1 less a distribution function: the smallest ones are all 0, and their slots equally good.
    p_values, columns = 1.0 - (1.0 - p_values), len(p_values)
    if mode in {"fpr", "fwe"}:
        return np.flatnonzero(p_values < (threshold / columns if mode == "fwe" else threshold))
    mantissa, exponent = np.frexp(p_values)
    order = np.argsort(np.ldexp(np.round(np.ldexp(mantissa, _TIED_BITS)), exponent - _TIED_BITS), kind="stable")
    if mode == "fdr":
        # Benjamini and Hochberg (1995).
        fits = np.flatnonzero(p_values[order] <= threshold / columns * np.arange(1, columns + 1))
        return order[: fits[-1] + 1 if len(fits) else 0]
    return order[: int(threshold if mode == "numTopFeatures" else columns * threshold)]
