"""Geometry: coordinates in which the posterior is close to a round normal distribution.

How well the data pin the law down depends on the drift and the scatter: with a strong drift the floor is free, with a
weak one it is known to a hair. Sampled as they are, the law's coordinates form a funnel that NUTS crosses slowly.
Here they are replaced by standard scores v under the law linearised at the mode, direction by direction:

    theta = theta_0 + V (m(w) + v / sqrt(1 + d(w))),
    d_i(w) = c_i' K(w)^-1 c_i,   m_i = (c_i' K(w)^-1 r + g_i) / (1 + d_i)

with w the variances, K the rows' covariance, r the residuals and g the prior's slope at the mode. The columns of V are
directions of unit prior variance in which data at the mode are independent, c_i what the curve does along them.
Any smooth one-to-one map leaves the posterior as it is, since its log determinant is part of the density; this one
makes it easy.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from bayescale.likelihood import level_variance, offset, rotate, spectrum, whiten
from bayescale.model import Model, Problem, coordinates, read
from bayescale.records import Array, record

FLATTEST = 0.05
"""Smallest curvature of a prior in its own coordinates; they are about unit scale."""


@record
class Geometry:
    """The law linearised at one point.

    Attributes:
        point: Coordinates there, shape (coordinate,).
        directions: V, shape (p, p).
        columns: What the curve does along each direction, the residuals, and ones; in the drift's eigenbasis where
            the problem has one; shape (row, p + 2).
        pull: Slope of the law's log prior along each direction, shape (p,).
    """

    point: Array
    directions: Array
    columns: Array
    pull: Array


def linearise(point: Array, model: Model, problem: Problem) -> Geometry:
    """Linearise the law and its prior at a coordinate vector."""
    size = coordinates(model, problem).index("log_scatter")

    def curve(theta: Any) -> Any:
        values, _ = read(jnp.concatenate([theta, point[size:]]), model, problem)
        return problem.mask * offset(model, problem, values)

    def prior(theta: Any) -> Any:
        return read(jnp.concatenate([theta, point[size:]]), model, problem)[1][:size].sum()

    theta = point[:size]
    slope = jax.jacfwd(curve)(theta)
    pull = jax.grad(prior)(theta)
    unit = 1.0 / jnp.sqrt(jnp.maximum(-jnp.diagonal(jax.jacfwd(jax.grad(prior))(theta)), FLATTEST))
    columns = jnp.column_stack([slope * unit, problem.mask * problem.y - curve(theta), problem.mask])
    if not problem.dense:
        columns = rotate(columns, problem)
    products = information(point[size:], point, columns, model, problem)
    _, vectors = jnp.linalg.eigh(products[:size, :size])
    turned = jnp.concatenate([columns[:, :size] @ vectors, columns[:, size:]], axis=1)
    return Geometry(point, unit[:, None] * vectors, turned, vectors.T @ (unit * pull))


def weighted(spreads: Array, point: Array, columns: Array, model: Model, problem: Problem) -> tuple[Any, Any]:
    """Columns and precisions of independent rows, given the coordinates after the law's."""
    size = len(point) - len(spreads)
    values, _ = read(jnp.concatenate([point[:size], spreads]), model, problem)
    if problem.dense:
        return whiten(values, columns, problem).columns, problem.mask
    return columns, problem.mask / spectrum(values, problem)


def information(spreads: Array, point: Array, columns: Array, model: Model, problem: Problem) -> Any:
    """Inner products of the columns under the rows' precision, level taken out, shape (p + 2, p + 2)."""
    columns, precision = weighted(spreads, point, columns, model, problem)
    products = columns.T @ (precision[:, None] * columns)
    ones = products[:, -1]
    return products - jnp.outer(ones, ones) / (products[-1, -1] + 1.0 / level_variance(model))


def scores_given(spreads: Array, geometry: Geometry, model: Model, problem: Problem) -> tuple[Any, Any]:
    """Mean and standard deviation of the law along each direction, given the coordinates after the law's."""
    size = len(geometry.pull)
    columns, precision = weighted(spreads, geometry.point, geometry.columns, model, problem)
    law, residual, ones = columns[:, :size], columns[:, size], columns[:, size + 1]
    level = 1.0 / (precision @ ones**2 + 1.0 / level_variance(model))
    shared = (precision * ones) @ law
    inverse = 1.0 / (1.0 + precision @ law**2 - level * shared**2)
    seen = (precision * residual) @ law - level * shared * (precision @ (ones * residual))
    return inverse * (seen + geometry.pull), jnp.sqrt(inverse)


def to_coordinates(scores: Array, geometry: Geometry, model: Model, problem: Problem) -> tuple[Any, Any]:
    """Map standard scores to coordinates; also return the log determinant of the map, up to a constant."""
    size = len(geometry.pull)
    mean, sd = scores_given(scores[size:], geometry, model, problem)
    theta = geometry.point[:size] + geometry.directions @ (mean + sd * scores[:size])
    return jnp.concatenate([theta, scores[size:]]), jnp.log(sd).sum()


def to_scores(vector: Array, geometry: Geometry, model: Model, problem: Problem) -> Any:
    """Map coordinates to standard scores: the inverse of `to_coordinates`."""
    size = len(geometry.pull)
    mean, sd = scores_given(vector[size:], geometry, model, problem)
    along = jnp.linalg.solve(geometry.directions, vector[:size] - geometry.point[:size])
    return jnp.concatenate([(along - mean) / sd, vector[size:]])
