"""Linear scores of encrypted rows, computed by Spark's own tasks on ciphertexts: no enclave, and no key on the host.

The model is in the clear here: its coefficients are multiplied with ciphertexts. A model that must stay private is used in an enclave. A
task needs TenSEAL, of the extra ``securemllib[homomorphic]``, and the public context, with which nothing can be opened.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from securemllib.errors import FormatError, UsageError
from securemllib.spark.storage import Folder
from securemllib.wire.companion import PUBLIC_CONTEXT
from securemllib.wire.encrypted_rows import REQUEST, ROWS_FILE, SCORE_COLUMNS

__all__ = ["linear_scores"]

_SCHEMA = "request string, block bigint, rows bigint, weight double, score binary"
_TYPES = (pa.string(), pa.int64(), pa.int64(), pa.float64(), pa.binary())
# The last slots of each ciphertext hold what its error is measured by, and no row.
_GUARD_SLOTS = 8


def linear_scores(spark: SparkSession, path: str, coefficients: Mapping[str, float], intercept: float = 0.0) -> DataFrame:
    """Return the encrypted scores of encrypted rows, a row a block; write them to Parquet for the client who opens them.

    A linear regression's score is its prediction; of a logistic regression the client makes the probability, once it is opened.

    Args:
        spark: A Spark session.
        path: The directory of the encrypted rows.
        coefficients: The model's coefficients, by feature.
        intercept: The model's intercept.

    Raises:
        UsageError: The rows lack a feature, or no coefficient is other than zero.
    """
    folder = Folder.of(path)
    with folder.parquet(ROWS_FILE) as file:
        names, blocks = file.schema_arrow.names, file.num_row_groups
        metadata = {name.decode(): value.decode() for name, value in (file.schema_arrow.metadata or {}).items()}
    if {REQUEST, PUBLIC_CONTEXT} - metadata.keys():
        raise FormatError(f"{ROWS_FILE} of {folder.root} holds no encrypted rows.")
    missing = sorted(set(coefficients) - set(names))
    used = {name: float(value) for name, value in coefficients.items() if value}
    if missing or not used:
        raise UsageError(f"The rows lack the features {missing}, or every coefficient is zero.", code="usage.features")
    task = _Scoring(
        folder=folder,
        request=metadata[REQUEST],
        context=bytes.fromhex(metadata[PUBLIC_CONTEXT]),
        coefficients=used,
        intercept=float(intercept),
    )
    # Tasks get the blocks' numbers and read the ciphertexts themselves: through the virtual machine they would cost more than their scores.
    return spark.range(blocks).mapInArrow(task, _SCHEMA)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scoring:
    """What a Spark task does to the blocks of its share."""

    folder: Folder
    request: str
    context: bytes
    coefficients: Mapping[str, float]
    intercept: float

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the score of each block, whose numbers are in the batches."""
        import tenseal

        context = tenseal.context_from(self.context)
        # A score is one product deep, so it need not be brought back to the scale of its factors, which costs time and precision.
        context.auto_rescale = False
        weight = sum(self.coefficients.values())
        with self.folder.parquet(ROWS_FILE) as file:
            for number in (number for batch in batches for number in batch["id"].to_pylist()):
                (block,) = file.read_row_group(number, columns=["block", "rows", *self.coefficients]).to_pylist()
                row = (self.request, block["block"], block["rows"], weight, self._score(tenseal, context, block))
                columns = [pa.array([value], kind) for value, kind in zip(row, _TYPES, strict=True)]
                yield pa.RecordBatch.from_arrays(columns, names=list(SCORE_COLUMNS))

    def _score(self, tenseal: Any, context: Any, block: Mapping[str, Any]) -> bytes:
        total: Any = None
        largest = max(self.coefficients, key=lambda name: abs(self.coefficients[name]))
        for name, coefficient in self.coefficients.items():
            vector = tenseal.ckks_vector_from(context, block[name])
            if name == largest and self.intercept:
                # The intercept is added to the feature that divides it least; the guards keep their known result.
                slots = vector.size()
                vector += [self.intercept / coefficient] * (slots - _GUARD_SLOTS) + [0.0] * _GUARD_SLOTS
            term = vector * coefficient
            total = term if total is None else total + term
        return bytes(total.serialize())
