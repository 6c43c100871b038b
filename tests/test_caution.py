"""High caution: what is pooled, that it has no units, and that forecasts, files, decisions and the command know it."""

import dataclasses
import importlib
import json

import numpy as np
import pandas as pd
import pytest
from conftest import call

import bayescale as bs
from bayescale.backtesting import backtest
from bayescale.drift import default_drift, directions, kernel
from bayescale.likelihood import pointwise
from bayescale.model import make_job, parts, places
from bayescale.scores import crps

fitting = importlib.import_module("bayescale.fitting")
CHAINS = bs.Nuts().chains
HALF = bs.Nuts(chains=CHAINS // 2)
FAR = {"n_params": 1e10, "n_tokens": 2e11}


def grid(powers=(1.0, 1.0)):
    """A made-up grid of sizes and token counts, recoded by powers."""
    rng = np.random.default_rng(0)
    sizes, tokens = (side.ravel() for side in np.meshgrid(np.geomspace(5e7, 8e8, 4), np.geomspace(1e9, 2e10, 4)))
    loss = (1.7 + (sizes / 2e8) ** -0.3 + 0.8 * (tokens / 5e9) ** -0.3) * np.exp(0.004 * rng.standard_normal(16))
    frame = pd.DataFrame({"n_params": sizes ** powers[0], "n_tokens": tokens ** powers[1], "loss": loss})
    return bs.Runs.from_frame(frame, inputs=["n_params", "n_tokens"], name="grid")


@pytest.fixture(scope="module")
def high():
    return bs.fit(grid(), seed=0, caution="high")


@pytest.fixture(scope="module")
def halves():
    jobs = parts(make_job(grid(), "auto", "cautious", "normal", None))
    return [fitting.sample_jobs([job], [0], 0, HALF)[0] for job in jobs]


# --- What is pooled ----------------------------------------------------------------------------------------


def test_pool_is_equal_draws_of_both(high, halves):
    number = high.position.shape[1]
    assert len(high.position) == CHAINS
    # In a pool both go on where one is too short; alone each of them stops when it is long enough.
    assert number == max(half.position.shape[1] for half in halves)
    for mine, half in zip(np.split(high.position, 2), halves, strict=True):
        alone = half.position.shape[1]
        np.testing.assert_allclose(mine[:, :alone], half.position)
    points = pd.DataFrame({"n_params": [2e8, 1e10], "n_tokens": [5e9, 2e11]})
    found = high.predict(points)
    one, other = (half.predict(points) for half in halves)
    if all(half.position.shape[1] == number for half in halves):
        np.testing.assert_allclose(found.location, np.concatenate([one.location, other.location]))
        middle = found.quantile(0.5)
        assert (np.minimum(one.quantile(0.5), other.quantile(0.5)) <= middle * 1.0001).all()
    assert found.log_draws.shape == (CHAINS, number, 2)


def test_halves_of_unequal_length_are_diagnosed_as_they_are_kept(high, halves, tmp_path):
    assert fitting.thinned(halves[1], halves[1].position.shape[1]) is halves[1]
    short = fitting.thinned(halves[0], 100)
    assert short.position.shape[1] == 100
    joined = fitting.pool(high.job, short, halves[1])
    assert joined.position.shape[1] == 100
    joined.save(tmp_path / "pool.nc")
    read = bs.load(tmp_path / "pool.nc")
    assert read.status is joined.status
    np.testing.assert_allclose(read.diagnostics.ess_bulk, joined.diagnostics.ess_bulk)


def test_auto_drift_is_the_first_half(halves):
    alone = make_job(grid(), "auto", "auto", "normal", None)
    (normal,) = fitting.sample_jobs([dataclasses.replace(alone, share=0.5)], [0], 0, HALF)
    np.testing.assert_array_equal(normal.position, halves[0].position)


def test_bands_near_the_data_are_alike(high, halves):
    def width(posterior):
        low, high = posterior.predict(n_params=2e8, n_tokens=5e9).interval(0.9)
        return float(np.log(high / low)[0])

    assert width(high) == pytest.approx(width(halves[0]), rel=0.25)


def test_common_scale_runs_from_zero_to_one():
    position = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.6, 0.6]])
    matrix, origin = directions(position, "scale")
    place = position @ matrix - origin
    np.testing.assert_allclose(place, [[0.0, 0.0], [1 / 1.2, 0.0], [1 / 1.2, 0.0], [1.0, 0.0]])
    # Along a line of equal scale there is no reach to divide by.
    matrix, _ = directions(np.array([[0.0, 1.0], [1.0, 0.0]]), "scale")
    assert matrix[:, 0].tolist() == [1.0, 1.0]


