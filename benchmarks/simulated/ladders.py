"""Ladders: do ordinary ladders along one ray get an answer, and do their intervals hold ten times further out?

    python -m benchmarks ladders

Simulated ladders of 6 to 12 runs, one to three seeds, noise of .1 to .5 %, on one ray: once exactly on a law in
parameters and tokens, then on laws that depart from it by an integrated Ornstein-Uhlenbeck path, of half the amplitude
that the default expects of such a fall and of all of it. Prints the share of trustworthy fits and how often 80 %
intervals of the mean ten times beyond the data held, with the method "nuts" that `fit` uses. Last, by how much they
would have to shrink to hold 90 % on exact ladders, and what intervals so much narrower would hold on published ladders.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pandas as pd

import bayescale as bs
from bayescale.errors import Status
from bayescale.model.discrepancy import default_discrepancy, kernel
from benchmarks.core import store

LADDERS = 200
AHEAD = 10.0
PUBLISHED = ("printed figures", "routing", "quest_quant", "obs_scaling", "sloth")
"""Sources whose families of one input are ladders."""


def ladder(number: int, amplitude: float) -> tuple[bs.Runs, float, float]:
    """Simulate one ladder.

    Args:
        number: Seed.
        amplitude: Amplitude of the discrepancy relative to the default's median; 0 is the law itself.

    Returns:
        Its runs, the parameters ten times beyond them, and the true mean loss there.
    """
    rng = np.random.default_rng(number)
    count, seeds, noise = int(rng.integers(6, 13)), int(rng.integers(1, 4)), rng.uniform(0.001, 0.005)
    sizes = np.geomspace(10 ** rng.uniform(7, 8), 10 ** rng.uniform(8.5, 9.5), max(3, -(-count // seeds)))
    ratio = float(rng.choice([10.0, 20.0, 40.0, 100.0]))
    floor, a, b = rng.uniform(1.4, 2.0), rng.uniform(200, 500), rng.uniform(300, 600)
    alpha, beta = rng.uniform(0.28, 0.38), rng.uniform(0.25, 0.33)
    every = np.append(sizes, AHEAD * sizes[-1])
    log = np.log(floor + a * every**-alpha + b * (ratio * every) ** -beta)
    if amplitude:
        discrepancy = default_discrepancy("ladder")
        fall = log[0] - log[-2]
        median = amplitude * float(discrepancy.median) * (fall / float(discrepancy.scale)) ** float(discrepancy.power)
        own = median * np.exp(float(discrepancy.sd) * rng.standard_normal())
        place = (np.log(every / sizes[0]) / np.log(sizes[-1] / sizes[0]))[:, None]
        power, vectors = np.linalg.eigh(kernel(place, place, discrepancy))
        log = log + own * vectors @ (np.sqrt(np.maximum(power, 0.0)) * rng.standard_normal(len(every)))
    rows = [
        {"n_params": size, "n_tokens": ratio * size, "seed": seed, "loss": np.exp(y + noise * rng.standard_normal())}
        for size, y in zip(sizes, log[:-1], strict=True)
        for seed in range(seeds)
    ]
    runs = bs.Runs.from_frame(pd.DataFrame(rows[:count]), name=f"ladder {number}")
    largest = float(runs.frame["n_params"].max())
    where = AHEAD * largest
    return runs, where, float(np.exp(np.interp(np.log(where), np.log(every), log)))


def reach(truth: np.ndarray, low: np.ndarray, median: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the factor on each interval, about its median in ln y, that would just hold the truth."""
    off, up, down = np.log(truth / median), np.log(high / median), np.log(median / low)
    return np.abs(off) / np.where(off > 0, up, down)


def published() -> pd.DataFrame:
    """Return the factor of the default's 80 % interval for held-out runs of published ladders of 6 to 12 runs."""
    rows = store.stored("bayescale")
    rows = rows[rows.source.isin(PUBLISHED) & rows.n_train.between(6, 12) & (rows.group == "one input")]
    factor = reach(*(rows[name].to_numpy() for name in ("y", "q0.1", "q0.5", "q0.9")))
    return rows[["source", "family"]].assign(factor=factor)


def lines() -> Iterator[str]:
    """Simulate and fit ladders; yield a line for each kind of them, and what a narrower interval would cost."""
    kinds = (0.0, "exactly on the law"), (0.5, "departing half as much as the default expects"), (1.0, "as much")
    shrink = 1.0
    for amplitude, label in kinds:
        begin = time.perf_counter()
        made = [ladder(number, amplitude) for number in range(LADDERS)]
        fits = bs.fit_many([runs for runs, _, _ in made], seed=0)
        trusted = np.mean([fit.status is Status.OK for fit in fits])
        truth = np.array([value for _, _, value in made])
        forecasts = [fit.predict(n_params=where, kind="mean") for fit, (_, where, _) in zip(fits, made, strict=True)]
        told = []
        for level in (0.5, 0.8, 0.95):
            ends = np.array([forecast.interval(level)[:, 0] for forecast in forecasts]).T
            told.append(f"{level:.0%} held {np.mean((ends[0] < truth) & (truth < ends[1])):.2f}")
        if not amplitude:
            quantiles = np.array([forecast.quantile([0.1, 0.5, 0.9])[:, 0] for forecast in forecasts]).T
            shrink = float(np.quantile(reach(truth, *quantiles), 0.9))
        seconds = time.perf_counter() - begin
        yield f"{label}: {trusted:.1%} of {LADDERS} trustworthy; at {AHEAD:g}x {', '.join(told)} ({seconds:.0f} s)"
    real = published()
    own, narrow = ((real.factor < edge).groupby([real.source, real.family]).mean().mean() for edge in (1.0, shrink))
    yield (
        f"80 % intervals {shrink:.2f} times as wide would hold .90 exactly on the law, and {narrow:.2f} in place of "
        f"{own:.2f} of the held-out runs of {real.groupby(['source', 'family']).ngroups} published ladders of as many"
    )
