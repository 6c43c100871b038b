"""Values: responses of any sign, such as rewards, from the table to the decision."""

import numpy as np
import pandas as pd
import pytest
from conftest import APART, FEW, sampled_by_numpyro

import bayescale as bs
from bayescale.data.value import ValueScale
from bayescale.model.density import log_density
from bayescale.model.parameters import coordinates, read
from bayescale.model.prepare import make_job, make_jobs
from bayescale.posterior.checks import grave_notes
from bayescale.posterior.curves import counted_curve, sure_rise

FLOPS = np.geomspace(1e18, 1e20, 10)
LAW = {"law": "saturating_power", "seed": 0}


def truth(flops):
    """Reward that rises from -7 and approaches a ceiling of 5."""
    return 5.0 - 12.0 * (np.asarray(flops) / 1e18) ** -0.3


def table(noise=0.1, seed=0, flops=FLOPS):
    """Rewards of some budgets with noise."""
    return pd.DataFrame(
        {"flops": flops, "reward": truth(flops) + noise * np.random.default_rng(seed).normal(size=len(flops))}
    )


def rewards(frame=None, **options):
    """Runs whose response is the reward."""
    return bs.read(table() if frame is None else frame, value="reward", **options)


@pytest.fixture(scope="module")
def post():
    """A fit of one model to ten rewards."""
    return bs.fit(rewards(), **LAW)


# --- Reading --------------------------------------------------------------------------------------------------


def test_negative_values_and_zero_are_read():
    frame = pd.DataFrame({"flops": FLOPS[:4], "return": ["-3.5", "0", "\N{MINUS SIGN}1.25", "1,200.5"]})
    runs = bs.read(frame, value="return")
    np.testing.assert_allclose(runs.frame["value"], [-3.5, 0.0, -1.25, 1200.5])
    np.testing.assert_allclose(runs.shown, runs.frame["value"])
    assert runs.response == "return"
    assert runs.response_kind == "value"
    assert "value = 'return'" in runs.log[0].text
    assert "value -3.5 to 1200" in str(runs)
    # y is the logarithm of what laws describe: it spans 1 and decreases as rewards grow.
    y = np.log(runs.frame["loss"])
    np.testing.assert_allclose(y, (598.5 - runs.frame["value"]) / 1204.0, atol=1e-12)


def test_rows_without_a_value_are_left_out():
    (entry,) = [one for one in rewards(table().assign(reward=[np.nan, *table()["reward"][1:]])).log if one.rows]
    assert "row 2 has no value" in entry.text or "row 1 has no value" in entry.text


def test_a_lower_value_may_be_better():
    high, low = (rewards(lower_is_better=flag) for flag in (False, True))
    np.testing.assert_allclose(np.log(low.frame["loss"]), -np.log(high.frame["loss"]))
    assert high.value.higher_is_better and not low.value.higher_is_better


def test_a_frame_of_values_is_checked():
    frame = table().rename(columns={"reward": "value"})
    runs = bs.Runs.from_frame(frame, value=ValueScale())
    assert runs.value == ValueScale().of(frame["value"])
    mapped = bs.Runs.from_frame(table(), value=ValueScale(), columns={"value": "reward"})
    pd.testing.assert_frame_equal(mapped.frame, runs.frame)
    assert mapped.response == "reward"
    with pytest.raises(bs.InputError, match="rows 2 have none"):
        bs.Runs.from_frame(frame.assign(value=[0.0, np.nan, *frame["value"][2:]]), value=ValueScale())
    with pytest.raises(bs.InputError, match="A column 'value' is needed"):
        bs.Runs.from_frame(table(), value=ValueScale())


def test_scale_goes_there_and_back():
    for higher in (True, False):
        scale = ValueScale(higher_is_better=higher).of([-4.0, 1.0])
        np.testing.assert_allclose(scale.log_loss([-4.0, 1.0]), [0.5, -0.5] if higher else [-0.5, 0.5])
        np.testing.assert_allclose(scale.response(scale.log_loss([-4.0, 0.0, 30.0])), [-4.0, 0.0, 30.0])
    assert ValueScale().of([3.0, 3.0]) == ValueScale(middle=3.0)
    for options in ({"unit": 0.0}, {"middle": np.inf}, {"higher_is_better": "yes"}):
        with pytest.raises(bs.InputError):
            ValueScale(**options)


