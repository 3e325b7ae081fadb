"""Released trees in the clear, with the attributes and the text that pyspark.ml's have."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.ml.linalg import DenseVector, SparseVector, Vector, Vectors
from pyspark.sql import DataFrame

from securemllib.algorithms.decision_tree import DecisionTreeClassificationModel
from securemllib.algorithms.evaluation.boosting import sums_of_losses
from securemllib.algorithms.random_forest import RandomForestRegressionModel
from securemllib.algorithms.trees.losses import REGRESSION_LOSSES
from securemllib.algorithms.trees.model import TreesModel
from securemllib.errors import UsageError

__all__ = [
    "PlainDecisionTreeClassificationModel",
    "PlainDecisionTreeRegressionModel",
    "PlainGBTClassificationModel",
    "PlainGBTRegressionModel",
    "PlainRandomForestClassificationModel",
    "PlainRandomForestRegressionModel",
    "regression_loss",
]

Floats = NDArray[np.float64]

# The range in which Java writes a number without an exponent.
_PLAIN_LOW, _PLAIN_HIGH = 1e-3, 1e7
_LEFT = 1


def _row(value: Vector) -> Floats:
    return np.asarray(value.toArray(), dtype=np.float64)[None, :]


class _PlainTrees:
    """Released trees.

    Args:
        model: The algorithm's own model.
        uid: The sealed model's.
    """

    CLASSIFIES = False
    # Whether each tree's importances are scaled to sum to 1 before they are added, as MLlib does but for boosted trees.
    SCALES_TREES = True

    def __init__(self, model: Any, uid: str) -> None:
        self.model = model
        self.uid = uid
        self._predictions: Floats = model.forest.stats.argmax(axis=1).astype(np.float64) if self.CLASSIFIES else model.means()

    @property
    def numFeatures(self) -> int:
        """Features."""
        return int(self.model.num_features)

    @property
    def featureImportances(self) -> SparseVector:
        """The share of each feature in the trees' gains, weighted by the rows of the nodes that it splits."""
        forest, total = self.model.forest, np.zeros(self.numFeatures)
        weight = forest.stats.sum(axis=1) if self.CLASSIFIES else forest.stats[:, 0]
        inner = forest.left >= 0
        for tree in range(len(forest.roots)):
            mine = inner & (forest.tree == tree)
            gains = np.bincount(forest.feature[mine], weights=(forest.gain * weight)[mine], minlength=self.numFeatures)
            scale = gains.sum() if self.SCALES_TREES else 1.0
            total += gains / scale if scale else 0.0
        total /= total.sum() or 1.0
        used = np.flatnonzero(np.bincount(forest.feature[inner], minlength=self.numFeatures))
        return Vectors.sparse(self.numFeatures, used.tolist(), total[used].tolist())

    def predict(self, value: Vector) -> float:
        """Return the prediction for one row."""
        return float(self._output(value, "prediction"))

    def _output(self, value: Vector, stem: str) -> Floats:
        output: Floats = self.model.predict(_row(value))[stem][0]
        return output

    def _numbers(self, value: Vector) -> Floats:
        numbers = self.model.forest.leaf_numbers()
        return np.array([numbers[leaf[0]] for leaf in self.model.leaves(_row(value))], dtype=np.float64)

    def _depth(self, tree: int) -> int:
        forest = self.model.forest
        return int(forest.depth[forest.tree == tree].max())

    def _nodes(self, tree: int) -> int:
        return int(np.count_nonzero(self.model.forest.tree == tree))

    def _summary(self) -> str:
        raise NotImplementedError

    def _shape(self) -> str:
        """Return what every summary ends with."""
        return f"numFeatures={self.numFeatures}"

    def _name(self) -> str:
        return f"{type(self).__name__.removeprefix('Plain')}: uid={self.uid}"

    def __repr__(self) -> str:
        return self._summary()

    def _lines(self, tree: int, indent: int) -> Iterator[str]:
        """Yield the text of a tree; a stack and no recursion, because trees may be deep."""
        forest = self.model.forest
        stack: list[tuple[int, int, str]] = [(int(forest.roots[tree]), indent, "")]
        while stack:
            node, spaces, head = stack.pop()
            if head:
                yield head
            if forest.left[node] < 0:
                yield f"{' ' * spaces}Predict: {java_double(self._predictions[node])}"
                continue
            left = int(forest.left[node])
            under, over = self._conditions(node)
            yield f"{' ' * spaces}If ({under})"
            stack.append((left + 1, spaces + 1, f"{' ' * spaces}Else ({over})"))
            stack.append((left, spaces + 1, ""))

    def _conditions(self, node: int) -> tuple[str, str]:
        forest = self.model.forest
        name = f"feature {forest.feature[node]}"
        if forest.subset[node] < 0:
            threshold = java_double(forest.threshold[node])
            return f"{name} <= {threshold}", f"{name} > {threshold}"
        categories = ",".join(java_double(code) for code in np.flatnonzero(forest.subsets[forest.subset[node]] == _LEFT))
        return f"{name} in {{{categories}}}", f"{name} not in {{{categories}}}"


class _PlainTree(_PlainTrees):
    """One released tree."""

    @property
    def depth(self) -> int:
        """Edges from the root to the lowest leaf."""
        return self._depth(0)

    @property
    def numNodes(self) -> int:
        """Nodes, leaves included."""
        return self._nodes(0)

    @property
    def toDebugString(self) -> str:
        """The tree as pyspark.ml writes it."""
        return "\n".join([self._summary(), *self._lines(0, 2), ""])

    def predictLeaf(self, value: Vector) -> float:
        """Return the number of the leaf that one row reaches, counted from left to right."""
        return float(self._numbers(value)[0])

    def _summary(self) -> str:
        return f"{self._name()}, depth={self.depth}, numNodes={self.numNodes}, {self._shape()}"


