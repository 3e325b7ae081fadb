"""`securemllib audit`: check a broker's audit log, in its database or in an export."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from securemllib.broker.audit_log import AuditHead, entries, read_lines, signed_head, verify_log, write_lines
from securemllib.broker.keystore import read_public_identity
from securemllib.broker.rollback import check_generation
from securemllib.broker.store import Database
from securemllib.cli.broker_home import DatabaseOption, HomeOption, files_of, read_identity
from securemllib.errors import UsageError
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.signed import Signed

__all__ = ["app"]

console = Console(highlight=False, soft_wrap=True)
app = typer.Typer(help="Check a broker's audit log.", no_args_is_help=True)

BrokerFile = Annotated[Path | None, typer.Option("--broker-identity", help="The broker's .pub file; else that of the broker's directory.")]


@app.command("verify")
def verify(
    export: Annotated[Path | None, typer.Argument(help="A JSON lines file of `audit export`; else the broker's database.")] = None,
    broker_identity: BrokerFile = None,
    home: HomeOption = None,
    database: DatabaseOption = None,
) -> None:
    """Check that no entry was changed, removed, moved or cut off."""
    broker = read_public_identity(files_of(home).keystore) if broker_identity is None else read_identity(broker_identity)
    if export is not None:
        if not export.is_file():
            raise UsageError(f"There is no file {export}.", code="usage.missing_file")
        with export.open(encoding="utf-8") as lines:
            head = verify_log(*read_lines(lines), broker)
    else:
        head = _verify_database(broker, home, database)
    console.print(f"{head.sequence} entries, none changed, removed, moved or cut off; head {head.entry.hex()}", markup=False)


@app.command("export")
def export_log(
    path: Annotated[Path, typer.Argument(help="The new file.")], home: HomeOption = None, database: DatabaseOption = None
) -> None:
    """Write the log as JSON lines, its signed head last. Keep copies: an old one shows when the log is rolled back."""
    opened = Database(database or files_of(home).database)
    with opened.transaction() as session, path.open("x", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in write_lines(entries(session), _head(signed_head(session))))
    opened.close()
    console.print(f"wrote {path}", markup=False)


def _verify_database(broker: PublicIdentity, home: Path | None, database: str | None) -> AuditHead:
    files = files_of(home)
    opened = Database(database or files.database)
    with opened.transaction() as session:
        check_generation(files.head, session, broker)
        head = verify_log(entries(session), _head(signed_head(session)), broker)
    opened.close()
    return head


def _head(found: Signed | None) -> Signed:
    if found is None:
        raise UsageError("The database has no audit entry yet.")
    return found
