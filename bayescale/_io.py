"""Files: functions that write them completely or not at all."""

from __future__ import annotations

import itertools
import os
import re
import secrets
import stat
import unicodedata
from collections.abc import Callable, Collection
from pathlib import Path

from bayescale.errors import InputError

LONGEST_LABEL = 100
"""Longest label in a file name, in bytes."""


def writable(path: str | Path) -> Path:
    """Return the path if a file can be written there; called before long computations, so that no result is lost.

    Raises:
        InputError: For a folder, a path in a folder that is absent or read-only, a device or pipe, or a name that the
            file system does not accept.
    """
    path = Path(path)
    try:
        target = _target(path)
        # Permissions are not enough: the file system may be read-only, or refuse the name.
        _reserve(target).unlink()
        return path
    except (OSError, ValueError) as error:
        raise InputError(_why(path, error)) from None


def write(path: str | Path, writer: Callable[[Path], object]) -> Path:
    """Write a file completely or not at all: an existing file is replaced only when the new one is complete.

    Args:
        path: The file. An existing file is replaced and its permissions are kept, also if `path` is a link to it.
        writer: Function that is called with the path of a new, empty file in the same folder, and fills it.

    Returns:
        The path.

    Raises:
        InputError: As `writable`, or if the disk is full.
    """
    path = writable(path)
    target = _target(path)
    part = None
    try:
        part = _reserve(target)
        writer(part)
        if target.exists():
            os.chmod(part, stat.S_IMODE(target.stat().st_mode))
        os.replace(part, target)
    except OSError as error:
        raise InputError(f"{path} was not written ({error.strerror or error}); any file there is unchanged.") from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
    return path


def folder(path: str | Path) -> Path:
    """Make a folder if it does not exist.

    Raises:
        InputError: If the folder cannot be made, or is a file.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        name = str(path) if len(str(path)) < 200 else f"{str(path)[:60]}..."
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{name} cannot be made as a folder ({reason}); choose another folder.") from None
    return path


def free_name(label: str, taken: Collection[str], suffix: str = "", stem: str = "") -> str:
    """Return a readable file name for a label, with a number appended if the name is taken.

    Args:
        label: Any text, such as the name of a family.
        taken: Names of existing files in lower case, because some file systems ignore case.
        suffix: End of the name.
        stem: Start of the name.

    Example:
        >>> free_name("Llama 3 / 8B", set(), ".nc"), free_name("a b", {"a_b.nc"}, ".nc"), free_name("../", set())
        ('Llama_3_8B.nc', 'a_b-2.nc', 'unnamed')
    """
    safe = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", label)).strip("._-")
    # Labels may be longer, in bytes, than file systems allow.
    safe = safe.encode()[:LONGEST_LABEL].decode(errors="ignore").rstrip("._-") or "unnamed"
    numbered = (f"{stem}{safe}{suffix}" if n == 1 else f"{stem}{safe}-{n}{suffix}" for n in itertools.count(1))
    return next(name for name in numbered if name.lower() not in taken)


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file in UTF-8; see `write`."""
    return write(path, lambda part: part.write_text(text, encoding="utf-8"))


def _target(path: Path) -> Path:
    """Return the regular file that a path refers to, links resolved; it need not exist.

    Raises:
        InputError: For any other path than that of a regular file.
    """
    if path.name in ("", ".."):
        raise InputError(f"{path} is a folder; expected a file name in an existing folder.")
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise InputError(
            f"{path} cannot be written: there is no folder {path.parent}; expected a file name in an existing folder."
        )
    longest = os.pathconf(target.parent, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    if len(os.fsencode(target.name)) > longest:
        raise InputError(f"{target.name[:30]}... is too long for a file name; at most {longest} bytes are allowed.")
    if target.is_dir():
        raise InputError(f"{path} is a folder; expected a file name in an existing folder.")
    if target.exists() and not target.is_file():
        raise InputError(f"{path} is a device or pipe, not a file; expected a file name in an existing folder.")
    if target.exists() and not os.access(target, os.W_OK):
        raise InputError(f"{path} is read-only; choose another name, or make it writable.")
    return target


def _reserve(target: Path) -> Path:
    """Make an empty temporary file beside the target, with the permissions of new files."""
    part = target.with_name(f".bayescale-{os.getpid()}-{secrets.token_hex(6)}.part")
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return part


def _why(path: Path, error: Exception) -> str:
    """Return the message that says why a file cannot be written."""
    if isinstance(error, InputError):
        return str(error)
    reason = getattr(error, "strerror", None) or str(error)
    name = str(path) if len(str(path)) < 200 else f"{str(path)[:60]}..."
    return f"{name} cannot be written ({reason}); expected a file name in an existing folder that you may write to."
