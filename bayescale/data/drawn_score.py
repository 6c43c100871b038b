"""Ranges of a score whose chance level, ceiling or concentration differs between draws."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.special import betainc, betaln, ndtr, xlogy

from bayescale._record import Array
from bayescale.data.score import ScoreScale

NODES = 24
"""Number of quadrature points for a mean over normal log odds."""
SMALLEST_BETA = 1e-30
"""Smallest parameter of a beta distribution; smaller ones have no finite derivative of the density."""


@dataclasses.dataclass(frozen=True)
class DrawnScore:
    """Relation of score and log odds in each draw of a fit that samples the range or a concentration.

    Attributes:
        chance: Chance level of each draw, shape (draw,).
        ceiling: Ceiling of each draw, shape (draw,).
        concentration: Concentration of the beta distribution of a run's score, shape (draw,); infinite without one.
    """

    chance: np.ndarray
    ceiling: np.ndarray
    concentration: np.ndarray

    @property
    def higher_is_better(self) -> bool:
        """Return True: a score grows as models get better."""
        return True

    @property
    def overdispersed(self) -> bool:
        """Return whether scores of single runs have a beta distribution."""
        return bool(np.isfinite(self.concentration).any())

    def ends(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return chance and ceiling with so many axes that they combine with arrays whose first axis is draw."""
        axes = (-1, *(1,) * (len(shape) - 1))
        return self.chance.reshape(axes), self.ceiling.reshape(axes)

    def response(self, log_odds: Array) -> np.ndarray:
        """Return the score from ln of the odds against a right answer, shape (draw, ...)."""
        log_odds = np.asarray(log_odds, float)
        chance, ceiling = self.ends(log_odds.shape)
        with np.errstate(over="ignore"):
            return chance + (ceiling - chance) / (1.0 + np.exp(log_odds))

    def log_odds(self, score: Array) -> np.ndarray:
        """Return ln of the odds of one score, or one for each point, in each draw: shape (draw,) or (draw, point).

        Infinite up to chance, minus infinite from the ceiling on.
        """
        score = np.asarray(score, float)
        chance, ceiling = self.ends((1, *score.shape))
        share = (score - chance) / (ceiling - chance)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.log1p(-share) - np.log(share)
        return np.where(share <= 0.0, np.inf, np.where(share >= 1.0, -np.inf, found))

    def picked(self, index: np.ndarray) -> DrawnScore:
        """Return the range of some draws, by their indices."""
        return DrawnScore(self.chance[index], self.ceiling[index], self.concentration[index])

    def run(self, expected: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw the score of one run on endlessly many items from its expected score, shape (draw, ...)."""
        if not self.overdispersed:
            return expected
        first, second, known = self.beta(expected)
        return np.where(known, rng.beta(first, second), expected)

    def beta(self, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the parameters of the beta distribution of a run's score, and whether the draw has one."""
        k = self.concentration.reshape(-1, *(1,) * (expected.ndim - 1))
        known = np.isfinite(k)
        k = np.where(known, k, 1.0)
        first, second = (np.maximum(k * part, SMALLEST_BETA) for part in (expected, 1.0 - expected))
        return first, second, np.broadcast_to(known, expected.shape)

    def probability_above(self, target: float, location: np.ndarray, scale: np.ndarray, *, of_run: bool) -> np.ndarray:
        """Return the probability that a score exceeds a target in each draw, shape (draw,).

        Args:
            target: The score.
            location: Mean of the log odds, shape (draw,).
            scale: Their standard deviation, shape (draw,).
            of_run: Whether the score is that of a single run, which a concentration makes scatter.
        """
        safe = np.maximum(scale, 1e-12)
        curve = ndtr((self.log_odds(target) - location) / safe)
        if not (of_run and self.overdispersed):
            return curve
        nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
        total = np.zeros(len(location))
        for node, weight in zip(nodes, weights / weights.sum(), strict=True):
            first, second, _ = self.beta(self.response(location + node * safe))
            total += weight * (1.0 - betainc(first, second, target))
        return np.where(np.isfinite(self.concentration), total, curve)

    def log_probability(self, right: np.ndarray, items: np.ndarray, expected: np.ndarray) -> np.ndarray:
        """Return the log probability of numbers of right items without the number of ways, shape (draw, point).

        Args:
            right: Number of right items, shape (point,).
            items: Number of items, shape (point,).
            expected: Expected score of the run, shape (draw, point).
        """
        binomial = xlogy(right, expected) + xlogy(items - right, 1.0 - expected)
        if not self.overdispersed:
            return binomial
        first, second, known = self.beta(expected)
        return np.where(known, betaln(right + first, items - right + second) - betaln(first, second), binomial)


def known_range(scale: ScoreScale, draws: int) -> DrawnScore:
    """Return the same stated range for a number of draws, without a concentration."""
    return DrawnScore(np.full(draws, scale.chance), np.full(draws, scale.ceiling), np.full(draws, np.inf))


def joined(parts: Sequence[DrawnScore]) -> DrawnScore:
    """Return the draws of several fits one after the other."""
    fields = ("chance", "ceiling", "concentration")
    return DrawnScore(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))
