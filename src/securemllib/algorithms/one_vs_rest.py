"""One class against the rest: how many classes there are, the label of each, and the class of the highest score.

Objective: for each of k classes a binary classifier learns from the labels ``[y = c]``; a row is of the class whose classifier scores it
highest: ``argmax_c raw_c[1]``.

Equivalence: ``pyspark.ml.classification.OneVsRest``. Each classifier is a job of its own, as if it had been fitted on its labels. Labels
are class indices, where MLlib's may be any numbers; a null is refused, where MLlib takes it for the rest. The label of a class that no row
has still declares two, as in Scala; a classifier that knows the rest only never has the highest score, where MLlib's Python fails.

Cost: none beyond the dataset's summary for the number of classes; then that of k trainings, which go over the rows together.

Reveals: with mode="enclave" the number of rows, and the number of classes where the policy has the output ``summary`` for the operation
``ClassCounter``: the largest label, and one. With mode="partitioned" the same. The host sees as many trainings as there are classes.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.feature.values import numbers_of, vector_of
from securemllib.algorithms.params import require_integer
from securemllib.algorithms.summary import MAX_CLASSES, Summary
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.algorithms.vectors import Vector
from securemllib.errors import DataError

__all__ = ["ClassAgainstRest", "ClassCount", "ClassCounter", "CounterState", "CounterStatistics", "HighestScore"]

_POSITIVE = 1
_BINARY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterState:
    """What the summary says: the number of classes, and the rows of the last one that has some."""

    classes: int
    rows: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterStatistics:
    """The number of rows: the summary already holds everything else."""

    rows: int

    def __add__(self, other: Self) -> Self:
        return type(self)(rows=self.rows + other.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCount:
    """How many classes the labels have.

    Attributes:
        num_classes: The largest label, and one; or the classes that the label's column declares, where these are more.
        smallest_group: The rows that have the largest label.
    """

    SUMMARY: ClassVar[tuple[str, ...]] = ("num_classes",)

    num_classes: int
    smallest_group: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCounter:
    """Counts the classes of a label; it has no Params."""

    def initial(self, summary: Summary, seed: Seed) -> CounterState:
        """Return the finished state; no rows, and labels that are no class indices, raise DataError."""
        del seed
        if summary.label_weights is None or summary.has_invalid_label:
            raise DataError(f"labels must be class indices 0, 1, 2... below {MAX_CLASSES}", code="data.label")
        found = np.trim_zeros(summary.label_weights, "b")
        if not found.size:
            raise DataError("The dataset has no rows.", code="data.no_rows")
        return CounterState(classes=len(summary.label_weights), rows=float(found[-1]))

    def is_done(self, state: CounterState) -> bool:
        """Return True: no round is needed."""
        del state
        return True

    def statistics(self, state: CounterState, block: Block) -> CounterStatistics:
        """Return the number of rows of the block."""
        del state
        return CounterStatistics(rows=block.rows)

    def update(self, state: CounterState, total: CounterStatistics) -> CounterState:
        """Return the state unchanged."""
        del total
        return state

    def to_model(self, state: CounterState) -> ClassCount:
        """Return the count."""
        return ClassCount(num_classes=state.classes, smallest_group=state.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassAgainstRest:
    """Labels of several classes to those of one of them, 1, and of all others, 0."""

    class_index: int

    def __post_init__(self) -> None:
        require_integer(self, "class_index", 0)

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output``, a label of two classes; a null or NaN raises DataError."""
        label = numbers_of(columns[0], "label")
        if np.isnan(label).any():
            raise DataError(f"{int(np.isnan(label).sum())} labels are null or NaN.", code="data.label")
        return Transformed(columns={"output": Column(pa.array((label == self.class_index).astype(np.float64)), arity=np.array([_BINARY]))})


@dataclass(frozen=True, slots=True, kw_only=True)
class HighestScore:
    """Raw predictions of a classifier for each class to the scores of all classes, and the class of the highest."""

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``rawPrediction``, the scores, and ``prediction``."""
        vectors = [vector_of(column, "rawPrediction") for column in columns]
        # A classifier that has seen the rest only has no score for its class.
        scores = [
            np.ascontiguousarray(vector.matrix()[:, _POSITIVE]) if vector.width > _POSITIVE else np.full(vector.rows, -math.inf)
            for vector in vectors
        ]
        prediction = np.argmax(scores, axis=0).astype(np.float64)
        return Transformed(columns={"rawPrediction": Column(Vector(tuple(scores))), "prediction": Column(pa.array(prediction))})
