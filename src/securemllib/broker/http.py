"""The broker over HTTP: JSON in and out, errors as RFC 9457 problems, and an OpenAPI description at ``/openapi.json``."""

from functools import partial
from http import HTTPStatus
from typing import Annotated, NoReturn

import structlog
from fastapi import Cookie, FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from securemllib.broker import messages as body
from securemllib.broker.limits import AddressLimit, BodyLimit
from securemllib.broker.messages import from_base64, to_base64
from securemllib.broker.rates import Rates
from securemllib.broker.service import Broker
from securemllib.errors import (
    CapacityError,
    FreshnessError,
    IntegrityError,
    RateLimitError,
    RefusedError,
    SecureMLlibError,
    SignatureError,
    UnavailableError,
    UsageError,
)
from securemllib.policy.envelope import Envelope
from securemllib.wire.attestation import Evidence
from securemllib.wire.signed import Signed

__all__ = ["BODY_LIMIT", "ENROLMENT_LIMIT", "SESSION_COOKIE", "create_app"]

PROTOCOL_VERSION = "0.4.0"
SESSION_COOKIE = "kbs-session-id"
BODY_LIMIT = 2 * 2**20
# The manifest of 100,000 parts takes 30 MB, and base64 a third more.
ENROLMENT_LIMIT = 48 * 2**20

_log = structlog.get_logger("securemllib.broker")
_STATUS: tuple[tuple[type[SecureMLlibError], HTTPStatus], ...] = (
    (FreshnessError, HTTPStatus.CONFLICT),
    (SignatureError, HTTPStatus.FORBIDDEN),
    (IntegrityError, HTTPStatus.BAD_REQUEST),
    (RefusedError, HTTPStatus.FORBIDDEN),
    (RateLimitError, HTTPStatus.TOO_MANY_REQUESTS),
    (CapacityError, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (UnavailableError, HTTPStatus.SERVICE_UNAVAILABLE),
    (UsageError, HTTPStatus.BAD_REQUEST),
)
_PROBLEMS: dict[int | str, dict[str, object]] = {"default": {"model": body.ProblemBody, "description": "A problem (RFC 9457)."}}


def create_app(broker: Broker) -> FastAPI:
    """Return the ASGI application of a broker."""
    app = FastAPI(
        title="SecureMLlib key broker",
        version="1",
        description="Appraises enclaves and grants them the keys of jobs that the data owners' policies allow.",
        responses=_PROBLEMS,
    )
    app.add_middleware(BodyLimit, limit=BODY_LIMIT, large=ENROLMENT_LIMIT, large_prefix="/v1/datasets")
    app.add_middleware(AddressLimit, rates=broker.rates, refusal=_answer)
    app.add_exception_handler(SecureMLlibError, partial(_problem, broker.rates))
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _not_found)
    _add_general(app, broker)
    _add_keys(app, broker)
    _add_datasets(app, broker)
    _add_jobs(app, broker)
    _add_ends(app, broker)
    _add_release(app, broker)
    return app


def _add_general(app: FastAPI, broker: Broker) -> None:
    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """Answer when the broker is up."""
        return {"status": "ok"}

    @app.get("/v1/identity")
    def identity() -> body.IdentityBody:
        """Return who the broker is: compare its fingerprint with the one that its operator told you."""
        return body.IdentityBody(identity=to_base64(broker.identity.to_bytes()))

    @app.post("/v1/evidence")
    def evidence(request: body.EvidenceBody) -> body.EvidenceResult:
        """Show what code the broker runs: evidence over the caller's 32 random bytes."""
        return body.EvidenceResult(evidence=to_base64(broker.evidence(from_base64(request.nonce)).to_bytes()))

    @app.post("/v1/store/accept")
    def accept_store(request: body.AcceptanceBody) -> body.AcceptanceResult:
        """Accept, as an owner, that the broker's store was restored."""
        return body.AcceptanceResult(datasets=broker.accept_store(_signed(request.acceptance)))

    @app.post("/v1/audit")
    def audit(request: body.AuditBody) -> body.AuditEntries:
        """Return the audit entries of the signing owner's datasets."""
        entries, head = broker.audit(_signed(request.request))
        return body.AuditEntries(entries=entries, head=None if head is None else to_base64(head.to_bytes()))


