"""Calibration by simulation of every law, at made-up runs of its own inputs.

    python -m benchmarks.sbc_laws                     simulates what is missing and writes benchmarks/results/sbc.json
    python -m benchmarks.sbc_laws --long --only NAME  one law again with the package's default chains
    python -m benchmarks.sbc_laws --report            renews the table in docs/calibration.md

Stopped at any point, the next call goes on. Laws of one curve and equal kinds of priors share a compiled program.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.designs import made_up
from benchmarks.rows import store, stored

RESULTS = Path(__file__).parent / "results" / "sbc.json"
RUNS, SIMULATIONS = 16, 60
SHORT = {"chains": 2, "draws": 199}
"""Chains of the usual run: long enough for 99 ranks, too short to be tried again."""
MIXED = 1.05
"""R-hat below which so short chains count as mixed."""
BOUNDED = ("schedule", "step", "share", "share_1", "share_2", "share_3", "share_4", "share_5", "active_share")
"""Inputs that cannot grow tenfold."""


def simulate(name: str, long: bool, simulations: int = SIMULATIONS) -> dict[str, Any]:
    """Simulate and fit data of one law: are ranks uniform?"""
    import bayescale as bs

    begin, law = time.process_time(), bs.LAWS[name]
    ratios = (1.0,) if set(law.inputs) & set(BOUNDED) else (3.0, 10.0)
    drift = None if "schedule" in law.inputs else "auto"
    settings = bs.Nuts() if long else bs.Nuts(**SHORT)
    ranks = bs.sbc.run(
        made_up(law, RUNS),
        law,
        simulations=simulations,
        seed=0,
        drift=drift,
        ratios=ratios,
        settings=settings,
        progress=False,
    )
    summary = ranks.summary()
    mixed = [s.name == "OK" for s in ranks.statuses] if long else ranks.rhat < MIXED
    return {
        "law": name,
        "long": long,
        "drift": drift is not None,
        "simulations": simulations,
        "p": {key: float(f"{value:.3g}") for key, value in summary["p"].items()},
        "outside": list(map(str, summary.index[summary["outside"]])),
        "converged": float(np.mean(mixed)),
        "seconds": round(time.process_time() - begin, 1),
    }


# --- The file ------------------------------------------------------------------------------------------------


def run(only: str = "", long: bool = False, path: Path = RESULTS) -> Path:
    """Simulate the laws that are missing, or whose name begins with a text."""
    import bayescale as bs

    for name in bs.laws.BUILT_IN:
        rows = stored(path)
        if name.startswith(only) and not any((row["law"], row["long"]) == (name, long) for row in rows):
            row = simulate(name, long)
            store([*stored(path), row], path)
            print(name, f"{row['seconds']:.0f} s, smallest p {min(row['p'].values()):.2g}", row["outside"], flush=True)
    return path


# --- The table -----------------------------------------------------------------------------------------------


def section(path: Path = RESULTS) -> str:
    """Table of all laws; a law simulated again with long chains shows those."""
    from bayescale.laws import BUILT_IN
    from benchmarks.sections import grid

    found = {row["law"]: row for row in sorted(stored(path), key=lambda row: row["long"])}
    rows = [found[name] for name in BUILT_IN if name in found]
    if not rows:
        return ""
    body = []
    for row in rows:
        where = min(row["p"], key=row["p"].get)
        body.append(
            [
                f"`{row['law']}`" + (" (long)" if row["long"] else ""),
                f"{row['p'][where]:.2g} of {len(row['p'])} ({where})",
                ", ".join(row["outside"]) or "none",
                f"{100 * row['converged']:.0f} %",
            ]
        )
    missing = [f"`{name}`" for name in BUILT_IN if name not in found]
    again = sum(row["long"] for row in rows)
    return "\n".join(
        [
            "## Where the model is true: every law",
            "",
            f"{rows[0]['simulations']} data sets of each law, drawn from its priors at {RUNS} made-up runs of its "
            "inputs with the default drift (none for laws of schedules) and noise, then fitted: ranks of the true "
            "coordinates, of a run 3 and 10 times ahead (the largest run's own inputs, where inputs cannot grow) and "
            "of the likelihood must be uniform. So few data sets see gross faults only. Chains are short, "
            f"{SHORT['chains']} of {SHORT['draws']} draws without a second attempt, and converged means R-hat below "
            f"{MIXED}; {again} laws marked (long) were run with default chains and their standard. The 99 % band is "
            f"simultaneous for one law: of {len(rows)} right laws {0.01 * len(rows):.1f} leave it by chance, here "
            f"{sum(bool(row['outside']) for row in rows)}. Laws share random numbers, so "
            "their rows are not independent. Made by `python -m benchmarks.sbc_laws`."
            + (f" Not simulated: {', '.join(missing)}." if missing else ""),
            "",
            grid(["law", "smallest p", "outside the 99 % band", "converged"], body),
        ]
    )


def main() -> None:
    """Simulate, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="laws whose name begins with this text")
    parser.add_argument("--long", action="store_true", help="the package's default chains")
    parser.add_argument("--report", action="store_true", help="renew the table from stored results")
    given = parser.parse_args()
    if given.report:
        from benchmarks import report

        report.renew(report.PAGE, section(), "simulated")
        print(f"wrote {report.PAGE}")
        return
    print(f"wrote {run(given.only, given.long)}")


if __name__ == "__main__":
    main()
