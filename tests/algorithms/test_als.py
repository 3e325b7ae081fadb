"""Do factors of ratings minimise MLlib's objective as MLlib's do, and predict and recommend as MLlib's?"""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from pyspark.ml import recommendation
from scipy.optimize import nnls

from securemllib.algorithms.als import ALS
from securemllib.algorithms.als_model import ALSFactors, ALSModel, best
from securemllib.algorithms.als_ratings import owners, unit_vectors
from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.transformer import Column
from securemllib.errors import DataError, UsageError
from tests.algorithms.exchanging import exchange_states, fit_shards

SEED = Seed(b"r" * 32)


def _ratings(seed, count=1500, users=60, items=40, rank=3):
    """Return user ids, item ids (with gaps, negative ones among them) and ratings that factors explain, some of them below 0."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, users, count), rng.integers(0, items, count)
    factors = rng.normal(size=(users, rank)), rng.normal(size=(items, rank))
    rating = np.einsum("ij,ij->i", factors[0][user], factors[1][item]) + 0.1 * rng.normal(size=count) + 1.0
    return user * 7 - 50, item * 3, rating.astype(np.float32).astype(float)


def _blocks(user, item, rating, parts=3):
    return [
        Block(
            ordinal=ordinal,
            features=np.zeros((len(rows), 0)),
            offset=np.zeros(0),
            extras={"user": user[rows].astype(float), "item": item[rows].astype(float), "rating": rating[rows]},
        )
        for ordinal, rows in enumerate(np.array_split(np.arange(len(user)), parts))
    ]


def _frame(spark, user, item, rating):
    rows = [(int(u), int(i), float(r)) for u, i, r in zip(user, item, rating, strict=True)]
    return spark.createDataFrame(rows, "user int, item int, rating float").coalesce(1).cache()


def _objective(user, item, rating, model, reg, alpha=None):
    """Return MLlib's objective of factors, over the ratings or, with alpha, over all pairs."""
    users, items = model.user_factors.astype(float), model.item_factors.astype(float)
    u, i = np.searchsorted(model.user_ids, user), np.searchsorted(model.item_ids, item)
    counted = np.ones(len(rating), dtype=bool) if alpha is None else rating > 0
    ridge = reg * (np.bincount(u[counted], minlength=len(users)) @ (users**2).sum(axis=1))
    ridge += reg * (np.bincount(i[counted], minlength=len(items)) @ (items**2).sum(axis=1))
    products = users @ items.T
    if alpha is None:
        return ((rating - products[u, i]) ** 2).sum() + ridge
    # Confidence minus 1 and confidence times preference add up over repeated ratings of a pair, as in MLlib's equations.
    more, wanted = np.zeros_like(products), np.zeros_like(products)
    np.add.at(more, (u, i), alpha * np.abs(rating))
    np.add.at(wanted, (u, i), np.where(rating > 0, 1 + alpha * np.abs(rating), 0.0))
    return ((1 + more) * products**2 - 2 * wanted * products).sum() + ridge


@pytest.mark.parametrize("least", [0, -(2**31), 2**31 - 41])
def test_an_id_belongs_to_one_shard_whoever_asks(least):
    """The shard of an id is the same among many ids, which are looked up in a table, and among few; and shards get about as many."""
    ids = (least + np.arange(40)).astype(np.int32)
    many = np.repeat(ids, 3)
    few = np.concatenate([owners(SEED, "user", ids[[index, -1 - index]], 3) for index in range(20)])
    dense = owners(SEED, "user", many, 3)[::3]
    np.testing.assert_array_equal(np.stack([dense[:20], dense[:19:-1]], axis=1).ravel(), few)
    assert np.bincount(dense, minlength=3).min() > 4


def _mllib(spark, frame, **params):
    """Return MLlib's model, and its factors as ours."""
    theirs = recommendation.ALS(numUserBlocks=1, numItemBlocks=1, **params).fit(frame)
    sides = [side.orderBy("id").collect() for side in (theirs.userFactors, theirs.itemFactors)]
    ids = [np.array([row.id for row in side], dtype=np.int32) for side in sides]
    factors = [np.array([row.features for row in side], dtype=np.float32) for side in sides]
    return theirs, ALSFactors(user_ids=ids[0], item_ids=ids[1], user_factors=factors[0], item_factors=factors[1])


def _sharded(factors, **params):
    """Return a model of some factors in shards, and what returns a shard; one of them has no ids."""
    shards, count = [], 3
    for index in range(count):
        users, items = factors.user_ids % (count - 1) == index, factors.item_ids % (count - 1) == index
        of_users, of_items = (factors.user_ids[users], factors.user_factors[users]), (factors.item_ids[items], factors.item_factors[items])
        shards.append(ALSFactors(user_ids=of_users[0], user_factors=of_users[1], item_ids=of_items[0], item_factors=of_items[1]))
    return ALSModel(rank=factors.user_factors.shape[1], shards=(b"",) * count, **params), shards.__getitem__


