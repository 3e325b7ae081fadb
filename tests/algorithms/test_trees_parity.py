"""Are trees MLlib's?

Data of few distinct values, whose candidates are the same on both sides, give the same tree, text for text. On other data the candidates
come from other samples, so the quality is compared.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from securemllib.algorithms.base import Block
from securemllib.algorithms.registry import build
from securemllib.algorithms.trees import training
from securemllib.errors import UsageError
from securemllib.ml import plain_trees

Floats = NDArray[np.float64]


@pytest.fixture(autouse=True, params=[0, 1 << 30], ids=["in rounds", "at once"])
def _where(request: Any, monkeypatch: Any) -> None:
    """Few rows grow their trees in rounds, as many rows do, and after the first round."""
    monkeypatch.setattr(training, "_AT_ONCE", request.param)


def _few_values(seed: int, classes: int = 2, rows: int = 500) -> tuple[Floats, Floats, Floats]:
    """Return features of 6 values, labels and weights that are powers of two, so that sums are exact on both sides."""
    generator = np.random.default_rng(seed)
    features = generator.integers(0, 6, (rows, 4)).astype(float) / 4
    signal = features[:, 0] * 2 + features[:, 1] * features[:, 2]
    edges = np.quantile(signal, np.arange(1, classes) / classes)
    label = np.searchsorted(edges, signal).astype(float)
    noisy = generator.random(rows) < 0.2
    label[noisy] = generator.integers(0, classes, noisy.sum())
    return features, label, 2.0 ** generator.integers(-1, 2, rows)


def _text(name: str, params: dict[str, Any], blocks: list[Block], fit: Any) -> str:
    """Return the text of our tree, without the first line, which has the uid."""
    plain = getattr(plain_trees, f"Plain{name.replace('Classifier', 'Classification').replace('Regressor', 'Regression')}Model")
    return plain(fit(build(name, params), blocks), "x").toDebugString.split("\n", 1)[1]


def _theirs(name: str, params: dict[str, Any], rows: Any) -> Any:
    from pyspark.ml import classification, regression

    kind = getattr(classification if name.endswith("Classifier") else regression, name)
    return kind(**params).fit(rows)


CLASSIFIERS = [
    (2, {"maxDepth": 5}),
    (3, {"maxDepth": 4, "impurity": "entropy"}),
    (3, {"maxDepth": 6, "minInstancesPerNode": 7}),
    (2, {"maxDepth": 6, "minInstancesPerNode": 4, "weightCol": "weight"}),
    (2, {"maxDepth": 6, "minWeightFractionPerNode": 0.05, "weightCol": "weight"}),
    (2, {"maxDepth": 6, "minInfoGain": 0.02, "maxBins": 4}),
    (2, {"maxDepth": 4, "pruneTree": False}),
    (2, {"maxDepth": 0}),
]


@pytest.mark.parametrize(("classes", "params"), CLASSIFIERS)
def test_classification_trees_are_mllibs(classes: int, params: dict[str, Any], frame: Any, fit: Any, cut: Any) -> None:
    """A classification tree over few distinct values has MLlib's text, importances and votes, from float32 rows too."""
    features, label, weight = _few_values(3, classes)
    theirs = _theirs("DecisionTreeClassifier", params, frame(features, label, weight))
    ours = {name: value for name, value in params.items() if name != "weightCol"}
    for dtype in (np.float64, np.float32):
        blocks = cut(features, label, weight if "weightCol" in params else None, dtype=dtype)
        assert _text("DecisionTreeClassifier", ours, blocks, fit) == theirs.toDebugString.split("\n", 1)[1]
    model = fit(build("DecisionTreeClassifier", ours), blocks)
    plain = plain_trees.PlainDecisionTreeClassificationModel(model, theirs.uid)
    assert repr(plain) == repr(theirs)
    np.testing.assert_allclose(plain.featureImportances.toArray(), theirs.featureImportances.toArray(), atol=1e-12)
    from pyspark.ml.linalg import Vectors

    for row in features[:20]:
        value = Vectors.dense(row)
        assert plain.predictLeaf(value) == theirs.predictLeaf(value)
        np.testing.assert_allclose(plain.predictRaw(value), theirs.predictRaw(value), rtol=1e-12)
        np.testing.assert_allclose(plain.predictProbability(value), theirs.predictProbability(value), rtol=1e-12)


ALONE = {"numTrees": 1, "bootstrap": False, "featureSubsetStrategy": "all"}


@pytest.mark.parametrize(
    ("name", "params", "classes"),
    [("DecisionTreeClassifier", {}, 4), ("RandomForestClassifier", ALONE, 4), ("GBTClassifier", {"maxIter": 2}, 2)],
)
def test_declared_classes_without_rows_are_classes(name: str, params: dict[str, Any], classes: int, frame: Any, fit: Any, cut: Any) -> None:
    """A tree of two classes of four that the label's column declares has four, and boosted trees have two, as in MLlib."""
    features, label, weight = _few_values(2)
    rows = frame(features, label, weight)
    declared = {"ml_attr": {"type": "nominal", "name": "label", "num_vals": 4}}
    theirs = _theirs(name, {"maxDepth": 3, **params}, rows.withColumn("label", rows["label"].alias("label", metadata=declared)))
    blocks = [replace(block, classes=4) for block in cut(features, label)]
    probability = fit(build(name, {"maxDepth": 3, **params}), blocks).predict(features)["probability"]
    assert probability.shape[1] == theirs.numClasses == classes
    np.testing.assert_allclose(probability, [row.probability.toArray() for row in theirs.transform(rows).collect()], rtol=1e-9)
    with pytest.raises(UsageError):
        fit(build(name, {"maxDepth": 3, "thresholds": (0.5,) * (classes + 1), **params}), blocks)


