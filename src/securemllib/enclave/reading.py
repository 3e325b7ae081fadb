"""One part as several jobs of one pass read it: opened once, and what their plans begin with in common is executed once.

Rows that a model scores are held as those that an algorithm reads are, so that a model is applied to rows that are decrypted already.
What they are held under follows from the dataset secret, the dataset's version, the plan up to the model, with the models in it, and
the columns: only a job that was granted all of that finds them.
"""

from collections.abc import Mapping
from contextlib import suppress
from functools import reduce

from securemllib.enclave.cache import BlockCache, CachedBlock
from securemllib.enclave.host import Host
from securemllib.enclave.models import Usable, usable
from securemllib.enclave.parts import open_part
from securemllib.enclave.plan import begin, follow, read_table
from securemllib.enclave.rows import Rows
from securemllib.enclave.session import Session
from securemllib.errors import CapacityError
from securemllib.wire.dataset import Part
from securemllib.wire.plan import ModelRef, Step

__all__ = ["Reading"]

# What the rows that a model reads are held under.
_READY_PURPOSE = "securemllib/cached-rows/v1"


class Reading:
    """A part for the time of one pass of jobs over the same dataset.

    Args:
        part: The part.
        cache: Keeps the shards of models that rows ask for, and rows that models read.
        host: Has its encrypted bytes.
        again: Whether further plans will be executed; then the rows after each step of the last one are kept.

    Attributes:
        part: The part.
        blocks: The blocks that were made of it, by what they were made of.
    """

    def __init__(self, part: Part, cache: BlockCache, host: Host, *, again: bool = False) -> None:
        self.part = part
        self.blocks: dict[bytes, CachedBlock] = {}
        self._cache, self._host = cache, host
        self._again = again
        self._columns: tuple[str, ...] | None = None
        # The plan that was executed last: its steps, and the rows before the first and after each.
        self._steps: tuple[Step, ...] = ()
        self._trail: list[Rows] = []

    def rows(self, session: Session) -> Rows:
        """Return the part's rows after the job's plan."""
        plan, models = session.plan.pruned(session.job.result_columns), self._models(session)
        if not self._again:
            return _followed(plan.steps, self._stored(session), models)
        if session.columns != self._columns:
            self._columns, self._steps, self._trail = session.columns, (), [self._stored(session)]
        done = _common(self._steps, plan.steps)
        self._steps, self._trail = plan.steps, self._trail[: done + 1]
        for step in plan.steps[done:]:
            self._trail.append(follow(step, self._trail[-1], models))
        return self._trail[-1]

    def scored(self, session: Session) -> Rows:
        """Return the part's rows after the job's plan; what the last model in it reads is held for scorings to come."""
        wanted, models = session.job.result_columns, self._models(session)
        plan = session.plan.pruned(wanted)
        if not plan.models:
            return self.rows(session)
        before, columns, after = plan.around_model(wanted)
        origin = session.secret.derive_bytes(32, _READY_PURPOSE, before.to_bytes(), *sorted(columns))
        held = self._cache.get(origin, self.part.ordinal)
        if held is not None:
            ready: Rows = held.block
        else:
            ready = _followed(before.steps, self._stored(session), models).together(columns)
            # Rows that are larger than the bound are read again each time.
            with suppress(CapacityError):
                self._cache.put(origin, self.part.ordinal, ready)
        ready = begin(ready, ordinal=self.part.ordinal, seed=session.split_seed, stored=self.part.rows)
        return _followed(after, ready, models)

    def _models(self, session: Session) -> dict[ModelRef, Usable]:
        scratch = self._cache.scratch(session.job_id, b"", -1)
        return {reference: usable(opened, scratch, self._host) for reference, opened in session.models.items()}

    def _stored(self, session: Session) -> Rows:
        table = open_part(
            self._host.part(self.part),
            secret=session.secret,
            dataset=session.plan.source,
            part=self.part,
            body=session.body,
            columns=list(session.columns),
        )
        return begin(read_table(table), ordinal=self.part.ordinal, seed=session.split_seed, stored=table.num_rows)


def _followed(steps: tuple[Step, ...], rows: Rows, models: Mapping[ModelRef, Usable]) -> Rows:
    return reduce(lambda rows, step: follow(step, rows, models), steps, rows)


def _common(one: tuple[Step, ...], two: tuple[Step, ...]) -> int:
    """Return how many steps two plans begin with in common; a step names its models by their digests."""
    different = (index for index, (first, second) in enumerate(zip(one, two, strict=False)) if first != second)
    return next(different, min(len(one), len(two)))
