"""Simulation-based calibration: are posterior probabilities right, on average, if the model is true?

Data are simulated from the priors and fitted. If the sampler is right, the rank of the true value among posterior draws
is uniform. This is tested for each unconstrained parameter, for forecasts beyond the data, and for the likelihood,
which detects whether data were ignored (talts2018sbc). `run` averages over the whole prior; `given` tests the region of
parameters where the posterior of one real data set lies (sailynoja2025posterior).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any, Unpack

import jax
import numpy as np
import pandas as pd

from bayescale import checked
from bayescale._jax import on_cores
from bayescale.checked import known_keywords
from bayescale.data.checkpoints import own_runs
from bayescale.data.runs import Runs
from bayescale.data.runs import checked as checked_runs
from bayescale.data.score import ScoreScale
from bayescale.errors import InputError, Status
from bayescale.evaluate.simulate import owners, prior_values, simulate
from bayescale.fitting.fit_many import Queue, results_of
from bayescale.fitting.options import FitOptions, list_fit_options, request_fit
from bayescale.fitting.plan import FitPlan, plan_fit
from bayescale.laws.law import Law
from bayescale.model.density import log_likelihood
from bayescale.model.discrepancy import Discrepancy
from bayescale.model.evaluations import Counts, Dense
from bayescale.model.level import marginal_level
from bayescale.model.likelihood import BetaBinomial, Likelihood
from bayescale.model.parameters import coordinates
from bayescale.model.problem import Job, Model, Problem, Values
from bayescale.posterior.fitted import Fitted
from bayescale.posterior.posterior import Failure, Posterior
from bayescale.posterior.predictive import predict_log

__all__ = ["Ranks", "departure", "given", "run"]

KEPT = 99
"""Number of posterior draws among which a true value is ranked; thinned draws are nearly independent."""
NULL = 4000
"""Number of simulated sets of uniform ranks from which p-values are computed."""
BOUNDLESS = 1e3
"""Relative standard error of runs that should have no influence."""


@known_keywords
@dataclasses.dataclass(frozen=True)
class Ranks:
    """Ranks of simulated true values among posterior draws.

    Attributes:
        names: Names of unconstrained parameters, "level" where it is none of these, forecasts and "likelihood".
        ranks: Number of draws below the true value, 0 to `KEPT`, shape (simulation, quantity).
        statuses: Status of each fit; all fits are ranked, because leaving out some would bias the ranks.
        rhat: Largest R-hat of each fit, shape (simulation,).
    """

    names: tuple[str, ...]
    ranks: np.ndarray
    statuses: tuple[Status, ...]
    rhat: np.ndarray

    def summary(self) -> pd.DataFrame:
        """Test each quantity for uniform ranks.

        Returns:
            A table indexed by quantity: mean (0.5 if unbiased), variance (1 if the spread is right), p (the p-value of
            the largest departure of the empirical distribution from the uniform one), and outside (whether the quantity
            leaves the band in which all quantities together stay with probability 0.99).
        """
        count, quantities = self.ranks.shape
        rng = np.random.default_rng(0)
        null = np.array([departure(rng.integers(KEPT + 1, size=count)) for _ in range(NULL)])
        found = np.array([departure(column) for column in self.ranks.T])
        p = (1.0 + (null[None, :] >= found[:, None]).sum(1)) / (1.0 + NULL)
        unit = (self.ranks + 0.5) / (KEPT + 1.0)
        table = {
            "mean": unit.mean(0),
            "variance": 12.0 * ((unit - 0.5) ** 2).mean(0),
            "p": p,
            "outside": p < 0.01 / quantities,
        }
        return pd.DataFrame(table, index=pd.Index(self.names, name="quantity"))


@known_keywords
def departure(ranks: np.ndarray) -> float:
    """Return the largest standardised difference between the distribution of ranks and the uniform one."""
    below = np.bincount(ranks, minlength=KEPT + 1).cumsum()[:-1] / len(ranks)
    stated = np.arange(1, KEPT + 1) / (KEPT + 1.0)
    return float((np.abs(below - stated) / np.sqrt(stated * (1.0 - stated) / len(ranks))).max())


@list_fit_options()
def run(
    runs: Runs,
    law: str | Law = "auto",
    *,
    simulations: int,
    seed: int,
    true_discrepancy: Discrepancy | str | None = "same",
    true_likelihood: Likelihood | str = "same",
    true_score: ScoreScale | str = "same",
    ratios: Sequence[float] = (3.0, 10.0),
    executor: Executor | None = None,
    progress: bool | None = None,
    **options: Unpack[FitOptions],
) -> Ranks:
    """Simulate data at the inputs of some runs, fit them, and rank the true values among posterior draws.

    If the fit is a mixture, as it is by default for one input, data are simulated from each component in proportion to
    its weight, and all components are fitted. Parameters, single forecasts and the likelihood are ranked among draws of
    the component that the data came from. Mixture forecasts are ranked among draws of the whole mixture; their ranks
    need not be uniform, because the weights are fixed instead of learned.

    Args:
        runs: One family, of which only the inputs are used. Its runs must not be replicates or checkpoints of each
            other.
        law: A law or its name.
        simulations: Number of simulated data sets; 500 reveal a bias of a tenth of a standard deviation.
        seed: Seed of all random numbers.
        true_discrepancy: Discrepancy of the simulated data; "same" is the one that the fits assume.
        true_likelihood: Likelihood of the simulated data; "same" is the one that the fits assume.
        true_score: Range of simulated scores, with the prior of its ends; "same" is that of the runs. Parameters that
            only one of the two models has are not ranked.
        ratios: Extrapolation factors, equal for all inputs, at which one future run is forecast.
        executor: Where to fit, see `fit_many`; ranks do not depend on it.
        progress: Show a progress bar; by default only on a terminal.
        **options: Options of the fits, see `fit`.

    Raises:
        InputError: For runs that cannot be fitted, or whose noise is not independent.

    Example:
        >>> import bayescale as bs
        >>> runs = bs.corpus.load("marin_moe_v16_minima")  # doctest: +SKIP
        >>> bs.sbc.run(runs, simulations=100, seed=0).summary()  # doctest: +SKIP
    """
    request = request_fit(law, seed, options)
    checked.options(simulations=(simulations, checked.whole(1, 1_000_000)))
    check_ratios(ratios)
    assumed = request.plan(runs)
    others = {"discrepancy": true_discrepancy, "likelihood": true_likelihood}
    real: Any = {name: value for name, value in others.items() if value != "same"}
    like = runs if true_score == "same" else dataclasses.replace(checked_runs(runs), score=true_score)
    truth = plan_fit(like, law, **{**request.model, **real})
    simulable(assumed)
    simulable(truth)
    new = beyond(assumed.jobs[0], ratios)
    position, values = prior_values(truth, simulations, seed)
    truths = [jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], values) for i in range(simulations)]
    plans, futures = {}, []
    for number, (one, owner) in enumerate(zip(truths, owners(truth, simulations), strict=True)):
        y, future = simulate(truth.jobs[owner], one, new, np.random.default_rng([seed, number, 0]))
        plans[number] = with_response(assumed, y, np.random.default_rng([seed, number, 2]), one)
        futures.append(future)
    queue = Queue(plans, {}, request, None, executor)
    common = placed(position, truth.jobs[0], assumed.jobs[0])
    return ranked(queue, common, truths, np.array(futures), new, ratios, progress)


@list_fit_options()
def given(
    runs: Runs,
    law: str | Law = "auto",
    *,
    simulations: int,
    seed: int,
    ratios: Sequence[float] = (3.0, 10.0),
    executor: Executor | None = None,
    progress: bool | None = None,
    **options: Unpack[FitOptions],
) -> Ranks:
    """Check calibration near the posterior of real runs, by fits to these and to simulated further runs.

    True values are draws from the posterior of the real runs. From each draw, further runs are simulated half-way
    between neighbouring real runs, and fitted together with these. If the sampler is right, ranks are uniform
    (sailynoja2025posterior). Priors that depend on the spans of the inputs use those of the real runs throughout.

    Args:
        runs: One family with one input, one run at each scale and no standard errors.
        law: See `run`.
        simulations: Number of simulated sets of further runs.
        seed: Seed of all random numbers.
        ratios: See `run`.
        executor: See `run`.
        progress: See `run`.
        **options: See `run`.

    Raises:
        InputError: For runs with several inputs, replicates, checkpoints or standard errors.

    Example:
        >>> import bayescale as bs
        >>> runs = bs.corpus.load("marin_moe_v16_minima")  # doctest: +SKIP
        >>> bs.sbc.given(runs, simulations=100, seed=0).summary()  # doctest: +SKIP
    """
    request = request_fit(law, seed, options)
    checked.options(simulations=(simulations, checked.whole(1, 1_000_000)))
    check_ratios(ratios)
    real = request.plan(runs)
    refuse_given(checked_runs(runs), real.jobs[0])
    simulable(real)
    enough(simulations, len(real.jobs))
    name = runs.inputs[0]
    frame = runs.frame.sort_values(name, ignore_index=True)
    x = frame[name].to_numpy(float)
    between = np.sqrt(x[1:] * x[:-1])
    level = np.exp(np.interp(np.log(between), np.log(x), np.log(frame["loss"])))

    def plan_of(loss: np.ndarray, error: float) -> FitPlan:
        more = pd.DataFrame({"family": frame["family"].iloc[0], name: between, "loss": loss, "value_se": error * loss})
        both = pd.concat([frame.assign(value_se=0.0), more], ignore_index=True)
        both["run"] = own_runs(len(both))
        whole = both if error else both.drop(columns="value_se")
        return request.plan(dataclasses.replace(runs, frame=whole))

    # Further runs have huge standard errors and no influence, so this fits the real runs, in the shape of all runs.
    alone = plan_of(level, BOUNDLESS)
    queue = Queue({0: alone}, {}, request, None, executor)
    ((_, fit),) = results_of(queue, False)
    if isinstance(fit, Failure):
        raise fit.error
    drawn = component_draws(fit, alone, simulations)
    position = np.concatenate([part for part, _ in drawn])
    values = jax.tree.map(lambda *leaf: np.concatenate(leaf), *[part for _, part in drawn])
    first = alone.jobs[0]
    ahead = beyond(first, ratios)
    new = np.concatenate([(np.log(between) - np.log(first.reference))[:, None], ahead])
    rng = np.random.default_rng(seed)
    runs_of = [
        predict_log(job.model, job.problem, job.low, own, new, "run", rng).draws
        for job, (_, own) in zip(alone.jobs, drawn, strict=True)
        if len(own.level)
    ]
    shown = np.concatenate(runs_of)
    plans, truths, futures = {}, [], []
    for number, loss in enumerate(np.exp(shown[:, : len(between)])):
        plans[number] = plan_of(loss, 0.0)
        center = float(plans[number].jobs[0].problem.center)
        one = jax.tree.map(lambda leaf, i=number: leaf[i : i + 1], values)
        truths.append(one._replace(level=one.level + float(first.problem.center) - center))
        futures.append(shown[number, len(between) :] - center)
    queue = dataclasses.replace(queue, plans=plans)
    return ranked(queue, position, truths, np.array(futures), ahead, ratios, progress)


def refuse_given(runs: Runs, job: Job) -> None:
    """Refuse runs that `given` cannot extend.

    Args:
        runs: The runs.
        job: A model of them.

    Raises:
        InputError: For values, for several inputs, and for scores with a sampled range or beta-binomial counts.
    """
    if runs.value is not None:
        raise InputError("`given` is for losses and scores; check values with `run`.")
    if len(runs.inputs) > 1:
        raise InputError(f"`given` needs runs with one input; {runs.name} has {', '.join(runs.inputs)}.")
    if sampled_range(job.problem.evaluation) or isinstance(job.likelihood, BetaBinomial):
        raise InputError(
            "`given` is for scores with a known range and binomial counts; check chance_sd, ceiling_sd and "
            "beta-binomial counts with `run`."
        )


def component_draws(fit: Fitted, plan: FitPlan, count: int) -> list[tuple[np.ndarray, Values]]:
    """Return `count` draws of a fit's components, in proportion to their prior weights; see `some_draws`."""
    counts = np.bincount(owners(plan, count), minlength=len(plan.jobs))
    return [some_draws(part, number) for part, number in zip(fit.components, counts, strict=True)]


