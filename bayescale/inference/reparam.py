"""Geometry: coordinates in which the posterior is close to a standard normal distribution.

A smooth one-to-one map does not change the posterior, because its log determinant is part of the density. Two maps make
the density easy for NUTS.

`reparam_to_unconstrained`. An exponent is sampled by way of the net decrease b_j = m_j C_j of ln f over the span, at
the slope of the reference. Here m_j is the fraction of the law that varies with input j, and C_j the decrease of ln of
that fraction over the span. If m_j is small, the same b_j means a steep decrease C_j = b_j / m_j. The data determine
the drop over the whole span, from end to end, so the reparameterised coordinates contain its logarithm in place of ln
b_j:

    drop_j = m_j (e^{C_j / 2} - e^{-C_j / 2}) = 2 m_j sinh(C_j / 2),

which is the drop of a sum of power laws in units of its value at the reference, and close to the drop of other laws.
Without replicates the data determine only residual and seed noise together, so the reparameterised coordinates are the
logarithms of the root sum of squares of both sds and of their ratio.

`scores_to_reparam`. How well the data determine the law depends on the discrepancy and the noise: with a large
discrepancy the floor is hardly determined, with a small one very precisely. Here reparameterised coordinates theta are
replaced by standardised ones, v (standard scores), for the law linearised at the mode, direction by direction:

    theta = theta_0 + V (m(w) + v / sqrt(1 + d(w))),
    d_i(w) = c_i' K(w)^-1 c_i,   m_i = (c_i' K(w)^-1 r + g_i) / (1 + d_i)

with w the variances, K the covariance of the rows, r the residuals and g the prior's slope at the mode. The columns of
V are directions of unit prior variance in which data at the mode are independent, and c_i is the change of the curve
along each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from bayescale._record import Array, record
from bayescale.model.density import log_likelihood, offset
from bayescale.model.level import level_variance
from bayescale.model.parameters import (
    active_falls,
    coordinates,
    draw_constants,
    draw_spreads,
    drawing_order,
    read,
    singles,
    taker,
)
from bayescale.model.problem import Model, Problem, Values

if TYPE_CHECKING:
    from jaxtyping import Float

DIFFERENCE = 1e-2
"""Step of the finite differences for linearisation; coordinates have about unit scale."""
FLATTEST = 0.05
"""Smallest curvature of a prior in its own coordinates, which have about unit scale."""


@record
class Geometry:
    """The law linearised at one point.

    Attributes:
        point: Reparameterised coordinates of the point, shape (coordinate,).
        vector: Unconstrained parameters of the point, shape (coordinate,).
        directions: V, shape (p, p).
        columns: Change of the curve along each direction, the residuals, and ones, shape (row, p + 2); in the
            discrepancy's eigenbasis if the problem has one.
        pull: Slope of the law's log prior along each direction, shape (p,).
    """

    point: Float[Array, "coordinate"]
    vector: Float[Array, "coordinate"]
    directions: Float[Array, "p p"]
    columns: Float[Array, "row p+2"]
    pull: Float[Array, "p"]


# --- Drop over the span in place of the slope at the reference -----------------------------------------


def moving(vector: Float[Array, "coordinate"], model: Model, problem: Problem) -> tuple[list[int], Any] | None:
    """Return the indices of the net decreases among the parameters, and the fraction of the law that varies with each.

    None for a law without such parameters. The fractions do not depend on the decreases, so `vector` may contain the
    decreases or the drops that replace them (see the module).
    """
    names = coordinates(model, problem)
    if "log_fall" not in names:
        return None
    slots = [i for i, name in enumerate(names) if name.startswith("log_fall_ratio_")] + [names.index("log_fall")]
    *others, fall = drawing_order(model.law)
    constants = draw_constants(taker(vector), others, model.law, problem)
    constants |= dict.fromkeys(model.law.covered[fall], 1.0)
    return slots, active_falls(model.law, constants, problem)


def reparam_to_unconstrained(
    reparam: Float[Array, "coordinate"], model: Model, problem: Problem
) -> tuple[Float[Any, "coordinate"], Float[Any, ""]]:
    """Map reparameterised coordinates to unconstrained parameters, shape (coordinate,).

    Also return the log determinant.
    """
    return unconstrained_with_falls(reparam, model, problem)[:2]


def unconstrained_with_falls(
    reparam: Float[Array, "coordinate"], model: Model, problem: Problem
) -> tuple[Any, Any, Any]:
    """Return the results of `reparam_to_unconstrained`, and the fractions of the law that vary, or None."""
    vector = separate_spreads(reparam, model, problem)
    found = moving(vector, model, problem)
    if found is None:
        return vector, 0.0, None
    slots, share = found
    half = 0.5 * jnp.exp(reparam[jnp.asarray(slots)]) / share
    gross = 2.0 * jnp.arcsinh(half)
    net = jnp.log(share) + jnp.log(gross)
    parts = singles(vector)
    *others, last = singles(net)
    total = jax.nn.logsumexp(net) if others else last
    for slot, value in zip(slots, [*(other - last for other in others), total], strict=True):
        parts[slot] = value
    return jnp.stack(parts), (jnp.log(2.0 * half / gross) - 0.5 * jnp.log1p(half**2)).sum(), share


def constrain_reparam(
    reparam: Float[Array, "coordinate"], model: Model, problem: Problem
) -> tuple[Any, Values, Any, Any]:
    """Return unconstrained parameters, constrained values, log prior densities, and the log determinant of the map."""
    # The fractions from which the map is computed are passed on, so that they are differentiated once.
    vector, log_determinant, share = unconstrained_with_falls(reparam, model, problem)
    values, prior = read(vector, model, problem, share)
    return vector, values, prior, log_determinant


def unconstrained_to_reparam(
    vector: Float[Array, "coordinate"], model: Model, problem: Problem
) -> Float[Any, "coordinate"]:
    """Map unconstrained parameters to reparameterised coordinates: the inverse of `reparam_to_unconstrained`."""
    reparam = vector
    if spreads := sharing(model, problem):
        first, second = spreads
        reparam = reparam.at[first].set(0.5 * jnp.logaddexp(2.0 * vector[first], 2.0 * vector[second]))
        reparam = reparam.at[second].set(vector[second] - vector[first])
    found = moving(vector, model, problem)
    if found is None:
        return reparam
    slots, share = found
    ratios = jnp.append(vector[jnp.asarray(slots[:-1], int)], 0.0)
    gross = jnp.exp(vector[slots[-1]] + jax.nn.log_softmax(ratios)) / share
    return reparam.at[jnp.asarray(slots)].set(jnp.log(2.0 * share * jnp.sinh(0.5 * gross)))


def sharing(model: Model, problem: Problem) -> tuple[int, int] | None:
    """Return the indices of residual and seed sd if the data determine only their sum of squares, else None."""
    names = coordinates(model, problem)
    if problem.replicated or "log_seed_sd" not in names:
        return None
    return names.index("log_residual_sd"), names.index("log_seed_sd")


def separate_spreads(reparam: Float[Array, "coordinate"], model: Model, problem: Problem) -> Float[Any, "coordinate"]:
    """Convert root sum of squares and ratio to residual and seed sd, in logarithms; this map preserves volume."""
    spreads = sharing(model, problem)
    if spreads is None:
        return reparam
    first, second = spreads
    parts = singles(reparam)
    scatter = parts[first] - 0.5 * jnp.log1p(jnp.exp(2.0 * parts[second]))
    parts[first], parts[second] = scatter, scatter + parts[second]
    return jnp.stack(parts)


def reparam_density(reparam: Float[Array, "coordinate"], model: Model, problem: Problem) -> tuple[Float[Any, ""], Any]:
    """Return the log posterior density of reparameterised coordinates, up to a constant, and the parameters."""
    vector, values, prior, log_determinant = constrain_reparam(reparam, model, problem)
    return prior.sum() + log_likelihood(values, model, problem) + log_determinant, vector


# --- Standard scores under the law linearised at the mode --------------------------------------------------


def linearise(point: Float[Array, "coordinate"], model: Model, problem: Problem) -> Geometry:
    """Linearise the law and its prior at a point in reparameterised coordinates."""
    size = coordinates(model, problem).index("log_residual_sd")

    theta = point[:size]

    def at(step: Any) -> tuple[Any, Any]:
        reparam = jnp.concatenate([theta + step, point[size:]])
        _, values, prior, log_determinant = constrain_reparam(reparam, model, problem)
        return problem.mask * offset(model, problem, values), prior[:size].sum() + log_determinant

    # Differences need one copy of the law in the program, automatic derivatives several; approximate standardisation is
    # sufficient.
    step = DIFFERENCE * jnp.eye(size)
    curves, priors = jax.lax.map(at, jnp.concatenate([step, -step, jnp.zeros((1, size))]))
    slope = (curves[:size] - curves[size:-1]).T / (2.0 * DIFFERENCE)
    pull = (priors[:size] - priors[size:-1]) / (2.0 * DIFFERENCE)
    curvature = (priors[:size] + priors[size:-1] - 2.0 * priors[-1]) / DIFFERENCE**2
    unit = 1.0 / jnp.sqrt(jnp.maximum(-curvature, FLATTEST))
    columns = jnp.column_stack([slope * unit, problem.mask * problem.y - curves[-1], problem.mask])
    vector, _ = reparam_to_unconstrained(point, model, problem)
    if not problem.evaluation.scored:
        return Geometry(point, vector, jnp.diag(unit), columns[:0], unit * pull)
    columns = problem.evaluation.rotate(columns)
    products = information(vector, columns, model, problem)
    _, vectors = jnp.linalg.eigh(products[:size, :size])
    turned = jnp.concatenate([columns[:, :size] @ vectors, columns[:, size:]], axis=1)
    return Geometry(point, vector, unit[:, None] * vectors, turned, vectors.T @ (unit * pull))


def weighted(
    vector: Float[Array, "coordinate"], columns: Float[Array, "row p+2"], model: Model, problem: Problem
) -> tuple[Any, Any]:
    """Return the columns and precisions of about independent rows, with the variances of a parameter vector."""
    size = coordinates(model, problem).index("log_residual_sd")
    # Given its standardised coordinate, the discrepancy's amplitude does not depend on the law.
    values = draw_spreads(taker(vector[size:]), 1.0, model, problem)
    return problem.evaluation.weigh(values, columns, problem)


def information(
    vector: Float[Array, "coordinate"], columns: Float[Array, "row p+2"], model: Model, problem: Problem
) -> Float[Any, "p+2 p+2"]:
    """Return inner products of the columns under the rows' precision, with the level removed, shape (p + 2, p + 2)."""
    columns, precision = weighted(vector, columns, model, problem)
    products = columns.T @ (precision[:, None] * columns)
    ones = products[:, -1]
    return products - jnp.outer(ones, ones) / (products[-1, -1] + 1.0 / level_variance(model))


