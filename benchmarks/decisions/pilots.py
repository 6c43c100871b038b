"""Pilot choices: which runs of a published grid to buy next, for a forecast of one of its costliest runs.

    python -m benchmarks pilots

Each rule starts from the same few cheap runs, spends the same budget on pilots from the same list, and is judged by the
decisions that the default model makes after a refit. Only runs that were really made can be bought, so every pilot's
outcome is real.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

import bayescale as bs
from bayescale.evaluate.backtest import QUANTILES
from bayescale.fitting.fit import progress_bar
from bayescale.forecast import mixture_quantile
from bayescale.posterior.posterior import Posterior
from benchmarks.core import store
from benchmarks.core.problems import Problem, scale
from benchmarks.core.sources import problems
from benchmarks.core.store import short

SOURCES = ("overtrain", "epoch_chinchilla", "gemstones", "datablations", "routing grids", "steplaw")
"""Sources with grids of at least 25 runs of two inputs."""
LEAST = 25
METRICS = 2
"""Metrics of one family; more would say the same thing again."""
STARTS = 8
TARGET_FACTOR = 3.0
"""Targets are drawn among runs that cost at least the largest cost divided by this, a new one for each start."""
START_RUNS = 6
START_FACTOR = 10.0
"""Starts are drawn among runs that cost at most the target's cost divided by this."""
PILOT_FACTOR = 3.0
"""Pilots cost at most the target's cost divided by this,"""
BUDGET_FACTOR = 2.0
"""and all of them together the target's cost divided by this."""
BATCH = 4
RANDOM = 2
"""Draws of the random rule."""
RESULTS = store.RESULTS / "pilot_choices.parquet"

Rule = Callable[[Posterior, pd.DataFrame, dict[str, float], float, np.random.Generator], list[int]]


def grids() -> Iterator[tuple[Problem, pd.DataFrame]]:
    """Every grid with its runs and what each of them costs, one row a set of inputs."""
    counts: dict[tuple[str, str], int] = {}
    for problem in problems(SOURCES):
        family = (problem.source, problem.family)
        if problem.group != "several inputs" or problem.split not in ("k=10", "k=30") or len(problem.inputs) != 2:
            continue
        table = pd.concat([problem.train, problem.held], ignore_index=True)
        table = table.groupby(list(problem.inputs), as_index=False).mean()
        # All sizes of a routed model see the same tokens, so active parameters are its cost.
        routed = "n_params_active" in problem.inputs
        table["cost"] = table["n_params_active"] if routed else scale(table, problem.inputs)
        if len(table) < LEAST or counts.get(family, 0) >= METRICS or (problem.split == "k=30" and family in counts):
            continue
        counts[family] = counts.get(family, 0) + 1
        yield problem, table


def starts(problem: Problem, table: pd.DataFrame) -> Iterator[list[int]]:
    """Small designs of three sizes or more among the cheapest runs, drawn once and for all."""
    rng = np.random.default_rng(int(hashlib.sha256(problem.key.encode()).hexdigest()[:8], 16))
    cost = table["cost"].to_numpy(float)
    cheap = np.flatnonzero(cost <= cost.max() / START_FACTOR)
    made: set[tuple[int, ...]] = set()
    for _ in range(1000):
        if len(made) == STARTS or len(cheap) < START_RUNS:
            return
        chosen = tuple(sorted(int(i) for i in rng.choice(cheap, START_RUNS, replace=False)))
        first = table[problem.inputs[0]].iloc[list(chosen)]
        second = table[problem.inputs[1]].iloc[list(chosen)]
        if first.nunique() >= 3 and second.nunique() >= 2 and chosen not in made:
            made.add(chosen)
            yield list(chosen)


# --- Rules: rows of the list of candidates to buy, within the budget ----------------------------------------


def ours(
    posterior: Posterior, offers: pd.DataFrame, at: dict[str, float], budget: float, rng: np.random.Generator
) -> list[int]:
    """`decide.next_run`: information about the target's curve."""
    ranking = bs.decide.next_run(posterior, offers, batch=BATCH, budget=budget, **at)
    return list(ranking.batch)


def random(
    posterior: Posterior, offers: pd.DataFrame, at: dict[str, float], budget: float, rng: np.random.Generator
) -> list[int]:
    """Affordable pilots at random."""
    return fill(budget, offers, lambda bought: rng.random(len(offers)))


def largest(
    posterior: Posterior, offers: pd.DataFrame, at: dict[str, float], budget: float, rng: np.random.Generator
) -> list[int]:
    """The costliest pilot that can be paid, then the next."""
    return fill(budget, offers, lambda bought: offers["cost"].to_numpy(float))


