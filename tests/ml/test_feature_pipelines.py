"""Do pipelines of features over texts train, through Spark and enclaves, the models that pyspark.ml trains?"""

import numpy as np
import pyarrow as pa
import pytest
from pyspark.ml import Pipeline as PlainPipeline
from pyspark.ml import classification, feature
from pyspark.ml import stat as plain_stat
from pyspark.ml.linalg import SparseVector, Vectors, VectorUDT
from pyspark.sql.types import DoubleType, IntegerType, StructField, StructType

from securemllib.algorithms.vectors import VECTOR
from securemllib.errors import DataError, PolicyError, SealedError, UsageError
from securemllib.ml import Pipeline, PipelineModel, stat
from securemllib.ml import classification as our_classification
from securemllib.ml import feature as ours
from securemllib.ml.classification import DecisionTreeClassifier, LogisticRegression, NaiveBayes
from securemllib.ml.widths import width_of
from securemllib.spark import SecureDataFrame, SecureSession
from securemllib.spark.functions import col
from securemllib.wire.job import OutputKind

TOWNS = ["Köln", "Paris", "東京", "Oslo"]


def visits(rows=300, seed=4):
    """Return a table of a town, a doctor's number, an age with gaps, a note and whether somebody came back."""
    generator = np.random.default_rng(seed)
    town, age = generator.integers(0, 4, rows), generator.normal(50, 12, rows)
    words = np.array(["pain", "fever", "cough", "rest", "Husten"])
    back = (generator.random(rows) < 1 / (1 + np.exp(-(0.8 * town - 2 + 0.02 * (age - 50))))).astype(np.float64)
    return pa.table(
        {
            "town": [TOWNS[index] for index in town],
            "doctor": pa.array(generator.integers(1, 4, rows), pa.int32()),
            "age": pa.array(age, mask=generator.random(rows) < 0.1),
            "note": [" ".join(words[generator.integers(0, 5, 4)]) for _ in range(rows)],
            "back": back,
        }
    )


@pytest.fixture(scope="module")
def visited():
    """The rows."""
    return visits()


@pytest.fixture(scope="module")
def sealed(deployment, session, visited):
    """The rows, encrypted in four parts."""
    return session.read(deployment.dataset(visited, "visits", rows_per_part=80))


@pytest.fixture(scope="module")
def clear(spark, visited):
    """The rows in the clear."""
    return spark.createDataFrame(visited.to_pandas()).coalesce(1).cache()


NAN = float("nan")
GAPS = [
    (0, 1.0, 2.0, Vectors.dense(1.0, 2.0)),
    (1, -1.0, None, None),
    (2, 4.0, NAN, Vectors.sparse(2, [1], [4.0])),
    (3, 1.0, 5.0, Vectors.sparse(2, [0, 1], [3.0, 5.0])),
]


@pytest.fixture(scope="module")
def gaps(deployment, session, spark):
    """Four rows with gaps, by package: sealed for ours, in the clear for pyspark.ml's."""
    fields = zip(("id", "a", "b", "vector"), (IntegerType(), DoubleType(), DoubleType(), VectorUDT()), strict=True)
    names, (ids, first, second, vectors) = ("id", "a", "b", "vector"), zip(*GAPS, strict=True)
    arrays = pa.array(ids, pa.int32()), pa.array(first), pa.array(second), pa.array([stored(vector) for vector in vectors], VECTOR)
    sealed = session.read(deployment.dataset(pa.table(dict(zip(names, arrays, strict=True))), "gaps"))
    return {ours: sealed, feature: spark.createDataFrame(GAPS, StructType([StructField(*field) for field in fields])).coalesce(1)}


def stored(vector):
    """Return a vector as Arrow holds it."""
    if vector is None:
        return None
    if isinstance(vector, SparseVector):
        return {"type": 0, "size": vector.size, "indices": vector.indices.tolist(), "values": vector.values.tolist()}
    return {"type": 1, "size": None, "indices": None, "values": vector.toArray().tolist()}


