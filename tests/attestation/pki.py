"""A small root PKI in Intel's form, and a platform under it: quotes with chosen claims that the unmodified verifier takes.

The structures are those of Intel's "SGX PCK Certificate and Certificate Revocation List Profile Specification" and of the quote formats in
the "SGX ECDSA Quote Library Reference for DCAP". Only the root differs from Intel's.
"""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

NOW = 1_800_000_000
FMSPC = bytes.fromhex("00112233aabb")
_INTEL = "1.2.840.113741.1.13.1"
_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_DAY = timedelta(days=1)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)


def _tlv(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    length = bytes([len(body)]) if len(body) < 128 else b"\x82" + len(body).to_bytes(2, "big")
    return bytes([tag]) + length + body


def _oid(dotted: str) -> bytes:
    first, second, *rest = (int(part) for part in dotted.split("."))
    encoded = bytearray([40 * first + second])
    for number in rest:
        groups = [number & 127]
        while number := number >> 7:
            groups.append(number & 127 | 128)
        encoded += bytes(reversed(groups))
    return _tlv(6, bytes(encoded))


def _entry(suffix: str, value: bytes) -> bytes:
    return _tlv(0x30, _oid(f"{_INTEL}.{suffix}"), value)


def _sgx_extension(cpu_svn: bytes, pce_svn: int) -> x509.UnrecognizedExtension:
    levels = [_entry(f"2.{index}", _tlv(2, bytes([svn]))) for index, svn in enumerate(cpu_svn, start=1)]
    tcb = _tlv(0x30, *levels, _entry("2.17", _tlv(2, bytes([pce_svn]))), _entry("2.18", _tlv(4, cpu_svn)))
    value = _tlv(
        0x30,
        _entry("1", _tlv(4, bytes(16))),
        _entry("2", tcb),
        _entry("3", _tlv(4, bytes(2))),
        _entry("4", _tlv(4, FMSPC)),
        _entry("5", _tlv(10, b"\0")),
    )
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(_INTEL), value)


