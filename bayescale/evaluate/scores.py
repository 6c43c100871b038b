"""Scores of forecasts that are equal mixtures of normals on the log scale.

Outcomes `y` have shape (point,). `location` and `scale` have shape (draw, point), one normal for each posterior draw,
as in `Forecast`. Proper scoring rules follow Gneiting and Raftery (gneiting2007scoring).
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp, ndtr

from bayescale.forecast import SMALLEST_SCALE, mixture_cdf

PANELS = 32
"""Number of intervals of equal probability on which F(1 - F) is integrated by Gauss-Legendre quadrature."""
TAIL = 16
"""Number of further intervals in each tail, where single draws are far apart."""
NODES, WEIGHTS = np.polynomial.legendre.leggauss(4)
OFFSETS = np.linspace(-7.0, 7.0, 29)
"""Possible ends of intervals around each component, in its standard deviations."""


def pit(y: np.ndarray, location: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return the probability integral transform: the forecast probability below each outcome.

    Args:
        y: Outcomes, shape (point,).
        location: Component means, shape (draw, point).
        scale: Component standard deviations, shape (draw, point).

    Returns:
        Shape (point,).
    """
    return mixture_cdf(np.asarray(y, float), location, scale)


def crps_of_draws(y: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Return the continuous ranked probability score of equally likely draws, shape (point,); smaller is better.

    Args:
        y: Outcomes, shape (point,).
        draws: Draws, shape (draw, point).
    """
    count = len(draws)
    gini = (2.0 * (2.0 * np.arange(1, count + 1) - count - 1.0) @ np.sort(draws, axis=0)) / count**2
    return np.abs(draws - y).mean(0) - 0.5 * gini


def crps(y: np.ndarray, location: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return the continuous ranked probability score (CRPS), E|X - y| - E|X - X'| / 2; smaller is better.

    The first term is exact. The second is the integral of F(1 - F), where F is the distribution function. It is
    computed by quadrature on intervals that follow the components, at a cost linear in the number of draws.

    Args:
        y: Outcomes, shape (point,).
        location: Component means, shape (draw, point).
        scale: Component standard deviations, shape (draw, point).

    Returns:
        Shape (point,), in log units.
    """
    y = np.asarray(y, float)
    rest = y - location
    with np.errstate(divide="ignore", invalid="ignore"):
        score = np.where(scale > 0, rest / scale, 0.0)
    bell = np.exp(-0.5 * score**2) / np.sqrt(2.0 * np.pi)
    spread = 2.0 * scale * bell + rest * (2.0 * ndtr(score) - 1.0)
    distance = np.where(scale > 0, spread, np.abs(rest)).mean(0)
    inner = [half_gini(location[:, i], scale[:, i]) for i in range(location.shape[1])]
    return distance - np.array(inner, float)


def half_gini(location: np.ndarray, scale: np.ndarray) -> float:
    """Return half the mean absolute difference of two draws from a mixture with components of shape (draw,)."""
    proposed = np.sort((location[:, None] + scale[:, None] * OFFSETS).ravel())
    last = len(proposed) - 1
    tail = np.geomspace(1, last, TAIL)
    ranks = np.concatenate([np.linspace(0, last, PANELS + 1), tail, last - tail])
    edges = proposed[np.unique(np.round(ranks).astype(int))]
    half = 0.5 * np.diff(edges)
    x = edges[:-1, None] + half[:, None] * (1.0 + NODES)
    below = mixture_cdf(x.reshape(-1, 1), location[:, None], scale[:, None]).reshape(x.shape)
    return float((half[:, None] * WEIGHTS * below * (1.0 - below)).sum())


def log_score(y: np.ndarray, location: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return the log density of the mixture at each outcome; larger is better.

    Args:
        y: Outcomes, shape (point,).
        location: Component means, shape (draw, point).
        scale: Component standard deviations, shape (draw, point).

    Returns:
        Shape (point,); the density is that of the log response.
    """
    safe = np.maximum(scale, SMALLEST_SCALE)
    terms = -0.5 * ((np.asarray(y, float) - location) / safe) ** 2 - np.log(safe)
    return logsumexp(terms, axis=0) - np.log(len(location)) - 0.5 * np.log(2.0 * np.pi)


def interval_score(y: np.ndarray, low: np.ndarray, high: np.ndarray, level: float) -> np.ndarray:
    """Return the width of a central interval plus 2 / (1 - level) times the distance of the outcome from it.

    Args:
        y: Outcomes.
        low: Lower ends, on the scale of the outcomes.
        high: Upper ends.
        level: Central probability of the interval, in (0, 1).

    Returns:
        One score for each outcome; smaller is better.
    """
    y, low, high = (np.asarray(values, float) for values in (y, low, high))
    outside = np.maximum(low - y, 0.0) + np.maximum(y - high, 0.0)
    return (high - low) + 2.0 / (1.0 - level) * outside


def covered(y: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return which outcomes lie in their interval, ends included."""
    y = np.asarray(y, float)
    return (np.asarray(low) <= y) & (y <= np.asarray(high))
