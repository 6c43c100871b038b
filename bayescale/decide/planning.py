"""Planning: how many runs, at which sizes and with how many seeds are needed to reach an aim, before they are bought.

The runs of a plan are simulated: from the draws of a posterior, from a published law, or from a law's priors. A
posterior shows without a fit what remains uncertain after the plan; otherwise the simulated runs are fitted like real
ones. The plan's power is the fraction of simulations that reach the aim.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from bayescale import checked
from bayescale._display import Display
from bayescale.checked import known_keywords
from bayescale.data.checkpoints import own_runs
from bayescale.data.runs import Runs, scales
from bayescale.decide.information import index
from bayescale.decide.outcomes import JointDraws, at_point, joint_draws, refuse_drawn_score
from bayescale.decide.sensitivity import fit_again
from bayescale.decide.utility import as_law_describes
from bayescale.digits import NOTHING, inputs_text
from bayescale.errors import InputError, Status, nearest, some
from bayescale.evaluate.simulate import owners, prior_values, simulate
from bayescale.fitting.fit_many import fit_many
from bayescale.fitting.plan import plan_fit
from bayescale.forecast import At, query_points
from bayescale.laws.law import Law, bind
from bayescale.laws.published import PublishedLaw
from bayescale.laws.registry import get as get_law
from bayescale.model.discrepancy import eigenbasis, kernel
from bayescale.model.prepare import axis_positions
from bayescale.posterior.fitted import Fitted

SIMULATIONS = 40
SURE = 0.9
"""Probability at which a decision counts as clear."""
PLACEHOLDER = 3.0
"""Loss of runs that have not been made; only relative differences matter."""


@known_keywords
@dataclasses.dataclass(frozen=True)
class Power(Display):
    """Expected results of each plan.

    Attributes:
        frame: One row a plan: `plan`, `runs`, `scale` (sum over its runs: compute, where inputs give it), `power`
            (fraction of simulations that reach the aim) with its binomial error, `width` (median width of the interval
            of one future run, in ln), `sd_curve` (median standard deviation of the curve, in ln) and, where simulated
            runs were fitted, the fraction of fits that `converged`.
        aim: Description of the aim.
        at: Inputs of the run to be predicted, the target run.
        wanted: Power that counts as enough.
    """

    frame: pd.DataFrame
    aim: str
    at: dict[str, float]
    wanted: float

    @property
    def text(self) -> str:
        """The answer in words."""
        enough = self.frame[self.frame["power"] >= self.wanted]
        if enough.empty:
            best = self.frame.loc[self.frame["power"].idxmax()]
            return (
                f"No plan reaches the aim ({self.aim}) in {self.wanted:.0%} of simulations; the best, {best['plan']}, "
                f"does in {best['power']:.0%}."
            )
        cheapest = enough.loc[enough["scale"].idxmin()]
        return (
            f"{cheapest['plan']} is the cheapest plan that reaches the aim ({self.aim}) in at least "
            f"{self.wanted:.0%} of simulations: {cheapest['power']:.0%} +- {cheapest['power_error']:.0%}."
        )

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.frame.copy()

    def to_dict(self) -> dict[str, Any]:
        """Return all results as plain values, ready for JSON."""
        plain = {"text": self.text, "aim": self.aim, "at": self.at, "wanted": self.wanted}
        return plain | {"plans": self.frame.to_dict("records")}

    def __repr__(self) -> str:
        """Return the text, cut to one screen."""
        return checked.one_screen(str(self))

    def __str__(self) -> str:
        """Return the answer and the table."""
        return "\n".join(
            [self.text, self.frame.to_string(index=False, na_rep=NOTHING, float_format=lambda value: f"{value:.4g}")]
        )


@known_keywords
def ladders(
    low: Mapping[str, float], high: Mapping[str, float], runs: list[int], seeds: list[int] | None = None
) -> dict[str, pd.DataFrame]:
    """Return a plan of runs for each number of sizes and each number of seeds.

    The sizes of a plan are evenly spaced in log scale between the smallest and the largest run. All sizes of a plan
    have the same number of seeds.

    Args:
        low: Inputs of the smallest run: raw counts by name.
        high: Inputs of the largest run.
        runs: Numbers of sizes.
        seeds: Numbers of seeds at each size; one by default.

    Raises:
        InputError: For ends that name different inputs, or fewer than two sizes.

    Example:
        >>> list(ladders({"flops": 1e18}, {"flops": 1e20}, [4, 6]))
        ['4 sizes', '6 sizes']
    """
    for name, end in {"low": low, "high": high}.items():
        checked.mapping(name, end, f'{name}={{"flops": 1e18}}')
        checked.options(**{str(key): (value, checked.POSITIVE) for key, value in end.items()})
    for name, counts in {"runs": runs, "seeds": [1] if seeds is None else seeds}.items():
        if not isinstance(counts, list | tuple) or not all(checked.whole(1, 10_000).holds(count) for count in counts):
            raise InputError(
                f"{name} must be whole numbers of at least 1, e.g. {name}=[4, 8] (--{name} 4 --{name} 8); found "
                f"{checked.shortened(counts)}."
            )
    if set(low) != set(high) or not low:
        raise InputError(
            f"Both ends of a ladder must name the same inputs; found {some(list(low))} and {some(list(high))}."
        )
    if not runs or min(runs) < 2:
        raise InputError(f"A ladder has at least 2 sizes; found {some(runs)}.")
    plans = {}
    for count in runs:
        rungs = pd.DataFrame({name: np.geomspace(low[name], high[name], count) for name in low})
        for each in seeds or [1]:
            label = f"{count} sizes" + (f" x {each} seeds" if each > 1 else "")
            plans[label] = rungs.loc[rungs.index.repeat(each)].reset_index(drop=True)
    return plans


@known_keywords
def power(
    source: Fitted | PublishedLaw | Law | str,
    plans: Mapping[str, pd.DataFrame],
    *,
    width: float | None = None,
    difference: float | None = None,
    target: float | None = None,
    sure: float = SURE,
    level: float = 0.8,
    wanted: float = 0.8,
    simulations: int = SIMULATIONS,
    refit: bool = False,
    seed: int = 0,
    at: At | None = None,
    **inputs: float,
) -> Power:
    """Estimate how often a plan of runs would reach an aim.

    Give one aim about a larger run, the target run. With `width`, the interval of its forecast is at most this wide in
    ln loss. With `difference`, two recipes with this plan each can be told apart if their curves differ by this much in
    ln loss at the target run (curves are taken as independent). With `target`, the probability of meeting this loss is
    above `sure` or below 1 - `sure`, so that go or no-go is clear.

    Args:
        source: A posterior (the plan adds to its runs), a law with published constants, or a law or its name (true
            constants are drawn from its priors).
        plans: Inputs of the runs of each plan in raw counts; equal rows are seeds. See `ladders`.
        width: Largest acceptable width of the central interval of one run, in ln loss.
        difference: Difference of two curves in ln loss that should be shown.
        target: Loss, or score, that the target run should meet; needs a source that knows the level of the loss.
        sure: Probability at which a decision counts as clear.
        level: Central probability of the intervals of `width` and `difference`.
        wanted: Power that counts as enough.
        simulations: Number of simulated data sets for each plan, where these are fitted.
        refit: Fit simulated runs also where `source` is a posterior. By default, its draws show what remains uncertain:
            the target run's curve is regressed linearly on the plan's losses. That is faster, but leaves out what the
            plan would teach about the size of the discrepancy.
        seed: Seed of all random numbers.
        at: Inputs of the target run in raw counts, as a mapping from names or a table of one row.
        **inputs: The same inputs as keyword arguments, unless an input has the name of an option.

    Raises:
        InputError: For no aim or several, plans that lack inputs, or a `target` where the level of the loss is unknown.

    Example:
        >>> plans = ladders({"flops": 1e18}, {"flops": 1e20}, [4, 8])
        >>> bs.decide.power("plateau_power", plans, width=0.05, flops=1e21)  # doctest: +SKIP
    """
    aims = {"width": width, "difference": difference, "target": target}
    given = {name: number for name, number in aims.items() if number is not None}
    valued = isinstance(source, Fitted) and source.runs.value is not None
    checked.options(**{name: (n, checked.FINITE if valued else checked.POSITIVE) for name, n in given.items()})
    checked.options(sure=(sure, checked.PROBABILITY), level=(level, checked.PROBABILITY))
    checked.options(wanted=(wanted, checked.PROBABILITY), seed=(seed, checked.SEED), refit=(refit, checked.FLAG))
    checked.options(simulations=(simulations, checked.whole(1, 1_000_000)))
    check_aim(given, plans)
    refuse_idle(
        target is None and sure != SURE, isinstance(source, Fitted) and not refit and simulations != SIMULATIONS
    )
    if not isinstance(source, Fitted | PublishedLaw):
        source = get_law(source)
    given = as_described(given, source, refit)
    if target is not None and isinstance(source, Law):
        raise InputError(
            "target (--target) needs the level of the loss: give a posterior (--fit), or a law with published "
            "constants (--constants beside --law)."
        )
    law = source.law if isinstance(source, (Fitted, PublishedLaw)) else source
    if isinstance(source, Fitted):
        point = at_point(source, at, inputs)
    else:
        law = bind(law, tuple(inputs if at is None else at))
        point = query_points(law.inputs, at, inputs).iloc[0].astype(float).to_dict()
    rows = []
    for plan, table in plans.items():
        runs = planned_runs(source, plan, table, law.inputs)
        good = np.nan
        if isinstance(source, Fitted) and not refit:
            median, curve, spread = foreseen(source, runs, point, seed)
        else:
            origin = law if isinstance(source, Law) else source
            median, curve, spread, good = refitted(origin, law, runs, point, simulations, seed)
        reached = aim_reached(given, median, curve, spread, sure, level)
        share, count = float(np.mean(reached)), len(reached)
        error = float(np.sqrt(max(share * (1 - share), 1 / (4 * count)) / count))
        scale = source.scales(runs) if isinstance(source, Fitted) else scales(runs, law.inputs)
        row = {"plan": plan, "runs": len(table), "scale": float(scale.sum())}
        row |= {"power": share, "power_error": error, "width": float(np.median(interval_width(spread, level)))}
        rows.append(row | {"sd_curve": float(np.median(curve)), "converged": good})
    frame = pd.DataFrame(rows).dropna(axis="columns", how="all")
    return Power(frame, aim_text(aims, level, sure, point, source), point, wanted)


def refuse_idle(sure: bool, simulations: bool) -> None:
    """Refuse options of `power` that this kind of question ignores.

    Args:
        sure: Whether `sure` was given although the question has no target.
        simulations: Whether `simulations` was given although draws of a fit take their place.
    """
    if sure:
        raise InputError("sure (--sure) has an effect only together with target (--target).")
    if simulations:
        raise InputError(
            "simulations (--simulations) has no effect with a fit (--fit), because its draws are used instead; "
            "leave it out, or set refit=True in Python."
        )


def check_aim(given: Mapping[str, float], plans: Mapping[str, pd.DataFrame]) -> None:
    """Refuse no aim, several aims, or no plan.

    Raises:
        InputError: With the options.
    """
    if len(given) != 1:
        found = some(list(given)) or "none"
        raise InputError(
            f"Give exactly one aim: width= (--width), difference= (--difference) or target= (--target); found {found}."
        )
    checked.mapping("plans", plans, 'plans={"four sizes": table}, or bs.decide.ladders(low, high, [4, 8])')
    if not plans:
        raise InputError(
            "No plan was given; expected tables of inputs by name, e.g. ladders(low, high, [4, 8]) (--plan plan.csv, "
            "or --low, --high and --runs)."
        )


def planned_runs(
    source: Fitted | PublishedLaw | Law, plan: str, table: pd.DataFrame, names: tuple[str, ...]
) -> pd.DataFrame:
    """Return the inputs of a plan's runs, checked; shape (run, input).

    Raises:
        InputError: For a plan that is no table, lacks an input, or has no run.
    """
    checked.instance(f"A table for plan {plan!r}", table, pd.DataFrame, hint="Its columns are the inputs.")
    if isinstance(source, Fitted) and source.ray is not None:
        # On a ladder along one ray all inputs grow together, so any of them gives the scale.
        table = source.on_ray(table, {})
    missing = [name for name in names if name not in table]
    if missing:
        raise InputError(f"Plan {plan!r} lacks {some(missing)}. {nearest(missing[0], list(table))}")
    runs = checked.positive_columns(f"runs of plan {plan!r}", table, names)
    if not len(runs):
        raise InputError(f"Plan {plan!r} has no runs. Give one row per run.")
    return runs


def interval_width(spread: np.ndarray, level: float) -> np.ndarray:
    """Return the width of the central normal interval with these standard deviations."""
    return 2.0 * float(ndtri(0.5 + level / 2.0)) * spread


def aim_reached(
    given: Mapping[str, float], median: np.ndarray, curve: np.ndarray, spread: np.ndarray, sure: float, level: float
) -> np.ndarray:
    """Return in which draws a plan reaches its one aim, shape (draw,).

    Args:
        given: The aim: its name (`width`, `difference` or `target`) and its number.
        median: Ln of the forecast's median, shape (draw,).
        curve: Standard deviation of the mean curve in ln loss, shape (draw,).
        spread: Standard deviation of one run in ln loss, shape (draw,).
        sure: Probability at which a decision counts as clear.
        level: Central probability of the intervals.
    """
    ((aim, number),) = given.items()
    if aim == "width":
        return interval_width(spread, level) <= number
    if aim == "difference":
        return np.sqrt(0.5) * interval_width(curve, level) <= number
    p = ndtr((np.log(number) - median) / spread)
    return np.maximum(p, 1.0 - p) >= sure


def as_described(given: dict[str, float], source: Any, refit: bool) -> dict[str, float]:
    """Return the aim of plans as what the law describes; unchanged for losses.

    Args:
        given: The aim: its name and its number.
        source: What simulates the plans' runs.
        refit: Whether plans are judged by fits to simulated runs.

    Raises:
        InputError: For aims that are defined only for losses, and for scores with a sampled range or concentration.
    """
    if not isinstance(source, Fitted) or (response := source.runs.response_scale) is None:
        return given
    refuse_drawn_score(source, "power", "plans")
    return as_law_describes(given, response, refit)


def foreseen(
    posterior: Fitted, runs: pd.DataFrame, at: dict[str, float], seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a posterior's forecast of the target run after a plan, for each simulated outcome of the plan.

    Returns:
        Ln of the median, sd of the curve and sd of one run, in ln loss; each has shape (draw,).
    """
    sizes = runs.drop_duplicates().reset_index(drop=True)
    counts = [int((runs == row).all(axis=1).sum()) for _, row in sizes.iterrows()]
    here = joint_draws(posterior, pd.concat([pd.DataFrame([at])[list(sizes)], sizes], ignore_index=True))
    rng = np.random.default_rng([seed, 4])
    shown = np.column_stack([seen(here, 1 + number, count, rng) for number, count in enumerate(counts)])
    guess = index(here.curve[:, 0], shown)
    left = np.full(len(guess), middle_spread(here.curve[:, 0] - guess))
    return guess, left, np.hypot(left, estimated(np.hypot(here.residual_sd, here.seed_sd), len(runs), rng))


