"""Programs: where they run, in double precision, one after the other or all at once, and random keys."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from jax import lax


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
