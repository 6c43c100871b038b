"""The model as an ordinary NumPyro function of the raw rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Unpack

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
from numpyro.handlers import scope

from bayescale._record import Array, record
from bayescale.checked import handing_on
from bayescale.data.design import Design, reduce_runs, referred
from bayescale.data.runs import Runs
from bayescale.data.score import score_columns
from bayescale.data.value import value_columns
from bayescale.errors import InputError
from bayescale.laws.law import Law
from bayescale.model.choice import plateaus
from bayescale.model.density import offset, within_likelihood
from bayescale.model.discrepancy import innovation_kernel, kernel
from bayescale.model.evaluations import Dense
from bayescale.model.evaluations.counts import beta_parameters, empty, log_shares, range_of
from bayescale.model.level import level_variance, marginal_level
from bayescale.model.options import ModelOptions
from bayescale.model.parameters import coordinates, draw, relative_curve
from bayescale.model.prepare import axis_positions, make_jobs, mixture_weights
from bayescale.model.problem import RANGE, SAME_DIGITS, Job, Model, Problem, Values, row_variance, share_residuals
from bayescale.model.score_range import draw_range

DETAILS = ("value_se", "run", "seed", "n_items")
"""Columns of runs that the likelihood uses besides inputs and response."""
JITTER = 1e-12
"""Added to the diagonal of covariances, relative to the largest variance, so that they can be factorised."""


@handing_on(ModelOptions.__annotations__)
def numpyro_model(runs: Runs, law: str | Law = "auto", **options: Unpack[ModelOptions]) -> Callable[..., None]:
    """Return the model that `fit` samples as an ordinary NumPyro function `model(x=None, y=None)`.

    It is written for the raw rows (for long curves, their averages) with one dense covariance, so it is slow and easy
    to check; `fit` samples the same posterior.

    - `model()` observes the runs. Pass it to `MCMC(NUTS(model))` or to any other NumPyro tool. Plain NUTS starts from
      the prior, needs a thousand warm-up steps or more, and diverges occasionally: check R-hat.
    - `model(x, y)` observes responses `y` at inputs `x` instead of the runs; spans, references and priors stay those of
      `runs`.
    - `model(x)` forecasts at inputs `x` given the runs, for `Predictive(model, samples)`. Site "y" is the response of
      one future run at each row, site "mean" the law with discrepancy, both of shape (row,).

    `x` is a mapping or frame with the law's inputs (for `model(x, y)` also value_se, run and seed, if the rows have
    them), or an array of shape (row, input); `y` has shape (row,), in the units of the response.

    For scores, site "right" observes the counts of right items, and site "latent" has the standardised log odds of the
    runs. For `model(x, y)`, numbers of items are given in `x` as `n_items`; by default they equal that of the first
    run.

    A law that is fitted as a mixture, such as the default for one input, gives independent components. The names of
    their sites begin with their shape, such as "present." and "absent." (see `bs.Plateaus`). Each component observes
    the runs, so each has its own posterior; a forecast comes from one component, drawn with the weights of the mixture.

    Args:
        runs: Runs of one family.
        law: A law or its name, see `fit`.
        **options: Options of the model: discrepancy, likelihood and priors, see `fit`.

    Raises:
        InputError: For runs to which the law cannot be fitted.

    Example:
        >>> from numpyro.infer import MCMC, NUTS, Predictive  # doctest: +SKIP
        >>> model = bs.numpyro_model(runs)  # doctest: +SKIP
        >>> mcmc = MCMC(NUTS(model), num_warmup=1000, num_samples=1000)  # doctest: +SKIP
        >>> mcmc.run(jax.random.key(0))  # doctest: +SKIP
        >>> Predictive(model, mcmc.get_samples())(jax.random.key(1), {"flops": [1e22]})["y"]  # doctest: +SKIP
    """
    jobs = make_jobs(runs, law, **options)
    if len(jobs) == 1:
        return component_model(jobs[0])
    parts = {component_name(job.law): component_model(job) for job in jobs}
    weights = jnp.array(mixture_weights(jobs))

    def model(x: Any = None, y: Any = None) -> None:
        forecasts = []
        for name, part in parts.items():
            with scope(prefix=name, divider="."):
                forecasts.append(part(x, y))
        if x is None or y is not None:
            return
        which = numpyro.sample("component", dist.Categorical(weights))
        for site in Future._fields:
            numpyro.deterministic(site, jnp.stack([getattr(future, site) for future in forecasts])[which])

    return model


def component_name(law: Law) -> str:
    """Return the name of a mixture's component, with which the names of its sites begin."""
    found = plateaus(law)
    assert found is not None, "a law with a plateau"
    return found[1].plateau