def scores_given(spreads: Array, geometry: Geometry, model: Model, problem: Problem) -> tuple[Any, Any]:
    """Return the mean and sd of the law along each direction, given the parameters other than the law's."""
    size = len(geometry.pull)
    vector = separate_spreads(jnp.concatenate([geometry.vector[:size], spreads]), model, problem)
    columns, precision = weighted(vector, geometry.columns, model, problem)
    law, residual, ones = columns[:, :size], columns[:, size], columns[:, size + 1]
    level = 1.0 / (precision @ ones**2 + 1.0 / level_variance(model))
    shared = (precision * ones) @ law
    inverse = 1.0 / (1.0 + precision @ law**2 - level * shared**2)
    seen = (precision * residual) @ law - level * shared * (precision @ (ones * residual))
    return inverse * (seen + geometry.pull), jnp.sqrt(inverse)


def scores_to_reparam(
    scores: Float[Array, "coordinate"], geometry: Geometry, model: Model, problem: Problem
) -> tuple[Float[Any, "coordinate"], Float[Any, ""]]:
    """Map standardised coordinates to reparameterised ones; also return the log determinant, up to a constant."""
    if not problem.evaluation.scored:
        return scores, 0.0
    size = len(geometry.pull)
    mean, sd = scores_given(scores[size:], geometry, model, problem)
    theta = geometry.point[:size] + geometry.directions @ (mean + sd * scores[:size])
    return jnp.concatenate([theta, scores[size:]]), jnp.log(sd).sum()


def reparam_to_scores(
    reparam: Float[Array, "coordinate"], geometry: Geometry, model: Model, problem: Problem
) -> Float[Any, "coordinate"]:
    """Map reparameterised coordinates to standardised ones: the inverse of `scores_to_reparam`."""
    if not problem.evaluation.scored:
        return reparam
    size = len(geometry.pull)
    mean, sd = scores_given(reparam[size:], geometry, model, problem)
    # The directions are an orthogonal matrix with scaled rows, so their inverse needs no factorisation.
    gap = (reparam[:size] - geometry.point[:size]) / (geometry.directions**2).sum(1)
    along = geometry.directions.T @ gap
    return jnp.concatenate([(along - mean) / sd, reparam[size:]])
