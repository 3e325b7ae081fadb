"""Does a result whose columns are of other types than the query's say so, as an error of the result's and not of Python's?"""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("tenseal", reason="needs securemllib[homomorphic]")

from securemllib.crypto.identity import PrivateIdentity
from securemllib.errors import IntegrityError
from securemllib.owner.companion import open_companion
from securemllib.owner.dataset import encrypt
from securemllib.owner.encoding_schema import schema_from_text
from securemllib.owner.encrypted_rows import encrypt_rows, open_scores
from securemllib.owner.keystore import Keystore
from securemllib.owner.query_results import open_query_result
from securemllib.wire.companion import EncodingName
from securemllib.wire.encrypted_rows import ROWS_FILE
from securemllib.wire.plan import Named, Reference
from securemllib.wire.query import HEADER_FILE, ROWS_DIRECTORY, Field, Form, ResultHeader

WORD = pa.list_(pa.struct([("bucket", pa.int64()), ("bits", pa.int64())]))
OTHERS = [
    pa.array(["x"]), pa.array([b"x"]), pa.array([1.5]), pa.array([[1]]), pa.array([[{"a": 1}]]), pa.array([{"a": 1}]), pa.array([True]),
    pa.array([0], pa.date32()),
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A keystore, an owner and a directory."""
    path = tmp_path_factory.mktemp("malformed")
    return path, PrivateIdentity.generate("owner"), Keystore.create(path / "keystore", None)


def test_query_results_of_other_types_are_refused(place):
    """Ranks, words and ciphertexts of another type, or none, are no result; those of the query's types open."""
    path, owner, keystore = place
    schema = schema_from_text("columns: {day: order, price: homomorphic}")
    table = pa.table({"day": range(20), "price": np.full(20, 1.5)})
    encrypt(table, path / "sales", name="sales", identity=owner, keystore=keystore, encodings=schema, accept_leakage=["day"])
    companion = open_companion(path / "sales", owner=owner.public, keystore=keystore)
    dataset, stored = companion.companion.dataset, path / "sales" / "companion"
    shared = {"dataset": dataset, "zeros": ""}
    sums = {"column": "price", "encoding": EncodingName.HOMOMORPHIC, "physical": ("c",), "rows": "w", "count": "n"}
    fields = (
        Field(name="d", form=Form.CODES, column="day", encoding=EncodingName.ORDER, physical=("d",), rows="", count="", **shared),
        Field(name="s", form=Form.SUM, **sums, **shared),
    )
    outputs = tuple(Named(name=field.name, expression=Reference(column=field.name)) for field in fields)
    result = path / "result"
    (result / ROWS_DIRECTORY).mkdir(parents=True)
    (result / HEADER_FILE).write_bytes(ResultHeader(fields=fields, outputs=outputs, having=None, order=(), limit=None).to_bytes())
    whole = pq.read_table(stored / "ckks-00000.parquet")["ciphertext"].combine_chunks().cast(pa.binary())
    honest = {"d": pa.array([3]), "c": whole, "w": pa.array([[{"bucket": 0, "bits": 2**21 - 2}]], WORD), "n": pa.array([20])}

    def opened(**changes):
        pq.write_table(pa.table({**honest, **changes}), result / ROWS_DIRECTORY / "part.parquet")
        return open_query_result(result, [companion])

    assert abs(opened()["s"][0].as_py() - 30) < 1e-6
    for name in honest:
        for other in OTHERS:
            # An integer under another name is still one.
            if not (name == "n" and other.type in {pa.bool_(), pa.date32()}):
                with pytest.raises(IntegrityError):
                    opened(**{name: other})


def test_scores_of_other_types_are_refused(place):
    """Scores and weights that are null, or no ciphertexts and numbers, are refused; those of the expected types open."""
    path, _, keystore = place
    request = encrypt_rows(pa.table({"a": [1.0, 2.0]}), ["a"], path / "request", keystore=keystore)
    score = pq.read_table(path / "request" / ROWS_FILE)["a"].combine_chunks()
    honest = {"request": pa.array([request]), "block": pa.array([0]), "rows": pa.array([2]), "weight": pa.array([1.0]), "score": score}
    scores = path / "scores"
    scores.mkdir()

    def opened(**changes):
        pq.write_table(pa.table({**honest, **changes}), scores / "part.parquet")
        return open_scores(scores, path / "request", keystore=keystore)

    np.testing.assert_allclose(opened(), [1.0, 2.0], atol=1e-6)
    for name, kind in (("weight", pa.float64()), ("score", pa.binary()), ("rows", pa.int64())):
        for other in (pa.nulls(1, kind), pa.array(["x"]), pa.array([[1]])):
            with pytest.raises(IntegrityError):
                opened(**{name: other})
