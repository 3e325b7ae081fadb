"""What trainings of trees share: what is known of the rows, one kind of statistics, and the first round, which finds the candidates.

The first round's sample is all rows where these are few. Then the aggregator has what it takes to grow the trees, and grows them at
once: the histograms of so few rows would be larger than the rows.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.columns import weights_of
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.trees.binning import Binning
from securemllib.algorithms.trees.candidates import ColumnValues, sample_size
from securemllib.algorithms.trees.growing import Grower
from securemllib.algorithms.trees.impurity import Impurity
from securemllib.algorithms.trees.params import TreeParams
from securemllib.algorithms.trees.splits import SplitSearch
from securemllib.errors import DataError

__all__ = ["Facts", "TreeStatistics", "candidates", "facts_of", "grower_of", "grown_at_once", "learned"]

Floats = NDArray[np.float64]

# So many roundings in a row do not add up to more, relative to the sum of absolute values.
_ROUNDING = 32.0 * float(np.finfo(np.float64).eps)
# About two seconds of one core: a request to an enclave is to answer soon.
_AT_ONCE = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a training knows of its rows.

    Attributes:
        rows: Rows to learn from.
        weight_sum: Their weight.
        classes: Classes; 0 for a regression.
        unit_weights: Whether every row weighs 1, or 0.
        target_sum: What the sum of the absolute targets does not exceed.
    """

    rows: int
    weight_sum: float
    classes: int
    unit_weights: bool
    target_sum: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeStatistics:
    """What a round yields of a block.

    Attributes:
        values: The values of the columns, in the first round.
        sums: ``(cells, channels)`` histograms, or ``(cells, 1)`` sums by leaf.
        numbers: ``(4,)``: in the first round weight and number of the rows to learn from, the number of those for validation, and the
            parts that mark rows; in rounds that measure an error, its weighted sum, the weight, and zeros.
    """

    ADDITIVE: ClassVar[tuple[str, ...]] = ("sums", "numbers")

    values: ColumnValues | None
    sums: Floats
    numbers: Floats

    def __add__(self, other: Self) -> Self:
        values = self.values if other.values is None or self.values is None else self.values + other.values
        return replace(self, values=values, sums=self.sums + other.sums, numbers=self.numbers + other.numbers)


def facts_of(summary: Summary, *, classification: bool) -> Facts:
    """Return what a summary tells.

    Raises:
        DataError: There are no rows or no columns, or a feature, weight or label is not usable.
    """
    summary.require_rows()
    if not summary.columns:
        raise DataError("there is no feature to split", code="data.features")
    if classification and (summary.label_weights is None or summary.has_invalid_label):
        raise DataError("labels must be class indices 0, 1, 2, ...", code="data.label")
    if summary.invalid_labels:
        raise DataError(f"{summary.invalid_labels} rows have a NaN or infinite label", code="data.label")
    weight = summary.weight_sum
    return Facts(
        rows=summary.used_rows,
        weight_sum=weight,
        classes=len(summary.label_weights) if classification and summary.label_weights is not None else 0,
        unit_weights=weight == summary.used_rows == summary.weight_square_sum,
        target_sum=float(np.sqrt(weight * (summary.label_m2 + weight * summary.label_mean**2))),
    )


def candidates(block: Block, seed: Seed, max_bins: int, used: NDArray[np.bool_] | None = None) -> TreeStatistics:
    """Return the first round's statistics of a block; ``used`` tells which rows are to learn from, all where it is None."""
    weights = weights_of(block)
    mine = weights > 0 if used is None else used & (weights > 0)
    generator = seed.generator("candidates", block.ordinal)
    values = ColumnValues.of(block, used, cap=max_bins, quota=sample_size(block.columns, max_bins), generator=generator)
    others = 0 if used is None else np.count_nonzero(~used & (weights > 0))
    return TreeStatistics(
        values=values,
        sums=np.zeros((0, 1)),
        numbers=np.array([weights[mine].sum(), np.count_nonzero(mine), others, used is not None], dtype=np.float64),
    )


def learned(facts: Facts, total: TreeStatistics, max_bins: int) -> tuple[Facts, Binning]:
    """Return the facts and the candidates after the first round."""
    if total.values is None or not total.numbers[0] > 0:
        raise DataError("there is no row of positive weight to learn from", code="data.no_rows")
    facts = replace(facts, weight_sum=float(total.numbers[0]), rows=int(total.numbers[1]))
    return facts, Binning.of(total.values, max_bins=max_bins, rows=facts.rows, multiclass=facts.classes > 2)


def grown_at_once(algorithm: Any, state: Any, values: ColumnValues | None, *, trees: int) -> Any:
    """Return the state after all trees have grown, where the first round's sample is all rows and these are few; else the state.

    Args:
        algorithm: The training.
        state: Its state after the first round.
        values: What that round yielded.
        trees: How many trees grow.
    """
    if values is None or len(values.keys) != state.facts.rows:
        return state
    rows, depth = state.facts.rows, algorithm.max_depth
    # A level adds each row once and searches at most as many histograms as it has nodes.
    cells = algorithm.max_bins << min(depth, rows.bit_length())
    if trees * (depth + 1) * state.columns * (rows + cells) > _AT_ONCE:
        return state
    block = values.block()
    while not algorithm.is_done(state):
        state = algorithm.update(state, algorithm.statistics(state, block))
    return state


def grower_of(params: TreeParams, facts: Facts, binning: Binning, seed: Seed, *, impurity: str, features: int) -> Grower:
    """Return how the trees of one training grow."""
    weighted = not facts.unit_weights
    measure = Impurity(kind=impurity, classes=facts.classes, counts_rows=weighted and params.min_instances_per_node > 1)
    search = SplitSearch(
        binning=binning,
        impurity=measure,
        min_rows=params.min_instances_per_node if facts.unit_weights or measure.counts_rows else 0,
        min_weight=params.min_weight_fraction_per_node * facts.weight_sum,
        min_gain=params.min_info_gain,
        noise=_ROUNDING * facts.target_sum,
        exact=facts.unit_weights and facts.classes > 0,
    )
    return Grower(
        binning=binning,
        impurity=measure,
        search=search,
        max_depth=params.max_depth,
        features=features,
        memory=params.max_memory_in_mb << 20,
        subtracts=facts.unit_weights,
        seed=seed,
    )
