"""The broker's database: SQLite by default, PostgreSQL by its URL. One writer at a time: a check still holds when its change is made."""

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from securemllib.broker.schema import Base
from securemllib.crypto.aead import seal, unseal
from securemllib.crypto.keys import DataKey
from securemllib.errors import UnavailableError, UsageError
from securemllib.kms.key import KeyEncryptionKey
from securemllib.wire.encoding import length_prefixed

__all__ = ["Database", "Store"]

# Any constant that no other program uses on the same PostgreSQL database.
_ADVISORY_LOCK = 0x534D4C42
_BUSY_MILLISECONDS = 30_000
# A broker that dies with its machine says no goodbye: the server drops its transaction, and with it the lock, after this long.
_POSTGRESQL = {
    "connect_timeout": 10,
    "options": (
        f"-c lock_timeout={_BUSY_MILLISECONDS} -c idle_in_transaction_session_timeout={_BUSY_MILLISECONDS // 3}"
        " -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=2"
    ),
}


class _Session(Session):
    """A session that holds every row that it has met until it ends: SQLAlchemy's own forgets them, and asks the database again."""

    def hold(self, row: object) -> None:
        self.info.setdefault("held", []).append(row)


event.listen(_Session, "loaded_as_persistent", _Session.hold)
event.listen(_Session, "pending_to_persistent", _Session.hold)


class Database:
    """The database without the key to its secrets, as an auditor opens it.

    Args:
        url: An SQLAlchemy URL: ``sqlite:////path/to/file`` or ``postgresql+psycopg://...``.
        read_only: Whether transactions only read, one snapshot each, beside a broker that goes on writing.
    """

    def __init__(self, url: str, *, read_only: bool = True) -> None:
        self._engine = _engine(url, read_only)
        # Threads of one process take turns here, because SQLite's own way to wait for another writer is to sleep and try again.
        self._turn: AbstractContextManager[object] = nullcontext() if read_only else threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Yield a session that commits at the end, or rolls everything back when an exception leaves the block.

        Transactions that write run one after the other: what a block has read is still true when it commits.
        """
        with self._connected() as connection, _Session(bind=connection, expire_on_commit=False) as session:
            yield session
            session.flush()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        try:
            with self._turn, self._engine.begin() as connection:
                yield connection
        except DataError as error:
            raise UsageError("The request holds text that the broker's database does not take.") from error
        except (OperationalError, PoolTimeoutError) as error:
            raise UnavailableError("The broker's database does not answer.") from error


class Store(Database):
    """The broker's own database, with its tables, and the key under which it holds secrets.

    Args:
        url: See `Database`.
        key: Seals every secret before it is stored.
        kek: Wraps the secrets of datasets before they are sealed; None leaves them to the seal.
        kek_name: The name that ``kek`` was opened by, which the database may have replaced since; not compared when not given.
    """

    def __init__(self, url: str, key: DataKey, kek: KeyEncryptionKey | None = None, kek_name: str | None = None) -> None:
        super().__init__(url, read_only=False)
        self._key = key.derive("securemllib/broker-store/v1")
        self.kek = kek
        self.kek_name = kek_name
        with self._connected() as connection:
            Base.metadata.create_all(connection)

    def seal(self, secret: bytes, *context: bytes | str | int) -> bytes:
        """Return a secret sealed for one place in the database."""
        return seal(self._key, length_prefixed(*context), secret)

    def unseal(self, sealed: bytes, *context: bytes | str | int) -> bytes:
        """Return the secret that `seal` sealed for the same place; `UnsealError` otherwise."""
        return unseal(self._key, length_prefixed(*context), sealed)


def _engine(url: str, read_only: bool) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        _prepare_file(parsed.database, read_only)
        engine = create_engine(parsed)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite_snapshot if read_only else _begin_sqlite)
    elif parsed.get_backend_name() == "postgresql":
        isolation = "REPEATABLE READ" if read_only else "READ COMMITTED"
        engine = create_engine(parsed, pool_pre_ping=True, connect_args=_POSTGRESQL, isolation_level=isolation)
        event.listen(engine, "begin", _begin_postgresql_snapshot if read_only else _begin_postgresql)
    else:
        raise UsageError(f"The broker's database is SQLite or PostgreSQL, not {parsed.get_backend_name()}.")
    return engine


def _prepare_file(database: str | None, read_only: bool) -> None:
    if not database or database == ":memory:":
        raise UsageError("The broker's SQLite database is a file.")
    if not read_only:
        # Made here so that nobody else may read it from its first byte on; SQLite gives its journal the same mode.
        os.close(os.open(Path(database), os.O_CREAT | os.O_RDWR, 0o600))
    elif not Path(database).is_file():
        raise UsageError(f"There is no database {database}.")


def _prepare_sqlite(connection: Any, _: object) -> None:
    # The driver's own transaction control is off: it would begin a transaction only at the first change, after the checks.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_MILLISECONDS}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_sqlite_snapshot(connection: Connection) -> None:
    connection.exec_driver_sql("PRAGMA query_only=ON")
    connection.exec_driver_sql("BEGIN")


def _begin_postgresql_snapshot(connection: Connection) -> None:
    connection.exec_driver_sql("SET TRANSACTION READ ONLY")


def _begin_postgresql(connection: Connection) -> None:
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
