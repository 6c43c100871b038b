"""Coverage of forecasts of runs that are drawn from the default model itself, by number of runs.

    python -m benchmarks drawn               measures what is missing
    python -m benchmarks pages simulated     renews the table in docs/evidence/calibration.md

Constants, discrepancy, residuals and seed noise are drawn from the priors of the default model, and runs are simulated
from them. The default model is fitted to these runs, and intervals are counted that contain a simulated further run:
between the fitted runs and beyond them. A mixture is simulated from its models in proportion to their weights.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bayescale.evaluate.designs import made_up
from bayescale.evaluate.sbc import KEPT
from benchmarks.core.markdown import grid, templates
from benchmarks.core.rows import store, stored

RESULTS = Path(__file__).parents[1] / "results" / "drawn.json"
LEVELS = (0.5, 0.8, 0.95)
RATIOS = (0.3, 2.0, 10.0)
"""Inputs of the further runs divided by the largest fitted inputs; the first lies between fitted runs."""
render = templates(__file__)


@dataclasses.dataclass(frozen=True)
class Case:
    """A design of runs.

    Attributes:
        law: Name of the law.
        rows: Number of runs.
        simulations: Number of simulated families.
        input_name: Name of the input of a law of one input, which makes it a ladder or a curve.
    """

    law: str
    rows: int
    simulations: int = 500
    input_name: str = ""

    @property
    def name(self) -> str:
        """The case in a few words."""
        kind = {"n_params": "ladder", "n_samples": "curve"}.get(self.input_name, "parameters and tokens")
        return f"{kind}, {self.rows} runs"


CASES = (
    *(Case("plateau_power", rows, input_name="n_params") for rows in (8, 40)),
    *(Case("plateau_power", rows, input_name="n_samples") for rows in (8, 40)),
    *(Case("chinchilla_outer", rows) for rows in (8, 40)),
    Case("plateau_power", 400, 200, "n_samples"),
    Case("chinchilla_outer", 400, 60),
)


def measure(path: Path = RESULTS) -> Path:
    """Simulate and fit the cases that are missing, and store a row a case."""
    for case in CASES:
        rows = stored(path)
        if not any(row["case"] == case.name for row in rows):
            store([*rows, row_of(case)], path)
            print(f"{case.name}: done", file=sys.stderr)
    return path


def row_of(case: Case) -> dict[str, Any]:
    """Return the coverage of one case."""
    import bayescale as bs

    runs = made_up(bs.LAWS[case.law], case.rows)
    if case.input_name:
        frame = runs.frame.rename(columns={runs.inputs[0]: case.input_name})
        runs = bs.Runs.from_frame(frame[[case.input_name, "loss"]], inputs=[case.input_name])
    ranks = bs.sbc.run(runs, "auto", simulations=case.simulations, seed=1, ratios=RATIOS, method="auto", progress=False)
    row: dict[str, Any] = {"case": case.name, "simulations": case.simulations}
    for ratio in RATIOS:
        name = f"forecast at {ratio:g}x"
        # A mixture is forecast as a whole.
        column = ranks.names.index(whole if (whole := f"mixture {name}") in ranks.names else name)
        pit = (ranks.ranks[:, column] + 0.5) / (KEPT + 1.0)
        row[f"{ratio:g}"] = [float(np.mean(np.abs(pit - 0.5) < level / 2)) for level in LEVELS]
    return row | {"converged": float(np.mean([status.name == "OK" for status in ranks.statuses]))}


def section(path: Path = RESULTS) -> str:
    """Return the text and table of the page; empty without rows."""
    rows = stored(path)
    if not rows:
        return ""
    shares = np.array([row[f"{ratio:g}"] for row in rows for ratio in RATIOS])
    gaps = 100 * np.abs(shares - np.array(LEVELS)).ravel()
    return render(
        "drawn",
        ratios=[f"{ratio:g}" for ratio in RATIOS],
        largest=f"{gaps.max():.0f}",
        within=int((gaps <= 3.0).sum()),
        total=len(gaps),
        table=table(rows),
    )


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table of coverage, one line for each case."""
    head = ["runs", "families", *(f"{ratio:g}x: 50/80/95" for ratio in RATIOS), "converged"]
    body = [
        [
            row["case"],
            str(row["simulations"]),
            *("/".join(f"{share:.3f}" for share in row[f"{ratio:g}"]) for ratio in RATIOS),
            f"{100 * row['converged']:.0f} %",
        ]
        for row in rows
    ]
    return grid(head, body)
