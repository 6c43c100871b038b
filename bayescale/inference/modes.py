"""Modes: optimisation of the density from several starting points, and selection of the modes that matter."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import solve_triangular

from bayescale._jax import each
from bayescale._record import Array
from bayescale.inference.nuts import Potential, Start, find_mode, normal_at
from bayescale.inference.reparam import (
    Geometry,
    linearise,
    reparam_density,
    reparam_to_scores,
    scores_to_reparam,
    unconstrained_to_reparam,
)
from bayescale.model.density import offset
from bayescale.model.level import marginal_level
from bayescale.model.likelihood import SMALLEST_SCATTER
from bayescale.model.parameters import coordinates, prior_place, read
from bayescale.model.problem import Model, Problem

if TYPE_CHECKING:
    from jaxtyping import Float

STARTS = 4
"""Number of optimisations: one starts at the centre of the priors, the others at prior draws."""
LOOSE = 3.0
"""Smallest noise sd at the start of an optimisation, in standard deviations of the residuals there."""
APART = 3.0
"""Modes count as different if they are at least this many standard deviations apart."""
LEAST_MASS = 0.01
"""A mode counts if a normal approximation around it has at least this fraction of the best mode's mass."""
STILL = 0.1
"""An optimisation has reached a mode if a Newton step from its end is shorter than this many standard deviations."""

Target = Callable[[Any], tuple[Any, Any]]
"""Function that returns the negative log density of a vector, and further results."""


class Modes(NamedTuple):
    """Modes of a family in standardised coordinates.

    Attributes:
        start: The best mode, and the covariance there.
        points: The modes, shape (start, d); optimisations that found nothing new are replaced by the best mode.
        count: Number of different modes that matter.
    """

    start: Start
    points: Any
    count: Any


def round_target(geometry: Geometry, model: Model, problem: Problem) -> Target:
    """Return a function of standardised parameters that returns the negative log density and the model's parameters."""

    def target(scores: Any) -> tuple[Any, Any]:
        reparam, log_determinant = scores_to_reparam(scores, geometry, model, problem)
        density, vector = reparam_density(reparam, model, problem)
        return -density - log_determinant, vector

    return target


def round_potential(geometry: Geometry, model: Model, problem: Problem) -> Potential:
    """Return the negative log density as a function of standardised parameters."""
    target = round_target(geometry, model, problem)
    return lambda scores: target(scores)[0]


def optimise_from_prior(
    key: Array, model: Model, problem: Problem, steps: int, vectorized: bool
) -> tuple[Float[Any, "start d"], Float[Any, "start"]]:
    """Optimise from the prior's centre and from draws of the prior.

    Returns:
        Ends of the optimisations, in reparameterised coordinates, shape (start, d), and their negative log densities.
    """

    def potential(reparam: Any) -> Any:
        return -reparam_density(reparam, model, problem)[0]

    def optimise(scores: Any) -> tuple[Any, Any]:
        begin = loosened(prior_place(scores, model, problem), model, problem)
        return find_mode(potential, unconstrained_to_reparam(begin, model, problem), steps)

    scores = jax.random.normal(key, (STARTS, len(coordinates(model, problem))), float).at[0].set(0.0)
    # On CPUs optimisations run one after the other, because in a batch all would take as long as the longest line
    # search.
    return each(optimise, scores, vectorized)


def loosened(vector: Float[Array, "coordinate"], model: Model, problem: Problem) -> Float[Any, "coordinate"]:
    """Return parameters with noise large enough to explain the residuals of the law, shape (coordinate,).

    Far from the data, a density with little noise is a steep and bent valley, in which optimisation gets stuck. On
    simulated data without discrepancy it missed the mode in more than half of the cases, but in few of them when it
    began at these parameters.
    """
    values, _ = read(vector, model, problem)
    residual, rows = problem.y - offset(model, problem, values), problem.mask.sum()
    residual = problem.mask * (residual - (problem.mask @ residual) / rows if marginal_level(model) else residual)
    index = coordinates(model, problem).index("log_residual_sd")
    least = jnp.log(LOOSE) + 0.5 * jnp.log((residual**2).sum() / rows + SMALLEST_SCATTER**2)
    return vector.at[index].max(least)


def find_modes(key: Array, model: Model, problem: Problem, steps: int, vectorized: bool) -> tuple[Geometry, Modes]:
    """Find modes from several starts; return coordinates adapted to the best one, and all modes that matter."""
    # Optimisations may stop a little before the mode, because the mixture adapts.
    ends, heights = optimise_from_prior(key, model, problem, steps // 2, vectorized)
    best = jnp.argmin(jnp.where(jnp.isfinite(heights), heights, jnp.inf))
    geometry = linearise(ends[best], model, problem)
    scored = round_potential(geometry, model, problem)
    points = jax.vmap(lambda end: reparam_to_scores(end, geometry, model, problem))(ends)
    return geometry, sift_modes(scored, points, best)


def sift_modes(potential: Potential, points: Float[Array, "start d"], best: Any) -> Modes:
    """Return which ends of optimisations are modes that differ from each other and have enough mass.

    Args:
        potential: Negative log density of a vector.
        points: Ends of the optimisations, shape (start, d).
        best: Index of the end with the highest density.
    """
    found = lax.map(lambda point: normal_at(potential, point), points)
    factors = jnp.linalg.cholesky(found.covariance)
    masses = -found.value + jnp.log(jnp.diagonal(factors, axis1=1, axis2=2)).sum(1)
    decrements = jnp.einsum("mi,mij,mj->m", found.slope, found.covariance, found.slope)
    start = jax.tree.map(lambda leaf: leaf[best], found)
    matters = (decrements < STILL**2) & (masses - masses[best] > jnp.log(LEAST_MASS)) & jnp.isfinite(points).all(1)
    scores = solve_triangular(factors[best], points.T, lower=True)
    near = ((scores[:, :, None] - scores[:, None, :]) ** 2).sum(0) < APART**2
    known = jnp.zeros(len(points), bool).at[best].set(True)
    for number in range(len(points)):
        known = known.at[number].set(known[number] | (matters[number] & ~(known & near[number]).any()))
    points = jnp.where(known[:, None], points, start.mode)
    return Modes(start, points, known.sum())
