"""Does one class against the rest give pyspark.ml's models, and how many classes there are only where a policy says so?"""

import gc

import numpy as np
import pytest
from pyspark.ml import classification
from pyspark.ml.linalg import Vectors

from securemllib.errors import DataError, FormatError, PolicyError, UsageError
from securemllib.ml.classification import (
    DecisionTreeClassifier,
    GBTClassifier,
    LinearSVC,
    LogisticRegression,
    NaiveBayes,
    OneVsRest,
    OneVsRestModel,
    RandomForestClassifier,
)
from securemllib.ml.evaluation import MulticlassClassificationEvaluator
from securemllib.ml.pipeline import Pipeline
from securemllib.ml.tuning import CrossValidator, ParamGridBuilder
from securemllib.spark.functions import col
from securemllib.wire.job import OutputKind
from tests.deployment import patients

LOGISTIC = {"regParam": 0.01, "maxIter": 50, "tol": 1e-12}


@pytest.fixture(scope="module")
def model(features):
    """A sealed model of three classes, with weights."""
    return OneVsRest(classifier=LogisticRegression(**LOGISTIC), labelCol="group", weightCol="weight").fit(features)


@pytest.fixture(scope="module")
def theirs(plain):
    """The same in the clear."""
    classifier = classification.LogisticRegression(**LOGISTIC)
    model = classification.OneVsRest(classifier=classifier, labelCol="group", weightCol="weight").fit(plain)
    # pyspark.ml leaves a pool of threads behind, which warns where it is collected: here.
    gc.collect()
    return model


def jobs_of(monkeypatch, session):
    """Return a list of the operations that the session sends from now on, those of one stage together."""
    sent, run = [], session.run_together
    monkeypatch.setattr(session, "run_together", lambda wanted: (sent.append([request.operation for _, request in wanted]), run(wanted))[1])
    return sent


@pytest.mark.filterwarnings("ignore:Exception ignored in. <function Pool.__del__:pytest.PytestUnraisableExceptionWarning")
def test_each_class_has_mllibs_model(model, theirs, features, plain, table):
    """Coefficients of each class, scores and predictions are MLlib's; columns are in its order, and the released model agrees."""
    released = model.release()
    for ours, other in zip(released.models, theirs.models, strict=True):
        assert np.allclose(ours.coefficients, other.coefficients, rtol=0, atol=1e-7)
        assert ours.intercept == pytest.approx(other.intercept, abs=1e-6)
    out, expected = model.transform(features), theirs.transform(plain)
    assert [(name, kind) for name, kind in out.dtypes if name not in table.column_names] == [
        (name, kind) for name, kind in expected.dtypes if name not in table.column_names
    ]
    columns = ["name", "prediction", "rawPrediction"]
    rows = out.release(columns=columns).toPandas().set_index("name").sort_index()
    wanted = expected.select(columns).toPandas().set_index("name").sort_index()
    scores = np.stack([value.toArray() for value in wanted["rawPrediction"]])
    assert np.allclose(np.stack(rows["rawPrediction"]), scores, rtol=0, atol=1e-4)
    # Rows of two equal scores, to the tolerance above, may be of either class.
    clear = np.diff(np.sort(scores, axis=1), axis=1)[:, -1] > 1e-4
    assert (rows["prediction"] == wanted["prediction"])[clear].all()
    row = Vectors.dense(40.0, 3.0, 120.0)
    plain_row = plain.sparkSession.createDataFrame([(row,)], ["features"])
    assert released.predict(row) == theirs.transform(plain_row).head()["prediction"]
    assert len(released.predictRaw(row)) == 3


def test_a_model_is_released_to_its_analyst_as_one(model, deployment):
    """For somebody else each class is released on its own, which the error says before a release is asked for."""
    with pytest.raises(UsageError, match="each of its"):
        model.release(deployment.owner.public)
    assert len(model.release(deployment.analyst.public).models) == 3


def test_models_are_saved_copied_and_named_anew(model, features, tmp_path):
    """A loaded model predicts as the saved one, one without an output column leaves it out, and another folder is refused."""
    model.save(str(tmp_path / "model"))
    loaded = OneVsRestModel.load(str(tmp_path / "model"))
    assert (loaded.uid, len(loaded.models), loaded.getClassifier().getMaxIter()) == (model.uid, 3, 50)
    evaluator = MulticlassClassificationEvaluator(labelCol="group", metricName="accuracy")
    renamed = loaded.copy({loaded.predictionCol: "found", loaded.rawPredictionCol: ""}).transform(features)
    assert [name for name in renamed.columns if name not in features.columns] == ["found"]
    assert evaluator.setPredictionCol("found").evaluate(renamed) > 0.3
    model.models[0].save(str(tmp_path / "single"))
    with pytest.raises(FormatError, match="LogisticRegressionModel"):
        OneVsRestModel.load(str(tmp_path / "single"))
    estimator = OneVsRest(classifier=LinearSVC(maxIter=3), parallelism=2)
    estimator.save(str(tmp_path / "estimator"))
    again = OneVsRest.load(str(tmp_path / "estimator"))
    assert (again.getParallelism(), again.getClassifier().getMaxIter(), again.getClassifier().uid) == (2, 3, estimator.getClassifier().uid)


