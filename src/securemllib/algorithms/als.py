"""Alternating least squares: a matrix of ratings as the product of factors of users and items.

Objective: ``min sum_ui (r_ui - x_u.y_i)^2 + lambda (sum_u n_u |x_u|^2 + sum_i n_i |y_i|^2)`` over the ratings, with n the number of
ratings of a user or item [1]. With ``implicit_prefs``, over all pairs, ``sum_ui (1 + alpha |r_ui|) (p_ui - x_u.y_i)^2`` with
``p_ui = 1`` where ``r_ui > 0`` and else 0, and n the number of positive ratings [2].

Equivalence: ``pyspark.ml.recommendation.ALS``. The objective, the order (items first, from random unit vectors of users), the scaling
of lambda, ratings and factors of 32 bits and equations of 64 are MLlib's; random numbers differ, and so does the local minimum that
few iterations reach. ``nonnegative`` minimises each row's quadratic over factors of at least 0 by coordinate descent, MLlib by
projected conjugate gradients: the minimum is one. An infinite rating, which MLlib takes, is refused.

Cost: ``r^2 / 2`` multiply-adds a rating and side, and ``r^3 / 6`` an id. As in MLlib a user or item belongs to one shard, which gets all
of its ratings once and solves it; then a factor goes, 4 r bytes, to each shard that has a rating of it. A shard reads the factors of
one other shard at a time into at most 64 MiB of equations, so no enclave holds more than a shard's ratings, one shard's factors of
either side, and those equations; more shards make all of them smaller. Two rounds deal the ratings, then a round solves one side.

Reveals: with mode="enclave" the number of ratings and rounds, and by the sizes of the blocks that shards exchange how many ratings, users
and items each pair of shards has in common, and the rank; which shard a user or item belongs to only enclaves can tell. With
mode="partitioned" the same: no sum leaves.

[1] Y. Zhou, D. Wilkinson, R. Schreiber, R. Pan: Large-scale parallel collaborative filtering for the Netflix prize, AAIM 2008.
[2] Y. Hu, Y. Koren, C. Volinsky: Collaborative filtering for implicit feedback datasets, ICDM 2008.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.als_model import ALSFactors, ALSModel
from securemllib.algorithms.als_ratings import ITEM, USER, Ratings, Side, dealt, owners, side_of, unit_vectors
from securemllib.algorithms.als_solvers import solutions
from securemllib.algorithms.base import Seed, Shard
from securemllib.algorithms.kernels.ratings import equations, width
from securemllib.algorithms.params import require_bool, require_choice, require_integer, require_number
from securemllib.algorithms.summary import Summary
from securemllib.errors import DataError

__all__ = ["ALS", "ALSModel", "ALSState", "ALSStatistics"]

Floats = NDArray[np.float64]
Factors = NDArray[np.float32]
Ids = NDArray[np.int32]

# The stages of a training; two of them are named by the side that is solved.
_DEAL, _MATCH, _PUBLISH, _DONE = "deal", "match", "publish", "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class ALSState:
    """What the aggregator knows between rounds.

    Attributes:
        seed: The root of the randomness.
        stage: ``deal``, ``match``, ``item`` or ``user``, the side that is solved, ``publish``, or ``done``.
        iteration: Iterations made: both sides solved.
        pieces: How many blocks of ratings each shard sent to each.
        gram: ``(r (r + 1) / 2,)`` of implicit ratings: the sum of all factors' products of the side that was solved last.
        shards: The digest of each shard's factors.
    """

    seed: Seed
    stage: str
    iteration: int = 0
    pieces: tuple[int, ...] = ()
    gram: Floats
    shards: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ALSStatistics:
    """What shards tell the aggregator, each of itself.

    Attributes:
        shards: Which ones tell, ascending.
        pieces: How many blocks of ratings each sent to each shard.
        gram: The sum of the products of their factors.
        digests: Of the factors that they published.
    """

    shards: tuple[int, ...]
    pieces: tuple[int, ...]
    gram: Floats
    digests: tuple[bytes, ...]

    def __add__(self, other: Self) -> Self:
        order = np.argsort(self.shards + other.shards, kind="stable").tolist()
        return type(self)(
            shards=tuple((self.shards + other.shards)[index] for index in order),
            pieces=tuple((self.pieces + other.pieces)[index] for index in order),
            gram=self.gram + other.gram,
            digests=tuple((self.digests + other.digests)[index] for index in order),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """The ids of one shard that another has ratings of."""

    user: Ids
    item: Ids


@dataclass(frozen=True, slots=True, kw_only=True)
class _Solved:
    """Factors of the ids that a shard wanted, in their order."""

    factors: Factors


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

    # Equations that a shard holds at once, and ratings that it sends at once.
    EQUATION_BYTES: ClassVar[int] = 64 << 20
    PIECE_RATINGS: ClassVar[int] = 1 << 21

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
        return ALSState(seed=seed, stage=_DEAL, gram=self._gram(np.zeros((0, self.rank), dtype=np.float32)))

    def is_done(self, state: ALSState) -> bool:
        """Return whether all iterations are made and the factors are published."""
        return state.stage == _DONE

    def stage(self, state: ALSState) -> str:
        """Return the name of the round."""
        return state.stage

    def exchange(self, state: ALSState, shard: Shard) -> ALSStatistics:
        """Return what a shard tells, once it has sent its ratings, what it wants, or its factors."""
        pieces, gram, digest = 0, self._gram(np.zeros((0, self.rank), dtype=np.float32)), b""
        if state.stage == _DEAL:
            pieces = self._deal(state, shard)
        elif state.stage == _MATCH:
            gram = self._gram(self._match(state, shard))
        elif state.stage == _PUBLISH:
            digest = shard.publish(self._published(state, shard))
        else:
            gram = self._gram(self._solve(state, shard))
        return ALSStatistics(shards=(shard.index,), pieces=(pieces,), gram=gram, digests=(digest,))

    def _deal(self, state: ALSState, shard: Shard) -> int:
        """Send each shard the ratings of its users and items, and return in how many pieces."""
        piece = 0
        for piece, ratings in enumerate(dealt(shard.rows, self.PIECE_RATINGS)):
            users, items = (owners(state.seed, side, ratings.ids(side), shard.count) for side in (USER, ITEM))
            for receiver in range(shard.count):
                shard.send(receiver, ratings.take((users == receiver) | (items == receiver)), piece)
        return piece + 1

    def _match(self, state: ALSState, shard: Shard) -> Factors:
        """Tell each shard which of its ids this one has ratings of, and return the first factors of this shard's users."""
        users, items = self._side(state, shard, USER), self._side(state, shard, ITEM)
        for receiver in range(shard.count):
            shard.send(receiver, _Wanted(user=items.wanted_of(receiver), item=users.wanted_of(receiver)))
        return unit_vectors(state.seed, USER, users.ids, self.rank)

    def _solve(self, state: ALSState, shard: Shard) -> Factors:
        """Return the factors of this shard's ids of the stage's side, once each shard that wants some of them got them."""
        side = self._side(state, shard, state.stage)
        found = np.zeros((len(side.ids), self.rank), dtype=np.float32)
        size = max(self.EQUATION_BYTES // (8 * width(self.rank)), 1)
        for start in range(0, len(side.ids), size):
            part = slice(start, min(start + size, len(side.ids)))
            found[part] = solutions(
                self._equations(state, shard, side, part), self.reg_param * side.counts[part], nonnegative=self.nonnegative
            )
        for receiver in range(shard.count):
            shard.send(receiver, _Solved(factors=found[self._wanted(state, shard, side, receiver)]))
        return found

    def _wanted(self, state: ALSState, shard: Shard, side: Side, receiver: int) -> NDArray[np.int64]:
        """Return the positions of the ids whose factors another shard wants; they stay the same in all rounds."""

        def asked() -> Any:
            return np.searchsorted(side.ids, getattr(shard.received(_Wanted, _MATCH, receiver), state.stage))

        found: NDArray[np.int64] = shard.scratch.get(f"als.{state.stage}.{receiver}", b"", asked)
        return found

    def _equations(self, state: ALSState, shard: Shard, side: Side, part: slice) -> Floats:
        """Return the normal equations of some ids: the other side's factors come shard by shard."""
        total = np.zeros((part.stop - part.start, width(self.rank)))
        if self.implicit_prefs:
            total[:, : -self.rank] = state.gram
        for sender in range(shard.count):
            starts, sources, ratings = side.of(sender, part)
            if len(sources):
                equations(starts, sources, *self._weighed(ratings), self._others(state, shard, side, sender), total)
        return total

    def _weighed(self, ratings: Floats) -> tuple[Floats | None, Floats]:
        if not self.implicit_prefs:
            return None, ratings
        confidences = self.alpha * np.abs(ratings)
        return confidences, np.where(ratings > 0.0, 1.0 + confidences, 0.0)

    def _others(self, state: ALSState, shard: Shard, side: Side, sender: int) -> Factors:
        """Return the factors of one shard's ids of the other side that this one has ratings of."""
        if state.stage == ITEM and not state.iteration:
            return unit_vectors(state.seed, USER, side.wanted_of(sender), self.rank)
        return shard.received(_Solved, USER if state.stage == ITEM else ITEM, sender).factors

    def _side(self, state: ALSState, shard: Shard, side: str) -> Side:
        """Return a shard's ratings in the order of one side; the sort is kept for later rounds."""

        def received() -> list[Ratings]:
            senders = [(sender, piece) for sender, pieces in enumerate(state.pieces) for piece in range(pieces)]
            return [shard.received(Ratings, _DEAL, sender, piece) for sender, piece in senders]

        return side_of(shard, side, state.seed, received, implicit=self.implicit_prefs)

    def _published(self, state: ALSState, shard: Shard) -> ALSFactors:
        """Return the factors of this shard's ids, which it sent to itself too."""
        found = []
        for side in (USER, ITEM):
            ids = self._side(state, shard, side).ids
            solved = state.iteration > 0
            found.append(
                (ids, shard.received(_Solved, side, shard.index).factors if solved else unit_vectors(state.seed, side, ids, self.rank))
            )
        (user_ids, user_factors), (item_ids, item_factors) = found
        return ALSFactors(user_ids=user_ids, item_ids=item_ids, user_factors=user_factors, item_factors=item_factors)

    def _gram(self, factors: Factors) -> Floats:
        """Return the upper triangle of the sum of factors' products, which only implicit ratings need."""
        wide = factors.astype(np.float64) if self.implicit_prefs else np.zeros((0, self.rank))
        gram: Floats = (wide.T @ wide)[np.triu_indices(self.rank)]
        return gram

    def update(self, state: ALSState, total: ALSStatistics) -> ALSState:
        """Return the state that opens the next stage."""
        if state.stage == _DEAL:
            return replace(state, stage=_MATCH, pieces=total.pieces)
        if state.stage == _MATCH:
            return replace(state, stage=ITEM if self.max_iter else _PUBLISH, gram=total.gram)
        if state.stage == _PUBLISH:
            return replace(state, stage=_DONE, shards=total.digests)
        if state.stage == ITEM:
            return replace(state, stage=USER, gram=total.gram)
        iteration = state.iteration + 1
        return replace(state, stage=ITEM if iteration < self.max_iter else _PUBLISH, iteration=iteration, gram=total.gram)

    def to_model(self, state: ALSState) -> ALSModel:
        """Return the model, which names its shards."""
        return ALSModel(rank=self.rank, shards=state.shards, cold_start_strategy=self.cold_start_strategy)
