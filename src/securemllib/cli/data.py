"""`securemllib data`: encrypt, inspect, verify, decrypt, and the keys of parts and exports for other readers of Parquet."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from securemllib.cli.shared import IdentityName, PassphraseFile, console, open_keystore, open_own, owner_of
from securemllib.errors import UsageError
from securemllib.owner import dataset, interop, reading
from securemllib.owner.column_types import parse_types
from securemllib.owner.companion import open_companion
from securemllib.owner.encoding_schema import load_encodings
from securemllib.owner.endorsement import read_endorsements
from securemllib.owner.parquet_keys import ParquetKeys
from securemllib.owner.query_results import write_query_result
from securemllib.owner.sources import open_source

__all__ = ["app"]

app = typer.Typer(help="Encrypt tables into datasets, and look into datasets that are yours.", no_args_is_help=True)

_Directory = Annotated[Path, typer.Argument(help="The dataset's directory.")]
_Endorsed = Annotated[
    list[Path] | None,
    typer.Option("--endorsed", help="File of `attest endorse`: enclaves take the dataset's keys from such brokers only; repeatable."),
]


@app.command("encrypt")
def encrypt(
    source: Annotated[Path, typer.Argument(help="A .parquet file or a directory of them, or a .csv, .tsv or .jsonl file.")],
    directory: Annotated[Path, typer.Argument(help="The new dataset directory.")],
    name: Annotated[str | None, typer.Option("--name", help="What people call the dataset; the directory's name when not given.")] = None,
    types: Annotated[str | None, typer.Option("--types", help="For CSV and JSON: age=int64,weight=double,... Others are inferred.")] = None,
    null_values: Annotated[str | None, typer.Option("--null-values", help="For CSV: texts that mean null, separated by commas.")] = None,
    parquet_keys: Annotated[
        Path | None, typer.Option("--parquet-keys", help="For encrypted Parquet: the JSON file of its keys, mode 0600.")
    ] = None,
    previous: Annotated[Path | None, typer.Option("--previous", help="The version of the dataset that this one replaces.")] = None,
    rows_per_part: Annotated[int | None, typer.Option("--rows-per-part", min=1, help="At most this many rows a part.")] = None,
    compression: Annotated[
        str, typer.Option("--compression", help="none, zstd, lz4 or snappy; compressed lengths tell about values.")
    ] = "none",
    size_hiding: Annotated[bool, typer.Option("--size-hiding", help="Pad the files.")] = False,
    hide_columns: Annotated[bool, typer.Option("--hide-columns", help="Keep column names and types out of the clear section.")] = False,
    hide_rows: Annotated[bool, typer.Option("--hide-rows", help="Keep the row count out of the clear section.")] = False,
    encodings: Annotated[Path | None, typer.Option("--encodings", help="YAML: the columns that plain Spark may work on, and how.")] = None,
    accept_leakage: Annotated[
        list[str] | None, typer.Option("--accept-leakage", help="A column whose codes may tell what `data plan` says; repeatable.")
    ] = None,
    endorsed: _Endorsed = None,
    identity: IdentityName = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Encrypt a table into a dataset directory that can lie on storage that nobody needs to trust."""
    declared = parse_types(types) if types else None
    schema = load_encodings(encodings) if encodings is not None else ()
    nulls = null_values.split(",") if null_values is not None else None
    keys = ParquetKeys.read(parquet_keys) if parquet_keys is not None else None
    rows = open_source(source, types=declared, null_values=nulls, keys=keys)
    if rows.inferred:
        listed = ", ".join(f"{column}={kind}" for column, kind in rows.inferred.items())
        console.print(f"inferred types  {listed}", markup=False)
    owner, keystore = open_own(identity, passphrase_file)
    brokers = read_endorsements(endorsed, owner=owner.public, now=int(time.time())) if endorsed else None
    with _progress("encrypting") as progress:
        manifest = dataset.encrypt(
            rows,
            directory,
            name=name or directory.name,
            identity=owner,
            keystore=keystore,
            previous=previous,
            rows_per_part=rows_per_part,
            compression=compression,
            size_hiding=size_hiding,
            hide_columns=hide_columns,
            hide_rows=hide_rows,
            progress=progress,
            encodings=schema,
            accept_leakage=accept_leakage or (),
            brokers=brokers,
        )
    console.print(f"dataset  {manifest.dataset_id} version {manifest.version}: {len(manifest.parts)} parts in {directory}", markup=False)