def by_id(frame, name):
    """Return a column of a sealed frame or one in the clear by the rows' ids, as texts to nine digits: NaN equals itself there."""
    if isinstance(frame, SecureDataFrame):
        table = frame.release(columns=["id", name]).open()
        pairs = list(zip(table["id"].to_pylist(), table[name].to_pylist(), strict=True))
    else:
        pairs = [(row["id"], row[name]) for row in frame.collect()]
    return {number: str(numbers_in(value)) for number, value in sorted(pairs)}


def numbers_in(value):
    """Return a number or vector of Spark or of Arrow as rounded numbers."""
    if isinstance(value, dict):
        value = Vectors.sparse(value["size"], value["indices"], value["values"]) if value["type"] == 0 else value["values"]
    if hasattr(value, "toArray"):
        value = value.toArray().tolist()
    return [round(number, 9) for number in value] if isinstance(value, list) else value if value is None else round(value, 9)


def stages(package, regression):
    """Return the stages of one pipeline, from this package or from pyspark.ml."""
    return [
        package.StringIndexer(inputCols=["town", "doctor"], outputCols=["townIndex", "doctorIndex"], handleInvalid="keep"),
        package.OneHotEncoder(inputCols=["townIndex", "doctorIndex"], outputCols=["townSlots", "doctorSlots"]),
        package.VectorAssembler(inputCols=["townSlots", "doctorSlots"], outputCol="features"),
        regression(labelCol="back", regParam=0.01, maxIter=50, tol=1e-9),
    ]


def test_categories_train_the_regression_of_mllib(sealed, clear, tmp_path):
    """StringIndexer, OneHotEncoder, VectorAssembler and LogisticRegression give MLlib's coefficients, saved and loaded too."""
    model = Pipeline(stages=stages(ours, LogisticRegression)).fit(sealed)
    plain = PlainPipeline(stages=stages(feature, classification.LogisticRegression)).fit(clear)
    model.save(str(tmp_path / "model"))
    indexer, encoder, _, regression = PipelineModel.load(str(tmp_path / "model")).stages
    assert [list(labels) for labels in indexer.release().labelsArray] == [list(labels) for labels in plain.stages[0].labelsArray]
    assert list(encoder.release().categorySizes) == list(plain.stages[1].categorySizes)
    assert np.allclose(regression.release().coefficients, plain.stages[3].coefficients, rtol=0, atol=1e-5)
    rows = model.transform(sealed)
    assert rows.schema["townSlots"].dataType == plain.transform(clear).schema["townSlots"].dataType
    with pytest.raises(SealedError):
        indexer.labels  # noqa: B018


def test_a_missing_label_is_passed_over(sealed):
    """A model of two columns transforms rows that lack one of them, as in pyspark.ml."""
    model = ours.StringIndexer(inputCols=["town", "doctor"], outputCols=["a", "b"]).fit(sealed)
    assert model.transform(sealed.drop("doctor")).columns == ["town", "age", "note", "back", "a"]
    assert model.transform(sealed.select("age", "back")).columns == ["age", "back"]


def numeric(package):
    """Return stages over numbers with gaps, from this package or from pyspark.ml."""
    return [
        package.Imputer(inputCols=["age"], outputCols=["filled"], strategy="median"),
        package.QuantileDiscretizer(inputCol="filled", outputCol="bucket", numBuckets=4),
        package.VectorAssembler(inputCols=["filled", "bucket", "doctor"], outputCol="raw"),
        package.VectorIndexer(inputCol="raw", outputCol="indexed", maxCategories=4),
        package.MinMaxScaler(inputCol="indexed", outputCol="scaled"),
        package.Normalizer(inputCol="scaled", outputCol="normal"),
    ]


def test_numbers_go_through_the_stages_of_mllib(sealed, clear):
    """Imputer, QuantileDiscretizer, VectorIndexer, MinMaxScaler and Normalizer release MLlib's attributes and rows."""
    model, plain = Pipeline(stages=numeric(ours)).fit(sealed), PlainPipeline(stages=numeric(feature)).fit(clear)
    imputer, discretizer, _, indexer, scaler, _ = model.stages
    assert imputer.release().surrogateDF["age"][0] == plain.stages[0].surrogateDF.collect()[0]["age"]
    assert discretizer.release().getSplits() == list(plain.stages[1].getSplits())
    assert indexer.release().categoryMaps == {slot: dict(found) for slot, found in plain.stages[3].categoryMaps.items()}
    assert np.allclose(scaler.release().originalMax, plain.stages[4].originalMax, rtol=1e-12)
    released = model.transform(sealed).release(columns=["age", "normal"]).open()
    made = np.array(released.column("normal").to_pylist())
    expected = np.array([row["normal"].toArray() for row in plain.transform(clear).collect()])
    assert np.allclose(np.sort(made, axis=0), np.sort(expected, axis=0), rtol=0, atol=1e-12)


