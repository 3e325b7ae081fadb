"""Token: format-preserving encryption of texts, FF1 with AES-256 (NIST SP 800-38G).

The characters of the alphabet are encrypted among themselves and every other character, like the dashes of a telephone number, stays where
it is: a token looks like what it stands for and fits where that fits. Equal texts have equal tokens. Texts with fewer than a million
possibilities of their length are refused.

Answers: equality: filters (=, IN), joins within a join group, GROUP BY, DISTINCT, COUNT; storage and programs that check formats.
Reveals: which rows are equal, so how often each text occurs; its length, which characters are of the alphabet, and all others as they are;
where nulls are. Whoever knows how frequent the texts are in general recognises the frequent ones.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from securemllib.crypto.encodings.ff1 import FF1
from securemllib.crypto.encodings.values import is_text, literal, nulls, single
from securemllib.crypto.keys import DataKey
from securemllib.errors import DataError

__all__ = ["decode", "encode", "encode_literal"]

_CHUNK = 2**15
_OTHER = 255


def encode(key: DataKey, array: pa.Array | pa.ChunkedArray, *, alphabet: str) -> pa.Array:
    """Return the tokens of a column of texts; null where it is.

    Args:
        key: The column's key.
        array: Texts.
        alphabet: The ASCII characters that are encrypted.

    Raises:
        DataError: The column holds no texts, or one has too few or too many characters of the alphabet.
    """
    return _translated(key, single(array), alphabet, is_forward=True)


def decode(key: DataKey, codes: pa.Array | pa.ChunkedArray, *, alphabet: str) -> pa.Array:
    """Return the texts that have these tokens. Every text is somebody's token, so nothing is noticed with another key."""
    return _translated(key, single(codes), alphabet, is_forward=False)


def encode_literal(key: DataKey, value: object, *, alphabet: str) -> str:
    """Return the token of a text, for an equality in a query."""
    return str(encode(key, literal(value, pa.string()), alphabet=alphabet)[0].as_py())


def _translated(key: DataKey, texts: pa.Array, alphabet: str, *, is_forward: bool) -> pa.Array:
    if not is_text(texts.type):
        raise DataError(f"A column of {texts.type} has no tokens: they stand for texts.", next_step="Cast it to string.", code="data.type")
    cipher = FF1(key.expose(), len(alphabet))
    walk = cipher.encrypt if is_forward else cipher.decrypt
    letters = np.frombuffer(alphabet.encode("ascii"), np.uint8)
    numeral_of = np.full(256, _OTHER, np.uint8)
    numeral_of[letters] = np.arange(len(letters), dtype=np.uint8)
    dense = pa.concat_arrays([texts.cast(pa.string())])  # starts at offset 0 and holds its own characters only
    offsets = np.frombuffer(dense.buffers()[1], np.int32, len(dense) + 1).astype(np.int64) if len(dense) else np.zeros(1, np.int64)
    characters = np.frombuffer(dense.buffers()[2] or b"", np.uint8).copy()
    for positions in _groups(offsets, nulls(dense), characters, numeral_of):
        characters[positions] = letters[walk(numeral_of[characters[positions]])]
    return pa.Array.from_buffers(
        pa.string(), len(dense), [dense.buffers()[0], dense.buffers()[1], pa.py_buffer(characters)], dense.null_count
    )


def _groups(
    offsets: NDArray[np.int64], where: NDArray[np.bool_] | None, characters: NDArray[np.uint8], numeral_of: NDArray[np.uint8]
) -> Iterator[NDArray[np.int64]]:
    """Yield ``(rows, n)`` positions of the characters to encrypt, of rows that have them in the same places."""
    lengths = np.diff(offsets)
    if where is not None:
        lengths[where] = -1
    for start in range(0, len(lengths), _CHUNK):
        chunk = lengths[start : start + _CHUNK]
        for length in np.unique(chunk[chunk >= 0]):
            rows = np.flatnonzero(chunk == length) + start
            positions = offsets[rows][:, None] + np.arange(length)
            own = numeral_of[characters[positions]] != _OTHER
            if np.all(own):
                yield positions
                continue
            patterns, members = np.unique(own, axis=0, return_inverse=True)
            for ordinal, pattern in enumerate(patterns):
                yield positions[members == ordinal][:, pattern]
