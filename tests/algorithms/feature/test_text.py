"""Do transformers of texts split, drop, join and hash as pyspark.ml does, and refuse patterns that they cannot match as Java?"""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.ml import feature

from securemllib.algorithms.feature.murmur import murmur
from securemllib.algorithms.feature.patterns import re2_of
from securemllib.algorithms.registry import build_transformer
from securemllib.algorithms.transformer import Column
from securemllib.algorithms.vectors import SparseVector, Vector
from securemllib.errors import DataError, UsageError
from tests.algorithms.feature.running import collected, listed, spark_frame, transformed

TEXTS = [
    "Hi  I heard about Spark",
    "",
    " ",
    "  leading and trailing  ",
    "tab\tline\nend\x0bvertical\u00a0no-break",
    "ΟΔΥΣΣΕΥΣ İstanbul STRASSE ß",
    "日本 語\u3000テスト",
    "\U0001f600 emoji \U0001f600\U0001f600",
    "a,b;;c,,",
    "x1 22 y333",
]
WORDS = [["I", "saw", "the", "Red", "balloon"], [], ["the"], ["Mary", "had", None, "a", "little", "lamb", "the", "THE"], ["é", "日本"]]


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("Tokenizer", {}),
        ("RegexTokenizer", {}),
        ("RegexTokenizer", {"pattern": r"\s", "toLowercase": False}),
        ("RegexTokenizer", {"pattern": r"[,;]", "minTokenLength": 0}),
        ("RegexTokenizer", {"pattern": r"\W+", "minTokenLength": 2}),
        ("RegexTokenizer", {"pattern": r"\w+", "gaps": False}),
        ("RegexTokenizer", {"pattern": r"(\d)(\d)*", "gaps": False, "minTokenLength": 2}),
        ("RegexTokenizer", {"pattern": r"[^\s]+", "gaps": False, "minTokenLength": 2}),
        ("RegexTokenizer", {"pattern": r"x.|\p{L}+", "gaps": False}),
    ],
)
def test_words_are_those_of_mllib(spark, operation, params):
    """Texts of many scripts become MLlib's words, empty ones at their place."""
    plain = spark_frame(spark, "text string", TEXTS)
    theirs = getattr(feature, operation)(inputCol="text", outputCol="words", **params).transform(plain)
    assert listed(transformed(operation, pa.array(TEXTS), **params).columns["output"]) == collected(theirs, "words")


@pytest.mark.parametrize("sensitive", [True, False])
def test_stop_words_are_those_of_mllib(spark, sensitive):
    """Stop words fall out of each column's lists, whatever their case unless it counts."""
    stops = ["THE", "a", "É", "had"]
    plain = spark_frame(spark, "a array<string>, b array<string>", WORDS, WORDS[::-1])
    remover = feature.StopWordsRemover(inputCols=["a", "b"], outputCols=["c", "d"], stopWords=stops, caseSensitive=sensitive)
    theirs = remover.transform(plain)
    ours = transformed("StopWordsRemover", pa.array(WORDS), pa.array(WORDS[::-1]), stopWords=tuple(stops), caseSensitive=sensitive).columns
    assert [listed(ours["output0"]), listed(ours["output1"])] == [collected(theirs, "c"), collected(theirs, "d")]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_neighbours_are_those_of_mllib(spark, n):
    """Each n neighbouring words are joined, and a list of fewer has none."""
    theirs = feature.NGram(inputCol="a", outputCol="b", n=n).transform(spark_frame(spark, "a array<string>", WORDS))
    assert listed(transformed("NGram", pa.array(WORDS), n=n).columns["output"]) == collected(theirs, "b")


@pytest.mark.parametrize("params", [{"numFeatures": 17}, {"numFeatures": 17, "binary": True}, {"numFeatures": 1000}])
def test_terms_hash_to_the_slots_of_mllib(spark, params):
    """Terms of every length and script are counted at MLlib's slots."""
    terms = [["a" * length for length in range(9)] + ["a"], ["é", "日本語", "\U0001f600", "ab"], [], ["a", None, "b", "a"]]
    theirs = feature.HashingTF(inputCol="a", outputCol="b", **params).transform(spark_frame(spark, "a array<string>", terms))
    assert listed(transformed("HashingTF", pa.array(terms), **params).columns["output"]) == collected(theirs, "b")


def test_hashed_terms_stay_sparse():
    """A table of 2**18 slots holds its terms only, and a part without any term has its width."""
    made = transformed("HashingTF", pa.array([["a", "b", "a"], []])).columns["output"].values
    assert isinstance(made, SparseVector)
    assert (made.width, made.values.nnz) == (1 << 18, 2)
    for empty in (pa.array([], pa.list_(pa.string())), pa.array([[], []], pa.list_(pa.null()))):
        assert transformed("HashingTF", empty).columns["output"].values.width == 1 << 18


def test_columns_hash_to_the_slots_of_mllib(spark):
    """Numbers, texts, booleans and numbers that are categories are at MLlib's slots; nulls are nowhere."""
    schema = "real double, whole int, flag boolean, text string, code double, id bigint"
    columns = [
        [2.2, None, 0.0, -1.0],
        [1, 2, None, 2],
        [True, False, None, True],
        ["x", "ä", None, ""],
        [1.0, 1e7, None, 0.5],
        [7, 7, 8, None],
    ]
    names = ["real", "whole", "flag", "text", "code", "id"]
    hasher = feature.FeatureHasher(inputCols=names, outputCol="out", numFeatures=50, categoricalCols=["code", "id"])
    theirs = hasher.transform(spark_frame(spark, schema, *columns))
    kinds = [pa.float64(), pa.int32(), pa.bool_(), pa.string(), pa.float64(), pa.int64()]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    ours = transformed("FeatureHasher", *arrays, inputCols=tuple(names), numFeatures=50, categoricalCols=("code", "id"))
    assert np.allclose(listed(ours.columns["output"]), collected(theirs, "out"), rtol=0, atol=0)


