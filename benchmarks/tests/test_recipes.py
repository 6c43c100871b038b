"""The benchmark of recipe choices: cuts that leak nothing, figures that add up, and a page made from rows."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot

from bayescale.decide import paired
from benchmarks.core.methods import Prediction
from benchmarks.core.problems import scale
from benchmarks.decisions import recipe_section as recipe_report
from benchmarks.decisions.recipe_pairs import ALIKE, FEWEST, SCORED, cuts, pairs
from benchmarks.decisions.recipe_variants import GRID, SHIPPED
from benchmarks.decisions.recipes import NAMES, OURS, RANKING, ROWS, USUAL, chance, common_small, rank, read, varied

BUILT_IN = ("attention residual", "ternary weights", "state space")


@pytest.mark.parametrize("source", BUILT_IN)
def test_held_out_scales_are_larger_and_common(source):
    found = pairs([source])
    assert found
    assert len({pair.key for pair in found}) == len(found)
    for pair in found:
        largest = max(scale(rows, pair.inputs).max() for rows in (pair.a, pair.b))
        assert scale(pair.held, pair.inputs).min() > largest * (1 - ALIKE)
        assert len(common_small(pair)) >= FEWEST
        assert 1 <= len(pair.held) <= SCORED
        assert (pair.held["loss_a"] != pair.held["loss_b"]).all()


def test_cuts_follow_the_factor():
    x = 2.0 ** np.arange(10)
    recipes = {
        "flat": pd.DataFrame({"n_tokens": x, "loss": 3 * x**-0.1}),
        "steep": pd.DataFrame({"n_tokens": 1.02 * x, "loss": 4 * x**-0.2}),
        "elsewhere": pd.DataFrame({"n_tokens": 1.4 * x, "loss": x**-0.2}),
    }
    (pair,) = cuts("made", "up", "loss", recipes, ("n_tokens",), (8,))
    assert (pair.first, pair.second, pair.split) == ("flat", "steep", "k=8")
    assert len(pair.a) == len(pair.b) == 7
    assert pair.held["n_tokens"].min() > 64
    # The flat recipe is ahead at the largest small scale, as 3 x^-.1 < 4 x^-.2 up to x = 17.8.
    assert rank(pair) == pytest.approx(np.log(3 * 64**-0.1 / (4 * 64**-0.2)))


def test_chance_of_independent_normals():
    rng = np.random.default_rng(0)
    a = Prediction(rng.standard_normal((4000, 1)), np.full((4000, 1), 0.5), "OK", 0.0)
    b = Prediction(1 + rng.standard_normal((4000, 1)), np.full((4000, 1), 0.5), "OK", 0.0)
    # ln y_A - ln y_B is Normal(-1, sqrt(2.5)), so A is below with probability Phi(1 / sqrt(2.5)) = .7365.
    assert chance(a, b)[0] == pytest.approx(0.7365, abs=0.01)


def made_rows(source, count, rng):
    rows = []
    for number in range(count):
        p = rng.random()
        won = rng.random() < p
        given = dict.fromkeys(NAMES, p) | {RANKING: float(p > 0.5)}
        given.pop(USUAL)
        rows.append(
            {
                **{"source": source, "cluster": f"c{number % 6}", "first": f"a{number}", "second": "b"},
                **{"metric": "loss", "split": "k=3", "beyond": 3.0, "truth": -0.1 if won else 0.1},
                **{"common": 4, "paired": True, "ok": True, "width": 0.1, "width_apart": 0.3},
                **{"pit": float(rng.random()), "p": given, "variants": [p] * len(GRID), "seconds": 0.1},
            }
        )
    return rows


def test_figures_of_a_calibrated_forecaster():
    rng = np.random.default_rng(0)
    rows = made_rows("gemstones", 3000, rng) + made_rows("overtrain", 300, rng)
    table = recipe_report.table(rows)
    ours = table[table["method"] == OURS]
    fifths = recipe_report.reliability(ours)
    np.testing.assert_allclose(fifths["stated"], [0.1, 0.3, 0.5, 0.7, 0.9], atol=0.02)
    # Standard error of a fifth: sqrt(.25 / 600) = .02.
    np.testing.assert_allclose(fifths["observed"], fifths["stated"], atol=0.06)
    assert recipe_report.figure_over(ours, "brier").value == pytest.approx(1 / 6, abs=0.01)
    page = recipe_report.section(rows)
    assert "3.0 times narrower" in page
    assert "within 7 points" in page
    pyplot.switch_backend("Agg")
    assert len(recipe_report.picture(rows)) == 2
    pyplot.close("all")


def test_numbers_of_a_source_are_chosen_on_the_others():
    rng = np.random.default_rng(0)
    rows = made_rows("gemstones", 200, rng) + made_rows("routing", 200, rng) + made_rows("overtrain", 200, rng)
    for row in rows:
        # The first variant is perfect on gemstones and useless elsewhere; the second knows half of it everywhere.
        won = float(row["truth"] < 0)
        row["variants"] = [0.5] * len(GRID)
        row["variants"][0] = won if row["source"] == "gemstones" else 0.5
        row["variants"][1] = 0.5 * (0.5 + won)
    frame = pd.DataFrame(rows).assign(weight=1.0)
    assert recipe_report.choices(frame) == {"gemstones": 1, "overtrain": 1, "routing": 1, "": 1}
    table = recipe_report.table(rows)
    assert set(table[table["method"] == OURS]["p"]) == {0.25, 0.75}


def test_luck_follows_the_binomial():
    rng = np.random.default_rng(0)
    rows = made_rows("gemstones", 2000, rng)
    ours = recipe_report.table(rows + made_rows("routing", 2000, rng))
    ours = ours[ours["method"] == OURS].assign(p=0.5)
    # 4000 independent outcomes: the one fifth is off by |Normal(0, .5 / sqrt(4000))|, median .6745 of that.
    alone = recipe_report.luck(ours.assign(number=range(len(ours))), ["number"])
    assert np.median(alone) == pytest.approx(0.6745 * 0.5 / np.sqrt(4000), rel=0.1)


def test_quadrature_says_what_a_fit_says():
    problem = pairs(["attention residual"])[0]
    fits = [
        SimpleNamespace(law=SimpleNamespace(inputs=problem.inputs), runs=SimpleNamespace(frame=rows))
        for rows in (problem.a, problem.b)
    ]
    ratio = paired.pair((problem.first, problem.second), *fits)
    fitted = ratio.predict(problem.held[list(problem.inputs)], kind="run").probability_below(1.0)
    np.testing.assert_allclose(varied(problem, ratio)[GRID.index(SHIPPED)], fitted, atol=0.02)


def test_shipped_numbers_are_those_chosen_on_all_sources():
    frame = pd.DataFrame(read(ROWS))
    frame["weight"] = 1.0 / frame.groupby(recipe_report.PAIR)["truth"].transform("size")
    assert {len(given) for given in frame["variants"]} == {len(GRID)}
    assert GRID[recipe_report.choices(frame)[""]] == SHIPPED


def test_held_out_scales_are_not_fitted():
    rng = np.random.default_rng(0)
    x = np.exp(np.linspace(0.0, 3.0, 13)) * 1e8
    tables = {}
    for name in ("a", "b"):
        # Scales of the two recipes differ by up to 4 %, and lie closer together than the tolerance of a match.
        moved = x * np.exp(rng.uniform(-0.04, 0.04, len(x)))
        tables[name] = pd.DataFrame({"n_params": moved, "loss": 3.0 * (moved / 1e8) ** -0.05})
    for factor in (1.5, 2.0, 2.3, 3.0):
        for problem in cuts("source", "cluster", "loss", tables, ("n_params",), (factor,)):
            for rows, column in ((problem.a, "loss_a"), (problem.b, "loss_b")):
                assert not set(rows["loss"]) & set(problem.held[column])
            assert max(problem.a["n_params"].max(), problem.b["n_params"].max()) < problem.held["n_params"].max()
