"""Is what a stranger, an analyst or an old message can make the broker do bounded?"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from broker_world import Enclave, World, b64, job_on, make_world, wait_until

from securemllib.attestation.dcap import Model
from securemllib.broker import release
from securemllib.broker.collateral import CollateralStore
from securemllib.broker.freshness import CLOCK_SKEW_SECONDS, JOB_SECONDS
from securemllib.broker.keystore import Keystore
from securemllib.broker.rates import Rates
from securemllib.crypto.identity import PrivateIdentity
from securemllib.errors import FreshnessError, PolicyError, RateLimitError, UnavailableError, UsageError, error_from_code
from securemllib.wire.attestation import Evidence

SLOW = {"address": "40/hour", "refusals": "5/hour", "identity": "10/hour"}


@pytest.fixture
def world(tmp_path: Path, keystore: Keystore) -> Iterator[World]:
    """A world whose broker answers few requests."""
    world = make_world(tmp_path, keystore, f"sqlite:///{tmp_path / 'broker.db'}", rates=Rates(**SLOW))
    yield world
    world.broker.close()


def test_an_address_is_answered_so_often(client: httpx.Client) -> None:
    """Requests up to the rate are answered; the next one gets status 429, a code, and the seconds to wait."""
    assert {client.get("/healthz").status_code for _ in range(40)} == {200}
    refused = client.get("/healthz")
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 3600
    error = error_from_code(refused.json()["code"], refused.json()["reason"])
    assert isinstance(error, RateLimitError)
    assert error.error_code == "unavailable.rate.address"


def test_what_is_refused_fills_no_log(world: World, client: httpx.Client) -> None:
    """After a few refused requests an address is refused before the broker decides, so the audit log no longer grows."""
    stranger = PrivateIdentity.generate("stranger")
    body = {"job": b64(stranger.sign(world.job()))}
    statuses = [client.post("/v1/jobs", json=body).status_code for _ in range(8)]
    assert statuses == [403] * 5 + [429] * 3
    assert len(world.events()) == 5


def test_an_identity_is_answered_so_often(world: World) -> None:
    """An analyst's jobs are accepted up to the rate, sent again or new; over it they are refused without an entry, others' are not."""
    world.enrol()
    job = world.analyst.sign(world.job())
    for _ in range(9):
        world.broker.submit(job)
    world.submit()
    before, other = len(world.events()), PrivateIdentity.generate("other")
    with pytest.raises(RateLimitError, match="10 per 1 hour"):
        world.broker.submit(job)
    assert len(world.events()) == before
    with pytest.raises(PolicyError):
        world.broker.submit(other.sign(job_on(world.plan(), other.public, world.broker.identity)))


def test_nobody_uses_up_anothers_rate(world: World) -> None:
    """Requests in an analyst's name with a signature that does not fit count for nothing."""
    world.enrol()
    stranger = PrivateIdentity.generate("stranger")
    for _ in range(20):
        with pytest.raises(Exception, match="Signed by"):
            world.broker.submit(stranger.sign(world.job()))
    world.submit()


@pytest.mark.parametrize("addresses", [("2001:db8::1", "2001:db8::ffff:2"), ("192.0.2.1", "192.0.2.1")])
def test_a_subnet_is_one_address(addresses: tuple[str, str]) -> None:
    """All of an IPv6 subnet is one client, because its holder chooses among its addresses; another subnet is not affected."""
    rates = Rates(address="3/hour")
    for address in (*addresses, addresses[0]):
        rates.check_address(address)
    with pytest.raises(RateLimitError):
        rates.check_address(addresses[1])
    for other in ("2001:db8:1::1", "192.0.2.2", "unknown"):
        rates.check_address(other)


def test_an_address_of_ipv4_is_one_in_both_forms() -> None:
    """A client of IPv4 that is named by a mapped address of IPv6 is counted as itself: not twice, and not with everybody else's."""
    rates = Rates(address="3/hour")
    for address in ("192.0.2.1", "::ffff:192.0.2.1", "::ffff:c000:201"):
        rates.check_address(address)
    for address in ("192.0.2.1", "::ffff:192.0.2.1"):
        with pytest.raises(RateLimitError):
            rates.check_address(address)
    rates.check_address("::ffff:192.0.2.2")
    rates.check_address("::1")


def test_a_rate_that_is_none_is_told() -> None:
    """A rate in other words than the library's is refused before the broker starts."""
    Rates(identity="10/second")
    with pytest.raises(UsageError, match="no rate"):
        Rates(identity="often")


