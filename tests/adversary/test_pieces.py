"""Can a host make an enclave take another piece of a large message than the one that belongs there?

Each attack stands beside the accepted twin: the same conversation with the honest pieces, which must succeed.
"""

import numpy as np
import pytest

from securemllib.algorithms import codec
from securemllib.algorithms.codec import Packed
from securemllib.crypto.aead import OVERHEAD
from securemllib.crypto.keys import DataKey
from securemllib.crypto.models import open_root, whole_tree
from securemllib.enclave import addition, messages, worker
from securemllib.enclave.messages import Kept, open_message, seal_message
from securemllib.errors import CoverError, UnsealError
from securemllib.wire.encoding import encode
from securemllib.wire.job import Mode
from securemllib.wire.result import SealedModel
from securemllib.wire.task import Begin, Compute, Update
from tests.world import Dataset, Relay, World, binomial_table, computed, hand_over, run, statistics

# Of a few numbers: a gradient of eight features is three of them.
PIECE = 64
FEATURES = tuple(f"x{index}" for index in range(8))


@pytest.fixture(scope="module")
def dataset():
    """Share one encrypted table: nobody writes to it."""
    return Dataset(binomial_table(columns=8), parts=4)


@pytest.fixture
def world(dataset):
    """Return a fresh broker and analyst around the table."""
    return World(dataset)


@pytest.fixture
def small_pieces(monkeypatch):
    """Let arrays of 8 bytes be large, and pieces have 64."""
    monkeypatch.setattr(codec, "_PACKED_BYTES", 8)
    for module in (messages, addition):
        monkeypatch.setattr(module, "PIECE_BYTES", PIECE)


@pytest.fixture
def kept(small_pieces, monkeypatch):
    """Let no message with a piece fit into a frame."""
    for module in (messages, addition, worker):
        monkeypatch.setattr(module, "MESSAGE_BYTES", 0)


class Changing(Relay):
    """A host that may hand over another block, or add others, than was asked for."""

    change = None

    def block(self, job_id, name):
        """Return a block."""
        name = name if self.change is None else self.change(name)
        return b"" if name is None else super().block(job_id, name)


def job_of(world, **changes):
    """Return a job over the eight features."""
    return world.job(features=FEATURES, **changes)


def model_of(world, job, finished):
    """Return a finished job's model as bytes."""
    sealed, key = SealedModel.from_bytes(finished.model), world.keys[job.job_id][1]
    return encode(whole_tree(sealed, key, open_root(sealed, key), lambda _: b""))


def after_a_round(world, relay, **changes):
    """Return a job, and the round and state after its first."""
    job = job_of(world, **changes)
    relay.install(job)
    reply, state = relay.ask(Begin(job_id=job.job_id))
    reply, state = hand_over(relay, job, computed(job, [relay], reply.round, state))
    return job, reply.round, bytes(state)


def update(relay, job, sealed, **where):
    """Hand sealed statistics to the aggregator."""
    return relay.ask(Update(job_id=job.job_id, lengths=tuple(map(len, sealed)), **where), b"".join(sealed))


# The message itself ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(), (1,), (64, 64), (63, 65, 1), (500,), (8, 8, 8, 300, 8)])
@pytest.mark.parametrize("limit", [0, 2**20])
def test_arrays_come_back_as_they_were(small_pieces, monkeypatch, sizes, limit):
    """Arrays of any sizes, whole or in pieces, beside the root or kept by the host, are opened as what was sealed."""
    monkeypatch.setattr(messages, "MESSAGE_BYTES", limit)
    key, held = DataKey.generate(), {}

    class Host:
        def keep(self, job_id, name, block):
            held[job_id, name] = bytes(block)

        def block(self, job_id, name, size):
            assert len(held[job_id, name]) == size <= PIECE + OVERHEAD
            return memoryview(held[job_id, name])

    arrays = tuple(np.random.default_rng(size).bytes(size) for size in sizes)
    where = Kept(host=Host(), job_id="job", channel="test", round=3)
    sealed = seal_message(key, b"here", Packed({"n": 1}, tuple(map(memoryview, arrays))), where)
    assert bool(held) == (limit == 0 and bool(sizes))
    opened = open_message(key, b"here", sealed, where)
    assert (opened.tree, tuple(map(bytes, opened.arrays))) == ({"n": 1}, arrays)
    with pytest.raises(UnsealError):
        open_message(key, b"there", sealed, where)


