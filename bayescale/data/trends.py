"""Trends: properties that change along the scales of a table and would mislead a fit that ignores them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from bayescale.data.log import LogEntry
from bayescale.data.value import ValueScale

FACTOR = 1.5
"""A setting that varies by less than this factor over the table is not reported as a confounder."""
MONOTONE = 0.9
"""Smallest rank correlation at which a setting counts as changing with the scale."""
FEWEST = 3
"""Smallest number of scales at which trends are searched."""
GAP_SURE, GAP_GROWTH = 3.5, 0.01
"""The gap between validation and training loss grows if its slope is this many standard errors, and if the change of ln
of the gap over the table exceeds the second value."""
RISES = 0.7
"""Smallest rank correlation of scale and response at which the response counts as increasing."""
FALLS = 0.3
"""A response counts as decreasing with an input if their rank correlation is at most minus this."""
HUMP = 0.15
"""A response has a hump if it is lower at both ends than in between by more than this fraction of its range,"""
HUMP_NOISE = 4.0
"""and by more than this many standard deviations of its scatter."""
MOVING = re.compile(
    r"(^|[._/])(lr|learning_?rate|peak_lr|max_lr|batch(_?size)?|global_batch(_?size)?|epochs|n_epochs|weight_decay|wd|"
    r"dropout|tokens_per_(active_)?param(eter)?s?|tok_per_param|tpp|token_multiplier|multiplier|warmup(_\w+)?|"
    r"data_ratio|sparsity|n_?experts|context(_length)?|seq(uence)?_len(gth)?)$",
    re.IGNORECASE,
)
"""Names of settings that change a loss by themselves; sizes of a model are scales, not settings."""


TROUGH = 0.1
"""A response of few points has a trough if it rises again by more than this fraction of its range."""
FEW = range(5, 8)
"""So few points show their scatter too poorly to compare a rise with it."""


def has_trough(y: np.ndarray) -> bool:
    """Return whether a few values in order decrease throughout and then increase throughout, two or more on each side.

    Pure noise has this shape in 5 % of cases with five values, and in 1 % with seven.
    """
    low = int(np.argmin(y))
    return (
        len(y) in FEW
        and 2 <= low <= len(y) - 3
        and bool((np.diff(y[: low + 1]) < 0.0).all() and (np.diff(y[low:]) > 0.0).all())
        and y[-1] - y[low] > TROUGH * np.ptp(y)
    )


def warnings_about(
    table: pd.DataFrame,
    inputs: tuple[str, ...],
    families: np.ndarray,
    *,
    shapes: bool = True,
    value: ValueScale | None = None,
) -> list[LogEntry]:
    """Return the warnings about each family of a table.

    Args:
        table: Rows that a fit would use; see `screening.screen`.
        inputs: Scale inputs of the fit.
        families: Family of each row.
        shapes: Also check how the response changes with scale.
        value: The direction if the response is a value, else None.
    """
    entries: list[LogEntry] = []
    names = list(dict.fromkeys(families))
    for name in names:
        part = table[families == name]
        known = [column for column in inputs if column in part]
        numeric = [column for column in (*known, "loss") if column in part]
        values = part[numeric].apply(pd.to_numeric, errors="coerce")
        part = part[np.isfinite(values.to_numpy(float)).all(axis=1) & (values.to_numpy(float) > 0).all(axis=1)]
        if len(part) < FEWEST or not known:
            continue
        scale = np.log(part[known].to_numpy(float)).sum(1)
        of = f" of {name}" if len(names) > 1 else ""
        if value is not None:
            entries += direction_warnings(part, known, value, of)
        elif shapes:
            entries += [*shape_warnings(part, known, of), *_leak(part, scale, of)]
        if len(known) == 1:
            entries += _confounds(part, known[0], scale, of)
    return entries


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Return Spearman's rank correlation of two arrays of shape (row,); NaN where one is constant.

    Example:
        >>> rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([9.0, 4.0, 1.0]))
        -1.0
    """
    return float(pd.DataFrame({"x": x, "y": y}).corr(method="spearman").loc["x", "y"])


