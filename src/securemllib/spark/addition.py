"""What the host adds: masked statistics, 64-bit integers modulo 2**64, of which it learns nothing."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from securemllib.errors import FormatError
from securemllib.wire.record import Record

__all__ = ["MaskedRow", "MaskedSum", "Shares", "gathered", "sum_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedSum:
    """The sum of the masked statistics of some shares.

    Attributes:
        salts: Of their masks, by share.
        words: ``(n,)`` the sum.
    """

    salts: dict[int, bytes]
    words: NDArray[np.uint64]

    @classmethod
    def of(cls, salts: dict[int, bytes], payload: bytes | memoryview) -> Self:
        """Return a sum from its bytes."""
        if len(payload) % 8:
            raise FormatError(f"{len(payload)} bytes are no masked sum.")
        return cls(salts=salts, words=np.frombuffer(payload, dtype="<u8"))

    def __add__(self, other: Self) -> Self:
        if self.words.size != other.words.size or self.salts.keys() & other.salts.keys():
            raise FormatError("Masked sums of one round have one length and no share in common.")
        return type(self)(salts=self.salts | other.salts, words=self.words + other.words)

    def payload(self) -> memoryview:
        """Return the sum's bytes."""
        return self.words.astype("<u8", copy=False).data.cast("B")


def sum_of(blocks: Iterable[bytes]) -> memoryview:
    """Return the sum, modulo 2**64, of blocks of words, which are read one after the other; `FormatError` where they do not fit."""
    total: NDArray[np.uint64] | None = None
    for block in blocks:
        if len(block) % 8 or (total is not None and len(block) != total.nbytes):
            raise FormatError(f"{len(block)} bytes are no piece of that masked sum.")
        words = np.frombuffer(block, dtype="<u8")
        total = words.copy() if total is None else np.add(total, words, out=total)
    return memoryview(b"") if total is None else total.data.cast("B")


# One round's statistics: sealed ones by share, or a masked sum.
Shares = dict[int, bytes | memoryview] | MaskedSum


def gathered(found: list[Shares]) -> Shares:
    """Return several tasks' statistics as one; `FormatError` where some are masked and some are not."""
    masked = [shares for shares in found if isinstance(shares, MaskedSum)]
    if len(masked) == len(found) and masked:
        return reduce(add, masked)
    if masked:
        raise FormatError("Some shares of a round are masked and some are sealed.")
    return {share: envelope for shares in found if isinstance(shares, dict) for share, envelope in shares.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedRow(Record):
    """A `MaskedSum` as a task's row."""

    TYPE: ClassVar[str] = "masked-row"

    shares: tuple[int, ...]
    salts: tuple[bytes, ...]
    words: bytes

    @classmethod
    def of(cls, found: MaskedSum) -> Self:
        """Return the row of a sum."""
        return cls(shares=tuple(found.salts), salts=tuple(found.salts.values()), words=bytes(found.payload()))

    def sum(self) -> MaskedSum:
        """Return the sum of the row."""
        return MaskedSum.of(dict(zip(self.shares, self.salts, strict=True)), self.words)