class Future(NamedTuple):
    """Forecast sites: the law with its discrepancy, and one future run; shape (row,) each, in units of the response."""

    mean: Any
    y: Any


def component_model(job: Job) -> Callable[..., Future | None]:
    """Return the NumPyro function of one model; see `numpyro_model`."""
    own = raw_problem(job, job.runs)
    sites = {name.split("[")[0] for name in coordinates(job.model, own)}

    def model(x: Any = None, y: Any = None) -> Future | None:
        seen = own if y is None else raw_problem(job, observed_runs(job, x, y))
        values = draw(numpyro.sample, job.model, own if x is None or y is None else seen)
        shown = values.constants | {name: getattr(values, name) for name in RANGE}
        for name, value in shown.items():
            if name not in sites and not empty(value):
                numpyro.deterministic(name, value)
        seen = observe(values, job.model, seen)
        return None if x is None or y is not None else forecast(values, job, seen, input_table(job, x))

    return model


@record
class DenseCounts(Dense):
    """Likelihood of rows that are counts of correct items; every array has shape (row,). See `evaluations.counts`."""

    right: Array
    items: Array
    chance: Array
    ceiling: Array
    chance_sd: Array | None = None
    ceiling_sd: Array | None = None

    def draw_range(self, sample: Callable[..., Any]) -> tuple[Any, Any]:
        """See `Evaluation.draw_range`."""
        return draw_range(sample, self.chance, self.ceiling, self.chance_sd, self.ceiling_sd)


def observe(values: Values, model: Model, problem: Problem) -> Problem:
    """Add the sites of observed rows, "log_y": ln of the response minus the mean of the fitted runs.

    Returns:
        The problem with the response of the rows in this draw; for scores, the sampled log odds.
    """
    assert isinstance(problem.evaluation, Dense), "a problem of raw rows"
    mean = offset(model, problem, values)
    covariance = problem.evaluation.row_covariance(values, problem)
    if isinstance(problem.evaluation, DenseCounts):
        return observe_counts(values, problem, problem.evaluation, mean, covariance)
    if model.likelihood.tail is None or problem.latent:
        if marginal_level(model):
            covariance = covariance + level_variance(model)
        numpyro.sample("log_y", dist.MultivariateNormal(mean, covariance), obs=problem.y)
        if problem.latent:
            numpyro.factor("replicates", within_likelihood(values, problem))
        return problem
    groups = list({tuple(row): None for row in np.asarray(problem.evaluation.alike)})
    for number, members in enumerate(groups):
        rows = np.flatnonzero(members)
        factor = jnp.linalg.cholesky(covariance[np.ix_(rows, rows)])
        spread = dist.MultivariateStudentT(model.likelihood.tail, mean[rows], factor)
        numpyro.sample(f"log_y_{number}", spread, obs=problem.y[rows])
    return problem


