"""The one shape that every algorithm has, and the rows it reads.

::

    state = algorithm.initial(summary, seed)                # aggregator
    while not algorithm.is_done(state):
        total = sum(algorithm.statistics(state, block) for block in blocks)   # workers, then summed
        state = algorithm.update(state, total)              # aggregator
    model = algorithm.to_model(state)

The law: statistics of a union are the sum of the statistics. The engine sums in a fixed order, so that a rerun gives the same bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from securemllib.algorithms.summary import Summary

__all__ = ["Algorithm", "Array", "Block", "Model", "Seed", "Statistics"]

Array = NDArray[np.floating[Any]]


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
    """

    ordinal: int
    features: Array
    offset: NDArray[np.float64]
    label: NDArray[np.float64] | None = None
    weight: NDArray[np.float64] | None = None
    prediction: NDArray[np.float64] | None = None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.features.shape[0])

    @property
    def columns(self) -> int:
        """The number of features."""
        return int(self.features.shape[1])


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
    """What a worker returns of a block: a frozen dataclass of arrays and numbers that adds up."""

    def __add__(self, other: Self) -> Self: ...


class Model(Protocol):
    """What training yields: a frozen dataclass of arrays and numbers.

    Attributes:
        SUMMARY: The fields that a training summary holds where the policy releases it; they are no part of what predicts.
        CHANGEABLE: The fields that whoever applies the model may set anew, as MLlib's models have Params of their own.
    """

    SUMMARY: ClassVar[tuple[str, ...]]
    CHANGEABLE: ClassVar[tuple[str, ...]] = ()

    def predict(self, features: NDArray[np.float64]) -> Mapping[str, NDArray[np.float64]]:
        """Return the output columns by the stem of their Param (``prediction``, ``probability``, ``output``...).

        Args:
            features: ``(n, d)`` float64, not centred.

        Returns:
            Arrays of shape ``(n,)`` or ``(n, k)``.
        """
        ...


StateT = TypeVar("StateT")
StatisticsT = TypeVar("StatisticsT", bound=Statistics)
ModelT = TypeVar("ModelT", covariant=True)


class Algorithm(Protocol[StateT, StatisticsT, ModelT]):
    """One algorithm with its frozen params."""

    def initial(self, summary: "Summary", seed: Seed) -> StateT:
        """Return the first state, from the summary of all rows."""
        ...

    def is_done(self, state: StateT) -> bool:
        """Return whether training has ended."""
        ...

    def statistics(self, state: StateT, block: Block) -> StatisticsT:
        """Return the statistics of one block."""
        ...

    def update(self, state: StateT, total: StatisticsT) -> StateT:
        """Return the next state, from the statistics of all rows."""
        ...

    def to_model(self, state: StateT) -> ModelT:
        """Return what training yielded."""
        ...
