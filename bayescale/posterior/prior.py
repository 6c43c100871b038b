"""Draws from the prior of a fit, and runs simulated from the prior."""

from __future__ import annotations

import dataclasses

import numpy as np

from bayescale.model.discrepancy import eigenbasis
from bayescale.model.evaluations import Dense
from bayescale.model.level import level_variance, marginal_level
from bayescale.model.numpyro import raw_problem
from bayescale.model.parameters import constrain_draws
from bayescale.posterior.posterior import Posterior
from bayescale.posterior.predictive import law_at

DRAWS = 1000
"""Number of prior draws that are stored with a posterior."""


def prior_draws(posterior: Posterior) -> Posterior:
    """Return the prior of a fit as a `Posterior`: one chain of independent draws, without statistics."""
    job, position = posterior.job, posterior.prior_draws[None, :DRAWS]
    values = constrain_draws(position, job.model, job.problem)
    if marginal_level(job.model):
        rng = np.random.default_rng([posterior.seed, 2])
        level = np.sqrt(float(level_variance(job.model))) * rng.standard_normal(position.shape[:2])
        values = values._replace(level=level)
    return dataclasses.replace(posterior, unconstrained=position, values=values, stats={})


def prior_predictive(prior: Posterior) -> np.ndarray | None:
    """Simulate the response of the fitted rows from the prior, shape (draw, row).

    None where rows were averaged or merged. For scores it is the odds against a right answer; if the range or a
    concentration is sampled, it is the score.

    Args:
        prior: Result of `prior_draws`.
    """
    job, values = prior.job, prior.flat_values
    problem = raw_problem(job, job.runs)
    if problem.rows != len(job.runs) or problem.replicated:
        return None
    assert isinstance(problem.evaluation, Dense), "a problem of raw rows"
    rng = np.random.default_rng([prior.seed, 3])
    draws, rows = len(values.level), problem.rows
    mean = law_at(job.model, values.constants, problem.z) + np.asarray(values.level)[:, None]
    if not job.model.law.level:
        mean = mean - float(problem.center)
    if job.model.discrepancy is not None:
        power, vectors = eigenbasis(np.asarray(problem.evaluation.covariance))
        root = vectors * np.sqrt(power)
        mean = mean + np.asarray(values.amplitude)[:, None] * (rng.standard_normal((draws, rows)) @ root.T)
    # Without latent precisions, all weights are one.
    weights = values.weights if problem.latent else np.ones((draws, rows))
    scatter = problem.evaluation.draw_scatter(values._replace(weights=weights), problem, rng)
    if job.model.likelihood.tail is not None and not problem.latent:
        half = 0.5 * float(job.model.likelihood.tail)
        scatter = scatter / np.sqrt(rng.gamma(half, 1.0 / half, size=scatter.shape))
    # Simulated losses may overflow to infinity, which shows how wide the prior is.
    with np.errstate(over="ignore"):
        simulated = float(problem.center) + mean + scatter
        if (drawn := prior.drawn_score) is not None:
            # Odds in a range that differs between draws cannot be compared, so these are scores.
            return drawn.run(drawn.response(simulated), rng)
        return np.exp(simulated) if job.runs.value is None else job.runs.value.response(simulated)