class _PlainEnsemble(_PlainTrees):
    """Released trees of an ensemble."""

    @property
    def trees(self) -> list[_PlainTree]:
        """The trees, one by one."""
        forests = [self.model.forest.some_trees(tree, tree + 1) for tree in range(self.getNumTrees)]
        width = self.numFeatures
        plain: type[_PlainTree] = PlainDecisionTreeClassificationModel if self.CLASSIFIES else PlainDecisionTreeRegressionModel
        model: type[TreesModel] = DecisionTreeClassificationModel if self.CLASSIFIES else RandomForestRegressionModel
        return [plain(model(forest=forest, num_features=width), f"{self.uid}_{tree}") for tree, forest in enumerate(forests)]

    @property
    def getNumTrees(self) -> int:
        """Trees."""
        return len(self.model.forest.roots)

    @property
    def treeWeights(self) -> list[float]:
        """The weight of each tree."""
        return [float(weight) for weight in getattr(self.model, "tree_weights", np.ones(self.getNumTrees))]

    @property
    def totalNumNodes(self) -> int:
        """Nodes of all trees, leaves included."""
        return len(self.model.forest.left)

    @property
    def toDebugString(self) -> str:
        """The trees as pyspark.ml writes them."""
        lines = [self._summary()]
        for tree, weight in enumerate(self.treeWeights):
            lines += [f"  Tree {tree} (weight {java_double(weight)}):", *self._lines(tree, 4)]
        return "\n".join([*lines, ""])

    def predictLeaf(self, value: Vector) -> DenseVector:
        """Return the number of the leaf of each tree that one row reaches, counted from left to right."""
        return Vectors.dense(self._numbers(value))

    def _summary(self) -> str:
        return f"{self._name()}, numTrees={self.getNumTrees}, {self._shape()}"


class PlainDecisionTreeRegressionModel(_PlainTree):
    """A regression tree."""


class PlainRandomForestRegressionModel(_PlainEnsemble):
    """A forest of regression trees."""


class _PlainBoosted(_PlainEnsemble):
    """Released boosted trees.

    Args:
        model: The algorithm's own model.
        uid: The sealed model's.
        columns: The columns that it reads, by role.
    """

    SCALES_TREES = False

    def __init__(self, model: Any, uid: str, columns: Mapping[str, str] | None = None) -> None:
        super().__init__(model, uid)
        self._columns = {"features": "features", "label": "label"} | dict(columns or {})

    def _losses(self, dataset: DataFrame, loss: str) -> list[float]:
        rows = dataset.select(*self._columns.values()).collect()
        column = {role: [row[place] for row in rows] for place, role in enumerate(self._columns)}
        features = np.array([vector.toArray() for vector in column["features"]], dtype=np.float64).reshape(len(rows), -1)
        label = np.array(column["label"], dtype=np.float64)
        weight = np.array(column.get("weight", np.ones(len(rows))), dtype=np.float64)
        sums = sums_of_losses(loss, label, weight, self.model.sums(self.model.leaves(features)))
        return [float(value) for value in sums / weight.sum()]


class PlainGBTRegressionModel(_PlainBoosted):
    """Boosted regression trees."""

    def evaluateEachIteration(self, dataset: DataFrame, loss: str) -> list[float]:
        """Return the mean loss, ``squared`` or ``absolute``, of the first 1, 2, ... trees on rows in the clear."""
        return self._losses(dataset, regression_loss(loss))


class _PlainClassifier(_PlainTrees):
    """Released trees that classify."""

    @property
    def numClasses(self) -> int:
        """Classes of the labels."""
        return self._output(Vectors.dense(np.zeros(self.numFeatures)), "rawPrediction").size

    def predictRaw(self, value: Vector) -> DenseVector:
        """Return the votes for the classes of one row."""
        return Vectors.dense(self._output(value, "rawPrediction"))

    def predictProbability(self, value: Vector) -> DenseVector:
        """Return the probabilities of the classes of one row."""
        return Vectors.dense(self._output(value, "probability"))

    def _shape(self) -> str:
        return f"numClasses={self.numClasses}, {super()._shape()}"


class PlainDecisionTreeClassificationModel(_PlainClassifier, _PlainTree):
    """A classification tree."""

    CLASSIFIES = True


class PlainRandomForestClassificationModel(_PlainClassifier, _PlainEnsemble):
    """A forest of classification trees."""

    CLASSIFIES = True


class PlainGBTClassificationModel(_PlainClassifier, _PlainBoosted):
    """Boosted regression trees that classify."""

    def evaluateEachIteration(self, dataset: DataFrame) -> list[float]:
        """Return the mean logistic loss of the first 1, 2, ... trees on rows in the clear."""
        return self._losses(dataset, "logistic")

    def _name(self) -> str:
        # Spaces stand here in pyspark.ml alone.
        return super()._name().replace("uid=", "uid = ")


def regression_loss(name: str) -> str:
    """Return a loss in lower case, as pyspark.ml takes it; `UsageError` where it is none of a regression."""
    if name.lower() not in REGRESSION_LOSSES:
        raise UsageError(f"loss must be one of {', '.join(REGRESSION_LOSSES)}, not {name!r}", code="usage.param")
    return name.lower()


def java_double(value: Any) -> str:
    """Return a number as Java writes it."""
    value = float(value)
    if value == 0.0 or not np.isfinite(value) or _PLAIN_LOW <= abs(value) < _PLAIN_HIGH:
        return repr(value) if np.isfinite(value) else {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}[repr(value)]
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    first, rest = str(digits[0]), "".join(map(str, digits[1:])) or "0"
    return f"{'-' * sign}{first}.{rest}E{int(exponent) + len(digits) - 1}"
