"""Pictures: what they say, where they end up, and that they leave matplotlib alone."""

import dataclasses

import matplotlib
import numpy as np
import pandas as pd
import pytest
from conftest import with_job
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

import bayescale as bs
from bayescale import plot
from bayescale.decide.crossing import crossing_of
from bayescale.errors import InputError
from bayescale.forecast import Forecast
from bayescale.plot import fits, style


@pytest.fixture(autouse=True)
def headless(monkeypatch):
    """Draw to memory, check that settings stay as they were, and close what was opened."""
    pyplot.switch_backend("Agg")
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before
    pyplot.close("all")


@pytest.fixture(scope="module")
def runs():
    return bs.corpus.load("marin_moe_v16_minima")


@pytest.fixture(scope="module")
def posterior(runs):
    early = runs.select(runs.frame["flops"] <= 3e20)
    return bs.fit(early, seed=0)


@pytest.fixture(scope="module")
def later(runs):
    return runs.select(runs.frame["flops"] > 3e20)


def toy(scale=0.02, kind="run", points=1):
    """A forecast around 2 without a fit."""
    location = np.log(2.0) + 0.03 * np.random.default_rng(0).standard_normal((400, points))
    return Forecast(
        points=pd.DataFrame({"flops": np.full(points, 1e22)}),
        kind=kind,
        location=location,
        scale=np.full_like(location, scale),
        log_draws=location[None],
        ratio=np.full(points, 30.0),
        label="toy",
    )


def words(ax: Axes) -> str:
    """All text in a figure."""
    ax.figure.draw_without_rendering()
    return "\n".join(text.get_text() for text in ax.figure.findobj(Text))


def markers(ax: Axes, marker: str) -> int:
    return sum(len(line.get_xdata()) for line in ax.lines if line.get_marker() == marker)


# --- Bands at fitted settings ----------------------------------------------------------------------------------


def test_intervals_of_pictures_do_not_become_narrow_at_fitted_settings(posterior):
    seen = posterior.runs.frame["flops"].to_numpy()[:3]
    grid = pd.DataFrame({"flops": np.ravel(np.column_stack([seen, 1.01 * seen]))})

    def width(forecast):
        low, high = forecast.interval(0.95)
        return np.log(high / low).reshape(-1, 2)

    new, known = posterior.forecast_at(grid, "run", new_setting=True), posterior.predict(grid)
    np.testing.assert_allclose(width(new)[:, 0], width(new)[:, 1], rtol=0.1)
    np.testing.assert_allclose(width(known)[:, 1], width(new)[:, 1], rtol=0.05)
    assert (width(known)[:, 0] < 0.9 * width(known)[:, 1]).all()
    assert known.fitted.tolist() == [True, False] * 3 and not new.fitted.any()
    assert "At a fitted setting (3 points of 6): the residual is partly known" in str(known)
    assert "fitted setting" not in str(posterior.predict(grid, kind="mean")) + str(new)
    ((_, _, (drawn,)),) = fits.medians_and_intervals(posterior, "flops", grid["flops"].to_numpy(), [{}], "run", [0.95])
    np.testing.assert_allclose(drawn, new.interval(0.95))


# --- Bands -------------------------------------------------------------------------------------------------


def test_intervals_say_their_kind_levels_and_zone(posterior):
    ax = plot.intervals(posterior)
    text = words(ax)
    assert "intervals of one future run" in text
    assert "50, 80 and 95 %" in text
    assert "up to 10x beyond the data" in text.replace("\n", " ")
    assert "extrapolation:" in text
    assert ax.get_xscale() == "log"
    assert markers(ax, "o") == 6


def test_ends_are_labelled_where_there_is_room():
    ax = Figure().subplots()
    ax.set_ylim(0, 1)
    entries = [(0.5, "median", "k"), (0.2, "95 %", "k"), (0.22, "80 %", "k"), (0.4, "50 %", "k")]
    assert [text for _, text, _ in style.uncrowded(ax, entries)] == ["median", "95 %", "50 %"]


def test_intervals_of_the_mean(posterior):
    text = words(plot.intervals(posterior, kind="mean", levels=[0.9], upto=3e21))
    assert "intervals of the mean loss, 90 %" in text
    assert "one future run" not in text


