"""The distribution of quantities over families: its posterior, given draws of each family's own posterior.

A fit of one family under its own prior gives draws of the pooled quantities. Weighted by the density of the group
divided by that prior, they are draws from the hierarchical model. The mean weight is the family's marginal likelihood
as a function of the group's mean and standard deviation alone (lunn2013fully). NUTS therefore samples only a few
parameters, however many families there are.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import log_ndtr, logsumexp, ndtr, ndtri

from bayescale._jax import key_of, on_cores
from bayescale._record import Array, record, static
from bayescale.inference.importance import resample
from bayescale.inference.nuts import Nuts, begin_chain, find_mode, normal_around, run_chain

if TYPE_CHECKING:
    from jaxtyping import Float, Int

LEAST_SPREAD = 0.01
"""Smallest standard deviation of a pooled quantity over families: 1 % of a positive constant."""
MOST_CELLS = 8_000
"""Number of draws, over all families, with which the chains of a group are run; see `sample_group`."""
FEWEST_DRAWS = 400
"""Smallest number of draws of each family with which the chains are run."""
DEPTH, ACCEPT, MODE_STEPS = 5, 0.8, 60
THINNING = 2
"""Settings of NUTS for the few parameters of a group, whose posterior is nearly normal; every second draw is kept."""


@record
class Evidence:
    """Draws of the pooled and shared quantities of all families, with the prior of the group.

    Attributes:
        value: Quantities on the scale on which they are pooled, shape (quantity, family, draw).
        log_prior: Log prior density of all quantities in the separate fits, shape (family, draw).
        bound: Prior mean of the logarithm of the response in the middle of a family's runs, which bounds its floor,
            shape (family,).
        bound_sd: Prior standard deviation of that logarithm.
        mask: One for each family, zero for padding, shape (family,).
        center: Prior mean of the group's mean, shape (quantity,).
        scale: Prior standard deviation of the group's mean, shape (quantity,).
        spread: Scale of the half-normal prior of the group's standard deviation, shape (quantity,).
        tolerance: Standard deviation of shared quantities over families, shape (quantity,).
        shared: Whether each quantity is shared.
        floors: Whether each quantity is a floor, which the response in the middle of the runs bounds.
    """

    value: Float[Array, "quantity family draw"]
    log_prior: Float[Array, "family draw"]
    bound: Float[Array, "family"]
    bound_sd: Float[Array, ""]
    mask: Float[Array, "family"]
    center: Float[Array, "quantity"]
    scale: Float[Array, "quantity"]
    spread: Float[Array, "quantity"]
    tolerance: Float[Array, "quantity"]
    shared: tuple[bool, ...] = static()
    floors: tuple[bool, ...] = static()


class GroupDraws(NamedTuple):
    """Draws of the mean and standard deviation of quantities over families.

    Attributes:
        mean: Shape (chain, draw, quantity).
        sd: Shape (chain, draw, quantity).
    """

    mean: Float[np.ndarray, "chain draw quantity"]
    sd: Float[np.ndarray, "chain draw quantity"]


class Choice(NamedTuple):
    """Draws of families in the hierarchical model.

    Attributes:
        rows: Index of the draw of each family that belongs to each draw of the group, shape (draw, family).
        weight: Weight of each draw of a family, averaged over draws of the group, shape (family, draw); sums to one.
        worth: Effective number of draws of a family given one draw of the group, a harmonic mean, shape (family,).
    """

    rows: Int[np.ndarray, "draw family"]
    weight: Float[np.ndarray, "family draw"]
    worth: Float[np.ndarray, "family"]


def unpacked(vector: Float[Array, "d"], evidence: Evidence) -> tuple[Any, Any, Any]:
    """Return mean and standard deviation of the group, shape (quantity,) each, and a vector's log prior density."""
    count = len(evidence.shared)
    mean = evidence.center + evidence.scale * vector[:count]
    # All parameters are standard normal in the prior, which keeps the tail of small standard deviations short.
    prior = -0.5 * (vector**2).sum()
    sds, left = [], count
    for number, shared in enumerate(evidence.shared):
        if shared:
            sds.append(evidence.tolerance[number])
            continue
        half_normal = -evidence.spread[number] * ndtri(0.5 * ndtr(-vector[left]))
        sds.append(jnp.sqrt(half_normal**2 + LEAST_SPREAD**2))
        left += 1
    return mean, jnp.stack(sds), prior