def shape_warnings(part: pd.DataFrame, inputs: Sequence[str], of: str = "") -> list[LogEntry]:
    """Return warnings about a response that increases with scale, or increases and then decreases.

    Args:
        part: Positive inputs and losses of one family.
        inputs: Scale inputs of the fit.
        of: Name of the family, for texts about tables that hold several.
    """
    scale = np.log(part[list(inputs)].to_numpy(float)).sum(1)
    moving = [name for name in inputs if part[name].nunique() >= FEWEST]
    if not moving:
        return []
    loss = part["loss"].to_numpy(float)
    bounded = loss.max() <= 1.0 or (loss.max() <= 100.0 and loss.min() > 0.0 and np.median(loss) > 15.0)
    kind = f" and looks like a score (it lies between 0 and {1 if loss.max() <= 1.0 else 100})" if bounded else ""
    change = "choose a column that decreases"
    if bounded:
        percent = (", units={'loss': '%'}", " --unit loss=%") if loss.max() > 1.0 else ("", "")
        change += (
            f", or read this one as a score with score= (--score), or as 1 - score with derive='error_rate'"
            f"{percent[0]} (--derive error_rate{percent[1]})"
        )
    ends = part.groupby(pd.Series(scale, index=part.index).round(9))["loss"].mean()
    spread = f"{loss.min():.4g} to {loss.max():.4g}"
    if len(ends) >= FEWEST + 1 and (name := rising_input(part, moving)) is not None:
        text = (
            f"The response{of} rises with {name} ({spread}){kind}, but laws of losses "
            f"decrease with scale. Before fitting, {change}, or read a reward as a value with value= (--value). For a "
            "loss that increases, use a law that grows, such as growing_power."
        )
        return [LogEntry("score", "warning", text, (), ("loss",))]
    if len(inputs) > 1 or len(ends) < 5:
        return []
    y = np.log(ends.to_numpy(float))
    x = ends.index.to_numpy(float)
    top = int(y.argmax())
    size = y[top] - max(y[0], y[-1])
    noise = np.median(np.abs(np.diff(y, 2))) / (0.6745 * np.sqrt(6.0)) if len(y) >= 8 else 0.0
    rising = 0 < top < len(y) - 1 and y[top] - y[0] > HUMP * np.ptp(y) and size > HUMP_NOISE * noise
    # A single high point is a failure or noise; in a hump, the neighbours of the top lie above the ends as well.
    broad = rising and min(np.sort(y[max(0, top - 1) : top + 2])[1], y[top]) > y[0]
    if broad and (bounded or y[top] - y[0] > 2.0 * HUMP * np.ptp(y)):
        text = (
            f"The response{of} rises to {np.exp(y[top]):.4g} at {inputs[0]} {np.exp(x[top]):.3g} and falls again "
            f"({spread}){kind}: no monotone law describes it, so nothing can be said beyond the data. Before fitting, "
            "choose a response that only increases or only decreases with scale, or a range of scales where this one "
            "does."
        )
        return [LogEntry("hump", "warning", text, (), ("loss",))]
    return []


def rising_input(part: pd.DataFrame, inputs: Sequence[str]) -> str | None:
    """Return the input with which losses increase most, or None if they do not, or decrease with another input.

    A response that increases with one input and decreases with another, as at a fixed budget, is a loss.
    """
    loss = part["loss"].to_numpy(float)
    if not inputs or np.ptp(loss) == 0:
        return None
    found = {name: rank_correlation(part[name].to_numpy(float), loss) for name in inputs}
    strongest = max(found, key=lambda name: abs(found[name]))
    return strongest if found[strongest] > RISES and min(found.values()) > -FALLS else None


def direction_warnings(part: pd.DataFrame, inputs: Sequence[str], value: ValueScale, of: str = "") -> list[LogEntry]:
    """Return a warning about values that become worse with scale; empty if they do not.

    Args:
        part: Positive inputs, values and exp(y) of one family, in columns value and loss.
        inputs: Scale inputs of the fit.
        value: The direction.
        of: Name of the family, for texts about tables that hold several.
    """
    moving = [name for name in inputs if part[name].nunique() >= FEWEST]
    if len(part[list(inputs)].drop_duplicates()) < FEWEST + 1 or (name := rising_input(part, moving)) is None:
        return []
    verb, better = ("falls", "higher") if value.higher_is_better else ("rises", "lower")
    remedy = (
        "If lower is better, give lower_is_better=True (--lower-is-better)"
        if value.higher_is_better
        else "If higher is better, leave out lower_is_better= (--lower-is-better)"
    )
    shown = part["value"].to_numpy(float)
    text = (
        f"The value{of} {verb} with {name} ({shown.min():.4g} to {shown.max():.4g}), although {better} is better and "
        f"laws describe values that become better with scale. {remedy}."
    )
    return [LogEntry("direction", "warning", text, (), ("value",))]


