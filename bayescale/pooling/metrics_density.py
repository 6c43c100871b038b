"""Joint density of several metrics of the same runs, and its chains.

For metric m, ln y_m(t) = l_m + h_m(t) + A_m delta_m(t) + e_m, each part as in a fit of that metric alone, and

    cov(A_m delta_m(s), A_n delta_n(t)) = R_mn A_m A_n k(s, t),    cov(e_m, e_n) = Q_mn (s_m s_n + r_m r_n)

for residual sd s and seed sd r of one run. Levels are independent. R and Q are correlation matrices with LKJ priors.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import log_ndtr, ndtr

from bayescale._record import Array
from bayescale.inference.reparam import Geometry, constrain_reparam, separate_spreads
from bayescale.model.evaluations.dense import covariance_deviance
from bayescale.model.level import level_variance
from bayescale.model.likelihood import SMALLEST_SCATTER
from bayescale.model.parameters import draw_spreads, relative_curve, singles, taker
from bayescale.model.problem import Model, Problem
from bayescale.pooling.metrics_plan import Joint

if TYPE_CHECKING:
    from jaxtyping import Float

CONCENTRATION = 1.0
"""Concentration of the LKJ priors of both correlation matrices: 1 is uniform over correlation matrices."""


class Links(NamedTuple):
    """Correlations between metrics.

    Attributes:
        discrepancy: R, correlations of the discrepancies, shape (metric, metric).
        noise: Q, correlations of residuals and of seed noise of one run, shape (metric, metric).
    """

    discrepancy: Float[Any, "*draw metric metric"]
    noise: Float[Any, "*draw metric metric"]


def link_length(metrics: int, linked: bool) -> int:
    """Return the number of parameters of both correlation matrices; zero for independent metrics."""
    return metrics * (metrics - 1) if linked else 0


def read_links(vector: Float[Array, "link"], metrics: int) -> tuple[Links, Any]:
    """Return the correlation matrices that a vector stands for, and its log prior density."""
    if not len(vector):
        return Links(jnp.eye(metrics), jnp.eye(metrics)), 0.0
    (first, one), (second, other) = (read_correlation(part, metrics) for part in jnp.split(vector, 2))
    return Links(first, second), one + other


def read_correlation(scores: Float[Array, "pair"], metrics: int) -> tuple[Any, Any]:
    """Return the correlation matrix that normal scores stand for, and their log prior density.

    Each score s is a partial correlation p = 2 Phi(s) - 1, as in the construction of lewandowski2009lkj. Tails of the
    scores are normal, also where the correlation is close to one; those of its inverse hyperbolic tangent are longer,
    and NUTS diverged in them.

    Args:
        scores: Scores, row after row of the lower triangle.
        metrics: Number of metrics.
    """
    rows, density, left = [], 0.0, iter(singles(scores))
    for i in range(metrics):
        row, log_rest = [], jnp.zeros(())
        for j in range(i):
            score = next(left)
            # log(1 - p^2), also for p close to one.
            log_gap = jnp.log(4.0) + log_ndtr(score) + log_ndtr(-score)
            row.append(jnp.exp(0.5 * log_rest) * (ndtr(score) - ndtr(-score)))
            log_rest = log_rest + log_gap
            shape = CONCENTRATION + 0.5 * (metrics - 2 - j)
            density = density + (shape - 1.0) * log_gap - 0.5 * score**2
        rows.append(jnp.stack([*row, jnp.exp(0.5 * log_rest), *[jnp.zeros(())] * (metrics - 1 - i)]))
    factor = jnp.stack(rows)
    return factor @ factor.T, density


class Parts(NamedTuple):
    """Models of all metrics, stacked along a leading axis if their programs are equal, else as tuples.

    Attributes:
        geometries: Each law linearised at the mode of its metric alone; columns are the change of the curve along each
            direction and the residuals at the rows of all metrics, in the eigenbasis of the discrepancy, shape
            (row, p + 1).
        models: Law, discrepancy and likelihood of each metric.
        problems: Rows of each metric.
    """

    geometries: Any
    models: Any
    problems: Any

    @property
    def stacked(self) -> bool:
        """Return whether metrics are stacked."""
        return not isinstance(self.models, tuple)

    def each(self, function: Callable[..., Any], *given: Sequence[Any]) -> Any:
        """Return results of a function of given values, geometry, model and problem of each metric, stacked.

        Args:
            function: The function.
            *given: Further arguments, one for each metric.
        """
        if self.stacked:
            return jax.vmap(function)(*(jnp.stack(list(one)) for one in given), *self)
        found = [function(*own) for own in zip(*given, *self, strict=True)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)

    def of(self, number: int) -> tuple[Geometry, Model, Problem]:
        """Return geometry, model and problem of one metric."""
        pick: Any = (
            (lambda tree: jax.tree.map(lambda leaf: leaf[number], tree))
            if self.stacked
            else (lambda tree: tree[number])
        )
        return pick(self.geometries), pick(self.models), pick(self.problems)

    def sizes(self, metrics: int) -> list[tuple[int, int]]:
        """Return the numbers of parameters of each metric: those of its law, and its standard deviations."""
        found = [self.of(number)[0] for number in range(metrics)]
        return [(len(one.pull), len(one.vector) - len(one.pull)) for one in found]


class Spread(NamedTuple):
    """Standard deviations of each metric, leading axis metric.

    Attributes:
        residual_sd: Residual standard deviation.
        seed_sd: Seed standard deviation.
        amplitude: Amplitude of the discrepancy.
        level: Prior variance of the level; zero for a law without a level.
    """

    residual_sd: Float[Any, "metric"]
    seed_sd: Float[Any, "metric"]
    amplitude: Float[Any, "metric"]
    level: Float[Any, "metric"]


class Covariances(NamedTuple):
    """Covariances between metrics, shape (metric, metric) each.

    Attributes:
        discrepancy: That of the discrepancies for a kernel of one.
        residual: That of the residuals of one row.
        seed: That of the seed noise of one run.
        level: Prior variance of each level, shape (metric,).
    """

    discrepancy: Float[Any, "metric metric"]
    residual: Float[Any, "metric metric"]
    seed: Float[Any, "metric metric"]
    level: Float[Any, "metric"]


def stack_parts(geometries: Sequence[Geometry], models: Sequence[Model], problems: Sequence[Problem]) -> Parts:
    """Return the models of all metrics, stacked if one program suffices for all."""
    parts = [(g, m, p) for g, m, p in zip(geometries, models, problems, strict=True)]
    shapes = {(jax.tree.structure(part), tuple(np.shape(leaf) for leaf in jax.tree.leaves(part))) for part in parts}
    if len(shapes) > 1:
        return Parts(tuple(geometries), tuple(models), tuple(problems))
    return Parts(*jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *parts))


def read_spread(scores: Float[Array, "s"], geometry: Geometry, model: Model, problem: Problem) -> Spread:
    """Return the standard deviations of one metric; given their parameters they do not depend on the law."""
    size = len(geometry.pull)
    vector = separate_spreads(jnp.concatenate([geometry.vector[:size], scores]), model, problem)
    values = draw_spreads(taker(vector[size:]), 1.0, model, problem)
    level = level_variance(model) if model.law.level else 0.0
    return Spread(*(jnp.asarray(v, float) for v in (values.residual_sd, values.seed_sd, values.amplitude, level)))


def covariances_of(spread: Spread, links: Links) -> Covariances:
    """Return the covariances between metrics."""
    residual, seed, amplitude = (value[:, None] * value for value in spread[:3])
    return Covariances(links.discrepancy * amplitude, links.noise * residual, links.noise * seed, spread.level)


class Curve(NamedTuple):
    """The law of one metric, or of each with leading axis metric.

    Attributes:
        mean: ln of the law minus the centre, without a marginal level, at the rows of all metrics.
        density: Log prior density, with the log determinant of the map from reparameterised coordinates.
    """

    mean: Float[Any, "*metric row"]
    density: Float[Any, "*metric"]


def read_curve(reparam: Float[Array, "d"], z: Array, geometry: Geometry, model: Model, problem: Problem) -> Curve:
    """Return the law of one metric at rows z, shape (row, input), for its reparameterised coordinates."""
    del geometry
    _, values, prior, log_determinant = constrain_reparam(reparam, model, problem)
    curve = relative_curve(model.law, values.constants, z)
    return Curve(curve if model.law.level else curve - problem.center, prior.sum() + log_determinant)


def joint_covariance(between: Covariances, joint: Joint) -> Any:
    """Return the covariance of all losses with their levels, metric after metric; identity where none was measured.

    Args:
        between: Covariances between metrics.
        joint: The rows.
    """
    pairs = zip(
        (*between[:3], jnp.diag(between.level)),
        (joint.kernel, joint.alike, joint.shared, jnp.ones_like(joint.kernel)),
        strict=True,
    )
    whole = sum(part[:, None, :, None] * rows[None, :, None, :] for part, rows in pairs)
    mask = jnp.asarray(joint.mask).reshape(-1)
    whole = whole.reshape(len(mask), len(mask)) + jnp.diag(SMALLEST_SCATTER**2 + joint.error.reshape(-1))
    return jnp.where(mask[:, None] * mask > 0, whole, jnp.eye(len(mask)))


class Factor(NamedTuple):
    """Cholesky factors of one matrix for each row in the eigenbasis of the discrepancy, and the factor of the levels.

    Attributes:
        lower: Elements of the lower triangles by row and column, shape (row,) each.
        ones: Whitened columns of the levels times their prior sd, shape (metric, metric x row).
        level: Cholesky factor of the precision of the standardised levels, shape (metric, metric).
        log_determinant: Of the covariance of all losses.
    """

    lower: dict[tuple[int, int], Any]
    ones: Float[Any, "level metricxrow"]
    level: Float[Any, "level level"]
    log_determinant: Float[Any, ""]

    def whiten(self, right: Sequence[Any]) -> Any:
        """Return columns in a basis where they are independent, shape (..., metric x row).

        Args:
            right: The part of the columns for each metric, in the eigenbasis, shape (..., row).
        """
        white: list[Any] = []
        for i, value in enumerate(right):
            left = value - sum(self.lower[i, k] * white[k] for k in range(i))
            white.append(left / self.lower[i, i])
        return jnp.concatenate(white, axis=-1)

    def inner(self, left: Any, right: Any) -> Any:
        """Return inner products of whitened columns, shapes (..., k), with the levels integrated out."""
        first, second = (solve_triangular(self.level, self.ones @ side.T, lower=True) for side in (left, right))
        return left @ right.T - first.T @ second


def factorise(between: Covariances, joint: Joint) -> Factor:
    """Return the factor of the covariance of all losses, row after row in the eigenbasis of the discrepancy.

    Exact if the rows are complete. Otherwise every row counts as complete and as a run of its own, which suffices to
    standardise parameters.
    """
    metrics, real = len(joint.mask), jnp.asarray(joint.real)
    error = (joint.error.sum(1) / joint.mask.sum(1)) + SMALLEST_SCATTER**2
    seed = joint.shared[0, 0] * between.seed
    noise = between.residual + seed + jnp.diag(error)
    lower: dict[tuple[int, int], Any] = {}
    for i in range(metrics):
        for j in range(i + 1):
            whole = between.discrepancy[i, j] * joint.eigenvalues + noise[i, j]
            left = whole - sum(lower[i, k] * lower[j, k] for k in range(j))
            lower[i, j] = jnp.sqrt(left) if i == j else left / lower[j, j]
    determinant = 2.0 * sum((real * jnp.log(lower[i, i])).sum() for i in range(metrics))
    nothing = Factor(lower, real, real, determinant)
    column, root = real @ joint.vectors, jnp.sqrt(between.level)
    zero = jnp.zeros_like(column)
    ones = jnp.stack(
        [nothing.whiten([root[j] * column if i == j else zero for i in range(metrics)]) for j in range(metrics)]
    )
    level = jnp.linalg.cholesky(jnp.eye(metrics) + ones @ ones.T)
    return Factor(lower, ones, level, determinant + 2.0 * jnp.log(jnp.diagonal(level)).sum())


def laws_given(scores: Float[Array, "p"], factor: Factor, parts: Parts, metrics: int) -> tuple[list[Any], Any]:
    """Map standardised coordinates of all laws to reparameterised ones; also return the log determinant.

    Given covariances, the linearised laws of all metrics have a normal posterior with levels and discrepancies
    integrated out, and these coordinates are standard normal in it. If discrepancies are highly correlated, the
    difference of two laws is known much better than each of them, so laws cannot be standardised one by one.

    Args:
        scores: Standardised coordinates, metric after metric.
        factor: Covariance of all losses.
        parts: The models.
        metrics: Number of metrics.
    """
    white, pull, missed, geometries = [], [], [], [parts.of(number)[0] for number in range(metrics)]
    for number, geometry in enumerate(geometries):
        columns = geometry.columns[:, :-1].T
        white.append(factor.whiten([columns if i == number else jnp.zeros_like(columns) for i in range(metrics)]))
        pull.append(geometry.pull)
        missed.append(geometry.columns[:, -1])
    slopes, residual = jnp.concatenate(white), factor.whiten(missed)
    precision = jnp.eye(len(slopes)) + factor.inner(slopes, slopes)
    lower = jnp.linalg.cholesky(precision)
    seen = solve_triangular(lower, factor.inner(slopes, residual[None])[:, 0] + jnp.concatenate(pull), lower=True)
    along = solve_triangular(lower.T, seen + scores, lower=False)
    found, first = [], 0
    for geometry in geometries:
        size = len(geometry.pull)
        found.append(geometry.point[:size] + geometry.directions @ along[first : first + size])
        first += size
    return found, -jnp.log(jnp.diagonal(lower)).sum()


class Point(NamedTuple):
    """One point of the joint model.

    Attributes:
        reparam: Reparameterised coordinates of each metric.
        links: Correlations between metrics.
        between: Covariances between metrics.
        factor: Factor of the covariance of all losses.
        density: Log prior density of the correlations, and the log determinant of the map from scores.
    """

    reparam: list[Any]
    links: Links
    between: Covariances
    factor: Factor
    density: Float[Any, ""]


def read_scores(scores: Float[Array, "d"], parts: Parts, joint: Joint, linked: bool) -> Point:
    """Return the point of scores, which are those of the laws, the standard deviations, and R and Q, in this order."""
    metrics = len(joint.mask)
    sizes = parts.sizes(metrics)
    total = sum(law for law, _ in sizes)
    end = len(scores) - link_length(metrics, linked)
    ends = np.cumsum([total, *(other for _, other in sizes)])
    spreads = [scores[first:last] for first, last in itertools.pairwise(ends)]
    links, density = read_links(scores[end:], metrics)
    between = covariances_of(parts.each(read_spread, spreads), links)
    factor = factorise(between, joint)
    laws, log_determinant = laws_given(scores[:total], factor, parts, metrics)
    reparam = [jnp.concatenate([law, spread]) for law, spread in zip(laws, spreads, strict=True)]
    return Point(reparam, links, between, factor, density + log_determinant)


def log_likelihood(missed: Float[Any, "metric row"], between: Covariances, factor: Factor, joint: Joint) -> Any:
    """Return the log density of all losses, with levels and discrepancies integrated out.

    Args:
        missed: Deviations of the losses from the laws, zero where a metric was not measured.
        between: Covariances between metrics.
        factor: Factor of the covariance, which is used where rows are complete.
        joint: The rows.
    """
    count = joint.mask.sum() * jnp.log(2.0 * jnp.pi)
    if joint.complete:
        white = factor.whiten(list(missed @ joint.vectors))[None]
        return -0.5 * (count + factor.inner(white, white)[0, 0] + factor.log_determinant)
    size = joint.mask.size
    covariance = joint_covariance(between, joint)
    return -0.5 * (count + covariance_deviance(missed.reshape(size), covariance, jnp.zeros(size), jnp.ones(())))


def joint_potential(scores: Float[Array, "d"], parts: Parts, joint: Joint, linked: bool) -> Any:
    """Return the negative log posterior density of scores, see `read_scores`."""
    point = read_scores(scores, parts, joint, linked)
    curve = parts.each(read_curve, point.reparam, [jnp.asarray(joint.z)] * len(joint.mask))
    missed = joint.mask * (joint.y - curve.mean)
    likelihood = log_likelihood(missed, point.between, point.factor, joint)
    return -(curve.density.sum() + point.density + likelihood)


def first_scores(parts: Parts, joint: Joint, linked: bool) -> Any:
    """Return the scores of the modes of the metrics alone, with correlations of zero."""
    metrics = len(joint.mask)
    sizes, geometries = parts.sizes(metrics), [parts.of(number)[0] for number in range(metrics)]
    spreads = [geometry.point[law:] for geometry, (law, _) in zip(geometries, sizes, strict=True)]
    others = jnp.concatenate([*spreads, jnp.zeros(link_length(metrics, linked))])
    total = sum(law for law, _ in sizes)

    def laws(scores: Any) -> Any:
        point = read_scores(jnp.concatenate([scores, others]), parts, joint, linked)
        return jnp.concatenate([own[:law] for own, (law, _) in zip(point.reparam, sizes, strict=True)])

    # The map is affine in these scores.
    zero = laws(jnp.zeros(total))
    slope = jax.jacfwd(laws)(jnp.zeros(total))
    modes = jnp.concatenate([geometry.point[:law] for geometry, (law, _) in zip(geometries, sizes, strict=True)])
    return jnp.concatenate([jnp.linalg.solve(slope, modes - zero), others])
