"""Homomorphic: CKKS (Cheon, Kim, Kim, Song, ASIACRYPT 2017) by TenSEAL on Microsoft SEAL, for sums and linear scores on ciphertexts.

Values are packed 4,088 to a ciphertext, beside eight guard slots whose numbers the recipient knows. Whoever has the public part adds
ciphertexts and multiplies them with plain numbers; the secret part opens the result, which is approximate. The guards went the same way and
their true result is known, so their error is measured, and a result beyond the bound is refused. The guards of a column's blocks are
pseudo-random under the column's key, each block's its own: a sum in which a block was replaced, left out or added twice is refused too.

Answers: SUM, AVG and COUNT, of chosen rows and by group where other columns choose and group them, and linear scores; approximately.
Reveals: where nulls are, and nothing else, as long as no opened result goes back to whoever computed it: CKKS results carry the key's noise
(Li and Micciancio, EUROCRYPT 2021), so results are for their recipient alone.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from securemllib.crypto.aead import seal, unseal
from securemllib.crypto.encodings.values import nulls, single
from securemllib.crypto.keys import DataKey
from securemllib.errors import DataError, IntegrityError, UsageError

__all__ = ["BLOCK_ROWS", "GUARDS", "GUARD_SLOTS", "LIMIT", "PRECISION", "SecretContext", "block_guards"]

# 128-bit security at degree 8192 allows 218 bits of modulus (HomomorphicEncryption.org standard, 2018, table 1); 120 for a ciphertext and
# 60 that only keys have serve one product, whose scale is 2**80: without rescaling it holds up to 2**39.
_DEGREE = 8192
_MODULUS_BITS = (60, 60, 60)
_SCALE_BITS = 40
GUARD_SLOTS = 8
BLOCK_ROWS = _DEGREE // 2 - GUARD_SLOTS
# A fresh ciphertext's error is about 2**-27, and a product's with a plain number that and about 2**-33 of the value.
PRECISION = 2.0**-16
# A masked sum holds 2**9 blocks full of such numbers, a sum of whole blocks 2**49.
LIMIT = 2.0**30
# Doubles encode and decode a result, so each slot is off by about 2**-52 of the largest one. Guards that are off by more than the most are
# those of other blocks: eight of them come so near to others by chance once in 2**64 times.
_ROUNDING, _MOST = 2.0**-49, 2.0**-9
# What the guard slots hold where blocks have none of their own.
GUARDS = np.repeat([0.0, 1.0], GUARD_SLOTS // 2)
_GUARD_PURPOSE = "securemllib/encoding/ckks-guards/v1"
_WORD = 2.0**64


class SecretContext:
    """A CKKS key pair of one column: encrypts its blocks and opens results."""

    def __init__(self, context: Any) -> None:
        self._context = context

    @classmethod
    def generate(cls) -> "SecretContext":
        """Return a fresh key pair."""
        tenseal = _tenseal()
        # The owner alone encrypts, so the secret key does: it is faster than a public one, and its noise is smaller.
        symmetric = tenseal.ENCRYPTION_TYPE.SYMMETRIC
        context = tenseal.context(
            tenseal.SCHEME_TYPE.CKKS, _DEGREE, coeff_mod_bit_sizes=list(_MODULUS_BITS), encryption_type=symmetric, n_threads=1
        )
        context.global_scale = 2.0**_SCALE_BITS
        # Nothing here is more than one product deep, so no product is brought back to the scale of its factors, which costs precision.
        context.auto_rescale = False
        return cls(context)

    @classmethod
    def unseal(cls, key: DataKey, context: bytes, envelope: bytes) -> "SecretContext":
        """Return the key pair that `seal` put into an envelope."""
        return cls(_tenseal().context_from(unseal(key, context, envelope)))

    def seal(self, key: DataKey, context: bytes) -> bytes:
        """Return the key pair in an envelope that only the column's key opens."""
        return seal(key, context, self._context.serialize(save_secret_key=True))

    def public(self) -> bytes:
        """Return what a host needs to add and to multiply with plain numbers: parameters, and no key."""
        return bytes(self._context.serialize(save_public_key=False, save_secret_key=False, save_galois_keys=False, save_relin_keys=False))

    def encode(self, array: pa.Array | pa.ChunkedArray, guards: Callable[[int], NDArray[np.float64]] = lambda _: GUARDS) -> pa.StructArray:
        """Return the ciphertexts of a column: structs of ``rows`` (int64), ``present`` (a bit a row, lowest first) and ``ciphertext``.

        Args:
            array: The column.
            guards: Returns what the guard slots of a block hold, whose first value has that index.

        Raises:
            DataError: The column holds no numbers, or one beyond 2**30 or not finite.
        """
        values = single(array)
        if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_decimal(values.type)):
            raise DataError(f"A column of {values.type} holds no numbers to compute with.", code="data.type")
        where = nulls(values)
        numbers = np.asarray(values.cast(pa.float64()).fill_null(0.0).to_numpy(), np.float64)
        if not np.all(np.abs(numbers) <= LIMIT):
            raise DataError("A homomorphic column holds a number beyond 2**30, or none.", next_step="Rescale it.", code="data.range")
        present = np.ones(len(numbers), bool) if where is None else ~where
        starts = range(0, len(numbers), BLOCK_ROWS)
        blocks = [self._encrypt(numbers[start : start + BLOCK_ROWS], guards(start)) for start in starts]
        bitmaps = [np.packbits(present[start : start + BLOCK_ROWS], bitorder="little").tobytes() for start in starts]
        rows = [min(BLOCK_ROWS, len(numbers) - start) for start in starts]
        columns = [pa.array(rows, pa.int64()), pa.array(bitmaps, pa.binary()), pa.array(blocks, pa.large_binary())]
        return pa.StructArray.from_arrays(columns, names=["rows", "present", "ciphertext"])

    def decode(self, blocks: pa.StructArray, guards: Callable[[int], NDArray[np.float64]] = lambda _: GUARDS) -> pa.Array:
        """Return the doubles of a column's ciphertexts, null where the column is; ``guards`` is as it was for `encode`."""
        counts = np.asarray([block["rows"].as_py() for block in blocks], np.int64)
        starts = (np.cumsum(counts) - counts).tolist()
        found = [
            self.open(block["ciphertext"].as_py(), guards=guards(start))[:count]
            for block, start, count in zip(blocks, starts, counts, strict=True)
        ]
        bits = [np.unpackbits(np.frombuffer(block["present"].as_py(), np.uint8), bitorder="little") for block in blocks]
        present = [part[: len(values)] for part, values in zip(bits, found, strict=True)]
        return pa.array(np.concatenate([np.empty(0), *found]), mask=np.concatenate([np.empty(0, np.uint8), *present]) == 0)

    def open(
        self, ciphertext: bytes, *, weight: float = 1.0, guards: NDArray[np.float64] = GUARDS, precision: float = PRECISION
    ) -> NDArray[np.float64]:
        """Return the 4,088 slots of a result.

        Args:
            ciphertext: The result, from the host.
            weight: What the computation makes of 1: of a sum the number of blocks, of a score the sum of its weights.
            guards: What the guard slots of its blocks hold together, where blocks have guards of their own.
            precision: How far the guards may be off, beside what rounding of the largest slot leaves in all of them.

        Raises:
            IntegrityError: The result is none of this key's, or its error exceeds what is allowed.
        """
        if not isinstance(ciphertext, bytes):
            raise IntegrityError(f"A {type(ciphertext).__name__} is no ciphertext.", code="integrity.encoding")
        try:
            slots = np.asarray(_tenseal().ckks_vector_from(self._context, ciphertext).decrypt(), np.float64)
        except (ValueError, RuntimeError):
            raise IntegrityError(f"{len(ciphertext)} bytes are no ciphertext of this key.", code="integrity.encoding") from None
        whole = len(slots) == BLOCK_ROWS + GUARD_SLOTS
        error = np.abs(slots[BLOCK_ROWS:] - weight * guards).max() / max(1.0, abs(weight)) if whole else np.inf
        allowed = min(precision + np.abs(slots).max(initial=0.0) / max(1.0, abs(weight)) * _ROUNDING, _MOST)
        if not error <= allowed:
            raise IntegrityError(
                f"A CKKS result is off by {error:.1g}, and {allowed:.1g} is allowed.",
                next_step="Compute it again, from the blocks that it is of, and do less with one ciphertext.",
                code="integrity.precision",
            )
        return slots[:BLOCK_ROWS]

    def _encrypt(self, numbers: NDArray[np.float64], guards: NDArray[np.float64]) -> bytes:
        slots = np.zeros(BLOCK_ROWS + GUARD_SLOTS)
        slots[BLOCK_ROWS:] = guards
        slots[: len(numbers)] = numbers
        return bytes(_tenseal().ckks_vector(self._context, slots).serialize())


def block_guards(key: DataKey, first_row: int) -> NDArray[np.float64]:
    """Return what the guard slots of a column's block hold, whose first row has that number: from 0 to 1, and known to the key alone."""
    words = np.frombuffer(key.derive_bytes(8 * GUARD_SLOTS, _GUARD_PURPOSE, first_row), "<u8")
    return words.astype(np.float64) / _WORD


def _tenseal() -> Any:
    try:
        import tenseal
    except ImportError:
        raise UsageError(
            "Homomorphic columns need TenSEAL.", next_step="Install securemllib[homomorphic].", code="usage.missing_package"
        ) from None
    return tenseal
