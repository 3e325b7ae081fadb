"""Does a Gaussian mixture make MLlib's and scikit-learn's steps, and find separated clusters from its own start?"""

from dataclasses import replace
from functools import reduce
from operator import add
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pyspark.mllib.clustering import GaussianMixture as OldGaussianMixture
from pyspark.mllib.linalg import DenseMatrix, Vectors
from sklearn import mixture

from securemllib.algorithms.base import Seed
from securemllib.algorithms.gaussian_mixture import GaussianMixture
from securemllib.algorithms.registry import build
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError, UsageError

SEED = Seed(b"g" * 32)


def _rows(separation: float = 2.0, shift: float = 0.0) -> np.ndarray:
    generator = np.random.default_rng(8)
    centres = np.array([[0.0, 0.0, 0.0], [1.0, 1.0, -1.0], [-1.0, 1.5, 1.0]]) * separation
    mixing = generator.standard_normal((3, 3, 3)) * 0.4 + np.eye(3)
    chosen = generator.integers(3, size=240)
    return centres[chosen] + np.einsum("nij,nj->ni", mixing[chosen], generator.standard_normal((240, 3))) + shift


def _start(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.array([0.5, 0.3, 0.2]), rows[[0, 1, 2]], np.stack([np.cov(rows.T)] * 3)


def _run(algorithm: Any, blocks: Any, start: Any) -> Any:
    """Make steps from given parameters."""
    state = algorithm.begun(algorithm.initial(reduce(add, map(Summary.of, blocks)), SEED), *start)
    while not algorithm.is_done(state):
        state = algorithm.update(state, reduce(add, (algorithm.statistics(state, block) for block in blocks)))
    return algorithm.to_model(state)


@pytest.mark.parametrize("steps", [1, 3, 12])
@pytest.mark.parametrize("shift", [0.0, 1000.0])
@pytest.mark.parametrize(("dtype", "allowed"), [(np.float64, 1e-9), (np.float32, 2e-5)])
def test_from_the_same_parameters_steps_are_scikit_learns(steps: int, shift: float, dtype: Any, allowed: float, cut: Any) -> None:
    """From equal parameters weights, means and covariances equal scikit-learn's after any number of steps, wherever the rows lie."""
    rows = _rows()
    weights, means, covariances = _start(rows)
    theirs = mixture.GaussianMixture(
        3, max_iter=steps, tol=0.0, reg_covar=0.0, weights_init=weights, means_init=means, precisions_init=np.linalg.inv(covariances)
    )
    with pytest.warns(Warning, match="converge"):
        theirs.fit(rows)
    model = _run(GaussianMixture(k=3, max_iter=steps, tol=0.0), cut(rows + shift, dtype=dtype), (weights, means + shift, covariances))
    # A mean of 1000 has been rounded to 1e-13, and float32 rows to 1e-7 of their distance to the block's centre.
    allowed = max(allowed, 1e-9 * (1 + shift))
    np.testing.assert_allclose(model.weights, theirs.weights_, atol=allowed)
    np.testing.assert_allclose(model.means - shift, theirs.means_, atol=allowed)
    np.testing.assert_allclose(model.covariances, theirs.covariances_, atol=allowed)
    assert model.num_iter == steps
    expected = theirs.predict_proba(rows)
    found = model.predict(rows + shift)
    np.testing.assert_allclose(found["probability"], expected, atol=10 * allowed)
    np.testing.assert_array_equal(np.bincount(found["prediction"].astype(int), minlength=3), model.cluster_sizes)


@pytest.mark.parametrize("tol", [1e-3, 5.0])
def test_from_the_same_parameters_steps_are_mllibs(spark: Any, tol: float, cut: Any) -> None:
    """From equal parameters MLlib ends after as many steps with the same mixture."""
    rows = _rows()
    weights, means, covariances = _start(rows)
    gaussians = [
        SimpleNamespace(mu=Vectors.dense(mean), sigma=DenseMatrix(3, 3, covariance.ravel()))
        for mean, covariance in zip(means, covariances, strict=True)
    ]
    first = SimpleNamespace(k=3, weights=weights.tolist(), gaussians=gaussians)
    rdd = spark.sparkContext.parallelize([Vectors.dense(row) for row in rows], 2)
    theirs = OldGaussianMixture.train(rdd, 3, convergenceTol=tol, maxIterations=100, initialModel=first)
    ours = _run(GaussianMixture(k=3, tol=tol), cut(rows), (weights, means, covariances))
    assert 1 < ours.num_iter < 100
    # No density here is near the 2e-16 that MLlib adds, and the sums of 240 rows are rounded.
    np.testing.assert_allclose(ours.weights, theirs.weights, atol=1e-9)
    np.testing.assert_allclose(ours.means, [gaussian.mu for gaussian in theirs.gaussians], atol=1e-9)
    np.testing.assert_allclose(ours.covariances, [gaussian.sigma.toArray() for gaussian in theirs.gaussians], atol=1e-9)


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_separated_clusters_are_found_as_mllib_finds_them(weighted: bool, dtype: Any, spark: Any, fit: Any, cut: Any, frame: Any) -> None:
    """On separated clusters a mixture from drawn rows has MLlib's weights, means and covariances, whichever rows either drew."""
    from pyspark.ml.clustering import GaussianMixture as SparkMixture

    rows = _rows(separation=12.0)
    weight = np.random.default_rng(2).integers(1, 4, len(rows)).astype(float)
    data = frame(rows, np.zeros(len(rows)), weight)
    params = {"k": 3, "tol": 1e-9, "maxIter": 60}
    # Both sides may start in a local optimum: the best of a few starts is the clusters.
    trained = [SparkMixture(**params, seed=seed, **({"weightCol": "weight"} if weighted else {})).fit(data) for seed in range(4)]
    theirs = max(trained, key=lambda model: model.summary.logLikelihood)
    blocks = cut(rows, dtype=dtype, weight=weight if weighted else None)
    ours = max(
        (fit(build("GaussianMixture", params), blocks, Seed(bytes([seed]) * 32)) for seed in range(6)), key=lambda m: m.log_likelihood
    )
    order = np.argsort(ours.means[:, 0])
    gaussians = sorted(zip(theirs.gaussians, theirs.weights, strict=True), key=lambda pair: pair[0].mean[0])
    # The components do not overlap, so that the steps end at the clusters' own moments; float32 rows are rounded to 1e-6.
    allowed = 1e-8 if dtype == np.float64 else 1e-5
    np.testing.assert_allclose(ours.weights[order], [share for _, share in gaussians], atol=allowed)
    np.testing.assert_allclose(ours.means[order], [gaussian.mean.toArray() for gaussian, _ in gaussians], atol=allowed)
    np.testing.assert_allclose(ours.covariances[order], [gaussian.cov.toArray() for gaussian, _ in gaussians], atol=10 * allowed)
    assert ours.log_likelihood == pytest.approx(theirs.summary.logLikelihood, rel=allowed)
    assert ours.cluster_sizes.sum() == len(rows)


def test_cut_order_and_weight_do_not_matter(cut: Any) -> None:
    """Sums of a step are the same for any cut, any order, and for weights or copies of rows."""
    rows = _rows()
    weight = np.random.default_rng(3).integers(0, 4, len(rows))
    order = np.random.default_rng(4).permutation(len(rows))
    algorithm = GaussianMixture(k=3)
    (whole,) = cut(rows, weight=weight.astype(float), parts=1)
    state = algorithm.begun(algorithm.initial(Summary.of(whole), SEED), *_start(rows))
    total = algorithm.statistics(state, whole)
    for blocks in (cut(rows[order], weight=weight[order].astype(float), parts=5), cut(np.repeat(rows, weight, axis=0), parts=2)):
        sums = reduce(add, (algorithm.statistics(state, block) for block in blocks))
        for name in ("weight", "sums", "products", "log_likelihood"):
            np.testing.assert_allclose(getattr(sums, name), getattr(total, name), rtol=1e-9, atol=1e-9, err_msg=name)


def test_a_seed_names_one_training(fit: Any, cut: Any) -> None:
    """The same seed gives the same bytes, another seed another start; rows are drawn evenly from parts of any size."""
    rows = _rows()
    one, same, other = (fit(GaussianMixture(k=3, max_iter=0), cut(rows), Seed(name * 32)).means for name in (b"a", b"a", b"b"))
    assert one.tobytes() == same.tobytes()
    assert one.tobytes() != other.tobytes()
    label = np.arange(240.0)[:, np.newaxis]
    drawn = [
        fit(GaussianMixture(k=40, max_iter=0), [*cut(label[:30]), *_renumbered(cut(label[30:]))], Seed(bytes([i]) * 32)) for i in range(40)
    ]
    means = np.concatenate([model.means[:, 0] for model in drawn])
    # 8000 rows drawn evenly from 0 to 239 have a mean within four standard errors, 69.3 / sqrt(8000), of the middle.
    assert abs(means.mean() - 119.5) < 4 * 69.3 / np.sqrt(8000)


def _renumbered(blocks: Any) -> Any:
    return [replace(block, ordinal=block.ordinal + 10) for block in blocks]


def test_rows_of_weight_zero_are_no_rows(fit: Any, cut: Any) -> None:
    """Rows of weight 0 are neither drawn nor counted in any mean."""
    rows = np.concatenate([_rows(), np.full((300, 3), 1e6)])
    model = fit(GaussianMixture(k=2, max_iter=5), cut(rows, weight=np.repeat([1.0, 0.0], [240, 300]), parts=4), SEED)
    assert np.abs(model.means).max() < 100.0


def test_a_constant_column_has_no_part(fit: Any, cut: Any) -> None:
    """A column without variance changes no weight and no mean of the others, in float32 too."""
    rows = _rows(separation=12.0)
    plain = fit(GaussianMixture(k=3, max_iter=8), cut(rows, dtype=np.float32), SEED)
    more = fit(GaussianMixture(k=3, max_iter=8), cut(np.column_stack([rows, np.full(240, 7.3)]), dtype=np.float32), SEED)
    np.testing.assert_allclose(more.weights, plain.weights, atol=1e-6)
    np.testing.assert_allclose(more.means, np.column_stack([plain.means, np.full(3, 7.3)]), atol=1e-5)


def test_rows_far_from_every_mean_have_probabilities(cut: Any) -> None:
    """Where every density underflows the nearer component still has the row, and probabilities add up to 1."""
    rows = _rows()
    model = _run(GaussianMixture(k=3, max_iter=3), cut(rows), _start(rows))
    found = model.predict(rows * 1e4)
    np.testing.assert_allclose(found["probability"].sum(axis=1), 1.0)
    assert np.isfinite(found["probability"]).all()
    assert len(set(found["prediction"])) > 1


def test_equal_rows_are_refused(fit: Any, cut: Any) -> None:
    """Rows without any variance, and more components than rows, are refused by a code; two distinct rows are enough for a start."""
    fit(GaussianMixture(k=2, max_iter=0), cut(np.array([[1.0, 2.0], [3.0, 5.0]] * 10)), SEED)
    with pytest.raises(DataError) as caught:
        fit(GaussianMixture(k=2, max_iter=3), cut(np.full((20, 2), 3.0)), SEED)
    assert caught.value.error_code == "data.collapsed"
    with pytest.raises(DataError) as caught:
        fit(GaussianMixture(k=30), cut(np.random.default_rng(1).normal(size=(20, 2))), SEED)
    assert caught.value.error_code == "data.collapsed"


@pytest.mark.parametrize("params", [{"k": 1}, {"maxIter": -1}, {"tol": -0.1}, {"tol": float("nan")}, {"initMode": "random"}])
def test_params_out_of_their_domain_are_refused(params: dict[str, Any]) -> None:
    """What MLlib refuses is refused, beside the defaults."""
    build("GaussianMixture", {})
    with pytest.raises(UsageError):
        build("GaussianMixture", params)
