"""A model that was released to somebody else than the analyst."""

from dataclasses import dataclass

from securemllib.spark.storage import Folder
from securemllib.wire.signed import Signed

__all__ = ["ReleasedModel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedModel:
    """A sealed model with its key, which is wrapped for one recipient.

    Attributes:
        model: The encoding of the `SealedModel`.
        key: The broker's signed `WrappedModelKey`.
    """

    model: bytes
    key: Signed

    def save(self, path: str) -> None:
        """Write ``model.sml`` and ``key.sml`` to a folder for the recipient."""
        folder = Folder.of(path)
        folder.write("model.sml", self.model)
        folder.write("key.sml", self.key.to_bytes())
