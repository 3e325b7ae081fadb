"""Metrics of a classification with any number of classes, from its confusion matrix.

Objective: with ``n(y, p)`` the weight of rows of label y predicted as p: accuracy, precision, recall, F-measure and false positive
rate by label and weighted by label, Hamming loss, and the logarithmic loss ``sum w * -log(clip(probability[y], eps, 1 - eps)) / sum
w``.

Equivalence: ``pyspark.ml.evaluation.MulticlassClassificationEvaluator``, all metric names, ``beta``, ``metric_label`` and ``eps``.
A false positive rate is undefined (NaN, as in MLlib) where all rows have one label. Where all rows have weight 0 there is an error, where
MLlib's metrics are NaN.

Cost: one pass over two or three columns and, for the logarithmic loss, one entry of the probability vector.

Reveals: with mode="enclave" the number of rows and, by the size of the sealed statistics, how many pairs of label and prediction a
part has; the metric if the policy releases it. With mode="partitioned" the same: the merge matches pairs and is not a plain sum,
so that it stays sealed.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.columns import labels_of, predictions_of, weights_of
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError, UsageError

__all__ = ["MulticlassClassificationEvaluator", "MulticlassEvaluation", "MulticlassState", "MulticlassStatistics"]

Floats = NDArray[np.float64]
Metric = Literal[
    "f1", "accuracy", "weightedPrecision", "weightedRecall", "weightedTruePositiveRate", "weightedFalsePositiveRate", "weightedFMeasure",
    "truePositiveRateByLabel", "falsePositiveRateByLabel", "precisionByLabel", "recallByLabel", "fMeasureByLabel", "logLoss", "hammingLoss",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class MulticlassStatistics:
    """Weight of each pair of label and prediction.

    Attributes:
        rows: The number of rows.
        pairs: ``(m, 2)`` distinct pairs (label, prediction), ascending.
        weights: ``(m,)`` their weights.
        loss: Weighted logarithmic losses; 0 where another metric is asked for.
    """

    rows: int
    pairs: Floats
    weights: Floats
    loss: float

    def __add__(self, other: Self) -> Self:
        pairs, weights = _by_pair(np.concatenate([self.pairs, other.pairs]), np.concatenate([self.weights, other.weights]))
        return type(self)(rows=self.rows + other.rows, pairs=pairs, weights=weights, loss=self.loss + other.loss)


def _by_pair(pairs: Floats, weights: Floats) -> tuple[Floats, Floats]:
    label, label_index = np.unique(pairs[:, 0], return_inverse=True)
    prediction, prediction_index = np.unique(pairs[:, 1], return_inverse=True)
    found, index = np.unique(label_index * max(prediction.size, 1) + prediction_index, return_inverse=True)
    row, column = np.divmod(found, max(prediction.size, 1))
    return np.column_stack([label[row], prediction[column]]), np.bincount(index, weights=weights, minlength=found.size).astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class MulticlassState:
    """The merged counts, None before the only round."""

    total: MulticlassStatistics | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MulticlassEvaluation:
    """The metric asked for and what MLlib's classification summaries show.

    Attributes:
        value: The metric that was asked for.
        rows: The number of rows.
        labels: ``(c,)`` labels of the data, ascending.
        confusion_matrix: ``(c, c)`` weight by label (row) and prediction (column).
        accuracy: Share of the weight predicted right.
        hamming_loss: Share of the weight predicted wrong.
        log_loss: The logarithmic loss, None unless asked for.
        label_shares: ``(c,)`` each label's share of the weight: what the weighted metrics weight by.
        precision_by_label: ``(c,)``.
        recall_by_label: ``(c,)``; the true positive rate is the same.
        false_positive_rate_by_label: ``(c,)``.
        smallest_group: The weight of the lightest pair of a label and a prediction, also one that is no label of the data.
    """

    SUMMARY: ClassVar[tuple[str, ...]] = (
        "value",
        "rows",
        "labels",
        "confusion_matrix",
        "accuracy",
        "hamming_loss",
        "log_loss",
        "label_shares",
        "precision_by_label",
        "recall_by_label",
        "false_positive_rate_by_label",
        "smallest_group",
    )

    value: float
    rows: int
    labels: Floats
    confusion_matrix: Floats
    accuracy: float
    hamming_loss: float
    log_loss: float | None
    label_shares: Floats
    precision_by_label: Floats
    recall_by_label: Floats
    false_positive_rate_by_label: Floats
    smallest_group: float = 0.0

    def f_measure_by_label(self, beta: float = 1.0) -> Floats:
        """Return ``(c,)`` F-measures, 0 where precision and recall are."""
        precision, recall = self.precision_by_label, self.recall_by_label
        return _shares((1 + beta**2) * precision * recall, beta**2 * precision + recall, 0.0)

    @property
    def weighted_precision(self) -> float:
        """Precision averaged over the labels."""
        return float(self.label_shares @ self.precision_by_label)

    @property
    def weighted_recall(self) -> float:
        """Recall averaged over the labels; the weighted true positive rate is the same."""
        return float(self.label_shares @ self.recall_by_label)

    @property
    def weighted_false_positive_rate(self) -> float:
        """False positive rate averaged over the labels."""
        return float(self.label_shares @ self.false_positive_rate_by_label)

    def weighted_f_measure(self, beta: float = 1.0) -> float:
        """F-measure averaged over the labels."""
        return float(self.label_shares @ self.f_measure_by_label(beta))


def _shares(numerator: Floats, denominator: Floats, undefined: float) -> Floats:
    return np.divide(numerator, denominator, out=np.full_like(numerator, undefined), where=denominator != 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MulticlassClassificationEvaluator:
    """Params of ``pyspark.ml.evaluation.MulticlassClassificationEvaluator``."""

    metric_name: Metric = "f1"
    metric_label: float = 0.0
    beta: float = 1.0
    eps: float = 1e-15

    def __post_init__(self) -> None:
        if self.metric_name not in get_args(Metric):
            raise UsageError(f"metric_name must be one of {', '.join(get_args(Metric))}, not {self.metric_name!r}.")
        if not self.metric_label >= 0.0:
            raise UsageError(f"metric_label must be at least 0, not {self.metric_label}.")
        if not self.beta > 0.0:
            raise UsageError(f"beta must be greater than 0, not {self.beta}.")
        if not 0.0 < self.eps < 0.5:
            raise UsageError(f"eps must be between 0 and 0.5, not {self.eps}.")

    def initial(self, summary: Summary, seed: Seed) -> MulticlassState:
        """Return the empty state."""
        del summary, seed
        return MulticlassState()

    def is_done(self, state: MulticlassState) -> bool:
        """Return whether the pass has been made."""
        return state.total is not None

    def statistics(self, state: MulticlassState, block: Block) -> MulticlassStatistics:
        """Return the block's confusions and, for logLoss, its losses."""
        del state
        label, weight = labels_of(block), weights_of(block)
        loss = float(weight @ self._losses(block, label)) if self.metric_name == "logLoss" else 0.0
        pairs, weights = _by_pair(np.column_stack([label, predictions_of(block)]), weight)
        return MulticlassStatistics(rows=block.rows, pairs=pairs, weights=weights, loss=loss)

    def _losses(self, block: Block, label: Floats) -> Floats:
        index = label.astype(np.intp)
        if label.size and not ((index == label) & (index >= 0) & (index < block.columns)).all():
            raise DataError(f"A label of part {block.ordinal} is no index into its {block.columns} probabilities.", code="data.label")
        probability = block.features[np.arange(block.rows), index] + block.offset[index]
        inside = np.clip(probability, self.eps, 1 - self.eps)
        losses: Floats = np.where(probability > 1 - self.eps, -math.log1p(-self.eps), -np.log(inside))
        return losses

    def update(self, state: MulticlassState, total: MulticlassStatistics) -> MulticlassState:
        """Return the state with the counts of all rows."""
        del state
        return MulticlassState(total=total)

    def to_model(self, state: MulticlassState) -> MulticlassEvaluation:
        """Return the metrics; an empty dataset raises DataError."""
        total = state.total
        if total is None:
            raise UsageError("The evaluation has not finished: its only round is missing.")
        weight = float(total.weights.sum())
        if not weight > 0:
            raise DataError("The dataset has no row with a positive weight.", code="data.no_rows")
        labels, row = np.unique(total.pairs[:, 0], return_inverse=True)
        # A prediction that is no label of the data counts as wrong, but has no row or column of its own, as in MLlib.
        column = np.minimum(np.searchsorted(labels, total.pairs[:, 1]), labels.size - 1)
        known = labels[column] == total.pairs[:, 1]
        confusion = np.zeros((labels.size, labels.size))
        confusion[row[known], column[known]] = total.weights[known]
        by_label, right = np.bincount(row, weights=total.weights).astype(np.float64), np.diag(confusion).copy()
        wrong = (confusion.sum(axis=0) - right).astype(np.float64)
        evaluation = MulticlassEvaluation(
            value=math.nan, rows=total.rows, labels=labels, confusion_matrix=confusion, accuracy=float(right.sum()) / weight,
            hamming_loss=float(total.weights[total.pairs[:, 0] != total.pairs[:, 1]].sum()) / weight,
            log_loss=total.loss / weight if self.metric_name == "logLoss" else None, label_shares=by_label / weight,
            precision_by_label=_shares(right, right + wrong, 0.0), recall_by_label=_shares(right, by_label, math.nan),
            false_positive_rate_by_label=_shares(wrong, weight - by_label, math.nan), smallest_group=float(total.weights.min()),
        )  # fmt: skip
        return replace(evaluation, value=self._value(evaluation))

    def _value(self, found: MulticlassEvaluation) -> float:
        simple = {
            "f1": found.weighted_f_measure(), "accuracy": found.accuracy, "weightedPrecision": found.weighted_precision,
            "weightedRecall": found.weighted_recall, "weightedTruePositiveRate": found.weighted_recall,
            "weightedFalsePositiveRate": found.weighted_false_positive_rate, "weightedFMeasure": found.weighted_f_measure(self.beta),
            "logLoss": found.log_loss, "hammingLoss": found.hamming_loss,
        }  # fmt: skip
        value = simple.get(self.metric_name)
        if value is not None:
            return value
        by_label = {
            "truePositiveRateByLabel": found.recall_by_label, "falsePositiveRateByLabel": found.false_positive_rate_by_label,
            "precisionByLabel": found.precision_by_label, "recallByLabel": found.recall_by_label,
            "fMeasureByLabel": found.f_measure_by_label(self.beta),
        }[self.metric_name]  # fmt: skip
        index = np.flatnonzero(found.labels == self.metric_label)
        if index.size == 0:
            raise DataError(f"metric_label={self.metric_label} is no label of the dataset.", code="data.label")
        return float(by_label[index[0]])
