"""Coverage: the likelihood, the posterior, forecasts for new and for the same problems, budgets and best of n."""

import html
import json

import jax
import matplotlib
import numpy as np
import pytest
from conftest import call
from matplotlib.axes import Axes
from scipy import stats
from scipy.special import betaln, logsumexp

import bayescale as bs
from bayescale._jax import on_cores
from bayescale.coverage import density, verifier
from bayescale.coverage.density import Model, Parameters

matplotlib.use("agg")
SHORT = bs.Nuts(warmup=100, draws=100, chains=2, mode_steps=40, target_accept=0.9, least_ess=0.0)


def simulated(rng, alpha, beta, unsolvable, scale, problems, attempts):
    rate = scale * rng.beta(alpha, beta, problems) * (rng.random(problems) >= unsolvable)
    return {"correct": rng.binomial(attempts, rate), "attempts": np.full(problems, attempts)}


def by_fine_grid(model, alpha, beta, scale, attempts, correct):
    """Integrate over the log odds of x on 100,001 even nodes."""
    odds = np.linspace(-400.0, 200.0, 100_001)
    log_z, log_rest = -np.logaddexp(0.0, -odds), -np.logaddexp(0.0, odds)
    power, first = (alpha, 1.0) if model.law == "kumaraswamy" else (1.0, alpha)
    rate = np.log(scale) + log_z / power
    terms = correct * rate + (attempts - correct) * np.log(-np.expm1(np.minimum(rate, -1e-300)))
    return logsumexp(terms + first * log_z + beta * log_rest) + np.log(odds[1] - odds[0]) - betaln(first, beta)


def exgaussian_by_fine_grid(alpha, center, spread, attempts, correct):
    odds = np.linspace(-300.0, 100.0, 400_001)
    density = stats.exponnorm.logpdf(-odds, 1.0 / (spread * alpha), loc=-center, scale=spread)
    terms = -correct * np.logaddexp(0.0, -odds) - (attempts - correct) * np.logaddexp(0.0, odds)
    return logsumexp(terms + density) + np.log(odds[1] - odds[0])


ATTEMPTS = np.array([1.0, 1.0, 100.0, 100.0, 10_000.0, 10_000.0, 1e6])
CORRECT = np.array([0.0, 1.0, 0.0, 3.0, 0.0, 50.0, 0.0])


EXGAUSSIAN = Model("exgaussian", scaled=False)


@pytest.mark.parametrize("law", ["beta", "kumaraswamy"])
def test_the_quadrature_agrees_with_a_fine_grid(law):
    model = Model(law)
    for alpha, beta, scale in ((0.1, 0.5, 0.9), (0.3, 3.0, 0.05), (1.0, 1.0, 0.5), (2.0, 20.0, 0.99)):
        with on_cores():
            found = density.log_solvable(Parameters(alpha, beta, 0.0, scale), model, pairs_of(model, ATTEMPTS, CORRECT))
        wanted = [by_fine_grid(model, alpha, beta, scale, n, c) for n, c in zip(ATTEMPTS, CORRECT, strict=True)]
        np.testing.assert_allclose(found[: len(wanted)], wanted, atol=2e-3)


@pytest.mark.parametrize(
    ("alpha", "center", "spread"), [(0.3, -3.0, 2.0), (0.5, -4.0, 0.5), (2.0, -8.0, 4.0), (0.5, 3.0, 1.0)]
)
def test_ex_gaussian_log_odds_agree_with_a_fine_grid(alpha, center, spread):
    values = Parameters(alpha, 1.0, 0.0, 1.0, center, spread)
    with on_cores():
        found = density.log_solvable(values, EXGAUSSIAN, pairs_of(EXGAUSSIAN, ATTEMPTS, CORRECT))
    counts = zip(ATTEMPTS, CORRECT, strict=True)
    wanted = [exgaussian_by_fine_grid(alpha, center, spread, n, c) for n, c in counts]
    np.testing.assert_allclose(found[: len(wanted)], wanted, atol=2e-3)