def log_weights(mean: Float[Array, "quantity"], sd: Float[Array, "quantity"], evidence: Evidence) -> Any:
    """Return the log density of the group divided by the family's own prior, for all draws, shape (family, draw)."""
    total = -evidence.log_prior
    for number, floor in enumerate(evidence.floors):
        score = (evidence.value[number] - mean[number]) / sd[number]
        total = total - 0.5 * score**2 - jnp.log(sd[number]) - 0.5 * jnp.log(2.0 * jnp.pi)
        if floor:
            # A floor lies below the response in the middle of the runs; this normalises the joint prior restricted to
            # that event.
            below = (evidence.bound - mean[number]) / jnp.sqrt(sd[number] ** 2 + evidence.bound_sd**2)
            total = total - log_ndtr(below)[:, None]
    return total


def log_marginals(mean: Float[Array, "quantity"], sd: Float[Array, "quantity"], evidence: Evidence) -> Any:
    """Return the log marginal likelihood of each family divided by that of its separate fit, shape (family,)."""
    return logsumexp(log_weights(mean, sd, evidence), axis=1) - jnp.log(evidence.log_prior.shape[1])


def group_potential(vector: Float[Array, "d"], evidence: Evidence) -> Any:
    """Return the negative log posterior density of the parameters of a group."""
    mean, sd, prior = unpacked(vector, evidence)
    return -prior - (evidence.mask * log_marginals(mean, sd, evidence)).sum()


@functools.partial(jax.jit, static_argnames=("chains", "draws", "warmup"))
def group_chains(words: Array, evidence: Evidence, accept: Any, chains: int, draws: int, warmup: int) -> Any:
    """Return draws of mean and standard deviation of a group, shape (chain, draw, quantity) each."""
    settings = Nuts(warmup=warmup, draws=draws, chains=chains, depth=DEPTH, target_accept=accept)
    keys = jax.random.split(key_of(words), chains)

    def potential(vector: Any) -> Any:
        return group_potential(vector, evidence)

    begin = jnp.zeros(2 * len(evidence.shared) - sum(evidence.shared))
    mode, _ = find_mode(potential, begin, MODE_STEPS)
    apart = jax.vmap(lambda key: 0.5 * jax.random.normal(jax.random.fold_in(key, 1), begin.shape, begin.dtype))(keys)
    start, around = normal_around(potential, mode, apart)
    states = jax.vmap(begin_chain, (0, None, 0))(keys, start, around)
    found = lax.map(lambda state: run_chain(potential, start, settings, state)[0].position, states)
    mean, sd, _ = jax.vmap(jax.vmap(lambda vector: unpacked(vector, evidence)))(found)
    return mean, sd


@jax.jit
def log_likelihoods(mean: Array, sd: Array, evidence: Evidence) -> Any:
    """Return the log likelihood of draws of a group, shape (draw, quantity) each, up to a constant; shape (draw,)."""

    def one(drawn: tuple[Any, Any]) -> Any:
        return (evidence.mask * log_marginals(*drawn, evidence)).sum()

    return lax.map(one, (mean, sd))


