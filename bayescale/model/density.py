"""Likelihood: the density of one family's rows with level and discrepancy integrated out.

It can be evaluated in several ways, depending on the rows; see `evaluations`. The module `numpyro` has the same model
written for the raw rows, so that tests can compare both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

from bayescale._jax import on_cores
from bayescale._record import Array
from bayescale.model.evaluations import Counts
from bayescale.model.level import level_posterior, marginal_level
from bayescale.model.likelihood import SMALLEST_SCATTER
from bayescale.model.parameters import read, relative_curve
from bayescale.model.problem import Model, Problem, Values, row_variance

if TYPE_CHECKING:
    from jaxtyping import Float


def log_likelihood(values: Values, model: Model, problem: Problem) -> Float[Any, ""]:
    """Return the log density of the data, level and discrepancy integrated out.

    For scores, that of counts given log odds.
    """
    mask = problem.mask
    if isinstance(problem.evaluation, Counts):
        return problem.evaluation.log_density(values, offset(model, problem, values), problem)
    residual = mask * (problem.y - offset(model, problem, values))
    if model.likelihood.tail is not None and not problem.latent:
        return student_likelihood(values, residual, model, problem)
    rows = mask.sum() * jnp.log(2.0 * jnp.pi)
    deviance = problem.evaluation.deviance(values, residual, model, problem)
    return -0.5 * (deviance + rows) + within_likelihood(values, problem)


def replicate_terms(values: Values, problem: Problem) -> tuple[Float[Any, "row"], Float[Any, "row"]]:
    """Return a replicate's variance around its group mean, and a correction of the log determinant, shape (row,)."""
    variance = values.seed_sd**2 + problem.error + SMALLEST_SCATTER**2
    return variance, (problem.count - 1.0) * jnp.log(variance) + jnp.log(problem.count)


def within_likelihood(values: Values, problem: Problem) -> Float[Any, ""]:
    """Return the log density of replicates around their group means."""
    if not problem.replicated:
        return 0.0
    variance, determinant = replicate_terms(values, problem)
    extra = (problem.count - 1.0) * jnp.log(2.0 * jnp.pi / values.weights)
    squares = values.weights * problem.squares / variance
    return -0.5 * (problem.mask * (determinant + extra + squares)).sum()


def offset(model: Model, problem: Problem, values: Values) -> Float[Any, "row"]:
    """Return ln of the law plus the sampled level, minus `problem.y`, shape (row,)."""
    curve = relative_curve(model.law, values.constants, problem.z)
    return curve + values.level if model.law.level else curve - problem.center


def student_likelihood(values: Values, residual: Float[Any, "row"], model: Model, problem: Problem) -> Float[Any, ""]:
    """Return the log density of independent multivariate Student-t groups, without discrepancy; level sampled."""
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


def log_density(vector: Float[Array, "coordinate"], model: Model, problem: Problem) -> Float[Any, ""]:
    """Return the log posterior density, up to a constant, of unconstrained parameters, shape (coordinate,)."""
    values, prior = read(vector, model, problem)
    return prior.sum() + log_likelihood(values, model, problem)


def draw_level(score: Float[Any, ""], values: Values, model: Model, problem: Problem) -> Float[Any, ""]:
    """Return the level at a standard normal score, given all other values; a sampled level is returned unchanged."""
    if not marginal_level(model):
        return values.level
    residual = problem.mask * (problem.y - offset(model, problem, values))
    white = problem.evaluation.whiten(values, residual, model, problem)
    mean, precision, _ = level_posterior(white, model)
    return mean + score / jnp.sqrt(precision)


def pointwise(values: Values, model: Model, problem: Problem) -> Float[np.ndarray, "draw row"]:
    """Return the log density of each row's ln(loss) given all other rows, for posterior draws (burkner2021loo).

    Args:
        values: Draws, every leaf with leading axis draw; the drawn level is used.
        model: Law, discrepancy and likelihood.
        problem: The family.

    Returns:
        Shape (draw, row), one row for each set of inputs.
    """
    with on_cores():
        return np.asarray(conditional_densities(values, model, problem))[:, : problem.rows]


@jax.jit
def conditional_densities(values: Values, model: Model, problem: Problem) -> Float[Any, "draw row"]:
    """Return the log density of each row given all others, shape (draw, row).

    Compiled once for each shape of problem.
    """

    def one(value: Values) -> Any:
        residual = problem.mask * (problem.y - offset(model, problem, value))
        return problem.evaluation.leave_one_out(value, residual, model, problem)

    return jax.lax.map(one, values)
