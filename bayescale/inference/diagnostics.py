"""Diagnostics: measures of convergence, and the only place where their thresholds are defined."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from bayescale.errors import Status
from bayescale.inference.rhat_ess import fraction, measure
from bayescale.inference.rhat_ess import rhat as rhat_of

if TYPE_CHECKING:
    from jaxtyping import Float

RHAT = 1.01
"""Chains count as disagreeing if the rank-normalised split R-hat is above this."""
EFMI = 0.2
"""Tails count as explored slowly if the energy fraction of missing information (E-FMI) is below this."""
PARETO = 0.7
"""Importance weights are unreliable if their Pareto tail index is above this (vehtari2024psis)."""


@dataclasses.dataclass(frozen=True)
class Diagnostics:
    """Convergence measures of one posterior.

    Attributes:
        rhat: Rank-normalised split R-hat of each unconstrained parameter, shape (coordinate,); NaN for importance
            sampling, which has no chains.
        ess_bulk: Bulk effective sample size, shape (coordinate,).
        ess_tail: Tail effective sample size (5 and 95 % quantiles), shape (coordinate,).
        efmi: E-FMI of each chain, shape (chain,); NaN for importance sampling.
        divergences: Number of divergent draws after warm-up.
        status: Status of the fit.
        method: Sampler of the draws: "nuts" or "importance".
        pareto_k: Tail index of the importance weights; None if importance sampling was not tried. With method "nuts" it
            shows why importance sampling was given up.
        ess_weights: Effective sample size of the importance weights; None if importance sampling was not tried.
        modes: Number of different modes that importance sampling found and drew from.
        rhat_reported: Largest R-hat of the reported quantities, such as the law's constants; NaN if not computed.
    """

    rhat: Float[np.ndarray, "coordinate"]
    ess_bulk: Float[np.ndarray, "coordinate"]
    ess_tail: Float[np.ndarray, "coordinate"]
    efmi: Float[np.ndarray, "chain"]
    divergences: int
    status: Status
    method: str = "nuts"
    pareto_k: float | None = None
    ess_weights: float | None = None
    modes: int = 1
    rhat_reported: float = math.nan

    @property
    def largest_rhat(self) -> float:
        """Largest R-hat of unconstrained parameters and of reported quantities."""
        return float(np.fmax(np.max(self.rhat), self.rhat_reported))

    @property
    def weights_text(self) -> str:
        """Describe the result of importance sampling; empty if it was not tried."""
        if self.pareto_k is None:
            return ""
        found = f"Pareto k {self.pareto_k:.2f}, effective sample size of the weights {self.ess_weights or 0.0:.0f}"
        if self.method == "importance":
            return f"Drawn by importance sampling: {found}."
        return f"Drawn by NUTS, since importance sampling was not good enough ({found})."


def diagnose(
    position: Float[np.ndarray, "chain draw coordinate"],
    diverging: np.ndarray,
    energy: Float[np.ndarray, "chain draw"],
    least_ess: float,
    reported: Float[np.ndarray, "chain draw quantity"],
) -> Diagnostics:
    """Compute the convergence measures of chains.

    Args:
        position: Draws of the unconstrained parameters, shape (chain, draw, coordinate).
        diverging: Whether each draw diverged, shape (chain, draw).
        energy: Energy of each draw, shape (chain, draw).
        least_ess: See `Nuts.least_ess`.
        reported: Draws of the reported quantities, shape (chain, draw, quantity): functions of the parameters that may
            have longer tails.
    """
    if not np.isfinite(position).all() or np.ptp(position, axis=(0, 1)).min() == 0.0:
        missing = np.full(position.shape[-1], np.nan)
        return Diagnostics(
            missing, missing, missing, np.full(len(position), np.nan), int(diverging.sum()), Status.NONFINITE
        )
    rhat, bulk, tail = measure(position)
    others = rhat_of(reported).max() if reported.size and np.isfinite(reported).all() else math.nan
    efmi = fraction(energy)
    divergences = int(diverging.sum())
    if np.fmax(rhat.max(), others) > RHAT:
        status = Status.NOT_MIXED
    elif divergences:
        status = Status.DIVERGENT
    elif min(bulk.min(), tail.min()) < least_ess:
        status = Status.FEW_DRAWS
    elif efmi.min() < EFMI:
        status = Status.LOW_ENERGY
    else:
        status = Status.OK
    return Diagnostics(rhat, bulk, tail, efmi, divergences, status, rhat_reported=float(others))


def diagnose_weights(
    position: Float[np.ndarray, "point coordinate"],
    weight: Float[np.ndarray, "point"],
    pareto_k: float,
    draws: int,
    modes: int,
    least_ess: float,
) -> Diagnostics:
    """Compute the diagnostics of weighted points.

    The effective sample size of a mean, or of a tail probability, is the variance of one independent draw divided by
    the variance of the average of `draws` equally weighted draws. A point with weight w occurs n = draws w times among
    these, rounded up or down at random. It contributes w^2 to the variance of the average, because the point itself is
    random, and the variance of the rounding, frac(n) (1 - frac(n)) / draws^2. If no point occurs more than once, the
    sum is w / draws, and the effective sample size is the number of draws.

    Args:
        position: Unconstrained parameters of all points, shape (point, coordinate).
        weight: Smoothed weights, summing to one, shape (point,).
        pareto_k: Tail index of the weights.
        draws: Number of equally weighted draws made from the points.
        modes: Number of modes from which points were drawn.
        least_ess: See `Nuts.least_ess`.
    """
    dimension = position.shape[1]
    missing = np.full(dimension, np.nan)
    if not (np.isfinite(weight).all() and np.isfinite(pareto_k) and np.isfinite(position[weight > 0]).all()):
        return Diagnostics(
            missing, missing, missing, np.array([np.nan]), 0, Status.NONFINITE, "importance", pareto_k, 0.0
        )
    position = np.where(weight[:, None] > 0, position, 0.0)
    mean = weight @ position
    rounded = np.modf(draws * weight)[0]
    noise = weight**2 + rounded * (1.0 - rounded) / draws**2
    bulk = worth(noise, position - mean, weight @ (position - mean) ** 2)
    tails = []
    order = np.argsort(position, axis=0)
    below = np.cumsum(weight[order], axis=0)
    for part in (0.05, 0.95):
        edge = np.take_along_axis(position, order, 0)[(below >= part).argmax(0), np.arange(dimension)]
        tails.append(worth(noise, (position <= edge) - part, np.full(dimension, part * (1.0 - part))))
    tail = np.minimum(*tails)
    weights = 1.0 / float((weight**2).sum())
    if pareto_k >= PARETO:
        status = Status.HEAVY_WEIGHTS
    elif min(bulk.min(), tail.min(), weights) < least_ess:
        # The effective number of weighted points may exceed the requested number of draws.
        status = Status.FEW_DRAWS if draws < least_ess <= weights else Status.FEW_POINTS
    else:
        status = Status.OK
    return Diagnostics(
        missing, bulk, tail, np.array([np.nan]), 0, status, "importance", float(pareto_k), weights, modes
    )


def worth(noise: np.ndarray, gap: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return effective sample sizes of averages: `variance` of one draw over the variance that `noise` gives."""
    return variance / np.maximum(noise @ gap**2, 1e-300)
