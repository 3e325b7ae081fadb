"""A whole training of shards in one process, each message through its tree and back."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from hashlib import sha256
from operator import add
from typing import Any

from securemllib.algorithms.base import Block, Scratch, Seed
from securemllib.algorithms.codec import from_tree, to_tree
from securemllib.algorithms.registry import types_of
from securemllib.algorithms.summary import Summary
from securemllib.wire.encoding import encode


@dataclass
class LocalShard:
    """One share, whose messages are kept in a dictionary that all shares have."""

    index: int
    count: int
    stage: str
    rows: Iterator[Block]
    scratch: Scratch
    kept: dict[Any, Any]
    published: dict[int, Any]

    def send(self, receiver: int, value: Any, piece: int = 0) -> None:
        """Keep a value for another share."""
        self.kept[self.stage, self.index, receiver, piece] = to_tree(value)

    def received(self, kind: type[Any], stage: str, sender: int, piece: int = 0) -> Any:
        """Return what another share sent in the latest round of a stage."""
        return from_tree(kind, self.kept[stage, sender, self.index, piece])

    def publish(self, value: Any) -> bytes:
        """Keep a shard of the model."""
        self.published[self.index] = value
        return sha256(encode(to_tree(value))).digest()


def exchange_states(algorithm: Any, blocks: list[Block], seed: Seed, count: int = 1, *, forgets: bool = False) -> Iterator[Any]:
    """Yield each state, and at last the model and its shards; share ``k`` has every ``count``-th block."""
    state_type, statistics_type, model_type = types_of(type(algorithm))
    state = algorithm.initial(reduce(add, map(Summary.of, blocks)), seed)
    kept: dict[Any, Any] = {}
    published: dict[int, Any] = {}
    scratches = [Scratch() for _ in range(count)]
    while not algorithm.is_done(state):
        state = from_tree(state_type, to_tree(state))
        yield state
        scratches = [Scratch() for _ in range(count)] if forgets else scratches
        # A round reads what rounds before it sent.
        sent = dict(kept)
        shards = [
            LocalShard(index, count, algorithm.stage(state), iter(blocks[index::count]), scratches[index], kept, published)
            for index in range(count)
        ]
        total = reduce(add, [algorithm.exchange(state, _Reading(shard, sent)) for shard in shards])
        state = algorithm.update(state, from_tree(statistics_type, to_tree(total)))
    yield from_tree(model_type, to_tree(algorithm.to_model(state))), [published[index] for index in sorted(published)]


class _Reading:
    """A share that reads the messages of before the round."""

    def __init__(self, shard: LocalShard, sent: dict[Any, Any]) -> None:
        self._shard, self._sent = shard, sent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shard, name)

    def received(self, kind: type[Any], stage: str, sender: int, piece: int = 0) -> Any:
        """Return what another share sent before this round."""
        return from_tree(kind, self._sent[stage, sender, self._shard.index, piece])


def fit_shards(algorithm: Any, blocks: list[Block], seed: Seed, count: int = 1, *, forgets: bool = False) -> Any:
    """Return the factors of all shards together."""
    *_, (model, shards) = exchange_states(algorithm, blocks, seed, count, forgets=forgets)
    return model.whole(shards)
