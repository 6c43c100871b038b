"""Outliers: runs whose loss lies far above the prediction of a smooth fit to the other runs.

The fit is a Gaussian process over the logarithms of the inputs with a linear trend. Its hyperparameters are averaged
over a small grid, so that few rows give wide bounds. The test is one-sided, because a failed run can only lie above the
others; the residuals below the fit show how much normal runs of the same table scatter. Rows of curves of one input are
also compared with adjacent rows (`bayescale.data.neighbours`). The constants below were chosen with failures planted in
published families; `python -m benchmarks screening` reports how many of these are found.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.ndimage import median_filter
from scipy.optimize import linprog
from scipy.special import logsumexp

from bayescale.data.neighbours import AFTER, clear_of_neighbours, distances

LARGEST = 100
"""Largest number of rows of one Gaussian process; more rows are divided among several, each over the whole range."""
DENSE, WINDOW, DENSE_THRESHOLD = 300, 21, 8.0
"""Curves with more rows than this are compared with a running median of so many rows, with this threshold in sds."""
SAME_LINE = 0.01
"""An input is dropped if it is a linear function of the others up to this fraction of its range."""
FEW = 5
"""Tables with at most this many rows are searched for gross failures only."""
GROSS = 0.15
"""Smallest excess of ln(loss) over the fit that counts as a gross failure."""
PLAIN = 0.3
"""In such small tables a row is also reported if its ln(loss) exceeds that of a smaller run and of all larger runs by
this."""
SUSPECT = 2.0
"""A row is tried as an outlier if it lies this many standard deviations above the prediction."""
LEAST = 0.012
"""Smallest excess of ln(loss) that is reported: smaller ones affect a fit little and are common among normal runs."""
THRESHOLD = 5.0
"""A run is reported if it lies this many standard deviations (noise included) above the prediction."""
ENOUGH = 12
"""Number of rows from which on the noise may differ within the table."""
NEIGHBOURS, PSEUDO = 11, 3.0
"""Number of nearest rows that determine the noise near a row, and the weight of the whole table in it, in rows."""
ASYMMETRY = 1.2
"""A reported run lies above the fit by more than this factor times the largest distance of a normal run below it."""
RISE, HALF_SURE = 6.0, 2.0
"""A run is also reported if it lies this many noise sds above a smaller run, and this many sds above the prediction."""
CURVE = 8
"""Curves of one input with at least this many rows, all at different inputs, are also compared with adjacent rows."""
BOTH, BESIDE = 3.0, 3.5
"""There the geometric mean of both scores must exceed the first value, and the score from neighbours the second,"""
ALONE = 8.0
"""or the score from neighbours must exceed this value;"""
LAST = 2.5
"""for the last row the geometric mean of both scores must exceed this value;"""
RISING = 5.0
"""and where the response rises, the geometric mean of both scores must exceed this value."""
EDGE = 3
"""Runs with fewer smaller runs than this are reported only if they lie"""
EDGE_RISE, EDGE_EXCESS = 4.5, 0.4
"""this many noise standard deviations above a smaller run, or this far above the fit in ln(loss)."""
SUDDEN = 4.0
"""A decrease of ln(loss) this many times the next one is due to a failed row, not to the start of a curve."""
SHARE = 0.03
"""Prior probability that a run failed,"""
WIDTH = 2.0
"""and range of ln(loss) over which failed runs are spread."""
MOST = 0.45
"""Largest fraction of the rows of a table that can be outliers."""
DEPARTURES = (0.02, 0.08, 0.3, 1.0)
"""Grid of hyperparameters: standard deviations of the smooth departure from the trend, in ln(loss),"""
LENGTHS = (0.15, 0.4, 1.0)
"""its length scales, as fractions of the range of each input,"""
NOISES = (0.0007, 0.002, 0.005, 0.012, 0.03, 0.08, 0.2)
"""and standard deviations of the noise of ln(loss)."""
TYPICAL_NOISE, NOISE_SPREAD = 0.006, 1.5
"""Prior of the noise: its median and the sd of its logarithm. Most seed sds lie between .1 % and 3 %."""
SLOPE = 1.5
"""Prior standard deviation of the change of ln(loss) over the range of an input."""


@dataclasses.dataclass(frozen=True)
class Outliers:
    """Rows that lie far above the fit to the others.

    Attributes:
        named: Whether a row is an outlier, shape (row,).
        expected: ln(loss) predicted from the other rows, shape (row,).
        sd: Standard deviation of that prediction, including the noise of one run, shape (row,).
    """

    named: np.ndarray
    expected: np.ndarray
    sd: np.ndarray


def find_outliers(x: np.ndarray, y: np.ndarray, *, rising: bool = False) -> Outliers:
    """Return the rows that lie far above a smooth fit to the others.

    Args:
        x: ln of the inputs, shape (row, input).
        y: ln(loss), shape (row,).
        rising: Whether the response increases with scale, as a score does. A high value may then be a real gain, so
            only rows of a curve are reported, and only if they lie above the adjacent rows and above every larger run.
    """
    rows = len(y)
    result = Outliers(np.zeros(rows, bool), y.copy(), np.full(rows, np.inf))
    spread = np.ptp(x, axis=0) if rows else np.zeros(x.shape[1])
    z = _independent((x - x.mean(0))[:, spread > 1e-9] / spread[spread > 1e-9])
    curve = z.shape[1] == 1 and len(np.unique(z)) == rows
    if rows < 3 or (rising and (rows > DENSE or not curve)):
        return result
    if rows > DENSE and z.shape[1] == 1:
        return _beside_neighbours(z[:, 0], y)
    parts = -(-rows // LARGEST)
    order = np.lexsort((y, z.sum(1)))
    for part in range(parts):
        own = np.sort(order[part::parts])
        found = _one_part(z[own], y[own], rising)
        for field in ("named", "expected", "sd"):
            getattr(result, field)[own] = getattr(found, field)
    return result


def _independent(z: np.ndarray) -> np.ndarray:
    """Return the inputs without those that are linear functions of earlier ones, as tokens are on a ray."""
    kept = z[:, :0]
    for column in z.T:
        known = np.column_stack([np.ones(len(z)), kept])
        rest = column - known @ np.linalg.lstsq(known, column, rcond=None)[0]
        if np.abs(rest).max(initial=0.0) > SAME_LINE:
            kept = np.column_stack([kept, column])
    return kept


def _beside_neighbours(z: np.ndarray, y: np.ndarray) -> Outliers:
    """Compare each row of a dense curve with the running median of its neighbours instead of a fit."""
    order = np.argsort(z, kind="stable")
    middle = median_filter(y[order], WINDOW, mode="reflect")
    rest = y[order] - middle
    noise = 1.4826 * median_filter(np.abs(rest), 5 * WINDOW, mode="reflect")
    noise = np.maximum(noise, 0.3 * 1.4826 * np.median(np.abs(rest)))
    expected, sd = np.empty(len(y)), np.empty(len(y))
    expected[order], sd[order] = middle, noise + 1e-12
    excess = y - expected
    # Near both ends the curve continues beyond the running median.
    inner = np.zeros(len(y), bool)
    inner[order[WINDOW // 2 : -(WINDOW // 2)]] = True
    named = (excess > DENSE_THRESHOLD * sd) & (excess > LEAST) & (inner | (excess > EDGE_EXCESS))
    return Outliers(named & ~_hump(z, excess, named), expected, sd)


@dataclasses.dataclass(frozen=True)
class _Fit:
    """Prediction of each row from the other rows that are not outliers, and the log probability of the table."""

    out: np.ndarray
    probability: float
    mean: np.ndarray
    sd: np.ndarray
    noise: np.ndarray


def _one_part(z: np.ndarray, y: np.ndarray, rising: bool) -> Outliers:
    """Return the outliers among rows that are described by one Gaussian process."""
    kernels = _kernels(z)
    starts = [np.zeros(len(y), bool), _above_lower_fit(z, y, 1), _above_lower_fit(z, y, 2)]
    fit = _most_probable(kernels, y, starts, np.ones(len(y)))
    if len(y) >= ENOUGH:
        relative = _local_noise(z, (y - fit.mean) / fit.sd, fit.out)
        fit = _most_probable(kernels, y, [fit.out], relative)
    out, mean, sd, noise = fit.out, fit.mean, fit.sd, fit.noise
    excess = y - mean
    least = GROSS if len(y) <= FEW else LEAST
    score = excess / sd
    smaller, lowest = _smaller_runs(z, np.where(out, np.inf, y))
    rise = (y - lowest) / (np.sqrt(2.0) * noise)
    named = (out & (score > THRESHOLD)) | ((rise > RISE) & (score > HALF_SURE))
    # Residuals below the fit show how much normal runs of this table scatter; gross excesses are reported anyway.
    stray = ASYMMETRY * np.max(-score[~out], initial=0.0)
    named &= (excess > least) & ((score > stray) | (excess > EDGE_EXCESS))
    # At the smallest scales normal curves often leave the trend, so only a loss above that of a smaller run is a
    # failure.
    named &= (smaller >= EDGE) | (rise > EDGE_RISE) | (excess > EDGE_EXCESS)
    curve = z.shape[1] == 1 and len(y) >= CURVE and len(np.unique(z)) == len(y)
    if rising:
        named = _above_rise(z[:, 0], y, fit) if curve else np.zeros(len(y), bool)
    elif curve:
        named = _on_curve(z[:, 0], y, fit, named)
    if len(y) <= FEW:
        larger = np.array([y[(z >= row - 1e-9).all(1) & (z > row + 1e-9).any(1)].max(initial=-np.inf) for row in z])
        named |= (y > _smaller_runs(z, y)[1] + PLAIN) & (y > larger + PLAIN)
    if z.shape[1] == 1 and len(y) >= ENOUGH:
        named &= ~_hump(z[:, 0], excess, named)
    return Outliers(named, mean, sd)


@dataclasses.dataclass(frozen=True)
class _Scores:
    """Scores of how far the rows of a curve lie above the fit and above adjacent rows; 0 for rows below.

    Attributes:
        fit: Distance from the fit, in standard deviations of its prediction.
        height: Distance from the line between adjacent rows; NaN where a row is not between others.
        beside: `height` relative to that of nearby rows; NaN where it cannot be computed.
        both: Geometric mean of `fit` and `beside`.
        aside: Rows that were not used to judge others.
    """

    fit: np.ndarray
    height: np.ndarray
    beside: np.ndarray
    both: np.ndarray
    aside: np.ndarray


def _scores(z: np.ndarray, y: np.ndarray, fit: _Fit) -> _Scores:
    """Return the scores of how far rows of a curve lie above the fit and above adjacent rows."""
    aside = clear_of_neighbours(z, y, fit.out)
    height, beside = (np.maximum(part, 0.0) for part in distances(z, y, aside))
    score = np.maximum((y - fit.mean) / fit.sd, 0.0)
    return _Scores(score, height, beside, np.sqrt(score * beside), aside)


def _on_curve(z: np.ndarray, y: np.ndarray, fit: _Fit, named: np.ndarray) -> np.ndarray:
    """Return which rows of a curve are outliers, judged by the fit and by adjacent rows.

    Where a curve bends sharply in one place, the fit is uncertain everywhere and adjacent rows are more informative;
    where it bends evenly, the fit is. A row between others is therefore judged by both. The first row is judged by the
    fit alone, because no adjacent rows show how steeply the curve starts. The last row is also judged by the line
    through the rows before it.

    Args:
        z: The input, shape (row,).
        y: ln(loss), shape (row,).
        fit: Predictions of the fit.
        named: Outliers by the fit alone, kept where adjacent rows give no score.
    """
    scores, order = _scores(z, y, fit), np.argsort(z)
    first, last = order[0], order[-1]
    between = (scores.both > BOTH) & (scores.beside > BESIDE) | (scores.beside > ALONE)
    named = np.where(np.isnan(scores.beside), named, between & (scores.height > LEAST / np.sqrt(1.5)))
    named[first] |= scores.fit[first] > THRESHOLD
    after = max(float(np.nan_to_num(distances(z, y, scores.aside, AFTER)[1][last])), 0.0)
    above_smaller = y[last] > np.where(fit.out, np.inf, y)[order[:-1]].min() + LEAST
    named[last] |= above_smaller and np.sqrt(scores.fit[last] * after) > LAST
    return named & (y - fit.mean > LEAST) & ~_steep_start(y, order, named)


def _above_rise(z: np.ndarray, y: np.ndarray, fit: _Fit) -> np.ndarray:
    """Return which rows of a rising curve lie above adjacent rows and above all normal rows at larger inputs."""
    scores, order = _scores(z, y, fit), np.argsort(z)
    larger = np.full(len(y), np.inf)
    larger[order[:-1]] = np.maximum.accumulate(np.where(fit.out, -np.inf, y)[order][:0:-1])[::-1]
    return (scores.both > RISING) & (scores.beside > BESIDE) & (y > larger + LEAST) & (y - fit.mean > LEAST)


def _steep_start(y: np.ndarray, order: np.ndarray, named: np.ndarray) -> np.ndarray:
    """Return the first rows of a curve if two or more are reported and each lies below the one before: a steep start.

    A row followed by a decrease many times the next one is excluded from such a start, and stays reported.
    """
    steep = np.zeros(len(y), bool)
    length = int(np.argmin(np.append(named[order], False)))
    falls = -np.diff(y[order[: length + 1]])
    if length >= 2 and (falls[:-1] > 0.0).all():
        sudden = np.flatnonzero(falls[:-1] > SUDDEN * np.maximum(falls[1:], 0.0))
        steep[order[sudden.max(initial=-1) + 1 : length]] = True
    return steep


def _most_probable(kernels: np.ndarray, y: np.ndarray, starts: list[np.ndarray], relative: np.ndarray) -> _Fit:
    """Return the best of several fits; in each the set of outliers is updated until it agrees with its own fit.

    Args:
        kernels: Covariances for all hyperparameters, see `_kernels`.
        y: ln(loss), shape (row,).
        starts: Initial sets of outliers, shape (row,) each.
        relative: Noise of each row relative to the table, shape (row,).
    """
    fits: dict[bytes, _Fit] = {}
    most = max(1, int(MOST * len(y)))
    for out in starts:
        for _ in range(8):
            if out.tobytes() in fits or out.sum() > most:
                break
            fits[out.tobytes()] = fit = _predictions(kernels, y, out, relative)
            excess = y - fit.mean
            out = (excess > THRESHOLD * fit.sd) & (excess > LEAST)
            if out.sum() > most:
                out = out & (excess >= np.sort(excess)[-most])
    best = max(fits.values(), key=lambda fit: fit.probability)
    # A failure inflates the noise against which it is judged. The worst rows are therefore removed one by one, as long
    # as that makes the table more probable.
    while best.out.sum() < most:
        score = np.where(best.out, -np.inf, (y - best.mean) / best.sd)
        worst = best.out | (np.arange(len(y)) == score.argmax())
        if score.max() < SUSPECT or worst.tobytes() in fits:
            break
        fits[worst.tobytes()] = fit = _predictions(kernels, y, worst, relative)
        if fit.probability <= best.probability:
            break
        best = fit
    return best


def _smaller_runs(z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count the runs that are smaller in at least one input and larger in none, and return the lowest y among them."""
    below = (z[None, :, :] <= z[:, None, :] + 1e-9).all(2) & (z[None, :, :] < z[:, None, :] - 1e-9).any(2)
    return (below & np.isfinite(y)).sum(1), np.where(below, y[None, :], np.inf).min(1)