def observe_counts(values: Values, problem: Problem, counts: DenseCounts, mean: Any, covariance: Any) -> Problem:
    """Add the sites of scores; return the problem with the log odds of its rows as response.

    Args:
        values: Constrained values, which have the range of the score if it is sampled.
        problem: The raw rows.
        counts: Evaluation of these rows.
        mean: ln of the law plus level at these rows, minus the centre, shape (row,).
        covariance: Covariance of their log odds, shape (row, row).
    """
    scores = numpyro.sample("latent", dist.Normal(0.0, 1.0).expand([len(problem.y)]).to_event(1))
    log_odds = mean + jnp.linalg.cholesky(covariance) @ jnp.asarray(scores)
    right, wrong = log_shares(problem.center + log_odds, *range_of(values, counts.chance, counts.ceiling))
    # Averages of checkpoints have fractional numbers of right items.
    items = jnp.round(counts.items).astype(int)
    spread: Any = dist.Binomial(items, logits=right - wrong)
    if not empty(values.concentration):
        spread = dist.BetaBinomial(*beta_parameters(right, wrong, values.concentration), total_count=items)
    numpyro.sample("right", spread, obs=jnp.round(counts.right).astype(int))
    return dataclasses.replace(problem, y=log_odds)


def raw_problem(job: Job, runs: Runs) -> Problem:
    """Return runs as rows without padding and with dense matrices, whatever evaluation the fit chose.

    Args:
        job: The job, which has spans, reference and centre.
        runs: The job's own runs, or others with the same inputs.
    """
    # Student-t noise with discrepancy has one precision for each setting, so replicates stay merged.
    design = reduce_runs(runs, collapse=job.problem.latent, exempt=job.law.exempt, one_scale=True)
    design = referred(design, job.reference, job.problem.center)
    z, rows = design.z, len(design.y)
    covariance = np.zeros((rows, rows))
    if job.model.discrepancy is not None:
        point = axis_positions(job.model.law, job.problem, job.low, z)
        covariance = kernel(point, point, job.model.discrepancy)
    return dataclasses.replace(
        job.problem,
        z=z,
        y=design.y,
        mask=np.ones(rows),
        count=np.asarray(design.count, float),
        squares=np.asarray(design.squares, float),
        error=np.asarray(design.error, float),
        seed_part=np.diag(design.shared),
        single=np.asarray(design.single, float),
        evaluation=raw_evaluation(design, covariance),
        replicated=bool(np.max(design.count) > 1),
    )


def raw_evaluation(design: Design, covariance: np.ndarray) -> Dense:
    """Return the evaluation of raw rows.

    `covariance` is that of a discrepancy with unit amplitude, shape (row, row).
    """
    shared, alike = np.asarray(design.shared, float), np.asarray(design.alike, float)
    found = design.counted
    if found is None:
        return Dense(covariance, shared, alike, None)
    ends = np.asarray(found.chance, float), np.asarray(found.ceiling, float)
    sds = found.chance_sd, found.ceiling_sd
    return DenseCounts(covariance, shared, alike, None, found.right, found.items, *ends, *sds)


def input_table(job: Job, x: Any) -> pd.DataFrame:
    """Return the inputs of a law as a table, one row a setting.

    Raises:
        InputError: For a missing input, an array of another shape, or values that are not positive numbers.
    """
    names = list(job.law.inputs)
    x = x.frame if isinstance(x, Runs) else x
    if isinstance(x, Mapping | pd.DataFrame):
        if absent := [name for name in names if name not in x]:
            raise InputError(f"x needs the inputs {', '.join(names)}; {', '.join(absent)} is missing.")
        table = pd.DataFrame({name: np.atleast_1d(x[name]) for name in [*names, *(d for d in DETAILS if d in x)]})
    else:
        rows = np.asarray(x, float)
        rows = rows.reshape(-1, 1) if rows.ndim < 2 and len(names) == 1 else rows
        if rows.ndim != 2 or rows.shape[1] != len(names):
            raise InputError(f"x must have shape (row, {len(names)}) for {', '.join(names)}; found {rows.shape}.")
        table = pd.DataFrame(rows, columns=names)
    values = table[names].to_numpy(float)
    if not (np.isfinite(values) & (values > 0)).all():
        raise InputError(f"x must hold positive numbers for {', '.join(names)}.")
    return table


