"""Storage: fits as xarray DataTrees in netCDF files that ArviZ opens; pickle is never used."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

from bayescale import _io, checked
from bayescale.checked import known_keywords
from bayescale.data.ray import Ray
from bayescale.data.runs import Runs
from bayescale.data.score import ScoreScale
from bayescale.data.value import ValueScale
from bayescale.errors import InputError, some
from bayescale.inference.nuts import Nuts
from bayescale.model.choice import ModelChoice
from bayescale.model.discrepancy import Discrepancy
from bayescale.model.likelihood import KINDS
from bayescale.model.parameters import compact, coordinates
from bayescale.model.prepare import jobs_of
from bayescale.model.problem import Job
from bayescale.posterior.datatree import DIMENSIONS, FORMAT, child, readable, to_datatree
from bayescale.posterior.encoding import (
    decode_diagnostics,
    decode_log,
    decode_scale,
    decode_table,
    decode_values,
    digest_of,
    digest_of_attributes,
    plain,
    registered_law,
)
from bayescale.posterior.fitted import Fitted
from bayescale.posterior.mixture import Mixture, combine
from bayescale.posterior.posterior import Posterior
from bayescale.posterior.stacking import Stacking


def save(fit: Fitted, path: str | Path, *, derived: bool = True, key: str | None = None) -> Path:
    """Write a fit to a netCDF file, completely or not at all.

    Args:
        fit: The fit to write.
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


@known_keywords
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
    if "bayescale_pool" in attrs:
        raise InputError(f"{path} is a pool of families; load it with bs.load_pool(path).")
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
        jobs = [rebuilt_job(attrs, own) for own in by_component(attrs, groups)]
        return assembled(jobs, weights_of(attrs), attrs, groups)
    except InputError as error:
        raise InputError(f"{path} cannot be loaded: {str(error).rstrip('.')}.") from None
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise InputError(f"{path} is a damaged bayescale fit: {error!r}. Fit again.") from None


def absent(path: Path) -> str:
    """Return the error message for a path without a saved fit, which lists similar files beside it."""
    name = str(path) if len(str(path)) < 200 else f"{str(path)[:60]}..."
    folder = path if os.path.isdir(path) else path.parent
    text = f"{name} is {'a folder' if folder is path else 'absent'}; a saved fit (.nc) is expected"
    if not os.path.isdir(folder):
        return f"{text}, and there is no folder {str(folder)[:60]}."
    known = sorted(file.name for file in folder.glob("*.nc"))
    stem = path.stem.lower()
    like = [file for file in known if stem and folder is not path and file.lower().startswith(stem)]
    stems = {Path(file).stem.lower(): file for file in known}
    close = [stems[near] for near in difflib.get_close_matches(stem, stems)]
    like += [file for file in close if file not in like]
    if like or known:
        return f"{text}. {'Like it are' if like else 'In that folder are'} {some(like or known)}."
    return f"{text}, and there is none in that folder."


def contents(path: Path, wanted: tuple[str, ...] | None = None) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the attributes of a file, and the arrays of its groups by name, such as "fit" or "component_0/fit".

    Args:
        path: The file.
        wanted: Last parts of the names of the groups to return; all groups by default.

    Raises:
        InputError: If the file cannot be read.
    """
    import h5py

    try:
        with h5py.File(path) as opened:
            file: Any = opened
            names: list[str] = []
            file.visititems(lambda name, node: names.append(name) if isinstance(node, h5py.Group) else None)
            kept = [name for name in names if wanted is None or name.rpartition("/")[2] in wanted]
            groups = {name: arrays for name in kept if (arrays := raw_arrays(file[name]))}
            attrs = {name: value for name, value in file.attrs.items() if not name.startswith("_")}
    except Exception as error:
        raise InputError(
            f"{path} cannot be read as netCDF ({type(error).__name__}): a saved fit is expected, and it is truncated, "
            "damaged or another kind of file. A table of runs is fitted first: bayescale fit FILE --out fit.nc."
        ) from None
    return {name: one_value(value) for name, value in attrs.items()}, groups


def one_value(value: Any) -> Any:
    """Return the value of an attribute, which files may hold as an array with one element."""
    return value if isinstance(value, str) else plain(np.ravel(np.asarray(value))[0])


def check(attrs: Mapping[str, Any], groups: Mapping[str, Mapping[str, Any]], *, whole: bool = True) -> None:
    """Compare the contents of a file with the digests that it contains.

    Args:
        attrs: Attributes of the file.
        groups: Arrays of its groups.
        whole: Whether these are all groups.

    Raises:
        InputError: If anything differs from what was written.
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
    """Return the key under which a folder of results keeps a file; None for a file without a key.

    Raises:
        OSError: If the file cannot be read.
    """
    import h5py

    with h5py.File(path) as opened:
        found = opened.attrs.get("archive_key")
    return None if found is None else str(one_value(found))


