"""Published data files: their addresses, download and verification."""

from __future__ import annotations

import concurrent.futures
import contextlib
import csv
import functools
import hashlib
import os
import threading
import time
import urllib.parse
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from bayescale.errors import InputError, nearest, some

LOCATION = "BAYESCALE_CORPUS"
"""Environment variable with the name of a folder that is used instead of the network."""

ADDRESS = "https://raw.githubusercontent.com"
"""Server of single files of a repository at a commit."""

_PATIENCE = 30
"""Seconds without an answer or a byte after which a connection counts as broken."""

_BLOCK = 1 << 13
"""Number of bytes written at a time, at most as many as are lost when a connection breaks."""

_WAITS = (1, 3)
"""Waiting time in seconds before the second and the third attempt."""

Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)`` after each file."""


class Published(NamedTuple):
    """One published file, identified by a commit and a checksum."""

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
        """Address of the file at its commit."""
        path = urllib.parse.quote(self.path, safe="/=")
        return f"{ADDRESS}/{self.repo}/{self.commit}/{path}"

    @property
    def local(self) -> str:
        """Path below the corpus folder: ``<owner>+<repo>/<path>``."""
        return f"{self.repo.replace('/', '+')}/{self.path}"


@functools.cache
def manifest() -> dict[str, tuple[Published, ...]]:
    """Return the published files of every downloadable entry."""
    text = resources.files("bayescale.corpus").joinpath("data/manifest.csv").read_text("utf-8")
    sources: dict[str, list[Published]] = {}
    for row in csv.DictReader(text.splitlines()):
        entry = Published(**{**row, "bytes": int(row["bytes"])})
        sources.setdefault(entry.source, []).append(entry)
    return {source: tuple(entries) for source, entries in sources.items()}


def files(name: str, *, progress: Progress | None = None) -> dict[str, Path]:
    """Download the files of one entry and return them, verified, by their path in the repository.

    Args:
        name: Name of a downloadable entry.
        progress: Called with the number of files done and the total number.
    """
    root = fetch(name, progress=progress)
    return {entry.path: root / entry.local for entry in manifest()[name]}


def fetch(name: str, *, progress: Progress | None = None) -> Path:
    """Download the files of one entry, or find them in the folder that ``BAYESCALE_CORPUS`` names.

    Files are kept in the user's cache folder. Every checksum is verified in every call, and a damaged file is
    downloaded again. An interrupted download continues where it ended; a file gets its final name only when it is
    complete. If ``BAYESCALE_CORPUS`` is set, nothing is downloaded.

    Args:
        name: Name of a downloadable entry, for example ``"epoch_chinchilla"``.
        progress: Called with the number of files done and the total number.

    Returns:
        The folder that contains the files as ``<owner>+<repo>/<path>``.

    Raises:
        InputError: If the name is unknown, or a file is missing, damaged or unreachable.
    """
    if name not in manifest():
        raise InputError(f"{name!r} is not a downloadable source. {nearest(name, manifest())}")
    entries = manifest()[name]
    folder = os.environ.get(LOCATION)
    return _find(entries, folder, progress) if folder else _download(entries, progress)


def cache_folder() -> Path:
    """Return the user's cache folder for published data."""
    import pooch

    return Path(pooch.os_cache("bayescale"))


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state(name: str) -> str:
    """Describe which files of an entry are on disk, and whether they have the published checksums.

    Args:
        name: Name of a downloadable entry.

    Returns:
        "verified (3 files)", "not fetched", "incomplete (2 of 3 files)" or "damaged (path and how many more)".
    """
    entries = manifest()[name]
    folder = os.environ.get(LOCATION)
    root = Path(folder).expanduser() if folder else cache_folder()
    here = [entry for entry in entries if (root / entry.local).is_file()]
    damaged = [entry.path for entry in here if checksum(root / entry.local) != entry.sha256]
    if damaged:
        return f"damaged ({some(damaged, 1)})"
    if len(here) < len(entries):
        return f"incomplete ({len(here)} of {len(entries)} files)" if here else "not fetched"
    return f"verified ({len(here)} {'file' if len(here) == 1 else 'files'})"


