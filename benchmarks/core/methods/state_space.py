"""Damped local trend: a structural time series of ln(loss) along the scale, with a slope that fades and may change."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.stats import chi2

from benchmarks.core.methods.prediction import Prediction
from benchmarks.core.problems import Problem, scale

DAMPINGS = (0.2, 0.5, 1.0, 2.0)
"""Rates at which the slope fades, per span of the fitted runs; this range was chosen on development sources."""
SLOPES = (1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3, 1e4)
"""Variance of the slope's innovations a span over that of single runs."""
LEVELS = (0.0, 0.3, 3.0, 30.0)
"""Variance of the level's innovations a span over that of single runs."""
LARGE = 1e6
"""Variance of what is not known beforehand, in units of that of single runs: level, slope and coefficients."""
SHAPE, RATE = 0.5, 2e-7
"""Inverse-gamma prior of the variance of single runs."""
MIXTURE = 300
"""Normals that stand for the average over variances and dampings."""
SHORTEST = 1e-3
"""Smaller products of damping and distance take the first terms of a series."""


@dataclasses.dataclass(frozen=True)
class Steps:
    """What a move along the scale does to (level, slope), by exact discretisation of the continuous model.

    Attributes:
        reach: By how much a slope of one changes the level until then.
        keep: Which part of the slope is left.
        level: Variance that slope innovations of rate one give to the level.
        cross: Their covariance of level and slope.
        slope: Their variance of the slope.
    """

    reach: np.ndarray
    keep: np.ndarray
    level: np.ndarray
    cross: np.ndarray
    slope: np.ndarray


def steps(distance: np.ndarray, damping: float) -> Steps:
    """Return moves over distances of at least zero, in spans."""
    kd = damping * distance
    once, twice = -np.expm1(-kd), -np.expm1(-2.0 * kd)
    short = kd < SHORTEST
    exact = (distance - 2.0 * once / damping + twice / (2.0 * damping)) / damping**2
    return Steps(
        reach=once / damping,
        keep=np.exp(-kd),
        level=np.where(short, distance**3 * (1.0 / 3.0 - 0.25 * kd), exact),
        cross=once**2 / (2.0 * damping**2),
        slope=twice / (2.0 * damping),
    )


