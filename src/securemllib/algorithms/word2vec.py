r"""Vectors of words, learned so that a word's vector tells which words stand near it.

Objective: with words :math:`w_t` and reaches :math:`r_t` drawn from 1 to ``window_size``, over vectors :math:`v` of words and
:math:`u` of the inner nodes of a Huffman tree of the vocabulary,

.. math:: \sum_t \sum_{0 < |j| \le r_t} \log p(w_t \mid w_{t+j}), \qquad
    p(w \mid w') = \prod_{n \textrm{ above } w} \mathrm{sigmoid}(\pm u_n \cdot v_{w'})

by one step of gradient descent a pair of words [1, 2].

Equivalence: ``pyspark.ml.feature.Word2Vec``: the same vocabulary, tree, cuts of long sentences, steps in single precision with a sigmoid
from a table, learning rate that falls with the words, and mean over partitions of each vector that they trained. A partition is a part of
the dataset (docs/adr/0043): ``numPartitions`` of them learn at once, the next ones from the means that these leave. MLlib deals sentences
anew to so many partitions, which each go through an iteration alone; with one they learn the same. What differs are random numbers and the
order of equally frequent words, here that of the alphabet. A null word is no word. A row's vector is the sum of its words' vectors over
the number of its words, unknown ones and nulls included, as there.

Cost: one pass that counts words, then in each iteration one for every ``numPartitions`` parts. A part takes about ``windowSize + 1``
times the mean depth of a word in the tree of products and updates of ``vectorSize`` numbers, a word; it learns on one core. Messages hold
``2 V`` vectors. A pass goes over all blocks to find those whose turn it is, and opens again those that memory does not hold.

Reveals: with mode="enclave" the number of rows and parts, by the size of sealed messages ``V`` and about how much text the vocabulary
holds, and by their duration how many words each part has. With mode="partitioned" the same: words are counted inside enclaves, and sums of
vectors leave as masked integers. Words and vectors leave with a released model only.

[1] T. Mikolov, K. Chen, G. Corrado, J. Dean: Efficient estimation of word representations in vector space, 2013. [2] T. Mikolov et al.:
Distributed representations of words and phrases and their compositionality, NIPS 2013.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.feature.counts import TextCounts
from securemllib.algorithms.feature.values import index_in, inputs_of, tokens_of
from securemllib.algorithms.kernels.words import Pace, train, tree_of
from securemllib.algorithms.params import require_integer, require_number
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.algorithms.vectors import Vector
from securemllib.errors import DataError, UsageError

__all__ = ["Word2Vec", "Word2VecModel", "Word2VecState", "Word2VecStatistics"]

Singles = NDArray[np.float32]
Ints = NDArray[np.int64]

# The engine's messages stay below 2 GiB.
_MOST_STATE_BYTES = 3 << 29
_SENTENCES = "word2vec.sentences"


@dataclass(frozen=True, slots=True, kw_only=True)
class Word2VecState:
    """What is known between rounds.

    Attributes:
        seed: The root of the randomness.
        words: The vocabulary with its counts; None before the first pass.
        parts: ``(p,)`` ordinals of the parts that have words.
        round: Rounds of learning made.
        trained: Words of those of them that were in this iteration.
        vectors: ``(2 V - 1, d)`` of the words, the most frequent first, then of the tree's inner nodes.
    """

    seed: Seed
    words: TextCounts | None
    parts: Ints
    round: int
    trained: int
    vectors: Singles


@dataclass(frozen=True, slots=True, kw_only=True)
class Word2VecStatistics:
    """Words in the first pass, vectors in the others.

    Attributes:
        words: Each word's occurrences.
        parts: Ordinals of parts with words.
        vectors: ``(2 V - 1, d)`` sums over parts of the vectors that they trained; ``(0, d)`` of parts whose turn it is not.
        learners: ``(2 V - 1,)`` how many parts trained each; likewise.
        trained: Words that were learned from.
    """

    ADDITIVE: ClassVar[tuple[str, ...]] = ("vectors", "learners", "trained")

    words: TextCounts
    parts: Ints
    vectors: Singles
    learners: Ints
    trained: int

    def __add__(self, other: Self) -> Self:
        trains = len(self.learners) and len(other.learners)
        one = self if len(self.learners) else other
        return type(self)(
            words=self.words + other.words,
            parts=np.sort(np.concatenate([self.parts, other.parts])),
            vectors=self.vectors + other.vectors if trains else one.vectors,
            learners=self.learners + other.learners if trains else one.learners,
            trained=self.trained + other.trained,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Word2VecModel:
    """The vocabulary, most frequent word first, and ``(V, d)`` its vectors."""

    SUMMARY: ClassVar[tuple[str, ...]] = ()

    vocabulary: tuple[str, ...]
    vectors: Singles

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or not len(self.vocabulary) == len(self.vectors) > 0:
            raise UsageError(f"{len(self.vocabulary)} words have no vectors of shape {self.vectors.shape}")

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output``: the mean vector of each list, words that have none counted, and zeros for an empty one."""
        (column,) = columns
        lists = tokens_of(column, "input")
        lengths = np.asarray(lists.value_lengths(), dtype=np.int64)
        slots, unknown = index_in(lists.flatten(), pa.array(self.vocabulary, pa.large_string()))
        ends = _ends(lengths, ~unknown)
        rows = csr_array((np.ones(int(ends[-1])), slots[~unknown], ends), shape=(len(lists), len(self.vocabulary)))
        # MLlib multiplies by the reciprocal, too.
        means = np.asarray(rows @ self.vectors, dtype=np.float64) * (1.0 / np.maximum(lengths, 1))[:, None]
        return Transformed(columns={"output": Column(Vector.of(means))})


