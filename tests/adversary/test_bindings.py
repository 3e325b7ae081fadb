"""Is each thing that an enclave compares before it goes on compared on its own, not only together with others that fail as well?

A host is tried that changes one thing and leaves all else genuine. Each stands beside the accepted twin.
"""

import io
import os
import socket
import threading
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from scipy import sparse

from securemllib.algorithms.vectors import SparseVector, to_stored
from securemllib.crypto.aead import seal
from securemllib.crypto.identity import PrivateIdentity
from securemllib.crypto.keys import DataKey
from securemllib.enclave.parts import PART_KEY_PURPOSE
from securemllib.enclave.results import sealed_result
from securemllib.enclave.rounds import STATE, SealedState, seal_state
from securemllib.enclave.service import Conversation, Enclave
from securemllib.errors import (
    CoverError,
    FormatError,
    FreshnessError,
    IntegrityError,
    SecureMLlibError,
    SignatureError,
    UnavailableError,
    UnsealError,
)
from securemllib.wire.attestation import AttestationResult, Challenge, Evidence
from securemllib.wire.dataset import Part, aad_prefix, part_key_context
from securemllib.wire.framing import receive, send
from securemllib.wire.plan import ApplyModel, ModelRef, Plan
from securemllib.wire.result import SealedModel
from securemllib.wire.task import FRAME_BYTES, REPLIES, Attest, Begin, Compute, Failed, Install, NeedPart, PartBytes, Recorded, Update
from tests.world import MEASUREMENT, Dataset, Relay, World, binomial_table, run, statistics


@pytest.fixture(scope="module")
def dataset():
    """Share one encrypted table: nobody writes to it."""
    return Dataset(binomial_table(120), parts=4)


@pytest.fixture
def world(dataset):
    """Return a fresh broker and analyst around the table."""
    return World(dataset)


def begun(world, **changes):
    """Return a job, its relay, the round and the first sealed state."""
    job, relay = world.job(**changes), Relay(world)
    relay.install(job)
    advanced, state = relay.ask(Begin(job_id=job.job_id))
    return job, relay, advanced.round, bytes(state)


def update(relay, job, envelopes, lengths=None):
    """Hand statistics to the aggregator."""
    return relay.ask(Update(job_id=job.job_id, lengths=tuple(map(len, envelopes)) if lengths is None else lengths), b"".join(envelopes))


# States and statistics ------------------------------------------------------------------------------------------------------------


def test_statistics_of_another_state_of_the_same_round_are_refused(world):
    """Statistics say from which state they were computed, not only in which round: those of a fork of the job are no statistics of it."""
    job, relay, number, state = begun(world)
    honest = statistics(job, [relay], number, state)
    fork = seal_state(relay.enclave.session(job.job_id), SealedState(round=number, state=None, heaviest=2.0), STATE, None)
    forked = statistics(job, [relay], number, bytes(fork))
    with pytest.raises(CoverError):
        update(relay, job, [honest[0], forked[1]])
    assert update(relay, job, honest)[0].round == number + 1


def test_a_checkpoint_is_no_state_for_workers(world):
    """What an aggregator is to begin from again opens for aggregators only: a worker that is handed it computes nothing."""
    job, relay, number, state = begun(world, checkpoint_interval=1)
    recording, checkpoint = update(relay, job, statistics(job, [relay], number, state))
    advanced, following = relay.ask(Recorded(job_id=job.job_id, acknowledgement=world.record(job, recording.update)))
    assert recording.round == advanced.round
    with pytest.raises(UnsealError):
        relay.ask(Compute(job_id=job.job_id, round=advanced.round, share=0), bytes(checkpoint))
    assert relay.ask(Compute(job_id=job.job_id, round=advanced.round, share=0), bytes(following))


def test_a_checkpoint_of_another_state_than_the_recorded_one_is_refused(world):
    """An aggregator begins from the state that the broker recorded, not from another one of the same round."""
    job = world.job(checkpoint_interval=1, params={"tol": 1e-10})
    _, checkpoints = run(world, job, [Relay(world)], stop_after=3)
    head = world.heads[job.job_id]
    for state in (b"other" * 6 + b"!!", head.state):
        world.heads[job.job_id] = replace(head, state=state)
        relay = Relay(world)
        relay.install(job)
        if state == head.state:
            assert relay.ask(Begin(job_id=job.job_id), checkpoints[head.round])[0].round == head.round
            continue
        with pytest.raises(FreshnessError) as refused:
            relay.ask(Begin(job_id=job.job_id), checkpoints[head.round])
        assert refused.value.error_code == "integrity.freshness.checkpoint"


