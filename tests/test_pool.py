"""Pooling: the group is found, families borrow from each other, and what cannot be pooled is refused."""

import dataclasses
import json

import h5py
import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from conftest import call
from numpyro.handlers import scope
from numpyro.infer import MCMC, NUTS

import bayescale as bs
from bayescale.model.numpyro import observe, raw_problem
from bayescale.model.parameters import draw

SETTINGS = bs.Nuts(chains=2, draws=400, least_ess=100.0)
LAW = "saturating_power"


def simulated(families=6, rows=6, sd=0.2, seed=0, small=3, noise=0.003):
    """Families whose exponents are LogNormal(ln 0.15, sd) and whose floors are 1.7; the first has few rows."""
    rng = np.random.default_rng(seed)
    parts = []
    for number in range(families):
        c = 0.15 * np.exp(sd * rng.standard_normal())
        x = 1e19 * 4.0 ** np.arange(rows if number else small)
        loss = 1.7 + 1.5 * (x / 1e19) ** -c * np.exp(0.1 * rng.standard_normal())
        loss = loss * np.exp(noise * rng.standard_normal(len(x)))
        parts.append(pd.DataFrame({"flops": x, "loss": loss, "family": f"f{number}"}))
    return bs.Runs.from_frame(pd.concat(parts, ignore_index=True), inputs=("flops",))


@pytest.fixture(scope="module")
def joint():
    return bs.pool(simulated(), LAW, pooled=("c",), seed=0, settings=SETTINGS)


def test_the_group_is_found(joint):
    row = joint.summary(0.95).loc["c"]
    assert row["low"] < 0.15 < row["high"]
    assert row["sd_low"] < 0.2 < row["sd_high"]
    assert row["new_low"] < row["low"] and row["high"] < row["new_high"]
    assert row["r_hat"] < 1.05
    assert row["learned"] > 0.9


def test_families_borrow_from_each_other(joint):
    alone = bs.fit(simulated().split()[0], LAW, seed=0, settings=SETTINGS, method="auto")
    mine = joint["f0"]
    assert np.std(np.log(mine.draws["c"])) < 0.7 * np.std(np.log(alone.draws["c"]))
    at = {"flops": 1e23}
    widths = [float(np.ptp(np.log(fit.predict(at=at).interval(0.9)))) for fit in (mine, alone)]
    assert widths[0] < widths[1]


def test_a_family_of_the_pool_is_a_fit(joint, tmp_path):
    fit = joint["f1"]
    assert isinstance(fit, bs.Posterior) and fit.runs.name == "f1"
    assert fit.check() is not None
    fit.save(tmp_path / "f1.nc")
    loaded = bs.load(tmp_path / "f1.nc")
    at = {"flops": 1e22}
    np.testing.assert_allclose(loaded.predict(at=at).mean, fit.predict(at=at).mean, rtol=1e-12)
    assert set(joint.to_datatree()["families"]) == set(joint)
    assert list(joint) == [f"f{number}" for number in range(6)] and len(joint) == 6
    assert "c" in repr(joint) and "pooled" in joint._repr_html_()
    assert joint.plot().get_xlabel() == "c"
    with pytest.raises(bs.InputError, match="neither pooled nor shared"):
        joint.plot(quantity="E")
    table = joint.families()
    assert (table["c_low"] < table["c"]).all() and list(table["runs"]) == [3, 6, 6, 6, 6, 6]