@pytest.mark.parametrize("params", [{"maxDepth": 5}, {"maxDepth": 7, "minInstancesPerNode": 5, "weightCol": "weight"}])
def test_regression_trees_are_mllibs(params: dict[str, Any], frame: Any, fit: Any, cut: Any) -> None:
    """A regression tree over few distinct values and labels of few binary digits has MLlib's text, and its variances at the leaves."""
    features, label, weight = _few_values(5)
    label = np.round((label + features[:, 3] + np.random.default_rng(5).normal(size=len(label))) * 64) / 64 + 1000.0
    rows = frame(features, label, weight)
    theirs = _theirs("DecisionTreeRegressor", params | {"varianceCol": "variance"}, rows)
    ours = {name: value for name, value in params.items() if name != "weightCol"}
    blocks = cut(features, label, weight if "weightCol" in params else None)
    assert _text("DecisionTreeRegressor", ours, blocks, fit) == theirs.toDebugString.split("\n", 1)[1]
    outputs = fit(build("DecisionTreeRegressor", ours), blocks).predict(features)
    # MLlib subtracts squares of about 1e6 with 16 digits.
    np.testing.assert_allclose(outputs["variance"], [row.variance for row in theirs.transform(rows).collect()], atol=1e-8)


@pytest.mark.parametrize("name", ["RandomForestClassifier", "RandomForestRegressor"])
def test_forests_without_draws_are_mllibs(name: str, frame: Any, fit: Any, cut: Any) -> None:
    """Two trees over all rows and all features are MLlib's two, with its text and importances."""
    features, label, weight = _few_values(7)
    params = {"numTrees": 2, "bootstrap": False, "featureSubsetStrategy": "all", "maxDepth": 4}
    theirs = _theirs(name, params, frame(features, label, weight))
    blocks = cut(features, label)
    assert _text(name, params, blocks, fit) == theirs.toDebugString.split("\n", 1)[1]
    kind = name.replace("Classifier", "Classification").replace("Regressor", "Regression")
    plain = getattr(plain_trees, f"Plain{kind}Model")(fit(build(name, params), blocks), theirs.uid)
    assert repr(plain) == repr(theirs)
    assert (plain.totalNumNodes, plain.treeWeights, plain.getNumTrees) == (theirs.totalNumNodes, theirs.treeWeights, theirs.getNumTrees)
    assert [tree.numNodes for tree in plain.trees] == [tree.numNodes for tree in theirs.trees]
    np.testing.assert_allclose(plain.featureImportances.toArray(), theirs.featureImportances.toArray(), atol=1e-9)


BOOSTED = [
    ("GBTClassifier", {"maxIter": 4, "maxDepth": 3}),
    ("GBTClassifier", {"maxIter": 3, "maxDepth": 3, "weightCol": "weight", "minInstancesPerNode": 3}),
    ("GBTClassifier", {"maxIter": 20, "maxDepth": 4, "stepSize": 0.3, "validationIndicatorCol": "check"}),
    ("GBTRegressor", {"maxIter": 3, "maxDepth": 3, "lossType": "absolute"}),
    ("GBTRegressor", {"maxIter": 20, "maxDepth": 3, "stepSize": 0.5, "validationIndicatorCol": "check", "weightCol": "weight"}),
]


@pytest.mark.parametrize(("name", "params"), BOOSTED)
def test_boosted_trees_are_mllibs(name: str, params: dict[str, Any], spark: Any, fit: Any, cut: Any) -> None:
    """Boosted trees over few distinct values have MLlib's number, splits, importances and outputs, and stop where it stops."""
    features, label, weight = _few_values(9)
    if name == "GBTRegressor":
        label = label + features[:, 3] + np.random.default_rng(9).normal(size=len(label)) / 4
    check = (np.arange(len(label)) % 3 == 0).astype(float)
    theirs, table = _boosted(name, params, features, label, weight, check, spark)
    blocks = cut(features, label, weight if "weightCol" in params else None)
    if "validationIndicatorCol" in params:
        blocks = [_marked(block, check, blocks) for block in blocks]
    ours = {key: value for key, value in params.items() if not key.endswith("Col")}
    model = fit(build(name, ours), blocks)
    kind = name.replace("Classifier", "Classification").replace("Regressor", "Regression")
    plain = getattr(plain_trees, f"Plain{kind}Model")(model, theirs.uid)
    assert plain.getNumTrees == theirs.getNumTrees
    assert [line for line in plain.toDebugString.split("\n") if "Predict" not in line] == [
        line for line in theirs.toDebugString.split("\n") if "Predict" not in line
    ]
    np.testing.assert_allclose(plain.featureImportances.toArray(), theirs.featureImportances.toArray(), atol=1e-9)
    outputs, scored = model.predict(features), theirs.transform(table).collect()
    for stem in outputs:
        np.testing.assert_allclose(outputs[stem], np.array([np.asarray(row[stem]) for row in scored]), atol=1e-9)


def _marked(block: Block, check: Floats, blocks: list[Block]) -> Block:
    from dataclasses import replace

    first = sum(other.rows for other in blocks[: block.ordinal])
    return replace(block, extras={"validation": check[first : first + block.rows]})


def _boosted(
    name: str, params: dict[str, Any], features: Floats, label: Floats, weight: Floats, check: Floats, spark: Any
) -> tuple[Any, Any]:
    from pyspark.ml.linalg import Vectors

    columns = zip(features.tolist(), label.tolist(), weight.tolist(), (check == 1).tolist(), strict=True)
    table = spark.createDataFrame(
        [(Vectors.dense(row), *rest) for row, *rest in columns], ["features", "label", "weight", "check"]
    ).coalesce(2)
    return _theirs(name, params, table), table
