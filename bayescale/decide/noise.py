"""Noise: seed sd, differences of recipes, and the smallest differences that n seeds can show, from repeated runs.

These questions need no scaling law. Runs with equal inputs (and equal step, where runs were measured at several) are
replicates; the model is described in `bayescale.decide.seed_differences`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize, stats
from scipy.special import ndtr

from bayescale import checked
from bayescale._display import Display
from bayescale.checked import is_real, known_keywords
from bayescale.data.runs import Runs
from bayescale.data.runs import checked as checked_runs
from bayescale.decide.seed_differences import (
    PRIOR_MEDIAN,
    Question,
    SeedDifference,
    all_differences,
    chance,
    difference_lines,
    paired_sds,
    relative_sds,
    setting_text,
    setting_value,
)
from bayescale.decide.seed_trend import SeedTrend, far_runs, seed_trend
from bayescale.decide.sequential import ERROR, MOST_SEEDS
from bayescale.digits import shown, spreads_shown
from bayescale.errors import InputError, counted, some
from bayescale.forecast import mixture_cdf

CLEAR, POWER = 0.95, 0.8
"""Probability that the sign of a gap is right at which it counts as shown, and power at which seeds are enough."""
SEEDS = (2, 3, 5, 8, 12)
"""Numbers of seeds for which the smallest visible gap is stated."""


@known_keywords
@dataclasses.dataclass(frozen=True)
class SeedNoise(Display):
    """Estimates from replicates: seed sd, means, differences.

    Attributes:
        table: One row for each recipe and setting: `family`, the inputs and `step` where they vary, number of `runs`,
            `mean`, its standard error `se`, and `sd` of one run. In groups of one run, `sd` is the posterior median
            from all replicates.
        sd: Quantiles of the seed sd, on the scale of the loss, by probability.
        freedom: Degrees of freedom of that estimate: number of runs minus number of settings.
        level: Central probability of all intervals.
        differences: A `SeedDifference` for each pair of recipes and each setting.
        resolution: One row for each number of seeds: the smallest true difference of two recipes that can be shown.
            With that many seeds of each, a test with certainty .95 (`certainty`) finds the sign of the difference in
            a fraction .8 of experiments (`power`). Column `gap` is for independent seeds, `gap_paired` for recipes
            that share seeds.
        bar: Loss that a mean should be below, or score that it should exceed; or None.
        passed: One row for each recipe and setting: `mean`, `se`, `met` (whether the mean meets the bar) and
            `probability` that the expected response does; empty without a bar.
        reference: Loss that another run is compared with, or None.
        within: Tolerance around the reference, or None.
        p_same: Probability that another run of each recipe ends within the tolerance, by recipe.
        response: Name of the response, e.g. "loss".
        higher_is_better: Whether the response is a score.
        trend: How the relative seed sd changes with scale; None where fewer than three scales have replicates.
        far: Rows that lie too far from the other runs of their setting for normal noise.
    """

    table: pd.DataFrame
    sd: Mapping[float, float]
    freedom: int
    level: float
    differences: tuple[SeedDifference, ...]
    resolution: pd.DataFrame
    bar: float | None
    passed: pd.DataFrame
    reference: float | None
    within: float | None
    p_same: Mapping[str, float]
    response: str = "loss"
    higher_is_better: bool = False
    trend: SeedTrend | None = None
    far: pd.DataFrame = dataclasses.field(default_factory=pd.DataFrame)

    @property
    def first_met(self) -> dict[str, dict[str, float] | None]:
        """Return for each recipe the smallest setting whose mean meets the bar; None where no mean does."""
        found: dict[str, dict[str, float] | None] = {}
        for family, rows in self.passed.groupby("family", sort=False):
            met = rows[rows["met"]]
            found[str(family)] = None if met.empty else met.iloc[0].drop(["family", "met"]).to_dict()
        return found

    @property
    def text(self) -> str:
        """The answer in words."""
        ends = [end for share, end in self.sd.items() if share != 0.5]
        middle, low, high = spreads_shown([self.sd[0.5], min(ends), max(ends)])
        relative = self.sd[0.5] / float(np.average(self.table["mean"], weights=self.table["runs"]))
        few = "; with so few the prior of published replicates decides" if self.freedom < 3 else ""
        lines = [
            f"Seed sd {middle} in units of the {self.response} ({self.level * 100:g} %: {low} to {high}), "
            f"{100 * relative:.2g} % of its mean, from {counted(self.freedom, 'degree')} of freedom{few}."
        ]
        lines += self.trend_lines()
        lines += difference_lines(self.differences, self.level, self.higher_is_better)
        if not self.differences and len(self.table) == 1:
            row = self.table.iloc[0]
            lines.append(
                f"Mean of {counted(int(row['runs']), 'run')} {shown(row['mean'], row['se'])} (se {row['se']:.2g})."
            )
        if len(self.resolution):
            lines.append(self.resolution_text)
        lines += self.bar_lines()
        for family, probability in self.p_same.items():
            lines.append(
                f"Another run of {family} ends within {self.within:g} of {self.reference:g} with probability "
                f"{chance(probability)}."
            )
        return "\n".join(lines)

    @property
    def resolution_text(self) -> str:
        """The smallest differences that each number of seeds can show, in words."""
        column = "gap_paired" if "gap_paired" in self.resolution else "gap"
        known = self.resolution[np.isfinite(self.resolution[column].to_numpy(float))]
        gaps = spreads_shown(list(known[column].astype(float))) if len(known) else []
        told = [f"{counted(int(seeds), 'seed')} {gap}" for seeds, gap in zip(known["seeds"], gaps, strict=True)]
        if len(known) < len(self.resolution):
            told.insert(0, "1 seed none")
        how = " (paired by seed)" if column == "gap_paired" else ""
        return (
            f"Smallest difference of two recipes that a t test finds with {100 * CLEAR:g} % certainty of its sign in "
            f"{100 * POWER:g} % of experiments (power), by seeds of each recipe{how}: {', '.join(told)}."
        )

    def trend_lines(self) -> list[str]:
        """Return sentences on how the seed sd changes with scale, and on runs far from the others of their setting."""
        lines = []
        if self.trend is not None:
            low, middle, high = (self.trend.slope[share] for share in sorted(self.trend.slope))
            lines.append(
                f"The relative seed sd goes as {self.trend.axis} to the power {middle:.2f} ({100 * self.level:g} %: "
                f"{low:.2f} to {high:.2f}); it falls with scale with probability {chance(self.trend.p_falls)}."
            )
        names = [name for name in self.far if name not in ("loss", "others")]
        told = [
            f"{shown(row['loss'], abs(row['loss'] - row['others']) / 10)} against {row['others']:.4g} of the others ("
            + ", ".join(f"{name} {setting_value(row[name]) if is_real(row[name]) else row[name]}" for name in names)
            + ")"
            for row in self.far.to_dict("records")
        ]
        if told:
            lines.append(
                f"Too far from the other runs of their setting for seed noise: {some(told, 5)}. They widen the seed "
                "sd; leave out runs that never recovered from a spike."
            )
        return lines

    def bar_lines(self) -> list[str]:
        """Return for each recipe a line with the settings at which the mean meets the bar."""
        lines = []
        axes = [name for name in self.passed if name not in ("family", "mean", "se", "met", "probability")]
        side, called = ("above", "score") if self.higher_is_better else ("below", "loss")
        for family, rows in self.passed.groupby("family", sort=False):
            number = int(np.argmax(rows["met"].to_numpy(bool))) if rows["met"].any() else len(rows) - 1
            row = rows.iloc[number]
            told = setting_text({name: row[name] for name in axes}) or "the only setting"
            mean = f"{shown(row['mean'], row['se'])} (expected {called} {side} it with probability"
            if not row["met"]:
                lines.append(
                    f"The mean of {family} is not {side} {self.bar:.10g} at any setting; at {told} it is {mean} "
                    f"{chance(row['probability'])})."
                )
                continue
            line = f"The mean of {family} is first {side} {self.bar:.10g} at {told}: {mean} "
            line += f"{chance(row['probability'])})"
            if number:
                before = rows.iloc[number - 1]
                line += f"; {setting_text({name: before[name] for name in axes})} has "
                line += shown(before["mean"], before["se"])
            lines.append(line + ".")
        return lines

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table of means."""
        return self.table.copy()

    def to_dict(self) -> dict[str, Any]:
        """Return all results as plain values, ready for JSON."""
        return {
            "text": self.text,
            "sd": {f"{level:g}": value for level, value in self.sd.items()},
            "freedom": self.freedom,
            "level": self.level,
            "settings": self.table.astype(object).where(self.table.notna(), None).to_dict("records"),
            "differences": [dataclasses.asdict(difference) for difference in self.differences],
            "resolution": self.resolution.to_dict("records"),
            "bar": self.bar,
            "passed": self.passed.to_dict("records"),
            "first_met": self.first_met,
            "p_same": dict(self.p_same),
            "trend": None if self.trend is None else dataclasses.asdict(self.trend),
            "far": self.far.to_dict("records"),
        }

    def __repr__(self) -> str:
        """Return the text, cut to one screen."""
        return checked.one_screen(str(self))

    def __str__(self) -> str:
        """Return the answer in words."""
        return self.text


