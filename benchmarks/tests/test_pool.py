"""The benchmark of pooling: which runs it fits, what it holds out, and its table."""

import numpy as np
import pandas as pd

from benchmarks.calibration import pool, pool_suites
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


def suite(name="a", sizes=(1e6, 1e7, 1e8, 1e9, 1e10), points=30):
    """Training curves of several sizes, all over the same tokens."""
    parts = [pd.DataFrame({"n_params": size, "n_tokens": np.geomspace(1e9, 1e11, points)}) for size in sizes]
    rows = pd.concat(parts, ignore_index=True)
    rows["loss"] = 1.7 + (rows["n_params"] / 1e6) ** -0.3 + (rows["n_tokens"] / 1e9) ** -0.3
    return pool_suites.Suite("source", name, ("n_params", "n_tokens"), rows)


def test_the_pool_gets_two_sizes_and_the_single_fit_four():
    own = suite()
    assert list(own.sizes) == [1e7, 1e8, 1e9, 1e10]
    own = suite(sizes=(1e7, 3e7, 1e8, 3e8, 1e9))
    small = own.runs(own.sizes[: pool_suites.SMALL]).frame
    assert small["n_params"].max() == 3e7 and len(small) == 2 * pool_suites.CHECKPOINTS
    ladder = own.ladder()
    assert ladder.inputs == ("n_params",) and list(ladder.frame["n_params"]) == [1e7, 3e7, 1e8, 3e8]
    held = own.held.iloc[0]
    assert (held["n_params"], held["n_tokens"]) == (1e9, 1e11)
    assert held["loss"] < ladder.frame["loss"].min()
    assert len(own.full()) <= pool_suites.ROWS


def test_a_ladder_ends_with_the_tokens_of_the_largest_size_or_their_ratio():
    own = suite(sizes=(1e7, 3e7, 1e8, 3e8, 1e9))
    rows = own.rows.assign(n_tokens=own.rows["n_params"] * own.rows["n_tokens"] / 1e9)
    frame = own._replace(rows=rows).ladder().frame
    np.testing.assert_allclose(frame["n_tokens"] / frame["n_params"], 100.0)
    uneven = rows[(rows["n_params"] > 3e7) | (rows["n_tokens"] < 1e8)]
    assert own._replace(rows=uneven).ladder() is None


def test_the_table_of_suites_compares_with_four_sizes_and_with_two(tmp_path):
    one = {"crps": 0.01, "error": 0.02, "0.5": 1.0, "0.8": 1.0, "0.95": 1.0}
    sides = {
        "pooled": [one, one],
        "alone": [{**one, "crps": 0.02, "error": 0.01}] * 2,
        "same": [{**one, "crps": 0.04}] * 2,
    }
    row = {"source": "a", "variant": pool_suites.VARIANT} | pool_suites.summary(sides, "ladder")
    pool.store([row], tmp_path / "pool.json")
    told = pool_suites.told_suites(tmp_path / "pool.json")
    assert "| a | 2 | ladder | 2.00 | 0.50 | 0.25 | 1.00/1.00/1.00 |" in told
    assert pool_suites.size_of("1.4b") == 1.4e9 and pool_suites.size_of("XL") == 1.3e9
