"""Variants: the ratio of two recipes' losses with other numbers in its priors, scored by quadrature.

Given the discrepancy's amplitude and the standard deviation of the noise, everything else about a ratio (its level,
tilts and discrepancy) is normal. Two integrals by sums are quick, so a grid of variants can be scored on every pair,
and the numbers for a source be chosen on the other sources alone.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtr

from bayescale.data.design import SHORTEST_SPAN
from bayescale.decide import paired
from bayescale.laws.priors import Level
from bayescale.model.discrepancy import Discrepancy, kernel
from bayescale.model.likelihood import Likelihood

AMPLITUDES = np.exp(np.linspace(-8.0, 2.0, 41))
"""Nodes of the discrepancy's amplitude at a fall of 1."""
NOISES = np.exp(np.linspace(-11.0, -1.0, 41))
"""Nodes of the standard deviation of scatter and seed noise together."""
REACH, FINE = 6.0, 241
"""Normal scores of either part of the noise, and how many."""


class Variant(NamedTuple):
    """Numbers of the ratio's priors, named as in `bayescale.decide.paired`."""

    discrepancy: float
    tilt: float
    spread: float
    scatter: float

    @property
    def text(self) -> str:
        """The numbers by name."""
        return f"discrepancy {self.discrepancy:g}, spread {self.spread:g}, tilt {self.tilt:g}, scatter {self.scatter:g}"


GRID = tuple(
    Variant(*numbers)
    for numbers in itertools.product(
        (0.1, 0.05, 0.025, 0.0125, 0.00625), (0.02, 0.01, 0.005), (0.8, 1.2, 1.6, 2.0), (0.002, 0.001)
    )
)
"""From the most cautious to the least."""
SHIPPED = Variant(paired.DISCREPANCY, paired.TILT, paired.SPREAD, paired.SCATTER)


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
    span = np.maximum(np.ptp(x, axis=0), SHORTEST_SPAN)
    old, new = (x - x.min(0)) / span, (new - x.min(0)) / span
    path = Discrepancy(interaction=0.0)
    discrepancy = Moments(kernel(old, old, path), kernel(new, old, path), np.diag(kernel(new, new, path)))
    slopes = linear(old - old.mean(0), new - old.mean(0))
    root = float(np.sqrt(paired.net_fall(table, inputs)))
    tilts = {variant.tilt for variant in GRID}
    tables = {tilt: tabulated(y - y.mean(), y.mean(), discrepancy, slopes, root, tilt) for tilt in tilts}
    return np.array([mixed(*tables[variant.tilt], variant) for variant in GRID])


def linear(old: np.ndarray, new: np.ndarray) -> Moments:
    """Moments of tilts with unit variance."""
    return Moments(old @ old.T, new @ old.T, (new**2).sum(1))


def tabulated(
    y: np.ndarray, middle: float, discrepancy: Moments, slopes: Moments, root: float, tilt: float
) -> tuple[np.ndarray, np.ndarray]:
    """Log density at every node, shape (amplitude, noise), and the chance that ln ratio + `middle` is negative.

    The second has shape (amplitude, noise, held).
    """
    square = ((root * AMPLITUDES) ** 2)[:, None, None, None]
    law = Moments(*(Level().sd ** 2 + (tilt * root) ** 2 * part for part in slopes))
    extra = (NOISES**2)[None, :, None, None]
    own = Moments(*(square * part for part in discrepancy[:2]), square[..., 0] * discrepancy.new)
    whole = Moments(own.old + law.old, own.cross + law.cross, own.new + law.new)
    location, variance, density = conditional(y, whole, extra)
    # Only the discrepancy's own variance, the law given, is changed by the factors ahead.
    part = np.minimum(conditional(y, own, extra)[1], variance)
    factors = Discrepancy(ahead=paired.AHEAD, ahead_median=1.0, ahead_power=0.0).factors(9, 1) ** 2
    scale = np.sqrt((variance - part)[..., None] + part[..., None] * factors + extra)
    return density, ndtr(-(location + middle)[..., None] / scale).mean(-1)


def conditional(y: np.ndarray, moments: Moments, extra: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and variance of the curve at new points, shape (amplitude, noise, held), and the log density of the data."""
    covariance = moments.old + extra * np.eye(len(y))
    inverse = np.linalg.inv(covariance)
    gain = moments.cross @ inverse
    variance = np.maximum(moments.new - (gain * moments.cross).sum(-1), 0.0)
    density = -0.5 * ((inverse @ y) @ y + np.linalg.slogdet(covariance)[1])
    return gain @ y, variance, density


def mixed(density: np.ndarray, below: np.ndarray, variant: Variant) -> np.ndarray:
    """Average the nodes by their posterior under one variant, shape (held,)."""
    score = np.log(AMPLITUDES / variant.discrepancy) / variant.spread
    with np.errstate(divide="ignore"):
        weight = density - 0.5 * score[:, None] ** 2 + np.log(noise_prior(variant.scatter))
    weight = np.exp(weight - weight.max())
    return np.einsum("as,ash->h", weight / weight.sum(), below)


@functools.cache
def noise_prior(scatter: float) -> np.ndarray:
    """Prior probability of each node of the noise."""
    noise = Likelihood(residual_sd=scatter, residual_spread=1.0, seed_sd=paired.SEED)
    score = np.linspace(-REACH, REACH, FINE)
    squares = np.add.outer(
        (noise.residual_sd * np.exp(noise.residual_spread * score)) ** 2,
        (paired.SEED * np.exp(noise.seed_spread * score)) ** 2,
    )
    weight = np.exp(-0.5 * np.add.outer(score**2, score**2))
    middles = 0.5 * np.log(NOISES[1:] * NOISES[:-1])
    mass = np.bincount(np.digitize(0.5 * np.log(squares.ravel()), middles), weight.ravel(), len(NOISES))
    return mass / mass.sum()
