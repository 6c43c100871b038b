"""Storage: posteriors as xarray DataTrees in netCDF files that ArviZ opens; never pickle."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

from bayescale import __version__, laws, priors
from bayescale.data.ray import Ray
from bayescale.diagnostics import Diagnostics, diagnose, joined
from bayescale.drift import Drift
from bayescale.errors import InputError, Status
from bayescale.likelihood import pointwise
from bayescale.model import Job, Values, compact, make_job, meaning
from bayescale.noise import Noise
from bayescale.nuts import Nuts
from bayescale.posterior import Posterior
from bayescale.runs import LABELS, RECOGNISED, Runs

FORMAT = 3
"""Version of the file layout; raised when an older reader could not understand a newer file."""
DIMENSIONS = ("chain", "draw")
PREDICTED = 1000
"""Most rows with a forecast of their own in a file; ten thousand would take 300 MB."""


def to_datatree(posterior: Posterior, *, derived: bool = True) -> Any:
    """Return a posterior as an `xarray.DataTree` with ArviZ's groups.

    Groups: posterior, sample_stats, observed_data, constant_data, posterior_predictive (future runs at the fitted
    inputs, if there are at most a thousand rows), log_likelihood (each row, or average, given all others, on the log
    scale: burkner2021loo), and coordinates (the sampled vector, from which everything else is rebuilt on loading).

    Args:
        posterior: What to convert.
        derived: Include the groups that take longer to compute than to sample: posterior_predictive, log_likelihood.
    """
    import xarray as xr

    frame, (chains, draws) = posterior.runs.frame, posterior.position.shape[:2]
    index = {"chain": np.arange(chains), "draw": np.arange(draws), "row": np.arange(len(frame))}

    def dataset(variables: dict[str, Any], *dimensions: str) -> xr.Dataset:
        data = {name: (dimensions, np.asarray(value)) for name, value in variables.items()}
        return xr.Dataset(data, coords={name: index[name] for name in dimensions if name in index})

    # Columns that `read` only carried along have names and values that netCDF may not know.
    kept = [name for name in frame if name in (*RECOGNISED, *posterior.runs.inputs)]
    constant = {name: frame[name].to_numpy() for name in kept if name not in (*LABELS, "loss")}
    labels = {name: frame[name].astype(str).to_numpy(dtype=object) for name in LABELS if name in frame}
    coordinates = xr.Dataset(
        {
            "position": (("chain", "draw", "coordinate"), posterior.position),
            "level": (DIMENSIONS, np.broadcast_to(posterior.values.level, (chains, draws))),
        },
        coords={"coordinate": np.array(posterior.names, dtype=object)},
    )
    groups = {
        "posterior": dataset(posterior.draws, *DIMENSIONS),
        "sample_stats": dataset(posterior.stats, *DIMENSIONS),
        "observed_data": dataset({"loss": frame["loss"]}, "row"),
        "constant_data": dataset({**constant, **labels}, "row"),
        "coordinates": coordinates,
    }
    if derived and len(frame) <= PREDICTED:
        predictive = posterior.forecast_at(frame, "run").draws
        groups["posterior_predictive"] = dataset({"loss": predictive}, *DIMENSIONS, "row")
    if derived:
        flat = pointwise(posterior.flat_values, posterior.job.model, posterior.job.problem)
        groups["log_likelihood"] = xr.Dataset({"loss": ((*DIMENSIONS, "config"), flat.reshape(chains, draws, -1))})
    tree = xr.DataTree.from_dict(groups)
    tree.attrs = attributes(posterior)
    return tree


def attributes(posterior: Posterior) -> dict[str, Any]:
    """Everything besides arrays that a file needs: law, priors, settings, provenance."""
    import numpyro

    settings = {name: float(v) if name == "target_accept" else v for name, v in vars(posterior.settings).items()}
    return {
        "bayescale_format": FORMAT,
        "bayescale_version": __version__,
        "jax_version": jax.__version__,
        "numpyro_version": numpyro.__version__,
        "name": posterior.runs.name,
        "inputs": json.dumps(posterior.law.inputs),
        "ray": json.dumps(None if posterior.job.ray is None else dataclasses.asdict(posterior.job.ray)),
        "data_hash": posterior.runs.digest,
        "law": posterior.law.name,
        "priors": json.dumps({key: encode(prior) for key, prior in posterior.law.priors.items()}),
        "drift": json.dumps(None if posterior.drift is None else encode(posterior.drift)),
        "noise": json.dumps(encode(posterior.noise)),
        "settings": json.dumps(settings),
        "seed": posterior.seed,
        "status": posterior.status.name,
        "weights": json.dumps(weight_measures(posterior.diagnostics)),
    }


def weight_measures(measures: Diagnostics) -> dict[str, Any]:
    """What resampled draws no longer show about the weights they were drawn by."""
    return {
        "method": measures.method,
        "pareto_k": measures.pareto_k,
        "ess_weights": measures.ess_weights,
        "modes": measures.modes,
        "ess_bulk": measures.ess_bulk.tolist(),
        "ess_tail": measures.ess_tail.tolist(),
    }


def read_diagnostics(
    attrs: dict[str, Any], position: np.ndarray, stats: dict[str, np.ndarray], pools: bool
) -> Diagnostics:
    """Measure stored chains again, each half of a pool for itself, or take over what importance weights said."""
    # Files from before there was importance sampling say nothing about it.
    stored = json.loads(attrs.get("weights", "{}"))
    arrays = {name: np.array(stored.pop(name), float) for name in ("ess_bulk", "ess_tail") if name in stored}
    if stored.get("method") != "importance":
        parts = 2 if pools else 1
        chains = zip(*(np.split(part, parts) for part in (position, stats["diverging"], stats["energy"])), strict=True)
        measures = [diagnose(*part, share=1.0 / parts) for part in chains]
        return dataclasses.replace(functools.reduce(joined, measures), **stored)
    missing = np.full(position.shape[-1], np.nan)
    status = Status[attrs["status"]]
    return Diagnostics(rhat=missing, efmi=missing[:1], divergences=0, status=status, **arrays, **stored)


def encode(record: Any) -> dict[str, Any]:
    """Write a record of numbers and names as plain values with its class."""
    fields = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
    plain = {k: float(v) if isinstance(v, (np.ndarray, np.floating)) else v for k, v in fields.items()}
    return {"role": type(record).__name__, **plain}


def decode(values: dict[str, Any], home: Any) -> Any:
    """Rebuild a record from `encode`'s output; `home` holds the classes that may appear."""
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return getattr(home, values.pop("role"))(**values)


