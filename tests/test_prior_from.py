"""Runs added to a fit under its prior: `prior_from`."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from conftest import FEW, MARIN, call
from scipy.stats import multivariate_normal

import bayescale as bs
from bayescale.errors import InputError
from bayescale.model.density import log_likelihood, offset, row_variance
from bayescale.model.discrepancy import kernel
from bayescale.model.parameters import read
from bayescale.model.prepare import axis_positions, make_jobs


def runs_of(**columns):
    return bs.Runs.from_frame(pd.DataFrame(columns))


def more(flops, loss):
    return runs_of(flops=[*MARIN["flops"], *flops], loss=[*MARIN["loss"], *loss])


def evidence(job, vector):
    values, prior = read(jnp.asarray(vector), job.model, job.problem)
    return values, np.asarray(prior), float(log_likelihood(values, job.model, job.problem))


def dense(job, values):
    """Residuals of ln(loss), shape (row,), and their covariance with level and discrepancy integrated out."""
    problem, rows = job.problem, job.problem.rows
    at = axis_positions(job.model.law, problem, job.low, problem.z[:rows])
    noise = np.diag(np.asarray(row_variance(values, problem))[:rows])
    departure = float(values.amplitude) ** 2 * kernel(at, at, job.model.discrepancy)
    left = np.asarray(problem.y - offset(job.model, problem, values))[:rows]
    return left, departure + noise + job.model.law.level[1].sd ** 2


@pytest.mark.parametrize("added", [{"flops": [1e22], "loss": [2.4]}, {"flops": [1e22, 1e17], "loss": [2.4, 3.9]}])
def test_new_runs_update_the_posterior_of_old_ones(marin, marin_post, added):
    old, new = make_jobs(marin), make_jobs(more(**added), prior_from=marin_post)
    assert len(new) == len(old) == 3
    count = len(MARIN["flops"])
    for number, (before, after) in enumerate(zip(old, new, strict=True)):
        vector = 0.3 * np.arange(len(marin_post.components[number].names))
        values, prior, likelihood = evidence(before, vector)
        values_after, prior_after, likelihood_after = evidence(after, vector)
        # Law, amplitude and their prior are those of the earlier fit.
        np.testing.assert_allclose(prior_after, prior, rtol=1e-12)
        for name, value in values.constants.items():
            np.testing.assert_allclose(values_after.constants[name], value, rtol=1e-12)
        # What the added runs contribute is their density given the old ones.
        left, covariance = dense(after, values_after)
        place = {round(float(z), 6): row for row, z in enumerate(after.problem.z[: len(left), 0])}
        kept = [place[round(float(z), 6)] for z in before.problem.z[:count, 0]]
        fresh = [row for row in range(len(left)) if row not in kept]
        gain = covariance[np.ix_(fresh, kept)] @ np.linalg.inv(covariance[np.ix_(kept, kept)])
        spread = covariance[np.ix_(fresh, fresh)] - gain @ covariance[np.ix_(kept, fresh)]
        density = multivariate_normal(np.zeros(len(fresh)), spread).logpdf(left[fresh] - gain @ left[kept])
        assert likelihood_after - likelihood == pytest.approx(density, abs=1e-5)


def test_prior_without_it_moves_with_the_runs(marin, marin_post):
    runs = more([1e22], [2.4])
    moved, kept = make_jobs(runs)[0], make_jobs(runs, prior_from=marin_post)[0]
    assert float(kept.problem.span[0]) == pytest.approx(np.log(300.0))
    assert float(moved.problem.span[0]) == pytest.approx(np.log(1e4))
    # Once more: the scales are those of the first fit, not of the second.
    again = dataclasses.replace(marin_post.components[0], job=kept)
    assert make_jobs(runs, prior_from=again)[0].prior_scale is kept.prior_scale


def test_the_kept_prior_is_said_and_a_foreign_one_warned_of(marin, marin_post):
    def said(runs):
        fit = dataclasses.replace(marin_post.components[0], job=make_jobs(runs, prior_from=marin_post)[0])
        return next(note for note in fit.check(prior=False) if note.code == "prior_from"), str(fit)

    note, text = said(more([1e22], [2.4]))
    assert (note.severity, note.text) == (
        "info",
        "Model and prior are those of an earlier fit: plateau_power on marin, 6 runs.",
    )
    assert text.count(note.text) == 1
    other = runs_of(flops=MARIN["flops"], loss=[*MARIN["loss"][:2], 3.0, 2.9, 2.8, 2.7])
    note, _ = said(other)
    assert note.severity == "warning" and "4 of those 6 runs are not among these 6" in note.text


def test_many_rows_keep_the_prior(marin_post):
    rng = np.random.default_rng(0)
    flops = np.geomspace(1e17, 1e22, 300)
    loss = 1.5 + 2.0 * (flops / 1e18) ** -0.15 * rng.lognormal(0.0, 0.01, 300)
    runs = runs_of(flops=flops, loss=loss, run=range(300))
    job = make_jobs(runs, prior_from=marin_post)[0]
    values, _, found = evidence(job, np.zeros(len(marin_post.components[0].names)))
    left, covariance = dense(job, values)
    assert found == pytest.approx(multivariate_normal(np.zeros(300), covariance).logpdf(left), rel=1e-6)


def test_options_that_the_fit_decides_are_refused(marin, marin_post):
    for name, value in {"law": "power", "design": "curve", "discrepancy": None, "likelihood": "student"}.items():
        with pytest.raises(InputError, match=f"leave out {name}"):
            make_jobs(marin, **({"prior_from": marin_post} | {name: value}))
    with pytest.raises(InputError, match=r"prior_from \(--prior-from\) is a fit"):
        make_jobs(marin, prior_from="fit.nc")
    other = runs_of(n_params=[1e6, 1e7, 1e8, 1e9], loss=[4.0, 3.0, 2.5, 2.2])
    with pytest.raises(InputError, match="missing in these runs; they have n_params"):
        make_jobs(other, prior_from=marin_post)


@pytest.mark.slow
def test_fit_is_saved_and_asked_in_the_shell(marin, marin_post, tmp_path, capsys):
    post = bs.fit(more([1e21], [2.58]), seed=0, settings=FEW, prior_from=marin_post)
    post.save(tmp_path / "second.nc")
    loaded = bs.load(tmp_path / "second.nc")
    at = {"flops": [1e21, 1e22]}
    np.testing.assert_array_equal(loaded.predict(at).quantile(0.9), post.predict(at).quantile(0.9))
    np.testing.assert_array_equal(loaded.predict(at, kind="mean").draws, post.predict(at, kind="mean").draws)
    marin_post.save(tmp_path / "first.nc")
    runs = more([1e21], [2.58])
    runs.frame[["flops", "loss"]].to_csv(tmp_path / "runs.csv", index=False)
    first, second = tmp_path / "first.nc", tmp_path / "third.nc"
    asked = ("--prior-from", first, "--draws", FEW.draws, "--chains", FEW.chains, "--out", second)
    assert call("fit", tmp_path / "runs.csv", *asked) == 0
    assert bs.load(second).predict(at).quantile(0.5) == pytest.approx(post.predict(at).quantile(0.5), rel=1e-9)
