"""Locality-sensitive hashing of vectors."""

from typing import Any, NoReturn

import numpy as np
from pyspark.ml import feature as original
from pyspark.ml.feature import _BucketedRandomProjectionLSHParams, _LSHParams
from pyspark.ml.linalg import Vector
from pyspark.ml.param.shared import HasSeed
from pyspark.sql.types import ArrayType, DataType, DoubleType

from securemllib.errors import UsageError
from securemllib.ml.checks import require_domain, require_sealed
from securemllib.ml.features.base import SecureFeatureEstimator, SecureFeatureModel, columns_of
from securemllib.ml.features.plain import PlainBucketedRandomProjectionLSHModel, PlainMinHashLSHModel
from securemllib.ml.mirror import mirrors
from securemllib.spark.column_types import VECTOR
from securemllib.spark.dataframe import SecureDataFrame
from securemllib.spark.functions import isnull, rand
from securemllib.spark.jobs import Request
from securemllib.wire.job import OutputKind
from securemllib.wire.plan import ApplyModel, ParamValue
from securemllib.wire.result import SealedModel

__all__ = ["BucketedRandomProjectionLSH", "BucketedRandomProjectionLSHModel", "MinHashLSH", "MinHashLSHModel"]


_SEARCH = "NearestNeighbors"


class SecureHashingModel(SecureFeatureModel):
    """A sealed model that gives each vector a hash a table."""

    def _output_type(self, kind: DataType | None) -> DataType:
        del kind
        return ArrayType(VECTOR)

    def approxNearestNeighbors(self, dataset: Any, key: Vector, numNearestNeighbors: int, distCol: str = "distCol") -> SecureDataFrame:
        """Return the sealed rows that are nearest to a key among those that share a bucket with it: one job, and a step of a plan.

        Args:
            dataset: Sealed rows; their hashes are added where ``outputCol`` is not there.
            key: A vector. It becomes part of the signed job, which the host sees.
            numNearestNeighbors: How many rows at most. Sealed rows have no order, where MLlib's are sorted by their distance.
            distCol: The column of distances to the key.

        Raises:
            PolicyError: No rule has the output ``sealed_model`` for the operation ``NearestNeighbors``.
        """
        frame = require_sealed(dataset, f"{type(self).__name__}.approxNearestNeighbors")
        if not isinstance(key, Vector):
            raise UsageError(f"The key of a search is a vector, not a {type(key).__name__}.", code="usage.param")
        params: dict[str, ParamValue] = {"numNearestNeighbors": numNearestNeighbors}
        require_domain(_SEARCH, params)
        (column,), (output,) = columns_of(self)
        if not frame.has_schema or output not in frame.columns:
            frame = self._transform(frame)
        distance, draw = f"{self.uid}_distance", f"{self.uid}_draw"
        rows = self._applied(frame, [column], {"distance": distance}, {"key": _told(key)}).withColumn(draw, rand(0))
        request = Request(
            operation=_SEARCH,
            params=params,
            inputs={"input0": distance, "input1": draw},
            plan=rows.plan,
            outputs=((OutputKind.SEALED_MODEL, None, ()),),
        )
        nearness = SealedModel.from_bytes(rows.session.run(rows, request).model)
        step = ApplyModel(model=nearness.reference, input_columns=(distance, draw), outputs={"output": distCol}, params={})
        near = rows.apply(step, {distCol: DoubleType()}, nearness).filter(~isnull(distCol))
        return near.drop(distance, draw) if near.has_schema else near

    def approxSimilarityJoin(self, *arguments: Any, **named: Any) -> NoReturn:
        """Refuse: rows of enclaves are not joined."""
        del arguments, named
        raise UsageError(
            "A sealed model has no approxSimilarityJoin.",
            next_step="Release the rows' hashes, if the owners' policies allow it, and compare these.",
            code="usage.unsupported",
        )


def _told(key: Vector) -> tuple[tuple[float, ...], ...]:
    """Return a vector as a plan carries it: how many slots it has, those that are not 0, and their values."""
    values = key.toArray()
    slots = np.flatnonzero(values)
    return (float(len(values)),), tuple(slots.astype(float).tolist()), tuple(values[slots].tolist())


@mirrors(original.BucketedRandomProjectionLSHModel)
class BucketedRandomProjectionLSHModel(SecureHashingModel, _LSHParams, _BucketedRandomProjectionLSHParams):
    """A sealed model of `BucketedRandomProjectionLSH`."""

    CHANGEABLE = ("bucketLength",)

    def _plain(self, model: Any) -> PlainBucketedRandomProjectionLSHModel:
        return PlainBucketedRandomProjectionLSHModel(model)


@mirrors(original.BucketedRandomProjectionLSH)
class BucketedRandomProjectionLSH(SecureFeatureEstimator, _LSHParams, _BucketedRandomProjectionLSHParams, HasSeed):
    """Hashes for Euclidean distance, as ``pyspark.ml.feature.BucketedRandomProjectionLSH``."""

    MODEL = BucketedRandomProjectionLSHModel


@mirrors(original.MinHashLSHModel)
class MinHashLSHModel(SecureHashingModel, _LSHParams):
    """A sealed model of `MinHashLSH`."""

    def _plain(self, model: Any) -> PlainMinHashLSHModel:
        return PlainMinHashLSHModel(model)


@mirrors(original.MinHashLSH)
class MinHashLSH(SecureFeatureEstimator, _LSHParams, HasSeed):
    """Hashes for Jaccard distance, as ``pyspark.ml.feature.MinHashLSH``."""

    MODEL = MinHashLSHModel
