"""What policies let out: a model for somebody else than the analyst, and the values of a summary."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from securemllib.algorithms.codec import from_tree
from securemllib.algorithms.registry import ALGORITHMS, types_of
from securemllib.errors import FormatError
from securemllib.spark.blocks import copy_pieces
from securemllib.spark.storage import Folder
from securemllib.wire.encoding import Value
from securemllib.wire.result import SealedModel
from securemllib.wire.signed import Signed

__all__ = ["ReleasedModel", "summary_values"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedModel:
    """A sealed model with its key, which is wrapped for one recipient.

    Attributes:
        model: The encoding of the `SealedModel`.
        key: The broker's signed `WrappedModelKey`.
        pieces: Where the model's pieces are.
    """

    model: bytes
    key: Signed
    pieces: Folder | None = None

    def save(self, path: str) -> None:
        """Write ``model.sml`` and ``key.sml``, and the pieces of a large model, to a new folder for the recipient."""
        folder = Folder.of(path)
        folder.require_new()
        copy_pieces(SealedModel.from_bytes(self.model), self.pieces, folder)
        folder.write("model.sml", self.model)
        folder.write("key.sml", self.key.to_bytes())


def summary_values(operation: str, tree: Value) -> dict[str, Any]:
    """Return the values of a summary by the names in the algorithm's model; `FormatError` where they are not those."""
    model = types_of(ALGORITHMS[operation])[2]
    if not isinstance(tree, dict) or tree.keys() != set(model.SUMMARY):
        raise FormatError(f"A summary of {operation} has the fields {sorted(model.SUMMARY)}.")
    return {name: from_tree(np.ndarray, value) if isinstance(value, dict) else value for name, value in tree.items()}
