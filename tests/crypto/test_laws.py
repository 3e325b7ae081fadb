"""Do keys, envelopes, wrapped keys and signatures do what they promise, for every input?"""

import copy
import pickle
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from securemllib.crypto import aead
from securemllib.crypto.aead import OVERHEAD, seal, unseal, unseal_into
from securemllib.crypto.identity import PrivateIdentity, verify
from securemllib.crypto.keys import DataKey
from securemllib.crypto.wrapping import RecipientKey, wrap
from securemllib.errors import FormatError, IntegrityError, SignatureError, UnsealError
from securemllib.wire.signed import Signed
from securemllib.wire.task import NeedPart, PartBytes

SECRETS = st.binary(min_size=32, max_size=32)
TEXTS = st.binary(max_size=200)
RECIPIENT, OTHER_RECIPIENT = RecipientKey.generate(), RecipientKey.generate()
SIGNER, OTHER_SIGNER = PrivateIdentity.generate("signer"), PrivateIdentity.generate("other")


def flipped(data, position, bit):
    """Return the bytes with one bit changed."""
    index = int(position * len(data))
    return data[:index] + bytes([data[index] ^ (1 << bit)]) + data[index + 1 :]


POSITIONS = {"position": st.floats(0, 1, exclude_max=True), "bit": st.integers(0, 7)}


# Envelopes ------------------------------------------------------------------------------------------------------------------------


@given(secret=SECRETS, context=TEXTS, plaintext=TEXTS)
def test_what_was_sealed_unseals(secret, context, plaintext):
    """The same key and context give the plaintext back, from bytes and from a view, at a fixed overhead."""
    envelope = seal(DataKey(secret), context, plaintext)
    assert unseal(DataKey(secret), context, envelope) == plaintext
    assert unseal(DataKey(secret), context, memoryview(envelope)) == plaintext
    assert len(envelope) == len(plaintext) + OVERHEAD


@given(secret=SECRETS, context=TEXTS, plaintext=TEXTS, **POSITIONS)
def test_any_flipped_bit_of_an_envelope_is_refused(secret, context, plaintext, position, bit):
    """No bit of an envelope can change."""
    envelope = seal(DataKey(secret), context, plaintext)
    with pytest.raises(UnsealError):
        unseal(DataKey(secret), context, flipped(envelope, position, bit))


@given(secret=SECRETS, other=SECRETS, context=TEXTS, other_context=TEXTS, plaintext=TEXTS)
def test_another_key_or_context_is_refused(secret, other, context, other_context, plaintext):
    """An envelope opens under its own key in its own context only."""
    envelope = seal(DataKey(secret), context, plaintext)
    if other != secret:
        with pytest.raises(UnsealError):
            unseal(DataKey(other), context, envelope)
    if other_context != context:
        with pytest.raises(UnsealError):
            unseal(DataKey(secret), other_context, envelope)


@given(junk=st.binary(max_size=200), secret=SECRETS, cut=st.integers(1, OVERHEAD))
def test_bytes_that_are_no_envelope_are_refused(junk, secret, cut):
    """Invented bytes and cut or extended envelopes are refused, never read past their end."""
    envelope = seal(DataKey(secret), b"", b"x")
    for data in (junk, envelope[:-cut], envelope[cut:], envelope + junk[:1] + b"x", b"\x01" + junk):
        with pytest.raises(UnsealError):
            unseal(DataKey(secret), b"", data)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_buffer_of_another_size_is_refused(change):
    """Whoever opens into a buffer says how long the plaintext is: a host's envelope of another length is refused, not a crash."""
    key = DataKey.generate()
    envelope = seal(key, b"c", bytes(64))
    buffer = bytearray(64)
    unseal_into(key, b"c", envelope, memoryview(buffer))
    with pytest.raises(UnsealError):
        unseal_into(key, b"c", envelope, memoryview(bytearray(64 + change)))


def test_one_plaintext_twice_gives_unrelated_envelopes():
    """Each message has its own salt, commitment and ciphertext, so equal plaintexts cannot be seen."""
    key = DataKey.generate()
    first, second = seal(key, b"c", bytes(64)), seal(key, b"c", bytes(64))
    assert first[1:33] != second[1:33]
    assert first[33:65] != second[33:65]
    assert first[65:] != second[65:]