def test_gradients_are_right_where_the_exponential_part_vanishes():
    """At an alpha of 10,000 the likelihood hardly depends on alpha, and the prior's gradient of 14 remains."""
    pairs = density.padded(EXGAUSSIAN, ATTEMPTS[:4], CORRECT[:4], np.full(4, 30))
    with on_cores():
        slope = jax.grad(density.potential)(np.array([14.2, 0.2, 0.0, -3.4]), EXGAUSSIAN, pairs)
    assert slope[0] == pytest.approx(14.2, abs=0.1)


def test_the_tail_of_ex_gaussian_log_odds_is_a_power():
    """For large k, 1 - coverage decreases as k^-alpha."""
    one = Parameters(*(np.array([value]) for value in (0.4, 1.0, 0.0, 1.0, -2.0, 1.0)))
    with on_cores():
        left = 1.0 - np.asarray(density.draws_of_coverage(one, EXGAUSSIAN, np.array([1e6, 1e8])))[0]
    assert np.log(left[1] / left[0]) / np.log(100.0) == pytest.approx(-0.4, abs=0.002)


def pairs_of(model, attempts, correct):
    return density.padded(model, attempts, correct, np.ones_like(attempts))


def test_with_scale_1_the_closed_form_is_the_quadrature():
    """E[(1 - p)^k] = B(alpha, beta + k) / B(alpha, beta)."""
    k, none = np.array([1.0, 10.0, 1e3, 1e5]), np.zeros(4)
    for alpha, beta in ((0.2, 2.0), (0.5, 0.5), (1.5, 9.0)):
        values = Parameters(alpha, beta, 0.0, 1.0)
        with on_cores():
            pairs = pairs_of(Model(), k, none)
            exact = density.log_solvable(values, Model(scaled=False), pairs)
            integrated = density.log_solvable(values._replace(scale=1.0 - 1e-12), Model(), pairs)
        np.testing.assert_allclose(exact[:4], betaln(alpha, beta + k) - betaln(alpha, beta), atol=1e-6)
        np.testing.assert_allclose(integrated, exact, atol=2e-3)


@pytest.mark.parametrize("law", density.LAWS)
def test_gradients_are_finite_at_zero_and_full_marks_and_with_one_attempt(law):
    model = Model(law)
    pairs = density.padded(model, np.array([1, 1, 100, 100, 10**6]), np.array([0, 1, 0, 100, 0]), np.ones(5, int))
    with on_cores():
        for vector in np.random.default_rng(0).normal(size=(20, len(model.names))) * 2.0:
            value, slope = jax.value_and_grad(density.potential)(vector, model, pairs)
            assert np.isfinite(value) and np.isfinite(slope).all()


@pytest.fixture(scope="module")
def counts():
    return simulated(np.random.default_rng(1), 0.4, 3.0, 0.1, 0.7, 150, 60)


@pytest.fixture(scope="module")
def post(counts):
    return bs.coverage.fit(counts, seed=0)


def test_a_fit_converges_and_is_repeatable(post, counts):
    assert post.status is bs.Status.OK
    again = bs.coverage.fit(counts, seed=0)
    assert all(np.array_equal(again.draws[name], values) for name, values in post.draws.items())
    assert list(post.summary().index) == ["alpha", "center", "spread", "unsolvable"]
    assert post.to_datatree()["posterior"]["alpha"].shape == post.draws["alpha"].shape


def test_forecasts_stay_inside_and_rise(post):
    for options in ({}, {"items": 20}, {"problems": "same"}):
        forecast = post.predict([1, 10, 1_000, 10**7], **options)
        assert forecast.draws.min() >= 0 and forecast.draws.max() <= 1
        assert (np.diff(forecast.draws, axis=1) >= 0).all()
        assert forecast.interval(0.99).min() >= 0 and forecast.interval(0.99).max() <= 1
        assert list(forecast.to_frame().columns)[:2] == ["k", "mean"]


def test_the_order_of_attempts_asked_changes_nothing(post):
    one, other = post.predict([1, 100, 10]), post.predict([1, 10, 100])
    assert np.array_equal(one.draws[:, [0, 2, 1]], other.draws)


