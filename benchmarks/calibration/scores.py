"""Scores: forecasts of benchmark accuracies of larger models, by source, beside rivals.

    python -m benchmarks scores

Families are those that the record of error rates has: benchmark scores of one recipe by compute (obs_scaling, sloth),
zero-shot scores by samples and parameters (openclip_scaling), task scores by parameters and tokens (overtrain),
few-shot accuracies by images (alabdulmohsin2022), accuracies of learners by examples (lcdb), and simulated accuracies
of one model by steps of reinforcement learning (simulated). The larger models are held out; a forecast is of the
measured score, on as many items as the benchmark has. Items of lcdb are not known: the package's guess is taken.
Elsewhere every method is told the items, and the package once more is not.

Rivals: the package's forecast of the error rate as if it were a loss, a logistic regression on ln x (binomial, with the
normal approximation of its maximum), and a power law fitted to the error rate by least squares with the usual interval.
Chance and items are properties of the benchmarks. Two other models of the package are judged beside it: one that
samples chance and ceiling, and one with beta-binomial counts; `compare_models` judges the three alone. For these there
are two more simulated sources, of models by size: their items are correlated (correlated), or their log odds scatter
(scattered).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize

import bayescale as bs
from bayescale.data.score import ScoreScale
from bayescale.evaluate.scores import crps_of_draws
from benchmarks.core.problems import Problem, several_inputs, thin
from benchmarks.core.sources import SOURCES, table

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
    "err_hellaswag": (0.25, 10042),
    "err_arc_easy": (0.25, 2376),
    "err_arc_challenge": (0.25, 1172),
    "err_piqa": (0.5, 1838),
    "err_lambada_openai": (0.0, 5153),
}
"""Score of guessing and number of items of each benchmark; sources with a normalised scale have a chance of 0."""
FEW_SHOT: dict[str, tuple[float, int]] = {
    "bird": (1 / 200, 5794),
    "c": (1 / 100, 10000),
    "cal": (1 / 102, 6084),
    "inet": (1 / 1000, 50000),
}
"""The same for the data sets of few-shot classification of images, by the beginning of their names."""
NAMES = ("obs_scaling", "sloth", "openclip_scaling", "overtrain", "alabdulmohsin2022", "lcdb", "simulated")
SCATTERS = ("correlated", "scattered")
"""Simulated sources in which runs differ by more than their items explain; judged only if they are chosen."""
CORRELATION, LOG_ODDS_SD = 1 / 101, 0.3
"""Correlation of the items of a run, and sd of log odds: both give a score of .6 a standard deviation of .05."""
CUTS = {"alabdulmohsin2022": "R=4", "lcdb": "R=4", "overtrain": "k=10"}
"""Sources with many points, of which one cut each is taken."""
MOST_ROWS, MOST_CURVES = 12, 80
"""Of such curves: fitted points, evenly spaced in ln x, and curves of LCDB."""
SIMULATED, SIMULATED_ITEMS = 40, 500
"""Simulated curves, and items of each of their evaluations."""
GUESSED = 1000
"""Items that the rivals assume where they are unknown, as the package does."""
UNSURE = {"chance_sd": 0.02, "ceiling_sd": 0.03}
"""Prior standard deviations of chance and ceiling of the model that samples them."""
FAMILIES, SHORT = 40, bs.Nuts(chains=2, draws=199)
"""Most families of a source, and chains, with which the models of scores are compared with each other."""
LEVELS = (0.5, 0.8, 0.95)
DRAWS = 2000


@dataclasses.dataclass(frozen=True)
class ScoreProblem:
    """Scores to fit and larger models' scores to forecast.

    Attributes:
        problem: The problem of error rates that it comes from.
        scale: Chance and ceiling.
        items: Number of items of the benchmark, or None where it is unknown.
        train: Runs with the score.
        held: Their larger ones: inputs, and the column score.
    """

    problem: Problem
    scale: ScoreScale
    items: int | None
    train: bs.Runs
    held: pd.DataFrame


def simulated(curves: int = SIMULATED) -> Iterator[Problem]:
    """Yield simulated accuracies by step of one model: a sigmoid of ln(step) from a baseline to a ceiling below 1.

    20 evaluations up to step 400 are fitted; the held-out steps lie 1.5, 2 and 4 times beyond.
    """
    for number in range(curves):
        rng = np.random.default_rng(number)
        baseline, ceiling = rng.uniform(0.1, 0.4), rng.uniform(0.55, 0.95)
        middle, width = np.log(rng.uniform(60.0, 600.0)), rng.uniform(0.7, 1.5)
        step = np.concatenate([np.arange(20.0, 401.0, 20.0), [600.0, 800.0, 1600.0]])
        share = baseline + (ceiling - baseline) / (1.0 + np.exp(-(np.log(step) - middle) / width))
        share = np.clip(share + 0.01 * rng.standard_normal(len(step)), 0.0, 1.0)
        right = rng.binomial(SIMULATED_ITEMS, share)
        rows = pd.DataFrame({"step": step, "loss": 1.0 - right / SIMULATED_ITEMS})
        train, held = rows[rows["step"] <= 400.0], rows[rows["step"] > 400.0].reset_index(drop=True)
        yield Problem("simulated", f"curve {number}", "accuracy", "one input", "R=4", ("step",), train, held)


def overtrain_tasks() -> Iterator[Problem]:
    """Yield errors in tasks by parameters and tokens, of three data sets; small designs are left out."""
    rows = table("overtrain")
    for family, part in rows.groupby("family", sort=False):
        for metric in BENCHMARKS:
            own = part[part["metric"] == metric]
            if len(own):
                yield from several_inputs("overtrain", str(family), metric, own, ("n_params", "n_tokens"), small=False)


def scattered(source: str, curves: int = SIMULATED) -> Iterator[Problem]:
    """Yield simulated accuracies of twelve models by size; two smaller, two interpolated and two larger are held out.

    The scores lie on logistic curves of ln(size) between .25 and 1, whose middle is among the fitted sizes. The smaller
    models are at chance, and the larger ones near the ceiling.

    Args:
        source: "correlated" for items with correlation `CORRELATION` within a run, "scattered" for log odds that
            scatter by `LOG_ODDS_SD`.
        curves: Number of curves.
    """
    for number in range(curves):
        rng = np.random.default_rng([SCATTERS.index(source), number])
        middle, slope = np.log(1e9) + rng.uniform(-1.0, 1.0), rng.uniform(0.7, 1.2)
        size = np.concatenate([np.geomspace(1e7, 3e10, 12), [2.5e6, 5e6, 3e8, 4e9, 6e10, 1.2e11]])
        log_odds = slope * (middle - np.log(size))
        if source == "scattered":
            log_odds = log_odds + LOG_ODDS_SD * rng.standard_normal(len(size))
        share = ScoreScale(0.25).score(log_odds)
        if source == "correlated":
            concentration = 1.0 / CORRELATION - 1.0
            share = rng.beta(concentration * share, concentration * (1.0 - share))
        right = rng.binomial(SIMULATED_ITEMS, share)
        rows = pd.DataFrame({"n_params": size, "loss": 1.0 - right / SIMULATED_ITEMS})
        train, held = rows.iloc[:12], rows.iloc[12:].reset_index(drop=True)
        yield Problem(source, f"curve {number}", "accuracy", "one input", "R=4", ("n_params",), train, held)


OWN: dict[str, Callable[[], Iterator[Problem]]] = {
    "simulated": simulated,
    "overtrain": overtrain_tasks,
    **{name: functools.partial(scattered, name) for name in SCATTERS},
}
"""Sources whose problems of scores are not among those of error rates."""


def benchmark_of(problem: Problem) -> tuple[float, int | None] | None:
    """Return chance and items of the benchmark of a problem of error rates, or None where it is of no benchmark."""
    if problem.source == "simulated":
        return 0.0, SIMULATED_ITEMS
    if problem.source in SCATTERS:
        return 0.25, SIMULATED_ITEMS
    if problem.metric == "few_shot_error" and problem.family.startswith("IC|"):
        return FEW_SHOT[problem.family.split("|")[1].split("_")[0]]
    if problem.metric == "error_rate":
        return 0.0, None
    return BENCHMARKS.get(problem.metric)


def runs_of(problem: Problem, scale: ScoreScale, items: int | None) -> bs.Runs:
    """Return the fitted runs of a problem of error rates as runs with a score."""
    frame = problem.train.assign(score=1.0 - problem.train["loss"]).drop(columns="loss")
    return bs.Runs.from_frame(frame, inputs=problem.inputs, score=scale, n_items=items, name=problem.key)


def problems(only: Sequence[str] = NAMES) -> Iterator[ScoreProblem]:
    """Yield the problems of sources whose benchmark is known."""
    for name in only:
        curves = 0
        for problem in (OWN.get(name) or SOURCES[name])():
            found = benchmark_of(problem)
            if found is None or "far" in problem.group or problem.split != CUTS.get(name, problem.split):
                continue
            if name in CUTS and len(problem.inputs) == 1:
                problem = dataclasses.replace(problem, train=thin(problem.train, problem.inputs, MOST_ROWS))
            if name == "lcdb":
                curves += problem.source == "lcdb even"
                if problem.source != "lcdb even" or curves > MOST_CURVES:
                    continue
            scale = ScoreScale(found[0])
            held = problem.held.assign(score=1.0 - problem.held["loss"])
            yield ScoreProblem(problem, scale, found[1], runs_of(problem, scale, found[1]), held)


def sampled(mean: np.ndarray, items: int, rng: np.random.Generator) -> np.ndarray:
    """Return measured scores of draws of the true score, shape (draw, point)."""
    return rng.binomial(items, np.clip(mean, 0.0, 1.0)) / items


def logistic(problem: ScoreProblem, rng: np.random.Generator) -> np.ndarray:
    """Forecast by logistic regression on ln x, between chance and one; draws of the measured score, (draw, point)."""
    inputs = list(problem.problem.inputs)
    x, new = (np.log(part[inputs].to_numpy(float)) for part in (problem.train.frame, problem.held))
    middle, spread = x.mean(0), np.maximum(np.ptp(x, axis=0), 1e-9)
    design, ahead = (np.column_stack([np.ones(len(part)), (part - middle) / spread]) for part in (x, new))
    items = problem.items or GUESSED
    right = problem.train.frame["score"].to_numpy(float) * items

    def negative(constants: np.ndarray) -> float:
        share = np.clip(problem.scale.score(-design @ constants), 1e-12, 1 - 1e-12)
        # A weak ridge keeps the maximum finite where all scores are at chance.
        fit = right * np.log(share) + (items - right) * np.log1p(-share)
        return float(-fit.sum() + 0.5 * (constants**2).sum() / 100.0)

    best = min(
        (minimize(negative, np.concatenate([[a], np.ones(x.shape[1])]), method="BFGS") for a in (-3.0, 0.0, 3.0)),
        key=lambda found: float(found.fun),
    )
    covariance = np.atleast_2d(best.hess_inv)
    constants = rng.multivariate_normal(best.x, covariance, size=DRAWS)
    return sampled(problem.scale.score(-constants @ ahead.T), items, rng)


def least_squares(problem: ScoreProblem, rng: np.random.Generator) -> np.ndarray:
    """Forecast the error rate by a power law fitted by least squares in logarithms, with its usual interval."""
    inputs = list(problem.problem.inputs)
    x, new = (np.log(part[inputs].to_numpy(float)) for part in (problem.train.frame, problem.held))
    y = np.log(np.maximum(1.0 - problem.train.frame["score"].to_numpy(float), 0.5 / (problem.items or GUESSED)))
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
    found = fit.predict(at, kind="run", force=True).measured(items=problem.items or GUESSED)
    draws = found.draws.reshape(-1, len(at))
    return draws if found.higher_is_better else 1.0 - draws


def unsure(problem: ScoreProblem) -> bs.Runs:
    """Return the fitted runs of a problem with a chance level and a ceiling that are not known."""
    return dataclasses.replace(problem.train, score=dataclasses.replace(problem.scale, **UNSURE))


def variants(chosen: Sequence[ScoreProblem], **options: Any) -> dict[str, list[Any]]:
    """Fit the other models of scores to every problem; a list of fits by method.

    Args:
        chosen: The problems.
        **options: Options of the fits.
    """
    trains = [problem.train for problem in chosen]
    return {
        "bayescale, range sampled": bs.fit_many([unsure(problem) for problem in chosen], seed=0, **options),
        "bayescale, beta-binomial": bs.fit_many(trains, seed=0, likelihood="beta-binomial", **options),
    }


def first_of_families(chosen: Sequence[ScoreProblem], most: int) -> list[ScoreProblem]:
    """Return the first problem of each family, of up to `most` families that are evenly spaced."""
    found: dict[str, ScoreProblem] = {}
    for problem in chosen:
        found.setdefault("|".join(problem.problem.key.split("|")[:3]), problem)
    firsts = list(found.values())
    return firsts[:: max(1, -(-len(firsts) // most))]


def compare_models(only: tuple[str, ...] = NAMES) -> pd.DataFrame:
    """Judge the models of scores beside each other, without rivals; a row for each held-out model.

    On the first problem of each family, and with short chains.
    """
    chosen = [problem for name in only for problem in first_of_families(list(problems((name,))), FAMILIES)]
    trains = [problem.train for problem in chosen]
    fits = {"bayescale": bs.fit_many(trains, seed=0, settings=SHORT), **variants(chosen, settings=SHORT)}
    rows = []
    for number, problem in enumerate(chosen):
        outcome = problem.held["score"].to_numpy(float)
        told = {"source": problem.problem.source, "problem": problem.problem.key, "split": problem.problem.split}
        for name, found in fits.items():
            if isinstance(fit := found[number], bs.Fitted):
                judgement = judged(forecast_draws(fit, problem), outcome)
                rows.append(judgement.assign(method=name, status=fit.status.name, **told))
    return pd.concat(rows, ignore_index=True)


def measure(only: tuple[str, ...] = NAMES) -> pd.DataFrame:
    """Fit and judge every method on every problem; a row for each held-out model."""
    chosen = list(problems(only))
    errors = [bs.Runs.from_frame(p.problem.train, inputs=p.problem.inputs, name=p.problem.key) for p in chosen]
    blind = [runs_of(p.problem, p.scale, None) for p in chosen if p.items is not None]
    scores, rates, guesses = (bs.fit_many(runs, seed=0) for runs in ([p.train for p in chosen], errors, blind))
    unknown = iter(guesses)
    rows = []
    for number, problem in enumerate(chosen):
        rng = np.random.default_rng(number)
        outcome = problem.held["score"].to_numpy(float)
        methods: dict[str, Any] = {"logistic regression": logistic(problem, rng)}
        methods["least squares on errors"] = least_squares(problem, rng)
        fits = {"bayescale": scores[number], "bayescale on error rates": rates[number]}
        if problem.items is not None:
            fits["bayescale, items unknown"] = next(unknown)
        methods |= {name: forecast_draws(fit, problem) for name, fit in fits.items() if isinstance(fit, bs.Fitted)}
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
