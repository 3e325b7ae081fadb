"""Do trees keep to their bounds, choose among categories as MLlib does, and refuse what it refuses?"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Scratch, Seed
from securemllib.algorithms.codec import from_tree, to_tree
from securemllib.algorithms.decision_tree import DecisionTreeRegressionModel
from securemllib.algorithms.gradient_boosting import BoostingState
from securemllib.algorithms.kernels import trees as kernels
from securemllib.algorithms.registry import build
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.trees import histograms, training
from securemllib.algorithms.trees.bagged import TreesState
from securemllib.algorithms.trees.candidates import ColumnValues
from securemllib.algorithms.trees.forest import Forest, Splits
from securemllib.algorithms.trees.growing import Growth
from securemllib.algorithms.trees.histograms import Bagging
from securemllib.algorithms.trees.params import features_per_node
from securemllib.algorithms.trees.training import Facts
from securemllib.errors import DataError, FormatError, UsageError
from securemllib.ml import plain_trees
from securemllib.wire.encoding import encode

Floats = NDArray[np.float64]
SEED = Seed(bytes(32))


@pytest.fixture(autouse=True)
def _in_rounds(monkeypatch: Any) -> None:
    """Few rows grow their trees in rounds, too, as many rows do."""
    monkeypatch.setattr(training, "_AT_ONCE", 0)


def _nominal(blocks: list[Block], arity: list[int]) -> list[Block]:
    return [replace(block, arity=np.array(arity), scratch=Scratch()) for block in blocks]


def _categories(classes: int) -> tuple[Floats, Floats]:
    """Return a category of 4, one of 12 and a number, and labels that depend on sets of categories."""
    generator = np.random.default_rng(classes)
    rows = 600
    features = np.column_stack(
        [generator.integers(0, 4, rows), generator.integers(0, 12, rows), generator.integers(0, 5, rows) / 2]
    ).astype(float)
    signal = np.isin(features[:, 0], [0, 2]) + 2 * np.isin(features[:, 1], [1, 4, 5, 9]) + (features[:, 2] > 1)
    label = (signal % classes).astype(float)
    noisy = generator.random(rows) < 0.1
    label[noisy] = generator.integers(0, classes, noisy.sum())
    return features, label


def _theirs(name: str, params: dict[str, Any], features: Floats, label: Floats, spark: Any) -> Any:
    """Return MLlib's model of rows whose first two features it knows as categories."""
    from pyspark.ml import classification, regression
    from pyspark.ml.feature import VectorAssembler
    from pyspark.sql import functions

    rows = [(*map(float, row), float(target)) for row, target in zip(features, label, strict=True)]
    table = spark.createDataFrame(rows, ["a", "b", "c", "label"]).coalesce(2)
    for column, arity in (("a", 4), ("b", 12)):
        nominal = {"ml_attr": {"type": "nominal", "vals": [str(value) for value in range(arity)]}}
        table = table.withColumn(column, functions.col(column).alias(column, metadata=nominal))
    table = VectorAssembler(inputCols=["a", "b", "c"], outputCol="features").transform(table)
    kind = getattr(classification if name.endswith("Classifier") else regression, name)
    return kind(**params).fit(table)


@pytest.mark.parametrize(("name", "classes"), [("DecisionTreeClassifier", 2), ("DecisionTreeClassifier", 3), ("DecisionTreeRegressor", 4)])
def test_categories_are_split_as_mllib_splits_them(name: str, classes: int, spark: Any, fit: Any, cut: Any) -> None:
    """Few categories of many classes are split by subsets, others in the order of their centroids: the text is MLlib's."""
    features, label = _categories(classes)
    if name.endswith("Regressor"):
        label = label + np.round(np.random.default_rng(0).normal(size=len(label)) * 64) / 64
    params = {"maxDepth": 4, "maxBins": 16}
    theirs = _theirs(name, params, features, label, spark)
    model = fit(build(name, params), _nominal(cut(features, label), [4, 12, 0]))
    kind = name.replace("Classifier", "Classification").replace("Regressor", "Regression")
    plain = getattr(plain_trees, f"Plain{kind}Model")(model, theirs.uid)
    assert plain.toDebugString == theirs.toDebugString
    assert "in {" in plain.toDebugString
    from pyspark.ml.linalg import Vectors

    # Values that are no category go the way that MLlib sends them.
    for row in ([7.0, 20.0, 1.0], [0.5, 3.0, 0.0], [-1.0, 11.0, 2.0], [2.0, 4.5, 2.0]):
        assert plain.predict(Vectors.dense(row)) == pytest.approx(theirs.predict(Vectors.dense(row)))


