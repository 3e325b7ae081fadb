"""Do sealed estimators, models, evaluators and pipelines give what pyspark.ml gives, and nothing that the policy does not?"""

import numpy as np
import pytest
from pyspark.ml import Pipeline as PlainPipeline
from pyspark.ml import classification, clustering, evaluation, feature, regression
from pyspark.ml.linalg import Matrices, Vectors
from pyspark.sql.types import DoubleType, IntegerType

from securemllib.errors import DataError, FormatError, PolicyError, SealedError, UsageError
from securemllib.ml import Pipeline, PipelineModel
from securemllib.ml.classification import DecisionTreeClassifier, GBTClassifier, LogisticRegression, LogisticRegressionModel
from securemllib.ml.clustering import KMeans
from securemllib.ml.evaluation import (
    BinaryClassificationEvaluator,
    ClusteringEvaluator,
    MulticlassClassificationEvaluator,
    RegressionEvaluator,
)
from securemllib.ml.feature import PCA, StandardScaler, VectorAssembler
from securemllib.ml.regression import LinearRegression
from securemllib.spark.functions import col

LOGISTIC = {"labelCol": "ill", "regParam": 0.01, "maxIter": 20}


@pytest.fixture(scope="module")
def logistic(features):
    """A sealed model."""
    return LogisticRegression(**LOGISTIC).fit(features)


@pytest.fixture(scope="module")
def plain_logistic(plain):
    """The same in the clear."""
    return classification.LogisticRegression(**LOGISTIC).fit(plain)


def test_linear_regression_is_that_of_mllib(features, plain):
    """Linear regression has MLlib's coefficients to 1e-8, with weights and an elastic net too."""
    for params in ({"labelCol": "pressure"}, {"labelCol": "pressure", "weightCol": "weight", "regParam": 0.1, "elasticNetParam": 0.3}):
        rows = VectorAssembler(inputCols=["age", "dose"], outputCol="x").transform(features)
        plain_rows = feature.VectorAssembler(inputCols=["age", "dose"], outputCol="x").transform(plain)
        ours = LinearRegression(featuresCol="x", tol=1e-12, **params).fit(rows).release()
        theirs = regression.LinearRegression(featuresCol="x", tol=1e-12, **params).fit(plain_rows)
        assert np.allclose(ours.coefficients, theirs.coefficients, rtol=0, atol=1e-8)
        assert abs(ours.intercept - theirs.intercept) < 1e-6
        assert ours.predict(Vectors.dense(40.0, 3.0)) == pytest.approx(theirs.predict(Vectors.dense(40.0, 3.0)))


def test_multinomial_regression_is_that_of_mllib(features, plain):
    """Multinomial logistic regression has MLlib's matrix, and its released model no binomial attributes."""
    params = {"labelCol": "group", "family": "multinomial", "regParam": 0.05, "maxIter": 50}
    ours = LogisticRegression(**params).fit(features).release()
    theirs = classification.LogisticRegression(**params).fit(plain)
    assert np.allclose(ours.coefficientMatrix.toArray(), theirs.coefficientMatrix.toArray(), rtol=0, atol=1e-6)
    assert np.allclose(ours.interceptVector, theirs.interceptVector, rtol=0, atol=1e-5)
    with pytest.raises(UsageError, match="coefficientMatrix"):
        ours.coefficients  # noqa: B018


def test_scaler_and_components_are_those_of_mllib(features, plain):
    """Standard deviations, means, components and explained variance are MLlib's, the components up to their sign."""
    scaler = StandardScaler(inputCol="features", outputCol="scaled", withMean=True).fit(features)
    plain_scaler = feature.StandardScaler(inputCol="features", outputCol="scaled", withMean=True).fit(plain)
    assert np.allclose(scaler.release().std, plain_scaler.std)
    assert np.allclose(scaler.release().mean, plain_scaler.mean)
    ours = PCA(k=2, inputCol="scaled", outputCol="parts").fit(scaler.transform(features)).release()
    theirs = feature.PCA(k=2, inputCol="scaled", outputCol="parts").fit(plain_scaler.transform(plain))
    assert np.allclose(ours.explainedVariance, theirs.explainedVariance, rtol=0, atol=1e-6)
    assert np.allclose(np.abs(ours.pc.toArray()), np.abs(theirs.pc.toArray()), rtol=0, atol=1e-6)


