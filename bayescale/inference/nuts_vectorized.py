"""Vectorised NUTS for many chains on an accelerator, where every step is one leapfrog step of every chain.

An accelerator runs all chains through one program. With nested loops, chains wait for each other at the end of each
trajectory, so in every draw all of them take as many steps as the longest of thousands of trajectories, many times what
they need. Here each chain is at its own place in its own tree. A step adds one leaf to its subtree; if that completes
the subtree or the trajectory, the chain immediately starts the next one. Chains wait for each other only where mass
matrices are estimated, at the end of two or three windows of the warm-up.

The algorithm is NumPyro's: multinomial NUTS with the generalised turning criterion (betancourt2017conceptual, appendix
A) and Stan's windows. It uses the same random numbers, so chains draw what `nuts.run_chain` draws, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from numpyro.infer.hmc_util import build_adaptation_schedule, dual_averaging, welford_covariance

from bayescale._jax import key_of
from bayescale._record import Array
from bayescale.inference.nuts import Chain, ChainState, Nuts, Start

AT_ONCE = 16
"""Number of steps between checks whether all chains are finished."""
LARGEST_ERROR = 1000.0
"""Error of the energy that counts as a divergence, as in NumPyro."""

begin_averaging, average = dual_averaging()
begin_moments, add_moment, covariance_of = welford_covariance(diagonal=False)


class Progress(NamedTuple):
    """A chain between two trajectories, with the state of its warm-up.

    Attributes:
        drawn: Number of finished trajectories, including those of the warm-up.
        at: State of the chain.
        averaging: State of the dual averaging of step sizes.
        moments: State of the estimate of the covariance.
    """

    drawn: Any
    at: ChainState
    averaging: Any
    moments: Any


class Leaf(NamedTuple):
    """A position with its momentum and the potential's gradient, each of shape (d,)."""

    position: Any
    momentum: Any
    slope: Any


class Tree(NamedTuple):
    """A trajectory or a part of one: the position that it proposes, and sums over its leaves."""

    position: Any
    value: Any
    slope: Any
    energy: Any
    log_weight: Any
    momentum: Any
    accepted: Any
    leaves: Any


class Building(NamedTuple):
    """A chain within a trajectory.

    Attributes:
        rest: The chain at the start of the trajectory.
        next_key: Raw data of the chain's key after the trajectory.
        energy: Energy at the start of the trajectory.
        whole: The trajectory up to its last completed subtree.
        left: First leaf of the trajectory.
        right: Last leaf of the trajectory.
        depth: Number of completed doublings.
        key: Raw data of the key for further doublings.
        part: The subtree that is being built.
        edge: Outer leaf of that subtree.
        forward: Whether the subtree grows to the right.
        part_key: Raw data of the subtree's key.
        merge_key: Raw data of the key that decides whether the subtree's proposal is accepted.
        momenta: Momenta at the starts of unfinished subtrees within the subtree, shape (depth, d).
        sums: Sums of momenta up to these starts, shape (depth, d).
    """

    rest: Progress
    next_key: Any
    energy: Any
    whole: Tree
    left: Leaf
    right: Leaf
    depth: Any
    key: Any
    part: Tree
    edge: Leaf
    forward: Any
    part_key: Any
    merge_key: Any
    momenta: Any
    sums: Any


