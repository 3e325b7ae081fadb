"""Do selectors choose the slots that pyspark.ml's choose, and keep these of dense and of sparse vectors?"""

from functools import reduce
from operator import add

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.ml import feature
from pyspark.ml.linalg import Vectors
from scipy import sparse

from securemllib.algorithms.feature import moments
from securemllib.algorithms.feature.moments import Moments
from securemllib.algorithms.registry import build
from securemllib.algorithms.transformer import Column
from securemllib.algorithms.vectors import SparseVector, Vector, to_stored
from securemllib.errors import DataError, UsageError
from tests.algorithms.feature.running import collected, fitted, listed, transformed

GENERATOR = np.random.default_rng(6)
ROWS = 120
LABEL = GENERATOR.integers(0, 3, ROWS).astype(float)
# Constants, zeros, mirror images, and slots of every relation to the label; the last one tells it, and has no F value.
MATRIX = np.column_stack(
    [
        np.full(ROWS, 7.0),
        np.zeros(ROWS),
        GENERATOR.normal(1e3, 1.0, ROWS),
        GENERATOR.poisson(0.3 + LABEL),
        GENERATOR.poisson(0.6, ROWS),
        np.where(GENERATOR.random(ROWS) < 0.8, LABEL, 0.0),
        GENERATOR.normal(0.0, 2.0, ROWS) + 0.4 * LABEL,
        GENERATOR.integers(0, 2, ROWS),
    ]
)
MATRIX = np.column_stack([MATRIX, 1.0 - MATRIX[:, 7], 2.0 * LABEL + 1.0])
SCORE = MATRIX[:, 6] + GENERATOR.normal(size=ROWS) + 0.3 * LABEL
WIDTH = MATRIX.shape[1]
DENSE, SPARSE = Vector.of(MATRIX), SparseVector(sparse.csr_array(MATRIX))


@pytest.fixture(scope="module")
def plain(spark):
    """The rows in the clear, dense and sparse."""
    rows = [
        (Vectors.dense(row), Vectors.sparse(WIDTH, [(i, v) for i, v in enumerate(row) if v]), label, score)
        for row, label, score in zip(MATRIX.tolist(), LABEL.tolist(), SCORE.tolist(), strict=True)
    ]
    return spark.createDataFrame(rows, ["dense", "sparse", "label", "score"]).coalesce(1).cache()


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1e4])
def test_slots_that_vary_are_those_of_mllib(plain, threshold):
    """The slots over a threshold are MLlib's, none where no slot is, a constant slot never; sparse vectors stay sparse."""
    for name, vector in (("dense", DENSE), ("sparse", SPARSE)):
        theirs = feature.VarianceThresholdSelector(featuresCol=name, outputCol="out", varianceThreshold=threshold).fit(plain)
        ours = fitted("VarianceThresholdSelector", to_stored(vector), varianceThreshold=threshold)
        assert ours.selected.tolist() == list(theirs.selectedFeatures)
        made = transformed(ours, Column(vector)).columns["output"]
        assert listed(made) == collected(theirs.transform(plain), "out")
        assert made.rows == ROWS
        assert isinstance(made.values, SparseVector) == (name == "sparse" or threshold > 1e3)


CHOICES = [
    ("dense", "label", {"featureType": "categorical", "labelType": "categorical", "selectionThreshold": 11}),
    ("sparse", "label", {"featureType": "continuous", "labelType": "categorical"}),
    ("dense", "label", {"featureType": "continuous", "labelType": "categorical", "selectionMode": "fdr", "selectionThreshold": 0.2}),
    ("dense", "label", {"featureType": "continuous", "labelType": "categorical", "selectionMode": "percentile"}),
    ("sparse", "score", {"featureType": "continuous", "labelType": "continuous", "selectionThreshold": 7}),
    ("dense", "score", {"featureType": "continuous", "labelType": "continuous", "selectionMode": "percentile", "selectionThreshold": 1}),
]