def observed_runs(job: Job, x: Any, y: Any) -> Runs:
    """Return the rows that are observed instead of the runs.

    Raises:
        InputError: For inputs and responses that do not match.
    """
    table = job.runs.frame if x is None else input_table(job, x)
    if len(table) != np.size(y):
        raise InputError(f"x and y must have equally many rows; found {len(table)} and {np.size(y)}.")
    table = table.assign(family=job.runs.families[0])
    if job.runs.score is not None:
        items = None if "n_items" in table else float(job.runs.frame["n_items"].iloc[0])
        found, _ = score_columns(table.assign(score=np.asarray(y, float)), job.runs.score, items, np.arange(len(table)))
        return dataclasses.replace(job.runs, frame=table.assign(**found))
    if job.runs.value is not None:
        return dataclasses.replace(job.runs, frame=table.assign(**value_columns(np.asarray(y, float), job.runs.value)))
    return dataclasses.replace(job.runs, frame=table.assign(loss=np.asarray(y, float)))


def forecast(values: Values, job: Job, problem: Problem, table: pd.DataFrame) -> Future:
    """Add the sites of a forecast given the observed rows.

    Args:
        values: Constrained values.
        job: The job.
        problem: Raw rows of the job.
        table: Inputs of the future runs.
    """
    model, z = job.model, np.log(table[list(job.law.inputs)].to_numpy(float) / job.reference)
    residual = problem.y - offset(model, problem, values)
    base: Any = 0.0 if job.law.level else -problem.center
    if marginal_level(model):
        level = sample_level(values, model, problem, residual)
        residual, base = residual - level, base + level
    elif job.law.level:
        base = values.level
    law = relative_curve(model.law, values.constants, z) + base
    departure = sample_discrepancy(values, job, problem, residual, z)
    points = match_settings(problem, z)
    stretch = jnp.ones(len(z))
    if model.likelihood.tail is not None:
        half = 0.5 * model.likelihood.tail
        precision = numpyro.sample("precision_new", dist.Gamma(half, half).expand([points.settings]).to_event(1))
        stretch = jnp.where(points.seen.any(1), 1.0, 1.0 / jnp.sqrt(jnp.asarray(precision)[points.setting]))
    common = sample_common_residual(values, problem, residual, departure, points, stretch)
    spread = stretch * jnp.sqrt(values.seed_sd**2 + problem.single)
    log_y = numpyro.sample("log_y_new", dist.Normal(problem.center + law + departure + common, spread).to_event(1))

    def response(log: Any) -> Any:
        if (value := job.runs.value) is not None:
            return value.middle + value.sign * value.unit * log
        if not isinstance(problem.evaluation, DenseCounts):
            return jnp.exp(log)
        ends = range_of(values, problem.evaluation.chance, problem.evaluation.ceiling)
        return jnp.exp(log_shares(log, *ends)[0])

    mean = numpyro.deterministic("mean", response(problem.center + law + departure))
    run = response(log_y)
    if not empty(values.concentration):
        first, second = beta_parameters(jnp.log(run), jnp.log1p(-run), values.concentration)
        run = numpyro.sample("score_new", dist.Beta(first, second).to_event(1))
    return Future(mean, numpyro.deterministic("y", run))


class Points(NamedTuple):
    """Settings of new points, and which fitted rows are at the same settings.

    Attributes:
        setting: Index of each point's setting, shape (point,).
        settings: Number of settings.
        seen: Whether a fitted row is at the setting of a point and shares its residual, shape (point, row).
    """

    setting: np.ndarray
    settings: int
    seen: np.ndarray


def match_settings(problem: Problem, z: np.ndarray) -> Points:
    """Return which new points, shape (point, input), have equal settings, and which fitted rows have them."""
    setting = np.unique(np.round(z, SAME_DIGITS), axis=0, return_inverse=True)[1].ravel()
    same = np.abs(z[:, None, :] - np.asarray(problem.z)[None]).max(-1) < 0.1**SAME_DIGITS
    return Points(setting, int(setting.max()) + 1, same & share_residuals(problem))


