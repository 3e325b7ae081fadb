"""The worker: rows of a share to sealed statistics."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block
from securemllib.algorithms.codec import from_tree, to_tree
from securemllib.algorithms.registry import types_of
from securemllib.crypto.aead import seal
from securemllib.enclave.cache import BlockCache, CachedBlock
from securemllib.enclave.parts import open_part
from securemllib.enclave.plan import execute, read_table
from securemllib.enclave.rounds import SealedState, open_state, statistics_context
from securemllib.enclave.session import Session
from securemllib.enclave.vectors import Rows, numbers
from securemllib.errors import DataError
from securemllib.wire.dataset import Part
from securemllib.wire.encoding import encode

__all__ = ["Fetch", "compute", "part_rows"]

# Returns the encrypted bytes of a part, by asking the relay.
Fetch = Callable[[Part], memoryview]


def compute(session: Session, state: memoryview, *, round_number: int, share: int, cache: BlockCache, fetch: Fetch) -> bytes:
    """Return the sealed statistics of one share.

    The blocks are added in the order of their parts, so that the same share gives the same bytes wherever and however often it runs.
    """
    opened = open_state(session, state, round_number)
    of_block = _statistics(session, opened)
    total: Any = None
    for part in session.share(share):
        statistics = of_block(_block(session, part, cache, fetch))
        total = statistics if total is None else total + statistics
    context = statistics_context(session, opened, share)
    return seal(session.job_key, context, encode(None if total is None else to_tree(total)))


def _statistics(session: Session, opened: SealedState) -> Callable[[CachedBlock], Any]:
    """Return what makes statistics of a block in this round: the first round's are the block's summary."""
    if opened.state is None:
        return lambda cached: cached.summary
    state = from_tree(types_of(type(session.algorithm))[0], opened.state)
    return lambda cached: session.algorithm.statistics(state, cached.block)


def _block(session: Session, part: Part, cache: BlockCache, fetch: Fetch) -> CachedBlock:
    cached = cache.get(session.cache_key, part.ordinal)
    if cached is None:
        block = _make_block(session, part_rows(session, part, fetch), part.ordinal)
        cached = cache.put(session.cache_key, part.ordinal, block)
    return cached


def part_rows(session: Session, part: Part, fetch: Fetch) -> Rows:
    """Return the rows of a part after the job's plan."""
    table = open_part(
        fetch(part), secret=session.secret, dataset=session.plan.source, part=part, body=session.body, columns=list(session.columns)
    )
    plan = session.plan.pruned(session.job.result_columns)
    return execute(plan, read_table(table), ordinal=part.ordinal, seed=session.split_seed, models=session.models)


def _make_block(session: Session, rows: Rows, ordinal: int) -> Block:
    inputs = session.job.inputs
    if "features" in inputs:
        features, offset = rows.vector(inputs["features"]).centred(session.job.dtype)
    else:
        features, offset = np.zeros((rows.count, 0), dtype=session.job.dtype), np.zeros(0)
    return Block(
        ordinal=ordinal,
        features=features,
        offset=offset,
        label=_numbers(rows, inputs.get("label")),
        weight=_numbers(rows, inputs.get("weight")),
        prediction=_numbers(rows, inputs.get("prediction")),
    )


def _numbers(rows: Rows, column: str | None) -> NDArray[np.float64] | None:
    if column is None:
        return None
    values = numbers(rows.scalar(column), column)
    if np.isnan(values).any():
        raise DataError(f"The column {column!r} has nulls or NaN.", code="data.null")
    return values
