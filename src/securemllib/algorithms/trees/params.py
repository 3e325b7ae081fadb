"""The Params that all trees have, and how many features a node draws."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from securemllib.algorithms.params import require_integer, require_number
from securemllib.errors import UsageError

__all__ = ["TreeParams", "features_per_node", "lower_case", "require_drawing"]

# MLlib numbers nodes by 32 bits.
_DEEPEST = 30
# Bins are at most two bytes.
_MOST_BINS = 1 << 16
_SHARES: dict[str, Callable[[int], float]] = {
    "sqrt": math.sqrt,
    "log2": lambda columns: max(1.0, math.log2(columns)),
    "onethird": lambda columns: columns / 3.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeParams:
    """Params of every tree, with pyspark.ml's defaults.

    ``max_memory_in_mb`` bounds the histograms of a round: the nodes of a level are split over as many rounds as it takes.
    """

    max_depth: int = 5
    max_bins: int = 32
    min_instances_per_node: int = 1
    min_weight_fraction_per_node: float = 0.0
    min_info_gain: float = 0.0
    max_memory_in_mb: int = 256

    def __post_init__(self) -> None:
        require_integer(self, "max_depth", 0, _DEEPEST)
        require_integer(self, "max_bins", 2, _MOST_BINS)
        require_integer(self, "min_instances_per_node", 1)
        require_number(self, "min_weight_fraction_per_node", 0.0, math.nextafter(0.5, 0.0))
        require_number(self, "min_info_gain", 0.0)
        require_integer(self, "max_memory_in_mb", 0)

    def is_additive(self, state: Any) -> bool:
        """Return whether a round yields nothing but sums: all but those that carry rows."""
        return state.phase not in {"candidates", "gather"}


def lower_case(params: Any, *names: str) -> None:
    """Write Params in lower case, as MLlib reads them."""
    for name in names:
        value = getattr(params, name)
        if isinstance(value, str):
            object.__setattr__(params, name, value.lower())


def require_drawing(params: Any) -> None:
    """Raise unless ``subsampling_rate`` and ``feature_subset_strategy`` are in their domains."""
    if not isinstance(params.feature_subset_strategy, str):
        raise UsageError("feature_subset_strategy must be a text", code="usage.param")
    require_number(params, "subsampling_rate", math.nextafter(0.0, 1.0), 1.0)
    features_per_node(params.feature_subset_strategy, columns=1, trees=1, classification=True)


def features_per_node(strategy: str, *, columns: int, trees: int, classification: bool) -> int:
    """Return how many features each node draws.

    Args:
        strategy: ``auto``, ``all``, ``sqrt``, ``log2``, ``onethird``, a number of features or a share of them.
        columns: All features.
        trees: Trees of the ensemble; one tree alone takes all features where the strategy is ``auto``.
        classification: Whether ``auto`` is ``sqrt`` and not ``onethird``.

    Raises:
        UsageError: The strategy is none of these.
    """
    if strategy == "auto":
        strategy = "all" if trees == 1 else "sqrt" if classification else "onethird"
    if strategy == "all":
        return columns
    if strategy in _SHARES:
        return math.ceil(_SHARES[strategy](columns))
    if strategy.isascii() and strategy.isdigit() and int(strategy) > 0:
        return min(int(strategy), columns)
    try:
        share = float(strategy)
    except ValueError:
        share = math.nan
    if not 0.0 < share <= 1.0:
        raise UsageError(
            f"feature_subset_strategy must be auto, all, sqrt, log2, onethird, a number of features or a share in (0, 1], not {strategy!r}",
            code="usage.param",
        )
    return math.ceil(share * columns)
