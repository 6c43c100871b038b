"""Density: the distribution of success rates over problems, and the likelihood of counts with the rates integrated out.

A problem is unsolvable with probability u. Otherwise its success rate is p = scale * x, with x from a Beta or a
Kumaraswamy distribution. Then c of n attempts are correct with probability C(n, c) p^c (1 - p)^(n - c). If sampling
stopped at a success, the factor in front differs but does not depend on p, so the posterior is the same.
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
"""Number of quadrature nodes over a problem's success rate."""
REACH = 25.0
"""Distance in log odds that nodes reach beyond the likelihood's peak and beyond 0; the tails are integrated exactly."""
NARROW = 0.2
"""Factor on the spacing of nodes for the Kumaraswamy distribution, where z depends less on p if alpha is small."""
ALPHA = (0.3, 0.7)
"""Median and log standard deviation of the prior of alpha; published exponents of pass@k lie from 0.19 to 0.49."""
BETA = (3.0, 1.0)
"""Median and log standard deviation of the prior of beta."""
UNSOLVABLE = (1.0, 9.0)
"""Beta prior of the fraction of problems that no number of attempts solves."""
SCALE = (1.0, 1.0)
"""Beta prior of the largest success rate, which may be 0.01 for small models."""


@record
class Model:
    """Kind of distribution of success rates.

    Attributes:
        law: One of `LAWS`.
        unsolvable: Whether a fraction of problems may be unsolvable.
        scaled: Whether the largest success rate may be below 1.
    """

    law: str = static(default="beta")
    unsolvable: bool = static(default=True)
    scaled: bool = static(default=True)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of the unconstrained vector."""
        return ("alpha", "beta") + ("unsolvable",) * self.unsolvable + ("scale",) * self.scaled

    def power(self, alpha: Any) -> Any:
        """Return the exponent a for which (p / scale)^a has a Beta distribution."""
        return alpha if self.law == "kumaraswamy" else 1.0


class Parameters(NamedTuple):
    """Constrained parameters: numbers, or arrays of draws."""

    alpha: Any
    beta: Any
    unsolvable: Any
    scale: Any


@record
class Pairs:
    """Distinct pairs of counts, with quadrature nodes for each.

    Attributes:
        attempts: Number of attempts, shape (pair,).
        correct: Number of correct attempts, shape (pair,).
        problems: Number of problems with this pair, shape (pair,).
        spread: Nodes in log odds minus their centre, shape (pair, node).
        log_weight: Logarithm of the weight of each node, shape (pair, node).
    """

    attempts: Array
    correct: Array
    problems: Array
    spread: Array
    log_weight: Array


def padded(model: Model, attempts: np.ndarray, correct: np.ndarray, problems: np.ndarray) -> Pairs:
    """Return pairs with nodes; their number is padded to one of few sizes, so that few programs are compiled."""
    size = len(attempts)
    room = -size % max(16, 1 << max((size - 1).bit_length() - 2, 0))
    fills = zip((attempts, correct, problems), (1, 0, 0), strict=True)
    made, right, number = (np.pad(np.asarray(v, float), (0, room), constant_values=fill) for v, fill in fills)
    return Pairs(made, right, number, *map(np.asarray, placed(model, made, right)))


def placed(model: Model, attempts: Any, correct: Any) -> tuple[Any, Any]:
    """Return nodes for pairs of counts, see `Pairs`: width * sinh(t) at even t, with the width of the likelihood.

    A width that is too small costs little accuracy, because nodes are farther and farther apart.
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
    """Return an approximate peak of the likelihood of a success rate, and its standard deviation."""
    rate = (correct + 0.5) / (attempts + 1.0)
    return rate, jnp.sqrt(rate * (1.0 - rate) / (attempts + 1.0))


def constrain(vector: Any, model: Model) -> Parameters:
    """Return the constrained parameters of unconstrained vectors, whose last axis is the parameter.

    The second parameter stands for beta / scale, or for beta / scale^alpha of the Kumaraswamy distribution. Counts
    determine it much better than beta or scale alone: where rates are small, their density decreases like exp(-p beta /
    scale).
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
    """Return the log prior density of unconstrained parameters, up to a constant."""
    parameters = constrain(vector, model)
    total = -0.5 * (vector[0] ** 2 + (jnp.log(parameters.beta / BETA[0]) / BETA[1]) ** 2)
    shapes = (UNSOLVABLE,) * model.unsolvable + (SCALE,) * model.scaled
    for place, (first, second) in enumerate(shapes, 2):
        total -= first * jax.nn.softplus(-vector[place]) + second * jax.nn.softplus(vector[place])
    return total


def log_likelihood(vector: Any, model: Model, pairs: Pairs) -> Any:
    """Return the log likelihood of the counts, without factors that do not depend on parameters."""
    parameters = constrain(vector, model)
    return (pairs.problems * log_chance(parameters, model, pairs)).sum()


def potential(vector: Any, model: Model, pairs: Pairs) -> Any:
    """Return the negative log posterior density of unconstrained parameters."""
    return -log_prior(vector, model) - log_likelihood(vector, model, pairs)


def log_chance(parameters: Parameters, model: Model, pairs: Pairs) -> Any:
    """Return the log probability of these correct attempts, in order, averaged over all problems, shape (pair,).

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
    """Return the log probability of counts, averaged over solvable problems: ln E[p^c (1 - p)^(n - c)], (pair,).

    With scale 1 the Beta distribution has a closed form. Otherwise a trapezoidal rule integrates over the log odds of
    z. Here z is x for the Beta distribution, and x^alpha for the Kumaraswamy distribution, where it is Beta(1, beta).
    Nodes are dense around the peak of the likelihood and sparse in the tails, where the integrand is smooth on the
    scale of log odds. Beyond the last nodes the integrals are known.
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

    Two further nodes represent the tails beyond the other nodes: rates of 0 in effect, and rates equal to the scale.
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
    """Return the log odds at the centre of the nodes, shape (pair,); the integrals hardly depend on it."""
    rate, error = rate_of(attempts, correct)
    edge = jnp.clip(error * jnp.exp(-log_scale), 1e-12, 0.5)
    log_x = jnp.minimum(jnp.log(rate) - log_scale, jnp.log1p(-edge))
    log_z = jnp.clip(power * log_x, -600.0, -1e-15)
    return lax.stop_gradient(log_z - jnp.log(-jnp.expm1(log_z)))


@jax.jit
def draws_of_coverage(parameters: Parameters, model: Model, attempts: Any) -> Any:
    """Return the probability that a problem is solved within given numbers of attempts, shape (draw, attempt).

    Weights of nodes are normalised, so that small probabilities are accurate and all lie between 0 and 1.

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