def test_intervals_stop_at_the_data_without_an_extrapolated_zone(posterior):
    assert "extrapolation" not in words(plot.intervals(posterior, upto=1e20))


@pytest.mark.parametrize("as_frame", [False, True])
def test_intervals_reach_and_mark_what_was_measured_afterwards(posterior, later, as_frame):
    # Even where a shorter range was asked for: evidence is not cut off.
    ax = plot.intervals(posterior, truth=later.frame if as_frame else later, upto=1e21, target=2.3)
    assert "up to 330x beyond the data" in words(ax)
    assert "measured afterwards" in words(ax)
    assert "target 2.3" in words(ax)
    assert markers(ax, "D") == 2
    assert ax.get_xlim()[1] == pytest.approx(1e23)


def test_intervals_begin_early_enough_for_what_was_measured(posterior):
    small = pd.DataFrame({"flops": [1e17], "loss": [4.0]})
    ax = plot.intervals(posterior, truth=small)
    assert ax.get_xlim()[0] < 1e17
    assert ax.lines[0].get_xdata()[0] == pytest.approx(1e17)


def test_intervals_hold_the_forecast(posterior):
    ax = plot.intervals(posterior, levels=[0.8], upto=1e23)
    edge = ax.collections[0].get_paths()[0].vertices
    low, high = posterior.predict(flops=1e23).interval(0.8)[:, 0]
    ends = edge[np.isclose(edge[:, 0], 1e23), 1]
    assert ends.min() == pytest.approx(low, rel=1e-6)
    assert ends.max() == pytest.approx(high, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"input": "n_tokens"}, "no input 'n_tokens'"),
        ({"kind": "both"}, "kind must be"),
        ({"levels": [80]}, "level"),
        ({"levels": []}, "At least one level"),
        ({"upto": -1.0}, "upto"),
        ({"truth": pd.DataFrame({"flops": [1e21]})}, "loss is missing"),
        ({"truth": pd.DataFrame({"flops": [], "loss": []})}, "no rows"),
    ],
)
def test_intervals_refuse_what_cannot_be_drawn(posterior, options, says):
    with pytest.raises(InputError, match=says):
        plot.intervals(posterior, **options)
    assert not pyplot.get_fignums()


def test_axes_given_are_used(posterior):
    _, axes = pyplot.subplots(1, 3)
    assert plot.intervals(posterior, ax=axes[0]) is axes[0]
    assert plot.residuals(posterior, ax=axes[1]) is axes[1]
    assert plot.forecast(toy(), ax=axes[2]) is axes[2]
    assert len(pyplot.get_fignums()) == 1


def test_settings_of_other_inputs():
    frame = pd.DataFrame({"n_params": [1e8, 1e8, 4e8], "n_tokens": [1e9, 2e9, 1e9]})
    assert style.settings_of(frame, []) == ([{}], False)
    assert style.settings_of(frame, ["n_params"]) == ([{"n_params": 1e8}, {"n_params": 4e8}], False)
    many = pd.DataFrame({"n_params": [1e8, 1e9, 1e10, 1e11, 1e12]})
    groups, averaged = style.settings_of(many, ["n_params"])
    assert averaged
    assert groups[0]["n_params"] == pytest.approx(1e10)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.oldest
def test_intervals_along_one_of_two_inputs():
    runs = bs.corpus.load("hyena_gpt")
    posterior = bs.fit(runs, seed=0)
    ax = plot.intervals(posterior, input="n_tokens", truth=runs.frame.assign(n_tokens=1e11))
    text = words(ax)
    assert "n_params 1.25e8" in text
    assert "n_params 3.55e8" in text
    assert markers(ax, "o") == markers(ax, "D") == 6


# --- Other pictures of a fit -------------------------------------------------------------------------------


def test_forecast_marks_target_and_measurement():
    ax = plot.forecast(toy(), target=2.1, measured=1.95)
    text = words(ax)
    share = toy().probability_below(2.1)[0]
    assert f"target 2.1\nP(below) = {100 * share:.0f} %" in text
    assert "measured 1.95" in text
    assert "80 %" in text
    assert "one future run" in text
    assert "30x beyond the data" in text


def test_forecast_draws_a_density():
    for picture in (toy(), toy(scale=0.0, kind="mean")):
        line = plot.forecast(picture).lines[0]
        assert np.trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(1.0, abs=0.01)


