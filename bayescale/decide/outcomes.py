"""Outcomes: joint draws of the losses of several runs, from which every decision is computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri
from scipy.stats import t as student

from bayescale.data.design import measurement_variance
from bayescale.data.drawn_score import DrawnScore
from bayescale.data.score import counts
from bayescale.data.value import ResponseScale
from bayescale.errors import InputError
from bayescale.forecast import At
from bayescale.model.evaluations.counts import normal_approximation
from bayescale.model.problem import share_residuals
from bayescale.posterior.fitted import Fitted
from bayescale.posterior.posterior import fitted

STRATA = 32
"""Number of strata of equal probability into which run-to-run noise is divided; one value is drawn from each."""
SMALLEST_SHARE = 1e-6
"""Smallest score, and smallest error rate, whose odds are compared."""
REPEATS = 4
"""Joint draws of the discrepancy for each posterior draw: they are cheap and halve the Monte-Carlo error."""


@dataclasses.dataclass(frozen=True)
class JointDraws:
    """Equally likely joint draws of the mean curve at several points, and of the scatter of single runs around it.

    Attributes:
        points: Inputs in raw counts, one row a point.
        curve: Logarithm of the mean curve (law and discrepancy), shape (draw, point).
        residual: Deviation from the mean curve that all runs at a point share, shape (draw, point). At inputs that were
            already run it is drawn given the measured losses, so another seed teaches little about it.
        known: Whether a point was already run, shape (point,).
        measured: Standard deviation of the measurement error of ln loss at each point, shape (point,); from the
            standard errors of the runs, 0 where they have none.
        residual_sd: Standard deviation of `residual` at new inputs, shape (draw,).
        seed_sd: Standard deviation of the seed noise, shape (draw,).
        tail: Degrees of freedom of the scatter of one run; None means normal.
        blocks: Number of the posterior draw that each joint draw comes from, shape (draw,).
        layout: Chains and draws of each component of the fit, see `Fitted.layout`.
        scale: Relation of a score or a value to what the law describes, whose logarithm is `curve`; None for losses.
            For fits that sample the range of a score it differs between draws.
    """

    points: pd.DataFrame
    curve: np.ndarray
    residual: np.ndarray
    known: np.ndarray
    measured: np.ndarray
    residual_sd: np.ndarray
    seed_sd: np.ndarray
    tail: float | None
    blocks: np.ndarray
    layout: tuple[tuple[int, int], ...]
    scale: ResponseScale | DrawnScore | None = None

    def seen(self, log: np.ndarray) -> np.ndarray:
        """Return ln loss, or what it is compared by, shape (draw,): for a sampled range, ln of the odds of an error.

        Log odds within the range cannot be observed if the range is not known.
        """
        return error_odds(self.scale.response(log)) if isinstance(self.scale, DrawnScore) else log

    def run(self, point: int, rng: np.random.Generator) -> np.ndarray:
        """Return ln loss of one more run at a point, with a seed and a measurement error of its own; see `seen`.

        Returns:
            Shape (draw,).
        """
        noise = np.hypot(self.seed_sd, self.measured[point]) * rng.standard_normal(len(self.curve))
        log = self.curve[:, point] + self.residual[:, point] + noise
        if isinstance(self.scale, DrawnScore):
            return error_odds(self.scale.run(self.scale.response(log), rng))
        return log

    def spread(self, point: int) -> np.ndarray:
        """Return losses, scores or values of one more run at a point, with one value of its noise from each stratum.

        Values are drawn at random within strata of equal probability, so that the mean of any function of them is
        unbiased. (The midpoints of 32 strata would have a variance of .96, and none beyond 2.15 standard deviations.)

        Returns:
            Shape (draw, `STRATA`).
        """
        rng = np.random.default_rng(point)
        share = (np.arange(STRATA) + rng.uniform(size=(len(self.curve), STRATA))) / STRATA
        if self.known[point]:
            middle, total, tail = self.curve[:, point] + self.residual[:, point], self.seed_sd, None
        else:
            middle, total, tail = self.curve[:, point], np.hypot(self.residual_sd, self.seed_sd), self.tail
        noise = ndtri(share) if tail is None else student.ppf(share, tail)
        shown = middle[:, None] + total[:, None] * noise
        if isinstance(self.scale, DrawnScore):
            return self.scale.run(self.scale.response(shown), rng)
        return np.exp(shown) if self.scale is None else self.scale.response(shown)

    def error(self, values: np.ndarray) -> float:
        """Return the Monte-Carlo standard error of the mean of a quantity over joint draws."""
        return mean_error(np.bincount(self.blocks, values) / np.bincount(self.blocks), self.layout)


def error_odds(score: np.ndarray) -> np.ndarray:
    """Return ln of the odds of an error on one item, of scores of any shape; finite also for scores of zero and one."""
    inside = np.clip(score, SMALLEST_SHARE, 1.0 - SMALLEST_SHARE)
    return np.log1p(-inside) - np.log(inside)


def mean_error(values: np.ndarray, layout: tuple[tuple[int, int], ...]) -> float:
    """Return the Monte-Carlo standard error, as ArviZ computes it, of a mean over all draws of a fit.

    The weights of a mixture's components are fixed, so the variances of the components' means add up.

    Args:
        values: One value for each draw, in the order of components and chains.
        layout: See `Fitted.layout`.
    """
    from arviz_stats.base import array_stats

    ends = np.cumsum([chains * draws for chains, draws in layout])
    variance = 0.0
    for part, (chains, draws) in zip(np.split(values, ends[:-1]), layout, strict=True):
        if np.ptp(part) > 0.0:
            error = array_stats.mcse(part.reshape(chains, draws), method="mean", chain_axis=0, draw_axis=1)
            variance += (part.size / values.size * float(error)) ** 2
    return float(np.sqrt(variance))


def joint_draws(posterior: Fitted, points: pd.DataFrame, repeats: int = REPEATS) -> JointDraws:
    """Draw the mean curve at several points jointly, with what is needed to draw single runs there.

    Args:
        posterior: The fit.
        points: Inputs in raw counts, a column for each input of the law.
        repeats: Draws of the discrepancy for each draw of the posterior.

    Raises:
        InputError: For inputs that are missing or not positive.
    """
    points, _ = posterior.locate(points, {})
    x = posterior.law_inputs(points)
    z = np.log(x / posterior.reference)
    values, problem = posterior.flat_values, posterior.first.job.problem
    total = len(values.level)
    rng = np.random.default_rng([posterior.seed, 2])
    repeats = repeats if posterior.discrepancy is not None else 1
    parts = [posterior.predictive(z, "mean", rng).draws for _ in range(repeats)]
    # Joint draws from one posterior draw are neighbours, so that blocks keep the order of the chains.
    curve = np.stack(parts, axis=1).reshape(total * repeats, len(points))
    single = np.sqrt(np.asarray(values.residual_sd, float) ** 2 + float(problem.single))
    scatter, seed = (
        np.repeat(np.broadcast_to(np.asarray(part, float), total), repeats) for part in (single, values.seed_sd)
    )
    # Runs at equal inputs share their residual.
    _, same = np.unique(z, axis=0, return_inverse=True)
    same = same.ravel()
    residual = (scatter[:, None] * rng.standard_normal((len(curve), same.max() + 1)))[:, same]
    tail = None if posterior.likelihood.tail is None else float(posterior.likelihood.tail)
    if tail is not None:
        residual = residual / np.sqrt(rng.gamma(0.5 * tail, 2.0 / tail, size=(len(curve), same.max() + 1)))[:, same]
    frame = posterior.runs.frame
    known = np.zeros(len(points), bool)
    measured = np.zeros(len(frame))
    scale: ResponseScale | DrawnScore | None = posterior.runs.response_scale
    if (score := posterior.runs.score) is not None:
        measured = 1.0 / np.sqrt(normal_approximation(*counts(frame), score.chance, score.ceiling)[1])
    elif "value_se" in frame:
        measured = np.sqrt(measurement_variance(posterior.runs))
    for number, point in enumerate(x if share_residuals(problem) else ()):
        there = np.isclose(frame[list(posterior.law.inputs)].to_numpy(float), point, rtol=1e-9).all(1)
        if there.any():
            known[number] = True
            shown = np.log(frame["loss"][there].to_numpy(float)).mean() - curve[:, number]
            error = (measured[there] ** 2).mean()
            share = scatter**2 / (scatter**2 + (seed**2 + error) / there.sum())
            left = scatter * np.sqrt(1.0 - share)
            residual[:, number] = share * shown + left * rng.standard_normal(len(curve))
    blocks = np.repeat(np.arange(total), repeats)
    if (drawn := posterior.drawn_score) is not None:
        scale = drawn.picked(blocks)
    error = np.full(len(points), np.median(measured))
    return JointDraws(points, curve, residual, known, error, scatter, seed, tail, blocks, posterior.layout, scale)


def refuse_drawn_score(posterior: Fitted, verb: str, what: str) -> None:
    """Refuse a fit that samples the range of a score or a concentration, for questions about log odds.

    Args:
        posterior: The fit.
        verb: Name of the question.
        what: What it judges by log odds.

    Raises:
        InputError: With what to fit instead.
    """
    if posterior.drawn_score is not None:
        raise InputError(
            f"{verb} judges {what} by log odds between a known chance and a known ceiling, and this fit samples "
            "chance, ceiling or a concentration. Fit the scores again with a known chance and ceiling, and with the "
            "binomial likelihood."
        )


def at_point(posterior: Fitted, at: At | None, inputs: Mapping[str, Any]) -> dict[str, float]:
    """Check the inputs of one run and return all of them, those of the law first.

    Args:
        posterior: The fit.
        at: Inputs in raw counts by name, or a table of one row; or None.
        inputs: The same inputs as keyword arguments.

    Raises:
        InputError: For inputs that are missing, unknown or not positive, or several runs.
    """
    points, _ = fitted(posterior).locate(at, inputs)
    if len(points) != 1:
        raise InputError(f"at= must describe one run; found {len(points)} rows. Ask for one run at a time.")
    return points.iloc[0].astype(float).to_dict()
