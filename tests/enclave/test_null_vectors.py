"""Does a part whose vectors are all null stand in the way of the others?"""

import numpy as np
import pyarrow as pa
import pytest

from securemllib.errors import DataError
from securemllib.wire.encoding import decode
from securemllib.wire.job import Mode
from securemllib.wire.plan import Assemble, HandleInvalid, Plan
from tests.world import Dataset, Relay, World, run

ROWS = [[float(row % 7), float(row % 5)] for row in range(60)]
LABEL = [float(row % 2) for row in range(60)]


def summaries(vectors, label, *, parts, mode, operation="LogisticRegression", params=None):
    """Train on the vectors that are not null, and return the summary's content."""
    world = World(Dataset(pa.table({"v": pa.array(vectors, pa.list_(pa.float64())), "y": label}), parts=parts))
    skip = Assemble(input_columns=("v",), output_column="features", handle_invalid=HandleInvalid.SKIP)
    plan = Plan(source=world.dataset.manifest.reference, steps=(skip,))
    job = world.job(operation, params or {"maxIter": 3}, plan=plan, mode=mode)
    finished, _ = run(world, job, [Relay(world)])
    (raw,) = finished.results
    return world.open(raw).content


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("place", [0, 60], ids=["first", "last"])
def test_a_part_of_null_vectors_changes_nothing(mode, place):
    """Where rows of null vectors are skipped, a part of nothing else gives the training that the rows without that part give."""
    vectors, label = list(ROWS), list(LABEL)
    vectors[place:place] = [None] * 20
    label[place:place] = [1.0] * 20
    found, whole = (decode(summaries(*rows, parts=parts, mode=mode)) for rows, parts in (((vectors, label), 4), ((ROWS, LABEL), 3)))
    # Shares add their parts in another order: what is rounded differs in the last bits.
    np.testing.assert_allclose(found["objective_history"], whole["objective_history"], rtol=1e-9)
    assert found["num_classes"] == whole["num_classes"]


@pytest.mark.parametrize("mode", Mode)
def test_vectors_that_are_all_null_are_no_rows(mode):
    """Where every vector of every part is null, there are no rows to learn from, and the error says so."""
    with pytest.raises(DataError) as refused:
        summaries([None] * 40, [1.0] * 40, parts=4, mode=mode)
    assert refused.value.error_code == "data.no_rows"


def test_parts_of_other_widths_are_still_refused():
    """Only a part without rows has no width of its own: vectors of another length in another part are an error."""
    assert summaries(ROWS, LABEL, parts=3, mode=Mode.ENCLAVE)
    with pytest.raises(DataError) as refused:
        summaries([*ROWS[:40], *([1.0] for _ in range(20))], LABEL, parts=3, mode=Mode.ENCLAVE)
    assert refused.value.error_code == "data.length"
