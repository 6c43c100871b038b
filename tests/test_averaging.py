"""Checkpoints of long curves: averaged before they are fitted, forecast one by one."""

import jax
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from conftest import APART
from numpyro.infer.util import log_density as numpyro_density

import bayescale as bs
from bayescale.data.checkpoints import MOST_ROWS, MOST_TOGETHER
from bayescale.data.design import reduce_runs
from bayescale.errors import InputError
from bayescale.laws.catalogue.schedule import cosine, multi_power
from bayescale.model.density import log_density
from bayescale.model.numpyro import component_model
from bayescale.model.parameters import coordinates, prior_center
from bayescale.model.prepare import make_job

STEPS = np.arange(1.0, 2001.0)
NOISE = 0.01


def checkpoints(likelihood=NOISE, seed=0, **columns):
    """Two thousand checkpoints of a power law, straight on log axes."""
    scatter = likelihood * np.random.default_rng(seed).standard_normal(len(STEPS))
    frame = pd.DataFrame({"step": STEPS, "loss": 5.0 * STEPS**-0.2 * np.exp(scatter), **columns})
    return bs.Runs.from_frame(frame, inputs=["step"])


def merged(*runs):
    return bs.Runs.from_frame(pd.concat([part.frame for part in runs]), inputs=["step"])


def test_averages_lie_on_the_curve_at_equal_distances():
    design = reduce_runs(checkpoints(0.0))
    assert 0.7 * MOST_ROWS < len(design.y) <= MOST_ROWS
    np.testing.assert_allclose(design.y, -0.2 * design.z[:, 0], atol=1e-12)
    # Early checkpoints lie further apart than the parts are wide, and stay.
    np.testing.assert_allclose(np.exp(design.z[:5, 0]) * design.reference, STEPS[:5])
    late = np.diff(design.z[-20:, 0])
    assert late.max() < 1.2 * np.log(2000) / (MOST_ROWS - 1)
    assert abs(design.single) < 1e-24


def test_what_averaging_takes_from_the_scatter_is_kept_for_single_rows():
    design = reduce_runs(checkpoints())
    parts = np.rint((MOST_ROWS - 1) * np.log(STEPS) / np.log(2000))
    left = (1 / np.unique(parts, return_counts=True)[1]).mean()
    assert np.sqrt(design.single) == pytest.approx(NOISE * np.sqrt(1 - left), rel=0.05)
    strayed = checkpoints()
    strayed.frame.loc[1500, "loss"] *= 3.0
    assert reduce_runs(strayed).single == pytest.approx(design.single, rel=0.1)


def test_inputs_that_mean_something_as_they_are_stay_apart():
    design = reduce_runs(checkpoints(), exempt=("step",))
    assert len(design.y) == len(STEPS)
    assert design.single == 0.0
    law = multi_power([cosine(2000, 3e-4, 3e-5)], name="averaging")
    assert law.exempt == ("schedule", "step")


def test_few_points_stay_as_they_are():
    runs = checkpoints().select(STEPS <= MOST_ROWS)
    design = reduce_runs(runs)
    np.testing.assert_array_equal(design.y + design.center, np.log(runs.frame["loss"]))
    assert design.single == 0.0


def test_rows_that_name_runs_of_their_own_stay():
    design = reduce_runs(checkpoints(run=[f"run {step:g}" for step in STEPS]))
    assert len(design.y) == len(STEPS)
    assert design.single == 0.0


def test_replicates_without_names_stay():
    few = [checkpoints(seed=seed).select(STEPS <= MOST_ROWS) for seed in range(3)]
    design = reduce_runs(merged(*few))
    np.testing.assert_array_equal(design.count, np.full(MOST_ROWS, 3.0))


def test_steps_that_were_logged_twice_do_not_matter():
    runs = checkpoints()
    design = reduce_runs(runs)
    again = reduce_runs(merged(runs, runs.select((STEPS > 700) & (STEPS < 900))))
    np.testing.assert_allclose(again.y + again.center, design.y + design.center, atol=NOISE)
    assert again.single == pytest.approx(float(design.single), rel=0.1)


