"""Fit: from runs to a posterior, through one compiled program for each shape of problem."""

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
"""Diagnostics of a posterior that is about to be diagnosed."""
FIRST, SECOND, THIRD, FURTHER = 0, 1, 101, 2
"""Attempts, which have random streams of their own: first chains, new chains, new chains of the smallest steps, and
more draws of the first, in rounds numbered from there."""
ROUNDS = 2
"""How often chains are continued at most, by as many draws as they began with. Of 89 components of published and
made-up curves that went on, 86 were mended by the first time."""
NEAR = 1.05
"""R-hat up to which chains are continued. Of 77 curves of at most 16 points whose first chains deserved no trust, three
times as many draws mended 60, at less than half the price of new chains."""
SECOND_ACCEPT, THIRD_ACCEPT = 0.99, 0.998
"""Acceptance probabilities of new chains."""


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
        runs: Runs of one family. More than 64 checkpoints of a run, or 100 of several, are averaged within equal
            parts of ln x: fits to averages forecast better (docs/evidence/calibration.md) and take no longer, however
            many there are. Checkpoints are rows of which several name the same run, and rows of one input that name
            none.
        law: A law or its name; "auto" is for one input a power law, fitted as a mixture of posteriors with a floor
            and a plateau, with a floor and, for ladders, with neither; for two or three it is one power law each under
            an outer power, with a floor (see `laws.automatic`).
        seed: Seed of all randomness; equal seeds give equal draws.
        strict: Raise if the posterior must not be trusted, see `Fitted.trustworthy`.
        **options: The options below, which every function that fits takes.
        discrepancy: "auto" for the calibrated default, a `Discrepancy`, or None to trust the law outright.
        likelihood: A `Likelihood` or its name ("normal", "student"; of scores "binomial"); "auto" is normal for losses
            and binomial for scores.
        priors: Replacements for single priors of the law.
        design: "ladder" for finished runs of growing size or compute, "curve" for one model with more and more data,
            steps or attempts; "auto" tells from the name of the input. Defaults depend on it.
        prior_from: An earlier fit of the family whose model and prior are kept: law, priors, discrepancy, likelihood,
            and the range of runs that they are relative to. By default the prior is relative to the runs at hand, so
            it moves a little with each run that is added; with it, a fit to old and new runs is the posterior of the
            old ones updated by the new ones.
        settings: Counts and target acceptance of NUTS.
        method: "nuts"; "importance" for weighted draws without gradients, several times as fast; "auto" for
            importance sampling, and NUTS where its diagnostics (Pareto k, effective sample size) object.

    Returns:
        The posterior of one model, or a `Mixture` of posteriors where the law's priors name one, as those of "auto" for
        one input do.

    Raises:
        InputError: For data or names that cannot work, before anything is compiled.
        UntrustworthyFit: With `strict=True`, if the draws did not converge, or a warning forbids a decision on them.

    Example:
        >>> import bayescale as bs
        >>> runs = bs.corpus.load("marin_moe_v16_minima")  # doctest: +SKIP
        >>> post = bs.fit(runs, seed=0)  # doctest: +SKIP
    """
    request = request_fit(law, seed, options)
    checked.options(strict=(strict, checked.FLAG))
    plan = request.plan(runs)
    # All components of one shape in one call, which shares them out among the cores.
    tasks = plan.tasks(request.settings, 0)
    fitted = combine(sample_flat(tasks, seed, request.method, lambda task, count: count), plan.weights)
    if strict and (found := reasons_for_distrust(fitted)):
        raise UntrustworthyFit(f"The fit of {fitted.runs.name} must not be relied on. {found[0]}")
    return fitted


def sample_flat(
    tasks: Sequence[Task], seed: int, method: str, largest: Callable[[Task, int], int] = suited
) -> list[Posterior]:
    """Sample jobs of any shapes, in batches.

    Args:
        tasks: Each job with its settings, of the first attempt, and the number below 2^64 of its random stream.
        seed: Seed of all streams.
        method: A name in `METHODS`.
        largest: Size of a batch, see `batches.batch`; by default what suits the devices of this process.

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
    """Sample jobs of one shape by a method; "auto" turns to NUTS where importance weights do not deserve trust.

    Args:
        jobs: Jobs of one shape.
        streams: Number below 2^64 of each job's own random stream.
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
    """Sample chains, and fall back where they cannot be trusted: to importance sampling, then to the smallest steps.

    Args:
        jobs: Jobs of one shape.
        streams: Number of each job's own random stream.
        seed: Seed of all randomness.
        settings: Settings of the first attempt.
        weigh: Try importance sampling, which the method "auto" has done before.
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
    """Return a posterior with these draws instead of its own, diagnosed as what they are."""
    return diagnosed(dataclasses.replace(posterior, unconstrained=position, values=values, stats=stats))


