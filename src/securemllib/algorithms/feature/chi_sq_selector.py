"""Selection of the slots that depend on a label, by Pearson's test of independence.

Objective: with the p-value of each slot's independence of the label, the ``num_top_features`` smallest, a ``percentile`` of them, those
below ``fpr``, those that Benjamini and Hochberg's procedure keeps within the false discovery rate ``fdr``, or those below ``fwe / d``.

Equivalence: ``pyspark.ml.feature.ChiSqSelector``: of equal p-values, among them all below 2**-54, the first slots are chosen. P-values
that only rounding tells apart are equal here, where MLlib ranks them by its own rounding. NaN is refused. Sparse vectors stay sparse.

Cost: one pass; the zeros of sparse rows cost nothing. Statistics are the distinct pairs of a slot's values and labels.

Reveals: with mode="enclave" the number of rows and columns, and by the size of sealed messages about how many distinct pairs there are.
With mode="partitioned" the same: counts are merged inside enclaves.
"""

from dataclasses import dataclass

import numpy as np

from securemllib.algorithms.feature.contingency import ContingencyPass, ContingencyState
from securemllib.algorithms.feature.selection import MODES, SelectorModel, selected
from securemllib.algorithms.params import require_choice, require_integer, require_number

__all__ = ["ChiSqSelector"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChiSqSelector(ContingencyPass):
    """Params of ``pyspark.ml.feature.ChiSqSelector``."""

    selector_type: str = "numTopFeatures"
    num_top_features: int = 50
    percentile: float = 0.1
    fpr: float = 0.05
    fdr: float = 0.05
    fwe: float = 0.05

    def __post_init__(self) -> None:
        require_choice(self, "selector_type", MODES)
        require_integer(self, "num_top_features", 1)
        for field in ("percentile", "fpr", "fdr", "fwe"):
            require_number(self, field, low=0.0, high=1.0)

    def to_model(self, state: ContingencyState) -> SelectorModel:
        """Return the model, its slots in their order; `DataError` where there is no row."""
        found = state.tested().p_values
        threshold = self.num_top_features if self.selector_type == "numTopFeatures" else getattr(self, self.selector_type)
        return SelectorModel(columns=len(found), selected=np.sort(selected(found, self.selector_type, threshold)))
