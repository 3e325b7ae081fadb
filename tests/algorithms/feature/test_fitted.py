"""Do fitted features of numbers, vectors and words learn and give what pyspark.ml does, and refuse what it refuses?"""

from functools import reduce
from operator import add

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.ml import feature
from pyspark.ml.linalg import Vectors
from scipy import sparse

from securemllib.algorithms.feature.counts import NumberCounts
from securemllib.algorithms.feature.quantiles import QuantileSearch
from securemllib.algorithms.registry import build
from securemllib.algorithms.transformer import Column
from securemllib.algorithms.vectors import SparseVector, Vector, to_stored
from securemllib.errors import DataError, UsageError
from tests.algorithms.feature.running import collected, fitted, listed, spark_frame, transformed

# Few values and ties in the first slot, zeros, negative numbers, a constant, and many values in the last.
MATRIX = np.column_stack(
    [
        np.tile([3.0, -1.0, 0.0, 3.0], 10),
        np.where(np.arange(40) % 3 == 0, np.random.default_rng(1).normal(size=40), 0.0),
        np.full(40, 7.0),
        np.random.default_rng(2).normal(100, 5, 40),
    ]
)
DENSE, SPARSE = Vector.of(MATRIX), SparseVector(sparse.csr_array(MATRIX))


@pytest.fixture(scope="module")
def vectors(spark):
    """The matrix as a plain Spark frame, dense and sparse."""
    rows = [(Vectors.dense(row), Vectors.sparse(4, [(i, v) for i, v in enumerate(row) if v])) for row in MATRIX.tolist()]
    return spark.createDataFrame(rows, ["dense", "sparse"]).coalesce(2).cache()


SCALERS = [
    ("MinMaxScaler", {}, {"original_min": "originalMin", "original_max": "originalMax"}),
    ("MinMaxScaler", {"min": -2.0, "max": 5.0}, {}),
    ("MaxAbsScaler", {}, {"max_abs": "maxAbs"}),
    ("RobustScaler", {}, {"median": "median", "range": "range"}),
    ("RobustScaler", {"withCentering": True, "lower": 0.1, "upper": 0.6}, {"median": "median", "range": "range"}),
    ("RobustScaler", {"withScaling": False}, {}),
    ("IDF", {}, {"idf": "idf", "doc_freq": "docFreq", "num_docs": "numDocs"}),
    ("IDF", {"minDocFreq": 15}, {"idf": "idf", "doc_freq": "docFreq"}),
    ("VectorIndexer", {"maxCategories": 3}, {}),
    ("VectorIndexer", {"maxCategories": 20, "handleInvalid": "keep"}, {}),
]


@pytest.mark.parametrize(("operation", "params", "attributes"), SCALERS)
def test_vectors_are_those_of_mllib(vectors, operation, params, attributes):
    """From dense and from sparse vectors, models and outputs are MLlib's to 1e-12, the error of a few operations."""
    for vector, name in ((DENSE, "dense"), (SPARSE, "sparse")):
        theirs = getattr(feature, operation)(inputCol=name, outputCol="out", **params).fit(vectors)
        ours = fitted(operation, to_stored(vector), **params)
        for mine, original in attributes.items():
            assert np.allclose(getattr(ours, mine), np.array(getattr(theirs, original)), rtol=1e-12, atol=1e-12)
        made = transformed(ours, Column(vector)).columns["output"]
        assert np.allclose(listed(made), collected(theirs.transform(vectors), "out"), rtol=1e-12, atol=1e-12)
        dense = name == "dense" or operation == "MinMaxScaler" or params.get("withCentering")
        assert isinstance(made.values, Vector) == bool(dense)


