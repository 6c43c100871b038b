"""Notes: what to know before trusting a fit."""

from __future__ import annotations

import dataclasses
import html


@dataclasses.dataclass(frozen=True)
class Note:
    """One thing to know before trusting a fit.

    Attributes:
        code: Stable name, for programs.
        severity: "warning" or "info".
        text: The sentence a person reads.
    """

    code: str
    severity: str
    text: str

    def __str__(self) -> str:
        """Return the sentence."""
        return f"{self.severity}: {self.text}"


class Notes(list[Note]):
    """A list of notes that prints one a line."""

    def __repr__(self) -> str:
        """Return one line a note, or that there is nothing to warn of."""
        return "\n".join(map(str, self)) or "No warnings."

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """Return the same text as preformatted HTML, for notebooks."""
        return f"<pre>{html.escape(repr(self))}</pre>"
