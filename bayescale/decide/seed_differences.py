"""Seed differences: the difference of two recipes' mean losses at one setting, estimated from replicates.

Losses at one setting are normal around their mean. The prior of the seed sd relative to the loss is LogNormal(ln .0016,
1.6), chosen on published replicates; it matters most where there are only two or three seeds. The sd of paired
differences (two recipes, same seed) has a wider prior, with sd 2 of its logarithm, because a shared seed cancels much
noise in some cases and little in others.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bayescale import checked
from bayescale._display import Display
from bayescale.checked import known_keywords
from bayescale.decide.sequential import Looks, look, plan_text
from bayescale.digits import NOTHING, decimals, shown, spread_shown
from bayescale.forecast import mixture_cdf, mixture_quantile

PRIOR_MEDIAN, PRIOR_SD, PAIRED_SD = 0.0016, 1.6, 2.0
"""Prior of the seed sd relative to the loss: median, sd of its logarithm for runs, and that for paired differences."""
GRID = np.linspace(np.log(1e-7), np.log(0.3), 4001)
"""Logarithms of relative standard deviations at which the posterior is computed."""
DRAWS = 400
"""Number of equally likely standard deviations that represent the posterior."""


class Question(NamedTuple):
    """Options for estimating the differences of recipes.

    Attributes:
        spread: Equally likely seed sds relative to the response.
        median: Median of their prior.
        level: Central probability of intervals.
        higher: Whether the higher response is the better one.
        most_seeds: Number of planned seeds, for a sequential test after every seed.
        error: Probability that this sequential test names a recipe although there is no difference.
        paired: Equally likely sds of the difference of two runs with the same seed, relative to the response.
    """

    spread: np.ndarray
    median: float
    level: float
    higher: bool
    most_seeds: int
    error: float
    paired: np.ndarray | None = None


@known_keywords
@dataclasses.dataclass(frozen=True)
class SeedDifference(Display):
    """Difference of the mean losses of two recipes at one setting.

    Attributes:
        first: Name of recipe A.
        second: Name of recipe B, which is better if the difference is negative (for scores: positive).
        setting: The setting, as text; empty where there is only one.
        pairs: Number of seeds that both recipes have; 0 where runs are not paired.
        difference: Mean loss of B minus that of A.
        error: Standard error of the difference; where there are pairs, that of paired differences.
        unpaired_error: Standard error of the difference without pairing.
        low: Lower end of the interval.
        high: Upper end of the interval.
        p_better: Probability that B has the better mean: the lower loss or the higher score.
        level: Central probability of the interval.
        looks: Verdict of a sequential test after every seed.
    """

    first: str
    second: str
    setting: str
    pairs: int
    difference: float
    error: float
    unpaired_error: float
    low: float
    high: float
    p_better: float
    level: float = 0.9
    looks: Looks | None = None

    def __repr__(self) -> str:
        """Return the text, cut to one screen."""
        return checked.one_screen(str(self))

    def __str__(self) -> str:
        """Return the answer in words."""
        return self.text

    @property
    def text(self) -> str:
        """The answer in words."""
        how = f"paired by {self.pairs} shared seeds" if self.pairs else "not paired: no two seeds are shared"
        where = f" at {self.setting}" if self.setting else ""
        verdict = f"{self.second} is better" if self.p_better > 0.5 else f"{self.first} is better"
        unpaired = f", unpaired {spread_shown(self.unpaired_error)}" if self.pairs else ""
        return (
            f"{verdict}{where} with probability {chance(max(self.p_better, 1.0 - self.p_better))}: {self.second} less "
            f"{self.first} is {shown(self.difference, self.error)} ({100 * self.level:g} %: "
            f"{shown(self.low, self.error)} to {shown(self.high, self.error)}; se "
            f"{spread_shown(self.error)}{unpaired}; {how})."
        )


def relative_sds(square: float, freedom: int, prior_sd: float = PRIOR_SD, median: float = PRIOR_MEDIAN) -> np.ndarray:
    """Return equally likely seed sds relative to the loss, shape (`DRAWS`,): the posterior on a grid.

    Args:
        square: Sum of squared relative residuals.
        freedom: Degrees of freedom of that sum.
        prior_sd: Prior standard deviation of the logarithm of the seed sd.
        median: Prior median of the seed sd.
    """
    prior = -0.5 * ((GRID - np.log(median)) / prior_sd) ** 2
    density = prior - freedom * GRID - 0.5 * square * np.exp(-2.0 * GRID)
    weight = np.cumsum(np.exp(density - density.max()))
    return np.exp(np.interp((np.arange(DRAWS) + 0.5) / DRAWS, weight / weight[-1], GRID))


def all_differences(frame: pd.DataFrame, axes: list[str], asked: Question) -> Iterator[SeedDifference]:
    """Yield the difference of each pair of recipes at each setting that both have, in the order of the file.

    Args:
        frame: Rows of all recipes, with the response in column loss.
        axes: Columns whose values define a setting.
        asked: Further arguments.
    """
    names = list(dict.fromkeys(frame["family"]))
    settings = frame[axes].drop_duplicates().to_dict("records") if axes else [{}]
    unit = rounding(frame["loss"].to_numpy(float))
    for first, second in itertools.combinations(names, 2):
        found: list[tuple[str, list[pd.DataFrame]]] = []
        for setting in settings:
            rows = frame
            for name, value in setting.items():
                rows = rows[rows[name] == value]
            parts = [rows[rows["family"] == name] for name in (first, second)]
            if all(len(part) for part in parts):
                found.append((setting_text(setting), parts))
        # Further steps of the same runs are no independent evidence, so they count as no further pairs.
        apart = "step" in axes
        pooled = None if apart else paired_spread([parts for _, parts in found], asked.median)
        for text, parts in found:
            own = asked._replace(paired=paired_spread([parts], asked.median) if apart else pooled)
            yield difference_of((str(first), str(second)), parts, text, own, unit)


def difference_of(
    names: tuple[str, str], parts: list[pd.DataFrame], setting: str, asked: Question, unit: float
) -> SeedDifference:
    """Return the difference of two recipes at one setting.

    Args:
        names: Names of the recipes.
        parts: Rows of each recipe.
        setting: The setting, as text.
        asked: Further arguments.
        unit: Unit to which the response was rounded, e.g. 0.001.
    """
    spread, level = asked.spread, asked.level
    values = [part["loss"].to_numpy(float) for part in parts]
    center = float(np.mean([value.mean() for value in values]))
    # A recipe with several seeds has its own sd; a recipe with one seed has the sd of all replicates.
    own = [value.std(ddof=1) if len(value) > 2 else center * float(np.median(spread)) for value in values]
    unpaired = float(np.sqrt(sum(sd**2 / len(value) for sd, value in zip(own, values, strict=True))))
    apart = differences_by_seed(parts)
    pairs = len(apart) if len(apart) >= 2 else 0
    if pairs and asked.paired is not None:
        mean = float(apart.mean())
        single = center * asked.paired
        sds = single / np.sqrt(pairs)
        error = float(apart.std(ddof=1) / np.sqrt(pairs)) if pairs > 2 else float(np.median(sds))
    else:
        mean = float(values[1].mean() - values[0].mean())
        single = center * spread * np.sqrt(2.0)
        sds = center * spread * np.sqrt(sum(1.0 / len(value) for value in values))
        error = unpaired
        size = min(len(value) for value in values)
        # Without shared seeds, runs are paired in the order of the rows.
        apart = values[1][:size] - values[0][:size]
    sign = -1.0 if asked.higher else 1.0
    looks = look(names, sign * apart, most_seeds=asked.most_seeds, error=asked.error, sds=single, unit=unit)
    location, scale = np.full((DRAWS, 1), mean), sds[:, None]
    low, high = mixture_quantile(np.array([0.5 - level / 2, 0.5 + level / 2]), location, scale)[:, 0]
    lower = float(mixture_cdf(np.zeros(1), location, scale)[0])
    p_better = 1.0 - lower if asked.higher else lower
    ends = float(low), float(high)
    return SeedDifference(*names, setting, pairs, mean, error, unpaired, *ends, p_better, level, looks)


def paired_spread(settings: Sequence[list[pd.DataFrame]], median: float) -> np.ndarray | None:
    """Return equally likely sds of the difference of two runs with the same seed, from all settings.

    None without pairs.

    Args:
        settings: Rows of both recipes at each setting.
        median: Median of the prior, relative to the response.
    """
    square, freedom = 0.0, 0
    for parts in settings:
        apart = differences_by_seed(parts)
        if len(apart) >= 2:
            center = float(np.mean([part["loss"].to_numpy(float).mean() for part in parts]))
            square += float((((apart - apart.mean()) / center) ** 2).sum())
            freedom += len(apart) - 1
    return relative_sds(square, freedom, PAIRED_SD, median) if freedom else None


def rounding(values: np.ndarray) -> float:
    """Return the unit to which losses were rounded, e.g. 0.001; 0 where they have more than eight decimals."""
    for places in range(9):
        if np.allclose(values, np.round(values, places), rtol=0.0, atol=1e-11):
            return 10.0**-places
    return 0.0


def differences_by_seed(parts: list[pd.DataFrame]) -> np.ndarray:
    """Return the loss of the second recipe minus that of the first, shape (pair,).

    There is one pair for each seed that both recipes have, in the order of the rows.
    """
    if not all("seed" in part for part in parts):
        return np.zeros(0)
    means = [part.assign(seed=part["seed"].astype(str)).groupby("seed", sort=False)["loss"].mean() for part in parts]
    both = pd.concat(means, axis=1, join="inner").to_numpy(float)
    return both[:, 1] - both[:, 0]


def paired_sds(frame: pd.DataFrame, axes: list[str]) -> float | None:
    """Return the sd of the difference of two runs with the same seed, pooled over pairs of recipes.

    None without pairs.
    """
    names = list(dict.fromkeys(frame["family"]))
    square, freedom = 0.0, 0
    for first, second in itertools.combinations(names, 2):
        for _, rows in frame.groupby(axes, sort=False) if axes else [((), frame)]:
            apart = differences_by_seed([rows[rows["family"] == name] for name in (first, second)])
            if len(apart) >= 2:
                square += float(((apart - apart.mean()) ** 2).sum())
                freedom += len(apart) - 1
    return float(np.sqrt(square / freedom)) if freedom else None


def difference_lines(differences: Sequence[SeedDifference], level: float, higher: bool) -> list[str]:
    """Write one difference as a sentence, several as a table with the same number of decimals in every row.

    Args:
        differences: The differences.
        level: Central probability of their intervals.
        higher: Whether the higher response is the better one.
    """
    if len(differences) < 2:
        return [text for d in differences for text in (d.text, *([] if d.looks is None else [d.looks.text]))]
    places = max(decimals(difference.error) for difference in differences)
    table = pd.DataFrame(
        {
            "recipes": [f"{d.second} less {d.first}" for d in differences],
            "setting": [d.setting for d in differences],
            "difference": [f"{d.difference:+.{places}f}" for d in differences],
            f"{level * 100:g} % interval": [f"{d.low:+.{places}f} to {d.high:+.{places}f}" for d in differences],
            "se": [f"{d.error:.{places}f}" for d in differences],
            "unpaired se": [f"{d.unpaired_error:.{places}f}" if d.pairs else NOTHING for d in differences],
            "shared seeds": [d.pairs or "none" for d in differences],
            "better": [d.second if d.p_better > 0.5 else d.first for d in differences],
            "with probability": [chance(max(d.p_better, 1.0 - d.p_better)) for d in differences],
            "looks": [NOTHING if d.looks is None else d.looks.short for d in differences],
        }
    )
    first = differences[0].looks
    kept = table.drop(columns=[] if table["setting"].any() else ["setting"])
    return [
        f"Differences of mean responses; {'positive' if higher else 'negative'}: the first-named recipe is better.",
        *kept.to_string(index=False).splitlines(),
        *([] if first is None else [plan_text(first)]),
    ]


def setting_text(setting: Mapping[str, Any]) -> str:
    """Write a setting as `step 2780` or `n_params 3e+07`."""
    return ", ".join(f"{name} {setting_value(value)}" for name, value in setting.items())


def setting_value(value: float) -> str:
    """Write a number of a setting in full, or with an exponent if that is shorter and equally exact."""
    short = f"{value:.4g}"
    return short if value >= 1e6 and float(short) == value else f"{value:.10g}"


def chance(probability: float) -> str:
    """Write a probability with enough digits to distinguish it from 0 or 1, at most four."""
    if probability > 0.9999:
        return "above .9999"
    digits = 2 if 0.01 < probability < 0.99 else 4
    return f"{probability:.{digits}f}".lstrip("0") or "0"
