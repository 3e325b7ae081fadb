r"""Families and links of generalized linear models, over arrays of rows.

A family says how a label scatters around its mean :math:`\mu`: the variance is :math:`\mu^p` for a Tweedie family of power
:math:`p` (0 is Gaussian, 1 Poisson, 2 gamma) and :math:`\mu (1 - \mu)` for a binomial one. A link :math:`g` makes the linear predictor
:math:`\eta = g(\mu)`; a power link is :math:`\mu^q`, and the logarithm for :math:`q = 0`.

Every formula, starting value and bound is that of ``pyspark.ml.regression.GeneralizedLinearRegression``, whose starting values are those
of R's ``glm``.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, ndtr, ndtri, xlog1py, xlogy

from securemllib.errors import DataError

__all__ = ["FAMILY_NAMES", "LINK_NAMES", "Binomial", "Distribution", "Family", "Link", "Tweedie", "distribution_of", "supports"]

Vector = NDArray[np.float64]

# Bounds of means, and the least mean of a starting value, in MLlib.
_LEAST = 1e-16
_DELTA = 0.1
_MOST = float(np.finfo(np.float64).max)

_POWERS = {"gaussian": 0.0, "poisson": 1.0, "gamma": 2.0}
_LINK_POWERS = {"identity": 1.0, "log": 0.0, "inverse": -1.0, "sqrt": 0.5}
_SUPPORTED = {
    "gaussian": ("identity", "log", "inverse"),
    "binomial": ("logit", "probit", "cloglog"),
    "poisson": ("log", "identity", "sqrt"),
    "gamma": ("inverse", "identity", "log"),
}
FAMILY_NAMES = (*_SUPPORTED, "tweedie")
LINK_NAMES = (*_LINK_POWERS, "logit", "probit", "cloglog")


class Family(Protocol):
    """How labels scatter around their mean."""

    def start(self, label: Vector, weight: Vector) -> Vector:
        """Return ``(n,)`` means to start from; `DataError` where a label is none of the family's."""

    def project(self, mean: Vector) -> Vector:
        """Return the means, moved into the family's domain."""

    def variance(self, mean: Vector) -> Vector:
        """Return the variance of a label by its mean."""

    def deviance(self, label: Vector, mean: Vector) -> Vector:
        """Return the deviances of labels of weight 1."""

    def likelihood(self, label: Vector, mean: Vector, weight: Vector) -> Vector:
        """Return the sums over rows that the likelihood is computed from."""

    def aic(self, likelihood: Vector, *, deviance: float, rows: int, weight: float) -> float | None:
        """Return Akaike's criterion without the term of the coefficients; None where it has no closed form.

        Args:
            likelihood: The sums of `likelihood` over all rows.
            deviance: The model's.
            rows: The number of rows.
            weight: The sum of weights.
        """


class Link(Protocol):
    """How a mean becomes a linear predictor."""

    def link(self, mean: Vector) -> Vector:
        """Return the linear predictors."""

    def derivative(self, mean: Vector) -> Vector:
        """Return the derivatives of `link`."""

    def unlink(self, predictor: Vector) -> Vector:
        """Return the means."""


