"""Joint forecasts of several metrics of the same runs, given the fitted runs and metrics of the new run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from bayescale import checked
from bayescale.checked import known_keywords
from bayescale.errors import InputError, counted, nearest
from bayescale.forecast import Forecast
from bayescale.inference.importance import resample, smoothed
from bayescale.model.discrepancy import innovation_kernel, kernel
from bayescale.model.evaluations.dense import MOST_ELEMENTS
from bayescale.model.level import level_variance
from bayescale.model.likelihood import SMALLEST_SCATTER
from bayescale.model.prepare import axis_positions
from bayescale.model.problem import SAME_DIGITS, Job
from bayescale.pooling.metrics_plan import Joint
from bayescale.posterior.predictive import law_at, trend_ahead

if TYPE_CHECKING:
    from jaxtyping import Float

    from bayescale.pooling.metrics_fit import Component

JITTER = 1e-12
"""Added to the diagonal of a covariance, relative to its largest variance, so that it can be factorised."""
FEW_WORTH = 100.0
"""Effective number of draws below which a conditional forecast is reported as imprecise."""


class Spreads(NamedTuple):
    """Standard deviations and correlations of all metrics in draws with chains joined, leading axis draw.

    Attributes:
        amplitude: Amplitude of the discrepancy, shape (draw, metric).
        residual_sd: Shape (draw, metric).
        seed_sd: Shape (draw, metric).
        discrepancy: Correlations of the discrepancies, shape (draw, metric, metric).
        noise: Correlations of the noise of one run, shape (draw, metric, metric).
        factor: Factor on innovations ahead, one for all metrics, shape (draw,).
    """

    amplitude: Float[np.ndarray, "draw metric"]
    residual_sd: Float[np.ndarray, "draw metric"]
    seed_sd: Float[np.ndarray, "draw metric"]
    discrepancy: Float[np.ndarray, "draw metric metric"]
    noise: Float[np.ndarray, "draw metric metric"]
    factor: Float[np.ndarray, "draw"]


class Grid(NamedTuple):
    """Covariances between fitted rows, followed by new points, for standard deviations of one.

    Attributes:
        kernel: That of the discrepancy, shape (place, place).
        fresh: The part of `kernel` due to innovations ahead, shape (place, place).
        alike: That of residuals.
        shared: That of seed noise.
        level: Prior variance of each metric's level, shape (metric,).
    """

    kernel: np.ndarray
    fresh: np.ndarray
    alike: np.ndarray
    shared: np.ndarray
    level: np.ndarray


class Places(NamedTuple):
    """Quantities whose covariance is asked for.

    Attributes:
        metric: Index of the metric.
        point: Index among rows and new points.
        noisy: Whether it is a single run, instead of the curve.
    """

    metric: np.ndarray
    point: np.ndarray
    noisy: np.ndarray


def spreads_of(component: Component, rows: int) -> Spreads:
    """Return the standard deviations and correlations of all draws of a component."""
    fits = list(component.fits.values())
    flat = [fit.flat_values for fit in fits]
    draws = fits[0].unconstrained.shape[0] * fits[0].unconstrained.shape[1]
    amplitude, residual, seed = (
        np.stack([np.broadcast_to(np.asarray(getattr(values, name), float), draws) for values in flat], axis=1)
        for name in ("amplitude", "residual_sd", "seed_sd")
    )
    links = (part.reshape(-1, *part.shape[2:]) for part in component.links)
    found = fits[0].job.model.discrepancy
    factor = np.ones(draws) if found is None else found.factors(draws, rows)
    return Spreads(amplitude, residual, seed, *links, factor)


def grid_of(jobs: list[Job], joint: Joint, z: np.ndarray) -> Grid:
    """Return the covariances between the rows of a fit and new points, shape (point, input)."""
    job, rows, points = jobs[0], joint.rows, len(z)
    old, size = joint.z[:rows], rows + points
    whole, fresh, alike, shared = np.zeros((4, size, size))
    if job.model.discrepancy is not None:
        place = axis_positions(job.model.law, job.problem, job.low, np.concatenate([old, z]))
        whole = kernel(place, place, job.model.discrepancy)
        fresh[rows:, rows:] = innovation_kernel(place[rows:], place[:rows], job.model.discrepancy)
    alike[:rows, :rows], shared[:rows, :rows] = joint.alike[:rows, :rows], joint.shared[:rows, :rows]
    everywhere = np.concatenate([old if joint.settled else np.full_like(old, np.inf), z])
    with np.errstate(invalid="ignore"):
        same = np.abs(everywhere[:, None] - z[None]).max(-1) < 0.1**SAME_DIGITS
    alike[:, rows:], alike[rows:, :] = same, same.T
    # Every new point is a run of its own, with its own seed.
    shared[rows:, rows:] = np.eye(points)
    level = np.array([float(level_variance(job.model)) if job.model.law.level else 0.0 for job in jobs])
    return Grid(whole, fresh, alike, shared, level)


def covariance(spreads: Spreads, grid: Grid, left: Places, right: Places) -> np.ndarray:
    """Return the prior covariance of two sets of quantities in each draw, shape (draw, left, right)."""
    i, j = left.metric[:, None], right.metric
    p, q = left.point[:, None], right.point

    def pair(values: np.ndarray) -> np.ndarray:
        return values[:, left.metric, None] * values[:, None, right.metric]

    ahead = (spreads.factor**2 - 1.0)[:, None, None] * grid.fresh[p, q]
    found = spreads.discrepancy[:, i, j] * pair(spreads.amplitude) * (grid.kernel[p, q] + ahead)
    found += np.where(i == j, grid.level[i], 0.0)
    both = left.noisy[:, None] & right.noisy
    noise = pair(spreads.residual_sd) * grid.alike[p, q] + pair(spreads.seed_sd) * grid.shared[p, q]
    return found + both * spreads.noise[:, i, j] * noise


def seen_places(joint: Joint) -> tuple[Places, np.ndarray]:
    """Return the measured losses, and their known error variances."""
    metric, row = np.nonzero(joint.mask)
    return Places(metric, row, np.ones(len(row), bool)), joint.error[metric, row] + SMALLEST_SCATTER**2


def means_at(component: Component, joint: Joint, z: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Return ln of each law, minus the centre, at rows and new points, with the trend ahead, (draw, metric, place)."""
    rows, found = joint.rows, []
    for fit in component.fits.values():
        job, values = fit.job, fit.flat_values
        curve = law_at(job.model, values.constants, np.concatenate([joint.z[:rows], z]))
        drift = np.zeros((len(curve), len(z)))
        if job.model.discrepancy is not None and len(z):
            # Data end where the last run of any metric is.
            problem = dataclasses.replace(job.problem, z=np.asarray(joint.z[:rows]), mask=np.ones(rows))
            drift = trend_ahead(job.model, problem, job.low, values, curve, z, factor)
        mean = curve if job.model.law.level else curve - float(job.problem.center)
        found.append(np.concatenate([mean[:, :rows], mean[:, rows:] + drift], axis=1))
    return np.stack(found, axis=1)


