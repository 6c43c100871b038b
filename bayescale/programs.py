"""Precision: double, for the programs of one thread and nothing else, and where they run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax


def cores() -> tuple[Any, ...]:
    """JAX's devices on the CPU: one, unless more are simulated, and none where JAX_PLATFORMS leaves "cpu" out."""
    try:
        return tuple(jax.local_devices(backend="cpu"))
    except RuntimeError:
        return ()


@contextlib.contextmanager
def on_cores() -> Iterator[None]:
    """Let programs of this thread run in double precision on the CPU.

    Most programs here are small. Beside an accelerator JAX would choose that for them, which takes longer to compile
    and to begin than the CPU needs to finish.
    """
    elsewhere = jax.default_backend() != "cpu" and cores()
    with jax.enable_x64(True), jax.default_device(cores()[0]) if elsewhere else contextlib.nullcontext():
        yield
