"""Are summaries' metrics those of pyspark.ml, computed when they are asked for, and released only as the policy says?"""

import numpy as np
import pandas as pd
import pytest
from pyspark.ml import classification, clustering, feature, regression

from securemllib.errors import DataError, PolicyError, SealedError, UsageError
from securemllib.ml import Pipeline
from securemllib.ml.classification import (
    BinaryLogisticRegressionSummary,
    BinaryLogisticRegressionTrainingSummary,
    LogisticRegression,
    LogisticRegressionModel,
    LogisticRegressionSummary,
    LogisticRegressionTrainingSummary,
)
from securemllib.ml.clustering import KMeans, KMeansModel
from securemllib.ml.feature import PCA, StandardScaler, VectorAssembler
from securemllib.ml.regression import GeneralizedLinearRegression, LinearRegression, LinearRegressionModel, LinearRegressionTrainingSummary
from securemllib.spark.dataframe import SecureDataFrame
from securemllib.spark.functions import col
from securemllib.wire.job import OutputKind

# Both sides minimise to the same tolerance; what is left is the order of summation.
TOLERANCE = 1e-6
LOGISTIC = {"labelCol": "ill", "weightCol": "weight", "regParam": 0.01, "maxIter": 50, "tol": 1e-10}
LINEAR = {"labelCol": "pressure", "featuresCol": "x", "weightCol": "weight"}

NAMES = ("labelCol", "predictionCol", "featuresCol")
BY_LABEL = ("labels", "truePositiveRateByLabel", "falsePositiveRateByLabel", "precisionByLabel", "recallByLabel")
WEIGHTED = ("accuracy", "weightedTruePositiveRate", "weightedFalsePositiveRate", "weightedRecall", "weightedPrecision")
CURVES = ("roc", "pr", "fMeasureByThreshold", "precisionByThreshold", "recallByThreshold")
ERRORS = (
    "explainedVariance", "meanAbsoluteError", "meanSquaredError", "rootMeanSquaredError", "r2", "r2adj", "numInstances", "degreesOfFreedom",
)  # fmt: skip


@pytest.fixture(scope="module")
def logistic(features):
    """A sealed model of two classes."""
    return LogisticRegression(**LOGISTIC).fit(features)


@pytest.fixture(scope="module")
def plain_logistic(plain):
    """The same in the clear."""
    return classification.LogisticRegression(**LOGISTIC).fit(plain)


@pytest.fixture(scope="module")
def lines(frame):
    """The frame with two features."""
    return VectorAssembler(inputCols=["age", "dose"], outputCol="x").transform(frame)


@pytest.fixture(scope="module")
def plain_lines(plain):
    """The same in the clear."""
    return feature.VectorAssembler(inputCols=["age", "dose"], outputCol="x").transform(plain)


@pytest.fixture
def jobs(session, monkeypatch):
    """The operations of the jobs that the session runs."""
    run, seen = session.run_together, []

    def watched(wanted):
        seen.extend(request.operation for _, request in wanted)
        return run(wanted)

    monkeypatch.setattr(session, "run_together", watched)
    return seen


def assert_same(ours, theirs, names):
    """Compare numbers, lists and texts of two summaries."""
    for name in names:
        mine, original = getattr(ours, name), getattr(theirs, name)
        if isinstance(mine, str):
            assert mine == original, name
        else:
            assert np.allclose(mine, original, rtol=TOLERANCE, atol=TOLERANCE), name


def assert_classifies_alike(ours, theirs):
    """Compare what summaries of any number of classes have."""
    assert_same(ours, theirs, (*NAMES, "probabilityCol", "weightCol", *BY_LABEL, *WEIGHTED))
    for beta in (1.0, 0.5):
        assert np.allclose(ours.fMeasureByLabel(beta), theirs.fMeasureByLabel(beta), atol=TOLERANCE)
        assert ours.weightedFMeasure(beta) == pytest.approx(theirs.weightedFMeasure(beta), abs=TOLERANCE)


