"""Evidence and grant in one step: the same refusals as in two, one decision in the log."""

import asyncio
import contextlib

import httpx
import pytest
from broker_world import MEASUREMENT, Enclave, World, b64, rule_for, unb64

from securemllib.broker.release import CHALLENGE_SECONDS
from securemllib.errors import AttestationError, FreshnessError, PolicyError
from securemllib.wire.attestation import Challenge
from securemllib.wire.signed import Signed


def test_an_admitted_enclave_gets_what_an_attested_one_gets(world: World) -> None:
    """The grant opens for the enclave that gave the evidence, holds the head that is named beside it, and is one entry of the log."""
    world.enrol()
    job_id, asked = world.broker.submit_and_challenge(world.analyst.sign(world.job()), "insecure")
    assert asked is not None
    enclave = Enclave()
    granted, head = world.broker.admit(asked[0], enclave.evidence(asked[1]), job_id)
    grant = enclave.install(granted, world.broker.identity)
    assert (head, grant.head, grant.epoch) == (None, None, 1)
    last = world.events()[-1]
    assert [event["event"] for event in world.events()][-2:] == ["job", "grant"]
    assert (last["decision"], last["measurement"], last["tee"]) == ("accepted", MEASUREMENT.hex(), "insecure")
    assert last["enclave"] == enclave.identity.public.fingerprint
    update = enclave.update(None, enclave.head(4))
    world.broker.move_head(job_id, update)
    session, challenge = world.broker.challenge(job_id, "insecure")
    later = Enclave()
    granted, head = world.broker.admit(session, later.evidence(challenge), job_id)
    assert head is not None
    assert later.install(granted, world.broker.identity).head == head
    assert head.round == 4


def test_a_challenge_admits_once(world: World) -> None:
    """The same evidence again is refused, and a challenge that was answered with refused evidence is used up."""
    world.enrol()
    job_id = world.submit()
    session, challenge = world.broker.challenge(job_id, "insecure")
    evidence = Enclave().evidence(challenge)
    world.broker.admit(session, evidence, job_id)
    for answer in (world.broker.admit, lambda *given: world.broker.attest(*given[:2])):
        with pytest.raises(FreshnessError, match="answered before"):
            answer(session, evidence, job_id)
    session, challenge = world.broker.challenge(job_id, "insecure")
    with pytest.raises(AttestationError):
        world.broker.admit(session, Enclave(b"\x22" * 32).evidence(challenge), job_id)
    assert world.events()[-1]["code"] == "refused.attestation.measurement"
    with pytest.raises(FreshnessError, match="answered before"):
        world.broker.admit(session, Enclave().evidence(challenge), job_id)


@pytest.mark.parametrize(("waited", "accepted"), [(CHALLENGE_SECONDS - 1, True), (CHALLENGE_SECONDS, False)])
def test_the_challenge_that_comes_with_a_job_expires(world: World, waited: int, accepted: bool) -> None:
    """It is good for as long as any other."""
    world.enrol()
    job_id, asked = world.broker.submit_and_challenge(world.analyst.sign(world.job()), "insecure")
    assert asked is not None
    world.clock.now += waited
    evidence = Enclave().evidence(asked[1])
    if accepted:
        world.broker.admit(asked[0], evidence, job_id)
        return
    with pytest.raises(FreshnessError, match="expired"):
        world.broker.admit(asked[0], evidence, job_id)


def test_an_answer_is_for_its_own_job_and_challenge(world: World) -> None:
    """Neither another job's keys nor another session's challenge go with a session."""
    world.enrol()
    job_id, other = world.submit(), world.submit()
    session, challenge = world.broker.challenge(job_id, "insecure")
    with pytest.raises(FreshnessError, match="of this job"):
        world.broker.admit(session, Enclave().evidence(challenge), other)
    session, _ = world.broker.challenge(job_id, "insecure")
    with pytest.raises(AttestationError, match="another challenge"):
        world.broker.admit(session, Enclave().evidence(challenge), job_id)
    session, challenge = world.broker.challenge(job_id, "insecure")
    world.broker.admit(session, Enclave().evidence(challenge), job_id)


