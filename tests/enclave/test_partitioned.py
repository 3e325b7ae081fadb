"""Does partitioned mode train the same models, with masked sums where it says so?"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest

from securemllib.algorithms.fixed_point import Exponents
from securemllib.algorithms.trees import training
from securemllib.enclave.addition import Addition, add_masked, masked_share
from securemllib.wire.encoding import decode
from securemllib.wire.job import Mode
from securemllib.wire.plan import Call, Filter, Literal, Operator, Plan, Reference
from securemllib.wire.task import Compute, Masked
from tests.enclave.test_jobs import plain_model
from tests.world import Dataset, Relay, World, binomial_table, masked_sum, run


@pytest.fixture(autouse=True)
def _in_rounds(monkeypatch):
    """Few rows grow their trees in rounds, so that there is something to mask."""
    monkeypatch.setattr(training, "_AT_ONCE", 0)


class Listening(Relay):
    """A relay that writes down what computing gave."""

    def __init__(self, world, **options):
        super().__init__(world, **options)
        self.computed = []

    def ask(self, request, payload=b"", files=None):
        reply, data = super().ask(request, payload, files)
        if isinstance(request, Compute):
            self.computed.append((request.round, reply, bytes(data)))
        return reply, data


def wide_table():
    """Return rows whose columns differ in scale by fifteen orders of magnitude, with clusters and a label."""
    generator = np.random.default_rng(3)
    x = generator.normal(size=(400, 3)) + np.repeat(np.arange(4), 100)[:, None] * 9
    y = (generator.random(400) < 1 / (1 + np.exp(8 - x.sum(axis=1)))).astype(float)
    x *= [1e-7, 1.0, 1e8]
    return pa.table({**{f"x{i}": x[:, i] for i in range(3)}, "y": y})


@pytest.fixture(scope="module", params=["plain", "wide"])
def world(request):
    """Return a broker and an analyst around a table of six parts."""
    return World(Dataset(binomial_table() if request.param == "plain" else wide_table(), parts=6))


def trained(world, relays=1, **changes):
    """Return the arrays and numbers of the model, the finished job, and the kinds of reply by round."""
    job = world.job(**changes)
    enclaves = [Listening(world) for _ in range(relays)]
    finished, _ = run(world, job, enclaves)
    kinds = {number: isinstance(reply, Masked) for enclave in enclaves for number, reply, _ in enclave.computed}
    tree = decode(plain_model(world, job, finished))
    return {name: _array(value) for name, value in tree.items()}, finished, [kinds[number] for number in sorted(kinds)]


def _array(value):
    if isinstance(value, dict) and "dtype" in value:
        return np.frombuffer(value["data"], dtype=value["dtype"]).reshape(value["shape"])
    return value


CASES = {
    "logistic": ("LogisticRegression", {"regParam": 0.01, "tol": 1e-9}, "y"),
    "softmax": ("LogisticRegression", {"regParam": 0.01, "family": "multinomial", "tol": 1e-9}, "y"),
    "lasso": ("LogisticRegression", {"regParam": 0.01, "elasticNetParam": 1.0, "tol": 1e-9}, "y"),
    "svc": ("LinearSVC", {"regParam": 0.01}, "y"),
    "mixture": ("GaussianMixture", {"k": 2, "maxIter": 4}, None),
    "bayes": ("NaiveBayes", {"modelType": "gaussian"}, "y"),
    "normal": ("LinearRegression", {}, "y"),
    "squared": ("LinearRegression", {"solver": "l-bfgs", "tol": 1e-12}, "y"),
    "network": ("MultilayerPerceptronClassifier", {"layers": [3, 2, 2], "maxIter": 3}, "y"),
    "glm": ("GeneralizedLinearRegression", {"family": "binomial", "regParam": 0.01}, "y"),
    "huber": ("LinearRegression", {"loss": "huber", "regParam": 0.1, "tol": 1e-9}, "y"),
    "kmeans": ("KMeans", {"k": 4}, None),
    "bisecting": ("BisectingKMeans", {"k": 3}, None),
    "cosine": ("KMeans", {"k": 2, "distanceMeasure": "cosine", "initMode": "random"}, None),
    "pca": ("PCA", {"k": 2}, None),
    "tree": ("DecisionTreeRegressor", {"maxDepth": 3}, "y"),
    "forest": ("RandomForestClassifier", {"numTrees": 3, "maxDepth": 3}, "y"),
    "boosting": ("GBTClassifier", {"maxIter": 3, "maxDepth": 3}, "y"),
    "machine": ("FMClassifier", {"factorSize": 2, "maxIter": 6, "solver": "gd", "stepSize": 0.01, "miniBatchFraction": 0.8}, "y"),
    "scaler": ("StandardScaler", {"withMean": True}, None),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_partitioned_mode_trains_enclave_modes_model(world, name):
    """Masked sums train the model of sealed sums, to 1e-6 of an array's largest number: rounding moves where optimizers stop."""
    operation, params, label = CASES[name]
    inside, _, sealed = trained(world, operation=operation, params=params, label=label, shares=3)
    partitioned, _, masked = trained(world, operation=operation, params=params, label=label, shares=3, mode=Mode.PARTITIONED)
    assert not any(sealed)
    assert any(masked) is (name != "scaler")
    assert partitioned.keys() == inside.keys()
    for field, value in inside.items():
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            np.testing.assert_allclose(partitioned[field], value, rtol=1e-6, atol=1e-6 * np.abs(value).max(initial=0), err_msg=field)


