"""Does a sealed Word2Vec learn, score and keep its words sealed?"""

import numpy as np
import pyarrow as pa
import pytest

from securemllib.errors import DataError, SealedError, UsageError
from securemllib.ml import Pipeline
from securemllib.ml.feature import Tokenizer, Word2Vec, Word2VecModel

PARAMS = {"vectorSize": 6, "maxIter": 3, "stepSize": 0.1, "numPartitions": 2, "seed": 5}


@pytest.fixture(scope="module")
def notes():
    """Rows of a text and its words, of two groups that share no word; one row is empty."""
    drawn = np.random.default_rng(6)
    words = [[f"{'uv'[row % 2]}{word}" for word in drawn.integers(0, 8, 12)] for row in range(240)]
    words[5] = []
    return pa.table({"words": pa.array(words, pa.list_(pa.string())), "note": [" ".join(row) for row in words], "id": np.arange(240.0)})


@pytest.fixture(scope="module")
def sealed(deployment, session, notes):
    """The rows, encrypted in four parts."""
    return session.read(deployment.dataset(notes, "notes", rows_per_part=60))


def test_rows_have_the_mean_of_released_vectors(sealed, notes, tmp_path):
    """A loaded model gives rows the mean of released vectors, words of one group are synonyms, and what a model holds is sealed."""
    asked = {"inputCol": "words", "outputCol": "vector"}
    model = Word2Vec(**PARAMS, **asked).fit(sealed)
    released = model.release()
    found = {row.word: row.vector.toArray() for row in released.getVectors().itertuples()}
    assert sorted(found) == sorted(f"{group}{word}" for group in "uv" for word in range(8))
    assert {word[0] for word, _ in released.findSynonymsArray("u1", 7)} == {"u"}
    assert len(released.findSynonyms("u1", 3)) == 3
    model.save(str(tmp_path / "model"))
    out = Word2VecModel.load(str(tmp_path / "model")).transform(sealed)
    assert dict(out.dtypes)["vector"] == "vector"
    scored = out.release(columns=["id", "vector"]).toPandas().sort_values("id")["vector"]
    rows = notes.column("words").to_pylist()
    wanted = [np.mean([found[word] for word in row], axis=0) if row else np.zeros(6) for row in rows]
    np.testing.assert_allclose(np.stack(scored), wanted, rtol=1e-9, atol=1e-12)
    for name in ("getVectors", "findSynonyms", "findSynonymsArray"):
        with pytest.raises(SealedError, match="release"):
            getattr(model, name)


def test_the_same_fit_gives_the_same_vectors(sealed):
    """A seed is a model, behind a Tokenizer of the same words too."""
    vectors = [Word2Vec(**PARAMS, inputCol="words", outputCol="vector").fit(sealed).release().model.vectors for _ in range(2)]
    np.testing.assert_array_equal(*vectors)
    steps = [Tokenizer(inputCol="note", outputCol="tokens"), Word2Vec(**PARAMS, minCount=6, inputCol="tokens", outputCol="vector")]
    behind = Pipeline(stages=steps).fit(sealed).stages[1].release().model
    # The empty text is one token, the empty one, which is rare.
    np.testing.assert_array_equal(behind.vectors, vectors[0])
    other = Word2Vec(**{**PARAMS, "seed": 6}, inputCol="words", outputCol="vector").fit(sealed).release().model.vectors
    assert not (other == vectors[0]).any()


@pytest.mark.parametrize(
    ("params", "error", "code"),
    [
        ({"inputCol": "note"}, UsageError, "usage.column"),
        ({"inputCol": "words", "outputCol": "id"}, UsageError, "usage.column"),
        ({"inputCol": "words", "vectorSize": 0}, UsageError, "usage.param"),
        ({"inputCol": "words", "stepSize": 0.0}, UsageError, "usage.param"),
        ({"inputCol": "words", "minCount": 10_000}, DataError, "data.vocabulary"),
    ],
)
def test_what_learns_nothing_is_refused(sealed, params, error, code):
    """Columns and Params that pyspark.ml refuses are refused before a job, and a vocabulary without words by the enclave."""
    with pytest.raises(error) as refused:
        Word2Vec(**{"outputCol": "vector", **params}).fit(sealed)
    assert refused.value.error_code == code
