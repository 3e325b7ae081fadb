"""Factors that were learned: predicted ratings, and the best partners of each user or item."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from securemllib.algorithms.als_ratings import ITEM, USER, identifiers
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.algorithms.vectors import Vector, numbers
from securemllib.errors import DataError, UsageError

__all__ = ["ALSModel", "best"]

Floats = NDArray[np.float64]
Factors = NDArray[np.float32]
Ids = NDArray[np.int32]

# Scores that are held at once.
_SCORE_BYTES = 32 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ALSModel:
    """Factors of users and items.

    Attributes:
        user_ids: ``(u,)`` ascending.
        item_ids: ``(i,)`` ascending.
        user_factors: ``(u, r)``.
        item_factors: ``(i, r)``.
        cold_start_strategy: What a row with an id that was not trained gets: ``nan`` as its prediction, or ``drop``, it goes.
        recommend: Where it is ``user`` or ``item``, `transform` reads one column of such ids and gives their best partners.
        count: How many partners at most.
    """

    SUMMARY: ClassVar[tuple[str, ...]] = ()
    CHANGEABLE: ClassVar[tuple[str, ...]] = ("cold_start_strategy", "recommend", "count")

    user_ids: Ids
    item_ids: Ids
    user_factors: Factors
    item_factors: Factors
    cold_start_strategy: str = "nan"
    recommend: str = ""
    count: int = 1

    def predict(self, features: Floats) -> dict[str, Factors]:
        """Return ``prediction (n,)`` of rows ``(user, item)``: float32 as MLlib's, NaN for an id that was not trained."""
        users, items = identifiers(features[:, 0], "users"), identifiers(features[:, 1], "items")
        known_users, user = _positions(self.user_ids, users)
        known_items, item = _positions(self.item_ids, items)
        if not len(self.user_ids):
            return {"prediction": np.full(len(users), np.nan, dtype=np.float32)}
        found = np.einsum("ij,ij->i", self.user_factors[user], self.item_factors[item])
        return {"prediction": np.where(known_users & known_items, found, np.float32(np.nan))}

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``prediction`` of a user and an item column, or ``recommendations`` of one column.

        The latter is ``(n, 1 + 2 count)``: the id, its partners and their scores, best first; NaN for an id that was not trained.
        """
        if len(columns) != (1 if self.recommend else 2):
            raise DataError(f"{len(columns)} columns are neither users and items nor, to recommend, ids.", code="data.output")
        values = [numbers(column.values, "ids") for column in columns]
        if self.recommend:
            return Transformed(columns={"recommendations": Column(Vector.of(self._recommended(values[0])))})
        prediction = self.predict(np.column_stack(values))["prediction"]
        keep = ~np.isnan(prediction) if self.cold_start_strategy == "drop" else None
        return Transformed(columns={"prediction": Column(pa.array(prediction))}, keep=keep)

    def _recommended(self, values: Floats) -> Floats:
        if self.recommend not in {USER, ITEM}:
            raise UsageError(f"recommend must be user or item, not {self.recommend!r}.")
        of_user = self.recommend == USER
        ids, inverse = np.unique(identifiers(values, f"{self.recommend}s"), return_inverse=True)
        trained, factors = (self.user_ids, self.user_factors) if of_user else (self.item_ids, self.item_factors)
        partner_ids, partners = (self.item_ids, self.item_factors) if of_user else (self.user_ids, self.user_factors)
        known, position = _positions(trained, ids)
        order, scores = best(factors[position[known]], partners, self.count)
        found = np.full((len(ids), 1 + 2 * order.shape[1]), np.nan)
        found[known] = np.column_stack([ids[known], partner_ids[order], scores])
        return found[inverse]


def best(factors: Factors, partners: Factors, count: int) -> tuple[NDArray[np.int64], Factors]:
    """Return the ``count`` partners of each row with the greatest products, and those: ``(n, min(count, partners))``, best first.

    Equally good partners come in the order of their ids.
    """
    if count < 1:
        raise UsageError(f"The number of recommendations must be at least 1, not {count}.", code="usage.param")
    count = min(count, len(partners))
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
