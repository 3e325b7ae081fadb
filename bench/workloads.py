"""What is trained: estimators that both sides construct with the same Params, and the figure that each is to reach."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import generators
import numpy as np
import pyarrow.parquet as pq
import quality
from generators import Data
from quality import Fitted

__all__ = ["WORKLOADS", "Workload", "make_data", "mllib_api", "secure_api"]

_FILES = 4
_SEED = 71
_CLUSTERS = 10
_COMPONENTS = 10
_TOPICS, _WORDS = 30, 200

_CLASSES = {
    "classification": ("GBTClassifier", "LinearSVC", "LogisticRegression", "NaiveBayes", "RandomForestClassifier"),
    "clustering": ("LDA", "GaussianMixture", "KMeans"),
    "evaluation": ("BinaryClassificationEvaluator",),
    "feature": ("PCA", "VectorAssembler"),
    "recommendation": ("ALS",),
    "regression": ("GeneralizedLinearRegression", "LinearRegression"),
    "tuning": ("CrossValidator", "ParamGridBuilder"),
}


@dataclass(frozen=True, slots=True)
class BestOf:
    """A cross-validation as an estimator: its model is the best one, trained on all rows."""

    validator: Any

    def fit(self, frame: Any) -> Any:
        """Return the best model."""
        return self.validator.fit(frame).bestModel


def _cross_validation(api: SimpleNamespace, seed: int) -> BestOf:
    """Return 24 fits and as many evaluations: three folds of a grid of eight."""
    estimator = api.LogisticRegression(maxIter=50)
    grid = api.ParamGridBuilder().addGrid(estimator.regParam, [0.001, 0.01, 0.1, 1.0]).addGrid(estimator.elasticNetParam, [0.0, 0.5])
    evaluator = api.BinaryClassificationEvaluator()
    return BestOf(api.CrossValidator(estimator=estimator, estimatorParamMaps=grid.build(), evaluator=evaluator, numFolds=3, seed=seed))


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One comparison.

    Attributes:
        name: Its name.
        rows: Rows at scale 1.
        columns: Feature columns, at every scale.
        generate: From a generator, rows and columns to features and label.
        estimator: From either side's classes and a seed to the estimator.
        read: From a plain model and the trained one, which has the summary, to its numbers.
        quality: The number that tells how good a model is, of the data and its numbers.
        quality_name: What that number is.
        difference: How far two models of the same data are from each other.
        target: The ratio of CPU time to reach on cached data.
        cold_target: The same from encrypted files.
        form: Whether the columns are assembled, stored as one column of sparse vectors, or read as they are.
        output: The column that a trained model adds to rows.
    """

    name: str
    rows: int
    columns: int
    generate: Callable[[np.random.Generator, int, int], tuple[np.ndarray, np.ndarray | None]]
    estimator: Callable[[SimpleNamespace, int], Any]
    read: Callable[[Any, Any], Fitted]
    quality: Callable[[Data, Fitted], float]
    quality_name: str
    difference: Callable[[Fitted, Fitted], float]
    target: float
    cold_target: float = 0.25
    form: Literal["assembled", "vectors", "columns"] = "assembled"
    output: str = "prediction"


def mllib_api() -> SimpleNamespace:
    """Return the reference's classes."""
    return _api("pyspark.ml")


def secure_api() -> SimpleNamespace:
    """Return our classes of the same names."""
    return _api("securemllib.ml")


def _api(package: str) -> SimpleNamespace:
    modules = {module: import_module(f"{package}.{module}") for module in _CLASSES}
    return SimpleNamespace(**{name: getattr(modules[module], name) for module, names in _CLASSES.items() for name in names})


