"""Speed-ups: does the interval of the factor, with which one recipe equals another, hold as often as stated?

    python -m benchmarks speedups        measures what is missing and prints the table (a quarter of an hour)

Pairs of recipes with one input are cut as in `recipe_pairs`. The true factor at a held-out scale is read off the larger
runs of the first recipe: where its curve, between measured runs, has the loss that the second recipe has there. Pairs
whose answer lies beyond all runs are left out, since nobody knows it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import bayescale as bs
from benchmarks.core.estimates import estimate
from benchmarks.core.markdown import grid
from benchmarks.core.rows import store, stored
from benchmarks.decisions.recipe_pairs import SOURCES, Pair, pairs
from benchmarks.decisions.recipes import fitted

RESULTS = Path(__file__).parents[1] / "results" / "speedups.json"
MOST = 40
"""Most comparisons of a source, spread evenly."""
ENDS = (0.05, 0.5, 0.95)
LOWEST = -20.0
"""Stands in the file for ln of a factor below all that were considered."""
PAIRED, APART = "paired", "apart"


def questions() -> Iterator[tuple[Pair, int, float]]:
    """Yield a pair, the number of a held-out scale, and the true ln factor there: the farthest scale that has one."""
    for source in SOURCES:
        found = [question for pair in pairs([source]) if len(pair.inputs) == 1 for question in farthest(pair)]
        chosen = np.unique(np.linspace(0, len(found) - 1, min(MOST, len(found))).astype(int)) if found else []
        yield from (found[i] for i in chosen)


def farthest(pair: Pair) -> list[tuple[Pair, int, float]]:
    """Return the farthest held-out scale of a pair whose true factor is known, at most one."""
    name = pair.inputs[0]
    rows = [pair.a[[name, "loss"]], pair.held[[name, "loss_a"]].rename(columns={"loss_a": "loss"})]
    curve = pd.concat(rows).groupby(name)["loss"].mean()
    log_x, log_loss = np.log(curve.index.to_numpy(float)), np.log(curve.to_numpy())
    asked = zip(np.log(pair.held[name]), np.log(pair.held["loss_b"]), strict=True)
    factors = [true_factor(log_x, log_loss, at, level) for at, level in asked]
    return [(pair, i, factor) for i, factor in enumerate(factors) if factor is not None][-1:]


def true_factor(log_x: np.ndarray, log_loss: np.ndarray, at: float, level: float) -> float | None:
    """Return ln of the factor from a scale to the nearest one at which a measured curve has a loss; None if nowhere.

    Args:
        log_x: Logarithms of the scales, increasing, shape (run,).
        log_loss: Logarithms of the losses there.
        at: Logarithm of the scale in question.
        level: Logarithm of the loss.
    """
    start, end = log_loss[:-1] - level, log_loss[1:] - level
    crosses = np.flatnonzero(start * end <= 0.0)
    if not len(crosses):
        return None
    step = start[crosses] - end[crosses]
    part = np.divide(start[crosses], step, out=np.zeros(len(crosses)), where=step != 0.0)
    found = log_x[crosses] + part * np.diff(log_x)[crosses]
    return float(found[np.argmin(np.abs(found - at))] - at)


def answered(pair: Pair, number: int, truth: float) -> dict[str, Any]:
    """Return the row of one question: the true factor, and quantiles of what each way of comparing says."""
    name = pair.inputs[0]
    posts = {label: fitted(rows, pair.inputs, {}) for label, rows in (("a", pair.a), ("b", pair.b))}
    point = float(pair.held[name].iloc[number])
    row: dict[str, Any] = {"key": f"{pair.key}|{number}", "source": pair.source, "cluster": pair.cluster}
    row |= {"beyond": point / max(pair.a[name].max(), pair.b[name].max()), "truth": truth}
    for label, pairing in ((PAIRED, "auto"), (APART, "independent")):
        duel = bs.decide.compare(posts, at={name: point}, pairing=pairing).duels[0]
        factors = [duel.speedup[share] for share in ENDS]
        # Above 1000 the factor is not known, and None in the file; below 1/1000 it is zero, and `LOWEST` in the file.
        row[label] = [max(float(np.log(max(f, 1e-300))), LOWEST) if np.isfinite(f) else None for f in factors]
    return row


def run(path: Path = RESULTS, wanted: Sequence[tuple[Pair, int, float]] | None = None) -> list[dict[str, Any]]:
    """Answer the questions that are missing, store them, and return all rows; by default those of `questions`."""
    rows = {row["key"]: row for row in stored(path)}
    wanted = list(questions()) if wanted is None else wanted
    for count, (pair, number, truth) in enumerate(wanted):
        key = f"{pair.key}|{number}"
        if key in rows and abs(rows[key]["truth"] - truth) < 1e-9:
            continue
        rows[key] = answered(pair, number, truth)
        store([rows[f"{p.key}|{i}"] for p, i, _ in wanted if f"{p.key}|{i}" in rows], path)
        if count % 20 == 19:
            print(f"{count + 1} of {len(wanted)} comparisons", file=sys.stderr, flush=True)
    return [rows[f"{p.key}|{i}"] for p, i, _ in wanted]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table in Markdown: coverage of 90 % intervals and their widths, by source."""
    frame = pd.DataFrame(rows)
    for label in (PAIRED, APART):
        ends = np.array([[np.inf if end is None else end for end in row] for row in frame[label]])
        ends = np.where(ends <= LOWEST, -np.inf, ends)
        frame[f"held {label}"] = (ends[:, 0] <= frame["truth"]) & (frame["truth"] <= ends[:, 2])
        known = np.isfinite(ends[:, [0, 2]]).all(1)
        frame[f"width {label}"] = np.where(
            known, np.where(known, ends[:, 2], 0.0) - np.where(known, ends[:, 0], 0.0), np.inf
        )
    frame["ratio"] = frame[f"width {PAIRED}"] / frame[f"width {APART}"]
    body = []
    for source, part in [*frame.groupby("source", sort=False), ("all", frame)]:
        held = [
            estimate(part[f"held {label}"].astype(float), part["source"] + part["cluster"]) for label in (PAIRED, APART)
        ]
        finite = part["ratio"][np.isfinite(part["ratio"])]
        body.append(
            [
                str(source),
                str(len(part)),
                f"{part['beyond'].median():.1f}",
                *(f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f})" for one in held),
                *(f"{part[f'width {label}'].median():.2f}" for label in (PAIRED, APART)),
                f"{finite.median():.2f}",
            ]
        )
    head = ["source", "comparisons", "times beyond the runs", "90 % held: paired", "90 % held: apart"]
    return grid([*head, "ln width: paired", "ln width: apart", "paired / apart"], body)
