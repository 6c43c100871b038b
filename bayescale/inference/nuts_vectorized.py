"""Lockstep: NUTS of many chains on an accelerator, where every step is one leapfrog of every chain.

An accelerator runs all chains through one program. Chains that wait for each other at the end of each trajectory, as
loops in loops make them, all take as many steps as the longest of thousands in every draw, many times what they need.
Here each chain is somewhere in a tree of its own: a step extends its subtree by one leaf, and where that completes the
subtree or the trajectory, the chain goes on to the next at once. Chains meet where mass matrices are estimated, at the
end of two or three windows of the warm-up, and nowhere else.

The algorithm is NumPyro's, multinomial NUTS with a generalised turning criterion (betancourt2017conceptual, appendix A)
in Stan's windows, down to the random numbers: chains draw what `nuts.run_chain` draws, to rounding.
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
"""Steps between two looks at whether all chains are finished."""
LARGEST_ERROR = 1000.0
"""Error of the energy that counts as a divergence, as NumPyro has it."""

begin_averaging, average = dual_averaging()
begin_moments, add_moment, covariance_of = welford_covariance(diagonal=False)


class Progress(NamedTuple):
    """A chain between two trajectories, and what its warm-up gathers.

    Attributes:
        drawn: Finished trajectories, those of the warm-up included.
        at: Where it stands.
        averaging: State of the dual averaging of step sizes.
        moments: State of the estimate of the covariance.
    """

    drawn: Any
    at: ChainState
    averaging: Any
    moments: Any


class Leaf(NamedTuple):
    """A position with its momentum and the potential's slope, each of shape (d,)."""

    position: Any
    momentum: Any
    slope: Any


class Tree(NamedTuple):
    """A trajectory or a part of one: the position it proposes, and sums over its leaves."""

    position: Any
    value: Any
    slope: Any
    energy: Any
    log_weight: Any
    momentum: Any
    accepted: Any
    leaves: Any


class Building(NamedTuple):
    """A chain somewhere in a trajectory.

    Attributes:
        rest: The chain as the trajectory began.
        next_key: Words of the key that the chain has after it.
        energy: Energy there.
        whole: The trajectory up to its last completed subtree.
        left: Its first leaf.
        right: Its last leaf.
        depth: Completed doublings.
        key: Words of the key of doublings to come.
        part: The subtree that grows.
        edge: Its outer leaf.
        forward: Whether it grows to the right.
        part_key: Words of its key.
        merge_key: Words of the key that decides whether its proposal is taken.
        momenta: Momenta where unfinished subtrees of the subtree begin, shape (depth, d).
        sums: Sums of momenta up to there, shape (depth, d).
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
        families: What the potential knows of each family, leading axis family.
        starts: Mode and covariance, which give the coordinates of chains, leading axis family.
        settings: Counts and target acceptance.
        states: Where chains begin, or where an earlier call ended, leading axes (family, chain).

    Returns:
        The draws, leading axes (family, chain, draw), and where chains ended.
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
    # Covariances are estimated from the first of these trajectories on, and at each of the others.
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
        # Chains that go on were past this window before.
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
    """Return a chain that begins or goes on there."""
    # The second and third key adapt and push NumPyro's first trajectory; they are not needed here.
    words = jnp.where(at.begun, at.key, split(at.key, 3)[0])
    return rest_at(at._replace(key=words))._replace(drawn=jnp.where(at.begun, warmup, 0))


def rest_at(at: ChainState) -> Progress:
    """Return a chain there, whose warm-up has gathered nothing."""
    return Progress(jnp.array(0), at, begin_averaging(jnp.log(10.0 * at.step_size)), begin_moments(len(at.position)))


def end_draw(chain: Progress, estimates: Any) -> Progress:
    """Take the covariance of a window's draws as inverse mass matrix, where a window has ended."""
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
        # Of the subtree nothing counts before `branch`.
        part=whole,
        edge=leaf,
        forward=jnp.array(True),
        part_key=tree_key,
        merge_key=tree_key,
        momenta=marks,
        sums=marks,
    )


