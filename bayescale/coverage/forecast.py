"""Forecasts of coverage at given numbers of attempts, and of the attempts that a coverage needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bayescale import checked
from bayescale._display import Display
from bayescale.checked import known_keywords
from bayescale.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float, Int

LEVELS = (0.5, 0.8, 0.95)


@known_keywords
@dataclasses.dataclass(frozen=True)
class CoverageForecast(Display):
    """Predictive distribution of the coverage at several numbers of attempts.

    Attributes:
        k: Numbers of attempts at each problem.
        draws: Draws of the coverage, joint over k, shape (draw, k).
        problems: "new" or "same".
        items: Number of new problems on which coverage is measured; None for the whole population, or for the same
            problems.
        label: What was sampled.
    """

    k: tuple[int, ...]
    draws: Float[np.ndarray, "draw k"]
    problems: str
    items: int | None = None
    label: str = ""

    @property
    def mean(self) -> Float[np.ndarray, "k"]:
        """Mean coverage, shape (k,)."""
        return self.draws.mean(0)

    def quantile(self, q: float | Iterable[float]) -> np.ndarray:
        """Return quantiles of the coverage, shape (k,), or (q, k) for several probabilities."""
        wanted = [q] if np.ndim(q) == 0 else list(q)  # pyright: ignore[reportArgumentType]
        if not all(checked.is_real(one) and 0 <= one <= 1 for one in wanted):
            raise InputError(f"q must be probabilities from 0 to 1; found {checked.shortened(q)}.")
        found = np.quantile(self.draws, wanted, axis=0)
        return found[0] if np.ndim(q) == 0 else found

    def interval(self, level: float = 0.8) -> Float[np.ndarray, "side k"]:
        """Return the central interval with this probability, shape (2, k)."""
        checked.options(level=(level, checked.PROBABILITY))
        return self.quantile([0.5 - level / 2, 0.5 + level / 2])

    def to_frame(self, levels: Iterable[float] = LEVELS) -> pd.DataFrame:
        """Return a table with a row for each k: the mean, the median and both ends of central intervals."""
        levels = list(levels)
        for level in levels:
            checked.options(levels=(level, checked.PROBABILITY))
        ends = sorted({0.5, *(0.5 + side * level / 2 for level in levels for side in (-1, 1))})
        columns = {f"q{q:.4g}": values for q, values in zip(ends, self.quantile(ends), strict=True)}
        return pd.DataFrame({"k": self.k, "mean": self.mean, **columns})

    def __repr__(self) -> str:
        """Show the forecast on one screen."""
        if self.problems == "same":
            about = "the fitted problems, where k includes the attempts already made"
        else:
            about = "all problems like these" if self.items is None else f"{self.items:,} new problems like these"
        table = self.to_frame().to_string(index=False, float_format="{:.4f}".format)
        return checked.one_screen(f"{self.label}: coverage of {about}\n{table}")


@known_keywords
@dataclasses.dataclass(frozen=True)
class Budget(Display):
    """Number of attempts at each problem that a coverage needs.

    Attributes:
        target: The coverage.
        level: Probability with which `attempts` reach it.
        draws: Draws of the number of attempts, infinite where even a billion are too few, shape (draw,).
        never: Whether no number of attempts is enough, for each draw, shape (draw,).
        problems: "new" or "same".
        label: What was sampled.
    """

    target: float
    level: float
    draws: Float[np.ndarray, "draw"]
    never: np.ndarray
    problems: str
    label: str = ""

    @property
    def p_never(self) -> float:
        """Probability that the target is unreachable, because too many problems are unsolvable."""
        return float(self.never.mean())

    @property
    def p_beyond(self) -> float:
        """Probability that the target needs more than a billion attempts but is reachable."""
        return float((np.isinf(self.draws) & ~self.never).mean())

    @property
    def attempts(self) -> float:
        """Number of attempts that reach the target with probability `level`.

        Infinite if even a billion attempts do not.
        """
        return self.quantile(self.level)

    def quantile(self, q: float) -> float:
        """Return a quantile of the number of attempts, rounded up to a draw.

        Infinite if the target is out of reach at this quantile.
        """
        if not (checked.is_real(q) and 0 <= q <= 1):
            raise InputError(f"q must be a probability from 0 to 1; found {checked.shortened(q)}.")
        return float(np.quantile(self.draws, q, method="inverted_cdf"))

    def probability(self, k: float) -> float:
        """Return the probability that k attempts reach the target."""
        checked.options(k=(k, checked.POSITIVE))
        return float((self.draws <= k).mean())

    def to_dict(self) -> dict[str, float | None]:
        """Return the answer as plain values, with None for infinite numbers."""
        told = {"attempts": self.attempts, **{f"q{q:g}": self.quantile(q) for q in (0.1, 0.5, 0.9)}}
        finite = {name: value if np.isfinite(value) else None for name, value in told.items()}
        chances = {"p_never": self.p_never, "p_beyond": self.p_beyond}
        return {"target": self.target, "level": self.level, **finite, **chances}

    def __repr__(self) -> str:
        """Describe the budget on one screen."""

        def shown(value: float) -> str:
            return f"{value:,.0f}" if np.isfinite(value) else "more than a billion (or no number of)"

        low, high = (self.quantile(0.5 + side * 0.4) for side in (-1, 1))
        lines = [
            f"{self.label}: attempts for a coverage of {self.target:g} on {self.problems} problems",
            f"with probability {self.level:g}: {shown(self.attempts)} attempts",
            f"median: {shown(self.quantile(0.5))} attempts; 80 % interval: {shown(low)} to {shown(high)} attempts",
            f"probability that no number of attempts is enough: {self.p_never:.2g}; that more than a billion are "
            f"needed: {self.p_beyond:.2g}",
        ]
        return checked.one_screen("\n".join(lines))


def unsolved(
    survival: Float[np.ndarray, "draw k"], problems: int, rng: np.random.Generator
) -> Int[np.ndarray, "draw k"]:
    """Draw the numbers of unsolved problems at increasing numbers of attempts, jointly.

    An unsolved problem stays unsolved at the next number of attempts with the ratio of both probabilities.

    Args:
        survival: Probability that a problem is unsolved, decreasing with k.
        problems: Number of problems.
        rng: Generator of random numbers.
    """
    left = np.full(len(survival), problems)
    before, counts = np.ones(len(survival)), []
    for chance in survival.T:
        ratio = np.divide(chance, before, out=np.zeros_like(chance), where=before > 0)
        left = rng.binomial(left, np.clip(ratio, 0.0, 1.0))
        counts.append(left)
        before = chance
    return np.stack(counts, 1)


def first_at(draws: Float[np.ndarray, "draw k"], grid: np.ndarray, target: float) -> Float[np.ndarray, "draw"]:
    """Return the first number of attempts at which each curve reaches the target, infinite where none does.

    Args:
        draws: Increasing curves on the grid.
        grid: Increasing numbers of attempts.
        target: The coverage to reach.
    """
    met = draws >= target
    last = met.argmax(1)
    rows = np.arange(len(draws))
    before = np.maximum(last - 1, 0)
    low, high = draws[rows, before], draws[rows, last]
    part = np.divide(target - low, high - low, out=np.ones(len(draws)), where=(last > 0) & (high > low))
    logs = np.log(grid)
    found = np.exp(logs[before] + np.clip(part, 0.0, 1.0) * (logs[last] - logs[before]))
    return np.where(met.any(1), np.ceil(found - 1e-9), np.inf)