@known_keywords
def noise(
    runs: Runs,
    *,
    bar: float | None = None,
    reference: float | None = None,
    within: float | None = None,
    seeds: Sequence[int] = SEEDS,
    level: float = 0.9,
    most_seeds: int = MOST_SEEDS,
    error: float = ERROR,
) -> SeedNoise:
    """Estimate the seed sd, differences of recipes, and the smallest differences that given numbers of seeds can show.

    Each family of the runs is one recipe. Runs of one recipe with equal inputs and equal step are replicates.

    Args:
        runs: Runs with replicates, of one scale or several.
        bar: Loss that a mean should be below, or score that it should exceed. The result then has the first setting
            (step, size) at which it does.
        reference: Loss that another run should reproduce; needs `within`.
        within: Tolerance around the reference.
        seeds: Numbers of seeds of each recipe for which the smallest visible difference is stated.
        level: Central probability of intervals.
        most_seeds: Number of planned seeds of each recipe, for a sequential test after every seed.
        error: Probability that this sequential test names a recipe although there is no difference.

    Raises:
        InputError: For runs without replicates, a score that was read as a loss, or impossible numbers.

    Example:
        >>> import bayescale as bs, pandas as pd
        >>> table = pd.DataFrame({"family": list("aabb"), "seed": [0, 1, 0, 1], "loss": [3.282, 3.281, 3.280, 3.279]})
        >>> found = bs.decide.noise(bs.Runs.from_frame(table, inputs=[]))
        >>> round(found.differences[0].difference, 4)
        -0.002
    """
    runs = checked_runs(runs)
    check_options(bar, reference, within, seeds, level)
    whole = checked.whole(2, 50)
    checked.options(most_seeds=(most_seeds, whole), error=(error, checked.PROBABILITY))
    refuse_rising(runs)
    if runs.value is not None:
        raise InputError(
            "Seed noise relative to the mean is for losses and scores, and these runs have values of any sign. Fit "
            "them: seed_sd of post.summary(), times post.runs.value.unit, is their seed noise. Recipes are compared by "
            "their fits."
        )
    for name, value in {"bar": bar, "reference": reference}.items():
        if runs.score is not None and value is not None and value >= 1.0:
            raise InputError(f"{name} is a score between 0 and 1, as 0.64 for 64 % (--{name}); found {value:g}.")
    frame = runs.frame.assign(loss=runs.frame["loss" if runs.score is None else "score"])
    axes = [name for name in (*runs.inputs, "step") if name in frame and frame[name].nunique() > 1]
    frame = frame.assign(**{name: pd.to_numeric(frame[name]) for name in axes})
    groups = frame.groupby(["family", *axes], sort=False)["loss"]
    counts = groups.size()
    freedom, total = residuals(frame, axes, runs.name)
    higher = runs.score is not None
    median = item_noise(frame) if higher else PRIOR_MEDIAN
    spread = relative_sds(total, freedom, median=median)
    center = float(frame["loss"].mean())
    table = means_table(groups, counts, spread, axes)
    asked = Question(spread, median, float(level), higher, int(most_seeds), float(error))
    differences = tuple(all_differences(frame, axes, asked))
    ends = [round(share, 6) for share in (0.5 - level / 2, 0.5, 0.5 + level / 2)]
    passed = pd.DataFrame(columns=["family", *axes, "mean", "se", "met", "probability"])
    if bar is not None:
        passed = met_bar(table, axes, spread, bar, higher)
    return SeedNoise(
        table=table,
        sd={share: float(center * np.quantile(spread, share)) for share in ends},
        freedom=freedom,
        level=float(level),
        differences=differences,
        resolution=smallest_gaps(seeds, center * float(np.median(spread)), paired_sds(frame, axes)),
        bar=bar,
        passed=passed,
        reference=reference,
        within=within,
        p_same={} if within is None else same_again(frame, axes, spread, float(reference or 0.0), within),
        response=runs.response,
        higher_is_better=higher,
        trend=seed_trend(frame, axes[0], ends) if one_axis(frame, axes) and axes[0] in runs.inputs else None,
        far=far_runs(frame[[name for name in ("family", "run", "seed", *axes, "loss") if name in frame]], axes),
    )


