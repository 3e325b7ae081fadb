"""Do sparse rows train as the same rows with their zeros, in the memory of what is stored?"""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from securemllib.algorithms.base import Block
from securemllib.algorithms.registry import build
from securemllib.algorithms.slices import row_pieces

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "binomial": ("LogisticRegression", {"regParam": 0.01, "tol": 1e-13, "maxIter": 500}),
    "multinomial": ("LogisticRegression", {"regParam": 0.01, "family": "multinomial", "tol": 1e-13, "maxIter": 500}),
    "normal": ("LinearRegression", {"solver": "normal"}),
    "elastic_net": ("LinearRegression", {"regParam": 0.05, "elasticNetParam": 0.5, "tol": 1e-13}),
    "local": ("LinearRegression", {"solver": "l-bfgs", "regParam": 0.05, "tol": 1e-13}),
    "huber": ("LinearRegression", {"loss": "huber", "regParam": 0.05, "tol": 1e-13, "maxIter": 500}),
}
WIDE = (2000, 100_000)


def _rows(columns: int = 12, *, seed: int = 7) -> tuple[Any, Any, Any]:
    generator = np.random.default_rng(seed)
    features = generator.exponential(size=(500, columns)) * (generator.random((500, columns)) < 0.2)
    # A column far from zero, which float32 products of rows that are not centred would lose.
    features[:, 0] = 2000.0 + generator.standard_normal(500)
    margin = features[:, 1:] @ generator.standard_normal(columns - 1) + features[:, 0] - 2000.0
    return features, (margin + generator.logistic(size=500) > 0).astype(float), generator.integers(1, 4, 500) / 2.0


def _sparse(features: Any, label: Any, weight: Any, *, parts: int = 3, dtype: Any = np.float64) -> list[Block]:
    return [
        Block(
            ordinal=ordinal,
            features=np.zeros((len(rows), 0), dtype=dtype),
            offset=np.zeros(features.shape[1]),
            sparse=csr_array(features[rows].astype(dtype)),
            label=label[rows],
            weight=None if weight is None else weight[rows],
        )
        for ordinal, rows in enumerate(np.array_split(np.arange(len(features)), parts))
    ]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_sparse_rows_train_as_dense_ones(case: str, weighted: bool, fit: Any, cut: Any) -> None:
    """Coefficients, intercepts and predictions of sparse rows are those of the same dense rows, in float64 and float32."""
    name, params = CASES[case]
    features, label, weight = _rows()
    used = weight if weighted else None
    algorithm = build(name, params)
    dense = fit(algorithm, cut(features, label, used))
    for dtype, tolerance in ((np.float64, 1e-6), (np.float32, 1e-3)):
        sparse = fit(algorithm, _sparse(features, label, used, dtype=dtype))
        # Both end at a gradient of 1e-8; float32 stores 2000.3 to 1e-4, which is 1e-4 of that column's deviation.
        np.testing.assert_allclose(sparse.coefficients, dense.coefficients, atol=tolerance, rtol=tolerance)
        np.testing.assert_allclose(sparse.predict(features)["prediction"], dense.predict(features)["prediction"], atol=4000 * tolerance)
    for column, values in dense.predict(csr_array(features)).items():
        np.testing.assert_allclose(values, dense.predict(features)[column], rtol=1e-9, atol=1e-9)


def test_sparse_hinge_losses_are_the_dense_ones(fit: Any, cut: Any) -> None:
    """A linear support vector classifier reaches the same objective from sparse rows, within the reach of its search."""
    features, label, weight = _rows()
    algorithm = build("LinearSVC", {"regParam": 0.05})
    dense, sparse = fit(algorithm, cut(features, label, weight)), fit(algorithm, _sparse(features, label, weight))
    assert sparse.objective_history[-1] == pytest.approx(dense.objective_history[-1], rel=1e-4)
    np.testing.assert_allclose(sparse.predict(csr_array(features))["rawPrediction"], sparse.predict(features)["rawPrediction"], atol=1e-9)


def test_pieces_cover_the_rows_in_order() -> None:
    """The pieces of sparse rows are all rows, once and in order, also where many pieces and empty rows are among them."""
    generator = np.random.default_rng(2)
    matrix = csr_array(generator.random((5000, 900)) * (generator.random((5000, 1)) < 0.7))
    (block,) = _sparse(np.zeros((5000, 900)), np.zeros(5000), None, parts=1)
    block = Block(ordinal=0, features=block.features, offset=block.offset, sparse=matrix)
    pieces = list(row_pieces(block))
    assert len(pieces) > 2
    assert [rows.start for rows, _ in pieces[1:]] == [rows.stop for rows, _ in pieces[:-1]]
    assert (sum(piece.shape[0] for _, piece in pieces), pieces[-1][0].stop) == (5000, 5000)
    weights = generator.random(900)
    np.testing.assert_array_equal(np.concatenate([piece @ weights for _, piece in pieces]), matrix @ weights)


# A fit in a process of its own, whose peak memory is that of the fit alone.
_PROGRAM = """
import sys
from scipy.sparse import random_array
import numpy as np
from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.registry import build
from securemllib.algorithms.summary import Summary
import resource
rows, columns = int(sys.argv[2]), int(sys.argv[3])
generator = np.random.default_rng(1)
matrix = random_array((rows, columns), density=5e-4, format="csr", rng=generator)
label = (np.asarray(matrix.sum(axis=1)) > np.median(np.asarray(matrix.sum(axis=1)))).astype(float)
block = Block(ordinal=0, features=np.zeros((rows, 0)), offset=np.zeros(columns), sparse=matrix, label=label)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
algorithm = build(sys.argv[1], {"maxIter": 5, "regParam": 0.1} if sys.argv[1] != "NaiveBayes" else {})
state = algorithm.initial(Summary.of(block), Seed(bytes(32)))
while not algorithm.is_done(state):
    state = algorithm.update(state, algorithm.statistics(state, block))
predicted = algorithm.to_model(state).predict(matrix)["prediction"]
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, float(np.corrcoef(predicted, label)[0, 1]))
"""


@pytest.mark.parametrize("name", ["LogisticRegression", "LinearRegression", "LinearSVC", "NaiveBayes"])
def test_wide_sparse_rows_take_little_memory(name: str) -> None:
    """A fit on 2,000 x 100,000 sparse rows, whose zeros alone would be 1.6 GB, learns the labels in less than 150 MB more."""
    rows, columns = WIDE
    arguments = [sys.executable, "-c", _PROGRAM, name, str(rows), str(columns)]
    output = subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=120).stdout
    used, correlation = output.split()
    unit = 1 if sys.platform == "darwin" else 1024
    # Ten pairs of 100,000 numbers each and their copies are 50 MB.
    assert int(used) * unit < 150e6 < 8 * rows * columns
    assert float(correlation) > 0.5