def test_forecast_of_several_points_draws_each_with_its_setting():
    several = dataclasses.replace(
        toy(points=3),
        points=pd.DataFrame({"n_params": [1e9, 2e9, 3e9], "n_tokens": 1e11}),
    )
    ax = plot.forecast(several, target=2.1)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["n_params 1e9", "n_params 2e9", "n_params 3e9"]
    outer, inner = (np.array(lines.get_segments())[:, :, 0] for lines in ax.collections)
    np.testing.assert_allclose(outer.T, several.interval(0.95))
    np.testing.assert_allclose(inner.T, several.interval(0.8))
    assert words(ax).count("P(below)") == 3 and "tokens" in words(ax)
    assert ax.get_xlabel() == "predicted loss"
    many = plot.forecast(toy(points=30))
    assert len(many.get_yticklabels()) == 20 and "the first 20 of 30 points" in words(many)
    # One of several can still be asked for.
    assert plot.forecast(several, point=1).get_ylabel() == "density"


@pytest.mark.parametrize("name", ["forecast", "points", "allocation", "allocations", "crossing", "seeds"])
def test_pictures_call_the_response_by_its_name(name):
    law = bs.laws.get("chinchilla").with_priors({})
    law = dataclasses.replace(law, response="error rate").published("besiroglu2024")
    x = np.linspace(0.0, 2.0, 9)
    crossing = crossing_of(np.array([[-1.0], [1.0]]) + 0.0 * x, x)
    seeds = bs.read(pd.DataFrame({"family": list("aabb"), "seed": [0, 1, 0, 1], "bpb": [1.2, 1.21, 1.3, 1.32]}))
    drawn = {
        "forecast": lambda: dataclasses.replace(toy(), response="error rate"),
        "points": lambda: dataclasses.replace(toy(points=2), response="error rate"),
        "allocation": lambda: bs.decide.allocate(law, 1e22),
        "allocations": lambda: bs.decide.allocate(law, [1e21, 1e22]),
        "crossing": lambda: dataclasses.replace(crossing, response="error rate"),
        "seeds": lambda: dataclasses.replace(bs.decide.noise(seeds), response="error rate"),
    }[name]()
    ax = drawn.plot()
    legend = [] if ax.get_legend() is None else [text.get_text() for text in ax.get_legend().get_texts()]
    said = " ".join([words(ax), ax.get_title(loc="left"), ax.get_xlabel(), ax.get_ylabel(), *legend])
    assert "error rate" in said
    assert "loss" not in said


def test_forecasts_of_runs_held_out_at_several_ratios_are_told_apart():
    rows = [
        {"family": "a", "setting": "flops=1e+20", "y": 3.0, "ratio": ratio}
        | {name: 2.9 + shift for shift, name in enumerate(("q0.025", "q0.1", "q0.5", "q0.9", "q0.975"))}
        | {"pit": 0.4}
        for ratio in (3.0, 10.0)
    ]
    few = plot.held_out(pd.DataFrame(rows))
    assert [label.get_text() for label in few.get_yticklabels()] == ["flops=1e+20, ratio 3", "flops=1e+20, ratio 10"]
    one = plot.held_out(pd.DataFrame(rows[:1]))
    assert [label.get_text() for label in one.get_yticklabels()] == ["flops=1e+20"]
    many = bs.Backtest(pd.DataFrame(rows * 20), [], []).plot()
    assert "ratio 3" in words(many) and "ratio 10" in words(many)


def test_forecast_keeps_far_marks_in_sight():
    low, high = plot.forecast(toy(), target=1.2, measured=4.0).get_xlim()
    assert low < 1.2
    assert high > 4.0


def test_forecast_refuses_absent_points_and_fixed_constants():
    with pytest.raises(InputError, match="point=2"):
        plot.forecast(toy(points=2), point=2)
    with pytest.raises(InputError, match="choose one of the 2 with point="):
        plot.forecast(toy(points=2), measured=2.0)
    fixed = bs.laws.get("chinchilla").published("besiroglu2024").predict(n_params=1e9, n_tokens=1e11)
    with pytest.raises(InputError, match="no uncertainty"):
        plot.forecast(fixed)


