"""Does StandardScaler scale as pyspark.ml's does?"""

import numpy as np
import pytest
from pyspark.ml.feature import StandardScaler as SparkStandardScaler
from pyspark.ml.linalg import Vectors

from securemllib.algorithms.base import Seed
from securemllib.algorithms.standard_scaler import StandardScaler
from securemllib.errors import DataError

SEED = Seed(bytes(32))


@pytest.fixture(scope="module")
def rows():
    """Columns of very different size, the last one constant."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(60, 4)) * [1, 100, 1e-3, 1] + [0, 1e4, 5, 0]
    rows[:, 3] = 7.5
    return rows


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
    np.testing.assert_allclose(ours.predict(rows)["output"], expected, rtol=1e-9, atol=1e-9)


def test_a_constant_column_becomes_zero(fit, cut, rows):
    """A column without spread is scaled by 0, its neighbours are not."""
    output = fit(StandardScaler(), cut(rows), SEED).predict(rows)["output"]
    assert (output[:, 3] == 0).all()
    assert (output[:, :3] != 0).any(axis=0).all()


def test_the_input_is_not_changed(fit, cut, rows):
    """Scaling returns new rows and leaves the caller's as they are."""
    before = rows.copy()
    fit(StandardScaler(with_mean=False), cut(rows), SEED).predict(rows)
    np.testing.assert_array_equal(rows, before)


def test_no_rows_and_other_widths_are_refused(fit, cut, rows):
    """An empty dataset, and rows of another width than the model's, raise DataError; the model's own width does not."""
    with pytest.raises(DataError):
        fit(StandardScaler(), cut(np.zeros((0, 4))), SEED)
    model = fit(StandardScaler(), cut(rows), SEED)
    with pytest.raises(DataError):
        model.predict(rows[:, :3])
    assert model.predict(rows)["output"].shape == rows.shape
