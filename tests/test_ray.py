"""Ladders along one ray: which designs are one, what is fitted, and what lies off the ray."""

import re

import numpy as np
import pandas as pd
import pytest
from conftest import call, positions

import bayescale as bs
from bayescale.cli import main
from bayescale.data.ray import find_ray
from bayescale.decide.trust import caveats
from bayescale.errors import Status
from bayescale.posterior.track_record import entry

NAMES = ("n_params", "n_tokens")
SHORT = {"method": "nuts", "settings": bs.Nuts(50, 50, 2)}
"""For fits of which only the law is looked at."""


def ladder(ratio=20.0, power=1.0, sizes=(6e7, 1.5e8, 3e8, 5.3e8), seeds=(3, 2, 2, 1)):
    n = np.repeat(sizes, seeds)
    noise = 0.003 * np.random.default_rng(1).standard_normal(len(n))
    d = ratio * sizes[0] * (n / sizes[0]) ** power
    seed = np.concatenate([np.arange(count) for count in seeds])
    loss = (1.62 + 310 * n**-0.33 + 420 * d**-0.29) * np.exp(noise)
    return pd.DataFrame({"n_params": n, "n_tokens": d, "seed": seed, "loss": loss})


def test_what_is_a_ray():
    assert find_ray(ladder(), NAMES).text == "n_tokens = 20 n_params"
    assert find_ray(ladder(power=1.5), NAMES).powers[1] == pytest.approx(1.5)
    # Rounded as tables print it.
    rounded = ladder().round({"n_tokens": -8})
    assert find_ray(rounded, NAMES).powers == (1.0, 1.0)
    grid = pd.DataFrame([(n, d) for n in (1e8, 2e8, 4e8) for d in (2e9, 4e9, 8e9)], columns=NAMES)
    assert find_ray(grid, NAMES) is None
    valley = pd.DataFrame({"n_params": [1e8, 2e8, 4e8], "n_tokens": [8e9, 4e9, 2e9]})
    assert find_ray(valley, NAMES) is None
    one_moves = pd.DataFrame({"n_params": [1e8, 2e8, 4e8], "n_tokens": [8e9] * 3})
    assert find_ray(one_moves, NAMES) is None
    third = ladder().assign(experts=8.0)
    assert find_ray(third, (*NAMES, "experts")).text == "n_tokens = 20 n_params, experts = 8"


@pytest.fixture(scope="module")
def fitted():
    return bs.fit(bs.Runs.from_frame(ladder()), seed=0)


@pytest.mark.long
@pytest.mark.slow
def test_a_ladder_with_seeds_is_fitted_along_its_ray(fitted):
    assert fitted.status is Status.OK
    assert fitted.law.inputs == ("n_params",)
    text = str(fitted)
    assert "n_tokens = 20 n_params" in text
    assert "chinchilla_outer" in text
    one = bs.fit(bs.Runs.from_frame(ladder(), inputs=["n_params"]), seed=0)
    assert np.array_equal(positions(fitted), positions(one))
    everything = bs.fit(bs.Runs.from_frame(ladder()), "chinchilla_outer", seed=0, **SHORT)
    assert everything.law.inputs == NAMES


@pytest.mark.slow
def test_questions_on_the_ray_may_name_any_input(fitted):
    asked = [{"n_params": 2e9}, {"n_tokens": 4e10}, {"flops": 6 * 2e9 * 4e10}, {"n_params": 2e9, "n_tokens": 4e10}]
    forecasts = [fitted.predict(**question) for question in asked]
    for forecast in forecasts:
        assert forecast.points.iloc[0].to_dict() == pytest.approx({"n_params": 2e9, "n_tokens": 4e10})
        assert forecast.location == pytest.approx(forecasts[0].location)
    # A point slightly beside the ray is the one half-way between what its two inputs say.
    beside = fitted.predict(n_params=2e9, n_tokens=4.4e10)
    assert beside.location == pytest.approx(fitted.predict(n_params=2e9 * 1.1**0.5).location)
    decision = bs.decide.go(fitted, 2.2, cost=1.0, value=2.0, n_params=2e9, n_tokens=4e10)
    assert decision.answer != "cannot say"
    assert "n_tokens=4e+10" in decision.text


@pytest.mark.slow
def test_plans_and_pilots_on_the_ray_may_name_any_input(fitted):
    low, high = {"n_params": 6e7, "n_tokens": 1.2e9}, {"n_params": 1e9, "n_tokens": 2e10}
    ends = [
        (low, high),
        ({"flops": 6 * 6e7 * 1.2e9}, {"flops": 6 * 1e9 * 2e10}),
        ({"n_tokens": 1.2e9}, {"n_tokens": 2e10}),
    ]
    found = [bs.decide.power(fitted, bs.decide.ladders(*pair, [4]), width=0.05, at={"n_params": 2e9}) for pair in ends]
    assert all(power.frame["power"][0] == found[0].frame["power"][0] for power in found)
    with pytest.raises(bs.InputError, match="one ray"):
        bs.decide.power(fitted, {"off": pd.DataFrame([{"n_params": 1e9, "n_tokens": 1e12}])}, width=0.05, n_params=2e9)
    by_tokens = pd.DataFrame({"n_tokens": [2e10], "cost": [0.1]})
    decision = bs.decide.go(fitted, 2.2, cost=1.0, value=2.0, pilots=by_tokens, n_params=2e9)
    assert decision.pilots.frame["n_params"][0] == pytest.approx(1e9)


def test_departures_are_stated_at_the_first_input():
    ray = find_ray(ladder(power=1.5), NAMES)
    there = float(ray.inputs(3e8)["n_tokens"].iloc[0])
    said = ray.departure({"n_params": 3e8, "n_tokens": there / 7})
    assert said.startswith("7 (at n_params=3e+08 n_tokens is ")


