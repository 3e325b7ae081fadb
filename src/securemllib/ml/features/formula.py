"""Features and label as an R formula says: texts are indexed and encoded, products made, and all put side by side."""

from typing import Any, ClassVar, Self

from pyspark.ml import feature as original
from pyspark.ml.base import Estimator, Model
from pyspark.ml.feature import _RFormulaParams
from pyspark.sql.types import DataType, StringType

from securemllib.errors import FormatError, UsageError
from securemllib.ml.checks import require_sealed
from securemllib.ml.features.categories import OneHotEncoder, StringIndexer
from securemllib.ml.features.formula_terms import parse_formula
from securemllib.ml.features.vectors import Interaction
from securemllib.ml.mirror import mirrors
from securemllib.ml.persistence import Persistent
from securemllib.ml.pipeline import Pipeline, PipelineModel
from securemllib.spark.column_types import is_number, is_vector
from securemllib.spark.functions import col

__all__ = ["RFormula", "RFormulaModel"]


@mirrors(original.RFormulaModel)
class RFormulaModel(Model, Persistent, _RFormulaParams):
    """The sealed stages that a `RFormula` fitted."""

    _stages: PipelineModel
    _label: str

    def _transform(self, dataset: Any) -> Any:
        frame: Any = require_sealed(dataset, "RFormulaModel.transform")
        label = self.getLabelCol()
        if self.getFeaturesCol() in frame.columns:
            raise UsageError("Features column already exists.", code="usage.column")
        if label in frame.columns and not is_number(frame.schema[label].dataType):
            raise UsageError("Label column already exists and is not of type numeric.", code="usage.column")
        made: Any = self._stages.transform(frame)
        made = made.drop(*(name for name in made.columns if name.startswith(f"{self.uid}_")))
        if label in made.columns or self._label not in made.columns:
            return made
        if not is_number(made.schema[self._label].dataType):
            raise UsageError(f"Column {self._label} is no number, so that it is no label.", code="usage.column")
        return made.withColumn(label, col(self._label).cast("double"))

    def _of(self, stages: PipelineModel, label: str) -> Self:
        self._stages, self._label = stages, label
        return self

    @property
    def saved_stages(self) -> list[Any]:
        """The fitted stages, for persistence."""
        return [self._stages]

    @property
    def saved_extra(self) -> Any:
        """The formula's label, for persistence."""
        return self._label

    @classmethod
    def restored(cls, stages: list[Any], extra: Any) -> "RFormulaModel":
        """Return the model that was saved."""
        if len(stages) != 1 or not isinstance(stages[0], PipelineModel) or not isinstance(extra, str):
            raise FormatError("A saved RFormulaModel has its stages and the name of its label.")
        return cls()._of(stages[0], extra)


@mirrors(original.RFormula)
class RFormula(Estimator[Any], Persistent, _RFormulaParams):
    """Features and label by an R formula, as ``pyspark.ml.feature.RFormula``: each text is a job, which learns its categories.

    Formulas are of ``~ . : + - *`` and names; parentheses and powers are refused. The owner must publish the columns' types.
    """

    WITHOUT: ClassVar[tuple[str, ...]] = ("parentheses and powers in formulas",)

    def _fit(self, dataset: Any) -> RFormulaModel:
        frame: Any = require_sealed(dataset, "RFormula.fit")
        if not self.isDefined("formula"):
            raise UsageError("Formula must be defined first.", code="usage.param")
        formula = parse_formula(self.getFormula())
        if missing := [name for _, term in formula.terms for name in term if name not in {*frame.columns, ".", "0", "1"}]:
            raise UsageError(f"{missing[0]} does not exist. Available: {', '.join(frame.columns)}", code="usage.column")
        terms = formula.resolved([field.name for field in frame.schema if field.name != formula.label and _is_term(field.dataType)])
        texts = {name for term in terms for name in term if isinstance(frame.schema[name].dataType, StringType)}
        stages = self._stages(terms, texts, keeps_reference=not formula.has_intercept)
        if self.getForceIndexLabel() or (formula.label in frame.columns and isinstance(frame.schema[formula.label].dataType, StringType)):
            indexer: Any = StringIndexer()._set(inputCol=formula.label, outputCol=self.getLabelCol(), handleInvalid=self.getHandleInvalid())
            stages.append(indexer)
        fitted: Any = Pipeline(stages=stages).fit(frame)
        return self._copyValues(RFormulaModel()._of(fitted, formula.label))._resetUid(self.uid)

    def _stages(self, terms: list[tuple[str, ...]], texts: set[str], *, keeps_reference: bool) -> list[Any]:
        """Return the stages that make the features; the columns between them have names that begin with this one's."""
        from securemllib.ml.feature import VectorAssembler

        invalid, order, uid = self.getHandleInvalid(), self.getStringIndexerOrderType(), self.uid
        indices = {name: f"{uid}_index_{name}" for name in dict.fromkeys(name for term in terms for name in term if name in texts)}
        stages: list[Any] = [
            StringIndexer()._set(inputCol=name, outputCol=index, stringOrderType=order, handleInvalid=invalid)
            for name, index in indices.items()
        ]
        made: list[str] = []
        for number, term in enumerate(terms):
            if len(term) > 1:
                made.append(f"{uid}_product_{number}")
                stages.append(Interaction()._set(inputCols=[indices.get(name, name) for name in term], outputCol=made[-1]))
            elif term[0] in texts:
                made.append(f"{uid}_encoded_{number}")
                stages.append(OneHotEncoder()._set(inputCols=[indices[term[0]]], outputCols=[made[-1]], dropLast=not keeps_reference))
                # Without an intercept the first text keeps all of its categories.
                keeps_reference = False
            else:
                made.append(term[0])
        return [*stages, VectorAssembler()._set(inputCols=made, outputCol=self.getFeaturesCol(), handleInvalid=invalid)]

    def __str__(self) -> str:
        return f"RFormula({self.getFormula() if self.isDefined('formula') else ''}) (uid={self.uid})"


def _is_term(kind: DataType) -> bool:
    return is_number(kind) or isinstance(kind, StringType) or is_vector(kind)
