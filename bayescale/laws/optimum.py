"""Optimum: the best inputs according to a law, for every draw of its constants.

Every function takes a law and its constants in raw units, each a number or an array over draws (`Posterior.draws`,
`PublishedLaw.constants`), and works for any law. Uncertainty is propagated: a thousand draws of the constants give a
thousand best sizes. The discrepancy is not part of a law, so these are optima of the fitted law alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from bayescale._jax import on_cores
from bayescale.laws.law import Law
from bayescale.laws.shapes import root

if TYPE_CHECKING:
    from jaxtyping import Float

Constants = Mapping[str, Any]
GRID = 128
"""Number of points of the first search; the neighbours of the best point bracket the optimum."""
GOLDEN_STEPS = 60
NEWTON_STEPS = 40
MIXTURE_STEPS = 200


def train_flops(n_params: Float[Any, "*draw"], n_tokens: Float[Any, "*draw"]) -> Float[Any, "*draw"]:
    """Return the FLOPs of training, 6 N D."""
    return 6.0 * n_params * n_tokens


def allocation(
    constants: Constants, flops: Float[Any, "*draw"], kappa: float = 6.0
) -> tuple[Float[np.ndarray, "*draw"], Float[np.ndarray, "*draw"]]:
    """Return the best parameters and tokens at flops = kappa N D, in closed form.

    It holds for E + A N^-alpha + B D^-beta and for any increasing function of that sum, such as an outer power: N* = G
    (C/kappa)^(beta/(alpha+beta)) with G = (alpha A / (beta B))^(1/(alpha+beta)), and D* = C / (kappa N*).

    Args:
        constants: A, alpha, B and beta.
        flops: Budget in FLOPs: one number, or one for each draw.
        kappa: FLOPs per parameter and token.

    Returns:
        Parameters and tokens, shape (draw,).
    """
    A, alpha, B, beta = (np.asarray(constants[name], float) for name in ("A", "alpha", "B", "beta"))
    budget = np.log(flops) - np.log(kappa)
    log_params = (np.log(alpha * A) - np.log(beta * B) + beta * budget) / (alpha + beta)
    return np.exp(log_params), np.exp(budget - log_params)


def over_draws(function: Callable[[Constants], Any], constants: Constants) -> Any:
    """Evaluate a function of one draw's constants for all draws, in double precision."""
    shape = np.broadcast_shapes(*(np.shape(value) for value in constants.values()))
    size = int(np.prod(shape))
    flat = {key: np.broadcast_to(np.asarray(value, float), shape).reshape(size) for key, value in constants.items()}
    with on_cores():
        result = jax.jit(jax.vmap(function))(flat)
    return jax.tree.map(lambda leaf: np.asarray(leaf).reshape(shape + leaf.shape[1:])[()], result)


def evaluate(law: Law, constants: Constants, inputs: Mapping[str, Any]) -> Float[Any, "*draw"]:
    """Return the value of a law at inputs given by name."""
    return law.function(*(jnp.asarray(inputs[name], float) for name in law.inputs), **constants)


def minimum(function: Callable[[Any], Any], low: float, high: float) -> Any:
    """Return the point in [low, high] at which a smooth function is least; it is differentiable if it lies inside."""

    def height(x: Any) -> Any:
        value = function(x)
        return jnp.where(jnp.isnan(value), jnp.inf, value)

    grid = jnp.linspace(low, high, GRID)
    least = jnp.argmin(jax.vmap(height)(grid))
    left, right = grid[jnp.maximum(least - 1, 0)], grid[jnp.minimum(least + 1, GRID - 1)]
    ratio = 0.5 * (5.0**0.5 - 1.0)

    def step(_: Any, ends: tuple[Any, Any]) -> tuple[Any, Any]:
        a, b = ends
        inner, outer = b - ratio * (b - a), a + ratio * (b - a)
        below = height(inner) < height(outer)
        return jnp.where(below, a, inner), jnp.where(below, outer, b)

    left, right = jax.lax.stop_gradient(jax.lax.fori_loop(0, GOLDEN_STEPS, step, (left, right)))
    point = 0.5 * (left + right)
    inside = (point > low + 1e-6 * (high - low)) & (point < high - 1e-6 * (high - low))
    # Here only a zero of the slope is missing, whose derivatives come from the implicit function theorem.
    flat = root(jax.grad(function), point)
    near = inside & (jnp.abs(flat - point) < 1e-3 * (high - low))
    return jnp.where(near, flat, point)


