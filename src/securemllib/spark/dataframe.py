"""A handle on sealed rows: a dataset's manifest and a plan. It holds no row, and what would show one is refused."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pyspark.sql.types import StructField, StructType

from securemllib.errors import SealedError, UsageError
from securemllib.spark.column import Column
from securemllib.spark.functions import col
from securemllib.spark.moments import fitted
from securemllib.spark.names import respelled, spelled, unknown, unquoted
from securemllib.spark.row_refusals import RefusesRows
from securemllib.spark.selection import flat, projected, to_column
from securemllib.spark.source import Source
from securemllib.spark.storage import Folder
from securemllib.wire.identity import PublicIdentity
from securemllib.wire.plan import (
    ApplyModel,
    Assemble,
    Filter,
    HandleInvalid,
    Named,
    Parts,
    Plan,
    Project,
    RandomSplit,
    Step,
    Transform,
    WithColumn,
)
from securemllib.wire.result import SealedModel

if TYPE_CHECKING:
    from securemllib.spark.rows import SealedRows
    from securemllib.spark.session import SecureSession
    from securemllib.spark.streaming import SealedStreamWriter

__all__ = ["SecureDataFrame"]


class SecureDataFrame(RefusesRows):
    """Rows that only enclaves see, and what they shall do to them; made by `SecureSession.read`.

    Args:
        session: The session.
        source: The dataset.
        schema: The columns after the plan; None where the owner hides them.
        steps: The plan.
        models: The sealed models in the plan.
        pieces: The folders of their pieces, by the models' ids.
    """

    def __init__(
        self,
        session: "SecureSession",
        source: Source,
        schema: StructType | None,
        steps: tuple[Step, ...] = (),
        models: tuple[SealedModel, ...] = (),
        pieces: Mapping[str, Folder] | None = None,
    ) -> None:
        self.session = session
        self.source = source
        self._schema = schema
        self.steps = steps
        self.models = models
        self.pieces = dict(pieces or {})

    @property
    def schema(self) -> StructType:
        """Names and types of the columns; `SealedError` where the owner hides them."""
        if self._schema is None:
            raise SealedError(
                "The owner of this dataset hides its columns.", next_step="Ask the owner for their names; plans may use them."
            )
        return self._schema

    @property
    def has_schema(self) -> bool:
        """Whether the owner publishes names and types of the columns."""
        return self._schema is not None

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self.schema.names)

    @property
    def dtypes(self) -> list[tuple[str, str]]:
        """Names and types of the columns."""
        return [(field.name, field.dataType.simpleString()) for field in self.schema]

    @property
    def plan(self) -> Plan:
        """What enclaves do to the rows."""
        return Plan(source=self.source.reference, steps=self.steps)

    @property
    def reads(self) -> tuple[int, int]:
        """The ordinals of the first part that the plan reads, and of the first one behind those."""
        chosen = self.plan.parts
        return (0, len(self.source.manifest.parts)) if chosen is None else (chosen.first, chosen.end)

    @property
    def part_count(self) -> int:
        """How many parts the plan reads."""
        first, end = self.reads
        return end - first

    @property
    def known_rows(self) -> int | None:
        """The rows that the plan reads, None where the owner hides them or only some parts are read."""
        return self.source.manifest.rows if self.plan.parts is None else None

    def of_parts(self, first: int, end: int, source: Source | None = None) -> "SecureDataFrame":
        """Return the plan over some consecutive parts only, of a later version of the dataset where ``source`` gives one.

        Args:
            first: The ordinal of the first part.
            end: That of the last one, plus one.
            source: Another version of the same dataset; this one when not given.
        """
        if self.plan.parts is not None:
            raise UsageError("The plan reads some parts only already.")
        of = source or self.source
        if of.manifest.dataset_id != self.source.manifest.dataset_id or not 0 <= first < end <= len(of.manifest.parts):
            raise UsageError(f"Dataset {self.source.manifest.dataset_id} has no parts from {first} to {end - 1} there.")
        return SecureDataFrame(self.session, of, self._schema, (Parts(first=first, end=end), *self.steps), self.models, self.pieces)

    def printSchema(self) -> None:
        """Print the schema."""
        import sys

        sys.stdout.write(self.schema.treeString())

    def count(self) -> int:
        """Return the number of rows, where the owner publishes it and no step of the plan drops rows."""
        drops = (Filter, Parts, RandomSplit)
        if any(isinstance(step, drops) or _skips(step) for step in self.steps):
            raise SealedError(
                "How many rows a filter, a split or some parts hold is sealed.",
                next_step="Count before the filter, or release a summary of a fit.",
            )
        if self.source.manifest.rows is None:
            raise SealedError("The owner of this dataset hides its number of rows.")
        return self.source.manifest.rows

    def select(self, *columns: "str | Column | list[str | Column]") -> "SecureDataFrame":
        """Return the given columns and expressions only; ``"*"`` stands for all columns."""
        chosen: list[Column] = []
        for column in flat(columns):
            every = isinstance(column, str) and column == "*"
            chosen += [col(name) for name in self.columns] if every else [self._spelled(to_column(column))]
        names = [column.name for column in chosen]
        if len(set(names)) != len(names) or not names:
            raise UsageError("A selection has at least one column, and each name once: use `alias`.", code="usage.column")
        step = Project(columns=tuple(Named(name=column.name, expression=column.expression) for column in chosen))
        return self._with(step, projected(self._schema, chosen))

    def filter(self, condition: Column) -> "SecureDataFrame":
        """Return the rows for which the condition is true."""
        if not isinstance(condition, Column):
            raise UsageError("A condition is an expression such as `col('age') > 30`; SQL text is not read.")
        condition = self._spelled(condition)
        if self._schema is not None and condition.type_in(self._schema).simpleString() != "boolean":
            raise UsageError(f"The condition {condition.name} is not boolean.", code="usage.expression")
        return self._with(Filter(predicate=condition.expression), self._schema)

    where = filter

    def withColumn(self, name: str, column: Column) -> "SecureDataFrame":
        """Return the rows with a column added or replaced."""
        if not isinstance(column, Column):
            raise UsageError(f"The column {name!r} needs an expression of `securemllib.spark.functions`.")
        schema, column, replaced = self._schema, self._spelled(column), self._spelling(name)
        if schema is not None:
            schema = self.schema_with({replaced: column.type_in(schema)})
        added = self._with(WithColumn(column=Named(name=replaced, expression=column.expression)), schema)
        return added if replaced == name else added.withColumnRenamed(replaced, name)

    def withColumnRenamed(self, existing: str, new: str) -> "SecureDataFrame":
        """Return the rows with one column under a new name."""
        existing = self._spelling(existing)
        return self.select(*(col(name).alias(new) if name == existing else col(name) for name in self.columns))

    def withMetadata(self, columnName: str, metadata: dict[str, Any]) -> "SecureDataFrame":
        """Return the rows with what the analyst says of a column, such as MLlib's ``ml_attr``; no enclave reads it."""
        name = self._spelling(columnName)
        self._check_column(name)
        fields = [StructField(f.name, f.dataType, f.nullable, metadata) if f.name == name else f for f in self.schema]
        return SecureDataFrame(self.session, self.source, StructType(fields), self.steps, self.models, self.pieces)

    def drop(self, *names: "str | Column") -> "SecureDataFrame":
        """Return the rows without the given columns."""
        dropped = {self._spelling(self._spelled(name).name if isinstance(name, Column) else name) for name in names}
        kept = [name for name in self.columns if name not in dropped]
        return self if kept == self.columns else self.select(*kept)

    def randomSplit(self, weights: list[float], seed: int | None = None) -> "list[SecureDataFrame]":
        """Return disjoint random parts of the rows, in proportion to the weights.

        Which row falls into which part follows from the seed and a key of the dataset, so the same call gives the same parts.
        """
        if not weights or not all(weight > 0.0 for weight in weights) or not math.isfinite(sum(weights)):
            raise UsageError("Weights are positive numbers with a finite sum.")
        chosen = 0 if seed is None else int(seed)
        splits = (RandomSplit(weights=tuple(map(float, weights)), kept=(index,), seed=chosen) for index in range(len(weights)))
        return [self._with(split, self._schema) for split in splits]

    def folds(self, number: int, seed: int | None = None) -> "list[tuple[SecureDataFrame, SecureDataFrame]]":
        """Return the pairs of training and validation rows of a cross-validation: each row validates in one fold, trains in all others."""
        if number < 2:
            raise UsageError(f"A cross-validation has at least 2 folds, not {number}.")
        weights, chosen = (1.0,) * number, 0 if seed is None else seed

        def of(kept: tuple[int, ...]) -> SecureDataFrame:
            return self._with(RandomSplit(weights=weights, kept=kept, seed=chosen), self._schema)

        return [(of(tuple(other for other in range(number) if other != fold)), of((fold,))) for fold in range(number)]

    def release(
        self, *, to: PublicIdentity | None = None, columns: list[str], path: str | None = None, overwrite: bool = False
    ) -> "SealedRows":
        """Return sealed rows that one recipient can open, if the owner's policy allows it.

        Args:
            to: The recipient; the analyst when not given.
            columns: The columns that leave.
            path: A new folder that all executors reach, to which they write the files that `SealedRows.save` would; without it the rows
                go through the driver and stay in its memory.
            overwrite: Whether rows that an earlier release wrote to the folder are deleted first.

        Raises:
            UsageError: The folder holds something already.
        """
        return self.session.release_rows(self, to, tuple(columns), path, overwrite=overwrite)

    @property
    def writeStream(self) -> "SealedStreamWriter":
        """Starts a streaming query over this plan; see `SealedStreamWriter`."""
        from securemllib.spark.streaming import SealedStreamWriter

        return SealedStreamWriter(self)

    def cache(self) -> "SecureDataFrame":
        """Return the same rows: enclaves keep decrypted blocks within their memory bound by themselves."""
        return self

    persist = cache

    def unpersist(self) -> "SecureDataFrame":
        """Return the same rows."""
        return self

    def schema_with(self, types: dict[str, Any]) -> StructType | None:
        """Return the schema with columns added or replaced; None where the owner hides it."""
        if self._schema is None:
            return None
        replaced = {
            name: StructField(name, kind, self._schema[name].nullable) for name, kind in types.items() if name in self._schema.names
        }
        kept = [replaced.get(field.name, field) for field in self._schema]
        return StructType(kept + [StructField(name, kind, True) for name, kind in types.items() if name not in self._schema.names])

    def apply(
        self, step: Assemble | ApplyModel | Transform, types: dict[str, Any], model: SealedModel | None = None, pieces: Folder | None = None
    ) -> "SecureDataFrame":
        """Return the rows after a transformer, with the types of its output columns.

        Args:
            step: The step.
            types: The types of its output columns.
            model: The model that it applies.
            pieces: Where the model's pieces are, if it has some.
        """
        frame = self._with(step, self.schema_with(types))
        if model is not None and model not in frame.models:
            frame.models = (*frame.models, model)
        if model is not None and pieces is not None:
            frame.pieces[model.model_id] = pieces
        return frame

    def with_model(self, model: SealedModel, pieces: Folder | None = None) -> "SecureDataFrame":
        """Return the same plan with a sealed model beside it that a job names, and the folder of what lies beside that."""
        known = self.pieces if pieces is None else {**self.pieces, model.model_id: pieces}
        return SecureDataFrame(self.session, self.source, self._schema, self.steps, (*self.models, model), known)

    def _spelling(self, name: str) -> str:
        return name if self._schema is None else spelled(name, self._schema, self.session.spark)

    def _spelled(self, column: Column) -> Column:
        if self._schema is None:
            return column
        column = column.of(unquoted(column.expression, self._schema))
        known = respelled(column.expression, self._schema, self.session.spark)
        return Column(fitted(known, self._schema, self.session.spark), column.name)

    def _with(self, step: Step, schema: StructType | None) -> "SecureDataFrame":
        return SecureDataFrame(self.session, self.source, schema, (*self.steps, step), self.models, self.pieces)

    def __getitem__(self, item: "str | Column | list[str | Column]") -> "Column | SecureDataFrame":
        if isinstance(item, str):
            self._check_column(self._spelling(self._spelled(col(item)).name))
            return col(item)
        return self.filter(item) if isinstance(item, Column) else self.select(item)

    def __getattr__(self, name: str) -> Any:
        is_column = not name.startswith("_") and self._schema is not None and name in self._schema.names
        return col(name) if is_column else super().__getattr__(name)

    def __len__(self) -> int:
        return self.count()

    def __repr__(self) -> str:
        columns = "columns hidden" if self._schema is None else ", ".join(f"{name}: {kind}" for name, kind in self.dtypes)
        return f"SecureDataFrame[{columns}]"

    def _check_column(self, name: str) -> None:
        if self._schema is not None and name not in self._schema.names:
            raise unknown(name, self._schema)


def _skips(step: Step) -> bool:
    if isinstance(step, Assemble):
        return step.handle_invalid is HandleInvalid.SKIP
    if not isinstance(step, ApplyModel | Transform):
        return False
    return step.params.get("handleInvalid") == "skip" or step.params.get("coldStartStrategy") == "drop"