def test_more_categories_than_bins_are_refused(fit: Any, cut: Any) -> None:
    """Twelve categories need twelve bins and twelve rows, and a value must be one of its feature's categories."""
    features, label = _categories(2)
    fit(build("DecisionTreeClassifier", {"maxBins": 12}), _nominal(cut(features, label), [4, 12, 0]))
    with pytest.raises(UsageError, match="max_bins"):
        fit(build("DecisionTreeClassifier", {"maxBins": 11}), _nominal(cut(features, label), [4, 12, 0]))
    with pytest.raises(UsageError, match="max_bins"):
        fit(build("DecisionTreeClassifier", {}), _nominal(cut(features[:11], label[:11]), [4, 12, 0]))
    with pytest.raises(DataError, match="categories"):
        fit(build("DecisionTreeClassifier", {}), _nominal(cut(features, label), [4, 11, 0]))


def test_a_deep_tree_grows_within_its_bound(fit: Any, cut: Any) -> None:
    """A tree of depth 30 learns rows that only 30 splits tell apart, with one node a round too, and is the same tree."""
    features = np.arange(31.0)[:, None]
    label = (np.arange(31) % 2).astype(float)
    weight = 3.0 ** -np.arange(31)
    blocks = cut(features, label, weight)
    trees = [fit(build("DecisionTreeClassifier", {"maxDepth": 30, "maxMemoryInMB": size}), blocks) for size in (0, 256)]
    assert trees[0].forest.depth.max() > 20
    assert (trees[0].predict(features)["prediction"] == label).all()
    for field in ("left", "feature", "threshold", "stats"):
        assert (getattr(trees[0].forest, field) == getattr(trees[1].forest, field)).all()


def test_a_round_stays_within_its_memory(cut: Any) -> None:
    """No round's histograms take more than maxMemoryInMB, and more rounds with less memory grow the same forest."""
    generator = np.random.default_rng(1)
    features = generator.normal(size=(400, 120))
    label = (features[:, 0] + features[:, 1] > 0).astype(float)
    forests = []
    for memory in (1, 64):
        algorithm = build("RandomForestClassifier", {"maxMemoryInMB": memory, "featureSubsetStrategy": "all", "numTrees": 24})
        blocks = [replace(block, scratch=Scratch()) for block in cut(features, label)]
        state = algorithm.initial(sum_of([Summary.of(block) for block in blocks]), SEED)
        rounds = 0
        while not algorithm.is_done(state):
            total = sum_of([algorithm.statistics(state, block) for block in blocks])
            assert total.sums.nbytes <= memory << 20
            state, rounds = algorithm.update(state, total), rounds + 1
            if state.growth is not None:
                assert state.growth.parents.nbytes <= memory << 20
        forests.append((rounds, algorithm.to_model(state).predict(features)["rawPrediction"]))
    assert forests[0][0] > forests[1][0]
    assert (forests[0][1] == forests[1][1]).all()


