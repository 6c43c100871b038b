"""Diagnostics: does a set of chains deserve trust? The thresholds live here and nowhere else."""

from __future__ import annotations

import dataclasses

import numpy as np

from bayescale.errors import Status

RHAT = 1.01
"""Rank-normalised split R-hat above this means that chains disagree."""
ESS = 400.0
"""Bulk and tail effective sample sizes below this make quantiles unstable."""
EFMI = 0.2
"""Energy fraction of missing information below this means that tails are explored slowly."""


@dataclasses.dataclass(frozen=True)
class Diagnostics:
    """Convergence measures of one posterior.

    Attributes:
        rhat: Rank-normalised split R-hat of each coordinate, shape (coordinate,).
        ess_bulk: Bulk effective sample size, shape (coordinate,).
        ess_tail: Tail effective sample size (5 and 95 % quantiles), shape (coordinate,).
        efmi: E-FMI of each chain, shape (chain,).
        divergences: Divergent draws after warm-up.
        status: The verdict.
    """

    rhat: np.ndarray
    ess_bulk: np.ndarray
    ess_tail: np.ndarray
    efmi: np.ndarray
    divergences: int
    status: Status


def diagnose(position: np.ndarray, diverging: np.ndarray, energy: np.ndarray) -> Diagnostics:
    """Measure convergence.

    Args:
        position: Draws of the coordinates, shape (chain, draw, coordinate).
        diverging: Shape (chain, draw).
        energy: Shape (chain, draw).
    """
    # Imported here: it takes two seconds that people who only look something up should not wait for.
    from arviz_stats.base import array_stats

    if not np.isfinite(position).all() or np.ptp(position, axis=(0, 1)).min() == 0.0:
        missing = np.full(position.shape[-1], np.nan)
        return Diagnostics(
            missing, missing, missing, np.full(len(position), np.nan), int(diverging.sum()), Status.NONFINITE
        )
    axes = {"chain_axis": 0, "draw_axis": 1}
    rhat = np.atleast_1d(array_stats.rhat(position, **axes))
    bulk = np.atleast_1d(array_stats.ess(position, method="bulk", **axes))
    tail = np.atleast_1d(array_stats.ess(position, method="tail", prob=(0.05, 0.95), **axes))
    efmi = np.atleast_1d(array_stats.bfmi(energy, **axes))
    divergences = int(diverging.sum())
    if rhat.max() > RHAT:
        status = Status.NOT_MIXED
    elif divergences:
        status = Status.DIVERGENT
    elif min(bulk.min(), tail.min()) < ESS:
        status = Status.FEW_DRAWS
    elif efmi.min() < EFMI:
        status = Status.LOW_ENERGY
    else:
        status = Status.OK
    return Diagnostics(rhat, bulk, tail, efmi, divergences, status)
