"""The benchmark of pooling: which runs it fits, what it holds out, and its table."""

import numpy as np
import pandas as pd

from benchmarks.calibration import pool
from benchmarks.core.problems import Problem


def problem(family, source="a", points=12, split="R=4"):
    x = 1e18 * 2.0 ** np.arange(points)
    rows = pd.DataFrame({"flops": x, "loss": 1.7 + (x / 1e18) ** -0.2 * (1.0 + 0.01 * family)})
    below = rows["flops"] <= x.max() / 4
    held = rows[~below].reset_index(drop=True)
    return Problem(source, f"f{family}", "loss", "one input", split, ("flops",), rows[below], held)


def test_curves_are_those_of_sources_with_enough_families():
    many = [problem(number) for number in range(9)]
    few = [problem(number, source="b") for number in range(3)]
    found = pool.curves([*many, *few, problem(20, split="R=2")], most=8)
    assert list(found) == ["a, flops"] and len(found["a, flops"]) == 8


def test_few_runs_lie_below_the_cut():
    curve = pool.curves([problem(number) for number in range(8)])["a, flops"][0]
    top = curve.problem.train["flops"].max()
    for count in pool.COUNTS:
        runs = curve.few(count)
        assert len(runs) == count and runs.frame["flops"].max() == top
    assert curve.few(11) is None
    assert len(curve.full) == 12 and curve.full.frame["flops"].max() > top


def test_the_table_has_a_row_a_source_and_the_mean_over_sources(tmp_path):
    one = {"crps": 0.01, "width": 0.1, "0.5": 0.5, "0.8": 0.8, "0.95": 1.0}
    rows = [
        {"source": source, "variant": "exponents"}
        | pool.summary(4, [({**one, "crps": 0.01 * factor}, {**one, "width": 0.2})] * 3)
        for source, factor in (("a, flops", 0.5), ("b, flops", 2.0))
    ]
    assert rows[0]["crps_ratio"] == 0.5 and rows[0]["alone_width"] == 0.2
    pool.store(rows, tmp_path / "pool.json")
    told = pool.told(tmp_path / "pool.json")
    assert "| mean over sources | 4 | 6 | 1.00 | 0.50 | 0.50/0.80/1.00 | 0.50/0.80/1.00 |" in told
