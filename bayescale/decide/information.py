"""Information: what a pilot is worth, from simulated outcomes of the pilot and of the run it is for, the target run.

The method is pre-posterior analysis by regression (after strong2015estimating). Each equally likely joint draw contains
the pilot's loss and the worth of going. A regression estimates the mean worth given the pilot's loss, and its sign is
the decision that would be made after the pilot. This rule is learned on one half of the joint draws and its worth is
measured on the other half, so that a pilot without information has no value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.interpolate import make_smoothing_spline
from scipy.special import ndtri
from scipy.stats import rankdata

BINS = 64
"""Number of groups of joint draws, ordered by the pilots' losses, whose mean worths are smoothed."""
FEWEST = 8
"""Fewest joint draws in a group."""


class Value(NamedTuple):
    """Worth of information.

    Attributes:
        evsi: Expected value of sample information, in the unit of the worth; never negative.
        each: Gain of the rule over the best decision without a pilot, in each joint draw; the mean is `evsi` before
            clipping at 0.
        go: Fraction of joint draws in which the rule decides to go.
    """

    evsi: float
    each: np.ndarray
    go: float


def index(target: np.ndarray, pilots: np.ndarray) -> np.ndarray:
    """Return the best linear prediction of the curve at the target run from the pilots' losses, shape (draw,).

    Args:
        target: Ln of the mean curve at the target run, shape (draw,).
        pilots: Ln loss of each pilot, shape (draw, pilot).
    """
    design = np.column_stack([np.ones(len(target)), pilots])
    weights, *_ = np.linalg.lstsq(design, target, rcond=1e-10)
    return design @ weights


def information(target: np.ndarray, pilots: np.ndarray) -> float:
    """Return the information of pilots about the curve at the target run, in nats.

    This is the mutual information of a Gaussian copula, -ln(1 - r^2) / 2, where r is the correlation of normal scores
    of the curve and of its best linear prediction. It is adjusted for the part that as many pilots explain by chance.
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
        gain: Worth of going minus that of not going, averaged over the target run's own noise, shape (draw,).
        target: Ln of the mean curve at the target run, shape (draw,).
        pilots: Ln loss of each pilot, shape (draw, pilot).

    Returns:
        The value; `evsi` is zero if no outcome of the pilots would change the decision.
    """
    guess = index(target, pilots)
    now = float(gain.mean() > 0)
    rule = np.empty(len(gain))
    # Neighbouring joint draws share a posterior draw, so the halves consist of blocks, not of every other joint draw.
    # Each half is two separate quarters, so that both have as many joint draws of each component of a mixture.
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
    # Beyond the outermost groups the spline would continue with its last slope.
    return lambda at: spline((np.asarray(at) - low) / width)
