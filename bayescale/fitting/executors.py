"""Workers: batches of families on any executor, tried again where a worker dies, and what travels to them."""

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
from bayescale.laws import BUILT_IN
from bayescale.laws.registry import LAWS
from bayescale.model.problem import Job

RETRIES = 2
"""How often a family is sent again after its worker died or raised."""
WINDOW = 64
"""Tasks that are with an executor at a time; results wait nowhere else, so memory does not grow with the families."""
TASK = 8
"""Families of one task, so that little is lost with a worker and little time with sending."""


class Here(Executor):
    """The thread that asks: work is done when it is submitted."""

    cores = 1

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call the function and return a future that is done."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Cores(ThreadPoolExecutor):
    """The cores of this process, a thread each; compiled programs run without Python's lock."""

    def __init__(self, cores: int) -> None:
        """Start no thread yet."""
        super().__init__(cores, thread_name_prefix="bayescale")
        self.cores = cores


def own_executor(tasks: int) -> Here | Cores:
    """Executor for so many tasks in this process: threads, unless each task takes several devices of the CPU."""
    cores = min(tasks, usable_cores())
    return Here() if len(machine(1).devices) > 1 or cores < 2 else Cores(cores)


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def outcomes[R](
    executor: Executor,
    submit: Callable[[Executor, list[int]], Future[list[R]]],
    batches: Iterable[list[int]],
) -> Iterator[tuple[int, R | Exception]]:
    """Yield the result, or the last error, of each member of some batches as it comes.

    Args:
        executor: Where to work. When it breaks, as process pools do with the death of a worker, this process goes on.
        submit: Hands the members of one batch to an executor; results come back in their order.
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
                        # One by one: whichever family it was, it takes no other down.
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
class Named:
    """The curve of a law that comes with the package, by the law's name."""

    law: str


@dataclasses.dataclass(frozen=True)
class Pickled:
    """A curve as bytes of cloudpickle."""

    content: bytes


@functools.cache
def packed_curve(curve: Callable[..., Any]) -> Named | Pickled:
    """Curve in a form that crosses processes.

    Raises:
        InputError: For a function that cannot be sent.
    """
    name = next((name for name in BUILT_IN if LAWS[name].curve is curve), None)
    if name is not None:
        return Named(name)
    try:
        import cloudpickle

        return Pickled(cloudpickle.dumps(curve))
    except ImportError:
        reason = "cloudpickle is not installed (pip install cloudpickle)"
    except (pickle.PicklingError, TypeError, ValueError) as error:
        reason = str(error)
    raise InputError(f"The law's function {curve.__name__!r} cannot be sent to other processes: {reason}.")


@functools.cache
def unpacked_curve(packed: Named | Pickled) -> Callable[..., Any]:
    """Curve of a packed one; one object for equal bytes, so that a worker compiles it once."""
    return LAWS[packed.law].curve if isinstance(packed, Named) else pickle.loads(packed.content)


def with_curve(job: Job, curve: Any) -> Job:
    """Replace the curve that is sampled."""
    model = job.model
    return dataclasses.replace(job, model=dataclasses.replace(model, law=dataclasses.replace(model.law, curve=curve)))


def pack(job: Job) -> Job:
    """Leave of a job what sampling needs, in a form that pickles: arrays, prior numbers, and the curve by its name."""
    nothing: Any = None
    bare = dataclasses.replace(job, runs=nothing, law=nothing, discrepancy=None, likelihood=nothing)
    return with_curve(bare, packed_curve(job.model.law.curve))


def unpack(job: Job) -> Job:
    """Undo what `pack` did to the curve."""
    packed: Any = job.model.law.curve
    return with_curve(job, unpacked_curve(packed))
