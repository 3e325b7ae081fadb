"""The broker's recovery key: any ``threshold`` of its custodians restore a lost broker together, fewer learn nothing.

The key is 256 random bits, split once by SLIP-39 (Shamir's scheme over GF(256) with checksums, as words). Each custodian's share is wrapped
for that custodian's identity, so share files may lie anywhere. The broker keeps the public half only: backups are made without custodians,
and who steals a running broker's files cannot open older backups.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from shamir_mnemonic import MnemonicError, combine_mnemonics, generate_mnemonics

from securemllib.crypto.identity import PrivateIdentity
from securemllib.crypto.keys import KEY_BYTES, DataKey
from securemllib.crypto.wrapping import RecipientKey, wrap
from securemllib.errors import UnsealError, UsageError
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.notices import RecoveryShare, recovery_share_context
from securemllib.wire.record import Record
from securemllib.wire.signed import Signed

__all__ = ["RecoveryKey", "combine", "split"]

_SHARE_LIMIT = 16  # SLIP-39, section "Format of the share mnemonic": the member index has four bits.
_PURPOSE = "securemllib/broker/recovery/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryKey(Record):
    """The public half, signed by the broker.

    Attributes:
        recipient_key: The HPKE public key that backups are wrapped for.
        threshold: How many custodians it takes.
        custodians: The fingerprints of all of them.
    """

    TYPE: ClassVar[str] = "securemllib/recovery-key/v1"

    recipient_key: bytes
    threshold: int
    custodians: tuple[str, ...]


def split(broker: PrivateIdentity, custodians: Sequence[PublicIdentity], threshold: int) -> tuple[Signed, list[Signed]]:
    """Return a fresh signed `RecoveryKey` and a signed `RecoveryShare` for each custodian; the private half is gone when this returns.

    Raises:
        UsageError: There are not 2 to 16 different custodians, or the threshold is below 2 or above their number.
    """
    fingerprints = tuple(custodian.fingerprint for custodian in custodians)
    # Two identities with one recipient key are one person, who would hold two shares.
    different = min(len(set(fingerprints)), len({custodian.recipient_key for custodian in custodians}))
    if different != len(fingerprints) or not 2 <= threshold <= len(fingerprints) <= _SHARE_LIMIT:
        raise UsageError(
            f"{threshold} of {different} custodians cannot keep a recovery key.",
            next_step=f"Name 2 to {_SHARE_LIMIT} different identities, and a threshold of 2 up to their number.",
        )
    secret = os.urandom(KEY_BYTES)
    words = generate_mnemonics(1, [(threshold, len(fingerprints))], secret)[0]
    key = RecoveryKey(recipient_key=_recipient(secret).public_bytes, threshold=threshold, custodians=fingerprints)
    shares = [
        RecoveryShare(
            broker=broker.public,
            custodian=custodian.fingerprint,
            wrapped=wrap(custodian.recipient_key, recovery_share_context(broker.public.fingerprint, custodian.fingerprint), share.encode()),
        )
        for custodian, share in zip(custodians, words, strict=True)
    ]
    return broker.sign(key), [broker.sign(share) for share in shares]


def combine(shares: Sequence[str]) -> RecipientKey:
    """Return the recovery key of the words of as many shares as its threshold; `UnsealError` for fewer, or for wrong ones."""
    try:
        return _recipient(combine_mnemonics([" ".join(share.split()) for share in shares]))
    except (MnemonicError, ValueError):
        # The library's words would say which share is wrong, and may quote it.
        raise UnsealError(
            f"{len(shares)} shares do not make the recovery key.",
            next_step="Give the words of exactly as many shares of one key as its threshold.",
            code="integrity.unseal.recovery",
        ) from None


def _recipient(secret: bytes) -> RecipientKey:
    return RecipientKey.from_secret(DataKey(secret).derive_bytes(RecipientKey.SECRET_BYTES, _PURPOSE))
