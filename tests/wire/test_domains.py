"""Does a message refuse a value that its field's type allows and its meaning does not?

Each case changes one field of a message that is accepted as it stands; the first change is the twin that is accepted too.
"""

from dataclasses import replace
from typing import Any

import pytest

from securemllib.errors import FormatError
from securemllib.kms.key import WrappedSecret
from securemllib.wire import dataset
from securemllib.wire.attestation import Challenge
from securemllib.wire.companion import ROW_COLUMN, Companion, CompanionFile, EncodedColumn, EncodingName
from securemllib.wire.dataset import ClearPart, Column, DatasetRef, Manifest, ManifestBody, Part
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.job import RELEASE_OPERATION, JobSpecification, Mode, Output, OutputKind
from securemllib.wire.plan import Literal, ModelRef, Named, Parts, Plan, RandomSplit
from securemllib.wire.query import Field, Form, ResultHeader
from securemllib.wire.result import SealedModel
from securemllib.wire.signed import Signed

WHO = PublicIdentity(name="who", verification_key=bytes(32), recipient_key=bytes(1216))
SOURCE = DatasetRef(dataset_id="d", version=1, digest=bytes(32))
MODEL = ModelRef(model_id="m", digest=bytes(32))
READ, PARTS = Plan(source=SOURCE, steps=()), Parts(first=0, end=1)
PART = Part(ordinal=0, file="p", length=1, sha256=bytes(32), rows=1, wrapped_key=b"", salt=bytes(16))
COLUMN = Column(name="x", type="double", nullable=False, encoding="sealed")
CLEAR = ClearPart(file="part-00000.parquet", length=1)
BODY = ManifestBody(parts=(PART, replace(PART, ordinal=1)), columns=(COLUMN,), brokers=())
MANIFEST = Manifest(
    dataset_id="d", name="n", version=1, previous=b"", owner="o", created=1, parts=(CLEAR, CLEAR), columns=(), rows=None, body=b""
)
SIGNED = Signed(payload_type="t", payload=b"", signer="s", signature=bytes(64))
CHALLENGE = Challenge(nonce=bytes(32), broker=WHO, job_id="j")
SEALED_MODEL, STATISTICS = (Output(kind=kind, recipient=WHO) for kind in (OutputKind.SEALED_MODEL, OutputKind.SEALED_STATISTICS))
JOB = JobSpecification(
    operation="KMeans",
    params={},
    inputs={},
    plan=READ,
    model=None,
    mode=Mode.ENCLAVE,
    dtype="float32",
    seed=1,
    shares=1,
    checkpoint_interval=1,
    outputs=(SEALED_MODEL,),
    analyst=WHO,
    broker="b",
    measurements=(),
    created=1,
    nonce=bytes(16),
)
GOING_ON = replace(JOB, model=MODEL, plan=replace(READ, steps=(PARTS,)))
RELEASE = replace(JOB, operation=RELEASE_OPERATION, plan=None, model=MODEL)
SEALED = SealedModel(model_id="m", operation="KMeans", tee="sgx", lineage=(), envelope=b"")
SPLIT = RandomSplit(weights=(1.0, 1.0, 1.0), kept=(0,), seed=1)
KEPT = WrappedSecret(service="file", key_version=1, ciphertext=b"")
FILE = CompanionFile(file="c.parquet", length=1, sha256=bytes(32), rows=1)
NUMBER = Field(name="f", form=Form.NUMBER, dataset=None, column="", encoding=EncodingName.CLEAR, physical=(), rows="", count="", zeros="")
OUTPUTS = tuple(Named(name=name, expression=Literal(value=1)) for name in ("a", "b"))
HEADER = ResultHeader(fields=(NUMBER,), outputs=OUTPUTS, having=None, order=(), limit=None)


def encoded(column: str, encoding: EncodingName = EncodingName.CLEAR, stored: str = "") -> EncodedColumn:
    """Return a column as a companion names it."""
    text = {"type": "double", "kind": "", "key_id": "", "join_group": "", "alphabet": ""}
    return EncodedColumn(column=column, encoding=encoding, stored=(stored or column,), nullable=False, digits=0, **text)


COMPANION = Companion(
    dataset=SOURCE, owner="o", salt=bytes(32), columns=(encoded("x"), encoded("y")), parts=(FILE,), dictionaries={}, ciphertexts={}
)
ORDERED, SUMMED = encoded("x", EncodingName.ORDER), encoded("x", EncodingName.HOMOMORPHIC)
PATHS = [{"file": name} for name in ("", ".hidden", "..", "../up", "/etc/passwd", "a/b", "a\\b")]

