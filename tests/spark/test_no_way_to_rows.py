"""Is there a public method of the host's objects that hands out rows which no policy released?

Every public method and property of sealed frames, models, streams and sessions is called, under a policy that releases nothing but sealed
models. Whatever comes back, is printed or is written to files is searched for values of the rows; the same search finds them where a policy
releases rows.
"""

import inspect
import struct

import pyarrow as pa
import pytest

from securemllib.errors import SecureMLlibError
from securemllib.ml.clustering import KMeans
from securemllib.ml.feature import VectorAssembler
from securemllib.spark import SealedStream
from securemllib.spark.functions import col
from securemllib.wire.job import OutputKind
from tests.deployment import patients

SECRETS = (b"patient-3", b"patient-17", *(struct.pack("<d", float(value)) for value in patients(40)["pressure"].to_pylist()))
TEXTS = tuple(str(value).encode() for value in patients(40)["pressure"].to_pylist())
# Their ends are those of the whole test, and a second start of a query would wait for rows that nobody adds.
LEFT_OUT = {"stop", "start"}


@pytest.fixture(scope="module")
def closed(deployment, session):
    """Rows whose policy releases sealed models only, and a model of them."""
    path = deployment.dataset(patients(40), "closed", rows_per_part=20)
    deployment.allow(session.read(path).source.manifest.dataset_id, outputs=(OutputKind.SEALED_MODEL,))
    rows = VectorAssembler(inputCols=["age", "pressure"], outputCol="features").transform(session.read(path))
    return rows, KMeans(k=2, seed=1).fit(rows)


def arguments(closed, folder):
    """Return what a method's required parameters are given, by their names."""
    frame, model = closed
    me = model.session.agent.identify().identity
    return {
        "dataset": frame, "frame": frame, "test": frame, "value": 3.0, "param": model.k, "paramName": "k", "name": "age", "existing": "age",
        "new": "b", "path": str(folder / "out"), "columns": ["name", "pressure"], "to": None, "condition": col("age") > 1,
        "column": col("age"), "weights": [1.0, 1.0], "number": 2, "first": 0, "end": 1, "types": {}, "key": "maxPartsPerTrigger",
        "recipient": me, "function": print, "instance": model, "step": frame.steps[0], "sealed": model.sealed, "model": model.sealed,
        "request": None, "extra": {},
    }  # fmt: skip


def told(value, depth=0):
    """Return all bytes that a value shows: what it prints as, its bytes, and its parts."""
    found = [repr(value).encode(), str(value).encode()]
    if isinstance(value, (bytes, bytearray, memoryview)):
        found.append(bytes(value))
    if isinstance(value, (list, tuple, dict)) and depth < 3:
        for item in value.items() if isinstance(value, dict) else value:
            found += told(item, depth + 1)
    if isinstance(value, pa.Table):
        found += told(value.to_pylist(), depth)
    if hasattr(value, "to_bytes") and not isinstance(value, int):
        found.append(value.to_bytes())
    return found


def secrets_in(pieces):
    """Return the secrets that stand in some bytes."""
    return {secret for piece in pieces for secret in (*SECRETS, *TEXTS) if secret in piece}


def call_all(thing, given):
    """Yield the name and outcome of every public method and property of an object."""
    for name in dir(thing):
        if name.startswith("_") or name in LEFT_OUT:
            continue
        try:
            found = getattr(thing, name)
            if inspect.ismethod(found) or inspect.isfunction(found):
                found = found(*positional(found, given))
        except SecureMLlibError as error:
            found = error
        except (AttributeError, KeyError, NotImplementedError, TypeError, ValueError) as error:
            found = error
        yield name, found


def positional(function, given):
    """Return the arguments of a method that has no defaults for them; `KeyError` where the table has none of that name."""
    wanted = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    return [given[p.name] for p in wanted if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}] + [
        given[p.name] for p in wanted if p.kind is p.VAR_POSITIONAL and p.name in given
    ]


@pytest.mark.parametrize("kind", ["frame", "model", "estimator", "stream", "reader", "session"])
def test_no_public_method_shows_what_is_sealed(kind, closed, session, tmp_path, capfd):
    """Whatever is called, no value of a row comes back, is printed, or lies in a file."""
    frame, model = closed
    thing = {
        "frame": frame,
        "model": model,
        "estimator": KMeans(k=2),
        "stream": frame.writeStream.option("checkpointLocation", str(tmp_path / "checkpoint")),
        "reader": SealedStream(session, str(tmp_path / "nothing")),
        "session": session,
    }[kind]
    outcomes = dict(call_all(thing, arguments(closed, tmp_path)))
    assert outcomes
    for name, outcome in outcomes.items():
        assert not secrets_in(told(outcome)), f"{kind}.{name} shows sealed values"
    assert not secrets_in(told(capfd.readouterr()))
    assert not secrets_in(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_the_search_finds_what_is_released(deployment, session, tmp_path):
    """The same search finds rows where a policy releases them."""
    path = deployment.dataset(patients(40), "released")
    rows = session.read(path)
    released = rows.release(columns=["name", "pressure"]).open()
    assert len(secrets_in(told(released))) > 40
    query = rows.select("name").writeStream.option("checkpointLocation", str(tmp_path / "c")).trigger(availableNow=True)
    query.start(str(tmp_path / "sink")).awaitTermination()
    assert b"patient-17" in secrets_in(told(SealedStream(session, str(tmp_path / "sink")).open()))
    assert not secrets_in(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
