"""Predictive equations: law, discrepancy and noise at new points, given draws of the posterior."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayescale._jax import on_cores
from bayescale.model.density import row_covariance, row_variance
from bayescale.model.discrepancy import eigenbasis, kernel
from bayescale.model.likelihood import SMALLEST_SCATTER
from bayescale.model.problem import Model, Problem, Values, places
from bayescale.model.state_space import steps

MOST_ELEMENTS = 4_000_000
"""Largest stack of matrices held at once, in numbers."""
SAME_DIGITS = 9
"""Digits after the point of ln x up to which settings count as equal."""
MANY_POINTS = 1000
"""Fitted and new points of one axis from which on a walk from point to point is used, whatever the fit used."""


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
    with on_cores():
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
        model: Law, discrepancy and likelihood.
        problem: The fitted family.
        low: Smallest of the law's coordinates among the fitted rows, shape (axis,).
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
    if model.discrepancy is not None:
        residual = problem.y[:rows] - curve[:, :rows] - level
        mean, variance, joint = discrepancy_ahead(model, problem, low, values, curve, residual, z, rng)
        location, draws = location + mean, draws + joint
    if kind == "run":
        law = curve[:, rows:] + level
        new = new_runs(model, problem, values, problem.y[:rows] - curve[:, :rows] - level, z, rng)
        location = location + new.share * (law + new.shown - location)
        variance = (1.0 - new.share) ** 2 * variance + new.variance
        draws = draws + new.share * (law + new.shown - draws) + new.noise
    center = float(problem.center)
    return Predictive(location + center, np.sqrt(np.maximum(variance, 0.0)), draws + center)


class NewRuns(NamedTuple):
    """How single runs at some points differ from the mean curve there; all shapes (draw, point).

    At settings that were run before, the residual that all runs there have in common is partly known: it is `share` of
    what those runs left around law and discrepancy.
    """

    share: np.ndarray
    shown: np.ndarray
    """What runs at the same settings left around the law; zero where there are none."""
    variance: np.ndarray
    """Variance of a new run beyond that."""
    noise: np.ndarray
    """Joint draws: runs at equal points share their residual, and each has a seed of its own."""


def new_runs(
    model: Model, problem: Problem, values: Values, residual: np.ndarray, z: np.ndarray, rng: np.random.Generator
) -> NewRuns:
    """Return what single runs add to the curve at new points, given what runs at the same settings showed.

    Args:
        model: Law, discrepancy and likelihood.
        problem: The fitted family.
        values: Posterior draws, every leaf with leading axis draw.
        residual: What the law leaves of the fitted rows, shape (draw, row).
        z: ln(x / reference) of the new points, shape (point, input).
        rng: Source of the joint draws.
    """
    draws, rows = residual.shape
    square = np.broadcast_to(np.asarray(values.residual_sd, float) ** 2, draws)[:, None]
    seed = np.broadcast_to(np.asarray(values.seed_sd, float) ** 2, draws)[:, None] + float(problem.single)
    _, place = np.unique(np.round(z, SAME_DIGITS), axis=0, return_inverse=True)
    place = place.ravel()
    common = np.broadcast_to(square, (draws, len(z))).copy()
    share, shown = np.zeros((2, draws, len(z)))
    tail = np.ones((draws, len(z)))
    if model.likelihood.tail is not None:
        half = 0.5 * float(model.likelihood.tail)
        tail = 1.0 / rng.gamma(half, 1.0 / half, size=(draws, place.max() + 1))[:, place]
    if share_residuals(problem):
        weights = np.broadcast_to(np.asarray(values.weights, float), (draws, len(problem.y)))[:, :rows]
        own = np.asarray(jax_rows(row_variance, values, problem))[:, :rows] - square
        same = np.abs(z[:, None, :] - problem.z[None, :rows]).max(-1) < 0.1**SAME_DIGITS
        for point in np.flatnonzero(same.any(1)):
            there = same[point]
            precision = (weights / own)[:, there]
            total = precision.sum(1)
            scatter = square[:, 0] / weights[:, there].mean(1)
            share[:, point] = scatter / (scatter + 1.0 / total)
            shown[:, point] = (precision * residual[:, there]).sum(1) / total
            common[:, point] = scatter * (1.0 - share[:, point])
            tail[:, point] = 1.0
    both = rng.standard_normal((draws, place.max() + 1))[:, place], rng.standard_normal((draws, len(z)))
    noise = np.sqrt(tail) * (np.sqrt(common) * both[0] + np.sqrt(seed) * both[1])
    return NewRuns(share, shown, tail * (common + seed), noise)


def share_residuals(problem: Problem) -> bool:
    """Whether a new run at fitted settings shares the residual there: not with the checkpoints of one other run."""
    return not float(problem.single) and bool(np.any(problem.seed_part))


def run_variance(values: Values, problem: Problem) -> np.ndarray:
    """Variance of one future run around law and discrepancy, its seed included, of the shape of the draws."""
    return np.asarray(values.residual_sd) ** 2 + np.asarray(values.seed_sd) ** 2 + float(problem.single)


def discrepancy_ahead(
    model: Model,
    problem: Problem,
    low: np.ndarray,
    values: Values,
    curve: np.ndarray,
    residual: np.ndarray,
    z: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, variance and joint draws of the discrepancy at new points, as forecasts take them, (draw, point) each.

    That is what `discrepancy_at` says; beyond the data wider or narrower by the discrepancy's factor, and moved by
    its trend. `curve` is the law at the fitted and the new points.
    """
    assert model.discrepancy is not None, "a model with discrepancy"
    rows, points, trend = residual.shape[1], len(z), float(model.discrepancy.trend)
    # Where the data end on the way to each point beyond them.
    edge = np.minimum(z, problem.z[:rows].max(0))
    beyond = np.flatnonzero((z > edge).any(1)) if trend else np.zeros(0, int)
    edges, nearest = np.unique(edge[beyond], axis=0, return_inverse=True)
    nearest = nearest.ravel()
    mean, variance, joint = discrepancy_at(model, problem, low, values, residual, np.concatenate([z, edges]), rng)
    factor = model.discrepancy.factors(len(mean), rows)[:, None]
    inside = ((z <= problem.z[:rows].max(0)) & (z >= problem.z[:rows].min(0))).all(1)
    factors = np.where(inside, 1.0, factor)
    apart = factors * (joint - mean)[:, :points]
    if len(beyond):
        onward = np.sign(curve[:, rows + beyond] - law_at(model, values.constants, edges)[:, nearest])
        gained = np.maximum(variance[:, beyond] - variance[:, points + nearest], 0.0)
        mean[:, beyond] += trend * onward * factor * np.sqrt(gained)
    mean = mean[:, :points]
    return mean, factors**2 * variance[:, :points], mean + apart


