"""Scores: binomial counts between chance and a ceiling, from the table to the decision."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from conftest import FEW, sampled_by_numpyro

import bayescale as bs
from bayescale.data.score import ScoreScale
from bayescale.model.density import log_density
from bayescale.model.evaluations.counts import normal_approximation
from bayescale.model.parameters import coordinates
from bayescale.model.prepare import make_jobs

FOUR = ScoreScale(chance=0.25)
LOGISTIC = {"terms": bs.Plateaus(plateau="power")}
SIZES = np.geomspace(1e8, 3e10, 8)


def truth(n_params):
    """Score of a logistic curve between chance and one."""
    return 0.25 + 0.75 / (1.0 + (np.asarray(n_params) / 4e9) ** -0.8)


def table(items=500, sizes=SIZES, seed=0):
    """Scores of some sizes on so many items."""
    right = np.random.default_rng(seed).binomial(items, truth(sizes))
    return pd.DataFrame({"params": sizes, "accuracy": right / items, "n_items": items})


@pytest.fixture(scope="module")
def post():
    """A fit of one model to eight scores."""
    return bs.fit(bs.read(table(), score="accuracy", chance=0.25), seed=0, priors=LOGISTIC)


# --- Reading --------------------------------------------------------------------------------------------------


def test_shares_percentages_and_counts_are_one_response():
    frame = table()
    shares = bs.read(frame, score="accuracy", chance=0.25)
    percent = bs.read(frame.assign(accuracy=100 * frame["accuracy"]), score="accuracy", chance=0.25)
    counts = bs.read(
        frame.assign(correct=(frame["accuracy"] * 500).round()).drop(columns="accuracy"), score="correct", chance=0.25
    )
    for other in (percent, counts):
        np.testing.assert_allclose(other.frame["score"], shares.frame["score"])
        np.testing.assert_allclose(other.frame["loss"], shares.frame["loss"])
    assert shares.score == FOUR
    assert shares.response == "accuracy"
    assert "score = 'accuracy'" in shares.log[0].text
    assert any("divided by 100" in entry.text for entry in percent.log)


def test_whole_numbers_beside_items_are_counts_or_percentages_never_silently():
    def read(passes, items=164, name="k", **options):
        return bs.read(pd.DataFrame({"n_params": SIZES[:4], name: passes, "n_items": items}), **options)

    low = [3, 12, 40, 98]
    shares = np.array(low) / 164
    for runs in (
        read(low, name="passes", score="passes"),
        read(low, score="correct", columns={"correct": "k"}),
    ):
        np.testing.assert_allclose(runs.frame["score"], shares)
    for options in ({"name": "accuracy", "score": "accuracy"}, {"score": "k", "units": {"loss": "%"}}):
        np.testing.assert_allclose(read(low, **options).frame["score"], np.array(low) / 100)
    for options in ({"name": "passes", "score": "passes"}, {"score": "correct", "columns": {"correct": "k"}}):
        np.testing.assert_allclose(read(shares, **options).frame["score"], shares)
    many = read([3, 12, 400, 980], items=1640, score="k")
    np.testing.assert_allclose(many.frame["score"], np.array([3, 12, 400, 980]) / 1640)
    assert any("counts of right items" in entry.text for entry in many.log)
    for items in (164, 1000):
        with pytest.raises(bs.InputError, match="right items or percentages") as told:
            read(low, items=items, score="k")
        assert "--score correct" in str(told.value) and "--unit loss=%" in str(told.value)


def test_unknown_items_are_guessed_and_said():
    runs = bs.read(table().drop(columns="n_items"), score="accuracy")
    assert (runs.frame["n_items"] == 1000).all()
    (entry,) = [entry for entry in runs.log if entry.code == "items"]
    assert entry.severity == "warning"
    assert "--n-items" in entry.text
    assert (bs.read(table().drop(columns="n_items"), score="accuracy", n_items=164).frame["n_items"] == 164).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"score": "accuracy", "chance": 1.2}, "0 <= chance < ceiling <= 1"),
        ({"score": "accuracy", "loss": "accuracy"}, "Each of score, loss and derive"),
        ({"chance": 0.25}, "chance (--chance) applies only to scores"),
        ({"score": "params"}, "fraction of right items between 0 and 1"),
        ({"score": "accuracy", "n_items": -3}, "n_items must be a positive number"),
    ],
)
def test_options_that_cannot_be_are_refused(options, said):
    with pytest.raises(bs.InputError) as error:
        bs.read(table(), **options)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        ([(7e7, 12, 10), (2e8, 5, 10), (1e9, 7, 10)], {"score": "correct"}, "rows 1 have 12 of 10"),
        ([(7e7, 1, 0), (2e8, 5, 10), (1e9, 7, 10)], {"score": "correct"}, "rows 1 have 1 of 0"),
        ([(7e7, 26, 100), (2e8, 0.3, 100), (1e9, 40, 100)], {"score": "acc"}, "rows 2 have 0.3"),
        ([(7e7, 0.26, 1000), (2e8, 0.3, 1000), (1e9, 0.4, 1000)], {"score": "acc", "chance": 0.5}, "3 of 3 scores"),
        (
            [(7e7, 0.26, 1000), (2e8, 0.3, 1000), (1e9, 0.4, 1000)],
            {"score": "acc", "ceiling": 0.3},
            "above ceiling=0.3",
        ),
    ],
)
def test_scores_that_cannot_be_are_refused(rows, options, said):
    frame = pd.DataFrame(rows, columns=["params", options["score"], "n_items"])
    with pytest.raises(bs.InputError) as error:
        bs.read(frame, **options)
    assert said in str(error.value)


def test_a_score_below_chance_by_luck_is_read():
    frame = pd.DataFrame({"params": [7e7, 2e8, 1e9], "acc": [0.24, 0.26, 0.31], "n_items": 1000})
    assert len(bs.read(frame, score="acc", chance=0.25)) == 3


def test_a_loss_has_no_binomial_likelihood_and_a_score_no_other(post):
    with pytest.raises(bs.InputError, match="likelihood is for scores"):
        bs.fit(bs.corpus.load("marin_moe_v16_minima"), seed=0, likelihood="binomial")
    with pytest.raises(bs.InputError, match="which is their default"):
        bs.fit(post.runs, seed=0, likelihood="normal")


# --- The density ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("right", [0, 1, 25, 60, 99, 100])
@pytest.mark.parametrize("scale", [ScoreScale(), FOUR, ScoreScale(0.1, 0.9)])
@pytest.mark.parametrize("items", [1, 100])
def test_gradients_are_finite_at_chance_zero_and_full_marks(right, scale, items):
    import jax

    right = min(right, items)
    runs = bs.Runs.from_frame(pd.DataFrame({"n_params": SIZES[:3], "score": 0.5, "n_items": items}), score=scale)
    # Scores outside of their range, which reading refuses where it is no chance.
    loss = np.exp(scale.log_odds(scale.shrunk([right / items] * 3, items)))
    runs = dataclasses.replace(runs, frame=runs.frame.assign(score=right / items, loss=loss))
    (job,) = make_jobs(runs, priors=LOGISTIC)
    vector = np.random.default_rng(0).standard_normal(len(coordinates(job.model, job.problem)))
    with jax.enable_x64(True):
        value, slope = jax.value_and_grad(log_density)(vector, job.model, job.problem)
    assert np.isfinite(value)
    assert np.isfinite(slope).all()


def test_density_is_that_of_the_plain_hierarchical_model():
    """Less the Jacobian of the map from standard scores to log odds, the density of coordinates is the textbook one."""
    import jax
    from scipy.stats import binom, norm

    from bayescale.model.density import offset
    from bayescale.model.parameters import read
    from bayescale.model.problem import row_variance

    runs = bs.read(table(items=60, sizes=SIZES[:5]), score="accuracy", chance=0.25)
    (job,) = make_jobs(runs, priors=LOGISTIC)
    problem, rows = job.problem, 5
    basis = problem.evaluation.basis
    vectors, powers = np.asarray(basis.vectors)[:rows, :rows], np.asarray(basis.eigenvalues)[:rows]
    first = next(i for i, name in enumerate(coordinates(job.model, problem)) if name.startswith("latent["))

    def log_odds(vector):
        values, _ = read(vector, job.model, problem)
        mean = offset(job.model, problem, values)
        return np.asarray(problem.evaluation.log_odds(values, mean, problem)[0])[:rows]

    def plain(vector):
        """Log density of constants, log odds of the settings, and counts; standard scores of padding are normal."""
        values, prior = read(vector, job.model, problem)
        mean = np.asarray(offset(job.model, problem, values))[:rows]
        odds = log_odds(vector)
        spread = np.sqrt(float(values.amplitude) ** 2 * powers + np.asarray(row_variance(values, problem))[:rows])
        departure = norm.logpdf(vectors.T @ (odds - mean), scale=spread).sum()
        share = FOUR.score(odds + float(problem.center))
        counts = binom.logpmf(np.round(runs.frame["score"] * 60), 60, share).sum()
        return float(np.asarray(prior)[:first].sum()) + departure + counts + norm.logpdf(vector[first + rows :]).sum()

    step, gaps, rng = 1e-5, [], np.random.default_rng(1)
    with jax.enable_x64(True):
        for _ in range(4):
            vector = 0.5 * rng.standard_normal(len(coordinates(job.model, problem)))
            units = step * np.eye(len(vector))[first : first + rows]
            moved = np.stack([(log_odds(vector + unit) - log_odds(vector - unit)) / (2 * step) for unit in units])
            found = float(log_density(vector, job.model, problem))
            gaps.append(found - plain(vector) - np.linalg.slogdet(moved)[1])
    np.testing.assert_allclose(gaps, 0.0, atol=1e-4)


def test_normal_approximation_has_slope_and_curvature_of_the_counts():
    right, items = np.array([40.0, 80.0]), np.array([100.0, 100.0])
    mean, precision = normal_approximation(right, items, 0.0, 1.0)
    # Without chance the log odds against have mean ln(60 / 40) and precision n p (1 - p) at many items.
    np.testing.assert_allclose(mean, np.log((items - right) / right), atol=0.05)
    np.testing.assert_allclose(precision, right * (items - right) / items, rtol=0.05)


# --- Forecasts ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_forecasts_hold_the_truth_and_stay_in_their_range(post):
    assert post.trustworthy
    at = np.array([1e9, 3e10, 3e11, 3e14])
    found = post.predict(n_params=at, kind="mean")
    low, high = found.interval(0.95)
    assert (low[:3] < truth(at[:3])).all()
    assert (truth(at[:3]) < high[:3]).all()
    assert (low >= 0.25).all()
    assert (high <= 1.0).all()
    assert (found.draws >= 0.25).all()
    assert (found.draws <= 1.0).all()
    middle = found.quantile(0.5)
    np.testing.assert_allclose(found.probability_below(middle), 0.5, atol=1e-6)
    np.testing.assert_allclose(found.probability_met(middle), 0.5, atol=1e-6)
    assert found.higher_is_better
    np.testing.assert_allclose(found.mean, found.draws.reshape(-1, 4).mean(0), atol=0.02)


@pytest.mark.slow
def test_few_items_widen_the_forecast_of_a_measurement(post):
    exact = post.predict(n_params=1e9, kind="mean")
    few, many = exact.measured(items=50), exact.measured(items=1_000_000)
    widths = [float(np.diff(one.interval(0.8), axis=0)[0, 0]) for one in (exact, many, few)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)
    binomial = 2.563 * np.sqrt(float(truth(1e9)) * (1 - float(truth(1e9))) / 50)
    assert widths[2] == pytest.approx(np.hypot(widths[0], binomial), rel=0.15)
    assert set(np.round(few.draws.ravel() * 50, 6) % 1) == {0.0}


@pytest.mark.long
@pytest.mark.slow
def test_scores_at_chance_say_that_nothing_can_be_said():
    right = np.random.default_rng(0).binomial(100, 0.25, 6)
    frame = pd.DataFrame({"n_params": np.geomspace(1e7, 3e8, 6), "score": right / 100, "n_items": 100})
    found = bs.fit(bs.Runs.from_frame(frame, score=FOUR), seed=0)
    assert found.status is bs.Status.OK and not found.trustworthy
    assert bs.decide.go(found, 0.5, n_params=3e10).answer == "cannot say"
    low, high = found.predict(n_params=3e10, kind="mean").interval(0.95)[:, 0]
    assert low < 0.28
    assert high > 0.9
    assert "at_chance" in {note.code for note in found.check()}


@pytest.mark.slow
def test_a_score_that_falls_again_is_not_extrapolated():
    score = [0.3, 0.45, 0.62, 0.7, 0.55, 0.4]
    frame = pd.DataFrame({"n_params": np.geomspace(1e8, 1e10, 6), "score": score, "n_items": 1000})
    found = bs.fit(bs.Runs.from_frame(frame, score=ScoreScale()), seed=0, priors=LOGISTIC, settings=FEW)
    assert not found.trustworthy
    assert "not_monotone" in {note.code for note in found.check()}
    assert bs.decide.go(found, 0.8, n_params=1e11).answer == "cannot say"


@pytest.mark.long
@pytest.mark.slow
def test_replicates_tell_seed_noise_from_items():
    rng = np.random.default_rng(4)
    sizes = np.repeat(SIZES[3:], 3)
    odds = FOUR.log_odds(truth(sizes)) + 0.3 * rng.standard_normal(len(sizes))
    frame = pd.DataFrame({"n_params": sizes, "score": rng.binomial(5000, FOUR.score(odds)) / 5000, "n_items": 5000})
    noisy = bs.fit(bs.Runs.from_frame(frame, score=FOUR), seed=0, priors=LOGISTIC)
    assert noisy.status is bs.Status.OK
    low, high = np.quantile(noisy.draws["seed_sd"], [0.025, 0.975])
    assert low < 0.3 < high
    assert low > 0.1


# --- Files and decisions --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_fit_comes_back_from_its_file(post, tmp_path):
    post.save(tmp_path / "fit.nc")
    back = bs.load(tmp_path / "fit.nc")
    assert back.runs.score == FOUR
    for kind in ("run", "mean"):
        old, new = (one.predict(n_params=[1e9, 1e11], kind=kind) for one in (post, back))
        np.testing.assert_array_equal(old.quantile([0.1, 0.5]), new.quantile([0.1, 0.5]))
    assert str(back) == str(post)
    assert back.law.priors == post.law.priors


@pytest.mark.slow
def test_higher_is_better_in_every_decision(post):
    at = {"n_params": 1e11}
    easy, hard = (bs.decide.go(post, target, cost=1.0, value=2.0, at=at) for target in (0.5, 0.99))
    assert easy.probability > 0.9 > 0.5 > hard.probability
    assert easy.answer == "go"
    assert easy.turning_target > 0.5
    assert "ends above 0.5" in easy.text
    np.testing.assert_allclose(easy.probability, easy.forecast.probability_met(0.5)[0], atol=1e-9)
    per_point = bs.decide.go(post, 0.5, cost=0.1, value=1.0, utility="per_nat", at=at)
    assert per_point.worth == pytest.approx(float(per_point.forecast.mean[0]) - 0.6, abs=0.02)
    stops = bs.decide.stop_early(post, 0.99, at=at).frame
    assert stops["probability"][0] == pytest.approx(hard.probability, abs=1e-9)
    ranking = bs.decide.next_run(post, target=0.9, cost=1.0, value=2.0, at=at).frame
    assert (ranking["evsi"] >= 0).all()
    plans = {"one": pd.DataFrame({"n_params": [1e10]})}
    assert 0.0 <= bs.decide.power(post, plans, target=0.9, at=at).frame["power"][0] <= 1.0
    with pytest.raises(bs.InputError, match=r"between chance .* and its ceiling"):
        bs.decide.go(post, 70.0, at=at)


@pytest.mark.slow
@pytest.mark.long
def test_sensitivity_is_of_the_score(post):
    changes = bs.decide.sensitivity(post, 0.5, at={"n_params": 1e11}).dropna(subset=["probability"])
    assert (changes["probability"] > 0.5).all()
    assert changes["high"].max() <= 1.0


@pytest.mark.slow
def test_recipes_are_compared_by_score(post):
    better = table(seed=1)
    better["accuracy"] = np.minimum(better["accuracy"] + 0.1, 0.99)
    other = bs.fit(bs.read(better, score="accuracy", chance=0.25), seed=0, priors=LOGISTIC)
    found = bs.decide.compare({"old": post, "new": other}, at={"n_params": 3e9})
    assert found.best == "new"
    assert "Expected score below" in found.text
    # Nearly every draw has the new one ahead, so what the old one lacks is the difference of the mean forecasts.
    means = [part.predict(n_params=3e9, kind="mean").draws.mean() for part in (other, post)]
    assert found.regret_nats["old"] == pytest.approx(means[0] - means[1], abs=0.005)
    assert 0.05 < found.regret_nats["old"] < 0.17
    loss = bs.fit(bs.corpus.load("marin_moe_v16_minima"), seed=0, law="power")
    with pytest.raises(bs.InputError, match="same chance and ceiling"):
        bs.decide.compare({"a": post, "b": loss}, at={"n_params": 3e9})


@pytest.mark.slow
def test_pictures_and_page_show_scores(post, tmp_path):
    ax = bs.plot.intervals(post, upto=1e12, target=0.9)
    low, high = ax.get_ylim()
    assert -0.1 < low < high < 1.2
    assert ax.get_yscale() == "linear"
    np.testing.assert_allclose(sorted(ax.lines[1].get_ydata()), sorted(post.runs.frame["score"]))
    ax = bs.plot.forecast(post.predict(n_params=1e11), target=0.9)
    assert any("P(above)" in text.get_text() for text in ax.texts)
    ax = bs.plot.fitted(post)
    assert ax.get_ylim() == (0.0, 1.0)
    np.testing.assert_allclose(sorted(ax.lines[0].get_ydata()), sorted(post.runs.frame["score"]))
    page = bs.report(post, bs.decide.go(post, 0.9, n_params=1e11), with_sensitivity=False).save(tmp_path / "page.html")
    assert "ends above 0.9" in page.read_text()


@pytest.mark.long
@pytest.mark.slow
def test_a_backtest_is_of_the_score():
    runs = bs.read(table(), score="accuracy", chance=0.25)
    back = bs.backtest(runs, largest=1, seed=0, priors=LOGISTIC)
    (row,) = back.to_frame().to_dict("records")
    assert row["y"] == runs.frame["score"].iloc[-1]
    assert 0.25 < row["q0.1"] < row["q0.9"] < 1.0
    assert 0.0 < row["pit"] < 1.0
    assert 0.0 < row["crps"] < 0.2


def test_what_is_of_losses_alone_is_refused(post):
    with pytest.raises(bs.InputError, match="needs losses"):
        bs.decide.isoflop(post)
    with pytest.raises(bs.InputError, match="fit of losses"):
        bs.decide.allocate(post, 1e22)


# --- Calibration ----------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.slow
def test_right_model_passes_and_a_wrong_one_is_noticed():
    sizes = np.geomspace(1e8, 1e10, 6)
    runs = bs.Runs.from_frame(pd.DataFrame({"n_params": sizes, "score": 0.5, "n_items": 200}), score=FOUR)
    options = {"priors": LOGISTIC, "settings": bs.Nuts(warmup=150, draws=150, chains=1), "progress": False}
    ranks = bs.sbc.run(runs, simulations=40, seed=0, **options)
    assert not ranks.summary()["outside"].any()
    assert not any(name.startswith("latent") for name in ranks.names)
    wild = dataclasses.replace(bs.Binomial(), residual_sd=3.0, residual_spread=0.1)
    wrong = bs.sbc.run(runs, simulations=40, seed=0, true_likelihood=wild, **options)
    assert wrong.summary()["outside"].any()


@pytest.mark.long
@pytest.mark.slow
def test_bare_numpyro_samples_the_same_posterior(post):
    at = {"n_params": [1e9, 1e11]}
    samples, theirs = sampled_by_numpyro(bs.numpyro_model(post.runs, priors=LOGISTIC), at)
    names = list(post.names)
    for name in ("log_fall", "log_discrepancy", "log_residual_sd", "level"):
        ours, bare = post.unconstrained[..., names.index(name)].ravel(), np.asarray(samples[name])
        error = np.hypot(ours.std() / np.sqrt(len(ours) / 8), bare.std() / np.sqrt(len(bare) / 8))
        assert abs(ours.mean() - bare.mean()) < 4 * error, name
        assert ours.std() == pytest.approx(bare.std(), rel=0.35), name
    for site, kind in (("mean", "mean"), ("y", "run")):
        ours, bare = post.predict(at, kind=kind), np.asarray(theirs[site])
        np.testing.assert_allclose(
            ours.quantile([0.25, 0.5, 0.75]), np.quantile(bare, [0.25, 0.5, 0.75], axis=0), atol=0.03
        )


@pytest.mark.long
@pytest.mark.slow
def test_a_score_is_forecast_through_the_forecast_of_a_loss():
    flops = np.geomspace(1e18, 1e21, 8)
    loss = 1.8 + 2.0 * (flops / 1e18) ** -0.25

    def score_at(value):
        return 0.25 + 0.75 / (1.0 + np.exp(6.0 * (value - 2.6)))

    right = np.random.default_rng(0).binomial(2000, score_at(loss))
    losses = bs.Runs.from_frame(pd.DataFrame({"flops": flops, "loss": loss * np.exp(0.001 * np.arange(-4, 4))}))
    frame = pd.DataFrame({"task_loss": loss, "score": right / 2000, "n_items": 2000})
    scores = bs.Runs.from_frame(frame, inputs=["task_loss"], score=FOUR)
    first = bs.fit(losses, seed=0, law="saturating_power")
    second = bs.fit(scores, seed=0, law="loss_sigmoid")
    # Such a score falls as its input, a loss, grows.
    assert "not_monotone" not in {note.code for note in second.check()}
    input = first.predict(flops=[1e22, 1e23], kind="mean")
    found = second.predict(task_loss=input, kind="mean")
    low, high = found.interval(0.95)
    truth = score_at(1.8 + 2.0 * (np.array([1e22, 1e23]) / 1e18) ** -0.25)
    assert (low < truth).all()
    assert (truth < high).all()
    np.testing.assert_allclose(found.ratio, [10.0, 100.0])
    # At a certain loss it is narrower, and where the loss is certain it is the forecast itself.
    certain = second.predict(task_loss=input.quantile(0.5), kind="mean")
    assert (np.diff(found.interval(0.8), axis=0) > np.diff(certain.interval(0.8), axis=0)).all()
    exact = dataclasses.replace(input, location=0.0 * input.location + np.log(2.0), scale=0.0 * input.scale)
    levels = [0.1, 0.5, 0.9]
    there = second.predict(task_loss=exact, kind="mean").quantile(levels)[:, 0]
    np.testing.assert_allclose(there, second.predict(task_loss=2.0, kind="mean").quantile(levels)[:, 0], atol=1e-3)
    with pytest.raises(bs.InputError, match="Only one input may be a forecast"):
        second.predict(task_loss=input, flops=input)
