"""Posteriors: the default of the package, and fits with another law, discrepancy or likelihood."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import bayescale as bs
from bayescale.fitting.executors import Here, own_executor
from bayescale.model.discrepancy import ALONG
from benchmarks.core.methods.prediction import Prediction, runs_of, seed_of
from benchmarks.core.problems import Problem


def sampled(problems: Sequence[Problem], **options: Any) -> Iterator[Prediction]:
    """Posterior forecasts with the given law, discrepancy and noise."""
    return forecast_with(problems, lambda runs, seed: bs.fit(runs, seed=seed, **options))


def forecast_with(problems: Sequence[Problem], fit: Callable[[bs.Runs, int], bs.Fitted]) -> Iterator[Prediction]:
    """Forecasts of what a function fits to runs with a seed."""

    def one(problem: Problem) -> Prediction:
        begin = time.perf_counter()
        posterior = fit(runs_of(problem), seed_of(problem))
        whole = posterior.predict(problem.held, kind="run", force=True)
        if "value_se" in problem.held:
            whole = whole.measured(problem.held["value_se"].to_numpy(float))
        step = max(1, len(whole.location) // 1000)
        forecast = dataclasses.replace(whole, location=whole.location[::step], scale=whole.scale[::step])
        notes = tuple(note.code for note in posterior.check(forecast) if note.severity == "warning")
        spent = time.perf_counter() - begin
        return Prediction(forecast.location, forecast.scale, posterior.status.name, spent, notes)

    with own_executor(len(problems)) as executor:
        # On one core an executor would do all before it gives the first, so that an interrupted run lost everything.
        yield from map(one, problems) if isinstance(executor, Here) else executor.map(one, problems)


def default(problems: Sequence[Problem]) -> Iterator[Prediction]:
    """The default of `bayescale.backtest`: importance sampling, and NUTS if the diagnostics of the weights fail."""
    return sampled(problems, method="auto")


def cautious(problems: Sequence[Problem]) -> Iterator[Prediction]:
    """An equal mixture of fits with discrepancy along the inputs and along their common scale."""

    def both(runs: bs.Runs, seed: int) -> bs.Mixture:
        discrepancies = [bs.Discrepancy(along=along) for along in ALONG]
        return bs.Mixture(
            tuple(
                bs.fit(runs, seed=seed, discrepancy=discrepancy, method="auto").first for discrepancy in discrepancies
            )
        )

    return forecast_with(problems, both)


def sampled_m4(problems: Sequence[Problem]) -> Iterator[Prediction]:
    """NUTS on M4, a power law between a ceiling and a floor, with normal noise and no discrepancy."""
    law = bs.laws.get("two_sided_power")
    return sampled(problems, law=law, discrepancy=None, likelihood="normal")


def no_discrepancy(problems: Sequence[Problem]) -> Iterator[Prediction]:
    """NUTS on the law of least squares with Student-t noise and no discrepancy, which assumes that the law is true."""
    noise = bs.Likelihood(residual_sd=0.01, residual_spread=1.0, tail=4.0)
    names = {1: "saturating_power", 2: "chinchilla", 3: "three_input_outer"}
    for problem in problems:
        law = bs.laws.renamed(bs.laws.get(names[len(problem.inputs)]), problem.inputs)
        yield from sampled([problem], law=law, discrepancy=None, likelihood=noise)
