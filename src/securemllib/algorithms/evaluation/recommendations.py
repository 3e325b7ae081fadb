"""The best partners of every user or item among rows, each once: what a recommender gives to the analyst.

Objective: of rows that a model of ALS gave their recommendations (id, partners, scores), one row an id.

Equivalence: ``recommendForAllUsers`` and its three sisters of ``pyspark.ml.recommendation.ALSModel``. Ids that were not trained are
left out, an id that occurs in many rows comes once, equally good partners come in the order of their ids.

Cost: one pass; the products of each part's distinct ids with all partners; messages hold ``12 count`` bytes an id.

Reveals: with mode="enclave" the number of rows, and by the size of the sealed statistics the number of distinct ids; the
recommendations if the policy releases the summary. With mode="partitioned" the same: the statistics carry ids and stay inside.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError, UsageError

__all__ = ["Recommendations", "RecommendationsState", "RecommendationsStatistics", "Recommender"]

Ids = NDArray[np.int32]
Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommendationsStatistics:
    """One row an id.

    Attributes:
        ids: ``(m,)`` ascending.
        partners: ``(m, c)`` best first.
        scores: ``(m, c)``.
    """

    ids: Ids
    partners: Ids
    scores: Scores

    def __add__(self, other: Self) -> Self:
        ids, first = np.unique(np.concatenate([self.ids, other.ids]), return_index=True)
        return type(self)(
            ids=ids,
            partners=np.concatenate([self.partners, other.partners])[first],
            scores=np.concatenate([self.scores, other.scores])[first],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommendationsState:
    """The recommendations, None before the only round."""

    total: RecommendationsStatistics | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendations:
    """The recommendations: ``ids (m,)``, ``partners (m, c)`` and ``scores (m, c)``."""

    SUMMARY: ClassVar[tuple[str, ...]] = ("ids", "partners", "scores")

    ids: Ids
    partners: Ids
    scores: Scores

    @property
    def smallest_group(self) -> float:
        """1: each recommendation tells of one user or item."""
        return 1.0 if len(self.ids) else np.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommender:
    """Collects what a model recommended; it has no Params."""

    def initial(self, summary: Summary, seed: Seed) -> RecommendationsState:
        """Return the empty state; rows of another shape than a model's recommendations raise DataError."""
        del seed
        if not summary.columns % 2:
            raise DataError(f"Recommendations have an id and as many partners as scores, not {summary.columns} columns.")
        return RecommendationsState()

    def is_done(self, state: RecommendationsState) -> bool:
        """Return whether the pass has been made."""
        return state.total is not None

    def statistics(self, state: RecommendationsState, block: Block) -> RecommendationsStatistics:
        """Return the block's recommendations, each id's once."""
        del state
        rows = block.features[np.isfinite(block.features[:, 0])].astype(np.float64) + block.offset
        # Centring and adding the centre back may cost an integer its last bits.
        ids, first = np.unique(np.rint(rows[:, 0]).astype(np.int32), return_index=True)
        count = rows.shape[1] // 2
        partners, scores = rows[first, 1 : 1 + count], rows[first, 1 + count :]
        return RecommendationsStatistics(ids=ids, partners=np.rint(partners).astype(np.int32), scores=scores.astype(np.float32))

    def update(self, state: RecommendationsState, total: RecommendationsStatistics) -> RecommendationsState:
        """Return the state with the recommendations of all rows."""
        del state
        return RecommendationsState(total=total)

    def to_model(self, state: RecommendationsState) -> Recommendations:
        """Return the recommendations."""
        total = state.total
        if total is None:
            raise UsageError("The collection has not finished: its only round is missing.")
        return Recommendations(ids=total.ids, partners=total.partners, scores=total.scores)
