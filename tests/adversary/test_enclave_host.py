"""Can an active host that speaks the real protocol make an enclave compute on, accept or release anything else than the job says?

Each attack stands beside the accepted twin: the same conversation with the honest bytes, which must succeed.
"""

import contextlib
import os
import socket
import threading
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from securemllib.attestation.insecure import InsecureAttester
from securemllib.crypto.identity import PrivateIdentity
from securemllib.crypto.keys import DataKey
from securemllib.enclave import messages
from securemllib.enclave.parts import open_part
from securemllib.enclave.service import Conversation, Enclave
from securemllib.errors import (
    CapacityError,
    CoverError,
    DataError,
    FormatError,
    FreshnessError,
    IntegrityError,
    RefusedError,
    SecureMLlibError,
    SignatureError,
    UnavailableError,
    UnsealError,
)
from securemllib.wire.attestation import Challenge, DatasetGrant, Evidence
from securemllib.wire.framing import receive
from securemllib.wire.task import REPLIES, Attest, Begin, Compute, End, Ended, Failed, Install, Recorded, Recording, Update
from tests.world import MEASUREMENT, Dataset, Relay, World, binomial_table, run, statistics


@pytest.fixture(scope="module")
def dataset():
    """Share one encrypted table: nobody writes to it."""
    return Dataset(binomial_table(), parts=4)


@pytest.fixture
def world(dataset):
    """Return a fresh broker and analyst around the table."""
    return World(dataset)


def begun(world, relay=None, **changes):
    """Return a job, its relay, and the first sealed state."""
    job = world.job(**changes)
    relay = relay or Relay(world)
    relay.install(job)
    advanced, state = relay.ask(Begin(job_id=job.job_id))
    return job, relay, advanced, bytes(state)


def update(relay, job, envelopes):
    """Hand statistics to the aggregator."""
    return relay.ask(Update(job_id=job.job_id, lengths=tuple(map(len, envelopes))), b"".join(envelopes))


# Parts ----------------------------------------------------------------------------------------------------------------------------


def test_honest_parts_are_accepted(world):
    """The untouched parts give statistics for every share."""
    job, relay, advanced, state = begun(world)
    assert len(statistics(job, [relay], advanced.round, state)) == job.shares


@pytest.mark.parametrize("attack", ["flip", "swap", "truncate", "empty", "duplicate"])
def test_a_part_that_is_not_the_manifests_is_refused(world, attack):
    """A changed, swapped, cut, missing or duplicated part stops the share that would read it."""
    files = list(world.dataset.files)
    if attack == "flip":
        middle = len(files[0]) // 3
        files[0] = files[0][:middle] + bytes([files[0][middle] ^ 1]) + files[0][middle + 1 :]
    elif attack == "swap":
        files[0], files[2] = files[2], files[0]
    elif attack == "truncate":
        files[0] = files[0][:-1]
    elif attack == "empty":
        files[0] = b""
    else:
        files[2] = files[0]
    job, relay, advanced, state = begun(world)
    with pytest.raises((IntegrityError, UnavailableError)):
        relay.ask(Compute(job_id=job.job_id, round=advanced.round, share=0), state, files=files)


def rows_of(dataset, data):
    """Return the rows that an enclave reads from the bytes of the first part."""
    part, columns = dataset.body.parts[0], [column.name for column in dataset.body.columns]
    reference = dataset.manifest.reference
    return open_part(memoryview(data), secret=dataset.secret, dataset=reference, part=part, body=dataset.body, columns=columns)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@example(position=3765 / 4684, bit=4)
def test_any_bit_flip_of_a_part_is_refused_or_changes_nothing(dataset, position, bit):
    """No single flipped bit of a part lets an enclave read other rows.

    The leading magic and some bits of the footer's clear description belong to no module; a flip there leaves the rows as they were.
    """
    data = bytes(dataset.files[0])
    index = int(position * len(data))
    flipped = data[:index] + bytes([data[index] ^ (1 << bit)]) + data[index + 1 :]
    with contextlib.suppress(IntegrityError):
        assert rows_of(dataset, flipped).equals(rows_of(dataset, data)), f"a flip of byte {index} gave other rows"


