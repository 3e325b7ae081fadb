"""Do sums and a model that no single message holds go through Spark, and give the numbers of their rows?"""

import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from securemllib.algorithms.vectors import VECTOR
from securemllib.ml.classification import NaiveBayes

# 20 * 220,000 sums of float64 are 33.6 MiB: more than the 32 MiB of the largest message that travels whole.
CLASSES, COLUMNS = 20, 220_000
WHOLE = 32 * 2**20


def words(rows=120):
    """Return the positions and counts of each row's words, and the rows' classes: a class has words of its own."""
    generator = np.random.default_rng(7)
    label = np.arange(rows) % CLASSES
    places = [np.sort(generator.choice(COLUMNS // CLASSES, 6, replace=False)) * CLASSES + name for name in label]
    return places, [generator.integers(1, 5, 6).astype(float) for _ in range(rows)], label


@pytest.fixture(scope="module")
def pages(deployment, session):
    """Sparse counts of words, encrypted in two parts, one for each task."""
    places, counts, label = words()
    vectors = [
        {"type": 0, "size": COLUMNS, "indices": where.tolist(), "values": values.tolist()}
        for where, values in zip(places, counts, strict=True)
    ]
    table = pa.table({"features": pa.array(vectors, VECTOR), "label": label.astype(float)})
    return session.read(deployment.dataset(table, "pages", rows_per_part=60))


@pytest.fixture
def kept(settings):
    """Return a set that fills with the kinds of the sealed blocks which enclaves let the host keep; they are gone when their job ends."""
    kinds, done = set(), threading.Event()

    def look():
        while not done.wait(0.02):
            kinds.update(block.name.partition("-")[0] for block in Path(settings["spark.securemllib.storage"]).glob("**/exchanged/*"))

    watcher = threading.Thread(target=look)
    watcher.start()
    yield kinds
    done.set()
    watcher.join()


def test_naive_bayes_of_large_sums_is_that_of_its_rows(pages, kept):
    """Sums and a model of 34 MiB travel in pieces, give the log probabilities of the counts, and predict each row's class."""
    model = NaiveBayes(smoothing=1.0).fit(pages)
    places, counts, label = words()
    sums = np.zeros((CLASSES, COLUMNS))
    for where, values, name in zip(places, counts, label, strict=True):
        sums[name, where] += values
    expected = np.log(sums + 1.0) - np.log(sums.sum(axis=1, keepdims=True) + COLUMNS)
    assert expected.nbytes > WHOLE
    assert "statistics" in kept
    assert model.sealed.pieces > 1
    theta = model.release().theta
    np.testing.assert_allclose(theta.toArray(), expected, rtol=1e-12)
    rows = model.transform(pages).release(columns=["label", "prediction"]).toPandas()
    assert (rows["prediction"] == rows["label"]).all()
