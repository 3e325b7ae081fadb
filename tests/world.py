"""A small world around a real enclave: an owner's dataset, a broker's grants, and a relay that speaks the real protocol.

Everything that the enclave sees here is made with the project's own wire records and keys, so a test can play any host.
"""

import io
import os
import socket
import threading
from dataclasses import dataclass, field, replace
from functools import reduce
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

from securemllib.algorithms.vectors import type_text
from securemllib.attestation.insecure import InsecureAttester
from securemllib.crypto.aead import seal, unseal
from securemllib.crypto.identity import PrivateIdentity
from securemllib.crypto.keys import DataKey
from securemllib.crypto.models import statistics_key
from securemllib.crypto.wrapping import wrap
from securemllib.enclave.parts import MANIFEST_BODY_PURPOSE, PART_KEY_PURPOSE
from securemllib.enclave.plan import begin, follow
from securemllib.enclave.service import Conversation, Enclave
from securemllib.errors import error_from_code
from securemllib.owner.opening import open_result
from securemllib.wire.attestation import (
    AttestationResult,
    Challenge,
    DatasetGrant,
    Evidence,
    Grant,
    Head,
    HeadUpdate,
    ModelGrant,
    WrappedGrant,
    grant_context,
    head_acknowledgement_context,
    head_context,
)
from securemllib.wire.dataset import (
    ClearPart,
    Column,
    Manifest,
    ManifestBody,
    Part,
    aad_prefix,
    body_context,
    part_key_context,
)
from securemllib.wire.framing import receive, send
from securemllib.wire.job import JobSpecification, Mode, Output, OutputKind
from securemllib.wire.plan import Assemble, HandleInvalid, Plan
from securemllib.wire.result import SealedResult
from securemllib.wire.task import (
    REPLIES,
    Advanced,
    Attest,
    Begin,
    BlockBytes,
    Compute,
    Failed,
    Finished,
    Install,
    KeepBlock,
    Masked,
    Materialise,
    NeedBlock,
    NeedPart,
    NeedSum,
    PartBytes,
    Recorded,
    Recording,
    Update,
    UpdateSum,
)

MEASUREMENT = b"m" * 32


