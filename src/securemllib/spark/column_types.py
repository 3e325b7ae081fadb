"""Column types: the manifest's Arrow names to Spark's types."""

import re
from collections.abc import Iterable

from pyspark.ml.linalg import VectorUDT
from pyspark.sql import types as spark_types
from pyspark.sql.types import DataType, StructField, StructType

from securemllib.errors import FormatError
from securemllib.wire.dataset import Column

__all__ = ["VECTOR", "is_number", "is_vector", "schema_of"]

VECTOR = VectorUDT()

_SIMPLE: dict[str, DataType] = {
    "null": spark_types.NullType(),
    "bool": spark_types.BooleanType(),
    "int8": spark_types.ByteType(),
    "int16": spark_types.ShortType(),
    "int32": spark_types.IntegerType(),
    "int64": spark_types.LongType(),
    "uint8": spark_types.ShortType(),
    "uint16": spark_types.IntegerType(),
    "uint32": spark_types.LongType(),
    "uint64": spark_types.DecimalType(20, 0),
    "halffloat": spark_types.FloatType(),
    "float": spark_types.FloatType(),
    "double": spark_types.DoubleType(),
    "string": spark_types.StringType(),
    "large_string": spark_types.StringType(),
    "string_view": spark_types.StringType(),
    "binary": spark_types.BinaryType(),
    "large_binary": spark_types.BinaryType(),
    "vector": VECTOR,
    "date32[day]": spark_types.DateType(),
}
_TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns)(, tz=.+)?\]")
_LIST = re.compile(r"(?:large_|fixed_size_)?list<(?:\w+: )?(.+?)(?: not null)?>(?:\[\d+\])?")
_DECIMAL = re.compile(r"decimal\d*\((\d+), (\d+)\)")


def schema_of(columns: Iterable[Column]) -> StructType:
    """Return the Spark schema of a dataset's columns."""
    return StructType([StructField(column.name, _type(column.type), column.nullable) for column in columns])


def _type(text: str) -> DataType:
    if text in _SIMPLE:
        return _SIMPLE[text]
    if text.startswith("dictionary<values="):
        return _type(text.removeprefix("dictionary<values=").split(",")[0])
    if found := _TIMESTAMP.fullmatch(text):
        return spark_types.TimestampType() if found.group(2) else spark_types.TimestampNTZType()
    if found := _LIST.fullmatch(text):
        return spark_types.ArrayType(_type(found.group(1)))
    if found := _DECIMAL.fullmatch(text):
        return spark_types.DecimalType(int(found.group(1)), int(found.group(2)))
    raise FormatError(f"The manifest has a column of type {text!r}, which Spark has not.")


def is_number(kind: DataType) -> bool:
    """Return whether algorithms read such a column as a number: numeric and boolean types."""
    return isinstance(kind, (spark_types.NumericType, spark_types.BooleanType))


def is_vector(kind: DataType) -> bool:
    """Return whether algorithms read such a column as a vector: vectors and, as in MLlib, lists of floats but not of integers."""
    is_floating = isinstance(kind, spark_types.ArrayType) and isinstance(kind.elementType, spark_types.FloatType | spark_types.DoubleType)
    return is_floating or isinstance(kind, VectorUDT)
