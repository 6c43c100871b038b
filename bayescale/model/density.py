"""Likelihood: the density of one family's rows with level and discrepancy integrated out.

One density, several evaluations. The rotated one is diagonal in the discrepancy's eigenbasis, so no gradient holds a
factorisation; it serves where all rows scatter alike. `state_space` goes from row to row in linear time; it serves
rows of one input that are many, or do not scatter alike. The dense one (Cholesky) serves everywhere else. `numpyro` is
written on the raw rows, so that tests can hold the engine against an ordinary model.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import gammaln

from bayescale._jax import on_cores
from bayescale._record import Array
from bayescale.model import state_space
from bayescale.model.likelihood import SMALLEST_SCATTER
from bayescale.model.parameters import read, relative_curve
from bayescale.model.problem import Model, Problem, Values

SUMMED_ROWS = 128
"""Rows from which on CPUs rotate one vector two to three times faster by a sum than by a matrix product."""


class Whitened(NamedTuple):
    """Residuals and a column of ones in a basis where rows are independent with these precisions, shape (row,)."""

    residual: Any
    ones: Any
    precision: Any
    log_determinant: Any


def whiten(values: Values, residual: Array, model: Model, problem: Problem) -> Whitened:
    """Rotate, or factorise, the covariance of the rows without the level.

    Args:
        values: What the coordinates mean.
        residual: What law and level leave, zero on padding, shape (row,).
        model: Law, discrepancy and likelihood.
        problem: The family.
    """
    if problem.gap is not None:
        assert model.discrepancy is not None, "a model with discrepancy"
        columns = jnp.stack([residual, jnp.asarray(problem.mask)], axis=1)
        noise, square = row_variance(values, problem), values.amplitude**2
        run = state_space.filtered(columns, noise, square, problem.gap, problem.mask, model.discrepancy.memory)
        surprise = run.surprise.reshape(-1, 2)
        precision, logs = run.mask / run.spread, run.mask * jnp.log(run.spread)
        return Whitened(surprise[:, 0], surprise[:, 1], precision.ravel(), logs.sum())
    if problem.dense:
        factor = jnp.linalg.cholesky(row_covariance(values, problem))
        columns = solve_triangular(factor, jnp.stack([residual, problem.mask], axis=1), lower=True)
        return Whitened(columns[:, 0], columns[:, 1], problem.mask, 2.0 * jnp.log(jnp.diagonal(factor)).sum())
    spread = spectrum(values, problem)
    # The ones were rotated once and for all: a product with one vector is a loop in the compiled program, a product
    # with two is a call that takes longer than all the rest.
    logarithm = (problem.mask * jnp.log(spread)).sum()
    return Whitened(rotate(residual, problem), problem.ones, problem.mask / spread, logarithm)


def rotate(columns: Array, problem: Problem) -> Any:
    """Express rows, shape (row,) or (row, column), in the discrepancy's eigenbasis."""
    if problem.basis is None:
        return columns
    if columns.ndim == 1 and len(columns) >= SUMMED_ROWS:
        return (problem.basis * columns[:, None]).sum(0)
    return problem.basis.T @ columns


def spectrum(values: Values, problem: Problem) -> Any:
    """Variance of each row in the discrepancy's eigenbasis, shape (row,)."""
    spread = row_variance(values, problem)
    return spread if problem.basis is None else spread + values.amplitude**2 * problem.eigenvalues


def row_variance(values: Values, problem: Problem) -> Any:
    """Variance of each row's mean around law and discrepancy, shape (row,)."""
    seeds = values.seed_sd**2 * problem.seed_part
    return values.residual_sd**2 + seeds + (SMALLEST_SCATTER**2 + problem.error) / problem.count


def row_covariance(values: Values, problem: Problem) -> Any:
    """Covariance of the rows with discrepancy and without the level, shape (row, row); identity on padding."""
    assert problem.shared is not None and problem.alike is not None, "a dense problem"
    mask = problem.mask
    scatter = values.residual_sd**2 * problem.alike + values.seed_sd**2 * problem.shared
    scatter = scatter + jnp.diag((SMALLEST_SCATTER**2 + problem.error) / problem.count)
    strength = 1.0 / jnp.sqrt(values.weights)
    scatter = scatter * strength[:, None] * strength[None, :]
    discrepancy = 0.0 if problem.discrepancy is None else values.amplitude**2 * problem.discrepancy
    return jnp.where(mask[:, None] * mask[None, :] > 0, scatter + discrepancy, jnp.eye(len(mask)))


