"""Allocation: closed forms, limits, costs, what a posterior adds, and refusals."""

import json
import time

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot

import bayescale as bs
from bayescale.decide.allocation import affordable, allocate
from bayescale.decide.optima import connected, lowest
from bayescale.errors import InputError
from bayescale.laws import optimum


def chinchilla(key="besiroglu2024"):
    return bs.laws.get("chinchilla").published(key)


@pytest.mark.parametrize("key", ["besiroglu2024", "hoffmann2022", "gemstones2025"])
@pytest.mark.parametrize("flops", [1e18, 5.88e23, 1e26])
def test_closed_form(key, flops):
    law = chinchilla(key)
    found = allocate(law, flops)
    params, tokens = optimum.allocation(law.constants, flops)
    # Half a percent would do for a decision; the parabola through the grid gives much more.
    np.testing.assert_allclose([found.choice["n_params"], found.choice["n_tokens"]], [params, tokens], rtol=1e-4)
    np.testing.assert_allclose(found.plug_in["n_params"], params, rtol=1e-3)
    np.testing.assert_allclose(found.mean.mean[0], law.law(params, tokens, **law.constants), rtol=1e-9)
    assert found.answer == "allocate"
    assert "no uncertainty" in found.text


def test_flat_bottom_is_where_the_loss_is_close():
    law = chinchilla()
    found = allocate(law, 1e22, regret=0.005)
    least = float(found.mean.mean[0])
    for end in found.flat:
        value = law.law(end, 1e22 / (6 * end), **law.constants)
        assert 0.7 * 0.005 < value - least <= 0.005 + 1e-9
    wider = allocate(law, 1e22, regret=0.02)
    assert wider.flat[0] < found.flat[0] < found.choice["n_params"] < found.flat[1] < wider.flat[1]


def test_serving_makes_models_smaller():
    law = chinchilla()
    found = allocate(law, 1e22, served=1e12)
    exact = optimum.optimum(law.law, law.constants, 1e22, cost=lambda N, D: 6 * N * D + 2 * N * 1e12)
    np.testing.assert_allclose(found.choice["n_params"], exact["n_params"], rtol=1e-4)
    N, D = found.choice["n_params"], found.choice["n_tokens"]
    np.testing.assert_allclose(6 * N * D + 2 * N * 1e12, 1e22, rtol=1e-9)


def test_unit_of_the_cost_changes_nothing():
    law = chinchilla()
    plain = allocate(law, 1e22)
    money = allocate(law, 1e22 * 3e-18, cost=lambda N, D: 6 * N * D * 3e-18)
    np.testing.assert_allclose(money.choice["n_params"], plain.choice["n_params"], rtol=1e-9)
    # A cost written for single numbers, with a branch that arrays refuse.
    branching = allocate(law, 1e22, cost=lambda N, D: 6 * N * D if D > 0 else 0.0)
    np.testing.assert_allclose(branching.choice["n_params"], plain.choice["n_params"], rtol=1e-9)


def test_limits_hold():
    law = chinchilla()
    small = allocate(law, 1e22, max_params=1e9)
    np.testing.assert_allclose(small.choice["n_params"], 1e9, rtol=1e-9)
    short = allocate(law, 1e22, max_tokens=5e10)
    # What the tokens leave unspent goes into parameters.
    np.testing.assert_allclose(short.choice["n_params"], 1e22 / (6 * 5e10), rtol=1e-2)
    assert short.choice["n_tokens"] <= 5e10 * (1 + 1e-9)
    long = allocate(law, 1e22, min_tokens=1e12)
    assert long.choice["n_tokens"] >= 1e12 * (1 - 1e-9)
    one = allocate(law, 1e22, min_params=2e9, max_params=2e9)
    np.testing.assert_allclose(one.choice["n_params"], 2e9, rtol=1e-9)
    free = allocate(law, 1e22)
    for found in (small, short, long, one):
        assert found.mean.mean[0] >= free.mean.mean[0] - 1e-12


def test_repeated_data_favours_parameters_less_than_fresh_data():
    law = bs.laws.get("data_constrained").published()
    scarce, plenty = (allocate(law, 1e22, unique_tokens=unique) for unique in (1e10, 1e13))
    assert scarce.choice["unique_tokens"] == 1e10
    # Data that nobody reads twice are as many as are read.
    assert plenty.choice["unique_tokens"] == plenty.choice["n_tokens"]
    assert scarce.mean.mean[0] > plenty.mean.mean[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"flops": -1.0}, "flops must be a positive number; found -1.0"),
        ({"over": ("n_parms", "n_tokens")}, "Did you mean 'n_params'"),
        ({"at": {"experts": 8}}, "no input 'experts'"),
        ({"regret": 0.0}, "regret must be a positive number"),
        ({"served": -2.0}, "served must be a number of tokens of at least 0"),
        ({"kind": "best"}, "kind must be 'mean' or 'run'"),
        ({"cost": lambda N, D: 6 * N + 0 * D}, "grow with the second input"),
        ({"min_params": 1e21}, "Raise the budget or loosen a limit"),
        ({"min_params": 1e10, "max_params": 1e9}, "Raise the budget or loosen a limit"),
        ({"min_tokens": 1e30}, "Raise the budget or loosen a limit"),
    ],
)
def test_errors_say_what_to_do(options, words):
    with pytest.raises(InputError, match=words):
        allocate(chinchilla(), **{"flops": 1e22} | options)


