"""Workloads of the classes that the published system does not have: they run where they are named."""

from itertools import pairwise

import generators
import numpy as np
import quality
from pyspark.ml.linalg import DenseVector, Vectors
from workload import Workload

__all__ = ["MORE"]

_LAYERS = [50, 64, 10]


def _start() -> DenseVector:
    """Return the first weights of a network, the same for both sides: its minima are many."""
    count = sum((inputs + 1) * outputs for inputs, outputs in pairwise(_LAYERS))
    return Vectors.dense(np.random.default_rng(3).uniform(-0.3, 0.3, count))


MORE = {
    workload.name: workload
    for workload in (
        Workload(
            name="bisecting_kmeans",
            rows=200_000,
            columns=50,
            generate=generators.gaussian_clusters,
            estimator=lambda api, seed: api.BisectingKMeans(k=8, maxIter=10, seed=seed),
            read=quality.read_kmeans,
            quality=quality.cost,
            quality_name="cost",
            difference=quality.centre_distance,
            target=0.10,
        ),
        Workload(
            name="factorization_machine",
            rows=100_000,
            columns=50,
            generate=generators.interacting_classes,
            estimator=lambda api, seed: api.FMClassifier(factorSize=8, maxIter=30, stepSize=0.05, seed=seed),
            read=quality.read_machine,
            quality=quality.machine_log_loss,
            quality_name="log-loss",
            difference=quality.coefficient_distance,
            target=0.10,
        ),
        Workload(
            name="survival_regression",
            rows=200_000,
            columns=51,
            generate=generators.lifetimes,
            estimator=lambda api, _: api.AFTSurvivalRegression(censorCol="f50"),
            read=quality.read_survival,
            quality=quality.survival_loss,
            quality_name="negative log likelihood",
            difference=quality.coefficient_distance,
            target=0.10,
            aside=("f50",),
        ),
        Workload(
            name="isotonic_regression",
            rows=1_000_000,
            columns=1,
            generate=generators.monotone_response,
            estimator=lambda api, _: api.IsotonicRegression(featuresCol="f0"),
            read=quality.read_curve,
            quality=quality.monotone_r_squared,
            quality_name="R²",
            difference=quality.largest_gap,
            target=0.20,
            form="columns",
        ),
        Workload(
            name="multilayer_perceptron",
            rows=200_000,
            columns=_LAYERS[0],
            generate=generators.quadratic_classes,
            estimator=lambda api, _: api.MultilayerPerceptronClassifier(layers=_LAYERS, maxIter=20, initialWeights=_start()),
            read=quality.read_network,
            quality=quality.network_log_loss,
            quality_name="log-loss",
            difference=quality.coefficient_distance,
            target=0.20,
        ),
        Workload(
            name="frequent_patterns",
            rows=50_000,
            columns=500,
            generate=generators.baskets,
            estimator=lambda api, _: api.FPGrowth(minSupport=0.02, minConfidence=0.5),
            read=quality.read_sets,
            quality=quality.frequent_sets,
            quality_name="frequent sets",
            difference=quality.largest_gap,
            target=0.10,
            form="lists",
        ),
    )
}
