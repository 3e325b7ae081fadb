"""Predicted overhead of SGX: counts times published constants, term by term; a prediction, never a measurement.

::

    overhead = 1 + (exits + crossing + streaming + random access + attestation) / CPU seconds without SGX

Each constant is a range; the low prediction takes the kind end of each, the high one the unkind end of all at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from securemllib.errors import UsageError

__all__ = [
    "CONSTANTS",
    "FRAME_CALLS_IN",
    "FRAME_CALLS_OUT",
    "Bound",
    "Constant",
    "Counts",
    "Prediction",
    "exits",
    "missing_share",
    "predict",
]

Bound = Literal["low", "high"]

# A frame is received by three calls (lengths, header, payload) and sent by at most two; a call moves at least 64 KiB of a large payload.
FRAME_CALLS_IN, FRAME_CALLS_OUT = 3, 2
_CALL_BYTES = 64 * 2**10


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A published number.

    Attributes:
        low: The kind end of its range.
        high: The unkind end.
        unit: What it counts.
        source: Where it is from.
    """

    low: float
    high: float
    unit: str
    source: str


CONSTANTS: Mapping[str, Constant] = {
    "exit": Constant(
        low=5e-6,
        high=8e-6,
        unit="seconds for a system call that leaves the enclave and comes back",
        source="8,000 to 12,000 cycles each for leaving and entering: Gramine's documentation, Performance tuning and analysis",
    ),
    "interrupts": Constant(
        low=250.0,
        high=250.0,
        unit="times a CPU second that the host's scheduler interrupts the enclave, each an exit",
        source="one interrupt in 4 ms: Gramine's documentation, Performance tuning and analysis",
    ),
    "crossing": Constant(
        low=3.8e9,
        high=0.95e9,
        unit="bytes a second over the enclave's border, beside the transport without SGX",
        source="one copy more takes no longer than AES-256-GCM of the same bytes, and no longer than all of loopback TCP under "
        "gramine-direct 1.9 once more; both measured for this project on an AMD EPYC",
    ),
    "streaming": Constant(
        low=1.0,
        high=1.08,
        unit="times the CPU seconds of products and scans",
        source="PyTorch under Gramine, 8 % with its thread library mended (25 % without; a task is one thread here); scans near native",
    ),
    "random": Constant(
        low=1.0,
        high=5.0,
        unit="times the CPU seconds of random access that misses the caches",
        source="studies of databases on SGX2: random access outside the caches up to 5 times slower",
    ),
    "cache": Constant(
        low=1.5e6,
        high=1.25e6,
        unit="bytes of cache a thread",
        source="Intel Xeon Platinum 8380: 60 MB of last-level cache for 40 cores; high: the 1.25 MB of a core's own second level alone",
    ),
    "quote": Constant(
        low=0.78e-3,
        high=0.78e-3,
        unit="seconds to verify a DCAP quote with collateral at hand",
        source="dcap-qvl 0.7, measured for this project on an AMD EPYC",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What one job did, counted without SGX.

    Attributes:
        seconds: CPU seconds of its enclaves.
        frames_in: Frames that the enclaves received.
        frames_out: Frames that they sent.
        bytes_in: Their bytes.
        bytes_out: The same of those that they sent.
        waits: How often a thread of theirs waited for something, each a system call.
        working_set: Bytes that the job added to their peak memory.
        table: Bytes of the table that is accessed at random; none where nothing is.
        random_share: Share of the CPU seconds that goes into random access to that table, 0 to 1.
        enclaves: How many enclaves.
    """

    seconds: float
    frames_in: int
    frames_out: int
    bytes_in: int
    bytes_out: int
    waits: int
    working_set: int
    table: int
    random_share: float
    enclaves: int = 1

    def __post_init__(self) -> None:
        numbers = (self.frames_in, self.frames_out, self.bytes_in, self.bytes_out, self.waits, self.working_set, self.table)
        if not self.seconds > 0.0 or min(numbers) < 0 or not 0.0 <= self.random_share <= 1.0 or self.enclaves < 1:
            raise UsageError("Counts are at least 0, a share at most 1, seconds and enclaves more than 0.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Predicted seconds that SGX adds, by reason.

    Attributes:
        exits: Leaving and entering for system calls and interrupts.
        crossing: Copying over the border.
        streaming: Products and scans of encrypted memory.
        random: Random access to it.
        random_missed: Share of the accesses at random that miss the cache; no seconds.
        attestation: Verifying quotes.
        overhead: Predicted CPU seconds with SGX over those without.
    """

    exits: float
    crossing: float
    streaming: float
    random: float
    random_missed: float
    attestation: float
    overhead: float


def exits(counts: Counts) -> int:
    """Return how often a job leaves its enclaves for a system call: for frames, and for waiting."""
    frames = FRAME_CALLS_IN * counts.frames_in + FRAME_CALLS_OUT * counts.frames_out
    return frames + counts.bytes_in // _CALL_BYTES + counts.bytes_out // _CALL_BYTES + counts.waits


def missing_share(table: int, cache: float) -> float:
    """Return which share of uniform accesses to a table misses a cache; hits cost what they did, for memory is encrypted behind it."""
    return 0.0 if table <= cache else 1.0 - cache / table


def predict(counts: Counts, bound: Bound) -> Prediction:
    """Return what one end of the constants' ranges predicts."""
    value: dict[str, float] = {name: getattr(constant, bound) for name, constant in CONSTANTS.items()}
    missed = missing_share(counts.table, value["cache"])
    random_seconds = counts.seconds * counts.random_share * missed
    terms = {
        "exits": value["exit"] * (exits(counts) + value["interrupts"] * counts.seconds),
        "crossing": (counts.bytes_in + counts.bytes_out) / value["crossing"],
        "streaming": (counts.seconds - random_seconds) * (value["streaming"] - 1.0),
        "random": random_seconds * (value["random"] - 1.0),
        "attestation": counts.enclaves * value["quote"],
    }
    return Prediction(**terms, random_missed=missed, overhead=1.0 + sum(terms.values()) / counts.seconds)
