"""Forecasts of values of any sign: simulated rewards, and published returns of agents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

import bayescale as bs

NAMES = ("simulated", "rl_depth", "il_games")
"""Data sets."""
SHAPES = ("rise to a ceiling", "rise without end", "sigmoid")
"""Shapes of simulated curves; noise has 1 to 10 % of the range of the fitted curve."""
LEVELS = (0.5, 0.8, 0.95)
SEED = 12
"""Seed of the simulated rewards; the scale of values and the priors of their noise were chosen with seed 11."""


class Question(NamedTuple):
    """Runs to fit, and what was measured beyond them.

    Attributes:
        source: Name of the data set or of the shape.
        runs: The fitted runs.
        at: Inputs of the held-out runs, shape (point,).
        ahead: Factor beyond the fitted runs by which a point is grouped, shape (point,).
        measured: Measured values, shape (point,).
        errors: Their standard errors, shape (point,); zero where unknown.
    """

    source: str
    runs: bs.Runs
    at: np.ndarray
    ahead: np.ndarray
    measured: np.ndarray
    errors: np.ndarray


def simulated(families: int = 99, seed: int = SEED) -> Iterator[Question]:
    """Yield simulated ladders of 7 to 13 runs over a factor of 100, with runs 2, 4 and 10 times beyond."""
    rng = np.random.default_rng(seed)
    ahead = np.array([2.0, 4.0, 10.0])
    for number in range(families):
        x = np.geomspace(1.0, 100.0, int(rng.integers(7, 14)))
        shape = SHAPES[number % 3]
        power, middle = rng.uniform(0.15, 0.6), rng.uniform(np.log(3.0), np.log(100.0))
        steepness, level, size = rng.uniform(0.5, 1.5), 50.0 * rng.normal(), np.exp(2.0 * rng.normal())
        everywhere = np.concatenate([x, 100.0 * ahead])
        curve = {
            "rise to a ceiling": -(everywhere**-power),
            "rise without end": np.log(everywhere),
            "sigmoid": 1.0 / (1.0 + np.exp(-steepness * (np.log(everywhere) - middle))),
        }[shape]
        sd = np.ptp(curve[: len(x)]) * np.exp(rng.uniform(np.log(0.01), np.log(0.1)))
        value = level + size * (curve + sd * rng.standard_normal(len(curve)))
        frame = pd.DataFrame({"flops": 1e18 * x, "value": value[: len(x)]})
        runs = bs.Runs.from_frame(frame, value=bs.ValueScale(), name=f"{shape} {number}")
        yield Question(shape, runs, 1e20 * ahead, ahead, value[len(x) :], np.zeros(3))


def rl_depth(most: float = 4.0) -> Iterator[Question]:
    """Yield curves of reinforcement learning by epoch, fitted up to a quarter of their length."""
    frame = bs.corpus.frame("rl_depth")
    ahead = np.array([1.25, 1.5, 2.0, 3.0, most])
    for (family, run), curve in frame.groupby(["family", "run"]):
        end = float(curve["step"].max()) / most
        early = curve[curve["step"] <= end]
        if len(early) < 8 or np.ptp(early["value"]) == 0.0:
            continue
        at = end * ahead
        nearest = [int(np.abs(curve["step"].to_numpy(float) - one).argmin()) for one in at]
        runs = bs.Runs.from_frame(
            early[["step", "value"]], inputs=["step"], value=bs.ValueScale(), name=f"{family} {run}"
        )
        yield Question("rl_depth", runs, at, ahead, curve["value"].to_numpy(float)[nearest], np.zeros(len(at)))


def il_games(cuts: Sequence[float] = (4.0, 10.0)) -> Iterator[Question]:
    """Yield returns of imitation learning in NetHack by the number of samples, at each size of the model."""
    frame = bs.corpus.frame("il_games")
    for size, rows in frame[frame["metric"] == "mean_return"].groupby("n_params"):
        for cut in cuts:
            seen = rows["n_samples"] <= rows["n_samples"].max() / cut
            if seen.sum() < 5 or seen.all():
                continue
            later = rows[~seen]
            table = rows.loc[seen, ["n_samples", "value", "value_se"]]
            runs = bs.Runs.from_frame(table, inputs=["n_samples"], value=bs.ValueScale(), name=f"{size:.3g} {cut:g}")
            at, measured, errors = (later[name].to_numpy(float) for name in ("n_samples", "value", "value_se"))
            yield Question("il_games", runs, at, np.full(len(at), cut), measured, errors)


def measure(names: Sequence[str] = NAMES) -> pd.DataFrame:
    """Fit the data sets and return a row for each held-out run: whether it lies in intervals, and its PIT."""
    makers = {"simulated": simulated, "rl_depth": rl_depth, "il_games": il_games}
    questions = [question for name in names for question in makers[name]()]
    fits = bs.fit_many([question.runs for question in questions], seed=0, method="auto")
    rows = []
    for question, fit in zip(questions, fits, strict=True):
        if isinstance(fit, bs.Failure):
            continue
        name = fit.law.inputs[0]
        forecast = fit.predict({name: question.at}, force=True).measured(question.errors)
        ends = {level: forecast.interval(level) for level in LEVELS}
        pit = forecast.probability_below(question.measured)
        for point, value in enumerate(question.measured):
            row = {"source": question.source, "ahead": question.ahead[point], "curve": question.runs.name}
            row |= {f"in {100 * level:g} %": low[point] <= value <= high[point] for level, (low, high) in ends.items()}
            rows.append(row | {"mean PIT": pit[point]})
    return pd.DataFrame(rows)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the number of curves, the coverage and the mean PIT of each data set by factor beyond the fitted runs."""
    groups = rows.groupby(["source", "ahead"], sort=False)
    table = groups.mean(numeric_only=True)
    table.insert(0, "curves", groups["curve"].nunique())
    return table.reset_index()
