"""Does the whole protocol work over HTTP, and does every refusal come as a problem?"""

import httpx
import pytest
from broker_world import Enclave, World, b64, envelope_body, release_of, rule_for, unb64

from securemllib.broker.messages import from_base64
from securemllib.crypto.identity import verify
from securemllib.errors import AttestationError, FormatError, FreshnessError, SecureMLlibError, error_from_code
from securemllib.wire.attestation import AttestationResult, Challenge
from securemllib.wire.enrolment import AuditRequest
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.plan import ModelRef
from securemllib.wire.result import WrappedModelKey, model_key_context
from securemllib.wire.signed import Signed


def raised(response: httpx.Response) -> SecureMLlibError:
    """Return the error that a client raises for a problem."""
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert set(problem) == {"type", "title", "status", "code", "reason", "next_step"}
    assert problem["status"] == response.status_code
    return error_from_code(problem["code"], problem["reason"], problem["next_step"])


def enrolled(world: World, client: httpx.Client) -> None:
    """Enrol the world's dataset over HTTP."""
    world.broker.trust_owner(world.owner.identity.public)
    path = f"/v1/datasets/{world.owner.dataset_id}"
    enrolment = {"enrolment": b64(world.owner.enrolment(world.manifest))}
    assert [client.put(path, json=enrolment).status_code for _ in range(2)] == [201, 200]
    policy = world.owner.policy(rule_for(world.analyst.public))
    assert client.put(f"{path}/policy", json=envelope_body(policy)).status_code == 200


def attested(client: httpx.Client, job_id: str, enclave: Enclave) -> httpx.Response:
    """Ask for a challenge and return the answer to the evidence."""
    asked = client.post("/kbs/v0/auth", json={"version": "0.4.0", "tee": "insecure", "extra-params": {"job_id": job_id}})
    assert asked.status_code == 200, asked.text
    assert client.cookies["kbs-session-id"]
    challenge = Challenge.from_bytes(unb64(asked.json()["extra-params"]["challenge"]))
    assert challenge.nonce == unb64(asked.json()["nonce"])
    return client.post("/kbs/v0/attest", json={"tee-evidence": b64(enclave.evidence(challenge))})


@pytest.mark.parametrize("text", ["QUJD\n", "QU JD", "QUJ", "QUJ*D", "-_8=", "QUJD====", "QUJ="])
def test_base64_has_one_alphabet(text: str) -> None:
    """What is no base64 is refused, not skipped, and so are other forms of it: the same bytes do not come as many texts."""
    assert [from_base64(found) for found in ("QUJD", "QUI=", "")] == [b"ABC", b"AB", b""]
    with pytest.raises(FormatError):
        from_base64(text)


def test_a_model_is_trained_and_released(world: World, client: httpx.Client) -> None:
    """From enrolment to the released model key, each answer fits the next request, and the recipient opens the key."""
    enrolled(world, client)
    broker = PublicIdentity.from_bytes(unb64(client.get("/v1/identity").json()["identity"]))
    job = world.job()
    assert client.post("/v1/jobs", json={"job": b64(world.analyst.sign(job))}).json() == {"job_id": job.job_id}
    enclave = Enclave()
    token = attested(client, job.job_id, enclave).json()["token"]
    granted = client.get(f"/kbs/v0/resource/default/job/{job.job_id}", headers={"Authorization": f"Bearer {token}"})
    grant = enclave.install(Signed.from_bytes(unb64(granted.json()["grant"])), broker)
    assert grant.datasets[0].secret == world.owner.secret.expose()
    assert verify(grant.result, AttestationResult, broker).identity == enclave.identity.public
    path = f"/v1/jobs/{job.job_id}/head"
    assert client.get(path).json()["round"] is None
    model = ModelRef(model_id=job.job_id, digest=b"m" * 32)
    update = enclave.update(None, enclave.head(3), model)
    enclave.check(update, unb64(client.post(path, json={"update": b64(update)}).json()["acknowledgement"]))
    assert client.get(path).json() == {"round": 3, "state": (b"s" * 32).hex()}
    release = release_of(model, world.analyst.public, broker)
    answer = client.post("/v1/releases", json={"job": b64(world.analyst.sign(release))}).json()
    wrapped = verify(Signed.from_bytes(unb64(answer["keys"][0])), WrappedModelKey, broker)
    context = model_key_context(release.job_id, model, world.analyst.public.fingerprint)
    assert world.analyst.recipient.unwrap(wrapped.wrapped, context) == grant.model_key
    assert verify(Signed.from_bytes(unb64(answer["attestation"])), AttestationResult, broker).job_id == job.job_id


