"""Is a training over odd rows MLlib's model, or refused in words of its own?"""

import numpy as np
import pyarrow as pa
import pytest

from securemllib.algorithms.vectors import VECTOR
from securemllib.errors import DataError
from securemllib.spark.failures import failure
from securemllib.wire.encoding import decode
from securemllib.wire.plan import Assemble, HandleInvalid, Plan
from tests.enclave.test_jobs import plain_model
from tests.world import Dataset, Relay, World, run

ROWS = 60
WEIGHED = {"features": "features", "label": "c", "weight": "w"}
LEARNED = {"features": "features", "label": "c"}
ALONE = {"features": "features"}

# By algorithm: Params and inputs.
SQUARED = {
    "LinearRegression": ({}, WEIGHED),
    "LogisticRegression": ({}, WEIGHED),
    "LinearSVC": ({"maxIter": 5}, WEIGHED),
    "GeneralizedLinearRegression": ({}, WEIGHED),
    "FMRegressor": ({"maxIter": 3}, LEARNED),
    "KMeans": ({"k": 2}, ALONE),
    "BisectingKMeans": ({"k": 2}, ALONE),
    "GaussianMixture": ({"k": 2, "maxIter": 3}, ALONE),
    "PCA": ({"k": 1}, ALONE),
    "StandardScaler": ({}, ALONE),
}
COUNTED = {
    "DecisionTreeClassifier": ({"maxDepth": 2}, WEIGHED),
    "RandomForestClassifier": ({"numTrees": 2}, WEIGHED),
    "GBTClassifier": ({"maxIter": 2}, WEIGHED),
    **{name: ({}, {"input0": "features"}) for name in ("MaxAbsScaler", "MinMaxScaler", "RobustScaler", "VarianceThresholdSelector")},
    "VectorIndexer": ({}, {"input0": "features"}),
}


def rows(scale=1.0, label=1.0, weight=1.0):
    """Return rows of two classes; the second feature tells them apart."""
    generator = np.random.default_rng(3)
    c = (np.arange(ROWS) % 2).astype(float)
    x = [generator.normal(size=ROWS) * scale, (c + 0.1 * generator.random(ROWS)) * scale]
    return {"x0": x[0], "x1": x[1], "c": c * label, "w": np.full(ROWS, weight)}


def trained(columns, operation, *, assembled=("x0", "x1"), dtype="float64", given=None):
    """Return the arrays and numbers of a model."""
    params, inputs = given or {**SQUARED, **COUNTED}[operation]
    world = World(Dataset(pa.table(columns), parts=3))
    assemble = Assemble(input_columns=assembled or (), output_column="features", handle_invalid=HandleInvalid.ERROR)
    plan = Plan(source=world.dataset.manifest.reference, steps=() if assembled is None else (assemble,))
    job = world.job(operation, params, inputs=inputs, plan=plan, dtype=dtype)
    relay = Relay(world)
    try:
        finished, _ = run(world, job, [relay])
    finally:
        relay.close()
    return decode(plain_model(world, job, finished))


def test_every_refusal_here_has_words():
    """The host tells in words of their own what these codes mean."""
    told = [failure(code).reason for code in ("data.large", "data.no_columns", "data")]
    assert len(set(told)) == len(told)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("scale", [1e160, 1e300])
@pytest.mark.parametrize("operation", sorted(SQUARED))
def test_features_whose_squares_are_no_numbers_are_refused(operation, scale, dtype):
    """Where MLlib gives NaN, one cluster for all rows or a failed requirement, the error says that the features are too large."""
    assert trained(rows(), operation, dtype=dtype)
    with pytest.raises(DataError) as refused:
        trained(rows(scale), operation, dtype=dtype)
    assert refused.value.error_code == "data.large"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("operation", sorted(COUNTED))
def test_what_needs_no_squares_trains_on_any_finite_feature(operation, dtype):
    """Trees and extremes of features of 1e300 are those of the same features, scaled: the classes are told apart."""
    model = trained(rows(1e300), operation, dtype=dtype)
    assert model.keys() == trained(rows(), operation, dtype=dtype).keys()


