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
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import log_ndtr, logsumexp, ndtr, ndtri
from numpyro.distributions import LKJCholesky, biject_to, constraints

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
CONCENTRATION = 2.0
"""Concentration of the LKJ prior of correlations: larger values favour smaller correlations."""


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
        correlated: Whether pooled quantities are correlated over families.
        design: Covariates of each family, shape (family, column); None without covariates.
        effect: Prior standard deviation of the effects of covariates, shape (quantity,); None without covariates.
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
    correlated: bool = static(default=False)
    design: Float[Array, "family column"] | None = None
    effect: Float[Array, "quantity"] | None = None


class GroupDraws(NamedTuple):
    """Draws of the distribution of quantities over families.

    Attributes:
        mean: Mean over families, at covariates of zero, shape (chain, draw, quantity).
        sd: Standard deviation, shape (chain, draw, quantity).
        effects: Effects of the columns of the design, zero for shared quantities, shape (chain, draw, quantity,
            column); None without covariates.
        factor: Cholesky factor of the correlation matrix, shape (chain, draw, quantity, quantity); None where
            quantities are independent.
    """

    mean: Float[np.ndarray, "chain draw quantity"]
    sd: Float[np.ndarray, "chain draw quantity"]
    effects: Float[np.ndarray, "chain draw quantity column"] | None = None
    factor: Float[np.ndarray, "chain draw quantity quantity"] | None = None

    @property
    def flat(self) -> GroupDraws:
        """Draws with chains joined."""
        return jax.tree.map(lambda part: part.reshape(-1, *part.shape[2:]), self)

    @property
    def correlation(self) -> Float[np.ndarray, "chain draw quantity quantity"] | None:
        """Correlation matrix, shape (chain, draw, quantity, quantity); None where quantities are independent."""
        return None if self.factor is None else self.factor @ np.swapaxes(self.factor, -1, -2)


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


def unpacked(vector: Float[Array, "d"], evidence: Evidence) -> tuple[GroupDraws, Any]:
    """Return one draw of a group, without the axes of chain and draw, and a vector's log prior density."""
    count, pooled = len(evidence.shared), len(evidence.shared) - sum(evidence.shared)
    columns = 0 if evidence.design is None else evidence.design.shape[1]
    normals = count + pooled * (1 + columns)
    mean = evidence.center + evidence.scale * vector[:count]
    # These parameters are standard normal in the prior, which keeps the tail of small standard deviations short.
    prior = -0.5 * (vector[:normals] ** 2).sum()
    sds, left = [], count
    for number, shared in enumerate(evidence.shared):
        if shared:
            sds.append(evidence.tolerance[number])
            continue
        half_normal = -evidence.spread[number] * ndtri(0.5 * ndtr(-vector[left]))
        sds.append(jnp.sqrt(half_normal**2 + LEAST_SPREAD**2))
        left += 1
    places = [number for number, shared in enumerate(evidence.shared) if not shared]
    effects = factor = None
    if evidence.effect is not None:
        own = vector[left:normals].reshape(pooled, columns) * evidence.effect[np.array(places, int)][:, None]
        effects = jnp.zeros((count, columns)).at[np.array(places, int)].set(own)
    if evidence.correlated:
        transform = biject_to(constraints.corr_cholesky)
        own = transform(vector[normals:])
        prior = prior + LKJCholesky(pooled, CONCENTRATION).log_prob(own)
        prior = prior + transform.log_abs_det_jacobian(vector[normals:], own)
        factor = jnp.eye(count).at[np.ix_(places, places)].set(own)
    return GroupDraws(mean, jnp.stack(sds), effects, factor), prior


def length(evidence: Evidence) -> int:
    """Return the number of parameters of a group, the length of the vector of `unpacked`."""
    count, pooled = len(evidence.shared), len(evidence.shared) - sum(evidence.shared)
    columns = 0 if evidence.design is None else evidence.design.shape[1]
    return count + pooled * (1 + columns) + evidence.correlated * pooled * (pooled - 1) // 2


def log_weights(drawn: GroupDraws, evidence: Evidence) -> Any:
    """Return the log density of the group divided by the family's own prior, for all draws, shape (family, draw).

    Args:
        drawn: One draw of the group.
        evidence: The draws of the families.
    """
    sd = drawn.sd
    means = [drawn.mean[number] for number in range(len(evidence.floors))]
    if drawn.effects is not None:
        means = [mean + evidence.design @ own for mean, own in zip(means, drawn.effects, strict=True)]
    scores = [
        (evidence.value[number] - (mean if drawn.effects is None else mean[:, None])) / sd[number]
        for number, mean in enumerate(means)
    ]
    total = -evidence.log_prior
    if drawn.factor is not None:
        inverse = solve_triangular(drawn.factor, jnp.eye(len(scores)), lower=True)
        scores = [sum(inverse[i, j] * scores[j] for j in range(i + 1)) for i in range(len(scores))]
        total = total - jnp.log(jnp.diagonal(drawn.factor)).sum()
    for number, floor in enumerate(evidence.floors):
        total = total - 0.5 * scores[number] ** 2 - jnp.log(sd[number]) - 0.5 * jnp.log(2.0 * jnp.pi)
        if floor:
            # A floor lies below the response in the middle of the runs; this normalises the joint prior restricted to
            # that event.
            below = (evidence.bound - means[number]) / jnp.sqrt(sd[number] ** 2 + evidence.bound_sd**2)
            total = total - log_ndtr(below)[:, None]
    return total


