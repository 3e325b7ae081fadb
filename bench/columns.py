"""What it costs to encode a column for plain Spark, beside writing the same column as plain Parquet; one core."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measure import Samples, alternate

from securemllib.crypto.encodings import additive, deterministic, order, token
from securemllib.crypto.encodings.homomorphic import SecretContext
from securemllib.crypto.keys import DataKey

__all__ = ["Encoded", "compare_encodings"]

_ROWS = 10_000_000
_HOMOMORPHIC_ROWS = 2_000_000
_DISTINCT = 50_000
_DIGITS = "0123456789"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """What one encoding cost.

    Attributes:
        name: Of the workload.
        rows: How many values were encoded.
        ours: The costs of encoding them.
        plain: The costs of writing them as plain Parquet, into memory.
        target_seconds: The CPU seconds to stay below.
    """

    name: str
    rows: int
    ours: Samples
    plain: Samples
    target_seconds: float


def compare_encodings(scale: float, runs: int) -> Iterator[Encoded]:
    """Yield what each encoding costs, with the target for so many rows."""
    pa.set_cpu_count(1)
    key, generator = DataKey.generate(), np.random.default_rng(1)
    rows = max(1000, round(_ROWS * scale))
    numbers = pa.array(generator.integers(0, 2**40, rows))
    texts = pa.array([f"customer {number}" for number in range(_DISTINCT)]).take(pa.array(generator.integers(0, _DISTINCT, rows)))
    prices = pa.array(generator.integers(0, _DISTINCT, rows) / 100)
    cards = pa.array(generator.integers(10**15, 10**16, rows)).cast(pa.string())
    doubles = numbers[: max(1000, round(_HOMOMORPHIC_ROWS * scale))].cast(pa.float64())
    scaled = pa.array(doubles.to_numpy() / 2**12)
    secret = SecretContext.generate()
    plans: list[tuple[str, pa.Array, Callable[[pa.Array], object], float]] = [
        ("encode_deterministic_integers", numbers, lambda column: deterministic.encode(key, column), 0.6),
        ("encode_deterministic_texts", texts, lambda column: deterministic.encode(key, column), 5.0),
        ("encode_order", prices, _ranked, 2.5),
        ("encode_order_all_distinct", numbers, _ranked, 2.5),
        ("encode_additive", numbers, lambda column: additive.encode(key, column), 0.3),
        ("encode_token", cards, lambda column: token.encode(key, column, alphabet=_DIGITS), 8.0),
        # 0.8 million values a second.
        ("encode_homomorphic", scaled, secret.encode, _ROWS / 0.8e6),
    ]
    for name, column, encode, target in plans:
        ours, plain = alternate(_call(encode, column), _call(_written, column), warm_up=1, runs=runs)
        yield Encoded(name=name, rows=len(column), ours=ours, plain=plain, target_seconds=target * len(column) / _ROWS)


def _call(function: Callable[[pa.Array], object], column: pa.Array) -> Callable[[int], Callable[[], object]]:
    return lambda _: lambda: function(column)


def _ranked(column: pa.Array) -> pa.Array:
    builder = order.DictionaryBuilder()
    builder.add(column)
    return order.encode(builder.finish(), column)


def _written(column: pa.Array) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"column": column}), sink)
    return sink.getvalue()
