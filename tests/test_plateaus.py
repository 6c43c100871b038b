"""The default law of one input: half of the draws below a plateau, half without, and what must know it."""

import importlib
import json

import jax
import numpy as np
import pytest
import xarray as xr
from conftest import APART

import bayescale as bs
from bayescale.decide.information import sample_information
from bayescale.decide.outcomes import mean_error, worlds
from bayescale.decide.sensitivity import reweighted
from bayescale.diagnostics import ESS
from bayescale.likelihood import log_density, pointwise
from bayescale.model import coordinates, make_job, parts

CHAINS = bs.Nuts().chains
HALF = bs.Nuts(chains=CHAINS // 2)


@pytest.fixture(scope="module")
def halves(marin):
    """The plateau throughout, and no plateau."""
    return [bs.fit(marin, seed=0, priors=APART, settings=HALF), bs.fit(marin, "saturating_power", seed=0)]


def test_pool_is_equal_draws_of_both(marin_post, halves):
    first, second = np.split(marin_post.position, 2)
    np.testing.assert_allclose(first, halves[0].position)
    assert second.shape == first.shape
    plateau = np.split(np.broadcast_to(marin_post.values.constants["g"], marin_post.position.shape[:2]), 2)
    assert (plateau[0] > 0).all()
    assert (plateau[1] == 0).all()
    found = marin_post.predict(flops=4e21)
    one, other = (half.predict(flops=4e21) for half in halves)
    for q in (0.1, 0.5, 0.9):
        ends = sorted([one.quantile(q)[0], other.quantile(q)[0]])
        assert ends[0] - 0.01 < found.quantile(q)[0] < ends[1] + 0.01
    own = np.split(found.location[:, 0], 2)[1]
    assert own.mean() == pytest.approx(other.location[:, 0].mean(), abs=0.006)
    assert own.std() == pytest.approx(other.location[:, 0].std(), rel=0.15)


def test_half_without_plateau_is_the_saturating_power_law(marin):
    job = parts(make_job(marin, "auto", "auto", "normal", None))[1]
    plain = make_job(marin, "saturating_power", "auto", "normal", None)
    names, others = (coordinates(one.model, one.problem) for one in (job, plain))
    assert ["logit_share_E" if name == "bend" else name for name in names] == list(others)
    vectors = np.random.default_rng(0).normal(size=(5, len(names))) * 0.7 - 1.0
    density = jax.jit(log_density)
    for vector in vectors:
        np.testing.assert_allclose(
            density(vector, job.model, job.problem), density(vector, plain.model, plain.problem), rtol=1e-9
        )


def test_odd_numbers_of_chains_are_rounded_up(marin):
    few = bs.Nuts(warmup=100, draws=60, chains=3)
    post = bs.fit(marin, seed=0, settings=few)
    assert post.position.shape[:2] == (4, 60)
    assert post.settings.chains == 4


@pytest.mark.parametrize("method", ["nuts", "importance"])
def test_pool_is_worth_twice_its_lesser_half(marin, method):
    post = bs.fit(marin, seed=0, method=method)
    assert post.status is bs.Status.OK
    assert post.position.shape[0] == CHAINS
    assert ESS < post.diagnostics.ess_bulk.min() < 1.1 * post.position[..., 0].size


def test_both_halves_go_on_together(marin, monkeypatch):
    fitting = importlib.import_module("bayescale.fitting")
    asked, right = [], fitting.run_compiled

    def run(jobs, streams, seed, settings, attempt, ends=None):
        asked.append((attempt, [float(job.problem.plateau) for job in jobs], list(streams)))
        return right(jobs, streams, seed, settings, attempt, ends)

    monkeypatch.setattr(fitting, "run_compiled", run)
    # One half of one of two families is too short at first.
    judged = iter([False, False, False, True])
    monkeypatch.setattr(fitting, "only_short", lambda posterior: next(judged, False))
    job = make_job(marin, "auto", "auto", "normal", None)
    one, other = fitting.sample_jobs([job, job], [0, 1], 3, bs.Nuts())
    assert asked == [(fitting.FIRST, [1, 1, 0, 0], [0, 1, 0, 1]), (fitting.FURTHER, [1, 0], [1, 1])]
    assert one.position.shape[:2] == (CHAINS, 500)
    assert other.position.shape[:2] == (CHAINS, 1000)


def test_file_keeps_both_halves(marin_post, tmp_path):
    path = tmp_path / "fit.nc"
    marin_post.save(path)
    again = bs.load(path)
    for name, values in marin_post.draws.items():
        np.testing.assert_allclose(again.draws[name], values)
    assert again.status is marin_post.status
    np.testing.assert_allclose(again.diagnostics.ess_bulk, marin_post.diagnostics.ess_bulk)
    np.testing.assert_allclose(again.predict(flops=1e24).quantile(0.9), marin_post.predict(flops=1e24).quantile(0.9))


def test_files_from_before_pools_are_read_as_they_were(halves, tmp_path):
    path, old = tmp_path / "fit.nc", tmp_path / "old.nc"
    halves[0].save(path)
    with xr.open_datatree(path, engine="h5netcdf") as opened:
        tree = opened.load()
    priors = json.loads(tree.attrs["priors"])
    for prior in priors.values():
        prior.pop("pool", None)
    tree.attrs |= {"priors": json.dumps(priors), "bayescale_format": 1}
    tree.to_netcdf(old, engine="h5netcdf")
    again = bs.load(old)
    assert again.job.problem.second is None
    np.testing.assert_allclose(again.draws["g"], halves[0].draws["g"])


def test_rows_given_all_others_use_their_own_half(marin_post, halves):
    job = marin_post.job
    found = pointwise(marin_post.flat_values, job.model, job.problem)
    own = pointwise(halves[0].flat_values, halves[0].job.model, halves[0].job.problem)
    np.testing.assert_allclose(found[: len(own)], own)


def test_tables_compare_chains_with_their_own(marin_post):
    table = marin_post.summary()
    assert table["r_hat"].max() < 1.02
    assert (table["mcse_mean"] < 0.1 * table["sd"]).all()
    assert "a plateau above the curve in half of the chains" in str(marin_post)
    learned = marin_post.contraction()
    assert list(learned.index) == list(marin_post.names)
    assert (learned < 1.0).all()
    assert learned["log_fall"] > 0.9


def test_numpyro_model_asks_for_one_of_them(marin):
    law, drift, noise = bs.laws.bind(bs.LAWS["plateau_power"], marin.inputs), bs.Drift(), bs.Noise()
    with pytest.raises(bs.InputError, match="pool=False"):
        bs.numpyro_model(marin, law, drift, noise)
    bs.numpyro_model(marin, law.with_priors(APART), drift, noise)


# --- Decisions ---------------------------------------------------------------------------------------------


def test_errors_of_means_do_not_grow_with_the_gap_between_models():
    values = np.random.default_rng(0).standard_normal(2000)
    gap = np.repeat([0.0, 5.0], 1000)
    assert mean_error(values + gap, 4, 2) == pytest.approx(mean_error(values, 4, 2))
    assert mean_error(values + gap, 4, 1) > 3.0 * mean_error(values, 4, 1)
    assert mean_error(gap, 4, 2) == 0.0


def test_rules_are_learned_on_both_models(marin_post):
    """A pilot that shows which model is true is worth something only if the rule has seen both."""
    assert worlds(marin_post, marin_post.runs.frame[["flops"]].head(1)).models == 2
    rng = np.random.default_rng(0)
    target = np.repeat([0.0, 1.0], 4000) + 0.1 * rng.standard_normal(8000)
    shown = (target + 0.1 * rng.standard_normal(8000))[:, None]
    value = sample_information(target - 0.5, target, shown)
    assert value.evsi == pytest.approx(0.25, rel=0.05)


def test_weaker_priors_keep_the_shares_of_both(marin_post):
    at = {"flops": 1e25}
    row = reweighted("weaker", marin_post, 0.8, at, None)
    middle = marin_post.predict(**at).quantile(0.5)[0]
    assert row["median"] == pytest.approx(middle, rel=0.02)
