"""Notes: reasons for caution with a fit or a forecast."""

from __future__ import annotations

import dataclasses
import html


@dataclasses.dataclass(frozen=True)
class Note:
    """A reason for caution with a fit or a forecast.

    Attributes:
        code: Short name of the reason, which programs may rely on.
        severity: "warning" or "info".
        text: The reason in sentences.
        shape: For "not_monotone", the shape of the response: "hump" (a loss that becomes worse and then better, or a
            score that falls), "trough" (worse again at the end) or "rising" (worse throughout); else empty.
    """

    code: str
    severity: str
    text: str
    shape: str = ""

    def __str__(self) -> str:
        """Return the text."""
        return f"{self.severity}: {self.text}"


class Notes(list[Note]):
    """A list of notes that is printed one note a line."""

    def __repr__(self) -> str:
        """Return one line for each note, or a line saying that there is no warning."""
        return "\n".join(map(str, self)) or "No warnings."

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """Return the same text as preformatted HTML, for notebooks."""
        return f"<pre>{html.escape(repr(self))}</pre>"