def d_optimal(
    posterior: Posterior, offers: pd.DataFrame, at: dict[str, float], budget: float, rng: np.random.Generator
) -> list[int]:
    """Pilots that raise the determinant of the information about the law's constants most."""
    constants = {name: float(np.median(values)) for name, values in posterior.scaled.items()}
    names = list(constants)

    def slopes(frame: pd.DataFrame) -> np.ndarray:
        z = frame[list(posterior.law.inputs)].to_numpy(float) / posterior.job.reference

        def curve(logs: Any) -> Any:
            values = dict(zip(names, jax.numpy.exp(logs), strict=True))
            return jax.numpy.log(jax.vmap(lambda row: posterior.law.function(*row, **values))(z))

        with jax.enable_x64(True):
            return np.asarray(jax.jacfwd(curve)(np.log([max(constants[name], 1e-12) for name in names])))

    old, new = slopes(posterior.runs.frame), slopes(offers)
    base = old.T @ old + 1e-8 * np.eye(len(names))

    def gain(bought: list[int]) -> np.ndarray:
        matrix = base + new[bought].T @ new[bought]
        return np.log1p(np.einsum("ij,jk,ik->i", new, np.linalg.inv(matrix), new))

    return fill(budget, offers, gain)


def fill(budget: float, offers: pd.DataFrame, score: Callable[[list[int]], np.ndarray]) -> list[int]:
    """Buy the affordable pilot of the highest score until the budget or the batch is used up."""
    bought: list[int] = []
    cost = offers["cost"].to_numpy(float)
    while len(bought) < BATCH:
        free = (cost <= budget - cost[bought].sum()) & ~np.isin(np.arange(len(cost)), bought)
        if not free.any():
            break
        bought.append(int(np.argmax(np.where(free, score(bought), -np.inf))))
    return bought


RULES: dict[str, Rule] = {"bayescale": ours, "random": random, "largest": largest, "D-optimal": d_optimal}


def score(problem: Problem, table: pd.DataFrame, start: list[int], number: int) -> list[dict[str, Any]]:
    """Forecast the target after the pilots of each rule, one row a rule and draw."""
    inputs = list(problem.inputs)
    rng = np.random.default_rng([number, len(table)])
    dear = np.flatnonzero(table["cost"] >= table["cost"].max() / TARGET_FACTOR)
    target = int(rng.choice(dear))
    at = {name: float(table[name].iloc[target]) for name in inputs}
    top = float(table["cost"].iloc[target])
    offered = (table["cost"] <= top / PILOT_FACTOR) & ~table.index.isin(start)
    # In random order, so that no rule gains from how ties are broken.
    offers = table[offered].sample(frac=1.0, random_state=rng).reset_index(drop=True)
    budget = top / BUDGET_FACTOR

    def runs_with(bought: list[int]) -> bs.Runs:
        rows = pd.concat([table.iloc[start], offers.iloc[bought]])[[*inputs, "loss"]]
        return bs.Runs.from_frame(rows.reset_index(drop=True), inputs=inputs, name=problem.key)

    posterior = bs.fit(runs_with([]), seed=number, method="auto")
    chosen: list[tuple[str, list[int]]] = [("nothing", [])]
    for rule, choose in RULES.items():
        for draw in range(RANDOM if choose is random else 1):
            bought = choose(posterior, offers, at, budget, np.random.default_rng([number, draw]))
            # Another seed of a run cannot be bought from a published grid.
            chosen.append((rule, list(dict.fromkeys(bought))))
    refits = bs.fit_many([runs_with(bought) for _, bought in chosen], seed=number, method="auto")
    rows = []
    for (rule, bought), refit in zip(chosen, refits, strict=True):
        forecast = refit.predict(kind="run", force=True, **at)
        ends = np.exp(mixture_quantile(np.array(QUANTILES), forecast.location, forecast.scale))[:, 0]
        row = {"key": f"{problem.key}|{number}", "source": problem.source, "family": problem.family}
        row |= {"metric": problem.metric, "start": number, "rule": rule, "pilots": len(bought)}
        row |= {"spent": short(float(offers["cost"].iloc[bought].sum()) / top)}
        row |= {"y": float(table["loss"].iloc[target]), "status": refit.status.name}
        rows.append(row | {f"q{q:g}": short(float(end), 6) for q, end in zip(QUANTILES, ends, strict=True)})
    return [row | {"row": i, "rows": len(rows)} for i, row in enumerate(rows)]


def run(path: Path = RESULTS) -> Path:
    """Score every start of every grid that is not scored yet, and write all rows."""
    journal = path.with_suffix(".jsonl")
    kept = store.whole([*store.read_rows(path), *store.read_journal(journal)])
    done = {row["key"] for row in kept}
    work = [
        (problem, table, start, number)
        for problem, table in grids()
        for number, start in enumerate(starts(problem, table))
    ]
    todo = [item for item in work if f"{item[0].key}|{item[3]}" not in done]
    with progress_bar(len(todo), None) as advance:
        for item in todo:
            store.append(journal, score(*item))
            advance(1)
    return store.write_rows(path, store.whole([*kept, *store.read_journal(journal)]))
