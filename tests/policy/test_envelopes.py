"""Is what an envelope holds exactly what was signed, by whom it must be signed?"""

import json
from base64 import b64decode, b64encode

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from securemllib.crypto.identity import PrivateIdentity
from securemllib.errors import FormatError, SecureMLlibError, SignatureError
from securemllib.policy.approval import ReleaseApproval, Revocation
from securemllib.policy.envelope import Envelope, open_envelope, seal_statement, signers_among
from securemllib.policy.model import NamedEnclave, Policy
from securemllib.wire.signed import pre_authentication_encoding

OWNER, OTHER = PrivateIdentity.generate("owner"), PrivateIdentity.generate("other")
POLICY = Policy(
    dataset_id="d" * 32,
    owner=OWNER.public.fingerprint,
    serial=1,
    enclaves={"one": NamedEnclave(measurement="11" * 32, tees=("sgx",))},
    rules=(),
)
SIGNED = seal_statement(POLICY, OWNER)


def test_the_specifications_example() -> None:
    """The envelope of the DSSE specification's protocol document: its encoding is ours, and its published signature fits that encoding."""
    example = {
        "payload": "aGVsbG8gd29ybGQ=",
        "payloadType": "http://example.com/HelloWorld",
        "signatures": [{"keyid": "", "sig": "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="}],
    }
    read = Envelope.from_bytes(json.dumps(example).encode())
    assert (read.payload, read.payload_type) == (b"hello world", "http://example.com/HelloWorld")
    encoded = pre_authentication_encoding(read.payload_type, read.payload)
    assert encoded == read.dsse.pae() == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    x = 46950820868899156662930047687818585632848591499744589407958293238635476079160
    y = 5640078356564379163099075877009565129882514886557779369047442380624545832820
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    raw = b64decode(example["signatures"][0]["sig"])
    signature = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    key.verify(signature, encoded, ec.ECDSA(SHA256()))
    with pytest.raises(InvalidSignature):
        key.verify(signature, encoded + b"!", ec.ECDSA(SHA256()))
    assert json.loads(read.to_bytes()) == example


def test_a_policy_comes_back_as_it_was_signed() -> None:
    """The signer's policy opens, through JSON and with more signatures beside; nobody else's name opens it."""
    both = Envelope.from_bytes(SIGNED.signed_by(OTHER).to_bytes())
    assert open_envelope(SIGNED, Policy, OWNER.public) == open_envelope(both, Policy, OWNER.public) == POLICY
    assert signers_among(both, {OTHER.public.fingerprint: OTHER.public}) == {OTHER.public.fingerprint}
    with pytest.raises(SignatureError):
        open_envelope(SIGNED, Policy, OTHER.public)


def test_a_statement_is_not_taken_for_another() -> None:
    """The type is under the signature: a revocation is no policy, whatever its envelope is made to say."""
    revocation = Revocation(dataset_id="d" * 32, owner=OWNER.public.fingerprint, serial=2)
    signed = seal_statement(revocation, OWNER)
    assert open_envelope(signed, Revocation, OWNER.public) == revocation
    with pytest.raises(SignatureError, match="expected"):
        open_envelope(signed, Policy, OWNER.public)
    renamed = json.loads(signed.to_bytes()) | {"payloadType": SIGNED.payload_type}
    with pytest.raises(SignatureError):
        open_envelope(Envelope.from_bytes(json.dumps(renamed).encode()), Policy, OWNER.public)
    with pytest.raises(FormatError):
        ReleaseApproval.from_json(signed.payload)


@given(st.integers(0, len(SIGNED.payload) - 1), st.integers(0, 7))
def test_any_flipped_bit_is_refused(position: int, bit: int) -> None:
    """No byte of a signed policy can be changed."""
    changed = bytearray(SIGNED.payload)
    changed[position] ^= 1 << bit
    tree = json.loads(SIGNED.to_bytes()) | {"payload": b64encode(bytes(changed)).decode()}
    with pytest.raises(SignatureError):
        open_envelope(Envelope.from_bytes(json.dumps(tree).encode()), Policy, OWNER.public)


@pytest.mark.parametrize(
    "change",
    [
        lambda payload: b" " + payload,
        lambda payload: payload.replace(b'"serial":1', b'"serial":1.0'),
        lambda payload: payload.replace(b'"serial":1', b'"serial":1,"serial":1'),
        lambda payload: payload.replace(b'"rules":[]', b'"rules":[],"more":1'),
        lambda payload: payload.replace(b'"insecure_risk":null,', b""),
        lambda payload: payload.replace(b'"allow_insecure":false', b'"allow_insecure":true'),
        lambda payload: payload.replace(OWNER.public.fingerprint.encode(), b"alice"),
        lambda payload: b"[]",
        lambda payload: b"\xff",
    ],
)
def test_what_is_signed_has_one_encoding(change) -> None:
    """Other JSON of the same policy, unknown fields, missing fields, and what no policy may say are refused although they are signed."""
    payload = change(SIGNED.payload)
    assert payload != SIGNED.payload
    signed = Envelope(type(SIGNED.dsse)(payload, SIGNED.payload_type, {})).signed_by(OWNER)
    with pytest.raises(FormatError):
        open_envelope(signed, Policy, OWNER.public)


@pytest.mark.parametrize(
    "change",
    [
        {"payload": "not base64!"},
        {"payloadType": 1},
        {"payloadType": None},
        {"signatures": []},
        {"signatures": [{"keyid": "k"}]},
        {"signatures": [{"keyid": "k", "sig": "AA==", "more": 1}]},
        {"signatures": [{"keyid": "k", "sig": "AA=="}, {"keyid": "k", "sig": "AA=="}]},
        {"signatures": [{"keyid": str(number), "sig": "AA=="} for number in range(65)]},
        {"more": 1},
    ],
)
def test_an_envelope_that_is_none_is_refused(change: dict[str, object]) -> None:
    """Wrong types, unknown fields, no or too many signatures, and two by one key are refused before anything is verified."""
    tree = json.loads(SIGNED.to_bytes())
    assert Envelope.from_bytes(json.dumps(tree).encode()).signers == (OWNER.public.fingerprint,)
    with pytest.raises(FormatError):
        Envelope.from_bytes(json.dumps({**tree, **change}).encode())


@given(st.binary(max_size=300))
def test_any_bytes_are_an_envelope_or_an_error_of_ours(data: bytes) -> None:
    """Whatever comes, no other exception leaves the reader."""
    with pytest.raises(SecureMLlibError):
        open_envelope(Envelope.from_bytes(data), Policy, OWNER.public)


def test_one_key_under_two_names_is_one_approver() -> None:
    """A quorum whose approvers share a signing key is refused, one of two keys is read."""
    twin = PrivateIdentity(name="twin", signing_key=OTHER._signing_key, recipient=OWNER.recipient)

    def payload(*approvers: PrivateIdentity) -> bytes:
        texts = [b64encode(approver.public.to_bytes()).decode() for approver in approvers]
        tree = json.loads(SIGNED.payload)
        tree["approvals"]["policy_change"] = {"threshold": 2, "approvers": texts}
        return Policy.from_tree(tree).to_json()

    assert Policy.from_json(payload(OTHER, OWNER)).approvals.policy_change is not None
    with pytest.raises(FormatError, match="same key"):
        Policy.from_json(payload(OTHER, twin))
