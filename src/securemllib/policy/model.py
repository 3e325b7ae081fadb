"""The policy of one dataset as it is signed: canonical JSON (RFC 8785) of these values, read strictly."""

import json
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterable
from dataclasses import fields
from typing import Annotated, Any, Literal, Self

import rfc8785
from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from securemllib.algorithms.registry import ALGORITHMS, param_name
from securemllib.errors import FormatError
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.job import RELEASE_OPERATION, ROWS_OPERATION, Mode, OutputKind
from securemllib.wire.policy import AppraisalPolicy, SignerRule

__all__ = [
    "ANY",
    "FINGERPRINT",
    "INSECURE_RISK",
    "KEYLESS",
    "OPERATIONS",
    "Approvals",
    "Bound",
    "NamedEnclave",
    "OutputRule",
    "Policy",
    "Quorum",
    "Rule",
    "params_of",
]

ANY = "*"
# The operations that a rule may name.
OPERATIONS = (*ALGORITHMS, ROWS_OPERATION, RELEASE_OPERATION)
# Outputs that nobody opens: the broker keeps their keys, so a rule may leave the recipients out.
KEYLESS = frozenset({OutputKind.SEALED_MODEL, OutputKind.SEALED_STATISTICS})
# What whoever accepts processes without a TEE has to write down in a production profile.
INSECURE_RISK = "the-operator-can-read-everything"
_STRICT = ConfigDict(extra="forbid", strict=True)
FINGERPRINT = re.compile(r"[a-z2-7]{52}")
# ISVPRODID and ISVSVN are 16 bits wide.
_SIXTEEN_BITS = 2**16 - 1


def params_of(operation: str) -> tuple[str, ...]:
    """Return the Params of an operation by their pyspark.ml names; of ``*`` and of operations that are no algorithm none."""
    return tuple(param_name(field.name) for field in fields(ALGORITHMS[operation]) if field.init) if operation in ALGORITHMS else ()


def _operation(value: str) -> str:
    if value != ANY and value not in OPERATIONS:
        raise PydanticCustomError("unknown_name", "is no operation", {"known": list(OPERATIONS)})
    return value


