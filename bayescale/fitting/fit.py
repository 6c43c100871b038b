"""Fit: sample the posterior of one family, with one compiled program for each shape of problem."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Unpack

import jax
import numpy as np

from bayescale import checked
from bayescale.data.runs import Runs
from bayescale.errors import Status, UntrustworthyFit
from bayescale.fitting.batches import Task, batch, compiled_once, machine, one_thread, stacked, stream_key, suited
from bayescale.fitting.importance_fit import weigh_jobs
from bayescale.fitting.options import FitOptions, list_fit_options, request_fit
from bayescale.fitting.programs import TRACES as TRACES
from bayescale.fitting.programs import begin_batch, compiled, sample_batch
from bayescale.inference.diagnostics import diagnose
from bayescale.inference.nuts import Nuts
from bayescale.laws.law import Law
from bayescale.model.parameters import compact
from bayescale.model.problem import Job, Values
from bayescale.posterior.checks import reasons_for_distrust
from bayescale.posterior.mixture import Mixture, combine
from bayescale.posterior.posterior import Posterior

NOT_YET: Any = None
"""Placeholder for diagnostics that are computed next."""
FIRST, SECOND, THIRD, FURTHER = 0, 1, 101, 2
"""Numbers of attempts, each with its own random stream: first chains, new chains, new chains with the smallest steps,
and continuations of the first chains, one number a round."""
ROUNDS = 2
"""Largest number of continuations, each with as many draws as the first chains. Of 89 components of published and
simulated curves that were continued, 86 converged with the first continuation."""
NEAR = 1.05
"""Chains are continued if R-hat is at most this. Of 77 curves with at most 16 points whose first chains did not
converge, 60 converged with three times as many draws, at less than half the cost of new chains."""
SECOND_ACCEPT, THIRD_ACCEPT = 0.99, 0.998
"""Target acceptance probabilities of new chains."""


@list_fit_options()
def fit(
    runs: Runs,
    law: str | Law = "auto",
    *,
    seed: int,
    strict: bool = False,
    **options: Unpack[FitOptions],
) -> Posterior | Mixture:
    """Sample the posterior of a scaling law for one family.

    Args:
        runs: Runs of one family. Rows are checkpoints if several have the same run, or if there is one input and no
            column of runs. More than 64 checkpoints of one run, or 100 of several, are averaged within equal parts of
            ln x: fits to averages forecast better (docs/evidence/calibration.md), and their time does not grow with the
            number of checkpoints.
        law: A law or its name. For one input "auto" is a power law, fitted as a mixture of posteriors: with a floor and
            a plateau, with a floor only and, for ladders, with neither. For two or three inputs it is a sum of power
            laws, one for each input, raised to an outer power, with a floor (see `laws.automatic`).
        seed: Seed of all random numbers; equal seeds give equal draws.
        strict: Raise if the posterior must not be relied on, see `Fitted.trustworthy`.
        **options: The options below, which all functions that fit accept.
        discrepancy: "auto" for the calibrated default, a `Discrepancy`, or None to assume that the law is exact.
        likelihood: A `Likelihood` or its name ("normal", "student"; for scores "binomial"); "auto" is normal for losses
            and values, and binomial for scores.
        priors: Priors of the law to replace, by name.
        design: "ladder" for finished runs of growing size or compute, "curve" for one model with more and more data,
            steps or attempts; "auto" decides by the name of the input. Default priors depend on the design.
        prior_from: An earlier fit of the family whose model and prior are kept: law, priors, discrepancy, likelihood,
            and the range of runs to which priors are relative. By default priors are relative to the given runs, so
            they change a little with each added run. With `prior_from`, a fit to old and new runs is the posterior of
            the old runs updated with the new ones.
        settings: Warm-up steps, draws, chains and target acceptance of NUTS.
        method: "nuts"; "importance" for importance sampling, which is several times as fast; "auto" for importance
            sampling, followed by NUTS if diagnostics (Pareto k, effective sample size) are poor.

    Returns:
        The posterior of one model, or a `Mixture` of posteriors if the law's priors define one, as those of "auto" for
        one input do.

    Raises:
        InputError: For impossible data or names, before anything is compiled.
        UntrustworthyFit: With `strict=True`, if the draws did not converge, or a warning forbids a decision on them.

    Example:
        >>> import bayescale as bs
        >>> runs = bs.corpus.load("marin_moe_v16_minima")  # doctest: +SKIP
        >>> post = bs.fit(runs, seed=0)  # doctest: +SKIP
    """
    request = request_fit(law, seed, options)
    checked.options(strict=(strict, checked.FLAG))
    plan = request.plan(runs)
    # All components of one shape are sampled in one call, which divides them among the cores.
    tasks = plan.tasks(request.settings, 0)
    fitted = combine(sample_flat(tasks, seed, request.method, lambda task, count: count), plan.weights)
    if strict and (found := reasons_for_distrust(fitted)):
        raise UntrustworthyFit(f"The fit of {fitted.runs.name} is not reliable. {found[0]}")
    return fitted


def sample_flat(
    tasks: Sequence[Task], seed: int, method: str, largest: Callable[[Task, int], int] = suited
) -> list[Posterior]:
    """Sample jobs of any shapes, in batches.

    Args:
        tasks: Jobs, each with its settings for the first attempt and the number, below 2^64, of its random stream.
        seed: Seed of all streams.
        method: A name in `METHODS`.
        largest: Largest size of a batch, see `batches.batch`; by default suited to the devices of this process.

    Returns:
        One posterior for each job, in order.
    """
    found: dict[int, Posterior] = {}
    for members in batch(tasks, largest):
        jobs, settings, streams = zip(*(tasks[i] for i in members), strict=True)
        found |= dict(zip(members, sample_jobs(jobs, streams, seed, settings[0], method), strict=True))
    return [found[i] for i in range(len(tasks))]


def sample_jobs(
    jobs: Sequence[Job], streams: Sequence[int], seed: int, settings: Nuts, method: str = "nuts"
) -> list[Posterior]:
    """Sample jobs of one shape by a method; "auto" uses NUTS where importance weights are unreliable.

    Args:
        jobs: Jobs of one shape.
        streams: Number, below 2^64, of each job's own random stream.
        seed: Seed of all streams.
        settings: Settings of the first attempt.
        method: A name in `METHODS`.
    """
    with one_thread() if jobs[0].problem.evaluation.factorises else contextlib.nullcontext():
        if method == "nuts":
            return sample_robustly(jobs, streams, seed, settings, weigh=True)
        posteriors = weigh_jobs(jobs, streams, seed, settings)
        if method == "importance":
            return posteriors
        if doubtful := [i for i, posterior in enumerate(posteriors) if posterior.status is not Status.OK]:
            own = [jobs[i] for i in doubtful], [streams[i] for i in doubtful]
            for i, posterior in zip(doubtful, sample_robustly(*own, seed, settings, weigh=False), strict=True):
                tried = posteriors[i].diagnostics
                kept = {"pareto_k": tried.pareto_k, "ess_weights": tried.ess_weights, "modes": tried.modes}
                diagnostics = dataclasses.replace(posterior.diagnostics, **kept)
                posteriors[i] = dataclasses.replace(posterior, diagnostics=diagnostics)
        return posteriors


def sample_robustly(
    jobs: Sequence[Job], streams: Sequence[int], seed: int, settings: Nuts, *, weigh: bool
) -> list[Posterior]:
    """Sample chains; where they do not converge, try importance sampling, then chains with the smallest steps.

    Args:
        jobs: Jobs of one shape.
        streams: Number of each job's own random stream.
        seed: Seed of all random numbers.
        settings: Settings of the first attempt.
        weigh: Try importance sampling; False if the method "auto" has tried it before.
    """
    posteriors = sample_chains(jobs, streams, seed, settings)
    if settings.chains * settings.draws < settings.least_ess:
        return posteriors

    def given(numbers: list[int]) -> tuple[list[Job], list[int]]:
        return [jobs[i] for i in numbers], [streams[i] for i in numbers]

    def accept(numbers: list[int], found: list[Posterior]) -> None:
        for i, posterior in zip(numbers, found, strict=True):
            if posterior.status is Status.OK:
                posteriors[i] = posterior

    if weigh and (numbers := [i for i, posterior in enumerate(posteriors) if posterior.status is not Status.OK]):
        accept(numbers, weigh_jobs(*given(numbers), seed, settings))
    if numbers := [i for i, posterior in enumerate(posteriors) if posterior.status is Status.DIVERGENT]:
        smallest = dataclasses.replace(longer(settings), target_accept=max(THIRD_ACCEPT, settings.target_accept))
        accept(numbers, [posterior for posterior, _ in run_compiled(*given(numbers), seed, smallest, THIRD)])
    return posteriors


def redrawn(posterior: Posterior, position: np.ndarray, values: Values, stats: dict[str, np.ndarray]) -> Posterior:
    """Return a posterior with these draws instead of its own, and their diagnostics."""
    return diagnosed(dataclasses.replace(posterior, unconstrained=position, values=values, stats=stats))


def diagnosed(posterior: Posterior) -> Posterior:
    """Return a posterior with the diagnostics of its chains."""
    stats, least = posterior.stats, float(posterior.settings.least_ess)
    measures = diagnose(posterior.unconstrained, stats["diverging"], stats["energy"], least, reported(posterior))
    return dataclasses.replace(posterior, diagnostics=measures)


def reported(posterior: Posterior) -> np.ndarray:
    """Return draws of the quantities that are reported, shape (chain, draw, quantity).

    These are the law's constants with their level, in the paper's units where conversion is a power, and the
    discrepancy. Standard deviations are left out, because their logarithms are among the parameters and have the same
    ranks. Computed with NumPy, so that nothing is compiled.
    """
    law, values = posterior.law, posterior.values
    shape = posterior.unconstrained.shape[:2]
    constants = {name: np.broadcast_to(np.asarray(values.constants[name], float), shape) for name in law.constants}
    with np.errstate(all="ignore"):
        if law.level:
            level = np.exp(np.asarray(values.level))
            constants |= {name: constants[name] * level for name in law.covered[law.level[0]] if name in constants}
        if law.units and not callable(law.units):
            constants = law.at_unit_scale(constants, dict(zip(law.inputs, posterior.job.reference, strict=True)))
        columns = [*constants.values(), np.broadcast_to(np.asarray(values.amplitude, float), shape)]
        varied = [column for column in columns if np.ptp(column) > 0.0]
    return np.stack(varied, axis=-1) if varied else np.empty((*shape, 0))


def sample_chains(jobs: Sequence[Job], streams: Sequence[int], seed: int, settings: Nuts) -> list[Posterior]:
    """Sample jobs of one shape until they converge: first with more draws, then with new chains and smaller steps.

    If fewer draws are requested than convergence needs, only the requested ones are made.
    """
    found = run_compiled(jobs, streams, seed, settings, FIRST)
    posteriors = [posterior for posterior, _ in found]
    if settings.chains * settings.draws < settings.least_ess:
        return posteriors

    for number in range(FURTHER, FURTHER + ROUNDS):
        if short := [i for i, posterior in enumerate(posteriors) if only_short(posterior)]:
            stopped = [found[i][1] for i in short]
            rest = run_compiled([jobs[i] for i in short], [streams[i] for i in short], seed, settings, number, stopped)
            for i, more in zip(short, rest, strict=True):
                posteriors[i], found[i] = continued(posteriors[i], more[0]), more
    if doubtful := [i for i, posterior in enumerate(posteriors) if posterior.status is not Status.OK]:
        again = [jobs[i] for i in doubtful], [streams[i] for i in doubtful]
        for i, (posterior, _) in zip(doubtful, run_compiled(*again, seed, longer(settings), SECOND), strict=True):
            posteriors[i] = posterior
    return posteriors


def only_short(posterior: Posterior) -> bool:
    """Return whether more draws may suffice for convergence: no chain diverged, and chains nearly agree."""
    tried, few = posterior.diagnostics, posterior.status in (Status.NOT_MIXED, Status.FEW_DRAWS)
    return few and not tried.divergences and tried.largest_rhat < NEAR


def continued(first: Posterior, rest: Posterior) -> Posterior:
    """Return a posterior with the draws of both arguments; the second continues the chains of the first."""

    def both(a: Any, b: Any) -> Any:
        return np.concatenate([a, b], axis=1)

    position, values, stats = jax.tree.map(both, first.per_draw, rest.per_draw)
    settings = dataclasses.replace(first.settings, draws=position.shape[1])
    return redrawn(dataclasses.replace(first, settings=settings), position, compact(values), stats)


def longer(settings: Nuts) -> Nuts:
    """Return the settings of new chains.

    Of 40 published curves on which two attempts with equal settings had failed, 34 converged with these settings;
    smaller steps alone, or a longer warm-up alone, were enough for less than half.
    """
    return dataclasses.replace(
        settings,
        warmup=settings.warmup * 5 // 2,
        draws=settings.draws * 3,
        target_accept=max(SECOND_ACCEPT, settings.target_accept),
    )


def run_compiled(
    jobs: Sequence[Job],
    streams: Sequence[int],
    seed: int,
    settings: Nuts,
    attempt: int,
    ends: Sequence[Any] | None = None,
) -> list[tuple[Posterior, Any]]:
    """Run the compiled program on jobs of one shape; return posteriors, and the last states of their chains."""
    devices = machine(len(jobs))
    numbers = {name: np.float64(getattr(settings, name)) for name in ("target_accept", "least_ess")}
    settings = dataclasses.replace(settings, **numbers)

    def run(members: list[int]) -> list[tuple[Posterior, Any]]:
        filled = [members[i] for i in devices.members(len(members))]
        with devices.entered():
            keys = np.stack([stream_key(seed, attempt, streams[i]) for i in filled])
            problems = stacked([job.problem for job in jobs], filled)
            with compiled_once(jobs[0], devices.vectorized, len(filled), jax.tree.structure(settings)):
                begin, sample = (compiled(program, devices.lighter(jobs[0])) for program in (begin_batch, sample_batch))
                given, where = (keys, jobs[0].model, problems, settings), (devices.vectorized, devices.mesh)
                # Converted to NumPy, so that first and continued chains have the same argument types and share a
                # program.
                at = jax.device_get(begin(*given, *where)) if ends is None else stacked(ends, filled)
                output = jax.tree.map(np.asarray, jax.device_get(sample(*given, at, *where)))

        def posterior(row: int) -> tuple[Posterior, Any]:
            # Copied, so that one family does not keep the arrays of its whole batch in memory.
            part = jax.tree.map(lambda leaf: leaf[row].copy(), output)
            return make_posterior(jobs[members[row]], part, seed, settings), part["end"]

        if not devices.vectorized:
            return [posterior(row) for row in range(len(members))]
        with ThreadPoolExecutor() as threads:
            return list(threads.map(posterior, range(len(members))))

    return devices.pieces(len(jobs), run)


def make_posterior(job: Job, output: dict[str, Any], seed: int, settings: Nuts) -> Posterior:
    """Return the posterior of one family's chains, with diagnostics."""
    chains = output["chains"]
    posterior = Posterior(
        job=job,
        seed=seed,
        settings=settings,
        unconstrained=chains.position,
        values=compact(output["values"]),
        stats={
            "diverging": chains.diverging,
            "acceptance_rate": chains.accept,
            "n_steps": chains.steps,
            "energy": chains.energy,
            "step_size": chains.step_size,
        },
        diagnostics=NOT_YET,
    )
    return diagnosed(posterior)


@contextlib.contextmanager
def progress_bar(total: int, wanted: bool | None, label: str = "sampling") -> Iterator[Callable[[int], None]]:
    """Show a progress bar with the time left, on a terminal only; yields `advance(n)`."""
    show = (sys.stderr.isatty() and total > 4) if wanted is None else wanted
    if not show:
        yield lambda number: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda number: bar.advance(task, number)
