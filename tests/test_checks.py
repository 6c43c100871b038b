"""`check()` says when a forecast is not to be trusted, and is silent about clean curves."""

import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest
from conftest import call, with_job

import bayescale as bs
from bayescale.cli.main import described
from bayescale.decide.trust import caveats
from bayescale.posterior.checks import check_discrepancy, held_names
from bayescale.posterior.curves import steepens
from bayescale.posterior.notes import Note, Notes

TOKENS = 1e8 * 2.0 ** np.arange(9)
FALLING = 2.0 + 3.0 * (TOKENS / 1e8) ** -0.3


def posed(posterior, **columns):
    """The same draws as if a curve over tokens had been fitted, for checks that look at the runs only."""
    runs = bs.Runs.from_frame(pd.DataFrame({"n_tokens": TOKENS, "loss": FALLING} | columns), inputs=["n_tokens"])
    law = bs.laws.renamed(posterior.law, ("n_tokens",))
    return with_job(posterior, runs=runs, law=law)


def codes(posterior):
    return {note.code for note in posterior.check()}


@pytest.mark.parametrize("share", [0.03, 0.1])
def test_a_rise_is_noticed_where_it_exceeds_a_twentieth_of_the_range(marin_post, share):
    smooth = np.log(FALLING)
    smooth[-3:] = smooth.min() + share * np.ptp(smooth) * np.array([0.5, 1.0, 1.0])
    assert ("not_monotone" in codes(posed(marin_post, loss=np.exp(smooth)))) == (share > 0.05)


def test_a_response_that_grows_is_called_so(marin_post):
    accuracy = 0.9 - 0.5 * (TOKENS / TOKENS.min()) ** -0.2
    (note,) = [note for note in posed(marin_post, loss=accuracy).check() if note.code == "not_monotone"]
    assert "rises with n_tokens" in note.text and "--derive error_rate" in note.text
    rising = bs.fit(posed(marin_post, loss=accuracy).runs, law="growing_power", seed=0)
    assert "not_monotone" not in codes(rising)


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        ([3.40, 3.20, 3.07, 3.03, 3.09, 3.25], True),
        ([3.40, 3.10, 3.00, 3.05, 3.25], True),
        ([3.40, 3.20, 3.07, 3.03, 3.04, 3.05], False),
        ([3.40, 3.20, 3.07, 3.05, 3.03, 3.25], False),
    ],
)
def test_a_rise_at_the_end_of_a_few_losses_is_noticed(marin_post, loss, told):
    tokens = TOKENS[: len(loss)]
    runs = bs.Runs.from_frame(pd.DataFrame({"n_tokens": tokens, "loss": loss}), inputs=["n_tokens"])
    found = with_job(posed(marin_post), runs=runs)
    assert ("not_monotone" in codes(found)) == told and found.trustworthy != told


@pytest.mark.slow
def test_data_that_leak_and_rising_responses_are_not_extrapolated():
    flops = np.geomspace(1e18, 1e21, 6)
    table = pd.DataFrame({"flops": flops, "val_loss": 2.0 + 2.0 * (flops / 1e18) ** -0.2})
    leaking = bs.read(table.assign(train_loss=table["val_loss"] * np.linspace(1.0, 0.85, 6)))
    rising = bs.read(pd.DataFrame({"flops": flops, "accuracy": np.linspace(0.3, 0.8, 6)}))
    for runs, words in ((leaking, "loss grows with scale"), (rising, "law='turning'")):
        fit = bs.fit(runs, seed=0, method="importance")
        with pytest.raises(bs.InputError, match=f"{words}.*--force"):
            fit.predict(flops=1e23)
        forecast = fit.predict(flops=1e23, force=True)
        # Coverage on published families is no comfort here.
        assert "record" not in {note.code for note in fit.check(forecast)}