def _find(entries: tuple[Published, ...], folder: str, progress: Progress | None) -> Path:
    root = Path(folder).expanduser()
    for done, entry in enumerate(entries, start=1):
        path = root / entry.local
        if not path.is_file():
            raise InputError(
                f"{path} is missing: {LOCATION}={folder} must contain the published file "
                f"(sha256 {entry.sha256}). Save {entry.url} there, or unset {LOCATION} to "
                "download everything."
            )
        found = checksum(path)
        if found != entry.sha256:
            raise InputError(
                f"{path} is not the published file: expected sha256 {entry.sha256}, found {found}. "
                f"Replace it with {entry.url}, or unset {LOCATION} to download everything."
            )
        if progress:
            progress(done, len(entries))
    return root


def _download(entries: tuple[Published, ...], progress: Progress | None) -> Path:
    root = cache_folder()
    pool = concurrent.futures.ThreadPoolExecutor(max_workers=8)
    try:
        pending = [pool.submit(_fetched, entry, root / entry.local) for entry in entries]
        for done, future in enumerate(concurrent.futures.as_completed(pending), start=1):
            future.result()
            if progress:
                progress(done, len(entries))
    finally:
        pool.shutdown(cancel_futures=True)
    return root


def _fetched(entry: Published, path: Path) -> None:
    """Download a published file into the cache unless it is there, complete and correct."""
    if path.is_file() and checksum(path) == entry.sha256:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The cache folder cannot be written ({error}): set XDG_CACHE_HOME to a folder of yours, or {LOCATION} to "
            "one that holds the files as <owner>+<repo>/<path>."
        ) from error
    waiting = path.with_name(f"{path.name}.part")
    # A partial file of an earlier attempt is taken over by renaming it, which only one process can do.
    part = waiting.with_name(f"{waiting.name}-{os.getpid()}-{threading.get_ident()}")
    with contextlib.suppress(FileNotFoundError):
        waiting.rename(part)
    try:
        _completed(entry, part)
        part.replace(path)
    finally:
        # After an interruption the partial file is kept for the next attempt.
        with contextlib.suppress(FileNotFoundError):
            part.replace(waiting)


def _completed(entry: Published, part: Path) -> None:
    """Download the missing part of a file; start again from the beginning if the checksum is wrong."""
    import requests  # comes with pooch

    reason = ""
    for wait in (*_WAITS, None):
        try:
            _append(entry, part)
        except OSError as error:
            # Errors of requests are OSErrors with long texts; others, such as a full disk, have useful texts.
            reason = type(error).__name__ if isinstance(error, requests.RequestException) else str(error)
            answer = getattr(error, "response", None)
            if answer is not None:
                reason = f"the server answers {answer.status_code}"
            # A missing file will not appear after a repetition, but an overloaded server may recover.
            if answer is not None and answer.status_code < 500:
                break
        else:
            if checksum(part) == entry.sha256:
                return
            part.unlink()
            reason = "its sha256 is not the published one"
        if wait is not None:
            time.sleep(wait)
    raise InputError(
        f"Could not download {entry.url} ({reason}): connect to the network and try again, or set {LOCATION} to a "
        "folder that holds the files as <owner>+<repo>/<path>."
    )


def _append(entry: Published, part: Path) -> None:
    """Add the missing part to a partial file, or write all of it if the server cannot continue a download."""
    import requests

    have = part.stat().st_size if part.exists() else 0
    if have >= entry.bytes:
        # The file is complete or wrong; its checksum decides.
        return
    headers = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"} if have else {}
    with requests.get(entry.url, headers=headers, stream=True, timeout=_PATIENCE) as answer:
        answer.raise_for_status()
        continues = answer.status_code == requests.codes.partial_content
        with part.open("ab" if continues else "wb") as file:
            for block in answer.iter_content(_BLOCK):
                file.write(block)
    if part.stat().st_size < entry.bytes:
        raise ConnectionError("the connection ended early")
