"""Can an active host that adds masked statistics learn from them, or change what the aggregator takes?

Each attack stands beside the accepted twin: the honest sum of the same round.
"""

import os

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import chi2, norm

from securemllib.enclave.masking import TAG_WORDS, unmask
from securemllib.enclave.rounds import open_state, statistics_context
from securemllib.errors import CoverError
from securemllib.wire.job import Mode
from securemllib.wire.task import Begin, Masked, Update, UpdateSum
from tests.world import Dataset, Relay, World, binomial_table, computed, hand_over, masked_sum, statistics


@pytest.fixture(scope="module")
def dataset():
    """Share one encrypted table: nobody writes to it."""
    return Dataset(binomial_table(), parts=4)


@pytest.fixture
def world(dataset):
    """Return a fresh broker and analyst around the table."""
    return World(dataset)


def at_masked_round(world, **changes):
    """Return a job in partitioned mode, its relay, and the first masked round with its state."""
    job = world.job(params={"regParam": 0.01}, mode=Mode.PARTITIONED, checkpoint_interval=1000, **changes)
    relay = Relay(world)
    relay.install(job)
    reply, state = relay.ask(Begin(job_id=job.job_id))
    for _ in range(2):
        reply, state = hand_over(relay, job, computed(job, [relay], reply.round, state))
    return job, relay, reply.round, bytes(state)


class Round:
    """One masked round of two shares, as its host has it."""

    def __init__(self, world, job, relay, number, state):
        self.world, self.job, self.relay, self.number, self.state = world, job, relay, number, state
        self.salts, (self.one, self.two) = self.shares()

    def shares(self):
        """Compute both shares and return their salts and payloads."""
        found = computed(self.job, [self.relay], self.number, self.state)
        assert all(isinstance(reply, Masked) for reply, _ in found)
        return [reply.salt for reply, _ in found], [payload for _, payload in found]

    @property
    def honest(self):
        """The sum."""
        return added(self.one, self.two)

    def send(self, salts, words):
        """Hand a sum to the aggregator."""
        return self.relay.ask(UpdateSum(job_id=self.job.job_id, salts=tuple(salts)), bytes(words))

    def next(self):
        """Return the round after this one, which is handed over honestly."""
        reply, state = self.send(self.salts, self.honest)
        return Round(self.world, self.job, self.relay, reply.round, bytes(state))


def added(*payloads):
    """Return the sum of masked payloads."""
    return masked_sum([(None, payload) for payload in payloads])


def changed(words, position, by):
    """Return the words with a number added to one of them."""
    array = np.frombuffer(words, dtype="<u8").copy()
    array[position : position + 1] += np.uint64(by)
    return array.tobytes()


def of_another_job(held):
    """Return the sum of the same round of another job over the same rows."""
    other = Round(held.world, *at_masked_round(held.world))
    return other.salts, other.honest


