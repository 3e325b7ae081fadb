"""Matrices of numbers as integers of two limbs, and products of integers modulo a prime: compiled, or in numpy.

The leaves of a matrix are its numbers row by row; of a symmetric one those of its upper triangle.
"""

import numpy as np
from numpy.typing import NDArray

from securemllib.algorithms.kernels.library import INTEGER, REAL, array_of, function

__all__ = ["PRIME", "join", "join_twin", "leaves", "residues", "residues_twin", "split", "split_twin"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

PRIME = 2**61 - 1

_FLOATS, _INTEGERS, _INTEGERS_OUT = array_of(np.float64), array_of(np.int64), array_of(np.int64, written=True)
_PLACES = INTEGER, INTEGER, INTEGER, _FLOATS, _FLOATS, INTEGER
_SPLIT = function("limbs", "split", _FLOATS, *_PLACES, _INTEGERS_OUT, _INTEGERS_OUT, result=REAL)
_JOIN = function("limbs", "join", array_of(np.float64, written=True), *_PLACES, _INTEGERS, _INTEGERS)
_RESIDUES = function("limbs", "residues", _INTEGERS, INTEGER, INTEGER, _INTEGERS, _INTEGERS_OUT)


def split(matrix: Floats, symmetric: bool, scales: tuple[Floats, Floats], bits: int, limbs: Integers) -> float:
    """Write the limbs of the leaves of a matrix ``(m, n)``, and return the largest leaf's magnitude: infinity where one has none.

    Args:
        matrix: The matrix.
        symmetric: Whether it is symmetric.
        scales: Powers of two by which rows ``(m,)`` and columns ``(n,)`` are multiplied before they are rounded.
        bits: Of a limb.
        limbs: ``(2, leaves)``: low limbs before high ones, both with the sign of the leaf.
    """
    if _SPLIT is None or not _fit(matrix, symmetric, scales, limbs):
        return split_twin(matrix, symmetric, scales, bits, limbs)
    return float(_SPLIT(matrix, *matrix.shape, symmetric, *scales, bits, *limbs))


def split_twin(matrix: Floats, symmetric: bool, scales: tuple[Floats, Floats], bits: int, limbs: Integers) -> float:
    """Return what `split` does."""
    i, j = _places(matrix.shape, symmetric)
    value = np.rint(matrix[i, j] * scales[1][j] * scales[0][i])
    above = np.trunc(value * 2.0**-bits)
    if not (np.abs(above) < 2.0**bits).all():
        return np.inf
    limbs[0], limbs[1] = value - above * 2.0**bits, above
    return float(np.abs(matrix[i, j]).max(initial=0.0))


def join(matrix: Floats, symmetric: bool, scales: tuple[Floats, Floats], bits: int, limbs: Integers) -> None:
    """Write the matrix that limbs stand for, before its rows and columns are multiplied by their scales; arguments as those of `split`."""
    if _JOIN is None or not _fit(matrix, symmetric, scales, limbs):
        join_twin(matrix, symmetric, scales, bits, limbs)
    else:
        _JOIN(matrix, *matrix.shape, symmetric, *scales, bits, *limbs)


def join_twin(matrix: Floats, symmetric: bool, scales: tuple[Floats, Floats], bits: int, limbs: Integers) -> None:
    """Do what `join` does."""
    i, j = _places(matrix.shape, symmetric)
    matrix[i, j] = (limbs[1] * 2.0**bits + limbs[0]) * scales[0][i] * scales[1][j]
    if symmetric:
        matrix[j, i] = matrix[i, j]


def residues(values: Integers, factors: Integers) -> Integers:
    """Return the sums ``(m,)`` of the products of rows ``(m, n)`` below ``2**60`` in magnitude with factors ``(n,)``, modulo `PRIME`."""
    if _RESIDUES is None or factors.shape != values.shape[1:]:
        return residues_twin(values, factors)
    sums = np.empty(len(values), dtype=np.int64)
    _RESIDUES(values, *values.shape, factors, sums)
    return sums % PRIME


def residues_twin(values: Integers, factors: Integers) -> Integers:
    """Return what `residues` does."""
    return np.array(values.astype(object) @ factors.astype(object) % PRIME, dtype=np.int64)


def leaves(matrix: Floats, symmetric: bool) -> int:
    """Return the number of leaves of a matrix."""
    return matrix.shape[1] * (matrix.shape[1] + 1) // 2 if symmetric else matrix.size


def _fit(matrix: Floats, symmetric: bool, scales: tuple[Floats, Floats], limbs: Integers) -> bool:
    shapes = scales[0].shape + scales[1].shape, limbs.shape
    return shapes == (matrix.shape, (2, leaves(matrix, symmetric))) and (not symmetric or matrix.shape == matrix.T.shape)


def _places(shape: tuple[int, ...], symmetric: bool) -> NDArray[np.intp]:
    """Return the rows and columns of the leaves."""
    return np.array(np.triu_indices(shape[1])) if symmetric else np.indices(shape).reshape(2, -1)
