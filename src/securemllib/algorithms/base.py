"""The one shape that every algorithm has, and the rows it reads.

::

    state = algorithm.initial(summary, seed)                # aggregator
    while not algorithm.is_done(state):
        total = sum(algorithm.statistics(state, block) for block in blocks)   # workers, then summed
        state = algorithm.update(state, total)              # aggregator
    model = algorithm.to_model(state)

An algorithm whose workers need what other workers computed has ``exchange`` in the place of ``statistics``: each share of the rows is
a shard, which reads what the shards sent it in earlier rounds, sends to each of them, and returns its statistics; those of all shards
are summed as above. A round in which shards send has a name, its stage.

The law: statistics of a union are the sum of the statistics. The engine sums in a fixed order, so that a rerun gives the same bytes.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array

if TYPE_CHECKING:
    from securemllib.algorithms.summary import Summary

__all__ = ["Algorithm", "Array", "Block", "Exchange", "Model", "Scratch", "Seed", "Shard", "Statistics", "idle_bounded"]

Array = NDArray[np.floating[Any]]

# Its square, and the square of that, is a number; of float32 it is one itself.
_FAR = 2.0**100


class Scratch:
    """Arrays that one job derives from one block, such as binned features, and reads again in later rounds.

    What is kept may be dropped at any time, so it is a pure function of its key and the block, for one job.

    Args:
        reserve: Asked with a change of bytes before they are kept; False when the memory bound does not allow it.
    """

    __slots__ = ("_held", "_lock", "_reserve")

    def __init__(self, reserve: Callable[[int], bool] | None = None) -> None:
        self._reserve: Callable[[int], bool] = reserve or (lambda change: change < 2**63)
        self._held: dict[str, tuple[object, Any, int]] = {}
        self._lock = Lock()

    def get(self, name: str, key: object, make: Callable[[], Any]) -> Any:
        """Return what is held under a name if its key is equal; otherwise make it, and hold it in the place of the old one.

        Args:
            name: What it is.
            key: Which position of the computation it belongs to.
            make: Returns an array, or a tuple of arrays.
        """
        with self._lock:
            held = self._held.get(name)
        if held is not None and held[0] == key:
            return held[1]
        made = make()
        size = sum(array.nbytes for array in (made if isinstance(made, tuple) else (made,)))
        with self._lock:
            before = self._held.pop(name, (None, None, 0))[2]
            if self._reserve(size - before):
                self._held[name] = (key, made, size)
            else:
                self._reserve(-before)
        return made

    def held(self, name: str, key: object) -> Any:
        """Return what is held under a name and key, or None."""
        with self._lock:
            found = self._held.get(name)
        return found[1] if found is not None and found[0] == key else None

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._reserve(-sum(size for _, _, size in self._held.values()))
            self._held.clear()
            # Who still computes with it finds no room: nobody would give that back.
            self._reserve = lambda change: change <= 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The rows of one part, as an algorithm reads them.

    Attributes:
        ordinal: The part's position in the dataset; the position of this block's randomness.
        features: ``(n, d)`` float32 or float64, C-contiguous and **centred**: a true row is ``features[i] + offset``.
        offset: ``(d,)`` float64, this block's own centre.
        label: ``(n,)`` float64, or None where the algorithm reads no label.
        weight: ``(n,)`` float64, or None where every row weighs 1.
        prediction: ``(n,)`` float64, read by evaluators only.
        sparse: ``(n, d)`` rows as they are, not centred, where the features are sparse and the algorithm is `SPARSE`; then
            ``features`` is ``(n, 0)``.
        classes: Categories of the label, where what made it tells them, whether rows have them or not; else 0.
        arity: ``(d,)`` categories of each nominal feature, or of each scalar of `raw` where no features are read; 0 for a continuous
            one; None where all are continuous.
        extras: ``(n,)`` float64 columns by further roles, for example ``offset`` of a generalized linear regression.
        raw: Arrow arrays by the roles ``input0``, ``input1``... of algorithms that read columns as they are: strings, numbers with nulls,
            vectors to their last bit (`to_stored` ones, dense or sparse).
        scratch: What the job derived from this block before.
    """

    ordinal: int
    features: Array
    offset: NDArray[np.float64]
    label: NDArray[np.float64] | None = None
    weight: NDArray[np.float64] | None = None
    prediction: NDArray[np.float64] | None = None
    sparse: csr_array | None = None
    arity: NDArray[np.int64] | None = None
    classes: int = 0
    extras: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    raw: Mapping[str, pa.Array] = field(default_factory=dict)
    scratch: Scratch = field(default_factory=Scratch, compare=False, repr=False)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.features.shape[0])

    @property
    def columns(self) -> int:
        """The number of features."""
        return int(self.features.shape[1] if self.sparse is None else self.sparse.shape[1])

    @property
    def nbytes(self) -> int:
        """The bytes of all columns."""
        arrays: list[Any] = [self.features, self.offset, self.label, self.weight, self.prediction, self.arity]
        arrays += [*self.extras.values(), *self.raw.values()]
        arrays += [] if self.sparse is None else [self.sparse.data, self.sparse.indices, self.sparse.indptr]
        return sum(array.nbytes for array in arrays if array is not None)


