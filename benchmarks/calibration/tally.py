"""Tally: from scored rows to figures in which every family counts the same.

A cell is one method on one problem: its rows are averaged (squared errors under a root, widths by their median). The
cells of a family are averaged over metrics and splits, then families. Intervals are 95 % bootstrap intervals: sources
are drawn, then families within each, since the families of one paper are alike; the curves of one LCDB data set share
its test set, so they are drawn together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bayescale.errors import InputError
from bayescale.evaluate.backtest import LEVELS, QUANTILES
from benchmarks.core import store
from benchmarks.core.estimates import Estimate, cluster_of, estimate, means_again
from benchmarks.core.methods import METHODS, PARTIAL
from benchmarks.core.problems import DEVELOPMENT, FAR

OURS = "bayescale"
COVERS = tuple(f"cover{100 * level:g}" for level in LEVELS)
MEASURES = (*COVERS, "pit", "crps", "own_scale", "log_score", "rmsle", "width")
UNTRUSTED = ("not_monotone", "repeated")
"""Codes of `check()` that say: do not trust this forecast."""
FLOOR = -10.0
"""Log scores below count as this much; one density of nearly zero width would decide a mean."""
MISSED = 1e3
"""Half-widths by which an outcome lies outside at most, where an interval has next to no width."""
LARGEST = 100.0
"""Larger CRPS of ln y count as this in ratios, which an infinite one would decide alone."""
FEW_FAMILIES = 5
"""With fewer, resampling them says next to nothing."""
ROUNDING = 1e-9
"""A gap of exactly the aim is met."""
CELL = ("method", "source", "family", "metric", "group", "split")


@dataclasses.dataclass(frozen=True)
class Line:
    """A part of the benchmark with an aim of its own.

    Attributes:
        name: What it is called on the page.
        chosen: Tells which cells belong to it.
        aim: How far coverage may be from 80, 90 and 95 %.
        aim50: How far it may be from 50 %.
    """

    name: str
    chosen: Callable[[pd.DataFrame], pd.Series]
    aim: float = 0.03
    aim50: float = 0.06

    def of(self, cells: pd.DataFrame) -> pd.DataFrame:
        """Return the cells that belong to this part."""
        return cells[self.chosen(cells)]

    def aim_at(self, level: float) -> float:
        """Return how far coverage may be from a level."""
        return self.aim50 if level == 0.5 else self.aim


def in_group(group: str, *splits: str, low: int = 0, high: int = 10**9) -> Callable[[pd.DataFrame], pd.Series]:
    """Choose cells by group, split where any are named, and number of training points."""

    def chosen(cells: pd.DataFrame) -> pd.Series:
        found = (cells["group"] == group) & cells["n_train"].between(low, high)
        return found & cells["split"].isin(splits) if splits else found

    return chosen


FEW = {"aim": 0.05, "aim50": 0.06}
GRID = {"aim": 0.05, "aim50": 0.08}
LINES = (
    Line("one input, published split or half", in_group("one input", "published", "half")),
    *[Line(f"one input, {ratio}x beyond the data", in_group("one input", f"R={ratio}")) for ratio in (2, 4, 8, 16)],
    Line("one input, the largest run", in_group("one input", "largest")),
    Line("one input, 4 to 8 points", in_group("one input", low=4, high=8), **FEW),
    Line("LCDB, 4 to 8 points", in_group("lcdb", low=4, high=8), **FEW),
    Line("LCDB, 9 points or more", in_group("lcdb", low=9)),
    Line("long curves thinned to 4 to 8 points", in_group("sparsified"), **FEW),
    *[
        Line(f"several inputs, {factor}x the compute", in_group("several inputs", f"k={factor}"), **GRID)
        for factor in (3, 10, 30)
    ],
    Line("several inputs, the largest model", in_group("several inputs", "largest"), **GRID),
    Line("small designs, 6 to 12 runs", in_group("small design"), **GRID),
    *[Line(f"one input, {ratio}x beyond the data", in_group("far", f"R={ratio}")) for ratio in FAR],
    Line("several inputs, 100x to 1000x the compute", in_group("far, several inputs"), **GRID),
    Line("known standard errors", in_group("known errors")),
    Line("replicates", in_group("replicates"), **GRID),
)
"""Parts of the headline table."""
PARTS = {
    "one input": ("one input",),
    "LCDB learning curves": ("lcdb",),
    "long curves thinned to 4 to 8 points": ("sparsified",),
    "several inputs": ("several inputs",),
    "small designs": ("small design",),
}
"""Parts in which methods are compared, as groups of problems."""
WHOLE = ("one input", "lcdb", "several inputs")
"""Groups that are no thinned copy or part of another."""


def load(folder: Path) -> pd.DataFrame:
    """Read the rows of every method that has any.

    Raises:
        InputError: If there are none.
    """
    tables = [rows for method in METHODS if len(rows := store.stored(method, folder))]
    if not tables:
        raise InputError(f"There are no results in {folder}. Run `python -m benchmarks run` first.")
    return distinct(pd.concat(tables, ignore_index=True))


def distinct(rows: pd.DataFrame) -> pd.DataFrame:
    """Leave out problems that repeat another, for every method alike: as many fitted runs, and the same held out.

    The largest run of a ladder whose steps are a factor of two is what lies twice as far, too, and some curves were
    published under two names. Designs with their standard errors or seeds and thinned curves are problems of their own,
    and so are small designs of different runs. Errors of LCDB are coarse, so two of its curves may agree by chance.
    """
    problems = rows.drop_duplicates(["key", "row"]).sort_values("row")
    shown = problems.groupby("key", sort=False).agg(y=("y", digits), ratio=("ratio", digits))
    named = problems.drop_duplicates("key").set_index("key")[
        ["source", "family", "metric", "group", "split", "n_train"]
    ]
    named = named.join(shown).reset_index()
    apart = ["sparsified", "known errors", "replicates", "stress"]
    named["kind"] = named["group"].where(named["group"].isin(apart), "whole")
    design, lcdb = named["group"] == "small design", named["source"].str.startswith("lcdb")
    named["own"] = named["family"].where(lcdb, "") + "|" + named["metric"].where(lcdb, "")
    named["own"] += "|" + named["split"].where(design, "")
    # Of two the nearer one stays: R=2 before the largest run, R=16 before R=30.
    named["place"] = named["split"].map(place_of)
    named = named.sort_values(["place", "source", "key"])
    repeats = named.loc[named.duplicated(["kind", "own", "n_train", "y", "ratio"]), "key"]
    return rows[~rows["key"].isin(repeats)]


def digits(values: pd.Series) -> str:
    """Write numbers with five digits, so that rows written in other ways compare."""
    return " ".join(f"{value:.5g}" for value in values)


def place_of(split: str) -> tuple[int, float]:
    """Order of splits: published and half, ratios, the largest run, and others."""
    name, _, factor = split.partition("=")
    return {"published": 0, "half": 1, "R": 2, "k": 2, "largest": 3}.get(name, 4), float(factor or 0)


def cells(rows: pd.DataFrame) -> pd.DataFrame:
    """Average the rows of each method on each problem.

    Args:
        rows: Rows as `run` writes them.

    Returns:
        A row a method and problem: those names, key, measures, n_train, ok, seconds, flagged, notes, missed (mean
        distance from the median in half-widths of the 95 % interval), developed and cluster.
    """
    error = np.log(rows["y"].astype(float) / rows["q0.5"].astype(float))
    edge = np.where(error > 0, rows["q0.975"] / rows["q0.5"], rows["q0.5"] / rows["q0.025"])
    with np.errstate(divide="ignore", invalid="ignore"):
        missed = np.nan_to_num(error.abs() / np.log(edge), nan=MISSED, posinf=MISSED)
    # A forecast that is no number covers nothing, and what was written as null was infinite: pandas would skip it.
    away = (rows["pit"].astype(float) - 0.5).abs()
    table = rows[[*CELL, "key", "pit", "n_train", "seconds", "ratio"]].assign(
        **{name: away <= 0.5 * level + 1e-12 for name, level in zip(COVERS, LEVELS, strict=True)},
        crps=rows["crps"].astype(float).fillna(np.inf),
        own_scale=own_scale(rows),
        width=rows["width"].astype(float).fillna(np.inf),
        log_score=rows["log_score"].astype(float).fillna(FLOOR).clip(lower=FLOOR),
        square=(error**2).fillna(np.inf),
        missed=np.minimum(missed, MISSED),
        ok=rows["status"] == "OK",
        notes=rows["notes"].fillna(""),
        rises=rows["rises"].eq(True) if "rises" in rows else False,
    )
    table["flagged"] = [bool(set(codes.split(",")) & set(UNTRUSTED)) for codes in table["notes"]]
    grouped = table.groupby([*CELL, "key"], sort=False)
    means = grouped[[*COVERS, "pit", "crps", "own_scale", "log_score", "square", "missed"]].mean()
    firsts = grouped[["n_train", "ok", "seconds", "flagged", "rises", "notes"]].first()
    result = means.join(firsts).join(grouped["ratio"].max()).join(grouped["width"].median()).reset_index()
    result["rmsle"] = np.sqrt(result.pop("square"))
    return result.assign(developed=result["source"].isin(DEVELOPMENT), cluster=cluster_of(result))


def own_scale(rows: pd.DataFrame) -> pd.Series:
    """CRPS of the response itself: twice the quantile score, integrated over the quantiles that a row has.

    It counts as `LARGEST` times the outcome at most, so that no infinite interval decides a mean.
    """
    levels = [level for level in QUANTILES if f"q{level:g}" in rows]
    edges = np.concatenate([[0.0], 0.5 * (np.array(levels)[1:] + np.array(levels)[:-1]), [1.0]])
    total = pd.Series(0.0, rows.index)
    for level, weight in zip(levels, np.diff(edges), strict=True):
        miss = rows["y"].astype(float) - rows[f"q{level:g}"].astype(float)
        total += 2.0 * weight * np.maximum(level * miss, (level - 1.0) * miss)
    return np.minimum(total.fillna(np.inf), LARGEST * rows["y"].astype(float))


def families(part: pd.DataFrame, *by: str) -> pd.DataFrame:
    """Average cells within each family of each method.

    Args:
        part: Cells.
        by: Further columns that keep cells apart.

    Returns:
        A row a method and family: source, family, cluster, `by`, measures, missed and flagged.
    """
    grouped = part.groupby(["method", "source", "family", "cluster", *by], sort=False)
    averaged = [name for name in (*MEASURES, "missed", "flagged") if name != "width"]
    return grouped[averaged].mean().join(grouped["width"].median()).reset_index()


def measured(table: pd.DataFrame, measure: str) -> Estimate:
    """Estimate one measure from the table of families of one method."""
    return estimate(table[measure], table["cluster"], "median" if measure == "width" else "mean")


def common(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the problems that every method has, those apart that are made for some only."""
    table = table[~table["method"].isin(list(PARTIAL))]
    counts = table.groupby("key")["method"].nunique()
    return table[table["key"].map(counts) == table["method"].nunique()]


