"""Vectors of words: a Huffman tree over a vocabulary, and skip-gram steps with a softmax along its paths.

The tree has a node for each word and one for each pair of nodes that were joined, the two rarest first: words in the order of their
counts, then inner nodes, the root last. A vector of a word and those of inner nodes move so that products tell, node by node, the way
from the root to the words that stand near it. Vectors are float32, and rows of whole lanes, so their number of slots is rounded up.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.kernels.library import INTEGER, REAL, array_of, function, padded

__all__ = ["Pace", "Tree", "train", "train_twin", "tree_of", "tree_twin"]

# MLlib's table of the sigmoid: 1000 entries from -6 to 6, of which it reads 83 a unit, for 1000 / 6 / 2.0 is 83 where 1000 / 6 is whole.
_MOST, _TABLE, _ENTRIES = 6, 1000, 83.0
# MLlib sets the learning rate anew after so many words, and not below this part of the first one.
_WORDS, _LEAST = 10_000, 1e-4

_exponentials = np.exp((2.0 * np.arange(_TABLE) / _TABLE - 1.0) * _MOST)
_SIGMOID = (_exponentials / (_exponentials + 1.0)).astype(np.float32)

_INTS, _LONGS, _BYTES, _FLOATS = (array_of(kind) for kind in (np.int32, np.int64, np.uint8, np.float32))
_WRITTEN_BYTES, _WRITTEN_FLOATS = array_of(np.uint8, written=True), array_of(np.float32, written=True)
_TREE = function(
    "words", "words_tree", _LONGS, INTEGER, array_of(np.int64, written=True), array_of(np.int32, written=True), _WRITTEN_BYTES
)  # fmt: skip
_TRAIN = function(
    "words", "words_train", _INTS, _LONGS, INTEGER, _INTS, _INTS, _BYTES, INTEGER, _FLOATS, REAL, REAL, REAL, REAL, REAL, INTEGER,
    _WRITTEN_FLOATS, _WRITTEN_BYTES, _WRITTEN_FLOATS,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree of ``V`` words.

    Attributes:
        parents: ``(2 V - 1,)`` int32: of each node but the root, which is the last, one that comes after it.
        bits: ``(2 V - 1,)`` uint8: which of its parent's two children each is.
    """

    parents: NDArray[np.int32]
    bits: NDArray[np.uint8]

    @property
    def root(self) -> int:
        """The last node."""
        return len(self.parents) - 1

    def way(self, word: int) -> Iterator[int]:
        """Yield the nodes from a word up to the one below the root."""
        node = word
        while node != self.root:
            yield node
            node = int(self.parents[node])


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast a part learns.

    Attributes:
        step: The first learning rate of all.
        learners: How many parts learn at once.
        before: Words of earlier rounds.
        iteration: Those of them in this iteration, which begins with the first rate, as MLlib's do.
        all: Words of all rounds.
    """

    step: float
    learners: int
    before: int
    iteration: int
    all: int

    def first(self) -> float:
        """Return the rate of the first sentence."""
        return self.rate(0) if self.iteration > _WORDS else self.step

    def rate(self, words: int) -> float:
        """Return the rate after so many words of the part."""
        return max(self.step * (1.0 - (self.learners * float(words) + self.before) / self.all), self.step * _LEAST)


def tree_of(counts: NDArray[np.int64]) -> Tree:
    """Return the tree over the counts of words, ``(V,)``, the largest first."""
    if _TREE is None:
        return tree_twin(counts)
    _check_counts(counts)
    nodes = 2 * len(counts) - 1
    parents, bits = np.zeros(nodes, dtype=np.int32), np.zeros(nodes, dtype=np.uint8)
    _TREE(np.ascontiguousarray(counts), len(counts), np.zeros(nodes, dtype=np.int64), parents, bits)
    return Tree(parents, bits)


def tree_twin(counts: NDArray[np.int64]) -> Tree:
    """Return what `tree_of` does."""
    _check_counts(counts)
    sums, word, inner = counts.tolist(), len(counts) - 1, len(counts)
    parents, bits = [0] * (2 * len(counts) - 1), [0] * (2 * len(counts) - 1)
    for made in range(len(counts), 2 * len(counts) - 1):
        pair = []
        for bit in range(2):
            if word >= 0 and (inner == made or sums[word] < sums[inner]):
                node, word = word, word - 1
            else:
                node, inner = inner, inner + 1
            pair.append(node)
            parents[node], bits[node] = made, bit
        sums.append(sums[pair[0]] + sums[pair[1]])
    return Tree(np.array(parents, dtype=np.int32), np.array(bits, dtype=np.uint8))


def train(
    words: NDArray[np.int32], ends: NDArray[np.int64], reach: NDArray[np.int32], tree: Tree, pace: Pace, vectors: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return what sentences make of vectors, and which of them they trained.

    Args:
        words: ``(n,)`` the sentences' words, by their place in the vocabulary.
        ends: ``(s + 1,)`` where each sentence ends, after a leading 0.
        reach: ``(n,)`` how far from each word its neighbours are.
        tree: Of the vocabulary.
        pace: How fast they learn.
        vectors: ``(2 V - 1, d)`` of words, then of inner nodes.
    """
    if _TRAIN is None:
        return train_twin(words, ends, reach, tree, pace, vectors)
    _check(words, ends, reach, tree, vectors)
    width = padded(vectors.shape[1])
    found, trained = np.zeros((len(vectors), width), dtype=np.float32), np.zeros(len(vectors), dtype=np.uint8)
    found[:, : vectors.shape[1]] = vectors
    _TRAIN(
        words, ends, len(ends) - 1, reach, tree.parents, tree.bits, tree.root, _SIGMOID,
        pace.first(), pace.step, float(pace.learners), float(pace.before), float(pace.all),
        width, found, trained, np.zeros(width, dtype=np.float32),
    )  # fmt: skip
    return np.ascontiguousarray(found[:, : vectors.shape[1]]), trained


