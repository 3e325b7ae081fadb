"""A small world around a broker: an owner with a dataset, an analyst, and enclaves that attest without a TEE."""

import json
import time
from base64 import b64decode, b64encode
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from securemllib.attestation.insecure import InsecureAttester
from securemllib.broker.audit_log import entries
from securemllib.broker.collateral import CollateralStore
from securemllib.broker.evidence import Attester
from securemllib.broker.keystore import Keystore
from securemllib.broker.rates import Rates
from securemllib.broker.service import Broker
from securemllib.crypto.aead import seal, unseal
from securemllib.crypto.identity import PrivateIdentity, verify
from securemllib.crypto.keys import DataKey
from securemllib.crypto.wrapping import wrap
from securemllib.kms.key import KeyEncryptionKey
from securemllib.policy.envelope import Envelope, seal_statement
from securemllib.policy.model import ANY, INSECURE_RISK, NamedEnclave, OutputRule, Policy, Rule
from securemllib.wire.attestation import (
    Challenge,
    Evidence,
    Grant,
    Head,
    HeadUpdate,
    WrappedGrant,
    grant_context,
    head_acknowledgement_context,
    head_context,
    report_data,
)
from securemllib.wire.dataset import ClearPart, Column, Manifest, ManifestBody, Part, body_context
from securemllib.wire.enrolment import Enrolment, enrolment_context
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.job import RELEASE_OPERATION, JobSpecification, Mode, Output, OutputKind
from securemllib.wire.notices import JobEnd
from securemllib.wire.plan import ApplyModel, ModelRef, Plan
from securemllib.wire.policy import AppraisalPolicy
from securemllib.wire.signed import Signed

MEASUREMENT = b"\x11" * 32
DATASET = "0123456789abcdef0123456789abcdef"


@dataclass
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def b64(record: Any) -> str:
    """Return the base64 of a record or bytes."""
    return b64encode(record if isinstance(record, bytes) else record.to_bytes()).decode()


def unb64(text: str) -> bytes:
    """Return the bytes of base64."""
    return b64decode(text, validate=True)


@dataclass
class Owner:
    broker: PublicIdentity
    identity: PrivateIdentity = field(default_factory=lambda: PrivateIdentity.generate("owner"))
    dataset_id: str = DATASET
    secret: DataKey = field(default_factory=DataKey.generate)
    columns: tuple[str, ...] = ("age", "income", "ssn")

    def manifest(self, version: int = 1, previous: bytes = b"", **changes: Any) -> Manifest:
        part = Part(ordinal=0, file="part-00000.parquet", length=10, sha256=bytes(32), rows=5, wrapped_key=b"k", salt=bytes(16))
        columns = tuple(Column(name=name, type="double", nullable=False, encoding="sealed") for name in self.columns)
        body = ManifestBody(parts=(part,), columns=columns, brokers=())
        sealed = seal(self.secret.derive(ManifestBody.TYPE), body_context(self.dataset_id, version), body.to_bytes())
        manifest = Manifest(
            dataset_id=self.dataset_id,
            name="people",
            version=version,
            previous=previous,
            owner=self.identity.public.fingerprint,
            created=1,
            parts=(ClearPart(file=part.file, length=part.length),),
            columns=(),
            rows=None,
            body=sealed,
        )
        return replace(manifest, **changes)

    def enrolment(self, manifest: Manifest, secret: bytes | None = None) -> Signed:
        context = enrolment_context(manifest.dataset_id, manifest.version, self.identity.public.fingerprint)
        wrapped = wrap(self.broker.recipient_key, context, secret or self.secret.expose())
        return self.identity.sign(Enrolment(owner=self.identity.public, manifest=self.identity.sign(manifest), secret=wrapped))

    def policy(self, *rules: Rule, serial: int = 1, enclaves: AppraisalPolicy | None = None, **more: Any) -> Envelope:
        return seal_statement(
            Policy(
                dataset_id=self.dataset_id,
                owner=self.identity.public.fingerprint,
                serial=serial,
                rules=rules,
                **{**enclave_fields(enclaves or appraisal()), **more},
            ),
            self.identity,
        )


def appraisal(**changes: Any) -> AppraisalPolicy:
    """Return an appraisal policy that accepts the world's enclaves."""
    base = AppraisalPolicy(allow_insecure=True, tees=(), measurements=(MEASUREMENT,), minimum_security_version=0)
    return replace(base, **changes)


