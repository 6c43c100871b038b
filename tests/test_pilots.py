"""Pilots: value of information against closed forms and brute force, and what a ranking must get right."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import FEW

import bayescale as bs
from bayescale.decide.information import information, sample_information
from bayescale.decide.outcomes import joint_draws
from bayescale.decide.pilots import below_error
from bayescale.decide.utility import make_utility, normal_information
from bayescale.errors import InputError

AT = {"flops": 1e21}


def normal_worlds(size, seed, left):
    """A target N(2, .03^2) and a pilot that leaves a standard deviation of `left`."""
    rng = np.random.default_rng(seed)
    y = 2.0 + 0.03 * rng.standard_normal(size)
    noise = 1.0 / np.sqrt(1.0 / left**2 - 1.0 / 0.03**2)
    return y, y + noise * rng.standard_normal(size)


def test_regression_meets_the_closed_form():
    # The pilot halves the standard deviation: EVSI = .006123.
    found = []
    for seed in range(4):
        y, shown = normal_worlds(100_000, seed, 0.015)
        found.append(sample_information(2.01 - y, y, shown[:, None]).evsi)
    assert normal_information(2.0, 0.03, 2.01, 0.015) == pytest.approx(0.006123, abs=1e-6)
    assert np.mean(found) == pytest.approx(0.006123, rel=0.02)


def test_information_meets_the_closed_form():
    y, shown = normal_worlds(100_000, 0, 0.015)
    assert information(y, shown[:, None]) == pytest.approx(np.log(2.0), rel=0.02)
    # Two pilots alike carry the information of one with half the noise.
    rng = np.random.default_rng(1)
    y = rng.standard_normal(100_000)
    two = y[:, None] + rng.standard_normal((100_000, 2))
    assert information(y, two) == pytest.approx(0.5 * np.log(3.0), rel=0.03)


def test_a_pilot_that_says_nothing_is_worth_nothing():
    rng = np.random.default_rng(2)
    y = 2.0 + 0.03 * rng.standard_normal(20_000)
    value = sample_information(2.01 - y, y, rng.standard_normal((20_000, 1)))
    assert value.evsi < 0.01 * normal_information(2.0, 0.03, 2.01)
    assert information(y, rng.standard_normal((20_000, 1))) < 1e-3


def test_no_pilot_is_worth_more_than_knowing_the_outcome(marin_post):
    ranking = bs.decide.next_run(marin_post, target=2.6, cost=1.0, value=2.0, **AT)
    assert (ranking.frame["evsi"] <= ranking.evpi).all()
    assert (ranking.frame["evsi"] >= 0).all()
    assert (ranking.frame["sd_after"] <= ranking.sd_now).all()


def test_nearer_pilots_say_more_and_known_runs_nothing(marin_post):
    candidates = pd.DataFrame({"flops": [1e18, 3e20, 5e20, 9e20]})
    frame = bs.decide.next_run(marin_post, candidates, **AT).frame.set_index("flops").sort_index()
    assert frame["information"].is_monotonic_increasing
    # Another seed of a run teaches what its seed hid, next to nothing; at 1e18 nothing at all.
    assert frame.loc[1e18, "information"] < 0.01
    assert frame.loc[3e20, "information"] < 0.1 < frame.loc[5e20, "information"]
    assert frame["kind"].tolist() == ["seed", "seed", "size", "size"]


@pytest.mark.long
def test_pilots_on_the_ray_say_nothing_off_it():
    rng = np.random.default_rng(0)
    n = np.geomspace(1e8, 3e9, 6)
    law = bs.LAWS["chinchilla"].published("besiroglu2024")
    loss = law.predict(n_params=n, n_tokens=20 * n).draws[0, 0] * np.exp(0.002 * rng.standard_normal(6))
    runs = bs.Runs.from_frame(pd.DataFrame({"n_params": n, "n_tokens": 20 * n, "loss": loss}))
    candidates = pd.DataFrame({"n_params": [1e9, 1e8], "n_tokens": [2e10, 5e10]})
    ladder = bs.fit(runs, seed=0, settings=FEW)
    with pytest.raises(bs.InputError, match="one ray"):
        bs.decide.next_run(ladder, candidates, n_params=1e9, n_tokens=2e10)
    with pytest.raises(bs.InputError, match="one ray"):
        bs.decide.next_run(ladder, n_params=1e9, n_tokens=3e11)
    post = bs.fit(runs, law="chinchilla_outer", seed=0, settings=FEW)
    frame = bs.decide.next_run(post, candidates, n_params=1e9, n_tokens=3e11).frame.set_index("n_params")
    assert frame.loc[1e8, "information"] > 3 * frame.loc[1e9, "information"]


def test_a_batch_keeps_to_its_budget_and_is_worth_more_than_one(marin_post):
    candidates = pd.DataFrame({"flops": [4e20, 6e20, 9e20], "cost": [4.0, 6.0, 9.0]})
    one = bs.decide.next_run(marin_post, candidates, budget=10.0, **AT)
    more = bs.decide.next_run(marin_post, candidates, batch=3, budget=10.0, **AT)
    spent = more.frame.loc[more.batch, "cost"].sum()
    assert spent <= 10.0
    assert more.batch_value >= one.batch_value - 0.02
    assert bs.decide.next_run(marin_post, candidates, budget=1.0, **AT).batch == []


def test_worthless_pilots_are_not_bought(marin_post):
    candidates = pd.DataFrame({"flops": [5e20], "cost": [5.0]})
    ranking = bs.decide.next_run(marin_post, candidates, target=2.6, cost=1.0, value=2.0, **AT)
    assert ranking.batch == []
    assert "No candidate is worth its cost" in ranking.text
    json.dumps(ranking.to_dict())


def test_a_pilot_that_repeats_a_run_or_is_worth_less_than_its_error_is_called_so(marin_post):
    largest = float(marin_post.runs.frame["flops"].max())
    pilots = pd.DataFrame({"flops": [largest], "cost": [5.0]})
    stakes = {"cost": 1.0, "value": 2.0, "pilots": pilots}
    decision = bs.decide.go(marin_post, 2.6, **stakes, **AT)
    assert f"the best, another seed of the run at flops={largest:.3g}, costs 5" in decision.change
    best = decision.pilots.frame.iloc[0]
    assert ("less than the Monte-Carlo error" in decision.change) == (best["evsi"] < best["evsi_error"])
    bought = bs.decide.next_run(marin_post, pilots.assign(cost=0.001), **AT)
    assert ("another seed of the run at" in bought.text) == bool(bought.batch)
    assert below_error(1.0, 2.0, "USD") == ", less than the Monte-Carlo error of 2 USD"
    assert below_error(2.0, 1.0, "USD") == ""


def test_costs_scale_with_the_run_or_come_from_the_user(marin_post):
    candidates = pd.DataFrame({"flops": [1e20, 5e20]})
    default = bs.decide.next_run(marin_post, candidates, target=2.6, cost=10.0, value=20.0, **AT).frame
    assert default.sort_values("flops")["cost"].tolist() == pytest.approx([1.0, 5.0])
    own = bs.decide.next_run(marin_post, candidates, pilot_cost=lambda table: 2 + 0 * table["flops"], **AT).frame
    assert own["cost"].tolist() == [2.0, 2.0]
    with pytest.raises(InputError, match="positive numbers"):
        bs.decide.next_run(marin_post, candidates.assign(cost=[0.0, 1.0]), **AT)
    with pytest.raises(InputError, match="needs target="):
        bs.decide.next_run(marin_post, candidates, value=3.0, **AT)


def test_replicates_share_what_their_size_has_in_common(marin_post):
    here = joint_draws(marin_post, pd.DataFrame({"flops": [3e20, 5e20]}))
    rng = np.random.default_rng(0)
    # Two seeds of one new size differ by seed noise alone.
    first, second = here.run(1, rng), here.run(1, rng)
    assert np.std((first - second) / here.seed_sd) == pytest.approx(np.sqrt(2.0), rel=0.03)
    # At a size that was run, curve and residual together are what was seen, up to the seed.
    seen = np.log(2.725)
    together = here.curve[:, 0] + here.residual[:, 0] - seen
    assert np.abs(np.median(together)) < 2e-4
    assert np.quantile(np.abs(together), 0.9) < 0.01


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("family", ["marin_moe_v16_minima", "regnetx"])
def test_brute_force_refits_agree(family):
    curves = {name.split("/")[0]: runs for name, runs in bs.corpus.curves(losses_only=False).items()}
    runs = curves[family]
    name = runs.inputs[0]
    largest = float(runs.frame[name].max())
    small = runs.select(runs.frame[name] < 0.9 * largest)
    at, pilot = {name: 3.0 * largest}, pd.DataFrame({name: [1.5 * largest]})
    post = bs.fit(small, seed=0)
    target = float(post.predict(**at).quantile(0.5)[0])
    utility = make_utility("step", target, 1.0, 2.0)
    here = joint_draws(post, pd.concat([pd.DataFrame([at]), pilot], ignore_index=True), repeats=1)
    rng = np.random.default_rng(0)
    shown = np.exp(here.run(1, rng)[rng.choice(len(here.curve), 120, replace=False)])
    base = small.frame[[name, "loss"]]
    refits = bs.fit_many(
        [bs.Runs.from_frame(pd.concat([base, pilot.assign(loss=y)], ignore_index=True), inputs=[name]) for y in shown],
        seed=1,
        settings=FEW,
    )
    worth = np.array([utility.gain(joint_draws(refit, pd.DataFrame([at])).spread(0)).mean() for refit in refits])
    each = np.maximum(worth, 0.0) - (worth if worth.mean() > 0 else 0.0)
    brute, error = each.mean(), each.std() / np.sqrt(len(each))
    row = bs.decide.next_run(post, pilot, target=target, cost=1.0, value=2.0, **at).frame.iloc[0]
    assert abs(row["evsi"] - brute) < 4 * np.hypot(error, row["evsi_error"])
    # A value that is off by a factor would be noticed.
    assert brute > 4 * error