Text = Annotated[str, Field(min_length=1)]
Person = Annotated[str, Field(min_length=1, description="A fingerprint.")]
Count = Annotated[int, Field(ge=0)]
Sixteen = Annotated[int, Field(ge=0, le=_SIXTEEN_BITS)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Measurement = Annotated[str, Field(pattern=r"^[0-9a-f]{64}([0-9a-f]{32})?$")]
Advisory = Annotated[str, Field(pattern=r"^INTEL-(SA|DOC)-[0-9]{5}$")]
Operation = Annotated[str, AfterValidator(_operation)]
# Intel's words; a revoked platform is refused whatever a policy says.
TcbStatus = Literal[
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "TDRelaunchAdvised",
    "TDRelaunchAdvisedConfigurationNeeded",
]


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class NamedEnclave:
    """Enclaves under one name: one measurement, or all versions from a floor on of one signer's product.

    Attributes:
        measurement: MRENCLAVE, the digest of a trust domain's registers, or the package digest of an insecure attester.
        signer: MRSIGNER, the SHA-256 of the signing key's modulus; SGX only.
        product_id: ISVPRODID, with a signer.
        minimum_security_version: The lowest accepted ISVSVN; needed with a signer.
        tees: The accepted TEEs.
        tcb_statuses: Accepted TCB statuses of the platform.
        advisories: Ids of Intel's advisories that may apply to the platform all the same.
    """

    measurement: Measurement | None = None
    signer: Digest | None = None
    product_id: Sixteen | None = None
    minimum_security_version: Sixteen | None = None
    tees: tuple[Literal["sgx", "tdx"], ...] = ()
    tcb_statuses: tuple[TcbStatus, ...] = ("UpToDate",)
    advisories: tuple[Advisory, ...] = ()

    @model_validator(mode="after")
    def _one_name(self) -> Self:
        if (self.measurement is None) == (self.signer is None):
            raise PydanticCustomError("enclave", "names either a measurement or a signer")
        if self.signer is not None and (self.product_id is None or self.minimum_security_version is None):
            raise PydanticCustomError("enclave", "needs product_id and minimum_security_version beside its signer")
        if self.signer is None and self.product_id is not None:
            raise PydanticCustomError("enclave", "has a product_id without its signer")
        return self


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Bound:
    """The values that a Param may have: within the range, and among ``allowed`` unless that is empty."""

    min: float | None = None
    max: float | None = None
    allowed: tuple[bool | int | float | str | None, ...] = ()

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.min is None and self.max is None and not self.allowed:
            raise PydanticCustomError("bound", "has min, max or allowed")
        if self.min is not None and self.max is not None and not self.min <= self.max:
            raise PydanticCustomError("bound", "has a max of at least its min")
        return self


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class OutputRule:
    """Who may receive one kind of output, and for rows which columns; ``*`` stands for all columns."""

    recipients: tuple[Person, ...]
    columns: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Rule:
    """One permission. A job is allowed when one rule allows all of it.

    Attributes:
        name: What the audit log calls it.
        analysts: Those who may sign.
        operations: The bounds of each operation's Params; Params without a bound are free. The name ``*`` stands for every operation.
        columns: The dataset's columns that may be read; ``*`` stands for all.
        modes: The modes.
        outputs: What may leave.
        not_before: By the broker's clock.
        not_after: Likewise.
        maximum_runs: How many jobs this rule allows in all.
        min_group_size: The fewest rows that a metric or summary may be of, and the smallest group that a summary may tell apart.
    """

    name: Text
    analysts: tuple[Person, ...]
    operations: dict[Operation, dict[str, Bound]]
    columns: tuple[Text, ...]
    outputs: dict[OutputKind, OutputRule]
    modes: tuple[Mode, ...] = (Mode.ENCLAVE,)
    not_before: AwareDatetime | None = None
    not_after: AwareDatetime | None = None
    maximum_runs: Count | None = None
    min_group_size: Count = 0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for operation, bounds in self.operations.items():
            known = params_of(operation)
            if operation != ANY and (unknown := sorted(bounds.keys() - set(known))):
                place = ["operations", operation, unknown[0]]
                context = {"known": list(known), "path": place, "operation": operation}
                raise PydanticCustomError("unknown_name", "is no Param of {operation}", context)
        for kind, output in self.outputs.items():
            if bool(output.columns) != (kind is OutputKind.ROWS):
                raise PydanticCustomError("outputs", "names columns for rows, and only for rows", {"path": ["outputs", kind.value]})
        if self.not_before is not None and self.not_after is not None and self.not_before >= self.not_after:
            raise PydanticCustomError("time", "is later than not_before", {"path": ["not_after"]})
        return self


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Quorum:
    """So many of these must approve.

    Attributes:
        threshold: How many.
        approvers: Public identities, as their ``.pub`` files hold them: base64.
    """

    threshold: Annotated[int, Field(ge=1)]
    approvers: tuple[Person, ...]

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.threshold > len(self.approvers):
            raise PydanticCustomError("quorum", "is at most the number of approvers", {"path": ["threshold"]})
        return self

    @property
    def identities(self) -> dict[str, PublicIdentity]:
        """The approvers by fingerprint."""
        found = [PublicIdentity.from_bytes(b64decode(text, validate=True)) for text in self.approvers]
        return {identity.fingerprint: identity for identity in found}

    def check(self) -> None:
        """Raise `FormatError` unless the approvers are identities with a signing key each: one key under two names is one approver."""
        try:
            keys = {identity.verification_key for identity in self.identities.values()}
        except (Base64Error, ValueError, FormatError):
            raise FormatError("An approver of the policy is no public identity.") from None
        if len(keys) != len(self.approvers):
            raise FormatError("Two approvers of the policy have the same key.")


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Approvals:
    """What needs other people's signatures, too.

    Attributes:
        policy_change: For putting another policy in force. The policy in force decides, not the new one.
        model_release: For giving a model's key to anybody.
    """

    policy_change: Quorum | None = None
    model_release: Quorum | None = None

    @model_validator(mode="after")
    def _kept(self) -> Self:
        if self.model_release is not None and self.policy_change is None:
            # The owner alone could otherwise sign a policy that asks for no approval, and then release.
            raise PydanticCustomError("approvals", "needs policy_change beside model_release, which the owner alone could drop")
        return self


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Policy:
    """The policy of one dataset: default deny.

    Attributes:
        dataset_id: Which dataset.
        owner: The owner's fingerprint; the signer.
        serial: Grows with each change; the broker refuses an older one.
        enclaves: Which enclaves may receive keys, by name.
        rules: The permissions.
        broker: The fingerprint of the only broker that may put it in force; None for any that has the dataset.
        profile: ``production``, or ``development`` where brokers accept it that have no production data.
        approvals: What needs more than the owner's signature.
        expires: After it nothing is allowed.
        allow_insecure: Whether evidence without a TEE is accepted. It protects nothing against the cluster's operator.
        insecure_risk: Names the risk of ``allow_insecure``, which a production profile refuses otherwise.
        insecure_roots: SHA-256 digests of root certificates beside Intel's. Whoever holds such a root's key can claim anything, so quotes
            under it are evidence without a TEE and need ``allow_insecure``, too.
    """

    dataset_id: Text
    owner: Person
    serial: Annotated[int, Field(ge=1)]
    enclaves: dict[Text, NamedEnclave]
    rules: tuple[Rule, ...]
    broker: Person | None = None
    profile: Literal["production", "development"] = "production"
    approvals: Approvals = Approvals()
    expires: AwareDatetime | None = None
    allow_insecure: bool = False
    insecure_risk: Literal["the-operator-can-read-everything"] | None = None
    insecure_roots: tuple[Digest, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len({rule.name for rule in self.rules}) != len(self.rules):
            raise PydanticCustomError("rules", "has two rules of the same name", {"path": ["rules"]})
        if self.allow_insecure and self.profile == "production" and self.insecure_risk is None:
            raise PydanticCustomError(
                "insecure",
                f"is refused in the profile production unless the policy also says `insecure_risk: {INSECURE_RISK}`",
                {"path": ["allow_insecure"]},
            )
        return self

    def appraisals(self) -> dict[str, AppraisalPolicy]:
        """Return what each named enclave has to satisfy."""
        return {name: self._appraisal(enclave) for name, enclave in self.enclaves.items()}

    def to_json(self) -> bytes:
        """Return the policy's only encoding. Defaults are written out: a later version's do not change what was signed."""
        try:
            return rfc8785.dumps(_ADAPTER.dump_python(self, mode="json"))
        except rfc8785.CanonicalizationError:
            raise FormatError("The policy holds a number that JSON cannot say exactly.") from None

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """Return the JSON Schema of the signed form."""
        return _ADAPTER.json_schema(ref_template="#/$defs/{model}")

    @classmethod
    def from_tree(cls, tree: Any) -> "Policy":
        """Return the policy of a tree of JSON's values; pydantic's `ValidationError` names what is wrong, and where."""
        return _ADAPTER.validate_json(json.dumps(tree, allow_nan=False))

    @classmethod
    def from_json(cls, data: bytes) -> "Policy":
        """Return the policy whose only encoding is ``data``.

        Raises:
            FormatError: It is none, names a person other than by fingerprint, or is not in canonical JSON.
        """
        try:
            policy = _ADAPTER.validate_json(data)
        except ValidationError as error:
            # Where it is wrong, and no value.
            places = sorted({".".join(str(part) for part in found["loc"]) or "policy" for found in error.errors(include_input=False)})
            raise FormatError(f"The bytes are no policy: {places[0]} is wrong.") from None
        policy.check()
        if policy.to_json() != data:
            raise FormatError("The policy is not in its canonical encoding.")
        return policy

    def check(self) -> None:
        """Raise `FormatError` unless the policy says who everybody is: people by fingerprint, approvers by their keys."""
        outputs = (output.recipients for rule in self.rules for output in rule.outputs.values())
        people = (
            {person for rule in self.rules for person in rule.analysts}
            | {person for group in outputs for person in group}
            | {self.owner}
            | ({self.broker} if self.broker is not None else set())
        )
        if unknown := [person for person in people if not FINGERPRINT.fullmatch(person)]:
            raise FormatError(f"{len(unknown)} people of the policy have no fingerprint.")
        for quorum in (self.approvals.policy_change, self.approvals.model_release):
            if quorum is not None:
                quorum.check()

    def _appraisal(self, enclave: NamedEnclave) -> AppraisalPolicy:
        return AppraisalPolicy(
            allow_insecure=self.allow_insecure,
            tees=enclave.tees,
            measurements=_digests([enclave.measurement]),
            minimum_security_version=enclave.minimum_security_version or 0,
            signers=_signers(enclave),
            tcb_statuses=enclave.tcb_statuses,
            advisories=enclave.advisories,
            insecure_roots=_digests(self.insecure_roots),
        )


def _digests(texts: Iterable[str | None]) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(text) for text in texts if text is not None)


def _signers(enclave: NamedEnclave) -> tuple[SignerRule, ...]:
    if enclave.signer is None or enclave.product_id is None or enclave.minimum_security_version is None:
        return ()
    floor = enclave.minimum_security_version
    return (SignerRule(signer=bytes.fromhex(enclave.signer), product_id=enclave.product_id, minimum_security_version=floor),)


_ADAPTER: TypeAdapter[Policy] = TypeAdapter(Policy)
