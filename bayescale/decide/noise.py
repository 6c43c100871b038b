"""Noise: what repeated runs of one setting say: seed sd, differences of recipes, and what so many seeds can show.

These questions need no scaling law. Runs with equal inputs (and equal step, where runs were measured at several) are
replicates; `bayescale.decide.seed_differences` has the model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from bayescale import checked
from bayescale._display import Display
from bayescale.checked import is_real, known_keywords
from bayescale.data.runs import Runs
from bayescale.data.runs import checked as checked_runs
from bayescale.decide.seed_differences import (
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
"""A gap counts as shown at this probability that its sign is right, and a number of seeds as enough at this power."""
SEEDS = (2, 3, 5, 8, 12)
"""Numbers of seeds whose resolution is stated."""


@known_keywords
@dataclasses.dataclass(frozen=True)
class SeedNoise(Display):
    """Estimates from replicates: seed sd, means, differences.

    Attributes:
        table: One row a recipe and setting: `family`, the inputs and `step` where they vary, `runs`, `mean`, its
            standard error `se`, and `sd` of one run, with the posterior of all replicates for groups of one run.
        sd: Quantiles of the seed sd, on the scale of the loss, by probability.
        freedom: Degrees of freedom behind it: runs less settings.
        level: Central probability of all intervals.
        differences: One for each pair of recipes and setting.
        resolution: One row a number of seeds: the smallest true difference of two recipes (`gap`, and `gap_paired`
            where recipes share seeds) whose sign so many seeds of each show with a certainty (`certainty`) of .95,
            with a probability (`power`) of .8.
        bar: Loss that a mean should fall below, or None.
        passed: One row a recipe and setting: `mean`, `se`, `below` (whether the mean is below the bar) and
            `probability` that the expected loss is; empty without a bar.
        reference: Loss that another run is compared with, or None.
        within: Tolerance around it, or None.
        p_same: Probability that another run of each recipe ends within the tolerance, by recipe.
        response: What was measured, e.g. "loss".
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
    trend: SeedTrend | None = None
    far: pd.DataFrame = dataclasses.field(default_factory=pd.DataFrame)

    @property
    def first_below(self) -> dict[str, dict[str, float] | None]:
        """Return by recipe the first setting in order of scale whose mean is below the bar; None where none is."""
        found: dict[str, dict[str, float] | None] = {}
        for family, rows in self.passed.groupby("family", sort=False):
            below = rows[rows["below"]]
            found[str(family)] = None if below.empty else below.iloc[0].drop(["family", "below"]).to_dict()
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
        lines += difference_lines(self.differences, self.level)
        if not self.differences and len(self.table) == 1:
            row = self.table.iloc[0]
            lines.append(
                f"Mean of {counted(int(row['runs']), 'run')} {shown(row['mean'], row['se'])} (se {row['se']:.2g})."
            )
        if len(self.resolution):
            column = "gap_paired" if "gap_paired" in self.resolution else "gap"
            gaps = spreads_shown(list(self.resolution[column].astype(float)))
            told = [
                f"{counted(int(seeds), 'seed')} {gap}"
                for seeds, gap in zip(self.resolution["seeds"], gaps, strict=True)
            ]
            how = " (paired by seed)" if "gap_paired" in self.resolution else ""
            lines.append(
                f"Smallest difference of two recipes that is found with {100 * CLEAR:g} % certainty of its sign in "
                f"{100 * POWER:g} % of experiments (power), by seeds of each recipe{how}: {', '.join(told)}."
            )
        lines += self.bar_lines()
        for family, probability in self.p_same.items():
            lines.append(
                f"Another run of {family} ends within {self.within:g} of {self.reference:g} with probability "
                f"{chance(probability)}."
            )
        return "\n".join(lines)

    def trend_lines(self) -> list[str]:
        """Say how the seed sd changes with scale, and name runs that lie far from the others of their setting."""
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
        """List the settings at which means fall below the bar."""
        lines = []
        axes = [name for name in self.passed if name not in ("family", "mean", "se", "below", "probability")]
        for family, rows in self.passed.groupby("family", sort=False):
            number = int(np.argmax(rows["below"].to_numpy(bool))) if rows["below"].any() else len(rows) - 1
            row = rows.iloc[number]
            told = setting_text({name: row[name] for name in axes}) or "the only setting"
            mean = f"{shown(row['mean'], row['se'])} (expected loss below it with probability"
            if not row["below"]:
                lines.append(
                    f"The mean of {family} is not below {self.bar:.10g} at any setting; at {told} it is {mean} "
                    f"{chance(row['probability'])})."
                )
                continue
            line = f"The mean of {family} is first below {self.bar:.10g} at {told}: {mean} "
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
        """Return everything as plain values."""
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
            "first_below": self.first_below,
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
    """Estimate the seed sd, differences of recipes, and the differences that so many seeds can show.

    Families of the runs are recipes. Runs of one recipe with equal inputs and equal step are replicates.

    Args:
        runs: Runs with replicates, of one scale or several.
        bar: Loss that a mean should fall below: says at which setting (step, size) it first does.
        reference: Loss that another run should reproduce; needs `within`.
        within: Tolerance around the reference.
        seeds: Numbers of seeds for each recipe whose smallest visible gap is stated.
        level: Central probability of intervals.
        most_seeds: Seeds of each recipe that are planned, of looks at a difference after every seed.
        error: Chance that any of these looks names a recipe if there is no difference.

    Raises:
        InputError: For runs without replicates, or numbers that cannot be.

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
    frame = runs.frame
    axes = [name for name in (*runs.inputs, "step") if name in frame and frame[name].nunique() > 1]
    frame = frame.assign(**{name: pd.to_numeric(frame[name]) for name in axes})
    groups = frame.groupby(["family", *axes], sort=False)["loss"]
    counts = groups.size()
    square = groups.apply(lambda values: float(((values / values.mean() - 1.0) ** 2).sum()))
    freedom, total = degrees(frame, axes, counts, square)
    if freedom < 1:
        raise InputError(
            f"{runs.name} has no replicates: {counted(len(frame), 'row')} at {counted(len(counts), 'setting')}. "
            "Noise is what equal settings differ by; expected rows with equal inputs and different seeds (a column "
            "seed or run)."
        )
    spread = relative_sds(total, freedom)
    center = float(frame["loss"].mean())
    table = means_table(groups, counts, spread, axes)
    differences = tuple(all_differences(frame, axes, spread, level, {"most_seeds": int(most_seeds), "error": error}))
    ends = [round(share, 6) for share in (0.5 - level / 2, 0.5, 0.5 + level / 2)]
    passed = pd.DataFrame(columns=["family", *axes, "mean", "se", "below", "probability"])
    if bar is not None:
        passed = below_bar(table, axes, spread, bar)
    same = {}
    if reference is not None and within is not None:
        same = {
            str(family): another_within(own, axes, spread, reference, within)
            for family, own in frame.groupby("family", sort=False)
        }
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
        p_same=same,
        response=runs.response,
        trend=seed_trend(frame, axes[0], ends) if len(axes) == 1 and axes[0] in runs.inputs else None,
        far=far_runs(frame[[name for name in ("family", "run", "seed", *axes, "loss") if name in frame]], axes),
    )


def check_options(
    bar: float | None, reference: float | None, within: float | None, seeds: Sequence[int], level: float
) -> None:
    """Refuse options that cannot be.

    Raises:
        InputError: With the option and what was expected.
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


