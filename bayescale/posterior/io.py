"""Storage: fits as xarray DataTrees in netCDF files that ArviZ opens; never pickle."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

from bayescale import __version__, _io, checked
from bayescale.data.ray import Ray
from bayescale.data.runs import RECOGNISED, Runs
from bayescale.errors import InputError, some
from bayescale.inference.nuts import Nuts
from bayescale.model.discrepancy import Discrepancy
from bayescale.model.likelihood import Likelihood
from bayescale.model.parameters import compact
from bayescale.model.prepare import make_job
from bayescale.model.problem import Job
from bayescale.posterior.encoding import (
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
from bayescale.posterior.fitted import Fitted
from bayescale.posterior.loo import log_likelihood
from bayescale.posterior.mixture import Mixture, combine
from bayescale.posterior.posterior import Posterior

FORMAT = 5
"""Version of the file layout, raised when files can no longer be read as they were."""
DIMENSIONS = ("chain", "draw")
RESERVED = ("chain", "draw", "row", "config", "coordinate")
"""Names of dimensions, which no variable may have."""
PREDICTED = 1000
"""Most rows with a forecast of their own in a file; ten thousand would take 300 MB."""
LONGEST = 30_000
"""Longest text of an attribute; HDF5 takes twice as much."""


def to_datatree(fit: Fitted, *, derived: bool = True, key: str | None = None) -> Any:
    """Return a fit as an `xarray.DataTree` with ArviZ's groups.

    Groups of a posterior: posterior, sample_stats, observed_data, constant_data, posterior_predictive (future runs at
    the fitted inputs, if there are at most a thousand rows), log_likelihood (each row, or average, given all others,
    on the log scale: burkner2021loo), coordinates (the sampled vector), and what else it is rebuilt from on loading:
    values (what draws mean at the reference scale) and fit (names as they are, all columns, a text of settings).

    A mixture has one child tree for each component, `component_0` and so on, which ArviZ reads as any posterior:
    convergence is a matter of each component. Beside them are posterior_predictive, observed_data and constant_data of
    the mixture.

    Args:
        fit: What to convert.
        derived: Include the groups that take longer to compute than to sample: posterior_predictive, log_likelihood.
        key: Attribute by which a folder of results finds this posterior, see `archive`.
    """
    import xarray as xr

    if len(fit.components) == 1:
        groups = posterior_groups(fit.first, derived)
    else:
        groups = data_groups(fit)
        if derived and len(fit.runs) <= PREDICTED:
            groups["posterior_predictive"] = predicted(fit)
        for number, part in enumerate(fit.components):
            own = posterior_groups(part, derived)
            groups |= {f"{child(number)}/{name}": group for name, group in own.items()}
    tree = xr.DataTree.from_dict(groups)
    for number, part in enumerate(fit.components if len(fit.components) > 1 else ()):
        tree[child(number)].attrs = attributes(part)
    tree.attrs = attributes(fit) | ({} if key is None else {"archive_key": key})
    tree.attrs["digests"] = json.dumps({name: digest_of(arrays_of(tree[name])) for name in groups})
    tree.attrs["digest"] = digest_of_attributes(tree.attrs)
    return tree


def child(number: int) -> str:
    """Name of the child tree of a component."""
    return f"component_{number}"


def dataset(variables: Mapping[str, Any], index: Mapping[str, Any], *dimensions: str) -> Any:
    """Return a dataset of variables that have the same dimensions, with their coordinates."""
    import xarray as xr

    data = {name: (dimensions, np.asarray(value)) for name, value in readable(variables).items()}
    return xr.Dataset(data, coords={name: index[name] for name in dimensions if name in index})


def indexes(fit: Fitted) -> dict[str, np.ndarray]:
    """Coordinates of the dimensions of a fit's joined draws and of its rows."""
    rows = np.arange(len(fit.runs))
    chains, draws = fit.folded(np.empty(sum(chains * draws for chains, draws in fit.layout))).shape
    return {"chain": np.arange(chains), "draw": np.arange(draws), "row": rows}


