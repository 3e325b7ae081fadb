"""Does the host end with a clear error, and nothing half-done, when files, processes or settings are wrong?"""

import re
import shutil
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from securemllib.errors import (
    AttestationError,
    CapacityError,
    ConnectionLostError,
    DataError,
    FormatError,
    FreshnessError,
    IntegrityError,
    PolicyError,
    UnavailableError,
    UsageError,
    error_from_code,
)
from securemllib.ml.classification import LogisticRegression
from securemllib.ml.feature import VectorAssembler
from securemllib.spark import SecureSession, failures
from securemllib.spark.agent_client import AgentClient
from securemllib.spark.broker_client import BrokerAddress, BrokerClient
from securemllib.spark.failures import failure, is_passing
from securemllib.spark.functions import col
from securemllib.spark.settings import Settings, require_known
from securemllib.spark.storage import Folder

PARAMS = {"labelCol": "ill", "maxIter": 5}


def fit(session, path):
    """Train on the dataset at a path."""
    return LogisticRegression(**PARAMS).fit(VectorAssembler(inputCols=["age", "dose"], outputCol="features").transform(session.read(path)))


@pytest.fixture
def copy(deployment, table, tmp_path, request):
    """A dataset of its own, whose files a test may damage."""
    return Path(deployment.dataset(table, request.node.name.replace("[", "-").replace("]", ""), rows_per_part=120))


def flip(path):
    """Change a bit of every hundredth byte: an enclave reads no column that the job does not need."""
    data = bytearray(path.read_bytes())
    for position in range(0, len(data), 100):
        data[position] ^= 1
    path.write_bytes(data)


def test_an_intact_copy_trains(copy, session):
    """The twin of the refusals below: the same files, untouched, train."""
    assert fit(session, str(copy)).hasSummary


def test_a_tampered_part_is_refused(copy, session):
    """Flipped bits in a part end the fit with an integrity error that tells what to do."""
    flip(sorted(copy.glob("*.parquet"))[3])
    with pytest.raises(IntegrityError) as caught:
        fit(session, str(copy))
    assert caught.value.next_step


def test_swapped_parts_are_refused(copy, session):
    """Two parts under each other's names are refused."""
    first, second = sorted(copy.glob("*.parquet"))[:2]
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)
    with pytest.raises(IntegrityError):
        fit(session, str(copy))


def test_a_missing_part_is_named(copy, session):
    """A missing part ends the fit with the file's name, and not after endless tries."""
    part = sorted(copy.glob("*.parquet"))[2]
    part.unlink()
    with pytest.raises(UnavailableError, match=part.name) as caught:
        fit(session, str(copy))
    assert caught.value.error_code == "unavailable.storage"


def test_a_manifest_that_is_none_is_refused(copy, session, tmp_path):
    """A folder without a manifest, and a manifest of other bytes, are refused when they are read."""
    with pytest.raises(UsageError, match="manifest") as refused:
        session.read(str(tmp_path))
    assert refused.value.error_code == "usage.no_dataset"
    (copy / "manifest.sml").write_bytes(b"no manifest")
    with pytest.raises(FormatError):
        session.read(str(copy))


def test_a_changed_manifest_is_refused(copy, deployment, session, frame):
    """A manifest that is another dataset's does not open these parts."""
    for file in copy.glob("*.parquet"):
        shutil.copy(file, copy.parent / f"{copy.name}.kept")
    other = Path(frame.source.folder.root)
    shutil.copy(other / "manifest.sml", copy / "manifest.sml")
    # Rows that an enclave holds need no parts, so this plan is nobody else's.
    rows = session.read(str(copy)).filter(col("age") > -0.12345)
    with pytest.raises(IntegrityError):
        LogisticRegression(**PARAMS).fit(VectorAssembler(inputCols=["age", "dose"], outputCol="features").transform(rows))


def test_a_measurement_that_the_policy_does_not_name_is_refused(copy, deployment, session):
    """An enclave whose measurement the owner does not name gets no keys, and the error says so."""
    dataset = session.read(str(copy)).source.manifest.dataset_id
    deployment.allow(dataset, measurement=bytes(32))
    with pytest.raises(AttestationError) as caught:
        fit(session, str(copy))
    assert caught.value.error_code.startswith("refused.attestation")


def test_insecure_evidence_needs_the_owners_word(copy, deployment, session):
    """An owner who does not allow insecure evidence gives no keys to an enclave without a TEE."""
    deployment.allow(session.read(str(copy)).source.manifest.dataset_id, allow_insecure=False)
    with pytest.raises(AttestationError):
        fit(session, str(copy))


def test_an_analyst_whom_no_rule_names_is_refused(copy, deployment, session):
    """A policy for another analyst refuses the job before anything runs."""
    deployment.allow(session.read(str(copy)).source.manifest.dataset_id, analysts=("b" * 52,))
    with pytest.raises(PolicyError):
        fit(session, str(copy))


def test_a_part_larger_than_the_enclaves_memory_is_refused(copy, deployment, spark, settings, tmp_path):
    """A part over the memory bound of an operator's enclave ends the fit with the bound's setting."""
    import subprocess
    import sys

    process = subprocess.Popen(
        [sys.executable, "-I", "-m", "securemllib.enclave", "--memory", "3000", "--idle", "30"], stdout=subprocess.PIPE
    )
    try:
        address = process.stdout.readline().decode().split()[1]
        (tmp_path / "address").write_text(address)
        session = SecureSession(spark, deployment.url, {**settings, "spark.securemllib.enclave.address": str(tmp_path / "address")})
        with pytest.raises(CapacityError, match="memory"):
            fit(session, str(copy))
        session.stop()
    finally:
        process.stdout.close()
        process.kill()
        process.wait()


