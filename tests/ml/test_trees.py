"""Do sealed trees give what pyspark.ml's give, and show themselves only when they are released?"""

import re

import numpy as np
import pytest
from pyspark.ml import classification, regression
from pyspark.ml.linalg import Vectors

from securemllib.errors import PolicyError, SealedError, UsageError
from securemllib.ml.classification import DecisionTreeClassifier, GBTClassifier, RandomForestClassificationModel, RandomForestClassifier
from securemllib.ml.feature import VectorAssembler
from securemllib.ml.regression import DecisionTreeRegressor, GBTRegressor
from securemllib.spark.functions import col
from securemllib.wire.job import OutputKind
from tests.deployment import patients

ROW = Vectors.dense(50.0, 3.0, 120.0)


@pytest.fixture(scope="module")
def forest(features):
    """A sealed forest."""
    return RandomForestClassifier(labelCol="ill", numTrees=5, maxDepth=4, seed=1).fit(features)


def test_a_tree_is_that_of_mllib(features, plain):
    """Where MLlib samples all rows, as of 600, a released tree has its text, and a sealed one its predictions, leaves and variances."""
    params = {"labelCol": "pressure", "weightCol": "weight", "maxDepth": 4, "leafCol": "leaf", "varianceCol": "spread"}
    ours, theirs = DecisionTreeRegressor(**params).fit(features), regression.DecisionTreeRegressor(**params).fit(plain)
    released = ours.release()
    _same_splits(released, theirs)
    assert (released.depth, released.numNodes) == (theirs.depth, theirs.numNodes)
    assert np.allclose(released.featureImportances.toArray(), theirs.featureImportances.toArray())
    assert released.predict(ROW) == pytest.approx(theirs.predict(ROW))
    columns = ["prediction", "leaf", "spread"]
    rows = ours.transform(features).release(columns=["name", *columns]).toPandas().set_index("name").sort_index()
    expected = theirs.transform(plain).select("name", *columns).toPandas().set_index("name").sort_index()
    assert np.allclose(rows[columns], expected[columns])


def test_boosting_stops_where_mllib_stops(frame, features, plain):
    """With marked rows, boosted trees stop at MLlib's number, and their thresholds may be set anew on the sealed model."""
    params = {"labelCol": "ill", "maxIter": 12, "maxDepth": 3, "validationIndicatorCol": "check", "stepSize": 0.4}
    ours = GBTClassifier(**params).fit(features.withColumn("check", col("group") == 0))
    theirs = classification.GBTClassifier(**params).fit(plain.selectExpr("*", "group = 0 AS check"))
    released = ours.release()
    assert released.treeWeights == theirs.treeWeights
    _same_splits(released, theirs)
    with pytest.raises(SealedError):
        ours.getNumTrees  # noqa: B018
    always = ours.copy().setThresholds([1.0, 0.0]).transform(features).release(columns=["prediction"]).toPandas()
    assert always["prediction"].eq(1.0).all()


def test_the_loss_after_each_tree_is_mllibs(features, plain):
    """A sealed model's losses leave as a metric, and are MLlib's, and the released model's on rows in the clear, with weights too."""
    params = {"labelCol": "ill", "maxIter": 3, "maxDepth": 2}
    ours, theirs = GBTClassifier(**params).fit(features), classification.GBTClassifier(**params).fit(plain)
    expected = theirs.evaluateEachIteration(plain)
    assert ours.evaluateEachIteration(features) == pytest.approx(expected, rel=1e-9)
    assert ours.release().evaluateEachIteration(plain) == pytest.approx(expected, rel=1e-9)
    params = {"labelCol": "pressure", "maxIter": 3, "maxDepth": 2, "weightCol": "weight"}
    ours, theirs = GBTRegressor(**params).fit(features), regression.GBTRegressor(**params).fit(plain)
    for loss in ("squared", "absolute"):
        expected = theirs.evaluateEachIteration(plain, loss)
        assert ours.evaluateEachIteration(features, loss) == pytest.approx(expected, rel=1e-9)
        assert ours.release().evaluateEachIteration(plain, loss) == pytest.approx(expected, rel=1e-9)
    for model in (ours, ours.release()):
        with pytest.raises(UsageError, match="squared, absolute"):
            model.evaluateEachIteration(plain, "logistic")
    with pytest.raises(UsageError, match="SecureDataFrame"):
        ours.evaluateEachIteration(plain, "squared")