def enclave_fields(policy: AppraisalPolicy) -> dict[str, Any]:
    """Return the fields of a policy that accepts what an appraisal policy accepts, an enclave for each measurement and signer."""
    common: dict[str, Any] = {"tees": policy.tees, "tcb_statuses": policy.tcb_statuses, "advisories": policy.advisories}
    floor = policy.minimum_security_version
    code = [{"measurement": measurement.hex(), "minimum_security_version": floor} for measurement in policy.measurements]
    code += [
        {
            "signer": rule.signer.hex(),
            "product_id": rule.product_id,
            "minimum_security_version": max(floor, rule.minimum_security_version),
        }
        for rule in policy.signers
    ]
    return {
        "enclaves": {f"enclave-{index}": NamedEnclave(**common, **names) for index, names in enumerate(code)},
        "allow_insecure": policy.allow_insecure,
        "insecure_risk": INSECURE_RISK if policy.allow_insecure else None,
        "insecure_roots": tuple(root.hex() for root in policy.insecure_roots),
    }


def resigned(envelope: Envelope, signer: PrivateIdentity, as_: str | None = None) -> Envelope:
    """Return an envelope that only somebody else signed, maybe under another's name."""
    tree = json.loads(Envelope(replace_signatures(envelope)).signed_by(signer).to_bytes())
    tree["signatures"][0]["keyid"] = as_ or signer.public.fingerprint
    return Envelope.from_bytes(json.dumps(tree).encode())


def replace_signatures(envelope: Envelope) -> Any:
    """Return the library's envelope without signatures."""
    return type(envelope.dsse)(envelope.payload, envelope.payload_type, {})


def envelope_body(envelope: Envelope) -> dict[str, Any]:
    """Return the body of a request that carries an envelope."""
    return {"envelope": json.loads(envelope.to_bytes())}


def leaving(kind: OutputKind, recipients: tuple[str, ...], columns: tuple[str, ...] = ()) -> dict[OutputKind, OutputRule]:
    """Return the outputs of a rule that lets one kind leave."""
    return {kind: OutputRule(recipients=recipients, columns=columns)}


def rule_for(analyst: PublicIdentity, **changes: Any) -> Rule:
    """Return a rule that allows the world's jobs, but not the column ``ssn``."""
    kinds = (OutputKind.SEALED_MODEL, OutputKind.PLAIN_MODEL, OutputKind.SUMMARY, OutputKind.METRIC, OutputKind.ROWS)
    base = Rule(
        name="train",
        analysts=(analyst.fingerprint,),
        operations={ANY: {}},
        columns=("age", "income"),
        modes=(Mode.ENCLAVE,),
        outputs={
            kind: OutputRule(recipients=(analyst.fingerprint,), columns=("age", "prediction") if kind is OutputKind.ROWS else ())
            for kind in kinds
        },
    )
    return replace(base, **changes)


_counter = iter(range(1, 1_000_000))


def job_on(plan: Plan | None, analyst: PublicIdentity, broker: PublicIdentity, **changes: Any) -> JobSpecification:
    """Return a job with a nonce of its own."""
    base: dict[str, Any] = {
        "operation": "KMeans",
        "params": {"k": 2, "maxIter": 20},
        "inputs": {"features": "age"},
        "plan": plan,
        "model": None,
        "mode": Mode.ENCLAVE,
        "dtype": "float32",
        "seed": 1,
        "shares": 1,
        "checkpoint_interval": 1,
        "outputs": (Output(kind=OutputKind.SEALED_MODEL, recipient=analyst),),
        "analyst": analyst,
        "broker": broker.fingerprint,
        "measurements": (),
        "created": 1_800_000_000,
        "nonce": next(_counter).to_bytes(16, "big"),
    }
    return JobSpecification(**{**base, **changes})


def release_of(model: ModelRef, analyst: PublicIdentity, broker: PublicIdentity, *recipients: PublicIdentity) -> JobSpecification:
    """Return a release job; to the analyst when no recipient is given."""
    outputs = tuple(Output(kind=OutputKind.PLAIN_MODEL, recipient=recipient) for recipient in recipients or (analyst,))
    return job_on(None, analyst, broker, operation=RELEASE_OPERATION, model=model, inputs={}, params={}, outputs=outputs)


def apply_model(model: ModelRef, output: str = "p") -> ApplyModel:
    """Return the step that predicts."""
    return ApplyModel(model=model, input_columns=("age",), outputs={"prediction": output}, params={})


