"""Predictive equations: law, drift and noise at new points, given draws of the posterior."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayescale.drift import kernel
from bayescale.likelihood import row_covariance, row_variance
from bayescale.model import Model, Problem, Values
from bayescale.noise import SMALLEST_SCATTER

MOST_ELEMENTS = 4_000_000
"""Largest stack of matrices held at once, in numbers."""


class Predictive(NamedTuple):
    """Normal predictive distribution of ln(loss) for each posterior draw, and joint draws from it.

    All shapes (draw, point).
    """

    location: np.ndarray
    scale: np.ndarray
    draws: np.ndarray


@functools.partial(jax.jit, static_argnames="curve")
def curve_table(curve: Any, constants: dict[str, Any], x: Any) -> Any:
    """Ln f for every draw and every point, shape (draw, point)."""
    point = lambda row, c: jnp.log(curve(*(row[i] for i in range(x.shape[1])), **c))  # noqa: E731
    return jax.vmap(lambda c: jax.vmap(lambda row: point(row, c))(x))(constants)


def law_at(model: Model, constants: dict[str, np.ndarray], z: np.ndarray) -> np.ndarray:
    """Ln f relative to the reference where the law has a level, shape (draw, row)."""
    rows = len(z)
    size = max(8, 1 << rows.bit_length())
    # The last padding row is the reference point itself.
    x = np.exp(np.concatenate([z, np.zeros((size - rows, z.shape[1]))]))
    x = np.stack(model.law.arguments(x.T), axis=1)
    with jax.enable_x64(True):
        table = np.asarray(curve_table(model.law.curve, constants, x))
    return table[:, :rows] - table[:, -1:] if model.law.level else table[:, :rows]


def predict_log(
    model: Model,
    problem: Problem,
    low: np.ndarray,
    values: Values,
    z: np.ndarray,
    kind: str,
    rng: np.random.Generator,
) -> Predictive:
    """Predict ln(loss) at new points.

    Args:
        model: Law, drift and noise.
        problem: The fitted family.
        low: Smallest ln(x / reference) of the fitted rows, shape (input,).
        values: Posterior draws, every leaf with leading axis draw.
        z: ln(x / reference) of the new points, shape (point, input).
        kind: "mean" or "run".
        rng: Source of the joint draws.
    """
    rows = int(problem.mask.sum())
    curve = law_at(model, values.constants, np.concatenate([problem.z[:rows], z]))
    level = np.asarray(values.level)[:, None]
    if not model.law.level:
        level = level - problem.center
    location = curve[:, rows:] + level
    variance = np.zeros_like(location)
    draws = location.copy()
    if model.drift is not None:
        residual = problem.y[:rows] - curve[:, :rows] - level
        mean, variance, joint = drift_at(model, problem, low, values, residual, z, rng)
        factor = model.drift.factors(len(mean), rows)[:, None]
        variance = factor**2 * variance
        location, draws = location + mean, draws + mean + factor * (joint - mean)
    if kind == "run":
        scatter = np.asarray(values.scatter) ** 2 + np.asarray(values.seed) ** 2
        extra = np.broadcast_to(scatter[:, None], location.shape)
        if model.noise.tail is not None:
            half = 0.5 * float(model.noise.tail)
            extra = extra / rng.gamma(half, 1.0 / half, size=location.shape)
        variance = variance + extra
        draws = draws + np.sqrt(extra) * rng.standard_normal(location.shape)
    center = float(problem.center)
    return Predictive(location + center, np.sqrt(np.maximum(variance, 0.0)), draws + center)


def drift_at(
    model: Model,
    problem: Problem,
    low: np.ndarray,
    values: Values,
    residual: np.ndarray,
    z: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Conditional mean, variance and joint draws of the drift at new points, shape (draw, point) each.

    Joint draws follow Matheron's rule: a draw from the prior at old and new points, corrected by what it gets wrong
    at the old ones; one fixed factorisation serves every posterior draw.
    """
    assert model.drift is not None, "a model with drift"
    rows, memory = residual.shape[1], float(model.drift.memory)
    old = (problem.z[:rows] - low) / problem.span
    new = (z - low) / problem.span
    cross = kernel(new, old, memory)
    everywhere = np.concatenate([old, new])
    power, vectors = np.linalg.eigh(kernel(everywhere, everywhere, memory))
    root = vectors * np.sqrt(np.maximum(power, 0.0))
    amplitude = np.asarray(values.amplitude)[:, None]
    path = amplitude * (rng.standard_normal((len(residual), len(root))) @ root.T)
    before = amplitude**2 * np.diag(kernel(new, new, memory))
    wrong = residual - path[:, :rows]
    if problem.dense:
        wrong = wrong - dense_noise(problem, values, rng)
        mean, removed, correction = dense_solve(problem, values, residual, wrong, cross)
    else:
        spread = np.asarray(jax_rows(row_variance, values, problem))[:, :rows]
        wrong = wrong - np.sqrt(spread) * rng.standard_normal(wrong.shape)
        assert problem.basis is not None and problem.eigenvalues is not None, "a rotated problem"
        basis = problem.basis[:rows, :rows]
        precision = 1.0 / (spread + amplitude**2 * problem.eigenvalues[:rows])
        rotated = cross @ basis
        mean = amplitude**2 * (((residual @ basis) * precision) @ rotated.T)
        correction = amplitude**2 * (((wrong @ basis) * precision) @ rotated.T)
        removed = amplitude**4 * (precision @ (rotated**2).T)
    return mean, before - removed, path[:, rows:] + correction


