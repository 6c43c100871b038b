"""Worst: the families on which a method misses most, and why, as far as the data show it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.calibration import tally
from benchmarks.core.problems import Problem, scale
from benchmarks.core.sources import SOURCES, problems

SHOWN = 9
A_SOURCE = 3
"""Most families of one source that are shown."""
SHORT = 5
"""Curves with as many training points or fewer count as short."""
BEND = 0.3
"""Change of the log-log slope between both halves of the training points that counts as a bend."""


def worst(table: pd.DataFrame, rows: pd.DataFrame) -> list[tuple[Problem, pd.DataFrame, str]]:
    """Choose the families whose outcomes lie most half-widths of the 95 % interval from the median.

    Args:
        table: Cells of one method.
        rows: Its rows.

    Returns:
        Problem, its rows and the reason: of each family the problem with the largest miss, worst family first.
    """
    table = table.assign(set=tally.set_name(table))
    by_family = tally.families(table, "set").sort_values("missed", ascending=False)
    by_family = by_family.groupby("set", sort=False).head(A_SOURCE).head(SHOWN)
    keys = []
    for source, family, name in by_family[["source", "family", "set"]].itertuples(index=False):
        own = table[(table["source"] == source) & (table["family"] == family) & (table["set"] == name)]
        keys.append(own.sort_values("missed")["key"].iloc[-1])
    found = {problem.key: problem for problem in problems(readers(by_family["source"])) if problem.key in set(keys)}
    return [(found[k], rows[rows["key"] == k], reason(found[k], rows[rows["key"] == k])) for k in keys if k in found]


def readers(sources: pd.Series) -> list[str]:
    """Names in `SOURCES` that yield problems of some sources."""
    wanted = {str(source).split()[0] for source in sources}
    return [name for name in SOURCES if name.split()[0] in wanted]


def reason(problem: Problem, rows: pd.DataFrame) -> str:
    """Say where the truth lies and what of it the training points could not or did not show."""
    y = problem.held["loss"].to_numpy(float)
    lower = np.mean(np.log(y / rows.sort_values("row")["q0.5"].to_numpy(float))) < 0
    signs = several(problem) if len(problem.inputs) > 1 else bends(problem)
    if len(problem.train) <= SHORT:
        signs.insert(0, f"{len(problem.train)} points to fit")
    width = float(np.median(np.log(rows["q0.975"] / rows["q0.025"])))
    if width < 0.02:
        signs.append(f"95 % interval only {100 * width:.1g} % wide")
    return f"truth {'lower' if lower else 'higher'}: {', '.join(signs[:2]) or 'no sign of it in the fitted points'}"


def bends(problem: Problem) -> list[str]:
    """Signs on a curve: how its slope changes within the training points and beyond them."""
    x, y = np.log(scale(problem.train, problem.inputs)), np.log(problem.train["loss"].to_numpy(float))
    order = np.argsort(x)
    x, y = x[order], y[order]
    half = len(x) // 2
    span = max(float(np.ptp(x)), np.log(2.0))
    early, late = slope(x[: half + 1], y[: half + 1]), slope(x[half:], y[half:])
    ahead_x, ahead_y = np.log(scale(problem.held, problem.inputs)), np.log(problem.held["loss"].to_numpy(float))
    # From the last fitted points on, so that a jump between both parts shows too.
    ahead = slope(np.append(x[-1:], ahead_x), np.append(y[-1:], ahead_y))
    usual = abs(0.5 * (early + late)) + 0.02 / span
    signs = []
    if late > 0.02 / span:
        signs.append("already rises among the fitted points")
    elif early - late > BEND * usual:
        signs.append("still steepens")
    elif late - early > BEND * usual:
        signs.append("flattens")
    if ahead > 0.02 / span and ahead > late:
        signs.append("rises beyond")
    elif ahead < 1.5 * min(late, 0.0) - 0.02 / span:
        signs.append("falls faster beyond")
    elif ahead > 0.5 * min(late, 0.0) + 0.02 / span:
        signs.append("levels off beyond")
    return signs


def several(problem: Problem) -> list[str]:
    """Signs on a grid: which inputs leave the fitted box, and by how much."""
    signs = []
    for name in problem.inputs:
        factor = float(problem.held[name].max() / problem.train[name].max())
        if factor > 1.5:
            signs.append(f"{name} {factor:.2g}x beyond")
    return signs or ["no input leaves its fitted range"]


def slope(x: np.ndarray, y: np.ndarray) -> float:
    """Slope of a straight line through points; zero where all have one x."""
    spread = ((x - x.mean()) ** 2).sum()
    return float(((x - x.mean()) * (y - y.mean())).sum() / spread) if spread > 0 else 0.0