def _reference(data: bytes) -> int:
    """Return MurmurHash3 of one text, byte by byte."""
    mask, state = 0xFFFFFFFF, 42

    def rotated(word: int, bits: int) -> int:
        return ((word << bits) | (word >> (32 - bits))) & mask

    whole = len(data) // 4 * 4
    for start in range(0, whole, 4):
        word = rotated(int.from_bytes(data[start : start + 4], "little") * 0xCC9E2D51 & mask, 15) * 0x1B873593 & mask
        state = (rotated(state ^ word, 13) * 5 + 0xE6546B64) & mask
    state ^= rotated(int.from_bytes(data[whole:], "little") * 0xCC9E2D51 & mask, 15) * 0x1B873593 & mask
    state ^= len(data)
    state = (state ^ state >> 16) * 0x85EBCA6B & mask
    state = (state ^ state >> 13) * 0xC2B2AE35 & mask
    return state ^ state >> 16


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=8))
def test_many_texts_hash_as_each_alone(texts):
    """Hashing all texts at once gives the published algorithm's hash of each."""
    assert murmur(pa.array(texts, pa.string())).tolist() == [_reference(text.encode()) for text in texts]


@pytest.mark.parametrize(
    "pattern", [r"(?=a)b", r"(a)\1", r"a++", r"[a&&b]", r"[a[b]]", r"(?i)a", r"\v", r"[\S]", r"a*", "", "|", "(", r"\b", "a{,2}", "a{"]
)
def test_patterns_that_mean_something_else_are_refused(pattern):
    """A pattern that RE2 cannot match, or matches otherwise than Java, is refused before a job is sent; its neighbour is not."""
    assert re2_of("a+") == "a+"
    with pytest.raises(UsageError) as caught:
        build_transformer("RegexTokenizer", {"pattern": pattern})
    assert caught.value.error_code == "usage.unsupported"


@pytest.mark.parametrize(
    ("pattern", "alike", "other"),
    [
        (r"\bb", "ab b cb", "äb b"),
        (r"\Bb", "ab b cb", "äb b"),
        (r"\$$|d$", "end", "end\n"),
        (r"d$", "a\nend", "end\u2028"),
        (r"[$b]", "a$b\n", None),
        (r"\p{L}{1,2}", "äb\n", None),
    ],
)
def test_texts_in_which_java_matches_otherwise_are_refused(spark, pattern, alike, other):
    """Edges of words beside letters beyond ASCII, and a final line end before ``$``, are refused; other texts are split as MLlib splits."""
    for gaps in (True, False):
        tokenizer = feature.RegexTokenizer(inputCol="text", outputCol="out", pattern=pattern, gaps=gaps, minTokenLength=0)
        theirs = collected(tokenizer.transform(spark_frame(spark, "text string", [alike])), "out")
        ours = transformed("RegexTokenizer", pa.array([alike]), pattern=pattern, gaps=gaps, minTokenLength=0)
        assert listed(ours.columns["output"]) == theirs
        if other is not None:
            with pytest.raises(DataError) as caught:
                transformed("RegexTokenizer", pa.array([alike, other]), pattern=pattern, gaps=gaps)
            assert caught.value.error_code == "data.pattern"


def test_a_mark_in_a_text_is_no_match():
    """Texts that hold the first marks are matched all the same, and texts that hold them all are refused."""
    made = transformed("RegexTokenizer", pa.array(["a\x00b \x01"]), pattern=r"\w", gaps=False)
    assert listed(made.columns["output"]) == [["a", "b"]]
    with pytest.raises(DataError):
        transformed("RegexTokenizer", pa.array(["\x00\x01\x02\ufdd0\ufdd1"]), pattern=r"\w", gaps=False)


@pytest.mark.parametrize("operation", ["Tokenizer", "NGram", "HashingTF"])
def test_nulls_and_other_types_are_refused(operation):
    """A null text or list, a number and a vector are refused."""
    right = pa.array(["a"]) if operation == "Tokenizer" else pa.array([["a"]])
    assert transformed(operation, right).columns["output"].rows == 1
    wrong = [pa.array([None], right.type), Column(Vector.of(np.ones((1, 1))))]
    wrong += [] if operation == "Tokenizer" else [pa.array([1.0]), pa.array([[1.0]])]
    for column in wrong:
        with pytest.raises(DataError):
            transformed(operation, column)


@pytest.mark.parametrize(
    ("operation", "right", "wrong"),
    [
        ("NGram", {"n": 1}, {"n": 0}),
        ("HashingTF", {"numFeatures": 1}, {"numFeatures": 0}),
        ("RegexTokenizer", {"minTokenLength": 0}, {"minTokenLength": -1}),
        ("FeatureHasher", {"inputCols": ("a",)}, {"inputCols": ()}),
        ("StopWordsRemover", {"stopWords": (), "locale": "tr_TR"}, {"stopWords": (), "locale": "lt_LT"}),
    ],
)
def test_params_out_of_their_domain_are_refused(operation, right, wrong):
    """A value outside of a Param's domain is refused beside one inside."""
    build_transformer(operation, right)
    with pytest.raises(UsageError):
        build_transformer(operation, wrong)