def test_exponents_of_a_wild_step_do_not_stay():
    """Statistics that shrink by more bits than masked sums keep are measured again: lifetimes of 1e30 train the model of sealed sums."""
    table = binomial_table(rows=120)
    lifetimes = np.abs(np.random.default_rng(1).normal(size=120)) * 1e30 + 0.1
    wild = World(Dataset(table.append_column("t", pa.array(lifetimes)), parts=4))
    asked = {"operation": "AFTSurvivalRegression", "params": {}, "inputs": {"features": "features", "label": "t", "censor": "y"}}
    inside, _, _ = trained(wild, **asked)
    partitioned, _, masked = trained(wild, **asked, mode=Mode.PARTITIONED)
    assert any(masked)
    np.testing.assert_allclose(partitioned["coefficients"], inside["coefficients"], rtol=1e-6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Statistics of one field."""

    ADDITIVE = ("values",)

    values: np.ndarray


@pytest.mark.parametrize(
    ("shares", "is_added"),
    [
        ((1.0, 1.0), True),
        ((1e-9, 1.0), True),
        ((1e-30, 1.0), True),
        ((0.0, 1.0), True),
        ((0.0, 0.0), True),
        ((1e-30, 1e-30), False),
        ((0.0, 1e-30), False),
        ((1e30, 1.0), False),
    ],
)
def test_what_is_measured_again(shares, is_added):
    """Sums go on where some share keeps its digits or all are exactly 0, and not where one is too large or all that are not 0 shrank."""
    world = World(Dataset(binomial_table(rows=8), parts=2))
    job, relay = world.job(mode=Mode.PARTITIONED), Relay(world)
    relay.install(job)
    session = relay.enclave.session(job.job_id)
    statistics = [Sums(values=np.full(3, share)) for share in shares]
    measured = Addition(kind="masked", exponents=Exponents.of(Sums(values=np.ones(3))), measured=b"state")
    later = measured.after_update(session, None)
    masked = [masked_share(session, b"state", b"%d" % k, later.exponents, share) for k, share in enumerate(statistics)]
    salted = [(b"%d" % k, salt) for k, (salt, _) in enumerate(masked)]
    total = memoryview(bytearray(masked_sum([(None, bytes(words)) for _, words in masked])))
    added = add_masked(session, b"state", salted, total, later, Sums(values=np.zeros(3)))
    assert (added is not None) is is_added
    if is_added:
        np.testing.assert_allclose(added.values, sum(shares), rtol=1e-15)


def counts_table():
    """Return word counts of documents of two topics, with their topic and a time as labels."""
    generator = np.random.default_rng(8)
    topic = np.arange(120) % 2
    counts = generator.poisson(np.where(topic[:, None] == np.arange(3) % 2, 6.0, 0.5))
    lifetime = np.exp(counts @ [0.1, -0.1, 0.05]) * generator.exponential(size=120)
    columns = {f"x{i}": counts[:, i].astype(float) for i in range(3)}
    return pa.table({**columns, "y": topic.astype(float), "t": lifetime})


COUNTS = {
    "online": ("LDA", {"k": 2, "maxIter": 4, "subsamplingRate": 0.5}, None),
    "em": ("LDA", {"k": 2, "maxIter": 4, "optimizer": "em"}, None),
    "bayes": ("NaiveBayes", {}, "y"),
}


def test_partitioned_mode_trains_enclave_modes_lifetimes():
    """Masked sums over lifetimes, some of them censored, train the model of sealed sums, to 1e-6."""
    counts = World(Dataset(counts_table(), parts=4))
    asked = {"operation": "AFTSurvivalRegression", "params": {"tol": 1e-9}}
    asked["inputs"] = {"features": "features", "label": "t", "censor": "y"}
    inside, _, _ = trained(counts, **asked)
    partitioned, _, masked = trained(counts, **asked, mode=Mode.PARTITIONED)
    assert any(masked)
    np.testing.assert_allclose(partitioned["coefficients"], inside["coefficients"], rtol=1e-6)
    assert (partitioned["intercept"], partitioned["scale"]) == pytest.approx((inside["intercept"], inside["scale"]), rel=1e-6)


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_partitioned_mode_trains_enclave_modes_model_of_counts(name):
    """Masked sums of counts train the model of sealed sums, to 1e-9 of an array's largest number."""
    operation, params, label = COUNTS[name]
    counts = World(Dataset(counts_table(), parts=4))
    inside, _, _ = trained(counts, operation=operation, params=params, label=label)
    partitioned, _, masked = trained(counts, operation=operation, params=params, label=label, mode=Mode.PARTITIONED)
    assert any(masked)
    for field, value in inside.items():
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            np.testing.assert_allclose(partitioned[field], value, rtol=0, atol=1e-9 * np.abs(value).max(initial=0), err_msg=field)


def test_partitioned_mode_finds_enclave_modes_sets():
    """Masked counts of proposed sets give the frequent sets of sealed ones, from parts with null lists too."""
    generator = np.random.default_rng(5)
    held = generator.random((200, 5)) < [0.8, 0.7, 0.5, 0.4, 0.2]
    lists = [None if index % 40 == 3 else [f"i{item}" for item in np.flatnonzero(row)] for index, row in enumerate(held)]
    baskets = World(Dataset(pa.table({"items": pa.array(lists, pa.list_(pa.string())), "y": np.zeros(200)}), parts=4))
    asked = {"operation": "FPGrowth", "params": {"minSupport": 0.1}, "inputs": {"input0": "items"}}
    asked["plan"] = Plan(source=baskets.dataset.manifest.reference, steps=())
    inside, _, _ = trained(baskets, **asked)
    partitioned, _, masked = trained(baskets, **asked, mode=Mode.PARTITIONED)
    assert any(masked)
    assert partitioned == inside
    assert len(inside["itemsets"]["counts"]["data"]) > 8 * 8


def test_partitioned_mode_finds_enclave_modes_patterns():
    """Masked counts of proposed patterns give the frequent patterns of sealed ones."""
    drawn = np.random.default_rng(7)
    rows = [[drawn.choice(4, drawn.integers(0, 3), replace=False).tolist() for _ in range(drawn.integers(1, 6))] for _ in range(80)]
    visits = World(Dataset(pa.table({"visits": pa.array(rows, pa.list_(pa.list_(pa.int64()))), "y": np.zeros(80)}), parts=4))
    asked = {"operation": "PrefixSpan", "params": {"minSupport": 0.1}, "inputs": {"input0": "visits"}}
    asked["plan"] = Plan(source=visits.dataset.manifest.reference, steps=())
    inside, _, _ = trained(visits, **asked)
    partitioned, _, masked = trained(visits, **asked, mode=Mode.PARTITIONED)
    assert any(masked)
    for field in ("parents", "items", "joins", "counts"):
        np.testing.assert_array_equal(partitioned[field], inside[field])
    assert (partitioned["vocabulary"], partitioned["integers"]) == (inside["vocabulary"], True)
    assert len(inside["counts"]) > 8


def test_partitioned_mode_learns_enclave_modes_words():
    """Masked sums over parts that learn at once give the vectors of sealed ones, from parts without words too."""
    generator = np.random.default_rng(9)
    lists = [[f"w{word}" for word in generator.zipf(1.5, 6) % 9] if row % 100 < 80 else [] for row in range(300)]
    texts = World(Dataset(pa.table({"words": pa.array(lists, pa.list_(pa.string())), "y": np.zeros(300)}), parts=5))
    asked = {"operation": "Word2Vec", "params": {"vectorSize": 4, "numPartitions": 2, "maxIter": 2}, "inputs": {"input0": "words"}}
    asked["plan"] = Plan(source=texts.dataset.manifest.reference, steps=())
    inside, _, sealed = trained(texts, **asked, shares=3)
    partitioned, _, masked = trained(texts, **asked, shares=3, mode=Mode.PARTITIONED)
    assert not any(sealed)
    # Three rounds an iteration, and before them those of the summary, of the words and of the exponents.
    assert masked.count(True) == 6
    assert partitioned["vocabulary"] == inside["vocabulary"]
    assert len(inside["vocabulary"]) == 9
    # Single precision, and once in a while a step whose product rounding puts into the next entry of the sigmoid's table.
    np.testing.assert_allclose(partitioned["vectors"], inside["vectors"], atol=1e-4)
    other, _, _ = trained(texts, **asked, shares=1)
    np.testing.assert_allclose(other["vectors"], inside["vectors"], atol=1e-4)


def test_partitioned_mode_walks_enclave_modes_graph():
    """Masked sums over edges give the clusters of sealed ones."""
    ends = np.random.default_rng(6).integers(0, 12, (2, 300)) + 12 * (np.arange(300) % 2)
    graph = World(Dataset(pa.table({"from": ends[0], "to": ends[1], "y": np.zeros(300)}), parts=4))
    asked = {"operation": "PowerIterationClustering", "params": {}, "inputs": {"input0": "from", "input1": "to"}}
    asked["plan"] = Plan(source=graph.dataset.manifest.reference, steps=())
    inside, _, _ = trained(graph, **asked)
    partitioned, _, masked = trained(graph, **asked, mode=Mode.PARTITIONED)
    assert any(masked)
    np.testing.assert_array_equal(partitioned["ids"], np.arange(24))
    np.testing.assert_array_equal(partitioned["clusters"], inside["clusters"])


FEATURES = {
    "robust": ("RobustScaler", {"lower": 0.2}, {"input0": "features"}),
    "buckets": ("QuantileDiscretizer", {"numBuckets": 4}, {"input0": "x0", "input1": "x2"}),
    "means": ("Imputer", {"strategy": "mean"}, {"input0": "x0", "input1": "x1"}),
}


@pytest.mark.parametrize("name", sorted(FEATURES))
def test_partitioned_mode_fits_enclave_modes_transformers(world, name):
    """Masked counts give the quantiles of sealed ones to the bit, masked sums their means; some parts have no rows left."""
    operation, params, inputs = FEATURES[name]
    nobody = Filter(predicate=Call(operator=Operator.GREATER, arguments=(Reference(column="n"), Literal(value=66))))
    numbered = World(Dataset(world.dataset.table.append_column("n", pa.array(range(400))), parts=6))
    steps = (nobody, *numbered.job().plan.steps)
    asked = {
        "operation": operation,
        "params": params,
        "inputs": inputs,
        "plan": Plan(source=numbered.dataset.manifest.reference, steps=steps),
    }
    inside, _, sealed = trained(numbered, **asked, shares=6)
    partitioned, _, masked = trained(numbered, **asked, shares=6, mode=Mode.PARTITIONED)
    assert not any(sealed)
    assert any(masked)
    for field, value in inside.items():
        if name == "means" and isinstance(value, np.ndarray):
            np.testing.assert_allclose(partitioned[field], value, rtol=1e-12)
        else:
            np.testing.assert_array_equal(partitioned[field], value, err_msg=field)


@pytest.mark.parametrize(("operation", "is_masked"), [("RankingEvaluator", True), ("MultilabelClassificationEvaluator", False)])
def test_partitioned_mode_scores_lists_as_enclave_mode(operation, is_masked):
    """Sums of rankings are masked, labels merged in enclaves: both give enclave mode's metrics; a part has no rows left."""
    generator = np.random.default_rng(2)
    lists = [[generator.permutation(5)[:length].astype(float).tolist() for length in (0, *generator.integers(1, 5, 59))] for _ in range(2)]
    table = pa.table({"p": lists[0], "y": lists[1], "n": range(60)})
    scored = World(Dataset(table, parts=3))
    somebody = Filter(predicate=Call(operator=Operator.GREATER, arguments=(Reference(column="n"), Literal(value=19))))
    plan = Plan(source=scored.dataset.manifest.reference, steps=(somebody,))
    asked = {"operation": operation, "params": {}, "inputs": {"input0": "p", "input1": "y"}, "plan": plan, "shares": 3}
    inside, _, _ = trained(scored, **asked)
    partitioned, _, masked = trained(scored, **asked, mode=Mode.PARTITIONED)
    assert any(masked) is is_masked
    assert partitioned.keys() == inside.keys()
    assert inside["rows"] == 40
    for field, value in inside.items():
        # Masked sums are of integers with 66 bits.
        np.testing.assert_allclose(partitioned[field], value, rtol=1e-14, err_msg=field)


def test_which_rounds_are_masked(world):
    """The summary and rounds that draw rows are sealed, one round is measured, and every round after it is masked."""
    _, _, kinds = trained(world, params={"regParam": 0.01}, mode=Mode.PARTITIONED)
    assert kinds[:3] == [False, False, True]
    assert all(kinds[2:])
    _, _, kinds = trained(world, operation="PCA", params={"k": 2}, label=None, mode=Mode.PARTITIONED)
    assert kinds == [False, False, True]
    _, _, kinds = trained(world, operation="KMeans", params={"k": 4}, label=None, mode=Mode.PARTITIONED)
    assert kinds[:6] == [False, False, False, False, False, True]


def test_a_resumed_masked_job_gives_the_same_bytes(world):
    """Another enclave that resumes from the checkpoint, with other salts, finishes with the same model bytes."""
    job = world.job(params={"regParam": 0.01, "tol": 1e-9}, mode=Mode.PARTITIONED)
    undisturbed, _ = run(world, job, [Relay(world), Relay(world)])
    expected = plain_model(world, job, undisturbed)
    again = World(world.dataset, broker=world.broker, analyst=world.analyst)
    again.keys = world.keys
    _, checkpoints = run(again, job, [Relay(again)], stop_after=4)
    head = again.heads[job.job_id]
    finished, _ = run(again, job, [Relay(again)], begin=checkpoints[head.round])
    assert plain_model(again, job, finished) == expected


def test_a_share_without_parts_counts_as_zeros():
    """A job of more shares than parts trains the same model."""
    world = World(Dataset(binomial_table(), parts=6))
    few, _, _ = trained(world, operation="PCA", params={"k": 2}, label=None, shares=2, mode=Mode.PARTITIONED)
    many, _, _ = trained(world, operation="PCA", params={"k": 2}, label=None, shares=9, mode=Mode.PARTITIONED)
    np.testing.assert_allclose(many["pc"], few["pc"], rtol=1e-9, atol=1e-12)