def test_clusters_cost_what_mllibs_cost(features, plain):
    """K-Means costs at most 1 % more than the better of three of MLlib's, and its silhouette is that of MLlib's evaluator on its rows."""
    model = KMeans(k=2, seed=3, maxIter=30).fit(features)
    costs = [clustering.KMeans(k=2, seed=seed, maxIter=30).fit(plain).summary.trainingCost for seed in (1, 2, 3)]
    assert model.summary.trainingCost <= 1.01 * min(costs)
    assert sum(model.summary.clusterSizes) == features.count()
    assert len(model.release().clusterCenters()) == 2
    assert model.transform(features).schema["prediction"].dataType == IntegerType()
    silhouette = ClusteringEvaluator().evaluate(model.transform(features))
    theirs = clustering.KMeans(k=2, seed=3, maxIter=30).fit(plain)
    assert silhouette == pytest.approx(evaluation.ClusteringEvaluator().evaluate(theirs.transform(plain)), abs=0.02)


def test_metrics_are_those_of_mllib(logistic, plain_logistic, features, plain):
    """Each evaluator gives MLlib's metric for the same predictions, and orders models as MLlib does."""
    ours, theirs = logistic.transform(features), plain_logistic.transform(plain)
    for metric in ("areaUnderROC", "areaUnderPR"):
        mine, original = (
            BinaryClassificationEvaluator(labelCol="ill", metricName=metric),
            evaluation.BinaryClassificationEvaluator(labelCol="ill", metricName=metric),
        )
        assert mine.evaluate(ours) == pytest.approx(original.evaluate(theirs), abs=1e-9)
        assert mine.isLargerBetter() == original.isLargerBetter()
    for metric in ("f1", "accuracy", "logLoss"):
        mine = MulticlassClassificationEvaluator(labelCol="ill", metricName=metric, weightCol="weight")
        original = evaluation.MulticlassClassificationEvaluator(labelCol="ill", metricName=metric, weightCol="weight")
        assert mine.evaluate(ours) == pytest.approx(original.evaluate(theirs), abs=1e-9)
        assert mine.isLargerBetter() == original.isLargerBetter()
    for metric in ("rmse", "r2"):
        mine = RegressionEvaluator(labelCol="ill", metricName=metric)
        original = evaluation.RegressionEvaluator(labelCol="ill", metricName=metric)
        assert mine.evaluate(ours) == pytest.approx(original.evaluate(theirs), abs=1e-9)
        assert mine.isLargerBetter() == original.isLargerBetter()


def test_transform_adds_the_columns_of_mllib(logistic, plain_logistic, features, plain, table):
    """A transformed frame has MLlib's columns and types, and the predictions that the policy lets out are MLlib's."""
    out = logistic.transform(features)
    expected = plain_logistic.transform(plain)
    assert [(name, kind) for name, kind in out.dtypes if name not in table.column_names] == [
        (name, kind) for name, kind in expected.dtypes if name not in table.column_names
    ]
    rows = out.release(columns=["name", "prediction", "probability"]).toPandas().set_index("name").sort_index()
    theirs = expected.select("name", "prediction", "probability").toPandas().set_index("name").sort_index()
    assert (rows["prediction"] == theirs["prediction"]).all()
    assert np.allclose(np.stack(rows["probability"]), np.stack([value.toArray() for value in theirs["probability"]]), atol=1e-9)