class Enclave:
    """What an enclave does in the protocol, with real keys and real evidence."""

    def __init__(self, measurement: bytes = MEASUREMENT, *, debug: bool = False) -> None:
        self.identity = PrivateIdentity.generate("enclave")
        self._attester = InsecureAttester(measurement, (), debug=debug)
        self.grant: Grant | None = None
        self.job_id = ""

    def evidence(self, challenge: Challenge) -> Evidence:
        self.job_id = challenge.job_id
        report = self._attester.report(report_data(challenge, self.identity.public))
        return Evidence(tee="insecure", report=report, identity=self.identity.public)

    def install(self, signed: Signed, broker: PublicIdentity) -> Grant:
        wrapped = verify(signed, WrappedGrant, broker)
        context = grant_context(self.job_id, self.identity.public.fingerprint)
        self.grant = Grant.from_bytes(self.identity.recipient.unwrap(wrapped.wrapped, context))
        return self.grant

    @property
    def job_key(self) -> DataKey:
        assert self.grant is not None
        return DataKey(self.grant.job_key)

    def head(self, round_: int, state: bytes = b"s" * 32) -> Head:
        assert self.grant is not None
        return Head(round=round_, state=state, epoch=self.grant.epoch)

    def update(self, previous: Head | None, head: Head, model: ModelRef | None = None) -> bytes:
        return seal(self.job_key, head_context(self.job_id), HeadUpdate(previous=previous, head=head, model=model).to_bytes())

    def check(self, update: bytes, acknowledgement: bytes) -> None:
        assert unseal(self.job_key, head_acknowledgement_context(self.job_id, update), acknowledgement) == b""


@dataclass
class World:
    broker: Broker
    owner: Owner
    analyst: PrivateIdentity
    clock: Clock
    keystore: Keystore
    folder: Path
    url: str

    def plan(self, *steps: Any, version: Manifest | None = None) -> Plan:
        return Plan(source=(version or self.manifest).reference, steps=steps)

    def __post_init__(self) -> None:
        self.manifest = self.owner.manifest()

    def enrol(self, *rules: Rule, **policy: Any) -> None:
        self.broker.trust_owner(self.owner.identity.public)
        self.broker.enrol(self.owner.dataset_id, self.owner.enrolment(self.manifest))
        self.broker.set_policy(self.owner.dataset_id, self.owner.policy(*(rules or (rule_for(self.analyst.public),)), **policy))

    def job(self, *steps: Any, **changes: Any) -> JobSpecification:
        return job_on(self.plan(*steps), self.analyst.public, self.broker.identity, **changes)

    def submit(self, *steps: Any, **changes: Any) -> str:
        return self.broker.submit(self.analyst.sign(self.job(*steps, **changes)))

    def granted(self, job_id: str, enclave: Enclave | None = None) -> Enclave:
        enclave = enclave or Enclave()
        session, challenge = self.broker.challenge(job_id, "insecure")
        token = self.broker.attest(session, enclave.evidence(challenge))
        enclave.install(self.broker.grant(session, token, job_id), self.broker.identity)
        return enclave

    def trained(self, *steps: Any, **changes: Any) -> ModelRef:
        return self.finish(self.granted(self.submit(*steps, **changes)))

    def finish(self, enclave: Enclave) -> ModelRef:
        """Record a model of the enclave's job."""
        model = ModelRef(model_id=enclave.job_id, digest=b"m" * 32)
        update = enclave.update(None, enclave.head(1), model)
        enclave.check(update, self.broker.move_head(enclave.job_id, update))
        return model

    def end(self, job_id: str) -> Signed:
        """Return the analyst's notice that a job's results have come."""
        return self.analyst.sign(JobEnd(job_id=job_id, broker=self.broker.identity.fingerprint))

    def events(self) -> list[dict[str, Any]]:
        with self.broker.custody().store.transaction() as session:
            return [json.loads(entry.payload) for entry in entries(session)]


def make_world(
    folder: Path,
    keystore: Keystore,
    url: str,
    collateral: CollateralStore | None = None,
    rates: Rates | None = None,
    kek: KeyEncryptionKey | None = None,
    attester: Attester | None = None,
) -> World:
    """Return a world whose broker keeps its data at ``url``."""
    clock = Clock()
    broker = Broker(keystore, url, folder / "head.sml", clock=clock, collateral=collateral, rates=rates, kek=kek, attester=attester)
    return World(
        broker=broker,
        owner=Owner(broker=broker.identity),
        analyst=PrivateIdentity.generate("analyst"),
        clock=clock,
        keystore=keystore,
        folder=folder,
        url=url,
    )


def wait_until(condition: Any, seconds: float = 10.0) -> None:
    """Wait until the condition holds; `TimeoutError` if it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.01)