def test_most_bit_flips_are_refused(dataset):
    """All but a few of a part's bytes are authenticated: the promise above is not kept by ignoring them."""
    data, refused, step = bytes(dataset.files[0]), 0, 13
    for index in range(0, len(data), step):
        try:
            rows_of(dataset, data[:index] + bytes([data[index] ^ 16]) + data[index + 1 :])
        except IntegrityError:
            refused += 1
    assert refused >= len(range(0, len(data), step)) - 2


def test_a_part_larger_than_the_bound_names_the_bound(world):
    """A part over the enclave's memory bound is refused before it is asked for."""
    job = world.job()
    relay = Relay(world, memory_limit=max(part.length for part in world.dataset.body.parts) - 1)
    relay.install(job)
    advanced, state = relay.ask(Begin(job_id=job.job_id))
    largest = max(range(4), key=lambda ordinal: world.dataset.body.parts[ordinal].length)
    with pytest.raises(CapacityError) as refused:
        relay.ask(Compute(job_id=job.job_id, round=advanced.round, share=largest % job.shares), bytes(state))
    assert refused.value.error_code == "unavailable.capacity.part"


# Statistics -----------------------------------------------------------------------------------------------------------------------


def test_exact_statistics_advance_the_job(world):
    """Every share once, in order, from the current state: accepted."""
    job, relay, advanced, state = begun(world)
    reply, _ = update(relay, job, statistics(job, [relay], advanced.round, state))
    assert reply.round == advanced.round + 1


@pytest.mark.parametrize("attack", ["drop", "duplicate", "relabel", "add", "replay", "other_job", "garbage", "none"])
def test_statistics_that_do_not_cover_the_rows_once_are_refused(world, attack):
    """Dropped, duplicated, reordered, added, replayed, foreign or invented statistics never reach the sum."""
    job, relay, advanced, state = begun(world)
    honest = statistics(job, [relay], advanced.round, state)
    if attack == "drop":
        sent = honest[:1]
    elif attack == "duplicate":
        sent = [honest[0], honest[0]]
    elif attack == "relabel":
        sent = honest[::-1]
    elif attack == "add":
        sent = [*honest, honest[0]]
    elif attack == "replay":
        update(relay, job, honest)
        sent = honest
    elif attack == "other_job":
        other, other_relay, other_advanced, other_state = begun(world)
        sent = statistics(other, [other_relay], other_advanced.round, other_state)
    elif attack == "garbage":
        sent = [os.urandom(len(envelope)) for envelope in honest]
    else:
        sent = []
    with pytest.raises(CoverError):
        update(relay, job, sent)


def stay(job, relay, advanced, state, shares):
    """Let statistics stay in an enclave."""
    for share in shares:
        relay.ask(Compute(job_id=job.job_id, round=advanced.round, share=share, stays=True), bytes(state))


def test_statistics_that_stayed_advance_the_job(world):
    """Every share's once, of the current state, in the aggregator's enclave: accepted."""
    job, relay, advanced, state = begun(world)
    stay(job, relay, advanced, state, range(job.shares))
    assert update(relay, job, [b""] * job.shares)[0].round == advanced.round + 1


@pytest.mark.parametrize("attack", ["never", "twice", "stale", "other_share", "other_job", "other_enclave"])
def test_only_the_rounds_own_statistics_that_stayed_are_added(world, attack):
    """Where the host claims that statistics stayed, the aggregator adds those of that share, job and state, once, or nothing."""
    job, relay, advanced, state = begun(world, checkpoint_interval=100)
    every = range(job.shares)
    if attack == "twice":
        stay(job, relay, advanced, state, every)
        update(relay, job, [b""] * job.shares)
    elif attack == "stale":
        second, second_state = update(relay, job, statistics(job, [relay], advanced.round, state))
        stay(job, relay, second, second_state, every[1:])
        stay(job, relay, advanced, state, every[:1])
    elif attack == "other_share":
        stay(job, relay, advanced, state, every[1:])
    elif attack == "other_job":
        other, _, other_advanced, other_state = begun(world, relay=relay)
        stay(other, relay, other_advanced, other_state, every)
    elif attack == "other_enclave":
        there = Relay(world)
        there.install(job)
        stay(job, there, advanced, state, every)
    with pytest.raises(CoverError):
        update(relay, job, [b""] * job.shares)


