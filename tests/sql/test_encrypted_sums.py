"""Does Spark sum and average CKKS columns over the rows that a query chooses, and is what a host changes noticed where keys tell?"""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("tenseal", reason="needs securemllib[homomorphic]")

import tenseal

from securemllib.crypto.encodings.homomorphic import BLOCK_ROWS
from securemllib.errors import CoverError, FreshnessError, IntegrityError, UsageError
from securemllib.owner.companion import open_companion
from securemllib.owner.query_results import write_query_result
from securemllib.wire.companion import PUBLIC_CONTEXT
from securemllib.wire.query import HEADER_FILE, ROWS_DIRECTORY, Form, ResultHeader
from tests.sql.rows import same_rows

ROWS, PER_PART = 9_000, 5_000
ENCODINGS = "{shop: deterministic, day: order, year: clear, price: homomorphic, tip: homomorphic, pay: additive}"


def sales() -> pa.Table:
    """A table of parts and blocks of several sizes, with nulls in a summed column."""
    random = np.random.default_rng(4)
    return pa.table(
        {
            "shop": pa.array(np.array(["north", "south", "east"])[random.integers(0, 3, ROWS)], mask=random.random(ROWS) < 0.05),
            "day": random.integers(1, 366, ROWS),
            "year": random.integers(2020, 2024, ROWS),
            "price": random.normal(50, 20, ROWS).round(2),
            "tip": pa.array(random.integers(-5, 9, ROWS), mask=random.random(ROWS) < 0.3),
            "pay": random.integers(0, 100, ROWS),
        }
    )


@pytest.fixture(scope="module")
def directory(owner, session, spark):
    """The table, encoded and in the clear under one name."""
    path = owner.encode(sales(), "sales", ENCODINGS, rows_per_part=PER_PART)
    owner.plain(spark, sales(), "sales")
    session.readEncoded(path).createOrReplaceTempView("sales")
    return path


QUERIES = [
    "SELECT sum(price) AS s, avg(price) AS a, count(price) AS n, count(*) AS rows FROM sales",
    """SELECT shop, sum(price) AS s, avg(tip) AS t, sum(pay) AS p, count(tip) AS n FROM sales
       WHERE day BETWEEN 20 AND 200 AND year > 2020 GROUP BY shop""",
    "SELECT year, sum(tip) AS t FROM sales WHERE shop = 'east' GROUP BY year HAVING sum(price) > 10 ORDER BY year",
    "SELECT sum(CASE WHEN shop = 'east' THEN price ELSE 0 END) AS e, avg(price) FILTER (WHERE day < 9) AS f FROM sales",
    "SELECT sum(price) AS s, avg(tip) AS a, count(tip) AS n FROM sales WHERE year = 1999",
    "SELECT shop, day, sum(price) - avg(tip) AS d FROM sales WHERE day < 4 GROUP BY shop, day",
]


@pytest.mark.parametrize("text", QUERIES)
def test_a_sum_of_ciphertexts_gives_what_plain_spark_gives(owner, session, spark, directory, tmp_path, text):
    """Global, filtered and grouped sums, averages and counts open to plain Spark's, to the precision of CKKS."""
    session.sql(text).save(str(tmp_path / "result"))
    same_rows(owner.open(str(tmp_path / "result"), directory), spark.sql(text).toArrow(), ordered="ORDER" in text)


REFUSED = [
    ("SELECT price FROM sales", "price"),
    ("SELECT sum(price * 2) AS s FROM sales", "price"),
    ("SELECT sum(pay) AS s FROM sales WHERE price > 3", "price"),
    ("SELECT max(tip) AS m FROM sales", "tip"),
    ("SELECT count(*) AS n FROM sales GROUP BY price", "price"),
    ("SELECT count(*) AS n FROM sales WHERE tip IS NULL", "tip"),
]


@pytest.mark.parametrize(("text", "column"), REFUSED)
def test_what_ciphertexts_cannot_answer_is_refused(session, directory, text, column):
    """Only sums, averages and counts are computed of a homomorphic column; the error names it and what would help."""
    with pytest.raises(UsageError) as raised:
        session.sql(text).explain()
    assert raised.value.error_code == "usage.encoding"
    assert column in raised.value.reason


@pytest.fixture(scope="module")
def result(owner, session, directory, tmp_path_factory):
    """A sum of rows of each block, which leaves slots without a row; it opens."""
    path = tmp_path_factory.mktemp("sums") / "result"
    session.sql("SELECT sum(price) AS s FROM sales WHERE day < 40").save(str(path))
    assert owner.open(str(path), directory).num_rows == 1
    return path


def test_the_host_opens_no_sum(result, directory):
    """A result's ciphertexts are of a context without a secret key, and the context has no other."""
    stored = pq.read_table(result / ROWS_DIRECTORY)
    field = next(field for field in ResultHeader.from_bytes((result / HEADER_FILE).read_bytes()).fields if field.form is Form.SUM)
    metadata = pq.read_schema(next(Path(directory, "companion").glob("ckks-*.parquet"))).metadata
    context = tenseal.context_from(bytes.fromhex(metadata[PUBLIC_CONTEXT.encode()].decode()))
    assert not context.is_private()
    with pytest.raises(ValueError, match="secret_key"):
        tenseal.ckks_vector_from(context, stored[field.physical[0]][0].as_py()).decrypt()


