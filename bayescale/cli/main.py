"""The `bayescale` command: every subcommand calls one public function; results on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from bayescale.cli import coverage, decide, noise, pool, reach, read, stack
from bayescale.cli.given import check_files
from bayescale.cli.misspelt import misspelt
from bayescale.cli.options import (
    Json,
    LawName,
    Levels,
    Plot,
    Seed,
    Source,
    amount,
    emit,
    fit_options,
    members,
    numbers,
    probabilities,
    reads,
    refusal,
    tell_log,
)
from bayescale.errors import InputError, Status, UntrustworthyFit, because, counted

MOST_TOLD = 10
"""Largest number of points of a forecast that are described in words; the table contains all."""
INTERRUPTED = 130
"""Exit code of a command that was stopped by Ctrl-C, as in shells."""

app = typer.Typer(
    name="bayescale",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
corpus_app = typer.Typer(help="Published model families.", no_args_is_help=True)
app.add_typer(corpus_app, name="corpus")
app.command()(read.read)
app.command("coverage")(coverage.VERB)
app.command()(noise.noise)
app.command()(reach.reach)
app.command()(pool.pool)
app.command()(stack.stack)
for name, verb in decide.VERBS.items():
    app.command(name)(verb)


def show_version(wanted: bool) -> None:
    """Print the version of the package and exit."""
    if wanted:
        from bayescale import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Bayesian scaling laws: posteriors, calibrated forecasts and decisions from a table of training runs."""


def main() -> None:
    """Run the command; bad input ends with exit code 2 and one sentence, an untrustworthy fit under --strict with 3."""
    # Compiled programs are cached for later calls of the command; the library itself never changes JAX's settings.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_folder()))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "1")
    try:
        # With standalone_mode off, typer returns exit codes, also that of an interrupt.
        code = app(standalone_mode=False)
    except InputError as error:
        finish(str(error), 2)
    except UntrustworthyFit as error:
        finish(str(error), 3)
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except Exception as error:
        # Without a subcommand the help was printed, and nothing needs to be added.
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.exit(2)
        # Usage errors of click have a message and the exit code 2.
        if hasattr(error, "format_message"):
            finish(misspelt(error) or refusal(error), 2)
        raise
    if code == INTERRUPTED:
        finish("Interrupted; every file is complete or unchanged.", INTERRUPTED)
    sys.exit(code)