def assert_curves_alike(ours, theirs):
    """Compare what summaries of two classes have beside."""
    assert_same(ours, theirs, ("scoreCol", "areaUnderROC"))
    for name in CURVES:
        mine, original = getattr(ours, name), getattr(theirs, name).toPandas()
        assert type(mine) is pd.DataFrame
        assert list(mine.columns) == list(original.columns)
        assert np.allclose(mine, original, rtol=0, atol=TOLERANCE), name


def test_a_binary_training_summary_is_that_of_mllib(logistic, plain_logistic):
    """Metrics, curves with their column names, and the history of a weighted training are MLlib's."""
    ours, theirs = logistic.summary, plain_logistic.summary
    assert type(ours) is BinaryLogisticRegressionTrainingSummary
    assert_classifies_alike(ours, theirs)
    assert_curves_alike(ours, theirs)
    assert_same(ours, theirs, ("objectiveHistory", "totalIterations"))


def test_an_evaluation_on_other_rows_is_that_of_mllib(logistic, plain_logistic, features, plain):
    """Metrics and curves on the rows of a filter, also without the weights, are MLlib's, and tell nothing of the training."""
    for drop in ((), ("weight",)):
        ours = logistic.evaluate(features.filter(col("age") > 50).drop(*drop))
        theirs = plain_logistic.evaluate(plain.where("age > 50").drop(*drop))
        assert type(ours) is BinaryLogisticRegressionSummary
        assert_classifies_alike(ours, theirs)
        assert_curves_alike(ours, theirs)
    with pytest.raises(AttributeError):
        ours.objectiveHistory  # noqa: B018


def test_a_multiclass_summary_is_that_of_mllib(features, plain):
    """Metrics of three classes are MLlib's, and there is no curve, with thresholds and without."""
    params = {"labelCol": "group", "regParam": 0.001, "maxIter": 200, "tol": 1e-12}
    for thresholds in ({}, {"thresholds": [0.3, 0.34, 0.36]}):
        model = LogisticRegression(**params, **thresholds).fit(features)
        theirs = classification.LogisticRegression(**params, **thresholds).fit(plain)
        assert_classifies_alike(model.summary, theirs.summary)
        assert_classifies_alike(model.evaluate(features), theirs.evaluate(plain))
        assert type(model.summary) is LogisticRegressionTrainingSummary
        assert type(model.copy().evaluate(features)) is LogisticRegressionSummary
        with pytest.raises(AttributeError):
            model.summary.roc  # noqa: B018


def test_a_loaded_model_does_not_tell_its_classes(features, tmp_path):
    """The number of classes is in the training's summary alone: a loaded model of three classes has curves by name, and refuses them."""
    model = LogisticRegression(labelCol="group", maxIter=3).fit(features)
    model.save(str(tmp_path / "model"))
    loaded = LogisticRegressionModel.load(str(tmp_path / "model"))
    evaluated = loaded.evaluate(features)
    assert type(evaluated) is BinaryLogisticRegressionSummary
    with pytest.raises(DataError):
        evaluated.roc  # noqa: B018


def test_metrics_are_computed_once_and_only_when_asked_for(logistic, features, jobs):
    """A summary runs no job until a metric is read, then one for all metrics by label and one for all curves."""
    summary = logistic.evaluate(features)
    assert isinstance(summary.predictions, SecureDataFrame)
    assert summary.labelCol == "ill"
    assert jobs == []
    assert summary.accuracy + summary.weightedPrecision + len(summary.labels) > 0
    assert jobs == ["MulticlassClassificationEvaluator"]
    assert summary.areaUnderROC + len(summary.roc) + len(summary.pr) > 0
    assert jobs == ["MulticlassClassificationEvaluator", "BinaryClassificationEvaluator"]


def test_a_released_curve_is_the_readers_own(logistic):
    """Who changes a curve changes his copy, not the summary's."""
    curve = logistic.summary.roc
    before = logistic.summary.areaUnderROC, logistic.summary.roc.copy()
    curve.loc[:, "TPR"] = 7.0
    assert logistic.summary.roc.equals(before[1])