def paired(part: pd.DataFrame, ours: str, rival: str) -> pd.DataFrame:
    """CRPS of two methods side by side, a row a family with its cluster, within bounds that a ratio can bear."""
    table = families(part[part["method"].isin([ours, rival])])
    wide = table.pivot(index=["source", "family", "cluster"], columns="method", values="crps")
    return wide.clip(1e-9, LARGEST).reset_index()


def ratio(part: pd.DataFrame, ours: str, rival: str) -> Estimate:
    """Our CRPS over a rival's, as a geometric mean over families.

    Args:
        part: Cells that both methods have.
        ours: Name of the method above the line.
        rival: Name of the method below.
    """
    wide = paired(part, ours, rival)
    found = estimate(np.log(wide[ours] / wide[rival]) if len(wide) else [], wide["cluster"])
    return Estimate(*np.exp([found.value, found.low, found.high]).tolist(), found.families)


def ratio_of_means(part: pd.DataFrame, ours: str, rival: str) -> Estimate:
    """Our mean CRPS over families over a rival's; arguments as for `ratio`.

    Unlike a geometric mean it rewards no forecast without bound for a curve that never moves, and is decided by the
    families that are hard to forecast.
    """
    wide = paired(part, ours, rival)
    if not len(wide):
        return Estimate(np.nan, np.nan, np.nan, 0)
    above, below = (means_again(wide[name], wide["cluster"]) for name in (ours, rival))
    low, high = np.quantile(above / below, [0.025, 0.975])
    return Estimate(float(wide[ours].sum() / wide[rival].sum()), float(low), float(high), len(wide))


