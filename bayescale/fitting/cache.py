"""Archive: a folder of finished posteriors, each stored under a key of everything on which its draws depend."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path

from bayescale import __version__, _io
from bayescale.errors import InputError
from bayescale.fitting.options import FitRequest
from bayescale.fitting.plan import FitPlan
from bayescale.posterior.encoding import encode, encode_prior, encode_scale
from bayescale.posterior.encoding import fingerprint as fingerprint
from bayescale.posterior.fitted import Fitted
from bayescale.posterior.io import FORMAT, archive_key, load_for, save
from bayescale.posterior.mixture import Mixture
from bayescale.posterior.posterior import Posterior

HDF5 = b"\x89HDF"
"""First bytes of netCDF files, as this package writes them."""


@dataclasses.dataclass(frozen=True)
class Archive:
    """A folder of finished posteriors.

    Attributes:
        folder: The folder.
        files: File of each key; entries are added as posteriors are written.
        damaged: Files that cannot be read and will be written again.
    """

    folder: Path
    files: dict[str, Path]
    damaged: frozenset[Path]


def open_folder(folder: str | Path) -> Archive:
    """Return an archive with the contents of a folder, which is made if it does not exist.

    Raises:
        InputError: As `_io.folder`.
    """
    root = _io.folder(folder)
    files: dict[str, Path] = {}
    damaged: set[Path] = set()
    for file in sorted(root.glob("*.nc")):
        try:
            if (found := archive_key(file)) is not None:
                files[found] = file
        except OSError:
            if not file.is_file() or file.read_bytes()[:4] != HDF5:
                continue
            # Files are written atomically, so a damaged one was damaged by something else.
            warnings.warn(f"{file} is truncated or damaged; its family is sampled again.", stacklevel=2)
            damaged.add(file)
    return Archive(root, files, frozenset(damaged))


def key(plan: FitPlan, request: FitRequest) -> str:
    """Return thirty-two hexadecimal digits computed from everything on which the draws of a family depend.

    These are data, law, priors, discrepancy, likelihood, settings, method, seed, and the versions of this package and
    of its files. The index of a family and its name are not included.
    """
    job = plan.jobs[0]
    content = {
        "version": [__version__, FORMAT],
        "weights": plan.weights,
        "data": job.runs.digest,
        "inputs": job.law.inputs,
        "law": job.law.name,
        "curve": fingerprint(job.law.function, len(job.law.inputs), job.law.constants),
        "priors": [{name: encode_prior(prior) for name, prior in part.law.priors.items()} for part in plan.jobs],
        "scales": job.law.scales,
        "axes": {name: fingerprint(axis, len(job.law.inputs), ()) for name, axis in job.law.axes},
        "discrepancy": [None if part.discrepancy is None else encode(part.discrepancy) for part in plan.jobs],
        "likelihood": [encode(part.likelihood) for part in plan.jobs],
        "prior_scale": None if job.prior_scale is None else encode_scale(job.prior_scale),
        "settings": encode(request.settings),
        "method": request.method,
        "seed": request.seed,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=float).encode()).hexdigest()[:32]


def stream(name: str) -> int:
    """Return the number, below 2^64, of the random stream that belongs to a key."""
    return int(name[:16], 16)


def read(archive: Archive, name: str, plan: FitPlan) -> Posterior | Mixture | None:
    """Return the finished fit of a plan, or None if there is no readable one."""
    file = archive.files.get(name)
    if file is None or not file.exists():
        return None
    try:
        return load_for(file, plan.jobs, plan.weights)
    except InputError as error:
        warnings.warn(f"{str(error).rstrip('.')}; the family is sampled again.", stacklevel=2)
        return None


def name_files(archive: Archive, families: Mapping[str, str]) -> None:
    """Choose file names for families in advance, so that names do not depend on the order in which fits finish.

    Args:
        archive: Folder of results.
        families: Name of the family of each key.
    """
    taken = {found.name.lower() for found in archive.folder.iterdir()} - {f.name.lower() for f in archive.damaged}
    taken |= {found.name.lower() for found in archive.files.values()}
    for key, family in families.items():
        if key not in archive.files:
            archive.files[key] = archive.folder / _io.free_name(family, taken, ".nc")
            taken.add(archive.files[key].name.lower())


def write(archive: Archive, key: str, posterior: Fitted) -> Path:
    """Write a fit, completely or not at all, to the file that `name_files` chose; `bayescale.load` opens it."""
    return save(posterior, archive.files[key], derived=False, key=key)
