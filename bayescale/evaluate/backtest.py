"""Backtest: hold out the largest runs, forecast them from the smaller ones, and score the forecasts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Unpack

import numpy as np
import pandas as pd

from bayescale import _io
from bayescale._display import Display
from bayescale.checked import known_keywords, one_screen, shortened, whole
from bayescale.checked import options as check_options
from bayescale.data.ray import find_ray
from bayescale.data.runs import Runs, checked, scale_of, several
from bayescale.digits import factor_shown, shown
from bayescale.errors import InputError, because, counted, some
from bayescale.evaluate import scores
from bayescale.fitting.fit_many import fit_many
from bayescale.fitting.options import FitOptions, list_fit_options, request_fit
from bayescale.forecast import Forecast
from bayescale.laws.law import Law
from bayescale.model.designs import DESIGNS
from bayescale.posterior.fitted import Fitted
from bayescale.posterior.notes import Note
from bayescale.posterior.posterior import Failure
from bayescale.score_forecast import ScoreForecast, ValueForecast

QUANTILES = (0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975)
COLUMNS = (
    *("family", "row", "setting", "ratio", "law", "y"),
    *(f"q{q:g}" for q in QUANTILES),
    *("pit", "crps", "log_score", "status", "n_train", "extrapolation"),
)
LEVELS = (0.5, 0.8, 0.9, 0.95)
FEWEST = 3
"""Fewest training rows of a split."""
TOLERANCE = 1e-9
"""Relative rounding error that is ignored when scales are compared."""
RESAMPLES = 1000
FEWEST_SHARED = 5
"""With fewer held-out runs than this, coverage is written as a count instead of a fraction."""
OVERALL = "overall"


@dataclasses.dataclass(frozen=True)
class Split:
    """One family, divided into training and held-out rows at a scale.

    Attributes:
        family: The whole family.
        label: Name of the family in tables.
        ratio: Requested extrapolation factor, or the factor by which held-out rows exceed the training rows.
        train: Whether a row is a training row, shape (row,).
        scale: Scale of each row, shape (row,).
    """

    family: Runs
    label: str
    ratio: float
    train: np.ndarray
    scale: np.ndarray


@known_keywords
@dataclasses.dataclass(frozen=True)
class Backtest(Display):
    """Forecasts of held-out runs, with their scores.

    Attributes:
        frame: One row for each held-out run. `family`, `row` (number in its family, from 0), `setting` (its inputs as
            text), `law`, the measured response `y` and forecast quantiles are on the scale of the response; `pit`,
            `crps` and `log_score` are on the log scale, for values on their own scale. `ratio` is the requested
            extrapolation factor and `extrapolation` the factor beyond the largest training scale. `status` is that of
            the fit, and `n_train` its number of training rows.
        skipped: Family, requested extrapolation factor and reason, for every split that could not be made or fitted.
        posteriors: The fits, in the order of the splits.
        warnings: Family, requested extrapolation factor and warning of `Posterior.check`, for each fit.
    """

    frame: pd.DataFrame
    skipped: list[tuple[str, float, str]]
    posteriors: list[Fitted]
    warnings: list[tuple[str, float, Note]] = dataclasses.field(default_factory=list)

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table of forecasts."""
        return self.frame.copy()

    def by_ratio(self, levels: Iterable[float] = LEVELS) -> pd.DataFrame:
        """Return the coverage of the forecasts for each requested extrapolation factor.

        Args:
            levels: Nominal coverages (central probabilities) of the intervals.

        Returns:
            One row for each requested factor: `requested_ratio`, number of `families`, number of `held_out` rows,
            `extrapolation` (median factor of these rows beyond the largest training row), `covers_L` for each level L,
            and `crps` and `width95` as in `scores`.

        Raises:
            InputError: For a level outside (0, 1).

        Example:
            >>> bs.backtest(runs, ratio=[3, 10], seed=0).by_ratio()  # doctest: +SKIP
        """
        asked, rows = list(levels), []
        for ratio, part in self.frame.groupby("ratio", sort=True):
            own = dataclasses.replace(self, frame=part)
            mean = own.scores().iloc[-1]
            shares = own.coverage(asked)[["level", "coverage"]].to_numpy()
            held = {f"covers_{level:g}": share for level, share in shares}
            reached = float(np.median(part["extrapolation"].to_numpy(float)))
            row = {"requested_ratio": ratio, "families": part["family"].nunique(), "held_out": len(part)}
            rows.append(row | {"extrapolation": reached, **held, "crps": mean["crps"], "width95": mean["width95"]})
        return pd.DataFrame(rows)

    def coverage(self, levels: Iterable[float] = LEVELS, *, method: str = "bayescale") -> pd.DataFrame:
        """Return the fraction of held-out runs inside central intervals: the mean over families of their fractions.

        Args:
            levels: Nominal coverages (central probabilities) of the intervals.
            method: Name of these forecasts in the table, e.g. for `plot.reliability`.

        Returns:
            Columns method, level, coverage, and low and high, the ends of a 95 % bootstrap interval over families (NaN
            for fewer than two families).

        Raises:
            InputError: For a level outside (0, 1).
        """
        family = self.frame["family"].astype(str).to_numpy()
        members = [np.flatnonzero(family == name) for name in dict.fromkeys(family)]
        # All levels use the same resamples, so that they can be compared.
        picks = np.random.default_rng(0).integers(len(members), size=(RESAMPLES, len(members)))
        away = np.abs(self.frame["pit"].to_numpy(float) - 0.5)
        table = []
        for level in levels:
            if not 0 < level < 1:
                raise InputError(f"An interval's level must lie in (0, 1), e.g. 0.8; found {level}.")
            # A forecast that is not a number counts as covering nothing.
            inside = away <= 0.5 * level + 1e-12
            means = np.array([inside[rows].mean() for rows in members])
            low, high = np.quantile(means[picks].mean(1), [0.025, 0.975]) if len(members) > 1 else (math.nan, math.nan)
            table.append((method, float(level), float(means.mean()), float(low), float(high)))
        return pd.DataFrame(table, columns=["method", "level", "coverage", "low", "high"])

    def coverage_text(self) -> str:
        """Return a text about how many held-out runs lie inside central intervals, as fractions if there are enough."""
        if len(self.frame) < FEWEST_SHARED:
            return f"Coverage: {', '.join(self.held_words())}; too few for percentages."
        # With one family there is no interval over families.
        table = self.coverage().dropna(axis="columns", how="all").to_string(index=False)
        return f"Coverage of {counted(len(self.frame), 'held-out run')}:\n{table}"

    def held_words(self) -> list[str]:
        """Return for each level how many held-out runs lie inside the intervals, or the mean fraction over families."""
        away = np.abs(self.frame["pit"].to_numpy(float) - 0.5)
        if len(away) < FEWEST_SHARED:
            inside = {level: int((away <= 0.5 * level + 1e-12).sum()) for level in LEVELS}
            return [f"{100 * level:g} % intervals contained {count} of {len(away)}" for level, count in inside.items()]
        shares = self.coverage()[["level", "coverage"]].to_numpy()
        return [f"{100 * level:g} % intervals contained {100 * share:.0f} %" for level, share in shares]

    def scores(self) -> pd.DataFrame:
        """Return the mean scores of each family and, in the last row, the mean over families.

        Returns:
            Columns family, n (number of held-out forecasts), crps, log_score (larger is better), rmsle of the median
            and width95, the mean width of the 95 % interval, all on the log scale. If a forecast is NaN, so are the
            scores of its family. For values all are on their own scale, and the error is called rmse.
        """
        valued, rows = self.valued, []
        named = "rmse" if valued else "rmsle"
        for family, part in self.frame.groupby("family", sort=False):
            y, middle, low, high = (part[name].to_numpy(float) for name in ("y", "q0.5", "q0.025", "q0.975"))
            error, width = (y - middle, high - low) if valued else (np.log(y / middle), np.log(high / low))
            rows.append(
                {
                    "family": family,
                    "n": len(part),
                    "crps": part["crps"].to_numpy(float).mean(),
                    "log_score": part["log_score"].to_numpy(float).mean(),
                    named: math.sqrt((error**2).mean()),
                    "width95": width.mean(),
                }
            )
        table = pd.DataFrame(rows)
        mean = {name: table[name].to_numpy().mean() for name in ("crps", "log_score", named, "width95")}
        last = {"family": OVERALL, "n": sum(row["n"] for row in rows), **mean}
        return pd.DataFrame([*rows, last])

    @property
    def valued(self) -> bool:
        """Return whether the response is a value of any sign, such as a reward."""
        return bool(self.posteriors) and self.posteriors[0].runs.value is not None

    def save_csv(self, path: str | Path) -> Path:
        """Write the table of forecasts, completely or not at all.

        Args:
            path: The file; an existing one is replaced.

        Returns:
            The path.

        Raises:
            InputError: For a path as in `_io.writable`.
        """
        return _io.write(path, lambda part: self.frame.to_csv(part, index=False))

    def __repr__(self) -> str:
        """Return the text, cut to one screen."""
        return one_screen(str(self))

    def __str__(self) -> str:
        """Return the number of forecasts, their coverage and the width of their intervals."""
        mean = self.scores().iloc[-1]
        error, scale = ("rmse", "in units of the value") if self.valued else ("rmsle", "log scale")
        held = ", ".join(self.held_words())
        taken = self.design_text()
        lines = [
            f"Backtest: {counted(len(self.frame), 'held-out run')} of "
            f"{counted(self.frame['family'].nunique(), 'family', 'families')}{f', {taken}' if taken else ''}",
            f"  {held}",
            f"  crps {mean['crps']:.4g}, log score {mean['log_score']:.4g}, {error} {mean[error]:.4g}, "
            f"95 % width {mean['width95']:.4g} ({scale}, mean over families)",
        ]
        lines += [f"  {line}" for line in self.held_out_text().splitlines()]
        lines += [f"  skipped {line}" for line in told_once(self.skipped)]
        lines += [f"  doubtful {line}" for line in told_once((f, ratio, note.text) for f, ratio, note in self.warnings)]
        return "\n".join(lines)

    @property
    def designs(self) -> dict[str, str]:
        """Design (a key of `DESIGNS`) that each fit assumed, by the name of its runs."""
        return {post.runs.name: post.first.job.design for post in self.posteriors}

    def design_text(self) -> str:
        """Return a sentence with the designs that the fits assumed, and their numbers if there are several designs."""
        taken = list(self.designs.values())
        kinds = {kind: taken.count(kind) for kind in DESIGNS if kind in taken}
        if not kinds or list(kinds) == ["several"]:
            return "fitted along several inputs" if kinds else ""
        if len(kinds) == 1:
            ((kind, number),) = kinds.items()
            told = f"a {kind}" if number == 1 else f"{kind}s"
        else:
            told = ", ".join(
                f"{number} of several inputs" if kind == "several" else counted(number, kind)
                for kind, number in kinds.items()
            )
        return f"taken for {told}; design= (--design) says otherwise"

    def held_out_text(self, most: int = 10) -> str:
        """Return a text table of the held-out runs: setting, measured response, median, intervals, which contain it.

        Args:
            most: Number of runs that are shown; of further runs only the number is given.
        """
        frame = self.frame.head(most)
        # Two digits of a tenth of the 80 % interval, as in forecasts.
        fine = (frame["q0.9"] - frame["q0.1"]).to_numpy(float) / 10

        def written(name: str) -> list[str]:
            return [shown(value, one) for value, one in zip(frame[name].astype(float), fine, strict=True)]

        table = pd.DataFrame({"family": frame["family"].astype(str), "ratio": [f"{r:.4g}" for r in frame["ratio"]]})
        table["setting"], table["observed"], table["median"] = frame["setting"], written("y"), written("q0.5")
        for level, low, high in ((80, "q0.1", "q0.9"), (95, "q0.025", "q0.975")):
            ends = zip(written(low), written(high), strict=True)
            table[f"{level} % interval"] = [f"{one} to {other}" for one, other in ends]
            inside = scores.covered(frame["y"].to_numpy(), frame[low].to_numpy(), frame[high].to_numpy())
            table[f"inside {level} %"] = np.where(inside, "yes", "no")
        alike = [name for name in ("family", "ratio") if self.frame[name].nunique(dropna=False) == 1]
        lines = table.drop(columns=alike).to_string(index=False).splitlines()
        rest = len(self.frame) - len(frame)
        return "\n".join([*lines, *([f"and {counted(rest, 'more held-out run')}"] if rest else [])])


