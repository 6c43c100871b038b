"""Plots of calibration: reliability and the probability integral transform."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from scipy.stats import binom

from bayescale import checked
from bayescale.checked import known_keywords
from bayescale.digits import factor_shown
from bayescale.errors import InputError, counted
from bayescale.evaluate.scores import covered
from bayescale.plot.decisions import crossover as crossover
from bayescale.plot.isoflop import fitted as fitted
from bayescale.plot.isoflop import isoflop as isoflop
from bayescale.plot.rows import need
from bayescale.plot.style import (
    BLUE,
    MARKS,
    ORANGE,
    PALETTE,
    QUIET,
    TRUTHS,
    drawing,
    dress,
    extremes,
    headline,
    key,
    key_below,
    label_ends,
    note,
)

# --- Pictures of many forecasts ----------------------------------------------------------------------------


@known_keywords
def reliability(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the observed coverage of intervals against their nominal coverage.

    Args:
        table: Columns method, level and coverage, as fractions; optionally low and high, the ends of an interval for
            the coverage (over families), which may be NaN.
        ax: Axes to draw into; by default those of a new figure.

    Raises:
        InputError: For missing columns or no rows.
    """
    need(table, ("method", "level", "coverage"))
    with drawing(ax) as ax:
        ax.plot([0, 1], [0, 1], color=QUIET, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
        ends: list[tuple[float, str, str]] = []
        ranges = {"low", "high"} <= set(table) and bool(table[["low", "high"]].notna().all(axis=1).any())
        for number, (method, rows) in enumerate(table.groupby("method", sort=False)):
            color = PALETTE[number % len(PALETTE)]
            rows = rows.sort_values("level")
            x, y = rows["level"].to_numpy(float), rows["coverage"].to_numpy(float)
            if ranges:
                # Points of several methods are drawn side by side, so that their bars do not overlap.
                shift = 0.004 * (number - 0.5 * (table["method"].nunique() - 1))
                ax.vlines(x + shift, rows["low"], rows["high"], color=color, alpha=0.55, linewidth=1.4)
                x = x + shift
            ax.plot(x, y, color=color, linewidth=1.6, marker="o", markersize=4.5, zorder=3)
            ends.append((float(y[-1]), str(method), color))
        lowest = min(extremes(table, c)[0] for c in ("level", "coverage", "low") if c != "low" or ranges)
        start = max(0.0, math.floor(10 * (lowest - 0.02)) / 10)
        ax.set_xlim(start, 1.01)
        ax.set_ylim(start, 1.01)
        ax.set_aspect("equal")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(ticker.MultipleLocator(0.1 if start >= 0.4 else 0.2))
            axis.set_major_formatter(ticker.PercentFormatter(1.0, symbol=" %"))
        ax.set_xlabel("stated level of the interval")
        ax.set_ylabel("share of held-out points inside")
        dress(ax)
        middle = start + 0.12 * (1 - start)
        turned = {"rotation": 45, "rotation_mode": "anchor", "va": "bottom"}
        note(ax, "as stated", (middle, middle), (-1, 3), QUIET, "data", **turned)
        note(ax, "below the line: overconfident", (1, 0), (-4, 6), QUIET, "axes fraction", ha="right")
        bars = "; bars: interval over families" if ranges else ""
        headline(ax, "Do the intervals hold?", f"coverage of central intervals{bars}")
        label_ends(ax, ends)
    return ax


@known_keywords
def held_out(frame: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw held-out runs and their forecasts (median and intervals), one row each.

    Args:
        frame: Columns family, setting, y and quantiles as in `Backtest.frame`, and ratio, which labels the rows if a
            family has several.
        ax: Axes to draw into; by default those of a new figure.

    Raises:
        InputError: For missing columns or no rows.
    """
    need(frame, ("family", "setting", "y", "q0.025", "q0.1", "q0.5", "q0.9", "q0.975"))
    height = np.arange(len(frame))[::-1]
    several, cuts = frame["family"].nunique() > 1, several_cuts(frame)
    labels = [
        (f"{row['family']}, " if several else "")
        + str(row["setting"])
        + (f", ratio {factor_shown(row['ratio'], 3)}" if cuts else "")
        for row in frame.to_dict("records")
    ]
    observed, inside = frame["y"].to_numpy(float), []
    with drawing(ax) as ax:
        for level, low, high, width in ((95, "q0.025", "q0.975", 2.0), (80, "q0.1", "q0.9", 6.0)):
            ends = frame[low].to_numpy(float), frame[high].to_numpy(float)
            ax.hlines(height, *ends, color=BLUE, alpha=0.5, linewidth=width, label=f"{level} % interval")
            inside.append(f"{int(covered(observed, *ends).sum())} inside {level} %")
        look = {**MARKS, "marker": "|", "markersize": 12.0, "markeredgecolor": BLUE, "markeredgewidth": 2.0}
        ax.plot(frame["q0.5"], height, **look, color=BLUE, label="median")
        ax.plot(observed, height, **TRUTHS, color=ORANGE, zorder=5, label="observed")
        ax.set_yticks(height, labels)
        ax.set_ylim(-0.6, len(frame) - 0.4)
        ax.margins(x=0.1)
        dress(ax, "x")
        told = f"{counted(len(frame), 'forecast' if cuts else 'run')}: {', '.join(reversed(inside))}"
        told += "; ratio: extrapolation factor" if cuts else ""
        headline(ax, "Held-out runs and their forecasts", told)
        key_below(ax)
    return ax


def several_cuts(frame: pd.DataFrame) -> bool:
    """Return whether a family was cut at several extrapolation factors; a held-out run then has several forecasts."""
    return "ratio" in frame and bool((frame.groupby("family")["ratio"].nunique() > 1).any())


@known_keywords
def pit(frame: pd.DataFrame, *, ax: Axes | None = None, bins: int = 10) -> Axes:
    """Draw a histogram of the forecast probability below each outcome (PIT), which is flat for calibrated forecasts.

    Args:
        frame: Column pit with that probability, and method where there are several.
        ax: Axes to draw into; by default those of a new figure.
        bins: Number of equal bins.

    Raises:
        InputError: For missing columns, no rows or values outside [0, 1].
    """
    need(frame, ("pit",))
    checked.options(bins=(bins, checked.whole(1, 1000)))
    values = frame["pit"].to_numpy(float)
    if not ((values >= 0) & (values <= 1)).all():
        raise InputError("Column 'pit' must hold probabilities in [0, 1] in every row.")
    methods = frame["method"].astype(str).to_numpy() if "method" in frame else np.repeat("", len(frame))
    names = list(dict.fromkeys(methods))
    edges = np.linspace(0, 1, bins + 1)
    smallest = min(int((methods == name).sum()) for name in names)
    with drawing(ax) as ax:
        low, high = binom.ppf([0.025, 0.975], smallest, 1 / bins) * bins / smallest
        ax.axhspan(low, high, color=QUIET, alpha=0.15, linewidth=0, zorder=1)
        ax.axhline(1.0, color=QUIET, linewidth=1.0, linestyle=(0, (4, 3)), zorder=2)
        tallest = high
        for number, name in enumerate(names):
            color = PALETTE[number % len(PALETTE)]
            heights, _ = np.histogram(values[methods == name], edges, density=True)
            tallest = max(tallest, heights.max())
            label = f"{name} ({counted(int((methods == name).sum()), 'point')})" if name else None
            if len(names) == 1:
                ax.stairs(heights, edges, fill=True, color=color, alpha=0.45, zorder=3)
            ax.stairs(heights, edges, color=color, linewidth=1.8, zorder=4, label=label, baseline=None)
        ax.set_xlim(0, 1)
        ax.set_ylim(0, 1.18 * tallest)
        ax.set_xlabel("forecast probability below the outcome (PIT)")
        ax.set_ylabel("density")
        dress(ax)
        headline(
            ax,
            "Where outcomes fell in their forecasts",
            f"flat: calibrated, high ends: overconfident; shaded: 95 % range for {smallest} independent outcomes",
        )
        if any(names):
            key(ax, loc="upper center", ncols=min(3, len(names)))
    return ax