def _raw(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@dataclass
class Authority:
    """A key with its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls, name: str, issuer: "Authority | None" = None, *, ca: bool = True, extra: Any = None) -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer = issuer.key if issuer else key
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_time(NOW) - 300 * _DAY)
            .not_valid_after(_time(NOW) + 3000 * _DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if extra is not None:
            builder = builder.add_extension(extra, critical=False)
        return cls(key, builder.sign(signer, SHA256()))

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def crl(self, *revoked: "Authority", until: float) -> bytes:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(_time(min(NOW, until)) - 2 * _DAY)
            .next_update(_time(until))
            .add_extension(x509.CRLNumber(1), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        for found in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(found.certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(_time(NOW) - 3 * _DAY).build())
        return builder.sign(self.key, SHA256()).public_bytes(Encoding.DER)


@dataclass(frozen=True)
class State:
    """What the collateral says of the platform, and until when its pieces are valid."""

    status: str = "UpToDate"
    advisories: tuple[str, ...] = ()
    qe_status: str = "UpToDate"
    tcb_until: float = NOW + 30 * 86400
    qe_until: float = NOW + 30 * 86400
    pck_crl_until: float = NOW + 30 * 86400
    root_crl_until: float = NOW + 30 * 86400
    revoked: str = ""
    fmspc: bytes = FMSPC
    level_svn: int = 5
    issued: float = NOW - 86400


@dataclass(frozen=True)
class SgxBody:
    """An SGX enclave's report."""

    measurement: bytes = b"\x11" * 32
    signer: bytes = b"\x22" * 32
    product_id: int = 7
    security_version: int = 3
    attributes: int = 0b101
    report_data: bytes = bytes(64)

    def encode(self) -> bytes:
        attributes = self.attributes.to_bytes(8, "little") + (0xE7).to_bytes(8, "little")
        head = bytes(16) + bytes(4) + bytes(28) + attributes + self.measurement + bytes(32) + self.signer + bytes(96)
        versions = self.product_id.to_bytes(2, "little") + self.security_version.to_bytes(2, "little")
        return head + versions + bytes(60) + self.report_data


@dataclass(frozen=True)
class TdBody:
    """A trust domain's report, TDX 1.0 or, with version 5, TDX 1.5."""

    registers: dict[str, bytes] = field(default_factory=dict)
    attributes: int = 1 << 28
    svn2: int = 5
    report_data: bytes = bytes(64)

    def encode(self) -> bytes:
        names = ("mr_td", "mr_config_id", "mr_owner", "mr_owner_config", "rt_mr0", "rt_mr1", "rt_mr2", "rt_mr3")
        head = bytes([5, 0]) + bytes([5]) * 14 + bytes(48) + bytes(48) + bytes(8)
        head += self.attributes.to_bytes(8, "little") + self.registers.get("xfam", bytes(8))
        return head + b"".join(self.registers.get(name, bytes(48)) for name in names) + self.report_data

    def encode_15(self) -> bytes:
        return self.encode() + bytes([self.svn2, 0]) + bytes([self.svn2]) * 14 + bytes(48)


class TestRoot:
    """A root, the authorities under it, and one platform."""

    __test__ = False

    def __init__(self) -> None:
        self.root = Authority.make("Intel SGX Root CA")
        self.platform_ca = Authority.make("Intel SGX PCK Platform CA", self.root)
        self.tcb_signing = Authority.make("Intel SGX TCB Signing", self.root, ca=False)
        self.pck = Authority.make("Intel SGX PCK Certificate", self.platform_ca, ca=False, extra=_sgx_extension(bytes([5] * 16), 13))
        self.attestation_key = ec.generate_private_key(ec.SECP256R1())

    @property
    def digest(self) -> bytes:
        """What a policy names."""
        return sha256(self.root.certificate.public_bytes(Encoding.DER)).digest()

    def collateral(self, tee: str = "sgx", state: State = State()) -> str:
        """Return collateral in JSON."""
        revoked = {"": (), "platform": (self.pck,), "authority": (self.platform_ca,), "signing": (self.tcb_signing,)}[state.revoked]
        chain = self.tcb_signing.pem + self.root.pem
        tcb, identity = self._tcb_info(tee, state), self._qe_identity(tee, state)
        return json.dumps(
            {
                "pck_crl_issuer_chain": self.platform_ca.pem + self.root.pem,
                "root_ca_crl": self.root.crl(*(found for found in revoked if found is not self.pck), until=state.root_crl_until).hex(),
                "pck_crl": self.platform_ca.crl(*(found for found in revoked if found is self.pck), until=state.pck_crl_until).hex(),
                "tcb_info_issuer_chain": chain,
                "tcb_info": tcb,
                "tcb_info_signature": _raw(self.tcb_signing.key, tcb.encode()).hex(),
                "qe_identity_issuer_chain": chain,
                "qe_identity": identity,
                "qe_identity_signature": _raw(self.tcb_signing.key, identity.encode()).hex(),
            }
        )

    def sgx_quote(self, body: SgxBody = SgxBody()) -> bytes:
        """Return a version 3 quote."""
        signed = self._header(3, 0) + body.encode()
        authentication = self._signatures(signed) + self._qe(1) + self._chain()
        return signed + len(authentication).to_bytes(4, "little") + authentication

    def tdx_quote(self, body: TdBody | None = None, *, version: int = 4) -> bytes:
        """Return a version 4 or 5 quote."""
        body = body or TdBody()
        encoded = body.encode() if version == 4 else b"\x03\x00" + len(body.encode_15()).to_bytes(4, "little") + body.encode_15()
        signed = self._header(version, 0x81) + encoded
        certified = self._qe(2) + self._chain()
        authentication = self._signatures(signed) + b"\x06\x00" + len(certified).to_bytes(4, "little") + certified
        return signed + len(authentication).to_bytes(4, "little") + authentication

    def _header(self, version: int, tee: int) -> bytes:
        return version.to_bytes(2, "little") + b"\x02\0" + tee.to_bytes(4, "little") + bytes(4) + _VENDOR + bytes(20)

    def _signatures(self, signed: bytes) -> bytes:
        return _raw(self.attestation_key, signed) + self._attestation_point()

    def _attestation_point(self) -> bytes:
        return self.attestation_key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]

    def _qe(self, product: int) -> bytes:
        bound = sha256(self._attestation_point() + bytes(32)).digest() + bytes(32)
        report = SgxBody(signer=b"\x33" * 32, product_id=product, security_version=8, attributes=0b10101, report_data=bound).encode()
        return report + _raw(self.pck.key, report) + (32).to_bytes(2, "little") + bytes(32)

    def _chain(self) -> bytes:
        chain = (self.pck.pem + self.platform_ca.pem + self.root.pem).encode()
        return b"\x05\0" + len(chain).to_bytes(4, "little") + chain

    def _tcb_info(self, tee: str, state: State) -> str:
        components = [{"svn": state.level_svn} for _ in range(16)]
        # The second is the TDX module's version: 0 for one that no module identity describes.
        domain = [{"svn": 0 if index == 1 else state.level_svn} for index in range(16)]
        level = {
            "tcb": {"sgxtcbcomponents": components, "pcesvn": 13, **({"tdxtcbcomponents": domain} if tee == "tdx" else {})},
            "tcbDate": "2025-01-01T00:00:00Z",
            "tcbStatus": state.status,
            "advisoryIDs": list(state.advisories),
        }
        module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
        return json.dumps(
            {
                "id": tee.upper(),
                "version": 3,
                **_dates(state.issued, state.tcb_until),
                "fmspc": state.fmspc.hex(),
                "pceId": "0000",
                "tcbType": 0,
                "tcbEvaluationDataNumber": 17,
                **({"tdxModule": module, "tdxModuleIdentities": []} if tee == "tdx" else {}),
                "tcbLevels": [level],
            },
            separators=(",", ":"),
        )

    def _qe_identity(self, tee: str, state: State) -> str:
        level = {"tcb": {"isvsvn": 8}, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": state.qe_status}
        return json.dumps(
            {
                "id": {"sgx": "QE", "tdx": "TD_QE"}[tee],
                "version": 2,
                **_dates(state.issued, state.qe_until),
                "tcbEvaluationDataNumber": 17,
                "miscselect": "00000000",
                "miscselectMask": "FFFFFFFF",
                "attributes": "15000000000000000000000000000000",
                "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
                "mrsigner": (b"\x33" * 32).hex(),
                "isvprodid": {"sgx": 1, "tdx": 2}[tee],
                "tcbLevels": [level],
            },
            separators=(",", ":"),
        )


def _dates(issued: float, until: float) -> dict[str, str]:
    issued = min(issued, until - 86400)
    return {name: _time(value).strftime("%Y-%m-%dT%H:%M:%SZ") for name, value in (("issueDate", issued), ("nextUpdate", until))}
