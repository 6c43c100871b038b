"""The command `python -m benchmarks`: every measurement behind the pages in `docs/`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from bayescale import _io
from bayescale.cli.options import Json, check_folders, emit, refusal
from bayescale.errors import InputError, nearest

INTERRUPTED = 130
"""Exit code of a command that was stopped by Ctrl-C, as shells have it."""
EXTRAS = {"jinja2": "test", "pyarrow": "test", "polars": "peers", "simple_scaling_laws": "peers"}
"""Extra that brings a package which the library does without."""
PAGES = ("calibration", "decisions", "replications", "simulated", "speed")
"""What `pages` writes, in this order."""

app = typer.Typer(
    name="python -m benchmarks",
    help="Measure bayescale: calibration on published runs, decisions, replications of papers, simulated data, speed. "
    "Verbs that measure write to benchmarks/results and continue where they stopped; `pages` writes docs/evidence/ "
    "from there.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

CALIBRATION, DECISIONS, REPLICATIONS, SIMULATED, SPEED, WRITTEN = (
    "Calibration on published runs",
    "Decisions",
    "Replications",
    "Simulated data",
    "Speed",
    "What is written from the results",
)
"""Panels of the help text."""

Results = Annotated[Path | None, typer.Option(help="Folder of the results; benchmarks/results by default.")]


# --- Calibration ---------------------------------------------------------------------------------------------


@app.command("list", rich_help_panel=CALIBRATION)
def list_methods(as_json: Json = False) -> None:
    """List the methods, how many problems each has scored, and the data sets."""
    from benchmarks.core import store
    from benchmarks.core.methods import METHODS
    from benchmarks.core.problems import DEVELOPMENT
    from benchmarks.core.sources import SOURCES

    cards = [
        {
            "method": name,
            "says": (method.__doc__ or "").strip().splitlines()[0],
            "done": len(store.keys(name)),
        }
        for name, method in METHODS.items()
    ]
    if as_json:
        emit({"methods": cards, "sources": list(SOURCES), "development": list(DEVELOPMENT)})
        return
    for card in cards:
        print(f"{card['method']}: {card['says']}  [{card['done']} problems done]")
    print("sources: " + ", ".join(SOURCES))


@app.command("run", rich_help_panel=CALIBRATION)
def run_methods(
    method: Annotated[list[str] | None, typer.Option(help="Method to score; repeatable; all by default.")] = None,
    source: Annotated[
        list[str] | None, typer.Option(help="Data set of the problems; repeatable; all by default.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, max=1_000_000, help="Score one problem in this many.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; benchmarks/results by default.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Discard earlier results of these methods.")] = False,
    as_json: Json = False,
) -> None:
    """Score methods on held-out runs of published families (hours for all)."""
    from benchmarks.core import run, store
    from benchmarks.core.methods import EXTRA, METHODS
    from benchmarks.core.sources import SOURCES, problems

    methods = method or [name for name in METHODS if name not in EXTRA]
    # A misspelt name is told before anything is read or sampled.
    known(methods, METHODS, "method")
    known(source or [], SOURCES, "source")
    folder = store.RESULTS if out is None else _io.folder(out)
    chosen = problems(source)[::every]
    print(f"{len(chosen)} problems", file=sys.stderr)
    written = []
    for name in methods:
        written.append(run.run(name, chosen, folder, again=again))
        print(f"{name}: done", file=sys.stderr)
    tell_written(written, as_json, problems=len(chosen))


@app.command("pack", rich_help_panel=CALIBRATION)
def pack(results: Results = None, as_json: Json = False) -> None:
    """Convert the rows that `run` wrote into the compact files of the repository (seconds)."""
    from benchmarks.core import store
    from benchmarks.core.methods import METHODS

    tell_written(store.pack(METHODS, existing(results, store.RESULTS)), as_json)


@app.command("scores", rich_help_panel=CALIBRATION)
def forecast_scores(
    source: Annotated[list[str] | None, typer.Option(help="Data set to score; repeatable. All by default.")] = None,
    models: Annotated[
        bool, typer.Option("--models", help="Compare the models of scores only, without rivals.")
    ] = False,
    through_loss: Annotated[
        bool, typer.Option("--through-loss", help="Forecast scores of the overtraining study through the loss.")
    ] = False,
) -> None:
    """Forecast benchmark scores of larger models with several methods; print by data set (half an hour)."""
    from benchmarks.calibration import chain, scores

    chosen = tuple(source or scores.NAMES)
    known(chosen, dict.fromkeys((*scores.NAMES, *scores.SCATTERS)), "source")
    measure = scores.compare_models if models else scores.measure
    found = chain.measure() if through_loss else scores.summary(measure(chosen))
    print(found.round(3).to_string(index=False))


@app.command("values", rich_help_panel=CALIBRATION)
def forecast_values(
    source: Annotated[list[str] | None, typer.Option(help="Data set; repeatable; by default all of them.")] = None,
) -> None:
    """Forecast rewards and returns beyond the fitted runs; print the coverage by data set (minutes)."""
    from benchmarks.calibration import values

    chosen = tuple(source or values.NAMES)
    known(chosen, dict.fromkeys(values.NAMES), "source")
    print(values.summary(values.measure(chosen)).round(2).to_string(index=False))


@app.command("nested", rich_help_panel=CALIBRATION)
def choose_nested(
    design: Annotated[str, typer.Option(help="ladder or curve.")] = "ladder",
    most: Annotated[int, typer.Option(min=1, help="Most problems of a data set, evenly spaced.")] = 160,
) -> None:
    """Choose the hyperparameters of the default without each data set; print its scores there (minutes)."""
    from benchmarks.calibration import nested
    from benchmarks.core.sources import SOURCES, problems

    known([design], {"ladder": 0, "curve": 0}, "design")
    nested.measure(design, problems(list(SOURCES)), most=most)
    print(nested.told(design))


@app.command("pool", rich_help_panel=CALIBRATION)
def pool(
    most: Annotated[int, typer.Option(min=8, help="Most curves of a data set, evenly spaced.")] = 16,
) -> None:
    """Forecast families with few runs, pooled with others of their data set; print by data set (minutes)."""
    from benchmarks.calibration import pool as pooling
    from benchmarks.core.sources import SOURCES, problems

    pooling.measure(problems(list(SOURCES)), most=most)
    print(pooling.told())


@app.command("metrics", rich_help_panel=CALIBRATION)
def several_metrics() -> None:
    """Forecast one loss of the largest runs given another; print by data set (half an hour)."""
    from benchmarks.calibration import metrics

    metrics.measure()
    print(metrics.told())


@app.command("stack", rich_help_panel=CALIBRATION)
def stack(
    most: Annotated[int, typer.Option(min=1, help="Most curves of a data set, evenly spaced.")] = 16,
) -> None:
    """Forecast curves with stacking weights and with default weights; print by data set (minutes)."""
    from benchmarks.calibration import stack as stacking
    from benchmarks.core.sources import SOURCES, problems

    stacking.measure(problems(list(SOURCES)), most=most)
    print(stacking.told())


@app.command("simultaneous", rich_help_panel=CALIBRATION)
def simultaneous(as_json: Json = False) -> None:
    """Score simultaneous bands over all held-out runs of a problem, on a subsample (minutes)."""
    from benchmarks.calibration import simultaneous
    from benchmarks.core.sources import SOURCES, problems

    tell_written([simultaneous.measure(problems(list(SOURCES)))], as_json)


@app.command("screening", rich_help_panel=CALIBRATION)
def screening(
    seed: Annotated[int, typer.Option(help="Seed of the inserted failures.")] = 0,
    forecasts: Annotated[
        int, typer.Option(min=0, help="Compare forecasts of this many families with and without failures instead.")
    ] = 0,
) -> None:
    """Insert failed runs into published families; print the fraction that is found (minutes)."""
    from benchmarks.simulated import screening

    print(screening.compared(forecasts) if forecasts else screening.told(seed))


# --- Decisions -----------------------------------------------------------------------------------------------


@app.command("recipes", rich_help_panel=DECISIONS)
def recipes(
    source: Annotated[list[str] | None, typer.Option(help="Data set of the pairs; repeatable; all by default.")] = None,
    as_json: Json = False,
) -> None:
    """Score forecasts of which of two recipes is better at a larger scale (20 minutes on two cores)."""
    from benchmarks.decisions import recipes
    from benchmarks.decisions.recipe_pairs import SOURCES

    known(source or [], SOURCES, "source of pairs")
    tell_written([recipes.run(source)], as_json)


@app.command("pilots", rich_help_panel=DECISIONS)
def pilots(as_json: Json = False) -> None:
    """Score rules that choose the next runs of a grid (hours)."""
    from benchmarks.decisions import pilots

    tell_written([pilots.run()], as_json)


# --- Replications, simulated data, speed ---------------------------------------------------------------------


@app.command("replications", rich_help_panel=REPLICATIONS)
def replications(
    only: Annotated[str, typer.Option(help="Entries whose name begins with this text.")] = "",
    kind: Annotated[list[str] | None, typer.Option(help="Kind of fit; repeatable; all by default.")] = None,
    as_json: Json = False,
) -> None:
    """Fit published laws to the data they were published with (hours)."""
    from benchmarks.replications import measure

    known(kind or [], measure.KINDS, "kind of fit")
    tell_written([measure.run(kind or measure.KINDS, only)], as_json)


@app.command("sbc", rich_help_panel=SIMULATED)
def sbc(
    only: Annotated[str, typer.Option(help="Cases and laws whose name begins with this text.")] = "",
    long: Annotated[bool, typer.Option("--long", help="Use the default chains of the package.")] = False,
    as_json: Json = False,
) -> None:
    """Simulation-based calibration of the default models and of every law (hours)."""
    from benchmarks.simulated import sbc

    tell_written([sbc.run(only, long)], as_json)


@app.command("speedups", rich_help_panel=DECISIONS)
def speedups(
    gates: Annotated[bool, typer.Option("--gates", help="Ask 10 and 30 times beyond four scales instead.")] = False,
) -> None:
    """Compare forecast and measured scale factors between two recipes (a quarter of an hour)."""
    from benchmarks.decisions import gates as at_gates
    from benchmarks.decisions import speedups

    print(speedups.table(at_gates.run() if gates else speedups.run()))


@app.command("seeds", rich_help_panel=DECISIONS)
def seeds() -> None:
    """Forecast half of the published replicates from the others, and simulate tests after every seed (a minute)."""
    from benchmarks.decisions import seeds

    for line in seeds.lines():
        print(line, flush=True)


@app.command("ladders", rich_help_panel=SIMULATED)
def ladders() -> None:
    """Fit simulated ladders; print how often fits are trustworthy and intervals contain the truth (minutes)."""
    from benchmarks.simulated import ladders

    for line in ladders.lines():
        print(line, flush=True)


@app.command("drawn", rich_help_panel=SIMULATED)
def drawn(as_json: Json = False) -> None:
    """Draw families from the default model, fit them, and count runs inside intervals (an hour)."""
    from benchmarks.simulated import drawn

    tell_written([drawn.measure()], as_json)


@app.command("coverage", rich_help_panel=CALIBRATION)
def coverage(
    repeats: Annotated[int, typer.Option(min=1, max=100, help="Draws of the samples of each model.")] = 1,
    only: Annotated[str, typer.Option(help="Data sets whose name begins with this text.")] = "",
    as_json: Json = False,
) -> None:
    """Forecast pass@k of published counts from 100 samples of each problem; print errors and coverage (minutes)."""
    import json

    from benchmarks.coverage import measure

    frame = measure.measure(repeats, only)
    if frame.empty:
        raise InputError(f"No source with enough samples begins with {only!r}; leave out --only for all.")
    if as_json:
        emit({"rows": json.loads(frame.to_json(orient="records"))})
        return
    print(measure.table(frame).to_string(index=False, float_format="{:.3f}".format))


@app.command("speed", rich_help_panel=SPEED)
def speed(
    only: Annotated[str | None, typer.Option(help="Kinds of measurement that begin with this text.")] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="New processes for each measurement.")] = None,
    as_json: Json = False,
) -> None:
    """Measure time and memory of fits, and of other installed tools (an hour)."""
    from benchmarks.speed import measure

    tell_written([measure.run(repeats or measure.REPEATS, only)], as_json)


@app.command("agreement", rich_help_panel=SPEED)
def agreement(as_json: Json = False) -> None:
    """Compare the posteriors of all ways to compute them, on ten families (ten minutes)."""
    from benchmarks.speed import agreement

    tell_written([agreement.run()], as_json)


@app.command("accelerator", rich_help_panel=SPEED)
def accelerator(
    out: Annotated[
        Path | None, typer.Option(help="File of the results; that of benchmarks/results by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure sampling on a GPU or TPU and on the CPU of the same machine (ten minutes)."""
    from benchmarks.speed import accelerator

    check_folders(out)
    tell_written([accelerator.run(path=out or accelerator.RESULTS)], as_json)


