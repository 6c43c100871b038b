"""Pictures of one fit: intervals, constants, what was learned, residuals, and forecasts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bayescale import _io, checked
from bayescale.data.runs import Runs
from bayescale.data.wording import quantities, ray_words
from bayescale.decide.isoflop import is_sweep
from bayescale.digits import factor_shown
from bayescale.errors import InputError, nearest
from bayescale.forecast import Forecast, known_kind
from bayescale.model.parameters import constrain_draws
from bayescale.plot.decisions import crossover as crossover
from bayescale.plot.isoflop import fitted as fitted
from bayescale.plot.isoflop import isoflop as isoflop
from bayescale.plot.isoflop import mark_question
from bayescale.plot.style import (
    BLUE,
    INK,
    MARKS,
    MINUS,
    ORANGE,
    PALETTE,
    QUIET,
    SHADE,
    along,
    and_list,
    beyond,
    density,
    drawing,
    dress,
    extremes,
    figure_of,
    headline,
    key,
    label_ends,
    log_axes,
    matches,
    measured_rows,
    note,
    percent,
    plain,
    points,
    reach,
    response_of,
    settings_of,
    short,
    small_multiples,
    target_line,
    truths,
    uncrowded,
    upright,
)
from bayescale.posterior.fitted import Fitted
from bayescale.posterior.posterior import Posterior
from bayescale.posterior.posterior import fitted as fitted_posterior
from bayescale.posterior.predictive import run_variance

UNITS = {
    "n_params": "parameters",
    "n_tokens": "training tokens",
    "flops": "training compute (FLOP)",
    "n_samples": "training samples",
}
KINDS = {"run": "one future run", "mean": "the mean loss"}
GRID = 160


# --- Pictures of one fit -----------------------------------------------------------------------------------


def intervals(
    posterior: Fitted,
    *,
    ax: Axes | None = None,
    input: str | None = None,
    upto: float | None = None,
    kind: str = "run",
    levels: Iterable[float] = (0.5, 0.8, 0.95),
    target: float | None = None,
    truth: pd.DataFrame | Runs | None = None,
    question: Forecast | None = None,
) -> Axes:
    """Draw the fitted runs and the predictive intervals, inside the data and beyond.

    With several inputs the intervals run along one of them, at each setting of the others where the data have up to
    four. An isoFLOP sweep is drawn as its valleys instead (see `isoflop`), and other runs that fill a plane as measured
    against fitted losses (see `fitted`), unless `input` or `upto` asks for a slice, which is at the others' geometric
    mean.

    Args:
        posterior: A fit.
        ax: Where to draw.
        input: Input of the x axis; by default the one that spans most.
        upto: Largest x; by default ten times the data; in any case far enough for `truth`.
        kind: "run" for one future run with a new seed, "mean" for the curve itself.
        levels: Central probabilities of the intervals.
        target: A value to mark with a line.
        truth: Runs measured afterwards, with the inputs and loss, which the fit has not seen.
        question: Forecast of one run, which is marked; the other inputs are then those of this run.

    Raises:
        InputError: For an unknown input or kind, a level outside (0, 1), or a truth without its columns.

    Example:
        >>> bs.plot.intervals(post, upto=1e23, target=2.3)  # doctest: +SKIP
    """
    name = along(posterior, input)
    known_kind(kind)
    levels = checked_levels(levels)
    checked.options(target=(target, checked.optional(checked.POSITIVE)))
    frame = posterior.runs.frame
    later = None if truth is None else measured_rows(truth, posterior.law.inputs)
    low, high = extremes(frame, name)
    end = reach(high, upto, later, name)
    others = [c for c in posterior.law.inputs if c != name]
    groups, averaged = settings_of(frame, others)
    if input is None and upto is None and kind == "run" and others:
        if later is None and is_sweep(posterior):
            return isoflop(posterior, ax=ax, target=target, question=question)
        if averaged:
            return fitted(posterior, ax=ax, truth=truth, target=target, question=question)
    if question is not None:
        asked = question.points.iloc[0]
        end = max(end, float(asked[name]))
        if others:
            groups, averaged = [{c: float(asked[c]) for c in others}], True
    start = low if later is None else min(low, extremes(later, name)[0])
    grid = np.unique(np.concatenate([np.geomspace(start, end, GRID), [low, high]]))
    drawn = medians_and_intervals(posterior, name, grid, groups, kind, levels)
    rising = all(float(middle[-1]) > float(middle[0]) for _, middle, _ in drawn)
    with drawing(ax) as ax:
        draw_settings(ax, drawn, grid, name, frame, later, averaged)
        log_axes(ax, start / (end / start) ** 0.03, end)
        if end > high:
            beyond(ax, high, end, posterior.ray_power, below=rising)
        if start < low:
            ax.axvspan(ax.get_xlim()[0], low, **SHADE)
        if question is not None:
            mark_question(ax, question, name)
        target_line(ax, target)
        ray = posterior.ray
        ax.set_xlabel(UNITS.get(name, name) + ("" if ray is None else f"; {ray_words(ray)}"))
        ax.set_ylabel(response_of(posterior))
        dress(ax)
        listed = and_list([f"{100 * level:g}" for level in levels])
        subtitle = f"intervals of {KINDS[kind]}, {listed} %; line: median"
        if averaged:
            subtitle += f"; at {quantities(groups[0])}"
        headline(ax, f"{posterior.law.name} on {posterior.runs.name}", subtitle)
        label_ends(ax, names_at_ends(ax, drawn, levels))
        key(ax, None if rising else target, loc="upper left" if rising else "lower left")
    return ax


def checked_levels(levels: Any) -> list[float]:
    """Return central probabilities in increasing order, each once.

    Raises:
        InputError: For none, or one outside (0, 1).
    """
    found = list(levels) if np.iterable(levels) else levels
    if not isinstance(found, list) or not all(checked.PROBABILITY.holds(level) for level in found):
        raise InputError(f"levels must lie in (0, 1), e.g. (0.5, 0.8); found {checked.shortened(levels)}.")
    if not found:
        raise InputError("At least one level is needed, e.g. levels=(0.8,).")
    return sorted({float(level) for level in found})


Drawn = list[tuple[dict[str, float], np.ndarray, list[np.ndarray]]]
"""Settings of the other inputs, each with the median, shape (point,), and intervals, shape (side, point)."""


def medians_and_intervals(
    posterior: Fitted, name: str, grid: np.ndarray, groups: list[dict[str, float]], kind: str, levels: list[float]
) -> Drawn:
    """Forecast along one input at each setting of the others."""
    forecasts = [posterior.predict(pd.DataFrame({name: grid, **setting}), kind=kind) for setting in groups]
    return [
        (setting, forecast.quantile(0.5), [forecast.interval(level) for level in levels])
        for setting, forecast in zip(groups, forecasts, strict=True)
    ]


def draw_settings(
    ax: Axes,
    drawn: Drawn,
    grid: np.ndarray,
    name: str,
    frame: pd.DataFrame,
    later: pd.DataFrame | None,
    averaged: bool,
) -> None:
    """Draw medians, intervals, fitted runs and later runs at each setting of the other inputs.

    Args:
        ax: Where to draw.
        drawn: What to draw, one entry a setting.
        grid: Values of the input on the x axis, shape (point,).
        name: That input.
        frame: Fitted runs.
        later: Runs measured afterwards.
        averaged: Whether the setting is an average, so that all runs are at other settings.
    """
    several = len(drawn) > 1
    for color, (setting, middle, intervals) in zip(PALETTE, drawn, strict=False):
        for interval in reversed(intervals):
            # Intervals lie on top of each other, so equal opacity makes the inner ones darker.
            opacity = 0.13 if several else 0.20
            ax.fill_between(grid, *interval, color=color, alpha=opacity, linewidth=0, zorder=2)
        ax.plot(grid, middle, color=color, linewidth=1.6, zorder=3)
        points(ax, frame, name, color, setting if several else {}, averaged)
        if later is not None:
            truths(ax, later, name, color if several else ORANGE, setting if several else {}, averaged)
    if later is not None and several:
        # Those at settings of their own have no interval to be compared with, but are not left out either.
        known = [matches(later, setting) for setting, _, _ in drawn]
        truths(ax, later.loc[~np.any(known, axis=0)], name, INK, {}, averaged)


def names_at_ends(ax: Axes, drawn: Drawn, levels: list[float]) -> list[tuple[float, str, str]]:
    """Return height, text and colour of the labels at the right: of settings, or of one setting's median and levels."""
    if len(drawn) > 1:
        return [
            (float(middle[-1]), ", ".join(f"{c} {short(v, 3)}" for c, v in setting.items()), color)
            for color, (setting, middle, _) in zip(PALETTE, drawn, strict=False)
        ]
    ((_, middle, intervals),) = drawn
    lower = [
        (float(interval[0][-1]), f"{100 * level:g} %", QUIET) for level, interval in zip(levels, intervals, strict=True)
    ]
    return uncrowded(ax, [(float(middle[-1]), "median", BLUE), *reversed(lower)])


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
    checked.instance("A forecast", forecast, Forecast, hint="Make one with post.predict(...).")
    perhaps = checked.optional(checked.POSITIVE)
    checked.options(point=(point, checked.SEED), measured=(measured, perhaps), target=(target, perhaps))
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
        far = f"; extrapolation: {factor_shown(ratio)}x beyond the data" if ratio > 1 else ""
        headline(ax, forecast.label or "forecast", f"{KINDS[forecast.kind]} at {where}{far}")
    return ax


