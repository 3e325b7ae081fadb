"""Do our primitives compute what the published standards say?

Vectors come from pyca's `cryptography_vectors` package, which keeps the files of the bodies that published them.
"""

import hmac
import json
from hashlib import sha256, shake_256

import cryptography_vectors
import pytest
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from securemllib.crypto.aead import OVERHEAD, seal
from securemllib.crypto.identity import PrivateIdentity, verify
from securemllib.crypto.keys import DataKey
from securemllib.crypto.wrapping import RecipientKey
from securemllib.errors import SignatureError, UnsealError
from securemllib.wire.encoding import length_prefixed
from securemllib.wire.task import NeedPart

# HPKE identifiers (RFC 9180 section 7): ML-KEM-768 with X25519, HKDF-SHA256, AES-256-GCM, ChaCha20-Poly1305.
KEM, KDF, AES_256_GCM, CHACHA20 = 0x647A, 0x0001, 0x0002, 0x0003
# Blocks of SHA-256 output (RFC 5869 section 2.3).
HASH_BYTES = 32


def responses(name):
    """Return the cases of a NIST or RFC response file, as dicts, with the section's settings in each."""
    with cryptography_vectors.open_vector_file(name, "r") as file:
        lines = [line.strip() for line in file]
    section, case, cases = {}, {}, []
    for line in [*lines, "COUNT = end"]:
        if line.startswith("[") and "=" in line:
            key, value = line.strip("[]").split(" = ")
            section[key.strip()] = value.strip()
        elif "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            if key.strip().upper() == "COUNT":
                cases += [{**case}] if len(case) > len(section) + 1 else []
                case = dict(section)
            case[key.strip()] = value.strip()
        elif line == "FAIL":
            case["FAIL"] = "yes"
    return cases