def test_each_run_is_averaged_by_itself():
    one, two = checkpoints(run="a"), checkpoints(seed=1, run="b")
    assert reduce_runs(one).one_run
    both = reduce_runs(merged(one, two))
    assert 0.8 * MOST_TOGETHER < len(both.y) <= MOST_TOGETHER
    rows = len(both.y) // 2
    # Steps of both runs are still the same steps, and rows of a run still share its seed.
    np.testing.assert_array_equal(both.z[:rows], both.z[rows:])
    np.testing.assert_array_equal(both.shared, np.kron(np.eye(2), np.ones((rows, rows))))
    loss = one.frame["loss"].to_numpy()[-30:]
    late = np.log(STEPS[-30:]) > np.log(2000) * (1 - 0.4 / rows)
    assert np.exp(both.y + both.center)[rows - 1] == pytest.approx(loss[late].mean(), rel=0.01)


def suite(sizes=4, points=60, **columns):
    """Checkpoints of models of several sizes, at the same tokens."""
    frame = pd.DataFrame({"n_params": np.repeat(np.geomspace(1e7, 1e9, sizes), points)})
    frame["n_tokens"] = np.tile(np.linspace(1e9, 6e10, points), sizes)
    frame["loss"] = 1.7 + 400 / frame["n_params"] ** 0.34 + 410 / frame["n_tokens"] ** 0.28
    frame["run"] = frame["n_params"].map("{:.3g}".format)
    return frame.assign(**columns)


def test_checkpoints_of_several_sizes_are_averaged_where_runs_have_names():
    design = reduce_runs(bs.Runs.from_frame(suite()))
    assert 0.8 * MOST_TOGETHER < len(design.y) <= MOST_TOGETHER
    assert len(np.unique(design.z[:, 0])) == 4
    x = np.exp(design.z) * design.reference
    np.testing.assert_allclose(
        np.exp(design.y + design.center), 1.7 + 400 / x[:, 0] ** 0.34 + 410 / x[:, 1] ** 0.28, rtol=2e-3
    )
    assert len(reduce_runs(bs.Runs.from_frame(suite().drop(columns="run"))).y) == 240
    own = suite(run=[f"run {row}" for row in range(240)])
    assert len(reduce_runs(bs.Runs.from_frame(own)).y) == 240


def test_many_runs_keep_eight_parts_each():
    design = reduce_runs(bs.Runs.from_frame(suite(30, 40)))
    runs, counts = np.unique(design.z[:, 0], return_counts=True)
    assert len(runs) == 30
    assert counts.max() <= 8
    assert len(design.y) > MOST_TOGETHER


def test_standard_errors_are_averaged():
    plain, known = reduce_runs(checkpoints()), checkpoints()
    known.frame["value_se"] = 0.02 * known.frame["loss"]
    design = reduce_runs(known)
    np.testing.assert_allclose(design.y, plain.y)
    sizes = np.rint(0.02**2 / design.error)
    assert sizes.sum() == len(STEPS)


def test_order_and_recoding_do_not_matter():
    runs = checkpoints()
    design = reduce_runs(runs)
    shuffled = reduce_runs(runs.select(np.random.default_rng(0).permutation(len(STEPS))))
    np.testing.assert_allclose(shuffled.y, design.y, atol=1e-12)
    assert shuffled.single == pytest.approx(float(design.single))
    squared = reduce_runs(bs.Runs.from_frame(runs.frame.assign(step=STEPS**2), inputs=["step"]))
    np.testing.assert_allclose(squared.z, 2.0 * design.z, atol=1e-9)
    np.testing.assert_allclose(squared.y, design.y, atol=1e-12)


def test_engine_is_the_program():
    with jax.enable_x64(True):
        job = make_job(checkpoints(), "auto", priors=APART)
        vector = np.asarray(prior_center(job.model, job.problem)) + 0.1
        named = dict(zip(coordinates(job.model, job.problem), vector, strict=True))
        program = component_model(job)
        found, wanted = log_density(vector, job.model, job.problem), numpyro_density(program, (), {}, named)[0]
    assert float(found) == pytest.approx(float(wanted), rel=1e-9)


@pytest.fixture(scope="module")
def post():
    return bs.fit(checkpoints(), seed=0, settings=bs.Nuts(warmup=200, draws=100))


@pytest.mark.long
def test_single_rows_are_forecast(post):
    run, mean = (post.predict(step=[4000.0], kind=kind) for kind in ("run", "mean"))
    own = run.scale**2 - mean.scale**2
    inside = post.flat_values.residual_sd**2 + post.flat_values.seed_sd**2
    single = float(post.first.job.problem.single)
    np.testing.assert_allclose(own[:, 0], inside + single, rtol=1e-6)
    assert np.sqrt(np.median(own)) == pytest.approx(NOISE, rel=0.15)