def wordy(package):
    """Return stages over texts, from this package or from pyspark.ml."""
    return [
        package.Tokenizer(inputCol="note", outputCol="words"),
        package.StopWordsRemover(inputCol="words", outputCol="kept", stopWords=["rest"]),
        package.HashingTF(inputCol="kept", outputCol="hashed"),
        package.IDF(inputCol="hashed", outputCol="features"),
    ]


def test_texts_train_the_classifier_of_mllib(sealed, clear):
    """Tokenizer, StopWordsRemover, HashingTF with 2**18 slots, IDF and NaiveBayes give MLlib's model; texts stay sparse on the way."""
    model = Pipeline(stages=[*wordy(ours), NaiveBayes(labelCol="back")]).fit(sealed)
    plain = PlainPipeline(stages=[*wordy(feature), classification.NaiveBayes(labelCol="back")]).fit(clear)
    weights, bayes = model.stages[3].release(), model.stages[4].release()
    assert (weights.numDocs, weights.docFreq) == (plain.stages[3].numDocs, list(plain.stages[3].docFreq))
    assert np.allclose(bayes.theta.toArray(), plain.stages[4].theta.toArray(), rtol=1e-9)
    released = model.transform(sealed).release(columns=["features"]).open().column("features").to_pylist()
    assert {row["size"] for row in released} == {1 << 18}
    assert max(len(row["values"]) for row in released) <= 4


def scaled_words(package):
    """Return stages over hashed texts whose outputs have few values in 2**18 slots, from this package or from pyspark.ml."""
    return [
        package.Tokenizer(inputCol="note", outputCol="words"),
        package.HashingTF(inputCol="words", outputCol="hashed"),
        package.StandardScaler(inputCol="hashed", outputCol="scaled"),
        package.MaxAbsScaler(inputCol="scaled", outputCol="bounded"),
        package.IDF(inputCol="bounded", outputCol="weighed"),
        package.Normalizer(inputCol="weighed", outputCol="normal"),
        package.VectorSlicer(inputCol="normal", outputCol="sliced", indices=list(range(1 << 17))),
    ]


def test_wide_vectors_stay_sparse_on_the_way(deployment, spark, settings, visited, clear, monkeypatch):
    """Scalers of 2**18 slots learn and give MLlib's sparse vectors within a memory in which no part has room for their zeros."""
    # The session that the other tests share is the active one again afterwards.
    monkeypatch.setattr(SecureSession, "_sessions", [])
    session = SecureSession(spark, deployment.url, {**settings, "spark.securemllib.enclave.memory": str(16 << 20)})
    try:
        rows = session.read(deployment.dataset(visited, "wide words", rows_per_part=80))
        model = Pipeline(stages=scaled_words(ours)).fit(rows)
        found = model.transform(rows).release(columns=["note", "scaled", "sliced"]).toPandas()
    finally:
        session.stop()
    plain = PlainPipeline(stages=scaled_words(feature)).fit(clear).transform(clear).select("note", "scaled", "sliced").toPandas()
    for name in ("scaled", "sliced"):
        theirs = dict(zip(plain["note"], plain[name], strict=True))
        for note, vector in zip(found["note"], found[name], strict=True):
            assert vector["size"] == theirs[note].size
            assert vector["indices"].tolist() == theirs[note].indices.tolist()
            assert np.allclose(vector["values"], theirs[note].values, rtol=1e-9)