# --- What is written from the results ------------------------------------------------------------------------


@app.command("pages", rich_help_panel=WRITTEN)
def pages(
    page: Annotated[
        list[str] | None,
        typer.Argument(help=f"Pages to write: {', '.join(PAGES)}; all by default.", show_default=False),
    ] = None,
    results: Results = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write in; docs/ and README.md by default.")] = None,
    as_json: Json = False,
) -> None:
    """Write pages and pictures in docs/evidence/, and the headline in README.md (two minutes)."""
    known(page or [], PAGES, "page")
    folder = None if out is None else _io.folder(out)
    written: list[Path] = []
    for name in page or PAGES:
        written += write_page(name, results, folder)
    tell_written(written, as_json)


def write_page(name: str, results: Path | None, folder: Path | None) -> list[Path]:
    """Write one page and its pictures, in a folder or where it belongs.

    Args:
        name: One of `PAGES`.
        results: Folder of the results, or None for that of the repository.
        folder: Folder to write in, or None for `docs/evidence/` and the README.

    Returns:
        The files written.
    """
    from benchmarks.core.store import RESULTS

    if name == "simulated":
        from benchmarks.calibration import page as calibration
        from benchmarks.simulated import sbc

        given = existing(results, RESULTS) / sbc.RESULTS.name
        if folder is None:
            calibration.renew(calibration.PAGE, sbc.section(given), "simulated")
            return [calibration.PAGE]
        return [_io.write_text(folder / "simulated.md", sbc.section(given).strip() + "\n")]
    if name == "calibration":
        from benchmarks.calibration import page as calibration

        if folder is None:
            return calibration.write(existing(results, RESULTS))
        return calibration.write(existing(results, RESULTS), folder / calibration.PAGE.name, None, None)
    if name == "decisions":
        from benchmarks.calibration.page import OVERVIEW, README
        from benchmarks.decisions import page as decisions

        renewed = (README, OVERVIEW) if folder is None else ()
        return decisions.write(
            existing(results, RESULTS), (folder or decisions.PAGE.parent) / decisions.PAGE.name, renewed
        )
    if name == "replications":
        from benchmarks.replications import page as replications
        from benchmarks.replications.measure import RESULTS as ROWS

        given = existing(results, RESULTS) / ROWS.name
        return replications.write(given, (folder or replications.PAGE.parent) / replications.PAGE.name)
    from benchmarks.speed import page as speed_page
    from benchmarks.speed.measure import RESULTS as SECONDS

    given = existing(results, RESULTS) / SECONDS.name
    return speed_page.write(given, (folder or speed_page.PAGE.parent) / speed_page.PAGE.name)


