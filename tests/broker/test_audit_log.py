"""Does the audit log show that it was changed?"""

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from broker_world import Enclave, Owner, World, apply_model, job_on, make_world, release_of, rule_for
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from securemllib.broker.audit_log import AuditHead, Entry, _chain, entries, read_lines, signed_head, verify_log, write_lines
from securemllib.broker.keystore import Keystore
from securemllib.broker.store import Database
from securemllib.crypto.identity import PrivateIdentity
from securemllib.errors import FormatError, FreshnessError, IntegrityError, PolicyError, SecureMLlibError, SignatureError, UnavailableError
from securemllib.wire.enrolment import AuditRequest
from securemllib.wire.plan import Plan
from securemllib.wire.signed import Signed

BROKER = PrivateIdentity.generate("broker")


def a_log(count: int) -> tuple[list[Entry], Signed]:
    """Return a whole log and its signed head."""
    log: list[Entry] = []
    previous = bytes(32)
    for number in range(1, count + 1):
        payload = json.dumps({"sequence": number, "event": "job", "decision": "accepted", "padding": "x" * 300})
        previous = _chain(previous, payload)
        log.append(Entry(number, payload, previous))
    return log, BROKER.sign(AuditHead(broker=BROKER.public.fingerprint, sequence=count, entry=previous))


LOG, HEAD = a_log(8)


def test_a_whole_log_is_verified() -> None:
    """A log that nobody touched passes, as it is and as an export."""
    assert verify_log(LOG, HEAD, BROKER.public).sequence == 8
    assert read_lines(write_lines(LOG, HEAD)) == (LOG, HEAD)


@given(st.integers(0, 7), st.integers(0, 10_000), st.integers(0, 127))
def test_a_changed_entry_is_found(index: int, place: int, character: int) -> None:
    """Whichever character of whichever entry is changed, the log does not pass."""
    entry = LOG[index]
    place %= len(entry.payload)
    changed = entry.payload[:place] + chr(character) + entry.payload[place + 1 :]
    if changed == entry.payload:
        return
    with pytest.raises(IntegrityError):
        verify_log([*LOG[:index], entry._replace(payload=changed), *LOG[index + 1 :]], HEAD, BROKER.public)


@given(st.permutations(range(8)))
def test_entries_in_another_order_are_found(order: list[int]) -> None:
    """Only the written order passes, numbers rewritten or not."""
    if order == sorted(order):
        return
    with pytest.raises(IntegrityError):
        verify_log([LOG[index] for index in order], HEAD, BROKER.public)
    with pytest.raises(IntegrityError):
        verify_log([LOG[index]._replace(sequence=place) for place, index in enumerate(order, 1)], HEAD, BROKER.public)


@given(st.integers(0, 7))
def test_a_cut_log_is_found(length: int) -> None:
    """A log without its end does not fit its head, nor does one without an entry in the middle."""
    with pytest.raises(FreshnessError):
        verify_log(LOG[:length], HEAD, BROKER.public)
    if length < 7:
        with pytest.raises(IntegrityError):
            verify_log([*LOG[:length], *LOG[length + 1 :]], HEAD, BROKER.public)


@pytest.mark.parametrize("index", range(7))
def test_a_changed_entry_with_a_digest_that_fits_is_found(index: int) -> None:
    """Who rewrites one entry, and computes its digest as the broker does, breaks the chain at the next."""
    payload = LOG[index].payload.replace("accepted", "refused")
    changed = Entry(index + 1, payload, _chain(LOG[index - 1].digest if index else bytes(32), payload))
    with pytest.raises(IntegrityError, match=f"Entry {index + 2} "):
        verify_log([*LOG[:index], changed, *LOG[index + 1 :]], HEAD, BROKER.public)


def test_a_rewritten_log_needs_the_brokers_signature() -> None:
    """Who rewrites the whole chain still cannot sign its head."""
    log, head = a_log(3)
    other = PrivateIdentity.generate("other")
    forged = other.sign(AuditHead(broker=BROKER.public.fingerprint, sequence=3, entry=log[-1].digest))
    with pytest.raises(SignatureError):
        verify_log(log, forged, BROKER.public)
    with pytest.raises(SignatureError):
        verify_log(log, replace(forged, signer=BROKER.public.fingerprint), BROKER.public)
    verify_log(log, head, BROKER.public)


@pytest.mark.parametrize("lines", [[], ["{}"], ["no json"], ['{"head": "00"}'], ["[]"], ['{"sequence": 1, "payload": "", "digest": "x"}']])
def test_an_export_that_is_none_is_refused(lines: list[str]) -> None:
    """Lines that are no log, and a log without a head, are format errors."""
    with pytest.raises(FormatError):
        read_lines(lines)


