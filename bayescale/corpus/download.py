"""Published data files: where they come from, how they are fetched and how they are verified."""

from __future__ import annotations

import concurrent.futures
import csv
import functools
import hashlib
import logging
import os
import urllib.parse
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from bayescale.errors import InputError, nearest

LOCATION = "BAYESCALE_CORPUS"
"""Environment variable that names a folder to use instead of the network."""

Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)`` after each file."""


class Published(NamedTuple):
    """One upstream file, pinned to a commit and a checksum."""

    source: str
    repo: str
    commit: str
    path: str
    bytes: int
    sha256: str
    licence: str
    paper: str
    arxiv_id: str

    @property
    def url(self) -> str:
        """Address of the file at the pinned commit."""
        path = urllib.parse.quote(self.path, safe="/=")
        return f"https://raw.githubusercontent.com/{self.repo}/{self.commit}/{path}"

    @property
    def local(self) -> str:
        """Path below the corpus folder: ``<owner>+<repo>/<path>``."""
        return f"{self.repo.replace('/', '+')}/{self.path}"


@functools.cache
def manifest() -> dict[str, tuple[Published, ...]]:
    """Return the files of every downloadable source."""
    text = resources.files("bayescale.corpus").joinpath("data/manifest.csv").read_text("utf-8")
    sources: dict[str, list[Published]] = {}
    for row in csv.DictReader(text.splitlines()):
        entry = Published(**{**row, "bytes": int(row["bytes"])})
        sources.setdefault(entry.source, []).append(entry)
    return {source: tuple(entries) for source, entries in sources.items()}


def files(name: str, *, progress: Progress | None = None) -> dict[str, Path]:
    """Fetch one source and return its verified files by upstream path.

    Args:
        name: A downloadable source.
        progress: Called with the files done and the files in all.
    """
    root = fetch(name, progress=progress)
    return {entry.path: root / entry.local for entry in manifest()[name]}


def fetch(name: str, *, progress: Progress | None = None) -> Path:
    """Download one source, or find it in the folder that ``BAYESCALE_CORPUS`` names.

    Files are kept in the user's cache folder, and every checksum is verified on every call.
    With ``BAYESCALE_CORPUS`` set, nothing is downloaded.

    Args:
        name: A downloadable source, for example ``"epoch_chinchilla"``.
        progress: Called with the files done and the files in all.

    Returns:
        The folder that holds the files as ``<owner>+<repo>/<path>``.

    Raises:
        InputError: If the source is unknown, or a file is missing, damaged or unreachable.
    """
    if name not in manifest():
        raise InputError(f"{name!r} is not a downloadable source. {nearest(name, manifest())}")
    entries = manifest()[name]
    folder = os.environ.get(LOCATION)
    return _find(entries, folder, progress) if folder else _download(entries, progress)


def cache_folder() -> Path:
    """Folder of this user for published data."""
    import pooch

    return Path(pooch.os_cache("bayescale"))


def _find(entries: tuple[Published, ...], folder: str, progress: Progress | None) -> Path:
    root = Path(folder).expanduser()
    for done, entry in enumerate(entries, start=1):
        path = root / entry.local
        if not path.is_file():
            raise InputError(
                f"{path} is missing: {LOCATION}={folder} must hold the published file "
                f"(sha256 {entry.sha256}). Save {entry.url} there, or unset {LOCATION} to "
                "download everything."
            )
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != entry.sha256:
            raise InputError(
                f"{path} is not the published file: expected sha256 {entry.sha256}, found {found}. "
                f"Replace it with {entry.url}, or unset {LOCATION} to download everything."
            )
        if progress:
            progress(done, len(entries))
    return root


def _download(entries: tuple[Published, ...], progress: Progress | None) -> Path:
    import pooch

    cache = pooch.create(
        path=cache_folder(),
        base_url="",
        registry={entry.local: f"sha256:{entry.sha256}" for entry in entries},
        urls={entry.local: entry.url for entry in entries},
        retry_if_failed=2,
    )
    # Pooch reports every file by itself; hundreds of small files would flood the terminal.
    log = pooch.get_logger()
    level = log.level
    log.setLevel(logging.WARNING)
    pool = concurrent.futures.ThreadPoolExecutor(max_workers=8)
    try:
        pending = {pool.submit(cache.fetch, entry.local): entry for entry in entries}
        for done, future in enumerate(concurrent.futures.as_completed(pending), start=1):
            try:
                future.result()
            except (OSError, ValueError) as error:
                # Pooch raises ValueError for a wrong checksum, requests subclasses of OSError.
                offline = isinstance(error, OSError)
                reason = type(error).__name__ if offline else "its sha256 is not the published one"
                raise InputError(
                    f"Could not download {pending[future].url} ({reason}): connect to the network "
                    f"and try again, or set {LOCATION} to a folder that holds the files as "
                    "<owner>+<repo>/<path>."
                ) from error
            if progress:
                progress(done, len(entries))
    finally:
        pool.shutdown(cancel_futures=True)
        log.setLevel(level)
    return Path(cache.abspath)
