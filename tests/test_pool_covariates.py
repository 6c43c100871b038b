"""Pools with covariates and correlations: effects are found, new families use them, and the rest is refused."""

import dataclasses
import json
from typing import Any

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
GAP = 0.5
"""Difference of ln(exponent) between the two architectures."""


def recipes(families=8, rows=6, sd=0.08, noise=0.003, seed=0):
    """Families of two architectures in turn, whose exponents have medians of 0.15 exp(-+ GAP / 2)."""
    rng = np.random.default_rng(seed)
    parts = []
    for number in range(families):
        routed = number % 2
        c = 0.15 * np.exp(GAP * (routed - 0.5) + sd * rng.standard_normal())
        x = 1e19 * 4.0 ** np.arange(rows)
        loss = 1.7 + 1.5 * (x / 1e19) ** -c * np.exp(0.1 * rng.standard_normal())
        loss = loss * np.exp(noise * rng.standard_normal(rows))
        own = {"flops": x, "loss": loss, "family": f"f{number}", "architecture": ("dense", "routed")[routed]}
        parts.append(pd.DataFrame(own))
    return pd.concat(parts, ignore_index=True)


def correlated_recipes(families=6, rows=8, seed=1):
    """Families whose exponents and residual standard deviations rise together."""
    rng = np.random.default_rng(seed)
    parts = []
    for number, score in enumerate(np.linspace(-1.3, 1.3, families)):
        x = 1e19 * 4.0 ** np.arange(rows)
        loss = 1.7 + 1.5 * (x / 1e19) ** -(0.15 * np.exp(0.3 * score))
        loss = loss * np.exp(0.003 * np.exp(0.9 * score) * rng.standard_normal(rows))
        parts.append(pd.DataFrame({"flops": x, "loss": loss, "family": f"f{number}"}))
    return bs.Runs.from_frame(pd.concat(parts, ignore_index=True), inputs=("flops",))


TABLE = recipes(10)
RUNS = bs.read(TABLE, family="family").split()
"""Eight families to pool, and two further ones."""
LEVELS = TABLE.groupby("family")["architecture"].first()


@pytest.fixture(scope="module")
def joint():
    return bs.pool(RUNS[:8], LAW, covariates="architecture", seed=0, settings=SETTINGS)


@pytest.fixture(scope="module")
def linked():
    options = {"pooled": ("c", "residual_sd"), "covariates": LEVELS, "correlated": True}
    return bs.pool(RUNS[:8], LAW, **options, seed=0, settings=SETTINGS)


def test_the_effect_of_an_architecture_is_found(joint):
    table = joint.summary(0.95)
    dense, routed = table.loc["c, architecture=dense"], table.loc["c, architecture=routed"]
    assert dense["is"] == "effect" and dense["low"] < -GAP / 2 < dense["high"] < 0.0
    assert routed["low"] < GAP / 2 < routed["high"]
    assert dense["median"] == pytest.approx(-routed["median"])
    new = joint.summary(0.8)
    assert new.loc["c, architecture=dense", "new_high"] < new.loc["c, architecture=routed", "new_low"]
    # The difference between architectures is no scatter between families.
    alone = bs.pool(RUNS[:8], LAW, seed=0, settings=SETTINGS)
    assert table.loc["c", "sd"] < 0.5 * alone.summary().loc["c", "sd"]
    assert "architecture=routed: c times 1." in str(joint)
    assert list(joint.families()["architecture"]) == ["dense", "routed"] * 4


def test_new_families_are_forecast_more_narrowly_with_their_architecture(joint):
    alone = bs.pool(RUNS[:8], LAW, seed=0, settings=SETTINGS)
    for runs, level in zip(RUNS[8:], ("dense", "routed"), strict=True):
        few = runs.select([0, 1, 2])
        fits = joint.fit(few, covariates={"architecture": level}), alone.fit(few)
        widths = [float(np.ptp(np.log(fit.predict(flops=1e24).interval(0.9)))) for fit in fits]
        assert widths[0] < 0.9 * widths[1]
        exponents = [np.log(fit.draws["c"]).std() for fit in fits]
        assert exponents[0] < 0.6 * exponents[1]


