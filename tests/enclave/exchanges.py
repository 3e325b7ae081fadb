"""A factorisation of two shards or more, whose blocks a test's host carries."""

import numpy as np
import pyarrow as pa

from securemllib.algorithms.als_model import ALSFactors, ALSModel
from securemllib.algorithms.codec import from_tree
from securemllib.crypto.models import open_piece, open_root
from securemllib.wire.encoding import decode
from securemllib.wire.plan import Plan
from securemllib.wire.result import SealedModel, piece_name
from tests.world import Dataset, World


def ratings(rows=300, users=40, items=25):
    """Return ratings of users by items."""
    generator = np.random.default_rng(9)
    return pa.table({"u": generator.integers(0, users, rows), "i": generator.integers(0, items, rows), "r": generator.normal(size=rows)})


def rated(**changes):
    """Return a world around ratings in six parts."""
    return World(Dataset(ratings(**changes), parts=6))


def factorisation(world, **changes):
    """Return a job of ALS."""
    plan, roles = Plan(source=world.dataset.manifest.reference, steps=()), {"user": "u", "item": "i", "rating": "r"}
    params = {"rank": 2, "maxIter": 3, **changes.pop("params", {})}
    return world.job(
        **{"operation": "ALS", "params": params, "inputs": roles, "plan": plan, "shares": 3, "checkpoint_interval": 1, **changes}
    )


def opened(world, job, finished):
    """Return a job's model, and the plaintext of each of its pieces."""
    sealed, key = SealedModel.from_bytes(finished.model), world.keys[job.job_id][1]
    root = open_root(sealed, key)
    blocks = [world.blocks[job.job_id, piece_name(index)] for index in range(sealed.pieces)]
    return root.tree, [open_piece(sealed, key, root, index, block) for index, block in enumerate(blocks)]


def factors(world, job, finished):
    """Return the factors of all shards together."""
    tree, pieces = opened(world, job, finished)
    return from_tree(ALSModel, tree).whole([from_tree(ALSFactors, decode(piece)) for piece in pieces])
