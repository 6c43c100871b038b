"""Programs: where they run, in double precision, one after the other or all at once, their sizes and random keys."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import lax

SMALLEST_BUCKET = 8
"""Fewest rows that a program is compiled for."""


def cores() -> tuple[Any, ...]:
    """Return JAX's devices on the CPU: one unless more are simulated, none where JAX_PLATFORMS leaves "cpu" out."""
    try:
        return tuple(jax.local_devices(backend="cpu"))
    except RuntimeError:
        return ()


@contextlib.contextmanager
def on_cores() -> Iterator[None]:
    """Run programs of this thread in double precision on the CPU.

    Most programs here are small. Beside an accelerator JAX would choose that for them, which takes longer to compile
    and to begin than the CPU needs to finish.
    """
    elsewhere = () if jax.default_backend() == "cpu" else cores()
    with jax.enable_x64(True), jax.default_device(elsewhere[0]) if elsewhere else contextlib.nullcontext():
        yield


def make_room(share: float = 0.6) -> bool:
    """Drop all compiled programs if this process holds too many memory mappings; return whether it did.

    A compiled program holds hundreds of them, and where a process reaches the most that Linux allows (65,530 unless
    vm.max_map_count says otherwise), compiling the next one crashes it. Elsewhere nothing is dropped.

    Args:
        share: Share of the allowed mappings from which on programs are dropped.
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
    """Apply a function along the leading axis: one after the other, or all at once."""
    return jax.vmap(function)(inputs) if vectorized else lax.map(function, inputs)


def key_of(words: Any) -> Any:
    """Return a key from its words, in a compiled program."""
    return jax.random.wrap_key_data(words, impl="threefry2x32")


def bucket(rows: int) -> int:
    """Round a number of rows up to the size that its program is compiled for.

    Powers of two where rows cost next to nothing, then also their 3/4, then steps of a sixteenth: the longer a curve,
    the more its padding costs against a program of its own.
    """
    power = max(SMALLEST_BUCKET, 1 << (rows - 1).bit_length())
    if power <= 32:
        return power
    part = power // 4 if power <= 512 else power // 16
    return -(-rows // part) * part


def padded(values: Any, size: int, fill: float = 0.0) -> np.ndarray:
    """Pad the first axis with `fill` up to `size`."""
    values = np.asarray(values, float)
    width = [(0, size - len(values))] + [(0, 0)] * (values.ndim - 1)
    return np.pad(values, width, constant_values=fill)


def padded_square(values: Any, size: int) -> np.ndarray:
    """Pad a square matrix with zeros up to `size`."""
    extra = size - len(values)
    return np.pad(np.asarray(values, float), ((0, extra), (0, extra)))
