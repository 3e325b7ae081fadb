"""The inner steps of a Gaussian mixture: densities, responsibilities and sums of rows.

Whitened differences of rows and means keep their digits wherever the rows lie, and densities are added as logarithms, so that a row far
from every mean has responsibilities too.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, qr

from securemllib.algorithms.base import Array
from securemllib.algorithms.kernels.mixture import products_by_share, whitened_squares
from securemllib.errors import DataError

__all__ = ["Components", "Sums", "components_of", "exact", "expectation", "log_densities", "responsibilities", "slices_of"]

Floats = NDArray[np.float64]

# Responsibilities of a slice's rows: with what they are computed from, about what a core's second-level cache holds.
_CACHE_BYTES = 1 << 19
_FEWEST_ROWS = 64
# Squares of these, and of their inverses, and sums of many of them are numbers of float32.
_LARGEST = 2.0**50


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """Gaussians, ready for densities.

    Attributes:
        means: ``(k, d)``.
        roots: ``(k, d, d)``, lower triangular: a difference to a mean times its root is whitened, and has no part in directions without
            variance.
        constants: ``(k,)`` logarithms of the weights times the densities at the means.
    """

    means: Floats
    roots: Floats
    constants: Floats


@dataclass(slots=True, kw_only=True)
class Sums:
    """Responsibilities ``(k,)``, their sums of differences to the means ``(k, d)`` and of those's products ``(k, d, d)``, likelihood."""

    weight: Floats
    sums: Floats
    products: Floats
    log_likelihood: float


def components_of(weights: Floats, means: Floats, covariances: Floats) -> Components:
    """Return what densities are computed from.

    Raises:
        DataError: A component has no variance in any direction, or its moments are no numbers.
    """
    if not np.isfinite(covariances).all():
        raise DataError("a component's moments are no numbers", code="data.diverged")
    values, vectors = zip(*(eigh(covariance) for covariance in covariances), strict=True)
    columns = means.shape[1]
    roots, constants = np.zeros_like(covariances), np.zeros(len(weights))
    for index, (value, vector) in enumerate(zip(values, vectors, strict=True)):
        # MLlib's MultivariateGaussian takes smaller eigenvalues for rounding, and the pseudo-determinant for the determinant.
        kept = value > np.finfo(np.float64).eps * value[-1] * columns
        if not kept.any():
            raise DataError(f"component {index} has no variance in any direction", code="data.collapsed")
        # A rotation of what is whitened changes no length, and makes half of the root zeros.
        roots[index] = qr((vector * np.where(kept, value, np.inf) ** -0.5).T, mode="r")[0].T
        constants[index] = -0.5 * (columns * math.log(2.0 * math.pi) + float(np.log(value[kept]).sum()))
    with np.errstate(divide="ignore"):
        return Components(means=means, roots=roots, constants=constants + np.log(weights))


def exact(features: Array, offset: Floats, components: Components) -> Array:
    """Return rows in float64 where the scale of other parts leaves the range of their own precision, otherwise as they are."""
    shifts = np.abs(components.means - offset).max(initial=0.0)
    sizes = np.abs(components.roots).max(axis=(1, 2))
    return features if shifts < _LARGEST and sizes.max() < _LARGEST and sizes.min() > 1.0 / _LARGEST else features.astype(np.float64)


def slices_of(rows: int, components: Components) -> Iterator[slice]:
    """Yield slices that cover the rows in order, whose responsibilities fit a cache."""
    size = max(_CACHE_BYTES // (8 * len(components.means)), _FEWEST_ROWS)
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def log_densities(features: Array, offset: Floats, components: Components) -> Floats:
    """Return the logarithms of weights times densities ``(k, n)``.

    Args:
        features: ``(n, d)``; a row is ``features[i] + offset``.
        offset: ``(d,)``.
        components: The Gaussians.
    """
    found = whitened_squares(features, _shifted(components, offset, features), components.roots.astype(features.dtype))
    found *= -0.5
    found += components.constants[:, np.newaxis]
    return found


def responsibilities(logs: Floats) -> Floats:
    """Turn logarithms of weights times densities ``(k, n)`` into rows' shares of the components, and return the rows' log likelihood."""
    top: Floats = logs.max(axis=0)
    logs -= top
    np.exp(logs, out=logs)
    density = logs.sum(axis=0)
    logs /= density
    top += np.log(density)
    return top


def expectation(features: Array, offset: Floats, weight: Floats | None, components: Components) -> Sums:
    """Return the sums that the next means and covariances are computed from."""
    count, columns = components.means.shape
    total = Sums(weight=np.zeros(count), sums=np.zeros((count, columns)), products=np.zeros((count, columns, columns)), log_likelihood=0.0)
    means = _shifted(components, offset, features)
    for rows in slices_of(len(features), components):
        shares = log_densities(features[rows], offset, components)
        likelihood = responsibilities(shares)
        if weight is not None:
            shares *= weight[rows]
        total.log_likelihood += float(likelihood.sum() if weight is None else weight[rows] @ likelihood)
        total.weight += shares.sum(axis=1)
        sums, products = products_by_share(features[rows], shares.astype(features.dtype), means)
        total.sums += sums
        total.products += products
    return total


def _shifted(components: Components, offset: Floats, features: Array) -> Array:
    return (components.means - offset).astype(features.dtype)
