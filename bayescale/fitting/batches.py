"""Batches: which families share one call of a compiled program, and how much of that call is padding."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from threadpoolctl import threadpool_limits

from bayescale._jax import cores, make_room, on_cores
from bayescale.errors import InputError
from bayescale.inference.nuts import Nuts
from bayescale.model.parameters import coordinates
from bayescale.model.problem import Job

UNKNOWN_MEMORY = 2 << 30
"""Memory in bytes that is assumed for a device that does not report it."""
MEMORY_SHARE = 0.4
"""Fraction of a device's memory that one batch may fill; the estimate of its size is rough."""
LARGEST_SHARE = 2048
"""Largest number of families in one batch on one device, however small they are."""
FEWEST_IN_LOCKSTEP = 1024
"""Number of families of one shape from which on an accelerator samples them. Fewer are finished sooner on the CPU,
whose programs compile in a quarter of the time."""

LIGHTER = {"xla_backend_optimization_level": 2}
"""XLA options for curves of one input. LLVM's third optimisation level takes an eighth longer to compile them and
unrolls loops so far that a fit of 30 points takes a fifth longer. NUTS on grids of two inputs gains a twentieth from
that level; importance sampling is slower with it everywhere."""

DOORS: dict[Hashable, threading.Lock] = {}
COMPILED: set[Hashable] = set()
"""Programs that were called at least once; see `program_once`."""

ACCELERATOR = threading.Lock()
"""Lock held by the thread whose batch an accelerator samples, because two batches would not fit into its memory."""
HOLD = threading.Lock()
INSIDE: list[threadpool_limits | None] = []
"""For each thread inside `one_thread`, the limit that it set: the first sets it for all, the others set None."""


@dataclasses.dataclass(frozen=True)
class Machine:
    """Devices on which compiled programs run.

    Attributes:
        devices: Local devices, among which families are divided.
        vectorized: Whether the families of a device are sampled together, vectorised (accelerators), instead of one
            after the other (CPUs).
    """

    devices: tuple[Any, ...]
    vectorized: bool

    @property
    def mesh(self) -> jax.sharding.Mesh | None:
        """One axis of all devices, or None for a single one."""
        return None if len(self.devices) == 1 else jax.sharding.Mesh(np.array(self.devices), ("family",))

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Run programs of this thread in double precision, on an accelerator one at a time."""
        if self.vectorized:
            with ACCELERATOR, jax.enable_x64(True):
                yield
        else:
            with on_cores():
                yield

    def pieces[R](self, count: int, run: Callable[[list[int]], list[R]]) -> list[R]:
        """Run families, given by their numbers: all at once, or on CPUs in threads with one family for each device."""
        size = count if self.vectorized else len(self.devices)
        parts = [list(range(first, min(first + size, count))) for first in range(0, count, size)]
        if len(parts) == 1:
            return run(parts[0])
        with ThreadPoolExecutor() as threads:
            return [result for results in threads.map(run, parts) for result in results]

    def filled(self, count: int) -> int:
        """Return the size to which a batch of `count` families is padded: the same power of two on each device."""
        # This keeps the number of compiled sizes small.
        each = -(-count // len(self.devices))
        return len(self.devices) * (1 << (each - 1).bit_length())

    def members(self, count: int) -> list[int]:
        """Return the indices of the families in a batch of `count`, which is padded by repeating the last one."""
        return [*range(count), *[count - 1] * (self.filled(count) - count)]

    def lighter(self, job: Job) -> bool:
        """Return whether NUTS is compiled with the XLA options `LIGHTER`."""
        return not self.vectorized and job.problem.z.shape[1] == 1

    def largest(self, job: Job, settings: Nuts) -> int:
        """Return the largest number of families like `job` in one batch."""
        if not self.vectorized:
            return len(self.devices)
        limit = min(memory(device) for device in self.devices) * MEMORY_SHARE
        each = min(LARGEST_SHARE, max(1, int(limit / footprint(job, settings))))
        return len(self.devices) * (1 << (each.bit_length() - 1))


@functools.cache
def jitted(function: Callable[..., Any], static: tuple[str, ...], lighter: bool) -> Any:
    """Return the compiled program of a function; there is only one for each choice of XLA's options."""
    return jax.jit(function, static_argnames=static, compiler_options=LIGHTER if lighter else None)


def machine(families: int) -> Machine:
    """Return the devices that sample a batch; each process of a `jax.distributed` job has its own."""
    if jax.default_backend() != "cpu" and (families >= FEWEST_IN_LOCKSTEP or not cores()):
        return Machine(tuple(jax.local_devices()), True)
    return Machine(cores(), False)


def memory(device: Any) -> int:
    """Return the number of bytes that JAX may use on a device."""
    return int((device.memory_stats() or {}).get("bytes_limit", UNKNOWN_MEMORY))


