"""Where the statistics of a round are added: in the aggregator, or masked by the host.

A job in partitioned mode decides before each round, from the state alone, how that round's statistics leave the workers:

- ``sealed``: each share's statistics, sealed for the aggregator: the summary, and every round whose statistics are no plain sums.
- ``measured``: only the exponents of each share's statistics, sealed. The state stays as it is; the round after it is masked.
- ``masked``: integers behind one-time masks, which the host adds.

A round is measured when no exponents are known or when the masked round before it did not fit them: a share that does not fit sends
zeros and counts itself in one more masked leaf, so the host sees no difference. The leaf counts the shares, too, that shrank so far that
their digits would be lost: exponents of a wild step of a search must not stay. Exact zeros lose no digits. Statistics that are not finite
have no exponents; their round is sealed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms import fixed_point
from securemllib.algorithms.fixed_point import SHRUNK, TOO_LARGE, Exponents, additive, from_limbs, largest, limb_bits, to_limbs
from securemllib.algorithms.registry import types_of
from securemllib.crypto.keys import DataKey
from securemllib.enclave.host import Host
from securemllib.enclave.masking import TAG_WORDS, mask, unmask
from securemllib.enclave.messages import PIECE_BYTES
from securemllib.enclave.session import Session
from securemllib.errors import CoverError
from securemllib.wire.job import Mode
from securemllib.wire.task import MESSAGE_BYTES

__all__ = ["MASKED", "MEASURED", "SEALED", "Addition", "add_masked", "fetch_masked", "keep_masked", "masked_share"]

SEALED, MEASURED, MASKED = "sealed", "measured", "masked"
_PURPOSE = "securemllib/masked-sum/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """How one round's statistics are added.

    Attributes:
        kind: ``sealed``, ``measured`` or ``masked``.
        columns: The features of a row; 0 before the summary.
        exponents: Of a masked round.
        measured: The digest of the sealed state that the exponents are of; empty where the algorithm's state has changed since.
    """

    kind: str = SEALED
    columns: int = 0
    exponents: Exponents | None = None
    measured: bytes = b""

    def after_update(self, session: Session, state: Any) -> "Addition":
        """Return how the round that a new state opens is added."""
        algorithm = session.algorithm
        is_additive = getattr(algorithm, "is_additive", None)
        if session.job.mode is not Mode.PARTITIONED or not additive(types_of(type(algorithm))[1]):
            return Addition(columns=self.columns)
        if is_additive is not None and not is_additive(state):
            return Addition(columns=self.columns)
        if self.kind == MASKED:
            return replace(self, measured=b"")
        return Addition(kind=MEASURED, columns=self.columns)

    def after_measuring(self, found: list[Exponents | None], digest: bytes) -> "Addition":
        """Return how the round of the measured state of that digest is added."""
        finite = [exponents for exponents in found if exponents is not None]
        if len(finite) < len(found):
            return replace(self, kind=SEALED)
        return replace(self, kind=MASKED, exponents=largest(finite), measured=digest)


def masked_share(session: Session, state: bytes, context: bytes, exponents: Exponents, statistics: Any) -> tuple[bytes, memoryview]:
    """Return the salt and the masked bytes of one share's statistics.

    Args:
        session: The job.
        state: The digest of the round's sealed state.
        context: The associated data of the share's statistics.
        exponents: The round's.
        statistics: The sum over the share's rows.
    """
    vector = np.empty(_words(statistics), dtype="<i8")
    limbs = vector[:-TAG_WORDS].reshape(2, -1)
    fit = to_limbs(statistics, exponents, limb_bits(session.job.shares), limbs[:, :-1])
    if fit == TOO_LARGE:
        limbs[:] = 0
    limbs[:, -1] = fit, 0
    return mask(_round_key(session, state), context, vector), vector.data.cast("B")


def keep_masked(session: Session, round_number: int, share: int, salt: bytes, masked: memoryview, host: Host) -> None:
    """Let the host keep masked bytes that are too large for a message, in pieces that it can add."""
    for index, start in enumerate(range(0, len(masked), PIECE_BYTES)):
        host.keep(session.job_id, _name(round_number, share, salt, index), masked[start : start + PIECE_BYTES])


def fetch_masked(session: Session, round_number: int, salts: tuple[bytes, ...], like: Any, host: Host) -> memoryview:
    """Return the host's sum of what `keep_masked` let it keep, piece by piece; arguments as those of `add_masked`."""
    if 8 * _words(like) <= MESSAGE_BYTES:
        raise CoverError("An empty message came in the place of a masked sum.")
    total = np.empty(_words(like), dtype="<u8").data.cast("B")
    for index, start in enumerate(range(0, len(total), PIECE_BYTES)):
        piece = total[start : start + PIECE_BYTES]
        names = tuple(_name(round_number, share, salt, index) for share, salt in enumerate(salts))
        found = host.block_sum(session.job_id, names, len(piece))
        if len(found) != len(piece):
            raise CoverError(f"Piece {index} of a masked sum has {len(found)} bytes, not {len(piece)}.")
        piece[:] = found
    return total


def _name(round_number: int, share: int, salt: bytes, index: int) -> str:
    return f"masked-{round_number}-{share}-{int.from_bytes(salt, 'big')}-{index}"


def _words(statistics: Any) -> int:
    return 2 * (fixed_point.width(statistics) + 1) + TAG_WORDS


def add_masked(
    session: Session, state: bytes, shares: Sequence[tuple[bytes, bytes]], total: memoryview, addition: Addition, like: Any
) -> Any:
    """Return the statistics of all shares from their masked sum; None where one did not fit the exponents, or all shrank far below them.

    Args:
        session: The job.
        state: The digest of the round's sealed state.
        shares: Each share's context and salt.
        total: The host's sum, in this enclave's memory, which is overwritten.
        addition: The round's.
        like: The statistics of no rows.

    Raises:
        IntegrityError: The sum is not exactly that of this round's shares.
    """
    if addition.exponents is None or len(total) % 8:
        raise CoverError(f"{len(total)} bytes are no masked sum.")
    values = unmask(_round_key(session, state), shares, np.frombuffer(total, dtype="<u8"))
    if values.size != 2 * (fixed_point.width(like) + 1):
        raise CoverError(f"A masked sum has {values.size} numbers, not those of the round's statistics.")
    limbs: NDArray[np.int64] = values.reshape(2, -1)
    fits = int(limbs[0, -1])
    if fits >= TOO_LARGE or (not addition.measured and fits >= SHRUNK and sum(divmod(fits, SHRUNK)) == session.job.shares):
        return None
    return from_limbs(like, limbs[:, :-1], addition.exponents, limb_bits(session.job.shares))


def _round_key(session: Session, state: bytes) -> DataKey:
    return session.job_key.derive(_PURPOSE, session.job_id, state, session.job.shares)