def told_once(entries: Iterable[tuple[str, float | None, str]]) -> list[str]:
    """Write sentences about families at extrapolation factors, equal ones once: ``a at 3, b at 3: Chains disagree``.

    Args:
        entries: Family, requested extrapolation factor (None or NaN where there is none) and sentence.
    """
    named: dict[str, list[str]] = {}
    for family, ratio, text in entries:
        at = "" if ratio is None or math.isnan(ratio) else f" at {factor_shown(ratio, 3)}"
        named.setdefault(text, []).append(f"{family}{at}")
    return [f"{some(list(dict.fromkeys(names)))}: {text}" for text, names in named.items()]


@list_fit_options(method="auto")
def backtest(
    runs: Runs | Iterable[Runs],
    law: str | Law = "auto",
    *,
    ratio: float | Sequence[float] | None = None,
    largest: int | None = None,
    seed: int,
    progress: bool | None = None,
    min_train: int = FEWEST,
    folder: str | Path | None = None,
    executor: Executor | None = None,
    **options: Unpack[FitOptions],
) -> Backtest:
    """Forecast the largest runs of each family from its smaller ones, and score the forecasts.

    The scale of a run is its single input, or its compute: flops if all rows have it, else 6 n_params n_tokens, else
    the product of the inputs. Each held-out run is forecast as one future run, by a fit to the training rows only.

    Args:
        runs: Runs of one or many families, or several `Runs`, each of which is a family under its own name.
        law: A law or its name; "auto" is chosen for each family as in `fit`.
        ratio: Requested extrapolation factor, or several, each of which gives a split. Rows up to the largest scale
            divided by it are training rows; the others are held out.
        largest: Instead of `ratio`, the number of largest sizes (distinct scales) to hold out, with all runs of each.
        seed: Seed of all random numbers.
        progress: Show a progress bar; by default only on a terminal.
        min_train: Families with fewer training rows are skipped, and listed in `Backtest.skipped`.
        folder: Folder of finished fits, see `fit_many`.
        executor: Where to fit, see `fit_many`.
        **options: Options of the fits, see `fit`. Here `method` is "auto" by default: importance sampling is tried
            first, because a backtest needs many fits.

    Raises:
        InputError: For neither or both of `ratio` and `largest`, impossible values of these, or if no family can be
            split.

    Example:
        >>> import bayescale as bs
        >>> runs = bs.corpus.load("marin_moe_v16_minima")  # doctest: +SKIP
        >>> bs.backtest(runs, ratio=10, seed=0).scores()  # doctest: +SKIP
    """
    cuts = checked_cuts(ratio, largest)
    check_options(min_train=(min_train, whole(1, 1_000_000)))
    options = FitOptions(**{"method": "auto", **options})
    request_fit(law, seed, options)
    splits: list[Split] = []
    skipped: list[tuple[str, float, str]] = []
    if isinstance(runs, Runs):
        families = [(str(family.frame["family"].iloc[0]), family) for family in runs.split()]
    else:
        members = several(runs)
        families = [(family.name, family) for member in members for family in checked(member).split()]
    for label, family in families:
        for cut in cuts:
            split = cut_family(family, label, cut, largest)
            reason = why_not(split, min_train)
            if reason:
                skipped.append((split.label, split.ratio, reason))
            else:
                splits.append(split)
    if not splits:
        told = shortened(largest)
        at, asked = (" at {:g}", "") if largest is None else ("", f" with largest={told} (--largest {told})")
        reasons = because((family + at.format(factor), reason) for family, factor, reason in skipped)
        raise InputError(f"No family can be split{asked}. {reasons} Hold out fewer, or use more runs.")
    training = [training_runs(split) for split in splits]
    results = fit_many(training, law, seed=seed, folder=folder, executor=executor, progress=progress, **options)
    tables: list[pd.DataFrame] = []
    posteriors: list[Fitted] = []
    warnings: list[tuple[str, float, Note]] = []
    for split, result in zip(splits, results, strict=True):
        if isinstance(result, Failure):
            skipped.append((split.label, split.ratio, result.reason))
        else:
            tables.append(score(split, result))
            posteriors.append(result)
            notes = result.check(prior=False)
            warnings += [(split.label, split.ratio, note) for note in notes if note.severity == "warning"]
    return Backtest(pd.concat(tables, ignore_index=True), skipped, posteriors, warnings)