def test_statistics_of_a_stale_state_are_refused(world):
    """A worker that was given the state of an earlier round makes statistics that the aggregator does not take."""
    job, relay, advanced, state = begun(world)
    second, second_state = update(relay, job, statistics(job, [relay], advanced.round, state))
    stale = statistics(job, [relay], advanced.round, state)
    with pytest.raises(CoverError):
        update(relay, job, stale)
    reply, _ = update(relay, job, statistics(job, [relay], second.round, bytes(second_state)))
    assert reply.round == second.round + 1


def test_a_state_of_another_round_or_job_is_refused(world):
    """A worker opens a state only as the state of the round and job that the request names."""
    job, relay, advanced, state = begun(world)
    with pytest.raises(UnsealError):
        relay.ask(Compute(job_id=job.job_id, round=advanced.round + 1, share=0), state)
    other, other_relay, other_advanced, _ = begun(world)
    with pytest.raises(UnsealError):
        other_relay.ask(Compute(job_id=other.job_id, round=other_advanced.round, share=0), state)


def test_a_share_that_the_job_does_not_have_is_refused(world):
    """The host cannot invent a share."""
    job, relay, advanced, state = begun(world)
    for share in (-1, job.shares, 10**9):
        with pytest.raises(FormatError):
            relay.ask(Compute(job_id=job.job_id, round=advanced.round, share=share), state)


# Checkpoints and heads ------------------------------------------------------------------------------------------------------------


def test_an_aggregator_goes_on_only_with_the_brokers_acknowledgement(world):
    """A forged or replayed acknowledgement, or none, leaves the aggregator where it is; the genuine one moves it."""
    job, relay, advanced, state = begun(world, checkpoint_interval=1)
    reply, _ = update(relay, job, statistics(job, [relay], advanced.round, state))
    assert isinstance(reply, Recording)
    with pytest.raises(UnsealError):
        relay.ask(Recorded(job_id=job.job_id, acknowledgement=os.urandom(81)))
    with pytest.raises(FormatError):
        update(relay, job, statistics(job, [relay], advanced.round, state))
    genuine = world.record(job, reply.update)
    after, after_state = relay.ask(Recorded(job_id=job.job_id, acknowledgement=genuine))
    again, _ = update(relay, job, statistics(job, [relay], after.round, bytes(after_state)))
    with pytest.raises(UnsealError):
        relay.ask(Recorded(job_id=job.job_id, acknowledgement=genuine))
    assert isinstance(again, Recording)


def test_a_stale_checkpoint_is_refused_and_the_recorded_one_taken(world):
    """A new aggregator begins from the checkpoint that the broker recorded last, and from no other."""
    job = world.job(checkpoint_interval=1, params={"tol": 1e-10})
    _, checkpoints = run(world, job, [Relay(world)], stop_after=4)
    latest = world.heads[job.job_id].round
    relay = Relay(world)
    relay.install(job)
    for round_number, checkpoint in checkpoints.items():
        if round_number != latest:
            with pytest.raises(FreshnessError):
                relay.ask(Begin(job_id=job.job_id), checkpoint)
    with pytest.raises(FreshnessError):
        relay.ask(Begin(job_id=job.job_id), b"")
    reply, _ = relay.ask(Begin(job_id=job.job_id), checkpoints[latest])
    assert reply.round == latest


# Grants ---------------------------------------------------------------------------------------------------------------------------


def attested(world, job, relay, broker=None):
    """Return the enclave's evidence for a fresh challenge."""
    challenge = Challenge(nonce=os.urandom(32), broker=(broker or world.broker).public, job_id=job.job_id)
    reply, _ = relay.ask(Attest(challenge=challenge))
    return Evidence.from_bytes(reply.evidence)


def install(world, job, relay, grant, manifest=None):
    """Hand over a grant and a manifest."""
    encoded = world.dataset.manifest.to_bytes() if manifest is None else manifest
    return relay.ask(Install(grant=grant, manifest=encoded, models=()))


def test_a_grant_is_installed_once(world):
    """The genuine grant opens a session; the same grant again does not, and neither does one that answers no challenge."""
    job, relay = world.job(), Relay(world)
    grant = world.grant(job, attested(world, job, relay))
    assert install(world, job, relay, grant)[0].job_id == job.job_id
    with pytest.raises(IntegrityError):
        install(world, job, relay, grant)
    with pytest.raises(IntegrityError):
        install(world, job, Relay(world), grant)