def footprint(job: Job, settings: Nuts) -> int:
    """Estimate the number of bytes that one family occupies on a device while it is sampled in a vectorised batch.

    XLA's own estimate for CPUs is 0.7 to 1.1 times this, for 8 to 128 rows and both ways to evaluate the density.
    """
    rows = len(job.problem.y)
    size = len(coordinates(job.model, job.problem))
    steps = settings.warmup + settings.draws
    # Steps are stored as drawn; for draws, unconstrained parameters, constants, statistics and twice the row weights
    # are stored.
    kept = settings.chains * (steps * (size + 5) + 2 * settings.draws * (size + rows))
    # For dense families, levels are drawn for all draws at once, with two matrices each.
    matrices = 2 * settings.chains * settings.draws * rows**2 if job.problem.evaluation.factorises else 4 * rows**2
    return 8 * (2 * kept + matrices)


Task = tuple[Job, Nuts, int]
"""A job, its settings, and the number of its random stream."""


def batch(tasks: Sequence[Task], largest: Callable[[Task, int], int]) -> list[list[int]]:
    """Group the indices of tasks whose jobs have the same shape and whose settings are equal.

    Args:
        tasks: Any tasks.
        largest: Function from a task and the number of tasks like it to the largest size of a batch.

    Returns:
        Indices of the tasks of each batch; the first batches of all shapes precede the second ones.
    """
    groups: dict[Any, list[int]] = {}
    for number, (job, settings, _) in enumerate(tasks):
        groups.setdefault((shape(job), settings), []).append(number)
    pieces = [
        (first, members[first : first + size])
        for members in groups.values()
        for size in [largest(tasks[members[0]], len(members))]
        for first in range(0, len(members), size)
    ]
    # First batches come first, so that the programs of different shapes are compiled at the same time.
    return [members for _, members in sorted(pieces, key=lambda piece: piece[0])]


def shape(job: Job) -> Any:
    """Return the properties that jobs of one batch share: the program, its array shapes, and the model's numbers."""
    leaves, structure = jax.tree.flatten((job.model, job.problem))
    numbers = tuple(float(leaf) for leaf in jax.tree.leaves(job.model))
    return structure, tuple(leaf.shape for leaf in leaves), numbers


@contextlib.contextmanager
def compiled_once(job: Job, *counts: Hashable) -> Iterator[None]:
    """Admit one thread at a time to a program that was never called, so that it is compiled only once.

    Args:
        job: A job of the shape that the program is for.
        counts: Further values on which the program depends.
    """
    with program_once((*shape(job)[:2], *counts)):
        yield


@contextlib.contextmanager
def program_once(program: Hashable) -> Iterator[None]:
    """Admit one thread at a time to a program that was never called.

    Args:
        program: Value that identifies the program.
    """
    if program not in COMPILED:
        with DOORS.setdefault(program, threading.Lock()):
            if program not in COMPILED:
                if make_room():
                    COMPILED.clear()
                with uncollected():
                    yield
                COMPILED.add(program)
                return
    yield


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Pause the garbage collector, so that tracing a program takes a quarter of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Limit linear-algebra libraries to one thread while any thread of this process is in this context.

    With 128 rows or more these libraries divide each factorisation among threads. A sampler does many small
    factorisations: on two idle cores that takes four times as long as one thread, on busy cores a hundred times.
    """
    with HOLD:
        INSIDE.append(None if INSIDE else threadpool_limits(limits=1, user_api="blas"))
    try:
        yield
    finally:
        with HOLD:
            # The thread that leaves last restores the limits that the first one found.
            limits = INSIDE.pop()
            if limits is not None:
                limits.restore_original_limits()


def stacked(items: Sequence[Any], members: Sequence[int]) -> Any:
    """Stack the pytrees with these indices, which have equal shapes, along a new leading axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *[items[i] for i in members])


def suited(task: Task, count: int) -> int:
    """Return the largest batch for a single call of the compiled program on this machine; for `batch`."""
    job, settings, _ = task
    return machine(count).largest(job, settings)


def padding(
    jobs: Sequence[Job], batches: Sequence[Sequence[int]], devices: Callable[[int], Machine] = machine
) -> float:
    """Return the fraction of evaluated rows that are padding, in rows of families and in batches."""
    real = sum(float(job.problem.mask.sum()) for job in jobs)
    evaluated = sum(devices(len(members)).filled(len(members)) * len(jobs[members[0]].problem.y) for members in batches)
    return 1.0 - real / evaluated if evaluated else 0.0


def stream_key(seed: int, attempt: int, stream: int) -> np.ndarray:
    """Return the raw key of a random stream, shape (2,), hashed by NumPy so that no program is compiled.

    Raises:
        InputError: For an invalid seed.
    """
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"seed must be a whole number of zero or more; found {seed!r}.")
    return np.random.SeedSequence(seed, spawn_key=(attempt, stream)).generate_state(2)
