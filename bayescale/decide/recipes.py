"""Compare: which of several recipes is better, at which scales, from which scale on, and by what factor of compute.

Recipes that were measured at common scales are compared by the ratio of their losses (`bayescale.decide.paired`), in
which everything that they share cancels. Other recipes are compared as if they were independent, and the text says so.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from bayescale import checked
from bayescale.checked import handing_on, known_keywords, names_of
from bayescale.data.runs import Runs
from bayescale.decide.comparison import Comparison, Duel
from bayescale.decide.course import (
    FACTORS,
    AxisDraws,
    Course,
    Inputs,
    draw_along,
    gap,
    in_values,
    make_course,
    relative_losses,
)
from bayescale.decide.crossing import Crossing, crossing_of, factor_needed, quantiles
from bayescale.decide.noise import SeedNoise, noise
from bayescale.decide.outcomes import refuse_drawn_score
from bayescale.decide.paired import Ratio, pair
from bayescale.decide.trust import Caveat, caveats, far_caveat, law_point, unconverged
from bayescale.errors import InputError
from bayescale.posterior.fitted import Fitted

COST = "cost"
"""Default name of the cost."""


@known_keywords
def compare(
    posteriors: Mapping[str, Fitted] | Runs,
    *,
    at: Mapping[str, float] | None = None,
    axis: str | None = None,
    range: tuple[float, float] | None = None,
    equal: float = 0.0,
    paths: Mapping[str, Inputs] | None = None,
    rates: Mapping[str, tuple[float, float]] | None = None,
    cost: float | None = None,
    unit: str = COST,
    deadline: float | None = None,
    pairing: str = "auto",
    seed: int = 0,
) -> Any:
    """Compare recipes at a point and along a range, or recipes at one scale by their seeds.

    The axis is one input (the only one, or `axis`). With several inputs and no `axis` it is the ray through `at`, on
    which all inputs grow together, and its values are their product (6 N D for parameters and tokens). With `paths` or
    `rates` it is a cost that is the same for all recipes: money, hours, FLOPs.

    Args:
        posteriors: Fits of two or more recipes, by name; each contains its runs. Or runs of two or more families at one
            scale, which need no fit: see `noise`.
        at: Inputs at the point in question: raw counts by name. On an axis of cost, the inputs that stay fixed.
        axis: Input on the axis.
        range: Start and end of the part of the axis on which crossings are sought.
        equal: Difference in ln loss below which recipes count as practically equal.
        paths: By recipe, the inputs that a cost buys: a function from costs (an array) to inputs by name.
        rates: By recipe, units of the axis' input that one unit of cost buys, with their uncertainty: (rate, sd of its
            logarithm). With `paths`, the cost is first multiplied by the rate.
        cost: The point in question on an axis of cost.
        unit: Name of the cost.
        deadline: Point of the axis by which a recipe should have become better; needs `range`.
        pairing: "auto" compares recipes with at least three common scales by their ratio, unless they have scores;
            "independent" never does.
        seed: Seed of the fits of ratios and of the draws of rates.

    Returns:
        A `Comparison` (for runs a `SeedNoise`): probabilities, differences, regrets, speed-ups and crossings. With
        three or more recipes, the fits of all pairs are combined: a recipe's loss relative to all is the mean of its
        differences. Its spread is widened so that, if all differences are equally certain, each keeps its width.

    Raises:
        InputError: For fewer than two recipes, inputs that do not fit the recipes, or an impossible range.

    Example:
        >>> bs.decide.compare({"A": post_a, "B": post_b}, at={"n_params": 7e9})  # doctest: +SKIP
    """
    if isinstance(posteriors, Runs):
        given = {"at": at, "axis": axis, "range": range, "paths": paths, "rates": rates, "cost": cost}
        given |= {"deadline": deadline, "equal": equal or None, "unit": None if unit == COST else unit}
        idle = [name for name, value in given.items() if value is not None]
        return compare_seeds(posteriors, idle)
    names = check_recipes(posteriors, pairing, equal, at)
    checked.options(seed=(seed, checked.SEED), unit=(unit, checked.TEXT))
    perhaps = checked.optional(checked.POSITIVE)
    checked.options(cost=(cost, perhaps), deadline=(deadline, perhaps))
    course = make_course(posteriors, at or {}, axis, range, paths, rates, cost, unit)
    if range is not None and posteriors[names[0]].runs.value is not None:
        raise InputError(
            "Crossings are not computed for values; leave out range= (--low, --high), and compare at several points."
        )
    if deadline is not None and range is None:
        raise InputError("deadline also needs range=(low, high) (--low and --high), in which crossings are searched.")
    if unit != COST and rates is None and paths is None:
        raise InputError("unit (--cost-unit) has an effect only together with rates= (--rate).")
    rng = np.random.default_rng([seed, 2])
    u = course.points(range)
    # The ratio of odds of few items is not normal, and values have no ratio, so these are compared by separate fits.
    scored = posteriors[names[0]].runs.response_scale is not None
    ratios = {
        (a, b): pair((a, b), posteriors[a], posteriors[b], seed=seed)
        if pairing == "auto" and not scored
        else Ratio(a, b, None, 0, (posteriors[a], posteriors[b]), asked=True)
        for a, b in itertools.combinations(names, 2)
    }
    stretch = None if range is None else Stretch(u[1:], deadline)
    return comparison_of(posteriors, ratios, course, u, rng, float(equal), stretch)


class Stretch(NamedTuple):
    """The part of the axis on which crossings are sought: logarithms of its points, and the deadline or None."""

    u: np.ndarray
    deadline: float | None


def comparison_of(
    posteriors: Mapping[str, Fitted],
    ratios: Mapping[tuple[str, str], Ratio],
    course: Course,
    u: np.ndarray,
    rng: np.random.Generator,
    equal: float,
    stretch: Stretch | None,
) -> Comparison:
    """Compare recipes by joint draws along the axis.

    Args:
        posteriors: Fits by recipe.
        ratios: Fit of the ratio of each pair.
        course: The axis.
        u: Logarithms of points of the axis, shape (point,); the first is the point in question.
        rng: Generator of random numbers.
        equal: Difference in ln loss below which recipes count as practically equal.
        stretch: The part of the axis on which crossings are sought, or None.
    """
    names = tuple(posteriors)
    draws = max(len(posterior.flat_values.level) for posterior in posteriors.values())
    recipes = {name: draw_along(posteriors[name], course, name, u, draws, rng) for name in names}
    recipes |= {name: in_values(recipes[name], v) for name in names if (v := posteriors[name].runs.value) is not None}
    gaps = {key: gap(ratio, course, recipes, u, draws, rng) for key, ratio in ratios.items()}
    paired = any(ratio.posterior is not None for ratio in ratios.values())
    losses = relative_losses(names, {key: found.curve for key, found in gaps.items()}, paired)
    losses_run = relative_losses(names, {key: found.run[:, None] for key, found in gaps.items()}, paired)
    found = all_caveats(posteriors, ratios, course, u)
    spoken = tuple(f"{name}: {caveat}" for name, own in found.items() for caveat in own)
    first = posteriors[names[0]].runs
    called = {"loss": "loss", "score": "odds of being wrong", "value": "value"}[first.response_kind]
    duels, crossings = [], []
    for (a, b), ratio in ratios.items():
        difference = losses[a] - losses[b]
        run = (losses_run[a] - losses_run[b])[:, 0]
        exact = gaps[a, b].exact if len(names) == 2 else None
        # Along a ray the axis is one input, whereas the cost is that of all inputs.
        along = [p for p in (posteriors[a], posteriors[b]) if p.ray is not None and course.label == p.ray.names[0]]
        power = max((p.ray_power for p in along), default=1.0)
        duel = in_units(duel_of(ratio, difference[:, 0], run, exact, recipes[a], equal, spoken, power, called), first)
        sizes = {*posteriors[a].law.inputs, *posteriors[b].law.inputs} - {"flops"}
        duels.append(dataclasses.replace(duel, axis=course.label if course.label in sizes and not along else "cost"))
        if stretch is not None:
            crossing = crossing_of(
                difference[:, 1:], stretch.u, names=(a, b), axis=course.label, deadline=stretch.deadline
            )
            crossings.append(dataclasses.replace(crossing, caveats=spoken, response=posteriors[a].response))
    points = {name: dict(course.inputs(name, u[:1]).iloc[0].astype(float)) for name in names}
    here = np.stack([losses[name][:, 0] for name in names])
    level = np.mean([recipes[name].own[:, 0].mean() for name in names]) - here.mean(0)
    reach = max(float(one.ratio(law_point(one, points[name]))[0]) for name, one in posteriors.items())
    fars = [far_caveat(posterior, points[name]) for name, posterior in posteriors.items()]
    return Comparison(
        names=names,
        at=points,
        point=float(np.exp(u[0])),
        axis=course.label,
        p_best=best_shares(names, here, duels),
        regret=mean_regrets(names, here),
        regret_nats=mean_regrets(names, like_losses(level + here, first)),
        equal=equal,
        duels=tuple(duels),
        crossings=tuple(crossings),
        caveats=found,
        next_point=next_point(posteriors, course),
        remarks=tuple(dict.fromkeys(far for far in fars if far is not None)),
        reach=max(reach, 1.0),
        higher_is_better=first.response_scale is not None and first.response_scale.higher_is_better,
        kind=first.response_kind,
    )


def like_losses(log: np.ndarray, runs: Runs) -> np.ndarray:
    """Return responses with the sign of losses, from ln of what laws describe; for values, `log` is the response."""
    if runs.value is not None:
        return log
    return np.exp(log) if runs.score is None else -runs.score.score(log)


def check_recipes(posteriors: Any, pairing: str, equal: float, at: Mapping[str, float] | None) -> tuple[str, ...]:
    """Return the recipes' names; refuse fits that cannot be compared.

    Raises:
        InputError: For fewer than two fits, an unknown pairing, or an impossible difference or point.
    """
    if not (isinstance(posteriors, Mapping) and all(isinstance(one, Fitted) for one in posteriors.values())):
        raise InputError(
            "compare takes fits by the recipe's name, e.g. compare({'A': post_a, 'B': post_b}, at=...), or Runs of one "
            f"scale; found {type(posteriors).__name__}."
        )
    names = tuple(posteriors)
    if len(names) < 2:
        raise InputError(f"Two or more recipes are needed; found {len(names)}: {', '.join(names) or 'none'}.")
    for posterior in posteriors.values():
        refuse_drawn_score(posterior, "compare", "recipes")
    directions = [(p.runs.score, p.runs.value and p.runs.value.higher_is_better) for p in posteriors.values()]
    if len(set(directions)) > 1:
        raise InputError(
            "All recipes must have losses, or all must have scores with the same chance and ceiling, or all must have "
            "values with the same direction."
        )
    if pairing not in ("auto", "independent"):
        raise InputError(f"pairing must be 'auto' or 'independent'; found {pairing!r}.")
    if not checked.AT_LEAST_ZERO.holds(equal):
        raise InputError(f"equal must be a difference in ln loss of at least 0; found {checked.shortened(equal)}.")
    if at is not None:
        checked.mapping("at", at, 'at={"flops": 1e21}')
    return names


def mean_regrets(names: tuple[str, ...], losses: np.ndarray) -> dict[str, float]:
    """Return the mean difference between each recipe's ln loss and the best one of each draw.

    `losses` is (recipe, draw).
    """
    return {name: float(value) for name, value in zip(names, (losses - losses.min(0)).mean(1), strict=True)}


def next_point(posteriors: Mapping[str, Fitted], course: Course) -> float:
    """Return the point of the axis at which one more run of each recipe would be most useful for its price.

    This is the point in question if it lies inside the runs of all recipes. Otherwise it is half-way (in log scale)
    between the point in question and the largest run of the recipe whose runs reach least far.
    """
    here, reaches = course.start, []
    for name, posterior in posteriors.items():
        at = course.inputs(name, np.array([here])).iloc[0].astype(float).to_dict()
        factor = float(posterior.ratio(law_point(posterior, at))[0])
        reaches.append(here - np.log(max(factor, 1.0)))
    return float(np.exp(0.5 * (here + min(reaches))))


def compare_seeds(runs: Runs, idle: list[str]) -> SeedNoise:
    """Compare recipes that were run at one scale by their replicates.

    Args:
        runs: Runs of several recipes.
        idle: Names of given options that have no effect here.

    Raises:
        InputError: For such options, one recipe, or runs at several scales, which need a fit each.
    """
    if len(runs.families) < 2:
        raise InputError(
            f"{runs.name} has only one recipe. Give two or more; a column family (family=, --family) says which "
            "recipe a row belongs to."
        )
    if any(runs.frame[name].nunique() > 1 for name in runs.inputs):
        raise InputError(
            f"{runs.name} has several scales ({', '.join(runs.inputs)}): fit each recipe first, "
            "compare({part.name: fit(part, seed=0) for part in runs.split()}, at=...)."
        )
    if idle:
        verb = "has" if len(idle) == 1 else "have"
        raise InputError(f"{', '.join(idle)} {verb} no effect on runs of one scale, which are compared by their seeds.")
    return noise(runs)


def duel_of(
    ratio: Ratio,
    difference: np.ndarray,
    run: np.ndarray,
    exact: tuple[float, float] | None,
    along: AxisDraws,
    equal: float,
    spoken: tuple[str, ...],
    power: float,
    response: str,
) -> Duel:
    """Return the comparison of two recipes at the point in question; cost is proportional to the axis^`power`."""
    p_first, p_run = exact or (below(difference), below(run))
    factor = factor_needed(difference, along.relative, FACTORS)
    with np.errstate(over="ignore"):
        needed = quantiles(np.exp(power * factor))
    return Duel(
        first=ratio.first,
        second=ratio.second,
        p_first=p_first,
        p_first_run=p_run,
        p_equal=float((np.abs(difference) < equal).mean()),
        p_first_clearly=float((difference < -equal).mean()),
        p_second_clearly=float((difference > equal).mean()),
        difference=quantiles(difference),
        speedup=needed,
        p_unreachable=float(np.isposinf(factor).mean()),
        paired=ratio.posterior is not None,
        common=ratio.common,
        says=ratio.says,
        caveats=spoken,
        response=response,
    )


def in_units(duel: Duel, runs: Runs) -> Duel:
    """Return a duel whose difference has the sign of the response; only that of values is changed."""
    if runs.value is None:
        return duel
    sign = runs.value.sign
    ends = {round(level if sign > 0 else 1.0 - level, 6): sign * end for level, end in duel.difference.items()}
    return dataclasses.replace(duel, difference=dict(sorted(ends.items())), values=True)


def below(difference: np.ndarray) -> float:
    """Return the fraction of draws in which A is better; equal draws count half."""
    return float(0.5 * ((difference < 0).mean() + (difference <= 0).mean()))


def best_shares(names: tuple[str, ...], losses: np.ndarray, duels: list[Duel]) -> dict[str, float]:
    """Return the probability that each recipe is the best, from draws of shape (recipe, draw)."""
    if len(names) == 2:
        return {names[0]: duels[0].p_first, names[1]: 1.0 - duels[0].p_first}
    best = losses == losses.min(0)
    shares = (best / best.sum(0)).mean(1)
    return {name: float(value) for name, value in zip(names, shares, strict=True)}


def all_caveats(
    posteriors: Mapping[str, Fitted],
    ratios: Mapping[tuple[str, str], Ratio],
    course: Course,
    u: np.ndarray,
) -> dict[str, tuple[Caveat, ...]]:
    """Return the caveats of the answers at the point in question and at the end of the range, by recipe or pair."""
    result: dict[str, tuple[Caveat, ...]] = {}
    for name, posterior in posteriors.items():
        found: dict[str, Caveat] = {}
        for end in {float(u[0]), float(u.max())}:
            point = dict(course.inputs(name, np.array([end])).iloc[0].astype(float))
            found |= {caveat.code: caveat for caveat in caveats(posterior, point)}
        result[name] = tuple(found.values())
    for (a, b), ratio in ratios.items():
        caveat = None if ratio.posterior is None else unconverged(ratio.posterior)
        if caveat is not None:
            result[f"{a} against {b}"] = (caveat,)
    return result


@handing_on(names_of(compare) - {"posteriors"})
def crossover(
    first: Fitted,
    second: Fitted,
    *,
    range: tuple[float, float],
    names: tuple[str, str] = ("A", "B"),
    **options: Any,
) -> Crossing:
    """Return the posterior of the point where one recipe becomes better than another; see `compare` for the options.

    Raises:
        InputError: As `compare`.
    """
    return compare(dict(zip(names, (first, second), strict=True)), range=range, **options).crossings[0]


@handing_on(names_of(compare) - {"posteriors"})
def speedup(first: Fitted, second: Fitted, *, names: tuple[str, str] = ("A", "B"), **options: Any) -> Duel:
    """Return the factor on the cost with which the first recipe equals the second, in `Duel.speedup`; see `compare`.

    Raises:
        InputError: As `compare`.
    """
    return compare(dict(zip(names, (first, second), strict=True)), **options).duels[0]
