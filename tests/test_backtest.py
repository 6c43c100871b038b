"""Backtests: exact splits without leaks, exact tables, and coverage by hand."""

import dataclasses
import math
import sys
import types
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import call
from scipy.stats import norm

import bayescale as bs
from bayescale.data.runs import scale_of
from bayescale.errors import InputError, Status
from bayescale.evaluate.backtest import Backtest, backtest, told_once
from bayescale.forecast import Forecast
from bayescale.posterior.notes import Note

COLUMNS = [
    *("family", "row", "setting", "ratio", "law", "y"),
    *("q0.025", "q0.05", "q0.1", "q0.25", "q0.5", "q0.75", "q0.9", "q0.95", "q0.975"),
    *("pit", "crps", "log_score", "status", "n_train", "extrapolation"),
]


class FakePosterior:
    """Forecasts ln(loss) ~ N(ln 2, 0.1) everywhere, and remembers what it was asked."""

    law = types.SimpleNamespace(name="fake")
    status = Status.OK

    def __init__(self, runs):
        self.runs, self.asked, self.first = runs, [], self
        self.job = SimpleNamespace(design="curve" if "curve" in runs.name else "ladder")

    def check(self, *, prior):
        assert not prior
        return [Note("odd", "warning", "Something is odd."), Note("dull", "info", "Nothing.")]

    def locate(self, frame, inputs):
        assert not inputs
        return frame, np.ones(len(frame))

    def forecast_at(self, frame, kind):
        self.asked.append((frame, kind))
        shape = (50, len(frame))
        zeros = np.zeros((1, *shape))
        location, scale = np.full(shape, np.log(2.0)), np.full(shape, 0.1)
        return Forecast(frame, kind, location, scale, zeros, np.ones(len(frame)))


@pytest.fixture
def calls(monkeypatch):
    made = []

    def fit_many(families, law, **options):
        made.append((list(families), law, options))
        return [FakePosterior(runs) for runs in made[-1][0]]

    monkeypatch.setattr(sys.modules["bayescale.evaluate.backtest"], "fit_many", fit_many)
    return made


def table(scales, family="a", losses=None):
    losses = np.linspace(3, 2, len(scales)) if losses is None else losses
    return pd.DataFrame({"family": family, "flops": scales, "loss": losses})


def test_split_is_exact_and_targets_stay_out(calls):
    scales = [1e21, 1e18, 1e20, 1e19, 1.0000001e20, 1e19]
    losses = np.array([2.0, 3.0, 2.3, 2.6, 2.2, 2.61])
    result = backtest(bs.Runs.from_frame(table(scales, losses=losses)), ratio=10, seed=3)
    ((training, law, options),) = calls
    assert law == "auto"
    assert options["seed"] == 3
    assert training[0].frame["loss"].tolist() == [3.0, 2.3, 2.6, 2.61]
    assert training[0].frame["flops"].max() == 1e20
    ((asked, kind),) = result.posteriors[0].asked
    assert kind == "run"
    assert "loss" not in asked
    frame = result.frame
    assert frame["row"].tolist() == [0, 4]
    assert frame["y"].tolist() == [2.0, 2.2]
    np.testing.assert_allclose(frame["extrapolation"], [10, 1.0000001])
    assert set(frame["n_train"]) == {4}
    assert set(frame["status"]) == {"OK"}


def test_a_table_that_was_not_checked_is_refused(calls):
    with pytest.raises(InputError, match=r"found DataFrame. Read the table first: bs.read"):
        backtest(table([1e18, 1e19, 1e20]), ratio=3, seed=0)


def test_rounding_at_the_cut_is_forgiven(calls):
    scales = [1e18, 3e18, 1e19 * (1 + 1e-12), 1e20]
    backtest(bs.Runs.from_frame(table(scales)), ratio=10, seed=0)
    assert len(calls[0][0][0]) == 3


def test_losses_of_targets_change_nothing_in_training(calls):
    scales = np.geomspace(1e18, 1e22, 9)
    for last in (2.0, 9.0):
        losses = np.append(np.linspace(3, 2.1, 8), last)
        backtest(bs.Runs.from_frame(table(scales, losses=losses)), largest=1, seed=0)
    assert calls[0][0][0].digest == calls[1][0][0].digest