def changed(result, target, change):
    """Return a copy of a result whose rows were changed."""
    shutil.copytree(result, target)
    header = ResultHeader.from_bytes((target / HEADER_FILE).read_bytes())
    field = next(field for field in header.fields if field.form is Form.SUM)
    rows = pq.read_table(target / ROWS_DIRECTORY)
    name = field.physical[0]
    values = change(rows[name].to_pylist())
    for file in (target / ROWS_DIRECTORY).iterdir():
        file.unlink()
    pq.write_table(
        rows.set_column(rows.column_names.index(name), name, pa.array(values, pa.binary())), target / ROWS_DIRECTORY / "p.parquet"
    )
    return str(target)


def blocks(directory, column):
    """Return the public context and the ciphertexts of a column, as the host has them."""
    position = ["price", "tip"].index(column)
    table = pq.read_table(Path(directory, "companion", f"ckks-{position:05d}.parquet"))
    context = tenseal.context_from(bytes.fromhex(table.schema.metadata[PUBLIC_CONTEXT.encode()].decode()))
    context.auto_rescale = False
    return [tenseal.ckks_vector_from(context, value) for value in table["ciphertext"].to_pylist()]


def masked(found, choose):
    """Return the sum of blocks, each masked."""
    total = None
    for number, block in enumerate(found):
        mask = np.zeros(block.size())
        choose(number, mask)
        mask[BLOCK_ROWS:] = 1.0
        term = block * mask.tolist()
        total = term if total is None else total + term
    return bytes(total.serialize())


@pytest.mark.parametrize("attack", ["a block twice", "a block swapped", "a block left out", "another column", "no ciphertext", "missing"])
def test_a_sum_of_other_blocks_is_refused(owner, result, directory, tmp_path, attack):
    """Each block's guards are its own: a sum of other blocks than those of the rows that it names, or of another key, does not open."""
    found = blocks(directory, "tip" if attack == "another column" else "price")
    if attack == "a block twice":
        found = [*found, found[0]]
    if attack == "a block swapped":
        found[0] = found[1]
    if attack == "a block left out":
        found = found[1:]
    forged = {"no ciphertext": b"noise" * 99, "missing": None}.get(attack, b"")
    forged = masked(found, lambda number, mask: None) if forged == b"" else forged
    with pytest.raises(IntegrityError):
        owner.open(changed(result, tmp_path / "forged", lambda values: [forged] * len(values)), directory)


def test_a_sum_over_other_rows_is_noticed_where_a_slot_is_free(owner, result, directory, tmp_path):
    """A mask that adds all rows leaves values where the named rows have none: such a sum does not open; one of no change does."""

    def everything(number, mask):
        mask[:BLOCK_ROWS] = 1.0

    forged = masked(blocks(directory, "price"), everything)
    with pytest.raises(CoverError):
        owner.open(changed(result, tmp_path / "all", lambda values: [forged] * len(values)), directory)
    assert owner.open(changed(result, tmp_path / "same", lambda values: values), directory).num_rows == 1


def test_sums_of_two_groups_that_change_places_are_noticed(owner, session, directory, tmp_path):
    """The sums of two small groups that a host exchanges name other rows than they add; as they were they open."""
    session.sql("SELECT shop, sum(price) AS s FROM sales WHERE day < 3 GROUP BY shop").save(str(tmp_path / "groups"))
    assert owner.open(str(tmp_path / "groups"), directory).num_rows > 1
    with pytest.raises(IntegrityError):
        owner.open(changed(tmp_path / "groups", tmp_path / "exchanged", lambda values: values[1:] + values[:1]), directory)


def test_a_result_of_another_version_does_not_open(owner, session, tmp_path):
    """The next version of a dataset has other keys, so a result of the one before is refused, and so is one that says it were of it."""
    text = "SELECT shop, sum(price) AS s FROM {} WHERE year = 2021 GROUP BY shop"
    versions = [owner.encode(sales(), "sales-1", ENCODINGS)]
    for number, name in enumerate(("before", "after")):
        if number:
            versions.append(owner.encode(sales(), "sales-2", ENCODINGS, previous=versions[0]))
        session.readEncoded(versions[number]).createOrReplaceTempView(name)
        session.sql(text.format(name)).save(str(tmp_path / name))
        assert owner.open(str(tmp_path / name), versions[number]).num_rows > 1
    with pytest.raises(FreshnessError):
        owner.open(str(tmp_path / "before"), versions[1])
    (tmp_path / "before" / HEADER_FILE).write_bytes((tmp_path / "after" / HEADER_FILE).read_bytes())
    with pytest.raises(IntegrityError):
        owner.open(str(tmp_path / "before"), versions[1])


def test_a_result_beyond_its_precision_is_refused(owner, result, directory, tmp_path):
    """A disturbance of more than the bound in the guards is found."""
    found = blocks(directory, "price")
    found[0] = found[0] + [2.0**-10] * found[0].size()
    with pytest.raises(IntegrityError) as raised:
        owner.open(changed(result, tmp_path / "r", lambda values: [masked(found, lambda *_: None)] * len(values)), directory)
    assert raised.value.error_code == "integrity.precision"


def test_opened_sums_do_not_go_back_to_the_host(owner, result, directory, tmp_path):
    """A result of a query is never opened into a directory that the host reads; elsewhere it is."""
    companions = [open_companion(directory, owner=owner.identity.public, keystore=owner.keystore)]
    for folder in (result, Path(directory)):
        with pytest.raises(UsageError) as raised:
            write_query_result(result, folder / "opened.parquet", companions)
        assert raised.value.error_code == "usage.destination"
        assert not (folder / "opened.parquet").exists()
    assert write_query_result(result, tmp_path / "opened.parquet", companions) == pq.read_table(tmp_path / "opened.parquet").num_rows
