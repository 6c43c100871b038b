"""Simulation of constants, runs and future runs from the priors of a plan."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from bayescale._jax import on_cores
from bayescale.fitting.plan import FitPlan
from bayescale.model.discrepancy import innovation_kernel, kernel
from bayescale.model.level import marginal_level
from bayescale.model.parameters import simulate_prior
from bayescale.model.prepare import axis_positions
from bayescale.model.problem import Job, Values, row_variance
from bayescale.posterior.predictive import law_at, run_variance, standard_paths, trend_ahead


def owners(plan: FitPlan, simulations: int) -> np.ndarray:
    """Return the index of the component for each simulation, in order and in proportion to the weights."""
    ends = np.round(np.cumsum(plan.weights) * simulations - 1e-9)
    return np.searchsorted(ends, np.arange(simulations), side="right")


def prior_values(plan: FitPlan, simulations: int, seed: int) -> tuple[np.ndarray, Values]:
    """Draw unconstrained parameters, shape (simulation, parameter), and constrained values from the prior."""
    counts = np.bincount(owners(plan, simulations), minlength=len(plan.jobs))
    with on_cores():
        root = jax.random.key(seed)
        keys = jax.random.split(jax.random.fold_in(root, 0), simulations)
        shares = jnp.split(keys, np.cumsum(counts)[:-1].tolist())
        drawn = [
            jax.vmap(lambda key, job=job: simulate_prior(key, job.model, job.problem))(some)
            for some, job in zip(shares, plan.jobs, strict=True)
        ]
        position, values = jax.tree.map(lambda *leaf: jnp.concatenate(leaf), *drawn)
        model = plan.jobs[0].model
        if marginal_level(model):
            assert model.law.level is not None, "a law with a level"
            spread = model.law.level[1].sd * jax.random.normal(jax.random.fold_in(root, 1), (simulations,))
            values = values._replace(level=spread)
        filled = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (simulations, *jnp.shape(leaf)[1:])), values)
        return np.asarray(position), jax.tree.map(np.asarray, filled)


def simulate(job: Job, values: Values, new: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Simulate ln loss of fitted rows, (bucket,), and of future runs, (ratio,), for one draw with leading axis 1."""
    model, problem = job.model, job.problem
    rows = int(problem.mask.sum())
    z = np.concatenate([np.asarray(problem.z)[:rows], new])
    mean = law_at(model, values.constants, z)[0] + values.level[0]
    if not model.law.level:
        mean = mean - float(problem.center)
    if model.discrepancy is not None:
        mean = mean + simulate_path(job, values, z, rng)
    single = jax.tree.map(lambda leaf: leaf[0], values)
    variance = np.asarray(row_variance(single, problem))[:rows]
    future = np.full(len(new), run_variance(single, problem))
    noise = np.sqrt(np.concatenate([variance, future])) * rng.standard_normal(len(z))
    if model.likelihood.tail is not None:
        half = 0.5 * float(model.likelihood.tail)
        noise = noise / np.sqrt(rng.gamma(half, 1.0 / half, size=len(z)))
    y = np.zeros(len(problem.y))
    y[:rows] = (mean + noise)[:rows]
    return y, (mean + noise)[rows:]


def simulate_path(job: Job, values: Values, z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Simulate the discrepancy at the fitted rows and at further points, shape (row + point,).

    Args:
        job: A model with discrepancy.
        values: One draw, leading axis 1.
        z: ln(x / reference) of the fitted rows and of the points, shape (row + point, input).
        rng: Generator of random numbers.
    """
    model, problem, rows = job.model, job.problem, job.problem.rows
    discrepancy = model.discrepancy
    assert discrepancy is not None, "a model with discrepancy"
    position = axis_positions(model.law, problem, job.low, z)
    fresh = innovation_kernel(position[rows:], position[:rows], discrepancy)
    carried = kernel(position, position, discrepancy)
    carried[rows:, rows:] -= fresh
    path = standard_paths(carried, 1, rng)[0]
    factor = discrepancy.median_factor(rows) * np.exp(float(discrepancy.ahead) * rng.standard_normal())
    path[rows:] += factor * standard_paths(fresh, 1, rng)[0]
    path = values.amplitude[0] * path
    curve = law_at(model, values.constants, z)
    path[rows:] += trend_ahead(model, problem, job.low, values, curve, z[rows:], np.array([factor]))[0]
    return path
