"""Are our formats still the ones that owners' stored data and signed policies are in?

Each value was made once by this code, from the inputs written here, and is checked against its definition, spelled out with the
standard library. A change here is a change of format: stored datasets, signatures and recorded digests stop to verify. It needs a new
version number in the format's name or first byte, beside a decoder for the old one; changing the expected value is never the right mend.
"""

from base64 import b32encode
from hashlib import sha256, sha512

import cbor2
import pytest

from securemllib.crypto import aead
from securemllib.crypto.aead import seal, unseal
from securemllib.crypto.keys import DataKey
from securemllib.errors import UnsealError
from securemllib.wire.attestation import Challenge, grant_context, head_acknowledgement_context, head_context, report_data
from securemllib.wire.dataset import DatasetRef, aad_prefix, body_context, manifest_digest, part_key_context
from securemllib.wire.encoding import digest, encode
from securemllib.wire.framing import send
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.job import JobSpecification, Mode, Output, OutputKind
from securemllib.wire.plan import Assemble, Call, Filter, HandleInvalid, Literal, Operator, Plan, RandomSplit, Reference
from securemllib.wire.result import result_context, result_key_context
from securemllib.wire.signed import pre_authentication_encoding
from securemllib.wire.task import NeedPart

KEY, SALT = bytes(range(32)), bytes(range(100, 132))
IDENTITY = PublicIdentity(name="anybody", verification_key=bytes(range(32)), recipient_key=bytes(i % 251 for i in range(1216)))
SOURCE = DatasetRef(dataset_id="0123456789abcdef0123456789abcdef", version=3, digest=b"d" * 32)
JOB = JobSpecification(
    operation="LogisticRegression",
    params={"regParam": 0.01, "maxIter": 50, "family": "binomial", "standardization": True, "thresholds": (0.25, 0.75), "threshold": None},
    inputs={"features": "features", "label": "y"},
    plan=Plan(
        source=SOURCE,
        steps=(
            Filter(predicate=Call(operator=Operator.GREATER, arguments=(Reference(column="age"), Literal(value=18)))),
            RandomSplit(weights=(0.8, 0.2), kept=(0,), seed=7),
            Assemble(input_columns=("age", "dose"), output_column="features", handle_invalid=HandleInvalid.SKIP),
        ),
    ),
    model=None,
    mode=Mode.ENCLAVE,
    dtype="float64",
    seed=42,
    shares=4,
    checkpoint_interval=10,
    outputs=(Output(kind=OutputKind.SEALED_MODEL, recipient=IDENTITY),),
    analyst=IDENTITY,
    broker="b" * 52,
    measurements=(b"m" * 32,),
    created=1_800_000_000,
    nonce=bytes(range(16)),
)


def prefixed(*parts):
    """Return each part behind its length in 8 bytes, from the definition."""
    raw = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
    return b"".join(len(part).to_bytes(8, "big") + part for part in raw)


def test_an_envelope_of_version_1(monkeypatch):
    """A fixed key, salt, context and plaintext give the recorded envelope, and the recorded envelope opens."""
    recorded = bytes.fromhex(
        "016465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f8081828327c2fd00ed7a1a3fe0ac94c3b6119a1cd2"
        "34cb7b21a4478c62fb122e5104cc351d5983dcaf65dfd74a83e2cec99ae92b661e54e91f2406e922873cc2774e8d484dad41"
        "2086d0"
    )
    monkeypatch.setattr(aead.os, "urandom", lambda count: SALT[:count])
    assert seal(DataKey(KEY), b"context", b"plaintext of version 1") == recorded
    assert unseal(DataKey(KEY), b"context", recorded) == b"plaintext of version 1"
    with pytest.raises(UnsealError):
        unseal(DataKey(KEY), b"context", b"\x02" + recorded[1:])


def test_a_derived_key():
    """The derivation of a key for a purpose and context is recorded."""
    assert DataKey(KEY).derive("purpose", "context", 1).expose().hex() == "2251c060d4cda8b203564a7f9cd8096772c68a5d67ef2827e398fcea0e7d9cd9"


def test_the_aad_prefix_of_a_part():
    """The AAD prefix that a stored part was encrypted with is the SHA-256 of its length-prefixed place."""
    prefix = aad_prefix(SOURCE.dataset_id, 3, 5, 1000, bytes(range(16)))
    assert prefix == sha256(prefixed("securemllib/part/v1", SOURCE.dataset_id, 3, 5, 1000, bytes(range(16)))).digest()
    assert prefix.hex() == "b38d4d5b3b402f23d195317f9a6ab50782a6eeeb3e45e77ae1361493aadb90f9"


def test_a_fingerprint():
    """The fingerprint that policies name depends on both keys, and not on the name."""
    expected = sha256(prefixed("securemllib/identity/v1", IDENTITY.verification_key, IDENTITY.recipient_key)).digest()
    assert IDENTITY.fingerprint == b32encode(expected).decode().rstrip("=").lower()
    assert IDENTITY.fingerprint == "y6wtrgc6bowp52nyogluwfag7ss32bhmj4hvuobosq4ejntkz35q"
    renamed = PublicIdentity(name="other", verification_key=IDENTITY.verification_key, recipient_key=IDENTITY.recipient_key)
    assert renamed.fingerprint == IDENTITY.fingerprint


