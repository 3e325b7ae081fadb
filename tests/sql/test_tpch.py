"""Do eight queries of TPC-H on encoded columns give what plain Spark gives on the clear ones?"""

from pathlib import Path

import pytest

from tests.sql.rows import same_rows

# The least tables of which every query finds rows.
SCALE, SEED = 0.002, 8


@pytest.fixture(scope="module")
def tpch():
    """The benchmark's tables and queries."""
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    import tpch

    yield tpch
    patch.undo()


@pytest.fixture(scope="module")
def directories(owner, session, spark, tpch):
    """All tables, encoded and in the clear under the same names."""
    found = {}
    for name, table in tpch.make_tables(SCALE, SEED).items():
        groups = {part.split("join_group: ")[1].split("}")[0] for part in tpch.ENCODINGS[name].split("{") if "join_group" in part}
        found[name] = owner.encode(table, name, tpch.ENCODINGS[name], groups=groups)
        owner.plain(spark, table, name)
        session.readEncoded(found[name]).createOrReplaceTempView(name)
    return found


@pytest.mark.parametrize("number", [1, 3, 5, 6, 10, 12, 14, 19])
def test_a_tpch_query_gives_what_plain_spark_gives(number, directories, owner, session, spark, tmp_path, tpch):
    """The opened result has plain Spark's columns and rows, in its order."""
    text = tpch.QUERIES[number].text
    session.sql(text).save(str(tmp_path / "result"))
    expected = spark.sql(text).toArrow()
    same_rows(owner.open(str(tmp_path / "result"), *directories.values()), expected, ordered=True)
    assert all(column.null_count == 0 for column in expected.columns)
