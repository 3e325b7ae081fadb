"""The contract of every operation in the registry: what an engine that cuts, drops, repeats and resumes may rely on.

An operation that is new to the registry enters the table below, or the first test fails.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.ml import classification, clustering, evaluation, regression
from scipy.sparse import csr_array

from securemllib.algorithms.base import Block, Scratch, Seed, idle_bounded
from securemllib.algorithms.codec import from_tree, to_tree
from securemllib.algorithms.registry import ALGORITHMS, build, types_of
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.trees import training
from securemllib.errors import DataError
from securemllib.wire.encoding import encode
from tests.algorithms.exchanging import fit_shards

ROWS = 60
SEED = Seed(b"contract" * 4)


@dataclass(frozen=True)
class Rows:
    """Columns of `ROWS` rows, before they are cut into blocks."""

    features: Any
    label: Any = None
    weight: Any = None
    prediction: Any = None
    arity: Any = None
    extras: dict[str, Any] = field(default_factory=dict)
    raw: dict[str, Any] = field(default_factory=dict)

    def take(self, index: Any) -> "Rows":
        """Return the rows at some positions."""

        def of(column: Any) -> Any:
            return None if column is None else column[index]

        return Rows(
            self.features[index],
            of(self.label),
            of(self.weight),
            of(self.prediction),
            self.arity,
            {role: column[index] for role, column in self.extras.items()},
            {role: column.take(pa.array(index)) for role, column in self.raw.items()},
        )

    def blocks(self, cuts: list[Any]) -> list[Block]:
        """Return a block of the rows at each list of positions."""
        return [self.take(np.asarray(index, dtype=np.int64))._block(ordinal) for ordinal, index in enumerate(cuts)]

    def _block(self, ordinal: int) -> Block:
        used = self.features if self.weight is None else self.features[self.weight != 0]
        means = used.mean(axis=0) if len(used) else np.zeros(self.features.shape[1])
        # As the loader centres: a column with a value that is no finite number has no centre.
        offset = np.where(np.isfinite(means), means, 0.0)
        block = Block(
            ordinal=ordinal,
            features=np.ascontiguousarray(self.features - offset),
            offset=offset,
            label=self.label,
            weight=self.weight,
            prediction=self.prediction,
            arity=self.arity,
            extras=self.extras,
            raw=self.raw,
        )
        return idle_bounded(block)


def _generator() -> np.random.Generator:
    return np.random.default_rng(11)


def _classes() -> Rows:
    drawn = _generator()
    label = (np.arange(ROWS) % 2).astype(float)
    return Rows(drawn.normal(size=(ROWS, 3)) + label[:, None], label, drawn.integers(1, 4, ROWS).astype(float))


def _counts() -> Rows:
    drawn = _generator()
    label = (np.arange(ROWS) % 3).astype(float)
    return Rows(drawn.poisson(1.0 + label[:, None], (ROWS, 4)).astype(float), label, drawn.integers(1, 4, ROWS).astype(float))


def _documents() -> Rows:
    drawn = _generator()
    return Rows(drawn.poisson(1.0, (ROWS, 6)).astype(float))


def _rated() -> Rows:
    drawn = _generator()
    users, items = (drawn.integers(0, 9, ROWS).astype(float) for _ in range(2))
    return Rows(np.zeros((ROWS, 0)), extras={"user": users, "item": items, "rating": drawn.normal(size=ROWS)})


def _targets() -> Rows:
    rows = _classes()
    return replace(rows, label=rows.features @ np.array([1.0, 2.0, -1.0]) + _generator().normal(size=ROWS))


def _lifetimes() -> Rows:
    rows = _targets()
    return replace(rows, label=np.exp(rows.label / 4.0), weight=None, extras={"censor": (np.arange(ROWS) % 3 > 0).astype(float)})


def _clusters() -> Rows:
    rows = _classes()
    return replace(rows, features=rows.features + 10.0 * rows.label[:, None], label=None)


def _predicted() -> Rows:
    rows = _targets()
    return replace(rows, prediction=rows.label + 0.1)


def _classified() -> Rows:
    rows = _classes()
    return replace(rows, prediction=np.roll(rows.label, 1), features=rows.features[:, :2])


def _words() -> Rows:
    drawn = _generator().choice(["a", "b", "c", "\u00e9"], ROWS, p=[0.4, 0.3, 0.2, 0.1])
    return Rows(np.zeros((ROWS, 0)), raw={"input0": pa.array(drawn.tolist())})


def _categories() -> Rows:
    return Rows(np.zeros((ROWS, 0)), raw={"input0": pa.array((np.arange(ROWS) % 4).astype(float))})


def _counted_categories() -> Rows:
    label = pa.array((np.arange(ROWS) % 3 == 0).astype(float), mask=np.arange(ROWS) % 11 == 0)
    return replace(_categories(), raw={**_categories().raw, "input1": label})


def _numbers() -> Rows:
    return Rows(
        np.zeros((ROWS, 0)), raw={"input0": pa.array(_generator().integers(0, 9, ROWS).astype(float), mask=np.arange(ROWS) % 7 == 0)}
    )


def _vectors() -> Rows:
    matrix = _generator().poisson(1.0, (ROWS, 3)).astype(float)
    return Rows(np.zeros((ROWS, 0)), raw={"input0": pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), 3)})


def _labelled() -> Rows:
    return replace(_vectors(), label=(np.arange(ROWS) % 2).astype(float))


def _curve() -> Rows:
    drawn = _generator()
    label, weight = (drawn.integers(1, 6, ROWS).astype(float) for _ in range(2))
    return replace(_categories(), label=label, weight=weight)


def _texts() -> Rows:
    return Rows(np.zeros((ROWS, 0)), raw={"input0": pa.array([[word, "a"] for word in _words().raw["input0"].to_pylist()])})


def _lists() -> Rows:
    drawn = _generator()
    lists = [[drawn.permutation(5)[: drawn.integers(0, 5)].astype(float).tolist() for _ in range(ROWS)] for _ in range(2)]
    # A row without labels has no recall.
    lists[1] = [labels or [1.0] for labels in lists[1]]
    return Rows(np.zeros((ROWS, 0)), raw={f"input{index}": pa.array(each, pa.list_(pa.float64())) for index, each in enumerate(lists)})


def _sets() -> Rows:
    held = _generator().random((ROWS, 5)) < [0.8, 0.7, 0.5, 0.4, 0.2]
    return Rows(np.zeros((ROWS, 0)), raw={"input0": pa.array([[f"i{item}" for item in np.flatnonzero(row)] for row in held])})


def _distances() -> Rows:
    drawn = _generator()
    far = pa.array([None if index % 3 == 0 else float(number) for index, number in enumerate(drawn.integers(0, 9, ROWS))])
    return Rows(np.zeros((ROWS, 0)), raw={"input0": far, "input1": pa.array(drawn.random(ROWS))})


def _sequences() -> Rows:
    drawn = _generator()
    rows = [[drawn.choice(4, drawn.integers(0, 3), replace=False).tolist() for _ in range(drawn.integers(1, 4))] for _ in range(ROWS)]
    return Rows(np.zeros((ROWS, 0)), raw={"input0": pa.array(rows, pa.list_(pa.list_(pa.int64())))})


def _edges() -> Rows:
    ends = _generator().integers(0, 8, (2, ROWS)) + 8 * (np.arange(ROWS) % 2)
    return Rows(np.zeros((ROWS, 0)), raw={f"input{place}": pa.array(nodes) for place, nodes in enumerate(ends)})


@dataclass(frozen=True)
class Case:
    """How the contract is tried on one operation.

    Attributes:
        operation: Its name.
        rows: Makes rows that suit it.
        params: Params by their pyspark.ml names.
        draws: Whether it draws by the position of a row, so that another order or cut gives another, equally good model.
        weighs: Whether a weight is as good as copies of the row. It is not where there is no weight, where MLlib sets a row's own weight
            apart from its cluster's, and where a search over a loss with corners ends before it is at the bottom.
        predicts: Whether its model predicts from features.
        refuses_nan: Whether a column of NaN is refused.
        tolerance: Relative, between two orders of the same sums.
    """

    operation: str
    rows: Callable[[], Rows]
    params: dict[str, Any] = field(default_factory=dict)
    draws: bool = False
    weighs: bool = True
    predicts: bool = True
    refuses_nan: bool = True
    tolerance: float = 1e-6


# Operations over stored columns: their own tests run what they predict and refuse.
RAW: dict[str, Any] = {"weighs": False, "predicts": False, "refuses_nan": False}

CASES = {
    "AFTSurvivalRegression": Case("AFTSurvivalRegression", _lifetimes, {"tol": 1e-12}, weighs=False),
    "ALS": Case("ALS", _rated, {"rank": 2, "maxIter": 2}, weighs=False, predicts=False, refuses_nan=False),
    "BinaryClassificationEvaluator": Case("BinaryClassificationEvaluator", _classified, predicts=False),
    "BisectingKMeans": Case("BisectingKMeans", _clusters, {"k": 3}, draws=True),
    "BoostingEvaluator": None,
    "BucketedRandomProjectionLSH": Case("BucketedRandomProjectionLSH", _vectors, {"bucketLength": 2.0}, **RAW),
    "ChiSqSelector": Case("ChiSqSelector", _labelled, {"numTopFeatures": 2}, **RAW),
    "ChiSquareTest": Case("ChiSquareTest", _labelled, **RAW),
    "ClassCounter": Case("ClassCounter", _counts, predicts=False, weighs=False, refuses_nan=False),
    "ClusteringEvaluator": Case(
        "ClusteringEvaluator", lambda: replace(_clusters(), prediction=_classes().label), predicts=False, weighs=False
    ),
    "Correlation": Case("Correlation", _vectors, {"method": "spearman"}, **RAW),
    "CountVectorizer": Case("CountVectorizer", _texts, **RAW),
    "DecisionTreeClassifier": Case("DecisionTreeClassifier", _classes),
    "DecisionTreeRegressor": Case("DecisionTreeRegressor", _targets),
    "FMClassifier": Case("FMClassifier", _classes, {"maxIter": 5, "stepSize": 0.1}, weighs=False),
    "FMRegressor": Case("FMRegressor", _targets, {"maxIter": 5, "stepSize": 0.1}, weighs=False),
    "FPGrowth": Case("FPGrowth", _sets, {"minSupport": 0.2}, **RAW),
    "GBTClassifier": Case("GBTClassifier", _classes, {"maxIter": 3, "maxDepth": 3}),
    "GBTRegressor": Case("GBTRegressor", _targets, {"maxIter": 3, "maxDepth": 3}),
    "GaussianMixture": Case("GaussianMixture", _clusters, {"k": 2, "maxIter": 5}, draws=True),
    "GeneralizedLinearEvaluator": None,
    "GeneralizedLinearRegression": Case("GeneralizedLinearRegression", _targets, {"family": "gaussian"}),
    "IDF": Case("IDF", _vectors, **RAW),
    "Imputer": Case("Imputer", _numbers, {"strategy": "median"}, **RAW),
    "IsotonicRegression": Case("IsotonicRegression", _curve, predicts=False, refuses_nan=False),
    "KMeans": Case("KMeans", _clusters, draws=True),
    "LDA": Case("LDA", _documents, {"k": 2, "maxIter": 3}, draws=True, weighs=False),
    "LinearRegression": Case("LinearRegression", _targets),
    "LinearSVC": Case("LinearSVC", _classes, {"maxIter": 10, "regParam": 0.1, "standardization": False}, weighs=False),
    "LogisticRegression": Case("LogisticRegression", _classes, {"tol": 1e-12, "regParam": 0.1, "standardization": False}),
    "MaxAbsScaler": Case("MaxAbsScaler", _vectors, **RAW),
    "MinHashLSH": Case("MinHashLSH", _vectors, {"numHashTables": 3}, **RAW),
    "MinMaxScaler": Case("MinMaxScaler", _vectors, **RAW),
    "MulticlassClassificationEvaluator": Case("MulticlassClassificationEvaluator", _classified, predicts=False, refuses_nan=False),
    "MultilabelClassificationEvaluator": Case("MultilabelClassificationEvaluator", _lists, **RAW),
    "MultilayerPerceptronClassifier": Case(
        "MultilayerPerceptronClassifier", lambda: replace(_classes(), weight=None), {"layers": [3, 4, 2], "maxIter": 5}, weighs=False
    ),
    "NaiveBayes": Case("NaiveBayes", _counts),
    "NearestNeighbors": Case("NearestNeighbors", _distances, {"numNearestNeighbors": 7}, **RAW),
    "OneHotEncoder": Case("OneHotEncoder", _categories, **RAW),
    "PCA": Case("PCA", _clusters, {"k": 2}, weighs=False),
    "PowerIterationClustering": Case("PowerIterationClustering", _edges, {"initMode": "degree"}, **RAW),
    "PrefixSpan": Case("PrefixSpan", _sequences, {"minSupport": 0.2}, **RAW),
    "QuantileDiscretizer": Case("QuantileDiscretizer", _numbers, {"numBuckets": 4}, **RAW),
    "RandomForestClassifier": Case("RandomForestClassifier", _classes, {"numTrees": 3}, draws=True),
    "RandomForestRegressor": Case("RandomForestRegressor", _targets, {"numTrees": 3}, draws=True),
    "RankingEvaluator": Case("RankingEvaluator", _lists, {"metricName": "ndcgAtK", "k": 2}, **RAW),
    "Recommender": None,
    "RegressionEvaluator": Case("RegressionEvaluator", _predicted, predicts=False, refuses_nan=False),
    "RobustScaler": Case("RobustScaler", _vectors, **RAW),
    "StandardScaler": Case("StandardScaler", _clusters, {"withMean": True}, weighs=False, predicts=False),
    "StringIndexer": Case("StringIndexer", _words, **RAW),
    "Summarizer": Case("Summarizer", _vectors, **RAW),
    "TargetEncoder": Case("TargetEncoder", _counted_categories, **RAW),
    "TopicEvaluator": None,
    "UnivariateFeatureSelector": Case(
        "UnivariateFeatureSelector", _labelled, {"featureType": "continuous", "labelType": "continuous"}, **RAW
    ),
    "VarianceThresholdSelector": Case("VarianceThresholdSelector", _vectors, {"varianceThreshold": 0.9}, **RAW),
    "VectorIndexer": Case("VectorIndexer", _vectors, **RAW),
    "Word2Vec": Case("Word2Vec", _texts, {"vectorSize": 3, "maxIter": 2, "numPartitions": 2}, draws=True, **RAW),
}
# Operations that read what a model made: the tests of that model run them.
OF_A_MODEL = {name for name, case in CASES.items() if case is None}
NAMES = sorted(CASES.keys() - OF_A_MODEL)


@pytest.fixture(autouse=True)
def _in_rounds(monkeypatch: Any) -> None:
    """The few rows here grow their trees in rounds, which the laws are about."""
    monkeypatch.setattr(training, "_AT_ONCE", 0)


def train(case: Case, make: Callable[[], list[Block]], *, forgets: bool = False) -> Any:
    """Train as the engine does; where it forgets, each round is another process that has only the sealed state."""
    algorithm = build(case.operation, case.params)
    state_type, statistics_type, model_type = types_of(type(algorithm))
    blocks = make()
    if hasattr(algorithm, "exchange"):
        return fit_shards(algorithm, blocks, SEED, 2, forgets=forgets)
    state = algorithm.initial(reduce(add, map(Summary.of, blocks)), SEED)
    while not algorithm.is_done(state):
        if forgets:
            algorithm, blocks = build(case.operation, case.params), [replace(block, scratch=Scratch()) for block in make()]
        state = from_tree(state_type, to_tree(state))
        total = reduce(add, (algorithm.statistics(state, block) for block in blocks))
        state = algorithm.update(state, from_tree(statistics_type, to_tree(total)))
    return from_tree(model_type, to_tree(algorithm.to_model(state)))


def thirds(rows: int = ROWS) -> list[Any]:
    """Return three cuts in order."""
    return np.array_split(np.arange(rows), 3)


def same(one: Any, other: Any, tolerance: float) -> None:
    """Fail unless two models have the same numbers to a relative tolerance."""
    _same(to_tree(one), to_tree(other), tolerance, type(one).__name__)


def _same(one: Any, other: Any, tolerance: float, where: str) -> None:
    if isinstance(one, dict) and one.keys() == {"dtype", "shape", "data"}:
        assert one["shape"] == other["shape"], where
        left, right = (np.frombuffer(tree["data"], tree["dtype"]).astype(float) for tree in (one, other))
        scale = np.abs(left[np.isfinite(left)]).max(initial=1.0)
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance * scale, err_msg=where)
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for name in one:
            _same(one[name], other[name], tolerance, f"{where}.{name}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for left, right in zip(one, other, strict=True):
            _same(left, right, tolerance, where)
    elif isinstance(one, float):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance, err_msg=where)
    else:
        assert one == other, where


def test_every_operation_is_under_contract() -> None:
    """An operation that enters the registry enters this table."""
    assert CASES.keys() == ALGORITHMS.keys()


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_training_gives_the_same_bytes(name: str) -> None:
    """A training whose every round runs in another process, from the sealed state alone, gives the bytes of an undisturbed one."""
    case = CASES[name]
    rows = case.rows()
    undisturbed, resumed = (train(case, lambda: rows.blocks(thirds()), forgets=forgets) for forgets in (False, True))
    assert encode(to_tree(undisturbed)) == encode(to_tree(resumed))


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_part_changes_nothing(name: str) -> None:
    """A part whose rows a filter dropped adds nothing to the model."""
    case = CASES[name]
    rows = case.rows()
    same(train(case, lambda: rows.blocks([*thirds(), []])), train(case, lambda: rows.blocks(thirds())), case.tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_parts_of_one_row_train(name: str) -> None:
    """Parts of one row each give the model of one part, or where rows are drawn a model of the same form."""
    case = CASES[name]
    rows = case.rows()
    single, whole = train(case, lambda: rows.blocks([[row] for row in range(ROWS)])), train(case, lambda: rows.blocks([np.arange(ROWS)]))
    if case.draws:
        assert to_tree(single).keys() == to_tree(whole).keys()
    else:
        same(single, whole, case.tolerance)


@pytest.mark.parametrize("name", [name for name in NAMES if not CASES[name].draws])
def test_the_order_of_rows_does_not_matter(name: str) -> None:
    """Rows in another order and cut give the same model."""
    case = CASES[name]
    rows = case.rows()
    order = np.random.default_rng(5).permutation(ROWS)
    same(train(case, lambda: rows.blocks(np.array_split(order, 4))), train(case, lambda: rows.blocks(thirds())), case.tolerance)


@pytest.mark.parametrize("name", [name for name in NAMES if CASES[name].weighs and not CASES[name].draws])
def test_a_weight_is_copies_of_the_row(name: str) -> None:
    """A row of weight three gives the model that three rows give, but for what counts rows."""
    case = CASES[name]
    rows = case.rows()
    copies = replace(rows, weight=None).take(np.repeat(np.arange(ROWS), rows.weight.astype(int)))
    weighted = to_tree(train(case, lambda: rows.blocks(thirds())))
    copied = to_tree(train(case, lambda: copies.blocks(thirds(len(copies.features)))))
    compared = [field_name for field_name in weighted if field_name not in _COUNTS]
    for field_name in compared:
        _same(weighted[field_name], copied[field_name], case.tolerance, field_name)
    assert compared


# Estimators and evaluators whose rows have weights: not factorization machines, whose weightCol MLlib does not read, nor edges of a graph.
_ORIGINALS = (classification, clustering, evaluation, regression)
_OTHER_WEIGHTS = {"FMClassifier", "FMRegressor", "PowerIterationClustering"}
WEIGHTED = [
    name for name in NAMES if name not in _OTHER_WEIGHTS and any(hasattr(getattr(module, name, None), "weightCol") for module in _ORIGINALS)
]


def idle_rows(case: Case, value: float) -> Rows:
    """Return the rows with three more of weight 0, all of whose numbers are a value but for labels, where classes are learned."""
    rows, index = case.rows(), np.append(np.arange(ROWS), np.arange(3))
    more = replace(rows, weight=np.ones(ROWS) if rows.weight is None else rows.weight).take(index)
    more.weight[ROWS:] = 0.0
    more.features[ROWS:] = value
    classes = "Class" in case.operation or case.operation in {"LinearSVC", "LogisticRegression", "NaiveBayes"}
    if more.label is not None:
        more.label[ROWS:] = 7.0 if classes and not case.operation.endswith("Evaluator") else more.label[ROWS:] if classes else value
    if more.prediction is not None:
        more.prediction[ROWS:] = more.prediction[ROWS:] if classes else value
    raw = {role: pa.array(np.append(column.to_numpy()[:ROWS], [value] * 3)) for role, column in more.raw.items()}
    return replace(more, raw=raw)


def test_what_mllib_weighs_is_weighed() -> None:
    """The table of what has weights is not empty of the families that it is about."""
    assert {"BisectingKMeans", "DecisionTreeRegressor", "NaiveBayes", "RegressionEvaluator"} <= set(WEIGHTED)


@pytest.mark.parametrize("value", [0.5, 1e6, 1e300, np.finfo(np.float64).max])
@pytest.mark.parametrize("name", WEIGHTED)
def test_rows_of_weight_0_change_nothing(name: str, value: float) -> None:
    """Rows of weight 0 leave the model that the others have, whatever they hold, but for what counts rows, as in MLlib."""
    case = CASES[name]
    if name == "BisectingKMeans":
        # Which of two clusters is divided next follows from how many rows they have.
        case = replace(case, params={"k": 2})
    rows, more = case.rows(), idle_rows(case, value)
    without = to_tree(train(case, lambda: rows.blocks(thirds())))
    beside = to_tree(train(case, lambda: more.blocks([*thirds()[:2], np.arange(2 * ROWS // 3, ROWS + 3)])))
    for field_name in without.keys() - {"rows", "cluster_sizes", "smallest_group"} - _OF_EACH_ROW:
        _same(without[field_name], beside[field_name], case.tolerance, field_name)


# A point of these curves is a score that a row has, of weight 0 too, as in MLlib.
_OF_EACH_ROW = frozenset({"thresholds", "precision", "recall", "false_positive_rate", "roc", "pr"})


@pytest.mark.parametrize("name", [name for name in WEIGHTED if name != "BinaryClassificationEvaluator"])
def test_no_weight_at_all_is_refused(name: str) -> None:
    """Rows that all have weight 0 are as good as none; the areas under the curves of nothing are MLlib's 0.5 and 0."""
    case = CASES[name]
    rows = case.rows()
    nothing = replace(rows, weight=np.zeros(ROWS))
    train(case, lambda: rows.blocks(thirds()))
    with pytest.raises(DataError) as refused:
        train(case, lambda: nothing.blocks(thirds()))
    assert refused.value.error_code == "data.no_rows"


