"""Count vectors: lists of words to how often each word of a learned vocabulary occurs.

Objective: the vocabulary is the ``vocab_size`` most frequent words among those in at least ``min_d_f`` and at most ``max_d_f`` documents (a
share of all documents below 1); a document's vector counts those of its words that occur at least ``min_t_f`` times.

Equivalence: ``pyspark.ml.feature.CountVectorizer``; words of equal frequency come in the order of the alphabet, where MLlib's order is
that of its partitions. A null word is no word. Vectors are sparse.

Cost: one pass; statistics are the distinct words with two counts, at most `MAX_VALUES` of them.

Reveals: with mode="enclave" the number of rows, and by the size of sealed messages about how much text the distinct words hold. With
mode="partitioned" the same: words and their counts are merged inside enclaves, and leave only with a released model.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.feature.counts import TextCounts
from securemllib.algorithms.feature.values import index_in, inputs_of, tokens_of
from securemllib.algorithms.params import require_bool, require_integer, require_number
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.algorithms.vectors import SparseVector
from securemllib.errors import DataError, UsageError

__all__ = ["CountVectorizer", "CountVectorizerModel", "CountVectorizerState", "CountVectorizerStatistics"]

_LARGEST = float(2**63 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountVectorizerStatistics:
    """Documents, and each word with its occurrences and the documents that have it."""

    rows: int
    words: TextCounts

    def __add__(self, other: Self) -> Self:
        return type(self)(rows=self.rows + other.rows, words=self.words + other.words)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountVectorizerState:
    """The words of all documents, None before the only round."""

    total: CountVectorizerStatistics | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CountVectorizerModel:
    """The vocabulary, most frequent word first; and how often a word must occur to count, and whether only that it does."""

    SUMMARY: ClassVar[tuple[str, ...]] = ()
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("min_t_f", "binary")

    vocabulary: tuple[str, ...]
    min_t_f: float
    binary: bool

    def __post_init__(self) -> None:
        require_number(self, "min_t_f", low=0.0)
        require_bool(self, "binary")

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output``: a sparse vector of counts of each document."""
        (column,) = columns
        lists = tokens_of(column, "input")
        lengths = np.asarray(lists.value_lengths(), dtype=np.int64)
        slots, unknown = index_in(lists.flatten(), pa.array(self.vocabulary, pa.large_string()))
        rows = _counted(lengths, slots, ~unknown, len(self.vocabulary))
        least = np.where(self.min_t_f >= 1, self.min_t_f, self.min_t_f * lengths)
        rows.data[rows.data < np.repeat(least, np.diff(rows.indptr))] = 0.0
        rows.eliminate_zeros()
        if self.binary:
            rows.data[:] = 1.0
        return Transformed(columns={"output": Column(SparseVector(rows))})


def _counted(lengths: NDArray[np.int64], slots: NDArray[np.int64], used: NDArray[np.bool_], width: int) -> sparse.csr_array:
    """Return ``(n, width)``: how often each slot occurs in each list of the given length."""
    ends = np.concatenate([[0], np.cumsum(used)])[np.concatenate([[0], np.cumsum(lengths)])]
    rows = sparse.csr_array((np.ones(int(ends[-1])), slots[used], ends), shape=(len(lengths), width))
    rows.sum_duplicates()
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class CountVectorizer:
    """Params of ``pyspark.ml.feature.CountVectorizer``."""

    vocab_size: int = 1 << 18
    min_d_f: float = 1.0
    max_d_f: float = _LARGEST
    min_t_f: float = 1.0
    binary: bool = False

    def __post_init__(self) -> None:
        require_integer(self, "vocab_size", 1)
        for field in ("min_d_f", "max_d_f", "min_t_f"):
            require_number(self, field, low=0.0)
        require_bool(self, "binary")

    def initial(self, summary: Summary, seed: Seed) -> CountVectorizerState:
        """Return the empty state."""
        del summary, seed
        return CountVectorizerState()

    def is_done(self, state: CountVectorizerState) -> bool:
        """Return whether the pass has been made."""
        return state.total is not None

    def statistics(self, state: CountVectorizerState, block: Block) -> CountVectorizerStatistics:
        """Return the counted words of the block."""
        del state
        lists = tokens_of(inputs_of(block)[0], "input")
        words = lists.flatten()
        encoded = words.dictionary_encode()
        slots = np.asarray(encoded.indices.fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int64)
        there = np.asarray(words.is_valid())
        rows = _counted(np.asarray(lists.value_lengths(), dtype=np.int64), slots, there, len(encoded.dictionary))
        documents = np.bincount(rows.indices, minlength=len(encoded.dictionary))
        counts = np.column_stack([np.bincount(slots[there], minlength=len(encoded.dictionary)), documents])
        return CountVectorizerStatistics(rows=len(lists), words=TextCounts.among(encoded.dictionary, counts))

    def update(self, state: CountVectorizerState, total: CountVectorizerStatistics) -> CountVectorizerState:
        """Return the finished state."""
        del state
        return CountVectorizerState(total=total)

    def to_model(self, state: CountVectorizerState) -> CountVectorizerModel:
        """Return the model; `DataError` where no word is left."""
        total = state.total
        if total is None:
            raise UsageError("The training has not finished: its only round is missing.")
        least, most = (share if share >= 1 else share * total.rows for share in (self.min_d_f, self.max_d_f))
        if most < least:
            raise DataError("maxDF is below minDF.", code="data.vocabulary", next_step="Raise maxDF or lower minDF.")
        occurrences, documents = total.words.counts.T
        kept = np.flatnonzero((documents >= least) & (documents <= most))
        chosen = kept[np.argsort(-occurrences[kept], kind="stable")][: self.vocab_size]
        if not len(chosen):
            raise DataError("The vocabulary has no word.", code="data.vocabulary", next_step="Lower minDF.")
        vocabulary = tuple(total.words.values.take(pa.array(chosen)).to_pylist())
        return CountVectorizerModel(vocabulary=vocabulary, min_t_f=self.min_t_f, binary=self.binary)
