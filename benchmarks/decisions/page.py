"""Decisions: were they good? The page `docs/evidence/decisions.md`, made from results and nothing else.

    python -m benchmarks pages decisions

Go or no-go and stopping use the forecasts that the calibration benchmark stored, of ours and of rivals alike: every
problem gives decisions about its largest held-out run, with targets at quantiles of the pooled forecasts of all
methods, so that no method chooses the questions. Pilots and recipes have benchmarks of their own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes
from scipy.special import ndtr, ndtri

from bayescale.decide.pilots import NEARLY
from bayescale.decide.stopping import CHANCE
from bayescale.evaluate.backtest import QUANTILES
from bayescale.forecast import RECORD_RATIO
from bayescale.plot.style import figure_of, note
from benchmarks.calibration import page as calibration
from benchmarks.calibration import pictures, tally
from benchmarks.calibration.tally import OURS
from benchmarks.core import estimates, figures
from benchmarks.core.estimates import Estimate, cluster_of, estimate
from benchmarks.core.markdown import fraction, grid, ranged, templates
from benchmarks.core.problems import DEVELOPMENT
from benchmarks.core.rows import replace
from benchmarks.core.store import RESULTS, read_rows, stored
from benchmarks.decisions import pilots, recipe_section

PAGE = Path(__file__).parents[2] / "docs" / "evidence" / "decisions.md"
TARGETS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Quantiles of the pooled forecasts at which targets are set."""
STAKES = (0.25, 0.5, 0.75)
"""Break-even probabilities: cost over value."""
PLUG_IN = "least squares, plug-in"
"""The median of least squares taken for certain."""
NAMED = (
    *(PLUG_IN, "least squares", "huber bootstrap", "residual bootstrap", "wild bootstrap", "NUTS without discrepancy"),
    *("last slope", "rolling conformal", "damped local trend"),
)
"""Rivals that the aim of 25 % is about; the damped local trend is the hardest to beat."""
FIFTHS = np.linspace(0.0, 1.0, 6)
FINE = np.linspace(QUANTILES[0], QUANTILES[-1], 39)
PREFIXES = {"R=2": 0.5, "R=4": 0.25, "R=8": 0.125}
"""Share of a training curve that had been seen, by split."""
CURVES = ("nslpfn_colpret", "multipowerlaw")
"""Sources of training curves over tokens or steps."""
SCORES = ndtri(np.array(QUANTILES))
render = templates(__file__)


@dataclasses.dataclass(frozen=True)
class Decisions:
    """Decisions of every method on the same questions.

    Attributes:
        base: One row a problem: key, source, family, group, split, ratio, status, developed, cluster.
        met: Whether the run met each target, shape (problem, target).
        chance: P(target met) by method, shape (problem, target) each.
    """

    base: pd.DataFrame
    met: np.ndarray
    chance: dict[str, np.ndarray]

    def of(self, rows: np.ndarray) -> Decisions:
        """Decisions about some problems."""
        chosen = {name: values[rows] for name, values in self.chance.items()}
        return Decisions(self.base[rows].reset_index(drop=True), self.met[rows], chosen)

    def regret(self, method: str, stake: float) -> np.ndarray:
        """Realised regret in units of the value, mean over targets, shape (problem,)."""
        return regret(self.chance[method], self.met, stake).mean(1)

    def by_family(self, values: np.ndarray) -> Estimate:
        """Mean over families of values a problem."""
        table = self.base.assign(value=values).groupby(["source", "family", "cluster"], as_index=False)["value"].mean()
        return estimate(table["value"], table["cluster"])


def regret(chance: np.ndarray, met: np.ndarray, stake: float) -> np.ndarray:
    """What a decision lost: the stake where a run missed, the rest of the value where a run was not made that met."""
    go = chance > stake
    return np.where(go & ~met, stake, 0.0) + np.where(~go & met, 1.0 - stake, 0.0)


