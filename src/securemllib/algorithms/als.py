"""Alternating least squares: a matrix of ratings as the product of factors of users and items.

Objective: ``min sum_ui (r_ui - x_u.y_i)^2 + lambda (sum_u n_u |x_u|^2 + sum_i n_i |y_i|^2)`` over the ratings, with n the number of
ratings of a user or item [1]. With ``implicit_prefs``, over all pairs, ``sum_ui (1 + alpha |r_ui|) (p_ui - x_u.y_i)^2`` with
``p_ui = 1`` where ``r_ui > 0`` and else 0, and n the number of positive ratings [2].

Equivalence: ``pyspark.ml.recommendation.ALS``. The objective, the order (items first, from random unit vectors of users), the scaling
of lambda, ratings and factors of 32 bits and equations of 64 are MLlib's; random numbers differ, and so does the local minimum that
few iterations reach. ``nonnegative`` minimises each row's quadratic over factors of at least 0 by coordinate descent, MLlib by
projected conjugate gradients: the minimum is one. An infinite rating, which MLlib takes, is refused.

Cost: ``r^2 / 2`` multiply-adds a rating and side, and ``r^3 / 6`` an id. One round finds the ids; then a round solves one side, from
sums of ``r (r + 3) / 2`` numbers an id, at most 64 MiB of them: more ids take more rounds. Every worker gets all factors
(docs/adr/0011 says up to which size this is good).

Reveals: with mode="enclave" the number of ratings and rounds, and by the size of the sealed messages the number of users, items and
the rank. With mode="partitioned" the same: equations are sums over ratings and may leave as masked integers; the round that finds the
ids carries them and stays inside.

[1] Y. Zhou, D. Wilkinson, R. Schreiber, R. Pan: Large-scale parallel collaborative filtering for the Netflix prize, AAIM 2008.
[2] Y. Hu, Y. Koren, C. Volinsky: Collaborative filtering for implicit feedback datasets, ICDM 2008.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.als_model import ALSModel
from securemllib.algorithms.als_ratings import ITEM, USER, Side, side_of
from securemllib.algorithms.als_solvers import solutions
from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.kernels.ratings import equations, width
from securemllib.algorithms.params import require_bool, require_choice, require_integer, require_number
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError

__all__ = ["ALS", "ALSModel", "ALSState", "ALSStatistics"]

Floats = NDArray[np.float64]
Factors = NDArray[np.float32]
Ids = NDArray[np.int32]
Counts = NDArray[np.int64]

# Equations of one round: what every worker sends to the aggregator.
_ROUND_BYTES = 64 << 20
# The phases of a training; the two sides are named by what is solved.
_IDS, _DONE = "ids", "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class ALSState:
    """What the aggregator knows between rounds.

    Attributes:
        seed: The root of the randomness.
        phase: ``ids``; ``item`` or ``user``, the side that is solved; or ``done``.
        iteration: Iterations made: both sides solved.
        start: How many ids of the side are solved in this iteration.
        user_ids: ``(u,)`` ascending.
        item_ids: ``(i,)`` ascending.
        user_counts: ``(u,)`` ratings of each user, of implicit ones those above 0.
        item_counts: ``(i,)`` of each item.
        user_factors: ``(u, r)``.
        item_factors: ``(i, r)``.
    """

    seed: Seed
    phase: str
    iteration: int
    start: int
    user_ids: Ids
    item_ids: Ids
    user_counts: Counts
    item_counts: Counts
    user_factors: Factors
    item_factors: Factors


@dataclass(frozen=True, slots=True, kw_only=True)
class ALSStatistics:
    """The ids of rows and how often each occurs, or the equations of a range of one side's ids.

    Attributes:
        user_ids: Ascending.
        user_counts: Ratings of each.
        item_ids: Ascending.
        item_counts: Ratings of each.
        equations: ``(m, width)``.
    """

    ADDITIVE: ClassVar[tuple[str, ...]] = ("equations",)

    user_ids: Ids
    user_counts: Counts
    item_ids: Ids
    item_counts: Counts
    equations: Floats

    def __add__(self, other: Self) -> Self:
        user_ids, user_counts = _merged(self.user_ids, self.user_counts, other.user_ids, other.user_counts)
        item_ids, item_counts = _merged(self.item_ids, self.item_counts, other.item_ids, other.item_counts)
        return type(self)(
            user_ids=user_ids,
            user_counts=user_counts,
            item_ids=item_ids,
            item_counts=item_counts,
            equations=self.equations + other.equations,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ALS:
    """Params of ``pyspark.ml.recommendation.ALS``."""

    rank: int = 10
    max_iter: int = 10
    reg_param: float = 0.1
    implicit_prefs: bool = False
    alpha: float = 1.0
    nonnegative: bool = False
    cold_start_strategy: str = "nan"

    ROUND_BYTES: ClassVar[int] = _ROUND_BYTES

    def __post_init__(self) -> None:
        require_integer(self, "rank", 1)
        require_integer(self, "max_iter", 0)
        require_number(self, "reg_param", 0.0)
        require_number(self, "alpha", 0.0)
        require_bool(self, "implicit_prefs", "nonnegative")
        if isinstance(self.cold_start_strategy, str):
            object.__setattr__(self, "cold_start_strategy", self.cold_start_strategy.lower())
        require_choice(self, "cold_start_strategy", ("nan", "drop"))

    def initial(self, summary: Summary, seed: Seed) -> ALSState:
        """Return the state before the first round; a dataset without rows raises DataError."""
        if not summary.rows:
            raise DataError("The dataset has no ratings.", code="data.no_rows")
        ids, counts = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int64)
        factors = np.zeros((0, self.rank), dtype=np.float32)
        return ALSState(
            seed=seed, phase=_IDS, iteration=0, start=0, user_ids=ids, item_ids=ids, user_counts=counts, item_counts=counts,
            user_factors=factors, item_factors=factors,
        )  # fmt: skip

    def is_done(self, state: ALSState) -> bool:
        """Return whether all iterations are made."""
        return state.phase == _DONE

    def is_additive(self, state: ALSState) -> bool:
        """Return whether the next round adds equations, not ids."""
        return state.phase != _IDS

    def statistics(self, state: ALSState, block: Block) -> ALSStatistics:
        """Return the block's ids, or its part of the equations that the round solves."""
        if state.phase != _IDS:
            no_ids, no_counts = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int64)
            found = self._equations(state, side_of(block, state.phase))
            return ALSStatistics(user_ids=no_ids, user_counts=no_counts, item_ids=no_ids, item_counts=no_counts, equations=found)
        users, items = side_of(block, USER), side_of(block, ITEM)
        return ALSStatistics(
            user_ids=users.ids,
            user_counts=self._counts(users),
            item_ids=items.ids,
            item_counts=self._counts(items),
            equations=np.zeros((0, width(self.rank))),
        )

    def _counts(self, side: Side) -> Counts:
        counted = side.ratings > 0.0 if self.implicit_prefs else np.ones(len(side.ratings), dtype=np.bool_)
        total = np.concatenate([[0], np.cumsum(counted)])
        counts: Counts = np.diff(total[side.starts])
        return counts

    def _equations(self, state: ALSState, side: Side) -> Floats:
        ids = _ids(state, state.phase)
        other_ids, factors = (state.user_ids, state.user_factors) if state.phase == ITEM else (state.item_ids, state.item_factors)
        stop = self._stop(state)
        found = np.zeros((stop - state.start, width(self.rank)))
        position = np.searchsorted(ids, side.ids)
        first, last = np.searchsorted(position, [state.start, stop])
        confidences, targets = None, side.ratings
        if self.implicit_prefs:
            confidences = self.alpha * np.abs(side.ratings)
            targets = np.where(side.ratings > 0.0, 1.0 + confidences, 0.0)
        local = np.ascontiguousarray(factors[np.searchsorted(other_ids, side.others)])
        rows = equations(side.starts[first : last + 1], side.sources, confidences, targets, local)
        found[position[first:last] - state.start] = rows
        return found

    def _stop(self, state: ALSState) -> int:
        """Return where the range of ids ends whose equations one round holds."""
        return min(state.start + max(self.ROUND_BYTES // (8 * width(self.rank)), 1), len(_ids(state, state.phase)))

    def update(self, state: ALSState, total: ALSStatistics) -> ALSState:
        """Return the state with the ids, or with the factors that solve the round's equations."""
        if state.phase == _IDS:
            return self._begin(state, total)
        users, stop = state.phase == USER, self._stop(state)
        counts = state.user_counts if users else state.item_counts
        others = (state.item_factors if users else state.user_factors).astype(np.float64)
        rows = total.equations
        if self.implicit_prefs:
            gram = others.T @ others
            rows = rows.copy()
            rows[:, : -self.rank] += gram[np.triu_indices(self.rank)]
        found = solutions(rows, self.reg_param * counts[state.start : stop].astype(np.float64), nonnegative=self.nonnegative)
        factors = (state.user_factors if users else state.item_factors).copy()
        factors[state.start : stop] = found
        state = replace(state, start=stop, user_factors=factors) if users else replace(state, start=stop, item_factors=factors)
        return state if stop < len(counts) else self._turn(state)

    def _begin(self, state: ALSState, total: ALSStatistics) -> ALSState:
        return replace(
            state,
            phase=ITEM if self.max_iter else _DONE,
            user_ids=total.user_ids,
            item_ids=total.item_ids,
            user_counts=total.user_counts,
            item_counts=total.item_counts,
            user_factors=_unit_vectors(state.seed, USER, len(total.user_ids), self.rank),
            item_factors=_unit_vectors(state.seed, ITEM, len(total.item_ids), self.rank),
        )

    def _turn(self, state: ALSState) -> ALSState:
        """Return the state that solves the other side, after the users' in the next iteration."""
        if state.phase == ITEM:
            return replace(state, phase=USER, start=0)
        iteration = state.iteration + 1
        return replace(state, phase=ITEM if iteration < self.max_iter else _DONE, iteration=iteration, start=0)

    def to_model(self, state: ALSState) -> ALSModel:
        """Return the factors."""
        return ALSModel(
            user_ids=state.user_ids,
            item_ids=state.item_ids,
            user_factors=state.user_factors,
            item_factors=state.item_factors,
            cold_start_strategy=self.cold_start_strategy,
        )


def _ids(state: ALSState, side: str) -> Ids:
    return state.user_ids if side == USER else state.item_ids


def _unit_vectors(seed: Seed, side: str, count: int, rank: int) -> Factors:
    drawn = seed.generator("als", side).standard_normal((count, rank), dtype=np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn


def _merged(ids: Ids, counts: Counts, other_ids: Ids, other_counts: Counts) -> tuple[Ids, Counts]:
    found, position = np.unique(np.concatenate([ids, other_ids]), return_inverse=True)
    total = np.bincount(position, weights=np.concatenate([counts, other_counts]), minlength=len(found))
    return found, total.astype(np.int64)
