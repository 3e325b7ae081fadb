"""One part as several jobs of one pass read it: opened once, and what their plans begin with in common is executed once."""

from contextlib import suppress
from functools import reduce

import numpy as np

from securemllib.algorithms.base import Block
from securemllib.enclave.cache import BlockCache, CachedBlock
from securemllib.enclave.host import Host
from securemllib.enclave.models import usable
from securemllib.enclave.parts import open_part
from securemllib.enclave.plan import begin, follow, of_columns, read_table
from securemllib.enclave.rows import Rows
from securemllib.enclave.session import Session
from securemllib.errors import CapacityError
from securemllib.wire.dataset import Part
from securemllib.wire.plan import Step

__all__ = ["Reading"]


class Reading:
    """A part for the time of one pass of jobs over the same dataset.

    Args:
        part: The part.
        cache: Keeps the shards of models that rows ask for, and columns as they are stored.
        host: Has its encrypted bytes.
        again: Whether further plans will be executed; then the rows after each step of the last one are kept.
        hold: Whether the columns that are read stay in the cache for jobs to come, because no block is made of them that would.

    Attributes:
        part: The part.
        blocks: The blocks that were made of it, by what they were made of.
    """

    def __init__(self, part: Part, cache: BlockCache, host: Host, *, again: bool = False, hold: bool = False) -> None:
        self.part = part
        self.blocks: dict[bytes, CachedBlock] = {}
        self._cache, self._host = cache, host
        self._again, self._hold = again, hold
        self._columns: tuple[str, ...] | None = None
        # The plan that was executed last: its steps, and the rows before the first and after each.
        self._steps: tuple[Step, ...] = ()
        self._trail: list[Rows] = []

    def rows(self, session: Session) -> Rows:
        """Return the part's rows after the job's plan."""
        plan, scratch = session.plan.pruned(session.job.result_columns), self._cache.scratch(session.job_id, b"", -1)
        models = {reference: usable(opened, scratch, self._host) for reference, opened in session.models.items()}
        if not self._again:
            return reduce(lambda rows, step: follow(step, rows, models), plan.steps, self._stored(session))
        if session.columns != self._columns:
            self._columns, self._steps, self._trail = session.columns, (), [self._stored(session)]
        done = _common(self._steps, plan.steps)
        self._steps, self._trail = plan.steps, self._trail[: done + 1]
        for step in plan.steps[done:]:
            self._trail.append(follow(step, self._trail[-1], models))
        return self._trail[-1]

    def _stored(self, session: Session) -> Rows:
        held = self._cache.get(session.columns_key, self.part.ordinal)
        rows = self._opened(session) if held is None else of_columns(held.block.raw, held.block.rows)
        if held is None and self._hold:
            block = Block(ordinal=self.part.ordinal, features=np.zeros((rows.count, 0)), offset=np.zeros(0), raw=rows.scalars)
            # Columns that are larger than the bound are read again each time.
            with suppress(CapacityError):
                self._cache.put(session.columns_key, self.part.ordinal, block)
        return begin(rows, ordinal=self.part.ordinal, seed=session.split_seed)

    def _opened(self, session: Session) -> Rows:
        table = open_part(
            self._host.part(self.part),
            secret=session.secret,
            dataset=session.plan.source,
            part=self.part,
            body=session.body,
            columns=list(session.columns),
        )
        return read_table(table)


def _common(one: tuple[Step, ...], two: tuple[Step, ...]) -> int:
    """Return how many steps two plans begin with in common; a step names its models by their digests."""
    different = (index for index, (first, second) in enumerate(zip(one, two, strict=False)) if first != second)
    return next(different, min(len(one), len(two)))
