"""Many fits: posteriors of hundreds of families, on any executor, resumable in a folder.

A failure stops no other family.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, Literal, Unpack, overload

import jax

from bayescale.checked import FLAG
from bayescale.checked import options as check_options
from bayescale.data.runs import Runs, checked, several
from bayescale.errors import InputError, Status, UntrustworthyFit, counted
from bayescale.fitting import cache
from bayescale.fitting.batches import Task, batch, padding, suited
from bayescale.fitting.executors import TASK, Cores, Here, outcomes, own_executor, pack, packed, unpack
from bayescale.fitting.fit import progress_bar, sample_flat
from bayescale.fitting.options import FitOptions, FitRequest, list_fit_options, request_fit
from bayescale.fitting.plan import FitPlan
from bayescale.laws.law import Law
from bayescale.model.parameters import compact
from bayescale.posterior.checks import reasons_for_distrust
from bayescale.posterior.fitted import Fitted
from bayescale.posterior.mixture import Mixture, combine
from bayescale.posterior.posterior import Failure, Posterior


@overload
def fit_many(
    families: Iterable[Runs],
    law: str | Law = "auto",
    *,
    seed: int,
    strict: bool = False,
    failures: Literal["raise"],
    folder: str | Path | None = None,
    executor: Executor | None = None,
    progress: bool | None = None,
    **options: Unpack[FitOptions],
) -> list[Posterior | Mixture]: ...


@overload
def fit_many(
    families: Iterable[Runs],
    law: str | Law = "auto",
    *,
    seed: int,
    strict: bool = False,
    failures: Literal["keep"] = "keep",
    folder: str | Path | None = None,
    executor: Executor | None = None,
    progress: bool | None = None,
    **options: Unpack[FitOptions],
) -> list[Posterior | Mixture | Failure]: ...


@list_fit_options()
def fit_many(
    families: Iterable[Runs],
    law: str | Law = "auto",
    *,
    seed: int,
    strict: bool = False,
    failures: str = "keep",
    folder: str | Path | None = None,
    executor: Executor | None = None,
    progress: bool | None = None,
    **options: Unpack[FitOptions],
) -> Any:
    """Sample one posterior for each family; families of one shape share compiled programs.

    Args:
        families: One `Runs` for each family.
        law: See `fit`.
        seed: Seed. Each family has its own random stream, which depends on its index in the list only. Draws therefore
            do not depend on the other families. On CPUs they are also identical, to the last bit, for all executors and
            numbers of workers; other kinds or numbers of devices round differently. With `folder`, draws do not depend
            on the index either.
        strict: Raise if any posterior must not be relied on, after all are finished.
        failures: How to treat a family that cannot be fitted. "keep" returns a `Failure` with status and reason in its
            place, unless it is the only family. "raise" raises: before anything is sampled if runs and law do not fit
            together, after all others are finished if sampling failed.
        folder: Folder of finished posteriors, made if it does not exist. Posteriors found there are read instead of
            sampled, and new ones are written as soon as they are finished, so an interrupted call can be resumed. Files
            are named after families and matched by data, law, priors, discrepancy, likelihood, settings, method and
            seed; `load` opens them.
        executor: Any `concurrent.futures.Executor`, e.g. a process pool or a Dask client's `get_executor()`. A family
            whose worker dies is tried again, up to twice. By default threads on all cores of this machine, or its
            accelerators.
        progress: Show a progress bar; by default only on a terminal.
        **options: Options of the fit, see `fit`.

    Returns:
        Posteriors in the order of the families; each has its own status. In a `jax.distributed` job, a process returns
        those of families `process_index, process_index + process_count, ...` only.

    Raises:
        InputError: If no family can be fitted, or if one cannot and `failures="raise"`.
        UntrustworthyFit: With `strict=True`, with the names of the families.

    Example:
        >>> import bayescale as bs
        >>> table = bs.read("runs.csv")  # doctest: +SKIP
        >>> posteriors = bs.fit_many(table.split(), seed=0, folder="posteriors")  # doctest: +SKIP
    """
    if failures not in ("keep", "raise"):
        raise InputError(f"failures must be 'keep' or 'raise'; found {failures!r}.")
    check_options(strict=(strict, FLAG))
    queue = line_up(families, request_fit(law, seed, options), folder, executor)
    if queue.refused and failures == "raise":
        raise next(iter(queue.refused.values())).error
    found = dict(results_of(queue, progress))
    results = [found[number] for number in sorted(found)]
    failed = [result for result in results if isinstance(result, Failure)]
    if failed and (failures == "raise" or len(failed) == len(results)):
        raise failed[0].error
    reasons = ((result.runs.name, reasons_against(result)) for result in (results if strict else []))
    if doubtful := [(name, found[0]) for name, found in reasons if found]:
        listed = "; ".join(f"{name}: {reason}" for name, reason in doubtful[:5])
        verb = "is" if len(doubtful) == 1 else "are"
        raise UntrustworthyFit(f"{len(doubtful)} of {counted(len(results), 'fit')} {verb} not reliable. {listed}")
    return results


def reasons_against(result: Fitted | Failure) -> list[str]:
    """Return the reasons not to rely on a result."""
    return [str(result.status)] if isinstance(result, Failure) else reasons_for_distrust(result)


@list_fit_options()
def fit_each(
    families: Iterable[Runs],
    law: str | Law = "auto",
    *,
    seed: int,
    folder: str | Path | None = None,
    executor: Executor | None = None,
    progress: bool | None = None,
    **options: Unpack[FitOptions],
) -> Iterator[tuple[int, Posterior | Mixture | Failure]]:
    """Fit families like `fit_many`, but yield each posterior as soon as it is finished and keep none in memory.

    Args:
        families: See `fit_many`.
        law: See `fit`.
        seed: See `fit_many`.
        folder: See `fit_many`.
        executor: See `fit_many`.
        progress: See `fit_many`.
        **options: Options of the fit, see `fit`.

    Returns:
        Pairs of a family's index, from 0, and its posterior or failure, in the order in which they finish.

    Raises:
        InputError: If no family can be fitted.

    Example:
        >>> for number, result in bs.fit_each(families, seed=0):  # doctest: +SKIP
        ...     print(number, result.status)
    """
    return results_of(line_up(families, request_fit(law, seed, options), folder, executor), progress)


@dataclasses.dataclass(frozen=True)
class Queue:
    """Families to be fitted.

    Attributes:
        plans: What to fit, by the family's index.
        refused: Failures, by index, of families that the law cannot be fitted to or whose preparation raised an
            exception.
        request: How to fit the families.
        finished: Folder of finished posteriors, or None.
        executor: Where families are sampled; None means the cores of this process.
    """

    plans: dict[int, FitPlan]
    refused: dict[int, Failure]
    request: FitRequest
    finished: cache.Archive | None
    executor: Executor | None


def line_up(
    families: Iterable[Runs], request: FitRequest, folder: str | Path | None, executor: Executor | None
) -> Queue:
    """Check everything that can be checked before anything is compiled.

    Raises:
        InputError: For a family that is not a `Runs`, a law that cannot be sent to other processes, or if no family can
            be fitted.
    """
    families = several(families)
    plans: dict[int, FitPlan] = {}
    refused: dict[int, Failure] = {}
    # In a `jax.distributed` job, process i of n takes families i, i + n, i + 2n, ...
    for number in range(jax.process_index(), len(families), jax.process_count()):
        runs = checked(families[number])
        try:
            plans[number] = request.plan(runs)
        except InputError as error:
            refused[number] = Failure(runs, Status.REFUSED, error)
        except Exception as error:
            # A user's law may raise any exception, which must not stop other families.
            refused[number] = Failure(runs, Status.FAILED, error)
    if refused and not plans:
        raise next(iter(refused.values())).error
    if executor is not None:
        for plan in plans.values():
            packed(plan.jobs[0].law)
    archive = None if folder is None else cache.open_folder(folder)
    return Queue(plans, refused, request, archive, executor)


def results_of(queue: Queue, progress: bool | None) -> Iterator[tuple[int, Posterior | Mixture | Failure]]:
    """Yield failures known from the start, then stored fits, then new fits as they finish."""
    with progress_bar(len(queue.plans) + len(queue.refused), progress, wasted(queue)) as advance:
        for number, failure in queue.refused.items():
            advance(1)
            yield number, failure
        keys: dict[int, str] = {}
        if queue.finished:
            keys = {number: cache.key(plan, queue.request) for number, plan in queue.plans.items()}
        # Families that are identical in all respects share a file, so they are sampled once.
        alike: dict[int | str, list[int]] = {}
        for number, plan in queue.plans.items():
            stored = cache.read(queue.finished, keys[number], plan) if queue.finished else None
            if stored is None:
                alike.setdefault(keys.get(number, number), []).append(number)
            else:
                advance(1)
                yield number, stored
        groups = list(alike.values())
        streams = [cache.stream(keys[numbers[0]]) if queue.finished else numbers[0] for numbers in groups]
        plans = [queue.plans[numbers[0]] for numbers in groups]
        if queue.finished:
            named = zip(groups, plans, strict=True)
            cache.name_files(queue.finished, {keys[numbers[0]]: plan.runs.name for numbers, plan in named})
        for i, outcome in sampled(plans, streams, queue):
            if queue.finished and not isinstance(outcome, Exception):
                cache.write(queue.finished, keys[groups[i][0]], outcome)
            for number in groups[i]:
                advance(1)
                plan = queue.plans[number]
                if isinstance(outcome, Exception):
                    yield number, Failure(plan.runs, Status.FAILED, outcome)
                else:
                    parts = zip(outcome.components, plan.jobs, strict=True)
                    yield number, combine([dataclasses.replace(part, job=job) for part, job in parts], plan.weights)


def sampled(
    plans: Sequence[FitPlan], streams: Sequence[int], queue: Queue
) -> Iterator[tuple[int, Posterior | Mixture | Exception]]:
    """Sample the components of all plans as one list of tasks; yield the fit of each plan once it is complete.

    Args:
        plans: What to fit.
        streams: Number of the random stream of each plan.
        queue: How to fit, and where.

    Yields:
        The index of a plan, and its fit or the exception of one of its components.
    """
    request, pairs = queue.request, zip(plans, streams, strict=True)
    tasks = [task for plan, stream in pairs for task in plan.tasks(request.settings, stream)]
    owners = [(i, part) for i, plan in enumerate(plans) for part in range(len(plan.jobs))]

    def submit(executor: Executor, members: list[int]) -> Future[list[Posterior]]:
        own = [tasks[i] for i in members]
        if isinstance(executor, Here | Cores):
            return executor.submit(sample_flat, own, request.seed, request.method)
        packed = [(pack(task[0]), *task[1:]) for task in own]
        return executor.submit(sample_packed, packed, request.seed, request.method)

    batches = batch(tasks, task_size(queue))
    found: dict[int, dict[int, Posterior]] = {}
    failed: set[int] = set()
    for task, outcome in outcomes(queue.executor or own_executor(len(batches)), submit, batches):
        i, part = owners[task]
        if not isinstance(outcome, Posterior):
            if i not in failed:
                failed.add(i)
                yield i, outcome
            continue
        parts = found.setdefault(i, {})
        # Jobs are not sent back, and arrays that were sent no longer share memory.
        parts[part] = dataclasses.replace(outcome, job=tasks[task][0], values=compact(outcome.values))
        if len(parts) == len(plans[i].jobs):
            found.pop(i)
            yield i, combine([parts[number] for number in sorted(parts)], plans[i].weights)


def task_size(queue: Queue) -> Callable[[Task, int], int]:
    """Return the number of components in one task: one call of the compiled program, or a few for an executor."""
    return suited if queue.executor is None else lambda task, count: TASK


def wasted(queue: Queue) -> str:
    """Describe the fraction of padding in the work of a queue."""
    tasks = [task for plan in queue.plans.values() for task in plan.tasks(queue.request.settings, 0)]
    jobs = [job for job, _, _ in tasks]
    return f"sampling ({padding(jobs, batch(tasks, task_size(queue))):.0%} padding)"


def sample_packed(tasks: Sequence[Task], seed: int, method: str) -> list[Posterior]:
    """Sample packed tasks in a worker; the results contain no job."""
    nothing: Any = None
    posteriors = sample_flat([(unpack(task[0]), *task[1:]) for task in tasks], seed, method)
    return [dataclasses.replace(posterior, job=nothing) for posterior in posteriors]
