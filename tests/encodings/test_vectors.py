"""Do the encodings' primitives compute what the published standards say?"""

import cryptography_vectors
import numpy as np
import pyarrow as pa
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from securemllib.crypto.encodings import additive, deterministic
from securemllib.crypto.encodings.blocks import Permutation
from securemllib.crypto.encodings.ff1 import FF1
from securemllib.crypto.keys import DataKey
from securemllib.errors import DataError

CHARACTERS = "0123456789abcdefghijklmnopqrstuvwxyz"
KEY_128 = "2B7E151628AED2A6ABF7158809CF4F3C"
KEY_192 = KEY_128 + "EF4359D8D580AA4F"
KEY_256 = KEY_192 + "7F036D6F04FC6A94"
TWEAK_10, TWEAK_11 = "39383736353433323130", "3737373770717273373737"
DIGITS, LETTERS = "0123456789", "0123456789abcdefghi"
# NIST, "Examples with Intermediate Values", FF1 samples 1 to 9 (SP 800-38G): key, radix, tweak, plaintext, ciphertext.
FF1_SAMPLES = [
    (KEY_128, 10, "", DIGITS, "2433477484"),
    (KEY_128, 10, TWEAK_10, DIGITS, "6124200773"),
    (KEY_128, 36, TWEAK_11, LETTERS, "a9tv40mll9kdu509eum"),
    (KEY_192, 10, "", DIGITS, "2830668132"),
    (KEY_192, 10, TWEAK_10, DIGITS, "2496655549"),
    (KEY_192, 36, TWEAK_11, LETTERS, "xbj3kv35jrawxv32ysr"),
    (KEY_256, 10, "", DIGITS, "6657667009"),
    (KEY_256, 10, TWEAK_10, DIGITS, "1001623463"),
    (KEY_256, 36, TWEAK_11, LETTERS, "xs8a0azh2avyalyzuwd"),
]


def numerals(text):
    """Return a text as one row of numerals."""
    return np.array([[CHARACTERS.index(character) for character in text]], np.uint8)


@pytest.mark.parametrize("sample", FF1_SAMPLES, ids=range(1, 10))
def test_ff1_is_nists(sample):
    """FF1 gives NIST's ciphertext of each published sample, for one row as for many, and its plaintext back."""
    key, radix, tweak, plaintext, ciphertext = sample
    cipher = FF1(bytes.fromhex(key), radix, bytes.fromhex(tweak))
    rows = np.repeat(numerals(plaintext), 3, axis=0)
    assert np.array_equal(cipher.encrypt(rows), np.repeat(numerals(ciphertext), 3, axis=0))
    assert np.array_equal(cipher.decrypt(numerals(ciphertext)), numerals(plaintext))


@pytest.mark.parametrize(("radix", "length"), [(10, 5), (26, 4), (62, 3), (10, 0), (10, 1)])
def test_ff1_refuses_small_domains(radix, length):
    """A length with fewer than a million messages is refused; one more character is enough."""
    with pytest.raises(DataError, match="fewer than a million"):
        FF1(bytes(32), radix).encrypt(np.zeros((1, length), np.uint8))
    enough = next(size for size in range(length, 8) if radix**size >= 1_000_000)
    assert FF1(bytes(32), radix).encrypt(np.zeros((1, enough), np.uint8)).shape == (1, enough)


@pytest.mark.parametrize(("radix", "longest"), [(10, 32), (36, 20), (62, 18)])
def test_ff1_refuses_what_64_bits_do_not_hold(radix, longest):
    """The longest message comes back unchanged, and one character more is refused."""
    cipher, rows = FF1(bytes(32), radix), np.random.default_rng(1).integers(0, radix, (50, longest)).astype(np.uint8)
    rows[0] = radix - 1
    assert np.array_equal(cipher.decrypt(cipher.encrypt(rows)), rows)
    with pytest.raises(DataError, match="too long"):
        cipher.encrypt(np.zeros((1, longest + 1), np.uint8))