def _predicted(factors, users, items):
    model, shard = _sharded(factors)
    return model.predict(users, items, shard)


@pytest.mark.parametrize(
    ("ours", "theirs", "alpha"),
    [
        ({}, {}, None),
        ({"nonnegative": True}, {"nonnegative": True}, None),
        ({"implicit_prefs": True, "alpha": 2.0}, {"implicitPrefs": True, "alpha": 2.0}, 2.0),
        ({"implicit_prefs": True, "nonnegative": True}, {"implicitPrefs": True, "nonnegative": True}, 1.0),
    ],
)
def test_the_objective_is_as_low_as_mllibs(spark, fit, ours, theirs, alpha):
    """After 15 iterations from random factors the objective, and the error of the ratings, are within 1 % of MLlib's."""
    data = _ratings(1)
    _, reference = _mllib(spark, _frame(spark, *data), rank=4, maxIter=15, regParam=0.05, seed=3, **theirs)
    model = fit(ALS(rank=4, max_iter=15, reg_param=0.05, **ours), _blocks(*data), SEED)
    np.testing.assert_array_equal(model.user_ids, reference.user_ids)
    np.testing.assert_array_equal(model.item_ids, reference.item_ids)
    mine, other = (_objective(*data, found, 0.05, alpha) for found in (model, reference))
    assert mine == pytest.approx(other, rel=0.01)
    users, items = (column.astype(float) for column in data[:2])
    if not ours:
        errors = [np.sqrt(np.mean((_predicted(found, users, items) - data[2]) ** 2)) for found in (model, reference)]
        assert errors[0] == pytest.approx(errors[1], rel=0.01)
    if "nonnegative" in ours:
        assert min(model.user_factors.min(), model.item_factors.min()) >= 0.0


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("nonnegative", [False, True])
def test_each_side_is_the_least_squares_solution(implicit, nonnegative):
    """Each item's factors minimise its own squares, given the users', as numpy and scipy solve them one by one."""
    user, item, rating = data = _ratings(2, count=300, users=20, items=15)
    algorithm = ALS(rank=3, max_iter=1, reg_param=0.2, implicit_prefs=implicit, alpha=1.5, nonnegative=nonnegative)
    found = fit_shards(algorithm, _blocks(*data), SEED, 3)
    first = unit_vectors(SEED, "user", found.user_ids, 3)
    _check_side(item, rating, found.item_ids, found.item_factors, first, np.searchsorted(found.user_ids, user), algorithm)
    _check_side(user, rating, found.user_ids, found.user_factors, found.item_factors, np.searchsorted(found.item_ids, item), algorithm)


def _check_side(ids, rating, solved_ids, solved, others, other, algorithm):
    wide = others.astype(float)
    for index, one in enumerate(solved_ids):
        rows = ids == one
        factors, found = wide[other[rows]], rating[rows]
        matrix, side, counted = factors.T @ factors, factors.T @ found, int(rows.sum())
        if algorithm.implicit_prefs:
            confidence = 1.5 * np.abs(found)
            matrix = wide.T @ wide + (factors * confidence[:, None]).T @ factors
            side, counted = factors.T @ np.where(found > 0, 1 + confidence, 0.0), int((found > 0).sum())
        matrix = matrix + 0.2 * counted * np.eye(3)
        expected = np.linalg.solve(matrix, side)
        if algorithm.nonnegative:
            root = np.linalg.cholesky(matrix)
            expected, _ = nnls(root.T, np.linalg.solve(root, side))
        # Factors are rounded to float32.
        np.testing.assert_allclose(solved[index], expected, rtol=2e-6, atol=2e-6)


