"""NUTS: one chain as a pure function, based on NumPyro's functional kernel, started around the mode.

This module knows nothing about laws: it takes a potential (negative log density) of a vector and returns draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.scipy.linalg import solve_triangular
from numpyro.infer.hmc import hmc
from numpyro.infer.util import ParamInfo

from bayescale import checked
from bayescale._jax import key_of
from bayescale._record import Array, record, static
from bayescale.checked import known_keywords
from bayescale.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float

Potential = Callable[[Any], Any]
DIFFERENCE = 1e-4
"""Step of the finite differences for the Hessian at the mode; parameters have about unit scale."""


@known_keywords
@record
class Nuts:
    """Settings of NUTS. Numbers of steps, draws and chains are compiled into the program; other settings are data.

    Attributes:
        warmup: Number of warm-up steps, which are discarded.
        draws: Number of draws kept from each chain.
        chains: Number of independent chains; in a mixture they are divided among the components by weight, rounded up.
        depth: Largest tree depth; 8 allows 255 leapfrog steps a draw.
        mode_steps: Number of L-BFGS steps towards the mode.
        target_accept: Acceptance probability to which the step size is tuned.
        least_ess: Bulk and tail effective sample size that every parameter must reach for status OK; a component of a
            mixture must reach its weight times this.
    """

    warmup: int = static(default=200)
    draws: int = static(default=500)
    chains: int = static(default=4)
    depth: int = static(default=8)
    mode_steps: int = static(default=150)
    target_accept: float = 0.97
    least_ess: float = 400.0


MOST = 1_000_000
"""Largest number of steps of a chain; larger ones are refused as errors."""


def check_settings(settings: Any) -> Nuts:
    """Return checked settings of the sampler; the defaults for None.

    Raises:
        InputError: For another class, or with the first invalid number.
    """
    if settings is None:
        return Nuts()
    if not isinstance(settings, Nuts):
        raise InputError(
            f"settings must be bs.Nuts(warmup=..., draws=..., chains=...) or None; found {checked.shortened(settings)}."
        )
    checked.options(
        warmup=(settings.warmup, checked.whole(1, MOST)),
        draws=(settings.draws, checked.whole(1, MOST)),
        chains=(settings.chains, checked.whole(1, 1024)),
        depth=(settings.depth, checked.whole(1, 15)),
        mode_steps=(settings.mode_steps, checked.whole(0, MOST)),
        target_accept=(settings.target_accept, checked.PROBABILITY),
        least_ess=(settings.least_ess, checked.AT_LEAST_ZERO),
    )
    return settings


class Start(NamedTuple):
    """Starting points of chains."""

    mode: Float[Any, "d"]
    """Position of the mode, shape (d,)."""
    covariance: Float[Any, "d d"]
    """Inverse Hessian at the mode, shape (d, d)."""
    value: Float[Any, ""]
    """The potential at the mode."""
    slope: Float[Any, "d"]
    """Gradient of the potential at the mode, shape (d,)."""


class ChainState(NamedTuple):
    """State of a chain between two trajectories, including its tuning: everything needed to continue it."""

    begun: Any
    """Whether the chain has run before; it is then tuned and has no warm-up."""
    key: Any
    """Raw data of its random key."""
    step_size: Float[Any, ""]
    inverse_mass: Float[Any, "d d"]
    """Inverse mass matrix, shape (d, d); the next field is the Cholesky factor of the mass matrix."""
    mass_factor: Float[Any, "d d"]
    position: Float[Any, "d"]
    """Position in coordinates of unit scale, shape (d,); the next fields are the potential and its gradient there."""
    value: Float[Any, ""]
    slope: Float[Any, "d"]


class Chain(NamedTuple):
    """Draws of one chain with their statistics, leading axis draw."""

    position: Float[Any, "draw d"]
    diverging: Any
    accept: Float[Any, "draw"]
    steps: Any
    energy: Float[Any, "draw"]
    step_size: Any


def find_mode(potential: Potential, start: Float[Array, "d"], steps: int) -> tuple[Float[Any, "d"], Float[Any, ""]]:
    """Find the mode with L-BFGS; return the mode, shape (d,), and the potential there.

    Args:
        potential: Negative log density of a vector.
        start: Starting point, shape (d,).
        steps: Number of L-BFGS steps.
    """
    optimizer = optax.lbfgs(memory_size=8, linesearch=optax.scale_by_backtracking_linesearch(12, store_grad=True))

    # The line search returns value and gradient at its end. The first one is along a gradient of zero, so it ends at
    # the start, and the program needs no other copy of the potential.
    def step(carry: tuple[Any, ...], _: None) -> tuple[tuple[Any, ...], Any]:
        point, state, value, slope = carry
        update, state = optimizer.update(slope, state, point, value=value, grad=slope, value_fn=potential)
        found = (
            optax.apply_updates(point, update),
            *(optax.tree_utils.tree_get(state, key) for key in ("value", "grad")),
        )
        usable = jnp.isfinite(found[1]) & jnp.isfinite(found[2]).all()
        point, value, slope = (
            jnp.where(usable, new, old) for new, old in zip(found, (point, value, slope), strict=True)
        )
        return (point, state, value, slope), value

    begin = (start, optimizer.init(start), jnp.array(jnp.inf, start.dtype), jnp.zeros_like(start))
    (mode, _, value, _), values = lax.scan(step, begin, None, length=steps)
    better = jnp.isfinite(mode).all() & (value <= values[0])
    return jnp.where(better, mode, start), jnp.where(better, value, values[0])


def normal_at(potential: Potential, mode: Float[Array, "d"]) -> Start:
    """Return a normal approximation at the mode, from the curvature there."""
    return normal_around(potential, mode, jnp.zeros((0, len(mode)), mode.dtype))[0]


class Around(NamedTuple):
    """Points around a mode, shape (point, d), with the potential, shape (point,), and its gradient there."""

    position: Float[Any, "point d"]
    value: Float[Any, "point"]
    slope: Float[Any, "point d"]


def normal_around(
    potential: Potential, mode: Float[Array, "d"], apart: Float[Array, "point d"]
) -> tuple[Start, Around]:
    """Return a normal approximation at the mode, and the potential at points around it.

    Args:
        potential: Negative log density of a vector.
        mode: Position of the mode, shape (d,).
        apart: Differences of the points from the mode, shape (point, d).
    """
    # Differences of the gradient need one copy of it in the program; automatic second derivatives need several.
    size, steps = len(mode), DIFFERENCE * jnp.eye(len(mode), dtype=mode.dtype)
    points = mode + jnp.concatenate([steps, -steps, jnp.zeros_like(mode)[None], apart])
    values, slopes = lax.map(jax.value_and_grad(potential), points)
    hessian = (slopes[:size] - slopes[size : 2 * size]) / (2.0 * DIFFERENCE)
    start = Start(mode, safe_inverse(0.5 * (hessian + hessian.T)), values[2 * size], slopes[2 * size])
    return start, Around(*(leaf[2 * size + 1 :] for leaf in (points, values, slopes)))


def safe_inverse(hessian: Float[Array, "d d"]) -> Float[Any, "d d"]:
    """Invert a Hessian.

    Directions without positive curvature get unit variance, as parameters have about unit scale.
    """
    values, vectors = jnp.linalg.eigh(jnp.where(jnp.isfinite(hessian), hessian, 0.0))
    values = jnp.clip(jnp.where(values > 0, values, 1.0), 0.1, 1e8)
    return (vectors / values) @ vectors.T


def begin_chain(key: Array, start: Start, at: Around | None = None) -> ChainState:
    """Return the initial state of a chain: at the given point, or at the mode, which is the origin of its coordinates.

    Args:
        key: Random key of the chain.
        start: Mode and covariance.
        at: The point, with the potential and its gradient there; where these are not finite the mode is used instead.
    """
    factor = jnp.linalg.cholesky(start.covariance)
    identity = jnp.eye(len(start.mode), dtype=start.mode.dtype)
    mode = Around(start.mode, start.value, start.slope)
    if at is not None:
        usable = jnp.isfinite(at.value) & jnp.isfinite(at.slope).all()
        mode = jax.tree.map(lambda new, old: jnp.where(usable, new, old), at, mode)
    position = solve_triangular(factor, mode.position - start.mode, lower=True)
    size = jnp.asarray(1.0 / len(position) ** 0.25, position.dtype)
    words = jax.random.key_data(key)
    return ChainState(jnp.array(False), words, size, identity, identity, position, mode.value, factor.T @ mode.slope)


def run_chain(potential: Potential, start: Start, settings: Nuts, at: ChainState) -> tuple[Chain, ChainState]:
    """Sample one chain, warm-up and draws in a single loop.

    Args:
        potential: Negative log density of a vector.
        start: Mode and covariance, which define the chain's coordinates.
        settings: Warm-up steps, draws and target acceptance.
        at: Initial state, or the final state of an earlier call, to continue it with the same tuning.

    Returns:
        The draws, and the final state of the chain.
    """
    factor = jnp.linalg.cholesky(start.covariance)

    # NumPyro shrinks the mass matrix towards a thousandth of the identity, so coordinates must have unit scale.
    def to_position(unit: Any) -> Any:
        return start.mode + factor @ unit

    def unit_potential(unit: Any) -> Any:
        return potential(to_position(unit))

    init_kernel, sample_kernel = hmc(unit_potential, algo="NUTS")
    state = init_kernel(
        ParamInfo(at.position, at.value, at.slope),
        num_warmup=settings.warmup,
        step_size=at.step_size,
        dense_mass=True,
        target_accept_prob=settings.target_accept,
        trajectory_length=2 * math.pi,
        max_tree_depth=settings.depth,
        rng_key=key_of(at.key),
    )
    # A continued chain keeps its matrices and keys and has no warm-up.
    first = jnp.where(at.begun, settings.warmup, 0)
    own = jnp.where(at.begun, at.key, jax.random.key_data(state.rng_key))
    matrices = {"inverse_mass_matrix": at.inverse_mass, "mass_matrix_sqrt": at.mass_factor}
    state = state._replace(i=state.i + first, adapt_state=state.adapt_state._replace(**matrices), rng_key=key_of(own))

    def drawn(state: Any) -> Chain:
        return Chain(
            position=to_position(state.z),
            diverging=state.diverging,
            accept=state.accept_prob,
            steps=state.num_steps,
            energy=state.energy,
            step_size=state.adapt_state.step_size,
        )

    def step(number: Any, carry: tuple[Any, Chain]) -> tuple[Any, Chain]:
        state, chain = carry
        state = sample_kernel(state)
        # Draws of the warm-up are written beyond the last element, where they are dropped.
        slot = jnp.where(number < settings.warmup, settings.draws, number - settings.warmup)
        return state, jax.tree.map(lambda kept, new: kept.at[slot].set(new, mode="drop"), chain, drawn(state))

    room = jax.tree.map(lambda leaf: jnp.zeros((settings.draws, *leaf.shape), leaf.dtype), drawn(state))
    state, chain = lax.fori_loop(first, settings.warmup + settings.draws, step, (state, room))
    tuned = state.adapt_state
    stopped = ChainState(
        begun=jnp.array(True),
        key=jax.random.key_data(state.rng_key),
        step_size=tuned.step_size,
        inverse_mass=tuned.inverse_mass_matrix,
        mass_factor=tuned.mass_matrix_sqrt,
        position=state.z,
        value=state.potential_energy,
        slope=state.z_grad,
    )
    return chain, stopped
