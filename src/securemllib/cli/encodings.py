"""`securemllib data`: which encodings, what they reveal on these rows, and companions of datasets that are there already."""

from pathlib import Path
from typing import Annotated

import typer

from securemllib.cli.shared import IdentityName, PassphraseFile, console, open_keystore, open_own
from securemllib.crypto.encodings.cards import answers, reveals
from securemllib.errors import UsageError
from securemllib.owner.companion import write_companion
from securemllib.owner.encoding_attacks import GUESSED, Leakage, Sample, measure
from securemllib.owner.encoding_schema import TEMPLATE, ColumnEncoding, load_encodings
from securemllib.owner.reading import open_dataset
from securemllib.owner.sources import Source, open_source
from securemllib.wire.companion import EncodingName

__all__ = ["register"]

AcceptLeakage = Annotated[
    list[str] | None, typer.Option("--accept-leakage", help="A column whose codes may tell what `data plan` says; repeatable.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `securemllib data`."""
    app.command("plan")(plan)
    app.command("encode")(encode)
    app.command("join-group")(join_group)
    app.command("schema-template")(schema_template)


def plan(
    sources: Annotated[list[Path], typer.Argument(help="The plaintext tables; a query calls each by its file's name without suffix.")],
    encodings: Annotated[Path | None, typer.Option("--encodings", help="The YAML schema of the one table.")] = None,
    query: Annotated[str | None, typer.Option("--query", help="Spark SQL over the tables.")] = None,
) -> None:
    """Print which encodings a schema or a query needs, what each reveals, and what an attack recovers of your own rows."""
    if (encodings is None) == (query is None) or (encodings is not None and len(sources) != 1):
        raise UsageError("A plan is of one table with --encodings, or of tables with --query.")
    tables = {path.name.split(".")[0]: open_source(path) for path in sources}
    if encodings is not None:
        (name,) = tables
        wanted = [(name, item.column, item.encoding) for item in _within(load_encodings(encodings), tables[name])]
    else:
        wanted = _needed(query or "", tables)
    samples = _samples(tables, wanted)
    for table, column, encoding in wanted:
        found = measure(encoding, samples[table, column].values()) if encoding in GUESSED else None
        _print(table, column, encoding, found)


def encode(
    directory: Annotated[Path, typer.Argument(help="The dataset's directory.")],
    encodings: Annotated[Path, typer.Option("--encodings", help="The YAML schema.")],
    accept_leakage: AcceptLeakage = None,
    identity: IdentityName = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Write the companion of a dataset that has none yet."""
    schema = load_encodings(encodings)
    owner, keystore = open_own(identity, passphrase_file)
    opened = open_dataset(directory, owner=owner.public, keystore=keystore)
    companion = write_companion(opened, schema, identity=owner, keystore=keystore, accept_leakage=accept_leakage or ())
    console.print(
        f"companion  {len(companion.columns)} encoded columns, {companion.rows} rows in {len(companion.parts)} parts", markup=False
    )


def join_group(
    name: Annotated[str, typer.Argument(help="The group's name: lower-case letters, digits, - and _.")],
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make the key of a join group: deterministic columns that name it can be joined across your datasets, and with no others."""
    open_keystore(passphrase_file).add_join_group(name)
    console.print(f"join group  {name}", markup=False)


def schema_template() -> None:
    """Print an encoding schema with an example of each encoding."""
    typer.echo(TEMPLATE, nl=False)


def _within(schema: tuple[ColumnEncoding, ...], source: Source) -> tuple[ColumnEncoding, ...]:
    for item in schema:
        if item.column not in source.schema.names:
            raise UsageError(f"The schema names a column {item.column!r} that the table does not have.", code="usage.schema")
    return schema


def _needed(query: str, tables: dict[str, Source]) -> list[tuple[str, str, EncodingName]]:
    try:
        from securemllib.cli.query_needs import needs
    except ImportError:
        raise UsageError("Planning a query needs sqlglot.", next_step="Install securemllib[sql].", code="usage.missing_package") from None
    found = needs(query, {name: source.schema for name, source in tables.items()})
    return [(table, column, encoding) for (table, column), used in found.items() for encoding in sorted(used)]


def _samples(tables: dict[str, Source], wanted: list[tuple[str, str, EncodingName]]) -> dict[tuple[str, str], Sample]:
    samples = {(table, column): Sample() for table, column, encoding in wanted if encoding in GUESSED}
    for name, source in tables.items():
        columns = [column for table, column in samples if table == name]
        for batch in source.batches if columns else ():
            for column in columns:
                samples[name, column].add(batch.column(column))
    return samples


def _print(table: str, column: str, encoding: EncodingName, found: Leakage | None) -> None:
    console.print(f"{table}.{column}  {encoding.value}", markup=False, style="bold")
    console.print(f"  answers   {answers(encoding)}", markup=False)
    console.print(f"  reveals   {reveals(encoding)}", markup=False)
    if found is not None:
        attack = "sorting" if encoding is EncodingName.ORDER else "counting"
        console.print(
            f"  measured  {attack} recovers {found.recovered:.1%} of {found.rows} sampled rows at least; "
            f"{found.distinct} values, {found.bits:.1f} bits of entropy",
            markup=False,
        )
        if found.near is not None:
            console.print(f"            and {found.near:.1%} to within a hundredth of the column's range", markup=False)
        if found.is_low_entropy:
            console.print(f"  refused   unless --accept-leakage {column}", markup=False, style="red")