def distribution(log_quantiles: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Distribution function through stored quantiles, normal between them and beyond, shape of `at`.

    Args:
        log_quantiles: Ln of the stored quantiles, shape (quantile,).
        at: Ln of the targets.
    """
    # Equal quantiles (no width) need an order; a millionth of a millionth is a step all the same.
    x = np.maximum.accumulate(log_quantiles) + 1e-12 * np.arange(len(log_quantiles))
    middle = len(x) // 2
    low, high = (
        max((x[middle] - x[0]) / (SCORES[middle] - SCORES[0]), 1e-12),
        max((x[-1] - x[middle]) / (SCORES[-1] - SCORES[middle]), 1e-12),
    )
    score = np.interp(at, x, SCORES)
    score = np.where(at < x[0], SCORES[0] + (at - x[0]) / low, score)
    return ndtr(np.clip(np.where(at > x[-1], SCORES[-1] + (at - x[-1]) / high, score), -8.0, 8.0))


def log_quantiles(table: pd.DataFrame) -> np.ndarray:
    """Ln of the stored quantiles, shape (row, quantile)."""
    values = table[[f"q{q:g}" for q in QUANTILES]].astype(float).to_numpy()
    return np.log(np.clip(np.nan_to_num(values, nan=1e300), 1e-300, 1e300))


def collect(folder: Path = RESULTS, targets: Sequence[float] = TARGETS) -> Decisions:
    """Make every method decide about the largest held-out run of each problem that all methods have."""
    tables = {}
    for method in tally.names_of(pd.DataFrame({"method": list(tally.METHODS)})):
        rows = stored(method, folder)
        if rows.empty:
            continue
        rows = rows[rows["group"] != "stress"]
        tables[method] = rows.loc[rows.groupby("key")["ratio"].idxmax()].set_index("key")
    once = set(tally.distinct(stored(OURS, folder))["key"]) if OURS in tables else set()
    keys = sorted(once.intersection(*[set(table.index) for table in tables.values()]))
    ends = {method: log_quantiles(table.loc[keys]) for method, table in tables.items()}
    goals = np.array(
        [
            np.quantile(np.concatenate([np.interp(FINE, QUANTILES, rows[i]) for rows in ends.values()]), targets)
            for i in range(len(keys))
        ]
    )
    base = tables[OURS].loc[keys].reset_index()
    base = base.assign(developed=base["source"].isin(DEVELOPMENT), cluster=cluster_of(base))
    y = np.log(base["y"].to_numpy(float))
    chance = {
        method: np.array([distribution(rows[i], goals[i]) for i in range(len(keys))]) for method, rows in ends.items()
    }
    middle = len(QUANTILES) // 2
    chance[PLUG_IN] = (ends["least squares"][:, [middle]] < goals).astype(float)
    return Decisions(base, y[:, None] < goals, chance)


def answered(base: pd.DataFrame) -> np.ndarray:
    """Problems on which `go` gives an answer: converged, monotone, and no further away than was checked."""
    rising = base["notes"].fillna("").str.contains("not_monotone")
    return ((base["status"] == "OK") & (base["ratio"] <= RECORD_RATIO * 1.01) & ~rising).to_numpy()


# --- Go or no-go ---------------------------------------------------------------------------------------------


def fifths(found: Decisions, method: str) -> pd.DataFrame:
    """Stated and realised probability in each fifth, families weighted equally, with a bootstrap interval."""
    shape = found.met.shape
    clusters = np.repeat(found.base["cluster"].to_numpy(), shape[1])
    family = np.repeat((found.base["source"] + "|" + found.base["family"]).to_numpy(), shape[1])
    stated, met = found.chance[method].ravel(), found.met.ravel()
    bins = np.clip(np.digitize(stated, FIFTHS) - 1, 0, 4)
    weight = 1.0 / pd.Series(family).map(pd.Series(family).value_counts()).to_numpy()
    names, number = np.unique(clusters, return_inverse=True)
    draws = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), estimates.RESAMPLES)
    rows = []
    for k in range(5):
        here = bins == k
        if not here.any():
            rows.append({"fifth": k, "n": 0, "stated": np.nan, "realised": np.nan, "low": np.nan, "high": np.nan})
            continue
        total = np.bincount(number[here], weight[here], len(names))
        hits = np.bincount(number[here], (weight * met)[here], len(names))
        again = (draws @ hits) / np.maximum(draws @ total, 1e-12)
        low, high = np.quantile(again, [0.025, 0.975])
        mean = np.average(stated[here], weights=weight[here])
        row = {"fifth": k, "n": int(here.sum()), "stated": mean, "realised": hits.sum() / total.sum()}
        rows.append(row | {"low": low, "high": high})
    return pd.DataFrame(rows)


def regrets(found: Decisions) -> pd.DataFrame:
    """Realised regret and Brier score of every method, over families, the lowest regret first."""
    rows = []
    for method, chance in found.chance.items():
        each = {stake: found.regret(method, stake) for stake in STAKES}
        total = found.by_family(np.mean(list(each.values()), axis=0))
        row: dict[str, Any] = {"method": method, "regret": total}
        row |= {f"at {stake:g}": found.by_family(values).value for stake, values in each.items()}
        rows.append(row | {"brier": found.by_family(((chance - found.met) ** 2).mean(1)).value})
    return pd.DataFrame(rows).sort_values("regret", key=lambda column: [entry.value for entry in column])


def relative(found: Decisions, rival: str) -> Estimate:
    """Our realised regret over a rival's, with an interval by resampling clusters of families."""
    mean = {name: np.mean([found.regret(name, stake) for stake in STAKES], axis=0) for name in (OURS, rival)}
    table = found.base.assign(ours=mean[OURS], rival=mean[rival])
    table = table.groupby(["source", "family", "cluster"], as_index=False)[["ours", "rival"]].mean()
    names, number = np.unique(table["cluster"], return_inverse=True)
    draws = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), estimates.RESAMPLES)
    sums = {name: np.bincount(number, table[name]) for name in ("ours", "rival")}
    low, high = np.quantile((draws @ sums["ours"]) / (draws @ sums["rival"]), [0.025, 0.975])
    return Estimate(sums["ours"].sum() / sums["rival"].sum(), low, high, len(table))


