"""A released factorisation in the clear, with the attributes that pyspark.ml's has."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.als_model import ALSModel, best

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PlainALSModel", "recommendations_frame"]


class PlainALSModel:
    """Factors, predictions and recommendations of an ALS.

    Args:
        model: The factors of all shards.
        user_column: The name of the user column.
        item_column: The name of the item column.
    """

    def __init__(self, model: Any, user_column: str, item_column: str) -> None:
        self.model = model
        self._columns = (user_column, item_column)

    @property
    def rank(self) -> int:
        """Factors of a user or item."""
        return int(self.model.user_factors.shape[1])

    @property
    def userFactors(self) -> "pd.DataFrame":
        """A frame with columns id and features."""
        return _factors_frame(self.model.user_ids, self.model.user_factors)

    @property
    def itemFactors(self) -> "pd.DataFrame":
        """A frame with columns id and features."""
        return _factors_frame(self.model.item_ids, self.model.item_factors)

    def predict(self, user: int, item: int) -> float:
        """Return the predicted rating of one pair; NaN for an id that was not trained."""
        whole = ALSModel(rank=self.rank, shards=(b"",))
        return float(whole.predict(np.array([user], dtype=np.float64), np.array([item], dtype=np.float64), lambda _: self.model)[0])

    def recommendForAllUsers(self, numItems: int) -> "pd.DataFrame":
        """Return the best items of every user: a frame with the user column and lists of pairs (item, rating)."""
        model = self.model
        order, scores = best(model.user_factors, model.item_factors, numItems)
        return recommendations_frame(self._columns[0], model.user_ids, model.item_ids[order], scores)

    def recommendForAllItems(self, numUsers: int) -> "pd.DataFrame":
        """Return the best users of every item: a frame with the item column and lists of pairs (user, rating)."""
        model = self.model
        order, scores = best(model.item_factors, model.user_factors, numUsers)
        return recommendations_frame(self._columns[1], model.item_ids, model.user_ids[order], scores)


def recommendations_frame(name: str, ids: NDArray[Any], partners: NDArray[Any], scores: NDArray[Any]) -> "pd.DataFrame":
    """Return one row an id: the id under a column's name, and its recommendations as a list of pairs."""
    import pandas as pd

    pairs = [list(zip(one, other, strict=True)) for one, other in zip(partners.tolist(), scores.tolist(), strict=True)]
    return pd.DataFrame({name: ids, "recommendations": pairs})


def _factors_frame(ids: NDArray[Any], factors: NDArray[Any]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame({"id": ids, "features": factors.tolist()})