def test_an_envelope_commits_to_its_key(monkeypatch):
    """A ciphertext that AES-GCM itself accepts under a second key is refused there, because the commitment is the first key's.

    GCM commits to no key. The strongest such ciphertext is crafted here: both keys lead to one and the same GCM key, as an attacker
    who solved for a colliding ciphertext could have it, and only the commitments differ.
    """
    shared = AESGCM(bytes(32))
    first, second = DataKey(b"a" * 32), DataKey(b"b" * 32)
    honest = aead._message_key

    def colliding(key, salt):
        return shared, honest(key, salt)[1]

    monkeypatch.setattr(aead, "_message_key", colliding)
    envelope = seal(first, b"c", b"plaintext")
    assert shared.decrypt(bytes(12), envelope[65:], b"c") == b"plaintext"
    assert unseal(first, b"c", envelope) == b"plaintext"
    with pytest.raises(UnsealError, match="another key"):
        unseal(second, b"c", envelope)


# Keys -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [DataKey(b"k" * 32), RECIPIENT, SIGNER], ids=lambda key: type(key).__name__)
@pytest.mark.parametrize("leak", [pickle.dumps, copy.copy, copy.deepcopy], ids=lambda leak: leak.__name__)
def test_a_key_cannot_be_pickled_or_copied(key, leak):
    """A closure that captures a key fails loudly, alone and inside a container."""
    for holder in (key, [key], {"key": key}):
        if leak is copy.copy and holder is not key:
            continue
        with pytest.raises(TypeError, match="cannot be"):
            leak(holder)


@pytest.mark.parametrize("key", [DataKey(b"k" * 32), RECIPIENT, SIGNER], ids=lambda key: type(key).__name__)
def test_a_printed_key_shows_no_secret(key):
    """No text form of a key holds a byte of it in any usual notation, and it has no attribute dictionary to dump."""
    secret = key.expose()
    for text in (repr(key), str(key), f"{key}", repr([key])):
        for shown in (secret.hex(), secret.hex()[:16], repr(secret)[2:10], str(list(secret))[1:20]):
            assert shown not in text
    assert not hasattr(key, "__dict__")


def test_keys_are_not_compared():
    """Comparing data keys raises instead of leaking by time; other keys are equal to nothing but themselves."""
    with pytest.raises(TypeError):
        assert DataKey(b"k" * 32) == DataKey(b"k" * 32)
    with pytest.raises(TypeError):
        hash(DataKey(b"k" * 32))
    assert RecipientKey.from_secret(RECIPIENT.expose()) != RECIPIENT
    assert PrivateIdentity.from_secret("signer", SIGNER.expose()) != SIGNER


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_key_of_another_length_is_refused(length):
    """Only 32 bytes make a data key, and only the right number an identity or recipient key."""
    assert DataKey(bytes(32)).expose() == bytes(32)
    for make in (DataKey, RecipientKey.from_secret, lambda secret: PrivateIdentity.from_secret("x", secret)):
        with pytest.raises(FormatError):
            make(bytes(length))


@given(secret=SECRETS, parts=st.lists(st.text(max_size=5), max_size=4), others=st.lists(st.text(max_size=5), max_size=4))
def test_other_purposes_give_other_keys(secret, parts, others):
    """Two different lists of purpose and context never derive the same key, however their text is split."""
    same = DataKey(secret).derive("p", *parts).expose() == DataKey(secret).derive("p", *others).expose()
    assert same == (parts == others)


def test_exposed_identities_come_back():
    """An identity and a recipient key restored from their secrets have the same public halves."""
    assert PrivateIdentity.from_secret("signer", SIGNER.expose()).public == SIGNER.public
    assert RecipientKey.from_secret(RECIPIENT.expose()).public_bytes == RECIPIENT.public_bytes


# Wrapping -------------------------------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(info=TEXTS, plaintext=TEXTS)
def test_what_was_wrapped_unwraps(info, plaintext):
    """The recipient opens what was wrapped for it in that context."""
    assert RECIPIENT.unwrap(wrap(RECIPIENT.public_bytes, info, plaintext), info) == plaintext


