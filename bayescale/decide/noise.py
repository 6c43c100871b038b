"""Likelihood: what repeated runs of one setting say: seed sd, differences of recipes, and what so many seeds can show.

These questions need no scaling law. Runs with equal inputs (and equal step, where runs were measured at several) are
replicates. Their losses are normal around the mean of their setting; the prior of the seed sd relative to the loss is
LogNormal(ln .0008, 1.2), around that of published replicates, which decides where there are two or three seeds only.
Differences of runs of one seed have a prior of spread 2: how much a shared seed cancels differs from case to case.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from bayescale import checked
from bayescale._display import Display
from bayescale.checked import known_keywords
from bayescale.data.runs import Runs
from bayescale.data.runs import checked as checked_runs
from bayescale.digits import NOTHING, decimals, shown, spread_shown, spreads_shown
from bayescale.errors import InputError, counted, some
from bayescale.forecast import mixture_cdf, mixture_quantile

PRIOR_MEDIAN, PRIOR_SD, PAIRED_SD = 0.0008, 1.2, 2.0
"""Prior of the seed sd relative to the loss: median, and sd of its logarithm, for runs and for paired differences."""
GRID = np.linspace(np.log(1e-7), np.log(0.3), 4001)
"""Logarithms of relative standard deviations on which the posterior is computed."""
DRAWS = 400
"""Equally likely standard deviations that represent the posterior."""
CLEAR, POWER = 0.95, 0.8
"""A gap counts as shown at this probability that its sign is right, and a number of seeds as enough at this power."""
SEEDS = (2, 3, 5, 8, 12)
"""Numbers of seeds whose resolution is stated."""


@dataclasses.dataclass(frozen=True)
class SeedDifference(Display):
    """Difference of the mean losses of two recipes at one setting.

    Attributes:
        first: Recipe A.
        second: Recipe B; negative differences are in its favour.
        setting: The setting, as text; empty where there is only one.
        pairs: Seeds that both have; 0 where runs are not paired.
        difference: Mean loss of B less that of A.
        error: Its standard error: of paired differences where there are pairs.
        unpaired_error: Its standard error without pairing.
        low: Lower end of the interval.
        high: Upper end.
        p_better: Probability that B has the lower mean.
        level: Central probability of the interval.
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
    differences = tuple(all_differences(frame, axes, spread, level))
    ends = [round(share, 6) for share in (0.5 - level / 2, 0.5, 0.5 + level / 2)]
    rows = []
    paired = paired_sds(frame, axes)
    for count in sorted({int(number) for number in seeds}):
        factor = ndtri(CLEAR) + ndtri(POWER)
        gap = float(factor * np.sqrt(2.0 / count) * center * np.median(spread))
        row = {"seeds": count, "certainty": CLEAR, "power": POWER, "gap": gap}
        rows.append(row | ({} if paired is None else {"gap_paired": float(factor * paired / np.sqrt(count))}))
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
        resolution=pd.DataFrame(rows),
        bar=bar,
        passed=passed,
        reference=reference,
        within=within,
        p_same=same,
        response=runs.response,
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


def relative_sds(square: float, freedom: int, prior_sd: float = PRIOR_SD) -> np.ndarray:
    """Return equally likely seed sds relative to the loss, shape (`DRAWS`,): the posterior on a grid.

    Args:
        square: Sum of squares of relative residuals.
        freedom: Its degrees of freedom.
        prior_sd: Standard deviation of the prior of its logarithm.
    """
    prior = -0.5 * ((GRID - np.log(PRIOR_MEDIAN)) / prior_sd) ** 2
    density = prior - freedom * GRID - 0.5 * square * np.exp(-2.0 * GRID)
    weight = np.cumsum(np.exp(density - density.max()))
    return np.exp(np.interp((np.arange(DRAWS) + 0.5) / DRAWS, weight / weight[-1], GRID))


def means_table(groups: Any, counts: pd.Series, spread: np.ndarray, axes: list[str]) -> pd.DataFrame:
    """Return one row a recipe and setting: number of runs, mean, its standard error and the sd of one run."""
    table = pd.DataFrame({"runs": counts, "mean": groups.mean(), "own": groups.std(ddof=1)}).reset_index()
    table["sd"] = table.pop("own").fillna(float(np.median(spread)) * table["mean"])
    table["se"] = table["sd"] / np.sqrt(table["runs"])
    return table.sort_values(["family", *axes], kind="stable", ignore_index=True)