def test_a_long_log_is_verified_from_its_export() -> None:
    """Twenty thousand entries pass, and a character that is changed in the middle of their export is found."""
    lines = list(write_lines(*a_log(20_000)))
    assert verify_log(*read_lines(lines), BROKER.public).sequence == 20_000
    lines[10_000] = lines[10_000].replace("accepted", "accepteD", 1)
    with pytest.raises(IntegrityError, match="10001"):
        verify_log(*read_lines(lines), BROKER.public)


def test_every_decision_is_in_the_log(world: World) -> None:
    """Accepted and refused decisions are recorded, a refusal with its explanation, and the database's log is whole."""
    world.enrol()
    world.submit()
    with pytest.raises(PolicyError):
        world.submit(inputs={"features": "ssn"})
    found = [(entry["event"], entry["decision"]) for entry in world.events()]
    assert found == [("trust-owner", "accepted"), ("enrol", "accepted"), ("policy", "accepted"), ("job", "accepted"), ("job", "refused")]
    refused = world.events()[-1]
    assert refused["code"] == "refused.policy.columns"
    assert any("'ssn'" in line for line in refused["explanation"])
    with world.broker.custody().look() as transaction:
        head = signed_head(transaction.session)
        assert head is not None
        assert verify_log(entries(transaction.session), head, world.broker.identity).sequence == 5


def of_another_tee(world: World, job_id: str) -> None:
    """Answer a challenge with evidence of another TEE than was announced."""
    session, challenge = world.broker.challenge(job_id, "sgx")
    world.broker.admit(session, Enclave().evidence(challenge), job_id)


def with_another_token(world: World, job_id: str) -> None:
    """Ask for a grant with a token that is none."""
    session, _ = world.broker.challenge(job_id, "insecure")
    world.broker.grant(session, "no token", job_id)


def finished_meanwhile(world: World, job_id: str) -> None:
    """Answer a challenge of a job that has its model since."""
    session, challenge = world.broker.challenge(job_id, "insecure")
    world.finish(world.granted(job_id))
    world.broker.admit(session, Enclave().evidence(challenge), job_id)


def revoked_meanwhile(world: World, job_id: str) -> None:
    """Answer a challenge of an analyst who was revoked since."""
    session, challenge = world.broker.challenge(job_id, "insecure")
    world.broker.revoke_by_operator(world.analyst.public.fingerprint)
    world.broker.admit(session, Enclave().evidence(challenge), job_id)


def revoked_before(world: World, job_id: str) -> None:
    """Submit a job of an analyst who was revoked."""
    world.broker.revoke_by_operator(world.analyst.public.fingerprint)
    world.submit()


def frozen_before(world: World, job_id: str) -> None:
    """Submit a job on a dataset that waits for its owner."""
    world.broker.recover([])
    world.submit()


def signed_long_ago(world: World, job_id: str) -> None:
    """Submit a job that was signed long ago."""
    world.submit(created=1)


def released_again(world: World, job_id: str) -> None:
    """Ask twice for one release."""
    signed = world.analyst.sign(release_of(world.finish(world.granted(job_id)), world.analyst.public, world.broker.identity))
    world.broker.release(signed)
    world.broker.release(signed)


REFUSED: dict[Callable[[World, str], object], str] = {
    of_another_tee: "grant",
    with_another_token: "grant",
    finished_meanwhile: "grant",
    revoked_meanwhile: "grant",
    revoked_before: "job",
    frozen_before: "job",
    signed_long_ago: "job",
    released_again: "release",
}


@pytest.mark.parametrize(("ask", "event"), REFUSED.items(), ids=lambda value: getattr(value, "__name__", value))
def test_owners_see_what_is_refused_on_their_datasets(world: World, ask: Callable[[World, str], object], event: str) -> None:
    """A refusal names the job's datasets whatever its reason is, as an acceptance does; a dataset that nobody enrolled is not named."""
    world.enrol()
    job_id = world.submit()
    assert world.events()[-1]["datasets"] == [world.owner.dataset_id]
    with pytest.raises(SecureMLlibError):
        ask(world, job_id)
    entry = world.events()[-1]
    assert (entry["event"], entry["decision"], entry["datasets"]) == (event, "refused", [world.owner.dataset_id])
    nowhere = replace(world.manifest.reference, dataset_id="f" * 32)
    with pytest.raises(SecureMLlibError):
        world.broker.submit(world.analyst.sign(replace(world.job(), plan=Plan(source=nowhere, steps=()))))
    assert world.events()[-1]["datasets"] == []


