r"""Random forests for classification and regression.

Objective: that of a decision tree for each of ``numTrees`` trees, each over its own draw of the rows, each node over its own draw of
features. A forest predicts the class of the largest sum of the trees' class shares, or the mean of the trees' predictions.

Equivalence: ``pyspark.ml``'s ``RandomForestClassifier`` and ``RandomForestRegressor``: rows are drawn with replacement as Poisson
numbers of mean ``subsamplingRate``, or without ``bootstrap`` each with that probability; all forms of ``featureSubsetStrategy``. The
draws are a function of the job's key, the tree and the part, so they are not MLlib's, and a host that reruns a step gets the same ones.
Everything else is that of `securemllib.algorithms.decision_tree`.

Cost: all trees grow a level a round, as far as ``maxMemoryInMB`` allows: per level and tree one pass over the bins of the drawn features.
Where the bins of all rows are fewer bytes than the histograms would be, a second round gathers them and no other one follows.

Reveals: with mode="enclave" the number of rounds, which grows with the depth of the deepest tree, and the size of sealed messages, which
tells how many nodes are split; of rows that are gathered nothing of that. With mode="partitioned" the same: histograms leave only as
masked integers, and rounds that carry rows are sealed for the aggregator.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Seed
from securemllib.algorithms.params import require_bool, require_integer
from securemllib.algorithms.trees.bagged import BaggedTrees, TreesState
from securemllib.algorithms.trees.histograms import Bagging
from securemllib.algorithms.trees.model import TreesModel, chosen, require_a_threshold_each, require_thresholds
from securemllib.algorithms.trees.params import features_per_node, require_drawing

__all__ = ["RandomForestClassificationModel", "RandomForestClassifier", "RandomForestRegressionModel", "RandomForestRegressor"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomForestClassificationModel(TreesModel):
    """Trees that vote by the shares of the classes at their leaves.

    Attributes:
        num_classes: Classes that the labels had.
        thresholds: One threshold a class; the class with the largest probability / threshold is predicted.
    """

    SUMMARY: ClassVar[tuple[str, ...]] = ("num_classes",)
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("thresholds", "leaf_col")

    num_classes: int
    thresholds: tuple[float, ...] | None = None

    def predict(self, features: Floats) -> dict[str, Floats]:
        """Return ``rawPrediction`` (votes) and ``probability`` of shape ``(n, classes)``, ``prediction`` and if asked for ``leaf``."""
        leaves, shares = self.leaves(features), self.shares()
        votes = np.zeros((len(features), shares.shape[1]))
        for leaf in leaves:
            votes += shares.take(leaf, axis=0)
        total = votes.sum(axis=1, keepdims=True)
        probability = np.divide(votes, total, out=np.zeros_like(votes), where=total != 0)
        outputs = {"rawPrediction": votes, "probability": probability, "prediction": chosen(votes, probability, self.thresholds)}
        return self.with_leaves(outputs, leaves, single=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomForestRegressionModel(TreesModel):
    """Trees whose predictions are averaged."""

    def predict(self, features: Floats) -> dict[str, Floats]:
        """Return ``prediction`` of shape ``(n,)`` and if asked for ``leaf`` of shape ``(n, trees)``."""
        leaves, means = self.leaves(features), self.means()
        total = np.zeros(len(features))
        for leaf in leaves:
            total += means.take(leaf)
        return self.with_leaves({"prediction": total / len(leaves)}, leaves, single=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _RandomForest(BaggedTrees):
    """What both forests have."""

    num_trees: int = 20
    bootstrap: bool = True
    subsampling_rate: float = 1.0
    feature_subset_strategy: str = "auto"

    def __post_init__(self) -> None:
        BaggedTrees.__post_init__(self)
        require_drawing(self)
        require_integer(self, "num_trees", 1)
        require_bool(self, "bootstrap")

    def _trees(self) -> int:
        return self.num_trees

    def _features(self, columns: int) -> int:
        strategy = self.feature_subset_strategy
        return features_per_node(strategy, columns=columns, trees=self.num_trees, classification=self.CLASSIFIES)

    def _bagging(self, seed: Seed) -> Bagging:
        return Bagging(rate=self.subsampling_rate, replaces=self.bootstrap, seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomForestClassifier(_RandomForest):
    """Params of ``pyspark.ml.classification.RandomForestClassifier``."""

    CLASSIFIES: ClassVar[bool] = True

    impurity: str = "gini"
    prune_tree: bool = True
    thresholds: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _RandomForest.__post_init__(self)
        require_bool(self, "prune_tree")
        require_thresholds(self.thresholds)

    def _check_classes(self, classes: int) -> None:
        require_a_threshold_each(self.thresholds, classes)

    def to_model(self, state: TreesState) -> RandomForestClassificationModel:
        """Return the forest."""
        forest = self._forest(state, prune=self.prune_tree)
        classes = forest.stats.shape[1]
        return RandomForestClassificationModel(forest=forest, num_features=state.columns, num_classes=classes, thresholds=self.thresholds)


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomForestRegressor(_RandomForest):
    """Params of ``pyspark.ml.regression.RandomForestRegressor``."""

    CLASSIFIES: ClassVar[bool] = False

    impurity: str = "variance"

    def to_model(self, state: TreesState) -> RandomForestRegressionModel:
        """Return the forest."""
        return RandomForestRegressionModel(forest=self._forest(state, prune=True), num_features=state.columns)
