"""Recipes: crossings as mixtures, speed-ups, ratios at common scales, and refusals."""

import dataclasses
import itertools
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot

import bayescale as bs
from bayescale.decide.course import relative_losses
from bayescale.decide.crossing import crossing_of, factor_needed, quantiles
from bayescale.decide.paired import common_runs, nearest_scales, pair
from bayescale.decide.recipes import compare, crossover, speedup
from bayescale.decide.trust import Caveat
from bayescale.errors import InputError
from bayescale.laws.optimum import crossing

# --- Closed forms ---------------------------------------------------------------------------------------------


def test_two_power_laws_cross_where_algebra_says():
    place = np.exp(crossing({"A": 4.0, "c": 0.05}, {"A": 6.0, "c": 0.07}))
    np.testing.assert_allclose(place, 6.38e8, rtol=1e-3)
    u = np.linspace(np.log(1e5), np.log(1e12), 65)
    difference = (np.log(6.0) - 0.07 * u) - (np.log(4.0) - 0.05 * u)
    found = crossing_of(difference[None], u, names=("steep", "flat"))
    assert found.p_overtakes == 1.0
    np.testing.assert_allclose(found.point[0.5], place, rtol=1e-9)


def test_uncertain_slopes_make_the_crossing_very_uncertain():
    # Quantiles of a normal slope gap, so that no luck is involved.
    from scipy.special import ndtri

    gap = 0.02 + 0.005 * ndtri((np.arange(20000) + 0.5) / 20000)
    places = np.exp(crossing({"A": 4.0, "c": 0.05}, {"A": 6.0, "c": 0.05 + gap}))
    np.testing.assert_allclose(np.quantile(places, [0.05, 0.95]), [1.7e6, 9.0e14], rtol=0.03)
    u = np.linspace(np.log(1e2), np.log(1e30), 400)
    found = crossing_of(np.log(1.5) - gap[:, None] * u, u)
    # A few draws never cross in this range, which the mixture counts apart: its quantiles are of those that do.
    assert 0.0 < found.p_never < 0.01
    crossed = np.quantile(places, (1 - found.p_never) * np.array([0.05, 0.95]))
    np.testing.assert_allclose([found.point[0.05], found.point[0.95]], crossed, rtol=0.02)


def test_speedup_of_a_power_law():
    grid = np.linspace(-7.0, 7.0, 141)
    curve = -0.05 * np.broadcast_to(grid, (3, 141))
    found = factor_needed(np.array([0.02, -0.02, 0.0]), curve, grid)
    np.testing.assert_allclose(found, [0.4, -0.4, 0.0], atol=1e-9)


def test_speedup_below_a_floor_is_infinite():
    grid = np.linspace(-7.0, 7.0, 141)
    floor = np.log(0.9 + 0.1 * np.exp(-0.5 * grid))[None]
    assert factor_needed(np.array([0.2]), floor, grid)[0] == np.inf
    assert factor_needed(np.array([-2.0]), floor, grid)[0] == -np.inf
    assert quantiles(np.array([1.0, 2.0, np.inf]))[0.95] == np.inf


@given(
    st.lists(st.lists(st.floats(-1, 1), min_size=6, max_size=6), min_size=1, max_size=20),
    st.floats(0.1, 1e6),
)
def test_crossings_are_symmetric_and_have_no_unit(rows, unit):
    draws = np.array(rows) + 1e-3 * np.array([1, -1, 1, -1, 1, 1])
    # Equal curves count for neither, so exact zeros are moved away.
    draws = np.where(np.abs(draws) < 1e-6, 1e-3, draws)
    x = np.linspace(0.0, 5.0, 6)
    there, back = crossing_of(draws, x), crossing_of(-draws, x)
    np.testing.assert_allclose(
        [there.p_always, there.p_overtakes, there.p_several],
        [back.p_never, back.p_falls_behind, back.p_several],
        atol=1e-12,
    )
    total = there.p_always + there.p_never + there.p_overtakes + there.p_falls_behind
    np.testing.assert_allclose(total, 1.0, atol=1e-12)
    assert there.point == back.point_behind
    moved = crossing_of(draws, x + np.log(unit))
    np.testing.assert_allclose(list(moved.point.values()), [unit * v for v in there.point.values()], rtol=1e-9)


def test_deadline():
    x = np.linspace(0.0, 4.0, 5)
    draws = np.array([-np.ones(5), np.ones(5), 1.5 - x, 2.5 - x])
    found = crossing_of(draws, x, deadline=float(np.exp(2.0)))
    assert found.p_before_deadline == 0.5
    assert "by 7.39" in found.text
    with pytest.raises(InputError, match="deadline must lie in the range"):
        crossing_of(draws, x, deadline=1e9)