@settings(max_examples=60)
@given(info=TEXTS, other=TEXTS, **POSITIONS)
def test_another_recipient_context_or_bit_is_refused(info, other, position, bit):
    """Wrapped bytes open for nobody else, in no other context, and with no bit changed."""
    wrapped = wrap(RECIPIENT.public_bytes, info, b"key")
    with pytest.raises(UnsealError):
        OTHER_RECIPIENT.unwrap(wrapped, info)
    with pytest.raises(UnsealError):
        RECIPIENT.unwrap(flipped(wrapped, position, bit), info)
    if other != info:
        with pytest.raises(UnsealError):
            RECIPIENT.unwrap(wrapped, other)


@pytest.mark.parametrize(
    "public", [b"", bytes(1215), bytes(1216), b"\xff" * 1216, bytes(1217)], ids=["empty", "short", "zero", "ones", "long"]
)
def test_bytes_that_are_no_public_key_are_refused(public):
    """Keys of another length, out of range, or with which every shared secret would be zero are refused as such."""
    with pytest.raises(FormatError):
        wrap(public, b"", b"key")


# Signatures -----------------------------------------------------------------------------------------------------------------------


@given(ordinal=st.integers(-(2**64), 2**64 - 1))
def test_a_signed_record_verifies(ordinal):
    """The signer's record comes back from its signature."""
    record = NeedPart(ordinal=ordinal)
    assert verify(SIGNER.sign(record), NeedPart, SIGNER.public) == record


@given(field=st.sampled_from(["payload", "signature"]), **POSITIONS)
def test_any_flipped_bit_of_a_signed_record_is_refused(field, position, bit):
    """No bit of payload or signature can change."""
    signed = SIGNER.sign(NeedPart(ordinal=5))
    with pytest.raises(SignatureError):
        verify(replace(signed, **{field: flipped(getattr(signed, field), position, bit)}), NeedPart, SIGNER.public)


def test_another_signer_is_refused():
    """A genuine signature of somebody else is refused, also when it claims to be the expected signer's."""
    signed = OTHER_SIGNER.sign(NeedPart(ordinal=1))
    for claimed in (signed, replace(signed, signer=SIGNER.public.fingerprint)):
        with pytest.raises(SignatureError):
            verify(claimed, NeedPart, SIGNER.public)


def test_a_genuine_signature_counts_under_its_own_name_only():
    """Who reads the signer's name reads who signed: the name beside a genuine signature cannot be exchanged."""
    signed = SIGNER.sign(NeedPart(ordinal=1))
    assert verify(signed, NeedPart, SIGNER.public).ordinal == 1
    with pytest.raises(SignatureError):
        verify(replace(signed, signer=OTHER_SIGNER.public.fingerprint), NeedPart, SIGNER.public)


def test_another_type_is_refused():
    """A record signed as one type does not verify as another with the same fields, also when the type is rewritten."""
    signed = SIGNER.sign(PartBytes(ordinal=1))
    assert verify(signed, PartBytes, SIGNER.public) == PartBytes(ordinal=1)
    for claimed in (signed, replace(signed, payload_type=NeedPart.TYPE)):
        with pytest.raises(SignatureError):
            verify(claimed, NeedPart, SIGNER.public)


def test_a_signature_over_bytes_that_are_no_record_is_a_format_error():
    """A genuine signature does not excuse a payload that is not the record's only encoding."""

    class Odd(NeedPart):
        __slots__ = ()

        def to_bytes(self):
            return NeedPart(ordinal=self.ordinal).to_bytes() + b"\x00"

    with pytest.raises(FormatError):
        verify(SIGNER.sign(Odd(ordinal=1)), NeedPart, SIGNER.public)


@given(junk=st.binary(max_size=300))
def test_invented_bytes_are_no_signed_record(junk):
    """Bytes of a stranger are an integrity error, and nothing else."""
    with pytest.raises(IntegrityError):
        verify(Signed.from_bytes(junk), NeedPart, SIGNER.public)
