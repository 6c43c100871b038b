"""Sections: the numbers and tables of the calibration page, each from cells of `tally`; words are in `templates/`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bayescale.errors import InputError
from bayescale.evaluate.backtest import LEVELS
from benchmarks.calibration import tally
from benchmarks.calibration.tally import COVERS, LINES, PARTS, UNTRUSTED, families, measured
from benchmarks.calibration.worst import A_SOURCE
from benchmarks.core import estimates
from benchmarks.core.estimates import Estimate
from benchmarks.core.markdown import fraction, grid, ranged, span, templates
from benchmarks.core.methods import METHODS, PARTIAL
from benchmarks.core.problems import (
    BUDGETS,
    DEVELOPMENT,
    FEWEST,
    FITTED,
    FITTED_GRID,
    METRICS,
    PUBLISHED,
    RATIOS,
    SCORED,
    SCORED_GRID,
    UNSEEN,
)

NSLPFN = {
    "M4": (0.0415, None),
    "BNSL": (0.0406, None),
    "MCMC (M4)": (0.0422, 3.024),
    "MCMC (BNSL)": (0.0645, 2.921),
    "LC-PFN": (0.0428, 2.429),
    "NSL-PFN": (0.0280, 3.330),
}
"""RMSLE and log score of y printed for the image curves (arXiv 2505.23032)."""
CENTRED = 0.10
"""How far from .5 the mean PIT of a source may be."""
GRIDS = ("several inputs", "small designs")
"""Parts with several inputs."""
render = templates(__file__)


def own(cells: pd.DataFrame, ours: str, developed: bool) -> pd.DataFrame:
    """Cells of one method without stress families, on sources left out or used for development."""
    return cells[(cells["method"] == ours) & (cells["developed"] == developed) & (cells["group"] != "stress")]


def covers_of(table: pd.DataFrame) -> dict[str, Estimate]:
    """Coverage at every level, from the table of families of one method."""
    return {name: measured(table, name) for name in COVERS}


# --- Sections ------------------------------------------------------------------------------------------------


def answer(cells: pd.DataFrame, ours: str) -> str:
    """The first lines: what held, what did not, and against whom."""
    left = own(cells, ours, False)
    overall = families(left[left["group"].isin(tally.WHOLE)])
    covers = covers_of(overall)
    parts = [(line, families(part)) for line in LINES if len(part := line.of(left))]
    judged = [(line, tally.verdict(line, covers_of(table))) for line, table in parts]
    missed = {line.name: words for line, (good, words) in judged if not good}
    # Every number between brackets carries a star where chance may explain it.
    unclear = [name for name, words in missed.items() if words.count("*") == words.count("(")]
    return render(
        "answer",
        families=len(overall),
        sources=left["source"].nunique(),
        unseen=[name for name in UNSEEN if name in set(left["source"])],
        held=[
            f"{100 * level:g} % intervals contained {100 * covers[name].value:.0f} %"
            for name, level in zip(COVERS, LEVELS, strict=True)
        ],
        center=measured(overall, "pit"),
        parts=len(judged),
        expected=sum(tally.within_reach(line, table) for line, table in parts),
        met=[line.name for line, (good, _) in judged if good],
        missed=[name for name in missed if name not in unclear],
        unclear=unclear,
        **against(cells, ours),
    )


def against(cells: pd.DataFrame, ours: str) -> dict[str, Any]:
    """The best rival by CRPS as geometric mean, and by mean CRPS; no name where there is none."""
    table = tally.common(cells[cells["group"].isin(tally.WHOLE)])
    left = table[~table["developed"]]
    ratios = {name: tally.ratio(left, ours, name) for name in tally.names_of(left, ours)[1:]}
    if not ratios:
        return {"best": ""}
    best = max(ratios, key=lambda name: ratios[name].value)
    means = {name: tally.ratio_of_means(left, ours, name) for name in ratios}
    hardest = max(means, key=lambda name: means[name].value)
    return {
        "best": best,
        "best_held": 100 * measured(families(left[left["method"] == best]), "cover95").value,
        "best_ratio": ratios[best],
        "hardest": hardest,
        "hardest_ratio": means[hardest],
    }


HEAD = ("held-out runs", "families", *(f"{100 * level:g} %" for level in LEVELS), "aim")
SCORED_HEAD = ("held-out runs", "families", "mean PIT", "CRPS x 100", "RMSLE of the median", "95 % width")


def headline(cells: pd.DataFrame, ours: str) -> str:
    """Coverage and scores by part, on sources left out and beside them on those used for development."""
    tables = []
    for developed in (False, True):
        table = own(cells, ours, developed)
        body, sharp = [], []
        for line in LINES:
            part = line.of(table)
            if not len(part):
                continue
            by_family = families(part)
            covers = covers_of(by_family)
            count = f"{len(by_family):,}"
            body.append([line.name, count, *(ranged(covers[name]) for name in COVERS), tally.verdict(line, covers)[1]])
            sharp.append([line.name, count, *scores_of(by_family)])
        if len(table):
            tables.append((developed, grid(HEAD, body), grid(SCORED_HEAD, sharp)))
    return render("record", few=tally.FEW_FAMILIES, tables=tables)


def scores_of(table: pd.DataFrame) -> list[str]:
    """Mean PIT, CRPS x 100, RMSLE and w95 with intervals, from families of one method."""
    digits = {"pit": 2, "crps": 2, "rmsle": 4, "width": 3}
    return [ranged(measured(table, name), d, 100.0 if name == "crps" else 1.0) for name, d in digits.items()]


def reliability(drawn: dict[str, Path]) -> str:
    """Both reliability diagrams."""
    return render("reliability", drawn=drawn) if {"reliability", "points"} & set(drawn) else ""


def rivals(cells: pd.DataFrame, ours: str) -> str:
    """Every method on the problems that all have."""
    table = tally.common(cells[cells["group"] != "stress"])
    names = tally.names_of(cells, ours)
    if len(names) < 2:
        return ""
    if not len(table):
        raise InputError("No problem was scored by every method; finish the runs, or move unfinished files away.")
    left, developed = table[~table["developed"]], table[table["developed"]]
    best = lowest(left, names)
    told = behind(left, best, ours) if len(best) else ""
    return render(
        "rivals",
        problems=table["key"].nunique(),
        floor=tally.FLOOR,
        left=method_tables(left, names),
        ratios=ratio_table(left, names),
        sources=len(best),
        won=int((best["lowest"] == ours).sum()) if len(best) else 0,
        all_won=all_won(table, names),
        behind=f" {told}" if told else "",
        developed=method_tables(developed, names),
        developed_ratios=ratio_table(developed, names),
    )


def method_tables(table: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """A table a part of the benchmark, a line a method."""
    head = (
        "method",
        *(f"{100 * level:g} %" for level in LEVELS),
        "mean PIT",
        "CRPS x 100",
        "log score",
        "RMSLE",
        "95 % width",
    )
    text = []
    for title, groups in PARTS.items():
        part = families(table[table["group"].isin(groups)])
        if not len(part):
            continue
        body = []
        for name in names:
            mine = part[part["method"] == name]
            digits = {**dict.fromkeys((*COVERS, "pit", "crps", "log_score"), 2), "rmsle": 4, "width": 3}
            body.append(
                [
                    f"**{name}**" if name == names[0] else name,
                    *(ranged(measured(mine, m), d, 100.0 if m == "crps" else 1.0) for m, d in digits.items()),
                ]
            )
        count = len(part) // part["method"].nunique()
        text += [f"**{title[0].upper()}{title[1:]}**, {count:,} families", grid(head, body)]
    return text


def ratio_table(table: pd.DataFrame, names: Sequence[str]) -> str:
    """CRPS of the default over each rival's, by part."""
    parts = {title: table[table["group"].isin(groups)] for title, groups in PARTS.items()}
    whole = table[table["group"].isin(tally.WHOLE)]
    parts["all except thinned curves and small designs"] = whole
    parts = {title: part for title, part in parts.items() if len(part)}
    body = [
        [
            name,
            *(ranged(tally.ratio(part, names[0], name)) for part in parts.values()),
            ranged(tally.ratio_of_means(whole, names[0], name)),
        ]
        for name in names[1:]
    ]
    return grid(("method", *parts, "the same, ratio of means"), body)


