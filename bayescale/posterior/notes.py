"""Note: one thing to know before trusting a fit."""

from __future__ import annotations

import dataclasses


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
