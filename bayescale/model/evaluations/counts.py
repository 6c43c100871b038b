"""Evaluation of scores: right items are binomial given log odds, which vary around the law by discrepancy and noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import betaln, gammaln

from bayescale._jax import on_cores
from bayescale._record import Array, record
from bayescale.data.design import Counted
from bayescale.data.drawn_score import SMALLEST_BETA
from bayescale.data.score import ScoreScale
from bayescale.model.evaluations.dense import solved_conditions
from bayescale.model.padding import padded
from bayescale.model.problem import Basis, Evaluation, Model, Problem, Values, row_variance
from bayescale.model.score_range import draw_range

WIDEST = 3.0
"""Prior standard deviation of log odds, around even odds, for the normal approximation of a row's counts."""
LEAST_PRECISION = 0.05
"""Smallest precision of that approximation: counts at chance level say almost nothing about log odds."""
STEPS = 60
"""Number of Newton steps towards the mode of that approximation."""


@record
class Counts(Evaluation):
    """Rows are counts of right items; the log odds of each setting are sampled together with the constants of the law.

    The log odds against a right answer at all settings are normal around the law, with the covariance of `Rotated`,
    which is diagonal in the eigenbasis of the discrepancy. The sampled coordinates are these log odds, standardised
    given the law and a normal approximation of the counts. The approximation affects only the choice of coordinates:
    the density contains the binomial probability of the counts, so the posterior is exact.

    Runs at equal settings have further standardised coordinates, for the differences of their log odds.

    Attributes:
        basis: Eigenbasis of the discrepancy among the settings; eigenvalues are zero without discrepancy.
        right: Number of right items of each run, zero on padding, shape (run,).
        items: Number of items of each run, zero on padding, shape (run,).
        setting: Index of each run's setting, shape (run,).
        middle: Mean of the normal approximation of each run's log odds, minus the centre, shape (run,).
        precision: Precision of that approximation, zero on padding, shape (run,).
        chance: Score of guessing.
        ceiling: Score that no model exceeds.
        chance_sd: Standard deviation of the prior of chance; None for a known chance.
        ceiling_sd: The same for the ceiling.
    """

    basis: Basis
    right: Array
    items: Array
    setting: Array
    middle: Array
    precision: Array
    chance: Array
    ceiling: Array
    chance_sd: Array | None = None
    ceiling_sd: Array | None = None

    factorises = True

    def draw_range(self, sample: Callable[..., Any]) -> tuple[Any, Any]:
        """See `Evaluation.draw_range`."""
        return draw_range(sample, self.chance, self.ceiling, self.chance_sd, self.ceiling_sd)

    def shape_of_scores(self, replicated: bool) -> int:
        """Return the number of standardised coordinates: one for each setting, and one for each run with replicates."""
        return len(self.basis.eigenvalues) + (len(self.right) if replicated else 0)

    def log_odds(self, values: Values, mean: Any, problem: Problem) -> tuple[Any, Any, Any]:
        """Return log odds of settings and of runs, minus the centre, and the log density of their standardised values.

        Args:
            values: Constrained values.
            mean: ln of the law plus level at the settings, minus the centre, shape (setting,).
            problem: The family.

        Returns:
            Log odds of the settings (for replicates, the mean of their runs without noise), those of the runs, and the
            log density of the standardised coordinates minus that of standard normals.
        """
        settings, vectors = len(mean), self.basis.vectors
        spread = values.amplitude**2 * self.basis.eigenvalues + row_variance_of_runs(values, problem)
        seed = values.seed_sd * jnp.ones(()) if problem.replicated else jnp.zeros(())
        seen = self.precision / (1.0 + self.precision * seed**2)
        total = jnp.zeros(settings).at[self.setting].add(seen)
        gap = jnp.zeros(settings).at[self.setting].add(seen * (self.middle - mean[self.setting]))
        root = vectors * jnp.sqrt(spread)
        factor = jnp.linalg.cholesky(jnp.eye(settings) + root.T @ (total[:, None] * root))
        white = solve_triangular(factor, root.T @ gap, lower=True) + values.latent[:settings]
        score = solve_triangular(factor.T, white, lower=False)
        middle = mean + root @ score
        density = -0.5 * (score**2 - values.latent[:settings] ** 2).sum() - jnp.log(jnp.diagonal(factor)).sum()
        if not problem.replicated:
            return middle, middle[self.setting], density
        own = values.latent[settings:]
        sharp = 1.0 + self.precision * seed**2
        score = seed * self.precision * (self.middle - middle[self.setting]) / sharp + own / jnp.sqrt(sharp)
        density = density - 0.5 * (score**2 - own**2 + jnp.log(sharp)).sum()
        return middle, middle[self.setting] + seed * score, density

    def log_density(self, values: Values, mean: Any, problem: Problem) -> Any:
        """Return the log density of the counts and of the standardised coordinates, minus that of standard normals."""
        _, runs, density = self.log_odds(values, mean, problem)
        return density + self.log_probability(problem.center + runs, values).sum()

    def log_probability(self, log_odds: Any, values: Values) -> Any:
        """Return the log probability of each run's counts given its log odds and the range, shape (run,)."""
        right, wrong = log_shares(log_odds, *range_of(values, self.chance, self.ceiling))
        missed = self.items - self.right
        ways = gammaln(self.items + 1.0) - gammaln(self.right + 1.0) - gammaln(missed + 1.0)
        if not empty(values.concentration):
            first, second = beta_parameters(right, wrong, values.concentration)
            return ways + betaln(self.right + first, missed + second) - betaln(first, second)
        # A count of zero has probability one at any success rate, also where the logarithm of that rate is infinite.
        return (
            ways
            + jnp.where(self.right > 0, self.right * jnp.where(self.right > 0, right, 0.0), 0.0)
            + jnp.where(missed > 0, missed * jnp.where(missed > 0, wrong, 0.0), 0.0)
        )

    def simulate(
        self, log_odds: np.ndarray, center: float, rng: np.random.Generator, values: Values
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw right items of each run, shape (run,); also return the log odds that these counts suggest.

        Args:
            log_odds: Log odds against a right answer at the settings, minus the centre, shape (setting,); each setting
                has one run.
            center: The centre.
            rng: Generator of random numbers.
            values: The true values of the range and the concentration, leading axis 1.
        """
        scale = ScoreScale(float(self.chance), float(self.ceiling))
        true = ScoreScale(*(float(np.ravel(end)[0]) for end in range_of(values, self.chance, self.ceiling)))
        items, setting = np.asarray(self.items), np.asarray(self.setting)
        share = true.score(center + log_odds[setting])
        if not empty(values.concentration):
            k = float(np.ravel(values.concentration)[0])
            share = rng.beta(*(np.maximum(k * part, SMALLEST_BETA) for part in (share, 1.0 - share)))
        right = rng.binomial(np.rint(items).astype(int), share).astype(float)
        shown = scale.log_odds(scale.shrunk(right / np.maximum(items, 1.0), items)) - center
        found = np.zeros(len(log_odds))
        found[setting[items > 0]] = shown[items > 0]
        return right, found

    def counting(self, right: np.ndarray, center: float) -> Counts:
        """Return the evaluation of the same runs with other numbers of right items, shape (run,)."""
        known = np.asarray(self.items) > 0
        middle, precision = np.zeros((2, len(known)))
        found = normal_approximation(right[known], self.items[known], float(self.chance), float(self.ceiling))
        middle[known], precision[known] = found[0] - center, found[1]
        return dataclasses.replace(self, right=right, middle=middle, precision=precision)

    def rotate(self, columns: Array) -> Any:
        """See `Evaluation.rotate`."""
        return self.basis.vectors.T @ columns

    def weigh(self, values: Values, columns: Array, problem: Problem) -> tuple[Any, Any]:
        """See `Evaluation.weigh`."""
        total = jnp.zeros(len(problem.mask)).at[self.setting].add(self.precision)
        variance = row_variance(values, problem) + 1.0 / jnp.maximum(total, LEAST_PRECISION)
        typical = problem.mask.sum() / (problem.mask / variance).sum()
        return columns, problem.mask / (typical + values.amplitude**2 * self.basis.eigenvalues)

    def leave_one_out(self, values: Values, residual: Array, model: Model, problem: Problem) -> Any:
        """Return the log probability of the counts of each setting given its log odds, shape (setting,)."""
        _, runs, _ = self.log_odds(values, problem.y - residual, problem)
        each = self.log_probability(problem.center + runs, values)
        return jnp.zeros(len(problem.mask)).at[self.setting].add(each)

    def response(self, values: Values, mean: np.ndarray, problem: Problem) -> np.ndarray:
        """See `Evaluation.response`: the log odds of the settings, with the mean noise of their runs."""
        rows, size = problem.rows, len(problem.mask)
        padded = np.concatenate([mean, np.zeros((len(mean), size - rows))], axis=1)
        with on_cores():
            return np.asarray(settings_of_draws(self, values, padded, problem))[:, :rows]

    def condition(
        self, values: Values, residual: np.ndarray, wrong: np.ndarray, kernel: np.ndarray, problem: Problem
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See `Evaluation.condition`."""
        rows = problem.rows

        def covariance(part: Values) -> np.ndarray:
            spread = np.asarray(jax.vmap(lambda value: row_variance(value, problem))(part))[:, :rows]
            whole = np.asarray(part.amplitude)[:, None, None] ** 2 * kernel[:rows, :rows]
            return whole + spread[:, :, None] * np.eye(rows)

        return solved_conditions(values, residual, wrong, kernel[rows:, :rows], covariance)


def empty(value: Any) -> bool:
    """Return whether a value of `Values` is not sampled."""
    return isinstance(value, tuple)


def range_of(values: Values, chance: Any, ceiling: Any) -> tuple[Any, Any]:
    """Return the sampled chance and ceiling, or the given ones where these are known."""
    return chance if empty(values.chance) else values.chance, ceiling if empty(values.ceiling) else values.ceiling


def beta_parameters(right: Any, wrong: Any, concentration: Any) -> tuple[Any, Any]:
    """Return the two positive parameters of the beta distribution of a run's score.

    Args:
        right: Log probability that an item is right.
        wrong: Log probability that it is wrong.
        concentration: Sum of the parameters.
    """
    return tuple(jnp.maximum(concentration * jnp.exp(part), SMALLEST_BETA) for part in (right, wrong))  # type: ignore[return-value]


@jax.jit
def settings_of_draws(evaluation: Counts, values: Values, mean: Any, problem: Problem) -> Any:
    """Return log odds of the settings with the mean noise of their runs, for all draws, shape (draw, setting)."""

    def one(pair: tuple[Values, Any]) -> Any:
        value, curve = pair
        middle, runs, _ = evaluation.log_odds(value, curve, problem)
        if not problem.replicated:
            return middle
        known = (evaluation.items > 0).astype(float)
        number = jnp.zeros(len(curve)).at[evaluation.setting].add(known)
        total = jnp.zeros(len(curve)).at[evaluation.setting].add(known * runs)
        return total / jnp.maximum(number, 1.0)

    return jax.lax.map(one, (values, mean))


def row_variance_of_runs(values: Values, problem: Problem) -> Any:
    """Return the variance of the log odds of each setting: residual variance, plus seed variance without replicates."""
    seeds = 0.0 if problem.replicated else values.seed_sd**2 * problem.seed_part
    return values.residual_sd**2 + seeds + jnp.zeros(len(problem.mask))


def log_shares(log_odds: Any, chance: Any, ceiling: Any) -> tuple[Any, Any]:
    """Return the log probabilities that an item is right and that it is wrong, from log odds against a right answer.

    Args:
        log_odds: Of any shape.
        chance: Score of guessing.
        ceiling: Score that no model exceeds.
    """
    width = jnp.log(ceiling - chance)
    above = width - jax.nn.softplus(log_odds)
    below = width - jax.nn.softplus(-log_odds)
    # Adding zero must not have a derivative of nan.
    low = jnp.where(chance > 0.0, jnp.log(jnp.where(chance > 0.0, chance, 1.0)), -1e300)
    high = jnp.where(ceiling < 1.0, jnp.log1p(-jnp.where(ceiling < 1.0, ceiling, 0.0)), -1e300)
    return jnp.logaddexp(low, above), jnp.logaddexp(high, below)


def normal_approximation(
    right: np.ndarray, items: np.ndarray, chance: float, ceiling: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and precision of a normal approximation of the likelihood of log odds, shape (run,) each.

    It has the slope and the curvature of the likelihood at the mode of the product of that likelihood and a normal
    density around even odds.
    """

    def slopes(value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        share = 1.0 / (1.0 + np.exp(value))
        score = chance + (ceiling - chance) * share
        slope = -(ceiling - chance) * share * (1.0 - share)
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = np.where(right > 0, right / score, 0.0) - np.where(items > right, (items - right) / (1.0 - score), 0)
        # The expected curvature is used, because it is never negative.
        curvature = items * slope**2 / (score * (1.0 - score))
        return gain * slope, curvature

    value = np.zeros(len(right))
    for _ in range(STEPS):
        slope, curvature = slopes(value)
        step = (slope - value / WIDEST**2) / (curvature + 1.0 / WIDEST**2)
        value = value + np.clip(step, -1.0, 1.0)
    slope, curvature = slopes(value)
    precision = np.maximum(curvature, LEAST_PRECISION)
    return value + slope / precision, precision


def counts_of(counted: Counted, basis: Basis, center: float, size: int) -> Counts:
    """Return the evaluation of a family's scores.

    Args:
        counted: Right items and items of its runs.
        basis: Eigenbasis of the discrepancy among the settings, padded.
        center: Mean of the log odds of the settings.
        size: Number of runs with padding.
    """
    middle, precision = normal_approximation(counted.right, counted.items, counted.chance, counted.ceiling)
    return Counts(
        basis=basis,
        right=padded(counted.right, size),
        items=padded(counted.items, size),
        setting=padded(counted.setting, size).astype(int),
        middle=padded(middle - center, size),
        precision=padded(precision, size),
        chance=np.asarray(counted.chance, float),
        ceiling=np.asarray(counted.ceiling, float),
        chance_sd=None if counted.chance_sd is None else np.asarray(counted.chance_sd, float),
        ceiling_sd=None if counted.ceiling_sd is None else np.asarray(counted.ceiling_sd, float),
    )