@pytest.mark.parametrize("odd", [{"label": 1e300}, {"weight": 1e200}, {"weight": 1e-310}], ids=str)
@pytest.mark.parametrize("operation", ["LinearRegression", "DecisionTreeRegressor", "GeneralizedLinearRegression"])
def test_labels_and_weights_whose_squares_are_no_numbers_are_refused(operation, odd):
    """The model would have NaN for coefficients, or a tree no impurity."""
    given = ({}, WEIGHED)
    assert trained(rows(), operation, given=given)
    with pytest.raises(DataError) as refused:
        trained(rows(**odd), operation, given=given)
    assert refused.value.error_code == "data.large"


NO_SLOTS = {
    "dense": pa.array([{"type": 1, "size": None, "indices": None, "values": []}] * ROWS, VECTOR),
    "sparse": pa.array([{"type": 0, "size": 0, "indices": [], "values": []}] * ROWS, VECTOR),
    "list": pa.array([[]] * ROWS, pa.list_(pa.float64())),
    "assembled": None,
}
EXPECTED = {
    "LinearRegression": "",
    "LogisticRegression": "",
    "GeneralizedLinearRegression": "",
    "FMRegressor": "",
    "StandardScaler": "data.no_columns",
    "MaxAbsScaler": "data.no_columns",
    "MinMaxScaler": "data.no_columns",
    "RobustScaler": "data.no_columns",
    "VarianceThresholdSelector": "data.no_columns",
    "VectorIndexer": "data.no_columns",
    "KMeans": "data.no_columns",
    "BisectingKMeans": "data.no_columns",
    "GaussianMixture": "data.no_columns",
    "DecisionTreeClassifier": "data.no_columns",
    "GBTClassifier": "data.no_columns",
    "PCA": "data.too_few_columns",
}


@pytest.mark.parametrize("kind", sorted(NO_SLOTS))
@pytest.mark.parametrize("operation", sorted(EXPECTED))
def test_vectors_without_slots_leave_an_intercept_or_are_refused(operation, kind):
    """What learns from labels alone does so, as MLlib's GLM does; what needs a feature says that there is none."""
    stored = {} if NO_SLOTS[kind] is None else {"features": NO_SLOTS[kind]}
    columns = {**rows(), **stored}
    assembled = None if stored else ()
    if not EXPECTED[operation]:
        assert trained(columns, operation, assembled=assembled)
        return
    with pytest.raises(DataError) as refused:
        trained(columns, operation, assembled=assembled)
    assert refused.value.error_code == EXPECTED[operation]


def test_an_intercept_of_no_features_is_the_mean():
    """A linear regression on vectors without slots predicts the label's mean, whatever made the vectors."""
    model = trained(rows(), "LinearRegression", assembled=())
    assert model["intercept"] == pytest.approx(0.5)


@pytest.mark.parametrize("operation", ["ChiSqSelector", "UnivariateFeatureSelector", "BucketedRandomProjectionLSH", "MinHashLSH", "IDF"])
def test_transformers_fit_vectors_without_slots(operation):
    """They have nothing to choose, to hash or to count, as in MLlib."""
    params = {
        "UnivariateFeatureSelector": {"featureType": "continuous", "labelType": "categorical"},
        "BucketedRandomProjectionLSH": {"bucketLength": 2.0},
    }
    inputs = {"input0": "features", **({"label": "c"} if "Selector" in operation else {})}
    assert trained(rows(), operation, assembled=(), given=(params.get(operation, {}), inputs))


@pytest.mark.parametrize("operation", ["KMeans", "DecisionTreeClassifier", "LinearRegression"])
def test_rows_that_all_weigh_0_are_none(operation):
    """MLlib's trees predict 0 of them and its KMeans keeps rows for centres, which nobody's weight stands for; here there are no rows."""
    params, inputs = {**SQUARED, **COUNTED}[operation]
    given = (params, {**inputs, "weight": "w"})
    assert trained(rows(), operation, given=given)
    with pytest.raises(DataError) as refused:
        trained(rows(weight=0.0), operation, given=given)
    assert refused.value.error_code == "data.no_rows"