def test_crossing_needs_draws_by_points():
    with pytest.raises(InputError, match=r"shape \(draw, point\)"):
        crossing_of(np.zeros(4), np.arange(4.0))
    with pytest.raises(InputError, match="increasing axis"):
        crossing_of(np.zeros((2, 3)), np.array([0.0, 2.0, 1.0]))


def test_standings_keep_the_width_of_pairs():
    rng = np.random.default_rng(0)
    for count in (2, 3, 5):
        names = "abcde"[:count]
        gaps = {(i, j): rng.standard_normal((20000, 1)) for i, j in itertools.combinations(names, 2)}
        found = relative_losses(names, gaps, True)
        np.testing.assert_allclose((found["a"] - found["b"]).std(), 1.0, rtol=0.03)
    only = {("a", "b"): np.array([[0.3], [-0.1]])}
    found = relative_losses("ab", only, True)
    np.testing.assert_allclose(found["a"] - found["b"], only["a", "b"])


def test_scales_are_matched_once():
    x, y = np.array([[1e8], [1e9], [1e10]]), np.array([[1.05e9], [0.98e9], [2e10]])
    assert nearest_scales(x, y) == [(1, 1)]


# --- With posteriors ------------------------------------------------------------------------------------------


def recipe(loss, name, sizes=(1e8, 2e8, 4e8, 8e8), **columns):
    table = pd.DataFrame({"n_params": sizes, "loss": loss(np.asarray(sizes)), **columns})
    return bs.Runs.from_frame(table, inputs=("n_params",), name=name)


def curve(x):
    return 1.7 + 400.0 * x**-0.34


@pytest.fixture(scope="module")
def fits():
    """Three recipes at common sizes, 1 and 2 % apart, with a wiggle that they share."""
    wiggle = np.exp(0.004 * np.array([1.0, -1.0, -1.0, 1.0]))
    noise = np.random.default_rng(3).standard_normal((3, 4))
    runs = [
        recipe(lambda x, i=i: curve(x) * wiggle * np.exp(-0.01 * i + 0.0005 * noise[i]), name)
        for i, name in enumerate("ABC")
    ]
    posteriors = bs.fit_many(runs, seed=0)
    return dict(zip("ABC", posteriors, strict=True))


@pytest.mark.slow
def test_ratio_is_far_sharper_than_separate_fits(fits):
    two = {name: fits[name] for name in "AB"}
    paired = compare(two, at={"n_params": 2e9})
    apart = compare(two, at={"n_params": 2e9}, pairing="independent")
    widths = [found.duels[0].difference[0.95] - found.duels[0].difference[0.05] for found in (paired, apart)]
    assert widths[1] > 3 * widths[0]
    assert paired.answer == "B"
    assert paired.p_best["B"] > 0.75
    assert "common scales" in paired.text
    assert "as if independent, as asked" in apart.text
    duel = paired.duel("A", "B")
    assert duel.common == 4
    assert 0.5 < 1 - duel.p_first_run <= 1 - duel.p_first + 0.01
    assert paired.regret["B"] < paired.regret["A"]
    assert duel.speedup[0.5] > 1
    with pytest.raises(InputError, match="there is A against B"):
        paired.duel("B", "A")


@pytest.mark.slow
def test_exchanging_recipes_exchanges_answers(fits):
    there = compare({"A": fits["A"], "B": fits["B"]}, at={"n_params": 2e9}, equal=0.005)
    back = compare({"B": fits["B"], "A": fits["A"]}, at={"n_params": 2e9}, equal=0.005)
    a, b = there.duels[0], back.duels[0]
    np.testing.assert_allclose(a.p_first, 1 - b.p_first, atol=1e-12)
    np.testing.assert_allclose([a.p_equal, a.p_first_clearly], [b.p_equal, b.p_second_clearly], atol=0.06)
    np.testing.assert_allclose(a.p_equal + a.p_first_clearly + a.p_second_clearly, 1.0)
    assert there.answer == back.answer == "B"


@pytest.mark.slow
def test_unit_of_the_input_changes_nothing(fits):
    tokens = {}
    for name in "AB":
        frame = fits[name].runs.frame
        table = pd.DataFrame({"n_tokens": 20 * frame["n_params"], "loss": frame["loss"]})
        tokens[name] = bs.fit(bs.Runs.from_frame(table, inputs=("n_tokens",), name=name), seed=0)
    plain = compare({name: fits[name] for name in "AB"}, at={"n_params": 2e9}).duels[0]
    other = compare(tokens, at={"n_tokens": 4e10}).duels[0]
    np.testing.assert_allclose(plain.p_first, other.p_first, atol=1e-6)
    np.testing.assert_allclose(plain.p_first_run, other.p_first_run, atol=1e-6)


