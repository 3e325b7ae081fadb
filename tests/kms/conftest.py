"""One service of each kind for all tests of this folder, and an environment that knows the one under test."""

import os
from collections.abc import Iterator

import pytest
import structlog

from tests.kms.services import Service, aws, openbao, softhsm, softhsm_module


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    """Undo what a command configured: its standard error is gone after it."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def vault_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A real OpenBao server."""
    with openbao(tmp_path_factory.mktemp("openbao")) as service:
        yield service


@pytest.fixture(scope="session")
def awskms_service() -> Iterator[Service]:
    """AWS KMS, played by moto."""
    with aws() as service:
        yield service


@pytest.fixture(scope="session")
def pkcs11_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A SoftHSM token."""
    module = softhsm_module()
    if module is None:
        pytest.skip("no SoftHSM here; install the distribution's `softhsm2` to run this")
    with softhsm(tmp_path_factory.mktemp("softhsm"), module) as service:
        yield service


@pytest.fixture(scope="session")
def file_service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """A folder for key files."""
    return Service("file", f"file://{tmp_path_factory.mktemp('keys')}/{{}}", {})


@pytest.fixture(params=["file", "vault", "awskms", "pkcs11"])
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Service:
    """The service under test, with its credentials in the environment."""
    found: Service = request.getfixturevalue(f"{request.param}_service")
    use(monkeypatch, found)
    return found


def use(monkeypatch: pytest.MonkeyPatch, service: Service) -> None:
    """Give this process what the service needs and nothing of another."""
    for name in os.environ:
        if name.startswith(("BAO_", "VAULT_", "AWS_", "SECUREMLLIB_")):
            monkeypatch.delenv(name)
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