def data_groups(fit: Fitted) -> dict[str, Any]:
    """Return the groups observed_data and constant_data."""
    frame, index = fit.runs.frame, indexes(fit)
    # All columns are in the group "fit"; what ArviZ shows are those that the fit used.
    kept = [name for name in frame if name in (*RECOGNISED, *fit.runs.inputs) and name != "loss"]
    constant = {
        name: frame[name].astype(str).to_numpy(dtype=object) if frame[name].dtype.kind not in "biuf" else frame[name]
        for name in kept
    }
    return {
        "observed_data": dataset({"loss": frame["loss"]}, index, "row"),
        "constant_data": dataset(constant, index, "row"),
    }


def predicted(fit: Fitted) -> Any:
    """Return the group posterior_predictive: future runs at the fitted inputs."""
    forecast = fit.forecast_at(fit.runs.frame, "run")
    return dataset({"loss": forecast.draws}, indexes(fit), *DIMENSIONS, "row")


def posterior_groups(posterior: Posterior, derived: bool) -> dict[str, Any]:
    """Return the groups of the posterior of one model; see `to_datatree`."""
    import xarray as xr

    frame, index = posterior.runs.frame, indexes(posterior)
    coordinates = xr.Dataset(
        {"position": (("chain", "draw", "coordinate"), posterior.position)},
        coords={"coordinate": np.array(posterior.names, dtype=object)},
    )
    cards, columns = encode_table(frame)
    text = np.frombuffer(json.dumps(document(posterior, cards)).encode(), np.uint8)
    groups = {
        "posterior": dataset(varying(posterior.draws), index, *DIMENSIONS),
        "sample_stats": dataset(posterior.stats, index, *DIMENSIONS),
        **data_groups(posterior),
        "coordinates": coordinates,
        "values": xr.Dataset({name: (places(array), array) for name, array in encode_values(posterior.values).items()}),
        "fit": xr.Dataset({"text": ("byte", text), **{name: ("row", values) for name, values in columns.items()}}),
    }
    if derived and len(frame) <= PREDICTED:
        groups["posterior_predictive"] = predicted(posterior)
    if derived:
        values = log_likelihood(posterior)
        groups["log_likelihood"] = xr.Dataset({"loss": ((*DIMENSIONS, "config"), values)})
    return groups


def varying(draws: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Quantities that differ among draws; the R-hat of a fixed one, as a plateau that is absent, is undefined."""
    return {name: values for name, values in draws.items() if np.ptp(values) > 0.0}


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
        "discrepancy": None if job.discrepancy is None else encode(job.discrepancy),
        "likelihood": encode(job.likelihood),
        "ray": None if job.ray is None else dataclasses.asdict(job.ray),
        "seed": int(posterior.seed),
        "settings": encode(posterior.settings),
        "diagnostics": encode_diagnostics(posterior.diagnostics),
    }


def attributes(fit: Fitted) -> dict[str, Any]:
    """What people and other programs want to know of a file: law, priors, settings, provenance, weights."""
    import numpyro

    whole: dict[str, Any] = {"bayescale_format": FORMAT}
    if len(fit.components) > 1:
        whole["weights"] = json.dumps(fit.weights)
    posterior = fit.first
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


def save(fit: Fitted, path: str | Path, *, derived: bool = True, key: str | None = None) -> Path:
    """Write a fit to a netCDF file, completely or not at all.

    Args:
        fit: What to write.
        path: File to write; one that exists is replaced.
        derived: See `to_datatree`.
        key: See `to_datatree`.

    Raises:
        InputError: For a path as in `_io.writable`, or one that does not end in .nc.
    """
    _io.writable(path)
    if Path(path).suffix.lower() != ".nc":
        raise InputError(f"A fit is written as netCDF, to a file that ends in .nc; found {Path(path).name!r}.")
    tree = to_datatree(fit, derived=derived, key=key)
    return _io.write(path, lambda part: tree.to_netcdf(part, engine="h5netcdf"))


def load(path: str | Path) -> Posterior | Mixture:
    """Read a fit that `save` wrote.

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
        raise InputError(
            f"{path} is netCDF but not a bayescale fit; write one with post.save(path) (bayescale fit --out fit.nc)."
        )
    version = int(attrs["bayescale_format"])
    writer = attrs.get("bayescale_version")
    if version > FORMAT:
        raise InputError(f"{path} was written by a newer bayescale ({writer}); update.")
    if version < FORMAT:
        raise InputError(f"{path} was written by bayescale {writer}, whose files are no longer read. Fit again.")
    try:
        check(attrs, groups)
        jobs = [rebuilt_job(attrs, own) for own in by_component(groups)]
        return assembled(jobs, weights_of(attrs), groups)
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
    """Attributes of a file, and the arrays of its groups by name, such as "fit" or "component_0/fit".

    Args:
        path: The file.
        wanted: Names of groups, the last part; all by default.

    Raises:
        InputError: If it cannot be read.
    """
    import h5py

    try:
        with h5py.File(path) as opened:
            file: Any = opened
            places: list[str] = []
            file.visititems(lambda name, node: places.append(name) if isinstance(node, h5py.Group) else None)
            kept = [name for name in places if wanted is None or name.rpartition("/")[2] in wanted]
            groups = {name: arrays for name in kept if (arrays := raw_arrays(file[name]))}
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


def load_for(path: Path, jobs: Sequence[Job], weights: Sequence[float]) -> Posterior | Mixture:
    """Read the fit of jobs that the caller has; several times faster than `load`.

    Raises:
        InputError: For a file that is damaged or another kind of file.
    """
    attrs, groups = contents(path, ("sample_stats", "coordinates", "values", "fit"))
    try:
        check(attrs, groups, whole=False)
        return assembled(jobs, weights, groups)
    except InputError as error:
        raise InputError(f"{path} cannot be loaded: {str(error).rstrip('.')}.") from None
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise InputError(f"{path} is a damaged bayescale fit: {error!r}. Fit again.") from None


def weights_of(attrs: Mapping[str, Any]) -> tuple[float, ...]:
    """Weights of the components of a file."""
    return tuple(json.loads(attrs["weights"])) if "weights" in attrs else (1.0,)


def by_component(groups: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Mapping[str, Any]]]:
    """Groups of each component of a file, by their own names."""
    if "fit" in groups:
        return [dict(groups)]
    count = sum(name.endswith("/fit") for name in groups)
    starts = [child(number) + "/" for number in range(count)]
    return [{n.removeprefix(s): arrays for n, arrays in groups.items() if n.startswith(s)} for s in starts]


