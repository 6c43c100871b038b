"""Parts that all subcommands share: options, functions that read option values, and the printing of JSON."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from bayescale import _io
from bayescale.checked import shortened
from bayescale.errors import InputError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.")]
LawName = Annotated[str, typer.Option(help="Name of a law (see `bayescale laws`), or auto for one to three inputs.")]
Source = Annotated[
    str, typer.Argument(help="Table of runs: CSV, JSON, Markdown, Parquet, a tracker's export or folder; - for stdin.")
]
Levels = Annotated[str, typer.Option(help="Central probabilities of intervals, e.g. 0.5,0.8,0.95.")]
Plot = Annotated[Path | None, typer.Option(help="Write a picture (PNG) here.")]

READING: dict[str, tuple[Any, Any]] = {
    "column": (
        Annotated[
            list[str] | None,
            typer.Option(help="Column of the file by canonical name, e.g. n_params=params; repeatable."),
        ],
        None,
    ),
    "input": (
        Annotated[
            list[str] | None, typer.Option(help="Scale input to use; repeat for several; none for runs of one scale.")
        ],
        None,
    ),
    "loss": (Annotated[str | None, typer.Option(help="Column of the file with the response.")], None),
    "family": (Annotated[str | None, typer.Option(help="Column of the file that distinguishes families.")], None),
    "unit": (
        Annotated[list[str] | None, typer.Option(help="Unit of an input in the file, e.g. n_params=M; repeatable.")],
        None,
    ),
    "decimal": (Annotated[str | None, typer.Option(help="Decimal mark of the file: . or ,")], None),
    "derive": (
        Annotated[
            str | None,
            typer.Option(
                help="error_rate: 1 - correct / items, or 1 - accuracy; log_perplexity: ln(perplexity), in nats."
            ),
        ],
        None,
    ),
    "score": (
        Annotated[str | None, typer.Option(help="Column of the file with the response, if that is a score.")],
        None,
    ),
    "chance": (Annotated[float | None, typer.Option(help="Score of guessing, e.g. 0.25 for four choices.")], None),
    "ceiling": (Annotated[float | None, typer.Option(help="Score that no model exceeds; 1 by default.")], None),
    "chance_sd": (Annotated[float | None, typer.Option(help="Sd of the prior of --chance; by default known.")], None),
    "ceiling_sd": (Annotated[float | None, typer.Option(help="Sd of the prior of --ceiling; by default known.")], None),
    "n_items": (
        Annotated[float | None, typer.Option(help="Number of items on which all scores are measured.")],
        None,
    ),
    "value": (
        Annotated[
            str | None,
            typer.Option(help="Column of the file with the response, if that is a value of any sign, e.g. a reward."),
        ],
        None,
    ),
    "lower_is_better": (
        Annotated[bool, typer.Option("--lower-is-better", help="Lower values are better; by default higher ones are.")],
        False,
    ),
    "screen": (
        Annotated[str, typer.Option(help="exclude diverged and unfinished runs, or keep them and report them.")],
        "exclude",
    ),
    "checkpoints": (
        Annotated[
            bool, typer.Option("--checkpoints", help="For a folder, keep all rows of each run instead of the last one.")
        ],
        False,
    ),
    "burn_in": (
        Annotated[
            float | None,
            typer.Option(help="Leave out the first checkpoints of each run, up to this fraction of its last one."),
        ],
        None,
    ),
    "table": (
        Annotated[int | None, typer.Option(help="Number of the table or sheet to read, from 1, if there are several.")],
        None,
    ),
}
"""Options of every subcommand that reads runs: those of `bayescale.read`, with singular names where they repeat."""


FIT: dict[str, tuple[Any, Any]] = {
    "discrepancy": (
        Annotated[str | None, typer.Option(help="auto (the default), or none to assume that the law is exact.")],
        None,
    ),
    "likelihood": (
        Annotated[
            str | None, typer.Option(help="normal (the default) or student; for scores binomial or beta-binomial.")
        ],
        None,
    ),
    "design": (
        Annotated[
            str | None,
            typer.Option(
                help="ladder (finished runs of growing size or compute) or curve (more data, steps or attempts); by "
                "default decided by the name of the input."
            ),
        ],
        None,
    ),
    "prior_from": (
        Annotated[
            Path | None,
            typer.Option(help="Earlier fit (.nc) of this family, whose model and prior are reused, e.g. to add runs."),
        ],
        None,
    ),
    "method": (
        Annotated[str | None, typer.Option(help="Sampler: nuts, importance, or auto (importance first).")],
        None,
    ),
    "draws": (Annotated[int | None, typer.Option(help="Draws kept from each chain.")], None),
    "warmup": (Annotated[int | None, typer.Option(help="Steps of adaptation of each chain, discarded.")], None),
    "chains": (Annotated[int | None, typer.Option(help="Independent chains.")], None),
    "target_accept": (Annotated[float | None, typer.Option(help="Acceptance probability of NUTS, below 1.")], None),
}
"""Options of every subcommand that fits: those of `FitOptions`, with the fields of `Nuts` as separate options."""


CHAIN_OPTIONS = {"warmup": "--warmup", "target_accept": "--target-accept"}
"""Options of the sampler that importance sampling does not use."""


def fit_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a fit to a subcommand, which receives the given ones as `options`, see `FitOptions`."""

    def gathered(given: dict[str, Any]) -> dict[str, Any]:
        from bayescale.inference.nuts import Nuts

        if given["method"] == "importance" and (idle := [n for n in CHAIN_OPTIONS if given[n] is not None]):
            named = " and ".join(CHAIN_OPTIONS[n] for n in idle)
            raise InputError(
                f"{named} {'has' if len(idle) == 1 else 'have'} no effect with --method importance, which has no "
                "chains to adapt; leave out, or use --method nuts or --method auto, which use "
                f"{'it' if len(idle) == 1 else 'them'}."
            )
        told = {name: value for name, value in given.items() if value is not None}
        options: dict[str, Any] = {name: told.pop(name) for name in ("likelihood", "design", "method") if name in told}
        if "discrepancy" in told:
            options["discrepancy"] = named_discrepancy(told.pop("discrepancy"))
        if "prior_from" in told:
            from bayescale.posterior.io import load

            options["prior_from"] = load(told.pop("prior_from"))
        return {"options": options | ({"settings": Nuts(**told)} if told else {})}

    return extended(verb, "options", FIT, gathered)


