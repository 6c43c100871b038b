"""Checkpoints: which rows are checkpoints of one run, and the averages of long curves to fewer rows before a fit."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayescale.data.log import LogEntry
from bayescale.errors import InputError, counted

MOST_ROWS, MOST_TOGETHER = 64, 100
"""Largest number of rows of one run, and of several runs together. If there are more checkpoints, they are averaged
within intervals of equal width in ln x."""
MOST_SCORES = 16
"""Largest number of rows of scores, where each row adds its own parameters to the model."""
FEWEST_PARTS = 8
"""Smallest number of intervals of ln x."""
MIDDLE_SQUARE = 0.4549
"""Median of the square of a standard normal variable."""


CLOCKS = ("n_tokens", "step", "flops", "n_samples")
"""Columns that grow along a run, in order of preference."""


WARM_UP = LogEntry(
    "warm_up",
    "info",
    "Checkpoints from the warm-up of the learning rate follow no law of scale: burn_in=0.1 (--burn-in 0.1) leaves out "
    "the first tenth of each run.",
)
"""Entry of the log of runs whose checkpoints are kept."""


def clock_of(table: pd.DataFrame) -> str | None:
    """Return the column that grows along a run, or None if the table has none."""
    return next((name for name in CLOCKS if name in table), None)


def run_numbers(table: pd.DataFrame) -> np.ndarray:
    """Return the number of the run of each row, shape (row,); rows without names are separate runs."""
    if "run" not in table:
        return np.arange(len(table))
    named = [column for column in ("family", "metric", "run", "seed") if column in table]
    numbers = table.groupby(named, sort=False, dropna=False).ngroup().to_numpy()
    nameless = table["run"].isna().to_numpy() | (table["run"].astype(str).str.strip() == "").to_numpy()
    return np.where(nameless, numbers.max(initial=0) + 1 + np.arange(len(table)), numbers)


def after_burn_in(table: pd.DataFrame, inputs: tuple[str, ...], fraction: float) -> tuple[pd.DataFrame, LogEntry]:
    """Return the rows of one family without the first checkpoints of each run, and a log entry about them.

    Without names of runs, rows with one input that grows along a run (`CLOCKS`) are checkpoints of one run.

    Args:
        table: Rows of one family by canonical name; the index is the number of the row in the file.
        inputs: Scale inputs.
        fraction: Checkpoints up to this fraction of the last one of their run are left out.

    Raises:
        InputError: For a table without a column that grows along a run.

    Example:
        >>> table = pd.DataFrame({"run": "a", "step": [10, 50, 100], "loss": [9.0, 4.0, 3.5]})
        >>> after_burn_in(table, ("step",), 0.2)[0]["step"].tolist()
        [50, 100]
    """
    clock = clock_of(table)
    if clock is None:
        raise InputError(
            f"burn_in (--burn-in) needs a column that grows along a run: {', '.join(CLOCKS)}. Leave the option out, or "
            "name the column with columns= (--column)."
        )
    one_run = "run" not in table and inputs == (clock,)
    run = pd.Series(np.zeros(len(table), int) if one_run else run_numbers(table), index=table.index)
    time = pd.to_numeric(table[clock], errors="coerce")
    first = table.index[(time <= fraction * time.groupby(run).transform("max")).to_numpy(bool)]
    where = f"up to {fraction:.4g} of the last {clock} of each run"
    if not len(first):
        text = f"burn_in (--burn-in) has no effect: there are no checkpoints {where}."
        return table, LogEntry("burn_in", "warning", text, (), (clock,))
    text = f"Burn-in: {counted(len(first), 'checkpoint')} {where} left out."
    return table.drop(index=first), LogEntry("burn_in", "excluded", text, tuple(map(int, first)), (clock,))


def curves(frame: pd.DataFrame) -> np.ndarray:
    """Return the number of the run to which each row belongs, shape (row,); rows without names belong to one run."""
    named = [column for column in ("run", "seed") if column in frame]
    return frame.groupby(named, sort=False, dropna=False).ngroup().to_numpy() if named else np.zeros(len(frame), int)


def own_runs(rows: int) -> list[str]:
    """Return a different run name for each row, so that rows are never averaged."""
    return [f"row {number}" for number in range(1, rows + 1)]


def long_curves(frame: pd.DataFrame, x: np.ndarray, curve: np.ndarray, most: int) -> bool:
    """Return whether rows are checkpoints of long curves, with more rows than `most`.

    Rows with names of runs are checkpoints if a run has several rows. Rows without names are checkpoints if they have
    one input with more than `most` different values; with fewer values they are replicates.

    Args:
        frame: The rows.
        x: ln of the inputs, shape (row, input).
        curve: See `curves`.
        most: Largest number of rows that are not averaged, see `most_rows`.
    """
    if "run" in frame:
        return len(x) > most and bool(np.bincount(curve).max() > 1)
    return x.shape[1] == 1 and len(np.unique(x)) > most


def most_rows(curve: np.ndarray, scored: bool) -> int:
    """Return the largest number of rows that are not averaged.

    Args:
        curve: See `curves`.
        scored: Whether the response is a score, where each row adds its own parameters to the model.
    """
    if scored:
        return MOST_SCORES
    return MOST_ROWS if (curve == curve[0]).all() else MOST_TOGETHER


def averaged(
    curve: np.ndarray, x: np.ndarray, y: np.ndarray, error: np.ndarray, exempt: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """Average the checkpoints of each curve within intervals of equal width in ln x.

    Neighbouring checkpoints are not independent, and a fit would take a single deviating checkpoint for discrepancy.

    Args:
        curve: See `curves`.
        x: ln of the inputs, shape (row, input).
        y: ln(loss), shape (row,).
        error: Known squared standard errors of y, shape (row,).
        exempt: Whether the raw value of an input has a meaning, shape (input,): only rows with equal values are
            averaged.
        most: Largest number of averages, see `most_rows`.

    Returns:
        `curve`, `x`, `y` and `error` of the averages, and the additional variance of a single row. That variance is
        estimated robustly, because early checkpoints scatter more than later ones.
    """
    fraction = (x - x.min(0)) / np.maximum(np.ptp(x, axis=0), np.finfo(float).tiny)

    def cut(parts: float) -> tuple[np.ndarray, ...]:
        cells = np.column_stack([curve, np.where(exempt, x, np.rint(fraction * (parts - 1.0)))])
        return np.unique(cells, axis=0, return_index=True, return_inverse=True, return_counts=True)

    cells = cut(most)
    for parts in np.geomspace(most, FEWEST_PARTS, 16).round()[1:]:
        if len(cells[0]) > most:
            cells = cut(parts)
    found, first, group, number = cells
    group = group.ravel()
    several = number[group] > 1
    if not several.any():
        return curve, x, y, error, 0.0

    def mean(values: np.ndarray) -> np.ndarray:
        # Computed relative to the first row, so that the mean of equal values is exactly that value.
        base = values[first]
        return base + np.bincount(group, values - base[group]) / number

    along = fraction.sum(1)
    mean_y, mean_along, slope = mean(y), mean(along), np.zeros(len(number))
    for name in np.unique(curve):
        own = np.flatnonzero(found[:, 0] == name)
        own = own[np.argsort(mean_along[own])]
        at, back = np.unique(mean_along[own], return_inverse=True)
        if len(at) > 1:
            # Averages at the same position along the inputs share one slope.
            slope[own] = np.gradient(np.bincount(back, mean_y[own]) / np.bincount(back), at)[back]
    # Deviation of a row from its average, without the slope of the curve between the two.
    rest = y - mean_y[group] - slope[group] * (along - mean_along[group])
    inflation = number[group][several] / (number[group][several] - 1.0)
    square = float(np.median(rest[several] ** 2 * inflation)) / MIDDLE_SQUARE
    variance = square * (1.0 - (1.0 / number).mean())
    means = np.column_stack([mean(column) for column in x.T])
    return found[:, 0].astype(int), means, mean_y, mean(error) / number, variance