def test_a_negative_loss_names_the_option():
    for options in ({}, {"loss": "reward"}, {"columns": {"loss": "reward"}}):
        with pytest.raises(bs.InputError) as error:
            bs.read(table().rename(columns={"reward": "loss"}) if not options else table(), **options)
        assert "value= (--value)" in str(error.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"value": "reward", "loss": "reward"}, "Each of value, loss, score and derive"),
        ({"value": "reward", "score": "reward"}, "Each of value, loss, score and derive"),
        ({"lower_is_better": True}, "lower_is_better (--lower-is-better) applies only to values"),
        ({"value": "reward", "lower_is_better": "no"}, "lower_is_better must be True or False"),
        ({"value": "absent"}, "There is no column 'absent'"),
    ],
)
def test_options_that_cannot_be_are_refused(options, said):
    with pytest.raises(bs.InputError) as error:
        bs.read(table(), **options)
    assert said in str(error.value)


def test_a_value_that_becomes_worse_is_told_with_the_direction():
    assert not [entry for entry in rewards().log if entry.severity == "warning"]
    (entry,) = [entry for entry in rewards(lower_is_better=True).log if entry.severity == "warning"]
    assert entry.code == "direction"
    assert "rises with flops" in entry.text
    (entry,) = [one for one in rewards(table().assign(reward=-table()["reward"])).log if one.severity == "warning"]
    assert "lower_is_better=True (--lower-is-better)" in entry.text


def test_each_family_has_a_scale_of_its_own():
    both = pd.concat([table().assign(task="a"), table(seed=1).assign(task="b", reward=lambda t: 1e4 * t["reward"])])
    runs = rewards(both, family="task")
    np.testing.assert_allclose(np.ptp(np.log(runs.frame["loss"])), 1.0)
    for family, part in zip("ab", runs.split(), strict=True):
        (job,) = make_jobs(part, "power")
        assert job.runs.value == ValueScale().of(both.loc[both["task"] == family, "reward"])
        np.testing.assert_allclose(np.ptp(np.log(job.runs.frame["loss"])), 1.0)


# --- The density ----------------------------------------------------------------------------------------------


def test_density_is_that_of_the_plain_normal_model():
    """The density of values, given constants, is a normal one around middle - unit ln(law) in units of the value."""
    import jax
    from scipy.stats import multivariate_normal

    frame = table().assign(se=np.linspace(0.05, 0.3, len(FLOPS)))
    job = make_job(rewards(frame, columns={"value_se": "se"}), "saturating_power", discrepancy=None)
    unit = job.runs.value.unit
    x, v, rows = frame["flops"].to_numpy(), frame["reward"].to_numpy(), len(frame)
    gaps, rng = [], np.random.default_rng(1)
    with jax.enable_x64(True):
        names = list(coordinates(job.model, job.problem))
        for _ in range(4):
            vector = rng.standard_normal(len(names))
            values, prior = read(vector, job.model, job.problem)
            z = np.log(x) - np.log(x).mean()
            floor, slope = (float(np.asarray(values.constants[name])) for name in ("E", "c"))
            law = np.log(floor + (1.0 - floor) * np.exp(-slope * z))
            # Centre and level: the level of y is normal around the mean of the data, with sd 0.75.
            mean = v.mean() - unit * law
            noise = (float(values.residual_sd) ** 2 + float(values.seed_sd) ** 2) * unit**2 + frame["se"] ** 2
            # The engine adds 1.2e-6 to the residual sd.
            covariance = np.diag(noise) + (0.75 * unit) ** 2
            plain = multivariate_normal.logpdf(v, mean, covariance) + rows * np.log(unit)
            gaps.append(float(log_density(vector, job.model, job.problem)) - float(np.asarray(prior).sum()) - plain)
    np.testing.assert_allclose(gaps, 0.0, atol=1e-3)


