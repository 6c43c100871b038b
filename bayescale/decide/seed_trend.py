"""Seed sd by scale: whether larger runs scatter less, and which runs lie too far from the others of their setting."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from bayescale.decide.seed_differences import PRIOR_MEDIAN, PRIOR_SD

SLOPE_SD = 0.5
"""Prior standard deviation of the exponent of the seed sd."""
SLOPES = np.linspace(-2.0, 2.0, 401)
"""Exponents at which the posterior is computed."""
SDS = np.linspace(np.log(1e-7), np.log(0.3), 801)
"""Logarithms of the relative seed sd, at the middle scale, at which the posterior is computed."""
FEWEST_SCALES, FEWEST_OTHERS = 3, 3
"""Fewest scales with replicates for a trend, and fewest other runs of a setting with which a run is compared."""
SURE = 0.01
"""Probability that any run is reported as far from the others although all noise is normal."""


@dataclasses.dataclass(frozen=True)
class SeedTrend:
    """Posterior of the exponent with which the relative seed sd changes along an input.

    Attributes:
        axis: Name of the input.
        slope: Quantiles of the exponent, by probability.
        p_falls: Probability that the seed sd decreases with scale.
    """

    axis: str
    slope: dict[float, float]
    p_falls: float


def seed_trend(frame: pd.DataFrame, axis: str, shares: list[float]) -> SeedTrend | None:
    """Return the posterior of the exponent of the relative seed sd along an input; None for too few scales.

    The relative residuals of replicates at input x are normal with sd exp(a + b ln(x / middle)). exp(a) has the prior
    of the seed sd, and the exponent b is Normal(0, .5).

    Args:
        frame: Rows with family, the input and loss.
        axis: Name of the input.
        shares: Probabilities of the quantiles.
    """
    groups = frame.groupby(["family", axis], sort=False)["loss"]
    squares = groups.apply(lambda values: float(((values / values.mean() - 1.0) ** 2).sum())).to_numpy(float)
    sizes = groups.size()
    freedom = sizes.to_numpy() - 1
    log_x = np.log(sizes.index.get_level_values(axis).to_numpy(float))
    kept = freedom > 0
    if len(np.unique(log_x[kept])) < FEWEST_SCALES:
        return None
    squares, freedom, log_x = squares[kept], freedom[kept], log_x[kept]
    shift = SLOPES[:, None] * (log_x - np.average(log_x, weights=freedom))
    density = -0.5 * ((SDS - np.log(PRIOR_MEDIAN)) / PRIOR_SD) ** 2 - 0.5 * (SLOPES[:, None] / SLOPE_SD) ** 2
    for move, square, number in zip(shift.T, squares, freedom, strict=True):
        log_sd = SDS + move[:, None]
        density = density - number * log_sd - 0.5 * square * np.exp(-2.0 * log_sd)
    weight = np.exp(density - density.max()).sum(1)
    below = np.cumsum(weight) / weight.sum()
    slope = {share: float(np.interp(share, below, SLOPES)) for share in shares}
    return SeedTrend(axis, slope, float(np.interp(0.0, SLOPES, below)))


def far_runs(frame: pd.DataFrame, axes: list[str]) -> pd.DataFrame:
    """Return the rows that lie too far from the other runs of their setting for normal noise.

    A run is compared with the other runs of its recipe and setting, whose mean is in column `others`, by a t test of
    one new value. If all noise is normal, the probability that any run is reported is `SURE`.

    Args:
        frame: Rows with columns family, `axes` and loss.
        axes: Columns whose values define a setting.
    """
    limit = SURE / max(len(frame), 1)
    found: list[dict[str, Any]] = []
    for _, rows in frame.groupby(["family", *axes], sort=False):
        values = rows["loss"].to_numpy(float)
        if len(values) <= FEWEST_OTHERS:
            continue
        for position in range(len(values)):
            others = np.delete(values, position)
            spread = others.std(ddof=1) * np.sqrt(1.0 + 1.0 / len(others))
            gap = abs(values[position] - others.mean())
            if spread > 0.0 and 2.0 * stats.t.sf(gap / spread, len(others) - 1) < limit:
                found.append({**rows.iloc[position].to_dict(), "others": float(others.mean())})
    return pd.DataFrame(found)
