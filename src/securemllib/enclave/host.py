"""The host as the enclave's code sees it during one request: encrypted parts and sealed blocks come from it and go to it."""

from typing import Protocol

from securemllib.wire.dataset import Part

__all__ = ["Host"]


class Host(Protocol):
    """The relay at the other end of a conversation; whatever it hands over may be anything."""

    def part(self, part: Part) -> memoryview:
        """Return the encrypted bytes of a part."""

    def keep(self, job_id: str, name: str, block: bytes | memoryview) -> None:
        """Let a sealed block be kept among a job's."""

    def block(self, job_id: str, name: str, size: int | None = None) -> memoryview:
        """Return what is kept for a job under a name, of at most so many bytes where that is known."""

    def block_sum(self, job_id: str, names: tuple[str, ...], size: int) -> memoryview:
        """Return the sum of blocks of so many bytes, words of 64 bits, as the host says."""