class Moments(NamedTuple):
    """Normal distribution of quantities given the fitted losses in each draw.

    Attributes:
        mean: Shape (draw, quantity).
        covariance: Shape (draw, quantity, quantity).
    """

    mean: np.ndarray
    covariance: np.ndarray


def given_losses(spreads: Spreads, grid: Grid, joint: Joint, mean: np.ndarray, asked: Places) -> Moments:
    """Condition quantities on all fitted losses.

    Args:
        spreads: Some draws.
        grid: Covariances of rows and points.
        joint: The rows.
        mean: See `means_at`, for these draws.
        asked: The quantities.
    """
    seen, error = seen_places(joint)
    residual = joint.y[seen.metric, seen.point] - mean[:, seen.metric, seen.point]
    known = covariance(spreads, grid, seen, seen) + np.diag(error)
    cross = covariance(spreads, grid, asked, seen)
    solved = np.linalg.solve(known, np.concatenate([residual[..., None], cross.swapaxes(1, 2)], axis=2))
    found = cross @ solved
    return Moments(
        mean[:, asked.metric, asked.point] + found[..., 0],
        covariance(spreads, grid, asked, asked) - found[..., 1:],
    )


class Conditional(NamedTuple):
    """Forecast of all metrics in each draw of one component.

    Attributes:
        location: Mean of ln(loss), shape (draw, metric, point).
        scale: Standard deviation of ln(loss), shape (draw, metric, point).
        draws: Joint draws of ln(loss), shape (draw, metric, point).
        log_weight: Log density of the given metrics, shape (draw,).
    """

    location: np.ndarray
    scale: np.ndarray
    draws: np.ndarray
    log_weight: np.ndarray


