"""The page about speed, made from `benchmarks/results/speed.json` and nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes

from bayescale.fitting.batches import FEWEST_IN_LOCKSTEP
from bayescale.plot.style import BLUE, ORANGE, figure_of, note
from benchmarks.calibration import pictures
from benchmarks.core import figures
from benchmarks.core.markdown import grid, templates
from benchmarks.core.rows import replace, stored
from benchmarks.speed.accelerator import RESULTS as ACCELERATOR
from benchmarks.speed.agreement import AIM
from benchmarks.speed.agreement import RESULTS as AGREEMENT
from benchmarks.speed.measure import GRADIENT_ROWS, GRADIENTS, RESULTS, ROUNDS
from benchmarks.speed.peers import ONE_INPUT, TWO_INPUTS

PAGE = Path(__file__).parents[2] / "docs" / "evidence" / "speed.md"
FEWEST = 3
"""Points from which a growth is drawn or stated."""
DEAREST, MOST_LAWS = 3.0, 10
"""Largest cost of a law's gradient that is aimed at, in Chinchilla's, and how many laws the page shows."""
LARGE = 100
"""Rows from which on the growth of the cost is fitted."""
render = templates(__file__)


def table_of(rows: Sequence[dict[str, Any]], kind: str) -> pd.DataFrame:
    """Measurements of one kind that did not fail."""
    return pd.DataFrame([row for row in rows if row["kind"][0] == kind and "failed" not in row])


def seconds(value: float) -> str:
    """Write a time."""
    if value < 1:
        return f"{1000 * value:.0f} ms"
    return f"{value:.1f} s" if value < 60 else f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"


def spread(values: Any) -> str:
    """Write the median of repeated times and their range."""
    values = np.asarray(values, float)
    middle = seconds(float(np.median(values)))
    return middle if len(values) == 1 else f"{middle} ({seconds(values.min())} to {seconds(values.max())})"


def times(value: float) -> str:
    """Write a ratio."""
    return f"{value:,.0f} x" if value >= 10 else f"{value:.1f} x"


LIGHT = "importance, 6,000 draws"
"""Our cheapest way to the sample sizes of peers, a key of `WAYS`."""


def exponent(x: Any, y: Any) -> float:
    """Slope of ln y against ln x."""
    return float(np.polyfit(np.log(np.asarray(x, float)), np.log(np.asarray(y, float)), 1)[0])


def against_peers(rows: Sequence[dict[str, Any]]) -> str:
    """Table of samplers at equal effective sample size, and of point fitters and bootstraps."""
    mine, others = table_of(rows, "ours"), table_of(rows, "peer")
    if mine.empty or others.empty:
        return ""
    typical = dict.fromkeys(("cold", "first", "later", "ess", "rhat"), "median")
    mine = (
        mine.reindex(columns=["peer", "note", *typical])
        .groupby("peer", as_index=False)
        .agg(typical | {"note": "first"})
    )
    base, light = (mine[mine["peer"] == f"bayescale, {way}, all cores"].iloc[0] for way in ("nuts", LIGHT))
    body = []
    for row in pd.concat([mine, others], ignore_index=True).to_dict("records"):
        sampler = np.isfinite(row.get("ess", np.nan))
        costs = [
            row["later"] / (row["ess"] if sampler else one["ess"]) * one["ess"] / one["later"] for one in (base, light)
        ]
        body.append(
            [
                row["peer"],
                seconds(row["cold"]) if np.isfinite(row.get("cold", np.nan)) else "",
                seconds(row["first"]),
                seconds(row["later"]),
                f"{row['ess']:.0f}" if sampler else "",
                f"{row['rhat']:.3f}" if sampler and np.isfinite(row["rhat"]) else "",
                times(row["later"] / base["later"]),
                *map(times, costs),
                str(row["note"]) if isinstance(row.get("note"), str) else "",
            ]
        )
    head = [
        "tool",
        "cold",
        "first fit",
        "another data set",
        "smallest ESS",
        "largest R-hat",
        "a posterior (NUTS of bayescale = 1)",
        "an effective draw (NUTS of bayescale = 1)",
        "an effective draw (importance sampling of bayescale = 1)",
        "remark",
    ]
    tried = {row["kind"][1] for row in rows if row["kind"][0] == "peer"}
    return render(
        "peers",
        table=grid(head, body),
        missing=[name for name in (*ONE_INPUT, *TWO_INPUTS) if name not in tried],
        failed=[
            (row["kind"][1], " ".join(row["failed"])) for row in rows if row["kind"][0] == "peer" and "failed" in row
        ],
    )


def warm_section(rows: Sequence[dict[str, Any]]) -> str:
    """Table of warm fits, cold starts, memory."""
    names = {
        "warm one input": "one input, 30 points, NUTS",
        "warm one input, importance": "one input, 30 points, importance sampling",
        "warm grid": "parameters and tokens, 40 runs, NUTS",
    }
    body = []
    for kind, name in names.items():
        table = table_of(rows, kind)
        if table.empty:
            continue
        first = table.iloc[0]
        leapfrogs = f"{first['leapfrogs']:.0f}" if first.get("leapfrogs") is not None else ""
        entry = [name, f"{int(first['families']):,}", spread(table["seconds"]), spread(table["each"])]
        entry += [f"{first['ess']:.0f}", leapfrogs if leapfrogs != "nan" else "", f"{table['good'].mean():.1%}"]
        body.append([*entry, spread(table["compile"]), f"{table['memory'].max():.1f} GB"])
    head = [
        "families",
        "number",
        "time of all",
        "time of one",
        "smallest ESS (median)",
        "leapfrogs per draw",
        "R-hat < 1.01, ESS > 400",
    ]
    cold, least = table_of(rows, "cold"), table_of(rows, "floor")
    walls = {}
    if not cold.empty:
        walls = {cached: spread(cold[[kind[1] == cached for kind in cold["kind"]]]["wall"]) for cached in ("no", "yes")}
    return render(
        "warm",
        table=grid([*head, "first call (compiles)", "memory peak"], body),
        without_cache=walls.get("no", ""),
        with_cache=walls.get("yes", ""),
        least="" if least.empty else spread(least["wall"]),
    )


def gradient_section(rows: Sequence[dict[str, Any]]) -> str:
    """The laws whose gradient costs most, beside Chinchilla's."""
    table = table_of(rows, "gradients")
    if table.empty:
        return ""
    costs = {law: cost["ratio"] for law, cost in table.iloc[-1]["laws"].items()}
    worst = sorted(costs, key=lambda law: -costs[law])
    body = [[f"`{law}`", f"{costs[law]:.1f}"] for law in worst[:MOST_LAWS]]
    return render(
        "gradients",
        rows=GRADIENT_ROWS,
        rounds=ROUNDS,
        gradients=GRADIENTS,
        shown=MOST_LAWS,
        laws=len(costs),
        median=np.median(list(costs.values())),
        dearest=f"{DEAREST:g}",
        over=[f"`{law}`" for law in worst if costs[law] > DEAREST],
        table=grid(["law", "time of a gradient (Chinchilla = 1)"], body),
    )