def test_a_grant_of_another_broker_is_refused(world):
    """A host that plays broker with its own key cannot install a grant for evidence made for the real broker."""
    job, relay = world.job(), Relay(world)
    evidence = attested(world, job, relay)
    impostor = World(world.dataset, broker=PrivateIdentity.generate("impostor"), analyst=world.analyst)
    with pytest.raises(IntegrityError):
        install(world, job, relay, impostor.grant(job, evidence))
    assert install(world, job, relay, world.grant(job, evidence))


def test_a_job_altered_after_signing_is_refused(world):
    """A job that another key signed, or that is not the challenged one, opens no session."""
    job, relay = world.job(), Relay(world)
    evidence = attested(world, job, relay)
    with pytest.raises(SignatureError):
        install(world, job, relay, world.grant(job, evidence, job_signer=PrivateIdentity.generate("mallory")))
    altered = replace(job, params={"regParam": 9.0})
    with pytest.raises(IntegrityError):
        install(world, job, relay, world.grant(job, evidence, signed_job=world.analyst.sign(altered)))
    assert install(world, job, relay, world.grant(job, evidence))


def test_an_older_or_foreign_manifest_is_refused(world):
    """The enclave reads no other version of the dataset than the job names, and no other dataset, and says so whatever else waits."""
    job, relay = world.job(), Relay(world)
    attested(world, world.job(), relay)
    older = replace(world.dataset.manifest, created=1).to_bytes()
    for manifest in (older, Dataset(binomial_table(seed=1)).manifest.to_bytes(), b""):
        with pytest.raises(IntegrityError) as refused:
            install(world, job, relay, world.grant(job, attested(world, job, relay)), manifest)
        assert refused.value.error_code == "integrity.manifest"
    assert install(world, job, relay, world.grant(job, attested(world, job, relay)))


def test_a_wrong_dataset_secret_is_refused(world):
    """A grant whose secret is not the dataset's opens no manifest."""
    job, relay = world.job(), Relay(world)
    wrong = (DatasetGrant(dataset=world.dataset.manifest.reference, secret=DataKey.generate().expose()),)
    with pytest.raises(IntegrityError):
        install(world, job, relay, world.grant(job, attested(world, job, relay), datasets=wrong))
    with pytest.raises(IntegrityError):
        install(world, job, relay, world.grant(job, attested(world, job, relay), datasets=()))


def test_a_process_serves_one_broker(world):
    """A host that is its own broker, owner and analyst gets no job into the process that holds an owner's rows; that owner's go on."""
    job, relay, advanced, state = begun(world)
    statistics(job, [relay], advanced.round, state)
    own = World(Dataset(binomial_table(seed=1), parts=1))
    with pytest.raises(RefusedError) as refused:
        Relay(own, enclave=relay.enclave).install(own.job())
    assert refused.value.error_code == "refused.tenant"
    assert Relay(world, enclave=relay.enclave).install(world.job())
    assert Relay(own).install(own.job())


def test_evidence_is_for_anybody_and_decides_nothing(world):
    """Whoever asks gets evidence, as `securemllib attest collect` does; the broker of the first grant is the one that is served."""
    relay = Relay(world)
    attested(world, world.job(), relay, broker=PrivateIdentity.generate("somebody"))
    assert relay.install(world.job())
    attested(world, world.job(), relay, broker=PrivateIdentity.generate("somebody"))
    assert relay.install(world.job())


def test_no_aggregator_outlives_its_job(monkeypatch):
    """A job that ends while its aggregator waits for the host leaves none behind that holds its keys; one that goes on does."""
    monkeypatch.setattr(messages, "MESSAGE_BYTES", 0)  # so that large arrays of a checkpoint are asked for
    world, features = World(Dataset(binomial_table(400, 30), parts=2)), tuple(f"x{index}" for index in range(30))
    job = world.job(operation="KMeans", features=features, params={"k": 100}, label=None, outputs=None, checkpoint_interval=1)
    relay = Relay(world)
    _, checkpoints = run(world, job, [relay], stop_after=3)

    class Ending(Relay):
        def block(self, job_id, name):
            Relay(world, enclave=self.enclave).ask(End(job_id=job_id))
            return super().block(job_id, name)

    for kind in (Ending, Relay):
        late = kind(world)
        late.install(job)
        with pytest.raises(UnavailableError) if kind is Ending else contextlib.nullcontext():
            late.ask(Begin(job_id=job.job_id), checkpoints[max(checkpoints)])
        with pytest.raises(UnavailableError) if kind is Ending else contextlib.nullcontext():
            assert late.enclave.aggregator(job.job_id)


