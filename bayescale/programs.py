"""Programs: where they run, in double precision, one after the other or all at once, and their random keys."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax import lax


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
    elsewhere = () if jax.default_backend() == "cpu" else cores()
    with jax.enable_x64(True), jax.default_device(elsewhere[0]) if elsewhere else contextlib.nullcontext():
        yield


def each(function: Callable[[Any], Any], inputs: Any, vectorized: bool) -> Any:
    """Apply a function along the leading axis: one after the other, or all at once."""
    return jax.vmap(function)(inputs) if vectorized else lax.map(function, inputs)


def key_of(words: Any) -> Any:
    """Key from its words, in a compiled program."""
    return jax.random.wrap_key_data(words, impl="threefry2x32")