def test_trees_split_the_categories_of_mllib(sealed, clear):
    """A tree behind a StringIndexer and an assembler splits sets of categories as MLlib's does, and predicts the same."""

    def stages_of(package, tree):
        return [
            package.StringIndexer(inputCols=["town", "doctor"], outputCols=["t", "d"]),
            package.VectorAssembler(inputCols=["t", "d"], outputCol="features"),
            tree(labelCol="back", maxDepth=3),
        ]

    model = Pipeline(stages=stages_of(ours, DecisionTreeClassifier)).fit(sealed)
    plain = PlainPipeline(stages=stages_of(feature, classification.DecisionTreeClassifier)).fit(clear)
    released, original = model.stages[2].release(), plain.stages[2]
    assert " in {" in original.toDebugString
    assert " in {" in released.toDebugString
    for town in range(4):
        for doctor in range(3):
            row = Vectors.dense(town, doctor)
            assert released.predict(row) == original.predict(row)


@pytest.mark.parametrize(
    ("name", "params"), [("LogisticRegression", {"maxIter": 2}), ("DecisionTreeClassifier", {"maxDepth": 1}), ("NaiveBayes", {})]
)
def test_a_labels_categories_are_classes(name, params, sealed, clear):
    """A label that a StringIndexer made has the classes that this knows, and the one that it keeps for others, as in MLlib."""
    found = []
    for package, module, rows in ((ours, our_classification, sealed), (feature, classification, clear)):
        indexer = package.StringIndexer(inputCol="town", outputCol="label", handleInvalid="keep")
        assembler = package.VectorAssembler(inputCols=["doctor", "back"], outputCol="features")
        model = (Pipeline if package is ours else PlainPipeline)(stages=[indexer, assembler, getattr(module, name)(**params)]).fit(rows)
        found.append((model.stages[2].release() if package is ours else model.stages[2]).numClasses)
    assert found[0] == found[1] == (4 if name == "NaiveBayes" else 5)


@pytest.mark.parametrize("mode", [None, "keep"])
def test_a_saved_discretizer_works_as_it_was_fitted(mode, gaps, tmp_path):
    """A loaded model of a QuantileDiscretizer, also one whose handleInvalid is the default, gives MLlib's buckets and releases them."""
    params = {"inputCol": "a", "outputCol": "bucket"} | ({} if mode is None else {"handleInvalid": mode})
    model, plain = (package.QuantileDiscretizer(**params).fit(gaps[package]) for package in (ours, feature))
    model.save(str(tmp_path / "model"))
    loaded = type(model).load(str(tmp_path / "model"))
    assert by_id(loaded.transform(gaps[ours]), "bucket") == by_id(plain.transform(gaps[feature]), "bucket")
    assert loaded.release().getSplits() == plain.getSplits()
    assert loaded.release().getHandleInvalid() == plain.getHandleInvalid()


@pytest.mark.parametrize(
    ("operation", "column", "params"),
    [
        ("StandardScaler", "v", {"withMean": True, "withStd": False}),
        ("StandardScaler", "v", {"withMean": True}),
        ("Imputer", "a", {"missingValue": -1.0}),
        ("VectorIndexer", "v", {"handleInvalid": "skip"}),
        ("VectorIndexer", "v", {"handleInvalid": "keep"}),
    ],
)
def test_params_of_a_transform_are_those_of_mllib(operation, column, params, gaps):
    """A transform with a ParamMap, which changes what the model does, gives MLlib's rows, those of a value that no row had included."""
    found = []
    for package, rows in gaps.items():
        rows = package.VectorAssembler(inputCols=["a"], outputCol="v").transform(rows)
        seen = rows.filter(col("id") != 2) if package is ours else rows.where("id != 2")
        model = getattr(package, operation)(inputCol=column, outputCol="out").fit(seen)
        found.append(by_id(model.transform(rows, {model.getParam(name): value for name, value in params.items()}), "out"))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("operation", "params"),
    [("StandardScaler", {"withMean": "yes"}), ("VectorIndexer", {"handleInvalid": "drop"}), ("Imputer", {"missingValue": None})],
)
def test_wrong_params_of_a_transform_are_refused(operation, params, gaps):
    """A value outside of a Param's domain is refused where the model is applied."""
    rows = ours.VectorAssembler(inputCols=["a"], outputCol="v").transform(gaps[ours])
    model = getattr(ours, operation)(inputCol="a" if operation == "Imputer" else "v", outputCol="out").fit(rows)
    for name, value in params.items():
        model._paramMap[model.getParam(name)] = value
    with pytest.raises(UsageError):
        model.transform(rows).release(columns=["out"]).open()