@pytest.mark.slow
@pytest.mark.parametrize("scored", [False, True])
def test_data_that_rise_and_fall_are_not_extrapolated(tmp_path, scored):
    score = np.array([0.428, 0.471, 0.468, 0.431, 0.392, 0.371])
    frame = pd.DataFrame({"params": [25e6, 60e6, 150e6, 400e6, 1.1e9, 2.8e9], "auprc": score})
    runs = bs.read(frame, score="auprc") if scored else bs.read(frame)
    fit = bs.fit(runs, seed=0, method="importance")
    law = "inverted_u_score" if scored else "rise_then_fall"
    with pytest.raises(bs.InputError, match=f"n_params=1e\\+10 lies beyond the data.*--law {law}.*--force"):
        fit.predict(n_params=[1e9, 1e10])
    inside = fit.predict(n_params=1e9).interval(0.8)
    np.testing.assert_array_equal(inside, fit.predict(n_params=1e9, force=True).interval(0.8))
    fit.save(tmp_path / "fit.nc")
    predict = ["predict", tmp_path / "fit.nc", "--at", "n_params=1e10"]
    assert call(*predict) == 2
    assert call(*predict, "--force") == 0
    # A law that turns says where, and forecasts beyond.
    assert bs.fit(runs, seed=0, law=law, method="importance").predict(n_params=1e10).ratio > 3.0


def test_what_reading_says_of_the_shape_is_said_once(marin_post):
    hump = np.interp(np.arange(9), [0, 4, 8], [0.4, 0.6, 0.35])
    for loss in (hump, 0.9 - 0.5 * (TOKENS / TOKENS.min()) ** -0.2):
        runs = bs.read(pd.DataFrame({"n_tokens": TOKENS, "loss": loss}))
        assert [entry.code for entry in runs.log if entry.severity == "warning"] in (["hump"], ["score"])
        posterior = posed(marin_post, loss=loss)
        posterior = with_job(posterior, runs=runs)
        said = [note.code for note in posterior.check() if "rises" in note.text]
        assert said == ["not_monotone"]
        # The command tells the log before the fit, so the fit does not tell it again.
        text = described(posterior, {entry.text for entry in runs.log}, again=False)
        assert all(entry.text not in text for entry in runs.log)


def test_a_curve_that_never_moved_is_noticed(marin_post):
    still = posed(marin_post, loss=np.full(9, 0.5))
    (note,) = [note for note in still.check() if note.code == "flat"]
    assert note.severity == "warning" and "All 9 losses are equal (0.5)" in note.text
    (caveat,) = caveats(still, {"n_tokens": TOKENS.max()})
    assert caveat.code == "flat" and "larger runs" in caveat.remedy
    assert "flat" not in codes(posed(marin_post, loss=np.append(np.full(8, 0.5), 0.4999)))


SCORES = pd.DataFrame({"n_tokens": TOKENS, "loss": 0.9 - 0.5 * (TOKENS / TOKENS.min()) ** -0.2})


@pytest.mark.slow
def test_strict_and_json_and_python_agree_on_what_is_trustworthy(tmp_path, capsys):
    runs = bs.read(SCORES, name="scores")
    SCORES.to_csv(tmp_path / "scores.csv", index=False)
    post = bs.fit(runs, seed=0)
    assert post.status is bs.Status.OK and not post.trustworthy
    for strictly in (lambda: bs.fit(runs, seed=0, strict=True), lambda: bs.fit_many([runs], seed=0, strict=True)):
        with pytest.raises(bs.UntrustworthyFit, match=r"not reliable.* rises with n_tokens"):
            strictly()
    assert call("fit", tmp_path / "scores.csv", "--strict") == 3
    assert "rises with n_tokens" in capsys.readouterr().err
    assert call("fit", tmp_path / "scores.csv", "--json", "--out", tmp_path / "fit.nc") == 0
    assert json.loads(capsys.readouterr().out)["fits"][0]["trustworthy"] is False
    assert call("predict", tmp_path / "fit.nc", "--at", "n_tokens=1e11", "--force", "--json") == 0
    assert json.loads(capsys.readouterr().out)["trustworthy"] is False
    # A law that grows describes such a response.
    assert bs.fit(runs, law="growing_power", seed=0, strict=True).trustworthy


def test_a_sound_fit_is_trustworthy(marin_post):
    assert marin_post.trustworthy