def _leak(part: pd.DataFrame, scale: np.ndarray, of: str) -> list[LogEntry]:
    """Warn if the gap between validation and training loss grows with scale: data are repeated, or leak."""
    if "train_loss" not in part:
        return []
    train = pd.to_numeric(part["train_loss"], errors="coerce").to_numpy(float)
    seen = np.isfinite(train) & (train > 0)
    if seen.sum() < FEWEST + 1 or np.ptp(scale[seen]) < 1e-9:
        return []
    gap = np.log(part["loss"].to_numpy(float)[seen] / train[seen])
    # Imported here because the import takes a third of a second, and few tables have both losses.
    from scipy.stats import linregress

    line = linregress(scale[seen], gap)
    growth = float(line.slope * np.ptp(scale[seen]))
    if abs(line.slope) < GAP_SURE * line.stderr or abs(growth) < GAP_GROWTH:
        return []
    order = np.argsort(scale[seen])
    first, last = np.exp(gap[order][[0, -1]])
    if growth > 0:
        text = (
            f"The gap between validation and training loss{of} grows with scale: their ratio goes from {first:.3f} to "
            f"{last:.3f}. Repeated or leaking training data can cause this. Do not extrapolate the validation loss as "
            "if all data were new: give the number of distinct tokens (unique_tokens), and use a law with this input."
        )
    else:
        text = (
            f"The validation loss{of} decreases faster than the training loss: their ratio goes from {first:.3f} to "
            f"{last:.3f}. Validation data in the training data can cause this: check the split before extrapolating."
        )
    return [LogEntry("repeated_or_leaking", "warning", text, (), ("loss", "train_loss"))]


def _confounds(part: pd.DataFrame, axis: str, scale: np.ndarray, of: str) -> list[LogEntry]:
    """Warn about settings that change together with the only scale of a fit."""
    if part[axis].nunique() < FEWEST:
        return []
    entries = []
    for name, values in {**_ratios(part, axis), **_settings(part, axis)}.items():
        usable = np.isfinite(values) & (values > 0)
        if not usable.all() or len(np.unique(values)) < 2 or values.max() < FACTOR * values.min():
            continue
        means = pd.Series(np.log(values)).groupby(np.round(scale, 9)).mean()
        if means.nunique() < 2:
            continue
        steps = np.diff(means.to_numpy())
        monotone = abs(rank_correlation(means.index.to_numpy(float), means.to_numpy(float))) >= MONOTONE
        if not monotone or (np.sign(steps[np.abs(steps) > 0.02]) != np.sign(means.iloc[-1] - means.iloc[0])).any():
            continue
        low, high = np.exp(means.iloc[[0, -1]].to_numpy(float))
        text = (
            f"{name}{of} goes from {low:.4g} to {high:.4g} (a factor {max(high / low, low / high):.3g}) as {axis} "
            f"grows, so the exponent of {axis} contains the effects of both. A forecast applies only to runs in which "
            f"{name} continues to change in the same way."
        )
        entries.append(LogEntry("confounded", "warning", text, (), (str(name),)))
    return entries


def _ratios(part: pd.DataFrame, axis: str) -> dict[str, np.ndarray]:
    """Return tokens per parameter, from the columns of tokens, parameters and compute that the table has."""
    if any(MOVING.search(str(name)) and "param" in str(name).lower() for name in part):
        return {}
    columns = {
        name: pd.to_numeric(part[name], errors="coerce").to_numpy(float)
        for name in ("n_params", "n_tokens", "flops")
        if name in part
    }
    if "n_params" in columns and "n_tokens" in columns:
        return {"tokens per parameter": columns["n_tokens"] / columns["n_params"]}
    if "flops" in columns and "n_tokens" in columns:
        return {"tokens per parameter": 6.0 * columns["n_tokens"] ** 2 / columns["flops"]}
    if "flops" in columns and "n_params" in columns:
        return {"tokens per parameter": columns["flops"] / (6.0 * columns["n_params"] ** 2)}
    return {}


def _settings(part: pd.DataFrame, axis: str) -> dict[str, np.ndarray]:
    """Return the settings of a table by name, if every row has a number."""
    return {
        str(name): part[name].to_numpy(float)
        for name in part
        if name != axis and MOVING.search(str(name)) and pd.api.types.is_numeric_dtype(part[name])
    }