@pytest.mark.parametrize("attack", ["swap", "drop", "add", "flip", "root", "cut"])
def test_pieces_beside_their_root_are_those_of_the_message(small_pieces, attack):
    """Pieces of a message in one frame are opened in their order, all of them, unchanged and behind their own root only."""
    key, where = DataKey.generate(), Kept(host=None, job_id="job", channel="test", round=3)
    packed = Packed(None, (memoryview(bytes(3 * PIECE)),))
    one, two = (bytes(seal_message(key, b"here", packed, where)) for _ in range(2))
    start, step = len(one) - 3 * (PIECE + OVERHEAD), PIECE + OVERHEAD
    pieces = [one[at : at + step] for at in range(start, len(one), step)]
    changed = {
        "swap": one[:start] + pieces[1] + pieces[0] + pieces[2],
        "drop": one[:-step],
        "add": one + pieces[2],
        "flip": one[:-1] + bytes([one[-1] ^ 1]),
        "root": one[:start] + two[start:],
        "cut": one[:3],
    }[attack]
    assert open_message(key, b"here", one, where).arrays[0] == bytes(3 * PIECE)
    with pytest.raises(UnsealError):
        open_message(key, b"here", changed, where)


# A whole job ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", list(Mode))
def test_a_job_in_pieces_has_the_model_of_one_in_messages(world, mode, request):
    """States, statistics and checkpoints in pieces, in frames or kept by the host, give the very model that whole messages give."""
    models = []
    for fixture in (None, "small_pieces", "kept"):
        if fixture:
            request.getfixturevalue(fixture)
        world.blocks.clear()
        job = job_of(world, mode=mode)
        finished, _ = run(world, job, [Relay(world), Relay(world)])
        models.append(model_of(world, job, finished))
        stages = {name.split("-")[0] for _, name in world.blocks}
        masked = {"masked"} if mode is Mode.PARTITIONED else set()
        assert stages == ({"state", "checkpoint", "statistics"} | masked if fixture == "kept" else set())
    assert models[0] == models[1] == models[2]


def test_a_job_resumes_from_a_checkpoint_in_pieces(world, kept):
    """A job that stopped goes on from a checkpoint whose pieces the host kept, to the model of the whole training."""
    job = job_of(world)
    whole, _ = run(world, job_of(world), [Relay(world)])
    _, checkpoints = run(world, job, [Relay(world)], stop_after=4)
    finished, _ = run(world, job, [Relay(world)], begin=checkpoints[max(checkpoints)])
    assert finished.round == whole.round


def others(world, name, *, share=None, round_number=None, index=None):
    """Return the name of another kept block that differs in what is given."""
    channel, number, of, _, piece = name.split("-")
    wanted = [str(number if round_number is None else round_number), str(of if share is None else share)]
    fits = [
        each
        for _, each in world.blocks
        if each != name and (found := each.split("-"))[0] == channel and found[1:3] == wanted and found[4] == (index or piece)
    ]
    return fits[0]


