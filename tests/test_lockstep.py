"""Chains in lockstep draw what NumPyro's kernel draws, wherever each of them is in its tree."""

import jax
import jax.numpy as jnp
import numpy as np

from bayescale.inference import nuts_vectorized
from bayescale.inference.nuts import Nuts, Start, begin_chain, run_chain

FAMILIES, CHAINS, SIZE = 3, 4, 3


def potential(place, family):
    """A bent ridge of another place and width for each family, with tails that are not normal."""
    center, width = family
    gap = place - center
    return 0.5 * (gap**2 / width).sum() + 0.1 * (gap**4).sum() + 0.3 * (place[0] * place[1] - place[2]) ** 2


def begun():
    rng = np.random.default_rng(0)
    families = jnp.asarray(rng.normal(size=(FAMILIES, SIZE))), jnp.asarray(rng.uniform(0.2, 3, (FAMILIES, SIZE)))

    def start(family):
        value, slope = jax.value_and_grad(potential)(family[0], family)
        return Start(family[0], jnp.eye(SIZE) * family[1] + 0.1, value, slope)

    return jax.random.split(jax.random.key(1), (FAMILIES, CHAINS)), families, jax.vmap(start)(families)


def one_by_one(settings):
    def one(key, family, start):
        return run_chain(lambda place: potential(place, family), start, settings, begin_chain(key, start))[0]

    with jax.enable_x64(True):
        return jax.device_get(jax.jit(jax.vmap(jax.vmap(one, (0, None, None))))(*begun()))


def in_lockstep(settings, ends=None):
    def run(keys, families, starts, ends):
        states = jax.vmap(jax.vmap(begin_chain, (0, None)))(keys, starts) if ends is None else ends
        return nuts_vectorized.run_chains(potential, families, starts, settings, states)

    with jax.enable_x64(True):
        return jax.device_get(jax.jit(run)(*begun(), ends))


def test_draws_are_numpyros():
    # Two windows of the warm-up estimate covariances.
    settings = Nuts(warmup=200, draws=60, chains=CHAINS)
    expected, (found, _) = one_by_one(settings), in_lockstep(settings)
    assert found.position.shape == (FAMILIES, CHAINS, 60, SIZE)
    for name, one in expected._asdict().items():
        other = getattr(found, name)
        assert one.dtype == other.dtype
        # Rounding grows along a chain.
        np.testing.assert_allclose(other, one, rtol=1e-7, atol=1e-7, err_msg=name)


def test_shallow_trees_and_divergences_are_numpyros():
    # A warm-up too short for any window.
    settings = Nuts(warmup=15, draws=40, chains=CHAINS, depth=2, target_accept=0.6)
    expected, (found, _) = one_by_one(settings), in_lockstep(settings)
    assert expected.diverging.any() and (expected.steps == 3).any()
    np.testing.assert_array_equal(found.diverging, expected.diverging)
    np.testing.assert_array_equal(found.steps, expected.steps)
    np.testing.assert_allclose(found.position, expected.position, rtol=1e-6)


def test_chains_go_on_where_they_ended():
    half = Nuts(warmup=200, draws=30, chains=CHAINS)
    begin, ends = in_lockstep(half)
    rest, _ = in_lockstep(half, ends)
    both, _ = in_lockstep(Nuts(warmup=200, draws=60, chains=CHAINS))
    np.testing.assert_allclose(np.concatenate([begin.position, rest.position], axis=2), both.position, rtol=1e-7)
    np.testing.assert_array_equal(np.concatenate([begin.steps, rest.steps], axis=2), both.steps)
