"""Column types: which Arrow types a dataset holds, and the text that a manifest names each by."""

import re

import pyarrow as pa

from securemllib.algorithms.vectors import VECTOR, type_text
from securemllib.errors import DataError, UsageError

__all__ = ["normal_schema", "parse_types", "type_from_text", "type_text"]

_SIMPLE: dict[str, pa.DataType] = {
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint8": pa.uint8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "uint64": pa.uint64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.string(),
    "date32[day]": pa.date32(),
    "vector": VECTOR,
}
# Lists of numbers that are vectors; sets of items, and sequences of such sets.
_ITEMS = [kind for kind in _SIMPLE.values() if pa.types.is_integer(kind) or pa.types.is_string(kind)]
_LISTS = {
    type_text(kind): kind
    for kind in [*map(pa.list_, [pa.float32(), pa.float64(), *_ITEMS]), *(pa.list_(pa.list_(kind)) for kind in _ITEMS)]
}
_ALIASES = {
    "float32": "float",
    "float64": "double",
    "boolean": "bool",
    "str": "string",
    "int": "int64",
    "date": "date32[day]",
    "date32": "date32[day]",
}
_DECIMAL = re.compile(r"decimal(?:128)?\(([0-9]{1,2}), ?([0-9]{1,2})\)")
# What 128 bits hold; MLlib's host, Spark, has no wider one either.
_DECIMAL_DIGITS = 38
_TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns)(?:, ?tz=([A-Za-z0-9_+:/-]+))?\]")


def type_from_text(text: str) -> pa.DataType:
    """Return the Arrow type that a text names; `UsageError` for any other text."""
    if found := _TIMESTAMP.fullmatch(text):
        return pa.timestamp(found.group(1), tz=found.group(2))
    if (found := _DECIMAL.fullmatch(text)) and _is_decimal(*map(int, found.groups())):
        return pa.decimal128(*map(int, found.groups()))
    name = _ALIASES.get(text, text)
    if name not in _SIMPLE and name not in _LISTS:
        raise UsageError(
            f"{text!r} is no column type.",
            next_step=f"Use one of {', '.join(_SIMPLE)}, date, decimal(10, 2), timestamp[us] or timestamp[us, tz=UTC]; or list<double>, "
            "list<string>, list<int64>, list<list<string>>, list<list<int64>>...",
        )
    return _SIMPLE[name] if name in _SIMPLE else _LISTS[name]


def parse_types(text: str) -> dict[str, pa.DataType]:
    """Return the types that a list like ``age=int64,weight=double`` declares; commas within brackets belong to a type."""
    types: dict[str, pa.DataType] = {}
    for item in re.split(r",(?![^\[(]*[\])])", text):
        name, equals, kind = item.strip().rpartition("=") if "tz=" not in item else item.strip().partition("=")
        if not equals or not name:
            raise UsageError(f"{item!r} declares no column's type.", next_step="Write NAME=TYPE, for example age=int64,weight=double.")
        types[name.strip()] = type_from_text(kind.strip())
    return types


def normal_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema that rows of ``schema`` are stored with.

    Large, viewed and dictionary-encoded strings become ``string``, large and fixed-size lists become ``list``, timestamps in seconds become
    milliseconds, the coarsest unit of Parquet; dates are days, decimals of up to 38 digits have 128 bits; metadata is dropped.

    Raises:
        DataError: A column has another type, two columns have one name, or there is no column.
    """
    if len(schema.names) == 0:
        raise DataError("The source has no column.", code="data.no_columns")
    if twice := sorted({name for name in schema.names if schema.names.count(name) > 1}):
        raise DataError(f"The source names {len(twice)} columns twice: {twice}.", code="data.column_twice")
    return pa.schema([pa.field(field.name, _normal(field.type, field.name)) for field in schema])


def _is_decimal(precision: int, scale: int) -> bool:
    return 0 <= scale <= precision <= _DECIMAL_DIGITS and precision > 0


def _stored(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind):
        return pa.list_(_stored(kind.value_type))
    if pa.types.is_timestamp(kind) and kind.unit == "s":
        return pa.timestamp("ms", tz=kind.tz)
    if pa.types.is_date(kind):
        return pa.date32()
    if pa.types.is_decimal(kind):
        return pa.decimal128(kind.precision, kind.scale) if _is_decimal(kind.precision, kind.scale) else pa.null()
    return kind


def _normal(kind: pa.DataType, name: str) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _normal(kind.value_type, name)
    if pa.types.is_struct(kind) and [field.name for field in kind] == [field.name for field in VECTOR]:
        return VECTOR
    stored = _stored(kind)
    if pa.types.is_timestamp(stored) or pa.types.is_decimal(stored) or stored in _SIMPLE.values() or stored in _LISTS.values():
        return stored
    advice = (
        "Cast it to one of: integer, float, boolean, string, date, timestamp, decimal of 38 digits, list of floats, integers or "
        "strings, list of such lists but of floats; or leave it out."
    )
    if pa.types.is_binary(kind):
        advice = f"{advice} Of a text file: it is not in UTF-8; convert it, for example with `iconv -f cp1252 -t utf-8`."
    if pa.types.is_null(kind):
        advice = "Declare its type: every value that was looked at is null."
    raise DataError(f"Column {name!r} has the type {kind}, which datasets do not hold.", next_step=advice, code="data.type")