def forecast_component(
    component: Component,
    joint: Joint,
    z: np.ndarray,
    kind: str,
    given: Mapping[int, np.ndarray],
    rng: np.random.Generator,
) -> Conditional:
    """Forecast all metrics at new points, in each draw of a component.

    Args:
        component: The draws.
        joint: The fitted rows.
        z: ln(x / reference) of the points, shape (point, input).
        kind: "mean" or "run".
        given: ln(loss) of measured metrics of the new runs by index of the metric, shape (point,) each.
        rng: Generator of the joint draws.
    """
    fits = list(component.fits.values())
    jobs, rows, points, metrics = [fit.job for fit in fits], joint.rows, len(z), len(fits)
    spreads = spreads_of(component, len(np.unique(np.round(joint.z[:rows], SAME_DIGITS), axis=0)))
    grid, mean = grid_of(jobs, joint, z), means_at(component, joint, z, spreads.factor)
    known = [number for number in range(metrics) if number in given]
    metric = np.repeat([*range(metrics), *known], points)
    point = np.tile(np.arange(rows, rows + points), metrics + len(known))
    noisy = np.arange(len(metric)) >= metrics * points
    asked = Places(metric, point, noisy | (kind == "run"))
    center = np.array([float(job.problem.center) for job in jobs])
    value = np.concatenate([given[number] - center[number] for number in known]) if known else np.zeros(0)
    size, draws = len(np.nonzero(joint.mask)[0]) + len(metric), len(mean)
    chunk = max(1, MOST_ELEMENTS // size**2)
    parts = []
    for first in range(0, draws, chunk):
        some = slice(first, first + chunk)
        own = Spreads(*(leaf[some] for leaf in spreads))
        moments = given_losses(own, grid, joint, mean[some], asked)
        parts.append(conditioned(moments, metrics * points, value, rng))
    whole = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
    location, scale, drawn = (part.reshape(draws, metrics, points) for part in whole[:3])
    return Conditional(location + center[:, None], scale, drawn + center[:, None], whole[3])


def conditioned(
    moments: Moments, count: int, value: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Condition the first quantities on values of the others.

    Args:
        moments: Normal distribution of all quantities in each draw.
        count: Number of the quantities to return.
        value: Values of the others.
        rng: Generator of the joint draws.

    Returns:
        Mean, standard deviation and joint draws of the first quantities, shape (draw, count), and the log density of
        the values, shape (draw,).
    """
    mean, whole = moments.mean[:, :count], moments.covariance[:, :count, :count]
    log_weight = np.zeros(len(mean))
    if len(value):
        gap = value - moments.mean[:, count:]
        own, cross = moments.covariance[:, count:, count:], moments.covariance[:, :count, count:]
        solved = np.linalg.solve(own, np.concatenate([gap[..., None], cross.swapaxes(1, 2)], axis=2))
        _, determinant = np.linalg.slogdet(own)
        log_weight = -0.5 * ((gap * solved[..., 0]).sum(1) + determinant + len(value) * np.log(2.0 * np.pi))
        found = cross @ solved
        mean, whole = mean + found[..., 0], whole - found[..., 1:]
    variance = np.maximum(np.diagonal(whole, axis1=1, axis2=2), 0.0)
    noise = rng.standard_normal(mean.shape)
    return mean, np.sqrt(variance), mean + (roots(whole, variance) @ noise[..., None])[..., 0], log_weight


def roots(whole: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return matrices whose squares are covariances, shape (draw, quantity, quantity); these may be singular."""
    size = whole.shape[-1]
    try:
        return np.linalg.cholesky(whole + JITTER * (variance.max(1) + JITTER)[:, None, None] * np.eye(size))
    except np.linalg.LinAlgError:
        power, vectors = np.linalg.eigh(whole)
        return vectors * np.sqrt(np.maximum(power, 0.0))[:, None, :]


def draw_levels(component: Component, joint: Joint, words: np.ndarray) -> Component:
    """Return a component with levels drawn from their distribution given all losses and everything else."""
    jobs = [fit.job for fit in component.fits.values()]
    spreads = spreads_of(component, joint.rows)
    nothing = np.zeros((0, joint.z.shape[1]))
    grid, mean = grid_of(jobs, joint, nothing), means_at(component, joint, nothing, spreads.factor)
    seen, error = seen_places(joint)
    prior = np.diag(grid.level)
    cross = prior[:, seen.metric]
    noise = np.random.default_rng(words).standard_normal((len(mean), len(jobs)))
    chunk, levels = max(1, MOST_ELEMENTS // len(error) ** 2), []
    for first in range(0, len(mean), chunk):
        some = slice(first, first + chunk)
        known = covariance(Spreads(*(leaf[some] for leaf in spreads)), grid, seen, seen) + np.diag(error)
        residual = joint.y[seen.metric, seen.point] - mean[some][:, seen.metric, seen.point]
        right = np.broadcast_to(cross.T, (len(known), *cross.T.shape))
        found = cross @ np.linalg.solve(known, np.concatenate([residual[..., None], right], axis=2))
        whole = prior - found[..., 1:]
        root = roots(whole, np.maximum(np.diagonal(whole, axis1=1, axis2=2), 0.0))
        levels.append(found[..., 0] + (root @ noise[some][..., None])[..., 0])
    drawn = np.concatenate(levels).reshape(*component.first.unconstrained.shape[:2], len(jobs))
    fits = {
        name: dataclasses.replace(fit, values=fit.values._replace(level=drawn[..., number]))
        if fit.job.model.law.level
        else fit
        for number, (name, fit) in enumerate(component.fits.items())
    }
    return component._replace(fits=fits)


@known_keywords
@dataclasses.dataclass(frozen=True, repr=False)
class MetricsForecast(Mapping[str, Forecast]):
    """Joint forecast of several metrics: a mapping from their names to `Forecast`.

    Draw i of every metric belongs to the same joint draw, so functions of several metrics can be computed draw by draw.

    Attributes:
        forecasts: Forecast of each metric by its name. For `kind="run"`, given metrics are left out.
        given: Measured losses of the new runs by metric, shape (point,) each.
        worth: Effective number of draws: the number of draws without given metrics, else the effective sample size of
            the weights by which the given metrics changed the draws.
        pareto_k: Tail index of these weights (0.7 or more is unreliable); NaN without given metrics.
    """

    forecasts: dict[str, Forecast]
    given: dict[str, np.ndarray]
    worth: float
    pareto_k: float

    def __getitem__(self, name: str) -> Forecast:
        """Return the forecast of a metric.

        Raises:
            InputError: For a metric that was not forecast.
        """
        if name not in self.forecasts:
            raise InputError(f"There is no forecast of {name!r}. {nearest(str(name), self.forecasts)}")
        return self.forecasts[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the metrics."""
        return iter(self.forecasts)

    def __len__(self) -> int:
        """Count the metrics."""
        return len(self.forecasts)

    def probability_all(self, targets: Mapping[str, float]) -> np.ndarray:
        """Return the probability that all metrics lie below their targets, shape (point,).

        Args:
            targets: Target of each metric by its name; metrics that are left out may have any value.

        Raises:
            InputError: For unknown metrics, and targets that are not positive numbers.
        """
        checked.mapping("targets", targets, "{'c4': 2.3, 'code': 1.1}")
        if not targets:
            raise InputError("Give a target for at least one metric, e.g. {'c4': 2.3, 'code': 1.1}.")
        for name, target in targets.items():
            checked.options(**{f"The target of {name}": (target, checked.POSITIVE)})
        below = [self[name].log_draws < np.log(target) for name, target in targets.items()]
        return np.logical_and.reduce(below).mean((0, 1))

    def to_frame(self, levels: Any = (0.5, 0.8, 0.95)) -> pd.DataFrame:
        """Return the table of `Forecast.to_frame` of all metrics, one below the other, with a column metric."""
        parts = [forecast.to_frame(levels).assign(metric=name) for name, forecast in self.items()]
        return pd.concat(parts, ignore_index=True)

    def __repr__(self) -> str:
        """Return the text, cut to one screen."""
        return checked.one_screen(str(self))

    def __str__(self) -> str:
        """Return the forecasts of all metrics, and what was given."""
        lines = []
        for name, forecast in self.items():
            lines += [f"{name}: {forecast.heading}", *forecast.verdicts(), *forecast.remarks()]
        if self.given:
            told = "; ".join(f"{name} {', '.join(f'{v:.5g}' for v in values)}" for name, values in self.given.items())
            lines.append(f"Given {told}: {counted(round(self.worth), 'effective draw')}.")
            if self.worth < FEW_WORTH or self.pareto_k >= 0.7:
                lines.append(
                    "warning: few draws agree with the given values, so the forecast is imprecise; fit with "
                    "settings=bs.Nuts(draws=2000), and check the values."
                )
        return "\n".join(lines)


def mixed(
    parts: list[Conditional], weighted: bool, rng: np.random.Generator
) -> tuple[Conditional, float, float, np.ndarray]:
    """Join the draws of all components, resampled by their weights.

    Args:
        parts: Forecast of each component.
        weighted: Whether draws have weights.
        rng: Generator of the resampling.

    Returns:
        Equally weighted draws, their effective number, the tail index of the weights, and the index of each draw.
    """
    whole = Conditional(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    number = len(whole.log_weight)
    if not weighted:
        return whole, float(number), float("nan"), np.arange(number)
    smooth, pareto = smoothed(whole.log_weight - whole.log_weight.max())
    weight = np.exp(smooth)
    rows = resample(weight, number, rng)
    return Conditional(*(leaf[rows] for leaf in whole)), float(1.0 / (weight**2).sum()), pareto, rows