def save(posterior: Posterior, path: str | Path, *, derived: bool = True) -> Path:
    """Write a posterior to a netCDF file, completely or not at all.

    Args:
        posterior: What to write.
        path: File to write; one that exists is replaced.
        derived: See `to_datatree`.

    Raises:
        InputError: If the folder does not exist or the path is a folder.
    """
    path = Path(path)
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: expected a file name in an existing folder.")
    tree = to_datatree(posterior, derived=derived)
    # Not .nc: a program that is killed here must leave nothing that looks like a result.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    try:
        tree.to_netcdf(temporary, engine="h5netcdf")
        # mkstemp makes private files; a result should have the folder's usual permissions.
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def load(path: str | Path) -> Posterior:
    """Read a posterior that `Posterior.save` wrote.

    Raises:
        InputError: For a file that is absent, truncated, not netCDF, from elsewhere, or whose law is not registered.
    """
    import xarray as xr

    path = Path(path)
    if path.is_dir() or not path.exists():
        raise InputError(f"{path} is {'a folder' if path.is_dir() else 'absent'}; a saved fit (.nc) is expected.")
    try:
        with xr.open_datatree(path, engine="h5netcdf") as opened:
            tree = opened.load()
    except Exception as error:
        raise InputError(
            f"{path} cannot be read as netCDF ({type(error).__name__}); it is truncated or another kind of file."
        ) from None
    if "bayescale_format" not in tree.attrs:
        raise InputError(f"{path} is netCDF but not a bayescale fit; save one with Posterior.save.")
    if int(tree.attrs["bayescale_format"]) > FORMAT:
        raise InputError(f"{path} was written by a newer bayescale ({tree.attrs['bayescale_version']}); update.")
    try:
        return rebuild(tree)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is a damaged bayescale fit: {error!r}. Fit again.") from None