def check_options(
    bar: float | None, reference: float | None, within: float | None, seeds: Sequence[int], level: float
) -> None:
    """Refuse impossible options.

    Raises:
        InputError: With the option, what was expected and what was found.
    """
    for name, value in {"bar": bar, "reference": reference, "within": within}.items():
        checked.options(**{name: (value, checked.optional(checked.POSITIVE))})
    if (reference is None) != (within is None):
        raise InputError(
            "reference= and within= belong together (--reference, --within): the loss to reproduce, and the tolerance."
        )
    if not isinstance(seeds, Sequence | np.ndarray) or not all(checked.is_real(count) for count in seeds):
        raise InputError(f"seeds are whole numbers from 1 to 10,000 (--seeds); found {checked.shortened(seeds)}.")
    bad = [count for count in seeds if not (float(count).is_integer() and 1 <= count <= 10_000)]
    if bad:
        raise InputError(f"seeds are whole numbers from 1 to 10,000 (--seeds); found {some(bad)}.")
    if not checked.PROBABILITY.holds(level):
        raise InputError(f"An interval's level must lie in (0, 1), e.g. 0.9; found {checked.shortened(level)}.")


def residuals(frame: pd.DataFrame, axes: list[str], name: str) -> tuple[int, float]:
    """Return the degrees of freedom of the seed sd, and the sum of squared relative residuals that belongs to them.

    Several steps of one run are no independent evidence: where runs have steps, runs are counted instead of rows.

    Raises:
        InputError: For runs without replicates.
    """
    groups = frame.groupby(["family", *axes], sort=False)["loss"]
    counts = groups.size()
    square = float(groups.apply(lambda values: float(((values / values.mean() - 1.0) ** 2).sum())).sum())
    freedom = int((counts - 1).sum())
    named = [column for column in ("run", "seed") if column in frame]
    if "step" in axes and named and freedom >= 1:
        others = ["family", *(axis for axis in axes if axis != "step")]
        per_setting = frame.groupby(others, sort=False)[named].apply(lambda part: len(part.drop_duplicates()))
        runs = int((per_setting - 1).sum())
        freedom, square = runs, square * runs / freedom
    if freedom < 1:
        raise InputError(
            f"{name} has no replicates: {counted(len(frame), 'row')} at {counted(len(counts), 'setting')}. "
            "To measure noise, give rows with equal inputs and different seeds (a column "
            "seed or run)."
        )
    return freedom, square


