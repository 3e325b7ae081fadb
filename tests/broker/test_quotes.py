"""Do SGX enclaves get keys by their quotes, with collateral that the broker fetched, kept and judged by its own clock?"""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote as url_quote
from urllib.parse import urlparse

import pytest
from broker_world import Enclave, World, appraisal, b64, make_world, rule_for, wait_until
from tests.attestation.pki import NOW, SgxBody, State, TestRoot
from typer.testing import CliRunner

from securemllib.attestation.collateral import read_collateral
from securemllib.attestation.dcap import model_of
from securemllib.broker.collateral import REFRESH_SECONDS, RETRY_SECONDS, CollateralStore, fetch_collateral
from securemllib.broker.keystore import Keystore
from securemllib.cli import attest
from securemllib.cli.collateral import read_collateral_file
from securemllib.errors import AttestationError, FormatError, FreshnessError, SecureMLlibError, UnavailableError
from securemllib.wire.attestation import AttestationResult, Challenge, Evidence, report_data

ROOT = TestRoot()
BODY = SgxBody()
DAY = 86_400


class SgxEnclave(Enclave):
    """An enclave with an SGX quote of the test root."""

    def __init__(self, body: SgxBody = BODY) -> None:
        super().__init__()
        self.body = body

    def evidence(self, challenge: Challenge) -> Evidence:
        self.job_id = challenge.job_id
        quote = ROOT.sgx_quote(replace(self.body, report_data=report_data(challenge, self.identity.public)))
        return Evidence(tee="sgx", report=quote, identity=self.identity.public)


def sgx_policy(**changes: Any) -> Any:
    """Return an appraisal policy that accepts the test root's enclave."""
    return appraisal(**{"tees": ("sgx",), "measurements": (BODY.measurement,), "insecure_roots": (ROOT.digest,), **changes})


def admitted(world: World, job_id: str, enclave: Enclave | None = None) -> Enclave:
    """Return an enclave that answered a challenge and installed its grant."""
    enclave = enclave or SgxEnclave()
    session, challenge = world.broker.challenge(job_id, "sgx")
    granted, _ = world.broker.admit(session, enclave.evidence(challenge), job_id)
    enclave.install(granted, world.broker.identity)
    return enclave


def refused(world: World, job_id: str, enclave: Enclave | None = None) -> str:
    """Return the code with which an enclave is refused."""
    with pytest.raises(AttestationError) as caught:
        admitted(world, job_id, enclave)
    return caught.value.error_code.removeprefix("refused.attestation.")


class Pccs:
    """Stands for a PCCS: counts what it is asked, and may be away."""

    def __init__(self, state: State | None = None) -> None:
        self.state, self.asked, self.away = state or State(), 0, False

    def __call__(self, address: str, quote: bytes) -> str:
        self.asked += 1
        if self.away:
            raise UnavailableError("The PCCS is away.")
        return ROOT.collateral(model_of(quote).tee, self.state)


@pytest.fixture
def make(tmp_path: Path, keystore: Keystore) -> Iterator[Callable[[CollateralStore], World]]:
    """Return a maker of worlds in which only SGX enclaves of the test root are accepted."""
    made: list[World] = []

    def make_with(store: CollateralStore, **policy: Any) -> World:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        world = make_world(folder, keystore, f"sqlite:///{folder / 'broker.db'}", store)
        made.append(world)
        world.enrol(enclaves=sgx_policy(**policy))
        return world

    yield make_with
    for world in made:
        world.broker.close()


def given(state: State | None = None) -> CollateralStore:
    """Return a store that was handed the test root's collateral."""
    return CollateralStore(given=[read_collateral(ROOT.collateral("sgx", state or State()))])


def test_an_sgx_enclave_gets_the_keys(make) -> None:
    """An enclave whose quote the owner's policy accepts gets the job's grant, in one step and in two; the decision names its TCB."""
    world = make(given())
    enclave = admitted(world, world.submit())
    assert AttestationResult.from_bytes(enclave.grant.result.payload).measurement == BODY.measurement
    job_id, second = world.submit(), SgxEnclave()
    session, challenge = world.broker.challenge(job_id, "sgx")
    token = world.broker.attest(session, second.evidence(challenge))
    second.install(world.broker.grant(session, token, job_id), world.broker.identity)
    entry = next(event for event in world.events() if event["event"] == "grant")
    assert entry["tcb_status"] == ["UpToDate"]
    assert entry["advisories"] == []


