"""Do quotes that Intel's hardware made say what is known of them, and nothing outside of their collateral's validity?"""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securemllib.attestation import sgx, tdx
from securemllib.attestation.dcap import Endorsements, Model, model_of, verify_quote
from securemllib.errors import AttestationError

FIXTURES = Path(__file__).parent / "fixtures"
JULY_2025 = int(datetime(2025, 7, 1, tzinfo=UTC).timestamp())
MARCH_2026 = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp())
QUOTES = {name: (FIXTURES / name).read_bytes() for name in ("sgx_quote", "tdx_quote", "tdx_quote_outdated")}
COLLATERAL = {name: (FIXTURES / f"{name}_collateral.json").read_text(encoding="ascii") for name in QUOTES}
HELLO = b"Hello, world!".ljust(64, b"\0")
TD_REPORT_DATA = bytes.fromhex(
    "9a9d48e7f6799642d3d1b34e1e5e1742d4bb02dd6ddd551862c1211d35c304f9eca3efdbb481601c163cf52493d6e44aed55d51ec39b7e518fadb92c2b523f20"
)


def endorsements(name, now=JULY_2025):
    """Return a fixture's collateral and a time."""
    return Endorsements(collateral=lambda model: COLLATERAL[name], now=now)


def sgx_claims(quote=QUOTES["sgx_quote"], expected=HELLO, now=JULY_2025):
    """Return the claims of the SGX quote."""
    return sgx.verify_report(quote, expected, endorsements=endorsements("sgx_quote", now))


def refusal(call, *arguments, **keywords):
    """Return the code with which a call is refused."""
    with pytest.raises(AttestationError) as caught:
        call(*arguments, **keywords)
    return caught.value.error_code.removeprefix("refused.attestation.")


def test_the_sgx_quote():
    """The genuine SGX quote gives the measurement, signer, versions, status and advisories that are published for it."""
    claims = sgx_claims()
    assert claims.tee == "sgx"
    assert claims.measurement.hex() == "33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb"
    assert claims.signer.hex() == "815f42f11cf64430c30bab7816ba596a1da0130c3b028b673133a66cf9a3e0e6"
    assert (claims.product_id, claims.security_version, claims.debug) == (0, 0, False)
    assert claims.platform.tcb_statuses == ("ConfigurationAndSWHardeningNeeded",)
    assert claims.platform.advisories == ("INTEL-SA-00289", "INTEL-SA-00615")


def test_the_tdx_quote():
    """The genuine TDX quote is up to date, and its measurement is the digest of its registers."""
    claims = tdx.verify_report(QUOTES["tdx_quote"], TD_REPORT_DATA, endorsements=endorsements("tdx_quote"))
    assert (claims.tee, claims.signer, claims.debug) == ("tdx", None, False)
    assert claims.platform.tcb_statuses == ("UpToDate",)
    assert claims.platform.advisories == ()
    body = verify_quote(QUOTES["tdx_quote"], endorsements=endorsements("tdx_quote")).body
    assert body["mr_td"] == "91eb2b44d141d4ece09f0c75c2c53d247a3c68edd7fafe8a3520c942a604a407de03ae6dc5f87f27428b2538873118b7"
    registers = {name: bytes.fromhex(body[name]) for name in tdx.REGISTERS}
    assert claims.measurement == tdx.measurement_of(registers)
    assert len(claims.measurement) == 48


@pytest.mark.parametrize("register", tdx.REGISTERS)
def test_each_register_of_a_trust_domain_counts(register):
    """A trust domain with another value in any register has another measurement: the same firmware with another kernel is refused."""
    registers = {name: bytes(48) for name in tdx.REGISTERS}
    assert tdx.measurement_of({**registers, register: b"\1" + bytes(47)}) != tdx.measurement_of(registers)


def test_the_outdated_tdx_quote():
    """The version 5 quote of a platform below every level of Intel's list is refused for that reason."""
    code = refusal(verify_quote, QUOTES["tdx_quote_outdated"], endorsements=endorsements("tdx_quote_outdated", MARCH_2026))
    assert code == "tcb_status"


def test_the_kinds_of_platform():
    """What a quote says of its kind of platform is what its collateral is for."""
    assert model_of(QUOTES["sgx_quote"]) == Model(tee="sgx", fmspc="00A067110000", ca="processor")
    assert model_of(QUOTES["tdx_quote"]) == Model(tee="tdx", fmspc="B0C06F000000", ca="platform")
    assert model_of(QUOTES["tdx_quote_outdated"]) == Model(tee="tdx", fmspc="90C06F000000", ca="platform")


