"""Measure forecasts of pass@k on the same problems, beside a power law and a Beta-binomial by maximum likelihood.

Of each model's counts in the source `coverage_counts` a hundred samples a problem are drawn without replacement. What
is forecast is the unbiased estimate of pass@k from all samples, at the largest k that every problem has samples for.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import betaln

import bayescale as bs
from bayescale.coverage.counts import Counts

SAMPLES = 100
"""Samples a problem that forecasts are made from."""
FEWEST_PROBLEMS = 100
FARTHEST = 10
"""How many times the samples the forecast must reach at least."""
LAWS = ("beta", "kumaraswamy")
LEVELS = (0.8, 0.95)


class Task(NamedTuple):
    """One model on one set of problems."""

    source: str
    model: str
    counts: Counts
    k: int
    truth: float


def tasks(repeat: int = 0, only: str = "") -> Iterator[Task]:
    """Yield the models with enough problems and samples, and with a success among those that are drawn.

    Args:
        repeat: Which draw of the samples.
        only: Sources whose name begins with this text.
    """
    frame = bs.corpus.frame("coverage_counts")
    for (source, model), rows in frame.groupby(["family", "run"], sort=True):
        sampled, correct = (rows[name].to_numpy().astype(np.int64) for name in ("n_sampled", "n_correct"))
        k = int(sampled.min())
        if len(rows) < FEWEST_PROBLEMS or k < FARTHEST * SAMPLES or not str(source).startswith(only):
            continue
        rng = np.random.default_rng([zlib.crc32(f"{source} {model}".encode()), repeat])
        drawn = rng.hypergeometric(correct, sampled - correct, SAMPLES)
        if drawn.any():
            counts = Counts(str(model), tuple(map(str, rows["problem"])), np.full(len(drawn), SAMPLES), drawn)
            yield Task(
                str(source), str(model), counts, k, float(bs.coverage.pass_at_k(correct, sampled, k)["estimate"][0])
            )


def power_law(counts: Counts, k: int) -> float:
    """Forecast by -ln coverage = a k^-b, fitted by least squares of logarithms to unbiased estimates up to n."""
    grid = np.unique(np.round(np.geomspace(1, SAMPLES, 20)).astype(int))
    table = bs.coverage.pass_at_k(counts.correct, counts.attempts, grid)
    known = table[(table["estimate"] > 0) & (table["estimate"] < 1)]
    if len(known) < 2:
        return float(table["estimate"].iloc[-1])
    slope, level = np.polyfit(np.log(known["k"]), np.log(-np.log(known["estimate"])), 1)
    return float(np.exp(-np.exp(level + slope * np.log(k))))


def maximum_likelihood(counts: Counts, k: int) -> float:
    """Forecast by the Beta-binomial distribution of maximum likelihood."""
    made, right = counts.attempts, counts.correct

    def loss(logs: np.ndarray) -> float:
        alpha, beta = np.exp(logs)
        return -float((betaln(alpha + right, beta + made - right) - betaln(alpha, beta)).sum())

    bounds = ((-12.0, 6.0), (-6.0, 12.0))
    alpha, beta = np.exp(minimize(loss, np.log([0.3, 3.0]), method="L-BFGS-B", bounds=bounds).x)
    return float(1.0 - np.exp(betaln(alpha, beta + k) - betaln(alpha, beta)))


RIVALS: dict[str, Callable[[Counts, int], float]] = {
    "power law, least squares": power_law,
    "Beta-binomial, maximum likelihood": maximum_likelihood,
}


def scored(task: Task) -> list[dict[str, object]]:
    """Return a row for each method: its forecast, and for those of this package whether intervals hold the truth."""
    rows: list[dict[str, object]] = []
    told = {"source": task.source, "model": task.model, "k": task.k, "truth": task.truth}
    for law in LAWS:
        post = bs.coverage.fit(task.counts, law=law, seed=0)
        forecast = post.predict(task.k, problems="same")
        row = {**told, "method": f"bayescale, {law}", "forecast": float(forecast.mean[0]), "status": post.status.name}
        for level in LEVELS:
            low, high = forecast.interval(level)[:, 0]
            row |= {f"in {level:g}": bool(low <= task.truth <= high), f"width {level:g}": float(high - low)}
        rows.append(row)
    return rows + [{**told, "method": name, "forecast": rival(task.counts, task.k)} for name, rival in RIVALS.items()]


def measure(repeats: int = 1, only: str = "") -> pd.DataFrame:
    """Score every method on every model.

    Args:
        repeats: Draws of the samples of each model.
        only: Sources whose name begins with this text.
    """
    rows = [row for repeat in range(repeats) for task in tasks(repeat, only) for row in scored(task)]
    return pd.DataFrame(rows)


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return errors, coverage and widths of intervals by source and method."""
    frame = frame.assign(error=frame["forecast"] - frame["truth"])
    frame["absolute"] = frame["error"].abs()
    grouped = frame.groupby(["source", "method"], sort=False)
    columns = {
        "models": grouped["model"].nunique(),
        "forecasts": grouped.size(),
        "mean absolute error": grouped["absolute"].mean(),
        "mean error": grouped["error"].mean(),
    }
    for level in LEVELS:
        for name in (f"in {level:g}", f"width {level:g}"):
            columns[name] = grouped[name].agg(lambda values: values.astype(float).mean())
    return pd.DataFrame(columns).reset_index()
