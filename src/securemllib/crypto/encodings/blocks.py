"""AES on many blocks at once. Each block is a message of its own, for constructions that are defined by the bare permutation."""

from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from numpy.typing import NDArray

__all__ = ["BLOCK", "Permutation"]

BLOCK = 16


class Permutation:
    """AES under one key of 128, 192 or 256 bits: block in, block out."""

    def __init__(self, secret: bytes) -> None:
        # No mode, but the permutation itself: what hides equality, where it must be hidden, is the construction around it.
        self._cipher: Cipher[ECB] = Cipher(AES(secret), ECB())  # noqa: S305

    def encrypt(self, blocks: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the encrypted blocks, ``(n, 16)``, of a contiguous array of ``16 n`` bytes."""
        return _through(self._cipher.encryptor(), blocks)

    def decrypt(self, blocks: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the blocks, ``(n, 16)``, whose encryption is a contiguous array of ``16 n`` bytes."""
        return _through(self._cipher.decryptor(), blocks)


def _through(context: Any, blocks: NDArray[Any]) -> NDArray[np.uint8]:
    return np.frombuffer(context.update(blocks.reshape(-1).view(np.uint8)), np.uint8).reshape(-1, BLOCK)