def run_chains(
    potential: Callable[[Any, Any], Any], families: Any, starts: Start, settings: Nuts, states: ChainState
) -> tuple[Chain, ChainState]:
    """Sample all chains of many families.

    Args:
        potential: Negative log density of a vector for one of the families.
        families: Arguments of the potential for each family, leading axis family.
        starts: Mode and covariance, which define the coordinates of chains, leading axis family.
        settings: Warm-up steps, draws and target acceptance.
        states: Initial states, or the final states of an earlier call, leading axes (family, chain).

    Returns:
        The draws, leading axes (family, chain, draw), and the final states of the chains.
    """
    dimension = starts.mode.shape[-1]
    factors = jnp.linalg.cholesky(starts.covariance)
    warmup = settings.warmup

    def unit_potential(unit: Any, family: Any) -> Any:
        mode, factor, rest = family
        return potential(mode + factor @ unit, rest)

    def everywhere(function: Callable[..., Any]) -> Callable[..., Any]:
        """Apply a function to each chain."""
        return jax.vmap(jax.vmap(function))

    chains = everywhere(lambda at: begin(at, warmup))(states)
    members = (starts.mode, factors, families)
    # Covariances are estimated from the first of these trajectories on, and the estimate is used at each of the others.
    windows = [window.end + 1 for window in build_adaptation_schedule(warmup)[:-1]]
    total = warmup + settings.draws
    room = jnp.zeros((*states.value.shape, settings.draws, dimension + 5))

    def stage(state: tuple[Progress, Any], stop: tuple[Any, Any]) -> tuple[tuple[Progress, Any], None]:
        last, estimates = stop
        chains, room = state
        building = everywhere(lambda chain: branch(set_out(chain, settings.depth)))(chains)

        def step(building: Building, family: Any) -> tuple[Building, Any, Any]:
            return take_step(building, lambda unit: unit_potential(unit, family), last, settings, warmup, windows)

        def one(_: Any, state: tuple[Building, Any]) -> tuple[Building, Any]:
            building, room = state
            building, slots, rows = jax.vmap(jax.vmap(step, in_axes=(0, None)))(building, members)
            keep = everywhere(lambda draws, slot, row: draws.at[slot].set(row, mode="drop"))
            return building, keep(room, slots, rows)

        building, room = lax.while_loop(
            lambda state: (state[0].rest.drawn < last).any(),
            lambda state: lax.fori_loop(0, AT_ONCE, one, state),
            (building, room),
        )
        # Continued chains have passed this window before.
        return (everywhere(lambda chain: end_draw(chain, estimates & (chain.drawn == last)))(building.rest), room), None

    meetings = windows[1:]
    stops = (jnp.array([*meetings, total]), jnp.array([*[True] * len(meetings), False]))
    (chains, room), _ = lax.scan(stage, (chains, room), stops)
    position = starts.mode[:, None, None] + jnp.einsum("fij,fcnj->fcni", factors, room[..., :dimension])
    accept, steps, energy, diverging, step_size = jnp.moveaxis(room[..., dimension:], -1, 0)
    return Chain(position, diverging > 0, accept, steps.astype(int), energy, step_size), chains.at._replace(
        begun=jnp.ones_like(states.begun)
    )


# --- One chain -----------------------------------------------------------------------------------------------


def begin(at: ChainState, warmup: int) -> Progress:
    """Return a chain that starts or continues in the given state."""
    # The second and third key adapt and change NumPyro's first trajectory; they are not needed here.
    words = jnp.where(at.begun, at.key, split(at.key, 3)[0])
    return rest_at(at._replace(key=words))._replace(drawn=jnp.where(at.begun, warmup, 0))


def rest_at(at: ChainState) -> Progress:
    """Return a chain in the given state, with an empty warm-up state."""
    return Progress(jnp.array(0), at, begin_averaging(jnp.log(10.0 * at.step_size)), begin_moments(len(at.position)))


def end_draw(chain: Progress, estimates: Any) -> Progress:
    """Take the covariance of a window's draws as inverse mass matrix, if a window has ended."""
    inverse, factor, _ = covariance_of(chain.moments, regularize=True)
    new = rest_at(chain.at._replace(inverse_mass=inverse, mass_factor=factor))
    return pick(estimates, new._replace(drawn=chain.drawn), chain)


def set_out(chain: Progress, depth: int) -> Building:
    """Draw a chain's momentum and start its trajectory."""
    at = chain.at
    next_key, momentum_key, tree_key = split(at.key, 3)
    momentum = at.mass_factor @ jax.random.normal(key_of(momentum_key), at.position.shape, at.position.dtype)
    energy = at.value + kinetic(at, momentum)
    zero, none = jnp.zeros_like(at.value), jnp.zeros_like(chain.drawn)
    leaf = Leaf(at.position, momentum, at.slope)
    whole = Tree(at.position, at.value, at.slope, energy, zero, momentum, zero, none)
    marks = jnp.zeros((depth, len(momentum)), momentum.dtype)
    return Building(
        rest=chain,
        next_key=next_key,
        energy=energy,
        whole=whole,
        left=leaf,
        right=leaf,
        depth=none,
        key=tree_key,
        # Fields of the subtree are set by `branch`.
        part=whole,
        edge=leaf,
        forward=jnp.array(True),
        part_key=tree_key,
        merge_key=tree_key,
        momenta=marks,
        sums=marks,
    )


