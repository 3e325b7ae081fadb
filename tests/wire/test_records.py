"""Does every message have exactly one encoding, and does its decoder refuse everything else with one error?"""

from dataclasses import fields

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from securemllib.errors import FormatError
from securemllib.wire.encoding import decode, encode
from securemllib.wire.job import JobSpecification
from securemllib.wire.record import Record
from securemllib.wire.task import NeedPart, PartBytes, Update
from tests.wire.values import VALUES, all_records, of

RECORDS = all_records()
BY_NAME = pytest.mark.parametrize("cls", RECORDS, ids=lambda cls: cls.__name__)
SLOW = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much])


def accepted(cls, data):
    """Return the record that bytes decode to, None where they are refused; any error but FormatError is the test's failure."""
    try:
        return cls.from_bytes(data)
    except FormatError:
        return None


def test_each_type_name_is_one_classes():
    """No two messages share a type name, so a message of one type is never read as another."""
    assert len({cls.TYPE for cls in RECORDS}) == len(RECORDS) > 40


@BY_NAME
@SLOW
@given(data=st.data())
def test_a_record_comes_back(cls, data):
    """A record of any class decodes from its encoding to an equal record with the same bytes and digest."""
    record = data.draw(of(cls))
    encoded = record.to_bytes()
    again = cls.from_bytes(encoded)
    assert again == record
    assert again.to_bytes() == encoded
    assert again.content_digest() == record.content_digest()


@BY_NAME
@SLOW
@given(data=st.data())
def test_a_changed_byte_is_refused_or_another_record(cls, data):
    """Bytes with a change are refused, or are themselves the only encoding of another record: never a second encoding of the first."""
    record = data.draw(of(cls))
    encoded = record.to_bytes()
    index = data.draw(st.integers(0, len(encoded) - 1))
    changed = encoded[:index] + bytes([encoded[index] ^ data.draw(st.integers(1, 255))]) + encoded[index + 1 :]
    other = accepted(cls, changed)
    if other is not None:
        assert other.to_bytes() == changed
        assert other.content_digest() != record.content_digest()


@BY_NAME
@SLOW
@given(data=st.data())
def test_missing_unknown_and_cut_are_refused(cls, data):
    """A record without a field, with a field more, of another type, cut or extended is refused."""
    record = data.draw(of(cls))
    tree, encoded = record.to_tree(), record.to_bytes()
    for field in fields(cls):
        assert accepted(cls, encode({name: value for name, value in tree.items() if name != field.name})) is None
    assert accepted(cls, encode({**tree, "unknown": 1})) is None
    assert accepted(cls, encode({**tree, "@": f"{cls.TYPE}x"})) is None
    assert accepted(cls, encode({name: value for name, value in tree.items() if name != "@"})) is None
    assert accepted(cls, encoded[:-1]) is None
    assert accepted(cls, encoded + b"\x00") is None
    assert accepted(cls, encode([tree])) is None


@BY_NAME
@SLOW
@given(data=st.data())
def test_a_field_of_any_other_value_is_refused_or_valid(cls, data):
    """A field replaced by any value at all gives a record that encodes to those bytes, or FormatError, and no other error."""
    tree = data.draw(of(cls)).to_tree()
    if len(tree) == 1:
        return
    name = data.draw(st.sampled_from([name for name in tree if name != "@"]))
    encoded = encode({**tree, name: data.draw(VALUES)})
    record = accepted(cls, encoded)
    assert record is None or record.to_bytes() == encoded


@given(junk=st.binary(max_size=300), cls=st.sampled_from(RECORDS))
def test_invented_bytes_are_a_format_error(junk, cls):
    """Bytes of a stranger are refused with FormatError, and nothing else happens."""
    record = accepted(cls, junk)
    assert record is None or record.to_bytes() == junk


def test_types_are_strict():
    """A bool is no int, an int no float and a text no bytes, in either direction."""
    assert accepted(NeedPart, encode({"@": "need-part", "ordinal": 1})) == NeedPart(ordinal=1)
    for wrong in (True, 1.0, "1", b"1", None, [1], {"ordinal": 1}):
        assert accepted(NeedPart, encode({"@": "need-part", "ordinal": wrong})) is None
    assert accepted(PartBytes, NeedPart(ordinal=1).to_bytes()) is None
    assert accepted(Update, encode({"@": "update", "job_id": "j", "lengths": [1, 2.0]})) is None


@pytest.mark.parametrize("field", ["nonce", "dtype", "shares", "checkpoint_interval", "plan", "mode"])
def test_a_job_outside_of_its_domain_is_refused(field):
    """A job that decodes is valid: each wrong value of a constrained field is refused beside the valid job."""
    from tests.wire.test_known_answers import JOB

    wrong = {"nonce": b"short", "dtype": "float16", "shares": 0, "checkpoint_interval": 0, "plan": None, "mode": "elsewhere"}
    assert JobSpecification.from_tree(JOB.to_tree()) == JOB
    with pytest.raises(FormatError):
        JobSpecification.from_tree({**JOB.to_tree(), field: wrong[field]})


# The encoding ---------------------------------------------------------------------------------------------------------------------


@given(value=VALUES)
def test_a_value_comes_back(value):
    """A tree of basic values decodes from its encoding, with the types it had."""
    assert repr(decode(encode(value))) == repr(value) or decode(encode(value)) == value


