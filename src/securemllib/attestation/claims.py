"""What verified evidence says, before any policy is asked."""

from dataclasses import dataclass

__all__ = ["Claims"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """The claims of one attester.

    Attributes:
        tee: ``sgx``, ``tdx`` or ``insecure``.
        measurement: What identifies the code.
        security_version: The code's security version (ISVSVN).
        debug: Whether the host may look inside.
        protections: What the attester says is in force beside the TEE.
    """

    tee: str
    measurement: bytes
    security_version: int
    debug: bool
    protections: tuple[str, ...]
