"""The broker's process: where it listens, TLS, and logs as JSON lines on standard error."""

import datetime
import hashlib
import ipaddress
import logging
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from securemllib.broker.http import create_app
from securemllib.broker.service import Broker
from securemllib.crypto.locked import write_private
from securemllib.errors import UnavailableError, UsageError

__all__ = ["KEEP_ALIVE_SECONDS", "Listening", "certificate_digest", "configure_logs", "make_certificate", "serve"]

_CERTIFICATE_DAYS = 397
# Longer than the pauses of a client that keeps its connection, a gateway included: one that is hung up on while it sends sees an error.
KEEP_ALIVE_SECONDS = 75


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where the broker listens.

    Attributes:
        host: An address of this machine.
        port: A TCP port, 0 for any free one.
        certificate: A PEM file with the TLS certificate chain, None for no TLS.
        key: A PEM file with its key.
        insecure_plaintext: Whether plain HTTP is accepted off loopback. Keys stay wrapped; session cookies, plans and policies do not.
        proxies: Addresses of reverse proxies, or networks of them, whose word is taken for the address of a client.

    Raises:
        UsageError: The broker would answer other machines without TLS, and nobody said so, or a proxy is none.
    """

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None
    insecure_plaintext: bool = False
    proxies: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise UsageError("TLS needs both a certificate and its key.")
        if self.certificate is None and not self.insecure_plaintext and not _is_loopback(self.host):
            raise UsageError(
                f"Without TLS the broker listens on loopback only, not on {self.host}.",
                next_step="Give --tls-cert and --tls-key, or --tls-self-signed, or say --insecure-plaintext.",
                code="usage.plaintext",
            )
        for proxy in self.proxies:
            _check_proxy(proxy)

    @property
    def scheme(self) -> str:
        """``https`` or ``http``."""
        return "http" if self.certificate is None else "https"


def serve(broker: Broker, listening: Listening, announce: Callable[[str], None]) -> None:
    """Answer requests until the process is told to end.

    Args:
        broker: The broker.
        listening: Where.
        announce: Gets the base URL once the port is open.

    Raises:
        UnavailableError: The address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
    try:
        listener = socket.create_server((listening.host, listening.port), family=family)
    except OSError as error:
        raise UnavailableError(
            f"{listening.host} port {listening.port} cannot be listened on: {_cause(error)}.",
            next_step="Stop what listens there, or give another --port or --host.",
            code="unavailable.port",
        ) from error
    # An event loop sets this on sockets that it made itself only; without it an answer may wait 40 ms for an acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(
        create_app(broker),
        ssl_certfile=listening.certificate,
        ssl_keyfile=listening.key,
        log_config=None,
        access_log=False,
        server_header=False,
        # Whoever may name a client's address has as many requests as they like.
        proxy_headers=bool(listening.proxies),
        forwarded_allow_ips=list(listening.proxies),
        lifespan="off",
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    with listener:
        host = f"[{listening.host}]" if family is socket.AF_INET6 else listening.host
        announce(f"{listening.scheme}://{host}:{listener.getsockname()[1]}")
        uvicorn.Server(config).run(sockets=[listener])


def _cause(error: OSError) -> str:
    # A name that does not resolve has numbers of its own.
    return str(error.strerror) if error.errno is None or isinstance(error, socket.gaierror) else os.strerror(error.errno)


def make_certificate(host: str, certificate: Path, key: Path) -> None:
    """Write a fresh self-signed certificate for one host, and its key, which only this user may read."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "SecureMLlib key broker")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=_CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, SHA256())
    )
    write_private(key, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), replace=True)
    certificate.write_bytes(built.public_bytes(Encoding.PEM))


def certificate_digest(certificate: Path) -> str:
    """Return the SHA-256 of a PEM file's first certificate, as clients pin it."""
    loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
    return hashlib.sha256(loaded.public_bytes(Encoding.DER)).hexdigest()


def configure_logs() -> None:
    """Write structured logs as JSON lines to standard error."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )


def _check_proxy(proxy: str) -> None:
    """Raise unless the text is an address or a network: any other word would match nobody, or, as ``*`` does, everybody."""
    try:
        is_some = ipaddress.ip_network(proxy).prefixlen > 0
    except ValueError:
        is_some = False
    if not is_some:
        raise UsageError(
            f"{proxy!r} is no address of a reverse proxy.",
            next_step="Give its IP address, or its network, like 10.0.0.0/24: whoever it is may name the address of a client.",
            code="usage.proxy",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
