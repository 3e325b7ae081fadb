"""Released feature models in the clear, with the attributes that pyspark.ml's models have."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.ml.linalg import DenseVector, Vector, Vectors, _convert_to_vector

from securemllib.errors import UsageError
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
    "PlainWord2VecModel",
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


class PlainWord2VecModel(Plain):
    """The vectors of words."""

    def getVectors(self) -> pd.DataFrame:
        """Return ``word`` and ``vector``, the most frequent word first; a pandas frame, for Spark is the host."""
        return pd.DataFrame({"word": self.model.vocabulary, "vector": [Vectors.dense(row) for row in self.model.vectors]})

    def findSynonyms(self, word: str | Vector, num: int) -> pd.DataFrame:
        """Return ``word`` and ``similarity`` as a pandas frame; arguments and errors as those of `findSynonymsArray`."""
        return pd.DataFrame(self.findSynonymsArray(word, num), columns=["word", "similarity"])

    def findSynonymsArray(self, word: str | Vector, num: int) -> list[tuple[str, float]]:
        """Return the words whose vectors have the largest cosines with that of a word, which is left out, or with a vector.

        Raises:
            UsageError: The word has no vector, the vector is of another size, or ``num`` is not positive.
        """
        if not num > 0:
            raise UsageError(f"num must be at least 1, not {num}.")
        words, cosines = self.model.vocabulary, self._cosines(self._vector(word))
        nearest = [(words[index], float(cosines[index])) for index in np.argsort(-cosines, kind="stable")[: num + 1]]
        return [(name, cosine) for name, cosine in nearest if not (isinstance(word, str) and name == word)][:num]

    def _vector(self, word: str | Vector) -> NDArray[np.float32]:
        if not isinstance(word, str):
            return np.asarray(_convert_to_vector(word).toArray(), dtype=np.float32)
        if word not in self.model.vocabulary:
            raise UsageError(f"{word} not in vocabulary.")
        vector: NDArray[np.float32] = self.model.vectors[self.model.vocabulary.index(word)]
        return vector

    def _cosines(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the cosines in single precision as in MLlib; those of a vector of zeros are 0."""
        vectors, norm = self.model.vectors, np.linalg.norm(vector)
        if len(vector) != vectors.shape[1]:
            raise UsageError(f"The vector has {len(vector)} slots, those of words have {vectors.shape[1]}.")
        norms = np.linalg.norm(vectors, axis=1)
        if norm == 0:
            return np.zeros_like(norms)
        inverse = np.divide(np.float32(1), norms, out=np.zeros_like(norms), where=norms > 0)
        cosines: NDArray[np.float32] = vectors @ (vector / norm) * inverse
        return cosines
