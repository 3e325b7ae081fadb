"""What verified evidence says, before any policy is asked."""

from dataclasses import dataclass

__all__ = ["Claims", "Platform"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What Intel's collateral says of the machine that made a quote.

    Attributes:
        tcb_statuses: Of the platform when the enclave started, and of a trust domain's platform as it is now; in Intel's words.
        advisories: Ids of the security advisories that apply.
        expires: When the first of the collateral's pieces expires, in seconds since 1970.
    """

    tcb_statuses: tuple[str, ...]
    advisories: tuple[str, ...]
    expires: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """The claims of one attester.

    Attributes:
        tee: ``sgx``, ``tdx`` or ``insecure``: also where a quote stands under another root than Intel's.
        measurement: What identifies the code.
        security_version: The code's security version (ISVSVN); 0 for a trust domain, which has none.
        debug: Whether the host may look inside.
        protections: What the attester says is in force beside the TEE.
        signer: Who signed the code (MRSIGNER), None where nobody is known to have.
        product_id: Which of the signer's products it is (ISVPRODID), None likewise.
        platform: The state of the machine; None where no TEE tells.
    """

    tee: str
    measurement: bytes
    security_version: int
    debug: bool
    protections: tuple[str, ...]
    signer: bytes | None = None
    product_id: int | None = None
    platform: Platform | None = None
