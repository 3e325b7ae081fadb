"""Does a sealed data frame plan what Spark users write, and refuse all that would show a row?"""

import inspect

import pytest
from pyspark.sql import DataFrame
from pyspark.sql import functions as plain
from pyspark.sql.types import BooleanType, DoubleType, LongType

from securemllib.errors import CoverError, SealedError, UsageError
from securemllib.spark import SecureDataFrame, SecureSession, functions
from securemllib.spark.functions import abs as absolute
from securemllib.spark.functions import col, exp, isnull, lit, log, log1p, sqrt
from securemllib.wire.plan import Call, Filter, Literal, Operator, Project, RandomSplit, Reference, WithColumn

# What works on sealed rows, because it shows none of them.
PLANNED = {
    "cache", "columns", "count", "drop", "dtypes", "filter", "persist", "printSchema", "randomSplit", "schema", "select",
    "unpersist", "where", "withColumn", "withColumnRenamed", "withMetadata", "writeStream",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(name for name in dir(DataFrame) if not name.startswith("_") and name not in PLANNED))
def test_every_other_method_of_a_data_frame_is_refused(name, frame):
    """A method or property of a plain data frame that could show rows is refused with the way to get rows out."""
    with pytest.raises(SealedError) as caught:
        getattr(frame, name)()
    assert "release(" in caught.value.next_step


def test_nothing_else_is_public(frame):
    """The public names of a sealed data frame are the planned ones, those that refuse, and its own few."""
    own = {"apply", "folds", "has_schema", "known_rows", "models", "of_parts", "part_count", "pieces", "plan", "reads", "release"}
    own |= {"schema_with", "session", "source", "steps", "with_model"}
    refused = {name for name, value in inspect.getmembers(SecureDataFrame, inspect.isfunction) if "Refuse" in (value.__doc__ or "")}
    assert {name for name in dir(frame) if not name.startswith("_")} == PLANNED | own | refused


def test_schema_and_count_are_those_of_the_manifest(frame, table):
    """The schema has the dataset's columns with Spark's types, and count its rows."""
    assert frame.columns == table.column_names
    assert (frame.schema["age"].dataType, frame.schema["dose"].dataType) == (LongType(), DoubleType())
    assert frame.count() == len(frame) == table.num_rows


def test_a_filtered_count_is_sealed(frame):
    """How many rows a filter or a split keeps is not told; how many rows a projection has is."""
    assert frame.select("age").withColumn("old", col("age") > 60).count() == frame.count()
    with pytest.raises(SealedError):
        frame.filter(col("age") > 60).count()
    with pytest.raises(SealedError):
        frame.randomSplit([0.5, 0.5], seed=1)[0].count()


def test_iterating_is_refused(frame):
    """Neither the frame nor a column of it can be iterated over."""
    with pytest.raises(SealedError):
        list(frame)
    with pytest.raises(SealedError):
        list(frame["age"])


def test_steps_become_a_plan(frame):
    """Each transformation appends its step, and leaves the frame it was called on as it was."""
    planned = frame.filter(frame.age > 30).withColumn("ratio", col("dose") / col("age")).select("ratio", "ill").drop("ill")
    filtered, added, selected, dropped = planned.steps
    assert filtered == Filter(predicate=Call(operator=Operator.GREATER, arguments=(Reference(column="age"), Literal(value=30))))
    assert isinstance(added, WithColumn)
    assert added.column.name == "ratio"
    assert isinstance(selected, Project)
    assert [named.name for named in selected.columns] == ["ratio", "ill"]
    assert isinstance(dropped, Project)
    assert (planned.columns, frame.steps) == (["ratio"], ())
    assert planned.plan.source == frame.source.manifest.reference


def test_columns_are_found_in_any_case(frame, spark, table):
    """Names are found, replaced, renamed and dropped in any case as plain Spark does it, but for where Spark is case sensitive."""

    def planned(rows, f):
        rows = rows.withColumn("AGE", f.col("Age") + f.col("DOSE")).withColumnRenamed("ILL", "sick").drop("Name").filter(f.col("aGe") > 0)
        return rows.select("Age", rows["SICK"], "dose")

    ours = planned(frame, functions)
    assert ours.dtypes == planned(spark.createDataFrame(table), plain).dtypes
    assert frame.drop(col("AGE")).columns == frame.drop("age").columns == [name for name in frame.columns if name != "age"]
    twice = frame.select("age", col("dose").alias("AGE"))
    assert twice.filter(col("AGE") > 1).columns == ["age", "AGE"]
    with pytest.raises(UsageError, match="ambiguous"):
        twice.filter(col("Age") > 1)
    spark.conf.set("spark.sql.caseSensitive", "true")
    try:
        assert frame.withColumn("AGE", col("age")).columns == [*frame.columns, "AGE"]
        with pytest.raises(UsageError):
            frame.filter(col("AGE") > 1)
    finally:
        spark.conf.unset("spark.sql.caseSensitive")


def test_splits_are_disjoint_by_construction(frame):
    """Splits of one call differ in their index only, so that enclaves keep each row in exactly one."""
    splits = [split.steps[0] for split in frame.randomSplit([3.0, 1.0], seed=9.7)]  # as Spark, which drops the fraction
    assert splits == [RandomSplit(weights=(3.0, 1.0), kept=(index,), seed=9) for index in (0, 1)]


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        (col("age") + 1, LongType()),
        (1 - col("dose"), DoubleType()),
        (2 * col("age") / 3, DoubleType()),
        (-col("age"), LongType()),
        (col("age").cast("double"), DoubleType()),
        (log(col("age")), DoubleType()),
        (log1p("age") + exp("dose") + sqrt("dose"), DoubleType()),
        (absolute(col("age")), LongType()),
        ((col("age") >= 20) & ~(col("dose") < 1) | (col("name") == "x"), BooleanType()),
        (col("age").isin(1, 2, 3), BooleanType()),
        (col("dose").isNull(), BooleanType()),
        (isnull("dose"), BooleanType()),
        (col("age").between(20, 30), BooleanType()),
        (lit(1.5), DoubleType()),
    ],
)
def test_expressions_have_sparks_types(expression, kind, frame):
    """An expression's type is the one that Spark gives it."""
    assert frame.withColumn("new", expression).schema["new"].dataType == kind