def test_few_new_problems_scatter_more_around_the_same_mean(post):
    many, few = post.predict(1_000), post.predict(1_000, items=20)
    assert few.mean == pytest.approx(many.mean, abs=0.01)
    spread = (many.mean * (1 - many.mean) / 20)[0] ** 0.5
    assert few.draws.std() > max(0.8 * spread, 1.3 * many.draws.std())


def test_the_same_problems_keep_what_is_solved(post):
    solved = post.counts.solved / len(post.counts)
    forecast = post.predict([60, 61, 10_000], problems="same")
    np.testing.assert_allclose(forecast.draws[:, 0], solved)
    assert (forecast.draws > solved - 1e-9).all()
    assert forecast.draws[:, 2].std() < post.predict(10_000, items=len(post.counts)).draws.std()


def test_fewer_attempts_than_made_are_a_sample_of_them(post):
    forecast, estimate = post.predict([5, 20], problems="same"), post.estimates([5, 20])
    np.testing.assert_allclose(forecast.mean, estimate["estimate"], atol=0.005)


def test_where_all_are_solved_coverage_is_1():
    solved = bs.coverage.fit({"correct": [1, 4, 9, 2], "attempts": [10] * 4}, seed=0, settings=SHORT)
    assert (solved.predict([10, 1_000], problems="same").draws == 1).all()
    assert solved.predict(1_000).draws.max() < 1
    assert solved.budget(0.99, problems="same").attempts <= 10


@pytest.mark.slow
@pytest.mark.parametrize(
    "table",
    [
        {"correct": [0] * 5, "attempts": [20] * 5},
        {"correct": [20] * 5, "attempts": [20] * 5},
        {"correct": [0, 1, 1, 0], "attempts": [1] * 4},
        {"correct": [1, 1, 0], "attempts": [3, 40, 100]},
    ],
    ids=["zero", "full", "one attempt", "stopped"],
)
@pytest.mark.parametrize("law", density.LAWS)
def test_extreme_tables_have_finite_answers(table, law):
    fit = bs.coverage.fit(table, seed=0, law=law, settings=SHORT)
    assert fit.status is not bs.Status.NONFINITE
    draws = fit.predict([1, 10**6]).draws
    assert np.isfinite(draws).all() and draws.min() >= 0 and draws.max() <= 1
    # Nearly everything is possible at a million attempts after none succeeded of few problems.
    if not sum(table["correct"]):
        assert np.ptp(fit.predict(10**6).interval(0.95)) > 0.4


def test_a_budget_is_the_inverse_of_the_forecast(post):
    budget = post.budget(0.6, 0.8)
    reached = post.predict(int(budget.attempts)).draws[:, 0]
    assert (reached >= 0.6).mean() == pytest.approx(0.8, abs=0.02)
    assert budget.probability(budget.attempts) >= 0.8
    assert budget.quantile(0.1) <= budget.quantile(0.9)


@pytest.mark.slow
def test_unsolvable_problems_forbid_a_coverage():
    half = simulated(np.random.default_rng(2), 2.0, 2.0, 0.6, 1.0, 100, 30)
    budget = bs.coverage.fit(half, seed=0, settings=SHORT).budget(0.9)
    assert budget.p_never > 0.95
    assert np.isinf(budget.attempts)
    assert json.dumps(budget.to_dict(), allow_nan=False)
    assert "no number of" in repr(budget)


def test_a_perfect_verifier_gives_the_coverage(post):
    best = post.best_of_n([1, 50, 1_000])
    np.testing.assert_allclose(best.mean, post.predict([1, 50, 1_000]).mean, atol=0.01)
    assert (best.wrong == 0).all()


@pytest.mark.parametrize(("rate", "precision"), [(0.3, 0.8108), (0.05, 0.3448)])
def test_an_imperfect_verifier_bounds_accuracy_by_bayes_rule(post, rate, precision):
    """All problems have one rate: x is 1 in effect."""
    draws = {"alpha": 80.0, "beta": 1e-4, "unsolvable": 0.0, "scale": rate}
    same = {name: np.full((1, 4), value) for name, value in draws.items()}
    fixed = bs.coverage.CoveragePosterior(post.counts, Model(), same, post.diagnostics, 0)
    best = fixed.best_of_n([1, 10**6], false_positive=0.1)
    np.testing.assert_allclose(best.right[:, 1], precision, atol=2e-4)
    np.testing.assert_allclose(best.precision, precision, atol=2e-4)
    np.testing.assert_allclose(best.right[:, 0], rate, atol=2e-4)


