"""How fast datasets are encrypted and decrypted, beside pyarrow's plain Parquet with the same layout.

A dataset is on the disk when `encrypt` returns, so it is compared with a plain file that is, too. ``parquet_encrypt_unsynced`` compares it
with one that the kernel may still lose.
"""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from generators import Data
from measure import Samples, alternate

from securemllib.crypto.identity import PrivateIdentity
from securemllib.owner.dataset import encrypt
from securemllib.owner.keystore import Keystore
from securemllib.owner.reading import open_dataset

__all__ = ["compare_parquet"]

_LAYOUT: dict[str, Any] = {"compression": "none", "use_dictionary": False, "write_statistics": False}


def compare_parquet(data: Data, directory: Path, *, runs: int) -> dict[str, tuple[Samples, Samples]]:
    """Return the costs of writing and of reading a table, encrypted and plain."""
    identity, keystore = PrivateIdentity.generate("owner"), Keystore.create(directory / "keystore", None)
    sealed, plain = directory / "sealed", directory / "plain"

    def encrypting(number: int) -> Callable[[], object]:
        shutil.rmtree(sealed, ignore_errors=True)
        return lambda: encrypt(data.table, sealed, name=f"table{number}", identity=identity, keystore=keystore)

    def writing(number: int, *, synced: bool) -> Callable[[], object]:
        shutil.rmtree(plain, ignore_errors=True)
        return lambda: _write_plain(data, plain, number, synced=synced)

    def decrypting(_: int) -> Callable[[], object]:
        return lambda: list(open_dataset(sealed, owner=identity.public, keystore=keystore).tables())

    def reading(_: int) -> Callable[[], object]:
        return lambda: [pq.read_table(path) for path in sorted(plain.iterdir())]

    return {
        "parquet_encrypt": alternate(encrypting, partial(writing, synced=True), warm_up=1, runs=runs),
        "parquet_encrypt_unsynced": alternate(encrypting, partial(writing, synced=False), warm_up=1, runs=runs),
        "parquet_decrypt": alternate(decrypting, reading, warm_up=1, runs=runs),
    }


def _write_plain(data: Data, directory: Path, number: int, *, synced: bool) -> None:
    directory.mkdir()
    path = directory / f"table{number}.parquet"
    pq.write_table(data.table, path, **_LAYOUT)
    if synced:
        with path.open("rb") as file:
            os.fsync(file.fileno())
