"""The workloads of the published system, and all that there are by name."""

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import generators
import quality
from more_workloads import MORE
from workload import Workload

__all__ = ["USUAL", "WORKLOADS"]

_CLUSTERS = 10
_COMPONENTS = 10
_TOPICS = 30


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


USUAL = {
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
USUAL["pca_wide"] = replace(USUAL["pca"], name="pca_wide", rows=10_000, columns=2_000)
WORKLOADS = {**USUAL, **MORE}
