"""Formats: one module for each kind of file; each returns the cells of a table as written."""

from __future__ import annotations

import gzip
import sys
import zlib
from pathlib import Path
from typing import Any

import pandas as pd

from bayescale.data.formats import binary, charts, delimited, folder, json_text, markdown, text, trackers
from bayescale.data.formats.table import Table
from bayescale.data.log import LogEntry
from bayescale.errors import InputError

__all__ = ["load"]

PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".joblib", ".npy", ".npz", ".ckpt")


def load(source: Any, *, table: int | None = None, metric: str | None = None, checkpoints: bool = False) -> Table:
    """Read the cells of a table from any supported source.

    Args:
        source: Path of a file or folder, "-" for standard input, a file object, or a DataFrame.
        table: Number of the table to read, counted from 1, in a text or spreadsheet that holds several.
        metric: Metric to read from a chart that shows several.
        checkpoints: Keep every row of the runs of a folder.

    Raises:
        InputError: For a source that is absent, empty, damaged, a pickle, or not a table.
    """
    if checkpoints and not (isinstance(source, (str, Path)) and has_runs(Path(source))):
        raise InputError(
            "checkpoints=True (--checkpoints) has no effect on one table, whose rows are all read: it is for a folder "
            "with one file per run. To keep rows that screening would leave out, use screen='keep' (--screen keep)."
        )
    if isinstance(source, pd.DataFrame):
        label = "The table"
        one_table(table, label)
        loaded = binary.from_frame(source, "runs", label)
    elif (isinstance(source, str) and source == "-") or hasattr(source, "read"):
        stream = sys.stdin.buffer if source == "-" else source
        content = stream.read()
        named = getattr(stream, "name", None)
        piped = isinstance(source, str)
        file = Path(named) if isinstance(named, str) and not piped else None
        label = "Standard input" if piped else "The file" if file is None else str(file)
        content = content.encode("utf-8-sig") if isinstance(content, str) else content
        loaded = from_bytes(content, "runs" if file is None else folder.stem(file), label, "", table)
    elif isinstance(source, (str, Path)):
        path, label = Path(source), str(source)
        if has_runs(path):
            one_table(table, label)
            loaded = from_folder(path, checkpoints)
        else:
            loaded = from_file(path, table)
    else:
        raise InputError(f"A path, a folder, a DataFrame or a file object is expected; found {type(source).__name__}.")
    return charts.melted(loaded, label, metric) if charts.is_chart(loaded) else charts.by_seed(loaded)


def has_runs(path: Path) -> bool:
    """Return whether a path is a folder or the store of a tracker, which hold runs separately."""
    return path.is_dir() or (path.is_file() and bool(trackers.kind(path)))


def one_table(table: int | None, label: str) -> None:
    """Refuse any table number but 1 for a source that holds one table.

    Raises:
        InputError: With the number that was requested.
    """
    if table not in (None, 1):
        raise InputError(f"{label} has only one table; leave out table={table} (--table {table}).")


def from_file(path: Path, table: int | None = None) -> Table:
    """Read one file."""
    try:
        if not path.exists():
            raise InputError(f"{path} does not exist; check the path (current folder: {Path.cwd().name}).")
        if path.suffix.lower() in PICKLES:
            raise InputError(refused(str(path)))
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    return from_bytes(content, folder.stem(path), str(path), path.suffix.lower(), table)


def refused(label: str) -> str:
    """Return the error message for a pickle."""
    return f"{label} is a pickle, which can run code when it is loaded; write the table as CSV, JSON or Parquet."


def from_bytes(content: bytes, name: str, label: str, suffix: str, table: int | None = None) -> Table:
    """Read the content of a file; its first bytes decide the format."""
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error):
            raise InputError(f"{label} is damaged: it cannot be decompressed.") from None
    if content[:4] == b"PAR1":
        one_table(table, label)
        return binary.read_parquet(content, name, label)
    if content[:4] == b"PK\x03\x04":
        return binary.read_excel(content, name, label, table)
    if content[:1] == b"\x80" and content[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise InputError(refused(label))
    decoded, encoding = text.decode(content, label)
    loaded = from_text(decoded, name, label, suffix, table)
    if encoding in ("utf-8", "utf-8-sig"):
        return loaded
    entry = LogEntry("encoding", "info", f"{label} is not UTF-8; read as {encoding}.")
    return Table(loaded.frame, loaded.name, (entry, *loaded.log), loaded.inputs, loaded.roles)


def from_text(decoded: str, name: str, label: str, suffix: str, table: int | None) -> Table:
    """Read a text as JSON, Markdown or delimited text, depending on its form."""
    plain = suffix in (".json", ".jsonl", ".ndjson") or decoded.lstrip()[:1] in ("{", "[")
    if not plain and (suffix in (".md", ".markdown") or markdown.has_table(decoded)):
        return markdown.read_markdown(decoded, name, label, table)
    one_table(table, label)
    if plain:
        return json_text.read_json(decoded, name, label)
    return delimited.read_delimited(decoded, name, label)


def from_folder(path: Path, checkpoints: bool) -> Table:
    """Read a folder of files, or the store of a tracker."""
    store = trackers.kind(path)
    if store is None:
        return folder.read_folder(path, from_file, checkpoints=checkpoints)
    if store == "mlflow":
        return trackers.read_mlflow(path)
    return folder.join_runs(trackers.runs_of(path, store), path.resolve().name, checkpoints)
