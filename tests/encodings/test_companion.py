"""Does a companion hold just what its schema declares, for just its dataset's version, and can its owner open what Spark answers?"""

import shutil
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tenseal

from securemllib.crypto.encodings.homomorphic import PRECISION, block_guards
from securemllib.crypto.encodings.keys import group_key
from securemllib.crypto.identity import PrivateIdentity
from securemllib.crypto.keys import DataKey
from securemllib.errors import IntegrityError, PolicyError, RefusedError, UsageError
from securemllib.owner import dataset, identity_file
from securemllib.owner.companion import OpenCompanion, open_companion, write_companion
from securemllib.owner.encoding_schema import schema_from_text
from securemllib.owner.keystore import Keystore
from securemllib.owner.query_literals import LiteralEncoder
from securemllib.owner.reading import open_dataset
from securemllib.wire.companion import COMPANION_DIRECTORY, COMPANION_FILE, PUBLIC_CONTEXT, ROW_COLUMN, EncodingName
from securemllib.wire.query import LiteralCodes, Place, QueryLiteral

SCHEMA = """
columns:
  customer: {encoding: deterministic, join_group: customers}
  city: deterministic
  amount: additive
  price: {encoding: additive, digits: 2}
  day: order
  card: {encoding: token, alphabet: digits}
  dose: homomorphic
  region: clear
"""


@dataclass(frozen=True)
class Owner:
    """Who encrypts in these tests."""

    identity: PrivateIdentity
    keystore: Keystore

    def encrypt(self, rows: pa.Table, directory: Path, schema: str = SCHEMA, **options: object) -> OpenCompanion:
        """Encrypt a table with a companion, and open that."""
        encodings = schema_from_text(schema)
        keys = {"identity": self.identity, "keystore": self.keystore}
        options = {"accept_leakage": rows.column_names, **options}
        dataset.encrypt(rows, directory, name="orders", encodings=encodings, **keys, **options)
        return self.open(directory)

    def open(self, directory: Path) -> OpenCompanion:
        """Open a companion."""
        return open_companion(directory, owner=self.identity.public, keystore=self.keystore)


