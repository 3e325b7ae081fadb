"""Does naive Bayes give MLlib's and scikit-learn's answer, for dense and sparse rows?"""

from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn import naive_bayes

from securemllib.algorithms.base import Block, Seed, idle_bounded
from securemllib.algorithms.registry import build
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError, UsageError

TYPES = ("multinomial", "complement", "bernoulli", "gaussian")


def _rows(model_type: str, *, rows: int = 300, seed: int = 3) -> tuple[Any, Any, Any]:
    generator = np.random.default_rng(seed)
    label = generator.integers(0, 3, rows).astype(float)
    rates = generator.uniform(0.1, 2.0, (3, 8))[label.astype(int)]
    features = generator.poisson(rates).astype(float)
    if model_type == "bernoulli":
        features = (features > 0).astype(float)
    if model_type == "gaussian":
        features = generator.standard_normal((rows, 8)) * [1.0, 2.0, 0.1, 1.0, 5.0, 1.0, 1.0, 30.0] + rates
    return features, label, generator.integers(1, 4, rows) / 2.0


def _sparse(features: Any, label: Any, weight: Any = None, *, parts: int = 3, dtype: Any = np.float64) -> list[Block]:
    return [
        Block(
            ordinal=ordinal,
            features=np.zeros((len(rows), 0), dtype=dtype),
            offset=np.zeros(features.shape[1]),
            sparse=csr_array(features[rows].astype(dtype)),
            label=label[rows],
            weight=None if weight is None else weight[rows],
        )
        for ordinal, rows in enumerate(np.array_split(np.arange(len(features)), parts))
    ]


def _compare(ours: Any, theirs: Any, tolerance: float) -> None:
    np.testing.assert_allclose(ours.pi, theirs.pi.toArray(), rtol=1e-12)
    np.testing.assert_allclose(ours.theta, theirs.theta.toArray(), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(ours.sigma, theirs.sigma.toArray().reshape(ours.sigma.shape), rtol=tolerance)


@pytest.mark.parametrize("model_type", TYPES)
@pytest.mark.parametrize("params", [{}, {"smoothing": 0.1, "thresholds": [0.2, 0.5, 0.3]}, {"thresholds": [0.0, 1.0, 2.0]}])
def test_models_and_predictions_are_mllibs(model_type: str, params: dict[str, Any], fit: Any, cut: Any, frame: Any) -> None:
    """Priors, terms, variances and all output columns are MLlib's, with weights, from dense and sparse rows."""
    from pyspark.ml.classification import NaiveBayes

    features, label, weight = _rows(model_type)
    data = frame(features, label, weight)
    theirs = NaiveBayes(modelType=model_type, weightCol="weight", **params).fit(data)
    expected = theirs.transform(data).select("rawPrediction", "probability", "prediction").collect()
    algorithm = build("NaiveBayes", {"modelType": model_type, **params})
    ours = fit(algorithm, cut(features, label, weight))
    # The values are sums of at most 300 rounded numbers; float32 rows are rounded to 6e-8 of their distance to the centre.
    for model, tolerance in (
        (ours, 1e-11),
        (fit(algorithm, _sparse(features, label, weight)), 1e-11),
        (fit(algorithm, cut(features, label, weight, dtype=np.float32)), 1e-6),
        (fit(algorithm, _sparse(features, label, weight, dtype=np.float32)), 1e-6),
    ):
        _compare(model, theirs, tolerance)
    for rows in (features, csr_array(features)):
        predicted = ours.predict(rows)
        for column in ("rawPrediction", "probability"):
            np.testing.assert_allclose(predicted[column], [row[column].toArray() for row in expected], rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(predicted["prediction"], [row["prediction"] for row in expected])


@pytest.mark.parametrize("model_type", ["multinomial", "complement", "bernoulli", "gaussian"])
def test_models_are_scikit_learns(model_type: str, fit: Any, cut: Any) -> None:
    """Terms, means and variances are scikit-learn's; MLlib alone smooths the priors too."""
    features, label, weight = _rows(model_type)
    peers = {
        "multinomial": naive_bayes.MultinomialNB(alpha=0.5),
        "complement": naive_bayes.ComplementNB(alpha=0.5),
        "bernoulli": naive_bayes.BernoulliNB(alpha=0.5),
        "gaussian": naive_bayes.GaussianNB(),
    }
    peer = peers[model_type].fit(features, label, sample_weight=weight)
    ours = fit(build("NaiveBayes", {"modelType": model_type, "smoothing": 0.5}), cut(features, label, weight))
    theta = peer.theta_ if model_type == "gaussian" else peer.feature_log_prob_
    np.testing.assert_allclose(ours.theta, theta, rtol=1e-10, atol=1e-12)
    if model_type == "gaussian":
        # scikit-learn's epsilon is a share of the variance without weights: both are 1e-9 of what is compared.
        np.testing.assert_allclose(ours.sigma, peer.var_, rtol=1e-5)
        np.testing.assert_allclose(np.exp(ours.pi), peer.class_prior_, rtol=1e-12)


def test_variances_far_from_zero_keep_their_accuracy(fit: Any, cut: Any) -> None:
    """Variances of float32 rows with means of a million deviations are numpy's to 1e-6, where sums of squares would cancel."""
    features, label, _ = _rows("gaussian")
    ours = fit(build("NaiveBayes", {"modelType": "gaussian"}), cut(features + 1e6, label, dtype=np.float32))
    expected = np.array([features[label == index].var(axis=0) for index in range(3)]) + 1e-9 * features.var(axis=0).max()
    np.testing.assert_allclose(ours.sigma, expected, rtol=1e-6)


@pytest.mark.parametrize("model_type", TYPES)
def test_a_class_without_rows_keeps_its_place(model_type: str, fit: Any, cut: Any) -> None:
    """Labels 0 and 2 are predicted as 0 and 2, with the priors and terms of labels 0 and 1; class 1 has probability 0."""
    features, label, _ = _rows(model_type)
    two, apart = np.minimum(label, 1.0), np.minimum(label, 1.0) * 2.0
    algorithm = build("NaiveBayes", {"modelType": model_type})
    near, far = fit(algorithm, cut(features, two)), fit(algorithm, cut(features, apart))
    np.testing.assert_allclose(far.pi[[0, 2]], near.pi, rtol=1e-13)
    np.testing.assert_allclose(far.theta[[0, 2]], near.theta, rtol=1e-13)
    ours, other = far.predict(features), near.predict(features)
    np.testing.assert_array_equal(ours["prediction"], 2.0 * other["prediction"])
    np.testing.assert_allclose(ours["probability"][:, [0, 2]], other["probability"], rtol=1e-10, atol=1e-13)
    assert (ours["probability"][:, 1] == 0.0).all()


def test_without_smoothing_a_term_that_is_absent_counts_nothing(fit: Any, cut: Any) -> None:
    """Impossible terms decide where they occur, for every discrete type and for dense and sparse rows, and no output is NaN."""
    features, label = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]), np.array([0.0, 1.0, 0.0])
    for model_type in ("multinomial", "complement", "bernoulli"):
        model = fit(build("NaiveBayes", {"modelType": model_type, "smoothing": 0.0}), cut(features, label, parts=1))
        for rows in (features[:2], csr_array(features[:2])):
            predicted = model.predict(rows)
            assert predicted["prediction"].tolist() == [0.0, 1.0]
            np.testing.assert_allclose(predicted["probability"], np.eye(2))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("model_type", "wrong"), [("multinomial", -1.0), ("complement", -1e-3), ("bernoulli", 2.0), ("bernoulli", 0.999)])
