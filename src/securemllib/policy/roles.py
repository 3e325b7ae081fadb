"""The columns without which an operation has nothing to work on, by their roles in a job."""

from securemllib.errors import UsageError
from securemllib.wire.job import JobSpecification

__all__ = ["READ", "require_roles"]

_LEARNED = ("features", "label")

# What an operation does without when a job does not name it, such as weights, is not here.
READ: dict[str, tuple[str, ...]] = {
    "AFTSurvivalRegression": (*_LEARNED, "censor"),
    "ALS": ("user", "item"),
    "BinaryClassificationEvaluator": _LEARNED,
    "BisectingKMeans": ("features",),
    "BoostingEvaluator": _LEARNED,
    "BucketedRandomProjectionLSH": ("input0",),
    "ChiSqSelector": ("input0", "label"),
    "ChiSquareTest": ("input0", "label"),
    "ClassCounter": ("label",),
    "ClusteringEvaluator": ("features", "prediction"),
    "Correlation": ("input0",),
    "CountVectorizer": ("input0",),
    "DecisionTreeClassifier": _LEARNED,
    "DecisionTreeRegressor": _LEARNED,
    "FMClassifier": _LEARNED,
    "FMRegressor": _LEARNED,
    "FPGrowth": ("input0",),
    "GBTClassifier": _LEARNED,
    "GBTRegressor": _LEARNED,
    "GaussianMixture": ("features",),
    "GeneralizedLinearEvaluator": ("label", "prediction"),
    "GeneralizedLinearRegression": _LEARNED,
    "IDF": ("input0",),
    "Imputer": ("input0",),
    "IsotonicRegression": ("input0", "label"),
    "KMeans": ("features",),
    "LDA": ("features",),
    "LinearRegression": _LEARNED,
    "LinearSVC": _LEARNED,
    "LogisticRegression": _LEARNED,
    "MaxAbsScaler": ("input0",),
    "MinHashLSH": ("input0",),
    "MinMaxScaler": ("input0",),
    "MulticlassClassificationEvaluator": ("label", "prediction"),
    "MultilabelClassificationEvaluator": ("input0", "input1"),
    "MultilayerPerceptronClassifier": _LEARNED,
    "NaiveBayes": _LEARNED,
    "NearestNeighbors": ("input0", "input1"),
    "OneHotEncoder": ("input0",),
    "PCA": ("features",),
    "PowerIterationClustering": ("input0", "input1"),
    "PrefixSpan": ("input0",),
    "QuantileDiscretizer": ("input0",),
    "RandomForestClassifier": _LEARNED,
    "RandomForestRegressor": _LEARNED,
    "RankingEvaluator": ("input0", "input1"),
    "Recommender": ("features",),
    "RegressionEvaluator": ("label", "prediction"),
    "RobustScaler": ("input0",),
    "StandardScaler": ("features",),
    "StringIndexer": ("input0",),
    "Summarizer": ("input0",),
    "TargetEncoder": ("input0", "input1"),
    "TopicEvaluator": ("features",),
    "UnivariateFeatureSelector": ("input0", "label"),
    "VarianceThresholdSelector": ("input0",),
    "VectorIndexer": ("input0",),
    "Word2Vec": ("input0",),
}


def require_roles(job: JobSpecification) -> None:
    """Raise unless a job names a column for every role without which its operation does not work.

    Raises:
        UsageError: It names none for one of them.
    """
    if missing := [role for role in READ.get(job.operation, ()) if role not in job.inputs]:
        raise UsageError(
            f"The job names no column for what {job.operation} reads as {', '.join(missing)}.",
            next_step="Name the columns in the job's inputs, by their roles.",
            code="usage.roles",
        )
