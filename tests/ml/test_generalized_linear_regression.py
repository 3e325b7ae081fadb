"""Does a sealed generalized linear regression give pyspark.ml's model, predictions and summary?"""

import numpy as np
import pytest
from pyspark.ml import regression
from pyspark.ml.feature import VectorAssembler as PlainAssembler
from pyspark.ml.linalg import Vectors
from pyspark.sql import functions as plain_functions

from securemllib.errors import PolicyError, SealedError, UsageError
from securemllib.ml.feature import VectorAssembler
from securemllib.ml.regression import GeneralizedLinearRegression, GeneralizedLinearRegressionModel
from securemllib.spark.functions import col
from securemllib.wire.job import OutputKind

PARAMS = {"labelCol": "pressure", "featuresCol": "x"}
GAMMA = {**PARAMS, "family": "Gamma", "link": "log", "offsetCol": "shift", "weightCol": "weight", "linkPredictionCol": "eta"}
NAMES = ("deviance", "nullDeviance", "dispersion", "aic", "rank", "degreesOfFreedom", "residualDegreeOfFreedom")
NAMES += ("residualDegreeOfFreedomNull", "numInstances", "predictionCol")
TRAINING = ("numIterations", "solver", "coefficientStandardErrors", "tValues", "pValues")


@pytest.fixture(scope="module")
def rows(frame, plain):
    """Two features, a positive label and an offset, sealed and in the clear."""
    sealed = VectorAssembler(inputCols=["age", "dose"], outputCol="x").transform(frame).withColumn("shift", col("dose") * 0.01)
    clear = PlainAssembler(inputCols=["age", "dose"], outputCol="x").transform(plain)
    return sealed, clear.withColumn("shift", plain_functions.col("dose") * 0.01)


@pytest.fixture(scope="module")
def gamma(rows):
    """The same model sealed and in the clear."""
    return GeneralizedLinearRegression(**GAMMA).fit(rows[0]), regression.GeneralizedLinearRegression(**GAMMA).fit(rows[1])


def assert_same(ours, theirs, names):
    """Compare attributes to 1e-6, which is where MLlib's steps stop."""
    for name in names:
        mine, other = getattr(ours, name), getattr(theirs, name)
        assert mine == (other if isinstance(other, str) else pytest.approx(other, rel=1e-6, abs=1e-9)), name


def test_the_released_model_is_that_of_mllib(gamma):
    """With weights and offsets the released coefficients, intercept and predictions are MLlib's."""
    ours, theirs = gamma[0].release(), gamma[1]
    assert np.allclose(ours.coefficients, theirs.coefficients, rtol=0, atol=1e-8)
    assert (ours.intercept, ours.numFeatures) == (pytest.approx(theirs.intercept), theirs.numFeatures)
    assert ours.predict(Vectors.dense(40.0, 3.0)) == pytest.approx(theirs.predict(Vectors.dense(40.0, 3.0)))


def test_transform_reads_offsets_and_adds_both_columns(gamma, rows):
    """Linear predictors and means are MLlib's, with the offsets of the rows, and as ordered and typed as MLlib's."""
    out, theirs = gamma[0].transform(rows[0]), gamma[1].transform(rows[1])
    assert out.dtypes[-2:] == theirs.dtypes[-2:] == [("eta", "double"), ("prediction", "double")]
    released = out.release(columns=["name", "eta", "prediction"]).toPandas().set_index("name").sort_index()
    expected = theirs.select("name", "eta", "prediction").toPandas().set_index("name").sort_index()
    assert np.allclose(released, expected, rtol=1e-8)


def test_the_summary_is_that_of_mllib(gamma, rows):
    """Every statistic of the training, and of other rows, is MLlib's."""
    assert_same(gamma[0].summary, gamma[1].summary, NAMES + TRAINING)
    ours, theirs = gamma[0].evaluate(rows[0].filter(col("age") > 50)), gamma[1].evaluate(rows[1].where("age > 50"))
    assert_same(ours, theirs, NAMES)
    assert not hasattr(type(ours), "tValues")


def test_binomial_significance_is_of_the_normal_distribution(frame, rows):
    """The binomial family's dispersion is 1, and its p-values are MLlib's."""
    params = {"labelCol": "ill", "featuresCol": "x", "family": "binomial", "link": "probit"}
    ours = GeneralizedLinearRegression(**params).fit(rows[0]).summary
    assert_same(ours, regression.GeneralizedLinearRegression(**params).fit(rows[1]).summary, NAMES + TRAINING)
    assert ours.dispersion == 1.0


