"""Prediction: what a method returns for a problem, and what every method needs to make one."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
from scipy.stats import chi2

import bayescale as bs
from benchmarks.core.problems import Problem

MIXTURE = 101
"""Normals that stand for a Student-t."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Forecast of the held-out runs of one problem.

    Attributes:
        location: Means of the components, shape (draw, held).
        scale: Their standard deviations, shape (draw, held).
        status: "OK", or what went wrong.
        seconds: Time spent on this problem.
        notes: Codes of the warnings of `check()`, ours only.
    """

    location: np.ndarray
    scale: np.ndarray
    status: str
    seconds: float
    notes: tuple[str, ...] = ()


def seed_of(problem: Problem) -> int:
    """Seed of a problem, the same in every run and for every method."""
    return int(hashlib.sha256(problem.key.encode()).hexdigest()[:7], 16)


def runs_of(problem: Problem) -> bs.Runs:
    """Training runs as the package takes them."""
    return bs.Runs.from_frame(problem.train, inputs=problem.inputs, name=problem.key)


def student(center: np.ndarray, spread: np.ndarray, freedom: float) -> tuple[np.ndarray, np.ndarray]:
    """A Student-t as a mixture of normals with one centre, shapes (MIXTURE, held)."""
    levels = (np.arange(MIXTURE) + 0.5) / MIXTURE
    factors = np.sqrt(freedom / chi2.ppf(levels, freedom))
    return np.broadcast_to(center, (MIXTURE, len(center))), factors[:, None] * spread
