"""Measure forecasts of pass@k on the same problems, beside a power law and a Beta-binomial by maximum likelihood.

Of each model's counts in the source `coverage_counts` a hundred samples a problem are drawn without replacement. What
is forecast is the unbiased estimate of pass@k from all samples, at k = 1,000 and at the largest k that every problem
has samples for. Jailbreaks were sampled in batches of 60 until one succeeded: there the first batch of every problem is
known, and so is which problems were solved within k samples, exactly.
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
NEAR = 1_000
"""Samples a problem that at least are needed, and the smaller k of the forecasts."""
FAR = 5_000
"""From how many samples a problem on their number is the larger k of the forecasts."""
BATCH = 60
"""Samples in a batch of the jailbreaks."""
LAST = 10_020
"""Samples after which sampling of a jailbreak stopped without a success."""
STOPPED = "bon-jailbreaking|text"
"""Source whose sampling stopped after the first batch with a success."""
LAWS = ("exgaussian", "beta", "kumaraswamy")
LEVELS = (0.8, 0.95)
ROUNDING = 1e-9


class Task(NamedTuple):
    """One model on one set of problems: counts, numbers of samples, and the coverage at each of them."""

    source: str
    model: str
    counts: Counts
    k: tuple[int, ...]
    truth: tuple[float, ...]


def tasks(repeat: int = 0, only: str = "") -> Iterator[Task]:
    """Yield the models with enough problems and samples, and with a success among those that are drawn.

    Args:
        repeat: Which draw of the samples; jailbreaks have only the first.
        only: Sources whose name begins with this text.
    """
    frame = bs.corpus.frame("coverage_counts")
    for (source, model), rows in frame.groupby(["family", "run"], sort=True):
        sampled, correct = (rows[name].to_numpy().astype(np.int64) for name in ("n_sampled", "n_correct"))
        names = tuple(map(str, rows["problem"]))
        if not str(source).startswith(only):
            continue
        if source == STOPPED:
            if repeat == 0:
                yield first_batches(str(model), names, sampled, correct)
            continue
        most = int(sampled.min())
        if len(rows) < FEWEST_PROBLEMS or most < NEAR:
            continue
        rng = np.random.default_rng([zlib.crc32(f"{source} {model}".encode()), repeat])
        drawn = rng.hypergeometric(correct, sampled - correct, SAMPLES)
        if drawn.any():
            k = (NEAR, most) if most >= FAR else (NEAR,)
            truth = tuple(bs.coverage.pass_at_k(correct, sampled, list(k))["estimate"])
            yield Task(
                str(source), str(model), Counts(str(model), names, np.full(len(drawn), SAMPLES), drawn), k, truth
            )


def first_batches(model: str, names: tuple[str, ...], sampled: np.ndarray, correct: np.ndarray) -> Task:
    """Return the counts of the first batch of each problem, and which fraction was solved within more batches.

    A problem with one batch was solved in it, so its counts are those of this batch; all others had no success there.
    """
    first = np.where(sampled == BATCH, correct, 0)
    k = (-(-NEAR // BATCH) * BATCH, LAST)
    truth = tuple(float(((sampled <= one) & (correct > 0)).mean()) for one in k)
    return Task(STOPPED, model, Counts(model, names, np.full(len(first), BATCH), first), k, truth)


def power_law(counts: Counts, k: int) -> float:
    """Forecast by -ln coverage = a k^-b, fitted by least squares of logarithms to unbiased estimates up to n."""
    grid = np.unique(np.round(np.geomspace(1, counts.attempts.max(), 20)).astype(int))
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
    """Return a row for each method and k: its forecast, and for this package whether intervals hold the truth."""
    rows: list[dict[str, object]] = []
    told = [
        {"source": task.source, "horizon": horizon, "model": task.model, "k": k, "truth": truth}
        for horizon, k, truth in zip(("near", "far"), task.k, task.truth, strict=False)
    ]
    for law in LAWS:
        post = bs.coverage.fit(task.counts, law=law, seed=0)
        forecast = post.predict(list(task.k), problems="same")
        for place, about in enumerate(told):
            median = float(forecast.quantile(0.5)[place])
            row = {**about, "method": f"bayescale, {law}", "forecast": median, "status": post.status.name}
            for level in LEVELS:
                low, high = forecast.interval(level)[:, place]
                # Coverage of the same problems is a multiple of 1 / problems, computed with rounding errors.
                held = low - ROUNDING <= about["truth"] <= high + ROUNDING
                row |= {f"in {level:g}": bool(held), f"width {level:g}": float(high - low)}
            rows.append(row)
    for name, rival in RIVALS.items():
        rows += [{**about, "method": name, "forecast": rival(task.counts, about["k"])} for about in told]
    return rows


def measure(repeats: int = 1, only: str = "") -> pd.DataFrame:
    """Score every method on every model.

    Args:
        repeats: Draws of the samples of each model.
        only: Sources whose name begins with this text.
    """
    rows = [row for repeat in range(repeats) for task in tasks(repeat, only) for row in scored(task)]
    return pd.DataFrame(rows)


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return errors of the median, coverage and widths of intervals by source, horizon and method."""
    frame = frame.assign(error=frame["forecast"] - frame["truth"])
    frame["absolute"] = frame["error"].abs()
    grouped = frame.groupby(["source", "horizon", "method"], sort=False)
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
