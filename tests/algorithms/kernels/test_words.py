"""Do the compiled kernels of words join and learn what their twins do?"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securemllib.algorithms.kernels import words


def _problem(seed, vocabulary, width, count, farthest=4):
    rng = np.random.default_rng(seed)
    tree = words.tree_of(np.sort(rng.integers(1, 50, vocabulary))[::-1].copy())
    sentence = rng.integers(0, vocabulary, count).astype(np.int32)
    ends = np.concatenate([[0], np.sort(rng.integers(0, count + 1, 5)), [count]])
    reach = rng.integers(0, farthest, count).astype(np.int32)
    return sentence, ends, reach, tree, rng.normal(size=(2 * vocabulary - 1, width)).astype(np.float32)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_a_tree_is_that_of_its_twin(counts):
    """Trees are the twin's, every way ends at the root, and no longer ways than those of Huffman's own merging are taken in sum."""
    ordered = np.array(sorted(counts, reverse=True))
    tree, twin = words.tree_of(ordered), words.tree_twin(ordered)
    np.testing.assert_array_equal(tree.parents, twin.parents)
    np.testing.assert_array_equal(tree.bits, twin.bits)
    taken = sum(count * len(list(tree.way(word))) for word, count in enumerate(ordered.tolist()))
    heap, least = sorted(counts), 0
    while len(heap) > 1:
        joined = heap[0] + heap[1]
        heap, least = sorted([*heap[2:], joined]), least + joined
    assert taken == least
    children = tree.parents[: tree.root]
    assert all(sorted(tree.bits[: tree.root][children == node]) == [0, 1] for node in set(children.tolist()))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 21), st.integers(0, 60))
def test_learned_vectors_are_those_of_the_twin(seed, vocabulary, width, count):
    """Sentences of any cut, reaches of nothing and products beyond the table included, make of vectors what numpy makes of them."""
    problem = _problem(seed, vocabulary, width, count)
    before = problem[-1].copy()
    pace = words.Pace(step=0.05, learners=2, before=30, iteration=0, all=400)
    (found, trained), (wanted, by) = words.train(*problem[:4], pace, problem[-1]), words.train_twin(*problem[:4], pace, problem[-1])
    np.testing.assert_array_equal(problem[-1], before)
    # A product that rounding puts into the next entry of the table moves a step by a 330th of it.
    np.testing.assert_allclose(found, wanted, atol=5e-3)
    assert found.shape == before.shape
    # Where a product is as near to 6 as rounding, one of both learns from it.
    np.testing.assert_array_equal(found[trained == 0], before[trained == 0])
    assert (trained != by).sum() <= 1


def test_steps_are_those_of_the_twin_to_the_last_bits():
    """From small vectors, whose products stay in one entry of the table, both learn the same to float32."""
    sentence, ends, reach, tree, vectors = _problem(5, 9, 13, 50)
    pace = words.Pace(step=0.025, learners=1, before=0, iteration=0, all=1000)
    small = vectors * np.float32(1e-3) + np.float32(1e-3)
    (found, trained), (wanted, by) = (run(sentence, ends, reach, tree, pace, small) for run in (words.train, words.train_twin))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(trained, by)
    assert np.abs(found - small).max() > 1e-5


def test_the_rate_falls_with_the_words():
    """Behind ten thousand words a sentence learns as fast as that is MLlib's rate there, which is not below the least."""
    sentence, _, reach, tree, vectors = _problem(6, 2, 3, 10_200)
    # Of one last sentence the words have neighbours.
    reach[:10_100], ends = 0, np.arange(0, 10_201, 100)
    pace = words.Pace(step=1e-3, learners=1, before=2_000, iteration=0, all=24_201)
    assert pace.rate(10_100) == 1e-3 * (1 - 12_100 / 24_201)
    for learners, rate in ((1, pace.rate(10_100)), (2, 1e-3 * (1 - 22_200 / 24_201)), (10, 1e-7)):
        changed = replace(pace, learners=learners)
        # A part so short that it keeps its first rate, which is that rate.
        alone = sentence[10_100:], np.array([0, 100]), reach[10_100:], tree, replace(pace, step=rate)
        wanted = words.train(*alone, vectors)[0] - vectors
        for run in (words.train, words.train_twin):
            np.testing.assert_allclose(run(sentence, ends, reach, tree, changed, vectors)[0] - vectors, wanted, rtol=1e-3, atol=1e-6)
    assert np.abs(wanted).max() < 1e-4
    assert replace(pace, iteration=10_001, before=12_100).first() == pytest.approx(1e-3 * (1 - 12_100 / 24_201))
    assert replace(pace, iteration=10_000, before=12_100).first() == 1e-3


def test_vectors_that_are_no_numbers_are_not_learned_from():
    """Of vectors with NaN and infinities nothing is read outside of the table, and others stay as they are."""
    sentence, ends, reach, tree, vectors = _problem(7, 4, 8, 30)
    pace = words.Pace(step=0.05, learners=1, before=0, iteration=0, all=100)
    for value in (np.nan, np.inf, 3e38):
        wild = np.full_like(vectors, value)
        np.testing.assert_array_equal(words.train(sentence, ends, reach, tree, pace, wild)[0], wild)


def test_what_leads_out_of_the_arrays_is_refused_before_the_call():
    """Words without a vector, sentences beyond the words, ways out of the tree or around and unlike shapes are ValueErrors."""
    sentence, ends, reach, tree, vectors = _problem(1, 5, 3, 20)
    pace = words.Pace(step=0.05, learners=1, before=0, iteration=0, all=100)
    words.train(sentence, ends, reach, tree, pace, vectors)

    def changed(array, index, value):
        copy = array.copy()
        copy[index] = value
        return copy

    wrong = [
        {"words": changed(sentence, 3, 5)},
        {"words": changed(sentence, 3, -1)},
        {"ends": changed(ends, -1, 21)},
        {"ends": changed(ends, 0, -1)},
        {"ends": changed(ends, 2, 20)},
        {"reach": changed(reach, 3, -1)},
        {"reach": reach[:-1]},
        {"vectors": vectors[:-1]},
        {"tree": words.Tree(changed(tree.parents, 0, 9), tree.bits)},
        {"tree": words.Tree(changed(tree.parents, 6, 6), tree.bits)},
        {"tree": words.Tree(changed(tree.parents, 0, 4), tree.bits)},
        {"tree": words.Tree(tree.parents, tree.bits[:-1])},
    ]
    for change in wrong:
        given = {"words": sentence, "ends": ends, "reach": reach, "tree": tree, "pace": pace, "vectors": vectors, **change}
        for run in (words.train, words.train_twin):
            with pytest.raises(ValueError, match=r"fit|sentences|word|way"):
                run(**given)
    for counts in ([], [1, 2], [3, -1], [2**62, 2**62]):
        for make in (words.tree_of, words.tree_twin):
            with pytest.raises(ValueError, match="counts"):
                make(np.array(counts, dtype=np.int64))