@dataclass
class Dataset:
    """An owner's encrypted table, in memory."""

    table: pa.Table
    parts: int = 4
    dataset_id: str = field(default_factory=lambda: os.urandom(16).hex())
    version: int = 1
    secret: DataKey = field(default_factory=DataKey.generate)
    brokers: tuple[str, ...] = ()

    def __post_init__(self):
        per_part = -(-self.table.num_rows // self.parts) if self.table.num_rows else 0
        self.files, parts = [], []
        for ordinal in range(self.parts):
            rows = self.table.slice(ordinal * per_part, per_part)
            key, salt = os.urandom(32), os.urandom(16)
            prefix = aad_prefix(self.dataset_id, self.version, ordinal, rows.num_rows, salt)
            sink = io.BytesIO()
            properties = pe.create_encryption_properties(key, aad_prefix=prefix, store_aad_prefix=False)
            pq.write_table(rows, sink, encryption_properties=properties, compression="none", use_dictionary=False, store_schema=True)
            data = sink.getvalue()
            self.files.append(data)
            wrapped = seal(self.secret.derive(PART_KEY_PURPOSE), part_key_context(self.dataset_id, self.version, ordinal), key)
            parts.append(
                Part(
                    ordinal=ordinal,
                    file=f"part-{ordinal:05d}.parquet",
                    length=len(data),
                    sha256=sha256(data).digest(),
                    rows=rows.num_rows,
                    wrapped_key=wrapped,
                    salt=salt,
                )
            )
        self.publish(tuple(parts))

    def publish(self, parts):
        """Make the manifest of these parts."""
        columns = tuple(Column(name=f.name, type=type_text(f.type), nullable=f.nullable, encoding="sealed") for f in self.table.schema)
        self.body = ManifestBody(parts=parts, columns=columns, brokers=self.brokers)
        sealed = seal(self.secret.derive(MANIFEST_BODY_PURPOSE), body_context(self.dataset_id, self.version), self.body.to_bytes())
        self.manifest = Manifest(
            dataset_id=self.dataset_id,
            name="test",
            version=self.version,
            previous=b"" if self.version == 1 else b"p" * 32,
            owner="owner",
            created=0,
            parts=tuple(ClearPart(file=part.file, length=part.length) for part in parts),
            columns=columns,
            rows=self.table.num_rows,
            body=sealed,
        )


@dataclass
class World:
    """Broker, analyst and enclaves of one test."""

    dataset: Dataset
    broker: PrivateIdentity = field(default_factory=lambda: PrivateIdentity.generate("broker"))
    analyst: PrivateIdentity = field(default_factory=lambda: PrivateIdentity.generate("analyst"))
    models: dict = field(default_factory=dict)  # ModelRef -> (key, sealed bytes)

    def __post_init__(self):
        self.keys = {}
        self.heads = {}
        self.epochs = {}
        self.blocks = {}  # (job id, name) -> sealed block

    def job(self, operation="LogisticRegression", params=None, *, features=("x0", "x1", "x2"), label="y", outputs=None, **changes):
        """Return a job over the assembled features; keyword arguments replace fields."""
        me = self.analyst.public
        default = (Output(kind=OutputKind.SEALED_MODEL, recipient=me), Output(kind=OutputKind.SUMMARY, recipient=me))
        assemble = Assemble(input_columns=tuple(features), output_column="features", handle_invalid=HandleInvalid.ERROR)
        fields = {
            "operation": operation,
            "params": params or {},
            "inputs": {"features": "features", **({"label": label} if label else {})},
            "plan": Plan(source=self.dataset.manifest.reference, steps=(assemble,)),
            "model": None,
            "mode": Mode.ENCLAVE,
            "dtype": "float64",
            "seed": 7,
            "shares": 2,
            "checkpoint_interval": 3,
            "outputs": default if outputs is None else outputs,
            "analyst": me,
            "broker": self.broker.public.fingerprint,
            "measurements": (),
            "created": 0,
            "nonce": os.urandom(16),
        }
        return JobSpecification(**{**fields, **changes})

    def grant(self, job, evidence, *, job_signer=None, signed_job=None, **changes):
        """Return the broker's signed grant for the enclave of that evidence; keyword arguments replace fields of the grant."""
        job_id = job.job_id
        job_key, model_key = self.keys.setdefault(job_id, (DataKey.generate(), DataKey.generate()))
        self.epochs[job_id] = self.epochs.get(job_id, 0) + 1
        result = AttestationResult(
            job_id=job_id, identity=evidence.identity, tee=evidence.tee, measurement=MEASUREMENT, protections=(), issued=0
        )
        fields = {
            "job": (signed_job or (job_signer or self.analyst).sign(job)).to_bytes(),
            "epoch": self.epochs[job_id],
            "job_key": job_key.expose(),
            "model_key": model_key.expose(),
            "datasets": (DatasetGrant(dataset=self.dataset.manifest.reference, secret=self.dataset.secret.expose()),),
            "models": tuple(ModelGrant(model=ref, key=self.models[ref][0].expose()) for ref in job.models),
            "head": self.heads.get(job_id),
            "result": self.broker.sign(result),
            "statistics": self.statistics_key(job),
        }
        grant = Grant(**{**fields, **changes})
        info = grant_context(job_id, evidence.identity.fingerprint)
        wrapped = wrap(evidence.identity.recipient_key, info, grant.to_bytes())
        return self.broker.sign(WrappedGrant(wrapped=wrapped))

    def statistics_key(self, job):
        """Return the key of the statistics beside the model that a job goes on from, where it may leave such itself."""
        if job.model is None or not job.output(OutputKind.SEALED_STATISTICS):
            return b""
        return statistics_key(self.keys[job.model.model_id][0], job.model.model_id).expose()

    def record(self, job, update):
        """Move the job's head as a broker does, and return the acknowledgement."""
        key = self.keys[job.job_id][0]
        opened = HeadUpdate.from_bytes(unseal(key, head_context(job.job_id), update))
        previous = self.heads.get(job.job_id)
        assert opened.previous == previous, "the aggregator continued from another head"
        self.heads[job.job_id] = opened.head
        if opened.model is not None:
            self.models[opened.model] = (self.keys[job.job_id][1], None)
        return seal(key, head_acknowledgement_context(job.job_id, update), b"")

    def open(self, raw):
        """Return a result for the analyst, opened with every check of a recipient."""
        result = SealedResult.from_bytes(raw)
        return open_result(result, identity=self.analyst, broker=self.broker.public, job_id=result.job_id)


class Relay:
    """A host's end of one connection to an enclave that runs in a thread of the test."""

    def __init__(self, world, *, enclave=None, memory_limit=2**28):
        self.world = world
        self.enclave = enclave or Enclave(InsecureAttester(MEASUREMENT, ()), memory_limit=memory_limit)
        self.connection, other = socket.socketpair()
        self.connection.settimeout(20)
        self._thread = threading.Thread(target=self._converse, args=(other,), daemon=True)
        self._thread.start()
        self.fetched = []
        self.job_id = ""
        self.failed = None

    def _converse(self, connection):
        with connection:
            Conversation(self.enclave, connection).run()

    def close(self):
        self.connection.close()
        self._thread.join(5)

    def ask(self, request, payload=b"", files=None):
        """Send a request, hand over the parts that the enclave asks for, and return the reply; an error code is raised."""
        send(self.connection, request, payload)
        while True:
            reply, data = receive(self.connection, REPLIES)
            if isinstance(reply, Failed):
                self.failed = reply
                raise error_from_code(reply.code, "The enclave refused.")
            if isinstance(reply, KeepBlock):
                self.keep(reply.job_id, reply.name, bytes(data))
                continue
            if isinstance(reply, NeedBlock):
                send(self.connection, BlockBytes(), self.block(reply.job_id, reply.name))
                continue
            if isinstance(reply, NeedSum):
                send(self.connection, BlockBytes(), masked_sum([(None, self.block(reply.job_id, name)) for name in reply.names]))
                continue
            if not isinstance(reply, NeedPart):
                return reply, data
            self.fetched.append(reply.ordinal)
            source = self.world.dataset.files if files is None else files
            send(self.connection, PartBytes(ordinal=reply.ordinal), source[reply.ordinal])

    def keep(self, job_id, name, block):
        """Keep a sealed block."""
        self.world.blocks[job_id, name] = block

    def block(self, job_id, name):
        """Return a block."""
        return self.world.blocks[job_id, name]

    def install(self, job, *, models=(), manifest=None, **changes):
        """Attest and install a grant."""
        self.job_id = job.job_id
        challenge = Challenge(nonce=os.urandom(32), broker=self.world.broker.public, job_id=job.job_id)
        attested, _ = self.ask(Attest(challenge=challenge))
        grant = self.world.grant(job, Evidence.from_bytes(attested.evidence), **changes)
        encoded = self.world.dataset.manifest.to_bytes() if manifest is None else manifest
        return self.ask(Install(grant=grant, manifest=encoded, models=tuple(models)))


def run(world, job, relays, *, models=(), begin=b"", stop_after=None, install=True, stays=False):
    """Drive a job over some relays, share ``k`` on relay ``k``, and return (Finished, checkpoints by round).

    Where statistics stay, they do so in the enclave of the first relay, which aggregates.
    """
    if install:
        for relay in relays:
            relay.install(job, models=models)
    checkpoints = {}
    reply, payload = relays[0].ask(Begin(job_id=job.job_id), begin)
    while not isinstance(reply, Finished):
        if isinstance(reply, Recording):
            checkpoints[reply.round] = bytes(payload)
            reply, payload = relays[0].ask(Recorded(job_id=job.job_id, acknowledgement=world.record(job, reply.update)))
            continue
        assert isinstance(reply, Advanced)
        if stop_after is not None and reply.round >= stop_after:
            return None, checkpoints
        reply, payload = hand_over(relays[0], job, computed(job, relays, reply.round, payload, stays=stays))
    return reply, checkpoints


def computed(job, relays, round_number, state, *, stays=False):
    """Return every share's reply and payload."""
    found = []
    for share in range(job.shares):
        relay = relays[share % len(relays)]
        request = Compute(job_id=job.job_id, round=round_number, share=share, stays=stays and relay is relays[0])
        reply, payload = relay.ask(request, bytes(state))
        found.append((reply, bytes(payload)))
    return found


def masked_sum(found):
    """Return the sum of masked payloads, as any host adds them."""
    return np.sum([np.frombuffer(payload, dtype="<u8") for _, payload in found], axis=0, dtype=np.uint64).tobytes()


def hand_over(relay, job, found):
    """Hand one round's statistics, sealed or masked, to the aggregator."""
    if isinstance(found[0][0], Masked):
        return relay.ask(UpdateSum(job_id=job.job_id, salts=tuple(reply.salt for reply, _ in found)), masked_sum(found))
    return relay.ask(Update(job_id=job.job_id, lengths=tuple(len(payload) for _, payload in found)), b"".join(p for _, p in found))


def statistics(job, relays, round_number, state):
    """Return every share's sealed statistics."""
    return [payload for _, payload in computed(job, relays, round_number, state)]


def execute(plan, rows, *, ordinal, seed, models):
    """Return a part's rows after all steps of a plan."""
    return reduce(lambda rows, step: follow(step, rows, models), plan.steps, begin(rows, ordinal=ordinal, seed=seed, stored=rows.count))


def binomial_table(rows=400, columns=3, seed=0):
    """Return a table with features x0.. and a label y from a logistic model."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, columns)) * 2 + 5
    y = (generator.random(rows) < 1 / (1 + np.exp(-(x - 5) @ np.arange(1, columns + 1)))).astype(float)
    return pa.table({**{f"x{i}": x[:, i] for i in range(columns)}, "y": y})


__all__ = [
    "MEASUREMENT",
    "Dataset",
    "Head",
    "Materialise",
    "Relay",
    "World",
    "binomial_table",
    "computed",
    "execute",
    "hand_over",
    "masked_sum",
    "replace",
    "run",
    "statistics",
]
