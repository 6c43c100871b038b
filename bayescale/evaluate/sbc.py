"""Simulation-based calibration: does the posterior hold, on average, where the model is true?

Data are simulated from the priors and fitted; the rank of the truth among posterior draws must be uniform, for each
coordinate, for forecasts beyond the data, and for the likelihood, which notices data that were not used
(talts2018sbc). `run` averages over the whole prior; `given` asks the same where one real data set has put the posterior
(sailynoja2025posterior).
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
from bayescale.model.likelihood import Likelihood
from bayescale.model.parameters import coordinates
from bayescale.model.problem import Job, Model, Problem, Values
from bayescale.posterior.fitted import Fitted
from bayescale.posterior.posterior import Failure, Posterior
from bayescale.posterior.predictive import predict_log

__all__ = ["Ranks", "departure", "given", "run"]

KEPT = 99
"""Posterior draws that a truth is ranked among; so few are nearly independent."""
NULL = 4000
"""Simulated sets of uniform ranks that p values come from."""
BOUNDLESS = 1e3
"""Relative standard error of runs that must not count."""


@known_keywords
@dataclasses.dataclass(frozen=True)
class Ranks:
    """Ranks of simulated truths among posterior draws.

    Attributes:
        names: Coordinates, "level" where it is no coordinate, forecasts and "likelihood".
        ranks: Number of draws below the truth, 0 to `KEPT`, shape (simulation, quantity).
        statuses: Verdict on each fit; none is left out of the ranks, since that would bias them.
        rhat: Largest R-hat of each fit, shape (simulation,).
    """

    names: tuple[str, ...]
    ranks: np.ndarray
    statuses: tuple[Status, ...]
    rhat: np.ndarray

    def summary(self) -> pd.DataFrame:
        """Test each quantity for uniform ranks.

        Returns:
            Indexed by quantity: mean (0.5 if unbiased), variance (1 if the spread is right), p, the probability of a
            departure of the empirical distribution this large anywhere, and outside, whether the quantity leaves
            the band that all of them stay in with probability 0.99.
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
    """Return the largest standardised gap between the distribution of ranks and the uniform one."""
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
    ratios: Sequence[float] = (3.0, 10.0),
    executor: Executor | None = None,
    progress: bool | None = None,
    **options: Unpack[FitOptions],
) -> Ranks:
    """Simulate data at the inputs of some runs, fit them, and rank the truths.

    Of a mixture, as the default of one input is, each component is simulated in proportion to its weight, and all are
    fitted. Coordinates, forecasts and the likelihood are ranked among the draws of the component that the data came
    from, and mixture forecasts among those of the whole mixture: weights that are given, and not learned from the data,
    need not make these uniform.

    Args:
        runs: One family; only its inputs count. Its runs must not be replicates or checkpoints of each other.
        law: A law or its name.
        simulations: Data sets to simulate; 500 see a bias of a tenth of a standard deviation.
        seed: Seed of all randomness.
        true_discrepancy: Discrepancy that data have; "same" is the one that fits assume.
        true_likelihood: Likelihood that data have; "same" is the one that fits assume.
        ratios: Factors beyond the largest runs, all inputs growing alike, at which one future run is forecast.
        executor: Where to fit, see `fit_many`; ranks do not depend on it.
        progress: Show a bar; by default only on a terminal.
        **options: What fits assume and how they sample, see `fit`.

    Raises:
        InputError: For runs that cannot be fitted, or whose scatter is not independent.

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
    truth = plan_fit(runs, law, **{**request.model, **real})
    simulable(assumed)
    simulable(truth)
    new = beyond(assumed.jobs[0], ratios)
    position, values = prior_values(truth, simulations, seed)
    truths = [jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], values) for i in range(simulations)]
    plans, futures = {}, []
    for number, (one, owner) in enumerate(zip(truths, owners(truth, simulations), strict=True)):
        y, future = simulate(truth.jobs[owner], one, new, np.random.default_rng([seed, number, 0]))
        plans[number] = with_response(assumed, y, np.random.default_rng([seed, number, 2]))
        futures.append(future)
    queue = Queue(plans, {}, request, None, executor)
    return ranked(queue, position, truths, np.array(futures), new, ratios, progress)


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
    """Calibrate where real data have put the posterior: fit them, simulate more, fit both, and rank the truths.

    Truths are draws of the posterior given the real runs; more runs are simulated from each, half-way between
    neighbouring runs, and fitted together with the real ones. If the sampler is right, ranks are uniform
    (sailynoja2025posterior). The spans that priors rest on are those of the real runs throughout.

    Args:
        runs: One family of one input, one run at each scale and no standard errors.
        law: See `run`.
        simulations: Sets of further runs.
        seed: Seed of all randomness.
        ratios: See `run`.
        executor: See `run`.
        progress: See `run`.
        **options: See `run`.

    Raises:
        InputError: For runs of several inputs, replicates, checkpoints or standard errors.

    Example:
        >>> import bayescale as bs
        >>> runs = bs.corpus.load("marin_moe_v16_minima")  # doctest: +SKIP
        >>> bs.sbc.given(runs, simulations=100, seed=0).summary()  # doctest: +SKIP
    """
    request = request_fit(law, seed, options)
    checked.options(simulations=(simulations, checked.whole(1, 1_000_000)))
    check_ratios(ratios)
    if len(checked_runs(runs).inputs) > 1:
        raise InputError(f"Calibration given data needs one input; {runs.name} has {', '.join(runs.inputs)}.")
    real = request.plan(runs)
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

    # Runs of boundless error say nothing, so this is the fit of the real ones, in the coordinates of all.
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


def component_draws(fit: Fitted, plan: FitPlan, count: int) -> list[tuple[np.ndarray, Values]]:
    """Return so many draws of a fit's components, in proportion to their weights in the prior; see `some_draws`."""
    counts = np.bincount(owners(plan, count), minlength=len(plan.jobs))
    return [some_draws(part, number) for part, number in zip(fit.components, counts, strict=True)]