def test_a_test_root_is_labelled_insecure(make) -> None:
    """Whoever opens a result of an enclave under another root than Intel's is told that no TEE stands behind it."""
    world = make(given())
    enclave = admitted(world, world.submit())
    assert AttestationResult.from_bytes(enclave.grant.result.payload).tee == "insecure"


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        ({"measurements": (b"\x12" * 32,)}, "measurement"),
        ({"measurements": ()}, "measurement"),
        ({"insecure_roots": ()}, "root"),
        ({"allow_insecure": False}, "insecure"),
        ({"tees": ("tdx",)}, "tee"),
        ({"minimum_security_version": 4}, "security_version"),
        ({"tcb_statuses": ()}, "tcb_status"),
    ],
)
def test_another_policy_gives_no_keys(make, policy: dict[str, Any], code: str) -> None:
    """The same enclave gets nothing where one point of the owner's policy differs, and the audit log holds the refusal."""
    world = make(given(), **policy)
    assert refused(world, world.submit()) == code
    assert world.events()[-1]["code"] == f"refused.attestation.{code}"


def test_the_policy_is_asked_again_when_the_grant_is_fetched(make) -> None:
    """An enclave that was attested gets no grant once the owner's policy no longer accepts its platform."""
    world = make(given(State(status="OutOfDate")), tcb_statuses=("OutOfDate",))
    job_id, enclave = world.submit(), SgxEnclave()
    session, challenge = world.broker.challenge(job_id, "sgx")
    token = world.broker.attest(session, enclave.evidence(challenge))
    stricter = world.owner.policy(rule_for(world.analyst.public), serial=2, enclaves=sgx_policy())
    world.broker.set_policy(world.owner.dataset_id, stricter)
    with pytest.raises(AttestationError) as caught:
        world.broker.grant(session, token, job_id)
    assert caught.value.error_code == "refused.attestation.tcb_status"


def test_without_collateral_nobody_is_accepted(make) -> None:
    """A broker that has no collateral and no PCCS refuses every quote, and says what it lacks."""
    world = make(CollateralStore())
    assert refused(world, world.submit()) == "collateral"


def test_collateral_is_fetched_once(make) -> None:
    """The first quote of a kind of platform fetches its collateral; the following ones do not."""
    pccs = Pccs()
    world = make(CollateralStore(pccs="https://pccs", fetch=pccs))
    job_id = world.submit()
    for _ in range(3):
        admitted(world, job_id)
    assert pccs.asked == 1


def test_the_broker_works_offline_while_its_collateral_is_valid(make) -> None:
    """A PCCS that is away stops nobody before the collateral expires, everybody afterwards, and nobody once it is back."""
    pccs = Pccs(State(issued=NOW - 60))
    world = make(CollateralStore(pccs="https://pccs", fetch=pccs))
    job_id = world.submit()
    admitted(world, job_id)
    pccs.away = True
    world.clock.now = NOW + 29 * DAY
    admitted(world, job_id)
    world.clock.now = NOW + 31 * DAY
    assert refused(world, job_id) == "expired"
    pccs.away, pccs.state = False, State(issued=NOW + 30 * DAY, **dict.fromkeys(UNTIL, NOW + 60 * DAY))
    world.clock.now += RETRY_SECONDS
    admitted(world, job_id)


UNTIL = ("tcb_until", "qe_until", "pck_crl_until", "root_crl_until")


def test_old_collateral_is_refreshed_behind_the_decisions(make) -> None:
    """After a day valid collateral is fetched anew, without anybody waiting; what the new one says counts from then on."""
    pccs = Pccs(State(issued=NOW - 60))
    world = make(CollateralStore(pccs="https://pccs", fetch=pccs))
    job_id = world.submit()
    admitted(world, job_id)
    pccs.state = State(status="OutOfDate", issued=NOW + REFRESH_SECONDS - 60)
    world.clock.now = NOW + REFRESH_SECONDS
    wait_until(lambda: _is_refused(world, job_id))
    assert pccs.asked == 2
    assert refused(world, job_id) == "tcb_status"