def test_a_score_of_two_inputs_is_no_loss(marin_post):
    grid = pd.DataFrame([(n, d) for n in (1e8, 4e8, 1.6e9) for d in (2e9, 8e9, 32e9)], columns=["n_params", "n_tokens"])
    score = 0.9 - 0.5 * (grid["n_params"] / 1e8) ** -0.1 * (grid["n_tokens"] / 2e9) ** -0.1
    (warning,) = [entry for entry in bs.read(grid.assign(loss=score)).log if entry.severity == "warning"]
    assert warning.code == "score"
    post = with_job(marin_post, runs=dataclasses.replace(marin_post.runs, log=(warning,)))
    assert not post.trustworthy
    assert [caveat.code for caveat in caveats(post, {"flops": 1e21})] == ["score"]
    # Across a budget a loss may rise with parameters, while it falls with tokens.
    sweep = pd.DataFrame({"n_params": 1e8 * 2.0 ** np.arange(6)}).assign(n_tokens=lambda t: 1e19 / 6 / t["n_params"])
    losses = sweep.assign(loss=2.5 + 0.05 * np.arange(6))
    assert "score" not in {entry.code for entry in bs.read(losses).log}


def test_a_floor_above_measured_losses_is_no_floor(marin_post):
    floors = [float(np.median(part.draws["E"])) for part in marin_post.components[:2]]
    for lowest, above in ((0.5 * min(floors), floors), (0.5 * sum(floors), [max(floors)]), (1.1 * max(floors), [])):
        notes = [note for note in posed_run(marin_post, lowest).check() if note.code == "floor_above_data"]
        assert len(notes) == (len(above) > 0)
        for note in notes:
            assert note.severity == "info" and note.text.count("(component") == len(above)
            assert all(f"E {floor:.3g} (" in note.text for floor in above)
            assert f"lowest is {lowest:.3g}" in note.text and "E as the limit of the loss" in note.text


def posed_run(posterior, lowest):
    """The same draws as if the losses had been scaled to end at `lowest`."""
    return posed(posterior, loss=FALLING * lowest / FALLING.min())


def test_scatter_is_no_rise(marin_post):
    rng = np.random.default_rng(0)
    noisy = [FALLING * np.exp(0.05 * rng.standard_normal(9)) for _ in range(200)]
    assert np.mean(["not_monotone" in codes(posed(marin_post, loss=loss)) for loss in noisy]) <= 0.05


def test_repetition_is_noticed_where_the_law_ignores_it(marin_post):
    assert "repeated" not in codes(marin_post)
    assert "repeated" not in codes(posed(marin_post, unique_tokens=TOKENS))
    # Up to four epochs are harmless.
    assert "repeated" not in codes(posed(marin_post, unique_tokens=np.minimum(TOKENS, TOKENS.max() / 4)))
    often = posed(marin_post, unique_tokens=1e8)
    (note,) = [note for note in often.check() if note.code == "repeated"]
    assert "256 times" in note.text and note.severity == "warning"
    assert [caveat.code for caveat in caveats(often, {"n_tokens": TOKENS.max()})] == ["repeated"]


def test_repetition_ahead_is_noticed(marin_post):
    once = posed(marin_post, unique_tokens=TOKENS)
    assert caveats(once, {"n_tokens": 3 * TOKENS.max()}) == []
    (caveat,) = caveats(once, {"n_tokens": 12 * TOKENS.max()})
    assert caveat.code == "repeated" and "12 times" in caveat.text


def test_notes_print_one_a_line():
    assert str(Notes()) == repr(Notes()) == "No warnings."
    notes = Notes([Note("far", "warning", "It is far."), Note("short", "info", "It is short.")])
    assert str(notes) == "warning: It is far.\ninfo: It is short." and notes[0].code == "far"
    assert "<pre>warning: It is far." in notes._repr_html_()


def test_check_returns_notes_that_print(marin_post):
    assert isinstance(marin_post.check(prior=False), Notes)


def test_what_was_said_of_one_fit_is_not_said_again(marin_post):
    rising = posed(marin_post, loss=0.9 - 0.5 * (TOKENS / TOKENS.min()) ** -0.2)
    told = set()
    first, second = described(rising, told, again=False), described(rising, told, again=True)
    assert first.count("rises with n_tokens") == 1 and "rises with" not in second
    assert re.search(r"\d+ notes? above appl(?:y|ies) to this fit, too\.", second)