def test_reader_is_told(post):
    (note,) = [note for note in post.check() if note.code == "averaged"]
    assert note.severity == "info"
    assert "2000 checkpoints were averaged to" in str(post)
    assert len(post.runs) == len(STEPS)


def test_many_points_are_forecast_like_few(post):
    points = np.exp(np.random.default_rng(0).permutation(np.linspace(0.0, np.log(2e4), 1200)))
    for kind in ("mean", "run"):
        many, few = post.predict(step=points, kind=kind), post.predict(step=points[:9], kind=kind)
        np.testing.assert_allclose(many.location[:, :9], few.location, atol=1e-5)
        np.testing.assert_allclose(many.scale[:, :9], few.scale, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(many.quantile([0.1, 0.9])[:, :9], few.quantile([0.1, 0.9]), rtol=1e-3)


def test_tree_has_a_likelihood_for_each_average_and_no_forecasts_of_thousands(post):
    tree = post.to_datatree()
    assert "posterior_predictive" not in tree
    assert tree["component_present/log_likelihood"]["loss"].sizes["setting"] == post.first.job.problem.mask.sum()
    assert tree["observed_data"]["loss"].sizes["run"] == len(STEPS)


def test_file_keeps_every_row(post, tmp_path):
    path = tmp_path / "fit.nc"
    post.save(path)
    again = bs.load(path)
    assert len(again.runs) == len(STEPS)
    np.testing.assert_allclose(
        again.predict(step=4000.0).interval(0.9), post.predict(step=4000.0).interval(0.9), rtol=1e-6
    )


def test_file_from_before_is_refused(post, tmp_path):
    path, old = tmp_path / "fit.nc", tmp_path / "old.nc"
    post.save(path)
    with xr.open_datatree(path, engine="h5netcdf") as opened:
        tree = opened.load()
    tree.attrs["bayescale_format"] = 2
    tree.to_netcdf(old, engine="h5netcdf")
    with pytest.raises(InputError, match="Fit again"):
        bs.load(old)


def warming_up(runs: dict[str, float]) -> pd.DataFrame:
    """Ten checkpoints of each run, the first two far above the curve; `runs` maps names to last numbers of tokens."""
    parts = []
    for size, (name, last) in enumerate(runs.items(), 1):
        d = last * np.arange(1, 11) / 10
        high = np.where(np.arange(10) < 2, 2.0, 1.0)
        parts.append(
            pd.DataFrame({"run": name, "n_params": 1e8 * size, "n_tokens": d, "loss": high * (1.7 + 2e3 * d**-0.3)})
        )
    return pd.concat(parts, ignore_index=True)


def test_burn_in_is_left_out_of_each_run():
    table = warming_up({"a": 1e10, "b": 3e10, "c": 9e10})
    runs = bs.read(table, screen="keep", burn_in=0.2)
    assert (runs.frame.groupby("run").size() == 8).all()
    assert [entry.rows for entry in runs.log if entry.code == "burn_in"] == [(1, 2, 11, 12, 21, 22)]
    assert runs.left_out is not None and len(runs.left_out) == 6
    assert runs.frame["loss"].max() < bs.read(table, screen="keep").frame["loss"].max() / 1.5
    [entry] = [entry for entry in runs.log if entry.code == "burn_in"]
    assert entry.text == "Burn-in: 6 checkpoints up to 0.2 of the last n_tokens of each run left out."


def test_burn_in_of_a_curve_without_names_of_runs():
    table = warming_up({"a": 1e10})
    assert len(bs.read(table[["n_tokens", "loss"]], burn_in=0.2, screen="keep").frame) == 8
    # Rows without names, at several sizes, are separate runs.
    apart = table.drop(columns="run").assign(n_params=np.geomspace(1e7, 1e9, 10))
    with pytest.raises(InputError, match=r"has no effect: there are no checkpoints up to 0\.2 of the last n_tokens"):
        bs.read(apart, burn_in=0.2, screen="keep")


def test_burn_in_needs_a_clock():
    with pytest.raises(InputError, match=r"grows along a run: n_tokens, step, flops, n_samples"):
        bs.read(warming_up({"a": 1e10})[["n_params", "loss"]].assign(n_params=np.geomspace(1e7, 1e9, 10)), burn_in=0.1)
