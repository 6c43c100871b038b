"""The benchmark of stacking: which curves it takes, what it compares, and its table."""

import dataclasses

import numpy as np
import pandas as pd

import bayescale as bs
from benchmarks.calibration import stack
from benchmarks.core.problems import Problem


def problem(number, source="a", points=12, split="R=4"):
    x = 1e18 * 2.0 ** np.arange(points)
    rows = pd.DataFrame({"flops": x, "loss": 1.7 + (x / 1e18) ** -0.2 * (1.0 + 0.01 * number)})
    below = rows["flops"] <= x.max() / 4
    held = rows[~below].reset_index(drop=True)
    return Problem(source, f"f{number}", "loss", "one input", split, ("flops",), rows[below], held)


def test_curves_are_spread_over_sources_and_long_enough():
    many = [problem(number) for number in range(9)]
    others = [problem(number, source="b") for number in range(2)]
    short = [problem(number, source="c", points=6) for number in range(3)]
    found = stack.chosen([*many, *others, *short, problem(20, split="R=2")], most=3)
    assert [one.source for one in found] == ["a", "b", "a", "b", "a"]
    assert [one.family for one in found if one.source == "a"] == ["f0", "f4", "f8"]


def test_candidates_are_the_parts_of_the_default():
    ladder = problem(0)
    curve = dataclasses.replace(ladder, inputs=("n_tokens",))
    for one, shapes in ((ladder, 3), (curve, 2)):
        assert len(stack.shapes(one)) == shapes == len(stack.default_weights("shapes", one))
    assert stack.default_weights("models", ladder) == [1.0, 0.0]
    assert all(isinstance(one["priors"]["terms"], bs.Plateaus) for one in stack.shapes(ladder).values())


def test_the_table_has_the_means_over_sources(tmp_path):
    rows = [
        {"source": source, "problem": f"{source}{i}", "set": "shapes"}
        | {"default": [0.01, 0.1, 0.5, 0.8, 1.0], "2": [0.01 * factor, 0.1, 0.5, 0.8, 1.0]}
        for source, factor in (("a", 0.5), ("b", 2.0))
        for i in range(3)
    ]
    rows.append({"source": "c", "problem": "c0", "set": "shapes", "refused": "few"})
    stack.store(rows, tmp_path / "stack.json")
    told = stack.told(tmp_path / "stack.json")
    assert "| 2 | a | 3 | 0.500 | 1.00 | 0.50/0.80/1.00 |" in told
    assert "| 2 | mean over 2 sources, CRPS 0.500 to 2.000, 1 better | 6 | 1.000 | 1.00 |" in told
    assert "Refused: 1 curves." in told
