"""Inverse document frequency: slots weighed by how few documents have them.

Objective: ``output[j] = x[j] log((n + 1) / (d[j] + 1))`` with ``n`` documents, of which ``d[j]`` have a positive ``x[j]``; 0 where
``d[j] < min_doc_freq``.

Equivalence: ``pyspark.ml.feature.IDF``. Sparse vectors stay sparse.

Cost: one pass over the stored values.

Reveals: with mode="enclave" the number of rows and columns. With mode="partitioned" the same: the counts are added inside enclaves.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.feature.values import inputs_of, of_width, scaled, vector_of
from securemllib.algorithms.params import require_integer
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.algorithms.vectors import Vector
from securemllib.errors import DataError, UsageError

__all__ = ["IDF", "IDFModel", "IDFState", "IDFStatistics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IDFStatistics:
    """Documents, and how many of them have each slot: ``(d,)``, empty where no document tells how many slots there are."""

    rows: int
    documents: NDArray[np.int64]

    def __add__(self, other: Self) -> Self:
        if not self.rows or not other.rows:
            return self if self.rows else other
        if len(self.documents) != len(other.documents):
            raise DataError("The vectors of two parts differ in length.", code="data.length")
        return type(self)(rows=self.rows + other.rows, documents=self.documents + other.documents)


@dataclass(frozen=True, slots=True, kw_only=True)
class IDFState:
    """The counts of all documents, None before the only round."""

    total: IDFStatistics | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IDFModel:
    """The weight of each slot and the documents that have it, both ``(d,)``, and the number of documents."""

    SUMMARY: ClassVar[tuple[str, ...]] = ()

    idf: NDArray[np.float64]
    doc_freq: NDArray[np.int64]
    num_docs: int

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output``, the weighed vectors."""
        (column,) = columns
        vector = of_width(vector_of(column, "input"), len(self.idf), "The model")
        return Transformed(columns={"output": Column(scaled(vector, self.idf))})


@dataclass(frozen=True, slots=True, kw_only=True)
class IDF:
    """Params of ``pyspark.ml.feature.IDF``."""

    min_doc_freq: int = 0

    def __post_init__(self) -> None:
        require_integer(self, "min_doc_freq", 0)

    def initial(self, summary: Summary, seed: Seed) -> IDFState:
        """Return the empty state."""
        del summary, seed
        return IDFState()

    def is_done(self, state: IDFState) -> bool:
        """Return whether the pass has been made."""
        return state.total is not None

    def statistics(self, state: IDFState, block: Block) -> IDFStatistics:
        """Return the counts of the block."""
        del state
        vector = vector_of(inputs_of(block)[0], "input")
        if isinstance(vector, Vector):
            documents = np.array([np.count_nonzero(values > 0) for values in vector.columns], dtype=np.int64)
        else:
            rows = vector.values
            documents = np.bincount(rows.indices[rows.data > 0], minlength=vector.width).astype(np.int64)
        return IDFStatistics(rows=block.rows, documents=documents)

    def update(self, state: IDFState, total: IDFStatistics) -> IDFState:
        """Return the finished state."""
        del state
        return IDFState(total=total)

    def to_model(self, state: IDFState) -> IDFModel:
        """Return the model; `DataError` where there is no document."""
        total = state.total
        if total is None:
            raise UsageError("The training has not finished: its only round is missing.")
        if not total.rows:
            raise DataError("There is no document to learn from.", code="data.no_rows")
        used = total.documents >= self.min_doc_freq
        idf = np.where(used, np.log((total.rows + 1.0) / (total.documents + 1.0)), 0.0)
        return IDFModel(idf=idf, doc_freq=np.where(used, total.documents, 0), num_docs=total.rows)