def go_section(found: Decisions, drawn: Path) -> str:
    """Words and tables about go or no-go."""
    answers = answered(found.base)
    parts = {
        "All data sets": found.of(answers),
        "Test data sets": found.of(answers & ~found.base["developed"].to_numpy()),
    }
    return render(
        "go",
        decisions=found.met.size,
        problems=len(found.base),
        families=found.base[["source", "family"]].drop_duplicates().shape[0],
        stakes=[f"{stake:g}" for stake in STAKES],
        furthest=f"{RECORD_RATIO:g}",
        refused=1 - answers.mean(),
        drawn=drawn,
        parts=[go_part(title, part) for title, part in parts.items()],
    )


def sentence(found: Decisions) -> str:
    """Return what the README says about go or no-go, on sources left out of tuning."""
    left = found.of(answered(found.base) & ~found.base["developed"].to_numpy())
    table = regrets(left).set_index("method")["regret"]
    best = str(min((name for name in table.index if name in NAMED), key=lambda name: table[name].value))
    return render(
        "sentence",
        decisions=left.met.size,
        families=table[OURS].families,
        ours=table[OURS],
        usual=table["least squares"],
        best_name=best,
        best=table[best],
    )


def go_part(title: str, part: Decisions) -> dict[str, Any]:
    """Table of every method on some problems, the best of the rivals, and our stated probabilities."""
    table, steps = regrets(part), fifths(part, OURS)
    rows = table.to_dict("records")
    best = str(min((row for row in rows if row["method"] in NAMED), key=lambda row: row["regret"].value)["method"])
    body = [
        [
            str(row["method"]),
            ranged(row["regret"], 3),
            *[fraction(row[f"at {stake:g}"], 3) for stake in STAKES],
            fraction(row["brier"], 3),
        ]
        for row in rows
    ]
    return {
        "title": title,
        "decisions": part.met.size,
        "table": grid(["method", "regret", *[f"cost {stake:g}" for stake in STAKES], "Brier score"], body),
        "best": best,
        "against": relative(part, best),
        "fifths": list(zip(steps["stated"], steps["realised"], strict=True)),
        "worst": float(np.nanmax(np.abs(steps["stated"] - steps["realised"]))),
    }