def constants(posterior: Fitted, *, axes: Sequence[Axes] | np.ndarray | None = None, prior: bool = True) -> np.ndarray:
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
    before = prior_constants(fitted_posterior(posterior)) if prior else {}
    panels = [(name, np.asarray(draws, float).ravel(), before.get(name)) for name, draws in posterior.draws.items()]
    known = [name for name, _, earlier in panels if earlier is not None]
    subtitle = "posterior, median and 90 % interval"
    if known:
        subtitle += "; dashed: prior, where a constant has its own"
    return small_multiples(panels, axes, f"{posterior.law.name} on {posterior.runs.name}", subtitle)


def learned(posterior: Fitted, *, axes: Sequence[Axes] | np.ndarray | None = None) -> np.ndarray:
    """Draw prior and posterior of each sampled coordinate, and how much of the prior's variance went away.

    Args:
        posterior: A fit.
        axes: As many axes as there are coordinates; the weights of single rows are left out.

    Returns:
        The axes, shape (coordinate,).

    Raises:
        InputError: For too few axes.
    """
    fit = fitted_posterior(posterior)
    # Student-t noise has a coordinate for each row, of no interest one by one.
    panels = [
        (
            name,
            np.concatenate([part.unconstrained[..., part.names.index(name)].ravel() for part in fit.components]),
            np.concatenate([part.prior_draws[:, part.names.index(name)] for part in fit.components]),
            f"learned {percent(float(gone))}",
        )
        for name, gone in fit.contraction().items()
        if not str(name).startswith("log_weight[")
    ]
    return small_multiples(
        panels,
        axes,
        f"What the data say: {posterior.law.name} on {posterior.runs.name}",
        "filled: posterior, dashed: prior; learned: 1 - posterior variance / prior variance",
    )


