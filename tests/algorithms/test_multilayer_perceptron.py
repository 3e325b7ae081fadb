"""Is a multilayer perceptron MLlib's network, trained as MLlib trains it?"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pyspark.ml import classification
from pyspark.ml.linalg import Vectors
from scipy.sparse import csr_array

from securemllib.algorithms import multilayer_perceptron
from securemllib.algorithms.base import Seed
from securemllib.algorithms.multilayer_perceptron import NetworkModel
from securemllib.algorithms.registry import build
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError, UsageError

LAYERS = [4, 5, 3]
WEIGHTS = 4 * 5 + 5 + 5 * 3 + 3


def _rows(rows: int = 256) -> tuple[Any, Any]:
    generator = np.random.default_rng(4)
    features = generator.normal(size=(rows, 4)) + 1.0
    return features, (np.abs(features[:, :3]) + generator.normal(size=(rows, 3))).argmax(axis=1).astype(float)


def _start() -> list[float]:
    return np.random.default_rng(9).uniform(-1.0, 1.0, WEIGHTS).tolist()


@pytest.mark.parametrize("solver", ["gd", "l-bfgs"])
def test_training_goes_mllibs_way(solver: str, fit: Any, cut: Any, frame: Any) -> None:
    """From the same weights both solvers go MLlib's way: gd for as many steps, L-BFGS from the same objective to one as low."""
    features, label = _rows()
    params = {"layers": LAYERS, "solver": solver, "stepSize": 0.5, "maxIter": 20, "blockSize": 64}
    data = frame(features, label)
    theirs = classification.MultilayerPerceptronClassifier(**params, initialWeights=Vectors.dense(_start())).fit(data)
    history = theirs.summary().objectiveHistory
    ours = fit(build("MultilayerPerceptronClassifier", {**params, "initialWeights": _start()}), cut(features, label))
    if solver == "gd":
        np.testing.assert_allclose(ours.weights, theirs.weights.toArray(), rtol=1e-9)
        np.testing.assert_allclose(ours.objective_history, history, rtol=1e-9)
    else:
        assert ours.objective_history[0] == pytest.approx(history[0], rel=1e-12)
        # Two searches of twenty steps over a surface with many valleys.
        assert ours.objective_history[-1] <= history[-1] * 1.1
    model = NetworkModel(layers=tuple(LAYERS), weights=theirs.weights.toArray())
    rows = theirs.transform(data).collect()
    for given in (features, csr_array(features)):
        found = model.predict(given)
        np.testing.assert_allclose(found["rawPrediction"], [row["rawPrediction"].toArray() for row in rows], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found["probability"], [row["probability"].toArray() for row in rows], rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(found["prediction"], [row["prediction"] for row in rows])


def test_the_gradient_is_that_of_the_loss(cut: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient over three layers of weights is the loss's difference quotient, whatever the rows multiplied at once."""
    # Seven rows of four inputs.
    monkeypatch.setattr(multilayer_perceptron, "_STEP_VALUES", 28)
    features, label = _rows(40)
    (block,) = cut(features, label, parts=1)
    algorithm = build("MultilayerPerceptronClassifier", {"layers": [4, 3, 2, 3]})
    state = algorithm.initial(Summary.of(block), Seed(bytes(32)))
    found, start = algorithm.statistics(state, block), state.search.point

    def loss(weights: Any) -> float:
        raw = NetworkModel(layers=(4, 3, 2, 3), weights=weights).predict(features)["probability"]
        return float(-np.log(raw[np.arange(40), label.astype(int)]).sum())

    assert found.loss == pytest.approx(loss(start))
    steps = np.eye(len(start)) * 1e-6
    quotients = [(loss(start + step) - loss(start - step)) / 2e-6 for step in steps]
    np.testing.assert_allclose(found.gradient, quotients, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_rows_in_single_precision_give_the_same_sums(shift: float, cut: Any) -> None:
    """Loss and gradient of float32 rows are those of float64 rows up to their rounding, far from zero too."""
    features, label = _rows()
    algorithm = build("MultilayerPerceptronClassifier", {"layers": [4, 6, 5, 3]})
    found = []
    for dtype in (np.float64, np.float32):
        (block,) = cut(features + shift, label, parts=1, dtype=dtype)
        state = algorithm.initial(Summary.of(block), Seed(bytes(32)))
        # The first layer's inputs are weighed so that none of its outputs is flat.
        weights = state.search.point * np.where(np.arange(len(state.search.point)) < 24, 1.0 / max(shift, 1.0), 1.0)
        found.append(algorithm.statistics(replace(state, search=replace(state.search, point=weights)), block))
    assert found[1].loss == pytest.approx(found[0].loss, rel=1e-5)
    np.testing.assert_allclose(found[1].gradient, found[0].gradient, rtol=0, atol=1e-5 * np.abs(found[0].gradient).max())


def test_initial_weights_are_of_the_seed(cut: Any) -> None:
    """Weights are drawn within MLlib's bounds, the same for a seed and others for another."""
    (block,) = cut(*_rows(), parts=1)
    algorithm = build("MultilayerPerceptronClassifier", {"layers": LAYERS})
    one, same, other = (algorithm.initial(Summary.of(block), Seed(bytes([seed] * 32))).search.point for seed in (1, 1, 2))
    assert (one == same).all()
    assert not (one == other).any()
    assert 1.0 < np.abs(one[:25]).max() <= 2.4 / 2.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"layers": []},
        {"layers": [4]},
        {"layers": [4, 0, 3]},
        {"layers": [4000, 4000, 3]},
        {"initialWeights": [1.0]},
        {"solver": "adam"},
        {"blockSize": 0},
        {"stepSize": 0.0},
        {"thresholds": [0.5, 0.5]},
    ],
)
def test_params_out_of_their_domain_are_refused(wrong: dict[str, Any]) -> None:
    """Layers, weights and Params that make no network are refused, beside one that does."""
    build("MultilayerPerceptronClassifier", {"layers": LAYERS, "initialWeights": _start(), "thresholds": [0.5, 0.3, 0.2]})
    with pytest.raises(UsageError):
        build("MultilayerPerceptronClassifier", {"layers": LAYERS, **wrong})


def test_rows_must_fit_the_first_and_last_layer(cut: Any) -> None:
    """Rows of another width and labels beyond the last layer are refused; a last layer with more classes than labels is not."""
    (block,) = cut(*_rows(), parts=1)
    summary, seed = Summary.of(block), Seed(bytes(32))
    build("MultilayerPerceptronClassifier", {"layers": [4, 9]}).initial(summary, seed)
    for layers, code in (([5, 3], "data.length"), ([4, 2], "data.label")):
        with pytest.raises(DataError) as refused:
            build("MultilayerPerceptronClassifier", {"layers": layers}).initial(summary, seed)
        assert refused.value.error_code == code
