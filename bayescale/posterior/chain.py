"""Chains: forecasts at inputs that are themselves forecasts, such as a score at a loss that another fit forecasts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayescale.errors import InputError, counted
from bayescale.forecast import Forecast
from bayescale.posterior.fitted import Fitted
from bayescale.score_forecast import ScoreForecast

NODES = 64
"""Number of equally likely values of the forecast input at which the second fit is evaluated."""


def uncertain(at: Any, inputs: Mapping[str, Any]) -> bool:
    """Return whether one of the given inputs is a forecast."""
    given = [*inputs.values(), *(at.values() if isinstance(at, Mapping) else ())]
    return any(isinstance(value, Forecast) for value in given)


def predict_through(fit: Fitted, given: Mapping[str, Any], kind: str) -> Forecast:
    """Forecast at an input that is the forecast of another fit, including its uncertainty.

    The two fits are treated as independent: the result is the mixture of this fit's forecasts at equally likely values
    of the input.

    Args:
        fit: The fit that makes the forecast.
        given: Inputs of `fit` by name, one of which is a forecast, at one point or several.
        kind: "mean" or "run".

    Raises:
        InputError: For several inputs that are forecasts, or other inputs of another length.
    """
    names = [name for name, value in given.items() if isinstance(value, Forecast)]
    if len(names) > 1:
        raise InputError(f"Only one input may be a forecast; found {', '.join(names)}.")
    name = names[0]
    input: Forecast = given[name]
    points = len(input)
    nodes = input.quantile((np.arange(NODES) + 0.5) / NODES)
    columns: dict[str, Any] = {name: nodes.ravel()}
    for other, value in given.items():
        if other != name:
            if np.size(value) not in (1, points):
                raise InputError(
                    f"{other} has {counted(np.size(value), 'value')}, and the forecast of {name} has {points}. "
                    "Give as many."
                )
            columns[other] = np.tile(np.broadcast_to(np.asarray(value, float), points), NODES)
    whole = fit.predict(pd.DataFrame(columns), kind=kind, force=True)
    shape = (whole.location.shape[0], NODES, points)
    location, scale = (np.asarray(part).reshape(-1, points) for part in (whole.location, whole.scale))
    draws = whole.log_draws.reshape(shape)
    rng = np.random.default_rng([fit.seed, 5])
    # Each draw of the fit gets one value of the input, which is the same for all points.
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
    if isinstance(whole, ScoreForecast) and whole.drawn is not None:
        draws_of = np.repeat(np.arange(shape[0]), NODES)
        return dataclasses.replace(whole, **found, drawn=whole.drawn.picked(draws_of)).resampled()
    return dataclasses.replace(whole, **found)
