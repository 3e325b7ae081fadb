"""The attacks that codes of a column invite, run on the owner's own rows, and the rule that refuses what they open.

A sample of the column is cut in two at random. One half is encoded; the other is what the adversary knows already, rows of the same
population, like last year's. *Frequency analysis* (Naveed, Kamara, Wright, CCS 2015, section 4.1) takes the most frequent code for the most
frequent known value, and so on. The *cumulative attack* on order (the same, section 4.2) takes a rank for the known value with as many
values below it. The result is the share of encoded rows whose value is guessed exactly. An adversary with more knowledge, of other columns
or of the very rows, does better: the figures are what to expect at least.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from securemllib.crypto.encodings import deterministic, order
from securemllib.crypto.keys import DataKey
from securemllib.errors import PolicyError
from securemllib.wire.companion import EncodingName

__all__ = ["GUESSED", "LEAST_BITS", "MOST_RECOVERED", "Leakage", "Sample", "check", "measure"]

# 128 values of one frequency. Fewer can be told apart by hand.
LEAST_BITS = 7.0
MOST_RECOVERED = 0.05

_SAMPLE_ROWS = 200_000
# The encodings whose codes show equality or order.
GUESSED = {EncodingName.DETERMINISTIC, EncodingName.TOKEN, EncodingName.ORDER}


@dataclass(frozen=True, slots=True, kw_only=True)
class Leakage:
    """What the attack on a column's codes found.

    Attributes:
        rows: The encoded rows of the sample that are not null.
        distinct: Their distinct values.
        bits: The Shannon entropy of their values.
        recovered: The share of them that the attack guessed exactly.
        near: Of numbers and times in ``order``, the share that it guessed to within a hundredth of the column's range; else None.
    """

    rows: int
    distinct: int
    bits: float
    recovered: float
    near: float | None = None

    @property
    def is_low_entropy(self) -> bool:
        """Whether the encoding is refused unless the owner accepts the leakage of this column by name."""
        has_repeats = self.distinct < self.rows
        return self.rows > 0 and ((has_repeats and self.bits < LEAST_BITS) or self.recovered > MOST_RECOVERED)


class Sample:
    """Rows of a column, evenly spaced over all of them: up to 400,000 in memory, at least half of that in the end if there are so many."""

    def __init__(self) -> None:
        self._kept: list[pa.Array] = []
        self._stride, self._skip, self._rows = 1, 0, 0

    def add(self, values: pa.Array | pa.ChunkedArray) -> None:
        """Take a part's rows."""
        chunks = values.chunks if isinstance(values, pa.ChunkedArray) else [values]
        for chunk in chunks:
            wanted = np.arange(self._skip, len(chunk), self._stride)
            self._skip = (self._skip - len(chunk)) % self._stride
            self._kept.append(chunk.take(pa.array(wanted)))
            self._rows += len(wanted)
        while self._rows > 2 * _SAMPLE_ROWS:
            whole = pa.concat_arrays(self._kept)
            self._kept = [whole.take(pa.array(np.arange(0, len(whole), 2)))]
            # The next row that counts stays a whole number of strides from the first.
            self._skip += self._stride if len(whole) % 2 else 0
            self._stride, self._rows = 2 * self._stride, len(self._kept[0])

    def values(self) -> pa.Array:
        """Return the sample without nulls."""
        return pa.concat_arrays(self._kept).drop_null()


def measure(encoding: EncodingName, values: pa.Array, *, seed: int = 0) -> Leakage | None:
    """Return what an attack recovers of a sample, or None where the encoding hides equality and order, or hides nothing.

    Args:
        encoding: The encoding.
        values: Rows of the column without nulls.
        seed: Of the cut in two.
    """
    if encoding not in GUESSED:
        return None
    shuffled = values.take(pa.array(np.random.default_rng(seed).permutation(len(values))))
    target, known = shuffled[: len(shuffled) // 2], shuffled[len(shuffled) // 2 :]
    # Values become ranks of one dictionary, so that guesses and truth are compared as numbers.
    builder = order.DictionaryBuilder()
    builder.add(values)
    dictionary = builder.finish()
    truth, knowledge = (order.encode(dictionary, half).to_numpy() for half in (target, known))
    if encoding is EncodingName.ORDER:
        own = order.DictionaryBuilder()
        own.add(target)
        guesses = cumulative_attack(order.encode(own.finish(), target).to_numpy(), knowledge)
    else:
        codes = deterministic.encode(DataKey.generate(), target).field("hi").to_numpy()
        guesses = frequency_attack(codes, knowledge)
    counts = np.bincount(truth) if len(truth) else np.zeros(0, np.int64)
    shares = counts[counts > 0] / max(1, len(truth))
    return Leakage(
        rows=len(truth),
        distinct=len(shares),
        bits=float(-(shares * np.log2(shares)).sum()),
        recovered=float(np.mean(guesses == truth)) if len(truth) else 0.0,
        near=_near(dictionary, guesses, truth) if encoding is EncodingName.ORDER else None,
    )


def _near(dictionary: pa.Array, guesses: NDArray[np.int64], truth: NDArray[np.int64]) -> float | None:
    """Return the share of guesses within a hundredth of the range of a dictionary of numbers, or None of texts and empty columns."""
    if pa.types.is_string(dictionary.type) or not len(truth):
        return None
    values = dictionary.to_numpy().astype(np.float64)
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    # Every row has a guess, because the known half is as long as the encoded one.
    return float(np.mean(np.abs(values[guesses] - values[truth]) <= (finite[-1] - finite[0]) / 100))


def frequency_attack(codes: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a guess for each row of codes that show equality, from values of other rows; -1 where there is none."""
    _, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
    values, frequencies = np.unique(known, return_counts=True)
    ranked = values[np.argsort(-frequencies, kind="stable")]
    guess = np.full(len(counts), -1, np.int64)
    by_frequency = np.argsort(-counts, kind="stable")[: len(ranked)]
    guess[by_frequency] = ranked[: len(by_frequency)]
    return guess[inverse]


def cumulative_attack(ranks: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a guess for each row of codes that show order, from values of other rows; -1 where there is none."""
    if not len(known) or not len(ranks):
        return np.full(len(ranks), -1, np.int64)
    counts = np.bincount(ranks)
    middle = (np.cumsum(counts) - counts / 2) / len(ranks)
    guess = np.sort(known)[np.minimum((middle * len(known)).astype(np.int64), len(known) - 1)]
    return np.asarray(guess[ranks], np.int64)


def check(column: str, encoding: EncodingName, found: Leakage | None, accepted: Collection[str]) -> None:
    """Raise unless a column has enough entropy for its encoding, or the owner accepted the leakage of just this column.

    Raises:
        PolicyError: An attack would recover too many rows, or the column has too few values.
    """
    if found is None or not found.is_low_entropy or column in accepted:
        return
    attack = "sorting" if encoding is EncodingName.ORDER else "counting"
    raise PolicyError(
        f"Column {column!r} as {encoding.value}: {attack} recovers {found.recovered:.1%} of {found.rows} sampled rows; "
        f"its {found.distinct} values have {found.bits:.1f} bits of entropy.",
        next_step=f"Leave it sealed, or accept this with --accept-leakage {column}.",
        code="refused.leakage",
    )
