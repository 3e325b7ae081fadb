"""Does the broker keep its promises on SQLite and on a real PostgreSQL server alike?"""

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from broker_world import Enclave, World, job_on, make_world, rule_for

from securemllib.broker.audit_log import entries, signed_head, verify_log
from securemllib.broker.store import Database, Store
from securemllib.crypto.identity import PrivateIdentity
from securemllib.crypto.keys import DataKey
from securemllib.errors import FreshnessError, PolicyError, UnavailableError, UnsealError, UsageError
from securemllib.wire.plan import Plan


def test_a_job_survives_a_restart(stored: World, tmp_path: Path) -> None:
    """Owners, datasets, policies, jobs, keys, heads, epochs and runs are those from before the broker was started again."""
    stored.enrol(rule_for(stored.analyst.public, maximum_runs=2))
    model = stored.trained()
    job_id = stored.submit()
    before = stored.granted(job_id)
    head = before.head(4)
    stored.broker.move_head(job_id, before.update(None, head))
    stored.broker.close()
    again = make_world(tmp_path, stored.keystore, stored.url)
    again.owner, again.analyst, again.manifest = stored.owner, stored.analyst, stored.manifest
    after = again.granted(job_id)
    assert before.grant is not None
    assert after.grant is not None
    assert (after.grant.job_key, after.grant.epoch, after.grant.head) == (before.grant.job_key, 2, head)
    assert after.grant.datasets[0].secret == stored.owner.secret.expose()
    with pytest.raises(FreshnessError):
        again.broker.challenge(model.model_id, "insecure")
    with pytest.raises(PolicyError, match="runs"):
        again.submit()
    again.broker.close()