@app.command("append")
def append(
    source: Annotated[Path, typer.Argument(help="The rows to add.")],
    previous: Annotated[Path, typer.Argument(help="The dataset's latest version.")],
    directory: Annotated[Path, typer.Argument(help="The directory of the next version.")],
    identity: IdentityName = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Write the next version of a dataset, with the rows of the latest one and of the source."""
    owner, keystore = open_own(identity, passphrase_file)
    with _progress("encrypting") as progress:
        manifest = dataset.append(source, previous, directory, identity=owner, keystore=keystore, progress=progress)
    console.print(f"dataset  {manifest.dataset_id} version {manifest.version}: {len(manifest.parts)} parts in {directory}", markup=False)


@app.command("extend")
def extend(
    source: Annotated[Path, typer.Argument(help="The rows to add.")],
    directory: _Directory,
    identity: IdentityName = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Add rows to a dataset as new parts; those that are there stay as they are. Enrol the new version afterwards."""
    owner, keystore = open_own(identity, passphrase_file)
    with _progress("encrypting") as progress:
        manifest = dataset.extend(source, directory, identity=owner, keystore=keystore, progress=progress)
    console.print(f"dataset  {manifest.dataset_id} version {manifest.version}: {len(manifest.parts)} parts in {directory}", markup=False)


@app.command("brokers")
def brokers(
    directory: _Directory,
    endorsed: _Endorsed = None,
    any_broker: Annotated[bool, typer.Option("--any", help="Let enclaves take its keys from any broker that has them.")] = False,
    identity: IdentityName = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Name the only brokers from which enclaves take a dataset's keys, as its next version. Enrol the new version afterwards."""
    if bool(endorsed) == any_broker:
        raise UsageError("Name endorsed brokers with --endorsed, or say --any.")
    owner, keystore = open_own(identity, passphrase_file)
    named = read_endorsements(endorsed or (), owner=owner.public, now=int(time.time()))
    manifest = dataset.name_brokers(named, directory, identity=owner, keystore=keystore)
    who = ", ".join(named) or "any that has them"
    console.print(f"dataset  {manifest.dataset_id} version {manifest.version}: enclaves take its keys from {who}", markup=False)


@app.command("inspect")
def inspect(
    directory: _Directory,
    keys: Annotated[bool, typer.Option("--keys", help="Use your keys: verify the manifest and show the sealed section too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    identity: IdentityName = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Show what a dataset's manifest says: without keys, what anybody who stores it can see."""
    described = (
        reading.inspect(directory, owner=owner_of(identity, None), keystore=open_keystore(passphrase_file))
        if keys
        else reading.inspect(directory)
    )
    if as_json:
        typer.echo(json.dumps(described, indent=2))
        return
    table = Table(show_header=False, box=None)
    for field, value in described.items():
        if field == "columns":
            value = ", ".join(f"{item['name']}: {item['type']}" for item in value) or "hidden"
        table.add_row(field, Text("hidden" if value is None else str(value)))
    console.print(table)


@app.command("verify")
def verify(
    directory: _Directory,
    owner: Annotated[Path | None, typer.Option("--owner", help="The owner's .pub file; your own when not given.")] = None,
    identity: IdentityName = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Check the signature and every part; with your own dataset also that each part decrypts. Of another owner, signature and lengths."""
    keystore = open_keystore(passphrase_file) if owner is None else None
    expected = owner_of(identity, owner)
    with _progress("verifying") as progress:
        manifest = reading.verify(directory, owner=expected, keystore=keystore, progress=progress)
    extent = "signature, latest version, every part decrypts" if keystore else "signature and lengths; contents need the owner's keys"
    console.print(f"genuine  {manifest.dataset_id} version {manifest.version}: {extent}")


@app.command("decrypt")
def decrypt(
    directory: _Directory,
    destination: Annotated[Path, typer.Argument(help="The new .parquet or .csv file.")],
    any_version: Annotated[bool, typer.Option("--any-version", help="Also decrypt a version that is not the latest.")] = False,
    identity: IdentityName = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Write a dataset's rows in the clear."""
    keystore = open_keystore(passphrase_file)
    owner = owner_of(identity, None)
    with _progress("decrypting") as progress:
        rows = reading.decrypt(directory, destination, owner=owner, keystore=keystore, any_version=any_version, progress=progress)
    console.print(f"decrypted  {rows} rows to {destination}", markup=False)


@app.command("keys")
def keys(
    directory: _Directory,
    destination: Annotated[Path, typer.Argument(help="The new file of keys, mode 0600, outside of the dataset.")],
    parts: Annotated[list[int] | None, typer.Option("--part", min=0, help="A part's number; give it as often as needed.")] = None,
    all_parts: Annotated[bool, typer.Option("--all", help="The keys of all parts.")] = False,
    identity: IdentityName = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Write keys of parts to a file, for your own use with another reader of Parquet. No policy is asked; a key cannot be taken back."""
    if bool(parts) == all_parts:
        raise UsageError("Name the parts whose keys you want with --part, or say --all.")
    written = interop.hand_out_keys(
        directory, destination, owner=owner_of(identity, None), keystore=open_keystore(passphrase_file), parts=parts or None
    )
    console.print(
        f"keys  of {len(written)} parts in {destination}: whoever reads that file reads these parts and can forge them", markup=False
    )


@app.command("export")
def export(
    directory: _Directory,
    destination: Annotated[Path, typer.Argument(help="The new .parquet file, encrypted.")],
    keys: Annotated[Path, typer.Option("--keys", help="The new file of its key, mode 0600, in another directory.")],
    identity: IdentityName = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Write a dataset's rows to one Parquet file under a fresh key, which pyarrow, polars and DuckDB open."""
    owner, keystore = owner_of(identity, None), open_keystore(passphrase_file)
    with _progress("exporting") as progress:
        rows = interop.export(directory, destination, keys, owner=owner, keystore=keystore, progress=progress)
    console.print(f"exported  {rows} rows to {destination}, its key to {keys}", markup=False)


@app.command("open-result")
def open_result(
    result: Annotated[Path, typer.Argument(help="The directory that a query's `save` wrote.")],
    destination: Annotated[Path, typer.Argument(help="The new .parquet file.")],
    datasets: Annotated[list[Path], typer.Option("--dataset", help="Directory of a dataset that the query read; give each one.")],
    identity: IdentityName = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Open the result of a query over encoded columns, with the keys of the columns."""
    keystore, owner = open_keystore(passphrase_file), owner_of(identity, None)
    companions = [open_companion(directory, owner=owner, keystore=keystore) for directory in datasets]
    rows = write_query_result(result, destination, companions)
    console.print(f"opened  {rows} rows to {destination}", markup=False)


@contextmanager
def _progress(what: str) -> Iterator[dataset.Progress]:
    """Show a bar on stderr while the block runs."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("rows"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
