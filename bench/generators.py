"""The rows of the workloads: HiBench 7.1's shapes, drawn anew for each run from one seed.

HiBench 7.1 trains logistic regression and support vector machines on Gaussian classes shifted by a constant, linear regression on a noisy
linear response, naive Bayes on pages of 100 classes whose words follow Zipf's law, K-Means on Gaussian clusters, PCA on a dense matrix,
LDA on documents and ALS on ratings. Its Gaussian classes are 3 deviations apart in every feature, which any model separates; here they
overlap.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyspark.ml.linalg import VectorUDT
from pyspark.sql.types import DoubleType, StructField, StructType
from scipy.sparse import csr_array, vstack

from securemllib.algorithms.vectors import VECTOR

__all__ = [
    "Data",
    "baskets",
    "close_clusters",
    "columns_table",
    "counts",
    "documents",
    "falling_spectrum",
    "gaussian_clusters",
    "interacting_classes",
    "lifetimes",
    "linear_response",
    "lists_table",
    "monotone_response",
    "pages",
    "quadratic_classes",
    "ratings",
    "two_classes",
    "uneven_classes",
    "vectors_table",
]

_CLUSTERS = 10
_TOPICS, _WORDS = 30, 200
_PAGE_CLASSES, _PAGE_WORDS = 100, 250
_CLASSES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The rows of a workload, in memory and as plain Parquet files.

    Attributes:
        features: ``(n, d)``; a sparse matrix for documents, pages and baskets.
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


def columns_table(features: np.ndarray, label: np.ndarray | None) -> pa.Table:
    """Return a column a feature, and the label."""
    columns = {f"f{index}": np.ascontiguousarray(features[:, index]) for index in range(features.shape[1])}
    return pa.table(columns if label is None else {**columns, "label": label})


def vectors_table(rows: csr_array, label: np.ndarray | None) -> pa.Table:
    """Return one column of sparse vectors as Spark stores them, and the label."""
    count, width = rows.shape
    offsets = pa.array(rows.indptr.astype(np.int32))
    arrays = [
        pa.array(np.zeros(count, dtype=np.int8)),
        pa.array(np.full(count, width, dtype=np.int32)),
        pa.ListArray.from_arrays(offsets, pa.array(rows.indices.astype(np.int32))),
        pa.ListArray.from_arrays(offsets, pa.array(rows.data)),
    ]
    column = pa.StructArray.from_arrays(arrays, fields=list(VECTOR))
    fields, columns = [StructField("features", VectorUDT())], {"features": column}
    if label is not None:
        fields, columns = [*fields, StructField("label", DoubleType())], {**columns, "label": pa.array(label)}
    return pa.table(columns).replace_schema_metadata({"org.apache.spark.sql.parquet.row.metadata": StructType(fields).json()})


def lists_table(rows: csr_array, _: None) -> pa.Table:
    """Return one column of lists of texts, the names of the items that a row has."""
    names = pa.array([f"item-{index:04d}" for index in range(rows.shape[1])])
    return pa.table({"items": pa.ListArray.from_arrays(pa.array(rows.indptr.astype(np.int32)), names.take(pa.array(rows.indices)))})


def two_classes(generator: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    label = (np.arange(rows) % 2).astype(np.float64)
    return generator.standard_normal((rows, columns)) + 0.3 * label[:, None], label


def pages(generator: np.random.Generator, rows: int, columns: int) -> tuple[csr_array, np.ndarray]:
    """Return counts of words: half of a page's words follow Zipf's law, the other half the law in its class's own order."""
    label = generator.integers(_PAGE_CLASSES, size=rows)
    law = np.cumsum(1.0 / np.arange(1, columns + 1))
    orders = np.array([generator.permutation(columns) for _ in range(_PAGE_CLASSES)])
    drawn = np.searchsorted(law / law[-1], generator.random((rows, _PAGE_WORDS)))
    half = _PAGE_WORDS // 2
    drawn[:, :half] = orders[label[:, None], drawn[:, :half]]
    ends = np.arange(rows + 1, dtype=np.int64) * _PAGE_WORDS
    features = csr_array((np.ones(drawn.size), drawn.ravel(), ends), shape=(rows, columns))
    features.sum_duplicates()
    return features, label.astype(np.float64)