def test_ranges_that_are_no_numbers_scale_as_in_mllib(spark):
    """Values of a slot whose range is infinite, or whose values are, become the middle, and those of the least range infinite."""
    matrix = np.array([[np.inf, -1e308, 1e-310], [0.0, 1e308, 2e-310], [1.0, 5.0, 3e-310], [np.nan, 6.0, 1e-310]])
    rows = spark.createDataFrame([(Vectors.dense(row),) for row in matrix.tolist()], ["in"]).coalesce(1)
    theirs = feature.MinMaxScaler(inputCol="in", outputCol="out", max=3.0).fit(rows)
    ours = transformed(fitted("MinMaxScaler", to_stored(Vector.of(matrix)), max=3.0), Column(Vector.of(matrix))).columns["output"]
    np.testing.assert_array_equal(listed(ours), collected(theirs.transform(rows), "out"))


def test_nominal_slots_are_those_of_mllib(vectors):
    """Slots with few values have MLlib's categories, and trees see how many."""
    theirs = feature.VectorIndexer(inputCol="dense", outputCol="out", maxCategories=3).fit(vectors)
    ours = fitted("VectorIndexer", to_stored(DENSE), maxCategories=3)
    cuts = np.split(ours.values, np.cumsum(ours.arity)[:-1])
    assert {slot: {value: index for index, value in enumerate(cuts[slot])} for slot in np.flatnonzero(ours.arity)} == {
        slot: dict(found) for slot, found in theirs.categoryMaps.items()
    }
    assert transformed(ours, Column(DENSE)).columns["output"].arity.tolist() == [3, 0, 1, 0]


def test_values_that_were_not_seen_are_handled(vectors):
    """A new value in a nominal slot is refused, drops its row, or becomes a category, in dense and sparse vectors alike."""
    new = MATRIX[:3].copy()
    new[1, 0] = 9.0
    rows = [(Vectors.dense(row),) for row in new.tolist()]
    plain = vectors.sparkSession.createDataFrame(rows, ["dense"]).coalesce(1)
    for column in (Column(Vector.of(new)), Column(SparseVector(sparse.csr_array(new)))):
        for mode in ("keep", "skip"):
            theirs = feature.VectorIndexer(inputCol="dense", outputCol="out", maxCategories=3, handleInvalid=mode).fit(vectors)
            made = transformed(fitted("VectorIndexer", to_stored(DENSE), maxCategories=3, handleInvalid=mode), column)
            kept = np.ones(3, bool) if made.keep is None else made.keep
            assert np.array(listed(made.columns["output"]))[kept].tolist() == collected(theirs.transform(plain), "out")
        with pytest.raises(DataError):
            transformed(fitted("VectorIndexer", to_stored(DENSE), maxCategories=3), column)


def test_nan_counts_for_nothing_in_scalers():
    """Ranges and quantiles are those of the numbers; NaN stays NaN."""
    holes = pa.array([[1.0], [float("nan")], [3.0], [2.0]], pa.list_(pa.float64()))
    assert (fitted("MinMaxScaler", holes).original_min, fitted("MinMaxScaler", holes).original_max) == (1.0, 3.0)
    assert fitted("RobustScaler", holes).median == 2.0
    assert np.isnan(listed(transformed(fitted("MinMaxScaler", holes), holes).columns["output"])[1][0])


GAPS = [1.0, None, 3.0, float("nan"), 3.0, -1.0, 10.0, 2.0, 2.0]
WHOLE = [4, 4, None, 7, -1, -1, 9, None, 2]


@pytest.mark.parametrize("strategy", ["mean", "median", "mode"])
@pytest.mark.parametrize("missing", [float("nan"), -1.0])
def test_gaps_are_filled_as_in_mllib(spark, strategy, missing):
    """Surrogates of two columns are MLlib's, and filled columns have their inputs' types and MLlib's values."""
    plain = spark_frame(spark, "a double, b int", GAPS, WHOLE)
    theirs = feature.Imputer(inputCols=["a", "b"], outputCols=["c", "d"], strategy=strategy, missingValue=missing).fit(plain)
    arrays = pa.array(GAPS), pa.array(WHOLE, pa.int32())
    ours = fitted("Imputer", *arrays, strategy=strategy, missingValue=missing)
    row = theirs.surrogateDF.collect()[0]
    assert np.allclose(ours.surrogates, [row["a"], row["b"]], rtol=1e-12)
    made, out = transformed(ours, *arrays).columns, theirs.transform(plain)
    assert np.allclose(listed(made["output0"]), collected(out, "c"), rtol=1e-12, equal_nan=True)
    assert listed(made["output1"]) == collected(out, "d")
    assert made["output1"].values.type == pa.int32()