def agreement_section(path: Path = AGREEMENT) -> str:
    """Table of the ways to a posterior; empty where they were not compared."""
    if not path.exists():
        return ""
    stored = json.loads(path.read_text(encoding="utf-8"))
    body = [
        [
            row["way"],
            f"{row['means']}",
            "the same draws, to the last bit" if row["bitwise"] else f"{row['largest']:.1f}",
            "" if row["bitwise"] else f"{row['root_mean_square']:.2f}",
        ]
        for row in stored["rows"]
    ]
    worst = max(row["largest"] for row in stored["rows"])
    table = grid(["computation", "number of means", "largest difference", "root mean square"], body)
    return render("agreement", aim=AIM, met=worst <= AIM, table=table)


def accelerators(path: Path = ACCELERATOR) -> str:
    """What was measured on accelerators; empty where nothing was."""
    rows = stored(path)
    if not rows:
        return ""
    body = []
    for row in rows:
        head = [row.get("name", row["device"]), row["way"], f"{row['families']:,}"]
        if "failed" in row:
            body.append([*head, "fits, twice", "", "", row["failed"]])
        elif row["kind"] == "whole":
            body.append(
                [*head, "fits", seconds(row["seconds"]), seconds(row["each"]), f"first {seconds(row['first'])}"]
            )
        elif row["kind"] == "parts":
            sampled = row["modes"] + row["chains"]
            remark = f"modes {seconds(row['modes'])}, compiled in {seconds(row['compile'])}, {row['leapfrogs']:.1f} "
            remark += f"leapfrogs per draw, {row['longest_chain']:,} in the longest chain"
            each = seconds(sampled / row["families"])
            body.append([*head, "chains in lockstep, sampling alone", seconds(sampled), each, remark])
        else:
            each = seconds(row["sampling"] / row["families"])
            remark = f"with second attempts, compiled in {seconds(row['compile'])}"
            body.append([*head, "nested loops, sampling alone", seconds(row["sampling"]), each, remark])
    return render(
        "accelerators",
        fewest=f"{FEWEST_IN_LOCKSTEP:,}",
        table=grid(["device", "problem", "families", "measured", "time of all", "time of one", "remark"], body),
        compared=[(row["way"], row["agreement"]) for row in rows if "agreement" in row],
    )


