"""Variants: the ratio of two recipes' losses with other numbers in its priors, scored by quadrature.

Given the drift's amplitude and the standard deviation of the noise, everything else about a ratio (its level, tilts
and drift) is normal. Two integrals by sums take milliseconds where a fit takes a second, so a grid of variants can be
scored on every pair, and the numbers for a source be chosen on the other sources alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtr

from bayescale.decide import paired
from bayescale.drift import Drift, kernel
from bayescale.noise import SMALLEST_SCATTER, Noise
from bayescale.priors import Level

NODES = 17
"""Nodes of the drift's amplitude, normal scores from -REACH to REACH."""
REACH = 2.6
FINE = 61
"""Nodes of the scatter and of the seed noise, which are gathered into BINS of their sum."""
BINS = 24


class Variant(NamedTuple):
    """Numbers of the ratio's priors, named as in `bayescale.decide.paired`."""

    drift: float
    tilt: float
    spread: float
    scatter: float

    @property
    def text(self) -> str:
        """The numbers by name."""
        return f"drift {self.drift:g}, spread {self.spread:g}, tilt {self.tilt:g}, scatter {self.scatter:g}"


GRID = tuple(
    Variant(*numbers)
    for numbers in itertools.product((0.1, 0.05, 0.025, 0.0125), (0.02, 0.01, 0.005), (0.8, 1.2), (0.002, 0.001))
)
SHIPPED = Variant(paired.DRIFT, paired.TILT, paired.SPREAD, paired.SCATTER)


class Moments(NamedTuple):
    """Covariances of the curve at old and new points: old by old, new by old, and the diagonal of new by new."""

    old: np.ndarray
    cross: np.ndarray
    new: np.ndarray


def chances(table: pd.DataFrame, inputs: Sequence[str], held: pd.DataFrame) -> np.ndarray:
    """Probability under each of `GRID` that one run of the first recipe is below one of the second.

    Args:
        table: What `paired.common_runs` returns.
        inputs: Inputs that vary.
        held: Scales in question.

    Returns:
        Shape (variant, held).
    """
    y = np.log(table["loss"].to_numpy(float))
    x, new = (np.log(rows[list(inputs)].to_numpy(float)) for rows in (table, held))
    old, new = (x - x.min(0)) / np.ptp(x, axis=0), (new - x.min(0)) / np.ptp(x, axis=0)
    memory = Drift().memory
    drift = Moments(kernel(old, old, memory), kernel(new, old, memory), np.diag(kernel(new, new, memory)))
    slopes = linear(old - old.mean(0), new - old.mean(0))
    root = float(np.sqrt(paired.net_fall(table, inputs)))
    return np.array([chance(y - y.mean(), y.mean(), drift, slopes, root, variant) for variant in GRID])


def linear(old: np.ndarray, new: np.ndarray) -> Moments:
    """Moments of tilts with unit variance."""
    return Moments(old @ old.T, new @ old.T, (new**2).sum(1))


def chance(y: np.ndarray, middle: float, drift: Moments, slopes: Moments, root: float, variant: Variant) -> np.ndarray:
    """Probability that ln ratio + `middle` is negative at new points under one variant, shape (held,)."""
    score = np.linspace(-REACH, REACH, NODES)
    amplitude = variant.drift * root * np.exp(variant.spread * score)
    noise, weight = noise_nodes(variant.scatter)
    square, level = (amplitude**2)[:, None, None, None], Level().sd ** 2
    law = Moments(*(level + (variant.tilt * root) ** 2 * part for part in slopes))
    extra = (noise**2)[None, :, None, None] * np.eye(len(y))
    shape = (len(amplitude), len(noise), len(drift.new), len(y))
    whole = Moments(
        square * drift.old + law.old + extra,
        np.broadcast_to(square * drift.cross + law.cross, shape),
        square[..., 0] * drift.new + law.new,
    )
    location, variance = conditional(y, whole)
    own = Moments(square * drift.old + extra, np.broadcast_to(square * drift.cross, shape), square[..., 0] * drift.new)
    # Only the drift's own variance, the law given, is changed by the factors ahead.
    part = np.minimum(conditional(y, own)[1], variance)
    factors = Drift(ahead=paired.AHEAD).factors(9, 1) ** 2
    scale = np.sqrt((variance - part)[..., None] + part[..., None] * factors + (noise**2)[None, :, None, None])
    density = log_density(y, whole.old) + np.log(weight) - 0.5 * score[:, None] ** 2
    posterior = np.exp(density - density.max())
    posterior /= posterior.sum()
    below = ndtr(-(location + middle)[..., None] / scale).mean(-1)
    return (posterior[..., None] * below).sum((0, 1))


def conditional(y: np.ndarray, moments: Moments) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance at new points, shape (amplitude, noise, held) each."""
    gain = moments.cross @ np.linalg.inv(moments.old)
    return gain @ y, np.maximum(moments.new - (gain * moments.cross).sum(-1), 0.0)


def log_density(y: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Log density of the data up to a constant, shape (amplitude, noise)."""
    return -0.5 * (((np.linalg.inv(covariance) @ y) * y).sum(-1) + np.linalg.slogdet(covariance)[1])


def noise_nodes(scatter: float) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations of scatter and seed noise together, and their prior weights."""
    noise, score = Noise(scatter=scatter, seed=paired.SEED), np.linspace(-3.0, 3.0, FINE)
    weight = np.exp(-0.5 * np.add.outer(score**2, score**2)).ravel()
    squares = np.add.outer(
        (noise.scatter * np.exp(noise.scatter_sd * score)) ** 2,
        (paired.SEED * np.exp(noise.seed_sd * score)) ** 2 + SMALLEST_SCATTER**2,
    ).ravel()
    total = 0.5 * np.log(squares)
    number = np.digitize(total, np.linspace(total.min(), total.max() + 1e-9, BINS + 1)) - 1
    mass = np.bincount(number, weight, BINS)
    kept = mass > 1e-9 * mass.sum()
    mean = np.bincount(number, weight * total, BINS)[kept] / mass[kept]
    return np.exp(mean), mass[kept] / mass[kept].sum()