@app.command("record", rich_help_panel=WRITTEN)
def record(results: Results = None, as_json: Json = False) -> None:
    """Write the table of past coverage that the package prints beside its probabilities (seconds)."""
    from benchmarks.calibration import record_table
    from benchmarks.core.store import RESULTS

    tell_written([record_table.write(folder=existing(results, RESULTS))], as_json)


# --- Messages ------------------------------------------------------------------------------------------------


def tell_written(written: list[Path], as_json: bool, **more: Any) -> None:
    """Say which files were written: to programs with what else they should know, to people on stderr."""
    if as_json:
        emit({**more, "written": [str(path) for path in written]})
        return
    for path in written:
        print(f"wrote {path}", file=sys.stderr)


def existing(results: Path | None, default: Path) -> Path:
    """Return the folder of results.

    Raises:
        InputError: If there is none.
    """
    if results is not None and not os.path.isdir(results):
        raise InputError(f"{str(results)[:60]!r} is no folder; name one that `python -m benchmarks run` wrote.")
    return default if results is None else results


def known(names: list[str], registry: Any, kind: str) -> None:
    """Refuse names that a registry lacks.

    Raises:
        InputError: For the first such name.
    """
    for name in names:
        if name not in registry:
            raise InputError(f"There is no {kind} {name!r}. {nearest(name, registry)}")


def main() -> None:
    """Run the command; bad input ends with exit code 2 and one sentence."""
    try:
        # Outside of its standalone mode the framework returns exit codes, that of an interrupt among them.
        code = app(standalone_mode=False)
    except InputError as error:
        finish(str(error), 2)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        finish(f"This needs {error.name}, which is not installed. Run pip install -e '.[{EXTRAS[error.name]}]'.", 2)
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except Exception as error:
        # Click's own usage errors carry a message and the exit code 2.
        if hasattr(error, "format_message"):
            finish(refusal(error), 2)
        raise
    if code == INTERRUPTED:
        finish("Interrupted; every file is complete or as it was.", INTERRUPTED)
    sys.exit(code)


def finish(sentence: str, code: int) -> NoReturn:
    """Print one sentence on stderr and leave."""
    print(f"benchmarks: {sentence}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
