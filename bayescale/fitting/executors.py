"""Executors: run batches of families on any executor, repeat those whose worker dies, and serialise what is sent."""

from __future__ import annotations

import dataclasses
import functools
import os
import pickle
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ThreadPoolExecutor, wait
from typing import Any

from bayescale.errors import InputError
from bayescale.fitting.batches import machine
from bayescale.laws import BUILT_IN, bind
from bayescale.laws.law import Law
from bayescale.laws.priors import Prior
from bayescale.laws.registry import LAWS
from bayescale.model.prepare import engine_law
from bayescale.model.problem import Job

RETRIES = 2
"""How often a family is sent again after its worker died or raised an exception."""
WINDOW = 64
"""Number of tasks submitted at a time, so that memory for results does not grow with the number of families."""
TASK = 8
"""Families in one task: few, so that a dead worker loses little, but enough that sending takes little time."""


class Here(Executor):
    """An executor without threads or processes: a task is done when it is submitted."""

    cores = 1

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call the function and return a finished future."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Cores(ThreadPoolExecutor):
    """An executor with a thread for each core of this process; compiled programs run without Python's lock."""

    def __init__(self, cores: int) -> None:
        """Make an executor for `cores` threads; none is started yet."""
        super().__init__(cores, thread_name_prefix="bayescale")
        self.cores = cores


def own_executor(tasks: int) -> Here | Cores:
    """Return an executor for `tasks` tasks in this process: threads, unless each task uses several devices."""
    cores = min(tasks, usable_cores())
    return Here() if len(machine(1).devices) > 1 or cores < 2 else Cores(cores)


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def outcomes[R](
    executor: Executor,
    submit: Callable[[Executor, list[int]], Future[list[R]]],
    batches: Iterable[list[int]],
) -> Iterator[tuple[int, R | Exception]]:
    """Yield the result, or the last exception, of each member of some batches as soon as it is available.

    Args:
        executor: Where to work. If it breaks, as process pools do when a worker dies, this process does the remaining
            work.
        submit: Function that submits the members of one batch to an executor; results have the same order.
        batches: Members of each batch.
    """
    waiting = deque((members, 0) for members in batches)
    flying: dict[Future[list[R]], tuple[list[int], int]] = {}
    try:
        while waiting or flying:
            here = isinstance(executor, Here | Cores)
            window = executor.cores if isinstance(executor, Here | Cores) else WINDOW
            lost: list[tuple[list[int], int]] = []
            while waiting and not lost and len(flying) < window:
                members, attempts = waiting.popleft()
                try:
                    flying[submit(executor, members)] = members, attempts
                except BrokenExecutor:
                    lost.append((members, attempts))
            done = wait(flying, return_when=FIRST_COMPLETED).done if flying else ()
            for future in done:
                members, attempts = flying.pop(future)
                try:
                    yield from zip(members, future.result(), strict=True)
                except BrokenExecutor:
                    lost.append((members, attempts))
                except Exception as error:
                    final = isinstance(error, InputError) or attempts >= (0 if here else RETRIES)
                    if len(members) > 1:
                        # Members of a failed batch are sent singly, so that a bad family fails alone.
                        waiting.extend(([member], attempts + (not here)) for member in members)
                    elif final:
                        yield members[0], error
                    else:
                        waiting.append((members, attempts + 1))
            if lost:
                lost.extend(flying.values())
                flying.clear()
                waiting.extendleft(reversed(lost))
                executor = Here()
                warnings.warn(
                    "The executor broke (a worker of a process pool died); the families that are left are sampled in "
                    "this process. A Dask cluster replaces its workers.",
                    RuntimeWarning,
                    stacklevel=2,
                )
    finally:
        for future in flying:
            future.cancel()


# --- What travels ------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class BuiltIn:
    """A built-in law, which a worker rebuilds from its name, inputs and priors."""

    name: str
    inputs: tuple[str, ...]
    priors: dict[str, Prior]

    def unpacked(self) -> Law:
        """Return the law."""
        return bind(LAWS[self.name], self.inputs).with_priors(self.priors)


@dataclasses.dataclass(frozen=True)
class Pickled:
    """Any other law as bytes of cloudpickle."""

    function: bytes
    rest: bytes

    def unpacked(self) -> Law:
        """Return the law; equal bytes give the same function, so that a worker compiles it once."""
        return dataclasses.replace(unpickled(self.rest), function=unpickled(self.function))


@functools.cache
def unpickled(content: bytes) -> Any:
    """Return the object that some bytes stand for, the same one for equal bytes."""
    return pickle.loads(content)


@functools.cache
def pickled(function: Callable[..., Any]) -> bytes:
    """Return a function as bytes.

    Raises:
        InputError: For a function that cannot be pickled.
    """
    try:
        import cloudpickle

        return cloudpickle.dumps(function)
    except ImportError:
        reason = "cloudpickle is not installed (pip install cloudpickle)"
    except (pickle.PicklingError, TypeError, ValueError) as error:
        reason = str(error)
    raise InputError(f"The law's function {function.__name__!r} cannot be sent to other processes: {reason}.")


def packed(law: Law) -> BuiltIn | Pickled:
    """Return a law in a form that can be sent to other processes; functions of built-in laws need not be picklable.

    Raises:
        InputError: For a function that cannot be pickled.
    """
    if law.name in BUILT_IN:
        found = BuiltIn(law.name, law.inputs, dict(law.priors))
        if found.unpacked() == law:
            return found
    function = pickled(law.function)
    import cloudpickle

    nothing: Any = None
    return Pickled(function, cloudpickle.dumps(dataclasses.replace(law, function=nothing)))


def pack(job: Job) -> Job:
    """Return the part of a job that sampling needs, in a form that can be pickled: arrays, numbers and the law."""
    nothing: Any = None
    law: Any = packed(job.law)
    return dataclasses.replace(job, runs=nothing, law=law, model=dataclasses.replace(job.model, law=nothing))


def unpack(job: Job) -> Job:
    """Rebuild the law of a job that `pack` returned."""
    sent: Any = job.law
    law = sent.unpacked()
    model = dataclasses.replace(job.model, law=engine_law(law, job.problem.active, job.reference))
    return dataclasses.replace(job, law=law, model=model)
