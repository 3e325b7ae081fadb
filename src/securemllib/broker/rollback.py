"""Notices an old copy of the database: the last audit head is also kept in a second file, beside the keystore.

Best effort: who can put an old database back can often put this file back too. Then nothing is noticed here, but an owner who kept an
exported head still notices, and so does an enclave whose job's head moved on. What the file does stop is the honest accident, a restored
backup, after which old dataset versions and used-up runs would be granted again.
"""

import threading
from pathlib import Path

from sqlalchemy.orm import Session

from securemllib.broker.audit_log import AuditHead
from securemllib.broker.schema import AuditRow, DatasetRow
from securemllib.crypto.identity import PrivateIdentity, verify
from securemllib.crypto.locked import write_private
from securemllib.errors import FreshnessError, RefusedError
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.signed import Signed

__all__ = ["RollbackGuard", "check_generation", "check_not_frozen"]


def check_generation(path: Path, session: Session, broker: PublicIdentity) -> AuditHead | None:
    """Refuse a database that is older than the head file, or that took another turn; return the file's head, None without a file.

    1. The file's head is this broker's.
    2. The database has the entry that the file names, with that digest. A missing file names none.

    Raises:
        SignatureError: 1 does not hold.
        FreshnessError: 2 does not hold.
    """
    if not path.exists():
        return None
    kept = verify(Signed.from_bytes(path.read_bytes()), AuditHead, broker)
    row = session.get(AuditRow, kept.sequence)
    if row is None or row.digest != kept.entry:
        raise FreshnessError(
            f"The database is older than entry {kept.sequence} that this broker has written, or took another turn before it.",
            next_step="Restore the newest database, or run `securemllib broker recover`: then each owner accepts the older one, or not.",
            code="integrity.freshness.store",
        )
    return kept


def check_not_frozen(row: DatasetRow) -> None:
    """Refuse a dataset whose owner has not accepted the restored store yet; `RefusedError`."""
    if row.is_frozen:
        raise RefusedError(
            f"The broker's store was restored, and the owner of dataset {row.dataset_id} has not accepted that.",
            next_step="Ask the owner to bring the dataset and its policy up to date, and to run `securemllib accept-store`.",
            code="refused.store.restored",
        )


class RollbackGuard:
    """Keeps the last audit head in a file. The head's sequence number is the store's generation: each change appends an entry."""

    def __init__(self, path: Path, identity: PrivateIdentity) -> None:
        self._path = path
        self._identity = identity
        self._lock = threading.Lock()
        self._last: AuditHead | None = None

    def check(self, session: Session) -> None:
        """Refuse an old database; see `check_generation`."""
        self._last = check_generation(self._path, session, self._identity.public)

    def check_next(self, session: Session, before: AuditHead, head: AuditHead) -> None:
        """Refuse an entry that does not follow all that this process has committed: the database was put back under it.

        A number alone does not tell: another broker may have filled the log up to it again.

        Args:
            session: The transaction that appended the entry.
            before: The head that the entry's digest covers.
            head: The entry's.
        """
        with self._lock:
            last = self._last
            if last is None or before == last:
                return
            found = session.get(AuditRow, last.sequence)
            if head.sequence <= last.sequence or found is None or found.digest != last.entry:
                raise FreshnessError(
                    f"The database was put back before entry {last.sequence} while this broker ran.",
                    next_step="Stop the broker; restore the newest database, or run `securemllib broker recover`.",
                    code="integrity.freshness.store",
                )

    def advance(self, head: AuditHead) -> None:
        """Remember a head that was committed to the database."""
        with self._lock:
            if self._last is None or head.sequence > self._last.sequence:
                write_private(self._path, self._identity.sign(head).to_bytes(), replace=True)
                self._last = head
