"""Does the attester in a Gramine enclave bind its keys, through files that behave like Gramine's? No SGX hardware stands behind them."""

import io
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from securemllib.attestation.dcap import Endorsements
from securemllib.attestation.gramine import GramineAttester, is_available
from securemllib.attestation.insecure import InsecureAttester
from securemllib.attestation.verifier import appraise
from securemllib.crypto.identity import PrivateIdentity
from securemllib.enclave.server import choose_attester
from securemllib.enclave.service import Enclave
from securemllib.errors import AttestationError
from securemllib.wire.attestation import Challenge, Evidence
from securemllib.wire.policy import AppraisalPolicy
from securemllib.wire.task import Attest
from tests.attestation.pki import NOW, SgxBody, TestRoot

ROOT = TestRoot()
BODY = SgxBody()
POLICY = AppraisalPolicy(
    allow_insecure=True, tees=("sgx",), measurements=(BODY.measurement,), minimum_security_version=0, insecure_roots=(ROOT.digest,)
)
ENDORSEMENTS = Endorsements(collateral=lambda model: ROOT.collateral(model.tee), now=NOW)


class PseudoFile:
    """A file of Gramine's: what is written is kept at once, and what is read is made for the report data that was written last."""

    def __init__(self, register, name):
        self.register, self.name = register, name

    def open(self, mode, buffering=-1):
        if (self.name, mode) == ("user_report_data", "wb"):
            return Writer(self.register)
        assert (self.name, mode) == ("quote", "rb")
        # Long enough for another thread to write in between, if it may.
        time.sleep(0.001)
        return io.BytesIO(ROOT.sgx_quote(replace(BODY, report_data=self.register["report_data"])))


class Writer(io.RawIOBase):
    """Takes each write for the whole report data, as Gramine does."""

    def __init__(self, register):
        self.register = register

    def writable(self):
        return True

    def write(self, data):
        self.register["report_data"] = bytes(data).ljust(64, b"\0")
        return len(data)


class Directory:
    """Like ``/dev/attestation``: its files stand for one register of the process."""

    def __init__(self):
        self.register = {"report_data": bytes(64)}

    def __truediv__(self, name):
        return PseudoFile(self.register, name)


@pytest.fixture
def directory():
    """Gramine's pseudo files."""
    return Directory()


def challenge(number=0):
    """Return a challenge of a broker."""
    return Challenge(nonce=number.to_bytes(32, "big"), broker=PrivateIdentity.generate("broker").public, job_id=f"job {number}")


def test_an_enclave_attests_by_gramine(directory):
    """The evidence of an enclave whose attester is Gramine's is accepted for its challenge, and for no other."""
    enclave, asked = Enclave(GramineAttester(directory), memory_limit=1), challenge()
    evidence = Evidence.from_bytes(enclave.attest(Attest(challenge=asked)).evidence)
    assert evidence.tee == "sgx"
    assert appraise(evidence, challenge=asked, policy=POLICY, endorsements=ENDORSEMENTS).measurement == BODY.measurement
    with pytest.raises(AttestationError, match="another challenge"):
        appraise(evidence, challenge=challenge(1), policy=POLICY, endorsements=ENDORSEMENTS)


def test_threads_do_not_mix_their_report_data(directory):
    """Enclave threads that attest at once each get a quote over their own report data."""
    attester = GramineAttester(directory)
    wanted = [bytes([number]) * 64 for number in range(16)]
    with ThreadPoolExecutor(8) as threads:
        quotes = list(threads.map(attester.report, wanted))
    # The report data are the last 64 of the 432 signed bytes.
    assert [quote[368:432] for quote in quotes] == wanted


@pytest.mark.parametrize(("kind", "available"), [(b"dcap", True), (b"dcap\n", True), (b"none", False), (b"epid", False), (b"", False)])
def test_only_dcap_is_used(tmp_path, kind, available):
    """Gramine without DCAP attestation, like `gramine-direct`, and machines without Gramine have the insecure attester."""
    assert not is_available(tmp_path / "nothing")
    (tmp_path / "attestation_type").write_bytes(kind)
    assert is_available(tmp_path) is available
    expected = GramineAttester if available else InsecureAttester
    assert isinstance(choose_attester((), tmp_path), expected)


def test_a_node_without_a_quote_provider_is_told(tmp_path):
    """An attester that gets no quote, or an empty one, says so and gives no evidence."""
    with pytest.raises(AttestationError, match="no quote"):
        GramineAttester(tmp_path).report(bytes(64))
    (tmp_path / "quote").write_bytes(b"")
    with pytest.raises(AttestationError, match="empty"):
        GramineAttester(tmp_path).report(bytes(64))
    (tmp_path / "quote").write_bytes(b"quote")
    assert GramineAttester(tmp_path).report(bytes(64)) == b"quote"


@pytest.mark.parametrize("length", [0, 32, 63, 65])
def test_report_data_has_64_bytes(tmp_path, length):
    """Report data of another length is refused before Gramine pads or cuts it."""
    (tmp_path / "quote").write_bytes(b"quote")
    with pytest.raises(AttestationError, match="64 bytes"):
        GramineAttester(tmp_path).report(bytes(length))