def test_evidence_of_another_program_is_refused(world: World, client: httpx.Client) -> None:
    """Evidence that the policy does not accept gets a problem whose code raises `AttestationError`, and no token."""
    enrolled(world, client)
    response = attested(client, world.submit(), Enclave(b"\x22" * 32))
    assert response.status_code == 403
    error = raised(response)
    assert isinstance(error, AttestationError)
    assert error.error_code == "refused.attestation.measurement"


def test_an_owner_reads_their_audit_entries(world: World, client: httpx.Client) -> None:
    """The owner of a dataset reads its entries; a request for another broker gets nothing."""
    enrolled(world, client)
    world.submit()
    now = int(world.clock.now)
    asked = AuditRequest(owner=world.owner.identity.public, broker=world.broker.identity.fingerprint, created=now)
    answer = client.post("/v1/audit", json={"request": b64(world.owner.identity.sign(asked))}).json()
    assert [entry["event"] for entry in answer["entries"]] == ["enrol", "enrol", "policy", "job"]
    other = AuditRequest(owner=world.owner.identity.public, broker=world.analyst.public.fingerprint, created=now)
    assert isinstance(raised(client.post("/v1/audit", json={"request": b64(world.owner.identity.sign(other))})), FreshnessError)


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/v1/jobs", b"{}", 422),
        ("POST", "/v1/jobs", b"no json", 422),
        ("POST", "/v1/jobs", b'{"job": "AAAA"}', 400),
        ("POST", "/v1/jobs", b'{"job": "***"}', 400),
        ("POST", "/v1/jobs", b'{"job": "AAAA", "more": 1}', 422),
        ("POST", "/kbs/v0/attest", b'{"tee-evidence": "AAAA"}', 422),
        ("GET", "/v1/jobs/unknown/head", b"", 404),
        ("GET", "/nothing", b"", 404),
        ("DELETE", "/v1/jobs", b"", 405),
    ],
)
def test_a_malformed_request_is_a_problem(client: httpx.Client, method: str, path: str, content: bytes, status: int) -> None:
    """A request that is none is answered with a problem that raises an error of ours."""
    response = client.request(method, path, content=content, headers={"content-type": "application/json"})
    assert response.status_code == status
    raised(response)


@pytest.mark.parametrize("announced", [True, False])
def test_a_large_body_is_refused(client: httpx.Client, announced: bool) -> None:
    """A body over the limit is refused whether its length is announced or not; one at half the limit is read."""
    large = b'{"job": "' + b"A" * (3 * 2**20) + b'"}'
    content = large if announced else iter([large[: 2**20], large[2**20 :]])
    headers = {"content-type": "application/json"}
    assert client.post("/v1/jobs", content=content, headers=headers).status_code == 413
    small = b'{"job": "' + b"A" * 2**20 + b'"}'
    assert isinstance(raised(client.post("/v1/jobs", content=small, headers=headers)), FormatError)


def test_only_enrolments_are_large(client: httpx.Client) -> None:
    """A policy of 3 MB is refused before it is read, as is one of more signatures than an envelope has; an enrolment is read."""
    large = {"enrolment": "A" * 3 * 2**20}
    assert client.put(f"/v1/datasets/{'a' * 32}/policy", json=large).status_code == 413
    assert isinstance(raised(client.put(f"/v1/datasets/{'a' * 32}", json=large)), FormatError)
    many = {"payload": "", "payloadType": "", "signatures": [{"keyid": "", "sig": ""}] * 65}
    assert client.post("/v1/approvals", json={"envelope": many}).status_code == 422


def test_the_interface_is_described(client: httpx.Client) -> None:
    """The OpenAPI description names every path of the protocol."""
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) >= {
        "/healthz",
        "/kbs/v0/attest",
        "/kbs/v0/auth",
        "/kbs/v0/resource/default/job/{job_id}",
        "/v1/audit",
        "/v1/datasets/{dataset_id}",
        "/v1/datasets/{dataset_id}/policy",
        "/v1/identity",
        "/v1/jobs",
        "/v1/jobs/{job_id}/head",
        "/v1/releases",
    }
    assert client.get("/healthz").json() == {"status": "ok"}
