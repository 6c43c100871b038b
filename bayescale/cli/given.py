"""Options given on the command line: refusal of those without effect, and of files that cannot be written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import typer

from bayescale import _io
from bayescale.errors import InputError, some


def typed(context: typer.Context, names: Iterable[str]) -> list[str]:
    """Return the spelling of the given options, among those that belong to some parameters.

    Args:
        context: The command line as typer parsed it.
        names: Names of the subcommand's parameters.
    """
    known = {parameter.name: parameter for parameter in context.command.params}
    found = []
    for name in names:
        source = context.get_parameter_source(name)
        if name in known and source is not None and source.name == "COMMANDLINE":
            other = known[name].secondary_opts if context.params.get(name) is False else []
            found.append((other or known[name].opts)[0])
    return found


def refuse_idle(context: typer.Context, names: Iterable[str], why: str) -> None:
    """Refuse options that have no effect.

    Args:
        context: The command line as typer parsed it.
        names: Names of the parameters that have no effect.
        why: The reason and the remedy, which continue the sentence "... has no effect".

    Raises:
        InputError: With the given options.
    """
    if found := typed(context, names):
        raise InputError(f"{some(found)} {'has' if len(found) == 1 else 'have'} no effect {why}.")


ENDINGS = {
    "fit": (".nc",),
    "table": (".csv",),
    "page": (".html", ".md"),
    "picture": (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".eps", ".ps"),
}
"""Suffixes of files by their kind."""


def check_files(**files: Path | None) -> None:
    """Refuse output paths that cannot be written or have the suffix of another format, before any work.

    Args:
        **files: By kind, a key of `ENDINGS`: a path, or None for no file.

    Raises:
        InputError: As `_io.writable`, or for another suffix.
    """
    for kind, path in files.items():
        if path is None:
            continue
        _io.writable(path)
        if path.suffix.lower() not in ENDINGS[kind]:
            expected = " or ".join(ENDINGS[kind][:3])
            raise InputError(f"A {kind} is written to a file that ends in {expected}; found {path.name!r}.")