def _is_refused(world: World, job_id: str) -> bool:
    try:
        admitted(world, job_id)
    except AttestationError:
        return True
    return False


def test_a_pccs_that_is_away_is_not_asked_at_once_again(make) -> None:
    """A failed fetch is repeated after a while, not with each quote."""
    pccs = Pccs()
    pccs.away = True
    world = make(CollateralStore(pccs="https://pccs", fetch=pccs))
    job_id = world.submit()
    for _ in range(3):
        assert refused(world, job_id) == "collateral"
    assert pccs.asked == 1
    pccs.away = False
    world.clock.now += RETRY_SECONDS
    admitted(world, job_id)


@pytest.mark.parametrize("answer", ["", "{}", "no JSON", "other"])
def test_a_pccs_that_talks_nonsense_changes_nothing(make, answer: str) -> None:
    """An answer that is no collateral, or another platform's, is not kept."""
    text = TestRoot().collateral("sgx", State(fmspc=bytes(6))) if answer == "other" else answer
    world = make(CollateralStore(pccs="https://pccs", fetch=lambda address, quote: text))
    assert refused(world, world.submit()) == "collateral"


def test_older_collateral_does_not_replace_newer() -> None:
    """Collateral that was issued before the held one is not kept: a platform's new weakness cannot be taken back."""
    store = given(State(status="OutOfDate", issued=NOW - 10))
    model = model_of(ROOT.sgx_quote())
    held = store.find(model)
    store.keep(read_collateral(ROOT.collateral("sgx", State(issued=NOW - DAY))))
    assert store.find(model) == held
    store.keep(read_collateral(ROOT.collateral("sgx", State(issued=NOW))))
    assert store.find(model) != held


def test_strangers_do_not_make_the_broker_fetch(make) -> None:
    """Evidence that answers no open challenge is refused before anything is fetched for it."""
    pccs = Pccs()
    world = make(CollateralStore(pccs="https://pccs", fetch=pccs))
    job_id = world.submit()
    session, challenge = world.broker.challenge(job_id, "sgx")
    evidence = SgxEnclave().evidence(challenge)
    with pytest.raises(FreshnessError):
        world.broker.admit("no session", evidence, job_id)
    assert pccs.asked == 0
    world.broker.admit(session, evidence, job_id)
    assert pccs.asked == 1


def test_collateral_survives_a_restart(make, tmp_path: Path) -> None:
    """What one process fetched, the next uses without a PCCS; files that are no collateral are left alone."""
    folder = tmp_path / "collateral"
    world = make(CollateralStore(folder, pccs="https://pccs", fetch=Pccs()))
    admitted(world, world.submit())
    (folder / "broken.json").write_text("{", encoding="utf-8")
    (folder / "binary.json").write_bytes(b"\xff")
    again = make(CollateralStore(folder))
    admitted(again, again.submit())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "../../planted/x"),
        ("id", "sev"),
        ("id", ""),
        ("fmspc", "/../../planted"),
        ("fmspc", "00906ED50000.json"),
        ("fmspc", "0" * 11),
    ],
)
def test_collateral_names_no_file_elsewhere(tmp_path: Path, field: str, value: str) -> None:
    """Collateral for what is no kind of platform is refused before it names a file; genuine collateral lies in its folder, by its kind."""
    text = ROOT.collateral("sgx", State())
    tree = json.loads(text)
    tcb = {**json.loads(tree["tcb_info"]), field: value}
    folder = tmp_path / "broker" / "collateral"
    (tmp_path / "planted").mkdir()
    with pytest.raises(FormatError):
        CollateralStore(folder, given=[read_collateral(json.dumps({**tree, "tcb_info": json.dumps(tcb)}))])
    assert [path.name for path in tmp_path.rglob("*")] == ["planted"]
    found = read_collateral(text)
    CollateralStore(folder, given=[found])
    assert [path.name for path in folder.iterdir()] == [f"sgx-{found.model.fmspc}-{found.model.ca}.json"]


