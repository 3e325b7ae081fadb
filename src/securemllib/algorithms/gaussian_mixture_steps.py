"""The inner steps of a Gaussian mixture: densities, responsibilities and sums of rows, all by products of matrices.

Whitened differences of rows and means keep their digits wherever the rows lie, and densities are added as logarithms, so that a row far
from every mean has responsibilities too.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from securemllib.algorithms.base import Array
from securemllib.errors import DataError

__all__ = ["Components", "Sums", "components_of", "expectation", "log_densities", "slices_of"]

Floats = NDArray[np.float64]

# Differences of a slice's rows to all means: about what a core's second-level cache holds.
_CACHE_BYTES = 1 << 20
_FEWEST_ROWS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """Gaussians, ready for densities.

    Attributes:
        means: ``(k, d)``.
        roots: ``(k, d, d)``: a difference to a mean times its root is whitened, and has no part in directions without variance.
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
        DataError: A component has no variance in any direction.
    """
    values, vectors = zip(*(eigh(covariance) for covariance in covariances), strict=True)
    columns = means.shape[1]
    roots, constants = np.zeros_like(covariances), np.zeros(len(weights))
    for index, (value, vector) in enumerate(zip(values, vectors, strict=True)):
        # MLlib's MultivariateGaussian takes smaller eigenvalues for rounding, and the pseudo-determinant for the determinant.
        kept = value > np.finfo(np.float64).eps * value[-1] * columns
        if not kept.any():
            raise DataError(f"component {index} has no variance in any direction", code="data.collapsed")
        roots[index][:, kept] = vector[:, kept] / np.sqrt(value[kept])
        constants[index] = -0.5 * (columns * math.log(2.0 * math.pi) + float(np.log(value[kept]).sum()))
    with np.errstate(divide="ignore"):
        return Components(means=means, roots=roots, constants=constants + np.log(weights))


def slices_of(rows: int, components: Components, itemsize: int) -> Iterator[slice]:
    """Yield slices that cover the rows in order, whose differences to all means fit a cache."""
    size = max(_CACHE_BYTES // (itemsize * max(components.means.size, 1)), _FEWEST_ROWS)
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def log_densities(features: Array, offset: Floats, components: Components) -> tuple[Array, Floats]:
    """Return the differences of rows to all means ``(k, n, d)``, and the logarithms of weights times densities ``(n, k)``.

    Args:
        features: ``(n, d)``; a row is ``features[i] + offset``.
        offset: ``(d,)``.
        components: The Gaussians.
    """
    dtype = features.dtype
    differences = features - (components.means - offset).astype(dtype)[:, np.newaxis, :]
    white = differences @ components.roots.astype(dtype)
    squares = np.einsum("kij,kij->ik", white, white).astype(np.float64)
    return differences, components.constants - 0.5 * squares


def expectation(features: Array, offset: Floats, weight: Floats | None, components: Components) -> Sums:
    """Return the sums that the next means and covariances are computed from."""
    count, columns = components.means.shape
    total = Sums(weight=np.zeros(count), sums=np.zeros((count, columns)), products=np.zeros((count, columns, columns)), log_likelihood=0.0)
    for rows in slices_of(len(features), components, features.itemsize):
        differences, logs = log_densities(features[rows], offset, components)
        top = logs.max(axis=1, keepdims=True)
        shares = np.exp(logs - top)
        density = shares.sum(axis=1, keepdims=True)
        shares /= density
        likelihood = (top + np.log(density))[:, 0]
        if weight is not None:
            shares *= weight[rows, np.newaxis]
        total.log_likelihood += float(likelihood.sum() if weight is None else weight[rows] @ likelihood)
        total.weight += shares.sum(axis=0)
        for index in range(count):
            share = shares[:, index].astype(features.dtype)
            total.sums[index] += share @ differences[index]
            rooted = differences[index] * np.sqrt(share)[:, np.newaxis]
            # numpy computes A.T @ A by the symmetric product of BLAS, at half the cost.
            total.products[index] += rooted.T @ rooted
    return total
