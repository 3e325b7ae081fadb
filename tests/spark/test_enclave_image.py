"""Does an executor start the enclave that the session asks for, and no other?"""

import pytest

from securemllib.errors import UnavailableError
from securemllib.spark.node import _command, _reach
from securemllib.spark.settings import EnclaveSettings, Settings


@pytest.fixture
def gramine(tmp_path, monkeypatch):
    """Return the path of a program called gramine-sgx, alone on the PATH."""
    program = tmp_path / "bin" / "gramine-sgx"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    return program


def test_the_setting_names_the_image():
    """`spark.securemllib.enclave.image` is the folder of the image, and without it there is none."""
    given = {"spark.securemllib.enclave.image": "/opt/enclave"}
    assert Settings.read(given.get).enclave.image == "/opt/enclave"
    assert Settings.read({}.get).enclave.image == ""


def test_a_signed_image_is_started_by_gramine(tmp_path, gramine):
    """With an image the command is Gramine's, with the image's name; the session hands the enclave no other argument."""
    (tmp_path / "enclave.sig").write_bytes(b"")
    assert _command(EnclaveSettings(image=str(tmp_path))) == [str(gramine), "enclave"]
    assert "securemllib.enclave" in _command(EnclaveSettings())


def test_an_unsigned_image_is_no_reason_to_start_without_a_tee(tmp_path, gramine):
    """An image that is not signed, or not there, ends the task; a process without a TEE never takes its place."""
    with pytest.raises(UnavailableError) as refused:
        _reach(tmp_path, EnclaveSettings(image=str(tmp_path)), "https://broker.test")
    assert refused.value.error_code == "unavailable.enclave.image"


def test_without_gramine_nothing_starts_in_its_place(tmp_path, monkeypatch):
    """Where Gramine is missing the task ends with its name; a process without a TEE never takes its place."""
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "enclave.sig").write_bytes(b"")
    with pytest.raises(UnavailableError) as refused:
        _reach(tmp_path, EnclaveSettings(image=str(tmp_path)), "https://broker.test")
    assert refused.value.error_code == "unavailable.enclave.gramine"