def best(
    law: Law,
    constants: Constants,
    path: Callable[[Any], Mapping[str, Any]],
    low: float,
    high: float,
    *,
    largest: bool = False,
) -> tuple[Float[Any, "*draw"], Float[Any, "*draw"]]:
    """Return the best point along a path through a law's inputs: granularity, vocabulary, rate, batch, bits, size, ...

    Args:
        law: Any law.
        constants: See the module.
        path: Function from one free number to inputs by name, e.g. `lambda G: {"granularity": G, "flops": 1e22}`.
        low: Smallest number to try; positive, because the search is on its logarithm.
        high: Largest number to try.
        largest: Search the largest value of the law instead of the smallest.

    Returns:
        The number and the law's value there, shape (draw,) each. If the number equals `low` or `high`, the best point
        lies outside.
    """
    sign = -1.0 if largest else 1.0

    def one(draw: Constants) -> tuple[Any, Any]:
        def along(log_number: Any) -> Any:
            return sign * jnp.log(evaluate(law, draw, path(jnp.exp(log_number))))

        point = minimum(along, float(np.log(low)), float(np.log(high)))
        return jnp.exp(point), jnp.exp(sign * along(point))

    return over_draws(one, constants)


def optimum(
    law: Law,
    constants: Constants,
    budget: float,
    *,
    cost: Callable[[Any, Any], Any] = train_flops,
    over: tuple[str, str] = ("n_params", "n_tokens"),
    at: Mapping[str, float] | None = None,
    low: float = 1e5,
    high: float = 1e14,
) -> dict[str, Float[Any, "*draw"]]:
    """Return the best split of a budget between two inputs under any cost that grows with both.

    Args:
        law: Any law with the two inputs.
        constants: See the module.
        budget: Amount to be spent, in units of the cost.
        cost: Cost of the two inputs, e.g. `lambda N, D: 6 * N * D + 2 * N * served`.
        over: The two inputs.
        at: The law's other inputs.
        low: Smallest first input to try.
        high: Largest first input to try.

    Returns:
        Both inputs by name and the law's value under "value", shape (draw,) each.
    """
    first, second = over

    def affordable(x: Any) -> Any:
        # Most costs are linear in the second input, so Newton's method takes one step. If the first input alone exceeds
        # the budget, the second one is negative and the law has no value.
        return root(lambda other: cost(x, other) / budget - 1.0, jnp.ones_like(x), NEWTON_STEPS)

    def path(x: Any) -> dict[str, Any]:
        return {**(at or {}), first: x, second: affordable(x)}

    point, value = best(law, constants, path, low, high)
    with on_cores():
        other = np.asarray(jax.vmap(affordable)(jnp.atleast_1d(point).ravel())).reshape(np.shape(point))[()]
    return {first: point, second: other, "value": value}