@pytest.mark.slow
def test_saved_posteriors_give_the_same_answer(fits, tmp_path):
    for name in "AB":
        fits[name].save(tmp_path / f"{name}.nc")
    again = {name: bs.load(tmp_path / f"{name}.nc") for name in "AB"}
    first, second = (compare(two, at={"n_params": 2e9}) for two in ({n: fits[n] for n in "AB"}, again))
    # A fit reads constants from coordinates within its own program, a file in another one: last bits differ.
    one, other = (
        json.loads(json.dumps(found.to_dict()), parse_float=lambda text: f"{float(text):.9g}")
        for found in (first, second)
    )
    assert one == other
    json.dumps(first.to_dict())
    assert len(first.to_frame()) == 1


@pytest.mark.slow
def test_three_recipes(fits):
    found = compare(fits, at={"n_params": 2e9}, range=(1e9, 4e9))
    assert found.answer == "C"
    np.testing.assert_allclose(sum(found.p_best.values()), 1.0)
    assert [len(found.duels), len(found.crossings)] == [3, 3]
    assert min(found.regret.values()) >= 0


@pytest.mark.slow
@pytest.mark.slow
def test_what_the_fits_cannot_tell_apart_is_said_so(fits):
    name, post = next(iter(fits.items()))
    other = bs.fit(post.runs.select(np.ones(len(post.runs), bool)), seed=1)
    point = {"n_params": 3.2e9}
    same = compare({name: post, "same": other}, at=point)
    assert set(same.tied) == {name, "same"}
    assert f"cannot tell {same.best} and" in same.text and "Choose" not in same.text
    # Half-way, in log scale, between the largest run and the question.
    assert same.next_point == pytest.approx(np.sqrt(post.runs.frame["n_params"].max() * 3.2e9))
    assert f"One more run of each at n_params {same.next_point:.3g}" in same.text
    assert json.loads(json.dumps(same.to_dict()))["tied"] == list(same.tied)
    worse = bs.fit(bs.Runs.from_frame(post.runs.frame.assign(loss=lambda table: 1.05 * table["loss"])), seed=0)
    clear = compare({name: post, "worse": worse}, at=point)
    assert clear.tied == () and clear.text.startswith(f"Choose {name}")


def test_far_away_the_answer_says_where_the_record_ends(fits):
    two = {name: fits[name] for name in "AB"}
    found = compare(two, at={"n_params": 1e11}, range=(1e9, 1e11))
    assert found.answer == found.best
    assert "reaches 16 times" in found.text and "would bring it within 16 times" in found.text
    far = max(fit.ratio(np.array([[1e11]]))[0] for fit in two.values())
    assert found.reach == pytest.approx(far)
    assert f"{far:.3g} times beyond the data" in found.text.splitlines()[0]
    assert "beyond the data" not in dataclasses.replace(found, reach=2.0).text.splitlines()[0]
    assert not speedup(*two.values(), at={"n_params": 1e11}).text.startswith("Cannot say")


@pytest.mark.slow
def test_cost_with_a_rate_of_its_own(fits):
    two = {name: fits[name] for name in "AB"}
    plain = compare(two, at={"n_params": 2e9}).duels[0]
    same = compare(two, cost=100.0, rates={"A": (2e7, 0.0), "B": (2e7, 0.0)}, unit="hours")
    np.testing.assert_allclose(same.duels[0].p_first, plain.p_first, atol=0.03)
    np.testing.assert_allclose(same.at["A"]["n_params"], 2e9)
    slow = compare(two, cost=100.0, rates={"A": (2e7, 0.0), "B": (0.7e7, 0.0)}, unit="hours").duels[0]
    assert slow.difference[0.5] < plain.difference[0.5]
    unsure = compare(two, cost=100.0, rates={"A": (2e7, 0.4), "B": (2e7, 0.4)}, unit="hours").duels[0]
    assert unsure.difference[0.95] - unsure.difference[0.05] > plain.difference[0.95] - plain.difference[0.05]
    path = compare(two, cost=100.0, paths=dict.fromkeys("AB", lambda c: {"n_params": 2e7 * c}), unit="dollars")
    np.testing.assert_allclose(path.duels[0].p_first, plain.p_first, atol=0.03)
    assert path.axis == "dollars"