CASES: dict[str, tuple[Any, dict[str, Any], list[dict[str, Any]]]] = {
    "keys of an identity": (
        WHO,
        {"name": ""},
        [{"verification_key": bytes(31)}, {"verification_key": bytes(33)}, {"recipient_key": bytes(1215)}, {"recipient_key": bytes(1217)}],
    ),
    "a signature": (SIGNED, {"signature": b"s" * 64}, [{"signature": bytes(63)}, {"signature": bytes(65)}, {"signature": b""}]),
    "a challenge's nonce": (CHALLENGE, {"nonce": b"n" * 32}, [{"nonce": bytes(31)}, {"nonce": bytes(33)}, {"nonce": b""}]),
    "a part's file": (CLEAR, {"file": "a.b"}, PATHS),
    "numbers of parts": (
        BODY,
        {"parts": (PART,)},
        [{"parts": (PART, PART)}, {"parts": (replace(PART, ordinal=1),)}, {"parts": (replace(PART, ordinal=1), PART)}],
    ),
    "names of columns": (BODY, {"columns": (COLUMN, replace(COLUMN, name="y"))}, [{"columns": (COLUMN, replace(COLUMN, type="string"))}]),
    "versions of a dataset": (
        MANIFEST,
        {"version": 2, "previous": bytes(32)},
        [{"version": 0}, {"version": -1, "previous": bytes(32)}, {"version": 2}, {"previous": bytes(32)}],
    ),
    "a job's nonce": (JOB, {"nonce": b"n" * 16}, [{"nonce": bytes(15)}, {"nonce": bytes(17)}]),
    "a job's dtype": (JOB, {"dtype": "float64"}, [{"dtype": "float16"}, {"dtype": ""}]),
    "a job's shares": (JOB, {"shares": 100_000}, [{"shares": 0}, {"shares": -1}, {"shares": 100_001}]),
    "a job's checkpoints": (JOB, {"checkpoint_interval": 7}, [{"checkpoint_interval": 0}, {"checkpoint_interval": -1}]),
    "a release": (RELEASE, {"seed": 2}, [{"model": None}, {"plan": READ}, {"plan": replace(READ, steps=(PARTS,))}]),
    "a training": (JOB, {"seed": 2}, [{"plan": None}, {"plan": None, "model": MODEL}]),
    "a training that goes on": (GOING_ON, {"seed": 2}, [{"plan": READ}]),
    "sealed statistics": (JOB, {"outputs": (SEALED_MODEL, STATISTICS)}, [{"outputs": (STATISTICS,)}]),
    "parts of a plan": (PARTS, {"first": 3, "end": 4}, [{"end": 0}, {"first": 1}, {"first": -1}]),
    "steps of a plan": (replace(READ, steps=(PARTS,)), {"steps": (PARTS, SPLIT)}, [{"steps": (SPLIT, PARTS)}, {"steps": (PARTS, PARTS)}]),
    "weights of a split": (
        SPLIT,
        {"weights": (0.5, 2.0)},
        [{"weights": (weight, 1.0)} for weight in (0.0, -1.0, float("inf"), float("nan"))],
    ),
    "kept splits": (SPLIT, {"kept": (0, 2)}, [{"kept": kept} for kept in ((), (3,), (-1,), (-1, 0), (1, 0), (1, 1), (0, 3))]),
    "pieces of a model": (SEALED, {"pieces": 2**20}, [{"pieces": -1}, {"pieces": 2**20 + 1}]),
    "a companion's file": (FILE, {"file": "a.b"}, PATHS),
    "stored names": (
        COMPANION,
        {"columns": (encoded("x"), encoded("z"))},
        [{"columns": (encoded("x"), encoded("y", stored="X"))}, {"columns": (encoded("x", stored=ROW_COLUMN),)}],
    ),
    "dictionaries": (
        COMPANION,
        {"columns": (ORDERED,), "dictionaries": {"x": FILE}},
        [{"columns": (ORDERED,)}, {"dictionaries": {"x": FILE}}, {"columns": (ORDERED,), "dictionaries": {"y": FILE}}],
    ),
    "ciphertexts": (
        COMPANION,
        {"columns": (SUMMED,), "ciphertexts": {"x": FILE}},
        [{"columns": (SUMMED,)}, {"ciphertexts": {"x": FILE}}, {"columns": (SUMMED,), "ciphertexts": {"y": FILE}}],
    ),
    "a field of a result": (
        NUMBER,
        {"form": Form.SUM, "dataset": SOURCE, "rows": "r", "count": "c"},
        [
            {"dataset": SOURCE},
            {"form": Form.CODES},
            {"rows": "r", "count": "c"},
            {"form": Form.SUM, "dataset": SOURCE, "rows": "r"},
            {"form": Form.SUM, "dataset": SOURCE, "count": "c"},
        ],
    ),
    "columns of a result": (
        HEADER,
        {"limit": 0},
        [{"outputs": ()}, {"outputs": OUTPUTS[:1] * 2}, {"fields": (NUMBER, NUMBER)}, {"limit": -1}],
    ),
    "versions of a key": (KEPT, {"key_version": 2}, [{"key_version": 0}, {"key_version": -1}]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_value_without_a_meaning_is_refused(name: str) -> None:
    """What a field cannot mean is refused where the message is made, so wherever it is decoded; what it can mean is accepted."""
    record, accepted, refused = CASES[name]
    assert type(record).from_bytes(record.to_bytes()) == record
    replace(record, **accepted)
    for changes in refused:
        with pytest.raises(FormatError):
            replace(record, **changes)


def test_a_manifest_has_a_bound_on_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many parts as the bound allows are accepted, one more is refused: each is a task of the host's."""
    monkeypatch.setattr(dataset, "PART_LIMIT", 2)
    assert len(MANIFEST.parts) == len(replace(MANIFEST).parts)
    with pytest.raises(FormatError, match="at most 2"):
        replace(MANIFEST, parts=(CLEAR,) * 3)
