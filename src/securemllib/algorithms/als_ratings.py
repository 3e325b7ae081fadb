"""Ratings as alternating least squares reads them: checked ids, and a block's ratings in the order of one side."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from securemllib.algorithms.base import Block
from securemllib.errors import DataError

__all__ = ["ITEM", "USER", "Side", "identifiers", "side_of"]

Floats = NDArray[np.float64]
Ids = NDArray[np.int32]

USER, ITEM, RATING = "user", "item", "rating"

# Ids that lie this dense need a table, not a sort.
_TABLE_SHARE = 4
# MLlib's ids are Java's integers.
_LEAST, _GREATEST = -(2.0**31), 2.0**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A block's ratings in the order of one side's ids.

    Attributes:
        ids: ``(m,)`` the side's distinct ids, ascending.
        starts: ``(m + 1,)`` where each id's ratings start.
        sources: ``(n,)`` positions of the ratings' other ids in ``others``.
        ratings: ``(n,)`` as float32 values, as MLlib rounds them.
        others: The other side's distinct ids, ascending.
    """

    ids: Ids
    starts: NDArray[np.int64]
    sources: NDArray[np.int32]
    ratings: Floats
    others: Ids


def identifiers(values: Floats, what: str) -> Ids:
    """Return ids as int32; `DataError` for nulls, fractions, and what lies beyond Java's integers, as MLlib refuses them."""
    fits = (values >= _LEAST) & (values <= _GREATEST)
    ids = np.where(fits, values, 0.0).astype(np.int32)
    wrong = int((~fits | (ids != values)).sum())
    if wrong:
        raise DataError(f"{wrong} ids of {what} are null, have a fraction or lie beyond 32 bits.", code="data.id")
    return ids


def side_of(block: Block, side: str) -> Side:
    """Return a block's ratings in the order of ``user`` or ``item``; the sort is kept for later rounds."""
    ids, starts, sources, ratings, others = block.scratch.get(f"als.{side}", b"", lambda: _sorted(block, side))
    return Side(ids=ids, starts=starts, sources=sources, ratings=ratings, others=others)


def _sorted(block: Block, side: str) -> tuple[Ids, NDArray[np.int64], NDArray[np.int32], Floats, Ids]:
    ids, position = _distinct(_ids(block, side))
    others, source = _distinct(_ids(block, ITEM if side == USER else USER))
    # The columns of a matrix with one value a row: a counting sort, which keeps the order of equal ids.
    one_each = csr_array((np.ones(block.rows, dtype=np.int8), position, np.arange(block.rows + 1)), shape=(block.rows, len(ids))).tocsc()
    order = one_each.indices
    return ids, one_each.indptr.astype(np.int64), source[order].astype(np.int32), _ratings(block)[order], others


def _distinct(ids: Ids) -> tuple[Ids, NDArray[np.int64]]:
    """Return the distinct ids, ascending, and each id's position among them."""
    span = int(ids.max()) - int(ids.min()) + 1 if len(ids) else 0
    if not 0 < span <= _TABLE_SHARE * len(ids):
        found, position = np.unique(ids, return_inverse=True)
        return found, position.astype(np.int64)
    shifted = ids.astype(np.int64) - int(ids.min())
    present = np.zeros(span, dtype=np.bool_)
    present[shifted] = True
    return (np.flatnonzero(present) + int(ids.min())).astype(np.int32), (np.cumsum(present) - 1)[shifted]


def _ids(block: Block, side: str) -> Ids:
    if side not in block.extras:
        raise DataError(f"The {side} column is missing in part {block.ordinal}.", code="data.missing_column")
    return identifiers(block.extras[side], f"the {side} column of part {block.ordinal}")


def _ratings(block: Block) -> Floats:
    if RATING not in block.extras:
        return np.ones(block.rows)
    with np.errstate(over="ignore"):
        ratings = block.extras[RATING].astype(np.float32).astype(np.float64)
    if not np.isfinite(ratings).all():
        raise DataError(f"The rating column of part {block.ordinal} has a value that is no finite float.", code="data.rating")
    return ratings