def load_for(path: Path, jobs: Sequence[Job], weights: Sequence[float]) -> Posterior | Mixture:
    """Read the fit of jobs that the caller already has; several times faster than `load`.

    Raises:
        InputError: For a file that is damaged or another kind of file.
    """
    attrs, groups = contents(path, ("sample_stats", "unconstrained_posterior", "values", "fit"))
    try:
        check(attrs, groups, whole=False)
        return assembled(jobs, weights, attrs, groups)
    except InputError as error:
        raise InputError(f"{path} cannot be loaded: {str(error).rstrip('.')}.") from None
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise InputError(f"{path} is a damaged bayescale fit: {error!r}. Fit again.") from None


def weights_of(attrs: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the weights of the components of a file."""
    return tuple(json.loads(attrs["weights"])) if "weights" in attrs else (1.0,)


def by_component(
    attrs: Mapping[str, Any], groups: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Mapping[str, Any]]]:
    """Split the groups of a saved fit by component: one mapping per component, from group name to arrays."""
    if "fit" in groups:
        return [dict(groups)]
    # Files of earlier versions number their components.
    numbers = [str(number) for number in range(sum(name.endswith("/fit") for name in groups))]
    names = json.loads(attrs["components"]) if "components" in attrs else numbers
    starts = [child(name) + "/" for name in names]
    return [{n.removeprefix(s): arrays for n, arrays in groups.items() if n.startswith(s)} for s in starts]


def raw_arrays(group: Any) -> dict[str, np.ndarray]:
    """Return the arrays of one group of an HDF5 file by name, with the types that netCDF declares."""
    arrays = {}
    for name, values in group.items():
        if hasattr(values, "items"):
            continue
        title = values.attrs.get("NAME", b"")
        if (title.encode() if isinstance(title, str) else title).startswith(b"This is a netCDF dimension but not"):
            continue
        found = values[()]
        # netCDF has no booleans, so they are stored as bytes with an attribute that says so.
        arrays[name] = found.astype(bool) if values.attrs.get("dtype") == "bool" else found
    return arrays


def rebuilt_job(attrs: Mapping[str, Any], groups: Mapping[str, Mapping[str, Any]]) -> Job:
    """Rebuild the job of a component from the attributes and arrays of a file."""
    arrays = groups["fit"]
    told = json.loads(arrays["text"].tobytes())
    frame = decode_table(told["columns"], arrays)
    inputs = tuple(told["inputs"])
    runs = Runs(frame, inputs, told["name"], decode_log(told["log"]), told["one_ray"])
    # Files of earlier versions do not contain the name of the response.
    runs = dataclasses.replace(runs, response=told.get("response", "loss"))
    if (score := told.get("score")) is not None:
        runs = dataclasses.replace(runs, score=ScoreScale(**score))
    if (value := told.get("value")) is not None:
        runs = dataclasses.replace(runs, value=ValueScale(**value))
    if (gone := told.get("left_out")) is not None:
        runs = dataclasses.replace(runs, left_out=pd.DataFrame(gone))
    # Other versions print the function of a law differently.
    stamp = told["law_print"] if attrs["jax_version"] == jax.__version__ else None
    law = registered_law(told["law"], inputs, told["priors"], stamp)
    discrepancy = part(Discrepancy, told["discrepancy"])
    ray = None if told["ray"] is None else Ray(**{name: tuple(values) for name, values in told["ray"].items()})
    scale = None if (kept := told.get("prior_scale")) is None else decode_scale(kept)
    likelihood = part(KINDS[told["likelihood"]["role"]], told["likelihood"])
    model = ModelChoice((law,), discrepancy, likelihood, told["design"], (scale,))
    (job,) = jobs_of(runs, model, ray)
    return job


def part(kind: Any, values: Mapping[str, Any] | None) -> Any:
    """Rebuild a record of a known class; return None for None."""
    return None if values is None else kind(**{name: value for name, value in values.items() if name != "role"})


def assembled(
    jobs: Sequence[Job],
    weights: Sequence[float],
    attrs: Mapping[str, Any],
    groups: Mapping[str, Mapping[str, Any]],
) -> Posterior | Mixture:
    """Build a fit from the jobs of its components and the contents of a file."""
    fit = combine([posterior_of(job, own) for job, own in zip(jobs, by_component(attrs, groups), strict=True)], weights)
    if isinstance(fit, Mixture) and "stacking" in attrs:
        return dataclasses.replace(fit, stacking=Stacking.decode(attrs["stacking"]))
    return fit


def posterior_of(job: Job, groups: Mapping[str, Mapping[str, Any]]) -> Posterior:
    """Build the posterior of one model from its job and its groups."""
    told = json.loads(groups["fit"]["text"].tobytes())
    own = groups["unconstrained_posterior"]
    position = np.stack([own[name] for name in readable(dict.fromkeys(coordinates(job.model, job.problem)))], axis=-1)
    # If values were computed again from coordinates, they would differ in the last digit from the stored ones.
    values = decode_values(groups["values"], *position.shape[:2])
    return Posterior(
        job=job,
        seed=int(told["seed"]),
        settings=part(Nuts, told["settings"]),
        unconstrained=position,
        values=compact(values),
        stats={n: values for n, values in groups["sample_stats"].items() if n not in (*DIMENSIONS, "lp", "tree_depth")},
        diagnostics=decode_diagnostics(told["diagnostics"]),
    )