def test_an_acknowledgement_that_nobody_waits_for_is_refused(world):
    """A host that sends acknowledgements unasked is told so."""
    job, relay, number, state = begun(world)
    with pytest.raises(FormatError):
        relay.ask(Recorded(job_id=job.job_id, acknowledgement=bytes(81)))
    assert update(relay, job, statistics(job, [relay], number, state))


def test_lengths_that_do_not_fit_the_payload_are_refused(world):
    """Statistics are cut where the request says only if that is possible: no negative length, none missing, none too many."""
    job, relay, number, state = begun(world)
    honest = statistics(job, [relay], number, state)
    first, second = map(len, honest)
    for lengths in ((first, second - 1), (first, second + 1), (-1, first + second + 1), (first + second + 1, -1)):
        with pytest.raises(FormatError) as refused:
            update(relay, job, honest, lengths)
        assert refused.value.error_code == "integrity.format"
    assert update(relay, job, honest, (first, second))[0].round == number + 1


# Grants ---------------------------------------------------------------------------------------------------------------------------


def attested(world, job, relay):
    """Return the enclave's evidence for a fresh challenge."""
    challenge = Challenge(nonce=os.urandom(32), broker=world.broker.public, job_id=job.job_id)
    return Evidence.from_bytes(relay.ask(Attest(challenge=challenge))[0].evidence)


def result(world, job_id, identity):
    """Return an attestation result that the broker signed."""
    found = AttestationResult(job_id=job_id, identity=identity, tee="insecure", measurement=MEASUREMENT, protections=(), issued=0)
    return world.broker.sign(found)


@pytest.mark.parametrize("other", ["nothing", "enclave", "job"])
def test_an_attestation_result_is_of_this_enclave_and_job(world, other):
    """A genuine result of another enclave, or of this one for another job, opens no session: recipients would believe it."""
    job, relay = world.job(), Relay(world)
    evidence = attested(world, job, relay)
    identity = PrivateIdentity.generate("other").public if other == "enclave" else evidence.identity
    grant = world.grant(job, evidence, result=result(world, world.job().job_id if other == "job" else job.job_id, identity))
    request = Install(grant=grant, manifest=world.dataset.manifest.to_bytes(), models=())
    if other == "nothing":
        assert relay.ask(request)
        return
    with pytest.raises(IntegrityError) as refused:
        relay.ask(request)
    assert refused.value.error_code == "integrity.grant"


@pytest.mark.parametrize("forged", ["nothing", "grant", "result", "job"])
def test_a_signature_is_its_signers(world, forged):
    """A host wraps keys for an enclave as the broker does, and names whom it likes: it cannot sign as broker or analyst, so none opens."""

    def by_the_host(signed, what):
        signature = PrivateIdentity.generate("host").signature(signed.payload_type, signed.payload)
        return replace(signed, signature=signature) if what == forged else signed

    job, relay = world.job(), Relay(world)
    evidence = attested(world, job, relay)
    told = by_the_host(result(world, job.job_id, evidence.identity), "result")
    grant = world.grant(job, evidence, result=told, signed_job=by_the_host(world.analyst.sign(job), "job"))
    request = Install(grant=by_the_host(grant, "grant"), manifest=world.dataset.manifest.to_bytes(), models=())
    if forged == "nothing":
        assert relay.ask(request)
        return
    with pytest.raises(SignatureError):
        relay.ask(request)


def test_a_grant_of_another_job_is_refused(world):
    """A genuine grant, wrapped for this very enclave, opens for the job that the enclave was challenged for and for no other."""
    job, other, relay = world.job(), world.job(), Relay(world)
    evidence, manifest = attested(world, job, relay), world.dataset.manifest.to_bytes()
    with pytest.raises(IntegrityError):
        relay.ask(Install(grant=world.grant(other, evidence), manifest=manifest, models=()))
    assert relay.ask(Install(grant=world.grant(job, evidence), manifest=manifest, models=()))[0].job_id == job.job_id


