"""Ratings as alternating least squares reads them: checked ids, the shard of an id, and a shard's ratings in the order of one side."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import ndtri

from securemllib.algorithms.base import Block, Seed, Shard
from securemllib.errors import DataError

__all__ = ["ITEM", "USER", "Ratings", "Side", "dealt", "identifiers", "owners", "side_of", "unit_vectors"]

Floats = NDArray[np.float64]
Factors = NDArray[np.float32]
Ids = NDArray[np.int32]

USER, ITEM, RATING = "user", "item", "rating"

# Ids that lie this dense need a table, not a sort.
_TABLE_SHARE = 4
# MLlib's ids are Java's integers.
_LEAST, _GREATEST = -(2.0**31), 2.0**31 - 1
# The constants of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014).
_GOLDEN, _FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratings:
    """Ratings, as shards send them to each other.

    Attributes:
        user: ``(n,)`` ids.
        item: ``(n,)`` ids.
        rating: ``(n,)`` as MLlib rounds them.
    """

    user: Ids
    item: Ids
    rating: Factors

    def ids(self, side: str) -> Ids:
        """Return the ratings' users or items."""
        return self.user if side == USER else self.item

    def take(self, chosen: NDArray[np.bool_]) -> "Ratings":
        """Return some of them."""
        rows = np.flatnonzero(chosen)
        return Ratings(user=self.user[rows], item=self.item[rows], rating=self.rating[rows])


