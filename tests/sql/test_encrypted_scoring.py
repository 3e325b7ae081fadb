"""Does Spark score encrypted rows without an enclave, and can only the client read the scores?"""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("tenseal", reason="needs securemllib[homomorphic]")

import tenseal

from securemllib.errors import CoverError, DataError, IntegrityError, UsageError
from securemllib.owner.encrypted_rows import encrypt_rows, open_scores, write_scores
from securemllib.spark.encrypted_scoring import linear_scores
from securemllib.wire.companion import PUBLIC_CONTEXT
from securemllib.wire.encrypted_rows import ROWS_FILE

ROWS, FEATURES = 9_000, 5
NAMES = [f"x{number}" for number in range(FEATURES)]
INTERCEPT = -0.75
# A product of numbers of this size is off by less: 2**-30 a fresh ciphertext, times the coefficients.
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def rows():
    """Rows in three blocks."""
    random = np.random.default_rng(3)
    return random.normal(size=(ROWS, FEATURES)) * [1, 5, 0.1, 20, 3]


@pytest.fixture(scope="module")
def model():
    """The coefficients; one is zero."""
    return dict(zip(NAMES, [0.5, -1.25, 3.0, 0.0, 0.125], strict=True))


@pytest.fixture(scope="module")
def request_directory(rows, owner, tmp_path_factory):
    """The encrypted rows."""
    directory = tmp_path_factory.mktemp("scores") / "request"
    encrypt_rows(pa.table(dict(zip(NAMES, rows.T, strict=True))), NAMES, directory, keystore=owner.keystore)
    return directory


@pytest.fixture(scope="module")
def scores(spark, request_directory, model):
    """What Spark wrote."""
    path = request_directory.parent / "scores"
    linear_scores(spark, str(request_directory), model, INTERCEPT).write.parquet(str(path))
    return path


@pytest.fixture(scope="module")
def expected(rows, model):
    """The scores in the clear."""
    return rows @ np.array(list(model.values())) + INTERCEPT


def test_linear_scores_are_those_of_the_clear_rows(scores, request_directory, owner, expected):
    """The opened scores are the model's predictions, in the order of the rows, to the precision of CKKS."""
    opened = open_scores(scores, request_directory, keystore=owner.keystore)
    np.testing.assert_allclose(opened, expected, rtol=0, atol=TOLERANCE)


def test_logistic_scores_are_probabilities(scores, request_directory, owner, expected, tmp_path):
    """Of a logistic model the client's file holds the probability of class 1."""
    assert write_scores(scores, request_directory, tmp_path / "p.parquet", keystore=owner.keystore, probability=True) == ROWS
    found = pq.read_table(tmp_path / "p.parquet")["probability"].to_numpy()
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-expected)), rtol=0, atol=TOLERANCE)


def test_the_host_has_nothing_that_opens(request_directory, scores):
    """Neither rows nor scores open with what the host has: the context in the files has no secret key."""
    schema = pq.read_schema(request_directory / ROWS_FILE)
    context = tenseal.context_from(bytes.fromhex(schema.metadata[PUBLIC_CONTEXT.encode()].decode()))
    assert not context.is_private()
    for ciphertext in (pq.read_table(request_directory / ROWS_FILE)["x0"][0].as_py(), pq.read_table(scores)["score"][0].as_py()):
        with pytest.raises(ValueError, match="secret_key"):
            tenseal.ckks_vector_from(context, ciphertext).decrypt()


@pytest.mark.parametrize("where", ["scores", "request"])
def test_opened_scores_do_not_go_back_to_spark(where, scores, request_directory, owner):
    """A file of opened scores never lies in a directory that Spark reads or writes."""
    folder = scores if where == "scores" else request_directory
    with pytest.raises(UsageError) as raised:
        write_scores(scores, request_directory, folder / "opened.parquet", keystore=owner.keystore)
    assert raised.value.error_code == "usage.destination"
    assert not (folder / "opened.parquet").exists()


@pytest.mark.parametrize(
    ("attack", "error"),
    [("noise", IntegrityError), ("weight", IntegrityError), ("dropped", CoverError), ("twice", CoverError), ("another", IntegrityError)],
)
def test_changed_scores_are_refused(attack, error, scores, request_directory, owner, tmp_path):
    """Scores that are no ciphertexts of the key, off by more than the bound, or not of each block once do not open."""
    table = pq.read_table(scores).sort_by("block")
    column, values = {
        "noise": ("score", [b"noise" * 1000] * table.num_rows),
        "weight": ("weight", [2.5 * table["weight"][0].as_py()] * table.num_rows),
        "another": ("request", ["0" * 32] * table.num_rows),
    }.get(attack, ("rows", table["rows"].to_pylist()))
    position = table.column_names.index(column)
    changed = table.set_column(position, column, pa.array(values, table[column].type))
    if attack == "dropped":
        changed = changed.slice(1)
    if attack == "twice":
        changed = pa.concat_tables([changed, changed.slice(0, 1)])
    path = tmp_path / "changed"
    path.mkdir()
    pq.write_table(changed, path / "part.parquet")
    with pytest.raises(error):
        open_scores(path, request_directory, keystore=owner.keystore)


@pytest.mark.parametrize(("values", "names"), [([1.0, None], ["x0"]), ([1.0, float("nan")], ["x0"]), ([1.0, 2.0], ["x0", "missing"])])
def test_rows_that_cannot_be_scored_are_refused(values, names, owner, tmp_path):
    """Nulls, what is no number, and missing features are refused, and leave no directory."""
    with pytest.raises(DataError):
        encrypt_rows(pa.table({"x0": values}), names, tmp_path / "request", keystore=owner.keystore)
    assert not (tmp_path / "request").exists()


def test_a_model_of_other_features_is_refused(spark, request_directory):
    """The host is told which features the rows lack."""
    with pytest.raises(UsageError) as raised:
        linear_scores(spark, str(request_directory), {"x0": 1.0, "height": 2.0})
    assert "height" in raised.value.reason
