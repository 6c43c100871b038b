"""Convergence measures are ArviZ's, for all coordinates at once."""

import numpy as np
import pytest
from arviz_stats.base import array_stats

from bayescale.inference.rhat_ess import fraction, measure

AXES = {"chain_axis": 0, "draw_axis": 1}


def chains(rng, shape, memory):
    draws = rng.normal(size=shape)
    for step in range(1, shape[1]):
        draws[:, step] += memory * draws[:, step - 1]
    return draws


@pytest.mark.parametrize("memory", [-0.95, -0.5, 0.0, 0.5, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("shape", [(4, 500, 3), (2, 199, 2), (3, 50, 2), (5, 11, 4), (2, 8, 3)])
def test_measures_are_arviz(memory, shape):
    rng = np.random.default_rng([int(100 * memory) + 100, *shape])
    draws = chains(rng, shape, memory)
    # Chains that disagree, rejected proposals that repeat a draw, and few values that many draws share.
    draws[..., 0] += 3.0 * rng.normal(size=(shape[0], 1))
    draws[:, 1:, 1] = np.where(rng.random((shape[0], shape[1] - 1)) < 0.3, draws[:, :-1, 1], draws[:, 1:, 1])
    draws[..., -1] = np.round(2.0 * draws[..., -1])
    found = measure(draws)
    np.testing.assert_allclose(found.rhat, array_stats.rhat(draws, **AXES), rtol=1e-9)
    np.testing.assert_allclose(found.ess_bulk, array_stats.ess(draws, method="bulk", **AXES), rtol=1e-9)
    tail = array_stats.ess(draws, method="tail", prob=(0.05, 0.95), **AXES)
    np.testing.assert_allclose(found.ess_tail, tail, rtol=1e-9)


def test_one_chain_has_effective_draws_but_no_rhat():
    draws = np.random.default_rng(0).normal(size=(1, 100, 2))
    found = measure(draws)
    assert np.isnan(found.rhat).all()
    np.testing.assert_allclose(found.ess_bulk, array_stats.ess(draws, method="bulk", **AXES))


def test_few_draws_say_nothing():
    assert all(np.isnan(part).all() and part.shape == (2,) for part in measure(np.zeros((4, 3, 2))))


def test_energy_fraction_is_arviz():
    energy = np.random.default_rng(0).normal(size=(4, 300)).cumsum(1)
    np.testing.assert_allclose(fraction(energy), array_stats.bfmi(energy, **AXES))
