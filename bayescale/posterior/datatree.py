"""Conversion of fits to xarray DataTrees with ArviZ's groups."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import pandas as pd

from bayescale import __version__
from bayescale.data.runs import RECOGNISED, Runs
from bayescale.posterior.encoding import (
    digest_of,
    digest_of_attributes,
    encode,
    encode_diagnostics,
    encode_prior,
    encode_scale,
    encode_table,
    encode_values,
    law_print,
)
from bayescale.posterior.fitted import Fitted, component_labels, component_names
from bayescale.posterior.loo import log_likelihood
from bayescale.posterior.posterior import Posterior, log_posterior, varying
from bayescale.posterior.prior import prior_draws, prior_predictive

FORMAT = 7
"""Version of the file layout; it increases when files of the previous version can no longer be read."""
DIMENSIONS = ("chain", "draw")
RESERVED = ("chain", "draw", "run", "setting")
"""Names of dimensions, which no variable may have."""
PREDICTED = 1000
"""Largest number of rows for which a file contains forecasts; for ten thousand they would take 300 MB."""
LONGEST = 30_000
"""Longest text of an attribute; HDF5 allows twice as much."""


def to_datatree(fit: Fitted, *, derived: bool = True, key: str | None = None) -> Any:
    """Return a fit as an `xarray.DataTree` with ArviZ's groups.

    The groups of a posterior are:

    - posterior and unconstrained_posterior (the sampled vector, one variable a parameter);
    - sample_stats, observed_data, constant_data;
    - log_likelihood: log density of each row given all others, on the log scale (burkner2021loo); where rows were
      averaged or merged, of each setting;
    - prior; and, for at most a thousand rows, posterior_predictive and prior_predictive (runs at the fitted inputs);
    - values (draws at the reference scale) and fit (original names, all columns, settings as text), which only
      loading needs.

    In all of them the dimension `run` holds the rows; its coordinate is the name of the run where names are unique.

    A mixture has one child tree for each component, because each component converges by itself. ArviZ reads a child as
    any posterior. Its name identifies the model: `component_present`, `component_absent` or `component_power` for the
    default of one input (see `priors.PLATEAUS`). Its attributes are `component`, a description, and `weight`. The
    parent tree has posterior_predictive, observed_data and constant_data of the mixture; the coordinate `component` of
    posterior_predictive gives the component of each draw. There is no posterior group of the mixture, because its
    components have different constants and chains of different models do not mix.

    If `tree` is the result, `az.summary(tree["component_present"])` summarises a component, and `az.summary(tree,
    group="posterior_predictive", kind="stats")` the mixture's forecast of each run.

    Args:
        fit: The fit to convert.
        derived: Include the groups that take longer to compute than to sample: log_likelihood, prior and the predictive
            groups.
        key: Value by which a folder of results finds this posterior, stored as an attribute; see `archive`.
    """
    import xarray as xr

    if len(fit.components) == 1:
        groups = posterior_groups(fit.first, derived)
    else:
        groups = data_groups(fit)
        if derived and len(fit.runs) <= PREDICTED:
            groups["posterior_predictive"] = predicted(fit)
        for name, part in zip(component_names(fit), fit.components, strict=True):
            own = posterior_groups(part, derived)
            groups |= {f"{child(name)}/{group}": values for group, values in own.items()}
    tree = xr.DataTree.from_dict(groups)
    if len(fit.components) > 1:
        told = zip(component_names(fit), component_labels(fit), fit.weights, fit.components, strict=True)
        for name, label, weight, part in told:
            tree[child(name)].attrs = attributes(part) | {"component": label, "weight": weight}
    tree.attrs = attributes(fit) | ({} if key is None else {"archive_key": key})
    tree.attrs["digests"] = json.dumps({name: digest_of(arrays_of(tree[name])) for name in groups})
    tree.attrs["digest"] = digest_of_attributes(tree.attrs)
    return tree


def child(name: str) -> str:
    """Return the name of the child tree of a component; see `component_names`."""
    return f"component_{name}"


def dataset(variables: Mapping[str, Any], index: Mapping[str, Any], *dimensions: str) -> Any:
    """Return a dataset of variables that have the same dimensions, with their coordinates."""
    import xarray as xr

    data = {name: (dimensions, np.asarray(value)) for name, value in readable(variables).items()}
    return xr.Dataset(data, coords={name: index[name] for name in dimensions if name in index})


def indexes(fit: Fitted) -> dict[str, np.ndarray]:
    """Return the coordinates of the dimensions of a fit's joined draws and rows."""
    chains, draws = fit.folded(np.empty(sum(chains * draws for chains, draws in fit.layout))).shape
    return {"chain": np.arange(chains), "draw": np.arange(draws), "run": run_labels(fit.runs.frame)}


