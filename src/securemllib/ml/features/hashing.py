"""Locality-sensitive hashing of vectors."""

from typing import Any, NoReturn

from pyspark.ml import feature as original
from pyspark.ml.feature import _BucketedRandomProjectionLSHParams, _LSHParams
from pyspark.ml.param.shared import HasSeed
from pyspark.sql.types import ArrayType, DataType

from securemllib.errors import UsageError
from securemllib.ml.features.base import SecureFeatureEstimator, SecureFeatureModel
from securemllib.ml.features.plain import PlainBucketedRandomProjectionLSHModel, PlainMinHashLSHModel
from securemllib.ml.mirror import mirrors
from securemllib.spark.column_types import VECTOR

__all__ = ["BucketedRandomProjectionLSH", "BucketedRandomProjectionLSHModel", "MinHashLSH", "MinHashLSHModel"]


class SecureHashingModel(SecureFeatureModel):
    """A sealed model that gives each vector a hash a table."""

    def _output_type(self, kind: DataType | None) -> DataType:
        del kind
        return ArrayType(VECTOR)

    def approxNearestNeighbors(self, *arguments: Any, **named: Any) -> NoReturn:
        """Refuse: which rows are close to a key would tell what is in them."""
        del arguments, named
        raise _unsupported("approxNearestNeighbors")

    def approxSimilarityJoin(self, *arguments: Any, **named: Any) -> NoReturn:
        """Refuse: rows of enclaves are not joined."""
        del arguments, named
        raise _unsupported("approxSimilarityJoin")


def _unsupported(name: str) -> UsageError:
    return UsageError(
        f"A sealed model has no {name}.",
        next_step="Release the rows' hashes, if the owners' policies allow it, and compare these.",
        code="usage.unsupported",
    )


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
