"""Do summaries, correlations and tests of independence give pyspark.ml's numbers, of dense and of sparse vectors?"""

import numpy as np
import pyarrow as pa
import pytest
from pyspark.ml import stat
from pyspark.ml.linalg import Vectors
from pyspark.sql.functions import col
from scipy import sparse

from securemllib.algorithms.registry import build
from securemllib.algorithms.vectors import SparseVector, Vector, to_stored
from securemllib.errors import DataError, UsageError
from tests.algorithms.conftest import fit_blocks
from tests.algorithms.feature.running import fitted, raw_blocks

GENERATOR = np.random.default_rng(8)
COUNTED, MEASURED = GENERATOR.poisson(0.5, 50), GENERATOR.normal(1e3, 2.0, 50).round(1)
MATRIX = np.column_stack([GENERATOR.integers(0, 3, 50), MEASURED, np.full(50, 2.0), COUNTED])
LABEL, WEIGHT = GENERATOR.integers(0, 3, 50).astype(float), GENERATOR.integers(0, 4, 50).astype(float)
STORED = [to_stored(Vector.of(MATRIX)), to_stored(SparseVector(sparse.csr_array(MATRIX)))]


@pytest.fixture(scope="module")
def plain(spark):
    """The rows in the clear."""
    rows = [
        (Vectors.dense(row), label, weight) for row, label, weight in zip(MATRIX.tolist(), LABEL.tolist(), WEIGHT.tolist(), strict=True)
    ]
    return spark.createDataFrame(rows, ["features", "label", "weight"]).coalesce(2).cache()


@pytest.mark.parametrize("weighted", [True, False])
def test_summaries_are_those_of_mllib(plain, weighted):
    """Every metric is MLlib's to 1e-9, with and without weights, rows of weight 0 among them."""
    from dataclasses import replace

    names = ["mean", "sum", "variance", "std", "count", "numNonZeros", "max", "min", "normL1", "normL2"]
    arguments = [col("features"), col("weight")] if weighted else [col("features")]
    theirs = plain.select(stat.Summarizer.metrics(*names).summary(*arguments)).collect()[0][0]
    for stored in STORED:
        blocks = raw_blocks(stored)
        if weighted:
            blocks = [replace(block, weight=weight) for block, weight in zip(blocks, np.array_split(WEIGHT, 3), strict=True)]
        ours = fit_blocks(build("Summarizer", {}), blocks)
        fields = ["mean", "sum", "variance", "std", "count", "num_non_zeros", "max", "min", "norm_l1", "norm_l2"]
        for field, name in zip(fields, names, strict=True):
            # The variance beside a mean of 1000 loses six of sixteen digits.
            assert np.allclose(getattr(ours, field), np.array(theirs[name]), rtol=1e-9, atol=1e-9), name


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_correlations_are_those_of_mllib(plain, method):
    """Correlations are MLlib's to 1e-6, for MLlib subtracts squares of large means; ties share ranks, a constant slot has none."""
    theirs = stat.Correlation.corr(plain, "features", method).collect()[0][0].toArray()
    for stored in STORED:
        ours = fitted("Correlation", stored, method=method).matrix
        assert np.allclose(ours, theirs, rtol=0, atol=1e-6, equal_nan=True)
        assert np.array_equal(np.diag(ours), np.ones(4))
        assert np.isnan(ours[0, 2])


def test_tests_of_independence_are_those_of_mllib(plain):
    """Statistics, degrees of freedom and p-values are MLlib's to 1e-9, a constant slot's too."""
    theirs = stat.ChiSquareTest.test(plain, "features", "label").collect()[0]
    for stored in STORED:
        ours = fitted("ChiSquareTest", stored, label=LABEL)
        assert np.allclose(ours.p_values, theirs.pValues.toArray(), rtol=1e-9, atol=1e-12)
        assert ours.degrees_of_freedom.tolist() == list(theirs.degreesOfFreedom)
        assert np.allclose(ours.statistics, theirs.statistics.toArray(), rtol=1e-9, atol=1e-12)


def test_too_many_categories_are_refused():
    """More distinct values than MLlib takes for categories are refused, and as many are not."""
    for values, refused in ((np.arange(10_000), False), (np.arange(1, 10_003), True)):
        stored = to_stored(Vector.of(values[:, None].astype(float)))
        label = np.zeros(len(values))
        if refused:
            with pytest.raises(DataError):
                fitted("ChiSquareTest", stored, label=label)
        else:
            assert fitted("ChiSquareTest", stored, label=label).p_values.tolist() == [1.0]


@pytest.mark.parametrize("operation", ["Summarizer", "Correlation", "ChiSquareTest"])
def test_nothing_is_told_of_nothing(operation):
    """A dataset without rows, and one with a NaN, are refused."""
    for values in ([], [[float("nan")], [1.0]]):
        with pytest.raises(DataError):
            fitted(operation, pa.array(values, pa.list_(pa.float64())), label=np.zeros(len(values)))


def test_params_out_of_their_domain_are_refused():
    """An unknown method is refused, and a known one is not."""
    build("Correlation", {"method": "spearman"})
    with pytest.raises(UsageError):
        build("Correlation", {"method": "kendall"})