def test_the_loss_after_each_tree_needs_the_output_metric(deployment, session):
    """Under a policy that lets no metric leave the losses are refused; once it does, they come."""
    path = deployment.dataset(patients(120), "no-metric")
    dataset_id = deployment.enrol(path)
    deployment.allow(dataset_id, outputs=(OutputKind.SEALED_MODEL,))
    rows = VectorAssembler(inputCols=["age", "dose"], outputCol="features").transform(session.read(path))
    model = GBTClassifier(labelCol="ill", maxIter=1, maxDepth=1).fit(rows)
    with pytest.raises(PolicyError, match="metric") as refused:
        model.evaluateEachIteration(rows)
    assert refused.value.error_code == "refused.policy.outputs"
    deployment.allow(dataset_id, outputs=(OutputKind.SEALED_MODEL, OutputKind.METRIC))
    assert len(model.evaluateEachIteration(rows)) == 1


def _same_splits(ours, theirs):
    """Fail unless the texts differ in numbers alone, and those by what centring the rows rounds."""
    number = r"-?\d+\.\d+(?:E-?\d+)?"
    texts = [model.toDebugString.split("\n", 1)[1] for model in (ours, theirs)]
    assert re.sub(number, "", texts[0]) == re.sub(number, "", texts[1])
    assert np.allclose(*([float(found) for found in re.findall(number, text)] for text in texts), rtol=1e-9)


def test_a_sealed_forest_shows_nothing(forest, features, tmp_path):
    """A sealed forest refuses what its trees tell, is saved and loaded, scores alike, and when released is made of its trees."""
    for name in ("toDebugString", "featureImportances", "trees", "totalNumNodes", "treeWeights", "numClasses"):
        with pytest.raises(SealedError):
            getattr(forest, name)
    assert forest.getNumTrees == 5
    forest.save(str(tmp_path / "forest"))
    loaded = RandomForestClassificationModel.load(str(tmp_path / "forest")).setLeafCol("leaf")
    rows = loaded.transform(features).release(columns=["probability", "prediction", "leaf"]).toPandas()
    released = forest.release()
    assert released.totalNumNodes == sum(tree.numNodes for tree in released.trees)
    assert all(len(leaves) == 5 for leaves in rows["leaf"])
    assert np.allclose(np.stack(rows["probability"]).sum(axis=1), 1.0)
    assert released.predictProbability(ROW).toArray().sum() == pytest.approx(1.0)
    assert released.predictLeaf(ROW).size == 5


def test_a_forest_is_as_good_as_mllibs(forest, features, plain):
    """A forest's training summary and its evaluation agree, and its accuracy is MLlib's but for the draws: 600 rows, 3 percent."""
    theirs = classification.RandomForestClassifier(labelCol="ill", numTrees=5, maxDepth=4, seed=1).fit(plain)
    assert forest.summary.accuracy == forest.evaluate(features).accuracy
    assert forest.summary.accuracy > theirs.summary.accuracy - 0.03
    assert (forest.summary.objectiveHistory, forest.summary.totalIterations) == ([0.0], 0)
    assert forest.summary.scoreCol == "probability"


def test_params_without_effect_are_refused(features):
    """Where node ids are kept is the engine's affair, so that Param is refused, beside one that has an effect."""
    DecisionTreeClassifier(labelCol="ill", maxDepth=2, maxMemoryInMB=1).fit(features)
    with pytest.raises(UsageError, match="cacheNodeIds"):
        DecisionTreeClassifier(labelCol="ill", cacheNodeIds=True).fit(features)
    with pytest.raises(UsageError, match="maxBins"):
        GBTRegressor(labelCol="pressure", maxBins=1).fit(features)