# --- Stopping ------------------------------------------------------------------------------------------------


def stop_section(folder: Path) -> str:
    """Words and table about stopping runs early."""
    found = collect(folder, (0.02, 0.1, 0.3, 0.5, 0.7, 0.9))
    found = found.of(found.base["source"].isin(CURVES).to_numpy())
    names = [OURS, "huber bootstrap", "NUTS without discrepancy", "least squares", "last slope"]
    body = []
    for split, share in PREFIXES.items():
        part = found.of((found.base["split"] == split).to_numpy())
        for name in names if len(part.base) else []:
            stopped = part.chance[name] < CHANCE
            wrong = stopped[part.met].mean() if part.met.any() else np.nan
            right, saved = stopped[~part.met].mean(), (stopped * (1.0 - share)).mean()
            body.append(
                [f"{share:.1%} of the run", f"{len(part.base)}", name, *[fraction(v, 3) for v in (wrong, right, saved)]]
            )
    head = ["fitted part", "curves", "method", "stopped, if target met", "stopped, if target missed", "compute saved"]
    most = max(float(row[3]) for row in body if row[2] == OURS)
    return render("stop", curves=CURVES, chance=f"{CHANCE:g}", table=grid(head, body), most=most)


# --- Pilots --------------------------------------------------------------------------------------------------


def pilot_table(path: Path) -> pd.DataFrame:
    """Realised regret, CRPS and spending of each rule on each grid and start."""
    rows = pd.DataFrame(read_rows(path))
    if rows.empty:
        return rows
    result = []
    for key, group in rows.groupby("key", sort=False):
        ends = log_quantiles(group)
        goals = np.quantile(np.concatenate([np.interp(FINE, QUANTILES, row) for row in ends]), TARGETS)
        for row, quantiles in zip(group.to_dict("records"), ends, strict=True):
            y, chance = np.log(row["y"]), distribution(quantiles, goals)
            lost = np.mean([regret(chance, y < goals, stake).mean() for stake in STAKES])
            levels = np.array(QUANTILES)
            pinball = np.maximum(levels * (y - quantiles), (levels - 1.0) * (y - quantiles))
            kept = {name: row[name] for name in ("source", "family", "metric", "rule", "spent", "pilots")}
            result.append({"key": key, **kept, "regret": lost, "score": 2.0 * pinball.mean()})
    return pd.DataFrame(result)


