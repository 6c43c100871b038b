"""Reading: runs from text files, in which names are text and every field has a column."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from bayescale.errors import InputError, because
from bayescale.runs import Runs, family_labels, renamed

SEPARATORS = ",\t;"
"""What may stand between fields, the first that the header holds."""


def read_csv(
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    inputs: Sequence[str] | None = None,
    name: str | None = None,
) -> Runs:
    """Read runs from a CSV file; see `Runs.from_frame` for columns and errors.

    Fields are separated by commas, or by tabs or semicolons where the header has no comma. Names of families, metrics
    and runs are text: `007` stays what it is, and a family may be called `NA`.

    Raises:
        InputError: For a file that is absent, a folder, empty, not text, or not a table.
    """
    frame = read_table(Path(path), columns)
    return Runs.from_frame(frame, columns=columns, inputs=inputs, name=name or Path(path).stem)


def read_families(
    path: str | Path, *, columns: Mapping[str, str] | None = None, inputs: Sequence[str] | None = None
) -> tuple[list[Runs], dict[str, str]]:
    """Read the families of a CSV file one by one, so that none takes another down.

    Args:
        path: See `read_csv`.
        columns: See `Runs.from_frame`.
        inputs: See `Runs.from_frame`; by default each family has the inputs that it fills.

    Returns:
        Runs of each family under its own name, and why others cannot be used, by name.

    Raises:
        InputError: For a file that is not a table, or where no family can be used.
    """
    frame = renamed(read_table(Path(path), columns), columns or {})
    name = Path(path).stem
    labels = family_labels(frame, name)
    names = list(dict.fromkeys(labels))
    found: list[Runs] = []
    unfit: dict[str, str] = {}
    for label in names:
        part = frame[labels == label]
        if len(names) > 1:
            part = part.assign(family=label).drop(columns="metric", errors="ignore")
        try:
            found.append(Runs.from_frame(part.reset_index(drop=True), inputs=inputs, name=label))
        except InputError as error:
            unfit[label] = str(error)
    if not found:
        raise InputError(unfit[names[0]] if len(names) == 1 else because(unfit.items()))
    return found, unfit


def read_table(path: Path, columns: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Read a table from a text file; columns that name things are text, others what pandas makes of them.

    Raises:
        InputError: For a file that is absent, a folder, empty, not text, or not a table.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; a CSV file with one row a run is expected.")
    if not path.exists():
        raise InputError(f"{path} does not exist; check the path (current folder: {Path.cwd().name}).")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not text; a CSV file in UTF-8 is expected.") from None
    if not text.strip():
        raise InputError(f"{path} is empty; a header line and one row a run are expected.")
    if "\x00" in text:
        raise InputError(f"{path} is not text (it holds NUL bytes); a CSV file is expected.")
    first = text.lstrip().partition("\n")[0]
    separator = next((mark for mark in SEPARATORS if mark in first), ",")
    try:
        rows = csv.reader(io.StringIO(text), delimiter=separator)
        lines = [line for line in rows if len(line) > 1 or "".join(line).strip()]
    except csv.Error as error:
        raise InputError(f"{path} is not a CSV table: {error}.") from None
    if len(lines) == 1:
        raise InputError(f"{path} has a header line and no rows; expected one row a training run.")
    header = [field.strip() for field in lines[0]]
    doubled = [c for c in dict.fromkeys(header) if c and header.count(c) > 1]
    if doubled:
        raise InputError(
            f"{path} names column {doubled[0]!r} {header.count(doubled[0])} times; rename or drop one of them."
        )
    # A comma at the end of a line says nothing; a field too many would move all others by one column.
    for number, line in enumerate(lines[1:], 1):
        if any(field.strip() for field in line[len(header) :]):
            raise InputError(
                f"{path}: row {number} has {len(line)} fields where the header has {len(header)}. "
                "Name every column, and put quotes around text that holds a separator."
            )
    whole = io.StringIO()
    csv.writer(whole).writerows([header, *(line[: len(header)] for line in lines[1:])])
    whole.seek(0)
    try:
        frame = pd.read_csv(whole, index_col=False)
        for ours in ("family", "metric", "run"):
            # The text itself: pandas reads numbers, and words like NA, into names.
            if (column := (columns or {}).get(ours, ours)) in header:
                place = header.index(column)
                frame[column] = [line[place].strip() if place < len(line) else "" for line in lines[1:]]
        return frame
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is not a CSV table: {reason}.") from None
