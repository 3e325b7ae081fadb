"""`securemllib broker custodians`, `backup`, `restore`, `recover`: losing a broker's machine without losing the datasets."""

import time
from base64 import b64encode
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from securemllib.broker.audit_log import AuditHead
from securemllib.broker.backup import read_keystore, read_rows, write_backup
from securemllib.broker.files import BrokerFiles
from securemllib.broker.keystore import Keystore, has_passphrase, open_keystore, write_keystore
from securemllib.broker.recovery import combine, split
from securemllib.broker.server import configure_logs
from securemllib.broker.service import Broker
from securemllib.broker.standing import check_fingerprint
from securemllib.broker.store import Database, Store
from securemllib.cli.broker_home import (
    DatabaseOption,
    HomeOption,
    PassphraseFile,
    broker_passphrase,
    console,
    files_of,
    open_broker,
    read_identity,
)
from securemllib.crypto.locked import write_private
from securemllib.errors import UsageError
from securemllib.owner.atomic import new_file
from securemllib.wire.signed import Signed

__all__ = ["register"]

Revoked = Annotated[
    list[str] | None, typer.Option("--revoked", help="Fingerprint of an identity that was revoked since; as often as needed.")
]
NothingRevoked = Annotated[bool, typer.Option("--nothing-revoked", help="State that no identity was revoked since.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands to those of a broker's operator."""
    app.command("custodians")(custodians)
    app.command("backup")(backup)
    app.command("restore")(restore)
    app.command("recover")(recover)


def custodians(
    identity_files: Annotated[list[Path], typer.Argument(help="The .pub files of the custodians.")],
    threshold: Annotated[int, typer.Option("--threshold", help="How many of them it takes to restore.")],
    output: Annotated[Path, typer.Option("--output", help="Directory for the share files, one a custodian.")],
    home: HomeOption = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make a recovery key, split among custodians. Later backups open with it, earlier ones with the key that was theirs."""
    files = files_of(home)
    named = [read_identity(path) for path in identity_files]
    key, shares = split(_keystore(files, passphrase_file).identity, named, threshold)
    output.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path, custodian, share in zip(identity_files, named, shares, strict=True):
        target = output / f"{path.stem}.share"
        with target.open("xb") as file:
            file.write(share.to_bytes())
        console.print(f"share  {target}   for {custodian.fingerprint} alone; they open it with `securemllib identity share`", markup=False)
    write_private(files.recovery, key.to_bytes(), replace=True)
    console.print(f"any {threshold} of {len(named)} restore this broker from a backup", markup=False)


def backup(
    path: Annotated[Path, typer.Argument(help="The new file.")],
    home: HomeOption = None,
    database: DatabaseOption = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Write keys and database, sealed for the custodians. The broker may go on serving."""
    files = files_of(home)
    if not files.recovery.is_file():
        raise UsageError("The broker has no custodians.", next_step="Name them with `securemllib broker custodians`.")
    keystore = _keystore(files, passphrase_file)
    key = Signed.from_bytes(files.recovery.read_bytes())
    # A cut-off file under the name of a backup would be found out only when it is needed.
    with new_file(path) as temporary, closing(Database(database or files.database)) as opened, temporary.open("xb") as file:
        write_backup(file, keystore, opened, key, now=int(time.time()))
    console.print(f"wrote {path}   the key-encryption key, where there is one, is not in it", markup=False)


def restore(
    path: Annotated[Path, typer.Argument(help="A backup.")],
    share: Annotated[list[Path], typer.Option("--share", help="File with the words of one share; as many as the threshold.")],
    home: HomeOption = None,
    database: DatabaseOption = None,
    passphrase_file: PassphraseFile = None,
    no_passphrase: Annotated[bool, typer.Option("--no-passphrase", help="Protect the keys by file permissions alone.")] = False,
    revoked: Revoked = None,
    nothing_revoked: NothingRevoked = False,
) -> None:
    """Make a broker from a backup, in a new directory and an empty database. Its datasets wait for their owners."""
    configure_logs()
    again = _revoked(revoked, nothing_revoked)
    files = files_of(home)
    recovery = combine([words.read_text(encoding="ascii") for words in share])
    files.make()
    passphrase = None if no_passphrase else broker_passphrase(passphrase_file, confirm=True)
    with path.open("rb") as file:
        keystore, key, groups = read_keystore(file, recovery)
        store = Store(database or files.database, keystore.store_key)
        read_rows(store, groups)
        store.close()
    broker = Broker(keystore, database or files.database, files.head)
    head = broker.recover(again)
    broker.close()
    # The keys come last: a restoration that is cut off leaves no broker that would serve what is not frozen.
    write_keystore(files.keystore, keystore, passphrase)
    write_private(files.recovery, key.to_bytes(), replace=True)
    files.public.write_text(b64encode(keystore.identity.public.to_bytes()).decode() + "\n", encoding="ascii")
    console.print(f"restored {keystore.identity.public.fingerprint}   compare it with what owners know", markup=False)
    _tell(head)


def recover(
    home: HomeOption = None,
    database: DatabaseOption = None,
    passphrase_file: PassphraseFile = None,
    revoked: Revoked = None,
    nothing_revoked: NothingRevoked = False,
) -> None:
    """Go on from a database that is older than this broker's last entry. Its datasets wait for their owners."""
    again = _revoked(revoked, nothing_revoked)
    broker = open_broker(files_of(home), database, passphrase_file, may_be_older=True)
    _tell(broker.recover(again))
    broker.close()


def _revoked(revoked: list[str] | None, nothing_revoked: bool) -> list[str]:
    """Return what the operator states; a copy that has forgotten revocations is not gone on from without that."""
    if bool(revoked) == nothing_revoked:
        raise UsageError(
            "It must be stated which identities were revoked after the older copy, which has forgotten it.",
            next_step="Name each with --revoked, as exported audit logs and owners tell, or say --nothing-revoked.",
            code="usage.revoked",
        )
    for fingerprint in revoked or ():
        check_fingerprint(fingerprint)
    return revoked or []


def _tell(head: AuditHead) -> None:
    console.print("what was decided after that entry is forgotten: rotate again what was rotated; every job has ended", markup=False)
    console.print("each owner enrols the latest version, submits the policy, and then accepts:", markup=False)
    console.print(f"  securemllib accept-store --sequence {head.sequence} --entry {head.entry.hex()}", markup=False)


def _keystore(files: BrokerFiles, passphrase_file: Path | None) -> Keystore:
    return open_keystore(files.keystore, broker_passphrase(passphrase_file) if has_passphrase(files.keystore) else None)
