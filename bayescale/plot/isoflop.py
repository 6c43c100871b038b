"""Plots of isoFLOP sweeps and of runs with several inputs; `plot` offers these functions under its own name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes

from bayescale import checked
from bayescale.checked import known_keywords
from bayescale.data.runs import Runs
from bayescale.data.wording import in_words, power_of_ten, short_count
from bayescale.errors import InputError, nearest
from bayescale.plot.decisions import one_budget
from bayescale.plot.rows import measured_rows, response_rows
from bayescale.plot.style import (
    BLUE,
    INK,
    MARKS,
    ORANGE,
    PALETTE,
    QUIET,
    TRUTHS,
    drawing,
    dress,
    headline,
    key,
    key_below,
    log_axes,
    note,
    target_line,
)
from bayescale.posterior.fitted import Fitted

if TYPE_CHECKING:
    from bayescale.decide.allocation import Allocation
    from bayescale.decide.budgets import Allocations
    from bayescale.decide.isoflop import Sweep
    from bayescale.forecast import Forecast

CROSSES = {"linestyle": "none", "marker": "X", "markersize": 8.0, "markerfacecolor": "white", "markeredgewidth": 1.4}
"""Style of runs that were left out."""
AXES = {"n_params": "parameters", "n_tokens": "training tokens"}


@known_keywords
def isoflop(
    source: Sweep | Fitted | Allocation | Allocations,
    *,
    ax: Axes | None = None,
    input: str = "n_params",
    target: float | None = None,
    question: Forecast | None = None,
    excess: float = 10.0,
) -> Axes:
    """Draw valleys of equal compute, with the measured runs, a star at each minimum and the frontier through the stars.

    Args:
        source: Result of `decide.isoflop` or `decide.allocate`, or a fit of a sweep. A single allocation is drawn with
            its choice, its plug-in and the equally good sizes instead.
        ax: Axes to draw into; by default those of a new figure.
        input: Input on the x axis, n_params or n_tokens.
        target: A loss to mark with a line.
        question: Forecast of one run to mark.
        excess: For a single allocation, the excess of typical loss that is shown, as a multiple of its `regret`.

    Raises:
        InputError: For another input, or a fit whose runs are not an isoFLOP sweep.

    Example:
        >>> bs.plot.isoflop(bs.decide.isoflop(post, budgets=[1e21]))  # doctest: +SKIP
    """
    from bayescale.decide.allocation import Allocation
    from bayescale.decide.budgets import Allocations
    from bayescale.decide.isoflop import Sweep
    from bayescale.decide.isoflop import isoflop as sweep_of

    if isinstance(source, Allocation):
        return one_budget(source, ax=ax, excess=excess)
    if isinstance(source, Allocations) and len(source) == 1:
        return one_budget(source[0], ax=ax, excess=excess)
    if input not in AXES:
        raise InputError(f"Valleys are drawn over n_params or n_tokens; found input={input!r}. {nearest(input, AXES)}")
    if isinstance(source, Allocations):
        return valleys(
            *valleys_of(source),
            f"How to spend each budget: {source[0].label}",
            "star: choice; shading: 90 % interval",
            input=input,
            ax=ax,
            target=target,
            response=source[0].mean.response,
        )
    sweep = source
    checked.instance(
        "A sweep, an allocation or a fit", source, Sweep, Fitted, hint="Make one with bs.decide.isoflop(runs)."
    )
    if isinstance(sweep, Fitted):
        asked = None if question is None else budget_of(question)
        sweep = sweep_of(sweep, budgets=None if asked is None else [asked])
    called = sweep.posterior.response
    subtitle = f"typical {called} along each budget; star: least, with 90 % interval of the mean {called}"
    if len(sweep.exponents):
        a = sweep.exponents.loc[input]
        subtitle = f"star: least; {'N' if input == 'n_params' else 'D'}* grows as C^{a['power']:.2f}"
        subtitle += f" ({100 * sweep.level:g} % {a['low']:.2f} to {a['high']:.2f}); shading: 90 % interval"
    frontier, measured = sweep.frontier, sweep.measured
    parts = (sweep.valleys, frontier, measured)
    return valleys(
        *parts,
        f"Valleys of equal compute: {sweep.label}",
        subtitle,
        input=input,
        broken=sweep.broken,
        ax=ax,
        target=target,
        question=question,
        response=called,
    )


def budget_of(question: Forecast) -> float | None:
    """Return the compute, 6 N D, of the run in question; None if its tokens or its size are not known."""
    point = question.points.iloc[0]
    if not {"n_params", "n_tokens"} <= set(point.index):
        return float(point["flops"]) if "flops" in point.index else None
    return 6.0 * float(point["n_params"]) * float(point["n_tokens"])


def valleys_of(found: Allocations) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return several allocations as tables of valleys, of their minima, and of measured runs (empty).

    Raises:
        InputError: For a split between other inputs.
    """
    if found[0].over != ("n_params", "n_tokens"):
        raise InputError("Valleys of several budgets are drawn over n_params and n_tokens; draw each allocation alone.")
    long = pd.concat([one.table.assign(budget=one.budget) for one in found], ignore_index=True)
    frame = found.to_frame().rename(
        columns={"best_n_params_low": "n_params_low", "best_n_params_high": "n_params_high"}
    )
    frame = frame.assign(flat_tokens_low=np.nan, flat_tokens_high=np.nan).drop_duplicates("budget")
    for side, other in (("low", "high"), ("high", "low")):
        ends = [np.interp(np.log(one.flat[other == "high"]), *path_of(one)) for one in found]
        frame[f"flat_tokens_{side}"] = np.exp(ends)
    return long, frame.sort_values("budget"), pd.DataFrame(columns=["budget", "n_params", "n_tokens", "loss"])


