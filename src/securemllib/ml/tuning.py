"""Model selection, named as in ``pyspark.ml.tuning``: folds are drawn by a keyed hash inside enclaves, and every model stays sealed.

All models of a fold train in shared passes over its rows, and are evaluated in one.
Only the metric of each fold and each entry of the grid leaves, where the policy has the output ``metric``.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy as shallow_copy
from typing import Any, cast

import numpy as np
from pyspark.ml import tuning as original
from pyspark.ml.tuning import ParamGridBuilder

from securemllib.errors import FormatError, UsageError
from securemllib.ml.checks import require_sealed
from securemllib.ml.evaluation import SecureEvaluator
from securemllib.ml.features.buckets import Bucketizer
from securemllib.ml.persistence import Persistent
from securemllib.spark.dataframe import SecureDataFrame
from securemllib.spark.functions import col

__all__ = ["CrossValidator", "CrossValidatorModel", "ParamGridBuilder", "TrainValidationSplit", "TrainValidationSplitModel"]

# Fitted models and their metrics, by the entry of the grid.
Scores = tuple[list[float], list[Any]]


class SecureValidator(Persistent):
    """What both ways of validating share: every entry of the grid is trained on some rows and evaluated on others."""

    @property
    def saved_stages(self) -> list[Any]:
        """The estimator and the evaluator, for persistence."""
        return [self.getEstimator(), self.getEvaluator()]  # type: ignore[attr-defined]

    @property
    def saved_extra(self) -> Any:
        """The grid, for persistence: each entry as ``[uid, Param, value]``."""
        return [[[param.parent, param.name, value] for param, value in entry.items()] for entry in self._grid()]

    def with_options(self, options: dict[str, str]) -> Persistent:
        """Return what is saved with the option ``persistSubModels``; it defaults to whether sub-models were collected."""
        others = {name: value for name, value in options.items() if name != "persistsubmodels"}
        persists = options.get("persistsubmodels")
        if others or persists is None or not hasattr(self, "subModels"):
            return super().with_options(options if others or persists else {})
        if persists not in {"true", "false"}:
            raise UsageError(f"persistSubModels is true or false, not {persists!r}.", code="usage.param")
        if persists == "true" and self.subModels is None:
            raise UsageError("There are no sub-models to save.", next_step="Set collectSubModels before fitting.", code="usage.param")
        return self if persists == "true" else self._without_sub_models()

    def _without_sub_models(self) -> Persistent:
        copied: Any = shallow_copy(self)
        copied.subModels = None
        return cast("Persistent", copied)

    def restore(self, stages: list[Any], extra: Any) -> None:
        """Take over saved stages and grid; what had its default is set to it, as in what pyspark.ml loads."""
        if len(stages) != 2:
            raise FormatError("A saved validator has an estimator and an evaluator.")
        self._set(estimator=stages[0], evaluator=stages[1])  # type: ignore[attr-defined]
        self._set(estimatorParamMaps=_grid_of(stages[0], extra))  # type: ignore[attr-defined]
        self._set(**{param.name: value for param, value in self._defaultParamMap.items()})  # type: ignore[attr-defined]

    def _grid(self) -> list[Any]:
        this: Any = self
        for name in ("estimator", "estimatorParamMaps", "evaluator"):
            if not this.isDefined(name):
                raise UsageError(f"A {type(this).__name__} needs {name}.", code="usage.param")
        grid: list[Any] = this.getEstimatorParamMaps()
        if not grid:
            raise UsageError("A grid has at least one entry.", next_step="An entry without Params is {}.", code="usage.param")
        return grid

    def _score(self, train: SecureDataFrame, validation: SecureDataFrame) -> Scores:
        """Train and evaluate all entries of the grid: dealt to as many threads as `parallelism` says, each thread's in shared passes."""
        this: Any = self
        grid = self._grid()
        estimator, evaluator = this.getEstimator(), this.getEvaluator()

        def score(entries: list[Any]) -> list[tuple[float, Any]]:
            found = dict(estimator.fitMultiple(train, entries))
            models = [found[index] for index in range(len(entries))]
            frames = [model.transform(validation, entry) for model, entry in zip(models, entries, strict=True)]
            shares = isinstance(evaluator, SecureEvaluator)
            metrics = evaluator.evaluate_together(frames) if shares else [evaluator.evaluate(frame) for frame in frames]
            return list(zip(metrics, models, strict=True))

        threads = max(1, min(this.getParallelism(), len(grid)))
        with ThreadPoolExecutor(threads) as pool:
            dealt = list(pool.map(score, [grid[first::threads] for first in range(threads)]))
        found = [dealt[index % threads][index // threads] for index in range(len(grid))]
        return [metric for metric, _ in found], [model for _, model in found]

    def _best(self, dataset: SecureDataFrame, metrics: Any) -> Any:
        this: Any = self
        choose: Callable[[Any], Any] = np.argmax if this.getEvaluator().isLargerBetter() else np.argmin
        return this.getEstimator().fit(dataset, self._grid()[int(choose(metrics))])


class CrossValidator(SecureValidator, original.CrossValidator):  # type: ignore[misc]
    """K-fold cross-validation, as ``pyspark.ml.tuning.CrossValidator``; a row's fold follows from the seed and a key of the dataset."""

    def _fit(self, dataset: Any) -> "CrossValidatorModel":
        frame = require_sealed(dataset, "CrossValidator.fit")
        metrics, models = [], []
        for train, validation in self._folds(frame):
            scores, fitted = self._score(train, validation)
            metrics.append(scores)
            models.append(fitted)
        averages, deviations = self._gen_avg_and_std_metrics(metrics)
        kept = models if self.getCollectSubModels() else None
        model = CrossValidatorModel(self._best(frame, averages), [float(x) for x in averages], kept, [float(x) for x in deviations])
        return self._copyValues(model)

    def _folds(self, frame: SecureDataFrame) -> list[tuple[SecureDataFrame, SecureDataFrame]]:
        number, column = self.getNumFolds(), self.getFoldCol()
        if not column:
            return frame.folds(number, self.getSeed())
        if frame.has_schema and column not in frame.columns:
            raise UsageError(f"{column} does not exist. Available: {', '.join(frame.columns)}", code="usage.column")
        frame = _checked(frame, column, number, f"{self.uid}_fold")
        return [(frame.filter(col(column) != fold), frame.filter(col(column) == fold)) for fold in range(number)]


def _checked(frame: SecureDataFrame, column: str, number: int, name: str) -> SecureDataFrame:
    """Return the rows, whose fold numbers enclaves look at: one that is not in [0, number) ends each job, as in pyspark.ml."""
    splits = [0.0, 0.5, float(np.nextafter(number, 0.0))]
    bucketizer: Any = Bucketizer()._set(inputCol=column, outputCol=name, splits=splits)
    checked: SecureDataFrame = bucketizer.transform(frame)
    return checked.drop(name) if frame.has_schema else checked


class CrossValidatorModel(SecureValidator, original.CrossValidatorModel):  # type: ignore[misc]
    """The best model of a cross-validation, sealed, and the metrics of all."""

    @property
    def saved_stages(self) -> list[Any]:
        """The estimator, the evaluator, the best model and the models of all folds, for persistence."""
        return [*super().saved_stages, self.bestModel, *(model for fold in self.subModels or () for model in fold)]

    @property
    def saved_extra(self) -> Any:
        """The grid and the metrics, for persistence."""
        return {"grid": super().saved_extra, "average": list(self.avgMetrics), "deviation": list(self.stdMetrics)}

    @classmethod
    def restored(cls, stages: list[Any], extra: Any) -> "CrossValidatorModel":
        """Return the model that was saved."""
        extra = _fields(extra, {"grid", "average", "deviation"})
        entries = max(len(extra["grid"]), 1)
        folds = [stages[start : start + entries] for start in range(3, len(stages), entries)]
        model = cls(stages[2], _floats(extra["average"]), folds or None, _floats(extra["deviation"]))
        model.restore(stages[:2], extra["grid"])
        return model

    def copy(self, extra: Any = None) -> "CrossValidatorModel":
        """Return a copy, of all its models too; extra Params are the copy's and its best model's."""
        folds = None if self.subModels is None else [[model.copy() for model in fold] for fold in self.subModels]
        model = CrossValidatorModel(self.bestModel.copy(extra or {}), list(self.avgMetrics), folds, list(self.stdMetrics))
        return self._copyValues(model, extra)

    def _transform(self, dataset: Any) -> Any:
        frame: Any = require_sealed(dataset, "CrossValidatorModel.transform")
        return self.bestModel.transform(frame)


class TrainValidationSplit(SecureValidator, original.TrainValidationSplit):  # type: ignore[misc]
    """One split into training and validation rows, as ``pyspark.ml.tuning.TrainValidationSplit``."""

    def _fit(self, dataset: Any) -> "TrainValidationSplitModel":
        frame = require_sealed(dataset, "TrainValidationSplit.fit")
        ratio = self.getTrainRatio()
        if not 0.0 < ratio < 1.0:
            raise UsageError(f"trainRatio must be between 0 and 1, not {ratio}.", code="usage.param")
        train, validation = frame.randomSplit([ratio, 1.0 - ratio], self.getSeed())
        metrics, models = self._score(train, validation)
        model = TrainValidationSplitModel(self._best(frame, metrics), metrics, models if self.getCollectSubModels() else None)
        return self._copyValues(model)


class TrainValidationSplitModel(SecureValidator, original.TrainValidationSplitModel):  # type: ignore[misc]
    """The best model of a split, sealed, and the metrics of all."""

    @property
    def saved_stages(self) -> list[Any]:
        """The estimator, the evaluator, the best model and all models, for persistence."""
        return [*super().saved_stages, self.bestModel, *(self.subModels or ())]

    @property
    def saved_extra(self) -> Any:
        """The grid and the metrics, for persistence."""
        return {"grid": super().saved_extra, "metrics": list(self.validationMetrics)}

    @classmethod
    def restored(cls, stages: list[Any], extra: Any) -> "TrainValidationSplitModel":
        """Return the model that was saved."""
        extra = _fields(extra, {"grid", "metrics"})
        model = cls(stages[2], _floats(extra["metrics"]), stages[3:] or None)
        model.restore(stages[:2], extra["grid"])
        return model

    def copy(self, extra: Any = None) -> "TrainValidationSplitModel":
        """Return a copy, of all its models too; extra Params are the copy's and its best model's."""
        models = None if self.subModels is None else [model.copy() for model in self.subModels]
        model = TrainValidationSplitModel(self.bestModel.copy(extra or {}), list(self.validationMetrics), models)
        return self._copyValues(model, extra)

    def _transform(self, dataset: Any) -> Any:
        frame: Any = require_sealed(dataset, "TrainValidationSplitModel.transform")
        return self.bestModel.transform(frame)


def _fields(extra: Any, names: set[str]) -> dict[str, Any]:
    if not isinstance(extra, dict) or extra.keys() != names or not all(isinstance(value, list) for value in extra.values()):
        raise FormatError(f"A saved validation has the fields {sorted(names)}.")
    return extra


def _floats(values: list[Any]) -> list[float]:
    if not all(isinstance(value, float) for value in values):
        raise FormatError("A saved metric is no number.")
    return values


def _grid_of(estimator: Any, saved: Any) -> list[dict[Any, Any]]:
    """Return the grid of saved ``[uid, Param, value]`` entries, with the Params of the estimator and its stages."""
    waiting, params = [estimator], {}
    while waiting:
        stage = waiting.pop()
        params.update({(param.parent, param.name): param for param in stage.params})
        waiting.extend(stage.saved_stages if hasattr(type(stage), "saved_stages") else [])
    try:
        return [{params[uid, name]: value for uid, name, value in entry} for entry in saved]
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError("A saved grid names a Param that its estimator does not have.") from error
