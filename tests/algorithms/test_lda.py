"""Does LDA learn what MLlib's learns, and does its model infer and score as MLlib's does?"""

import functools
import operator
from dataclasses import replace

import numpy as np
import pytest
from pyspark.ml import clustering
from pyspark.ml.linalg import Vectors
from pyspark.mllib.common import _py2java
from pyspark.mllib.linalg import DenseMatrix
from pyspark.mllib.linalg import Vectors as OldVectors
from scipy.sparse import csr_array

from securemllib.algorithms.base import Block, Scratch, Seed
from securemllib.algorithms.evaluation.topics import TopicEvaluator
from securemllib.algorithms.lda import LDA
from securemllib.algorithms.lda_em import assign
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError, UsageError

SEED = Seed(b"t" * 32)
TERMS, TOPICS = 30, 3


def _corpus(seed, documents=120, length=60):
    """Return documents of three topics, one of them empty."""
    rng = np.random.default_rng(seed)
    topics = np.random.default_rng(99).dirichlet(np.full(TERMS, 0.1), TOPICS)
    mixtures = rng.dirichlet(np.full(TOPICS, 0.3), documents)
    counts = np.array([rng.multinomial(length, mixture @ topics) for mixture in mixtures], dtype=float)
    counts[3] = 0.0
    return counts


def _blocks(counts, parts=3):
    return [
        Block(ordinal=ordinal, features=np.zeros((len(rows), 0)), offset=np.zeros(counts.shape[1]), sparse=csr_array(rows))
        for ordinal, rows in enumerate(np.array_split(counts, parts))
    ]


def _frame(spark, counts):
    rows = [(Vectors.sparse(len(row), {int(i): float(row[i]) for i in np.flatnonzero(row)}),) for row in counts]
    return spark.createDataFrame(rows, ["features"]).coalesce(1).cache()


def _mllib_model(spark, model):
    """Return MLlib's model with the same topics and concentrations: only its JVM classes take them."""
    context = spark.sparkContext
    jvm = context._jvm.org.apache.spark
    topics = _py2java(context, DenseMatrix(*model.topics.shape, model.topics.ravel(order="F")))
    old = jvm.mllib.clustering.LocalLDAModel(topics, _py2java(context, OldVectors.dense(model.alpha)), model.eta, 100.0)
    wrapped = clustering.LocalLDAModel(jvm.ml.clustering.LocalLDAModel("lda", len(model.topics), old, spark._jsparkSession))
    return wrapped.setFeaturesCol("features").setTopicDistributionCol("topicDistribution")


def _scala(package, name):
    """Return the companion object of a Scala class."""
    return getattr(getattr(package, f"{name}$"), "MODULE$")


def _likelihood(model, counts):
    return replace(model, likelihood=True).predict(counts)["likelihood"]


def _perplexity(fit, model, counts):
    rows = _likelihood(model, counts)
    blocks = [Block(ordinal=0, features=rows - rows.mean(axis=0), offset=rows.mean(axis=0))]
    return fit(TopicEvaluator(), blocks, SEED).value


LEARNT = LDA(k=TOPICS, max_iter=30, subsampling_rate=0.5, learning_offset=10.0)


@pytest.fixture(scope="module")
def model(fit):
    """Topics of 30 rounds over half of the documents each."""
    return fit(LEARNT, _blocks(_corpus(1)), SEED)


def test_mixtures_and_likelihood_are_those_of_mllib(spark, fit, model):
    """For the same topics, mixtures of documents, log likelihood and log perplexity are MLlib's, and an empty document has zeros."""
    held_out = _corpus(2)
    theirs, frame = _mllib_model(spark, model), _frame(spark, held_out)
    mixtures = np.array([row.topicDistribution.toArray() for row in theirs.transform(frame).collect()])
    ours = model.predict(held_out)["topicDistribution"]
    # Both stop when gamma, of about 60 tokens, changes by at most 1e-3 a topic, from different starts.
    np.testing.assert_allclose(ours, mixtures, atol=2e-3)
    assert not ours[3].any()
    bounds = _likelihood(model, held_out)
    assert bounds[:, 0].sum() + bounds[0, 2] == pytest.approx(theirs.logLikelihood(frame), rel=1e-6)
    assert _perplexity(fit, model, held_out) == pytest.approx(theirs.logPerplexity(frame), rel=1e-6)


