"""Predictive equations: law, discrepancy and noise at new points, given draws of the posterior."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayescale._jax import on_cores
from bayescale.model.discrepancy import eigenbasis, innovation_kernel, innovation_variance, kernel
from bayescale.model.evaluations.state_space import smooth
from bayescale.model.prepare import axis_positions
from bayescale.model.problem import SAME_DIGITS, Model, Problem, Values, over_draws, row_variance, share_residuals

MANY_POINTS = 1000
"""Number of fitted and new points of one axis above which the discrepancy is smoothed in linear time."""
MANY_SEQUENTIAL_POINTS = 150
"""The same limit for fits that were made in linear time, where every row has its own variance."""


class Predictive(NamedTuple):
    """Normal predictive distribution of ln(loss) for each posterior draw, and joint draws from it.

    All shapes (draw, point).
    """

    location: np.ndarray
    scale: np.ndarray
    draws: np.ndarray


@functools.partial(jax.jit, static_argnames="function")
def law_table(function: Any, constants: dict[str, Any], x: Any) -> Any:
    """Return ln of the law for every draw and every point, shape (draw, point)."""
    point = lambda row, c: jnp.log(function(*(row[i] for i in range(x.shape[1])), **c))  # noqa: E731
    return jax.vmap(lambda c: jax.vmap(lambda row: point(row, c))(x))(constants)


def law_at(model: Model, constants: dict[str, np.ndarray], z: np.ndarray) -> np.ndarray:
    """Return ln of the law, relative to the reference where the law has a level, shape (draw, row)."""
    rows = len(z)
    size = max(8, 1 << rows.bit_length())
    # The last padding row is the reference point.
    x = np.exp(np.concatenate([z, np.zeros((size - rows, z.shape[1]))]))
    x = np.stack(model.law.arguments(x.T), axis=1)
    with on_cores():
        table = np.asarray(law_table(model.law.function, constants, x))
    return table[:, :rows] - table[:, -1:] if model.law.level else table[:, :rows]


def predict_log(
    model: Model,
    problem: Problem,
    low: np.ndarray,
    values: Values,
    z: np.ndarray,
    kind: str,
    rng: np.random.Generator,
    new_setting: bool = False,
) -> Predictive:
    """Predict ln(loss) at new points.

    Args:
        model: Law, discrepancy and likelihood.
        problem: The fitted family.
        low: Smallest of the law's coordinates among the fitted rows, shape (axis,).
        values: Posterior draws, every leaf with leading axis draw.
        z: ln(x / reference) of the new points, shape (point, input).
        kind: "mean" or "run".
        rng: Generator of the joint draws.
        new_setting: Treat every point as a new setting, even if it equals a fitted one; see `new_runs`.
    """
    rows = problem.rows
    curve = law_at(model, values.constants, np.concatenate([problem.z[:rows], z]))
    level = np.asarray(values.level)[:, None]
    if not model.law.level:
        level = level - problem.center
    location = curve[:, rows:] + level
    seen = problem.evaluation.response(values, curve[:, :rows] + level, problem)
    variance = np.zeros_like(location)
    draws = location.copy()
    if model.discrepancy is not None:
        residual = seen - curve[:, :rows] - level
        mean, variance, joint = discrepancy_at(model, problem, low, values, residual, z, rng)
        factor = model.discrepancy.factors(len(curve), rows)
        drift = trend_ahead(model, problem, low, values, curve, z, factor)
        mean, joint = mean + drift, joint + drift
        location, draws = location + mean, draws + joint
    if kind == "run":
        law = curve[:, rows:] + level
        left = seen - curve[:, :rows] - level
        new = new_runs(model, problem, values, left, z, rng, new_setting)
        location = location + new.share * (law + new.shown - location)
        variance = (1.0 - new.share) ** 2 * variance + new.variance
        draws = draws + new.share * (law + new.shown - draws) + new.noise
    center = float(problem.center)
    return Predictive(location + center, np.sqrt(np.maximum(variance, 0.0)), draws + center)


class NewRuns(NamedTuple):
    """Deviations of single runs from the mean curve at new points; all shapes (draw, point).

    All runs at a setting share a residual. At settings that were fitted, that residual is partly known: its mean is
    `share` times `shown`.
    """

    share: np.ndarray
    shown: np.ndarray
    """Mean deviation of the fitted runs at the same setting from law and discrepancy; zero where there are none."""
    variance: np.ndarray
    """Variance of a new run around that mean."""
    noise: np.ndarray
    """Joint draws of the deviation from that mean: runs at equal points share a residual but not seed noise."""


def at_fitted_settings(problem: Problem, z: np.ndarray) -> np.ndarray:
    """Return which fitted rows have the same setting as each new point and share its residual, shape (point, row).

    Args:
        problem: The fitted family.
        z: ln(x / reference) of the new points, shape (point, input).
    """
    same = np.abs(z[:, None, :] - problem.z[None, : problem.rows]).max(-1) < 0.1**SAME_DIGITS
    return same & share_residuals(problem)


def new_runs(
    model: Model,
    problem: Problem,
    values: Values,
    residual: np.ndarray,
    z: np.ndarray,
    rng: np.random.Generator,
    new_setting: bool = False,
) -> NewRuns:
    """Return the deviations of single runs from the curve at new points, given the fitted runs at the same settings.

    Args:
        model: Law, discrepancy and likelihood.
        problem: The fitted family.
        values: Posterior draws, every leaf with leading axis draw.
        residual: Deviations of the fitted rows from the law, shape (draw, row).
        z: ln(x / reference) of the new points, shape (point, input).
        rng: Generator of the joint draws.
        new_setting: Ignore fitted runs at the same settings, so that an interval plotted along an input does not become
            narrower at the fitted settings.
    """
    draws, rows = residual.shape
    square = np.broadcast_to(np.asarray(values.residual_sd, float) ** 2, draws)[:, None]
    seed = np.broadcast_to(np.asarray(values.seed_sd, float) ** 2, draws)[:, None] + float(problem.single)
    _, setting = np.unique(np.round(z, SAME_DIGITS), axis=0, return_inverse=True)
    setting = setting.ravel()
    common = np.broadcast_to(square, (draws, len(z))).copy()
    share, shown = np.zeros((2, draws, len(z)))
    tail = np.ones((draws, len(z)))
    if model.likelihood.tail is not None:
        half = 0.5 * float(model.likelihood.tail)
        tail = 1.0 / rng.gamma(half, 1.0 / half, size=(draws, setting.max() + 1))[:, setting]
    known = at_fitted_settings(problem, z)
    if known.any() and not new_setting:
        weights = np.broadcast_to(np.asarray(values.weights, float), (draws, len(problem.y)))[:, :rows]
        own = over_draws(row_variance, values, problem)[:, :rows] - square
        for point in np.flatnonzero(known.any(1)):
            there = known[point]
            precision = (weights / own)[:, there]
            total = precision.sum(1)
            scatter = square[:, 0] / weights[:, there].mean(1)
            share[:, point] = scatter / (scatter + 1.0 / total)
            shown[:, point] = (precision * residual[:, there]).sum(1) / total
            common[:, point] = scatter * (1.0 - share[:, point])
            tail[:, point] = 1.0
    both = rng.standard_normal((draws, setting.max() + 1))[:, setting], rng.standard_normal((draws, len(z)))
    noise = np.sqrt(tail) * (np.sqrt(common) * both[0] + np.sqrt(seed) * both[1])
    return NewRuns(share, shown, tail * (common + seed), noise)


def run_variance(values: Values, problem: Problem) -> np.ndarray:
    """Return the variance of one future run around law and discrepancy, including seed noise, one value a draw."""
    return np.asarray(values.residual_sd) ** 2 + np.asarray(values.seed_sd) ** 2 + float(problem.single)


def trend_ahead(
    model: Model,
    problem: Problem,
    low: np.ndarray,
    values: Values,
    curve: np.ndarray,
    z: np.ndarray,
    factor: np.ndarray,
) -> np.ndarray:
    """Return the mean of the discrepancy's trend beyond the data at new points, shape (draw, point).

    Args:
        model: A model with discrepancy.
        problem: The fitted family.
        low: Smallest of the law's coordinates among the fitted rows, shape (axis,).
        values: Posterior draws, every leaf with leading axis draw.
        curve: Ln of the law at the fitted and the new points, shape (draw, row + point).
        z: ln(x / reference) of the new points, shape (point, input).
        factor: Factor that multiplies the innovations of each draw, shape (draw,).
    """
    discrepancy, rows = model.discrepancy, problem.rows
    assert discrepancy is not None, "a model with discrepancy"
    drift, trend = np.zeros((len(curve), len(z))), float(discrepancy.trend)
    # The point at which the path to each new point leaves the data.
    edge = np.minimum(z, problem.z[:rows].max(0))
    beyond = np.flatnonzero((z > edge).any(1)) if trend else np.zeros(0, int)
    if not len(beyond):
        return drift
    edges, nearest = np.unique(edge[beyond], axis=0, return_inverse=True)
    old, new = (axis_positions(model.law, problem, low, part) for part in (problem.z[:rows], z[beyond]))
    spread = np.sqrt(innovation_variance(new, old, discrepancy))
    scale = np.asarray(values.amplitude)[:, None] * factor[:, None]
    onward = np.sign(curve[:, rows + beyond] - law_at(model, values.constants, edges)[:, nearest.ravel()])
    drift[:, beyond] = trend * onward * scale * spread
    return drift


def discrepancy_at(
    model: Model,
    problem: Problem,
    low: np.ndarray,
    values: Values,
    residual: np.ndarray,
    z: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return conditional mean, variance and joint draws of the discrepancy, without its trend, (draw, point) each.

    Joint draws follow Matheron's rule: a prior draw at fitted and new points, corrected by its error at the fitted
    points. One factorisation serves every posterior draw. Innovations beyond the data are drawn separately, with the
    factor of each posterior draw.
    """
    assert model.discrepancy is not None, "a model with discrepancy"
    rows, discrepancy, evaluation = residual.shape[1], model.discrepancy, problem.evaluation
    old, new = (axis_positions(model.law, problem, low, part) for part in (problem.z[:rows], z))
    amplitude, factor = np.asarray(values.amplitude)[:, None], discrepancy.factors(len(residual), rows)[:, None]
    gained = amplitude**2 * (factor**2 - 1.0) * innovation_variance(new, old, discrepancy)
    if old.shape[1] == 1 and not evaluation.factorises:
        limit = MANY_SEQUENTIAL_POINTS if evaluation.sequential else MANY_POINTS
        if rows + len(z) > limit:
            order = np.argsort(old[:, 0], kind="stable")
            noise = over_draws(row_variance, values, problem)[:, :rows][:, order]
            ahead, memory = new[:, 0], float(discrepancy.memory)
            mean, variance, joint = smooth(
                old[order, 0], ahead, residual[:, order], noise, amplitude[:, 0], factor[:, 0], memory, rng
            )
            return mean, variance + gained, joint
    everywhere = np.concatenate([old, new])
    whole = kernel(everywhere, everywhere, discrepancy)
    fresh, carried = innovation_kernel(new, old, discrepancy), whole.copy()
    carried[rows:, rows:] -= fresh
    path = amplitude * standard_paths(carried, len(residual), rng)
    innovation = amplitude * factor * standard_paths(fresh, len(residual), rng)
    wrong = residual - path[:, :rows] - evaluation.draw_scatter(values, problem, rng)
    mean, removed, correction = evaluation.condition(values, residual, wrong, whole, problem)
    variance = amplitude**2 * np.diag(whole)[rows:] - removed + gained
    return mean, variance, path[:, rows:] + innovation + correction


def standard_paths(covariance: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draw normal vectors with mean zero and a given covariance, shape (draw, row)."""
    power, vectors = eigenbasis(covariance)
    return rng.standard_normal((draws, len(power))) @ (vectors * np.sqrt(power)).T
