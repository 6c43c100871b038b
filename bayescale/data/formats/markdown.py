"""Markdown: pipe tables in a file or in pasted text, with any prose around them."""

from __future__ import annotations

import re

from bayescale.data.cells import clean
from bayescale.data.formats.table import Table, from_rows
from bayescale.errors import InputError, counted

_RULE = re.compile(r"^\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?$")


def has_table(text: str) -> bool:
    """Return whether text holds a Markdown table."""
    return bool(tables(text))


def read_markdown(text: str, name: str, label: str, chosen: int | None = None) -> Table:
    """Read the table of a Markdown text; tables with equal headers are joined.

    Args:
        text: The text.
        name: Name of the table.
        label: Name of the file, for messages.
        chosen: Number of the table to read, counted from 1.

    Raises:
        InputError: If there is no table, or there are several different ones and `chosen` is None.
    """
    found = tables(text)
    if not found:
        raise InputError(f"{label} has no table: expected a header line, a line of dashes and rows between bars.")
    if chosen is not None and not 1 <= chosen <= len(found):
        raise InputError(
            f"{label} has {counted(len(found), 'table')}; table={chosen} (--table {chosen}) does not exist."
        )
    headers = {tuple(header) for header, _ in found}
    if chosen is None and len(headers) > 1:
        listed = "; ".join(f"{i}: {', '.join(header[:4])}" for i, (header, _) in enumerate(found[:5], 1))
        raise InputError(f"{label} holds {len(found)} tables ({listed}); choose one with table=1 (--table 1).")
    parts = found if chosen is None else [found[chosen - 1]]
    return from_rows(parts[0][0], [row for _, rows in parts for row in rows], name, label)


def tables(text: str) -> list[tuple[list[str], list[list[str]]]]:
    """Return header and rows of every pipe table in a text."""
    lines = [re.sub(r"^\s*(>\s*)*", "", line).rstrip() for line in text.splitlines()]
    found: list[tuple[list[str], list[list[str]]]] = []
    number = 1
    while number < len(lines):
        header = cells(lines[number - 1]) if "|" in lines[number - 1] else []
        if "|" in lines[number] and _RULE.match(lines[number].strip()) and len(header) == len(cells(lines[number])):
            end = number + 1
            while end < len(lines) and "|" in lines[end]:
                end += 1
            rows = [cells(line) for line in lines[number + 1 : end]]
            found.append(([clean(field)[0] for field in header], [row for row in rows if any(map(str.strip, row))]))
            number = end
        number += 1
    return found


def cells(line: str) -> list[str]:
    """Split a line of a table into cells at its vertical bars."""
    bare = re.sub(r"^\||(?<!\\)\|$", "", line.strip())
    return [field.replace("\\|", "|").strip() for field in re.split(r"(?<!\\)\|", bare)]
