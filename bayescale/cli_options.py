"""What the verbs of the command share: options, readers of their texts, and the one way to print JSON."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from bayescale.errors import InputError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Seed = Annotated[int, typer.Option(help="Seed of all randomness.")]
LawName = Annotated[str, typer.Option(help="Name of a law (see `bayescale laws`), or auto for one to three inputs.")]
Columns = Annotated[list[str] | None, typer.Option("--column", help="Our name = the file's, e.g. n_params=params.")]
Inputs = Annotated[list[str] | None, typer.Option("--input", help="Scale input to use; repeat for several.")]
Levels = Annotated[str, typer.Option(help="Central probabilities of intervals, e.g. 0.5,0.8,0.95.")]
DriftName = Annotated[str, typer.Option(help="auto, or none to trust the law outright.")]
Caution = Annotated[str, typer.Option(help="normal, or high: pool a second kind of drift, for several inputs.")]
NoiseName = Annotated[str, typer.Option(help="normal or student.")]
Plot = Annotated[Path | None, typer.Option(help="Write a picture (PNG) here.")]


REPEAT = {"--at": "For another point repeat the option, as in --at flops=1e21 --at flops=1e22."}
"""What to do instead of naming a thing twice in one option."""


def emit(value: Any) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(value, allow_nan=False, default=str))


def pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    """Read `ours=theirs` texts."""
    result = {}
    for text in texts or []:
        ours, equals, theirs = text.partition("=")
        if not equals or not ours or not theirs:
            raise InputError(f"{option} expects ours=theirs, e.g. n_params=params; found {text!r}.")
        if ours in result:
            raise InputError(f"{option} names {ours} twice: {text!r}. {REPEAT.get(option, 'Give it once.')}")
        result[ours] = theirs
    return result


def numbers(text: str) -> dict[str, float]:
    """Read `n_params=70e9,n_tokens=1.4e12`."""
    named = pairs(text.split(","), "--at")
    try:
        return {name: float(value) for name, value in named.items()}
    except ValueError:
        raise InputError(f"--at expects numbers, e.g. n_params=70e9; found {text!r}.") from None


def probabilities(text: str) -> list[float]:
    """Read `0.5,0.8,0.95`."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = [0.0]
    if not all(0 < value < 1 for value in values):
        raise InputError(f"--levels expects probabilities in (0, 1), e.g. 0.5,0.8,0.95; found {text!r}.")
    return values


def named_drift(text: str) -> str | None:
    """Read the --drift option."""
    if text not in ("auto", "none"):
        raise InputError(f"--drift is auto or none; found {text!r}.")
    return None if text == "none" else "auto"


def check_folders(*paths: Path | None) -> None:
    """Refuse output paths whose folder does not exist, before any work is done."""
    for path in paths:
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise InputError(f"{path} cannot be written: expected a file name in an existing folder.")


def members(path: Path, families: list[str]) -> list[Path]:
    """Path of each family's file beside `path`: of one family itself, of several named after them, no two alike."""
    if len(families) == 1:
        return [path]
    found: list[Path] = []
    # Some file systems do not tell capitals from small letters.
    taken: set[str] = set()
    for family in families:
        safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in family)
        numbered = (safe if again == 1 else f"{safe}-{again}" for again in itertools.count(1))
        name = next(name for name in numbered if name.lower() not in taken)
        taken.add(name.lower())
        found.append(path.with_name(f"{path.stem}-{name}{path.suffix}"))
    return found
