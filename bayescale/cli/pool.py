"""Subcommand that pools families."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bayescale.cli.given import check_files
from bayescale.cli.options import Json, LawName, Seed, emit, fit_options, members, reads, tell_log
from bayescale.errors import InputError

Sources = Annotated[
    list[str], typer.Argument(help="Table of runs of several families (see --family), or one table per family.")
]
Names = list[str] | None


@reads
@fit_options
def pool(
    runs: Sources,
    reading: dict[str, Any],
    options: dict[str, Any],
    law: LawName = "auto",
    pooled: Annotated[
        Names, typer.Option(help="Quantity that varies around a common mean, e.g. c; by default the exponents.")
    ] = None,
    shared: Annotated[Names, typer.Option(help="Quantity with one value for all families, e.g. E; repeatable.")] = None,
    covariate: Annotated[
        Names, typer.Option(help="Column with one value in each family that moves the means, e.g. architecture.")
    ] = None,
    correlated: Annotated[
        bool, typer.Option("--correlated", help="Learn the correlations of pooled quantities over families.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write the posterior of each family (netCDF) beside this path.")
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Fit similar families in one hierarchical posterior (partial pooling), and print what they have in common."""
    check_files(fit=out)
    import bayescale as bs

    families = read_named(runs, reading)
    log = list(dict.fromkeys(entry for family in families.values() for entry in family.log))
    tell_log([] if as_json else log)
    given: dict[str, Any] = {"covariates": tuple(covariate or ()), "correlated": correlated}
    joint = bs.pool(families, law, pooled=pooled, shared=shared or (), seed=seed, **given, **options)
    written: list[str] = []
    if out is not None:
        for name, path in zip(joint, members(out, list(joint)), strict=True):
            joint[name].save(path)
            written.append(str(path))
    if as_json:
        tables = [
            json.loads(table.reset_index().to_json(orient="records", double_precision=15))
            for table in (joint.summary(), joint.families())
        ]
        told = {"converged": joint.converged, "written": written, "log": [dataclasses.asdict(entry) for entry in log]}
        emit({"quantities": tables[0], "families": tables[1], **told})
        return
    print(joint)
    print()
    print(joint.families().to_string(float_format="{:.4g}".format))
    for path in written:
        print(f"wrote {path}", file=sys.stderr)


def read_named(sources: list[str], reading: dict[str, Any]) -> dict[str, Any]:
    """Return families by name; with several tables, the table's name becomes part of the family's name.

    Raises:
        InputError: For families with equal names.
    """
    import bayescale as bs

    found: dict[str, Any] = {}
    for source in sources:
        parts = bs.read(source, **reading).split()
        stem = Path(source).stem
        for part in parts:
            name = part.name if len(sources) == 1 else stem if len(parts) == 1 else f"{stem} {part.name}"
            if name in found:
                raise InputError(f"Two tables are called {name}; rename one of the files.")
            found[name] = part
    return found
