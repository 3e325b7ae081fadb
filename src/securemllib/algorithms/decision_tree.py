r"""Decision trees for classification and regression.

Objective: greedily, at each node, the split of one feature that lowers the impurity of the rows most:

.. math:: I(S) - \frac{W_L}{W} I(L) - \frac{W_R}{W} I(R)

with the Gini impurity :math:`1 - \sum_c p_c^2`, the entropy :math:`-\sum_c p_c \log_2 p_c` or the variance as :math:`I`.

Equivalence: ``pyspark.ml``'s ``DecisionTreeClassifier`` and ``DecisionTreeRegressor``. Candidates are the midpoints between values of a
column of at most ``maxBins`` distinct values, whatever the number of rows, and weighted quantiles of a sample of other columns; the sample
has MLlib's size but not its rows, because the host must not choose them. Nominal features are split by every subset of their categories
(more than two classes, few categories) or in the order of their centroids; ``minInstancesPerNode`` counts rows,
``minWeightFractionPerNode`` weighs them; sibling leaves of one prediction are merged. Rows of weight 0 count for nothing, and where there
are no others there is an error; MLlib lets them count as instances and as values to split between, and makes of nothing else a tree that
predicts 0. Gains of variances are computed as the variance between the sides, which keeps digits that MLlib's difference of squares loses,
and equal gains go to the first candidate where rounding decides in MLlib. The variance of a leaf is measured around its mean in one more
pass.

Cost: two passes over the values (candidates, bins), then per level one pass over one byte a value for the smaller of two siblings only;
the larger one's histogram is a difference. Statistics of a round take at most ``maxMemoryInMB``. Where the bins of all rows are fewer
bytes than the histograms would be, a second round gathers them and no other one follows.

Reveals: with mode="enclave" the number of rounds, which grows with the depth of the tree, and the size of sealed messages, which tells how
many nodes a level splits. With mode="partitioned" the same: a histogram of few rows nearly is those rows, so histograms leave only as
masked integers, and rounds that carry rows are sealed for the aggregator.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.params import require_bool
from securemllib.algorithms.trees.bagged import BaggedTrees, TreesState
from securemllib.algorithms.trees.model import TreesModel, chosen, require_a_threshold_each, require_thresholds

__all__ = ["DecisionTreeClassificationModel", "DecisionTreeClassifier", "DecisionTreeRegressionModel", "DecisionTreeRegressor"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionTreeClassificationModel(TreesModel):
    """A tree whose leaves hold the weights of the classes.

    Attributes:
        thresholds: One threshold a class; the class with the largest probability / threshold is predicted.
    """

    CHANGEABLE: ClassVar[tuple[str, ...]] = ("thresholds", "leaf_col")

    thresholds: tuple[float, ...] | None = None

    def predict(self, features: Floats) -> dict[str, Floats]:
        """Return ``rawPrediction`` (weights) and ``probability`` of shape ``(n, classes)``, ``prediction`` and if asked for ``leaf``."""
        leaves = self.leaves(features)
        raw, probability = self.forest.stats[leaves[0]], self.shares()[leaves[0]]
        outputs = {"rawPrediction": raw, "probability": probability, "prediction": chosen(raw, probability, self.thresholds)}
        return self.with_leaves(outputs, leaves, single=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionTreeRegressionModel(TreesModel):
    """A tree whose leaves hold the mean of the target.

    Attributes:
        leaf_variances: ``(m,)`` variance of the target at each leaf.
    """

    leaf_variances: Floats

    def predict(self, features: Floats) -> dict[str, Floats]:
        """Return ``prediction``, ``variance`` and if asked for ``leaf``, of shape ``(n,)``."""
        leaves = self.leaves(features)
        outputs = {"prediction": self.means()[leaves[0]], "variance": self.leaf_variances[leaves[0]]}
        return self.with_leaves(outputs, leaves, single=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionTreeClassifier(BaggedTrees):
    """Params of ``pyspark.ml.classification.DecisionTreeClassifier``."""

    CLASSIFIES: ClassVar[bool] = True

    impurity: str = "gini"
    prune_tree: bool = True
    thresholds: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        BaggedTrees.__post_init__(self)
        require_bool(self, "prune_tree")
        require_thresholds(self.thresholds)

    def _check_classes(self, classes: int) -> None:
        require_a_threshold_each(self.thresholds, classes)

    def to_model(self, state: TreesState) -> DecisionTreeClassificationModel:
        """Return the tree."""
        forest = self._forest(state, prune=self.prune_tree)
        return DecisionTreeClassificationModel(forest=forest, num_features=state.columns, thresholds=self.thresholds)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionTreeRegressor(BaggedTrees):
    """Params of ``pyspark.ml.regression.DecisionTreeRegressor``."""

    CLASSIFIES: ClassVar[bool] = False
    MEASURES_LEAVES: ClassVar[bool] = True

    impurity: str = "variance"

    def to_model(self, state: TreesState) -> DecisionTreeRegressionModel:
        """Return the tree."""
        forest = self._forest(state, prune=True)
        weight = forest.stats[:, 0]
        variances = np.divide(state.squares, weight, out=np.zeros_like(weight), where=weight > 0)
        return DecisionTreeRegressionModel(forest=forest, num_features=state.columns, leaf_variances=variances)
