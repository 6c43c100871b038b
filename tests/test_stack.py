"""Stacking: weights are those of the best mixture of forecasts, of one law or several; what cannot be is refused."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import FEW, call
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp
from test_discrepancy_axes import grid

import bayescale as bs
from bayescale.evaluate.stack import SHARES, cuts_of, log_probability_of_items
from bayescale.fitting.programs import TRACES
from bayescale.posterior.stacking import TOLERANCE, Cut, Stacking, stacking_weights
from bayescale.score_forecast import ScoreForecast

QUICK = {"settings": FEW, "method": "importance"}
FLAT = {"law": "power", "discrepancy": None}
RIGHT = {"law": "saturating_power", "discrepancy": None}


def ladder(rows=8, floor=2.0, noise=0.002, step=4.0):
    """Runs on a power law with a high floor, which a law without one does not follow."""
    x = 1e18 * step ** np.arange(rows)
    loss = floor + 1.5 * (x / x[0]) ** -0.3
    loss = loss * np.exp(noise * np.random.default_rng(0).standard_normal(rows))
    return bs.Runs.from_frame(pd.DataFrame({"flops": x, "loss": loss}), inputs=("flops",), name="ladder")


@pytest.fixture(scope="module")
def stacked():
    return bs.stack(ladder(), {"right": RIGHT, "flat": FLAT}, seed=0, **QUICK)


# --- Weights ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concentration", [1.01, 2.0, 6.0])
def test_weights_of_runs_that_only_one_candidate_foresees(concentration):
    first, second = 7, 3
    densities = np.log(np.repeat([[1.0, 1e-300], [1e-300, 1.0]], [first, second], axis=0))
    pseudo = concentration - 1.0
    expected = (first + pseudo) / (first + second + 2 * pseudo)
    assert stacking_weights(densities, concentration)[0] == pytest.approx(expected, rel=1e-6)
    # No candidate has less than the weight of its own pseudo-runs.
    least = stacking_weights(np.tile([0.0, -800.0, -800.0], (10, 1)), concentration)
    assert least[1:] == pytest.approx(pseudo / (10 + 3 * pseudo), rel=1e-6)


@pytest.mark.parametrize(("runs", "candidates"), [(1, 2), (12, 3), (40, 6), (3000, 4)])
@pytest.mark.parametrize("concentration", [1.001, 2.0])
def test_weights_are_the_maximum_that_scipy_finds(runs, candidates, concentration):
    densities = 2.0 * np.random.default_rng(runs).standard_normal((runs, candidates)) - np.arange(candidates)

    def loss(free):
        log_weights = log_softmax(free)
        return -logsumexp(densities + log_weights, axis=1).sum() - (concentration - 1.0) * log_weights.sum()

    found = stacking_weights(densities, concentration)
    assert found.sum() == pytest.approx(1.0) and (found > 0.0).all()
    best = min(
        minimize(loss, start, method="BFGS", options={"gtol": 1e-8}).fun
        for start in (np.zeros(candidates), np.arange(candidates) / 2.0)
    )
    assert loss(np.log(found)) <= best + 1e-6
    relative = np.exp(densities - logsumexp(densities + np.log(found), axis=1)[:, None])
    gradient = relative.sum(0) + (concentration - 1.0) / found
    assert gradient.max() - found @ gradient <= 10 * TOLERANCE * runs + 1e-6


def test_weights_do_not_depend_on_what_all_candidates_share():
    densities = np.random.default_rng(1).standard_normal((8, 3))
    shift = 500.0 * np.arange(8)[:, None]
    np.testing.assert_allclose(stacking_weights(densities + shift, 2.0), stacking_weights(densities, 2.0), rtol=1e-9)
    far = [stacking_weights(densities, concentration) for concentration in (1.1, 3.0, 1e6)]
    assert np.ptp(far[0]) > np.ptp(far[1]) > np.ptp(far[2])
    assert far[2] == pytest.approx(1 / 3, abs=1e-4)


def test_log_probabilities_of_scores_sum_to_one():
    rng = np.random.default_rng(0)
    location, scale = rng.standard_normal((50, 21)), np.full((50, 21), 0.4)
    location, points = np.repeat(location[:, :1], 21, axis=1), pd.DataFrame({"flops": np.full(21, 1e21)})
    forecast = ScoreForecast(
        points, "run", location, scale, location[None], np.ones(21), range=bs.ScoreScale(chance=0.25)
    )
    right, items = np.arange(21.0), np.full(21, 20.0)
    found = log_probability_of_items(forecast, right, items)
    assert np.exp(found).sum() == pytest.approx(1.0, rel=1e-9)
    drawn = forecast.range.score(location[:, 0] + 0.4 * rng.standard_normal((4000, 50)))
    assert (np.exp(found) @ right / 20.0) == pytest.approx(drawn.mean(), abs=0.01)


# --- Mixtures ---------------------------------------------------------------------------------------------------


def test_a_wrong_law_has_little_weight(stacked):
    record = stacked.stacking
    assert [cut.held_out for cut in record.cuts] == [1, 2, 4] and record.held_out == 7
    assert [cut.fitted for cut in record.cuts] == [7, 6, 4]
    table = record.to_frame()
    assert table.loc["right", "log_score"] > table.loc["flat", "log_score"] + 1.0
    assert table.loc["flat", "weight"] == pytest.approx(1.0 / (7 + 2), abs=0.02)
    assert stacked.weights == pytest.approx(record.weights)
    assert record.owners == ("right", "flat")
    truth = 2.0 + 1.5 * 4.0 ** (-0.3 * 11)
    assert stacked.predict(flops=1e18 * 4.0**11).quantile(0.5)[0] == pytest.approx(truth, rel=0.01)


def test_the_record_is_printed_and_saved(stacked, tmp_path):
    said = str(stacked)
    assert "saturating_power and power on ladder" in said
    assert "Stacked by 7 forecasts of held-out runs, 3 cuts (ratio 4, 16, 256), Dirichlet concentration 2:" in said
    assert f"  flat  weight {stacked.weights[1]:.3f}, log score " in said
    assert f"{stacked.weights[0]:.3g} right, saturating_power" in said
    assert "saturating_power and power" in stacked.predict(flops=1e25).label
    stacked.save(tmp_path / "fit.nc")
    again = bs.load(tmp_path / "fit.nc")
    assert again.stacking == stacked.stacking and again.weights == stacked.weights
    np.testing.assert_array_equal(again.predict(flops=1e25).log_draws, stacked.predict(flops=1e25).log_draws)
    assert str(again) == said
    assert bs.load(tmp_path / "fit.nc").to_datatree()["component_1"].attrs["component"].startswith("flat, power")


def test_a_record_comes_back_from_its_text():
    cut = Cut(4.0, 5, 2, (1.0, -np.inf))
    record = Stacking(("a", "b"), (0.7, 0.3), 2.0, (cut,), ("a", "a", "b"), ("ratio 8: 2 training rows",))
    assert Stacking.decode(record.encode()) == record
    assert "  skipped ratio 8: 2 training rows" in str(record)


def test_questions_of_several_laws_are_answered(stacked):
    assert stacked.leading.law.name == "saturating_power"
    assert len(stacked.flat_values.level) == sum(chains * draws for chains, draws in stacked.layout)
    assert set(stacked.summary()["component"]) == {"right, saturating_power", "flat, power"}
    assert not [note for note in stacked.check() if note.code == "worse_component"]
    decision = bs.decide.go(stacked, target=2.05, cost=1.0, value=3.0, flops=1e25)
    assert 0.0 <= decision.probability <= 1.0
    weights = np.array(stacked.weights)
    parts = [part.predict(flops=1e25).probability_below(2.05)[0] for part in stacked.components]
    assert stacked.predict(flops=1e25).probability_below(2.05)[0] == pytest.approx(weights @ parts, abs=0.02)


def test_budgets_are_split_by_several_laws():
    fits = [bs.fit(grid(), law, seed=0, discrepancy=None, **QUICK) for law in ("chinchilla", "kaplan_joint")]
    mixed, alone = bs.Mixture(tuple(fits), (0.8, 0.2)), fits[0]
    found, one = (bs.decide.allocate(fit, 1e22) for fit in (mixed, alone))
    assert found.plug_in == one.plug_in, "medians are those of the law with the largest weight"
    assert mixed.log_law(np.zeros((3, 2))).shape == (len(mixed.flat_values.level), 3)


def test_equal_candidates_have_equal_weights():
    fit = bs.stack(ladder(6), {"one": RIGHT, "other": RIGHT}, seed=0, largest=[1, 2], concentration=1.5, **QUICK)
    assert fit.stacking.weights == (0.5, 0.5) and fit.stacking.concentration == 1.5
    assert [cut.held_out for cut in fit.stacking.cuts] == [1, 2]
    alone = bs.fit(ladder(6), seed=0, **RIGHT, **QUICK)
    locations = [found.predict(flops=1e23).location.mean() for found in (fit, alone)]
    assert locations[0] == pytest.approx(locations[1], abs=0.002)
    assert len(set(str(fit).splitlines())) == len(str(fit).splitlines()) or "one, " in str(fit)


def test_cuts_are_shares_of_the_sizes():
    for rows, expected in ((5, [1, 1, 2]), (16, [2, 4, 8])):
        assert cuts_of(ladder(rows), None, None) == [(None, number) for number in expected]
    assert cuts_of(ladder(), [4, 16], None) == [(4.0, None), (16.0, None)]
    assert cuts_of(ladder(), None, 2) == [(None, 2)]
    assert len(SHARES) == 3


# --- Refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("laws", "options", "words"),
    [
        ("auto", {}, "needs several laws"),
        (["auto"], {}, "at least two candidates.*found auto"),
        ([], {}, "found none"),
        (["auto", "auto"], {}, "Two candidates are called auto"),
        (["auto", {"law": "power"}], {}, "under a label of their own"),
        ({"a": "auto", 3: "power"}, {}, "label of a candidate must be a string; found 3"),
        ({"a": "auto", "b": {"law": 3}}, {}, "law of the candidate b is a law or its name"),
        ({"a": "auto", "b": {"discrepanc": None}}, {}, "no option 'discrepanc'.*discrepancy"),
        (["auto", "no such law"], {}, "The candidate no such law cannot be fitted"),
        (["power", "chinchilla"], {}, "The candidate chinchilla cannot be fitted"),
        (["auto", "power"], {"concentration": 1.0}, "concentration must be a finite number above 1; found 1.0"),
        (["auto", "power"], {"concentration": float("nan")}, "concentration must be"),
        (["auto", "power"], {"ratio": 4, "largest": 1}, "found both"),
        (["auto", "power"], {"largest": []}, "largest must be a whole number"),
        (["auto", "power"], {"largest": [1, 0]}, "largest must be a whole number"),
        (["auto", "power"], {"ratio": 1e9}, "No cut of the 8 runs.*0 training rows.*at least 3 runs"),
        (["auto", "power"], {"largest": 6}, "largest 6 held out: 2 training rows.*add smaller runs"),
        (["auto", "power"], {"concentrate": 2.0}, "concentration"),
    ],
)
def test_what_cannot_be_stacked_is_refused_before_anything_is_compiled(laws, options, words):
    before = sum(TRACES.values())
    with pytest.raises(bs.InputError, match=words):
        bs.stack(ladder(), laws, seed=0, **options)
    assert sum(TRACES.values()) == before


def test_too_few_runs_are_told_how_many_are_needed():
    with pytest.raises(bs.InputError, match=r"No cut of the 3 runs of ladder.*needs at least 3 runs of two or more"):
        bs.stack(ladder(3), ["power", "saturating_power"], seed=0)


def test_candidates_of_other_inputs_are_refused():
    sizes = 1e7 * 2.0 ** np.arange(6)
    frame = pd.DataFrame({"n_params": sizes, "n_tokens": 20.0 * sizes, "loss": 2.0 + (sizes / 1e7) ** -0.3})
    runs = bs.Runs.from_frame(frame, inputs=["n_params", "n_tokens"], name="ray")
    with pytest.raises(bs.InputError, match="same inputs; found n_params of auto and n_params, n_tokens of"):
        bs.stack(runs, ["auto", "chinchilla"], seed=0)
    recipes = pd.concat([frame.assign(family="a"), frame.assign(family="b")])
    with pytest.raises(bs.InputError, match=r"of one family; runs has 2 \(a, b\)\. Stack each"):
        bs.stack(bs.Runs.from_frame(recipes, inputs=["n_params"]), ["auto", "power"], seed=0)


# --- The command ------------------------------------------------------------------------------------------------


def test_the_command_stacks(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ladder().frame[["flops", "loss"]].to_csv("runs.csv", index=False)
    line = "stack runs.csv --law power --law saturating_power --discrepancy none --method importance --largest 2"
    draws = f"--chains {FEW.chains} --draws {FEW.draws}"
    assert call(*line.split(), *draws.split(), "--out", "fit.nc", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [card["candidate"] for card in told["candidates"]] == ["power", "saturating_power"]
    assert told["candidates"][0]["weight"] < 0.4
    assert told["cuts"][0]["held_out"] == 2 and told["fit"]["law"] == "power and saturating_power"
    assert bs.load("fit.nc").weights == pytest.approx([card["weight"] for card in told["candidates"]])
    assert call("stack", "runs.csv", "--law", "power") == 2
    assert "--law auto --law saturating_power" in capsys.readouterr().err
