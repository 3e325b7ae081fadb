"""Do R formulas make the features and labels that pyspark.ml's RFormula makes?"""

import numpy as np
import pyarrow as pa
import pytest
from pyspark.ml import feature

from securemllib.errors import UsageError
from securemllib.ml.feature import RFormula, RFormulaModel
from securemllib.ml.features.formula_terms import parse_formula

FORMULAS = [
    ({"formula": "y ~ city + x:city + x*z - z - 1", "stringIndexerOrderType": "alphabetDesc"}, ["label"]),
    ({"formula": "kind ~ x + city + 0 + kind:x"}, ["label"]),
    ({"formula": "~ . - city", "featuresCol": "f"}, []),
    ({"formula": "y ~ .:city + 1", "forceIndexLabel": True, "handleInvalid": "skip"}, ["label"]),
]


@pytest.fixture(scope="module")
def rows(deployment, session, spark):
    """Sealed rows of two texts and numbers, and the same in the clear."""
    drawn = np.random.default_rng(4)
    table = pa.table(
        {
            "n": range(40),
            "city": drawn.choice(["Rome", "Oslo", "Bern"], 40, p=[0.5, 0.3, 0.2]).tolist(),
            "kind": drawn.choice(["a", "b"], 40, p=[0.7, 0.3]).tolist(),
            "x": drawn.normal(size=40),
            "z": drawn.integers(0, 5, 40),
            "y": drawn.integers(0, 3, 40).astype(float),
        }
    )
    return session.read(deployment.dataset(table, "formulas")), spark.createDataFrame(table.to_pandas()).coalesce(1)


def dense(value):
    """Return a vector's numbers, of Spark's or as Arrow gives a sparse one."""
    if not isinstance(value, dict):
        return value.toArray() if hasattr(value, "toArray") else value
    filled = np.zeros(value["size"])
    filled[value["indices"]] = value["values"]
    return filled


@pytest.mark.parametrize(("params", "labels"), FORMULAS)
def test_a_formula_makes_mllibs_features(rows, params, labels, tmp_path):
    """Features and labels are MLlib's, the columns too, and those of a loaded model."""
    sealed, plain = rows
    model = RFormula(**params).fit(sealed)
    model.save(str(tmp_path / "model"))
    ours = RFormulaModel.load(str(tmp_path / "model")).transform(sealed)
    theirs = feature.RFormula(**params).fit(plain).transform(plain)
    assert ours.columns == theirs.columns
    features = params.get("featuresCol", "features")
    found = ours.release(columns=["n", features, *labels]).toPandas().sort_values("n")
    wanted = theirs.select("n", features, *labels).toPandas().sort_values("n")
    vectors = [np.stack([dense(value) for value in each[features]]) for each in (found, wanted)]
    np.testing.assert_allclose(*vectors, rtol=1e-15)
    for label in labels:
        assert (found[label].to_numpy() == wanted[label].to_numpy()).all()


@pytest.mark.parametrize("text", ["y", "y ~", "y ~ x +", "y ~ x ^ 2", "(y) ~ x", "y ~ (x + z)", "y ~ x:1", "y ~ 2", "y x ~ z", "1 ~ x"])
def test_what_is_no_formula_is_refused(text):
    """Texts that are no formula, and powers and parentheses, are errors; names, dots and an intercept alone are not."""
    with pytest.raises(UsageError, match="parse formula"):
        parse_formula(text)
    assert parse_formula("y ~ a.b + .c - .").resolved(["x"]) == [("a.b",), (".c",)]
    assert not parse_formula("y ~ x + 0").has_intercept


def test_a_formula_names_columns(rows):
    """A name that is no column, features that are there already and a missing formula are errors."""
    sealed, _ = rows
    for formula, why in (("y ~ nothing", "does not exist"), (None, "must be defined")):
        with pytest.raises(UsageError, match=why):
            (RFormula() if formula is None else RFormula(formula=formula)).fit(sealed)
    with pytest.raises(UsageError, match="already exists"):
        RFormula(formula="y ~ x", featuresCol="z").fit(sealed).transform(sealed)
