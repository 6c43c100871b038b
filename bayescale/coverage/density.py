"""Density: the distribution of success rates over problems, and the likelihood of counts with the rates integrated out.

A problem is unsolvable with probability u. Otherwise its success rate is p = scale * x, with x from one of three
distributions: Beta, Kumaraswamy, or ex-Gaussian log odds, which are a normal variable minus an exponential one. In all
three the probability of rates below p is proportional to p^alpha for small p. Then c of n attempts are correct with
probability C(n, c) p^c (1 - p)^(n - c). If sampling stopped at a success, the factor in front differs but does not
depend on p, so the posterior is the same.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import betaln, log_ndtr

from bayescale._record import Array, record, static

LAWS = ("exgaussian", "beta", "kumaraswamy")
NODES = 64
"""Number of quadrature nodes over a problem's success rate."""
MORE_NODES = 96
"""Number of them for ex-Gaussian log odds, whose density may be narrower than the distance of nodes."""
REACH = 25.0
"""Distance in log odds that nodes reach beyond the likelihood's peak and beyond 0; the tails are integrated exactly."""
NARROW = 0.2
"""Factor on the spacing of nodes for the Kumaraswamy distribution, where z depends less on p if alpha is small."""
ALPHA = (0.3, 0.7)
"""Median and log standard deviation of the prior of alpha; published exponents of pass@k lie from 0.19 to 0.49."""
BETA = (3.0, 1.0)
"""Median and log standard deviation of the prior of beta."""
TAIL = (0.5, 0.7)
"""Median and log standard deviation of the prior of alpha for ex-Gaussian log odds.

There -ln coverage steepens with k, so alpha exceeds published exponents. Of the medians 0.3, 0.4 and 0.5 this one had
the smallest errors on published counts.
"""
CENTER = (-4.0, 4.0)
"""Mean and standard deviation of the prior of center, the mean of the normal part of the log odds."""
SPREAD = (2.5, 0.7)
"""Median and log standard deviation of the prior of spread, the standard deviation of the normal part."""
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
        shape = ("alpha", "center", "spread") if self.law == "exgaussian" else ("alpha", "beta")
        return shape + ("unsolvable",) * self.unsolvable + ("scale",) * self.scaled

    def power(self, alpha: Any) -> Any:
        """Return the exponent a for which (p / scale)^a has a Beta distribution."""
        return alpha if self.law == "kumaraswamy" else 1.0


class Parameters(NamedTuple):
    """Constrained parameters: numbers, or arrays of draws. Those that a distribution lacks have no effect."""

    alpha: Any
    beta: Any
    unsolvable: Any
    scale: Any
    center: Any = 0.0
    spread: Any = 1.0


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
    number = MORE_NODES if model.law == "exgaussian" else NODES
    narrow = NARROW if model.law == "kumaraswamy" else 1.0
    width = narrow * jnp.minimum(error / (rate * (1.0 - rate)), 1.0)
    reach = REACH + jnp.abs(jnp.log(rate) - jnp.log1p(-rate))
    most = jnp.arcsinh(reach / width)[:, None]
    at = most * jnp.linspace(-1.0, 1.0, number)
    ends = jnp.where((jnp.arange(number) == 0) | (jnp.arange(number) == number - 1), 0.5, 1.0)
    weight = width[:, None] * jnp.cosh(at) * ends * 2.0 * most / (number - 1)
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
    if model.law == "exgaussian":
        alpha, beta = TAIL[0] * jnp.exp(TAIL[1] * value["alpha"]), 1.0
        center = CENTER[0] + CENTER[1] * value["center"]
        spread = SPREAD[0] * jnp.exp(SPREAD[1] * value["spread"])
    else:
        alpha, center, spread = ALPHA[0] * jnp.exp(ALPHA[1] * value["alpha"]), 0.0, 1.0
        beta = BETA[0] * jnp.exp(BETA[1] * value["beta"])
    scale = jax.nn.sigmoid(value["scale"]) if model.scaled else jnp.ones(vector.shape[:-1])
    return Parameters(
        alpha=alpha,
        beta=beta if model.law == "exgaussian" else beta * scale ** model.power(alpha),
        unsolvable=jax.nn.sigmoid(value["unsolvable"]) if model.unsolvable else jnp.zeros(vector.shape[:-1]),
        scale=scale,
        center=center,
        spread=spread,
    )