def branch(building: Building) -> Building:
    """Start a subtree as large as the trajectory so far, at one of the trajectory's ends."""
    key, direction_key, doubling_key = split(building.key, 3)
    part_key, merge_key = split(doubling_key, 2)
    forward = jax.random.bernoulli(key_of(direction_key))
    return building._replace(
        key=key,
        part=building.part._replace(leaves=jnp.zeros_like(building.depth)),
        edge=pick(forward, building.right, building.left),
        forward=forward,
        part_key=part_key,
        merge_key=merge_key,
    )


def take_step(
    building: Building, potential: Callable[[Any], Any], last: Any, settings: Nuts, warmup: int, windows: list[int]
) -> tuple[Building, Any, Any]:
    """Add a leaf to the subtree, and update trajectory and chain if that completes them.

    Args:
        building: A chain.
        potential: Negative log density of a vector of unit scale.
        last: Number of trajectories after which the chain waits.
        settings: Depth and target acceptance.
        warmup: Number of trajectories that adapt.
        windows: Index of the first trajectory from which a covariance is estimated, and of those at which it is used.

    Returns:
        The chain, the index of its current draw, and that draw in its current state: position, acceptance, leaves,
        energy, whether it diverged, step size.
    """
    rest, at = building.rest, building.rest.at
    leaf, value, energy = leapfrog(building, potential)
    error = energy - building.energy
    error = jnp.where(jnp.isnan(error), jnp.inf, error)
    diverges = error > LARGEST_ERROR
    accepted = jnp.minimum(jnp.exp(-error), 1.0)
    one = jnp.ones_like(building.part.leaves)
    single = Tree(leaf.position, value, leaf.slope, energy, -error, leaf.momentum, accepted, one)
    part_key, choice_key = split(building.part_key, 2)
    # Within a subtree, proposals are drawn by weight.
    share = jax.nn.sigmoid(single.log_weight - building.part.log_weight)
    part = pick(building.part.leaves == 0, single, joined(building.part, single, share, choice_key))
    momenta, sums, turns = marked(building, leaf.momentum, part.momentum)
    complete = (part.leaves == 2**building.depth) | turns | diverges

    # The subtree's proposal is favoured over the trajectory's, unless the subtree turns back or diverges.
    share = jnp.where(turns | diverges, 0.0, jnp.minimum(jnp.exp(part.log_weight - building.whole.log_weight), 1.0))
    grown = joined(building.whole, part, share, building.merge_key)
    left, right = pick(building.forward, (building.left, leaf), (leaf, building.right))
    turns |= turning(at, left.momentum, right.momentum, grown.momentum)
    finished = complete & (turns | diverges | (building.depth + 1 == settings.depth))

    accept = grown.accepted / grown.leaves
    moved = at._replace(key=building.next_key, position=grown.position, value=grown.value, slope=grown.slope)
    drawn = adapted(rest._replace(at=moved), accept, settings, warmup, windows)
    drawn = drawn._replace(drawn=rest.drawn + 1)
    # The next step adds another leaf, starts another subtree, or starts another trajectory.
    same = building._replace(part=part, edge=leaf, part_key=part_key, momenta=momenta, sums=sums)
    doubled = same._replace(whole=grown, left=left, right=right, depth=building.depth + 1)
    new = pick(finished, set_out(drawn, settings.depth), doubled)
    after = pick(complete, branch(new), same)
    slot = jnp.where(rest.drawn < warmup, settings.draws, rest.drawn - warmup)
    row = jnp.stack([accept, grown.leaves, grown.energy, diverges, drawn.at.step_size])
    row = jnp.concatenate([grown.position, row])
    return pick(rest.drawn < last, after, building), slot, row


