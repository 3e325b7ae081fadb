"""What a data owner allows: default deny, signed by the owner, enforced by the key broker."""

from dataclasses import dataclass
from typing import ClassVar

from securemllib.errors import FormatError
from securemllib.wire.job import Mode, OutputKind
from securemllib.wire.record import Record

__all__ = ["ANY", "TCB_STATUSES", "UP_TO_DATE", "AppraisalPolicy", "Bound", "OperationRule", "OutputRule", "Policy", "Rule", "SignerRule"]

ANY = "*"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound(Record):
    """The values that a Param may have: within the range, and among ``allowed`` unless that is empty."""

    TYPE: ClassVar[str] = "bound"

    minimum: float | None
    maximum: float | None
    allowed: tuple[bool | int | float | str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationRule(Record):
    """An operation and the bounds of its Params; Params without a bound are free."""

    TYPE: ClassVar[str] = "operation-rule"

    operation: str
    bounds: dict[str, Bound]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRule(Record):
    """A kind of output, who may receive it, and for rows which columns."""

    TYPE: ClassVar[str] = "output-rule"

    kind: OutputKind
    recipients: tuple[str, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(Record):
    """One permission. A job is allowed when one rule allows all of it.

    Attributes:
        name: What the audit log calls it.
        analysts: Fingerprints of those who may sign.
        operations: The operations; the name ``*`` stands for every one.
        columns: The dataset's columns that may be read; ``*`` stands for all.
        modes: The modes.
        outputs: What may leave.
        not_before: Seconds since 1970 by the broker's clock, or None.
        not_after: Likewise.
        maximum_runs: How many jobs this rule allows in all, or None.
        min_group_size: The fewest rows that a metric or summary may be of, and the smallest group that a summary may tell apart.
    """

    TYPE: ClassVar[str] = "rule"

    name: str
    analysts: tuple[str, ...]
    operations: tuple[OperationRule, ...]
    columns: tuple[str, ...]
    modes: tuple[Mode, ...]
    outputs: tuple[OutputRule, ...]
    not_before: int | None
    not_after: int | None
    maximum_runs: int | None
    min_group_size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy(Record):
    """The policy of one dataset.

    Attributes:
        dataset_id: Which dataset.
        owner: The owner's fingerprint; the signer.
        serial: Grows with each change; the broker refuses an older one.
        enclaves: Which enclaves may receive keys.
        rules: The permissions.
    """

    TYPE: ClassVar[str] = "securemllib/policy/v1"

    dataset_id: str
    owner: str
    serial: int
    enclaves: AppraisalPolicy
    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        if self.serial < 1:
            raise FormatError("A policy's serial starts at 1.")
        if len({rule.name for rule in self.rules}) != len(self.rules):
            raise FormatError("Two rules of a policy have the same name.")
