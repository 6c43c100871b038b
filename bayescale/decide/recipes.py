"""Compare: which of several recipes is better, where, since when, and by how much compute.

Recipes that were measured at common scales are compared by the ratio of their losses (`bayescale.decide.paired`), in
which all cancels that they share. Others are compared as if they were independent, and the text says so.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayescale import checked
from bayescale.data.runs import Runs
from bayescale.decide.course import (
    FACTORS,
    FARTHEST,
    AxisDraws,
    Course,
    Inputs,
    draw_along,
    gap,
    make_course,
    relative_losses,
)
from bayescale.decide.crossing import Crossing, crossing_of, factor_needed, quantiles, share
from bayescale.decide.noise import SeedNoise, noise
from bayescale.decide.paired import Ratio, pair
from bayescale.decide.trust import Caveat, caveats, far_caveat, law_point, unconverged
from bayescale.errors import InputError
from bayescale.posterior.fitted import Fitted

TOLD_APART = 0.65
"""Probability to be the better one of two below which a recipe is not told from the other."""


@dataclasses.dataclass(frozen=True)
class Duel:
    """Two recipes at the point in question.

    Attributes:
        first: Name of A.
        second: Name of B.
        p_first: Probability that A's curve is the better one.
        p_first_run: Probability that one run of A beats one run of B.
        p_equal: Probability that the curves differ by less than the region of practical equality.
        p_first_clearly: Probability that A is better by more than that.
        p_second_clearly: Probability that B is.
        difference: Quantiles of ln y_A - ln y_B, by probability.
        speedup: Quantiles of the factor of cost that A needs to equal B at the point; inf beyond 1000.
        p_unreachable: Probability that A does not equal B even at 1000 times the cost.
        paired: Whether the two were compared by their ratio.
        common: Number of scales at which both were measured.
        says: Which uncertainty is contained.
        caveats: Reasons for which no confident answer is possible.
    """

    first: str
    second: str
    p_first: float
    p_first_run: float
    p_equal: float
    p_first_clearly: float
    p_second_clearly: float
    difference: Mapping[float, float]
    speedup: Mapping[float, float]
    p_unreachable: float
    paired: bool
    common: int
    says: str
    caveats: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The sentence a meeting reads."""
        if self.caveats:
            return f"Cannot say whether {self.first} or {self.second} is better. {' '.join(self.caveats)}"
        low, middle, high = (100.0 * np.expm1(self.difference[level]) for level in (0.05, 0.5, 0.95))
        return (
            f"{self.first} against {self.second}: better with probability {share(self.p_first)} (one run of each: "
            f"{share(self.p_first_run)}), its loss {middle:+.2g} % (90 %: {low:+.2g} to {high:+.2g}); to equal it "
            f"{self.first} needs {self.speedup_text}."
        )

    @property
    def speedup_text(self) -> str:
        """How many times the cost A needs to equal B, median and 90 % interval."""

        def times(value: float) -> str:
            return f"more than {FARTHEST:g}x" if np.isinf(value) else f"{value:.2g}x"

        low, middle, high = (times(self.speedup[level]) for level in (0.05, 0.5, 0.95))
        return f"{middle} the cost (90 %: {low} to {high})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers; a speed-up that is infinite becomes None."""
        return {
            **dataclasses.asdict(self),
            "difference": {f"{level:g}": value for level, value in self.difference.items()},
            "speedup": {f"{level:g}": value if np.isfinite(value) else None for level, value in self.speedup.items()},
        }


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Which recipe is better, and how sure that is.

    Attributes:
        names: The recipes.
        at: Inputs of each recipe at the point in question.
        point: The point on the axis.
        axis: What is on the axis.
        p_best: Probability of each recipe to have the best curve.
        regret: Expected ln loss that each recipe gives away against the best one.
        regret_nats: The same in units of the loss.
        equal: Half-width of the region of practical equality, in ln loss.
        duels: One for each pair of recipes.
        crossings: One for each pair, where a range was given.
        caveats: Reasons for which no confident answer is possible, by recipe.
        remarks: What to know about the answer, such as that the question lies beyond the record.
        next_point: Point of the axis at which one more run of each recipe would help to tell them apart.
    """

    names: tuple[str, ...]
    at: Mapping[str, Mapping[str, float]]
    point: float
    axis: str
    p_best: Mapping[str, float]
    regret: Mapping[str, float]
    regret_nats: Mapping[str, float]
    equal: float
    duels: tuple[Duel, ...]
    crossings: tuple[Crossing, ...]
    caveats: Mapping[str, tuple[Caveat, ...]]
    remarks: tuple[str, ...] = ()
    next_point: float = float("nan")

    @property
    def best(self) -> str:
        """The recipe of least expected regret, whatever is to be said against it."""
        return min(self.names, key=lambda name: (self.regret[name], name))

    @property
    def answer(self) -> str:
        """Return the recipe to choose, or "cannot say"."""
        return "cannot say" if any(self.caveats.values()) else self.best

    @property
    def tied(self) -> tuple[str, ...]:
        """The best recipe and those that the fits cannot tell from it; empty where no other is as good."""
        others = [name for name in self.names if name != self.best and self.p_better(self.best, name) < TOLD_APART]
        return (self.best, *others) if others else ()

    def p_better(self, first: str, second: str) -> float:
        """Probability that the curve of one recipe lies below that of another."""
        for duel in self.duels:
            if {duel.first, duel.second} == {first, second}:
                return duel.p_first if duel.first == first else 1.0 - duel.p_first
        raise KeyError((first, second))

    @property
    def choice(self) -> str:
        """The sentences that say which recipe to choose, or that nothing tells the best ones apart."""
        best, where = self.best, f"at {self.axis} {self.point:.3g}"
        lost = "".join(f", {name} {self.regret_nats[name]:.2g}" for name in self.names if name != best)
        given = f"choosing {best} is expected to give away {self.regret_nats[best]:.2g} in loss{lost}"
        if not self.tied:
            share_best = share(self.p_best[best])
            return f"Choose {best} {where}: its curve is the best with probability {share_best}, and {given}."
        shares = ", ".join(f"{name} {share(self.p_best[name])}" for name in self.tied)
        named = f"{', '.join(self.tied[:-1])} and {self.tied[-1]}"
        text = f"These fits cannot tell {named} apart {where} (probability to be the best: {shares}); {given}."
        return f"{text} One more run of each at {self.axis} {self.next_point:.3g}, with shared seeds, would say most."

    def duel(self, first: str, second: str) -> Duel:
        """Return the duel of two recipes, in the order in which they were given.

        Raises:
            InputError: For names that were not compared in this order.
        """
        for found in self.duels:
            if (found.first, found.second) == (first, second):
                return found
        known = [f"{found.first} against {found.second}" for found in self.duels]
        raise InputError(f"There is no duel of {first!r} against {second!r}; there is {', '.join(known)}.")

    @property
    def text(self) -> str:
        """The sentences that a meeting reads."""
        where = f"at {self.axis} {self.point:.3g}"
        if self.answer == "cannot say":
            reasons = " ".join(f"{name}: {caveat}" for name, found in self.caveats.items() for caveat in found)
            return f"Cannot say which is better {where}. {reasons}"
        lines = [self.choice]
        for duel in self.duels:
            lines.append(duel.text)
            if self.equal > 0:
                lines.append(
                    f"They differ by less than {self.equal:g} in ln loss with probability {share(duel.p_equal)}."
                )
        lines += [crossing.text for crossing in self.crossings]
        lines += list(dict.fromkeys(duel.says for duel in self.duels))
        lines += self.remarks
        return " ".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """Return one row a pair."""
        rows = []
        for duel in self.duels:
            row = {name: value for name, value in duel.to_dict().items() if not isinstance(value, dict)}
            row |= {f"difference_q{level:g}": value for level, value in duel.difference.items()}
            rows.append(row | {f"speedup_q{level:g}": value for level, value in duel.speedup.items()})
        return pd.DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and texts, ready for JSON."""
        return {
            "answer": self.answer,
            "best": self.best,
            "tied": list(self.tied),
            "text": self.text,
            "at": {name: dict(inputs) for name, inputs in self.at.items()},
            "axis": self.axis,
            "point": self.point,
            "p_best": dict(self.p_best),
            "regret": dict(self.regret),
            "regret_nats": dict(self.regret_nats),
            "equal": self.equal,
            "duels": [duel.to_dict() for duel in self.duels],
            "crossings": [crossing.to_dict() for crossing in self.crossings],
            "caveats": {name: [dataclasses.asdict(caveat) for caveat in found] for name, found in self.caveats.items()},
            "remarks": list(self.remarks),
        }

    def __repr__(self) -> str:
        """Say it in at most one screen."""
        return checked.one_screen(str(self))

    def __str__(self) -> str:
        """Say it in words."""
        return self.text


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
    unit: str = "cost",
    deadline: float | None = None,
    pairing: str = "auto",
    seed: int = 0,
) -> Any:
    """Compare recipes at a point, and along a range; runs of one scale by their seeds.

    The axis is one input (the only one, or `axis`); with several inputs and no `axis` it is the ray through `at`,
    all inputs growing together, counted by their product (6 N D for parameters and tokens). With `paths` or `rates`
    it is a cost, the same for all recipes: money, hours, FLOPs.

    Args:
        posteriors: Fits by recipe; each carries its runs. Two or more. Or runs of two or more families at one scale,
            which need no fit: see `noise`.
        at: Inputs at the point in question, raw counts by name; on an axis of cost the inputs that stay fixed.
        axis: Input on the axis.
        range: Start and end of the axis between which crossings are sought.
        equal: Difference in ln loss below which recipes count as practically equal.
        paths: By recipe, what a cost buys: a function from costs (an array) to inputs by name.
        rates: By recipe, units of the axis' input for one unit of cost and its uncertainty as (rate, sd of its
            logarithm); with `paths` the rate multiplies the cost first.
        cost: The point in question on an axis of cost.
        unit: What the cost is called.
        deadline: Point of the axis by which a recipe should have become better; needs `range`.
        pairing: "auto" compares recipes with at least three common scales by their ratio; "independent" never does.
        seed: Seed of the small fits of ratios and of rates.

    Returns:
        A `Comparison` (for runs a `SeedNoise`): probabilities, differences, regrets, speed-ups and crossings. With
        three or more recipes the fits of all pairs are combined: a recipe's loss relative to all is the mean of its
        differences, widened so that a pair of equally certain differences keeps its width.

    Raises:
        InputError: For fewer than two recipes, inputs that do not fit, or a range that is none.

    Example:
        >>> bs.decide.compare({"A": post_a, "B": post_b}, at={"n_params": 7e9})  # doctest: +SKIP
    """
    if isinstance(posteriors, Runs):
        given = {"at": at, "axis": axis, "range": range, "paths": paths, "rates": rates, "cost": cost}
        given |= {"deadline": deadline, "equal": equal or None}
        idle = [name for name, value in given.items() if value is not None]
        return compare_seeds(posteriors, idle)
    if not (isinstance(posteriors, Mapping) and all(isinstance(one, Fitted) for one in posteriors.values())):
        raise InputError(
            "compare takes fits by the recipe's name, e.g. compare({'A': post_a, 'B': post_b}, at=...), or Runs of one "
            f"scale; found {type(posteriors).__name__}."
        )
    names = tuple(posteriors)
    if len(names) < 2:
        raise InputError(f"Two or more recipes are needed; found {len(names)}: {', '.join(names) or 'none'}.")
    if pairing not in ("auto", "independent"):
        raise InputError(f"pairing must be 'auto' or 'independent'; found {pairing!r}.")
    if not checked.AT_LEAST_ZERO.holds(equal):
        raise InputError(f"equal must be a difference in ln loss of at least 0; found {checked.shortened(equal)}.")
    checked.options(seed=(seed, checked.SEED), unit=(unit, checked.TEXT))
    perhaps = checked.optional(checked.POSITIVE)
    checked.options(cost=(cost, perhaps), deadline=(deadline, perhaps))
    if at is not None:
        checked.mapping("at", at, 'at={"flops": 1e21}')
    course = make_course(posteriors, at or {}, axis, range, paths, rates, cost, unit)
    if deadline is not None and range is None:
        raise InputError("deadline needs range=(low, high) (--low and --high), the stretch on which a crossing counts.")
    rng = np.random.default_rng([seed, 2])
    u = course.points(range)
    ratios = {
        (a, b): pair((a, b), posteriors[a], posteriors[b], seed=seed)
        if pairing == "auto"
        else Ratio(a, b, None, 0, (posteriors[a], posteriors[b]), asked=True)
        for a, b in itertools.combinations(names, 2)
    }
    draws = max(len(posterior.flat_values.level) for posterior in posteriors.values())
    axis_draws = {name: draw_along(posteriors[name], course, name, u, draws, rng) for name in names}
    gaps = {key: gap(ratio, course, axis_draws, u, draws, rng) for key, ratio in ratios.items()}
    paired = any(ratio.posterior is not None for ratio in ratios.values())
    losses = relative_losses(names, {key: found.curve for key, found in gaps.items()}, paired)
    losses_run = relative_losses(names, {key: found.run[:, None] for key, found in gaps.items()}, paired)
    here = np.stack([losses[name][:, 0] for name in names])
    least = here.min(0)
    level = np.mean([axis_draws[name].own[:, 0].mean() for name in names]) - here.mean(0)
    reasons = all_caveats(posteriors, ratios, course, u)

    def far_from(item: tuple[str, Fitted]) -> str | None:
        point = course.inputs(item[0], u[:1]).iloc[0].astype(float).to_dict()
        return far_caveat(item[1], point)

    spoken = tuple(f"{name}: {caveat}" for name, found in reasons.items() for caveat in found)
    duels, crossings = [], []
    for (a, b), ratio in ratios.items():
        difference = losses[a] - losses[b]
        run = (losses_run[a] - losses_run[b])[:, 0]
        exact = gaps[a, b].exact if len(names) == 2 else None
        # Along a ray the axis is one input, and cost that of all.
        along = [p for p in (posteriors[a], posteriors[b]) if p.ray is not None and course.label == p.ray.names[0]]
        power = max((p.ray_power for p in along), default=1.0)
        duels.append(duel_of(ratio, difference[:, 0], run, exact, axis_draws[a], equal, spoken, power))
        if range is not None:
            found = crossing_of(difference[:, 1:], u[1:], names=(a, b), axis=course.label, deadline=deadline)
            crossings.append(dataclasses.replace(found, caveats=spoken))
    return Comparison(
        names=names,
        at={name: dict(course.inputs(name, u[:1]).iloc[0].astype(float)) for name in names},
        point=float(np.exp(u[0])),
        axis=course.label,
        p_best=best_shares(names, here, duels),
        regret={name: float((here[i] - least).mean()) for i, name in enumerate(names)},
        regret_nats={
            name: float((np.exp(level + here[i]) - np.exp(level + least)).mean()) for i, name in enumerate(names)
        },
        equal=float(equal),
        duels=tuple(duels),
        crossings=tuple(crossings),
        caveats=reasons,
        next_point=next_point(posteriors, course),
        remarks=tuple(dict.fromkeys(far for far in map(far_from, posteriors.items()) if far is not None)),
    )