def test_a_changed_threshold_changes_predictions(logistic, plain_logistic, features, plain):
    """A threshold set after training counts in the sealed transform, as in MLlib."""
    rows = logistic.copy().setThreshold(0.9).transform(features).release(columns=["prediction"]).toPandas()
    assert rows["prediction"].sum() == plain_logistic.copy().setThreshold(0.9).transform(plain).toPandas()["prediction"].sum()


def test_an_empty_output_column_is_left_out(logistic, features):
    """An output column that is set to the empty string is not made."""
    out = logistic.copy().setProbabilityCol("").transform(features)
    assert {"rawPrediction", "prediction"} <= set(out.columns)
    assert "probability" not in out.columns


SEALED = sorted(
    {name for name in dir(classification.LogisticRegressionModel) if not name.startswith("_")} - set(dir(LogisticRegressionModel))
)


@pytest.mark.parametrize("name", SEALED)
def test_the_inside_of_a_model_is_sealed(name, logistic):
    """What would show a model's inside is refused with the way to release it; a name that no model has is no attribute."""
    with pytest.raises(SealedError, match="enclaves"):
        getattr(logistic, name)
    with pytest.raises(AttributeError):
        logistic.noSuchThing  # noqa: B018


def test_coefficients_are_among_the_sealed():
    """The list of sealed names holds what matters."""
    assert {"coefficients", "intercept", "coefficientMatrix", "interceptVector", "numClasses", "numFeatures", "predict"} <= set(SEALED)


def test_a_pipeline_is_that_of_mllib(frame, spark, table, tmp_path):
    """A pipeline of assembler, scaler and classifier predicts as MLlib's does, also after it was saved and loaded."""

    def stages(features, classifiers):
        return [
            features.VectorAssembler(inputCols=["age", "dose", "pressure"], outputCol="raw"),
            features.StandardScaler(inputCol="raw", outputCol="features", withMean=True),
            classifiers(**LOGISTIC),
        ]

    from securemllib.ml import feature as our_feature

    fitted = Pipeline(stages=stages(our_feature, LogisticRegression)).fit(frame)
    rows = spark.createDataFrame(table.to_pandas()).coalesce(1)
    theirs = PlainPipeline(stages=stages(feature, classification.LogisticRegression)).fit(rows).transform(rows).toPandas()
    fitted.write().save(str(tmp_path / "model"))
    for model in (fitted, PipelineModel.load(str(tmp_path / "model"))):
        out = model.transform(frame).release(columns=["name", "prediction"]).toPandas().set_index("name")["prediction"]
        assert (out.sort_index() == theirs.set_index("name")["prediction"].sort_index()).all()


def test_saved_models_stay_sealed_and_load_as_they_were(logistic, features, tmp_path):
    """A loaded model has its Params and its sealed bytes; nothing of its inside is in the folder."""
    path = tmp_path / "model"
    logistic.write().save(str(path))
    loaded = LogisticRegressionModel.load(str(path))
    assert (loaded.uid, loaded.getRegParam(), loaded.sealed) == (logistic.uid, logistic.getRegParam(), logistic.sealed)
    assert loaded.release().coefficients == logistic.release().coefficients
    first = np.float64(logistic.release().coefficients[0]).tobytes()
    assert not any(first in file.read_bytes() for file in path.rglob("*") if file.is_file())


def test_saving_overwrites_only_when_told(logistic, tmp_path):
    """An existing path is refused, overwritten when told, and never where it holds something else."""
    path = str(tmp_path / "model")
    logistic.save(path)
    with pytest.raises(UsageError, match="exists"):
        logistic.save(path)
    logistic.write().overwrite().save(path)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="something else"):
        logistic.write().overwrite().save(str(tmp_path / "precious"))
    assert (tmp_path / "precious" / "thesis.txt").exists()
    (tmp_path / "empty").mkdir()
    logistic.write().overwrite().save(str(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"kind": "LogisticRegressionModel"', '"kind": "os.system"'),
        ('"kind": "LogisticRegressionModel"', '"kind": "KMeansModel"'),
        ('"format"', '"formats"'),
        ('"regParam": 0.01', '"noParam": 0.01'),
        ('"regParam": 0.01', '"regParam": [1]'),
        ('"stages": []', '"stages": ["../../x"]'),
        ("{", "["),
    ],
)
def test_metadata_is_read_strictly(old, new, logistic, tmp_path):
    """Saved metadata that names another class, field, Param or path is refused; nothing that it names is imported."""
    logistic.save(str(tmp_path / "model"))
    file = tmp_path / "model" / "metadata.json"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(FormatError):
        LogisticRegressionModel.load(str(tmp_path / "model"))


