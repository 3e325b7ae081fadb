"""Opening what a query over encoded columns left, with the columns' keys.

The host says what it computed, and nothing proves it: a wrong sum or a left-out row opens to a wrong number. What cannot pass is a code or
a sum that was not made with the columns' keys and rows: codes open as values of their type, and a sum only with the rows that it adds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from securemllib.algorithms.expressions import evaluate
from securemllib.errors import CoverError, DataError, FormatError, FreshnessError, UsageError
from securemllib.owner.atomic import new_file, outside
from securemllib.owner.companion import OpenCompanion
from securemllib.owner.encrypted_sums import open_encrypted_sums, present_counts
from securemllib.wire.companion import EncodingName
from securemllib.wire.dataset import DatasetRef
from securemllib.wire.plan import Expression, Reference
from securemllib.wire.query import HEADER_FILE, ROWS_DIRECTORY, Field, Form, ResultHeader, SortKey

__all__ = ["open_query_result", "write_query_result"]

_WORD_BITS = 64
# Which word it is, and its bits.
_WORD_FIELDS = 2
_DECIMAL_DIGITS = 38


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """The opened fields of a result."""

    count: int
    fields: dict[str, pa.Array]

    def scalar(self, name: str) -> pa.Array:
        if name not in self.fields:
            raise FormatError(f"The result has no field {name}.")
        return self.fields[name]

    def drawn(self, purpose: str, seed: int) -> NDArray[np.float64]:
        raise DataError(f"An opened result draws no random numbers, {purpose} of the seed {seed} neither.", code="data.expression")


def open_query_result(directory: str | Path, companions: Sequence[OpenCompanion]) -> pa.Table:
    """Return the rows of a query's result.

    1. Each of its fields is of a dataset version whose companion is given.
    2. Codes were made with the key of the column that the field names; a sum adds just as many values as it names rows, and a sum of
       ciphertexts just the blocks that have such rows, within its bound.
    3. What remains to be done is arithmetic, a condition, sorting and a limit, over opened fields.

    Args:
        directory: What `EncodedFrame.save` wrote.
        companions: The companions of the datasets that the query read, with their keys.

    Raises:
        IntegrityError: 2 does not hold, or the files are no result.
        FreshnessError: The result is of another version than the given companion.
        DataError: The query's arithmetic does not fit the opened types, or overflows.
        UsageError: A companion is missing.
    """
    path = Path(directory)
    if not (path / HEADER_FILE).is_file():
        raise UsageError(f"{path} is no result of a query: it has no {HEADER_FILE}.", code="usage.missing_file")
    header = ResultHeader.from_bytes((path / HEADER_FILE).read_bytes())
    keyed = {reference: _companion(reference, companions) for reference in header.datasets}  # 1
    try:
        rows = pq.read_table(path / ROWS_DIRECTORY)
        opened = _Opened(count=rows.num_rows, fields={field.name: _field(field, rows, keyed) for field in header.fields})  # 2
    except (pa.ArrowException, KeyError, DataError) as error:
        raise FormatError(f"The rows of the result do not fit its header: {type(error).__name__}.", code="integrity.result") from None
    try:
        return _finished(header, opened)  # 3
    except pa.ArrowException:
        raise DataError("What the query does with its result does not fit the result's types.", code="data.expression") from None


def write_query_result(directory: str | Path, destination: str | Path, companions: Sequence[OpenCompanion]) -> int:
    """Write the rows of a query's result to a new Parquet file and return their number.

    Args:
        directory: See `open_query_result`.
        destination: The file; not where the host reads, for opened sums of ciphertexts tell about their key.
        companions: See `open_query_result`.

    Raises:
        UsageError: The file would lie in the result's or a dataset's directory, or exists.
        IntegrityError: See `open_query_result`.
    """
    shared = [Path(directory), *(companion.directory.parent for companion in companions)]
    target = outside(Path(destination), shared)
    rows = open_query_result(directory, companions)
    with new_file(target) as temporary:
        pq.write_table(rows, temporary)
    return int(rows.num_rows)


def _companion(reference: DatasetRef, companions: Sequence[OpenCompanion]) -> OpenCompanion:
    for found in companions:
        if found.companion.dataset == reference:
            return found
        if found.companion.dataset.dataset_id == reference.dataset_id:
            raise FreshnessError(
                f"The result is of version {reference.version} of dataset {reference.dataset_id}, not of the given one.",
                next_step="Give the directory of that version, or ask again.",
                code="integrity.dataset_versions",
            )
    raise UsageError(
        f"The result needs the keys of dataset {reference.dataset_id}.",
        next_step="Give its directory with --dataset.",
        code="usage.dataset",
    )


def _field(field: Field, rows: pa.Table, keyed: dict[DatasetRef, OpenCompanion]) -> pa.Array:
    physical = [rows[name].combine_chunks() for name in field.physical]
    if field.dataset is None:
        return physical[0]
    companion = keyed[field.dataset]
    column = companion.column(field.column, field.encoding)
    if field.form is Form.CODES:
        return column.decode(dict(zip(column.description.stored, physical, strict=True)))
    cover = _cover(field, rows, companion.companion.rows)
    if field.form is Form.COUNT:
        return pa.array(present_counts(column, cover.groups, cover.rows, len(cover.counts)))
    if field.encoding is EncodingName.HOMOMORPHIC:
        counts = present_counts(column, cover.groups, cover.rows, len(cover.counts))
        opened = pa.array(open_encrypted_sums(column, physical[0], cover.groups, cover.rows))
    else:
        counts, (hi, lo) = cover.counts, (limb.fill_null(0).cast(pa.int64()).to_numpy() for limb in physical)
        opened = column.open_sums(hi, lo, cover.rows, counts)
    if field.zeros:
        counts = counts + rows[field.zeros].combine_chunks().fill_null(0).cast(pa.int64()).to_numpy()
    return pc.if_else(pa.array(counts > 0), opened, pa.scalar(None, opened.type))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cover:
    """The rows that sums add: their numbers, the sum of each in order, and how many each sum has."""

    rows: NDArray[np.int64]
    groups: NDArray[np.int64]
    counts: NDArray[np.int64]


def _cover(field: Field, rows: pa.Table, last_row: int) -> _Cover:
    """Return the rows that the sums of a field add, of which there are as many as the host says."""
    counts = rows[field.count].combine_chunks().fill_null(0).cast(pa.int64()).to_numpy()
    groups, covers = _covers(rows[field.rows].combine_chunks())
    if covers.size and (covers.min() < 1 or covers.max() > last_row):
        raise CoverError(f"A sum of {field.column} names rows beyond the {last_row} that there are.", code="integrity.cover")
    found = np.bincount(groups, minlength=len(counts))
    if len(found) != len(counts) or np.any(found != counts):
        wrong = int(np.count_nonzero(found[: len(counts)] != counts))
        raise CoverError(
            f"{wrong} of {len(counts)} sums of column {field.column} add more or fewer values than they name rows.",
            next_step="Sum columns of the table whose rows the query's joins do not repeat; else the host computed something else.",
            code="integrity.cover",
        )
    return _Cover(rows=covers, groups=groups, counts=counts)


def _covers(words: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each row that a sum adds the sum's position and the row's number, in the order of the sums."""
    if not (
        pa.types.is_list(words.type) and pa.types.is_struct(words.type.value_type) and words.type.value_type.num_fields == _WORD_FIELDS
    ):
        raise FormatError(f"Values of {words.type} name no rows.", code="integrity.result")
    lengths = pc.list_value_length(words).fill_null(0).to_numpy()
    buckets, bits = (item.cast(pa.int64()).to_numpy() for item in words.flatten().flatten())
    owners = np.repeat(np.arange(len(lengths)), lengths)
    unique = len(np.unique(np.stack([owners, buckets]), axis=1).T) if len(owners) else 0
    if unique != len(owners):
        raise CoverError("A sum names rows twice.", code="integrity.cover")
    there = np.unpackbits(bits.astype("<i8").view(np.uint8), bitorder="little").reshape(-1, _WORD_BITS)
    which, bit = np.nonzero(there)
    return owners[which], buckets[which] * _WORD_BITS + bit


