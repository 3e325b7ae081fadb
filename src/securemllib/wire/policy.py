"""Which enclaves an owner accepts, as a verifier needs it; `securemllib.policy` holds what owners sign."""

from dataclasses import dataclass
from typing import ClassVar

from securemllib.wire.record import Record

__all__ = ["TCB_STATUSES", "UP_TO_DATE", "AppraisalPolicy", "SignerRule"]

# The TCB status, in Intel's words, of a platform without a known weakness that an update would mend.
UP_TO_DATE = "UpToDate"
# What an owner may accept; a revoked platform is refused whatever a policy says.
TCB_STATUSES = (
    UP_TO_DATE,
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "TDRelaunchAdvised",
    "TDRelaunchAdvisedConfigurationNeeded",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerRule(Record):
    """Every version from a floor on of one product of one signer: SGX only.

    Attributes:
        signer: MRSIGNER, the SHA-256 of the signing key's modulus.
        product_id: ISVPRODID.
        minimum_security_version: The lowest accepted ISVSVN.
    """

    TYPE: ClassVar[str] = "signer-rule"

    signer: bytes
    product_id: int
    minimum_security_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AppraisalPolicy(Record):
    """Which enclaves may receive keys: those that a measurement or a signer names, on platforms whose state is accepted.

    Attributes:
        allow_insecure: Whether evidence without a TEE is accepted. It protects nothing against the cluster's operator.
        tees: The accepted TEEs: ``sgx``, ``tdx``.
        measurements: Accepted measurements (MRENCLAVE, the digest of a trust domain's registers, or the package digest of an
            insecure attester); empty accepts none.
        minimum_security_version: The lowest accepted ISVSVN, whatever names the enclave.
        signers: Accepted signers' products; empty accepts none.
        tcb_statuses: Accepted TCB statuses of the platform, in Intel's words.
        advisories: Accepted ids of Intel's security advisories; a platform that another one applies to is refused.
        insecure_roots: SHA-256 digests of root certificates beside Intel's under which quotes are verified. Whoever holds such
            a root's key can claim anything, so these quotes are evidence without a TEE and need ``allow_insecure``, too.
    """

    TYPE: ClassVar[str] = "appraisal-policy"

    allow_insecure: bool
    tees: tuple[str, ...]
    measurements: tuple[bytes, ...]
    minimum_security_version: int
    signers: tuple[SignerRule, ...] = ()
    tcb_statuses: tuple[str, ...] = (UP_TO_DATE,)
    advisories: tuple[str, ...] = ()
    insecure_roots: tuple[bytes, ...] = ()
