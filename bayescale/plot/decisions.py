"""Plots of decisions; `plot` offers these functions under its own name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from bayescale.checked import known_keywords
from bayescale.digits import factor_shown
from bayescale.plot.style import (
    BLUE,
    INK,
    ORANGE,
    QUIET,
    SHADE,
    drawing,
    dress,
    headline,
    key,
    log_axes,
    note,
    percent,
    short,
)

if TYPE_CHECKING:
    from bayescale.decide.allocation import Allocation
    from bayescale.decide.crossing import Crossing

INSIDE = 1.0 + 1e-9
INPUT_WORDS = {"n_params": "parameters", "n_tokens": "training tokens"}


def one_budget(allocation: Allocation, *, ax: Axes | None = None, excess: float = 10.0) -> Axes:
    """Draw typical loss and its interval along one budget, with the choice, the plug-in and the equally good sizes.

    Args:
        allocation: Result of `decide.allocate`.
        ax: Axes to draw into; by default those of a new figure.
        excess: The x axis covers sizes whose typical loss exceeds the least by up to this many times the allocation's
            `regret`, and in any case everything that is marked.
    """
    first, second = allocation.over
    table = allocation.table
    sizes = table[first].to_numpy(float)
    choice, plug_in = allocation.choice[first], allocation.plug_in[first]
    best = allocation.interval(0.9)
    shown = sizes[table["excess"].to_numpy(float) <= excess * allocation.regret]
    marked = np.clip([choice, plug_in, *best, *allocation.flat, *shown], sizes.min(), sizes.max())
    low, high = float(marked.min()), float(marked.max())
    low, high = low / (high / low) ** 0.06 / 1.02, high * (high / low) ** 0.06 * 1.02
    rows = table[(sizes >= low) & (sizes <= high)]
    x = rows[first].to_numpy(float)
    with drawing(ax) as ax:
        certain = float((rows["q95"] - rows["q05"]).abs().max()) < 1e-9
        if not certain:
            ax.fill_between(x, rows["q05"], rows["q95"], color=BLUE, alpha=0.16, linewidth=0, label="90 %, curve")
        ax.plot(x, rows["typical"], color=BLUE, linewidth=1.8, label=f"typical {allocation.mean.response}")
        bottom = rows[rows["flat"]]
        if len(bottom):
            label = f"within {allocation.regret:g} of the least"
            ax.plot(bottom[first], bottom["typical"], color=BLUE, linewidth=6, alpha=0.35, label=label)
        log_axes(ax, low, high)
        span = rows[["q05", "q95"]].to_numpy(float)
        floor, top = float(span[:, 0].min()), float(span[:, 1].max())
        # Sizes with enormous intervals would compress the bottom of the curve, which matters, into a line.
        least = float(rows["typical"].min())
        top = min(top, least + 4.0 * (least - floor) + 4.0 * excess * allocation.regret)
        ax.set_ylim(floor - 0.16 * (top - floor), top + 0.34 * (top - floor))
        height = floor - 0.09 * (top - floor)
        if not certain:
            ax.plot(np.clip(best, low, high), [height] * 2, color=QUIET, linewidth=3, solid_capstyle="butt")
            words = f"the law's own best, 90 %: {short(best[0])} to {short(best[1])}"
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0}
            middle = float(np.sqrt(np.prod(np.clip(best, low, high))))
            note(ax, words, (middle, height), (0, 6), QUIET, "data", ha="center", bbox=box, zorder=6)
        for size, color, style, text in (
            (plug_in, ORANGE, (0, (4, 3)), f"plug-in {short(plug_in)}"),
            (choice, INK, "-", f"choice {short(choice)}"),
        ):
            ax.axvline(size, 0, 0.82, color=color, linewidth=1.4, linestyle=style, zorder=4, label=text)
        outside = rows["ratio"].to_numpy(float) > INSIDE
        shade(ax, x, outside)
        ax.set_xlabel(
            f"{INPUT_WORDS.get(first, first)} (the rest of the budget buys {INPUT_WORDS.get(second, second)})"
        )
        ax.set_ylabel(allocation.mean.response)
        dress(ax)
        subtitle = "printed constants carry no uncertainty"
        if not certain:
            subtitle = f"the plug-in is expected to cost {max(allocation.plug_in_excess, 0):.2g} more"
        if outside.any():
            subtitle += "; shaded: extrapolation"
            if (ratio := float(allocation.mean.ratio[0])) > INSIDE:
                subtitle += f", {factor_shown(ratio)}x at the choice"
        if allocation.caveats:
            subtitle = f"cannot say: {allocation.caveats[0].text}"
            subtitle = subtitle if len(subtitle) < 100 else subtitle[:97] + "..."
        headline(ax, f"How to spend {short(allocation.budget)}: {allocation.label}", subtitle)
        key(ax, loc="upper left", ncols=3)
    return ax


@known_keywords
def crossover(crossing: Crossing, *, ax: Axes | None = None) -> Axes:
    """Draw how much better one recipe is along a range, with its 90 % interval and the probability at both ends.

    Args:
        crossing: Result of `decide.crossover`, or one of `Comparison.crossings`.
        ax: Axes to draw into; by default those of a new figure.

    Example:
        >>> bs.plot.crossover(bs.decide.crossover(post_a, post_b, range=(1e9, 1e10)))  # doctest: +SKIP
    """
    along = crossing.along
    assert along is not None, "a crossing made by crossing_of"
    x = along["x"].to_numpy(float)
    low, middle, high = (100.0 * np.expm1(along[name].to_numpy(float)) for name in ("q05", "q50", "q95"))
    with drawing(ax) as ax:
        ax.fill_between(x, low, high, color=BLUE, alpha=0.16, linewidth=0)
        ax.plot(x, middle, color=BLUE, linewidth=1.8)
        ax.axhline(0.0, color=INK, linewidth=1.0)
        log_axes(ax, x[0], x[-1], response=False)
        reach = 1.25 * max(float(np.abs([low, high]).max()), 1e-3)
        ax.set_ylim(-reach, reach)
        note(ax, f"{crossing.second} better", (0, 1), (6, -14), QUIET, "axes fraction")
        note(ax, f"{crossing.first} better", (0, 0), (6, 6), QUIET, "axes fraction")
        for end, side in ((0, "left"), (-1, "right")):
            words = f"P({crossing.first} better) {percent(float(along['p_first'].iloc[end]))}"
            shift = (6 if side == "left" else -6, 6)
            note(ax, words, (float(x[end]), float(high[end])), shift, BLUE, "data", ha=side)
        if crossing.deadline is not None:
            ax.axvline(crossing.deadline, color=ORANGE, linewidth=1.4, linestyle=(0, (4, 3)))
            note(ax, "deadline", (crossing.deadline, 1), (4, -14), ORANGE, ("data", "axes fraction"))
        ax.set_xlabel(INPUT_WORDS.get(crossing.axis, crossing.axis))
        ax.set_ylabel(f"{crossing.response} of {crossing.first} over {crossing.second}, in %")
        dress(ax)
        parts = {
            f"{crossing.first} throughout": crossing.p_always,
            f"{crossing.second} throughout": crossing.p_never,
            f"{crossing.first} overtakes": crossing.p_overtakes,
            "falls behind": crossing.p_falls_behind,
        }
        subtitle = ", ".join(f"{name} {percent(value)}" for name, value in parts.items())
        if crossing.caveats:
            subtitle = f"cannot say: {crossing.caveats[0]}"
            subtitle = subtitle if len(subtitle) < 100 else subtitle[:97] + "..."
        headline(
            ax,
            f"{crossing.first} against {crossing.second}: median and 90 % interval of the mean {crossing.response}",
            subtitle,
        )
    return ax


def shade(ax: Axes, x: np.ndarray, outside: np.ndarray) -> None:
    """Shade the parts of an axis where a grid lies outside the fitted runs."""
    ends = np.concatenate([[ax.get_xlim()[0]], np.sqrt(x[1:] * x[:-1]), [ax.get_xlim()[1]]])
    changes = np.flatnonzero(np.diff(np.concatenate([[0], outside.astype(int), [0]])))
    for start, end in zip(changes[::2], changes[1::2], strict=True):
        ax.axvspan(ends[start], ends[end], **SHADE)
