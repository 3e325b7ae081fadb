"""Where rows come from: readers that yield Arrow record batches of a few megabytes, whatever the source's size."""

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq

from securemllib.errors import DataError, IntegrityError, UsageError
from securemllib.owner.column_types import normal_schema, type_text
from securemllib.owner.parquet_keys import FileKey, ParquetKeys, require_gcm

__all__ = ["Source", "from_arrow", "from_csv", "from_json", "from_pandas", "from_parquet", "open_source"]

# Large enough for vectorised work, small enough that batches under way do not matter.
_BATCH_BYTES = 8 * 2**20
_BATCH_ROWS = 65_536
# Types are inferred from this much of a text file.
_INFERENCE_BYTES = 8 * 2**20
# Arrow reads up to 32 blocks ahead, so that a block's size bounds the memory; a block must hold a few of the longest lines.
_BLOCK_BYTES = 2**20
_LINES_PER_BLOCK = 16

_CSV_SUFFIXES = {".csv", ".tsv"}
_JSON_SUFFIXES = {".json", ".jsonl", ".ndjson"}
_PARQUET_SUFFIXES = {".parquet", ".pq"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Rows to encrypt; they can be read once.

    Attributes:
        schema: The columns as they are stored.
        batches: Record batches of a few megabytes with that schema.
        rows: How many rows there are, where that is known beforehand.
        inferred: The columns whose types were inferred, with their types' text, to be shown to the owner.
    """

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    rows: int | None = None
    inferred: Mapping[str, str]


def open_source(
    source: object,
    *,
    types: Mapping[str, pa.DataType] | None = None,
    null_values: Sequence[str] | None = None,
    keys: ParquetKeys | None = None,
) -> Source:
    """Return the rows of a path, an Arrow table, a record batch reader, or a pandas DataFrame.

    Args:
        source: A ``.parquet`` file or a directory of them, a ``.csv``, ``.tsv`` or JSON-lines file, or an object that holds rows.
        types: Declared types, for CSV and JSON; the others are inferred.
        null_values: The texts that stand for null, for CSV.
        keys: The keys of Parquet files that are encrypted.
    """
    if isinstance(source, Source):
        return source
    if isinstance(source, str | Path):
        return _from_path(Path(source), types or {}, null_values, keys)
    if keys is not None:
        raise UsageError("Keys are given for Parquet files only.")
    if types or null_values is not None:
        raise UsageError("Types and null values are declared for CSV and JSON files only.")
    if isinstance(source, pa.Table | pa.RecordBatchReader):
        return from_arrow(source)
    if hasattr(source, "columns") and hasattr(source, "dtypes"):
        return from_pandas(source)
    raise UsageError(
        f"A {type(source).__name__} is no source of rows.",
        next_step="Give a Parquet, CSV or JSON-lines path, an Arrow table or a DataFrame.",
    )


def _from_path(path: Path, types: Mapping[str, pa.DataType], null_values: Sequence[str] | None, keys: ParquetKeys | None) -> Source:
    _require_file(path)
    suffixes = [suffix for suffix in path.suffixes if suffix not in {".gz", ".bz2", ".zst"}]
    suffix = suffixes[-1].lower() if suffixes else ""
    is_parquet = path.is_dir() or suffix in _PARQUET_SUFFIXES
    if keys is not None and not is_parquet:
        raise UsageError("Keys are given for Parquet files only.")
    if suffix in _CSV_SUFFIXES:
        return _separated(path, "\t" if suffix == ".tsv" else ",", types, null_values)
    if null_values is not None:
        raise UsageError("Null values are declared for CSV files only.")
    if suffix in _JSON_SUFFIXES:
        return from_json(path, types=types)
    if types:
        raise UsageError("Types are declared for CSV and JSON files only.")
    if is_parquet:
        return from_parquet(path, keys=keys)
    raise UsageError(f"{path.name} has no suffix that names its format.", next_step="Rename it to .parquet, .csv, .tsv or .jsonl.")


def _require_file(path: Path) -> None:
    if not path.exists():
        raise UsageError(f"There is no {path}.", code="usage.missing_file")
    if not (path.is_file() or path.is_dir()):
        raise UsageError(
            f"{path} is no file or directory: rows are read more than once, which a pipe does not allow.",
            next_step="Write the rows to a file first, or read them in Python and give an Arrow table.",
            code="usage.pipe",
        )


def _separated(path: Path, delimiter: str, types: Mapping[str, pa.DataType], null_values: Sequence[str] | None) -> Source:
    source = from_csv(path, types=types, null_values=null_values, delimiter=delimiter)
    others = {";", "|", "\t"} if delimiter == "," else {";", "|", ","}
    if len(source.schema) == 1 and (found := others & set(source.schema.names[0])):
        raise DataError(
            f"{path.name} has one column, with {min(found)!r} in its name, which does not separate the values of such a file.",
            next_step="Separate them by commas in a .csv, by tabs in a .tsv file; in Python `from_csv` takes any delimiter.",
            code="data.delimiter",
        )
    return source


def from_arrow(table: pa.Table | pa.RecordBatchReader) -> Source:
    """Return the rows of an Arrow table or of a record batch reader."""
    schema = normal_schema(table.schema)
    if isinstance(table, pa.Table):
        step = _rows_per_batch(table.nbytes, table.num_rows)
        return Source(schema=schema, batches=_cast(iter(table.to_batches(step)), schema), rows=table.num_rows, inferred={})
    return Source(schema=schema, batches=_cast(iter(table), schema), inferred={})


def from_pandas(frame: Any) -> Source:
    """Return the rows of a pandas DataFrame without its index; NaN in its columns means null, as it does to pandas."""
    if not frame.columns.is_unique:
        raise DataError("The DataFrame names a column twice.", next_step="Rename its columns.", code="data.column_twice")
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        raise DataError(
            "A column of the DataFrame mixes types, holds Python objects or integers of more than 64 bits.",
            next_step="Cast its columns with `astype`.",
            code="data.type",
        ) from None
    return from_arrow(table)


def from_parquet(path: Path, *, keys: ParquetKeys | None = None) -> Source:
    """Return the rows of a Parquet file, or of all Parquet files of a directory in the order of their names.

    With keys every file must be encrypted as a whole with AES_GCM_V1 under the key that they name.
    """
    paths = [path] if path.is_file() else sorted(item for item in path.iterdir() if item.suffix in _PARQUET_SUFFIXES)
    if not paths:
        raise UsageError(f"{path} holds no Parquet file.")
    opened: list[tuple[Path, FileKey | None]] = [(item, None if keys is None else keys.of(item)) for item in paths]
    metadata = [_parquet_metadata(item, key) for item, key in opened]
    schemas = [normal_schema(item.schema.to_arrow_schema()) for item in metadata]
    if any(schema != schemas[0] for schema in schemas):
        raise DataError(f"The Parquet files of {path} differ in their columns.", code="data.schema")
    rows = sum(item.num_rows for item in metadata)
    size = sum(item.row_group(group).total_byte_size for item in metadata for group in range(item.num_row_groups))
    return Source(
        schema=schemas[0], batches=_cast(_parquet_batches(opened, _rows_per_batch(size, rows)), schemas[0]), rows=rows, inferred={}
    )


def _parquet_metadata(path: Path, key: FileKey | None) -> pq.FileMetaData:
    if key is not None:
        require_gcm(path)
    try:
        return pq.read_metadata(path, decryption_properties=None if key is None else key.decryption())
    except (pa.ArrowInvalid, OSError):
        if key is not None:
            raise IntegrityError(f"{path.name} does not open with its key and AAD prefix.", code="integrity.parquet") from None
        raise DataError(
            f"{path.name} is no Parquet file that can be read without keys.",
            next_step="Give the keys of an encrypted file with --parquet-keys.",
            code="data.parquet",
        ) from None


def _parquet_batches(opened: Sequence[tuple[Path, FileKey | None]], step: int) -> Iterator[pa.RecordBatch]:
    for path, key in opened:
        try:
            with pq.ParquetFile(path, decryption_properties=None if key is None else key.decryption()) as file:
                yield from file.iter_batches(batch_size=step)
        except OSError:
            raise IntegrityError(f"{path.name} was changed, or is cut off.", code="integrity.parquet") from None


def from_csv(
    path: Path, *, types: Mapping[str, pa.DataType] | None = None, null_values: Sequence[str] | None = None, delimiter: str = ","
) -> Source:
    """Return the rows of a CSV file with a header line.

    Types that are not declared are inferred from the first 8 MiB; a later value that does not fit stops the reading with its row and
    column. Without declared null values, Arrow's list (empty, NA, NaN, null...) means null except in text columns, which have none.
    """

    def reader(input_: pa.NativeFile, block: int, declared: Mapping[str, pa.DataType]) -> Any:
        nulls = {} if null_values is None else {"null_values": list(null_values), "strings_can_be_null": True}
        return pa_csv.open_csv(
            input_,
            # With threads Arrow does not know the row of a value that does not fit.
            read_options=pa_csv.ReadOptions(block_size=block, use_threads=False),
            # A quoted text may go on over several lines.
            parse_options=pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(column_types=dict(declared), **nulls),
        )

    source = _from_text(reader, types or {}, path)
    _require_digits(reader, source, types or {}, path)
    return source


def from_json(path: Path, *, types: Mapping[str, pa.DataType] | None = None) -> Source:
    """Return the rows of a file with one JSON object a line; types that are not declared are inferred from its first 8 MiB."""

    def reader(input_: pa.NativeFile, block: int, declared: Mapping[str, pa.DataType]) -> Any:
        options = pa_json.ParseOptions(explicit_schema=pa.schema(list(declared.items())), unexpected_field_behavior="infer")
        return pa_json.open_json(input_, read_options=pa_json.ReadOptions(block_size=block), parse_options=options)

    source = _from_text(reader, types or {}, path)
    doubles = [name for name, kind in source.inferred.items() if kind == "double"]
    for row in _json_rows(path) if doubles else ():
        for name in doubles:
            if isinstance(value := row.get(name), int) and not _is_double(value):
                raise _rounded(name, path, "Write them as texts, in quotation marks")
    return source


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the first rows of a file, with all digits of their integers; what is no row is for Arrow to tell."""
    for line in _head(path).splitlines():
        with contextlib.suppress(ValueError):
            row = json.loads(line, parse_int=lambda digits: int(digits[:_MOST_DIGITS]))
            yield row if isinstance(row, dict) else {}


# Shorter integers are doubles without loss.
_LONG_INTEGER = "^[+-]?[0-9]{16,}$"
# No double has more before its point.
_MOST_DIGITS = 400
_Reader = Callable[[pa.NativeFile, int, Mapping[str, pa.DataType]], Any]


def _from_text(reader: _Reader, types: Mapping[str, pa.DataType], path: Path) -> Source:
    head = _head(path)
    if not head.strip():
        raise DataError(f"{path.name} is empty.", code="data.no_rows")
    try:
        # An open reader's thread would abort the interpreter at its end.
        with pa.input_stream(path, compression="detect") as stream, reader(stream, _INFERENCE_BYTES, types) as opened:
            first = opened.schema
            if pa.null() in first.types and not any(batch.num_rows for batch in opened):
                raise DataError(f"{path.name} has a header and no rows.", code="data.no_rows")
    except (pa.ArrowInvalid, pa.ArrowKeyError, pa.ArrowNotImplementedError) as error:
        raise _misfit(error, path, delivered=0) from None
    if unknown := sorted(types.keys() - set(first.names)):
        raise UsageError(f"Types are declared for columns that {path.name} does not have: {unknown}.")
    schema = normal_schema(first)
    inferred = {field.name: type_text(field.type) for field in schema if field.name not in types}
    block = max(_BLOCK_BYTES, _LINES_PER_BLOCK * max(map(len, head.split(b"\n"))))
    return Source(schema=schema, batches=_cast(_text_batches(reader, block, schema, path), schema), inferred=inferred)


def _require_digits(reader: _Reader, source: Source, types: Mapping[str, pa.DataType], path: Path) -> None:
    """Raise where a column was taken for doubles, and one of its integers in the first rows is none: an id would become another one."""
    texts = {name: pa.string() for name, kind in source.inferred.items() if kind == "double"}
    if not texts:
        return
    with pa.input_stream(path, compression="detect") as stream, reader(stream, _INFERENCE_BYTES, {**types, **texts}) as opened:
        for name, column in zip(texts, next(iter(opened)).select(list(texts)).columns, strict=True):
            integers = column.filter(pc.match_substring_regex(column, _LONG_INTEGER).fill_null(False))
            if not all(_is_double(int(text)) for text in set(integers.to_pylist())):
                raise _rounded(name, path, f"Declare its type: --types {name}=string")


def _is_double(value: int) -> bool:
    try:
        return int(float(value)) == value
    except OverflowError:
        return False


def _rounded(name: str, path: Path, advice: str) -> DataError:
    return DataError(
        f"Column {name!r} of {path.name} has integers that neither 64 bits nor doubles hold.",
        next_step=f"{advice}; or declare --types {name}=double to round them.",
        code="data.type",
    )


def _head(path: Path) -> bytes:
    """Return the whole lines in the first 8 MiB of a file, decompressed."""
    with pa.input_stream(path, compression="detect") as stream:
        head: bytes = stream.read(_INFERENCE_BYTES)
    end = head.rfind(b"\n")
    return head if len(head) < _INFERENCE_BYTES or end < 0 else head[: end + 1]


def _text_batches(reader: _Reader, block: int, schema: pa.Schema, path: Path) -> Iterator[pa.RecordBatch]:
    rows = 0
    try:
        types = {field.name: field.type for field in schema}
        with pa.input_stream(path, compression="detect") as stream, reader(stream, block, types) as opened:
            for batch in opened:
                if batch.schema.names != schema.names:
                    raise DataError(f"A later block of {path.name} has other columns than its first.", code="data.schema")
                yield from _slices(batch)
                rows += batch.num_rows
    except pa.ArrowInvalid as error:
        raise _misfit(error, path, delivered=rows) from None


def _misfit(error: Exception, path: Path, *, delivered: int) -> DataError:
    """Return an error that says where a value does not fit; Arrow's own text may quote the value and is dropped.

    Args:
        error: Arrow's error. CSV rows are counted from the header, which is row 1; JSON rows from 0 in the block that failed.
        path: The file.
        delivered: The rows of the blocks before.
    """
    text = str(error)
    csv_row, json_row = re.search(r"Row #(\d+)", text), re.search(r" in row (\d+)", text)
    column = re.search(r"CSV column #(\d+)|Column\(/?([^)]{1,64})\)", text)
    kind = re.search(r"conversion error to ([a-z0-9]+)|convert JSON to ([a-z0-9]+)", text)
    width = re.search(r"Expected (\d+) columns, got (\d+)", text)
    where = f"a row after row {delivered}"
    if csv_row:
        where = f"row {csv_row.group(1)} (the header is row 1)"
    elif json_row:
        where = f"row {delivered + int(json_row.group(1)) + 1}"
    if column:
        where += f", column {int(column.group(1)) + 1}" if column.group(1) else f", column {column.group(2)!r}"
    if width:
        return DataError(f"In {path.name}, {where}: {width.group(2)} values where {width.group(1)} are expected.", code="data.row")
    if "straddl" in text:
        return DataError(
            f"In {path.name}, {where}: a row is too long, or a quotation mark is not closed.",
            next_step="Store such texts in Parquet, or close the quotation mark.",
            code="data.row",
        )
    if "unexpected field" in text:
        return DataError(
            f"In {path.name}, {where}: a field that the first rows do not have.", next_step="Declare its type.", code="data.row"
        )
    what = f"is no {kind.group(1) or kind.group(2)}" if kind else "does not fit its column's type, or the row is no row of this format"
    advice = "Declare the column's type or the texts that mean null."
    return DataError(f"In {path.name}, {where}: the value {what}.", next_step=advice, code="data.value")


def _rows_per_batch(size: int, rows: int) -> int:
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES * rows // size if size else _BATCH_ROWS))


def _slices(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    step = _rows_per_batch(batch.nbytes, batch.num_rows)
    for start in range(0, batch.num_rows, step):
        yield batch.slice(start, step)


def _cast(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the batches with the stored schema; `DataError` where a text is too large to be stored."""
    for batch in batches:
        try:
            yield batch if batch.schema.equals(schema, check_metadata=True) else batch.cast(schema)
        except pa.ArrowInvalid:
            raise DataError(f"A batch of {batch.num_rows} rows does not fit the columns' types.", code="data.value") from None