def some_draws(posterior: Posterior, count: int) -> tuple[np.ndarray, Values]:
    """Return `count` evenly spaced draws of a posterior, shape (draw, parameter), and their constrained values."""
    total = len(posterior.flat_values.level)
    picks = np.floor(np.linspace(0, total - 1, count) + 0.5).astype(int)
    values = jax.tree.map(lambda leaf: np.asarray(leaf)[picks], posterior.flat_values)
    return posterior.unconstrained.reshape(total, -1)[picks], values


def check_ratios(ratios: Any) -> None:
    """Refuse invalid extrapolation factors.

    Raises:
        InputError: For no factor, or one that is not positive.
    """
    known = isinstance(ratios, Sequence | np.ndarray) and not isinstance(ratios, str) and len(ratios) > 0
    if not known or not all(checked.POSITIVE.holds(ratio) for ratio in ratios):
        raise InputError(f"ratios must be positive numbers, e.g. (3.0, 10.0); found {checked.shortened(ratios)}.")


def enough(simulations: int, fewest: int = 1) -> None:
    """Refuse too few simulations.

    Raises:
        InputError: For fewer simulations than `fewest`, one for each component.
    """
    if simulations < fewest:
        raise InputError(f"simulations must be at least {fewest} (500 are recommended); found {simulations}.")


