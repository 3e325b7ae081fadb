"""A dataset as the driver knows it."""

from dataclasses import dataclass
from functools import cached_property

from securemllib.spark.storage import Folder
from securemllib.wire.dataset import DatasetRef, Manifest, manifest_digest

__all__ = ["Source"]


# Without slots: the name is kept, because every job asks for it several times, and a manifest of many columns takes long to digest.
@dataclass(frozen=True, kw_only=True)
class Source:
    """A dataset: its folder, its manifest and the manifest's encoding."""

    folder: Folder
    manifest: Manifest
    encoded: bytes

    @cached_property
    def reference(self) -> DatasetRef:
        """The name of the dataset's version."""
        return DatasetRef(dataset_id=self.manifest.dataset_id, version=self.manifest.version, digest=manifest_digest(self.encoded))