@pytest.mark.parametrize(("day", "accepted"), [("2025-06-18", False), ("2025-06-20", True), ("2025-07-18", True), ("2025-07-21", False)])
def test_collateral_is_valid_for_its_days(day, accepted):
    """Collateral counts between its first and its last day by the verifier's clock, and on no other."""
    now = int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())
    if accepted:
        assert sgx_claims(now=now).platform.expires > now
    else:
        assert refusal(sgx_claims, now=now) == "expired"


def test_the_first_moment_after_expiry():
    """The claims tell when the collateral expires: it is accepted then, and not a second later."""
    expires = sgx_claims().platform.expires
    assert sgx_claims(now=expires).platform.expires == expires
    assert refusal(sgx_claims, now=expires + 1) == "expired"


def test_report_data_is_compared():
    """A genuine quote over other report data is refused."""
    assert refusal(sgx_claims, expected=bytes(64)) == "report_data"
    assert refusal(sgx_claims, expected=HELLO[:-1]) == "report_data"
    expected = bytes(64)
    assert refusal(tdx.verify_report, QUOTES["tdx_quote"], expected, endorsements=endorsements("tdx_quote")) == "report_data"


def test_one_tees_quote_is_not_the_others():
    """An SGX quote that is announced as TDX is refused, and the other way round."""
    assert refusal(tdx.verify_report, QUOTES["sgx_quote"], HELLO, endorsements=endorsements("sgx_quote")) == "tee"
    assert refusal(sgx.verify_report, QUOTES["tdx_quote"], TD_REPORT_DATA, endorsements=endorsements("tdx_quote")) == "tee"


def test_without_collateral_nothing_is_believed():
    """A genuine quote without collateral, or with that of another platform, is refused."""
    assert refusal(sgx.verify_report, QUOTES["sgx_quote"], HELLO, endorsements=None) == "collateral"
    nothing = Endorsements(collateral=lambda model: None, now=JULY_2025)
    assert refusal(sgx.verify_report, QUOTES["sgx_quote"], HELLO, endorsements=nothing) == "collateral"
    assert refusal(verify_quote, QUOTES["sgx_quote"], endorsements=endorsements("tdx_quote")) != "tee"


@settings(max_examples=300, deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_changes_no_claim(position, bit):
    """A quote is malleable where nothing is signed; whatever bit is flipped, it is refused or says the same."""
    quote = bytearray(QUOTES["sgx_quote"])
    quote[int(position * len(quote))] ^= 1 << bit
    try:
        claims = sgx_claims(bytes(quote))
    except AttestationError:
        return
    assert claims == sgx_claims()


@settings(max_examples=100, deadline=None)
@given(position=st.integers(0, 431), bit=st.integers(0, 7))
def test_no_bit_of_the_signed_report_can_change(position, bit):
    """Header and report, the first 432 bytes, are signed: no bit of them can change."""
    quote = bytearray(QUOTES["sgx_quote"])
    quote[position] ^= 1 << bit
    assert refusal(sgx_claims, bytes(quote))


@settings(max_examples=100, deadline=None)
@given(length=st.integers(0, len(QUOTES["sgx_quote"])))
def test_a_truncated_quote_is_refused_or_changes_no_claim(length):
    """A quote that ends early is refused; only padding behind its last certificate may be missing."""
    try:
        claims = sgx_claims(QUOTES["sgx_quote"][:length])
    except AttestationError:
        return
    assert claims == sgx_claims()


@given(junk=st.binary(max_size=2000))
def test_an_invented_quote_is_refused(junk):
    """Bytes of a stranger are no quote, alone or behind a genuine quote's header."""
    assert refusal(sgx_claims, junk)
    assert refusal(sgx_claims, QUOTES["sgx_quote"][:48] + junk)


def test_a_huge_quote_is_refused_by_its_size():
    """A quote beyond the bound is refused before it is read; bytes that merely follow a genuine one change nothing."""
    assert refusal(sgx_claims, QUOTES["sgx_quote"] + bytes(2**17)) == "quote"
    assert sgx_claims(QUOTES["sgx_quote"] + b"trailing") == sgx_claims()
