"""Numbers to the index of their bucket: what Bucketizer and the model of QuantileDiscretizer share."""

import itertools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from securemllib.algorithms.feature.values import decoded, numbers_of, refuse_invalid
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.errors import DataError, UsageError

__all__ = ["INVALID", "bucketed", "require_splits"]

INVALID = ("error", "skip", "keep")


def require_splits(splits: Sequence[float]) -> None:
    """Raise `UsageError` unless there are at least 3 splits, strictly increasing."""
    if len(splits) < 3 or not all(low < high for low, high in itertools.pairwise(splits)):
        raise UsageError("splits must be at least 3 numbers in strictly increasing order", code="usage.param")


def bucketed(columns: tuple[Column, ...], splits: Sequence[Sequence[float]], handle_invalid: str) -> Transformed:
    """Return ``output0``, ``output1``...: bucket ``i`` holds ``splits[i] <= x < splits[i + 1]``, the last one its upper end too.

    Args:
        columns: Numbers.
        splits: Of each column.
        handle_invalid: Whether a NaN is an error, drops its row, or goes to a bucket of its own after the others. A null is no number:
            it drops its row under ``skip``, and stays a null otherwise.

    Raises:
        DataError: A value lies outside of the splits, or is invalid and not to be kept or skipped.
    """
    if len(columns) != len(splits):
        raise DataError(f"There are splits for {len(splits)} columns, not for {len(columns)}.", code="data.length")
    outputs: dict[str, Column] = {}
    kept = np.ones(columns[0].rows, dtype=bool)
    for index, (column, edges) in enumerate(zip(columns, splits, strict=True)):
        values = numbers_of(column, f"input{index}")
        invalid, null = np.isnan(values), np.asarray(decoded(column.values).is_null())
        if handle_invalid == "error":
            refuse_invalid(invalid & ~null, f"a NaN in input {index}")
        found, buckets = _found(values, invalid, np.array(edges), index), len(edges) - 1
        found[invalid] = buckets
        kept &= ~invalid
        # As in MLlib the bucket of what is invalid is none of the categories: encoders and trees take it for an unseen one.
        outputs[f"output{index}"] = Column(pa.array(found.astype(np.float64), mask=null), arity=np.array([buckets]))
    return Transformed(columns=outputs, keep=kept if handle_invalid == "skip" else None)


def _found(values: NDArray[np.float64], invalid: NDArray[np.bool_], edges: NDArray[np.float64], index: int) -> NDArray[np.int64]:
    outside = ~invalid & ~((values >= edges[0]) & (values <= edges[-1]))
    if outside.any():
        raise DataError(
            f"{int(outside.sum())} rows of input {index} lie outside of the buckets.",
            code="data.outside",
            next_step="Let the first split be -inf and the last one inf.",
        )
    return np.minimum(np.searchsorted(edges, values, side="right") - 1, len(edges) - 2).astype(np.int64)