def test_constants_have_a_panel_each(posterior):
    axes = plot.constants(posterior)
    assert [ax.get_title(loc="left") for ax in axes] == list(posterior.first.draws)
    bare = plot.constants(posterior, component=2)
    assert [ax.get_title(loc="left") for ax in bare] == ["A", "c", "residual_sd", "seed_sd", "discrepancy"]
    with pytest.raises(InputError, match="no component 3; it has 0: with floor and plateau, 1: with a floor"):
        plot.learned(posterior, component=3)
    assert "90 % interval" in words(axes[0])
    with pytest.raises(InputError, match="7 axes are needed"):
        plot.constants(posterior, axes=axes[:2])


def test_priors_of_constants_are_those_of_the_model(posterior):
    priors = fits.component_prior(posterior.first)
    # The floor and the amplitude follow the data's level, so they have no prior of their own.
    assert set(priors) == {"c", "residual_sd", "seed_sd", "discrepancy"}
    assert np.median(priors["residual_sd"]) == pytest.approx(posterior.likelihood.residual_sd, rel=0.15)
    assert np.median(priors["seed_sd"]) == pytest.approx(posterior.likelihood.seed_sd, rel=0.15)


def test_learned_shows_contraction(posterior):
    axes = plot.learned(posterior)
    assert [ax.get_title(loc="left") for ax in axes] == list(posterior.first.names)
    assert all("learned" in ax.get_title(loc="right") for ax in axes)


def test_residuals_lie_inside_and_are_scaled_by_the_scatter(posterior):
    ax = plot.residuals(posterior)
    shown = ax.lines[1].get_ydata()
    location = posterior.predict(posterior.runs.frame, kind="mean").location.mean(0)
    assert shown == pytest.approx(100 * (np.log(posterior.runs.frame["loss"]) - location))
    assert "+1 scatter" in words(ax)
    assert np.abs(shown).max() < ax.get_ylim()[1]


# --- Calibration -------------------------------------------------------------------------------------------


def table():
    return pd.DataFrame(
        {
            "method": ["ours"] * 3 + ["theirs"] * 3,
            "level": [0.5, 0.8, 0.95] * 2,
            "coverage": [0.52, 0.79, 0.93, 0.2, 0.4, 0.6],
            "low": [0.45, 0.7, 0.9, 0.1, 0.3, 0.5],
            "high": [0.6, 0.85, 0.97, 0.3, 0.5, 0.7],
        }
    )


def test_reliability_labels_lines():
    text = words(plot.reliability(table()))
    assert "ours" in text
    assert "theirs" in text
    assert "bars: interval over families" in text
    assert "bars" not in words(plot.reliability(table().drop(columns=["low", "high"])))
    with pytest.raises(InputError, match="coverage is missing"):
        plot.reliability(table().drop(columns="coverage"))


def test_pit_counts_everything():
    values = np.linspace(0, 1, 101)
    ax = plot.pit(pd.DataFrame({"pit": values}), bins=5)
    heights, edges, _ = ax.patches[-1].get_data()
    assert np.sum(heights * np.diff(edges)) == pytest.approx(1.0)
    both = pd.DataFrame({"pit": np.tile(values, 2), "method": np.repeat(["ours", "theirs"], 101)})
    assert "theirs (101 points)" in words(plot.pit(both))
    with pytest.raises(InputError, match=r"in \[0, 1\]"):
        plot.pit(pd.DataFrame({"pit": [0.2, np.nan]}))


# --- Files and small parts ---------------------------------------------------------------------------------


def test_save_takes_arrays_of_axes(tmp_path, posterior):
    assert plot.save(plot.learned(posterior), tmp_path / "picture.png").exists()


def test_end_labels_are_annotations_in_colour():
    ax = plot.reliability(table())
    labels = {t.get_text(): t.get_color() for t in ax.findobj(Annotation)}
    assert labels["ours"] == style.PALETTE[0]
    assert labels["theirs"] == style.PALETTE[1]


# --- What newcomers stumbled over ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sweep():
    rows = []
    for budget in (1e18, 3e18, 1e19):
        best = 2e8 * (budget / 1e18) ** 0.5
        for factor in np.geomspace(0.3, 3.5, 6):
            n_params, n_tokens = best * factor, budget / 6 / (best * factor)
            loss = 1.7 + 400 / n_params**0.34 + 410 / n_tokens**0.28
            rows.append({"n_params": n_params, "n_tokens": n_tokens, "my_bpb": loss})
    frame = pd.DataFrame(rows)
    frame.loc[8, "my_bpb"] *= 2.0
    few = bs.Nuts(warmup=50, draws=50, chains=2)
    runs = bs.read(frame, loss="my_bpb", name="a_sweep")
    return bs.decide.isoflop(runs, law="chinchilla", discrepancy=None, settings=few, seed=0)


