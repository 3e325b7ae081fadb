"""Statistics that stay in the enclave between two requests of a job: measured and not masked yet, or for its own aggregator."""

from threading import Lock
from typing import Any

__all__ = ["HeldStatistics"]


class HeldStatistics:
    """Statistics of a job, by share, each under the digest that names what they were computed from."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[bytes, Any]] = {}
        self._lock = Lock()

    def put(self, share: int, state: bytes, statistics: Any) -> None:
        """Hold a share's statistics of the state of a digest, in place of those of any other state."""
        with self._lock:
            self._found[share] = (state, statistics)

    def take(self, share: int, state: bytes) -> Any:
        """Return and forget a share's statistics; None where they are not of that state."""
        with self._lock:
            held, statistics = self._found.pop(share, (b"", None))
        return statistics if held == state else None