@pytest.fixture
def owner(tmp_path: Path) -> Owner:
    """An owner with one join group."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    made = Owner(identity=identity_file.create(home, "alice", None), keystore=Keystore.create(home / "keystore", None))
    made.keystore.add_join_group("customers")
    return made


@pytest.fixture
def rows() -> pa.Table:
    """Five hundred orders, some without an amount."""
    count = 500
    return pa.table(
        {
            "customer": [row % 90 for row in range(count)],
            "city": [f"city {row % 40}" for row in range(count)],
            "amount": pa.array([None if row % 7 == 0 else Decimal(row).scaleb(-2) for row in range(count)], pa.decimal128(12, 2)),
            "price": [row / 100 for row in range(count)],
            "day": pa.array([None if row % 11 == 0 else date(2026, 1, 1 + row % 28) for row in range(count)]),
            "card": [f"4000-{row:08d}" for row in range(count)],
            "dose": pa.array([None if row % 13 == 0 else row / 7 for row in range(count)]),
            "region": ["north", "south"] * (count // 2),
            "diagnosis": [f"secret {row}" for row in range(count)],
        }
    )


def stored(companion: OpenCompanion) -> pa.Table:
    """Return all rows of a companion as plain Parquet readers see them."""
    return pa.concat_tables(pq.read_table(companion.directory / part.file) for part in companion.companion.parts)


def test_a_companion_holds_what_the_schema_declares(owner: Owner, rows: pa.Table, tmp_path: Path) -> None:
    """Plain Parquet shows the declared codes and row numbers, no other column and no value but the clear ones."""
    companion = owner.encrypt(rows, tmp_path / "orders", rows_per_part=200)
    found = stored(companion)
    assert found.column_names == [
        ROW_COLUMN, "customer__det_hi", "customer__det_lo", "city__det_hi", "city__det_lo", "city__det_text",
        "amount__add_hi", "amount__add_lo", "price__add_hi", "price__add_lo", "day__ord", "card__token", "region",
    ]  # fmt: skip
    assert found[ROW_COLUMN].to_pylist() == list(range(1, 501))
    raw = b"".join((companion.directory / part.file).read_bytes() for part in companion.companion.parts)
    assert b"north" in raw
    assert b"city 1" not in raw
    assert b"secret" not in raw


def test_codes_open_to_the_sealed_rows(owner: Owner, rows: pa.Table, tmp_path: Path) -> None:
    """Whoever holds the keys decodes each column to its rows, nulls included, in the order of the sealed parts."""
    companion = owner.encrypt(rows, tmp_path / "orders", rows_per_part=200)
    found = stored(companion)
    numbers = found[ROW_COLUMN].to_numpy()
    opened = {
        column.description.column: column.decode({name: found[name] for name in column.description.stored}, numbers)
        for column in companion.columns
        if column.description.stored
    }
    whole = pa.table(opened)
    names = whole.column_names
    key = [("city", "ascending"), ("customer", "ascending"), ("price", "ascending")]
    assert whole.sort_by(key).equals(rows.select(names).sort_by(key))


def test_sums_open_under_their_cover(owner: Owner, rows: pa.Table, tmp_path: Path) -> None:
    """The sum of a group's limbs opens to the sum of the group's values, with the cover of its rows that are not null."""
    companion = owner.encrypt(rows, tmp_path / "orders", rows_per_part=200)
    found = stored(companion)
    column = companion.column("amount", EncodingName.ADDITIVE)
    kept = found.filter((pa.compute.field("region") == "north") & pa.compute.field("amount__add_lo").is_valid())
    hi, lo = (sum(kept[name].to_pylist()) for name in column.description.stored)
    expected = sum(row["amount"] for row in rows.to_pylist() if row["region"] == "north" and row["amount"] is not None)
    assert column.open_sum(hi, lo, kept[ROW_COLUMN].to_numpy()) == expected
    assert column.open_sum(hi, lo, kept[ROW_COLUMN].to_numpy()[1:]) != expected


def test_a_literal_finds_its_rows(owner: Owner, rows: pa.Table, tmp_path: Path) -> None:
    """The code of a literal is the code of the rows that hold the value, and of no others."""
    companion = owner.encrypt(rows, tmp_path / "orders")
    found = stored(companion)
    literal = companion.column("city", EncodingName.DETERMINISTIC).literal("city 7")
    mask = [all(row[name] == value for name, value in literal.items()) for row in found.select(list(literal)).to_pylist()]
    assert sum(mask) == rows["city"].to_pylist().count("city 7")


def test_ranges_are_those_of_the_values(owner: Owner, rows: pa.Table, tmp_path: Path) -> None:
    """Comparing ranks with a literal's keeps the rows that comparing the values keeps, for literals that no row has, too."""
    companion = owner.encrypt(rows, tmp_path / "orders", rows_per_part=200)
    ranks = [rank for rank in stored(companion)["day__ord"].to_pylist() if rank is not None]
    days = [day for day in rows["day"].to_pylist() if day is not None]
    column = companion.column("day", EncodingName.ORDER)
    for literal in (date(2025, 12, 31), date(2026, 1, 1), date(2026, 1, 9), date(2026, 1, 28), date(2026, 2, 1)):
        assert sum(rank < column.rank(literal) for rank in ranks) == sum(day < literal for day in days)
        assert sum(rank < column.rank(literal, above=True) for rank in ranks) == sum(day <= literal for day in days)


def test_ciphertexts_open_to_the_rows(owner: Owner, rows: pa.Table, tmp_path: Path) -> None:
    """A homomorphic column's file holds its rows in the companion's order, nulls included, and the host's context has no secret key."""
    companion = owner.encrypt(rows, tmp_path / "orders", rows_per_part=200)
    column = companion.column("dose", EncodingName.HOMOMORPHIC)
    file = pq.read_table(companion.directory / companion.companion.ciphertexts["dose"].file)
    assert file["first_row"].to_pylist() == [1, 167, 334]
    names = ["rows", "present", "ciphertext"]
    blocks = pa.StructArray.from_arrays([file[name].combine_chunks() for name in names], names)
    prices = companion.column("price", EncodingName.ADDITIVE)
    table = stored(companion)
    order = prices.decode({name: table[name] for name in prices.description.stored}, table[ROW_COLUMN].to_numpy()).to_pylist()
    expected = dict(zip(rows["price"].to_pylist(), rows["dose"].to_pylist(), strict=True))
    found = column.secret.decode(blocks, lambda start: block_guards(column.key, 1 + start)).to_pylist()
    assert [value is None for value in found] == [expected[price] is None for price in order]
    assert max(abs(value - expected[price]) for value, price in zip(found, order, strict=True) if value is not None) < PRECISION
    public = tenseal.context_from(bytes.fromhex(file.schema.metadata[PUBLIC_CONTEXT.encode()].decode()))
    assert not public.has_secret_key()


