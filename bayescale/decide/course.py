"""The axis along which recipes are compared, and the predictions of each recipe's fit along it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayescale import checked
from bayescale.data.value import ValueScale
from bayescale.decide.paired import Ratio, spaced
from bayescale.errors import InputError, nearest
from bayescale.forecast import other_inputs, our_names
from bayescale.posterior.fitted import Fitted

FARTHEST = 1000.0
"""Largest speed-up factor that is evaluated."""
POINTS = 65
"""Number of points at which a range is evaluated."""
PATH_POINTS = 161
FACTORS = np.linspace(-np.log(FARTHEST), np.log(FARTHEST), 141)
"""Logarithms of the speed-up factors that are evaluated."""
WIDEST = 4.0
"""Standard deviations of a recipe's log rate that the grid of the axis covers."""

Inputs = Callable[[Any], Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Course:
    """An axis, and for each recipe a function from points of the axis to inputs.

    Attributes:
        label: Name of the axis.
        start: Logarithm of the point in question.
        paths: By recipe, function from values of the axis to inputs, at the median of the recipe's rate.
        spreads: By recipe, standard deviation of the logarithm of its rate (inputs bought per unit of cost).
        shared: Whether all recipes have the same inputs along the axis.
    """

    label: str
    start: float
    paths: Mapping[str, Callable[[np.ndarray], pd.DataFrame]]
    spreads: Mapping[str, float]
    shared: bool

    def points(self, stretch: tuple[float, float] | None) -> np.ndarray:
        """Return logarithms of points on the axis: the point in question, then the range."""
        if stretch is None:
            return np.array([self.start])
        return np.concatenate([[self.start], np.linspace(*np.log(stretch), POINTS)])

    def inputs(self, name: str, u: np.ndarray) -> pd.DataFrame:
        """Return the inputs of a recipe at points whose logarithms are `u`."""
        return self.paths[name](np.exp(u))

    def center(self, u: np.ndarray) -> pd.DataFrame | None:
        """Return the geometric mean of the recipes' inputs, where they have the same ones."""
        tables = [self.inputs(name, u) for name in self.paths]
        columns = list(tables[0])
        if any(set(table) != set(columns) for table in tables):
            return None
        logs = np.mean([np.log(table[columns].to_numpy(float)) for table in tables], axis=0)
        return pd.DataFrame(np.exp(logs), columns=columns)


def make_course(
    posteriors: Mapping[str, Fitted],
    at: Mapping[str, float],
    axis: str | None,
    stretch: tuple[float, float] | None,
    paths: Mapping[str, Inputs] | None,
    rates: Mapping[str, tuple[float, float]] | None,
    cost: float | None,
    unit: str,
) -> Course:
    """Build the axis from the arguments of the user.

    Raises:
        InputError: For arguments that contradict each other or the fits.
    """
    inputs = {name: posterior.law.inputs for name, posterior in posteriors.items()}
    first = next(iter(inputs.values()))
    if stretch is not None:
        two = isinstance(stretch, Sequence | np.ndarray) and len(stretch) == 2
        if not (two and all(checked.POSITIVE.holds(end) for end in stretch) and stretch[0] < stretch[1]):
            raise InputError(
                "range (--low, --high) must be two positive numbers, the smaller first; found "
                f"{checked.shortened(stretch)}."
            )
    for option, value in {"paths": paths, "rates": rates}.items():
        if value is not None:
            checked.mapping(option, value, f"{option}={{'A': ..., 'B': ...}}, by recipe")
    if paths is not None or rates is not None:
        return course_of_costs(inputs, at, axis, paths, rates, cost, unit)
    if cost is not None:
        raise InputError("cost= (--cost) also needs rates= (--rate), or paths= in Python, which say what a cost buys.")
    for name, own in inputs.items():
        if set(own) != set(first):
            raise InputError(
                f"{name} was fitted on {', '.join(own)} and {next(iter(inputs))} on {', '.join(first)}. Fit both on "
                "the same inputs (--input), or say what a common cost buys: rates= (--rate), or paths= in Python."
            )
    point = on_rays(posteriors, at)
    if axis is None and len(first) == 1:
        axis = first[0]
    if axis is not None and axis not in first:
        raise InputError(f"There is no input {axis!r}. {nearest(axis, first)}")
    if axis is not None and axis not in point and stretch is not None:
        point[axis] = stretch[1]
    check_point(point, first)
    if axis is not None:

        def along(values: np.ndarray) -> pd.DataFrame:
            return pd.DataFrame({name: values if name == axis else np.full(len(values), point[name]) for name in first})

        label, start = axis, float(np.log(point[axis]))
    else:
        factor = 6.0 if set(first) == {"n_params", "n_tokens"} else 1.0
        label = "flops (6 N D)" if factor == 6.0 else f"product of {', '.join(first)}"
        start = float(np.log(factor) + sum(np.log(point[name]) for name in first))

        def along(values: np.ndarray) -> pd.DataFrame:
            grown = np.exp((np.log(values) - start) / len(first))
            return pd.DataFrame({name: point[name] * grown for name in first})

    return Course(label, start, dict.fromkeys(posteriors, along), dict.fromkeys(posteriors, 0.0), True)


def on_rays(posteriors: Mapping[str, Fitted], at: Mapping[str, float]) -> dict[str, float]:
    """Return the point in question as inputs of the laws, for recipes that may have been fitted along rays.

    Raises:
        InputError: If the point lies off a recipe's ray, or if recipes have different points there.
    """
    rays = [posterior for posterior in posteriors.values() if posterior.ray is not None]
    at = our_names(dict(at), [name for one in posteriors.values() for name in (*one.law.inputs, *ray_names(one))])
    if not rays or not at:
        return at
    found: dict[str, float] = {}
    for name, posterior in posteriors.items():
        if (ray := posterior.ray) is None:
            continue
        points = posterior.on_ray(None, at)
        here = {key: float(value) for key, value in zip(ray.names[:1], posterior.law_inputs(points)[0], strict=True)}
        if ray.names[0] in at:
            here = {ray.names[0]: float(at[ray.names[0]])}
        if any(not np.isclose(found.get(key, value), value) for key, value in here.items()):
            raise InputError(
                f"The recipes lie on different rays, so {', '.join(at)} means another {ray.names[0]} for {name} than "
                f"for the others. Give {ray.names[0]}, or say what a common cost buys: rates= (--rate), or paths= in "
                "Python."
            )
        found |= here
    return found


def ray_names(posterior: Fitted) -> tuple[str, ...]:
    """Return the inputs of a fit's ray; none where there is no ray."""
    return () if posterior.ray is None else posterior.ray.names


def check_point(point: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuse a point that lacks an input, has an unknown one, or one that is not positive."""
    unknown = [name for name in point if name not in names]
    if unknown:
        raise InputError(f"There is no input {unknown[0]!r}. {other_inputs(unknown[0], tuple(names), point)}")
    missing = [name for name in names if name not in point]
    if missing:
        example = ", ".join(f"{name!r}: 1e10" for name in names)
        typed = ",".join(f"{name}=1e10" for name in names)
        raise InputError(
            f"The point in question lacks {', '.join(missing)}; give at={{{example}}} (--at {typed}), raw counts."
        )
    for name, value in point.items():
        if not checked.POSITIVE.holds(value):
            raise InputError(f"{name} must be positive and finite; found {checked.shortened(value)}.")


def course_of_costs(
    inputs: Mapping[str, tuple[str, ...]],
    at: Mapping[str, float],
    axis: str | None,
    paths: Mapping[str, Inputs] | None,
    rates: Mapping[str, tuple[float, float]] | None,
    cost: float | None,
    unit: str,
) -> Course:
    """Build an axis of cost, on which each recipe buys inputs at its own rate."""
    if cost is None or not (np.isfinite(cost) and cost > 0):
        raise InputError(
            f"An axis of {unit} needs the point in question as cost= (--cost), a positive number; found {cost}."
        )
    for label, given in {"paths": paths, "rates": rates}.items():
        if given is not None and set(given) != set(inputs):
            option = " (--rate)" if label == "rates" else ""
            raise InputError(f"{label}{option} must name every recipe, {', '.join(inputs)}; found {', '.join(given)}.")
    known = sorted(set().union(*inputs.values()))
    for name, value in at.items():
        if name not in known:
            raise InputError(f"There is no input {name!r}. {nearest(name, known)}")
        checked.options(**{name: (value, checked.POSITIVE)})
    made, spreads = {}, {}
    for name, own in inputs.items():
        rate, spread = (1.0, 0.0) if rates is None else rates[name]
        if not (rate > 0 and spread >= 0 and np.isfinite([rate, spread]).all()):
            raise InputError(
                f"rates[{name!r}] (--rate {name}=3e15:0.1) must be a positive rate, and the sd of its logarithm of at "
                f"least 0; found {rate} and {spread}."
            )
        if paths is None:
            target = own[0] if axis is None and len(own) == 1 else axis
            if target not in own:
                raise InputError(
                    f"Say with axis= (--axis) which input a cost buys: one of {', '.join(own)}; found {axis!r}."
                )
            check_point({**{key: at[key] for key in at if key in own}, target: 1.0}, own)
            made[name] = bought(dict(at), target, own, rate)
        else:
            made[name] = followed(name, paths[name], dict(at), own, rate)
        made[name](np.array([cost]))
        spreads[name] = float(spread)
    return Course(unit, float(np.log(cost)), made, spreads, False)


def bought(at: dict[str, float], target: str, own: tuple[str, ...], rate: float) -> Callable[..., pd.DataFrame]:
    """Return the path on which a cost buys one input at a rate, and the other inputs stay fixed."""

    def along(values: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame({key: rate * values if key == target else np.full(len(values), at[key]) for key in own})

    return along


def followed(
    name: str, path: Inputs, at: dict[str, float], own: tuple[str, ...], rate: float
) -> Callable[..., pd.DataFrame]:
    """Return the path that a user's function describes, with checks of what it returns."""

    def along(values: np.ndarray) -> pd.DataFrame:
        found = {**at, **path(rate * values)}
        missing = [key for key in own if key not in found]
        if missing:
            raise InputError(
                f"The path function of {name} must return {', '.join(own)}; it did not return {', '.join(missing)}."
            )
        table = pd.DataFrame({key: np.broadcast_to(np.asarray(found[key], float), len(values)) for key in own})
        if not (np.isfinite(table) & (table > 0)).all(axis=None):
            raise InputError(
                f"The path function of {name} must return positive, finite inputs at every cost on the axis."
            )
        return table

    return along


# --- Draws along the axis -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class AxisDraws:
    """Draws of ln y of one recipe along the axis; for values see `in_values`.

    Attributes:
        own: Ln y at the recipe's own inputs with a drawn rate, shape (draw, point).
        shift: `own` minus ln y at the inputs that all recipes have in common, shape (draw, point).
        relative: Ln y at `FACTORS` times the point in question minus ln y there, shape (draw, factor).
        noise: Deviation of one run from the curve, shape (draw,).
    """

    own: np.ndarray
    shift: np.ndarray
    relative: np.ndarray
    noise: np.ndarray


def draw_along(
    posterior: Fitted, course: Course, name: str, u: np.ndarray, draws: int, rng: np.random.Generator
) -> AxisDraws:
    """Draw ln y of one recipe along the axis, with discrepancy and rate drawn jointly over all points."""
    spread = course.spreads[name]
    reach = np.log(FARTHEST) + WIDEST * spread
    grid = np.linspace(u.min() - reach, u.max() + reach, PATH_POINTS)
    center = course.center(u)
    tables = [course.inputs(name, grid), course.inputs(name, u), *([] if center is None else [center])]
    frame = pd.concat(tables, ignore_index=True)
    mean = posterior.predict(frame, kind="mean", force=True).log_draws.reshape(-1, len(frame))
    scales = [
        posterior.predict(course.inputs(name, u[:1]), kind=kind, force=True).scale[:, 0] for kind in ("mean", "run")
    ]
    noise = np.sqrt(np.maximum(scales[1] ** 2 - scales[0] ** 2, 0.0)) * rng.standard_normal(len(mean))
    # Fits with equal seeds use the same random numbers; a random order keeps independent recipes uncorrelated.
    order = rng.permutation(spaced(len(mean), draws))
    mean = mean[order]
    log_rate = spread * np.clip(rng.standard_normal(draws), -WIDEST, WIDEST)
    on_grid, exact = mean[:, : len(grid)], mean[:, len(grid) : len(grid) + len(u)]
    own = exact if spread == 0 else interpolated(on_grid, grid, u + log_rate[:, None])
    shift = np.zeros_like(own)
    if not course.shared and center is not None:
        shift = own - mean[:, len(grid) + len(u) :]
    ahead = interpolated(on_grid, grid, u[0] + log_rate[:, None] + FACTORS)
    here = ahead[:, [len(FACTORS) // 2]]
    return AxisDraws(own, shift, ahead - here, noise[order])


def in_values(draws: AxisDraws, value: ValueScale) -> AxisDraws:
    """Return draws of y as draws of the value with the sign of a loss, which are comparable between fits."""
    own = value.sign * value.middle + value.unit * draws.own
    return AxisDraws(own, value.unit * draws.shift, value.unit * draws.relative, value.unit * draws.noise)


def interpolated(values: np.ndarray, grid: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the linear interpolation of each row of `values` at the same row of `x`; `grid` is evenly spaced."""
    position = np.clip((x - grid[0]) / (grid[1] - grid[0]), 0.0, len(grid) - 1 - 1e-9)
    left = position.astype(int)
    rows = np.arange(len(values))[:, None]
    part = position - left
    return (1.0 - part) * values[rows, left] + part * values[rows, left + 1]


@dataclasses.dataclass(frozen=True)
class Gap:
    """Draws of ln y_A - ln y_B.

    Attributes:
        curve: Difference of the curves, shape (draw, point).
        run: Difference of one run of each, at the point in question, shape (draw,).
        exact: Probabilities that A's curve, and that one run of A, is better, computed without Monte-Carlo error of the
            discrepancy; or None.
    """

    curve: np.ndarray
    run: np.ndarray
    exact: tuple[float, float] | None


def gap(
    ratio: Ratio, course: Course, recipes: Mapping[str, AxisDraws], u: np.ndarray, draws: int, rng: np.random.Generator
) -> Gap:
    """Return the difference of two recipes along the axis."""
    a, b = recipes[ratio.first], recipes[ratio.second]
    center = course.center(u)
    if ratio.posterior is None or center is None:
        curve = a.own - b.own
        return Gap(curve, curve[:, 0] + a.noise - b.noise, None)
    mean, run = ratio.predict(center), ratio.predict(center.iloc[:1], kind="run")
    order = rng.permutation(spaced(len(mean.location), draws))
    shift = a.shift - b.shift
    exact = None
    if course.shared:
        exact = float(mean.probability_below(1.0)[0]), float(run.probability_below(1.0)[0])
    return Gap(mean.log_draws.reshape(-1, len(u))[order] + shift, run.log_draws.reshape(-1)[order] + shift[:, 0], exact)


def relative_losses(
    names: Sequence[str], gaps: Mapping[tuple[str, str], np.ndarray], paired: bool
) -> dict[str, np.ndarray]:
    """Return ln y of each recipe relative to the mean of all recipes, from the differences of all pairs.

    With paired fits of K recipes, the K (K - 1) / 2 fits of ratios share data, so averages of their differences come
    out too narrow. The spread about the mean is therefore multiplied by sqrt(K / 2), which restores the width of a
    single pair.
    """
    count = len(names)
    result = {}
    for name in names:
        total = sum((value if a == name else -value) for (a, b), value in gaps.items() if name in (a, b))
        mean = np.asarray(total) / count
        middle = mean.mean(0)
        result[name] = middle + np.sqrt(0.5 * count) * (mean - middle) if paired else mean
    return result