def ff1_of_one(key, radix, message):
    """Return FF1 of one message with integers of any size, by SP 800-38G's algorithm 7 line by line: an oracle."""
    n, u = len(message), len(message) // 2
    v = n - u
    b = -(-(radix**v - 1).bit_length() // 8)
    d = 4 * -(-b // 4) + 4
    header = bytes([1, 2, 1]) + radix.to_bytes(3, "big") + bytes([10, u % 256]) + n.to_bytes(4, "big") + bytes(4)
    encrypt = Permutation(key).encrypt

    def block(data):
        return encrypt(np.frombuffer(data, np.uint8)).tobytes()

    def number(digits):
        found = 0
        for digit in digits:
            found = found * radix + int(digit)
        return found

    first, second = list(message[:u]), list(message[u:])
    for i in range(10):
        q = bytes((-b - 1) % 16) + bytes([i]) + number(second).to_bytes(b, "big")
        state = bytes(16)
        for start in range(0, len(header + q), 16):
            state = block(bytes(x ^ y for x, y in zip(state, (header + q)[start : start + 16], strict=True)))
        size = u if i % 2 == 0 else v
        total = (number(first) + int.from_bytes(state[:d], "big")) % radix**size
        digits = [total // radix**place % radix for place in reversed(range(size))]
        first, second = second, digits
    return first + second


@pytest.mark.parametrize(("radix", "length"), [(10, 6), (10, 16), (10, 19), (10, 25), (10, 32), (36, 13), (62, 4), (62, 17)])
def test_ff1_is_the_standards_at_every_width(radix, length):
    """Where halves take one, two or more steps of 64-bit arithmetic, rows equal the standard's algorithm on integers of any size."""
    key, rows = bytes(range(32)), np.random.default_rng(length).integers(0, radix, (5, length)).astype(np.uint8)
    assert FF1(key, radix).encrypt(rows).tolist() == [ff1_of_one(key, radix, row) for row in rows.tolist()]


def test_aes_siv_is_rfc_5297s():
    """AES-SIV gives the ciphertext of RFC 5297 appendix A.1 and refuses another one."""
    key = bytes.fromhex("fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
    associated = bytes.fromhex("101112131415161718191a1b1c1d1e1f2021222324252627")
    plaintext = bytes.fromhex("112233445566778899aabbccddee")
    message = bytes.fromhex("85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c")
    assert AESSIV(key).encrypt(plaintext, [associated]) == message
    with pytest.raises(InvalidTag):
        AESSIV(key).decrypt(message[:-1] + b"\x00", [associated])


def test_a_texts_code_is_aes_siv():
    """A text's halves are the synthetic IV, and its ciphertext the rest, of AES-256-SIV of the padded UTF-8 under the derived key."""
    key = DataKey(bytes(range(32)))
    code = deterministic.encode(key, pa.array(["Zürich"]))[0].as_py()
    expected = AESSIV(key.derive_bytes(64, "securemllib/deterministic/text/v1")).encrypt("Zürich".encode() + b"\x80" + bytes(8), [b"text"])
    halves = np.array([code["hi"], code["lo"]], np.int64).tobytes()
    assert halves + code["text"] == expected


def ecb_cases(name):
    """Return key, plaintext and ciphertext of the encryptions in one of NIST's AESAVS files."""
    with cryptography_vectors.open_vector_file(f"ciphers/AES/ECB/{name}", "r") as file:
        text = file.read().split("[DECRYPT]")[0]
    fields = [dict(line.split(" = ") for line in case.splitlines() if " = " in line) for case in text.split("\n\n")]
    return [tuple(bytes.fromhex(case[field]) for field in ("KEY", "PLAINTEXT", "CIPHERTEXT")) for case in fields if "KEY" in case]


@pytest.mark.parametrize("name", ["ECBGFSbox256.rsp", "ECBKeySbox256.rsp", "ECBVarKey256.rsp", "ECBVarTxt256.rsp", "ECBMMT256.rsp"])
def test_the_permutation_is_aes(name):
    """Blocks are encrypted and decrypted as in NIST's AES validation suite, one or many at once."""
    cases = ecb_cases(name)
    assert len(cases) >= 5
    for key, plaintext, ciphertext in cases:
        permutation = Permutation(key)
        assert permutation.encrypt(np.frombuffer(plaintext, np.uint8)).tobytes() == ciphertext
        assert permutation.decrypt(np.frombuffer(ciphertext, np.uint8)).tobytes() == plaintext


def test_masks_are_a_ctr_keystream():
    """The masks of rows from 1 on are the keystream of NIST SP 800-38A's counter mode from counter 0: encrypted counters, in order."""
    key = DataKey(bytes(range(32)))
    counters = np.zeros((50, 2), ">u8")
    counters[:, 1] = range(50)
    stream = Permutation(key.expose()).encrypt(counters).reshape(-1).view(np.int64)
    codes = additive.encode(key, pa.array([0] * 100))
    words = [code["lo"] + (code["hi"] << 32) for code in codes.to_pylist()]
    assert [word % 2**64 for word in words] == [int(word) % 2**64 for word in stream]