def discrepancy_at(
    model: Model,
    problem: Problem,
    low: np.ndarray,
    values: Values,
    residual: np.ndarray,
    z: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Conditional mean, variance and joint draws of the discrepancy at new points, shape (draw, point) each.

    Joint draws follow Matheron's rule: a draw from the prior at old and new points, corrected by what it gets wrong
    at the old ones; one fixed factorisation serves every posterior draw.
    """
    assert model.discrepancy is not None, "a model with discrepancy"
    rows, discrepancy = residual.shape[1], model.discrepancy
    old, new = (places(model.law, problem, low, part) for part in (problem.z[:rows], z))
    many = old.shape[1] == 1 and rows + len(z) > MANY_POINTS and not problem.dense
    if problem.gap is not None or many:
        return walk_at(problem, float(discrepancy.memory), values, residual, old[:, 0], new[:, 0], rng)
    everywhere = np.concatenate([old, new])
    whole = kernel(everywhere, everywhere, discrepancy)
    cross = whole[rows:, :rows]
    power, vectors = eigenbasis(whole)
    root = vectors * np.sqrt(power)
    amplitude = np.asarray(values.amplitude)[:, None]
    path = amplitude * (rng.standard_normal((len(residual), len(root))) @ root.T)
    before = amplitude**2 * np.diag(whole)[rows:]
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


def walk_at(
    problem: Problem,
    memory: float,
    values: Values,
    residual: np.ndarray,
    old: np.ndarray,
    new: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `discrepancy_at` returns, in linear time, for the places of rows and of new points on one axis."""
    rows, draws = residual.shape[1], len(residual)
    order = np.argsort(old, kind="stable")
    old, residual = old[order], residual[:, order]
    noise = np.asarray(jax_rows(row_variance, values, problem))[:, :rows][:, order]
    amplitude = np.asarray(values.amplitude)
    chunk = max(1, 4 * MOST_ELEMENTS // (5 * (rows + len(new))))
    parts = [
        walk(
            old,
            new,
            residual[first : first + chunk],
            noise[first : first + chunk],
            amplitude[first : first + chunk],
            memory,
            rng,
        )
        for first in range(0, draws, chunk)
    ]
    mean, variance, joint = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return mean, variance, joint


def walk(
    old: np.ndarray,
    new: np.ndarray,
    residual: np.ndarray,
    noise: np.ndarray,
    amplitude: np.ndarray,
    memory: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Walk over old and new places forth and back: Kalman filter and its adjoint for all draws side by side.

    Args:
        old: Places of the fitted rows in spans, increasing from zero, shape (row,).
        new: New places, in any order and on either side, shape (point,).
        residual: What law and level leave, shape (draw, row).
        noise: Variance around the discrepancy, shape (draw, row).
        amplitude: Shape (draw,).
        memory: Memory of the slope in spans.
        rng: Source of the joint draws.

    Returns:
        Conditional mean, variance and joint draws at the new places, shape (draw, point) each.
    """
    draws, square = len(residual), amplitude**2
    ahead, behind = np.flatnonzero(new >= 0.0), np.flatnonzero(new < 0.0)
    places = np.concatenate([old, new[ahead]])
    order = np.argsort(places, kind="stable")
    moves = unit_steps(np.diff(places[order], prepend=0.0), memory)

    def step(move: np.ndarray, place: np.ndarray, slope: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Move a path of unit amplitude on at random."""
        a, b, q0, q1, q2 = move
        root = np.sqrt(q0)
        across = q1 / root if root > 0 else 0.0
        one, two = rng.standard_normal((2, draws))
        rest = np.sqrt(max(q2 - across**2, 0.0))
        return place + a * slope + root * one, b * slope + across * one + rest * two

    slope = np.sqrt(0.5 * memory) * rng.standard_normal(draws)
    first_slope, place = slope, np.zeros(draws)
    m0, m1 = np.zeros((2, draws)), np.zeros((2, draws))
    p0, p1, p2 = np.zeros(draws), np.zeros(draws), 0.5 * memory * square
    kept: list[tuple[np.ndarray, ...]] = []
    for number, move in zip(order, moves, strict=True):
        a, b, q0, q1, q2 = move
        place, slope = step(move, place, slope)
        m0, m1 = m0 + a * m1, b * m1
        p0, p1, p2 = (
            p0 + a * (2.0 * p1 + a * p2) + q0 * square,
            b * (p1 + a * p2) + q1 * square,
            b**2 * p2 + q2 * square,
        )
        if number >= len(old):
            kept.append((m0, p0, p1, amplitude * place))
            continue
        seen = residual[:, number]
        wrong = seen - amplitude * place - np.sqrt(noise[:, number]) * rng.standard_normal(draws)
        spread = p0 + noise[:, number]
        k0, k1 = p0 / spread, p1 / spread
        surprise = np.stack([seen, wrong]) - m0
        m0, m1 = m0 + k0 * surprise, m1 + k1 * surprise
        # Likelihood over spread is 1 - k0 without the cancellation.
        kept.append((surprise / spread, 1.0 / spread, k0, k1))
        p0, p1, p2 = p0 * noise[:, number] / spread, p1 * noise[:, number] / spread, p2 - k1 * p1
    mean, variance, joint = (np.zeros((draws, len(new))) for _ in range(3))
    l0, l1 = np.zeros((2, draws)), np.zeros((2, draws))
    n0, n1, n2 = np.zeros(draws), np.zeros(draws), np.zeros(draws)
    for number, (a, b, *_), values in zip(order[::-1], moves[::-1], kept[::-1], strict=True):
        if number >= len(old):
            before, p0, p1, path = values
            at = ahead[number - len(old)]
            mean[:, at], correction = before + p0 * l0 + p1 * l1
            variance[:, at] = p0 - (p0**2 * n0 + 2.0 * p0 * p1 * n1 + p1**2 * n2)
            joint[:, at] = path + correction
        else:
            scaled, weight, k0, k1 = values
            l0 = l0 + scaled - (k0 * l0 + k1 * l1)
            n0, n1 = weight + (1.0 - k0) * ((1.0 - k0) * n0 - 2.0 * k1 * n1) + k1**2 * n2, (1.0 - k0) * n1 - k1 * n2
        l1 = a * l0 + b * l1
        n0, n1, n2 = n0, a * n0 + b * n1, a**2 * n0 + 2.0 * a * b * n1 + b**2 * n2
    # Left of the data the process knows no more than the slope with which it enters them.
    start = 0.5 * memory * square
    slope_mean, slope_correction = start * l1
    slope_variance = start - start**2 * n2
    path, slope, here = np.zeros(draws), -first_slope, 0.0
    for at in behind[np.argsort(-new[behind])]:
        (move,) = unit_steps(np.array([-new[at] - here]), memory)
        path, slope = step(move, path, slope)
        here = -new[at]
        ((reach, _, q0, _, _),) = unit_steps(np.array([here]), memory)
        mean[:, at] = -reach * slope_mean
        variance[:, at] = reach**2 * slope_variance + q0 * square
        joint[:, at] = amplitude * path - reach * slope_correction
    return mean, variance, joint


def unit_steps(gap: np.ndarray, memory: float) -> np.ndarray:
    """Transitions of unit amplitude over gaps, shape (gap, 5)."""
    with on_cores():
        return np.stack([np.asarray(leaf) for leaf in steps(gap, memory, 1.0)], axis=1)


def jax_rows(function: Any, values: Values, problem: Problem) -> Any:
    """Evaluate a function of one draw for all draws, in float64."""
    with on_cores():
        return jax.vmap(lambda v: function(v, problem))(values)


def dense_noise(problem: Problem, values: Values, rng: np.random.Generator) -> np.ndarray:
    """Draw the scatter of the fitted rows around law and discrepancy, shape (draw, row)."""
    assert problem.alike is not None and problem.shared is not None, "a dense problem"
    rows = int(problem.mask.sum())
    weights = np.asarray(values.weights)[:, :rows]
    shape = (len(weights), rows)
    known = np.sqrt((SMALLEST_SCATTER**2 + problem.error[:rows]) / problem.count[:rows])
    noise = known * rng.standard_normal(shape)
    for sd, part in ((values.residual_sd, problem.alike), (values.seed_sd, problem.shared)):
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
