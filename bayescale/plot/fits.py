"""Plots of one fit: intervals, constants, priors and posteriors, residuals, and forecasts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bayescale import _io, checked
from bayescale.checked import known_keywords
from bayescale.data.runs import Runs
from bayescale.data.wording import factor_unit, quantities, ray_words
from bayescale.decide.isoflop import is_sweep
from bayescale.errors import InputError, nearest
from bayescale.forecast import Forecast, known_kind
from bayescale.model.parameters import constrain_draws
from bayescale.plot.decisions import crossover as crossover
from bayescale.plot.isoflop import fitted as fitted
from bayescale.plot.isoflop import isoflop as isoflop
from bayescale.plot.isoflop import mark_question
from bayescale.plot.rows import measured_rows, response_rows
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
    drawing,
    dress,
    extremes,
    figure_of,
    headline,
    key,
    kind_words,
    label_ends,
    log_axes,
    matches,
    percent,
    points,
    reach,
    settings_of,
    short,
    small_multiples,
    target_line,
    truths,
    uncrowded,
)
from bayescale.posterior.checks import turn_ahead
from bayescale.posterior.fitted import Fitted, component_labels, own_draws
from bayescale.posterior.posterior import Posterior
from bayescale.posterior.posterior import fitted as fitted_posterior
from bayescale.posterior.predictive import run_variance

UNITS = {
    "n_params": "parameters",
    "n_tokens": "training tokens",
    "flops": "training compute (FLOP)",
    "n_samples": "training samples",
}
GRID = 160


# --- Pictures of one fit -----------------------------------------------------------------------------------


@known_keywords
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

    With several inputs the intervals run along one of them, at each setting of the others if the data have up to four
    settings. An isoFLOP sweep is drawn as its valleys instead (see `isoflop`), and other runs that fill a plane as
    measured against fitted losses (see `fitted`). With `input` or `upto`, such runs are drawn along one input at the
    geometric mean of the others.

    Args:
        posterior: A fit.
        ax: Axes to draw into; by default those of a new figure.
        input: Input on the x axis; by default the one with the largest range.
        upto: Largest x; by default ten times the data. The axis always includes `truth`.
        kind: "run" for one future run with a new seed, "mean" for the curve itself.
        levels: Central probabilities of the intervals.
        target: A value to mark with a line.
        truth: Runs measured afterwards, with the inputs and loss, which the fit has not seen.
        question: Forecast of one run to mark; the other inputs are then those of this run.

    Raises:
        InputError: For an unknown input or kind, a level outside (0, 1), or a truth without its columns.

    Example:
        >>> bs.plot.intervals(post, upto=1e23, target=2.3)  # doctest: +SKIP
    """
    name = along(posterior, input)
    known_kind(kind)
    levels = checked_levels(levels)
    kind_of = posterior.runs.response_kind
    checked.options(target=(target, checked.optional(checked.FINITE if kind_of == "value" else checked.POSITIVE)))
    frame = response_rows(posterior.runs)
    later = None if truth is None else measured_rows(truth, posterior.law.inputs, kind_of)
    low, high = extremes(frame, name)
    end, low_end = reach(high, farthest(posterior, high, upto), later, name), low
    others = [c for c in posterior.law.inputs if c != name]
    groups, averaged = settings_of(frame, others)
    if input is None and upto is None and kind == "run" and others:
        if later is None and is_sweep(posterior):
            return isoflop(posterior, ax=ax, target=target, question=question)
        if averaged:
            return fitted(posterior, ax=ax, truth=truth, target=target, question=question)
    if question is not None:
        asked = question.points.iloc[0]
        end, low_end = max(end, float(asked[name])), float(asked[name])
        if others:
            groups, averaged = [{c: float(asked[c]) for c in others}], True
    start = min(low, low_end, *([] if later is None else [extremes(later, name)[0]]))
    grid = np.unique(np.concatenate([np.geomspace(start, end, GRID), [low, high]]))
    drawn = medians_and_intervals(posterior, name, grid, groups, kind, levels)
    rising = all(float(middle[-1]) > float(middle[0]) for _, middle, _ in drawn)
    with drawing(ax) as ax:
        draw_settings(ax, drawn, grid, name, frame, later, averaged)
        log_axes(ax, start / (end / start) ** 0.03, end, response=kind_of == "loss")
        if end > high:
            beyond(ax, high, end, posterior.ray_power, below=rising, unit=factor_unit(posterior.ray))
        if start < low:
            ax.axvspan(ax.get_xlim()[0], low, **SHADE)
        if question is not None:
            mark_question(ax, question, name)
        target_line(ax, target)
        ray = posterior.ray
        ax.set_xlabel(UNITS.get(name, name) + ("" if ray is None else f"; {ray_words(ray)}"))
        ax.set_ylabel(posterior.response)
        dress(ax)
        listed = and_list([f"{100 * level:g}" for level in levels])
        subtitle = f"intervals of {kind_words(kind, posterior.response)}, {listed} %; line: median"
        if averaged:
            subtitle += f"; at {quantities(groups[0])}"
        headline(ax, f"{posterior.law_names} on {posterior.runs.name}", subtitle)
        label_ends(ax, names_at_ends(ax, drawn, levels))
        key(ax, None if rising else target, loc="upper left" if rising else "lower left")
    return ax