def test_predictions_of_a_summary_stay_sealed(logistic, features):
    """The rows of a summary are those of transform, and no row is shown."""
    assert logistic.evaluate(features).predictions.columns == logistic.transform(features).columns
    with pytest.raises(SealedError):
        logistic.summary.predictions.collect()


def test_a_summary_needs_sealed_rows_with_labels(logistic, features, plain):
    """Plain rows, and rows without the label, are refused before a job is sent."""
    for model in (logistic, LinearRegression(**LINEAR).fit(features.withColumn("x", col("age")))):
        with pytest.raises(UsageError, match="SecureDataFrame"):
            model.evaluate(plain)
    with pytest.raises(UsageError, match="ill"):
        logistic.evaluate(features.drop("ill"))


def test_an_empty_prediction_column_is_made_for_the_summary(logistic, plain_logistic, features, plain):
    """A model without probability and prediction columns is evaluated all the same, as in MLlib."""

    def without(model):
        return model.copy().setPredictionCol("").setProbabilityCol("")

    ours, theirs = without(logistic).evaluate(features), without(plain_logistic).evaluate(plain)
    assert {ours.predictionCol, ours.probabilityCol} <= set(ours.predictions.columns)
    assert_same(ours, theirs, (*WEIGHTED, "areaUnderROC"))


def test_a_training_summary_keeps_the_params_of_the_training(features):
    """A threshold that is set after the training changes evaluations, and not the training's summary."""
    model = LogisticRegression(**LOGISTIC).fit(features)
    model.setThreshold(0.95)
    assert model.summary.recallByLabel[1] > model.evaluate(features).recallByLabel[1]


@pytest.mark.parametrize("intercept", [True, False])
def test_a_linear_summary_is_that_of_mllib(intercept, lines, plain_lines):
    """Errors, r2 and degrees of freedom are MLlib's for the training and for other rows, with and without an intercept."""
    ours = LinearRegression(**LINEAR, fitIntercept=intercept).fit(lines)
    theirs = regression.LinearRegression(**LINEAR, fitIntercept=intercept).fit(plain_lines)
    assert type(ours.summary) is LinearRegressionTrainingSummary
    assert_same(ours.summary, theirs.summary, (*NAMES, *ERRORS, "objectiveHistory", "totalIterations"))
    others, plain_others = ours.evaluate(lines.filter(col("age") > 50)), theirs.evaluate(plain_lines.where("age > 50"))
    assert_same(others, plain_others, (*NAMES, *ERRORS))


def test_rows_of_weight_0_are_no_instances(lines, plain_lines):
    """Rows of weight 0 count for nothing in the number of instances and what follows from it, as in MLlib."""
    # A third of the groups is 0.
    ours = LinearRegression(**LINEAR | {"weightCol": "group"}).fit(lines).summary
    theirs = regression.LinearRegression(**LINEAR | {"weightCol": "group"}).fit(plain_lines).summary
    assert ours.numInstances < lines.count()
    assert_same(ours, theirs, ERRORS)


def test_residuals_are_sealed_and_those_of_mllib(lines, plain_lines):
    """Residuals are rows: they leave by a release alone, and are MLlib's."""
    summary = LinearRegression(**LINEAR).fit(lines).summary
    theirs = regression.LinearRegression(**LINEAR).fit(plain_lines).summary
    with pytest.raises(SealedError, match="release"):
        summary.residuals.collect()
    released = summary.residuals.release(columns=["residuals"]).toPandas()["residuals"]
    assert np.allclose(np.sort(released), np.sort(theirs.residuals.toPandas()["residuals"]), atol=TOLERANCE)


@pytest.mark.parametrize("weights", [{}, {"weightCol": "weight"}])
def test_deviance_residuals_are_the_extremes_of_mllib(weights, lines, plain_lines, jobs):
    """The smallest and the largest weighted residual are MLlib's, by one job of the Summarizer that is run once."""
    params = {"labelCol": "pressure", "featuresCol": "x", **weights}
    ours = LinearRegression(**params).fit(lines).summary
    theirs = regression.LinearRegression(**params).fit(plain_lines).summary
    assert np.allclose(ours.devianceResiduals, theirs.devianceResiduals, atol=TOLERANCE)
    assert ours.devianceResiduals[0] < 0.0 < ours.devianceResiduals[1]
    assert jobs == ["LinearRegression", "Summarizer"]