def checked_cuts(ratio: float | Sequence[float] | None, largest: int | None) -> list[float | None]:
    """Return the requested extrapolation factors, or a single None if `largest` is given.

    Raises:
        InputError: For values that cannot split a family.
    """
    if (ratio is None) == (largest is None):
        found = "neither" if ratio is None else "both"
        raise InputError(
            "Say what to hold out: ratio=10 (--ratio 10) for rows within a factor 10 of the largest, or largest=1 "
            f"(--largest 1) for the runs of the largest size; found {found}."
        )
    if largest is not None:
        if isinstance(largest, bool) or not isinstance(largest, (int, np.integer)) or largest < 1:
            raise InputError(f"largest must be a whole number of at least 1; found {largest!r}.")
        return [None]
    try:
        ratios = [float(value) for value in np.atleast_1d(np.asarray(ratio, float))]
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"ratio must be a number above 1, or several; found {shortened(ratio)}.") from None
    bad = [value for value in ratios if not (math.isfinite(value) and value > 1)]
    if bad or not ratios:
        found = some(bad) if bad else "none"
        raise InputError(f"ratio must be above 1, e.g. 10 to forecast ten times further; found {found}.")
    return list(dict.fromkeys(ratios))


def cut_family(family: Runs, label: str, ratio: float | None, largest: int | None) -> Split:
    """Divide the rows of one family into training and held-out rows."""
    scale = scale_of(family)
    if ratio is not None:
        return Split(family, label, ratio, scale <= scale.max() / ratio * (1.0 + TOLERANCE), scale)
    assert largest is not None, "checked_cuts saw to it"
    # Runs of one size must be on the same side of a cut, because they are replicates or similar.
    sizes = np.sort(scale)
    sizes = sizes[np.diff(sizes, prepend=0.0) > TOLERANCE * sizes]
    if largest >= len(sizes):
        return Split(family, label, math.nan, np.zeros(len(scale), bool), scale)
    train = scale < sizes[-largest] * (1.0 - TOLERANCE)
    factor = float(scale.max() / scale[train].max()) if train.any() else math.nan
    return Split(family, label, factor, train, scale)


