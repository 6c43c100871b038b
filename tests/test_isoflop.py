"""isoFLOP: valleys and powers recovered from simulated sweeps, broken cells named, pictures, the verb."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import call
from matplotlib import pyplot

import bayescale as bs
from bayescale.data.wording import short_count
from bayescale.decide.isoflop import budgets_of, parabola_of
from bayescale.errors import InputError
from bayescale.plot.isoflop import valleys

E, A, ALPHA, B, BETA = 1.7, 350.0, 0.34, 460.0, 0.29
POWER = BETA / (ALPHA + BETA)


def truth(params, tokens):
    return E + A * params**-ALPHA + B * tokens**-BETA


def best_size(flops):
    return (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA)) * (flops / 6) ** POWER


def table(budgets=(3e18, 1e19, 3e19), sizes=5, step=1.6, away=1.2, likelihood=0.0005, seed=0):
    """A sweep with sizes around, but off, the best of each budget."""
    rng = np.random.default_rng(seed)
    rows = []
    for flops in budgets:
        for params in away * best_size(flops) * step ** (np.arange(sizes) - (sizes - 1) / 2):
            tokens = flops / 6 / params
            loss = truth(params, tokens) * np.exp(likelihood * rng.standard_normal())
            rows.append({"flops": flops, "n_params": params, "n_tokens": tokens, "loss": loss})
    return pd.DataFrame(rows)


def written(path):
    """A status table with two diverged cells, one running, one blank, and one budget with two cells left."""
    frame = table((3e18, 1e19, 3e19, 1e20))
    frame["state"] = "finished"
    frame["loss"] = frame["loss"].round(4).astype(object)
    frame.loc[[8, 10], "loss"] = 10.825
    frame.loc[[15, 19], "state"] = "running"
    frame.loc[16, ["loss", "state"]] = ["—", "—"]
    frame = frame.rename(columns={"flops": "budget", "n_tokens": "tokens", "loss": "eval/loss"}).drop(
        columns="n_params"
    )
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    runs = bs.read(written(tmp_path_factory.mktemp("sweep") / "status.csv"))
    return bs.decide.isoflop(runs, budgets=[1e21], method="auto", seed=0)


def test_budgets_are_groups_of_like_compute():
    found = budgets_of(np.array([1.02e19, 3.0e18, 3.0e18, 9.9e18, 3.0e18]))
    np.testing.assert_allclose(found, [1.0e19, 3e18, 3e18, 1.0e19, 3e18], rtol=0.02)
    assert len(set(found)) == 2
    # A plane filled in small steps has no budgets.
    assert np.isnan(budgets_of(np.geomspace(1e18, 1e20, 40))).all()


def test_parabolas_are_exact_on_parabolas_and_refuse_two_cells():
    x = np.array([1e8, 2e8, 5e8, 9e8])
    runs = pd.DataFrame({"n_params": x, "loss": 2.5 + 0.03 * np.log(x / 3e8) ** 2})
    size, said = parabola_of(runs)
    assert size == pytest.approx(3e8, rel=1e-6)
    assert "300M" in said and "outside" not in said
    assert np.isnan(parabola_of(runs.head(2))[0])
    assert "no bottom" in parabola_of(runs.assign(loss=-runs["loss"]))[1]


def test_a_law_of_compute_and_ratio_splits_a_budget():
    law = bs.laws.get("gadre").published("c4")
    constants = law.constants
    best = (constants["b"] / constants["a"]) ** (1 / (2 * constants["eta"]))
    found = bs.decide.allocate(law, 1e21)
    assert found.choice["n_tokens"] / found.choice["n_params"] == pytest.approx(best, rel=1e-3)
    assert 6 * found.choice["n_params"] * found.choice["n_tokens"] == pytest.approx(1e21, rel=1e-9)


def test_several_budgets_are_a_table():
    law = bs.laws.get("chinchilla").published("besiroglu2024")
    found = bs.decide.allocate(law, [1e20, 1e22, 1e24])
    frame = found.to_frame()
    assert list(frame["budget"]) == [1e20, 1e22, 1e24]
    assert frame["n_params"].iloc[1] == pytest.approx(bs.decide.allocate(law, 1e22).choice["n_params"])
    constants = law.constants
    assert found.power == pytest.approx(constants["beta"] / (constants["alpha"] + constants["beta"]), abs=1e-3)
    assert len(json.loads(json.dumps(found.to_dict()))["allocations"]) == 3
    with pytest.raises(InputError, match="flops is empty"):
        bs.decide.allocate(law, [])


def test_what_is_no_sweep_is_refused(marin):
    with pytest.raises(InputError, match="needs n_params and n_tokens"):
        bs.decide.isoflop(marin)
    with pytest.raises(InputError, match="takes runs or a fit"):
        bs.decide.isoflop("sweep.csv")
    ray = pd.DataFrame({"n_params": [1e8, 2e8, 4e8, 8e8], "loss": [3.4, 3.1, 2.9, 2.75]})
    runs = bs.Runs.from_frame(ray.assign(n_tokens=20 * ray["n_params"]))
    with pytest.raises(InputError, match="one ray"):
        bs.decide.isoflop(runs, method="auto")
    for options in ({"regret": 0.0}, {"level": 1.0}, {"budgets": [-1e20]}):
        with pytest.raises(InputError, match="--"):
            bs.decide.isoflop(bs.Runs.from_frame(table()), **options)


@pytest.mark.slow
def test_minima_and_powers_of_a_broken_sweep(sweep):
    frontier = sweep.frontier.set_index("budget")
    assert list(frontier["cells"]) == [5, 4, 4, 2, 0]
    for flops, row in frontier.iterrows():
        size = best_size(flops)
        assert row["n_params_low"] < size < row["n_params_high"]
        assert row["flat_low"] < size < row["flat_high"]
        assert abs(np.log(row["n_params"] / size)) < (0.1 if row["cells"] > 2 else 0.25)
        assert row["n_params"] * row["n_tokens"] * 6 == pytest.approx(flops)
        assert row["loss_low"] < truth(size, flops / 6 / size) < row["loss_high"] * 1.002
    power = sweep.exponents.loc["n_params"]
    assert power["low"] < POWER < power["high"]
    assert power["high"] - power["low"] < 0.4
    assert sweep.exponents["power"].sum() == pytest.approx(1.0)
    # Two cells make no parabola, but a valley through the joint fit.
    assert frontier["parabola_params"].isna().tolist() == [False, False, False, True, True]


@pytest.mark.slow
def test_what_was_left_out_is_named(sweep):
    text = str(sweep)
    assert "10.825" in text and "running" in text and "no loss" in text
    assert "Fewer than 3 runs are left at C = 1 × 10²⁰" in text
    plain = json.loads(json.dumps(sweep.to_dict(), allow_nan=False))
    assert len(plain["budgets"]) == 5 and len(plain["left_out"]) == 3
    # A budget that was only asked for is none of the data.
    assert "4 budgets with runs and 1 requested budget" in text
    (cells,) = [line for line in text.splitlines() if line.startswith("Cells left out: ")]
    assert cells.count("C = ") == 5 and cells.count("(no loss)") == 1 and cells.count("(loss 10.82)") == 2
    size = plain["cells_left_out"][0]
    assert f"N {short_count(size['n_params'])}, D {short_count(size['n_tokens'])}" in cells


@pytest.mark.long
@pytest.mark.slow
def test_the_joint_view_is_closer_than_parabolas_of_noisy_valleys_off_centre():
    misses = []
    for seed in range(3):
        frame = table((2e18, 6e18, 2e19, 6e19), away=1.8, likelihood=0.002, seed=seed)
        found = bs.decide.isoflop(bs.Runs.from_frame(frame), method="auto", seed=0).frontier
        exact = best_size(found["budget"].to_numpy())
        misses.append([np.log(found[name] / exact) for name in ("n_params", "parabola_params")])
    ours, theirs = np.sqrt(np.square(misses).mean(axis=(0, 2)))
    assert ours < theirs


@pytest.mark.slow
def test_the_isoflop_law_has_valleys_and_splits_budgets():
    runs = bs.Runs.from_frame(table(), inputs=["flops", "n_params"])
    post = bs.fit(runs, law="isoflop", method="auto", seed=0)
    found = bs.decide.allocate(post, 3e19)
    assert found.choice["n_params"] == pytest.approx(best_size(3e19), rel=0.15)
    view = bs.decide.isoflop(post).frontier
    np.testing.assert_allclose(view["n_params"], best_size(view["budget"]), rtol=0.15)


@pytest.mark.slow
def test_pictures_of_a_sweep(sweep):
    pyplot.switch_backend("Agg")
    question = sweep.posterior.predict(n_params=2e9, n_tokens=5e10)
    for ax in (
        bs.plot.isoflop(sweep),
        bs.plot.isoflop(sweep, input="n_tokens", target=2.4, question=question),
        bs.plot.intervals(sweep.posterior),
        bs.plot.isoflop(bs.decide.allocate(sweep.posterior, [1e20, 1e21])),
    ):
        ax.figure.canvas.draw()
        labels = ax.get_legend_handles_labels()[1]
        assert "frontier" in labels
        stars = [line for line in ax.get_lines() if line.get_marker() == "*"]
        drawn = sum(len(line.get_xdata()) for line in ax.get_lines() if line.get_marker() == "o" and line.get_label())
        assert len(stars) >= 2
        assert drawn in (0, 15)
    scattered = bs.plot.fitted(sweep.posterior, target=2.4, question=question)
    assert scattered.get_xlabel() == "fitted eval/loss"
    assert "the run in question, 80 %" in scattered.get_legend_handles_labels()[1]
    with pytest.raises(InputError, match="n_params or n_tokens"):
        bs.plot.isoflop(sweep, input="flops")
    pyplot.close("all")


@pytest.mark.slow
def test_runs_left_out_are_crosses_and_no_run_is_under_a_star(sweep, tmp_path):
    pyplot.switch_backend("Agg")
    sweep.posterior.save(tmp_path / "fit.nc")
    for source in (sweep, bs.load(tmp_path / "fit.nc")):
        ax = bs.plot.isoflop(source)
        marked = {kind: [line for line in ax.get_lines() if line.get_marker() == kind] for kind in ("*", "o", "X")}
        assert max(star.get_zorder() for star in marked["*"]) < min(
            line.get_zorder() for line in marked["o"] if len(line.get_xdata())
        )
        crosses = [(line.get_xdata()[0], line.get_ydata()[0]) for line in marked["X"] if len(line.get_xdata())]
        # Two diverged, one blank at the edge; two running at their losses, where they lie.
        heights = [y for _, y in crosses]
        assert len(crosses) == 5 and heights.count(max(heights)) == 3
        assert 0.9 * ax.get_ylim()[1] < max(heights) < ax.get_ylim()[1]
        low, high = ax.get_xlim()
        assert all(low < x < high for x, _ in crosses)
        assert [label for label in ax.get_legend_handles_labels()[1] if label.startswith("left out")]
        # Beside its curve and in its colour.
        colors = {line.get_color() for line in marked["X"] if len(line.get_xdata())}
        assert colors <= {star.get_color() for star in marked["*"]}
    pyplot.close("all")


@pytest.mark.slow
def test_the_verb_reads_a_sweep_and_draws_it(tmp_path, capsys):
    file, fit, picture = written(tmp_path / "status.csv"), tmp_path / "fit.nc", tmp_path / "valleys.png"
    options = ["--budget", "1e21", "--method", "auto", "--out", fit, "--plot", picture, "--json"]
    assert call("isoflop", file, *options) == 0
    said = json.loads(capsys.readouterr().out)
    assert picture.stat().st_size > 1e4
    assert [row["cells"] for row in said["budgets"]] == [5, 4, 4, 2, 0]
    assert call("isoflop", fit, "--budget", "1e21", "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert again["exponents"] == said["exponents"]
    assert call("allocate", fit, "--flops", "1e20", "--flops", "1e21", "--json", "--plot", picture) == 0
    assert len(json.loads(capsys.readouterr().out)["allocations"]) == 2


def test_valleys_end_where_their_losses_were_computed():
    x = np.geomspace(1e7, 1e9, 41)
    loss = 2.5 + 0.1 * np.log(x / 1e8) ** 2
    curve = pd.DataFrame({"budget": 1e19, "n_params": x, "n_tokens": 1e19 / 6 / x, "typical": loss})
    curve = curve.assign(q05=loss - 0.01, q95=loss + 0.01)
    least = {"budget": 1e19, "n_params": 1e8, "n_tokens": 1e19 / 6e8, "loss": 2.5, "flat_low": 5e7, "flat_high": 2e8}
    least |= {"flat_tokens_low": 1e19 / 12e8, "flat_tokens_high": 1e19 / 3e8}
    runs = pd.DataFrame({"budget": 1e19, "n_params": [1e7, 1e9], "n_tokens": 1e19 / 6 / np.array([1e7, 1e9])})
    # Left out: one without a loss and one that diverged, each far beyond the runs.
    gone = pd.DataFrame({"budget": 1e19, "n_params": [1e5, 1e11], "loss": [np.nan, 11.0]})
    gone["n_tokens"] = 1e19 / 6 / gone["n_params"]
    for name in ("n_params", "n_tokens"):
        frame = pd.DataFrame([least])
        ax = valleys(curve, frame, runs.assign(loss=loss[[0, -1]]), "one budget", "a valley", input=name, broken=gone)
        (line,) = [line for line in ax.lines if len(line.get_xdata()) == 120]
        at = np.asarray(line.get_xdata())
        sizes = at if name == "n_params" else 1e19 / 6 / at
        assert sizes.min() >= 0.999e7 and sizes.max() <= 1.001e9
        np.testing.assert_allclose(line.get_ydata(), 2.5 + 0.1 * np.log(sizes / 1e8) ** 2, atol=2e-3)
        low, high = ax.get_xlim()
        assert low < gone[name].min() and high > gone[name].max()
