"""Plots of records: which plot the method `plot` of runs, fits, forecasts, decisions and backtests draws."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bayescale.coverage.forecast import Budget, CoverageForecast
from bayescale.coverage.posterior import CoveragePosterior
from bayescale.coverage.verifier import BestOfN
from bayescale.data.runs import Runs
from bayescale.decide.allocation import Allocation
from bayescale.decide.budgets import Allocations
from bayescale.decide.comparison import Comparison, Duel
from bayescale.decide.crossing import Crossing
from bayescale.decide.go import Decision
from bayescale.decide.isoflop import Sweep
from bayescale.decide.items import ItemComparison
from bayescale.decide.noise import SeedNoise
from bayescale.decide.pilots import Ranking
from bayescale.decide.planning import Power
from bayescale.decide.reach import Reach
from bayescale.decide.seed_differences import SeedDifference
from bayescale.decide.sequential import Looks
from bayescale.decide.stopping import Stops
from bayescale.digits import factor_shown
from bayescale.errors import InputError, nearest
from bayescale.evaluate.backtest import Backtest
from bayescale.forecast import Forecast
from bayescale.plot.calibration import held_out, reliability, several_cuts
from bayescale.plot.coverage import best_of_n, budget, coverage, coverage_forecast
from bayescale.plot.decisions import crossover
from bayescale.plot.fits import UNITS, intervals
from bayescale.plot.forecasts import forecast
from bayescale.plot.isoflop import isoflop
from bayescale.plot.style import BLUE, MARKS, PALETTE, QUIET, drawing, dress, headline, key, log_axes
from bayescale.pooling.pool import Pool
from bayescale.posterior.chain import Chain
from bayescale.posterior.fitted import Fitted

REACH_POINTS = 200
"""Number of points of an input at which the probability of having met a target is drawn."""
LEAST_P = 1e-9
"""Smallest p-value that is drawn."""
MOST_SHOWN = 20
"""Largest number of held-out runs that are drawn singly."""


@functools.singledispatch
def draw(record: Any, **options: Any) -> Axes:
    """Draw a record with the function for its class.

    Raises:
        InputError: For a record without a plot.
    """
    raise InputError(f"There is no plot for a {type(record).__name__}.")


draw.register(Fitted, intervals)
draw.register(Forecast, forecast)
draw.register(Sweep, isoflop)
draw.register(Allocation, isoflop)
draw.register(Allocations, isoflop)
draw.register(Crossing, crossover)
draw.register(CoveragePosterior, coverage)
draw.register(CoverageForecast, coverage_forecast)
draw.register(Budget, budget)
draw.register(BestOfN, best_of_n)


@draw.register
def chain(record: Chain, **options: Any) -> Axes:
    """Draw the scores of a chain by the loss, with the options of `fitted` for the fit of scores."""
    return intervals(record.scores, **options)


@draw.register
def runs(record: Runs, *, ax: Axes | None = None) -> Axes:
    """Draw the response of runs over the input with the largest range, one colour for each family.

    Args:
        record: Runs with a scale input.
        ax: Axes to draw into; by default those of a new figure.

    Raises:
        InputError: For runs without a scale input.
    """
    if not record.inputs:
        raise InputError(f"{record.name} has no scale input to plot. Read it with one, e.g. inputs=('n_params',).")
    frame = record.frame
    name = max(record.inputs, key=lambda one: float(frame[one].max() / frame[one].min()))
    low, high = float(frame[name].min()), float(frame[name].max())
    with drawing(ax) as ax:
        for number, (family, rows) in enumerate(frame.groupby("family", sort=False)):
            label = str(family) if number < len(PALETTE) else None
            ax.plot(rows[name], rows[record.response_kind], **MARKS, color=PALETTE[number % len(PALETTE)], label=label)
        log_axes(ax, low / 1.2, high * 1.2, response=record.value is None)
        ax.set_xlabel(UNITS.get(name, name))
        ax.set_ylabel(record.response)
        dress(ax)
        families = len(record.families)
        headline(ax, record.name, f"{len(frame)} runs" + (f" of {families} families" if families > 1 else ""))
        if families > 1:
            key(ax)
    return ax


@draw.register
def pooled(record: Pool, *, quantity: str | None = None, level: float = 0.9, ax: Axes | None = None) -> Axes:
    """Draw median and interval of a quantity for each family of a pool.

    Args:
        record: A pool.
        quantity: Name of a pooled or shared quantity; by default the first.
        level: Central probability of the intervals.
        ax: Axes to draw into; by default those of a new figure.

    Raises:
        InputError: For a name that is neither pooled nor shared.
    """
    names = [one.name for one in record.quantities]
    name = names[0] if quantity is None else quantity
    if name not in names:
        raise InputError(f"{name!r} is neither pooled nor shared. {nearest(name, names)}")
    table = record.families(level)
    rows = np.arange(len(table))[::-1]
    with drawing(ax) as ax:
        ax.hlines(rows, table[f"{name}_low"], table[f"{name}_high"], color=BLUE)
        ax.plot(table[name], rows, **MARKS, color=BLUE)
        ax.set_yticks(rows, list(table.index))
        ax.set_xlabel(name)
        dress(ax)
        headline(ax, f"{record.law.name}: {name} of {len(table)} families", f"median and {level:.0%} interval")
    return ax


@draw.register
def decision(record: Decision, **options: Any) -> Axes:
    """Draw the forecast on which a decision is based, with the target."""
    return forecast(record.forecast, **{"target": record.target, **options})


@draw.register
def backtest(record: Backtest, *, ax: Axes | None = None) -> Axes:
    """Draw held-out runs with their intervals; if they are many, observed against nominal coverage of the intervals.

    A backtest with several extrapolation factors has a coverage curve for each.
    """
    if len(record.frame) <= MOST_SHOWN:
        return held_out(record.frame, ax=ax)
    levels = np.linspace(0.05, 0.95, 19)
    if not several_cuts(record.frame):
        return reliability(record.coverage(levels), ax=ax)
    parts = [
        dataclasses.replace(record, frame=part).coverage(levels, method=f"ratio {factor_shown(float(ratio), 3)}")
        for ratio, part in record.frame.groupby("ratio", sort=True)
    ]
    return reliability(pd.concat(parts, ignore_index=True), ax=ax)


@draw.register
def comparison(record: Comparison, *, ax: Axes | None = None) -> Axes:
    """Draw the probability that each recipe is the best."""
    at = f"at {record.axis} {record.point:.3g}"
    return rows(record.names, list(record.p_best.values()), "Which recipe is best", f"probability {at}", ax=ax)


@draw.register
def duel(record: Duel, *, ax: Axes | None = None) -> Axes:
    """Draw the probability that each of two recipes is the better one."""
    labels, values = (record.first, record.second), [record.p_first, 1.0 - record.p_first]
    return rows(labels, values, f"{record.first} against {record.second}", "probability to be better", ax=ax)


@draw.register
def power(record: Power, *, ax: Axes | None = None) -> Axes:
    """Draw the power of each plan with two binomial standard errors, and the power that counts as enough."""
    value, error = record.frame["power"].to_numpy(float), 2.0 * record.frame["power_error"].to_numpy(float)
    ends = np.clip([value - error, value + error], 0.0, 1.0)
    return rows(record.frame["plan"], value, "Power of each plan", record.aim, ends=ends, mark=record.wanted, ax=ax)


@draw.register
def reach(record: Reach, *, ax: Axes | None = None) -> Axes:
    """Draw the probability that the target is met up to each value of the input."""
    grid = np.geomspace(record.low, record.high, REACH_POINTS)
    chance = (record.log_input[:, None] <= np.log(grid)).mean(0)
    with drawing(ax) as ax:
        ax.plot(grid, chance, color=BLUE, linewidth=1.6)
        ax.fill_between(grid, chance, color=BLUE, alpha=0.12, linewidth=0)
        ax.set_ylim(0.0, 1.0)
        log_axes(ax, record.low, record.high, response=False)
        ax.set_xlabel(record.input)
        ax.set_ylabel("probability that the target is met")
        dress(ax)
        held = "".join(f", at {name} {value:.3g}" for name, value in record.at.items())
        headline(ax, f"Where {record.target:g} is met", f"by the mean curve, law and discrepancy{held}")
    return ax


@draw.register
def stops(record: Stops, *, ax: Axes | None = None) -> Axes:
    """Draw the probability of each run to meet the target, and the probability below which a run is stopped."""
    words = f"probability to meet {record.target:g}; line: stop below it"
    return rows(record.frame["run"], record.frame["probability"], "Runs in progress", words, mark=record.chance, ax=ax)


@draw.register
def ranking(record: Ranking, *, ax: Axes | None = None) -> Axes:
    """Draw the net value of each candidate pilot; without costs, its information about the target run."""
    staked = "enbs" in record.frame and record.frame["enbs"].notna().any()
    column, words = ("enbs", f"value less cost {record.unit}") if staked else ("information", "information in nats")
    labels = [
        ", ".join(f"{name} {row[name]:.3g}" for name in record.at if name in row)
        for row in record.frame.to_dict("records")
    ]
    return rows(labels, record.frame[column], "Which pilot to run next", words.strip(), ax=ax)


@draw.register
def seed_noise(record: SeedNoise, *, ax: Axes | None = None) -> Axes:
    """Draw the mean response of each recipe and setting with two standard errors."""
    table = record.table
    varying = [c for c in table if c not in ("runs", "mean", "se", "sd") and table[c].nunique() > 1] or ["family"]
    labels = [
        ", ".join(f"{row[c]:.3g}" if isinstance(row[c], float) else str(row[c]) for c in varying)
        for row in table.to_dict("records")
    ]
    mean, error = table["mean"].to_numpy(float), 2.0 * table["se"].to_numpy(float)
    return rows(
        labels,
        mean,
        f"Mean {record.response} over seeds",
        "bars: two standard errors",
        ends=[mean - error, mean + error],
        mark=record.bar,
        ax=ax,
    )


@draw.register
def item_comparison(record: ItemComparison, *, ax: Axes | None = None) -> Axes:
    """Draw the accuracy of each model with its interval."""
    table = record.accuracies()
    ends = [table["low"].to_numpy(), table["high"].to_numpy()]
    title, subtitle = f"Accuracy on {record.items:,} items", f"bars: {100.0 * record.level:g} % intervals"
    return rows(list(record.names), table["median"].to_numpy(), title, subtitle, ends=ends, ax=ax)


@draw.register
def seed_difference(record: SeedDifference, *, ax: Axes | None = None) -> Axes:
    """Draw the probability that each of two recipes is the better one."""
    labels, values = (record.first, record.second), [1.0 - record.p_better, record.p_better]
    return rows(labels, values, f"{record.first} against {record.second}", "probability to be better", ax=ax)


@draw.register
def looks(record: Looks, *, ax: Axes | None = None) -> Axes:
    """Draw the p-value after every seed, with the largest significant p-value."""
    with drawing(ax) as ax:
        dress(ax)
        planned = range(2, record.most_seeds + 1)
        ax.plot(planned, record.levels, color=QUIET, linestyle="--", label="names a recipe at or below")
        ax.plot(planned[: len(record.p)], np.maximum(record.p, LEAST_P), color=BLUE, marker="o", label="p-value")
        ax.set_yscale("log")
        ax.set_xlabel("seeds of each recipe")
        ax.set_ylabel("two-sided p-value")
        headline(ax, f"{record.first} against {record.second}", f"looked at after every seed: {record.short}")
        key(ax)
    return ax


def rows(
    labels: Sequence[Any] | pd.Series,
    values: Any,
    title: str,
    words: str,
    *,
    ends: Any = None,
    mark: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one point in each row, the first at the top.

    Args:
        labels: Names of the rows.
        values: Value of each row.
        title: Title of the plot.
        words: Description of the values, below the title.
        ends: Ends of an interval for each row, shape (side, row).
        mark: A value to mark with a line.
        ax: Axes to draw into; by default those of a new figure.
    """
    values = np.asarray(values, float)
    height = np.arange(len(values))[::-1]
    with drawing(ax) as ax:
        if ends is not None:
            low, high = np.asarray(ends, float)
            ax.hlines(height, low, high, color=BLUE, linewidth=1.6)
        ax.plot(values, height, **MARKS, color=BLUE)
        ax.set_yticks(height, [str(label) for label in labels])
        ax.set_ylim(-0.6, len(values) - 0.4)
        if mark is not None:
            ax.axvline(mark, color=QUIET, linewidth=1.2, linestyle="--")
        ax.margins(x=0.1)
        dress(ax, "x")
        headline(ax, title, words)
    return ax
