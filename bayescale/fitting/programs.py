"""Sampling: the compiled programs that find modes and run the chains of families."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from bayescale._jax import each, key_of
from bayescale._record import Array
from bayescale.fitting.batches import jitted
from bayescale.inference.modes import optimise_from_prior, round_potential
from bayescale.inference.nuts import ChainState, Nuts, Start, begin_chain, normal_around, run_chain
from bayescale.inference.nuts_vectorized import run_chains
from bayescale.inference.reparam import Geometry, constrain_reparam, linearise, reparam_to_scores, scores_to_reparam
from bayescale.model.density import draw_level
from bayescale.model.problem import Model, Problem, Values

TRACES = {"sample": 0}
"""How often the compiled program was traced; read by tests only."""

APART = 7
"""Number folded into a chain's key, for the random numbers of its starting point."""
HIGHER = 1.0
"""Another mode must be higher in log density by this than the mode found from the centre of the prior."""


def sample_family(key: Array, model: Model, problem: Problem, settings: Nuts, at: Any) -> dict[str, Any]:
    """Sample all chains of one family one after the other, from their starting points or the end of an earlier call.

    Args:
        key: Raw data of a random key.
        model: Law, discrepancy and likelihood.
        problem: The family.
        settings: Warm-up steps, draws, chains and target acceptance.
        at: Result of `beginning`, or entry "end" of an earlier call.

    Returns:
        Unconstrained parameters, constrained values and statistics of the chains, leading axes (chain, draw), and the
        last states of the chains.
    """
    TRACES["sample"] += 1

    geometry, start, states = at
    potential = round_potential(geometry, model, problem)

    def chain(inputs: tuple[Any, Any]) -> tuple[dict[str, Any], Any]:
        level_scores, state = inputs
        drawn, state = run_chain(potential, start, settings, state)
        draws = drawn.position, level_scores
        position, values = lax.map(lambda draw: constrain_draw(draw, geometry, model, problem), draws)
        return {"chains": drawn._replace(position=position), "values": values}, state

    level_scores = jax.random.normal(keys_of(key, settings)[1], (settings.chains, settings.draws), float)
    output, states = lax.map(chain, (level_scores, states))
    return output | {"end": (geometry, start, states)}


def sample_lockstep(keys: Array, model: Model, problems: Problem, settings: Nuts, at: Any) -> dict[str, Any]:
    """Sample families along a leading axis as `sample_family` does, with all chains of all families vectorised."""
    TRACES["sample"] += 1

    geometries, starts, states = at

    def potential(scores: Any, family: tuple[Geometry, Problem]) -> Any:
        geometry, problem = family
        return round_potential(geometry, model, problem)(scores)

    drawn, states = run_chains(potential, (geometries, problems), starts, settings, states)

    def family(key: Any, position: Any, geometry: Geometry, problem: Problem) -> tuple[Any, Values]:
        level_scores = jax.random.normal(keys_of(key, settings)[1], (settings.chains, settings.draws), float)

        def chain(draws: tuple[Any, Any]) -> tuple[Any, Values]:
            # Long curves are converted one draw at a time, because all draws at once would not fit into memory.
            return each(
                lambda draw: constrain_draw(draw, geometry, model, problem), draws, not problem.evaluation.sequential
            )

        return jax.vmap(chain)((position, level_scores))

    position, values = jax.vmap(family)(keys, drawn.position, geometries, problems)
    return {"chains": drawn._replace(position=position), "values": values, "end": (geometries, starts, states)}


def constrain_draw(draw: tuple[Any, Any], geometry: Geometry, model: Model, problem: Problem) -> tuple[Any, Values]:
    """Return unconstrained parameters and constrained values from standardised parameters and a score of the level."""
    scores, level_score = draw
    reparam, _ = scores_to_reparam(scores, geometry, model, problem)
    vector, values, _, _ = constrain_reparam(reparam, model, problem)
    return vector, values._replace(level=draw_level(level_score, values, model, problem))


