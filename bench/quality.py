"""How good a trained model is, and how far two models of the same rows are from each other."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from forests import nodes_of_text, sums_of_trees
from generators import Data

from securemllib.algorithms.factorization_machines import FMClassificationModel
from securemllib.algorithms.isotonic_regression import IsotonicRegressionModel
from securemllib.algorithms.lda_model import LDAModel
from securemllib.algorithms.multilayer_perceptron import NetworkModel

__all__ = [
    "Fitted",
    "accuracy",
    "boosted_accuracy",
    "centre_distance",
    "coefficient_distance",
    "cost",
    "explained",
    "explained_distance",
    "frequent_sets",
    "hinge",
    "largest_gap",
    "log_loss",
    "machine_log_loss",
    "mixture_likelihood",
    "monotone_r_squared",
    "network_log_loss",
    "perplexity",
    "poisson_deviance",
    "product_distance",
    "r_squared",
    "rating_error",
    "read_bayes",
    "read_curve",
    "read_factors",
    "read_generalized",
    "read_kmeans",
    "read_linear",
    "read_machine",
    "read_mixture",
    "read_network",
    "read_pca",
    "read_sets",
    "read_survival",
    "read_svc",
    "read_topics",
    "read_trees",
    "survival_loss",
    "topic_distance",
    "voted_accuracy",
]

_TOPICS, _WORDS = 30, 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The numbers of a trained model, the same from both sides.

    Attributes:
        weights: Coefficients, centres (k, d), components (d, k), terms and priors (k, d + 1), nodes of trees (nodes, 6), what a curve
            predicts, or the sizes and counts of frequent sets.
        intercept: Of linear models.
        explained: Of PCA; the importances of trees; the other numbers of lifetimes' scale, factors, layers or a curve's boundaries.
        iterations: How many the training took; 0 where it does not iterate.
    """

    weights: np.ndarray
    intercept: float = 0.0
    explained: np.ndarray | None = None
    iterations: int = 0


def read_topics(plain: Any, _: Any) -> Fitted:
    return Fitted(weights=plain.topicsMatrix().toArray(), explained=plain.estimatedDocConcentration().toArray())


def read_factors(plain: Any, _: Any) -> Fitted:
    frames = [side.toPandas() if hasattr(side, "toPandas") else side for side in (plain.userFactors, plain.itemFactors)]
    frames = [side.sort_values("id") for side in frames]
    weights = np.concatenate([np.array(side["features"].tolist(), dtype=np.float64) for side in frames])
    return Fitted(weights=weights, intercept=float(len(frames[0])), explained=np.concatenate([side["id"].to_numpy() for side in frames]))


def read_linear(plain: Any, trained: Any) -> Fitted:
    iterations = trained.summary.totalIterations if trained.hasSummary else 0
    return Fitted(weights=np.asarray(plain.coefficients.toArray()), intercept=float(plain.intercept), iterations=int(iterations))


def read_svc(plain: Any, trained: Any) -> Fitted:
    iterations = trained.summary().totalIterations if trained.hasSummary else 0
    return Fitted(weights=np.asarray(plain.coefficients.toArray()), intercept=float(plain.intercept), iterations=int(iterations))


def read_bayes(plain: Any, _: Any) -> Fitted:
    return Fitted(weights=np.column_stack([plain.theta.toArray(), plain.pi.toArray()]))


def read_generalized(plain: Any, trained: Any) -> Fitted:
    iterations = trained.summary.numIterations if trained.hasSummary else 0
    return Fitted(weights=np.asarray(plain.coefficients.toArray()), intercept=float(plain.intercept), iterations=int(iterations))


def read_mixture(plain: Any, trained: Any) -> Fitted:
    means = np.array([gaussian.mean.toArray() for gaussian in plain.gaussians])
    # The likelihood takes the place of an intercept: it is what both sides' summaries report.
    return Fitted(weights=means, intercept=float(trained.summary.logLikelihood), iterations=int(trained.summary.numIter))


def read_trees(plain: Any, _: Any) -> Fitted:
    return Fitted(weights=nodes_of_text(plain.toDebugString), explained=plain.featureImportances.toArray())


