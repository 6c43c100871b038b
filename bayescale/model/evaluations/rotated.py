"""Diagonal evaluations: rows without discrepancy, and rows of equal variance in the discrepancy's eigenbasis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from bayescale._record import Array, record
from bayescale.model.level import level_posterior, marginal_level
from bayescale.model.problem import Basis, Evaluation, Model, Problem, Values, Whitened, over_draws, row_variance

if TYPE_CHECKING:
    from jaxtyping import Float

SUMMED_ROWS = 128
"""Number of rows from which on a CPU rotates a vector two to three times faster by a sum than by a matrix product."""


class Diagonal(Evaluation):
    """Base class of the diagonal evaluations, `Independent` and `Rotated`.

    Attributes:
        ones: Column of the level in the basis of the evaluation, shape (row,).
    """

    ones: Float[Array, "row"]

    def spectrum(self, values: Values, problem: Problem) -> Float[Any, "row"]:
        """Return the variance of each row in the basis of this evaluation, shape (row,)."""
        raise NotImplementedError

    def whiten(self, values: Values, residual: Float[Array, "row"], model: Model, problem: Problem) -> Whitened:
        """See `Evaluation.whiten`."""
        spread = self.spectrum(values, problem)
        # The ones are rotated once, in advance: a product with one vector is a loop in the compiled program, whereas a
        # product with two columns is a library call that takes longer than everything else.
        logarithm = (problem.mask * jnp.log(spread)).sum()
        return Whitened(self.rotate(residual), self.ones, problem.mask / spread, logarithm)

    def deviance(self, values: Values, residual: Float[Array, "row"], model: Model, problem: Problem) -> Float[Any, ""]:
        """See `Evaluation.deviance`."""
        white = self.whiten(values, residual, model, problem)
        if not marginal_level(model):
            return white.precision @ white.residual**2 + white.log_determinant
        mean, precision, prior = level_posterior(white, model)
        # A sum of squares instead of a difference, so that exact interpolation causes no cancellation.
        left = white.residual - mean * white.ones
        return white.precision @ left**2 + prior * mean**2 + white.log_determinant + jnp.log(precision / prior)

    def weigh(
        self, values: Values, columns: Float[Array, "row *column"], problem: Problem
    ) -> tuple[Float[Any, "row *column"], Float[Any, "row"]]:
        """See `Evaluation.weigh`."""
        return columns, problem.mask / self.spectrum(values, problem)


@record
class Independent(Diagonal):
    """Evaluation of rows that are independent given law and level, because there is no discrepancy.

    Attributes:
        ones: See `Diagonal`.
    """

    ones: Float[Array, "row"]

    def spectrum(self, values: Values, problem: Problem) -> Float[Any, "row"]:
        """See `Diagonal.spectrum`."""
        return row_variance(values, problem)

    def rotate(self, columns: Float[Array, "row *column"]) -> Float[Any, "row *column"]:
        """See `Evaluation.rotate`."""
        return columns

    def leave_one_out(
        self, values: Values, residual: Float[Array, "row"], model: Model, problem: Problem
    ) -> Float[Any, "row"]:
        """See `Evaluation.leave_one_out`."""
        spread = jnp.sqrt(row_variance(values, problem))
        if model.likelihood.tail is not None:
            return dist.StudentT(model.likelihood.tail, 0.0, spread).log_prob(residual)
        return dist.Normal(0.0, jnp.where(problem.mask > 0, spread, 1.0)).log_prob(residual)


@record
class Rotated(Diagonal):
    """Evaluation of rows with equal variances, whose covariance is diagonal in the discrepancy's eigenbasis.

    Attributes:
        basis: Eigenbasis of the discrepancy among the rows.
        ones: See `Diagonal`.
    """

    basis: Basis
    ones: Float[Array, "row"]

    def spectrum(self, values: Values, problem: Problem) -> Float[Any, "row"]:
        """See `Diagonal.spectrum`."""
        return row_variance(values, problem) + values.amplitude**2 * self.basis.eigenvalues

    def rotate(self, columns: Float[Array, "row *column"]) -> Float[Any, "row *column"]:
        """See `Evaluation.rotate`."""
        if columns.ndim == 1 and len(columns) >= SUMMED_ROWS:
            return (self.basis.vectors * columns[:, None]).sum(0)
        return self.basis.vectors.T @ columns

    def leave_one_out(
        self, values: Values, residual: Float[Array, "row"], model: Model, problem: Problem
    ) -> Float[Any, "row"]:
        """See `Evaluation.leave_one_out`."""
        departure = (self.basis.vectors * self.basis.eigenvalues) @ self.basis.vectors.T
        scatter = jnp.diag(jnp.where(problem.mask > 0, row_variance(values, problem), 1.0))
        return dense_leave_one_out(scatter + values.amplitude**2 * departure, residual)

    def condition(
        self,
        values: Values,
        residual: Float[np.ndarray, "draw row"],
        wrong: Float[np.ndarray, "draw row"],
        kernel: Float[np.ndarray, "row+point row+point"],
        problem: Problem,
    ) -> tuple[Float[np.ndarray, "draw point"], Float[np.ndarray, "draw point"], Float[np.ndarray, "draw point"]]:
        """See `Evaluation.condition`."""
        rows = problem.rows
        basis, power = self.basis.vectors[:rows, :rows], np.asarray(self.basis.eigenvalues)[:rows]
        amplitude = np.asarray(values.amplitude)[:, None]
        precision = 1.0 / (over_draws(row_variance, values, problem)[:, :rows] + amplitude**2 * power)
        rotated = kernel[rows:, :rows] @ basis
        mean = amplitude**2 * (((residual @ basis) * precision) @ rotated.T)
        correction = amplitude**2 * (((wrong @ basis) * precision) @ rotated.T)
        return mean, amplitude**4 * (precision @ (rotated**2).T), correction


def dense_leave_one_out(covariance: Float[Any, "row row"], residual: Float[Array, "row"]) -> Float[Any, "row"]:
    """Return the log density of each row given all others, for a dense covariance, shape (row,)."""
    precision = jnp.linalg.inv(covariance)
    scale = 1.0 / jnp.sqrt(jnp.diagonal(precision))
    return dist.Normal(0.0, scale).log_prob((precision @ residual) * scale**2)
