"""How long fits take: the first one, and later ones, on built-in loss curves and on a made-up grid of 64 runs.

    python benchmarks/speed.py

Seconds depend on the machine; effective draws a gradient do not.
"""

from __future__ import annotations

import time

import numpy as np
import pandas as pd

import bayescale as bs


def grid(number: int) -> bs.Runs:
    """Make up a grid of eight sizes and eight token budgets."""
    rng = np.random.default_rng(number)
    params, tokens = (v.ravel() for v in np.meshgrid(np.geomspace(1e7, 1e9, 8), np.geomspace(1e9, 1e11, 8)))
    loss = bs.LAWS["chinchilla"].published("besiroglu2024").predict(n_params=params, n_tokens=tokens).quantile(0.5)
    noise = np.exp(0.005 * rng.standard_normal(len(params)))
    frame = pd.DataFrame({"n_params": params, "n_tokens": tokens, "loss": loss * noise})
    return bs.Runs.from_frame(frame, name=f"grid {number}")


def measure(label: str, families: list[bs.Runs]) -> None:
    """Print the cold and the warm time of a set of families."""
    begin = time.perf_counter()
    bs.fit(families[0], seed=0)
    cold = time.perf_counter() - begin
    # Every bucket is compiled before the clock starts.
    bs.fit_many(families, seed=0)
    begin = time.perf_counter()
    posteriors = bs.fit_many(families, seed=1)
    warm = (time.perf_counter() - begin) / len(families)
    ess = [min(p.diagnostics.ess_bulk.min(), p.diagnostics.ess_tail.min()) for p in posteriors]
    steps = [p.stats["n_steps"].sum() for p in posteriors]
    converged = sum(p.status is bs.Status.OK for p in posteriors)
    print(
        f"{label}, {len(families)} families: cold {cold:.1f} s, warm {warm:.3f} s a family, "
        f"smallest effective sample size (median) {np.median(ess):.0f}, "
        f"{1000 * np.median(np.divide(ess, steps)):.1f} effective draws a thousand gradients, "
        f"{converged} converged",
        flush=True,
    )


def main() -> None:
    """Measure one input, two inputs and a grid."""
    curves = list(bs.corpus.curves().values())
    measure("one input", [runs for runs in curves if len(runs.inputs) == 1])
    measure("two inputs", [runs for runs in curves if len(runs.inputs) == 2])
    measure("grid of 64 runs", [grid(number) for number in range(4)])


if __name__ == "__main__":
    main()
