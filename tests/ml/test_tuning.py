"""Model selection over sealed rows: folds, metrics, the best model and what is saved of it."""

import numpy as np
import pytest
from pyspark.ml import evaluation, feature, regression
from pyspark.sql import functions

from securemllib.algorithms.base import Seed
from securemllib.enclave.rows import Rows
from securemllib.errors import DataError, FormatError, PolicyError, UsageError
from securemllib.ml.classification import LogisticRegression
from securemllib.ml.evaluation import RegressionEvaluator
from securemllib.ml.feature import StandardScaler, VectorAssembler
from securemllib.ml.pipeline import Pipeline
from securemllib.ml.regression import LinearRegression
from securemllib.ml.tuning import CrossValidator, CrossValidatorModel, ParamGridBuilder, TrainValidationSplit, TrainValidationSplitModel
from securemllib.policy.model import ANY, Bound
from securemllib.spark.functions import col, rand
from securemllib.spark.rounds import Engine
from tests.deployment import patients
from tests.world import execute


@pytest.fixture
def targeted(frame):
    """Return the patients with a regression target that follows from two columns."""
    return frame.withColumn("target", col("age") * 2.0 + col("pressure"))


@pytest.fixture
def evaluator():
    """Return an evaluator of the frames' regression target."""
    return RegressionEvaluator(labelCol="target", metricName="rmse")


@pytest.fixture
def pipeline():
    """Return a pipeline, its regression and a grid in which the second entry is far better."""
    regression = LinearRegression(featuresCol="x", labelCol="target", solver="normal")
    stages = [VectorAssembler(inputCols=["age", "pressure"], outputCol="x"), regression]
    return Pipeline(stages=stages), ParamGridBuilder().addGrid(regression.regParam, [1e6, 0.0]).build()


def positions(frame, rows=5000):
    """Return the positions that a frame's splits keep of one part."""
    whole = Rows(count=rows, columns={}, positions=np.arange(rows))
    return set(execute(frame.plan, whole, ordinal=0, seed=Seed(b"s" * 32), models={}).positions.tolist())


def test_each_row_validates_in_one_fold_and_trains_in_all_others(frame):
    """The folds of a cross-validation are disjoint, of about one size, and each trains on all rows of the others."""
    pairs = [(positions(train), positions(validation)) for train, validation in frame.folds(4, seed=5)]
    everything = set(range(5000))
    assert set.union(*(validation for _, validation in pairs)) == everything
    assert sum(len(validation) for _, validation in pairs) == 5000
    assert all(train == everything - validation for train, validation in pairs)
    assert all(1100 < len(validation) < 1400 for _, validation in pairs)


def test_what_computes_in_spark_is_told_in_a_search(targeted, evaluator):
    """An estimator, evaluator or column of pyspark, imported by mistake, and an empty grid are refused with what to do."""
    plain, own = regression.LinearRegression(labelCol="target", featuresCol="age"), LinearRegression(labelCol="target", featuresCol="age")
    wrong = {
        "usage.stage": lambda: CrossValidator(estimator=plain, estimatorParamMaps=[{}], evaluator=evaluator).fit(targeted),
        "usage": lambda: targeted.select("*", functions.rand(1)),
        "usage.param": lambda: TrainValidationSplit(estimator=own, estimatorParamMaps=[], evaluator=evaluator).fit(targeted),
    }
    for code, call in wrong.items():
        with pytest.raises(UsageError) as caught:
            call()
        assert caught.value.error_code == code
        assert "securemllib.ml" in caught.value.next_step or "{}" in caught.value.next_step
    with pytest.raises(UsageError, match="in the clear"):
        evaluation.RegressionEvaluator().evaluate(targeted)


def test_folds_follow_from_the_seed(frame):
    """The same seed gives the same folds, another seed others."""
    first, same, other = (positions(frame.folds(3, seed=seed)[0][1]) for seed in (1, 1, 2))
    assert first == same != other


