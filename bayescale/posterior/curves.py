"""Curves: whether the law of a fit, or its data along one input, rise or turn."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayescale.data.runs import Runs
from bayescale.posterior.fitted import Fitted

RISE = 0.05
"""A curve counts as rising again if it rises by more than this fraction of its range."""
MOST_POINTS = 64
"""Largest number of points of a curve that are used singly; more are averaged in equal parts of ln x."""
STEEPENING = 0.3
"""Relative increase of the log-log slope, from the first to the second half of points, that counts as steepening."""


def rises(posterior: Fitted) -> bool:
    """Return whether the law, at its median constants, increases from the smallest to the largest fitted inputs."""
    posterior = posterior.leading
    constants = {name: float(np.median(values)) for name, values in posterior.scaled.items()}
    x = posterior.runs.frame[list(posterior.law.inputs)].to_numpy(float)
    model = posterior.first.job.model.law
    low, high = (
        float(posterior.law(*model.arguments(end / posterior.reference), **constants)) for end in (x.min(0), x.max(0))
    )
    return high > low


def turns(posterior: Fitted) -> bool:
    """Return whether a law of one input both decreases and increases within the runs, at its median constants."""
    posterior = posterior.leading
    constants = {name: float(np.median(values)) for name, values in posterior.scaled.items()}
    x = posterior.runs.frame[posterior.law.inputs[0]].to_numpy(float)
    grid = np.geomspace(x.min(), x.max(), 2 * MOST_POINTS)[None, :] / posterior.reference[:, None]
    curve = np.log(posterior.law(*posterior.first.job.model.law.arguments(grid), **constants))
    return min(rise(curve), rise(-curve)) > RISE * np.ptp(curve) > 0.0


def rise(y: np.ndarray) -> float:
    """Return the largest height above the lowest value so far, averaged over two neighbours, of values in order."""
    return float(np.max(np.convolve(y - np.minimum.accumulate(y), [0.5, 0.5], "valid")))


def one_curve(runs: Runs, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return ln x and mean ln(loss) at each value of one input, in order.

    Long curves in `MOST_POINTS` parts of ln x.
    """
    x, y, _ = counted_curve(runs, name)
    return x, y


def counted_curve(runs: Runs, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ln x, mean ln(loss) and number of rows of each point of `one_curve`, shape (point,) each."""
    x = np.log(runs.frame[name].to_numpy(float))
    cell = x
    if len(np.unique(x)) > MOST_POINTS:
        cell = np.floor((x - x.min()) / np.ptp(x) * (MOST_POINTS - 1e-9))
    table = pd.DataFrame({"cell": cell, "x": x, "y": np.log(runs.frame["loss"].to_numpy(float))})
    cells = table.groupby("cell")[["x", "y"]]
    means = cells.mean().to_numpy(float)
    return means[:, 0], means[:, 1], cells.size().to_numpy(float)


def scatter_of(y: np.ndarray) -> tuple[float, float]:
    """Return the standard deviation of values in order around a smooth curve, and how far noise alone would rise.

    The rise is in these standard deviations.
    """
    noise = np.median(np.abs(np.diff(y, 2))) / (0.6745 * np.sqrt(6.0)) + 1e-9
    # Of n points of pure noise, the lowest lies sqrt(2 ln n) sds below the mean, and the highest pair of neighbours
    # sqrt(ln n) sds above it.
    return float(noise), float((np.sqrt(2.0) + 1.0) * np.sqrt(np.log(len(y))))


def steepens(x: np.ndarray, y: np.ndarray) -> bool:
    """Return whether six or more values in order of x decrease faster in the second half than in the first.

    Values that decrease by less than noise alone would do not steepen.
    """
    if len(y) < 6:
        return False
    noise, least = scatter_of(y)
    if y[0] - y[-1] <= least * noise:
        return False
    half = len(y) // 2
    early, late = (-np.polyfit(x[part], y[part], 1)[0] for part in (slice(None, half), slice(half, None)))
    return bool(late - early > STEEPENING * (0.5 * (early + late) + 0.02 / np.ptp(x)))


def sure_rise(y: np.ndarray, count: np.ndarray) -> float:
    """Return the largest rise above the lowest value so far, divided by the rise that noise could cause.

    Rises are averaged over two neighbours, as in `rise`, and counted in the larger standard error of the points. The
    rise that noise could cause is that of `scatter_of`, plus one standard error.

    Args:
        y: Means in order of ln x, three or more, shape (point,).
        count: Number of rows of each mean, shape (point,).
    """
    error = 1.0 / np.sqrt(count)
    bend = np.diff(y, 2) / np.sqrt(error[:-2] ** 2 + 4.0 * error[1:-1] ** 2 + error[2:] ** 2)
    lowest = np.array([int(np.argmin(y[: number + 1])) for number in range(len(y))])
    larger = np.maximum(error, error[lowest])
    heights = 0.5 * np.convolve(y - y[lowest], [1.0, 1.0], "valid") / np.maximum(larger[1:], larger[:-1])
    noise = np.median(np.abs(bend)) / 0.6745 + 1e-9
    return float(heights.max() / noise / ((np.sqrt(2.0) + 1.0) * np.sqrt(np.log(len(y))) + 1.0))