@pytest.mark.parametrize("values", [[-1.0, 0.0, 0.0, 2.0, 3.0], [0.0] * 5, [-1e9, -5e8, 0.0, 1.0, 2e9]])
def test_gradients_are_finite(values):
    import jax

    frame = pd.DataFrame({"flops": FLOPS[:5], "value": values})
    (job,) = make_jobs(bs.Runs.from_frame(frame, value=ValueScale()), priors=APART)
    vector = np.random.default_rng(0).standard_normal(len(coordinates(job.model, job.problem)))
    with jax.enable_x64(True):
        density, slope = jax.value_and_grad(log_density)(vector, job.model, job.problem)
    assert np.isfinite(density)
    assert np.isfinite(slope).all()


def test_noise_has_priors_of_its_own_unless_given():
    (job,) = make_jobs(rewards(), "power")
    loss = bs.corpus.load("marin_moe_v16_minima")
    (own,) = make_jobs(loss, "power")
    assert (job.likelihood.residual_sd, job.likelihood.seed_sd) == (0.03, 0.01)
    assert (own.likelihood.residual_sd, own.likelihood.seed_sd) == (0.003, 0.0008)
    (told,) = make_jobs(rewards(), "power", likelihood=bs.Likelihood(residual_sd=0.1, seed_sd=None))
    assert (told.likelihood.residual_sd, told.likelihood.seed_sd) == (0.1, None)
    (heavy,) = make_jobs(rewards(), "power", likelihood="student")
    assert (heavy.likelihood.tail, heavy.likelihood.seed_sd) == (4.0, 0.01)
    with pytest.raises(bs.InputError, match="These runs have values"):
        make_jobs(rewards(), "power", likelihood="binomial")


def test_laws_of_other_responses_are_refused():
    for law in ("logistic_ceiling", "growing_power"):
        with pytest.raises(bs.InputError, match="these runs have values of any sign"):
            make_jobs(rewards(), law)


def test_priors_are_those_of_a_response_that_spans_one():
    (job,), (own,) = (make_jobs(runs, "power") for runs in (rewards(), bs.corpus.load("marin_moe_v16_minima")))
    for key, prior in own.law.priors.items():
        name = "sd" if isinstance(prior, bs.Level) else "median"
        assert getattr(job.law.priors[key], name) == pytest.approx(2.5 * getattr(prior, name))
    assert job.discrepancy.scale == pytest.approx(2.5 * own.discrepancy.scale)
    assert job.discrepancy.median == pytest.approx(2.5 * own.discrepancy.median)
    # What the caller gives is not changed.
    (told,) = make_jobs(rewards(), "power", discrepancy=bs.Discrepancy(), priors={"A": bs.Level(sd=0.1)})
    assert told.discrepancy == own.discrepancy
    assert told.law.priors["A"].sd == 0.1


# --- Forecasts ------------------------------------------------------------------------------------------------


def test_forecasts_hold_the_truth(post):
    assert post.trustworthy
    at = np.array([1e18, 1e19, 3e20, 1e21])
    found = post.predict(flops=at, kind="mean")
    low, high = found.interval(0.95)
    assert (low < truth(at)).all()
    assert (truth(at) < high).all()
    middle = found.quantile(0.5)
    np.testing.assert_allclose(found.probability_below(middle), 0.5, atol=1e-6)
    np.testing.assert_allclose(found.probability_met(middle - 1.0), 1.0 - found.probability_below(middle - 1.0))
    assert found.higher_is_better
    # Quantiles, mean and draws are of one distribution, and the law of the first point is below zero.
    np.testing.assert_allclose(found.mean, found.draws.reshape(-1, 4).mean(0), atol=0.1)
    np.testing.assert_allclose(np.quantile(found.draws.reshape(-1, 4), 0.5, axis=0), middle, atol=0.1)
    assert found.quantile(0.5)[0] < 0.0 < found.quantile(0.5)[-1]
    assert (np.diff(found.quantile([0.1, 0.5, 0.9]), axis=0) > 0.0).all()
    # Probabilities do not jump at zero.
    chances = np.array([found.probability_below(target)[1] for target in (-0.01, 0.0, 0.01)])
    assert (np.diff(chances) >= 0.0).all() and np.ptp(chances) < 0.1