def idle_bounded(block: Block) -> Block:
    """Return a block whose rows of weight 0 hold no finite number that is infinite once it is squared: 0 times that would be no number.

    Features are bounded in their place.
    """
    if block.weight is None or block.weight.all():
        return block
    idle, sparse = block.weight == 0, block.sparse
    values, there = (block.features, idle[:, np.newaxis]) if sparse is None else (sparse.data, np.repeat(idle, np.diff(sparse.indptr)))
    np.clip(values, -_FAR, _FAR, out=values, where=there & np.isfinite(values))
    columns = {name: column for name in ("label", "prediction") if (column := getattr(block, name)) is not None}
    bounded = {name: np.where(idle & np.isfinite(column), np.clip(column, -_FAR, _FAR), column) for name, column in columns.items()}
    return replace(block, **bounded)


@dataclass(frozen=True, slots=True)
class Seed:
    """The root of an algorithm's randomness: 32 bytes that the host does not know.

    A generator is named by its position in the computation, so that the same step repeated draws the same numbers.
    """

    value: bytes

    def generator(self, *position: int | str) -> np.random.Generator:
        """Return the generator of one position, for example ``seed.generator("sample", round, block.ordinal)``."""
        named = "/".join(str(step) for step in position).encode()
        key = sha256(self.value + named).digest()
        return np.random.Generator(np.random.Philox(key=np.frombuffer(key[:16], dtype="<u8")))


class Statistics(Protocol):
    """What a worker returns of a block: a frozen dataclass of arrays and numbers that adds up.

    Attributes:
        ADDITIVE: The fields that are plain sums, numbers or arrays of them, whose shapes the state decides. In a round that is additive
            every other field is the same for all blocks, even one without rows. Without any, statistics are added in enclaves only.
        SYMMETRIC: Those of them that are symmetric matrices.
    """

    ADDITIVE: ClassVar[tuple[str, ...]] = ()
    SYMMETRIC: ClassVar[tuple[str, ...]] = ()

    def __add__(self, other: Self) -> Self: ...


class Model(Protocol):
    """What training yields: a frozen dataclass of arrays and numbers.

    Attributes:
        SUMMARY: The fields that a training summary holds where the policy releases it, which are no part of what predicts, and the
            properties, which are numbers.
        CHANGEABLE: The fields that whoever applies the model may set anew, as MLlib's models have Params of their own.

    A model whose summary tells groups of rows apart says with a ``smallest_group`` how many rows, or how much weight, the smallest has.
        SPARSE: Whether `predict` takes compressed sparse rows too.
    """

    SUMMARY: ClassVar[tuple[str, ...]]
    CHANGEABLE: ClassVar[tuple[str, ...]] = ()
    SPARSE: ClassVar[bool] = False

    def predict(self, features: NDArray[np.float64]) -> Mapping[str, NDArray[np.float64]]:
        """Return the output columns by the stem of their Param (``prediction``, ``probability``, ``output``...).

        Args:
            features: ``(n, d)`` float64, not centred.

        Returns:
            Arrays of shape ``(n,)`` or ``(n, k)``.
        """