def some_draws(posterior: Posterior, count: int) -> tuple[np.ndarray, Values]:
    """Return so many evenly spaced draws of a posterior, shape (draw, coordinate), and their constrained values."""
    total = len(posterior.flat_values.level)
    picks = np.floor(np.linspace(0, total - 1, count) + 0.5).astype(int)
    values = jax.tree.map(lambda leaf: np.asarray(leaf)[picks], posterior.flat_values)
    return posterior.unconstrained.reshape(total, -1)[picks], values


def check_ratios(ratios: Any) -> None:
    """Refuse factors at which nothing can be forecast.

    Raises:
        InputError: For no factor, or one that is not positive.
    """
    known = isinstance(ratios, Sequence | np.ndarray) and not isinstance(ratios, str) and len(ratios) > 0
    if not known or not all(checked.POSITIVE.holds(ratio) for ratio in ratios):
        raise InputError(f"ratios must be positive numbers, e.g. (3.0, 10.0); found {checked.shortened(ratios)}.")


def enough(simulations: int, fewest: int = 1) -> None:
    """Refuse to simulate nothing.

    Raises:
        InputError: For fewer than the fewest simulations: one of each component.
    """
    if simulations < fewest:
        raise InputError(f"simulations must be at least {fewest}, better 500; found {simulations}.")


def simulable(plan: FitPlan) -> None:
    """Refuse what no simulation here is drawn from.

    Raises:
        InputError: For runs whose scatter is not independent.
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
    """Fit simulated jobs and rank the truths.

    Args:
        queue: Plans of one shape by number, and how to fit them.
        position: True coordinates, shape (simulation, coordinate).
        truths: Their constrained values, leading axis 1.
        futures: Future runs, relative to the jobs' centres, shape (simulation, ratio).
        new: Relative log inputs of those, shape (ratio, input).
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
    # Student-t noise samples the level, so it is among the coordinates already.
    level = ("level",) if marginal_level(job.model) else ()
    # The probability of counts depends on log odds that the truth has no coordinates of.
    density = () if isinstance(job.problem.evaluation, Counts) else ("likelihood",)
    names = (*ranked_coordinates(job), *level, *forecasts, *density, *whole)
    return Ranks(names, np.array(rows), statuses, np.array(rhat))


def with_response(plan: FitPlan, y: np.ndarray, rng: np.random.Generator) -> FitPlan:
    """Return a plan for the same inputs with another response.

    Args:
        plan: The plan.
        y: The response, less the centre, shape (bucket,): of scores the log odds of each run.
        rng: Source of the counts of right items.
    """
    first = plan.jobs[0].problem
    right = None
    if isinstance(first.evaluation, Counts):
        right, y = first.evaluation.simulate(y, float(first.center), rng)
        y = np.where(first.mask > 0, y, 0.0)

    def changed(job: Job) -> Job:
        evaluation = job.problem.evaluation
        if isinstance(evaluation, Counts) and right is not None:
            evaluation = evaluation.counting(right, float(first.center))
        return dataclasses.replace(job, problem=dataclasses.replace(job.problem, y=y, evaluation=evaluation))

    # All components are fitted to the same counts.
    return dataclasses.replace(plan, jobs=tuple(changed(job) for job in plan.jobs))


def beyond(job: Job, ratios: Sequence[float]) -> np.ndarray:
    """Return the relative log inputs of the forecasts, shape (ratio, input)."""
    rows = int(job.problem.mask.sum())
    largest = np.asarray(job.problem.z)[:rows].max(0)
    return largest + np.log(np.asarray(ratios, float))[:, None]


def ranked_coordinates(job: Job) -> list[str]:
    """Return the coordinates that are ranked: not standard scores of log odds, whose meaning depends on the data."""
    return [name for name in coordinates(job.model, job.problem) if not name.startswith("latent[")]


@jax.jit
def likelihoods(values: Values, model: Model, problem: Problem) -> Any:
    """Log density of the data for each draw, shape (draw,)."""
    return jax.vmap(lambda value: log_likelihood(value, model, problem))(values)


def rank(
    posterior: Posterior,
    truth: np.ndarray,
    values: Values,
    future: np.ndarray,
    new: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Count the posterior draws below the truth, for each quantity."""
    job = posterior.job
    flat = posterior.flat_values
    total = posterior.unconstrained.shape[0] * posterior.unconstrained.shape[1]
    picks = np.linspace(0, total - 1, KEPT).round().astype(int)
    flat = jax.tree.map(lambda leaf: np.asarray(leaf)[picks], flat)
    position = posterior.unconstrained.reshape(total, -1)[picks]
    ahead = predict_log(job.model, job.problem, job.low, flat, new, "run", rng).draws - float(job.problem.center)
    below = [*(position < truth).sum(0)[: len(ranked_coordinates(job))]]
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
    """Count the joined draws of a fit below future runs, relative to the center, for each ratio."""
    drawn = fit.predictive(new, "run", rng).draws - float(fit.first.job.problem.center)
    picks = np.linspace(0, len(drawn) - 1, KEPT).round().astype(int)
    return (drawn[picks] < future).sum(0)
