"""Which recipe: say from small runs which of two recipes is better at larger ones, and how sure that is.

    python -m benchmarks recipes            # scores every pair of recipes; about twenty minutes on two cores

Every method gets the same runs of both recipes and states the probability that one run of the first beats one run of
the second at each held-out scale. Rows lie in `results/recipe_choices.parquet`; `recipe_section` makes the part of
the decision page.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr

import bayescale as bs
from bayescale.decide.paired import Ratio, common_runs, moves, pair, quotient
from bayescale.posterior.posterior import Posterior
from benchmarks.core import methods
from benchmarks.core.problems import Problem, scale
from benchmarks.core.store import RESULTS, read_rows, write_rows
from benchmarks.decisions.recipe_pairs import Pair, matched, pairs
from benchmarks.decisions.recipe_variants import chances

ROWS = RESULTS / "recipe_choices.parquet"
OURS, SEPARATE, TRUSTING = "bayescale", "bayescale, recipes apart", "NUTS without discrepancy"
RANKING, USUAL = "ranking", "ranking at its usual hit rate"
SQUARES, BOOTSTRAP = "least squares", "residual bootstrap"
NAMES = (OURS, SEPARATE, TRUSTING, SQUARES, BOOTSTRAP, RANKING, USUAL)
FIFTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
AIM = 0.07
"""How far the observed frequency of a fifth may be from the stated probability."""
SHUFFLES = 20
"""Pairings of independent draws that are averaged."""
KEPT = 8
"""Separate fits that are remembered; neighbouring pairs share a recipe."""


# --- Methods ------------------------------------------------------------------------------------------------


def fitted(rows: pd.DataFrame, inputs: tuple[str, ...], cache: dict[Any, Posterior], **options: Any) -> Posterior:
    """Fit one recipe, or return its fit if a neighbouring pair has needed it already."""
    key = (hashlib.sha256(rows.to_csv().encode()).hexdigest(), inputs, tuple(options))
    if key not in cache:
        while len(cache) >= KEPT:
            cache.pop(next(iter(cache)))
        runs = bs.Runs.from_frame(rows, inputs=inputs, name="recipe")
        cache[key] = bs.fit(runs, seed=int(key[0][:7], 16), **options)
    return cache[key]


def trusting(inputs: tuple[str, ...]) -> dict[str, Any]:
    """Options of careful Bayes that trusts the law."""
    name = {1: "saturating_power", 2: "chinchilla"}[len(inputs)]
    return {"law": bs.laws.renamed(bs.laws.get(name), inputs), "discrepancy": None, "likelihood": "student"}


def rank(problem: Pair) -> float:
    """Ln of the ratio of losses at the largest common small scale."""
    common = common_small(problem)
    return float(common["loss_a"].iloc[-1] - common["loss_b"].iloc[-1])


def common_small(problem: Pair) -> pd.DataFrame:
    """Ln losses of both recipes at the fitted common scales, in order of scale."""
    rows = matched(problem.a, problem.b, problem.inputs)
    left, right = problem.a.iloc[[i for i, _ in rows]], problem.b.iloc[[j for _, j in rows]]
    table = pd.DataFrame(
        {
            "scale": scale(left, problem.inputs),
            "loss_a": np.log(left["loss"].to_numpy(float)),
            "loss_b": np.log(right["loss"].to_numpy(float)),
        }
    )
    return table.sort_values("scale", kind="stable")


def half(problem: Pair, which: str) -> Problem:
    """One recipe as the calibration benchmark's methods take it."""
    held = problem.held[list(problem.inputs)].assign(loss=problem.held[f"loss_{which}"])
    return Problem(
        problem.source,
        problem.cluster,
        problem.metric,
        which,
        problem.key,
        problem.inputs,
        getattr(problem, which),
        held,
    )


def chance(a: methods.Prediction, b: methods.Prediction) -> np.ndarray:
    """Probability that A is below B for independent mixtures, shape (held,)."""
    rng = np.random.default_rng(0)
    size = min(len(a.location), len(b.location))
    total = np.zeros(a.location.shape[1])
    for _ in range(SHUFFLES):
        i, j = rng.permutation(len(a.location))[:size], rng.permutation(len(b.location))[:size]
        gap = a.location[i] - b.location[j]
        total += ndtr(-gap / np.maximum(np.hypot(a.scale[i], b.scale[j]), 1e-9)).mean(0)
    return total / SHUFFLES


