"""What trainings of trees share: what is known of the rows, one kind of statistics, and the first rounds.

The first one finds the candidates. Where the bins of all rows are fewer bytes than the histograms would be, a second one gathers them:
then the aggregator has what it takes to grow the trees, and grows them at once.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.columns import labels_of, weights_of
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.trees.binning import Binning
from securemllib.algorithms.trees.candidates import ColumnValues, sample_size
from securemllib.algorithms.trees.growing import Grower
from securemllib.algorithms.trees.impurity import Impurity
from securemllib.algorithms.trees.params import TreeParams
from securemllib.algorithms.trees.splits import SplitSearch
from securemllib.errors import DataError

__all__ = [
    "BinnedRows", "Facts", "TreeStatistics", "candidates", "facts_of", "gathered", "gathers", "grower_of", "grown_at_once", "learned",
]  # fmt: skip

Floats = NDArray[np.float64]

# So many roundings in a row do not add up to more, relative to the sum of absolute values.
_ROUNDING = 32.0 * float(np.finfo(np.float64).eps)
# About two seconds of one core: a request to an enclave is to answer soon.
_AT_ONCE = 1 << 30
# Sealing and opening so many bytes, some 20 ms, costs less than the rounds of one tree of MLlib's default depth.
_SMALL = 8 << 20
# So many bins have a number of one byte.
_BYTE = 256


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
class BinnedRows:
    """What trees learn from, of the rows of one block that weigh more than 0.

    Attributes:
        ordinal: The part's position in the dataset.
        bins: ``(n, d)``, one byte each.
        label: ``(n,)``.
        weight: ``(n,)``; None where all weigh 1.
        validation: ``(n,)``, other than 0 for rows that are not learned from; None where there are none.
    """

    ordinal: int
    bins: NDArray[np.uint8]
    label: Floats
    weight: Floats | None
    validation: Floats | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeStatistics:
    """What a round yields of a block.

    Attributes:
        values: The values of the columns, in the first round.
        rows: The rows, in the round that gathers them.
        sums: ``(cells, channels)`` histograms, or ``(cells, 1)`` sums by leaf.
        numbers: ``(4,)``: in the first round weight and number of the rows to learn from, the number of those for validation, and the
            parts that mark rows; in rounds that measure an error, its weighted sum, the weight, and zeros.
    """

    ADDITIVE: ClassVar[tuple[str, ...]] = ("sums", "numbers")

    values: ColumnValues | None
    sums: Floats
    numbers: Floats
    rows: tuple[BinnedRows, ...] = ()

    def __add__(self, other: Self) -> Self:
        values = self.values if other.values is None or self.values is None else self.values + other.values
        return replace(self, values=values, sums=self.sums + other.sums, numbers=self.numbers + other.numbers, rows=self.rows + other.rows)


def facts_of(summary: Summary, *, classification: bool) -> Facts:
    """Return what a summary tells.

    Raises:
        DataError: There are no rows or no columns, or a feature, weight or label is not usable.
    """
    summary.require_rows(squares=False, columns=True)
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


def candidates(block: Block, facts: Facts, seed: Seed, max_bins: int, used: NDArray[np.bool_] | None = None) -> TreeStatistics:
    """Return the first round's statistics of a block; ``used`` tells which rows are to learn from, all where it is None."""
    weights = weights_of(block)
    mine = weights > 0 if used is None else used & (weights > 0)
    generator = seed.generator("candidates", block.ordinal)
    quota = sample_size(block.columns, max_bins)
    values = ColumnValues.of(block, used, cap=max_bins, quota=quota, rows=facts.rows, generator=generator)
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


def gathers(grower: Grower, rows: int, *, trees: int) -> bool:
    """Return whether a round gathers so many rows, because that is less than to send histograms and few to grow trees of."""
    depth, width = grower.max_depth, int(grower.binning.sizes.max(initial=0))
    if width > _BYTE:
        return False
    nodes = min(1 << depth, rows)
    # A level adds each row once and searches at most as many histograms as it has nodes.
    work = trees * (depth + 1) * grower.features * (rows + nodes * width)
    histograms = trees * nodes * grower.features * width * grower.impurity.channels * 8
    # Of two siblings one is sent.
    return work <= _AT_ONCE and rows * grower.binning.columns <= max(histograms // (1 + grower.subtracts), _SMALL)


def gathered(block: Block, binning: Binning) -> TreeStatistics:
    """Return a block's rows."""
    bins, labels, marked = binning.bins_of(block), labels_of(block), block.extras.get("validation")
    weights = None if block.weight is None else weights_of(block)
    if weights is not None:
        kept = weights > 0
        bins, labels, weights, marked = bins[kept], labels[kept], weights[kept], None if marked is None else marked[kept]
    rows = BinnedRows(ordinal=block.ordinal, bins=bins.astype(np.uint8, copy=False), label=labels, weight=weights, validation=marked)
    return TreeStatistics(values=None, sums=np.zeros((0, 1)), numbers=np.zeros(4), rows=(rows,))


def grown_at_once(algorithm: Any, state: Any, rows: tuple[BinnedRows, ...]) -> Any:
    """Return the state after all trees have grown of the rows, in the order of their parts."""
    parts = sorted(rows, key=lambda part: part.ordinal)
    bins, label = np.concatenate([part.bins for part in parts]), np.concatenate([part.label for part in parts])
    weight, marked = _joined([part.weight for part in parts]), _joined([part.validation for part in parts])
    extras = {} if marked is None else {"validation": marked}
    block = Block(ordinal=0, features=np.zeros((len(bins), 0)), offset=np.zeros(0), label=label, weight=weight, extras=extras)
    state.binning.keep(block, bins)
    while not algorithm.is_done(state):
        state = algorithm.update(state, algorithm.statistics(state, block))
    return state


def _joined(columns: list[Floats | None]) -> Floats | None:
    found = [column for column in columns if column is not None]
    return np.concatenate(found) if found else None


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
