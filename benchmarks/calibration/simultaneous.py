"""Simultaneous intervals: does a band over all held-out runs of a problem contain all of them as often as it says?

    python -m benchmarks simultaneous       fits a subsample of the problems again and stores a row each

The record keeps forecasts of single runs. A band needs joint draws: of the draws of all held-out runs together, a share
equal to the level lies within it everywhere. Every problem is reduced to the level of the smallest band that contains
its outcomes, which is uniform if joint forecasts are right.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import bayescale as bs
from bayescale.evaluate.backtest import LEVELS
from bayescale.fitting.fit import progress_bar
from benchmarks.calibration.tally import WHOLE
from benchmarks.core import store
from benchmarks.core.estimates import cluster_of, estimate
from benchmarks.core.markdown import grid, ranged, templates
from benchmarks.core.methods.prediction import runs_of, seed_of
from benchmarks.core.problems import DEVELOPMENT, Problem
from benchmarks.core.rows import store as store_rows
from benchmarks.core.rows import stored

RESULTS = store.RESULTS / "simultaneous.json"
MOST = 12
"""Most problems of a source and group, evenly spaced among its families."""
BATCH = 10
"""Problems after which rows are stored."""
render = templates(__file__)


def suited(problems: Sequence[Problem]) -> list[Problem]:
    """Return the subsample: of each source and group one problem a family in turn, with two held-out runs or more."""
    families: dict[tuple[str, str], dict[str, list[Problem]]] = {}
    for problem in problems:
        if problem.group in WHOLE and len(problem.held) > 1:
            families.setdefault((problem.source, problem.group), {}).setdefault(problem.family, []).append(problem)
    chosen = []
    for own in families.values():
        # The first problem of every family, then the second: metrics and splits take turns from family to family.
        turns = max(map(len, own.values()))
        order = [of[(turn + number) % len(of)] for turn in range(turns) for number, of in enumerate(own.values())]
        order = list({problem.key: problem for problem in order}.values())
        first = order[: len(own)] if len(own) >= MOST else order[:MOST]
        picks = np.unique(np.linspace(0, len(first) - 1, min(MOST, len(first))).round().astype(int))
        chosen += [first[i] for i in picks]
    return chosen


def measure(problems: Sequence[Problem], path: Path = RESULTS, progress: bool | None = None) -> Path:
    """Fit the problems that are missing with the default, and store a row each."""
    rows = stored(path)
    known = {row["key"] for row in rows}
    todo = [problem for problem in suited(problems) if problem.key not in known]
    with progress_bar(len(todo), progress) as advance:
        for begin in range(0, len(todo), BATCH):
            rows += measured(todo[begin : begin + BATCH])
            store_rows(rows, path)
            advance(BATCH)
    return path


def measured(problems: Sequence[Problem]) -> Iterator[dict[str, Any]]:
    """Yield a row a problem: what it is, and the level of the smallest band that contains all of its outcomes."""
    for problem in problems:
        begin = time.perf_counter()
        fit = bs.fit(runs_of(problem), seed=seed_of(problem), method="auto")
        forecast = fit.predict(problem.held, kind="run", force=True)
        draws = forecast.log_draws.reshape(-1, len(problem.held))
        band, widest = level_of(np.log(problem.held["loss"].to_numpy(float)), draws)
        yield {
            "key": problem.key,
            "source": problem.source,
            "family": problem.family,
            "group": problem.group,
            "held": len(problem.held),
            "n_train": len(problem.train),
            "band": round(band, 4),
            "widest": round(widest, 4),
            "seconds": round(time.perf_counter() - begin, 2),
        }


def level_of(y: np.ndarray, draws: np.ndarray) -> tuple[float, float]:
    """Return the level of the smallest band that contains an outcome, and of the widest single interval it needs.

    A band takes the central interval of one level at every point. Its own level is the share of draws that lie inside
    everywhere, which is less.

    Args:
        y: Outcomes, shape (point,).
        draws: Joint draws, shape (draw, point).
    """
    count = len(draws)
    # Twice the distance of a rank from the middle, of draws and outcomes alike.
    ranks = (np.argsort(np.argsort(draws, axis=0), axis=0) + 0.5) / count
    own = (draws < y).sum(0) / count
    farthest = np.abs(2.0 * ranks - 1.0).max(1)
    widest = np.abs(2.0 * own - 1.0).max()
    return float((farthest < widest).mean()), float(widest)


def table(path: Path = RESULTS) -> pd.DataFrame:
    """Return the stored rows with whether their source was developed on."""
    rows = pd.DataFrame(stored(path))
    return rows.assign(developed=rows["source"].isin(DEVELOPMENT), cluster=cluster_of(rows)) if len(rows) else rows


def section(path: Path = RESULTS) -> str:
    """Return the section of the calibration page, or nothing where nothing was measured."""
    rows = table(path)
    if not len(rows):
        return ""
    body = []
    for title, part in parts(rows):
        families = part.assign(**{f"b{level}": part["band"] <= level for level in LEVELS})
        families = families.assign(**{f"w{level}": part["widest"] <= level for level in LEVELS})
        means = families.groupby(["source", "family", "cluster"])[
            [f"{kind}{level}" for kind in "bw" for level in LEVELS]
        ].mean()
        clusters = means.index.get_level_values("cluster")
        shown = [ranged(estimate(means[f"b{level}"], clusters)) for level in LEVELS]
        alone = ranged(estimate(means["w0.8"], clusters))
        body.append([title, f"{len(part):,}", f"{len(means):,}", f"{part['held'].median():g}", *shown, alone])
    head = ["kind", "problems", "families", "held-out runs (median)", *(f"{100 * level:g} %" for level in LEVELS)]
    return render("simultaneous", table=grid([*head, "every run in its own 80 %"], body), problems=len(rows), most=MOST)


def parts(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the lines of the table: sources left out by kind of problem, then those of development."""
    kinds = {"one input": "one input", "lcdb": "LCDB learning curves", "several inputs": "several inputs"}
    for developed in (False, True):
        for group, name in kinds.items():
            part = rows[(rows["developed"] == developed) & (rows["group"] == group)]
            if len(part):
                yield f"{name}{' (tuning)' if developed else ''}", part