def log_prior(vector: Any, model: Model) -> Any:
    """Return the log prior density of unconstrained parameters, up to a constant."""
    parameters = constrain(vector, model)
    if model.law == "exgaussian":
        total, start = -0.5 * (vector[:3] ** 2).sum(), 3
    else:
        total, start = -0.5 * (vector[0] ** 2 + (jnp.log(parameters.beta / BETA[0]) / BETA[1]) ** 2), 2
    shapes = (UNSOLVABLE,) * model.unsolvable + (SCALE,) * model.scaled
    for place, (first, second) in enumerate(shapes, start):
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
    z. Here z is x^alpha for the Kumaraswamy distribution, where it is Beta(1, beta), and x for the others. Nodes are
    dense around the peak of the likelihood and sparse in the tails, where the integrand is smooth on the scale of log
    odds. Beyond the last nodes the integrals are known.
    """
    alpha, beta = parameters.alpha, parameters.beta
    attempts, correct = pairs.attempts, pairs.correct
    if model.law == "beta" and not model.scaled:
        return betaln(alpha + correct, beta + attempts - correct) - betaln(alpha, beta)
    log_rate, log_failure, log_prior = nodes(parameters, model, pairs)
    terms = correct[:, None] * log_rate + (attempts - correct)[:, None] * log_failure + log_prior
    total = jax.nn.logsumexp(terms, axis=1)
    if model.law == "exgaussian":
        return total
    return total - betaln(1.0 if model.law == "kumaraswamy" else alpha, beta)


def nodes(parameters: Parameters, model: Model, pairs: Pairs) -> tuple[Any, Any, Any]:
    """Return log p, log(1 - p) and the log weight of the prior, up to a constant, at nodes, shape (pair, node).

    Two further nodes represent the tails beyond the other nodes: rates of 0 in effect, and rates equal to the scale.
    """
    scale, power = parameters.scale, model.power(parameters.alpha)
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
    inside, below, above = log_densities(parameters, model, odds, log_z, log_rest)
    log_prior = inside + pairs.log_weight
    never, always = jnp.full_like(below, -1e300), jnp.zeros_like(below)
    at_scale = jnp.log(jnp.maximum(1.0 - scale, 1e-300))
    return (
        jnp.concatenate([never, log_rate, always + log_scale], 1),
        jnp.concatenate([always, log_failure, always + at_scale], 1),
        jnp.concatenate([below, log_prior, above], 1),
    )


def log_densities(parameters: Parameters, model: Model, odds: Any, log_z: Any, log_rest: Any) -> tuple[Any, Any, Any]:
    """Return the log density of z's log odds, and the log probabilities below the first and above the last of them.

    All are without the constant -betaln of the Beta distribution of z. For ex-Gaussian log odds they are exact.

    Args:
        parameters: One draw, or draws of shape (draw, 1).
        model: The distribution.
        odds: Increasing log odds, the last axis.
        log_z: ln z at these log odds.
        log_rest: ln(1 - z) there.
    """
    alpha, beta = parameters.alpha, parameters.beta
    if model.law != "exgaussian":
        first = 1.0 if model.law == "kumaraswamy" else alpha
        inside = first * log_z + beta * log_rest
        return inside, first * log_z[..., :1] - jnp.log(first), beta * log_rest[..., -1:] - jnp.log(beta)
    distance = (odds - parameters.center) / parameters.spread
    width = alpha * parameters.spread
    # The probability that the normal part is above these log odds and the sum below them.
    crossed = log_mills(distance + width) - 0.5 * distance**2 - 0.5 * math.log(2.0 * math.pi)
    over = log_ndtr(-distance[..., -1:])
    part = jnp.exp(jnp.minimum(crossed[..., -1:] - over, -1e-9))
    below = jnp.logaddexp(log_ndtr(distance[..., :1]), crossed[..., :1])
    return jnp.log(alpha) + crossed, below, over + jnp.log1p(-part)


def log_mills(x: Any) -> Any:
    """Return the log Mills ratio of the standard normal distribution, ln((1 - Phi(x)) / phi(x)).

    For large x the difference of both logarithms would lose its digits, and its gradient more of them, so there the
    asymptotic series is used; at 20 its error is 4e-9.
    """
    near, far = jnp.minimum(x, 20.0), jnp.maximum(x, 20.0)
    series = -jnp.log(far) + jnp.log1p(-(far**-2) + 3.0 * far**-4 - 15.0 * far**-6)
    return jnp.where(x < 20.0, log_ndtr(-near) + 0.5 * near**2 + 0.5 * math.log(2.0 * math.pi), series)


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