def test_interactions_are_products_of_paths():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-0.5, 3.0, (5, 3)), rng.uniform(0.0, 1.0, (4, 3))
    a[0] = 0.0
    plain, crossed = bs.Drift(), bs.Drift(interaction=0.7)
    one, two, three = (kernel(a[:, [i]], b[:, [i]], crossed) for i in range(3))
    np.testing.assert_allclose(kernel(a, b, plain), one + two + three, rtol=1e-12)
    pairs = one * two + one * three + two * three
    np.testing.assert_allclose(kernel(a, b, crossed), one + two + three + 0.7 * pairs, rtol=1e-12)
    np.testing.assert_array_equal(kernel(a, b, crossed)[0], 0.0)
    both = np.concatenate([a, b])
    assert np.linalg.eigvalsh(kernel(both, both, crossed)).min() > -1e-10


def test_interactions_tell_a_grid_whose_inputs_do_not_add_up():
    """One input helps less the larger the other, as experts do in large models; the largest products are held out."""
    rng = np.random.default_rng(1)
    sizes, experts = (side.ravel() for side in np.meshgrid(np.geomspace(1e7, 1e9, 5), 4.0 ** np.arange(5)))
    n, e = np.log(sizes / 1e7), np.log(experts)
    loss = np.exp(1.2 - 0.10 * n - 0.08 * e + 0.015 * n * e + 0.002 * rng.standard_normal(len(n)))
    frame = pd.DataFrame({"n_params": sizes, "experts": experts, "loss": loss})
    large = sizes * experts > 3e9
    runs = bs.Runs.from_frame(frame[~large], inputs=["n_params", "experts"], name="experts")
    errors, scores = [], []
    for interaction in (0.0, 1.0):
        drift = dataclasses.replace(default_drift(2), interaction=interaction)
        found = bs.fit(runs, seed=0, drift=drift, method="importance").predict(frame[large], kind="run")
        truth = np.log(frame.loc[large, "loss"].to_numpy())
        errors.append(np.abs(np.log(found.quantile(0.5)) - truth).mean())
        scores.append(crps(truth, found.location, found.scale).mean())
    assert errors[1] < 0.7 * errors[0]
    assert scores[1] < 0.7 * scores[0]


# --- No units ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("powers", [(2.0, 0.5), (0.3, 3.0)])
def test_recoded_inputs_give_the_same_problem(powers):
    one, other = (make_job(grid(p), "auto", "cautious", "normal", None) for p in ((1.0, 1.0), powers))
    np.testing.assert_allclose(other.problem.second.eigenvalues, one.problem.second.eigenvalues, atol=1e-10)
    np.testing.assert_allclose(other.problem.second.origin, one.problem.second.origin, atol=1e-10)
    far = np.array([list(FAR.values())])
    ahead = [
        places(job.model.law, job.problem.second, job.low, np.log(far ** np.array(p) / job.reference))
        for job, p in ((one, (1.0, 1.0)), (other, powers))
    ]
    np.testing.assert_allclose(*ahead)


