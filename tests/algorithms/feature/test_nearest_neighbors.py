"""Are the rows nearest to a key those that pyspark.ml finds, as many as were asked for?"""

from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
import pyarrow as pa
import pytest
from pyspark.ml import feature
from pyspark.ml.linalg import Vectors
from scipy import sparse

from securemllib.algorithms.base import Block
from securemllib.algorithms.codec import to_tree
from securemllib.algorithms.feature.nearest_neighbors import NearestNeighbors
from securemllib.algorithms.registry import build
from securemllib.algorithms.transformer import Column
from securemllib.algorithms.vectors import SparseVector as SparseRows
from securemllib.algorithms.vectors import Vector, to_stored
from securemllib.errors import DataError, UsageError
from securemllib.ml.features.hashing import _told
from tests.algorithms.feature.running import fitted, transformed

GENERATOR = np.random.default_rng(8)
MATRIX = np.round(np.where(GENERATOR.random((60, 5)) < 0.6, GENERATOR.normal(0.0, 3.0, (60, 5)), 0.0), 1)
MATRIX[:, 0] = 1.0
MATRIX[40:] = MATRIX[:20]
HASHES = [("BucketedRandomProjectionLSH", {"bucketLength": 3.0}), ("MinHashLSH", {})]
KEYS = [Vectors.dense([1.0, 0.0, 2.5, 0.0, -1.3]), Vectors.sparse(5, [0, 1], [1.0, 0.7])]


def _blocks(distances, draws, parts=3):
    cuts = np.array_split(np.arange(len(draws)), parts)
    raws = [{"input0": distances.take(pa.array(cut)), "input1": pa.array(draws[cut])} for cut in cuts]
    return [
        Block(ordinal=ordinal, features=np.zeros((len(raw["input1"]), 0)), offset=np.zeros(0), raw=raw) for ordinal, raw in enumerate(raws)
    ]


@pytest.fixture(scope="module")
def plain(spark):
    """The rows in Spark, with their numbers."""
    rows = [(number, Vectors.dense(row)) for number, row in enumerate(MATRIX.tolist())]
    return spark.createDataFrame(rows, ["number", "v"]).coalesce(1).cache()


@pytest.mark.parametrize("key", KEYS, ids=["dense", "sparse"])
@pytest.mark.parametrize(("operation", "params"), HASHES)
def test_neighbors_are_those_of_mllib(plain, fit, operation, params, key):
    """Of any number of neighbours the distances are MLlib's to the bit, and so are the rows that are nearer than the last ones."""
    params = {**params, "numHashTables": 2, "seed": 4}
    theirs = getattr(feature, operation)(inputCol="v", outputCol="out", **params).fit(plain)
    everyone = {row.number: row.distCol for row in theirs.approxNearestNeighbors(plain, key, 1000).collect()}
    assert 4 < len(everyone) < len(MATRIX) or operation == "MinHashLSH"
    draws = np.random.default_rng(1).random(len(MATRIX))
    for vector in (Vector.of(MATRIX), SparseRows(sparse.csr_array(MATRIX))):
        model = replace(fitted(operation, to_stored(vector), **params), key=_told(key))
        distances = transformed(model, Column(vector)).columns["distance"].values
        assert {number: far for number, far in enumerate(distances.to_pylist()) if far is not None} == everyone
        for count in (1, 7, 1000):
            wanted = theirs.approxNearestNeighbors(plain, key, count).select("number", "distCol").collect()
            nearness = fit(build("NearestNeighbors", {"numNearestNeighbors": count}), _blocks(distances, draws))
            kept = transformed(nearness, Column(distances), Column(pa.array(draws))).columns["output"].values.to_pylist()
            found = {number: far for number, far in enumerate(kept) if far is not None}
            assert sorted(found.values()) == [row.distCol for row in wanted]
            last = max(found.values())
            assert {number for number, far in found.items() if far < last} == {row.number for row in wanted if row.distCol < last}


