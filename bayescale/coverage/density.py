"""Density: the distribution of success rates over problems, and the likelihood of counts with the rates integrated out.

A problem has no chance at all with probability u, else its success rate is p = scale * x with x from a Beta or a
Kumaraswamy distribution. Of n attempts c are correct with probability C(n, c) p^c (1 - p)^(n - c); where sampling
stopped at a success the factor before p differs, which changes no posterior.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import betaln

from bayescale._record import Array, record, static

LAWS = ("beta", "kumaraswamy")
NODES = 64
"""Nodes of the quadrature over a problem's success rate."""
REACH = 25.0
"""Log odds on either side of the likelihood's peak, and of 0, that nodes reach; the tails beyond are exact."""
NARROW = 0.2
"""Nodes of the Kumaraswamy distribution lie this much closer, since z depends less on p where alpha is small."""
ALPHA = (0.3, 0.7)
"""Median and log standard deviation of the prior of alpha; published exponents of pass@k lie from 0.19 to 0.49."""
BETA = (3.0, 1.0)
"""The same of beta."""
UNSOLVABLE = (1.0, 9.0)
"""Beta prior of the share of problems that no number of attempts solves."""
SCALE = (1.0, 1.0)
"""Beta prior of the largest success rate; of small models it may be 0.01."""


