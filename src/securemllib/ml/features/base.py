"""What feature transformers and their models share: one or several input columns, and an output column for each or for all."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pyspark.ml.base import Transformer
from pyspark.ml.param import Params
from pyspark.sql.types import ArrayType, DataType, NumericType, StringType

from securemllib.algorithms.registry import build_transformer
from securemllib.errors import FormatError, UsageError
from securemllib.ml.base import SecureEstimator, SecureModel
from securemllib.ml.checks import job_params, require_new, require_sealed
from securemllib.ml.mirror import converted, frozen
from securemllib.ml.persistence import Persistent
from securemllib.spark.column_types import VECTOR, is_number, is_vector
from securemllib.spark.dataframe import SecureDataFrame
from securemllib.wire.plan import ApplyModel, Transform

__all__ = [
    "ANYTHING",
    "CATEGORY",
    "NUMBER",
    "NUMBER_OR_VECTOR",
    "TEXT",
    "TOKENS",
    "VECTORS",
    "Kind",
    "SecureFeatureEstimator",
    "SecureFeatureModel",
    "SecureTransformer",
    "columns_of",
    "require_kind",
]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of input column: what it is called, and which types are of it."""

    text: str
    has: Callable[[DataType], bool]


NUMBER = Kind("a number", lambda kind: isinstance(kind, NumericType))
CATEGORY = Kind("a string or a number", lambda kind: isinstance(kind, NumericType | StringType))
TEXT = Kind("a string", lambda kind: isinstance(kind, StringType))
TOKENS = Kind("an array of strings", lambda kind: isinstance(kind, ArrayType) and isinstance(kind.elementType, StringType))
VECTORS = Kind("a vector", is_vector)
NUMBER_OR_VECTOR = Kind("a number or a vector", lambda kind: is_number(kind) or is_vector(kind))
ANYTHING = Kind("a string, a number or a boolean", lambda kind: isinstance(kind, StringType) or is_number(kind))


def columns_of(params: Params, single: tuple[str, ...] = (), multiple: tuple[str, ...] = ()) -> tuple[list[str], list[str]]:
    """Return input and output columns.

    Args:
        params: A transformer, estimator or model.
        single: Params that belong to the form with one column.
        multiple: Their twins of the form with several.

    Raises:
        UsageError: Not exactly one of the two forms is used, or the numbers of columns differ.
    """
    forms = [name for name in ("inputCol", "inputCols") if params.hasParam(name) and params.isSet(name)]
    if len(forms) != 1:
        raise UsageError(f"{type(params).__name__} requires exactly one of inputCol, inputCols Params to be set.", code="usage.param")
    several = forms == ["inputCols"]
    if several and not params.hasParam("outputCols"):
        return list(converted(params, "inputCols")), [converted(params, "outputCol")]
    others, needed = (("outputCol", *single), ("outputCols", *multiple)) if several else (("outputCols", *multiple), ("outputCol", *single))
    if wrong := [name for name in others if params.hasParam(name) and params.isSet(name)]:
        raise UsageError(f"{wrong[0]} does not go with {forms[0]}.", code="usage.param")
    if missing := [name for name in needed if not params.isDefined(name)]:
        raise UsageError(f"{forms[0]} needs {missing[0]}.", code="usage.param")
    if not several:
        return [converted(params, "inputCol")], [converted(params, "outputCol")]
    inputs, outputs = list(converted(params, "inputCols")), list(converted(params, "outputCols"))
    if not inputs or len(inputs) != len(outputs) or len(set(outputs)) != len(outputs):
        raise UsageError(
            f"{type(params).__name__} has {len(inputs)} inputCols and {len(set(outputs))} distinct outputCols.", code="usage.param"
        )
    return inputs, outputs


def require_kind(frame: SecureDataFrame, names: list[str], kind: Kind) -> None:
    """Raise unless each column exists and is of a kind; where the owner hides columns the enclave checks."""
    if not frame.has_schema:
        return
    for name in names:
        if name not in frame.columns:
            raise UsageError(f"{name} does not exist. Available: {', '.join(frame.columns)}", code="usage.column")
        found = frame.schema[name].dataType
        if not kind.has(found):
            raise UsageError(f"Column {name} must be {kind.text}, but is {found.simpleString()}.", code="usage.column")