def source_crps(table: pd.DataFrame) -> pd.DataFrame:
    """Mean CRPS by source and method, a source's grids apart from its curves."""
    table = table[table["group"].isin(tally.WHOLE)]
    by_family = families(table.assign(set=tally.set_name(table)), "set")
    return by_family.pivot_table(index="set", columns="method", values="crps", sort=False)


def lowest(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Which method has the lowest mean CRPS of each source."""
    wide = source_crps(table)
    return pd.DataFrame({"lowest": wide.reindex(columns=list(names)).idxmin(axis=1)}) if len(wide) else pd.DataFrame()


def behind(table: pd.DataFrame, best: pd.DataFrame, ours: str) -> str:
    """By how much the default is behind where a rival has the lowest CRPS, and whether chance may explain it."""
    part = table[table["group"].isin(tally.WHOLE)]
    sets = tally.set_name(part)
    found = {
        f"{name}, compared with {rival},": tally.ratio_of_means(part[sets == name], ours, rival)
        for name, rival in best["lowest"].items()
        if rival != ours
    }
    if not found:
        return ""
    beyond = sum(multiple.low > 1 and multiple.families >= tally.FEW_FAMILIES for multiple in found.values())
    return render("behind", found=found, beyond=beyond, few=tally.FEW_FAMILIES)


def all_won(table: pd.DataFrame, names: Sequence[str]) -> str:
    """In how many of all sources the default is ahead."""
    best = lowest(table, names)
    return f"{int((best['lowest'] == names[0]).sum())} of {len(best)}"


def partials(cells: pd.DataFrame) -> list[str]:
    """Methods of some problems only that have any."""
    present = set(cells["method"])
    return [name for name in PARTIAL if name in present]


def sometimes(cells: pd.DataFrame, ours: str) -> str:
    """Each method that was run on some problems only, beside the default on the same ones."""
    methods = []
    for name in partials(cells):
        both = cells[cells["method"].isin([ours, name]) & (cells["group"] != "stress")]
        both = both[both.groupby("key")["method"].transform("nunique") == 2]
        sides = {developed: parts_of(both[both["developed"] == developed]) for developed in (False, True)}
        methods.append(
            {
                "name": name,
                "says": said(name),
                "problems": both["key"].nunique(),
                "tables": [(side, beside(parts, ours, name)) for side, parts in sides.items() if parts],
                "ratios": [
                    (title, developed, tally.ratio(part, name, ours))
                    for developed, parts in sides.items()
                    for title, part in parts.items()
                ],
            }
        )
    return render("partial", methods=methods) if methods else ""


def said(name: str) -> str:
    """What a method says of itself."""
    return (METHODS[name].__doc__ or "").strip().splitlines()[0]


def beside(parts: Mapping[str, pd.DataFrame], ours: str, name: str) -> str:
    """Table of two methods on the same problems, two lines a part."""
    body = []
    for title, part in parts.items():
        table = families(part)
        for method in (ours, name):
            mine = table[table["method"] == method]
            first = [title, f"{len(mine):,}"] if method == ours else ["", ""]
            scores = [ranged(measured(mine, "crps"), 2, 100.0), ranged(measured(mine, "width"), 3)]
            body.append([*first, method, *(ranged(measured(mine, name)) for name in (*COVERS, "pit")), *scores])
    levels = [f"{100 * level:g} %" for level in LEVELS]
    return grid(("held-out runs", "families", "method", *levels, "mean PIT", "CRPS x 100", "95 % width"), body)


def parts_of(cells: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Cells by part of the benchmark: grids by how far they reach, curves all together."""
    parts = {line.name: line.of(cells) for line in LINES if "several inputs" in line.name or "designs" in line.name}
    parts |= {title: cells[cells["group"].isin(of)] for title, of in PARTS.items() if title not in GRIDS}
    return {title: part for title, part in parts.items() if len(part)}


def by_source(cells: pd.DataFrame, ours: str) -> str:
    """Coverage, PIT and CRPS by source."""
    table = cells[cells["group"].isin(tally.WHOLE)]
    table = table.assign(set=tally.set_name(table))
    mine = families(table[table["method"] == ours], "set", "developed")
    names = tally.names_of(cells, ours)
    crps = source_crps(tally.common(table))
    body, near = [], []
    for (developed, name), part in mine.groupby(["developed", "set"], sort=False):
        pit = measured(part, "pit")
        near.append((bool(developed), abs(pit.value - 0.5) <= CENTRED + 1e-9))
        line = crps.loc[name] if name in crps.index else pd.Series(dtype=float)
        values = [line.get(method, np.nan) for method in names]
        smallest = np.nanmin(values) if np.isfinite(values).any() else np.nan
        shown = [f"**{fraction(100 * v)}**" if v == smallest else fraction(100 * v) for v in values]
        label = f"{name} (tuning)" if developed else name
        body.append(
            (
                developed,
                [
                    label,
                    f"{len(part):,}",
                    fraction(measured(part, "cover80").value),
                    fraction(measured(part, "cover95").value),
                    ranged(pit),
                    *shown,
                ],
            )
        )
    body.sort(key=lambda entry: entry[0])
    left = [good for developed, good in near if not developed]
    both = [good for _, good in near]
    unseen = mine[~mine["developed"]].groupby("set", sort=False)
    expected = sum(tally.within(part, "pit", CENTRED).mean() for _, part in unseen)
    overall = families(table[(table["method"] == ours) & ~table["developed"]])
    return render(
        "by_source",
        table=grid(("data set", "families", "80 %", "95 %", "mean PIT", *names), [line for _, line in body]),
        centred=CENTRED,
        near_left=sum(left),
        left=len(left),
        near=sum(both),
        sources=len(both),
        expected=expected,
        pit=measured(overall, "pit"),
    )


def outcomes(drawn: dict[str, Path]) -> str:
    """PIT and sharpness."""
    return render("outcomes", drawn=drawn, resamples=estimates.RESAMPLES)


def failures(drawn: dict[str, Path]) -> str:
    """The families that went worst."""
    return render("failures", picture=drawn["worst"], a_source=A_SOURCE) if "worst" in drawn else ""


def stress(cells: pd.DataFrame, ours: str) -> str:
    """Families that no falling law describes, and how often clean ones are flagged."""
    mine = cells[cells["method"] == ours]
    parts = {f"stress: {name}": part for name, part in mine[mine["group"] == "stress"].groupby("source", sort=False)}
    parts["stress: all"] = mine[mine["group"] == "stress"]
    others = mine[mine["group"] != "stress"]
    clean, rising = others[~others["rises"]], others[others["rises"]]
    parts |= {f"clean: {title}": clean[clean["group"].isin(groups)] for title, groups in PARTS.items()}
    parts["clean: all"] = clean
    parts |= {f"rising: {title}": rising[rising["group"].isin(groups)] for title, groups in PARTS.items()}
    body = []
    for title, part in parts.items():
        if len(part):
            table = families(part)
            codes = part["notes"].str.split(",").explode()
            counts = codes[codes != ""].value_counts()
            often = ", ".join(f"{code} {fraction(number / len(part))}" for code, number in counts.head(3).items())
            body.append(
                [
                    title,
                    f"{len(part):,}",
                    f"{len(table):,}",
                    ranged(measured(table, "flagged")),
                    ranged(measured(table, "cover95")),
                    often,
                ]
            )
    head = (
        "kind of families",
        "problems",
        "families",
        "flagged",
        "95 % coverage",
        "most frequent warnings (fraction of problems)",
    )
    return render("stress", untrusted=[f"`{code}`" for code in UNTRUSTED], table=grid(head, body))


def costs(cells: pd.DataFrame, ours: str) -> str:
    """Convergence and time of each method."""
    body = []
    for name in [*tally.names_of(cells, ours), *partials(cells)]:
        mine = cells[cells["method"] == name]
        grids = mine["group"].isin(["several inputs", "small design"])
        medians = [span(part["seconds"].median()) if len(part) else "-" for part in (mine[~grids], mine[grids])]
        body.append(
            [
                name,
                said(name),
                f"{len(mine):,}",
                f"{100 * mine['ok'].mean():.1f} %",
                *medians,
                span(mine["seconds"].sum()),
            ]
        )
    head = ("method", "description", "problems", "converged", "one input", "several inputs", "all problems")
    return render("costs", table=grid(head, body), total=float(cells["seconds"].sum()))


def printed(rows: pd.DataFrame, ours: str) -> str:
    """NSL-PFN's printed numbers beside ours on the image curves."""
    images = rows[
        rows["family"].str.startswith("IC|") & (rows["split"] == "published") & (rows["source"] == "alabdulmohsin2022")
    ]
    if not len(images):
        return ""
    body = []
    for name in tally.names_of(images, ours):
        part = images[images["method"] == name]
        table = families(tally.cells(part))
        raw = (
            (part["log_score"].astype(float).clip(lower=tally.FLOOR) - np.log(part["y"])).groupby(part["family"]).mean()
        )
        body.append(
            [f"{name} (here)", ranged(measured(table, "rmsle"), 4), ranged(estimates.estimate(raw, raw.index), 2)]
        )
    body += [[f"{name} (printed)", fraction(r, 4), "-" if s is None else f"{s:.2f}"] for name, (r, s) in NSLPFN.items()]
    count = images["family"].nunique()
    head = (f"{count} image curves, their authors' split", "RMSLE of the median", "log score of y")
    return render("printed", table=grid(head, body), most=PUBLISHED)


def protocol(cells: pd.DataFrame) -> str:
    """How problems were made, and what was left out."""
    return render(
        "protocol",
        ratios=RATIOS,
        budgets=BUDGETS,
        fewest=FEWEST,
        fitted=FITTED,
        scored=SCORED,
        published=PUBLISHED,
        fitted_grid=FITTED_GRID,
        scored_grid=SCORED_GRID,
        metrics=METRICS,
        resamples=estimates.RESAMPLES,
        development=list(DEVELOPMENT),
        unseen=list(UNSEEN),
        left=list(dict.fromkeys(cells.loc[~cells["developed"] & (cells["group"] != "stress"), "source"])),
    )
