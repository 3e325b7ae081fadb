"""Does work that does not fit into an enclave's memory end in an error that names what is needed, and does what fits go on?"""

import socket
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from securemllib.algorithms.codec import from_tree
from securemllib.algorithms.registry import ALGORITHMS, types_of
from securemllib.algorithms.vectors import SparseVector, to_stored
from securemllib.cli.enclave_process import started
from securemllib.errors import CapacityError
from securemllib.spark.failures import failure
from securemllib.wire.encoding import decode
from securemllib.wire.plan import Plan
from securemllib.wire.result import SealedModel
from securemllib.wire.task import Begin, Compute, Failed
from tests.enclave.test_jobs import plain_model
from tests.world import Dataset, Relay, World, run

ROWS, COLUMNS = 10_000, 300_000
MATRIX = 8 * ROWS * COLUMNS


class Process(Relay):
    """A relay of an enclave that is a process of its own, with a memory bound."""

    def __init__(self, world, port):
        self.world, self.fetched, self.job_id, self.failed = world, [], "", None
        self.connection = socket.create_connection(("127.0.0.1", port))
        self.connection.settimeout(60)


@contextmanager
def process(world, memory):
    """Give a relay of a fresh process."""
    with started(memory=memory, idle=5.0) as (_, port):
        relay = Process(world, port)
        try:
            yield relay
        finally:
            relay.connection.close()


def wide_table(rows, columns, each=20):
    """Return sparse rows of counts, and a label that some of their columns decide."""
    drawn = np.random.default_rng(4)
    indices = np.sort(drawn.integers(0, columns, (rows, each)), axis=1)
    matrix = sparse.csr_array((np.ones(rows * each), indices.ravel(), np.arange(0, rows * each + 1, each)), shape=(rows, columns))
    matrix.sum_duplicates()
    label = (matrix[:, : columns // 2].sum(axis=1) > each / 2).astype(float)
    return pa.table({"x": to_stored(SparseVector(matrix)), "y": label})


@pytest.fixture(scope="module")
def wide():
    """Return a world around 10,000 sparse rows of 300,000 columns, which with their zeros would take 24 GB."""
    return World(Dataset(wide_table(ROWS, COLUMNS), parts=4))


def job(world, operation, params, **changes):
    """Return a job over the vector column as it is stored."""
    inputs = {"features": "x", "label": "y"} if changes.pop("label", True) else {"features": "x"}
    plan = Plan(source=world.dataset.manifest.reference, steps=())
    return world.job(operation, params, inputs=inputs, plan=plan, **changes)


CASES = {
    "LogisticRegression": {"maxIter": 2, "family": "multinomial"},
    "NaiveBayes": {},
    "LinearSVC": {"maxIter": 2},
    "BisectingKMeans": {"k": 2, "maxIter": 1},
    "FMClassifier": {"factorSize": 2, "maxIter": 1, "solver": "gd"},
}


def test_wide_sparse_rows_train_within_the_bound(wide):
    """10,000 x 300,000 sparse rows train in an enclave that may hold a hundredth of what they would take with their zeros."""
    with process(wide, MATRIX // 1000) as relay:
        for operation, params in CASES.items():
            asked = job(wide, operation, params, label=operation != "BisectingKMeans")
            finished, _ = run(wide, asked, [relay])
            assert finished.round > 1
            # Coefficients of 300,000 features are larger than a message: they are beside the model.
            assert SealedModel.from_bytes(finished.model).pieces > 0


def test_an_algorithm_that_would_fill_in_the_zeros_is_refused_before_it_does(wide):
    """Rows that an algorithm reads with their zeros are counted before they are filled in, and the error names the bound that is needed."""
    relay = Relay(wide, memory_limit=2**26)
    asked = job(wide, "KMeans", {"k": 2}, label=False)
    relay.install(asked)
    reply, state = relay.ask(Begin(job_id=asked.job_id))
    with pytest.raises(CapacityError) as refused:
        relay.ask(Compute(job_id=asked.job_id, round=reply.round, share=0), bytes(state))
    assert refused.value.error_code == "unavailable.capacity.block"
    assert relay.failed == Failed(code="unavailable.capacity.block", needed=2**33)  # a part's 2,500 rows take 6 GB
    told = failure(relay.failed.code, relay.failed.needed)
    assert "8g" in told.reason
    assert "spark.securemllib.enclave.memory" in told.reason


def test_memory_that_runs_out_is_an_error_with_the_size_that_is_needed():
    """An array that the process cannot have ends the job with its size, up to a power of two; the process serves the next job."""
    columns = 40_000
    world = World(Dataset(wide_table(8, columns, each=5), parts=1))
    with process(world, 2**26) as relay:
        with pytest.raises(CapacityError) as refused:
            run(world, job(world, "PCA", {"k": 1}, label=False, shares=1), [relay])
        assert refused.value.error_code == "unavailable.capacity.memory"
        assert 8 * columns**2 <= relay.failed.needed < 16 * columns**2
        small = job(world, "NaiveBayes", {}, shares=1)
        finished, _ = run(world, small, [relay])
        assert plain_model(world, small, finished)


def test_a_tree_of_depth_thirty_is_grown_in_a_small_enclave():
    """A tree that memorises noise is grown to MLlib's greatest depth, 30, in an enclave whose bound is a fifth of its rows."""
    drawn = np.random.default_rng(5)
    features, label = drawn.exponential(size=(12_000, 6)), drawn.integers(0, 2, 12_000).astype(float)
    world = World(Dataset(pa.table({f"x{index}": features[:, index] for index in range(6)} | {"y": label}), parts=24))
    asked = world.job("DecisionTreeClassifier", {"maxDepth": 30, "maxBins": 64}, features=[f"x{index}" for index in range(6)])
    finished, _ = run(world, asked, [Relay(world, memory_limit=features.nbytes // 5)])
    forest = from_tree(types_of(ALGORITHMS[asked.operation])[2], decode(plain_model(world, asked, finished))).forest
    assert forest.depth.max() == 30
    assert forest.nodes > 2000
