"""Is a signed enclave's structure read as the processor reads it?"""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from typer.testing import CliRunner

from securemllib.cli.enclave import app
from securemllib.cli.image.build import MANIFEST, SIGNATURE, signed_enclave
from securemllib.cli.image.sigstruct import read_sigstruct
from securemllib.errors import FormatError, SignatureError

MEASUREMENT = bytes(range(32))


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    """Return a key of the kind that signs enclaves: 3072 bits, exponent 3."""
    return generate_private_key(public_exponent=3, key_size=3072)


@pytest.fixture
def signed(key: RSAPrivateKey) -> Callable[..., bytes]:
    """Return what makes a signature structure, field by field of the manual's table."""

    def make(*, flags: int = 0x4, mask: int = 0xFFFF_FFFF_FFFF_FFFF, product: int = 1, version: int = 1) -> bytes:
        data = bytearray(1808)
        data[0:16] = bytes.fromhex("06000000e10000000000010000000000")
        data[24:40] = bytes.fromhex("01010000600000006000000001000000")
        data[928:936], data[944:952] = flags.to_bytes(8, "little"), mask.to_bytes(8, "little")
        data[960:992] = MEASUREMENT
        data[1024:1026], data[1026:1028] = product.to_bytes(2, "little"), version.to_bytes(2, "little")
        signature = key.sign(bytes(data[0:128] + data[900:1028]), PKCS1v15(), SHA256())
        data[128:512] = key.public_key().public_numbers().n.to_bytes(384, "little")
        data[512:516] = (3).to_bytes(4, "little")
        data[516:900] = signature[::-1]
        return bytes(data)

    return make


def test_the_fields_are_read(signed: Callable[..., bytes], key: RSAPrivateKey) -> None:
    """Measurement, signer, product and version are those that were signed."""
    found = read_sigstruct(signed(product=7, version=258))
    assert (found.measurement, found.product_id, found.security_version, found.debug) == (MEASUREMENT, 7, 258, False)
    assert found.signer == sha256(key.public_key().public_numbers().n.to_bytes(384, "little")).digest()


@pytest.mark.parametrize("flags", [{"flags": 0x6}, {"mask": 0xFFFF_FFFF_FFFF_FFFD}])
def test_a_debug_enclave_is_noticed(signed: Callable[..., bytes], flags: dict) -> None:
    """A debug flag that is set, or left to the host, is reported."""
    assert read_sigstruct(signed(**flags)).debug


@pytest.mark.parametrize("place", [130, 520, 899, 900, 940, 960, 991, 1024, 1027])
def test_a_flipped_bit_is_refused(signed: Callable[..., bytes], place: int) -> None:
    """A changed key, signature or signed field does not verify."""
    data = bytearray(signed())
    data[place] ^= 1
    with pytest.raises(SignatureError):
        read_sigstruct(bytes(data))


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: b"\x07" + data[1:], lambda _: b""])
def test_other_bytes_are_refused(signed: Callable[..., bytes], change: Callable[[bytes], bytes]) -> None:
    """Bytes of another length or with another header are no signature structure."""
    with pytest.raises(FormatError):
        read_sigstruct(change(signed()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a manifest that names its product and version."""
    (tmp_path / MANIFEST).write_text("[sgx]\nisvprodid = 1\nisvsvn = 1\n")
    return tmp_path


def test_measure_prints_the_measurement_that_was_signed(folder: Path, signed: Callable[..., bytes]) -> None:
    """`measure` of a signed image prints MRENCLAVE on standard output, alone, and calls nothing insecure."""
    (folder / SIGNATURE).write_bytes(signed())
    result = CliRunner().invoke(app, ["measure", str(folder)])
    assert result.stdout == f"{MEASUREMENT.hex()}\n"
    assert "insecure" not in result.output


@pytest.mark.parametrize("wrong", [{"product": 2}, {"version": 2}, {"flags": 0x6}])
def test_a_signature_of_another_image_is_refused(folder: Path, signed: Callable[..., bytes], wrong: dict) -> None:
    """A signature of another product or version, or of a debug enclave, is not this image's."""
    (folder / SIGNATURE).write_bytes(signed(**wrong))
    with pytest.raises(FormatError):
        signed_enclave(folder)


def test_an_unsigned_image_has_no_measurement(folder: Path) -> None:
    """Without a signature there is nothing to report."""
    assert signed_enclave(folder) is None
