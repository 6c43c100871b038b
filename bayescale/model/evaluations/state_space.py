"""Evaluation in linear time by a Kalman filter: along one input the discrepancy is a Markov process."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from bayescale._jax import on_cores
from bayescale._record import Array, record
from bayescale.model.evaluations import kalman
from bayescale.model.evaluations.dense import MOST_ELEMENTS, solved_conditions
from bayescale.model.level import level_variance, marginal_level
from bayescale.model.padding import bucket, padded
from bayescale.model.problem import (
    Basis,
    Evaluation,
    Model,
    Problem,
    Values,
    Whitened,
    over_draws,
    row_variance,
    typical_weights,
)

if TYPE_CHECKING:
    from jaxtyping import Float


@record
class StateSpace(Evaluation):
    """Evaluation of rows of one input, in its order, with variances that may differ.

    Attributes:
        gap: Distance from the previous row in spans, zero for the first, shape (row,).
        basis: Eigenbasis of the discrepancy, in which parameters are standardised as if all rows had the same variance.
            None for many rows, which determine the parameters well without standardisation.
    """

    gap: Float[Array, "row"]
    basis: Basis | None

    sequential = True

    @property
    def scored(self) -> bool:
        """See `Evaluation.scored`."""
        return self.basis is not None

    def filtered(
        self, values: Values, columns: Float[Any, "row column"], model: Model, problem: Problem
    ) -> kalman.Filtered:
        """Run the Kalman filter over columns of the rows, shape (row, column)."""
        assert model.discrepancy is not None, "a model with discrepancy"
        noise, square = row_variance(values, problem), values.amplitude**2
        return kalman.filtered(columns, noise, square, self.gap, problem.mask, model.discrepancy.memory)

    def whiten(self, values: Values, residual: Float[Array, "row"], model: Model, problem: Problem) -> Whitened:
        """See `Evaluation.whiten`."""
        columns = jnp.stack([residual, jnp.asarray(problem.mask)], axis=1)
        run = self.filtered(values, columns, model, problem)
        surprise = run.surprise.reshape(-1, 2)
        precision, logs = run.mask / run.spread, run.mask * jnp.log(run.spread)
        return Whitened(surprise[:, 0], surprise[:, 1], precision.ravel(), logs.sum())

    def deviance(self, values: Values, residual: Float[Array, "row"], model: Model, problem: Problem) -> Float[Any, ""]:
        """See `Evaluation.deviance`."""
        assert model.discrepancy is not None, "a model with discrepancy"
        leveled = marginal_level(model)
        prior = 1.0 / level_variance(model) if leveled else 1.0
        ones = jnp.asarray(problem.mask) * (1.0 if leveled else 0.0)
        noise, square = row_variance(values, problem), values.amplitude**2
        memory = model.discrepancy.memory
        return kalman.deviance(residual, noise, square, ones, self.gap, problem.mask, memory, prior)

    def leave_one_out(
        self, values: Values, residual: Float[Array, "row"], model: Model, problem: Problem
    ) -> Float[Any, "row"]:
        """See `Evaluation.leave_one_out`."""
        solved, diagonal = kalman.adjoint(self.filtered(values, residual[:, None], model, problem))
        real = problem.mask > 0
        scale = jnp.where(real, 1.0 / jnp.sqrt(jnp.where(real, diagonal, 1.0)), 1.0)
        return dist.Normal(0.0, scale).log_prob(solved[:, 0] * scale**2)

    def rotate(self, columns: Float[Array, "row *column"]) -> Float[Any, "row *column"]:
        """See `Evaluation.rotate`."""
        assert self.basis is not None, "rows that standard scores are formed of"
        return self.basis.vectors.T @ columns

    def weigh(
        self, values: Values, columns: Float[Array, "row *column"], problem: Problem
    ) -> tuple[Float[Any, "row *column"], Float[Any, "row"]]:
        """See `Evaluation.weigh`."""
        assert self.basis is not None, "rows that standard scores are formed of"
        return columns, typical_weights(values, problem, self.basis)

    def condition(
        self,
        values: Values,
        residual: Float[np.ndarray, "draw row"],
        wrong: Float[np.ndarray, "draw row"],
        kernel: Float[np.ndarray, "row+point row+point"],
        problem: Problem,
    ) -> tuple[Float[np.ndarray, "draw point"], Float[np.ndarray, "draw point"], Float[np.ndarray, "draw point"]]:
        """See `Evaluation.condition`; for few rows (`smooth` is for many)."""
        rows = problem.rows

        def covariance(part: Values) -> np.ndarray:
            noise = over_draws(row_variance, part, problem)[:, :rows]
            square = np.asarray(part.amplitude)[:, None, None] ** 2
            return square * kernel[:rows, :rows] + noise[:, :, None] * np.eye(rows)

        return solved_conditions(values, residual, wrong, kernel[rows:, :rows], covariance)


def smooth(
    old: Float[np.ndarray, "row"],
    new: Float[np.ndarray, "point"],
    residual: Float[np.ndarray, "draw row"],
    noise: Float[np.ndarray, "draw row"],
    amplitude: Float[np.ndarray, "draw"],
    factor: Float[np.ndarray, "draw"],
    memory: float,
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "draw point"], Float[np.ndarray, "draw point"], Float[np.ndarray, "draw point"]]:
    """Condition the discrepancy at new points on the rows, in linear time.

    Args:
        old: Positions of the fitted rows, in spans from the smallest, shape (row,).
        new: Positions of the new points, in any order and on either side, shape (point,).
        residual: Deviations from law and level, shape (draw, row).
        noise: Variance around the discrepancy, shape (draw, row).
        amplitude: Amplitude of the discrepancy, shape (draw,).
        factor: Factor on innovations outside the rows, for the joint draws, shape (draw,).
        memory: Correlation length of the slope in spans.
        rng: Generator of the joint draws.

    Returns:
        Conditional mean, conditional variance for a factor of one, and joint draws at the new points, shape (draw,
        point) each. Joint draws follow Matheron's rule: a path from the prior, corrected by its error at the rows.
    """
    inside, left = np.flatnonzero(new >= 0.0), np.flatnonzero(new < 0.0)
    where = np.concatenate([old, new[inside]])
    order = np.argsort(where, kind="stable")
    gap = np.diff(where[order], prepend=0.0)
    draws, count, size = len(residual), len(where), bucket(len(where))
    chunk = max(1, 4 * MOST_ELEMENTS // (20 * size))
    mean, variance, joint = (np.zeros((draws, len(new))) for _ in range(3))
    for first in range(0, draws, chunk):
        some = slice(first, first + chunk)
        scale = amplitude[some]
        outside = np.where(where[order] > old.max(), factor[some, None], 1.0)
        path, slope = draw_path(gap, memory, outside, rng)
        seen = np.zeros((len(scale), count, 2))
        seen[:, : len(old), 0] = residual[some]
        rows = scale[:, None] * path[:, np.argsort(order)[: len(old)]]
        seen[:, : len(old), 1] = residual[some] - rows - np.sqrt(noise[some]) * rng.standard_normal(rows.shape)
        spread = np.ones((len(scale), count))
        spread[:, : len(old)] = noise[some]
        real = padded(np.r_[np.ones(len(old)), np.zeros(len(inside))][order], size)
        # Chunks of draws and points are padded, so that few sizes are compiled.
        fill = ((0, min(chunk, draws) - len(scale)), (0, size - count))
        with on_cores():
            values, variances, start, start_variance = (
                np.asarray(leaf)[: len(scale)]
                for leaf in smoothed_draws(
                    np.pad(seen[:, order], (*fill, (0, 0))),
                    np.pad(spread[:, order], fill, constant_values=1.0),
                    np.pad(scale, fill[0], constant_values=1.0) ** 2,
                    padded(gap, size),
                    real,
                    memory,
                )
            )
        at = np.argsort(order)[len(old) :]
        mean[some, inside] = values[:, at, 0]
        variance[some, inside] = variances[:, at]
        joint[some, inside] = scale[:, None] * path[:, at] + values[:, at, 1]
        # Left of the data, the process is determined only by the slope with which it enters them.
        back = np.argsort(-new[left])
        steps = np.diff(-new[left][back], prepend=0.0)
        beyond, _ = draw_path(steps, memory, np.broadcast_to(factor[some, None], (len(scale), len(left))), rng, -slope)
        reach, _, fresh, _, _ = unit_steps(-new[left][back], memory).T
        square = scale[:, None] ** 2
        mean[some, left[back]] = -reach * start[:, :1]
        variance[some, left[back]] = reach**2 * start_variance[:, None] + fresh * square
        joint[some, left[back]] = scale[:, None] * beyond - reach * start[:, 1:]
    return mean, variance, joint


@functools.partial(jax.jit)
def smoothed_draws(
    columns: Float[Any, "row *column"], noise: Any, square: Any, gap: Any, mask: Any, memory: Any
) -> Any:
    """Smooth columns for all draws; see `kalman.smoothed`, whose results get a leading axis."""
    return jax.vmap(kalman.smoothed, (0, 0, 0, None, None, None))(columns, noise, square, gap, mask, memory)


def draw_path(
    gap: Float[np.ndarray, "gap"],
    memory: float,
    factors: Float[np.ndarray, "draw gap"],
    rng: np.random.Generator,
    slope: np.ndarray | None = None,
) -> tuple[Float[np.ndarray, "draw gap"], Float[np.ndarray, "draw"]]:
    """Draw paths of unit amplitude over gaps, shape (draw, gap), and their slopes at the start, shape (draw,).

    Args:
        gap: Distance of each point from the previous one, and of the first from the start, shape (gap,).
        memory: Correlation length of the slope in spans.
        factors: Factors on the innovations over each gap, shape (draw, gap).
        rng: Generator of random numbers.
        slope: Slope of each path at the start; by default drawn from the stationary distribution.
    """
    draws = len(factors)
    slope = np.sqrt(0.5 * memory) * rng.standard_normal(draws) if slope is None else slope
    first, value = slope, np.zeros(draws)
    path = np.zeros((draws, len(gap)))
    for number, (a, b, q0, q1, q2) in enumerate(unit_steps(gap, memory)):
        root = np.sqrt(q0)
        across = q1 / root if root > 0 else 0.0
        one, two = factors[:, number] * rng.standard_normal((2, draws))
        value = value + a * slope + root * one
        slope = b * slope + across * one + np.sqrt(max(q2 - across**2, 0.0)) * two
        path[:, number] = value
    return path, first


def unit_steps(gap: Float[np.ndarray, "gap"], memory: float) -> Float[np.ndarray, "gap 5"]:
    """Return the transitions of a process with unit amplitude over gaps, shape (gap, 5)."""
    with on_cores():
        return np.stack([np.asarray(leaf) for leaf in kalman.steps(gap, memory, 1.0)], axis=1)