def test_equally_near_rows_are_as_many_as_asked_for(fit):
    """Of rows that are equally far those with the smallest draws stay; where nobody shares a bucket nobody does."""
    distances, draws = pa.array([2.0, 1.0, None, 1.0, 1.0, 2.0]), np.array([0.1, 0.9, 0.0, 0.2, 0.5, 0.3])
    for count, wanted in ((1, [3]), (2, [3, 4]), (3, [1, 3, 4]), (4, [0, 1, 3, 4]), (9, [0, 1, 3, 4, 5])):
        nearness = fit(NearestNeighbors(num_nearest_neighbors=count), _blocks(distances, draws))
        kept = transformed(nearness, Column(distances), Column(pa.array(draws))).columns["output"].values
        assert [number for number, far in enumerate(kept.to_pylist()) if far is not None] == wanted
    nobody = pa.array([None, None], pa.float64())
    nearness = fit(NearestNeighbors(num_nearest_neighbors=2), _blocks(nobody, np.zeros(2), 1))
    assert transformed(nearness, Column(nobody), Column(pa.array(np.zeros(2)))).columns["output"].values.null_count == 2


def test_statistics_do_not_tell_how_many_rows_are_near():
    """Those of a part in which nobody is near are as long as those of any other, and add up to the same in any order."""
    algorithm = NearestNeighbors(num_nearest_neighbors=3)
    distances = pa.array([None, None, 1.0, 4.0, 2.0, 3.0])
    parts = [algorithm.statistics(algorithm.initial(None, None), block) for block in _blocks(distances, np.linspace(0.0, 0.9, 6))]
    assert [len(part.distances) for part in parts] == [3, 3, 3]
    assert to_tree(reduce(add, parts)) == to_tree(reduce(add, parts[::-1]))
    assert reduce(add, parts).distances.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("key", [Vectors.dense([1.0] * 4), Vectors.sparse(6, [0], [1.0])], ids=["short", "long"])
@pytest.mark.parametrize(("operation", "params"), HASHES)
def test_a_key_of_another_size_is_refused(operation, params, key):
    """A key with more or fewer slots than the vectors is an error, beside one with as many; so is an empty set, which has no hash."""
    vector = Vector.of(MATRIX)
    model = fitted(operation, to_stored(vector), **params)
    assert transformed(replace(model, key=_told(KEYS[0])), Column(vector)).columns.keys() == {"output", "distance"}
    with pytest.raises(DataError) as refused:
        transformed(replace(model, key=_told(key)), Column(vector))
    assert refused.value.error_code == "data.length"
    if operation == "MinHashLSH":
        with pytest.raises(DataError):
            transformed(replace(model, key=_told(Vectors.dense([0.0] * 5))), Column(vector))


@pytest.mark.parametrize(
    "key",
    [
        ((5.0,), (0.0, 1.0)),
        ((5.0, 5.0), (0.0,), (1.0,)),
        ((5.0,), (0.0, 1.0), (1.0,)),
        ((5.0,), (1.0, 0.0), (1.0, 1.0)),
        ((5.0,), (5.0,), (1.0,)),
        ((5.0,), (-1.0,), (1.0,)),
        ((5.0,), (0.5,), (1.0,)),
        ((5.0,), (0.0,), (float("nan"),)),
    ],
)
def test_what_is_no_key_is_refused(key):
    """A key that a plan made up is refused where its slots do not ascend below its size or a value is no finite number."""
    model = fitted("MinHashLSH", to_stored(Vector.of(MATRIX)))
    assert replace(model, key=((5.0,), (), ())).key
    with pytest.raises(UsageError):
        replace(model, key=key)


@pytest.mark.parametrize("count", [0, True, 1.5, 1 << 30])
def test_numbers_of_neighbors_out_of_their_domain_are_refused(count):
    """At least one row is asked for, and no more than a message holds."""
    assert build("NearestNeighbors", {"numNearestNeighbors": 1}).num_nearest_neighbors == 1
    with pytest.raises(UsageError):
        build("NearestNeighbors", {"numNearestNeighbors": count})