def train_twin(
    words: NDArray[np.int32], ends: NDArray[np.int64], reach: NDArray[np.int32], tree: Tree, pace: Pace, vectors: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return what `train` does, with numpy."""
    _check(words, ends, reach, tree, vectors)
    found, trained = vectors.copy(), np.zeros(len(vectors), dtype=np.uint8)
    rate, last = pace.first(), 0
    for start, end in pairwise(ends.tolist()):
        if start - last > _WORDS:
            rate, last = pace.rate(start), start
        for at in range(start, end):
            way = np.fromiter(tree.way(int(words[at])), dtype=np.int64)
            near = np.arange(max(at - int(reach[at]), start), min(at + int(reach[at]) + 1, end))
            for word in words[near[near != at]]:
                _learn(found, trained, int(word), tree, way, rate)
    return found, trained


def _learn(vectors: NDArray[np.float32], trained: NDArray[np.uint8], word: int, tree: Tree, way: NDArray[np.int64], rate: float) -> None:
    """Move the vectors of a word and of the inner nodes above another one, in their place."""
    trained[word] = 1
    with np.errstate(over="ignore", invalid="ignore"):
        products = vectors[tree.parents[way]] @ vectors[word]
        used = (products > -_MOST) & (products < _MOST)
        way, inner = way[used], tree.parents[way[used]]
        wanted = (1 - tree.bits[way].astype(np.float32)) - _SIGMOID[((products[used] + np.float32(_MOST)) * _ENTRIES).astype(np.int64)]
        steps = (wanted * rate).astype(np.float32)
        change = steps @ vectors[inner]
        vectors[inner] += np.outer(steps, vectors[word])
        vectors[word] += change
    trained[inner] = 1


def _check_counts(counts: NDArray[np.int64]) -> None:
    """Raise ValueError unless they are counts of words in order whose sum is one, too: C joins what it is given."""
    if counts.ndim != 1 or not len(counts) or len(counts) > np.iinfo(np.int32).max // 2:
        raise ValueError(f"counts {counts.shape} are not those of a vocabulary")
    if (np.diff(counts) > 0).any() or counts[-1] < 0 or float(counts[0]) * len(counts) > np.iinfo(np.int64).max / 2:
        raise ValueError("counts are out of order or no counts")


def _check(words: NDArray[np.int32], ends: NDArray[np.int64], reach: NDArray[np.int32], tree: Tree, vectors: NDArray[np.float32]) -> None:
    """Raise ValueError unless shapes fit, every word has a vector and every way leads to the root: C reads what it is told to."""
    nodes, root = len(tree.parents), tree.root
    if vectors.ndim != 2 or not nodes % 2 or not len(vectors) == nodes == len(tree.bits) or len(reach) != len(words):
        raise ValueError(f"{len(words)} words, {len(reach)} reaches, {nodes} nodes and vectors {vectors.shape} do not fit")
    if len(ends) < 1 or ends[0] != 0 or ends[-1] != len(words) or (np.diff(ends) < 0).any():
        raise ValueError("sentences do not end where their words do")
    if len(words) and not (0 <= words.min() <= words.max() <= root // 2 and reach.min() >= 0):
        raise ValueError("a word has no vector, or a reach is none")
    below = tree.parents[:root]
    if not ((below > np.arange(root)) & (below > root // 2) & (below <= root)).all():
        raise ValueError("a way through the tree does not lead to its root")
