"""Conformal intervals: least squares with the errors that it made on other sources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.core.methods.fitted_curves import least_squares
from benchmarks.core.methods.prediction import MIXTURE, Prediction
from benchmarks.core.problems import Problem

FEWEST_SCORES = 10
"""Fewest families that a conformal interval may rest on; with fewer, other splits and groups join in."""


def conformal(problems: Sequence[Problem], base: Sequence[Prediction] | None = None) -> Iterator[Prediction]:
    """Least squares with intervals from its errors on the families of all other data sets.

    Signed errors in units of the stated spread are exchanged between families of one group and split, one source left
    out at a time (a split conformal forecast across families). It alone learns from outcomes of other families.
    """
    fits = list(least_squares(problems)) if base is None else base
    levels = (np.arange(5) + 0.5) / 5
    errors: dict[tuple[str, str], dict[str, list[np.ndarray]]] = {}
    for problem, fit in zip(problems, fits, strict=True):
        center, spread = fit.location[0], np.median(fit.scale, axis=0)
        # Five quantiles of each problem, so that one with many held-out runs counts no more than another.
        error = np.quantile((np.log(problem.held["loss"].to_numpy(float)) - center) / spread, levels)
        for cell in ((problem.group, problem.split), (problem.group, "any")):
            errors.setdefault(cell, {}).setdefault(root(problem), []).append(error)
    for problem, fit in zip(problems, fits, strict=True):
        others: list[np.ndarray] = []
        for cell in ((problem.group, problem.split), (problem.group, "any"), *errors):
            if len(others) < FEWEST_SCORES:
                others = [e for source, found in errors[cell].items() if source != root(problem) for e in found]
        if not others:
            others = [np.zeros(1)]
        scores = np.quantile(np.concatenate(others), (np.arange(MIXTURE) + 0.5) / MIXTURE)
        center, spread = fit.location[0], np.median(fit.scale, axis=0)
        location = center + scores[:, None] * spread
        width = np.maximum(np.gradient(scores), 1e-3)[:, None] * spread
        yield Prediction(location, width, fit.status, fit.seconds)


def root(problem: Problem) -> str:
    """Source of a problem; both halves of LCDB are one."""
    return problem.source.split()[0]