def test_a_new_family_gets_what_the_pool_knows(joint, tmp_path):
    """Fitted afterwards, a family has the posterior that it has as a member."""
    whole = simulated(families=7, seed=3).split()
    others = bs.pool(whole[:6], LAW, seed=0, settings=SETTINGS)
    member = bs.pool(whole, LAW, seed=0, settings=SETTINGS)["f6"]
    after = others.fit(whole[6])
    a, b = (np.log(fit.draws["c"]).ravel() for fit in (member, after))
    assert abs(a.mean() - b.mean()) < 0.25 * a.std()
    assert 0.8 < a.std() / b.std() < 1.25
    prior = others.prior()["c"]
    assert isinstance(prior, bs.Exponent)
    told = bs.fit(whole[6], LAW, priors=others.prior(), seed=0, settings=SETTINGS, method="auto")
    assert abs(np.log(told.draws["c"]).mean() - b.mean()) < 0.35 * b.std()
    one = others.fit(whole[6].select([5]), name="single")
    assert one.runs.name == "single" and len(one.runs) == 1
    wide = np.log(one.draws["c"]).ravel()
    assert abs(wide.mean() - np.log(prior.median)) < 0.5 * prior.sd
    one.save(tmp_path / "single.nc")
    at = {"flops": 1e23}
    np.testing.assert_allclose(bs.load(tmp_path / "single.nc").predict(at=at).mean, one.predict(at=at).mean, rtol=1e-12)


def alike(loaded, joint, runs, **at):
    """Require that two pools have the same tables, families and answers about another family."""
    pd.testing.assert_frame_equal(loaded.summary(), joint.summary())
    pd.testing.assert_frame_equal(loaded.families(), joint.families())
    assert str(loaded) == str(joint) and loaded.converged == joint.converged
    one, other = (pool.fit(runs, name="another").predict(at=at) for pool in (loaded, joint))
    np.testing.assert_array_equal(one.log_draws, other.log_draws)
    for name in joint:
        np.testing.assert_array_equal(loaded[name].predict(at=at).log_draws, joint[name].predict(at=at).log_draws)


def test_a_pool_is_saved_and_loaded(joint, tmp_path):
    path = joint.save(tmp_path / "pool.nc")
    alike(bs.load_pool(path), joint, simulated(families=7, seed=3).split()[6].select([5]), flops=1e23)
    with pytest.raises(bs.InputError, match=r"bs\.load_pool"):
        bs.load(path)
    joint["f1"].save(tmp_path / "fit.nc")
    with pytest.raises(bs.InputError, match=r"bs\.load"):
        bs.load_pool(tmp_path / "fit.nc")
    with pytest.raises(bs.InputError, match="absent"):
        bs.load_pool(tmp_path / "nowhere.nc")
    with pytest.raises(bs.InputError, match=r"ends in \.nc"):
        joint.save(tmp_path / "pool.csv")


@pytest.mark.parametrize("place", ["group_0/mean", "pool/text", "family_2/unconstrained_posterior/log_c"])
def test_an_altered_pool_is_refused(joint, tmp_path, place):
    path = joint.save(tmp_path / "pool.nc")
    with h5py.File(path, "r+") as file:
        values = file[place][()]
        values.ravel()[0] += 1
        file[place][()] = values
    with pytest.raises(bs.InputError, match=r"cannot be loaded|damaged"):
        bs.load_pool(path)


@pytest.mark.slow
def test_pools_of_mixtures_of_rays_and_of_single_runs_are_saved(tmp_path):
    rng = np.random.default_rng(0)
    parts = []
    for number, rows in enumerate((6, 5, 1)):
        n = 1e7 * 3.0 ** np.arange(rows)
        loss = (1.7 + 1.5 * (n / 1e7) ** -0.3) * np.exp(0.003 * rng.standard_normal(rows))
        parts.append(pd.DataFrame({"n_params": n, "n_tokens": 20.0 * n, "loss": loss, "family": f"f{number}"}))
    runs = bs.Runs.from_frame(pd.concat(parts[:2], ignore_index=True), inputs=("n_params", "n_tokens")).split()
    single = bs.Runs.from_frame(parts[0].assign(family="f2"), inputs=("n_params", "n_tokens")).select([5])
    whole = bs.pool(runs, seed=0, settings=SETTINGS)
    alike(bs.load_pool(whole.save(tmp_path / "ray.nc")), whole, runs[0], n_params=1e11)
    law = bs.laws.renamed(bs.LAWS["power"], ("n_params",))
    law = law.with_priors({"c": bs.Exponent(0.3, 0.5)})
    along = [dataclasses.replace(part, inputs=("n_params",)) for part in (*runs, single)]
    options = {"discrepancy": bs.Discrepancy(median=0.01), "likelihood": bs.Likelihood(residual_sd=0.005)}
    three = bs.pool(along, law, shared=("residual_sd",), seed=0, settings=SETTINGS, **options)
    alike(bs.load_pool(three.save(tmp_path / "single.nc")), three, along[2], n_params=1e11)