def training_runs(split: Split) -> Runs:
    """Return the training rows of a split."""
    # All rows of a family decide whether it is a ladder along one ray, not only those below a cut.
    one_ray = find_ray(split.family.frame, split.family.inputs) is not None
    return dataclasses.replace(split.family.select(split.train), one_ray=one_ray)


def why_not(split: Split, min_train: int) -> str:
    """Return the reason why a split cannot be fitted; empty if it can."""
    count = int(split.train.sum())
    if count < min_train:
        return f"{count} training rows, where at least {min_train} are needed"
    scales = split.scale[split.train]
    if scales.max() <= scales.min() * (1.0 + TOLERANCE):
        return f"all {count} training rows are at one scale ({scales[0]:.4g})"
    inputs = split.family.frame.loc[split.train, list(split.family.inputs)]
    if (inputs.nunique() == 1).all():
        return f"all {count} training rows have the same inputs"
    return ""


def judged(forecast: Forecast, y: np.ndarray) -> dict[str, np.ndarray]:
    """Return the PIT, CRPS and log score of a forecast of measured responses, shape (point,) each.

    For losses, all are computed for ln(loss). For scores, the CRPS is that of the score, the PIT counts draws equal to
    the measured score half, and there is no log score. For values, all are those of the value.
    """
    if isinstance(forecast, ValueForecast):
        location, scale = forecast.values.response(forecast.location), forecast.values.unit * forecast.scale
        return {name: getattr(scores, name)(y, location, scale) for name in ("pit", "crps", "log_score")}
    if isinstance(forecast, ScoreForecast):
        assert forecast.simulated is not None, "a forecast of measured scores"
        drawn = forecast.simulated
        pit = (drawn < y).mean(0) + 0.5 * (drawn == y).mean(0)
        return {"pit": pit, "crps": scores.crps_of_draws(y, drawn), "log_score": np.full(len(y), np.nan)}
    given = np.log(y), forecast.location, forecast.scale
    return {name: getattr(scores, name)(*given) for name in ("pit", "crps", "log_score")}