# Fields that say how many rows there were or which way the search went, or divide by MLlib's unbiased variance, for which three rows are
# more than a weight of three.
_COUNTS = frozenset(
    {
        "num_instances",
        "rows",
        "objective_history",
        "total_iterations",
        "r2",
        "explained_variance",
        "degrees_of_freedom",
        "coefficient_standard_errors",
        "t_values",
        "p_values",
    }
)


@pytest.mark.parametrize("name", [name for name in NAMES if CASES[name].refuses_nan])
def test_a_column_without_values_is_refused(name: str) -> None:
    """A column of which every value is NaN is an error with a code, beside the rows that train."""
    case = CASES[name]
    rows = case.rows()
    train(case, lambda: rows.blocks(thirds()))
    broken = rows.features.copy()
    broken[:, 1] = np.nan
    with pytest.raises(DataError) as refused:
        train(case, lambda: replace(rows, features=broken).blocks(thirds()))
    assert refused.value.error_code.startswith("data.")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", [name for name in NAMES if CASES[name].refuses_nan])
def test_one_value_that_is_no_finite_number_is_refused(name: str, value: float) -> None:
    """One row whose feature is NaN or infinite ends the training with a code, whichever algorithm it is."""
    case = CASES[name]
    rows = case.rows()
    broken = rows.features.copy()
    broken[len(broken) // 2, 1] = value
    with pytest.raises(DataError) as refused:
        train(case, lambda: replace(rows, features=broken).blocks(thirds()))
    assert refused.value.error_code.startswith("data.")


@pytest.mark.parametrize("name", [name for name in NAMES if CASES[name].predicts])
def test_outputs_are_finite_and_one_a_row(name: str) -> None:
    """A model's outputs have a row for each row that it reads, no row included."""
    case = CASES[name]
    rows = case.rows()
    model = train(case, lambda: rows.blocks(thirds()))
    for count in (ROWS, 1, 0):
        for stem, values in model.predict(rows.features[:count].astype(np.float64)).items():
            assert len(values) == count, stem
            assert np.isfinite(values).all(), stem


@pytest.mark.parametrize("name", [name for name in NAMES if CASES[name].predicts])
def test_rows_of_another_width_are_refused(name: str) -> None:
    """Rows of another width are refused; of no rows, which may tell no width, there are the outputs that no rows of the right one have."""
    case = CASES[name]
    rows = case.rows()
    model = train(case, lambda: rows.blocks(thirds()))
    for wrong in (rows.features[:, 1:], np.hstack([rows.features, rows.features]), np.zeros((2, 0))):
        with pytest.raises(DataError) as refused:
            model.predict(np.ascontiguousarray(wrong))
        assert refused.value.error_code == "data.width"
    expected = model.predict(rows.features[:0].astype(np.float64))
    for nothing in (np.zeros((0, 0)), csr_array((0, 0))) if getattr(model, "SPARSE", False) else (np.zeros((0, 0)),):
        found = model.predict(nothing)
        assert {stem: (values.shape, values.dtype) for stem, values in found.items()} == {
            stem: (values.shape, values.dtype) for stem, values in expected.items()
        }
