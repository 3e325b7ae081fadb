"""Do transformers of numbers and vectors give what pyspark.ml gives, keep sparse vectors sparse, and refuse what it refuses?"""

import math

import numpy as np
import pyarrow as pa
import pytest
from pyspark.ml import feature
from pyspark.ml.linalg import Vectors
from scipy import sparse

from securemllib.algorithms.registry import build_transformer
from securemllib.algorithms.transformer import Column
from securemllib.algorithms.vectors import VECTOR, SparseVector, Vector, stored_vector, to_stored
from securemllib.errors import DataError, UsageError
from tests.algorithms.feature.running import collected, fitted, listed, spark_frame, transformed

MATRIX = np.array([[1.0, 0.0, -2.0], [0.0, 0.0, 0.0], [0.5, 3.0, 0.0], [0.0, -1.0, 4.0]])
DENSE = Column(Vector.of(MATRIX))
SPARSE = Column(SparseVector(sparse.csr_array(MATRIX)))
VALUES = [-1.0, 0.0, 0.5, 1.0, 2.5, None, float("nan"), math.inf]


@pytest.fixture(scope="module")
def vectors(spark):
    """The matrix as a plain Spark frame, dense and sparse."""
    rows = [(Vectors.dense(row), Vectors.sparse(3, [(i, v) for i, v in enumerate(row) if v])) for row in MATRIX.tolist()]
    return spark.createDataFrame(rows, ["dense", "sparse"]).coalesce(1).cache()


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("Normalizer", {"p": 1.0}),
        ("Normalizer", {"p": 2.0}),
        ("Normalizer", {"p": 3.5}),
        ("Normalizer", {"p": math.inf}),
        ("ElementwiseProduct", {"scalingVec": (2.0, -1.0, 0.0)}),
        ("DCT", {}),
        ("DCT", {"inverse": True}),
        ("VectorSlicer", {"indices": (2, 0)}),
        ("PolynomialExpansion", {"degree": 2}),
        ("PolynomialExpansion", {"degree": 3}),
        ("Binarizer", {"threshold": 0.4}),
        ("Binarizer", {"threshold": -1.5}),
    ],
)
def test_vectors_become_those_of_mllib(vectors, operation, params):
    """Dense and sparse vectors become MLlib's to 1e-12, the error of a few operations."""
    given = {
        name: Vectors.dense(value) if name == "scalingVec" else list(value) if isinstance(value, tuple) else value
        for name, value in params.items()
    }
    for column, name in ((DENSE, "dense"), (SPARSE, "sparse")):
        theirs = collected(getattr(feature, operation)(inputCol=name, outputCol="out", **given).transform(vectors), "out")
        made = transformed(operation, column, **params).columns
        ours = made["output0" if operation == "Binarizer" else "output"]
        assert np.allclose(listed(ours), theirs, rtol=1e-12, atol=1e-12)
        dense_out = operation == "DCT" or params.get("threshold") == -1.5
        assert isinstance(ours.values, SparseVector) == (name == "sparse" and not dense_out)


def test_numbers_are_binarized_as_in_mllib(spark):
    """Each of several columns has its threshold; a null or NaN is not above it."""
    plain = spark_frame(spark, "a double, b double", VALUES, VALUES)
    theirs = feature.Binarizer(inputCols=["a", "b"], outputCols=["c", "d"], thresholds=[0.0, 1.0]).transform(plain)
    ours = transformed("Binarizer", pa.array(VALUES), pa.array(VALUES), thresholds=(0.0, 1.0)).columns
    assert [listed(ours["output0"]), listed(ours["output1"])] == [collected(theirs, "c"), collected(theirs, "d")]
    assert ours["output0"].arity.tolist() == [2]
    with pytest.raises(DataError):
        transformed("Binarizer", pa.array(VALUES), thresholds=(0.0, 1.0))


