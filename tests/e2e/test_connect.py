"""Does the same code run on a real Spark Connect server?"""

import json
import os
import subprocess
import sys
from pathlib import Path

from securemllib.ml.evaluation import ClusteringEvaluator
from tests.e2e.conftest import features, long_kmeans


def test_a_fit_and_an_evaluation_run_on_spark_connect(another, deployment, cluster, points, tmp_path):
    """A script on a Spark Connect session gets the same numbers, to the last bit, as one on a classic session."""
    script = Path(__file__).with_name("connect_driver.py")
    command = [sys.executable, "-P", str(script), points, str(tmp_path / "connect"), str(cluster.idle)]
    environment = {**os.environ, **deployment.environment, "PYSPARK_PYTHON": sys.executable}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["session"].startswith("pyspark.sql.connect")
    rows = features(another(), points)
    model = long_kmeans(maxIter=4).fit(rows)
    assert found["centers"] == [center.tolist() for center in model.release().clusterCenters()]
    assert found["silhouette"] == ClusteringEvaluator().evaluate(model.transform(rows))