def refuse_rising(runs: Runs) -> None:
    """Refuse a score that was read as a loss, because the worse recipe would be called the better one.

    Raises:
        InputError: With the option that reads the column as a score.
    """
    for entry in runs.log:
        if entry.code == "score" and runs.score is None and "where models get better" in entry.text:
            name = entry.columns[0] if entry.columns else "accuracy"
            raise InputError(
                f"{name!r} looks like a score, and the higher value would count as the worse one. Read it with "
                f"score={name!r} (--score {name}), or its error rate with derive='error_rate' (--derive error_rate)."
            )


def one_axis(frame: pd.DataFrame, axes: list[str]) -> bool:
    """Return whether all inputs grow together from setting to setting, so that settings have one order."""
    if "step" in axes:
        return False
    settings = frame[axes].drop_duplicates().sort_values(axes).to_numpy(float) if axes else np.zeros((0, 0))
    return len(settings) > 1 and bool((np.diff(settings, axis=0) > 0.0).all())


def item_noise(frame: pd.DataFrame) -> float:
    """Return the prior median of a score's relative seed sd: the scatter that the number of items alone causes."""
    score, items = frame["score"].to_numpy(float), frame["n_items"].to_numpy(float)
    share = np.clip(score, 0.5 / items, 1.0 - 0.5 / items)
    return float(np.sqrt(np.mean(share * (1.0 - share) / items)) / np.mean(share))