@dataclass(frozen=True, slots=True)
class Tweedie:
    """The variance is a power of the mean: Gaussian for 0, Poisson for 1, gamma for 2."""

    power: float

    def start(self, label: Vector, weight: Vector) -> Vector:
        """Return the labels, with 0 moved to where the variance is positive."""
        del weight
        invalid = label < 0.0 if 1.0 <= self.power < 2.0 else label <= 0.0
        if self.power >= 1.0 and invalid.any():
            wanted = "negative" if self.power < 2.0 else "0 or negative"
            raise DataError(f"{int(invalid.sum())} rows have a label that is {wanted}, which the family does not have", code="data.label")
        if self.power == 1.0:
            return np.maximum(label, _DELTA)
        return label if self.power == 0.0 else np.where(label == 0.0, _DELTA, label)

    def project(self, mean: Vector) -> Vector:
        """Return finite means, which are positive but for the Gaussian family."""
        return np.clip(mean, -_MOST if self.power == 0.0 else _LEAST, _MOST)

    def variance(self, mean: Vector) -> Vector:
        """Return the power of the means."""
        return np.ones_like(mean) if self.power == 0.0 else mean**self.power

    def deviance(self, label: Vector, mean: Vector) -> Vector:
        """Return twice the likelihood that is lost by the mean not being the label."""
        if self.power == 0.0:
            return (label - mean) ** 2
        if self.power == 1.0:
            return 2.0 * (xlogy(label, label / mean) - (label - mean))
        if self.power == 2.0:
            return -2.0 * (np.log(label / mean) - (label - mean) / mean)
        least = np.maximum(label, _DELTA) if 1.0 <= self.power < 2.0 else label
        one, two = 1.0 - self.power, 2.0 - self.power
        return 2.0 * (label * (least**one - mean**one) / one - (label**two - mean**two) / two)

    def likelihood(self, label: Vector, mean: Vector, weight: Vector) -> Vector:
        """Return one sum for Gaussian and Poisson, three for gamma, none for others."""
        if self.power == 0.0:
            return np.array([np.log(weight).sum()])
        if self.power == 1.0:
            count = np.trunc(label)
            return np.array([weight @ (xlogy(count, mean) - mean - gammaln(count + 1.0))])
        if self.power == 2.0:
            return np.array([weight @ np.log(mean), weight @ np.log(label), weight @ (label / mean)])
        return np.zeros(0)

    def aic(self, likelihood: Vector, *, deviance: float, rows: int, weight: float) -> float | None:
        """Return the criterion of the three families with a closed form."""
        if self.power == 0.0:
            scatter = deviance / rows * 2.0 * math.pi
            return float(rows) * ((math.log(scatter) if scatter > 0.0 else -math.inf) + 1.0) + 2.0 - float(likelihood[0])
        if self.power == 1.0:
            return -2.0 * float(likelihood[0])
        if self.power == 2.0:
            # The densities are of the shape 1 / dispersion and the scale mean * dispersion.
            shape = weight / deviance if deviance > 0.0 else math.inf
            log_mean, log_label, ratio = (float(value) for value in likelihood)
            constant = shape * math.log(shape) - math.lgamma(shape) if math.isfinite(shape) else math.inf
            return 2.0 - 2.0 * (weight * constant - shape * (log_mean + ratio) + (shape - 1.0) * log_label)
        return None


@dataclass(frozen=True, slots=True)
class Binomial:
    """Shares of successes; the weight is the number of trials."""

    def start(self, label: Vector, weight: Vector) -> Vector:
        """Return the shares after half a success and half a failure more."""
        mean = np.asarray((weight * label + 0.5) / (weight + 1.0))
        invalid = ~((mean > 0.0) & (mean < 1.0))
        if invalid.any():
            raise DataError(f"{int(invalid.sum())} rows have a label that is no share of successes", code="data.label")
        return mean

    def project(self, mean: Vector) -> Vector:
        """Return means between 0 and 1."""
        return np.clip(mean, _LEAST, 1.0 - _LEAST)

    def variance(self, mean: Vector) -> Vector:
        """Return that of one trial."""
        return mean * (1.0 - mean)

    def deviance(self, label: Vector, mean: Vector) -> Vector:
        """Return twice the likelihood that is lost by the mean not being the label."""
        rest = 1.0 - label
        return np.asarray(2.0 * (xlogy(label, label / mean) + xlogy(rest, rest / (1.0 - mean))), dtype=np.float64)

    def likelihood(self, label: Vector, mean: Vector, weight: Vector) -> Vector:
        """Return one sum, of rows whose weight rounds to at least one trial."""
        # Halves are rounded up, as Java does.
        trials, hits = np.floor(weight + 0.5), np.floor(label * weight + 0.5)
        used = trials > 0.0
        ways = gammaln(trials + 1.0) - gammaln(hits + 1.0) - gammaln(trials - hits + 1.0)
        return np.array([(ways + xlogy(hits, mean) + xlog1py(trials - hits, -mean))[used].sum()])

    def aic(self, likelihood: Vector, *, deviance: float, rows: int, weight: float) -> float | None:
        """Return minus twice the likelihood."""
        del deviance, rows, weight
        return -2.0 * float(likelihood[0])


