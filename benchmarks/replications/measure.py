"""Replications: laws fitted to the data that they were published with, beside the published constants.

    python -m benchmarks replications          fits what is missing and writes benchmarks/results/replications.json
    python -m benchmarks pages replications    writes docs/evidence/replications.md and its pictures from that file

Every entry is fitted twice, trusting the law (discrepancy off) and not (discrepancy on), and forecasts the runs that
were held out; where the paper's estimator is robust, a third time with Student-t noise. Stopped at any point, the
next call goes on. `BAYESCALE_PARSCALE` names a table with the runs of parallel streams (columns family,
n_params_nonembed, p_streams, value); without it those entries are left out.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from benchmarks.core.rows import store, stored
from benchmarks.replications.data import ROWS, STREAMS_FILE, thin
from benchmarks.replications.entries import Entry, Refit, entries

RESULTS = Path(__file__).parents[1] / "results" / "replications.json"
KINDS = ("off", "robust", "on", "minimised", "simulated")
"""Discrepancy off, the same with Student-t noise, discrepancy on, minimisation, and calibration on simulated data."""
WIDE = 250
"""Most rows of the fit of an entry that asks for all of its runs."""
LEVELS = (0.5, 0.8, 0.9, 0.95)
SHOWN = 120
"""Most held-out rows that are kept for the picture."""
SMALL = 24
"""Runs of a simulated data set."""


def short(value: Any) -> float:
    """Keep five significant digits."""
    return float(f"{float(value):.5g}")


def law_of(entry: Entry) -> Any:
    """The law of an entry."""
    from bayescale import laws

    return entry.build() if entry.build else laws.get(entry.law)


def runs_of(table: pd.DataFrame, law: Any, name: str, *, checkpoints: bool = False) -> Any:
    """Rows as runs of the law's inputs; without their labels every row stands for itself."""
    import bayescale as bs

    frame = table[[*law.inputs, "loss"]].astype(float)
    return bs.Runs.from_frame(frame.assign(run=table["run"]) if checkpoints else frame, inputs=law.inputs, name=name)


def constants_of(posteriors: Sequence[Any], names: Sequence[str]) -> dict[str, list[float]]:
    """Median and 95 % interval of each constant; of several curves, the same of the medians of fits that converged."""
    if len(posteriors) > 1:
        posteriors = [p for p in posteriors if p.status.name == "OK"] or posteriors
    draws = {name: [np.ravel(p.draws[name]) for p in posteriors] for name in names}
    found = {name: v[0] if len(v) == 1 else np.array([np.median(x) for x in v]) for name, v in draws.items()}
    return {name: [short(q) for q in np.quantile(values, [0.5, 0.025, 0.975])] for name, values in found.items()}


def quality_of(posteriors: Sequence[Any]) -> dict[str, Any]:
    """Convergence of the fits of one kind."""
    return {
        "rows": int(np.median([len(p.runs) for p in posteriors])),
        "converged": sum(p.status.name == "OK" for p in posteriors),
        "fits": len(posteriors),
        "rhat": short(max(np.max(part.diagnostics.rhat) for p in posteriors for part in p.components)),
        "divergences": int(sum(part.diagnostics.divergences for p in posteriors for part in p.components)),
    }


def held_out(posteriors: Sequence[Any], tests: Sequence[pd.DataFrame], entry: Entry) -> dict[str, Any]:
    """How forecasts of one future run did at held-out rows."""
    errors, intervals, inside, absolute, axis = [], [], {level: [] for level in LEVELS}, [], []
    for posterior, test in zip(posteriors, tests, strict=True):
        forecast = posterior.predict(test[list(posterior.law.inputs)].astype(float), kind="run", force=True)
        y, middle = test["loss"].to_numpy(float), forecast.quantile([0.5])[0]
        errors.append(np.log(y / middle))
        absolute.append(np.abs(y - middle))
        axis.append(test[entry.axis].to_numpy(float))
        intervals.append(np.log(forecast.interval(0.9) / middle))
        for level in LEVELS:
            low, high = forecast.interval(level)
            inside[level].append((low <= y) & (y <= high))
    error, ends = np.concatenate(errors), np.concatenate(intervals, axis=1)
    picks = np.unique(np.linspace(0, len(error) - 1, min(SHOWN, len(error))).round().astype(int))
    points = np.stack([np.concatenate(axis), error, *ends])[:, picks]
    return {
        "rows": len(error),
        "coverage": {f"{level:g}": short(np.concatenate(inside[level]).mean()) for level in LEVELS},
        "error": short(np.sqrt(np.mean(error**2))),
        "bias": short(error.mean()),
        "absolute": short(np.concatenate(absolute).mean()),
        "width": short(np.mean(ends[1] - ends[0])),
        "points": [[short(value) for value in row] for row in points],
    }


def published_error(entry: Entry, tests: Sequence[pd.DataFrame]) -> float | None:
    """Root mean squared log error of the published constants at held-out rows; None where they are no whole law."""
    source = entry.sources[0] if len(entry.sources) == 1 else None
    if source is None or source.names:
        return None
    law = law_of(entry)
    test = pd.concat(tests)
    value = law(*(test[name].to_numpy(float) for name in law.inputs), **source.constants())
    return short(np.sqrt(np.mean(np.log(test["loss"].to_numpy(float) / value) ** 2)))


