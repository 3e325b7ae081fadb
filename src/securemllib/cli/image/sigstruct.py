"""An enclave's signature structure (SIGSTRUCT): Intel's Software Developer's Manual, volume 3D, section "Enclave Signature Structure"."""

from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256

from securemllib.errors import FormatError, SignatureError

__all__ = ["SignedEnclave", "read_sigstruct"]

_SIZE = 1808
_HEADERS = {0: bytes.fromhex("06000000e10000000000010000000000"), 24: bytes.fromhex("01010000600000006000000001000000")}
_MODULUS, _EXPONENT, _SIGNATURE = slice(128, 512), slice(512, 516), slice(516, 900)
# The signature covers the header and what follows the signature; keys and signature stand between.
_SIGNED = slice(0, 128), slice(900, 1028)
_FLAGS, _FLAGS_MASK = slice(928, 936), slice(944, 952)
_MEASUREMENT, _PRODUCT_ID, _SECURITY_VERSION = slice(960, 992), slice(1024, 1026), slice(1026, 1028)
_DEBUG = 0b10


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedEnclave:
    """What identifies a signed enclave.

    Attributes:
        measurement: MRENCLAVE.
        signer: MRSIGNER: the SHA-256 of the signing key's modulus.
        product_id: ISVPRODID.
        security_version: ISVSVN.
        debug: Whether the signature admits a debug enclave, into which its host can look.
    """

    measurement: bytes
    signer: bytes
    product_id: int
    security_version: int
    debug: bool


def read_sigstruct(data: bytes) -> SignedEnclave:
    """Return what a signature structure says.

    1. It has the structure's length and its two constant headers.
    2. Its signature is one of the key that it names.

    Raises:
        FormatError: 1 does not hold.
        SignatureError: 2 does not hold.
    """
    if len(data) != _SIZE or any(data[start : start + len(header)] != header for start, header in _HEADERS.items()):
        raise FormatError("The bytes are no signature of an enclave.", code="integrity.format.sigstruct")
    modulus, exponent = _integer(data[_MODULUS]), _integer(data[_EXPONENT])
    try:
        key = RSAPublicNumbers(exponent, modulus).public_key()
        key.verify(data[_SIGNATURE][::-1], b"".join(data[part] for part in _SIGNED), PKCS1v15(), SHA256())
    except (InvalidSignature, ValueError):
        raise SignatureError("The enclave's signature does not fit.", code="integrity.signature.sigstruct") from None
    # A flag that the mask leaves out is the host's to choose.
    debug = bool(_integer(data[_FLAGS]) & _DEBUG) or not _integer(data[_FLAGS_MASK]) & _DEBUG
    return SignedEnclave(
        measurement=data[_MEASUREMENT],
        signer=sha256(data[_MODULUS]).digest(),
        product_id=_integer(data[_PRODUCT_ID]),
        security_version=_integer(data[_SECURITY_VERSION]),
        debug=debug,
    )


def _integer(data: bytes) -> int:
    return int.from_bytes(data, "little")