def branch(building: Building) -> Building:
    """Begin a subtree as large as the trajectory so far, at one of its ends."""
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
    """Extend the subtree by a leaf, and the chain by what that completes.

    Args:
        building: A chain.
        potential: Negative log density of a vector of unit scale.
        last: Number of trajectories after which the chain waits.
        settings: Depth and target acceptance.
        warmup: Trajectories that adapt.
        windows: Number of the first trajectory that a covariance is estimated from, and those at which it is.

    Returns:
        The chain, the number of the draw that it works at, and that draw as it stands: position, acceptance, leaves,
        energy, whether it diverges, step size.
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
    # Within a subtree proposals are drawn by weight.
    share = jax.nn.sigmoid(single.log_weight - building.part.log_weight)
    part = pick(building.part.leaves == 0, single, joined(building.part, single, share, choice_key))
    momenta, sums, turns = marked(building, leaf.momentum, part.momentum)
    complete = (part.leaves == 2**building.depth) | turns | diverges

    # Between the trajectory and its subtree the new one is favoured, unless it turns or diverges.
    share = jnp.where(turns | diverges, 0.0, jnp.minimum(jnp.exp(part.log_weight - building.whole.log_weight), 1.0))
    grown = joined(building.whole, part, share, building.merge_key)
    left, right = pick(building.forward, (building.left, leaf), (leaf, building.right))
    turns |= turning(at, left.momentum, right.momentum, grown.momentum)
    finished = complete & (turns | diverges | (building.depth + 1 == settings.depth))

    accept = grown.accepted / grown.leaves
    moved = at._replace(key=building.next_key, position=grown.position, value=grown.value, slope=grown.slope)
    drawn = adapted(rest._replace(at=moved), accept, settings, warmup, windows)
    drawn = drawn._replace(drawn=rest.drawn + 1)
    # Three things can come next: another leaf, another subtree, another trajectory.
    same = building._replace(part=part, edge=leaf, part_key=part_key, momenta=momenta, sums=sums)
    doubled = same._replace(whole=grown, left=left, right=right, depth=building.depth + 1)
    new = pick(finished, set_out(drawn, settings.depth), doubled)
    after = pick(complete, branch(new), same)
    slot = jnp.where(rest.drawn < warmup, settings.draws, rest.drawn - warmup)
    row = jnp.stack([accept, grown.leaves, grown.energy, diverges, drawn.at.step_size])
    row = jnp.concatenate([grown.position, row])
    return pick(rest.drawn < last, after, building), slot, row


def leapfrog(building: Building, potential: Callable[[Any], Any]) -> tuple[Leaf, Any, Any]:
    """Step from the outer leaf of the subtree; return the new one, the potential and the energy there."""
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
    """Merge two trees; the proposal is the second's with a probability."""
    taken = pick(jax.random.bernoulli(key_of(key), share), other, one)
    return taken._replace(
        log_weight=jnp.logaddexp(one.log_weight, other.log_weight),
        momentum=one.momentum + other.momentum,
        accepted=one.accepted + other.accepted,
        leaves=one.leaves + other.leaves,
    )


def turning(at: ChainState, first: Array, last: Array, total: Array) -> Any:
    """Return whether a trajectory turns back, from the momenta at its ends and the sum of all."""
    inner = at.inverse_mass @ (total - 0.5 * (first + last))
    return (first @ inner <= 0.0) | (last @ inner <= 0.0)


def marked(building: Building, momentum: Array, total: Array) -> tuple[Any, Any, Any]:
    """Remember a new leaf if subtrees begin there; also say whether one that ends there turns back.

    Leaves of a subtree are numbered from 0. Complete subtrees within it end at odd ones, as many as the number has
    ones at its end in binary; where each began stands in a row as deep as the number has ones before.
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
    """Adapt the step size, and the moments where a covariance is estimated, to one more trajectory of the warm-up."""
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
    """Choose one of two trees of arrays."""
    return jax.tree.map(lambda a, b: jnp.where(flag, a, b), yes, no)


def split(words: Array, number: int) -> Any:
    """Return `number` keys from one, as `jax.random.split`; all are raw uint32 arrays."""
    return jax.random.key_data(jax.random.split(key_of(words), number))