def run_labels(frame: pd.DataFrame) -> np.ndarray:
    """Return the names of the runs, one a row, or numbers from 0 where names are absent or not unique."""
    if "run" in frame and frame["run"].is_unique:
        return frame["run"].astype(str).to_numpy(dtype=object)
    return np.arange(len(frame))


def data_groups(fit: Fitted) -> dict[str, Any]:
    """Return the groups observed_data and constant_data."""
    frame, index = fit.runs.frame, indexes(fit)
    # All columns are in group "fit"; the groups that ArviZ shows contain the columns that the fit used.
    response = variable(fit.runs)
    kept = [name for name in frame if name in (*RECOGNISED, *fit.runs.inputs) and name not in ("loss", response)]
    kept = [name for name in kept if name != "run" or not frame["run"].is_unique]
    constant = {
        name: frame[name].astype(str).to_numpy(dtype=object) if frame[name].dtype.kind not in "biuf" else frame[name]
        for name in kept
    }
    return {
        "observed_data": dataset({response: frame[response]}, index, "run"),
        "constant_data": dataset(constant, index, "run"),
    }


def variable(runs: Runs) -> str:
    """Return the name of the response in groups: "value" for values, else "loss" (for scores, of the odds)."""
    return "loss" if runs.value is None else "value"


def predicted(fit: Fitted) -> Any:
    """Return the group posterior_predictive: future runs at the fitted inputs, with the component of each draw."""
    forecast = fit.forecast_at(fit.runs.frame, "run")
    group = dataset({variable(fit.runs): forecast.draws}, indexes(fit), *DIMENSIONS, "run")
    if len(fit.components) == 1:
        return group
    sizes = [chains * draws for chains, draws in fit.layout]
    whose = fit.folded(np.repeat(np.array(component_names(fit), dtype=object), sizes))
    # Components with equally many draws keep their chains; otherwise all draws form one chain.
    along = (("chain",), whose[:, 0]) if len(whose) > 1 else (("draw",), whose[0])
    return group.assign_coords(component=along)


def posterior_groups(posterior: Posterior, derived: bool) -> dict[str, Any]:
    """Return the groups of the posterior of one model; see `to_datatree`."""
    import xarray as xr

    frame, index = posterior.runs.frame, indexes(posterior)
    unconstrained = dict(zip(posterior.names, np.moveaxis(posterior.unconstrained, -1, 0), strict=True))
    cards, columns = encode_table(frame)
    values = encode_values(posterior.values)
    text = np.frombuffer(json.dumps(document(posterior, cards)).encode(), np.uint8)
    groups = {
        "posterior": dataset(varying(posterior.draws), index, *DIMENSIONS),
        "unconstrained_posterior": dataset(unconstrained, index, *DIMENSIONS),
        "sample_stats": dataset(statistics(posterior, derived), index, *DIMENSIONS),
        **data_groups(posterior),
        "values": xr.Dataset({name: (own_dimensions(array), array) for name, array in values.items()}),
        "fit": xr.Dataset({"text": ("byte", text), **{name: ("row", values) for name, values in columns.items()}}),
    }
    if derived:
        densities, by_run = log_likelihood(posterior)
        response, along = variable(posterior.runs), "run" if by_run else "setting"
        groups["log_likelihood"] = dataset({response: densities}, index, *DIMENSIONS, along)
        prior = prior_draws(posterior)
        before = {"chain": np.arange(1), "draw": np.arange(prior.unconstrained.shape[1]), "run": index["run"]}
        groups["prior"] = dataset(varying(prior.draws), before, *DIMENSIONS)
        if len(frame) <= PREDICTED:
            groups["posterior_predictive"] = predicted(posterior)
            if (simulated := prior_predictive(prior)) is not None:
                groups["prior_predictive"] = dataset({response: simulated[None]}, before, *DIMENSIONS, "run")
    return groups


