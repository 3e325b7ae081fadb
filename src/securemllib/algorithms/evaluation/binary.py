"""Metrics of a binary classification: the areas under its ROC and precision-recall curves.

Objective: rows sorted by score; for every distinct score the (weighted) positives and negatives at or above it give a point of the
curves. The areas are those of the trapezia between the points.

Equivalence: ``pyspark.ml.evaluation.BinaryClassificationEvaluator``. A label above 0.5 is positive; the score is the second entry
of the raw prediction vector, or the only one of a column of numbers; the ROC starts at (0, 0) and ends at (1, 1); the
precision-recall curve starts at recall 0 with the first point's precision; no predicted positive means precision 1. A positive
``num_bins`` merges runs of ``distinct scores // num_bins`` neighbouring scores, once over the whole dataset, where MLlib does so in
each of its partitions: with one partition the results are equal. 0.0 and -0.0 are one score, where MLlib has two. A NaN score is
refused, where MLlib takes it for the largest.

Cost: one pass and a sort; the statistics are three numbers for each distinct score.

Reveals: with mode="enclave" the number of rows and, by the size of the sealed statistics, how many distinct scores a part has; the
metric and curves if the policy releases them. With mode="partitioned" the same: the merge sorts and is not a plain sum, so that it
stays inside enclaves.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.columns import labels_of, true_rows_of, weights_of
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError, UsageError

__all__ = ["BinaryClassificationEvaluator", "BinaryEvaluation", "BinaryState", "BinaryStatistics"]

Floats = NDArray[np.float64]
Metric = Literal["areaUnderROC", "areaUnderPR"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BinaryStatistics:
    """Positives and negatives of each distinct score.

    Attributes:
        rows: The number of rows.
        scores: ``(s,)`` distinct scores, descending.
        positives: ``(s,)`` weight of the positive rows with that score.
        negatives: ``(s,)`` weight of the negative rows with that score.
    """

    rows: int
    scores: Floats
    positives: Floats
    negatives: Floats

    def __add__(self, other: Self) -> Self:
        scores, positives, negatives = _by_score(
            np.concatenate([self.scores, other.scores]),
            np.concatenate([self.positives, other.positives]),
            np.concatenate([self.negatives, other.negatives]),
        )
        return type(self)(rows=self.rows + other.rows, scores=scores, positives=positives, negatives=negatives)


def _by_score(scores: Floats, positives: Floats, negatives: Floats) -> tuple[Floats, Floats, Floats]:
    distinct, index = np.unique(scores, return_inverse=True)
    size = distinct.size
    return (
        distinct[::-1].copy(),
        np.bincount(index, weights=positives, minlength=size)[::-1].astype(np.float64),
        np.bincount(index, weights=negatives, minlength=size)[::-1].astype(np.float64),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BinaryState:
    """The merged counts, None before the only round."""

    total: BinaryStatistics | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BinaryEvaluation:
    """The metric asked for, both areas and the curves.

    Attributes:
        value: The metric that was asked for.
        area_under_roc: Area under the ROC curve.
        area_under_pr: Area under the precision-recall curve.
        thresholds: ``(t,)`` scores, descending.
        precision: ``(t,)`` precision where rows with at least that score are positive.
        recall: ``(t,)`` recall, likewise.
        false_positive_rate: ``(t,)`` likewise.
        roc: ``(t + 2, 2)`` false positive rate and recall.
        pr: ``(t + 1, 2)`` recall and precision.
        rows: The number of rows.
        smallest_group: The weight of the lightest step between two thresholds.
    """

    SUMMARY: ClassVar[tuple[str, ...]] = (
        "value",
        "area_under_roc",
        "area_under_pr",
        "thresholds",
        "precision",
        "recall",
        "false_positive_rate",
        "roc",
        "pr",
        "rows",
        "smallest_group",
    )

    value: float
    area_under_roc: float
    area_under_pr: float
    thresholds: Floats
    precision: Floats
    recall: Floats
    false_positive_rate: Floats
    roc: Floats
    pr: Floats
    rows: int
    smallest_group: float = 0.0

    def f_measure(self, beta: float = 1.0) -> Floats:
        """Return ``(t,)`` F-measures by threshold, 0 where precision and recall are."""
        divisor = beta**2 * self.precision + self.recall
        return _shares((1 + beta**2) * self.precision * self.recall, divisor, 0.0)


def _area(points: Floats) -> float:
    steps = np.diff(points[:, 0])
    return float(steps @ (points[1:, 1] + points[:-1, 1]) / 2)


def _shares(numerator: Floats, denominator: Floats | float, undefined: float) -> Floats:
    denominators = np.broadcast_to(np.asarray(denominator, dtype=np.float64), numerator.shape)
    return np.divide(numerator, denominators, out=np.full_like(numerator, undefined), where=denominators != 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class BinaryClassificationEvaluator:
    """Params of ``pyspark.ml.evaluation.BinaryClassificationEvaluator``; ``num_bins=0`` keeps every distinct score."""

    metric_name: Metric = "areaUnderROC"
    num_bins: int = 1000

    def __post_init__(self) -> None:
        if self.metric_name not in get_args(Metric):
            raise UsageError(f"metric_name must be one of {', '.join(get_args(Metric))}, not {self.metric_name!r}.")
        if not self.num_bins >= 0:
            raise UsageError(f"num_bins must be at least 0, not {self.num_bins}.")

    def initial(self, summary: Summary, seed: Seed) -> BinaryState:
        """Return the empty state."""
        del summary, seed
        return BinaryState()

    def is_done(self, state: BinaryState) -> bool:
        """Return whether the pass has been made."""
        return state.total is not None

    def statistics(self, state: BinaryState, block: Block) -> BinaryStatistics:
        """Return the block's positives and negatives by score."""
        del state
        if block.columns not in (1, 2):
            raise DataError(f"The raw prediction column must be a number or a vector of length 2, not {block.columns}.")
        positive, weight = labels_of(block) > 0.5, weights_of(block)
        scores, positives, negatives = _by_score(true_rows_of(block)[:, -1], weight * positive, weight * ~positive)
        return BinaryStatistics(rows=block.rows, scores=scores, positives=positives, negatives=negatives)

    def update(self, state: BinaryState, total: BinaryStatistics) -> BinaryState:
        """Return the state with the counts of all rows."""
        del state
        return BinaryState(total=total)

    def _binned(self, total: BinaryStatistics) -> tuple[Floats, Floats, Floats]:
        grouping = total.scores.size // self.num_bins if self.num_bins else 1
        if grouping < 2:
            return total.scores, total.positives, total.negatives
        starts = np.arange(0, total.scores.size, grouping)
        lasts = np.minimum(starts + grouping, total.scores.size) - 1
        return total.scores[lasts], np.add.reduceat(total.positives, starts), np.add.reduceat(total.negatives, starts)

    def to_model(self, state: BinaryState) -> BinaryEvaluation:
        """Return areas and curves; an empty dataset raises DataError."""
        if state.total is None:
            raise UsageError("The evaluation has not finished: its only round is missing.")
        if state.total.rows == 0:
            raise DataError("The dataset has no rows.", code="data.no_rows")
        thresholds, positives, negatives = self._binned(state.total)
        true, false = np.cumsum(positives), np.cumsum(negatives)
        recall, fpr = _shares(true, float(true[-1]), 0.0), _shares(false, float(false[-1]), 0.0)
        precision = _shares(true, true + false, 1.0)
        roc = np.vstack([[0.0, 0.0], np.column_stack([fpr, recall]), [1.0, 1.0]])
        pr = np.vstack([[0.0, precision[0]], np.column_stack([recall, precision])])
        under_roc, under_pr = _area(roc), _area(pr)
        return BinaryEvaluation(
            value=under_roc if self.metric_name == "areaUnderROC" else under_pr, area_under_roc=under_roc, area_under_pr=under_pr,
            thresholds=thresholds, precision=precision, recall=recall, false_positive_rate=fpr, roc=roc, pr=pr, rows=state.total.rows,
            smallest_group=float((positives + negatives).min()),
        )  # fmt: skip
