r"""Gradient-boosted trees for classification of two classes and for regression.

Objective: the loss of :math:`F(x) = T_0(x) + \nu \sum_{t > 0} T_t(x)` over the rows, where :math:`T_0` is a regression tree of the
labels, each :math:`T_t` one of the negative gradient of the loss at the trees before it, and :math:`\nu` is ``stepSize``. The losses
are ``logistic``, :math:`2 \log(1 + e^{-2 y F})` with labels -1 and 1, ``squared``, :math:`(y - F)^2`, and ``absolute``.

Equivalence: ``pyspark.ml``'s ``GBTClassifier`` and ``GBTRegressor``: leaves predict the mean of the gradient, the first tree weighs 1;
``subsamplingRate`` draws rows without replacement; with ``validationIndicatorCol`` training ends as soon as the weighted error of the
marked rows falls by less than ``validationTol`` times the error (0.01 where that is smaller), and the trees up to the best error are
kept. Where no row is marked MLlib returns one tree; here that is refused. Everything else is that of
`securemllib.algorithms.decision_tree`.

Cost: per tree and level one pass over one byte a value, of the smaller of two siblings only. Workers keep the bins and the sum of the
trees so far with the block, and compute them anew, to the bit, where they were dropped. Where the bins of all rows are fewer bytes than
the histograms would be, a second round gathers them and no other one follows.

Reveals: with mode="enclave" the number of rounds, and so the number of trees that early stopping allowed and the depth of each, and the
size of sealed messages, which tells how many nodes a level splits; of rows that are gathered nothing of that. With mode="partitioned" the
same: histograms leave as masked integers, because the histogram of one row's gradient is that row's label; rounds that carry rows stay
sealed.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.columns import labels_of, weights_of
from securemllib.algorithms.params import require_choice, require_integer, require_number
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.trees import training
from securemllib.algorithms.trees.binning import Binning
from securemllib.algorithms.trees.growing import Grower, Growth
from securemllib.algorithms.trees.histograms import Bagging, added_values, histograms
from securemllib.algorithms.trees.losses import CLASSIFICATION_LOSSES, REGRESSION_LOSSES, errors, pseudo_residuals
from securemllib.algorithms.trees.model import TreesModel, chosen, require_a_threshold_each, require_thresholds
from securemllib.algorithms.trees.params import TreeParams, features_per_node, lower_case, require_drawing
from securemllib.algorithms.trees.training import Facts, TreeStatistics
from securemllib.errors import DataError, UsageError

__all__ = ["BoostingState", "GBTClassificationModel", "GBTClassifier", "GBTRegressionModel", "GBTRegressor"]

Floats = NDArray[np.float64]

# The phases of a training, in order. A state names its phase by the string.
_CANDIDATES, _GATHER, _GROW, _CHECK, _DONE = "candidates", "gather", "grow", "check", "done"
_BINARY = 2
# MLlib compares with this error where the validation error is smaller.
_SMALLEST_ERROR = 0.01
# No pseudo-residual is larger than so many times the label, of `logistic` and `absolute` in units of the weight.
_RESIDUAL = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BoostingState:
    """What the aggregator knows between rounds.

    Attributes:
        phase: ``candidates`` (splits to choose from are found), ``gather`` (few rows are sent), ``grow``, ``check`` (the last tree's
            validation error) or ``done``.
        seed: The root of the randomness.
        facts: What is known of the rows.
        columns: Features.
        binning: The candidates, after the first round.
        growth: The trees, after the first round; the last one grows.
        validates: Whether some rows are marked for validation.
        best_error: The least validation error so far; infinity before the first.
        best_trees: How many trees have it.
    """

    phase: str
    seed: Seed
    facts: Facts
    columns: int
    binning: Binning | None
    growth: Growth | None
    validates: bool
    best_error: float
    best_trees: int

    def __post_init__(self) -> None:
        if self.growth is not None:
            self.growth.forest.check(self.columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Boosting(TreeParams):
    """What both have."""

    CLASSIFIES: ClassVar[bool]

    impurity: str = "variance"
    loss_type: str = ""
    max_iter: int = 20
    step_size: float = 0.1
    subsampling_rate: float = 1.0
    feature_subset_strategy: str = "all"
    validation_tol: float = 0.01

    def __post_init__(self) -> None:
        TreeParams.__post_init__(self)
        lower_case(self, "impurity", "loss_type")
        require_choice(self, "impurity", ("variance",))
        require_choice(self, "loss_type", CLASSIFICATION_LOSSES if self.CLASSIFIES else REGRESSION_LOSSES)
        require_integer(self, "max_iter", 1)
        require_number(self, "step_size", np.nextafter(0.0, 1.0), 1.0)
        require_number(self, "validation_tol", 0.0)
        require_drawing(self)

    def _facts(self, summary: Summary) -> Facts:
        facts = training.facts_of(summary, classification=self.CLASSIFIES)
        if self.CLASSIFIES and summary.label_weights is not None and summary.label_weights[_BINARY:].any():
            raise DataError(f"labels must be 0 and 1; there are {facts.classes} classes", code="data.label")
        bound = _RESIDUAL * max(facts.target_sum, facts.weight_sum)
        return replace(facts, classes=0, target_sum=bound)

    def initial(self, summary: Summary, seed: Seed) -> BoostingState:
        """Return the state before the first round.

        Raises:
            DataError: There are no rows, or features, weights or labels are not usable.
        """
        return BoostingState(
            phase=_CANDIDATES, seed=seed, facts=self._facts(summary), columns=summary.columns, binning=None, growth=None, validates=False,
            best_error=np.inf, best_trees=0,
        )  # fmt: skip

    def is_done(self, state: BoostingState) -> bool:
        """Return whether the last tree has grown, and was checked."""
        return state.phase == _DONE

    def _grower(self, state: BoostingState) -> tuple[Grower, Growth]:
        if state.binning is None or state.growth is None:
            raise UsageError("the state has no candidates")
        features = features_per_node(self.feature_subset_strategy, columns=state.columns, trees=1, classification=False)
        return training.grower_of(self, state.facts, state.binning, state.seed, impurity=self.impurity, features=features), state.growth

    def statistics(self, state: BoostingState, block: Block) -> TreeStatistics:
        """Return the block's values, its rows, or its histograms and at the root of a tree the validation error of the trees before."""
        if state.phase == _CANDIDATES:
            return training.candidates(block, state.facts, state.seed, self.max_bins, _learns(block))
        grower, growth = self._grower(state)
        if state.phase == _GATHER:
            return training.gathered(block, grower.binning)
        tree = len(growth.forest.roots) - 1
        checks = state.validates and (state.phase == _CHECK or (tree > 0 and bool(growth.pairs[0, 0] == growth.forest.roots[-1])))
        numbers = self._error(grower, growth, block, tree if state.phase == _GROW else tree + 1) if checks else np.zeros(4)
        if state.phase == _CHECK:
            return TreeStatistics(values=None, sums=np.zeros((0, 1)), numbers=numbers)
        sums = histograms(grower, growth, block, added=lambda _: self._added(state, block, tree))
        return TreeStatistics(values=None, sums=sums, numbers=numbers)

    def _added(self, state: BoostingState, block: Block, tree: int) -> Floats:
        """Return what the rows add to a tree's sums; kept with the block."""
        grower, growth = self._grower(state)

        def make() -> Floats:
            learns = _learns(block)
            weights = None if block.weight is None else weights_of(block)
            if learns is not None:
                weights = learns.astype(np.float64) if weights is None else weights * learns
            counts = Bagging(rate=self.subsampling_rate, replaces=False, seed=state.seed).counts(tree, block)
            return added_values(grower.impurity, weights, counts, self._targets(grower, growth, block, tree), block.rows)

        added: Floats = block.scratch.get("trees/added", growth.marks[:tree].tobytes(), make)
        return added

    def _labels(self, block: Block) -> Floats:
        labels = labels_of(block)
        return 2.0 * labels - 1.0 if self.CLASSIFIES else labels

    def _targets(self, grower: Grower, growth: Growth, block: Block, tree: int) -> Floats:
        """Return what a tree learns: the labels, then the pseudo-residuals of the trees before it."""
        labels = self._labels(block)
        return labels if tree == 0 else pseudo_residuals(self.loss_type, labels, self._margins(grower, growth, block, tree))

    def _margins(self, grower: Grower, growth: Growth, block: Block, trees: int) -> Floats:
        """Return the sum of the first trees for each row; kept with the block."""
        forest, bins = growth.forest, grower.binning.bins_of(block)
        values = grower.impurity.predict(forest.stats)

        def make() -> Floats:
            before = block.scratch.held("trees/margins", growth.marks[: trees - 1].tobytes()) if trees > 1 else None
            start, margins = (0, np.zeros(block.rows)) if before is None else (trees - 1, before)
            for tree in range(start, trees):
                held = block.scratch.held(f"trees/rows/{tree}", growth.earlier[tree].tobytes())
                margins = margins + ((1.0 if tree == 0 else self.step_size) * values).take(forest.reached(bins, tree, held))
            return margins

        found: Floats = block.scratch.get("trees/margins", growth.marks[:trees].tobytes(), make)
        return found

    def _error(self, grower: Grower, growth: Growth, block: Block, trees: int) -> Floats:
        marked = block.extras["validation"] != 0
        margins = self._margins(grower, growth, block, trees)
        loss = errors(self.loss_type, self._labels(block)[marked], margins[marked])
        weight = weights_of(block)[marked]
        return np.array([weight @ loss, weight.sum(), 0.0, 0.0])

    def update(self, state: BoostingState, total: TreeStatistics) -> BoostingState:
        """Return the state after a round."""
        if state.phase == _CANDIDATES:
            return self._begin(state, total)
        if state.phase == _GATHER:
            grown: BoostingState = training.grown_at_once(self, replace(state, phase=_GROW), total.rows)
            return grown
        grower, growth = self._grower(state)
        trees = len(growth.forest.roots)
        if total.numbers[1] > 0:
            checked = trees if state.phase == _CHECK else trees - 1
            state = self._checked(state, float(total.numbers[0] / total.numbers[1]), checked)
        if state.phase in (_CHECK, _DONE):
            return replace(state, phase=_DONE)
        growth = grower.grown(growth, total.sums)
        if not growth.is_done:
            return replace(state, growth=growth)
        if trees < self.max_iter:
            return replace(state, growth=growth.planted(1, grower.binning))
        return replace(state, growth=growth, phase=_CHECK if state.validates else _DONE)

    def _begin(self, state: BoostingState, total: TreeStatistics) -> BoostingState:
        facts, binning = training.learned(state.facts, total, self.max_bins)
        others, parts = total.numbers[2:]
        if parts and not others:
            raise DataError("no row of positive weight is marked for validation", code="data.validation")
        features = features_per_node(self.feature_subset_strategy, columns=state.columns, trees=1, classification=False)
        grower = training.grower_of(self, facts, binning, state.seed, impurity=self.impurity, features=features)
        phase = _GATHER if training.gathers(grower, facts.rows + int(others), trees=self.max_iter) else _GROW
        growth = grower.nothing().planted(1, binning)
        return replace(state, phase=phase, facts=facts, binning=binning, growth=growth, validates=bool(parts))

    def _checked(self, state: BoostingState, error: float, trees: int) -> BoostingState:
        """Return the state after a validation error, with MLlib's rule of stopping."""
        if trees == 1:
            return replace(state, best_error=error, best_trees=1)
        if state.best_error - error < self.validation_tol * max(error, _SMALLEST_ERROR):
            return replace(state, phase=_DONE)
        if error < state.best_error:
            return replace(state, best_error=error, best_trees=trees)
        return state

    def _fitted(self, state: BoostingState) -> dict[str, object]:
        grower, growth = self._grower(state)
        forest = grower.finished(growth, prune=True)
        trees = state.best_trees if state.validates else len(forest.roots)
        weights = np.full(trees, self.step_size)
        weights[0] = 1.0
        return {"forest": forest.some_trees(0, trees), "tree_weights": weights, "num_features": state.columns}