def smallest_gaps(seeds: Sequence[int], sd: float, paired: float | None) -> pd.DataFrame:
    """Return for each number of seeds the smallest difference found by a one-sided t test at 1 - `CLEAR` with `POWER`.

    Args:
        seeds: Numbers of seeds of each recipe.
        sd: Seed sd on the scale of the response.
        paired: Standard deviation of the difference of two runs with the same seed; None where no seeds are shared.
    """
    rows = []
    for count in sorted({int(number) for number in seeds}):
        gap = noncentrality(2 * count - 2) * np.sqrt(2.0 / count) * sd
        row = {"seeds": count, "certainty": CLEAR, "power": POWER, "gap": gap}
        rows.append(row | ({} if paired is None else {"gap_paired": noncentrality(count - 1) * paired / count**0.5}))
    return pd.DataFrame(rows)


@functools.cache
def noncentrality(freedom: int) -> float:
    """Return the smallest difference, in standard errors, that a one-sided t test finds; inf without freedom."""
    if freedom < 1:
        return float("inf")
    limit = stats.t.ppf(CLEAR, freedom)
    return float(optimize.brentq(lambda size: stats.nct.sf(limit, freedom, size) - POWER, 0.0, 10.0 * limit))


def means_table(groups: Any, counts: pd.Series, spread: np.ndarray, axes: list[str]) -> pd.DataFrame:
    """Return a table of recipes and settings: number of runs, mean, standard error of the mean, and sd of one run."""
    table = pd.DataFrame({"runs": counts, "mean": groups.mean(), "own": groups.std(ddof=1)}).reset_index()
    table["sd"] = table.pop("own").fillna(float(np.median(spread)) * table["mean"])
    table["se"] = table["sd"] / np.sqrt(table["runs"])
    return table.sort_values(["family", *axes], kind="stable", ignore_index=True)


def met_bar(table: pd.DataFrame, axes: list[str], spread: np.ndarray, bar: float, higher: bool) -> pd.DataFrame:
    """Return for each setting whether the mean meets the bar, and the probability that the expected response does."""
    rows = table[["family", *axes, "mean", "se"]].copy()
    rows["met"] = rows["mean"] > bar if higher else rows["mean"] < bar
    scale = table["mean"].to_numpy() * spread[:, None] / np.sqrt(table["runs"].to_numpy())
    location = np.broadcast_to(rows["mean"].to_numpy(float), scale.shape)
    below = mixture_cdf(np.full(len(rows), float(bar)), location, scale)
    rows["probability"] = 1.0 - below if higher else below
    return rows


def same_again(
    frame: pd.DataFrame, axes: list[str], spread: np.ndarray, reference: float, within: float
) -> dict[str, float]:
    """Return the probability that another run ends within a tolerance of a reference, by recipe."""
    return {
        str(family): another_within(own, axes, spread, reference, within)
        for family, own in frame.groupby("family", sort=False)
    }


def another_within(rows: pd.DataFrame, axes: list[str], spread: np.ndarray, reference: float, within: float) -> float:
    """Return the probability that another run at a recipe's largest setting ends within a tolerance of a reference."""
    largest = (rows[axes] == rows[axes].max()).all(axis=1) if axes else np.ones(len(rows), bool)
    values = rows.loc[largest, "loss"].to_numpy(float)
    scale = values.mean() * spread * np.sqrt(1.0 + 1.0 / len(values))
    low, high = (ndtr((reference + shift - values.mean()) / scale) for shift in (-within, within))
    return float(np.mean(high - low))