def cache_folder() -> Path:
    """Return the user's cache folder for compiled programs."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "bayescale" / "compiled"


def finish(sentence: str, code: int) -> NoReturn:
    """Print one sentence on stderr and exit."""
    print(f"bayescale: {sentence}", file=sys.stderr)
    sys.exit(code)


@app.command()
def demo(out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("bayescale-demo"), seed: Seed = 0) -> None:
    """Forecast real runs from built-in data, compare with the measured losses, and write plots and tables."""
    from bayescale.cli.demo import run

    run(out, seed)


@app.command()
@reads
@fit_options
def fit(
    runs: Source,
    reading: dict[str, Any],
    options: dict[str, Any],
    law: LawName = "auto",
    out: Annotated[Path | None, typer.Option(help="Write the posterior (netCDF) here.")] = None,
    seed: Seed = 0,
    strict: Annotated[bool, typer.Option(help="Exit with code 3 if a fit is not trustworthy (see --json).")] = False,
    folder: Annotated[Path | None, typer.Option(help="Keep finished posteriors here; a rerun reads them.")] = None,
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    """Sample the posterior of a scaling law; a file with several families gives one posterior each."""
    check_files(fit=out, picture=plot)
    import bayescale as bs

    families, unfit = bs.read_families(runs, **reading)
    log = list(dict.fromkeys(entry for family in families for entry in family.log))
    tell_log([] if as_json else log)
    results = bs.fit_many(
        families,
        law,
        seed=seed,
        strict=strict,
        folder=folder,
        **options,
    )
    posteriors = [result for result in results if not isinstance(result, bs.Failure)]
    failed = [(family, Status.REFUSED, reason) for family, reason in unfit.items()]
    failed += [(f.runs.name, f.status, f.reason) for f in results if isinstance(f, bs.Failure)]
    # File names are chosen before any family fails, so that a family's file has the same name in the next call.
    names = [*(family.name for family in families), *unfit]
    written: list[str] = []
    for file, write in ((out, bs.Fitted.save), (plot, lambda post, path: bs.plot.save(bs.plot.intervals(post), path))):
        if file is None:
            continue
        paths = dict(zip(names, members(file, names), strict=True))
        for posterior in posteriors:
            write(posterior, paths[posterior.runs.name])
            written.append(str(paths[posterior.runs.name]))
    if as_json:
        failures = [{"family": family, "status": status.name, "reason": reason} for family, status, reason in failed]
        fits, told = [describe_fit(p) for p in posteriors], [dataclasses.asdict(entry) for entry in log]
        emit({"fits": fits, "failures": failures, "written": written, "log": told})
    else:
        known = {entry.text for entry in log}
        for number, posterior in enumerate(posteriors):
            print(described(posterior, known, again=number > 0))
        for path in written:
            print(f"wrote {path}", file=sys.stderr)
    if failed:
        reasons = because((family, reason) for family, _, reason in failed)
        families = counted(len(results) + len(unfit), "family", "families")
        finish(f"{len(failed)} of {families} {'has' if len(failed) == 1 else 'have'} no posterior. {reasons}", 2)


@app.command()
def predict(
    fit: Annotated[Path, typer.Argument(help="Posterior written by `bayescale fit --out`.")],
    at: Annotated[list[str], typer.Option(help="Inputs, e.g. n_params=70e9,n_tokens=1.4e12; repeatable.")],
    kind: Annotated[str, typer.Option(help="run (one future run) or mean (the curve).")] = "run",
    levels: Levels = "0.5,0.8,0.95",
    target: Annotated[float | None, typer.Option(help="Also print the probability that this target is met.")] = None,
    value_se: Annotated[
        float | None, typer.Option(help="Standard error with which the response will be measured.")
    ] = None,
    items: Annotated[float | None, amount("Number of items that the response, a rate, will be measured on.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Forecast even beyond data that rise and then fall.")] = False,
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    """Forecast the loss, or score, of future runs with intervals."""
    import bayescale as bs

    points = [numbers(text) for text in at]
    chosen = probabilities(levels)
    check_files(picture=plot)
    posterior = bs.load(fit)
    columns = {name: [point.get(name) for point in points] for name in points[0]}
    if any(set(point) != set(points[0]) for point in points):
        raise InputError("Every --at must name the same inputs.")
    forecast = posterior.predict(columns, kind=kind, force=force)
    if value_se is not None or items is not None:
        forecast = forecast.measured(value_se, items=items)
    frame = forecast.to_frame(chosen)
    if target is not None:
        frame[f"p_{side_of(forecast)}_target"] = forecast.probability_met(target)
    from bayescale.decide.trust import caveats
    from bayescale.posterior.checks import in_short

    notes = posterior.check(forecast)
    if plot is not None:
        bs.plot.save(bs.plot.forecast(forecast, target=target), plot)
    if as_json:
        rows = json.loads(frame.to_json(orient="records", double_precision=15))
        trusted = not any(caveats(posterior, point) for point in forecast.points.astype(float).to_dict("records"))
        told = {"status": posterior.status.name, "trustworthy": trusted}
        emit({"forecasts": rows, **told, "notes": [dataclasses.asdict(n) for n in notes]})
        return
    print(frame.to_string(index=False))
    print(explained(forecast, target))
    for note in notes:
        print(in_short(note, posterior), file=sys.stderr)


def side_of(forecast: Any) -> str:
    """Return the side of a target on which a response is better."""
    return "above" if forecast.higher_is_better else "below"


def explained(forecast: Any, target: float | None) -> str:
    """Describe in words the table of a forecast and its columns.

    Args:
        forecast: A forecast.
        target: The target whose probability is a column, or None.
    """
    listed = forecast.verdicts()
    lines = ["", forecast.heading, *listed[:MOST_TOLD]]
    if len(listed) > MOST_TOLD:
        lines.append(f"  and {counted(len(listed) - MOST_TOLD, 'more point')}")
    lines += forecast.remarks()
    lines.append(
        "ratio: the extrapolation factor: how many times a point lies beyond (or below) the fitted runs, in the input "
        "that is farthest out, or in compute for runs on one ray; 1: inside the data."
    )
    lines.append("q0.5: the median; q0.1 to q0.9: the 80 % interval, and so on.")
    if target is not None:
        side = side_of(forecast)
        lines.append(f"p_{side}_target: probability that the response is {side} {target:g}.")
    return "\n".join(lines)


@app.command()
@reads
@fit_options
def backtest(
    runs: Source,
    reading: dict[str, Any],
    options: dict[str, Any],
    law: LawName = "auto",
    ratio: Annotated[
        list[float] | None,
        typer.Option(help="Fit the runs at least this many times smaller than the largest; repeatable."),
    ] = None,
    largest: Annotated[
        int | None, typer.Option(help="Hold out this many of the largest sizes, with all runs of each.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write every held-out row (CSV) here.")] = None,
    seed: Seed = 0,
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    """Hold out the largest runs, forecast them, and score the forecast."""
    check_files(table=out, picture=plot)
    import bayescale as bs

    families, unfit = bs.read_families(runs, **reading)
    log = list(dict.fromkeys(entry for family in families for entry in family.log))
    tell_log([] if as_json else log)
    from bayescale.evaluate.backtest import told_once

    back = bs.backtest(families, law, ratio=ratio or None, largest=largest, seed=seed, **options)
    coverage = back.coverage()
    if out is not None:
        back.save_csv(out)
    if plot is not None:
        bs.plot.save(back.plot(), plot)
    skipped: list[tuple[str, float | None, str]] = [(family, None, reason) for family, reason in unfit.items()]
    skipped += [(family, factor if math.isfinite(factor) else None, reason) for family, factor, reason in back.skipped]
    known = {entry.text for entry in log}
    warnings = [(family, factor, note.text) for family, factor, note in back.warnings if note.text not in known]
    for word, entries in (("left out", skipped), ("warning", warnings)):
        for line in told_once(entries):
            print(f"{word}: {line}", file=sys.stderr)
    if as_json:
        rows = json.loads(back.to_frame().to_json(orient="records", double_precision=15))
        left = [dict(zip(("family", "ratio", "reason"), parts, strict=True)) for parts in skipped]
        warnings = [{"family": f, "ratio": r, "code": note.code, "text": note.text} for f, r, note in back.warnings]
        shares = json.loads(coverage.to_json(orient="records"))
        told = [dataclasses.asdict(entry) for entry in log]
        ratios = json.loads(back.by_ratio().to_json(orient="records")) if largest is None else []
        answer = {"rows": rows, "coverage": shares, "by_ratio": ratios, "designs": back.designs}
        emit({**answer, "skipped": left, "warnings": warnings, "log": told})
        return
    tell_backtest(back, counts_sizes=largest is not None)
    if out is not None:
        print(f"wrote {out}", file=sys.stderr)


def tell_backtest(back: Any, counts_sizes: bool) -> None:
    """Print the tables of a backtest, and the designs that its fits assumed.

    Args:
        back: A backtest.
        counts_sizes: Whether a number of sizes was held out, instead of an extrapolation factor.
    """
    print(f"Held-out runs:\n{back.held_out_text()}\n")
    if counts_sizes:
        print(back.coverage_text())
    else:
        print(f"Coverage by ratio:\n{back.by_ratio().to_string(index=False, float_format='{:.4g}'.format)}")
    if taken := back.design_text():
        print(f"\nThe runs were {taken}.")


@app.command()
def laws(
    name: Annotated[
        str | None,
        typer.Argument(help="Name, nickname, author or words of the paper's title; leave out for the list."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the registered laws, or describe those that match a name, a nickname or an author."""
    from bayescale import laws as registry
    from bayescale.laws import describe

    known = registry.LAWS
    if name is None or name in known or name in registry.ALIASES:
        chosen = list(known.values()) if name is None else [registry.get(name)]
    else:
        # If nothing is found, the error for an unknown name lists similar ones.
        chosen = [known[one] for one in registry.search(name)] or [registry.get(name)]
    if as_json:
        emit({"laws": [describe.card(law) for law in chosen]})
        return
    for law in chosen:
        print(describe.text(law) if len(chosen) == 1 else describe.line(law))
    if len(chosen) > 1:
        curves = len({law.function for law in chosen})
        print(f"{len(chosen)} laws of {curves} different curves; bayescale laws NAME describes one.", file=sys.stderr)