def jax_rows(function: Any, values: Values, problem: Problem) -> Any:
    """Evaluate a function of one draw for all draws, in float64."""
    with jax.enable_x64(True):
        return jax.vmap(lambda v: function(v, problem))(values)


def dense_noise(problem: Problem, values: Values, rng: np.random.Generator) -> np.ndarray:
    """Draw the scatter of the fitted rows around law and drift, shape (draw, row)."""
    assert problem.alike is not None and problem.shared is not None, "a dense problem"
    rows = int(problem.mask.sum())
    weights = np.asarray(values.weights)[:, :rows]
    shape = (len(weights), rows)
    known = np.sqrt((SMALLEST_SCATTER**2 + problem.error[:rows]) / problem.count[:rows])
    noise = known * rng.standard_normal(shape)
    for sd, part in ((values.scatter, problem.alike), (values.seed, problem.shared)):
        power, vectors = np.linalg.eigh(part[:rows, :rows])
        root = vectors * np.sqrt(np.maximum(power, 0.0))
        spread = np.broadcast_to(np.asarray(sd, float), len(weights))[:, None]
        noise = noise + spread * (rng.standard_normal(shape) @ root.T)
    return noise / np.sqrt(weights)


def dense_solve(
    problem: Problem, values: Values, residual: np.ndarray, wrong: np.ndarray, cross: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Conditional mean, removed variance and Matheron correction by solving with each draw's covariance."""
    draws, rows = residual.shape
    amplitude = np.asarray(values.amplitude)
    chunk = max(1, MOST_ELEMENTS // (rows * (rows + len(cross) + 2)))
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for first in range(0, draws, chunk):
        some = slice(first, first + chunk)
        part = jax.tree.map(lambda leaf, some=some: np.asarray(leaf)[some], filled(values, draws))
        covariance = np.asarray(jax_rows(row_covariance, part, problem))[:, :rows, :rows]
        right = np.broadcast_to(cross.T, (len(covariance), *cross.T.shape))
        columns = np.concatenate([residual[some, :, None], wrong[some, :, None], right], axis=2)
        solved = np.linalg.solve(covariance, columns)
        square = amplitude[some, None] ** 2
        means = square[..., None] * (cross @ solved[:, :, :2])
        removed = square**2 * np.einsum("qr,drq->dq", cross, solved[:, :, 2:])
        parts.append((means[:, :, 0], removed, means[:, :, 1]))
    mean, removed, correction = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return mean, removed, correction


def filled(values: Values, draws: int) -> Values:
    """Give constant leaves (a term that is switched off) a draw axis."""
    return jax.tree.map(
        lambda leaf: np.broadcast_to(leaf, (draws, *np.shape(leaf)[1:])) if np.ndim(leaf) == 0 else leaf, values
    )