def test_columns_and_scores(calls):
    result = backtest(bs.Runs.from_frame(table(np.geomspace(1e18, 1e20, 5))), ratio=3, seed=0)
    frame = result.to_frame()
    assert list(frame) == COLUMNS
    assert [(family, ratio, note.code) for family, ratio, note in result.warnings] == [("a", 3.0, "odd")]
    assert "doubtful a at 3: Something is odd." in str(result)
    np.testing.assert_allclose(frame["q0.9"], 2 * np.exp(0.1 * norm.ppf(0.9)))
    w = np.log(frame["y"] / 2) / 0.1
    np.testing.assert_allclose(frame["pit"], norm.cdf(w))
    np.testing.assert_allclose(frame["log_score"], norm.logpdf(w) - np.log(0.1))
    crps = 0.1 * (w * (2 * norm.cdf(w) - 1) + 2 * norm.pdf(w) - 1 / np.sqrt(np.pi))
    np.testing.assert_allclose(frame["crps"], crps, rtol=1e-6)
    frame["y"] = 0.0
    assert (result.frame["y"] > 0).all()


def test_many_families_and_ratios_share_one_call(calls):
    whole = pd.concat(
        [
            table([1e18, 1e19, 1e20, 1e21, 1e22], "long"),
            table([1e18, 1e19, 1e20], "short"),
            table([1e18, 1e18, 1e18, 1e20], "flat"),
        ]
    )
    result = backtest(bs.Runs.from_frame(whole), ratio=[10, 100], seed=0)
    assert len(calls) == 1
    assert [len(part) for part in calls[0][0]] == [4, 3]
    assert result.frame[["family", "row", "ratio"]].to_numpy().tolist() == [
        ["long", 4, 10.0],
        ["long", 3, 100.0],
        ["long", 4, 100.0],
    ]
    assert [entry[:2] for entry in result.skipped] == [
        ("short", 10.0),
        ("short", 100.0),
        ("flat", 10.0),
        ("flat", 100.0),
    ]
    assert "2 training rows" in result.skipped[0][2]
    assert "one scale (1e+18)" in result.skipped[2][2]
    assert "skipped flat at 10, flat at 100: all 3 training rows" in str(result)


def test_largest_holds_out_ties_together(calls):
    runs = bs.Runs.from_frame(table([1e18, 1e22, 1e19, 1e20, 1e21, 1e21]))
    result = backtest(runs, largest=2, seed=0)
    assert result.frame["row"].tolist() == [1, 4, 5]
    # Sizes are counted, not rows: three seeds of the largest size are one.
    seeds = bs.Runs.from_frame(table([1e18, 1e19, 1e20, 1e21, 1e22, 1.00000000001e22, 1e22]))
    assert backtest(seeds, largest=1, seed=0).frame["row"].tolist() == [4, 5, 6]
    assert backtest(seeds, largest=2, seed=0).frame["row"].tolist() == [3, 4, 5, 6]
    np.testing.assert_allclose(result.frame["ratio"], 100.0)
    assert calls[0][0][0].frame["flops"].tolist() == [1e18, 1e19, 1e20]


def test_print_states_what_families_were_taken_for(calls):
    one = [bs.Runs.from_frame(table([1e18, 1e19, 1e20, 1e21], family=name), name=name) for name in ("a", "b", "curve")]
    assert "1 family, taken for a ladder; design= (--design) says otherwise" in str(backtest(one[:1], ratio=2, seed=0))
    assert "2 families, taken for ladders;" in str(backtest(one[:2], ratio=2, seed=0))
    mixed = backtest(one, ratio=2, seed=0)
    assert "taken for 2 ladders, 1 curve;" in str(mixed)
    assert mixed.designs == {"a": "ladder", "b": "ladder", "curve": "curve"}