def test_cross_validation_finds_the_better_entry(targeted, pipeline, evaluator, tmp_path):
    """The best entry of a grid over a pipeline is trained on all rows, stays sealed, and is saved and copied with its metrics and grid."""
    estimator, grid = pipeline
    validator = CrossValidator(
        estimator=estimator, estimatorParamMaps=grid, evaluator=evaluator, numFolds=2, seed=3, parallelism=2, collectSubModels=True
    )
    model = validator.fit(targeted)
    assert len(model.avgMetrics) == len(model.stdMetrics) == 2
    assert model.avgMetrics[1] < model.avgMetrics[0]
    again = estimator.fit(targeted, grid[1]).stages[1].release().coefficients.toArray()
    assert np.array_equal(model.bestModel.stages[1].release().coefficients.toArray(), again)
    assert [len(fold) for fold in model.subModels] == [2, 2]
    model.save(str(tmp_path / "model"))
    loaded = CrossValidatorModel.load(str(tmp_path / "model"))
    assert loaded.avgMetrics == model.avgMetrics
    assert [len(fold) for fold in loaded.subModels] == [2, 2]
    assert loaded.uid == model.uid
    assert loaded.getNumFolds() == 2
    copied = model.copy({model.numFolds: 7})
    assert (type(copied), copied.getNumFolds(), copied.avgMetrics, copied.stdMetrics) == (
        CrossValidatorModel,
        7,
        model.avgMetrics,
        model.stdMetrics,
    )
    copied.stdMetrics = []
    copied.save(str(tmp_path / "copied"))
    assert CrossValidatorModel.load(str(tmp_path / "copied")).stdMetrics == []
    assert len(model.stdMetrics) == 2
    assert evaluator.evaluate(loaded.transform(targeted)) == evaluator.evaluate(model.transform(targeted))


def test_a_validator_is_saved_with_its_grid(pipeline, evaluator, tmp_path):
    """A loaded validator has the estimator, the evaluator and a grid over the loaded estimator's own Params."""
    estimator, grid = pipeline
    validator = CrossValidator(estimator=estimator, estimatorParamMaps=grid, evaluator=evaluator, numFolds=5)
    validator.save(str(tmp_path / "validator"))
    loaded = CrossValidator.load(str(tmp_path / "validator"))
    assert loaded.getNumFolds() == 5
    assert [list(entry.values()) for entry in loaded.getEstimatorParamMaps()] == [[1e6], [0.0]]
    assert all(loaded.getEstimator().getStages()[1].hasParam(param.name) for entry in loaded.getEstimatorParamMaps() for param in entry)
    with pytest.raises(FormatError, match=r"Load it with `CrossValidator.load`"):
        TrainValidationSplit.load(str(tmp_path / "validator"))


def test_a_train_validation_split_finds_the_better_entry(targeted, pipeline, evaluator, tmp_path):
    """One split ranks the grid as cross-validation does, and its model is saved, loaded and copied."""
    estimator, grid = pipeline
    model = TrainValidationSplit(estimator=estimator, estimatorParamMaps=grid, evaluator=evaluator, trainRatio=0.7, seed=3).fit(targeted)
    assert model.validationMetrics[1] < model.validationMetrics[0]
    model.save(str(tmp_path / "model"))
    assert TrainValidationSplitModel.load(str(tmp_path / "model")).validationMetrics == model.validationMetrics
    copied = model.copy()
    assert (copied.subModels, copied.validationMetrics, copied.getTrainRatio()) == (None, model.validationMetrics, 0.7)
    copied.save(str(tmp_path / "copied"))
    assert evaluator.evaluate(copied.transform(targeted)) == evaluator.evaluate(model.transform(targeted))


def test_folds_of_the_analysts_own(frame, plain):
    """With foldCol each fold's models are MLlib's of the other rows; a number that is no fold's, and a missing column, are refused."""

    def metrics(folds, column):
        estimator = LinearRegression(featuresCol="x", labelCol="pressure", solver="normal")
        params = {"estimatorParamMaps": ParamGridBuilder().build(), "evaluator": RegressionEvaluator(labelCol="pressure")}
        validator = CrossValidator(estimator=estimator, numFolds=folds, foldCol=column, **params)
        return validator.fit(VectorAssembler(inputCols=["age"], outputCol="x").transform(frame)).avgMetrics

    rows = feature.VectorAssembler(inputCols=["age"], outputCol="x").transform(plain)
    estimator, evaluates = (
        regression.LinearRegression(featuresCol="x", labelCol="pressure"),
        evaluation.RegressionEvaluator(labelCol="pressure"),
    )
    # The groups are 0, 1 and 2. MLlib's validator leaves a pool of threads behind.
    models = [estimator.fit(rows.where(f"group != {fold}")) for fold in range(3)]
    theirs = [evaluates.evaluate(model.transform(rows.where(f"group = {fold}"))) for fold, model in enumerate(models)]
    assert metrics(3, "group") == pytest.approx([np.mean(theirs)], rel=1e-9)
    with pytest.raises(DataError) as caught:
        metrics(2, "group")
    assert caught.value.error_code == "data.outside"
    with pytest.raises(UsageError, match="nowhere"):
        metrics(3, "nowhere")


def test_plain_rows_and_a_missing_evaluator_are_refused(targeted, spark, evaluator):
    """A validator without an evaluator says so, and rows in the clear are refused."""
    regression = LogisticRegression()
    grid = ParamGridBuilder().build()
    with pytest.raises(UsageError, match="evaluator"):
        CrossValidator(estimator=regression, estimatorParamMaps=grid).fit(targeted)
    with pytest.raises(UsageError, match="SecureDataFrame"):
        CrossValidator(estimator=regression, estimatorParamMaps=grid, evaluator=evaluator).fit(spark.range(3))