def _joined(found: list[Ratings]) -> Ratings:
    return Ratings(
        user=np.concatenate([each.user for each in found]),
        item=np.concatenate([each.item for each in found]),
        rating=np.concatenate([each.rating for each in found]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A shard's ratings in the order of the other ids' shards, and within each in that of its own ids.

    Attributes:
        ids: ``(m,)`` the shard's own ids, ascending.
        counts: ``(m,)`` ratings of each, of implicit ones those above 0.
        starts: ``(s m + 1,)`` where the ratings start of each shard's ids with each own id.
        sources: ``(n,)`` positions of the ratings' other ids among those that are wanted of their shard.
        ratings: ``(n,)``, in double precision as each round reads them.
        wanted: The other ids that the ratings are of, ascending shard by shard; of its own shard all ids.
        wanted_starts: ``(s + 1,)`` where those of each shard start.
    """

    ids: Ids
    counts: Floats
    starts: NDArray[np.int64]
    sources: NDArray[np.int32]
    ratings: Floats
    wanted: Ids
    wanted_starts: NDArray[np.int64]

    def wanted_of(self, shard: int) -> Ids:
        """Return the ids that are wanted of one shard."""
        return self.wanted[self.wanted_starts[shard] : self.wanted_starts[shard + 1]]

    def of(self, shard: int, part: slice) -> tuple[NDArray[np.int64], NDArray[np.int32], Floats]:
        """Return the starts, sources and ratings of some own ids with one shard's ids."""
        first = shard * len(self.ids)
        starts = self.starts[first + part.start : first + part.stop + 1]
        rows = slice(int(starts[0]), int(starts[-1]))
        return starts - starts[0], self.sources[rows], self.ratings[rows]


def owners(seed: Seed, side: str, ids: Ids, count: int) -> NDArray[np.int64]:
    """Return the shard of each user or item, which nobody can tell who does not know the seed."""
    span = _span(ids)
    if not span:
        return _owners(seed, side, ids.astype(np.int64), count)
    least = int(ids.min())
    return _owners(seed, side, np.arange(least, least + span), count)[ids.astype(np.int64) - least]


def _owners(seed: Seed, side: str, ids: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    return (_mixed(seed, f"{side}s", ids.astype(np.uint64)) % np.uint64(count)).astype(np.int64)


def unit_vectors(seed: Seed, side: str, ids: Ids, rank: int) -> Factors:
    """Return a random unit vector ``(n, r)`` of each id: the same one, whichever shard asks."""
    cells: NDArray[np.uint64] = np.add.outer(ids.astype(np.int64).astype(np.uint64) * np.uint64(rank), np.arange(rank, dtype=np.uint64))
    uniform: Floats = ((_mixed(seed, side, cells) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    drawn: Floats = np.asarray(ndtri(uniform))
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn.astype(np.float32)


def _mixed(seed: Seed, what: str, cells: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return 64 random bits of each number: the outputs of SplitMix64 at these positions."""
    mixed = seed.generator("als", what).integers(0, 2**64, dtype=np.uint64) + (cells + np.uint64(1)) * _GOLDEN
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    found: NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return found


def dealt(blocks: Iterator[Block], size: int) -> Iterator[Ratings]:
    """Yield the ratings of blocks in pieces of about a size, at least one."""
    held: list[Ratings] = []
    for block in blocks:
        held.append(Ratings(user=_ids(block, USER), item=_ids(block, ITEM), rating=_ratings(block)))
        if sum(len(each.user) for each in held) >= size:
            yield _joined(held)
            held = []
    none = np.zeros(0, dtype=np.int32)
    yield _joined([*held, Ratings(user=none, item=none, rating=none.astype(np.float32))])


def identifiers(values: Floats, what: str) -> Ids:
    """Return ids as int32; `DataError` for nulls, fractions, and what lies beyond Java's integers, as MLlib refuses them."""
    fits = (values >= _LEAST) & (values <= _GREATEST)
    ids = np.where(fits, values, 0.0).astype(np.int32)
    wrong = int((~fits | (ids != values)).sum())
    if wrong:
        raise DataError(f"{wrong} ids of {what} are null, have a fraction or lie beyond 32 bits.", code="data.id")
    return ids


def side_of(shard: Shard, side: str, seed: Seed, received: Callable[[], list[Ratings]], *, implicit: bool) -> Side:
    """Return a shard's ratings in the order of ``user`` or ``item``, from what it received unless that is kept."""
    kept = shard.scratch.get(f"als.{side}", b"", lambda: _sorted(_joined(received()), side, seed, shard, implicit=implicit))
    ids, counts, starts, sources, ratings, wanted, wanted_starts = kept
    return Side(ids=ids, counts=counts, starts=starts, sources=sources, ratings=ratings, wanted=wanted, wanted_starts=wanted_starts)


def _sorted(ratings: Ratings, side: str, seed: Seed, shard: Shard, *, implicit: bool) -> tuple[NDArray[Any], ...]:
    other, count = ITEM if side == USER else USER, shard.count
    beside, mine = ratings.ids(other), owners(seed, side, ratings.ids(side), count) == shard.index
    theirs = owners(seed, other, beside, count)
    own_others, _ = _distinct(beside[theirs == shard.index])
    ratings, theirs = ratings.take(mine), theirs[mine]
    ids, position = _distinct(ratings.ids(side))
    # The columns of a matrix with one value a row: a counting sort, which keeps the order of equal ids.
    cells, n = theirs * len(ids) + position, len(position)
    one_each = csr_array((np.ones(n, dtype=np.int8), cells, np.arange(n + 1)), shape=(n, count * len(ids))).tocsc()
    order, starts = one_each.indices, one_each.indptr.astype(np.int64)
    beside, values = ratings.ids(other)[order], ratings.rating[order].astype(np.float64)
    sources, wanted = np.zeros(n, dtype=np.int32), []
    for owner in range(count):
        rows = slice(int(starts[owner * len(ids)]), int(starts[(owner + 1) * len(ids)]))
        found, source = _distinct(beside[rows])
        if owner == shard.index:
            found, source = own_others, np.searchsorted(own_others, beside[rows])
        sources[rows] = source
        wanted.append(found)
    counted = ratings.rating > 0.0 if implicit else np.ones(n, dtype=np.bool_)
    counts = np.bincount(position[counted], minlength=len(ids)).astype(np.float64)
    return ids, counts, starts, sources, values, np.concatenate(wanted), np.cumsum([0, *map(len, wanted)])


def _distinct(ids: Ids) -> tuple[Ids, NDArray[np.int64]]:
    """Return the distinct ids, ascending, and each id's position among them."""
    span = _span(ids)
    if not span:
        found, position = np.unique(ids, return_inverse=True)
        return found, position.astype(np.int64)
    shifted = ids.astype(np.int64) - int(ids.min())
    present = np.zeros(span, dtype=np.bool_)
    present[shifted] = True
    return (np.flatnonzero(present) + int(ids.min())).astype(np.int32), (np.cumsum(present) - 1)[shifted]


def _span(ids: Ids) -> int:
    """Return the size of a table of all ids from the least to the greatest, 0 where a sort is cheaper."""
    span = int(ids.max()) - int(ids.min()) + 1 if len(ids) else 0
    return span if span <= _TABLE_SHARE * len(ids) else 0


def _ids(block: Block, side: str) -> Ids:
    if side not in block.extras:
        raise DataError(f"The {side} column is missing in part {block.ordinal}.", code="data.missing_column")
    return identifiers(block.extras[side], f"the {side} column of part {block.ordinal}")


def _ratings(block: Block) -> Factors:
    if RATING not in block.extras:
        return np.ones(block.rows, dtype=np.float32)
    with np.errstate(over="ignore"):
        ratings: Factors = block.extras[RATING].astype(np.float32)
    if not np.isfinite(ratings).all():
        raise DataError(f"The rating column of part {block.ordinal} has a value that is no finite float.", code="data.rating")
    return ratings
