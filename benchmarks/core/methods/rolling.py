"""Rolling conformal: intervals from the errors that the same fit made when it extrapolated within the fitted runs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import stats

from benchmarks.core.methods.fitted_curves import Setting, at_new, fitted, setting, solve, status
from benchmarks.core.methods.prediction import MIXTURE, Prediction
from benchmarks.core.problems import Problem, scale

ORIGINS = 8
"""Most places up to which the curve is fitted again."""
DELTA = 1e-3
"""Where Huber's loss turns linear, as for the bootstrap of it."""
NEAREST = 0.3
"""Least factor by which a run lies beyond the fitted ones, in ln: a run next to them is no harder than this."""
ALIKE = np.log(2.0)
"""Errors at distances within this factor of the asked one count before others."""
ENOUGH = 9
"""Errors at the asked distance that are enough for an interval without those at other distances."""


@dataclasses.dataclass(frozen=True)
class Errors:
    """What went wrong when fits to the smaller runs forecast the larger ones.

    Attributes:
        size: Absolute errors in ln(loss).
        distance: Ln of how far beyond the fitted runs each lay, at least `NEAREST`.
        origin: Number of the fit that made it.
    """

    size: np.ndarray
    distance: np.ndarray
    origin: np.ndarray


def rolling_conformal(problems: Sequence[Problem]) -> Iterator[Prediction]:
    """Huber's fit with intervals from its errors when it extrapolates within the fitted runs.

    The curve is fitted again up to as many as eight smaller scales, and forecasts the fitted runs beyond each. Errors
    at the asked distance (within a factor of two) are used where there are nine; else all, those from elsewhere in
    proportion to the logarithm of the distance. Beyond the quantile that so many errors support, the interval grows
    like Student's t with as many degrees of freedom as there were fits. Where no smaller fit is possible, residuals
    stand in for errors.
    """
    for problem in problems:
        begin = time.perf_counter()
        case = setting(problem)
        compute = scale(problem.train, problem.inputs)
        ends = origins(compute, len(problem.inputs))
        weight = np.zeros((ORIGINS + 1, len(case.y)))
        # The first fit has all runs; fits that are not needed repeat it, so that one program serves every problem.
        weight[:] = case.mask
        for number, end in enumerate(ends, start=1):
            weight[number, : case.rows] = compute <= end
        fit = solve(case, np.tile(case.y, (ORIGINS + 1, 1)), weight, delta=DELTA, keep=2)
        errors = rolled(case, compute, ends, fit.theta)
        center = at_new(case, fit.theta[:1])[0]
        residual = (case.y - fitted(case, fit.theta[0]))[: case.rows]
        freedom = max(case.rows - fit.theta.shape[1], 1)
        noise = np.sqrt((residual**2).sum() / freedom + 1e-12)
        away = np.maximum(np.log(problem.ratio), NEAREST)
        levels = (np.arange(MIXTURE) + 0.5) / MIXTURE
        sides = np.array([half_widths(errors, distance, noise, freedom, levels) for distance in away]).T
        width = np.maximum(np.abs(np.gradient(sides, axis=0)), 1e-6)
        yield Prediction(center + sides, width, status(fit), time.perf_counter() - begin)


def origins(compute: np.ndarray, inputs: int) -> np.ndarray:
    """Return the scales up to which the curve is fitted again, at most `ORIGINS`: those that leave enough runs.

    A fit needs a run more than its law has constants; with fewer fitted runs than that and one more there is none.
    """
    places = np.unique(compute)
    least = 2 + 2 * inputs
    inside = (compute[None, :] <= places[:, None]).sum(1)
    possible = places[(inside >= least) & (inside < len(compute))]
    if len(possible) <= ORIGINS:
        return possible
    wanted = np.linspace(np.log(possible[0]), np.log(possible[-1]), ORIGINS)
    return possible[np.unique(np.abs(np.log(possible)[None, :] - wanted[:, None]).argmin(1))]


def rolled(case: Setting, compute: np.ndarray, ends: np.ndarray, theta: np.ndarray) -> Errors:
    """Return the errors of the fits up to each end on the fitted runs beyond it."""
    size, distance, origin = [np.empty(0)], [np.empty(0)], [np.empty(0)]
    for number, end in enumerate(ends, start=1):
        beyond = compute > end
        miss = (case.y - fitted(case, theta[number]))[: case.rows][beyond]
        size.append(np.abs(miss))
        distance.append(np.maximum(np.log(compute[beyond] / end), NEAREST))
        origin.append(np.full(beyond.sum(), float(number)))
    return Errors(*(np.concatenate(parts) for parts in (size, distance, origin)))


def half_widths(errors: Errors, distance: float, noise: float, freedom: int, levels: np.ndarray) -> np.ndarray:
    """Return signed distances of quantiles from the centre, the same on both sides.

    Args:
        errors: What went wrong within the fitted runs.
        distance: Ln of how far beyond them the run lies.
        noise: Scatter of the fitted runs around the curve.
        freedom: Its degrees of freedom.
        levels: Probabilities of the quantiles.
    """
    central = np.abs(2.0 * levels - 1.0)
    sign = np.sign(levels - 0.5)
    if not len(errors.size):
        return sign * noise * stats.t.ppf(0.5 + 0.5 * central, freedom)
    near = np.abs(errors.distance - distance) <= ALIKE
    used = near if near.sum() >= ENOUGH else np.ones(len(near), bool)
    # Errors at the asked distance stay as they are, others grow in proportion to it.
    grown = np.where(near, 1.0, distance / errors.distance)[used]
    size = np.sort(errors.size[used] * grown)
    fits = len(np.unique(errors.origin[used]))
    # The k-th of m errors bounds the next with probability k / (m + 1).
    known = np.arange(1, len(size) + 1) / (len(size) + 1)
    inner = np.interp(central, np.append(0.0, known), np.append(0.0, size))
    beyond = stats.t.ppf(0.5 + 0.5 * central, fits) / stats.t.ppf(0.5 + 0.5 * known[-1], fits)
    return sign * np.maximum(np.where(central > known[-1], size[-1] * beyond, inner), 1e-9)
