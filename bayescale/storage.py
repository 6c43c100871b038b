"""Storage: posteriors as xarray DataTrees in netCDF files that ArviZ opens; never pickle."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

from bayescale import __version__, _io, checked
from bayescale.data.ray import Ray
from bayescale.diagnostics import Diagnostics, diagnose, joined
from bayescale.drift import Drift
from bayescale.encoding import (
    decode_diagnostics,
    decode_log,
    decode_table,
    decode_values,
    digest_of,
    digest_of_attributes,
    encode,
    encode_diagnostics,
    encode_prior,
    encode_table,
    encode_values,
    law_print,
    plain,
    registered_law,
)
from bayescale.errors import InputError, Status, some
from bayescale.loo import model_likelihoods
from bayescale.model import Job, compact, make_job, meaning
from bayescale.noise import Noise
from bayescale.nuts import Nuts
from bayescale.posterior import Posterior
from bayescale.runs import LABELS, RECOGNISED, Runs

FORMAT, DIGESTED = 4, 4
"""Version of the file layout, raised when an older reader could not understand a newer file; the first with digests."""
DIMENSIONS = ("chain", "draw")
RESERVED = ("chain", "draw", "row", "config", "coordinate")
"""Names of dimensions, which no variable may have."""
PREDICTED = 1000
"""Most rows with a forecast of their own in a file; ten thousand would take 300 MB."""
LONGEST = 30_000
"""Longest text of an attribute; HDF5 takes twice as much."""


def to_datatree(posterior: Posterior, *, derived: bool = True, key: str | None = None) -> Any:
    """Return a posterior as an `xarray.DataTree` with ArviZ's groups.

    Groups: posterior, sample_stats, observed_data, constant_data, posterior_predictive (future runs at the fitted
    inputs, if there are at most a thousand rows), log_likelihood (each row, or average, given all others, on the log
    scale: burkner2021loo; a variable for each model of a pool, see `loo`), coordinates (the sampled vector), and what
    else a posterior is rebuilt from on loading: values (what draws mean at the reference scale) and fit (names as they
    are, all columns, a text of settings).

    Args:
        posterior: What to convert.
        derived: Include the groups that take longer to compute than to sample: posterior_predictive, log_likelihood.
        key: Attribute by which a folder of results finds this posterior, see `archive`.
    """
    import xarray as xr

    frame, (chains, draws) = posterior.runs.frame, posterior.position.shape[:2]
    index = {"chain": np.arange(chains), "draw": np.arange(draws), "row": np.arange(len(frame))}

    def dataset(variables: Mapping[str, Any], *dimensions: str) -> xr.Dataset:
        data = {name: (dimensions, np.asarray(value)) for name, value in readable(variables).items()}
        return xr.Dataset(data, coords={name: index[name] for name in dimensions if name in index})

    # All columns are in `fit`; what ArviZ shows are those that the fit used.
    kept = [name for name in frame if name in (*RECOGNISED, *posterior.runs.inputs) and name != "loss"]
    constant = {
        name: frame[name].astype(str).to_numpy(dtype=object) if frame[name].dtype.kind not in "biuf" else frame[name]
        for name in kept
    }
    coordinates = xr.Dataset(
        {
            "position": (("chain", "draw", "coordinate"), posterior.position),
            "level": (DIMENSIONS, np.broadcast_to(posterior.values.level, (chains, draws))),
        },
        coords={"coordinate": np.array(posterior.names, dtype=object)},
    )
    cards, columns = encode_table(frame)
    text = np.frombuffer(json.dumps(document(posterior, cards)).encode(), np.uint8)
    groups = {
        "posterior": dataset(posterior.draws, *DIMENSIONS),
        "sample_stats": dataset(posterior.stats, *DIMENSIONS),
        "observed_data": dataset({"loss": frame["loss"]}, "row"),
        "constant_data": dataset(constant, "row"),
        "coordinates": coordinates,
        "values": xr.Dataset({name: (places(array), array) for name, array in encode_values(posterior.values).items()}),
        "fit": xr.Dataset({"text": ("byte", text), **{name: ("row", values) for name, values in columns.items()}}),
    }
    if derived and len(frame) <= PREDICTED:
        predictive = posterior.forecast_at(frame, "run").draws
        groups["posterior_predictive"] = dataset({"loss": predictive}, *DIMENSIONS, "row")
    if derived:
        found = model_likelihoods(posterior).items()
        groups["log_likelihood"] = xr.Dataset({name: ((*DIMENSIONS, "config"), values) for name, values in found})
    tree = xr.DataTree.from_dict(groups)
    tree.attrs = attributes(posterior) | ({} if key is None else {"archive_key": key})
    tree.attrs["digests"] = json.dumps({name: digest_of(arrays_of(tree[name])) for name in groups})
    tree.attrs["digest"] = digest_of_attributes(tree.attrs)
    return tree


def places(array: np.ndarray) -> tuple[str, ...]:
    """Names of the dimensions of an array whose meaning is nobody else's."""
    return tuple(f"axis_{place}_of_{size}" for place, size in enumerate(array.shape))


