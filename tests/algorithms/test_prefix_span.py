"""Does PrefixSpan find MLlib's patterns, and do counts add up?"""

from functools import reduce
from itertools import combinations
from operator import add
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.ml.fpm import PrefixSpan as SparkPrefixSpan

from securemllib.algorithms import prefix_span_sequences
from securemllib.algorithms.base import Block
from securemllib.algorithms.codec import to_tree
from securemllib.algorithms.items import shown
from securemllib.algorithms.prefix_span import PrefixSpan
from securemllib.algorithms.prefix_span_sequences import Patterns
from securemllib.algorithms.registry import build
from securemllib.errors import DataError, UsageError

NESTED = pa.list_(pa.list_(pa.int64()))


def _blocks(rows: Any, parts: int = 3, kind: Any = NESTED) -> list[Block]:
    cuts = np.array_split(np.arange(len(rows)), parts)
    raws = [{"input0": pa.array([rows[index] for index in cut], kind)} for cut in cuts]
    return [
        Block(ordinal=ordinal, features=np.zeros((len(raw["input0"]), 0)), offset=np.zeros(0), raw=raw) for ordinal, raw in enumerate(raws)
    ]


def _drawn(seed: int, rows: int = 60, items: int = 6) -> list[Any]:
    """Sequences of up to five sets of up to three items, null and empty sequences and empty sets among them."""
    drawn = np.random.default_rng(seed)
    weights = np.linspace(2.0, 0.5, items) / np.linspace(2.0, 0.5, items).sum()

    def sequence() -> list[list[int]]:
        return [drawn.choice(items, drawn.integers(0, 4), replace=False, p=weights).tolist() for _ in range(drawn.integers(0, 6))]

    return [None if index % 13 == 5 else sequence() for index in range(rows)]


def _found(model: Any) -> dict[Any, int]:
    patterns = Patterns(parents=model.parents, items=model.items, joins=model.joins, counts=model.counts)
    sequences = patterns.sequences(shown(model.vocabulary, integers=model.integers))
    found = {tuple(frozenset(items) for items in sequence): count for sequence, count in zip(sequences, model.counts.tolist(), strict=True)}
    assert len(found) == len(sequences)
    return found


def _holds(row: Any, pattern: Any) -> bool:
    places = iter(row)
    return all(any(part <= set(place) for place in places) for part in pattern)


@pytest.mark.parametrize(("support", "length"), [(0.1, 10), (0.25, 10), (0.05, 3), (0.0, 2), (1.0, 10)])
def test_patterns_are_mllibs(support: float, length: int, spark: Any, fit: Any) -> None:
    """Patterns and how many rows hold them are MLlib's of drawn sequences, null and empty ones among them."""
    rows = _drawn(int(support * 100) + length)
    params = {"minSupport": support, "maxPatternLength": length}
    data = spark.createDataFrame([(row,) for row in rows], "sequence array<array<bigint>>").coalesce(1)
    theirs = SparkPrefixSpan(**params).findFrequentSequentialPatterns(data).collect()
    expected = {tuple(frozenset(items) for items in row.sequence): row.freq for row in theirs}
    ours = fit(build("PrefixSpan", params), _blocks(rows))
    assert _found(ours) == expected
    assert len(expected) == len(theirs)
    assert support == 1.0 or len(expected) > 5
    assert ours.smallest_group == min(expected.values(), default=np.inf)


def test_counts_are_those_of_a_loop(fit: Any) -> None:
    """Every pattern has the rows that a loop finds, and no frequent pattern of three items is missing."""
    rows = _drawn(3, 40, 4)
    found = _found(fit(PrefixSpan(min_support=0.1), _blocks(rows)))
    held = [row for row in rows if row is not None]
    assert all(sum(_holds(row, pattern) for row in held) == count for pattern, count in found.items())
    sets = [frozenset(items) for size in (1, 2, 3) for items in combinations(range(4), size)]
    every = [(one, *rest) for one in sets for rest in [(), *[(two,) for two in sets], *[(two, three) for two in sets for three in sets]]]
    least = np.ceil(0.1 * len(held))
    short = [pattern for pattern in every if sum(map(len, pattern)) <= 3]
    assert {pattern for pattern in short if sum(_holds(row, pattern) for row in held) >= least} <= found.keys()