@pytest.mark.parametrize("mode", ["keep", "skip", "error"])
def test_buckets_are_those_of_mllib(spark, mode):
    """Each of several columns has its splits, the last one closed above; NaN is kept or skipped, and null skipped or null, as in MLlib."""
    nan = 0.2 if mode == "error" else float("nan")
    first, second = [-1.0, 0.0, 0.5, None, 1.0, nan, 5.0], [1, 2, 3, 3, None, 2, 1]
    splits = ((-math.inf, 0.0, 0.5, math.inf), (1.0, 2.0, 3.0))
    plain = spark_frame(spark, "a double, b int", first, second)
    theirs = feature.Bucketizer(
        inputCols=["a", "b"], outputCols=["c", "d"], splitsArray=list(map(list, splits)), handleInvalid=mode
    ).transform(plain)
    made = transformed("Bucketizer", pa.array(first), pa.array(second, pa.int32()), splitsArray=splits, handleInvalid=mode)
    kept = np.ones(7, bool) if made.keep is None else made.keep
    assert [np.array(listed(made.columns[stem]))[kept].tolist() for stem in ("output0", "output1")] == [
        collected(theirs, name) for name in "cd"
    ]
    assert made.columns["output1"].arity.tolist() == [2]


@pytest.mark.parametrize("drop_last", [True, False])
def test_buckets_have_the_slots_of_mllib(spark, drop_last):
    """A OneHotEncoder behind a Bucketizer has a slot a bucket and one for what is invalid, or refuses this, as in MLlib."""
    values, splits = [0.5, 1.5, float("nan"), 2.0], [0.0, 1.0, 2.0, 3.0]
    plain = feature.Bucketizer(inputCol="a", outputCol="b", splits=splits, handleInvalid="keep").transform(
        spark_frame(spark, "a double", values)
    )
    bucket = transformed("Bucketizer", pa.array(values), splits=tuple(splits), handleInvalid="keep").columns["output0"]
    for mode in ("keep", "error"):
        encoder = feature.OneHotEncoder(inputCol="b", outputCol="c", dropLast=drop_last, handleInvalid=mode).fit(plain)
        ours = fitted("OneHotEncoder", bucket.values, arity=bucket.arity, dropLast=drop_last, handleInvalid=mode)
        assert ours.sizes.tolist() == encoder.categorySizes == [3]
        if mode == "keep":
            assert listed(transformed(ours, bucket).columns["output0"]) == collected(encoder.transform(plain), "c")
        else:
            with pytest.raises(DataError):
                transformed(ours, bucket)


@pytest.mark.parametrize("wrong", [-0.1, 2.1, float("nan")])
def test_values_outside_of_the_buckets_are_refused(wrong):
    """A value outside of all buckets is refused, and so is a NaN unless it is kept or skipped."""
    assert listed(transformed("Bucketizer", pa.array([0.0, 2.0]), splits=(0.0, 1.0, 2.0)).columns["output0"]) == [0.0, 1.0]
    with pytest.raises(DataError):
        transformed("Bucketizer", pa.array([wrong], pa.float64()), splits=(0.0, 1.0, 2.0))
    if wrong == wrong:
        with pytest.raises(DataError):
            transformed("Bucketizer", pa.array([wrong]), splits=(0.0, 1.0, 2.0), handleInvalid="keep")


def test_labels_come_back():
    """An index becomes the label of the Param or of its column; one beyond them, and a column without labels, are refused."""
    column = Column(pa.array([1.0, 0.0]), labels=("ä", "b"))
    assert listed(transformed("IndexToString", column).columns["output"]) == ["b", "ä"]
    assert listed(transformed("IndexToString", column, labels=("x", "y")).columns["output"]) == ["y", "x"]
    for wrong in (
        Column(pa.array([1.0])),
        Column(pa.array([2.0]), labels=("a", "b")),
        Column(pa.array([None], pa.float64()), labels=("a",)),
    ):
        with pytest.raises(DataError):
            transformed("IndexToString", wrong)


