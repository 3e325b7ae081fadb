"""Selection of the slots that depend on a label, one by one, by the test that suits their kind.

Objective: the p-value of each slot, of Pearson's test of independence where slots and label are categorical, of the analysis of variance
``F = (sum_k n_k (m_k - m)^2 / (K - 1)) / (sum_k Q_k / (n - K))`` with the rows, means and squares of each label where only the label is,
and of ``F = r^2 / (1 - r^2) (n - 2)`` with the correlation r where both are continuous. By these the slots that ``selection_mode`` and
``selection_threshold`` choose, as a ChiSqSelector's.

Equivalence: ``pyspark.ml.feature.UnivariateFeatureSelector``, with its order of ``selectedFeatures`` where slots are ranked, and their
own order for ``fpr`` and ``fwe``. Equal p-values as a ChiSqSelector's. A slot that is constant, or that has a single value under each
label, has no p-value and is ranked last, as in MLlib where its sums are exact; one that a continuous label follows exactly has the p-value
0. There MLlib's own rounding decides, between 0, 1 and none. NaN is refused. Sparse vectors stay sparse.

Cost: one pass; the zeros of sparse rows cost nothing. Statistics are ``K d`` means and squares, or the distinct pairs of a slot's values
and labels.

Reveals: with mode="enclave" the number of rows and columns, and by the size of sealed messages about how many labels or distinct pairs
there are. With mode="partitioned" the same: counts and moments are merged inside enclaves.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.columns import labels_of
from securemllib.algorithms.feature.contingency import Contingency
from securemllib.algorithms.feature.moments import Moments
from securemllib.algorithms.feature.selection import MODES, SelectorModel, selected
from securemllib.algorithms.feature.values import inputs_of, vector_of
from securemllib.algorithms.params import require_choice, require_number
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.vectors import AnyVector, Vector, beside
from securemllib.errors import DataError, UsageError

__all__ = ["UnivariateFeatureSelector", "UnivariateFeatureSelectorState", "UnivariateFeatureSelectorStatistics"]

_KINDS = ("categorical", "continuous")
# Java's largest integer.
_MOST_SELECTED = 2.0**31 - 1
# Of doubles below 1.
_LARGEST_CORRELATION = 1.0 - 2.0**-53
_THRESHOLDS = {"numTopFeatures": 50.0, "percentile": 0.1, "fpr": 0.05, "fdr": 0.05, "fwe": 0.05}


@dataclass(frozen=True, slots=True, kw_only=True)
class UnivariateFeatureSelectorStatistics:
    """What one test needs.

    Attributes:
        counts: Of values and labels, for a test of independence.
        moments: Of the slots under each label; for a correlation of all rows, with the label as a last slot.
        products: ``(d + 1,)`` sums of each slot's products with the label, both less their means, for a correlation; else empty.
    """

    counts: Contingency | None
    moments: Moments | None
    products: NDArray[np.float64]

    def __add__(self, other: Self) -> Self:
        if self.counts is not None and other.counts is not None:
            return type(self)(counts=self.counts + other.counts, moments=None, products=self.products)
        if self.moments is None or other.moments is None or not self.moments.rows or not other.moments.rows:
            return self if self.moments is not None and self.moments.rows else other
        moments, products = self.moments + other.moments, self.products
        if products.size:
            shift = other.moments.means[0] - self.moments.means[0]
            products = products + other.products + shift * (shift[-1] * self.moments.rows * (other.moments.rows / moments.rows))
        return type(self)(counts=None, moments=moments, products=products)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnivariateFeatureSelectorState:
    """The statistics of all rows, None before the only round."""

    total: UnivariateFeatureSelectorStatistics | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnivariateFeatureSelector:
    """Params of ``pyspark.ml.feature.UnivariateFeatureSelector``; without a threshold it is MLlib's for the mode."""

    feature_type: str = ""
    label_type: str = ""
    selection_mode: str = "numTopFeatures"
    selection_threshold: float | None = None

    def __post_init__(self) -> None:
        require_choice(self, "feature_type", _KINDS)
        require_choice(self, "label_type", _KINDS)
        if (self.feature_type, self.label_type) == _KINDS:
            raise UsageError("no test is for categorical feature_type and continuous label_type", code="usage.param")
        require_choice(self, "selection_mode", MODES)
        if self.selection_threshold is not None:
            counts = self.selection_mode == "numTopFeatures"
            require_number(self, "selection_threshold", low=1.0 if counts else 0.0, high=_MOST_SELECTED if counts else 1.0)
            if counts and self.selection_threshold % 1.0:
                raise UsageError("selection_threshold must be an integer for numTopFeatures", code="usage.param")

    def initial(self, summary: Summary, seed: Seed) -> UnivariateFeatureSelectorState:
        """Return the empty state."""
        del summary, seed
        return UnivariateFeatureSelectorState()

    def is_done(self, state: UnivariateFeatureSelectorState) -> bool:
        """Return whether the pass has been made."""
        return state.total is not None

    def statistics(self, state: UnivariateFeatureSelectorState, block: Block) -> UnivariateFeatureSelectorStatistics:
        """Return what the test needs of the block; `DataError` where a value is NaN or there are too many categories."""
        del state
        if self.feature_type == "categorical":
            return UnivariateFeatureSelectorStatistics(counts=Contingency.of(block), moments=None, products=np.zeros(0))
        vector, label = vector_of(inputs_of(block)[0], "input"), labels_of(block)
        if vector.invalid().any():
            raise DataError(f"{int(vector.invalid().sum())} rows of part {block.ordinal} have a NaN.", code="data.features")
        if self.label_type == "categorical" or not block.rows:
            return UnivariateFeatureSelectorStatistics(counts=None, moments=Moments.of(vector, label), products=np.zeros(0))
        vector = beside([vector, Vector((label,))])
        moments = Moments.of(vector, np.zeros(block.rows))
        products = _products(vector, moments.means[0], label - moments.means[0, -1])
        return UnivariateFeatureSelectorStatistics(counts=None, moments=moments, products=products)

    def update(self, state: UnivariateFeatureSelectorState, total: UnivariateFeatureSelectorStatistics) -> UnivariateFeatureSelectorState:
        """Return the finished state."""
        del state
        return UnivariateFeatureSelectorState(total=total)

    def to_model(self, state: UnivariateFeatureSelectorState) -> SelectorModel:
        """Return the model; `DataError` where there are too few rows or labels for the test."""
        if state.total is None:
            raise UsageError("The training has not finished: its only round is missing.")
        p_values = _p_values(state.total)
        threshold = _THRESHOLDS[self.selection_mode] if self.selection_threshold is None else self.selection_threshold
        return SelectorModel(columns=len(p_values), selected=selected(p_values, self.selection_mode, threshold))