def reads(verb: Callable[..., None]) -> Callable[..., None]:
    """Add the options of reading to a subcommand, which receives the arguments of `bayescale.read` as `reading`.

    If the subcommand itself defines an option of the same name, that option is not replaced.
    """

    def gathered(given: dict[str, Any]) -> dict[str, Any]:
        columns, units = pairs(given.pop("column"), "--column"), pairs(given.pop("unit"), "--unit")
        return {"reading": {"columns": columns, "units": units, "inputs": given.pop("input"), **given}}

    return extended(verb, "reading", READING, gathered)


def extended(
    verb: Callable[..., None],
    keyword: str,
    options: dict[str, tuple[Any, Any]],
    gathered: Callable[[dict[str, Any]], dict[str, Any]],
) -> Callable[..., None]:
    """Return a subcommand with further options, which it receives together as one keyword argument."""
    own = inspect.signature(verb, eval_str=True)
    added = {name: option for name, option in options.items() if name not in own.parameters}

    @functools.wraps(verb)
    def run(**arguments: Any) -> None:
        given = {n: arguments.pop(n) if n in added else default for n, (_, default) in options.items()}
        verb(**arguments, **gathered(given))

    only = inspect.Parameter.KEYWORD_ONLY
    parameters = [p.replace(kind=only) for name, p in own.parameters.items() if name != keyword]
    last = [p for p in parameters if p.name == "as_json"]
    new = [inspect.Parameter(n, only, annotation=a, default=d) for n, (a, d) in added.items()]
    ordered = [*(p for p in parameters if p not in last), *new, *last]
    run.__signature__ = own.replace(parameters=ordered)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in ordered}
    return run


def tell_log(entries: Iterable[Any]) -> None:
    """Print log entries about reading on stderr."""
    for entry in entries:
        print(entry, file=sys.stderr)


@contextlib.contextmanager
def told_unless_answered(entries: Iterable[Any]) -> Iterator[None]:
    """Print log entries about reading on stderr.

    Entries about left-out rows are printed only after an error, because the answer contains them.
    """
    excluded = [entry for entry in entries if entry.severity == "excluded"]
    tell_log(entry for entry in entries if entry not in excluded)
    try:
        yield
    except InputError:
        tell_log(excluded)
        raise


