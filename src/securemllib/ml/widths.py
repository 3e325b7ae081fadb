"""How many numbers a vector column holds, as far as a frame's plan tells: nobody asks an enclave for it."""

from typing import Any

from securemllib.errors import SealedError
from securemllib.ml.mirror import converted
from securemllib.spark.column_types import is_number, schema_of
from securemllib.spark.dataframe import SecureDataFrame
from securemllib.wire.plan import ApplyModel, Assemble, Filter, Parts, Project, RandomSplit, Reference, Step, Transform
from securemllib.wire.result import SealedModel

__all__ = ["features_of", "width_of"]

# Known widths by column; a column that is not here has one that the plan does not tell.
Widths = dict[str, int]

# Models and transformers whose output is as wide as their input, and those whose outputs are numbers.
_KEEPS_WIDTH = frozenset(
    {
        *("StandardScaler", "IDF", "MaxAbsScaler", "MinMaxScaler", "RobustScaler", "VectorIndexer"),
        *("Binarizer", "DCT", "ElementwiseProduct", "Normalizer", "VectorSizeHint"),
    }
)
_NUMBERS = frozenset({"Bucketizer", "Imputer", "QuantileDiscretizer", "StringIndexer", "TargetEncoder"})


def width_of(frame: SecureDataFrame, column: str) -> int | None:
    """Return how many numbers a column holds, 1 for a number, None where the plan does not tell."""
    stored = schema_of(frame.source.manifest.columns or ())
    widths: Widths = {field.name: 1 for field in stored if is_number(field.dataType)}
    for step in frame.steps:
        widths = _after(step, widths, frame.models)
    return widths.get(column)


def features_of(model: Any, frame: SecureDataFrame) -> int:
    """Return a regression's number of features, as its training's summary or the plan tells; `SealedError` where neither does."""
    column = str(converted(model, "featuresCol"))
    width = width_of(frame, column) if model._features is None else model._features
    if width is None:
        raise SealedError(
            f"Neither the training nor the plan tells how many features the column {column} has.",
            next_step="Assemble it from columns whose types the owner publishes, or release the model and count its coefficients.",
        )
    return width


def _after(step: Step, widths: Widths, models: tuple[SealedModel, ...]) -> Widths:
    if isinstance(step, (Filter, Parts, RandomSplit)):
        return widths
    if isinstance(step, Assemble):
        known = [widths.get(name) for name in step.input_columns]
        return _with(widths, step.output_column, None if None in known else sum(width for width in known if width is not None))
    if isinstance(step, ApplyModel):
        operation = next((model.operation for model in models if model.reference == step.model), "")
        return _outputs(step, operation, widths)
    if isinstance(step, Transform):
        return _outputs(step, step.operation, widths)
    if isinstance(step, Project):
        found = {
            named.name: widths.get(named.expression.column) if isinstance(named.expression, Reference) else 1 for named in step.columns
        }
        return {name: width for name, width in found.items() if width is not None}
    expression = step.column.expression
    return _with(widths, step.column.name, widths.get(expression.column) if isinstance(expression, Reference) else 1)


def _outputs(step: ApplyModel | Transform, operation: str, widths: Widths) -> Widths:
    """Return the widths after a model or transformer."""
    fixed = step.params.get("numFeatures") if operation in {"FeatureHasher", "HashingTF"} else None
    known = dict(widths)
    for stem, column in step.outputs.items():
        # The outputs of several inputs are numbered as these.
        source = step.input_columns[int(stem.removeprefix("output") or 0)] if operation in _KEEPS_WIDTH else ""
        single = stem == "prediction" or operation in _NUMBERS
        widths = _with(widths, column, 1 if single else fixed if isinstance(fixed, int) else known.get(source))
    return widths


def _with(widths: Widths, column: str, width: int | None) -> Widths:
    others = {name: known for name, known in widths.items() if name != column}
    return others if width is None else {**others, column: width}
