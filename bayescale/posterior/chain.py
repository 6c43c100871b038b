"""Chains: forecasts at inputs that are themselves forecasts, such as a score at the loss that another fit forecasts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayescale.errors import InputError, counted
from bayescale.forecast import Forecast
from bayescale.posterior.fitted import Fitted

NODES = 64
"""Values of a forecast input at which the second fit is asked, of equal probability."""


def uncertain(at: Any, inputs: Mapping[str, Any]) -> bool:
    """Return whether an input of a question is a forecast."""
    given = [*inputs.values(), *(at.values() if isinstance(at, Mapping) else ())]
    return any(isinstance(value, Forecast) for value in given)


def predict_through(fit: Fitted, given: Mapping[str, Any], kind: str) -> Forecast:
    """Forecast at an input that is a forecast of another fit, whose uncertainty is carried through.

    The two fits are taken to know nothing of each other: the forecast is the mixture of those at values of equal
    probability of the input.

    Args:
        fit: The fit that is asked.
        given: Its inputs by name, one of which is a forecast, at one point or several.
        kind: "mean" or "run".

    Raises:
        InputError: For several inputs that are forecasts, or other inputs of another length.
    """
    names = [name for name, value in given.items() if isinstance(value, Forecast)]
    if len(names) > 1:
        raise InputError(f"One input may be a forecast; found {', '.join(names)}.")
    name = names[0]
    input: Forecast = given[name]
    points = len(input)
    nodes = input.quantile((np.arange(NODES) + 0.5) / NODES)
    columns: dict[str, Any] = {name: nodes.ravel()}
    for other, value in given.items():
        if other != name:
            if np.size(value) not in (1, points):
                raise InputError(
                    f"{other} has {counted(np.size(value), 'value')}, and the forecast of {name} {points}."
                )
            columns[other] = np.tile(np.broadcast_to(np.asarray(value, float), points), NODES)
    whole = fit.predict(pd.DataFrame(columns), kind=kind, force=True)
    shape = (whole.location.shape[0], NODES, points)
    location, scale = (np.asarray(part).reshape(-1, points) for part in (whole.location, whole.scale))
    draws = whole.log_draws.reshape(shape)
    rng = np.random.default_rng([fit.seed, 5])
    # Each draw of the fit at one value of the input, the same for all points.
    chosen = rng.permutation(np.arange(shape[0]) * NODES // shape[0])
    picked = draws[np.arange(shape[0]), chosen]
    middle = np.asarray(whole.ratio).reshape(NODES, points)[NODES // 2]
    table = pd.DataFrame({other: np.broadcast_to(value, points) for other, value in given.items() if other != name})
    shown = input.quantile(0.5)
    found = {
        "points": table.assign(**{name: shown})[list(given)],
        "location": location,
        "scale": scale,
        "log_draws": picked.reshape(*whole.log_draws.shape[:2], points),
        "ratio": np.maximum(middle, input.ratio),
        "label": f"{whole.label}, through {input.label}",
        "fitted": None,
        "below": False,
    }
    return dataclasses.replace(whole, **found)