def _products(vector: AnyVector, means: NDArray[np.float64], label: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums of the products of each slot less its mean with a label less its mean."""
    # Infinite values have none, which are NaN then.
    with np.errstate(invalid="ignore", over="ignore"):
        if isinstance(vector, Vector):
            return np.array([(values - mean) @ label for values, mean in zip(vector.columns, means, strict=True)])
        return np.asarray(vector.values.T @ label - means * label.sum(), dtype=np.float64)


def _p_values(total: UnivariateFeatureSelectorStatistics) -> NDArray[np.float64]:
    """Return the p-value of each slot, NaN where it has none."""
    if total.counts is not None:
        return total.counts.tested().p_values
    moments = total.moments
    if moments is None or not moments.rows:
        raise DataError("There is no row to test.", code="data.no_rows")
    rows, squares, counts = moments.rows, moments.squares, moments.groups.counts
    between, within = (1, rows - 2) if total.products.size else (len(counts) - 1, rows - len(counts))
    if between < 1 or within < 1:
        raise DataError(f"An F test of {rows} rows and {len(counts)} labels has no degrees of freedom.", code="data.too_few_rows")
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if total.products.size:
            correlation = np.where(squares[0, :-1] > 0.0, total.products[:-1] ** 2 / squares[0, :-1] / squares[0, -1], np.nan)
            # Rounding may make it larger than that of a slot which the label follows exactly.
            correlation = np.minimum(correlation, _LARGEST_CORRELATION)
            ratio = correlation / (1.0 - correlation) * within
        else:
            spread = moments.means - counts @ moments.means / rows
            ratio = (counts @ spread**2 / between) / (squares.sum(axis=0) / within)
        return np.where(np.isfinite(ratio), fdtrc(between, within, np.where(np.isfinite(ratio), ratio, 0.0)), np.nan)
