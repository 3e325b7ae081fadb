"""What is trained: data of HiBench 7.1's shapes, and estimators that both sides construct with the same Params.

HiBench 7.1 trains logistic regression and support vector machines on Gaussian classes shifted by a constant, linear regression on a noisy
linear response, naive Bayes on pages of 100 classes whose words follow Zipf's law, K-Means on Gaussian clusters, PCA on a dense matrix,
LDA on documents and ALS on ratings. Its Gaussian classes are 3 deviations apart in every feature, which any model separates; here they
overlap.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from forests import nodes_of_text, sums_of_trees
from pyspark.ml.linalg import VectorUDT
from pyspark.sql.types import StructField, StructType
from scipy.sparse import csr_array, vstack

from securemllib.algorithms.lda_model import LDAModel
from securemllib.algorithms.vectors import VECTOR

__all__ = ["WORKLOADS", "Data", "Fitted", "Workload", "make_data", "mllib_api", "secure_api"]

_FILES = 4
_SEED = 71
_CLUSTERS = 10
_COMPONENTS = 10
_TOPICS, _WORDS = 30, 200
_PAGE_CLASSES, _PAGE_WORDS = 100, 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The rows of a workload, in memory and as plain Parquet files.

    Attributes:
        features: ``(n, d)``; a sparse matrix for documents.
        label: ``(n,)``, or None.
        path: A folder of Parquet files with columns f0, f1, ... and label, or with one of vectors, without compression, as the
            encrypted ones.
        table: The same as an Arrow table.
    """

    features: np.ndarray | csr_array
    label: np.ndarray | None
    path: Path
    table: pa.Table

    @property
    def columns(self) -> list[str]:
        """The names of the feature columns."""
        return [f"f{index}" for index in range(self.features.shape[1])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The numbers of a trained model, the same from both sides.

    Attributes:
        weights: Coefficients, centres (k, d), components (d, k), terms and priors (k, d + 1), or nodes of trees (nodes, 6).
        intercept: Of linear models.
        explained: Of PCA; the importances of trees.
        iterations: How many the training took; 0 where it does not iterate.
    """

    weights: np.ndarray
    intercept: float = 0.0
    explained: np.ndarray | None = None
    iterations: int = 0


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


def mllib_api() -> SimpleNamespace:
    """Return the reference's classes."""
    from pyspark.ml.classification import GBTClassifier, LinearSVC, LogisticRegression, NaiveBayes, RandomForestClassifier
    from pyspark.ml.clustering import LDA, GaussianMixture, KMeans
    from pyspark.ml.feature import PCA, VectorAssembler
    from pyspark.ml.recommendation import ALS
    from pyspark.ml.regression import GeneralizedLinearRegression, LinearRegression

    return SimpleNamespace(
        LogisticRegression=LogisticRegression,
        LinearRegression=LinearRegression,
        LinearSVC=LinearSVC,
        NaiveBayes=NaiveBayes,
        GBTClassifier=GBTClassifier,
        RandomForestClassifier=RandomForestClassifier,
        ALS=ALS,
        KMeans=KMeans,
        LDA=LDA,
        GaussianMixture=GaussianMixture,
        GeneralizedLinearRegression=GeneralizedLinearRegression,
        PCA=PCA,
        VectorAssembler=VectorAssembler,
    )


def secure_api() -> SimpleNamespace:
    """Return our classes of the same names."""
    from securemllib.ml.classification import GBTClassifier, LinearSVC, LogisticRegression, NaiveBayes, RandomForestClassifier
    from securemllib.ml.clustering import LDA, GaussianMixture, KMeans
    from securemllib.ml.feature import PCA, VectorAssembler
    from securemllib.ml.recommendation import ALS
    from securemllib.ml.regression import GeneralizedLinearRegression, LinearRegression

    return SimpleNamespace(
        LogisticRegression=LogisticRegression,
        LinearRegression=LinearRegression,
        LinearSVC=LinearSVC,
        NaiveBayes=NaiveBayes,
        GBTClassifier=GBTClassifier,
        RandomForestClassifier=RandomForestClassifier,
        ALS=ALS,
        KMeans=KMeans,
        LDA=LDA,
        GaussianMixture=GaussianMixture,
        GeneralizedLinearRegression=GeneralizedLinearRegression,
        PCA=PCA,
        VectorAssembler=VectorAssembler,
    )


def make_data(workload: Workload, scale: float, directory: Path) -> Data:
    """Generate a workload's rows and write them as plain Parquet."""
    rows = max(200, round(workload.rows * scale))
    features, label = workload.generate(np.random.default_rng(_SEED), rows, workload.columns)
    table = _vectors(features) if workload.form == "vectors" else _columns(features, label)
    directory.mkdir(parents=True)
    step = -(-rows // _FILES)
    for number in range(_FILES):
        part = table.slice(number * step, step)
        pq.write_table(part, directory / f"part-{number:05d}.parquet", compression="none", use_dictionary=False, write_statistics=False)
    return Data(features=features, label=label, path=directory, table=table)


def _columns(features: np.ndarray, label: np.ndarray | None) -> pa.Table:
    columns = {f"f{index}": np.ascontiguousarray(features[:, index]) for index in range(features.shape[1])}
    return pa.table(columns if label is None else {**columns, "label": label})


def _vectors(rows: csr_array) -> pa.Table:
    """Return one column of sparse vectors as Spark stores them."""
    count, width = rows.shape
    offsets = pa.array(rows.indptr.astype(np.int32))
    arrays = [
        pa.array(np.zeros(count, dtype=np.int8)),
        pa.array(np.full(count, width, dtype=np.int32)),
        pa.ListArray.from_arrays(offsets, pa.array(rows.indices.astype(np.int32))),
        pa.ListArray.from_arrays(offsets, pa.array(rows.data)),
    ]
    column = pa.StructArray.from_arrays(arrays, fields=list(VECTOR))
    spark = StructType([StructField("features", VectorUDT())]).json()
    return pa.table({"features": column}).replace_schema_metadata({"org.apache.spark.sql.parquet.row.metadata": spark})


def _two_classes(generator: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    label = (np.arange(rows) % 2).astype(np.float64)
    return generator.standard_normal((rows, columns)) + 0.3 * label[:, None], label


def _pages(generator: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return counts of words: each class has Zipf's law in an order that is partly its own."""
    label = generator.integers(_PAGE_CLASSES, size=rows)
    law = 1.0 / np.arange(1, columns + 1)
    rates = np.array([law + 0.5 * law[generator.permutation(columns)] for _ in range(_PAGE_CLASSES)])
    rates *= _PAGE_WORDS / rates.sum(axis=1, keepdims=True)
    features = np.empty((rows, columns))
    for start in range(0, rows, 10_000):
        features[start : start + 10_000] = generator.poisson(rates[label[start : start + 10_000]])
    return features, label.astype(np.float64)


def _uneven_classes(generator: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return classes that a linear model does not tell apart: ten features add up, two interact."""
    features = generator.standard_normal((rows, columns))
    score = features[:, :10].sum(axis=1) + 2.0 * np.sin(3.0 * features[:, 0]) * features[:, 1]
    return features, (score + generator.standard_normal(rows) > 0).astype(np.float64)


def _linear_response(generator: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    features = generator.uniform(-1.0, 1.0, (rows, columns))
    weights = generator.uniform(-0.5, 0.5, columns)
    return features, features @ weights + 0.7 + 0.1 * generator.standard_normal(rows)


def _gaussian_clusters(generator: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, None]:
    centres = generator.uniform(0.0, 10.0, (_CLUSTERS, columns))
    chosen = generator.integers(_CLUSTERS, size=rows)
    return centres[chosen] + 4.0 * generator.standard_normal((rows, columns)), None


def _close_clusters(generator: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, None]:
    # Densities of the clusters above are below the 2e-16 that MLlib adds to each, where it does not learn.
    return _gaussian_clusters(generator, rows, columns)[0] / 10.0, None


def _counts(generator: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    features = generator.uniform(-1.0, 1.0, (rows, columns))
    weights = generator.uniform(-0.3, 0.3, columns)
    return features, generator.poisson(np.exp(features @ weights + 0.7)).astype(np.float64)


def _falling_spectrum(generator: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, None]:
    directions, _ = np.linalg.qr(generator.standard_normal((columns, columns)))
    deviations = 1.0 / np.sqrt(np.arange(1, columns + 1))
    return (generator.standard_normal((rows, columns)) * deviations) @ directions.T, None


def _documents(generator: np.random.Generator, rows: int, columns: int) -> tuple[csr_array, None]:
    topics = generator.dirichlet(np.full(columns, 0.05), _TOPICS)
    parts = []
    for start in range(0, rows, 1000):
        mixtures = generator.dirichlet(np.full(_TOPICS, 0.1), min(1000, rows - start))
        parts.append(csr_array(generator.multinomial(_WORDS, mixtures @ topics).astype(np.float64)))
    return csr_array(vstack(parts, format="csr")), None


def _ratings(generator: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of a user and an item, each with 180 ratings on average, and ratings from 1 to 5."""
    sides = [generator.normal(size=(max(rows // 180, 20), 5)) for _ in range(columns)]
    pairs = np.column_stack([generator.integers(len(side), size=rows) for side in sides])
    products = np.einsum("ij,ij->i", sides[0][pairs[:, 0]], sides[1][pairs[:, 1]])
    return pairs, np.clip(np.rint(3.0 + 0.6 * products + 0.3 * generator.standard_normal(rows)), 1.0, 5.0)


def _log_loss(data: Data, fitted: Fitted) -> float:
    margins = data.features @ fitted.weights + fitted.intercept
    return float(np.mean(np.logaddexp(0.0, margins) - data.label * margins))


def _hinge(data: Data, fitted: Fitted) -> float:
    margins = data.features @ fitted.weights + fitted.intercept
    return float(np.mean(np.maximum(0.0, 1.0 - (2.0 * data.label - 1.0) * margins)))


def _accuracy(data: Data, fitted: Fitted) -> float:
    terms, priors = fitted.weights[:, :-1], fitted.weights[:, -1]
    return float(np.mean((data.features @ terms.T + priors).argmax(axis=1) == data.label))


def _r_squared(data: Data, fitted: Fitted) -> float:
    residual = data.label - data.features @ fitted.weights - fitted.intercept
    return float(1.0 - residual @ residual / np.sum((data.label - data.label.mean()) ** 2))


def _cost(data: Data, fitted: Fitted) -> float:
    squares = (data.features**2).sum(axis=1)
    distances = squares[:, None] - 2.0 * data.features @ fitted.weights.T + (fitted.weights**2).sum(axis=1)
    return float(np.maximum(distances.min(axis=1), 0.0).sum())


def _poisson_deviance(data: Data, fitted: Fitted) -> float:
    predictor = data.features @ fitted.weights + fitted.intercept
    logs = np.log(np.where(data.label > 0, data.label, 1.0))
    return float(2.0 * np.mean(data.label * (logs - predictor) - data.label + np.exp(predictor)))


def _mixture_likelihood(_: Data, fitted: Fitted) -> float:
    return fitted.intercept


def _explained(data: Data, fitted: Fitted) -> float:
    centred = data.features - data.features.mean(axis=0)
    return float(np.sum((centred @ fitted.weights) ** 2) / np.sum(centred**2))


def _boosted_accuracy(data: Data, fitted: Fitted) -> float:
    return float(np.mean((sums_of_trees(data.features, fitted.weights) > 0) == data.label))


def _voted_accuracy(data: Data, fitted: Fitted) -> float:
    """Return the accuracy of the trees' majority: the text tells each leaf's class, not the shares that forests add."""
    trees = np.count_nonzero(~np.isnan(fitted.weights[:, 0]))
    return float(np.mean((sums_of_trees(data.features, fitted.weights) > trees / 2) == data.label))


def _coefficient_distance(ours: Fitted, reference: Fitted) -> float:
    return float(np.abs(ours.weights - reference.weights).max())


def _explained_distance(ours: Fitted, reference: Fitted) -> float:
    return float(np.abs(ours.explained - reference.explained).max())


def _centre_distance(ours: Fitted, reference: Fitted) -> float:
    """Return the largest distance of a centre to the other side's nearest: they start from different random centres."""
    gaps = np.linalg.norm(ours.weights[:, None, :] - reference.weights[None, :, :], axis=2)
    return float(gaps.min(axis=1).max())


def _perplexity(data: Data, fitted: Fitted) -> float:
    """Return the log perplexity of the documents, of either side's topics by the same formula."""
    model = LDAModel(
        topics=fitted.weights, alpha=fitted.explained, eta=1.0 / _TOPICS, distributed=False, training_log_likelihood=None, log_prior=None,
        likelihood=True,
    )  # fmt: skip
    bounds = model.predict(data.features)["likelihood"]
    return float(-(bounds[:, 0].sum() + bounds[0, 2]) / bounds[:, 1].sum())


def _topic_distance(ours: Fitted, reference: Fitted) -> float:
    """Return the mean cosine distance of a topic to the other side's nearest: they start from different random topics."""
    units = [model.weights / np.linalg.norm(model.weights, axis=0) for model in (ours, reference)]
    return float(1.0 - (units[0].T @ units[1]).max(axis=1).mean())


def _rating_error(data: Data, fitted: Fitted) -> float:
    """Return the root mean squared error of the ratings; users' factors come before items'."""
    users = int(fitted.intercept)
    user, item = (
        np.searchsorted(fitted.explained[:users], data.features[:, 0]),
        np.searchsorted(fitted.explained[users:], data.features[:, 1]),
    )
    products = np.einsum("ij,ij->i", fitted.weights[:users][user], fitted.weights[users:][item])
    return float(np.sqrt(np.mean((products - data.label) ** 2)))


def _product_distance(ours: Fitted, reference: Fitted) -> float:
    """Return the Frobenius distance of two matrices of predictions, relative to the reference's norm."""

    def inner(one: Fitted, other: Fitted) -> float:
        a, b = int(one.intercept), int(other.intercept)
        return float(((one.weights[:a].T @ other.weights[:b]) * (one.weights[a:].T @ other.weights[b:])).sum())

    norm = inner(reference, reference)
    return float(np.sqrt(max(inner(ours, ours) + norm - 2.0 * inner(ours, reference), 0.0) / norm))


def _read_topics(plain: Any, _: Any) -> Fitted:
    return Fitted(weights=plain.topicsMatrix().toArray(), explained=plain.estimatedDocConcentration().toArray())


def _read_factors(plain: Any, _: Any) -> Fitted:
    frames = [side.toPandas() if hasattr(side, "toPandas") else side for side in (plain.userFactors, plain.itemFactors)]
    frames = [side.sort_values("id") for side in frames]
    weights = np.concatenate([np.array(side["features"].tolist(), dtype=np.float64) for side in frames])
    return Fitted(weights=weights, intercept=float(len(frames[0])), explained=np.concatenate([side["id"].to_numpy() for side in frames]))


def _read_linear(plain: Any, trained: Any) -> Fitted:
    iterations = trained.summary.totalIterations if trained.hasSummary else 0
    return Fitted(weights=np.asarray(plain.coefficients.toArray()), intercept=float(plain.intercept), iterations=int(iterations))


def _read_svc(plain: Any, trained: Any) -> Fitted:
    iterations = trained.summary().totalIterations if trained.hasSummary else 0
    return Fitted(weights=np.asarray(plain.coefficients.toArray()), intercept=float(plain.intercept), iterations=int(iterations))


def _read_bayes(plain: Any, _: Any) -> Fitted:
    return Fitted(weights=np.column_stack([plain.theta.toArray(), plain.pi.toArray()]))


def _read_generalized(plain: Any, trained: Any) -> Fitted:
    iterations = trained.summary.numIterations if trained.hasSummary else 0
    return Fitted(weights=np.asarray(plain.coefficients.toArray()), intercept=float(plain.intercept), iterations=int(iterations))


def _read_mixture(plain: Any, trained: Any) -> Fitted:
    means = np.array([gaussian.mean.toArray() for gaussian in plain.gaussians])
    # The likelihood takes the place of an intercept: it is what both sides' summaries report.
    return Fitted(weights=means, intercept=float(trained.summary.logLikelihood), iterations=int(trained.summary.numIter))


def _read_trees(plain: Any, _: Any) -> Fitted:
    return Fitted(weights=nodes_of_text(plain.toDebugString), explained=plain.featureImportances.toArray())


def _read_kmeans(plain: Any, trained: Any) -> Fitted:
    iterations = trained.summary.numIter if trained.hasSummary else 0
    return Fitted(weights=np.asarray(plain.clusterCenters()), iterations=int(iterations))


def _read_pca(plain: Any, _: Any) -> Fitted:
    return Fitted(weights=plain.pc.toArray(), explained=plain.explainedVariance.toArray())


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            name="logistic_regression",
            rows=600_000,
            columns=50,
            generate=_two_classes,
            estimator=lambda api, _: api.LogisticRegression(maxIter=100, regParam=0.01, tol=1e-6),
            read=_read_linear,
            quality=_log_loss,
            quality_name="log-loss",
            difference=_coefficient_distance,
            target=0.10,
        ),
        Workload(
            name="linear_regression",
            rows=600_000,
            columns=50,
            generate=_linear_response,
            estimator=lambda api, _: api.LinearRegression(solver="normal", regParam=0.01),
            read=_read_linear,
            quality=_r_squared,
            quality_name="R²",
            difference=_coefficient_distance,
            target=0.10,
        ),
        Workload(
            name="linear_svc",
            rows=300_000,
            columns=50,
            generate=_two_classes,
            estimator=lambda api, _: api.LinearSVC(maxIter=100, regParam=0.01, tol=1e-6),
            read=_read_svc,
            quality=_hinge,
            quality_name="hinge loss",
            difference=_coefficient_distance,
            target=0.10,
        ),
        Workload(
            name="naive_bayes",
            rows=100_000,
            columns=200,
            generate=_pages,
            estimator=lambda api, _: api.NaiveBayes(modelType="multinomial"),
            read=_read_bayes,
            quality=_accuracy,
            quality_name="accuracy",
            difference=_coefficient_distance,
            target=0.20,
        ),
        Workload(
            name="gbt",
            rows=100_000,
            columns=50,
            generate=_uneven_classes,
            estimator=lambda api, seed: api.GBTClassifier(maxIter=20, maxDepth=5, seed=seed),
            read=_read_trees,
            quality=_boosted_accuracy,
            quality_name="accuracy",
            difference=_explained_distance,
            target=0.10,
        ),
        Workload(
            # HiBench's shape: more features than rows.
            name="gbt_wide",
            rows=1_000,
            columns=2_000,
            generate=_uneven_classes,
            estimator=lambda api, seed: api.GBTClassifier(maxIter=20, maxDepth=5, seed=seed),
            read=_read_trees,
            quality=_boosted_accuracy,
            quality_name="accuracy",
            difference=_explained_distance,
            target=0.10,
        ),
        Workload(
            name="random_forest",
            rows=100_000,
            columns=50,
            generate=_uneven_classes,
            estimator=lambda api, seed: api.RandomForestClassifier(numTrees=20, maxDepth=5, seed=seed),
            read=_read_trees,
            quality=_voted_accuracy,
            quality_name="accuracy",
            difference=_explained_distance,
            target=0.10,
        ),
        Workload(
            name="kmeans",
            rows=1_000_000,
            columns=20,
            generate=_gaussian_clusters,
            estimator=lambda api, seed: api.KMeans(k=_CLUSTERS, maxIter=10, tol=0.0, seed=seed),
            read=_read_kmeans,
            quality=_cost,
            quality_name="cost",
            difference=_centre_distance,
            target=0.10,
        ),
        Workload(
            name="generalized_linear_regression",
            rows=300_000,
            columns=50,
            generate=_counts,
            estimator=lambda api, _: api.GeneralizedLinearRegression(family="poisson", link="log", regParam=0.01),
            read=_read_generalized,
            quality=_poisson_deviance,
            quality_name="deviance",
            difference=_coefficient_distance,
            target=0.10,
        ),
        Workload(
            name="gaussian_mixture",
            rows=100_000,
            columns=20,
            generate=_close_clusters,
            estimator=lambda api, seed: api.GaussianMixture(k=_CLUSTERS, maxIter=10, tol=0.0, seed=seed),
            read=_read_mixture,
            quality=_mixture_likelihood,
            quality_name="log likelihood",
            difference=_centre_distance,
            target=0.10,
        ),
        Workload(
            name="lda",
            rows=10_000,
            columns=3_000,
            generate=_documents,
            estimator=lambda api, seed: api.LDA(k=_TOPICS, maxIter=20, subsamplingRate=0.2, seed=seed),
            read=_read_topics,
            quality=_perplexity,
            quality_name="log perplexity",
            difference=_topic_distance,
            target=0.20,
            form="vectors",
        ),
        Workload(
            name="als",
            rows=1_800_000,
            columns=2,
            generate=_ratings,
            estimator=lambda api, seed: api.ALS(
                userCol="f0", itemCol="f1", ratingCol="label", rank=10, maxIter=20, regParam=0.1, seed=seed
            ),
            read=_read_factors,
            quality=_rating_error,
            quality_name="RMSE",
            difference=_product_distance,
            target=0.15,
            form="columns",
        ),
        Workload(
            name="pca",
            rows=50_000,
            columns=500,
            generate=_falling_spectrum,
            estimator=lambda api, _: api.PCA(k=_COMPONENTS, inputCol="features", outputCol="components"),
            read=_read_pca,
            quality=_explained,
            quality_name="explained variance",
            difference=_explained_distance,
            target=0.20,
        ),
    )
}
