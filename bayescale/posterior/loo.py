"""Leave-one-out cross-validation of a fit; for a mixture, of the mixture's own forecasts."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from bayescale.model.density import pointwise
from bayescale.model.evaluations.counts import empty
from bayescale.model.numpyro import raw_problem
from bayescale.model.problem import RANGE
from bayescale.posterior.fitted import Fitted
from bayescale.posterior.posterior import Posterior

MOST_ROWS = 300
"""Most runs with replicates whose densities are computed singly, which takes a factorisation for each draw."""


def log_likelihood(posterior: Posterior) -> tuple[np.ndarray, bool]:
    """Return the log density of each row given all others, of one model, shape (chain, draw, row).

    Returns:
        The densities, and whether their rows are the runs in order. Where long curves were averaged, or where
            replicates share a heavy-tailed residual, there is one row for each setting instead.
    """
    job, draws, problem = posterior.job, posterior.unconstrained.shape[1], posterior.job.problem
    values = posterior.flat_values
    # Counts of a sampled range, or with a concentration, have no normal density of single replicates.
    normal = job.likelihood.tail is None and all(empty(getattr(values, name)) for name in RANGE)
    if problem.replicated and normal and len(job.runs) <= MOST_ROWS:
        # Each replicate separately.
        problem = raw_problem(job, job.runs)
        values = values._replace(weights=np.ones((len(values.level), problem.rows)))
    by_run = problem.rows == len(job.runs)
    flat = pointwise(values, job.model, problem)
    if by_run and problem.evaluation.sequential:
        # The rows of this problem are in the order of the input.
        order = np.argsort(job.runs.frame[job.law.inputs[0]].to_numpy(float), kind="stable")
        flat = flat[:, np.argsort(order, kind="stable")]
    return flat.reshape(-1, draws, flat.shape[-1]), by_run


def elpd(posterior: Posterior) -> float:
    """Return the expected log predictive density of all rows of one model, as `loo` estimates it.

    It gives no warning about influential rows, so that several threads may call it: Python cannot suppress warnings in
    one thread only.
    """
    from arviz_stats.base import array_stats

    values, _ = log_likelihood(posterior)
    rows = values.reshape(-1, values.shape[-1]).T
    with np.errstate(all="ignore"):
        weights, _ = array_stats.psislw(rows)
    each = np.logaddexp.reduce(weights + rows, axis=1) - np.logaddexp.reduce(weights, axis=1)
    return float(each.sum())


def loo(fit: Fitted) -> Any:
    """Estimate the expected log predictive density of each row when left out, by Pareto-smoothed importance sampling.

    For a mixture it is the logarithm of the weighted mean of the components' leave-one-out densities. (If densities
    were averaged over the joined draws of all components, as ArviZ would do, the result would be a harmonic mean, which
    is the density of neither a component nor the mixture.)

    Args:
        fit: A posterior or a mixture.

    Returns:
        ArviZ's `ELPDData`, on the scale of ln(loss), with `elpd_i` and `pareto_k` for each row; for `az.compare`.

    References:
        vehtari2017psis; burkner2021loo for rows that are not independent.

    Example:
        >>> post.loo().elpd  # doctest: +SKIP
    """
    import xarray as xr
    from arviz_stats.loo import loo as arviz_loo

    found = []
    for part in fit.components:
        values, _ = log_likelihood(part)
        data = xr.Dataset({"loss": (("chain", "draw", "run"), values)})
        tree = xr.DataTree.from_dict({"posterior": data, "log_likelihood": data})
        found.append((arviz_loo(tree, pointwise=True, var_name="loss"), values))
    first, _ = found[0]
    if len(found) == 1:
        return first
    log_weights = np.log(fit.weights)[:, None]
    elpd = np.logaddexp.reduce(log_weights + np.stack([part.elpd_i.to_numpy() for part, _ in found]), axis=0)
    # Log density of the mixture at each row when no row is left out.
    seen = [np.logaddexp.reduce(v.reshape(-1, v.shape[-1]), axis=0) - np.log(v[..., 0].size) for _, v in found]
    within = np.logaddexp.reduce(log_weights + np.stack(seen), axis=0)
    pareto = np.max([part.pareto_k.to_numpy() for part, _ in found], axis=0)
    return dataclasses.replace(
        first,
        elpd=float(elpd.sum()),
        se=float(np.sqrt(len(elpd) * elpd.var())),
        p=float((within - elpd).sum()),
        n_samples=sum(part.n_samples for part, _ in found),
        warning=any(part.warning for part, _ in found),
        elpd_i=first.elpd_i.copy(data=elpd),
        pareto_k=first.pareto_k.copy(data=pareto),
    )
