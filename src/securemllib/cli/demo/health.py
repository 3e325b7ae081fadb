"""The data: the RAND health insurance experiment, 20,190 person-years that statsmodels carries, with canaries planted."""

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from securemllib.cli.demo.searching import Canaries
from securemllib.errors import UnavailableError

__all__ = ["FEATURES", "HealthData", "write_health_data"]

# Names as in the file: coinsurance, income, health status, chronic diseases; `lpi` and `fmde` hold canaries and are neighbours as features.
FEATURES = ("lncoins", "idp", "lpi", "fmde", "physlm", "disea", "hlthg", "hlthf", "hlthp")
_NUMBERS = ("lpi", "fmde")
_VISITS = "mdvis"
_PATIENT = "patient"
# Large enough to survive any sampling, few enough to leave the model alone.
_PLANTED = 24
# Near the columns' medians, so that they are no outliers.
_LOW = (6.0, 4.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthData:
    """What the owner holds in the clear.

    Attributes:
        csv: The table as CSV.
        parquet: The same as Parquet, uncompressed and without dictionaries, as plaintext MLlib reads it.
        rows: How many rows it has.
        planted: In how many of them canaries stand.
        canaries: The planted values.
    """

    csv: Path
    parquet: Path
    rows: int
    planted: int
    canaries: Canaries


def write_health_data(folder: Path, rows: int) -> HealthData:
    """Write the first rows of the data with canaries planted in some of them.

    Args:
        folder: Where the files go.
        rows: How many rows.

    Raises:
        UnavailableError: statsmodels, which carries the data, is not installed.
    """
    table = _read().slice(0, rows)
    canaries = Canaries.generate(_LOW)
    chosen = np.random.default_rng(int.from_bytes(os.urandom(8), "big")).choice(table.num_rows, _PLANTED, replace=False)
    patients = [f"patient-{row:06d}" for row in range(table.num_rows)]
    for row in chosen:
        patients[row] = f"{canaries.text}-{row:06d}"
    columns = {name: table[name].to_numpy().astype(np.float64) for name in (*FEATURES, _VISITS)}
    for name, number in zip(_NUMBERS, canaries.numbers, strict=True):
        columns[name][chosen] = number
    planted = pa.table({_PATIENT: patients, **columns})
    folder.mkdir(parents=True)
    pa_csv.write_csv(planted, folder / "health.csv")
    pq.write_table(planted, folder / "health.parquet", compression="none", use_dictionary=False)
    return HealthData(
        csv=folder / "health.csv", parquet=folder / "health.parquet", rows=table.num_rows, planted=_PLANTED, canaries=canaries
    )


def _read() -> pa.Table:
    # Found without being imported: statsmodels takes seconds to import.
    found = find_spec("statsmodels")
    path = Path(found.origin or "").parent / "datasets" / "randhie" / "randhie.csv" if found is not None else Path()
    if not path.is_file():
        raise UnavailableError(
            "The RAND health insurance data is not installed.", next_step="pip install 'securemllib[demo]'", code="unavailable.data"
        )
    return pa_csv.read_csv(path)
