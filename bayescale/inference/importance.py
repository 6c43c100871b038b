"""Importance sampling with a mixture that adapts to the posterior, without gradients.

In adapted coordinates (see `reparam`) a posterior is nearly normal, so points drawn from heavy-tailed kernels around it
need only small corrections. Each round draws points, weighs them by density / proposal, and places the kernels of the
next round at points resampled by weight. These are shrunk towards their mean so that the mixture is not wider than the
posterior (west1993mixtures). Heavy-tailed kernels at the modes stay in every round, to cover the tails (owen2000safe).
Only points of the last mixture are kept. Given the mixture they are independent, so their weights are those of ordinary
importance sampling, and the Pareto tail index shows whether these are reliable (vehtari2024psis).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import gammaln

from bayescale._jax import each, key_of
from bayescale._record import Array
from bayescale.inference.modes import Target, find_modes, round_target
from bayescale.inference.nuts import Start
from bayescale.model.density import draw_level
from bayescale.model.parameters import read
from bayescale.model.problem import Model, Problem, Values

if TYPE_CHECKING:
    from jaxtyping import Float, Int

TRACES = {"weigh": 0}
"""How often the compiled program was traced; read by tests only."""

STREAM = 2
"""Number of the first random stream of importance sampling; lower numbers belong to attempts of NUTS."""
ROUND_POINTS = 2048
"""Number of points in each round, a multiple of `CHUNK`."""
KEPT_POINTS = 3
"""Smallest number of points kept for each requested draw."""
ADAPTING = (2, 12)
"""Number of rounds that adapt the mixture, in the first attempt and in later ones."""
LONGER = 4
"""Factor between the number of points kept in each later attempt and in the first one."""
ATTEMPTS = 10
"""Largest number of attempts. From the second on, each adds points from its own mixture to the earlier ones."""
KERNELS = 32
TAIL = 4
"""Degrees of freedom of the kernels; even numbers are fast to draw."""
WIDER = 1.2
"""Factor on the standard deviations at the modes, because a proposal should be wider than its target."""
GUARD = 0.2
"""Fraction of the points of every round that are drawn around the modes with heavy tails."""
GUARD_TAIL = 4
GUARD_WIDER = 2.0
PRIOR_POINTS = 16.0
"""Number of points that the covariance at the mode counts as, when it is averaged with that of weighted points."""
CHUNK = 512
"""Number of points whose densities are computed together; more do not fit into the fast caches of a core."""


class Mixture(NamedTuple):
    """A proposal: kernels of one shape, and heavier-tailed kernels (guards) around the modes."""

    locations: Float[Any, "kernel d"]
    """Centres of the kernels, shape (kernel, d)."""
    factor: Float[Any, "d d"]
    """Cholesky factor of the kernels' scale matrix, shape (d, d)."""
    guards: Float[Any, "guard d"]
    """Centres of the guards, shape (guard, d)."""
    guard_factor: Float[Any, "d d"]
    """Cholesky factor of the guards' scale matrix, shape (d, d)."""


class Weighted(NamedTuple):
    """Points with their weights.

    Attributes:
        position: The points, shape (point, d).
        log_weight: Logarithms of the weights, up to a constant, shape (point,).
        auxiliary: Further results of the density function for each point, leading axis point.
    """

    position: Float[Any, "point d"]
    log_weight: Float[Any, "point"]
    auxiliary: Any


class Effort(NamedTuple):
    """Numbers of rounds, passed to the compiled program as data."""

    adapting: Any
    """Number of rounds that adapt the mixture."""
    kept: Any
    """Number of rounds whose points are kept."""


def run_importance(
    key: Array, target: Target, start: Start, modes: Float[Array, "mode d"], effort: Effort, most: int
) -> Weighted:
    """Adapt a mixture to a density and weigh points drawn from it.

    Args:
        key: Random key.
        target: Function that returns the negative log density of a vector, and further results.
        start: Mode and covariance.
        modes: All modes that matter, shape (mode, d); modes may be repeated.
        effort: Numbers of rounds.
        most: Number of rounds for which the result has space; unused space has weight zero.
    """
    factor = jnp.linalg.cholesky(start.covariance)
    copies = jnp.resize(jnp.arange(len(modes)), (KERNELS,))
    mixture = Mixture(modes[copies], WIDER * factor, modes, GUARD_WIDER * factor)

    def drawn(key: Array, mixture: Mixture) -> Weighted:
        return weigh(key, target, mixture, ROUND_POINTS)

    one = jax.eval_shape(drawn, key, mixture)
    room: Weighted = jax.tree.map(lambda leaf: jnp.zeros((most, *leaf.shape), leaf.dtype), one)
    room = room._replace(log_weight=jnp.full_like(room.log_weight, -jnp.inf))

    # Adapting and kept rounds share one loop, so that the density is compiled once.
    def step(number: Any, state: tuple[Mixture, Weighted]) -> tuple[Mixture, Weighted]:
        mixture, room = state
        draw_key, place_key = jax.random.split(jax.random.fold_in(key, number))
        weighted = drawn(draw_key, mixture)
        better = refit(place_key, weighted, mixture, start)
        kept = number - effort.adapting
        mixture = jax.tree.map(lambda new, old: jnp.where(kept < 0, new, old), better, mixture)
        # The first kept round overwrites the points of the adapting rounds.
        room = jax.tree.map(lambda whole, new: whole.at[jnp.maximum(kept, 0)].set(new), room, weighted)
        return mixture, room

    _, room = lax.fori_loop(0, effort.adapting + effort.kept, step, (mixture, room))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), room)