@pytest.mark.slow
def test_crossover_is_a_part_of_compare(fits):
    found = crossover(fits["A"], fits["B"], range=(1e9, 4e9), deadline=2e9)
    assert found.p_never > 0.6
    assert found.p_before_deadline <= found.p_always + found.p_overtakes + 1e-12
    assert json.dumps(found.to_dict())
    pyplot.switch_backend("Agg")
    ax = bs.plot.crossover(found)
    ax.figure.canvas.draw()
    assert any("B throughout" in text.get_text() for text in ax.texts)
    pyplot.close("all")


def unfitted(runs):
    """What `common_runs` looks at where scales agree exactly."""
    return SimpleNamespace(runs=runs, law=SimpleNamespace(inputs=runs.inputs))


def test_common_runs():
    a, b = (unfitted(recipe(lambda x, shift=shift: shift * curve(x), "R")) for shift in (1.0, 0.99))
    np.testing.assert_allclose(common_runs(a, b)["loss"], 1 / 0.99, rtol=1e-12)
    few = pair(("A", "B"), a, unfitted(recipe(curve, "B", (1e8, 3e8, 8e8))))
    assert few.posterior is None
    assert few.common == 2
    assert "share 2 scales, fewer than 3" in few.says


def test_runs_are_joined_by_seed():
    seeds = np.tile([0, 1], 4)
    sizes = np.repeat([1e8, 2e8, 4e8, 8e8], 2)
    shared = np.exp(0.01 * np.random.default_rng(0).standard_normal(8))
    columns = {"seed": seeds, "run": [f"r{i}" for i in range(8)]}
    a = unfitted(recipe(lambda x: curve(x) * shared, "A", sizes, **columns))
    b = unfitted(recipe(lambda x: 0.99 * curve(x) * shared, "B", sizes, **columns))
    table = common_runs(a, b)
    assert len(table) == 8
    np.testing.assert_allclose(table["loss"], 1 / 0.99, rtol=1e-12)


@pytest.mark.slow
def test_errors_say_what_to_do(fits):
    two = {name: fits[name] for name in "AB"}
    cases = [
        ({"A": fits["A"]}, {}, "Two or more recipes are needed; found 1: A"),
        (two, {}, "The point in question lacks n_params"),
        (two, {"at": {"n_parms": 1e9}}, "Did you mean 'n_params'"),
        (two, {"at": {"n_params": -1.0}}, "must be positive and finite; found -1.0"),
        (two, {"at": {"n_params": 1e9}, "range": (2.0, 1.0)}, "the smaller first"),
        (two, {"at": {"n_params": 1e9}, "deadline": 1e9}, "deadline also needs range"),
        (two, {"at": {"n_params": 1e9}, "pairing": "no"}, "pairing must be"),
        (two, {"at": {"n_params": 1e9}, "equal": -1.0}, "equal must be"),
        (two, {"at": {"n_params": 1e9}, "axis": "flops"}, "There is no input 'flops'"),
        (two, {"at": {"n_params": 1e9}, "cost": 1.0}, "needs rates="),
        (two, {"rates": {"A": (1.0, 0.0), "B": (1.0, 0.0)}}, "needs the point in question as cost="),
        (two, {"cost": 1.0, "rates": {"A": (1.0, 0.0)}}, r"rates \(--rate\) must name every recipe, A, B"),
        (two, {"cost": 1.0, "rates": {"A": (-1.0, 0.0), "B": (1.0, 0.0)}}, "must be a positive rate"),
        (two, {"cost": 1.0, "paths": dict.fromkeys("AB", lambda c: {})}, "must return n_params"),
    ]
    for posteriors, options, words in cases:
        with pytest.raises(InputError, match=words):
            compare(posteriors, **options)


def test_large_factors_have_no_exponent(marin_post):
    found = bs.decide.compare({"a": marin_post, "b": marin_post}, at={"flops": 1e21}, pairing="independent", seed=0)
    duel = dataclasses.replace(found.duels[0], speedup={0.05: 1.234, 0.5: 347.0, 0.95: float("inf")}, caveats=())
    assert duel.speedup_text == "350x the cost (90 %: 1.23x to more than 1,000x)"
    assert max(map(len, found.text.splitlines()[:5])) < 140


def test_equal_reasons_of_recipes_are_told_once(marin_post):
    found = bs.decide.compare({"a": marin_post, "b": marin_post}, at={"flops": 1e21}, pairing="independent", seed=0)
    doubt = (Caveat("odd", "Both are odd.", None, ""),)
    text = dataclasses.replace(found, caveats={"a": doubt, "b": doubt}).text
    assert text.splitlines()[1:] == [f"a, b: {doubt[0]}"]
