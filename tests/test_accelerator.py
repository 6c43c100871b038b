"""On a real accelerator: posteriors are those of the cores beside it, and few families stay on the cores."""

import jax
import numpy as np
import pandas as pd
import pytest
from arviz_stats.base import array_stats

import bayescale as bs
from bayescale.fitting import batches

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(jax.default_backend() == "cpu", reason="needs an accelerator; JAX finds none here"),
]
FURTHEST = 4.5
"""Standard errors that one of 25 means leaves by chance in one of six thousand runs."""


def curve(seed):
    x = np.geomspace(1e18, 1e20, 7)
    noise = np.exp(0.003 * np.random.default_rng(seed).normal(size=7))
    return bs.Runs.from_frame(pd.DataFrame({"flops": x, "loss": (1.5 + 60 * x**-0.1) * noise}), name=f"curve {seed}")


CURVES = [curve(seed) for seed in range(5)]


def moments(draws):
    """Mean of each coordinate and its Monte Carlo standard error."""
    for values in np.moveaxis(draws, -1, 0):
        ess = float(array_stats.ess(values, method="mean", chain_axis=0, draw_axis=1))
        yield float(values.mean()), float(values.std() / np.sqrt(ess))


def test_few_families_stay_on_the_cores():
    assert batches.machine(1).devices[0].platform == "cpu"
    many = batches.machine(batches.FEWEST_IN_LOCKSTEP)
    assert many.vectorized and many.devices[0].platform == jax.default_backend()


@pytest.mark.parametrize("method", ["nuts", "importance"])
def test_posteriors_are_those_of_the_cores(method, monkeypatch):
    # Draws are not: eigenvectors of devices differ in sign, and with them the coordinates that chains walk in.
    here = bs.fit_many(CURVES, seed=0, method=method)
    monkeypatch.setattr(batches, "FEWEST_IN_LOCKSTEP", 1)
    there = bs.fit_many(CURVES, seed=1, method=method)
    for one, other in zip(here, there, strict=True):
        assert one.status is other.status
        for (mean, error), (second, wobble) in zip(
            *(moments(fit.first.unconstrained) for fit in (one, other)), strict=True
        ):
            assert abs(mean - second) < FURTHEST * np.hypot(error, wobble)