@pytest.mark.parametrize(("name", "label", "params"), CHOICES)
def test_ranked_slots_are_those_of_mllib(plain, name, label, params):
    """Each test ranks the slots as MLlib does, ties and slots without a p-value included, from dense and from sparse vectors alike."""
    theirs = feature.UnivariateFeatureSelector(featuresCol=name, labelCol=label, outputCol="out")._set(**params).fit(plain)
    for vector in (DENSE, SPARSE):
        ours = fitted("UnivariateFeatureSelector", to_stored(vector), label=LABEL if label == "label" else SCORE, **params)
        assert ours.selected.tolist() == list(theirs.selectedFeatures)
    kept = listed(transformed(ours, Column(DENSE)).columns["output"])
    assert kept == MATRIX[:, sorted(theirs.selectedFeatures)].tolist()


@pytest.mark.parametrize("params", [{"numTopFeatures": 4}, {"percentile": 0.5}, {"fpr": 0.3}, {"fdr": 0.01}, {"fwe": 0.6}])
def test_slots_that_depend_on_the_label_are_those_of_mllib(plain, params):
    """Every way of selection by Pearson's test chooses MLlib's slots, by the older selector and by the newer one."""
    ((mode, threshold),) = params.items()
    theirs = feature.ChiSqSelector(featuresCol="sparse", outputCol="out", selectorType=mode, **params).fit(plain)
    ours = fitted("ChiSqSelector", to_stored(DENSE), label=LABEL, selectorType=mode, **params)
    assert ours.selected.tolist() == list(theirs.selectedFeatures)
    kinds = {"featureType": "categorical", "labelType": "categorical", "selectionMode": mode, "selectionThreshold": threshold}
    newer = fitted("UnivariateFeatureSelector", to_stored(SPARSE), label=LABEL, **kinds)
    assert sorted(newer.selected.tolist()) == ours.selected.tolist()


def test_tests_without_degrees_of_freedom_are_refused():
    """One label, as many labels as rows, and a correlation of two rows are refused, as in MLlib; one row or label more is not."""
    cases = [("categorical", [0, 0, 1], [1, 1, 1]), ("categorical", [0, 1, 1], [0, 1, 2]), ("continuous", [0, 1, 2], [0, 1])]
    for kind, enough, too_few in cases:
        for label in (enough, too_few):
            values = to_stored(Vector.of(np.arange(len(label))[:, None] ** 2.0))
            arguments = {"label": label, "featureType": "continuous", "labelType": kind}
            if label is enough:
                assert fitted("UnivariateFeatureSelector", values, **arguments).selected.tolist() == [0]
            else:
                with pytest.raises(DataError):
                    fitted("UnivariateFeatureSelector", values, **arguments)


def test_a_label_that_follows_a_slot_chooses_it():
    """A slot of which a continuous label is a multiple has the smallest p-value of all, whatever rounding makes of its correlation."""
    for factor in (2.0, -0.3):
        slots = Vector.of(np.column_stack([SCORE, SCORE * factor]))
        found = fitted("UnivariateFeatureSelector", to_stored(slots), label=SCORE / 3, featureType="continuous", labelType="continuous")
        assert found.selected.tolist() == [0, 1]
        both = fitted(
            "UnivariateFeatureSelector", to_stored(slots), label=SCORE / 3, featureType="continuous", labelType="continuous",
            selectionMode="fwe", selectionThreshold=1e-15,
        )  # fmt: skip
        assert both.selected.tolist() == [0, 1]


def test_categories_stay_with_their_slots():
    """A chosen slot keeps how many categories it has, which trees ask for."""
    model = fitted("VarianceThresholdSelector", to_stored(DENSE), varianceThreshold=0.4)
    chosen = transformed(model, Column(DENSE, arity=np.arange(WIDTH)))
    assert chosen.columns["output"].arity.tolist() == sorted(model.selected.tolist())


