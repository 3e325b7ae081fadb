"""Pearson's test of independence of each slot of vectors against a label.

Objective: with the counts ``o[v, y]`` of a slot's values and labels and ``e[v, y]`` those that independence expects, the statistic
``sum (o - e)^2 / e``, its degrees of freedom ``(values - 1) (labels - 1)`` and the probability of a larger one.

Equivalence: ``pyspark.ml.stat.ChiSquareTest``, its bound of 10,000 distinct values and labels included; a slot or label with a single
value has the statistic 0 and the p-value 1.

Cost: one pass; the zeros of sparse rows cost nothing. Statistics are the distinct pairs of a slot's values and labels.

Reveals: with mode="enclave" the number of rows and columns, by the size of sealed messages about how many distinct pairs there are, and
the results where the policy has the output ``summary``. With mode="partitioned" the same: merged inside enclaves.
"""

from dataclasses import dataclass
from typing import ClassVar

from securemllib.algorithms.feature.contingency import ContingencyPass, ContingencyState, Independence

__all__ = ["ChiSquareTest", "ChiSquareTestResult"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChiSquareTestResult(Independence):
    """Of each slot: ``(d,)``."""

    SUMMARY: ClassVar[tuple[str, ...]] = ("p_values", "degrees_of_freedom", "statistics")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChiSquareTest(ContingencyPass):
    """``pyspark.ml.stat.ChiSquareTest``, which has no Params but its columns."""

    def to_model(self, state: ContingencyState) -> ChiSquareTestResult:
        """Return the results; `DataError` where there is no row."""
        found = state.tested()
        return ChiSquareTestResult(p_values=found.p_values, degrees_of_freedom=found.degrees_of_freedom, statistics=found.statistics)
