"""Verbs of the command for the calibration benchmark, which lies beside the package in a checkout."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bayescale import _io
from bayescale.cli.options import Json, check_folders, emit
from bayescale.errors import InputError, nearest

app = typer.Typer(help="The calibration benchmark (in a checkout of the repository).", no_args_is_help=True)


@app.command("list")
def list_methods(as_json: Json = False) -> None:
    """List methods, with how many problems of each are done, and sources."""
    methods, problems, runner = benchmark("methods"), benchmark("problems"), benchmark("run")
    cards = [
        {
            "method": name,
            "says": (method.__doc__ or "").strip().splitlines()[0],
            "done": len({row["key"] for row in runner.stored(name)}),
        }
        for name, method in methods.METHODS.items()
    ]
    if as_json:
        emit({"methods": cards, "sources": list(problems.SOURCES), "development": list(problems.DEVELOPMENT)})
        return
    for card in cards:
        print(f"{card['method']}: {card['says']}  [{card['done']} problems done]")
    print("sources: " + ", ".join(problems.SOURCES))


@app.command("run")
def run(
    method: Annotated[list[str] | None, typer.Option(help="Method to score; repeatable; all by default.")] = None,
    source: Annotated[list[str] | None, typer.Option(help="Source of problems; repeatable; all by default.")] = None,
    every: Annotated[int, typer.Option(min=1, max=1_000_000, help="Take every so manieth problem only.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; the repository's by default.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Forget earlier results of these methods.")] = False,
    as_json: Json = False,
) -> None:
    """Score methods on problems, continuing where an earlier run stopped."""
    methods, problems, runner = benchmark("methods"), benchmark("problems"), benchmark("run")
    chosen_methods = method or [name for name in methods.METHODS if name not in methods.EXTRA]
    # A misspelt name is told before anything is read or sampled.
    known(chosen_methods, methods.METHODS, "method")
    known(source or [], problems.SOURCES, "source")
    folder = runner.RESULTS if out is None else _io.folder(out)
    chosen = problems.problems(source)[::every]
    print(f"{len(chosen)} problems", file=sys.stderr)
    written = []
    for name in chosen_methods:
        written.append(str(runner.run(name, chosen, folder, again=again)))
        print(f"{name}: done", file=sys.stderr)
    tell_written(written, as_json, problems=len(chosen))


@app.command("pack")
def pack(
    results: Annotated[Path | None, typer.Option(help="Folder of the results; the repository's by default.")] = None,
    as_json: Json = False,
) -> None:
    """Compress the results, for the repository."""
    runner = benchmark("run")
    written = [str(path) for path in runner.pack(existing(results, runner.RESULTS))]
    tell_written(written, as_json)


@app.command("report")
def report(
    results: Annotated[Path | None, typer.Option(help="Folder of the results; the repository's by default.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Page to write instead of docs/calibration.md and README.md.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the calibration and the decision page, their pictures and the README's table from the results."""
    check_folders(out)
    pages = benchmark("report")
    options = {} if out is None else {"page": out, "readme": None}
    folder = existing(results, pages.RESULTS)
    written = [str(path) for path in pages.write(folder, **options)]
    if out is None:
        written += [str(path) for path in benchmark("decisions").write(folder)]
    tell_written(written, as_json)


def tell_written(written: list[str], as_json: bool, **more: Any) -> None:
    """Say which files were written: to programs with what else they should know, to people on stderr."""
    if as_json:
        emit({**more, "written": written})
        return
    for path in written:
        print(f"wrote {path}", file=sys.stderr)


def benchmark(module: str) -> Any:
    """Import a module of the benchmark, which lies beside the package in a checkout and is no part of the wheel.

    Raises:
        InputError: Where there is no checkout.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / "benchmarks" / "problems.py").exists():
        raise InputError(
            "The benchmark is not part of the installed package. Clone the repository, install it from there "
            "(pip install -e .), and run this command again."
        )
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return importlib.import_module(f"benchmarks.{module}")


def existing(results: Path | None, default: Path) -> Path:
    """Return the folder of results.

    Raises:
        InputError: If there is none.
    """
    if results is not None and not os.path.isdir(results):
        raise InputError(f"{str(results)[:60]!r} is no folder; name one that `bayescale benchmark run` wrote.")
    return default if results is None else results


def known(names: list[str], registry: Any, kind: str) -> None:
    """Refuse names that a registry lacks."""
    for name in names:
        if name not in registry:
            raise InputError(f"There is no {kind} {name!r}. {nearest(name, registry)}")