@dataclass(frozen=True, slots=True, kw_only=True)
class Word2Vec:
    """Params of ``pyspark.ml.feature.Word2Vec``."""

    vector_size: int = 100
    min_count: int = 5
    num_partitions: int = 1
    step_size: float = 0.025
    max_iter: int = 1
    window_size: int = 5
    max_sentence_length: int = 1000

    def __post_init__(self) -> None:
        for field in ("vector_size", "num_partitions", "window_size", "max_sentence_length"):
            require_integer(self, field, 1, np.iinfo(np.int32).max)
        for field in ("min_count", "max_iter"):
            require_integer(self, field, 0)
        require_number(self, "step_size", math.nextafter(0.0, 1.0), np.finfo(np.float64).max)

    def initial(self, summary: Summary, seed: Seed) -> Word2VecState:
        """Return the state before the first pass."""
        del summary
        nobody = np.zeros(0, dtype=np.int64)
        none = np.zeros((0, self.vector_size), dtype=np.float32)
        return Word2VecState(seed=seed, words=None, parts=nobody, round=0, trained=0, vectors=none)

    def is_done(self, state: Word2VecState) -> bool:
        """Return whether all iterations are made."""
        return state.words is not None and state.round >= self.max_iter * self._turns(state)

    def is_additive(self, state: Word2VecState) -> bool:
        """Return whether the next round learns vectors."""
        return state.words is not None

    def nothing(self, state: Word2VecState) -> Word2VecStatistics:
        """Return the statistics of a part without words."""
        nodes = len(state.vectors)
        return replace(self._idle(), vectors=np.zeros_like(state.vectors), learners=np.zeros(nodes, dtype=np.int64))

    def statistics(self, state: Word2VecState, block: Block) -> Word2VecStatistics:
        """Return the block's words, or what it makes of the vectors where it is its turn."""
        if state.words is None:
            words = TextCounts.of(tokens_of(inputs_of(block)[0], "input").flatten())
            here = np.array([block.ordinal] if len(words.counts) else [], dtype=np.int64)
            return replace(self._idle(), words=words, parts=here)
        iteration, turn = divmod(state.round, self._turns(state))
        learners = state.parts[turn * self.num_partitions : (turn + 1) * self.num_partitions]
        if block.ordinal not in learners:
            return self._idle()
        counts, vocabulary = _ranked(state.words)
        words, ends = block.scratch.get(_SENTENCES, self.max_sentence_length, lambda: self._sentences(vocabulary, block))
        drawn = state.seed.generator("word2vec", iteration, block.ordinal)
        reach = drawn.integers(1, self.window_size, len(words), dtype=np.int32, endpoint=True)
        total = int(counts.sum())
        pace = Pace(
            step=self.step_size, learners=len(learners), before=iteration * total + state.trained, iteration=state.trained,
            all=self.max_iter * total + 1,
        )  # fmt: skip
        found, trained = train(words, ends, reach, tree_of(counts), pace, state.vectors)
        found[trained == 0] = 0.0
        return replace(self._idle(), vectors=found, learners=trained.astype(np.int64), trained=len(words))

    def update(self, state: Word2VecState, total: Word2VecStatistics) -> Word2VecState:
        """Return the state after a pass; `DataError` where no word is left, `UsageError` where their vectors would be too large."""
        if state.words is None:
            return self._drawn(state, total)
        times = np.maximum(total.learners, 1).astype(np.float32)
        vectors = np.where(total.learners[:, None] > 0, total.vectors * (np.float32(1.0) / times)[:, None], state.vectors)
        made = state.round + 1
        trained = state.trained + total.trained if made % self._turns(state) else 0
        return replace(state, round=made, trained=trained, vectors=vectors)

    def to_model(self, state: Word2VecState) -> Word2VecModel:
        """Return the vectors of words."""
        if state.words is None:
            raise UsageError("The training has not finished: its first pass is missing.")
        _, vocabulary = _ranked(state.words)
        return Word2VecModel(vocabulary=tuple(vocabulary.to_pylist()), vectors=state.vectors[: len(vocabulary)])

    def _turns(self, state: Word2VecState) -> int:
        return -(-len(state.parts) // self.num_partitions)

    def _idle(self) -> Word2VecStatistics:
        nobody, none = np.zeros(0, dtype=np.int64), np.zeros((0, self.vector_size), dtype=np.float32)
        return Word2VecStatistics(words=_NO_WORDS, parts=nobody, vectors=none, learners=nobody, trained=0)

    def _drawn(self, state: Word2VecState, total: Word2VecStatistics) -> Word2VecState:
        kept = np.flatnonzero(total.words.counts[:, 0] >= self.min_count)
        if not len(kept):
            raise DataError("The vocabulary has no word.", code="data.vocabulary", next_step="Lower minCount.")
        nodes = 2 * len(kept) - 1
        if 4 * nodes * self.vector_size > _MOST_STATE_BYTES:
            raise UsageError(
                f"{nodes} vectors of words and of nodes of their tree, of {self.vector_size} numbers each, are more than a state holds",
                next_step="Raise minCount or lower vectorSize.",
                code="usage.size",
            )
        vectors = np.zeros((nodes, self.vector_size), dtype=np.float32)
        uniform = state.seed.generator("word2vec", "vectors").random((len(kept), self.vector_size), dtype=np.float32)
        vectors[: len(kept)] = (uniform - np.float32(0.5)) / np.float32(self.vector_size)
        words = TextCounts.among(total.words.values.take(pa.array(kept)), total.words.counts[kept])
        return replace(state, words=words, parts=total.parts, vectors=vectors)

    def _sentences(self, vocabulary: pa.Array, block: Block) -> tuple[NDArray[np.int32], Ints]:
        """Return the known words of a block, and where the sentences end that its lists are cut into, after a leading 0."""
        lists = tokens_of(inputs_of(block)[0], "input")
        slots, unknown = index_in(lists.flatten(), vocabulary)
        ends = _ends(np.asarray(lists.value_lengths(), dtype=np.int64), ~unknown)
        cuts = -(-np.diff(ends) // self.max_sentence_length)
        within = np.arange(cuts.sum()) - np.repeat(np.cumsum(cuts) - cuts, cuts) + 1
        stops = np.minimum(np.repeat(ends[:-1], cuts) + within * self.max_sentence_length, np.repeat(ends[1:], cuts))
        return slots[~unknown].astype(np.int32), np.concatenate([[0], stops])


def _ends(lengths: Ints, used: NDArray[np.bool_]) -> Ints:
    """Return where the used words of each list end, after a leading 0."""
    ends: Ints = np.concatenate([[0], np.cumsum(used)])[np.concatenate([[0], np.cumsum(lengths)])]
    return ends


def _ranked(words: TextCounts) -> tuple[Ints, pa.Array]:
    """Return counts and words, the most frequent first, of equally frequent ones the first in the alphabet."""
    order = np.argsort(-words.counts[:, 0], kind="stable")
    return words.counts[order, 0], words.values.take(pa.array(order))


_NO_WORDS = TextCounts.of(pa.array([], pa.string()))
