"""Does Word2Vec learn MLlib's vectors, and do parts add up as it says?"""

from collections import Counter
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.ml import feature
from pyspark.ml.linalg import Vectors

from securemllib.algorithms.base import Seed
from securemllib.algorithms.codec import from_tree
from securemllib.algorithms.registry import build
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.transformer import Column
from securemllib.algorithms.vectors import Vector
from securemllib.algorithms.word2vec import Word2Vec, Word2VecModel
from securemllib.errors import DataError, FormatError, UsageError
from securemllib.ml.features.plain import PlainWord2VecModel
from tests.algorithms.feature.running import fitted, raw_blocks

LISTS = pa.list_(pa.string())
_LONG = (1 << 64) - 1


class SparkDraws:
    """Spark's random numbers, as its XORShiftRandom draws them from a hashed seed."""

    def __init__(self, spark: Any, seed: int) -> None:
        companion = getattr(getattr(spark._jvm.org.apache.spark.util.random, "XORShiftRandom$"), "MODULE$")
        self._state = companion.hashSeed(seed) & _LONG

    def _next(self, bits: int) -> int:
        state = self._state ^ (self._state << 21) & _LONG
        state ^= state >> 35
        self._state = state ^ (state << 4) & _LONG
        return self._state & ((1 << bits) - 1)

    def random(self, shape: Any, dtype: Any) -> Any:
        """Return ``nextFloat`` of each element."""
        return np.array([self._next(24) / (1 << 24) for _ in range(int(np.prod(shape)))], dtype=dtype).reshape(shape)

    def integers(self, low: int, high: int, size: int, dtype: Any, *, endpoint: bool) -> Any:
        """Return MLlib's window less ``nextInt(window)``, of a window that is no power of two."""
        assert (low, endpoint) == (1, True)
        return np.array([high - self._next(31) % high for _ in range(size)], dtype=dtype)


class SparkSeed:
    """The seeds of MLlib's Word2Vec, in the place of an enclave's."""

    def __init__(self, spark: Any, seed: int) -> None:
        self._spark, self._seed = spark, seed

    def generator(self, *position: Any) -> SparkDraws:
        """Return the random numbers of the first vectors, or of one iteration over the only partition."""
        iteration = None if position[1:] == ("vectors",) else int(position[1])
        seed = self._seed if iteration is None else self._seed ^ (1 << 16) ^ ((-iteration - 2) << 8)
        return SparkDraws(self._spark, seed)


def corpus() -> list[list[str]]:
    """Return lists of words whose frequencies differ, some lists empty and two words rare."""
    drawn = np.random.default_rng(3)
    words = np.repeat([f"w{index}" for index in range(25)], [40 * (25 - index) for index in range(25)]).tolist()
    words = drawn.permutation([*words, "rare", "rare", "seldom"])
    # Words that stand together: each half of the vocabulary fills rows of its own.
    half = np.array([int(word[1:]) % 2 if word.startswith("w") else 0 for word in words])
    words = words[np.argsort(half, kind="stable")]
    lists = [part.tolist() for part in np.split(words, np.sort(drawn.integers(0, len(words), 900)))]
    return [lists[index] for index in drawn.permutation(len(lists))]


def trained(params: dict[str, Any], blocks: Any, seed: Any) -> Any:
    """Return the state after a training in one process, whose random numbers may be anybody's."""
    algorithm = build("Word2Vec", params)
    state = algorithm.initial(reduce(add, map(Summary.of, blocks)), seed)
    while not algorithm.is_done(state):
        state = algorithm.update(state, reduce(add, (algorithm.statistics(state, block) for block in blocks)))
    return state


def of_one_frequency(rows: list[list[str]]) -> list[list[str]]:
    """Return rows without words that are as frequent as others: of these MLlib takes its partitions' order."""
    counts = Counter(word for row in rows for word in row)
    alike = Counter(counts.values())
    return [[word for word in row if alike[counts[word]] == 1] for row in rows]


@pytest.mark.parametrize(("count", "iterations", "tolerance"), [(60, 1, 2e-6), (900, 1, 1e-3), (900, 3, 1e-3)])
def test_vectors_are_those_of_mllib(spark: Any, count: int, iterations: int, tolerance: float) -> None:
    """With MLlib's random numbers one part learns MLlib's vectors, over sentences that are cut and a rate that falls.

    Of a thousand words to single precision. Of more, some products are so near to the next entry of the sigmoid's table that rounding
    decides which one is read: a step 0.3 % longer.
    """
    rows = of_one_frequency(corpus()[:count])
    params = {"vectorSize": 9, "maxIter": iterations, "maxSentenceLength": 11}
    plain = spark.createDataFrame([(row,) for row in rows], "words array<string>").coalesce(1)
    theirs = feature.Word2Vec(inputCol="words", outputCol="out", seed=7, **params).fit(plain)
    (block,) = raw_blocks(pa.array(rows, LISTS), parts=1)
    algorithm, seed = build("Word2Vec", params), SparkSeed(spark, 7)
    model = algorithm.to_model(trained(params, [block], seed))
    expected = {row.word: row.vector.toArray() for row in theirs.getVectors().collect()}
    assert sorted(model.vocabulary) == sorted(expected)
    assert "rare" not in expected
    wanted = np.array([expected[word] for word in model.vocabulary])
    np.testing.assert_allclose(model.vectors, wanted, rtol=0, atol=tolerance)
    start = trained({**params, "maxIter": 0}, [block], seed).vectors[: len(wanted)]
    assert np.abs(wanted - start).max() > 0.5