@dataclasses.dataclass(frozen=True)
class Places:
    """Runs as the model sees them.

    Attributes:
        at: Place along the scale in spans of the fitted runs, zero at the smallest of all runs.
        others: Regressors beside the scale, shape (run, regressor).
    """

    at: np.ndarray
    others: np.ndarray

    def covariance(self, damping: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the covariance that every run shares with every other, in three parts.

        Returns:
            What was unknown at first, slope innovations of rate one, and level innovations of rate one.
        """
        first = steps(self.at, damping)
        basis = np.column_stack([np.ones(len(self.at)), first.reach, self.others])
        earlier = np.minimum(self.at[:, None], self.at[None, :])
        shared = steps(earlier, damping)
        ahead = steps(np.abs(self.at[:, None] - self.at[None, :]), damping)
        return LARGE * basis @ basis.T, shared.level + shared.cross * ahead.reach, earlier


def places(problem: Problem) -> tuple[Places, int]:
    """Return fitted and then held-out runs, and how many are fitted.

    With several inputs the trend runs along their common scale (compute, or their product); the other directions in
    which the fitted runs differ get a straight term and a square, constant along the scale.
    """
    inputs, rows = problem.inputs, len(problem.train)
    along = np.log(np.concatenate([scale(problem.train, inputs), scale(problem.held, inputs)]))
    span = max(float(np.ptp(along[:rows])), np.log(2.0))
    at = (along - along.min()) / span
    others = np.empty((len(at), 0))
    if len(inputs) > 1:
        x = np.log(np.concatenate([part[list(inputs)].to_numpy(float) for part in (problem.train, problem.held)]))
        x = (x - x[:rows].mean(0)) / np.maximum(np.ptp(x[:rows], axis=0), np.log(2.0))
        # Ratios of neighbouring inputs, as the mix of parameters and tokens.
        mix = np.diff(x, axis=1)
        others = np.column_stack([mix, mix**2])
    return Places(at, others), rows


@functools.cache
def candidates() -> tuple[tuple[float, float], ...]:
    """Variances of slope and level innovations that are averaged over, for each damping."""
    return tuple(itertools.product(SLOPES, LEVELS))


def local_trend(problems: Sequence[Problem]) -> Iterator[Prediction]:
    """State-space model of ln(loss) along the scale with a damped slope, averaged over dampings by marginal likelihood.

    Level and slope are a random walk and a slope that fades and is pushed, over the logarithm of the scale; single runs
    scatter around the level. Damping and variances are averaged over a grid by their evidence, and the overall variance
    is integrated out, so nothing is left to an optimiser. Of at most 60 runs the covariance is written out, which gives
    what a Kalman filter gives. Standard errors of measurements are not used.
    """
    for problem in problems:
        begin = time.perf_counter()
        where, rows = places(problem)
        y = np.log(problem.train["loss"].to_numpy(float))
        location, spread = forecast(where, y, rows)
        yield Prediction(location, spread, "OK", time.perf_counter() - begin)


def forecast(where: Places, y: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the normals of the averaged forecast, means and standard deviations, shape (MIXTURE, held)."""
    center, shape = y.mean(), SHAPE + 0.5 * (rows - 2 - where.others.shape[1])
    shape = max(shape, SHAPE)
    evidence, means, spreads = [], [], []
    for damping in DAMPINGS:
        score, mean, spread = conditioned(where, y - center, rows, damping, shape)
        evidence.append(score)
        means.append(mean)
        spreads.append(spread)
    score, mean, spread = (np.concatenate(parts) for parts in (evidence, means, spreads))
    weight = np.exp(score - score.max())
    # Systematic draws of settings, then a Student-t as normals of which each has its own quantile of the variance.
    picks = np.searchsorted(np.cumsum(weight / weight.sum()), (np.arange(MIXTURE) + 0.5) / MIXTURE)
    picks = np.minimum(picks, len(weight) - 1)
    order = np.random.default_rng(0).permutation(MIXTURE)
    factor = np.sqrt(2.0 * shape / chi2.ppf((order + 0.5) / MIXTURE, 2.0 * shape))
    return center + mean[picks], spread[picks] * factor[:, None]


def conditioned(
    where: Places, y: np.ndarray, rows: int, damping: float, shape: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the log evidence of every candidate under one damping, and its forecast of the held-out runs.

    Args:
        where: All runs, fitted ones first.
        y: Centred ln(loss) of the fitted ones.
        rows: How many are fitted.
        damping: Rate at which the slope fades.
        shape: Shape of the variance of single runs, after the data.

    Returns:
        Log evidence (candidate,), means and scales of a Student-t (candidate, held).
    """
    unknown, slope, level = where.covariance(damping)
    rates = np.array(candidates())[:, :, None, None]
    whole = unknown + rates[:, 0] * slope + rates[:, 1] * level
    own = whole[:, :rows, :rows] + np.eye(rows)
    factor = np.linalg.cholesky(own)
    right = np.concatenate([np.broadcast_to(y[:, None], (len(own), rows, 1)), whole[:, :rows, rows:]], axis=2)
    solved = np.linalg.solve(factor, right)
    residual, gain = solved[:, :, :1], solved[:, :, 1:]
    rate = RATE + 0.5 * (residual[:, :, 0] ** 2).sum(1)
    determinant = np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(1)
    mean = (gain * residual).sum(1)
    variance = np.diagonal(whole[:, rows:, rows:], axis1=1, axis2=2) + 1.0 - (gain**2).sum(1)
    spread = np.sqrt(np.maximum(variance, 1e-12) * (rate / shape)[:, None])
    return -determinant - shape * np.log(rate), mean, spread