def test_a_column_of_gaps_has_no_surrogate():
    """A column without any value is refused under every strategy, and one with a single value is not."""
    for strategy in ("mean", "median", "mode"):
        assert fitted("Imputer", pa.array([None, 5.0]), strategy=strategy).surrogates.tolist() == [5.0]
        with pytest.raises(DataError):
            fitted("Imputer", pa.array([None, float("nan")], pa.float64()), strategy=strategy)


@pytest.mark.parametrize("mode", ["keep", "skip", "error"])
def test_quantile_buckets_are_those_of_mllib(spark, mode):
    """Splits and buckets of two columns are MLlib's where its sketch keeps all values, ties and gaps included; nulls stay or go."""
    generator = np.random.default_rng(3)
    first, second = generator.normal(size=200).tolist(), generator.integers(0, 5, 200).tolist()
    first[3] = first[9] = 0.0 if mode == "error" else float("nan")
    first[5] = second[7] = None
    plain = spark_frame(spark, "a double, b int", first, second)
    discretizer = feature.QuantileDiscretizer(inputCols=["a", "b"], outputCols=["c", "d"], numBucketsArray=[5, 8], handleInvalid=mode)
    theirs = discretizer.fit(plain)
    arrays = pa.array(first), pa.array(second, pa.int32())
    ours = fitted("QuantileDiscretizer", *arrays, numBucketsArray=(5, 8), handleInvalid=mode)
    assert [list(splits) for splits in ours.splits] == [list(splits) for splits in theirs.getSplitsArray()]
    made = transformed(ours, *arrays)
    kept = np.ones(200, bool) if made.keep is None else made.keep
    out = theirs.transform(plain)
    assert [np.array(listed(made.columns[stem]))[kept].tolist() for stem in ("output0", "output1")] == [
        collected(out, name) for name in "cd"
    ]


@given(
    st.lists(st.floats(allow_infinity=True, allow_nan=True), min_size=1, max_size=30),
    st.lists(st.floats(0, 1), min_size=1, max_size=3),
    st.integers(1, 400),
)
def test_quantiles_are_exact(values, probabilities, wide):
    """Counting bits in parts finds the very element of each rank, for columns so many that a round decides few bits, too."""
    numbers = np.array(values)
    there = np.sort(numbers[~np.isnan(numbers)])
    wanted, search = np.array([probabilities]), QuantileSearch.start()
    columns = [numbers, *([np.ones(1)] * (wide if wide > 390 else 0))]
    while not search.is_done:
        halves = [[(column[::2], 0) for column in columns], [(column[1::2], 0) for column in columns]]
        total = reduce(add, (search.counted(half, len(probabilities)) for half in halves))
        if not len(there):
            with pytest.raises(DataError):
                search.refined(total, wanted, 0.0)
            return
        search = search.refined(total, wanted, 0.0)
    rank = np.clip(np.ceil(np.array(probabilities) * len(there)).astype(int) - 1, 0, None)
    assert np.array_equal(search.values[0], np.where(np.array(probabilities) >= 1, there[-1], there[rank]))


@given(st.lists(st.lists(st.integers(-2, 2), max_size=6), min_size=2, max_size=4))
def test_counts_of_numbers_add_up(parts):
    """Counts of a union are the sum of the counts."""
    arrays = [np.array(part, dtype=float) for part in parts]
    total, whole = reduce(add, map(NumberCounts.of, arrays)), NumberCounts.of(np.concatenate(arrays))
    assert np.array_equal(total.numbers, whole.numbers)
    assert np.array_equal(total.counts, whole.counts)