def read_kmeans(plain: Any, trained: Any) -> Fitted:
    iterations = trained.summary.numIter if trained.hasSummary else 0
    return Fitted(weights=np.asarray(plain.clusterCenters()), iterations=int(iterations))


def read_pca(plain: Any, _: Any) -> Fitted:
    return Fitted(weights=plain.pc.toArray(), explained=plain.explainedVariance.toArray())


def read_survival(plain: Any, _: Any) -> Fitted:
    return Fitted(weights=plain.coefficients.toArray(), intercept=float(plain.intercept), explained=np.array([plain.scale]))


def read_curve(plain: Any, _: Any) -> Fitted:
    return Fitted(weights=plain.predictions.toArray(), explained=plain.boundaries.toArray())


def read_machine(plain: Any, trained: Any) -> Fitted:
    iterations = trained.summary().totalIterations if trained.hasSummary else 0
    linear, factors = plain.linear.toArray(), plain.factors.toArray()
    return Fitted(weights=linear, intercept=float(plain.intercept), explained=factors, iterations=int(iterations))


def read_network(plain: Any, trained: Any) -> Fitted:
    iterations = trained.summary().totalIterations if trained.hasSummary else 0
    return Fitted(weights=plain.weights.toArray(), explained=np.array(trained.getLayers()), iterations=int(iterations))


def read_sets(plain: Any, _: Any) -> Fitted:
    frame = plain.freqItemsets if isinstance(plain.freqItemsets, pd.DataFrame) else plain.freqItemsets.toPandas()
    found = np.column_stack([frame["items"].map(len), frame["freq"]]).astype(np.float64)
    return Fitted(weights=found[np.lexsort(found.T)])


def log_loss(data: Data, fitted: Fitted) -> float:
    margins = data.features @ fitted.weights + fitted.intercept
    return float(np.mean(np.logaddexp(0.0, margins) - data.label * margins))


def hinge(data: Data, fitted: Fitted) -> float:
    margins = data.features @ fitted.weights + fitted.intercept
    return float(np.mean(np.maximum(0.0, 1.0 - (2.0 * data.label - 1.0) * margins)))


def accuracy(data: Data, fitted: Fitted) -> float:
    terms, priors = fitted.weights[:, :-1], fitted.weights[:, -1]
    return float(np.mean((data.features @ terms.T + priors).argmax(axis=1) == data.label))


def r_squared(data: Data, fitted: Fitted) -> float:
    residual = data.label - data.features @ fitted.weights - fitted.intercept
    return float(1.0 - residual @ residual / np.sum((data.label - data.label.mean()) ** 2))


def cost(data: Data, fitted: Fitted) -> float:
    squares = (data.features**2).sum(axis=1)
    distances = squares[:, None] - 2.0 * data.features @ fitted.weights.T + (fitted.weights**2).sum(axis=1)
    return float(np.maximum(distances.min(axis=1), 0.0).sum())


def poisson_deviance(data: Data, fitted: Fitted) -> float:
    predictor = data.features @ fitted.weights + fitted.intercept
    logs = np.log(np.where(data.label > 0, data.label, 1.0))
    return float(2.0 * np.mean(data.label * (logs - predictor) - data.label + np.exp(predictor)))


def mixture_likelihood(_: Data, fitted: Fitted) -> float:
    return fitted.intercept


def survival_loss(data: Data, fitted: Fitted) -> float:
    """Return the mean negative log likelihood of lifetimes; the last column tells whether they ended."""
    features, ended, scale = data.features[:, :-1], data.features[:, -1], fitted.explained[0]
    error = (np.log(data.label) - features @ fitted.weights - fitted.intercept) / scale
    return float(np.mean(ended * (np.log(scale) - error) + np.exp(error)))


def monotone_r_squared(data: Data, fitted: Fitted) -> float:
    model = IsotonicRegressionModel(boundaries=fitted.explained, predictions=fitted.weights)
    residual = data.label - model.curve(data.features[:, 0])
    return float(1.0 - residual @ residual / np.sum((data.label - data.label.mean()) ** 2))


def machine_log_loss(data: Data, fitted: Fitted) -> float:
    model = FMClassificationModel(intercept=fitted.intercept, linear=fitted.weights, factors=fitted.explained)
    return _mean_log_loss(data, model.predict(data.features)["probability"])


