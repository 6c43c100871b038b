"""Questions about inputs that a fit lacks say what to give instead; measurements have errors of their own."""

import numpy as np
import pandas as pd
import pytest

import bayescale as bs
from bayescale.forecast import Forecast, query_points

SIZES = ("n_params", "n_tokens")


def test_compute_alone_does_not_say_how_it_is_split():
    for given in ((None, {"flops": 1e21}), ({"flops": 1e21}, {})):
        with pytest.raises(bs.InputError, match=r"Compute alone does not determine.*--at n_params=.*--input flops"):
            query_points(SIZES, *given)


def test_parameters_and_tokens_of_a_fit_along_compute_are_turned_into_compute():
    with pytest.raises(bs.InputError, match=r"give flops \(--at flops=...\), which by 6 N D is 1.2e\+20"):
        query_points(("flops",), {"n_params": [1e9], "n_tokens": [2e10]}, {})
    with pytest.raises(bs.InputError, match=r"give flops \(--at flops=...\)\.$"):
        query_points(("flops",), {"n_params": 1e9}, {})


def test_other_unknown_inputs_are_listed():
    with pytest.raises(bs.InputError, match="Did you mean 'n_params'"):
        query_points(SIZES, None, {"n_parmas": 1e9, "n_tokens": 1e10})


@pytest.mark.parametrize(
    "given", [{"params": 1e9, "tokens": 1e10}, {"N": 1e9, "D": 1e10}, {"n_params": 1e9, "train_tokens": 1e10}]
)
def test_inputs_may_be_spelt_as_in_tables_of_runs(given):
    for points in (query_points(SIZES, None, given), query_points(SIZES, pd.DataFrame([given]), {})):
        assert points.to_dict("list") == {"n_params": [1e9], "n_tokens": [1e10]}


@pytest.mark.parametrize(
    "given",
    [
        {"params": 1e9, "model_size": 2e9, "n_tokens": 1e10},
        {"params_b": 1.0, "n_tokens": 1e10},
        {"n_params": 1e9, "params": 1e9, "n_tokens": 1e10},
    ],
)
def test_spellings_that_may_mean_more_than_one_thing_are_refused_with_all_names(given):
    with pytest.raises(bs.InputError, match=r"Unknown input.*Known names: flops, n_params, n_tokens"):
        query_points(SIZES, None, given, others=("flops",))


def rates(medians, points=2000):
    """A forecast of rates whose draws are all alike: what a measurement adds is all that spreads."""
    middle = np.log(np.asarray(medians, float))
    draws = np.broadcast_to(middle, (2, points, len(middle)))
    flat = draws.reshape(-1, len(middle))
    table = pd.DataFrame({"flops": np.ones(len(middle))})
    return Forecast(table, "run", flat, np.zeros(flat.shape), draws, np.ones(len(middle)))


def test_items_of_a_rate_spread_its_measurement_as_counts_do():
    rate, items = np.array([0.3, 0.3, 0.6]), np.array([100.0, 10_000.0, 1000.0])
    forecast = rates(rate).measured(items=items)
    counts = np.random.default_rng(0).binomial(items.astype(int), rate, (100_000, 3)) / items
    np.testing.assert_allclose(forecast.draws.reshape(-1, 3).std(0), counts.std(0), rtol=0.06)
    low, high = forecast.interval(0.9)
    np.testing.assert_allclose(low, np.quantile(counts, 0.05, axis=0), rtol=0.04)
    np.testing.assert_allclose(high, np.quantile(counts, 0.95, axis=0), rtol=0.04)
    np.testing.assert_allclose(forecast.scale[0], rates(rate).measured(np.sqrt(rate * (1 - rate) / items)).scale[0])


def test_measurements_that_cannot_be_are_refused():
    for options in ({}, {"value_se": 0.1, "items": 10}):
        with pytest.raises(bs.InputError, match=r"value_se= \(--value-se\), the standard error.*items= \(--items\)"):
            rates([0.3]).measured(**options)
    with pytest.raises(bs.InputError, match=r"only for a rate below 1; found a response of 2\.5"):
        rates([2.5]).measured(items=100)
    with pytest.raises(bs.InputError, match="one for each point; found 2 for 1 point"):
        rates([0.5]).measured(items=[10, 20])