def _add_keys(app: FastAPI, broker: Broker) -> None:
    @app.post("/v1/keys/rotate")
    def rotate(request: body.RotationBody) -> body.KeyResult:
        """Let a new identity take the place of the old one that signs."""
        return body.KeyResult(fingerprint=broker.rotate(_signed(request.rotation), _signed(request.confirmation)))

    @app.post("/v1/keys/revoke")
    def revoke(request: body.RevocationBody) -> body.KeyResult:
        """Revoke the identity that signs."""
        return body.KeyResult(fingerprint=broker.revoke(_signed(request.revocation)))


def _add_datasets(app: FastAPI, broker: Broker) -> None:
    @app.put("/v1/datasets/{dataset_id}", responses={201: {"model": body.EnrolmentResult}})
    def enrol(dataset_id: str, request: body.EnrolmentBody, response: Response) -> body.EnrolmentResult:
        """Enrol a dataset version; 201 for a new one, 200 for the latest once more."""
        enrolled = broker.enrol(dataset_id, _signed(request.enrolment))
        response.status_code = HTTPStatus.CREATED if enrolled.is_new else HTTPStatus.OK
        return body.EnrolmentResult(dataset_id=enrolled.dataset_id, version=enrolled.version)

    @app.put("/v1/datasets/{dataset_id}/policy")
    def set_policy(dataset_id: str, request: body.PolicyBody) -> body.PolicyResult:
        """Put a dataset's policy in force."""
        return body.PolicyResult(dataset_id=dataset_id, serial=broker.set_policy(dataset_id, _envelope(request)))

    @app.post("/v1/datasets/{dataset_id}/policy/revocation")
    def revoke_policy(dataset_id: str, request: body.PolicyBody) -> body.PolicyResult:
        """End a dataset's policy."""
        return body.PolicyResult(dataset_id=dataset_id, serial=broker.revoke_policy(dataset_id, _envelope(request)))

    @app.post("/v1/approvals")
    def approve_release(request: body.PolicyBody) -> body.ApprovalResult:
        """Take an approver's word for the release of a model."""
        return body.ApprovalResult(datasets=list(broker.approve_release(_envelope(request))))


def _add_jobs(app: FastAPI, broker: Broker) -> None:
    @app.post("/v1/jobs", status_code=HTTPStatus.CREATED, response_model_exclude_none=True)
    def submit(request: body.SubmissionBody) -> body.JobResult:
        """Submit a job."""
        if request.tee is None:
            return body.JobResult(job_id=broker.submit(_signed(request.job)))
        job_id, asked = broker.submit_and_challenge(_signed(request.job), request.tee)
        if asked is None:
            return body.JobResult(job_id=job_id)
        return body.JobResult(job_id=job_id, session=asked[0], challenge=to_base64(asked[1].to_bytes()))

    @app.post("/v1/jobs/{job_id}/grant")
    def admit(job_id: str, request: body.AdmissionBody) -> body.AdmissionResult:
        """Answer the challenge with evidence and get the job's keys, wrapped for the attested enclave, in one step."""
        granted, head = broker.admit(request.session, Evidence.from_bytes(from_base64(request.evidence)), job_id)
        return body.AdmissionResult(grant=to_base64(granted.to_bytes()), round=None if head is None else head.round)

    @app.get("/v1/jobs/{job_id}/head")
    def head(job_id: str) -> body.HeadBody:
        """Return the job's recorded head."""
        found = broker.head(job_id)
        return body.HeadBody(round=None) if found is None else body.HeadBody(round=found.round, state=found.state.hex())

    @app.post("/v1/jobs/{job_id}/head")
    def move_head(job_id: str, request: body.HeadUpdateBody) -> body.Acknowledgement:
        """Move the job's head: compare, then swap."""
        return body.Acknowledgement(acknowledgement=to_base64(broker.move_head(job_id, from_base64(request.update))))