def sample_level(values: Values, model: Model, problem: Problem, residual: Any) -> Any:
    """Add the site of the level, given the observed rows."""
    assert isinstance(problem.evaluation, Dense), "a problem of raw rows"
    solved = jnp.linalg.solve(
        problem.evaluation.row_covariance(values, problem), jnp.stack([residual, jnp.ones_like(residual)], axis=1)
    )
    precision = 1.0 / level_variance(model) + solved[:, 1].sum()
    return numpyro.sample("level", dist.Normal(solved[:, 0].sum() / precision, 1.0 / jnp.sqrt(precision)))


def sample_discrepancy(values: Values, job: Job, problem: Problem, residual: Any, z: np.ndarray) -> Any:
    """Add the sites of the discrepancy at new points, given the observed rows; return it, shape (point,).

    Innovations beyond the data have an additional factor and a trend; see `Discrepancy`.
    """
    model, discrepancy = job.model, job.model.discrepancy
    if discrepancy is None:
        return jnp.zeros(len(z))
    assert isinstance(problem.evaluation, Dense), "a problem of raw rows"
    rows = np.asarray(problem.z)
    old, new = (axis_positions(model.law, job.problem, job.low, part) for part in (rows, z))
    square = values.amplitude**2
    cross = square * kernel(new, old, discrepancy)
    covariance = problem.evaluation.row_covariance(values, problem)
    solved = jnp.linalg.solve(covariance, jnp.concatenate([residual[:, None], cross.T], axis=1))
    fresh = innovation_kernel(new, old, discrepancy)
    spread = square * (kernel(new, new, discrepancy) - fresh) - cross @ solved[:, 1:]
    score = numpyro.sample("ahead_score", dist.Normal(0.0, 1.0))
    factor = discrepancy.median_factor(job.problem.rows) * jnp.exp(discrepancy.ahead * score)
    edge = np.minimum(z, rows.max(0))
    curve = relative_curve(model.law, values.constants, np.concatenate([z, edge]))
    onward = jnp.sign(curve[: len(z)] - curve[len(z) :])
    moved = discrepancy.trend * onward * factor * values.amplitude * np.sqrt(np.maximum(np.diag(fresh), 0.0))
    scores = numpyro.sample("discrepancy_score", dist.Normal(0.0, 1.0).expand([len(z)]).to_event(1))
    spread = spread + (factor * values.amplitude) ** 2 * fresh
    largest = JITTER * jnp.maximum(jnp.diagonal(spread).max(), 1e-12)
    root = jnp.linalg.cholesky(spread + largest * jnp.eye(len(z)))
    return cross @ solved[:, 0] + moved + root @ scores


def sample_common_residual(
    values: Values, problem: Problem, residual: Any, departure: Any, points: Points, stretch: Any
) -> Any:
    """Add the site of the residual that all runs at a setting share; return it, shape (point,).

    At settings that were already run, this residual is partly known.
    """
    square, seen = values.residual_sd**2, points.seen
    own = row_variance(values, problem) - square
    precision = jnp.where(seen, values.weights / own, 0.0)
    total = precision.sum(1)
    scatter = square * jnp.where(
        seen.any(1), seen.sum(1) / jnp.maximum(jnp.where(seen, values.weights, 0.0).sum(1), 1e-12), 1.0
    )
    share = jnp.where(seen.any(1), scatter / (scatter + 1.0 / jnp.where(total > 0, total, 1.0)), 0.0)
    shown = jnp.where(seen.any(1), (precision * residual).sum(1) / jnp.where(total > 0, total, 1.0), 0.0)
    scores = numpyro.sample("residual_score", dist.Normal(0.0, 1.0).expand([points.settings]).to_event(1))
    return (
        share * (shown - departure) + stretch * jnp.sqrt(scatter * (1.0 - share)) * jnp.asarray(scores)[points.setting]
    )