def test_what_collateral_says_of_itself() -> None:
    """Collateral's platform, issue and first expiry are read from it; another kind of text is refused."""
    text = ROOT.collateral("sgx", State(pck_crl_until=NOW + 5 * DAY, issued=NOW - 7))
    found = read_collateral(text)
    assert found.model == model_of(ROOT.sgx_quote())
    assert (found.issued, found.expires) == (NOW - 7, NOW + 5 * DAY)
    assert read_collateral(found.text) == found
    with pytest.raises(FormatError):
        read_collateral(json.dumps({**json.loads(text), "tcb_info": "[]"}))


def test_two_hundred_enclaves_at_once(make) -> None:
    """Two hundred enclaves that attest at the same time all get their keys, by one fetch of collateral."""
    pccs = Pccs()
    world = make(CollateralStore(pccs="https://pccs", fetch=pccs))
    job_id = world.submit()
    failures = []

    def attest(_: int) -> None:
        try:
            admitted(world, job_id)
        except SecureMLlibError as error:
            failures.append(error)

    with ThreadPoolExecutor(40) as threads:
        list(threads.map(attest, range(200)))
    assert failures == []
    assert pccs.asked == 1
    assert len([event for event in world.events() if event["event"] == "grant"]) == 200


@pytest.fixture
def pccs_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that speaks a PCCS's protocol, with the test root's collateral."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    collateral = json.loads(ROOT.collateral("sgx"))
    answers = {
        "/sgx/certification/v4/pckcrl": (
            bytes.fromhex(collateral["pck_crl"]),
            "SGX-PCK-CRL-Issuer-Chain",
            collateral["pck_crl_issuer_chain"],
        ),
        "/sgx/certification/v4/rootcacrl": (collateral["root_ca_crl"].encode(), "X-Nothing", ""),
        "/sgx/certification/v4/tcb": (
            f'{{"tcbInfo":{collateral["tcb_info"]},"signature":"{collateral["tcb_info_signature"]}"}}'.encode(),
            "TCB-Info-Issuer-Chain",
            collateral["tcb_info_issuer_chain"],
        ),
        "/sgx/certification/v4/qe/identity": (
            f'{{"enclaveIdentity":{collateral["qe_identity"]},"signature":"{collateral["qe_identity_signature"]}"}}'.encode(),
            "SGX-Enclave-Identity-Issuer-Chain",
            collateral["qe_identity_issuer_chain"],
        ),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body, header, value = answers.get(urlparse(self.path).path, (b"", "X-Nothing", ""))
            self.send_response(200 if body else 404)
            self.send_header(header, url_quote(value))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_pccs_over_http(make, pccs_server: str) -> None:
    """Collateral that really came over HTTP from a PCCS verifies a quote, and a server that has none is reported as unavailable."""
    world = make(CollateralStore(pccs=pccs_server))
    admitted(world, world.submit())
    with pytest.raises(UnavailableError):
        fetch_collateral(f"{pccs_server}/elsewhere", ROOT.sgx_quote())


def test_collateral_is_fetched_into_a_file(pccs_server: str, tmp_path: Path) -> None:
    """`attest collateral` writes a file for evidence's platform that a broker without a network takes."""
    challenge = Challenge(nonce=bytes(32), broker=Enclave().identity.public, job_id="job")
    parts = {"challenge": challenge, "evidence": SgxEnclave().evidence(challenge)}
    (tmp_path / "evidence.json").write_text(json.dumps({name: b64(part) for name, part in parts.items()}), encoding="utf-8")
    output = tmp_path / "collateral.json"
    result = CliRunner().invoke(attest.app, ["collateral", str(tmp_path / "evidence.json"), str(output), "--pccs", pccs_server])
    assert result.exit_code == 0, result.output
    assert "00112233AABB (platform)" in result.output
    assert CollateralStore(given=[read_collateral_file(output)]).find(model_of(ROOT.sgx_quote())) is not None
