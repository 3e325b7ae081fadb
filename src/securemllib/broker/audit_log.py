"""The audit log: every decision, chained by digests, with a signed head.

An entry's digest covers the digest before it, so an entry that was changed, removed from the middle or moved breaks the chain.
The head names the last sequence number and digest under the broker's signature, so a log that lost its end does not fit its head.
What a copy alone cannot show is that it is an old copy: `securemllib.broker.rollback` keeps the last head outside of the database.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from securemllib.broker.schema import AuditHeadRow, AuditRow, AuditSubjectRow
from securemllib.crypto.identity import PrivateIdentity, verify
from securemllib.errors import FormatError, FreshnessError, IntegrityError
from securemllib.wire.encoding import length_prefixed
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.record import Record
from securemllib.wire.signed import Signed

__all__ = [
    "AuditHead",
    "Entry",
    "append",
    "entries",
    "entries_about",
    "last_time",
    "read_lines",
    "signed_head",
    "verify_log",
    "write_lines",
]

_PREFIX = length_prefixed("securemllib/audit-entry/v1")
_GENESIS = bytes(32)
_HEAD_ROW = 1


class Entry(NamedTuple):
    """One stored entry: its number, its JSON text, and the digest of that text behind the digest before."""

    sequence: int
    payload: str
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditHead(Record):
    """The end of the log.

    Attributes:
        broker: The fingerprint of the broker that signs.
        sequence: The last entry's number; 0 for an empty log.
        entry: The last entry's digest; zeros for an empty log.
    """

    TYPE: ClassVar[str] = "securemllib/audit-head/v1"

    broker: str
    sequence: int
    entry: bytes


def append(
    session: Session, identity: PrivateIdentity, fields: dict[str, object], datasets: Iterable[str], *, at: int
) -> tuple[AuditHead, AuditHead]:
    """Append an entry made at that time in the session's transaction, sign the new head, and return the head before it and the new one."""
    row = session.get(AuditHeadRow, _HEAD_ROW)
    last = AuditHead(broker=identity.public.fingerprint, sequence=0, entry=_GENESIS)
    if row is not None:
        last = verify(Signed.from_bytes(row.signed), AuditHead, identity.public)
    sequence = last.sequence + 1
    subjects = sorted(set(datasets))
    payload = json.dumps(
        {"sequence": sequence, "datasets": subjects, "at": at, **fields}, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    digest = _chain(last.entry, payload)
    head = AuditHead(broker=identity.public.fingerprint, sequence=sequence, entry=digest)
    session.add(AuditRow(sequence=sequence, payload=payload, digest=digest))
    session.flush()
    session.add_all(AuditSubjectRow(sequence=sequence, dataset_id=dataset_id) for dataset_id in subjects)
    signed = identity.sign(head).to_bytes()
    if row is None:
        session.add(AuditHeadRow(identifier=_HEAD_ROW, signed=signed, at=at))
    else:
        row.signed, row.at = signed, at
    return last, head


def last_time(session: Session) -> int:
    """Return when the last entry was made, 0 for a database without entries."""
    row = session.get(AuditHeadRow, _HEAD_ROW)
    return 0 if row is None else row.at


def signed_head(session: Session) -> Signed | None:
    """Return the signed `AuditHead`, None for a database without entries."""
    row = session.get(AuditHeadRow, _HEAD_ROW)
    return None if row is None else Signed.from_bytes(row.signed)


def entries(session: Session) -> Iterator[Entry]:
    """Yield all entries in order."""
    query = select(AuditRow.sequence, AuditRow.payload, AuditRow.digest).order_by(AuditRow.sequence).execution_options(yield_per=5000)
    for sequence, payload, digest in session.execute(query):
        yield Entry(sequence, payload, digest)


def entries_about(session: Session, datasets: Iterable[str]) -> list[Entry]:
    """Return the entries that are about one of the datasets, in order."""
    about = select(AuditSubjectRow.sequence).where(AuditSubjectRow.dataset_id.in_(list(datasets)))
    rows = session.scalars(select(AuditRow).where(AuditRow.sequence.in_(about)).order_by(AuditRow.sequence))
    return [Entry(row.sequence, row.payload, row.digest) for row in rows]


def verify_log(log: Iterable[Entry], head: Signed, broker: PublicIdentity) -> AuditHead:
    """Return the head of a log that is whole.

    1. The head is signed by the broker.
    2. The entries are numbered from 1 without gaps.
    3. Each digest covers the entry and the digest before.
    4. The last entry is the head's.

    Raises:
        SignatureError: 1 does not hold.
        IntegrityError: 2 or 3 does not hold; the reason names the entry.
        FreshnessError: 4 does not hold: entries were cut off, or the head is not of this log.
    """
    signed = verify(head, AuditHead, broker)
    previous, count = _GENESIS, 0
    for sequence, payload, digest in log:
        count += 1
        if sequence != count:
            raise IntegrityError(f"The audit log has entry {sequence} where entry {count} belongs.", code="integrity.audit")
        previous = _chain(previous, payload)
        if previous != digest:
            raise IntegrityError(f"Entry {count} of the audit log was changed.", code="integrity.audit")
    if (signed.sequence, signed.entry) != (count, previous):
        raise FreshnessError(f"The audit log ends at entry {count}, its signed head names entry {signed.sequence}.")
    return signed


def write_lines(log: Iterable[Entry], head: Signed) -> Iterator[str]:
    """Yield an export: one JSON object a line, the signed head last."""
    for entry in log:
        yield json.dumps({"sequence": entry.sequence, "payload": entry.payload, "digest": entry.digest.hex()})
    yield json.dumps({"head": head.to_bytes().hex()})


def read_lines(lines: Iterable[str]) -> tuple[list[Entry], Signed]:
    """Return the entries and the signed head of an export.

    Raises:
        FormatError: A line is no entry, or the last line is no head.
    """
    log: list[Entry] = []
    head: Signed | None = None
    for number, line in enumerate(lines, start=1):
        try:
            if head is not None:
                raise FormatError(f"Line {number} follows the head.")
            found = json.loads(line)
            if "head" in found:
                head = Signed.from_bytes(bytes.fromhex(found["head"]))
            else:
                log.append(Entry(int(found["sequence"]), str(found["payload"]), bytes.fromhex(found["digest"])))
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"Line {number} is no entry of an audit log.") from error
    if head is None:
        raise FormatError("The export does not end with a signed head.")
    return log, head


def _chain(previous: bytes, payload: str) -> bytes:
    # `previous` has a fixed length, so prefix, digest and text need no further separation.
    return sha256(_PREFIX + previous + payload.encode()).digest()
