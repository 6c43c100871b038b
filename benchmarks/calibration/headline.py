"""The headline of README and overview: coverage by extrapolation factor beside least squares, and one case."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes

from bayescale import corpus
from bayescale.plot.style import BLUE, INK, MARKS, ORANGE, QUIET, STYLE, TRUTHS, dress, note
from benchmarks.calibration import pictures, sections
from benchmarks.calibration.tally import LINES, families, measured

USUAL = "least squares"
"""The rival: the fit that most people make."""
CASE = {"source": "printed figures", "family": "gpt3", "metric": "lambada_ppl_0shot", "split": "R=16"}
"""A published curve whose largest model is known to everybody, and which every reader can fit: it is built in."""
FACTORS = {"one input": (2, 4, 8, 16), "several inputs": (3, 10, 30)}
"""Extrapolation factors of the headline, by kind of problem."""
LEVEL = 0.95


def lines(group: str) -> dict[int, Any]:
    """Return the parts of the record at each extrapolation factor."""
    words = {"one input": "x beyond the data", "several inputs": "x the compute"}[group]
    named = {line.name: line for line in LINES}
    return {factor: named[f"{group}, {factor}{words}"] for factor in FACTORS[group]}


def covered(cells: pd.DataFrame, ours: str) -> pd.DataFrame:
    """Return the coverage of the default and of least squares on sources left out of tuning.

    Returns:
        One row a group and factor with results of both: `ours95` and `usual95`.
    """
    rows = []
    for group in FACTORS:
        for factor, line in lines(group).items():
            parts = {name: line.of(sections.own(cells, name, False)) for name in (ours, USUAL)}
            if not all(len(part) for part in parts.values()):
                continue
            table = {name: families(part) for name, part in parts.items()}
            shares = {
                "ours95": measured(table[ours], "cover95").value,
                "usual95": measured(table[USUAL], "cover95").value,
            }
            rows.append({"group": group, "factor": factor, **shares})
    return pd.DataFrame(rows)


def case(rows: pd.DataFrame, ours: str) -> pd.DataFrame:
    """Return the forecasts of both methods for the held-out run of the case that lies furthest out."""
    found = rows[(rows[list(CASE)] == pd.Series(CASE)).all(axis=1) & rows["method"].isin([ours, USUAL])]
    furthest = found[found["ratio"] == found["ratio"].max()]
    return furthest.set_index("method")[["ratio", "y", "q0.025", "q0.975"]].astype(float)


def text(cells: pd.DataFrame, rows: pd.DataFrame, ours: str) -> str:
    """Return the sentences of the README."""
    table = covered(cells, ours)
    one = table[table["group"] == "one input"]
    several = table[table["group"] == "several inputs"]
    return sections.render(
        "headline",
        factors=[f"{factor}" for factor in one["factor"]],
        usual=percents(one["usual95"]),
        ours=percents(one["ours95"]),
        several_factors=[f"{factor}" for factor in several["factor"]],
        several_usual=percents(several["usual95"]),
        several_ours=percents(several["ours95"]),
        case=case(rows, ours).to_dict("index"),
        rival=USUAL,
        method=ours,
    )


def percents(shares: pd.Series) -> list[str]:
    """Write shares as whole percentages."""
    return [f"{100 * share:.0f}" for share in shares]


def picture(cells: pd.DataFrame, rows: pd.DataFrame, ours: str) -> np.ndarray:
    """Draw coverage by extrapolation factor, and the case beside it."""
    with matplotlib.rc_context(STYLE):
        axes = pictures.sheet(
            2, 2, 3.1, "95 % intervals for held-out runs", "published families, data sets not used for tuning"
        )
        draw_coverage(axes[0], covered(cells, ours))
        draw_case(axes[1], case(rows, ours), ours)
    return axes


def draw_coverage(ax: Axes, table: pd.DataFrame) -> None:
    """Draw the share of held-out runs inside 95 % intervals by extrapolation factor."""
    ax.axhline(LEVEL, color=QUIET, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    for column, color in (("ours95", BLUE), ("usual95", ORANGE)):
        for group, dash in (("one input", "-"), ("several inputs", (0, (2, 1.2)))):
            part = table[table["group"] == group]
            ax.plot(part["factor"], part[column], **{**MARKS, "linestyle": dash}, color=color)
    ax.set_xscale("log")
    ax.set_xticks([2, 4, 8, 16, 30])
    ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}x"))
    ax.xaxis.set_minor_locator(ticker.NullLocator())
    ax.set_ylim(0.4, 1.02)
    ax.yaxis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=0))
    dress(ax)
    ax.set_xlabel("how far beyond the fitted runs")
    ax.set_title("fraction of measured values inside", loc="left", fontsize=9.5, fontweight="bold")
    note(ax, "bayescale", (0.03, 0.80), (0, 0), BLUE, "axes fraction")
    note(ax, USUAL, (0.03, 0.46), (0, 0), ORANGE, "axes fraction")
    note(ax, "dashed: several inputs", (0.03, 0.04), (0, 0), QUIET, "axes fraction")


def draw_case(ax: Axes, forecasts: pd.DataFrame, ours: str) -> None:
    """Draw the runs of the case and both intervals for the largest."""
    runs = corpus.load(CASE["family"], metric=CASE["metric"]).frame
    scale = runs["n_params"].to_numpy(float)
    # The largest fitted run follows from the largest run and how far beyond it lies.
    end = scale.max() / forecasts["ratio"].iloc[0]
    fitted = scale <= 1.01 * end
    ax.plot(scale[fitted], runs["loss"][fitted], **MARKS, color=INK)
    for method, color, shift in ((ours, BLUE, 1.0), (USUAL, ORANGE, 1.35)):
        low, high = forecasts.loc[method, ["q0.025", "q0.975"]]
        ax.vlines(scale.max() * shift, low, high, color=color, linewidth=4.0, alpha=0.8, zorder=2)
        if method == ours:
            note(ax, "bayescale", (scale.max() * shift, high), (0, 4), color, "data", ha="center", va="bottom")
        else:
            middle = float(np.sqrt(low * high))
            note(ax, method, (scale.max() * shift, middle), (6, 0), color, "data", va="center")
    ax.plot(scale.max(), forecasts["y"].iloc[0], **TRUTHS, color=INK, zorder=5)
    ax.set_xscale("log")
    # Room for the name right of the last bar.
    ax.set_xlim(scale.min() / 1.3, scale.max() * 40.0)
    dress(ax)
    ax.set_xlabel("parameters")
    ax.set_title("GPT-3: six models forecast 175B", loc="left", fontsize=9.5, fontweight="bold")
    note(ax, "ln perplexity on LAMBADA, zero-shot", (0.99, 0.94), (0, 0), QUIET, "axes fraction", ha="right")
    note(ax, "measured", (scale.max(), float(forecasts["y"].iloc[0])), (-10, -3), INK, "data", ha="right")
