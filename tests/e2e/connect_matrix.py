"""What an analyst does with SecureMLlib, each thing once, on a Spark Connect session; prints what became of each as one line of JSON."""

import json
import os
import sys
from pathlib import Path

from pyspark.sql import SparkSession

from securemllib.errors import SecureMLlibError
from securemllib.ml import Pipeline
from securemllib.ml import classification as classes
from securemllib.ml import clustering as clusters
from securemllib.ml import regression as curves
from securemllib.ml.evaluation import BinaryClassificationEvaluator, RegressionEvaluator
from securemllib.ml.feature import PCA, StandardScaler, StringIndexer, VectorAssembler
from securemllib.ml.recommendation import ALS
from securemllib.ml.stat import Correlation, Summarizer, describe
from securemllib.ml.tuning import CrossValidator, ParamGridBuilder
from securemllib.spark import SecureSession
from securemllib.spark.functions import col

FEATURES = ["age", "dose", "pressure"]
SMALL = {"maxDepth": 2, "maxBins": 8, "seed": 1}


class Matrix:
    """Every check takes what it needs from here, and raises or returns what must be true."""

    def __init__(self, spark, dataset, folder):
        self.spark, self.dataset, self.folder = spark, dataset, folder
        self.session = self.in_mode("enclave")
        self.rows = self.session.read(dataset)
        self.features = VectorAssembler(inputCols=FEATURES, outputCol="features").transform(self.rows)

    def in_mode(self, mode):
        """Return a session that adds statistics there."""
        conf = {"dtype": "float64", "storage": str(self.folder / "storage"), "mode": mode, "enclave.idle": "30", "shares": "2"}
        broker = os.environ["SECUREMLLIB_BROKER"]
        return SecureSession(self.spark, broker, {f"spark.securemllib.{key}": value for key, value in conf.items()})

    def columns_and_count(self):
        return self.rows.count() == 60 and "age" in self.rows.columns

    def rows_that_are_released(self):
        found = self.rows.filter(col("age") > 40).select("name", "age").release(columns=["name", "age"]).open()
        return 0 < found.num_rows < 60

    def linear_models(self):
        logistic = classes.LogisticRegression(labelCol="ill", maxIter=2).fit(self.features)
        linear = curves.LinearRegression(labelCol="dose", featuresCol="features", solver="normal").fit(self.features)
        return len(logistic.release().coefficients) == len(linear.release().coefficients) == 3

    def other_classifiers(self):
        assembled = VectorAssembler(inputCols=["age", "weight"], outputCol="positive").transform(self.rows)
        bayes = classes.NaiveBayes(labelCol="group", featuresCol="positive").fit(assembled)
        machine = classes.LinearSVC(labelCol="ill", maxIter=1).fit(self.features)
        return bayes.release().theta.numRows == 3 and len(machine.release().coefficients) == 3

    def generalized_linear_models(self):
        return len(curves.GeneralizedLinearRegression(labelCol="dose", maxIter=2).fit(self.features).release().coefficients) == 3

    def trees(self):
        forest = classes.RandomForestClassifier(labelCol="ill", numTrees=2, **SMALL).fit(self.features)
        boosted = curves.GBTRegressor(labelCol="dose", maxIter=1, **SMALL).fit(self.features)
        return forest.release().getNumTrees == 2 and boosted.release().getNumTrees == 1

    def clusterings(self):
        means = clusters.KMeans(k=2, maxIter=1, initSteps=1, seed=1).fit(self.features)
        mixture = clusters.GaussianMixture(k=2, maxIter=1, seed=1).fit(self.features)
        return len(means.release().clusterCenters()) == len(mixture.release().weights) == 2

    def topics(self):
        counts = VectorAssembler(inputCols=["age", "weight"], outputCol="features").transform(self.rows)
        return clusters.LDA(k=2, maxIter=1, seed=1).fit(counts).release().vocabSize() == 2

    def recommendations(self):
        model = ALS(userCol="user", itemCol="item", ratingCol="dose", rank=2, maxIter=1, seed=1).fit(self.rows)
        return model.release().rank == 2

    def feature_transformers(self):
        scaled = StandardScaler(inputCol="features", outputCol="scaled").fit(self.features).transform(self.features)
        reduced = PCA(k=2, inputCol="scaled", outputCol="reduced").fit(scaled).transform(scaled)
        indexed = StringIndexer(inputCol="name", outputCol="index").fit(reduced).transform(reduced)
        return indexed.select("reduced", "index").release(columns=["reduced", "index"]).open().num_rows == 60

    def pipelines_and_evaluation(self):
        stages = [
            StandardScaler(inputCol="features", outputCol="scaled"),
            classes.LogisticRegression(featuresCol="scaled", labelCol="ill", maxIter=1),
        ]
        model = Pipeline(stages=stages).fit(self.features)
        return 0.0 <= BinaryClassificationEvaluator(labelCol="ill").evaluate(model.transform(self.features)) <= 1.0

    def tuning(self):
        linear = curves.LinearRegression(labelCol="dose", solver="normal")
        grid = ParamGridBuilder().addGrid(linear.regParam, [0.0, 1.0]).build()
        judge = RegressionEvaluator(labelCol="dose")
        return (
            len(CrossValidator(estimator=linear, estimatorParamMaps=grid, evaluator=judge, numFolds=2).fit(self.features).avgMetrics) == 2
        )

    def saved_and_loaded_models(self):
        path = str(self.folder / "model")
        model = clusters.KMeans(k=2, maxIter=1, initSteps=1, seed=1).fit(self.features)
        model.save(path)
        loaded = clusters.KMeansModel.load(path)
        return loaded.sealed == model.sealed and "prediction" in loaded.transform(self.features).columns

    def summaries(self):
        mean = Summarizer.metrics("mean").summary(self.features, "features").mean
        return describe(self.rows, *FEATURES).loc["mean"].tolist() == list(mean) and Correlation.corr(self.features, "features") is not None

    def partitioned_mode(self):
        session = self.in_mode("partitioned")
        rows = VectorAssembler(inputCols=FEATURES, outputCol="features").transform(session.read(self.dataset))
        return len(clusters.KMeans(k=2, maxIter=2, initSteps=1, seed=1).fit(rows).release().clusterCenters()) == 2

    def streams(self):
        writer = self.rows.select("name").writeStream.option("checkpointLocation", str(self.folder / "checkpoint"))
        writer.trigger(availableNow=True).start(str(self.folder / "sink")).awaitTermination()
        return True


def outcome(check):
    """Return what became of a check: ``yes``, ``wrong``, or the code of its refusal."""
    try:
        return "yes" if check() else "wrong"
    except SecureMLlibError as error:
        return error.error_code
    except Exception as error:  # noqa: BLE001 - the table tells of every failure
        return f"{type(error).__name__}: {error}"[:300]


def main() -> None:
    """Do everything once."""
    dataset, folder = sys.argv[1:]
    spark = SparkSession.builder.remote("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    matrix = Matrix(spark, dataset, Path(folder))
    checks = [name for name in vars(Matrix) if not name.startswith("_") and name != "in_mode"]
    found = {name.replace("_", " "): outcome(getattr(matrix, name)) for name in checks}
    print(json.dumps({"session": type(spark).__module__, "found": found}))
    spark.stop()


if __name__ == "__main__":
    main()