@pytest.mark.parametrize("optimized", [False, True])
def test_a_round_is_mllibs(spark, optimized):
    """From the same topics and for the same sample, topics and document concentration after a round are MLlib's."""
    counts, context = _corpus(3), spark.sparkContext
    algorithm = LDA(k=TOPICS, subsampling_rate=1.0, learning_offset=3.0, optimize_doc_concentration=optimized, doc_concentration=(0.7,))
    (block,) = _blocks(counts, 1)
    state = algorithm.initial(Summary.of(block), SEED)
    after = algorithm.update(state, algorithm.statistics(state, block))
    times = SEED.generator("lda", 0, 0).poisson(1.0, len(counts))
    jvm = context._jvm.org.apache.spark
    documents_of, from_breeze = _scala(jvm.ml.clustering, "LDA").getOldDataset, _scala(jvm.mllib.linalg, "Matrices").fromBreeze
    documents, sample = (documents_of(_frame(spark, rows)._jdf, "features") for rows in (counts, np.repeat(counts, times, axis=0)))
    lda = jvm.mllib.clustering.LDA().setK(TOPICS).setDocConcentration(0.7)
    optimizer = jvm.mllib.clustering.OnlineLDAOptimizer().setTau0(3.0).setMiniBatchFraction(1.0).setOptimizeDocConcentration(optimized)
    optimizer.initialize(documents, lda)
    # MLlib's lambda is (k, V), by columns, as are our rows of (V, k).
    optimizer.setLambda(_py2java(context, DenseMatrix(TOPICS, TERMS, state.topics[0].ravel())).asBreeze())
    optimizer.submitMiniBatch(sample)
    theirs = np.array(from_breeze(optimizer.getLambda()).toArray()).reshape(TERMS, TOPICS)
    # Documents' inferences stop within 1e-3 of a gamma, from different starts.
    np.testing.assert_allclose(after.topics[0], theirs, rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(after.alpha, np.array(optimizer.getAlpha().toArray()), rtol=1e-3)
    assert (after.alpha == state.alpha).all() != optimized


def test_online_explains_held_out_documents_as_well_as_mllib(spark, fit):
    """The best of six trainings has a held-out log perplexity within 1 % of the best of MLlib's four on the same documents."""
    counts, held_out = _frame(spark, _corpus(1)), _frame(spark, _corpus(2))
    params = {"k": TOPICS, "maxIter": 30, "subsamplingRate": 0.5, "learningOffset": 10.0}
    theirs = min(clustering.LDA(seed=seed, **params).fit(counts).logPerplexity(held_out) for seed in range(4))
    models = [fit(LEARNT, _blocks(_corpus(1)), Seed(bytes([seed]) * 32)) for seed in range(6)]
    # The bound has maxima 6 % apart, and random topics climb to either, here as there; within one, trainings differ by 0.3 %.
    assert min(_perplexity(fit, model, _corpus(2)) for model in models) == pytest.approx(theirs, rel=0.01)


def test_em_is_as_likely_as_mllibs(spark, fit):
    """EM's log posterior of the training documents is within 1 % of MLlib's, and its topics have MLlib's held-out perplexity."""
    counts, held_out = _corpus(1), _corpus(2)
    theirs = clustering.LDA(k=TOPICS, maxIter=10, optimizer="em", seed=1, docConcentration=[1.2], topicConcentration=1.1).fit(
        _frame(spark, counts)
    )
    ours = fit(LDA(k=TOPICS, max_iter=10, optimizer="EM", doc_concentration=(1.2,), topic_concentration=1.1), _blocks(counts), SEED)
    assert ours.distributed
    # Both climb to one of the posterior's maxima from random counts.
    posterior = theirs.trainingLogLikelihood() + theirs.logPrior()
    assert ours.training_log_likelihood + ours.log_prior == pytest.approx(posterior, rel=0.01)
    assert ours.topics.sum() == pytest.approx(counts.sum())
    used = held_out[:, ours.topics.sum(axis=1) > 0]
    kept = replace(ours, topics=ours.topics[ours.topics.sum(axis=1) > 0])
    scored = _mllib_model(spark, kept)
    assert _perplexity(fit, kept, used) == pytest.approx(scored.logPerplexity(_frame(spark, used)), rel=1e-6)


def test_em_is_the_formula_of_its_paper(fit):
    """Counts, log likelihood and log prior after three passes are those of the formulas over all tokens at once."""
    counts, alpha, eta = _corpus(10, documents=12), 1.5, 1.2
    ours = fit(LDA(k=2, max_iter=3, optimizer="em", doc_concentration=(alpha,), topic_concentration=eta), _blocks(counts, 1), SEED)
    documents, topics = assign(csr_array(counts), 2, SEED, 0)
    for _ in range(3):
        belongs = (documents[:, None] + alpha - 1) * (topics + eta - 1) / (topics.sum(axis=0) + TERMS * (eta - 1))
        belongs *= (counts / belongs.sum(axis=2))[:, :, None]
        documents, topics = belongs.sum(axis=1), belongs.sum(axis=0)
    theta = (documents + alpha - 1) / (documents + alpha - 1).sum(axis=1, keepdims=True)
    phi = (topics + eta - 1) / (topics.sum(axis=0) + TERMS * (eta - 1))
    np.testing.assert_allclose(ours.topics, topics, rtol=1e-9, atol=1e-12)
    assert ours.training_log_likelihood == pytest.approx((counts * np.log(theta @ phi.T)).sum(), rel=1e-9)
    prior = (alpha - 1) * np.log(theta[counts.any(axis=1)]).sum() + (eta - 1) * np.log(phi[counts.any(axis=0)]).sum()
    assert ours.log_prior == pytest.approx(prior, rel=1e-9)


def test_lost_documents_are_computed_again_to_the_byte():
    """EM without anything kept between rounds gives the same bytes as EM whose documents' counts were kept."""
    counts = _corpus(4, documents=20)
    algorithm = LDA(k=TOPICS, max_iter=5, optimizer="em")

    def train(forget):
        blocks = _blocks(counts, 2)
        state = algorithm.initial(functools.reduce(operator.add, map(Summary.of, blocks)), SEED)
        while not algorithm.is_done(state):
            state = algorithm.update(state, functools.reduce(operator.add, (algorithm.statistics(state, block) for block in blocks)))
            if forget:
                blocks = [replace(block, scratch=Scratch()) for block in blocks]
        return algorithm.to_model(state)

    kept, lost = train(forget=False), train(forget=True)
    assert kept.topics.tobytes() == lost.topics.tobytes()
    assert (kept.training_log_likelihood, kept.log_prior) == (lost.training_log_likelihood, lost.log_prior)


@pytest.mark.parametrize("optimizer", ["online", "em"])
def test_statistics_add_up(optimizer):
    """A round's statistics of all parts are the sums of those of each, in any order."""
    algorithm = LDA(k=TOPICS, optimizer=optimizer, subsampling_rate=1.0)
    blocks = _blocks(_corpus(5))
    state = algorithm.initial(functools.reduce(operator.add, map(Summary.of, blocks)), SEED)
    each = [algorithm.statistics(state, block) for block in blocks]
    total, turned = functools.reduce(operator.add, each), functools.reduce(operator.add, each[::-1])
    np.testing.assert_allclose(total.topics, sum(one.topics for one in each), rtol=1e-12)
    np.testing.assert_allclose(total.topics, turned.topics, rtol=1e-12)
    assert total.documents == sum(one.documents for one in each)
    if optimizer == "em":
        assert total.topics.sum() == pytest.approx(_corpus(5).sum())


@pytest.mark.parametrize("optimizer", ["online", "em"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_dense_counts_are_sparse_ones(fit, cut, optimizer, dtype):
    """Centred dense blocks, in float32 too, give the topics of sparse ones: what the cast leaves of a zero is zero."""
    counts = _corpus(6)
    algorithm = LDA(k=TOPICS, max_iter=4, optimizer=optimizer, subsampling_rate=0.5)
    dense, sparse = fit(algorithm, cut(counts, dtype=dtype), SEED), fit(algorithm, _blocks(counts), SEED)
    # float32 counts around a mean of 60 / 30 are rounded at 1e-7.
    np.testing.assert_allclose(dense.topics, sparse.topics, rtol=1e-4 if dtype == np.float32 else 1e-9, atol=1e-4)


def test_a_seed_names_one_training(fit):
    """The same seed gives the same bytes, another seed other topics."""
    blocks, algorithm = _blocks(_corpus(7)), LDA(k=2, max_iter=2, subsampling_rate=0.5)
    one, same, other = (fit(algorithm, blocks, seed).topics.tobytes() for seed in (SEED, SEED, Seed(b"o" * 32)))
    assert one == same != other


def test_a_round_without_documents_changes_nothing():
    """An empty sample leaves topics and learning rate as they were, as in MLlib."""
    (block,) = _blocks(_corpus(8), 1)
    algorithm = LDA(k=2, subsampling_rate=1e-9)
    state = algorithm.initial(Summary.of(block), SEED)
    after = algorithm.update(state, algorithm.statistics(state, block))
    assert (after.step, after.iteration) == (1, 0)
    assert after.topics is state.topics


def test_bad_counts_are_refused(fit):
    """Negative and infinite counts are refused by training and prediction; documents of fractions are accepted."""
    good = _corpus(9) * 0.5
    model = fit(LDA(k=2, max_iter=1, subsampling_rate=1.0), _blocks(good), SEED)
    model.predict(good)
    for value in (-1.0, np.inf, np.nan):
        bad = good.copy()
        bad[5, 7] = value
        with pytest.raises(DataError):
            fit(LDA(k=2, max_iter=1, subsampling_rate=1.0), _blocks(bad, 1), SEED)
        with pytest.raises(DataError):
            model.predict(bad)
    with pytest.raises(DataError, match=r"data\.width"):
        model.predict(good[:, 1:])


@pytest.mark.parametrize(
    ("accepted", "refused"),
    [
        ({"k": 2}, {"k": 1}),
        ({"max_iter": 0}, {"max_iter": -1}),
        ({"optimizer": "Online"}, {"optimizer": "gibbs"}),
        ({"learning_offset": 1e-9}, {"learning_offset": 0.0}),
        ({"learning_decay": 0.1}, {"learning_decay": 0.0}),
        ({"subsampling_rate": 1.0}, {"subsampling_rate": 1.1}),
        ({"subsampling_rate": 1e-6}, {"subsampling_rate": 0.0}),
        ({"k": 2, "doc_concentration": (0.0, 1.0)}, {"k": 2, "doc_concentration": (1.0, 1.0, 1.0)}),
        ({"doc_concentration": (0.5,)}, {"doc_concentration": (-0.5,)}),
        ({"topic_concentration": 0.0}, {"topic_concentration": -0.1}),
        ({"optimizer": "em", "doc_concentration": (1.1,)}, {"optimizer": "em", "doc_concentration": (1.0,)}),
        ({"optimizer": "em", "k": 2, "doc_concentration": (2.0, 2.0)}, {"optimizer": "em", "k": 2, "doc_concentration": (2.0, 3.0)}),
        ({"optimizer": "em", "topic_concentration": 1.1}, {"optimizer": "em", "topic_concentration": 1.0}),
    ],
)
def test_params_have_mllibs_domains(accepted, refused):
    """A Param out of its domain is refused, its nearest neighbour within is accepted."""
    LDA(**accepted)
    with pytest.raises(UsageError):
        LDA(**refused)


def test_a_vocabulary_that_no_state_holds_is_refused():
    """Too many terms times topics, for em times rounds, are refused before training, with the sizes."""
    wide = Block(ordinal=0, features=np.zeros((1, 0)), offset=np.zeros(0), sparse=csr_array((1, 3_000_000)))
    with pytest.raises(UsageError, match="3000000 terms"):
        LDA(k=100).initial(Summary.of(wide), SEED)
    with pytest.raises(UsageError, match="21 matrices"):
        LDA(k=10, optimizer="em").initial(Summary.of(wide), SEED)