def degrees(frame: pd.DataFrame, axes: list[str], counts: pd.Series, square: pd.Series) -> tuple[int, float]:
    """Return the degrees of freedom of the seed sd, and the sum of squares of relative residuals that goes with them.

    Rows of one run at several steps say the same thing again: then runs are counted instead of rows.
    """
    freedom = int((counts - 1).sum())
    named = [name for name in ("run", "seed") if name in frame]
    if "step" not in axes or not named or freedom < 1:
        return freedom, float(square.sum())
    others = ["family", *(name for name in axes if name != "step")]
    per_setting = frame.groupby(others, sort=False)[named].apply(lambda part: len(part.drop_duplicates()))
    runs = int((per_setting - 1).sum())
    return runs, float(square.sum()) * runs / freedom


def smallest_gaps(seeds: Sequence[int], sd: float, paired: float | None) -> pd.DataFrame:
    """Return the smallest difference that is found with certainty `CLEAR` and power `POWER`, one row a number of seeds.

    Args:
        seeds: Numbers of seeds of each recipe.
        sd: Seed sd on the scale of the loss.
        paired: Standard deviation of the difference of two runs of one seed; None where no seeds are shared.
    """
    factor = float(ndtri(CLEAR) + ndtri(POWER))
    rows = []
    for count in sorted({int(number) for number in seeds}):
        row = {"seeds": count, "certainty": CLEAR, "power": POWER, "gap": factor * np.sqrt(2.0 / count) * sd}
        rows.append(row | ({} if paired is None else {"gap_paired": factor * paired / np.sqrt(count)}))
    return pd.DataFrame(rows)


def means_table(groups: Any, counts: pd.Series, spread: np.ndarray, axes: list[str]) -> pd.DataFrame:
    """Return one row a recipe and setting: number of runs, mean, its standard error and the sd of one run."""
    table = pd.DataFrame({"runs": counts, "mean": groups.mean(), "own": groups.std(ddof=1)}).reset_index()
    table["sd"] = table.pop("own").fillna(float(np.median(spread)) * table["mean"])
    table["se"] = table["sd"] / np.sqrt(table["runs"])
    return table.sort_values(["family", *axes], kind="stable", ignore_index=True)


def below_bar(table: pd.DataFrame, axes: list[str], spread: np.ndarray, bar: float) -> pd.DataFrame:
    """Return for each setting whether the mean, and with what probability the expected loss, is below a bar."""
    rows = table[["family", *axes, "mean", "se"]].copy()
    rows["below"] = rows["mean"] < bar
    scale = table["mean"].to_numpy() * spread[:, None] / np.sqrt(table["runs"].to_numpy())
    location = np.broadcast_to(rows["mean"].to_numpy(float), scale.shape)
    rows["probability"] = mixture_cdf(np.full(len(rows), float(bar)), location, scale)
    return rows


def another_within(rows: pd.DataFrame, axes: list[str], spread: np.ndarray, reference: float, within: float) -> float:
    """Return the probability that another run at the recipe's largest setting is within a tolerance of a reference."""
    largest = (rows[axes] == rows[axes].max()).all(axis=1) if axes else np.ones(len(rows), bool)
    values = rows.loc[largest, "loss"].to_numpy(float)
    scale = values.mean() * spread * np.sqrt(1.0 + 1.0 / len(values))
    low, high = (ndtr((reference + shift - values.mean()) / scale) for shift in (-within, within))
    return float(np.mean(high - low))
