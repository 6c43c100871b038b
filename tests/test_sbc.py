"""Simulation-based calibration passes the model that is true and notices three that are not."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import bayescale as bs
from bayescale import sbc

RUNS = bs.Runs.from_frame(pd.DataFrame({"flops": 1e18 * 3.0 ** np.arange(8), "loss": np.linspace(3.5, 2.7, 8)}))
SIMULATIONS = 150


def outside(**options):
    """Quantities that leave the simultaneous band, after a short calibration."""
    table = sbc.run(RUNS, simulations=SIMULATIONS, seed=1, progress=False, **options).summary()
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
    with pytest.raises(bs.InputError, match="simulations"):
        sbc.run(RUNS, simulations=0, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("law", ["plateau_power", "saturating_power"])
def test_right_models_pass(law):
    assert not outside(law=law)


@pytest.mark.slow
def test_noise_assumed_too_small_is_noticed():
    assert "log_scatter" in outside(true_noise=bs.Noise(scatter=0.1))


@pytest.mark.slow
def test_wrong_memory_is_noticed():
    assert outside(true_drift=bs.Drift(memory=0.1))


@pytest.mark.slow
def test_biased_sampler_is_noticed(monkeypatch):
    right = sbc.sample_jobs

    def timid(*arguments):
        """A sampler that explores two thirds of the posterior's width."""
        (posterior,) = right(*arguments)
        center = posterior.position.mean((0, 1))
        return [dataclasses.replace(posterior, position=center + 0.66 * (posterior.position - center))]

    monkeypatch.setattr(sbc, "sample_jobs", timid)
    assert outside()