def test_scale_of_rows():
    both = pd.DataFrame({"n_params": [1e8, 1e9], "n_tokens": [1e9, 1e10], "loss": [3.0, 2.0]})
    np.testing.assert_allclose(scale_of(bs.Runs.from_frame(both)), [6e17, 6e19])
    np.testing.assert_allclose(scale_of(bs.Runs.from_frame(both, inputs="n_params")), [1e8, 1e9])
    with_flops = both.assign(flops=[5e17, 5e19])
    np.testing.assert_allclose(scale_of(bs.Runs.from_frame(with_flops)), [5e17, 5e19])
    other = both.rename(columns={"n_tokens": "n_samples"})
    runs = bs.Runs.from_frame(other, inputs=("n_params", "n_samples"))
    np.testing.assert_allclose(scale_of(runs), [1e17, 1e19])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "neither"),
        ({"ratio": 2, "largest": 1}, "both"),
        ({"ratio": 1}, "above 1"),
        ({"ratio": [10, 0.5]}, r"found 0\.5"),
        ({"ratio": []}, "found none"),
        ({"ratio": float("nan")}, "above 1"),
        ({"ratio": "far"}, "number above 1"),
        ({"largest": 0}, "at least 1"),
        ({"largest": 1.5}, "at least 1"),
        ({"ratio": 1e6}, "No family can be split. a at 1e\\+06: 0 training rows"),
        ({"largest": 4}, r"No family can be split with .*--largest 4\)\. a: 0 training rows"),
    ],
)
def test_errors(calls, options, match):
    runs = bs.Runs.from_frame(table([1e18, 1e19, 1e20, 1e21]))
    with pytest.raises(InputError, match=match):
        backtest(runs, seed=0, **options)
    assert not calls


def made(pits):
    """A backtest with given PIT values by family."""
    rows = [
        {"family": family, "pit": p, "y": 2.0, "crps": p, "log_score": -p}
        | {"q0.025": 2 / np.e, "q0.5": 2 * np.exp(p), "q0.975": 2 * np.e}
        for family, values in pits.items()
        for p in values
    ]
    return Backtest(pd.DataFrame(rows), [], [])


def test_each_ratio_has_a_row_of_its_own(tmp_path, capsys, monkeypatch):
    both = made({"a": [0.5, 0.95, 0.99, 0.3], "b": [0.05]})
    frame = both.frame.assign(ratio=[3.0, 3.0, 10.0, 10.0, 10.0], extrapolation=[3.5, 4.5, 12.0, 13.0, 20.0])
    ends = {"setting": "flops=1e+20", "y": 2.0, "q0.025": 1.8, "q0.1": 1.9, "q0.5": 2.0, "q0.9": 2.1, "q0.975": 2.2}
    both = dataclasses.replace(both, frame=frame.assign(**ends))
    got = both.by_ratio([0.8])
    assert got["requested_ratio"].tolist() == [3.0, 10.0] and got["extrapolation"].tolist() == [4.0, 13.0]
    assert got["covers_0.8"].tolist() == [0.5, 0.25] and got["held_out"].tolist() == [2, 3]
    assert got["families"].tolist() == [1, 2]
    (tmp_path / "runs.csv").write_text("flops,loss\n1e18,3\n1e19,2.8\n1e20,2.7\n")
    monkeypatch.setattr(bs, "backtest", lambda *a, **o: both)
    assert call("backtest", tmp_path / "runs.csv", "--ratio", "3", "--ratio", "10") == 0
    held, shares = capsys.readouterr().out.split("\n\n")[:2]
    assert held.startswith("Held-out runs:") and held.count("flops=1e+20") == 5
    title, header, *rows = shares.splitlines()
    assert (
        title == "Coverage by ratio:"
        and header.split()[:4] == ["requested_ratio", "families", "held_out", "extrapolation"]
        and len(rows) == 2
    )


def test_held_out_runs_are_shown_one_by_one(calls):
    scales = np.geomspace(1e18, 1e20, 5)
    result = backtest(bs.Runs.from_frame(table(scales, losses=[3.0, 2.8, 2.6, 2.4, 2.3])), largest=1, seed=0)
    header, row = result.held_out_text().splitlines()
    # ln(2) +- 0.1: the run at 2.3 lies between the ends of both intervals.
    assert row.split()[0] == "flops=1e+20" and "2.300" in row and "1.759 to 2.273" in row and "1.644 to 2.433" in row
    assert [word for word in row.split() if word in ("yes", "no")] == ["no", "yes"]
    assert "80 % interval" in header and "family" not in header and "flops=1e+20" in str(result)
    many = dataclasses.replace(result, frame=pd.concat([result.frame] * 14, ignore_index=True))
    assert many.held_out_text().splitlines()[-1] == "and 4 more held-out runs"
    assert many.held_out_text().count("flops=1e+20") == 10


