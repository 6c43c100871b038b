"""Rows: result files of a few rows each, and pages, written completely or not at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bayescale import _io


def replace(path: Path, text: str) -> None:
    """Write a text file completely or not at all."""
    _io.write_text(path, text)


def stored(path: Path) -> list[dict[str, Any]]:
    """Rows measured so far."""
    return json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []


def store(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Replace the file in one step, a line a row."""
    lines = ",\n".join(json.dumps(row) for row in rows)
    replace(path, f'{{"rows": [\n{lines}\n]}}\n')
