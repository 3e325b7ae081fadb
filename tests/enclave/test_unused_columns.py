"""Does an enclave read and compute no more of a plan than its job needs?"""

import numpy as np
import pyarrow as pa
import pytest

from securemllib.algorithms.base import Seed
from securemllib.enclave.plan import read_table
from securemllib.errors import DataError
from securemllib.wire.dataset import DatasetRef
from securemllib.wire.plan import Assemble, Call, Filter, HandleInvalid, Literal, Named, Operator, Plan, Project, Reference, WithColumn
from tests.world import execute

TABLE = pa.table({"visits": [0.0, 2.0, 5.0], "age": [30.0, 40.0, 50.0], "income": [1.0, 2.0, 3.0]})
SOURCE = DatasetRef(dataset_id="0" * 32, version=1, digest=bytes(32))


def above(column, number):
    """Return whether a column is greater than a number."""
    return Call(operator=Operator.GREATER, arguments=(Reference(column=column), Literal(value=number)))


PLANS = {
    "a new column": (WithColumn(column=Named(name="label", expression=above("visits", 0.0))),),
    "a vector": (Assemble(input_columns=("visits", "age"), output_column="label", handle_invalid=HandleInvalid.KEEP),),
    "a selection": (
        Project(
            columns=(
                Named(name="income", expression=Reference(column="income")),
                Named(name="label", expression=above("visits", 0.0)),
            )
        ),
    ),
}


@pytest.mark.parametrize("steps", PLANS.values(), ids=PLANS.keys())
def test_a_column_that_the_job_does_not_want_needs_no_column_of_the_dataset(steps):
    """A job that reads `income` only runs on a part of which only `income` was decrypted; the whole plan would not."""
    plan = Plan(source=SOURCE, steps=steps)
    wanted = frozenset({"income"})
    read = sorted(plan.source_columns(wanted, tuple(TABLE.column_names)))
    assert read == ["income"]
    arguments = {"ordinal": 0, "seed": Seed(bytes(32)), "models": {}}
    rows = execute(plan.pruned(wanted), read_table(TABLE.select(read)), **arguments)
    assert rows.scalar("income").to_pylist() == [1.0, 2.0, 3.0]
    with pytest.raises(DataError):
        execute(plan, read_table(TABLE.select(read)), **arguments)


def test_a_step_that_chooses_rows_is_kept():
    """A filter decides about all columns, so it stays with the column that it reads, though nobody wants that column."""
    steps = (WithColumn(column=Named(name="older", expression=above("age", 35.0))), Filter(predicate=Reference(column="older")))
    plan = Plan(source=SOURCE, steps=steps)
    wanted = frozenset({"income"})
    assert plan.pruned(wanted) == plan
    rows = execute(plan.pruned(wanted), read_table(TABLE), ordinal=0, seed=Seed(bytes(32)), models={})
    assert np.array_equal(rows.scalar("income").to_numpy(), [2.0, 3.0])