@pytest.mark.parametrize("name", ["coefficientStandardErrors", "tValues", "pValues"])
def test_significance_belongs_to_the_training(name, lines, plain_lines):
    """Significance is MLlib's where the normal equations were solved, and refused for other solvers and other rows."""
    model = LinearRegression(**LINEAR).fit(lines)
    assert_same(model.summary, regression.LinearRegression(**LINEAR).fit(plain_lines).summary, (name,))
    with pytest.raises(UsageError, match="summary"):
        getattr(model.evaluate(lines), name)
    with pytest.raises(UsageError, match="normal"):
        getattr(LinearRegression(**LINEAR, solver="l-bfgs").fit(lines).summary, name)


def test_features_are_counted_by_the_plan_or_the_training(frame, lines, tmp_path):
    """Degrees of freedom count features by the plan or by what the training told, and are sealed where neither tells."""
    scaled = StandardScaler(inputCol="x", outputCol="scaled").fit(lines).transform(lines)
    nested = VectorAssembler(inputCols=["scaled", "group"], outputCol="all").transform(scaled).select("pressure", col("all").alias("y"))
    model = LinearRegression(labelCol="pressure", featuresCol="y").fit(nested)
    assert model.summary.degreesOfFreedom == frame.count() - 3 - 1
    reduced = PCA(k=1, inputCol="x", outputCol="part").fit(lines).transform(lines)
    model = LinearRegression(labelCol="pressure", featuresCol="part").fit(reduced)
    assert model.summary.degreesOfFreedom == model.evaluate(reduced).degreesOfFreedom == frame.count() - 1 - 1
    assert model.summary.r2adj < model.summary.r2
    for other in (
        LinearRegression(labelCol="pressure", featuresCol="part", solver="l-bfgs"),
        GeneralizedLinearRegression(labelCol="pressure", featuresCol="part", regParam=0.1),
    ):
        fitted = other.fit(reduced)
        assert fitted.summary.degreesOfFreedom == fitted.evaluate(reduced).degreesOfFreedom == frame.count() - 1 - 1
    fitted.save(str(tmp_path / "model"))
    loaded = type(fitted).load(str(tmp_path / "model")).evaluate(reduced)
    assert loaded.numInstances == frame.count()
    with pytest.raises(SealedError, match="part"):
        loaded.degreesOfFreedom  # noqa: B018


def test_a_clusters_summary_is_that_of_its_predictions(features, plain):
    """Sizes are the counts of the sealed predictions; names and counts are those that MLlib's summary has."""
    model = KMeans(k=2, seed=3, maxIter=30).fit(features)
    summary, theirs = model.summary, clustering.KMeans(k=2, seed=3, maxIter=30).fit(plain).summary
    assert (summary.k, summary.featuresCol, summary.predictionCol) == (theirs.k, theirs.featuresCol, theirs.predictionCol)
    assert summary.cluster.columns == theirs.cluster.columns
    assert summary.predictions.columns[-1] == "prediction"
    released = summary.cluster.release(columns=["prediction"]).toPandas()["prediction"]
    assert released.dtype == np.int32
    assert summary.clusterSizes == [(released == cluster).sum() for cluster in range(2)]
    assert summary.trainingCost == pytest.approx(theirs.trainingCost, rel=0.01)
    assert summary.numIter >= 1
    with pytest.raises(SealedError):
        summary.cluster.collect()


def test_clusters_that_were_not_found_have_no_rows(features, plain):
    """A clustering of fewer distinct rows than clusters has a size for each cluster, as MLlib's."""
    sizes = []
    for kind, assembler, rows in ((KMeans, VectorAssembler, features), (clustering.KMeans, feature.VectorAssembler, plain)):
        model = kind(k=4, seed=1, featuresCol="y").fit(assembler(inputCols=["ill"], outputCol="y").transform(rows))
        sizes.append(sorted(model.summary.clusterSizes))
    assert sizes[0] == sizes[1]
    assert sizes[0][:2] == [0, 0]


