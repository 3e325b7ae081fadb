"""Does a test that was written for pyspark.ml run against sealed training with changed imports only, and count as what it is?"""

import sys

import pytest

from securemllib.ml import feature
from tests.spark_suite.adapter import Sealing
from tests.spark_suite.run import Result, changed, load, report, run_module

SUITE = """
import tempfile
import unittest

from pyspark.errors import PySparkException
from pyspark.ml.feature import Word2Vec
from pyspark.ml.linalg import Vectors
from pyspark.ml.regression import LinearRegression, LinearRegressionModel
from pyspark.sql import DataFrame, SparkSession


class LineTests(unittest.TestCase):
    def setUp(self):
        self.spark = SparkSession.builder.getOrCreate()
        rows = [(1.0, Vectors.dense(0.0)), (3.0, Vectors.sparse(1, [0], [1.0])), (5.0, Vectors.dense(2.0))]
        self.df = self.spark.createDataFrame(rows, ["label", "features"])

    def tearDown(self):
        self.spark.stop()

    def test_line(self):
        model = LinearRegression().fit(self.df)
        self.assertAlmostEqual(model.intercept, 1.0)
        output = model.transform(self.df)
        self.assertIsInstance(output, DataFrame)
        self.assertEqual(output.columns, ["label", "features", "prediction"])
        self.assertEqual([round(row.prediction, 6) for row in output.collect()], [1.0, 3.0, 5.0])
        self.assertEqual(model.summary.residuals.count(), 3)
        with tempfile.TemporaryDirectory() as folder:
            model.write().overwrite().save(folder)
            self.assertAlmostEqual(LinearRegressionModel.load(folder).coefficients[0], 2.0)

    def test_wrong_number(self):
        self.assertEqual(LinearRegression().fit(self.df).numFeatures, 7)

    def test_refusal_is_an_exception_of_spark(self):
        with self.assertRaisesRegex(PySparkException, "does not exist"):
            LinearRegression(labelCol="nothing").fit(self.df)

    def test_refused(self):
        LinearRegression(aggregationDepth=3).fit(self.df)

    @unittest.skip("Spark's own reason")
    def test_skipped(self):
        pass

    def test_missing_class(self):
        Word2Vec(inputCol="words").fit(self.df)
"""


@pytest.fixture(scope="module")
def outcomes(deployment, session, spark, tmp_path_factory):
    """What the runner says of the suite above."""
    path = tmp_path_factory.mktemp("suite") / "test_line.py"
    path.write_text(SUITE)
    modules = Sealing.modules()
    sys.modules.update(modules)
    result = Result(prints=False)
    try:
        # Every class is built, so one is taken away.
        with Sealing(deployment, session).installed(), pytest.MonkeyPatch.context() as changes:
            changes.delattr(feature, "Word2Vec")
            run_module(load(path), spark, result)
    finally:
        for name in (*modules, "spark_test_line"):
            sys.modules.pop(name, None)
    return result.outcomes


def test_only_imports_change():
    """Imports of operations and exceptions change; those of types and everything else stay."""
    source = "from pyspark.ml.feature import PCA\nfrom pyspark.ml.linalg import Vectors\n# from pyspark.ml.feature import x\n"
    assert changed(source) == source.replace("pyspark.ml.feature import PCA", "sealed_ml.feature import PCA")
    assert changed("    from pyspark.errors import A") == "    from sealed_ml.errors import A"


def test_a_test_of_pyspark_passes_on_sealed_rows(outcomes):
    """Fit, attributes, transform, summary and persistence do what the test expects of pyspark.ml, and Spark survives its test case."""
    assert (outcomes["test_line"], outcomes["test_refusal_is_an_exception_of_spark"]) == ("passed", "passed")


def test_what_does_not_pass_says_why(outcomes):
    """A wrong expectation names its line, a refusal its code, and a class that is not built its name."""
    assert outcomes["test_wrong_number"] == "line 34: AssertionError: 1 != 7"
    assert outcomes["test_refused"].startswith("refused: usage.unsupported: aggregationDepth")
    assert outcomes["test_missing_class"] == "not built: Word2Vec"


def test_the_report_counts_each_kind(outcomes):
    """The page counts tests that pass, that need a class that is not built, and that differ, and leaves out those that Spark skips."""
    text = report({"test_line.py": outcomes}, "4", "the commit 0c0ffee")
    assert "at the commit 0c0ffee" in text
    assert "test_skipped" not in text
    assert "**2 of 5 pass**" in text
    assert "| test_line.py | 5 | 2 | 1 | 2 |" in text