def network_log_loss(data: Data, fitted: Fitted) -> float:
    model = NetworkModel(layers=tuple(fitted.explained.tolist()), weights=fitted.weights)
    return _mean_log_loss(data, model.predict(data.features)["probability"])


def _mean_log_loss(data: Data, probability: np.ndarray) -> float:
    return float(-np.mean(np.log(np.maximum(probability[np.arange(len(data.label)), data.label.astype(int)], 1e-300))))


def frequent_sets(_: Data, fitted: Fitted) -> float:
    return float(len(fitted.weights))


def explained(data: Data, fitted: Fitted) -> float:
    centred = data.features - data.features.mean(axis=0)
    return float(np.sum((centred @ fitted.weights) ** 2) / np.sum(centred**2))


def boosted_accuracy(data: Data, fitted: Fitted) -> float:
    return float(np.mean((sums_of_trees(data.features, fitted.weights) > 0) == data.label))


def voted_accuracy(data: Data, fitted: Fitted) -> float:
    """Return the accuracy of the trees' majority: the text tells each leaf's class, not the shares that forests add."""
    trees = np.count_nonzero(~np.isnan(fitted.weights[:, 0]))
    return float(np.mean((sums_of_trees(data.features, fitted.weights) > trees / 2) == data.label))


def perplexity(data: Data, fitted: Fitted) -> float:
    """Return the log perplexity of the documents, of either side's topics by the same formula."""
    model = LDAModel(
        topics=fitted.weights, alpha=fitted.explained, eta=1.0 / _TOPICS, distributed=False, training_log_likelihood=None, log_prior=None,
        likelihood=True,
    )  # fmt: skip
    bounds = model.predict(data.features)["likelihood"]
    return float(-(bounds[:, 0].sum() + bounds[0, 2]) / bounds[:, 1].sum())


def rating_error(data: Data, fitted: Fitted) -> float:
    """Return the root mean squared error of the ratings; users' factors come before items'."""
    users = int(fitted.intercept)
    user, item = (
        np.searchsorted(fitted.explained[:users], data.features[:, 0]),
        np.searchsorted(fitted.explained[users:], data.features[:, 1]),
    )
    products = np.einsum("ij,ij->i", fitted.weights[:users][user], fitted.weights[users:][item])
    return float(np.sqrt(np.mean((products - data.label) ** 2)))


def coefficient_distance(ours: Fitted, reference: Fitted) -> float:
    return float(np.abs(ours.weights - reference.weights).max())


def largest_gap(ours: Fitted, reference: Fitted) -> float:
    """Return the largest difference of two lists of numbers, infinity where they differ in length."""
    return coefficient_distance(ours, reference) if ours.weights.shape == reference.weights.shape else float("inf")


def explained_distance(ours: Fitted, reference: Fitted) -> float:
    return float(np.abs(ours.explained - reference.explained).max())


def centre_distance(ours: Fitted, reference: Fitted) -> float:
    """Return the largest distance of a centre to the other side's nearest: they start from different random centres."""
    gaps = np.linalg.norm(ours.weights[:, None, :] - reference.weights[None, :, :], axis=2)
    return float(gaps.min(axis=1).max())


def topic_distance(ours: Fitted, reference: Fitted) -> float:
    """Return the mean cosine distance of a topic to the other side's nearest: they start from different random topics."""
    units = [model.weights / np.linalg.norm(model.weights, axis=0) for model in (ours, reference)]
    return float(1.0 - (units[0].T @ units[1]).max(axis=1).mean())


def product_distance(ours: Fitted, reference: Fitted) -> float:
    """Return the Frobenius distance of two matrices of predictions, relative to the reference's norm."""

    def inner(one: Fitted, other: Fitted) -> float:
        a, b = int(one.intercept), int(other.intercept)
        return float(((one.weights[:a].T @ other.weights[:b]) * (one.weights[a:].T @ other.weights[b:])).sum())

    norm = inner(reference, reference)
    return float(np.sqrt(max(inner(ours, ours) + norm - 2.0 * inner(ours, reference), 0.0) / norm))