def test_ranges_of_ids_and_pieces_of_ratings_give_the_same_factors():
    """A shard whose equations or ratings exceed what is held at once works piece by piece, and the factors are the same to the byte."""
    data = _ratings(3)

    class Narrow(ALS):
        EQUATION_BYTES = 8 * (10 + 4) * 7  # seven ids of rank 4
        PIECE_RATINGS = 150

    whole, pieces = (fit_shards(algorithm(rank=4, max_iter=2), _blocks(*data, 9), SEED, 3) for algorithm in (ALS, Narrow))
    assert pieces.user_factors.tobytes() == whole.user_factors.tobytes()
    assert pieces.item_factors.tobytes() == whole.item_factors.tobytes()
    assert (
        max(state.pieces for state in exchange_states(Narrow(rank=4, max_iter=0), _blocks(*data, 9), SEED) if hasattr(state, "pieces"))[0]
        > 5
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(2, 6), st.integers(1, 7), st.booleans())
def test_any_number_of_shards_gives_the_same_factors(seed, count, shards, parts, implicit):
    """Rows in any order, in any parts, on any number of shards give the factors of one shard, to the rounding of other orders of sums.

    An id without a positive implicit rating is not regularised, as in MLlib, so few ratings may leave singular equations.
    """
    data = _ratings(seed, count=count)
    algorithm = ALS(rank=2, max_iter=2, implicit_prefs=implicit)
    order = np.random.default_rng(seed).permutation(count)
    try:
        one = fit_shards(algorithm, _blocks(*data, 1), SEED)
    except DataError as error:
        if not implicit or error.error_code != "data.singular":
            raise
        reject()
    many = fit_shards(algorithm, _blocks(*(column[order] for column in data), parts), SEED, shards)
    for side in ("user", "item"):
        np.testing.assert_array_equal(many.of(side)[0], one.of(side)[0])
        np.testing.assert_allclose(many.of(side)[1], one.of(side)[1], rtol=1e-4, atol=1e-5)


def test_a_shard_gets_no_more_than_its_share():
    """With many users a shard of eight holds and receives no more than a fifth of either side's ids: no node has all factors."""
    rng = np.random.default_rng(11)
    user, item = rng.integers(0, 4000, 8000), rng.integers(0, 4000, 8000)
    *_, (model, shards) = exchange_states(ALS(rank=2, max_iter=1), _blocks(user, item, rng.normal(size=8000), 8), SEED, 8)
    whole = model.whole(shards)
    for side in ("user", "item"):
        sizes = [len(shard.of(side)[0]) for shard in shards]
        assert sum(sizes) == len(whole.of(side)[0])
        assert max(sizes) < sum(sizes) / 5


def test_a_seed_names_one_training(fit):
    """The same seed gives the same bytes, another seed other factors; without iterations factors are unit vectors."""
    blocks = _blocks(*_ratings(4))
    one, same, other = (fit(ALS(max_iter=2), blocks, seed).user_factors.tobytes() for seed in (SEED, SEED, Seed(b"o" * 32)))
    assert one == same != other
    start = fit(ALS(max_iter=0), blocks, SEED)
    np.testing.assert_allclose(np.linalg.norm(start.user_factors, axis=1), 1.0, rtol=1e-6)


def test_ratings_default_to_one(fit):
    """Without a rating column every row is a rating of 1, as with MLlib's empty ratingCol."""
    user, item, _ = _ratings(5)
    blocks = _blocks(user, item, np.ones(len(user)))
    bare = [replace(block, extras={name: block.extras[name] for name in ("user", "item")}) for block in blocks]
    with_ones, without = (fit(ALS(max_iter=2, implicit_prefs=True), rows, SEED) for rows in (blocks, bare))
    assert with_ones.user_factors.tobytes() == without.user_factors.tobytes()


@pytest.fixture(scope="module")
def trained(spark):
    """MLlib's model and ours of the same factors."""
    return _mllib(spark, _frame(spark, *_ratings(6)), rank=3, maxIter=3, seed=1)


@pytest.mark.parametrize("strategy", ["nan", "drop"])
def test_predictions_are_mllibs(spark, trained, strategy):
    """For the same factors predictions are MLlib's floats, and unknown users and items give NaN, or no row."""
    theirs, factors = trained
    user, item, rating = (column[:40].copy() for column in _ratings(6))
    user[3], item[5] = 10**6, 10**6
    frame = _frame(spark, user, item, rating)
    expected = theirs.copy().setColdStartStrategy(strategy).transform(frame).toPandas().sort_values(["user", "item", "rating"])
    columns = tuple(Column(pa.array(column)) for column in (user, item))
    model, shard = _sharded(factors, cold_start_strategy=strategy)
    made = model.transform(columns, shard)
    prediction = made.columns["prediction"].values.to_numpy(zero_copy_only=False)
    keep = np.ones(40, dtype=bool) if made.keep is None else made.keep
    assert int(keep.sum()) == len(expected) == (40 if strategy == "nan" else 38)
    order = np.lexsort((rating[keep], item[keep], user[keep]))
    # MLlib adds three products of floats in another order.
    np.testing.assert_allclose(prediction[keep][order], expected["prediction"], rtol=1e-5, atol=1e-6)
    assert made.columns["prediction"].values.type == pa.float32()