def test_the_example_of_mllib(fit: Any) -> None:
    """The documentation's example has its patterns; texts have those of integers; the most frequent item comes first in a set."""
    rows = [[[1, 2], [3]], [[1], [3, 2], [1, 2]], [[1, 2], [5]], [[6]]]
    expected = {"[[1]]": 3, "[[2]]": 3, "[[3]]": 2, "[[1, 2]]": 3, "[[1], [3]]": 2}
    for kind in (pa.int64(), pa.string(), pa.int8()):
        typed = [[[str(item) if kind == pa.string() else item for item in items] for items in row] for row in rows]
        model = fit(PrefixSpan(min_support=0.5, max_pattern_length=5), _blocks(typed, 4, pa.list_(pa.list_(kind))))
        patterns = Patterns(parents=model.parents, items=model.items, joins=model.joins, counts=model.counts)
        sequences = patterns.sequences(shown(model.vocabulary, integers=model.integers))
        found = {str(sequence).replace("'", ""): count for sequence, count in zip(sequences, model.counts.tolist(), strict=True)}
        assert found == expected
        assert all(type(item) is (str if kind == pa.string() else int) for sequence in sequences for items in sequence for item in items)


def test_supports_add_up(fit: Any) -> None:
    """The statistics of a union are the sum of the parts', in each pass and of parts without rows too."""
    rows, algorithm = _drawn(9), PrefixSpan(min_support=0.1)
    (whole,), parts = _blocks(rows, 1), [*_blocks(rows, 4), *_blocks([], 1, pa.list_(pa.list_(pa.int64())))]
    state, passes = algorithm.initial(None, None), 0
    while not algorithm.is_done(state):
        total = algorithm.statistics(state, whole)
        assert to_tree(reduce(add, (algorithm.statistics(state, part) for part in parts))) == to_tree(total)
        state, passes = algorithm.update(state, total), passes + 1
    assert passes > 3


@pytest.mark.parametrize(
    ("rows", "kind", "code"),
    [
        ([[[1, 1]]], NESTED, "data.items"),
        ([[[1, None]]], NESTED, "data.null"),
        ([[[1], None]], NESTED, "data.null"),
        ([[1]], pa.list_(pa.int64()), "data.type"),
        ([[[1.0]]], pa.list_(pa.list_(pa.float64())), "data.type"),
        (["a"], pa.string(), "data.type"),
    ],
    ids=["twice", "null item", "null set", "no sets", "numbers", "no list"],
)
def test_what_is_no_sequence_of_sets_is_refused(rows: Any, kind: Any, code: str, fit: Any) -> None:
    """An item that stands twice in a set, nulls within a sequence and other columns are errors of the data, beside one that is searched."""
    fit(PrefixSpan(), _blocks([[[1, 2], [1]]], 1))
    with pytest.raises(DataError) as refused:
        fit(PrefixSpan(), _blocks(rows, 1, kind))
    assert refused.value.error_code == code


def test_too_many_patterns_are_refused(monkeypatch: Any, fit: Any) -> None:
    """A level that proposes more patterns than the bound ends with a code that says what to do."""
    monkeypatch.setattr(prefix_span_sequences, "MOST_PATTERNS", 60)
    assert len(fit(PrefixSpan(min_support=0.7), _blocks(_drawn(1))).counts) < 60
    with pytest.raises(DataError, match="patterns") as refused:
        fit(PrefixSpan(min_support=0.0), _blocks(_drawn(1)))
    assert (refused.value.error_code, refused.value.next_step) == ("data.items", "Raise minSupport.")


@pytest.mark.parametrize("params", [{"minSupport": -0.1}, {"minSupport": 1.1}, {"maxPatternLength": 0}, {"maxLocalProjDBSize": 10}])
def test_params_out_of_their_domain_are_refused(params: dict[str, Any]) -> None:
    """What MLlib refuses is refused, and what has no effect, beside the defaults."""
    build("PrefixSpan", {})
    with pytest.raises(UsageError):
        build("PrefixSpan", params)