def test_covariates_of_a_new_family_come_from_its_columns_or_are_given(joint):
    few = RUNS[8].select([0, 1, 2])
    from_column, given = joint.fit(few), joint.fit(few, covariates={"architecture": "dense"})
    np.testing.assert_array_equal(from_column.draws["c"], given.draws["c"])
    unknown = joint.fit(few, covariates={"architecture": "recurrent"})
    assert unknown.runs.log[-1].code == "unknown_level" and "drawn from the prior" in unknown.runs.log[-1].text
    # About the exponent's level nothing is known, beyond the mean over architectures.
    assert np.log(unknown.draws["c"]).std() > 1.5 * np.log(given.draws["c"]).std()
    prior = joint.prior(covariates={"architecture": "routed"})["c"]
    assert prior.median > 1.3 * joint.prior(covariates={"architecture": "dense"})["c"].median
    bare = bs.Runs.from_frame(TABLE[TABLE["family"] == "f8"].drop(columns="architecture"), inputs=("flops",))
    asked = [
        (lambda: joint.fit(bare), "lacks the covariate architecture (known levels: dense, routed)"),
        (lambda: joint.prior(), "The new family lacks the covariate architecture"),
        (lambda: joint.fit(few, covariates={"kind": "dense"}), "no covariate 'kind'"),
        (lambda: joint.fit(few, covariates="dense"), "values by name"),
    ]
    for ask, words in asked:
        with pytest.raises(bs.InputError) as error:
            ask()
        assert words in str(error.value)


def test_numbers_are_standardised():
    """A number that separates the architectures has the effect of one standard deviation."""
    years = {f"f{number}": {"year": 2020.0 + 2.0 * (number % 2)} for number in range(8)}
    joint = bs.pool(RUNS[:8], LAW, covariates=years, seed=0, settings=SETTINGS)
    row = joint.summary(0.95).loc["c, year (+1)"]
    assert row["low"] < GAP / 2 < row["high"]
    prior = [joint.prior(covariates={"year": year})["c"].median for year in (2020, 2022)]
    assert np.log(prior[1] / prior[0]) == pytest.approx(2.0 * row["median"], abs=0.1)
    with pytest.raises(bs.InputError, match="year is a number; f8 has 'late'"):
        joint.fit(RUNS[8], covariates={"year": "late"})


@pytest.mark.parametrize(
    "form",
    [
        LEVELS,
        LEVELS.to_frame(),
        LEVELS.reset_index(),
        {"architecture": dict(LEVELS)},
        {family: {"architecture": level} for family, level in LEVELS.items()},
        ["architecture"],
    ],
)
def test_forms_of_covariates_say_the_same(form):
    from bayescale.pooling.covariates import find_covariates

    found = find_covariates(form, {runs.name: runs for runs in RUNS})
    assert found is not None
    assert found.parts[0].levels == ("dense", "routed")
    np.testing.assert_allclose(found.design[:, 0], [1.0, -1.0] * 5)


def test_effects_of_levels_sum_to_zero_with_the_same_prior():
    from bayescale.pooling.covariates import Covariate

    for count in (2, 3, 5):
        effects = Covariate("data", tuple(map(str, range(count)))).effects()
        np.testing.assert_allclose(effects.sum(0), 0.0, atol=1e-12)
        np.testing.assert_allclose((effects**2).sum(1), 1.0)


def test_what_cannot_be_a_covariate_is_refused():
    asked = [
        ({"covariates": "size"}, "has no column 'size', which is given as a covariate"),
        ({"covariates": "flops"}, "flops of f0 has 6"),
        ({"covariates": {"architecture": "dense"}}, "a table with one row for each family"),
        ({"covariates": LEVELS[:4]}, "no row of 'f4'"),
        ({"covariates": LEVELS.where(LEVELS.index != "f3")}, "architecture of f3 is missing"),
        ({"covariates": {"team": dict.fromkeys(LEVELS.index, "a")}}, "team is a in every family"),
        ({"covariates": {"year": dict.fromkeys(LEVELS.index, 1.0) | {"f1": np.inf}}}, "must be finite"),
        ({"covariates": pd.concat([LEVELS, LEVELS])}, "two rows of 'f0'"),
        ({"covariates": LEVELS, "pooled": (), "shared": ("E",)}, "none is pooled"),
        ({"correlated": True}, "needs two or more pooled quantities; found c"),
        ({"correlated": 3}, "correlated must be True or False"),
    ]
    for options, words in asked:
        with pytest.raises(bs.InputError) as error:
            bs.pool(RUNS[:8], LAW, seed=0, settings=SETTINGS, **options)
        assert words in str(error.value)
    others = [*RUNS[:2], *(dataclasses.replace(runs, response="val_bpb") for runs in RUNS[2:4])]
    metric = {"metric": {runs.name: runs.response for runs in others}}
    with pytest.raises(bs.InputError, match="E has the unit of the response"):
        bs.pool(others, LAW, pooled=("c", "E"), covariates=metric, seed=0, settings=SETTINGS)
    alone = bs.pool(RUNS[:3], LAW, seed=0, settings=SETTINGS)
    with pytest.raises(bs.InputError, match="This pool has no covariates"):
        alone.fit(RUNS[8], covariates={"architecture": "dense"})