def path_of(one: Allocation) -> tuple[np.ndarray, np.ndarray]:
    """Return the logarithms of both inputs along one budget."""
    return np.log(one.table["n_params"].to_numpy(float)), np.log(one.table["n_tokens"].to_numpy(float))


def valleys(
    curves: pd.DataFrame,
    minima: pd.DataFrame,
    measured: pd.DataFrame,
    title: str,
    subtitle: str,
    *,
    input: str,
    broken: pd.DataFrame | None = None,
    ax: Axes | None = None,
    target: float | None = None,
    question: Forecast | None = None,
    response: str = "loss",
) -> Axes:
    """Draw valleys, minima, measured runs and left-out runs over one input; columns as in `decide.isoflop.Sweep`."""
    colors = budget_colors(minima["budget"].to_numpy(float))
    flat = ("flat_low", "flat_high") if input == "n_params" else ("flat_tokens_low", "flat_tokens_high")
    extents = []
    with drawing(ax) as ax:
        for row in minima.to_dict("records"):
            own = measured[measured["budget"] == row["budget"]]
            curve = curves[curves["budget"] == row["budget"]].sort_values(input)
            # A valley is drawn where it was measured and around its minimum; its steep ends are not of interest.
            shown = [row[flat[0]], row[flat[1]], row[input], *own[input]]
            extents.append(draw_valley(ax, curve, row, own, shown, input, colors[row["budget"]]))
        ax.plot(
            minima[input], minima["loss"], color=INK, linewidth=1.1, linestyle=(0, (4, 3)), zorder=6, label="frontier"
        )
        ax.plot([], [], **MARKS, color=QUIET, label="measured") if len(measured) else None
        if question is not None:
            mark_question(ax, question, input)
            x, ends = float(question.points[input].iloc[0]), question.interval(0.8)[:, 0]
            extents.append((x / 1.2, x * 1.2, float(ends[0]), float(ends[1])))
        starts, stops, bottoms, tops = zip(*extents, strict=True)
        edge = 0.05 * (max(tops) - min(bottoms))
        ax.set_ylim(min(bottoms) - edge, max(tops) + edge)
        low, high = mark_broken(ax, broken, colors, input, (min(starts), max(stops)))
        # Leave room for the budget's name at the right of the last valley.
        log_axes(ax, low / (high / low) ** 0.02, high * (high / low) ** 0.12)
        target_line(ax, target)
        ax.set_xlabel(AXES[input])
        ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: short_count(value)))
        ax.set_ylabel(response)
        dress(ax)
        headline(ax, title, subtitle)
        # Place labels below the strip with the runs that were left out.
        height = -8 if broken is None or broken.empty else -28
        note(ax, "compute in FLOP", (1, 1), (-4, height), QUIET, "axes fraction", ha="right", va="top")
        key_below(ax)
    return ax


