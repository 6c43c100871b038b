"""Forecasts without a scaling law: a Gaussian process, and a straight line through the largest runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.stats import chi2

from benchmarks.core.methods.fitted_curves import setting
from benchmarks.core.methods.prediction import Prediction, student
from benchmarks.core.problems import Problem, scale


def gaussian_process(problems: Sequence[Problem]) -> Iterator[Prediction]:
    """Gaussian process on ln(loss) against ln(x): linear mean, squared-exponential kernel, noise.

    Length scale, amplitude and noise are averaged over a grid by their evidence, so nothing is left to an optimiser.
    """
    lengths = np.geomspace(0.15, 4.0, 10)
    ratios = np.geomspace(1e-6, 10.0, 12)
    for problem in problems:
        begin = time.perf_counter()
        case = setting(problem)
        z, y, new = case.z[: case.rows], case.y[: case.rows], case.new
        center = y.mean()
        gap = ((z[:, None] - z[None]) ** 2).sum(-1)
        cross = ((new[:, None] - z[None]) ** 2).sum(-1)
        basis = 100.0 * (1.0 + z @ z.T)
        ahead = 100.0 * (1.0 + new @ z.T)
        own = 100.0 * (1.0 + (new**2).sum(1))
        parts = []
        for length in lengths:
            kernel, kernel_new = np.exp(-0.5 * gap / length**2), np.exp(-0.5 * cross / length**2)
            for ratio in ratios:
                covariance = basis + kernel + (ratio + 1e-9) * np.eye(case.rows)
                factor = np.linalg.cholesky(covariance)
                solved = np.linalg.solve(covariance, y - center)
                # The overall variance has a weak inverse-gamma prior and is integrated out.
                shape, rate = 1.0 + 0.5 * case.rows, 1e-4 + 0.5 * (y - center) @ solved
                evidence = -np.log(np.diagonal(factor)).sum() - shape * np.log(rate)
                mean = center + (ahead + kernel_new) @ solved
                gain = np.linalg.solve(covariance, (ahead + kernel_new).T)
                spread = own + 1.0 + ratio - ((ahead + kernel_new) * gain.T).sum(1)
                parts.append((evidence, mean, np.sqrt(np.maximum(spread, 1e-12) * rate / shape)))
        evidence = np.array([part[0] for part in parts])
        weight = np.exp(evidence - evidence.max())
        counts = np.floor(500 * weight / weight.sum() + 0.5).astype(int)
        counts[np.argmax(weight)] += counts.sum() == 0
        means = np.repeat([part[1] for part in parts], counts, axis=0)
        spreads = np.repeat([part[2] for part in parts], counts, axis=0)
        factors = np.sqrt(2.0 * shape / chi2.ppf((np.arange(len(means)) + 0.5) / len(means), 2.0 * shape))
        order = np.random.default_rng(0).permutation(len(means))
        yield Prediction(means, spreads * factors[order, None], "OK", time.perf_counter() - begin)


def last_slope(problems: Sequence[Problem]) -> Iterator[Prediction]:
    """Straight line through the largest third of the points (three at least) on log-log axes, Student-t interval."""
    for problem in problems:
        begin = time.perf_counter()
        order = np.argsort(scale(problem.train, problem.inputs))
        size = len(problem.inputs) + 1
        kept = order[-max(size + 1, len(order) // 3) :]
        case = setting(problem)
        design = np.column_stack([np.ones(case.rows), case.z[: case.rows]])[kept]
        y = case.y[: case.rows][kept]
        ahead = np.column_stack([np.ones(len(case.new)), case.new])
        coefficient = np.linalg.lstsq(design, y, rcond=1e-8)[0]
        freedom = max(len(y) - size, 1)
        variance = ((y - design @ coefficient) ** 2).sum() / freedom + 1e-12
        inverse = np.linalg.pinv(design.T @ design, rcond=1e-8)
        spread = np.sqrt(variance * (1.0 + np.einsum("pi,ij,pj->p", ahead, inverse, ahead)))
        yield Prediction(*student(ahead @ coefficient, spread, freedom), "OK", time.perf_counter() - begin)
