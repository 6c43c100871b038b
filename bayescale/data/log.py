"""The log of a table: one entry for each thing that reading and screening changed or noticed."""

from __future__ import annotations

import dataclasses
from typing import Literal

Severity = Literal["info", "warning", "excluded"]


@dataclasses.dataclass(frozen=True)
class LogEntry:
    """One thing that was recognised, converted, left out or noticed in a table of runs.

    Attributes:
        code: Kind of entry, for use in programs, e.g. "recognised", "converted", "diverged", "unfinished".
        severity: "info" for changes, "warning" for problems that may make a result wrong, "excluded" for rows left out.
        text: The entry as a sentence.
        rows: Numbers of the rows concerned. For files they count as in a spreadsheet, where the header is row 1; for
            DataFrames and JSON they count from 1.
        columns: Columns of the file concerned.
    """

    code: str
    severity: Severity
    text: str
    rows: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the sentence, preceded by its severity."""
        return f"{self.severity}: {self.text}"