def readable(variables: Mapping[Any, Any]) -> dict[str, Any]:
    """Give variables names that netCDF takes: no slashes, none of a dimension, no two alike."""
    named: dict[str, Any] = {}
    for name, values in variables.items():
        safe = re.sub(r"[/\x00-\x1f]", "_", str(name)).strip() or "_"
        while safe in (*RESERVED, ".", "..") or safe in named:
            safe += "_"
        named[safe] = values
    return named


def arrays_of(group: Any) -> dict[str, np.ndarray]:
    """Arrays of one group of a tree by name, coordinates among them."""
    return {str(name): values.to_numpy() for name, values in group.to_dataset(inherit=False).variables.items()}


def document(posterior: Posterior, cards: list[dict[str, Any]]) -> dict[str, Any]:
    """Everything besides arrays from which a posterior is rebuilt, as plain values.

    Args:
        posterior: What is written.
        cards: Columns of its runs, see `encode_table`.
    """
    job = posterior.job
    return {
        "name": job.runs.name,
        "columns": cards,
        "inputs": job.law.inputs,
        "one_ray": job.runs.one_ray,
        "left_out": None if job.runs.left_out is None else job.runs.left_out.to_dict("list"),
        "log": [dataclasses.asdict(entry) for entry in job.runs.log],
        "law": job.law.name,
        "law_print": law_print(job.law),
        "priors": {key: encode_prior(prior) for key, prior in job.law.priors.items()},
        "drift": None if job.drift is None else encode(job.drift),
        "noise": encode(job.noise),
        "ray": None if job.ray is None else dataclasses.asdict(job.ray),
        "share": float(job.share),
        "seed": int(posterior.seed),
        "settings": encode(posterior.settings),
        "diagnostics": encode_diagnostics(posterior.diagnostics),
    }


def attributes(posterior: Posterior) -> dict[str, Any]:
    """What people and other programs want to know of a file: law, priors, settings, provenance."""
    import numpyro

    job = posterior.job
    settings = {name: value for name, value in encode(posterior.settings).items() if name != "role"}
    texts = {
        "bayescale_version": __version__,
        "jax_version": jax.__version__,
        "numpyro_version": numpyro.__version__,
        "name": job.runs.name,
        "inputs": json.dumps(job.law.inputs),
        "ray": json.dumps(None if job.ray is None else dataclasses.asdict(job.ray)),
        "data_hash": job.runs.digest,
        "law": job.law.name,
        "priors": json.dumps({key: encode_prior(prior) for key, prior in job.law.priors.items()}),
        "drift": json.dumps(None if job.drift is None else encode(job.drift)),
        "noise": json.dumps(encode(job.noise)),
        "settings": json.dumps(settings),
        "status": posterior.status.name,
    }
    return {
        "bayescale_format": FORMAT,
        "seed": int(posterior.seed),
        **{name: str(text).replace("\0", "")[:LONGEST] for name, text in texts.items()},
    }


def save(posterior: Posterior, path: str | Path, *, derived: bool = True, key: str | None = None) -> Path:
    """Write a posterior to a netCDF file, completely or not at all.

    Args:
        posterior: What to write.
        path: File to write; one that exists is replaced.
        derived: See `to_datatree`.
        key: See `to_datatree`.

    Raises:
        InputError: For a path as in `_io.writable`.
    """
    _io.writable(path)
    tree = to_datatree(posterior, derived=derived, key=key)
    return _io.write(path, lambda part: tree.to_netcdf(part, engine="h5netcdf"))


def load(path: str | Path) -> Posterior:
    """Read a posterior that `Posterior.save` wrote.

    Raises:
        InputError: For a file that is absent, truncated, altered, not netCDF, from elsewhere, or whose law is not
            registered.
    """
    checked.instance("The path of a saved fit", path, str, Path, hint='Give it as bs.load("fit.nc").')
    path = Path(path)
    if os.path.isdir(path) or not os.path.exists(path):
        raise InputError(absent(path))
    attrs, groups = contents(path)
    if "bayescale_format" not in attrs:
        raise InputError(f"{path} is netCDF but not a bayescale fit; save one with Posterior.save.")
    version = int(attrs["bayescale_format"])
    if version > FORMAT:
        raise InputError(f"{path} was written by a newer bayescale ({attrs.get('bayescale_version')}); update.")
    try:
        if version < DIGESTED:
            return rebuild_older(path)
        check(attrs, groups)
        return rebuild(attrs, groups)
    except InputError as error:
        raise InputError(f"{path} cannot be loaded: {str(error).rstrip('.')}.") from None
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise InputError(f"{path} is a damaged bayescale fit: {error!r}. Fit again.") from None