def all_differences(frame: pd.DataFrame, axes: list[str], spread: np.ndarray, level: float) -> Any:
    """Yield the difference of each pair of recipes at each setting that both have, in the order of the file."""
    names = list(dict.fromkeys(frame["family"]))
    settings = frame[axes].drop_duplicates().to_dict("records") if axes else [{}]
    for first, second in itertools.combinations(names, 2):
        for setting in settings:
            rows = frame
            for name, value in setting.items():
                rows = rows[rows[name] == value]
            parts = [rows[rows["family"] == name] for name in (first, second)]
            if all(len(part) for part in parts):
                yield difference_of((str(first), str(second)), parts, setting_text(setting), spread, level)


def difference_of(
    names: tuple[str, str], parts: list[pd.DataFrame], setting: str, spread: np.ndarray, level: float
) -> SeedDifference:
    """Estimate the difference of two recipes at one setting."""
    values = [part["loss"].to_numpy(float) for part in parts]
    center = float(np.mean([value.mean() for value in values]))
    # Each recipe's own sd counts where it has seeds, the sd of all replicates where it has one.
    own = [value.std(ddof=1) if len(value) > 2 else center * float(np.median(spread)) for value in values]
    unpaired = float(np.sqrt(sum(sd**2 / len(value) for sd, value in zip(own, values, strict=True))))
    apart = differences_by_seed(parts)
    if len(apart) >= 2:
        mean = float(apart.mean())
        square = float((((apart - mean) / center) ** 2).sum())
        sds = center * relative_sds(square, len(apart) - 1, PAIRED_SD) / np.sqrt(len(apart))
        error = float(apart.std(ddof=1) / np.sqrt(len(apart))) if len(apart) > 2 else float(np.median(sds))
    else:
        mean = float(values[1].mean() - values[0].mean())
        sds = center * spread * np.sqrt(sum(1.0 / len(value) for value in values))
        error = unpaired
    location, scale = np.full((DRAWS, 1), mean), sds[:, None]
    low, high = mixture_quantile(np.array([0.5 - level / 2, 0.5 + level / 2]), location, scale)[:, 0]
    p_better = float(mixture_cdf(np.zeros(1), location, scale)[0])
    pairs = len(apart) if len(apart) >= 2 else 0
    return SeedDifference(*names, setting, pairs, mean, error, unpaired, float(low), float(high), p_better, level)


def differences_by_seed(parts: list[pd.DataFrame]) -> np.ndarray:
    """Return the loss of the second recipe less that of the first for each seed that both have, shape (pair,)."""
    if not all("seed" in part for part in parts):
        return np.zeros(0)
    means = [part.assign(seed=part["seed"].astype(str)).groupby("seed", sort=True)["loss"].mean() for part in parts]
    both = pd.concat(means, axis=1, join="inner").to_numpy(float)
    return both[:, 1] - both[:, 0]


def paired_sds(frame: pd.DataFrame, axes: list[str]) -> float | None:
    """Return the sd of the difference of two runs of one seed, pooled over pairs of recipes; None without any."""
    names = list(dict.fromkeys(frame["family"]))
    square, freedom = 0.0, 0
    for first, second in itertools.combinations(names, 2):
        for _, rows in frame.groupby(axes, sort=False) if axes else [((), frame)]:
            apart = differences_by_seed([rows[rows["family"] == name] for name in (first, second)])
            if len(apart) >= 2:
                square += float(((apart - apart.mean()) ** 2).sum())
                freedom += len(apart) - 1
    return float(np.sqrt(square / freedom)) if freedom else None


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


def difference_lines(differences: Sequence[SeedDifference], level: float) -> list[str]:
    """Write differences: one as a sentence, several as a table with equally many decimals in every row."""
    if len(differences) < 2:
        return [difference.text for difference in differences]
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
        }
    )
    kept = table.drop(columns=[] if table["setting"].any() else ["setting"])
    return [
        "Differences of mean losses; negative: the first-named recipe is better.",
        *kept.to_string(index=False).splitlines(),
    ]


def setting_text(setting: Mapping[str, Any]) -> str:
    """Write a setting as `step 2780` or `n_params 3e+07`."""
    return ", ".join(f"{name} {setting_value(value)}" for name, value in setting.items())


def setting_value(value: float) -> str:
    """Write one number of a setting in full, or with an exponent where that is as exact and shorter."""
    short = f"{value:.4g}"
    return short if value >= 1e6 and float(short) == value else f"{value:.10g}"


def chance(probability: float) -> str:
    """Write a probability with as many digits as it takes to tell it from certainty, at most four."""
    if probability > 0.9999:
        return "above .9999"
    digits = 2 if 0.01 < probability < 0.99 else 4
    return f"{probability:.{digits}f}".lstrip("0") or "0"