def test_the_picture_of_a_sweep_hides_nothing(sweep):
    ax = sweep.plot()
    figure = ax.get_figure()
    figure.canvas.draw()
    frame, legend = ax.get_window_extent(), ax.get_legend().get_window_extent()
    # The legend lies below the axes, and the cross of the run that was left out inside them.
    assert legend.y1 < frame.y0
    crosses = [line for line in ax.lines if line.get_marker() == "X" and len(line.get_xdata())]
    assert len(crosses) == 1
    (point,) = ax.transData.transform(crosses[0].get_xydata())
    assert frame.x0 < point[0] < frame.x1 and frame.y0 < point[1] < frame.y1
    assert min(band.get_alpha() for band in ax.collections) >= 0.3
    assert all(text.get_path_effects() for text in ax.texts if "10" in text.get_text())
    assert "a_sweep" in ax.get_title(loc="left") and ax.get_ylabel() == "my_bpb"


@pytest.mark.parametrize("width", [4.0, 7.5, 13.0])
@pytest.mark.parametrize("upto", [4e20, 1e21, 3e22, 3e26])
def test_words_about_the_extrapolation_stay_in_its_zone_or_in_front_of_it(posterior, width, upto):
    figure, ax = pyplot.subplots(figsize=(width, 4.0), layout="constrained")
    posterior.plot(ax=ax, upto=upto)
    figure.canvas.draw()
    (words,) = [text for text in ax.texts if text.get_text().startswith("extrapolation")]
    box, frame = words.get_window_extent(), ax.get_window_extent()
    start = ax.transData.transform((posterior.runs.frame["flops"].max(), 1.0))[0]
    assert frame.x0 <= box.x0 and box.x1 <= frame.x1
    assert box.x0 >= start - 1 or box.x1 <= start + 1
    assert "e" not in words.get_text().partition("up to ")[2].partition("x")[0]


@pytest.mark.parametrize(
    ("column", "options", "label"),
    [
        ("error_rate", {}, "error_rate"),
        ("accuracy", {}, "accuracy"),
        ("accuracy", {"derive": "error_rate"}, "error rate"),
    ],
)
def test_the_response_is_called_as_in_the_table(posterior, tmp_path, column, options, label):
    frame = pd.DataFrame({"flops": 10.0 ** np.arange(18, 24), column: np.linspace(0.5, 0.2, 6)})
    runs = bs.read(frame, loss=column, name="my_runs", **options)
    ax = runs.plot()
    assert ax.get_ylabel() == label and ax.get_title(loc="left") == "my_runs"
    told = with_job(posterior, runs=runs)
    told.save(tmp_path / "fit.nc")
    ax = bs.load(tmp_path / "fit.nc").plot()
    assert ax.get_ylabel() == label and ax.get_title(loc="left").endswith(" on my_runs")


@pytest.mark.long
def test_a_backtest_of_few_runs_shows_them(runs):
    back = bs.backtest(runs, largest=2, seed=0, settings=bs.Nuts(warmup=50, draws=50, chains=2))
    ax = back.plot()
    observed = next(line for line in ax.lines if line.get_label() == "observed")
    np.testing.assert_allclose(observed.get_xdata(), back.frame["y"])
    assert [label.get_text() for label in ax.get_yticklabels()] == back.frame["setting"].tolist()
    (lines,) = [band for band in ax.collections if band.get_label() == "80 % interval"]
    np.testing.assert_allclose([s[:, 0] for s in lines.get_segments()], back.frame[["q0.1", "q0.9"]])
    many = pd.concat([back.frame] * 11)
    assert "stated level" in dataclasses.replace(back, frame=many).plot().get_xlabel()


def test_a_report_draws_what_it_is_about(posterior):
    page = bs.report(posterior)
    assert page.plot().get_title(loc="left") == posterior.plot().get_title(loc="left")
    with pytest.raises(InputError, match=r"bs\.report"):
        dataclasses.replace(page, subject=None).plot()
