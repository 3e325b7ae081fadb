"""Do locality-sensitive hashes equal those of pyspark.ml, of the same seed, and draw the numbers that Java draws?"""

import numpy as np
import pyarrow as pa
import pytest
from pyspark.ml import feature
from pyspark.ml.linalg import Vectors
from scipy import sparse

from securemllib.algorithms.feature.hash_tables import JavaRandom
from securemllib.algorithms.registry import build
from securemllib.algorithms.transformer import Column
from securemllib.algorithms.vectors import SparseVector, Vector, to_stored
from securemllib.errors import DataError, UsageError
from tests.algorithms.feature.running import fitted, transformed

GENERATOR = np.random.default_rng(3)
MATRIX = np.where(GENERATOR.random((40, 7)) < 0.5, GENERATOR.normal(0.0, 5.0, (40, 7)), 0.0)
MATRIX[:, 0] = 1.0
HASHES = [("BucketedRandomProjectionLSH", {"bucketLength": 0.7}), ("MinHashLSH", {})]


@pytest.mark.parametrize(("operation", "params"), HASHES)
@pytest.mark.parametrize("seed", [12345, -(2**63)])
def test_hashes_are_those_of_mllib(spark, operation, params, seed):
    """Every hash of every table is MLlib's of the same seed, of dense and of sparse vectors, explicit zeros among them."""
    rows = [(Vectors.dense(row),) for row in MATRIX.tolist()]
    plain = spark.createDataFrame(rows, ["dense"]).coalesce(1)
    params = {**params, "numHashTables": 5, "seed": seed}
    theirs = getattr(feature, operation)(inputCol="dense", outputCol="out", **params).fit(plain).transform(plain)
    expected = [[vector.toArray().tolist() for vector in row["out"]] for row in theirs.collect()]
    for vector in (Vector.of(MATRIX), SparseVector(sparse.csr_array(MATRIX)), SparseVector(_all_stored())):
        made = transformed(fitted(operation, to_stored(vector), **params), Column(vector)).columns["output"].values
        assert [[hashed["values"] for hashed in row] for row in made.to_pylist()] == expected


def _all_stored():
    rows, columns = MATRIX.shape
    indices = np.tile(np.arange(columns, dtype=np.int32), rows)
    return sparse.csr_array((MATRIX.ravel(), indices, np.arange(rows + 1, dtype=np.int32) * columns), shape=MATRIX.shape)


def test_numbers_are_those_of_java(spark):
    """Gaussians and integers are those of java.util.Random, one after the other."""
    for seed in (0, -1, 2**62 + 7):
        java = spark.sparkContext._jvm.java.util.Random(seed)
        # Java's logarithm and that of numpy may differ in the last bit.
        assert JavaRandom(seed).gaussians(40) == pytest.approx([java.nextGaussian() for _ in range(40)], rel=1e-15)
        java = spark.sparkContext._jvm.java.util.Random(seed)
        assert JavaRandom(seed).integers(40, 2038074742).tolist() == [java.nextInt(2038074742) for _ in range(40)]


def test_numbers_go_on_where_they_ended():
    """More numbers than are drawn at once begin with fewer, and do not repeat."""
    many, few = JavaRandom(5).integers(150_000, 1_000_003), JavaRandom(5).integers(10, 1_000_003)
    assert many[:10].tolist() == few.tolist()
    assert not np.array_equal(many[:65_000], many[65_536 : 65_536 + 65_000])
    # The generator's definition, one step after the other.
    state, found = (5 ^ 0x5DEECE66D) & (2**48 - 1), []
    while len(found) < 70_000:
        state = (state * 0x5DEECE66D + 0xB) & (2**48 - 1)
        if (state >> 17) < 2**31 // 1_000_003 * 1_000_003:
            found.append((state >> 17) % 1_000_003)
    assert many[:70_000].tolist() == found


@pytest.mark.parametrize(("operation", "params"), HASHES)
def test_nothing_is_hashed_of_nothing(operation, params):
    """A dataset without rows and vectors of another size than the model's are refused; a frame without rows has no hashes."""
    with pytest.raises(DataError):
        fitted(operation, pa.array([], pa.list_(pa.float64())), **params)
    model = fitted(operation, to_stored(Vector.of(MATRIX)), **params)
    assert len(transformed(model, pa.array([], pa.list_(pa.float64()))).columns["output"].values) == 0
    with pytest.raises(DataError):
        transformed(model, Column(Vector.of(MATRIX[:, 1:])))


def test_a_set_has_a_member():
    """A vector of zeros alone has no smallest hash and is refused, beside one with a value."""
    model = fitted("MinHashLSH", to_stored(Vector.of(MATRIX)))
    assert len(transformed(model, Column(Vector.of(np.eye(7)[:1]))).columns["output"].values) == 1
    with pytest.raises(DataError):
        transformed(model, Column(Vector.of(np.zeros((1, 7)))))


@pytest.mark.parametrize(
    ("operation", "wrong"),
    [
        ("BucketedRandomProjectionLSH", {"bucketLength": 0.0}),
        ("BucketedRandomProjectionLSH", {"bucketLength": None}),
        ("BucketedRandomProjectionLSH", {"numHashTables": 0}),
        ("MinHashLSH", {"numHashTables": 1 << 20}),
        ("MinHashLSH", {"seed": 2**63}),
        ("MinHashLSH", {"seed": 1.5}),
    ],
)
def test_params_out_of_their_domain_are_refused(operation, wrong):
    """A value outside of a Param's domain is refused, and what it takes the place of is accepted."""
    right = dict(HASHES)[operation]
    build(operation, right)
    with pytest.raises(UsageError):
        build(operation, {**right, **wrong})
