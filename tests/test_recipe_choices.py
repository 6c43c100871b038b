"""The benchmark of recipe choices: cuts that leak nothing, figures that add up, and a page made from rows."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot

from benchmarks import recipe_report
from benchmarks.methods import Prediction
from benchmarks.problems import scale
from benchmarks.recipe_choices import NAMES, OURS, RANKING, USUAL, chance, common_small, rank
from benchmarks.recipe_pairs import ALIKE, FEWEST, SCORED, cuts, pairs

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
                **{"pit": float(rng.random()), "p": given, "seconds": 0.1},
            }
        )
    return rows


def test_figures_of_a_calibrated_forecaster():
    rng = np.random.default_rng(0)
    rows = made_rows("gemstones", 3000, rng) + made_rows("overtrain", 300, rng)
    table = recipe_report.table(rows)
    ours = table[(table["method"] == OURS) & ~table["developed"]]
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
