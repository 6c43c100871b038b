"""Drawing: style, axes, labels and numbers that all plots share."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import patheffects, ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from bayescale import checked
from bayescale.digits import factor_shown
from bayescale.errors import InputError, nearest
from bayescale.posterior.fitted import Fitted
from bayescale.posterior.posterior import fitted

INK, QUIET, FAINT = "#22272e", "#6b7480", "#e4e7eb"
BLUE, ORANGE = "#0072b2", "#d55e00"
PALETTE = (BLUE, ORANGE, "#009e73", "#b0568f", "#c98a00", "#3f8fc5", "#5b5b5b")
"""Colours after Okabe and Ito, which colour-blind readers can distinguish; yellows and pinks are darkened."""
STYLE: dict[Any, Any] = {
    # Names from users may contain dollar signs; no text here is mathematics.
    "text.parse_math": False,
    "font.size": 10.0,
    "axes.titlesize": 11.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
}
SIZE = (7.5, 5.0)
"""Size of a figure in inches; 1200 x 800 pixels at the resolution that `save` uses."""
MOST_GROUPS = 4
"""If the other inputs have more settings than this, their geometric mean is used instead."""
MINUS = "\N{MINUS SIGN}"


# --- What pictures are made of -----------------------------------------------------------------------------

MARKS: dict[str, Any] = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 6.0,
    "markeredgecolor": "white",
    "markeredgewidth": 0.9,
    "clip_on": False,
}
HOLLOW: dict[str, Any] = {"markerfacecolor": "white", "alpha": 0.7}
SHADE: dict[str, Any] = {"color": QUIET, "alpha": 0.09, "linewidth": 0, "zorder": 0}
TRUTHS: dict[str, Any] = {**MARKS, "marker": "D", "markersize": 7.0}
NOTE = 9.0
"""Font size of small text in points."""
LINE = 0.046
"""Height of a line of text, as a fraction of the axes' height."""


@contextlib.contextmanager
def drawing(ax: Axes | None) -> Iterator[Axes]:
    """Yield `ax`, or new axes, under the style of this module, and restore matplotlib's settings afterwards."""
    with matplotlib.rc_context(STYLE):
        yield ax if ax is not None else new_axes(1)[0]


def new_axes(count: int, columns: int = 1, height: float = SIZE[1]) -> np.ndarray:
    """Return the axes of a new figure, shape (count,)."""
    # Pyplot keeps the figure, so that notebooks display it; without a screen it draws into memory.
    from matplotlib import pyplot

    rows = math.ceil(count / columns)
    figure, grid = pyplot.subplots(rows, columns, figsize=(SIZE[0], height), squeeze=False, layout="constrained")
    flat = grid.ravel()
    for spare in flat[count:]:
        figure.delaxes(spare)
    return flat[:count]


def figure_of(ax: Axes) -> Figure:
    """Return the figure that axes belong to."""
    figure = ax.get_figure(root=True)
    assert figure is not None, "axes that belong to a figure"
    return figure


def dress(ax: Axes, grid: str = "both") -> None:
    """Strip unnecessary frames and ticks from the axes, and add a light grid below the data."""
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.tick_params(length=0, colors=QUIET, labelcolor=INK, which="both")
    ax.tick_params(axis="x", which="major", length=3)
    ax.set_axisbelow(True)
    ax.grid(True, axis=grid, which="major", color=FAINT, linewidth=0.8)  # pyright: ignore[reportArgumentType]


def note(
    ax: Axes,
    text: str,
    at: tuple[float, float],
    shift: tuple[float, float],
    color: str,
    coords: Any,
    **options: Any,
) -> None:
    """Write small text at a position shifted by some points, with a white outline that covers grid lines."""
    rim = [patheffects.withStroke(linewidth=2.5, foreground="white")]
    ax.annotate(
        text,
        at,
        shift,
        xycoords=coords,
        textcoords="offset points",
        color=color,
        fontsize=NOTE,
        path_effects=rim,
        **options,
    )


