"""Estimators that go on from a model, batch by batch."""

from dataclasses import replace
from typing import Any, ClassVar

from securemllib.errors import PolicyError, UsageError
from securemllib.ml.base import SecureEstimator, SecureModel
from securemllib.ml.checks import require_sealed
from securemllib.spark.blocks import has_statistics
from securemllib.spark.jobs import Outcome
from securemllib.wire.job import OutputKind

__all__ = ["CarryingEstimator", "UpdatingEstimator"]


class UpdatingEstimator(SecureEstimator):
    """An estimator that can go on from a model, batch by batch.

    Attributes:
        CARRIES: Whether a model goes on from the sums behind it, which are then sealed beside it, and not from what it tells itself.
    """

    CARRIES: ClassVar[bool] = False

    def update(self, model: SecureModel | None, dataset: Any) -> Any:
        """Return the model that goes on from another one with the rows of a batch.

        Args:
            model: What was trained on the parts right before the batch's, and on nothing behind them: the broker refuses a batch that
                leaves parts out or repeats them. None for the first batch.
            dataset: A batch of a stream, or ``frame.of_parts(first, end)``.

        Raises:
            UsageError: The model is another estimator's or lacks the sums behind it, or the rows are not some parts of a dataset.
            PolicyError: The batch is not the one after the model's, or a policy refuses the training.
        """
        return self._updated(model, dataset, {})

    def _updated(self, model: SecureModel | None, dataset: Any, changes: dict[str, Any]) -> Any:
        frame = require_sealed(dataset, f"{type(self).__name__}.update")
        if model is not None:
            self._check_goes_on(model)
            frame = frame.with_model(model.sealed, model._pieces)
        if frame.plan.parts is None:
            raise UsageError("A batch is of some parts of a dataset.", next_step="Give a stream's batch, or frame.of_parts(first, end).")

        def run(*, summary: bool) -> Outcome:
            asked = self._request(frame, summary=summary)
            if self.CARRIES:
                asked = replace(asked, outputs=(*asked.outputs, (OutputKind.SEALED_STATISTICS, None, ())))
            reference = None if model is None else model.sealed.reference
            asked = replace(asked, params={**asked.params, **changes}, model=reference, together=False)
            return frame.session.run(frame, asked)

        try:
            outcome = run(summary=True)
        except PolicyError as error:
            if not error.error_code.startswith("refused.policy.output"):
                raise
            outcome = run(summary=False)
        return self._trained(dataset, outcome)

    def _check_goes_on(self, model: SecureModel) -> None:
        if not isinstance(model, self.MODEL):
            raise UsageError(f"{type(self).__name__} goes on from a {self.MODEL.__name__}, not from a {type(model).__name__}.")
        if self.CARRIES and not has_statistics(model._pieces):
            raise UsageError(
                f"The sums behind this {type(model).__name__} are not beside it.",
                next_step="Train the first batch with update(None, batch): a model of `fit` carries no sums.",
                code="usage.no_statistics",
            )


class CarryingEstimator(UpdatingEstimator):
    """An estimator whose models go on from the sums behind them: over batches they equal one `fit` over all rows."""

    CARRIES = True

    def update(self, model: SecureModel | None, dataset: Any, *, decayFactor: float = 1.0) -> Any:
        """Return the model of a batch and of all rows before it.

        Args:
            model: See `UpdatingEstimator.update`; what an `update` returned, or None for the first batch.
            dataset: See there.
            decayFactor: What the rows so far count, from 0 (nothing) to 1 (as much as the batch's): each weight is multiplied by it.
        """
        return self._updated(model, dataset, {"decayFactor": float(decayFactor)})
