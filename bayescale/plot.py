"""Plots: posteriors, forecasts and calibration as pictures; the only module that imports matplotlib.

Each function draws into `ax` where one is given, else into a new figure, and returns the axes. Nothing here
shows a window or changes matplotlib's settings.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import matplotlib
import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from scipy.stats import binom

from bayescale.errors import InputError, nearest
from bayescale.forecast import Forecast
from bayescale.model import read
from bayescale.posterior import Posterior
from bayescale.runs import Runs

INK, QUIET, FAINT = "#22272e", "#6b7480", "#e4e7eb"
BLUE, ORANGE = "#0072b2", "#d55e00"
PALETTE = (BLUE, ORANGE, "#009e73", "#b0568f", "#c98a00", "#3f8fc5", "#5b5b5b")
"""After Okabe and Ito, who chose colours that colour-blind readers tell apart; yellows and pinks darkened."""
STYLE: dict[Any, Any] = {
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
"""Inches; 1200 x 800 pixels at the resolution that `save` writes."""
UNITS = {
    "n_params": "parameters",
    "n_tokens": "training tokens",
    "flops": "training compute (FLOP)",
    "n_samples": "training samples",
}
BANDS = {"run": "band: one future run", "mean": "band: the curve"}
MOST_GROUPS = 4
"""More values of the other inputs than these are summed up by their geometric mean."""
GRID = 160
MINUS = "\N{MINUS SIGN}"


# --- Pictures of one fit -----------------------------------------------------------------------------------


def bands(
    posterior: Posterior,
    *,
    ax: Axes | None = None,
    input: str | None = None,
    upto: float | None = None,
    kind: str = "run",
    levels: Iterable[float] = (0.5, 0.8, 0.95),
    target: float | None = None,
    truth: pd.DataFrame | Runs | None = None,
) -> Axes:
    """Draw the fitted runs and the predictive bands, inside the data and beyond.

    With several inputs the bands run along one of them: one for each setting of the others where the data
    have up to four, else one at the others' geometric mean.

    Args:
        posterior: A fit.
        ax: Where to draw.
        input: Input of the x axis; by default the one that spans most.
        upto: Largest x; by default ten times the data; in any case far enough for `truth`.
        kind: "run" for one future run with a new seed, "mean" for the curve itself.
        levels: Central probabilities of the bands.
        target: A value to mark with a line.
        truth: Runs measured afterwards, with the inputs and loss, which the fit has not seen.

    Raises:
        InputError: For an unknown input or kind, a level outside (0, 1), or a truth without its columns.

    Example:
        >>> bs.plot.bands(post, upto=1e23, target=2.3)  # doctest: +SKIP
    """
    name = along(posterior, input)
    # A level of 0 or 1, and an unknown kind, are refused where the forecast is made, before a figure exists.
    levels = sorted({float(level) for level in levels})
    if not levels:
        raise InputError("At least one level is needed, e.g. levels=(0.8,).")
    frame = posterior.runs.frame
    later = None if truth is None else measured_rows(truth, posterior.law.inputs)
    low, high = extremes(frame, name)
    end = reach(high, upto, later, name)
    groups, averaged = settings_of(frame, [c for c in posterior.law.inputs if c != name])
    start = low if later is None else min(low, extremes(later, name)[0])
    grid = np.unique(np.concatenate([np.geomspace(start, end, GRID), [low, high]]))
    drawn = []
    for setting in groups:
        forecast = posterior.predict(pd.DataFrame({name: grid, **setting}), kind=kind)
        drawn.append((setting, forecast.quantile(0.5), [forecast.interval(level) for level in levels]))

    with drawing(ax) as ax:
        several = len(groups) > 1
        for number, (setting, middle, intervals) in enumerate(drawn):
            color = PALETTE[number]
            for interval in reversed(intervals):
                # Bands lie on top of each other, so equal opacity makes the inner ones darker.
                opacity = 0.13 if several else 0.20
                ax.fill_between(grid, *interval, color=color, alpha=opacity, linewidth=0, zorder=2)
            ax.plot(grid, middle, color=color, linewidth=1.6, zorder=3)
            points(ax, frame, name, color, setting if several else {}, averaged)
            if later is not None:
                truths(ax, later, name, color if several else ORANGE, setting if several else {}, averaged)
        if later is not None and several:
            # Those at settings of their own have no band to be judged by, but are not left out either.
            for setting in groups:
                later = later.loc[~matches(later, setting)]
            truths(ax, later, name, INK, {}, averaged)
        log_axes(ax, start / (end / start) ** 0.03, end)
        if end > high:
            beyond(ax, high, end)
        if start < low:
            ax.axvspan(ax.get_xlim()[0], low, **SHADE)
        target_line(ax, target)
        ax.set_xlabel(UNITS.get(name, name))
        ax.set_ylabel(posterior.law.response)
        dress(ax)
        listed = and_list([f"{100 * level:g}" for level in levels])
        subtitle = f"{BANDS[kind]}, {listed} %; line: median"
        if averaged:
            fixed = ", ".join(f"{c} = {short(v, 3)}" for c, v in groups[0].items())
            subtitle += f"; at {fixed}"
        headline(ax, f"{posterior.law.name} on {posterior.runs.name}", subtitle)
        if several:
            ends = [
                (float(middle[-1]), ", ".join(f"{c} {short(v, 3)}" for c, v in setting.items()), PALETTE[i])
                for i, (setting, middle, _) in enumerate(drawn)
            ]
        else:
            _, middle, intervals = drawn[0]
            ends = [
                (float(interval[0][-1]), f"{100 * level:g} %", QUIET)
                for level, interval in zip(levels, intervals, strict=True)
            ]
            ends.append((float(middle[-1]), "median", BLUE))
        label_ends(ax, ends)
        key(ax, loc="lower left")
    return ax


def forecast(
    forecast: Forecast,
    *,
    ax: Axes | None = None,
    point: int = 0,
    measured: float | None = None,
    target: float | None = None,
) -> Axes:
    """Draw the predictive density at one point, with its central 80 % shaded.

    Args:
        forecast: A forecast at one or more points.
        ax: Where to draw.
        point: Which of them, counted from 0.
        measured: The value that a run gave in the end.
        target: A value whose probability of being undercut is written down.

    Raises:
        InputError: If there is no such point, or if the forecast has no width.

    Example:
        >>> bs.plot.forecast(post.predict(flops=1e23), target=2.3)  # doctest: +SKIP
    """
    if not 0 <= point < len(forecast):
        raise InputError(f"The forecast has {len(forecast)} points, counted from 0; found point={point}.")
    location, scale = forecast.location[:, point], forecast.scale[:, point]
    if np.ptp(location) == 0 and np.max(scale) == 0:
        raise InputError(
            "This forecast has no uncertainty (its constants are fixed), so it has no density to draw; "
            "print it instead, or forecast from a fit."
        )
    first, low, middle, high, last = forecast.quantile([0.002, 0.1, 0.5, 0.9, 0.998])[:, point]
    marks = [float(value) for value in (measured, target) if value is not None]
    first, last = min([first, *marks]), max([last, *marks])
    edge = 0.06 * (last - first)
    grid = np.linspace(max(first - edge, 0.5 * first), last + edge, 500)
    heights = density(np.log(grid), location, scale) / grid

    with drawing(ax) as ax:
        ax.fill_between(grid, heights, color=BLUE, alpha=0.12, linewidth=0)
        inside = np.linspace(low, high, 200)
        ax.fill_between(inside, np.interp(inside, grid, heights), color=BLUE, alpha=0.30, linewidth=0)
        ax.plot(grid, heights, color=BLUE, linewidth=1.6)
        ax.plot([middle, middle], [0, np.interp(middle, grid, heights)], color=BLUE, linewidth=1.2)
        ax.set_ylim(0, 1.30 * heights.max())
        ax.set_xlim(grid[0], grid[-1])
        # Left of the curve there is room at this height, whatever the shape.
        text = f"median {plain(middle, high - low)}\n80 %: {plain(low, high - low)} to {plain(high, high - low)}"
        height = 0.62 * heights.max()
        start = float(grid[np.argmax(heights >= height)])
        note(ax, text, (start, height), (-8, 0), BLUE, "data", ha="right", va="center")
        if target is not None:
            share = float(forecast.probability_below(target)[point])
            # Two labels point away from each other.
            leftwards = target < measured if measured is not None else target > middle
            text = f"target {target:g}\nP(below) = {percent(share)}"
            upright(ax, target, INK, (0, (4, 3)), text, leftwards)
        if measured is not None:
            share = float(forecast.probability_below(measured)[point])
            leftwards = measured <= target if target is not None else measured > middle
            text = f"measured {measured:g}\nP(below) = {percent(share)}"
            upright(ax, measured, ORANGE, "-", text, leftwards)
        ax.set_xlabel("predicted value")
        ax.set_yticks([])
        ax.set_ylabel("density")
        dress(ax, grid="x")
        where = ", ".join(f"{c} = {short(v, 3)}" for c, v in forecast.points.iloc[point].items())
        ratio = float(forecast.ratio[point])
        far = f"; extrapolation: {short(ratio)}x beyond the data" if ratio > 1 else ""
        headline(ax, forecast.label or "forecast", f"{BANDS[forecast.kind].split(': ')[1]} at {where}{far}")
    return ax


def constants(
    posterior: Posterior, *, axes: Sequence[Axes] | np.ndarray | None = None, prior: bool = True
) -> np.ndarray:
    """Draw the posterior of each constant, in the paper's own units where the law says how they scale.

    Args:
        posterior: A fit.
        axes: As many axes as there are constants.
        prior: Add the prior of those constants that have one of their own; a floor and amplitudes share the
            level of the law, which follows the data.

    Returns:
        The axes, shape (constant,).

    Raises:
        InputError: For too few axes.
    """
    before = prior_constants(posterior) if prior else {}
    panels = [(name, np.asarray(draws, float).ravel(), before.get(name)) for name, draws in posterior.draws.items()]
    known = [name for name, _, earlier in panels if earlier is not None]
    subtitle = "posterior, median and 90 % interval"
    if known:
        subtitle += "; dashed: prior, where a constant has its own"
    return small_multiples(panels, axes, f"{posterior.law.name} on {posterior.runs.name}", subtitle)


def learned(posterior: Posterior, *, axes: Sequence[Axes] | np.ndarray | None = None) -> np.ndarray:
    """Draw prior and posterior of each sampled coordinate, and how much of the prior's variance went away.

    Args:
        posterior: A fit.
        axes: As many axes as there are coordinates; the weights of single rows are left out.

    Returns:
        The axes, shape (coordinate,).

    Raises:
        InputError: For too few axes.
    """
    gone = posterior.contraction().to_numpy(float)
    # Student-t noise has a coordinate for each row, of no interest one by one.
    panels = [
        (
            name,
            posterior.position[..., i].ravel(),
            posterior.prior_draws[:, i],
            f"learned {percent(float(gone[i]))}",
        )
        for i, name in enumerate(posterior.names)
        if not name.startswith("log_weight[")
    ]
    return small_multiples(
        panels,
        axes,
        f"What the data say: {posterior.law.name} on {posterior.runs.name}",
        "filled: posterior, dashed: prior; learned: 1 - posterior variance / prior variance",
    )


def residuals(posterior: Posterior, *, ax: Axes | None = None, input: str | None = None) -> Axes:
    """Draw how far each run lies from the posterior mean curve, against the spread expected of one run.

    Args:
        posterior: A fit.
        ax: Where to draw.
        input: Input of the x axis; by default the one that spans most.

    Raises:
        InputError: For an unknown input.
    """
    name = along(posterior, input)
    frame = posterior.runs.frame
    fitted = posterior.predict(frame, kind="mean").location.mean(0)
    rest = 100.0 * (np.log(frame["loss"].to_numpy()) - fitted)
    spread = np.asarray(posterior.values.scatter) ** 2 + np.asarray(posterior.values.seed) ** 2
    one = 100.0 * float(np.sqrt(np.median(spread)))

    with drawing(ax) as ax:
        for width, opacity in ((2, 0.10), (1, 0.16)):
            ax.axhspan(-width * one, width * one, color=BLUE, alpha=opacity, linewidth=0, zorder=1)
        ax.axhline(0.0, color=INK, linewidth=1.0, zorder=2)
        ax.plot(frame[name], rest, **MARKS, color=BLUE, zorder=4)
        limit = 1.15 * max(2.2 * one, float(np.abs(rest).max()))
        ax.set_ylim(-limit, limit)
        low, high = extremes(frame, name)
        margin = (high / low) ** 0.04
        log_axes(ax, low / margin, high * margin, response=False)
        ax.set_xlabel(UNITS.get(name, name))
        ax.set_ylabel("ln(measured) - ln(curve), in %")
        dress(ax)
        label_ends(ax, [(s * one, f"{'+' if s > 0 else MINUS}{abs(s)} scatter", QUIET) for s in (2, 1, -1, -2)])
        drift = "law and drift" if posterior.drift is not None else "law"
        headline(
            ax,
            f"Residuals: {posterior.law.name} on {posterior.runs.name}",
            f"from the posterior mean curve ({drift}); scatter of one run: {one:.2g} %",
        )
    return ax


# --- Pictures of many forecasts ----------------------------------------------------------------------------


def reliability(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw how often intervals held against how often they said they would.

    Args:
        table: Columns method, level and coverage, as fractions; low and high, where given, are the ends of an
            interval for the coverage (over families).
        ax: Where to draw.

    Raises:
        InputError: For missing columns or no rows.
    """
    need(table, ("method", "level", "coverage"))
    with drawing(ax) as ax:
        ax.plot([0, 1], [0, 1], color=QUIET, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
        ends: list[tuple[float, str, str]] = []
        ranges = {"low", "high"} <= set(table)
        for number, (method, rows) in enumerate(table.groupby("method", sort=False)):
            color = PALETTE[number % len(PALETTE)]
            rows = rows.sort_values("level")
            x, y = rows["level"].to_numpy(float), rows["coverage"].to_numpy(float)
            if ranges:
                # Side by side, so that bars of several methods can be told apart.
                shift = 0.004 * (number - 0.5 * (table["method"].nunique() - 1))
                ax.vlines(x + shift, rows["low"], rows["high"], color=color, alpha=0.55, linewidth=1.4)
                x = x + shift
            ax.plot(x, y, color=color, linewidth=1.6, marker="o", markersize=4.5, zorder=3)
            ends.append((float(y[-1]), str(method), color))
        lowest = min(extremes(table, c)[0] for c in ("level", "coverage", "low") if c in table)
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
        place = start + 0.12 * (1 - start)
        turned = {"rotation": 45, "rotation_mode": "anchor", "va": "bottom"}
        note(ax, "as stated", (place, place), (-1, 3), QUIET, "data", **turned)
        note(ax, "below the line: overconfident", (1, 0), (-4, 6), QUIET, "axes fraction", ha="right")
        bars = "; bars: interval over families" if ranges else ""
        headline(ax, "Do the intervals hold?", f"coverage of central intervals{bars}")
        label_ends(ax, ends)
    return ax


def pit(frame: pd.DataFrame, *, ax: Axes | None = None, bins: int = 10) -> Axes:
    """Draw the histogram of where outcomes fell in their forecasts, which is flat for calibrated ones.

    Args:
        frame: Column pit with the probability below each outcome, and method where there are several.
        ax: Where to draw.
        bins: Number of equal bins.

    Raises:
        InputError: For missing columns, no rows or values outside [0, 1].
    """
    need(frame, ("pit",))
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
            label = f"{name} ({int((methods == name).sum())} points)" if name else None
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


def save(ax: Axes | Iterable[Axes], path: str | Path, dpi: int = 160) -> Path:
    """Write the figure of some axes to a file, completely or not at all.

    Args:
        ax: Axes, or several of one figure.
        path: The file; its ending (png, svg, pdf) decides the format. Folders are made.
        dpi: Pixels an inch.

    Returns:
        The path.

    Raises:
        InputError: For a format that cannot be written.
    """
    figure = figure_of(ax if isinstance(ax, Axes) else next(iter(np.ravel(np.asarray(ax, object)))))
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    formats = figure.canvas.get_supported_filetypes()
    if kind not in formats:
        raise InputError(f"{path.name} cannot be written as {kind or 'a picture'!r}. {nearest(kind, formats)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, because only there a rename cannot fail halfway.
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        figure.savefig(part, dpi=dpi, format=kind)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


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


@contextlib.contextmanager
def drawing(ax: Axes | None) -> Iterator[Axes]:
    """Yield `ax` or a new one under the style of this module, and put the settings back afterwards."""
    with matplotlib.rc_context(STYLE):
        yield ax if ax is not None else new_axes(1)[0]


def new_axes(count: int, columns: int = 1, height: float = SIZE[1]) -> np.ndarray:
    """Return the axes of a new figure, shape (count,)."""
    # Pyplot keeps the figure, so that notebooks display it; without a screen it draws to memory.
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
    """Take away frames and ticks that say nothing, and lay a light grid under the data."""
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
    """Write small text at a place, moved by some points."""
    ax.annotate(text, at, shift, xycoords=coords, textcoords="offset points", color=color, fontsize=9, **options)


def headline(ax: Axes, title: str, subtitle: str) -> None:
    """Write a title and, smaller below it, what the picture shows."""
    size = 11 * min(1.0, 72 / len(title))
    ax.set_title(title, loc="left", fontweight="bold", fontsize=size, pad=24)
    note(ax, subtitle, (0, 1), (0, 8), QUIET, "axes fraction")


def label_ends(ax: Axes, entries: Sequence[tuple[float, str, str]]) -> None:
    """Write labels right of the axes at the heights of (value, text, colour), apart enough to be read."""
    gap = 0.046
    to_axes = ax.transData + ax.transAxes.inverted()
    middle = ax.get_xlim()[1]
    order = sorted(entries, key=lambda entry: entry[0])
    heights = [float(to_axes.transform((middle, value))[1]) for value, _, _ in order]
    for (_, text, color), height in zip(order, apart(heights, gap), strict=True):
        note(ax, text, (1, height), (5, 0), color, "axes fraction", va="center", annotation_clip=False)


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Move sorted heights apart to at least `gap`, each crowd around its own middle."""
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
    """Make x logarithmic over a range, and y too (with plain numbers) where the response is on it."""
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    log_ticks(ax, low, high, (1, 2, 5))
    if not response:
        return
    ax.set_yscale("log")
    bottom, top = ax.get_ylim()
    # Decades are too coarse for losses, which rarely span one.
    narrow = top / bottom < 8
    ax.yaxis.set_major_locator(
        ticker.MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]) if narrow else ticker.LogLocator(subs=(1, 2, 5))
    )
    ax.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:.10g}"))
    ax.yaxis.set_minor_locator(ticker.NullLocator())
    ax.set_ylim(bottom, top)


def log_ticks(ax: Axes, low: float, high: float, subs: Sequence[float]) -> None:
    """Label a logarithmic x axis between powers of ten too, where there are few of those."""
    ax.xaxis.set_minor_formatter(ticker.NullFormatter())
    if high / low < 60:
        ax.xaxis.set_major_locator(ticker.LogLocator(subs=subs))
        ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: short(value)))


def beyond(ax: Axes, start: float, end: float) -> None:
    """Shade the zone beyond the data and say how far it reaches."""
    ax.axvspan(start, end, **SHADE)
    ax.axvline(start, color=QUIET, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
    left, right = ax.get_xlim()
    share = math.log(end / start) / math.log(right / left)
    # A narrow zone has room for one half of the sentence.
    text = f"extrapolation:{' ' if share > 0.42 else chr(10)}up to {short(end / start)}x beyond the data"
    note(ax, text, (1, 1), (-6, -6), QUIET, "axes fraction", ha="right", va="top")


def target_line(ax: Axes, target: float | None) -> None:
    """Draw a labelled line across at `target`, and make room for it."""
    if target is None:
        return
    bottom, top = ax.get_ylim()
    ax.set_ylim(min(bottom, target / 1.02), max(top, target * 1.02))
    ax.axhline(target, color=INK, linewidth=1.0, linestyle=(0, (4, 3)), zorder=3)
    note(ax, f"target {target:g}", (0, target), (4, 3), INK, ("axes fraction", "data"))


def upright(ax: Axes, x: float, color: str, style: Any, text: str, leftwards: bool) -> None:
    """Draw a vertical line, labelled at its top on one side or, where that side has no room, the other."""
    ax.axvline(x, color=color, linewidth=1.4, linestyle=style, zorder=4)
    left, right = ax.get_xlim()
    place = (x - left) / (right - left)
    leftwards = (leftwards or place > 0.80) and place > 0.20
    side = {"ha": "right" if leftwards else "left", "va": "top"}
    note(ax, text, (x, 0.98), (-6 if leftwards else 6, 0), color, ("data", "axes fraction"), **side)


def key(ax: Axes, **options: Any) -> None:
    """Add a frameless legend where anything is labelled."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize=9, labelcolor=INK, handletextpad=0.4, borderaxespad=0.6, **options)


def points(ax: Axes, frame: pd.DataFrame, name: str, color: str, setting: dict[str, float], averaged: bool) -> None:
    """Draw the fitted runs at one setting of the other inputs; hollow if the band is at another setting."""
    rows = frame.loc[matches(frame, setting)]
    label = None if setting else "runs in the fit"
    look = {**MARKS, **HOLLOW, "markeredgecolor": color} if averaged else MARKS
    if averaged:
        label = "runs in the fit, at other values of the fixed inputs"
    if "value_se" in rows:
        ax.errorbar(rows[name], rows["loss"], rows["value_se"], fmt="none", ecolor=color, elinewidth=1, zorder=4)
    ax.plot(rows[name], rows["loss"], **look, color=color, zorder=5, label=label)


def truths(ax: Axes, frame: pd.DataFrame, name: str, color: str, setting: dict[str, float], averaged: bool) -> None:
    """Draw runs measured afterwards at one setting of the other inputs, hollow like `points`."""
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
    """Draw one panel for each (name, draws, prior draws or None, remark)."""
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
        # The prior's core has to be seen, or it would look as if there were none.
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
    """Tell whether the upper tail is so long that a logarithmic axis shows more."""
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    return bool(high - middle > 3.0 * (middle - low))


def share_in(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Share of all values in each bin; those outside count towards the total."""
    return np.histogram(values, edges)[0] / len(values)


# --- Numbers behind the pictures ---------------------------------------------------------------------------


def along(posterior: Posterior, name: str | None) -> str:
    """Return the input of the x axis.

    Raises:
        InputError: For a name that is no input of the law.
    """
    inputs = posterior.law.inputs
    if name is None:
        ends = {column: extremes(posterior.runs.frame, column) for column in inputs}
        return max(inputs, key=lambda column: ends[column][1] / ends[column][0])
    if name not in inputs:
        raise InputError(f"{posterior.law.name} has no input {name!r}. {nearest(name, inputs)}")
    return name


def extremes(frame: pd.DataFrame, column: str) -> tuple[float, float]:
    """Smallest and largest value of a column."""
    values = frame[column].to_numpy(float)
    return float(values.min()), float(values.max())


def measured_rows(truth: pd.DataFrame | Runs, inputs: Sequence[str]) -> pd.DataFrame:
    """Return held-out rows as a table with the inputs and loss.

    Raises:
        InputError: For missing columns or no rows.
    """
    frame = truth.frame if isinstance(truth, Runs) else truth
    need(frame, (*inputs, "loss"))
    return frame


def need(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Refuse a table without these columns, or without rows.

    Raises:
        InputError: Naming what is missing.
    """
    missing = [column for column in columns if column not in frame]
    if missing:
        raise InputError(f"A table with columns {', '.join(columns)} is needed; {', '.join(missing)} is missing.")
    if not len(frame):
        raise InputError(f"The table of {', '.join(columns)} has no rows; there is nothing to draw.")


def reach(high: float, upto: float | None, truth: pd.DataFrame | None, name: str) -> float:
    """Return the largest x of a picture.

    Raises:
        InputError: For an end that is not beyond zero.
    """
    if upto is not None and not (math.isfinite(upto) and upto > 0):
        raise InputError(f"upto must be a positive count such as 1e24; found {upto}.")
    end = float(upto) if upto is not None else 10.0 * high
    # What was measured is always shown, however short a range was asked for.
    return max(end, high, 0.0 if truth is None else extremes(truth, name)[1])


def settings_of(frame: pd.DataFrame, others: Sequence[str]) -> tuple[list[dict[str, float]], bool]:
    """Return settings of the other inputs to draw bands at, and whether they are averages over the data."""
    if not others:
        return [{}], False
    distinct = np.unique(frame[list(others)].to_numpy(float), axis=0)
    if len(distinct) <= MOST_GROUPS:
        return [dict(zip(others, map(float, row), strict=True)) for row in distinct], False
    return [{c: float(np.exp(np.log(frame[c]).mean())) for c in others}], True


def matches(frame: pd.DataFrame, setting: dict[str, float]) -> np.ndarray:
    """Tell which rows are at a setting, up to rounding."""
    hit = np.ones(len(frame), bool)
    for column, value in setting.items():
        hit &= np.isclose(frame[column].to_numpy(float), value, rtol=1e-6, atol=0.0)
    return hit


def density(x: np.ndarray, location: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Density at `x` of the equal mixture of normals with means and standard deviations of shape (draw,)."""
    # Draws without a width of their own (the curve, if there is no drift) are smoothed by Silverman's rule.
    smallest = 0.9 * location.std() * len(location) ** -0.2
    width = np.where(scale < smallest, np.hypot(scale, smallest), scale)
    score = (x[:, None] - location) / width
    return (np.exp(-0.5 * score**2) / (width * math.sqrt(2 * math.pi))).mean(1)


def prior_constants(posterior: Posterior) -> dict[str, np.ndarray]:
    """Prior draws of the quantities in `Posterior.draws` that do not follow the data's level."""
    model, problem = posterior.job.model, posterior.job.problem
    with jax.enable_x64(True):
        values = jax.jit(jax.vmap(lambda vector: read(vector, model, problem)[0]))(posterior.prior_draws)
    count = len(posterior.prior_draws)
    law = posterior.law
    constants = {name: np.broadcast_to(np.asarray(v, float), count) for name, v in values.constants.items()}
    if law.units:
        reference = dict(zip(law.inputs, posterior.job.reference, strict=True))
        # A wide prior of an exponent makes amplitudes in raw counts overflow; they are left out below.
        with np.errstate(over="ignore"):
            constants = law.at_unit_scale(constants, reference)
    levelled = law.covered[law.level[0]] if law.level else ()
    spreads = {"scatter": values.scatter, "seed": values.seed, "drift": values.amplitude}
    known = {name: v for name, v in constants.items() if name not in levelled} | {
        name: np.broadcast_to(np.asarray(v, float), count) for name, v in spreads.items()
    }
    return {name: np.asarray(v, float) for name, v in known.items() if name in posterior.draws}


def short(value: float, digits: int = 2) -> str:
    """Write a number with a few digits: 330, 2.5, and 1.3e+10 as 1.3e10."""
    if 0.001 <= abs(value) < 9999.5:
        return f"{float(f'{value:.{digits}g}'):g}"
    mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
    return f"{float(mantissa):g}e{int(power)}"


def percent(share: float) -> str:
    """Write a probability in percent, without claiming certainty."""
    if share < 0.001:
        return "< 0.1 %"
    if share > 0.999:
        return "> 99.9 %"
    return f"{100 * share:.1f} %" if share < 0.01 or share > 0.99 else f"{100 * share:.0f} %"


def plain(value: float, width: float) -> str:
    """Write a value with as many decimals as an interval of some width asks for."""
    places = max(0, 1 - math.floor(math.log10(width))) if width > 0 else 4
    return f"{value:.{places}f}"


def and_list(items: Sequence[str]) -> str:
    """Join words: a, b and c."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