def test_rows_that_a_model_drops_are_not_counted(gaps):
    """Where a model may drop rows, how many are left is sealed; where it keeps them all, count tells."""
    rows = ours.VectorAssembler(inputCols=["a"], outputCol="v").transform(gaps[ours])
    model = ours.VectorIndexer(inputCol="v", outputCol="out").fit(rows)
    assert model.transform(rows).count() == len(GAPS)
    with pytest.raises(SealedError):
        model.transform(rows, {model.handleInvalid: "skip"}).count()


def test_gaps_are_filled_in_their_columns(gaps):
    """An Imputer whose outputs are its inputs replaces the columns, alone and in a pipeline, as MLlib's does."""
    found = []
    for package, rows in gaps.items():
        chain = [
            package.Imputer(inputCols=["a", "b"], outputCols=["a", "b"], missingValue=NAN),
            package.VectorAssembler(inputCols=["a", "b"], outputCol="v"),
            package.MaxAbsScaler(inputCol="v", outputCol="out"),
        ]
        made = (Pipeline if package is ours else PlainPipeline)(stages=chain).fit(rows).transform(rows)
        found.append([made.columns, *(by_id(made, name) for name in ("a", "b", "out"))])
    assert found[0] == found[1]


@pytest.mark.parametrize("mode", ["skip", "error"])
def test_rows_without_a_vector_are_skipped_or_refused(mode, gaps):
    """A VectorAssembler and a VectorSizeHint drop the rows of a null vector as MLlib's do, or refuse them."""
    found = {}
    for package, rows in gaps.items():
        assembler = package.VectorAssembler(inputCols=["a", "vector"], outputCol="out", handleInvalid=mode)
        hint = package.VectorSizeHint(inputCol="vector", size=2, handleInvalid=mode)
        for name, stage in (("out", assembler), ("vector", hint)):
            if mode == "skip":
                found[package, name] = by_id(stage.transform(rows), name)
            elif package is ours:
                with pytest.raises(DataError) as caught:
                    by_id(stage.transform(rows), name)
                assert caught.value.error_code == "data.null"
    assert all(found[ours, name] == found[feature, name] for name in ("out", "vector") if mode == "skip")


def choosing(package):
    """Return stages that choose slots, from this package or from pyspark.ml."""
    univariate = package.UnivariateFeatureSelector(outputCol="univariate", labelCol="back")
    return [
        package.StringIndexer(inputCols=["town", "note"], outputCols=["t", "n"]),
        package.VectorAssembler(inputCols=["t", "n", "doctor"], outputCol="features"),
        package.VarianceThresholdSelector(outputCol="varying", varianceThreshold=1.0),
        package.ChiSqSelector(outputCol="dependent", labelCol="back", numTopFeatures=2),
        univariate.setFeatureType("continuous").setLabelType("categorical").setSelectionThreshold(2),
    ]


def test_selectors_keep_the_slots_of_mllib(sealed, clear, tmp_path):
    """Selectors within a pipeline, saved and loaded, keep the slots that MLlib's keep and tell which where they are released."""
    model, plain = Pipeline(stages=choosing(ours)).fit(sealed), PlainPipeline(stages=choosing(feature)).fit(clear)
    with pytest.raises(SealedError):
        model.stages[2].selectedFeatures  # noqa: B018
    model.save(str(tmp_path / "model"))
    model, names = PipelineModel.load(str(tmp_path / "model")), ["varying", "dependent", "univariate"]
    chosen = [stage.release().selectedFeatures for stage in model.stages[2:]]
    assert chosen == [list(stage.selectedFeatures) for stage in plain.stages[2:]]
    assert [len(slots) for slots in chosen] == [2, 2, 2]
    released, rows = model.transform(sealed).release(columns=names).open(), plain.transform(clear).select(*names).collect()
    for name in names:
        assert sorted(released.column(name).to_pylist()) == sorted(row[name].toArray().tolist() for row in rows)