def test_all_classes_train_in_one_stage(features, session, monkeypatch):
    """The models of all classes go over the rows together, those of a declared number without a count; threads deal them out."""
    sent = jobs_of(monkeypatch, session)
    estimator = OneVsRest(classifier=DecisionTreeClassifier(maxDepth=2), labelCol="group")
    estimator.fit(features)
    declared = features.withMetadata("group", {"ml_attr": {"type": "nominal", "vals": ["a", "b", "c", "none"]}})
    found = estimator.setParallelism(2).fit(declared.filter(col("age") > 0))
    assert sent[:2] == [["ClassCounter"], ["DecisionTreeClassifier"] * 3]
    assert sorted(sent[2:]) == [["DecisionTreeClassifier"] * 2] * 2
    # Nobody is of the last class, so that nobody is taken for one.
    rows = found.transform(features).release(columns=["rawPrediction", "prediction"]).toPandas()
    assert not np.stack(rows["rawPrediction"])[:, 3].any()
    assert rows["prediction"].isin([0.0, 1.0, 2.0]).all()


@pytest.mark.parametrize(
    "classifier", [LinearSVC(maxIter=5), NaiveBayes(modelType="gaussian"), GBTClassifier(maxIter=2), RandomForestClassifier(numTrees=2)]
)
def test_every_classifier_is_one(features, classifier):
    """Each other classifier trains a model for each class, of one that no row has too, and transforms."""
    declared = features.withMetadata("ill", {"ml_attr": {"type": "nominal", "num_vals": 3}})
    model = OneVsRest(classifier=classifier, labelCol="ill").fit(declared)
    evaluator = MulticlassClassificationEvaluator(labelCol="ill", metricName="accuracy")
    assert evaluator.evaluate(model.transform(features)) > 0.5


def test_grids_and_pipelines_hold_it(features, session, monkeypatch, tmp_path):
    """A grid over the classifier's Params trains all classes of all entries together, and is saved with its validator."""
    classifier = LogisticRegression(maxIter=3)
    estimator = OneVsRest(classifier=classifier, labelCol="group")
    grid = ParamGridBuilder().addGrid(classifier.regParam, [0.01, 10.0]).build()
    sent = jobs_of(monkeypatch, session)
    models = dict(estimator.fitMultiple(features, grid))
    assert sent == [["ClassCounter"], ["LogisticRegression"] * 6]
    assert [models[index].models[0].getRegParam() for index in (0, 1)] == [0.01, 10.0]
    validator = CrossValidator(estimator=estimator, estimatorParamMaps=grid, evaluator=MulticlassClassificationEvaluator(labelCol="group"))
    validator.save(str(tmp_path / "validator"))
    entries = CrossValidator.load(str(tmp_path / "validator")).getEstimatorParamMaps()
    assert [list(entry.values()) for entry in entries] == [[0.01], [10.0]]
    fitted = Pipeline(stages=[estimator]).fit(features.withMetadata("group", {"ml_attr": {"type": "binary"}}))
    assert [type(stage), len(stage.models)] == [OneVsRestModel, 2] if (stage := fitted.stages[0]) else False


def test_a_policy_says_whether_classes_are_counted(deployment, session):
    """Without a rule that releases the count nothing trains, unless the analyst names the number of classes."""
    path = deployment.dataset(patients(rows=60), "counted")
    frame = session.read(path)
    outputs = (OutputKind.SEALED_MODEL,)
    deployment.allow(frame.source.manifest.dataset_id, outputs=outputs, operations={"LogisticRegression": {}})
    rows = frame.withColumn("features", col("age"))
    estimator = OneVsRest(classifier=LogisticRegression(maxIter=2), labelCol="group")
    with pytest.raises(PolicyError, match="withMetadata"):
        estimator.fit(rows)
    assert len(estimator.fit(rows.withMetadata("group", {"ml_attr": {"type": "nominal", "num_vals": 3}})).models) == 3


def test_what_is_no_classifier_is_refused(features):
    """Other estimators, unsealed classifiers, labels that are no classes and absurd metadata are errors before anything trains."""
    for classifier in (None, classification.LogisticRegression, Pipeline()):
        made = OneVsRest(labelCol="group") if classifier is None else OneVsRest(classifier=classifier, labelCol="group")
        with pytest.raises(UsageError, match="no classifier"):
            made.fit(features)
    estimator = OneVsRest(classifier=LogisticRegression(), labelCol="age")
    with pytest.raises(DataError, match="labels 0, 1, 2"):
        estimator.fit(features.withColumn("age", col("age") + 0.5))
    with pytest.raises(UsageError, match="from 1 to 1000"):
        estimator.fit(features.withMetadata("age", {"ml_attr": {"type": "nominal", "num_vals": 0}}))
    with pytest.raises(UsageError, match="does not exist"):
        estimator.copy({estimator.labelCol: "nobody"}).fit(features)