@pytest.mark.parametrize("side", ["user", "item"])
def test_recommendations_are_mllibs(trained, side):
    """The best partners of every user and item, and their scores, are MLlib's; an unknown id has none."""
    theirs, factors = trained
    frame = theirs.recommendForAllUsers(5) if side == "user" else theirs.recommendForAllItems(5)
    expected = {row[side]: [(found[0], found["rating"]) for found in row.recommendations] for row in frame.collect()}
    ids = np.array([*expected, 10**6, *expected])
    model, shard = _sharded(factors, recommend=side, count=5)
    made = model.transform((Column(pa.array(ids)),), shard).columns["recommendations"].values.matrix()
    assert np.isnan(made[len(expected)]).all()
    for row in np.delete(made, len(expected), axis=0):
        assert [int(found) for found in row[1:6]] == [found for found, _ in expected[int(row[0])]]
        np.testing.assert_allclose(row[6:], [score for _, score in expected[int(row[0])]], rtol=1e-5, atol=1e-6)


def test_the_best_are_those_of_a_full_sort():
    """The best partners are those of sorting all products, equal ones by position, and all where more are asked for."""
    rng = np.random.default_rng(7)
    factors, partners = (rng.integers(-2, 3, (rows, 2)).astype(np.float32) for rows in (9, 11))
    products = factors @ partners.T
    whole = np.argsort(-products, axis=1, kind="stable")
    for count in (1, 4, 11, 50):
        order, scores = best(factors, partners, count)
        np.testing.assert_array_equal(scores, np.take_along_axis(products, whole, axis=1)[:, :count])
        assert order.shape == (9, min(count, 11))
    np.testing.assert_array_equal(best(factors, partners, 50)[0], whole)
    with pytest.raises(UsageError):
        best(factors, partners, 0)


@pytest.mark.parametrize("value", [0.5, 2.0**31, -(2.0**31) - 1, np.inf, np.nan])
def test_ids_are_javas_integers(fit, value):
    """Ids with a fraction, beyond 32 bits or missing are refused in training and prediction; the extreme integers are accepted."""
    user, item, rating = _ratings(8, count=50)
    user, item = user.astype(float), item.astype(float)
    user[0], user[1] = -(2.0**31), 2.0**31 - 1
    model = fit(ALS(rank=2, max_iter=1), _blocks(user, item, rating), SEED)
    assert (model.user_ids[0], model.user_ids[-1]) == (-(2**31), 2**31 - 1)
    for bad in ((np.where(np.arange(50) == 7, value, user), item), (user, np.where(np.arange(50) == 7, value, item))):
        with pytest.raises(DataError) as refused:
            fit(ALS(rank=2, max_iter=1), _blocks(*bad, rating), SEED)
        assert refused.value.error_code == "data.id"
        with pytest.raises(DataError):
            _predicted(model, *bad)


def test_ratings_are_finite_floats(fit):
    """A rating that is infinite as a float, and a part without users, are refused; great ones are accepted."""
    user, item, rating = _ratings(9, count=50)
    rating[3] = 1e6
    fit(ALS(rank=2, max_iter=1), _blocks(user, item, rating), SEED)
    for value in (np.inf, 1e39, np.nan):
        rating[3] = value
        with pytest.raises(DataError):
            fit(ALS(rank=2, max_iter=1), _blocks(user, item, rating), SEED)
    (block,) = _blocks(user, item, np.ones(50), 1)
    with pytest.raises(DataError):
        fit(ALS(rank=2, max_iter=1), [replace(block, extras={"item": block.extras["item"]})], SEED)
    with pytest.raises(DataError):
        fit(ALS(), _blocks(user[:0], item[:0], rating[:0], 1), SEED)


def test_a_singular_system_is_refused(fit):
    """With regParam 0 and fewer ratings than factors there is no one solution; a ridge gives one."""
    data = _ratings(10, count=30)
    fit(ALS(rank=5, max_iter=1, reg_param=0.01), _blocks(*data), SEED)
    with pytest.raises(DataError) as refused:
        fit(ALS(rank=5, max_iter=1, reg_param=0.0), _blocks(*data), SEED)
    assert refused.value.error_code == "data.singular"


@pytest.mark.parametrize(
    ("accepted", "refused"),
    [
        ({"rank": 1}, {"rank": 0}),
        ({"max_iter": 0}, {"max_iter": -1}),
        ({"reg_param": 0.0}, {"reg_param": -0.1}),
        ({"alpha": 0.0}, {"alpha": -0.1}),
        ({"cold_start_strategy": "Drop"}, {"cold_start_strategy": "keep"}),
        ({"implicit_prefs": True}, {"implicit_prefs": 1}),
    ],
)
def test_params_have_mllibs_domains(accepted, refused):
    """A Param out of its domain is refused, its nearest neighbour within is accepted."""
    ALS(**accepted)
    with pytest.raises(UsageError):
        ALS(**refused)