def simulable(plan: FitPlan) -> None:
    """Refuse runs that cannot be simulated here.

    Raises:
        InputError: For runs whose noise is not independent.
    """
    job = plan.jobs[0]
    if isinstance(job.problem.evaluation, Dense) or job.problem.replicated or np.ptp(np.asarray(job.problem.error)) > 0:
        raise InputError(
            "Calibration by simulation needs one run at each set of inputs, with equal standard errors; found "
            "replicates, checkpoints or unequal errors. Use one row for each set of inputs."
        )


def ranked(
    queue: Queue,
    position: np.ndarray,
    truths: Sequence[Values],
    futures: np.ndarray,
    new: np.ndarray,
    ratios: Sequence[float],
    progress: bool | None,
) -> Ranks:
    """Fit simulated jobs and rank the true values.

    Args:
        queue: Plans of one shape by number, and how to fit them.
        position: True unconstrained parameters, shape (simulation, parameter).
        truths: Their constrained values, leading axis 1.
        futures: ln of future runs relative to the jobs' centres, shape (simulation, ratio).
        new: ln(x / reference) of the future runs, shape (ratio, input).
        ratios: See `run`.
        progress: See `run`.
    """
    found: dict[int, tuple[np.ndarray, Status, float]] = {}
    own = owners(queue.plans[0], len(queue.plans))
    for number, fit in results_of(queue, progress):
        if isinstance(fit, Failure):
            raise fit.error
        rng = np.random.default_rng([queue.request.seed, number, 1])
        part = fit.components[own[number]]
        ranks = rank(part, position[number], truths[number], futures[number], new, rng)
        if len(fit.components) > 1:
            ranks = np.concatenate([ranks, rank_forecasts(fit, futures[number], new, rng)])
        found[number] = ranks, fit.status, max(one.diagnostics.rhat.max() for one in fit.components)
    rows, statuses, rhat = zip(*(found[number] for number in queue.plans), strict=True)
    job = queue.plans[0].jobs[0]
    forecasts = tuple(f"forecast at {ratio:g}x" for ratio in ratios)
    whole = tuple(f"mixture {name}" for name in forecasts) if len(queue.plans[0].jobs) > 1 else ()
    # With Student-t noise the level is sampled, so it is among the parameters already.
    level = ("level",) if marginal_level(job.model) else ()
    # The probability of counts depends on latent log odds, which are not simulated as parameters.
    density = () if isinstance(job.problem.evaluation, Counts) else ("likelihood",)
    kept = [name for name, known in zip(ranked_coordinates(job), np.isfinite(position[0]), strict=False) if known]
    names = (*kept, *level, *forecasts, *density, *whole)
    return Ranks(names, np.array(rows), statuses, np.array(rhat))


