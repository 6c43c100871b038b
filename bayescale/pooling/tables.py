"""Rows of tables and lines of text about the distribution over families."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bayescale.pooling.covariates import Covariates
from bayescale.pooling.group_fit import Group
from bayescale.pooling.quantities import Quantity

UNITS = {"log": " of its logarithm", "logit": " of its logit", "floor": " of its logarithm"}
"""Words for the scale on which a quantity is pooled."""


def ends_of(level: float) -> list[float]:
    """Return the probabilities of the ends and the middle of a central interval."""
    return [0.5 - level / 2, 0.5, 0.5 + level / 2]


def group_row(group: Group, number: int, quantity: Quantity, level: float) -> dict[str, Any]:
    """Return the row of a quantity in the table of `Pool.summary`."""
    ends = ends_of(level)
    mean, sd = group.flat.mean[:, number], group.flat.sd[:, number]
    low, middle, high = (float(value) for value in quantity.constrain(np.quantile(mean, ends)))
    row: dict[str, Any] = {"quantity": quantity.name, "is": "shared" if quantity.shared else "pooled"}
    row |= {"median": middle, "low": low, "high": high}
    if not quantity.shared:
        row |= dict(zip(("sd_low", "sd", "sd_high"), map(float, np.quantile(sd, ends)), strict=True))
    row |= new_family(group, number, quantity, level)
    learned = 1.0 - float(mean.var()) / group.priors[number].sd ** 2
    rhat, ess = float(np.nanmax(group.rhat[number])), float(np.nanmin(group.ess[number]))
    return row | {"learned": learned, "r_hat": rhat, "ess_bulk": ess}


def new_family(group: Group, number: int, quantity: Quantity, level: float, effect: Any = 0.0) -> dict[str, float]:
    """Return the ends of the interval of a quantity in a new family."""
    mean, sd = group.flat.mean[:, number] + effect, group.flat.sd[:, number]
    new = mean + sd * np.random.default_rng(0).standard_normal(len(mean))
    low, _, high = quantity.constrain(np.quantile(new, ends_of(level)))
    return {"new_low": float(low), "new_high": float(high)}


def effect_rows(group: Group, covariates: Covariates | None, level: float) -> Iterator[dict[str, Any]]:
    """Return the rows of the effects of covariates: median and interval on the scale on which a quantity is pooled."""
    effects = group.flat.effects
    if covariates is None or effects is None:
        return
    for number, quantity in enumerate(group.quantities):
        if quantity.shared:
            continue
        drawn = effects[:, number] @ covariates.effects().T
        for label, own in zip(covariates.labels, drawn.T, strict=True):
            low, middle, high = map(float, np.quantile(own, ends_of(level)))
            row = {"quantity": f"{quantity.name}, {label}", "is": "effect", "median": middle, "low": low, "high": high}
            yield row | new_family(group, number, quantity, level, own)


def correlation_rows(group: Group, level: float) -> Iterator[dict[str, Any]]:
    """Return the rows of the correlations of pooled quantities over families."""
    correlation = group.flat.correlation
    if correlation is None:
        return
    pooled = [number for number, quantity in enumerate(group.quantities) if not quantity.shared]
    for i in pooled:
        for j in pooled:
            if i < j:
                low, middle, high = map(float, np.quantile(correlation[:, i, j], ends_of(level)))
                pair = f"{group.quantities[i].name} with {group.quantities[j].name}"
                yield {"quantity": pair, "is": "correlation", "median": middle, "low": low, "high": high}


def described(group: Group, covariates: Covariates | None) -> list[str]:
    """Return lines that describe the quantities of a group, the effects of covariates, and correlations."""
    lines = [quantity_line(group, number, quantity) for number, quantity in enumerate(group.quantities)]
    kinds = {quantity.name: quantity.kind for quantity in group.quantities}
    for row in effect_rows(group, covariates, 0.9):
        name, label = row["quantity"].split(", ", 1)
        numbers = np.array([row["median"], row["low"], row["high"]])
        factor = kinds[name] in ("log", "floor")
        middle, low, high = (f"{value:.3g}" if factor else f"{value:+.3g}" for value in factored(numbers, factor))
        lines.append(f"  {label}: {name} {'times ' if factor else ''}{middle} (90 % {low} to {high})")
    for row in correlation_rows(group, 0.9):
        lines.append(f"  correlation of {row['quantity']}: {row['median']:.2f} ({row['low']:.2f} to {row['high']:.2f})")
    return lines


def factored(numbers: np.ndarray, factor: bool) -> np.ndarray:
    """Return effects as factors of a quantity that is pooled as a logarithm, or as they are."""
    return np.exp(numbers) if factor else numbers


def quantity_line(group: Group, number: int, quantity: Quantity) -> str:
    """Return a line that describes a quantity."""
    row = group_row(group, number, quantity, 0.9)
    text = f"  {quantity.name:<12} {row['is']}: {row['median']:.4g} (90 % {row['low']:.4g} to {row['high']:.4g})"
    if quantity.shared:
        return text
    return (
        f"{text}; between families sd {row['sd']:.2g}{UNITS.get(quantity.kind, '')}, so a new one has "
        f"{row['new_low']:.3g} to {row['new_high']:.3g}"
    )
