"""Is the model of float32 rows that of float64 rows, whatever the scale of columns, labels and weights is?"""

import numpy as np
import pyarrow as pa
import pytest

from securemllib.crypto.keys import DataKey
from securemllib.errors import DataError
from securemllib.wire.encoding import decode
from tests.enclave.test_jobs import plain_model
from tests.world import Dataset, Relay, World, run

ROWS = 160

CASES = {
    "normal": ("LinearRegression", {}, "y"),
    "squared": ("LinearRegression", {"solver": "l-bfgs", "tol": 1e-9}, "y"),
    "glm": ("GeneralizedLinearRegression", {}, "y"),
    "kmeans": ("KMeans", {"k": 2}, None),
    "mixture": ("GaussianMixture", {"k": 2, "maxIter": 3}, None),
    "pca": ("PCA", {"k": 2}, None),
}
# Of float32 they have other digits only where rows are as good as equally far.
ALIKE = {"bisecting": ("BisectingKMeans", {"k": 2}, None), "tree": ("DecisionTreeRegressor", {"maxDepth": 3}, "y")}
# What is drawn hangs on both.
DRAWN = {"dataset_id": "ab" * 16, "secret": DataKey(bytes(32))}


def scaled(features=1.0, label=1.0, weight=1.0, nobody=1.0):
    """Return two clusters with a linear label, each at a scale, and among them rows of weight 0, at a scale of their own."""
    generator = np.random.default_rng(5)
    x = generator.normal(size=(ROWS, 3)) * [1.0, 2.0, 0.5] + np.repeat([[0.0], [6.0]], ROWS // 2, axis=0)
    y = x @ [1.0, -2.0, 0.5] + generator.normal(size=ROWS)
    w = generator.uniform(1, 2, ROWS) * weight
    w[::10] = 0.0
    x[::10] *= nobody
    y[::10] *= nobody
    x *= features
    return pa.table({**{f"x{i}": x[:, i] for i in range(3)}, "y": y * label, "w": w})


SCALES = {
    "large": {"features": 1e20},
    "small": {"features": 1e-30},
    "beyond float32": {"features": 1e-60, "label": 1e60},
    "large labels": {"label": 1e40},
    "heavy": {"features": 1e10, "weight": 1e25},
    "light": {"weight": 1e-39},
    "nobody": {"nobody": 1e30},
}


def trained(world, name, dtype):
    """Return the arrays of a model."""
    operation, params, label = {**CASES, **ALIKE}[name]
    inputs = {"features": "features", "weight": "w", **({"label": label} if label else {})}
    job = world.job(operation, params, inputs=inputs, dtype=dtype)
    relay = Relay(world)
    finished, _ = run(world, job, [relay])
    relay.close()
    tree = decode(plain_model(world, job, finished)).items()
    return {key: np.frombuffer(value["data"], dtype=value["dtype"]) for key, value in tree if isinstance(value, dict) and "dtype" in value}


@pytest.mark.parametrize("scale", sorted(SCALES))
def test_float32_is_float64_to_its_digits_at_any_scale(scale):
    """Rows, labels and weights whose products leave float32's range train the model of float64, to 0.2 % of an array's largest number."""
    world = World(Dataset(scaled(**SCALES[scale]), parts=3))
    for name in CASES:
        exact, rounded = trained(world, name, "float64"), trained(world, name, "float32")
        assert rounded.keys() == exact.keys()
        for field, values in exact.items():
            size = np.abs(values).max(initial=0)
            np.testing.assert_allclose(rounded[field], values, rtol=2e-3, atol=2e-3 * size, err_msg=f"{name} {field}")


@pytest.mark.parametrize("nobody", [1e30, 1e300])
def test_rows_of_weight_0_move_no_digit_of_the_others(nobody):
    """Rows of weight 0 may hold any number: the model is that of the same rows with moderate ones, to the rounding of float64."""
    moderate, large = (World(Dataset(scaled(nobody=size), parts=3, **DRAWN)) for size in (1.0, nobody))
    for name in ("normal", "glm", "squared", "kmeans", "bisecting", "tree", "mixture"):
        expected, found = trained(moderate, name, "float64"), trained(large, name, "float64")
        # As in MLlib every row is one of a cluster's, whatever it weighs.
        for field, values in ((field, values) for field, values in expected.items() if field != "cluster_sizes"):
            atol = 1e-9 * np.abs(values).max(initial=0)
            np.testing.assert_allclose(found[field], values, rtol=1e-9, atol=atol, err_msg=f"{name} {field}")


@pytest.mark.parametrize("gap", [1e19, 1e22, 1e25])
@pytest.mark.parametrize("name", sorted(CASES))
def test_parts_of_float32_may_lie_as_far_apart_as_those_of_float64(name, gap):
    """Parts whose squared distance is no number of float32 train the model of float64, to 0.2 % of an array's largest number."""
    generator = np.random.default_rng(5)
    x = generator.normal(size=(ROWS, 3)) + np.repeat([[0.0], [gap]], ROWS // 2, axis=0)
    columns = {f"x{i}": x[:, i] for i in range(3)}
    world = World(Dataset(pa.table({**columns, "y": generator.normal(size=ROWS), "w": np.ones(ROWS)}), parts=2, **DRAWN))
    found = []
    for dtype in ("float64", "float32"):
        try:
            found.append(trained(world, name, dtype))
        except DataError as error:
            found.append(error.error_code)
    exact, rounded = found
    if isinstance(exact, str):
        assert rounded == exact
        return
    for field, values in exact.items():
        size = np.abs(values).max(initial=0)
        np.testing.assert_allclose(rounded[field], values, rtol=2e-3, atol=2e-3 * size, err_msg=field)