def raw_arrays(group: Any) -> dict[str, np.ndarray]:
    """Arrays of one group of an HDF5 file by name, as netCDF means them."""
    arrays = {}
    for name, values in group.items():
        if hasattr(values, "items"):
            continue
        title = values.attrs.get("NAME", b"")
        if (title.encode() if isinstance(title, str) else title).startswith(b"This is a netCDF dimension but not"):
            continue
        found = values[()]
        # netCDF knows no truth values, so they are kept as bytes with a note.
        arrays[name] = found.astype(bool) if values.attrs.get("dtype") == "bool" else found
    return arrays


def rebuilt_job(attrs: Mapping[str, Any], groups: Mapping[str, Mapping[str, Any]]) -> Job:
    """Rebuild the job of a component from the attributes and arrays of a file."""
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
    discrepancy, likelihood = part(Discrepancy, told["discrepancy"]), part(Likelihood, told["likelihood"])
    job = make_job(runs, law, discrepancy=discrepancy, likelihood=likelihood)
    ray = None if told["ray"] is None else Ray(**{name: tuple(values) for name, values in told["ray"].items()})
    return dataclasses.replace(job, ray=ray)


def part(kind: Any, values: Mapping[str, Any] | None) -> Any:
    """Rebuild a record of a known class, or None."""
    return None if values is None else kind(**{name: value for name, value in values.items() if name != "role"})


def assembled(
    jobs: Sequence[Job], weights: Sequence[float], groups: Mapping[str, Mapping[str, Any]]
) -> Posterior | Mixture:
    """Put a fit together from the jobs of its components and what a file holds."""
    return combine([posterior_of(job, own) for job, own in zip(jobs, by_component(groups), strict=True)], weights)


def posterior_of(job: Job, groups: Mapping[str, Mapping[str, Any]]) -> Posterior:
    """Put the posterior of one model together from its job and its groups."""
    told = json.loads(groups["fit"]["text"].tobytes())
    position = groups["coordinates"]["position"]
    # Computed again from coordinates, values would differ in the last digit from those of the program that drew them.
    values = decode_values(groups["values"], *position.shape[:2])
    return Posterior(
        job=job,
        seed=int(told["seed"]),
        settings=part(Nuts, told["settings"]),
        position=position,
        values=compact(values),
        stats={name: values for name, values in groups["sample_stats"].items() if name not in DIMENSIONS},
        diagnostics=decode_diagnostics(told["diagnostics"]),
    )