def headline(ax: Axes, title: str, subtitle: str) -> None:
    """Write a title and, in smaller letters below it, a description of the plot."""
    size = 11 * min(1.0, 72 / len(title))
    ax.set_title(title, loc="left", fontweight="bold", fontsize=size, pad=24)
    note(ax, subtitle, (0, 1), (0, 8), QUIET, "axes fraction")


def label_ends(ax: Axes, entries: Sequence[tuple[float, str, str]]) -> None:
    """Write labels at the right of the axes, at the heights of (value, text, colour), moved apart if they overlap."""
    order = sorted(entries, key=lambda entry: entry[0])
    heights = [height_of(ax, value) for value, _, _ in order]
    for (_, text, color), height in zip(order, apart(heights, LINE), strict=True):
        note(ax, text, (1, height), (5, 0), color, "axes fraction", va="center", annotation_clip=False)


def height_of(ax: Axes, value: float) -> float:
    """Return the height of a value in the axes, from 0 to 1."""
    return float((ax.transData + ax.transAxes.inverted()).transform((ax.get_xlim()[1], value))[1])


def uncrowded(ax: Axes, entries: Sequence[tuple[float, str, str]]) -> list[tuple[float, str, str]]:
    """Keep of the entries for `label_ends`, in order of importance, those at least a line away from earlier ones."""
    kept: list[tuple[float, str, str]] = []
    for entry in entries:
        if all(abs(height_of(ax, entry[0]) - height_of(ax, other[0])) >= LINE for other in kept):
            kept.append(entry)
    return kept


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Move sorted heights apart to distances of at least `gap`; each cluster keeps its centre."""
    crowds: list[list[float]] = []
    for height in heights:
        crowds.append([height])
        while len(crowds) > 1:
            below, here = crowds[-2], crowds[-1]
            reach_of = 0.5 * gap * (len(below) + len(here))
            if np.mean(here) - np.mean(below) >= reach_of:
                break
            crowds[-2:] = [below + here]
    return [float(np.mean(crowd)) + gap * (i - 0.5 * (len(crowd) - 1)) for crowd in crowds for i in range(len(crowd))]


def log_axes(ax: Axes, low: float, high: float, response: bool = True) -> None:
    """Make x logarithmic over a range, and with `response` also y, labelled with plain numbers."""
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    log_ticks(ax, low, high, (1, 2, 5))
    if not response:
        return
    ax.set_yscale("log")
    bottom, top = ax.get_ylim()
    # Decades are too coarse for losses, which rarely cover one.
    narrow = top / bottom < 8
    ax.yaxis.set_major_locator(
        ticker.MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]) if narrow else ticker.LogLocator(subs=(1, 2, 5))
    )
    ax.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:.10g}"))
    ax.yaxis.set_minor_locator(ticker.NullLocator())
    ax.set_ylim(bottom, top)


def log_ticks(ax: Axes, low: float, high: float, subs: Sequence[float]) -> None:
    """Label a logarithmic x axis also between powers of ten, where there are few of these."""
    ax.xaxis.set_minor_formatter(ticker.NullFormatter())
    if high / low < 60:
        ax.xaxis.set_major_locator(ticker.LogLocator(subs=subs))
        ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: short(value)))


def beyond(
    ax: Axes, start: float, end: float, power: float = 1.0, *, below: bool = False, unit: str = "beyond the data"
) -> None:
    """Shade the zone beyond the data and write its extrapolation factor.

    Args:
        ax: Axes to draw into.
        start: End of the data.
        end: End of the zone.
        power: Exponent of the x axis' factor in the extrapolation factor that is written.
        below: Write the text at the bottom, because the curve is at the top.
        unit: Quantity that the factor refers to, if it is not the x axis: `the compute`.
    """
    ax.axvspan(start, end, **SHADE)
    ax.axvline(start, color=QUIET, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
    left, right = ax.get_xlim()
    share = math.log(end / start) / math.log(right / left)
    factor = f"up to {factor_shown((end / start) ** power)}x"
    # Labels will take a part of the width when the figure is laid out.
    room = 0.85 * share * ax.get_window_extent().width * 72.0 / figure_of(ax).dpi - 12.0
    texts = (f"extrapolation: {factor} {unit}", f"extrapolation:\n{factor} {unit}")
    texts = (*texts, f"extrapolation:\n{factor}\n{unit}")
    fitting = [text for text in texts if text_width(text) <= room]
    # Text that does not fit into the zone is placed left of it.
    at, text = (1.0, fitting[0]) if fitting else (1.0 - share, texts[-1])
    va, height = ("bottom", (0, 6)) if below else ("top", (1, -6))
    note(ax, text, (at, height[0]), (-6, height[1]), QUIET, "axes fraction", ha="right", va=va)


def text_width(text: str) -> float:
    """Return the approximate width of small text in points."""
    return 0.56 * NOTE * max(map(len, text.splitlines()))


def kind_words(kind: str, response: str) -> str:
    """Describe the kind of forecast in words."""
    return "one future run" if kind == "run" else f"the mean {response}"


def target_line(ax: Axes, target: float | None) -> None:
    """Draw a labelled horizontal line at `target`, and extend the y axis to include it."""
    if target is None:
        return
    bottom, top = ax.get_ylim()
    ax.set_ylim(min(bottom, target / 1.02), max(top, target * 1.02))
    ax.axhline(target, color=INK, linewidth=1.0, linestyle=(0, (4, 3)), zorder=3)
    note(ax, f"target {target:g}", (0, target), (4, 3), INK, ("axes fraction", "data"))


def upright(ax: Axes, x: float, color: str, style: Any, text: str, leftwards: bool) -> None:
    """Draw a vertical line with a label at its top, on the given side or, if there is no room, on the other."""
    ax.axvline(x, color=color, linewidth=1.4, linestyle=style, zorder=4)
    left, right = ax.get_xlim()
    fraction = (x - left) / (right - left)
    leftwards = (leftwards or fraction > 0.80) and fraction > 0.20
    side = {"ha": "right" if leftwards else "left", "va": "top"}
    note(ax, text, (x, 0.98), (-6 if leftwards else 6, 0), color, ("data", "axes fraction"), **side)


def key(ax: Axes, above: float | None = None, **options: Any) -> None:
    """Add a frameless legend if anything is labelled; if a line at `above` is low, the legend is placed above it."""
    if above is not None and (height := height_of(ax, above)) < 0.4:
        options |= {"loc": "lower left", "bbox_to_anchor": (0.0, height + LINE)}
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize=9, labelcolor=INK, handletextpad=0.4, borderaxespad=0.6, **options)


def key_below(ax: Axes) -> None:
    """Add a frameless legend below the axes, where it hides no data."""
    ax.legend(
        frameon=False, fontsize=NOTE, labelcolor=INK, handletextpad=0.4, columnspacing=1.4, borderaxespad=0.0,
        loc="upper left", bbox_to_anchor=(0.0, -0.13), ncols=4,
    )  # fmt: skip


def points(ax: Axes, frame: pd.DataFrame, name: str, color: str, setting: dict[str, float], averaged: bool) -> None:
    """Draw the fitted runs at one setting of the other inputs; hollow if the interval belongs to another setting."""
    rows = frame.loc[matches(frame, setting)]
    label = None if setting else "runs in the fit"
    look = {**MARKS, **HOLLOW, "markeredgecolor": color} if averaged else MARKS
    if averaged:
        label = "runs in the fit, at other values of the fixed inputs"
    if "value_se" in rows:
        ax.errorbar(rows[name], rows["loss"], rows["value_se"], fmt="none", ecolor=color, elinewidth=1, zorder=4)
    ax.plot(rows[name], rows["loss"], **look, color=color, zorder=5, label=label)


def truths(ax: Axes, frame: pd.DataFrame, name: str, color: str, setting: dict[str, float], averaged: bool) -> None:
    """Draw runs measured afterwards at one setting of the other inputs.

    Hollow if the interval belongs to another setting.
    """
    rows = frame.loc[matches(frame, setting)]
    if not len(rows):
        return
    label = "measured afterwards"
    label = None if label in ax.get_legend_handles_labels()[1] else label
    look = {**TRUTHS, **HOLLOW, "markeredgecolor": color} if averaged else TRUTHS
    ax.plot(rows[name], rows["loss"], **look, color=color, zorder=6, label=label)


def small_multiples(
    panels: Sequence[tuple[Any, ...]],
    axes: Sequence[Axes] | np.ndarray | None,
    title: str,
    subtitle: str,
) -> np.ndarray:
    """Draw one panel for each tuple of name, draws, prior draws or None, and remark."""
    columns = min(3, len(panels))
    with matplotlib.rc_context(STYLE):
        if axes is None:
            rows = math.ceil(len(panels) / columns)
            height = max(2.8, 0.8 + 2.1 * rows)
            flat = new_axes(len(panels), columns, height)
            figure = figure_of(flat[0])
            engine = figure.get_layout_engine()
            assert isinstance(engine, ConstrainedLayoutEngine), "a figure made by new_axes"
            engine.set(rect=(0, 0, 1, 1 - 0.58 / height), wspace=0.04, hspace=0.04)
            size = 11 * min(1.0, 72 / len(title))
            figure.text(0.01, 1 - 0.08 / height, title, fontsize=size, fontweight="bold", va="top")
            figure.text(0.01, 1 - 0.30 / height, subtitle, color=QUIET, fontsize=9, va="top")
        else:
            flat = np.ravel(np.asarray(axes, object))
            if len(flat) < len(panels):
                raise InputError(f"{len(panels)} axes are needed, one a panel; found {len(flat)}.")
        for ax, panel in zip(flat, panels, strict=False):
            density_panel(ax, *panel)
    return flat[: len(panels)]


def density_panel(
    ax: Axes, name: str, draws: np.ndarray, prior: np.ndarray | None = None, remark: str | None = None
) -> None:
    """Draw the density of some draws, their median and 90 % interval, and the prior's density."""
    low, middle, high = np.quantile(draws, [0.05, 0.5, 0.95])
    both = [draws] if prior is None else [draws, prior]
    wide = all(values.min() > 0 for values in both) and any(skewed(values) for values in both)
    shape, back = (np.log, np.exp) if wide else (np.asarray, np.asarray)
    ends = shape(np.quantile(draws, [0.002, 0.998]))
    if prior is not None:
        # The centre of the prior must be visible.
        core = shape(np.quantile(prior, [0.05, 0.95]))
        ends = np.array([min(ends[0], core[0]), max(ends[1], core[1])])
    ends = ends + 0.06 * np.ptp(ends) * np.array([-1, 1])
    if not wide and min(values.min() for values in both) >= 0:
        ends = np.maximum(ends, 0.0)
    edges = np.linspace(ends[0], ends[1], 33)
    heights = share_in(shape(draws), edges)
    ax.stairs(heights, back(edges), fill=True, color=BLUE, alpha=0.35)
    ax.stairs(heights, back(edges), color=BLUE, linewidth=1.2, baseline=None)
    if prior is not None:
        ax.stairs(
            share_in(shape(prior), edges),
            back(edges),
            color=INK,
            linewidth=1.0,
            linestyle=(0, (3, 2)),
            baseline=None,
        )
    top = heights.max()
    ax.plot([low, high], [-0.07 * top] * 2, color=BLUE, linewidth=2.5, solid_capstyle="butt")
    ax.plot([middle], [-0.07 * top], marker="o", color=BLUE, markersize=6, markeredgecolor="white")
    if wide:
        ax.set_xscale("log")
        log_ticks(ax, float(back(ends[0])), float(back(ends[1])), (1, 3))
    else:
        ax.xaxis.set_major_locator(ticker.MaxNLocator(4))
        ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}".replace("-", MINUS)))
    ax.set_ylim(-0.14 * top, 1.1 * top)
    ax.set_yticks([])
    dress(ax, grid="x")
    ax.set_title(name, loc="left", fontweight="bold", fontsize=10)
    ax.set_title(remark or f"{short(middle)} ({short(low)} to {short(high)})", loc="right", color=QUIET, fontsize=8)