def test_coverage_of_a_few_runs_is_a_count():
    few, more = made({"a": [0.5, 0.97]}), made({"a": [0.5, 0.97, 0.5, 0.5, 0.5]})
    assert few.coverage_text() == (
        "Coverage: 50 % intervals contained 1 of 2, 80 % intervals contained 1 of 2, 90 % intervals contained 1 of 2, "
        "95 % intervals contained 2 of 2; too few for percentages."
    )
    assert more.coverage_text().startswith("Coverage of 5 held-out runs:")
    held = {50: 80, 80: 80, 90: 80, 95: 100}
    assert more.held_words() == [f"{level} % intervals contained {share} %" for level, share in held.items()]


def test_equal_sentences_about_families_are_told_once():
    entries = [("a", 3.0, "Odd."), ("b", 350.4, "Odd."), ("a", math.nan, "Even.")]
    assert told_once(entries) == ["a at 3, b at 350: Odd.", "a: Even."]


def test_coverage_by_hand():
    result = made({"a": [0.5, 0.95, 0.99, 0.3], "b": [0.05]})
    got = result.coverage(method="ours")
    assert list(got) == ["method", "level", "coverage", "low", "high"]
    assert set(got["method"]) == {"ours"}
    assert got["level"].tolist() == [0.5, 0.8, 0.9, 0.95]
    np.testing.assert_allclose(got["coverage"], [0.25, 0.25, (0.75 + 1) / 2, (0.75 + 1) / 2])
    np.testing.assert_allclose(got["low"], [0, 0, 0.75, 0.75])
    np.testing.assert_allclose(got["high"], [0.5, 0.5, 1, 1])
    pd.testing.assert_frame_equal(got, result.coverage(method="ours"))
    with pytest.raises(InputError, match=r"\(0, 1\)"):
        result.coverage([1.0])


def test_one_family_has_no_interval():
    result = made({"a": [0.5, 0.5, 0.5]})
    got = result.coverage([0.5, 0.9])
    assert got["coverage"].tolist() == [1.0, 1.0]
    assert got[["low", "high"]].isna().to_numpy().all()
    figure, ax = plt.subplots()
    bs.plot.reliability(got, ax=ax)
    bs.plot.reliability(pd.concat([got, made({"a": [0.5], "b": [0.99]}).coverage(method="two")]), ax=ax)
    plt.close(figure)


def test_forecasts_that_are_no_numbers_cover_nothing_and_show():
    result = made({"a": [0.5, np.nan], "b": [0.5]})
    np.testing.assert_allclose(result.coverage([0.8])["coverage"], 0.75)
    assert result.scores()["crps"].isna().tolist() == [True, False, True]


def test_scores_by_hand():
    got = made({"a": [0.1, 0.3], "b": [0.4]}).scores()
    assert got["family"].tolist() == ["a", "b", "overall"]
    assert got["n"].tolist() == [2, 1, 3]
    np.testing.assert_allclose(got["crps"], [0.2, 0.4, 0.3])
    np.testing.assert_allclose(got["log_score"], [-0.2, -0.4, -0.3])
    rmsle = np.sqrt(0.05)
    np.testing.assert_allclose(got["rmsle"], [rmsle, 0.4, (rmsle + 0.4) / 2])
    np.testing.assert_allclose(got["width95"], 2.0)


def test_save_csv_is_complete_or_absent(calls, tmp_path, monkeypatch):
    result = backtest(bs.Runs.from_frame(table(np.geomspace(1e18, 1e20, 5))), ratio=3, seed=0)
    path = result.save_csv(tmp_path / "table.csv")
    pd.testing.assert_frame_equal(pd.read_csv(path), result.frame, check_dtype=False)
    before = path.read_text()

    def broken(self, target, **options):
        target.write_text("half")
        raise OSError("full")

    monkeypatch.setattr(pd.DataFrame, "to_csv", broken)
    with pytest.raises(InputError, match=r"was not written \(full\)"):
        result.save_csv(path)
    assert path.read_text() == before
    assert [p.name for p in path.parent.iterdir()] == ["table.csv"]


@pytest.mark.slow
def test_real_backtest():
    runs = bs.corpus.load("marin_moe_v16_minima")
    result = backtest(runs, ratio=10, seed=0)
    assert list(result.frame) == COLUMNS
    assert result.frame["row"].tolist() == [7]
    assert result.frame["n_train"].tolist() == [7]
    np.testing.assert_allclose(result.frame["extrapolation"], 100.0)
    assert result.frame["status"].tolist() == ["OK"]
    row = result.frame.iloc[0]
    assert row["q0.025"] < row["y"] < row["q0.975"]
    assert row["crps"] < 0.05