def test_a_job_id():
    """The id of a job, and with it every job key and head, is the digest of its deterministic encoding."""
    assert JOB.job_id == sha256(prefixed("securemllib/job/v1", cbor2.dumps(JOB.to_tree(), canonical=True))).hexdigest()
    assert sha256(JOB.to_bytes()).hexdigest() == "e980bba3010385213fbd4d6442a0ae9782994450a6a6623dde80e1ee654caf04"
    assert JOB.job_id == "b5aea1c74b7f35aa2c5696adeb0f1bf97cc980a0825230f60fbbdb7642703aab"


def test_report_data():
    """What evidence binds is the SHA-512 of nonce, broker, job and both keys."""
    challenge = Challenge(nonce=bytes(range(32)), broker=IDENTITY, job_id="job")
    keys = (IDENTITY.verification_key, IDENTITY.recipient_key)
    expected = sha512(prefixed("securemllib/report-data/v1", bytes(range(32)), IDENTITY.fingerprint, "job", *keys)).digest()
    assert report_data(challenge, IDENTITY) == expected
    recorded = (
        "6035d1d153fc841bf8d18374bb63f0db180ea0f1f77d6cc1d21c890731103ed014803eb145340e707dedec70c6fb73a6afe3f4585c778d74eed36eabb3e97183"
    )
    assert expected.hex() == recorded


@pytest.mark.parametrize(
    ("context", "parts"),
    [
        (part_key_context("d", 1, 2), ("securemllib/part-key/v1", "d", 1, 2)),
        (body_context("d", 1), ("securemllib/manifest-body/v1", "d", 1)),
        (grant_context("j", "e"), ("securemllib/grant/v1", "j", "e")),
        (head_context("j"), ("securemllib/head-update/v1", "j")),
        (head_acknowledgement_context("j", b"u"), ("securemllib/head-acknowledgement/v1", "j", b"u")),
        (result_context("j", OutputKind.ROWS, 3, "r"), ("securemllib/sealed-result/v3", "j", "rows", 3, "r")),
        (result_key_context("j", OutputKind.ROWS, "r"), ("securemllib/result-key/v1", "j", "rows", "r")),
    ],
    ids=["part key", "manifest body", "grant", "head", "acknowledgement", "result", "result key"],
)
def test_a_context(context, parts):
    """Associated data is the length-prefixed list that its definition names, version first."""
    assert context == prefixed(*parts)


def test_digests_and_signed_bytes():
    """A manifest's digest, a tagged digest and DSSE's encoding are those of their definitions."""
    assert manifest_digest(b"payload") == sha256(prefixed("securemllib/manifest/v1", b"payload")).digest()
    assert digest("tag", "text", 1, b"bytes") == sha256(prefixed("tag", "text", 1, b"bytes")).digest()
    # The example of the DSSE specification's protocol document.
    example = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert example == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


@pytest.mark.parametrize(
    ("value", "encoding"),
    [
        # RFC 8949 appendix A, the values that our messages may hold.
        (0, "00"), (23, "17"), (24, "1818"), (1000000000000, "1b000000e8d4a51000"), (18446744073709551615, "1bffffffffffffffff"),
        (-18446744073709551616, "3bffffffffffffffff"), (-1, "20"), (0.0, "f90000"), (-0.0, "f98000"), (1.1, "fb3ff199999999999a"),
        (1.5, "f93e00"), (65504.0, "f97bff"), (100000.0, "fa47c35000"), (1e300, "fb7e37e43c8800759c"), (5.960464477539063e-8, "f90001"),
        (float("inf"), "f97c00"), (float("nan"), "f97e00"), (float("-inf"), "f9fc00"), (False, "f4"), (True, "f5"), (None, "f6"),
        (b"", "40"), (b"\x01\x02\x03\x04", "4401020304"), ("", "60"), ("IETF", "6449455446"), ("\u00fc", "62c3bc"), ("\u6c34", "63e6b0b4"),
        ([], "80"), ([1, [2, 3], [4, 5]], "8301820203820405"), ({}, "a0"), ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
        # RFC 8949 section 4.2.1: keys in the order of their encodings, so shorter texts come first.
        ({"aa": 2, "b": 1}, "a261620162616102"),
    ],
    ids=lambda value: repr(value)[:24],
)  # fmt: skip
def test_the_encoding_of_a_value(value, encoding):
    """A value has the encoding that RFC 8949's appendix A gives."""
    assert encode(value).hex() == encoding


def test_a_frame():
    """A frame is the magic, both lengths, the record and the payload."""

    class Sink:
        def __init__(self):
            self.sent = b""

        def sendall(self, data):
            self.sent += bytes(data)

        def recv_into(self, buffer):
            return 0

    sink = Sink()
    send(sink, NeedPart(ordinal=1), b"payload")
    header = bytes.fromhex("a26140696e6565642d70617274676f7264696e616c01")
    assert sink.sent == b"SML1" + len(header).to_bytes(4, "big") + (7).to_bytes(8, "big") + header + b"payload"
