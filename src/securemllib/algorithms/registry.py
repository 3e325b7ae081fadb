"""The table of algorithms by their pyspark.ml class name, and how Params become an algorithm.

A job names an algorithm and its Params as Spark users know them (``LogisticRegression``, ``regParam``). This table is the only place
where such a name becomes code: a name that is not in it does not run.
"""

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, cast, get_type_hints

from securemllib.algorithms.aft_survival_regression import AFTSurvivalRegression
from securemllib.algorithms.als import ALS
from securemllib.algorithms.bisecting_kmeans import BisectingKMeans
from securemllib.algorithms.decision_tree import DecisionTreeClassifier, DecisionTreeRegressor
from securemllib.algorithms.evaluation.binary import BinaryClassificationEvaluator
from securemllib.algorithms.evaluation.boosting import BoostingEvaluator
from securemllib.algorithms.evaluation.clustering import ClusteringEvaluator
from securemllib.algorithms.evaluation.generalized_linear import GeneralizedLinearEvaluator
from securemllib.algorithms.evaluation.generalized_linear_residuals import GeneralizedLinearResiduals
from securemllib.algorithms.evaluation.multiclass import MulticlassClassificationEvaluator
from securemllib.algorithms.evaluation.multilabel import MultilabelClassificationEvaluator
from securemllib.algorithms.evaluation.ranking import RankingEvaluator
from securemllib.algorithms.evaluation.recommendations import Recommender
from securemllib.algorithms.evaluation.regression import RegressionEvaluator
from securemllib.algorithms.evaluation.topics import TopicEvaluator
from securemllib.algorithms.factorization_machines import FMClassifier, FMRegressor
from securemllib.algorithms.feature.bucketed_random_projection_lsh import BucketedRandomProjectionLSH
from securemllib.algorithms.feature.buckets import Binarizer, Bucketizer
from securemllib.algorithms.feature.chi_sq_selector import ChiSqSelector
from securemllib.algorithms.feature.count_vectorizer import CountVectorizer, CountVectorizerModel
from securemllib.algorithms.feature.hashing import FeatureHasher, HashingTF
from securemllib.algorithms.feature.idf import IDF
from securemllib.algorithms.feature.imputer import Imputer
from securemllib.algorithms.feature.labels import IndexToString
from securemllib.algorithms.feature.max_abs_scaler import MaxAbsScaler
from securemllib.algorithms.feature.min_hash_lsh import MinHashLSH
from securemllib.algorithms.feature.min_max_scaler import MinMaxScaler
from securemllib.algorithms.feature.nearest_neighbors import NearestNeighbors
from securemllib.algorithms.feature.one_hot_encoder import OneHotEncoder
from securemllib.algorithms.feature.quantile_discretizer import QuantileDiscretizer
from securemllib.algorithms.feature.robust_scaler import RobustScaler
from securemllib.algorithms.feature.scaling import DCT, ElementwiseProduct, Normalizer
from securemllib.algorithms.feature.shape import Interaction, PolynomialExpansion, VectorSizeHint, VectorSlicer
from securemllib.algorithms.feature.string_indexer import StringIndexer, StringIndexerModel
from securemllib.algorithms.feature.target_encoder import TargetEncoder
from securemllib.algorithms.feature.text import NGram, RegexTokenizer, StopWordsRemover, Tokenizer
from securemllib.algorithms.feature.univariate_feature_selector import UnivariateFeatureSelector
from securemllib.algorithms.feature.variance_threshold_selector import VarianceThresholdSelector
from securemllib.algorithms.feature.vector_indexer import VectorIndexer
from securemllib.algorithms.fp_growth import FPGrowth
from securemllib.algorithms.gaussian_mixture import GaussianMixture
from securemllib.algorithms.generalized_linear_regression import GeneralizedLinearRegression
from securemllib.algorithms.gradient_boosting import GBTClassifier, GBTRegressor
from securemllib.algorithms.isotonic_regression import IsotonicRegression
from securemllib.algorithms.kmeans import KMeans
from securemllib.algorithms.lda import LDA
from securemllib.algorithms.linear_regression import LinearRegression
from securemllib.algorithms.linear_svc import LinearSVC
from securemllib.algorithms.logistic_regression import LogisticRegression
from securemllib.algorithms.multilayer_perceptron import MultilayerPerceptronClassifier
from securemllib.algorithms.naive_bayes import NaiveBayes
from securemllib.algorithms.one_vs_rest import ClassAgainstRest, ClassCounter, HighestScore
from securemllib.algorithms.pca import PCA
from securemllib.algorithms.power_iteration_clustering import PowerIterationClustering
from securemllib.algorithms.prefix_span import PrefixSpan
from securemllib.algorithms.random_forest import RandomForestClassifier, RandomForestRegressor
from securemllib.algorithms.standard_scaler import StandardScaler
from securemllib.algorithms.stat.chi_square_test import ChiSquareTest
from securemllib.algorithms.stat.correlation import Correlation
from securemllib.algorithms.stat.summarizer import Summarizer
from securemllib.algorithms.word2vec import Word2Vec
from securemllib.errors import UsageError