def growth_section(rows: Sequence[dict[str, Any]], drawn: Path | None) -> str:
    """Words and tables about growth."""
    by_rows, by_families, by_law = (table_of(rows, kind) for kind in ("runs", "families", "constants"))
    if not len(by_rows) + len(by_families) + len(by_law):
        return ""
    large = by_rows[by_rows["rows"] >= LARGE] if len(by_rows) else by_rows
    return render(
        "growth",
        drawn=drawn,
        power=exponent(large["rows"], large["each"]) if len(large) >= FEWEST else None,
        large=LARGE,
        points=points_table(rows) if len(by_rows) > 2 else "",
        families=families_table(by_families) if len(by_families) else "",
        laws=laws_table(by_law) if len(by_law) else "",
    )


def points_table(rows: Sequence[dict[str, Any]]) -> str:
    """Fits of curves with more and more points."""
    body = []
    for name in ("checkpoints", "runs"):
        for r in table_of(rows, name).to_dict("records"):
            found = [f"{r['ess']:.0f}", f"{r['good']:.0%}", f"{r['memory']:.1f} GB"]
            body.append([name, f"{int(r['rows']):,}", seconds(r["each"]), *found])
    return grid(["points are", "points", "a fit", "smallest ESS (median)", "converged", "memory peak"], body)


def families_table(by_families: pd.DataFrame) -> str:
    """Fits of more and more families."""
    body = []
    for row in by_families.to_dict("records"):
        entry = [row["kind"][2], f"{int(row['families']):,}", seconds(row["seconds"]), seconds(row["each"])]
        body.append([*entry, f"{row['good']:.1%}", f"{row['memory']:.1f} GB"])
    return grid(["method", "families", "time of all", "time of one", "converged", "memory peak"], body)


def laws_table(by_law: pd.DataFrame) -> str:
    """Fits of laws with more and more constants."""
    by_law = by_law.groupby(["law", "constants"], as_index=False)[["each", "compile", "good", "leapfrogs"]].median()
    body = [
        [r["law"], f"{int(r['constants'])}", seconds(r["each"]), seconds(r["compile"]), f"{r['leapfrogs']:.0f}"]
        for r in by_law.sort_values("constants").to_dict("records")
    ]
    return grid(["law", "constants", "a fit", "first call (compiles)", "leapfrogs per draw"], body)


def draw(rows: Sequence[dict[str, Any]], path: Path) -> Path:
    """Seconds a fit against points, and seconds for all against families, on log scales."""
    axes = pictures.sheet(2, 2, 3.6, "How cost grows", "log scales; grey: in proportion", 0.0)
    by_families = table_of(rows, "families")
    if len(runs := table_of(rows, "runs")):
        line(axes[0], runs["rows"], runs["each"], BLUE, "independent runs")
    if len(averages := table_of(rows, "checkpoints")):
        line(axes[0], averages["rows"], averages["each"], ORANGE, "checkpoints", grows=False)
    axes[0].set_xlabel("points of a curve")
    axes[0].set_ylabel("seconds a fit")
    for method, color in (("nuts", BLUE), ("importance", ORANGE)):
        part = by_families[[kind[2] == method for kind in by_families["kind"]]] if len(by_families) else by_families
        if len(part):
            line(axes[1], part["families"], part["seconds"], color, {"nuts": "NUTS"}.get(method, "importance sampling"))
    axes[1].set_xlabel("families")
    axes[1].set_ylabel("seconds for all")
    written = figures.save(axes[0], path)
    pyplot.close(figure_of(axes[0]))
    return written


def line(ax: Axes, x: pd.Series, y: pd.Series, color: str, label: str, grows: bool = True) -> None:
    """Draw one curve, and where it grows a grey line of proportional growth through its last point."""
    x, y = x.to_numpy(float), y.to_numpy(float)
    if grows:
        ax.plot(x, y[-1] * x / x[-1], color="0.8", linewidth=1, zorder=0)
    ax.plot(x, y, marker="o", markersize=4, color=color)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.margins(y=0.12)
    note(ax, label, (float(x[-1]), float(y[-1])), (-10, -2) if grows else (0, 10), color, "data", ha="right")


def write(results: Path = RESULTS, page: Path = PAGE) -> list[Path]:
    """Write the page and its picture.

    Args:
        results: What `benchmarks.speed.measure` found.
        page: The page; the picture lies beside it.
    """
    stored = json.loads(results.read_text(encoding="utf-8"))
    rows, machine = stored["rows"], stored["machine"]
    page.parent.mkdir(parents=True, exist_ok=True)
    enough = min(len(table_of(rows, kind)) for kind in ("runs", "families")) >= FEWEST
    drawn = draw(rows, page.with_name(f"{page.stem}-growth.png")) if enough else None
    parts = [
        render("speed", machine=machine),
        warm_section(rows),
        against_peers(rows),
        growth_section(rows, drawn),
        gradient_section(rows),
        agreement_section(),
        accelerators(),
    ]
    replace(page, "\n\n".join(part.strip() for part in parts if part) + "\n")
    return [page] if drawn is None else [page, drawn]
