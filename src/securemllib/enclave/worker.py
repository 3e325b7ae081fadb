"""The worker: rows of a share to sealed or masked statistics."""

import re
from collections.abc import Callable
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from securemllib.algorithms.base import Block
from securemllib.algorithms.codec import from_tree, to_tree
from securemllib.algorithms.registry import types_of
from securemllib.algorithms.vectors import SparseVector, numbers, to_stored
from securemllib.crypto.aead import seal
from securemllib.enclave.addition import MASKED, MEASURED, masked_share, measured_tree
from securemllib.enclave.cache import BlockCache, CachedBlock
from securemllib.enclave.exchange import SealedShard
from securemllib.enclave.host import Host
from securemllib.enclave.models import usable
from securemllib.enclave.parts import open_part
from securemllib.enclave.plan import execute, read_table
from securemllib.enclave.rounds import SealedState, open_state, statistics_context
from securemllib.enclave.rows import Rows
from securemllib.enclave.session import Session
from securemllib.errors import DataError
from securemllib.wire.dataset import Part
from securemllib.wire.encoding import encode
from securemllib.wire.task import Computed, Masked

__all__ = ["Kept", "compute", "no_rows", "part_rows"]

# The roles that every algorithm knows; others go to a block's `extras`, or to its `raw` where they are numbered inputs.
_BLOCK_ROLES = frozenset({"features", "label", "weight", "prediction"})
_RAW_ROLE = re.compile(r"input\d+")


class Kept:
    """Statistics of a job that were measured and are not masked yet, by share."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[Any, Any]] = {}
        self._lock = Lock()

    def put(self, share: int, state: Any, statistics: Any) -> None:
        """Keep a share's statistics of a state, in place of those of any other state."""
        with self._lock:
            self._found[share] = (state, statistics)

    def take(self, share: int, state: Any) -> Any:
        """Return and forget a share's statistics; None where they are not of that state."""
        with self._lock:
            kept, statistics = self._found.pop(share, (None, None))
        return statistics if kept == state else None


def compute(
    session: Session, state: memoryview, *, round_number: int, share: int, cache: BlockCache, kept: Kept, host: Host
) -> tuple[Computed | Masked, bytes | memoryview]:
    """Return the sealed or masked statistics of one share, as the state says.

    The blocks are added in the order of their parts, so that the same share gives the same statistics wherever and however often it runs.
    """
    opened = open_state(session, state, round_number)
    addition, context = opened.addition, statistics_context(session, opened, share)
    total = kept.take(share, opened.state) if addition.kind == MASKED else None
    if total is None:
        total = _total(session, opened, share, cache, host)
    if addition.kind == MASKED:
        salt, masked = masked_share(session, opened.digest, context, addition.exponents, total)
        return Masked(salt=salt), masked
    if addition.kind == MEASURED:
        kept.put(share, opened.state, total)
        tree = measured_tree(total)
    else:
        tree = None if total is None else to_tree(total)
    return Computed(), seal(session.job_key, context, encode(tree))


def _total(session: Session, opened: SealedState, share: int, cache: BlockCache, host: Host) -> Any:
    """Return the sum over the share's blocks; None of a share without parts, in a round that is sealed."""
    if opened.state is not None and hasattr(session.algorithm, "exchange"):
        state = from_tree(types_of(type(session.algorithm))[0], opened.state)
        blocks = (_block(session, part, cache, host).block for part in session.share(share))
        scratch, stage = cache.scratch(session.job_id, b"", -1 - share), session.algorithm.stage(state)
        shard = SealedShard(session=session, opened=opened, stage=stage, index=share, rows=blocks, scratch=scratch, host=host)
        return session.algorithm.exchange(state, shard)
    of_block = _statistics(session, opened, cache)
    total: Any = None
    for part in session.share(share):
        statistics = of_block(_block(session, part, cache, host))
        if total is None:
            total = statistics
        else:
            total += statistics
    if total is None and opened.addition.kind in {MEASURED, MASKED}:
        return no_rows(session, from_tree(types_of(type(session.algorithm))[0], opened.state), opened.addition.columns)
    return total