def set_name(table: pd.DataFrame) -> pd.Series:
    """Name of each cell's source; one with grids counts apart from its curves."""
    return table["source"].where(table["group"] != "several inputs", table["source"] + ", several inputs")


def verdict(line: Line, covers: Mapping[str, Estimate]) -> tuple[bool, str]:
    """Say whether a part meets its aim, and by how many points it misses it.

    Args:
        line: The part.
        covers: Estimated coverage by level, keys of `COVERS`.

    Returns:
        Whether all four levels do, and the words for it; a star marks a miss that chance may explain: its interval
        reaches the aim, or families are too few for an interval.
    """
    misses = []
    for name, level in zip(COVERS, LEVELS, strict=True):
        found, aim = covers[name], line.aim_at(level)
        gap = found.value - level
        if not abs(gap) <= aim + ROUNDING:
            near = found.families < FEW_FAMILIES or (found.low <= level + aim and found.high >= level - aim)
            misses.append(f"{100 * level:g} ({100 * gap:+.0f}{'*' if near else ''})")
    return not misses, "met" if not misses else f"missed at {', '.join(misses)}"


def within_reach(line: Line, table: pd.DataFrame) -> float:
    """Chance that a forecaster whose intervals are right on average would meet an aim with families like these.

    Coverage varies from resample to resample of families by chance alone. Here it does so around the stated levels
    instead of what was found, and has to be within the aim at all four of them.

    Args:
        line: The part.
        table: Its families, of one method.
    """
    met = [within(table, name, line.aim_at(level)) for name, level in zip(COVERS, LEVELS, strict=True)]
    return float(np.all(met, axis=0).mean())


