"""Optima along a path of inputs: of the law for each draw, and of the typical loss (exp of mean ln loss) on a grid."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from bayescale.forecast import Forecast
from bayescale.laws.published import PublishedLaw
from bayescale.posterior.fitted import Fitted

FINE = 161
"""Points of the fine grid."""
MARGIN = 8.0
"""The fine grid reaches beyond nearly all optima of the law by this factor."""


def law_optima(posterior: Fitted | PublishedLaw, path: pd.DataFrame, name: str) -> tuple[np.ndarray, float]:
    """Return the first input where the law is smallest along a path, for each draw and for the median constants."""
    x = np.log(path[name].to_numpy())
    columns = path[list(posterior.law.inputs)].to_numpy(float)
    if isinstance(posterior, PublishedLaw):
        values = np.log(np.broadcast_to(posterior.law(*columns.T, **posterior.constants), len(x)))[None]
        best = np.exp(lowest(x, values))
        return best, float(best[0])
    z = np.log(columns / posterior.reference)
    # Medians of constants over draws of different laws belong to no law.
    leading = posterior.leading
    constants = leading.flat_values.constants
    middle = {key: np.median(value, axis=0, keepdims=True) for key, value in constants.items()}
    draws, one = posterior.log_law(z), leading.log_law(z, middle)
    return np.exp(lowest(x, draws)), float(np.exp(lowest(x, one))[0])


def lowest(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the point at which each row has its smallest value, by a parabola between grid points, shape (row,)."""
    values = np.where(np.isfinite(values), values, np.inf)
    if len(x) < 3:
        return x[np.argmin(values, axis=1)]
    least = np.argmin(values, axis=1)
    middle = np.clip(least, 1, len(x) - 2)
    rows = np.arange(len(values))
    with np.errstate(invalid="ignore", divide="ignore"):
        before, here, after = (values[rows, middle + shift] for shift in (-1, 0, 1))
        left, right = x[middle] - x[middle - 1], x[middle + 1] - x[middle]
        down, up = (here - before) / left, (after - here) / right
        # The minimum of the parabola through three points, where its slope is zero.
        point = x[middle] - 0.5 * left - down * (0.5 * (left + right)) / (up - down)
    inside = (least == middle) & np.isfinite(point)
    return np.where(inside, np.clip(point, x[middle - 1], x[middle + 1]), x[least])


def refined(
    posterior: Fitted | PublishedLaw,
    along: Callable[[np.ndarray], pd.DataFrame],
    wide: pd.DataFrame,
    name: str,
    law_best: np.ndarray,
    kind: str,
) -> tuple[pd.DataFrame, Forecast]:
    """Predict on a fine grid around the law's optima, widened while the least typical loss lies at its edge."""
    smallest, largest = float(wide[name].min()), float(wide[name].max())
    low, high = np.quantile(law_best, [0.01, 0.99])
    factor = MARGIN
    while True:
        start, end = max(smallest, low / factor), min(largest, high * factor)
        grid = np.geomspace(start, end, FINE if end > start else 1)
        # Rounding must not move an end of the grid beyond the limit.
        fine = along(np.clip(grid, smallest, largest))
        forecast = posterior.predict(fine, kind=kind)
        least = int(np.argmin(forecast.typical))
        at_edge = (least == 0 and start > smallest) or (least == len(fine) - 1 and end < largest)
        if not at_edge or factor > 1e5:
            return fine, forecast
        factor *= 16.0


def connected(flags: np.ndarray, start: int) -> np.ndarray:
    """Keep only the run of adjacent true flags that contains `start`."""
    if not flags[start]:
        return np.zeros_like(flags)
    before = np.flatnonzero(~flags[:start])
    after = np.flatnonzero(~flags[start:])
    kept = np.zeros_like(flags)
    kept[before[-1] + 1 if len(before) else 0 : start + after[0] if len(after) else len(flags)] = True
    return kept