def weigh(key: Array, target: Target, mixture: Mixture, points: int) -> Weighted:
    """Draw points from a mixture and weigh them."""
    position = draw_points(key, mixture, points)
    potential, auxiliary = lax.map(target, position, batch_size=min(CHUNK, points))
    log_weight = -potential - proposal_density(position, mixture, points)
    return Weighted(position, jnp.where(jnp.isfinite(log_weight), log_weight, -jnp.inf), auxiliary)


def guarded(points: int) -> int:
    """Return how many of `points` points are drawn around the modes."""
    return max(1, round(GUARD * points))


def draw_points(key: Array, mixture: Mixture, points: int) -> Float[Any, "point d"]:
    """Draw points, the same number from each kernel, shape (point, d)."""
    normal_key, kernel_key, guard_key = jax.random.split(key, 3)
    few, dimension = guarded(points), mixture.factor.shape[0]
    many = points - few
    # Equal numbers from each kernel are less noisy than random numbers, and the density of the mixture is still
    # correct.
    kernels = mixture.locations[jnp.arange(many) * len(mixture.locations) // many]
    guards = mixture.guards[jnp.arange(few) * len(mixture.guards) // few]
    normal = jax.random.normal(normal_key, (points, dimension), mixture.factor.dtype)
    near = stretch(kernel_key, many, TAIL) * (normal[:many] @ mixture.factor.T)
    far = stretch(guard_key, few, GUARD_TAIL) * (normal[many:] @ mixture.guard_factor.T)
    return jnp.concatenate([kernels + near, guards + far])


def stretch(key: Array, points: int, tail: int) -> Float[Any, "point 1"]:
    """Return factors that turn normal points into Student-t points, shape (point, 1)."""
    # A chi-squared variable with an even number of degrees of freedom is a sum of exponential variables.
    uniform = jax.random.uniform(key, (points, tail // 2), float, minval=jnp.finfo(float).tiny)
    return jnp.sqrt(-0.5 * tail / jnp.log(uniform).sum(1, keepdims=True))


def proposal_density(position: Float[Array, "point d"], mixture: Mixture, points: int) -> Float[Any, "point"]:
    """Return the log density of the mixture, shape (point,)."""
    share = guarded(points) / points
    kernels = student_mixture(position, mixture.locations, mixture.factor, TAIL)
    guards = student_mixture(position, mixture.guards, mixture.guard_factor, GUARD_TAIL)
    return jnp.logaddexp(jnp.log1p(-share) + kernels, jnp.log(share) + guards)


def student_mixture(
    position: Float[Array, "point d"], locations: Float[Array, "kernel d"], factor: Float[Array, "d d"], tail: int
) -> Float[Any, "point"]:
    """Return the log density of an equal mixture of multivariate Student-t kernels of one shape, shape (point,)."""
    dimension = factor.shape[0]
    # The small factor is inverted, because a triangular solve with thousands of columns is much slower on CPUs.
    inverse = solve_triangular(factor, jnp.eye(dimension, dtype=factor.dtype), lower=True)
    unit, centers = inverse @ position.T, inverse @ locations.T
    distance = sum((unit[i][:, None] - centers[i]) ** 2 for i in range(dimension))
    power = -0.5 * (tail + dimension)
    constant = gammaln(-power) - gammaln(0.5 * tail) - 0.5 * dimension * jnp.log(tail * jnp.pi)
    # The terms of a point differ little, so scaling by the largest one keeps all of them in range.
    relative = 1.0 + distance / tail
    nearest = relative.min(1)
    mean = lax.integer_pow(lax.rsqrt(relative / nearest[:, None]), tail + dimension).mean(1)
    return constant - jnp.log(jnp.diagonal(factor)).sum() + power * jnp.log(nearest) + jnp.log(mean)


def refit(key: Array, weighted: Weighted, mixture: Mixture, start: Start) -> Mixture:
    """Return the mixture with kernels moved to points resampled by weight."""
    points, dimension = weighted.position.shape
    weight = jnp.exp(weighted.log_weight - weighted.log_weight.max())
    weight = jnp.where(jnp.isfinite(weight), weight, 0.0) + 1e-300
    # Weights are clipped at sqrt(points) times their mean, so that no point attracts all kernels
    # (ionides2008truncated).
    weight = jnp.minimum(weight, weight.mean() * jnp.sqrt(points))
    weight = weight / weight.sum()
    mean = weight @ weighted.position
    gap = weighted.position - mean
    worth = 1.0 / (weight**2).sum()
    covariance = (worth * (gap.T * weight) @ gap + PRIOR_POINTS * start.covariance) / (worth + PRIOR_POINTS)
    chosen = weighted.position[systematic(key, weight, len(mixture.locations))]
    width = (4.0 / ((dimension + 2.0) * len(chosen))) ** (1.0 / (dimension + 4.0))
    locations = mean + jnp.sqrt(1.0 - width**2) * (chosen - mean)
    return mixture._replace(locations=locations, factor=width * jnp.linalg.cholesky(covariance))


def systematic(key: Array, weight: Float[Array, "point"], number: int) -> Int[Any, "number"]:
    """Return the indices of points resampled systematically by weight, in order, shape (number,)."""
    levels = (jnp.arange(number) + jax.random.uniform(key, dtype=weight.dtype)) / number
    return jnp.clip(jnp.searchsorted(jnp.cumsum(weight), levels), 0, len(weight) - 1)


# --- One family --------------------------------------------------------------------------------------------


def weigh_family(
    key: Array, model: Model, problem: Problem, effort: Effort, most: int, steps: int, vectorized: bool
) -> tuple[Weighted, Any]:
    """Draw and weigh points for one family, in the model's unconstrained parameters.

    Also return the number of modes.
    """
    mode_key, point_key = jax.random.split(key_of(key))
    geometry, modes = find_modes(mode_key, model, problem, steps, vectorized)
    target = round_target(geometry, model, problem)
    weighted = run_importance(point_key, target, modes.start, modes.points, effort, most)
    return weighted._replace(position=weighted.auxiliary, auxiliary=()), modes.count


def weigh_batch(
    keys: Array, model: Model, problems: Problem, effort: Effort, most: int, steps: int, vectorized: bool
) -> tuple[Weighted, Any]:
    """Draw and weigh points for families along a leading axis: mapped on CPUs, vectorised on accelerators."""
    TRACES["weigh"] += 1

    def one(pair: tuple[Any, Problem]) -> tuple[Weighted, Any]:
        return weigh_family(pair[0], model, pair[1], effort, most, steps, vectorized)

    return each(one, (keys, problems), vectorized)


def interpret_batch(
    model: Model,
    problems: Problem,
    position: Float[Array, "family draw coordinate"],
    level_scores: Float[Array, "family draw"],
    vectorized: bool,
) -> Values:
    """Return constrained values of draws, shape (family, draw), with the level computed from `level_scores`."""

    def family(inputs: tuple[Problem, Any, Any]) -> Values:
        problem, vectors, scores = inputs

        def one(draw: tuple[Any, Any]) -> Values:
            values, _ = read(draw[0], model, problem)
            return values._replace(level=draw_level(draw[1], values, model, problem))

        return each(one, (vectors, scores), vectorized and not problem.evaluation.sequential)

    return each(family, (problems, position, level_scores), vectorized)


def smoothed(log_weight: Float[np.ndarray, "point"]) -> tuple[Float[np.ndarray, "point"], float]:
    """Return Pareto-smoothed log weights whose exponentials sum to one, shape (point,), and the tail index k."""
    from arviz_stats.base import array_stats

    if not np.isfinite(log_weight).sum() > len(log_weight) // 2 or np.ptp(log_weight) == 0.0:
        return np.full(len(log_weight), -np.log(len(log_weight))), np.inf
    # ArviZ expects the negative of log weights, as in leave-one-out cross-validation.
    # For tails too long for ArviZ's fit the result is nan, which diagnostics detect.
    with np.errstate(all="ignore"):
        smooth, pareto = array_stats.psislw(-log_weight)
    return smooth, float(np.nan_to_num(pareto, nan=np.inf))


def resample(weight: Float[np.ndarray, "point"], number: int, rng: np.random.Generator) -> Int[np.ndarray, "number"]:
    """Return indices of points drawn by weight, in random order so that chains are exchangeable, shape (number,)."""
    levels = (np.arange(number) + rng.random()) / number
    rows = np.minimum(np.searchsorted(np.cumsum(weight) / weight.sum(), levels), len(weight) - 1)
    return rng.permutation(rows)