def test_an_owner_is_not_told_what_anothers_policy_says(world: World) -> None:
    """Of a job on data of two owners each is told the own rules and enclaves, and why the own policy refused; nothing of the other's."""
    eve = PrivateIdentity.generate("eve")
    world.enrol(rule_for(world.analyst.public, name="first-study"), rule_for(eve.public, name="second-study", maximum_runs=1))
    second = Owner(broker=world.broker.identity, dataset_id="f" * 32, identity=PrivateIdentity.generate("second"))
    manifest = second.manifest()
    world.broker.trust_owner(second.identity.public)
    world.broker.enrol(second.dataset_id, second.enrolment(manifest))
    world.broker.set_policy(second.dataset_id, second.policy(rule_for(eve.public, name="hidden-rule", maximum_runs=2)))
    model = world.trained()

    def submit(analyst: PrivateIdentity) -> str:
        plan = Plan(source=manifest.reference, steps=(apply_model(model),))
        return world.broker.submit(analyst.sign(job_on(plan, analyst.public, world.broker.identity)))

    def told(owner: PrivateIdentity) -> list[dict[str, Any]]:
        request = AuditRequest(owner=owner.public, broker=world.broker.identity.fingerprint, created=int(world.clock.now))
        return world.broker.audit(owner.sign(request))[0]

    world.granted(submit(eve))
    for analyst in (eve, world.analyst):
        with pytest.raises(PolicyError):
            submit(analyst)
    mine, theirs = told(world.owner.identity), told(second.identity)
    assert [entry["event"] for entry in theirs] == ["enrol", "policy", "job", "attest", "grant", "job", "job"]
    assert [entry["sequence"] for entry in mine][-5:] == [entry["sequence"] for entry in theirs][-5:]
    assert "hidden-rule" not in json.dumps(mine)
    assert "study" not in json.dumps(theirs)
    assert [entry["rules"] for entry in (mine[-5], theirs[-5])] == [{world.owner.dataset_id: "second-study"}, {"f" * 32: "hidden-rule"}]
    assert [list(entry["enclaves"]) for entry in (mine[-4], theirs[-4])] == [[world.owner.dataset_id], ["f" * 32]]
    assert "second-study" in mine[-2]["reason"] + "".join(mine[-2]["explanation"])
    assert "hidden-rule" in "".join(theirs[-1]["explanation"])
    for entry in (theirs[-2], mine[-1]):
        assert entry["code"].startswith("refused.policy.")
        assert not {"reason", "explanation"} & entry.keys()


def test_a_changed_database_is_found(world: World) -> None:
    """An entry that somebody rewrites in the database, with a fitting digest of its own, breaks the chain."""
    world.enrol()
    with world.broker.custody().look() as transaction:
        session = transaction.session
        row = next(iter(entries(session)))
        payload = row.payload.replace("accepted", "refused")
        session.execute(
            text("UPDATE audit SET payload = :payload, digest = :digest WHERE sequence = 1"),
            {"payload": payload, "digest": sha256(payload.encode()).digest()},
        )
        head = signed_head(session)
        assert head is not None
        with pytest.raises(IntegrityError, match="Entry 1"):
            verify_log(entries(session), head, world.broker.identity)


def test_an_auditors_database_is_not_written_to(world: World) -> None:
    """Who opens a broker's database to read it cannot change it by mistake, or by a flaw in reading."""
    world.enrol()
    with closing(Database(world.url)) as database:
        with database.transaction() as session:
            before = len(list(entries(session)))
        with pytest.raises(UnavailableError), database.transaction() as session:
            session.execute(text("DELETE FROM audit"))
        with database.transaction() as session:
            assert len(list(entries(session))) == before > 0


def test_an_older_database_is_refused(tmp_path: Path, keystore: Keystore) -> None:
    """A broker starts on the newest database, and refuses the copy that it made before its last decision."""
    url = f"sqlite:///{tmp_path / 'broker.db'}"
    world = make_world(tmp_path, keystore, url)
    world.enrol()
    world.broker.close()
    shutil.copy(tmp_path / "broker.db", tmp_path / "old.db")
    again = make_world(tmp_path, keystore, url)
    again.broker.trust_owner(world.analyst.public)
    again.broker.close()
    make_world(tmp_path, keystore, url).broker.close()
    shutil.copy(tmp_path / "old.db", tmp_path / "broker.db")
    with pytest.raises(FreshnessError, match="older"):
        make_world(tmp_path, keystore, url)
