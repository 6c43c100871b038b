"""Running JAX programs: devices, double precision, serial or vectorised loops, and random keys."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from jax import lax


def cores() -> tuple[Any, ...]:
    """Return JAX's CPU devices: one unless more are simulated, none if JAX_PLATFORMS excludes "cpu"."""
    try:
        return tuple(jax.local_devices(backend="cpu"))
    except RuntimeError:
        return ()


@contextlib.contextmanager
def on_cores() -> Iterator[None]:
    """Run JAX programs of this thread in double precision on the CPU.

    Most programs of this package are small. With an accelerator, JAX would run them there by default, which takes
    longer to compile and start than the CPU needs for the whole computation.
    """
    elsewhere = () if jax.default_backend() == "cpu" else cores()
    with jax.enable_x64(True), jax.default_device(elsewhere[0]) if elsewhere else contextlib.nullcontext():
        yield


def make_room(share: float = 0.6) -> bool:
    """Drop all compiled programs if this process holds too many memory mappings; return whether they were dropped.

    A compiled program holds hundreds of mappings. A process that reaches Linux's limit (65,530 unless vm.max_map_count
    is changed) crashes when it compiles the next one. On other systems nothing is dropped.

    Args:
        share: Fraction of the allowed mappings above which programs are dropped.
    """
    try:
        allowed = int(Path("/proc/sys/vm/max_map_count").read_text())
        with open("/proc/self/maps") as mappings:
            mapped = sum(1 for _ in mappings)
    except (OSError, ValueError):
        return False
    if mapped < share * allowed:
        return False
    jax.clear_caches()
    return True


def each(function: Callable[[Any], Any], inputs: Any, vectorized: bool) -> Any:
    """Apply a function to each element along the leading axis: in a loop, or vectorised."""
    return jax.vmap(function)(inputs) if vectorized else lax.map(function, inputs)


def key_of(words: Any) -> Any:
    """Return the JAX key that raw key data (uint32) stand for, in a compiled program."""
    return jax.random.wrap_key_data(words, impl="threefry2x32")