def test_a_known_error_widens_the_forecast_of_a_measurement(post):
    exact = post.predict(flops=3e20)
    widened = exact.measured(2.0)
    sds = [one.draws.std() for one in (exact, widened)]
    np.testing.assert_allclose(sds[1], np.hypot(sds[0], 2.0), rtol=0.05)
    width = np.diff(widened.interval(0.683), axis=0)[0, 0] / 2.0
    np.testing.assert_allclose(width, sds[1], rtol=0.2)
    for options in ({"items": 100}, {}):
        with pytest.raises(bs.InputError, match="For a value, give value_se="):
            exact.measured(**options)


def test_the_floor_of_the_law_is_the_ceiling_of_the_reward(post):
    scale = post.runs.value
    ceiling = scale.response(np.log(post.draws["E"]))
    low, high = np.quantile(ceiling, [0.025, 0.975])
    assert low < 5.0 < high
    far = bs.fit(post.runs, discrepancy=None, **LAW)
    ceiling = float(np.median(scale.response(np.log(far.draws["E"]))))
    assert far.predict(flops=1e40, kind="mean").quantile(0.5)[0] == pytest.approx(ceiling, abs=0.2)


@pytest.mark.parametrize("likelihood", ["normal", "student"])
def test_another_unit_changes_nothing(likelihood):
    frame = table().assign(se=0.1)
    options = {**LAW, "likelihood": likelihood, "settings": FEW, "discrepancy": None}
    fits = []
    for a, b in ((0.0, 1.0), (100.0, 7.3), (-3.0, 1e-3)):
        other = frame.assign(reward=a + b * frame["reward"], se=b * frame["se"])
        fits.append((a, b, bs.fit(rewards(other, columns={"value_se": "se"}), **options)))
    levels, at = [0.025, 0.5, 0.975], [1e20, 1e21, 1e22]
    first = fits[0][2].predict(flops=at).quantile(levels)
    for a, b, fit in fits[1:]:
        np.testing.assert_allclose((fit.predict(flops=at).quantile(levels) - a) / b, first, rtol=1e-6)


def test_a_mirror_image_has_mirrored_forecasts(post):
    mirrored = bs.fit(rewards(table().assign(reward=lambda t: -t["reward"]), lower_is_better=True), **LAW)
    one, other = (fit.predict(flops=[1e20, 1e22]) for fit in (post, mirrored))
    np.testing.assert_allclose(other.quantile([0.9, 0.5, 0.1]), -one.quantile([0.1, 0.5, 0.9]), rtol=1e-9)
    np.testing.assert_allclose(other.draws, -one.draws, rtol=1e-9)
    assert not other.higher_is_better
    np.testing.assert_allclose(other.probability_met(-3.0), one.probability_met(3.0), atol=1e-9)


@pytest.mark.slow
def test_a_reward_that_rises_to_a_ceiling_is_forecast_by_the_default():
    found = bs.fit(rewards(table(0.2, seed=3)), seed=0)
    assert found.trustworthy
    assert len(found.components) == 3
    at = np.array([2e20, 1e21])
    low, high = found.predict(flops=at, kind="mean").interval(0.95)
    assert ((low < truth(at)) & (truth(at) < high)).all()


def test_values_of_two_inputs_are_fitted():
    size, steps = (part.ravel() for part in np.meshgrid([1e6, 1e7, 1e8], [1e3, 1e4, 1e5]))
    frame = pd.DataFrame({"n_params": size, "n_samples": steps})
    noise = 0.05 * np.random.default_rng(0).standard_normal(9)
    frame["reward"] = 3.0 - 4.0 * (size / 1e6) ** -0.2 - 5.0 * (steps / 1e3) ** -0.3 + noise
    found = bs.fit(rewards(frame, inputs=["n_params", "n_samples"]), seed=0, settings=FEW)
    low, high = found.predict(n_params=3e8, n_samples=3e5, kind="mean").interval(0.95)[:, 0]
    assert low < 3.0 - 4.0 * 300**-0.2 - 5.0 * 300**-0.3 < high


