"""What the models of all trees share: leaves, their numbers, and classes by votes."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.trees.forest import Forest
from securemllib.algorithms.vectors import of_columns
from securemllib.errors import UsageError

__all__ = ["TreesModel", "chosen", "require_a_threshold_each", "require_thresholds"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TreesModel:
    """Trees.

    Attributes:
        forest: The trees.
        num_features: Features of a row.
        leaf_col: Whether, by a name, the numbers of the leaves are an output.
    """

    SUMMARY: ClassVar[tuple[str, ...]] = ()
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("leaf_col",)

    forest: Forest
    num_features: int
    leaf_col: str = ""

    def __post_init__(self) -> None:
        self.forest.check(self.num_features)

    def leaves(self, features: Floats) -> NDArray[np.int32]:
        """Return the leaves, ``(t, n)``, that rows reach in each tree; rows of another width raise DataError."""
        return self.forest.leaves(of_columns(features, self.num_features))

    def with_leaves(self, outputs: dict[str, Floats], leaves: NDArray[np.int32], *, single: bool) -> dict[str, Floats]:
        """Return the outputs, and the leaves' numbers if they are asked for: of one tree ``(n,)``, else ``(n, trees)``."""
        if self.leaf_col:
            found = self.forest.leaf_numbers()[leaves].T.astype(np.float64)
            outputs["leaf"] = found[:, 0] if single else found
        return outputs

    def shares(self) -> Floats:
        """Return the ``(m, classes)`` share of each class among the rows of each node."""
        stats = self.forest.stats
        weight = stats.sum(axis=1, keepdims=True)
        return np.asarray(np.divide(stats, weight, out=np.zeros_like(stats), where=weight != 0))

    def means(self) -> Floats:
        """Return the ``(m,)`` mean of the target of each node's rows."""
        weight, target = self.forest.stats.T
        return np.asarray(np.divide(target, weight, out=np.zeros_like(weight), where=weight != 0))


def chosen(raw: Floats, probability: Floats, thresholds: tuple[float, ...] | None) -> Floats:
    """Return the class of the largest vote, or with thresholds of the largest probability / threshold."""
    if thresholds is None:
        return np.asarray(raw.argmax(axis=1), dtype=np.float64)
    require_a_threshold_each(thresholds, probability.shape[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = probability / np.asarray(thresholds)
    # A class of probability 0 and threshold 0 is not chosen.
    return np.asarray(np.where(np.isnan(scaled), -np.inf, scaled).argmax(axis=1), dtype=np.float64)


def require_a_threshold_each(thresholds: tuple[float, ...] | None, classes: int) -> None:
    """Raise unless there are none, or as many as classes."""
    if thresholds is not None and len(thresholds) != classes:
        raise UsageError(f"there are {len(thresholds)} thresholds for {classes} classes", code="usage.param")


def require_thresholds(thresholds: tuple[float, ...] | None) -> None:
    """Raise unless there are none, or they are not negative and at most one is 0."""
    if thresholds is None:
        return
    if not all(0.0 <= threshold < np.inf for threshold in thresholds) or sum(threshold == 0 for threshold in thresholds) > 1:
        raise UsageError("thresholds must be at least 0, and at most one of them 0", code="usage.param")
