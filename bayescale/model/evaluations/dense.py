"""Evaluation by a Cholesky factor of the covariance of all rows: for replicates, checkpoints and heavy tails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular

from bayescale._record import Array, record
from bayescale.model.evaluations.rotated import dense_leave_one_out
from bayescale.model.level import level_variance, marginal_level
from bayescale.model.likelihood import SMALLEST_SCATTER
from bayescale.model.problem import (
    Basis,
    Evaluation,
    Model,
    Problem,
    Values,
    Whitened,
    filled,
    over_draws,
    typical_weights,
)

if TYPE_CHECKING:
    from jaxtyping import Float

MOST_ELEMENTS = 4_000_000
"""Largest stack of matrices in memory at one time, in numbers."""


@record
class Dense(Evaluation):
    """Evaluation of rows that share seeds or residuals, or that have their own precision each.

    Attributes:
        covariance: Kernel matrix of a discrepancy with unit amplitude, zeros without discrepancy, shape (row, row).
        shared: Covariance of seed noise with unit sd, shape (row, row).
        alike: Covariance of residuals with unit sd, shape (row, row).
        basis: Eigenbasis of the discrepancy, in which parameters are standardised as if all rows had the same variance.
            None if each row has its own precision, or without discrepancy; standardising then takes a factorisation.
    """

    covariance: Float[Array, "row row"]
    shared: Float[Array, "row row"]
    alike: Float[Array, "row row"]
    basis: Basis | None

    factorises = True

    def row_covariance(self, values: Values, problem: Problem) -> Float[Any, "row row"]:
        """Return the covariance of the rows with discrepancy and without level, shape (row, row).

        Identity on padding.
        """
        mask = problem.mask
        scatter = values.residual_sd**2 * self.alike + values.seed_sd**2 * self.shared
        scatter = scatter + jnp.diag((SMALLEST_SCATTER**2 + problem.error) / problem.count)
        strength = 1.0 / jnp.sqrt(values.weights)
        scatter = scatter * strength[:, None] * strength[None, :]
        whole = scatter + values.amplitude**2 * self.covariance
        return jnp.where(mask[:, None] * mask[None, :] > 0, whole, jnp.eye(len(mask)))

    def whiten(self, values: Values, residual: Float[Array, "row"], model: Model, problem: Problem) -> Whitened:
        """See `Evaluation.whiten`."""
        factor = jnp.linalg.cholesky(self.row_covariance(values, problem))
        columns = solve_triangular(factor, jnp.stack([residual, problem.mask], axis=1), lower=True)
        return Whitened(columns[:, 0], columns[:, 1], problem.mask, 2.0 * jnp.log(jnp.diagonal(factor)).sum())

    def deviance(self, values: Values, residual: Float[Array, "row"], model: Model, problem: Problem) -> Float[Any, ""]:
        """See `Evaluation.deviance`."""
        leveled = marginal_level(model)
        prior = 1.0 / level_variance(model) if leveled else 1.0
        ones = jnp.asarray(problem.mask) * (1.0 if leveled else 0.0)
        return covariance_deviance(residual, self.row_covariance(values, problem), ones, prior)

    def leave_one_out(
        self, values: Values, residual: Float[Array, "row"], model: Model, problem: Problem
    ) -> Float[Any, "row"]:
        """See `Evaluation.leave_one_out`."""
        return dense_leave_one_out(self.row_covariance(values, problem), residual)

    def rotate(self, columns: Float[Array, "row *column"]) -> Float[Any, "row *column"]:
        """See `Evaluation.rotate`."""
        return columns if self.basis is None else self.basis.vectors.T @ columns

    def weigh(
        self, values: Values, columns: Float[Array, "row *column"], problem: Problem
    ) -> tuple[Float[Any, "row *column"], Float[Any, "row"]]:
        """See `Evaluation.weigh`."""
        if self.basis is not None:
            return columns, typical_weights(values, problem, self.basis)
        factor = jnp.linalg.cholesky(self.row_covariance(values, problem))
        return solve_triangular(factor, columns, lower=True), problem.mask

    def draw_scatter(self, values: Values, problem: Problem, rng: np.random.Generator) -> Float[np.ndarray, "draw row"]:
        """See `Evaluation.draw_scatter`."""
        rows = problem.rows
        weights = np.asarray(values.weights)[:, :rows]
        shape = (len(weights), rows)
        known = np.sqrt((SMALLEST_SCATTER**2 + problem.error[:rows]) / problem.count[:rows])
        noise = known * rng.standard_normal(shape)
        for sd, part in ((values.residual_sd, self.alike), (values.seed_sd, self.shared)):
            power, vectors = np.linalg.eigh(part[:rows, :rows])
            root = vectors * np.sqrt(np.maximum(power, 0.0))
            spread = np.broadcast_to(np.asarray(sd, float), len(weights))[:, None]
            noise = noise + spread * (rng.standard_normal(shape) @ root.T)
        return noise / np.sqrt(weights)

    def condition(
        self,
        values: Values,
        residual: Float[np.ndarray, "draw row"],
        wrong: Float[np.ndarray, "draw row"],
        kernel: Float[np.ndarray, "row+point row+point"],
        problem: Problem,
    ) -> tuple[Float[np.ndarray, "draw point"], Float[np.ndarray, "draw point"], Float[np.ndarray, "draw point"]]:
        """See `Evaluation.condition`."""

        def covariance(part: Values) -> np.ndarray:
            return over_draws(self.row_covariance, part, problem)[:, : problem.rows, : problem.rows]

        return solved_conditions(values, residual, wrong, kernel[problem.rows :, : problem.rows], covariance)


def solved_conditions(
    values: Values,
    residual: Float[np.ndarray, "draw row"],
    wrong: Float[np.ndarray, "draw row"],
    cross: Float[np.ndarray, "point row"],
    covariance: Any,
) -> tuple[Float[np.ndarray, "draw point"], Float[np.ndarray, "draw point"], Float[np.ndarray, "draw point"]]:
    """Compute `Evaluation.condition` by solving with each draw's covariance of the rows.

    Args:
        values: Draws.
        residual: See `Evaluation.condition`.
        wrong: See `Evaluation.condition`.
        cross: Kernel with unit amplitude between new points and rows, shape (point, row).
        covariance: Function from some draws to their covariances, shape (draw, row, row).
    """
    draws, rows = residual.shape
    amplitude = np.asarray(values.amplitude)
    chunk = max(1, MOST_ELEMENTS // (rows * (rows + len(cross) + 2)))
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for first in range(0, draws, chunk):
        some = slice(first, first + chunk)
        part = jax.tree.map(lambda leaf, some=some: np.asarray(leaf)[some], filled(values, draws))
        matrices = covariance(part)
        right = np.broadcast_to(cross.T, (len(matrices), *cross.T.shape))
        columns = np.concatenate([residual[some, :, None], wrong[some, :, None], right], axis=2)
        solved = np.linalg.solve(matrices, columns)
        square = amplitude[some, None] ** 2
        means = square[..., None] * (cross @ solved[:, :, :2])
        removed = square**2 * np.einsum("qr,drq->dq", cross, solved[:, :, 2:])
        parts.append((means[:, :, 0], removed, means[:, :, 1]))
    mean, removed, correction = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return mean, removed, correction


@jax.custom_vjp
def covariance_deviance(
    residual: Float[Any, "row"], covariance: Float[Any, "row row"], ones: Float[Any, "row"], prior: Float[Any, ""]
) -> Float[Any, ""]:
    """Return quadratic form plus log determinant for a dense covariance.

    A level with precision `prior` is integrated out.

    The gradient is written out with the inverse, because differentiating a Cholesky factor takes several times as long.
    """
    return dense_deviance(residual, covariance, ones, prior)[0]


def dense_deviance(
    residual: Float[Any, "row"], covariance: Float[Any, "row row"], ones: Float[Any, "row"], prior: Float[Any, ""]
) -> tuple[Any, Any]:
    """Return the value of `covariance_deviance`, and what is needed for its gradient."""
    factor = jnp.linalg.cholesky(covariance)
    white = solve_triangular(factor, jnp.stack([residual, ones], axis=1), lower=True)
    precision = prior + (white[:, 1] ** 2).sum()
    mean = (white[:, 0] * white[:, 1]).sum() / precision
    value = ((white[:, 0] - mean * white[:, 1]) ** 2).sum() + prior * mean**2 + jnp.log(precision / prior)
    return value + 2.0 * jnp.log(jnp.diagonal(factor)).sum(), (factor, white, mean, precision)


def dense_slope(kept: Any, slope: Any) -> tuple[Any, Any, None, None]:
    """Return the gradient of `covariance_deviance` with respect to residual and covariance.

    Other arguments have none.
    """
    factor, white, mean, precision = kept
    root = solve_triangular(factor, jnp.eye(len(factor), dtype=factor.dtype), lower=True)
    solved = root.T @ white
    left = solved[:, 0] - mean * solved[:, 1]
    inner = root.T @ root - jnp.outer(solved[:, 1], solved[:, 1]) / precision
    return slope * 2.0 * left, slope * (inner - jnp.outer(left, left)), None, None


covariance_deviance.defvjp(dense_deviance, dense_slope)