def test_estimators_are_saved_with_their_params(tmp_path):
    """An estimator, an assembler and an evaluator load with the Params they were saved with."""
    for number, instance in enumerate(
        (
            LogisticRegression(**LOGISTIC, thresholds=[0.4, 0.6]),
            VectorAssembler(inputCols=["a"], outputCol="b"),
            RegressionEvaluator(metricName="r2"),
        )
    ):
        instance.save(str(tmp_path / str(number)))
        loaded = type(instance).load(str(tmp_path / str(number)))
        assert {param.name: value for param, value in loaded._paramMap.items()} == {
            param.name: value for param, value in instance._paramMap.items()
        }


def test_bounds_are_saved_dense_or_sparse(tmp_path):
    """Bounds that are sparse vectors and matrices load as the numbers that they hold."""
    estimator = LogisticRegression(
        upperBoundsOnIntercepts=Vectors.sparse(4, [(1, 1.0), (3, 5.5)]),
        upperBoundsOnCoefficients=Matrices.sparse(1, 2, [0, 0, 1], [0], [2.0]),
    )
    estimator.save(str(tmp_path / "bounds"))
    loaded = LogisticRegression.load(str(tmp_path / "bounds"))
    assert loaded.getUpperBoundsOnIntercepts() == estimator.getUpperBoundsOnIntercepts()
    assert loaded.getUpperBoundsOnCoefficients() == estimator.getUpperBoundsOnCoefficients()


