"""Decisions on values such as rewards, their files, pictures and subcommands."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import FEW, call
from test_values import FLOPS, LAW, rewards, table, truth

import bayescale as bs
from bayescale.plot.records import draw


@pytest.fixture(scope="module")
def post():
    """A fit of one model to ten rewards."""
    return bs.fit(rewards(), **LAW)


# --- Files and decisions --------------------------------------------------------------------------------------


def test_a_fit_comes_back_from_its_file(post, tmp_path):
    post.save(tmp_path / "fit.nc")
    back = bs.load(tmp_path / "fit.nc")
    assert back.runs.value == post.runs.value
    for kind in ("run", "mean"):
        old, new = (one.predict(flops=[1e20, 1e22], kind=kind) for one in (post, back))
        np.testing.assert_array_equal(old.quantile([0.1, 0.5]), new.quantile([0.1, 0.5]))
    assert str(back) == str(post)
    assert "units of the value" in str(post)
    tree = post.to_datatree()
    np.testing.assert_allclose(tree["observed_data"]["value"], post.runs.frame["value"])
    simulated = tree["posterior_predictive"]["value"].mean(("chain", "draw"))
    np.testing.assert_allclose(simulated, post.runs.frame["value"], atol=0.3)
    assert float(tree["prior_predictive"]["value"].std()) > 0.0


def test_an_earlier_fit_keeps_its_scale(post):
    more = table(flops=[*FLOPS, 3e20, 1e21])
    more.loc[: len(FLOPS) - 1, "reward"] = table()["reward"]
    found = bs.fit(rewards(more), seed=0, prior_from=post)
    assert found.runs.value == post.runs.value
    assert np.ptp(np.log(found.runs.frame["loss"])) > 1.0
    (entry,) = [entry for entry in found.runs.log if entry.code == "prior_from"]
    assert entry.severity == "info"
    low, high = found.predict(flops=3e21, kind="mean").interval(0.95)[:, 0]
    assert low < truth(3e21) < high
    with pytest.raises(bs.InputError, match="In the earlier fit higher values are better"):
        bs.fit(rewards(lower_is_better=True), seed=0, prior_from=post)
    loss = bs.Runs.from_frame(table().assign(loss=np.exp(-table()["reward"] / 10)))
    with pytest.raises(bs.InputError, match="describes a value, and these runs have a loss"):
        bs.fit(loss, seed=0, prior_from=post)
    with pytest.raises(bs.InputError, match="too far from the values of the earlier fit"):
        bs.fit(rewards(table().assign(reward=lambda t: 1e6 * t["reward"])), seed=0, prior_from=post)


def test_decisions_have_the_direction_of_the_value(post):
    at = {"flops": 1e21}
    easy, hard = (bs.decide.go(post, target, cost=1.0, value=2.0, at=at) for target in (0.0, 7.0))
    assert easy.probability > 0.9 > 0.5 > hard.probability
    assert easy.answer == "go"
    assert "ends above 0" in easy.text
    np.testing.assert_allclose(easy.probability, easy.forecast.probability_met(0.0)[0], atol=1e-9)
    per_unit = bs.decide.go(post, 0.0, cost=0.1, value=1.0, utility="per_nat", at=at)
    assert per_unit.worth == pytest.approx(float(per_unit.forecast.mean[0]) - 0.1, abs=0.1)
    stops = bs.decide.stop_early({"a": post, "b": post}, 7.0, at=at).frame
    assert stops["probability"][0] == pytest.approx(hard.probability, abs=1e-9)
    ranking = bs.decide.next_run(post, target=3.0, cost=1.0, value=2.0, at=at).frame
    assert (ranking["evsi"] >= 0).all()
    plans = {"one": pd.DataFrame({"flops": [3e20]})}
    assert 0.0 <= bs.decide.power(post, plans, target=-1.0, at=at).frame["power"][0] <= 1.0
    assert bs.decide.reach(post, 0.0).quantile(0.5) == pytest.approx(1e18 * 2.4 ** (1 / 0.3), rel=0.2)
    changes = bs.decide.sensitivity(post, -1.0, at=at).dropna(subset=["probability"])
    assert (changes["probability"] > 0.5).all()
    with pytest.raises(bs.InputError, match="target must be a finite number"):
        bs.decide.go(post, np.inf, at=at)


def test_recipes_are_compared_by_value(post):
    better = bs.fit(rewards(table(seed=1).assign(reward=lambda t: 2.0 + t["reward"])), **LAW)
    found = bs.decide.compare({"old": post, "new": better}, at={"flops": 1e20})
    assert found.best == "new"
    assert found.duels[0].difference[0.5] == pytest.approx(-2.0, abs=0.3)
    assert found.regret_nats["old"] == pytest.approx(2.0, abs=0.3)
    assert "Expected value below" in found.text and "Its value: -" in found.text
    # The sign of the value and the order of the recipes are the only changes of the mirror image.
    lower = {}
    for name, shift in (("old", 0.0), ("new", 2.0)):
        frame = table(seed=int(shift > 0)).assign(reward=lambda t, shift=shift: -shift - t["reward"])
        lower[name] = bs.fit(rewards(frame, lower_is_better=True), **LAW)
    mirrored = bs.decide.compare(lower, at={"flops": 1e20})
    assert mirrored.best == "new"
    np.testing.assert_allclose(mirrored.duels[0].difference[0.5], -found.duels[0].difference[0.5], rtol=1e-4)
    assert "Expected value above" in mirrored.text
    with pytest.raises(bs.InputError, match="same direction"):
        bs.decide.compare({"old": post, "new": lower["new"]}, at={"flops": 1e20})
    with pytest.raises(bs.InputError, match="Crossings are not computed"):
        bs.decide.compare({"old": post, "new": better}, at={"flops": 1e20}, range=(1e20, 1e21))


def test_a_backtest_is_of_the_value():
    back = bs.backtest(rewards(), ratio=10, seed=0, law="saturating_power", settings=FEW)
    frame = back.to_frame()
    np.testing.assert_allclose(frame["y"], table()["reward"][-len(frame) :])
    assert (frame["q0.1"] < frame["q0.9"]).all()
    assert ((frame["pit"] > 0.0) & (frame["pit"] < 1.0)).all()
    means = back.scores().iloc[-1]
    assert means["rmse"] == pytest.approx(np.sqrt(((frame["y"] - frame["q0.5"]) ** 2).mean()))
    assert means["width95"] == pytest.approx((frame["q0.975"] - frame["q0.025"]).mean())
    assert "in units of the value" in str(back)
    assert np.isfinite(frame["crps"]).all() and np.isfinite(frame["log_score"]).all()
    doubled = bs.backtest(rewards(table().assign(reward=lambda t: 2.0 * t["reward"])), ratio=10, seed=0,
                          law="saturating_power", settings=FEW)  # fmt: skip
    np.testing.assert_allclose(doubled.to_frame()["crps"], 2.0 * frame["crps"], rtol=1e-6)
    np.testing.assert_allclose(doubled.to_frame()["log_score"], frame["log_score"] - np.log(2.0), rtol=1e-6)


def test_pictures_and_page_show_values(post, tmp_path):
    ax = bs.plot.intervals(post, upto=1e22, target=-2.0)
    assert ax.get_yscale() == "linear"
    assert ax.get_ylim()[0] < -7.0
    np.testing.assert_allclose(sorted(ax.lines[1].get_ydata()), sorted(post.runs.frame["value"]))
    forecast = post.predict(flops=1e21)
    ax = bs.plot.forecast(forecast, target=-1.0)
    assert any("P(above)" in text.get_text() for text in ax.texts)
    # The density that is drawn integrates to one.
    x, y = ax.lines[0].get_data()
    assert float(np.trapezoid(y, x)) == pytest.approx(1.0, abs=0.02)
    assert bs.plot.fitted(post).get_xscale() == "linear"
    ax = bs.plot.residuals(post)
    deviations = post.runs.shown - post.predict(post.runs.frame, kind="mean").quantile(0.5)
    np.testing.assert_allclose(ax.lines[1].get_ydata(), deviations)
    assert draw(post.runs).get_yscale() == "linear"
    decision = bs.decide.go(post, -1.0, flops=1e21)
    page = bs.report(post, decision, with_sensitivity=False).save(tmp_path / "page.html")
    assert "ends above -1" in page.read_text()


def test_what_is_of_losses_and_scores_alone_is_refused(post):
    for said, ask in (
        ("needs losses", lambda: bs.decide.isoflop(post)),
        ("fit of losses", lambda: bs.decide.allocate(post, 1e22)),
        ("Values of any sign are not pooled", lambda: bs.pool({"a": post.runs, "b": rewards(table(seed=1))}, seed=0)),
        ("values of any sign", lambda: bs.decide.noise(rewards(pd.concat([table(), table(seed=1)])))),
        ("check values with `run`", lambda: bs.sbc.given(post.runs, simulations=3, seed=0)),
        ("defined only for losses", lambda: bs.decide.power(post, {"a": table()[["flops"]]}, width=0.1, flops=1e21)),
    ):
        with pytest.raises(bs.InputError, match=said):
            ask()


def test_the_shell_reads_fits_predicts_and_decides(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table().to_csv("runs.csv", index=False)
    assert call("read", "runs.csv", "--value", "reward") == 0
    shown = capsys.readouterr().out
    assert "value" in shown and "loss" not in shown
    options = ("--value", "reward", "--law", "saturating_power", "--draws", "200")
    assert call("fit", "runs.csv", *options, "--out", "fit.nc", "--plot", "fit.png") == 0
    capsys.readouterr()
    assert call("predict", "fit.nc", "--at", "flops=1e21", "--target", "-1", "--value-se", "0.5", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["forecasts"]
    assert row["p_above_target"] > 0.99
    assert row["q0.025"] < truth(1e21) < row["q0.975"]
    decide = ("decide", "fit.nc", "--at", "flops=1e21", "--target", "-1", "--cost", "1", "--value", "3")
    assert call(*decide) == 0
    assert "ends above -1" in capsys.readouterr().out
    assert call("reach", "fit.nc", "--target", "0") == 0
    capsys.readouterr()
    assert call("backtest", "runs.csv", *options, "--largest", "1") == 0
    assert "1 of 1" in capsys.readouterr().out
    assert call("fit", "runs.csv", "--loss", "reward") == 2
    assert "--value" in capsys.readouterr().err