def estimated(spread: np.ndarray, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Return the sd of one run as a fit after a plan would estimate it, shape (draw,).

    Before the plan, ln sd is as uncertain as the draws of `spread` are. The plan measures it with variance 1 / (2
    `rows`), because the constants of the curve are known from the runs that the posterior has.

    Args:
        spread: True standard deviation of one run around the curve, shape (draw,).
        rows: Number of runs of the plan.
        rng: Generator of the plan's simulated outcome.
    """
    log = np.log(spread)
    known, error = float(log.var()), 0.5 / rows
    weight = known / (known + error)
    shown = log + np.sqrt(error) * rng.standard_normal(len(log))
    # Root mean square over the remaining uncertainty of the sd.
    return np.exp(log.mean() + weight * (shown - log.mean()) + known * (1.0 - weight))


def middle_spread(values: np.ndarray) -> float:
    """Return the sd of a normal distribution with the same 80 % interval, because the discrepancy has heavy tails."""
    low, high = np.quantile(values, [0.1, 0.9])
    return float((high - low) / (2.0 * ndtri(0.9)))


def seen(here: JointDraws, point: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return the mean ln loss of `count` runs with different seeds at one size, shape (draw,)."""
    return np.mean([here.run(point, rng) for _ in range(count)], axis=0)


def refitted(
    source: Fitted | PublishedLaw | Law,
    law: Law,
    runs: pd.DataFrame,
    at: dict[str, float],
    simulations: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return the forecasts of the target run by fits to simulated runs of a plan.

    Returns:
        Ln of the median, sd of the curve and sd of one run, in ln loss, one value a simulation each; and the fraction
            of fits that converged.
    """
    families = simulated(source, runs, law.inputs, simulations, seed)
    if isinstance(source, Fitted):
        posteriors = fit_again(source, families, seed)
    else:
        posteriors = fit_many(families, law, seed=seed, failures="raise")
    median, curve, spread = [], [], []
    for posterior in posteriors:
        forecast = posterior.forecast_at(pd.DataFrame([at]), "run")
        low, middle, high = np.log(forecast.quantile([0.1, 0.5, 0.9])[:, 0])
        median.append(middle)
        spread.append((high - low) / (2.0 * ndtri(0.9)))
        curve.append(middle_spread(joint_draws(posterior, pd.DataFrame([at]), repeats=1).curve[:, 0]))
    good = float(np.mean([posterior.status is Status.OK for posterior in posteriors]))
    return np.array(median), np.array(curve), np.array(spread), good


def aim_text(aims: Mapping[str, float | None], level: float, sure: float, at: dict[str, float], source: Any) -> str:
    """Describe the aim in words."""
    name, number = next((name, number) for name, number in aims.items() if number is not None)
    where = inputs_text(at)
    if name == "width":
        return f"{level:.0%} interval of one run at {where} no wider than {number:.2%}"
    if name == "difference":
        return f"two recipes told apart at {where} when they differ by {number:.2%}, {level:.0%} interval"
    scale = source.runs.response_scale if isinstance(source, Fitted) else None
    kind = "loss" if scale is None else source.runs.response_kind
    compared = f"{kind} {'>' if scale is not None and scale.higher_is_better else '<'}"
    return f"P({compared} {number:g}) at {where} above {sure:.0%} or below {1 - sure:.0%}"


def simulated(
    source: Fitted | PublishedLaw | Law, table: pd.DataFrame, names: tuple[str, ...], simulations: int, seed: int
) -> list[Runs]:
    """Simulate the runs of a plan `simulations` times; with a posterior, in addition to its own runs."""
    rng = np.random.default_rng([seed, 4])
    # Runs at one size share the curve and the residual.
    sizes = table.drop_duplicates().reset_index(drop=True)
    column = np.array([int(np.flatnonzero((sizes == row).all(axis=1))[0]) for _, row in table.iterrows()])
    if isinstance(source, Fitted):
        here = joint_draws(source, sizes, repeats=1)
        pick = rng.choice(len(here.curve), simulations, replace=len(here.curve) < simulations)
        shared, spread = (here.curve + here.residual)[pick], here.seed_sd[pick]
        old = source.runs.frame[[*names, "loss"]]
    else:
        shared, spread = prior_runs(source, sizes, names, simulations, seed, rng)
        old = pd.DataFrame(columns=[*names, "loss"])
    families = []
    for number in range(simulations):
        loss = np.exp(shared[number, column] + spread[number] * rng.standard_normal(len(column)))
        new = table.assign(loss=loss)
        both = new if old.empty else pd.concat([old, new], ignore_index=True)
        families.append(Runs.from_frame(both, inputs=list(names), name=f"simulation {number}"))
    return families


def prior_runs(
    source: PublishedLaw | Law, sizes: pd.DataFrame, names: tuple[str, ...], simulations: int, seed: int, rng: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Draw ln loss, shape (simulation, size), and the seed sd, shape (simulation,), from a law without data."""
    frame = sizes.assign(loss=PLACEHOLDER, run=own_runs(len(sizes)))
    law = source.law if isinstance(source, PublishedLaw) else source
    plan = plan_fit(Runs.from_frame(frame, inputs=list(names)), law)
    job = plan.jobs[0]
    _, values = prior_values(plan, simulations, seed)
    seeds = np.asarray(values.seed_sd, float)
    if isinstance(source, PublishedLaw):
        curve = np.log(source.predict(sizes).draws[0, 0])
        discrepancy = job.discrepancy
        assert discrepancy is not None, "the default has one"
        z = np.log(sizes.to_numpy(float) / job.reference)
        path = axis_positions(job.model.law, job.problem, job.low, z)
        power, vectors = eigenbasis(kernel(path, path, discrepancy))
        root = vectors * np.sqrt(power)
        fall = max(float(np.ptp(curve)), 1e-6)
        middle = np.log(discrepancy.median) + discrepancy.power * np.log(fall / discrepancy.scale)
        amplitude = np.exp(middle + discrepancy.sd * rng.standard_normal(simulations))
        scatter = np.asarray(values.residual_sd, float)
        departure = amplitude[:, None] * (rng.standard_normal((simulations, len(sizes))) @ root.T)
        return curve + departure + scatter[:, None] * rng.standard_normal(departure.shape), seeds
    rows = []
    for number, owner in enumerate(owners(plan, simulations)):
        one = type(values)(*[jax_take(part, number) for part in values])
        y, _ = simulate(plan.jobs[owner], one._replace(seed_sd=np.zeros(1)), np.empty((0, len(names))), rng)
        rows.append(y[: len(sizes)] + float(job.problem.center))
    return np.array(rows), seeds


def jax_take(part: Any, number: int) -> Any:
    """Return one simulation of drawn values that have a leading axis of simulations, and keep that axis."""
    if isinstance(part, dict):
        return {name: value[number : number + 1] for name, value in part.items()}
    return part[number : number + 1]