def test_interactions_are_those_of_mllib(spark):
    """Numbers, vectors and indexed categories multiply to MLlib's slots in MLlib's order."""
    categories = ["x", "y", "z", "x"]
    numbers = [2.0, -1.0, 0.5, 3.0]
    plain = spark_frame(spark, "category string, number double, a double, b double, c double", categories, numbers, *MATRIX.T.tolist())
    plain = feature.VectorAssembler(inputCols=["a", "b", "c"], outputCol="vector").transform(plain)
    indexer = feature.StringIndexer(inputCol="category", outputCol="index", stringOrderType="alphabetAsc").fit(plain)
    theirs = feature.Interaction(inputCols=["number", "vector", "index"], outputCol="out").transform(indexer.transform(plain))
    index = Column(pa.array([0.0, 1.0, 2.0, 0.0]), arity=np.array([3]))
    for vector in (DENSE, SPARSE):
        ours = transformed("Interaction", Column(pa.array(numbers)), vector, index).columns["output"]
        assert listed(ours) == collected(theirs, "out")
    with pytest.raises(DataError):
        transformed("Interaction", Column(pa.array([None, 1.0])))


def test_slices_are_vectors_as_spark_writes_them(vectors):
    """The slots of a sparse slice are in ascending order whatever that of the indices is, as MLlib's are."""
    theirs = feature.VectorSlicer(inputCol="sparse", outputCol="out", indices=[2, 0]).transform(vectors)
    rows = to_stored(transformed("VectorSlicer", SPARSE, indices=(2, 0)).columns["output"].values).to_pylist()
    assert [(row["indices"], row["values"]) for row in rows] == [
        (row["out"].indices.tolist(), row["out"].values.tolist()) for row in theirs.collect()
    ]


def test_a_size_is_checked():
    """Vectors of another size are refused, skipped or let through as handleInvalid says, those of the size stay, and nulls are none."""
    for column in (DENSE, SPARSE):
        assert listed(transformed("VectorSizeHint", column, size=3).columns["output"]) == MATRIX.tolist()
        assert not transformed("VectorSizeHint", column, size=2, handleInvalid="skip").keep.any()
        assert transformed("VectorSizeHint", column, size=2, handleInvalid="optimistic").keep is None
        with pytest.raises(DataError):
            transformed("VectorSizeHint", column, size=2)
    for kind in (pa.list_(pa.float64()), VECTOR):
        values = [1.0, 2.0] if kind != VECTOR else {"type": 1, "size": None, "indices": None, "values": [1.0, 2.0]}
        holes = pa.array([values, None], kind)
        assert transformed("VectorSizeHint", holes, size=2, handleInvalid="skip").keep.tolist() == [True, False]
        assert transformed("VectorSizeHint", holes, size=2, handleInvalid="optimistic").keep is None
        with pytest.raises(DataError) as caught:
            transformed("VectorSizeHint", holes, size=2)
        assert caught.value.error_code == "data.null"


RAGGED = [Vectors.dense(3.0, -4.0, 1.0), Vectors.sparse(4, [1, 3], [4.0, 3.0]), Vectors.dense(2.0), Vectors.dense(0.0, 1.0, 5.0)]


def stored(vectors):
    """Return vectors as Spark stores them in one column."""
    rows = []
    for vector in vectors:
        is_sparse = hasattr(vector, "indices")
        size, indices = (vector.size, vector.indices.tolist()) if is_sparse else (None, None)
        rows.append({"type": 0 if is_sparse else 1, "size": size, "indices": indices, "values": vector.values.tolist()})
    return pa.array(rows, VECTOR)


@pytest.mark.parametrize(("operation", "params"), [("Normalizer", {"p": 1.5}), ("DCT", {}), ("PolynomialExpansion", {"degree": 2})])
def test_vectors_of_a_column_may_differ_in_length(spark, operation, params):
    """Each vector of a column becomes MLlib's, whatever the lengths of the others; where one length is needed they are refused."""
    plain = spark.createDataFrame([(vector,) for vector in RAGGED], ["v"]).coalesce(1)
    theirs = [row.o for row in getattr(feature, operation)(inputCol="v", outputCol="o", **params).transform(plain).select("o").collect()]
    ours = transformed(operation, stored(RAGGED), **params).columns["output"].values
    for row, vector in enumerate(theirs):
        assert np.allclose(stored_vector(ours[row : row + 1], "o").matrix()[0], vector.toArray(), rtol=1e-12, atol=1e-12)
    lists = pa.array([vector.toArray().tolist() for vector in RAGGED])
    assert listed(transformed(operation, lists, **params).columns["output"])[2]["values"] == pytest.approx(theirs[2].toArray().tolist())
    with pytest.raises(DataError, match="length"):
        stored_vector(ours, "o")
    with pytest.raises(DataError, match="null"):
        transformed(operation, pa.array([[1.0], None]), **params)


