"""Do factorization machines make MLlib's steps, and do mini-batches add up?"""

from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pytest
from pyspark.ml.classification import FMClassifier as SparkClassifier
from pyspark.ml.regression import FMRegressor as SparkRegressor
from scipy.sparse import csr_array

from securemllib.algorithms.base import Scratch, Seed
from securemllib.algorithms.factorization_machines import FMClassifier, FMRegressor
from securemllib.algorithms.registry import build
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError, UsageError

SEED = Seed(b"f" * 32)


class JavaNormals:
    """The Gaussians of ``java.util.Random``, by the polar method."""

    def __init__(self, seed: int) -> None:
        self._state = (seed ^ 0x5DEECE66D) % 2**48

    def generator(self, *position: Any) -> "JavaNormals":
        """Return this: first factors are all that is drawn."""
        del position
        return self

    def standard_normal(self, shape: tuple[int, int]) -> np.ndarray:
        """Return normal numbers."""
        pairs = [self._pair() for _ in range(-(-shape[0] * shape[1] // 2))]
        return np.concatenate(pairs)[: shape[0] * shape[1]].reshape(shape)

    def _pair(self) -> np.ndarray:
        while True:
            pair = np.array([2 * self._double() - 1, 2 * self._double() - 1])
            square = float(pair @ pair)
            if 0 < square < 1:
                return pair * np.sqrt(-2 * np.log(square) / square)

    def _double(self) -> float:
        return (self._bits(26) * 2**27 + self._bits(27)) / 2**53

    def _bits(self, count: int) -> int:
        self._state = (self._state * 0x5DEECE66D + 0xB) % 2**48
        return self._state >> (48 - count)


def _rows(columns: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    drawn = np.random.default_rng(6)
    rows = drawn.normal(size=(200, columns)) * (drawn.random((200, columns)) < 0.7)
    value = rows[:, 0] - rows[:, 1] + rows[:, 1] * rows[:, 2] + 0.3 * drawn.normal(size=200)
    return rows, value, (value > 0).astype(float)


def _run(algorithm: Any, blocks: Any, seed: Any) -> Any:
    state = algorithm.initial(reduce(add, map(Summary.of, blocks)), seed)
    while not algorithm.is_done(state):
        state = algorithm.update(state, reduce(add, (algorithm.statistics(state, block) for block in blocks)))
    return algorithm.to_model(state)


@pytest.mark.parametrize(
    "params",
    [
        {"solver": "adamW", "maxIter": 9, "stepSize": 0.1},
        {"solver": "adamW", "maxIter": 40, "stepSize": 0.05, "tol": 0.15, "regParam": 0.001, "fitIntercept": False},
        {"solver": "gd", "maxIter": 6, "stepSize": 0.3, "regParam": 0.05, "initStd": 0.2, "tol": 0.0},
        {"solver": "gd", "maxIter": 1, "stepSize": 0.3, "fitLinear": False},
    ],
    ids=["adamW", "tolerance", "gd", "factors"],
)
def test_from_the_same_factors_steps_are_mllibs(params: dict[str, Any], spark: Any, cut: Any, frame: Any) -> None:
    """From MLlib's own first factors coefficients, predictions, history and number of steps are MLlib's, for both losses."""
    rows, value, label = _rows()
    for spark_class, name, target in ((SparkRegressor, "FMRegressor", value), (SparkClassifier, "FMClassifier", label)):
        data = frame(rows, target)
        theirs = spark_class(**params, factorSize=3, seed=5).fit(data)
        ours = _run(build(name, {**params, "factorSize": 3}), cut(rows, target), JavaNormals(5))
        # A quotient of AdamW's moments loses digits where both are small, in MLlib too.
        np.testing.assert_allclose(ours.factors, theirs.factors.toArray(), atol=1e-9)
        np.testing.assert_allclose(ours.linear, theirs.linear.toArray(), atol=1e-9)
        assert ours.intercept == pytest.approx(theirs.intercept, abs=1e-9)
        columns = theirs.transform(data).drop("features", "label", "weight").toPandas()
        for stem, values in ours.predict(rows).items():
            np.testing.assert_allclose(values, np.stack([getattr(each, "values", each) for each in columns[stem]]), atol=1e-8)
        if name == "FMClassifier":
            assert len(ours.objective_history) == len(theirs.summary().objectiveHistory) < 40
            np.testing.assert_allclose(ours.objective_history, theirs.summary().objectiveHistory, atol=1e-9)


@pytest.mark.parametrize("name", ["FMRegressor", "FMClassifier"])
def test_sparse_rows_are_dense_ones(name: str, fit: Any, cut: Any) -> None:
    """Sparse rows give the model and the predictions of the same rows with their zeros."""
    rows, value, label = _rows()
    algorithm = build(name, {"factorSize": 2, "maxIter": 8, "stepSize": 0.1})
    dense = cut(rows, label if name == "FMClassifier" else value)
    sparse = [
        replace(block, features=np.zeros((block.rows, 0)), offset=np.zeros(5), sparse=csr_array(true), scratch=Scratch())
        for block, true in zip(dense, np.array_split(rows, 3), strict=True)
    ]
    one, other = (fit(algorithm, blocks, SEED) for blocks in (dense, sparse))
    np.testing.assert_allclose(other.factors, one.factors, atol=1e-9)
    for stem, values in other.predict(csr_array(rows)).items():
        np.testing.assert_allclose(values, one.predict(rows)[stem], atol=1e-9)


@pytest.mark.parametrize("shift", [0.0, 1000.0])
@pytest.mark.parametrize("name", ["FMRegressor", "FMClassifier"])
def test_rows_in_single_precision_give_the_same_sums(name: str, shift: float, cut: Any) -> None:
    """Loss and gradients of float32 rows are those of float64 rows up to their rounding, far from zero too."""
    rows, value, label = _rows()
    algorithm = build(name, {"factorSize": 3, "initStd": 0.5 / max(shift, 1.0)})
    found = []
    for dtype in (np.float64, np.float32):
        (block,) = cut(rows + shift, label if name == "FMClassifier" else value, parts=1, dtype=dtype)
        found.append(algorithm.statistics(algorithm.initial(Summary.of(block), SEED), block))
    assert found[1].loss == pytest.approx(found[0].loss, rel=1e-5)
    for each in ("factors", "linear"):
        one, other = (getattr(statistics, each) for statistics in found)
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-5 * np.abs(one).max())


def test_a_mini_batch_is_its_share_of_the_rows(cut: Any) -> None:
    """A batch has about its fraction of the rows, the same ones again in a rerun, others in the next round, and none more than once."""
    rows, value, _ = _rows()
    algorithm = FMRegressor(mini_batch_fraction=0.3, max_iter=3)
    blocks = cut(rows, value)
    state = algorithm.initial(reduce(add, map(Summary.of, blocks)), SEED)
    totals = []
    for _ in range(2):
        one, again = (reduce(add, (algorithm.statistics(state, block) for block in blocks)) for _ in range(2))
        assert one.rows == again.rows
        assert one.factors.tobytes() == again.factors.tobytes()
        totals.append(one)
        state = replace(state, step=state.step + 1)
    # Within four standard deviations of a binomial draw, 6.5 rows each.
    assert all(abs(total.rows - 60) < 4 * 6.5 for total in totals)
    assert totals[0].loss != totals[1].loss


def test_empty_batches_make_no_step(cut: Any, fit: Any) -> None:
    """Rounds whose batch has no row leave the model as it is, as in MLlib, and count as iterations."""
    rows, value, label = _rows()
    few = fit(FMClassifier(mini_batch_fraction=1e-12, max_iter=4), cut(rows, label), SEED)
    assert few.objective_history == ()
    np.testing.assert_array_equal(few.factors, fit(FMRegressor(max_iter=0), cut(rows, value), SEED).factors)


def test_steps_that_are_too_long_are_refused(cut: Any, fit: Any) -> None:
    """A training whose loss overflows ends with a code, beside one whose steps are short."""
    rows, value, _ = _rows()
    assert np.isfinite(fit(FMRegressor(solver="gd", step_size=0.01), cut(rows, value), SEED).factors).all()
    with pytest.raises(DataError) as refused:
        fit(FMRegressor(solver="gd", step_size=50.0), cut(rows * 100, value), SEED)
    assert refused.value.error_code == "data.diverged"


@pytest.mark.parametrize("labels", [[0.0, 2.0], [0.0, 0.5], [0.0, -1.0]])
def test_labels_other_than_two_classes_are_refused(labels: list[float], cut: Any, fit: Any) -> None:
    """A classifier takes the labels 0 and 1 only; a regression takes any number."""
    rows, _, label = _rows()
    target = np.where(label > 0, labels[1], labels[0])
    fit(FMRegressor(max_iter=1), cut(rows, target), SEED)
    with pytest.raises(DataError) as refused:
        fit(FMClassifier(max_iter=1), cut(rows, target), SEED)
    assert refused.value.error_code == "data.label"


@pytest.mark.parametrize(
    "params",
    [
        {"factorSize": 0}, {"regParam": -1.0}, {"miniBatchFraction": 0.0}, {"miniBatchFraction": 1.1}, {"initStd": 0.0}, {"tol": 2.0},
        {"stepSize": 0.0}, {"maxIter": -1}, {"solver": "sgd"}, {"fitLinear": 1}, {"thresholds": (0.1, 0.2, 0.7)},
    ],
)  # fmt: skip
def test_params_out_of_their_domain_are_refused(params: dict[str, Any]) -> None:
    """What MLlib refuses is refused, beside the defaults."""
    build("FMClassifier", {"thresholds": (0.3, 0.7)})
    with pytest.raises(UsageError):
        build("FMClassifier", params)
