"""Subcommand that reads a table of runs and prints what was recognised."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bayescale import _io
from bayescale.cli.given import check_files
from bayescale.cli.options import Json, Source, emit, reads, tell_log
from bayescale.digits import NOTHING


@reads
def read(
    runs: Source,
    reading: dict[str, Any],
    out: Annotated[Path | None, typer.Option(help="Write the table that a fit would use (CSV) here.")] = None,
    as_json: Json = False,
) -> None:
    """Show what is recognised in a table of runs, and the table that a fit would use."""
    check_files(table=out)
    import bayescale as bs

    found = bs.read(runs, **reading)
    if out is not None:
        _io.write(out, lambda part: found.frame.to_csv(part, index=False))
    written = [] if out is None else [str(out)]
    if as_json:
        rows = json.loads(found.frame.to_json(orient="records", double_precision=15))
        log = [dataclasses.asdict(entry) for entry in found.log]
        emit(
            {
                "name": found.name,
                "inputs": found.inputs,
                "families": found.families,
                "rows": rows,
                "log": log,
                "written": written,
            }
        )
        return
    tell_log(found.log)
    print(found, file=sys.stderr)
    # Tables of scores and values do not contain the column that laws describe.
    shown = found.frame if found.response_scale is None else found.frame.drop(columns="loss")
    print(shown.to_string(index=False, na_rep=NOTHING))
    for path in written:
        print(f"wrote {path}", file=sys.stderr)