def sampled_range(evaluation: Any) -> bool:
    """Return whether an evaluation samples the range of a score."""
    return isinstance(evaluation, Counts) and (evaluation.chance_sd, evaluation.ceiling_sd) != (None, None)


def placed(position: np.ndarray, truth: Job, assumed: Job) -> np.ndarray:
    """Return true parameters in the order of those of the fits, NaN where the true model lacks one.

    Args:
        position: True unconstrained parameters, shape (simulation, parameter).
        truth: A job of the true model.
        assumed: A job of the model that is fitted.
    """
    theirs, ours = (coordinates(job.model, job.problem) for job in (truth, assumed))
    if theirs == ours:
        return position
    columns = [position[:, theirs.index(n)] if n in theirs else np.full(len(position), np.nan) for n in ours]
    return np.stack(columns, axis=1)


def with_response(plan: FitPlan, y: np.ndarray, rng: np.random.Generator, values: Values) -> FitPlan:
    """Return a plan for the same inputs with another response.

    Args:
        plan: The plan.
        y: The response minus the centre, shape (bucket,); for scores the log odds of each run.
        rng: Generator of the numbers of right items.
        values: The true values, leading axis 1.
    """
    first = plan.jobs[0].problem
    right = None
    if isinstance(first.evaluation, Counts):
        right, y = first.evaluation.simulate(y, float(first.center), rng, values)
        y = np.where(first.mask > 0, y, 0.0)

    def changed(job: Job) -> Job:
        evaluation = job.problem.evaluation
        if isinstance(evaluation, Counts) and right is not None:
            evaluation = evaluation.counting(right, float(first.center))
        return dataclasses.replace(job, problem=dataclasses.replace(job.problem, y=y, evaluation=evaluation))

    # All components are fitted to the same counts.
    return dataclasses.replace(plan, jobs=tuple(changed(job) for job in plan.jobs))


