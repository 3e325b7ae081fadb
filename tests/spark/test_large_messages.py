"""Do sums, states and a model that no single message holds go through Spark, and give the numbers of their rows?"""

import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from securemllib.algorithms.vectors import VECTOR
from securemllib.ml.classification import LogisticRegression, NaiveBayes

CLASSES, ROWS = 20, 120
# The largest message that travels whole.
WHOLE = 32 * 2**20


def words(columns):
    """Return the positions and counts of each row's words, and the rows' classes: a class has words of its own."""
    generator = np.random.default_rng(7)
    label = np.arange(ROWS) % CLASSES
    places = [np.sort(generator.choice(columns // CLASSES, 6, replace=False)) * CLASSES + name for name in label]
    return places, [generator.integers(1, 5, 6).astype(float) for _ in label], label


def pages(deployment, session, columns):
    """Return sparse counts of words, encrypted in two parts, one for each task."""
    places, counts, label = words(columns)
    vectors = [
        {"type": 0, "size": columns, "indices": where.tolist(), "values": values.tolist()}
        for where, values in zip(places, counts, strict=True)
    ]
    table = pa.table({"features": pa.array(vectors, VECTOR), "label": label.astype(float)})
    return session.read(deployment.dataset(table, f"pages-{columns}", rows_per_part=ROWS // 2))


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


def test_naive_bayes_of_large_sums_is_that_of_its_rows(deployment, session, kept):
    """Sums and a model of 34 MiB travel in pieces, give the log probabilities of the counts, and predict each row's class."""
    columns = 220_000
    rows = pages(deployment, session, columns)
    model = NaiveBayes(smoothing=1.0).fit(rows)
    sums = np.zeros((CLASSES, columns))
    for where, values, name in zip(*words(columns), strict=True):
        sums[name, where] += values
    assert sums.nbytes > WHOLE
    assert "statistics" in kept
    assert model.sealed.pieces > 1
    expected = np.log(sums + 1.0) - np.log(sums.sum(axis=1, keepdims=True) + columns)
    np.testing.assert_allclose(model.release().theta.toArray(), expected, rtol=1e-12)
    found = model.transform(rows).release(columns=["label", "prediction"]).toPandas()
    assert (found["prediction"] == found["label"]).all()


def test_a_regression_with_large_states_finds_the_classes(deployment, session, kept):
    """States of three vectors of 12 MiB travel in pieces, and one step from equal odds tells the classes apart."""
    columns = 80_000
    assert 3 * 8 * CLASSES * columns > WHOLE
    rows = pages(deployment, session, columns)
    model = LogisticRegression(maxIter=1, regParam=0.01).fit(rows)
    assert "state" in kept
    first, second = model.summary.objectiveHistory
    assert first == pytest.approx(np.log(CLASSES))
    assert second < first
    found = model.transform(rows).release(columns=["label", "prediction"]).toPandas()
    assert (found["prediction"] == found["label"]).all()
