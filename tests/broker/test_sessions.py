"""Is a session its enclave's alone, from the cookie to the database, and is it forgotten when it is over?"""

import asyncio
from hashlib import sha256
from typing import Any

import httpx
import pytest
from broker_world import Enclave, World
from sqlalchemy import select

from securemllib.broker import release
from securemllib.broker.http import SESSION_COOKIE, create_app
from securemllib.broker.schema import SessionRow
from securemllib.errors import FreshnessError


@pytest.fixture
def job(world: World) -> str:
    """An accepted job."""
    world.enrol()
    return world.submit()


def asked(world: World, method: str, path: str, scheme: str = "https", **request: Any) -> httpx.Response:
    """Return the broker's answer to one request."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(world.broker))
        async with httpx.AsyncClient(transport=transport, base_url=f"{scheme}://broker") as client:
            return await client.request(method, path, **request)

    return asyncio.run(ask())


def rows(world: World) -> list[SessionRow]:
    """Return all sessions that the database holds."""
    with world.broker.custody().look() as transaction:
        return list(transaction.session.scalars(select(SessionRow)))


def test_sessions_and_nonces_cannot_be_guessed(world: World, job: str) -> None:
    """Each challenge has 256 random bits of its own, and so has the session that takes its answer."""
    found = [world.broker.challenge(job, "insecure") for _ in range(3)]
    assert len({session for session, _ in found}) == len({challenge.nonce for _, challenge in found}) == 3
    assert all(len(session) >= 43 and len(challenge.nonce) == 32 for session, challenge in found)


def test_the_database_holds_no_session(world: World, job: str) -> None:
    """Whoever copies the database finds digests of sessions, with which nobody continues them; the enclave does, with its own."""
    session, challenge = world.broker.challenge(job, "insecure")
    (row,) = rows(world)
    assert row.session == sha256(session.encode()).hexdigest()
    assert not any(session in str(getattr(row, column.key)) for column in SessionRow.__table__.columns)
    evidence = Enclave().evidence(challenge)
    with pytest.raises(FreshnessError):
        world.broker.admit(row.session, evidence, job)
    world.broker.admit(session, evidence, job)


def test_sessions_that_are_over_are_forgotten(world: World, job: str) -> None:
    """Sessions that nobody continues do not fill the database: a later one finds the old ones gone, and the young ones there."""
    world.broker.challenge(job, "insecure")
    world.clock.now += release.CHALLENGE_SECONDS + release._FORGET_SECONDS
    world.broker.challenge(job, "insecure")
    assert len(rows(world)) == 2
    world.clock.now += 1
    world.broker.challenge(job, "insecure")
    assert len(rows(world)) == 2


def test_a_session_without_a_grant_to_come_names_no_secret(world: World, job: str) -> None:
    """The key service is asked for the secrets of a session that is challenged or attested; not of an invented, spent or expired one."""

    def named(session: str) -> tuple[object, ...]:
        with world.broker.custody().look() as transaction:
            return release.sources(transaction, session)

    session, challenge = world.broker.challenge(job, "insecure")
    assert named("invented") == ()
    assert named(session) == (world.manifest.reference,)
    token = world.broker.attest(session, Enclave().evidence(challenge))
    assert named(session) == (world.manifest.reference,)
    world.broker.grant(session, token, job)
    assert named(session) == ()
    late, _ = world.broker.challenge(job, "insecure")
    world.clock.now += release.CHALLENGE_SECONDS
    assert named(late) == ()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_session_cookie_stays_with_the_relay(world: World, job: str, scheme: str) -> None:
    """No script reads the cookie, no other site sends it, and over TLS it is never sent without."""
    body = {"version": "0.4.0", "tee": "insecure", "extra-params": {"job_id": job}}
    found = asked(world, "POST", "/kbs/v0/auth", scheme, json=body).headers["set-cookie"].lower().split("; ")
    assert found[0].startswith(f"{SESSION_COOKIE}=")
    assert {"httponly", "samesite=strict"} <= set(found)
    assert ("secure" in found) == (scheme == "https")


@pytest.mark.parametrize(("scheme", "status"), [("Bearer", 200), ("Basic", 400), ("", 400)])
def test_a_grant_is_fetched_with_a_bearer_token(world: World, job: str, scheme: str, status: int) -> None:
    """The token counts as a bearer token and as nothing else."""
    session, challenge = world.broker.challenge(job, "insecure")
    token = world.broker.attest(session, Enclave().evidence(challenge))
    headers = {"Authorization": f"{scheme} {token}", "Cookie": f"{SESSION_COOKIE}={session}"}
    assert asked(world, "GET", f"/kbs/v0/resource/default/job/{job}", headers=headers).status_code == status