def test_a_pipelines_models_have_summaries(frame):
    """A model that a pipeline trained has the summary over the rows of its stage."""
    stages = [VectorAssembler(inputCols=["age", "dose"], outputCol="features"), LogisticRegression(**LOGISTIC)]
    assert Pipeline(stages=stages).fit(frame).stages[1].summary.accuracy > 0.5


@pytest.mark.parametrize("estimator", [LogisticRegression(**LOGISTIC), LinearRegression(labelCol="pressure"), KMeans(k=2)])
def test_a_loaded_model_has_no_summary(estimator, features, tmp_path):
    """A loaded model has no training summary, as in MLlib, and a copy of a trained one has its original's."""
    model = estimator.fit(features)
    model.save(str(tmp_path / "model"))
    loaded = type(model).load(str(tmp_path / "model"))
    assert isinstance(loaded, (LogisticRegressionModel, LinearRegressionModel, KMeansModel))
    assert (model.hasSummary, model.copy().hasSummary, loaded.hasSummary) == (True, True, False)
    with pytest.raises(UsageError, match="No training summary"):
        loaded.summary  # noqa: B018
    if not isinstance(loaded, KMeansModel):
        assert loaded.evaluate(features).predictions.columns == model.summary.predictions.columns


def test_a_policy_without_summaries_releases_none(deployment, session, table):
    """Where no rule lets a summary out, metrics are refused with the rule's name; where one does, they are there."""
    rows = VectorAssembler(inputCols=["age", "dose"], outputCol="x").transform(session.read(deployment.dataset(table, "unsummarised")))
    dataset = rows.source.manifest.dataset_id
    deployment.allow(dataset, outputs=(OutputKind.SEALED_MODEL, OutputKind.METRIC), name="models only")
    logistic = LogisticRegression(**LOGISTIC, featuresCol="x").fit(rows).summary
    linear = LinearRegression(**LINEAR).fit(rows).summary
    clusters = KMeans(k=2, featuresCol="x").fit(rows).summary
    for summary, names in ((logistic, ("accuracy", "roc", "areaUnderROC")), (linear, ("r2", "numInstances"))):
        for name in names:
            with pytest.raises(PolicyError, match="models only"):
                getattr(summary, name)
    for summary, names in ((logistic, ("objectiveHistory", "totalIterations")), (linear, ("tValues",)), (clusters, ("clusterSizes",))):
        for name in names:
            with pytest.raises(SealedError, match="output `summary`"):
                getattr(summary, name)
    deployment.allow(dataset, outputs=(OutputKind.SUMMARY,))
    with pytest.raises(PolicyError):
        logistic.predictions.release(columns=["prediction"])
    assert logistic.accuracy > 0.5
    assert linear.r2 > 0.0


def test_errors_do_not_let_extremes_out(deployment, session, table):
    """A policy of errors alone refuses the two extreme residuals; one that names the Summarizer lets them out, of enough rows only."""
    rows = VectorAssembler(inputCols=["age", "dose"], outputCol="x").transform(session.read(deployment.dataset(table, "extremes")))
    dataset = rows.source.manifest.dataset_id
    summary = LinearRegression(**LINEAR).fit(rows).summary
    deployment.allow(dataset, outputs=(OutputKind.SUMMARY,), operations={"RegressionEvaluator": {}}, name="errors only")
    assert summary.r2 > 0.0
    with pytest.raises(PolicyError, match="errors only"):
        summary.devianceResiduals  # noqa: B018
    allowed = {"outputs": (OutputKind.SUMMARY,), "operations": {"Summarizer": {}}}
    deployment.allow(dataset, **allowed, min_group_size=table.num_rows + 1)
    with pytest.raises(PolicyError, match="group"):
        summary.devianceResiduals  # noqa: B018
    deployment.allow(dataset, **allowed, min_group_size=table.num_rows)
    assert len(summary.devianceResiduals) == 2
