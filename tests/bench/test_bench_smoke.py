"""Does the benchmark report what it measured?"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
REQUIRED = {"workload", "rows", "columns", "mode", "cached", "cpu_ratio", "wall_ratio", "quality", "reference_quality"}


@pytest.fixture
def bench(monkeypatch):
    """The benchmark's modules, as the script imports them."""
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(str(BENCH))
    import measure
    import report

    return measure, report


def samples(measure, *costs):
    """Return samples of calls with these wall and CPU seconds."""
    return measure.Samples(costs=[measure.Cost(wall=wall, cpu=cpu, roles={"jvm": cpu}) for wall, cpu in costs])


def made_up(bench, **more):
    """Return the entry of three runs that nobody ran."""
    measure, report = bench
    ours, reference = samples(measure, (1.0, 1.0), (3.0, 2.0), (2.0, 9.0)), samples(measure, (4.0, 10.0), (8.0, 20.0), (6.0, 30.0))
    return report.entry(
        "kmeans", ours, reference, shape=(100, 20), mode="enclave", cached=True, quality=("cost <1>", 2.0, 3.0), target=0.2, **more
    )


def test_an_entry_holds_the_ratio_of_the_medians_and_the_spread_of_the_pairs(bench):
    """Ratios are of the medians; least and most are of runs that followed one another."""
    result = made_up(bench)
    assert set(result) >= REQUIRED
    assert result["cpu_ratio"] == 2.0 / 20.0
    assert (result["cpu_ratio_min"], result["cpu_ratio_max"]) == (0.1, 0.3)
    assert result["wall_ratio"] == 2.0 / 6.0
    assert result["runs"] == 3


def test_the_reports_say_the_same_as_the_json(bench, tmp_path, capsys):
    """JSON, page and terminal show one result's numbers, escaped where the format asks for it."""
    _, report = bench
    results = [made_up(bench, enclave_peak_bytes=3 * 2**20, enclave_memory_target_bytes=2 * 2**20)]
    report.write_json(results, tmp_path / "new" / "results.json")
    assert json.loads((tmp_path / "new" / "results.json").read_text()) == results
    page = report.write_html(results, tmp_path / "page", ["a fact"]).read_text()
    assert "0.100 (0.100-0.300)" in page
    assert "cost &lt;1&gt; 2" in page
    assert "<li>a fact</li>" in page
    assert "peak 3 MiB, above 2 MiB" in page
    assert "http" not in page.replace("http-equiv", "")
    assert (tmp_path / "page" / "ratios.png").read_bytes().startswith(b"\x89PNG")
    report.print_table(results, report.Console(width=200), ["a fact"])
    assert "0.100 (0.100-0.300)" in capsys.readouterr().out


def test_time_against_rows_is_charted_where_rows_were_varied(bench, tmp_path):
    """Results of one workload with several numbers of rows give a chart and an exponent, 1 for a linear cost; one number gives none."""
    _, report = bench
    growth = pytest.importorskip("growth")
    several = [made_up(bench, rows=rows, cpu_seconds=rows / 100, reference_cpu_seconds=rows**1.5) for rows in (400, 100, 200)]
    (name,) = growth.series(several)
    assert name == "kmeans, enclave, cached"
    assert [result["rows"] for result in growth.series(several)[name]] == [100, 200, 400]
    assert growth.exponent([100, 200, 400], [1.0, 2.0, 4.0]) == pytest.approx(1.0)
    assert growth.exponent([100, 200, 400], [1e3, 2.0**1.5 * 1e3, 8e3]) == pytest.approx(1.5)
    assert "Time against rows" in report.write_html(several, tmp_path / "several", []).read_text()
    assert (tmp_path / "several" / "rows.png").read_bytes().startswith(b"\x89PNG")
    assert "Time against rows" not in report.write_html(several[:1], tmp_path / "one", []).read_text()
    assert not (tmp_path / "one" / "rows.png").exists()


def test_the_cpu_time_of_a_child_that_ended_is_counted(bench):
    """A process that started and ended within a call counts with its CPU seconds, a sleeping one does not."""
    measure, _ = bench
    busy = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
    cost = measure.measure(lambda: subprocess.run([sys.executable, "-S", "-c", busy], check=True))
    assert cost.cpu >= 0.5
    assert measure.measure(lambda: time.sleep(1.0)).cpu < 0.5


@pytest.mark.timeout(280)
def test_a_small_benchmark_runs_from_end_to_end(tmp_path):
    """A tiny run trains on both sides through Spark and writes one object a comparison, with models that agree."""
    pytest.importorskip("pyspark")
    command = [
        sys.executable,
        str(BENCH / "run.py"),
        "--scale",
        "0.002",
        "--runs",
        "1",
        "--data",
        "cached",
        "--partitioned",
        "--workloads",
        "linear_regression",
        "parquet",
    ]
    command += ["--json", str(tmp_path / "results.json"), "--html", str(tmp_path / "page")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=250, check=False, env={**os.environ, "MPLCONFIGDIR": str(tmp_path)}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    kinds = [(result["workload"], result["cached"]) for result in results]
    trained = [("linear_regression", True), ("linear_regression_beside_enclave_mode", True)]
    assert kinds == [*trained, ("parquet_encrypt", True), ("parquet_encrypt_unsynced", True), ("parquet_decrypt", False)]
    for result in results:
        assert set(result) >= REQUIRED
        assert result["cpu_seconds"] > 0.0
    # The rows are float32 in the enclave: MLlib's coefficients to 1e-4.
    assert results[0]["difference"] < 1e-4
    assert results[0]["quality"] == pytest.approx(results[0]["reference_quality"], rel=1e-6)


@pytest.mark.parametrize("name", ["logistic_regression", "kmeans", "random_forest", "naive_bayes", "gbt"])
def test_a_library_for_one_machine_trains_on_the_same_rows(bench, tmp_path, name):
    """What stands beside a workload trains on its rows, and its quality is what the workload's is: better than guessing."""
    from dataclasses import replace

    from single_node import libraries
    from workload import make_data

    library = libraries(2)[name]
    data = make_data(replace(library.workload, rows=600), 1.0, tmp_path / name)
    found = library.quality(data, library.fit(data.features.astype("float32"), data.label, 0))
    guessed = {"logistic_regression": 0.69, "kmeans": float((data.features**2).sum())}
    assert found < guessed[name] if name in guessed else found > 0.55


def test_encodings_are_measured(bench):
    """Each encoding of a column gets costs beside plain Parquet's, and a target for its number of rows."""
    from columns import compare_encodings

    found = {item.name: item for item in compare_encodings(0.0001, 1)}
    assert len(found) == 7
    assert {item.rows for item in found.values()} == {1000}
    assert all(len(item.ours.costs) == len(item.plain.costs) == 1 for item in found.values())
    assert found["encode_deterministic_integers"].target_seconds == pytest.approx(0.6 * 1000 / 10_000_000)
