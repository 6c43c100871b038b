"""Notices: columns that are not used, columns that differ between runs of equal inputs, and tables without a scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bayescale.data.assign import shell
from bayescale.data.columns import ROLES, is_outcome, words_of
from bayescale.data.log import LogEntry
from bayescale.data.runs import COUNTS
from bayescale.errors import InputError, some

SETTINGS = frozenset(
    (
        "lr learning rate wd weight decay warmup beta beta1 beta2 dropout momentum batch layers layer depth "
        "heads head dim width hidden temperature eps clip bsz seq length context optim optimizer epochs epoch "
        "seed schedule cooldown vocab sequence"
    ).split()
)
"""Words of columns that are settings of training rather than a scale."""
WIDE = 3.0
"""A measured column along which the loss decreases counts as a scale if it varies by at least this factor."""


def carried(table: pd.DataFrame, inputs: Sequence[str]) -> list[str]:
    """Return the columns of the file that no fit uses and that describe how a run was set up."""
    names = [
        str(column)
        for column in table
        if column not in ROLES and column not in inputs and not str(column).endswith("±")
    ]
    return [name for name in names if not is_outcome(name)]


def differing(table: pd.DataFrame, inputs: Sequence[str]) -> list[LogEntry]:
    """Warn of unused columns that differ between rows of equal inputs, because two recipes may be mixed in one fit."""
    log: list[LogEntry] = []
    named = [name for name in ("family", "metric", "run") if name in table]
    # Steps distinguish the checkpoints of a run; if each run has one row, they are a setting like any other.
    checkpoints = "run" in table and "step" in table and bool(table.duplicated(named).any())
    keys = [name for name in ("family", "metric", *(["step"] if checkpoints else []), *inputs) if name in table]
    lengths = ["step"] if "step" in table and inputs and not checkpoints and "step" not in inputs else []
    for name in [*carried(table, inputs), *lengths]:
        known = table[table[name].notna()]
        if len(known) < 2 or ids(table[name]) or measured(known[name]):
            continue
        groups = known.groupby(keys, dropna=False)[name] if keys else known.groupby(np.zeros(len(known)))[name]
        if not (groups.nunique() > 1).any():
            continue
        values = list(dict.fromkeys(f"{value:g}" if isinstance(value, float) else str(value) for value in known[name]))
        if name == "step":
            log.append(LogEntry("differs", "warning", lengths_differ(inputs, values), columns=(name,)))
            continue
        text = (
            f"{name!r} differs between rows with equal inputs ({some(values)}), but the fit does not use it. If it "
            f"changes the loss, fit these runs separately with family={name!r} (--column family={shell(name)})."
        )
        if name == "lr" and "n_params" in inputs:
            text += (
                " To find the best learning rate for each size, fit the law rate_valley with inputs=('n_params', 'lr') "
                "(bayescale fit --input n_params --input lr --law rate_valley)."
            )
        elif name == "lr" and not inputs:
            text += " To find the best learning rate, fit the loss as a function of it: inputs='lr' (--input lr)."
        log.append(LogEntry("differs", "warning", text, columns=(name,)))
    return log


def lengths_differ(inputs: Sequence[str], values: Sequence[str]) -> str:
    """Return the warning that runs with equal inputs were trained for different numbers of steps.

    Args:
        inputs: Names of the inputs.
        values: The numbers of steps.
    """
    asked = " ".join(f"--input {name}" for name in (*inputs, "step"))
    return (
        f"Rows with equal inputs differ in their steps ({some(values)}). The fit does not use steps, although longer "
        "training lowers the loss. Give the column of training tokens, columns={'n_tokens': ...} (--column "
        f"n_tokens=...), or add steps as an input, inputs={(*inputs, 'step')} ({asked}), or keep runs of one length."
    )


def ids(column: pd.Series) -> bool:
    """Return whether a column only numbers or names the rows."""
    known = column.dropna()
    if len(known) < 3 or known.nunique() < len(known):
        return False
    if known.map(lambda value: isinstance(value, str)).all():
        return True
    numbers = pd.to_numeric(known, errors="coerce").to_numpy(float)
    return bool(np.isfinite(numbers).all() and (np.diff(numbers) == 1).all())


def measured(column: pd.Series) -> bool:
    """Return whether a column looks like a result: fractional numbers that hardly ever repeat."""
    if set(words_of(str(column.name))) & SETTINGS:
        return False
    values = pd.to_numeric(column, errors="coerce").to_numpy(float)
    return bool(np.isfinite(values).all() and (values % 1 > 0).any() and column.nunique() > 0.8 * len(column) > 3)


def unused(table: pd.DataFrame, inputs: Sequence[str]) -> list[LogEntry]:
    """Log the columns that were kept and are not used."""
    names = [str(c) for c in table if c not in ROLES and c not in inputs and not str(c).endswith("±")]
    if not names:
        return []
    text = f"Columns kept but not used: {some([repr(name) for name in names], 8)}."
    return [LogEntry("unused", "info", text, columns=tuple(names))]


def drives(table: pd.DataFrame, name: str) -> bool:
    """Return whether the loss decreases along a measured column, such as hours, that varies by at least `WIDE`."""
    if name in ROLES or name in ("score", "value") or name.endswith("±") or "loss" not in table:
        return False
    values = pd.to_numeric(table[name], errors="coerce").to_numpy(float)
    loss = table["loss"].to_numpy(float)
    there = np.isfinite(values) & np.isfinite(loss)
    if there.sum() < 4 or values[there].min() <= 0.0 or values[there].max() < WIDE * values[there].min():
        return False
    order = np.argsort(values[there], kind="stable")
    return np.ptp(loss[there]) > 0.0 and bool((np.diff(loss[there][order]) < 0.0).all())


def no_scale(table: pd.DataFrame) -> list[LogEntry]:
    """Log that a table has no scale input.

    Raises:
        InputError: If a column might be one.
    """
    candidates = []
    for name in carried(table, ()):
        values = pd.to_numeric(table[name], errors="coerce").to_numpy(float)
        known = values[np.isfinite(values)]
        scale = len(known) > 1 and (known > 0).all() and len(np.unique(known)) > 1
        if scale and not ids(table[name]) and not set(words_of(name)) & SETTINGS:
            candidates.append(name)
    candidates += [name for name in map(str, table) if name not in candidates and drives(table, name)]
    if candidates:
        yours = candidates[0]
        # A measured column, such as hours, is no count of parameters.
        counts = f", or columns={{'n_params': '{yours}'}} (--column n_params={shell(yours)}) if it is a size"
        raise InputError(
            "No column was recognised as a scale input, such as parameters or tokens; "
            f"found {some(list(table), 8)}, expected one of {', '.join(COUNTS)}. "
            f"Give yours with inputs='{yours}' (--input {shell(yours)}){'' if is_outcome(yours) else counts}; "
            "if all runs have the same scale, give inputs=() (--input none)."
        )
    text = "There is no scale input, so no law can be fitted. Seed noise and recipes can still be studied at one scale."
    if "step" in table and table["step"].nunique() > 1:
        response = next((name for name in ("score", "value") if name in table), "loss")
        text += f" To fit the {response} as a function of steps, give inputs='step' (--input step)."
    return [LogEntry("scale", "warning", text)]
