"""Recommenders, named as in ``pyspark.ml.recommendation``."""

from typing import TYPE_CHECKING, Any, ClassVar, Self

from pyspark.ml import recommendation as original
from pyspark.ml.recommendation import _ALSModelParams, _ALSParams
from pyspark.sql.types import FloatType

from securemllib.algorithms.codec import from_tree
from securemllib.algorithms.evaluation.recommendations import Recommendations
from securemllib.errors import UsageError
from securemllib.ml.base import SecureEstimator, SecureModel
from securemllib.ml.checks import inputs_of, require_columns, require_new, require_sealed
from securemllib.ml.mirror import converted, mirrors
from securemllib.ml.plain_factors import PlainALSModel, recommendations_frame
from securemllib.spark.column_types import VECTOR
from securemllib.spark.dataframe import SecureDataFrame
from securemllib.spark.jobs import Request
from securemllib.spark.session import SecureSession
from securemllib.wire.encoding import Value
from securemllib.wire.job import OutputKind
from securemllib.wire.plan import ApplyModel
from securemllib.wire.result import SealedModel

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ALS", "ALSModel"]

_ID_ROLES = {"userCol": "user", "itemCol": "item"}
_RECOMMENDATIONS = "recommendations"


@mirrors(original.ALSModel)
class ALSModel(SecureModel, _ALSModelParams):
    """A sealed model of `ALS`."""

    CHANGEABLE: ClassVar[tuple[str, ...]] = ("coldStartStrategy",)

    _ratings: SecureDataFrame | None = None

    def __init__(self, sealed: SealedModel | None = None, session: SecureSession | None = None) -> None:
        super().__init__(sealed, session)
        # Those of the estimator, which a saved model does not name.
        self._setDefault(userCol="user", itemCol="item", coldStartStrategy="nan")

    def recommendForAllUsers(self, numItems: int) -> "pd.DataFrame":
        """Return the best items of every user of the training; the policy must have the output ``summary``.

        Only a model that was trained in this program knows the ratings; for a loaded one use `recommendForUserSubset`.
        """
        return self.recommendForUserSubset(self._trained_ratings("recommendForUserSubset"), numItems)

    def recommendForAllItems(self, numUsers: int) -> "pd.DataFrame":
        """Return the best users of every item of the training; the policy must have the output ``summary``.

        Only a model that was trained in this program knows the ratings; for a loaded one use `recommendForItemSubset`.
        """
        return self.recommendForItemSubset(self._trained_ratings("recommendForItemSubset"), numUsers)

    def recommendForUserSubset(self, dataset: Any, numItems: int) -> "pd.DataFrame":
        """Return the best items of each user in a dataset, once; the policy must have the output ``summary``.

        Args:
            dataset: A `SecureDataFrame` with the user column.
            numItems: Items a user, at most.

        Returns:
            A frame with the user column and ``recommendations``, lists of pairs (item, rating), best first.

        Raises:
            PolicyError: No rule allows it.
        """
        return self._recommend(dataset, "user", numItems)

    def recommendForItemSubset(self, dataset: Any, numUsers: int) -> "pd.DataFrame":
        """Return the best users of each item in a dataset, once, as `recommendForUserSubset` does of users."""
        return self._recommend(dataset, "item", numUsers)

    def _recommend(self, dataset: Any, side: str, count: int) -> "pd.DataFrame":
        if count < 1:
            raise UsageError(f"The number of recommendations must be at least 1, not {count}.", code="usage.param")
        frame = require_sealed(dataset, f"{type(self).__name__}.recommend")
        name = str(converted(self, f"{side}Col"))
        require_columns(frame, {side: name})
        column = f"{_RECOMMENDATIONS}_{self.uid}"
        step = ApplyModel(
            model=self.sealed.reference,
            input_columns=(name,),
            outputs={_RECOMMENDATIONS: column},
            params={"recommend": side, "count": count},
        )
        applied = frame.apply(step, {column: VECTOR}, self.sealed, self._pieces)
        request = Request(
            operation="Recommender",
            params={},
            inputs={"features": column},
            plan=applied.plan,
            outputs=((OutputKind.SUMMARY, None, ()),),
            # Ids are integers of up to 31 bits.
            dtype="float64",
        )
        found = from_tree(Recommendations, applied.session.run(applied, request).trees.get(OutputKind.SUMMARY))
        return recommendations_frame(name, found.ids, found.partners, found.scores)

    def _trained_ratings(self, instead: str) -> SecureDataFrame:
        if self._ratings is None:
            raise UsageError(
                "A loaded model does not know the ratings that it was trained on.",
                next_step=f"Use `{instead}` with the dataset.",
                code="usage.no_summary",
            )
        return self._ratings

    def _trained_on(self, frame: SecureDataFrame, released: Value) -> Self:
        del released
        self._ratings = frame
        return self

    def _transform(self, dataset: Any) -> Any:
        frame = require_sealed(dataset, f"{type(self).__name__}.transform")
        inputs, outputs = inputs_of(self, _ID_ROLES), self.outputs_of(self)
        require_columns(frame, inputs)
        require_new(frame, *outputs.values())
        step = ApplyModel(
            model=self.sealed.reference,
            input_columns=(inputs["user"], inputs["item"]),
            outputs=outputs,
            params={name: converted(self, name).lower() for name in self.CHANGEABLE},
        )
        return frame.apply(step, dict.fromkeys(outputs.values(), FloatType()), self.sealed, self._pieces)

    def _plain(self, model: Any) -> PlainALSModel:
        return PlainALSModel(model, str(converted(self, "userCol")), str(converted(self, "itemCol")))


@mirrors(original.ALS)
class ALS(SecureEstimator, _ALSParams):
    """Alternating least squares, as ``pyspark.ml.recommendation.ALS``."""

    MODEL = ALSModel
    ROLES: ClassVar[dict[str, str]] = {**_ID_ROLES, "ratingCol": "rating"}

    def setNumBlocks(self, value: int) -> Self:
        """Sets both `numUserBlocks` and `numItemBlocks`."""
        self._set(numUserBlocks=value)
        self._set(numItemBlocks=value)
        return self
