"""A local trend and rolling extrapolations: their intervals hold where what they assume is true."""

import numpy as np
import pandas as pd
import pytest

from bayescale.evaluate import scores
from benchmarks.core.methods import rolling
from benchmarks.core.methods import state_space as trend
from benchmarks.core.problems import Problem

LEVELS = (0.5, 0.8, 0.95)


def problem(name, x, y, rows, inputs=("flops",)):
    table = pd.DataFrame(np.atleast_2d(np.asarray(x).T).T.reshape(len(y), -1), columns=list(inputs))
    table = table.assign(loss=np.exp(y))
    train, held = table[:rows], table[rows:].reset_index(drop=True)
    return Problem("simulated", name, "loss", "one input", "half", inputs, train, held)


def kalman(at, y, rows, damping, rates):
    """Means and variances ahead by a filter of level and slope, observation variance one, all runs in order."""
    state, cover, place = np.zeros(2), trend.LARGE * np.eye(2), 0.0
    means, variances = [], []
    for i, here in enumerate(at):
        d, place = here - place, here
        keep, reach = np.exp(-damping * d), (1.0 - np.exp(-damping * d)) / damping
        move = np.array([[1.0, reach], [0.0, keep]])
        fine = np.linspace(0.0, d, 4001)
        pushed = np.stack([(1.0 - np.exp(-damping * fine)) / damping, np.exp(-damping * fine)])
        noise = rates[0] * np.trapezoid(pushed[:, None] * pushed[None], fine)
        noise[0, 0] += rates[1] * d
        state, cover = move @ state, move @ cover @ move.T + noise
        if i >= rows:
            means.append(state[0])
            variances.append(cover[0, 0] + 1.0)
            continue
        gain = cover[:, 0] / (cover[0, 0] + 1.0)
        state = state + gain * (y[i] - state[0])
        cover = cover - np.outer(gain, cover[0])
    return np.array(means), np.array(variances)


def test_local_trend_is_what_a_filter_gives():
    rng = np.random.default_rng(0)
    at = np.sort(rng.uniform(0.0, 2.0, 14))
    at[0] = 0.0
    y, rows, damping = rng.normal(size=10) + at[:10], 10, 0.7
    where = trend.Places(at, np.empty((14, 0)))
    shape = 5.0
    _, means, spreads = trend.conditioned(where, y, rows, damping, shape)
    for number in (0, 9, 27):
        rates = trend.candidates()[number]
        mean, variance = kalman(at, y, rows, damping, rates)
        np.testing.assert_allclose(means[number], mean, rtol=1e-3, atol=1e-3)
        # The overall variance is common to all, so ratios of variances are those of the filter.
        np.testing.assert_allclose(spreads[number] ** 2 / spreads[number, 0] ** 2, variance / variance[0], rtol=1e-3)


def simulated_trend(number, rows=25, ahead=4, sd=0.01):
    """Level and slope along unequal steps, damping and innovations drawn from the grid that the rival averages over."""
    rng = np.random.default_rng(number)
    damping, (slopes, levels) = rng.choice(trend.DAMPINGS), rng.choice(trend.candidates()) * sd**2
    at = np.sort(np.concatenate([[0.0, 1.0], rng.uniform(0.0, 1.0, rows - 2), rng.uniform(1.1, 1.8, ahead)]))
    fine = np.linspace(0.0, 2.0, 2001)
    slope, level, step = np.full(2001, -0.5), np.zeros(2001), fine[1]
    pushes = np.sqrt(step) * rng.normal(size=(2001, 2)) * np.sqrt([slopes, levels])
    for i in range(1, 2001):
        slope[i] = slope[i - 1] * (1.0 - damping * step) + pushes[i, 0]
        level[i] = level[i - 1] + slope[i - 1] * step + pushes[i, 1]
    y = np.interp(at, fine, level) + sd * rng.normal(size=len(at))
    return problem(f"family {number}", np.exp(6.0 * at), y, rows)


def test_local_trend_holds_its_own_model():
    problems = [simulated_trend(number) for number in range(200)]
    pits, errors = [], []
    for one, found in zip(problems, trend.local_trend(problems), strict=True):
        y = np.log(one.held["loss"].to_numpy())
        pits.append(scores.pit(y, found.location, found.scale))
        errors.append(np.median(found.location, axis=0) - y)
    away = np.abs(np.array(pits) - 0.5)
    for level in LEVELS:
        assert (away <= level / 2).mean() == pytest.approx(level, abs=0.08), level
    # The level falls by up to .5 a span; the forecast follows it without bias.
    assert abs(np.median(errors)) < 0.01