@dataclass(frozen=True, slots=True)
class PowerLink:
    """A power of the mean, or its logarithm for the power 0."""

    power: float

    def link(self, mean: Vector) -> Vector:
        """Return the linear predictors."""
        return np.log(mean) if self.power == 0.0 else mean**self.power

    def derivative(self, mean: Vector) -> Vector:
        """Return the derivatives of `link`."""
        return 1.0 / mean if self.power == 0.0 else self.power * mean ** (self.power - 1.0)

    def unlink(self, predictor: Vector) -> Vector:
        """Return the means; NaN where the predictor has none."""
        return np.exp(predictor) if self.power == 0.0 else predictor ** (1.0 / self.power)


@dataclass(frozen=True, slots=True)
class LogitLink:
    """The logarithm of the odds."""

    def link(self, mean: Vector) -> Vector:
        """Return the linear predictors."""
        return np.log(mean / (1.0 - mean))

    def derivative(self, mean: Vector) -> Vector:
        """Return the derivatives of `link`."""
        return 1.0 / (mean * (1.0 - mean))

    def unlink(self, predictor: Vector) -> Vector:
        """Return the means."""
        return 1.0 / (1.0 + np.exp(-predictor))


@dataclass(frozen=True, slots=True)
class ProbitLink:
    """The quantile of the standard normal distribution."""

    def link(self, mean: Vector) -> Vector:
        """Return the linear predictors."""
        return np.asarray(ndtri(mean))

    def derivative(self, mean: Vector) -> Vector:
        """Return the derivatives of `link`."""
        quantile = ndtri(mean)
        return np.asarray(math.sqrt(2.0 * math.pi) * np.exp(0.5 * quantile * quantile))

    def unlink(self, predictor: Vector) -> Vector:
        """Return the means."""
        return np.asarray(ndtr(predictor))


@dataclass(frozen=True, slots=True)
class ComplementaryLogLogLink:
    """The logarithm of minus the logarithm of the share of failures."""

    def link(self, mean: Vector) -> Vector:
        """Return the linear predictors."""
        return np.log(-np.log1p(-mean))

    def derivative(self, mean: Vector) -> Vector:
        """Return the derivatives of `link`."""
        return 1.0 / ((mean - 1.0) * np.log1p(-mean))

    def unlink(self, predictor: Vector) -> Vector:
        """Return the means."""
        return -np.expm1(-np.exp(predictor))


@dataclass(frozen=True, slots=True)
class Distribution:
    """A family with a link.

    Attributes:
        family: The family.
        link: The link.
    """

    family: Family
    link: Link

    @property
    def is_least_squares(self) -> bool:
        """Whether one weighted least squares problem is the whole of it."""
        return self.family == Tweedie(0.0) and self.link == PowerLink(1.0)

    def fitted(self, predictor: Vector) -> Vector:
        """Return the means of linear predictors."""
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            return self.family.project(self.link.unlink(predictor))

    def start(self, label: Vector, weight: Vector) -> Vector:
        """Return the linear predictors to start from."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.link.link(self.family.project(self.family.start(label, weight)))

    def working(self, label: Vector, weight: Vector, predictor: Vector) -> tuple[Vector, Vector]:
        """Return the working weights, and the working residuals: the errors in units of the linear predictor."""
        mean = self.fitted(predictor)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            slope = self.link.derivative(mean)
            working, used = weight / (slope * slope * self.family.variance(mean)), weight > 0.0
            # A row of weight 0 may lie where there is no finite mean.
            return np.where(used, working, 0.0), np.where(used, (label - mean) * slope, 0.0)


def distribution_of(family: str, link: str | None, variance_power: float, link_power: float | None) -> Distribution:
    """Return the family and link of names in lower case.

    Args:
        family: One of `FAMILY_NAMES`.
        link: One of `LINK_NAMES`, or None for the family's own; it does not count for ``tweedie``.
        variance_power: Of ``tweedie``.
        link_power: Of the link of ``tweedie``; None for its own, which is one less the power of the variance.
    """
    if family == "tweedie":
        return Distribution(Tweedie(variance_power), PowerLink(1.0 - variance_power if link_power is None else link_power))
    name = _SUPPORTED[family][0] if link is None else link
    others: dict[str, Link] = {"logit": LogitLink(), "probit": ProbitLink(), "cloglog": ComplementaryLogLogLink()}
    return Distribution(
        Binomial() if family == "binomial" else Tweedie(_POWERS[family]),
        others[name] if name in others else PowerLink(_LINK_POWERS[name]),
    )


def supports(family: str, link: str) -> bool:
    """Return whether a family other than ``tweedie`` goes with a link."""
    return link in _SUPPORTED[family]
