"""Is each row of a stream written once, when the driver is killed in its midst?"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from tests.e2e.cluster import wait_until

PARTS = 8


def start(deployment, dataset, folder):
    """Start the driver in a process group of its own."""
    command = [
        sys.executable,
        "-P",
        str(Path(__file__).with_name("stream_driver.py")),
        deployment.broker_url,
        str(dataset),
        str(folder),
        str(PARTS),
    ]
    environment = {**os.environ, **deployment.environment, "PYSPARK_PYTHON": sys.executable}
    return subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_killed_driver_goes_on_where_it_was(deployment, tmp_path):
    """After a kill in mid-stream the same script finishes: each row is there once, and batches from before the kill are as they were."""
    rows = np.arange(400)
    dataset = deployment.dataset(pa.table({"row": rows, "a": rows / 7}), "streamed", rows_per_part=len(rows) // PARTS)
    first = start(deployment, dataset, tmp_path)
    wait_until(lambda: first.poll() is not None or (tmp_path / "sink" / "batch-00000001" / "job.sml").exists(), seconds=240)
    assert first.poll() is None, first.stderr.read()[-3000:]
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate(timeout=30)
    before = {path: path.read_bytes() for path in (tmp_path / "sink").glob("batch-*/*") if (path.parent / "job.sml").exists()}
    assert 2 <= len({path.parent for path in before}) < PARTS, "the stream was over before it could be disturbed"
    second = start(deployment, dataset, tmp_path)
    out, err = second.communicate(timeout=400)
    assert second.returncode == 0, err[-3000:]
    found = json.loads(out.splitlines()[-1])
    assert dict(zip(found["row"], found["twice"], strict=True)) == {row: row / 7 * 2.0 for row in rows.tolist()}
    assert len(found["row"]) == len(rows)
    assert before == {path: path.read_bytes() for path in before}
