"""Ladders: do ordinary ladders along one ray get an answer, and do their intervals hold ten times further out?

    python -m benchmarks ladders

Simulated ladders of 6 to 12 runs, one to three seeds, noise of .1 to .5 %, on one ray: once exactly on a law in
parameters and tokens, then on laws that depart from it by an integrated Ornstein-Uhlenbeck path, of half the amplitude
that the default expects of such a fall and of all of it. Prints the share of trustworthy fits and how often 80 %
intervals of the mean ten times beyond the data held, with the method "nuts" that `fit` uses.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pandas as pd

import bayescale as bs
from bayescale.errors import Status
from bayescale.model.discrepancy import default_discrepancy, kernel

LADDERS = 200
AHEAD = 10.0


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


def lines() -> Iterator[str]:
    """Simulate and fit ladders; yield a line for each kind of them."""
    kinds = (0.0, "exactly on the law"), (0.5, "departing half as much as the default expects"), (1.0, "as much")
    for amplitude, label in kinds:
        begin = time.perf_counter()
        made = [ladder(number, amplitude) for number in range(LADDERS)]
        fits = bs.fit_many([runs for runs, _, _ in made], seed=0)
        trusted = np.mean([fit.status is Status.OK for fit in fits])
        held = {level: [] for level in (0.5, 0.8, 0.95)}
        for fit, (_, where, truth) in zip(fits, made, strict=True):
            forecast = fit.predict(n_params=where, kind="mean")
            for level, inside in held.items():
                low, high = forecast.interval(level)[:, 0]
                inside.append(low < truth < high)
        told = ", ".join(f"{level:.0%} held {np.mean(inside):.2f}" for level, inside in held.items())
        seconds = time.perf_counter() - begin
        yield (f"{label}: {trusted:.1%} of {LADDERS} trustworthy; at {AHEAD:g}x {told} ({seconds:.0f} s)")
