"""Sealed blocks that enclaves let the host keep: what shards of a job send each other, and the pieces of large messages and models."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from securemllib.errors import FormatError, UnavailableError
from securemllib.spark.storage import Folder
from securemllib.wire.result import SealedModel, piece_name, statistics_name

__all__ = ["Blocks", "copy_pieces", "copy_statistics", "has_statistics", "pieces_in"]

# The folder of exchanged blocks among a job's files; a model's pieces lie beside its checkpoints.
_EXCHANGED = "exchanged"
_EXCHANGED_NAME = re.compile(r"([a-z]+)-([0-9]+)-[0-9]+-[0-9]+-[0-9]+")
# Read in one round and by no attempt that resumes; a name's first number is the round.
_PASSING_NAME = re.compile(r"(?:state|statistics|masked)-([0-9]+)-.*")
_NAME = re.compile(r"[a-z]+(-[0-9]+)+")
_STATISTICS = re.compile(r"statistics-[0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """The folders that a job's relays keep blocks in and hand them out of.

    Attributes:
        job_id: The job.
        folder: Its own.
        models: The folders of the pieces of the models that it uses, and those of jobs in the same stage, by their ids.
    """

    job_id: str
    folder: Folder
    models: tuple[tuple[str, Folder], ...] = ()

    def keep(self, job_id: str, name: str, block: memoryview) -> None:
        """Keep a block; `UnavailableError` where it cannot be written."""
        folder = self._folder(job_id, name)
        if _EXCHANGED_NAME.fullmatch(name):
            # A machine that loses them as it falls loses a job that another attempt repeats.
            folder.child(_EXCHANGED).write(name, block, is_synced=False)
        else:
            folder.write(name, block)

    def read(self, job_id: str, name: str) -> bytes:
        """Return a block of this job or of a model that it uses; `UnavailableError` where there is none."""
        folder = self._folder(job_id, name)
        try:
            return (folder.child(_EXCHANGED) if _EXCHANGED_NAME.fullmatch(name) else folder).read(name)
        except UnavailableError as error:
            raise UnavailableError(
                f"The sealed block {name} of job {job_id} is not in {folder.root}.",
                next_step="Set spark.securemllib.storage to a folder that every executor reaches.",
                code="unavailable.storage",
            ) from error

    def _folder(self, job_id: str, name: str) -> Folder:
        folder = self.folder if job_id == self.job_id else dict(self.models).get(job_id)
        if folder is None or not _NAME.fullmatch(name):
            raise FormatError(f"The enclave asked for {name!r} of job {job_id}.")
        return folder

    def discard(self, names: set[str], round_number: int) -> None:
        """Delete those blocks that nothing but rounds before this one reads, and take them from the names."""
        for name in [name for name in names if (matched := _PASSING_NAME.fullmatch(name)) and int(matched[1]) < round_number]:
            self.folder.child(_EXCHANGED).remove(name)
            names.remove(name)

    def prune(self, head: int | None) -> None:
        """Delete the exchanged blocks that no attempt asks for again, once the broker recorded a head; all of them once the job ended."""
        folder = self.folder.child(_EXCHANGED)
        found = [matched for name in folder.names() if (matched := _EXCHANGED_NAME.fullmatch(name))]
        if head is None:
            if found:
                folder.delete()
            return
        latest: dict[str, int] = {}
        for block in found:
            if int(block[2]) < head:
                latest[block[1]] = max(latest.get(block[1], 0), int(block[2]))
        for block in found:
            if int(block[2]) < latest.get(block[1], 0):
                folder.remove(block[0])


def pieces_in(model: SealedModel, folder: Folder | None) -> Iterator[bytes]:
    """Yield a sealed model's pieces, one at a time; `UnavailableError` where they are not in the folder."""
    for index in range(model.pieces):
        if folder is None:
            raise UnavailableError(
                f"Nobody knows where the {model.pieces} pieces of model {model.model_id} are.", code="unavailable.storage"
            )
        yield folder.read(piece_name(index))


def copy_pieces(model: SealedModel, source: Folder | None, target: Folder) -> None:
    """Copy a sealed model's pieces, one at a time; `UnavailableError` where they are not in the source."""
    for index, piece in enumerate(pieces_in(model, source)):
        target.write(piece_name(index), piece)


def has_statistics(folder: Folder | None) -> bool:
    """Return whether sealed statistics lie beside a model."""
    return folder is not None and folder.exists(statistics_name(0))


def copy_statistics(source: Folder | None, target: Folder) -> None:
    """Copy the sealed statistics beside a model, if there are some, their pieces first."""
    if source is not None and has_statistics(source):
        for name in sorted(filter(_STATISTICS.fullmatch, source.names()), reverse=True):
            target.write(name, source.read(name))
