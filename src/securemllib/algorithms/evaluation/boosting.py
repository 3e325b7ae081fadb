"""The loss of boosted trees on rows, held out or not, after each of their trees.

Objective: the weighted mean of a loss of the label and the sum of the first t trees, for every t.

Equivalence: ``evaluateEachIteration`` of ``pyspark.ml``'s ``GBTClassificationModel`` and ``GBTRegressionModel``. An enclave applied the
model first; its output ``iterations`` holds the sums of each row.

Cost: one pass over as many columns as there are trees.

Reveals: with mode="enclave" the number of rows and one round; the losses, and with them the number of trees, if the policy releases the
metric. With mode="partitioned" the same: the sums of losses leave as masked integers.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.columns import labels_of, true_rows_of, weights_of
from securemllib.algorithms.params import require_choice
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.trees.losses import CLASSIFICATION_LOSSES, REGRESSION_LOSSES, errors
from securemllib.errors import DataError

__all__ = ["BoostingEvaluation", "BoostingEvaluationState", "BoostingEvaluationStatistics", "BoostingEvaluator", "sums_of_losses"]

Floats = NDArray[np.float64]


def sums_of_losses(loss: str, label: Floats, weight: Floats, sums: Floats) -> Floats:
    """Return the weighted sum of the losses, ``(t,)``, of sums of trees ``(n, t)``.

    Raises:
        DataError: The loss is one of classes, and a label is neither 0 nor 1.
    """
    if loss in CLASSIFICATION_LOSSES:
        if not np.isin(label, (0.0, 1.0)).all():
            raise DataError("labels must be 0 and 1", code="data.label")
        label = 2.0 * label - 1.0
    return np.asarray(weight @ errors(loss, label[:, None], sums))


@dataclass(frozen=True, slots=True, kw_only=True)
class BoostingEvaluationStatistics:
    """Sums.

    Attributes:
        losses: ``(t,)`` the weighted sum of the losses of the first 1, 2, ... t trees.
    """

    ADDITIVE: ClassVar[tuple[str, ...]] = ("losses",)

    losses: Floats

    def __add__(self, other: Self) -> Self:
        return type(self)(losses=self.losses + other.losses)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoostingEvaluationState:
    """The weight of all rows, and after the only round the mean losses."""

    weight: float
    losses: Floats | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BoostingEvaluation:
    """As ``value`` the mean losses of the first 1, 2, ... t trees."""

    SUMMARY: ClassVar[tuple[str, ...]] = ("value",)

    value: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoostingEvaluator:
    """The loss: ``logistic``, ``squared`` or ``absolute``."""

    loss_type: str = "squared"

    def __post_init__(self) -> None:
        require_choice(self, "loss_type", (*CLASSIFICATION_LOSSES, *REGRESSION_LOSSES))

    def initial(self, summary: Summary, seed: Seed) -> BoostingEvaluationState:
        """Return the state before the only round; a dataset without rows raises DataError."""
        del seed
        summary.require_rows()
        return BoostingEvaluationState(weight=summary.weight_sum)

    def is_done(self, state: BoostingEvaluationState) -> bool:
        """Return whether the losses are there."""
        return state.losses is not None

    def statistics(self, state: BoostingEvaluationState, block: Block) -> BoostingEvaluationStatistics:
        """Return the weighted sums of the block's losses."""
        del state
        sums = true_rows_of(block)
        return BoostingEvaluationStatistics(losses=sums_of_losses(self.loss_type, labels_of(block), weights_of(block), sums))

    def update(self, state: BoostingEvaluationState, total: BoostingEvaluationStatistics) -> BoostingEvaluationState:
        """Return the state with the mean losses."""
        return replace(state, losses=total.losses / state.weight)

    def to_model(self, state: BoostingEvaluationState) -> BoostingEvaluation:
        """Return the mean losses."""
        return BoostingEvaluation(value=() if state.losses is None else tuple(state.losses.tolist()))
