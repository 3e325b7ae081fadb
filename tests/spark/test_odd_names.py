"""Do columns whose names nobody would choose go through all that rows go through?"""

import numpy as np
import pyarrow as pa
import pytest

from securemllib.errors import UsageError
from securemllib.ml.feature import SQLTransformer, StandardScaler, VectorAssembler
from securemllib.ml.regression import LinearRegression
from securemllib.spark.functions import col

NAMES = [
    "with space", "a.b", "back`tick", "größe€", 'quo"te', "it's", "", "x" * 300, "__index_level_0__", "Case", "case", "new\nline", "%s",
    "é", "e\u0301", "\0", "[bold]", "a,b", "-dash", "{brace}",
]  # fmt: skip


@pytest.fixture(scope="module")
def values():
    """A column of numbers for each name."""
    return np.random.default_rng(0).normal(size=(60, len(NAMES)))


@pytest.fixture(scope="module")
def odd(deployment, session, values):
    """The columns, encrypted, beside their sum."""
    table = pa.table([*map(pa.array, values.T), pa.array(values.sum(axis=1))], names=[*NAMES, "label"])
    return session.read(deployment.dataset(table, "odd names", rows_per_part=30))


def test_odd_names_are_trained_and_released_under(odd, values):
    """Vectors are made of such columns, outputs go to such columns, and the rows that leave have these names and their values."""
    rows = VectorAssembler(inputCols=NAMES, outputCol="all of them").transform(odd)
    rows = StandardScaler(inputCol="all of them", outputCol="sca.led`").fit(rows).transform(rows)
    model = LinearRegression(featuresCol="sca.led`", labelCol="label", predictionCol="pre dicted")
    released = model.fit(rows).transform(rows).filter(col("a.b") > 0).release(columns=[*NAMES, "pre dicted"]).toPandas()
    assert list(released.columns) == [*NAMES, "pre dicted"]
    wanted = values[values[:, 1] > 0]
    wanted, found = (each[np.argsort(each[:, 0])] for each in (wanted, released.to_numpy()))
    np.testing.assert_array_equal(found[:, :-1], wanted)
    # The sum of the columns is what a linear model finds exactly, but for rounding.
    np.testing.assert_allclose(found[:, -1], wanted.sum(axis=1), atol=1e-9)


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_an_odd_name_is_found_as_it_is_and_in_backquotes(name, odd):
    """A name selects its column, in Spark's backquotes too; it is given as well as taken."""
    quoted = f"`{name.replace('`', '``')}`"
    for each in (name, quoted, col(name), col(quoted)):
        assert odd.select(each).columns == [name]
    for each in (name, col(name), col(quoted)):
        assert name not in odd.drop(each).columns
    assert odd.select(col(quoted) + 1).columns == [f"({name} + 1)"]
    assert odd.select(odd[quoted].alias("other")).withColumnRenamed("other", name).columns == [name]


@pytest.mark.parametrize("name", ["with space", "a.b", "back`tick", "größe€", "", "new\nline", "x" * 300])
def test_a_statement_takes_odd_names_in_backquotes(name, odd):
    """SQL names such columns in backquotes."""
    rows = odd.select(name, "label")
    statement = f"SELECT `{name.replace('`', '``')}` AS `an.other`, label + 1 FROM __THIS__"
    assert SQLTransformer(statement=statement).transform(rows).columns == ["an.other", "(label + 1)"]


def test_a_column_that_has_the_backquotes_in_its_name_goes_first(deployment, session):
    """Where a column is called like another one in backquotes, it is found by its whole name."""
    rows = session.read(deployment.dataset(pa.table({"a": [1.0], "`a`": [2.0]}), "backquotes"))
    assert rows.select("`a`").columns == ["`a`"]
    assert rows.select("```a```").columns == ["`a`"]


def test_of_many_columns_an_error_names_those_alike(odd):
    """A misspelled name is told beside the names that are like it where there are many, beside all of a few."""
    many = odd.select(*NAMES, "label", *(col("label").alias(f"column {index}") for index in range(40)))
    for rows, named in ((many, "like it: column 39"), (many.select("label", "column 39"), "among label, column 39")):
        with pytest.raises(UsageError, match=named) as caught:
            rows.select("colum 39")
        assert len(str(caught.value)) < 300
