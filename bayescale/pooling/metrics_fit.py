"""Chains of the joint model of several metrics: starting points from the metrics alone, NUTS, and diagnostics."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayescale._jax import key_of, on_cores
from bayescale._record import Array
from bayescale.errors import Status
from bayescale.fitting.batches import one_thread, program_once, stream_key
from bayescale.fitting.fit import NEAR, longer, reported
from bayescale.fitting.programs import best_mode
from bayescale.inference.diagnostics import Diagnostics, diagnose
from bayescale.inference.nuts import Nuts, begin_chain, find_mode, normal_around, run_chain
from bayescale.inference.reparam import DIFFERENCE, Geometry, constrain_reparam, linearise
from bayescale.model.parameters import compact
from bayescale.model.problem import Model, Problem
from bayescale.pooling.metrics_density import (
    Links,
    Parts,
    first_scores,
    joint_potential,
    link_length,
    read_curve,
    read_scores,
    stack_parts,
)
from bayescale.pooling.metrics_forecast import draw_levels
from bayescale.pooling.metrics_plan import Joint, MetricsPlan
from bayescale.posterior.posterior import Posterior

START_STREAM, CHAIN_STREAM, LEVEL_STREAM = 21, 22, 23
"""Random streams, separate from those of fits and pools."""
ROUNDS = 2
"""Largest number of continuations of chains that nearly agree."""
APART = 7
"""Number folded into a chain's key, for the random numbers of its starting point."""
CLOSER = 0.5
"""Standard deviation of the starting points of R and Q around the mode."""
FEW_DIVERGENT = 0.005
"""Fraction of divergent draws up to which chains count as converged if R-hat and effective sample sizes agree.

With such chains, ranks of correlations and forecasts in simulated data are uniform (docs/how-to/metrics.md).
"""
NOT_YET: Any = None
"""Placeholder for diagnostics that are computed next."""


class Component(NamedTuple):
    """Draws of one joint model.

    Attributes:
        fits: Draws of each metric by its name; draw i of all metrics belongs to one joint draw.
        links: Correlations between metrics, leading axes (chain, draw).
    """

    fits: dict[str, Posterior]
    links: Links

    @property
    def first(self) -> Posterior:
        """Draws of the first metric."""
        return next(iter(self.fits.values()))

    @property
    def diagnostics(self) -> Diagnostics:
        """Convergence measures of the joint chains."""
        return self.first.diagnostics

    def thinned(self, length: int) -> Component:
        """Return the component with `length` evenly spaced draws of each chain."""
        draws = self.first.unconstrained.shape[1]
        kept = np.arange(length) * draws // length
        links = Links(*(part[:, kept] for part in self.links))
        return Component({name: fit.thinned(length) for name, fit in self.fits.items()}, links)


def sample_plan(plan: MetricsPlan, seed: int, settings: Nuts, linked: bool = True) -> tuple[Component, ...]:
    """Sample the joint posterior of each component of a plan.

    Args:
        plan: The models and the rows.
        seed: Seed of all random numbers.
        settings: Settings of each component, see `plan.share`.
        linked: Whether metrics are correlated; False gives the product of the posteriors of the metrics alone.
    """
    with one_thread() if not plan.joint.complete else contextlib.nullcontext():
        starts = [begin_component(plan, number, seed, settings) for number in range(len(plan.jobs))]
        found = run_all(starts, plan, seed, settings, 0, linked)
        components = [
            make_component(plan, start, part, number, seed, settings, linked)
            for number, (start, part) in enumerate(zip(starts, found, strict=True))
        ]
        if settings.chains * settings.draws < settings.least_ess:
            return tuple(components)
        for attempt in range(1, 1 + ROUNDS):
            short = [i for i, part in enumerate(components) if only_short(part.diagnostics)]
            if not short:
                break
            more = run_all([starts[i] for i in short], plan, seed, settings, attempt, linked, [found[i] for i in short])
            for i, rest in zip(short, more, strict=True):
                found[i] = joined(found[i], rest)
                components[i] = make_component(plan, starts[i], found[i], i, seed, settings, linked)
        again = [i for i, part in enumerate(components) if part.diagnostics.status is not Status.OK]
        if again:
            slower = longer(settings)
            more = run_all([starts[i] for i in again], plan, seed, slower, 1 + ROUNDS, linked)
            for i, part in zip(again, more, strict=True):
                components[i] = make_component(plan, starts[i], part, i, seed, slower, linked)
    return tuple(components)


def only_short(tried: Diagnostics) -> bool:
    """Return whether more draws may suffice for convergence: chains nearly agree."""
    few = tried.status in (Status.NOT_MIXED, Status.FEW_DRAWS)
    return few and tried.largest_rhat < NEAR


