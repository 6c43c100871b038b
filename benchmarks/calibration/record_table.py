"""Record table: the coverage of the default by distance, for the package, which prints it beside its probabilities.

    python -m benchmarks record

The file is read by `bayescale.posterior.track_record`; nothing in it is typed by hand.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from bayescale import _io, corpus
from bayescale.errors import InputError
from bayescale.evaluate.backtest import LEVELS
from bayescale.model.designs import find_design
from bayescale.posterior.track_record import FILE, KINDS
from benchmarks.calibration import tally
from benchmarks.calibration.sections import own
from benchmarks.core.store import RESULTS

FEWEST_FAMILIES = 3
"""Families below which a share says nothing."""
ONE = (("one input", "far"), "R=")
GROUPS = {"ladder": ONE, "curve": ONE, "several": (("several inputs", "far, several inputs"), "k=")}
"""Groups of the benchmark, and how its splits write the factor, by the key of `track_record.KINDS`."""
LADDERS = ("printed figures", "routing", "quest_quant", "obs_scaling", "sloth")
"""Sources whose families of one input are ladders, but for printed figures over other inputs."""


def table(folder: Path = RESULTS, ours: str = tally.OURS) -> list[dict[str, object]]:
    """Return one row for each kind and factor: families, and the share of runs inside each interval.

    Args:
        folder: Where `run` left its rows.
        ours: The method.

    Raises:
        InputError: If there are no results of that method.
    """
    # Which problems repeat another is told from the rows of all methods, as on the calibration page.
    rows = tally.load(folder)
    rows = rows[rows["method"] == ours]
    if not len(rows):
        raise InputError(f"There are no results of {ours!r} in {folder}. Run `python -m benchmarks run` first.")
    cells = own(tally.cells(rows), ours, developed=False)
    found = []
    for kind in KINDS:
        groups, mark = GROUPS[kind]
        part = cells[cells["group"].isin(groups) & cells["split"].str.startswith(mark)]
        part = part if kind == "several" else part[is_ladder(part) == (kind == "ladder")]
        for factor, split in sorted((float(name.removeprefix(mark)), name) for name in part["split"].unique()):
            held = tally.families(part[part["split"] == split])
            if len(held) < FEWEST_FAMILIES:
                continue
            row: dict[str, object] = {"kind": kind, "factor": factor, "families": len(held)}
            for level, name in zip(LEVELS, tally.COVERS, strict=True):
                row[f"held{100 * level:g}"] = round(tally.measured(held, name).value, 4)
            found.append(row)
    return found


def is_ladder(cells: pd.DataFrame) -> pd.Series:
    """Return which cells of one input the default takes for ladders."""
    curves = {
        tuple(name.split("/", 1))
        for name, runs in corpus.curves(losses_only=False).items()
        if len(runs.inputs) == 1 and find_design(runs.inputs) == "curve"
    }
    printed = pd.Series([pair in curves for pair in zip(cells["family"], cells["metric"], strict=True)], cells.index)
    return cells["source"].isin(LADDERS) & ~(printed & (cells["source"] == "printed figures"))


def write(path: Path = FILE, folder: Path = RESULTS) -> Path:
    """Write the table where the package reads it."""
    text = "[\n" + ",\n".join("  " + json.dumps(row) for row in table(folder)) + "\n]\n"
    return _io.write(path, lambda part: part.write_text(text, encoding="utf-8"))