def sum_of(parts: list[Any]) -> Any:
    """Return the sum of some statistics."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("auto", 4), ("all", 10), ("sqrt", 4), ("log2", 4), ("onethird", 4), ("3", 3), ("30", 10), ("0.25", 3), ("1.0", 10)],
)
def test_every_form_of_the_feature_subset_is_known(strategy: str, expected: int) -> None:
    """Each strategy of MLlib draws its number of ten features, and what is none is refused."""
    assert features_per_node(strategy, columns=10, trees=2, classification=True) == expected
    for wrong in ("0", "1.5", "-1", "some", "0.0", "nan"):
        with pytest.raises(UsageError):
            features_per_node(wrong, columns=10, trees=2, classification=True)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("DecisionTreeClassifier", {"maxDepth": 31}),
        ("DecisionTreeClassifier", {"maxBins": 1}),
        ("DecisionTreeClassifier", {"impurity": "variance"}),
        ("DecisionTreeRegressor", {"impurity": "gini"}),
        ("DecisionTreeClassifier", {"minInstancesPerNode": 0}),
        ("DecisionTreeClassifier", {"minWeightFractionPerNode": 0.5}),
        ("DecisionTreeClassifier", {"minInfoGain": -1.0}),
        ("DecisionTreeClassifier", {"maxMemoryInMB": -1}),
        ("DecisionTreeClassifier", {"thresholds": [0.0, 0.0]}),
        ("RandomForestClassifier", {"numTrees": 0}),
        ("RandomForestClassifier", {"subsamplingRate": 0.0}),
        ("RandomForestRegressor", {"featureSubsetStrategy": "1.5"}),
        ("RandomForestRegressor", {"bootstrap": 1}),
        ("GBTClassifier", {"lossType": "squared"}),
        ("GBTClassifier", {"maxIter": 0}),
        ("GBTRegressor", {"stepSize": 0.0}),
        ("GBTRegressor", {"validationTol": -1.0}),
    ],
)
def test_params_out_of_their_domain_are_refused(name: str, params: dict[str, Any]) -> None:
    """What MLlib refuses is refused; defaults, and names in capitals, are accepted."""
    build(name, {})
    build("DecisionTreeClassifier", {"impurity": "GINI", "maxDepth": 30, "maxMemoryInMB": 0, "thresholds": [0.0, 1.0]})
    with pytest.raises(UsageError):
        build(name, params)


def test_labels_and_marks_must_fit(fit: Any, cut: Any) -> None:
    """Boosting takes classes 0 and 1 only, thresholds are one a class, and a validation column marks some row, not all."""
    features, label = _categories(3)
    blocks = cut(features, (label > 0).astype(float))
    marked = [replace(block, extras={"validation": (np.arange(block.rows) % 4 == 0).astype(float)}) for block in blocks]
    fit(build("GBTClassifier", {"maxIter": 2}), marked)
    for wrong in (0.0, 1.0):
        with pytest.raises(DataError):
            fit(
                build("GBTClassifier", {"maxIter": 2}),
                [replace(block, extras={"validation": np.full(block.rows, wrong)}) for block in blocks],
            )
    with pytest.raises(DataError, match=r"data\.label"):
        fit(build("GBTClassifier", {}), cut(features, label))
    fit(build("DecisionTreeClassifier", {"thresholds": [0.2, 0.3, 0.5]}), cut(features, label))
    with pytest.raises(UsageError, match="thresholds"):
        fit(build("DecisionTreeClassifier", {"thresholds": [0.5, 0.5]}), cut(features, label))


def test_few_values_are_found_in_every_part(fit: Any, cut: Any) -> None:
    """Values that few of many rows have are candidates all the same, from parts that are centred differently, in float32."""
    generator = np.random.default_rng(2)
    features = generator.choice([0.1, 0.2, 0.7], (30_000, 1))
    features[::10_000] = 1e3 + 0.3
    label = (features[:, 0] > 1e3).astype(float)
    model = fit(build("DecisionTreeClassifier", {"maxDepth": 1}), cut(features, label, parts=5, dtype=np.float32))
    assert model.forest.threshold[0] == pytest.approx(500.5, abs=1e-3)
    assert (model.predict(features)["prediction"] == label).all()


def test_leaves_are_numbered_from_left_to_right(fit: Any, cut: Any) -> None:
    """Where the leaf column is asked for, leaves are numbered in the order of a feature that alone was split."""
    features = np.linspace(0, 1, 200)[:, None]
    label = np.sin(9 * features[:, 0])
    model = fit(build("GBTRegressor", {"maxIter": 3, "maxDepth": 3}), cut(features, label))
    assert "leaf" not in model.predict(features)
    leaves = replace(model, leaf_col="leaf").predict(features)["leaf"]
    assert leaves.shape == (200, 3)
    assert (np.diff(leaves, axis=0) >= 0).all()
    assert leaves.max(axis=0).min() >= 4


@pytest.mark.parametrize("rows", [0, 1, 13])
def test_the_compiled_way_to_leaves_is_its_twin(rows: int, fit: Any, cut: Any, monkeypatch: Any) -> None:
    """Rows reach the same leaves of all trees whether compiled loops or numpy follow the splits, NaN and infinity included."""
    generator = np.random.default_rng(3)
    features = generator.normal(size=(200, 3))
    model = fit(build("GBTRegressor", {"maxIter": 4, "maxDepth": 4}), cut(features, features[:, 0] * features[:, 1]))
    scored = features[:rows].copy()
    scored[:1] = np.nan, np.inf, -np.inf
    compiled = model.leaves(scored)
    monkeypatch.setattr(kernels, "_FIND_LEAVES", None)
    assert compiled.shape == (4, rows)
    assert (compiled == model.leaves(scored)).all()


@pytest.mark.parametrize("params", [{}, {"minInstancesPerNode": 9, "minInfoGain": 0.01, "minWeightFractionPerNode": 0.04}])
@pytest.mark.parametrize("weighs", [False, True])
def test_the_compiled_search_is_its_twin(params: dict[str, Any], weighs: bool, fit: Any, cut: Any, monkeypatch: Any) -> None:
    """Trees of a target are the same to the bit whether the compiled search or numpy finds their splits."""
    generator = np.random.default_rng(8)
    features = np.column_stack([generator.normal(size=(300, 4)), generator.integers(0, 3, 300)])
    label = features[:, 0] * features[:, 4] + generator.normal(size=300)
    weight = generator.random(300) if weighs else None
    algorithm = build("GBTRegressor", {"maxIter": 3, "maxBins": 20, **params})
    compiled = fit(algorithm, cut(features, label, weight))
    monkeypatch.setattr(kernels, "scan_targets", lambda *_, **__: None)
    twin = fit(algorithm, cut(features, label, weight))
    assert encode(to_tree(compiled)) == encode(to_tree(twin))
    assert compiled.forest.nodes > 9


@pytest.mark.parametrize(
    ("name", "params", "weighted", "marked"),
    [
        ("DecisionTreeRegressor", {}, False, False),
        ("DecisionTreeClassifier", {}, True, False),
        ("RandomForestClassifier", {"bootstrap": False, "featureSubsetStrategy": "all"}, False, False),
        ("GBTClassifier", {}, False, False),
        ("GBTClassifier", {"validationTol": 0.0}, True, True),
    ],
)
def test_few_rows_grow_the_same_trees_once_they_are_gathered(
    name: str, params: dict[str, Any], weighted: bool, marked: bool, fit: Any, cut: Any, monkeypatch: Any
) -> None:
    """Training ends with the round that gathers rows, whatever their order, and its trees are those of many rounds but for rounding."""
    generator = np.random.default_rng(4)
    features = generator.normal(size=(300, 5))
    label = (features[:, 0] * features[:, 1] > 0).astype(float)
    blocks = cut(features, label, generator.integers(0, 3, 300).astype(float) if weighted else None)
    if marked:
        blocks = [replace(block, extras={"validation": (np.arange(block.rows) % 3 == 0).astype(float)}) for block in blocks]
    algorithm = build(name, params)
    first = algorithm.initial(sum_of([Summary.of(block) for block in blocks]), SEED)
    values = sum_of([algorithm.statistics(first, block) for block in blocks])
    assert algorithm.update(first, values).phase == "grow"
    rounds = fit(algorithm, [replace(block, scratch=Scratch()) for block in blocks]).forest
    monkeypatch.setattr(training, "_AT_ONCE", 1 << 30)
    second = algorithm.update(first, values)
    assert not algorithm.is_additive(second)
    forests = []
    for order in (blocks, blocks[::-1]):
        last = algorithm.update(second, sum_of([algorithm.statistics(second, block) for block in order]))
        assert algorithm.is_done(last)
        forests.append(algorithm.to_model(last).forest)
    assert encode(to_tree(forests[0])) == encode(to_tree(forests[1]))
    for field in ("left", "feature", "bin", "threshold"):
        assert (getattr(forests[0], field) == getattr(rounds, field)).all()
    np.testing.assert_allclose(forests[0].stats, rounds.stats, rtol=1e-9, atol=1e-9)


def test_a_forest_of_gathered_rows_is_that_of_its_trees_one_after_the_other(fit: Any, cut: Any, monkeypatch: Any) -> None:
    """Trees that grow at once, or in the reverse order, are to the byte those that grow one after the other; so are their draws."""

    class Backwards:
        @staticmethod
        def map(add: Callable[[int], None], trees: list[int]) -> Iterator[None]:
            used.append(len(trees))
            return map(add, reversed(trees))

    generator, used = np.random.default_rng(7), list[int]()
    features = generator.normal(size=(2_000, 9))
    blocks = cut(features, (features[:, 0] * features[:, 1] > features[:, 2]).astype(float), None)
    monkeypatch.setattr(training, "_AT_ONCE", 1 << 30)
    algorithm = build("RandomForestClassifier", {"numTrees": 8})
    forests = []
    for pool in (histograms._TREES_AT_ONCE, Backwards()):
        monkeypatch.setattr(histograms, "_TREES_AT_ONCE", pool)
        forests.append(encode(to_tree(fit(algorithm, [replace(block, scratch=Scratch()) for block in blocks]).forest)))
    assert used == [8] * 5
    assert forests[0] == forests[1]


@pytest.mark.parametrize(("rows", "name", "params", "gathers"), [
    (100_000, "GBTClassifier", {}, True),
    (200_000, "GBTClassifier", {"maxIter": 1}, False),
    (10_000_000, "GBTClassifier", {}, False),
    (100_000, "RandomForestClassifier", {}, True),
    (1_000_000, "RandomForestClassifier", {}, False),
    (1_000, "DecisionTreeClassifier", {"maxBins": 300}, False),
])  # fmt: skip
def test_rows_are_gathered_where_histograms_are_more(
    rows: int, name: str, params: dict[str, Any], gathers: bool, cut: Any, monkeypatch: Any
) -> None:
    """The bins of few rows are gathered, those of many are not, nor those of more than a byte each, whatever the depth."""
    monkeypatch.setattr(training, "_AT_ONCE", 1 << 30)
    features = np.random.default_rng(0).normal(size=(600, 50))
    block = cut(features, (features[:, 0] > 0).astype(float), parts=1)[0]
    algorithm = build(name, params)
    state = algorithm.initial(Summary.of(block), SEED)
    values = algorithm.statistics(state, block)
    numbers = values.numbers * [rows / values.numbers[0], rows / values.numbers[1], 1.0, 1.0]
    assert algorithm.update(state, replace(values, numbers=numbers)).phase == ("gather" if gathers else "grow")


def test_blocks_send_the_sample_and_little_else() -> None:
    """Of many rows each block sends about its share of the sample, and together they send the rows of the smallest keys of all."""
    generator = np.random.default_rng(9)
    blocks = [Block(ordinal=part, features=generator.normal(size=(3000, 1)), offset=np.zeros(1)) for part in range(6)]

    def sampled(rows: int) -> list[ColumnValues]:
        draws = [SEED.generator("candidates", block.ordinal) for block in blocks]
        return [
            ColumnValues.of(block, None, cap=32, quota=1000, rows=rows, generator=drawn) for block, drawn in zip(blocks, draws, strict=True)
        ]

    parts, everything = sampled(18_000), sum_of(sampled(1000))
    assert max(len(part.keys) for part in parts) < 300
    assert len(everything.keys) == 1000
    assert encode(to_tree(sum_of(parts))) == encode(to_tree(everything))


def test_rows_are_drawn_as_poisson_numbers(cut: Any) -> None:
    """A forest reads rows a Poisson number of times, with the mean that was asked for, and the same ones again."""
    block = cut(np.zeros((200_000, 1)), np.zeros(200_000), parts=1)[0]
    for rate in (1.0, 0.3):
        counts = Bagging(rate=rate, replaces=True, seed=SEED).counts(2, replace(block, scratch=Scratch()))
        assert counts is not None
        expected = [np.exp(-rate) * rate**number / np.prod(np.arange(1, number + 1)) for number in range(5)]
        # Five standard deviations of a share of 200,000 rows.
        np.testing.assert_allclose(np.bincount(counts)[:5] / block.rows, expected, atol=5 * 0.5 / np.sqrt(block.rows))
        assert counts.max() < 12
        assert (counts == Bagging(rate=rate, replaces=True, seed=SEED).counts(2, replace(block, scratch=Scratch()))).all()


def test_the_loss_after_each_tree_is_the_weighted_mean(fit: Any, cut: Any) -> None:
    """The sums of the first trees end in the model's own, their losses are the formula's, and labels of a third class are refused."""
    generator = np.random.default_rng(6)
    features, weight = generator.normal(size=(200, 4)), generator.random(200)
    label = (features[:, 0] > 0).astype(float)
    outputs = replace(fit(build("GBTClassifier", {"maxIter": 4}), cut(features, label)), iterations=True).predict(features)
    sums = outputs["iterations"]
    np.testing.assert_allclose(sums[:, -1], outputs["rawPrediction"][:, 1])
    evaluator = build("BoostingEvaluator", {"lossType": "logistic"})
    expected = weight @ (2.0 * np.log1p(np.exp(-2.0 * (2.0 * label - 1.0)[:, None] * sums))) / weight.sum()
    np.testing.assert_allclose(fit(evaluator, cut(sums, label, weight)).value, expected)
    with pytest.raises(DataError, match="0 and 1"):
        fit(evaluator, cut(sums, label + 1.0, weight))


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("feature", [1, -1, -1]),
        ("feature", [-2, -1, -1]),
        ("left", [0, -1, -1]),
        ("left", [2, -1, -1]),
        ("left", [1, 0, -1]),
        ("subset", [0, -1, -1]),
        ("subset", [-2, -1, -1]),
        ("roots", [3]),
        ("roots", [-1]),
        ("bin", [0]),
        ("gain", [0.0, 0.0]),
        ("stats", [[1.0, 0.0]]),
    ],
)
def test_a_tree_that_leads_elsewhere_is_none(field: str, values: Any) -> None:
    """Compiled loops follow a tree's numbers, so a model or a state with one that leads out of it, or around, does not come to be."""
    grown = Forest.empty(channels=2, categories=0).planted(1)
    one = np.zeros(1)
    split = Splits(
        gain=one + 1,
        feature=np.zeros(1, dtype=np.int32),
        bin=np.zeros(1, dtype=np.int32),
        threshold=one,
        subset=np.zeros((1, 0), dtype=np.uint8),
        is_subset=np.zeros(1, dtype=bool),
        left=np.ones((1, 2)),
        right=np.ones((1, 2)),
    )
    forest = grown.split(np.zeros(1, dtype=np.int64), split)
    model = DecisionTreeRegressionModel(forest=forest, num_features=1, leaf_variances=np.zeros(3))
    assert from_tree(DecisionTreeRegressionModel, to_tree(model)).num_features == 1
    wrong = replace(forest, **{field: np.array(values, dtype=getattr(forest, field).dtype)})
    with pytest.raises(FormatError):
        from_tree(DecisionTreeRegressionModel, {**to_tree(model), "forest": to_tree(wrong)})
    fields = {"phase": "grow", "seed": SEED, "facts": Facts(rows=2, weight_sum=2.0, classes=0, unit_weights=True, target_sum=2.0)}
    none = {"pairs": np.zeros((0, 2), int), "wanted": np.zeros((0, 2), bool), "kept": np.zeros(0, int), "parents": np.zeros((0, 0, 2))}
    marks = {"marks": np.zeros((1, 32), np.uint8), "earlier": np.zeros((1, 32), np.uint8)}
    for state in (
        TreesState(**fields, columns=1, binning=None, growth=Growth(step=0, forest=forest, **none, **marks), squares=one),
        BoostingState(
            **fields,
            columns=1,
            binning=None,
            growth=Growth(step=0, forest=forest, **none, **marks),
            validates=False,
            best_error=0.0,
            best_trees=0,
        ),
    ):
        tree = to_tree(state)
        assert from_tree(type(state), tree).columns == 1
        with pytest.raises(FormatError):
            from_tree(type(state), {**tree, "growth": {**tree["growth"], "forest": to_tree(wrong)}})