def test_one_run_is_counted_once(stored: World) -> None:
    """Of six jobs submitted at the same time against two runs, exactly two are accepted."""
    stored.enrol(rule_for(stored.analyst.public, maximum_runs=2))
    jobs = [stored.analyst.sign(stored.job()) for _ in range(6)]
    outcomes: list[str] = []

    def submit(index: int) -> None:
        try:
            stored.broker.submit(jobs[index])
            outcomes.append("accepted")
        except PolicyError:
            outcomes.append("refused")

    threads = [threading.Thread(target=submit, args=(index,)) for index in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["accepted"] * 2 + ["refused"] * 4


def test_a_move_to_another_rule_is_counted_once(stored: World) -> None:
    """Of six jobs that move to a rule of two runs at the same time, exactly two are granted, however often each asks."""
    stored.enrol(rule_for(stored.analyst.public, name="before"))
    jobs = [stored.submit() for _ in range(6)]
    rule = rule_for(stored.analyst.public, name="after", maximum_runs=2)
    stored.broker.set_policy(stored.owner.dataset_id, stored.owner.policy(rule, serial=2))
    outcomes: list[str] = []

    def ask(job_id: str) -> None:
        try:
            stored.granted(job_id)
            outcomes.append(job_id)
        except PolicyError:
            outcomes.append("refused")

    threads = [threading.Thread(target=ask, args=(job_id,)) for job_id in jobs * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("refused") == 8
    assert sorted(outcomes.count(job_id) for job_id in jobs) == [0, 0, 0, 0, 2, 2]


def test_heads_are_compared_and_swapped(stored: World) -> None:
    """The first update from a head is recorded; a second from the same head is refused, and so is a fenced epoch."""
    stored.enrol()
    job_id = stored.submit()
    older, newer = stored.granted(job_id), stored.granted(job_id)
    stored.broker.move_head(job_id, newer.update(None, newer.head(1)))
    with pytest.raises(FreshnessError):
        stored.broker.move_head(job_id, newer.update(None, newer.head(1, b"x" * 32)))
    with pytest.raises(FreshnessError, match="fenced"):
        stored.broker.move_head(job_id, older.update(newer.head(1), older.head(2)))
    stored.broker.move_head(job_id, newer.update(newer.head(1), newer.head(2)))


def test_a_refused_decision_changes_nothing_else(stored: World) -> None:
    """After a refused grant the epoch is the same, and the log has the refusal and is whole, beside a broker that runs."""
    stored.enrol()
    job_id = stored.submit()
    session, challenge = stored.broker.challenge(job_id, "insecure")
    token = stored.broker.attest(session, Enclave().evidence(challenge))
    stored.broker.set_policy(stored.owner.dataset_id, stored.owner.policy(serial=2))
    with pytest.raises(PolicyError):
        stored.broker.grant(session, token, job_id)
    stored.broker.set_policy(stored.owner.dataset_id, stored.owner.policy(rule_for(stored.analyst.public), serial=3))
    grant = stored.granted(job_id).grant
    assert grant is not None
    assert grant.epoch == 1
    database = Database(stored.url)
    with database.transaction() as session_:
        head = signed_head(session_)
        assert head is not None
        count = verify_log(entries(session_), head, stored.broker.identity).sequence
    database.close()
    assert [event["event"] for event in stored.events()][-4:] == ["grant", "policy", "attest", "grant"]
    assert count == len(stored.events())


def test_strangers_write_small_entries_only(stored: World) -> None:
    """Whatever a stranger's job holds, it is refused as a request, its entry stays small, and the next job is accepted."""
    stored.enrol()
    stranger = PrivateIdentity.generate("stranger")
    source = replace(stored.manifest.reference, dataset_id="x" * 100_000)
    jobs = [
        job_on(stored.plan(), stranger.public, stored.broker.identity, operation="o" * 500_000),
        job_on(Plan(source=source, steps=()), stranger.public, stored.broker.identity),
        job_on(Plan(source=replace(source, dataset_id="zero \0 byte"), steps=()), stranger.public, stored.broker.identity),
    ]
    for job in jobs:
        with pytest.raises((PolicyError, UsageError)):
            stored.broker.submit(stranger.sign(job))
    with pytest.raises(UsageError):
        stored.broker.head("zero \0 byte" + "x" * 5000)
    with pytest.raises(UsageError, match="32 hexadecimal"):
        stored.broker.enrol("x" * 5000, stored.owner.enrolment(stored.manifest))
    assert max(len(json.dumps(event)) for event in stored.events()) < 20_000
    stored.submit()


def test_an_auditor_changes_nothing(stored: World) -> None:
    """A database that is opened to read refuses to write."""
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    stored.enrol()
    database = Database(stored.url)
    with pytest.raises((DBAPIError, UnavailableError)), database.transaction() as session:
        session.execute(text("DELETE FROM audit_subjects"))
    database.close()
    assert len(stored.events()) == 3


def test_a_secret_belongs_to_its_place(tmp_path: Path) -> None:
    """A sealed secret that is copied to another row does not open, nor does any under another store key."""
    url = f"sqlite:///{tmp_path / 'broker.db'}"
    store, other = Store(url, DataKey.generate()), Store(url, DataKey.generate())
    sealed = store.seal(b"secret", "dataset", "a", 1)
    assert store.unseal(sealed, "dataset", "a", 1) == b"secret"
    for opened in (lambda: store.unseal(sealed, "dataset", "b", 1), lambda: other.unseal(sealed, "dataset", "a", 1)):
        with pytest.raises(UnsealError):
            opened()
    store.close()
    other.close()


def test_the_database_file_is_the_brokers_alone(world: World) -> None:
    """Nobody else may read the SQLite file or its journal; databases that are none are refused."""
    world.enrol()
    assert {path.stat().st_mode & 0o777 for path in world.folder.glob("broker.db*")} == {0o600}
    for url in ("sqlite://", "sqlite:///:memory:", "mysql://host/name"):
        with pytest.raises(UsageError):
            Store(url, DataKey.generate())
    with pytest.raises(UsageError, match="no database"):
        Database(f"sqlite:///{world.folder / 'nothing.db'}")
