"""Frequent patterns, named as in ``pyspark.ml.fpm``."""

from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pyspark.ml import fpm as original
from pyspark.ml.fpm import _FPGrowthParams
from pyspark.ml.param import Params
from pyspark.sql.types import ArrayType, DataType, IntegralType, StringType

from securemllib.algorithms.fp_growth_sets import rules_of
from securemllib.algorithms.items import shown
from securemllib.algorithms.prefix_span_sequences import Patterns
from securemllib.ml.base import SecureEstimator, SecureModel
from securemllib.ml.checks import job_params, require_new, require_sealed
from securemllib.ml.features.base import Kind, require_kind
from securemllib.ml.mirror import converted, mirrors
from securemllib.ml.persistence import Persistent
from securemllib.ml.release import summary_values
from securemllib.spark.dataframe import SecureDataFrame
from securemllib.spark.jobs import Request
from securemllib.wire.job import OutputKind
from securemllib.wire.plan import ApplyModel

__all__ = ["FPGrowth", "FPGrowthModel", "PrefixSpan"]


def _is_set(kind: DataType) -> bool:
    return isinstance(kind, ArrayType) and isinstance(kind.elementType, StringType | IntegralType)


_ITEMS = Kind("an array of strings or integers", _is_set)
_SEQUENCES = Kind("an array of arrays of strings or integers", lambda kind: isinstance(kind, ArrayType) and _is_set(kind.elementType))


class PlainFPGrowthModel:
    """The frequent sets of a released model, and the rules between them; pandas frames, because Spark is the host.

    Args:
        model: The algorithm's own model.
        confidence: What rules have at least.
    """

    def __init__(self, model: Any, confidence: float) -> None:
        self.model = model
        self._confidence = confidence
        self._items = np.array(shown(model.vocabulary, integers=model.integers), dtype=object)

    @property
    def freqItemsets(self) -> pd.DataFrame:
        """``items``, the least frequent one first, and ``freq``, the rows that hold them all."""
        levels = list(self.model.itemsets.levels())
        counts = [count for _, level in levels for count in level.tolist()]
        return pd.DataFrame({"items": self._named(row for sets, _ in levels for row in sets), "freq": counts})

    @property
    def associationRules(self) -> pd.DataFrame:
        """``antecedent``, ``consequent``, ``confidence``, ``lift`` and ``support`` of each rule."""
        single = next((counts for _, counts in self.model.itemsets.levels()), np.zeros(0))
        frames = []
        for rules in rules_of(self.model.itemsets, self._confidence):
            confidence = rules.both / rules.before
            frames.append(
                pd.DataFrame(
                    {
                        "antecedent": self._named(rules.antecedents),
                        "consequent": self._named(rules.consequents[:, None]),
                        "confidence": confidence,
                        "lift": confidence / (single[rules.consequents] / self.model.rows),
                        "support": rules.both / self.model.rows,
                    }
                )
            )
        columns = ["antecedent", "consequent", "confidence", "lift", "support"]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)

    def _named(self, sets: Any) -> list[list[Any]]:
        return [self._items[row[::-1]].tolist() for row in sets]


@mirrors(original.FPGrowthModel)
class FPGrowthModel(SecureModel, _FPGrowthParams):
    """A sealed model of `FPGrowth`."""

    CHANGEABLE: ClassVar[tuple[str, ...]] = ("minConfidence",)

    def _transform(self, dataset: Any) -> Any:
        frame = require_sealed(dataset, "FPGrowthModel.transform")
        column, outputs = str(converted(self, "itemsCol")), self.outputs_of(self)
        require_kind(frame, [column], _ITEMS)
        require_new(frame, *outputs.values())
        step = ApplyModel(
            model=self.sealed.reference,
            input_columns=(column,),
            outputs=outputs,
            params={name: converted(self, name) for name in self.CHANGEABLE},
        )
        kind = frame.schema[column].dataType if frame.has_schema else ArrayType(StringType())
        return frame.apply(step, dict.fromkeys(outputs.values(), kind), self.sealed, self._pieces)

    def _plain(self, model: Any) -> PlainFPGrowthModel:
        return PlainFPGrowthModel(model, float(converted(self, "minConfidence")))


@mirrors(original.FPGrowth)
class FPGrowth(SecureEstimator, _FPGrowthParams):
    """Frequent sets of items and the rules between them, as ``pyspark.ml.fpm.FPGrowth``."""

    MODEL = FPGrowthModel

    def _inputs(self, frame: SecureDataFrame) -> dict[str, str]:
        column = str(converted(self, "itemsCol"))
        require_kind(frame, [column], _ITEMS)
        return {"input0": column}


@mirrors(original.PrefixSpan)
class PrefixSpan(Params, Persistent):
    """Frequent sequential patterns, as ``pyspark.ml.fpm.PrefixSpan``."""

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(minSupport=0.1, maxPatternLength=10, maxLocalProjDBSize=32000000, sequenceCol="sequence")

    def findFrequentSequentialPatterns(self, dataset: Any) -> pd.DataFrame:
        """Return a frame with the ``sequence`` and ``freq`` of each pattern, short ones first; the policy must have the output ``summary``.

        Args:
            dataset: A `SecureDataFrame` with a column of sequences: lists of lists of texts or integers.

        Raises:
            PolicyError: No rule has the output ``summary`` for this operation, or a pattern is of fewer rows than the policies ask for.
        """
        name, column = type(self).__name__, str(converted(self, "sequenceCol"))
        frame = require_sealed(dataset, f"{name}.findFrequentSequentialPatterns")
        params = job_params(name, self)
        require_kind(frame, [column], _SEQUENCES)
        outputs = ((OutputKind.SUMMARY, None, ()),)
        request = Request(operation=name, params=params, inputs={"input0": column}, plan=frame.plan, outputs=outputs)
        found = summary_values(name, frame.session.run(frame, request).trees.get(OutputKind.SUMMARY))
        patterns = Patterns(**{field: found[field] for field in ("parents", "items", "joins", "counts")})
        sequences = patterns.sequences(shown(found["vocabulary"], integers=found["integers"]))
        return pd.DataFrame({"sequence": pd.Series(sequences, dtype=object), "freq": patterns.counts})
