"""What an analyst does with SecureMLlib, each thing once, on a Spark Connect session; prints what became of each as one line of JSON."""

import json
import os
import sys
from pathlib import Path

from pyspark.ml.linalg import Vectors
from pyspark.sql import SparkSession

from securemllib.errors import SecureMLlibError
from securemllib.ml import Pipeline
from securemllib.ml import classification as classes
from securemllib.ml import clustering as clusters
from securemllib.ml import evaluation as judges
from securemllib.ml import feature as features
from securemllib.ml import regression as curves
from securemllib.ml.evaluation import BinaryClassificationEvaluator, RegressionEvaluator
from securemllib.ml.feature import PCA, StandardScaler, StringIndexer, VectorAssembler
from securemllib.ml.fpm import FPGrowth, PrefixSpan
from securemllib.ml.recommendation import ALS
from securemllib.ml.stat import ChiSquareTest, Correlation, Summarizer, describe
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

    def networks_and_machines(self):
        network = classes.MultilayerPerceptronClassifier(labelCol="group", layers=[3, 2, 3], maxIter=1, seed=1).fit(self.features)
        machine = classes.FMClassifier(labelCol="ill", factorSize=2, maxIter=1, seed=1).fit(self.features)
        other = curves.FMRegressor(labelCol="dose", factorSize=2, maxIter=1, seed=1).fit(self.features)
        return len(network.release().weights) == 17 and machine.release().factors.numCols == other.release().factors.numCols == 2

    def one_class_against_the_rest(self):
        one = classes.LogisticRegression(labelCol="group", maxIter=1)
        model = classes.OneVsRest(classifier=one, labelCol="group").fit(self.features)
        judge = judges.MulticlassClassificationEvaluator(labelCol="group", metricName="accuracy")
        return 0.0 <= judge.evaluate(model.transform(self.features)) <= 1.0

    def generalized_linear_models(self):
        model = curves.GeneralizedLinearRegression(labelCol="dose", maxIter=2).fit(self.features)
        return len(model.release().coefficients) == 3 and model.evaluate(self.features).deviance > 0.0

    def other_regressions(self):
        survival = curves.AFTSurvivalRegression(labelCol="pressure", censorCol="ill", maxIter=2).fit(self.features)
        curve = curves.IsotonicRegression(featuresCol="age", labelCol="pressure").fit(self.rows)
        return survival.release().scale > 0.0 and len(curve.release().boundaries) > 1

    def trees(self):
        forests = [kind(labelCol="ill", numTrees=2, **SMALL) for kind in (classes.RandomForestClassifier, curves.RandomForestRegressor)]
        boosted = [kind(labelCol="ill", maxIter=1, **SMALL) for kind in (classes.GBTClassifier, curves.GBTRegressor)]
        single = [kind(labelCol="ill", **SMALL) for kind in (classes.DecisionTreeClassifier, curves.DecisionTreeRegressor)]
        models = [estimator.fit(self.features) for estimator in (*forests, *boosted, *single)]
        grown = [model.release().getNumTrees for model in models[:4]]
        return grown == [2, 2, 1, 1] and models[4].release().depth <= 2 and len(models[2].evaluateEachIteration(self.features)) == 1

    def clusterings(self):
        means = clusters.KMeans(k=2, maxIter=1, initSteps=1, seed=1).fit(self.features)
        mixture = clusters.GaussianMixture(k=2, maxIter=1, seed=1).fit(self.features)
        halves = clusters.BisectingKMeans(k=2, maxIter=1, seed=1).fit(self.features)
        silhouette = judges.ClusteringEvaluator().evaluate(means.transform(self.features))
        found = [len(means.release().clusterCenters()), len(mixture.release().weights), len(halves.release().clusterCenters())]
        return found == [2, 2, 2] and -1.0 <= silhouette <= 1.0

    def graphs(self):
        walk = clusters.PowerIterationClustering(k=2, maxIter=1, srcCol="user", dstCol="friend")
        return set(walk.assignClusters(self.rows)["id"]) == set(range(6))

    def topics(self):
        counts = VectorAssembler(inputCols=["age", "weight"], outputCol="features").transform(self.rows)
        model = clusters.LDA(k=2, maxIter=1, seed=1).fit(counts)
        return model.release().vocabSize() == 2 and model.logPerplexity(counts) > 0.0

    def recommendations(self):
        model = ALS(userCol="user", itemCol="item", ratingCol="dose", rank=2, maxIter=1, seed=1).fit(self.rows)
        return model.release().rank == 2 and len(model.recommendForAllUsers(1)) == 6

    def frequent_patterns(self):
        sets = FPGrowth(itemsCol="basket", minSupport=0.5).fit(self.rows).release().freqItemsets
        span = PrefixSpan(minSupport=0.5, sequenceCol="baskets")
        return len(sets) == len(span.findFrequentSequentialPatterns(self.rows)) == 1

    def scalers(self):
        stages = [
            features.MinMaxScaler(inputCol="features", outputCol="least"),
            features.MaxAbsScaler(inputCol="features", outputCol="most"),
            features.RobustScaler(inputCol="features", outputCol="robust"),
            features.Imputer(inputCols=["dose"], outputCols=["filled"]),
            features.QuantileDiscretizer(inputCol="dose", outputCol="bucket", numBuckets=2),
            features.VectorIndexer(inputCol="features", outputCol="indexed", maxCategories=2),
        ]
        return self.has_columns(stages, ["least", "most", "robust", "filled", "bucket", "indexed"])

    def texts_and_categories(self):
        stages = [
            features.CountVectorizer(inputCol="basket", outputCol="counted"),
            features.IDF(inputCol="counted", outputCol="weighed"),
            features.OneHotEncoder(inputCols=["group"], outputCols=["slots"]),
            features.TargetEncoder(inputCols=["group"], outputCols=["targets"], labelCol="ill"),
            features.Word2Vec(inputCol="basket", outputCol="meant", vectorSize=2, seed=1),
        ]
        return self.has_columns(stages, ["weighed", "slots", "targets", "meant"])

    def selectors_and_hashes(self):
        univariate = features.UnivariateFeatureSelector(outputCol="univariate", labelCol="ill")
        stages = [
            features.VarianceThresholdSelector(outputCol="varying", varianceThreshold=2.0),
            features.ChiSqSelector(outputCol="dependent", labelCol="ill", numTopFeatures=1),
            univariate.setFeatureType("continuous").setLabelType("categorical").setSelectionThreshold(1),
            features.BucketedRandomProjectionLSH(inputCol="features", outputCol="near", bucketLength=2.0, seed=1),
            features.MinHashLSH(inputCol="features", outputCol="common", seed=1),
        ]
        near = stages[-1].fit(self.features).approxNearestNeighbors(self.features, Vectors.dense(1.0, 1.0, 1.0), 3)
        found = near.release(columns=["distCol"]).open().num_rows
        return found == 3 and self.has_columns(stages, ["varying", "dependent", "univariate", "near", "common"])

    def has_columns(self, stages, names):
        """Return whether a pipeline of these stages gives sealed rows these columns."""
        rows = Pipeline(stages=stages).fit(self.features).transform(self.features).select(*names)
        return rows.release(columns=names).open().num_rows == 60

    def metrics_of_lists(self):
        several = judges.MultilabelClassificationEvaluator(predictionCol="liked", labelCol="likes").evaluate(self.rows)
        ranking = judges.RankingEvaluator(predictionCol="liked", labelCol="likes").evaluate(self.rows)
        return 0.0 <= several <= 1.0 and 0.0 <= ranking <= 1.0

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
        if len(ChiSquareTest.test(self.features, "features", "ill", flatten=True)) != 3:
            return False
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
    checks = [name for name in vars(Matrix) if not name.startswith("_") and name not in {"in_mode", "has_columns"}]
    found = {name.replace("_", " "): outcome(getattr(matrix, name)) for name in checks}
    print(json.dumps({"session": type(spark).__module__, "found": found}))
    spark.stop()


if __name__ == "__main__":
    main()
