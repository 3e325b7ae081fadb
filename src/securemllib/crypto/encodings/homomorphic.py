"""Homomorphic: CKKS (Cheon, Kim, Kim, Song, ASIACRYPT 2017) by TenSEAL on Microsoft SEAL, for sums and linear scores on ciphertexts.

Values are packed 4,088 to a ciphertext, beside eight guard slots of which four hold 0 and four hold 1. Whoever has the public part adds
ciphertexts and multiplies them with plain numbers; the secret part opens the result, which is approximate. The guards went the same way and
their true result is known, so their error is measured: a result is refused where the guards of 0 are off by more than the bound, or those
of 1 by more than that share. Needs the extra ``securemllib[homomorphic]``.

Answers: SUM and AVG of whole columns and of whole blocks, linear scores; approximately, with a checked bound.
Reveals: where nulls are, and nothing else, as long as no opened result goes back to whoever computed it: CKKS results carry the key's noise
(Li and Micciancio, EUROCRYPT 2021), so results are for their recipient alone.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from securemllib.crypto.aead import seal, unseal
from securemllib.crypto.encodings.values import nulls, single
from securemllib.crypto.keys import DataKey
from securemllib.errors import DataError, IntegrityError, UsageError

__all__ = ["BLOCK_ROWS", "GUARD_SLOTS", "LIMIT", "PRECISION", "SecretContext"]

# 128-bit security at degree 8192 allows 218 bits of modulus (HomomorphicEncryption.org standard, 2018, table 1); 160 serve one product.
_DEGREE = 8192
_MODULUS_BITS = (60, 40, 60)
_SCALE_BITS = 40
GUARD_SLOTS = 8
BLOCK_ROWS = _DEGREE // 2 - GUARD_SLOTS
# A fresh ciphertext's error is about 2**-30, and a product's with a plain number, rescaled, about 2**-19 of the value.
PRECISION = 2.0**-16
# A fresh ciphertext holds up to 2**59, at the scale of 2**40 in 100 bits: sums of 2**29 blocks of such numbers.
LIMIT = 2.0**30
_GUARDS = np.repeat([0.0, 1.0], GUARD_SLOTS // 2)


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

    def encode(self, array: pa.Array | pa.ChunkedArray) -> pa.StructArray:
        """Return the ciphertexts of a column: structs of ``rows`` (int64), ``present`` (a bit a row, lowest first) and ``ciphertext``.

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
        blocks = [self._encrypt(numbers[start : start + BLOCK_ROWS]) for start in starts]
        bitmaps = [np.packbits(present[start : start + BLOCK_ROWS], bitorder="little").tobytes() for start in starts]
        rows = [min(BLOCK_ROWS, len(numbers) - start) for start in starts]
        columns = [pa.array(rows, pa.int64()), pa.array(bitmaps, pa.binary()), pa.array(blocks, pa.large_binary())]
        return pa.StructArray.from_arrays(columns, names=["rows", "present", "ciphertext"])

    def decode(self, blocks: pa.StructArray) -> pa.Array:
        """Return the doubles of a column's ciphertexts, null where the column is."""
        found = [self.open(block["ciphertext"].as_py())[: block["rows"].as_py()] for block in blocks]
        bits = [np.unpackbits(np.frombuffer(block["present"].as_py(), np.uint8), bitorder="little") for block in blocks]
        present = [part[: len(values)] for part, values in zip(bits, found, strict=True)]
        return pa.array(np.concatenate([np.empty(0), *found]), mask=np.concatenate([np.empty(0, np.uint8), *present]) == 0)

    def open(self, ciphertext: bytes, *, weight: float = 1.0, precision: float = PRECISION) -> NDArray[np.float64]:
        """Return the 4,088 slots of a result.

        Args:
            ciphertext: The result, from the host.
            weight: What the computation makes of 1: of a sum the number of blocks, of a score the sum of its weights.
            precision: How far the guards may be off.

        Raises:
            IntegrityError: The result is none of this key's, or its error exceeds ``precision``.
        """
        try:
            slots = np.asarray(_tenseal().ckks_vector_from(self._context, ciphertext).decrypt(), np.float64)
        except (ValueError, RuntimeError):
            raise IntegrityError(f"{len(ciphertext)} bytes are no ciphertext of this key.", code="integrity.encoding") from None
        whole = len(slots) == BLOCK_ROWS + GUARD_SLOTS
        error = np.abs(slots[BLOCK_ROWS:] - weight * _GUARDS).max() / max(1.0, abs(weight)) if whole else np.inf
        if not error <= precision:
            raise IntegrityError(
                f"A CKKS result is off by {error:.1g}, and {precision:.1g} is allowed.",
                next_step="Do less with one ciphertext, or allow a larger error.",
                code="integrity.precision",
            )
        return slots[:BLOCK_ROWS]

    def _encrypt(self, numbers: NDArray[np.float64]) -> bytes:
        slots = np.zeros(BLOCK_ROWS + GUARD_SLOTS)
        slots[BLOCK_ROWS:] = _GUARDS
        slots[: len(numbers)] = numbers
        return bytes(_tenseal().ckks_vector(self._context, slots).serialize())


def _tenseal() -> Any:
    try:
        import tenseal
    except ImportError:
        raise UsageError(
            "Homomorphic columns need TenSEAL.", next_step="Install securemllib[homomorphic].", code="usage.missing_package"
        ) from None
    return tenseal
