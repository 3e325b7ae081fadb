"""Does isotonic regression give MLlib's boundaries and predictions?"""

from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.ml import regression
from pyspark.ml.linalg import Vectors
from scipy.sparse import csr_array

from securemllib.algorithms import isotonic_regression
from securemllib.algorithms.base import Block
from securemllib.algorithms.isotonic_regression import IsotonicRegressionModel
from securemllib.algorithms.registry import build
from securemllib.algorithms.transformer import Column
from securemllib.algorithms.vectors import SparseVector, to_stored
from securemllib.errors import DataError, UsageError

ENDS = [-5.0, 0.0, 0.5, 1.0, 2.25, 11.5, 40.0, float("nan")]


def _rows(kind: str, rows: int = 300) -> tuple[Any, Any, Any]:
    generator = np.random.default_rng(6)
    weight = generator.integers(0, 4, rows).astype(float)
    if kind == "distinct":
        features = generator.normal(size=rows) * 8.0
        return features, features + generator.normal(size=rows) * 6.0, weight
    # Few values, many of the same feature, among whose means are equal ones.
    return generator.integers(0, 40, rows) / 2.0, generator.integers(0, 3, rows).astype(float), weight


def _block(features: Any, label: Any, weight: Any = None, ordinal: int = 0) -> Block:
    none = np.zeros((len(label), 0))
    column = features if isinstance(features, pa.Array) else pa.array(features)
    return Block(ordinal=ordinal, features=none, offset=np.zeros(0), label=label, weight=weight, raw={"input0": column})


@pytest.mark.parametrize("kind", ["distinct", "ties"])
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("isotonic", [True, False], ids=["increasing", "decreasing"])
def test_curves_are_mllibs(kind: str, weighted: bool, isotonic: bool, fit: Any, spark: Any) -> None:
    """Boundaries are MLlib's to the bit, ties included, and predictions to 1e-12, at boundaries, between and beyond them."""
    features, label, weight = _rows(kind)
    rows = list(zip(features.tolist(), label.tolist(), weight.tolist(), strict=True))
    frame = spark.createDataFrame(rows, ["features", "label", "weight"]).coalesce(1)
    theirs = regression.IsotonicRegression(isotonic=isotonic, **({"weightCol": "weight"} if weighted else {})).fit(frame)
    pieces = [_block(features[i], label[i], weight[i] if weighted else None) for i in np.array_split(np.arange(len(label)), 3)]
    ours = fit(build("IsotonicRegression", {"isotonic": isotonic}), pieces)
    np.testing.assert_array_equal(ours.boundaries, theirs.boundaries.toArray())
    np.testing.assert_allclose(ours.predictions, theirs.predictions.toArray(), rtol=1e-12)
    asked = spark.createDataFrame([(value,) for value in [*ENDS, *features.tolist()]], ["features"])
    expected = [row["prediction"] for row in theirs.transform(asked).collect()]
    np.testing.assert_allclose(ours.curve(np.array([*ENDS, *features])), expected, rtol=1e-12)


def test_one_slot_of_vectors_is_read(fit: Any, spark: Any) -> None:
    """Of vectors, dense and sparse, the slot of featureIndex is read in training and in transforms; a slot beyond the last is refused."""
    features, label, _ = _rows("ties")
    matrix = np.stack([np.ones(len(label)), features], axis=1)
    theirs = regression.IsotonicRegression(featureIndex=1).fit(
        spark.createDataFrame(list(zip(map(Vectors.dense, matrix.tolist()), label.tolist(), strict=True)), ["features", "label"])
    )
    dense = pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), 2)
    for column in (dense, to_stored(SparseVector(csr_array(matrix)))):
        ours = fit(build("IsotonicRegression", {"featureIndex": 1}), [_block(column, label)])
        np.testing.assert_array_equal(ours.boundaries, theirs.boundaries.toArray())
        predicted = ours.transform((Column(column),)).columns["prediction"].values
        np.testing.assert_array_equal(predicted, ours.curve(features))
    with pytest.raises(UsageError, match="feature_index"):
        fit(build("IsotonicRegression", {"featureIndex": 2}), [_block(dense, label)])


def test_points_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many distinct features as the bound are accepted, one more in all parts together is refused."""
    monkeypatch.setattr(isotonic_regression, "MOST_POINTS", 6)
    algorithm = build("IsotonicRegression", {})
    parts = [_block(np.arange(3.0) + shift, np.zeros(3)) for shift in (0.0, 3.0, 3.5)]
    found = [algorithm.statistics(None, part) for part in parts]
    assert len(reduce(add, found[:2]).features) == 6
    with pytest.raises(DataError, match="distinct"):
        reduce(add, found)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_features_are_finite(value: float | None) -> None:
    """A feature that is NaN, infinite or null is refused, as in MLlib; the others are not."""
    algorithm = build("IsotonicRegression", {})
    algorithm.statistics(None, _block([1.0, 2.0], np.zeros(2)))
    with pytest.raises(DataError):
        algorithm.statistics(None, _block([1.0, value], np.zeros(2)))


def test_a_curve_has_points() -> None:
    """A model of another number of boundaries than predictions, or of none, is refused; one of a single point is constant."""
    single = IsotonicRegressionModel(boundaries=np.ones(1), predictions=np.full(1, 5.0))
    assert single.predict(np.array([[0.0], [1.0], [2.0]]))["prediction"].tolist() == [5.0, 5.0, 5.0]
    for sizes in ((2, 1), (0, 0)):
        with pytest.raises(UsageError):
            IsotonicRegressionModel(boundaries=np.zeros(sizes[0]), predictions=np.zeros(sizes[1]))