def skewed(values: np.ndarray) -> bool:
    """Return whether the upper tail is so long that a logarithmic axis is better."""
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    return bool(high - middle > 3.0 * (middle - low))


def share_in(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the fraction of all values in each bin; values outside all bins count in the total."""
    return np.histogram(values, edges)[0] / len(values)


# --- Numbers behind the pictures ---------------------------------------------------------------------------


def along(posterior: Fitted, name: str | None) -> str:
    """Return the name of the input on the x axis.

    Raises:
        InputError: For a name that is not an input of the law.
    """
    inputs = fitted(posterior).law.inputs
    if name is None:
        ends = {column: extremes(posterior.runs.frame, column) for column in inputs}
        return max(inputs, key=lambda column: ends[column][1] / ends[column][0])
    if name not in inputs:
        raise InputError(f"{posterior.law.name} has no input {name!r}. {nearest(name, inputs)}")
    return name


def extremes(frame: pd.DataFrame, column: str) -> tuple[float, float]:
    """Return the smallest and largest value of a column, ignoring NaN."""
    values = frame[column].astype(float)
    return float(values.min()), float(values.max())


def reach(high: float, upto: float | None, truth: pd.DataFrame | None, name: str) -> float:
    """Return the largest x of a plot.

    Raises:
        InputError: For an end that is not positive.
    """
    if upto is not None and not checked.POSITIVE.holds(upto):
        raise InputError(f"upto must be a positive count such as 1e24; found {upto}.")
    end = float(upto) if upto is not None else 10.0 * high
    # Measured runs are always shown, even beyond a requested range.
    return max(end, high, 0.0 if truth is None else extremes(truth, name)[1])


def settings_of(frame: pd.DataFrame, others: Sequence[str]) -> tuple[list[dict[str, float]], bool]:
    """Return the settings of the other inputs at which intervals are drawn, and whether they are averages."""
    if not others:
        return [{}], False
    distinct = np.unique(frame[list(others)].to_numpy(float), axis=0)
    if len(distinct) <= MOST_GROUPS:
        return [dict(zip(others, map(float, row), strict=True)) for row in distinct], False
    return [{c: float(np.exp(np.log(frame[c]).mean())) for c in others}], True


def matches(frame: pd.DataFrame, setting: dict[str, float]) -> np.ndarray:
    """Return which rows are at a setting, up to rounding errors."""
    hit = np.ones(len(frame), bool)
    for column, value in setting.items():
        hit &= np.isclose(frame[column].to_numpy(float), value, rtol=1e-6, atol=0.0)
    return hit


def density(x: np.ndarray, location: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return the density at `x` of an equal mixture of normals with means and standard deviations of shape (draw,)."""
    # Draws with standard deviation zero (of the curve, without discrepancy) are smoothed by Silverman's rule.
    smallest = 0.9 * location.std() * len(location) ** -0.2
    width = np.where(scale < smallest, np.hypot(scale, smallest), scale)
    score = (x[:, None] - location) / width
    return (np.exp(-0.5 * score**2) / (width * math.sqrt(2 * math.pi))).mean(1)


def short(value: float, digits: int = 2) -> str:
    """Write a number with a few digits, e.g. 330, 2.5 or 1.3e10."""
    if 0.001 <= abs(value) < 9999.5:
        return f"{float(f'{value:.{digits}g}'):g}"
    mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
    return f"{float(mantissa):g}e{int(power)}"


def percent(share: float) -> str:
    """Write a probability in percent; probabilities close to 0 and 1 are written as bounds."""
    if share < 0.001:
        return "< 0.1 %"
    if share > 0.999:
        return "> 99.9 %"
    return f"{100 * share:.1f} %" if share < 0.01 or share > 0.99 else f"{100 * share:.0f} %"


def plain(value: float, width: float) -> str:
    """Write a value with as many decimals as an interval of the given width needs."""
    digits = max(0, 1 - math.floor(math.log10(width))) if width > 0 else 4
    return f"{value:.{digits}f}"


def and_list(items: Sequence[str]) -> str:
    """Join words: a, b and c."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
