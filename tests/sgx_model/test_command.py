"""Does `securemllib bench --sgx-model` count a real training, and call its prediction one?"""

import json

import pytest
from typer.testing import CliRunner

from securemllib.cli.bench import TITLE, app, as_json, as_markdown, as_table
from securemllib.cli.sgx.model import Counts, predict
from securemllib.cli.sgx.running import Counted
from securemllib.errors import UsageError

COUNTED = Counted(
    operation="ALS",
    rows=1000,
    columns=2,
    data="files",
    wall=1.0,
    counts=Counts(
        seconds=1.0, frames_in=5, frames_out=5, bytes_in=10, bytes_out=10, waits=1, working_set=1, table=6_000_000, random_share=0.25
    ),
)


def test_a_prediction_is_called_one_everywhere():
    """Table and JSON say that they hold a prediction, and the JSON holds what it stands on."""
    assert "PREDICTION" in str(as_table([COUNTED]).title)
    assert as_markdown([COUNTED]).startswith(f"**{TITLE}.**")
    found = as_json([COUNTED])
    assert found["kind"] == TITLE
    assert "PREDICTION" in TITLE
    (training,) = found["trainings"]
    assert training["predicted"]["high"]["overhead"] == predict(COUNTED.counts, "high").overhead
    assert training["random_share_reason"]
    assert set(found["constants"]) == {"exit", "interrupts", "crossing", "streaming", "random", "cache", "quote"}


def test_a_training_is_counted(tmp_path):
    """The command trains through a real enclave process and writes counts that such a training must have."""
    path = tmp_path / "model.json"
    result = CliRunner().invoke(app, ["--sgx-model", "--only", "LinearRegression", "--scale", "0.01", "--json", str(path)])
    assert result.exit_code == 0, result.output
    assert TITLE in result.output
    training, again = json.loads(path.read_text())["trainings"]
    counts = training["counts"]
    assert (training["data"], again["data"]) == ("files", "held")
    assert again["counts"]["bytes_in"] < counts["bytes_in"] / 5
    assert (training["rows"], training["columns"]) == (3000, 50)
    # 3,000 rows of 51 doubles cross encrypted, once; in float32 they stay.
    assert 3000 * 51 * 8 < counts["bytes_in"] < 2 * 3000 * 51 * 8
    assert counts["frames_in"] == counts["frames_out"]
    assert counts["seconds"] > 0.0
    assert training["predicted"]["high"]["overhead"] > training["predicted"]["low"]["overhead"] > 1.0


@pytest.mark.parametrize("arguments", [[], ["--sgx-model", "--only", "Nothing"], ["--sgx-model", "--scale", "0"]])
def test_wrong_calls_are_refused(arguments):
    """Without the option, with an unknown workload or no rows, nothing is run."""
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, UsageError)
