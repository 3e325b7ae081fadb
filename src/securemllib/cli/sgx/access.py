"""How much of each algorithm's time is random access to a table that may be larger than the caches: declared, with the reason.

Rows are read in order; at random are factors, topics, histograms and sums. A share counts only as far as its table misses the cache: each
workload says how large its table is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["SHARES", "Share"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """An upper bound on the share of an algorithm's CPU time.

    Attributes:
        share: 0 to 1.
        reason: Why not more.
    """

    share: float
    reason: str


_PRODUCTS = Share(share=0.0, reason="rows are read in order, a product a slice; coefficients stay in the cache")
_SUMS = Share(share=0.0, reason="columns are read in order, into a few sums a column")
_TREES = Share(share=0.5, reason="each value is one byte read in order and one addition into a bin of its node's histogram")
_DISTINCT = Share(share=0.5, reason="values are sorted in order, then each fetches its place at random and adds to a count there")
_BINS = Share(share=0.5, reason="each value is one read in order and one addition into a bin")
_TEXTS = Share(share=0.75, reason="each text is read in order, looked up in a hash table, compared there, and counted")

# Every algorithm that a job may name; a test compares.
SHARES: Mapping[str, Share] = {
    "LogisticRegression": _PRODUCTS,
    "LinearRegression": _PRODUCTS,
    "LinearSVC": _PRODUCTS,
    "PCA": Share(share=0.0, reason="one product of a slice with itself into a matrix that is walked in blocks"),
    "KMeans": Share(share=0.0, reason="rows are read in order against centres that stay in the cache"),
    "NaiveBayes": Share(
        share=0.5, reason="dense rows are a product; each value of a sparse row is one read in order and one addition at random"
    ),
    "GBTClassifier": _TREES,
    "RandomForestClassifier": _TREES,
    "ALS": Share(share=0.25, reason="one row of factors fetched at random a rating, for rank (rank + 3) / 2 multiply-adds in order"),
    "LDA": Share(share=0.1, reason="a document's topics are fetched at random once, and used in about ten steps"),
    "AFTSurvivalRegression": _PRODUCTS,
    "BisectingKMeans": Share(
        share=0.0, reason="rows are read in order, each against the two centres of its cluster, which stay in the cache"
    ),
    "DecisionTreeClassifier": _TREES,
    "DecisionTreeRegressor": _TREES,
    "FMClassifier": _PRODUCTS,
    "FMRegressor": _PRODUCTS,
    "FPGrowth": Share(
        share=0.5, reason="a first pass looks items up in a hash table and scatters them into bits; the others read bits in order"
    ),
    "GBTRegressor": _TREES,
    "GaussianMixture": Share(share=0.0, reason="rows are read in order against covariances that stay in the cache"),
    "GeneralizedLinearRegression": _PRODUCTS,
    "IsotonicRegression": _DISTINCT,
    "MultilayerPerceptronClassifier": Share(share=0.0, reason="rows are read in order; layers are products that are walked in blocks"),
    "PowerIterationClustering": Share(
        share=0.75, reason="an edge is read in order, and fetches two nodes by binary search, a value and a sum at random"
    ),
    "PrefixSpan": Share(
        share=0.75, reason="items are looked up in a hash table; a pattern's next items are fetched where the rows that hold it go on"
    ),
    "RandomForestRegressor": _TREES,
    "ClassCounter": _SUMS,
    "BucketedRandomProjectionLSH": _SUMS,
    "ChiSqSelector": _DISTINCT,
    "ChiSquareTest": _DISTINCT,
    "Correlation": Share(share=0.5, reason="pearson is a product; of spearman a rank is a binary search among distinct values"),
    "CountVectorizer": _TEXTS,
    "IDF": _BINS,
    "Imputer": _DISTINCT,
    "MaxAbsScaler": _SUMS,
    "MinHashLSH": _SUMS,
    "MinMaxScaler": _SUMS,
    "NearestNeighbors": Share(share=0.0, reason="distances are read in order, and the smallest of a slice are sorted"),
    "OneHotEncoder": _SUMS,
    "QuantileDiscretizer": _BINS,
    "RobustScaler": _BINS,
    "StandardScaler": _SUMS,
    "StringIndexer": _TEXTS,
    "Summarizer": _SUMS,
    "TargetEncoder": _DISTINCT,
    "UnivariateFeatureSelector": _DISTINCT,
    "VarianceThresholdSelector": _SUMS,
    "VectorIndexer": _DISTINCT,
    "BinaryClassificationEvaluator": _DISTINCT,
    "BoostingEvaluator": _SUMS,
    "ClusteringEvaluator": Share(share=0.0, reason="rows are read in order against sums of clusters that stay in the cache"),
    "GeneralizedLinearEvaluator": _SUMS,
    "MulticlassClassificationEvaluator": _DISTINCT,
    "MultilabelClassificationEvaluator": _DISTINCT,
    "RankingEvaluator": _DISTINCT,
    "Recommender": Share(share=0.0, reason="factors are multiplied with all partners' in blocks"),
    "RegressionEvaluator": _SUMS,
    "TopicEvaluator": _SUMS,
    "Word2Vec": Share(
        share=0.25,
        reason="vectors of words and of inner nodes are fetched at random, each read in order; those near the root stay in the cache",
    ),
}
