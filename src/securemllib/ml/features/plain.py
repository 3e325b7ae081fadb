"""Released feature models in the clear, with the attributes that pyspark.ml's models have."""

from typing import Any

import numpy as np
import pandas as pd
from pyspark.ml.linalg import DenseVector, Vectors

from securemllib.ml.plain import Plain

__all__ = [
    "PlainBucketedRandomProjectionLSHModel",
    "PlainCountVectorizerModel",
    "PlainIDFModel",
    "PlainImputerModel",
    "PlainMaxAbsScalerModel",
    "PlainMinHashLSHModel",
    "PlainMinMaxScalerModel",
    "PlainOneHotEncoderModel",
    "PlainRobustScalerModel",
    "PlainSelectorModel",
    "PlainStringIndexerModel",
    "PlainTargetEncoderModel",
    "PlainVectorIndexerModel",
]


class PlainStringIndexerModel(Plain):
    """The labels of a string indexing."""

    @property
    def labels(self) -> list[str]:
        """Of the first column, in the order of their indices."""
        return list(self.model.labels[0])

    @property
    def labelsArray(self) -> list[tuple[str, ...]]:
        """Of each column."""
        return list(self.model.labels)


class PlainOneHotEncoderModel(Plain):
    """The sizes of a one-hot encoding."""

    @property
    def categorySizes(self) -> list[int]:
        """The number of categories of each column, before `dropLast` and `handleInvalid` change it."""
        return [int(size) for size in self.model.sizes]


class PlainMinMaxScalerModel(Plain):
    """The ranges of a min-max scaling."""

    @property
    def originalMin(self) -> DenseVector:
        """The smallest value of each slot."""
        return Vectors.dense(self.model.original_min)

    @property
    def originalMax(self) -> DenseVector:
        """The largest value of each slot."""
        return Vectors.dense(self.model.original_max)


class PlainMaxAbsScalerModel(Plain):
    """The sizes of a scaling by the largest absolute value."""

    @property
    def maxAbs(self) -> DenseVector:
        """The largest absolute value of each slot."""
        return Vectors.dense(self.model.max_abs)


class PlainRobustScalerModel(Plain):
    """The quantiles of a robust scaling."""

    @property
    def median(self) -> DenseVector:
        """Of each slot."""
        return Vectors.dense(self.model.median)

    @property
    def range(self) -> DenseVector:
        """Between the two quantiles of each slot."""
        return Vectors.dense(self.model.range)


class PlainImputerModel(Plain):
    """The surrogates of an imputation.

    Args:
        model: The algorithm's own model.
        columns: The input columns.
    """

    def __init__(self, model: Any, columns: list[str]) -> None:
        super().__init__(model)
        self._columns = columns

    @property
    def surrogateDF(self) -> pd.DataFrame:
        """One row with what fills the gaps of each column; a pandas frame, for Spark is the host."""
        return pd.DataFrame([dict(zip(self._columns, self.model.surrogates.tolist(), strict=True))])


class PlainVectorIndexerModel(Plain):
    """The categories of a vector indexing."""

    @property
    def numFeatures(self) -> int:
        """Slots."""
        return len(self.model.arity)

    @property
    def categoryMaps(self) -> dict[int, dict[float, int]]:
        """The index of each value of each nominal slot."""
        cuts = np.split(self.model.values, np.cumsum(self.model.arity)[:-1])
        return {int(slot): {float(value): index for index, value in enumerate(cuts[slot])} for slot in np.flatnonzero(self.model.arity)}


class PlainCountVectorizerModel(Plain):
    """The vocabulary of count vectors."""

    @property
    def vocabulary(self) -> list[str]:
        """The words in the order of their slots."""
        return list(self.model.vocabulary)


class PlainIDFModel(Plain):
    """The weights of an inverse document frequency."""

    @property
    def idf(self) -> DenseVector:
        """The weight of each slot."""
        return Vectors.dense(self.model.idf)

    @property
    def docFreq(self) -> list[int]:
        """How many documents have each slot."""
        return [int(count) for count in self.model.doc_freq]

    @property
    def numDocs(self) -> int:
        """Documents."""
        return int(self.model.num_docs)


class PlainSelectorModel(Plain):
    """The slots that a selector keeps."""

    @property
    def selectedFeatures(self) -> list[int]:
        """Their indices."""
        return [int(index) for index in self.model.selected]


class PlainTargetEncoderModel(Plain):
    """The labels of a target encoding."""

    @property
    def stats(self) -> list[dict[float, tuple[int, float]]]:
        """The rows and the mean label of each category of each column; the category of nulls is -1."""
        cuts = np.cumsum(self.model.sizes)[:-1]
        columns = zip(*(np.split(each, cuts) for each in (self.model.categories, self.model.rows, self.model.means)), strict=True)
        return [{key: (rows, mean) for key, rows, mean in zip(*(each.tolist() for each in column), strict=True)} for column in columns]


class PlainBucketedRandomProjectionLSHModel(Plain):
    """The random directions of a hashing."""

    @property
    def randUnitVectors(self) -> list[DenseVector]:
        """One a table."""
        return [Vectors.dense(direction) for direction in self.model.directions]


class PlainMinHashLSHModel(Plain):
    """The random numbers of a hashing."""

    @property
    def randCoefficients(self) -> list[tuple[int, int]]:
        """The factor and the summand of each table."""
        return [(int(factor), int(summand)) for factor, summand in self.model.coefficients]
