"""Table: the cells as written in the file, which the reader of each format returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bayescale.data.log import LogEntry
from bayescale.errors import InputError, some


@dataclasses.dataclass(frozen=True)
class Table:
    """The cells of a table, before any of them is read as a number.

    Attributes:
        frame: Cells as objects. The index is the row of the file as in a spreadsheet, where the header is row 1;
            without a header line, rows count from 1.
        name: Name of the table, from the file.
        log: Log entries of the reader of the format.
        inputs: Scale inputs that follow from the format, such as the steps of a chart.
        roles: Columns of the file that follow from the format, by canonical name.
    """

    frame: pd.DataFrame
    name: str
    log: tuple[LogEntry, ...] = ()
    inputs: tuple[str, ...] | None = None
    roles: Mapping[str, str] = dataclasses.field(default_factory=dict)


def from_rows(
    header: Sequence[str],
    rows: Sequence[Sequence[Any]],
    name: str,
    label: str,
    numbers: Sequence[int] | None = None,
) -> Table:
    """Return a table made of a header and rows of cells.

    Args:
        header: Names of columns, as written in the file.
        rows: Cells; short rows are filled with missing ones.
        name: Name of the table.
        label: Name of the file, for messages.
        numbers: Number of each row in the file; by default rows follow a header in row 1.

    Raises:
        InputError: For no rows, repeated names, or rows with more fields than the header.
    """
    names = [" ".join(field.split()) for field in header]
    if not rows:
        raise InputError(f"{label} has a header line and no rows; expected one row per training run.")
    doubled = [c for c in dict.fromkeys(names) if c and names.count(c) > 1]
    if doubled:
        raise InputError(
            f"{label} names column {doubled[0]!r} {names.count(doubled[0])} times; rename or drop one of them."
        )
    log: list[LogEntry] = []
    numbered = list(zip(range(2, len(rows) + 2) if numbers is None else numbers, rows, strict=True))
    again = [i for i, row in numbered if [str(field).strip() for field in row[: len(names)]] == names]
    if again:
        log.append(LogEntry("header", "info", f"The header is repeated in row {some(again)}; left out.", tuple(again)))
    cells: list[list[Any]] = []
    for number, row in numbered:
        # A separator at the end of a line is ignored; any other additional field would shift the columns.
        if any(str(field).strip() for field in row[len(names) :]):
            raise InputError(
                f"{label}: row {number} has {len(row)} fields where the header has {len(names)}. "
                "Name every column, and put quotes around text that contains a separator."
            )
        cells.append([*row[: len(names)], *([""] * (len(names) - len(row)))])
    frame = pd.DataFrame(cells, index=pd.Index([number for number, _ in numbered]), dtype=object)
    # An index column that was written with the table has no name.
    frame.columns = [column or f"unnamed {number}" for number, column in enumerate(names, 1)]
    frame = frame.drop(index=again)
    if not len(frame):
        raise InputError(f"{label} has a header line and no rows; expected one row per training run.")
    return Table(frame, name, tuple(log))


def from_records(records: Sequence[Mapping[str, Any]], name: str) -> Table:
    """Return a table made of one mapping a row; names of nested values are joined with dots."""
    flat = [flattened(record) for record in records]
    columns = list(dict.fromkeys(key for record in flat for key in record))
    rows = [[record.get(column) for column in columns] for record in flat]
    frame = pd.DataFrame({c: pd.Series([row[i] for row in rows], dtype=object) for i, c in enumerate(columns)})
    frame.index = pd.RangeIndex(1, len(rows) + 1)
    return Table(frame, name)


def flattened(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a nested mapping; keys are joined with dots, and `{"lr": {"value": 1}}` of trackers becomes `lr`."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            keys = set(value) - {"desc"}
            if keys == {"value"} and not isinstance(value["value"], Mapping):
                flat[name] = value["value"]
            else:
                flat |= flattened(value, f"{name}.")
        elif isinstance(value, (list, tuple)):
            flat[name] = value[0] if len(value) == 1 and not isinstance(value[0], (Mapping, list)) else str(value)
        else:
            flat[name] = value
    return flat
