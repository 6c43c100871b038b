"""Markdown: numbers, intervals and tables as the pages print them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from benchmarks.core.estimates import Estimate


def fraction(value: float, digits: int = 2) -> str:
    """Write a fraction as .82, and what is no number as a dash."""
    return "-" if not np.isfinite(value) else re.sub(r"^(-?)0\.", r"\1.", f"{value:.{digits}f}")


def ranged(found: Estimate, digits: int = 2, times: float = 1.0) -> str:
    """Write a figure with its interval."""
    if not found.families:
        return "-"
    if not np.isfinite(found.value):
        return "infinite"
    low, value, high = (fraction(times * number, digits) for number in (found.low, found.value, found.high))
    return f"{value} ({low} to {high})"


def grid(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Lay out a table in Markdown."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(str(entry).replace("|", "\\|") for entry in line) + " |" for line in lines)


def span(seconds: float) -> str:
    """Write a duration."""
    if seconds < 0.1:
        return f"{1000 * seconds:.2g} ms"
    if seconds < 90:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def listed(words: Sequence[str]) -> str:
    """Join words: a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