T = TypeVar("T")
StateT = TypeVar("StateT")
StatisticsT = TypeVar("StatisticsT", bound=Statistics)
ModelT = TypeVar("ModelT", covariant=True)


class Algorithm(Protocol[StateT, StatisticsT, ModelT]):
    """One algorithm with its frozen params.

    Attributes:
        SPARSE: Whether it reads sparse features as such; others get them with all zeros, within the enclave's memory bound.
    """

    SPARSE: ClassVar[bool] = False

    def initial(self, summary: "Summary", seed: Seed) -> StateT:
        """Return the first state, from the summary of all rows."""

    def is_done(self, state: StateT) -> bool:
        """Return whether training has ended."""

    def statistics(self, state: StateT, block: Block) -> StatisticsT:
        """Return the statistics of one block."""

    def accumulate(self, total: StatisticsT, state: StateT, block: Block) -> None:
        """Add the statistics of one block to a total, in its place; where not defined, they are made and added."""

    def is_additive(self, state: StateT) -> bool:
        """Return whether the next round's statistics are nothing but sums of their ``ADDITIVE`` fields; True where not defined."""

    def nothing(self, state: StateT) -> StatisticsT:
        """Return the statistics of no rows in the shapes that a state decides; where not defined, those of a block without rows."""

    def update(self, state: StateT, total: StatisticsT) -> StateT:
        """Return the next state, from the statistics of all rows."""

    def to_model(self, state: StateT) -> ModelT:
        """Return what training yielded."""


class GoesOn(Protocol):
    """What an algorithm has besides, whose trainings go on from the sums behind a model; ``decay_factor`` is what those count.

    The sums have the `Summary` of their rows in ``summary``, and ``decayed(factor)``. A model whose training carries its sums equals one of
    all rows, each with its weight times ``decay_factor`` for every training since.
    """

    def going_on(self, summary: "Summary", seed: Seed, behind: Any) -> Any:
        """Return the first state, from the summary of the new rows and the sums of those behind, if there are some."""

    def behind(self, state: Any, sums: Any) -> Statistics:
        """Return the statistics of the rows behind, which are added to those of the new rows."""

    def sums(self, state: Any) -> Any:
        """Return the sums that a model carries, once training has ended."""


class Shard(Protocol):
    """One share of the rows in one round of an `Exchange`."""

    index: int
    rows: Iterator[Block]
    scratch: Scratch

    @property
    def count(self) -> int:
        """How many shards there are."""

    def send(self, receiver: int, value: Any, piece: int = 0) -> None:
        """Send a dataclass of arrays and numbers to one shard, which reads it in a later round."""

    def received(self, kind: type[T], stage: str, sender: int, piece: int = 0) -> T:
        """Return what a shard sent to this one when it last went through a stage."""

    def publish(self, value: Any) -> bytes:
        """Make a value this shard's piece of the model, and return the digest by which the model must name it, in the shards' order."""


class Exchange(Protocol):
    """What an algorithm whose shards send each other what they computed has in the place of ``statistics``.

    Its model may be sharded too: then it names the shards' digests in ``shards`` and the class of what they published in ``SHARD``, and its
    ``transform`` takes a function that returns one of them.
    """

    def stage(self, state: Any) -> str:
        """Return the name of the round that a state opens."""

    def exchange(self, state: Any, shard: Shard) -> Any:
        """Return the statistics of one shard."""
