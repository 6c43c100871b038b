"""Storage of pools: one netCDF file with the tree of each family and the draws of the groups."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bayescale import __version__, _io, checked
from bayescale.checked import known_keywords
from bayescale.errors import InputError
from bayescale.inference.nuts import Nuts
from bayescale.laws.law import Law
from bayescale.model.discrepancy import Discrepancy
from bayescale.model.likelihood import KINDS as LIKELIHOODS
from bayescale.model.options import ModelOptions
from bayescale.pooling.covariates import Covariate, Covariates
from bayescale.pooling.families import plan_families
from bayescale.pooling.group import GroupDraws
from bayescale.pooling.group_fit import Group
from bayescale.pooling.pool import Pool, group_quantities
from bayescale.pooling.quantities import group_prior
from bayescale.posterior.datatree import arrays_of, to_datatree
from bayescale.posterior.encoding import decode_prior, digest_of, encode, encode_prior, law_print, registered_law
from bayescale.posterior.fitted import Fitted
from bayescale.posterior.io import absent, assembled, by_component, check, contents, part, rebuilt_job, weights_of

FORMAT = 1
"""Version of the file layout; it increases when files of the previous version can no longer be read."""
KINDS: dict[str, Any] = {Discrepancy.__name__: Discrepancy, **LIKELIHOODS}


def save_pool(pool: Pool, path: str | Path) -> Path:
    """Write a pool to a netCDF file, completely or not at all; see `Pool.save`."""
    import xarray as xr

    _io.writable(path)
    if Path(path).suffix.lower() != ".nc":
        raise InputError(f"A pool is written as netCDF, to a file that ends in .nc; found {Path(path).name!r}.")
    groups: dict[str, Any] = {}
    attributes = []
    for number, fit in enumerate(pool.fits.values()):
        tree = to_datatree(fit, derived=False)
        attributes.append(dict(tree.attrs))
        groups |= {
            f"family_{number}{node.path}": node.to_dataset(inherit=False) for node in tree.subtree if node.has_data
        }
    own = {f"group_{number}": group_arrays(group) for number, group in enumerate(pool.groups)}
    told = document(pool) | {"attributes": attributes}
    own["pool"] = xr.Dataset({"text": ("byte", np.frombuffer(json.dumps(told).encode(), np.uint8))})
    tree = xr.DataTree.from_dict(groups | own)
    tree.attrs = {"bayescale_pool": FORMAT, "bayescale_version": __version__, "jax_version": jax.__version__}
    tree.attrs["digests"] = json.dumps({name: digest_of(arrays_of(tree[name])) for name in own})
    return _io.write(path, lambda part: tree.to_netcdf(part, engine="h5netcdf"))


def group_arrays(group: Group) -> Any:
    """Return the arrays of a group as a dataset."""
    import xarray as xr

    by_draw = ("chain", "draw", "quantity")
    further = {
        name: ((*by_draw, axis), values)
        for name, axis, values in (("effects", "column", group.draws.effects), ("factor", "other", group.draws.factor))
        if values is not None
    }
    return xr.Dataset(
        {
            "mean": (by_draw, group.draws.mean),
            "sd": (by_draw, group.draws.sd),
            "tolerance": ("quantity", group.tolerance),
            "rhat": (("quantity", "of"), group.rhat),
            "ess": (("quantity", "of"), group.ess),
            "worth": ("family", group.worth),
            **further,
        }
    )


def document(pool: Pool) -> dict[str, Any]:
    """Return everything except arrays and fits from which a pool is rebuilt, as plain values."""
    plan, options = pool.plan, dict(pool.plan.options)
    priors: Any = options.pop("priors", None) or {}
    return {
        "names": plan.names,
        "law": plan.law if isinstance(plan.law, str) else encode_law(plan.law),
        "options": {name: encode(value) if type(value).__name__ in KINDS else value for name, value in options.items()},
        "priors": {name: encode_prior(prior) for name, prior in priors.items()},
        "pooled": plan.pooled,
        "shared": plan.shared,
        "seed": pool.seed,
        "settings": encode(pool.settings),
        "method": pool.method,
        "covariates": None if pool.covariates is None else dataclasses.asdict(pool.covariates),
    }


def encode_law(law: Law) -> dict[str, Any]:
    """Return the name, inputs and priors of a law as plain values."""
    priors = {key: encode_prior(prior) for key, prior in law.priors.items()}
    return {"name": law.name, "inputs": law.inputs, "priors": priors, "print": law_print(law)}


@known_keywords
def load_pool(path: str | Path) -> Pool:
    """Read a pool that `Pool.save` wrote.

    Raises:
        InputError: For a file that is absent, truncated, altered, not netCDF, from elsewhere, or whose law is not
            registered.

    Example:
        >>> joint = bs.load_pool("pool.nc")  # doctest: +SKIP
        >>> joint.fit(new_runs).predict(flops=1e22)  # doctest: +SKIP
    """
    checked.instance("The path of a saved pool", path, str, Path, hint='Give it as bs.load_pool("pool.nc").')
    path = Path(path)
    if path.is_dir() or not path.exists():
        raise InputError(absent(path))
    attrs, groups = contents(path)
    if "bayescale_pool" not in attrs:
        raise InputError(
            f"{path} is not a saved pool. joint.save(path) writes one; for a fit of one family use bs.load(path)."
        )
    if int(attrs["bayescale_pool"]) != FORMAT:
        raise InputError(f"{path} was written by bayescale {attrs.get('bayescale_version')}; pool the families again.")
    try:
        return rebuilt(attrs, groups)
    except InputError as error:
        raise InputError(f"{path} cannot be loaded: {str(error).rstrip('.')}.") from None
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise InputError(f"{path} is a damaged pool: {error!r}. Pool the families again.") from None


def rebuilt(attrs: Mapping[str, Any], groups: Mapping[str, Mapping[str, Any]]) -> Pool:
    """Build a pool from the contents of its file."""
    digests = json.loads(attrs["digests"])
    if wrong := [name for name, digest in digests.items() if digest_of(groups[name]) != digest]:
        raise InputError(
            f"{wrong[0]} is not what was written (its digest differs); the file was altered or damaged, so pool again"
        )
    told = json.loads(groups["pool"]["text"].tobytes())
    fits: dict[str, Fitted] = {}
    for number, (name, own) in enumerate(zip(told["names"], told["attributes"], strict=True)):
        start = f"family_{number}/"
        parts = {key.removeprefix(start): arrays for key, arrays in groups.items() if key.startswith(start)}
        check(own, parts)
        jobs = [rebuilt_job(own, component) for component in by_component(own, parts)]
        fits[name] = assembled(jobs, weights_of(own), own, parts)
    options: Any = {
        name: part(KINDS[value["role"]], value) if isinstance(value, dict) else value
        for name, value in told["options"].items()
    }
    options["priors"] = {name: decode_prior(prior, None) for name, prior in told["priors"].items()}
    first = next(iter(fits.values()))
    inputs = first.law.inputs if first.ray is None else first.ray.names
    # Where one input stands for several, the fitted runs have it alone.
    families = {name: dataclasses.replace(fit.runs, inputs=inputs) for name, fit in fits.items()}
    chosen: ModelOptions = options
    law = told["law"] if isinstance(told["law"], str) else decode_law(told["law"], attrs)
    plan = plan_families(families, law, told["pooled"], told["shared"], chosen)
    found = []
    for number, quantities in enumerate(group_quantities(plan)):
        arrays = groups[f"group_{number}"]
        priors = tuple(group_prior(quantity, [jobs[number] for jobs in plan.jobs]) for quantity in quantities)
        draws = GroupDraws(arrays["mean"], arrays["sd"], arrays.get("effects"), arrays.get("factor"))
        rest = (arrays[name] for name in ("tolerance", "rhat", "ess", "worth"))
        found.append(Group(quantities, priors, draws, *rest))
    settings, covariates = part(Nuts, told["settings"]), decode_covariates(told.get("covariates"))
    return Pool(fits, tuple(found), plan, int(told["seed"]), settings, told["method"], covariates)


def decode_covariates(told: Mapping[str, Any] | None) -> Covariates | None:
    """Rebuild covariates from plain values; None without any."""
    if told is None:
        return None
    parts = tuple(Covariate(**{**own, "levels": tuple(own["levels"])}) for own in told["parts"])
    return Covariates(parts, dict(told["values"]), dict(told["counted"]))


def decode_law(told: Mapping[str, Any], attrs: Mapping[str, Any]) -> Law:
    """Rebuild a law from the output of `encode_law`.

    Raises:
        InputError: If no law is registered under its name, or a different one is.
    """
    # Other versions of JAX print the function of a law differently.
    stamp = told["print"] if attrs["jax_version"] == jax.__version__ else None
    return registered_law(told["name"], tuple(told["inputs"]), told["priors"], stamp)