@pytest.mark.slow
def test_shared_floors_and_pooled_spreads():
    runs = simulated(families=4, sd=0.1, small=1)
    joint = bs.pool(runs, LAW, pooled=("residual_sd",), shared=("E",), seed=0, settings=SETTINGS)
    row = joint.summary(0.95).loc["E"]
    assert row["is"] == "shared" and row["low"] < 1.7 < row["high"]
    floors = [np.log(joint[name].draws["E"]) for name in joint]
    # One value: a draw of all families is nearly the same.
    apart = np.std(floors, axis=0).mean()
    assert apart < 0.35 * np.std(floors[1])
    assert len(joint["f0"].runs) == 1
    spread = joint.summary(0.98).loc["residual_sd"]
    assert spread["low"] < 0.003 < spread["high"]


@pytest.mark.slow
def test_mixtures_are_pooled_component_by_component():
    joint = bs.pool(simulated(families=3), seed=0, settings=SETTINGS)
    fit = joint["f1"]
    assert isinstance(fit, bs.Mixture) and len(joint.groups) == len(fit.components) == 3
    assert list(joint.summary()["component"]) == joint.labels
    assert np.isfinite(fit.predict(flops=1e22).mean).all()
    with pytest.raises(bs.InputError, match="mixture of models"):
        joint.prior()


@pytest.mark.slow
def test_the_pool_agrees_with_one_model_in_numpyro():
    """Means and standard deviations are those of a joint model of all families that NumPyro samples."""
    runs = simulated(families=4, rows=8, small=8)
    joint = bs.pool(runs, LAW, pooled=("c",), seed=0, settings=SETTINGS, discrepancy=None)
    jobs, group = [job for (job,) in joint.plan.jobs], joint.groups[0]
    prior = group.priors[0]

    def model():
        mean = numpyro.sample("mean", dist.Normal(prior.mean, prior.sd))
        sd = numpyro.sample("sd", dist.HalfNormal(0.5 * prior.sd))

        def supply(name, distribution):
            if name == "log_c":
                return mean + sd * numpyro.sample("score", dist.Normal(0.0, 1.0))
            return numpyro.sample(name, distribution)

        for job in jobs:
            own = raw_problem(job, job.runs)
            with scope(prefix=job.runs.name):
                values = draw(supply, job.model, own)
                numpyro.deterministic("log_exponent", jax.numpy.log(values.constants["c"]))
                observe(values, job.model, own)

    with jax.enable_x64(True):
        start = numpyro.infer.init_to_median(num_samples=20)
        mcmc = MCMC(
            NUTS(model, target_accept_prob=0.95, init_strategy=start, dense_mass=True),
            num_warmup=700,
            num_samples=1000,
            progress_bar=False,
        )
        mcmc.run(jax.random.key(0))
    found = mcmc.get_samples()
    pairs = [(group.flat.mean[:, 0], found["mean"]), (group.flat.sd[:, 0], found["sd"])]
    pairs += [(np.log(joint[name].draws["c"]).ravel(), found[f"{name}/log_exponent"]) for name in joint]
    for ours, theirs in pairs:
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        # A hundred effective draws at least on either side: a seventh of a standard deviation, and two of those.
        assert abs(np.median(ours) - np.median(theirs)) < 0.3 * theirs.std()
        assert 0.75 < np.ptp(np.quantile(ours, [0.1, 0.9])) / np.ptp(np.quantile(theirs, [0.1, 0.9])) < 1.35


