"""Least squares of usual laws on the log loss, in batches: every fit starts from a grid and is iterated to the end.

One input: ln y = l + ln(f + (1 - f) e^(-C z)), the power law with a floor. Several inputs:
ln y = l + ln(f + sum_j g_j e^(-C_j z_j)), Chinchilla's sum with one term for each. z is ln x, centred and in units of
the training span, so that one grid of starts serves every problem.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

STARTS = 4
"""Best points of the grid from which every fit is iterated."""
STEPS = 60
HUBER_STEPS = 300
"""Steps under Huber's loss at 1e-3, which is nearly the sum of absolute values and converges linearly."""
FLOORS = (-6.0, -2.0, 0.0, 1.0, 2.0, 3.5)
FALLS = (0.03, 0.1, 0.3, 0.7, 1.5, 3.0, 6.0)
SHARES = (-2.0, 0.0, 2.0)
BOX = 12.0
"""Largest absolute value of a coordinate: beyond, nothing changes within double precision of the data."""


class Fit(NamedTuple):
    """Best fit of each response vector of a batch, leading axis batch."""

    theta: Any
    cost: Any
    converged: Any


def curve(theta: Any, z: Any) -> Any:
    """Ln y at rows of `z`, shape (row, input), for coordinates (level, logit floor, logit shares, ln falls)."""
    inputs = z.shape[1]
    floor = jax.nn.sigmoid(theta[1])
    logits = jnp.append(theta[2 : 1 + inputs], 0.0)
    shares = jax.nn.log_softmax(logits)
    falls = jnp.exp(theta[1 + inputs :])
    terms = jax.nn.logsumexp(shares - z * falls, axis=1)
    return theta[0] + jnp.logaddexp(jnp.log(floor), jnp.log1p(-floor) + terms)


def starts(inputs: int) -> np.ndarray:
    """Grid of starting coordinates without the level, shape (start, coordinate - 1)."""
    falls = FALLS if inputs == 1 else FALLS[1::2]
    floors = FLOORS if inputs == 1 else FLOORS[1::2]
    axes = [floors, *[SHARES] * (inputs - 1), *[np.log(falls)] * inputs]
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)


def solve_small(matrix: Any, right: Any) -> Any:
    """Solve a positive definite system of a few unknowns by elimination, written out so that batches vectorize."""
    size = len(right)
    rows = [jnp.append(matrix[i], right[i]) for i in range(size)]
    for i in range(size):
        rows[i] = rows[i] / rows[i][i]
        rows = [row if j == i else row - row[i] * rows[i] for j, row in enumerate(rows)]
    return jnp.stack([row[-1] for row in rows])


@functools.partial(jax.jit, static_argnames=("steps", "keep"))
def fit_batch(y: Any, z: Any, weight: Any, grid: Any, delta: Any, steps: int, keep: int) -> Fit:
    """Fit every response vector of a batch.

    Args:
        y: Responses, shape (batch, row).
        z: Standardised log inputs, shape (row, input).
        weight: Weight of each row, zero on padding, shape (batch, row).
        grid: Starts without the level, shape (start, coordinate - 1).
        delta: Where Huber's loss turns linear; infinite for least squares.
        steps: Levenberg-Marquardt steps from each start.
        keep: Starts that are iterated.
    """
    shapes = jax.vmap(lambda start: curve(jnp.concatenate([jnp.zeros(1), start]), z))(grid)

    def loss(residual: Any, w: Any) -> Any:
        size = jnp.abs(residual)
        value = jnp.where(size <= delta, 0.5 * size**2, delta * (size - 0.5 * delta))
        return (w * jnp.where(jnp.isfinite(delta), value, 0.5 * size**2)).sum()

    def one(y: Any, w: Any) -> Fit:
        levels = (w * (y - shapes)).sum(1) / w.sum()
        costs = jax.vmap(lambda shape, level: loss(y - shape - level, w))(shapes, levels)
        _, best = jax.lax.top_k(-costs, keep)
        begin = jnp.concatenate([levels[best, None], grid[best]], axis=1)
        ends = jax.vmap(lambda theta: descend(theta, y, w))(begin)
        winner = jnp.argmin(ends.cost)
        return jax.tree.map(lambda leaf: leaf[winner], ends)

    def descend(theta: Any, y: Any, w: Any) -> Fit:
        def step(carry: Any, _: None) -> Any:
            theta, damping, cost = carry
            residual = y - curve(theta, z)
            slope = jax.jacfwd(lambda t: curve(t, z))(theta)
            robust = w * jnp.where(jnp.isfinite(delta), jnp.minimum(1.0, delta / (jnp.abs(residual) + 1e-12)), 1.0)
            normal = slope.T @ (robust[:, None] * slope)
            scale = jnp.diag(jnp.diagonal(normal) + 1e-12)
            move = solve_small(normal + damping * scale, slope.T @ (robust * residual))
            trial = jnp.clip(theta + move, -BOX, BOX)
            value = loss(y - curve(trial, z), w)
            better = value < cost
            damping = jnp.clip(jnp.where(better, damping * 0.3, damping * 5.0), 1e-10, 1e10)
            return (jnp.where(better, trial, theta), damping, jnp.where(better, value, cost)), cost

        begin = loss(y - curve(theta, z), w)
        (theta, _, cost), costs = jax.lax.scan(step, (theta, jnp.asarray(1e-2), begin), None, length=steps)
        # At rest when the last fifth of the steps gained nothing that a statistician could tell.
        return Fit(theta, cost, costs[-(steps // 5)] - cost <= 1e-3 * cost + 1e-13)

    return jax.vmap(one)(y, weight)


@jax.jit
def values(theta: Any, z: Any) -> Any:
    """Ln y for a batch of coordinates, shape (batch, row)."""
    return jax.vmap(lambda t: curve(t, z))(theta)


@jax.jit
def slopes(theta: Any, z: Any) -> Any:
    """Derivatives of ln y by the coordinates, shape (row, coordinate)."""
    return jax.jacfwd(lambda t: curve(t, z))(theta)