def test_a_size_chooses_among_lengths():
    """Of vectors of many lengths those of the size are kept, all are refused or all pass; where none stays the column has the size."""
    column = stored(RAGGED)
    kept = transformed("VectorSizeHint", column, size=3, handleInvalid="skip")
    assert kept.keep.tolist() == [True, False, False, True]
    assert stored_vector(kept.columns["output"].values.filter(pa.array(kept.keep)), "v").matrix().tolist() == [
        [3.0, -4.0, 1.0],
        [0.0, 1.0, 5.0],
    ]
    none = transformed("VectorSizeHint", column, size=7, handleInvalid="skip")
    assert (none.columns["output"].values.width, none.keep.any()) == (7, False)
    assert transformed("VectorSizeHint", column, size=3, handleInvalid="optimistic").columns["output"].values is column
    with pytest.raises(DataError, match="2 rows"):
        transformed("VectorSizeHint", column, size=3)
    with pytest.raises(DataError, match="null"):
        transformed("VectorSizeHint", pa.array([[1.0], None]), size=1)


@pytest.mark.parametrize("operation", ["VectorSlicer", "ElementwiseProduct"])
def test_vectors_of_another_size_are_refused(operation):
    """A slot beyond a vector, or a scaling vector of another size, is refused; without rows there is nothing to refuse."""
    params = {"indices": (0, 7)} if operation == "VectorSlicer" else {"scalingVec": (1.0, 2.0)}
    with pytest.raises(DataError):
        transformed(operation, DENSE, **params)
    empty = transformed(operation, pa.array([], pa.list_(pa.float64())), **params).columns["output"]
    assert (empty.rows, empty.values.width) == (0, 2)


def test_a_slice_keeps_its_categories():
    """Slots that are categories stay so in a slice."""
    column = Column(DENSE.values, arity=np.array([0, 3, 2]))
    assert transformed("VectorSlicer", column, indices=(2, 0)).columns["output"].arity.tolist() == [2, 0]


def test_an_expansion_has_a_bound():
    """An expansion that would fill the enclave is refused before it is made."""
    with pytest.raises(DataError):
        transformed("PolynomialExpansion", Column(SparseVector(sparse.csr_array((1, 1 << 12)))), degree=3)


@pytest.mark.parametrize(
    ("operation", "right", "wrong"),
    [
        ("Normalizer", {"p": 1}, {"p": 0.5}),
        ("Bucketizer", {"splits": (0.0, 1.0, 2.0)}, {"splits": (0.0, 1.0)}),
        ("Bucketizer", {"splits": (0.0, 1.0, 2.0)}, {"splits": (0.0, 1.0, 1.0)}),
        ("Bucketizer", {"splits": (0.0, 1.0, 2.0)}, {"splits": (0.0, 1.0, math.nan)}),
        ("Bucketizer", {"splits": (0.0, 1.0, 2.0)}, {"splits": (0.0, 1.0, 2.0), "splitsArray": ((0.0, 1.0, 2.0),)}),
        ("VectorSlicer", {"indices": (0,)}, {"indices": (0, 0)}),
        ("VectorSlicer", {"indices": (0,)}, {}),
        ("PolynomialExpansion", {"degree": 1}, {"degree": 0}),
        ("VectorSizeHint", {"size": 1}, {"size": -1}),
        ("VectorSizeHint", {"size": 1}, {"size": 1, "handleInvalid": "keep"}),
        ("DCT", {}, {"inverse": 1}),
        ("Binarizer", {}, {"threshold": math.nan}),
    ],
)
def test_params_out_of_their_domain_are_refused(operation, right, wrong):
    """A value outside of a Param's domain is refused beside one inside."""
    build_transformer(operation, right)
    with pytest.raises(UsageError):
        build_transformer(operation, wrong)