def statistics(posterior: Posterior, derived: bool) -> dict[str, np.ndarray]:
    """Return the group sample_stats: statistics of the chains by ArviZ's names."""
    found = dict(posterior.stats)
    if "n_steps" in found:
        # A tree of depth d has taken 2^(d - 1) to 2^d - 1 steps.
        found["tree_depth"] = np.ceil(np.log2(found["n_steps"] + 1.0)).astype(int)
    if derived:
        found["lp"] = log_posterior(posterior)
    return found


def own_dimensions(array: np.ndarray) -> tuple[str, ...]:
    """Return new dimension names for one array; arrays that only loading needs share no dimensions."""
    return tuple(f"axis_{number}_of_{size}" for number, size in enumerate(array.shape))


def readable(variables: Mapping[Any, Any]) -> dict[str, Any]:
    """Rename variables as netCDF requires: no slashes, no name of a dimension, no two equal names."""
    named: dict[str, Any] = {}
    for name, values in variables.items():
        safe = re.sub(r"[/\x00-\x1f]", "_", str(name)).strip() or "_"
        while safe in (*RESERVED, ".", "..") or safe in named:
            safe += "_"
        named[safe] = values
    return named


def arrays_of(group: Any) -> dict[str, np.ndarray]:
    """Return the arrays of one group of a tree by name, including coordinates."""
    return {str(name): values.to_numpy() for name, values in group.to_dataset(inherit=False).variables.items()}


def document(posterior: Posterior, cards: list[dict[str, Any]]) -> dict[str, Any]:
    """Return everything except arrays from which a posterior is rebuilt, as plain values.

    Args:
        posterior: The posterior to write.
        cards: Descriptions of the columns of its runs, see `encode_table`.
    """
    job = posterior.job
    return {
        "name": job.runs.name,
        "columns": cards,
        "inputs": job.law.inputs,
        "one_ray": job.runs.one_ray,
        "left_out": None if job.runs.left_out is None else job.runs.left_out.to_dict("list"),
        "response": job.runs.response,
        "score": None if job.runs.score is None else dataclasses.asdict(job.runs.score),
        "value": None if job.runs.value is None else dataclasses.asdict(job.runs.value),
        "log": [dataclasses.asdict(entry) for entry in job.runs.log],
        "law": job.law.name,
        "law_print": law_print(job.law),
        "priors": {key: encode_prior(prior) for key, prior in job.law.priors.items()},
        "discrepancy": None if job.discrepancy is None else encode(job.discrepancy),
        "likelihood": encode(job.likelihood),
        "ray": None if job.ray is None else dataclasses.asdict(job.ray),
        "design": job.design,
        "prior_scale": None if job.prior_scale is None else encode_scale(job.prior_scale),
        "seed": int(posterior.seed),
        "settings": encode(posterior.settings),
        "diagnostics": encode_diagnostics(posterior.diagnostics),
    }


def attributes(fit: Fitted) -> dict[str, Any]:
    """Return the attributes of a file: law, priors, settings, provenance, weights."""
    import numpyro

    whole: dict[str, Any] = {"bayescale_format": FORMAT}
    if len(fit.components) > 1:
        whole["weights"] = json.dumps(fit.weights)
        whole["components"] = json.dumps(component_names(fit))
    if fit.stacking is not None:
        whole["stacking"] = fit.stacking.encode()
    posterior = fit.first
    job = posterior.job
    settings = {name: value for name, value in encode(posterior.settings).items() if name != "role"}
    texts = {
        "inference_library": "bayescale",
        "inference_library_version": __version__,
        "creation_library": "bayescale",
        "created_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "bayescale_version": __version__,
        "jax_version": jax.__version__,
        "numpyro_version": numpyro.__version__,
        "name": job.runs.name,
        "inputs": json.dumps(job.law.inputs),
        "ray": json.dumps(None if job.ray is None else dataclasses.asdict(job.ray)),
        "data_hash": job.runs.digest,
        "law": fit.law_names,
        "priors": json.dumps({key: encode_prior(prior) for key, prior in job.law.priors.items()}),
        "discrepancy": json.dumps(None if job.discrepancy is None else encode(job.discrepancy)),
        "likelihood": json.dumps(encode(job.likelihood)),
        "settings": json.dumps(settings),
        "status": fit.status.name,
    }
    return {
        **whole,
        "seed": int(posterior.seed),
        **{name: str(text).replace("\0", "")[:LONGEST] for name, text in texts.items()},
    }