def budget_colors(budgets: np.ndarray) -> dict[float, Any]:
    """Return one colour for each budget: from the palette, or from a colour map if there are more budgets."""
    if len(budgets) <= len(PALETTE):
        return dict(zip(budgets.tolist(), PALETTE, strict=False))
    shades = 0.05 + 0.8 * np.linspace(0.0, 1.0, len(budgets))
    return {float(c): matplotlib.colormaps["viridis"](shade) for c, shade in zip(budgets, shades, strict=True)}


def draw_valley(
    ax: Axes, curve: pd.DataFrame, row: Mapping[Any, Any], own: pd.DataFrame, shown: list[float], name: str, color: Any
) -> tuple[float, float, float, float]:
    """Draw the losses along one budget, its best size, and the runs at this budget.

    Args:
        ax: Axes to draw into.
        curve: Typical loss and its interval along the budget, in order of the input.
        row: Budget, best input and loss.
        own: Runs at this budget.
        shown: Values of the input that the plot should include, as far as losses were computed there.
        name: The input on the x axis.
        color: Colour of the budget.

    Returns:
        Smallest and largest drawn input, and smallest and largest drawn loss.
    """
    sizes = curve[name].to_numpy(float)
    # Beyond its ends an interpolated curve would continue flat.
    start, end = max(min(shown) / 1.2, sizes[0]), min(max(shown) * 1.2, sizes[-1])
    grid = np.geomspace(start, end, 120)
    x = np.log(sizes)
    line, under, over = (
        np.interp(np.log(grid), x, curve[column].to_numpy(float)) for column in ("typical", "q05", "q95")
    )
    ax.fill_between(grid, under, over, color=color, alpha=0.35, linewidth=0, zorder=2)
    # The curve is dotted where no run was made at this budget.
    ax.plot(grid, line, color=color, linewidth=1.1, zorder=3, linestyle="-" if len(own) else (0, (2, 2)))
    # Stars are drawn below the runs, which they would hide.
    ax.plot([row[name]], [row["loss"]], marker="*", color=color, markersize=17, markeredgecolor="white", zorder=7)
    ax.plot(own[name], own["loss"], **MARKS, color=color, zorder=8)
    tip = (float(grid[-1]), float(line[-1]))
    note(ax, power_of_ten(row["budget"]), tip, (4, 0), color, "data", va="center", annotation_clip=False)
    bottom = float(np.min([line.min(), under.min(), *own["loss"]]))
    top = float(np.max([line.max(), min(over.max(), line.max() * 1.03), *own["loss"]]))
    return start, end, bottom, top


def mark_broken(
    ax: Axes, broken: pd.DataFrame | None, colors: dict[float, Any], name: str, ends: tuple[float, float]
) -> tuple[float, float]:
    """Mark runs that were left out by crosses, at the upper edge if their loss is missing or above the plot.

    Returns:
        The ends of the x axis, extended if a cross lies beyond them.
    """
    if broken is None or not len(broken):
        return ends
    bottom, top = ax.get_ylim()
    y = broken["loss"].to_numpy(float)
    outside = ~((y > bottom) & (y < top))
    if outside.any():
        # Leave room for crosses at the upper edge, inside the axes.
        ax.set_ylim(bottom, top * (top / bottom) ** 0.08)
    shown = np.where(outside, top * (top / bottom) ** 0.04, y)
    x = broken[name].to_numpy(float)
    for size, height, budget in zip(x, shown, broken["budget"], strict=True):
        ax.plot([size], [height], **CROSSES, color=colors.get(budget, QUIET), zorder=9)
    ax.plot([], [], **CROSSES, color=QUIET, label="left out; at the edge: loss above or missing")
    return min(ends[0], x.min() / 1.1), max(ends[1], x.max() * 1.1)