def test_an_unreachable_broker_is_waited_for_with_a_bound():
    """A broker that does not answer is waited for as long as the setting says, then named."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(UnavailableError, match="did not answer") as caught:
        BrokerClient(BrokerAddress(url=f"http://127.0.0.1:{port}", wait=1.0)).identity()
    assert time.monotonic() - start < 5
    assert caught.value.error_code == "unavailable.broker"


def test_a_broker_that_comes_back_is_found(deployment):
    """A request goes on when the broker answers within the bound."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    answer = deployment.broker.identity.to_bytes()
    server = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            from base64 import b64encode

            body = b'{"identity": "%s"}' % b64encode(answer)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            """Say nothing."""

    def come_back():
        time.sleep(0.5)
        server.append(HTTPServer(("127.0.0.1", port), Handler))
        server[0].handle_request()
        server[0].server_close()

    thread = threading.Thread(target=come_back)
    thread.start()
    client = BrokerClient(BrokerAddress(url=f"http://127.0.0.1:{port}", wait=10.0))
    assert client.identity() == deployment.broker.identity
    thread.join()


def test_no_agent_is_an_error_with_a_way_out(tmp_path, monkeypatch):
    """Where no agent answers and none can be started, the error says how to start one."""
    monkeypatch.setenv("SECUREMLLIB_HOME", str(tmp_path / "none"))
    with pytest.raises(UnavailableError, match="agent"):
        AgentClient(tmp_path / "no.sock")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dtype", "float16"),
        ("mode", "clear"),
        ("ports", "9-3"),
        ("enclave.memory", "much"),
        ("barrier", "yes"),
        ("checkpoint.interval", "0"),
    ],
)
def test_wrong_settings_are_refused(key, value):
    """A setting outside of its domain is refused with its name or its text, and the twin without it is read."""
    assert Settings.read({}.get).dtype == "float32"
    with pytest.raises(UsageError):
        Settings.read({f"spark.securemllib.{key}": value}.get)


def test_settings_that_do_not_exist_are_refused():
    """A mistyped setting is refused with the one that was meant, and settings of others are left alone."""
    require_known(["spark.securemllib.mode", "spark.securemllib.enclave.memory", "spark.sql.modus", "spark.securemllibs.modus"])
    with pytest.raises(UsageError, match=r"spark\.securemllib\.modus") as refused:
        require_known(["spark.master", "spark.securemllib.modus"])
    assert "spark.securemllib.mode." in str(refused.value.next_step)


def test_settings_are_read():
    """Sizes, ranges and booleans are read as people write them."""
    given = {"enclave.memory": "2g", "ports": "40000-40010", "barrier": "false", "broker.url": "https://b:1", "storage": "/x"}
    found = Settings.read({f"spark.securemllib.{key}": value for key, value in given.items()}.get)
    assert (found.enclave.memory, found.ports, found.barrier, found.broker_url) == (2 * 2**30, (40000, 40010), False, "https://b:1")


def test_folders_are_written_whole(tmp_path):
    """A written file is read back, through a path, a file URI or another file system; a missing one is an error with its name."""
    for root in (str(tmp_path / "a"), (tmp_path / "b").as_uri()):
        folder = Folder.of(root).child("inner")
        folder.write("state.sml", b"one")
        folder.write("state.sml", b"two")
        assert folder.read("state.sml") == b"two"
        assert folder.exists("state.sml")
        with pytest.raises(UnavailableError, match="absent"):
            folder.read("absent.sml")
    assert [file.name for file in (tmp_path / "a" / "inner").iterdir()] == ["state.sml"]


def test_codes_become_errors_with_words():
    """A code that crosses from an enclave becomes the error of its class with a reason and a next step."""
    for code, kind in (("data.null", DataError), ("integrity.unseal.part", IntegrityError), ("unavailable.capacity.part", CapacityError)):
        error = failure(code)
        assert isinstance(error, kind)
        assert error.error_code == code
        assert error.reason
        assert error.next_step


# Codes of an owner's or an operator's own files, and what no call through the host can bring about.
NOT_OF_JOBS = {"integrity.unseal.passphrase", "usage.missing_file", "usage.passphrase", "usage.permissions"}


def test_every_code_of_an_enclave_has_words_of_its_own():
    """Only a code leaves an enclave, so each that can be raised there has a reason on the host, not that of a whole class of errors."""
    source = Path(failures.__file__).resolve().parents[1]
    files = [file for folder in ("algorithms", "enclave", "wire", "crypto") for file in (source / folder).rglob("*.py")]
    raised = {code for file in files if "encodings" not in file.parts for code in re.findall(r'code="([a-z_.]+)"', file.read_text())}
    assert {"data.null", "data.singular", "unavailable.capacity.memory"} < raised
    general = {failure(code).reason for code in ("data", "usage", "unavailable.capacity", "data.unheard_of", "other")}
    for code in raised - NOT_OF_JOBS:
        assert failure(code).reason not in general, code


def test_only_lost_processes_are_worth_another_try():
    """Spark runs a stage again for lost processes, never for refusals, wrong data or bounds."""
    assert is_passing(ConnectionLostError("gone"))
    assert is_passing(error_from_code("unavailable.session", "gone"))
    for error in (DataError("x"), PolicyError("x"), FreshnessError("x"), CapacityError("x"), error_from_code("unavailable.broker", "x")):
        assert not is_passing(error)
