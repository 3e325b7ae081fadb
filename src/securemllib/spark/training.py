"""The host's view of the jobs that train in one stage: where each is, and the statistics of a pass over the rows they share."""

from dataclasses import replace

from securemllib.errors import FormatError, FreshnessError
from securemllib.spark.addition import MaskedSum, Shares, gathered
from securemllib.spark.aggregation import Aggregation, portions, stored_result
from securemllib.spark.enclave_client import EnclaveClient
from securemllib.spark.node import Node
from securemllib.spark.relay_job import RelayJob
from securemllib.wire.record import Record
from securemllib.wire.task import Advanced, Compute, Computed, ComputedTogether, ComputeTogether, Finished, Masked

__all__ = ["JobRound", "Training", "compute_shares"]

# A job, the number of its round, and that round's sealed state.
JobRound = tuple[RelayJob, int, bytes | memoryview]


class Training:
    """One job on the task that aggregates it.

    Args:
        job: The job.
        node: The task's connection to its enclave, which is granted the job's keys.

    Attributes:
        job: The job.
        round: The round to compute.
        state: Its sealed state.
        finished: The results, None while it trains.
    """

    def __init__(self, job: RelayJob, node: Node) -> None:
        self.job = job
        self.round = -1
        self.state: bytes | memoryview = b""
        self.finished: Finished | None = None
        self._found: list[Shares] = []
        try:
            self._enclave = node.enclave
            self._aggregation = Aggregation(job, node.enclave, node.grant(job, job.asked))
            self._go_on(*self._aggregation.begin())
        except FreshnessError as refusal:
            self.finished = stored_result(job, refusal)

    def gather(self, shares: Shares) -> None:
        """Take one task's statistics of the round."""
        self._found.append(shares)

    def update(self) -> None:
        """Open the next round, or finish, once all tasks' statistics are there."""
        found, self._found = self._found, []
        self._enclave.blocks = self.job.blocks
        try:
            self._go_on(*self._aggregation.update(gathered(found)))
        except FreshnessError as refusal:
            self.finished = stored_result(self.job, refusal)

    def _go_on(self, reply: Record, state: memoryview) -> None:
        if isinstance(reply, Finished):
            self.finished = reply
        elif isinstance(reply, Advanced):
            self.round, self.state = reply.round, state
        else:
            raise FormatError(f"The enclave ended the job with {reply.TYPE}.")


def compute_shares(rounds: list[JobRound], enclave: EnclaveClient, task: int, *, stays: bool) -> list[Shares]:
    """Return the statistics of one task's shares, for each job: sealed ones, or the sum of masked ones.

    Args:
        rounds: The jobs' rounds, over the same parts.
        enclave: Holds the keys of all jobs.
        task: The task.
        stays: Whether this enclave aggregates the jobs: then it keeps what it would seal, and nothing stands in its place.
    """
    found: list[list[Shares]] = [[] for _ in rounds]
    pieces = {model: folder for job, _, _ in rounds for model, folder in (*job.blocks.models, (job.job_id, job.blocks.folder))}
    enclave.blocks = replace(rounds[0][0].blocks, models=tuple(pieces.items()))
    for share in rounds[0][0].shares_of(task):
        answers = (answer for some in portions(rounds, lambda each: len(each[2])) for answer in _asked(some, enclave, share, stays))
        for shares, (reply, payload) in zip(found, answers, strict=True):
            shares.append(MaskedSum.of({share: reply.salt}, payload) if isinstance(reply, Masked) else {share: payload})
    return [gathered(shares) for shares in found]


def _asked(rounds: list[JobRound], enclave: EnclaveClient, share: int, stays: bool) -> list[tuple[Computed | Masked, memoryview]]:
    requests = tuple(Compute(job_id=job.job_id, round=number, share=share, stays=stays) for job, number, _ in rounds)
    job, states = rounds[0][0], [state for _, _, state in rounds]
    if len(rounds) == 1:
        return [enclave.ask(requests[0], states[0], types=(Computed, Masked), dataset=job.dataset, parts=job.parts)]
    request = ComputeTogether(requests=requests, lengths=tuple(map(len, states)))
    together, payload = enclave.ask(request, *states, types=(ComputedTogether,), dataset=job.dataset, parts=job.parts)
    if len(together.replies) != len(rounds) or len(together.lengths) != len(rounds) or sum(together.lengths) != len(payload):
        raise FormatError(f"The enclave answered {len(together.replies)} of {len(rounds)} jobs.")
    answers, start = [], 0
    for reply, length in zip(together.replies, together.lengths, strict=True):
        answers.append((reply, payload[start : start + length]))
        start += length
    return answers