def test_wrong_plans_are_refused_at_once(frame):
    """Unknown columns, conditions that are none, SQL text and other libraries' columns are refused before any job runs."""
    for wrong in (
        lambda: frame.select("nothing"),
        lambda: frame.filter(col("age") + 1),
        lambda: frame.filter("age > 3"),
        lambda: frame.withColumn("new", 3),
        lambda: frame.withColumn("new", col("age") + object()),
        lambda: frame.randomSplit([]),
        lambda: frame.randomSplit([1.0, -1.0]),
        lambda: frame.randomSplit([1.0, float("inf")]),
        lambda: frame.randomSplit([1e308, 1e308]),
        lambda: frame.select("age", "age"),
        lambda: frame["nothing"],
        lambda: bool(col("age") > 3),
        lambda: col("age").cast("string"),
    ):
        with pytest.raises(UsageError):
            wrong()


def test_hidden_columns_can_still_be_planned(deployment, session, table):
    """A dataset whose owner hides its columns and rows tells neither, and takes plans on faith."""
    hidden = session.read(deployment.dataset(table, "hidden", hide_columns=True, hide_rows=True))
    with pytest.raises(SealedError):
        hidden.columns  # noqa: B018
    with pytest.raises(SealedError):
        hidden.count()
    assert hidden.filter(col("age") > 30).release(columns=["age"]).open().num_rows == sum(age.as_py() > 30 for age in table["age"])


def test_released_rows_are_those_of_the_plan(frame, table):
    """Rows that the policy lets out are the plan's rows, opened by the analyst's agent."""
    opened = (
        frame.filter((col("age") > 50) & (col("dose") > 3.0)).withColumn("twice", col("age") * 2).release(columns=["twice", "name"]).open()
    )
    expected = table.to_pandas().query("age > 50 and dose > 3.0")
    assert sorted(opened["twice"].to_pylist()) == sorted(expected["age"] * 2)
    assert sorted(opened["name"].to_pylist()) == sorted(expected["name"])


def test_rows_go_to_a_folder_that_was_named_and_not_through_the_driver(frame, table, tmp_path):
    """Tasks write the sealed rows of each part into the folder, from where the same handle opens and copies them; none is missing."""
    released = frame.release(columns=["name"], path=str(tmp_path / "out"))
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == [f"rows-{ordinal:05d}.sml" for ordinal in range(frame.part_count)]
    assert len(released) == frame.part_count
    assert sorted(released.open()["name"].to_pylist()) == sorted(table["name"].to_pylist())
    released.save(str(tmp_path / "copy"))
    for again in (lambda: released.save(str(tmp_path / "copy")), lambda: frame.release(columns=["age"], path=str(tmp_path / "out"))):
        with pytest.raises(UsageError) as caught:
            again()
        assert caught.value.error_code == "usage.exists"
    released = frame.release(columns=["name"], path=str(tmp_path / "out"), overwrite=True)
    assert sorted(released.open()["name"].to_pylist()) == sorted(table["name"].to_pylist())
    (tmp_path / "precious").mkdir()
    for name in ("thesis.txt", files[0]):
        (tmp_path / "precious" / name).write_text("years of work")
    with pytest.raises(UsageError):
        frame.release(columns=["name"], path=str(tmp_path / "precious"), overwrite=True)
    assert sorted(path.name for path in (tmp_path / "precious").iterdir()) == [files[0], "thesis.txt"]
    released.save(str(tmp_path / "copy2"))
    (tmp_path / "out" / files[0]).write_bytes((tmp_path / "out" / files[1]).read_bytes())
    with pytest.raises(CoverError):
        released.open()
    assert [(tmp_path / "copy2" / name).read_bytes() for name in files[1:]] == [
        (tmp_path / "out" / name).read_bytes() for name in files[1:]
    ]


def test_splits_cover_the_rows_once(frame, table):
    """The parts of a random split are disjoint and together are all rows."""
    names = [split.release(columns=["name"]).open()["name"].to_pylist() for split in frame.randomSplit([0.7, 0.3], seed=4)]
    assert sorted(names[0] + names[1]) == sorted(table["name"].to_pylist())
    assert 0.55 < len(names[0]) / table.num_rows < 0.85


def test_a_session_needs_a_broker(spark, monkeypatch):
    """A session without a broker says which setting names it."""
    monkeypatch.delenv("SECUREMLLIB_BROKER", raising=False)
    with pytest.raises(UsageError, match="broker"):
        SecureSession(spark)


def test_what_is_said_of_a_column_stays_with_it(frame):
    """Metadata goes with a column through steps and new names, makes no step, and ends where the column is computed anew."""
    said = {"ml_attr": {"type": "binary"}}
    told = frame.withMetadata("ill", said)
    assert told.steps == frame.steps
    renamed = told.filter(col("age") > 30).withColumn("other", col("age") + 1).withColumnRenamed("ill", "label")
    assert renamed.schema["label"].metadata == said
    assert told.withColumn("ill", col("ill") + 1).schema["ill"].metadata == {}
    with pytest.raises(UsageError, match="no column"):
        frame.withMetadata("nobody", said)