def expand(pseudo_random_key, info, length):
    """Return HKDF-Expand by its definition (RFC 5869 section 2.3), with nothing but HMAC."""
    block, output = b"", b""
    for counter in range(1, -(-length // HASH_BYTES) + 1):
        block = hmac.digest(pseudo_random_key, block + info + bytes([counter]), sha256)
        output += block
    return output[:length]


def extract(salt, keying_material):
    """Return HKDF-Extract (RFC 5869 section 2.2)."""
    return hmac.digest(salt or bytes(HASH_BYTES), keying_material, sha256)


def key_schedule(aead, shared_secret, info):
    """Return key and base nonce of HPKE's base mode by RFC 9180 section 5.1, written from the text as an oracle."""
    suite = b"HPKE" + b"".join(value.to_bytes(2, "big") for value in (KEM, KDF, aead))

    def labeled_extract(salt, label, keying_material):
        return extract(salt, b"HPKE-v1" + suite + label + keying_material)

    def labeled_expand(secret, label, context, length):
        return expand(secret, length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + context, length)

    context = b"\x00" + labeled_extract(b"", b"psk_id_hash", b"") + labeled_extract(b"", b"info_hash", info)
    secret = labeled_extract(shared_secret, b"secret", b"")
    return labeled_expand(secret, b"key", context, 32), labeled_expand(secret, b"base_nonce", context, 12)


@pytest.mark.parametrize("case", [case for case in responses("KDF/rfc-5869-HKDF-SHA256.txt") if "PRK" in case], ids=lambda case: case["L"])
def test_the_oracle_for_derivation_is_rfc_5869s(case):
    """The HKDF that these tests measure ours by gives the RFC's pseudo-random keys and output."""
    salt, material, info = (bytes.fromhex(case[name]) for name in ("salt", "IKM", "info"))
    assert extract(salt, material).hex() == case["PRK"]
    assert expand(bytes.fromhex(case["PRK"]), info, int(case["L"])).hex() == case["OKM"]


@pytest.mark.parametrize("length", [1, 32, 33, 64, 255])
def test_keys_are_derived_as_rfc_5869_says(length):
    """A derived key is HKDF-Expand over the length-prefixed purpose and context, for RFC 5869's first pseudo-random key."""
    case = responses("KDF/rfc-5869-HKDF-SHA256.txt")[0]
    secret = bytes.fromhex(case["PRK"])
    context = length_prefixed("purpose", b"context", 7)
    assert DataKey(secret).derive_bytes(length, "purpose", b"context", 7) == expand(secret, context, length)
    assert DataKey(secret).derive("purpose", b"context", 7).expose() == expand(secret, context, 32)


def gcm_cases(name):
    """Return NIST's cases with a 96-bit nonce and a full tag, as our envelopes have."""
    return [case for case in responses(f"ciphers/AES/GCM/{name}") if case["IVlen"] == "96" and case["Taglen"] == "128"]


def test_aes_gcm_encrypts_as_nist_says():
    """AES-256-GCM gives NIST's ciphertext and tag in every case with our nonce and tag sizes."""
    cases = gcm_cases("gcmEncryptExtIV256.rsp")
    assert len(cases) > 100
    for case in cases:
        key, nonce, plaintext, associated = (bytes.fromhex(case[name]) for name in ("Key", "IV", "PT", "AAD"))
        out = bytearray(len(plaintext) + 16)
        AESGCM(key).encrypt_into(nonce, plaintext, associated, out)
        assert out.hex() == case["CT"] + case["Tag"]


def test_aes_gcm_refuses_what_nist_says():
    """AES-256-GCM opens NIST's genuine messages and refuses each that NIST marks as forged."""
    genuine = forged = 0
    for case in gcm_cases("gcmDecrypt256.rsp"):
        key, nonce, associated = (bytes.fromhex(case[name]) for name in ("Key", "IV", "AAD"))
        message = bytes.fromhex(case["CT"] + case["Tag"])
        out = bytearray(len(message) - 16)
        if "FAIL" in case:
            with pytest.raises(InvalidTag):
                AESGCM(key).decrypt_into(nonce, message, associated, out)
            forged += 1
        else:
            AESGCM(key).decrypt_into(nonce, message, associated, out)
            assert out.hex() == case["PT"]
            genuine += 1
    assert genuine > 50
    assert forged > 50


def test_an_envelope_is_aes_gcm_under_the_derived_key():
    """An envelope opens with plain AES-256-GCM under the key that HKDF-Expand gives for its salt, and carries that key's commitment."""
    key = DataKey(bytes(range(32)))
    envelope = seal(key, b"context", b"plaintext")
    derived = expand(key.expose(), length_prefixed("securemllib/seal/v1", envelope[1:33]), 64)
    assert envelope[33:65] == derived[32:]
    assert AESGCM(derived[:32]).decrypt(bytes(12), envelope[65:], b"context") == b"plaintext"
    assert len(envelope) == len(b"plaintext") + OVERHEAD


def hpke_vector():
    """Return the published vector of our KEM and KDF."""
    with cryptography_vectors.open_vector_file("HPKE/hpke-pq-test-vectors.json", "r") as file:
        return next(vector for vector in json.load(file) if (vector["kem_id"], vector["kdf_id"]) == (KEM, KDF))


def test_wrapping_opens_what_the_hpke_vectors_say():
    """Our recipient key opens the published encapsulation, under AES-256-GCM keys scheduled by RFC 9180 from the published secret.

    The published vector of this KEM has another AEAD; the schedule is checked against its keys before it is used for ours.
    """
    vector = hpke_vector()
    info, shared, encapsulated = (bytes.fromhex(vector[name]) for name in ("info", "shared_secret", "enc"))
    key, nonce = key_schedule(vector["aead_id"], shared, info)
    assert (key.hex(), nonce.hex()) == (vector["key"], vector["base_nonce"])
    # The KEM's private key is a seed that SHAKE256 expands into both halves (draft-connolly-cfrg-xwing-kem section 5.2).
    recipient = RecipientKey.from_secret(shake_256(bytes.fromhex(vector["skRm"])).digest(RecipientKey.SECRET_BYTES))
    assert recipient.public_bytes.hex() == vector["pkRm"]
    key, nonce = key_schedule(AES_256_GCM, shared, info)
    wrapped = encapsulated + AESGCM(key).encrypt(nonce, b"a wrapped key", b"")
    assert recipient.unwrap(wrapped, info) == b"a wrapped key"
    with pytest.raises(UnsealError):
        recipient.unwrap(wrapped, info + b"x")
    with pytest.raises(UnsealError):
        recipient.unwrap(encapsulated + AESGCM(key_schedule(CHACHA20, shared, info)[0]).encrypt(nonce, b"a wrapped key", b""), info)


def test_signatures_are_ed25519_over_the_pre_authentication_encoding():
    """RFC 8032's third test key has the RFC's public key, and signs DSSE's encoding as any Ed25519 verifier checks it."""
    secret = bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7")
    identity = PrivateIdentity.from_secret("rfc8032", secret + RecipientKey.generate().expose())
    assert identity.public.verification_key.hex() == "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"
    record = NeedPart(ordinal=1)
    signed = identity.sign(record)
    key = Ed25519PublicKey.from_public_bytes(identity.public.verification_key)
    key.verify(signed.signature, b"DSSEv1 9 need-part %d %b" % (len(record.to_bytes()), record.to_bytes()))
    with pytest.raises(InvalidSignature):
        key.verify(signed.signature, record.to_bytes())
    assert verify(signed, NeedPart, identity.public) == record
    with pytest.raises(SignatureError):
        verify(signed, NeedPart, PrivateIdentity.generate("other").public)