def test_a_policy_that_changed_refuses_at_admission(world: World) -> None:
    """The policy in force decides, not the one that accepted the job, and the refusal is in the log."""
    world.enrol()
    job_id = world.submit()
    session, challenge = world.broker.challenge(job_id, "insecure")
    world.broker.admit(session, Enclave().evidence(challenge), job_id)
    session, challenge = world.broker.challenge(job_id, "insecure")
    narrow = world.owner.policy(rule_for(world.analyst.public, columns=("nothing",)), serial=2)
    world.broker.set_policy(world.owner.dataset_id, narrow)
    with pytest.raises(PolicyError):
        world.broker.admit(session, Enclave().evidence(challenge), job_id)
    assert (world.events()[-1]["event"], world.events()[-1]["decision"]) == ("grant", "refused")


def test_a_finished_job_gets_no_challenge_with_its_answer(world: World) -> None:
    """The same job handed in again is answered with its id alone once its model is recorded."""
    world.enrol()
    signed = world.analyst.sign(world.job())
    job_id, asked = world.broker.submit_and_challenge(signed, "insecure")
    assert asked is not None
    session, challenge = world.broker.challenge(job_id, "insecure")
    enclave = Enclave()
    granted, _ = world.broker.admit(session, enclave.evidence(challenge), job_id)
    enclave.install(granted, world.broker.identity)
    world.finish(enclave)
    assert world.broker.submit_and_challenge(signed, "insecure") == (job_id, None)
    with pytest.raises(FreshnessError, match="no more grants"):
        world.broker.admit(asked[0], Enclave().evidence(asked[1]), job_id)


def test_over_http_a_job_is_admitted_in_two_requests(world: World, client: httpx.Client) -> None:
    """The challenge comes with the job's id, and the grant with the answer to it; without a TEE's name the answer is the id alone."""
    world.enrol()
    job = world.analyst.sign(world.job())
    answer = client.post("/v1/jobs", json={"job": b64(job), "tee": "insecure"}).json()
    evidence = Enclave()
    body = {"session": answer["session"], "evidence": b64(evidence.evidence(Challenge.from_bytes(unb64(answer["challenge"]))))}
    granted = client.post(f"/v1/jobs/{answer['job_id']}/grant", json=body)
    assert evidence.install(Signed.from_bytes(unb64(granted.json()["grant"])), world.broker.identity).epoch == 1
    assert granted.json()["round"] is None
    assert client.post(f"/v1/jobs/{answer['job_id']}/grant", json=body).json()["code"] == "integrity.freshness"
    assert client.post("/v1/jobs", json={"job": b64(job)}).json() == {"job_id": answer["job_id"]}


def test_two_hundred_enclaves_attest_at_once(world: World, client: httpx.Client) -> None:
    """Two hundred connections, open at the same time, each get a challenge and a grant of their own, and none fails."""
    world.enrol()
    job_id = world.submit()
    enclaves = [Enclave() for _ in range(200)]

    async def attested(connection: httpx.AsyncClient, enclave: Enclave) -> int:
        asked = await connection.post("/kbs/v0/auth", json={"version": "0.4.0", "tee": "insecure", "extra-params": {"job_id": job_id}})
        evidence = enclave.evidence(Challenge.from_bytes(unb64(asked.json()["extra-params"]["challenge"])))
        answer = {"session": asked.cookies["kbs-session-id"], "evidence": b64(evidence)}
        granted = await connection.post(f"/v1/jobs/{job_id}/grant", json=answer)
        return enclave.install(Signed.from_bytes(unb64(granted.raise_for_status().json()["grant"])), world.broker.identity).epoch

    async def all_at_once() -> list[int]:
        async with contextlib.AsyncExitStack() as stack:
            connections = [
                await stack.enter_async_context(httpx.AsyncClient(base_url=client.base_url, timeout=60, verify=False, trust_env=False))
                for _ in enclaves
            ]
            await asyncio.gather(*(connection.get("/healthz") for connection in connections))
            return await asyncio.gather(*map(attested, connections, enclaves))

    assert sorted(asyncio.run(all_at_once())) == list(range(1, 201))
