"""Scores whose chance level or ceiling is sampled, and beta-binomial counts: from the table to the decision."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from conftest import FEW, sampled_by_numpyro
from scipy.special import expit

import bayescale as bs
from bayescale.data.score import ScoreScale
from bayescale.model.density import log_density
from bayescale.model.evaluations.counts import empty
from bayescale.model.parameters import coordinates, read
from bayescale.model.prepare import make_jobs
from bayescale.model.problem import RANGE
from bayescale.model.score_range import uncertain_chance

LOGISTIC = {"terms": bs.Plateaus(plateau="power")}
SIZES = np.geomspace(1e8, 3e10, 8)
BOTH = {"chance": 0.25, "chance_sd": 0.02, "ceiling": 0.95, "ceiling_sd": 0.02}


def truth(n_params, chance=0.25, ceiling=1.0):
    """Score of a logistic curve between chance and a ceiling."""
    return chance + (ceiling - chance) * expit(0.8 * np.log(np.asarray(n_params) / 4e9))


def table(items=500, sizes=SIZES, seed=0, **ends):
    """Scores of some sizes on so many items."""
    right = np.random.default_rng(seed).binomial(items, truth(sizes, **ends))
    return pd.DataFrame({"params": sizes, "accuracy": right / items, "n_items": items})


def job_of(runs, **options):
    """The job of one model of runs."""
    (job,) = make_jobs(runs, priors=LOGISTIC, **options)
    return job


@pytest.fixture(scope="module")
def uncertain():
    """A fit with everything sampled: chance, ceiling and concentration."""
    runs = bs.read(table(ceiling=0.95), score="accuracy", **BOTH)
    return bs.fit(runs, seed=0, priors=LOGISTIC, likelihood="beta-binomial", settings=FEW)


# --- Model ----------------------------------------------------------------------------------------------------


def test_known_ends_and_binomial_counts_add_nothing():
    job = job_of(bs.read(table(), score="accuracy", chance=0.25))
    names = coordinates(job.model, job.problem)
    assert not {name for name in names if "chance" in name or "ceiling" in name or "concentration" in name}
    values, _ = read(np.zeros(len(names)), job.model, job.problem)
    assert all(empty(getattr(values, name)) for name in RANGE)
    whole = job_of(bs.read(table(), score="accuracy", **BOTH), likelihood="beta-binomial")
    more = set(coordinates(whole.model, whole.problem)) - set(names)
    assert more == {"standard_chance", "standard_ceiling", "log_concentration"}


@pytest.mark.parametrize(("value", "sd", "width"), [(0.25, 0.03, 0.625), (0.5, 0.02, 0.75), (0.05, 0.01, 0.5)])
def test_prior_of_an_end_has_the_stated_median_and_sd(value, sd, width):
    score = np.random.default_rng(0).standard_normal(100_000)
    drawn = np.asarray(uncertain_chance(score, value, sd, width))
    assert np.median(drawn) == pytest.approx(value, abs=4 * sd / np.sqrt(len(score)))
    assert drawn.std() == pytest.approx(sd, rel=0.1)
    assert 0.0 < drawn.min() < drawn.max() < width


def test_prior_of_an_end_at_the_edge_is_half_normal():
    score = np.random.default_rng(0).standard_normal(100_000)
    drawn = np.asarray(uncertain_chance(score, 0.0, 0.03, 0.5))
    assert (drawn >= 0.0).all()
    np.testing.assert_allclose(np.quantile(drawn, [0.25, 0.5, 0.9]), 0.03 * np.array([0.319, 0.674, 1.645]), rtol=0.02)


@pytest.mark.parametrize("items", [1, 100])
@pytest.mark.parametrize("right", [0, 25, 100])
@pytest.mark.parametrize(
    "scale",
    [
        ScoreScale(0.25, chance_sd=0.02),
        ScoreScale(0.25, ceiling_sd=0.03),
        ScoreScale(chance_sd=0.02),
        ScoreScale(0.25, 0.97, chance_sd=0.02, ceiling_sd=0.01),
        ScoreScale(0.25),
        ScoreScale(),
    ],
    ids=str,
)
@pytest.mark.parametrize("likelihood", ["binomial", "beta-binomial"])
def test_gradients_are_finite_at_chance_zero_and_full_marks(right, scale, items, likelihood):
    import jax

    score = min(right, items) / items
    runs = bs.Runs.from_frame(pd.DataFrame({"n_params": SIZES[:3], "score": 0.5, "n_items": items}), score=scale)
    loss = np.exp(scale.log_odds(scale.shrunk([score] * 3, items)))
    runs = dataclasses.replace(runs, frame=runs.frame.assign(score=score, loss=loss))
    job = job_of(runs, likelihood=likelihood)
    vector = np.random.default_rng(0).standard_normal(len(coordinates(job.model, job.problem)))
    with jax.enable_x64(True):
        # The last vector has a level at which no item is right.
        for moved in (vector, 0.0 * vector, 6.0 * vector, vector + 30.0 * (np.arange(len(vector)) == 3)):
            value, slope = jax.value_and_grad(log_density)(moved, job.model, job.problem)
            assert np.isfinite(value)
            assert np.isfinite(slope).all()


def test_counts_are_those_of_the_textbook():
    from scipy.stats import betabinom, binom

    runs = bs.read(table(), score="accuracy", **BOTH)
    for likelihood in ("binomial", "beta-binomial"):
        job = job_of(runs, likelihood=likelihood)
        values, _ = read(0.3 * np.ones(len(coordinates(job.model, job.problem))), job.model, job.problem)
        odds = np.linspace(-2.0, 2.0, len(np.asarray(job.problem.evaluation.items)))
        found = np.asarray(job.problem.evaluation.log_probability(odds, values))[: len(runs)]
        chance, ceiling = float(values.chance), float(values.ceiling)
        assert (chance, ceiling) != (0.25, 0.95)
        share = ScoreScale(chance, ceiling).score(odds)[: len(runs)]
        right = np.round(runs.frame["score"] * 500)
        stated = binom.logpmf(right, 500, share)
        if not empty(values.concentration):
            k = float(values.concentration)
            stated = betabinom.logpmf(right, 500, share * k, k - share * k)
        np.testing.assert_allclose(found, stated, rtol=1e-3)


# --- Reading --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"score": "accuracy", "chance_sd": -1.0}, "chance_sd must be a positive number"),
        ({"score": "accuracy", "chance": 0.25, "chance_sd": 0.4}, "chance_sd (--chance-sd) must be at most a quarter"),
        ({"score": "accuracy", "ceiling_sd": 0.4}, "ceiling_sd (--ceiling-sd) must be at most a quarter"),
        ({"loss": "accuracy", "chance_sd": 0.02}, "chance_sd (--chance-sd) applies only to scores"),
        ({"score": "accuracy", "chance": 0.5}, "give chance_sd= (--chance-sd)"),
        ({"score": "accuracy", "chance": 0.5, "chance_sd": 0.001}, "give a larger chance_sd= (--chance-sd)"),
        ({"score": "accuracy", "ceiling": 0.5}, "with ceiling_sd= (--ceiling-sd)"),
    ],
)
def test_impossible_ranges_are_refused(options, said):
    frame = table().assign(accuracy=[0.3, 0.31, 0.3, 0.32, 0.33, 0.36, 0.4, 0.9])
    with pytest.raises(bs.InputError) as error:
        bs.read(frame, **options)
    assert said in str(error.value)


def test_scores_outside_a_range_that_is_uncertain_are_read():
    below = table().assign(accuracy=[0.18, 0.19, 0.17, 0.18, 0.2, 0.18, 0.3, 0.6])
    with pytest.raises(bs.InputError, match="lie below chance"):
        bs.read(below, score="accuracy", chance=0.25)
    assert len(bs.read(below, score="accuracy", chance=0.25, chance_sd=0.03)) == 8
    above = table().assign(accuracy=[0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.98])
    with pytest.raises(bs.InputError, match="lies above ceiling"):
        bs.read(above, score="accuracy", ceiling=0.95)
    assert len(bs.read(above, score="accuracy", ceiling=0.95, ceiling_sd=0.02)) == 8


def test_a_target_beyond_an_uncertain_end_is_allowed():
    known, unsure = ScoreScale(0.25, 0.95), ScoreScale(0.25, 0.95, ceiling_sd=0.02)
    with pytest.raises(bs.InputError, match=r"its ceiling 0\.95"):
        known.check_target(0.96)
    unsure.check_target(0.96)
    with pytest.raises(bs.InputError, match=r"between chance 0\.25"):
        unsure.check_target(0.2)


def test_likelihoods_of_scores_are_named():
    runs = bs.read(table(), score="accuracy", chance=0.25)
    assert job_of(runs, likelihood="beta-binomial").likelihood == bs.BetaBinomial()
    with pytest.raises(bs.InputError, match="beta-binomial"):
        bs.fit(runs, seed=0, likelihood="student")
    with pytest.raises(bs.InputError, match="a beta-binomial likelihood is for scores"):
        bs.fit(bs.corpus.load("marin_moe_v16_minima"), seed=0, likelihood="beta-binomial")
    with pytest.raises(bs.InputError, match="concentration must be a positive number"):
        bs.BetaBinomial(concentration=-1.0)
    with pytest.raises(bs.InputError, match="BetaBinomial allows only tail=None"):
        bs.BetaBinomial(tail=4.0)


# --- Fits -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.long
def test_format_failures_lower_chance():
    """Small models score .17 where guessing scores .25: more than the sampling of 2,000 items explains."""
    frame = table(items=2000, sizes=np.geomspace(1e6, 3e10, 8), chance=0.17)
    runs = bs.read(frame, score="accuracy", chance=0.25, chance_sd=0.05)
    post = bs.fit(runs, seed=0, priors=LOGISTIC)
    assert post.trustworthy
    low, high = np.quantile(post.draws["chance"], [0.025, 0.975])
    assert low < 0.17 < high
    assert high < 0.22
    small = post.predict(n_params=1e5, kind="mean").interval(0.95)[:, 0]
    assert small[0] < 0.17 < small[1] < 0.22
    assert "chance" in post.summary().index


@pytest.mark.slow
@pytest.mark.long
def test_models_at_chance_say_nothing_about_far_larger_ones():
    right = np.random.default_rng(0).binomial(100, 0.25, 6)
    frame = pd.DataFrame({"n_params": np.geomspace(1e7, 3e8, 6), "score": right / 100, "n_items": 100})
    scale = ScoreScale(0.25, chance_sd=0.02, ceiling_sd=0.03)
    found = bs.fit(bs.Runs.from_frame(frame, score=scale), seed=0)
    assert found.status is bs.Status.OK and not found.trustworthy
    low, high = found.predict(n_params=3e10, kind="mean").interval(0.95)[:, 0]
    assert 0.17 < low < 0.28
    assert 0.88 < high < 1.0
    assert "at_chance" in {note.code for note in found.check()}


@pytest.mark.slow
def test_forecast_uses_the_range_of_each_draw(uncertain):
    at = {"n_params": [1e5, 1e9, 1e16]}
    mean, run = (uncertain.predict(at, kind=kind) for kind in ("mean", "run"))
    drawn = uncertain.drawn_score
    first = mean.draws.reshape(-1, 3)
    assert (first[:, 0] > drawn.chance - 1e-9).all()
    assert (first[:, 2] < drawn.ceiling + 1e-9).all()
    # Far away, the forecasts of the curve are chance and ceiling themselves.
    np.testing.assert_allclose(np.median(first[:, 0] - drawn.chance), 0.0, atol=0.002)
    np.testing.assert_allclose(np.median(first[:, 2] - drawn.ceiling), 0.0, atol=0.01)
    # The concentration widens the forecast of a run, also at chance, where log odds do not.
    widths = [np.diff(one.interval(0.8), axis=0)[0] for one in (mean, run)]
    assert (widths[1] > 1.05 * widths[0]).all()
    k = np.median(drawn.concentration)
    scatter = run.simulated[:, 0] - mean.simulated[:, 0]
    assert np.median(np.abs(scatter)) == pytest.approx(0.674 * np.sqrt(0.25 * 0.75 / k), rel=0.25)
    middle = run.quantile(0.5)
    np.testing.assert_allclose(run.probability_below(middle), 0.5, atol=1e-3)
    few = run.measured(items=50)
    assert set(np.round(few.draws.ravel() * 50, 6) % 1) == {0.0}
    assert (np.diff(few.interval(0.8), axis=0)[0] > widths[1]).all()


@pytest.mark.slow
def test_a_fit_comes_back_from_its_file(uncertain, tmp_path):
    uncertain.save(tmp_path / "fit.nc")
    back = bs.load(tmp_path / "fit.nc")
    assert back.runs.score == ScoreScale(0.25, 0.95, chance_sd=0.02, ceiling_sd=0.02)
    assert back.likelihood == bs.BetaBinomial()
    np.testing.assert_array_equal(back.predict(n_params=1e9).draws, uncertain.predict(n_params=1e9).draws)
    assert str(back) == str(uncertain)
    assert {"chance", "ceiling", "concentration"} <= set(back.summary().index)
    simulated = back.to_datatree()["prior_predictive"]["loss"].to_numpy()
    assert simulated.shape == (1, 1000, 8)
    assert ((simulated >= 0.0) & (simulated <= 1.0)).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto:UserWarning")
def test_decisions_use_the_range_of_each_draw(uncertain):
    at = {"n_params": 1e11}
    easy, hard = (bs.decide.go(uncertain, target, cost=1.0, value=2.0, at=at) for target in (0.7, 0.97))
    assert easy.probability > 0.9 > 0.3 > hard.probability
    for decision in (easy, hard):
        met = decision.forecast.probability_met(decision.target)[0]
        assert decision.probability == pytest.approx(met, abs=0.01)
    stops = bs.decide.stop_early(uncertain, 0.97, at=at).frame
    assert stops["probability"][0] == pytest.approx(hard.probability, abs=0.01)
    ranking = bs.decide.next_run(uncertain, target=0.85, cost=1.0, value=2.0, at=at).frame
    assert (ranking["evsi"] >= 0).all()
    assert (ranking["information"] > 0).any()
    assert np.isfinite(uncertain.loo().elpd)


@pytest.mark.slow
def test_what_compares_log_odds_is_refused(uncertain):
    with pytest.raises(bs.InputError, match="compare judges recipes by log odds"):
        bs.decide.compare({"a": uncertain, "b": uncertain}, at={"n_params": 3e9})
    plans = {"one": pd.DataFrame({"n_params": [1e10]})}
    with pytest.raises(bs.InputError, match="power judges plans by log odds"):
        bs.decide.power(uncertain, plans, target=0.9, n_params=1e11)
    with pytest.raises(bs.InputError, match="`given` is for scores with a known range"):
        bs.sbc.given(uncertain.runs, simulations=2, seed=0, priors=LOGISTIC)


@pytest.mark.slow
def test_mixtures_with_a_known_range_keep_it(uncertain):
    known = dataclasses.replace(uncertain.runs, score=ScoreScale(0.25))
    other = bs.fit(known, seed=0, priors=LOGISTIC, settings=FEW)
    both = bs.Mixture((other, uncertain))
    drawn = both.drawn_score
    half = len(drawn.chance) // 2
    assert (drawn.chance[:half] == 0.25).all()
    assert np.isinf(drawn.concentration[:half]).all()
    assert np.ptp(drawn.chance[half:]) > 0.0
    assert 0.25 < both.predict(n_params=1e10).quantile(0.5)[0] < 0.9


@pytest.mark.slow
@pytest.mark.long
def test_bare_numpyro_samples_the_same_posterior(uncertain):
    at = {"n_params": [1e9, 1e11]}
    model = bs.numpyro_model(uncertain.runs, priors=LOGISTIC, likelihood="beta-binomial")
    samples, theirs = sampled_by_numpyro(model, at)
    ours = {name: uncertain.draws[name].ravel() for name in RANGE}
    for name, draws in ours.items():
        bare = np.asarray(samples[name])
        if name == "concentration":
            draws, bare = np.log(draws), np.log(bare)
        error = np.hypot(draws.std() / np.sqrt(len(draws) / 8), bare.std() / np.sqrt(len(bare) / 8))
        assert abs(draws.mean() - bare.mean()) < 4 * error, name
        assert draws.std() == pytest.approx(bare.std(), rel=0.35), name
    for site, kind in (("mean", "mean"), ("y", "run")):
        found, bare = uncertain.predict(at, kind=kind), np.asarray(theirs[site])
        quantiles = np.quantile(bare, [0.25, 0.5, 0.75], axis=0)
        np.testing.assert_allclose(found.quantile([0.25, 0.5, 0.75]), quantiles, atol=0.03)


# --- Calibration ----------------------------------------------------------------------------------------------


def ranks_of(scale, simulations, items=500, **options):
    """Summary of ranks of data simulated at eight sizes, a quantity a row."""
    sizes = np.geomspace(1e8, 1e10, 8)
    runs = bs.Runs.from_frame(pd.DataFrame({"n_params": sizes, "score": 0.5, "n_items": items}), score=scale)
    options |= {"priors": LOGISTIC, "settings": bs.Nuts(warmup=150, draws=150, chains=1), "progress": False}
    return bs.sbc.run(runs, simulations=simulations, seed=0, **options).summary()


@pytest.mark.long
@pytest.mark.slow
def test_right_range_passes_and_a_fixed_chance_is_noticed():
    unsure = ScoreScale(0.25, 0.9, chance_sd=0.05, ceiling_sd=0.03)
    right = ranks_of(unsure, 40, likelihood="beta-binomial")
    assert {"standard_chance", "standard_ceiling", "log_concentration"} <= set(right.index)
    assert not right["outside"].any()
    wrong = ranks_of(ScoreScale(0.25), 60, items=2000, true_score=ScoreScale(0.25, chance_sd=0.06))
    assert "standard_chance" not in wrong.index
    assert wrong["outside"].any()


@pytest.mark.long
@pytest.mark.slow
def test_beta_binomial_counts_pass_and_binomial_ones_are_noticed():
    """Both models have the same prior of the residual, which alone would not be noticed."""
    apart = bs.BetaBinomial(concentration=10.0, concentration_spread=0.1)
    assert not ranks_of(ScoreScale(0.25), 40, likelihood=apart)["outside"].any()
    alike = bs.Binomial(residual_sd=apart.residual_sd, residual_spread=apart.residual_spread, seed_sd=None)
    assert ranks_of(ScoreScale(0.25), 40, likelihood=alike, true_likelihood=apart)["outside"].any()
    assert not ranks_of(ScoreScale(0.25), 40, likelihood=alike)["outside"].any()


def test_some_scores_below_chance_are_told():
    table = pd.DataFrame({"n_params": np.geomspace(1e7, 1e10, 6), "acc": [0.19, 0.195, 0.26, 0.35, 0.5, 0.7]})
    runs = bs.read(table.assign(n_items=2000), score="acc", chance=0.25)
    [entry] = [entry for entry in runs.log if entry.code == "below_chance"]
    assert (
        entry.text.startswith("2 scores of 6, down to 0.19, lie below chance=0.25") and "chance_sd=0.05" in entry.text
    )
    sure = bs.read(table.assign(n_items=2000), score="acc", chance=0.25, chance_sd=0.05)
    assert "below_chance" not in {entry.code for entry in sure.log}
