"""Deterministic: equal values have equal codes, and nothing else of them is told.

A number is one AES-256 block (FIPS 197) of its 64-bit word and a 64-bit tag of its kind: a permutation of 128-bit blocks, so different
values have different codes, and a code that was not made with the key decodes to a wrong tag and is refused. The block is stored as two
BIGINT halves, which Spark groups and joins as fast as plain numbers. A text is AES-SIV (RFC 5297) of its UTF-8, padded to whole blocks of
16 bytes (ISO/IEC 7816-4), once for each distinct text: the synthetic IV is the two halves, and the ciphertext stands beside them for
whoever may open it.

Answers: equality: filters (=, IN), joins within a join group, GROUP BY, DISTINCT, COUNT.
Reveals: which rows are equal, so how often each value occurs; where nulls are; of texts also the length in steps of 16 bytes. Whoever
knows how frequent the values are in general recognises the frequent ones: with few distinct values that is every row.
"""

from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from numpy.typing import NDArray

from securemllib.crypto.encodings.blocks import BLOCK, Permutation
from securemllib.crypto.encodings.values import TEXT, Words, from_words, is_text, kind_of, literal, nulls, single, to_words, with_nulls
from securemllib.crypto.keys import DataKey
from securemllib.errors import IntegrityError

__all__ = ["NUMBER_FIELDS", "TEXT_FIELDS", "decode", "encode", "encode_literal"]

NUMBER_FIELDS = ("hi", "lo")
TEXT_FIELDS = ("hi", "lo", "text")

_SIV_KEY_BYTES = 64
_END = b"\x80"
# Blocks that are made and encrypted at once stay in a core's cache.
_CHUNK = 2**15


def encode(key: DataKey, array: pa.Array | pa.ChunkedArray) -> pa.StructArray:
    """Return the codes of a column: structs of ``hi`` and ``lo`` (int64), and ``text`` (binary) where it holds texts; null where it is.

    Raises:
        DataError: The type or a value has no deterministic code.
    """
    values = single(array)
    where = nulls(values)
    if is_text(values.type):
        return _encode_texts(key, values, where)
    blocks = _permuted(key, to_words(values), kind_of(values.type))
    return _struct([with_nulls(np.ascontiguousarray(blocks[:, half]), where) for half in (0, 1)], NUMBER_FIELDS, where)


def decode(key: DataKey, codes: pa.StructArray | pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    """Return the column of a type that has these codes.

    Raises:
        IntegrityError: A code was not made with this key from a value of this type's kind.
    """
    found = single(codes)
    where = nulls(found)
    fields = dict(zip((field.name for field in found.type), found.flatten(), strict=True))
    halves = np.stack([fields[name].fill_null(0).to_numpy() for name in NUMBER_FIELDS], axis=1)
    if is_text(kind):
        return _decode_texts(key, halves, fields["text"]).cast(kind)
    opened = Permutation(key.expose()).decrypt(halves).view(np.int64)
    wrong = opened[:, 1] != _tag(kind_of(kind))
    if np.any(wrong if where is None else wrong & ~where):
        raise IntegrityError(f"{int(np.count_nonzero(wrong))} of {len(found)} codes are not of this key.", code="integrity.encoding")
    return from_words(np.ascontiguousarray(opened[:, 0]), where, kind)


def encode_literal(key: DataKey, value: object, kind: pa.DataType) -> dict[str, int]:
    """Return the two halves that a value of a column's type has there, for an equality in a query."""
    (code,) = encode(key, literal(value, kind)).to_pylist()
    return {name: code[name] for name in NUMBER_FIELDS}


def _permuted(key: DataKey, words: Words, kind: str) -> NDArray[np.int64]:
    """Return ``(n, 2)`` halves."""
    permutation, codes = Permutation(key.expose()), np.empty((len(words), 2), np.int64)
    blocks = np.full((min(_CHUNK, len(words)), 2), _tag(kind))
    for start in range(0, len(words), _CHUNK):
        part = words[start : start + _CHUNK]
        blocks[: len(part), 0] = part
        codes[start : start + len(part)] = permutation.encrypt(blocks[: len(part)]).view(np.int64)
    return codes


def _tag(kind: str) -> int:
    return int(np.frombuffer(sha256(f"securemllib/deterministic/{kind}".encode()).digest(), np.int64)[0])


def _siv(key: DataKey) -> AESSIV:
    return AESSIV(key.derive_bytes(_SIV_KEY_BYTES, "securemllib/deterministic/text/v1"))


def _encode_texts(key: DataKey, values: pa.Array, where: NDArray[np.bool_] | None) -> pa.StructArray:
    cipher, encoded = _siv(key), values.dictionary_encode()
    messages = [cipher.encrypt(_padded(text.encode()), [TEXT.encode()]) for text in encoded.dictionary.to_pylist()]
    halves = np.frombuffer(b"".join(message[:BLOCK] for message in messages), np.int64).reshape(-1, 2)
    distinct = [np.ascontiguousarray(halves[:, 0]), np.ascontiguousarray(halves[:, 1])]
    texts = pa.array([message[BLOCK:] for message in messages], pa.binary())
    columns = [pa.array(half).take(encoded.indices) for half in distinct]
    return _struct([*columns, texts.take(encoded.indices)], TEXT_FIELDS, where)


def _decode_texts(key: DataKey, halves: NDArray[np.int64], texts: pa.Array) -> pa.Array:
    cipher = _siv(key)
    tags = pa.FixedSizeBinaryArray.from_buffers(pa.binary(BLOCK), len(halves), [None, pa.py_buffer(np.ascontiguousarray(halves))])
    messages = pc.binary_join_element_wise(tags.cast(pa.binary()), texts, pa.scalar(b"", pa.binary())).dictionary_encode()
    try:
        opened = [_unpadded(cipher.decrypt(message, [TEXT.encode()])).decode() for message in messages.dictionary.to_pylist()]
    except (InvalidTag, ValueError):
        raise IntegrityError(f"Codes among {len(halves)} texts are not of this key.", code="integrity.encoding") from None
    return pa.array(opened, pa.string()).take(messages.indices)


def _padded(text: bytes) -> bytes:
    return text + _END + bytes(-(len(text) + 1) % BLOCK)


def _unpadded(text: bytes) -> bytes:
    return text[: text.rindex(_END)]


def _struct(columns: list[pa.Array], names: tuple[str, ...], where: NDArray[np.bool_] | None) -> pa.StructArray:
    return pa.StructArray.from_arrays(columns, names=list(names), mask=None if where is None else pa.array(where))