def leapfrog(building: Building, potential: Callable[[Any], Any]) -> tuple[Leaf, Any, Any]:
    """Step from the outer leaf of the subtree; return the new leaf, and the potential and the energy there."""
    at, edge = building.rest.at, building.edge
    size = jnp.where(building.forward, at.step_size, -at.step_size)
    momentum = edge.momentum - 0.5 * size * edge.slope
    position = edge.position + size * (at.inverse_mass @ momentum)
    value, slope = jax.value_and_grad(potential)(position)
    momentum = momentum - 0.5 * size * slope
    return Leaf(position, momentum, slope), value, value + kinetic(at, momentum)


def kinetic(at: ChainState, momentum: Array) -> Any:
    """Return the kinetic energy."""
    return 0.5 * momentum @ (at.inverse_mass @ momentum)


def joined(one: Tree, other: Tree, share: Any, key: Array) -> Tree:
    """Merge two trees; the proposal of the second is taken with the given probability."""
    taken = pick(jax.random.bernoulli(key_of(key), share), other, one)
    return taken._replace(
        log_weight=jnp.logaddexp(one.log_weight, other.log_weight),
        momentum=one.momentum + other.momentum,
        accepted=one.accepted + other.accepted,
        leaves=one.leaves + other.leaves,
    )


def turning(at: ChainState, first: Array, last: Array, total: Array) -> Any:
    """Return whether a trajectory turns back, from the momenta at its ends and their sum over all leaves."""
    inner = at.inverse_mass @ (total - 0.5 * (first + last))
    return (first @ inner <= 0.0) | (last @ inner <= 0.0)


def marked(building: Building, momentum: Array, total: Array) -> tuple[Any, Any, Any]:
    """Remember a new leaf where subtrees start; also return whether a subtree that ends at it turns back.

    Leaves of a subtree have indices from 0. Complete subtrees within it end at leaves with an odd index; their number
    is the number of trailing ones in the binary index. The start of each has an even index and is stored in the row
    given by the number of ones in that index.
    """
    number = building.part.leaves
    deepest = jnp.bitwise_count(number >> 1)
    ends = jnp.bitwise_count((~number & (number + 1)) - 1)
    rows = jnp.arange(len(building.momenta))
    here = ((rows == deepest) & (number % 2 == 0))[:, None]
    momenta = jnp.where(here, momentum, building.momenta)
    sums = jnp.where(here, total, building.sums)
    asked = (rows <= deepest) & (rows > deepest.astype(int) - ends.astype(int))
    turns = jax.vmap(lambda first, before: turning(building.rest.at, first, momentum, total - before + first))
    return momenta, sums, (asked & turns(momenta, sums)).any()


def adapted(chain: Progress, accept: Any, settings: Nuts, warmup: int, windows: list[int]) -> Progress:
    """Adapt the step size, and the covariance estimate within a window, to one more trajectory of the warm-up."""
    if not warmup:
        return chain
    averaging, limits = average(settings.target_accept - accept, chain.averaging), jnp.finfo(chain.at.step_size.dtype)
    logarithm = jnp.where(chain.drawn == warmup - 1, averaging[1], averaging[0])
    size = jnp.clip(jnp.exp(logarithm), limits.tiny, limits.max)
    new = chain._replace(at=chain.at._replace(step_size=size), averaging=averaging)
    if windows:
        within = (chain.drawn >= windows[0]) & (chain.drawn < windows[-1])
        new = new._replace(moments=pick(within, add_moment(chain.at.position, chain.moments), chain.moments))
    return pick(chain.drawn < warmup, new, chain)


def pick(flag: Any, yes: Any, no: Any) -> Any:
    """Choose between two trees of arrays."""
    return jax.tree.map(lambda a, b: jnp.where(flag, a, b), yes, no)


def split(words: Array, number: int) -> Any:
    """Return `number` keys made from one, like `jax.random.split`; all are raw uint32 arrays."""
    return jax.random.key_data(jax.random.split(key_of(words), number))