@pytest.mark.slow
def test_the_ends_of_a_ray_are_inside_and_below_it_is_said(fitted):
    for row in (fitted.runs.frame.iloc[0], fitted.runs.frame.iloc[-1]):
        assert " the data]" not in str(fitted.predict(n_params=row["n_params"], n_tokens=row["n_tokens"]))
        assert fitted.predict(n_tokens=row["n_tokens"]).ratio[0] == 1.0
    assert "[1,000x below the data]" in str(fitted.predict(n_params=6e7 / 1e3**0.5))
    ax = bs.plot.intervals(fitted)
    said = " ".join(text.get_text() for text in ax.texts).replace("\n", " ")
    assert "up to 100x the compute" in said and "beyond the data" not in said


@pytest.mark.slow
def test_questions_off_the_ray_say_what_would_be_needed(fitted):
    off = {"n_params": 2e9, "n_tokens": 1e12}
    with pytest.raises(
        bs.InputError, match=r"one ray.*factor 25 \(n_tokens / n_params is 500, not 20\).*Add small runs off the ray"
    ):
        fitted.predict(**off)
    (caveat,) = [found for found in caveats(fitted, off) if found.code == "one_ray"]
    # As far off the ray as the question: the run has 25 times the tokens that the ray has at its parameters.
    assert caveat.run["n_tokens"] / caveat.run["n_params"] == pytest.approx(500.0)
    assert "factor 25 (" in caveat.text
    assert bs.decide.go(fitted, 2.2, **off).answer == "cannot say"
    with pytest.raises(bs.InputError, match=r"one ray.*cannot tell how to split"):
        bs.decide.allocate(fitted, 1e21)


@pytest.mark.slow
@pytest.mark.oldest
def test_a_saved_ladder_keeps_its_ray(fitted, tmp_path):
    fitted.save(tmp_path / "fit.nc")
    loaded = bs.load(tmp_path / "fit.nc")
    assert loaded.ray == fitted.ray
    assert loaded.predict(flops=1e21).location == pytest.approx(fitted.predict(flops=1e21).location)


@pytest.mark.long
@pytest.mark.slow
def test_recipes_on_rays_are_compared_along_them(fitted):
    other = bs.fit(bs.Runs.from_frame(ladder().assign(loss=lambda t: 0.98 * t["loss"])), seed=0)
    both = {"A": fitted, "B": other}
    found = bs.decide.compare(both, at={"n_params": 7e9, "n_tokens": 1.4e11})
    assert found.best == "B"
    assert found.p_best["B"] > 0.9
    with pytest.raises(bs.InputError, match="one ray"):
        bs.decide.compare(both, at={"n_params": 7e9, "n_tokens": 1.4e13})
    elsewhere = bs.fit(bs.Runs.from_frame(ladder(ratio=40.0)), seed=0)
    with pytest.raises(bs.InputError, match="different rays"):
        bs.decide.compare({"A": fitted, "C": elsewhere}, at={"flops": 1e22})


@pytest.mark.long
@pytest.mark.slow
def test_a_backtest_takes_a_family_for_what_all_its_inputs_are():
    whole = bs.backtest(bs.Runs.from_frame(ladder()), ratio=4, seed=0, **SHORT)
    assert set(whole.to_frame()["law"]) == {"plateau_power"}
    # The training rows lie on a ray, the held-out one does not.
    extra = pd.DataFrame({"n_params": [3e9], "n_tokens": [6e12], "seed": [0], "loss": [2.0]})
    grid = bs.backtest(bs.Runs.from_frame(pd.concat([ladder(), extra])), largest=1, seed=0, **SHORT)
    assert set(grid.to_frame()["law"]) == {"chinchilla_outer"}


@pytest.mark.slow
def test_the_ray_is_explained_once_and_then_named(fitted, tmp_path, capsys):
    posterior = fitted
    first, second = (main.described(posterior, set(), again) for again in (False, True))
    assert "All runs lie on one ray" in first and "Name a law" in first
    (line,) = [line for line in second.splitlines() if " ray " in line]
    assert line.startswith("info: Fitted along one ray (") and len(line) < 120
    posterior.save(tmp_path / "fit.nc")
    assert call("predict", tmp_path / "fit.nc", "--at", "n_params=1e9") == 0
    err = capsys.readouterr().err
    assert line in err.splitlines() and "All runs lie on one ray" not in err


@pytest.mark.slow
def test_distance_and_cost_are_those_of_compute_whichever_input_is_fitted(fitted):
    frame = ladder().assign(flops=lambda table: 6.0 * table["n_params"] * table["n_tokens"])
    control = bs.fit(bs.Runs.from_frame(frame, inputs=["flops"]), seed=0)
    largest = float(frame["flops"].max())
    for factor in (10.0, 300.0):
        at = {"flops": factor * largest}
        one, other = (bs.decide.go(fit, 2.0, cost=1e6, value=3e6, at=at) for fit in (fitted, control))
        np.testing.assert_allclose(one.pilots.frame["cost"], other.pilots.frame["cost"], rtol=1e-6)
        assert entry(fitted, one.at).factor == pytest.approx(entry(control, other.at).factor)
        assert entry(fitted, one.at).factor == pytest.approx(factor)
    # The run that brings a far question within reach is the same one.
    named = [re.search(r"A run at \w+=([\d.e+]+)", " ".join(answer.remarks)) for answer in (one, other)]
    size, compute = (float(found[1]) for found in named)
    assert 6.0 * 20.0 * size**2 == pytest.approx(compute, rel=0.02)
    assert compute == pytest.approx(300.0 / 16.0 * largest, rel=0.01)