def test_a_price_makes_the_best_k_finite(post):
    k = [1, 3, 10, 30, 100, 1_000, 100_000]
    best = post.best_of_n(k, false_positive=(1, 50), gain=1.0, wrong=0.5, price=0.001)
    assert 1 < best.best < 1_000
    free = post.best_of_n(k, gain=1.0)
    assert free.best == 100_000
    assert "largest expected net value" in repr(best)
    with pytest.raises(bs.InputError, match="The best k depends"):
        _ = post.best_of_n(k).best


def test_rates_of_the_verifier_are_those_of_the_model(post):
    for law in density.LAWS:
        rate, weight = verifier.rates(post.parameters, Model(law))
        np.testing.assert_allclose(weight.sum(1), 1.0)
        with on_cores():
            chances = np.asarray(density.draws_of_coverage(post.parameters, Model(law), np.array([1.0, 100.0])))
        for place, k in enumerate((1, 100)):
            np.testing.assert_allclose(1 - (weight * (1 - rate) ** k).sum(1), chances[:, place], atol=3e-3)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda post: post.predict(10, problems="old"), "problems .--problems. must be new or same; found 'old'"),
        (lambda post: post.predict(10, items=0), "items must be a whole number"),
        (lambda post: post.predict(10, problems="same", items=5), "number of new problems"),
        (lambda post: post.predict(10).interval(1.0), "level must be a probability"),
        (lambda post: post.predict(10).quantile(1.5), "q must be probabilities"),
        (lambda post: post.budget(1.0), "target must be a probability"),
        (lambda post: post.best_of_n(10, false_positive=2), "false_positive must be a probability from 0 to 1, or"),
        (lambda post: post.best_of_n(10, true_positive=(5, 3)), "true_positive must be a probability"),
        (lambda post: post.best_of_n(10, price=1.0), "no effect without gain="),
        (lambda post: bs.plot.coverage(post, upto=1), "upto must be from 2"),
        (lambda post: bs.plot.coverage(3), "A fit to counts is expected; found int"),
    ],
)
def test_bad_questions_are_refused(post, ask, words):
    with pytest.raises(bs.InputError, match=words):
        ask(post)


def test_results_show_and_draw_themselves(post):
    from matplotlib import pyplot

    results = (post, post.predict([1, 100]), post.budget(0.9), post.best_of_n([1, 10], false_positive=0.1, gain=1.0))
    for result in results:
        text = repr(result)
        assert 0 < len(text) < 4000 and text.count("\n") <= 31
        assert result._repr_html_() == f"<pre>{html.escape(text)}</pre>"
        assert isinstance(result.plot(), Axes)
    ax = bs.plot.coverage(post, upto=1_000, problems="new", target=0.5)
    assert ax.get_xlim()[1] == 1_000
    pyplot.close("all")


TABLE = "model,passed,num_samples\n" + "".join(f"{m},{c},20\n" for m in "ab" for c in (0, 0, 1, 3, 20))


@pytest.mark.slow
def test_the_command_answers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "counts.csv").write_text(TABLE)
    line = "coverage counts.csv --k 1,100 --target .5 --draws 100 --warmup 100"
    assert call(*line.split(), "--problems", "same", "--plot", "p.png") == 0
    out = capsys.readouterr().out
    assert out.count("q0.025") == 2 and "attempts for a coverage of 0.5" in out
    assert {path.name for path in tmp_path.glob("*.png")} == {"p-a.png", "p-b.png"}
    assert call(*line.split(), "--json") == 0
    told = json.loads(capsys.readouterr().out)["coverage"]
    assert [one["family"] for one in told] == ["a", "b"]
    assert told[0]["forecasts"][1]["k"] == 100 and told[0]["budget"]["target"] == 0.5


# --- Calibration ---------------------------------------------------------------------------------------------


def lognormal(rng, prior):
    return prior[0] * np.exp(prior[1] * rng.normal())