def farthest(posterior: Fitted, high: float, upto: float | None) -> float | None:
    """Return the largest x that was asked for; the end of the data if `predict` makes no forecast beyond them."""
    return high if upto is None and turn_ahead(posterior)[0] else upto


def checked_levels(levels: Any) -> list[float]:
    """Return central probabilities in increasing order, without repetition.

    Raises:
        InputError: For no level, or one outside (0, 1).
    """
    found = list(levels) if np.iterable(levels) else levels
    if not isinstance(found, list) or not all(checked.PROBABILITY.holds(level) for level in found):
        raise InputError(f"levels must lie in (0, 1), e.g. (0.5, 0.8); found {checked.shortened(levels)}.")
    if not found:
        raise InputError("At least one level is needed, e.g. levels=(0.8,).")
    return sorted({float(level) for level in found})


Drawn = list[tuple[dict[str, float], np.ndarray, list[np.ndarray]]]
"""Settings of the other inputs, each with the median, shape (point,), and intervals, shape (side, point) each."""


def medians_and_intervals(
    posterior: Fitted, name: str, grid: np.ndarray, groups: list[dict[str, float]], kind: str, levels: list[float]
) -> Drawn:
    """Forecast along one input at each setting of the others."""
    # Each point counts as a setting that was not fitted, because at fitted settings the interval of a run is narrower.
    points = [posterior.on_ray(pd.DataFrame({name: grid, **setting}), {}) for setting in groups]
    forecasts = [posterior.forecast_at(rows, kind, new_setting=True) for rows in points]
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
        ax: Axes to draw into.
        drawn: Medians and intervals, one entry per setting.
        grid: Values of the input on the x axis, shape (point,).
        name: Name of that input.
        frame: Fitted runs.
        later: Runs measured afterwards.
        averaged: Whether the setting is an average over the data, so that no run is exactly at it.
    """
    several = len(drawn) > 1
    for color, (setting, middle, intervals) in zip(PALETTE, drawn, strict=False):
        for interval in reversed(intervals):
            # Intervals overlap, so equal opacity makes the inner ones darker.
            opacity = 0.13 if several else 0.20
            ax.fill_between(grid, *interval, color=color, alpha=opacity, linewidth=0, zorder=2)
        ax.plot(grid, middle, color=color, linewidth=1.6, zorder=3)
        points(ax, frame, name, color, setting if several else {}, averaged)
        if later is not None:
            truths(ax, later, name, color if several else ORANGE, setting if several else {}, averaged)
    if later is not None and several:
        # Later runs at other settings have no interval here, but are drawn too.
        known = [matches(later, setting) for setting, _, _ in drawn]
        truths(ax, later.loc[~np.any(known, axis=0)], name, INK, {}, averaged)


def names_at_ends(ax: Axes, drawn: Drawn, levels: list[float]) -> list[tuple[float, str, str]]:
    """Return height, text and colour of the labels at the right: settings, or median and levels of a single one."""
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


@known_keywords
def constants(
    posterior: Fitted, *, axes: Sequence[Axes] | np.ndarray | None = None, prior: bool = True, component: int = 0
) -> np.ndarray:
    """Draw the posterior of each constant, in the paper's units if the law declares how they scale.

    Args:
        posterior: A fit.
        axes: As many axes as there are constants; by default those of a new figure.
        prior: Also draw the prior of constants that have a separate one. The floor and the amplitudes have none,
            because their prior is on the level of the law, relative to the data.
        component: Index of the component of a mixture, from 0; components have different constants.

    Returns:
        The axes, shape (constant,).

    Raises:
        InputError: For too few axes, or an index without a component.
    """
    part, words = chosen(fitted_posterior(posterior), component)
    before = component_prior(part) if prior else {}
    panels = [(name, np.asarray(draws, float).ravel(), before.get(name)) for name, draws in own_draws(part).items()]
    known = [name for name, _, earlier in panels if earlier is not None]
    subtitle = "posterior, median and 90 % interval"
    if known:
        subtitle += "; dashed: prior, where a constant has its own"
    subtitle += "; sds are relative"
    return small_multiples(panels, axes, f"{posterior.law_names} on {posterior.runs.name}{words}", subtitle)


@known_keywords
def learned(posterior: Fitted, *, axes: Sequence[Axes] | np.ndarray | None = None, component: int = 0) -> np.ndarray:
    """Draw prior and posterior of each unconstrained parameter, and by how much the data reduced its variance.

    Args:
        posterior: A fit.
        axes: As many axes as there are parameters, without weights of single rows; by default those of a new figure.
        component: Index of the component of a mixture, from 0.

    Returns:
        The axes, shape (parameter,).

    Raises:
        InputError: For too few axes, or an index without a component.
    """
    part, words = chosen(fitted_posterior(posterior), component)
    # Student-t noise has a parameter for each row; these are not drawn.
    panels = [
        (
            name,
            part.unconstrained[..., part.names.index(name)].ravel(),
            part.prior_draws[:, part.names.index(name)],
            f"learned {percent(float(gone))}",
        )
        for name, gone in part.contraction().items()
        if not str(name).startswith("log_weight[")
    ]
    return small_multiples(
        panels,
        axes,
        f"What the data say: {posterior.law_names} on {posterior.runs.name}{words}",
        "filled: posterior, dashed: prior; learned: 1 - posterior variance / prior variance",
    )


def chosen(fit: Fitted, component: int) -> tuple[Posterior, str]:
    """Return a component of a fit, and for a mixture a description of the component, for titles.

    Raises:
        InputError: If there is no such component.
    """
    checked.options(component=(component, checked.SEED))
    if component >= len(fit.components):
        labels = ", ".join(f"{number}: {label}" for number, label in enumerate(component_labels(fit)))
        raise InputError(f"The fit has no component {component}; it has {labels}.")
    several = len(fit.components) > 1
    return fit.components[component], f", {component_labels(fit)[component]}" if several else ""


@known_keywords
def residuals(posterior: Fitted, *, ax: Axes | None = None, input: str | None = None) -> Axes:
    """Draw the deviation of each run from the posterior mean curve, with the spread expected of one run.

    Args:
        posterior: A fit.
        ax: Axes to draw into; by default those of a new figure.
        input: Input on the x axis; by default the one with the largest range.

    Raises:
        InputError: For an unknown input.
    """
    name = along(posterior, input)
    frame = posterior.runs.frame
    forecast, scored = posterior.predict(frame, kind="mean", force=True), posterior.runs.score is not None
    rest = 100.0 * (np.log(frame["loss"].to_numpy()) - forecast.location.mean(0))
    one = 100.0 * float(np.sqrt(np.median(run_variance(posterior.flat_values, posterior.first.job.problem))))
    called, unit = "ln(measured) - ln(curve), in %", "%"
    if (value := posterior.runs.value) is not None:
        rest = posterior.runs.shown - forecast.quantile(0.5)
        one = 0.01 * one * value.unit
        called, unit = "measured - curve", f"in units of the {posterior.response}"
    if scored:
        rest = 100.0 * (posterior.runs.shown - forecast.quantile(0.5))
        measured = forecast.measured(items=frame["n_items"].to_numpy(float))
        one = 50.0 * float(np.median(np.diff(measured.interval(0.683), axis=0)))
        called, unit = "measured - curve, in points of 100", "points, with that of its items"

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
        ax.set_ylabel(called)
        dress(ax)
        label_ends(ax, [(s * one, f"{'+' if s > 0 else MINUS}{abs(s)} scatter", QUIET) for s in (2, 1, -1, -2)])
        discrepancy = "law and discrepancy" if posterior.discrepancy is not None else "law"
        headline(
            ax,
            f"Residuals: {posterior.law_names} on {posterior.runs.name}",
            f"from the posterior mean curve ({discrepancy}); sd of one run: {one:.2g} {unit}",
        )
    return ax


@known_keywords
def save(ax: Axes | Iterable[Axes], path: str | Path, dpi: int = 160) -> Path:
    """Write the figure of some axes to a file, completely or not at all.

    Args:
        ax: Axes, or several of one figure.
        path: The file; its suffix (png, svg, pdf) decides the format.
        dpi: Pixels per inch.

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


def component_prior(posterior: Posterior) -> dict[str, np.ndarray]:
    """Return prior draws of the quantities of one model whose prior is not relative to the data's level."""
    count, law = len(posterior.prior_draws), posterior.law
    values = constrain_draws(posterior.prior_draws[None], posterior.job.model, posterior.job.problem)
    values = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(count, *leaf.shape[2:]), values)
    constants = {name: np.broadcast_to(np.asarray(v, float), count) for name, v in values.constants.items()}
    if law.units:
        reference = dict(zip(law.inputs, posterior.reference, strict=True))
        # With a wide prior of an exponent, amplitudes in raw counts overflow; such draws are dropped below.
        with np.errstate(over="ignore", invalid="ignore"):
            constants = law.at_unit_scale(constants, reference)
    levelled = law.covered[law.level[0]] if law.level else ()
    spreads = {"residual_sd": values.residual_sd, "seed_sd": values.seed_sd, "discrepancy": values.amplitude}
    known = {name: v for name, v in constants.items() if name not in levelled} | {
        name: np.broadcast_to(np.asarray(v, float), count) for name, v in spreads.items()
    }
    return {name: np.asarray(v, float) for name, v in known.items() if name in posterior.draws}