def log_likelihood(values: Values, model: Model, problem: Problem) -> Any:
    """Log density of the data with level and discrepancy integrated out."""
    mask = problem.mask
    residual = mask * (problem.y - offset(model, problem, values))
    if model.likelihood.tail is not None and not problem.latent:
        return student_likelihood(values, residual, model, problem)
    rows = mask.sum() * jnp.log(2.0 * jnp.pi)
    return -0.5 * (deviance(values, residual, model, problem) + rows) + within_likelihood(values, problem)


def deviance(values: Values, residual: Any, model: Model, problem: Problem) -> Any:
    """Quadratic form and log determinant of the rows, level integrated out."""
    leveled = marginal_level(model)
    prior = 1.0 / level_variance(model) if leveled else 1.0
    if problem.gap is not None or problem.dense:
        ones = jnp.asarray(problem.mask) * (1.0 if leveled else 0.0)
        if problem.gap is None:
            return covariance_deviance(residual, row_covariance(values, problem), ones, prior)
        assert model.discrepancy is not None, "a model with discrepancy"
        noise, square = row_variance(values, problem), values.amplitude**2
        return state_space.deviance(
            residual, noise, square, ones, problem.gap, problem.mask, model.discrepancy.memory, prior
        )
    white = whiten(values, residual, model, problem)
    if not leveled:
        return white.precision @ white.residual**2 + white.log_determinant
    mean, precision, prior = level_posterior(white, model)
    # A sum of squares, never a difference: exact interpolation cancels nothing.
    left = white.residual - mean * white.ones
    return white.precision @ left**2 + prior * mean**2 + white.log_determinant + jnp.log(precision / prior)


@jax.custom_vjp
def covariance_deviance(residual: Any, covariance: Any, ones: Any, prior: Any) -> Any:
    """Quadratic form and log determinant under a dense covariance, a level of precision `prior` integrated out.

    The gradient is written out with the inverse: the derivative of a Cholesky factor takes several times as long.
    """
    return dense_deviance(residual, covariance, ones, prior)[0]


def dense_deviance(residual: Any, covariance: Any, ones: Any, prior: Any) -> tuple[Any, Any]:
    """Value of `covariance_deviance`, and what its gradient needs."""
    factor = jnp.linalg.cholesky(covariance)
    white = solve_triangular(factor, jnp.stack([residual, ones], axis=1), lower=True)
    precision = prior + (white[:, 1] ** 2).sum()
    mean = (white[:, 0] * white[:, 1]).sum() / precision
    value = ((white[:, 0] - mean * white[:, 1]) ** 2).sum() + prior * mean**2 + jnp.log(precision / prior)
    return value + 2.0 * jnp.log(jnp.diagonal(factor)).sum(), (factor, white, mean, precision)


def dense_slope(kept: Any, slope: Any) -> tuple[Any, Any, None, None]:
    """Gradient of `covariance_deviance` in residual and covariance; nothing else is differentiated."""
    factor, white, mean, precision = kept
    root = solve_triangular(factor, jnp.eye(len(factor), dtype=factor.dtype), lower=True)
    solved = root.T @ white
    left = solved[:, 0] - mean * solved[:, 1]
    inner = root.T @ root - jnp.outer(solved[:, 1], solved[:, 1]) / precision
    return slope * 2.0 * left, slope * (inner - jnp.outer(left, left)), None, None


covariance_deviance.defvjp(dense_deviance, dense_slope)


def replicate_terms(values: Values, problem: Problem) -> tuple[Any, Any]:
    """Variance of one replicate around its group, and the log determinant that means leave out; shape (row,)."""
    variance = values.seed_sd**2 + problem.error + SMALLEST_SCATTER**2
    return variance, (problem.count - 1.0) * jnp.log(variance) + jnp.log(problem.count)


def within_likelihood(values: Values, problem: Problem) -> Any:
    """Log density of replicates around their group means."""
    if not problem.replicated:
        return 0.0
    variance, determinant = replicate_terms(values, problem)
    extra = (problem.count - 1.0) * jnp.log(2.0 * jnp.pi / values.weights)
    squares = values.weights * problem.squares / variance
    return -0.5 * (problem.mask * (determinant + extra + squares)).sum()


def offset(model: Model, problem: Problem, values: Values) -> Any:
    """What the law, and a sampled level, say about `problem.y`, shape (row,)."""
    curve = relative_curve(model.law, values.constants, problem.z)
    return curve + values.level if model.law.level else curve - problem.center


def marginal_level(model: Model) -> bool:
    """Whether the level is integrated out; Student-t noise has to sample it."""
    return model.law.level is not None and model.likelihood.tail is None