def test_no_criterion_without_a_density(rows):
    """A Tweedie family between Poisson and gamma has no AIC, as in MLlib, and every other statistic."""
    params = {**PARAMS, "family": "tweedie", "variancePower": 1.5, "linkPower": 0.0}
    ours = GeneralizedLinearRegression(**params).fit(rows[0]).summary
    theirs = regression.GeneralizedLinearRegression(**params).fit(rows[1]).summary
    assert_same(ours, theirs, tuple(name for name in NAMES + TRAINING if name != "aic"))
    with pytest.raises(UsageError, match="AIC"):
        ours.aic  # noqa: B018


@pytest.mark.parametrize("kind", ["deviance", "pearson", "working", "response"])
def test_residuals_are_rows(kind, gamma):
    """Residuals of each type are sealed, leave by a release alone, and are MLlib's, weights and offsets counted."""
    residuals, name = gamma[0].summary.residuals(kind), f"{kind}Residuals"
    assert residuals.dtypes == gamma[1].summary.residuals(kind).dtypes == [(name, "double")]
    with pytest.raises(SealedError):
        residuals.collect()
    theirs = gamma[1].summary.residuals(kind).toPandas()[name]
    assert np.allclose(np.sort(residuals.release(columns=[name]).toPandas()[name]), np.sort(theirs), rtol=1e-6)


def test_residuals_have_pysparks_types(gamma):
    """Without a type residuals are those of the deviance, and a type that pyspark.ml does not have is refused."""
    assert gamma[0].summary.residuals().columns == ["devianceResiduals"]
    with pytest.raises(UsageError, match="student"):
        gamma[0].summary.residuals("student")


def test_residuals_leave_by_their_origins(deployment, session, table):
    """A policy that releases a model's predictions and no label releases none of its residuals; with the label it does."""
    rows = VectorAssembler(inputCols=["age", "dose"], outputCol="x").transform(session.read(deployment.dataset(table, "residuals-glm")))
    dataset = rows.source.manifest.dataset_id
    residuals = GeneralizedLinearRegression(**PARAMS).fit(rows).summary.residuals()
    deployment.allow(dataset, outputs=(OutputKind.ROWS,), rows=("prediction",), name="predictions only")
    with pytest.raises(PolicyError, match="predictions only"):
        residuals.release(columns=["devianceResiduals"])
    deployment.allow(dataset, outputs=(OutputKind.ROWS,), rows=("prediction", "pressure"))
    assert len(residuals.release(columns=["devianceResiduals"]).toPandas()) == table.num_rows


def test_a_loaded_model_is_evaluated(gamma, rows, tmp_path):
    """A saved model keeps its Params, and so its offsets; it has no training summary."""
    gamma[0].save(str(tmp_path / "model"))
    loaded = GeneralizedLinearRegressionModel.load(str(tmp_path / "model"))
    assert loaded.evaluate(rows[0]).deviance == gamma[0].summary.deviance
    with pytest.raises(UsageError, match="No training summary"):
        loaded.summary  # noqa: B018


@pytest.mark.parametrize(
    "wrong", [{"link": "logit"}, {"family": "cauchy"}, {"solver": "l-bfgs"}, {"variancePower": 0.5}, {"offsetCol": "nothing"}]
)
def test_what_mllib_refuses_is_refused(wrong, rows):
    """A link that the family does not have, unknown names, powers and columns are refused before a job is sent."""
    with pytest.raises(UsageError):
        GeneralizedLinearRegression(**{**PARAMS, **wrong}).fit(rows[0])


def test_a_policy_without_summaries_releases_none(deployment, session, table):
    """Where no rule lets a summary out, a model is trained all the same, and its statistics are refused."""
    rows = VectorAssembler(inputCols=["age", "dose"], outputCol="x").transform(session.read(deployment.dataset(table, "unsummarised-glm")))
    deployment.allow(rows.source.manifest.dataset_id, outputs=(OutputKind.SEALED_MODEL, OutputKind.METRIC), name="models only")
    summary = GeneralizedLinearRegression(**PARAMS).fit(rows).summary
    with pytest.raises(PolicyError, match="models only"):
        summary.deviance  # noqa: B018
    with pytest.raises(SealedError, match="output `summary`"):
        summary.numIterations  # noqa: B018
