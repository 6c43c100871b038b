"""Plots of forecasts: the density at one point, and intervals at several."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from bayescale import checked
from bayescale.checked import known_keywords
from bayescale.data.wording import quantities
from bayescale.errors import InputError
from bayescale.forecast import Forecast
from bayescale.plot.style import (
    BLUE,
    INK,
    MARKS,
    ORANGE,
    density,
    drawing,
    dress,
    headline,
    key_below,
    kind_words,
    note,
    percent,
    plain,
    short,
    upright,
)
from bayescale.score_forecast import ScoreForecast, ValueForecast

MOST_POINTS = 20
"""Largest number of points of a forecast that are drawn."""


@known_keywords
def forecast(
    forecast: Forecast,
    *,
    ax: Axes | None = None,
    point: int | None = None,
    measured: float | None = None,
    target: float | None = None,
) -> Axes:
    """Draw a forecast: the predictive density at one point, or the intervals at several points.

    Args:
        forecast: A forecast at one or more points.
        ax: Axes to draw into; by default those of a new figure.
        point: Index, from 0, of the point whose density is drawn; by default intervals of all points, if there are
            several.
        measured: The measured value of the run, for the density of one point.
        target: A value; the probability of meeting it (a loss below, a score above) is written.

    Raises:
        InputError: If there is no such point, if the forecast has no width, or for a measured value of several points.

    Example:
        >>> bs.plot.forecast(post.predict(flops=1e23), target=2.3)  # doctest: +SKIP
        >>> bs.plot.forecast(post.predict(flops=[1e22, 1e23]))  # doctest: +SKIP
    """
    checked.instance("A forecast", forecast, Forecast, hint="Make one with post.predict(...).")
    perhaps = checked.optional(checked.FINITE if isinstance(forecast, ValueForecast) else checked.POSITIVE)
    checked.options(point=(point, checked.optional(checked.SEED)), measured=(measured, perhaps))
    checked.options(target=(target, perhaps))
    if point is not None and not 0 <= point < len(forecast):
        raise InputError(f"The forecast has {len(forecast)} points, counted from 0; found point={point}.")
    if point is None and len(forecast) > 1:
        if measured is not None:
            raise InputError(f"measured= is for one point; choose one of the {len(forecast)} with point=, from 0.")
        return side_by_side(forecast, ax, target)
    return density_at(forecast, point or 0, ax, measured, target)


def side_by_side(forecast: Forecast, ax: Axes | None, target: float | None) -> Axes:
    """Draw the median and intervals of each point in a row, the first point at the top."""
    number = min(len(forecast), MOST_POINTS)
    points = forecast.points.iloc[:number]
    varying = [name for name in points if points[name].nunique() > 1] or list(points)
    fixed = {str(name): float(points[name].iloc[0]) for name in points if name not in varying}
    height = np.arange(number)[::-1]
    middle = forecast.quantile(0.5)
    with drawing(ax) as ax:
        for level, width in ((0.95, 2.0), (0.8, 6.0)):
            low, high = forecast.interval(level)[:, :number]
            ax.hlines(height, low, high, color=BLUE, alpha=0.5, linewidth=width, label=f"{100 * level:g} % interval")
        look = {**MARKS, "marker": "|", "markersize": 12.0, "markeredgecolor": BLUE, "markeredgewidth": 2.0}
        ax.plot(middle[:number], height, **look, color=BLUE, label="median")
        rows = points[varying].astype(float).to_dict("records")
        labels = [", ".join(f"{name} {short(value, 3)}" for name, value in row.items()) for row in rows]
        ax.set_yticks(height, labels)
        ax.set_ylim(-0.6, number - 0.4)
        ax.margins(x=0.1)
        if target is not None:
            ax.axvline(target, color=INK, linewidth=1.0, linestyle=(0, (4, 3)), label=f"target {target:g}")
            shares = forecast.probability_met(target)
            ax.set_xlim(*ax.get_xlim())
            for row, share in zip(height, shares[:number], strict=True):
                at = (1.0, float(row))
                note(
                    ax,
                    f"P({side_of(forecast)}) {percent(float(share))}",
                    at,
                    (4, 0),
                    INK,
                    ("axes fraction", "data"),
                    va="center",
                )
        ax.set_xlabel(f"predicted {forecast.response}")
        dress(ax, "x")
        told = kind_words(forecast.kind, forecast.response)
        told += f"; at {quantities(fixed)}" if fixed else ""
        if forecast.ratio[farthest := int(np.argmax(forecast.ratio))] > 1:
            told += f"; up to {forecast.distance(farthest, 2)}"
        if number < len(forecast):
            told += f"; the first {number} of {len(forecast)} points"
        headline(ax, forecast.label or "forecast", told)
        key_below(ax)
    return ax


def side_of(forecast: Forecast) -> str:
    """Return the side of a target on which a response is better: "below" or "above"."""
    return "above" if forecast.higher_is_better else "below"


def density_of(forecast: Forecast, grid: np.ndarray, point: int) -> np.ndarray:
    """Return the predictive density of the response at one point on a grid, shape (grid,)."""
    location, scale = forecast.location[:, point], forecast.scale[:, point]
    if isinstance(forecast, ValueForecast):
        return density(forecast.log_of(grid), location, scale) / forecast.values.unit
    if not isinstance(forecast, ScoreForecast):
        return density(np.log(grid), location, scale) / grid
    if forecast.simulated is not None:
        from scipy.stats import gaussian_kde

        return gaussian_kde(forecast.simulated[:, point])(grid)
    score = forecast.range
    slope = (score.ceiling - score.chance) / ((grid - score.chance) * (score.ceiling - grid))
    return density(score.log_odds(grid), location, scale) * slope


def density_at(forecast: Forecast, point: int, ax: Axes | None, measured: float | None, target: float | None) -> Axes:
    """Draw the predictive density at one point, with its central 80 % shaded."""
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
    start = first - edge if isinstance(forecast, ValueForecast) else max(first - edge, 0.5 * first)
    grid = np.linspace(start, last + edge, 500)
    if isinstance(forecast, ScoreForecast):
        # Chance and ceiling have infinite log odds.
        inner = 1e-4 * (forecast.range.ceiling - forecast.range.chance)
        low, high = (forecast.range.chance, forecast.range.ceiling) if forecast.drawn is None else (0.0, 1.0)
        grid = grid.clip(low + inner, high - inner)
    heights = density_of(forecast, grid, point)

    with drawing(ax) as ax:
        ax.fill_between(grid, heights, color=BLUE, alpha=0.12, linewidth=0)
        inside = np.linspace(low, high, 200)
        ax.fill_between(inside, np.interp(inside, grid, heights), color=BLUE, alpha=0.30, linewidth=0)
        ax.plot(grid, heights, color=BLUE, linewidth=1.6)
        ax.plot([middle, middle], [0, np.interp(middle, grid, heights)], color=BLUE, linewidth=1.2)
        ax.set_ylim(0, 1.30 * heights.max())
        ax.set_xlim(grid[0], grid[-1])
        # At this height there is always room left of the curve.
        text = f"median {plain(middle, high - low)}\n80 %: {plain(low, high - low)} to {plain(high, high - low)}"
        height = 0.62 * heights.max()
        start = float(grid[np.argmax(heights >= height)])
        note(ax, text, (start, height), (-8, 0), BLUE, "data", ha="right", va="center")
        if target is not None:
            share = float(forecast.probability_met(target)[point])
            # Two labels are placed on opposite sides.
            leftwards = target < measured if measured is not None else target > middle
            text = f"target {target:g}\nP({side_of(forecast)}) = {percent(share)}"
            upright(ax, target, INK, (0, (4, 3)), text, leftwards)
        if measured is not None:
            share = float(forecast.probability_met(measured)[point])
            leftwards = measured <= target if target is not None else measured > middle
            text = f"measured {measured:g}\nP({side_of(forecast)}) = {percent(share)}"
            upright(ax, measured, ORANGE, "-", text, leftwards)
        ax.set_xlabel(f"predicted {forecast.response}")
        ax.set_yticks([])
        ax.set_ylabel("density")
        dress(ax, grid="x")
        where = ", ".join(f"{c} = {short(v, 3)}" for c, v in forecast.points.iloc[point].items())
        far = f"; extrapolation: {forecast.distance(point, 2)}" if forecast.ratio[point] > 1 else ""
        headline(ax, forecast.label or "forecast", f"{kind_words(forecast.kind, forecast.response)} at {where}{far}")
    return ax
