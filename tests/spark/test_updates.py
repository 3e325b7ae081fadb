"""Do models go on batch by batch, each row once?"""

import numpy as np
import pyarrow as pa
import pytest

from securemllib.errors import PolicyError, UsageError
from securemllib.ml.classification import LogisticRegression, NaiveBayes, NaiveBayesModel
from securemllib.ml.clustering import KMeans
from securemllib.ml.feature import VectorAssembler
from securemllib.ml.regression import LinearRegression, LinearRegressionModel
from securemllib.ml.release import ReleasedModel
from securemllib.spark import SecureSession
from securemllib.spark.functions import col

FIRST, SECOND = (np.random.default_rng(seed).normal(size=(40, 2)) + [[9.0 * (row % 2), 0.0] for row in range(40)] for seed in (1, 2))


def table(rows):
    """Return rows and labels that go with them."""
    return pa.table({"x": rows[:, 0], "y": rows[:, 1], "label": (np.arange(len(rows)) % 2).astype(float)})


@pytest.fixture(autouse=True)
def active(session, monkeypatch):
    """Let models that are loaded use the session of this file: other files ended theirs."""
    monkeypatch.setattr(SecureSession, "_sessions", [session])


@pytest.fixture(scope="module")
def rows(deployment, session):
    """A dataset of two parts, one after the other."""
    path = deployment.dataset(table(FIRST), "updates")
    deployment.extend(path, table(SECOND))
    return session.read(path)


@pytest.fixture(scope="module")
def growing(rows):
    """The dataset's rows, with a vector of two columns."""
    return VectorAssembler(inputCols=["x", "y"], outputCol="features").transform(rows)


def test_a_stream_moves_clusters(growing, tmp_path):
    """A model that each batch of a stream updates has the centres of both batches' rows, weighed by the decay."""
    models = []

    def learn(batch, number):
        model = KMeans(k=2, seed=1).fit(batch) if number == 0 else KMeans(k=2, maxIter=1).update(models[-1], batch, decayFactor=0.5)
        models.append(model)

    writer = growing.writeStream.foreachBatch(learn).option("checkpointLocation", str(tmp_path)).option("maxPartsPerTrigger", 1)
    writer.trigger(availableNow=True).start().awaitTermination()
    centers = sorted(center.tolist() for center in models[1].release().clusterCenters())
    for side, center in enumerate(centers):
        before, new = FIRST[side::2], SECOND[side::2]
        np.testing.assert_allclose(center, (before.mean(axis=0) * 10 + new.sum(axis=0)) / 30, rtol=1e-9)
    with pytest.raises(PolicyError):
        KMeans(k=2).update(models[1], growing.of_parts(1, 2))


def test_a_regression_starts_at_the_model(growing):
    """Without an iteration the updated model is the one that it went on from; rows that it has seen, and all rows at once, are refused."""
    estimator = LogisticRegression(maxIter=0, regParam=0.1)
    model = LogisticRegression(maxIter=5, regParam=0.1).fit(growing.of_parts(0, 1))
    same = estimator.update(model, growing.of_parts(1, 2))
    np.testing.assert_allclose(same.release().coefficients.toArray(), model.release().coefficients.toArray(), rtol=1e-9)
    with pytest.raises(PolicyError):
        estimator.update(model, growing.of_parts(0, 1))
    with pytest.raises(UsageError):
        estimator.update(model, growing)
    with pytest.raises(UsageError):
        KMeans().update(model, growing.of_parts(1, 2))


@pytest.mark.parametrize("estimator", [KMeans(k=2, maxIter=1, seed=1), LogisticRegression(maxIter=1)], ids=["clusters", "classes"])
def test_a_batch_has_the_columns_of_the_model(growing, rows, estimator):
    """A batch whose vector is of other columns, or in another order, is refused; the model's columns, of some of the rows, are taken."""
    model = estimator.fit(growing.of_parts(0, 1))
    for columns in (["y", "x"], ["x", "label"]):
        other = VectorAssembler(inputCols=columns, outputCol="features").transform(rows.of_parts(1, 2))
        with pytest.raises(PolicyError, match="columns of the model") as refused:
            estimator.update(model, other)
        assert refused.value.error_code == "refused.policy.continuation_columns"
    with pytest.raises(PolicyError, match="columns of the model"):
        estimator.copy({estimator.featuresCol: "others"}).update(
            model, VectorAssembler(inputCols=["x", "y"], outputCol="others").transform(rows.of_parts(1, 2))
        )
    assert estimator.update(model, growing.of_parts(1, 2).filter(col("y") > -1.0))


