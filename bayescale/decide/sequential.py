"""Sequential comparison: a verdict on two recipes that may be looked at after every seed, at a stated error.

After n seeds the differences of the two recipes have a t statistic. Without a true difference its distribution depends
on neither the loss nor the seed sd, so for any rule the chance is known that one of the looks after 2, 3, ..., K seeds
is significant. The rule here is that of a group-sequential t test: the two-sided p-value after n seeds must be at most
c n / K, where c is such that this chance is `error`. A fixed test of K seeds would ask for p at most `error` once.

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
"""Seeds of each recipe that are planned, and the chance that a recipe is named without a true difference."""
SIMULATIONS, BLOCK = 400_000, 50_000
"""Experiments without a difference from which levels are found (1 % of the chance is their Monte Carlo error)."""
FUTURES = 4000
"""Continuations of the seeds seen so far that are drawn."""


@known_keywords
@dataclasses.dataclass(frozen=True)
class Looks(Display):
    """Verdict on two recipes from looks at their differences after every seed.

    Attributes:
        first: Recipe A.
        second: Recipe B.
        seen: Seeds of both recipes so far.
        most_seeds: Seeds that are planned; the looks end there.
        error: Chance that any look names a recipe if there is no difference.
        p: Two-sided p-value of the t test after 2, 3, ... seeds.
        levels: What p must not exceed after 2, 3, ..., `most_seeds` seeds.
        named: Recipe that was named; empty while none is.
        after: Seeds after which it was named; 0 while none is.
        chance: Probability that one is named by `most_seeds` seeds, given those seen; None where none is to come.
        further: Expected number of further seeds until then; None likewise.
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
        """The verdict in few words."""
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
    """Return what the column of looks in a table of several differences means."""
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
        differences: Loss of B less that of A, shape (seed,).
        most_seeds: Seeds that are planned; those beyond are not looked at.
        error: Chance that any look names a recipe if there is no difference.
        sds: Equally likely standard deviations of one difference, from which continuations are drawn; by default that
            of the differences seen.
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
        differences: Shape (experiment, seed).
        unit: Unit to which losses were rounded, whose variance is added: rounded losses may agree by chance.
    """
    t = t_statistics(differences, unit)
    return 2.0 * stats.t.sf(np.abs(t), np.arange(1, t.shape[1] + 1))


def t_statistics(differences: np.ndarray, unit: float = 0.0) -> np.ndarray:
    """Return t statistics after 2, 3, ... seeds, shape (experiment, seed - 1); 0 where all differences are 0."""
    number = np.arange(1, differences.shape[1] + 1)
    total = differences.cumsum(1)
    # Sums of squares around the mean so far, without the loss of digits that large means would bring.
    centered = differences - differences.mean(1, keepdims=True) if differences.size else differences
    square = (centered**2).cumsum(1) - centered.cumsum(1) ** 2 / number
    square = np.maximum(square, 0.0) + (number - 1) * unit**2 / 6.0
    with np.errstate(divide="ignore", invalid="ignore"):
        t = total / np.sqrt(number * square / (number - 1))
    return np.where(total == 0.0, 0.0, t)[:, 1:]


@functools.lru_cache(maxsize=32)
def levels(most_seeds: int, error: float) -> np.ndarray:
    """Return what the p-values after 2, 3, ..., `most_seeds` seeds must not exceed, shape (most_seeds - 1,).

    Example:
        >>> levels(8, 0.05).round(3).tolist()
        [0.005, 0.007, 0.01, 0.012, 0.014, 0.017, 0.019]
    """
    share = np.arange(2, most_seeds + 1) / most_seeds
    freedom = np.arange(1, most_seeds)
    # The factor c is at most `error`, so p-values above error n / K need not be computed.
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
