r"""Normal equations of scaled columns, solved by Cholesky, and what their inverse says of the coefficients' errors.

With :math:`S` the matrix of the normal equations, penalty included, the coefficient of column :math:`j` has the
variance :math:`s^2 (S^{-1})_{jj} / (W \sigma_j^2)`, and the intercept
:math:`s^2 (1 + m^T S^{-1} m) / W` with :math:`m = \bar x / \sigma`, where :math:`s^2` is the sum of weighted squared
residuals over the degrees of freedom. With a penalty these are no standard errors in the strict sense; Spark MLlib
computes them in the same way.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_solve, cholesky
from scipy.linalg.lapack import dtrtri
from scipy.special import stdtr

__all__ = ["CoefficientErrors", "NormalEquations"]

# A pivot of a correlation matrix that is below the noise of float64 sums.
_SMALLEST_PIVOT = 1e-13

# Sums of float32 products are noisy in the seventh digit, so a residual above this part of its terms has three digits.
_SMALLEST_RESIDUAL = 1e-4

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CoefficientErrors:
    """What the standard errors of coefficients are computed from.

    Attributes:
        variances: ``(d,)``, or ``(d + 1,)`` with the intercept last: variances for residuals of variance 1; infinite for a constant column.
        freedom: Degrees of freedom, at least 1.
        square: Sum of weighted squared residuals; None where it must be summed over rows.
    """

    variances: Vector
    freedom: int
    square: float | None = None

    @property
    def standard_errors(self) -> Vector:
        """``(d,)`` or ``(d + 1,)``."""
        with np.errstate(invalid="ignore"):
            return np.asarray(np.sqrt(self.variances * ((self.square or 0.0) / self.freedom)), dtype=np.float64)

    def t_values(self, estimates: Vector) -> Vector:
        """Return estimates over their standard errors; 0 of an estimate 0, whatever its error is."""
        ratio = np.zeros_like(estimates)
        with np.errstate(divide="ignore"):
            return np.divide(estimates, self.standard_errors, out=ratio, where=estimates != 0)

    def p_values(self, estimates: Vector) -> Vector:
        """Return two-sided p-values of Student's t distribution."""
        return np.asarray(2.0 * stdtr(self.freedom, -np.abs(self.t_values(estimates))), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalEquations:
    """Second moments of scaled columns and label: means of weighted products.

    Attributes:
        moments: ``(d, d)`` of columns with columns.
        target: ``(d,)`` of columns with the label.
        square: Of the label with itself.
    """

    moments: Vector
    target: Vector
    square: float

    def residual(self, solution: Vector) -> float | None:
        """Return the mean weighted squared residual, or None where rounding leaves too few digits of it."""
        size = np.abs(solution)
        terms = self.square + 2.0 * float(size @ np.abs(self.target)) + float(size @ np.abs(self.moments) @ size)
        left = self.square - 2.0 * float(solution @ self.target) + float(solution @ self.moments @ solution)
        return left if left > _SMALLEST_RESIDUAL * terms else None

    def solved(self, penalty: Vector, used: NDArray[np.bool_]) -> tuple[Vector, Vector] | None:
        """Return the solution, and the inverse of the matrix's lower triangular root; None where the matrix is singular.

        Args:
            penalty: ``(d,)`` what is added to the diagonal.
            used: ``(d,)`` which columns are solved for; the others have the coefficient 0, and no row or column in the root.
        """
        solution = np.zeros_like(self.target)
        if not used.any():
            return solution, np.zeros((0, 0))
        try:
            root = cholesky((self.moments + np.diag(penalty))[np.ix_(used, used)], lower=True)
        except LinAlgError:
            return None
        if float(np.diag(root).min()) ** 2 <= _SMALLEST_PIVOT:
            return None
        solution[used] = cho_solve((root, True), self.target[used])
        inverse, _ = dtrtri(root, lower=1)
        return solution, inverse
