"""Saved fits are what ArviZ expects: its summaries, cross-validation and plots work on every component."""

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from test_numpyro import DRAWS, made_up

import bayescale as bs

GROUPS = {
    *("posterior", "unconstrained_posterior", "prior", "sample_stats", "log_likelihood"),
    *("posterior_predictive", "prior_predictive", "observed_data", "constant_data"),
}


def trees(fit):
    """The tree of each component."""
    tree = fit.to_datatree()
    return [tree[name] for name in tree.children if name.startswith("component_")] or [tree]


@pytest.mark.slow
# Constants of the prior may be larger than numbers whose squares there are.
@pytest.mark.filterwarnings("ignore:overflow encountered")
# Of few runs, single ones carry weight; that is what the warning says.
@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto distribution")
@pytest.mark.parametrize(
    ("kind", "options"), [("plain", {}), ("replicates", {"law": "saturating_power"}), ("two inputs", {})]
)
def test_arviz_reads_summarises_and_draws(kind, options, monkeypatch):
    monkeypatch.setattr(plt, "show", lambda: None)
    runs = made_up(kind)
    fit = bs.fit(runs, seed=0, **options)
    for tree in trees(fit):
        assert set(tree.children) >= GROUPS
        for group in ("log_likelihood", "posterior_predictive", "prior_predictive", "observed_data", "constant_data"):
            assert tree[group].sizes["run"] == len(runs)
        assert {"lp", "energy", "diverging", "tree_depth", "n_steps", "acceptance_rate"} <= set(tree["sample_stats"])
        with np.errstate(all="ignore"):
            table = az.summary(tree, round_to="none")
        assert fit.status is not bs.Status.OK or table["r_hat"].astype(float).max() <= 1.01
        assert np.isfinite(az.loo(tree, var_name="loss").elpd)
        for draw in (az.plot_loo_pit, az.plot_ppc_dist, az.plot_prior_posterior):
            assert draw(tree) is not None
        plt.close("all")
    assert {"inference_library", "created_at", "seed", "data_hash", "law", "priors"} <= set(fit.to_datatree().attrs)


def test_runs_give_their_names_to_the_dimension(marin, marin_post, tmp_path):
    named = bs.Runs.from_frame(pd.DataFrame(marin.frame.assign(run=[f"r{i}" for i in range(len(marin))])))
    post = bs.fit(named, seed=0, settings=bs.Nuts(draws=50, warmup=100))
    tree = post.to_datatree()
    assert tree["observed_data"]["run"].values.tolist() == named.frame["run"].tolist()
    assert "run" not in tree["constant_data"].data_vars
    assert marin_post.to_datatree()["observed_data"]["run"].values.tolist() == list(range(len(marin)))
    post.save(tmp_path / "fit.nc")
    np.testing.assert_array_equal(bs.load(tmp_path / "fit.nc").first.unconstrained, post.first.unconstrained)


@pytest.mark.slow
def test_the_prior_predicts_wider_than_the_posterior():
    (tree,) = trees(bs.fit(made_up("plain"), "saturating_power", seed=0, settings=DRAWS))
    wide, narrow = (
        np.log(tree[group]["loss"]).std(("chain", "draw")) for group in ("prior_predictive", "posterior_predictive")
    )
    assert (wide > 3 * narrow).all()
    # The prior is centred on the data and knows nothing of their order.
    middle = np.log(tree["prior_predictive"]["loss"]).median(("chain", "draw"))
    assert abs(float(middle.mean() - np.log(tree["observed_data"]["loss"]).mean())) < 0.3
