"""Sequential comparison: a test of two recipes that may be repeated after every seed, with a fixed total error.

After n seeds, the differences of the two recipes give a t statistic. Without a true difference, its distribution
depends on neither the loss nor the seed sd. For any rule one can therefore compute the probability that one of the
tests (looks) after 2, 3, ..., K seeds is significant. The rule here is that of a group-sequential t test: the two-sided
p-value after n seeds must be at most c n / K, with c chosen so that this probability is `error`. A fixed test with K
seeds would require p to be at most `error`, once.

Source: Jennison and Turnbull (2000), Group Sequential Methods, section 11.3 (t statistics by significance levels).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from scipy import stats

from bayescale._display import Display
from bayescale.checked import known_keywords
from bayescale.errors import counted

__all__ = ["Looks", "levels", "look", "p_values"]

MOST_SEEDS, ERROR = 8, 0.05
"""Number of planned seeds of each recipe, and the probability that a recipe is named without a true difference."""
SIMULATIONS, BLOCK = 400_000, 50_000
"""Experiments without a difference from which limits of p are found (Monte-Carlo error: 1 % of the probability)."""
FUTURES = 4000
"""Number of drawn continuations of the seeds seen so far."""


@known_keywords
@dataclasses.dataclass(frozen=True)
class Looks(Display):
    """Verdict on two recipes from a test (a look) after every seed.

    Attributes:
        first: Name of recipe A.
        second: Name of recipe B.
        seen: Number of seeds of both recipes so far.
        most_seeds: Number of planned seeds, after which testing ends.
        error: Probability that any look names a recipe if there is no difference.
        p: Two-sided p-value of the t test after 2, 3, ... seeds.
        levels: Largest significant p-value after 2, 3, ..., `most_seeds` seeds.
        named: Recipe that was named as the better one; empty if none was.
        after: Number of seeds after which it was named; 0 if none was.
        chance: Probability that a recipe will be named by `most_seeds` seeds, given the seeds so far; None if no look
            is left.
        further: Expected number of further seeds until the end of testing; None if no look is left.
    """

    first: str
    second: str
    seen: int
    most_seeds: int
    error: float
    p: tuple[float, ...]
    levels: tuple[float, ...]
    named: str = ""
    after: int = 0
    chance: float | None = None
    further: float | None = None

    def __str__(self) -> str:
        """Return the verdict in words."""
        return self.text

    @property
    def short(self) -> str:
        """The verdict in a few words."""
        if self.named:
            return f"{self.named} after {self.after}"
        return f"none in {self.most_seeds}" if self.seen >= self.most_seeds else f"open at {self.seen}"

    @property
    def text(self) -> str:
        """The verdict in words."""
        planned = f"Looked at after every seed, of {self.most_seeds} planned: "
        if self.named:
            p, level = self.p[self.after - 2], self.levels[self.after - 2]
            return (
                f"{planned}{self.named} is better, named after {counted(self.after, 'seed')} of each (p {p:.2g}, at "
                f"most {level:.2g}). Without a difference, one or another of these looks names a recipe with "
                f"probability {self.error:g}."
            )
        if self.seen >= self.most_seeds:
            rest = ""
            if self.seen > self.most_seeds:
                more = counted(self.seen - self.most_seeds, "further seed")
                rest = (
                    f" Not looked at: {more} of each. To look at more, plan them before the first look: most_seeds= "
                    "(bayescale noise --most-seeds); a plan that is extended afterwards does not keep the error."
                )
            return f"{planned}no recipe is named; the difference is too small for so many seeds.{rest}"
        if self.chance is None or self.further is None:
            return f"{planned}no look yet; the first needs two seeds of each recipe."
        return (
            f"{planned}open after {self.seen} (p {self.p[-1]:.2g}; {self.levels[self.seen - 2]:.2g} would decide). "
            f"Going on, a recipe is named by the end with probability {self.chance:.2f}, "
            f"with {self.further:.1f} further seeds of each on average."
        )


def plan_text(looks: Looks) -> str:
    """Return an explanation of the column of looks in a table of several differences."""
    return (
        f"looks: the recipe that is named when a difference is looked at after every seed, of {looks.most_seeds} "
        f"planned. Without a difference a pair has one named with probability {looks.error:g}, each pair by itself."
    )


def look(
    names: tuple[str, str],
    differences: Sequence[float] | np.ndarray,
    *,
    most_seeds: int = MOST_SEEDS,
    error: float = ERROR,
    sds: np.ndarray | None = None,
    unit: float = 0.0,
) -> Looks:
    """Return the verdict on two recipes from their differences, one for each seed in the order of the runs.

    Args:
        names: Recipe A and recipe B.
        differences: Loss of B minus that of A, shape (seed,).
        most_seeds: Number of planned seeds; differences beyond them are ignored.
        error: Probability that any look names a recipe if there is no difference.
        sds: Equally likely standard deviations of one difference, from which continuations are drawn; by default the
            standard deviation of `differences`.
        unit: Unit to which losses were rounded.

    Example:
        >>> look(("old", "new"), [-0.0021, -0.0033, -0.0024, -0.0029]).short
        'new after 4'
    """
    seen = np.asarray(differences, float)[:most_seeds]
    total = len(differences)
    limits = levels(most_seeds, error)
    p = p_values(seen[None], unit)[0]
    fields = {"seen": total, "most_seeds": most_seeds, "error": error, "p": tuple(map(float, p))}
    looks = Looks(*names, **fields, levels=tuple(map(float, limits)))
    hits = np.flatnonzero(p <= limits[: len(p)])
    if len(hits):
        after = int(hits[0]) + 2
        return dataclasses.replace(looks, named=names[int(seen[:after].mean() < 0)], after=after)
    if not 2 <= len(seen) < most_seeds:
        return looks
    if sds is None:
        sds = np.array([seen.std(ddof=1)])
    rng = np.random.default_rng(0)
    scale = rng.choice(sds, FUTURES)
    mean = seen.mean() + scale / np.sqrt(len(seen)) * rng.standard_normal(FUTURES)
    new = mean[:, None] + scale[:, None] * rng.standard_normal((FUTURES, most_seeds - len(seen)))
    future = p_values(np.concatenate([np.broadcast_to(seen, (FUTURES, len(seen))), new], axis=1), unit)
    hit = (future <= limits)[:, len(p) :]
    used = np.where(hit.any(1), hit.argmax(1) + 1, hit.shape[1])
    return dataclasses.replace(looks, chance=float(hit.any(1).mean()), further=float(used.mean()))


def p_values(differences: np.ndarray, unit: float = 0.0) -> np.ndarray:
    """Return two-sided p-values of the t test after 2, 3, ... seeds, shape (experiment, seed - 1).

    Args:
        differences: Differences of losses, shape (experiment, seed).
        unit: Unit to which losses were rounded. Its variance is added, because rounded losses may agree by chance.
    """
    t = t_statistics(differences, unit)
    return 2.0 * stats.t.sf(np.abs(t), np.arange(1, t.shape[1] + 1))


def t_statistics(differences: np.ndarray, unit: float = 0.0) -> np.ndarray:
    """Return t statistics after 2, 3, ... seeds, shape (experiment, seed - 1); 0 where all differences are 0."""
    number = np.arange(1, differences.shape[1] + 1)
    total = differences.cumsum(1)
    # Sums of squares around the running mean avoid the loss of digits at large means.
    centered = differences - differences.mean(1, keepdims=True) if differences.size else differences
    square = (centered**2).cumsum(1) - centered.cumsum(1) ** 2 / number
    square = np.maximum(square, 0.0) + (number - 1) * unit**2 / 6.0
    with np.errstate(divide="ignore", invalid="ignore"):
        t = total / np.sqrt(number * square / (number - 1))
    return np.where(total == 0.0, 0.0, t)[:, 1:]


@functools.lru_cache(maxsize=32)
def levels(most_seeds: int, error: float) -> np.ndarray:
    """Return the largest significant p-values after 2, 3, ..., `most_seeds` seeds, shape (most_seeds - 1,).

    Example:
        >>> levels(8, 0.05).round(3).tolist()
        [0.005, 0.007, 0.01, 0.012, 0.014, 0.017, 0.019]
    """
    share = np.arange(2, most_seeds + 1) / most_seeds
    freedom = np.arange(1, most_seeds)
    # The factor c is at most `error`, so p-values above `error` n / K need not be computed.
    least = stats.t.isf(error * share / 2.0, freedom)
    rng = np.random.default_rng(0)
    smallest = []
    for _ in range(SIMULATIONS // BLOCK):
        t = np.abs(t_statistics(rng.standard_normal((BLOCK, most_seeds))))
        p = np.full(t.shape, np.inf)
        row, column = np.nonzero(t >= least)
        p[row, column] = 2.0 * stats.t.sf(t[row, column], freedom[column]) / share[column]
        smallest.append(p.min(1))
    return float(np.quantile(np.concatenate(smallest), error, method="lower")) * share
