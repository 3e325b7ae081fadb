"""Does StandardScaler scale as pyspark.ml's does?"""

import numpy as np
import pytest
from pyspark.ml.feature import StandardScaler as SparkStandardScaler
from pyspark.ml.linalg import Vectors
from scipy import sparse

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.standard_scaler import StandardScaler
from securemllib.algorithms.transformer import Column
from securemllib.algorithms.vectors import SparseVector, Vector
from securemllib.errors import DataError

SEED = Seed(bytes(32))


@pytest.fixture(scope="module")
def rows():
    """Columns of very different size, the last one constant."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(60, 4)) * [1, 100, 1e-3, 1] + [0, 1e4, 5, 0]
    rows[:, 3] = 7.5
    return rows


def scaled(model, rows):
    """Return the scaled rows as a matrix."""
    return model.transform((Column(Vector.of(rows)),)).columns["output"].values.matrix()


@pytest.mark.parametrize("with_mean", [False, True])
@pytest.mark.parametrize("with_std", [False, True])
def test_output_mean_and_std_are_mllibs(spark, fit, cut, rows, with_mean, with_std):
    """Every combination of Params gives MLlib's mean, standard deviation and output, a constant column included."""
    frame = spark.createDataFrame([(Vectors.dense(row),) for row in rows], ["x"])
    theirs = SparkStandardScaler(inputCol="x", outputCol="y", withMean=with_mean, withStd=with_std).fit(frame)
    expected = np.array([row.y.toArray() for row in theirs.transform(frame).collect()])
    ours = fit(StandardScaler(with_mean=with_mean, with_std=with_std), cut(rows), SEED)
    # float64 on both sides; only the order of additions differs.
    np.testing.assert_allclose(ours.mean, theirs.mean.toArray(), rtol=1e-12)
    np.testing.assert_allclose(ours.std, theirs.std.toArray(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(scaled(ours, rows), expected, rtol=1e-9, atol=1e-9)


def test_a_constant_column_becomes_zero(fit, cut, rows):
    """A column without spread is scaled by 0, its neighbours are not."""
    output = scaled(fit(StandardScaler(), cut(rows), SEED), rows)
    assert (output[:, 3] == 0).all()
    assert (output[:, :3] != 0).any(axis=0).all()


def test_the_input_is_not_changed(fit, cut, rows):
    """Scaling returns new rows and leaves the caller's as they are."""
    before = rows.copy()
    scaled(fit(StandardScaler(with_mean=False), cut(rows), SEED), rows)
    np.testing.assert_array_equal(rows, before)


def test_no_rows_and_other_widths_are_refused(fit, cut, rows):
    """An empty dataset, and rows of another width than the model's, raise DataError; the model's own width does not."""
    with pytest.raises(DataError):
        fit(StandardScaler(), cut(np.zeros((0, 4))), SEED)
    model = fit(StandardScaler(), cut(rows), SEED)
    with pytest.raises(DataError):
        scaled(model, rows[:, :3])
    assert scaled(model, rows).shape == rows.shape


@pytest.mark.parametrize("with_mean", [False, True])
def test_sparse_rows_are_scaled_as_dense_ones_and_stay_sparse(fit, cut, rows, with_mean):
    """Sparse rows give the mean and deviation of the same dense rows, and sparse rows unless the mean is subtracted."""
    rows = np.where(np.arange(len(rows))[:, None] % 3 == 0, rows, 0.0)
    blocks = [Block(ordinal=0, features=np.zeros((len(rows), 0)), offset=np.zeros(4), sparse=sparse.csr_array(rows))]
    model, dense = fit(StandardScaler(with_mean=with_mean), blocks, SEED), fit(StandardScaler(with_mean=with_mean), cut(rows), SEED)
    np.testing.assert_allclose([model.mean, model.std], [dense.mean, dense.std], rtol=1e-12)
    made = model.transform((Column(SparseVector(sparse.csr_array(rows))),)).columns["output"].values
    assert isinstance(made, Vector if with_mean else SparseVector)
    np.testing.assert_allclose(made.matrix(), scaled(dense, rows), rtol=1e-9, atol=1e-9)