def begin_component(plan: MetricsPlan, component: int, seed: int, settings: Nuts) -> Parts:
    """Return the models of a component, with the law of each metric linearised at the mode of the metric alone."""
    jobs, joint = plan.jobs[component], plan.joint

    def one(number: int) -> Geometry:
        job = jobs[number]
        words = stream_key(seed, START_STREAM, component * len(jobs) + number)
        rows = joint.y[number], joint.mask[number], joint
        with on_cores():
            return jax.tree.map(np.asarray, begin_metric(words, job.model, job.problem, rows, settings.mode_steps))

    program = "begin", settings.mode_steps, shape_of([(job.model, job.problem) for job in jobs]), shape_of(joint)
    geometries = in_threads(one, range(len(jobs)), program)
    return stack_parts(geometries, [job.model for job in jobs], [job.problem for job in jobs])


@functools.partial(jax.jit, static_argnames="steps")
def begin_metric(
    words: Array, model: Model, problem: Problem, rows: tuple[Array, Array, Joint], steps: int
) -> Geometry:
    """Return the law linearised at the mode of one metric alone, see `Parts`.

    Args:
        words: Raw data of a random key.
        model: Law, discrepancy and likelihood.
        problem: Rows of the metric alone.
        rows: Losses and mask of the metric at the rows of all metrics, and these rows.
        steps: Number of steps towards the mode.
    """
    mode = best_mode(key_of(words), model, problem, steps, False)
    geometry = linearise(mode, model, problem)
    (y, mask, joint), size = rows, len(geometry.pull)

    def at(along: Any) -> Any:
        reparam = jnp.concatenate([mode[:size] + geometry.directions @ along, mode[size:]])
        return read_curve(reparam, jnp.asarray(joint.z), geometry, model, problem).mean

    step = DIFFERENCE * jnp.eye(size)
    curves = lax.map(at, jnp.concatenate([step, -step, jnp.zeros((1, size))]))
    slope = (curves[:size] - curves[size:-1]) / (2.0 * DIFFERENCE)
    columns = mask * jnp.concatenate([slope, (y - curves[-1])[None]])
    return dataclasses.replace(geometry, columns=(columns @ joint.vectors).T)


def run_all(
    starts: Sequence[Parts],
    plan: MetricsPlan,
    seed: int,
    settings: Nuts,
    attempt: int,
    linked: bool,
    before: Sequence[Any] | None = None,
) -> list[Any]:
    """Run the chains of several components, one a thread.

    Args:
        starts: Models of each component.
        plan: The models and the rows.
        seed: Seed of all random numbers.
        settings: Settings of each component.
        attempt: Number of the attempt, with its own random numbers.
        linked: Whether metrics are correlated.
        before: Results of an earlier call whose chains are continued, or None for new chains.

    Returns:
        For each component the draws of the scores and statistics, leading axis chain, and the last states.
    """
    numbers = {name: np.float64(getattr(settings, name)) for name in ("target_accept", "least_ess")}
    settings = dataclasses.replace(settings, **numbers)

    def begin(number: int) -> Any:
        parts = starts[number]
        words = np.stack(
            [stream_key(seed, CHAIN_STREAM + 10 * attempt, 64 * number + i) for i in range(settings.chains)]
        )
        with on_cores():
            return jax.tree.map(np.asarray, begin_chains(words, parts, plan.joint, settings, linked))

    shape = shape_of((starts[0], plan.joint, settings)), linked
    if before is None:
        begun = in_threads(begin, range(len(starts)), ("start", shape))
    else:
        begun = [part["end"] for part in before]
    tasks = [(number, chain) for number in range(len(starts)) for chain in range(settings.chains)]

    def run(task: tuple[int, int]) -> Any:
        number, chain = task
        start, states = begun[number]
        state = jax.tree.map(lambda leaf: leaf[chain], states)
        with on_cores():
            found = run_one(start, state, starts[number], plan.joint, settings, linked)
            return jax.tree.map(np.asarray, found)

    chains = in_threads(run, tasks, ("run", shape))
    result = []
    for number in range(len(starts)):
        own = chains[number * settings.chains : (number + 1) * settings.chains]
        drawn, states = jax.tree.map(lambda *leaves: np.stack(leaves), *own)
        result.append({"chains": drawn, "end": (begun[number][0], states)})
    return result


def joined(first: Any, rest: Any) -> Any:
    """Return the draws of chains and of their continuation, with the last states of the continuation."""
    both = jax.tree.map(lambda a, b: np.concatenate([a, b], axis=1), first["chains"], rest["chains"])
    return {"chains": both, "end": rest["end"]}


