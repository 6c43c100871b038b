"""By sources: headline figures in which every source counts the same, and what chance alone would make of them.

A source is one paper's families; its grids count apart from its curves. Intervals resample sources. The chance that a
calibrated forecaster has is simulated with the same sources, families, problems and held-out runs: whether runs of one
problem, and problems of one family, lie inside together is estimated from the record and kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import multivariate_normal, norm

from bayescale.evaluate.backtest import LEVELS
from benchmarks.calibration import tally
from benchmarks.calibration.tally import COVERS, FEW_FAMILIES, families
from benchmarks.core.estimates import Estimate, cluster_of
from benchmarks.core.markdown import fraction, grid, ranged, templates
from benchmarks.core.problems import UNSEEN

KINDS = {"one input": ("one input", "lcdb"), "several inputs": ("several inputs",)}
"""Groups of problems of one input and of several."""
SIMULATIONS = 400
RESAMPLES = 2000
RIVALS = ("method", "CRPS of ln y", "CRPS of the response", *(f"difference at {100 * level:g} %" for level in LEVELS))
FEW_SOURCES = 3
"""With fewer sources, resampling them says next to nothing."""
CORRELATIONS = np.append(np.linspace(0.0, 0.95, 20), 0.99)
render = templates(__file__)


@dataclasses.dataclass(frozen=True)
class Chance:
    """What a calibrated forecaster would show.

    Attributes:
        errors: Mean absolute error of coverage over sources, shape (simulation, level).
        within_problem: Correlation of being inside of two runs of a problem, by level.
        within_family: That of two runs of two problems of a family or data set, by level.
    """

    errors: np.ndarray
    within_problem: np.ndarray
    within_family: np.ndarray


# --- Coverage ------------------------------------------------------------------------------------------------


def covers(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the coverage of each source, families alike, from cells of one method."""
    return families(cells).groupby("source", sort=False)[list(COVERS)].mean()


def errors(table: pd.DataFrame) -> list[Estimate]:
    """Mean absolute error of coverage over sources at each level, with an interval that resamples sources.

    Args:
        table: Coverage by source, columns `COVERS`.
    """
    gaps = np.abs(table[list(COVERS)].to_numpy(float) - np.array(LEVELS))
    return [over_sources(gaps[:, level]) for level in range(len(LEVELS))]


def over_sources(values: np.ndarray) -> Estimate:
    """Return a mean over sources with its 95 % bootstrap interval; none where they are few."""
    count = len(values)
    if count < FEW_SOURCES:
        value = float(values.mean()) if count else np.nan
        return Estimate(value, np.nan, np.nan, count)
    draws = np.random.default_rng(0).integers(count, size=(RESAMPLES, count))
    low, high = np.quantile(values[draws].mean(1), [0.025, 0.975])
    return Estimate(float(values.mean()), float(low), float(high), count)


def chance(rows: pd.DataFrame) -> Chance:
    """Simulate the mean absolute error over sources of a forecaster whose intervals hold what they state.

    Whether a run lies inside follows a normal variable with a part that runs of a problem share and one that problems
    of a family share (of LCDB: of a data set), as strong as the record shows once each source's own coverage is taken
    off. Families are independent of each other: a cause that a whole source shares counts as miscalibration.

    Args:
        rows: Held-out runs of one method.
    """
    codes = {name: pd.factorize(rows[name])[0] for name in ("source", "family_id", "key", "cluster")}
    # Rows alike within problems, problems within families, families within sources, sources alike.
    weight = 1.0 / np.bincount(codes["key"])[codes["key"]]
    problems = rows.drop_duplicates("key")
    per_family = problems.groupby("family_id")["key"].size()
    weight = weight / rows["family_id"].map(per_family).to_numpy()
    per_source = problems.drop_duplicates("family_id").groupby("source")["family_id"].size()
    weight = weight / rows["source"].map(per_source).to_numpy()
    sources = codes["source"].max() + 1
    rng = np.random.default_rng(0)
    away = (rows["pit"].astype(float) - 0.5).abs().fillna(0.5).to_numpy()
    inside = away[:, None] <= 0.5 * np.array(LEVELS) + 1e-12
    own, shared = (np.empty(len(LEVELS)) for _ in range(2))
    found = np.empty((SIMULATIONS, len(LEVELS)))
    for place, level in enumerate(LEVELS):
        own[place], shared[place] = correlations(inside[:, place].astype(float), codes)
        of_family, of_problem = latent(shared[place], level), latent(max(own[place], shared[place]), level)
        for number in range(SIMULATIONS):
            value = np.sqrt(of_family) * rng.standard_normal(codes["cluster"].max() + 1)[codes["cluster"]]
            value += np.sqrt(of_problem - of_family) * rng.standard_normal(len(problems))[codes["key"]]
            value += np.sqrt(1.0 - of_problem) * rng.standard_normal(len(rows))
            share = np.bincount(codes["source"], weight * (value <= norm.ppf(level)), sources)
            found[number, place] = np.abs(share - level).mean()
    return Chance(found, own, shared)


