"""Screening: how many planted failures are named, and how many clean rows, on the families of the development corpus.

    python -m benchmarks screening
    python -m benchmarks screening --forecasts 200

The second compares the forecasts of so many families without failures, with failures that are screened, and with
failures that are kept. In a tenth of the rows of each family, one at least, a failure is planted: the loss times 1.02
to 5 (log-uniform in what is above 1), or ln of a vocabulary; no loss; a status; fewer tokens than planned. A loss
counts as planted where it lies more than five seed standard deviations above the row's own; these are measured on the
clean curve of the whole family, around it, within eleven neighbours, and .2 % at least.
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


def seed_sds(rows: pd.DataFrame, whole: pd.DataFrame, inputs: tuple[str, ...]) -> np.ndarray:
    """Standard deviation of ln(loss) around the clean curve near each row, shape (row,)."""
    x, y = np.log(whole[list(inputs)].to_numpy(float)), np.log(whole["loss"].to_numpy(float))
    if x.shape[1] == 1:
        order = np.argsort(x[:, 0])
        t, v = x[order, 0], y[order]
        part = (t[1:-1] - t[:-2]) / (t[2:] - t[:-2])
        rest = v[1:-1] - ((1 - part) * v[:-2] + part * v[2:])
        squares = np.pad(rest**2 / (1 + part**2 + (1 - part) ** 2), 1, mode="edge")
        mean = pd.Series(squares).rolling(11, center=True, min_periods=1).mean().to_numpy()
        found = np.sqrt(mean)[order.argsort()]
    else:
        z = (x - x.mean(0)) / np.ptp(x, axis=0)
        terms = [np.ones((len(y), 1)), z, *([z**2, z.prod(1, keepdims=True)] if len(y) >= 12 else [])]
        basis = np.hstack(terms)
        rest = y - basis @ np.linalg.lstsq(basis, y, rcond=None)[0]
        found = np.full(len(y), np.sqrt((rest**2).sum() / max(1, len(y) - basis.shape[1])))
    own = np.log(rows[list(inputs)].to_numpy(float))
    nearest = (((own[:, None] - x[None]) / np.ptp(x, axis=0)) ** 2).sum(-1).argmin(1)
    return np.maximum(found[nearest], LEAST_SD)


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


def measure(seed: int = 0) -> pd.DataFrame:
    """Count rows and named rows by source and group."""
    counts = []
    rng = np.random.default_rng(seed)
    for problem, given, whole in families():
        rows = given.set_axis(range(1, len(given) + 1), axis=0)
        clean = named(rows, problem.inputs)
        table, kinds, raised = plant(rows, rng)
        found = named(table, problem.inputs)
        loss = kinds.isin(["raised", "ln vocabulary"])
        beyond = loss & (raised > SEEDS * seed_sds(rows, whole, problem.inputs))
        marked = (kinds != "") & ~loss
        group = f"{problem.group}, {FEW} rows or fewer" if len(rows) <= FEW else problem.group
        counts.append(
            {
                "source": problem.source,
                "group": group,
                "families": 1,
                "rows": len(rows),
                "clean named": int(clean.sum()),
                "raised": int(beyond.sum()),
                "raised named": int(found[beyond].sum()),
                "marked": int(marked.sum()),
                "marked named": int(found[marked].sum()),
                "beside": int((kinds == "").sum()),
                "beside named": int(found[kinds == ""].sum()),
            }
        )
    return pd.DataFrame(counts).groupby(["source", "group"], sort=False).sum().reset_index()


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
        table, _, _ = plant(given, rng)
        finite = table[np.isfinite(table["loss"].to_numpy(float))]
        for kind, part in (("clean", given), ("screened", screen(table, problem.inputs)[0]), ("kept", finite)):
            columns = [name for name in (*problem.inputs, "loss", "flops") if name in part]
            families.append(bs.Runs.from_frame(part[columns].reset_index(drop=True), inputs=list(problem.inputs)))
            owners.append((problem, kind))
    for (problem, kind), result in zip(owners, bs.fit_many(families, seed=0, method="auto"), strict=True):
        if isinstance(result, bs.Posterior):
            forecast = result.predict(problem.held, kind="run")
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
            for kind in ("screened", "kept")
        )
        lines.append(f"{name}: {len(part)} families; CRPS over that of clean runs: {told}")
    return "\n".join(lines)


def told(seed: int = 0) -> str:
    """Table of both rates by source, over whole families and over all rows."""
    counts = measure(seed)
    numeric = counts.columns.drop(["source", "group"])
    drawn = counts["group"].str.startswith(DRAWN)
    sums = [
        pd.DataFrame({"source": ["all"], "group": [label], **{name: [part[name].sum()] for name in numeric}})
        for label, part in (("whole families", counts[~drawn]), ("all", counts))
    ]
    return rates(pd.concat([counts, *sums])).to_string(index=False, float_format="%.2f")