def mark_question(ax: Axes, question: Forecast, name: str, label: str = "the run in question, 80 %") -> None:
    """Mark a run that has not been made: its median and its 80 % interval at its inputs."""
    x, middle = float(question.points[name].iloc[0]), float(question.quantile(0.5)[0])
    low, high = (float(end[0]) for end in question.interval(0.8))
    ax.plot([x, x], [low, high], color=ORANGE, linewidth=2.6, solid_capstyle="butt", zorder=8)
    ax.plot([x], [middle], **{**TRUTHS, "markersize": 8.0}, color=ORANGE, zorder=9, label=label)


@known_keywords
def fitted(
    posterior: Fitted,
    *,
    ax: Axes | None = None,
    truth: pd.DataFrame | Runs | None = None,
    target: float | None = None,
    question: Forecast | None = None,
) -> Axes:
    """Draw measured against fitted losses, for runs with several inputs that do not lie along one line.

    Args:
        posterior: A fit.
        ax: Axes to draw into; by default those of a new figure.
        truth: Runs measured afterwards, with the inputs and loss, to be compared with their forecasts.
        target: A loss to mark with a line.
        question: Forecast of one run to mark.

    Raises:
        InputError: For a truth without its columns.
    """
    frame, kind = response_rows(posterior.runs), posterior.runs.response_kind
    later = None if truth is None else measured_rows(truth, posterior.law.inputs, kind)
    with drawing(ax) as ax:
        ends: list[float] = []
        for rows, color, look, label in (
            (frame, BLUE, MARKS, "runs in the fit, against the fitted curve"),
            (later, ORANGE, TRUTHS, "measured afterwards, against the forecast"),
        ):
            if rows is None:
                continue
            forecast = posterior.forecast_at(rows, "mean" if rows is frame else "run")
            middle, (under, over) = forecast.quantile(0.5), forecast.interval(0.8)
            measured = rows["loss"].to_numpy(float)
            ax.errorbar(
                middle, measured, xerr=[middle - under, over - middle], fmt="none", ecolor=color, alpha=0.5, zorder=3
            )
            ax.plot(middle, measured, **look, color=color, zorder=5, label=label)
            ends += [*middle, *measured]
        if question is not None:
            middle = float(question.quantile(0.5)[0])
            under, over = (float(end[0]) for end in question.interval(0.8))
            ax.plot([under, over], [middle, middle], color=ORANGE, linewidth=2.6, solid_capstyle="butt", zorder=8)
            label = "the run in question, 80 %"
            ax.plot([middle], [middle], **{**TRUTHS, "markersize": 8.0}, color=ORANGE, zorder=9, label=label)
            ends += [under, over]
        low, high = min(ends), max(ends)
        low, high = ends_of_axis(low, high, kind)
        ax.plot([low, high], [low, high], color=QUIET, linewidth=1.0, zorder=1)
        ax.set_ylim(low, high)
        if kind != "loss":
            ax.set_xlim(low, high)
        else:
            log_axes(ax, low, high)
        target_line(ax, target)
        for side in (ax.xaxis,):
            side.set_major_locator(ticker.MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))
            side.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:.10g}"))
            side.set_minor_locator(ticker.NullLocator())
        called = posterior.response
        ax.set_xlabel(f"fitted {called}")
        ax.set_ylabel(f"measured {called}")
        dress(ax)
        headline(
            ax,
            f"{posterior.law_names} on {posterior.runs.name}",
            f"measured against fitted, law of {in_words(' and '.join(posterior.law.inputs))}; bars: 80 %; line: equal",
        )
        key(ax, loc="upper left")
    return ax


def ends_of_axis(low: float, high: float, kind: str) -> tuple[float, float]:
    """Return the ends of an axis for responses from `low` to `high` of a kind: "loss", "score" or "value"."""
    if kind == "loss":
        return low / (high / low) ** 0.05, high * (high / low) ** 0.05
    edge = 0.05 * (high - low)
    return (0.0, 1.0) if kind == "score" else (low - edge, high + edge)