def correlations(inside: np.ndarray, codes: dict[str, np.ndarray]) -> tuple[float, float]:
    """Correlation of two runs of one problem, and of two problems of one family, sources alike and their means off."""
    source = codes["source"]
    number = np.bincount(source)
    rest = inside - (np.bincount(source, inside) / number)[source]
    variance = np.bincount(source, rest**2)
    usable = variance > 0

    def pairs(outer: np.ndarray, inner: np.ndarray | None) -> float:
        """Mean product of two runs that share `outer` but not `inner`, over the variance."""
        sums, sizes, squares = grouped(outer, rest)
        owner = source[np.unique(outer, return_index=True)[1]]
        if inner is None:
            product, count = sums**2 - squares, sizes * (sizes - 1)
        else:
            inner_sums, inner_sizes, _ = grouped(inner, rest)
            into = outer[np.unique(inner, return_index=True)[1]]
            product = sums**2 - np.bincount(into, inner_sums**2, len(sums))
            count = sizes**2 - np.bincount(into, inner_sizes**2, len(sums))
        # Groups alike, so that long curves do not decide.
        share = np.divide(product, count, out=np.zeros(len(sums)), where=count > 0)
        scale = (variance / number)[owner]
        kept = (count > 0) & usable[owner]
        return float(np.clip(share[kept].sum() / scale[kept].sum(), 0.0, 0.98)) if kept.any() else 0.0

    return pairs(codes["key"], None), pairs(codes["cluster"], codes["key"])


