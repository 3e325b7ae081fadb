"""Is a sealed model that is too large for one message the same model, wherever it is used?"""

import numpy as np
import pyarrow as pa
import pytest

from securemllib.crypto import models
from securemllib.crypto.models import open_root, whole_tree
from securemllib.errors import IntegrityError
from securemllib.wire.encoding import encode
from securemllib.wire.job import ROWS_OPERATION, Output, OutputKind
from securemllib.wire.plan import ApplyModel, Plan
from securemllib.wire.result import SealedModel, piece_name
from securemllib.wire.task import Materialise
from tests.world import Dataset, Relay, World, binomial_table, run

PARAMS = {"operation": "RandomForestClassifier", "params": {"numTrees": 3, "maxDepth": 4}}


@pytest.fixture(scope="module")
def world():
    """Return a broker and an analyst around a table of four parts."""
    return World(Dataset(binomial_table(), parts=4))


@pytest.fixture
def small_pieces(monkeypatch):
    """Let a model of some kilobytes be large."""
    monkeypatch.setattr(models, "_ROOT_BYTES", 1000)
    monkeypatch.setattr(models, "PIECE_BYTES", 700)


def trained(world):
    """Return a sealed model and what makes its tree."""
    job = world.job(**PARAMS)
    finished, _ = run(world, job, [Relay(world)])
    sealed, key = SealedModel.from_bytes(finished.model), world.keys[job.job_id][1]
    return sealed, whole_tree(sealed, key, open_root(sealed, key), lambda index: world.blocks[job.job_id, piece_name(index)])


def predicted(world, sealed, relay):
    """Return the predictions of the first part's rows."""
    assemble = world.job().plan.steps
    step = ApplyModel(model=sealed.reference, input_columns=("features",), outputs={"prediction": "p"}, params={})
    job = world.job(
        operation=ROWS_OPERATION,
        inputs={},
        plan=Plan(source=world.dataset.manifest.reference, steps=(*assemble, step)),
        outputs=(Output(kind=OutputKind.ROWS, recipient=world.analyst.public, columns=("p",)),),
    )
    relay.install(job, models=[sealed.to_bytes()])
    _, rows = relay.ask(Materialise(job_id=job.job_id, ordinal=0, output=0))
    return pa.ipc.open_stream(world.open(rows).content).read_all()["p"].to_numpy()


def test_a_model_in_pieces_is_the_model(world, small_pieces, monkeypatch):
    """A forest that is split into pieces has the bytes of the forest in one message, predicts as it does, and is small itself."""
    split, tree = trained(world)
    monkeypatch.undo()
    whole, expected = trained(world)
    assert (whole.pieces, split.pieces) == (0, -(-len(encode(expected)) // 700))
    assert split.pieces > 3
    assert len(split.to_bytes()) < len(whole.to_bytes()) / 2
    assert encode(tree) == encode(expected)
    np.testing.assert_array_equal(predicted(world, split, Relay(world)), predicted(world, whole, Relay(world)))


@pytest.mark.parametrize("attack", ["drop", "swap", "other_model"])
def test_pieces_that_are_not_the_models_give_no_session(world, small_pieces, attack):
    """A job whose model's piece is dropped, exchanged or another model's gets no session; with the honest pieces it does."""
    sealed, _ = trained(world)
    other, _ = trained(world)

    class Tampering(Relay):
        honest = False

        def block(self, job_id, name):
            if self.honest or name != "model-1":
                return super().block(job_id, name)
            return {
                "drop": b"",
                "swap": self.world.blocks[job_id, "model-2"],
                "other_model": self.world.blocks[other.model_id, name],
            }[attack]

    relay = Tampering(world)
    with pytest.raises(IntegrityError) as refused:
        predicted(world, sealed, relay)
    assert refused.value.error_code == "integrity.model"
    relay.honest = True
    assert len(predicted(world, sealed, relay)) == 100
