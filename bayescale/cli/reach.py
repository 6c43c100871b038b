"""Subcommand that finds the scale at which a target is met."""

from __future__ import annotations

from typing import Annotated

import typer

from bayescale.cli.decide import Fit, tell
from bayescale.cli.options import Json, amount, numbers


def reach(
    fit: Fit,
    target: Annotated[float, typer.Option(help="Loss, score or value that the mean curve should meet.")],
    along: Annotated[str | None, typer.Option(help="Input to vary, if the law has several.")] = None,
    at: Annotated[str | None, typer.Option(help="The other inputs, e.g. n_tokens=1e12.")] = None,
    upto: Annotated[float | None, amount("End of the search; by default a thousand times the data.")] = None,
    as_json: Json = False,
) -> None:
    """Find the size, budget or number of tokens at which the mean curve meets a target."""
    import bayescale as bs

    others = None if at is None else numbers(at)
    found = bs.decide.reach(bs.load(fit), target, input=along, at=others, upto=upto)
    tell(found.to_dict(), [found], "", [], as_json)
