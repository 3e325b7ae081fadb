"""The worker: rows of a share to sealed or masked statistics."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array

from securemllib.algorithms.base import Block, idle_bounded
from securemllib.algorithms.codec import pack
from securemllib.algorithms.fixed_point import Exponents
from securemllib.algorithms.vectors import AnyVector, SparseVector, Vector, numbers
from securemllib.enclave.addition import MASKED, MEASURED, keep_masked, masked_share
from securemllib.enclave.cache import BlockCache, CachedBlock
from securemllib.enclave.exchange import SealedShard
from securemllib.enclave.host import Host
from securemllib.enclave.pages import own_pages
from securemllib.enclave.reading import Reading
from securemllib.enclave.rounds import open_state, seal_statistics, statistics_context
from securemllib.enclave.rows import Rows
from securemllib.enclave.session import Session
from securemllib.errors import DataError, FormatError
from securemllib.wire.task import MESSAGE_BYTES, Computed, Masked

__all__ = ["Asked", "Reply", "compute", "no_rows"]

Reply = tuple[Computed | Masked, bytes | memoryview]

# The roles that every algorithm knows; others go to a block's `extras`, or to its `raw` where they are numbered inputs.
_BLOCK_ROLES = frozenset({"features", "label", "weight", "prediction"})
# Squares of these, and in between the numbers that most of a column's differences are, are normal numbers of float32.
_LEAST, _LARGEST = 2.0**-50, 2.0**60
_RAW_ROLE = re.compile(r"input\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One round of one job: the sealed state that a relay sent, and whether the statistics stay here, where the job is aggregated."""

    session: Session
    round: int
    state: memoryview
    stays: bool


def compute(asked: Sequence[Asked], *, share: int, cache: BlockCache, host: Host) -> list[Reply]:
    """Return the sealed or masked statistics of one share in a round of each job, as its state says.

    Each part is opened once for all jobs. A job's blocks are added in the order of their parts, so that the same share gives the same
    statistics wherever and however often it runs, and whatever other jobs run beside it.

    Raises:
        FormatError: The jobs do not read the same share of the same dataset.
    """
    sessions = [one.session for one in asked]
    first = sessions[0].plan.source, sessions[0].share(share)
    if any((session.plan.source, session.share(share)) != first for session in sessions):
        raise FormatError("Jobs that are computed together read the same parts of one dataset.")
    rounds = [_Round(one, share, host) for one in asked]
    if any(each.exchanges for each in rounds):
        if len(rounds) > 1:
            raise FormatError("Jobs whose shards send each other blocks are computed alone.")
        rounds[0].exchange(cache, host)
    waiting = [each for each in rounds if each.total is None and not each.exchanges]
    again = len({each.session.cache_key for each in waiting}) > 1
    for part in sessions[0].share(share) if waiting else ():
        reading = Reading(part, cache, host, again=again)
        for each in waiting:
            each.add(_block(each.session, reading, cache), cache)
    return [each.reply(host) for each in rounds]


class _Round:
    """A round of one job over one share.

    Attributes:
        session: The job.
        total: The sum so far; None before the first block.
    """

    def __init__(self, asked: Asked, share: int, host: Host) -> None:
        self.session = asked.session
        self._stays, self._share = asked.stays, share
        self._opened = open_state(asked.session, asked.state, asked.round, host)
        self._state = self._opened.value(asked.session.algorithm)
        self._addition = self._opened.addition
        self.total = self.session.held.take(share, self._addition.measured) if self._addition.kind == MASKED else None

    @property
    def exchanges(self) -> bool:
        """Whether the shares send each other blocks in this round, instead of adding statistics."""
        return self._state is not None and hasattr(self.session.algorithm, "exchange")

    def exchange(self, cache: BlockCache, host: Host) -> None:
        """Let the share receive and send its blocks; the total is what it tells the aggregator."""
        session, share, state = self.session, self._share, self._state
        blocks = (_block(session, Reading(part, cache, host), cache).block for part in session.share(share))
        scratch, stage = cache.scratch(session.job_id, b"", -1 - share), session.algorithm.stage(state)
        shard = SealedShard(session=session, opened=self._opened, stage=stage, index=share, rows=blocks, scratch=scratch, host=host)
        self.total = session.algorithm.exchange(state, shard)

    def add(self, cached: CachedBlock, cache: BlockCache) -> None:
        """Add a block's statistics; the first round's are its summary."""
        session, state, total = self.session, self._state, self.total
        if state is None:
            self.total = cached.summary if total is None else total + cached.summary
            return
        if "features" in session.job.inputs and not (cached.block.rows or cached.block.columns):
            return  # of a part whose vectors are all null and left out, none tells how wide it is
        block = replace(cached.block, scratch=cache.scratch(session.job_id, session.cache_key, cached.block.ordinal))
        if total is not None and hasattr(session.algorithm, "accumulate"):
            session.algorithm.accumulate(total, state, block)
            return
        found = session.algorithm.statistics(state, block)
        self.total = found if total is None else total + found

    def reply(self, host: Host) -> Reply:
        """Return what leaves; of a share without parts nothing is sealed, and zeros are measured and masked."""
        session, addition, total = self.session, self._addition, self.total
        context = statistics_context(session, self._opened, self._share)
        if addition.kind in {MEASURED, MASKED} and (total is None or hasattr(session.algorithm, "nothing")):
            # Parts whose rows were all filtered out may not tell the shapes of the round.
            nothing = no_rows(session, self._state, addition.columns)
            total = nothing if total is None else nothing + total
        if addition.exponents is not None:
            salt, masked = masked_share(session, self._opened.digest, context, addition.exponents, total)
            if len(masked) > MESSAGE_BYTES:
                keep_masked(session, self._opened.round, self._share, salt, masked, host)
                masked = masked[:0]
            return Masked(salt=salt), masked
        if addition.kind == MEASURED:
            session.held.put(self._share, self._opened.digest, total)
            total = Exponents.of(total)
        elif self._stays and total is not None and sum(map(len, (packed := pack(total)).arrays)) <= MESSAGE_BYTES:
            # Larger ones wait outside, in pieces: a task may have many shares.
            session.held.put(self._share, self._opened.digest, packed)
            return Computed(), b""
        return Computed(), seal_statistics(session, self._opened, self._share, total, host)