def apart(a: Posterior, b: Posterior, held: pd.DataFrame) -> np.ndarray:
    """Probability that A's run is below B's, from separate fits."""
    found = [posterior.predict(held, kind="run", force=True) for posterior in (a, b)]
    return chance(*(methods.Prediction(f.location, f.scale, "OK", 0.0) for f in found))


def stated(problem: Pair, cache: dict[Any, Posterior]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Probability of each method that the first recipe's run is better, shape (held,), and what else to record."""
    held = problem.held[list(problem.inputs)]
    a, b = (fitted(rows, problem.inputs, cache) for rows in (problem.a, problem.b))
    ratio = pair((problem.first, problem.second), a, b)
    forecast = ratio.predict(held, kind="run")
    options = trusting(problem.inputs)
    plain = [fitted(rows, problem.inputs, cache, **options) for rows in (problem.a, problem.b)]
    halves = [half(problem, which) for which in ("a", "b")]
    sign = rank(problem)
    result = {
        OURS: forecast.probability_below(1.0),
        SEPARATE: apart(a, b, held),
        TRUSTING: apart(plain[0], plain[1], held),
        SQUARES: chance(*methods.least_squares(halves)),
        BOOTSTRAP: chance(*methods.residual_bootstrap(halves)),
        RANKING: np.full(len(held), 0.5 if sign == 0 else float(sign < 0)),
    }
    both = quotient(*(posterior.predict(held, kind="mean", force=True) for posterior in (a, b)))
    mean = ratio.predict(held)
    extra = {
        "common": ratio.common,
        "paired": ratio.posterior is not None,
        "ok": ratio.posterior is None or ratio.posterior.status.name == "OK",
        "width": np.ptp(np.log(mean.interval(0.9)), axis=0),
        "width_apart": np.ptp(np.log(both.interval(0.9)), axis=0),
        "pit": (forecast.probability_below(np.exp(truth(problem)))),
        "variants": varied(problem, ratio).T.round(4),
    }
    return result, extra


def varied(problem: Pair, ratio: Ratio) -> np.ndarray:
    """Probabilities of the first recipe's run being better under other numbers of the ratio, shape (variant, held)."""
    table = common_runs(*ratio.fitted)
    return chances(table, [name for name in problem.inputs if moves(table[name])], problem.held)


def truth(problem: Pair) -> np.ndarray:
    """Ln of the ratio of losses at the held-out scales."""
    return np.log(problem.held["loss_a"].to_numpy(float) / problem.held["loss_b"].to_numpy(float))


def rows_of(problem: Pair, cache: dict[Any, Posterior]) -> list[dict[str, Any]]:
    """One row for each held-out scale."""
    begin = time.perf_counter()
    chances, extra = stated(problem, cache)
    seconds = time.perf_counter() - begin
    common = common_small(problem)
    beyond = scale(problem.held, problem.inputs) / common["scale"].iloc[-1]
    outcome = truth(problem)
    result = []
    for i in range(len(problem.held)):
        fields = {name: getattr(problem, name) for name in ("source", "cluster", "first", "second", "metric", "split")}
        more = {name: entry(value, i) for name, value in extra.items()}
        result.append(
            {
                **fields,
                "beyond": round(float(beyond[i]), 3),
                "truth": round(float(outcome[i]), 6),
                **more,
                "p": {name: round(float(value[i]), 5) for name, value in chances.items()},
                "seconds": round(seconds, 2),
            }
        )
    return result


def entry(value: Any, row: int) -> Any:
    """What a row records of something that is one for all rows, or has a number or several for each."""
    if np.ndim(value) == 0:
        return value
    return round(float(value[row]), 6) if np.ndim(value) == 1 else value[row].tolist()


def run(sources: Sequence[str] | None = None, path: Path = ROWS) -> Path:
    """Score every pair and write the rows.

    Args:
        sources: Names in `recipe_pairs.SOURCES`; all by default.
        path: Where the rows go; those of other sources stay.
    """
    chosen = pairs(sources)
    done = {p.source for p in chosen}
    kept = [row for row in read(path) if row["source"] not in done]
    cache: dict[Any, Posterior] = {}
    rows = []
    for number, problem in enumerate(chosen):
        rows += rows_of(problem, cache)
        if number % 50 == 49:
            print(f"{number + 1} of {len(chosen)} pairs", file=sys.stderr, flush=True)
    return write_rows(path, kept + rows)


def read(path: Path = ROWS) -> list[dict[str, Any]]:
    """Read rows that `run` wrote."""
    rows = read_rows(path)
    for row in rows:
        # Every row has every name in the file, and no number where it had none.
        row["p"] = {name: value for name, value in row["p"].items() if value is not None}
    return rows