def _local_noise(z: np.ndarray, score: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Return the noise near each row relative to the table, from scores of the nearest normal rows, shape (row,)."""
    size = np.abs(score)
    size[out] = np.nan
    distance = ((z[:, None, :] - z[None, :, :]) ** 2).sum(-1)
    nearest = np.argsort(distance, axis=1)[:, :NEIGHBOURS]
    local = np.sqrt((np.nansum(size[nearest] ** 2, axis=1) + PSEUDO) / ((~np.isnan(size[nearest])).sum(1) + PSEUDO))
    return np.clip(local / np.exp(np.mean(np.log(local))), 0.2, 5.0)


def _hump(z: np.ndarray, excess: np.ndarray, named: np.ndarray) -> np.ndarray:
    """Return the reported rows that form a smooth hump of four or more neighbours, which is not a failure."""
    order = np.argsort(z, kind="stable")
    flags = named[order]
    starts = np.flatnonzero(np.diff(np.concatenate([[False], flags]).astype(int)) == 1)
    ends = np.flatnonzero(np.diff(np.concatenate([flags, [False]]).astype(int)) == -1)
    hump = np.zeros(len(z), bool)
    for start, end in zip(starts, ends, strict=True):
        own = order[start : end + 1]
        smooth = np.abs(np.diff(excess[own])).max(initial=0.0) < 0.5 * excess[own].max()
        hump[own] = smooth and end - start >= 3
    return hump


def _above_lower_fit(z: np.ndarray, y: np.ndarray, degree: int) -> np.ndarray:
    """Return the rows far above a low quantile regression on polynomials, which failures cannot pull up."""
    basis = np.column_stack([np.ones(len(y)), *(z**power for power in range(1, degree + 1))])
    if len(y) < basis.shape[1] + 2:
        return np.zeros(len(y), bool)
    rows, terms, quantile = len(y), basis.shape[1], 0.4
    cost = np.concatenate([np.zeros(terms), np.full(rows, quantile), np.full(rows, 1.0 - quantile)])
    equal = np.hstack([basis, np.eye(rows), -np.eye(rows)])
    bounds = [(None, None)] * terms + [(0.0, None)] * (2 * rows)
    found = linprog(cost, A_eq=equal, b_eq=y, bounds=bounds, method="highs")
    if found.x is None:
        return np.zeros(len(y), bool)
    rest = y - basis @ found.x[:terms]
    typical = np.median(np.abs(rest[np.abs(rest) > 1e-12])) if (np.abs(rest) > 1e-12).any() else 0.0
    return rest > max(4.0 * typical, 0.03)


def _kernels(z: np.ndarray) -> np.ndarray:
    """Return the covariances of the mean function for all departures and length scales, shape (grid, row, row)."""
    trend = 25.0 + SLOPE**2 * (z @ z.T)
    distance = ((z[:, None, :] - z[None, :, :]) ** 2).sum(-1)
    return np.stack([trend + a**2 * np.exp(-0.5 * distance / s**2) for a in DEPARTURES for s in LENGTHS])


def _predictions(kernels: np.ndarray, y: np.ndarray, out: np.ndarray, relative: np.ndarray) -> _Fit:
    """Predict each row from the other rows that are not outliers, averaged over the grid of hyperparameters."""
    kept = np.flatnonzero(~out)
    center = y[kept].mean()
    inside = kernels[:, kept[:, None], kept[None, :]]
    number = len(kept)
    weights, means, variances = [], [], []
    for noise in NOISES:
        root = np.linalg.cholesky(inside + np.diag((noise * relative[kept]) ** 2 + 1e-9))
        inverse = np.linalg.inv(root)
        precision = np.swapaxes(inverse, 1, 2) @ inverse
        alpha = precision @ (y[kept] - center)
        log_det = 2.0 * np.log(np.diagonal(root, axis1=1, axis2=2)).sum(1)
        fit = -0.5 * (alpha @ (y[kept] - center)) - 0.5 * log_det - 0.5 * number * np.log(2.0 * np.pi)
        prior = -0.5 * (np.log(noise / TYPICAL_NOISE) / NOISE_SPREAD) ** 2
        mean, variance = np.empty((len(kernels), len(y))), np.empty((len(kernels), len(y)))
        diagonal = np.diagonal(precision, axis1=1, axis2=2)
        mean[:, kept] = y[kept] - alpha / diagonal
        variance[:, kept] = 1.0 / diagonal
        if out.any():
            cross = kernels[:, out][:, :, kept]
            mean[:, out] = center + np.einsum("kij,kj->ki", cross, alpha)
            explained = np.einsum("kij,kjl,kil->ki", cross, precision, cross)
            variance[:, out] = np.diagonal(kernels, axis1=1, axis2=2)[:, out] - explained + (noise * relative[out]) ** 2
        weights.append(fit + prior)
        means.append(mean)
        variances.append(np.maximum(variance, (noise * relative) ** 2))
    log_weight = np.concatenate(weights)
    total = float(logsumexp(log_weight))
    weight = np.exp(log_weight - total)[:, None]
    mean, variance = np.concatenate(means), np.concatenate(variances)
    average = (weight * mean).sum(0)
    spread = np.sqrt((weight * (variance + (mean - average) ** 2)).sum(0))
    score = total + out.sum() * np.log(SHARE / WIDTH) + number * np.log(1.0 - SHARE)
    levels = np.repeat(NOISES, len(kernels))
    noise = np.sqrt((weight[:, 0] * levels**2).sum()) * relative
    return _Fit(out, score, average, spread, noise)
