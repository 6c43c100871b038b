"""Stacking: weights from forecasts of held-out runs, beside the weights of the default.

    python -m benchmarks stack        measures what is missing and prints the table

Curves of one input are cut at a quarter of their largest scale. The runs below the cut are stacked, by cuts of their
own, and the mixture forecasts the runs above it, which took no part in the weights. Beside it stands the default
mixture of the same fits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import bayescale as bs
from bayescale.errors import InputError
from bayescale.evaluate.stack import CONCENTRATION, Scored, cuts_of, mixed, requested, scored, usable
from bayescale.model.designs import find_design, shape_weights
from benchmarks.calibration.nested import GROUPS
from benchmarks.calibration.pool import score
from benchmarks.core.markdown import grid
from benchmarks.core.methods.prediction import runs_of
from benchmarks.core.problems import Problem
from benchmarks.core.rows import store, stored

RESULTS = Path(__file__).parents[1] / "results" / "stack.json"
LEVELS = (0.5, 0.8, 0.95)
MOST = 16
"""Most curves of a source, evenly spaced among them."""
FEWEST = 6
"""Fewest runs below the cut: of fewer, a cut of their own leaves one or two to forecast."""
CONCENTRATIONS = (1.05, CONCENTRATION, 5.0)
SCORES = ("crps", "width", *(f"{level:g}" for level in LEVELS))
RESAMPLES = 2000
SETTINGS = bs.Nuts(warmup=150, draws=400, chains=2, least_ess=200.0)


def shapes(problem: Problem) -> dict[str, Any]:
    """Return the shapes of the default's law as candidates: with floor and plateau, with a floor, with neither."""
    names = shape_weights(find_design(problem.inputs), trusted=False)
    return {name: {"priors": {"terms": bs.Plateaus(plateau=name)}} for name in names}


def models(problem: Problem) -> dict[str, Any]:
    """Return the default and the law alone as candidates."""
    return {"default": "auto", "law alone": {"discrepancy": None}}


SETS: dict[str, Callable[[Problem], dict[str, Any]]] = {"shapes": shapes, "models": models}
"""Candidates by the name of their set."""


def default_weights(name: str, problem: Problem) -> list[float]:
    """Return the weights of the candidates in the default fit."""
    if name == "models":
        return [1.0, 0.0]
    return list(shape_weights(find_design(problem.inputs), trusted=False).values())


def chosen(problems: Sequence[Problem], most: int = MOST) -> list[Problem]:
    """Return the curves that are stacked: of one input, cut at a quarter of their scale, evenly spaced by source."""
    found: dict[str, list[Problem]] = {}
    for problem in problems:
        cut = problem.group in GROUPS and len(problem.inputs) == 1 and problem.split == "R=4"
        if cut and not problem.rises and len(problem.train) >= FEWEST:
            found.setdefault(problem.source, []).append(problem)
    picked = []
    for own in found.values():
        rows = np.unique(np.linspace(0, len(own) - 1, min(most, len(own))).round().astype(int))
        picked.append([own[i] for i in rows])
    # The first of every source, then the second: a run that is stopped has as many of each.
    return [own[i] for i in range(most) for own in picked if i < len(own)]


def measure(problems: Sequence[Problem], path: Path = RESULTS, most: int = MOST) -> Path:
    """Stack what is missing, and store a row a curve and set of candidates."""
    picked = chosen(problems, most)
    for number, problem in enumerate(picked):
        for name in SETS:
            rows = stored(path)
            if any(row["problem"] == problem.key and row["set"] == name for row in rows):
                continue
            store([*rows, measured(name, problem)], path)
        print(f"{number + 1} of {len(picked)}: {problem.key}", file=sys.stderr, flush=True)
    return path