def test_columns_that_tell_too_much_are_refused(owner: Owner, tmp_path: Path) -> None:
    """A column with few values, or one that counting or sorting opens, is refused by name until its leakage is accepted by name."""
    generator = np.random.default_rng(1)
    rows = pa.table(
        {
            "few": generator.integers(0, 20, 5000),
            "zipf": np.minimum(generator.zipf(1.3, 5000), 10**9),
            "age": generator.integers(0, 90, 5000),
            "id": generator.permutation(5000),
        }
    )
    for name, encoding in (("few", "deterministic"), ("zipf", "deterministic"), ("age", "order")):
        schema = f"columns: {{{name}: {encoding}}}"
        with pytest.raises(PolicyError, match=f"'{name}' as {encoding}"):
            owner.encrypt(rows, tmp_path / name, schema, accept_leakage=["id"])
        assert not (tmp_path / name).exists()
        assert owner.encrypt(rows, tmp_path / name, schema, accept_leakage=[name]).columns
    assert owner.encrypt(rows, tmp_path / "id", "columns: {id: deterministic}", accept_leakage=[]).columns


@pytest.mark.parametrize(("one", "other"), [("city__ord", "city"), ("City", "city"), ("__ROW", "city")])
def test_two_columns_of_a_companion_have_two_names(owner: Owner, tmp_path: Path, one: str, other: str) -> None:
    """A schema whose columns would be stored under one name, in any case, is refused as such; other names are taken."""
    rows = pa.table([["a", "b"], ["c", "d"]], [one, other])
    with pytest.raises(UsageError) as raised:
        owner.encrypt(rows, tmp_path / "orders", f"columns: {{{one}: clear, {other}: [clear, order]}}")
    assert raised.value.error_code == "usage.schema"
    assert owner.encrypt(rows, tmp_path / "one", f"columns: {{{other}: [clear, order]}}").columns


def test_a_changed_dictionary_is_refused(owner: Owner, rows: pa.Table, tmp_path: Path) -> None:
    """A sealed dictionary that somebody changed, or took from another version, does not open."""
    one, two = (owner.encrypt(rows, tmp_path / name) for name in ("one", "two"))
    path = one.directory / one.companion.dictionaries["day"].file
    path.write_bytes((two.directory / two.companion.dictionaries["day"].file).read_bytes())
    with pytest.raises(IntegrityError, match="was changed"):
        owner.open(tmp_path / "one")
    assert owner.open(tmp_path / "two").column("day", EncodingName.ORDER).dictionary is not None


def test_only_a_join_group_joins(owner: Owner, rows: pa.Table, tmp_path: Path) -> None:
    """Codes of a group are equal across datasets; codes of another group, of none, or of another version never are."""
    owner.keystore.add_join_group("others")
    group, other, none = (f"columns:\n  customer: {{encoding: deterministic{text}}}\n" for text in (
        ", join_group: customers", ", join_group: others", ""))  # fmt: skip
    opened = [owner.encrypt(rows, tmp_path / f"d{number}", schema) for number, schema in enumerate([group, group, other, none, none])]
    opened.append(owner.encrypt(rows, tmp_path / "v2", none, previous=tmp_path / "d4"))
    codes = [set(stored(companion)["customer__det_hi"].to_pylist()) for companion in opened]
    assert codes[0] == codes[1]
    assert all(codes[one].isdisjoint(codes[two]) for one in range(2, 6) for two in range(one))
    ids = [companion.columns[0].description.key_id for companion in opened]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 5


def test_the_columns_of_a_join_group_have_one_bound_of_literals(owner: Owner, rows: pa.Table, tmp_path: Path) -> None:
    """A host gets no more codes of a key by asking for those of several columns that have it, and of others it still gets them."""
    schema = "columns: {customer: {encoding: deterministic, join_group: customers}, city: deterministic}"
    encoder = LiteralEncoder(owner.identity.public, owner.keystore, limit=2)

    def ask(name: str, column: str, text: str) -> None:
        companion = owner.open(tmp_path / name).companion
        literal = QueryLiteral(dataset=companion.dataset, column=column, encoding=EncodingName.DETERMINISTIC, place=Place.EQUAL, text=text)
        encoder.encode(tmp_path / name, companion.content_digest(), (literal,))

    for name in ("one", "two"):
        owner.encrypt(rows, tmp_path / name, schema)
    for text in ("1", "2"):
        ask("one", "customer", text)
    ask("two", "customer", "2")
    with pytest.raises(RefusedError):
        ask("two", "customer", "3")
    ask("two", "city", "city 3")


