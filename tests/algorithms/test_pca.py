"""Does PCA find the components that pyspark.ml's finds, in float32 too?"""

import functools
import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.ml import feature as spark_feature
from pyspark.ml.linalg import Vectors

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.pca import PCA, PCAState
from securemllib.errors import DataError, UsageError

SEED = Seed(bytes(32))


def _block(rows, ordinal=0, dtype=np.float64, centre=True):
    offset = rows.mean(axis=0) if centre and len(rows) else np.zeros(rows.shape[1])
    return Block(ordinal=ordinal, features=np.ascontiguousarray((rows - offset).astype(dtype)), offset=offset)


def _rows(seed, n=200, d=6):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 1000 * rng.normal(size=d)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("k", [1, 3, 6])
def test_components_variance_and_output_are_mllibs(spark, fit, cut, dtype, k):
    """Components up to their sign, explained variance, and the output of rows far from 0 equal MLlib's."""
    rows = _rows(2)
    frame = spark.createDataFrame([(Vectors.dense(row),) for row in rows], ["x"])
    theirs = spark_feature.PCA(k=k, inputCol="x", outputCol="y").fit(frame)
    expected = np.array([row.y.toArray() for row in theirs.transform(frame).collect()])
    ours = fit(PCA(k=k), cut(rows, dtype=dtype), SEED)
    pc = theirs.pc.toArray()
    sign = np.sign((ours.pc * pc).sum(axis=0))
    # MLlib's own covariance of columns with mean/sd near 500 loses about six of sixteen digits; float32 blocks keep seven.
    np.testing.assert_allclose(ours.explained_variance, theirs.explainedVariance.toArray(), atol=1e-6)
    np.testing.assert_allclose(ours.pc * sign, pc, atol=1e-5)
    np.testing.assert_allclose(ours.predict(rows)["output"] * sign, expected, rtol=1e-4, atol=0.05)


def test_float32_equals_float64_at_any_distance_from_zero(fit, cut):
    """Blocks in float32 explain the same variance as a singular value decomposition in float64, with means a million deviations away."""
    rows = np.random.default_rng(3).normal(size=(10_000, 8)) * np.arange(1, 9) + 1e6
    values = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False) ** 2
    ours = fit(PCA(k=8), cut(rows, parts=5, dtype=np.float32), SEED)
    np.testing.assert_allclose(ours.explained_variance, values / values.sum(), atol=1e-6)


def test_the_largest_entry_of_a_component_is_positive(fit, cut):
    """The sign of a component is fixed by its entry of largest magnitude."""
    pc = fit(PCA(k=6), cut(_rows(4)), SEED).pc
    assert (pc[np.abs(pc).argmax(axis=0), np.arange(6)] > 0).all()
    np.testing.assert_allclose(pc.T @ pc, np.eye(6), atol=1e-12)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(0, 40), st.booleans())
def test_statistics_of_a_union_are_the_sum(seed, first, second, centre):
    """Statistics of two blocks add up to those of their union, in any order of the rows, empty blocks and uncentred ones included."""
    rng = np.random.default_rng(seed)
    one, other = rng.normal(size=(first, 3)) + 5, rng.normal(size=(second, 3)) * 3
    algorithm, state = PCA(k=1), PCAState(mean=np.array([5.0, 0.0, 1.0]))
    union = algorithm.statistics(state, _block(rng.permutation(np.concatenate([one, other])), centre=centre))
    total = functools.reduce(operator.add, [algorithm.statistics(state, _block(part, centre=centre)) for part in (one, other)])
    assert total.rows == union.rows == first + second
    np.testing.assert_allclose(total.sums, union.sums, atol=1e-10)
    np.testing.assert_allclose(total.gram, union.gram, atol=1e-9)


def test_too_few_columns_or_rows_are_refused(fit, cut):
    """A k above the number of columns, one row, and k=0 are refused; k equal to the number of columns and two rows are not."""
    rows = _rows(5)
    with pytest.raises(DataError):
        fit(PCA(k=7), cut(rows), SEED)
    with pytest.raises(DataError):
        fit(PCA(k=1), cut(rows[:1], parts=1), SEED)
    with pytest.raises(UsageError):
        PCA(k=0)
    assert fit(PCA(k=6), cut(rows[:2], parts=1), SEED).pc.shape == (6, 6)


def test_rows_of_another_width_are_refused(fit, cut):
    """Projecting rows of another width raises DataError, of the training's width it does not."""
    model = fit(PCA(k=2), cut(_rows(6)), SEED)
    with pytest.raises(DataError):
        model.predict(np.zeros((2, 5)))
    assert model.predict(np.zeros((2, 6)))["output"].shape == (2, 2)