def _add_ends(app: FastAPI, broker: Broker) -> None:
    @app.post("/v1/jobs/{job_id}/finish", status_code=HTTPStatus.NO_CONTENT)
    def finish(job_id: str, request: body.EndBody) -> None:
        """Say, as its analyst, that the results of a job have come, or are not waited for any more: it gets no more keys."""
        broker.finish(job_id, _signed(request.end))

    @app.post("/v1/releases")
    def release(request: body.JobBody) -> body.ReleaseResult:
        """Release a model's key to the recipients that the job names."""
        keys, attestation = broker.release(_signed(request.job))
        return body.ReleaseResult(keys=[to_base64(key.to_bytes()) for key in keys], attestation=to_base64(attestation.to_bytes()))


def _add_release(app: FastAPI, broker: Broker) -> None:
    @app.post("/kbs/v0/auth")
    def auth(request: body.AuthenticationRequest, http_request: Request, response: Response) -> body.ChallengeBody:
        """Begin an attestation."""
        if request.version != PROTOCOL_VERSION:
            raise UsageError(f"The broker speaks version {PROTOCOL_VERSION} of the key broker protocol.", code="usage.protocol_version")
        session, challenge = broker.challenge(request.extra_params.job_id, request.tee)
        secure = http_request.url.scheme == "https"
        response.set_cookie(SESSION_COOKIE, session, httponly=True, samesite="strict", secure=secure)
        parameters = body.ChallengeParameters(challenge=to_base64(challenge.to_bytes()))
        return body.ChallengeBody.model_validate({"nonce": to_base64(challenge.nonce), "extra-params": parameters})

    @app.post("/kbs/v0/attest")
    def attest(request: body.AttestationRequest, session: Annotated[str, Cookie(alias=SESSION_COOKIE)]) -> body.TokenBody:
        """Answer the challenge with evidence."""
        return body.TokenBody(token=broker.attest(session, Evidence.from_bytes(from_base64(request.tee_evidence))))

    @app.get("/kbs/v0/resource/default/job/{job_id}")
    def grant(
        job_id: str, session: Annotated[str, Cookie(alias=SESSION_COOKIE)], authorization: Annotated[str, Header()]
    ) -> body.GrantBody:
        """Fetch the job's keys, wrapped for the attested enclave."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise UsageError("The grant is fetched with a bearer token.", code="usage.token")
        return body.GrantBody(grant=to_base64(broker.grant(session, token, job_id).to_bytes()))


def _envelope(request: body.PolicyBody) -> Envelope:
    return Envelope.from_bytes(request.envelope.model_dump_json(by_alias=True).encode())


def _signed(text: str) -> Signed:
    return Signed.from_bytes(from_base64(text))


def _problem(rates: Rates, request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, SecureMLlibError):
        _reraise(error)
    if not isinstance(error, UnavailableError) and request.client is not None:
        rates.count_refusal(request.client.host)
    return _answer(error)


def _answer(error: SecureMLlibError) -> JSONResponse:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
    if error.error_code == "usage.unknown_job":
        status = HTTPStatus.NOT_FOUND
    _log.info("refused", code=error.error_code, status=int(status))
    response = _response(status, error.error_code, error.reason, error.next_step)
    if isinstance(error, RateLimitError):
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def _invalid(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        _reraise(error)
    # Only where it is wrong: what was sent may be a key.
    places = sorted({".".join(str(part) for part in found["loc"]) for found in error.errors()})
    return _response(
        HTTPStatus.UNPROCESSABLE_ENTITY, "usage.request", f"The request is wrong at {', '.join(places)}.", "See /openapi.json."
    )


def _not_found(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        _reraise(error)
    return _response(HTTPStatus(error.status_code), "usage.request", f"{error.detail}.", "See /openapi.json.")


def _reraise(error: Exception) -> NoReturn:
    raise error


def _response(status: HTTPStatus, code: str, reason: str, next_step: str) -> JSONResponse:
    problem = body.ProblemBody(
        type=f"urn:securemllib:error:{code}", title=status.phrase, status=int(status), code=code, reason=reason, next_step=next_step
    )
    return JSONResponse(problem.model_dump(), status_code=int(status), media_type="application/problem+json")
