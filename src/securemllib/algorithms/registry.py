"""The table of algorithms by their pyspark.ml class name, and how Params become an algorithm.

A job names an algorithm and its Params as Spark users know them (``LogisticRegression``, ``regParam``). This table is the only place
where such a name becomes code: a name that is not in it does not run.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar, cast, get_type_hints

from securemllib.errors import UsageError

__all__ = ["ALGORITHMS", "TRANSFORMERS", "algorithm_of", "build", "build_transformer", "module_of", "param_name", "sums_of", "types_of"]

_Found = TypeVar("_Found")

# Where each operation is that a job may name.
_ALGORITHMS = {
    "AFTSurvivalRegression": "aft_survival_regression",
    "ALS": "als",
    "BinaryClassificationEvaluator": "evaluation.binary",
    "BisectingKMeans": "bisecting_kmeans",
    "BoostingEvaluator": "evaluation.boosting",
    "BucketedRandomProjectionLSH": "feature.bucketed_random_projection_lsh",
    "ChiSqSelector": "feature.chi_sq_selector",
    "ChiSquareTest": "stat.chi_square_test",
    "ClassCounter": "one_vs_rest",
    "ClusteringEvaluator": "evaluation.clustering",
    "Correlation": "stat.correlation",
    "CountVectorizer": "feature.count_vectorizer",
    "DecisionTreeClassifier": "decision_tree",
    "DecisionTreeRegressor": "decision_tree",
    "FMClassifier": "factorization_machines",
    "FMRegressor": "factorization_machines",
    "FPGrowth": "fp_growth",
    "GBTClassifier": "gradient_boosting",
    "GBTRegressor": "gradient_boosting",
    "GaussianMixture": "gaussian_mixture",
    "GeneralizedLinearEvaluator": "evaluation.generalized_linear",
    "GeneralizedLinearRegression": "generalized_linear_regression",
    "IDF": "feature.idf",
    "Imputer": "feature.imputer",
    "IsotonicRegression": "isotonic_regression",
    "KMeans": "kmeans",
    "LDA": "lda",
    "LinearRegression": "linear_regression",
    "LinearSVC": "linear_svc",
    "LogisticRegression": "logistic_regression",
    "MaxAbsScaler": "feature.max_abs_scaler",
    "MinHashLSH": "feature.min_hash_lsh",
    "MinMaxScaler": "feature.min_max_scaler",
    "MulticlassClassificationEvaluator": "evaluation.multiclass",
    "MultilabelClassificationEvaluator": "evaluation.multilabel",
    "MultilayerPerceptronClassifier": "multilayer_perceptron",
    "NaiveBayes": "naive_bayes",
    "NearestNeighbors": "feature.nearest_neighbors",
    "OneHotEncoder": "feature.one_hot_encoder",
    "PCA": "pca",
    "PowerIterationClustering": "power_iteration_clustering",
    "PrefixSpan": "prefix_span",
    "QuantileDiscretizer": "feature.quantile_discretizer",
    "RandomForestClassifier": "random_forest",
    "RandomForestRegressor": "random_forest",
    "RankingEvaluator": "evaluation.ranking",
    "Recommender": "evaluation.recommendations",
    "RegressionEvaluator": "evaluation.regression",
    "RobustScaler": "feature.robust_scaler",
    "StandardScaler": "standard_scaler",
    "StringIndexer": "feature.string_indexer",
    "Summarizer": "stat.summarizer",
    "TargetEncoder": "feature.target_encoder",
    "TopicEvaluator": "evaluation.topics",
    "UnivariateFeatureSelector": "feature.univariate_feature_selector",
    "VarianceThresholdSelector": "feature.variance_threshold_selector",
    "VectorIndexer": "feature.vector_indexer",
    "Word2Vec": "word2vec",
}

# Transformers that nothing is trained for, models of given labels among them: a plan names them.
_TRANSFORMERS = {
    "Binarizer": "feature.buckets",
    "Bucketizer": "feature.buckets",
    "ClassAgainstRest": "one_vs_rest",
    "CountVectorizerModel": "feature.count_vectorizer",
    "DCT": "feature.scaling",
    "ElementwiseProduct": "feature.scaling",
    "FeatureHasher": "feature.hashing",
    "GeneralizedLinearResiduals": "evaluation.generalized_linear_residuals",
    "HashingTF": "feature.hashing",
    "HighestScore": "one_vs_rest",
    "IndexToString": "feature.labels",
    "Interaction": "feature.shape",
    "NGram": "feature.text",
    "Normalizer": "feature.scaling",
    "PolynomialExpansion": "feature.shape",
    "RegexTokenizer": "feature.text",
    "StopWordsRemover": "feature.text",
    "StringIndexerModel": "feature.string_indexer",
    "Tokenizer": "feature.text",
    "VectorSizeHint": "feature.shape",
    "VectorSlicer": "feature.shape",
}


def module_of(name: str) -> str:
    """Return the module of an operation, whether this installation has it or not; `UsageError` where none has that name."""
    return f"securemllib.algorithms.{_found('operation', _ALGORITHMS | _TRANSFORMERS, name)}"


def _present(names: Iterable[str]) -> dict[str, type[Any]]:
    """Return the operations whose files are here: an enclave may have been built without the others."""
    return {name: getattr(import_module(module_of(name)), name) for name in names if find_spec(module_of(name))}


def _found(kind: str, table: Mapping[str, _Found], name: str) -> _Found:
    if name not in table:
        raise UsageError(f"no {kind} is called {name!r} here; there are {', '.join(sorted(table))}", code="usage.algorithm")
    return table[name]


# All are loaded at once: a file that is read when its job comes is another one than was measured, where nothing but software measures.
ALGORITHMS, TRANSFORMERS = _present(_ALGORITHMS), _present(_TRANSFORMERS)


def param_name(field: str) -> str:
    """Return the pyspark.ml Param name of a snake_case field: ``reg_param`` is ``regParam``."""
    return re.sub(r"_([a-z0-9])", lambda found: found.group(1).upper(), field).replace("InMb", "InMB")


def algorithm_of(name: str) -> type[Any]:
    """Return the class of an algorithm; `UsageError` where none here has that name."""
    return _found("algorithm", ALGORITHMS, name)


def build(name: str, params: Mapping[str, object]) -> Any:
    """Return the algorithm of one job.

    Args:
        name: A pyspark.ml class name, for example ``"LogisticRegression"``.
        params: Values by pyspark.ml Param name; lists stand for vectors and lists of lists for matrices.

    Raises:
        UsageError: The name or a Param is unknown, or a value is out of its domain.
    """
    return _built(name, algorithm_of(name), params)


def build_transformer(name: str, params: Mapping[str, object]) -> Any:
    """Return a transformer that nothing was trained for; arguments and errors as those of `build`."""
    return _built(name, _found("transformer", TRANSFORMERS, name), params)


def _built(name: str, algorithm: type[Any], params: Mapping[str, object]) -> Any:
    known = {param_name(field.name): field.name for field in fields(algorithm) if field.init}
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise UsageError(f"{name} has no Param {unknown[0]!r}; it has {', '.join(sorted(known))}", code="usage.param")
    return algorithm(**{known[param]: _frozen(value) for param, value in params.items()})


# What the annotations say, which takes longer to ask than a small round.
_TYPES: dict[type[Any], tuple[type[Any], type[Any], type[Any]]] = {}


def types_of(algorithm: type[Any]) -> tuple[type[Any], type[Any], type[Any]]:
    """Return the classes of an algorithm's state, statistics and model, as its own annotations name them."""
    if algorithm not in _TYPES:
        methods = ("initial", "exchange" if hasattr(algorithm, "exchange") else "statistics", "to_model")
        state, statistics, model = (get_type_hints(getattr(algorithm, method))["return"] for method in methods)
        _TYPES[algorithm] = state, statistics, model
    return _TYPES[algorithm]


def sums_of(algorithm: type[Any]) -> type[Any]:
    """Return the class of the sums that an algorithm's models may carry, as its own annotation names it."""
    return cast(type[Any], get_type_hints(algorithm.sums)["return"])


def _frozen(value: object) -> object:
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value
