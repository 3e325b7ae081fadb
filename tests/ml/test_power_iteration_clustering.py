"""Does power iteration clustering of sealed edges release what pyspark.ml's gives?"""

import numpy as np
import pyarrow as pa
import pytest

from securemllib.errors import UsageError
from securemllib.ml.clustering import PowerIterationClustering


def test_assignments_are_a_frame_of_nodes(deployment, session, tmp_path):
    """Two cliques with one weak tie are told apart, by pyspark.ml's column names and types; a loaded instance gives the same again."""
    cliques = [(10 * side + i, 10 * side + j, 1.0) for side in range(2) for i in range(6) for j in range(i)]
    first, second, weight = zip(*cliques, (0, 10, 0.001), strict=True)
    table = pa.table({"src": pa.array(first, pa.int64()), "dst": pa.array(second, pa.int64()), "tie": weight})
    edges = session.read(deployment.dataset(table, "edges", rows_per_part=20))
    estimator = PowerIterationClustering(k=2, maxIter=5, weightCol="tie")
    found = estimator.assignClusters(edges)
    assert found.dtypes.to_dict() == {"id": np.dtype("int64"), "cluster": np.dtype("int32")}
    assert found["id"].tolist() == [*range(6), *range(10, 16)]
    groups = found["cluster"].to_numpy().reshape(2, 6)
    assert (groups == groups[:, :1]).all()
    assert groups[0, 0] != groups[1, 0]
    estimator.save(str(tmp_path / "walk"))
    again = PowerIterationClustering.load(str(tmp_path / "walk"))
    assert (again.uid, again.getK(), again.getWeightCol()) == (estimator.uid, 2, "tie")
    assert again.assignClusters(edges).equals(found)
    with pytest.raises(UsageError, match="an integer"):
        PowerIterationClustering(srcCol="tie").assignClusters(edges)