def hashing(package):
    """Return stages that hash, from this package or from pyspark.ml."""
    return [
        package.VectorAssembler(inputCols=["doctor", "back"], outputCol="v"),
        package.BucketedRandomProjectionLSH(inputCol="v", outputCol="near", numHashTables=2, seed=7, bucketLength=2.0),
        package.MinHashLSH(inputCol="v", outputCol="common", numHashTables=2, seed=7),
    ]


def test_hashes_are_those_of_mllib(sealed, clear, tmp_path):
    """Sealed hashing, saved and loaded, gives the hashes of MLlib's of the same seed, as its type of column; joins are refused."""
    Pipeline(stages=hashing(ours)).fit(sealed).save(str(tmp_path / "model"))
    model, names = PipelineModel.load(str(tmp_path / "model")), ["near", "common"]
    made, plain = model.transform(sealed), PlainPipeline(stages=hashing(feature)).fit(clear).transform(clear)
    released, rows = made.release(columns=names).open(), plain.select(*names).collect()
    for name in names:
        assert made.schema[name].dataType == plain.schema[name].dataType
        values = [[vector["values"] for vector in row] for row in released.column(name).to_pylist()]
        assert sorted(values) == sorted([vector.toArray().tolist() for vector in row[name]] for row in rows)
    for stage in model.stages[1:]:
        with pytest.raises(UsageError, match="approxSimilarityJoin"):
            stage.approxSimilarityJoin(made, made, 3.0)


def test_nearest_neighbors_are_those_of_mllib(sealed, clear):
    """A search keeps as many rows as MLlib's, at the same distances, sealed until a release; a plan goes on with them."""
    model, plain = Pipeline(stages=hashing(ours)).fit(sealed), PlainPipeline(stages=hashing(feature)).fit(clear)
    key = Vectors.dense(1.0, 3.0)
    assembled, wanted = model.stages[0].transform(sealed), plain.stages[0].transform(clear)
    for place, rows, plain_rows in ((1, assembled, wanted), (2, model.transform(sealed), plain.transform(clear))):
        near, theirs = (
            stages[place].approxNearestNeighbors(frame, key, 7) for stages, frame in ((model.stages, rows), (plain.stages, plain_rows))
        )
        assert near.dtypes == theirs.dtypes
        with pytest.raises(SealedError):
            near.collect()
        found = near.filter(col("doctor") >= 0.0).release(columns=["distCol", "doctor"]).open()
        assert sorted(found.column("distCol").to_pylist()) == [row.distCol for row in theirs.collect()]
    for count, said in ((0, "^.usage.param. numNearestNeighbors must be in"), (2.5, "numNearestNeighbors must be an integer")):
        with pytest.raises(UsageError, match=said):
            model.stages[1].approxNearestNeighbors(assembled, key, count)
    with pytest.raises(UsageError, match="is a vector"):
        model.stages[1].approxNearestNeighbors(assembled, [1.0, 3.0], 2)


def test_targets_are_encoded_as_in_mllib(sealed, clear, tmp_path):
    """A TargetEncoder of two columns, one of which it replaces, gives MLlib's numbers, saved and loaded and with another smoothing too."""
    found = []
    for package, rows in ((ours, sealed), (feature, clear)):
        rows = package.StringIndexer(inputCol="town", outputCol="t").fit(rows).transform(rows)
        encoder = package.TargetEncoder(inputCols=["t", "doctor"], outputCols=["out", "doctor"], labelCol="back", smoothing=3.0)
        model = encoder.fit(rows)
        if package is ours:
            model.save(str(tmp_path / "model"))
            model = ours.TargetEncoderModel.load(str(tmp_path / "model"))
            assert {key: count for key, (count, _) in model.release().stats[1].items()} == {
                float(key): count for key, count in clear.groupBy("doctor").count().collect()
            }
        made = model.transform(rows, {model.smoothing: 10.0})
        frame = made.release(columns=["out", "doctor"]).open().to_pandas() if package is ours else made.select("out", "doctor").toPandas()
        found.append(np.sort(frame.to_numpy(), axis=0))
    assert np.allclose(found[0], found[1], rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "wrong",
    [{}, {"inputCols": ["doctor", "back"], "outputCol": "a"}, {"inputCol": "doctor", "inputCols": ["back"]}, {"inputCol": "town"}],
)
def test_wrong_columns_of_targets_are_refused(sealed, wrong):
    """No, too many and other columns than numbers are refused before a job is sent; without output columns they are named as in MLlib."""
    assert ours.TargetEncoderModel.outputs_of(ours.TargetEncoder(inputCol="doctor")) == {"output0": "doctor_indexed"}
    with pytest.raises(UsageError):
        ours.TargetEncoder(labelCol="back", **wrong).fit(sealed)


