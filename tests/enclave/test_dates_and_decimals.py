"""What becomes of dates and decimals inside?"""

from datetime import date
from decimal import Decimal

import pyarrow as pa
import pytest

from securemllib.algorithms.base import Seed
from securemllib.enclave.plan import read_table
from securemllib.enclave.results import rows_table
from securemllib.errors import DataError
from securemllib.wire.dataset import DatasetRef
from securemllib.wire.plan import Assemble, HandleInvalid, Plan
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
