"""The model as an ordinary NumPyro function of the raw rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from bayescale.data.design import Design, reduce_runs
from bayescale.data.runs import Runs
from bayescale.errors import InputError
from bayescale.laws.law import Law
from bayescale.model.density import offset, within_likelihood
from bayescale.model.discrepancy import Discrepancy, kernel, resolve_discrepancy
from bayescale.model.evaluations import Dense
from bayescale.model.likelihood import Likelihood, resolve_likelihood
from bayescale.model.parameters import coordinates, draw
from bayescale.model.prepare import axis_positions, components, prepare
from bayescale.model.problem import Model, Problem


def numpyro_model(runs: Runs, law: Law, discrepancy: Discrepancy | None, likelihood: Likelihood) -> Callable[[], None]:
    """Return the model as an ordinary NumPyro function of no arguments.

    It is written on the raw rows (averages of long curves) with one dense covariance, so it is slow and easy to check;
    the engine samples the same posterior. Hand it to `MCMC(NUTS(model))`, to `Predictive`, or to any other NumPyro
    tool.

    Raises:
        InputError: For a law that is fitted as a mixture of two models.
    """
    if len(components(law)) > 1:
        raise InputError(
            f"{law.name or 'This law'} is fitted as a mixture of two models, with a plateau and without. Ask for each: "
            "with Plateaus(plateau='present') or Plateaus(plateau='absent') among its priors."
        )
    discrepancy = resolve_discrepancy(discrepancy, len(law.axes or law.inputs))
    likelihood = resolve_likelihood(likelihood, len(law.inputs))
    design = reduce_runs(runs, exempt=law.exempt)
    latent = prepare(law, discrepancy, likelihood, design)[1].latent
    if not latent:
        design = reduce_runs(runs, collapse=False, exempt=law.exempt)
    model, problem = prepare(law, discrepancy, likelihood, design)
    problem = dataclasses.replace(trimmed(model.law, problem, design, discrepancy), latent=latent)
    groups = list({tuple(row): None for row in np.asarray(design.alike)})

    def program() -> None:
        values = draw(numpyro.sample, model, problem)
        for name, value in values.constants.items():
            if name not in numpyro_sites(model, problem):
                numpyro.deterministic(name, value)
        mean = offset(model, problem, values)
        covariance = problem.evaluation.row_covariance(values, problem)
        if model.likelihood.tail is None:
            if model.law.level:
                covariance = covariance + model.law.level[1].sd ** 2
            numpyro.sample("y", dist.MultivariateNormal(mean, covariance), obs=problem.y)
        elif latent:
            numpyro.sample("y", dist.MultivariateNormal(mean, covariance), obs=problem.y)
            numpyro.factor("replicates", within_likelihood(values, problem))
        else:
            for number, members in enumerate(groups):
                rows = np.flatnonzero(members)
                factor = jnp.linalg.cholesky(covariance[np.ix_(rows, rows)])
                spread = dist.MultivariateStudentT(model.likelihood.tail, mean[rows], factor)
                numpyro.sample(f"y_{number}", spread, obs=problem.y[rows])

    return program


def numpyro_sites(model: Model, problem: Problem) -> set[str]:
    """Names of the sampled sites, which deterministic ones must not repeat."""
    return {name.split("[")[0] for name in coordinates(model, problem)}


def trimmed(law: Law, problem: Problem, design: Design, discrepancy: Discrepancy | None) -> Problem:
    """Return a problem without padding and with all dense matrices, whatever the engine would choose."""
    rows = len(design.y)
    place = axis_positions(law, problem, law.coordinates(design.z).min(0), design.z)
    return dataclasses.replace(
        problem,
        z=np.asarray(design.z, float),
        y=np.asarray(design.y, float),
        mask=np.ones(rows),
        count=np.asarray(design.count, float),
        squares=np.asarray(design.squares, float),
        error=np.asarray(design.error, float),
        seed_part=np.diag(design.shared),
        evaluation=Dense(
            np.zeros((rows, rows)) if discrepancy is None else kernel(place, place, discrepancy),
            np.asarray(design.shared, float),
            np.asarray(design.alike, float),
            None,
        ),
    )