def test_families_that_count_parameters_differently_are_pooled_with_a_covariate():
    counting = {f"f{number}": ("all", "without embeddings")[number % 2] for number in range(6)}
    families = {}
    for runs in RUNS[:6]:
        name = "n_params" if counting[runs.name] == "all" else "n_params_nonembed"
        frame = runs.frame.assign(**{name: runs.frame["flops"] / 1e11}).drop(columns="flops")
        families[runs.name] = bs.Runs.from_frame(frame, inputs=(name,), name=runs.name)
    with pytest.raises(bs.InputError, match="Give a covariate that tells how each family counts them"):
        bs.pool(families, LAW, seed=0, settings=SETTINGS)
    with pytest.raises(bs.InputError, match="Give a covariate that tells"):
        bs.pool(families, LAW, covariates={"half": {n: n < "f3" for n in families}}, seed=0, settings=SETTINGS)
    joint = bs.pool(families, LAW, covariates={"counting": counting}, seed=0, settings=SETTINGS)
    assert joint["f1"].runs.inputs == ("n_params",) and joint["f1"].runs.log[-1].code == "counted"
    assert "n_params stands for n_params_nonembed in some families" in str(joint)
    further = joint.fit(families["f3"], name="again", covariates={"counting": "without embeddings"})
    assert np.isfinite(further.predict(n_params=1e12).mean).all()


def test_the_correlation_and_the_datatree(linked):
    table = linked.summary()
    row = table.loc["c with residual_sd"]
    assert row["is"] == "correlation" and -1.0 < row["low"] < row["median"] < row["high"] < 1.0
    group = linked.to_datatree()["group"]
    assert group["correlation"].dims == ("chain", "draw", "quantity", "other_quantity")
    pair = group["correlation"].sel(quantity="c", other_quantity="residual_sd")
    assert float(pair.median()) == pytest.approx(row["median"])
    np.testing.assert_allclose(group["correlation"].sel(quantity="c", other_quantity="c"), 1.0)
    effect = group["effect"].sel(quantity="c", level="architecture=routed")
    assert float(effect.median()) == pytest.approx(table.loc["c, architecture=routed", "median"])
    assert "correlation of c with residual_sd" in str(linked)
    assert linked.groups[0].rhat.shape == (2, 2 + 1 + 2)


def test_a_pool_with_covariates_and_correlations_is_saved_and_loaded(linked, tmp_path):
    loaded = bs.load_pool(linked.save(tmp_path / "pool.nc"))
    pd.testing.assert_frame_equal(loaded.summary(), linked.summary())
    pd.testing.assert_frame_equal(loaded.families(), linked.families())
    assert str(loaded) == str(linked)
    few = RUNS[9].select([0, 1, 2])
    one, other = (pool.fit(few, covariates={"architecture": "routed"}).draws["c"] for pool in (loaded, linked))
    np.testing.assert_array_equal(one, other)


def test_the_command_takes_covariates(tmp_path, capsys):
    RUNS[0].frame.to_csv(tmp_path / "one.csv")
    TABLE[TABLE["family"] < "f4"].to_csv(tmp_path / "runs.csv", index=False)
    line = ["pool", str(tmp_path / "runs.csv"), "--law", LAW, "--chains", "2", "--draws", "400"]
    more = ["--pooled", "c", "--pooled", "residual_sd", "--correlated", "--json"]
    assert call(*line, "--covariate", "architecture", *more) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"c, architecture=dense", "c with residual_sd"} <= {row["quantity"] for row in told["quantities"]}
    assert told["families"][1]["architecture"] == "routed"
    assert call(*line, "--covariate", "flops") == 2
    assert "one value for each family, and flops of f0 has 6" in capsys.readouterr().err
    assert call(*line, "--correlated") == 2
    assert "--correlated" in capsys.readouterr().err