def diagnosed(posterior: Posterior) -> Posterior:
    """Return a posterior with the diagnostics of its chains."""
    stats, least = posterior.stats, float(posterior.settings.least_ess)
    measures = diagnose(posterior.unconstrained, stats["diverging"], stats["energy"], least, reported(posterior))
    return dataclasses.replace(posterior, diagnostics=measures)


def reported(posterior: Posterior) -> np.ndarray:
    """Return draws of the quantities that are reported, shape (chain, draw, quantity).

    In NumPy alone, as nothing may be compiled for them: the law's constants with their level, in the paper's units
    where those are powers, and the discrepancy. Standard deviations are left out, since their ranks are those of the
    parameters that are their logarithms.
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
    """Sample jobs of one shape, and on until they can be trusted: first more draws, then new chains of smaller steps.

    Whoever asks for fewer draws than a trustworthy posterior needs gets just those.
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
    """Return whether chains that are not reliable yet may be with more draws: none diverged and they nearly agree."""
    tried, few = posterior.diagnostics, posterior.status in (Status.NOT_MIXED, Status.FEW_DRAWS)
    return few and not tried.divergences and tried.largest_rhat < NEAR


def continued(first: Posterior, rest: Posterior) -> Posterior:
    """Return a posterior with the draws of both, of which the latter goes on where the first ended."""

    def both(a: Any, b: Any) -> Any:
        return np.concatenate([a, b], axis=1)

    position, values, stats = jax.tree.map(both, first.per_draw, rest.per_draw)
    settings = dataclasses.replace(first.settings, draws=position.shape[1])
    return redrawn(dataclasses.replace(first, settings=settings), position, compact(values), stats)


def longer(settings: Nuts) -> Nuts:
    """Return the settings of new chains.

    Of 40 published curves on which two attempts of equal length had failed, 34 converged with these; smaller steps
    alone, or a longer warm-up alone, mended less than half.
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
    """Run the compiled program on jobs of one shape; return posteriors, and where their chains ended."""
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
                # Through NumPy, so that chains that begin and chains that go on are of one type to the program.
                at = jax.device_get(begin(*given, *where)) if ends is None else stacked(ends, filled)
                output = jax.tree.map(np.asarray, jax.device_get(sample(*given, at, *where)))

        def posterior(row: int) -> tuple[Posterior, Any]:
            # Copies, so that one family does not keep the arrays of its whole batch in memory.
            part = jax.tree.map(lambda leaf: leaf[row].copy(), output)
            return make_posterior(jobs[members[row]], part, seed, settings), part["end"]

        if not devices.vectorized:
            return [posterior(row) for row in range(len(members))]
        with ThreadPoolExecutor() as threads:
            return list(threads.map(posterior, range(len(members))))

    return devices.pieces(len(jobs), run)


def make_posterior(job: Job, output: dict[str, Any], seed: int, settings: Nuts) -> Posterior:
    """Wrap one family's chains and diagnose them."""
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
    """Show a bar with the time left on a terminal, and nothing in pipes and logs; yields `advance(n)`."""
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
