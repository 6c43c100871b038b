"""Parameters: the generative program of a model, and the map from its unconstrained parameters to values."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from bayescale._jax import on_cores
from bayescale._record import Array
from bayescale.laws.law import Law
from bayescale.laws.priors import LEVELS, Fall, Scene
from bayescale.model.problem import Model, Problem, Values

if TYPE_CHECKING:
    from jaxtyping import Float

FLATTEST_FALL = 1e-6


# --- What coordinates mean ---------------------------------------------------------------------------------


def log_curve(law: Law, constants: Mapping[str, Any], z: Float[Array, "input"]) -> Float[Any, ""]:
    """Return ln f at one point, `z` = ln(x / reference), shape (input,)."""
    return jnp.log(law.function(*law.arguments(jnp.exp(z)), **constants))


def relative_curve(law: Law, constants: Mapping[str, Any], z: Float[Array, "row input"]) -> Float[Any, "row"]:
    """Return ln f at rows of `z`, shape (row,); relative to the reference where the law has a level."""
    values = jax.vmap(lambda row: log_curve(law, constants, row))(z)
    return values - log_curve(law, constants, jnp.zeros(z.shape[1])) if law.level else values


def active_falls(law: Law, constants: Mapping[str, Any], problem: Problem) -> Float[Any, "active"]:
    """Return -d ln f / d ln x_j at the reference scale, for the inputs j that vary, shape (active input,)."""
    inputs = np.eye(problem.z.shape[1])[np.flatnonzero(problem.active)]
    return jnp.stack([-slope_along(law, constants, jnp.asarray(direction)) for direction in inputs])


def slope_along(law: Law, constants: Mapping[str, Any], direction: Float[Array, "input"]) -> Float[Any, ""]:
    """Return the derivative of ln f at the reference scale when ln x moves along `direction`, shape (input,)."""
    start = jnp.zeros_like(direction)
    return jax.jvp(lambda z: log_curve(law, constants, z), (start,), (direction,))[1]


def draw(sample: Callable[[str, Any], Any], model: Model, problem: Problem, falls: Any = None) -> Values:
    """Run the generative program of a model: draw from every prior, in a fixed order.

    Args:
        sample: Function that supplies unconstrained parameters by name (see `priors.Sample`).
        model: Law, discrepancy and likelihood.
        problem: The family, which has spans and the number of rows.
        falls: Effect of one unit of each exponent, see `active_falls`; computed if None.
    """
    law, drawn = model.law, {}

    def noted(name: str, distribution: Any) -> Any:
        drawn[name] = sample(name, distribution)
        return drawn[name]

    constants = draw_constants(noted, drawing_order(law), law, problem, falls)
    fall: Any = 1.0
    if model.discrepancy is not None and any(
        isinstance(prior, Fall) and len(law.covered[key]) == sum(problem.active) for key, prior in law.priors.items()
    ):
        # The decrease of the law over the training span is a parameter.
        fall = jnp.exp(drawn["log_fall"])
    elif model.discrepancy is not None:
        path = jnp.where(jnp.asarray(problem.active), problem.span, 0.0)
        fall = jnp.maximum(jnp.abs(slope_along(law, constants, path)), FLATTEST_FALL)
    return draw_spreads(sample, fall, model, problem)._replace(constants=constants)


def draw_spreads(sample: Callable[[str, Any], Any], fall: Any, model: Model, problem: Problem) -> Values:
    """Draw everything except the law, given the law's net decrease over the training span."""
    scatter, seed = model.likelihood.draw(sample)
    amplitude = model.discrepancy.draw(sample, fall) if model.discrepancy is not None else 0.0
    level: Any = 0.0
    weights: Any = jnp.ones(len(problem.y))
    latent: Any = ()
    if model.likelihood.samples_level and model.law.level:
        level = sample("level", dist.Normal(0.0, model.law.level[1].sd))
    # Latent log odds come after them, because ranks of simulated parameters leave out the latter.
    chance, ceiling = problem.evaluation.draw_range(sample)
    concentration = model.likelihood.draw_concentration(sample)
    if number := problem.evaluation.shape_of_scores(problem.replicated):
        latent = sample("latent", dist.Normal(0.0, 1.0).expand([number]))
    if model.likelihood.tail is not None and problem.latent:
        half = 0.5 * model.likelihood.tail
        gamma = dist.Gamma(half, half).expand([len(problem.y)])
        log_weights = sample("log_weight", dist.TransformedDistribution(gamma, dist.transforms.ExpTransform().inv))
        weights = jnp.exp(log_weights)
    return Values({}, scatter, seed, amplitude, level, weights, latent, chance, ceiling, concentration)


def draw_constants(
    sample: Callable[[str, Any], Any], keys: Sequence[str], law: Law, problem: Problem, falls: Any = None
) -> dict[str, Any]:
    """Draw from the priors of a law under the given keys, in the order of `drawing_order`."""
    spans = jnp.asarray(problem.span)[np.flatnonzero(problem.active)]

    def unit_falls(constants: Mapping[str, Any]) -> Any:
        return active_falls(law, constants, problem) if falls is None else falls

    constants: dict[str, Any] = {}
    for key in keys:
        prior, names = law.priors[key], law.covered[key]
        # Exponents of one show the effect of one unit of exponent at the reference.
        ones = dict.fromkeys(names, 1.0) if isinstance(prior, Fall) else {}
        constants |= prior.draw(sample, names, Scene(constants | ones, unit_falls, spans, problem.plateau))
    return constants


