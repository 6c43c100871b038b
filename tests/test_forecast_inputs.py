"""Questions about inputs that a fit lacks say what to give instead."""

import pytest

import bayescale as bs
from bayescale.forecast import query_points

SIZES = ("n_params", "n_tokens")


def test_compute_alone_does_not_say_how_it_is_split():
    for given in ((None, {"flops": 1e21}), ({"flops": 1e21}, {})):
        with pytest.raises(bs.InputError, match=r"Compute alone does not say.*--at n_params=.*--input flops"):
            query_points(SIZES, *given)


def test_parameters_and_tokens_of_a_fit_along_compute_are_turned_into_compute():
    with pytest.raises(bs.InputError, match=r"give flops \(--at flops=...\), which by 6 N D is 1.2e\+20"):
        query_points(("flops",), {"n_params": [1e9], "n_tokens": [2e10]}, {})
    with pytest.raises(bs.InputError, match=r"give flops \(--at flops=...\)\.$"):
        query_points(("flops",), {"n_params": 1e9}, {})


def test_other_unknown_inputs_are_listed():
    with pytest.raises(bs.InputError, match="Did you mean 'n_params'"):
        query_points(SIZES, None, {"n_param": 1e9, "n_tokens": 1e10})