@given(st.lists(st.lists(st.tuples(st.integers(0, 2), st.floats(-1e6, 1e6)), max_size=8), min_size=2, max_size=4), st.booleans())
def test_moments_of_groups_add_up(parts, stored_sparse):
    """Moments of a union are the sum of the moments, and those of numpy; a group of a single value has no square at all."""
    rows = [np.array(part).reshape(-1, 2) for part in parts]
    whole = np.concatenate(rows)

    def of(part):
        values = np.column_stack([part[:, 1], np.full(len(part), 0.1)])
        return Moments.of(SparseVector(sparse.csr_array(values)) if stored_sparse else Vector.of(values), part[:, 0])

    total = reduce(add, map(of, rows))
    assert total.groups.numbers.tolist() == sorted(set(whole[:, 0]))
    for group, mean, squares in zip(total.groups.numbers, total.means, total.squares, strict=True):
        values = whole[whole[:, 0] == group, 1]
        # Rounding of a few sums, relative to the largest value.
        size = np.abs(values).max()
        assert mean == pytest.approx([values.mean(), 0.1], rel=1e-12, abs=1e-12 * size)
        assert squares[0] == pytest.approx(((values - values.mean()) ** 2).sum(), rel=1e-9, abs=1e-12 * size**2)
        assert squares[1] == 0.0


def test_too_many_groups_are_refused(monkeypatch):
    """More means than a message holds are refused, of one part and of two together, and as many as it holds are not."""
    monkeypatch.setattr(moments, "_MOST_MEANS", 6)
    one, other = (Moments.of(Vector.of(np.ones((3, 2))), np.arange(first, first + 3.0)) for first in (0, 1))
    assert (one + one).rows == 6
    with pytest.raises(DataError):
        one + other
    with pytest.raises(DataError):
        Moments.of(Vector.of(np.ones((4, 2))), np.arange(4.0))


KINDS = {"featureType": "continuous", "labelType": "categorical"}
OPERATIONS = [
    ("VarianceThresholdSelector", {}),
    ("ChiSqSelector", {}),
    ("UnivariateFeatureSelector", KINDS),
    ("UnivariateFeatureSelector", {**KINDS, "labelType": "continuous"}),
]


@pytest.mark.parametrize(("operation", "params"), OPERATIONS)
def test_nothing_is_selected_of_nothing(operation, params):
    """A dataset without rows, a NaN, and vectors of another size than the model's are refused, beside those that are not."""
    for values in ([], [[float("nan")], [1.0]]):
        with pytest.raises(DataError):
            fitted(operation, pa.array(values, pa.list_(pa.float64())), label=np.zeros(len(values)), **params)
    model = fitted(operation, to_stored(DENSE), label=LABEL, **params)
    transformed(model, Column(DENSE))
    with pytest.raises(DataError):
        transformed(model, Column(Vector.of(MATRIX[:, 1:])))


@pytest.mark.parametrize(
    ("operation", "right", "wrong"),
    [
        ("VarianceThresholdSelector", {}, {"varianceThreshold": -1.0}),
        ("ChiSqSelector", {}, {"numTopFeatures": 0}),
        ("ChiSqSelector", {}, {"selectorType": "best"}),
        ("ChiSqSelector", {}, {"fdr": 1.5}),
        ("UnivariateFeatureSelector", KINDS, {"featureType": "categorical", "labelType": "continuous"}),
        ("UnivariateFeatureSelector", KINDS, {"labelType": None}),
        ("UnivariateFeatureSelector", KINDS, {"selectionThreshold": 1.5}),
        ("UnivariateFeatureSelector", KINDS | {"selectionMode": "fpr"}, {"selectionThreshold": 2.0}),
    ],
)
def test_params_out_of_their_domain_are_refused(operation, right, wrong):
    """A value outside of a Param's domain is refused, and what it takes the place of is accepted."""
    build(operation, right)
    with pytest.raises(UsageError):
        build(operation, right | wrong)
