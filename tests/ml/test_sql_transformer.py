"""Does a statement of SQL give the rows that pyspark.ml's SQLTransformer gives, and is every other one refused?"""

import numpy as np
import pytest
from pyspark.ml import feature

from securemllib.errors import SealedError, UsageError
from securemllib.ml.feature import SQLTransformer
from securemllib.spark.dataframe import SecureDataFrame

STATEMENTS = [
    "SELECT *, (age + dose) AS total, age * pressure AS product FROM __THIS__",
    "select Name, features, AGE as years, -dose AS less FROM __THIS__ WHERE age BETWEEN 30 AND 50 AND NOT `group` IN (1, 2)",
    "SELECT t.name, sqrt(t.age) + exp(dose) / 2 AS x, abs(dose - 3) AS away, CAST(ill AS DOUBLE) AS d FROM __THIS__ AS t WHERE ill = 1",
    "SELECT name, age > 40 AS old, dose IS NULL AS none FROM __THIS__ WHERE name <> 'patient-3' OR pressure < 120.5",
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_statement_gives_mllibs_rows(features, plain, statement):
    """Columns, their types, which rows there are and their values are those of MLlib."""
    ours = SQLTransformer(statement=statement).transform(features)
    theirs = feature.SQLTransformer(statement=statement).transform(plain)
    assert ours.dtypes == theirs.dtypes
    key = ours.columns[0] if "age" not in ours.columns else "name"
    rows, wanted = (table.sort_values(key).reset_index() for table in (ours.release(columns=ours.columns).toPandas(), theirs.toPandas()))
    assert len(rows) == len(wanted) > 0
    for name in ours.columns:
        if name == "features":
            np.testing.assert_allclose(np.stack(rows[name]), np.stack([value.toArray() for value in wanted[name]]), rtol=1e-15)
        elif wanted[name].dtype == float:
            # Logarithms and powers of two libraries may differ in their last digit.
            np.testing.assert_allclose(rows[name], wanted[name], rtol=1e-14)
        else:
            assert (rows[name] == wanted[name]).all()


UNNAMED = (
    "age + 1", "t.AGE + 1", "age+(1 + 2) * dose", "-dose", "+dose", "sqrt(age)", "ABS(dose - 3)", "exp(dose) / 2", "CAST(ill AS DOUBLE)",
    "age > 40 AND NOT ill = 1", "dose IS NULL", "dose IS NOT NULL", "age BETWEEN 30 AND 50", "`group` IN (1, 2)",
    "name <> 'patient-3'", "name != 'it''s'", "1", "1.5", "1e3", "'text'", "TRUE", "(age)", "age == 3 OR age <= 2",
)  # fmt: skip


def test_expressions_without_a_name_are_called_as_spark_calls_them(features, plain):
    """The columns of expressions have MLlib's names, whether one is selected or all are, beside a star and names as well."""
    for selected in (*UNNAMED, "double(ill)", ", ".join(UNNAMED), "*, age + 1, age AS years"):
        statement = f"SELECT {selected} FROM __THIS__ AS t"
        theirs = feature.SQLTransformer(statement=statement).transform(plain)
        assert SQLTransformer(statement=statement).transform(features).dtypes == theirs.dtypes, selected
    statement = "SELECT name, age + 1, dose * 2 FROM __THIS__"
    ours = SQLTransformer(statement=statement).transform(features)
    rows = ours.release(columns=ours.columns).toPandas().sort_values("name")
    wanted = feature.SQLTransformer(statement=statement).transform(plain).toPandas().sort_values("name")
    assert (rows["(age + 1)"].to_numpy() == wanted["(age + 1)"].to_numpy()).all()
    np.testing.assert_array_equal(rows["(dose * 2)"], wanted["(dose * 2)"])
    assert not [table for table in features.session.spark.catalog.listTables() if table.name.startswith("securemllib_")]


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("SELECT age + 1, age + 1 FROM __THIS__", "AS total"),
        ("SELECT avg(age) AS a FROM __THIS__", "no sealed rows"),
        ("SELECT age FROM __THIS__ GROUP BY age", "GROUP"),
        ("SELECT age FROM __THIS__ ORDER BY age", "ORDER"),
        ("SELECT age FROM __THIS__ JOIN other ON true", "nothing else"),
        ("SELECT age FROM patients", "nothing else"),
        ("SELECT upper(name) AS n FROM __THIS__", "UPPER"),
        ("SELECT features + 1 AS n FROM __THIS__", "vector"),
        ("SELECT nothing FROM __THIS__", "not there"),
        ("DROP TABLE __THIS__", "one SELECT"),
        ("SELECT (", "no Spark SQL"),
        ("SELECT age AS a, dose AS a FROM __THIS__", "twice.*AS"),
    ],
)
def test_other_statements_are_refused(features, statement, why):
    """What enclaves do not evaluate is an error that says so before a job is sent."""
    with pytest.raises(UsageError, match=why):
        SQLTransformer(statement=statement).transform(features)


def test_a_statement_is_saved_and_needs_columns(features, tmp_path):
    """A loaded transformer has the statement; none, and rows whose owner hides their columns, are errors."""
    transformer = SQLTransformer(statement=STATEMENTS[0])
    transformer.save(str(tmp_path / "statement"))
    loaded = SQLTransformer.load(str(tmp_path / "statement"))
    assert loaded.getStatement() == STATEMENTS[0]
    assert loaded.transform(features).columns[-2:] == ["total", "product"]
    with pytest.raises(UsageError, match="needs a statement"):
        SQLTransformer().transform(features)
    with pytest.raises(SealedError, match="hides"):
        loaded.transform(SecureDataFrame(features.session, features.source, None))