def make_data(workload: Workload, scale: float, directory: Path) -> Data:
    """Generate a workload's rows and write them as plain Parquet."""
    rows = max(200, round(workload.rows * scale))
    features, label = workload.generate(np.random.default_rng(_SEED), rows, workload.columns)
    table = generators.vectors_table(features, label) if workload.form == "vectors" else generators.columns_table(features, label)
    directory.mkdir(parents=True)
    step = -(-rows // _FILES)
    for number in range(_FILES):
        part = table.slice(number * step, step)
        pq.write_table(part, directory / f"part-{number:05d}.parquet", compression="none", use_dictionary=False, write_statistics=False)
    return Data(features=features, label=label, path=directory, table=table)


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            name="logistic_regression",
            rows=600_000,
            columns=50,
            generate=generators.two_classes,
            estimator=lambda api, _: api.LogisticRegression(maxIter=100, regParam=0.01, tol=1e-6),
            read=quality.read_linear,
            quality=quality.log_loss,
            quality_name="log-loss",
            difference=quality.coefficient_distance,
            target=0.10,
        ),
        Workload(
            name="cross_validation",
            rows=100_000,
            columns=20,
            generate=generators.two_classes,
            estimator=_cross_validation,
            read=quality.read_linear,
            quality=quality.log_loss,
            quality_name="log-loss",
            difference=quality.coefficient_distance,
            target=0.10,
        ),
        Workload(
            name="linear_regression",
            rows=600_000,
            columns=50,
            generate=generators.linear_response,
            estimator=lambda api, _: api.LinearRegression(solver="normal", regParam=0.01),
            read=quality.read_linear,
            quality=quality.r_squared,
            quality_name="R²",
            difference=quality.coefficient_distance,
            target=0.10,
        ),
        Workload(
            name="linear_svc",
            rows=300_000,
            columns=50,
            generate=generators.two_classes,
            estimator=lambda api, _: api.LinearSVC(maxIter=100, regParam=0.01, tol=1e-6),
            read=quality.read_svc,
            quality=quality.hinge,
            quality_name="hinge loss",
            difference=quality.coefficient_distance,
            target=0.10,
        ),
        Workload(
            name="naive_bayes",
            rows=100_000,
            columns=10_000,
            generate=generators.pages,
            estimator=lambda api, _: api.NaiveBayes(modelType="multinomial"),
            read=quality.read_bayes,
            quality=quality.accuracy,
            quality_name="accuracy",
            difference=quality.coefficient_distance,
            target=0.10,
            form="vectors",
        ),
        Workload(
            name="gbt",
            rows=100_000,
            columns=50,
            generate=generators.uneven_classes,
            estimator=lambda api, seed: api.GBTClassifier(maxIter=20, maxDepth=5, seed=seed),
            read=quality.read_trees,
            quality=quality.boosted_accuracy,
            quality_name="accuracy",
            difference=quality.explained_distance,
            target=0.10,
        ),
        Workload(
            # HiBench's shape: more features than rows.
            name="gbt_wide",
            rows=1_000,
            columns=2_000,
            generate=generators.uneven_classes,
            estimator=lambda api, seed: api.GBTClassifier(maxIter=20, maxDepth=5, seed=seed),
            read=quality.read_trees,
            quality=quality.boosted_accuracy,
            quality_name="accuracy",
            difference=quality.explained_distance,
            target=0.10,
        ),
        Workload(
            name="random_forest",
            rows=100_000,
            columns=50,
            generate=generators.uneven_classes,
            estimator=lambda api, seed: api.RandomForestClassifier(numTrees=20, maxDepth=5, seed=seed),
            read=quality.read_trees,
            quality=quality.voted_accuracy,
            quality_name="accuracy",
            difference=quality.explained_distance,
            target=0.10,
        ),
        Workload(
            name="kmeans",
            rows=1_000_000,
            columns=20,
            generate=generators.gaussian_clusters,
            estimator=lambda api, seed: api.KMeans(k=_CLUSTERS, maxIter=10, tol=0.0, seed=seed),
            read=quality.read_kmeans,
            quality=quality.cost,
            quality_name="cost",
            difference=quality.centre_distance,
            target=0.10,
        ),
        Workload(
            name="generalized_linear_regression",
            rows=300_000,
            columns=50,
            generate=generators.counts,
            estimator=lambda api, _: api.GeneralizedLinearRegression(family="poisson", link="log", regParam=0.01),
            read=quality.read_generalized,
            quality=quality.poisson_deviance,
            quality_name="deviance",
            difference=quality.coefficient_distance,
            target=0.10,
        ),
        Workload(
            name="gaussian_mixture",
            rows=100_000,
            columns=20,
            generate=generators.close_clusters,
            estimator=lambda api, seed: api.GaussianMixture(k=_CLUSTERS, maxIter=10, tol=0.0, seed=seed),
            read=quality.read_mixture,
            quality=quality.mixture_likelihood,
            quality_name="log likelihood",
            difference=quality.centre_distance,
            target=0.10,
        ),
        Workload(
            name="lda",
            rows=10_000,
            columns=3_000,
            generate=generators.documents,
            estimator=lambda api, seed: api.LDA(k=_TOPICS, maxIter=20, subsamplingRate=0.2, seed=seed),
            read=quality.read_topics,
            quality=quality.perplexity,
            quality_name="log perplexity",
            difference=quality.topic_distance,
            target=0.20,
            form="vectors",
            output="topicDistribution",
        ),
        Workload(
            name="als",
            rows=1_800_000,
            columns=2,
            generate=generators.ratings,
            estimator=lambda api, seed: api.ALS(
                userCol="f0", itemCol="f1", ratingCol="label", rank=10, maxIter=20, regParam=0.1, seed=seed
            ),
            read=quality.read_factors,
            quality=quality.rating_error,
            quality_name="RMSE",
            difference=quality.product_distance,
            target=0.15,
            form="columns",
        ),
        Workload(
            name="pca",
            rows=50_000,
            columns=500,
            generate=generators.falling_spectrum,
            estimator=lambda api, _: api.PCA(k=_COMPONENTS, inputCol="features", outputCol="components"),
            read=quality.read_pca,
            quality=quality.explained,
            quality_name="explained variance",
            difference=quality.explained_distance,
            target=0.20,
            output="components",
        ),
    )
}
# Statistics that are larger than a share of the rows.
WORKLOADS["pca_wide"] = replace(WORKLOADS["pca"], name="pca_wide", rows=10_000, columns=2_000)
