"""The products of rows: compiled, or in numpy."""

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.base import Array
from securemllib.algorithms.kernels.library import INTEGER, array_of, function, padded

__all__ = ["products", "products_twin"]

Vector = NDArray[np.float64]

# The widest rows of the compiled products, with target and one, as in products.c; BLAS is faster on wider ones.
_WIDEST = 128
# Rows whose products are added up in their own precision.
_PRODUCT_ROWS = 4096

_PRODUCTS = function(
    "products", "products", array_of(np.float32), array_of(np.float64, optional=True), array_of(np.float64), INTEGER, INTEGER,
    array_of(np.float64, written=True),
)  # fmt: skip


def products(features: Array, weight: Vector | None, target: Vector) -> tuple[Vector, Vector, Vector]:
    """Return the weighted sums of rows' products with themselves ``(d, d)``, of rows times target ``(d,)``, and of rows ``(d,)``.

    Args:
        features: ``(n, d)`` rows.
        weight: ``(n,)`` weights of at least 0, or None where every row weighs 1.
        target: ``(n,)``, rounded to the rows' type.
    """
    rows, columns = features.shape
    width = padded(columns + 2)
    known = {len(target), rows if weight is None else len(weight)} == {rows}
    if _PRODUCTS is None or features.dtype != np.float32 or width > _WIDEST or not known:
        return products_twin(features, weight, target)
    found = np.zeros((width, width))
    _PRODUCTS(features, weight, target, rows, columns, found)
    return found[:columns, :columns], found[:columns, columns], found[:columns, columns + 1]


def products_twin(features: Array, weight: Vector | None, target: Vector) -> tuple[Vector, Vector, Vector]:
    """Return what `products` does."""
    columns = features.shape[1]
    gram, edges = np.zeros((columns, columns)), np.zeros((2, columns))
    for start in range(0, len(features), _PRODUCT_ROWS):
        rows = slice(start, start + _PRODUCT_ROWS)
        extra, rooted = np.stack((target[rows], np.ones_like(target[rows]))), features[rows]
        if weight is not None:
            root = np.sqrt(weight[rows])
            extra, rooted = extra * root, rooted * root.astype(features.dtype)[:, np.newaxis]
        # numpy computes A.T @ A by the symmetric product of BLAS, at half the cost.
        gram += rooted.T @ rooted
        edges += extra.astype(features.dtype) @ rooted
    return gram, edges[0], edges[1]