def _block(session: Session, reading: Reading, cache: BlockCache) -> CachedBlock:
    cached = reading.blocks.get(session.cache_key) or cache.get(session.cache_key, reading.part.ordinal)
    if cached is None:
        block = _make_block(session, reading.rows(session), reading.part.ordinal, cache)
        cached = cache.put(session.cache_key, reading.part.ordinal, block)
    reading.blocks[session.cache_key] = cached
    return cached


def _make_block(session: Session, rows: Rows, ordinal: int, cache: BlockCache) -> Block:
    inputs = session.job.inputs
    label, weight = _numbers(rows, inputs.get("label")), _numbers(rows, inputs.get("weight"))
    features, offset, sparse = np.zeros((rows.count, 0), dtype=session.job.dtype), np.zeros(0), None
    if "features" in inputs:
        vector = rows.vector(inputs["features"])
        dtype = session.job.dtype if session.job.dtype == "float64" or _fit_float32(vector, label, weight) else "float64"
        if isinstance(vector, SparseVector) and getattr(session.algorithm, "SPARSE", False):
            sparse, offset = csr_array(vector.values.astype(dtype)), np.zeros(vector.width)
        else:
            cache.require(vector.rows * vector.width * np.dtype(dtype).itemsize)
            features, offset = vector.centred(dtype, own_pages, None if weight is None else weight != 0)
    others = {role: column for role, column in inputs.items() if role not in _BLOCK_ROLES}
    raw = {role: column for role, column in others.items() if _RAW_ROLE.fullmatch(role)}
    declared = rows.arity(inputs.get("label", ""))
    block = Block(
        ordinal=ordinal,
        features=features,
        offset=offset,
        label=label,
        weight=weight,
        prediction=_numbers(rows, inputs.get("prediction")),
        sparse=sparse,
        arity=rows.arity(inputs["features"]) if "features" in inputs else _raw_arity(rows, others),
        classes=0 if declared is None else int(declared[0]),
        extras={role: _required(rows, column) for role, column in others.items() if role not in raw},
        raw={role: rows.stored(name) for role, name in raw.items()},
    )
    return idle_bounded(block)


def _fit_float32(vector: AnyVector, label: NDArray[np.float64] | None, weight: NDArray[np.float64] | None) -> bool:
    """Return whether weighted products of rows and labels, and their sums, stay in the range of float32."""
    sizes = np.concatenate([vector.spreads, [] if label is None else [np.abs(label).max(initial=0.0)]])
    heaviest, found = 1.0 if weight is None else weight.max(initial=0.0) or 1.0, sizes[sizes > 0]
    is_small = found.max(initial=1.0) < _LARGEST / np.sqrt(max(heaviest, 1.0) * max(vector.rows, 1))
    return bool(is_small and found.min(initial=1.0) > _LEAST / np.sqrt(min(heaviest, 1.0)))


def no_rows(session: Session, state: Any, columns: int) -> Any:
    """Return the statistics of a block of so many features and no rows: zeros in the shapes of the round."""
    nothing = getattr(session.algorithm, "nothing", None)
    if nothing is not None:
        return nothing(state)
    inputs, none = session.job.inputs, np.zeros(0)
    empty: Any = dict.fromkeys({"label", "weight", "prediction"} & inputs.keys(), none)
    block = Block(
        ordinal=0,
        features=np.zeros((0, columns), dtype=session.job.dtype),
        offset=np.zeros(columns),
        **empty,
        extras={role: none for role in inputs if role not in _BLOCK_ROLES and not _RAW_ROLE.fullmatch(role)},
        raw={role: pa.array(none) for role in inputs if _RAW_ROLE.fullmatch(role)},
    )
    return session.algorithm.statistics(state, block)


def _raw_arity(rows: Rows, columns: dict[str, str]) -> NDArray[np.int64] | None:
    """Return the categories of the raw scalar columns ``input0``, ``input1``..., or None where none is nominal."""
    names = [columns[f"input{index}"] for index in range(len(columns)) if f"input{index}" in columns]
    found = [rows.arity(name) for name in names]
    if any(isinstance(rows.column(name).values, Vector | SparseVector) for name in names) or all(arity is None for arity in found):
        return None
    return np.array([0 if arity is None else arity[0] for arity in found], dtype=np.int64)


def _required(rows: Rows, column: str) -> NDArray[np.float64]:
    values = numbers(rows.scalar(column), column)
    if np.isnan(values).any():
        raise DataError(f"The column {column!r} has nulls or NaN.", code="data.null")
    return values


def _numbers(rows: Rows, column: str | None) -> NDArray[np.float64] | None:
    return None if column is None else _required(rows, column)
