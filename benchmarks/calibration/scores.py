"""Scores: forecasts of benchmark accuracies of larger models, by source, beside rivals.

    python -m benchmarks scores

Families are those that the record of error rates has: benchmark scores of one recipe by compute (obs_scaling, sloth)
and zero-shot scores by samples and parameters (openclip_scaling). The larger models are held out; a forecast is of the
measured score, on as many items as the benchmark has. Rivals: the package's forecast of the error rate as if it were a
loss, a logistic regression on ln x (binomial, with the normal approximation of its maximum), and a power law fitted to
the error rate by least squares with the usual interval. Chance and items are properties of the benchmarks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize

import bayescale as bs
from bayescale.data.score import ScoreScale
from bayescale.evaluate.scores import crps_of_draws
from benchmarks.core.problems import Problem
from benchmarks.core.sources import SOURCES

BENCHMARKS: dict[str, tuple[float, int]] = {
    "MMLU": (0.25, 14042),
    "ARC-C": (0.25, 1172),
    "HellaSwag": (0.25, 10042),
    "Winograd": (0.5, 1267),
    "XWinograd": (0.5, 2325),
    "TruthfulQA": (0.31, 817),
    "hendrycksTest-abstract_algebra": (0.25, 100),
    "hendrycksTest-anatomy": (0.25, 135),
    "hendrycksTest-astronomy": (0.25, 152),
    "hendrycksTest-business_ethics": (0.25, 100),
    "hendrycksTest-clinical_knowledge": (0.25, 265),
    "IFEval": (0.0, 541),
    "BBH": (0.0, 6511),
    "GPQA": (0.25, 448),
    "MUSR": (0.0, 756),
    "MMLU-PRO": (0.1, 12032),
    "imagenet1k|acc1": (0.0, 50000),
    "vtab/cifar100|acc1": (0.01, 10000),
    "objectnet|acc1": (0.0, 18574),
    "imagenet_sketch|acc1": (0.0, 50889),
    "mscoco_captions|image_retrieval_recall@5": (0.0, 25010),
}
"""Score of guessing and number of items of each benchmark; sources with a normalised scale have a chance of 0."""
NAMES = ("obs_scaling", "sloth", "openclip_scaling")
LEVELS = (0.5, 0.8, 0.95)
DRAWS = 2000


@dataclasses.dataclass(frozen=True)
class ScoreProblem:
    """Scores to fit and larger models' scores to forecast.

    Attributes:
        problem: The problem of error rates that it comes from.
        scale: Chance and ceiling.
        items: Number of items of the benchmark.
        train: Runs with the score.
        held: Their larger ones: inputs, and the column score.
    """

    problem: Problem
    scale: ScoreScale
    items: int
    train: bs.Runs
    held: pd.DataFrame


def problems() -> Iterator[ScoreProblem]:
    """Yield the problems of all sources whose benchmark is known."""
    for name in NAMES:
        for problem in SOURCES[name]():
            if problem.metric not in BENCHMARKS or "far" in problem.group:
                continue
            chance, items = BENCHMARKS[problem.metric]
            scale = ScoreScale(chance)
            parts = [part.assign(score=1.0 - part["loss"]) for part in (problem.train, problem.held)]
            train = bs.Runs.from_frame(
                parts[0].drop(columns="loss"), inputs=problem.inputs, score=scale, n_items=items, name=problem.key
            )
            yield ScoreProblem(problem, scale, items, train, parts[1])


def sampled(mean: np.ndarray, items: int, rng: np.random.Generator) -> np.ndarray:
    """Return measured scores of draws of the true score, shape (draw, point)."""
    return rng.binomial(items, np.clip(mean, 0.0, 1.0)) / items


def logistic(problem: ScoreProblem, rng: np.random.Generator) -> np.ndarray:
    """Forecast by logistic regression on ln x, between chance and one; draws of the measured score, (draw, point)."""
    inputs = list(problem.problem.inputs)
    x, new = (np.log(part[inputs].to_numpy(float)) for part in (problem.train.frame, problem.held))
    middle, spread = x.mean(0), np.maximum(np.ptp(x, axis=0), 1e-9)
    design, ahead = (np.column_stack([np.ones(len(part)), (part - middle) / spread]) for part in (x, new))
    right = problem.train.frame["score"].to_numpy(float) * problem.items

    def negative(constants: np.ndarray) -> float:
        share = np.clip(problem.scale.score(-design @ constants), 1e-12, 1 - 1e-12)
        # A weak ridge keeps the maximum finite where all scores are at chance.
        fit = right * np.log(share) + (problem.items - right) * np.log1p(-share)
        return float(-fit.sum() + 0.5 * (constants**2).sum() / 100.0)

    best = min(
        (minimize(negative, np.concatenate([[a], np.ones(x.shape[1])]), method="BFGS") for a in (-3.0, 0.0, 3.0)),
        key=lambda found: float(found.fun),
    )
    covariance = np.atleast_2d(best.hess_inv)
    constants = rng.multivariate_normal(best.x, covariance, size=DRAWS)
    return sampled(problem.scale.score(-constants @ ahead.T), problem.items, rng)


def least_squares(problem: ScoreProblem, rng: np.random.Generator) -> np.ndarray:
    """Forecast the error rate by a power law fitted by least squares in logarithms, with its usual interval."""
    inputs = list(problem.problem.inputs)
    x, new = (np.log(part[inputs].to_numpy(float)) for part in (problem.train.frame, problem.held))
    y = np.log(np.maximum(1.0 - problem.train.frame["score"].to_numpy(float), 0.5 / problem.items))
    design, ahead = (np.column_stack([np.ones(len(part)), part - x.mean(0)]) for part in (x, new))
    inverse = np.linalg.pinv(design.T @ design)
    constants = inverse @ design.T @ y
    left = max(1, len(y) - design.shape[1])
    variance = ((y - design @ constants) ** 2).sum() / left
    spread = np.sqrt(variance * (1.0 + np.einsum("ij,jk,ik->i", ahead, inverse, ahead)))
    error = np.exp(ahead @ constants + spread * rng.standard_t(left, size=(DRAWS, 1)))
    return 1.0 - np.minimum(error, 1.0)


def judged(draws: np.ndarray, outcome: np.ndarray) -> pd.DataFrame:
    """Return for each held-out model whether intervals held its score, the CRPS and widths; draws (draw, point)."""
    rows: dict[str, Any] = {}
    for level in LEVELS:
        low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2], axis=0)
        rows[f"held {level:g}"] = (low <= outcome) & (outcome <= high)
        rows[f"width {level:g}"] = high - low
    rows["crps"] = crps_of_draws(outcome, draws)
    rows["error"] = np.abs(np.median(draws, axis=0) - outcome)
    return pd.DataFrame(rows)


def forecast_draws(fit: Any, problem: ScoreProblem) -> np.ndarray:
    """Return draws of the measured score by a fit of scores, or of error rates, shape (draw, point)."""
    at = problem.held[list(problem.problem.inputs)]
    found = fit.predict(at, kind="run").measured(items=problem.items)
    draws = found.draws.reshape(-1, len(at))
    return draws if found.higher_is_better else 1.0 - draws


def measure(only: tuple[str, ...] = NAMES) -> pd.DataFrame:
    """Fit and judge every method on every problem; a row for each held-out model."""
    chosen = [problem for problem in problems() if problem.problem.source in only]
    scores = bs.fit_many([problem.train for problem in chosen], seed=0)
    errors = bs.fit_many(
        [bs.Runs.from_frame(p.problem.train, inputs=p.problem.inputs, name=p.problem.key) for p in chosen], seed=0
    )
    rows = []
    for number, problem in enumerate(chosen):
        rng = np.random.default_rng(number)
        outcome = problem.held["score"].to_numpy(float)
        methods: dict[str, Any] = {"logistic regression": logistic(problem, rng)}
        methods["least squares on errors"] = least_squares(problem, rng)
        for name, fits in (("bayescale", scores), ("bayescale on error rates", errors)):
            if isinstance(fits[number], bs.Fitted):
                methods[name] = forecast_draws(fits[number], problem)
        for name, draws in methods.items():
            told = {"method": name, "source": problem.problem.source, "problem": problem.problem.key}
            told |= {"status": scores[number].status.name, "split": problem.problem.split}
            rows.append(judged(draws, outcome).assign(**told))
    return pd.concat(rows, ignore_index=True)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return coverage, median CRPS and width by source and method; each family counts alike."""
    rows = rows.assign(family=rows["problem"].str.split("|").str[:3].str.join("|"))
    columns = [f"held {level:g}" for level in LEVELS] + ["crps", "error", "width 0.8"]
    each = rows.groupby(["source", "method", "family"])[columns].mean()
    table = each.groupby(["source", "method"]).mean()
    return table.assign(families=each.groupby(["source", "method"]).size()).reset_index()
