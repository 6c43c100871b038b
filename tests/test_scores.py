"""Scores of mixtures of normals, against closed forms and samples."""

import numpy as np
import pytest
from scipy.stats import norm

from bayescale.evaluate import scores
from bayescale.forecast import BLOCK, mixture_cdf, mixture_quantile


def normal_crps(y, location, scale):
    w = (y - location) / scale
    return scale * (w * (2 * norm.cdf(w) - 1) + 2 * norm.pdf(w) - 1 / np.sqrt(np.pi))


def gini_crps(y, location, scale):
    """The Gini form with all pairs, for one point."""

    def away(d, s):
        return 2 * s * norm.pdf(d / s) + d * (2 * norm.cdf(d / s) - 1)

    pairs = away(location[:, None] - location, np.hypot(scale[:, None], scale))
    return away(y - location, scale).mean() - 0.5 * pairs.mean()


@pytest.fixture
def mixture():
    rng = np.random.default_rng(0)
    location = 1.0 + 0.05 * rng.standard_t(3, size=(300, 4)) * np.array([0.01, 0.3, 1.0, 5.0])
    scale = 0.02 * np.exp(rng.normal(size=(300, 4)))
    return np.array([0.98, 1.0, 1.2, 0.5]), location, scale


@pytest.mark.parametrize("draws", [1, 7, 500])
@pytest.mark.parametrize("scale", [1e-4, 0.03, 5.0])
def test_crps_of_one_normal(draws, scale):
    y = 1.0 + scale * np.array([-6.0, -1.0, 0.0, 0.3, 4.0])
    got = scores.crps(y, np.full((draws, 5), 1.0), np.full((draws, 5), scale))
    np.testing.assert_allclose(got, normal_crps(y, 1.0, scale), rtol=1e-6)


def test_crps_of_mixtures_by_all_pairs(mixture):
    y, location, scale = mixture
    expected = [gini_crps(y[i], location[:, i], scale[:, i]) for i in range(len(y))]
    np.testing.assert_allclose(scores.crps(y, location, scale), expected, rtol=1e-4)


def test_crps_of_separate_narrow_components():
    location, scale = np.array([[0.0], [1.0], [40.0]]), np.array([[1e-3], [1e-5], [0.5]])
    expected = gini_crps(0.7, location[:, 0], scale[:, 0])
    np.testing.assert_allclose(scores.crps(np.array([0.7]), location, scale), expected, rtol=1e-4)


def test_crps_by_samples(mixture):
    y, location, scale = mixture
    rng = np.random.default_rng(1)
    x = np.sort(np.concatenate([rng.normal(location, scale) for _ in range(700)]), axis=0)
    n = len(x)
    gini = ((2 * np.arange(1, n + 1) - n - 1)[:, None] * x).sum(0) / n**2
    np.testing.assert_allclose(scores.crps(y, location, scale), np.abs(x - y).mean(0) - gini, rtol=0.01)


def test_crps_without_width_is_that_of_the_ensemble():
    location = np.array([[1.0], [2.0], [4.0]])
    expected = (1.5 + 0.5 + 1.5) / 3 - 0.5 * 2 * (1 + 3 + 2) / 9
    np.testing.assert_allclose(scores.crps(np.array([2.5]), location, np.zeros((3, 1))), expected)


def test_pit_and_log_score(mixture):
    y, location, scale = mixture
    np.testing.assert_allclose(scores.pit(y, location, scale), norm.cdf(y, location, scale).mean(0))
    expected = np.log(norm.pdf(y, location, scale).mean(0))
    np.testing.assert_allclose(scores.log_score(y, location, scale), expected)


def test_log_score_far_out_is_finite():
    got = scores.log_score(np.array([100.0]), np.zeros((2, 1)), np.ones((2, 1)))
    np.testing.assert_allclose(got, norm.logpdf(100.0))


def test_interval_score_and_covered():
    y, low, high = np.array([0.5, 2.0, 3.5, 3.0]), np.ones(4), np.full(4, 3.0)
    np.testing.assert_allclose(scores.interval_score(y, low, high, 0.8), [2 + 5, 2, 2 + 5, 2])
    assert scores.covered(y, low, high).tolist() == [False, True, False, True]


# --- Quantiles ------------------------------------------------------------------------------------------------

PROBABILITIES = np.array([1e-4, 0.025, 0.5, 0.9, 0.9999])


def test_quantiles_undo_the_distribution_function(mixture):
    _, location, scale = mixture
    found = mixture_quantile(PROBABILITIES, location, scale)
    assert found.shape == (5, 4)
    expected = np.broadcast_to(PROBABILITIES[:, None], found.shape)
    np.testing.assert_allclose([mixture_cdf(row, location, scale) for row in found], expected, rtol=1e-9)


def test_quantiles_of_many_points_are_those_of_each(mixture):
    _, location, scale = mixture
    copies = BLOCK // location.size + 2
    found = mixture_quantile(PROBABILITIES, np.tile(location, copies), np.tile(scale, copies))
    np.testing.assert_allclose(found, np.tile(mixture_quantile(PROBABILITIES, location, scale), copies), rtol=1e-12)


def test_quantiles_of_steps_and_of_one_normal():
    steps = mixture_quantile(
        np.array([0.1, 0.5, 0.9]), np.array([[1.0, 4.0], [2.0, 4.0], [3.0, 4.0]]), np.zeros((3, 2))
    )
    np.testing.assert_allclose(steps, [[1.0, 4.0], [2.0, 4.0], [3.0, 4.0]], atol=1e-10)
    one = mixture_quantile(PROBABILITIES, np.full((3, 1), -2.0), np.full((3, 1), 0.5))
    np.testing.assert_allclose(one[:, 0], norm.ppf(PROBABILITIES, -2.0, 0.5), rtol=1e-12)


def test_quantiles_of_what_is_no_number_are_none():
    assert np.isnan(mixture_quantile(PROBABILITIES, np.full((3, 1), np.nan), np.ones((3, 1)))).all()
