"""Information: what a pilot is worth, from simulated outcomes of the pilot and of the run it is for.

Pre-posterior analysis by regression (after strong2015estimating): in every equally likely joint draw the pilot shows
something and going has some worth; the mean worth given what the pilot shows is a regression, and deciding by its
sign is the decision rule that the pilot buys. The rule is learned on one half of the joint draws and paid on the
other, so that a pilot which says nothing earns nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.interpolate import make_smoothing_spline
from scipy.special import ndtri
from scipy.stats import rankdata

BINS = 64
"""Groups of joint draws, by what the pilot shows, whose mean worth is smoothed."""
FEWEST = 8
"""Fewest joint draws in a group."""


class Value(NamedTuple):
    """Worth of information.

    Attributes:
        evsi: Expected value of sample information, in the unit of the worth; never negative.
        each: Gain of the rule over the best decision made now, in each joint draw; its mean is `evsi` before clipping.
        go: Share of joint draws in which the rule goes.
    """

    evsi: float
    each: np.ndarray
    go: float


def index(target: np.ndarray, pilots: np.ndarray) -> np.ndarray:
    """Return the best linear guess of the target's curve from what pilots show, shape (draw,).

    Args:
        target: Ln of the target's curve, shape (draw,).
        pilots: Ln of what each pilot shows, shape (draw, pilot).
    """
    design = np.column_stack([np.ones(len(target)), pilots])
    weights, *_ = np.linalg.lstsq(design, target, rcond=1e-10)
    return design @ weights


def information(target: np.ndarray, pilots: np.ndarray) -> float:
    """Return the information of pilots about the target, in nats.

    Mutual information of a Gaussian copula, -ln(1 - r^2) / 2 with r the correlation of normal scores. Adjusted for what
    that many pilots explain by chance.
    """
    guess = index(target, pilots)
    scores = [ndtri((rankdata(values) - 0.5) / len(values)) for values in (target, guess)]
    square = np.corrcoef(*scores)[0, 1] ** 2 if np.ptp(guess) > 0 else 0.0
    freedom = len(target) - 1
    adjusted = 1.0 - (1.0 - square) * freedom / (freedom - pilots.shape[1])
    return float(-0.5 * np.log1p(-min(max(adjusted, 0.0), 1.0 - 1e-12)))


def sample_information(gain: np.ndarray, target: np.ndarray, pilots: np.ndarray) -> Value:
    """Return the expected value of sample information of pilots.

    Args:
        gain: Worth of going over staying, mean over the run's own noise, shape (draw,).
        target: Ln of the target's curve, shape (draw,).
        pilots: Ln of what each pilot shows, shape (draw, pilot).

    Returns:
        The value; zero where no pilot outcome would change the decision.
    """
    guess = index(target, pilots)
    now = float(gain.mean() > 0)
    rule = np.empty(len(gain))
    # Neighbouring joint draws share a posterior draw, so the parts are blocks, not every other joint draw. Made of two
    # quarters each, they have as many joint draws of either component of a mixture.
    half = np.arange(len(gain)) * 4 // len(gain) % 2 == 0
    for learn, pay in ((half, ~half), (~half, half)):
        rule[pay] = regression(guess[learn], gain[learn])(guess[pay]) > 0
    each = gain * (rule - now)
    return Value(max(float(each.mean()), 0.0), each, float(rule.mean()))


def regression(x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the mean of y given x: means of groups of x, smoothed by a spline with cross-validated stiffness."""
    groups = min(BINS, len(x) // FEWEST)
    order = np.argsort(x, kind="stable")
    centers = np.array([part.mean() for part in np.array_split(x[order], groups)])
    means = np.array([part.mean() for part in np.array_split(y[order], groups)])
    keep = np.concatenate([[True], np.diff(centers) > 1e-12 * (1.0 + np.ptp(centers))])
    if keep.sum() < 5 or np.ptp(means) == 0.0:
        level = float(y.mean())
        return lambda at: np.full(np.shape(at), level)
    low, high = centers[keep][0], centers[keep][-1]
    width = high - low
    spline = make_smoothing_spline((centers[keep] - low) / width, means[keep])
    # Beyond the outermost groups the spline would run off along its last slope, which is right for a trend.
    return lambda at: spline((np.asarray(at) - low) / width)