def numpyro_draws(joint, group_of):
    """Draws of one model of all families that NumPyro samples; `group_of` samples the value of each quantity."""
    jobs = [job for (job,) in joint.plan.jobs]

    def model():
        values_of = group_of()
        for job in jobs:
            own = raw_problem(job, job.runs)
            with scope(prefix=job.runs.name):
                told = values_of(job.runs.name)

                def supply(name, distribution, told=told):
                    return told[name] if name in told else numpyro.sample(name, distribution)

                values = draw(supply, job.model, own)
                numpyro.deterministic("log_exponent", jax.numpy.log(values.constants["c"]))
                observe(values, job.model, own)

    with jax.enable_x64(True):
        start = numpyro.infer.init_to_median(num_samples=20)
        kernel = NUTS(model, target_accept_prob=0.95, init_strategy=start, dense_mass=True)
        mcmc = MCMC(kernel, num_warmup=700, num_samples=1000, progress_bar=False)
        mcmc.run(jax.random.key(0))
    return {name: np.asarray(part) for name, part in mcmc.get_samples().items()}


def agree(ours, theirs):
    """Require medians and widths that agree but for the error of a hundred effective draws."""
    assert abs(np.median(ours) - np.median(theirs)) < 0.3 * theirs.std()
    assert 0.75 < np.ptp(np.quantile(ours, [0.1, 0.9])) / np.ptp(np.quantile(theirs, [0.1, 0.9])) < 1.35


@pytest.mark.slow
def test_a_pool_with_a_covariate_agrees_with_one_model_in_numpyro():
    joint = bs.pool(RUNS[:4], LAW, covariates=LEVELS, seed=0, settings=SETTINGS, discrepancy=None)
    (prior,) = joint.groups[0].priors

    def group_of():
        mean = numpyro.sample("mean", dist.Normal(prior.mean, prior.sd))
        sd = numpyro.sample("sd", dist.HalfNormal(0.5 * prior.sd))
        effect = numpyro.sample("effect", dist.Normal(0.0, 0.5 * prior.sd))

        def values_of(name):
            own = effect if LEVELS[name] == "dense" else -effect
            return {"log_c": mean + own + sd * numpyro.sample("score", dist.Normal(0.0, 1.0))}

        return values_of

    found = numpyro_draws(joint, group_of)
    flat: Any = joint.groups[0].flat
    agree(flat.mean[:, 0], found["mean"])
    agree(flat.sd[:, 0], found["sd"])
    agree(flat.effects[:, 0, 0], found["effect"])
    for name in joint:
        agree(np.log(joint[name].draws["c"]).ravel(), found[f"{name}/log_exponent"])


@pytest.mark.slow
def test_a_correlated_pool_agrees_with_one_model_in_numpyro():
    options = {"pooled": ("c", "residual_sd"), "correlated": True, "discrepancy": None}
    joint = bs.pool(correlated_recipes(), LAW, **options, seed=0, settings=SETTINGS)
    priors = joint.groups[0].priors
    means, sds = np.array([prior.mean for prior in priors]), np.array([prior.sd for prior in priors])

    def group_of():
        mean = numpyro.sample("mean", dist.Normal(means, sds).to_event(1))
        sd = numpyro.sample("sd", dist.HalfNormal(0.5 * sds).to_event(1))
        factor: Any = numpyro.sample("factor", dist.LKJCholesky(2, 2.0))
        numpyro.deterministic("correlation", factor[1, 0])

        def values_of(name):
            score = numpyro.sample("score", dist.Normal(np.zeros(2), 1.0).to_event(1))
            value = mean + sd * (factor @ score)
            return {"log_c": value[0], "log_residual_sd": value[1]}

        return values_of

    found = numpyro_draws(joint, group_of)
    flat: Any = joint.groups[0].flat
    for number in range(2):
        agree(flat.mean[:, number], found["mean"][:, number])
        agree(flat.sd[:, number], found["sd"][:, number])
    agree(flat.correlation[:, 0, 1], found["correlation"])
    # The prior has median zero.
    assert np.median(flat.correlation[:, 0, 1]) > 0.2
    for name in joint:
        agree(np.log(joint[name].draws["c"]).ravel(), found[f"{name}/log_exponent"])