def test_the_record_at_the_distance_of_a_forecast_is_noted(marin_post):
    (note,) = [note for note in marin_post.check(marin_post.predict(flops=[1e20, 8 * 3e20])) if note.code == "record"]
    assert note.severity == "info"
    assert "8 times beyond the data" in note.text and "on ladders, 80 % intervals contained" in note.text
    inside = marin_post.check(marin_post.predict(flops=1e20))
    assert "record" not in {note.code for note in inside}


def test_no_record_is_quoted_below_the_data(marin_post):
    forecast = marin_post.predict(flops=1e15)
    assert "[1,000x below the data]" in str(forecast)
    notes = {note.code: note.text for note in marin_post.check(forecast, prior=False)}
    assert "1,000 times below the data" in notes["record"] and "intervals contained" not in notes["record"]
    assert "far" not in notes
    decision = bs.decide.go(marin_post, 5.0, flops=1e15)
    assert "1,000 times below the data" in decision.text and "beyond" not in decision.text
    page = bs.report(marin_post, decision, with_sensitivity=False).markdown()
    assert "1,000 times below the data" in page
    # Of points on both sides, the record is of those beyond the data.
    both = marin_post.check(marin_post.predict(flops=[1e15, 8 * 3e20]), prior=False)
    assert "8 times beyond" in next(note.text for note in both if note.code == "record")


def test_the_track_record_is_that_of_the_default_model(marin_post):
    def record(posterior):
        largest = float(posterior.runs.frame["flops"].max())
        (note,) = [n for n in posterior.check(posterior.predict(flops=5.0 * largest)) if n.code == "record"]
        return note.text

    assert "The intervals of this model were not tested" not in record(marin_post)
    other = bs.fit(marin_post.runs, discrepancy=None, method="importance", seed=0)
    assert record(other).startswith("The intervals of this model were not tested on published runs.")


def test_a_sweep_of_learning_rates_has_a_best_rate():
    assert bs.laws.automatic(("lr",)).name == "valley"
    assert bs.laws.automatic(("lr", "n_params")).name == "rate_valley"
    rate = np.geomspace(3e-4, 3e-2, 8)
    sweep = pd.DataFrame({"lr": rate, "loss": 2.5 * np.exp(0.5 * (0.2 * np.log(rate / 2.5e-3)) ** 2)})
    post = bs.fit(bs.read(sweep, inputs="lr"), method="importance", seed=0)
    low, high = np.quantile(post.draws["T"], [0.025, 0.975])
    assert low < 2.5e-3 < high
    assert "Forecasts along a learning rate were not tested" in str(post.check(post.predict(lr=0.06)))


def test_parameters_without_information_have_the_names_of_results():
    assert held_names(["log_fall_ratio_a", "log_step_b", "logit_share_E", "log_residual_sd", "level"]) == [
        *("a", "b", "E", "residual_sd", "level")
    ]
    # No law has a parameter whose name in a message would be that of the sampler.
    for law in bs.LAWS.values():
        named = held_names([f"{start}_{key}" for key in law.constants for start in ("log", "logit", "place")])
        assert set(named) == set(law.constants)


def test_losses_far_from_the_law_are_told(marin_post):
    assert not check_discrepancy(marin_post)
    part = marin_post.components[0]
    amplitude = np.full_like(np.asarray(part.values.amplitude), 2.0)
    far = dataclasses.replace(part, values=part.values._replace(amplitude=amplitude))
    [note] = check_discrepancy(far)
    assert note.code == "wide_discrepancy" and "by a factor of about 7.4" in note.text and "burn_in" not in note.text


def test_noise_does_not_steepen():
    x, rng = np.arange(8.0), np.random.default_rng(0)
    found = [steepens(x, 0.01 * rng.standard_normal(8)) for _ in range(200)]
    assert np.mean(found) < 0.03
    bent = [steepens(x, -0.002 * x**2 - 0.01 * x + 0.001 * rng.standard_normal(8)) for _ in range(200)]
    assert np.mean(bent) > 0.95
