"""Do the attacks that `data plan` reports succeed where codes tell much, and fail where they tell nothing?"""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from securemllib.owner.encoding_attacks import Sample, measure
from securemllib.wire.companion import EncodingName

ROWS = 200_000


def zipf(values):
    """Return rows of so many values, the k-th as frequent as 1/k."""
    shares = 1 / np.arange(1, values + 1)
    return pa.array(np.random.default_rng(3).choice(values, ROWS, p=shares / shares.sum()))


def test_counting_opens_few_values():
    """Of twenty values with Zipf's frequencies counting recovers every row, of a thousand still more than a third."""
    assert measure(EncodingName.DETERMINISTIC, zipf(20)).recovered == 1.0
    assert measure(EncodingName.DETERMINISTIC, zipf(1000)).recovered > 0.35
    assert measure(EncodingName.TOKEN, zipf(20)).recovered == 1.0


def test_counting_learns_nothing_of_equal_frequencies():
    """Where every value is there once, counting guesses no better than chance."""
    found = measure(EncodingName.DETERMINISTIC, pa.array(np.arange(10_000)))
    assert found.recovered < 0.01
    assert not found.is_low_entropy
    few = measure(EncodingName.DETERMINISTIC, pa.array(np.arange(60)))
    assert (few.distinct, few.recovered, few.is_low_entropy) == (30, 0.0, False)


@pytest.mark.parametrize("kind", ["numbers", "texts"])
def test_sorting_opens_ages(kind):
    """Ranks of ages give nearly every row away, as numbers and as texts."""
    ages = np.clip(np.random.default_rng(4).normal(40, 15, ROWS), 0, 99).astype(int)
    column = pa.array(ages) if kind == "numbers" else pa.array([f"{age:02d} years" for age in ages])
    found = measure(EncodingName.ORDER, column)
    assert found.recovered > 0.95
    assert found.is_low_entropy


def test_sorting_comes_near_values_that_it_does_not_hit():
    """Ranks of salaries that are all different are guessed to within a hundredth of the range, though hardly one exactly."""
    salaries = pa.array(np.random.default_rng(6).normal(50_000, 10_000, ROWS))
    found = measure(EncodingName.ORDER, salaries)
    assert found.recovered < 0.01
    assert found.near > 0.95
    # What is no finite number widens no range.
    assert measure(EncodingName.ORDER, pa.concat_arrays([salaries, pa.array([float("nan"), float("inf")])])).near > 0.95
    assert measure(EncodingName.ORDER, pa.array([float("nan")] * 4)).near is None
    assert measure(EncodingName.DETERMINISTIC, salaries).near is None
    assert measure(EncodingName.ORDER, salaries.cast(pa.string())).near is None


def test_what_hides_equality_has_nothing_to_measure():
    """Additive and homomorphic codes have no attack of this kind, and an empty column no row to recover."""
    assert measure(EncodingName.ADDITIVE, zipf(20)) is None
    assert measure(EncodingName.HOMOMORPHIC, zipf(20)) is None
    empty = measure(EncodingName.DETERMINISTIC, pa.array([], pa.int64()))
    assert (empty.rows, empty.is_low_entropy) == (0, False)


@given(st.lists(st.integers(0, 90_000), max_size=12))
def test_a_sample_is_spread_evenly(sizes):
    """A sample keeps every row of a small column, and of a large one rows at equal distances from the first, however it comes in parts."""
    sample, start = Sample(), 0
    for size in sizes:
        sample.add(pa.array(np.arange(start, start + size)))
        start += size
    if not sizes:
        return
    kept = sample.values().to_numpy()
    step = 1 if start <= 400_000 else 2 ** int(np.ceil(np.log2(start / 400_000)))
    assert kept.tolist() == list(range(0, start, step))