def scores():
    table = pd.DataFrame({"flops": [1e19, 1e20, 1e21], "accuracy": [0.3, 0.4, 0.5]})
    return bs.read(table, score="accuracy", n_items=100)


def other_inputs():
    table = pd.DataFrame({"n_tokens": [1e9, 1e10, 1e11], "loss": [3.0, 2.5, 2.2]})
    return bs.Runs.from_frame(table)


def test_what_cannot_be_pooled_is_refused():
    first, second = simulated(families=2).split()
    named = dataclasses.replace(second, response="val_bpb")
    asked = [
        ((first,), {}, "needs 2 or more families; found 1"),
        ([first, dataclasses.replace(second, name="f0")], {}, "Two families are called 'f0'"),
        ({"a": first, "b": first}, {}, "a and b have the same runs"),
        ({"a": first, "b": scores()}, {}, "Losses and scores are not pooled: a has losses and b scores"),
        ({"a": first, "b": other_inputs()}, {}, "over the same inputs; a has flops and b n_tokens"),
        ({"a": first, "b": named}, {"shared": ("E",)}, "unit of the response, which is loss of a and val_bpb of b"),
        ([first, second], {"pooled": ("d",)}, "have no 'd' to pool"),
        ([first, second], {"pooled": ("A",)}, "A of saturating_power depends on the scale"),
        ([first, second], {"pooled": ("c",), "shared": ("c",)}, "c is in both pooled= and shared="),
        ([first, second], {"pooled": ()}, "Nothing is pooled or shared"),
        ([first, second], {"pooled": 3}, "pooled takes names"),
        ([first, second], {"law": "auto", "pooled": ("E",)}, "name a law with one floor"),
        ([first, second], {"prior_from": first}, "leave out prior_from"),
        ([one.select([0]) for one in (first, second)], {}, "Every family has runs at one scale only"),
        ("runs.csv", {}, "Read the file first"),
        ({"a": simulated(families=3), "b": first}, {}, "a holds 3 families"),
    ]
    for families, options, words in asked:
        with pytest.raises(bs.InputError) as error:
            bs.pool(families, **{"law": LAW, "seed": 0, "settings": SETTINGS, **options})
        assert words in str(error.value)


def test_a_pool_refuses_questions_it_cannot_answer(joint):
    with pytest.raises(bs.InputError, match="There is no family 'f9'"):
        joint["f9"]
    with pytest.raises(bs.InputError, match="Losses and scores are not pooled"):
        joint.fit(scores())
    with pytest.raises(bs.InputError, match="level must be a probability"):
        joint.summary(2.0)


def test_the_command_pools_families(tmp_path, capsys):
    table = simulated(families=3).frame
    table.to_csv(tmp_path / "runs.csv", index=False)
    line = ["--law", LAW, "--chains", "2", "--draws", "400"]
    assert call("pool", str(tmp_path / "runs.csv"), *line, "--json", "--out", str(tmp_path / "fit.nc")) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["family"] for row in told["families"]] == ["f0", "f1", "f2"]
    assert told["quantities"][0]["quantity"] == "c" and len(told["written"]) == 3
    assert bs.load(told["written"][0]).runs.name == "f0"
    for name, part in table.groupby("family"):
        part.drop(columns="family").to_csv(tmp_path / f"{name}.csv", index=False)
    files = [str(tmp_path / f"{name}.csv") for name in ("f0", "f1", "f2")]
    assert call("pool", *files, *line, "--pooled", "c") == 0
    out = capsys.readouterr().out
    assert "c            pooled" in out and "3 families" in out
    assert call("pool", files[0], *line) == 2
    assert "needs 2 or more families" in capsys.readouterr().err