def log_marginals(drawn: GroupDraws, evidence: Evidence) -> Any:
    """Return the log marginal likelihood of each family divided by that of its separate fit, shape (family,)."""
    return logsumexp(log_weights(drawn, evidence), axis=1) - jnp.log(evidence.log_prior.shape[1])


def group_potential(vector: Float[Array, "d"], evidence: Evidence) -> Any:
    """Return the negative log posterior density of the parameters of a group."""
    drawn, prior = unpacked(vector, evidence)
    return -prior - (evidence.mask * log_marginals(drawn, evidence)).sum()


@functools.partial(jax.jit, static_argnames=("chains", "draws", "warmup"))
def group_chains(words: Array, evidence: Evidence, accept: Any, chains: int, draws: int, warmup: int) -> Any:
    """Return draws of a group."""
    settings = Nuts(warmup=warmup, draws=draws, chains=chains, depth=DEPTH, target_accept=accept)
    keys = jax.random.split(key_of(words), chains)

    def potential(vector: Any) -> Any:
        return group_potential(vector, evidence)

    begin = jnp.zeros(length(evidence))
    mode, _ = find_mode(potential, begin, MODE_STEPS)
    apart = jax.vmap(lambda key: 0.5 * jax.random.normal(jax.random.fold_in(key, 1), begin.shape, begin.dtype))(keys)
    start, around = normal_around(potential, mode, apart)
    states = jax.vmap(begin_chain, (0, None, 0))(keys, start, around)
    found = lax.map(lambda state: run_chain(potential, start, settings, state)[0].position, states)
    return jax.vmap(jax.vmap(lambda vector: unpacked(vector, evidence)[0]))(found)


@jax.jit
def log_likelihoods(group: GroupDraws, evidence: Evidence) -> Any:
    """Return the log likelihood of draws of a group with chains joined, up to a constant, shape (draw,)."""

    def one(drawn: GroupDraws) -> Any:
        return (evidence.mask * log_marginals(drawn, evidence)).sum()

    return lax.map(one, group)


@jax.jit
def choose_rows(words: Array, group: GroupDraws, evidence: Evidence) -> Any:
    """Return the fields of `Choice` from draws of the group with chains joined."""
    uniform = jax.random.uniform(key_of(words), (len(group.mean), len(evidence.mask)), float)

    def step(carry: tuple[Any, Any], drawn: tuple[GroupDraws, Any]) -> tuple[tuple[Any, Any], Any]:
        total, inverse = carry
        weight = jax.nn.softmax(log_weights(drawn[0], evidence), axis=1)
        rows = jax.vmap(jnp.searchsorted)(jnp.cumsum(weight, axis=1), drawn[1])
        inverse = inverse + (weight**2).sum(1)
        return (total + weight, inverse), jnp.minimum(rows, weight.shape[1] - 1)

    nothing = jnp.zeros_like(evidence.log_prior)
    (total, inverse), rows = lax.scan(step, (nothing, nothing[:, 0]), (group, uniform))
    return rows, total / len(group.mean), len(group.mean) / inverse


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
        design=None if evidence.design is None else filled(evidence.design, 0),
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
    """Sample the distribution of quantities over families.

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
        chains: GroupDraws = jax.tree.map(lambda leaf: np.asarray(leaf)[:, ::THINNING], found)
    return chains, chains if few is evidence else resampled(words, chains, evidence, few)


def resampled(words: np.ndarray, group: GroupDraws, evidence: Evidence, known: Evidence | None = None) -> GroupDraws:
    """Return draws of a group resampled by the likelihood of `evidence`, divided by that of `known` if given."""
    with on_cores():
        ratio = np.asarray(log_likelihoods(group.flat, padded_families(evidence)))
        if known is not None:
            ratio = ratio - np.asarray(log_likelihoods(group.flat, padded_families(known)))
    rows = resample(np.exp(ratio - ratio.max()), len(ratio), np.random.default_rng(words))
    return jax.tree.map(lambda part: part.reshape(-1, *part.shape[2:])[rows].reshape(part.shape), group)


def choose_draws(words: np.ndarray, group: GroupDraws, evidence: Evidence) -> Choice:
    """Draw one row of each family's posterior for each draw of the group."""
    families = len(evidence.mask)
    with on_cores():
        rows, weight, worth = choose_rows(words, group.flat, padded_families(evidence))
    return Choice(np.asarray(rows)[:, :families], np.asarray(weight)[:families], np.asarray(worth)[:families])