@pytest.mark.parametrize("age", [JOB_SECONDS + 1, -CLOCK_SKEW_SECONDS - 1])
def test_a_job_of_another_time_is_refused(world: World, age: int) -> None:
    """A job that was signed more than a day ago, or further ahead than clocks differ, is refused; at the bound it is accepted."""
    world.enrol()
    now = int(world.clock.now)
    with pytest.raises(FreshnessError) as refused:
        world.submit(created=now - age)
    assert refused.value.error_code == "integrity.freshness.time"
    world.submit(created=now - age + (1 if age > 0 else -1))


def test_a_job_that_was_accepted_stays_one_job(world: World) -> None:
    """An old job that the broker knows may be sent again, by a driver that resumes: it is the same job."""
    world.enrol()
    job = world.analyst.sign(world.job())
    world.clock.now += 10
    first = world.broker.submit(job)
    world.clock.now += 2 * JOB_SECONDS
    assert world.broker.submit(job) == first


def test_open_challenges_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job has so many open challenges at most; one that is answered or expires makes room."""
    monkeypatch.setattr(release, "_OPEN_CHALLENGES", 2)
    world.enrol()
    job_id = world.submit()
    (session, challenge), _ = (world.broker.challenge(job_id, "insecure") for _ in range(2))
    with pytest.raises(UnavailableError, match="are open"):
        world.broker.challenge(job_id, "insecure")
    world.broker.admit(session, Enclave().evidence(challenge), job_id)
    world.broker.challenge(job_id, "insecure")
    world.clock.now += release.CHALLENGE_SECONDS
    world.broker.challenge(job_id, "insecure")


@dataclass
class _Kinds:
    """Names a kind of platform for each evidence: its report."""

    def __call__(self, report: bytes) -> Model:
        return Model(tee="sgx", fmspc=report.hex(), ca="platform")


def test_invented_platforms_do_not_take_every_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a PCCS is slow to say that it knows none of the invented platforms, a few requests wait and others are told to come again."""
    monkeypatch.setattr("securemllib.broker.collateral.model_of", _Kinds())
    asked, answered = threading.Event(), threading.Event()

    def fetch(_pccs: str, _quote: bytes) -> str:
        asked.set()
        answered.wait(10)
        raise UnavailableError("none")

    store = CollateralStore(pccs="https://pccs.example", fetch=fetch)
    identity = PrivateIdentity.generate("enclave").public
    evidence = [Evidence(tee="sgx", report=bytes([index]) * 6, identity=identity) for index in range(12)]
    threads = [threading.Thread(target=store.refresh, args=(item, 0)) for item in evidence[:4]]
    for thread in threads:
        thread.start()
    assert asked.wait(10)
    wait_until(lambda: not store._waiting._value)
    for item in evidence[4:]:
        with pytest.raises(UnavailableError) as refused:
            store.refresh(item, 0)
        assert refused.value.error_code == "unavailable.collateral.busy"
    answered.set()
    for thread in threads:
        thread.join()
    store.refresh(evidence[4], 0)
    assert not store.is_due(evidence[4], 0)


def test_a_clock_that_goes_back_stops_the_broker(world: World) -> None:
    """A broker whose clock is behind its own log decides nothing until the operator accepts the clock; a small step back is no matter."""
    world.enrol()
    world.clock.now -= CLOCK_SKEW_SECONDS
    job = world.analyst.sign(world.job(created=int(world.clock.now)))
    world.broker.submit(job)
    world.clock.now -= 3600
    before = len(world.events())
    with pytest.raises(UnavailableError) as refused:
        world.broker.submit(job)
    assert refused.value.error_code == "unavailable.clock"
    assert len(world.events()) == before
    world.broker.accept_clock()
    world.broker.submit(job)


def test_addresses_that_are_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood from many addresses is not remembered for longer than its windows, and a count that goes on is."""
    monkeypatch.setattr("securemllib.broker.rates._SWEEP_SECONDS", 0.0)
    rates = Rates(address="1000/second", refusals="1000/second", identity="5/hour")
    rates.check_identity("analyst")
    for number in range(200):
        rates.check_address(f"10.0.{number}.1")
    assert len(rates._storage.expirations) >= 200
    # A sliding window of a second looks back on the one before.
    wait_until(lambda: not (rates._sweep() or len(rates._storage.expirations) > 1))
    assert len(rates._storage.expirations) == 1
