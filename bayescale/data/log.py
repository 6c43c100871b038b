"""The log of a table: one entry for each thing that reading and screening did or noticed."""

from __future__ import annotations

import dataclasses
from typing import Literal

Severity = Literal["info", "warning", "excluded"]


@dataclasses.dataclass(frozen=True)
class LogEntry:
    """One thing that was recognised, converted, left out or noticed in a table of runs.

    Attributes:
        code: Stable name for programs, e.g. "recognised", "converted", "diverged", "unfinished".
        severity: "info" for what was done, "warning" for what may make an answer wrong, "excluded" for rows left out.
        text: The sentence that a person reads.
        rows: Rows it is about, as a spreadsheet counts those of a file: the header is row 1. Rows of a DataFrame or of
            JSON count from 1.
        columns: Columns of the file it is about.
    """

    code: str
    severity: Severity
    text: str
    rows: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the sentence with its severity in front."""
        return f"{self.severity}: {self.text}"
