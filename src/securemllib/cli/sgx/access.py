"""How much of each algorithm's time is random access to a table that may be larger than the caches: declared, with the reason.

Rows are read in order; at random are factors, topics, histograms and sums. A share counts only as far as its table misses the cache: each
workload says how large its table is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["SHARES", "UNKNOWN", "Share"]


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

# An operation that is not listed counts as random altogether.
UNKNOWN = Share(share=1.0, reason="not analysed: all of it counts as random")

SHARES: Mapping[str, Share] = {
    "LogisticRegression": _PRODUCTS,
    "LinearRegression": _PRODUCTS,
    "LinearSVC": _PRODUCTS,
    "PCA": Share(share=0.0, reason="one product of a slice with itself into a matrix that is walked in blocks"),
    "KMeans": Share(share=0.0, reason="rows are read in order against centres that stay in the cache"),
    "NaiveBayes": Share(
        share=0.5, reason="dense rows are a product; each value of a sparse row is one read in order and one addition at random"
    ),
    "GBTClassifier": Share(share=0.5, reason="each value is one byte read in order and one addition into a bin of its node's histogram"),
    "RandomForestClassifier": Share(share=0.5, reason="as GBTClassifier"),
    "ALS": Share(share=0.25, reason="one row of factors fetched at random a rating, for rank (rank + 3) / 2 multiply-adds in order"),
    "LDA": Share(share=0.1, reason="a document's topics are fetched at random once, and used in about ten steps"),
}
