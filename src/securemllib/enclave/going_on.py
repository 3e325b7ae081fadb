"""Trainings that go on: from a model, or from the statistics that lie sealed beside it under a key that no release hands out.

Statistics of all rows behind a model are one more summand of a round's. Who has the model's key has no key of theirs: the broker
grants it to the enclaves of a job that goes on from the model and may leave such statistics itself.
"""

from collections.abc import Callable
from typing import Any

from securemllib.algorithms.codec import from_tree, to_tree
from securemllib.algorithms.registry import sums_of, types_of
from securemllib.crypto.aead import seal
from securemllib.crypto.keys import DataKey
from securemllib.crypto.models import ModelRoot, open_root, pieces_of, seal_piece, statistics_key, whole_tree
from securemllib.enclave.host import Host
from securemllib.enclave.session import Session
from securemllib.errors import FormatError, FreshnessError, UsageError
from securemllib.wire.encoding import Value, digest, encode
from securemllib.wire.job import JobSpecification, OutputKind
from securemllib.wire.result import SealedModel, model_context, statistics_name, statistics_operation

__all__ = ["first_state", "keep_statistics", "seal_tree", "statistics_behind"]


def seal_tree(
    session: Session, key: DataKey, operation: str, tree: Value, keep: Callable[[int, bytes], None], shards: tuple[bytes, ...] = ()
) -> SealedModel:
    """Return a sealed tree; its shards are with the host already, and one that is too large for a message goes there in pieces."""
    root = ModelRoot(tree=tree, pieces=shards)
    if not shards and (found := [_kept(session, key, index, piece, keep) for index, piece in enumerate(pieces_of(tree))]):
        root = ModelRoot(tree=None, pieces=tuple(found))
    context = model_context(session.job_id, operation, session.claims.tee, session.lineage)
    return SealedModel(
        model_id=session.job_id,
        operation=operation,
        tee=session.claims.tee,
        lineage=session.lineage,
        pieces=len(root.pieces),
        envelope=seal(key, context, root.to_bytes()),
    )


def _kept(session: Session, key: DataKey, index: int, piece: memoryview, keep: Callable[[int, bytes], None]) -> bytes:
    envelope, named = seal_piece(key, session.job_id, index, piece)
    keep(index, envelope)
    return named


def keep_statistics(session: Session, state: Any, host: Host) -> None:
    """Let the host keep what the next training goes on from."""
    tree = {"reading": _reading(session.job), "sums": to_tree(session.algorithm.sums(state))}
    key, operation = statistics_key(session.job_key, session.job_id), statistics_operation(session.job.operation)
    sealed = seal_tree(session, key, operation, tree, lambda index, piece: host.keep(session.job_id, statistics_name(index + 1), piece))
    host.keep(session.job_id, statistics_name(0), sealed.to_bytes())


def statistics_behind(session: Session, host: Host) -> Any:
    """Return the sums behind the model that the job goes on from, decayed; None where there are none or they count nothing.

    1. They are those of the very job that trained the model, sealed by its enclave.
    2. They were read from the same columns by the same steps of a plan.

    Raises:
        IntegrityError: 1 does not hold.
        UsageError: 2 does not hold, or the operation leaves no statistics.
    """
    job, algorithm = session.job, session.algorithm
    if not job.output(OutputKind.SEALED_STATISTICS):
        return None
    if not hasattr(algorithm, "going_on"):
        raise UsageError(f"{job.operation} leaves no statistics.", code="usage.job")
    if job.model is None:
        return None
    model = session.models[job.model].sealed
    sealed = SealedModel.from_bytes(host.block(model.model_id, statistics_name(0)))
    expected = (model.model_id, statistics_operation(job.operation), model.tee, model.lineage)
    if (sealed.model_id, sealed.operation, sealed.tee, sealed.lineage) != expected:
        raise FreshnessError(f"The statistics are not those of model {model.model_id}.", code="integrity.model")
    key = DataKey(session.grant.statistics)
    root = open_root(sealed, key)
    tree = whole_tree(sealed, key, root, lambda index: host.block(model.model_id, statistics_name(index + 1)))
    if not isinstance(tree, dict) or tree.keys() != {"reading", "sums"}:
        raise FormatError("The bytes are no statistics of a model.")
    if tree["reading"] != _reading(job):
        raise UsageError("The statistics behind the model are of other columns or of another plan.", code="usage.job")
    factor = 1.0 if algorithm.decay_factor is None else algorithm.decay_factor
    return from_tree(sums_of(type(algorithm)), tree["sums"]).decayed(factor) if factor > 0.0 else None


def first_state(session: Session, total: Any, behind: Any) -> tuple[Any, float]:
    """Return the first state, and the size of the smaller group that two summaries tell apart: the new rows or those behind."""
    algorithm, model = session.algorithm, session.job.model
    if session.job.output(OutputKind.SEALED_STATISTICS):
        groups = [summary.group_size for summary in (total, *([] if behind is None else [behind.summary]))]
        return algorithm.going_on(total, session.algorithm_seed, behind), min(groups)
    state = algorithm.initial(total, session.algorithm_seed)
    if model is not None:
        before = session.models[model].model
        if not hasattr(algorithm, "resumed") or not isinstance(before, types_of(type(algorithm))[2]):
            raise UsageError("The operation does not go on from such a model.", code="usage.job")
        state = algorithm.resumed(state, before)
    return state, 0.0 if total is None else total.group_size


def _reading(job: JobSpecification) -> bytes:
    """Return the digest of what a job reads of each part: its dataset's columns by role, and the steps of its plan."""
    plan = job.plan
    steps = [] if plan is None else [step.to_tree() for step in plan.steps if step is not plan.parts]
    return digest("securemllib/reading/v1", encode([sorted([*named] for named in job.inputs.items()), steps]))
