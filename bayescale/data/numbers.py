"""Numbers: recognised columns as numbers in raw counts, with a log entry for every conversion."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayescale.data.assign import Cells, shell
from bayescale.data.cells import Column, missing, tidy, unmarked
from bayescale.data.columns import ROLES, unit_of, words_of
from bayescale.data.log import LogEntry
from bayescale.errors import InputError, counted, some

TEXT_ROLES = ("family", "run", "metric", "status", "note")
ESSENTIAL = ("n_params", "n_tokens", "flops", "n_samples", "loss", "value_se")
"""Canonical columns that must hold numbers; other columns stay text where they do not."""
LARGEST_LOSS = 1000.0
"""If a response exceeds this under one reading of a separator but not under the other, the user is asked."""
MARKS = {
    "suffix": "suffixes",
    "power": "powers of ten",
    "percent": "percentages",
    "multiple": "multiples",
    "separators": "separators",
    "decimal comma": "decimal commas",
    "emphasis": "emphasis",
    "remark": "remarks in brackets",
    "status": "status words",
    "about": "approximate values",
    "spread": "values with a spread",
}
"""Kinds of conversions, in words."""


def read_units(units: Mapping[str, Any] | None, chosen: Mapping[str, str]) -> dict[str, float]:
    """Read the caller's units as factors, by canonical name.

    Raises:
        InputError: For a column that does not exist, or an unknown unit.
    """
    factors: dict[str, float] = {}
    ours = {theirs: role for role, theirs in chosen.items()}
    for given, unit in (units or {}).items():
        name = ours.get(given, given)
        if name not in chosen:
            raise InputError(
                f"There is no column {given!r} for units={{'{given}': ...}} (--unit {given}=...); found "
                f"{some(list(chosen), 8)}."
            )
        factor = unit_of(unit) if isinstance(unit, str) else None
        if factor is None:
            try:
                factor = float(unit)
            except (TypeError, ValueError):
                factor = np.nan
        if not (np.isfinite(factor) and factor > 0):
            raise InputError(
                f"A unit must be K, M, B, T, % or a positive number, e.g. --unit {given}=B; found {unit!r} for {given}."
            )
        factors[name] = factor
    return factors


def canonical(
    cells: Cells,
    chosen: Mapping[str, str],
    units: Mapping[str, float],
    needed: Collection[str],
    bounded: bool = True,
) -> tuple[pd.DataFrame, list[LogEntry], dict[str, list[int]]]:
    """Return the table with canonical column names and numbers in raw counts; unused columns keep their own names.

    Args:
        cells: The table.
        chosen: Columns by canonical name.
        units: Factors specified by the caller, by canonical name.
        needed: Further columns that must hold numbers.
        bounded: Whether large numbers in column loss must be misread marks, because losses are small.

    Returns:
        The table, log entries about conversions, and, for each needed column, the rows whose cells could not be read as
            numbers.

    Raises:
        InputError: For columns whose numbers can be read in two ways, or that hold another kind of number.
    """
    index = cells.frame.index
    found: dict[str, Any] = {}
    log: list[LogEntry] = []
    status: dict[int, str] = {}
    unreadable: dict[str, list[int]] = {}
    labels: set[str] = set()
    for role, theirs in chosen.items():
        raw = cells.frame[theirs].tolist()
        if role in TEXT_ROLES:
            # A family may be named NA; the state of a run may not.
            state = role in ("status", "note")
            texts = [None if state and missing(value) else text_of(value) for value in raw]
            found[role] = pd.Series(texts, index, dtype=object)
            continue
        read = cells.numbers(theirs, compute=role == "flops")
        if role not in ESSENTIAL and role not in needed and (read.unreadable or read.undecided):
            if role in ("seed", "step"):
                found[role] = pd.Series(tidy(raw, cells.decimal, cells.proved), index)
            else:
                labels.add(theirs)
            continue
        check(role, theirs, read, cells.decimal, bounded)
        if read.unreadable:
            unreadable[role] = [int(index[i]) for i in read.unreadable]
        factor = units.get(role, cells.heads[theirs].factor)
        found[role] = pd.Series(np.where(read.suffixed, read.values, read.values * factor), index)
        if read.spreads:
            found[f"{role} ±"] = pd.Series([read.spreads.get(i) for i in range(len(raw))], index, dtype=object)
        status |= read.status
        log += told(role, theirs, read, factor, cells.heads[theirs].unit if role not in units else f"{factor:g}")
    if status:
        words = found.get("status", pd.Series([None] * len(index), index, dtype=object)).tolist()
        mixed = [status.get(i) if missing(word) else word for i, word in enumerate(words)]
        found["status"] = pd.Series(mixed, index, dtype=object)
    used = set(chosen.values()) - labels
    for theirs in cells.frame:
        if theirs not in used and not cells.empty(theirs):
            own = f"{theirs} (file)" if theirs in found or theirs in ROLES else theirs
            found[own] = pd.Series(tidy(cells.frame[theirs].tolist(), cells.decimal, cells.proved), index)
    empty = [str(name) for name in cells.frame if str(name).strip() and cells.empty(name)]
    if empty:
        text = f"Columns without any value, not used: {some([repr(name) for name in empty], 8)}."
        log.append(LogEntry("empty", "info", text, columns=tuple(empty)))
    for role in ("seed", "step"):
        if role in found:
            found[role] = whole_numbers(found[role])
    return pd.DataFrame(found, index=index), log, unreadable


def whole_numbers(values: pd.Series) -> pd.Series:
    """Return a column of whole numbers as integers, and any other unchanged."""
    if values.dtype.kind != "f" or not len(values):
        return values
    numbers = values.to_numpy()
    whole = np.isfinite(numbers).all() and (numbers % 1 == 0).all() and np.abs(numbers).max() < 2**53
    return values.astype("int64") if whole else values


def text_of(value: Any) -> str | None:
    """Return the text of a label without emphasis; None if there is none."""
    if value is None or (isinstance(value, float) and np.isnan(value)) or value is pd.NA or value is pd.NaT:
        return None
    text = " ".join(str(value).split())
    return unmarked(text)


def check(role: str, theirs: str, read: Column, decimal: str | None = None, bounded: bool = True) -> None:
    """Refuse a column that holds another kind of number than its role needs.

    With `bounded`, large numbers in column loss are refused too.
    """
    name = role if role == theirs else f"{role} (column {theirs!r})"
    option = f"columns={{'{role}': ...}} (--column {role}=...)"
    if read.undecided:
        raise InputError(
            f"{name} contains {read.undecided!r}, whose mark may be a decimal mark or a thousands separator. Give the "
            "decimal mark with decimal=',' or decimal='.' (--decimal)."
        )
    foreign = {"loss": ("suffix", "multiple"), "value_se": ("suffix", "multiple")}
    foreign |= dict.fromkeys(("n_params", "n_tokens", "flops", "n_samples"), ("percent", "multiple"))
    for mark in foreign.get(role, ()):
        if read.marks.get(mark):
            raise InputError(f"{name} has {MARKS[mark]}, e.g. {read.example!r}. Give another column with {option}.")
    filled = int(np.isfinite(read.values).sum())
    if 0 < read.marks.get("percent", 0) < filled:
        raise InputError(
            f"{name} has percentages in {read.marks['percent']} of {filled} cells. Write all cells with % or all "
            "without."
        )
    largest = np.max(read.values[np.isfinite(read.values)], initial=0.0)
    if bounded and role == "loss" and read.decimal and largest >= LARGEST_LOSS:
        raise InputError(
            f"{name} has the value {np.nanmax(read.values):g}, too large for a loss. Its marks were read as thousands "
            f"separators, {thousands(decimal)}."
        )


def thousands(decimal: str | None) -> str:
    """Return the reason why marks are read as thousands separators, and the option for another reading.

    Args:
        decimal: The decimal mark that the caller specified, or None.
    """
    if decimal is None:
        return "as in other columns. Give the decimal mark with decimal=',' or decimal='.' (--decimal)"
    other = "," if decimal == "." else "."
    return (
        f"because decimal={decimal!r} (--decimal {decimal}) was given. Leave it out, or give decimal={other!r} "
        f"(--decimal {other})"
    )


def not_numbers(cells: Cells, chosen: Mapping[str, str], role: str, rows: list[int]) -> str:
    """Return the message about cells of a column that could not be read as numbers."""
    theirs = chosen[role]
    noun, verb = ("rows", "hold") if len(rows) > 1 else ("row", "holds")
    name = role if role == theirs else f"{role} (column {theirs!r})"
    return (
        f"{name} must hold numbers; {noun} {some(rows)} {verb} {quoted(cells, theirs, rows)}. Correct them, or give "
        f"another column with columns={{'{role}': ...}} (--column {role}=...)."
    )


def quoted(cells: Cells, theirs: str, rows: Collection[int]) -> str:
    """Return the cells of a column in quotes, as written in the file, equal ones once; empty where all are empty."""
    texts = (str(cells.frame.loc[row, theirs]).strip() for row in rows if cells.frame.loc[row, theirs] is not None)
    return some([repr(" ".join(text.split())[:60]) for text in dict.fromkeys(texts) if text and text != "nan"])


def told(role: str, theirs: str, read: Column, factor: float, unit: str) -> list[LogEntry]:
    """Return log entries about conversions in a column."""
    log: list[LogEntry] = []
    parts = [
        f"{MARKS[mark]} ({counted(count, 'cell')})"
        for mark, count in read.marks.items()
        if mark not in ("about", "spread")
    ]
    if parts:
        text = f"{role}: {', '.join(parts)} read in column {theirs!r}"
        text += f", e.g. {read.example!r}." if read.example else "."
        log.append(LogEntry("converted", "info", text, columns=(theirs,)))
    if factor != 1.0:
        text = (
            f"{role}: numbers without a unit in column {theirs!r} were multiplied by {factor:g}"
            f"{'' if unit == f'{factor:g}' else f' ({unit})'}."
        )
        log.append(LogEntry("converted", "info", text, columns=(theirs,)))
    if count := read.marks.get("about"):
        text = f"{role}: {counted(count, 'value')} marked as approximate, read as exact."
        log.append(LogEntry("converted", "warning", text, columns=(theirs,)))
    if count := read.marks.get("spread"):
        text = (
            f"{role}: {counted(count, 'value')} with a spread (±), which may be a standard deviation or a standard "
            f"error. It is kept in column '{role} ±' but not used. Give a column of standard errors with --column "
            "value_se=..."
        )
        log.append(LogEntry("converted", "warning", text, columns=(theirs,)))
    return log


def recognised(cells: Cells, chosen: Mapping[str, str], kind: str = "loss") -> list[LogEntry]:
    """Return a log entry with the recognised columns and their names in the file.

    Args:
        cells: The table.
        chosen: Columns of the file by canonical name.
        kind: Kind of the response: "loss", "score" or "value".
    """
    if not chosen:
        return []
    named = {(kind if role == "loss" else role): theirs for role, theirs in chosen.items()}
    listed = ", ".join(role if role == theirs else f"{role} = {theirs!r}" for role, theirs in named.items())
    log = [LogEntry("recognised", "info", f"Recognised: {listed}.", columns=tuple(chosen.values()))]
    head = cells.heads.get(chosen.get("loss", "")) if kind != "value" else None
    if head is not None and head.kind.startswith("score"):
        text = (
            f"loss is read from {head.name!r}, a score that rises where models get better, but laws of losses decrease "
            f"with scale. Read it as a score with score={head.name!r} (--score {shell(head.name)}), or as an error "
            f"rate, 1 - {shell(head.name)}, with derive='error_rate' (--derive error_rate). For a loss that increases, "
            "use a law that grows, such as growing_power."
        )
        log.append(LogEntry("score", "warning", text, columns=(head.name,)))
    if head is not None and {"ppl", "perplexity"} & set(words_of(head.name)):
        text = (
            f"loss is read from {head.name!r}, a perplexity, without conversion. Laws of losses describe "
            "ln(perplexity), the loss in nats: convert with derive='log_perplexity' (--derive log_perplexity)."
        )
        log.append(LogEntry("perplexity", "info", text, columns=(head.name,)))
    return log