@record
class Model:
    """Kind of the distribution of success rates.

    Attributes:
        law: One of `LAWS`.
        unsolvable: Whether a share of problems may have no chance at all.
        scaled: Whether the largest success rate may be below 1.
    """

    law: str = static(default="beta")
    unsolvable: bool = static(default=True)
    scaled: bool = static(default=True)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of the coordinates."""
        return ("alpha", "beta") + ("unsolvable",) * self.unsolvable + ("scale",) * self.scaled

    def power(self, alpha: Any) -> Any:
        """Return the power of x = p / scale that has a Beta distribution."""
        return alpha if self.law == "kumaraswamy" else 1.0


class Parameters(NamedTuple):
    """Constrained parameters: numbers, or arrays of draws."""

    alpha: Any
    beta: Any
    unsolvable: Any
    scale: Any


@record
class Pairs:
    """Distinct pairs of counts, of shape (pair,), with nodes for each.

    Attributes:
        attempts: Shape (pair,).
        correct: Shape (pair,).
        problems: Problems that have this pair, shape (pair,).
        spread: Nodes in log odds, less their centre, shape (pair, node).
        log_weight: Logarithm of the weight of each node, shape (pair, node).
    """

    attempts: Array
    correct: Array
    problems: Array
    spread: Array
    log_weight: Array


def padded(model: Model, attempts: np.ndarray, correct: np.ndarray, problems: np.ndarray) -> Pairs:
    """Return pairs with nodes, padded to few different numbers of them, so that few programs are compiled."""
    size = len(attempts)
    room = -size % max(16, 1 << max((size - 1).bit_length() - 2, 0))
    fills = zip((attempts, correct, problems), (1, 0, 0), strict=True)
    made, right, number = (np.pad(np.asarray(v, float), (0, room), constant_values=fill) for v, fill in fills)
    return Pairs(made, right, number, *map(np.asarray, placed(model, made, right)))


def placed(model: Model, attempts: Any, correct: Any) -> tuple[Any, Any]:
    """Return nodes for pairs of counts, see `Pairs`: width * sinh(t) at even t, with a width as the likelihood has.

    A width that is too small costs little, since nodes lie farther and farther apart.
    """
    rate, error = rate_of(attempts, correct)
    narrow = NARROW if model.law == "kumaraswamy" else 1.0
    width = narrow * jnp.minimum(error / (rate * (1.0 - rate)), 1.0)
    reach = REACH + jnp.abs(jnp.log(rate) - jnp.log1p(-rate))
    most = jnp.arcsinh(reach / width)[:, None]
    at = most * jnp.linspace(-1.0, 1.0, NODES)
    ends = jnp.where((jnp.arange(NODES) == 0) | (jnp.arange(NODES) == NODES - 1), 0.5, 1.0)
    weight = width[:, None] * jnp.cosh(at) * ends * 2.0 * most / (NODES - 1)
    return width[:, None] * jnp.sinh(at), jnp.log(weight)


def rate_of(attempts: Any, correct: Any) -> tuple[Any, Any]:
    """Return about where the likelihood of a success rate peaks, and its standard deviation."""
    rate = (correct + 0.5) / (attempts + 1.0)
    return rate, jnp.sqrt(rate * (1.0 - rate) / (attempts + 1.0))


def constrain(vector: Any, model: Model) -> Parameters:
    """Return the parameters of unconstrained ones, whose last axis is the coordinate.

    The second coordinate is that of beta / scale, or beta / scale^alpha of the Kumaraswamy distribution, which counts
    tell much better than either: where rates are small their density falls in p like exp(-p beta / scale).
    """
    value = {name: vector[..., place] for place, name in enumerate(model.names)}
    alpha = ALPHA[0] * jnp.exp(ALPHA[1] * value["alpha"])
    scale = jax.nn.sigmoid(value["scale"]) if model.scaled else jnp.ones(vector.shape[:-1])
    return Parameters(
        alpha=alpha,
        beta=BETA[0] * jnp.exp(BETA[1] * value["beta"]) * scale ** model.power(alpha),
        unsolvable=jax.nn.sigmoid(value["unsolvable"]) if model.unsolvable else jnp.zeros(vector.shape[:-1]),
        scale=scale,
    )


def log_prior(vector: Any, model: Model) -> Any:
    """Return the log density of the prior of unconstrained parameters, up to a constant."""
    parameters = constrain(vector, model)
    total = -0.5 * (vector[0] ** 2 + (jnp.log(parameters.beta / BETA[0]) / BETA[1]) ** 2)
    shapes = (UNSOLVABLE,) * model.unsolvable + (SCALE,) * model.scaled
    for place, (first, second) in enumerate(shapes, 2):
        total -= first * jax.nn.softplus(-vector[place]) + second * jax.nn.softplus(vector[place])
    return total


def log_likelihood(vector: Any, model: Model, pairs: Pairs) -> Any:
    """Return the log likelihood of the counts, without factors that no parameter changes."""
    parameters = constrain(vector, model)
    return (pairs.problems * log_chance(parameters, model, pairs)).sum()


def potential(vector: Any, model: Model, pairs: Pairs) -> Any:
    """Return the negative log density of the posterior of unconstrained parameters."""
    return -log_prior(vector, model) - log_likelihood(vector, model, pairs)


def log_chance(parameters: Parameters, model: Model, pairs: Pairs) -> Any:
    """Return the log chance of stated attempts, in order, to hold these correct ones, over all problems, shape (pair,).

    Args:
        parameters: One draw.
        model: The distribution.
        pairs: Counts.
    """
    solvable = log_solvable(parameters, model, pairs)
    if not model.unsolvable:
        return solvable
    share = jnp.clip(parameters.unsolvable, 1e-300, 1.0 - 1e-15)
    some = jnp.log1p(-share) + solvable
    return jnp.where(pairs.correct > 0, some, jnp.logaddexp(jnp.log(share), some))


def log_solvable(parameters: Parameters, model: Model, pairs: Pairs) -> Any:
    """Return the same over problems that have a chance: the log of E[p^c (1 - p)^(n - c)], shape (pair,).

    With scale 1 the Beta distribution has a closed form. Else a trapezoidal rule integrates over the log odds y of z,
    where z is x of the Beta distribution, and x^alpha of the Kumaraswamy distribution, which is Beta(1, beta). Nodes
    are dense around the peak of the likelihood and sparse in the tails, where everything is smooth on the scale of log
    odds. Beyond the last nodes the integrals are known.
    """
    alpha, beta, _, _ = parameters
    attempts, correct = pairs.attempts, pairs.correct
    if model.law == "beta" and not model.scaled:
        return betaln(alpha + correct, beta + attempts - correct) - betaln(alpha, beta)
    log_rate, log_failure, log_prior = nodes(parameters, model, pairs)
    first = 1.0 if model.law == "kumaraswamy" else alpha
    terms = correct[:, None] * log_rate + (attempts - correct)[:, None] * log_failure + log_prior
    return jax.nn.logsumexp(terms, axis=1) - betaln(first, beta)


def nodes(parameters: Parameters, model: Model, pairs: Pairs) -> tuple[Any, Any, Any]:
    """Return log p, log(1 - p) and the log weight of the prior, up to a constant, at nodes, shape (pair, node).

    Two more nodes stand for what lies beyond the others: rates of 0 in effect, and the scale.
    """
    alpha, beta, _, scale = parameters
    power, first = model.power(alpha), 1.0 if model.law == "kumaraswamy" else alpha
    log_scale = jnp.log(scale)
    odds = center(log_scale, power, pairs.attempts, pairs.correct)[:, None] + pairs.spread
    inverse = jnp.exp(jnp.minimum(odds, 700.0))
    log_rest = -jnp.log1p(inverse)
    log_z = odds + log_rest
    log_rate = log_scale + log_z / power
    if model.law == "kumaraswamy":
        log_failure = jnp.log(-jnp.expm1(jnp.minimum(log_rate, -1e-300)))
    else:
        log_failure = jnp.log1p((1.0 - scale) * inverse) + log_rest
    log_prior = first * log_z + beta * log_rest + pairs.log_weight
    below = first * log_z[:, :1] - jnp.log(first)
    above = beta * log_rest[:, -1:] - jnp.log(beta)
    never, always = jnp.full_like(below, -1e300), jnp.zeros_like(below)
    at_scale = jnp.log(jnp.maximum(1.0 - scale, 1e-300))
    return (
        jnp.concatenate([never, log_rate, always + log_scale], 1),
        jnp.concatenate([always, log_failure, always + at_scale], 1),
        jnp.concatenate([below, log_prior, above], 1),
    )


def center(log_scale: Any, power: Any, attempts: Any, correct: Any) -> Any:
    """Return the log odds around which nodes lie, shape (pair,); integrals do not depend on them."""
    rate, error = rate_of(attempts, correct)
    edge = jnp.clip(error * jnp.exp(-log_scale), 1e-12, 0.5)
    log_x = jnp.minimum(jnp.log(rate) - log_scale, jnp.log1p(-edge))
    log_z = jnp.clip(power * log_x, -600.0, -1e-15)
    return lax.stop_gradient(log_z - jnp.log(-jnp.expm1(log_z)))


@jax.jit
def draws_of_coverage(parameters: Parameters, model: Model, attempts: Any) -> Any:
    """Return the chance that a problem is solved by so many attempts, shape (draw, attempt).

    Weights of nodes are normalised, so that small chances are precise and none lies outside of 0 to 1.

    Args:
        parameters: Draws, each field of shape (draw,).
        model: The distribution.
        attempts: Numbers of attempts, shape (attempt,).
    """
    none = jnp.zeros_like(attempts)
    pairs = Pairs(attempts, none, none, *placed(model, attempts, none))

    def chance(draw: tuple[Any, ...]) -> Any:
        one = Parameters(*draw)
        if model.law == "beta" and not model.scaled:
            solved = -jnp.expm1(log_solvable(one, model, pairs))
        else:
            _, log_failure, log_prior = nodes(one, model, pairs)
            solved = (jax.nn.softmax(log_prior, 1) * -jnp.expm1(attempts[:, None] * log_failure)).sum(1)
        return (1.0 - one.unsolvable) * jnp.clip(solved, 0.0, 1.0)

    return lax.map(chance, tuple(parameters))
