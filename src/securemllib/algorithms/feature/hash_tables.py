"""What locality-sensitive hashing of vectors shares: how wide they are, Java's random numbers, columns of hashes, and keys of searches."""

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.feature.values import inputs_of, vector_of
from securemllib.algorithms.params import require_integer
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.algorithms.vectors import VECTOR, AnyVector, SparseVector
from securemllib.errors import DataError, UsageError

__all__ = ["HashModel", "JavaRandom", "Key", "Width", "WidthPass", "WidthState", "outputs_of", "require_key", "require_tables"]

# Of a search: how many slots its vector has, those that are not 0, and their values; nothing without a search.
Key = tuple[tuple[float, ...], ...]
_KEY_ROWS = 3

# Of the linear congruential generator that `java.util.Random` is documented to be.
_FACTOR, _SUMMAND, _STATE_BITS = 0x5DEECE66D, 0xB, 48
_MASK = np.uint64((1 << _STATE_BITS) - 1)
_SEEDS = 1 << 63
# Numbers drawn at once, so that a wide vector's tables need no more memory than a few of its rows.
_DRAWN = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Width:
    """Rows, and the slots of their vectors: none where there is no row to tell."""

    rows: int
    columns: int

    @classmethod
    def of(cls, block: Block) -> Self:
        """Return those of the block's only raw column."""
        return cls(rows=block.rows, columns=vector_of(inputs_of(block)[0], "input").width if block.rows else 0)

    def __add__(self, other: Self) -> Self:
        if not self.rows or not other.rows:
            return self if self.rows else other
        if self.columns != other.columns:
            raise DataError("The vectors of two parts differ in length.", code="data.length")
        return type(self)(rows=self.rows + other.rows, columns=self.columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class WidthState:
    """That of all rows, None before the only round."""

    total: Width | None = None

    @property
    def columns(self) -> int:
        """The slots of the vectors; `DataError` where there is no row."""
        if self.total is None:
            raise UsageError("The training has not finished: its only round is missing.")
        if not self.total.rows:
            raise DataError("There is no row to learn from.", code="data.no_rows")
        return self.total.columns


class WidthPass:
    """The only pass of a hash: it learns how wide vectors are."""

    __slots__ = ()

    def initial(self, summary: Summary, seed: Seed) -> WidthState:
        """Return the empty state."""
        del summary, seed
        return WidthState()

    def is_done(self, state: WidthState) -> bool:
        """Return whether the pass has been made."""
        return state.total is not None

    def statistics(self, state: WidthState, block: Block) -> Width:
        """Return how wide the block's vectors are."""
        del state
        return Width.of(block)

    def update(self, state: WidthState, total: Width) -> WidthState:
        """Return the finished state."""
        del state
        return WidthState(total=total)


class JavaRandom:
    """The numbers that ``java.util.Random`` draws, many at once.

    Args:
        seed: A long.
    """

    def __init__(self, seed: int) -> None:
        self._state = np.uint64((seed ^ _FACTOR) & int(_MASK))
        # After k steps the state is _FACTOR**k times the first one, and the sum of the lower powers times _SUMMAND.
        powers = np.multiply.accumulate(np.full(_DRAWN, _FACTOR, dtype=np.uint64))
        self._powers = powers
        self._sums = np.uint64(_SUMMAND) * (1 + np.concatenate([np.zeros(1, np.uint64), np.add.accumulate(powers[:-1])]))

    def _next(self, bits: int) -> NDArray[np.uint64]:
        states = (self._powers * self._state + self._sums) & _MASK
        self._state = states[-1]
        return states >> np.uint64(_STATE_BITS - bits)

    def gaussians(self, count: int) -> NDArray[np.float64]:
        """Return as many numbers as ``nextGaussian`` draws first."""
        found, missing = [np.zeros(0)], count
        while missing > 0:
            words = self._next(27).reshape(-1, 2)
            # The first word of a double has 26 bits.
            drawn = 2.0 * (((words[:, 0] >> np.uint64(1) << np.uint64(27)) + words[:, 1]) * 2.0**-53).reshape(-1, 2) - 1.0
            size = (drawn**2).sum(axis=1)
            inside = (size < 1.0) & (size != 0.0)
            drawn, size = drawn[inside], size[inside]
            found.append((drawn * np.sqrt(-2.0 * np.log(size) / size)[:, None]).ravel())
            missing -= len(found[-1])
        return np.concatenate(found)[:count]

    def integers(self, count: int, bound: int) -> NDArray[np.int64]:
        """Return as many numbers as ``nextInt(bound)`` draws first; the bound is no power of 2."""
        found: list[NDArray[np.int64]] = []
        while sum(map(len, found)) < count:
            drawn = self._next(31).astype(np.int64)
            found.append(drawn[drawn < (1 << 31) // bound * bound] % bound)
        return np.concatenate(found)[:count]


class HashModel(Protocol):
    """A model of hashes, and the key of a search with it."""

    @property
    def key(self) -> Key:
        """The key; empty where nothing is searched for."""

    def hashes(self, vector: AnyVector) -> NDArray[np.float64]:
        """Return ``(n, t)`` the hashes of vectors."""

    def distances(self, vector: AnyVector, key: SparseVector) -> NDArray[np.float64]:
        """Return ``(n,)`` how far vectors are from the only one of another column."""


def outputs_of(model: HashModel, vector: AnyVector) -> Transformed:
    """Return ``output``: for each table a vector of the hash; and ``distance``, to a key, null where they share the hash of no table.

    Raises:
        DataError: The key has another number of slots.
    """
    hashes = model.hashes(vector)
    columns = {"output": Column(_hashed(hashes))}
    if model.key:
        (size,), slots, values = model.key
        if size != vector.width:
            raise DataError(f"The key has {int(size)} slots, the vectors have {vector.width}.", code="data.length")
        places = np.array(slots, dtype=np.int64)
        key = SparseVector(sparse.csr_array((np.array(values), (np.zeros_like(places), places)), shape=(1, vector.width)))
        shared = (hashes == model.hashes(key)).any(axis=1)
        columns["distance"] = Column(pa.array(model.distances(vector, key), mask=~shared))
    return Transformed(columns=columns)


def require_key(key: Key) -> None:
    """Raise unless a key is one, or there is none."""
    if not key:
        return
    if len(key) != _KEY_ROWS or len(key[0]) != 1 or len(key[1]) != len(key[2]) or not np.isfinite(np.concatenate(key)).all():
        raise UsageError("a key is a vector of finite numbers", code="usage.param")
    slots = np.array([-1.0, *key[1], *key[0]])
    if (slots != np.floor(slots)).any() or not (np.diff(slots) > 0).all():
        raise UsageError("the slots of a key ascend below its size", code="usage.param")


def _hashed(values: NDArray[np.float64]) -> pa.Array:
    """Return a list of vectors of one slot a row, as MLlib's hash functions give them, of ``(n, t)`` hashes."""
    rows, tables = values.shape
    count = rows * tables
    none = pa.nulls(count, VECTOR.field("size").type), pa.nulls(count, VECTOR.field("indices").type)
    single = pa.ListArray.from_arrays(pa.array(np.arange(count + 1, dtype=np.int32)), pa.array(values.ravel()))
    vectors = pa.StructArray.from_arrays([pa.array(np.ones(count, dtype=np.int8)), *none, single], fields=list(VECTOR))
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32) * np.int32(tables)), vectors)


def require_tables(params: object, most: int) -> None:
    """Raise unless the Params ``num_hash_tables`` and ``seed`` are integers within their domains."""
    require_integer(params, "num_hash_tables", 1)
    require_integer(params, "seed", -_SEEDS)
    if params.num_hash_tables > most or params.seed >= _SEEDS:  # type: ignore[attr-defined]
        raise UsageError(f"num_hash_tables must be at most {most}, and seed below 2**63", code="usage.param")