def test_features_of_another_kind_are_refused(model_type: str, wrong: float, dtype: Any, fit: Any, cut: Any) -> None:
    """A negative feature, or one that is neither 0 nor 1, is refused in training and prediction, dense and sparse; Gaussian takes it."""
    features, label, _ = _rows(model_type)
    algorithm = build("NaiveBayes", {"modelType": model_type})
    model = fit(algorithm, cut(features, label, dtype=dtype))
    fit(algorithm, _sparse(features, label, dtype=dtype))
    features[5, 2] = wrong
    for blocks in (cut(features, label, dtype=dtype), _sparse(features, label, dtype=dtype)):
        fit(build("NaiveBayes", {"modelType": "gaussian"}), blocks)
        with pytest.raises(DataError, match=r"naive Bayes takes"):
            fit(algorithm, blocks)
    for rows in (features, csr_array(features)):
        with pytest.raises(DataError, match=r"naive Bayes takes"):
            model.predict(rows)


def test_a_row_of_weight_zero_is_checked_and_counts_nothing(fit: Any, cut: Any) -> None:
    """A class that only rows of weight 0 have is no class, and their features are checked all the same."""
    features, label, weight = _rows("multinomial")
    algorithm = build("NaiveBayes", {})
    label[0], weight[0] = 7.0, 0.0
    model, without = fit(algorithm, cut(features, label, weight)), fit(algorithm, cut(features[1:], label[1:], weight[1:]))
    np.testing.assert_allclose(model.theta, without.theta, rtol=1e-13)
    assert len(model.pi) == 3
    features[0, 0] = -1.0
    with pytest.raises(DataError, match="negative"):
        fit(algorithm, cut(features, label, weight))


def test_a_value_of_a_row_of_weight_zero_has_no_square(fit: Any, cut: Any) -> None:
    """Variances are those of the other rows, whatever the rows of weight 0 hold."""
    features, label, weight = _rows("gaussian")
    algorithm = build("NaiveBayes", {"modelType": "gaussian"})
    features[0], weight[0] = 1e300, 0.0
    model, without = fit(algorithm, cut(features, label, weight)), fit(algorithm, cut(features[1:], label[1:], weight[1:]))
    sparse = fit(algorithm, [idle_bounded(block) for block in _sparse(features, label, weight)])
    for found in (model, sparse):
        np.testing.assert_allclose(found.theta, without.theta, rtol=1e-10)
        np.testing.assert_allclose(found.sigma, without.sigma, rtol=1e-10)


@pytest.mark.parametrize(
    "params", [{"modelType": "Multinomial"}, {"smoothing": -0.1}, {"smoothing": float("nan")}, {"thresholds": [0.0, 0.0]}]
)
def test_params_out_of_their_domain_are_refused(params: dict[str, Any]) -> None:
    """An unknown type, a negative smoothing and two thresholds of 0 are refused; the accepted twins are not."""
    build("NaiveBayes", {"modelType": "complement", "smoothing": 0, "thresholds": [0.0, 1.0]})
    with pytest.raises(UsageError):
        build("NaiveBayes", params)


def test_thresholds_must_be_as_many_as_classes(fit: Any, cut: Any) -> None:
    """Two thresholds for three classes are refused before the round; three are accepted."""
    features, label, _ = _rows("multinomial")
    summary = reduce(add, map(Summary.of, cut(features, label)))
    build("NaiveBayes", {"thresholds": [1.0, 1.0, 1.0]}).initial(summary, Seed(bytes(32)))
    with pytest.raises(UsageError, match="2 thresholds for 3 classes"):
        build("NaiveBayes", {"thresholds": [1.0, 1.0]}).initial(summary, Seed(bytes(32)))