def level_variance(model: Model) -> Any:
    """Prior variance of the level, whether sampled or integrated out; nearly zero for a law without one."""
    return model.law.level[1].sd ** 2 if model.law.level is not None else 1e-12


def level_posterior(white: Whitened, model: Model) -> tuple[Any, Any, Any]:
    """Mean and precision of the level given everything else, and its prior precision."""
    assert model.law.level is not None, "a law with a level"
    prior = 1.0 / model.law.level[1].sd ** 2
    precision = prior + white.precision @ white.ones**2
    return white.precision @ (white.ones * white.residual) / precision, precision, prior


def student_likelihood(values: Values, residual: Any, model: Model, problem: Problem) -> Any:
    """Log density of independent multivariate Student-t groups (no discrepancy, level sampled)."""
    tail, count = model.likelihood.tail, problem.count
    replicates, within = replicate_terms(values, problem)
    variance = row_variance(values, problem)
    distance = residual**2 / variance + problem.squares / replicates
    density = (
        gammaln(0.5 * (tail + count))
        - gammaln(0.5 * tail)
        - 0.5 * count * jnp.log(tail * jnp.pi)
        - 0.5 * (jnp.log(variance) + within)
        - 0.5 * (tail + count) * jnp.log1p(distance / tail)
    )
    return (problem.mask * density).sum()


def log_density(vector: Array, model: Model, problem: Problem) -> Any:
    """Log posterior density, up to the evidence, of a coordinate vector, shape (coordinate,)."""
    values, prior = read(vector, model, problem)
    return prior.sum() + log_likelihood(values, model, problem)


def draw_level(score: Any, values: Values, model: Model, problem: Problem) -> Any:
    """Level at a standard score given all other values (the sampled one passes through)."""
    if not marginal_level(model):
        return values.level
    residual = problem.mask * (problem.y - offset(model, problem, values))
    white = whiten(values, residual, model, problem)
    mean, precision, _ = level_posterior(white, model)
    return mean + score / jnp.sqrt(precision)


def pointwise(values: Values, model: Model, problem: Problem) -> np.ndarray:
    """Log density of each row's ln(loss) given all other rows, for draws of the posterior (burkner2021loo).

    Args:
        values: Draws, every leaf with leading axis draw; the level is taken as drawn.
        model: Law, discrepancy and likelihood.
        problem: The family.

    Returns:
        Shape (draw, row), one row for each set of inputs.
    """
    rows = int(problem.mask.sum())
    with on_cores():
        return np.asarray(conditional_densities(values, model, problem))[:, :rows]


@jax.jit
def conditional_densities(values: Values, model: Model, problem: Problem) -> Any:
    """Log density of each row given all others, shape (draw, row); compiled once for each shape of problem."""
    if problem.gap is not None:
        return jax.lax.map(lambda value: walked_densities(value, model, problem), values)
    departure = problem.discrepancy if problem.dense else None
    if problem.basis is not None:
        departure = (problem.basis * problem.eigenvalues) @ problem.basis.T

    def one(value: Values) -> Any:
        residual = problem.mask * (problem.y - offset(model, problem, value))
        if problem.dense:
            covariance = row_covariance(value, problem)
        else:
            if departure is None and model.likelihood.tail is not None:
                spread = jnp.sqrt(row_variance(value, problem))
                return dist.StudentT(model.likelihood.tail, 0.0, spread).log_prob(residual)
            covariance = jnp.diag(jnp.where(problem.mask > 0, row_variance(value, problem), 1.0))
            covariance = covariance + (0.0 if departure is None else value.amplitude**2 * departure)
        precision = jnp.linalg.inv(covariance)
        scale = 1.0 / jnp.sqrt(jnp.diagonal(precision))
        return dist.Normal(0.0, scale).log_prob((precision @ residual) * scale**2)

    return jax.lax.map(one, values)


def walked_densities(value: Values, model: Model, problem: Problem) -> Any:
    """Log density of each row given all others, shape (row,), in linear time."""
    assert model.discrepancy is not None, "a model with discrepancy"
    residual = problem.mask * (problem.y - offset(model, problem, value))
    noise = row_variance(value, problem)
    run = state_space.filtered(
        residual[:, None], noise, value.amplitude**2, problem.gap, problem.mask, model.discrepancy.memory
    )
    solved, diagonal = state_space.adjoint(run)
    scale = jnp.where(problem.mask > 0, 1.0 / jnp.sqrt(jnp.where(problem.mask > 0, diagonal, 1.0)), 1.0)
    return dist.Normal(0.0, scale).log_prob(solved[:, 0] * scale**2)
