"""Importance sampling: against densities that are known, against NUTS, and against a proposal that is wrong."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import APART, positions
from scipy.stats import norm
from scipy.stats import t as student

import bayescale as bs
from bayescale.evaluate import sbc
from bayescale.evaluate.designs import made_up
from bayescale.fitting import importance_fit
from bayescale.fitting.batches import stacked
from bayescale.fitting.plan import FitPlan, plan_fit
from bayescale.inference import importance
from bayescale.inference.diagnostics import diagnose_weights
from bayescale.inference.importance import (
    KERNELS,
    Effort,
    Mixture,
    draw_points,
    proposal_density,
    run_importance,
    smoothed,
)
from bayescale.inference.modes import optimise_from_prior, sift_modes
from bayescale.inference.nuts import Start
from bayescale.inference.reparam import reparam_density, unconstrained_to_reparam

LEVELS = (0.05, 0.5, 0.95)
FAMILIES = ["marin_moe_v16_minima/paloma_macro_loss", "pythia/pile_test_xent", "rwkv4_pile/lambada_ppl"]


def weighted_normal(width=1.0, effort=(2, 2), most=2):
    """Points for a standard normal distribution in three dimensions, when its standard deviation is said to be this."""
    with jax.enable_x64(True):
        start = Start(jnp.zeros(3), width**2 * jnp.eye(3), 0.0, jnp.zeros(3))
        found = run_importance(
            jax.random.key(0), lambda v: (0.5 * v @ v, ()), start, start.mode[None], Effort(*effort), most
        )
        return jax.tree.map(np.asarray, found)


def test_weights_give_moments_and_evidence_of_a_known_density():
    found = weighted_normal()
    smooth, pareto = smoothed(found.log_weight)
    weight = np.exp(smooth)
    assert pareto < 0.5
    error = 1.0 / np.sqrt(1.0 / (weight**2).sum())
    np.testing.assert_allclose(weight @ found.position, 0.0, atol=4 * error)
    np.testing.assert_allclose(weight @ found.position**2, 1.0, atol=4 * np.sqrt(2.0) * error)
    evidence = np.log(np.exp(found.log_weight).mean())
    np.testing.assert_allclose(evidence, 1.5 * np.log(2 * np.pi), atol=4 * error)


def test_rounds_are_numbers_that_one_program_takes():
    short, longer = weighted_normal(effort=(2, 2), most=4), weighted_normal(effort=(2, 4), most=4)
    half = len(longer.log_weight) // 2
    np.testing.assert_array_equal(short.position[:half], longer.position[:half])
    np.testing.assert_array_equal(short.log_weight[:half], longer.log_weight[:half])
    assert np.isneginf(short.log_weight[half:]).all()
    assert np.isfinite(longer.log_weight).all()
    assert len(np.unique(longer.position[:, 0])) == 2 * half
    adapted = weighted_normal(effort=(3, 2), most=4)
    assert (adapted.position[:half] != short.position[:half]).all()


def test_mixture_states_its_own_density():
    rng = np.random.default_rng(0)
    factor = np.linalg.cholesky(np.array([[1.0, 0.6], [0.6, 0.5]]))
    with jax.enable_x64(True):
        mixture = Mixture(rng.standard_normal((KERNELS, 2)), 0.5 * factor, rng.standard_normal((2, 2)), 2.0 * factor)
        points = np.asarray(draw_points(jax.random.key(1), mixture, 40_000))
        # If the density is that of the points, the average of normal / density over them is one.
        log_normal = norm.logpdf(points, scale=0.8).sum(1)
        ratio = np.exp(log_normal - np.asarray(proposal_density(points, mixture, len(points))))
    assert abs(ratio.mean() - 1.0) < 4 * ratio.std() / np.sqrt(len(ratio))


def test_bad_proposal_is_caught_by_the_tail_of_its_weights(monkeypatch):
    # Light tails, a tenth as wide as the target, and no adaptation.
    for name, value in {"GUARD_WIDER": 1.0, "TAIL": 60, "GUARD_TAIL": 60}.items():
        monkeypatch.setattr(importance, name, value)
    found = weighted_normal(width=0.1, effort=(0, 2))
    narrow, pareto = smoothed(found.log_weight)
    measures = diagnose_weights(found.position, np.exp(narrow), pareto, 2000, 1, 400.0)
    assert pareto > 0.7
    assert measures.status is bs.Status.HEAVY_WEIGHTS


def test_draws_are_worth_what_is_said():
    rng, means, claims = np.random.default_rng(0), [], []
    for _ in range(500):
        points = rng.standard_t(4, (600, 1))
        weight = norm.pdf(points[:, 0]) / student.pdf(points[:, 0], 4)
        weight /= weight.sum()
        means.append(points[importance.resample(weight, 200, rng)].mean())
        claims.append(diagnose_weights(points, weight, 0.1, 200, 1, 400.0).ess_bulk[0])
    assert 1.0 / np.var(means) / np.mean(claims) == pytest.approx(1.0, abs=4 * np.sqrt(2 / 500))
    assert diagnose_weights(points, np.full(600, 1 / 600), 0.1, 200, 1, 400.0).ess_bulk[0] == pytest.approx(200)


@pytest.mark.parametrize(
    ("number", "least", "enough"), [(390, 400.0, False), (410, 400.0, True), (190, 200.0, False), (210, 200.0, True)]
)
def test_draws_are_enough_from_the_least_effective_sample_size_on(number, least, enough):
    points = np.random.default_rng(0).normal(size=(number, 2))
    measures = diagnose_weights(points, np.full(number, 1 / number), 0.1, number, 1, least)
    assert (measures.status is bs.Status.OK) == enough


def test_weights_that_are_not_numbers_are_a_status():
    smooth, pareto = smoothed(np.full(100, -np.inf))
    measures = diagnose_weights(np.zeros((100, 2)), np.exp(smooth), pareto, 50, 1, 400.0)
    assert measures.status is bs.Status.NONFINITE
    measures = diagnose_weights(np.zeros((100, 2)), np.full(100, np.nan), 0.1, 50, 1, 400.0)
    assert measures.status is bs.Status.NONFINITE


def test_one_weight_that_outweighs_all_others_is_a_status():
    smooth, pareto = smoothed(np.append(-np.linspace(1e3, 1e6, 999), 0.0))
    assert np.exp(smooth).max() == pytest.approx(1.0)
    measures = diagnose_weights(np.random.default_rng(0).normal(size=(1000, 2)), np.exp(smooth), pareto, 50, 1, 400.0)
    assert measures.status is not bs.Status.OK


@pytest.mark.parametrize("discrepancy", [None, "auto"])
def test_optimisations_end_where_the_density_is_at_least_that_of_the_truth(discrepancy):
    law, count = bs.LAWS["plateau_power"], 60
    whole = plan_fit(made_up(law, 16), law, discrepancy=discrepancy)
    plan = FitPlan(whole.jobs[:1])
    (job,) = plan.jobs
    truths, values = sbc.prior_values(plan, count, seed=0)
    ahead = sbc.beyond(job, (3.0,))
    one = [jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], values) for i in range(count)]
    outcomes = [sbc.simulate(job, one[i], ahead, np.random.default_rng(i))[0] for i in range(count)]
    problems = stacked([dataclasses.replace(job.problem, y=y) for y in outcomes], range(count))

    def missed(inputs):
        key, problem, truth = inputs
        _, heights = optimise_from_prior(key, job.model, problem, 75, False)
        there = unconstrained_to_reparam(truth, job.model, problem)
        return jnp.nanmin(heights) > -reparam_density(there, job.model, problem)[0]

    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), count)
        # Without a start loose enough to see every row, half of these fail where there is no discrepancy.
        assert np.asarray(jax.lax.map(missed, (keys, problems, truths))).sum() <= 3


@pytest.fixture(scope="module")
def drawn(marin):
    return bs.fit(marin, seed=0, method="importance", priors=APART)


def test_posterior_says_how_it_was_drawn(drawn, tmp_path):
    assert drawn.status is bs.Status.OK
    assert drawn.diagnostics.method == "importance"
    assert drawn.diagnostics.pareto_k < 0.7
    assert "Pareto k" in str(drawn)
    table = drawn.summary()
    assert table["ess_bulk"].max() <= drawn.diagnostics.ess_bulk.min() * 1.0001
    drawn.save(tmp_path / "fit.nc")
    again = bs.load(tmp_path / "fit.nc")
    np.testing.assert_allclose(again.unconstrained, drawn.unconstrained)
    np.testing.assert_allclose(again.diagnostics.ess_tail, drawn.diagnostics.ess_tail)
    assert again.diagnostics.pareto_k == drawn.diagnostics.pareto_k
    assert again.status is drawn.status
    inside = {"flops": 1e19}
    np.testing.assert_allclose(again.predict(**inside).location, drawn.predict(**inside).location)


def test_equal_seeds_give_equal_draws(drawn, marin):
    before = dict(importance.TRACES)
    again = bs.fit(marin, seed=0, method="importance", priors=APART)
    np.testing.assert_array_equal(again.unconstrained, drawn.unconstrained)
    assert before == importance.TRACES


def test_weights_that_deserve_no_trust_are_drawn_again_for_longer(drawn, marin, monkeypatch):
    before, tails = dict(importance.TRACES), [0.9, 0.1]
    monkeypatch.setattr(importance_fit, "smoothed", lambda log_weight: (smoothed(log_weight)[0], tails.pop(0)))
    post = bs.fit(marin, seed=0, method="importance", priors=APART)
    assert post.status is bs.Status.OK
    assert post.diagnostics.ess_weights > 2.5 * drawn.diagnostics.ess_weights
    assert post.unconstrained.shape == drawn.unconstrained.shape
    assert before == importance.TRACES
    tails[:] = [0.9]
    few = bs.fit(marin, seed=0, method="importance", priors=APART, settings=bs.Nuts(chains=2, draws=50))
    assert few.status is bs.Status.HEAVY_WEIGHTS


def test_points_are_added_until_they_are_enough(drawn, marin, monkeypatch):
    before, seen = dict(importance.TRACES), []

    def demanding(position, weight, *rest):
        seen.append(len(position))
        measures = diagnose_weights(position, weight, *rest)
        enough = measures.ess_weights >= 8 * drawn.diagnostics.ess_weights
        return measures if enough else dataclasses.replace(measures, status=bs.Status.FEW_POINTS)

    monkeypatch.setattr(importance_fit, "diagnose_weights", demanding)
    post = bs.fit(marin, seed=0, method="importance", priors=APART)
    assert post.status is bs.Status.OK
    assert 3 <= len(seen) < importance.ATTEMPTS
    # The first attempt, in which the mixture has hardly adapted, gives way to the second; later ones join it.
    assert seen == [seen[0], *(importance.LONGER * seen[0] * np.arange(1, len(seen)))]
    assert len(np.unique(post.unconstrained[..., 0])) > 0.9 * post.unconstrained[..., 0].size
    assert before == importance.TRACES


def test_auto_turns_to_chains_where_weights_are_bad(marin, marin_post, monkeypatch):
    monkeypatch.setattr(importance_fit, "smoothed", lambda log_weight: (smoothed(log_weight)[0], 0.9))
    post = bs.fit(marin, seed=0, method="auto")
    assert [part.diagnostics.method for part in post.components] == ["nuts"] * 3
    assert [part.diagnostics.pareto_k for part in post.components] == [0.9] * 3
    assert "since importance sampling" in str(post)
    np.testing.assert_array_equal(positions(post), positions(marin_post))
    with pytest.raises(bs.InputError, match="importance"):
        bs.fit(marin, seed=0, method="importence")


def test_modes_are_found_drawn_from_and_reported(drawn):
    def potential(v):
        """Three quarters of the mass around zero, a quarter around eight, and next to nothing around -8."""
        heights = jnp.log(jnp.array([0.75, 0.25, 1e-4]))
        return -jax.nn.logsumexp(heights - 0.5 * ((v - jnp.array([[0.0], [8.0], [-8.0]])) ** 2).sum(1))

    with jax.enable_x64(True):
        # The second optimisation ended where the first did, the fifth has not arrived.
        places = jnp.array([[0.0, 0.0], [1e-6, 0.0], [8.0, 8.0], [-8.0, -8.0], [5.0, 5.0]])
        modes = sift_modes(potential, places, 0)
        assert int(modes.count) == 2
        np.testing.assert_allclose(modes.points, [[0, 0], [0, 0], [8, 8], [0, 0], [0, 0]], atol=1e-9)
        found = run_importance(
            jax.random.key(0), lambda v: (potential(v), ()), modes.start, modes.points, Effort(2, 3), 3
        )
    weight = np.exp(smoothed(np.asarray(found.log_weight))[0])
    far = np.asarray(found.position)[:, 0] > 4.0
    assert abs(weight[far].sum() - 0.25) < 0.04
    double = dataclasses.replace(drawn, diagnostics=dataclasses.replace(drawn.diagnostics, modes=2))
    assert double.check()[0].code == "several_modes"


def quantiles_and_errors(draws, ess):
    """Mean and quantiles of draws with their Monte Carlo standard errors, by the normal density at each quantile."""
    shares = np.array(LEVELS)
    spread = draws.std()
    found = np.append(draws.mean(), np.quantile(draws, shares))
    error = np.sqrt(shares * (1 - shares) / ess) * spread / norm.pdf(norm.ppf(shares))
    return found, np.append(spread / np.sqrt(ess), error)


@pytest.mark.parametrize("name", FAMILIES)
def test_forecasts_agree_with_nuts(name):
    runs = bs.corpus.curves()[name]
    one = bs.fit(runs, seed=0, method="importance")
    other = bs.fit(runs, seed=1)
    target = {runs.inputs[0]: [3.0 * runs.frame[runs.inputs[0]].max()]}
    pairs = []
    for post in (one, other):
        sizes = [min(part.diagnostics.ess_bulk.min(), part.diagnostics.ess_tail.min()) for part in post.components]
        ess = len(sizes) * min(sizes)
        pairs.append(quantiles_and_errors(post.predict(kind="mean", **target).location.ravel(), ess))
    (first, error), (second, wobble) = pairs
    assert (np.abs(first - second) <= 4 * np.hypot(error, wobble)).all(), (first, second)
