"""The discrepancy as a Markov process: equal to the dense density, its gradient and its forecasts, in linear time."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from conftest import APART
from hypothesis import given
from hypothesis import strategies as st

import bayescale as bs
from bayescale.model import parameters, prepare
from bayescale.model.density import log_density, pointwise
from bayescale.model.discrepancy import Discrepancy, innovation_kernel, kernel
from bayescale.model.evaluations import Rotated, StateSpace, kalman
from bayescale.model.evaluations.state_space import smooth
from bayescale.model.parameters import prior_center
from bayescale.model.prepare import make_job


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def rows_in_order(seed, rows):
    """Places from 0 to 1, some of them equal or all but equal, residuals and variances."""
    rng = np.random.default_rng(seed)
    place = np.sort(rng.random(rows))
    place[rows // 2] = place[rows // 2 - 1]
    place[rows // 3] = place[rows // 3 - 1] + 1e-9
    place = np.sort(place) - place.min()
    place /= place.max()
    residual = 0.05 * rng.standard_normal(rows).cumsum() / np.sqrt(rows)
    noise = np.exp(rng.normal(np.log(1e-4), 2.0, rows))
    return place, residual, noise


def dense_deviance(residual, noise, square, factors, prior):
    covariance = square * factors + jnp.diag(noise) + 1.0 / prior
    return residual @ jnp.linalg.solve(covariance, residual) + jnp.linalg.slogdet(covariance)[1]


FILTERED = jax.jit(jax.value_and_grad(kalman.deviance, (0, 1, 2)))
DENSE = jax.jit(jax.value_and_grad(dense_deviance, (0, 1, 2)))


@given(st.integers(0, 10_000))
def test_density_and_gradient_are_the_dense_ones(seed):
    rng = np.random.default_rng(seed)
    rows, size = 28, 32
    place, residual, noise = rows_in_order(seed, rows)
    square, memory, prior = np.exp(rng.normal(-3.0, 2.0)), np.exp(rng.normal(0.0, 0.5)), 11.0
    gap, mask, r = (np.pad(v, (0, size - rows)) for v in (np.diff(place, prepend=0.0), np.ones(rows), residual))
    wide = np.pad(noise, (0, size - rows), constant_values=1e-3)

    factors = kernel(place[:, None], place[:, None], Discrepancy(memory=memory, interaction=0.0))
    ours = FILTERED(r, wide, square, mask, gap, mask, memory, prior)
    theirs = DENSE(residual, noise, square, factors, prior)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-8)
    for one, other in zip(ours[1], theirs[1], strict=True):
        one = np.asarray(one)[: np.size(other)] if np.ndim(other) else one
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-8 * np.abs(other).max())


ONE_AXIS = Discrepancy().completed("curve")


@pytest.mark.parametrize("factor", [1.0, 1.8])
def test_forecasts_are_the_dense_ones_on_either_side(factor):
    rng = np.random.default_rng(0)
    place, residual, noise = rows_in_order(1, 24)
    new, draws, square = np.array([0.3, -0.7, 2.0, -0.2, 0.0, 1.0, 0.55]), 20_000, 0.04
    shape = (draws, len(place))
    mean, variance, joint = smooth(
        place,
        new,
        np.broadcast_to(residual, shape),
        np.broadcast_to(noise, shape),
        np.full(draws, 0.2),
        np.full(draws, factor),
        1.0,
        rng,
    )
    covariance = square * kernel(place[:, None], place[:, None], ONE_AXIS) + np.diag(noise)
    cross = square * kernel(new[:, None], place[:, None], ONE_AXIS)
    expected = cross @ np.linalg.solve(covariance, residual)
    spread = square * kernel(new[:, None], new[:, None], ONE_AXIS) - cross @ np.linalg.solve(covariance, cross.T)
    np.testing.assert_allclose(mean[0], expected, atol=1e-9)
    np.testing.assert_allclose(variance[0], np.diag(spread), atol=1e-9)
    # Joint draws have the factor on innovations.
    spread = spread + (factor**2 - 1.0) * square * innovation_kernel(new[:, None], place[:, None], ONE_AXIS)
    error = np.sqrt(np.diag(spread) / draws)
    assert (np.abs(joint.mean(0) - expected) <= 4.5 * error + 1e-9).all()
    # Standard error of a covariance of normal draws.
    wobble = np.sqrt((spread**2 + np.outer(np.diag(spread), np.diag(spread))) / draws)
    assert (np.abs(np.cov(joint.T) - spread) <= 4.5 * wobble + 1e-9).all()


def long_curve(rows, seed=0, errors=False):
    rng = np.random.default_rng(seed)
    x = rng.permutation(np.geomspace(1e17, 1e21, rows))
    loss = (1.5 + 2.0 * (x / 1e17) ** -0.15) * np.exp(0.01 * rng.standard_normal(rows))
    frame = pd.DataFrame({"flops": np.round(x), "loss": loss, "run": [f"run {number}" for number in range(rows)]})
    if errors:
        frame["value_se"] = loss * rng.uniform(0.001, 0.02, rows)
    return bs.Runs.from_frame(frame)


def both_ways(runs, monkeypatch):
    """The same family evaluated row by row and in the eigenbasis."""
    monkeypatch.setattr(prepare, "STATE_SPACE_ROWS", 2)
    sequential = make_job(runs, "auto", priors=APART)
    monkeypatch.setattr(prepare, "STATE_SPACE_ROWS", 10_000)
    rotated = make_job(runs, "auto", priors=APART)
    assert isinstance(sequential.problem.evaluation, StateSpace)
    assert isinstance(rotated.problem.evaluation, Rotated)
    return sequential, rotated


def test_long_and_short_ways_are_one_density(monkeypatch):
    sequential, rotated = both_ways(long_curve(40), monkeypatch)
    start = prior_center(rotated.model, rotated.problem)
    for shift in (0.0, 0.3, -0.4):
        one, other = (jax.value_and_grad(log_density)(start + shift, j.model, j.problem) for j in (sequential, rotated))
        np.testing.assert_allclose(one[0], other[0], rtol=1e-9)
        np.testing.assert_allclose(one[1], other[1], rtol=1e-7, atol=1e-7)


def test_long_and_short_ways_say_the_same_of_single_rows(monkeypatch):
    sequential, rotated = both_ways(long_curve(20), monkeypatch)
    start = np.broadcast_to(np.asarray(prior_center(rotated.model, rotated.problem)), (1, 3, 5))
    values = jax.tree.map(
        lambda leaf: leaf.reshape(3, *leaf.shape[2:]), parameters.constrain_draws(start, rotated.model, rotated.problem)
    )
    order = np.argsort(np.asarray(rotated.problem.z)[:20, 0], kind="stable")
    np.testing.assert_allclose(
        pointwise(values, sequential.model, sequential.problem),
        pointwise(values, rotated.model, rotated.problem)[:, order],
        rtol=1e-7,
    )


def test_evaluations_are_chosen_by_rows_and_errors():
    plain, long, uneven = (
        make_job(long_curve(rows, errors=errors), "auto", priors=APART).problem
        for rows, errors in ((40, False), (300, False), (40, True))
    )
    assert isinstance(plain.evaluation, Rotated)
    assert isinstance(long.evaluation, StateSpace)
    assert isinstance(uneven.evaluation, StateSpace)
    assert (long.evaluation.scored, uneven.evaluation.scored) == (False, True)


@pytest.mark.long
@pytest.mark.slow
def test_ten_thousand_points_are_fitted():
    runs = long_curve(10_000)
    # The model that the points come from: those without a floor, which so many points refute, take longer trees.
    post = bs.fit(runs, seed=0, settings=bs.Nuts(warmup=200, draws=30, chains=1), priors=APART)
    (part,) = post.components
    assert np.isfinite(part.unconstrained).all()
    assert part.stats["n_steps"].mean() < 64
    # So many points know their scatter to one part in a hundred; chains that began elsewhere would still be there.
    total = np.sqrt(post.flat_values.residual_sd**2 + post.flat_values.seed_sd**2)
    assert abs(total.mean() / 0.01 - 1.0) < 0.04
    middle = part.thinned(10).predict(flops=[1e21], kind="mean").quantile(0.5)[0]
    assert abs(middle / (1.5 + 2.0 * 1e4**-0.15) - 1.0) < 0.01