def test_a_path_without_a_folder_is_said_not_to_exist(tmp_path):
    """Loading from a path where nothing is names the path; MLlib says the same."""
    with pytest.raises(UsageError, match="Path does not exist"):
        LogisticRegression.load(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("estimator", [DecisionTreeClassifier(labelCol="group"), GBTClassifier(labelCol="ill", maxIter=1)])
def test_models_load_whatever_their_estimators_are_called(estimator, features, tmp_path):
    """A model loads although its name is not its estimator's and the word Model."""
    model = estimator.fit(features)
    model.save(str(tmp_path / "trees"))
    assert type(model).load(str(tmp_path / "trees")).release().toDebugString == model.release().toDebugString


@pytest.mark.parametrize(
    "wrong",
    [
        {"regParam": -1.0},
        {"elasticNetParam": 1.5},
        {"maxIter": -1},
        {"tol": -1e-3},
        {"family": "poisson"},
        {"threshold": 1.5},
        {"aggregationDepth": 3},
        {"labelCol": "nothing"},
        {"featuresCol": "name"},
        {"labelCol": "name"},
        {"predictionCol": "age"},
    ],
)
def test_params_out_of_their_domain_are_refused(wrong, features):
    """A value that MLlib refuses, a Param without effect, and a wrong column are refused before a job is sent."""
    with pytest.raises(UsageError):
        LogisticRegression(**{**LOGISTIC, **wrong}).fit(features)


def test_plain_rows_are_refused(plain):
    """A plain data frame is refused, with the way to the right one."""
    with pytest.raises(UsageError, match="SecureDataFrame"):
        LogisticRegression(**LOGISTIC).fit(plain)
    with pytest.raises(UsageError, match="SecureDataFrame"):
        VectorAssembler(inputCols=["age"], outputCol="x").transform(plain)


def test_param_maps_override(features):
    """Fit with a list of param maps gives a model each, as in pyspark.ml."""
    estimator = LogisticRegression(**LOGISTIC)
    models = estimator.fit(features, [{estimator.maxIter: 1}, {estimator.maxIter: 5}])
    assert [model.summary.totalIterations for model in models] == [1, 5]


def test_nulls_are_handled_as_in_mllib(deployment, session, table):
    """Nulls among assembled columns are an error by default, and are skipped when told."""
    from tests.deployment import patients

    rows = session.read(deployment.dataset(patients(nulls=40), "nulls"))
    with pytest.raises(DataError) as caught:
        LogisticRegression(**LOGISTIC).fit(VectorAssembler(inputCols=["age", "dose"], outputCol="features").transform(rows))
    assert caught.value.error_code == "data.null"
    skipping = VectorAssembler(inputCols=["age", "dose"], outputCol="features", handleInvalid="skip").transform(rows)
    assert LogisticRegression(**LOGISTIC).fit(skipping).summary.totalIterations > 0


def test_an_empty_selection_is_a_data_error(features):
    """A filter that keeps no row ends the fit with an error of the data, not of the cluster."""
    with pytest.raises(DataError):
        LogisticRegression(**LOGISTIC).fit(features.filter(col("age") > 1000))


def test_a_policy_without_summary_still_trains(deployment, session, table):
    """Where the policy gives no summary the fit goes on without; where it gives no model, it is refused with the rule."""
    from securemllib.wire.job import OutputKind

    path = deployment.dataset(table, "strict")
    rows = VectorAssembler(inputCols=["age", "dose"], outputCol="features").transform(session.read(path))
    deployment.allow(rows.source.manifest.dataset_id, outputs=(OutputKind.SEALED_MODEL,))
    model = LogisticRegression(**LOGISTIC).fit(rows)
    with pytest.raises(SealedError):
        model.summary.totalIterations  # noqa: B018
    with pytest.raises(PolicyError):
        model.release()
    with pytest.raises(PolicyError):
        rows.release(columns=["age"])
    deployment.allow(rows.source.manifest.dataset_id, outputs=(OutputKind.METRIC,))
    with pytest.raises(PolicyError):
        LogisticRegression(**LOGISTIC).fit(rows)


def test_columns_that_the_policy_does_not_name_are_refused(deployment, session, table):
    """A job that reads a column outside of the policy is refused; one inside is not."""
    path = deployment.dataset(table, "columns")
    rows = session.read(path)
    deployment.allow(rows.source.manifest.dataset_id, columns=("age", "dose", "ill"))
    allowed = VectorAssembler(inputCols=["age", "dose"], outputCol="features").transform(rows)
    assert LogisticRegression(**LOGISTIC).fit(allowed).summary.totalIterations > 0
    with pytest.raises(PolicyError) as caught:
        LogisticRegression(**LOGISTIC).fit(VectorAssembler(inputCols=["age", "pressure"], outputCol="features").transform(rows))
    assert "column" in caught.value.error_code


def test_outputs_have_the_documented_types(logistic, features):
    """The prediction column of a classifier is a double, as in pyspark.ml."""
    assert logistic.transform(features).schema["prediction"].dataType == DoubleType()


def test_bounds_are_those_of_mllib(features, plain):
    """Bounds on coefficients and intercepts, given as matrix and vector, give MLlib's constrained coefficients."""
    params = {
        "labelCol": "ill",
        "maxIter": 100,
        "lowerBoundsOnCoefficients": Matrices.dense(1, 3, [0.0, 0.0, 0.01]),
        "upperBoundsOnCoefficients": Matrices.dense(1, 3, [0.05, 0.3, 1.0]),
        "upperBoundsOnIntercepts": Vectors.dense(0.0),
    }
    ours = LogisticRegression(**params).fit(features).release()
    theirs = classification.LogisticRegression(**params).fit(plain)
    assert np.allclose(ours.coefficients, theirs.coefficients, rtol=0, atol=1e-4)
