"""Pooling: what the other families of a source say of a family with few runs.

    python -m benchmarks pool        measures what is missing and prints the tables (half an hour)

The curves of a source with one input are cut at a quarter of their largest scale. A family is forecast from 1, 4, 6 or
8 runs below the cut, with the other half of the source's families pooled in full, and by the default fit of those runs
alone. From one run no law can be fitted alone, so there the default has four. `pool_suites` adds suites of models.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import bayescale as bs
from bayescale.evaluate import scores
from benchmarks.calibration.nested import GROUPS
from benchmarks.calibration.pool_suites import measure_suites, told_suites
from benchmarks.core.markdown import grid
from benchmarks.core.problems import Problem, thin
from benchmarks.core.rows import store, stored

RESULTS = Path(__file__).parents[1] / "results" / "pool.json"
LEVELS = (0.5, 0.8, 0.95)
COUNTS = (1, 4, 6, 8)
"""Runs of the family that is forecast."""
ALONE = 4
"""Runs of the default fit where one run is pooled."""
FULL = 12
"""Most runs of the families that are pooled."""
MOST = 16
"""Most curves of a source, evenly spaced among them."""
FEWEST = 8
"""Fewest curves of a source."""
FOLDS = 2
SETTINGS = bs.Nuts(warmup=150, draws=500, chains=2, least_ess=200.0)
SPREADS = ("c", "discrepancy", "residual_sd")
VARIANTS: dict[str, dict[str, Any]] = {
    "exponents": {},
    "exponents and spreads": {"pooled": SPREADS},
    "exponents and spreads, correlated": {"pooled": SPREADS, "correlated": True},
}
"""Options of `bayescale.pool`, by name."""


class Curve(NamedTuple):
    """A curve of a family, cut.

    Attributes:
        problem: The problem whose rows it has.
        full: All of its runs, thinned.
    """

    problem: Problem
    full: bs.Runs

    def few(self, count: int) -> bs.Runs | None:
        """Return so many runs below the cut, or None where there are not enough."""
        rows = self.problem.train.sort_values(self.problem.inputs[0], ignore_index=True)
        if rows[self.problem.inputs[0]].nunique() < max(count, 2):
            return None
        runs = bs.Runs.from_frame(rows, inputs=self.problem.inputs, name=self.problem.key)
        if count == 1:
            return runs.select([len(rows) - 1])
        kept = thin(rows, self.problem.inputs, count)
        return runs.select(kept.index.to_numpy()) if len(kept) == count else None


def curves(problems: Sequence[Problem], most: int = MOST) -> dict[str, list[Curve]]:
    """Return the curves of each source, by its name and that of the input."""
    found: dict[str, list[Problem]] = {}
    for problem in problems:
        if problem.group in GROUPS and len(problem.inputs) == 1 and problem.split == "R=4" and not problem.rises:
            found.setdefault(f"{problem.source}, {problem.inputs[0]}", []).append(problem)
    picked = {}
    for source, own in found.items():
        if len(own) >= FEWEST:
            rows = np.unique(np.linspace(0, len(own) - 1, min(most, len(own))).round().astype(int))
            picked[source] = [Curve(own[i], full_of(own[i])) for i in rows]
    return picked


def full_of(problem: Problem) -> bs.Runs:
    """Return the runs of a problem below and above the cut."""
    both = pd.concat([problem.train, problem.held]).sort_values(problem.inputs[0], ignore_index=True)
    both = thin(both, problem.inputs, FULL)
    return bs.Runs.from_frame(both, inputs=problem.inputs, name=problem.key)


def measure(problems: Sequence[Problem], path: Path = RESULTS, most: int = MOST) -> Path:
    """Score the variants that are missing on each source, and store a row a source, variant and number of runs."""
    chosen = curves(problems, most)
    alone: dict[str, dict[Any, dict[str, float]]] = {}
    for variant, options in VARIANTS.items():
        for source, own in chosen.items():
            rows = stored(path)
            if any(row["source"] == source and row["variant"] == variant for row in rows):
                continue
            if source not in alone:
                alone[source] = default_scores(own)
            found = list(scored(own, options, alone[source]))
            store(rows + [{"source": source, "variant": variant} | row for row in found], path)
            print(f"{source}: {variant} done", file=sys.stderr)
    return measure_suites(path)


def default_scores(own: Sequence[Curve]) -> dict[Any, dict[str, float]]:
    """Return the scores of the default fit, by curve and number of runs."""
    asked = [
        ((number, count), runs)
        for count in COUNTS
        if count > 1
        for number, curve in enumerate(own)
        if (runs := curve.few(count)) is not None
    ]
    results = bs.fit_each([runs for _, runs in asked], seed=0, method="auto", settings=SETTINGS, progress=False)
    found = {}
    for index, result in results:
        if not isinstance(result, bs.Failure):
            key = asked[index][0]
            found[key] = score(own[key[0]].problem, result)
    return found


def scored(own: Sequence[Curve], options: dict[str, Any], alone: dict[Any, dict[str, float]]) -> list[dict[str, Any]]:
    """Return rows of scores, one a number of runs: of pooled fits, and of default fits of the same curves."""
    families = {name: i for i, name in enumerate(dict.fromkeys(curve.problem.family for curve in own))}
    pairs: dict[int, list[tuple[dict[str, float], dict[str, float]]]] = {count: [] for count in COUNTS}
    for fold in range(FOLDS):
        # All metrics of a family are on one side.
        here = [families[curve.problem.family] % FOLDS == fold for curve in own]
        others = {curve.full.name: curve.full for curve, mine in zip(own, here, strict=True) if not mine}
        if len(others) < 3:
            continue
        joint = bs.pool(others, seed=0, settings=SETTINGS, **options)
        for count in COUNTS:
            for number, curve in enumerate(own):
                base = alone.get((number, ALONE if count == 1 else count))
                runs = curve.few(count) if here[number] else None
                if base is not None and runs is not None:
                    pairs[count].append((score(curve.problem, joint.fit(runs)), base))
    return [summary(count, own) for count, own in pairs.items() if own]


def score(problem: Problem, fit: bs.Fitted) -> dict[str, float]:
    """Return the scores of a forecast of the held-out runs."""
    forecast = fit.predict(problem.held, kind="run", force=True)
    y = np.log(problem.held["loss"].to_numpy(float))
    pit = scores.pit(y, forecast.location, forecast.scale)
    low, high = np.log(forecast.quantile([0.025, 0.975]))
    inside = {f"{level:g}": float((np.abs(pit - 0.5) <= level / 2).mean()) for level in LEVELS}
    crps = float(scores.crps(y, forecast.location, forecast.scale).mean())
    return {"crps": crps, "width": float(np.median(high - low))} | inside


def summary(count: int, pairs: Sequence[tuple[dict[str, float], dict[str, float]]]) -> dict[str, Any]:
    """Return the row of a number of runs: means of scores, medians of widths, of both methods."""
    parts = [pd.DataFrame(side) for side in zip(*pairs, strict=True)]
    row: dict[str, Any] = {"runs": count, "curves": len(pairs)}
    for name, table in zip(("pooled", "alone"), parts, strict=True):
        means = table.drop(columns="width").mean()
        row |= {f"{name}_{key}": float(f"{value:.4g}") for key, value in means.items()}
        row[f"{name}_width"] = float(f"{table['width'].median():.4g}")
    ratio = np.log(parts[0]["crps"] / parts[1]["crps"]).mean()
    return row | {"crps_ratio": float(f"{np.exp(ratio):.4g}")}


def told(path: Path = RESULTS) -> str:
    """Return the table of each variant: a row a source and number of runs, and the means over sources."""
    table = pd.DataFrame([row for row in stored(path) if row["variant"] in VARIANTS])
    parts = []
    for variant, own in table.groupby("variant", sort=False):
        body = [cells(row["source"], pd.DataFrame([row])) for _, row in own.sort_values(["runs", "source"]).iterrows()]
        body += [cells("mean over sources", part) for _, part in own.groupby("runs")]
        head = ["source", "runs", "curves", "CRPS, pooled / alone", "width, pooled / alone", "pooled 50/80/95", "alone"]
        parts += [f"Pooled: {variant}.", grid(head, body)]
    return "\n\n".join([*parts, *filter(None, [told_suites(path)])])


def cells(name: str, rows: pd.DataFrame) -> list[str]:
    """Return the cells of a row of the table, means over some rows."""
    held = ["/".join(f"{rows[f'{side}_{level:g}'].mean():.2f}" for level in LEVELS) for side in ("pooled", "alone")]
    crps = np.exp(np.log(rows["crps_ratio"]).mean())
    width = np.exp(np.log(rows["pooled_width"] / rows["alone_width"]).mean())
    return [name, str(rows["runs"].iloc[0]), str(rows["curves"].sum()), f"{crps:.2f}", f"{width:.2f}", *held]
