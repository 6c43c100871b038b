"""Delimited text: CSV, TSV, and tables whose fields are separated by semicolons, bars or blanks."""

from __future__ import annotations

import csv
import dataclasses
import io
import re

from bayescale.data.formats.table import Table, from_rows
from bayescale.data.log import LogEntry
from bayescale.errors import InputError

DELIMITERS = ",\t;|"


def read_delimited(text: str, name: str, label: str) -> Table:
    """Read delimited text.

    Raises:
        InputError: For a header without rows, or a text that is not a table.
    """
    lines = text.splitlines()
    log: list[LogEntry] = []
    if lines and (found := re.fullmatch(r"sep=(.)", lines[0].strip(), re.IGNORECASE)):
        # Spreadsheets may give the delimiter in a line of its own.
        start, rows = 0, split(text.partition("\n")[2], found[1], label)
    else:
        start = next((i for i, line in enumerate(lines) if line.strip() and not comment(line)), 0)
        # Lines of titles precede the header and have no delimiter, unlike the lines below.
        head = [i for i, line in enumerate(lines[:20]) if i >= start and any(mark in line for mark in DELIMITERS)]
        if head and head[0] > start and len(head) > 1:
            log = [LogEntry("title", "info", f"{head[0] - start} lines above the header are left out.")]
            start = head[0]
        text = "\n".join(lines[start:])
        rows = split(text, delimiter(text, label), label)
    # Row numbers of spreadsheets include blank lines and lines above the header.
    kept = [(number, row) for number, row in enumerate(rows, start + 1) if filled(row)]
    if len(kept) < 2:
        raise InputError(f"{label} has a header line and no rows; expected one row per training run.")
    numbers, rows = zip(*kept, strict=True)
    table = from_rows(rows[0], rows[1:], name, label, numbers[1:])
    return dataclasses.replace(table, log=(*log, *table.log))


def comment(line: str) -> bool:
    """Return whether a line before the header is a comment."""
    return line.lstrip().startswith(("# ", "//", "%")) or line.strip() == "#"


def split(text: str, mark: str, label: str) -> list[list[str]]:
    """Split text into rows of fields at a delimiter."""
    try:
        if mark == " ":
            rows = [re.split(r"\s{2,}|\t", line.strip()) for line in text.splitlines()]
        else:
            rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=mark, skipinitialspace=True))
    except csv.Error as error:
        raise InputError(f"{label} is not a CSV table: {error}.") from None
    return rows


def filled(row: list[str]) -> bool:
    """Return whether a row has a non-empty field."""
    return len(row) > 1 or bool("".join(row).strip())


def delimiter(text: str, label: str) -> str:
    """Return the delimiter that splits the header and the rows into the same number of fields."""
    first = text.lstrip().partition("\n")[0]
    present = [mark for mark in DELIMITERS if mark in first]
    if not present:
        return " " if re.search(r"\S\s{2,}\S", first) and "," not in text else ","
    if len(present) == 1:
        return present[0]

    def fit(mark: str) -> tuple[bool, float]:
        try:
            rows = split(text, mark, label)
        except InputError:
            return (False, 0.0)
        widths = [len(row) for row in rows if filled(row)]
        return (widths[0] > 1 and all(width == widths[0] for width in widths), widths[0])

    return max(present, key=fit)