def test_rows_and_synonyms_are_those_of_mllib(spark: Any) -> None:
    """With MLlib's vectors rows have its means to the last bit, unknown words counted, and words and vectors its synonyms."""
    rows = corpus()[:200]
    plain = spark.createDataFrame([(row,) for row in rows], "words array<string>").coalesce(1)
    theirs = feature.Word2Vec(inputCol="words", outputCol="out", vectorSize=6, seed=1).fit(plain)
    found = {row.word: row.vector.toArray() for row in theirs.getVectors().collect()}
    model = Word2VecModel(vocabulary=tuple(found), vectors=np.array(list(found.values()), dtype=np.float32))
    tried = [*rows, [], ["unknown"], ["w1", "unknown", None]]
    made = model.transform((Column(pa.array(tried, LISTS)),)).columns["output"].values
    scored = theirs.transform(spark.createDataFrame([(row,) for row in tried], "words array<string>").coalesce(1)).collect()
    np.testing.assert_array_equal(made.matrix(), [row.out.toArray() for row in scored])
    ours = PlainWord2VecModel(model)
    vector = Vectors.dense(found["w3"] + found["w4"])
    for asked in ("w3", vector):
        expected = theirs.findSynonymsArray(asked, 5)
        assert [word for word, _ in ours.findSynonymsArray(asked, 5)] == [word for word, _ in expected]
        np.testing.assert_allclose(
            [cosine for _, cosine in ours.findSynonymsArray(asked, 5)], [cosine for _, cosine in expected], atol=1e-6
        )
    assert ours.findSynonyms("w3", 2).columns.tolist() == theirs.findSynonyms("w3", 2).columns
    assert ours.findSynonymsArray("w3", 99) == ours.findSynonymsArray("w3", len(found) - 1)
    assert ours.getVectors().columns.tolist() == theirs.getVectors().columns
    assert dict(zip(ours.getVectors()["word"], ours.getVectors()["vector"], strict=True)) == {
        word: Vectors.dense(values) for word, values in found.items()
    }
    assert {cosine for _, cosine in ours.findSynonymsArray(Vectors.dense([0.0] * 6), 3)} == {0.0}
    for word, num in (("unknown", 3), ("w3", 0), (Vectors.dense([1.0]), 3)):
        with pytest.raises(UsageError):
            ours.findSynonymsArray(word, num)


def test_words_that_stand_together_are_near(spark: Any) -> None:
    """From enclaves' own random numbers, in parts that learn at once or in turn, words of two topics lie about as far apart as MLlib's."""
    rows = corpus()
    params = {"vectorSize": 10, "maxIter": 4, "stepSize": 0.05}
    plain = spark.createDataFrame([(row,) for row in rows], "words array<string>").coalesce(1)
    theirs = feature.Word2Vec(inputCol="words", outputCol="out", seed=2, **params).fit(plain)
    found = {row.word: row.vector.toArray() for row in theirs.getVectors().collect()}
    least = _apart(Word2VecModel(vocabulary=tuple(found), vectors=np.array(list(found.values()), dtype=np.float32)))
    assert least > 0.2
    for partitions in (1, 2, 9):
        ours = fitted("Word2Vec", pa.array(rows, LISTS), parts=6, numPartitions=partitions, **params)
        assert _apart(ours) > 0.7 * least, partitions


def _apart(model: Any) -> float:
    """Return how much larger the mean cosine of two words of one half of the vocabulary is than of two halves."""
    half = np.array([int(word[1:]) % 2 for word in model.vocabulary])
    units = model.vectors / np.linalg.norm(model.vectors, axis=1, keepdims=True)
    cosines, alike = units @ units.T, half[:, None] == half
    return float(cosines[alike & ~np.eye(len(half), dtype=bool)].mean() - cosines[~alike].mean())