def _statistics(session: Session, opened: SealedState, cache: BlockCache) -> Callable[[CachedBlock], Any]:
    """Return what makes statistics of a block in this round: the first round's are the block's summary."""
    if opened.state is None:
        return lambda cached: cached.summary
    state = from_tree(types_of(type(session.algorithm))[0], opened.state)

    def statistics(cached: CachedBlock) -> Any:
        scratch = cache.scratch(session.job_id, session.cache_key, cached.block.ordinal)
        return session.algorithm.statistics(state, replace(cached.block, scratch=scratch))

    return statistics


def _block(session: Session, part: Part, cache: BlockCache, host: Host) -> CachedBlock:
    cached = cache.get(session.cache_key, part.ordinal)
    if cached is None:
        block = _make_block(session, part_rows(session, part, cache, host), part.ordinal, cache)
        cached = cache.put(session.cache_key, part.ordinal, block)
    return cached


def part_rows(session: Session, part: Part, cache: BlockCache, host: Host) -> Rows:
    """Return the rows of a part after the job's plan."""
    table = open_part(
        host.part(part), secret=session.secret, dataset=session.plan.source, part=part, body=session.body, columns=list(session.columns)
    )
    plan, scratch = session.plan.pruned(session.job.result_columns), cache.scratch(session.job_id, b"", -1)
    models = {reference: usable(opened, scratch, host) for reference, opened in session.models.items()}
    return execute(plan, read_table(table), ordinal=part.ordinal, seed=session.split_seed, models=models)


def _make_block(session: Session, rows: Rows, ordinal: int, cache: BlockCache) -> Block:
    inputs, dtype = session.job.inputs, session.job.dtype
    features, offset, sparse = np.zeros((rows.count, 0), dtype=dtype), np.zeros(0), None
    if "features" in inputs:
        vector = rows.vector(inputs["features"])
        if isinstance(vector, SparseVector) and getattr(session.algorithm, "SPARSE", False):
            sparse, offset = csr_array(vector.values.astype(dtype)), np.zeros(vector.width)
        else:
            cache.require(vector.rows * vector.width * np.dtype(dtype).itemsize)
            features, offset = vector.centred(dtype)
    others = {role: column for role, column in inputs.items() if role not in _BLOCK_ROLES}
    raw = {role: column for role, column in others.items() if _RAW_ROLE.fullmatch(role)}
    return Block(
        ordinal=ordinal,
        features=features,
        offset=offset,
        label=_numbers(rows, inputs.get("label")),
        weight=_numbers(rows, inputs.get("weight")),
        prediction=_numbers(rows, inputs.get("prediction")),
        sparse=sparse,
        arity=rows.arity(inputs["features"]) if "features" in inputs else _raw_arity(rows, others),
        extras={role: _required(rows, column) for role, column in others.items() if role not in raw},
        raw={role: to_stored(rows.vectors[name]) if name in rows.vectors else rows.scalar(name) for role, name in raw.items()},
    )


def no_rows(session: Session, state: Any, columns: int) -> Any:
    """Return the statistics of a block of so many features and no rows: zeros in the shapes of the round."""
    inputs, none = session.job.inputs, np.zeros(0)
    block = Block(
        ordinal=0,
        features=np.zeros((0, columns), dtype=session.job.dtype),
        offset=np.zeros(columns),
        label=none if "label" in inputs else None,
        weight=none if "weight" in inputs else None,
        prediction=none if "prediction" in inputs else None,
        extras={role: none for role in inputs if role not in _BLOCK_ROLES and not _RAW_ROLE.fullmatch(role)},
    )
    return session.algorithm.statistics(state, block)


def _raw_arity(rows: Rows, columns: dict[str, str]) -> NDArray[np.int64] | None:
    """Return the categories of the raw scalar columns ``input0``, ``input1``..., or None where none is nominal."""
    names = [columns[f"input{index}"] for index in range(len(columns)) if f"input{index}" in columns]
    found = [rows.arity(name) for name in names if name in rows.scalars]
    if len(found) != len(names) or all(arity is None for arity in found):
        return None
    return np.array([0 if arity is None else arity[0] for arity in found], dtype=np.int64)


def _required(rows: Rows, column: str) -> NDArray[np.float64]:
    values = numbers(rows.scalar(column), column)
    if np.isnan(values).any():
        raise DataError(f"The column {column!r} has nulls or NaN.", code="data.null")
    return values


def _numbers(rows: Rows, column: str | None) -> NDArray[np.float64] | None:
    return None if column is None else _required(rows, column)
