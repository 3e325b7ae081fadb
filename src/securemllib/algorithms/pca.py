"""Principal component analysis: the k directions of largest variance.

Objective: the eigenvectors ``v_1 .. v_k`` of the covariance ``1/(n-1) * sum_i (x_i - m)(x_i - m)^T`` with the largest eigenvalues.

Equivalence: ``pyspark.ml.feature.PCA``: ``explained_variance`` is each eigenvalue over the sum of all, and ``output`` is ``x @ pc``
without subtracting the mean. The sign of a component is arbitrary in MLlib (whatever its SVD returns); here the entry of largest
magnitude is positive, so that the same data give the same signs. Components of equal eigenvalues may be rotated among themselves.

Cost: one pass, ``n d^2`` multiply-adds in the precision of the block, accumulated in float64 every 4096 rows, and one symmetric
eigenproblem of order d. A block's statistics are ``d^2`` float64: products of rows minus the mean that the summary found, which
keep the digits that raw sums lose when means are large, and are plain sums.

Reveals: with mode="enclave" the number of rows, columns and rounds (one). With mode="partitioned" the same: the sums of products
leave as masked integers, which are uniformly random without the job key.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.linalg.blas import dger

from securemllib.algorithms.base import Block, Seed
from securemllib.algorithms.summary import Summary
from securemllib.algorithms.vectors import of_columns
from securemllib.errors import DataError, UsageError

__all__ = ["PCA", "PCAModel", "PCAState", "PCAStatistics"]

# Rows whose products are added up in the block's own precision before they are added in float64: the error of float32 sums stays near 1e-7.
_CHUNK_ROWS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class PCAState:
    """The centre of the products, and the covariance, None before the only round.

    Attributes:
        mean: ``(d,)``.
        covariance: ``(d, d)``.
    """

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PCAStatistics:
    """Rows, and the sums ``(d,)`` and products ``(d, d)`` of the rows minus the state's mean."""

    ADDITIVE: ClassVar[tuple[str, ...]] = ("rows", "sums", "gram")
    SYMMETRIC: ClassVar[tuple[str, ...]] = ("gram",)

    rows: int
    sums: NDArray[np.float64]
    gram: NDArray[np.float64]

    def __add__(self, other: Self) -> Self:
        return type(self)(rows=self.rows + other.rows, sums=self.sums + other.sums, gram=self.gram + other.gram)


@dataclass(frozen=True, slots=True, kw_only=True)
class PCAModel:
    """The components.

    Attributes:
        pc: ``(d, k)``, one component a column, largest variance first.
        explained_variance: ``(k,)``, each component's share of the total variance.
    """

    SUMMARY: ClassVar[tuple[str, ...]] = ()

    pc: NDArray[np.float64]
    explained_variance: NDArray[np.float64]

    def predict(self, features: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return ``output``, the rows projected on the components."""
        return {"output": of_columns(features, self.pc.shape[0]) @ self.pc}


@dataclass(frozen=True, slots=True, kw_only=True)
class PCA:
    """Params of ``pyspark.ml.feature.PCA``; ``k`` is the number of components."""

    k: int

    def __post_init__(self) -> None:
        if not self.k >= 1:
            raise UsageError(f"k must be at least 1, not {self.k}.")

    def initial(self, summary: Summary, seed: Seed) -> PCAState:
        """Return the state without covariance; too few rows or columns raise DataError."""
        del seed
        summary.require_rows()
        columns = summary.columns
        if self.k > columns:
            raise DataError(f"Source vector size {columns} must be no less than k={self.k}.", code="data.too_few_columns")
        if summary.rows <= 1:
            raise DataError(f"A covariance needs at least 2 rows, the dataset has {summary.rows}.", code="data.too_few_rows")
        return PCAState(mean=summary.mean)

    def is_done(self, state: PCAState) -> bool:
        """Return whether the pass has been made."""
        return state.covariance is not None

    def statistics(self, state: PCAState, block: Block) -> PCAStatistics:
        """Return the block's rows, sums and products."""
        rows, ones = block.rows, np.ones(min(block.rows, _CHUNK_ROWS), dtype=block.features.dtype)
        gram, total = np.zeros((block.columns, block.columns)), np.zeros(block.columns)
        for start in range(0, rows, _CHUNK_ROWS):
            chunk = block.features[start : start + _CHUNK_ROWS]
            gram += chunk.T @ chunk
            total += ones[: len(chunk)] @ chunk
        shift = block.offset - state.mean
        lean = total + 0.5 * rows * shift
        # In place: the transposed matrix is one that BLAS takes as it is.
        for one, other in ((lean, shift), (shift, lean)):
            dger(1.0, one, other, a=gram.T, overwrite_a=True)
        return PCAStatistics(rows=rows, sums=total + rows * shift, gram=gram)

    def update(self, state: PCAState, total: PCAStatistics) -> PCAState:
        """Return the state with the covariance of all rows."""
        # The summary's mean is the rows' mean up to rounding, and this is what that leaves.
        rest = total.sums / total.rows
        return PCAState(mean=state.mean + rest, covariance=(total.gram - np.outer(rest * total.rows, rest)) / (total.rows - 1))

    def to_model(self, state: PCAState) -> PCAModel:
        """Return the k leading eigenvectors, each with its entry of largest magnitude positive."""
        if state.covariance is None:
            raise UsageError("The training has not finished: its only round is missing.")
        columns = state.covariance.shape[0]
        # The triangle that is written of a symmetric matrix, so that both modes solve the same problem.
        values, vectors = eigh(state.covariance, lower=False, subset_by_index=[columns - self.k, columns - 1])
        values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
        largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(self.k)]
        total = float(np.trace(state.covariance))
        explained = values / total if total > 0 else np.full(self.k, np.nan)
        return PCAModel(pc=np.ascontiguousarray(vectors * np.where(largest < 0, -1.0, 1.0)), explained_variance=explained)
