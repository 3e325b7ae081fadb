"""What becomes of dates and decimals inside?"""

from datetime import date
from decimal import Decimal

import pyarrow as pa
import pytest

from securemllib.algorithms.base import Seed
from securemllib.algorithms.expressions import evaluate
from securemllib.enclave.plan import read_table
from securemllib.enclave.results import rows_table
from securemllib.errors import DataError
from securemllib.wire.dataset import DatasetRef
from securemllib.wire.plan import Assemble, Call, HandleInvalid, Literal, Operator, Plan, Reference
from tests.world import execute

DAYS = [date(2024, 2, 29), None, date(1969, 12, 31)]
PRICES = [Decimal("0.10"), Decimal("12345.67"), Decimal("-1.00")]
TABLE = pa.table({"day": pa.array(DAYS), "price": pa.array(PRICES, pa.decimal128(19, 2))})


def assembled(*columns):
    """Return the table's rows with a vector of columns."""
    step = Assemble(input_columns=columns, output_column="features", handle_invalid=HandleInvalid.ERROR)
    source = DatasetRef(dataset_id="0" * 32, version=1, digest=b"d" * 32)
    return execute(Plan(source=source, steps=(step,)), read_table(TABLE), ordinal=0, seed=Seed(value=b"s" * 32), models={})


def test_decimals_are_doubles_in_vectors_and_dates_are_carried():
    """A vector holds the nearest double of each decimal; the rows that leave hold days and decimals as they were."""
    rows = assembled("price")
    assert rows.vector("features").matrix()[:, 0].tolist() == [0.1, 12345.67, -1.0]
    assert pa.ipc.open_stream(rows_table(rows, ("day", "price"))).read_all().to_pydict() == {"day": DAYS, "price": PRICES}


def test_dates_are_no_numbers():
    """A vector of dates is refused, beside the decimals that are taken."""
    with pytest.raises(DataError, match="not a number"):
        assembled("price", "day")


def test_constants_of_dates_are_read_strictly():
    """A day and a moment are compared with their columns; a text that is none, another type and another number of constants are refused."""
    rows = read_table(TABLE)

    def compared(*constants):
        constant = Call(operator=Operator.DATE, arguments=tuple(Literal(value=value) for value in constants))
        return evaluate(Call(operator=Operator.LESS, arguments=(Reference(column="day"), constant)), rows).to_pylist()

    assert compared("2024-02-29") == [False, None, True]
    for constants in (("soon",), ("2024-02-30",), ("2024-2-1",), (19_000,), (None,), (), ("2024-02-29", "2024-02-29")):
        with pytest.raises(DataError) as caught:
            compared(*constants)
        assert caught.value.error_code == "data.expression"
