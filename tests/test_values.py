"""Values: responses of any sign, such as rewards, from the table to the decision."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from conftest import APART, FEW, call

import bayescale as bs
from bayescale.data.value import ValueScale
from bayescale.model.density import log_density
from bayescale.model.parameters import coordinates, read
from bayescale.model.prepare import make_job, make_jobs

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
    # y is the logarithm of what laws describe: it spans 0.4 and decreases as rewards grow.
    y = np.log(runs.frame["loss"])
    np.testing.assert_allclose(y, (598.5 - runs.frame["value"]) / (1204.0 / 0.4), atol=1e-12)


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
        np.testing.assert_allclose(scale.log_loss([-4.0, 1.0]), [0.2, -0.2] if higher else [-0.2, 0.2])
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
    np.testing.assert_allclose(np.ptp(np.log(runs.frame["loss"])), 0.4)
    for family, part in zip("ab", runs.split(), strict=True):
        (job,) = make_jobs(part, "power")
        assert job.runs.value == ValueScale().of(both.loc[both["task"] == family, "reward"])
        np.testing.assert_allclose(np.ptp(np.log(job.runs.frame["loss"])), 0.4)


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
            # Centre and level: the level of y is normal around the mean of the data, with sd 0.3.
            mean = v.mean() - unit * law
            noise = (float(values.residual_sd) ** 2 + float(values.seed_sd) ** 2) * unit**2 + frame["se"] ** 2
            # The engine adds 1.2e-6 to the residual sd.
            covariance = np.diag(noise) + (0.3 * unit) ** 2
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
    assert (job.likelihood.residual_sd, job.likelihood.seed_sd) == (0.012, 0.004)
    assert (own.likelihood.residual_sd, own.likelihood.seed_sd) == (0.003, 0.0008)
    (told,) = make_jobs(rewards(), "power", likelihood=bs.Likelihood(residual_sd=0.1, seed_sd=None))
    assert (told.likelihood.residual_sd, told.likelihood.seed_sd) == (0.1, None)
    (heavy,) = make_jobs(rewards(), "power", likelihood="student")
    assert (heavy.likelihood.tail, heavy.likelihood.seed_sd) == (4.0, 0.004)
    with pytest.raises(bs.InputError, match="These runs have values"):
        make_jobs(rewards(), "power", likelihood="binomial")


def test_laws_of_other_responses_are_refused():
    for law in ("logistic_ceiling", "critical_batch_size"):
        if law in bs.laws.names():
            with pytest.raises(bs.InputError, match="these runs have values of any sign"):
                make_jobs(rewards(), law)
