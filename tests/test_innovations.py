"""What the discrepancy adds beyond the data: innovations, their factor and their trend."""

import dataclasses

import numpy as np
import pandas as pd
from conftest import with_job

import bayescale as bs
from bayescale.model.discrepancy import innovation_kernel, kernel
from bayescale.model.prepare import axis_positions


def with_discrepancy(post, **changes):
    """The same draws, of which forecasts are made with another discrepancy."""
    model = post.first.job.model
    discrepancy = dataclasses.replace(model.discrepancy, **{name: np.asarray(value) for name, value in changes.items()})
    return with_job(post, model=dataclasses.replace(model, discrepancy=discrepancy))


def test_innovations_beyond_the_data_have_a_factor_for_each_draw(marin_post):
    part = marin_post.components[0]
    amplitude = np.asarray(part.flat_values.amplitude)
    factors = part.discrepancy.factors(len(amplitude), len(part.runs.frame))
    scaled = with_discrepancy(part, trend=0.0)
    unscaled = with_discrepancy(part, ahead=0.0, ahead_median=1.0, trend=0.0)
    flops = np.array([1e20, 1e21, 1e22])
    one, other = (post.predict(flops=flops, kind="mean") for post in (scaled, unscaled))
    np.testing.assert_allclose(one.location, other.location)
    # Between the smallest and the largest run nothing changes.
    np.testing.assert_allclose(one.scale[:, 0], other.scale[:, 0])
    job = part.job
    old, new = (
        axis_positions(job.model.law, job.problem, job.low, z)
        for z in (job.problem.z[: job.problem.rows], np.log(flops[:, None] / job.reference))
    )
    fresh = np.diag(innovation_kernel(new, old, part.discrepancy))
    gained = one.scale**2 - other.scale**2
    expected = (amplitude**2 * (factors**2 - 1.0))[:, None] * fresh
    np.testing.assert_allclose(gained, expected, rtol=1e-6, atol=1e-12)
    # Joint draws have the same spread.
    np.testing.assert_allclose(
        one.log_draws.std(axis=(0, 1)), np.sqrt((one.scale**2).mean(0) + one.location.var(0)), rtol=0.2
    )


def test_more_rows_of_a_curve_lower_the_factor_up_to_the_many_of_the_record():
    curve, ladder = (bs.Discrepancy().completed(design) for design in ("curve", "ladder"))
    medians = [np.median(curve.factors(2001, rows)) for rows in (4, 8, 16, 40, 1000)]
    np.testing.assert_allclose(medians, 0.75 * np.array([1.0, 1.0, 0.5**0.4, 0.2**0.4, 0.2**0.4]))
    np.testing.assert_array_equal(ladder.factors(100, 4), ladder.factors(100, 400))


def test_innovations_are_what_value_and_slope_at_the_edge_leave_open():
    discrepancy = bs.Discrepancy(memory=0.7).completed("curve")
    old = np.array([0.0, 0.3, 1.0 - 2e-4, 1.0])[:, None]
    new = np.array([0.5, 1.2, 2.5, -0.4])[:, None]
    fresh = innovation_kernel(new, old, discrepancy)
    within, cross = kernel(old[1:], old[1:], discrepancy), kernel(new, old[1:], discrepancy)
    left = kernel(new, new, discrepancy) - cross @ np.linalg.solve(within, cross.T)
    np.testing.assert_allclose(fresh[1:3, 1:3], left[1:3, 1:3], rtol=2e-3)
    # None within the data, and none that both sides share.
    assert not fresh[0].any()
    assert not fresh[3, 1:3].any()
    assert fresh[3, 3] > 0.0


def test_innovations_of_several_inputs_leave_a_covariance():
    rng = np.random.default_rng(0)
    discrepancy = bs.Discrepancy().completed("several")
    old, new = rng.uniform(0.0, 1.0, (6, 2)), rng.uniform(-0.5, 3.0, (9, 2))
    everywhere = np.concatenate([old, new])
    fresh, carried = innovation_kernel(new, old, discrepancy), kernel(everywhere, everywhere, discrepancy)
    carried[6:, 6:] -= fresh
    assert np.linalg.eigvalsh(fresh).min() > -1e-9
    assert np.linalg.eigvalsh(carried).min() > -1e-9


def test_trend_moves_forecasts_beyond_the_data_only(marin_post):
    part = marin_post.components[0]
    flops = [1e17, 1e18, 5e19, 3e20, 3.1e20, 1e21, 4e21]
    even, moved = (with_discrepancy(part, trend=trend).predict(flops=flops, kind="mean") for trend in (0.0, 0.4))
    np.testing.assert_allclose(even.location[:, :4], moved.location[:, :4], atol=1e-9)
    np.testing.assert_allclose(even.scale, moved.scale, rtol=1e-6)
    # The law falls.
    assert (moved.location[:, 4:] < even.location[:, 4:]).all()
    # Joint draws follow, and nothing jumps where the data end.
    shift = np.median(moved.log_draws, axis=(0, 1)) - np.median(even.log_draws, axis=(0, 1))
    assert abs(shift[4]) < -0.2 * shift[6]


def test_trend_of_a_rising_law_is_upwards():
    size = np.geomspace(1e6, 1e10, 9)
    runs = bs.Runs.from_frame(pd.DataFrame({"x": size, "loss": 2.0 * size**0.1}), inputs="x")
    post = bs.fit(runs, law="growing_power", seed=0)
    even, moved = (with_discrepancy(post, trend=trend).predict(x=1.5e11, kind="mean") for trend in (0.0, 0.4))
    assert (moved.location > even.location).all()
