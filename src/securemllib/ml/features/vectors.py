"""Vectors to vectors, with nothing trained."""

from typing import Any, ClassVar

from pyspark.ml import feature as original
from pyspark.ml.param import Params
from pyspark.ml.param.shared import HasHandleInvalid, HasInputCol, HasInputCols, HasOutputCol
from pyspark.sql.types import DataType

from securemllib.errors import UsageError
from securemllib.ml.checks import job_params, require_sealed
from securemllib.ml.features.base import NUMBER_OR_VECTOR, SecureTransformer, require_kind
from securemllib.ml.mirror import converted, mirrors
from securemllib.wire.plan import Transform

__all__ = ["DCT", "ElementwiseProduct", "Interaction", "Normalizer", "PolynomialExpansion", "VectorSizeHint", "VectorSlicer"]


@mirrors(original.Normalizer)
class Normalizer(SecureTransformer, HasInputCol, HasOutputCol):
    """Vectors over their p-norm, as ``pyspark.ml.feature.Normalizer``."""

    DEFAULTS: ClassVar[dict[str, Any]] = {"p": 2.0}


@mirrors(original.ElementwiseProduct)
class ElementwiseProduct(SecureTransformer, HasInputCol, HasOutputCol):
    """Vectors times one vector, as ``pyspark.ml.feature.ElementwiseProduct``."""


@mirrors(original.DCT)
class DCT(SecureTransformer, HasInputCol, HasOutputCol):
    """The discrete cosine transform of vectors, as ``pyspark.ml.feature.DCT``."""

    DEFAULTS: ClassVar[dict[str, Any]] = {"inverse": False}


@mirrors(original.PolynomialExpansion)
class PolynomialExpansion(SecureTransformer, HasInputCol, HasOutputCol):
    """All monomials of vectors, as ``pyspark.ml.feature.PolynomialExpansion``."""

    DEFAULTS: ClassVar[dict[str, Any]] = {"degree": 2}


@mirrors(original.VectorSlicer)
class VectorSlicer(SecureTransformer, HasInputCol, HasOutputCol):
    """Chosen slots of vectors, as ``pyspark.ml.feature.VectorSlicer``; slots have no names here, so `names` is refused."""

    DEFAULTS: ClassVar[dict[str, Any]] = {"indices": [], "names": []}


@mirrors(original.Interaction)
class Interaction(SecureTransformer, HasInputCols, HasOutputCol):
    """Products of columns, as ``pyspark.ml.feature.Interaction``."""

    ACCEPTS = NUMBER_OR_VECTOR


@mirrors(original.VectorSizeHint)
class VectorSizeHint(SecureTransformer, HasInputCol, HasHandleInvalid):
    """A column of vectors whose size is checked in its place, as ``pyspark.ml.feature.VectorSizeHint``."""

    handleInvalid = original.VectorSizeHint.handleInvalid
    DEFAULTS: ClassVar[dict[str, Any]] = {"handleInvalid": "error"}

    def _transform(self, dataset: Any) -> Any:
        frame = require_sealed(dataset, "VectorSizeHint.transform")
        column = self._column(self)
        params = job_params("VectorSizeHint", self)
        require_kind(frame, [column], self.ACCEPTS)
        step = Transform(operation="VectorSizeHint", params=params, input_columns=(column,), outputs={"output": column})
        return frame.apply(step, self._types(frame, [column], [column]))

    @staticmethod
    def _column(params: Params) -> str:
        if not params.isDefined("inputCol") or not params.isDefined("size"):
            raise UsageError("A VectorSizeHint needs inputCol and size.", code="usage.param")
        return str(converted(params, "inputCol"))

    def _output_type(self, kind: DataType | None) -> DataType:
        return super()._output_type(None) if kind is None else kind
