"""Leave-one-out cross-validation of a posterior, and of a pool of two models as the mixture that it forecasts with."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from bayescale.likelihood import pointwise
from bayescale.model import pooled
from bayescale.posterior import Posterior


def model_likelihoods(posterior: Posterior) -> dict[str, np.ndarray]:
    """Log density of each row given all others, by variable, shape (chain, draw, row) each.

    A single model has the variable "loss". A pool has "loss_model_0" and "loss_model_1", each with its own half of the
    chains: averaged together, as ArviZ would, densities of the two models give their harmonic mean, which is the
    density of neither model nor of their mixture.
    """
    job, draws = posterior.job, posterior.position.shape[1]
    if job.problem.second is None:
        flat = pointwise(posterior.flat_values, job.model, job.problem)
        return {"loss": flat.reshape(-1, draws, flat.shape[-1])}
    found = [pointwise(own, job.model, problem) for problem, own in pooled(job.problem, posterior.flat_values)]
    return {f"loss_model_{number}": flat.reshape(-1, draws, flat.shape[-1]) for number, flat in enumerate(found)}


def loo(posterior: Posterior) -> Any:
    """Estimate the expected log predictive density of each row, left out, by Pareto-smoothed importance sampling.

    Of a pool of two models it is that of their equal mixture: the logarithm of the mean of both densities.

    Args:
        posterior: The fit.

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
    for name, values in model_likelihoods(posterior).items():
        data = xr.Dataset({name: (("chain", "draw", "config"), values)})
        tree = xr.DataTree.from_dict({"posterior": data, "log_likelihood": data})
        found.append((arviz_loo(tree, pointwise=True, var_name=name), values))
    first, values = found[0]
    if len(found) == 1:
        return first
    elpd = np.logaddexp.reduce([part.elpd_i.to_numpy() for part, _ in found], axis=0) - np.log(len(found))
    # What the mixture says of rows that it has seen.
    seen = [np.logaddexp.reduce(v.reshape(-1, v.shape[-1]), axis=0) - np.log(v[..., 0].size) for _, v in found]
    within = np.logaddexp.reduce(seen, axis=0) - np.log(len(found))
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