def test_randomness_follows_from_the_job_alone(world):
    """The host draws nothing: the same seed gives the same numbers, and another seed, operation or dataset others; splits are shared."""

    def seeds(around, **changes):
        job, relay = around.job(**changes), Relay(around)
        relay.install(job)
        session = relay.enclave.session(job.job_id)
        return session.algorithm_seed.value, session.split_seed.value

    algorithm, splits = seeds(world)
    assert seeds(world) == (algorithm, splits)
    elsewhere = World(Dataset(binomial_table(120), parts=4))
    different = [seeds(world, seed=8), seeds(world, operation="LinearRegression"), seeds(elsewhere)]
    assert len({algorithm, splits, *(found for found, _ in different)}) == 5
    assert [found for _, found in different[:2]] == [splits, splits]
    assert different[2][1] != splits


def test_a_model_that_the_job_does_not_name_is_refused(world):
    """A host that adds a model to a job's is told so: only what the analyst signed is opened."""
    added = SealedModel(model_id="a" * 64, operation="KMeans", tee="insecure", lineage=(), envelope=bytes(100))
    with pytest.raises(IntegrityError) as refused:
        Relay(world).install(world.job(), models=(added.to_bytes(),))
    assert refused.value.error_code == "integrity.model"
    assert Relay(world).install(world.job())


def test_each_output_of_each_job_has_a_key_of_its_own(world):
    """What opens one result opens no other: keys of results are drawn for a job, an enclave and an output, and stay that output's."""
    found = []
    for _ in range(2):
        job, relay = world.job(), Relay(world)
        relay.install(job)
        session = relay.enclave.session(job.job_id)
        for output in (*job.outputs, *job.outputs):
            sealed_result(session, output, b"content")
            found.append(session.result_keys[output][0].expose())
    assert len(set(found)) == len(found) / 2 == 4
    assert not any(len(set(key)) == 1 for key in found)


def test_a_job_for_another_broker_is_refused(world):
    """A broker that was handed a job which its analyst signed for another broker cannot have it computed."""
    with pytest.raises(IntegrityError) as refused:
        Relay(world).install(world.job(broker=PrivateIdentity.generate("other").public.fingerprint))
    assert refused.value.error_code == "integrity.grant"
    assert Relay(world).install(world.job())


def test_a_job_without_its_model_is_refused(world):
    """A host that holds back a model of the job is told so before anything is computed."""
    model = ModelRef(model_id="a" * 64, digest=bytes(32))
    apply = ApplyModel(model=model, input_columns=("x0",), outputs={"prediction": "p"}, params={})
    job, relay = world.job(plan=Plan(source=world.dataset.manifest.reference, steps=(apply,))), Relay(world)
    world.models[model] = (DataKey.generate(), None)
    grant = world.grant(job, attested(world, job, relay))
    with pytest.raises(IntegrityError) as refused:
        relay.ask(Install(grant=grant, manifest=world.dataset.manifest.to_bytes(), models=()))
    assert refused.value.error_code == "integrity.model"


# Parts ----------------------------------------------------------------------------------------------------------------------------


def stored_as(dataset, table, rows):
    """Return a dataset whose first part holds a table, under a manifest that says other rows or columns of it."""
    key, salt, sink = os.urandom(32), os.urandom(16), io.BytesIO()
    properties = pe.create_encryption_properties(key, aad_prefix=aad_prefix(dataset.dataset_id, 1, 0, rows, salt), store_aad_prefix=False)
    pq.write_table(table, sink, encryption_properties=properties)
    wrapped = seal(dataset.secret.derive(PART_KEY_PURPOSE), part_key_context(dataset.dataset_id, 1, 0), key)
    data = sink.getvalue()
    part = Part(ordinal=0, file="part-00000.parquet", length=len(data), sha256=bytes(32), rows=rows, wrapped_key=wrapped, salt=salt)
    dataset.files = [data, *dataset.files[1:]]
    dataset.publish((part, *dataset.body.parts[1:]))
    return World(dataset)


@pytest.mark.parametrize("change", ["nothing", "rows", "type"])
def test_a_part_holds_the_rows_and_types_of_its_manifest(change):
    """A part that opens, but holds another number of rows or another type than its manifest says, ends the round."""
    table = binomial_table(40)
    found = table.slice(0, 19) if change == "rows" else table.slice(0, 20)
    if change == "type":
        found = found.set_column(0, "x0", found["x0"].cast(pa.float32()))
    world = stored_as(Dataset(table, parts=2), found, 20)
    job, relay, number, state = begun(world, shares=1)
    if change == "nothing":
        assert statistics(job, [relay], number, state)
        return
    with pytest.raises(IntegrityError) as refused:
        statistics(job, [relay], number, state)
    assert refused.value.error_code == "integrity.part"