@pytest.mark.parametrize(
    ("column", "encoding", "place", "text"),
    [
        ("amount", EncodingName.ORDER, Place.UPPER, "NaN"),
        ("customer", EncodingName.ORDER, Place.UPPER, "NaN"),
        ("customer", EncodingName.ORDER, Place.LOWER, "Infinity"),
        ("customer", EncodingName.ORDER, Place.LOWER, "1_0"),
        ("customer", EncodingName.ORDER, Place.LOWER, "\N{ARABIC-INDIC DIGIT SEVEN}"),
        ("customer", EncodingName.ORDER, Place.LOWER, "1e999999999999"),
        ("day", EncodingName.ORDER, Place.LOWER, "0000-01-01"),
        ("day", EncodingName.ORDER, Place.LOWER, "10000-01-01"),
        ("city", EncodingName.DETERMINISTIC, Place.EQUAL, "\ud800"),
        ("day", EncodingName.CLEAR, Place.EQUAL, "2026-01-01"),
        ("amount", EncodingName.ADDITIVE, Place.EQUAL, "1"),
    ],
)
def test_what_is_no_literal_of_a_column_is_refused(
    owner: Owner, rows: pa.Table, tmp_path: Path, column: str, encoding: EncodingName, place: Place, text: str
) -> None:
    """Whatever a host asks codes of, the error has a code that its agent passes on; what a column may hold is encoded."""
    schema = "columns: {amount: [order, additive], customer: order, day: [order, clear], city: deterministic}"
    companion = owner.encrypt(rows, tmp_path / "orders", schema).companion
    encoder = LiteralEncoder(owner.identity.public, owner.keystore, limit=9)

    def ask(*asked: str) -> list[LiteralCodes]:
        literals = [QueryLiteral(dataset=companion.dataset, column=column, encoding=encoding, place=place, text=text) for text in asked]
        return list(encoder.encode(tmp_path / "orders", companion.content_digest(), tuple(literals)))

    with pytest.raises(UsageError) as raised:
        ask(text)
    assert raised.value.error_code in {"usage.literal", "usage.encoding"}
    if encoding is EncodingName.ORDER:
        assert ask("2026-01-03" if column == "day" else " 7 ")


@pytest.mark.parametrize("encoding", [EncodingName.ADDITIVE, EncodingName.ORDER, EncodingName.HOMOMORPHIC])
def test_only_encodings_that_join_have_a_groups_key(encoding: EncodingName) -> None:
    """Two additive columns under one key would have the same masks; of what is joined the key is the group's."""
    assert group_key(DataKey(bytes(32)), EncodingName.TOKEN.value)
    with pytest.raises(UsageError):
        group_key(DataKey(bytes(32)), encoding.value)


def test_masks_are_used_once(owner: Owner, rows: pa.Table, tmp_path: Path) -> None:
    """A companion that is written again for the same rows has other masks, so two codes never tell the difference of two values."""
    schema, directory = "columns: {price: {encoding: additive, digits: 2}}", tmp_path / "orders"
    first = owner.encrypt(rows, directory, schema)
    one = stored(first)
    shutil.rmtree(first.directory)
    opened = open_dataset(directory, owner=owner.identity.public, keystore=owner.keystore)
    write_companion(opened, schema_from_text(schema), identity=owner.identity, keystore=owner.keystore)
    two = stored(owner.open(directory))
    differences = {(a - b) % 2**32 for a, b in zip(one["price__add_lo"].to_pylist(), two["price__add_lo"].to_pylist(), strict=True)}
    assert len(differences) == rows.num_rows


def test_a_companion_of_another_version_is_refused(owner: Owner, rows: pa.Table, tmp_path: Path) -> None:
    """A companion that was moved to another dataset or version does not open there."""
    owner.encrypt(rows, tmp_path / "one")
    other = owner.encrypt(rows, tmp_path / "two")
    moved = tmp_path / "one" / COMPANION_DIRECTORY / COMPANION_FILE
    moved.write_bytes((other.directory / COMPANION_FILE).read_bytes())
    with pytest.raises(IntegrityError, match="another dataset"):
        owner.open(tmp_path / "one")


def test_what_is_hidden_has_no_companion(owner: Owner, rows: pa.Table, tmp_path: Path) -> None:
    """A dataset whose columns, rows or sizes are hidden gets no companion, which would show them."""
    for option in ("hide_columns", "hide_rows", "size_hiding"):
        with pytest.raises(UsageError, match="cannot be hidden"):
            owner.encrypt(rows, tmp_path / option, **{option: True})
