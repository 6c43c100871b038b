"""Gates: speed-ups ten and thirty times beyond four small scales of each of two recipes.

    python -m benchmarks speedups --gates        measures what is missing and prints the table (ten minutes)

Recipes are image models by training examples (alabdulmohsin2022) and learners by examples (lcdb), whose curves are long
enough: four scales of each recipe are fitted, and the loss of the second recipe is known ten or thirty times beyond.
The true factor is read off the curve of the first recipe, as in `speedups`. The four scales lie apart by the largest
of the factors `SPACINGS` for which both curves have them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.core.sources import table as rows_of
from benchmarks.decisions import speedups
from benchmarks.decisions.recipe_pairs import Pair, thinned

RESULTS = Path(__file__).parents[1] / "results" / "gates.json"
RATIOS = (10, 30)
SPACINGS = (3.0, 2.0, 1.5)
GATES = 4
"""Scales of each recipe that are fitted."""
NEAR = 0.05
"""Largest distance in ln x of a measured run from the scale that is wanted."""
MOST = 60
"""Most comparisons of a source at one ratio, spread evenly."""


def nearest(x: np.ndarray, wanted: np.ndarray) -> np.ndarray | None:
    """Return the indices of the values nearest to those wanted; None if one is missing or used twice."""
    found = np.abs(np.log(x)[None] - np.log(wanted)[:, None]).argmin(1)
    far = np.abs(np.log(x[found] / wanted)).max() > NEAR
    return None if far or len(set(found)) < len(wanted) else found


def gate(a: pd.DataFrame, b: pd.DataFrame, name: str, ratio: float) -> tuple[pd.DataFrame, pd.DataFrame, int] | None:
    """Return the fitted runs of both recipes, and the index of the second recipe's run in question; None if missing.

    Args:
        a: Curve of the first recipe: columns `name` and loss.
        b: Curve of the second.
        name: Input.
        ratio: Scale in question, divided by the largest fitted scale.
    """
    x, y = a[name].to_numpy(float), b[name].to_numpy(float)
    end = min(x.max(), y.max())
    asked = nearest(y, np.array([end]))
    for spacing in SPACINGS:
        wanted = end / ratio * spacing ** -np.arange(GATES - 1.0, -1.0, -1.0)
        first, second = nearest(x, wanted), nearest(y, wanted)
        if asked is not None and first is not None and second is not None:
            return a.iloc[first], b.iloc[second], int(asked[0])
    return None


def recipes() -> Iterator[tuple[str, str, str, dict[str, pd.DataFrame]]]:
    """Yield source, cluster, metric and curves by recipe, of recipes that are compared with one another."""
    rows = rows_of("alabdulmohsin2022")
    rows = rows[rows["family"].str.startswith("IC|")]
    for task, part in rows.groupby("task", sort=False):
        yield "image curves", str(task), "error", curves(part, "model")
    rows = rows_of("lcdb")
    for (number, metric), part in rows.groupby(["dataset", "metric"], sort=True):
        yield "lcdb", str(number), str(metric), curves(part[part["loss"] > 1e-4], "learner")


def curves(rows: pd.DataFrame, recipe: str) -> dict[str, pd.DataFrame]:
    """Return the mean loss by number of samples of each recipe."""
    return {
        str(label): own.groupby("n_samples", as_index=False)["loss"].mean()
        for label, own in rows.groupby(recipe, sort=True)
    }


def questions() -> list[tuple[Pair, int, float]]:
    """Return pairs with one held-out run, its number, and the true ln factor there, in a fixed order.

    The table counts each ratio of a source as a source.
    """
    found: dict[str, list[tuple[Pair, int, float]]] = {}
    for source, cluster, metric, by_recipe in recipes():
        for first, second in itertools.combinations(by_recipe, 2):
            a, b = by_recipe[first], by_recipe[second]
            for ratio in RATIOS:
                chosen = gate(a, b, "n_samples", ratio)
                if chosen is None:
                    continue
                end = b.iloc[chosen[2]]
                at, level = np.log(end["n_samples"]), np.log(end["loss"])
                truth = speedups.true_factor(
                    np.log(a["n_samples"].to_numpy(float)), np.log(a["loss"].to_numpy()), at, level
                )
                if truth is None:
                    continue
                held = pd.DataFrame({"n_samples": [end["n_samples"]], "loss_b": [end["loss"]]})
                small = (rows.reset_index(drop=True) for rows in chosen[:2])
                label = f"{source}, {ratio} times"
                pair = Pair(label, cluster, first, second, metric, f"gate {ratio}", ("n_samples",), *small, held)
                found.setdefault(label, []).append((pair, 0, truth))
    return [question for asked in found.values() for question in thinned(asked, MOST)]


def run(path: Path = RESULTS) -> list[dict[str, Any]]:
    """Answer the questions that are missing, store them, and return all rows."""
    return speedups.run(path, questions())
