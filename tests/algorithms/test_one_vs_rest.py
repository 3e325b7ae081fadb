"""Do the steps around a classifier of two classes count, label and choose as they say?"""

import numpy as np
import pyarrow as pa
import pytest

from securemllib.algorithms.base import Block
from securemllib.algorithms.one_vs_rest import ClassAgainstRest, ClassCounter, HighestScore
from securemllib.algorithms.transformer import Column
from securemllib.algorithms.vectors import Vector
from securemllib.errors import DataError, UsageError


def block(label, classes=0):
    """Return labels of a part."""
    return Block(ordinal=0, features=np.zeros((len(label), 0)), offset=np.zeros(0), label=np.array(label, dtype=float), classes=classes)


def test_the_group_of_a_count_are_the_rows_of_the_largest_label(fit):
    """The largest label tells the classes, and its rows are the group; a column that declares more classes tells these."""
    found = fit(ClassCounter(), [block([0, 0, 0]), block([3, 3])])
    assert (found.num_classes, found.smallest_group) == (4, 2.0)
    declared = fit(ClassCounter(), [block([0, 1, 1], 5)])
    assert (declared.num_classes, declared.smallest_group) == (5, 2.0)


@pytest.mark.parametrize("label", [[0.5], [-1.0], [1000.0], []])
def test_labels_that_are_no_classes_are_not_counted(fit, label):
    """A fraction, a negative label, one beyond the bound and no rows are errors."""
    with pytest.raises(DataError):
        fit(ClassCounter(), [block(label)])


def test_a_class_and_the_rest_are_two_declared_classes():
    """The label is 1 for the class and 0 for any other, of two classes whether rows have them or not; a null is refused."""
    made = ClassAgainstRest(class_index=2).transform((Column(pa.array([2, 0, 2, 7])),)).columns["output"]
    assert (made.values.to_pylist(), made.arity.tolist()) == ([1.0, 0.0, 1.0, 0.0], [2])
    for label in (pa.array([1.0, None]), pa.array([1.0, np.nan])):
        with pytest.raises(DataError):
            ClassAgainstRest(class_index=0).transform((Column(label),))
    with pytest.raises(UsageError):
        ClassAgainstRest(class_index=-1)


def test_the_highest_score_is_the_class():
    """Scores are second entries, the first of equal ones is chosen, and a classifier that knows one class only is never."""
    raw = [np.array([[-1.0, 1.0], [0.0, 0.0]]), np.array([[9.0], [9.0]]), np.array([[1.0, 1.0], [-5.0, 5.0]])]
    made = HighestScore().transform(tuple(Column(Vector.of(each)) for each in raw)).columns
    assert made["prediction"].values.to_pylist() == [0.0, 2.0]
    np.testing.assert_array_equal(made["rawPrediction"].values.matrix(), [[1.0, -np.inf, 1.0], [0.0, -np.inf, 5.0]])
