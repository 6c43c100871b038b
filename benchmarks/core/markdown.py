"""Markdown: templates of the pages, and numbers, intervals and tables as the pages print them.

The prose of a page lies in the folder `templates` of its room, a Jinja template a section; what stands between braces
is computed in Python and handed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import jinja2
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


def templates(module: str) -> Callable[..., str]:
    """Return a function that fills a template of a room.

    Args:
        module: `__file__` of a module of the room.

    Returns:
        A function of the template's name, without its ending, and of its values. It raises an error for a value that
        is missing, and puts each paragraph on one line.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(module).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    environment.filters |= {"ranged": ranged, "fraction": fraction, "listed": listed, "span": span}

    def render(name: str, **values: object) -> str:
        return unwrapped(environment.get_template(f"{name}.md").render(values))

    return render


def unwrapped(text: str) -> str:
    """Put each paragraph and each item of a list on one line; tables, titles and tags stay as they are."""
    blocks = []
    for block in re.split(r"\n\s*\n", text.strip()):
        lines: list[str] = []
        for line in block.split("\n"):
            begins = re.match(r"\s*([|#<!]|- )", line) or (lines and re.match(r"\s*[|#<!]", lines[-1]))
            if lines and not begins:
                lines[-1] += " " + line.strip()
            else:
                lines.append(line.rstrip())
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)