def forecast_held(split: Split, posterior: Fitted) -> tuple[Forecast, np.ndarray]:
    """Return the forecast of the held-out rows of a split, with measurement errors, and their responses, (row,)."""
    held = split.family.frame.iloc[np.flatnonzero(~split.train)]
    forecast = posterior.forecast_at(posterior.locate(held.drop(columns="loss"), {})[0], "run")
    if split.family.score is not None:
        forecast = forecast.measured(items=held["n_items"].to_numpy(float))
    elif "value_se" in held:
        forecast = forecast.measured(held["value_se"].to_numpy(float))
    return forecast, held[split.family.response_kind].to_numpy(float)


def score(split: Split, posterior: Fitted) -> pd.DataFrame:
    """Forecast the held-out rows of a split and score the forecasts."""
    rows = np.flatnonzero(~split.train)
    held = split.family.frame.iloc[rows]
    forecast, y = forecast_held(split, posterior)
    table = pd.DataFrame({"family": split.label, "row": rows, "ratio": split.ratio})
    table["setting"] = [
        ", ".join(f"{name}={row[name]:.4g}" for name in split.family.inputs)
        for row in held[list(split.family.inputs)].to_dict("records")
    ]
    table["law"] = posterior.law.name
    table["y"] = y
    for q, values in zip(QUANTILES, forecast.quantile(QUANTILES), strict=True):
        table[f"q{q:g}"] = values
    table = table.assign(**judged(forecast, y))
    table["status"] = posterior.status.name
    table["n_train"] = int(split.train.sum())
    table["extrapolation"] = split.scale[rows] / split.scale[split.train].max()
    return table.reindex(columns=list(COLUMNS))