ATTACKS = {
    "bit": lambda held: (held.salts, changed(held.honest, 3, 1)),
    "multiple of the check's prime": lambda held: (held.salts, changed(held.honest, 3, 2**61 - 1)),
    "highest bit": lambda held: (held.salts, changed(held.honest, 3, 2**63)),
    "tag": lambda held: (held.salts, changed(held.honest, len(held.honest) // 8 - 2, 1)),
    "drop": lambda held: (held.salts, held.one),
    "double": lambda held: (held.salts, added(held.one, held.two, held.two)),
    "twice the same": lambda held: ([held.salts[0]] * 2, added(held.one, held.one)),
    "relabel": lambda held: (held.salts[::-1], held.honest),
    "invented salt": lambda held: ([held.salts[0], os.urandom(32)], held.honest),
    "salt of another run": lambda held: ([held.salts[0], held.shares()[0][1]], held.honest),
    "another job": of_another_job,
    "salt too few": lambda held: (held.salts[:1], held.one),
    "garbage": lambda held: (held.salts, os.urandom(len(held.honest))),
    "empty": lambda held: (held.salts, b""),
    "odd length": lambda held: (held.salts, held.honest[:-1]),
    "zeros": lambda held: (held.salts, bytes(len(held.honest))),
}


@pytest.mark.parametrize("attack", sorted(ATTACKS))
def test_a_sum_that_is_not_of_every_share_once_is_refused(world, attack):
    """Changed, missing, doubled, relabelled, foreign and invented sums never reach the state; the honest one of the same round does."""
    held = Round(world, *at_masked_round(world))
    with pytest.raises(CoverError):
        held.send(*ATTACKS[attack](held))
    assert held.send(held.salts, held.honest)[0].round == held.number + 1


def test_a_share_that_ran_twice_counts_once_whichever_run_is_taken(world):
    """A rerun share is masked anew, and either of its vectors makes the sum."""
    held = Round(world, *at_masked_round(world))
    salts, (one, _) = held.shares()
    assert one != held.one
    assert held.send([salts[0], held.salts[1]], added(one, held.two))[0].round == held.number + 1


def test_a_sum_of_an_earlier_round_is_refused(world):
    """Neither a round's sum nor one of its shares is taken in the next round, whose own sum is."""
    held = Round(world, *at_masked_round(world))
    later = held.next()
    with pytest.raises(CoverError):
        later.send(held.salts, held.honest)
    with pytest.raises(CoverError):
        later.send([held.salts[0], later.salts[1]], added(held.one, later.two))
    assert later.send(later.salts, later.honest)[0].round == later.number + 1


def test_a_measured_round_adds_nothing_that_stayed(world):
    """A host that says of a measured round that its statistics stayed is refused; the exponents that were sent are taken."""
    job, relay = world.job(params={"regParam": 0.01}, mode=Mode.PARTITIONED, checkpoint_interval=1000), Relay(world)
    relay.install(job)
    reply, state = relay.ask(Begin(job_id=job.job_id))
    measured, state = hand_over(relay, job, computed(job, [relay], reply.round, state))
    found = computed(job, [relay], measured.round, state, stays=True)
    with pytest.raises(CoverError):
        relay.ask(Update(job_id=job.job_id, lengths=(0,) * job.shares))
    assert hand_over(relay, job, found)[0].round == measured.round + 1


def test_a_round_is_handed_over_in_its_own_way_only(world):
    """A masked round takes no sealed statistics, a sealed round takes no masked sum, and each takes its own."""
    job, relay, number, state = at_masked_round(world)
    found = computed(job, [relay], number, state)
    sealed_job = world.job(params={"regParam": 0.01})
    sealed_relay = Relay(world)
    sealed_relay.install(sealed_job)
    begun, sealed_state = sealed_relay.ask(Begin(job_id=sealed_job.job_id))
    sealed = statistics(sealed_job, [sealed_relay], begun.round, bytes(sealed_state))
    with pytest.raises(CoverError):
        relay.ask(Update(job_id=job.job_id, lengths=tuple(map(len, sealed))), b"".join(sealed))
    with pytest.raises(CoverError):
        sealed_relay.ask(UpdateSum(job_id=sealed_job.job_id, salts=tuple(reply.salt for reply, _ in found)), masked_sum(found))
    assert hand_over(relay, job, found)[0].round == number + 1
    assert sealed_relay.ask(Update(job_id=sealed_job.job_id, lengths=tuple(map(len, sealed))), b"".join(sealed))[0].round == 1


# What the host holds --------------------------------------------------------------------------------------------------------------


def looks_random(words, bits=64):
    """Return whether a distinguisher takes words for uniform ones: byte frequencies, and how often each bit is set, at 1 in a billion."""
    octets = words.astype("<u8").view(np.uint8).reshape(-1, 8)[:, : bits // 8]
    counts = np.apply_along_axis(np.bincount, 0, octets, minlength=256)
    expected = len(octets) / 256
    if (chi2.sf(((counts - expected) ** 2 / expected).sum(axis=0), 255) < 1e-9).any():
        return False
    often = ((words[:, None] >> np.arange(bits, dtype=np.uint64)) & np.uint64(1)).mean(axis=0)
    return bool((2 * norm.sf(np.abs(often - 0.5) * 2 * np.sqrt(len(words))) > 1e-9).all())


def views(relay, job, number, state):
    """Return what the host holds of one round's shares, and what it would hold if nothing were masked."""
    session = relay.enclave.session(job.job_id)
    opened = open_state(session, state, number, None)
    key = session.job_key.derive("securemllib/masked-sum/v1", job.job_id, opened.digest, job.shares)
    held = [(reply.salt, np.frombuffer(payload, dtype="<u8")) for reply, payload in computed(job, [relay], number, state)]
    bare = [unmask(key, [(statistics_context(session, opened, share), salt)], words.copy()) for share, (salt, words) in enumerate(held)]
    return [words for _, words in held], [words.view(np.uint64) for words in bare]


def test_what_the_host_holds_looks_random_to_a_distinguisher_that_breaks_unmasked_sums(world):
    """Over many rounds and reruns, masked words and tags pass frequency tests of bytes and bits that the same words unmasked fail."""
    masked, bare = [], []
    while len(masked) < 600:
        job, relay, number, state = at_masked_round(world)
        for _ in range(4):
            for _ in range(20):
                held, integers = views(relay, job, number, state)
                masked, bare = masked + held, bare + integers
            reply, state = hand_over(relay, job, computed(job, [relay], number, state))
            number, state = reply.round, bytes(state)
    words, tags = np.concatenate([held[:-TAG_WORDS] for held in masked]), np.concatenate([held[-TAG_WORDS:-1] for held in masked])
    assert len(words) > 5000
    assert looks_random(words)
    assert looks_random(tags, bits=24)
    assert not looks_random(np.concatenate(bare))


def test_the_host_cannot_tell_two_datasets_apart(dataset):
    """Whoever reads the sign of the first gradient tells a table from the one with all labels flipped; masked, he guesses."""
    table = dataset.table
    flipped = Dataset(table.set_column(table.schema.get_field_index("y"), "y", pa.array(1.0 - table["y"].to_numpy())), parts=4)
    right = {"masked": 0, "bare": 0}
    for answer, rows in enumerate((dataset, flipped)):
        job, relay, number, state = at_masked_round(World(rows))
        for _ in range(32):
            held, integers = views(relay, job, number, state)
            for name, words in (("masked", held[0][:-TAG_WORDS]), ("bare", integers[0])):
                leaf = words[len(words) // 2 + 3]  # the high limb of the third column's gradient
                right[name] += int(leaf >> np.uint64(63)) != answer
    assert right["bare"] == 64
    assert 12 < right["masked"] < 52, "beyond five standard deviations of guessing"