def _learns(block: Block) -> NDArray[np.bool_] | None:
    marked = block.extras.get("validation")
    return None if marked is None else marked == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GBTRegressionModel(TreesModel):
    """Trees whose weighted sum is the prediction.

    Attributes:
        tree_weights: ``(t,)``.
        iterations: Whether `predict` also returns what `BoostingEvaluator` sums.
    """

    CHANGEABLE: ClassVar[tuple[str, ...]] = ("leaf_col", "iterations")

    tree_weights: Floats
    iterations: bool = False

    def margins(self, leaves: NDArray[np.int32]) -> Floats:
        """Return the weighted sum of the trees, ``(n,)``."""
        means = self.means()
        total = np.zeros(len(leaves[0]))
        for leaf, weight in zip(leaves, self.tree_weights, strict=True):
            total += weight * means.take(leaf)
        return total

    def sums(self, leaves: NDArray[np.int32]) -> Floats:
        """Return the weighted sums of the first 1, 2, ... t trees, ``(n, t)``."""
        means = self.means()
        return np.cumsum(means.take(leaves).T * self.tree_weights, axis=1)

    def with_leaves(self, outputs: dict[str, Floats], leaves: NDArray[np.int32], *, single: bool) -> dict[str, Floats]:
        """Return the outputs, and the leaves' numbers and the sums of the first trees if they are asked for."""
        if self.iterations:
            outputs["iterations"] = self.sums(leaves)
        return TreesModel.with_leaves(self, outputs, leaves, single=single)

    def predict(self, features: Floats) -> dict[str, Floats]:
        """Return ``prediction`` of shape ``(n,)`` and if asked for ``leaf`` of shape ``(n, trees)``."""
        leaves = self.leaves(features)
        return self.with_leaves({"prediction": self.margins(leaves)}, leaves, single=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GBTClassificationModel(GBTRegressionModel):
    """Trees whose weighted sum is half the log-odds of class 1.

    Attributes:
        thresholds: One threshold a class; the class with the largest probability / threshold is predicted.
    """

    CHANGEABLE: ClassVar[tuple[str, ...]] = ("thresholds", "leaf_col", "iterations")

    thresholds: tuple[float, ...] | None = None

    def predict(self, features: Floats) -> dict[str, Floats]:
        """Return ``rawPrediction`` and ``probability`` of shape ``(n, 2)``, ``prediction`` and if asked for ``leaf``."""
        leaves = self.leaves(features)
        margins = self.margins(leaves)
        raw = np.stack([-margins, margins], axis=1)
        # 1 / (1 + exp(-2 m)), without the overflow.
        chance = 0.5 * (1.0 + np.tanh(raw))
        outputs = {"rawPrediction": raw, "probability": chance, "prediction": chosen(raw, chance, self.thresholds)}
        return self.with_leaves(outputs, leaves, single=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GBTClassifier(_Boosting):
    """Params of ``pyspark.ml.classification.GBTClassifier``."""

    CLASSIFIES: ClassVar[bool] = True

    loss_type: str = "logistic"
    thresholds: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _Boosting.__post_init__(self)
        require_thresholds(self.thresholds)
        require_a_threshold_each(self.thresholds, _BINARY)

    def to_model(self, state: BoostingState) -> GBTClassificationModel:
        """Return the trees."""
        return GBTClassificationModel(**self._fitted(state), thresholds=self.thresholds)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class GBTRegressor(_Boosting):
    """Params of ``pyspark.ml.regression.GBTRegressor``."""

    CLASSIFIES: ClassVar[bool] = False

    loss_type: str = "squared"

    def to_model(self, state: BoostingState) -> GBTRegressionModel:
        """Return the trees."""
        return GBTRegressionModel(**self._fitted(state))  # type: ignore[arg-type]