ESTIMATORS = {"linear": lambda: LinearRegression(regParam=0.1), "bayes": lambda: NaiveBayes(modelType="gaussian")}
BATCHES = [
    np.random.default_rng(seed).normal(size=(40, 2)) + [[9.0 * (row % 2) + 3.0 * seed, 1.0] for row in range(40)] for seed in range(3)
]


@pytest.fixture(scope="module")
def batches(deployment, session):
    """A dataset of three parts, one after the other, whose means drift."""
    path = deployment.dataset(table(BATCHES[0]), "sums")
    for rows in BATCHES[1:]:
        deployment.extend(path, table(rows))
    return VectorAssembler(inputCols=["x", "y"], outputCol="features").transform(session.read(path))


def numbers(model):
    """Return the released numbers of a model."""
    plain = model.release()
    if isinstance(model, LinearRegressionModel):
        return np.append(plain.coefficients.toArray(), plain.intercept)
    return np.concatenate([plain.pi.toArray(), plain.theta.toArray().ravel(), plain.sigma.toArray().ravel()])


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_stream_of_batches_is_one_fit(batches, tmp_path, name):
    """A model that each batch of a stream updates, saved and loaded in between, is that of one fit over all parts."""
    kind = type(ESTIMATORS[name]()).MODEL

    def learn(batch, number):
        before = kind.load(f"{tmp_path}/{number - 1}") if number else None
        ESTIMATORS[name]().update(before, batch).save(f"{tmp_path}/{number}")

    writer = batches.writeStream.foreachBatch(learn).option("checkpointLocation", f"{tmp_path}/log").option("maxPartsPerTrigger", 1)
    writer.trigger(availableNow=True).start().awaitTermination()
    models = [kind.load(f"{tmp_path}/{number}") for number in range(3)]
    # Sums of float64 in another order.
    np.testing.assert_allclose(numbers(models[2]), numbers(ESTIMATORS[name]().fit(batches)), rtol=1e-9)
    forgetful = ESTIMATORS[name]().update(models[1], batches.of_parts(2, 3), decayFactor=0.0)
    np.testing.assert_allclose(numbers(forgetful), numbers(ESTIMATORS[name]().fit(batches.of_parts(2, 3))), rtol=1e-9)
    for model, parts in ((models[2], (2, 3)), (models[0], (2, 3)), (models[0], (0, 1))):
        with pytest.raises(PolicyError):
            ESTIMATORS[name]().update(model, batches.of_parts(*parts))


def test_only_models_that_carry_their_sums_go_on(batches):
    """A model of `fit` has no sums beside it and is refused before a job is signed; the first batch by `update` has them."""
    first, second = batches.of_parts(0, 1), batches.of_parts(1, 2)
    with pytest.raises(UsageError) as refused:
        NaiveBayes().update(NaiveBayes(modelType="gaussian").fit(first), second)
    assert refused.value.error_code == "usage.no_statistics"
    model = NaiveBayes(modelType="gaussian").update(None, first)
    assert isinstance(NaiveBayes(modelType="gaussian").update(model, second), NaiveBayesModel)
    with pytest.raises(UsageError):
        NaiveBayes().update(None, batches)
    centers = [KMeans(k=2, seed=1).update(None, first).release(), KMeans(k=2, seed=1).fit(first).release()]
    np.testing.assert_array_equal(*(model.clusterCenters() for model in centers))


def test_a_saved_release_has_no_sums(batches, session, tmp_path):
    """What is written for the recipient of a release holds the model and its key; what is saved to go on holds the sums, sealed."""
    model = LinearRegression().update(None, batches.of_parts(0, 1))
    (key,) = session.release_model(model.sealed, None)
    ReleasedModel(model=model.sealed.to_bytes(), key=key, pieces=model._pieces).save(f"{tmp_path}/released")
    model.save(f"{tmp_path}/saved")
    assert {path.name for path in (tmp_path / "released").iterdir()} == {"model.sml", "key.sml"}
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {"model.sml", "metadata.json", "statistics-0"}