def beyond(job: Job, ratios: Sequence[float]) -> np.ndarray:
    """Return ln(x / reference) of the forecasts, shape (ratio, input)."""
    rows = int(job.problem.mask.sum())
    largest = np.asarray(job.problem.z)[:rows].max(0)
    return largest + np.log(np.asarray(ratios, float))[:, None]


def ranked_coordinates(job: Job) -> list[str]:
    """Return the unconstrained parameters that are ranked.

    Scores of latent log odds are not, as their meaning varies.
    """
    return [name for name in coordinates(job.model, job.problem) if not name.startswith("latent[")]


@jax.jit
def likelihoods(values: Values, model: Model, problem: Problem) -> Any:
    """Return the log density of the data for each draw, shape (draw,)."""
    return jax.vmap(lambda value: log_likelihood(value, model, problem))(values)


def rank(
    posterior: Posterior,
    truth: np.ndarray,
    values: Values,
    future: np.ndarray,
    new: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return for each quantity the number of posterior draws below the true value."""
    job = posterior.job
    flat = posterior.flat_values
    total = posterior.unconstrained.shape[0] * posterior.unconstrained.shape[1]
    picks = np.linspace(0, total - 1, KEPT).round().astype(int)
    flat = jax.tree.map(lambda leaf: np.asarray(leaf)[picks], flat)
    position = posterior.unconstrained.reshape(total, -1)[picks]
    ahead = predict_log(job.model, job.problem, job.low, flat, new, "run", rng).draws - float(job.problem.center)
    known = np.isfinite(truth[: len(ranked_coordinates(job))])
    below = [*(position < truth).sum(0)[: len(known)][known]]
    if marginal_level(job.model):
        below.append((np.asarray(flat.level) < values.level[0]).sum())
    below.extend((ahead < future).sum(0))
    if isinstance(job.problem.evaluation, Counts):
        return np.array(below)
    with on_cores():
        both = jax.tree.map(lambda a, b: np.concatenate([a, b]), flat, values)
        densities = np.asarray(likelihoods(both, job.model, job.problem))
    return np.array([*below, (densities[:-1] < densities[-1]).sum()])


def rank_forecasts(fit: Fitted, future: np.ndarray, new: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return for each ratio the number of joined draws of a fit below the future run, relative to the centre."""
    drawn = fit.predictive(new, "run", rng).draws - float(fit.first.job.problem.center)
    picks = np.linspace(0, len(drawn) - 1, KEPT).round().astype(int)
    return (drawn[picks] < future).sum(0)
