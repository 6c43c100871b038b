"""Subcommand about seed noise."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bayescale.cli.decide import tell
from bayescale.cli.options import Json, Source, reads, tell_log


@reads
def noise(
    runs: Source,
    reading: dict[str, Any],
    bar: Annotated[
        float | None, typer.Option(help="Target for mean losses; prints the first setting with a mean below it.")
    ] = None,
    reference: Annotated[float | None, typer.Option(help="Loss that another run should reproduce.")] = None,
    within: Annotated[float | None, typer.Option(help="Tolerance around --reference.")] = None,
    seeds: Annotated[
        list[int] | None,
        typer.Option(help="Seeds of each recipe for which to print the smallest visible gap; repeatable."),
    ] = None,
    level: Annotated[float, typer.Option(help="Central probability of intervals.")] = 0.9,
    most_seeds: Annotated[
        int, typer.Option(help="Number of planned seeds of each recipe, for a sequential test after every seed.")
    ] = 8,
    error: Annotated[
        float, typer.Option(help="Probability that this test declares one recipe better if they are equal.")
    ] = 0.05,
    as_json: Json = False,
) -> None:
    """Estimate seed sd and differences of recipes, and the smallest difference that each number of seeds can show."""
    import bayescale as bs

    found = bs.read(runs, **reading)
    tell_log(found.log)
    options: dict[str, Any] = {"seeds": seeds} if seeds else {}
    answer = bs.decide.noise(
        found,
        bar=bar,
        reference=reference,
        within=within,
        level=level,
        most_seeds=most_seeds,
        error=error,
        **options,
    )
    tell(answer.to_dict(), [answer], "", [], as_json)