REPEAT = {"--at": "For another point repeat the option, as in --at flops=1e21 --at flops=1e22."}
"""Advice for an option in which a name is given twice."""


EXAMPLES = {"--at": "an input by name, e.g. flops=1e21 or n_params=7B,n_tokens=140B"}
"""Values that options with names expect, where these are not names of columns."""


NO_NUMBER = "must be a valid number, such as 1.2M"
"""Error message of a numeric option whose value is not a number."""


def refusal(error: Any) -> str:
    """Return one sentence for a command line that typer cannot read."""
    # Typer's own sentence for an invalid number is about parsing and does not contain the value.
    checks = getattr(error.__context__, "errors", list)()
    if checks and getattr(error, "param", None) is not None:
        expected = checks[0]["msg"].partition(",")[0].replace("Input should be", "must be")
        # Errors raised by `number` do not say what was expected.
        expected = expected.replace("Value error", NO_NUMBER)
        return f"{error.param.opts[0]} {expected}; found {shortened(checks[0]['input'])}."
    text = str(error.format_message())
    # Earlier versions of typer pass on the message of `float`.
    _, refused, found = text.partition("could not convert string to float: ")
    if refused and getattr(error, "param", None) is not None:
        return f"{error.param.opts[0]} {NO_NUMBER}; found {found.removesuffix('.')}."
    return text if text.endswith((".", "?", ")")) else f"{text}."


def emit(value: Any) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(value, allow_nan=False, default=str))


def pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    """Read texts such as `n_params=params` as a mapping."""
    result = {}
    for text in texts or []:
        ours, equals, theirs = text.partition("=")
        if not equals or not ours or not theirs:
            example = EXAMPLES.get(option, "ours=theirs, e.g. n_params=params")
            raise InputError(f"{option} expects {example}; found {text!r}.")
        if ours in result:
            raise InputError(f"{option} names {ours} twice: {text!r}. {REPEAT.get(option, 'Give it once.')}")
        result[ours] = theirs
    return result


def numbers(text: str) -> dict[str, float]:
    """Read inputs such as `n_params=70e9,n_tokens=1.4e12`."""
    named = pairs(text.split(","), "--at")
    try:
        return {name: number(value) for name, value in named.items()}
    except ValueError:
        raise InputError(f"--at expects numbers, e.g. n_params=70e9 or 70B; found {text!r}.") from None


def amount(text: str) -> Any:
    """Return an option with this help text for a count or a price: a number with or without a suffix, see `number`."""
    return typer.Option(parser=number, metavar="NUMBER", help=text)


def number(text: str | float) -> float:
    """Read a number with or without a suffix, as in tables: 7e9 or 7B."""
    if not isinstance(text, str):
        return float(text)
    from bayescale.data.cells import SUFFIXES

    factor = SUFFIXES.get(text.strip()[-1:].lower())
    return float(text) if factor is None else float(text.strip()[:-1]) * factor


def probabilities(text: str) -> list[float]:
    """Read probabilities such as `0.5,0.8,0.95`."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = [0.0]
    if not all(0 < value < 1 for value in values):
        raise InputError(f"--levels expects probabilities in (0, 1), e.g. 0.5,0.8,0.95; found {text!r}.")
    return values


def named_discrepancy(text: str) -> str | None:
    """Read the value of --discrepancy."""
    if text not in ("auto", "none"):
        raise InputError(f"--discrepancy is auto or none; found {text!r}.")
    return None if text == "none" else "auto"


def check_folders(*paths: Path | None) -> None:
    """Refuse output paths at which no file can be written, before any work is done."""
    for path in paths:
        if path is not None:
            _io.writable(path)


def members(path: Path, families: list[str]) -> list[Path]:
    """Return an output path for each family: `path` for a single family, else paths beside it with their names."""
    if len(families) == 1:
        return [path]
    found: list[Path] = []
    taken: set[str] = set()
    for family in families:
        name = _io.free_name(family, taken, path.suffix, f"{path.stem}-")
        taken.add(name.lower())
        found.append(path.with_name(name))
    return found
