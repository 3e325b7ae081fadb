"""A plan's steps over the rows of one part."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array

from securemllib.algorithms.base import Seed
from securemllib.algorithms.expressions import evaluate
from securemllib.algorithms.registry import build_transformer, param_name
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.algorithms.vectors import SparseVector, Vector, beside, is_stored_vector
from securemllib.enclave.models import Usable
from securemllib.enclave.rows import Rows
from securemllib.errors import DataError
from securemllib.wire.plan import (
    ApplyModel,
    Assemble,
    Filter,
    HandleInvalid,
    ModelRef,
    Named,
    Parts,
    Project,
    RandomSplit,
    Reference,
    Step,
    Transform,
    WithColumn,
)

__all__ = ["begin", "follow", "read_table"]


def read_table(table: pa.Table) -> Rows:
    """Return a part's stored rows."""
    columns = zip(table.column_names, table.itercolumns(), strict=True)
    arrays = {name: Column(column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()) for name, column in columns}
    return Rows(count=table.num_rows, columns=arrays, positions=np.arange(table.num_rows, dtype=np.int64))


def begin(rows: Rows, *, ordinal: int, seed: Seed, stored: int) -> Rows:
    """Return the rows of a part, ready for the steps of plans.

    Args:
        rows: The part as stored, or what steps left of it.
        ordinal: The part's ordinal.
        seed: Of random splits and numbers: the same for every job on the dataset, so that the splits of two jobs are the same.
        stored: The rows of the part as stored.
    """
    return replace(rows, draw=lambda purpose, drawn: seed.generator(purpose, drawn, ordinal).random(stored))


def follow(step: Step, rows: Rows, models: Mapping[ModelRef, Usable]) -> Rows:
    """Return the rows after one more step."""
    if isinstance(step, Parts):
        return rows
    if isinstance(step, ApplyModel):
        return _apply(step, rows, *models[step.model])
    return _STEPS[type(step)](step, rows)


def _project(step: Project, rows: Rows) -> Rows:
    return replace(rows, columns={named.name: _named(named, rows) for named in step.columns})


def _with_column(step: WithColumn, rows: Rows) -> Rows:
    return rows.with_columns({step.column.name: _named(step.column, rows)})


def _named(named: Named, rows: Rows) -> Column:
    if isinstance(named.expression, Reference):
        return rows.column(named.expression.column)
    return Column(evaluate(named.expression, rows))


def _filter(step: Filter, rows: Rows) -> Rows:
    predicate = evaluate(step.predicate, rows)
    if not pa.types.is_boolean(predicate.type):
        raise DataError(f"A filter's predicate is of type {predicate.type}, not boolean.", code="data.expression")
    return rows.take(np.asarray(predicate.fill_null(False).to_numpy(zero_copy_only=False), dtype=bool))


def _assemble(step: Assemble, rows: Rows) -> Rows:
    for name in step.input_columns if step.handle_invalid is HandleInvalid.SKIP else ():
        array = rows.column(name).values
        # A null number is a NaN among the assembled ones, which are skipped below; a null vector has no width.
        if isinstance(array, pa.Array) and array.null_count and is_stored_vector(array.type):
            rows = rows.take(np.asarray(array.is_valid()))
    inputs = [rows.vector(name) for name in step.input_columns]
    vector = beside(inputs) if inputs else SparseVector(csr_array((rows.count, 0)))
    arities = [rows.arity(name) for name in step.input_columns]
    arity = None
    if any(found is not None for found in arities):
        none = [np.zeros(found.width, dtype=np.int64) for found in inputs]
        arity = np.concatenate([zeros if found is None else found for found, zeros in zip(arities, none, strict=True)])
    if step.handle_invalid is not HandleInvalid.KEEP and (invalid := vector.invalid()).any():
        if step.handle_invalid is HandleInvalid.ERROR:
            raise DataError(f"{int(invalid.sum())} rows have a null or NaN among the assembled columns.", code="data.null")
        rows, vector = rows.take(~invalid), vector.take(~invalid)
    return rows.with_columns({step.output_column: Column(vector, arity=arity)})


def _random_split(step: RandomSplit, rows: Rows) -> Rows:
    edges = np.concatenate([[0.0], np.cumsum(step.weights)]) / sum(step.weights)
    edges[-1] = 1.0
    return rows.take(np.isin(np.searchsorted(edges, rows.drawn("random-split", step.seed), side="right") - 1, step.kept))


def _apply(step: ApplyModel, rows: Rows, model: Any, shard: Callable[[int], Any]) -> Rows:
    model = _changed(model, step.params)
    columns = tuple(rows.column(name) for name in step.input_columns)
    if hasattr(model, "transform"):
        return _added(rows, model.transform(columns, *([shard] if hasattr(model, "SHARD") else [])), step.outputs)
    if len(columns) != 1:
        raise DataError(f"The model reads one column, not {len(columns)}.", code="data.output")
    features = rows.vector(step.input_columns[0])
    sparse = features.values if isinstance(features, SparseVector) and getattr(model, "SPARSE", False) else None
    outputs = model.predict(features.matrix() if sparse is None else sparse)
    return _added(rows, Transformed(columns={stem: _output(values) for stem, values in outputs.items()}), step.outputs)


def _output(values: Any) -> Column:
    return Column(pa.array(values) if values.ndim == 1 else Vector.of(values))


def _transform(step: Transform, rows: Rows) -> Rows:
    transformer = build_transformer(step.operation, step.params)
    return _added(rows, transformer.transform(tuple(rows.column(name) for name in step.input_columns)), step.outputs)


def _added(rows: Rows, made: Transformed, outputs: Mapping[str, str]) -> Rows:
    if unknown := outputs.keys() - made.columns.keys():
        raise DataError(f"There is no output {min(unknown)!r}.", code="data.output")
    added = rows.with_columns({column: made.columns[stem] for stem, column in outputs.items()})
    return added if made.keep is None else added.take(made.keep)


def _changed(model: Any, params: Mapping[str, Any]) -> Any:
    known = {param_name(field): field for field in getattr(model, "CHANGEABLE", ())}
    if unknown := params.keys() - known.keys():
        raise DataError(f"The model has no Params {sorted(unknown)} that may change.", code="data.param")
    return replace(model, **{known[name]: value for name, value in params.items()}) if params else model


_STEPS: dict[type[Step], Callable[[Any, Rows], Rows]] = {
    Project: _project,
    WithColumn: _with_column,
    Filter: _filter,
    RandomSplit: _random_split,
    Assemble: _assemble,
    Transform: _transform,
}
