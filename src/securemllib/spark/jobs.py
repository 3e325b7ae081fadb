"""From what the analyst asks for to a signed job at the broker, and from there to its results."""

import secrets
import time
from dataclasses import dataclass

from securemllib.errors import FormatError
from securemllib.spark.agent_client import AgentClient
from securemllib.spark.broker_client import Asked, BrokerClient
from securemllib.spark.settings import Settings
from securemllib.wire.encoding import Value
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.job import JobSpecification, Mode, Output, OutputKind
from securemllib.wire.plan import ModelRef, ParamValue, Plan

__all__ = ["Outcome", "Request", "specification", "submit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a job is to do, before anybody signed it.

    Attributes:
        operation: The operation's name.
        params: All of its Params.
        inputs: The columns in its roles.
        plan: The rows.
        model: The model to release.
        outputs: What leaves, to whom; a recipient that is None is the analyst.
        seed: The analyst's seed.
        dtype: The dtype of blocks; empty for the session's.
        together: Whether other jobs may go over the rows with it; not where its shards send each other blocks.
    """

    operation: str
    params: dict[str, ParamValue]
    inputs: dict[str, str]
    plan: Plan | None
    model: ModelRef | None = None
    outputs: tuple[tuple[OutputKind, PublicIdentity | None, tuple[str, ...]], ...]
    seed: int = 0
    dtype: str = ""
    together: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a job left.

    Attributes:
        job_id: The job.
        rounds: How many rounds it took.
        model: The encoding of its sealed model, or empty.
        trees: The opened results for the analyst, by kind.
        sealed: The encodings of all sealed results.
    """

    job_id: str
    rounds: int
    model: bytes
    trees: dict[OutputKind, Value]
    sealed: tuple[bytes, ...]


def specification(request: Request, settings: Settings, agent: AgentClient, broker: str, shares: int) -> JobSpecification:
    """Return the job of a request, ready to be signed.

    Args:
        request: What to do.
        settings: The session's.
        agent: Of the analyst.
        broker: The fingerprint of the broker.
        shares: Into how many shares the parts are dealt.
    """
    analyst = agent.identify().identity
    outputs = (Output(kind=kind, recipient=to or analyst, columns=columns) for kind, to, columns in request.outputs)
    return JobSpecification(
        operation=request.operation,
        params=request.params,
        inputs=request.inputs,
        plan=request.plan,
        model=request.model,
        mode=Mode(settings.mode),
        dtype=request.dtype or settings.dtype,
        seed=request.seed,
        shares=shares,
        checkpoint_interval=settings.checkpoint_interval,
        outputs=tuple(outputs),
        analyst=analyst,
        broker=broker,
        measurements=(),
        created=int(time.time()),
        nonce=secrets.token_bytes(16),
    )


def submit(job: JobSpecification, agent: AgentClient, broker: BrokerClient, tee: str) -> Asked | None:
    """Have a job signed by its analyst and accepted by the broker, and return the challenge for its first enclave, of that TEE.

    Raises:
        SecureMLlibError: The agent or the broker refuses.
        FormatError: The broker calls the job by another name.
    """
    submitted = broker.submit(agent.sign(job), tee)
    if submitted.job_id != job.job_id:
        raise FormatError(f"The broker calls job {job.job_id} {submitted.job_id}.")
    return submitted.asked
