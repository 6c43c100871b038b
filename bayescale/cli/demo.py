"""The demonstration: built-in published runs, from table to decision."""

from __future__ import annotations

import functools
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import least_squares
from scipy.stats import t as student

from bayescale import _io, corpus, plot
from bayescale.checked import SEED, options
from bayescale.decide import go
from bayescale.errors import Status
from bayescale.evaluate.backtest import backtest
from bayescale.fitting.fit import fit
from bayescale.reporting.report import report

FITTED = 3e20
"""Largest of the six budgets (FLOPs) on which the public forecast was based."""
TARGET = 2.25
"""A loss that a team might require of the 1e23 run."""
QUESTION = {"target": 2.61, "cost": 1.2e6, "value": 2.5e6, "unit": "USD", "flops": 1e21}
"""A decision about the 1e21 run; its cost and value are invented."""


def usual_interval(x: np.ndarray, y: np.ndarray, at: np.ndarray, level: float) -> np.ndarray:
    """Return the interval of the usual fit: least squares of E + A x^-c on ln(loss), delta method, no discrepancy.

    Args:
        x: Training scales.
        y: Training losses.
        at: Scales at which to forecast.
        level: Central probability.

    Returns:
        Lower end, fit, upper end, shape (3, point).
    """
    center = np.log(x).mean()

    def curve(theta: np.ndarray, scale: np.ndarray) -> np.ndarray:
        floor, rest, exponent = np.exp(theta)
        return np.log(floor + rest * np.exp(-exponent * (np.log(scale) - center)))

    starts = [(f, c) for f in (0.2, 0.5, 0.8) for c in (0.05, 0.1, 0.2, 0.5)]
    fits = [
        least_squares(
            lambda theta: curve(theta, x) - np.log(y),
            np.log([f * y.min(), y.mean() - f * y.min(), c]),
            xtol=1e-14,
            ftol=1e-14,
            gtol=1e-14,
        )
        for f, c in starts
    ]
    best = min(fits, key=lambda fit: fit.cost)
    freedom = len(x) - 3
    variance = 2.0 * best.cost / freedom
    covariance = variance * np.linalg.pinv(best.jac.T @ best.jac)
    step = 1e-6 * np.eye(3)
    slope = np.stack([(curve(best.x + s, at) - curve(best.x - s, at)) / 2e-6 for s in step], axis=1)
    spread = np.sqrt(np.einsum("pi,ij,pj->p", slope, covariance, slope) + variance)
    reach = student.ppf(0.5 + level / 2, freedom) * spread
    middle = curve(best.x, at)
    return np.exp(np.stack([middle - reach, middle, middle + reach]))


def run(out: Path, seed: int = 0) -> None:
    """Run both parts, and write their tables and plots into `out`.

    Raises:
        InputError: If `out` cannot be a folder, or for an invalid seed.
    """
    options(seed=(seed, SEED))
    _io.folder(out)
    began = time.monotonic()
    written = [*forecast_marin(out, seed), *hold_out_largest(out, seed)]
    print(f"\nDone in {time.monotonic() - began:.0f} s. Written:")
    for path in written:
        print(f"  {path}")
    print("\nNext, on your own table (one row per run, raw counts):")
    print("  bayescale fit RUNS.csv --out fit.nc --plot intervals.png")
    print("  bayescale decide fit.nc --at flops=1e23 --target 2.25 --report decision.html")