def next_point(posteriors: Mapping[str, Fitted], course: Course) -> float:
    """Point of the axis at which one more run of each recipe says most for its price.

    It is the point in question, or, where that lies beyond the runs of a recipe, half-way to it from the recipe whose
    runs reach least far, in log scale.
    """
    here, reaches = course.start, []
    for name, posterior in posteriors.items():
        at = course.inputs(name, np.array([here])).iloc[0].astype(float).to_dict()
        factor = float(posterior.ratio(law_point(posterior, at))[0])
        reaches.append(here - np.log(max(factor, 1.0)))
    return float(np.exp(0.5 * (here + min(reaches))))


def compare_seeds(runs: Runs, idle: list[str]) -> SeedNoise:
    """Compare recipes that were run at one scale, by their seeds.

    Args:
        runs: Runs of several recipes.
        idle: Options that were given and have no effect here.

    Raises:
        InputError: For such options, one recipe, or runs at several scales, which need a fit each.
    """
    if len(runs.families) < 2:
        raise InputError(
            f"{runs.name} holds one recipe; expected two or more, told apart by a column family (family=, --family)."
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
    draws_first: AxisDraws,
    equal: float,
    spoken: tuple[str, ...],
    power: float,
) -> Duel:
    """Sum up the draws of two recipes at the point in question; cost grows with this power of the axis."""
    p_first, p_run = exact or (below(difference), below(run))
    factor = factor_needed(difference, draws_first.relative, FACTORS)
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
    )


def below(difference: np.ndarray) -> float:
    """Share of draws in which A is better; equal ones count half."""
    return float(0.5 * ((difference < 0).mean() + (difference <= 0).mean()))


def best_shares(names: tuple[str, ...], losses: np.ndarray, duels: list[Duel]) -> dict[str, float]:
    """Probability of each recipe to be the best, from draws of shape (recipe, draw)."""
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
    """Return the caveats of an answer, by recipe or pair: at the point in question and at the end of the range."""
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


def crossover(
    first: Fitted,
    second: Fitted,
    *,
    range: tuple[float, float],
    names: tuple[str, str] = ("A", "B"),
    **options: Any,
) -> Crossing:
    """Posterior of where one recipe becomes better than another; see `compare` for the options.

    Raises:
        InputError: As `compare`.
    """
    return compare(dict(zip(names, (first, second), strict=True)), range=range, **options).crossings[0]


def speedup(first: Fitted, second: Fitted, *, names: tuple[str, str] = ("A", "B"), **options: Any) -> Duel:
    """How many times the cost the first recipe needs to equal the second (`Duel.speedup`); see `compare`.

    Raises:
        InputError: As `compare`.
    """
    return compare(dict(zip(names, (first, second), strict=True)), **options).duels[0]
