"""Chains: losses by scale, then scores by the loss, as one posterior."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

import bayescale as bs
from bayescale.posterior.chain import INVERSE_PERPLEXITY, Chain

SETTINGS = bs.Nuts(warmup=300, draws=500)
ITEMS, CHANCE = 1172, 0.25
LARGE = 120.0 * 1.2e10**2


def true_loss(params):
    return 1.62 + 310.0 * params**-0.33 + 420.0 * (20.0 * params) ** -0.29


def true_score(params):
    return CHANCE + 0.6 / (1.0 + np.exp((true_loss(params) - 2.62) / 0.16))


def table() -> pd.DataFrame:
    rng, params = np.random.default_rng(7), np.geomspace(4e7, 3e9, 9)
    loss = true_loss(params) * np.exp(0.002 * rng.standard_normal(9))
    right = rng.binomial(ITEMS, true_score(params))
    return pd.DataFrame(
        {"run": [f"run {i}" for i in range(9)], "flops": 120.0 * params**2, "val_loss": loss}
        | {"accuracy": right / ITEMS, "n_items": ITEMS}
    )


def losses(rows: pd.DataFrame) -> bs.Runs:
    return bs.read(rows.drop(columns=["accuracy", "n_items"]))


def scores(rows: pd.DataFrame) -> bs.Runs:
    return bs.read(rows.drop(columns="val_loss"), score="accuracy", chance=CHANCE, inputs="flops")


@pytest.fixture(scope="module")
def chain() -> Chain:
    return bs.fit_chain(losses(table()), scores(table()), seed=0, settings=SETTINGS)


@pytest.fixture(scope="module")
def with_score_only(chain) -> Chain:
    """The same fits, and the score of a run whose loss was not measured."""
    row = pd.DataFrame({"run": ["large"], "flops": [LARGE], "accuracy": [0.84], "n_items": [20_000]})
    whole = scores(pd.concat([table().drop(columns="val_loss"), row]).assign(val_loss=1.0))
    return dataclasses.replace(chain, unmeasured=whole.select(whole.frame["run"] == "large"))


def test_forecast_of_the_score_holds_the_truth(chain):
    forecast = chain.predict(flops=[1e21, LARGE])
    assert chain.status is bs.Status.OK and chain.through == INVERSE_PERPLEXITY
    low, high = forecast.interval(0.95)
    truth = true_score(np.sqrt(np.array([1e21, LARGE]) / 120.0))
    assert (low < truth).all() and (truth < high).all() and (high < 1.0).all()
    assert forecast.higher_is_better and forecast.points["flops"].tolist() == [1e21, LARGE]
    np.testing.assert_array_equal(forecast.ratio, chain.losses.predict(flops=[1e21, LARGE]).ratio)


def test_chain_of_measured_losses_is_the_product_of_two_posteriors(chain):
    """The second way: the density of the score, integrated over independent draws of loss and link."""
    loss = chain.losses.predict(flops=LARGE, kind="mean")
    rng = np.random.default_rng(1)
    drawn = rng.choice(loss.draws.ravel(), 400)
    by_loss = chain.scores.predict(pd.DataFrame({INVERSE_PERPLEXITY: np.exp(-drawn)}), kind="mean", force=True)
    expected = np.quantile(by_loss.draws.reshape(-1, 400), [0.1, 0.5, 0.9])
    found = chain.predict(flops=LARGE, kind="mean").quantile([0.1, 0.5, 0.9])[:, 0]
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_score_without_a_loss_weights_draws_of_both_fits(with_score_only):
    """Compared with weights of other pairs of draws, without resampling."""
    rng, far = np.random.default_rng(3), 30.0 * LARGE
    one, two = with_score_only.losses, with_score_only.scores
    path = one.predict(flops=[LARGE, far], kind="mean").log_draws.reshape(-1, 2)
    grid = np.linspace(path.min() - 0.1, path.max() + 0.1, 300)
    odds = two.predict(pd.DataFrame({INVERSE_PERPLEXITY: np.exp(-np.exp(grid))}), kind="mean", force=True).log_draws
    odds = odds.reshape(-1, 300)
    first, second = rng.integers(len(path), size=20_000), rng.integers(len(odds), size=20_000)
    sds = [np.hypot(np.asarray(fit.flat_values.residual_sd), fit.flat_values.seed_sd) for fit in (one, two)]
    measured = path[first, 0] + sds[0][first] * rng.standard_normal(20_000)
    shown = [
        np.array([np.interp(x, grid, odds[j]) for x, j in zip(xs, second, strict=True)])
        for xs in (measured, path[first, 1])
    ]
    score = two.runs.score.score
    weight = binom.pmf(16_800, 20_000, score(shown[0] + sds[1][second] * rng.standard_normal(20_000)))
    order = np.argsort(score(shown[1]))
    expected = np.interp([0.1, 0.5, 0.9], np.cumsum(weight[order]) / weight.sum(), score(shown[1])[order])
    found = with_score_only.predict(flops=far, kind="mean").quantile([0.1, 0.5, 0.9])[:, 0]
    np.testing.assert_allclose(found, expected, atol=0.01)
    assert with_score_only.predict(flops=LARGE).mean[0] == pytest.approx(0.84, abs=0.02)


def test_score_without_a_loss_narrows_the_forecast_beyond_it(chain, with_score_only):
    plain, known = (fit.predict(flops=30.0 * LARGE, kind="mean").interval(0.8) for fit in (chain, with_score_only))
    assert np.diff(known, axis=0) < 0.7 * np.diff(plain, axis=0)
    assert "1 run with a score and without a loss" in repr(with_score_only)


def test_scores_that_no_draw_agrees_with_are_refused(with_score_only):
    frame = with_score_only.unmeasured.frame.assign(score=0.3, n_items=1e6)
    far = dataclasses.replace(with_score_only, unmeasured=dataclasses.replace(with_score_only.unmeasured, frame=frame))
    with pytest.raises(bs.InputError, match="of 8000 pairs of draws agree with the scores of 1 run without a loss"):
        far.predict(flops=LARGE)


def test_rows_are_matched_by_name_or_by_inputs():
    rows, found = table(), []
    for drop in ([], ["run"]):
        shuffled = rows.sample(frac=1.0, random_state=0)
        made = bs.fitting.fit_chain.matched(losses(rows.drop(columns=drop)), scores(shuffled.drop(columns=drop)))
        np.testing.assert_allclose(made, shuffled["val_loss"])
        found.append(made)
    missing = losses(rows.iloc[2:])
    assert np.isnan(bs.fitting.fit_chain.matched(missing, scores(rows))).sum() == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: (losses(rows.iloc[:2]), scores(rows)),
            "needs three runs with a score and a loss; found 2 among 9",
        ),
        (lambda rows: (scores(rows), scores(rows)), "takes runs with a loss, then runs with a score"),
        (lambda rows: (losses(rows), losses(rows)), "takes runs with a loss, then runs with a score"),
        (
            lambda rows: (losses(rows.assign(run="same", seed=range(9)).drop(columns="seed")), scores(rows)),
            "Several rows of runs have run=same",
        ),
    ],
)
def test_tables_that_are_no_chain_are_refused(change, message):
    with pytest.raises(bs.InputError, match=message):
        bs.fit_chain(*change(table()), seed=0)


def test_fits_that_are_no_chain_are_refused(chain):
    with pytest.raises(bs.InputError, match="must be a fit of scores with one input"):
        Chain(chain.losses, chain.losses)
    with pytest.raises(bs.InputError, match="must be a fit of losses; found score"):
        Chain(dataclasses.replace(chain).scores, chain.scores)


def test_decision_through_the_loss(chain):
    found = bs.decide.go(chain, 0.75, cost=1.0, value=3.0, flops=LARGE)
    assert found.answer == "go" and found.side == "above" and found.pilots is None
    assert found.probability == pytest.approx(chain.predict(flops=LARGE).probability_met(0.75)[0], abs=1e-6)
    assert 0.0 < found.probability_error < 0.05
    assert found.regret["go"] == pytest.approx(1.0 - found.probability, abs=0.02)
    with pytest.raises(bs.InputError, match=r"not ranked for a chain.*chain\.losses"):
        bs.decide.go(chain, 0.75, cost=1.0, value=3.0, flops=LARGE, pilots=pd.DataFrame({"flops": [1e22]}))


def test_chain_shows_itself(chain):
    assert chain._repr_html_().startswith("<pre>Chain: val_loss by flops (plateau_power), then score")
    assert chain.plot().get_title(loc="left")
    assert str(chain.check()) == "No warnings."
