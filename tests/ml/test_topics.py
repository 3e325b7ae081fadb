"""Does a sealed topic model learn, score documents and stay sealed as its policy says?"""

import numpy as np
import pyarrow as pa
import pytest
from pyspark.ml.linalg import Vectors

from securemllib.errors import SealedError, UsageError
from securemllib.ml.clustering import LDA, DistributedLDAModel, LDAModel, LocalLDAModel

TERMS = 12


@pytest.fixture(scope="module")
def documents(deployment, session):
    """Sixty documents, half of them of the first six terms and half of the others."""
    rng = np.random.default_rng(5)
    counts = np.zeros((60, TERMS))
    counts[:30, :6], counts[30:, 6:] = rng.integers(0, 9, (30, 6)), rng.integers(0, 9, (30, 6))
    table = pa.table({"name": [str(index) for index in range(60)], "features": pa.array(counts.tolist(), pa.list_(pa.float64()))})
    return session.read(deployment.dataset(table, "documents", rows_per_part=20))


@pytest.fixture(scope="module")
def online(documents):
    """Topics of the optimizer online."""
    return LDA(k=2, maxIter=20, subsamplingRate=0.5, learningOffset=2.0, seed=1).fit(documents)


def test_topics_part_the_documents(documents, online):
    """Each half of the documents has its own topic, in the released mixtures as in the released model."""
    assert type(online) is LocalLDAModel
    assert not online.isDistributed()
    rows = online.transform(documents).release(columns=["name", "topicDistribution"]).toPandas()
    chosen = np.stack(rows["topicDistribution"]).argmax(axis=1)
    first = rows["name"].astype(int).to_numpy() < 30
    assert len(set(chosen[first])) == len(set(chosen[~first])) == 1
    assert set(chosen[first]) != set(chosen[~first])
    plain = online.release()
    assert plain.vocabSize() == TERMS
    assert plain.topicsMatrix().toArray().shape == (TERMS, 2)
    assert plain.estimatedDocConcentration().size == 2
    topics = plain.describeTopics(6)
    assert list(topics.columns) == ["topic", "termIndices", "termWeights"]
    assert {frozenset(terms) for terms in topics["termIndices"]} == {frozenset(range(6)), frozenset(range(6, 12))}
    mixture = plain.topicDistribution(Vectors.sparse(TERMS, {0: 5.0, 3: 2.0}))
    assert int(np.argmax(mixture)) == chosen[first][0]
    assert np.allclose(mixture, plain.topicDistribution(Vectors.dense([5.0, 0, 0, 2.0] + [0.0] * 8)))
    with pytest.raises(UsageError, match="em"):
        plain.logPrior()


def test_likelihood_is_a_metric(documents, online):
    """Log likelihood and log perplexity leave as numbers that fit together, and good topics are less perplexed than none."""
    tokens = -online.logLikelihood(documents) / online.logPerplexity(documents)
    assert tokens == pytest.approx(round(tokens), abs=1e-6)
    untrained = LDA(k=2, maxIter=0, seed=1).fit(documents)
    assert online.logPerplexity(documents) < untrained.logPerplexity(documents)


def test_em_tells_what_the_policy_released(documents):
    """A model of em is distributed, its training likelihood is a number where the summary was released, and local it forgets it."""
    model = LDA(k=2, maxIter=10, optimizer="em", seed=1).fit(documents)
    assert type(model) is DistributedLDAModel
    assert model.isDistributed()
    plain = model.release()
    assert plain.isDistributed()
    assert model.trainingLogLikelihood() == plain.trainingLogLikelihood() < 0
    assert model.logPrior() == plain.logPrior()
    assert np.isfinite(model.logPerplexity(documents))
    local = model.toLocal()
    assert type(local) is LocalLDAModel
    with pytest.raises(SealedError):
        local.describeTopics()


def test_a_saved_model_is_the_same_model(documents, online, tmp_path):
    """A loaded model has the class, the Params and the perplexity of the saved one."""
    online.save(str(tmp_path / "topics"))
    loaded = LocalLDAModel.load(str(tmp_path / "topics"))
    assert isinstance(loaded, LDAModel)
    assert loaded.getK() == 2
    assert loaded.logPerplexity(documents) == online.logPerplexity(documents)


def test_params_that_mean_nothing_here_are_refused(documents):
    """Params of checkpoints, which the engine decides, are refused where they are set to something else."""
    for params in ({"keepLastCheckpoint": False}, {"checkpointInterval": 3}):
        with pytest.raises(UsageError) as refused:
            LDA(k=2, **params).fit(documents)
        assert refused.value.error_code == "usage.unsupported"
    LDA(k=2, maxIter=1, keepLastCheckpoint=True, subsamplingRate=1.0).fit(documents)
