"""Subcommand about repeated sampling: coverage of problems by k attempts, from counts of correct attempts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bayescale.cli.given import check_files, refuse_idle
from bayescale.cli.options import FIT, Json, Levels, Plot, Seed, emit, extended, members, pairs, probabilities
from bayescale.errors import InputError

SAMPLING = {name: FIT[name] for name in ("draws", "warmup", "chains", "target_accept")}
"""Options of the sampler that a fit to counts accepts."""
Table = Annotated[
    Path, typer.Argument(help="Table, one row per problem: correct, attempts, optionally problem and model.")
]
Attempts = Annotated[str, typer.Option("--k", help="Numbers of attempts, e.g. 1,100,10000.")]
Columns = Annotated[
    list[str] | None, typer.Option(help="Column of the table by role, e.g. correct=hits or family=model; repeatable.")
]
LAW = Annotated[str, typer.Option(help="Distribution of success rates: exgaussian, beta or kumaraswamy.")]
Unsolvable = Annotated[
    bool, typer.Option("--unsolvable/--no-unsolvable", help="Let a fraction of problems be unsolvable.")
]
Scaled = Annotated[
    bool | None,
    typer.Option("--scaled/--no-scaled", help="Let the largest success rate be below 1; by default for other laws."),
]
Problems = Annotated[str, typer.Option(help="Problems to forecast: new, or same (those of the table).")]
Items = Annotated[int | None, typer.Option(help="Number of new problems on which coverage will be measured.")]
Target = Annotated[float | None, typer.Option(help="Also print the number of attempts that this coverage needs.")]
Level = Annotated[float, typer.Option(help="Probability with which that number of attempts reaches --target.")]


def sampled(given: dict[str, Any]) -> dict[str, Any]:
    """Return the sampler's settings from the given options."""
    import dataclasses

    from bayescale.coverage.fitting import SETTINGS

    told = {name: value for name, value in given.items() if value is not None}
    return {"settings": dataclasses.replace(SETTINGS, **told) if told else None}


def coverage(
    context: typer.Context,
    table: Table,
    settings: Any,
    k: Attempts = "1,10,100,1000,10000",
    problems: Problems = "new",
    items: Items = None,
    target: Target = None,
    level: Level = 0.8,
    law: LAW = "exgaussian",
    unsolvable: Unsolvable = True,
    scaled: Scaled = None,
    column: Columns = None,
    levels: Levels = "0.5,0.8,0.95",
    seed: Seed = 0,
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    """Forecast coverage (pass@k): the fraction of problems that at least one of k attempts solves."""
    check_files(picture=plot)
    asked, chosen = attempts(k), probabilities(levels)
    if target is None:
        refuse_idle(context, ("level",), "without --target, the coverage to be reached")
    import bayescale as bs
    from bayescale import checked
    from bayescale.coverage.posterior import check_question

    check_question(problems, items)
    checked.options(
        target=(target, checked.optional(checked.PROBABILITY)),
        level=(level, checked.PROBABILITY),
    )
    fits = bs.coverage.fit_each(
        table,
        seed=seed,
        law=law,
        unsolvable=unsolvable,
        scaled=scaled,
        columns=pairs(column, "--column"),
        settings=settings,
    )
    answers = []
    paths = members(plot, list(fits)) if plot is not None else []
    for number, post in enumerate(fits.values()):
        forecast = post.predict(asked, problems=problems, items=items)
        frame = forecast.to_frame(chosen)
        budget = None if target is None else post.budget(target, level, problems=problems)
        written = []
        if paths:
            picture = bs.plot.coverage(post, upto=max(*asked, 2), problems=problems, target=target)
            written.append(str(bs.plot.save(picture, paths[number])))
        answers.append(answer(post, frame, budget, written))
        if not as_json:
            print(*[""] * (number > 0), told(post, frame, budget), sep="\n")
            for path in written:
                print(f"wrote {path}", file=sys.stderr)
    if as_json:
        emit({"coverage": answers})


def answer(post: Any, frame: Any, budget: Any, written: list[str]) -> dict[str, Any]:
    """Return the results for one family as plain values."""
    return {
        "family": post.counts.name,
        "status": post.status.name,
        "problems": len(post.counts),
        "forecasts": json.loads(frame.to_json(orient="records", double_precision=15)),
        "budget": None if budget is None else budget.to_dict(),
        "notes": list(post.counts.notes),
        "written": written,
    }


def told(post: Any, frame: Any, budget: Any) -> str:
    """Return the results for one family as text."""
    parts = [repr(post), frame.to_string(index=False, float_format="{:.4f}".format)]
    return "\n\n".join(parts + ([] if budget is None else [repr(budget)]))


def attempts(text: str) -> list[int]:
    """Read a list of numbers such as `1,100,10000`."""
    from bayescale.coverage.counts import asked_attempts

    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--k expects whole numbers of attempts, e.g. 1,100,10000; found {text!r}.") from None
    return asked_attempts(values)


VERB = extended(coverage, "settings", SAMPLING, sampled)
