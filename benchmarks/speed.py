"""How long fits take: the first one, and later ones, on the built-in loss curves.

    python benchmarks/speed.py

Seconds depend on the machine; effective draws a gradient do not.
"""

from __future__ import annotations

import time

import numpy as np

import bayescale as bs


def main() -> None:
    """Print the cold and the warm time of one- and two-input families."""
    curves = list(bs.corpus.curves().values())
    for inputs in (1, 2):
        families = [runs for runs in curves if len(runs.inputs) == inputs]
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
            f"{inputs} input(s), {len(families)} families: cold {cold:.1f} s, warm {warm:.3f} s a family, "
            f"smallest effective sample size (median) {np.median(ess):.0f}, "
            f"{1000 * np.median(np.divide(ess, steps)):.1f} effective draws a thousand gradients, "
            f"{converged} converged"
        )


if __name__ == "__main__":
    main()
