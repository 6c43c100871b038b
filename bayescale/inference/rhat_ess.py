"""Convergence: rank-normalised split R-hat and effective sample sizes, of all parameters at once (vehtari2021rhat).

The numbers are ArviZ's, up to rounding. ArviZ processes one parameter at a time and holds Python's lock meanwhile. That
took a tenth of the CPU time of a fit, during which no other thread ran. On an accelerator it took five times as long as
sampling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import ndtri

if TYPE_CHECKING:
    from jaxtyping import Float

FEWEST = 4
"""Smallest number of draws of a chain from which measures are computed."""
TAILS = (0.05, 0.95)
"""Probabilities of the two quantiles whose estimates determine the tail effective sample size."""


class Measures(NamedTuple):
    """Convergence of chains, each field of shape (coordinate,), one value for each parameter."""

    rhat: Float[np.ndarray, "coordinate"]
    """Rank-normalised split R-hat, the larger of those of ranks and of folded ranks; NaN for a single chain."""
    ess_bulk: Float[np.ndarray, "coordinate"]
    """Effective sample size of the ranks' normal scores."""
    ess_tail: Float[np.ndarray, "coordinate"]
    """Effective sample size of the 5 or the 95 % quantile, whichever is smaller."""


def measure(draws: Float[np.ndarray, "chain draw coordinate"]) -> Measures:
    """Measure convergence of draws of shape (chain, draw, coordinate); NaN for fewer than four draws of a chain."""
    if draws.shape[1] < FEWEST:
        return Measures(*np.full((3, draws.shape[2]), np.nan))
    halves = split(draws)
    scores = normal_scores(halves)
    ratio = ranked_rhat(halves, scores) if len(draws) > 1 else np.full(draws.shape[2], np.nan)
    tails = [split(draws <= edge).astype(float) for edge in np.quantile(draws, TAILS, axis=(0, 1))]
    return Measures(ratio, effective(scores), np.minimum(*map(effective, tails)))


def rhat(draws: Float[np.ndarray, "chain draw quantity"]) -> Float[np.ndarray, "quantity"]:
    """Return R-hat alone, see `Measures`, of draws of shape (chain, draw, quantity).

    NaN where it cannot be computed.
    """
    if draws.shape[1] < FEWEST or len(draws) < 2:
        return np.full(draws.shape[2], np.nan)
    halves = split(draws)
    return ranked_rhat(halves, normal_scores(halves))


def ranked_rhat(halves: np.ndarray, scores: np.ndarray) -> Float[np.ndarray, "quantity"]:
    """Return the larger of the R-hats of the ranks' normal scores and of folded ranks, shape (quantity,)."""
    folded = normal_scores(abs(halves - np.median(halves, axis=(0, 1))))
    return np.maximum(split_ratio(scores), split_ratio(folded))


def fraction(energy: Float[np.ndarray, "chain draw"]) -> Float[np.ndarray, "chain"]:
    """Return the energy fraction of missing information of each chain, from energies (chain, draw)."""
    return (np.diff(energy, axis=1) ** 2).mean(1) / energy.var(1, ddof=1)


# --- Parts ---------------------------------------------------------------------------------------------------


def split(draws: Float[np.ndarray, "chain draw *quantity"]) -> np.ndarray:
    """Split all chains into halves; for an odd number of draws, the middle draw is left out."""
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, -half:]])


def normal_scores(draws: np.ndarray) -> np.ndarray:
    """Return normal quantiles of the ranks among all chains, by parameter (Blom's formula).

    Equal draws share a rank.
    """
    flat = draws.reshape(-1, draws.shape[2])
    order = np.argsort(flat, axis=0)
    ordered = np.take_along_axis(flat, order, axis=0)
    # The rank is the mean of the number of draws below and the number of draws below or equal, plus a half.
    sides = [[np.searchsorted(column, column, side) for column in ordered.T] for side in ("left", "right")]
    scores = np.empty(flat.shape)
    np.put_along_axis(scores, order, ndtri((0.5 * np.sum(sides, axis=0).T + 0.125) / (len(flat) + 0.25)), axis=0)
    return scores.reshape(draws.shape)


def split_ratio(draws: np.ndarray) -> np.ndarray:
    """Return R-hat of chains without splitting or ranking them (equations 1 to 4)."""
    number = draws.shape[1]
    between = draws.mean(1).var(0, ddof=1)
    within = draws.var(1, ddof=1).mean(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(between / within + (number - 1.0) / number)


def effective(draws: np.ndarray) -> np.ndarray:
    """Return the effective sample size of the mean, by Geyer's initial monotone sequence of autocorrelations."""
    chains, number, _ = draws.shape
    covariance = autocovariance(draws).mean(0)
    within = covariance[0] * number / (number - 1.0)
    whole = covariance[0] + (draws.mean(1).var(0, ddof=1) if chains > 1 else 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = 1.0 - (within - covariance) / whole
    correlation[0] = 1.0
    last = max((number - 3) // 2, 0)
    pairs = correlation[: 2 * last + 2].reshape(last + 1, 2, -1).sum(1)
    # Pairs count up to the first one that is not positive; of that pair only the even lag may count.
    stop = np.where((pairs <= 0.0).any(0), (pairs <= 0.0).argmax(0), last)
    counted = np.arange(last + 1)[:, None] < stop
    tables = correlation[: 2 * last + 2 : 2], pairs
    even, pair = (np.take_along_axis(table, stop[None], 0)[0] for table in tables)
    rest = np.where((even > 0.0) | (pair >= 0.0), even, 0.0)
    time = 2.0 * (np.minimum.accumulate(pairs) * counted).sum(0) - 1.0 + rest
    total = chains * number
    # If chains alternate so strongly that the sum is almost negative, the bound of ArviZ and Stan is used.
    found = total / np.maximum(time, 1.0 / np.log10(total))
    return np.where(np.ptp(draws, axis=(0, 1)) < np.finfo(float).resolution, total, found)


def autocovariance(draws: np.ndarray) -> Float[np.ndarray, "chain lag coordinate"]:
    """Return the autocovariance of each chain at each lag, shape (chain, lag, coordinate)."""
    number = draws.shape[1]
    size = next_fast_len(2 * number, real=True)
    wave = rfft(draws - draws.mean(1, keepdims=True), size, axis=1)
    return irfft(wave * np.conjugate(wave), size, axis=1)[:, :number] / number
