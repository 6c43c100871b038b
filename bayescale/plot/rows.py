"""Checked tables of measured runs for plots."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bayescale import checked
from bayescale.data.runs import Runs
from bayescale.errors import InputError


def response_rows(runs: Runs) -> pd.DataFrame:
    """Return the rows of runs with the measured response as `loss`, and for scores with binomial standard errors."""
    if runs.value is not None:
        return runs.frame.assign(loss=runs.shown)
    if runs.score is None:
        return runs.frame
    score, items = runs.shown, runs.frame["n_items"].to_numpy(float)
    return runs.frame.assign(loss=score, value_se=np.sqrt(score * (1.0 - score) / items))


def measured_rows(truth: pd.DataFrame | Runs, inputs: Sequence[str], kind: str = "loss") -> pd.DataFrame:
    """Return held-out rows as a table with the inputs and the response as loss.

    Args:
        truth: The rows.
        inputs: Inputs that the rows must have.
        kind: Kind of the response, which is its column: "loss", "score" or "value".

    Raises:
        InputError: For missing columns or no rows.
    """
    frame = response_rows(truth) if isinstance(truth, Runs) else truth
    if kind != "loss" and not isinstance(truth, Runs):
        need(frame, (*inputs, kind))
        frame = frame.assign(loss=frame[kind])
    need(frame, (*inputs, "loss"))
    return frame


def need(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Refuse a table without these columns, or without rows.

    Raises:
        InputError: With the missing columns.
    """
    checked.instance("A table", frame, pd.DataFrame, hint=f"It needs the columns {', '.join(columns)}.")
    missing = [column for column in columns if column not in frame]
    if missing:
        raise InputError(f"A table with columns {', '.join(columns)} is needed; {', '.join(missing)} is missing.")
    if not len(frame):
        raise InputError(f"The table of {', '.join(columns)} has no rows; there is nothing to draw.")