HOSTILE = {
    "empty": b"",
    "trailing byte": b"\x00\x00",
    "longer integer than needed": b"\x18\x01",
    "longer float than needed": b"\xfb\x3f\xf0" + bytes(6),
    "another NaN": b"\xf9\x7e\x01",
    "indefinite list": b"\x9f\x00\xff",
    "indefinite map": b"\xbf\x61a\x00\xff",
    "indefinite text": b"\x7f\x61a\xff",
    "indefinite bytes": b"\x5f\x41a\xff",
    "a break alone": b"\xff",
    "unsorted keys": b"\xa2\x61b\x01\x61a\x02",
    "duplicate keys": b"\xa2\x61a\x01\x61a\x02",
    "equal duplicate keys": b"\xa2\x61a\x01\x61a\x01",
    "key of bytes": b"\xa1\x41a\x00",
    "key of a list": b"\xa1\x80\x00",
    "key of an integer": b"\xa1\x01\x00",
    "undefined": b"\xf7",
    "simple value": b"\xe0",
    "text that is no UTF-8": b"\x61\xff",
    "a surrogate": b"\x63\xed\xa0\x80",
    "tag of a date": b"\xc1\x00",
    "tag of a huge date": b"\xc1\x1b" + (2**62).to_bytes(8, "big"),
    "tag of a bignum": b"\xc2\x49\x01" + bytes(8),
    "tag of a negative bignum": b"\xc3\x49\x01" + bytes(8),
    "tag of a bignum with a million digits": b"\xc2\x5a" + (10**6).to_bytes(4, "big") + b"\x01" * 10**6,
    "tag of a decimal": b"\xc4\x82\x1b" + (2**62).to_bytes(8, "big") + b"\x01",
    "tag of a float of any size": b"\xc5\x82\x1b" + (2**62).to_bytes(8, "big") + b"\x01",
    "tag of a fraction by zero": b"\xd8\x1e\x82\x01\x00",
    "tag of a regular expression": b"\xd8\x23\x64(a+)",
    "tag of a message": b"\xd8\x24\x61a",
    "tag of a set": b"\xd9\x01\x02\x81\x00",
    "tag of an address": b"\xd9\x01\x04\x44\x01\x02\x03\x04",
    "tag of a string reference": b"\xd9\x01\x00\x82\x64aaaa\xd8\x19\x00",
    "tag of a cycle": b"\xd8\x1c\x81\xd8\x1d\x00",
    "tag that says CBOR": b"\xd9\xd9\xf7\x00",
    "unknown tag": b"\xda\x7f\xff\xff\xff\x00",
    "deep lists": b"\x81" * 1_000_000 + b"\x00",
    "deep lists without an end": b"\x81" * 2**22,
    "deep maps": b"\xa1\x61a" * 1_000_000 + b"\x00",
    "deep tags": b"\xc1" * 1_000_000 + b"\x00",
    "lists one level too deep": b"\x81" * 65 + b"\x00",
    "huge bytes": b"\x5b" + (2**62).to_bytes(8, "big"),
    "huge text": b"\x7b" + (2**40).to_bytes(8, "big") + b"a",
    "huge list": b"\x9b" + (2**63).to_bytes(8, "big") + b"\x00",
    "large list": b"\x9a" + (10**9).to_bytes(4, "big") + b"\x00",
    "huge map": b"\xbb" + (2**40).to_bytes(8, "big"),
    "large map": b"\xba" + (10**9).to_bytes(4, "big") + b"\x00\x00",
    "reserved length": b"\x1c",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_are_a_format_error(name):
    """Another encoding of a value, a tag, deep nesting or an announced length that is not there: FormatError at once, and no crash."""
    with pytest.raises(FormatError):
        decode(HOSTILE[name])
    for cls in (NeedPart, JobSpecification):
        with pytest.raises(FormatError):
            cls.from_bytes(HOSTILE[name])


@pytest.mark.parametrize("around", [b"\x81", b"\xa1\x61a"], ids=["a list", "a map"])
@pytest.mark.parametrize("name", ["undefined", "simple value", "tag of a set", "unknown tag", "key of an integer", "key of bytes"])
def test_hostile_bytes_within_a_value_are_a_format_error(name, around):
    """What is no value is refused inside of lists and maps, too, where it would come back as the same bytes."""
    assert encode(decode(around + b"\x00")) == around + b"\x00"
    with pytest.raises(FormatError):
        decode(around + HOSTILE[name])


@pytest.mark.parametrize("value", [2**64 - 1, -(2**64), [[[]]], {"a": {"b": b"c"}}, "\U0001f600", 1.5], ids=repr)
def test_the_largest_of_what_is_accepted(value):
    """The twins of the hostile bytes, at their bounds, are accepted."""
    assert decode(encode(value)) == value


def test_nesting_up_to_the_bound_is_accepted():
    """A list or map nested to the last allowed level is decoded; one over it is refused."""
    for around in (b"\x81", b"\xa1\x61a"):
        deep = around * 62 + b"\x00"
        assert encode(decode(deep)) == deep
        with pytest.raises(FormatError):
            decode(around * 64 + b"\x00")


@pytest.mark.parametrize("value", [2**64, -(2**64) - 1, (1,), {1: 2}, {"a": object}, {1}, 1 + 2j, bytearray(b"x")], ids=repr)
def test_what_has_no_encoding_is_refused(value):
    """A value of another type, or an integer over 64 bits, is refused when it is encoded already."""
    with pytest.raises(FormatError):
        encode(value)


def test_a_message_over_its_limit_is_refused_before_it_is_read():
    """A limit is a bound on the bytes: at it accepted, one over it refused."""
    encoded = encode(b"x" * 100)
    assert decode(encoded, limit=len(encoded)) == b"x" * 100
    with pytest.raises(FormatError, match="longer than its limit"):
        decode(encoded, limit=len(encoded) - 1)


def test_the_base_is_no_message():
    """Every message class has a type of its own."""
    assert not hasattr(Record, "TYPE")
