"""Do masked sums give the sum, that of every share once, and nothing else?"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securemllib.crypto.keys import DataKey
from securemllib.enclave.masking import SALT_BYTES, TAG_WORDS, mask, unmask
from securemllib.errors import FormatError, UnsealError

KEY = DataKey(bytes(range(32)))
LIMIT = 2**60 - 1


def one(key, context, values):
    """Return a vector's salt and masked words."""
    vector = np.append(np.array(values, dtype=np.int64), np.zeros(TAG_WORDS, dtype=np.int64))
    return mask(key, context, vector), vector.view(np.uint64)


def masked(key, vectors):
    """Return each share's context and salt, and the sum of the masked vectors."""
    found = [one(key, b"share %d" % share, vector) for share, vector in enumerate(vectors)]
    shares = [(b"share %d" % share, salt) for share, (salt, _) in enumerate(found)]
    return shares, np.sum([words for _, words in found], axis=0, dtype=np.uint64)


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(), count=st.integers(1, 5), size=st.one_of(st.integers(0, 40), st.sampled_from([2047, 2048, 2049, 32767, 32768, 32769]))
)
def test_the_sum_of_masked_vectors_opens_to_the_sum(data, count, size):
    """For any number of shares and entries up to the limit, of any sign, the sum opens to exactly the integers' sum."""
    generator = np.random.default_rng(data.draw(st.integers(0, 1000)))
    edge = LIMIT // count
    vectors = generator.integers(-edge, edge, (count, size), endpoint=True)
    vectors[:, : size // 3] = data.draw(st.sampled_from([-edge, -1, 0, 1, edge]))
    shares, total = masked(KEY, vectors)
    assert unmask(KEY, shares, total).tolist() == vectors.sum(axis=0).tolist()


@settings(max_examples=100, deadline=None)
@given(size=st.sampled_from([1, 7, 2049, 33000]), place=st.floats(0, 1, exclude_max=True), by=st.integers(1, 2**64 - 1), word=st.booleans())
def test_any_other_sum_is_refused(size, place, by, word):
    """A number added to any word of the sum or its tag is refused, multiples of the check's prime among them."""
    vectors = np.random.default_rng(size).integers(-LIMIT // 2, LIMIT // 2, (2, size))
    shares, total = masked(KEY, vectors)
    position = int(place * total.size)
    if position < size:
        total[position : position + 1] += np.uint64(by if word else by // (2**61 - 1) * (2**61 - 1) or 2**61 - 1)
    else:
        total[position : position + 1] += np.uint64(by % (2**31 - 1) or 1)
    with pytest.raises(UnsealError):
        unmask(KEY, shares, total)


def test_every_share_must_be_there_once_under_its_own_salt():
    """A missing, doubled, exchanged or foreign share, another key and another salt are refused; the exact sum is not."""
    vectors = np.arange(30, dtype=np.int64).reshape(3, 10)
    shares, total = masked(KEY, vectors)
    assert unmask(KEY, shares, total.copy()).tolist() == vectors.sum(axis=0).tolist()
    other, _ = masked(KEY, vectors)
    swapped = [(shares[1][0], shares[0][1]), (shares[0][0], shares[1][1]), shares[2]]
    for wrong in (shares[:2], [*shares, shares[0]], swapped, [other[0], *shares[1:]], [(b"share 9", shares[0][1]), *shares[1:]]):
        with pytest.raises(UnsealError):
            unmask(KEY, wrong, total.copy())
    with pytest.raises(UnsealError):
        unmask(DataKey(bytes(32)), shares, total.copy())
    assert unmask(KEY, shares[::-1], total).tolist() == vectors.sum(axis=0).tolist()


def test_one_vector_is_masked_anew_each_time():
    """The same share's vectors of two runs have nothing in common, so their difference tells nothing of how they round."""
    vector = np.zeros(1000, dtype=np.int64)
    (first_salt, first), (second_salt, second) = (one(KEY, b"share", vector) for _ in range(2))
    assert first_salt != second_salt
    assert len(np.intersect1d(first, second)) == 0
    assert len(np.intersect1d(first - second, first)) == 0


def test_bytes_that_are_no_sum_are_refused():
    """A vector shorter than its tag and a salt of another length are no masked sum."""
    shares, total = masked(KEY, [[1, 2, 3]])
    with pytest.raises(FormatError):
        unmask(KEY, shares, total[: TAG_WORDS - 1])
    with pytest.raises(FormatError):
        unmask(KEY, [(shares[0][0], bytes(SALT_BYTES - 1))], total)