def load_for(path: Path, job: Job) -> Posterior:
    """Read the posterior of a job that the caller has; several times faster than `load`.

    Raises:
        InputError: For a file that is damaged or another kind of file.
    """
    import h5py

    try:
        with h5py.File(path) as opened:
            file: Any = opened
            stats = {
                # netCDF knows no truth values, so they are kept as bytes with a note.
                name: values[()].astype(bool) if values.attrs.get("dtype") == "bool" else values[()]
                for name, values in file["sample_stats"].items()
                if name not in DIMENSIONS
            }
            position, level = file["coordinates/position"][()], file["coordinates/level"][()]
            # What diagnostics of importance weights are rebuilt from is among them.
            attrs = {name: file.attrs[name] for name in ("settings", "status", "weights") if name in file.attrs}
            attrs["seed"] = np.ravel(file.attrs["seed"])[0]
            return assembled(job, attrs, position, level, stats)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is a damaged bayescale fit: {error!r}. Fit again.") from None


def rebuild(tree: Any) -> Posterior:
    """Rebuild a posterior from its DataTree."""
    stats = {str(name): values.to_numpy() for name, values in tree["sample_stats"].data_vars.items()}
    position, level = (tree["coordinates"][name].to_numpy() for name in ("position", "level"))
    return assembled(rebuild_job(tree), tree.attrs, position, level, stats)


def assembled(
    job: Job, attrs: Mapping[str, Any], position: np.ndarray, level: np.ndarray, stats: dict[str, np.ndarray]
) -> Posterior:
    """Put a posterior together from its job and what a file holds."""
    values: Values = meaning(position, job.model, job.problem)
    return Posterior(
        job=job,
        seed=int(attrs["seed"]),
        settings=Nuts(**json.loads(attrs["settings"])),
        position=position,
        values=compact(values._replace(level=level)),
        stats=stats,
        diagnostics=read_diagnostics(dict(attrs), position, stats, job.problem.second is not None),
    )


def rebuild_job(tree: Any) -> Job:
    """Rebuild what was fitted from a DataTree; the law must be registered."""
    attrs = tree.attrs
    constant = tree["constant_data"]
    frame = pd.DataFrame({str(name): constant[name].to_numpy() for name in constant.data_vars})
    frame["loss"] = tree["observed_data"]["loss"].to_numpy()
    runs = Runs(frame, tuple(json.loads(attrs["inputs"])), attrs["name"])
    encoded = json.loads(attrs["priors"])
    if int(attrs["bayescale_format"]) < 2:
        # Plateaus were not pooled yet.
        encoded = {key: {"pool": False, **v} if v["role"] == "Plateaus" else v for key, v in encoded.items()}
    stored = {key: decode(value, priors) for key, value in encoded.items()}
    law = dataclasses.replace(laws.get(attrs["law"]), priors=stored)
    drift = json.loads(attrs["drift"])
    job = make_job(
        runs,
        law,
        None if drift is None else Drift(**{k: v for k, v in drift.items() if k != "role"}),
        Noise(**{k: v for k, v in json.loads(attrs["noise"]).items() if k != "role"}),
        None,
    )
    if int(attrs["bayescale_format"]) < 3 and job.problem.single > 0:
        # Checkpoints were not averaged yet.
        raise InputError(
            f"The fit of {runs.name} took every checkpoint of a long curve by itself, as earlier versions did; now "
            "they are averaged, which forecasts better. Fit again."
        )
    ray = json.loads(attrs.get("ray", "null"))
    return job if ray is None else dataclasses.replace(job, ray=Ray(**{k: tuple(v) for k, v in ray.items()}))
