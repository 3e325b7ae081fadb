"""Does the same code run on a real Spark Connect server?"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from securemllib.algorithms.registry import ALGORITHMS
from securemllib.ml.evaluation import ClusteringEvaluator
from tests.deployment import patients
from tests.e2e.conftest import features, long_kmeans

PAGE = Path(__file__).resolve().parents[2] / "docs" / "connect.md"


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


def test_the_page_on_spark_connect_says_what_works(deployment, tmp_path):
    """What the page's table says works does on a real Connect server, and what it says is refused is; the table has every algorithm."""
    number = np.arange(60)
    table = patients(60).append_column("user", [number % 6]).append_column("item", [number % 5]).append_column("friend", [(number + 1) % 6])
    lists = {
        "basket": [["bread", f"item-{each % 4}"] for each in range(60)],
        "baskets": [[["bread"], [f"item-{each % 4}"]] for each in range(60)],
        "likes": [[0.0, each % 3 + 1.0] for each in range(60)],
        "liked": [[each % 2 + 0.0] for each in range(60)],
    }
    for name, column in lists.items():
        table = table.append_column(name, [column])
    dataset, earlier = deployment.dataset(table, "connect", rows_per_part=30), len(deployment.audit())
    command = [sys.executable, "-P", str(Path(__file__).with_name("connect_matrix.py")), str(dataset), str(tmp_path)]
    environment = {**os.environ, **deployment.environment, "PYSPARK_PYTHON": sys.executable}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["session"].startswith("pyspark.sql.connect")
    said = re.findall(r"^\| `([a-z ]+)` \| (yes|`[a-z._]+`) \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert found["found"] == {name: outcome.strip("`") for name, outcome in said}
    assert {entry.get("operation") for entry in deployment.audit()[earlier:]} >= ALGORITHMS.keys()