def test_other_inputs_are_asked_for():
    with pytest.raises(InputError, match="needs n_experts as well"):
        allocate(bs.laws.get("joint_experts").published(), 1e21)


def test_a_law_without_a_best_size_is_doubted():
    law = bs.laws.get("chinchilla")
    # Tokens that do nothing leave nothing to weigh parameters against.
    constants = dict(law.published("besiroglu2024").constants) | {"B": 1e-9}
    source = bs.laws.published.Published("flat", "", tuple(constants.items()))
    found = allocate(bs.laws.published.PublishedLaw(law, source), 1e22)
    assert found.answer == "cannot say"
    assert "the law has no best" in found.text


def test_lowest_is_exact_for_a_parabola():
    x = np.array([0.0, 0.3, 1.0, 1.7, 2.0])
    middles = np.array([[0.4], [1.1], [1.6], [-5.0], [9.0]])
    np.testing.assert_allclose(lowest(x, (x - middles) ** 2), [0.4, 1.1, 1.6, 0.0, 2.0], atol=1e-12)


def test_connected_keeps_one_stretch():
    flags = np.array([1, 0, 1, 1, 0, 1], bool)
    assert connected(flags, 2).tolist() == [False, False, True, True, False, False]
    assert not connected(flags, 1).any()


def test_affordable_uses_up_the_budget():
    first = np.array([1e8, 1e9, 1e23])
    second = affordable(lambda N, D: 6 * N * D, 1e21, first)
    np.testing.assert_allclose(second[:2], 1e21 / (6 * first[:2]), rtol=1e-9)
    assert np.isnan(second[2])


# --- With a posterior ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def posterior():
    law = chinchilla()
    rng = np.random.default_rng(0)
    N, ratio = (part.ravel() for part in np.meshgrid([5e7, 2e8, 8e8, 2e9], [8, 20, 60]))
    loss = law.law(N, ratio * N, **law.constants) * np.exp(0.002 * rng.standard_normal(len(N)))
    runs = bs.Runs.from_frame(pd.DataFrame({"n_params": N, "n_tokens": ratio * N, "loss": loss}), name="ladder")
    return bs.fit(runs, "chinchilla", seed=1)


@pytest.mark.slow
def test_choice_has_the_least_typical_loss(posterior):
    found = allocate(posterior, 3e20)
    assert found.answer == "allocate"
    table = found.table
    assert (table["excess"] >= -1e-6).all()
    assert (table["regret"] >= table["excess"] - 1e-9).all()
    assert table["flat"].any()
    assert found.flat[0] <= found.choice["n_params"] <= found.flat[1]
    assert found.plug_in_excess >= -1e-6
    assert found.plug_in["n_params"] != found.choice["n_params"]
    # Typical losses are those of the forecast, which has been checked for itself.
    row = table.iloc[len(table) // 2]
    forecast = posterior.predict(n_params=row["n_params"], n_tokens=row["n_tokens"], kind="mean")
    np.testing.assert_allclose(forecast.typical[0], row["typical"], rtol=1e-6)
    low, high = found.interval(0.9)
    assert low < high
    # Beside the data the discrepancy is known, so it may narrow the interval as well as widen it.
    assert (
        found.interval(0.9, discrepancy=True)[0] < found.choice["n_params"] < found.interval(0.9, discrepancy=True)[1]
    )
    assert found.remaining_regret >= 0


@pytest.mark.slow
def test_optima_of_draws_are_the_closed_form(posterior):
    found = allocate(posterior, 3e20)
    constants = {name: values.ravel() for name, values in posterior.draws.items()}
    params, _ = optimum.allocation(constants, 3e20)
    np.testing.assert_allclose(found.law_best, params, rtol=5e-3)


@pytest.mark.slow
def test_record_is_plain_numbers(posterior):
    found = allocate(posterior, 3e20)
    again = json.loads(json.dumps(found.to_dict()))
    assert again["choice"]["n_params"] == found.choice["n_params"]
    assert "discrepancy" in again["contains"]
    assert "Spend 3e+20 on n_params=" in str(found)
    assert len(found.to_frame()) == len(found.table)


@pytest.mark.slow
def test_far_away_the_choice_says_where_the_record_ends(posterior):
    found = allocate(posterior, 1e25)
    assert found.answer == "allocate"
    assert "times beyond the data" in found.text
    assert "reaches 16 times" in found.text
    assert "beyond the data" not in allocate(posterior, 3e20).text


@pytest.mark.slow
def test_allocation_is_quick(posterior):
    allocate(posterior, 3e20)
    begin = time.perf_counter()
    allocate(posterior, 3.1e20)
    assert time.perf_counter() - begin < 4.0


@pytest.mark.slow
def test_picture_shows_choice_and_plug_in(posterior):
    pyplot.switch_backend("Agg")
    for found in (allocate(posterior, 3e20), allocate(posterior, 1e25), allocate(chinchilla(), 1e22)):
        ax = bs.plot.isoflop(found)
        ax.figure.canvas.draw()
        labels = ax.get_legend_handles_labels()[1]
        assert any(label.startswith("choice") for label in labels)
        assert ax.get_xscale() == "log"
    pyplot.close("all")