def uneven_classes(generator: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return classes that a linear model does not tell apart: ten features add up, two interact."""
    features = generator.standard_normal((rows, columns))
    score = features[:, :10].sum(axis=1) + 2.0 * np.sin(3.0 * features[:, 0]) * features[:, 1]
    return features, (score + generator.standard_normal(rows) > 0).astype(np.float64)


def linear_response(generator: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    features = generator.uniform(-1.0, 1.0, (rows, columns))
    weights = generator.uniform(-0.5, 0.5, columns)
    return features, features @ weights + 0.7 + 0.1 * generator.standard_normal(rows)


def gaussian_clusters(generator: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, None]:
    centres = generator.uniform(0.0, 10.0, (_CLUSTERS, columns))
    chosen = generator.integers(_CLUSTERS, size=rows)
    return centres[chosen] + 4.0 * generator.standard_normal((rows, columns)), None


def close_clusters(generator: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, None]:
    # Densities of the clusters above are below the 2e-16 that MLlib adds to each, where it does not learn.
    return gaussian_clusters(generator, rows, columns)[0] / 10.0, None


def counts(generator: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    features = generator.uniform(-1.0, 1.0, (rows, columns))
    weights = generator.uniform(-0.3, 0.3, columns)
    return features, generator.poisson(np.exp(features @ weights + 0.7)).astype(np.float64)


def falling_spectrum(generator: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, None]:
    directions, _ = np.linalg.qr(generator.standard_normal((columns, columns)))
    deviations = 1.0 / np.sqrt(np.arange(1, columns + 1))
    return (generator.standard_normal((rows, columns)) * deviations) @ directions.T, None


def documents(generator: np.random.Generator, rows: int, columns: int) -> tuple[csr_array, None]:
    topics = generator.dirichlet(np.full(columns, 0.05), _TOPICS)
    parts = []
    for start in range(0, rows, 1000):
        mixtures = generator.dirichlet(np.full(_TOPICS, 0.1), min(1000, rows - start))
        parts.append(csr_array(generator.multinomial(_WORDS, mixtures @ topics).astype(np.float64)))
    return csr_array(vstack(parts, format="csr")), None


def ratings(generator: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of a user and an item, each with 180 ratings on average, and ratings from 1 to 5."""
    sides = [generator.normal(size=(max(rows // 180, 20), 5)) for _ in range(columns)]
    pairs = np.column_stack([generator.integers(len(side), size=rows) for side in sides])
    products = np.einsum("ij,ij->i", sides[0][pairs[:, 0]], sides[1][pairs[:, 1]])
    return pairs, np.clip(np.rint(3.0 + 0.6 * products + 0.3 * generator.standard_normal(rows)), 1.0, 5.0)


def interacting_classes(generator: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two classes that pairs of features decide, through four hidden factors."""
    features = generator.standard_normal((rows, columns))
    factors = generator.standard_normal((columns, 4)) / np.sqrt(columns)
    pairs = 0.5 * (((features @ factors) ** 2).sum(axis=1) - (features**2) @ (factors**2).sum(axis=1))
    score = features[:, :5].sum(axis=1) + 2.0 * pairs
    return features, (score + generator.standard_normal(rows) > 0).astype(np.float64)


def quadratic_classes(generator: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ten classes: the largest of ten squares of directions."""
    features = generator.standard_normal((rows, columns))
    scores = (features @ generator.standard_normal((columns, _CLASSES)) / np.sqrt(columns)) ** 2
    return features, scores.argmax(axis=1).astype(np.float64)


def lifetimes(generator: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features, of which the last tells whether a lifetime ended, and Weibull lifetimes, of which a quarter is cut off."""
    features = generator.uniform(-1.0, 1.0, (rows, columns - 1))
    scale = np.exp(features @ generator.uniform(-0.3, 0.3, columns - 1) + 1.0)
    ends, cuts = scale * generator.weibull(1.5, rows), 3.0 * scale * generator.weibull(1.5, rows)
    return np.column_stack([features, ends <= cuts]), np.minimum(ends, cuts)


def monotone_response(generator: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    features = generator.uniform(0.0, 10.0, (rows, columns))
    return features, np.log1p(features[:, 0]) + 0.3 * generator.standard_normal(rows)


def baskets(generator: np.random.Generator, rows: int, columns: int) -> tuple[csr_array, None]:
    """Return which items a basket holds: eight that follow Zipf's law, and most of one of twenty groups of five."""
    law = np.cumsum(1.0 / np.arange(1, columns + 1))
    drawn = np.searchsorted(law / law[-1], generator.random((rows, 8)))
    groups = generator.integers(columns, size=(20, 5))
    grouped = groups[generator.integers(len(groups), size=rows)]
    grouped = np.where(generator.random(grouped.shape) < 0.8, grouped, drawn[:, :1])
    items = np.concatenate([drawn, grouped], axis=1)
    features = csr_array((np.ones(items.size), items.ravel(), np.arange(rows + 1) * items.shape[1]), shape=(rows, columns))
    features.sum_duplicates()
    return features, None
