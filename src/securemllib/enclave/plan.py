"""A plan's steps over the rows of one part."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from securemllib.algorithms.base import Seed
from securemllib.algorithms.registry import param_name
from securemllib.enclave.expressions import evaluate
from securemllib.enclave.vectors import Rows, Vector
from securemllib.errors import DataError
from securemllib.wire.plan import ApplyModel, Assemble, Filter, HandleInvalid, ModelRef, Plan, Project, RandomSplit, Step, WithColumn

__all__ = ["execute", "read_table"]


def read_table(table: pa.Table) -> Rows:
    """Return a part's stored rows."""
    scalars = {name: table.column(name).combine_chunks() for name in table.column_names}
    return Rows(count=table.num_rows, scalars=scalars, vectors={}, positions=np.arange(table.num_rows, dtype=np.int64))


def execute(plan: Plan, rows: Rows, *, ordinal: int, seed: Seed, models: Mapping[ModelRef, Any]) -> Rows:
    """Return the rows after all steps.

    Args:
        plan: The steps.
        rows: The part as stored.
        ordinal: The part's ordinal.
        seed: Of random splits: the same for every job on the dataset, so that the splits of two jobs are the same.
        models: The plan's unsealed models.
    """
    stored = rows.count
    for step in plan.steps:
        if isinstance(step, RandomSplit):
            rows = rows.take(_split(step, stored, ordinal, seed)[rows.positions])
        elif isinstance(step, ApplyModel):
            rows = _apply(step, rows, models[step.model])
        else:
            rows = _STEPS[type(step)](step, rows)
    return rows


def _project(step: Project, rows: Rows) -> Rows:
    scalars: dict[str, pa.Array] = {}
    vectors: dict[str, Vector] = {}
    for named in step.columns:
        column = getattr(named.expression, "column", None)
        if column in rows.vectors:
            vectors[named.name] = rows.vectors[column]
        else:
            scalars[named.name] = evaluate(named.expression, rows)
    return Rows(count=rows.count, scalars=scalars, vectors=vectors, positions=rows.positions)


def _with_column(step: WithColumn, rows: Rows) -> Rows:
    scalars = {**rows.scalars, step.column.name: evaluate(step.column.expression, rows)}
    vectors = {name: vector for name, vector in rows.vectors.items() if name != step.column.name}
    return Rows(count=rows.count, scalars=scalars, vectors=vectors, positions=rows.positions)


def _filter(step: Filter, rows: Rows) -> Rows:
    predicate = evaluate(step.predicate, rows)
    if not pa.types.is_boolean(predicate.type):
        raise DataError(f"A filter's predicate is of type {predicate.type}, not boolean.", code="data.expression")
    return rows.take(np.asarray(predicate.fill_null(False).to_numpy(zero_copy_only=False), dtype=bool))


def _assemble(step: Assemble, rows: Rows) -> Rows:
    columns: list[NDArray[np.float64]] = []
    for name in step.input_columns:
        columns += rows.vector(name).columns
    vector = Vector(tuple(columns))
    if step.handle_invalid is not HandleInvalid.KEEP:
        invalid = np.zeros(rows.count, dtype=bool)
        for column in columns:
            if np.isnan(np.add.reduce(column)):
                invalid |= np.isnan(column)
        if invalid.any():
            if step.handle_invalid is HandleInvalid.ERROR:
                raise DataError(
                    f"{int(invalid.sum())} rows have a null or NaN among the assembled columns.",
                    code="data.null",
                    next_step='Filter them, or set handleInvalid to "skip" or "keep".',
                )
            rows, vector = rows.take(~invalid), vector.take(~invalid)
    scalars = {name: array for name, array in rows.scalars.items() if name != step.output_column}
    return Rows(count=rows.count, scalars=scalars, vectors={**rows.vectors, step.output_column: vector}, positions=rows.positions)


def _split(step: RandomSplit, stored: int, ordinal: int, seed: Seed) -> NDArray[np.bool_]:
    drawn = seed.generator("random-split", step.seed, ordinal).random(stored)
    edges = np.concatenate([[0.0], np.cumsum(step.weights)]) / sum(step.weights)
    edges[-1] = 1.0
    kept: NDArray[np.bool_] = (drawn >= edges[step.index]) & (drawn < edges[step.index + 1])
    return kept


def _apply(step: ApplyModel, rows: Rows, model: Any) -> Rows:
    features = rows.vector(step.features_column).matrix()
    outputs = _changed(model, step.params).predict(features)
    scalars, vectors = dict(rows.scalars), dict(rows.vectors)
    for stem, column in step.outputs.items():
        if stem not in outputs:
            raise DataError(f"The model has no output {stem!r}.", code="data.output")
        scalars.pop(column, None)
        vectors.pop(column, None)
        values = outputs[stem]
        if values.ndim == 1:
            scalars[column] = pa.array(values)
        else:
            vectors[column] = Vector.of(values)
    return Rows(count=rows.count, scalars=scalars, vectors=vectors, positions=rows.positions)


def _changed(model: Any, params: Mapping[str, Any]) -> Any:
    known = {param_name(field): field for field in getattr(model, "CHANGEABLE", ())}
    if unknown := params.keys() - known.keys():
        raise DataError(f"The model has no Params {sorted(unknown)} that may change.", code="data.param")
    return replace(model, **{known[name]: value for name, value in params.items()}) if params else model


_STEPS: dict[type[Step], Callable[[Any, Rows], Rows]] = {
    Project: _project,
    WithColumn: _with_column,
    Filter: _filter,
    Assemble: _assemble,
}