def grouped(codes: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum, number and sum of squares of values by code."""
    return np.bincount(codes, values), np.bincount(codes).astype(float), np.bincount(codes, values**2)


def latent(correlation: float, level: float) -> float:
    """Return the correlation of two normal variables whose being below a quantile has a given correlation."""
    cut = norm.ppf(level)
    both = [multivariate_normal.cdf([cut, cut], cov=[[1.0, c], [c, 1.0]]) for c in CORRELATIONS]
    binary = (np.array(both) - level**2) / (level * (1.0 - level))
    return float(np.interp(correlation, binary, CORRELATIONS))


# --- Against rivals ------------------------------------------------------------------------------------------


def against_best(cells: pd.DataFrame, ours: str, names: Sequence[str]) -> pd.DataFrame:
    """Compare with the rival of the lowest mean CRPS on each source.

    Args:
        cells: Cells on problems that all methods have.
        ours: The method compared.
        names: Its rivals.

    Returns:
        A row a source: source, families, rival, ratio (an estimate) and `order`: ahead, within the error, or behind.
    """
    rows = []
    for source, part in cells.groupby("source", sort=False):
        mean = families(part).groupby("method")["crps"].mean()
        rival = str(mean.reindex(list(names)).idxmin())
        ratio = tally.ratio_of_means(part, ours, rival)
        few = ratio.families < FEW_FAMILIES or not np.isfinite([ratio.low, ratio.high]).all()
        order = "within the error" if few or ratio.low <= 1.0 <= ratio.high else "ahead" if ratio.high < 1 else "behind"
        rows.append({"source": source, "families": ratio.families, "rival": rival, "ratio": ratio, "order": order})
    return pd.DataFrame(rows)


def over_rivals(cells: pd.DataFrame, ours: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return of each rival the CRPS ratios on ln y and on the response's scale, and its errors of coverage; ours last.

    Args:
        cells: Cells on problems that all methods have.
        ours: The method compared.
        names: Its rivals.
    """
    found = []
    for rival in names:
        ratios = {}
        for measure in ("crps", "own_scale"):
            logs = [np.log(ratio_on(part, ours, rival, measure)) for _, part in cells.groupby("source", sort=False)]
            ratios[measure] = multiple(over_sources(np.array(logs)))
        found.append({"name": rival, "errors": errors(covers(cells[cells["method"] == rival])), **ratios})
    return [*found, {"name": ours, "errors": errors(covers(cells[cells["method"] == ours]))}]


def multiple(logs: Estimate) -> Estimate:
    """Turn a mean of logarithms into a geometric mean."""
    return Estimate(*np.exp([logs.value, logs.low, logs.high]).tolist(), logs.families)


def ratio_on(part: pd.DataFrame, ours: str, rival: str, measure: str) -> float:
    """Ratio of two methods' scores, as a geometric mean over the families of a source, whose units may differ."""
    table = families(part[part["method"].isin([ours, rival])])
    wide = table.pivot(index=["source", "family"], columns="method", values=measure)
    # Bounds as everywhere; the response's scale has its own.
    wide = wide.clip(1e-9, tally.LARGEST) if measure == "crps" else wide.clip(lower=1e-300)
    return float(np.exp(np.log(wide[ours] / wide[rival]).mean()))


# --- The section ---------------------------------------------------------------------------------------------


def measured(rows: pd.DataFrame, cells: pd.DataFrame, ours: str) -> list[dict[str, Any]]:
    """Return the figures of each kind of problem on sources left out of tuning."""
    found = []
    names = tally.names_of(cells, ours)
    shared = tally.common(cells[cells["group"].isin(tally.WHOLE)])
    for kind, groups in KINDS.items():
        mine = cells[(cells["method"] == ours) & ~cells["developed"] & cells["group"].isin(groups)]
        if not len(mine):
            continue
        own = rows[(rows["method"] == ours) & rows["key"].isin(mine["key"])]
        own = own.assign(cluster=cluster_of(own), family_id=own["source"] + "|" + own["family"])
        table = covers(mine)
        both = shared[~shared["developed"] & shared["group"].isin(groups)]
        against = against_best(both, ours, names[1:]) if len(names) > 1 and len(both) else pd.DataFrame()
        found.append(
            {
                "kind": kind,
                "sources": len(table),
                "families": mine[["source", "family"]].drop_duplicates().shape[0],
                "runs": len(own),
                "errors": errors(table),
                "chance": chance(own),
                "against": against,
                "rivals": over_rivals(both, ours, names[1:]) if len(against) else [],
            }
        )
    return found


def unseen(cells: pd.DataFrame, ours: str) -> str:
    """Table of the sources that no choice has looked at, or nothing without results on them."""
    body = []
    mine = cells[(cells["method"] == ours) & cells["source"].isin(UNSEEN) & cells["group"].isin(tally.WHOLE)]
    for source, part in mine.groupby("source", sort=False):
        table = families(part)
        shown = [ranged(tally.measured(table, name)) for name in (*COVERS, "pit")]
        body.append([source, f"{len(table):,}", f"{len(part):,}", *shown])
    head = ("data set", "families", "problems", *(f"{100 * level:g} %" for level in LEVELS), "mean PIT")
    return grid(head, body) if body else ""


def section(found: Sequence[dict[str, Any]], unseen: str) -> str:
    """Return the section of the calibration page; nothing without results on sources left out.

    Args:
        found: What `measured` found.
        unseen: Table of the sources that no choice has looked at.
    """
    if not found:
        return ""
    return render(
        "by_sources",
        errors=error_table(found),
        unseen=unseen,
        dependence=[(part["kind"], correlation_words(part["chance"])) for part in found],
        against=[(part["kind"], against_table(part["against"]), counts(part["against"])) for part in found],
        rivals=[(part["kind"], rival_table(part["rivals"])) for part in found if part["rivals"]],
        simulations=SIMULATIONS,
        resamples=RESAMPLES,
        few=FEW_FAMILIES,
    )


def error_table(found: Sequence[dict[str, Any]]) -> str:
    """Mean absolute errors of coverage over sources, in points, beside those of a calibrated forecaster."""
    body = []
    for part in found:
        head = [part["kind"], str(part["sources"]), f"{part['families']:,}", f"{part['runs']:,}"]
        body.append([*head, "the default", *(points(error) for error in part["errors"])])
        by_chance = part["chance"].errors
        means, high = by_chance.mean(0), np.quantile(by_chance, 0.95, axis=0)
        shown = [f"{100 * mean:.1f} (95 % below {100 * top:.1f})" for mean, top in zip(means, high, strict=True)]
        body.append(["", "", "", "", "calibrated, by chance", *shown])
    head = (
        "problems",
        "data sets",
        "families",
        "held-out runs",
        "forecaster",
        *(f"{100 * level:g} %" for level in LEVELS),
    )
    return grid(head, body)


def rival_table(rivals: Sequence[dict[str, Any]]) -> str:
    """A line a method, the one that the page is about last."""
    body = []
    for rival in rivals:
        ratios = [ranged(rival[measure]) if measure in rival else "1" for measure in ("crps", "own_scale")]
        name = rival["name"] if "crps" in rival else f"**{rival['name']}**"
        body.append([name, *ratios, *(points(error) for error in rival["errors"])])
    return grid(RIVALS, body)


def points(found: Estimate) -> str:
    """Write an error in points with its interval."""
    if not np.isfinite(found.low):
        return f"{100 * found.value:.1f}"
    return f"{100 * found.value:.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})"


def correlation_words(by_chance: Chance) -> str:
    """Write the correlations that were estimated."""
    own, shared = ([fraction(value) for value in side] for side in (by_chance.within_problem, by_chance.within_family))
    return f"{', '.join(own)} between runs of a problem, {', '.join(shared)} between problems of a family"


def against_table(against: pd.DataFrame) -> str:
    """A line a source: its best rival and the ratio of mean CRPS."""
    body = [
        [row["source"], f"{row['families']:,}", row["rival"], ranged(row["ratio"]), row["order"]]
        for row in against.to_dict("records")
    ]
    return grid(("data set", "families", "best other method", "ratio of CRPS", "the default is"), body)


def counts(against: pd.DataFrame) -> str:
    """Say in how many sources the default is ahead, within the error and behind."""
    if not len(against):
        return ""
    ratios = np.log([ratio.value for ratio in against["ratio"]])
    mean = multiple(over_sources(np.asarray(ratios)))
    order = against["order"].value_counts()
    return (
        f"the default is ahead in {order.get('ahead', 0)}, within the error in {order.get('within the error', 0)} and "
        f"behind in {order.get('behind', 0)} of {len(against)} data sets; the geometric mean of the ratio over data "
        f"sets is {ranged(mean)}"
    )


def brief(found: Sequence[dict[str, Any]]) -> str:
    """Return the sentences of the overview from what `measured` found."""
    parts = [
        {
            "kind": part["kind"],
            "sources": part["sources"],
            "own": [f"{100 * error.value:.0f}" for error in part["errors"]],
            "chance": [f"{value:.0f}" for value in 100 * part["chance"].errors.mean(0)],
            "order": part["against"]["order"].value_counts().to_dict() if len(part["against"]) else {},
            "compared": len(part["against"]),
            "calibrated": calibrated(part["rivals"]),
        }
        for part in found
    ]
    return render("by_sources_brief", parts=parts, levels=[f"{100 * level:g}" for level in LEVELS]) if parts else ""


def calibrated(rivals: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The rival whose coverage is nearest to what it states, over sources and levels; nothing without rivals."""
    if not rivals:
        return {}
    best = min(rivals[:-1], key=lambda rival: sum(error.value for error in rival["errors"]))
    return {
        "name": best["name"],
        "errors": [f"{100 * error.value:.0f}" for error in best["errors"]],
        "ours": [f"{100 * error.value:.0f}" for error in rivals[-1]["errors"]],
        "crps": best["crps"],
    }
