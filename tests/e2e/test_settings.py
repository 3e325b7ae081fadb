"""Does a fit give the same bytes on clusters that are set up in other ways than ours?"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.cluster import CONF, running_cluster
from tests.e2e.conftest import features, long_kmeans

# With dynamic allocation there is no executor before a task waits for one, and there are no barrier stages.
DYNAMIC = {
    "spark.dynamicAllocation.enabled": "true",
    "spark.dynamicAllocation.shuffleTracking.enabled": "true",
    "spark.dynamicAllocation.minExecutors": "0",
    "spark.dynamicAllocation.executorIdleTimeout": "5s",
}
OTHERS = {
    "spark.speculation": "true",
    "spark.speculation.interval": "50ms",
    "spark.speculation.quantile": "0.5",
    "spark.speculation.multiplier": "1.01",
    "spark.io.encryption.enabled": "true",
    "spark.serializer": "org.apache.spark.serializer.KryoSerializer",
    "spark.scheduler.mode": "FAIR",
    "spark.task.maxFailures": "1",
    "spark.default.parallelism": "7",
    "spark.sql.ansi.enabled": "false",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.python.worker.reuse": "false",
    "spark.python.unix.domain.socket.enabled": "false",
}


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory):
    """A master and two workers, whose cores no other driver holds."""
    with running_cluster(tmp_path_factory.mktemp("settings")) as cluster:
        yield cluster


@pytest.mark.parametrize("settings", [{**DYNAMIC, **OTHERS}, OTHERS], ids=["dynamic", "static"])
def test_the_same_bytes_come_from_other_settings(another, deployment, own_cluster, points, tmp_path, settings):
    """Executors that come and go, tasks that may run twice, Spark's own encryption: it is one resident stage all the same."""
    model = long_kmeans(maxIter=4).fit(features(another(), points))
    script = Path(__file__).with_name("settings_driver.py")
    command = [
        sys.executable,
        "-P",
        str(script),
        own_cluster.url,
        points,
        str(tmp_path),
        str(own_cluster.idle),
        json.dumps({**CONF, **settings}),
    ]
    environment = {**os.environ, **deployment.environment, "PYSPARK_PYTHON": sys.executable}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["centers"] == [center.tolist() for center in model.release().clusterCenters()]
    # A slow machine may not bring a second executor in time: then the stage runs again with one task.
    assert found["jobs"] in {1, 2}
    assert found["rows"] == 6000
