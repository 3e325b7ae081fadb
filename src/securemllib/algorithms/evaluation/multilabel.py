"""Metrics of a classification with several labels a row, from what its predicted and its true labels have in common.

Objective: of a row with predictions ``P`` and labels ``L``: whether both are equal, ``|P & L| / |P | L|`` (accuracy), ``|P & L| / |P|``
(precision), ``|P & L| / |L|`` (recall), ``2 |P & L| / (|P| + |L|)`` (F1), each averaged over the rows; the Hamming loss; precision, recall
and F1 of one label, and of all labels together (micro).

Equivalence: ``pyspark.ml.evaluation.MultilabelClassificationEvaluator``, all metric names and ``metricLabel``. A label that is twice in a
list counts twice, and lists are equal in their order only, as in MLlib. A row without labels makes recall NaN, one without labels and
predictions accuracy and F1 too, as there. A label that is never predicted right has precision, recall and F1 of 0, where MLlib fails; one
that is in no list is an error. Nulls in a list and numbers that are not finite are refused, where MLlib reads nulls as 0.

Cost: one pass and a sort; the statistics are three numbers for each distinct label.

Reveals: with mode="enclave" the number of rows and, by the size of the sealed statistics, how many distinct labels a part has; the metric
if the policy releases it. With mode="partitioned" the same: the merge matches labels and is not a plain sum, so that it stays sealed.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.evaluation.lists import Lists, distinct, lists_of
from securemllib.algorithms.params import require_choice, require_number
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError, UsageError

__all__ = ["MultilabelClassificationEvaluator", "MultilabelEvaluation", "MultilabelState", "MultilabelStatistics"]

Floats = NDArray[np.float64]
Metric = Literal[
    "subsetAccuracy", "accuracy", "hammingLoss", "precision", "recall", "f1Measure", "precisionByLabel", "recallByLabel",
    "f1MeasureByLabel", "microPrecision", "microRecall", "microF1Measure",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class MultilabelStatistics:
    """Sums over rows, and what each label counts.

    Attributes:
        rows: The number of rows.
        equal: Rows whose predictions are their labels.
        shares: ``(4,)`` sums of the rows' accuracy, precision, recall and F1.
        labels: ``(c,)`` distinct predictions and labels, ascending.
        counts: ``(c, 3)`` of each: predicted right, predicted wrong, not predicted.
    """

    rows: int
    equal: int
    shares: Floats
    labels: Floats
    counts: NDArray[np.int64]

    def __add__(self, other: Self) -> Self:
        labels, index = np.unique(np.concatenate([self.labels, other.labels]), return_inverse=True)
        counts = np.zeros((labels.size, 3), dtype=np.int64)
        np.add.at(counts, index, np.concatenate([self.counts, other.counts]))
        return type(self)(
            rows=self.rows + other.rows, equal=self.equal + other.equal, shares=self.shares + other.shares, labels=labels, counts=counts
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MultilabelState:
    """The merged statistics, None before the only round."""

    total: MultilabelStatistics | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MultilabelEvaluation:
    """The metric asked for and every other one of MLlib's; those by label are ``(c,)``.

    Attributes:
        value: The metric that was asked for.
        rows: The number of rows.
        labels: ``(c,)`` all labels and predictions, ascending.
        smallest_group: How often the rarest of a label predicted right, predicted wrong, and not predicted occurs.
    """

    SUMMARY: ClassVar[tuple[str, ...]] = (
        "value",
        "rows",
        "subset_accuracy",
        "accuracy",
        "hamming_loss",
        "precision",
        "recall",
        "f1_measure",
        "micro_precision",
        "micro_recall",
        "micro_f1_measure",
        "labels",
        "precision_by_label",
        "recall_by_label",
        "f1_measure_by_label",
        "smallest_group",
    )

    value: float
    rows: int
    subset_accuracy: float
    accuracy: float
    hamming_loss: float
    precision: float
    recall: float
    f1_measure: float
    micro_precision: float
    micro_recall: float
    micro_f1_measure: float
    labels: Floats
    precision_by_label: Floats
    recall_by_label: Floats
    f1_measure_by_label: Floats
    smallest_group: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MultilabelClassificationEvaluator:
    """Params of ``pyspark.ml.evaluation.MultilabelClassificationEvaluator``."""

    metric_name: Metric = "f1Measure"
    metric_label: float = 0.0

    def __post_init__(self) -> None:
        require_choice(self, "metric_name", get_args(Metric))
        require_number(self, "metric_label", low=0.0)

    def initial(self, summary: Summary, seed: Seed) -> MultilabelState:
        """Return the empty state."""
        del summary, seed
        return MultilabelState()

    def is_done(self, state: MultilabelState) -> bool:
        """Return whether the pass has been made."""
        return state.total is not None

    def statistics(self, state: MultilabelState, block: Block) -> MultilabelStatistics:
        """Return the block's sums; errors as those of `Lists.of`."""
        del state
        predictions, labels = lists_of(block)
        found, predicted, true = distinct(predictions, labels)
        keys, index = np.unique(np.concatenate([predicted, true]), return_inverse=True)
        of_prediction, of_label = (np.bincount(part, minlength=keys.size) for part in np.split(index, [len(predicted)]))
        right = np.minimum(of_prediction, of_label)
        row, label = np.divmod(keys, max(found.size, 1))
        counted = (right, of_prediction - right, of_label - right)
        return MultilabelStatistics(
            rows=block.rows,
            equal=_equal(predictions, labels),
            shares=_shares_of_rows(np.bincount(row, right, block.rows).astype(np.float64), predictions.lengths, labels.lengths),
            labels=found,
            counts=np.column_stack([np.bincount(label, each, found.size) for each in counted]).astype(np.int64),
        )

    def update(self, state: MultilabelState, total: MultilabelStatistics) -> MultilabelState:
        """Return the state with the sums of all rows."""
        del state
        return MultilabelState(total=total)

    def to_model(self, state: MultilabelState) -> MultilabelEvaluation:
        """Return the metrics; an empty dataset and a label that is in no list raise DataError."""
        total = state.total
        if total is None:
            raise UsageError("The evaluation has not finished: its only round is missing.")
        if not total.rows:
            raise DataError("The dataset has no rows.", code="data.no_rows")
        right, wrong, missed = total.counts.astype(np.float64).T
        accuracy, precision, recall, f1 = (total.shares / total.rows).tolist()
        all_right, all_wrong, all_missed = total.counts.sum(axis=0).tolist()
        true_labels = int(np.count_nonzero(right + missed))
        by_precision, by_recall = _over(right, right + wrong, 0.0), _over(right, right + missed, 0.0)
        found = MultilabelEvaluation(
            value=math.nan, rows=total.rows, subset_accuracy=total.equal / total.rows, accuracy=accuracy,
            hamming_loss=_one_over(all_wrong + all_missed, total.rows * true_labels), precision=precision, recall=recall, f1_measure=f1,
            micro_precision=_one_over(all_right, all_right + all_wrong), micro_recall=_one_over(all_right, all_right + all_missed),
            micro_f1_measure=_one_over(2 * all_right, 2 * all_right + all_wrong + all_missed), labels=total.labels,
            precision_by_label=by_precision, recall_by_label=by_recall,
            f1_measure_by_label=_over(2 * by_precision * by_recall, by_precision + by_recall, 0.0),
            smallest_group=float(min(total.counts[total.counts > 0].tolist(), default=math.inf)),
        )  # fmt: skip
        return replace(found, value=self._value(found))

    def _value(self, found: MultilabelEvaluation) -> float:
        simple = {
            "subsetAccuracy": found.subset_accuracy, "accuracy": found.accuracy, "hammingLoss": found.hamming_loss,
            "precision": found.precision, "recall": found.recall, "f1Measure": found.f1_measure,
            "microPrecision": found.micro_precision, "microRecall": found.micro_recall, "microF1Measure": found.micro_f1_measure,
        }  # fmt: skip
        if self.metric_name in simple:
            return float(simple[self.metric_name])
        by_label = {
            "precisionByLabel": found.precision_by_label, "recallByLabel": found.recall_by_label,
            "f1MeasureByLabel": found.f1_measure_by_label,
        }[self.metric_name]  # fmt: skip
        index = np.flatnonzero(found.labels == self.metric_label)
        if index.size == 0:
            raise DataError(f"metric_label={self.metric_label} is no label of the dataset.", code="data.label")
        return float(by_label[index[0]])


