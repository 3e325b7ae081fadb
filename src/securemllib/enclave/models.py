"""The models that a job uses: whole ones in memory, the shards of a sharded one as rows ask for them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Scratch
from securemllib.algorithms.codec import from_tree
from securemllib.algorithms.registry import algorithm_of, types_of
from securemllib.crypto.keys import DataKey
from securemllib.crypto.models import ModelRoot, open_piece, open_root, whole_tree
from securemllib.enclave.host import Host
from securemllib.wire.encoding import decode
from securemllib.wire.result import SealedModel, piece_name

__all__ = ["OpenedModel", "Usable", "open_model", "usable"]

# A model, and what returns one of its shards.
Usable = tuple[Any, Callable[[int], Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedModel:
    """A model that a job names.

    Attributes:
        sealed: What the host handed over.
        key: Its key.
        root: What it says.
        model: The algorithm's own model.
    """

    sealed: SealedModel
    key: DataKey
    root: ModelRoot
    model: Any

    def shard(self, scratch: Scratch, host: Host, index: int) -> Any:
        """Return one shard of a sharded model, asked for from the host unless it was kept."""

        def opened() -> NDArray[np.uint8]:
            envelope = host.block(self.sealed.model_id, piece_name(index))
            return np.frombuffer(open_piece(self.sealed, self.key, self.root, index, envelope), dtype=np.uint8)

        raw = scratch.get(f"{self.sealed.model_id}/{index}", b"", opened)
        return from_tree(self.model.SHARD, decode(raw.data, limit=raw.nbytes))


def usable(opened: OpenedModel, scratch: Scratch, host: Host) -> Usable:
    """Return a model and what returns its shards while a request is worked on."""
    return opened.model, partial(opened.shard, scratch, host)


def open_model(sealed: SealedModel, key: DataKey, host: Host) -> OpenedModel:
    """Return a model; one that was split for its size is put together here. `IntegrityError` where it is not what an enclave sealed."""
    root = open_root(sealed, key)
    tree = whole_tree(sealed, key, root, lambda index: host.block(sealed.model_id, piece_name(index)))
    return OpenedModel(sealed=sealed, key=key, root=root, model=from_tree(types_of(algorithm_of(sealed.operation))[2], tree))
