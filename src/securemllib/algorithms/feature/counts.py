"""How often each text or number of a column occurs: statistics that add up."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from securemllib.errors import DataError

__all__ = ["MAX_VALUES", "NumberCounts", "TextCounts"]

# Distinct texts that one column may have: beyond, a vocabulary no longer fits a round's message beside its counts.
MAX_VALUES = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class TextCounts:
    """Distinct texts in the order of their UTF-8 bytes, with a count each.

    Attributes:
        text: The UTF-8 bytes of all texts, one after the other.
        ends: ``(m + 1,)`` where each text ends, after a leading 0.
        counts: ``(m, c)`` integers that add up, one row a text.
    """

    text: NDArray[np.uint8]
    ends: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, array: pa.Array) -> Self:
        """Return the counts of a column's texts, nulls left out."""
        encoded = array.drop_null().dictionary_encode()
        counts = np.bincount(np.asarray(encoded.indices), minlength=len(encoded.dictionary))
        return cls.among(encoded.dictionary, counts[:, None])

    @classmethod
    def among(cls, values: pa.Array, counts: NDArray[np.int64]) -> Self:
        """Return the counts of distinct values in any order, ``(m, c)``; `DataError` where there are too many."""
        if len(values) > MAX_VALUES:
            raise DataError(f"A column has {len(values)} distinct values, over the bound of {MAX_VALUES}.", code="data.vocabulary")
        order = pc.sort_indices(values)
        values = values.take(order).cast(pa.large_string())
        ends = (
            np.frombuffer(values.buffers()[1], dtype="<i8")[values.offset : values.offset + len(values) + 1] if len(values) else np.zeros(1)
        )
        data = values.buffers()[2]
        text = np.frombuffer(data, dtype=np.uint8)[int(ends[0]) : int(ends[-1])] if data is not None else np.zeros(0, np.uint8)
        return cls(text=text, ends=(ends - ends[0]).astype(np.int64), counts=counts[np.asarray(order)].astype(np.int64))

    @property
    def values(self) -> pa.Array:
        """The texts, as ``large_string``."""
        buffers = [None, pa.py_buffer(np.ascontiguousarray(self.ends)), pa.py_buffer(np.ascontiguousarray(self.text))]
        return pa.Array.from_buffers(pa.large_string(), len(self.counts), buffers)

    def __add__(self, other: Self) -> Self:
        both = pa.concat_arrays([self.values, other.values]).dictionary_encode()
        index = np.asarray(both.indices)
        counts = np.zeros((len(both.dictionary), self.counts.shape[1]), dtype=np.int64)
        counts[index[: len(self.counts)]] += self.counts
        counts[index[len(self.counts) :]] += other.counts
        return type(self).among(both.dictionary, counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberCounts:
    """Distinct numbers in order, ``(m,)``, with a count each."""

    numbers: NDArray[np.float64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, numbers: NDArray[np.float64], counts: NDArray[np.int64] | None = None) -> Self:
        """Return the counts of numbers, each standing for one row or for a count of rows; `DataError` where there are too many."""
        # Adding 0 makes -0 the same as 0.
        distinct, index = np.unique(numbers + 0.0, return_inverse=True)
        if len(distinct) > MAX_VALUES:
            raise DataError(f"A column has {len(distinct)} distinct values, over the bound of {MAX_VALUES}.", code="data.vocabulary")
        total = np.zeros(len(distinct), dtype=np.int64)
        np.add.at(total, index, 1 if counts is None else counts)
        return cls(numbers=distinct, counts=total)

    def __add__(self, other: Self) -> Self:
        return type(self).of(np.concatenate([self.numbers, other.numbers]), np.concatenate([self.counts, other.counts]))

    @property
    def mode(self) -> float:
        """The most frequent number; of equally frequent ones the smallest."""
        return float(self.numbers[self.counts.argmax()])
