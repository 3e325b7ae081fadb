"""Power iteration clustering; `securemllib.ml.clustering` offers it under pyspark.ml's name."""

from typing import TYPE_CHECKING, Any

from pyspark.ml import clustering as original
from pyspark.ml.clustering import _PowerIterationClusteringParams
from pyspark.sql.types import IntegerType, LongType

from securemllib.ml.checks import inputs_of, job_params, require_columns, require_sealed
from securemllib.ml.features.base import Kind, require_kind
from securemllib.ml.mirror import mirrors
from securemllib.ml.persistence import Persistent
from securemllib.ml.release import summary_values
from securemllib.spark.jobs import Request
from securemllib.wire.job import OutputKind

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PowerIterationClustering"]

_NODE = Kind("an integer", lambda kind: isinstance(kind, IntegerType | LongType))


@mirrors(original.PowerIterationClustering)
class PowerIterationClustering(_PowerIterationClusteringParams, Persistent):
    """Nodes of a graph in groups, as ``pyspark.ml.clustering.PowerIterationClustering``."""

    def assignClusters(self, dataset: Any) -> "pd.DataFrame":
        """Return a frame with ``id`` and ``cluster`` of each node; the policy must have the output ``summary``.

        Args:
            dataset: A `SecureDataFrame` of edges: two columns of integers, and one of affinities; each is 1 without.

        Raises:
            PolicyError: No rule has the output ``summary`` for this operation.
        """
        import pandas as pd

        name = type(self).__name__
        frame = require_sealed(dataset, f"{name}.assignClusters")
        ends = inputs_of(self, {"srcCol": "input0", "dstCol": "input1"})
        weights = inputs_of(self, {"weightCol": "weight"})
        params = job_params(name, self)
        require_kind(frame, list(ends.values()), _NODE)
        require_columns(frame, weights)
        request = Request(
            operation=name,
            params=params,
            inputs=ends | weights,
            plan=frame.plan,
            outputs=((OutputKind.SUMMARY, None, ()),),
            dtype="float64",
        )
        found = summary_values(name, frame.session.run(frame, request).trees.get(OutputKind.SUMMARY))
        return pd.DataFrame({"id": found["ids"], "cluster": found["clusters"].astype("int32")})
