"""Subcommand that stacks laws."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bayescale.cli.given import check_files
from bayescale.cli.options import Json, Seed, Source, emit, fit_options, reads, tell_log


@reads
@fit_options
def stack(
    runs: Source,
    reading: dict[str, Any],
    options: dict[str, Any],
    law: Annotated[
        list[str] | None, typer.Option(help="Name of a law (see `bayescale laws`), or auto; at least two, repeatable.")
    ] = None,
    ratio: Annotated[
        list[float] | None,
        typer.Option(help="Score forecasts of the runs within this factor of the largest; repeatable."),
    ] = None,
    largest: Annotated[
        list[int] | None,
        typer.Option(
            help="Instead of --ratio, score forecasts of this many of the largest sizes; repeatable. Without either "
            "option, these are an eighth, a quarter and half of the sizes."
        ),
    ] = None,
    concentration: Annotated[
        float | None,
        typer.Option(
            help="Concentration of the Dirichlet prior, above 1 (default 2); larger values give more equal weights."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the mixture (netCDF) here.")] = None,
    seed: Seed = 0,
    folder: Annotated[Path | None, typer.Option(help="Keep finished posteriors here; a rerun reads them.")] = None,
    as_json: Json = False,
) -> None:
    """Fit several laws, weighted by how well each forecasts the largest runs from smaller ones."""
    check_files(fit=out)
    import bayescale as bs
    from bayescale.cli.main import describe_fit, described

    table = bs.read(runs, **reading)
    tell_log([] if as_json else table.log)
    told = {} if concentration is None else {"concentration": concentration}
    cuts: dict[str, Any] = {"ratio": ratio or None, "largest": largest or None}
    post = bs.stack(table, law or [], seed=seed, folder=folder, **cuts, **told, **options)
    assert post.stacking is not None, "a stacked mixture"
    if out is not None:
        post.save(out)
    if as_json:
        scores = post.stacking.to_frame().rename_axis("candidate").reset_index()
        candidates = json.loads(scores.to_json(orient="records", double_precision=15))
        cuts_told = [dataclasses.asdict(cut) for cut in post.stacking.cuts]
        answer = {"candidates": candidates, "cuts": cuts_told, "skipped": post.stacking.skipped}
        log = [dataclasses.asdict(entry) for entry in table.log]
        emit({**answer, "fit": describe_fit(post), "written": [] if out is None else [str(out)], "log": log})
        return
    print(described(post, {entry.text for entry in table.log}, again=False))
    if out is not None:
        print(f"wrote {out}", file=sys.stderr)
