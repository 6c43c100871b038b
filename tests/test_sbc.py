"""Simulation-based calibration passes the model that is true and notices three that are not."""

import dataclasses

import jax
import numpy as np
import pandas as pd
import pytest
from conftest import FEW

import bayescale as bs
from bayescale.evaluate import sbc
from bayescale.evaluate.designs import made_up
from bayescale.fitting.fit import sample_jobs
from bayescale.fitting.plan import plan_fit
from bayescale.model.density import log_density
from bayescale.posterior.mixture import combine

RUNS = bs.Runs.from_frame(pd.DataFrame({"flops": 1e18 * 3.0 ** np.arange(8), "loss": np.linspace(3.5, 2.7, 8)}))
SIMULATIONS = 100


def outside(**options):
    """Quantities that leave the simultaneous band, after a short calibration."""
    table = sbc.run(RUNS, simulations=SIMULATIONS, seed=1, progress=False, settings=FEW, **options).summary()
    return set(table.index[table["outside"]])


def test_uniform_ranks_pass_and_others_do_not():
    rng = np.random.default_rng(0)
    uniform = rng.integers(sbc.KEPT + 1, size=300)
    low = rng.integers(sbc.KEPT - 20, size=300)
    middle = rng.binomial(sbc.KEPT, 0.5, size=300)
    ranks = sbc.Ranks(("uniform", "low", "middle"), np.stack([uniform, low, middle], axis=1), (), np.ones(300))
    assert ranks.summary()["outside"].to_list() == [False, True, True]


def test_replicates_are_refused():
    frame = pd.DataFrame({"flops": [1e18, 1e18, 1e19, 1e20], "loss": [3.5, 3.51, 3.2, 3.0]})
    with pytest.raises(bs.InputError, match="one run at each set of inputs"):
        sbc.run(bs.Runs.from_frame(frame), simulations=10, seed=0)
    for calibrate in (sbc.run, sbc.given):
        with pytest.raises(bs.InputError, match="simulations"):
            calibrate(RUNS, simulations=0, seed=0)
    with pytest.raises(bs.InputError, match="importance"):
        sbc.run(RUNS, simulations=5, seed=0, method="importence")
    grid = frame.assign(n_params=[1e7, 2e7, 3e7, 4e7], n_tokens=[1e9, 3e9, 2e9, 5e9])
    with pytest.raises(bs.InputError, match="needs runs with one input"):
        sbc.given(bs.Runs.from_frame(grid), simulations=10, seed=0)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("law", ["plateau_power", "saturating_power"])
def test_right_models_pass(law):
    assert not outside(law=law)


@pytest.mark.long
@pytest.mark.slow
def test_right_model_passes_where_real_data_put_it(marin):
    table = sbc.given(marin, simulations=SIMULATIONS, seed=1, progress=False, settings=FEW).summary()
    assert not table["outside"].any()
    assert {"level", "forecast at 10x", "likelihood"} <= set(table.index)


@pytest.mark.slow
def test_wrong_sampler_is_noticed_where_real_data_put_it(marin, monkeypatch):
    right = sbc.results_of

    def timid(queue, progress):
        """A sampler that explores half of the width, except for the fit that truths come from."""
        for number, fit in right(queue, progress):
            parts = []
            for part in fit.components:
                center = part.unconstrained.mean((0, 1))
                parts.append(dataclasses.replace(part, unconstrained=center + 0.5 * (part.unconstrained - center)))
            yield number, combine(parts, fit.weights) if len(queue.plans) > 1 else fit

    monkeypatch.setattr(sbc, "results_of", timid)
    assert sbc.given(marin, simulations=60, seed=1, progress=False, settings=FEW).summary()["outside"].any()


@pytest.mark.slow
def test_noise_assumed_too_small_is_noticed():
    assert "log_residual_sd" in outside(true_likelihood=bs.Likelihood(residual_sd=0.1))


@pytest.mark.slow
def test_wrong_memory_is_noticed():
    assert outside(true_discrepancy=bs.Discrepancy(memory=0.1))


@pytest.mark.slow
def test_the_law_is_found_where_discrepancy_could_stand_in_for_it():
    # A walk from the prior's centre ends in a mode of large discrepancy, ten or more below the truth in log density.
    plan = plan_fit(made_up(bs.LAWS["quantised_training"], 16), "quantised_training")
    (job,) = plan.jobs
    position, values = sbc.prior_values(plan, 60, 2000)
    one = jax.tree.map(lambda leaf: leaf[35:36], values)
    y, _ = sbc.simulate(job, one, sbc.beyond(job, [3.0]), np.random.default_rng(34))
    job = dataclasses.replace(job, problem=dataclasses.replace(job.problem, y=y))
    posteriors = sample_jobs([job] * 12, list(range(12)), 0, bs.Nuts(chains=2, draws=99))
    with jax.enable_x64(True):
        density = jax.jit(lambda vector: log_density(vector, job.model, job.problem))
        truth = float(density(position[35]))
        found = [
            np.median([density(v) for v in p.unconstrained.reshape(198, -1)[::9]]) > truth - 10.0 for p in posteriors
        ]
    # From the centre alone none; from a few draws of the prior as well, somewhat more than half.
    assert sum(found) >= 4
