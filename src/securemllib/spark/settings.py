"""The configuration of a session: keys ``spark.securemllib.*`` of the Spark session, none of them a secret."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches

from securemllib.errors import UsageError
from securemllib.wire.job import Mode

__all__ = ["PREFIX", "EnclaveSettings", "Settings", "require_known"]

PREFIX = "spark.securemllib."
_DEFAULT_MEMORY = 4 * 2**30
_UNITS = {"b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_LAST_PORT = 65535
# An enclave holds the keys of 64 jobs at once, and another thread's jobs want some of them.
_MOST_TOGETHER = 32
_TEES = ("insecure", "sgx")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveSettings:
    """How an executor finds its enclave.

    Attributes:
        memory: Bytes for decrypted blocks, and for the largest part.
        idle: Seconds without a connection after which an enclave that a task started ends.
        address: ``host:port`` of an enclave that the operator started, or the path of a file that holds it;
            empty where tasks start their own.
        image: Folder of a signed enclave image on every node, which tasks start with Gramine under SGX; it holds a memory bound and idle
            time of its own. Empty for a process without a TEE.
        tee: The TEE that an operator's enclave attests with: ``insecure`` or ``sgx``. Empty for what the other settings imply.
    """

    memory: int = _DEFAULT_MEMORY
    idle: float = 600.0
    address: str = ""
    image: str = ""
    tee: str = ""

    def __post_init__(self) -> None:
        if self.tee not in {"", *_TEES}:
            raise UsageError(f"{PREFIX}enclave.tee must be one of {list(_TEES)}, not {self.tee!r}.")

    @property
    def announced(self) -> str:
        """The TEE that a relay announces to the broker before the enclave attests."""
        return self.tee or ("sgx" if self.image else "insecure")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A session's configuration.

    Attributes:
        broker_url: ``https://host:port`` of the key broker.
        broker_ca: Path of the certificate authority that its certificate is checked against; empty for the system's.
        storage: Folder for checkpoints, seen by all executors; empty for a temporary folder of the driver's machine.
        enclave: How an executor finds its enclave.
        ports: First and last port that relays listen on; ``(0, 0)`` for any free one.
        mode: ``enclave``, or ``partitioned``: the host adds masked statistics.
        dtype: ``float32`` or ``float64``, of the rows that algorithms read.
        shares: Into how many shares the parts of a dataset are dealt; 0 for one a task.
        tasks: How many tasks a round has; 0 for as many as the cluster runs at once.
        barrier: Whether a resident barrier stage may be used.
        checkpoint_interval: Rounds between checkpoints.
        together: Models of one grid that go over the rows at once, at most.
        summary: Whether fits ask for a training summary.
        wait: Seconds to wait for an unreachable broker.
    """

    broker_url: str = ""
    broker_ca: str = ""
    storage: str = ""
    enclave: EnclaveSettings = EnclaveSettings()
    ports: tuple[int, int] = (0, 0)
    mode: str = "enclave"
    dtype: str = "float32"
    shares: int = 0
    tasks: int = 0
    barrier: bool = True
    checkpoint_interval: int = 10
    together: int = 16
    summary: bool = True
    wait: float = 30.0

    def __post_init__(self) -> None:
        if self.mode not in {mode.value for mode in Mode}:
            raise UsageError(f"{PREFIX}mode must be one of {[mode.value for mode in Mode]}, not {self.mode!r}.")
        if self.dtype not in {"float32", "float64"}:
            raise UsageError(f"{PREFIX}dtype must be float32 or float64, not {self.dtype!r}.")
        if self.shares < 0 or self.tasks < 0 or self.checkpoint_interval < 1:
            raise UsageError(f"{PREFIX}shares and {PREFIX}tasks are at least 0, {PREFIX}checkpoint.interval at least 1.")
        if not 1 <= self.together <= _MOST_TOGETHER:
            raise UsageError(f"{PREFIX}together is from 1 to {_MOST_TOGETHER}.")

    def every_round(self) -> "Settings":
        """Return the same settings with a checkpoint every round."""
        return replace(self, checkpoint_interval=1)

    @classmethod
    def read(cls, get: Callable[[str], str | None]) -> "Settings":
        """Return the settings of a Spark session.

        Args:
            get: Returns a key's value, or None where it is not set.
        """
        values = {key: get(PREFIX + key) for key in _KEYS}
        given = {field: convert(value) for key, (field, convert) in _KEYS.items() if (value := values[key]) is not None}
        enclave = {field.removeprefix("enclave_"): given.pop(field) for field in list(given) if field.startswith("enclave_")}
        if not given.get("broker_url"):
            given["broker_url"] = os.environ.get("SECUREMLLIB_BROKER", "")
        return cls(enclave=EnclaveSettings(**enclave), **given)  # type: ignore[arg-type]


def require_known(names: Iterable[str]) -> None:
    """Raise `UsageError` where one of these settings of Spark has this package's prefix, and no meaning: it would be ignored."""
    for name in sorted(names):
        key = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and key not in _KEYS:
            near = get_close_matches(key, _KEYS, n=1)
            raise UsageError(
                f"There is no setting {name}.",
                next_step=f"Set {PREFIX}{near[0] if near else '*, which docs/quickstart.md lists'}.",
                code="usage.setting",
            )


def _memory(text: str) -> int:
    number, unit = text.strip().lower().removesuffix("ib"), 1
    if number and number[-1] in _UNITS:
        number, unit = number[:-1], _UNITS[number[-1]]
    return _integer(number) * unit


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{text!r} in a {PREFIX}* setting is no integer.") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{text!r} in a {PREFIX}* setting is no number.") from None


def _boolean(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise UsageError(f"{text!r} in a {PREFIX}* setting is neither true nor false.")
    return text.lower() == "true"


def _ports(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    low, high = _integer(first), _integer(last or first)
    if not 0 <= low <= high <= _LAST_PORT:
        raise UsageError(f"{PREFIX}ports must be like 40000-40100, not {text!r}.")
    return low, high


_KEYS: dict[str, tuple[str, Callable[[str], object]]] = {
    "broker.url": ("broker_url", str),
    "broker.ca": ("broker_ca", str),
    "broker.wait": ("wait", _number),
    "storage": ("storage", str),
    "enclave.memory": ("enclave_memory", _memory),
    "enclave.idle": ("enclave_idle", _number),
    "enclave.address": ("enclave_address", str),
    "enclave.image": ("enclave_image", str),
    "enclave.tee": ("enclave_tee", str),
    "ports": ("ports", _ports),
    "mode": ("mode", str),
    "dtype": ("dtype", str),
    "shares": ("shares", _integer),
    "tasks": ("tasks", _integer),
    "barrier": ("barrier", _boolean),
    "checkpoint.interval": ("checkpoint_interval", _integer),
    "together": ("together", _integer),
    "summary": ("summary", _boolean),
}
