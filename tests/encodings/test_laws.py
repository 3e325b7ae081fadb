"""Do the encodings keep what they promise, equality, order or sums, for every type and with nulls, and hide the rest?"""

from datetime import UTC, date, datetime
from decimal import Decimal
from math import isnan

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from securemllib.crypto.encodings import additive, deterministic, order, token
from securemllib.crypto.keys import DataKey
from securemllib.errors import DataError, IntegrityError, UsageError

KEY, OTHER = DataKey(bytes(range(32))), DataKey(bytes(range(1, 33)))
DIGITS = "0123456789"
INTEGERS = st.integers(-(2**63), 2**63 - 1)
DATES = st.dates(date(1700, 1, 1), date(2200, 1, 1))
TIMES = st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1))
VALUES = {
    pa.int64(): INTEGERS,
    pa.int8(): st.integers(-128, 127),
    pa.uint32(): st.integers(0, 2**32 - 1),
    pa.bool_(): st.booleans(),
    pa.date32(): DATES,
    pa.timestamp("us"): TIMES,
    pa.timestamp("us", tz="UTC"): TIMES.map(lambda time: time.replace(tzinfo=UTC)),
    pa.decimal128(18, 4): st.integers(-(10**18) + 1, 10**18 - 1).map(lambda units: Decimal(units).scaleb(-4)),
    pa.float64(): st.floats(),
    pa.float32(): st.floats(width=32),
    pa.string(): st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
}


@st.composite
def columns(draw):
    """Draw a column of any type that has codes, with repeated values and nulls, sometimes a slice of a longer one."""
    kind = draw(st.sampled_from(list(VALUES)))
    some = draw(st.lists(st.none() | VALUES[kind], min_size=1, max_size=6))
    values = draw(st.lists(st.sampled_from(some), max_size=30))
    return pa.array(values, kind)[draw(st.integers(0, 2)) :]


def canonical(value):
    """Return a value as Spark compares it: one zero, and one not-a-number that is above all."""
    if isinstance(value, float):
        return (1, 0.0) if isnan(value) else (0, value + 0.0)
    return value


def same(left, right):
    """Return whether two columns hold the same, as Spark compares it."""
    return [canonical(value) for value in left.to_pylist()] == [canonical(value) for value in right.to_pylist()]


@given(columns())
def test_deterministic_codes_decode_and_are_equal_as_the_values_are(column):
    """Codes decode to the column, nulls included, and two rows have one code just if their values are equal."""
    codes = deterministic.encode(KEY, column)
    assert same(deterministic.decode(KEY, codes, column.type), column)
    assert codes.null_count == column.null_count
    pairs = {
        (canonical(value), (code["hi"], code["lo"])) for value, code in zip(column.to_pylist(), codes.to_pylist(), strict=True) if code
    }
    assert len(pairs) == len({value for value, _ in pairs}) == len({code for _, code in pairs})


@given(columns())
def test_codes_of_another_key_are_refused(column):
    """Whoever decodes with another key gets an error and no value; a column of nulls has nothing to refuse."""
    codes = deterministic.encode(KEY, column)
    if column.null_count == len(column):
        assert deterministic.decode(OTHER, codes, column.type).null_count == len(column)
    else:
        with pytest.raises(IntegrityError):
            deterministic.decode(OTHER, codes, column.type)


def test_types_that_spark_compares_share_codes_and_others_do_not():
    """Integers of all widths have one code for one number; a date, a time and a text of the same bits have others."""
    integers = [deterministic.encode_literal(KEY, 7, kind) for kind in (pa.int8(), pa.int32(), pa.int64(), pa.uint16())]
    assert all(code == integers[0] for code in integers)
    epoch = datetime(1970, 1, 1)
    kinds = [pa.timestamp("us"), pa.timestamp("us", tz="UTC"), pa.float64(), pa.decimal128(21, 0), pa.decimal128(21, 2), pa.string()]
    others = [deterministic.encode(KEY, pa.array([7]).cast(kind))[0].as_py()["hi"] for kind in kinds]
    days = deterministic.encode_literal(KEY, date.fromordinal(epoch.toordinal() + 7), pa.date32())["hi"]
    assert len({integers[0]["hi"], days, *others}) == len(others) + 2