def drawing_order(law: Law) -> list[str]:
    """Return the keys of the law's priors in the order in which they are sampled.

    Priors of single constants come first, priors of several constants (`LEVELS`) next, and `Fall` last, because it
    depends on the others.
    """

    def rank(key: str) -> tuple[int, str]:
        prior = law.priors[key]
        return (2 if isinstance(prior, Fall) else 1 if isinstance(prior, LEVELS) else 0, key)

    return sorted(law.priors, key=rank)


def coordinates(model: Model, problem: Problem) -> tuple[str, ...]:
    """Return the names of the unconstrained parameters in the order of their vector.

    Vector elements have an index from 0.
    """
    leaves, structure = jax.tree.flatten((model, problem))
    return named_coordinates(structure, tuple(np.shape(leaf) for leaf in leaves))


@functools.cache
def named_coordinates(structure: Any, shapes: tuple[tuple[int, ...], ...]) -> tuple[str, ...]:
    """Return the names of the unconstrained parameters for a shape of problem; cached, as they are slow to compute."""
    model, problem = jax.tree.unflatten(structure, [np.ones(shape) for shape in shapes])
    names: list[str] = []

    def note(name: str, distribution: Any) -> Any:
        shape = distribution.shape()
        names.extend([name] if not shape else [f"{name}[{i}]" for i in range(shape[0])])
        return jnp.zeros(shape)

    jax.eval_shape(lambda: draw(note, model, problem).residual_sd)
    return tuple(names)


def singles(vector: Array) -> list[Any]:
    """Return the elements of a vector separately; with indexing, the gradient would add up as many vectors."""
    return [part.reshape(()) for part in jax.lax.split(vector, (1,) * len(vector))]


def taker(vector: Array) -> Callable[[str, Any], Any]:
    """Return a supplier that returns the elements of a vector in their order."""
    left = singles(vector)

    def take(name: str, distribution: Any) -> Any:
        del name
        shape = distribution.shape()
        return jnp.stack([left.pop(0) for _ in range(shape[0])]) if shape else left.pop(0)

    return take


def read(vector: Array, model: Model, problem: Problem, falls: Any = None) -> tuple[Values, Any]:
    """Return the constrained values of a vector and the log prior density of each parameter, shape (coordinate,).

    `falls` is the effect of one unit of each exponent, if it is already known: see `active_falls`.
    """
    take, drawn = taker(vector), []

    def sample(name: str, distribution: Any) -> Any:
        value = take(name, distribution)
        drawn.append((distribution, value))
        return value

    values = draw(sample, model, problem, falls)
    if all(isinstance(distribution, dist.Normal) for distribution, _ in drawn):
        # Computed for all parameters at once, which takes fewer operations.
        means, sds = (jnp.stack([getattr(d, name) for d, _ in drawn]) for name in ("loc", "scale"))
        return values, dist.Normal(means, sds).log_prob(vector)
    return values, jnp.concatenate([jnp.atleast_1d(distribution.log_prob(value)) for distribution, value in drawn])


def prior_center(model: Model, problem: Problem) -> Any:
    """Return the unconstrained parameters at the centre of their priors, shape (coordinate,)."""
    return prior_place(jnp.zeros(len(coordinates(model, problem))), model, problem)


def prior_place(scores: Array, model: Model, problem: Problem) -> Any:
    """Return the parameters that lie `scores` standard deviations from the centre of their priors, shape (coordinate,).

    With standard normal scores this is a draw from the prior, except that parameters without a normal prior equal their
    score.
    """
    parts: list[Any] = []
    take = taker(scores)

    def sample(name: str, distribution: Any) -> Any:
        value = take(name, distribution)
        if isinstance(distribution, dist.Normal):
            value = distribution.loc + distribution.scale * value
        parts.append(jnp.atleast_1d(value))
        return value

    draw(sample, model, problem)
    return jnp.concatenate(parts)


def simulate_prior(key: Array, model: Model, problem: Problem) -> tuple[Any, Values]:
    """Draw unconstrained parameters, shape (parameter,), and their constrained values from the prior."""
    parts: list[Any] = []

    def sample(name: str, distribution: Any) -> Any:
        del name
        value = distribution.sample(jax.random.fold_in(key, len(parts)))
        parts.append(jnp.atleast_1d(value))
        return value

    values = draw(sample, model, problem)
    return jnp.concatenate(parts), values


def constrain_draws(position: Array, model: Model, problem: Problem) -> Values:
    """Return the constrained values of draws, in float64; `position` has shape (chain, draw, parameter)."""
    with on_cores():
        return compact(jax.tree.map(np.asarray, constrain_all(np.asarray(position), model, problem)))


@jax.jit
def constrain_all(position: Array, model: Model, problem: Problem) -> Any:
    """Return the constrained values of draws, leading axes (chain, draw); compiled once for each shape of problem."""
    return jax.vmap(jax.vmap(lambda vector: read(vector, model, problem)[0]))(position)


def compact(values: Values) -> Values:
    """Keep values that are equal in all draws only once, such as the weights of rows without Student-t noise."""

    def shared(leaf: np.ndarray) -> np.ndarray:
        first = leaf[:1, :1].copy()
        return np.broadcast_to(first, leaf.shape) if np.array_equal(np.broadcast_to(first, leaf.shape), leaf) else leaf

    return jax.tree.map(shared, values)