# --- Checks ---------------------------------------------------------------------------------------------------


def test_what_the_law_does_not_describe_is_told(post):
    def codes(values, **options):
        frame = pd.DataFrame({"flops": FLOPS[: len(values)], "reward": values})
        fit = bs.fit(rewards(frame, **options), settings=FEW, discrepancy=None, **LAW)
        return {note.code for note in fit.check(prior=False)}, fit

    worse, fit = codes(list(np.linspace(2.0, -4.0, 8)))
    assert worse & {"not_monotone", "direction"}
    assert not fit.trustworthy
    with pytest.raises(bs.InputError, match="lies beyond the data"):
        fit.predict(flops=1e22)
    assert bs.decide.go(fit, 5.0, flops=1e22).answer == "cannot say"
    again, fit = codes([-5.0, -2.0, 0.0, 1.0, -1.0, -3.0, -5.0])
    assert "not_monotone" in again
    with pytest.raises(bs.InputError, match="Forecast inside the data, or pass force=True"):
        fit.predict(flops=1e22)
    # A sigmoid past its steepest point no longer steepens.
    sigmoid = -20.0 + 100.0 / (1.0 + np.exp(-np.linspace(-4.0, 2.5, 8)))
    assert "steepening" not in codes(list(sigmoid))[0]
    flat, _ = codes([-1.5] * 6)
    assert "flat" in flat
    steep, fit = codes([0.0, 0.0, 0.0, 0.1, 0.5, 1.5, 4.0, 10.0])
    assert "steepening" in steep
    assert "steepening" not in {note.code for note in grave_notes(fit)}
    assert not post.check(prior=False)
    (note,) = post.check(post.predict(flops=float(FLOPS[-1]) * 4.0), prior=False)
    assert note.code == "record" and "Intervals of values were too narrow" in note.text
    decided = bs.decide.go(post, 1.0, flops=float(FLOPS[-1]) * 4.0)
    assert "Intervals of values were too narrow" in str(decided)


def test_noise_of_many_checkpoints_is_no_fall():
    """Means of early checkpoints are of one row and scatter more than those of late ones."""
    step = np.arange(1.0, 400.0)
    for seed in range(20):
        noise = 0.3 * np.random.default_rng(seed).standard_normal(len(step))
        x, y, count = counted_curve(rewards(pd.DataFrame({"step": step, "reward": 3.0 - 8.0 * step**-0.4 + noise}),
                                            inputs=["step"]), "step")  # fmt: skip
        assert sure_rise(y, count) < 1.0
        assert sure_rise(np.where(x > np.log(200.0), y + 0.3, y), count) > 1.0


# --- Calibration ----------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.slow
def test_right_model_passes_and_a_wrong_one_is_noticed():
    frame = pd.DataFrame({"flops": FLOPS[:8], "value": np.linspace(-3.0, 5.0, 8)})
    runs = bs.Runs.from_frame(frame, value=ValueScale())
    options = {"priors": APART, "settings": bs.Nuts(warmup=150, draws=150, chains=1), "progress": False}
    ranks = bs.sbc.run(runs, simulations=40, seed=0, **options)
    assert not ranks.summary()["outside"].any()
    small = bs.Likelihood(residual_sd=0.01, residual_spread=0.1, seed_sd=0.003, seed_spread=0.1)
    wrong = bs.sbc.run(runs, simulations=40, seed=0, likelihood=small, true_likelihood="auto", **options)
    assert wrong.summary()["outside"].any()


@pytest.mark.long
@pytest.mark.slow
def test_bare_numpyro_samples_the_same_posterior(post):
    at = {"flops": [1e20, 1e21]}
    _, theirs = sampled_by_numpyro(bs.numpyro_model(post.runs, "saturating_power"), at)
    for site, kind in (("mean", "mean"), ("y", "run")):
        ours, bare = post.predict(at, kind=kind), np.asarray(theirs[site])
        np.testing.assert_allclose(
            ours.quantile([0.25, 0.5, 0.75]), np.quantile(bare, [0.25, 0.5, 0.75], axis=0), atol=0.15
        )