class Lengthening(Relay):
    """A relay that announces a part which is a byte longer than the one that was asked for, and sends none of it."""

    def ask(self, request, payload=b"", files=None):
        """Return what the enclave says to the announcement."""
        send(self.connection, request, payload)
        reply, _ = receive(self.connection, REPLIES)
        if not isinstance(reply, NeedPart):
            return reply, b""
        header = PartBytes(ordinal=reply.ordinal).to_bytes()
        length = self.world.dataset.body.parts[reply.ordinal].length + 1
        self.connection.sendall(b"SML1" + len(header).to_bytes(4, "big") + length.to_bytes(8, "big") + header)
        return receive(self.connection, REPLIES)


def test_a_part_is_announced_with_the_length_of_its_manifest(world):
    """A part that would be longer than the manifest says is refused before a byte of it is taken."""
    job, relay, number, state = begun(world)
    lengthening = Lengthening(world, enclave=relay.enclave)
    reply, _ = lengthening.ask(Compute(job_id=job.job_id, round=number, share=0), state)
    # The rest of the announcement is no frame, so the conversation ends.
    assert receive(lengthening.connection, REPLIES)[0] == Failed(code="integrity.format")
    lengthening.close()
    assert reply == Failed(code="integrity.format")
    assert statistics(job, [relay], number, state)


# Frames ---------------------------------------------------------------------------------------------------------------------------


class Failing:
    """An attester whose error tells a value."""

    tee = "insecure"

    def report(self, report_data):
        """Raise."""
        raise ValueError(f"the row {report_data[:4].hex()} is no row")


def conversation(attester, data):
    """Send raw bytes to an enclave, and return its first reply."""
    here, there = socket.socketpair()
    here.settimeout(10)
    thread = threading.Thread(target=lambda: Conversation(Enclave(attester, memory_limit=2**20), there).run(), daemon=True)
    thread.start()
    with here, there:
        here.sendall(data)
        return receive(here, REPLIES)[0]


@pytest.mark.parametrize("length", [FRAME_BYTES + 1, 2**31])
def test_a_request_is_no_longer_than_a_frame(length):
    """A request that announces more than a frame holds is refused at once, also below what a file may have."""
    header = b"x" * 16
    reply = conversation(Failing(), b"SML1" + len(header).to_bytes(4, "big") + length.to_bytes(8, "big") + header)
    assert reply == Failed(code="integrity.format")


def test_an_unforeseen_error_leaves_as_nothing_but_its_code(world):
    """What nobody foresaw is told as that, without the words of the error, in which a value could be; the enclave goes on."""
    relay = Relay(world, enclave=Enclave(Failing(), memory_limit=2**20))
    for _ in range(2):
        with pytest.raises(SecureMLlibError) as refused:
            attested(world, world.job(), relay)
        assert not isinstance(refused.value, UnavailableError)
        assert relay.failed == Failed(code="error.enclave")


# Rows that are held ---------------------------------------------------------------------------------------------------------------


def coefficients(world, relay, operation, params, **changes):
    """Return the bytes of a job's sealed summary's content in an enclave."""
    job = world.job(operation, params, **changes)
    finished, _ = run(world, job, [relay])
    return [world.open(raw).content for raw in finished.results]


def test_rows_that_are_held_in_another_form_are_not_taken_for_those_of_a_job():
    """Rows in single precision, or with their zeros, that a job left behind change no bit of a later job's result."""
    drawn = np.random.default_rng(3)
    matrix = sparse.csr_array(drawn.poisson(0.4, (60, 8)).astype(float))
    table = pa.table({"x": to_stored(SparseVector(matrix)), "y": (drawn.random(60) > 0.5).astype(float)})
    world = World(Dataset(table, parts=2))
    plan = Plan(source=world.dataset.manifest.reference, steps=())
    features = {"inputs": {"features": "x"}, "plan": plan}
    labelled = {"inputs": {"features": "x", "label": "y"}, "plan": plan}
    fresh, used = Relay(world), Relay(world)
    coefficients(world, used, "LDA", {"k": 2, "maxIter": 1}, **features)
    coefficients(world, used, "KMeans", {"k": 2}, dtype="float32", **features)
    coefficients(world, used, "LogisticRegression", {"maxIter": 3}, dtype="float32", **labelled)
    for operation, params, inputs in (("LogisticRegression", {"maxIter": 3}, labelled), ("KMeans", {"k": 2}, features)):
        assert coefficients(world, used, operation, params, **inputs) == coefficients(world, fresh, operation, params, **inputs)
    assert len(used.fetched) > len(fresh.fetched)