def test_local_trend_of_several_inputs_runs_along_compute():
    """A valley of the mix of parameters and tokens around a line along compute is recovered."""
    rng = np.random.default_rng(3)
    size, tokens = np.exp(rng.uniform(0, 5, 40)), np.exp(rng.uniform(0, 5, 40))
    order = np.argsort(size * tokens)
    x = np.column_stack([size, tokens])[order]
    mix = np.diff(np.log(x), axis=1)[:, 0]
    y = 1.0 - 0.1 * np.log(x.prod(1)) + 0.01 * mix**2 + 0.002 * rng.normal(size=40)
    found = next(trend.local_trend([problem("grid", x, y, 30, ("n_params", "n_tokens"))]))
    assert np.abs(found.location.mean(0) - y[30:]).max() < 0.03
    assert np.abs((y[30:] - found.location.mean(0)) / found.scale.mean(0)).max() < 4.0


def test_repeated_scales_and_a_repeated_setting_have_finite_forecasts():
    x = np.array([1.0, 1.0, 2.0, 4.0, 4.0, 8.0, 16.0])
    for method in (trend.local_trend, rolling.rolling_conformal):
        found = next(method([problem("twice", x, -0.1 * np.log(x), 5)]))
        assert np.isfinite(found.location).all()
        assert (found.scale > 0).all()


def power_law(number, rows=24):
    """A power law with a floor and independent scatter, held out at twice the scale."""
    rng = np.random.default_rng(1000 + number)
    x = np.append(np.geomspace(1.0, 64.0, rows), 128.0)
    y = np.log(1.0 + 2.0 * x**-0.5) + 0.01 * rng.normal(size=len(x))
    return problem(f"family {number}", x, y, rows)


def test_rolling_conformal_holds_no_less_than_it_states_where_the_law_is_true():
    problems = [power_law(number) for number in range(120)]
    pits = [
        scores.pit(np.log(one.held["loss"].to_numpy()), found.location, found.scale)
        for one, found in zip(problems, rolling.rolling_conformal(problems), strict=True)
    ]
    away = np.abs(np.concatenate(pits) - 0.5)
    # Early fits rest on fewer runs than the last one and miss by more, so intervals hold what they state and more.
    for level in LEVELS:
        assert (away <= level / 2).mean() >= level - 0.05, level
    assert (away <= 0.25).mean() < 0.9


def test_rolling_conformal_is_exact_for_errors_that_could_be_exchanged():
    rng = np.random.default_rng(5)
    quantiles = np.array([0.75, 0.9, 0.975])
    inside = np.zeros(3)
    for _ in range(2000):
        size = np.abs(rng.standard_t(3, 20))
        errors = rolling.Errors(size[:19], np.full(19, np.log(4.0)), np.arange(19.0))
        inside += size[19] <= rolling.half_widths(errors, np.log(4.0), 0.1, 9, quantiles)
    np.testing.assert_allclose(inside / 2000, [0.5, 0.8, 0.95], atol=0.03)


def test_errors_at_the_asked_distance_count_as_they_are_and_others_in_proportion():
    levels = np.array([0.025, 0.25, 0.5, 0.75, 0.975])
    many = rolling.Errors(np.arange(1.0, 20.0), np.full(19, np.log(4.0)), np.arange(19.0))
    # Of 19 errors the 10th bounds half of the next ones, the 19th 95 %.
    np.testing.assert_allclose(
        rolling.half_widths(many, np.log(4.0), 0.1, 9, levels), [-19.0, -10.0, 0.0, 10.0, 19.0], atol=1e-6
    )
    far = rolling.half_widths(many, 4.0 * np.log(4.0), 0.1, 9, levels)
    np.testing.assert_allclose(far, [-76.0, -40.0, 0.0, 40.0, 76.0], atol=1e-6)
    few = rolling.Errors(np.ones(3), np.full(3, np.log(4.0)), np.zeros(3))
    # Three errors support 75 %; beyond, Student's t with one degree of freedom takes over.
    assert rolling.half_widths(few, np.log(4.0), 0.1, 9, levels)[-1] == pytest.approx(12.706 / 2.414, rel=1e-3)
    none = rolling.Errors(np.empty(0), np.empty(0), np.empty(0))
    assert rolling.half_widths(none, 1.0, 0.1, 2, levels)[-1] == pytest.approx(0.1 * 4.3027, rel=1e-4)


def test_origins_leave_runs_to_fit_and_to_forecast():
    compute = np.geomspace(1.0, 1000.0, 40)
    ends = rolling.origins(compute, 1)
    assert len(ends) == rolling.ORIGINS
    assert (compute <= ends[0]).sum() >= 4
    assert ends[-1] < compute[-1]
    assert len(rolling.origins(compute[:4], 1)) == 0
    assert len(rolling.origins(compute[:5], 1)) == 1