def keys_of(words: Array, settings: Nuts) -> Any:
    """Return the keys of a family: one for its mode, one for its level, and one for each chain."""
    return jax.random.split(key_of(words), 2 + settings.chains)


def beginning(
    key: Array, model: Model, problem: Problem, settings: Nuts, vectorized: bool
) -> tuple[Geometry, Start, ChainState]:
    """Return coordinates adapted to the mode, the mode with its covariance, and a starting point for each chain."""
    keys = keys_of(key, settings)
    mode = best_mode(keys[0], model, problem, settings.mode_steps, vectorized)
    geometry = linearise(mode, model, problem)
    potential = round_potential(geometry, model, problem)
    scores = reparam_to_scores(mode, geometry, model, problem)
    # Starting points are far apart, so that R-hat shows chains that do not meet. Standardised parameters have about
    # unit scale.
    apart = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, APART), scores.shape, scores.dtype))(
        keys[2:]
    )
    start, around = normal_around(potential, scores, apart)
    return geometry, start, jax.vmap(begin_chain, (0, None, 0))(keys[2:], start, around)


def best_mode(key: Array, model: Model, problem: Problem, steps: int, vectorized: bool) -> Any:
    """Optimise from the prior's centre and from prior draws; return the centre's mode unless another is clearly higher.

    With the centre alone, in one of ten simulated data sets of a law with several terms, discrepancy or noise explained
    what the law should explain.
    """
    ends, heights = optimise_from_prior(key, model, problem, steps, vectorized)
    heights = jnp.where(jnp.isfinite(heights), heights, jnp.inf).at[0].add(-HIGHER)
    return ends[jnp.argmin(heights)]


def begin_batch(
    keys: Array,
    model: Model,
    problems: Problem,
    settings: Nuts,
    vectorized: bool,
    mesh: jax.sharding.Mesh | None = None,
) -> tuple[Geometry, Start, ChainState]:
    """Return the starting points of the chains of families; `sample_batch` continues from these."""

    def share(keys: Array, model: Model, problems: Problem, settings: Nuts) -> tuple[Geometry, Start, ChainState]:
        def one(family: tuple[Any, Problem]) -> tuple[Geometry, Start, ChainState]:
            return beginning(family[0], model, family[1], settings, vectorized)

        return each(one, (keys, problems), vectorized)

    return shared(share, mesh, keys, model, problems, settings)


def sample_batch(
    keys: Array,
    model: Model,
    problems: Problem,
    settings: Nuts,
    at: Any,
    vectorized: bool,
    mesh: jax.sharding.Mesh | None = None,
) -> dict[str, Any]:
    """Sample families along a leading axis: mapped on CPUs, vectorised on accelerators, divided among devices."""

    def share(keys: Array, model: Model, problems: Problem, settings: Nuts, at: Any) -> dict[str, Any]:
        if vectorized:
            return sample_lockstep(keys, model, problems, settings, at)

        def one(family: tuple[Any, Problem, Any]) -> dict[str, Any]:
            key, problem, at = family
            return sample_family(key, model, problem, settings, at)

        return lax.map(one, (keys, problems, at))

    return shared(share, mesh, keys, model, problems, settings, at)


def shared(function: Callable[..., Any], mesh: jax.sharding.Mesh | None, *arguments: Any) -> Any:
    """Call a function of keys, a model, problems, settings and further arrays, dividing families among devices."""
    if mesh is None:
        return function(*arguments)
    family, everywhere = jax.P(*mesh.axis_names), jax.P()
    # Each device runs its own loops: a shared loop would wait in every step for the slowest chain of all devices.
    specs = (family, everywhere, family, everywhere, family)[: len(arguments)]
    return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=family, check_vma=False)(*arguments)


def compiled(function: Callable[..., Any], lighter: bool = False) -> Any:
    """Return the compiled program of `begin_batch` or `sample_batch`; there is one for each compile key.

    The compile key contains the law, kinds of priors, padded number of rows and numbers of draws, but no numerical
    values.
    """
    return jitted(function, ("vectorized", "mesh"), lighter)
