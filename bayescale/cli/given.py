"""Options that were typed: the refusal of those without effect, and of files that cannot be written as asked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import typer

from bayescale import _io
from bayescale.errors import InputError, some


def typed(context: typer.Context, names: Iterable[str]) -> list[str]:
    """Return the options, as they were spelled, of those of these parameters that the command line gives.

    Args:
        context: What the framework knows of the command line.
        names: Names of the verb's parameters.
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
    """Refuse options that would have no effect.

    Args:
        context: What the framework knows of the command line.
        names: Names of the parameters that have no effect.
        why: What makes them so and what to do, after "has no effect".

    Raises:
        InputError: With the options that were typed.
    """
    if found := typed(context, names):
        raise InputError(f"{some(found)} {'has' if len(found) == 1 else 'have'} no effect {why}.")


ENDINGS = {
    "fit": (".nc",),
    "table": (".csv",),
    "page": (".html", ".md"),
    "picture": (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".eps", ".ps"),
}
"""Endings of files by what they hold."""


def check_files(**files: Path | None) -> None:
    """Refuse output paths at which no file can be written, or whose ending is another format's, before any work.

    Args:
        **files: A path, or None for no file, by what it would hold: a key of `ENDINGS`.

    Raises:
        InputError: As `_io.writable`, or for another ending.
    """
    for kind, path in files.items():
        if path is None:
            continue
        _io.writable(path)
        if path.suffix.lower() not in ENDINGS[kind]:
            expected = " or ".join(ENDINGS[kind][:3])
            raise InputError(f"A {kind} is written to a file that ends in {expected}; found {path.name!r}.")