DOCUMENTS = [["a", "b", "c"], ["a", "b", "b", "c", "a"], [], ["é", "a", "日本"], ["é", "d", "d", "d", "d"], ["a", "é"]]


@pytest.mark.parametrize(
    "params",
    [
        {"vocabSize": 3},
        {"minDF": 2.0},
        {"minDF": 0.4, "maxDF": 0.6},
        {"maxDF": 2.0, "binary": True},
        {"minTF": 2.0},
        {"minTF": 0.4, "binary": True},
    ],
)
def test_count_vectors_are_those_of_mllib(spark, params):
    """Vocabularies are MLlib's up to the order of ties, and counts MLlib's for each word."""
    plain = spark_frame(spark, "words array<string>", DOCUMENTS)
    theirs = feature.CountVectorizer(inputCol="words", outputCol="out", **params).fit(plain)
    ours = fitted("CountVectorizer", pa.array(DOCUMENTS), **params)
    assert sorted(ours.vocabulary) == sorted(theirs.vocabulary)
    made = np.array(listed(transformed(ours, pa.array(DOCUMENTS)).columns["output"]))
    expected = np.array(collected(theirs.transform(plain), "out"))
    assert np.array_equal(made[:, np.argsort(ours.vocabulary)], expected[:, np.argsort(theirs.vocabulary)])
    everywhere = [word for document in DOCUMENTS for word in document]
    frequencies = [everywhere.count(word) for word in ours.vocabulary]
    assert frequencies == sorted(frequencies, reverse=True)


def test_an_empty_vocabulary_is_refused():
    """A vocabulary without words, and bounds that exclude each other, are refused."""
    for params in ({"minDF": 9.0}, {"minDF": 3.0, "maxDF": 2.0}):
        with pytest.raises(DataError):
            fitted("CountVectorizer", pa.array(DOCUMENTS), **params)


def test_words_outside_of_the_vocabulary_count_for_nothing():
    """New words and nulls have no slot, and a document of them is a vector of zeros."""
    model = fitted("CountVectorizer", pa.array(DOCUMENTS), minDF=3.0)
    assert model.vocabulary == ("a", "é")
    assert listed(transformed(model, pa.array([["x", None, "é"], ["x"]])).columns["output"]) == [[0.0, 1.0], [0.0, 0.0]]


@pytest.mark.parametrize("operation", ["MinMaxScaler", "MaxAbsScaler", "RobustScaler", "IDF", "VectorIndexer"])
def test_nothing_is_learned_of_nothing(operation):
    """A dataset without rows is refused, and vectors of another size than the model's are."""
    with pytest.raises(DataError):
        fitted(operation, pa.array([], pa.list_(pa.float64())))
    with pytest.raises(DataError):
        transformed(fitted(operation, to_stored(DENSE)), Column(Vector.of(np.ones((2, 3)))))


@pytest.mark.parametrize(
    ("operation", "wrong"),
    [
        ("MinMaxScaler", {"min": 1.0, "max": 1.0}),
        ("RobustScaler", {"lower": 0.8, "upper": 0.2}),
        ("RobustScaler", {"relativeError": 2.0}),
        ("QuantileDiscretizer", {"numBuckets": 1}),
        ("QuantileDiscretizer", {"numBucketsArray": (3, 1)}),
        ("Imputer", {"strategy": "sum"}),
        ("VectorIndexer", {"maxCategories": 1}),
        ("VectorIndexer", {"handleInvalid": "drop"}),
        ("CountVectorizer", {"vocabSize": 0}),
        ("CountVectorizer", {"minTF": -1.0}),
        ("IDF", {"minDocFreq": -1}),
    ],
)
def test_params_out_of_their_domain_are_refused(operation, wrong):
    """A value outside of a Param's domain is refused, and the defaults are accepted."""
    build(operation, {})
    with pytest.raises(UsageError):
        build(operation, wrong)