@corpus_app.command("list")
def corpus_list(as_json: Json = False) -> None:
    """List published families with licence, paper, and whether their files are on this machine and verified."""
    from bayescale import corpus

    table = corpus.table()
    table.insert(2, "state", [corpus.state(name) for name in table["name"]])
    if as_json:
        emit({"entries": json.loads(table.to_json(orient="records"))})
        return
    short = table[["name", "state", "families", "rows", "inputs", "licence", "paper", "arxiv_id", "caveats"]]
    print(short.to_string(index=False, justify="left", max_colwidth=40))
    print("Caveats in full: bayescale corpus show NAME.", file=sys.stderr)


@corpus_app.command("fetch")
def corpus_fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Names of the data sets to fetch.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Fetch every data set that can be downloaded.")] = False,
    as_json: Json = False,
) -> None:
    """Download data sets and verify their checksums; files that are here already are only verified."""
    from bayescale import corpus

    if everything and names:
        raise InputError(f"--all already fetches every data set, including {names[0]}. Give either names or --all.")
    table = corpus.table()
    chosen = list(table["name"][table["kind"] == "download"]) if everything else names
    if not chosen:
        raise InputError("Give the name of a data set, e.g. bayescale corpus fetch epoch_chinchilla, or --all.")
    for name in chosen:
        # A misspelt name is refused before anything is downloaded.
        corpus.state(name)
    fetched = []
    for name in chosen:
        with file_progress(name) as advance:
            folder = corpus.fetch(name, progress=advance)
        fetched.append({"name": name, "folder": str(folder), "state": corpus.state(name)})
    if as_json:
        emit({"fetched": fetched})
        return
    for source in fetched:
        print(f"{source['name']}: {source['state']} in {source['folder']}")


