"""A broker's backup: its keys and its whole database in one sealed file, which only the custodians of its recovery key open together.

The file is a signed header, the sealed keys, and sealed groups of rows; each is bound to the header and to its place, and the last says so.
It restores to any empty database, SQLite or PostgreSQL.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import BinaryIO, ClassVar, cast

from sqlalchemy import Table, insert, inspect, select
from sqlalchemy.orm import Session

from securemllib.broker.keystore import Keystore, pack, unpack
from securemllib.broker.recovery import RecoveryKey
from securemllib.broker.schema import Base, SessionRow
from securemllib.broker.store import Database, Store
from securemllib.crypto.aead import seal, unseal
from securemllib.crypto.identity import verify
from securemllib.crypto.keys import DataKey
from securemllib.crypto.wrapping import RecipientKey, wrap
from securemllib.errors import CapacityError, FormatError, IntegrityError, UsageError
from securemllib.wire.encoding import MESSAGE_LIMIT, Value, decode, encode, length_prefixed
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.record import Record
from securemllib.wire.signed import Signed

__all__ = ["read_keystore", "read_rows", "write_backup"]

_LENGTH = struct.Struct(">I")
_ROWS = 20
# A part of the file has MESSAGE_LIMIT bytes at most. A row may nearly fill it: an enrolment that came as one message names its columns.
_GROUP_BYTES = MESSAGE_LIMIT // 2
_END = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header(Record):
    """The first frame, signed by the broker.

    Attributes:
        broker: Whose backup it is.
        key: The recovery key that opens it, as the broker signed it.
        created: Seconds since 1970.
        wrapped: The file's own key, wrapped for the recovery key.
    """

    TYPE: ClassVar[str] = "securemllib/broker-backup/v1"

    broker: PublicIdentity
    key: Signed
    created: int
    wrapped: bytes


def write_backup(file: BinaryIO, keystore: Keystore, database: Database, key: Signed, *, now: int) -> None:
    """Write a backup of a broker, which may go on working: the rows are one snapshot.

    A table that an older version's database does not have yet counts as empty, as it is once a broker of this version opens it.

    Args:
        file: Where to.
        keystore: The broker's keys.
        database: Its database, opened to read.
        key: Its signed `RecoveryKey`.
        now: Seconds since 1970.

    Raises:
        UsageError: It is no broker's database, or its tables have other columns than this version's.
        CapacityError: A row is longer than what is read back.
    """
    broker = keystore.identity.public
    recovery = verify(key, RecoveryKey, broker)
    own = DataKey.generate()
    header = _Header(broker=broker, key=key, created=now, wrapped=b"")
    header = replace(header, wrapped=wrap(recovery.recipient_key, _context(header), own.expose()))
    signed = keystore.identity.sign(header)
    _write(file, signed.to_bytes())
    numbers = count()
    _write(file, seal(own, _place(signed, next(numbers)), pack(keystore)))
    with database.transaction() as session:
        for group in _groups(session):
            _write(file, seal(own, _place(signed, next(numbers)), encode(group)))
    _write(file, seal(own, _place(signed, next(numbers)), encode([_END, [], []])))


def read_keystore(file: BinaryIO, recovery: RecipientKey) -> tuple[Keystore, Signed, Iterator[list[Value]]]:
    """Return the keys in a backup, its signed recovery key, and its groups of rows, which are read as they are asked for.

    1. The broker that the header names signed it.
    2. The recovery key opens it.
    3. The keys in it are that broker's.
    4. The file's parts are whole and in their order, the last one included; checked as they are read.

    Raises:
        SignatureError: 1 does not hold.
        UnsealError: 2 or 4 does not hold.
        IntegrityError: 3 does not hold.
    """
    signed = Signed.from_bytes(_read(file))
    header = verify(signed, _Header, _Header.from_bytes(signed.payload).broker)
    own = DataKey(recovery.unwrap(header.wrapped, _context(header)))
    keystore = unpack(header.broker.name, unseal(own, _place(signed, 0), _read(file)))
    if keystore.identity.public != header.broker:
        raise IntegrityError(f"The backup holds the keys of another broker than {header.broker.fingerprint}.")
    return keystore, header.key, _read_groups(file, own, signed)


def read_rows(store: Store, groups: Iterator[list[Value]]) -> None:
    """Put the rows of a backup into an empty store, all or none; `UsageError` for a store that has rows."""
    with store.transaction() as session:
        for table in _tables():
            if session.execute(select(table).limit(1)).first() is not None:
                raise UsageError(f"The database has rows in {table.name} already.", next_step="Restore into an empty database.")
        for name, columns, rows in groups:
            known = Base.metadata.tables.get(str(name))
            if known is None or list(known.columns.keys()) != columns or not isinstance(rows, list):
                raise FormatError(f"The backup's table {name!r} is none of this version.")
            names = cast("list[str]", columns)
            session.execute(insert(known), [dict(zip(names, cast("list[Value]", row), strict=True)) for row in rows])


def _groups(session: Session) -> Iterator[list[object]]:
    for table in _tables_in(session):
        found = session.execute(select(table).execution_options(yield_per=_ROWS))
        # SQLAlchemy's names are a kind of `str` of its own.
        names = [str(name) for name in table.columns.keys()]  # noqa: SIM118 - columns iterate as columns
        for rows in found.partitions(_ROWS):
            for group in _in_groups([list(row) for row in rows]):
                yield [str(table.name), names, group]


def _in_groups(rows: list[list[object]]) -> Iterator[list[list[object]]]:
    """Yield rows in groups of bounded size, a row that is longer alone."""
    group: list[list[object]] = []
    size = 0
    for row in rows:
        length = len(encode(row))
        if group and size + length > _GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append(row)
        size += length
    yield group


def _tables_in(session: Session) -> list[Table]:
    inspector = inspect(session.connection())
    present = set(inspector.get_table_names())
    found = [table for table in _tables() if table.name in present]
    if not found:
        raise UsageError("The database holds no table of a broker.", next_step="Name the broker's own database.", code="usage.database")
    for table in found:
        there = {column["name"] for column in inspector.get_columns(table.name)}
        if missing := sorted(set(table.columns.keys()) - there):
            raise UsageError(
                f"The database's table {table.name} has no column {missing[0]}.",
                next_step="Back it up with the version of SecureMLlib that serves it.",
                code="usage.database",
            )
    return found


def _tables() -> list[Table]:
    # A session lives for minutes; its enclave asks again.
    return [table for table in Base.metadata.sorted_tables if table.name != SessionRow.__tablename__]


def _read_groups(file: BinaryIO, own: DataKey, signed: Signed) -> Iterator[list[Value]]:
    for number in count(1):
        group = decode(unseal(own, _place(signed, number), _read(file)))
        if not isinstance(group, list) or len(group) != len(("table", "columns", "rows")):
            raise FormatError("The backup has a part that is no group of rows.")
        if group[0] == _END:
            return
        yield group


def _context(header: _Header) -> bytes:
    return length_prefixed(_Header.TYPE, header.broker.fingerprint, header.key.to_bytes(), header.created)


def _place(signed: Signed, number: int) -> bytes:
    return length_prefixed("securemllib/broker-backup-part/v1", signed.content_digest(), number)


def _write(file: BinaryIO, part: bytes) -> None:
    if len(part) > MESSAGE_LIMIT:
        raise CapacityError(
            f"A part of the backup would have {len(part)} bytes, more than the {MESSAGE_LIMIT} that are read back.",
            code="unavailable.capacity.backup",
        )
    file.write(_LENGTH.pack(len(part)))
    file.write(part)


def _read(file: BinaryIO) -> bytes:
    prefix = file.read(_LENGTH.size)
    length = _LENGTH.unpack(prefix)[0] if len(prefix) == _LENGTH.size else MESSAGE_LIMIT + 1
    part = file.read(length) if length <= MESSAGE_LIMIT else b""
    if len(part) != length:
        raise FormatError("The backup is cut off, or is none.")
    return part