@pytest.fixture
def passes(monkeypatch):
    """Return a list that tells how many jobs each stage of rounds trained."""
    seen, fit = [], Engine.fit

    def counted(engine, jobs, *arguments, **named):
        seen.append(len(jobs))
        return fit(engine, jobs, *arguments, **named)

    monkeypatch.setattr(Engine, "fit", counted)
    return seen


def test_models_of_a_grid_train_in_one_stage_as_they_do_alone(features, passes):
    """``fitMultiple`` trains a grid in one stage, and every model is to the bit that of its own fit."""
    regression = LogisticRegression(labelCol="ill", regParam=0.1)
    grid = ParamGridBuilder().addGrid(regression.regParam, [0.0, 1.0]).addGrid(regression.maxIter, [2, 20]).build()
    found = dict(regression.fitMultiple(features, grid))
    assert passes == [4]
    alone = [regression.fit(features, entry) for entry in grid]
    for index, model in enumerate(alone):
        together = found[index]
        assert together.getRegParam() == model.getRegParam()
        assert together.summary.objectiveHistory == model.summary.objectiveHistory
        assert np.array_equal(together.release().coefficients.toArray(), model.release().coefficients.toArray())


def test_equal_stages_of_a_grid_over_a_pipeline_train_once(targeted, pipeline, passes):
    """Where entries differ in the last stage only, the stages before it train once, and the last ones together."""
    _, grid = pipeline
    scaler = StandardScaler(inputCol="x", outputCol="scaled")
    (regression,) = {param.parent: None for entry in grid for param in entry}
    stages = [*pipeline[0].getStages()[:1], scaler, pipeline[0].getStages()[1].setFeaturesCol("scaled")]
    assert stages[2].uid == regression
    found = dict(Pipeline(stages=stages).fitMultiple(targeted, grid))
    assert passes == [1, 2]
    alone = Pipeline(stages=stages).fit(targeted, grid[0])
    expected, together = (model.stages[2].release().coefficients.toArray() for model in (alone, found[0]))
    assert np.array_equal(expected, together)
    assert found[0].stages[1] is found[1].stages[1]


def test_a_fold_is_one_stage_of_training_and_one_of_evaluation(targeted, pipeline, evaluator, passes):
    """A fold takes two stages whatever the grid's size; with `parallelism` as many threads take two stages each."""
    estimator, grid = pipeline
    validator = TrainValidationSplit(estimator=estimator, estimatorParamMaps=[*grid, *grid], evaluator=evaluator, seed=3)
    first = validator.fit(targeted)
    assert passes == [2, 4, 1]
    passes.clear()
    assert validator.setParallelism(2).fit(targeted).validationMetrics == first.validationMetrics
    assert sorted(passes) == [1, 1, 1, 2, 2]


def test_policies_judge_and_count_every_entry_of_a_grid(deployment, session):
    """A grid with one entry outside of a rule's bounds trains nothing, and each entry that trains is one run of the rule."""
    path = deployment.dataset(patients(60), "judged")
    frame = session.read(path)
    bounded = {"LinearRegression": {"regParam": Bound(min=0.1, max=1.0)}}
    regression = LinearRegression(featuresCol="age", labelCol="pressure", solver="normal")

    def grid(*values):
        return ParamGridBuilder().addGrid(regression.regParam, list(values)).build()

    dataset_id = frame.source.manifest.dataset_id
    deployment.allow(dataset_id, operations=bounded)
    with pytest.raises(PolicyError, match="regParam"):
        regression.fit(frame, grid(0.5, 0.0))
    assert len(regression.fit(frame, grid(0.5, 1.0))) == 2
    counted = {ANY: {}}
    deployment.allow(dataset_id, name="counted", operations=counted, maximum_runs=3)
    assert len(regression.fit(frame, grid(0.1, 0.2))) == 2
    with pytest.raises(PolicyError, match="runs"):
        regression.fit(frame, grid(0.1, 0.2))


def test_random_numbers_follow_from_seed_and_row(frame):
    """``rand`` gives each row a number from 0 to 1 that another job, plan or filter does not change, and another seed does."""
    drawn = frame.withColumn("first", rand(1)).withColumn("same", rand(1)).withColumn("other", rand(2))
    opened = drawn.filter(col("age") > 50.0).release(columns=["first", "same", "other"]).open()
    first, same, other = (np.asarray(opened[name]) for name in ("first", "same", "other"))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
    assert 0.0 <= first.min() < 0.1 < 0.9 < first.max() < 1.0
    every = set(np.asarray(frame.withColumn("drawn", rand(1)).release(columns=["drawn"]).open()["drawn"]).tolist())
    assert set(first.tolist()) < every
