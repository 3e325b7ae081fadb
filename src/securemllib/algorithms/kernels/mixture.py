"""The passes of a Gaussian mixture over its rows: compiled, or in numpy."""

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Array
from securemllib.algorithms.kernels.library import INTEGER, array_of, function, padded

__all__ = ["products_by_share", "products_by_share_twin", "whitened_squares", "whitened_squares_twin"]

Floats = NDArray[np.float64]

# As in products.h and mixture.c.
_WIDEST, _TOGETHER = 128, 4

_FLOATS, _SUMS = array_of(np.float32), array_of(np.float64, written=True)
_SQUARES = function("mixture", "mixture_squares", _FLOATS, INTEGER, INTEGER, _FLOATS, _FLOATS, INTEGER, _SUMS)
_PRODUCTS = function("mixture", "mixture_products", _FLOATS, _FLOATS, INTEGER, INTEGER, _FLOATS, INTEGER, _SUMS)


def whitened_squares(features: Array, means: Array, roots: Array) -> Floats:
    """Return the squared lengths ``(k, n)`` of rows' differences to means times roots.

    Args:
        features: ``(n, d)`` rows.
        means: ``(k, d)``, of the same dtype.
        roots: ``(k, d, d)``, lower triangular, of the same dtype.
    """
    rows, columns = features.shape
    if _SQUARES is None or not _fits(features, means, roots):
        return whitened_squares_twin(features, means, roots)
    filled = np.zeros((len(means), columns, -(-columns // _TOGETHER) * _TOGETHER), dtype=np.float32)
    filled[:, :, :columns] = roots
    squares = np.empty((len(means), rows))
    _SQUARES(features, rows, columns, means, filled, len(means), squares)
    return squares


def products_by_share(features: Array, shares: Array, means: Array) -> tuple[Floats, Floats]:
    """Return the sums of rows' differences to means ``(k, d)`` and of their products ``(k, d, d)``, times the rows' shares.

    Args:
        features: ``(n, d)`` rows.
        shares: ``(k, n)``, at least 0.
        means: ``(k, d)``; all are of one dtype.
    """
    rows, columns = features.shape
    if _PRODUCTS is None or not _fits(features, means, shares) or shares.shape != (len(means), rows):
        return products_by_share_twin(features, shares, means)
    width = padded(columns + 1)
    found = np.zeros((len(means), width, width))
    _PRODUCTS(features, np.ascontiguousarray(shares), rows, columns, means, len(means), found)
    products = np.triu(found[:, :columns, :columns])
    products += np.triu(products, 1).swapaxes(1, 2)
    return found[:, :columns, columns], products


def whitened_squares_twin(features: Array, means: Array, roots: Array) -> Floats:
    """Return what `whitened_squares` does, with any roots."""
    squares = np.empty((len(means), len(features)))
    for found, mean, root in zip(squares, means, roots, strict=True):
        white = (features - mean) @ root
        found[:] = np.einsum("ij,ij->i", white, white)
    return squares


def products_by_share_twin(features: Array, shares: Array, means: Array) -> tuple[Floats, Floats]:
    """Return what `products_by_share` does."""
    sums, products = np.empty(means.shape), np.empty((*means.shape, features.shape[1]))
    for index, mean in enumerate(means):
        root = np.sqrt(shares[index])
        rooted = (features - mean) * root[:, np.newaxis]
        sums[index] = root @ rooted
        # numpy computes A.T @ A by the symmetric product of BLAS, at half the cost.
        products[index] = rooted.T @ rooted
    return sums, products


def _fits(features: Array, *others: Array) -> bool:
    return features.flags.c_contiguous and features.shape[1] < _WIDEST and {each.dtype for each in (features, *others)} == {np.dtype("f4")}
