"""Go or no-go through a chain: the worth of a run whose score is forecast from its loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtri

from bayescale.decide.outcomes import mean_error
from bayescale.decide.trust import Caveat, caveats, far_caveat, unconverged
from bayescale.forecast import Forecast
from bayescale.posterior.chain import Chain
from bayescale.posterior.checks import grave_notes
from bayescale.posterior.fitted import Fitted
from bayescale.score_forecast import ScoreForecast


class Outlook(NamedTuple):
    """Forecasts of one run, equally likely outcomes, and caveats, from which a decision is computed.

    Attributes:
        forecast: Forecast of the run.
        curve: Forecast of the mean curve, without noise.
        outcomes: Equally likely responses of the run, shape (draw, stratum).
        error: Function that returns the Monte-Carlo standard error of the mean of one value for each draw of outcomes.
        curve_error: The same for one value for each draw of the forecasts.
        caveats: Reasons for which no confident answer is given.
        remarks: Sentences that qualify the answer.
    """

    forecast: Forecast
    curve: Forecast
    outcomes: np.ndarray
    error: Callable[[np.ndarray], float]
    curve_error: Callable[[np.ndarray], float]
    caveats: list[Caveat]
    remarks: tuple[str, ...]


def through(chain: Chain, at: dict[str, float]) -> Outlook:
    """Return forecasts, outcomes and caveats of a run.

    Args:
        chain: The chain.
        at: Inputs of the run, those of the fit of losses.
    """
    point = pd.DataFrame([at])
    forecast, curve = (chain.predict(point, kind=kind, force=True) for kind in ("run", "mean"))
    location, scale = forecast.location[:, 0], forecast.scale[:, 0]
    # One value of the noise from each of as many strata as there are draws, in random order.
    rng = np.random.default_rng([chain.scores.seed, 11])
    share = (rng.permutation(len(location)) + rng.uniform(size=len(location))) / len(location)
    assert isinstance(forecast, ScoreForecast), "scores"
    log_odds = location + scale * ndtri(share)
    drawn = forecast.drawn
    outcomes = forecast.range.score(log_odds) if drawn is None else drawn.run(drawn.response(log_odds), rng)
    expected = chain.losses.forecast_at(point, "mean")
    loss = {chain.through: float(chain.input_of(expected.quantile(0.5))[0])}
    second = chain.scores.forecast_at(pd.DataFrame([loss]), "mean")
    effective = min(effective_draws(chain.losses, expected), effective_draws(chain.scores, second))
    reasons = caveats(chain.losses, at)
    found = unconverged(chain.scores)
    reasons += [found] if found is not None else []
    reasons += [
        Caveat(note.code, note.text, None, "Look at the scores beside the losses.")
        for note in grave_notes(chain.scores, pd.DataFrame([loss]))[:1]
    ]
    far = far_caveat(chain.losses, at)

    def error(values: np.ndarray) -> float:
        return float(values.std() / np.sqrt(effective))

    return Outlook(forecast, curve, outcomes[:, None], error, error, reasons, () if far is None else (far,))


def effective_draws(fit: Fitted, forecast: Forecast) -> float:
    """Return the effective number of draws of a forecast's mean at its only point."""
    middle = forecast.location[:, 0]
    error = mean_error(middle, fit.layout)
    return float(middle.var() / error**2) if error > 0.0 else float(len(middle))