def drawn_from_the_prior(rng, law):
    unsolvable = rng.beta(*density.UNSOLVABLE)
    if law == "beta":
        shape = {"alpha": lognormal(rng, density.ALPHA), "beta": lognormal(rng, density.BETA)}
        return {**shape, "unsolvable": unsolvable, "scale": rng.beta(*density.SCALE)}
    center = density.CENTER[0] + density.CENTER[1] * rng.normal()
    shape = {"alpha": lognormal(rng, density.TAIL), "center": center, "spread": lognormal(rng, density.SPREAD)}
    return {**shape, "unsolvable": unsolvable}


def counts_from(rng, true, problems, attempts):
    if "beta" in true:
        return simulated(rng, **true, problems=problems, attempts=attempts)
    odds = rng.normal(true["center"], true["spread"], problems) - rng.exponential(1 / true["alpha"], problems)
    rate = (rng.random(problems) >= true["unsolvable"]) / (1 + np.exp(-odds))
    return {"correct": rng.binomial(attempts, rate), "attempts": np.full(problems, attempts)}


def ranks(simulations, truth_of, **options):
    """Rank of the true parameters, and of the coverage at 300 attempts, among the draws of each simulation."""
    found = []
    for seed in range(simulations):
        rng = np.random.default_rng([7, seed])
        true = truth_of(rng)
        # At most 16 distinct counts: one program.
        post = bs.coverage.fit(counts_from(rng, true, 40, 15), seed=seed, settings=SHORT, **options)
        one = Parameters(
            *(
                np.array([{"beta": 1.0, "scale": 1.0, "center": 0.0, "spread": 1.0, **true}[name]])
                for name in Parameters._fields
            )
        )
        with on_cores():
            coverage = float(density.draws_of_coverage(one, post.model, np.array([300.0]))[0, 0])
        shares = {name: (values.reshape(-1) < true[name]).mean() for name, values in post.draws.items()}
        shares["coverage"] = (post.predict(300).draws[:, 0] < coverage).mean()
        found.append(shares)
    return {name: np.array([one[name] for one in found]) for name in found[0]}


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("law", ["exgaussian", "beta"])
def test_simulation_based_calibration_passes(law):
    for name, shares in ranks(60, lambda rng: drawn_from_the_prior(rng, law), law=law).items():
        assert stats.kstest(shares, "uniform").pvalue > 0.002, name


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("law", ["exgaussian", "beta"])
def test_calibration_notices_unsolvable_problems_that_the_model_leaves_out(law):
    # A long tail of small rates resembles unsolvable problems, so it takes more simulations to tell them apart.
    number = 70 if law == "exgaussian" else 40
    shares = ranks(number, lambda rng: drawn_from_the_prior(rng, law) | {"unsolvable": 0.5}, law=law, unsolvable=False)
    assert stats.kstest(shares["coverage"], "uniform").pvalue < 1e-4


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("law", density.LAWS)
def test_parameters_are_recovered(law):
    rng = np.random.default_rng(3)
    true = {"alpha": 0.5, "beta": 2.0, "unsolvable": 0.15, "scale": 0.6}
    if law == "exgaussian":
        true = {"alpha": 0.5, "center": -2.0, "spread": 1.5, "unsolvable": 0.15}
        table = counts_from(rng, true, 1_000, 100)
    else:
        x = rng.beta(1.0, 2.0, 1_000) ** 2 if law == "kumaraswamy" else rng.beta(0.5, 2.0, 1_000)
        rate = 0.6 * x * (rng.random(1_000) >= 0.15)
        table = {"correct": rng.binomial(100, rate), "attempts": [100] * 1_000}
    # The rate of the exponential part is the least certain parameter, and each density of ex-Gaussian log odds is slow.
    draws, width = (500, 4.0) if law == "exgaussian" else (2000, 3.0)
    post = bs.coverage.fit(table, seed=0, law=law, settings=bs.Nuts(draws=draws))
    assert post.status is bs.Status.OK
    for name, values in post.draws.items():
        low, high = np.quantile(values, [0.0005, 0.9995])
        assert low < true[name] < high and high - low < width * abs(true[name]), name
