"""Several metrics: the joint density and forecasts are right, metrics inform each other, and bad input is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from scipy.stats import kstest, multivariate_normal, spearmanr

import bayescale as bs
from bayescale.evaluate.scores import log_score
from bayescale.fitting.plan import share
from bayescale.inference.reparam import reparam_to_unconstrained
from bayescale.model.density import log_density
from bayescale.model.discrepancy import innovation_kernel, kernel
from bayescale.model.level import level_variance
from bayescale.model.likelihood import SMALLEST_SCATTER
from bayescale.model.parameters import simulate_prior
from bayescale.model.prepare import axis_positions, make_jobs
from bayescale.pooling.metrics import MetricsPosterior, fit_plan
from bayescale.pooling.metrics_density import (
    Links,
    Spread,
    covariances_of,
    factorise,
    first_scores,
    joint_potential,
    log_likelihood,
    read_correlation,
    read_scores,
)
from bayescale.pooling.metrics_fit import begin_component, link_length
from bayescale.pooling.metrics_forecast import draw_levels
from bayescale.pooling.metrics_plan import plan_metrics
from bayescale.posterior.predictive import law_at

LAW = "saturating_power"
SETTINGS = bs.Nuts(warmup=200, draws=400, chains=2, least_ess=100.0)
OPTIONS = {"discrepancy": "auto", "likelihood": "auto", "priors": None, "design": "auto"}
X = 1e18 * 2.0 ** np.arange(13)
T = np.linspace(0.0, 1.0, len(X))


def simulated(seed=0, rows=13, common=0.03, names=("c4", "code"), noise=0.001):
    """Losses whose logarithms depart from their laws by one common wave."""
    rng, found = np.random.default_rng(seed), {}
    for number, name in enumerate(names):
        wave = common * (1.0 + 0.3 * number) * np.sin(9.0 * T)
        log = np.log(1.7 - 0.3 * number + 1.5 * (X / 1e19) ** -0.15) + wave + noise * rng.standard_normal(len(X))
        table = pd.DataFrame({"flops": X, "loss": np.exp(log), "run": [f"r{i}" for i in range(len(X))]})
        found[name] = bs.Runs.from_frame(table[:rows], name=name)
    return found


def renewed(runs, **columns):
    return dataclasses.replace(runs, frame=runs.frame.assign(**columns))


@pytest.fixture(scope="module")
def joint():
    return bs.fit_metrics(simulated(rows=10), LAW, seed=0, settings=SETTINGS)


@pytest.fixture(scope="module")
def links():
    """Correlations of two metrics, of discrepancies and of noise."""
    return Links(jnp.array([[1.0, 0.8], [0.8, 1.0]]), jnp.array([[1.0, -0.4], [-0.4, 1.0]]))


# --- Density -------------------------------------------------------------------------------------------------


def spread_of():
    return Spread(*map(jnp.asarray, ([0.003, 0.002], [0.001, 0.0015], [0.05, 0.08], [1.0, 0.5])))


@pytest.mark.parametrize("kind", ["complete", "missing", "replicated", "checkpoints"])
def test_the_density_is_that_of_one_normal_distribution(kind, links):
    metrics = simulated(rows=9)
    if kind == "missing":
        metrics["code"] = metrics["code"].select([0, 1, 3, 4, 6])
    if kind == "replicated":
        metrics = {name: renewed(runs, flops=np.repeat(X[:5], 2)[:9]) for name, runs in metrics.items()}
    if kind == "checkpoints":
        metrics = {name: renewed(runs, run=np.repeat(["a", "b", "c"], 3)) for name, runs in metrics.items()}
    plan = plan_metrics(metrics, LAW, **OPTIONS)
    rows, spread, job = plan.joint.rows, spread_of(), plan.jobs[0][0]
    assert plan.joint.complete == (kind == "complete")
    with jax.enable_x64(True):
        missed = np.asarray(plan.joint.mask) * (np.asarray(plan.joint.y) - 0.01)

        @jax.jit
        def density(missed):
            between = covariances_of(spread, links)
            return log_likelihood(missed, between, factorise(between, plan.joint), plan.joint)

        z = plan.joint.z[:rows]
        place = axis_positions(job.model.law, job.problem, job.low, z)
        names = metrics["c4"].frame["run"].to_numpy()
        settings = np.eye(rows) if kind == "checkpoints" else np.abs(z - z.T) < 1e-9
        parts = [
            (spread.amplitude, links.discrepancy, kernel(place, place, job.model.discrepancy)),
            (spread.residual_sd, links.noise, settings),
            (spread.seed_sd, links.noise, names[:, None] == names),
            (np.sqrt(spread.level), np.eye(2), np.ones((rows, rows))),
        ]
        whole = sum(np.kron(np.outer(sd, sd) * np.asarray(link), between) for sd, link, between in parts)
        seen = np.flatnonzero(np.asarray(plan.joint.mask)[:, :rows].ravel())
        whole = whole[np.ix_(seen, seen)] + SMALLEST_SCATTER**2 * np.eye(len(seen))
        wanted = multivariate_normal(cov=whole).logpdf(missed[:, :rows].ravel()[seen])
        assert float(density(missed)) == pytest.approx(wanted, rel=1e-7)


@pytest.mark.slow
def test_scores_change_the_density_by_their_determinant():
    plan = plan_metrics(simulated(), LAW, **OPTIONS)
    with jax.enable_x64(True):
        parts = begin_component(plan, 0, 0, SETTINGS)
        first = np.asarray(first_scores(parts, plan.joint, False))

        def reparam(scores):
            return jnp.concatenate(read_scores(scores, parts, plan.joint, False).reparam)

        @jax.jit
        def apart(scores):
            single = jnp.linalg.slogdet(jax.jacfwd(reparam)(scores))[1]
            for job, own in zip(plan.jobs[0], jnp.split(reparam(scores), 2), strict=True):
                vector, change = reparam_to_unconstrained(own, job.model, job.problem)
                single += log_density(vector, job.model, job.problem) + change
            return -joint_potential(scores, parts, plan.joint, False) - single

        rng = np.random.default_rng(0)
        found = [float(apart(jnp.asarray(first + 0.3 * rng.standard_normal(len(first))))) for _ in range(3)]
    # Independent metrics have the density of the fits of each alone.
    assert np.ptp(found) < 1e-6


@pytest.mark.parametrize("metrics", [2, 4])
def test_correlations_have_their_prior(metrics):
    below = np.tril_indices(metrics, -1)
    with jax.enable_x64(True):

        @jax.jit
        def apart(scores):
            matrix, density = read_correlation(scores, metrics)
            change = jnp.linalg.slogdet(jax.jacfwd(lambda one: read_correlation(one, metrics)[0][below])(scores))[1]
            return density - change - dist.LKJ(metrics, 1.0).log_prob(matrix)

        rng = np.random.default_rng(0)
        found = [float(apart(rng.standard_normal(len(below[0])))) for _ in range(3)]
    assert np.ptp(found) < 1e-9


# --- Forecasts -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_metrics_inform_each_other(joint):
    truth = {name: runs.frame["loss"].iloc[-1] for name, runs in simulated().items()}
    at = {"flops": X[-1]}
    free, given = joint.predict(at), joint.predict(at, given={"c4": truth["c4"]})
    assert list(free) == ["c4", "code"] and list(given) == ["code"]
    widths = [float(np.ptp(np.log(forecast["code"].interval(0.8)))) for forecast in (free, given)]
    assert widths[1] < 0.8 * widths[0]
    draws = free["c4"].location.shape[0]
    assert free.worth == draws and np.isnan(free.pareto_k)
    assert 50.0 < given.worth < draws
    # A low loss of one metric makes a low loss of the other likelier.
    low, high = (joint.predict(at, given={"c4": value})["code"].quantile(0.5) for value in free["c4"].interval(0.5))
    assert low < high


@pytest.mark.slow
def test_draws_belong_together(joint):
    forecast = joint.predict(flops=X[-1])
    draws = [forecast[name].log_draws.ravel() for name in joint.names]
    assert np.corrcoef(draws)[0, 1] > 0.2
    targets = {name: float(forecast[name].quantile(0.5)[0]) for name in joint.names}
    both = joint.probability_all(targets, flops=X[-1])
    assert both.shape == (1,) and 0.28 < both[0] < 0.5
    assert forecast.probability_all({"c4": targets["c4"]})[0] == pytest.approx(0.5, abs=0.05)
    for name, own in zip(joint.names, draws, strict=True):
        # Draws agree with the normal distributions of which the quantiles are.
        stated = np.log(forecast[name].quantile([0.1, 0.5, 0.9])[:, 0])
        assert np.abs(np.quantile(own, [0.1, 0.5, 0.9]) - stated).max() < 0.2 * np.ptp(stated)


@pytest.mark.slow
def test_uncorrelated_metrics_are_forecast_as_alone(joint):
    """The same draws without correlations give the forecasts of the fit of each metric."""
    part = joint.components[0]
    alone = Links(*(np.broadcast_to(np.eye(2), link.shape) for link in part.links))
    part = draw_levels(part._replace(links=alone), joint.plan.joint, np.arange(2))
    apart = MetricsPosterior(joint.plan, (part,), 0, joint.settings)
    at = {"flops": [X[2], 3.3 * X[2], X[-1]]}
    for kind in ("run", "mean"):
        found = apart.predict(at, kind=kind)
        for name in joint.names:
            wanted = np.log(apart.fits[name].predict(at, kind=kind).quantile([0.1, 0.5, 0.9]))
            gap = np.abs(np.log(found[name].quantile([0.1, 0.5, 0.9])) - wanted)
            assert (gap.max(0) < 0.12 * np.ptp(wanted, axis=0)).all(), (kind, name)


@pytest.mark.slow
def test_given_values_count_jointly(joint):
    """The mean curve of a given metric moves towards its measurement, at one point and at several."""
    at = {"flops": X[-2:]}
    high = joint.predict(at, kind="mean")["c4"].quantile(0.9)
    moved = joint.predict(at, kind="mean", given={"c4": high})["c4"].quantile(0.5)
    before = joint.predict(at, kind="mean")["c4"].quantile(0.5)
    assert (np.abs(np.log(moved / high)) < 0.3 * np.abs(np.log(before / high))).all()


@pytest.mark.slow
def test_tables_and_texts(joint):
    table = joint.correlations()
    assert list(table["of"]) == ["discrepancy", "noise"]
    assert ((table["low"] < table["median"]) & (table["median"] < table["high"])).all()
    summary = joint.summary()
    assert set(summary["metric"]) == {"c4", "code"} and "E" in summary.index
    assert "10 losses" in str(joint) and "discrepancy of c4 and code" in repr(joint)
    told = repr(joint.predict(flops=X[-1], given={"c4": 2.2}))
    assert "Given c4 2.2" in told
    assert set(joint.predict(flops=X[-1]).to_frame()["metric"]) == {"c4", "code"}
    assert len(joint) == 2 and list(joint) == ["c4", "code"]


# --- Input ---------------------------------------------------------------------------------------------------


def test_rows_match_by_name_and_else_by_inputs():
    metrics = simulated()
    turned = {"c4": metrics["c4"], "code": metrics["code"].select(np.arange(12, -1, -1))}
    plain = {name: dataclasses.replace(runs, frame=runs.frame.drop(columns="run")) for name, runs in turned.items()}
    wanted = plan_metrics(metrics, LAW, **OPTIONS).joint
    for given in (turned, plain):
        found = plan_metrics(given, LAW, **OPTIONS).joint
        assert found.complete and np.allclose(found.y, wanted.y) and np.allclose(found.z, wanted.z)


def test_priors_are_those_of_a_fit_alone():
    metrics = simulated()
    plan = plan_metrics(metrics, "auto", **OPTIONS)
    for jobs in zip(*plan.jobs, strict=True):
        for job, wanted in zip(jobs, make_jobs(jobs[0].runs), strict=True):
            pairs = zip(*(jax.tree.leaves((one.model, one.problem)) for one in (job, wanted)), strict=True)
            assert all(np.allclose(found, leaf) for found, leaf in pairs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: {"c4": m["c4"]}, "takes 2 to 8 metrics"),
        (lambda m: m | {"code": m["code"].select([0, 1])}, "shares 2 rows with another metric"),
        (lambda m: m | {"code": renewed(m["code"], flops=3.0 * X)}, "Run r0 has other values of flops in c4"),
        (
            lambda m: {
                name: dataclasses.replace(
                    r, frame=r.frame.assign(flops=X[0] * 2.0 ** (np.arange(13) // 2)).drop(columns="run")
                )
                for name, r in m.items()
            },
            "Give each run a name",
        ),
        (lambda m: m | {"code": dataclasses.replace(m["code"], value=bs.ValueScale())}, "code holds a value"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change, message):
    with pytest.raises(bs.InputError, match=message):
        bs.fit_metrics(change(simulated()), LAW, seed=0)


@pytest.mark.slow
def test_options_that_do_not_suit_are_refused(joint):
    metrics = simulated()
    for law, message in (
        ({"c4": LAW}, "code has none"),
        ({"c4": LAW, "code": LAW, "cod": LAW}, "Did you mean 'code'"),
    ):
        with pytest.raises(bs.InputError, match=message):
            bs.fit_metrics(metrics, law, seed=0)
    with pytest.raises(bs.InputError, match="normal likelihood only"):
        bs.fit_metrics(metrics, LAW, likelihood="student", seed=0)
    for given, message in (
        ({"cod": 2.0}, "Did you mean 'code'"),
        ({"c4": [2.0, 2.1]}, "one positive loss for each of 1 point"),
        ({"c4": -1.0}, "one positive loss"),
        ({"c4": 2.0, "code": 2.0}, "none is left"),
    ):
        with pytest.raises(bs.InputError, match=message):
            joint.predict(flops=X[-1], given=given)
    with pytest.raises(bs.InputError, match="no forecast of 'cod'"):
        joint.probability_all({"cod": 2.0}, flops=X[-1])


# --- Calibration ---------------------------------------------------------------------------------------------


def truth_of(plan, rng, correlation=None, ahead=3.0):
    """Draw correlations, parameters, levels and losses of rows and one new point from the prior.

    Both correlations may be given instead.
    """
    joint, jobs = plan.joint, plan.jobs[0]
    rows = joint.rows
    links = [2.0 * rng.random() - 1.0 if correlation is None else correlation for _ in range(2)]
    drawn = [simulate_prior(jax.random.key(int(rng.integers(2**31))), job.model, job.problem)[1] for job in jobs]
    z = np.concatenate([joint.z[:rows], np.log(X[-1:, None] * ahead / jobs[0].reference)])
    job = jobs[0]
    place = axis_positions(job.model.law, job.problem, job.low, z)
    whole, fresh = kernel(place, place, job.model.discrepancy), np.zeros((rows + 1, rows + 1))
    fresh[rows:, rows:] = innovation_kernel(place[rows:], place[:rows], job.model.discrepancy)
    factor = job.model.discrepancy.median_factor(rows) * np.exp(float(job.model.discrepancy.ahead) * rng.normal())
    whole = whole + (factor**2 - 1.0) * fresh
    roots = [np.linalg.cholesky(np.array([[1.0, r], [r, 1.0]])) for r in links]
    paths = np.linalg.cholesky(whole + 1e-13 * np.eye(len(z))) @ rng.standard_normal((len(z), 2)) @ roots[0].T
    noise = [rng.standard_normal((len(z), 2)) @ roots[1].T for _ in range(2)]
    y = np.zeros((2, len(z)))
    for m, (job, values) in enumerate(zip(jobs, drawn, strict=True)):
        constants = {name: np.asarray(value)[None] for name, value in values.constants.items()}
        law = law_at(job.model, constants, z)[0] + rng.normal() * np.sqrt(float(level_variance(job.model)))
        y[m] = law + float(values.amplitude) * paths[:, m]
        y[m] += float(values.residual_sd) * noise[0][:, m] + float(values.seed_sd) * noise[1][:, m]
    return links, y


def simulate_ranks(count, first=0, correlation=None, ahead=3.0):
    """Fit data sets from the model; return PIT values of R, Q and forecasts, and log scores of two forecasts.

    The forecast of one metric given the other is compared with that of the wrong version, which takes metrics for
    independent, so that nothing is learned from the given one.
    """
    plan = plan_metrics(simulated(), LAW, **OPTIONS)
    rows, found = plan.joint.rows, []
    at = {"flops": ahead * X[-1]}
    center = [float(job.problem.center) for job in plan.jobs[0]]
    for number in range(first, first + count):
        rng = np.random.default_rng([number, 5])
        with jax.enable_x64(True):
            links, y = truth_of(plan, rng, correlation, ahead)
        joint = fit_plan(plan.with_responses(y[:, :rows]), number, SETTINGS)
        drawn = joint.components[0].links
        new = np.exp(y[:, rows] + center)
        row = {
            f"R{i}": float((part[..., 0, 1] < true).mean())
            for i, (part, true) in enumerate(zip(drawn, links, strict=True))
        }
        free = joint.predict(at)
        row |= {name: float(free[name].probability_below(value)[0]) for name, value in zip(free, new, strict=True)}
        given = joint.predict(at, given={"c4": new[0]})
        row |= {"given": float(given["code"].probability_below(new[1])[0]), "worth": given.worth}
        parts = {"right": given["code"], "wrong": free["code"]}
        row |= {name: log_score(y[1, rows:] + center[1], part.location, part.scale)[0] for name, part in parts.items()}
        row |= {f"{name} width": float(np.ptp(np.log(part.interval(0.8)))) for name, part in parts.items()}
        row["status"] = joint.status.name
        found.append(row)
    return pd.DataFrame(found)


def uniform(values):
    """Return the p-value of the hypothesis that values are uniform between 0 and 1."""
    return float(kstest(values, "uniform").pvalue)


@pytest.mark.slow
@pytest.mark.long
def test_ranks_are_uniform_in_simulated_data():
    ranks = simulate_ranks(100)
    for name in ("R0", "R1", "c4", "code", "given"):
        assert uniform(ranks[name]) > 0.002, name


@pytest.mark.slow
@pytest.mark.long
def test_independent_metrics_are_found_out_by_conditional_forecasts():
    # Near the data, where noise and discrepancy are the larger part of the uncertainty.
    ranks = simulate_ranks(25, correlation=0.95, ahead=1.3)
    # If metrics were independent, errors of one would say nothing about those of the other.
    assert spearmanr(ranks["c4"], ranks["code"]).pvalue < 0.002
    assert spearmanr(ranks["c4"], ranks["given"]).pvalue > 0.01


@pytest.mark.slow
@pytest.mark.long
def test_independent_metrics_have_the_forecasts_of_single_fits():
    metrics = simulated(rows=10)
    plan = plan_metrics(metrics, "auto", **OPTIONS)
    joint = fit_plan(plan, 0, bs.Nuts(draws=1000), linked=False)
    at = {"flops": [X[-1], 10.0 * X[-1]]}
    found = joint.predict(at)
    for name, runs in metrics.items():
        wanted = np.log(bs.fit(runs, seed=1, settings=bs.Nuts(draws=1000)).predict(at).quantile([0.1, 0.5, 0.9]))
        gap = np.abs(np.log(found[name].quantile([0.1, 0.5, 0.9])) - wanted)
        assert (gap.max(0) < 0.1 * np.ptp(wanted, axis=0)).all()
    assert share(bs.Nuts(), 0.5).chains == 2 and link_length(2, False) == 0
