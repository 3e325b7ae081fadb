"""Folders of ciphertext: local directories, or any file system that pyarrow can reach by its URI."""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from pyarrow import ArrowException
from pyarrow import fs as arrow_fs

from securemllib.errors import UnavailableError, UsageError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

__all__ = ["Folder"]


@dataclass(frozen=True, slots=True)
class Folder:
    """A directory, by its path or URI. It is a plain value: tasks on other machines open it themselves.

    Args:
        root: A local path, or a URI such as ``s3://bucket/folder`` or ``hdfs://name/folder``.
    """

    root: str

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> "Folder":
        """Return the folder of a path or URI; a relative path becomes absolute."""
        text = os.fspath(path)
        if not text:
            raise UsageError("The path is empty.")
        parsed = urlparse(text)
        if parsed.scheme == "file":
            return cls(unquote(parsed.path))
        return cls(text.rstrip("/") if parsed.scheme else str(Path(text).expanduser().absolute()))

    @property
    def is_local(self) -> bool:
        """Whether the folder is a path of the machine that asks."""
        return "://" not in self.root

    def child(self, name: str) -> "Folder":
        """Return a folder inside this one."""
        return Folder(f"{self.root}/{name}")

    def read(self, name: str) -> bytes:
        """Return a file's bytes; `UnavailableError` where it cannot be read."""
        try:
            if self.is_local:
                return Path(self.root, name).read_bytes()
            system, path = self._remote(name)
            with system.open_input_file(path) as file:
                data: bytes = file.read()
        except (OSError, ArrowException) as error:
            raise self._unreadable(name, error) from error
        return data

    def parquet(self, name: str) -> "ParquetFile":
        """Return an open Parquet file of ciphertexts, of which only what is asked for is read; `UnavailableError` where it cannot be."""
        # Most tasks read no Parquet, and would import it for nothing.
        from pyarrow.parquet import ParquetFile

        try:
            if self.is_local:
                return ParquetFile(Path(self.root, name))
            system, path = self._remote(name)
            return ParquetFile(system.open_input_file(path))
        except (OSError, ArrowException) as error:
            raise self._unreadable(name, error) from error

    def _unreadable(self, name: str, error: Exception) -> UnavailableError:
        return UnavailableError(f"The file {name} of {self.root} cannot be read: {type(error).__name__}.", code="unavailable.storage")

    def exists(self, name: str) -> bool:
        """Return whether there is a file or folder of that name."""
        if self.is_local:
            return Path(self.root, name).exists()
        system, path = self._remote(name)
        return bool(system.get_file_info(path).type != arrow_fs.FileType.NotFound)

    def is_empty(self) -> bool:
        """Return whether there is nothing in the folder."""
        if self.is_local:
            return not any(Path(self.root).iterdir())
        system, path = self._remote("")
        return not system.get_file_info(arrow_fs.FileSelector(path.rstrip("/")))

    def require_new(self) -> None:
        """Raise `UsageError` where something lies here already, which what is to be written would mix with."""
        if self.exists("") and not self.is_empty():
            raise UsageError(f"Path {self.root} already exists.", next_step="Choose a new folder.", code="usage.exists")

    def names(self) -> list[str]:
        """Return the names of the files in the folder; none where there is no folder."""
        if self.is_local:
            found = Path(self.root)
            return [path.name for path in found.iterdir()] if found.is_dir() else []
        system, path = self._remote("")
        selector = arrow_fs.FileSelector(path.rstrip("/"), allow_not_found=True)
        return [info.base_name for info in system.get_file_info(selector)]

    def remove(self, name: str) -> None:
        """Delete a file, if it is there."""
        if self.is_local:
            Path(self.root, name).unlink(missing_ok=True)
            return
        system, path = self._remote(name)
        if system.get_file_info(path).type != arrow_fs.FileType.NotFound:
            system.delete_file(path)

    def write(self, name: str, data: bytes | memoryview, *, is_synced: bool = True) -> None:
        """Write a file so that a reader sees all of it or none; `UnavailableError` where that fails.

        Args:
            name: The file.
            data: What it holds from now on.
            is_synced: Whether it is to outlive a machine that loses power.
        """
        try:
            if self.is_local:
                self._write_local(Path(self.root, name), data, is_synced=is_synced)
                return
            system, path = self._remote(name)
            system.create_dir(path.rsplit("/", 1)[0], recursive=True)
            # Object stores show an object once it is complete; other file systems need the rename.
            partial = f"{path}.{secrets.token_hex(8)}"
            with system.open_output_stream(partial) as file:
                file.write(data)
            system.move(partial, path)
        except (OSError, ArrowException) as error:
            raise UnavailableError(
                f"{len(data)} bytes cannot be written as {name} of {self.root}: {type(error).__name__}.", code="unavailable.storage"
            ) from error

    def delete(self) -> None:
        """Delete the folder with all that it holds."""
        try:
            system, path = (arrow_fs.LocalFileSystem(), self.root) if self.is_local else self._remote("")
            system.delete_dir(path.rstrip("/"))
        except (OSError, ArrowException) as error:
            raise UnavailableError(
                f"The folder {self.root} cannot be deleted: {type(error).__name__}.", code="unavailable.storage"
            ) from error

    def _remote(self, name: str) -> tuple[Any, str]:
        system, path = arrow_fs.FileSystem.from_uri(self.root)
        return system, f"{path}/{name}"

    @staticmethod
    def _write_local(path: Path, data: bytes | memoryview, *, is_synced: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            with partial.open("xb") as file:
                file.write(data)
                if is_synced:
                    file.flush()
                    os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