def within(table: pd.DataFrame, measure: str, aim: float) -> np.ndarray:
    """Whether the mean over families moves by no more than an aim, in each resample of them, shape (resample,)."""
    again = means_again(table[measure], table["cluster"])
    return abs(again - table[measure].mean()) <= aim + ROUNDING


def names_of(table: pd.DataFrame, ours: str = OURS) -> list[str]:
    """Methods of a table but for those of some problems only, ours first, the others in the order of `METHODS`."""
    present = set(table["method"]) - set(PARTIAL)
    return [name for name in dict.fromkeys([ours, *METHODS]) if name in present]


def pooled_pit(rows: pd.DataFrame, grid: Sequence[float]) -> pd.DataFrame:
    """Distribution function of the PIT of each family at a grid, rows weighted within cells and cells within families.

    Args:
        rows: Rows of one method.
        grid: Values in (0, 1).

    Returns:
        A row a family, columns of the grid, and its cluster as the index.
    """
    below = rows["pit"].to_numpy(float)[:, None] <= np.asarray(grid)
    table = pd.DataFrame(below.astype(float), columns=list(grid))
    keys = [rows[name].to_numpy() for name in ("source", "family")] + [
        cluster_of(rows).to_numpy(),
        rows["key"].to_numpy(),
    ]
    in_cells = table.groupby(keys, sort=False).mean()
    return in_cells.groupby(level=[0, 1, 2], sort=False).mean().droplevel([0, 1])
