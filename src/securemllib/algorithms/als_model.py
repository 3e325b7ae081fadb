"""Factors that were learned: predicted ratings, and the best partners of each user or item."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from securemllib.algorithms.als_ratings import ITEM, USER, identifiers
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.algorithms.vectors import Vector, numbers
from securemllib.errors import DataError, UsageError

__all__ = ["ALSFactors", "ALSModel", "best"]

Floats = NDArray[np.float64]
Factors = NDArray[np.float32]
Ids = NDArray[np.int32]

# Scores that are held at once.
_SCORE_BYTES = 32 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ALSFactors:
    """Factors of users and items: of one shard, or of all.

    Attributes:
        user_ids: ``(u,)`` ascending.
        item_ids: ``(i,)`` ascending.
        user_factors: ``(u, r)``.
        item_factors: ``(i, r)``.
    """

    user_ids: Ids
    item_ids: Ids
    user_factors: Factors
    item_factors: Factors

    def of(self, side: str) -> tuple[Ids, Factors]:
        """Return the ids and factors of ``user`` or ``item``."""
        return (self.user_ids, self.user_factors) if side == USER else (self.item_ids, self.item_factors)


# What returns the factors of one shard: they come one shard at a time.
Shards = Callable[[int], ALSFactors]


@dataclass(frozen=True, slots=True, kw_only=True)
class ALSModel:
    """A factorisation whose factors are published shard by shard.

    Attributes:
        rank: Factors of a user or item.
        shards: The digest of each shard's `ALSFactors`.
        cold_start_strategy: What a row with an id that was not trained gets: ``nan`` as its prediction, or ``drop``, it goes.
        recommend: Where it is ``user`` or ``item``, `transform` reads one column of such ids and gives their best partners.
        count: How many partners at most.
    """

    SUMMARY: ClassVar[tuple[str, ...]] = ()
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("cold_start_strategy", "recommend", "count")
    SHARD: ClassVar[type[ALSFactors]] = ALSFactors

    rank: int
    shards: tuple[bytes, ...]
    cold_start_strategy: str = "nan"
    recommend: str = ""
    count: int = 1

    def whole(self, shards: Sequence[ALSFactors]) -> ALSFactors:
        """Return the factors of all shards together."""
        sides = []
        for side in (USER, ITEM):
            ids, factors = (np.concatenate(each) for each in zip(*(shard.of(side) for shard in shards), strict=True))
            order = np.argsort(ids)
            sides.append((ids[order], factors[order]))
        (user_ids, user_factors), (item_ids, item_factors) = sides
        return ALSFactors(user_ids=user_ids, item_ids=item_ids, user_factors=user_factors, item_factors=item_factors)

    def transform(self, columns: tuple[Column, ...], shard: Shards) -> Transformed:
        """Return ``prediction`` of a user and an item column, or ``recommendations`` of one column.

        The latter is ``(n, 1 + 2 count)``: the id, its partners and their scores, best first; NaN for an id that was not trained.
        """
        if len(columns) != (1 if self.recommend else 2):
            raise DataError(f"{len(columns)} columns are neither users and items nor, to recommend, ids.", code="data.output")
        values = [numbers(column.values, "ids") for column in columns]
        if self.recommend:
            return Transformed(columns={"recommendations": Column(Vector.of(self._recommended(values[0], shard)))})
        prediction = self.predict(values[0], values[1], shard)
        keep = ~np.isnan(prediction) if self.cold_start_strategy == "drop" else None
        return Transformed(columns={"prediction": Column(pa.array(prediction))}, keep=keep)

    def predict(self, users: Floats, items: Floats, shard: Shards) -> Factors:
        """Return the predicted ratings ``(n,)``: float32 as MLlib's, NaN for an id that was not trained."""
        rows = [np.unique(identifiers(ids, what), return_inverse=True) for ids, what in ((users, "users"), (items, "items"))]
        found = self._gathered({USER: rows[0][0], ITEM: rows[1][0]}, shard)
        products: Factors = np.einsum("ij,ij->i", found[USER][rows[0][1]], found[ITEM][rows[1][1]])
        return products

    def _gathered(self, ids: Mapping[str, Ids], shard: Shards) -> dict[str, Factors]:
        """Return the factors of distinct ids, NaN for those that were not trained, from one shard after the other."""
        found = {side: np.full((len(wanted), self.rank), np.nan, dtype=np.float32) for side, wanted in ids.items()}
        for index in range(len(self.shards)):
            one = shard(index)
            for side, wanted in ids.items():
                trained, factors = one.of(side)
                known, position = _positions(trained, wanted)
                found[side][known] = factors[position[known]]
        return found

    def _recommended(self, values: Floats, shard: Shards) -> Floats:
        if self.recommend not in {USER, ITEM}:
            raise UsageError(f"recommend must be user or item, not {self.recommend!r}.")
        ids, inverse = np.unique(identifiers(values, f"{self.recommend}s"), return_inverse=True)
        factors = self._gathered({self.recommend: ids}, shard)[self.recommend]
        known = ~np.isnan(factors[:, 0])
        partners, scores = np.zeros((int(known.sum()), 0), dtype=np.int32), np.zeros((int(known.sum()), 0), dtype=np.float32)
        for index in range(len(self.shards)):
            partner_ids, partner_factors = shard(index).of(ITEM if self.recommend == USER else USER)
            order, found = best(factors[known], partner_factors, self.count)
            partners, scores = np.hstack([partners, partner_ids[order]]), np.hstack([scores, found])
            # Equally good partners come in the order of their ids.
            ranked = np.lexsort((partners, -scores), axis=1)[:, : self.count]
            partners, scores = np.take_along_axis(partners, ranked, axis=1), np.take_along_axis(scores, ranked, axis=1)
        found_rows = np.full((len(ids), 1 + 2 * partners.shape[1]), np.nan)
        found_rows[known] = np.column_stack([ids[known], partners, scores])
        return found_rows[inverse]


def best(factors: Factors, partners: Factors, count: int) -> tuple[NDArray[np.int64], Factors]:
    """Return the ``count`` partners of each row with the greatest products, and those: ``(n, min(count, partners))``, best first.

    Equally good partners come in the order of their ids.
    """
    if count < 1:
        raise UsageError(f"The number of recommendations must be at least 1, not {count}.", code="usage.param")
    count = min(count, len(partners))
    if not count:
        return np.zeros((len(factors), 0), dtype=np.int64), np.zeros((len(factors), 0), dtype=np.float32)
    order, scores = np.zeros((len(factors), count), dtype=np.int64), np.zeros((len(factors), count), dtype=np.float32)
    size = max(_SCORE_BYTES // (4 * max(len(partners), 1)), 1)
    for start in range(0, len(factors), size):
        part = slice(start, start + size)
        products = factors[part] @ partners.T
        chosen = np.sort(np.argpartition(-products, count - 1, axis=1)[:, :count], axis=1) if count < len(partners) else None
        found = products if chosen is None else np.take_along_axis(products, chosen, axis=1)
        ranked = np.argsort(-found, axis=1, kind="stable")
        order[part] = ranked if chosen is None else np.take_along_axis(chosen, ranked, axis=1)
        scores[part] = np.take_along_axis(found, ranked, axis=1)
    return order, scores


def _positions(trained: Ids, ids: Ids) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return which ids are among the trained ones, and their positions there; any position for the others."""
    position = np.minimum(np.searchsorted(trained, ids), max(len(trained) - 1, 0))
    known: NDArray[np.bool_] = trained[position] == ids if len(trained) else np.zeros(len(ids), dtype=np.bool_)
    return known, position
