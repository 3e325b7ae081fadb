"""Metrics of rankings: how far up a list of predictions has those that are relevant.

Objective: of a row with ranked predictions ``p_0, p_1...`` and the set ``L`` of relevant ones, with hits ``h_i = [p_i in L]``:
``precisionAtK = sum_{i<k} h_i / k``, ``recallAtK = sum_{i<k} h_i / |L|``, ``meanAveragePrecisionAtK = sum_{i<k} h_i (h_0 + ... + h_i) /
(i + 1) / min(|L|, k)``, ``meanAveragePrecision`` of the whole list over ``|L|``, and ``ndcgAtK = sum_{i<k} h_i / log(i + 2)`` over that
of a list whose first ``|L|`` are hits; each averaged over the rows. A row without relevant ones counts 0.

Equivalence: ``pyspark.ml.evaluation.RankingEvaluator``, all metric names and ``k``. A prediction that is twice in a list hits twice, as in
MLlib. Nulls in a list and numbers that are not finite are refused, where MLlib reads nulls as 0; so are no rows, where MLlib's metric is 0.

Cost: one pass and a sort; the statistics are six numbers.

Reveals: with mode="enclave" the number of rows; the metric if the policy releases it. With mode="partitioned" the policy may let the sums
of the five metrics be added outside, as masked integers.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.evaluation.lists import Lists, distinct, lists_of
from securemllib.algorithms.params import require_choice, require_integer
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError, UsageError

__all__ = ["RankingEvaluation", "RankingEvaluator", "RankingState", "RankingStatistics"]

Floats = NDArray[np.float64]
Metric = Literal["meanAveragePrecision", "meanAveragePrecisionAtK", "precisionAtK", "ndcgAtK", "recallAtK"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingStatistics:
    """Sums over rows.

    Attributes:
        rows: The number of rows.
        sums: ``(5,)`` sums of the rows' metrics, in the order of `Metric`.
    """

    ADDITIVE: ClassVar[tuple[str, ...]] = ("rows", "sums")

    rows: int
    sums: Floats

    def __add__(self, other: Self) -> Self:
        return type(self)(rows=self.rows + other.rows, sums=self.sums + other.sums)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingState:
    """The sums of all rows, None before the only round."""

    total: RankingStatistics | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingEvaluation:
    """The metric asked for and every other one, at the same ``k``."""

    SUMMARY: ClassVar[tuple[str, ...]] = (
        "value",
        "rows",
        "mean_average_precision",
        "mean_average_precision_at_k",
        "precision_at_k",
        "ndcg_at_k",
        "recall_at_k",
    )

    value: float
    rows: int
    mean_average_precision: float
    mean_average_precision_at_k: float
    precision_at_k: float
    ndcg_at_k: float
    recall_at_k: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingEvaluator:
    """Params of ``pyspark.ml.evaluation.RankingEvaluator``."""

    metric_name: Metric = "meanAveragePrecision"
    k: int = 10

    def __post_init__(self) -> None:
        require_choice(self, "metric_name", get_args(Metric))
        require_integer(self, "k", 1)

    def initial(self, summary: Summary, seed: Seed) -> RankingState:
        """Return the empty state."""
        del summary, seed
        return RankingState()

    def is_done(self, state: RankingState) -> bool:
        """Return whether the pass has been made."""
        return state.total is not None

    def nothing(self, state: RankingState) -> RankingStatistics:
        """Return the sums of no rows."""
        del state
        return RankingStatistics(rows=0, sums=np.zeros(len(get_args(Metric))))

    def statistics(self, state: RankingState, block: Block) -> RankingStatistics:
        """Return the block's sums; errors as those of `Lists.of`."""
        del state
        predictions, labels = lists_of(block)
        _, predicted, true = distinct(predictions, labels)
        relevant = np.unique(true)
        if not len(predicted) or not relevant.size:
            return RankingStatistics(rows=block.rows, sums=np.zeros(len(get_args(Metric))))
        # The numbers of a row have the keys from its number times so many on; a row's distinct labels are counted by their keys' rows.
        where = np.minimum(np.searchsorted(relevant, predicted), relevant.size - 1)
        hit = relevant[where] == predicted
        _, first = np.unique(true, return_index=True)
        wanted = np.bincount(labels.row[first], minlength=block.rows)
        return RankingStatistics(rows=block.rows, sums=self._sums(predictions, hit, wanted))

    def _sums(self, predictions: Lists, hit: NDArray[np.bool_], wanted: NDArray[np.int64]) -> Floats:
        """Return the sums of the metrics, from which predictions hit and how many labels each row has."""
        row, place = predictions.row[hit], predictions.place[hit]
        # Hits of a row stand one after the other, so that the count of hits up to one is its position among them.
        so_far = np.arange(1, row.size + 1) - np.searchsorted(row, row)
        precision, relevant, within = so_far / (place + 1.0), wanted[row], place < self.k
        best = np.concatenate([[0.0], np.cumsum(1.0 / np.log(np.arange(min(int(wanted.max()), self.k)) + 2.0))])
        ideal = best[np.minimum(relevant, self.k)]
        return np.array(
            [
                (precision / relevant).sum(),
                (precision / np.minimum(relevant, self.k))[within].sum(),
                np.count_nonzero(within) / self.k,
                (1.0 / np.log(place + 2.0) / ideal)[within].sum(),
                (1.0 / relevant)[within].sum(),
            ]
        )

    def update(self, state: RankingState, total: RankingStatistics) -> RankingState:
        """Return the state with the sums of all rows."""
        del state
        return RankingState(total=total)

    def to_model(self, state: RankingState) -> RankingEvaluation:
        """Return the metrics; an empty dataset raises DataError."""
        total = state.total
        if total is None:
            raise UsageError("The evaluation has not finished: its only round is missing.")
        if not total.rows:
            raise DataError("The dataset has no rows.", code="data.no_rows")
        metrics = (total.sums / total.rows).tolist()
        every, at_k, precision, ndcg, recall = metrics
        return RankingEvaluation(
            value=metrics[get_args(Metric).index(self.metric_name)], rows=total.rows, mean_average_precision=every,
            mean_average_precision_at_k=at_k, precision_at_k=precision, ndcg_at_k=ndcg, recall_at_k=recall,
        )  # fmt: skip