@pytest.mark.parametrize("attack", ["drop", "duplicate", "share", "round", "again", "cut"])
def test_a_kept_piece_of_statistics_is_the_shares_own(world, kept, attack):
    """A piece that is missing, repeated, another share's, an earlier round's, cut, or of the same share computed once more is refused."""
    relay = Changing(world)
    job, number, state = after_a_round(world, relay)
    before = statistics(job, [relay], number, state)
    if attack == "round":
        reply, state = update(relay, job, before)
        number, state = reply.round, bytes(state)
    sealed = statistics(job, [relay], number, state)
    name = next(name for _, name in reversed(world.blocks) if name.startswith(f"statistics-{number}-1-"))
    wrong = {
        "drop": lambda: None,
        "duplicate": lambda: others(world, name, index="1" if name.endswith("-0") else "0"),
        "share": lambda: others(world, name, share=0),
        "round": lambda: others(world, name, round_number=number - 1),
        "again": lambda: others(world, name),
        "cut": lambda: name,
    }[attack]()
    if attack == "cut":
        world.blocks[job.job_id, name], honest = world.blocks[job.job_id, name][:-1], world.blocks[job.job_id, name]
    relay.change = lambda asked: wrong if asked == name else asked
    with pytest.raises(CoverError):
        update(relay, job, sealed)
    relay.change = None
    if attack == "cut":
        world.blocks[job.job_id, name] = honest
    assert update(relay, job, sealed)[0].round == number + 1


def test_a_kept_piece_of_a_state_is_that_states(world, kept):
    """A worker refuses a state with a piece of another round's; with its own it computes."""
    relay = Changing(world)
    job, number, state = after_a_round(world, relay)
    reply, later = update(relay, job, statistics(job, [relay], number, state))
    relay.change = lambda asked: others(world, asked, round_number=number) if asked.startswith("state") else asked
    with pytest.raises(UnsealError):
        relay.ask(Compute(job_id=job.job_id, round=reply.round, share=0), bytes(later))
    relay.change = None
    assert relay.ask(Compute(job_id=job.job_id, round=reply.round, share=0), bytes(later))


@pytest.mark.parametrize("attack", ["drop", "duplicate", "swap"])
def test_sums_of_kept_pieces_are_of_every_share_once(world, kept, attack):
    """A piece's sum that lacks or repeats a share, or stands in another piece's place, is refused; the honest sums are taken."""
    relay = Changing(world)
    job, number, state = after_a_round(world, relay, mode=Mode.PARTITIONED)
    reply, state = hand_over(relay, job, computed(job, [relay], number, state))
    found = computed(job, [relay], reply.round, bytes(state))
    assert [len(payload) for _, payload in found] == [0, 0]
    first, second = (name for _, name in list(world.blocks) if name.startswith(f"masked-{reply.round}-") and name.endswith("-0"))
    if attack == "drop":
        world.blocks[job.job_id, "nothing"] = bytes(len(world.blocks[job.job_id, first]))
    wrong = {"drop": "nothing", "duplicate": second, "swap": first[:-1] + "1"}[attack]
    relay.change = lambda asked: wrong if asked == first else asked
    with pytest.raises(CoverError):
        hand_over(relay, job, found)
    relay.change = None
    assert hand_over(relay, job, found)[0].round == reply.round + 1


# Statistics that take several requests --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", ["skip", "repeat", "order", "early", "beyond"])
def test_statistics_in_several_requests_are_of_every_share_once(world, attack):
    """Requests that leave a share out, repeat one, are out of order, end early or name too many are refused; in order they are taken."""
    relay = Relay(world)
    job, number, state = after_a_round(world, relay, shares=3)
    one, two, three = statistics(job, [relay], number, state)
    requests = {
        "skip": [([one], 0, True), ([three], 2, False)],
        "repeat": [([one], 0, True), ([one, two], 1, True)],
        "order": [([two], 1, True)],
        "early": [([one, two], 0, False)],
        "beyond": [([one, two, three], 0, True), ([three], 3, False)],
    }[attack]
    *before, (sealed, first, more) = requests
    for some, start, follow in before:
        update(relay, job, some, first=start, more=follow)
    with pytest.raises(CoverError):
        update(relay, job, sealed, first=first, more=more)
    for sealed, first in (([one], 0), ([two], 1)):
        update(relay, job, sealed, first=first, more=True)
    assert update(relay, job, [three], first=2)[0].round == number + 1