@jax.jit
def choose_rows(words: Array, mean: Array, sd: Array, evidence: Evidence) -> Any:
    """Return the fields of `Choice` from draws of the group of shape (draw, quantity)."""
    uniform = jax.random.uniform(key_of(words), (len(mean), len(evidence.mask)), float)

    def step(carry: tuple[Any, Any], drawn: tuple[Any, Any, Any]) -> tuple[tuple[Any, Any], Any]:
        total, inverse = carry
        weight = jax.nn.softmax(log_weights(drawn[0], drawn[1], evidence), axis=1)
        rows = jax.vmap(jnp.searchsorted)(jnp.cumsum(weight, axis=1), drawn[2])
        inverse = inverse + (weight**2).sum(1)
        return (total + weight, inverse), jnp.minimum(rows, weight.shape[1] - 1)

    nothing = jnp.zeros_like(evidence.log_prior)
    (total, inverse), rows = lax.scan(step, (nothing, nothing[:, 0]), (mean, sd, uniform))
    return rows, total / len(mean), len(mean) / inverse


def padded_families(evidence: Evidence) -> Evidence:
    """Return the evidence with families padded to a power of two, so that few sizes are compiled."""
    families = len(evidence.mask)
    more = (1 << (families - 1).bit_length()) - families

    def filled(leaf: Any, axis: int) -> np.ndarray:
        room = [(0, 0)] * np.ndim(leaf)
        room[axis] = (0, more)
        return np.pad(np.asarray(leaf, float), room, mode="edge" if np.ndim(leaf) > 1 else "constant")

    return dataclasses.replace(
        evidence,
        value=filled(evidence.value, 1),
        log_prior=filled(evidence.log_prior, 0),
        bound=filled(evidence.bound, 0),
        mask=filled(evidence.mask, 0),
    )


def thinned(evidence: Evidence) -> Evidence:
    """Return the evidence with fewer, evenly spaced draws of each family, so that the group's density is fast."""
    families, draws = evidence.log_prior.shape
    # A power of two, as for the number of families, so that few shapes are compiled.
    kept = max(FEWEST_DRAWS, MOST_CELLS // (1 << (families - 1).bit_length()))
    if kept >= draws:
        return evidence
    rows = np.arange(kept) * draws // kept
    cut = {name: np.asarray(getattr(evidence, name))[..., rows] for name in ("value", "log_prior")}
    return dataclasses.replace(evidence, **cut)


def sample_group(words: np.ndarray, evidence: Evidence, settings: Nuts) -> tuple[GroupDraws, GroupDraws]:
    """Sample mean and standard deviation of a group.

    Chains are run with a part of the draws of each family. Their draws are then resampled with importance weights: the
    density with all draws of the families divided by the density with that part, a ratio close to one.

    Returns:
        The draws of the chains, for diagnostics, and the resampled draws.
    """
    few = thinned(evidence)
    with on_cores():
        part = padded_families(few)
        counts = settings.chains, THINNING * settings.draws, settings.warmup
        found = group_chains(words, part, np.float64(ACCEPT), *counts)
        chains = GroupDraws(*(np.asarray(leaf)[:, ::THINNING] for leaf in found))
    return chains, chains if few is evidence else resampled(words, chains, evidence, few)


def resampled(words: np.ndarray, group: GroupDraws, evidence: Evidence, known: Evidence | None = None) -> GroupDraws:
    """Return draws of a group resampled by the likelihood of `evidence`, divided by that of `known` if given."""
    mean, sd = (part.reshape(-1, part.shape[-1]) for part in group)
    with on_cores():
        ratio = np.asarray(log_likelihoods(mean, sd, padded_families(evidence)))
        if known is not None:
            ratio = ratio - np.asarray(log_likelihoods(mean, sd, padded_families(known)))
    rows = resample(np.exp(ratio - ratio.max()), len(mean), np.random.default_rng(words))
    return GroupDraws(*(part.reshape(-1, part.shape[-1])[rows].reshape(part.shape) for part in group))


def choose_draws(words: np.ndarray, group: GroupDraws, evidence: Evidence) -> Choice:
    """Draw one row of each family's posterior for each draw of the group."""
    families = len(evidence.mask)
    flat = [part.reshape(-1, part.shape[-1]) for part in group]
    with on_cores():
        rows, weight, worth = choose_rows(words, *flat, padded_families(evidence))
    return Choice(np.asarray(rows)[:, :families], np.asarray(weight)[:families], np.asarray(worth)[:families])