def test_recoded_inputs_give_the_same_forecast(high):
    recoded = bs.fit(grid((2.0, 0.5)), seed=0, caution="high")
    there = recoded.predict(n_params=FAR["n_params"] ** 2, n_tokens=FAR["n_tokens"] ** 0.5)
    levels = [0.1, 0.25, 0.5, 0.75, 0.9]
    gap = np.log(there.quantile(levels) / high.predict(**FAR).quantile(levels))
    assert np.abs(gap).max() < 0.01


# --- What takes it in --------------------------------------------------------------------------------------


def test_file_keeps_both_halves(high, tmp_path):
    path = tmp_path / "fit.nc"
    high.save(path)
    again = bs.load(path)
    assert again.drift.along == "pool"
    assert again.status is high.status
    np.testing.assert_array_equal(again.position, high.position)
    np.testing.assert_allclose(again.predict(**FAR).quantile([0.1, 0.9]), high.predict(**FAR).quantile([0.1, 0.9]))
    np.testing.assert_allclose(again.diagnostics.rhat, high.diagnostics.rhat)


def test_chains_are_compared_with_their_own(high):
    table = high.summary()
    assert table["r_hat"].max() < 1.1
    assert "common scale" in str(high)


def test_rows_given_all_others_use_their_own_half(high, halves):
    job, flat = high.job, high.flat_values
    found = pointwise(flat, job.model, job.problem)
    assert found.shape == (len(flat.level), 16)
    second = fitting.thinned(halves[1], high.position.shape[1])
    own = pointwise(second.flat_values, second.job.model, second.job.problem)
    np.testing.assert_allclose(found[len(own) :], own)


def test_decisions_draw_worlds_of_both(high, halves):
    verdicts = [bs.decide.go(post, target=2.2, cost=1.0, value=3.0, **FAR) for post in (high, halves[0])]
    assert all(0.0 < verdict.probability < 1.0 for verdict in verdicts)


def test_many_and_backtest_take_it():
    (many,) = bs.fit_many([grid()], seed=0, caution="high")
    np.testing.assert_allclose(many.position, bs.fit(grid(), seed=0, caution="high").position)
    ((_, each),) = bs.fit_each([grid()], seed=0, drift="cautious")
    np.testing.assert_array_equal(each.position, many.position)
    back = backtest(grid(), ratio=3, seed=0, caution="high")
    assert back.posteriors[0].drift.along == "pool"


def test_command_takes_it(tmp_path, capsys):
    table, out = tmp_path / "runs.csv", tmp_path / "fit.nc"
    grid().frame.to_csv(table, index=False)
    assert call("fit", table, "--caution", "high", "--out", out, "--json") == 0
    assert json.loads(capsys.readouterr().out)["fits"][0]["rows"] == 16
    assert call("predict", out, "--at", "n_params=1e10,n_tokens=2e11", "--json") == 0
    assert json.loads(capsys.readouterr().out)["forecasts"][0]["q0.5"] > 1.0
    assert call("fit", table, "--caution", "some") == 2
    assert "'normal' or 'high'" in capsys.readouterr().err


# --- What it refuses ---------------------------------------------------------------------------------------


def test_refusals(marin):
    with pytest.raises(bs.InputError, match="drift=None"):
        bs.fit(grid(), seed=0, drift=None, caution="high")
    with pytest.raises(bs.InputError, match="several inputs"):
        bs.fit(marin, seed=0, caution="high")
    with pytest.raises(bs.InputError, match="wanders along"):
        bs.fit(grid(), seed=0, drift=bs.Drift(along="depth"))
    job = make_job(grid(), "auto", "cautious", "normal", None)
    with pytest.raises(bs.InputError, match="pools two models"):
        bs.numpyro_model(grid(), job.law, job.drift, job.noise)
    with pytest.raises(bs.InputError, match="pools two models"):
        bs.sbc.run(grid(), drift="cautious", simulations=1, seed=0)