def best_mixture(
    loss: Callable[[Any, Constants], Any], constants: Constants, domains: int
) -> tuple[Float[Any, "*draw domain"], Float[Any, "*draw"]]:
    """Return the best fractions of a mixture, by Newton's method on their logits, which keeps them on the simplex.

    Args:
        loss: Function from fractions, shape (domain,), and the constants of one draw to the loss, e.g. a weighted sum
            over mixing laws.
        constants: See the module.
        domains: Number of domains in the mixture.

    Returns:
        Fractions, shape (draw, domain), and the loss, shape (draw,). Fractions whose optimum is 0 are tiny.
    """

    def one(draw: Constants) -> tuple[Any, Any]:
        def function(logits: Any) -> Any:
            return loss(jax.nn.softmax(logits), draw)

        def step(_: Any, logits: Any) -> Any:
            slope, curvature = jax.grad(function)(logits), jax.hessian(function)(logits)
            powers, vectors = jnp.linalg.eigh(curvature)
            # Directions of negative curvature are followed downhill; adding a constant to all logits changes nothing.
            powers = jnp.maximum(jnp.abs(powers), 1e-10 * jnp.abs(powers).max() + 1e-300)
            move = vectors @ ((vectors.T @ (slope - slope.mean())) / powers)
            move = move - move.mean()
            return logits - move * jnp.minimum(1.0, 2.0 / jnp.maximum(jnp.linalg.norm(move), 1e-300))

        logits = jax.lax.fori_loop(0, MIXTURE_STEPS, step, jnp.zeros(domains))
        return jax.nn.softmax(logits), function(logits)

    return over_draws(one, constants)


def marginal(law: Law, constants: Constants, at: Mapping[str, float]) -> dict[str, Float[Any, "*draw"]]:
    """Return the derivative of the law with respect to each input at given inputs, shape (draw,), by name."""

    def one(draw: Constants) -> Any:
        inputs = {name: jnp.asarray(at[name], float) for name in law.inputs}
        return jax.grad(lambda inputs: evaluate(law, draw, inputs))(inputs)

    return over_draws(one, constants)


def equivalent(
    law: Law,
    constants: Constants,
    at: Mapping[str, float],
    name: str,
    to: Mapping[str, float],
    *,
    reach: float = 1e6,
) -> Float[Any, "*draw"]:
    """Return the value of one input that gives the same loss under other conditions, e.g. the equivalent dense size.

    Args:
        law: Any law that is monotone in `name`.
        constants: See the module.
        at: All inputs of the given case.
        name: Input to solve for.
        to: Other inputs with changed values, e.g. `{"n_experts": 1}`.
        reach: Search between `at[name] / reach` and `at[name] * reach`.

    Returns:
        The input, shape (draw,); nan if no value in this range gives the same loss, e.g. below a floor.
    """

    def one(draw: Constants) -> Any:
        target = jnp.log(evaluate(law, draw, at))

        def gap(log_input: Any) -> Any:
            return jnp.log(evaluate(law, draw, {**at, **to, name: jnp.exp(log_input)})) - target

        low, high = np.log(at[name]) - np.log(reach), np.log(at[name]) + np.log(reach)
        falls = gap(low) > gap(high)

        def halve(_: Any, ends: tuple[Any, Any]) -> tuple[Any, Any]:
            middle = 0.5 * (ends[0] + ends[1])
            beyond = (gap(middle) > 0) == falls
            return jnp.where(beyond, middle, ends[0]), jnp.where(beyond, ends[1], middle)

        left, right = jax.lax.fori_loop(0, 60, halve, (jnp.asarray(low), jnp.asarray(high)))
        return jnp.where(gap(low) * gap(high) <= 0, jnp.exp(0.5 * (left + right)), jnp.nan)

    return over_draws(one, constants)


def crossing(first: Constants, second: Constants) -> Float[np.ndarray, "*draw"]:
    """Return ln of the input at which two power laws A x^-c cross: (ln A_1 - ln A_2) / (c_1 - c_2).

    As a ratio of differences it has no mean: report quantiles, and the fraction of draws that cross within a range of
    interest.
    """
    rise = np.log(np.asarray(first["A"], float)) - np.log(np.asarray(second["A"], float))
    with np.errstate(divide="ignore", invalid="ignore"):
        return rise / (np.asarray(first["c"], float) - np.asarray(second["c"], float))


def critical_batch(constants: Constants, loss: Float[Any, "*draw"]) -> Float[Any, "*draw"]:
    """Return the batch beyond which a larger batch saves no more steps, B_star loss^(-1/a_B); see `kaplan_batch`."""
    return np.asarray(constants["B_star"]) * np.asarray(loss, float) ** (-1.0 / np.asarray(constants["a_B"]))
