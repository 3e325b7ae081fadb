"""Training of independent trees: one alone, or a forest whose trees all grow at once."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.columns import labels_of, weights_of
from securemllib.algorithms.params import require_choice
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.trees import training
from securemllib.algorithms.trees.binning import Binning
from securemllib.algorithms.trees.forest import Forest
from securemllib.algorithms.trees.growing import Grower, Growth
from securemllib.algorithms.trees.histograms import Bagging, added_values, histograms
from securemllib.algorithms.trees.impurity import CLASSIFICATION, REGRESSION
from securemllib.algorithms.trees.params import TreeParams, lower_case
from securemllib.algorithms.trees.training import Facts, TreeStatistics
from securemllib.errors import UsageError

__all__ = ["BaggedTrees", "TreesState"]

Floats = NDArray[np.float64]

# The phases of a training, in order. A state names its phase by the string.
_CANDIDATES, _GATHER, _GROW, _LEAVES, _DONE = "candidates", "gather", "grow", "leaves", "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class TreesState:
    """What the aggregator knows between rounds.

    Attributes:
        phase: ``candidates`` (splits to choose from are found), ``gather`` (few rows are sent), ``grow``, ``leaves`` (the leaves'
            variances are measured) or ``done``.
        seed: The root of the randomness.
        facts: What is known of the rows.
        columns: Features.
        binning: The candidates, after the first round.
        growth: The trees, after the first round.
        squares: ``(m,)`` each leaf's sum of squared deviations, after the last round; empty where nobody asks for it.
    """

    phase: str
    seed: Seed
    facts: Facts
    columns: int
    binning: Binning | None
    growth: Growth | None
    squares: Floats

    def __post_init__(self) -> None:
        if self.growth is not None:
            self.growth.forest.check(self.columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaggedTrees(TreeParams):
    """What an estimator of independent trees tells this training."""

    CLASSIFIES: ClassVar[bool]
    MEASURES_LEAVES: ClassVar[bool] = False

    impurity: str = ""

    def __post_init__(self) -> None:
        TreeParams.__post_init__(self)
        lower_case(self, "impurity")
        require_choice(self, "impurity", CLASSIFICATION if self.CLASSIFIES else REGRESSION)

    def _check_classes(self, classes: int) -> None:
        """Raise where a Param does not fit the number of classes."""

    def _trees(self) -> int:
        return 1

    def _features(self, columns: int) -> int:
        return columns

    def _bagging(self, seed: Seed) -> Bagging:
        return Bagging(rate=1.0, replaces=False, seed=seed)

    def initial(self, summary: Summary, seed: Seed) -> TreesState:
        """Return the state before the first round.

        Raises:
            DataError: There are no rows, or features, weights or labels are not usable.
            UsageError: There are not as many thresholds as classes.
        """
        facts = training.facts_of(summary, classification=self.CLASSIFIES)
        self._check_classes(facts.classes)
        return TreesState(
            phase=_CANDIDATES, seed=seed, facts=facts, columns=summary.columns, binning=None, growth=None, squares=np.zeros(0)
        )

    def is_done(self, state: TreesState) -> bool:
        """Return whether all trees have grown."""
        return state.phase == _DONE

    def _grower(self, state: TreesState) -> tuple[Grower, Growth]:
        if state.binning is None or state.growth is None:
            raise UsageError("the state has no candidates")
        features = self._features(state.columns)
        return training.grower_of(self, state.facts, state.binning, state.seed, impurity=self.impurity, features=features), state.growth

    def statistics(self, state: TreesState, block: Block) -> TreeStatistics:
        """Return the block's values, its rows, histograms, or squared deviations by leaf."""
        if state.phase == _CANDIDATES:
            return training.candidates(block, state.facts, state.seed, self.max_bins)
        grower, growth = self._grower(state)
        if state.phase == _GATHER:
            return training.gathered(block, grower.binning)
        labels = labels_of(block)
        weights = None if state.facts.unit_weights and block.weight is None else weights_of(block)
        if state.phase == _LEAVES:
            sums = self._squares(grower, growth, block, labels, weights)
        else:
            bagging, targets = self._bagging(state.seed), None if self.CLASSIFIES else labels

            def added(tree: int) -> Floats:
                return added_values(grower.impurity, weights, bagging.counts(tree, block), targets, block.rows)

            sums = histograms(grower, growth, block, added=added, classes=labels.astype(np.int32) if self.CLASSIFIES else None)
        return TreeStatistics(values=None, sums=sums, numbers=np.zeros(4))

    def _squares(self, grower: Grower, growth: Growth, block: Block, labels: Floats, weights: Floats | None) -> Floats:
        forest = grower.finished(growth, prune=True)
        leaf = forest.reached(grower.binning.bins_of(block), 0)
        squares = (labels - grower.impurity.predict(forest.stats)[leaf]) ** 2
        sums = np.bincount(leaf, weights=squares if weights is None else weights * squares, minlength=forest.nodes)
        return sums[:, None].astype(np.float64)

    def update(self, state: TreesState, total: TreeStatistics) -> TreesState:
        """Return the state after a round."""
        if state.phase == _LEAVES:
            return replace(state, phase=_DONE, squares=total.sums[:, 0])
        if state.phase == _CANDIDATES:
            facts, binning = training.learned(state.facts, total, self.max_bins)
            grower = training.grower_of(self, facts, binning, state.seed, impurity=self.impurity, features=self._features(state.columns))
            phase = _GATHER if training.gathers(grower, facts.rows, trees=self._trees()) else _GROW
            growth = grower.nothing().planted(self._trees(), binning)
            return replace(state, phase=phase, facts=facts, binning=binning, growth=growth)
        if state.phase == _GATHER:
            grown: TreesState = training.grown_at_once(self, replace(state, phase=_GROW), total.rows)
            return grown
        grower, growth = self._grower(state)
        growth = grower.grown(growth, total.sums)
        last = _LEAVES if self.MEASURES_LEAVES else _DONE
        return replace(state, growth=growth, phase=last if growth.is_done else _GROW)

    def _forest(self, state: TreesState, *, prune: bool) -> Forest:
        grower, growth = self._grower(state)
        return grower.finished(growth, prune=prune)