def _equal(predictions: Lists, labels: Lists) -> int:
    """Return how many rows have the same list twice; as in Java, a 0 of the other sign is another number there."""
    same = predictions.lengths == labels.lengths
    # Lists of one length have their numbers in the same places.
    ours, theirs = predictions.values[same[predictions.row]], labels.values[same[labels.row]]
    differs = (ours != theirs) | (np.signbit(ours) != np.signbit(theirs))
    same[predictions.row[same[predictions.row]][differs]] = False
    return int(np.count_nonzero(same))


def _shares_of_rows(common: Floats, predictions: NDArray[np.int64], labels: NDArray[np.int64]) -> Floats:
    """Return the sums of the rows' accuracy, precision, recall and F1."""
    shares = (
        _over(common, predictions + labels - common, math.nan),
        _over(common, predictions, 0.0),
        _over(common, labels, math.nan),
        _over(2 * common, predictions + labels, math.nan),
    )
    return np.array([each.sum() for each in shares])


def _over(numerator: Floats, denominator: NDArray[np.float64] | NDArray[np.int64], undefined: float) -> Floats:
    divided: Floats = np.divide(numerator, denominator, out=np.full(numerator.shape, undefined), where=denominator != 0)
    return divided


def _one_over(numerator: float, denominator: float) -> float:
    """Return a quotient as Java has it: NaN or infinite where the divisor is 0."""
    if denominator:
        return numerator / denominator
    return math.inf if numerator else math.nan