__all__ = ["ALGORITHMS", "TRANSFORMERS", "build", "build_transformer", "param_name", "types_of"]

# What a job may name; a job trusts these lines too, so they are few.
ALGORITHMS: dict[str, type[Any]] = {operation.__name__: operation for operation in (
    AFTSurvivalRegression, ALS, BinaryClassificationEvaluator, BisectingKMeans, BoostingEvaluator, BucketedRandomProjectionLSH,
    ChiSqSelector, ChiSquareTest, ClassCounter, ClusteringEvaluator, Correlation, CountVectorizer, DecisionTreeClassifier,
    DecisionTreeRegressor, FMClassifier, FMRegressor, FPGrowth, GBTClassifier, GBTRegressor, GaussianMixture, GeneralizedLinearEvaluator,
    GeneralizedLinearRegression, IDF, Imputer, IsotonicRegression, KMeans, LDA, LinearRegression, LinearSVC, LogisticRegression,
    MaxAbsScaler, MinHashLSH, MinMaxScaler, MulticlassClassificationEvaluator, MultilabelClassificationEvaluator,
    MultilayerPerceptronClassifier, NaiveBayes, NearestNeighbors, OneHotEncoder, PCA, PowerIterationClustering, PrefixSpan,
    QuantileDiscretizer, RandomForestClassifier, RandomForestRegressor, RankingEvaluator, Recommender, RegressionEvaluator, RobustScaler,
    StandardScaler, StringIndexer, Summarizer, TargetEncoder, TopicEvaluator, UnivariateFeatureSelector, VarianceThresholdSelector,
    VectorIndexer, Word2Vec,
)}  # fmt: skip

# Transformers that nothing is trained for, models of given labels among them: a plan names them.
TRANSFORMERS: dict[str, type[Any]] = {operation.__name__: operation for operation in (
    Binarizer, Bucketizer, ClassAgainstRest, CountVectorizerModel, DCT, ElementwiseProduct, FeatureHasher, GeneralizedLinearResiduals,
    HashingTF, HighestScore, IndexToString, Interaction, NGram, Normalizer, PolynomialExpansion, RegexTokenizer, StopWordsRemover,
    StringIndexerModel, Tokenizer, VectorSizeHint, VectorSlicer,
)}  # fmt: skip


def param_name(field: str) -> str:
    """Return the pyspark.ml Param name of a snake_case field: ``reg_param`` is ``regParam``."""
    return re.sub(r"_([a-z0-9])", lambda found: found.group(1).upper(), field).replace("InMb", "InMB")


def build(name: str, params: Mapping[str, object]) -> Any:
    """Return the algorithm of one job.

    Args:
        name: A pyspark.ml class name, for example ``"LogisticRegression"``.
        params: Values by pyspark.ml Param name; lists stand for vectors and lists of lists for matrices.

    Raises:
        UsageError: The name or a Param is unknown, or a value is out of its domain.
    """
    if name not in ALGORITHMS:
        raise UsageError(f"no algorithm is called {name!r}; there are {', '.join(sorted(ALGORITHMS))}", code="usage.algorithm")
    return _built(name, ALGORITHMS[name], params)


def build_transformer(name: str, params: Mapping[str, object]) -> Any:
    """Return a transformer that nothing was trained for; arguments and errors as those of `build`."""
    if name not in TRANSFORMERS:
        raise UsageError(f"no transformer is called {name!r}; there are {', '.join(sorted(TRANSFORMERS))}", code="usage.algorithm")
    return _built(name, TRANSFORMERS[name], params)


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