def measured(name: str, problem: Problem) -> dict[str, Any]:
    """Return the row of one curve and set of candidates: scores of each weighting, in the order of `SCORES`."""
    row: dict[str, Any] = {"source": problem.source, "problem": problem.key, "set": name}
    runs = runs_of(problem)
    try:
        requests = requested(SETS[name](problem), 0, {"method": "auto", "settings": SETTINGS})
        splits, _ = usable(runs, cuts_of(runs, None, None), 3, requests)
    except InputError as error:
        return row | {"refused": str(error)}
    found = scored(runs, requests, splits, {"seed": 0, "progress": False})
    row |= {"fitted": len(runs), "forecasts": sum(map(len, found.densities))}
    count = len(found.fits)
    fits = {"default": weighted(found, default_weights(name, problem)), "equal": weighted(found, [1.0] * count)}
    fits |= {f"{concentration:g}": mixed(found, concentration) for concentration in CONCENTRATIONS}
    for weighting, fit in fits.items():
        told = score(problem, fit)
        row[weighting] = [float(f"{told[key]:.4g}") for key in SCORES]
        if fit.stacking is not None and weighting == f"{CONCENTRATION:g}":
            row["weights"] = [round(float(weight), 3) for weight in fit.stacking.weights]
    return row


def weighted(found: Scored, weights: Sequence[float]) -> bs.Fitted:
    """Return the candidates with given weights; those of weight zero are left out."""
    parts = [(fit, weight) for fit, weight in zip(found.fits.values(), weights, strict=True) if weight > 0]
    return bs.Mixture(
        tuple(part for fit, _ in parts for part in fit.components),
        tuple(weight * share for fit, weight in parts for share in fit.weights),
    )


def told(path: Path = RESULTS) -> str:
    """Return the table of each set: a row a source and weighting, and the means over sources."""
    table = pd.DataFrame([one for row in stored(path) for one in by_weighting(row)])
    refused = {row["problem"] for row in stored(path) if "refused" in row}
    parts = []
    for name, own in table.groupby("set", sort=False):
        base = own[own["weighting"] == "default"].set_index("problem")
        body = []
        for weighting, rows in own.groupby("weighting", sort=False):
            pairs = rows.set_index("problem")
            pairs = pairs.assign(crps_default=base["crps"], width_default=base["width"])
            means = pd.concat([means_of(source, one) for source, one in pairs.groupby("source", sort=False)])
            if weighting == f"{CONCENTRATION:g}":
                body += [cells(str(weighting), row) for row in means.to_dict("records")]
            body.append(cells(str(weighting), overall(means)))
        head = ["weights", "source", "curves", "CRPS / default", "width / default", "held 50/80/95"]
        parts += [f"Candidates: {name}.", grid(head, body)]
    return "\n\n".join([*parts, f"Refused: {len(refused)} curves."])


def by_weighting(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each weighting of a stored row."""
    shared = {key: row[key] for key in ("source", "problem", "set")}
    names = ("default", "equal", *(f"{concentration:g}" for concentration in CONCENTRATIONS))
    return [shared | {"weighting": n} | dict(zip(SCORES, row[n], strict=True)) for n in names if n in row]


def means_of(source: Any, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the means of a source: geometric of CRPS and width relative to the default, and shares inside."""
    ratios = {key: np.exp(np.log(rows[key] / rows[f"{key}_default"]).mean()) for key in ("crps", "width")}
    held = {f"{level:g}": rows[f"{level:g}"].mean() for level in LEVELS}
    return pd.DataFrame([{"source": source, "curves": len(rows)} | ratios | held])


def overall(means: pd.DataFrame) -> dict[str, Any]:
    """Return the means over sources, with a 95 % bootstrap interval over them of the CRPS relative to the default."""
    logs = np.log(means["crps"].to_numpy(float))
    picks = np.random.default_rng(0).integers(len(logs), size=(RESAMPLES, len(logs)))
    low, high = np.exp(np.quantile(logs[picks].mean(1), [0.025, 0.975]))
    better = f"mean over {len(means)} sources, CRPS {low:.3f} to {high:.3f}, {int((means['crps'] < 1.0).sum())} better"
    ratios = {key: np.exp(np.log(means[key]).mean()) for key in ("crps", "width")}
    held = {f"{level:g}": means[f"{level:g}"].mean() for level in LEVELS}
    return {"source": better, "curves": means["curves"].sum()} | ratios | held


def cells(weighting: str, row: dict[str, Any]) -> list[str]:
    """Return the cells of a row of the table."""
    held = "/".join(f"{row[f'{level:g}']:.2f}" for level in LEVELS)
    return [weighting, str(row["source"]), str(row["curves"]), f"{row['crps']:.3f}", f"{row['width']:.2f}", held]
