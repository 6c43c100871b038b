"""Pictures of the calibration page: each takes tables of `tally` and returns its axes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from bayescale.plot.style import (
    BLUE,
    INK,
    MARKS,
    ORANGE,
    PALETTE,
    QUIET,
    SHADE,
    STYLE,
    TRUTHS,
    dress,
    figure_of,
    new_axes,
    note,
    short,
)
from benchmarks.calibration import tally
from benchmarks.core import estimates
from benchmarks.core.methods import METHODS
from benchmarks.core.problems import Problem, scale

STATED = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Levels of the reliability diagrams."""
GRID = np.round(np.arange(0.02, 0.99, 0.02), 2)
"""Where distribution functions of the PIT are compared."""
BINS = 10
RIVALS = tuple(PALETTE[number] for number in (1, 2, 3, 5, 6))
"""Colours of rivals; the one left out is hard to tell from the first in a small picture."""
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (2, 1.2)))


def looks(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour and dashes of each method, ours first: the same in every picture."""
    rivals = [name for name in METHODS if name in names and name != names[0]]
    result = {names[0]: {"color": BLUE, "linewidth": 2.4, "zorder": 5}}
    for number, name in enumerate(rivals):
        color, dash = RIVALS[number % len(RIVALS)], DASHES[number // len(RIVALS)]
        result[name] = {"color": color, "linestyle": dash, "linewidth": 1.3, "zorder": 3}
    return result


def sheet(count: int, columns: int, height: float, title: str, subtitle: str, foot: float = 0.0) -> np.ndarray:
    """Return `count` axes under a title, `foot` inches left free below them."""
    rows = math.ceil(count / columns)
    total = 0.75 + foot + height * rows
    axes = new_axes(count, columns, total)
    figure = figure_of(axes[0])
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine), "a figure made by new_axes"
    engine.set(rect=(0, foot / total, 1, 1 - (0.62 + foot) / total), wspace=0.04, hspace=0.05)
    figure.text(0.01, 1 - 0.08 / total, title, fontsize=11, fontweight="bold", va="top")
    figure.text(0.01, 1 - 0.30 / total, subtitle, color=QUIET, fontsize=9, va="top")
    return axes


def legend_below(axes: np.ndarray, names: Sequence[str], dots: bool = False) -> None:
    """Write the methods under all panels, as lines or as dots."""
    styles = {name: dot(look, 7.0) if dots else look for name, look in looks(names).items()}
    handles = [Line2D([], [], label=name, **style) for name, style in styles.items()]
    options: dict[str, Any] = {"loc": "lower center", "ncols": 4, "frameon": False, "fontsize": 8.5, "labelcolor": INK}
    figure_of(axes[0]).legend(handles=handles, handlelength=2.0, columnspacing=1.4, **options)


def dot(look: dict[str, Any], size: float) -> dict[str, Any]:
    """Style of a method's dot; squares stand where a method's line has dashes."""
    shape = "s" if look.get("linestyle", "-") != "-" else "o"
    return {**MARKS, "marker": shape, "markersize": size, "color": look["color"]}


def reliability(rows: pd.DataFrame, panels: dict[str, pd.Series], names: Sequence[str], subtitle: str) -> np.ndarray:
    """Draw coverage against the stated level, a panel a part of the benchmark, a line a method.

    Args:
        rows: Rows of all methods.
        panels: Which keys of problems belong to each panel.
        names: Methods, ours first.
        subtitle: What the rows are.
    """
    with matplotlib.rc_context(STYLE):
        # Two and four panels make fuller rows of two.
        columns = {1: 1, 2: 2, 4: 2}.get(len(panels), 3)
        height = 2.5 if columns == 3 else 3.5
        axes = sheet(len(panels), columns, height, "Coverage of intervals", subtitle, foot=0.68)
        for ax, (title, keys) in zip(axes, panels.items(), strict=True):
            ax.plot([0, 1], [0, 1], color=QUIET, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
            count = 0
            for name, look in looks(names).items():
                part = rows[(rows["method"] == name) & rows["key"].isin(keys)]
                covers = [coverage(part, level) for level in STATED]
                ax.plot(STATED, [found.value for found in covers], **look)
                if name == names[0]:
                    count = covers[0].families
                    ends = [[found.low for found in covers], [found.high for found in covers]]
                    ax.vlines(STATED, *ends, color=BLUE, alpha=0.45, linewidth=2.0, zorder=4)
            ax.set_xlim(0, 1)
            ax.set_ylim(0, 1)
            ax.set_aspect("equal")
            percents(ax)
            dress(ax)
            ax.set_title(title, loc="left", fontsize=9.5, fontweight="bold")
            note(ax, f"{count} families", (1, 0), (-4, 5), QUIET, "axes fraction", ha="right")
        frame_labels(axes, columns, "nominal coverage", "coverage")
        legend_below(axes, names)
    return axes


def coverage(part: pd.DataFrame, level: float) -> estimates.Estimate:
    """Estimate the coverage of one method's central intervals at any level."""
    inside = ((part["pit"] - 0.5).abs() <= 0.5 * level + 1e-12).astype(float)
    by_cell = inside.groupby([part["source"], part["family"], part["cluster"], part["key"]]).mean()
    by_family = by_cell.groupby(level=[0, 1, 2]).mean()
    return estimates.estimate(by_family.to_numpy(), by_family.index.get_level_values(2))


def percents(ax: Axes) -> None:
    """Label both axes in percent."""
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(ticker.MultipleLocator(0.2))
        axis.set_major_formatter(ticker.PercentFormatter(1.0, symbol=""))


def frame_labels(axes: np.ndarray, columns: int, x: str, y: str) -> None:
    """Name the axes once: below the lowest panel of each column and left of each row."""
    for number, ax in enumerate(axes):
        if number + columns >= len(axes):
            ax.set_xlabel(f"{x}, %", fontsize=9)
        if number % columns == 0:
            ax.set_ylabel(f"{y}, %", fontsize=9)


def pit(rows: pd.DataFrame, panels: dict[str, pd.Series], subtitle: str) -> np.ndarray:
    """Draw histograms of the PIT, and below them how far its distribution function is from the diagonal.

    The envelope is simultaneous: the largest departure of bootstrapped functions from ours, in standard errors, stays
    inside it in 95 % of 1,000 draws of families.

    Args:
        rows: Rows of one method.
        panels: Which keys of problems belong to each column.
        subtitle: What the rows are.
    """
    columns = len(panels)
    with matplotlib.rc_context(STYLE):
        axes = sheet(2 * columns, columns, 2.3, "PIT: measured values in their forecast distributions", subtitle)
        edges = np.linspace(0, 1, BINS + 1)
        for number, (title, keys) in enumerate(panels.items()):
            part = rows[rows["key"].isin(keys)]
            # A value of exactly 0 belongs to the first bin.
            steps = tally.pooled_pit(part, edges[1:])
            heights = np.diff(np.concatenate([[0.0], steps.to_numpy().mean(0)])) * BINS
            ax = axes[number]
            ax.axhline(1.0, color=QUIET, linewidth=1.0, linestyle=(0, (4, 3)), zorder=4)
            ax.stairs(heights, edges, fill=True, color=BLUE, alpha=0.45)
            ax.stairs(heights, edges, color=BLUE, linewidth=1.4, baseline=None)
            ax.set_ylim(0, max(2.0, 1.1 * heights.max()))
            ax.set_title(title, loc="left", fontsize=8.5, fontweight="bold", pad=18)
            note(ax, f"{len(steps)} families", (0, 1), (0, 5), QUIET, "axes fraction")
            gap, error, width = departure(tally.pooled_pit(part, GRID), len(part))
            below = axes[number + columns]
            below.fill_between(GRID, -width * error, width * error, color=QUIET, alpha=0.18, linewidth=0)
            below.axhline(0.0, color=QUIET, linewidth=1.0, linestyle=(0, (4, 3)))
            below.plot(GRID, gap, color=BLUE, linewidth=1.8)
            limit = max(0.1, 1.15 * float(np.max(np.abs([gap, width * error]))))
            below.set_ylim(-limit, limit)
            below.set_xlabel("PIT", fontsize=9)
            for panel in (ax, below):
                panel.set_xlim(0, 1)
                panel.xaxis.set_major_locator(ticker.MultipleLocator(0.5))
                panel.tick_params(labelsize=8)
                dress(panel)
        axes[0].set_ylabel("density", fontsize=9)
        axes[columns].set_ylabel("ECDF minus uniform", fontsize=9)
    return axes


def departure(table: pd.DataFrame, rows: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Distance of the pooled distribution function from the uniform one, its standard errors, and the envelope's width.

    Args:
        table: A row a family, columns of the grid, clusters as the index.
        rows: Number of outcomes; errors are at least those of as many independent ones.
    """
    values, grid = table.to_numpy(), np.asarray(table.columns, float)
    names, number = np.unique(table.index.to_numpy(str), return_inverse=True)
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, number, values)
    draws = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), estimates.RESAMPLES)
    again = (draws @ sums) / (draws @ np.bincount(number))[:, None]
    middle = values.mean(0)
    error = np.maximum(again.std(0), np.sqrt(grid * (1 - grid) / rows))
    furthest = np.abs((again - middle) / error).max(1)
    return middle - grid, error, float(np.quantile(furthest, 0.95))


def sharpness(
    table: pd.DataFrame, names: Sequence[str], parts: dict[str, tuple[str, ...]], subtitle: str
) -> np.ndarray:
    """Draw the width of the 95 % interval against its coverage, a dot a method.

    Args:
        table: Cells of problems that every method has.
        names: Methods, ours first.
        parts: Groups of problems in each panel.
        subtitle: What the cells are.
    """
    with matplotlib.rc_context(STYLE):
        axes = sheet(len(parts), 2, 2.7, "Coverage and width of 95 % intervals", subtitle, foot=0.68)
        for ax, (title, groups) in zip(axes, parts.items(), strict=True):
            part = tally.families(table[table["group"].isin(groups)])
            ax.axvline(0.95, color=QUIET, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
            for name, look in looks(names).items():
                own = part[part["method"] == name]
                cover, width = tally.measured(own, "cover95"), tally.measured(own, "width")
                x = [cover.value, cover.low, cover.high]
                ax.plot(x[1:], [width.value] * 2, color=look["color"], alpha=0.5, linewidth=1.2, zorder=2)
                size = 9.0 if name == names[0] else 6.5
                ax.plot(cover.value, width.value, **dot(look, size), zorder=look["zorder"])
            ax.set_yscale("log")
            bottom, top = ax.get_ylim()
            ax.set_ylim(bottom / 1.15, top * 1.15)
            left = min(0.85, ax.get_xlim()[0])
            ax.set_xlim(left - 0.02, 1.01)
            ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
            ax.yaxis.set_minor_locator(ticker.NullLocator())
            ax.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:.10g}"))
            ax.xaxis.set_major_formatter(ticker.PercentFormatter(1.0, symbol="", decimals=0))
            dress(ax)
            ax.set_title(title, loc="left", fontsize=9.5, fontweight="bold")
            count = f"{part['family'].nunique()} families"
            ax.text(0.02, 0.03, count, transform=ax.transAxes, fontsize=8.5, color=QUIET)
            ax.set_xlabel("coverage of the 95 % interval, %", fontsize=9)
        for ax in axes[::2]:
            ax.set_ylabel("median width, ln y", fontsize=9)
        legend_below(axes, names, dots=True)
    return axes


def worst(cases: Sequence[tuple[Problem, pd.DataFrame, str]], subtitle: str) -> np.ndarray:
    """Draw problems with their training points, intervals and outcomes, and the reason of the miss below the title.

    Args:
        cases: Problem, our rows for it, and the reason.
        subtitle: How they were chosen.
    """
    with matplotlib.rc_context(STYLE):
        axes = sheet(len(cases), 3, 2.75, "The families with the largest errors of the default", subtitle, foot=0.3)
        for ax, (problem, rows, reason) in zip(axes, cases, strict=True):
            rows = rows.sort_values("row")
            fitted, ahead = scale(problem.train, problem.inputs), scale(problem.held, problem.inputs)
            ax.plot(fitted, problem.train["loss"], **{**MARKS, "markersize": 3.6, "markeredgewidth": 0.4}, color=BLUE)
            ax.vlines(ahead, rows["q0.025"], rows["q0.975"], color=BLUE, alpha=0.35, linewidth=2.2)
            ax.vlines(ahead, rows["q0.25"], rows["q0.75"], color=BLUE, alpha=0.75, linewidth=2.2)
            ax.plot(
                ahead,
                problem.held["loss"],
                **{**TRUTHS, "markersize": 4.2, "markeredgewidth": 0.5},
                color=ORANGE,
                zorder=6,
            )
            ax.set_xscale("log")
            ax.set_yscale("log")
            ax.axvspan(fitted.max(), ax.get_xlim()[1], **SHADE)
            ax.yaxis.set_major_locator(ticker.MaxNLocator(4, steps=[1, 2, 5, 10]))
            ax.yaxis.set_minor_locator(ticker.NullLocator())
            ax.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: short(value, 3)))
            ax.xaxis.set_minor_formatter(ticker.NullFormatter())
            ax.xaxis.set_major_locator(ticker.LogLocator(numticks=5))
            ax.tick_params(labelsize=7.5)
            dress(ax)
            name = f"{problem.source}: {problem.family}"
            words = f"{clipped(problem.metric, 20)}, {problem.split}, n = {len(problem.train)}; {reason}"
            # Long text would push the panels apart, so the layout does not see it.
            small: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "in_layout": False}
            lines = textwrap.wrap(words, 43)[:3]
            ax.annotate("\n".join(lines), (0, 1), (0, 4), fontsize=7, color=QUIET, linespacing=1.15, **small)
            ax.annotate(clipped(name, 34), (0, 1), (0, 7 + 9 * len(lines)), fontsize=7.5, fontweight="bold", **small)
            ax.set_title(" ", fontsize=7.5, pad=34)
        handles = [
            Line2D([], [], **{**MARKS, "markersize": 5}, color=BLUE, label="fitted"),
            Line2D([], [], **{**TRUTHS, "markersize": 5}, color=ORANGE, label="measured, held out"),
            Line2D([], [], color=BLUE, alpha=0.75, linewidth=2.6, label="50 % interval"),
            Line2D([], [], color=BLUE, alpha=0.35, linewidth=2.6, label="95 % interval"),
        ]
        figure_of(axes[0]).legend(
            handles=handles, loc="lower center", ncols=4, frameon=False, fontsize=8.5, labelcolor=INK
        )
    return axes


def clipped(text: str, most: int) -> str:
    """Shorten a text in its middle."""
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-(most - most // 2 - 3) :]}"