def absent(path: Path) -> str:
    """Say that there is no saved fit at a path, and which ones beside it look like it."""
    name = str(path) if len(str(path)) < 200 else f"{str(path)[:60]}..."
    place = path if os.path.isdir(path) else path.parent
    text = f"{name} is {'a folder' if place is path else 'absent'}; a saved fit (.nc) is expected"
    if not os.path.isdir(place):
        return f"{text}, and there is no folder {str(place)[:60]}."
    known = sorted(file.name for file in place.glob("*.nc"))
    stem = path.stem.lower()
    like = [file for file in known if stem and place is not path and file.lower().startswith(stem)]
    stems = {Path(file).stem.lower(): file for file in known}
    close = [stems[near] for near in difflib.get_close_matches(stem, stems)]
    like += [file for file in close if file not in like]
    if like or known:
        return f"{text}. {'Like it are' if like else 'In that folder are'} {some(like or known)}."
    return f"{text}, and there is none in that folder."


def contents(path: Path, wanted: tuple[str, ...] | None = None) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Attributes of a file, and the arrays of its groups by name.

    Args:
        path: The file.
        wanted: The groups; all by default.

    Raises:
        InputError: If it cannot be read.
    """
    import h5py

    try:
        with h5py.File(path) as opened:
            file: Any = opened
            names = [name for name in file if isinstance(file[name], h5py.Group)] if wanted is None else wanted
            groups = {name: raw_arrays(file[name]) for name in names}
            attrs = {name: value for name, value in file.attrs.items() if not name.startswith("_")}
    except Exception as error:
        raise InputError(
            f"{path} cannot be read as netCDF ({type(error).__name__}): a saved fit is expected, and it is truncated, "
            "damaged or another kind of file. A table of runs is fitted first: bayescale fit FILE --out fit.nc."
        ) from None
    return {name: one_value(value) for name, value in attrs.items()}, groups


def one_value(value: Any) -> Any:
    """Value of an attribute, which files may hold as an array of one."""
    return value if isinstance(value, str) else plain(np.ravel(np.asarray(value))[0])


def check(attrs: Mapping[str, Any], groups: Mapping[str, Mapping[str, Any]], *, whole: bool = True) -> None:
    """Compare what was read with the digests in the file.

    Args:
        attrs: Attributes of the file.
        groups: Arrays of its groups.
        whole: Whether these are all groups.

    Raises:
        InputError: If anything is not as it was written.
    """
    try:
        digests = json.loads(attrs["digests"])
        right = digest_of_attributes(attrs) == attrs["digest"]
    except (KeyError, ValueError, TypeError):
        raise InputError(
            "its digest is missing or damaged; the file was altered after it was written, so fit again"
        ) from None
    wrong = [name for name, arrays in groups.items() if digests.get(name) != digest_of(arrays)]
    if whole:
        wrong += [name for name in digests if name not in groups]
    if wrong or not right:
        raise InputError(
            f"{wrong[0] if wrong else 'a setting'} is not what was written (its digest differs); the file was altered "
            "or damaged, so fit again"
        )


def archive_key(path: Path) -> str | None:
    """Return the key under which a folder of results keeps a file, None of a file that has none.

    Raises:
        OSError: If it cannot be read.
    """
    import h5py

    with h5py.File(path) as opened:
        found = opened.attrs.get("archive_key")
    return None if found is None else str(one_value(found))


def load_for(path: Path, job: Job) -> Posterior:
    """Read the posterior of a job that the caller has; several times faster than `load`.

    Raises:
        InputError: For a file that is damaged or another kind of file.
    """
    attrs, groups = contents(path, ("sample_stats", "coordinates", "values", "fit"))
    try:
        check(attrs, groups, whole=False)
        return assembled(job, json.loads(groups["fit"]["text"].tobytes()), groups)
    except InputError as error:
        raise InputError(f"{path} cannot be loaded: {str(error).rstrip('.')}.") from None
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise InputError(f"{path} is a damaged bayescale fit: {error!r}. Fit again.") from None


def raw_arrays(group: Any) -> dict[str, np.ndarray]:
    """Arrays of one group of an HDF5 file by name, as netCDF means them."""
    arrays = {}
    for name, values in group.items():
        title = values.attrs.get("NAME", b"")
        if (title.encode() if isinstance(title, str) else title).startswith(b"This is a netCDF dimension but not"):
            continue
        found = values[()]
        # netCDF knows no truth values, so they are kept as bytes with a note.
        arrays[name] = found.astype(bool) if values.attrs.get("dtype") == "bool" else found
    return arrays


def rebuild(attrs: Mapping[str, Any], groups: Mapping[str, Mapping[str, Any]]) -> Posterior:
    """Rebuild a posterior from the attributes and arrays of a file."""
    arrays = groups["fit"]
    told = json.loads(arrays["text"].tobytes())
    frame = decode_table(told["columns"], arrays)
    inputs = tuple(told["inputs"])
    runs = Runs(frame, inputs, told["name"], decode_log(told["log"]), told["one_ray"])
    if (gone := told.get("left_out")) is not None:
        runs = dataclasses.replace(runs, left_out=pd.DataFrame(gone))
    # What the function of a law computes is printed in other words by other versions.
    stamp = told["law_print"] if attrs["jax_version"] == jax.__version__ else None
    law = registered_law(told["law"], inputs, told["priors"], stamp)
    job = make_job(runs, law, part(Drift, told["drift"]), part(Noise, told["noise"]), None)
    ray = None if told["ray"] is None else Ray(**{name: tuple(values) for name, values in told["ray"].items()})
    job = dataclasses.replace(job, ray=ray, share=told["share"])
    return assembled(job, told, groups)


def part(kind: Any, values: Mapping[str, Any] | None) -> Any:
    """Rebuild a record of a known class, or None."""
    return None if values is None else kind(**{name: value for name, value in values.items() if name != "role"})


def assembled(
    job: Job, told: Mapping[str, Any], groups: Mapping[str, Mapping[str, Any]], measures: Diagnostics | None = None
) -> Posterior:
    """Put a posterior together from its job and what a file holds."""
    position, level = (groups["coordinates"][name] for name in ("position", "level"))
    if "values" in groups:
        # Computed again they would differ in the last digit from those of the program that drew them.
        values = decode_values(groups["values"], *position.shape[:2])
    else:
        values = meaning(position, job.model, job.problem)._replace(level=level)
    return Posterior(
        job=job,
        seed=int(told["seed"]),
        settings=part(Nuts, told["settings"]),
        position=position,
        values=compact(values),
        stats={name: values for name, values in groups["sample_stats"].items() if name not in DIMENSIONS},
        diagnostics=decode_diagnostics(told["diagnostics"]) if measures is None else measures,
    )


# --- Files of older layouts -----------------------------------------------------------------------------------


def rebuild_older(path: Path) -> Posterior:
    """Rebuild a posterior from a file that holds no digest and names what it can."""
    import xarray as xr

    with xr.open_datatree(path, engine="h5netcdf") as opened:
        tree = opened.load()
    attrs = tree.attrs
    constant = tree["constant_data"]
    frame = pd.DataFrame({str(name): constant[name].to_numpy() for name in constant.data_vars})
    for name in set(LABELS) - {"family", "run"}:
        if name in frame:
            # Steps and seeds were written as text.
            numbers = pd.to_numeric(frame[name], errors="coerce")
            frame[name] = numbers if numbers.notna().all() else frame[name]
    frame["loss"] = tree["observed_data"]["loss"].to_numpy()
    inputs = tuple(json.loads(attrs["inputs"]))
    runs = Runs(frame, inputs, attrs["name"])
    encoded = json.loads(attrs["priors"])
    if int(attrs["bayescale_format"]) < 2:
        # Plateaus were not pooled yet.
        encoded = {key: {"pool": False, **v} if v["role"] == "Plateaus" else v for key, v in encoded.items()}
    law = registered_law(attrs["law"], inputs, encoded, None)
    drift, noise = (json.loads(attrs[name]) for name in ("drift", "noise"))
    job = make_job(runs, law, part(Drift, drift), part(Noise, noise), None)
    if int(attrs["bayescale_format"]) < 3 and job.problem.single > 0:
        # Checkpoints were not averaged yet.
        raise InputError(
            f"The fit of {runs.name} took every checkpoint of a long curve by itself, as earlier versions did; now "
            "they are averaged, which forecasts better. Fit again."
        )
    ray = json.loads(attrs.get("ray", "null"))
    job = job if ray is None else dataclasses.replace(job, ray=Ray(**{k: tuple(v) for k, v in ray.items()}))
    groups = {name: arrays_of(tree[name]) for name in ("coordinates", "sample_stats")}
    position, stats = groups["coordinates"]["position"], groups["sample_stats"]
    measures = older_diagnostics(attrs, position, stats, job.problem.second is not None)
    told = {"seed": attrs["seed"], "settings": json.loads(attrs["settings"])}
    return assembled(job, told, groups, measures)


def older_diagnostics(
    attrs: Mapping[str, Any], position: np.ndarray, stats: Mapping[str, np.ndarray], pools: bool
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