class _Columns:
    """What a class with input and output columns says of them."""

    ACCEPTS: ClassVar[Kind] = VECTORS
    SINGLE: ClassVar[tuple[str, ...]] = ()
    MULTIPLE: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def _outputs(cls, params: Params) -> dict[str, str]:
        outputs = columns_of(params, cls.SINGLE, cls.MULTIPLE)[1]
        return {f"output{index}": name for index, name in enumerate(outputs)} if params.hasParam("outputCols") else {"output": outputs[0]}

    def _types(self, frame: SecureDataFrame, inputs: list[str], outputs: list[str]) -> dict[str, DataType]:
        """Return the types of the output columns."""
        kinds = [frame.schema[name].dataType if frame.has_schema else None for name in inputs]
        return {output: self._output_type(kinds[min(index, len(kinds) - 1)]) for index, output in enumerate(outputs)}

    def _output_type(self, kind: DataType | None) -> DataType:
        """Return the type of an output, from that of its input where it is known."""
        del kind
        return VECTOR


class SecureTransformer(_Columns, Transformer, Persistent):
    """A transformer that nothing is trained for: one step of a plan."""

    ORIGINAL: ClassVar[type[Any]]
    DEFAULTS: ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(**self.DEFAULTS)

    def _transform(self, dataset: Any) -> Any:
        operation = type(self).__name__
        frame = require_sealed(dataset, f"{operation}.transform")
        inputs = columns_of(self, self.SINGLE, self.MULTIPLE)[0]
        outputs = self._outputs(self)
        params = job_params(operation, self)
        require_kind(frame, inputs, self.ACCEPTS)
        require_new(frame, *outputs.values())
        step = Transform(operation=operation, params=params, input_columns=tuple(inputs), outputs=outputs)
        return frame.apply(step, self._types(frame, inputs, list(outputs.values())))


class SecureFeatureModel(_Columns, SecureModel):
    """A sealed model that turns columns into columns.

    Attributes:
        given: What a model without a training is made of, by the name of its algorithm's Param: part of a plan, and no secret.
    """

    given: dict[str, Any] | None = None

    @classmethod
    def outputs_of(cls, params: Params) -> dict[str, str]:
        """Return the output columns by their stem."""
        return cls._outputs(params)

    def _transform(self, dataset: Any) -> Any:
        frame = require_sealed(dataset, f"{type(self).__name__}.transform")
        inputs = columns_of(self, self.SINGLE, self.MULTIPLE)[0]
        return self._applied(frame, inputs, self._outputs(self), {})

    def _applied(self, frame: SecureDataFrame, inputs: list[str], outputs: dict[str, str], params: dict[str, Any]) -> SecureDataFrame:
        require_kind(frame, inputs, self.ACCEPTS)
        if not self.REPLACES:
            require_new(frame, *outputs.values())
        changed = {name: converted(self, name) for name in self.CHANGEABLE} | params
        types = self._types(frame, inputs, list(outputs.values()))
        if self.given is not None:
            operation, all_params = type(self).__name__, self.given | changed
            return frame.apply(Transform(operation=operation, params=all_params, input_columns=tuple(inputs), outputs=outputs), types)
        step = ApplyModel(model=self.sealed.reference, input_columns=tuple(inputs), outputs=outputs, params=changed)
        return frame.apply(step, types, self.sealed, self._pieces)

    @property
    def saved_extra(self) -> Any:
        """What a model without a training is made of, for persistence."""
        return self.given

    @classmethod
    def from_saved(cls, extra: Any) -> Self:
        """Return the model of what was saved; `FormatError` where no such model is made of that."""
        made = cls()
        try:
            made._give({name: frozen(value) for name, value in extra.items()})
            build_transformer(cls.__name__, extra | {name: converted(made, name) for name in cls.CHANGEABLE})
        except (AttributeError, TypeError, UsageError) as error:
            raise FormatError(f"A saved {cls.KIND} is not made of that.") from error
        return made

    def _give(self, given: dict[str, Any]) -> Self:
        self.given = given
        return self


class SecureFeatureEstimator(SecureEstimator):
    """An estimator whose enclaves read its input columns as they are."""

    MODEL: ClassVar[type[SecureFeatureModel]]

    def _inputs(self, frame: SecureDataFrame) -> dict[str, str]:
        inputs = columns_of(self, self.MODEL.SINGLE, self.MODEL.MULTIPLE)[0]
        require_kind(frame, inputs, self.MODEL.ACCEPTS)
        return {f"input{index}": name for index, name in enumerate(inputs)}
