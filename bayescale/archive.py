"""Archive: a folder of finished posteriors, each under a key of everything that its draws depend on."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path

from bayescale import __version__
from bayescale.encoding import encode, encode_prior
from bayescale.encoding import fingerprint as fingerprint
from bayescale.errors import InputError
from bayescale.model import Job
from bayescale.nuts import Nuts
from bayescale.posterior import Posterior
from bayescale.storage import FORMAT, load_for, save


def open_folder(folder: str | Path) -> Path:
    """Make the folder unless it exists.

    Raises:
        InputError: If it cannot be made.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be a folder of results ({error}); name a folder that can be made.") from None
    return folder


def key(job: Job, settings: Nuts, method: str, seed: int) -> str:
    """Thirty-two hexadecimal digits from all that the draws of a family depend on, and nothing else.

    That is data, law, priors, drift, noise, settings, method, seed and the versions of this package and of its files;
    the place of a family among others and its name are left out.
    """
    content = {
        "version": [__version__, FORMAT],
        "data": job.runs.digest,
        "inputs": job.law.inputs,
        "law": job.law.name,
        "curve": fingerprint(job.law.curve, len(job.law.inputs), job.law.constants),
        "priors": {name: encode_prior(prior) for name, prior in job.law.priors.items()},
        "scales": job.law.scales,
        "axes": {name: fingerprint(axis, len(job.law.inputs), ()) for name, axis in job.law.axes},
        "drift": None if job.drift is None else encode(job.drift),
        "noise": encode(job.noise),
        "settings": encode(settings),
        "method": method,
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=float).encode()).hexdigest()[:32]


def stream(name: str) -> int:
    """Number below 2^64 of the random stream of a key."""
    return int(name[:16], 16)


def path(folder: Path, name: str) -> Path:
    """File of a key."""
    return folder / f"{name}.nc"


def read(folder: Path, name: str, job: Job) -> Posterior | None:
    """Return a finished posterior of this job, or None where there is none that can be read."""
    if not path(folder, name).exists():
        return None
    try:
        return load_for(path(folder, name), job)
    except InputError as error:
        # Writing is atomic, so this is damage from elsewhere.
        warnings.warn(f"{str(error).rstrip('.')}; the family is sampled again.", stacklevel=2)
        return None


def write(folder: Path, name: str, posterior: Posterior) -> None:
    """Write a posterior as a file that `bayescale.load` opens, completely or not at all."""
    save(posterior, path(folder, name), derived=False)