def residuals(posterior: Fitted, *, ax: Axes | None = None, input: str | None = None) -> Axes:
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
    one = 100.0 * float(np.sqrt(np.median(run_variance(posterior.flat_values, posterior.first.job.problem))))

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
        discrepancy = "law and discrepancy" if posterior.discrepancy is not None else "law"
        headline(
            ax,
            f"Residuals: {posterior.law.name} on {posterior.runs.name}",
            f"from the posterior mean curve ({discrepancy}); sd of one run: {one:.2g} %",
        )
    return ax


def save(ax: Axes | Iterable[Axes], path: str | Path, dpi: int = 160) -> Path:
    """Write the figure of some axes to a file, completely or not at all.

    Args:
        ax: Axes, or several of one figure.
        path: The file; its ending (png, svg, pdf) decides the format.
        dpi: Pixels an inch.

    Returns:
        The path.

    Raises:
        InputError: For a format that cannot be written, or a path as in `_io.writable`.
    """
    figure = figure_of(ax if isinstance(ax, Axes) else next(iter(np.ravel(np.asarray(ax, object)))))
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    formats = figure.canvas.get_supported_filetypes()
    if kind not in formats:
        raise InputError(f"{path.name} cannot be written as {kind or 'a picture'!r}. {nearest(kind, formats)}")
    return _io.write(path, lambda part: figure.savefig(part, dpi=dpi, format=kind))


def prior_constants(posterior: Fitted) -> dict[str, np.ndarray]:
    """Return prior draws of the quantities in `Fitted.draws` that do not follow the data's level, of all components."""
    found = [component_prior(part) for part in posterior.components]
    return {name: np.concatenate([part[name] for part in found]) for name in found[0] if name in posterior.draws}


def component_prior(posterior: Posterior) -> dict[str, np.ndarray]:
    """Return prior draws of one component, see `prior_constants`."""
    count, law = len(posterior.prior_draws), posterior.law
    values = constrain_draws(posterior.prior_draws[None], posterior.job.model, posterior.job.problem)
    values = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(count, *leaf.shape[2:]), values)
    constants = {name: np.broadcast_to(np.asarray(v, float), count) for name, v in values.constants.items()}
    if law.units:
        reference = dict(zip(law.inputs, posterior.reference, strict=True))
        # A wide prior of an exponent makes amplitudes in raw counts overflow; they are left out below.
        with np.errstate(over="ignore", invalid="ignore"):
            constants = law.at_unit_scale(constants, reference)
    levelled = law.covered[law.level[0]] if law.level else ()
    spreads = {"residual_sd": values.residual_sd, "seed_sd": values.seed_sd, "discrepancy": values.amplitude}
    known = {name: v for name, v in constants.items() if name not in levelled} | {
        name: np.broadcast_to(np.asarray(v, float), count) for name, v in spreads.items()
    }
    return {name: np.asarray(v, float) for name, v in known.items() if name in posterior.draws}
