"""Fitted curves: least squares with its textbook interval, and three bootstraps of it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from bayescale.model.padding import bucket, padded
from benchmarks.core.methods import least_squares as ls
from benchmarks.core.methods.prediction import Prediction, seed_of, student
from benchmarks.core.problems import Problem

BOOTSTRAPS = 100


@dataclasses.dataclass(frozen=True)
class Setting:
    """A problem as least squares sees it."""

    z: np.ndarray
    y: np.ndarray
    new: np.ndarray
    mask: np.ndarray
    grid: np.ndarray

    @property
    def rows(self) -> int:
        """Training rows without padding."""
        return int(self.mask.sum())


def setting(problem: Problem) -> Setting:
    """Standardise the inputs, and pad rows to a power of two so that few programs are compiled."""
    names = list(problem.inputs)
    x, new = np.log(problem.train[names].to_numpy(float)), np.log(problem.held[names].to_numpy(float))
    span = np.maximum(np.ptp(x, axis=0), np.log(2.0))
    size = bucket(len(x))
    return Setting(
        z=padded((x - x.mean(0)) / span, size),
        y=padded(np.log(problem.train["loss"].to_numpy(float)), size),
        new=(new - x.mean(0)) / span,
        mask=padded(np.ones(len(x)), size),
        grid=ls.starts(len(names)),
    )


def solve(case: Setting, y: np.ndarray, weight: np.ndarray, delta: float = np.inf, keep: int = ls.STARTS) -> ls.Fit:
    """Fit a batch of responses, all starts to the end."""
    steps = ls.STEPS if np.isinf(delta) else ls.HUBER_STEPS
    with jax.enable_x64(True):
        fit = ls.fit_batch(y, case.z, weight, case.grid, delta, steps, min(keep, len(case.grid)))
        return jax.tree.map(np.asarray, fit)


def at_new(case: Setting, theta: np.ndarray) -> np.ndarray:
    """Curves at the held-out inputs, shape (batch, held)."""
    rows = len(case.new)
    with jax.enable_x64(True):
        return np.asarray(ls.values(theta, padded(case.new, bucket(rows))))[:, :rows]


def fitted(case: Setting, theta: np.ndarray) -> np.ndarray:
    """Curve at the training rows, shape (row,), padding included."""
    with jax.enable_x64(True):
        return np.asarray(ls.values(theta[None], case.z))[0]


def least_squares(problems: Sequence[Problem]) -> Iterator[Prediction]:
    """Least squares of ln(loss) with the usual interval of a fitted curve: delta method, Student-t."""
    for problem in problems:
        begin = time.perf_counter()
        case = setting(problem)
        fit = solve(case, case.y[None], case.mask[None])
        theta = fit.theta[0]
        freedom = max(case.rows - len(theta), 1)
        variance = 2.0 * fit.cost[0] / freedom + 1e-12
        with jax.enable_x64(True):
            slope = np.asarray(ls.slopes(theta, case.z))[: case.rows]
            ahead = np.asarray(ls.slopes(theta, case.new))
        covariance = variance * np.linalg.pinv(slope.T @ slope, rcond=1e-10)
        spread = np.sqrt(np.einsum("pi,ij,pj->p", ahead, covariance, ahead) + variance)
        location, wide = student(at_new(case, fit.theta)[0], spread, freedom)
        yield Prediction(location, wide, status(fit), time.perf_counter() - begin)


def status(fit: ls.Fit) -> str:
    """Say whether nearly all fits of a batch had come to rest."""
    return "OK" if np.mean(fit.converged) >= 0.95 else "UNCONVERGED"


def residual_bootstrap(problems: Sequence[Problem]) -> Iterator[Prediction]:
    """Least squares, refitted after resampling the residuals times sqrt(n / (n - p))."""

    def resample(residual: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return rng.choice(residual, (BOOTSTRAPS, len(residual)))

    return (bootstrapped(problem, resample) for problem in problems)


def wild_bootstrap(problems: Sequence[Problem]) -> Iterator[Prediction]:
    """Least squares, refitted after multiplying each residual by a random factor (Webb's six points)."""
    points = np.sqrt([0.5, 1.0, 1.5])

    def resample(residual: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return residual * rng.choice(np.concatenate([-points, points]), (BOOTSTRAPS, len(residual)))

    return (bootstrapped(problem, resample) for problem in problems)


def bootstrapped(problem: Problem, resample: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Prediction:
    """Bootstrap of residuals around the least-squares fit."""
    begin = time.perf_counter()
    rng = np.random.default_rng(seed_of(problem))
    case = setting(problem)
    first = solve(case, case.y[None], case.mask[None])
    rows, theta = case.rows, first.theta[0]
    middle = fitted(case, theta)
    residual = (case.y - middle)[:rows] * np.sqrt(rows / max(rows - len(theta), 1))
    y = np.tile(middle * case.mask, (BOOTSTRAPS, 1))
    y[:, :rows] += resample(residual - residual.mean(), rng)
    again = solve(case, y, np.tile(case.mask, (BOOTSTRAPS, 1)))
    return Prediction(*with_scatter(at_new(case, again.theta), residual), status(again), time.perf_counter() - begin)


def with_scatter(curves: np.ndarray, residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Add the residual scatter of single runs to bootstrapped curves."""
    return curves, np.full_like(curves, np.sqrt(np.mean(residual**2) + 1e-12))


def huber_bootstrap(problems: Sequence[Problem]) -> Iterator[Prediction]:
    """Huber's loss at 1e-3 of ln(loss), grid of starts, resampled runs (hoffmann2022training, besiroglu2024)."""
    for problem in problems:
        begin = time.perf_counter()
        rng = np.random.default_rng(seed_of(problem))
        case = setting(problem)
        counts = rng.multinomial(case.rows, np.full(case.rows, 1.0 / case.rows), BOOTSTRAPS)
        weight = np.zeros((BOOTSTRAPS + 1, len(case.y)))
        weight[0], weight[1:, : case.rows] = case.mask, counts
        fit = solve(case, np.tile(case.y, (BOOTSTRAPS + 1, 1)), weight, delta=1e-3, keep=2)
        residual = (case.y - fitted(case, fit.theta[0]))[: case.rows]
        residual = residual * np.sqrt(case.rows / max(case.rows - fit.theta.shape[1], 1))
        location, spread = with_scatter(at_new(case, fit.theta[1:]), residual)
        yield Prediction(location, spread, status(fit), time.perf_counter() - begin)