@corpus_app.command("show")
def corpus_show(name: str, as_json: Json = False) -> None:
    """Show the rows of one built-in family or data set, with licence, paper and caveats."""
    from bayescale import corpus

    with file_progress(name) as advance:
        frame = corpus.frame(name, progress=advance)
    table = corpus.table()
    entry = json.loads(table[table["name"] == name].to_json(orient="records"))[0] | {"state": corpus.state(name)}
    if as_json:
        rows = json.loads(frame.to_json(orient="records", double_precision=15))
        emit({"entry": entry, "rows": rows})
        return
    for key, value in entry.items():
        print(f"{key}: {value}", file=sys.stderr)
    try:
        frame.to_csv(sys.stdout, index=False)
    except BrokenPipeError:
        # The program that reads the output, such as `head`, has ended; Python would report that again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def file_progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """Show the number of finished files on a terminal; stay silent in pipes."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        # Before rich 14.3, a disabled bar still ends with a blank line.
        yield lambda done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("files"))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def described(posterior: Any, told: set[str], again: bool) -> str:
    """Describe a posterior as text, without notes that were printed before.

    Args:
        posterior: A fit.
        told: Notes that were printed; new ones are added.
        again: Whether another fit was described before; notes on both are then shortened.
    """
    from bayescale.posterior.checks import in_short
    from bayescale.posterior.fitted import describe

    lines, before = [describe(posterior, notes=False)], 0
    for note in posterior.check():
        if note.text in told:
            before += again
        elif note.code != "unconverged":
            lines.append(str(in_short(note, posterior) if again else note))
            told.add(note.text)
    if before:
        lines.append(f"{counted(before, 'note')} above {'applies' if before == 1 else 'apply'} to this fit, too.")
    return "\n".join(lines)


def describe_fit(posterior: Any) -> dict[str, Any]:
    """Return a description of a posterior as plain values."""
    import numpy as np

    from bayescale.posterior.fitted import component_labels, own_draws

    components = []
    for part, label, weight in zip(posterior.components, component_labels(posterior), posterior.weights, strict=True):
        constants = {
            name: {f"q{q:g}": float(np.quantile(values, q)) for q in (0.05, 0.5, 0.95)}
            for name, values in own_draws(part).items()
        }
        components.append({"component": label, "weight": weight, "constants": constants})
    return {
        "family": posterior.runs.name,
        "law": posterior.law_names,
        "rows": len(posterior.runs),
        "status": posterior.status.name,
        "trustworthy": posterior.trustworthy,
        "components": components,
        "unit": posterior.unit,
        "notes": [dataclasses.asdict(note) for note in posterior.check()],
    }
