"""Scales: plausibility of units, inputs computed from C = 6 N D, and consistency of the three."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from bayescale.data.log import LogEntry
from bayescale.data.screening import numbered
from bayescale.errors import InputError, counted, some

LEAST = {"n_params": 1e3, "n_tokens": 1e5, "flops": 1e12, "unique_tokens": 1e5}
"""Numbers smaller than these are more likely in millions or billions than raw counts."""
SPANS = {"n_params": 1e5, "n_tokens": 1e6, "flops": 1e10}
"""Ranges wider than these factors within one table more likely come from two units than from one ladder."""
TOKENS_PER_PARAM = (0.1, 1e4)
"""Outside this range of tokens per parameter there is a warning; a thousand times farther out there is an error."""
DISAGREES, IMPOSSIBLE = 2.0, 200.0
"""Factors by which compute may differ from 6 N D without a warning, and without an error."""
CHINCHILLA = 20.0
"""Tokens per parameter at a Chinchilla multiple of 1."""


class UnknownUnit(InputError):
    """Error for inputs that are not in raw counts; its message shows how to give the unit."""


def check_units(table: pd.DataFrame, stated: Collection[str] = ()) -> list[LogEntry]:
    """Return log entries about inputs whose values can hardly be raw counts.

    Args:
        table: Canonical columns; the index is the row of the file.
        stated: Inputs whose unit the caller specified; these are accepted, with a warning.

    Raises:
        UnknownUnit: For numbers that are almost certainly in another unit.
        InputError: For inputs that contradict each other.
    """
    log: list[LogEntry] = []
    too_few = {role: found for role in LEAST if role not in stated and (found := too_small(table, role))}
    if too_few:
        first, *others = too_few
        further = "".join(f"; so are those of {role} ({too_few[role]})" for role in others)
        units = ", ".join(f"'{role}': 'M'" for role in too_few)
        options = " ".join(f"--unit {role}=M" for role in too_few)
        raise UnknownUnit(
            f"{first} must be in raw counts; its values are too small ({too_few[first]}){further}. Give the unit with "
            f"units={{{units}}} ({options}) for millions, 'B' for billions, K, T or a number, or "
            f"units={{'{first}': 1}} (--unit {first}=1) if these are raw counts."
        )
    for role, most in SPANS.items():
        if role in table and (known := table[role][table[role] > 0]).size and known.max() > most * known.min():
            rows = (int(known.idxmin()), int(known.idxmax()))
            ends = f"from {known.min():.3g} (row {rows[0]}) to {known.max():.3g} (row {rows[1]})"
            text = f"{role} ranges {ends}: check the units."
            log.append(LogEntry("units", "warning", text, rows, (role,)))
    if {"n_params", "n_tokens"} <= set(table):
        log += check_pair(table, "n_tokens per n_params", ratio(table, "n_tokens", "n_params"), stated)
    if {"n_params", "n_tokens", "flops"} <= set(table):
        log += check_compute(table, stated)
    return log


def too_small(table: pd.DataFrame, role: str) -> str:
    """Return rows and values of an input that are too small for a count; empty if there are none."""
    values = table[role].to_numpy(float) if role in table else np.zeros(0)
    with np.errstate(invalid="ignore"):
        small = np.flatnonzero((values > 0) & (values < LEAST[role]))
    if not len(small):
        return ""
    rows = numbered([int(table.index[i]) for i in small])
    return f"{rows}: {some(list(dict.fromkeys(f'{values[i]:g}' for i in small)))}"


def ratio(table: pd.DataFrame, above: str, *below: str) -> np.ndarray:
    """Divide columns; NaN where one is missing or not positive."""
    with np.errstate(all="ignore"):
        values = table[above].to_numpy(float) / np.prod([table[name].to_numpy(float) for name in below], axis=0)
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def check_pair(table: pd.DataFrame, name: str, values: np.ndarray, stated: Collection[str]) -> list[LogEntry]:
    """Return log entries about tokens and parameters that are too far apart to have the same unit."""
    low, high = TOKENS_PER_PARAM
    with np.errstate(invalid="ignore"):
        far = np.flatnonzero((values < low) | (values > high))
        absurd = np.flatnonzero((values < low / 1e3) | (values > high * 1e3))
    if not len(far):
        return []
    worst = absurd if len(absurd) else far
    rows = tuple(int(table.index[i]) for i in worst)
    text = f"{name} is {some([f'{values[i]:.3g}' for i in worst])} in {numbered(rows)}, where 1 to 1,000 is usual: "
    if 2 * len(worst) < len(values) and not len(absurd):
        text += "if these rows have another unit than the other rows, correct them in the table"
    else:
        text += (
            "check the units of both, with units={'n_params': 'M', 'n_tokens': 'B'} (--unit n_params=M --unit "
            "n_tokens=B)"
        )
    if len(absurd) and not {"n_params", "n_tokens"} & set(stated):
        raise InputError(f"{text}, or units={{'n_tokens': 1}} (--unit n_tokens=1) if these are counts.")
    return [LogEntry("units", "warning", f"{text}.", rows, ("n_params", "n_tokens"))]


def check_compute(table: pd.DataFrame, stated: Collection[str]) -> list[LogEntry]:
    """Return log entries about compute that differs from 6 N D."""
    values = ratio(table, "flops", "n_params", "n_tokens") / 6.0
    known = values[np.isfinite(values)]
    if not len(known):
        return []
    middle = float(np.median(known))
    factor = max(middle, 1.0 / middle)
    columns = ("n_params", "n_tokens", "flops")
    if factor > DISAGREES:
        text = f"flops is {middle:.3g} times 6 N D (median over {counted(len(known), 'row')}): check the units"
        if factor > IMPOSSIBLE and not set(columns) & set(stated):
            raise InputError(
                f"{text}, e.g. units={{'n_params': 'M'}} (--unit n_params=M), or units={{'flops': 1}} (--unit flops=1) "
                "if all are counts."
            )
        return [LogEntry("units", "warning", f"{text} and which parameters are counted (active, total).", (), columns)]
    with np.errstate(invalid="ignore"):
        odd = np.flatnonzero(np.abs(np.log(values / middle)) > np.log(3.0))
    if not len(odd):
        return []
    rows = tuple(int(table.index[i]) for i in odd)
    text = (
        f"flops is {some([f'{values[i]:.3g}' for i in odd])} times 6 N D in {numbered(rows)}, but {middle:.3g} times "
        "in the other rows: check flops, n_params and n_tokens there."
    )
    return [LogEntry("units", "warning", text, rows, columns)]


def default_inputs(table: pd.DataFrame, counts: Sequence[str]) -> tuple[str, ...]:
    """Return the scale inputs that a table has or that follow from C = 6 N D; empty where it has no scale."""
    measured = table["loss"].notna() if "loss" in table else pd.Series(True, index=table.index)

    def filled(name: str) -> float:
        return float(table.loc[measured, name].notna().mean()) if name in table and measured.any() else 0.0

    size, tokens, compute = (filled(name) for name in ("n_params", "n_tokens", "flops"))
    multiple = max(filled("tokens_per_param"), filled("chinchilla_multiple"))
    pairs = [min(size, tokens), min(compute, size), min(compute, tokens), min(size, multiple)]
    if max(pairs) > 0 and (max(pairs) >= 0.5 or max(size, tokens, compute) < 0.5):
        return ("n_params", "n_tokens")
    usable = [name for name in counts if filled(name) >= 0.5] or [name for name in counts if filled(name) > 0]
    if "flops" in usable:
        return ("flops",)
    return tuple(usable[:1])


def derive(table: pd.DataFrame, wanted: Sequence[str]) -> tuple[pd.DataFrame, list[LogEntry]]:
    """Add requested inputs that are missing and can be computed from others.

    Args:
        table: Canonical columns.
        wanted: Scale inputs that a fit will use.
    """
    log: list[LogEntry] = []
    rules = (
        ("n_tokens", ("tokens_per_param", "n_params"), lambda r, n: r * n, "tokens_per_param x n_params"),
        ("n_tokens", ("chinchilla_multiple", "n_params"), lambda m, n: CHINCHILLA * m * n, "20 x multiple x n_params"),
        ("n_tokens", ("flops", "n_params"), lambda c, n: c / (6.0 * n), "flops / (6 n_params)"),
        ("n_params", ("flops", "n_tokens"), lambda c, d: c / (6.0 * d), "flops / (6 n_tokens)"),
        ("n_params", ("flops", "tokens_per_param"), lambda c, r: np.sqrt(c / (6.0 * r)), "(flops / (6 ratio))^(1/2)"),
        ("n_tokens", ("flops", "tokens_per_param"), lambda c, r: np.sqrt(c * r / 6.0), "(flops x ratio / 6)^(1/2)"),
        ("flops", ("n_params", "n_tokens"), lambda n, d: 6.0 * n * d, "6 n_params n_tokens"),
    )
    given = set(table)
    for target, sources, rule, words in rules:
        if target not in wanted or not set(sources) <= given:
            continue
        if target in table and table[target].notna().any():
            continue
        columns = [table[name].to_numpy(float) for name in sources]
        with np.errstate(all="ignore"):
            values = rule(*columns)
        values = np.where(np.isfinite(values) & (values > 0), values, np.nan)
        if np.isnan(values).all():
            continue
        table = table.assign(**{target: values})
        text = f"Derived: {target} = {words}."
        if "flops" in sources:
            text += " To fit along compute alone, use --input flops."
        log.append(LogEntry("derived", "info", text, columns=sources))
    return table, log


def error_rate(table: pd.DataFrame) -> tuple[pd.DataFrame, list[LogEntry]]:
    """Replace the response by an error rate: the fraction of wrong items, or one minus a score.

    Raises:
        InputError: Without counts or a score between 0 and 1.
    """
    items = next((name for name in ("n_items", "attempts") if name in table), None)
    if "correct" in table and items is not None:
        correct, total = table["correct"].to_numpy(float), table[items].to_numpy(float)
        with np.errstate(invalid="ignore"):
            wrong = np.flatnonzero((correct < 0) | (correct > total) | (total <= 0))
        if len(wrong):
            rows = numbered([int(table.index[i]) for i in wrong])
            raise InputError(f"correct must lie between 0 and {items}, which must be positive; wrong in {rows}.")
        with np.errstate(all="ignore"):
            share = correct / total
            spread = np.sqrt((correct + 0.5) * (total - correct + 0.5) / (total + 1.0) ** 3)
        text = f"loss = 1 - correct / {items}, and value_se is its binomial standard error."
        # The original response is kept under another name.
        kept = {"loss_given": table["loss"]} if "loss" in table else {}
        return table.assign(**kept, loss=1.0 - share, value_se=spread), [LogEntry("derived", "info", text)]
    if "loss" in table:
        values = table["loss"].to_numpy(float)
        known = values[np.isfinite(values)]
        if len(known) and known.min() >= 0 and known.max() <= 1:
            return table.assign(loss=1.0 - values), [LogEntry("derived", "info", "loss = 1 - the score.")]
    raise InputError(
        "derive='error_rate' (--derive error_rate) needs columns correct and n_items (or attempts), or a score between "
        f"0 and 1 as the loss (units={{'loss': '%'}}, --unit loss=%, if up to 100); found {some(list(table), 8)}."
    )


def log_perplexity(table: pd.DataFrame) -> tuple[pd.DataFrame, list[LogEntry]]:
    """Replace a perplexity by its logarithm, the loss in nats.

    Raises:
        InputError: Without a response, and for perplexities of at most one, whose logarithm is not positive.
    """
    values = table["loss"].to_numpy(float) if "loss" in table else np.zeros(0)
    low = np.flatnonzero(np.isfinite(values) & (values <= 1.0))
    if not len(values) or len(low):
        rows = f"; they are not above 1 in {numbered([int(table.index[i]) for i in low])}" if len(low) else ""
        raise InputError(f"derive='log_perplexity' (--derive log_perplexity) needs perplexities above 1{rows}.")
    changed = table.assign(loss=np.log(values))
    if "value_se" in table:
        changed["value_se"] = table["value_se"].to_numpy(float) / values
    return changed, [
        LogEntry("derived", "info", "loss = ln(perplexity), in nats; forecasts and targets are in nats, too.")
    ]


DERIVED = {"error_rate": error_rate, "log_perplexity": log_perplexity}
"""Responses that can be computed from others, by name."""
