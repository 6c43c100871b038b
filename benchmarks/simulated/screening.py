"""Screening: how many planted failures are named, and how many clean rows, on the families of the development corpus.

    python -m benchmarks screening
    python -m benchmarks screening --forecasts 200

The second compares the forecasts of so many families without failures, with failures that are screened, and with
failures that are kept. In a tenth of the rows of each family, one at least, a failure is planted: the loss times 1.02
to 5 (log-uniform in what is above 1), or ln of a vocabulary; no loss; a status; fewer tokens than planned. A loss
counts as planted where it lies more than five seed standard deviations above the row's own; these are measured on the
clean curve of the whole family, around it, within eleven neighbours, and .2 % at least. A second table leaves none out:
it has the share of the planted losses that were named by how far they lie above the row's own. The forecasts named
"known" are those from the rows in which nothing was planted: no screening can do better but by chance.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

import bayescale as bs
from bayescale.data.outliers import FEW
from bayescale.data.screening import screen
from bayescale.evaluate import scores
from benchmarks.core.problems import DEVELOPMENT, Problem
from benchmarks.core.sources import SOURCES

KINDS = ("raised", "ln vocabulary", "no loss", "status", "short")
SHARES = (0.5, 0.1, 0.15, 0.15, 0.1)
DRAWN = ("small design", "sparsified")
"""Groups whose rows are a draw from a family of its own, which says what noise is."""
SHARE = 0.1
SEEDS = 5.0
LEAST_SD = 0.002
DEVIATIONS = (0.0, 2.0, 3.0, 5.0, 7.0, 10.0, 20.0, 50.0)
"""Bounds between which planted losses are counted, in standard deviations."""


def families() -> Iterator[tuple[Problem, pd.DataFrame, pd.DataFrame]]:
    """Yield one problem of each family, its rows, and those of the whole family."""
    readers = [name for name in SOURCES if name in DEVELOPMENT or f"{name} odd" in DEVELOPMENT]
    for reader in readers:
        largest: dict[tuple[str, ...], tuple[Problem, pd.DataFrame]] = {}
        for problem in SOURCES[reader]():
            if not problem.developed:
                continue
            drawn = problem.group in DRAWN
            rows = problem.train if drawn else pd.concat([problem.train, problem.held], ignore_index=True)
            key = (problem.source, problem.family, problem.metric, problem.split if drawn else "")
            if key not in largest or len(rows) > len(largest[key][1]):
                largest[key] = problem, rows
        for (source, family, metric, _), (problem, rows) in largest.items():
            yield problem, rows, largest.get((source, family, metric, ""), (problem, rows))[1]


def squares(whole: pd.DataFrame, inputs: tuple[str, ...]) -> np.ndarray:
    """Squared distance of ln(loss) from the clean curve, in units of what noise of 1 makes of it, shape (row,)."""
    x, y = np.log(whole[list(inputs)].to_numpy(float)), np.log(whole["loss"].to_numpy(float))
    if x.shape[1] == 1:
        order = np.argsort(x[:, 0])
        t, v = x[order, 0], y[order]
        part = (t[1:-1] - t[:-2]) / (t[2:] - t[:-2])
        rest = v[1:-1] - ((1 - part) * v[:-2] + part * v[2:])
        return np.pad(rest**2 / (1 + part**2 + (1 - part) ** 2), 1, mode="edge")[order.argsort()]
    z = (x - x.mean(0)) / np.ptp(x, axis=0)
    terms = [np.ones((len(y), 1)), z, *([z**2, z.prod(1, keepdims=True)] if len(y) >= 12 else [])]
    basis = np.hstack(terms)
    rest = y - basis @ np.linalg.lstsq(basis, y, rcond=None)[0]
    return np.full(len(y), (rest**2).sum() / max(1, len(y) - basis.shape[1]))


def seed_sds(rows: pd.DataFrame, whole: pd.DataFrame, inputs: tuple[str, ...]) -> np.ndarray:
    """Standard deviation of ln(loss) around the clean curve near each row, shape (row,)."""
    x, found = np.log(whole[list(inputs)].to_numpy(float)), squares(whole, inputs)
    if x.shape[1] == 1:
        order = np.argsort(x[:, 0])
        mean = pd.Series(found[order]).rolling(11, center=True, min_periods=1).mean().to_numpy()
        found = mean[order.argsort()]
    own = np.log(rows[list(inputs)].to_numpy(float))
    nearest = (((own[:, None] - x[None]) / np.ptp(x, axis=0)) ** 2).sum(-1).argmin(1)
    return np.maximum(np.sqrt(found[nearest]), LEAST_SD)


def residual_sd(whole: pd.DataFrame, inputs: tuple[str, ...]) -> float:
    """Standard deviation of ln(loss) around the clean curve over the whole family."""
    return max(float(np.sqrt(squares(whole, inputs).mean())), LEAST_SD)


def plant(rows: pd.DataFrame, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """Return rows with failures, the kind of each ("" where clean), and by how much ln(loss) was raised."""
    table = rows.assign(status="finished")
    if "n_tokens" in table:
        table["planned_tokens"] = table["n_tokens"]
    kinds = pd.Series("", index=rows.index)
    raised = pd.Series(np.nan, index=rows.index)
    for row in rng.choice(rows.index, max(1, int(SHARE * len(rows))), replace=False):
        kind = str(rng.choice(KINDS, p=SHARES))
        kinds[row] = "status" if kind == "short" and "n_tokens" not in rows else kind
        before = float(rows.loc[row, "loss"])
        if kinds[row] == "raised":
            table.loc[row, "loss"] *= 1.0 + np.exp(rng.uniform(np.log(0.02), np.log(4.0)))
        elif kinds[row] == "ln vocabulary":
            table.loc[row, "loss"] = max(np.log(rng.choice([32000, 50257, 128256])), 1.02 * before)
        elif kinds[row] == "no loss":
            table.loc[row, "loss"] = np.nan
        elif kinds[row] == "status":
            table.loc[row, "status"] = rng.choice(["crashed", "RUNNING", "failed", "preempted"])
        else:
            table.loc[row, "planned_tokens"] *= rng.uniform(1.05, 3.0)
        raised[row] = np.log(table.loc[row, "loss"] / before)
    return table, kinds, raised


def named(table: pd.DataFrame, inputs: tuple[str, ...]) -> pd.Series:
    """Whether screening leaves a row out."""
    kept, _ = screen(table, inputs)
    return pd.Series(~table.index.isin(kept.index), index=table.index)


def planted(seed: int = 0) -> pd.DataFrame:
    """Plant failures in every family and screen it with and without them: a row for each row of each family."""
    parts = []
    rng = np.random.default_rng(seed)
    for number, (problem, given, whole) in enumerate(families()):
        rows = given.set_axis(range(1, len(given) + 1), axis=0)
        table, kinds, raised = plant(rows, rng)
        loss = kinds.isin(["raised", "ln vocabulary"])
        seeds = raised / seed_sds(rows, whole, problem.inputs)
        few = f", {FEW} rows or fewer" if len(rows) <= FEW else ""
        columns = {
            "source": problem.source,
            "group": problem.group + few,
            "number": number,
            "clean named": named(rows, problem.inputs),
            "named": named(table, problem.inputs),
            "planted": kinds != "",
            "loss": loss,
            "marked": (kinds != "") & ~loss,
            "beyond": loss & (seeds > SEEDS),
            "seed sds": seeds,
            "residual sds": raised / residual_sd(whole, problem.inputs),
        }
        parts.append(pd.DataFrame(columns, index=rows.index))
    return pd.concat(parts, ignore_index=True)


def measure(rows: pd.DataFrame) -> pd.DataFrame:
    """Count rows and named rows by source and group."""
    counts = {
        "rows": pd.Series(True, rows.index),
        "clean named": rows["clean named"],
        "raised": rows["beyond"],
        "raised named": rows["beyond"] & rows["named"],
        "marked": rows["marked"],
        "marked named": rows["marked"] & rows["named"],
        "beside": ~rows["planted"],
        "beside named": ~rows["planted"] & rows["named"],
    }
    keys = [rows["source"], rows["group"]]
    sums = pd.DataFrame(counts).groupby(keys, sort=False).sum()
    return sums.assign(families=rows.groupby(keys, sort=False)["number"].nunique()).reset_index()


def by_deviation(rows: pd.DataFrame) -> pd.DataFrame:
    """Shares of all planted losses of whole families that were named, by how far they lie above the row's own.

    Once in seed standard deviations, which are those near the row, and once in residual ones, which are those of the
    whole family: near a row that is quieter than its family five of the first are few of the second.
    """
    chosen = rows[rows["loss"] & ~rows["group"].str.startswith(DRAWN)]
    lines = []
    for low, high in zip(DEVIATIONS, (*DEVIATIONS[1:], np.inf), strict=True):
        line: dict[str, object] = {"sds": f"{low:g} to {high:g}"}
        for scale in ("seed", "residual"):
            inside = chosen[(chosen[f"{scale} sds"] > low) & (chosen[f"{scale} sds"] <= high)]
            line |= {f"{scale}: planted": len(inside), f"{scale}: named %": 100 * inside["named"].mean()}
        lines.append(line)
    return pd.DataFrame(lines)


def rates(counts: pd.DataFrame) -> pd.DataFrame:
    """Percentages from counts."""
    planted, hit = counts["raised"] + counts["marked"], counts["raised named"] + counts["marked named"]
    return pd.DataFrame(
        {
            "source": counts["source"],
            "group": counts["group"],
            "families": counts["families"],
            "rows": counts["rows"],
            "clean named %": 100 * counts["clean named"] / counts["rows"],
            "clean beside failures named %": 100 * counts["beside named"] / counts["beside"],
            "raised": counts["raised"],
            "raised named %": 100 * counts["raised named"] / counts["raised"],
            "all planted": planted,
            "all planted named %": 100 * hit / planted,
        }
    )


def forecasts(count: int) -> pd.DataFrame:
    """Score forecasts of held-out runs from clean, screened and contaminated training runs, a row a family.

    Args:
        count: How many problems of the development sources, one a family, evenly spread.
    """
    chosen: dict[tuple[str, str], Problem] = {}
    for name in SOURCES:
        if name in DEVELOPMENT or f"{name} odd" in DEVELOPMENT:
            for problem in SOURCES[name]():
                if problem.developed and problem.group in ("one input", "lcdb", "several inputs"):
                    chosen.setdefault((problem.source, problem.family), problem)
    problems = list(chosen.values())
    problems = [problems[i] for i in np.unique(np.linspace(0, len(problems) - 1, count).astype(int))]
    rng, rows = np.random.default_rng(0), []
    families: list[bs.Runs] = []
    owners: list[tuple[Problem, str]] = []
    for problem in problems:
        given = problem.train.set_axis(range(1, len(problem.train) + 1), axis=0)
        table, kinds, _ = plant(given, rng)
        parts = {
            "clean": given,
            "screened": screen(table, problem.inputs)[0],
            "known": given[kinds == ""],
            "kept": table[np.isfinite(table["loss"].to_numpy(float))],
        }
        for kind, part in parts.items():
            columns = [name for name in (*problem.inputs, "loss", "flops") if name in part]
            families.append(bs.Runs.from_frame(part[columns].reset_index(drop=True), inputs=list(problem.inputs)))
            owners.append((problem, kind))
    for (problem, kind), result in zip(owners, bs.fit_many(families, seed=0, method="auto"), strict=True):
        if isinstance(result, bs.Posterior | bs.Mixture):
            forecast = result.predict(problem.held, kind="run", force=True)
            crps = scores.crps(np.log(problem.held["loss"].to_numpy(float)), forecast.location, forecast.scale).mean()
            rows.append({"source": problem.source, "family": problem.family, "kind": kind, "crps": crps})
    return pd.DataFrame(rows).pivot(index=["source", "family"], columns="kind", values="crps").dropna()


def compared(count: int) -> str:
    """Lines with the CRPS of screened and of contaminated families over that of clean ones, by source."""
    table, lines = forecasts(count), []
    for name, part in [*table.groupby("source"), ("all", table)]:
        told = ", ".join(
            f"{kind} {np.exp(np.log(part[kind] / part['clean']).mean()):.3f} "
            f"(means {part[kind].sum() / part['clean'].sum():.3f})"
            for kind in ("screened", "known", "kept")
        )
        lines.append(f"{name}: {len(part)} families; CRPS over that of clean runs: {told}")
    return "\n".join(lines)


def told(seed: int = 0) -> str:
    """Table of both rates by source, over whole families and over all rows, and table of shares by deviation."""
    rows = planted(seed)
    counts = measure(rows)
    numeric = counts.columns.drop(["source", "group"])
    drawn = counts["group"].str.startswith(DRAWN)
    sums = [
        pd.DataFrame({"source": ["all"], "group": [label], **{name: [part[name].sum()] for name in numeric}})
        for label, part in (("whole families", counts[~drawn]), ("all", counts))
    ]
    tables = rates(pd.concat([counts, *sums])), by_deviation(rows)
    return "\n\n".join(table.to_string(index=False, float_format="%.2f") for table in tables)