def test_parts_learn_in_turn_from_the_mean_of_those_before() -> None:
    """A round's vectors are the means of what its parts make of the last ones alone, and of each only those that a part trained."""
    params = {"vectorSize": 5, "minCount": 0, "numPartitions": 2}
    rows = [["a", "b", "c"] * 9, ["a", "b"] * 9, ["c", "d"] * 9, ["e", "a"] * 9, ["e", "e", "b"] * 9]
    blocks = raw_blocks(pa.array(rows, LISTS), parts=5)
    algorithm, seed = build("Word2Vec", params), Seed(bytes(32))
    first = algorithm.initial(reduce(add, map(Summary.of, blocks)), seed)
    state = algorithm.update(first, reduce(add, (algorithm.statistics(first, block) for block in blocks)))
    assert state.words.values.to_pylist() == ["a", "b", "c", "d", "e"]
    for turn in ((0, 1), (2, 3), (4,)):
        assert not algorithm.is_done(state)
        each = [algorithm.statistics(state, block) for block in blocks]
        assert [len(found.learners) > 0 for found in each] == [ordinal in turn for ordinal in range(5)]
        after = algorithm.update(state, reduce(add, each))
        learned = np.array([each[ordinal].learners for ordinal in turn]) > 0
        alone = np.array([each[ordinal].vectors for ordinal in turn])
        for node, where in enumerate(learned.T):
            expected = alone[where, node].mean(axis=0) if where.any() else state.vectors[node]
            np.testing.assert_allclose(after.vectors[node], expected, rtol=1e-6)
        assert 0 < learned.sum() < learned.size
        # In any order, and behind the zeros that a masked sum begins with, the sum is the same.
        total, other = reduce(add, each), reduce(add, [algorithm.nothing(state), *each[::-1]])
        np.testing.assert_allclose(total.vectors, other.vectors, rtol=1e-6)
        np.testing.assert_array_equal(total.learners, other.learners)
        assert total.trained == other.trained == sum(len(rows[ordinal]) for ordinal in turn)
        state = after
    assert algorithm.is_done(state)


def test_a_seed_is_a_model() -> None:
    """The same seed gives the same bytes, another one other vectors."""
    rows = pa.array(corpus()[:60], LISTS)
    blocks = raw_blocks(rows)
    one, same, other = (trained({"vectorSize": 4}, blocks, Seed(bytes([seed] * 32))).vectors for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not (one == other).all(axis=1).any()


def test_no_word_is_no_model() -> None:
    """Rows without a frequent word, null lists and columns of other types are errors of the data, beside nulls that are no words."""
    model = fitted("Word2Vec", pa.array([["a", None, "b"] * 5, []], LISTS), vectorSize=2)
    assert model.vocabulary == ("a", "b")
    assert fitted("Word2Vec", pa.array([["a"]]), vectorSize=2, minCount=1).vectors.shape == (1, 2)
    for rows, code in (
        (pa.array([["a"]]), "data.vocabulary"),
        (pa.array([], LISTS), "data.vocabulary"),
        (pa.array([["a"], None]), "data.null"),
        (pa.array([[1]]), "data.type"),
        (pa.array(["a"]), "data.type"),
    ):
        with pytest.raises(DataError) as refused:
            fitted("Word2Vec", rows, vectorSize=2)
        assert refused.value.error_code == code
    with pytest.raises(DataError, match="vector column"):
        model.transform((Column(Vector.of(np.ones((1, 2)))),))


def test_vectors_that_are_too_large_for_a_state_are_refused() -> None:
    """More numbers than a state holds end with a code that says what to do, before they are allocated."""
    with pytest.raises(UsageError) as refused:
        fitted("Word2Vec", pa.array([["a", "b"] * 5], LISTS), vectorSize=2**30)
    assert refused.value.error_code == "usage.size"


@pytest.mark.parametrize(
    "wrong",
    [
        {"vectorSize": 0},
        {"numPartitions": 0},
        {"windowSize": 0},
        {"maxSentenceLength": 0},
        {"minCount": -1},
        {"maxIter": -1},
        {"stepSize": 0.0},
        {"stepSize": float("inf")},
        {"vectorSize": 2.0},
    ],
)
def test_params_out_of_their_domain_are_refused(wrong: dict[str, Any]) -> None:
    """What MLlib refuses is refused, beside the defaults and the smallest values."""
    assert build("Word2Vec", {}) == Word2Vec(
        vector_size=100, min_count=5, num_partitions=1, step_size=0.025, max_iter=1, window_size=5, max_sentence_length=1000
    )
    build("Word2Vec", {"vectorSize": 1, "numPartitions": 1, "windowSize": 1, "maxSentenceLength": 1, "minCount": 0, "maxIter": 0})
    with pytest.raises(UsageError):
        build("Word2Vec", wrong)


def test_a_model_has_a_vector_for_each_word() -> None:
    """What a model is made of fits together, or its bytes are refused."""
    vectors = {"dtype": "<f4", "shape": [2, 1], "data": bytes(8)}
    from_tree(Word2VecModel, {"vocabulary": ["a", "b"], "vectors": vectors})
    for words in (["a"], [], ["a", "b", "c"]):
        with pytest.raises(FormatError):
            from_tree(Word2VecModel, {"vocabulary": words, "vectors": vectors})