def forecast_marin(out: Path, seed: int) -> list[Path]:
    """Forecast two larger runs from six small budgets, and compare with the measured losses."""
    runs = corpus.load("marin_moe_v16_minima")
    small, large = runs.select(runs.frame["flops"] <= FITTED), runs.select(runs.frame["flops"] > FITTED)
    print("1. Six budgets of a mixture-of-experts ladder, 1e18 to 3e20 FLOPs, forecast 1e21 and 1e23\n")
    posterior = fit(small, seed=seed)
    print(posterior)
    at = large.frame["flops"].to_numpy(float)
    forecast = posterior.predict(flops=at, kind="run")
    usual = {
        level: usual_interval(small.frame["flops"].to_numpy(float), small.frame["loss"].to_numpy(float), at, level)
        for level in (0.8, 0.95)
    }
    table = pd.DataFrame({"flops": at, "measured": large.frame["loss"].to_numpy(float)})
    table["median"] = forecast.quantile(0.5)
    for level in (0.8, 0.95):
        low, high = forecast.interval(level)
        table[f"ours {level:.0%}"] = [f"{a:.3f} to {b:.3f}" for a, b in zip(low, high, strict=True)]
    for level in (0.8, 0.95):
        low, _, high = usual[level]
        table[f"usual fit {level:.0%}"] = [f"{a:.3f} to {b:.3f}" for a, b in zip(low, high, strict=True)]
    print("\nForecasts and the losses measured afterwards (usual fit: least squares, no discrepancy):\n")
    print(table.to_string(index=False))
    chance = float(forecast.probability_below(TARGET)[-1])
    print(f"\nP(loss of the 1e23 run < {TARGET}) = {chance:.2f}; the measured loss was {table['measured'].iloc[-1]}.")
    decision = go(posterior, **QUESTION)
    print(f"\nShould the 1e21 run have been made, to end below {decision.target:g}? Cost and value are made up:\n")
    print(decision)
    report(posterior, decision, with_sensitivity=False).save(out / "marin-decision.html")
    posterior.save(out / "marin.nc")
    plot.save(plot.intervals(posterior, truth=large, target=TARGET), out / "marin-intervals.png")
    plot.save(plot.forecast(forecast, point=1, measured=table["measured"].iloc[-1]), out / "marin-forecast.png")
    plot.save(plot.learned(posterior), out / "marin-learned.png")
    _io.write(out / "marin.csv", lambda part: table.to_csv(part, index=False))
    names = (
        "marin.nc",
        "marin-decision.html",
        "marin-intervals.png",
        "marin-forecast.png",
        "marin-learned.png",
        "marin.csv",
    )
    return [out / name for name in names]


def hold_out_largest(out: Path, seed: int) -> list[Path]:
    """Hold out the largest point of every built-in loss curve, and compare with a fit without discrepancy."""
    curves = list(corpus.curves().values())
    print(f"\n2. {len(curves)} published loss curves, each with its largest point held out\n")
    methods = {"bayescale": "auto", "no discrepancy": None}
    backs = {
        name: backtest(curves, largest=1, seed=seed, discrepancy=discrepancy) for name, discrepancy in methods.items()
    }
    coverage = pd.concat([back.coverage(method=name) for name, back in backs.items()])
    wide = coverage.pivot_table(index="method", columns="level", values="coverage", sort=False)
    wide.columns = [f"covers at {level:.0%}" for level in wide.columns]
    for column in ("crps", "log_score", "rmsle", "width95"):
        wide[column] = [back.scores()[column].iloc[-1] for back in backs.values()]
    print(wide.round(3).to_string())
    unconverged = [p for back in backs.values() for p in back.posteriors if p.status is not Status.OK]
    total = sum(len(back.posteriors) for back in backs.values())
    for family, _, reason in backs["bayescale"].skipped:
        print(f"\nLeft out: {family}, {reason}")
    scored = total // len(backs)
    print(f"\n{total - len(unconverged)} of {total} fits converged.")
    print(f"With only {scored} families, coverage is uncertain: see the error bars in reliability.png.")
    frames = [back.to_frame().assign(method=name) for name, back in backs.items()]
    for name, rows in (("heldout.csv", pd.concat(frames)), ("reliability.csv", coverage)):
        _io.write(out / name, functools.partial(rows.to_csv, index=False))
    plot.save(plot.reliability(coverage), out / "reliability.png")
    return [out / name for name in ("heldout.csv", "reliability.csv", "reliability.png")]