@functools.partial(jax.jit, static_argnames="linked")
def begin_chains(words: Array, parts: Parts, joint: Joint, settings: Nuts, linked: bool) -> Any:
    """Return the mode of the joint density, and a starting point around it for each chain."""

    def potential(vector: Any) -> Any:
        return joint_potential(vector, parts, joint, linked)

    scores = first_scores(parts, joint, linked)
    mode, _ = find_mode(potential, scores, settings.mode_steps)
    keys = jax.vmap(key_of)(words)
    scale = jnp.ones(len(scores)).at[len(scores) - link_length(len(joint.mask), linked) :].set(CLOSER)
    apart = jax.vmap(lambda key: scale * jax.random.normal(jax.random.fold_in(key, APART), scores.shape, float))(keys)
    start, around = normal_around(potential, mode, apart)
    return start, jax.vmap(begin_chain, (0, None, 0))(keys, start, around)


@functools.partial(jax.jit, static_argnames="linked")
def run_one(start: Any, state: Any, parts: Parts, joint: Joint, settings: Nuts, linked: bool) -> Any:
    """Return the draws of one chain of the joint density, and its last state."""
    return run_chain(lambda vector: joint_potential(vector, parts, joint, linked), start, settings, state)


@functools.partial(jax.jit, static_argnames="linked")
def constrain_all(scores: Array, parts: Parts, joint: Joint, linked: bool) -> Any:
    """Return the parameters and constrained values of each metric, and the correlations, for chains of scores.

    Args:
        scores: Shape (chain, draw, score).
        parts: The models.
        joint: The rows.
        linked: Whether metrics are correlated.
    """

    def one(vector: Any) -> Any:
        point = read_scores(vector, parts, joint, linked)
        own = [parts.of(number)[1:] for number in range(len(joint.mask))]
        found = [constrain_reparam(part, *model)[:2] for part, model in zip(point.reparam, own, strict=True)]
        return found, point.links

    return lax.map(lambda chain: lax.map(one, chain), scores)


def shape_of(tree: Any) -> Any:
    """Return what determines the compiled program of a tree of arrays."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((np.shape(leaf), np.result_type(leaf)) for leaf in leaves)


def in_threads(function: Any, tasks: Sequence[Any], program: Any) -> list[Any]:
    """Apply a function to tasks, one a thread; the first alone if its program is not compiled yet."""

    def one(task: Any) -> Any:
        with program_once(program):
            return function(task)

    with ThreadPoolExecutor() as threads:
        return list(threads.map(one, tasks))


def make_component(
    plan: MetricsPlan, parts: Parts, found: Any, number: int, seed: int, settings: Nuts, linked: bool
) -> Component:
    """Return the draws of one joint model with their diagnostics.

    Args:
        plan: The models and the rows.
        parts: The models, linearised.
        found: Result of `run_all`.
        number: Index of the component.
        seed: Seed of all random numbers.
        settings: Settings of the chains.
        linked: Whether metrics are correlated.
    """
    chains = found["chains"]
    settings = dataclasses.replace(settings, draws=chains.position.shape[1])
    stats = {
        "diverging": chains.diverging,
        "acceptance_rate": chains.accept,
        "n_steps": chains.steps,
        "energy": chains.energy,
        "step_size": chains.step_size,
    }
    with on_cores():
        own, links = jax.tree.map(np.asarray, constrain_all(chains.position, parts, plan.joint, linked))
    fits = {
        name: Posterior(job, seed, settings, vector, compact(values), stats, NOT_YET)
        for name, job, (vector, values) in zip(plan.names, plan.jobs[number], own, strict=True)
    }
    component = draw_levels(Component(fits, links), plan.joint, stream_key(seed, LEVEL_STREAM, number))
    length = link_length(len(plan.names), linked)
    return diagnosed(component, chains.position[..., chains.position.shape[-1] - length :])


def diagnosed(component: Component, vectors: np.ndarray) -> Component:
    """Return a component with the diagnostics of its chains; `vectors` are the parameters of R and Q."""
    fits = component.fits
    first = component.first
    position = np.concatenate([*(fit.unconstrained for fit in fits.values()), vectors], axis=-1)
    told = np.concatenate([reported(fit) for fit in fits.values()], axis=-1)
    least = float(first.settings.least_ess)
    diverging = first.stats["diverging"]
    few = diverging.mean() <= FEW_DIVERGENT
    measures = diagnose(position, diverging & (not few), first.stats["energy"], least, told)
    measures = dataclasses.replace(measures, divergences=int(diverging.sum()))
    return component._replace(fits={name: dataclasses.replace(fit, diagnostics=measures) for name, fit in fits.items()})