def test_labels_come_back_through_the_plan(sealed):
    """IndexToString without labels gives the texts that a StringIndexer before it read."""
    indexed = ours.StringIndexer(inputCol="town", outputCol="index").fit(sealed).transform(sealed)
    back = ours.IndexToString(inputCol="index", outputCol="again").transform(indexed).release(columns=["town", "again"]).open()
    assert back.column("town").to_pylist() == back.column("again").to_pylist()


def test_widths_are_told_by_the_plan(sealed):
    """A plan of transformers tells how wide each vector is without asking an enclave, and what it does not tell stays unknown."""
    rows = sealed
    for stage in (
        ours.Tokenizer(inputCol="note", outputCol="words"),
        ours.HashingTF(inputCol="words", outputCol="hashed", numFeatures=64),
        ours.Normalizer(inputCol="hashed", outputCol="normal"),
        ours.Binarizer(inputCols=["back", "normal"], outputCols=["flag", "flags"]),
        ours.PolynomialExpansion(inputCol="normal", outputCol="wide"),
    ):
        rows = stage.transform(rows)
    rows = rows.withColumn("copy", col("flags")).withColumn("again", col("wide")).withColumn("more", col("back") + 1)
    names = ("hashed", "normal", "flag", "flags", "wide", "words", "copy", "again", "more")
    assert [width_of(rows, name) for name in names] == [64, 64, 1, 64, None, None, 64, None, 1]


def test_statistics_leave_where_the_policy_says(deployment, session, visited, clear):
    """Correlations, tests of independence and summaries are MLlib's where the policy has summaries, and are refused elsewhere."""
    rows = session.read(deployment.dataset(visited, "statistics", rows_per_part=80)).filter(col("age").isNotNull())
    rows = ours.VectorAssembler(inputCols=["age", "doctor"], outputCol="x").transform(rows)
    plain = feature.VectorAssembler(inputCols=["age", "doctor"], outputCol="x").transform(clear.dropna())
    found, expected = stat.Correlation.corr(rows, "x")[0], plain_stat.Correlation.corr(plain, "x").collect()[0][0]
    assert np.allclose(found.toArray(), expected.toArray(), rtol=0, atol=1e-9)
    tested = stat.ChiSquareTest.test(rows, "x", "back", flatten=True)[1]
    original = plain_stat.ChiSquareTest.test(plain, "x", "back", True).collect()[1]
    assert (tested.pValue, tested.degreesOfFreedom) == (pytest.approx(original.pValue), original.degreesOfFreedom)
    summary = stat.Summarizer.metrics("count", "mean").summary(rows, "x", "back")
    assert summary["count"] == plain.filter("back > 0").count()
    with pytest.raises(UsageError):
        stat.Summarizer.metrics("median")
    deployment.allow(rows.source.manifest.dataset_id, outputs=(OutputKind.SEALED_MODEL,))
    with pytest.raises(PolicyError):
        stat.Correlation.corr(rows, "x")


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"inputCol": "town", "inputCols": ["town"], "outputCols": ["a"]},
        {"inputCols": ["town", "doctor"], "outputCols": ["a"]},
        {"inputCols": ["town"]},
        {"inputCol": "nothing", "outputCol": "a"},
        {"inputCol": "town", "outputCol": "age"},
        {"inputCol": "town", "outputCol": "a", "stringOrderType": "random"},
    ],
)
def test_wrong_columns_are_refused(sealed, wrong):
    """Neither or both forms of input columns, unequal numbers, unknown and existing columns are refused before a job is sent."""
    with pytest.raises(UsageError):
        ours.StringIndexer(**wrong).fit(sealed)
