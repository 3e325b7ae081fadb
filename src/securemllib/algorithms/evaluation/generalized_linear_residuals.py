r"""Residuals of a generalized linear model, row by row.

Objective: with the label :math:`y`, its predicted mean :math:`\mu` and its weight :math:`w`, the deviance residual
:math:`\pm \sqrt{w\, d(y, \mu)}` with the sign of :math:`y - \mu`, Pearson's :math:`(y - \mu) \sqrt{w / V(\mu)}`, and the working residual
:math:`(y - \mu)\, g'(\mu)`.

Equivalence: ``residuals`` of ``pyspark.ml.regression.GeneralizedLinearRegressionSummary``. A row whose label or weight is null has none.

Reveals: nothing: a plan's step computes them inside enclaves, and they are rows, which leave where a policy names their origins.
"""

from dataclasses import dataclass
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from securemllib.algorithms.feature.values import boolean, numbers_of
from securemllib.algorithms.glm_families import FAMILY_NAMES, LINK_NAMES, Vector, distribution_of
from securemllib.algorithms.params import require_choice
from securemllib.algorithms.transformer import Column, Transformed
from securemllib.errors import DataError, UsageError

__all__ = ["GeneralizedLinearResiduals"]

_KINDS = ("deviance", "pearson", "working")


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneralizedLinearResiduals:
    """The estimator's Params that name the distribution, and the kind of residual: ``deviance``, ``pearson`` or ``working``."""

    residuals_type: str
    family: str = "gaussian"
    link: str | None = None
    variance_power: float = 0.0
    link_power: float | None = None

    def __post_init__(self) -> None:
        require_choice(self, "residuals_type", _KINDS)
        for name, choices in (("family", FAMILY_NAMES), ("link", (*LINK_NAMES, None))):
            value = getattr(self, name)
            object.__setattr__(self, name, value.lower() if isinstance(value, str) else value)
            if getattr(self, name) not in choices:
                raise UsageError(f"{name} must be one of {', '.join(filter(None, choices))}, not {value!r}", code="usage.param")

    def transform(self, columns: tuple[Column, ...]) -> Transformed:
        """Return ``output``: the residual of each row, from its label, its prediction and, where there is a third column, its weight."""
        if len(columns) not in (2, 3):
            raise DataError(f"Residuals are of two or three columns, not {len(columns)}.", code="data.length")
        label, mean = (numbers_of(column, name) for column, name in zip(columns, ("label", "prediction"), strict=False))
        weight = numbers_of(columns[2], "weight") if len(columns) > 2 else np.ones_like(label)
        missing = reduce(np.logical_or, (boolean(pc.call_function("is_null", [column.values])) for column in columns))
        # What is not defined is NaN or infinite, as in MLlib.
        with np.errstate(all="ignore"):
            values = self._residuals(label, mean, weight)
        return Transformed(columns={"output": Column(pa.array(values, mask=missing))})

    def _residuals(self, label: Vector, mean: Vector, weight: Vector) -> Vector:
        distribution = distribution_of(self.family, self.link, self.variance_power, self.link_power)
        if self.residuals_type == "deviance":
            size = np.sqrt(np.maximum(weight * distribution.family.deviance(label, mean), 0.0))
            return np.where(label > mean, size, -size)
        if self.residuals_type == "pearson":
            return (label - mean) * np.sqrt(weight) / np.sqrt(distribution.family.variance(mean))
        return (label - mean) * distribution.link.derivative(mean)