def pilot_section(path: Path) -> str:
    """Words and tables about the choice of pilots."""
    table = pilot_table(path)
    if table.empty:
        return ""
    by = ["source", "family", "metric", "rule"]
    grids = table.groupby(by, as_index=False)[["regret", "score", "spent", "pilots"]].mean()
    wide = grids.pivot(index=["source", "family", "metric"], columns="rule", values=["regret", "score"])
    body = []
    for rule in (OURS, "largest", "D-optimal", "random", "nothing"):
        part = grids[grids["rule"] == rule]
        entry = [rule, fraction(part["regret"].mean(), 3), fraction(part["score"].mean(), 4)]
        entry.append(fraction(part["spent"].mean()))
        for measure in ("regret", "score"):
            gap = wide[measure][OURS] - wide[measure][rule]
            words = f"{int((gap < -1e-9).sum())} / {int((gap.abs() <= 1e-9).sum())} / {int((gap > 1e-9).sum())}"
            entry.append("" if rule == OURS else words)
        body.append(entry)
    head = [
        "rule",
        "regret",
        "score",
        "spent",
        "grids where the regret of bayescale is lower / equal / higher",
        "the same for the score",
    ]
    rivals = ("random", "largest", "D-optimal")
    wins = {rule: float((wide["regret"][OURS] < wide["regret"][rule] - 1e-9).mean()) for rule in rivals}
    left = wide[~wide.index.get_level_values("source").isin(DEVELOPMENT)]
    return render(
        "pilots",
        grids=len(wide),
        families=table[["source", "family"]].drop_duplicates().shape[0],
        starts=table.groupby(["source", "family", "metric"])["key"].nunique().sum(),
        start_runs=pilots.START_RUNS,
        batch=pilots.BATCH,
        pilot_share=named(pilots.PILOT_FACTOR),
        budget_share=named(pilots.BUDGET_FACTOR),
        table=grid(head, body),
        wins=wins,
        missed=[rule for rule, share in wins.items() if share < 0.7],
        nearly=f"{NEARLY:g}",
        left={rule: int((left["regret"][OURS] < left["regret"][rule] - 1e-9).sum()) for rule in rivals},
        left_grids=len(left),
    )


def named(factor: float) -> str:
    """Name a share."""
    return {2.0: "half", 3.0: "third", 4.0: "quarter", 5.0: "fifth"}.get(factor, f"{1 / factor:.2g}")


# --- The page ------------------------------------------------------------------------------------------------


def draw(found: Decisions, path: Path) -> Path:
    """Stated against realised probability, in fifths, for ours and the usual rivals."""
    left = found.of(answered(found.base))
    names = [OURS, "least squares", "huber bootstrap", "NUTS without discrepancy"]
    axes = pictures.sheet(
        1,
        1,
        4.4,
        "Stated probability and observed frequency",
        "probability of meeting a target, in fifths; families have equal weight",
        0.35,
    )
    ax: Axes = axes[0]
    ax.plot([0, 1], [0, 1], color="0.75", linewidth=1, zorder=0)
    for name, look in pictures.looks(names).items():
        table = fifths(left, name).dropna()
        below, above = table["realised"] - table["low"], table["high"] - table["realised"]
        ax.errorbar(table["stated"], table["realised"], [below, above], marker="o", markersize=5, capsize=2, **look)
    note(ax, "calibrated", (0.17, 0.12), (0, 0), "0.5", "data")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_xlabel("stated probability")
    ax.set_ylabel("observed frequency")
    pictures.legend_below(axes, names)
    written = figures.save(ax, path)
    pyplot.close(figure_of(ax))
    return written


def write(folder: Path = RESULTS, page: Path = PAGE, renewed: Sequence[Path] = ()) -> list[Path]:
    """Write the page and its pictures.

    Args:
        folder: Where results lie.
        page: The page; pictures lie beside it.
        renewed: Files in which the sentence about go or no-go stands between marker comments.
    """
    found = collect(folder)
    page.parent.mkdir(parents=True, exist_ok=True)
    drawn = draw(found, page.with_name(f"{page.stem}-chance.png"))
    recipes = page.with_name(f"{page.stem}-recipes.png")
    figures.save(recipe_section.picture(), recipes)
    pyplot.close("all")
    parts = [
        render("decisions"),
        go_section(found, drawn),
        recipe_section.section(picture=recipes.name),
        pilot_section(folder / "pilot_choices.parquet"),
        stop_section(folder),
    ]
    replace(page, "\n\n".join(part.strip() for part in parts if part) + "\n")
    for path in renewed:
        calibration.renew(path, sentence(found), "decisions")
    return [page, drawn, recipes, *renewed]