def _finished(header: ResultHeader, opened: _Opened) -> pa.Table:
    columns = {f"o{number}": _evaluated(output.expression, opened) for number, output in enumerate(header.outputs)}
    keys: list[tuple[str, str]] = []
    for number, key in enumerate(header.order):
        columns |= _key_columns(number, key, opened)
        direction = "descending" if key.descending else "ascending"
        keys += [(f"n{number}", "descending" if key.nulls_first else "ascending"), (f"m{number}", direction), (f"k{number}", direction)]
    table = pa.table(columns)
    if header.having is not None:
        table = table.filter(_evaluated(header.having, opened))
    if keys:
        table = table.sort_by(keys)
    if header.limit is not None:
        table = table.slice(0, header.limit)
    return table.select(list(columns)[: len(header.outputs)]).rename_columns([output.name for output in header.outputs])


def _evaluated(expression: Expression, opened: _Opened) -> pa.Array:
    """Return an expression's values. Decimals enter arithmetic with the digits that they have: those of types soon are over 38."""
    if isinstance(expression, Reference):
        return evaluate(expression, opened)
    values = evaluate(expression, replace(opened, fields={name: _narrowed(field) for name, field in opened.fields.items()}))
    return values.cast(pa.decimal128(_DECIMAL_DIGITS, values.type.scale)) if pa.types.is_decimal128(values.type) else values


def _narrowed(values: pa.Array) -> pa.Array:
    if not pa.types.is_decimal128(values.type):
        return values
    largest = pc.max(pc.abs(values)).as_py() or Decimal(0)
    scale = values.type.scale
    return values.cast(pa.decimal128(max(largest.adjusted() + 1 + scale, scale, 1), scale))


def _key_columns(number: int, key: SortKey, opened: _Opened) -> dict[str, pa.Array]:
    """Return three columns that sort as one key does: nulls, not-a-number, which Arrow sorts last in both directions, and values."""
    values = _evaluated(key.expression, opened)
    largest = pc.is_nan(values) if pa.types.is_floating(values.type) else pa.repeat(False, len(values))
    return {f"n{number}": pc.is_null(values).cast(pa.int8()), f"m{number}": largest.cast(pa.int8()), f"k{number}": values}
