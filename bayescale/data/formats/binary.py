"""Parquet files and spreadsheets, read with pandas."""

from __future__ import annotations

import dataclasses
import importlib.util
import io

import numpy as np
import pandas as pd

from bayescale.data.formats.table import Table, from_records
from bayescale.errors import InputError, counted

EXTRAS = {"parquet": "pyarrow", "excel": "openpyxl"}
"""Package that each kind of file needs, by the optional dependency (extra) that installs it."""


def read_parquet(content: bytes, name: str, label: str) -> Table:
    """Read a Parquet file.

    Raises:
        InputError: Without pyarrow, or for a damaged file.
    """
    need("parquet", label)
    try:
        frame = pd.read_parquet(io.BytesIO(content), engine="pyarrow")
    except Exception as error:  # pyarrow's errors share no base class
        raise InputError(f"{label} cannot be read as Parquet ({type(error).__name__}); it is damaged.") from None
    return from_frame(frame, name, label)


def read_excel(content: bytes, name: str, label: str, chosen: int | None = None) -> Table:
    """Read one sheet of a spreadsheet.

    Raises:
        InputError: Without openpyxl, for a damaged file, or for several sheets if `chosen` is None.
    """
    need("excel", label)
    try:
        sheets = pd.read_excel(io.BytesIO(content), sheet_name=None, engine="openpyxl", dtype=object)
    except Exception as error:  # openpyxl raises errors of the archive and of XML
        raise InputError(f"{label} cannot be read as a spreadsheet ({type(error).__name__}); it is damaged.") from None
    filled = {sheet: frame for sheet, frame in sheets.items() if len(frame)}
    names = list(filled)
    if chosen is None and len(names) != 1:
        listed = ", ".join(f"{i}: {sheet}" for i, sheet in enumerate(names, 1))
        raise InputError(f"{label} has {len(names)} sheets with rows ({listed}); choose one with table=1 (--table 1).")
    if chosen is not None and not 1 <= chosen <= len(names):
        raise InputError(
            f"{label} has {counted(len(names), 'sheet')} with rows; table={chosen} (--table {chosen}) does not exist."
        )
    sheet = headed(filled[names[(chosen or 1) - 1]])
    table = from_frame(sheet, name, label)
    # The first row below the header of a sheet is row 2.
    return dataclasses.replace(table, frame=table.frame.set_axis(sheet.index.to_numpy() + 2, axis=0))


def headed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table with its first full row as the header; lines of titles above it are dropped."""
    if sum(str(column).startswith("Unnamed:") for column in frame.columns) <= frame.shape[1] / 2:
        return frame
    full = np.flatnonzero(frame.notna().all(axis=1).to_numpy())
    if not len(full):
        return frame
    return frame.iloc[full[0] + 1 :].set_axis([str(cell) for cell in frame.iloc[full[0]]], axis=1)


def from_frame(frame: pd.DataFrame, name: str, label: str) -> Table:
    """Return a DataFrame as a `Table`; named levels of its index become columns."""
    if isinstance(frame.columns, pd.MultiIndex):
        frame = frame.set_axis(["/".join(str(part) for part in parts if str(part)) for parts in frame.columns], axis=1)
    names = [str(level) for level in frame.index.names if level is not None]
    if names and not set(names) & set(map(str, frame.columns)):
        frame = frame.reset_index()
    frame = frame.set_axis([str(column).strip() for column in frame.columns], axis=1)
    if frame.columns.duplicated().any():
        doubled = frame.columns[frame.columns.duplicated()][0]
        raise InputError(f"{label} has column {doubled!r} more than once; rename or drop one of them.")
    if not len(frame):
        raise InputError(f"{label} has no rows; expected one row per training run.")
    objects = frame.astype(object)
    if any(isinstance(value, dict) for column in objects for value in objects[column].head()):
        objects = from_records(objects.to_dict("records"), name).frame
    # Lists and arrays are no cells of a table.
    nested = [column for column in objects if any(hasattr(value, "__len__") for value in objects[column].head())]
    for column in nested:
        objects[column] = [
            value if isinstance(value, str) or value is None else str(value) for value in objects[column]
        ]
    objects.index = pd.Index(np.arange(1, len(frame) + 1))
    return Table(objects, name)


def need(extra: str, label: str) -> None:
    """Refuse a file whose reader is not installed."""
    if importlib.util.find_spec(EXTRAS[extra]) is None:
        raise InputError(f"{label} needs {EXTRAS[extra]}: pip install 'bayescale[{extra}]'.")