def measure(entry: Entry, kind: str, table: pd.DataFrame | None = None) -> dict[str, Any]:
    """Fit one entry, and forecast what was held out."""
    import bayescale as bs

    begin = time.perf_counter()
    law, table = law_of(entry), entry.table() if table is None else table
    curves = [part for _, part in table.groupby("curve")] if "curve" in table else [table]
    # Where the law is trusted, a fit with a seed in common was not done after 25 minutes.
    shared, most = entry.checkpoints and kind == "on", WIDE if entry.robust else ROWS
    whole = [runs_of(thin(part, most), law, entry.title, checkpoints=shared) for part in curves]
    early = [runs_of(thin(part[~part["held"]]), law, entry.title, checkpoints=shared) for part in curves]
    tests = [thin(part[part["held"]], 300) for part in curves]
    options: dict[str, Any] = {"law": law, "seed": 0, "discrepancy": "auto" if kind == "on" else None}
    options |= {"likelihood": "student" if kind == "robust" else "normal", "failures": "raise", "progress": False}
    before = bs.fit_many(early, **options)
    full = bs.fit_many(whole, **options) if entry.refit else before
    return {
        "constants": constants_of(full, law.constants),
        "spreads": constants_of(full, ["residual_sd", *(["discrepancy"] if kind == "on" else [])]),
        "full": quality_of(full),
        "early": quality_of(before),
        "forecast": held_out(before, tests, entry),
        "published": published_error(entry, tests),
        "seconds": short(time.perf_counter() - begin),
    }


def minimise(entry: Entry, refit: Refit) -> dict[str, Any]:
    """Fit a law by minimisation from the constants beside it, all of them positive; errors are of the log loss."""
    law, table, known = law_of(entry), refit.table(), entry.sources[0].constants()
    x, y = {name: table[name].to_numpy(float) for name in law.inputs}, table["loss"].to_numpy(float)
    ref = {name: float(np.exp(np.log(column).mean())) for name, column in x.items()}
    divisors = law.divisors(ref)
    start = law.at_unit_scale(known, {name: 1.0 / value for name, value in ref.items()})

    def log_ratio(logs: np.ndarray) -> np.ndarray:
        constants = dict(zip(start, np.exp(logs), strict=True))
        return np.log(law(*(column / divisors[name] for name, column in x.items()), **constants) / y)

    def residual(logs: np.ndarray) -> np.ndarray:
        return y * np.expm1(log_ratio(logs)) if refit.linear else log_ratio(logs)

    begin = np.log(np.array([*start.values()]))
    huber = {"loss": "huber", "f_scale": refit.huber} if np.isfinite(refit.huber) else {}
    end = least_squares(residual, begin, x_scale="jac", max_nfev=3000, **huber).x
    constants = law.at_unit_scale(dict(zip(start, np.exp(end), strict=True)), ref)
    return {
        "name": refit.name,
        "rows": len(table),
        "constants": {name: short(value) for name, value in constants.items()},
        "error": short(np.sqrt(np.mean(log_ratio(end) ** 2))),
        "published": short(np.sqrt(np.mean(log_ratio(begin) ** 2))),
    }


def calibrate(entry: Entry) -> dict[str, Any]:
    """Simulate and fit data of the law at some of the entry's inputs, discrepancy on: are ranks uniform?"""
    import bayescale as bs

    # There is no schedule three times as far along, and a gradient of that law costs most.
    simulations, ratios = (30, (1.0,)) if entry.build else (60, (3.0, 10.0))

    begin = time.perf_counter()
    law, table = law_of(entry), entry.table()
    if "curve" in table:
        table = table[table["curve"] == table["curve"].iloc[0]]
    table = table[~table["held"]].drop_duplicates(list(law.inputs))
    runs = runs_of(thin(table, SMALL), law, entry.title)
    ranks = bs.sbc.run(runs, law, simulations=simulations, seed=0, ratios=ratios, progress=False)
    summary = ranks.summary()
    return {
        "rows": len(runs),
        "simulations": simulations,
        "quantities": len(summary),
        "smallest": short(summary["p"].min()),
        "where": str(summary["p"].idxmin()),
        "outside": list(map(str, summary.index[summary["outside"]])),
        "converged": short(np.mean([status.name == "OK" for status in ranks.statuses])),
        "seconds": short(time.perf_counter() - begin),
    }


# --- The file ------------------------------------------------------------------------------------------------


def missing(name: str, kind: str, rows: Sequence[dict[str, Any]]) -> bool:
    """Whether a measurement has yet to be made; failed ones are tried again."""
    return not any(row["entry"] == name and row["kind"] == kind and "failed" not in row for row in rows)


def run(kinds: Sequence[str], only: str = "", path: Path = RESULTS) -> Path:
    """Measure what is missing, one after the other; simulated data for the first entry of each law only."""
    known = entries()
    first = {law: name for name, law in reversed([(name, entry.law) for name, entry in known.items()])}
    for name, entry in known.items():
        if not name.startswith(only) or (name.startswith("streams") and STREAMS_FILE not in os.environ):
            continue
        for kind in kinds:
            rows = stored(path)
            if (kind == "robust" and not entry.robust) or (kind == "simulated" and first[entry.law] != name):
                continue
            if not missing(name, kind, rows) or (kind == "minimised" and not entry.refits):
                continue
            try:
                if kind == "minimised":
                    found = {"fits": [minimise(entry, refit) for refit in entry.refits]}
                else:
                    found = calibrate(entry) if kind == "simulated" else measure(entry, kind)
            except Exception as error:  # One law must not take the others down.
                traceback.print_exc()
                found = {"failed": f"{type(error).__name__}: {error}"}
            kept = [row for row in rows if (row["entry"], row["kind"]) != (name, kind)]
            store([*kept, {"entry": name, "kind": kind, **found}], path)
            print(name, kind, f"{found.get('seconds', 0.0):.0f} s", found.get("failed", ""), flush=True)
    return path
