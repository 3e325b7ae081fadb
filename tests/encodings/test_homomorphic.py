"""Do CKKS results come out within their bound, and are those beyond it refused?"""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
import tenseal

from securemllib.crypto.encodings.homomorphic import BLOCK_ROWS, LIMIT, PRECISION, SecretContext, block_guards
from securemllib.crypto.keys import DataKey
from securemllib.errors import DataError, IntegrityError, UnsealError


@pytest.fixture(scope="module")
def secret():
    """A key pair."""
    return SecretContext.generate()


@pytest.fixture(scope="module")
def values():
    """Two blocks and a bit."""
    return np.random.default_rng(1).normal(0, 1000, 2 * BLOCK_ROWS + 100)


def on_the_host(secret, blocks):
    """Return the public context, and the ciphertexts as whoever has no key loads them."""
    context = tenseal.context_from(secret.public())
    return [tenseal.ckks_vector_from(context, block["ciphertext"].as_py()) for block in blocks]


def test_a_sum_on_ciphertexts_opens(secret, values):
    """Ciphertexts that are added without a key open to the sum, with the number of blocks as their weight."""
    first, *others = on_the_host(secret, secret.encode(pa.array(values)))
    for other in others:
        first.add_(other)
    assert abs(secret.open(first.serialize(), weight=3).sum() - values.sum()) < PRECISION


def test_a_score_on_ciphertexts_opens(secret, values):
    """Columns that are multiplied with plain weights and added open to the linear score, up to the bound's share of it."""
    columns = [values[:BLOCK_ROWS], values[BLOCK_ROWS : 2 * BLOCK_ROWS]]
    weights = [0.25, -1.5]
    (one,), (two,) = (on_the_host(secret, secret.encode(pa.array(column))) for column in columns)
    score = one.mul(weights[0]).add(two.mul(weights[1]))
    expected = weights[0] * columns[0] + weights[1] * columns[1]
    assert np.abs(secret.open(score.serialize(), weight=sum(weights)) - expected).max() < PRECISION * np.abs(values).max()


def test_another_weight_another_key_and_garbage_are_refused(secret, values):
    """A result is refused that took part in another computation than its recipient says, is of another key, or no ciphertext."""
    (block,) = secret.encode(pa.array(values[:10]))
    ciphertext = block["ciphertext"].as_py()
    assert np.allclose(secret.open(ciphertext)[:10], values[:10], atol=PRECISION)
    with pytest.raises(IntegrityError, match="off by"):
        secret.open(ciphertext, weight=2)
    with pytest.raises(IntegrityError, match="off by"):
        SecretContext.generate().open(ciphertext)
    with pytest.raises(IntegrityError, match="no ciphertext"):
        secret.open(b"garbage")


def test_a_masked_sum_opens_with_the_guards_of_its_blocks_alone(secret, values):
    """Blocks with guards of their own, masked and added, open with the sum of just these guards, to what the mask chose."""
    key = DataKey(bytes(range(32)))
    blocks = on_the_host(secret, secret.encode(pa.array(values), lambda start: block_guards(key, 1 + start)))
    guards = [block_guards(key, 1 + start) for start in range(0, len(values), BLOCK_ROWS)]
    mask = np.repeat([1.0, 0.0, 1.0], [100, BLOCK_ROWS - 100, 8])
    chosen = blocks[0].mul(mask.tolist()).add(blocks[1].mul(mask.tolist())).serialize()
    opened = secret.open(chosen, guards=guards[0] + guards[1], precision=PRECISION / 4)
    assert abs(opened.sum() - values[:100].sum() - values[BLOCK_ROWS : BLOCK_ROWS + 100].sum()) < PRECISION
    assert np.abs(opened[100:]).max() < 2.0**-32 * np.abs(values).max() * 2
    for others in (guards[0] + guards[2], 2 * guards[0], guards[0]):
        with pytest.raises(IntegrityError, match="off by"):
            secret.open(chosen, guards=others, precision=PRECISION / 4)


def test_a_masked_sum_of_the_largest_numbers_opens(secret):
    """Blocks full of the largest numbers add up to 2**39, to 2**-32 of that; four times that, or one block less, does not open."""
    guards = np.random.default_rng(2).random((16, 8))
    values = np.full(16 * BLOCK_ROWS, LIMIT)
    blocks = on_the_host(secret, secret.encode(pa.array(values), lambda start: guards[start // BLOCK_ROWS]))
    mask = np.repeat([1.0, 0.0, 1.0], [BLOCK_ROWS - 100, 100, 8])
    masked = [block.mul(mask.tolist()) for block in blocks]
    total = sum(masked[1:], masked[0])
    for times in (1, 2, 4, 8, 16, 32):
        opened = secret.open(total.serialize(), guards=times * guards.sum(axis=0), precision=PRECISION / 4)
        assert np.abs(opened - times * 16 * LIMIT * mask[:-8]).max() < 2.0**-32 * times * 16 * LIMIT
        with pytest.raises(IntegrityError, match="off by"):
            secret.open(total.serialize(), guards=times * guards[1:].sum(axis=0), precision=PRECISION / 4)
        total = total + total
    with pytest.raises(IntegrityError, match="off by"):
        secret.open((total + total).serialize(), guards=128 * guards.sum(axis=0), precision=PRECISION / 4)


def test_a_result_beyond_its_precision_is_refused(secret, values):
    """An error of the size that a bound forbids is found by the guards; a wider bound accepts the same result."""
    (ciphertext,) = on_the_host(secret, secret.encode(pa.array(values[:10])))
    slots = np.zeros(BLOCK_ROWS + 8)
    slots[BLOCK_ROWS:] = 4 * PRECISION
    disturbed = ciphertext.add(slots).serialize()
    with pytest.raises(IntegrityError, match="off by"):
        secret.open(disturbed)
    assert len(secret.open(disturbed, precision=8 * PRECISION)) == BLOCK_ROWS


def test_only_numbers_within_the_limit_are_encrypted(secret):
    """Numbers up to 2**30 and decimals come back; larger ones, infinities and texts are refused."""
    column = pa.array([Decimal("1.25"), None, Decimal("-7.50")])
    assert np.allclose(secret.decode(secret.encode(column)).drop_null(), [1.25, -7.5], atol=PRECISION)
    assert secret.decode(secret.encode(column)).null_count == 1
    assert abs(secret.decode(secret.encode(pa.array([LIMIT])))[0].as_py() - LIMIT) < 1
    for refused in ([2 * LIMIT], [float("inf")], [float("nan")], ["one"]):
        with pytest.raises(DataError):
            secret.encode(pa.array(refused))


def test_the_secret_is_sealed(secret, values):
    """A sealed key pair opens under its key and context only, and opens what it encrypted before."""
    key = DataKey(bytes(range(32)))
    envelope = secret.seal(key, b"here")
    ciphertext = secret.encode(pa.array(values[:5]))[0]["ciphertext"].as_py()
    assert np.allclose(SecretContext.unseal(key, b"here", envelope).open(ciphertext)[:5], values[:5], atol=PRECISION)
    for other, context in ((DataKey(bytes(32)), b"here"), (key, b"there")):
        with pytest.raises(UnsealError):
            SecretContext.unseal(other, context, envelope)