def test_a_literal_beside_a_narrow_float_is_a_double():
    """As for Spark, 0.1 is no value of a column of float32, and lies below the float that was written as 0.1; 0.5 is one."""
    kind = pa.float32()
    column = pa.array([0.1, 0.5], kind)
    codes = deterministic.encode(KEY, column).field("hi").to_pylist()
    assert deterministic.encode_literal(KEY, 0.1, kind)["hi"] not in codes
    assert deterministic.encode_literal(KEY, 0.5, kind)["hi"] == codes[1]
    assert deterministic.encode_literal(KEY, column[0].as_py(), kind)["hi"] == codes[0]
    builder = order.DictionaryBuilder()
    builder.add(column)
    dictionary = builder.finish()
    assert [order.encode_literal(dictionary, 0.1, kind, above=above) for above in (False, True)] == [0, 0]
    assert [order.encode_literal(dictionary, 0.5, kind, above=above) for above in (False, True)] == [1, 2]


@given(columns())
def test_ranks_are_ordered_as_the_values_are(column):
    """Ranks decode to the column, sort as its values do, and need no more than the number of distinct values."""
    builder = order.DictionaryBuilder()
    for part in (column[: len(column) // 2], column[len(column) // 2 :]):
        builder.add(part)
    dictionary = builder.finish()
    ranks = order.encode(dictionary, column)
    assert same(order.decode(dictionary, ranks, column.type), column)
    present = [value for value in column.to_pylist() if value is not None]
    expected = sorted({canonical(value) for value in present})
    assert [expected.index(canonical(value)) for value in present] == ranks.drop_null().to_pylist()
    # A small part of a column with a large dictionary takes another way.
    for row in range(min(3, len(column))):
        assert order.encode(dictionary, column[row : row + 1]).equals(ranks[row : row + 1])


@given(st.lists(INTEGERS, min_size=1, max_size=20), INTEGERS)
def test_literals_lie_where_the_value_would(values, literal):
    """Each comparison of a rank with a literal's rank answers as the comparison of the values."""
    builder = order.DictionaryBuilder()
    builder.add(pa.array(values))
    dictionary = builder.finish()
    below, above = (order.encode_literal(dictionary, literal, pa.int64(), above=side) for side in (False, True))
    for value, rank in zip(values, order.encode(dictionary, pa.array(values)).to_pylist(), strict=True):
        assert (rank < below, rank < above) == (value < literal, value <= literal)


@given(st.lists(st.none() | st.integers(-(2**40), 2**40), max_size=60), st.integers(1, 2**40), st.data())
def test_sums_of_any_rows_open(values, first_row, data):
    """The limbs of any rows, added up, open to the sum of their values under the cover of just these rows."""
    codes = additive.encode(KEY, pa.array(values, pa.int64()), first_row=first_row)
    kept = [row for row, value in enumerate(values) if value is not None and data.draw(st.booleans())]
    hi, lo = (sum(codes[row].as_py()[name] for row in kept) for name in additive.FIELDS)
    assert additive.open_sum(KEY, hi, lo, np.array(kept, np.int64) + first_row) == sum(values[row] for row in kept)
    rows = np.arange(first_row, first_row + len(values))
    assert additive.decode(KEY, codes, pa.int64(), rows).to_pylist() == values


def test_what_sums_cannot_hold_is_refused():
    """A column whose positive or negative values exceed 64 bits together is refused, part by part too; the largest that fits is not."""
    largest, least = 2**63 - 1, -(2**63)
    for fitting in ([largest], [least], [largest, least], [2**62, 2**62 - 1]):
        codes = additive.encode(KEY, pa.array(fitting))
        hi, lo = (sum(code[name] for code in codes.to_pylist()) for name in additive.FIELDS)
        assert additive.open_sum(KEY, hi, lo, np.arange(1, len(fitting) + 1)) == sum(fitting)
    for excessive in ([largest, 1], [least, -1], [2**62, 2**62]):
        with pytest.raises(DataError, match="64 bits"):
            additive.encode(KEY, pa.array(excessive))
        total = additive.Range()
        additive.encode(KEY, pa.array(excessive[:1]), total=total)
        with pytest.raises(DataError, match="64 bits"):
            additive.encode(KEY, pa.array(excessive[1:]), first_row=2, total=total)


def test_floats_are_summed_exactly_or_refused():
    """Floats of the declared digits sum as decimals do; a value with more digits is refused and not rounded."""
    column = pa.array([0.1, 0.2, 1234567.89, None, -0.3])
    codes = additive.encode(KEY, column, digits=2)
    hi, lo = (pc.sum(codes.field(name)).as_py() for name in additive.FIELDS)
    assert additive.open_sum(KEY, hi, lo, np.array([1, 2, 3, 5])) == 123456789
    for refused, digits in ((0.125, 2), (float("nan"), 2), (float("inf"), 2), (1e300, 2)):
        with pytest.raises(DataError, match="digits"):
            additive.encode(KEY, pa.array([refused]), digits=digits)
    with pytest.raises(DataError, match="only with a number of digits"):
        additive.encode(KEY, column)


def test_a_cover_is_checked():
    """A cover that names a row twice, or one that there cannot be, is refused; bitmaps give the rows that Spark's functions put in."""
    for cover in ([1, 1], [0], [-5, 2]):
        with pytest.raises(IntegrityError, match="cover"):
            additive.open_sum(KEY, 0, 0, np.array(cover))
    # bitmap_bit_position(1) is 0, of 32769 it is 0 again, in bitmap_bucket_number 2.
    assert additive.cover_of_bitmaps([1, 2], [bytes([0b101]), bytes([0, 1])]).tolist() == [1, 3, 32768 + 9]
    for bucket, bitmap in ((0, b"\x01"), (1, bytes(4097))):
        with pytest.raises(IntegrityError, match="cover"):
            additive.cover_of_bitmaps([bucket], [bitmap])


def test_masked_limbs_look_random():
    """Limbs of a constant column are uniform by the chi-squared test, bit by bit and byte by byte, and rows are uncorrelated.

    The bounds are five and six standard deviations, which the fixed key either meets for ever or never.
    """
    count = 200_000
    codes = additive.encode(KEY, pa.array(np.full(count, 7)))
    for name in additive.FIELDS:
        limbs = codes.field(name).to_numpy()
        octets = np.bincount(limbs.view(np.uint8), minlength=256)
        expected = 4 * count / 256
        chi_squared = float(((octets - expected) ** 2 / expected).sum())
        assert abs(chi_squared - 255) < 5 * np.sqrt(2 * 255)
        ones = np.unpackbits(limbs.view(np.uint8).reshape(count, 4), axis=1).mean(axis=0)
        assert np.all(np.abs(ones - 0.5) < 6 * 0.5 / np.sqrt(count))
        assert abs(np.corrcoef(limbs[1:], limbs[:-1])[0, 1]) < 6 / np.sqrt(count)
        assert len(np.unique(limbs)) > count * 0.99


def test_masks_of_parts_are_those_of_the_whole():
    """Encoding a column in parts gives the codes of encoding it at once, wherever the parts begin."""
    column = pa.array(np.arange(100_001))
    whole = additive.encode(KEY, column)
    for cut in (1, 2, 32_767, 32_768, 77_777):
        parts = [additive.encode(KEY, column[:cut]), additive.encode(KEY, column[cut:], first_row=cut + 1)]
        assert pa.concat_arrays(parts).equals(whole)


TEXTS = st.from_regex(r"(\+[0-9]{1,3}[ -])?[0-9]{6,12}", fullmatch=True)


@given(st.lists(st.none() | TEXTS, max_size=30))
def test_tokens_keep_format_and_equality(texts):
    """A token has the length and the other characters of its text, decodes to it, and equals another just if the texts are equal."""
    column = pa.array(texts, pa.string())
    tokens = token.encode(KEY, column, alphabet=DIGITS)
    assert token.decode(KEY, tokens, alphabet=DIGITS).equals(column)
    shape = str.maketrans(DIGITS, "9" * 10)
    assert [text and text.translate(shape) for text in tokens.to_pylist()] == [text and text.translate(shape) for text in texts]
    assert len(set(tokens.to_pylist())) == len(set(texts))


def test_tokens_of_few_possibilities_are_refused():
    """One text with fewer than six digits refuses the column; an empty one does, too."""
    assert token.encode(KEY, pa.array(["123456", None]), alphabet=DIGITS).null_count == 1
    for text in ("12345", "", "+-", "12-345"):
        with pytest.raises(DataError, match="fewer than a million"):
            token.encode(KEY, pa.array(["123456", text]), alphabet=DIGITS)
    with pytest.raises(DataError, match="no tokens"):
        token.encode(KEY, pa.array([123456]), alphabet=DIGITS)


def test_unfit_types_and_literals_are_refused():
    """Lists have no codes, texts no sums, values beyond 64 bits no words, and a literal of another type or null is no literal."""
    lists, wide = pa.array([[1.0]]), pa.array([Decimal(2**64)], pa.decimal128(38, 0))
    for refused in (lists, wide, pa.array([2**63], pa.uint64()), pa.array([1], pa.timestamp("ns"))):
        with pytest.raises(DataError):
            deterministic.encode(KEY, refused)
    for refused in (lists, pa.array(["a"]), pa.array([True]), pa.array([date(2026, 1, 1)])):
        with pytest.raises(DataError, match="no sums"):
            additive.encode(KEY, refused)
    for value in ("seven", None, 7.5, 2**70):
        with pytest.raises(UsageError):
            deterministic.encode_literal(KEY, value, pa.int64())
    assert deterministic.encode_literal(KEY, 7, pa.int64())