def test_keys_are_gone_when_a_job_ends(world):
    """After the end of a job the enclave computes nothing for it, and cached rows serve only a holder of the dataset secret."""
    job, relay, advanced, state = begun(world)
    statistics(job, [relay], advanced.round, state)
    assert isinstance(relay.ask(End(job_id=job.job_id))[0], Ended)
    with pytest.raises(UnavailableError):
        relay.ask(Compute(job_id=job.job_id, round=advanced.round, share=0), state)
    before = len(relay.fetched)
    again = world.job()
    relay.install(again)
    reply, again_state = relay.ask(Begin(job_id=again.job_id))
    statistics(again, [relay], reply.round, bytes(again_state))
    assert len(relay.fetched) == before


# Frames ---------------------------------------------------------------------------------------------------------------------------


def raw_conversation(data):
    """Send raw bytes to an enclave and return its replies until it hangs up."""
    enclave = Enclave(InsecureAttester(MEASUREMENT, ()), memory_limit=2**20)
    here, there = socket.socketpair()
    here.settimeout(10)

    def converse():
        with there:
            Conversation(enclave, there).run()

    thread = threading.Thread(target=converse, daemon=True)
    thread.start()
    here.sendall(data)
    here.shutdown(socket.SHUT_WR)
    replies = []
    try:
        while True:
            replies.append(receive(here, REPLIES)[0])
    except SecureMLlibError:
        pass
    here.close()
    thread.join(10)
    assert not thread.is_alive()
    return replies


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200) | st.builds(lambda tail: b"SML1" + tail, st.binary(max_size=200)))
def test_garbage_gets_an_error_code_or_silence(data):
    """Whatever bytes arrive, the conversation ends with at most an error code, and the enclave lives."""
    assert all(isinstance(reply, Failed) for reply in raw_conversation(data))


def test_an_oversized_frame_is_refused_before_it_is_allocated():
    """A frame that announces 2**60 bytes is answered by an error code at once."""
    (reply,) = raw_conversation(b"SML1" + (16).to_bytes(4, "big") + (2**60).to_bytes(8, "big") + b"x" * 16)
    assert reply == Failed(code="integrity.format")


# Data -----------------------------------------------------------------------------------------------------------------------------


def test_an_empty_dataset_is_an_error_with_a_code():
    """A dataset without rows trains nothing and says so."""
    world = World(Dataset(binomial_table().slice(0, 0), parts=1))
    job = world.job(shares=1)
    with pytest.raises(DataError):
        run(world, job, [Relay(world)])


def test_a_null_feature_is_an_error_with_a_code(world):
    """A null among the assembled columns stops the job as in MLlib."""
    table = binomial_table()
    column = table["x0"].to_pylist()
    column[5] = None
    holed = World(Dataset(table.set_column(0, "x0", [column])))
    with pytest.raises(DataError) as refused:
        run(holed, holed.job(), [Relay(holed)])
    assert refused.value.error_code == "data.null"


@pytest.mark.parametrize(("value", "code"), [("nan", "data.null"), ("inf", "data.features"), ("-inf", "data.features")])
def test_a_feature_that_is_no_finite_number_is_an_error_with_a_code(world, value, code):
    """NaN, which MLlib's assembler takes for a null, or infinity stops the job; the untouched rows do not."""
    table = binomial_table()
    column = table["x0"].to_pylist()
    column[5] = float(value)
    odd = World(Dataset(table.set_column(0, "x0", [column])))
    with pytest.raises(DataError) as refused:
        run(odd, odd.job(), [Relay(odd)])
    assert refused.value.error_code == code
    assert run(world, world.job(), [Relay(world)])
