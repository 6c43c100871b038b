"""Forecasts of scores and values, computed from forecasts of the logarithm of what laws describe."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from bayescale._record import Array
from bayescale.checked import known_keywords
from bayescale.data.drawn_score import NODES, DrawnScore, known_range
from bayescale.data.score import ScoreScale
from bayescale.data.value import ResponseScale, ValueScale
from bayescale.errors import InputError, counted
from bayescale.forecast import Forecast, as_numbers, mixture_cdf, mixture_quantile

COPIES = 8
"""Number of simulated measurements for each draw."""


@known_keywords
@dataclasses.dataclass(frozen=True, repr=False)
class ScoreForecast(Forecast):
    """Predictive distribution of a score at several points.

    Each posterior draw contributes a normal distribution of the log odds against a right answer, with mean `location`
    and standard deviation `scale`. Log odds decrease as models get better. Results are reported as scores between
    chance and ceiling: higher is better. If a fit samples the range or a concentration (`drawn`), the distribution is
    that of simulated scores.

    Attributes:
        range: Chance and ceiling.
        simulated: Simulated scores, shape (sample, point), if `measured` was called or there are `drawn` ranges; else
            None. The first samples are those of `log_draws`.
        drawn: Chance, ceiling and concentration of each draw of `location`, for fits that sample them; else None.
    """

    range: ScoreScale = dataclasses.field(default_factory=ScoreScale)
    simulated: np.ndarray | None = None
    drawn: DrawnScore | None = None

    @property
    def higher_is_better(self) -> bool:
        """Return True: a score grows as models get better."""
        return True

    def log_of(self, response: float | np.ndarray) -> np.ndarray:
        """Return ln of the odds against a right answer, of scores of any shape, in the stated range."""
        return self.range.log_odds(response)

    def expected(self, log_odds: np.ndarray) -> np.ndarray:
        """Return the score at log odds of each draw, shape (draw, point)."""
        return self.range.score(log_odds) if self.drawn is None else self.drawn.response(log_odds)

    def probability_above_each(self, target: float) -> np.ndarray:
        """Return the probability that the score of the first point exceeds a target in each draw, shape (draw,)."""
        location, scale = self.location[:, 0], self.scale[:, 0]
        drawn = known_range(self.range, len(location)) if self.drawn is None else self.drawn
        return drawn.probability_above(target, location, scale, of_run=self.kind == "run")

    def sampled(self, rng: np.random.Generator) -> np.ndarray:
        """Simulate scores on endlessly many items, shape (sample, point); the first are those of `log_draws`."""
        flat = self.log_draws.reshape(-1, len(self.points))
        # Joint draws over the points come first; further draws make quantiles smoother.
        more = self.location + self.scale * rng.standard_normal((COPIES - 1, *self.location.shape))
        if self.drawn is None:
            return self.range.score(np.concatenate([flat, more.reshape(-1, len(self.points))]))
        number = len(self.location)
        # Forecasts through another forecast have several locations for each of their draws.
        index = [np.arange(len(flat)) * (number // len(flat)), np.tile(np.arange(number), COPIES - 1)]
        drawn = self.drawn.picked(np.concatenate(index))
        shares = drawn.response(np.concatenate([flat, more.reshape(-1, len(self.points))]))
        return drawn.run(shares, rng) if self.kind == "run" else shares

    def resampled(self) -> ScoreForecast:
        """Return the forecast with simulated scores that belong to its draws; unchanged without `drawn` ranges."""
        if self.drawn is None:
            return self
        return dataclasses.replace(self, simulated=self.sampled(np.random.default_rng(len(self.points))))

    @property
    def draws(self) -> np.ndarray:
        """Joint draws of the score, shape (chain, draw, point)."""
        if self.simulated is None:
            return self.range.score(self.log_draws)
        return self.simulated[: self.log_draws[..., 0].size].reshape(self.log_draws.shape)

    @property
    def typical(self) -> np.ndarray:
        """Score at the mean log odds, shape (point,)."""
        if self.drawn is None:
            return self.range.score(self.location.mean(0))
        return self.expected(np.broadcast_to(self.location.mean(0), self.location.shape)).mean(0)

    @property
    def mean(self) -> np.ndarray:
        """Mean of the score, shape (point,)."""
        if self.simulated is not None:
            return self.simulated.mean(0)
        nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
        total = np.zeros(self.location.shape[1])
        for node, weight in zip(nodes, weights / weights.sum(), strict=True):
            total += weight * self.range.score(self.location + node * self.scale).mean(0)
        return total

    def quantiles_at(self, levels: np.ndarray) -> np.ndarray:
        """Return the quantiles of the score at valid probabilities, shape (level, point)."""
        if self.simulated is not None:
            return np.quantile(self.simulated, levels, axis=0)
        return self.range.score(mixture_quantile(1.0 - levels, self.location, self.scale))

    def probability_below(self, target: float | np.ndarray) -> np.ndarray:
        """Return the probability that the score lies below `target`, shape (point,).

        Raises:
            InputError: For a target outside 0 and 1.
        """
        values = as_numbers("target", target)
        if not ((values >= 0.0) & (values <= 1.0)).all():
            raise InputError(f"The target of a score must lie between 0 and 1, e.g. 0.7 for 70 %; found {target}.")
        if values.shape not in ((), (1,), (len(self.points),)):
            raise InputError(
                f"Give one target, or one for each point; found {counted(values.size, 'target')} for "
                f"{counted(len(self.points), 'point')}."
            )
        bar = np.broadcast_to(values, len(self.points))
        if self.simulated is not None:
            return (self.simulated < bar).mean(0)
        # Log odds of a target at chance or at the ceiling are infinite, beyond all draws.
        return 1.0 - mixture_cdf(np.clip(self.range.log_odds(bar), -1e300, 1e300), self.location, self.scale)

    def measured(self, value_se: float | Array | None = None, *, items: float | Array | None = None) -> ScoreForecast:
        """Return the forecast of a measurement of the score that has a measurement error.

        Args:
            value_se: Standard errors of the measurement, one number or shape (point,).
            items: Instead of standard errors, the number of items on which the score is measured, one number or shape
                (point,); the number of right items is then binomial.

        Raises:
            InputError: For impossible errors or items, and for neither or both.

        Example:
            >>> post.predict(flops=1e21).measured(items=500).interval(0.95)  # doctest: +SKIP
        """
        if (value_se is None) == (items is None):
            raise InputError(
                "Give either value_se= (--value-se), the standard error of the measurement, or items= (--items), its "
                "number of items."
            )
        rng = np.random.default_rng(len(self.points))
        shares = self.sampled(rng)
        if items is not None:
            number = self.per_point("items", items, "a number of items of one or more", least=1.0)
            found = rng.binomial(number.astype(int), np.clip(shares, 0.0, 1.0)) / number.astype(int)
        else:
            error = self.per_point("value_se", value_se, "a standard error of zero or more")
            found = np.clip(shares + error * rng.standard_normal(shares.shape), 0.0, 1.0)
        return dataclasses.replace(self, simulated=found)


@known_keywords
@dataclasses.dataclass(frozen=True, repr=False)
class ValueForecast(Forecast):
    """Predictive distribution of a value of any sign, such as a reward, at several points.

    Each posterior draw contributes a normal distribution of the value. It is stored as that of y, which `values`
    defines: `location` and `scale` are mean and standard deviation of y. Results are reported as values.

    Attributes:
        values: Relation of the value and y.
    """

    values: ValueScale = dataclasses.field(default_factory=ValueScale)

    @property
    def higher_is_better(self) -> bool:
        """Return whether higher values are better."""
        return self.values.higher_is_better

    def log_of(self, response: float | np.ndarray) -> np.ndarray:
        """Return y of values of any shape."""
        return self.values.log_loss(response)

    @property
    def draws(self) -> np.ndarray:
        """Joint draws of the value, shape (chain, draw, point)."""
        return self.values.response(self.log_draws)

    @property
    def typical(self) -> np.ndarray:
        """Mean of the value, shape (point,)."""
        return self.mean

    @property
    def mean(self) -> np.ndarray:
        """Mean of the value, shape (point,)."""
        return self.values.response(self.location.mean(0))

    def quantiles_at(self, levels: np.ndarray) -> np.ndarray:
        """Return the quantiles of the value at valid probabilities, shape (level, point)."""
        turned = 1.0 - levels if self.higher_is_better else levels
        return self.values.response(mixture_quantile(turned, self.location, self.scale))

    def probability_below(self, target: float | np.ndarray) -> np.ndarray:
        """Return the probability that the value lies below `target`, shape (point,).

        Raises:
            InputError: For a target that is not finite.
        """
        values = as_numbers("target", target)
        if not np.isfinite(values).all():
            raise InputError(f"A target must be a finite number; found {target}.")
        if values.shape not in ((), (1,), (len(self.points),)):
            raise InputError(
                f"Give one target, or one for each point; found {counted(values.size, 'target')} for "
                f"{counted(len(self.points), 'point')}."
            )
        below = mixture_cdf(self.log_of(np.broadcast_to(values, len(self.points))), self.location, self.scale)
        return 1.0 - below if self.higher_is_better else below

    def measured(self, value_se: float | Array | None = None, *, items: float | Array | None = None) -> ValueForecast:
        """Return the forecast of a measurement of the value that has a measurement error.

        Args:
            value_se: Standard errors of the measurement on the scale of the value, one number or shape (point,).
            items: Only for scores and rates; must be None.

        Raises:
            InputError: For impossible errors or none, and for items.

        Example:
            >>> post.predict(step=1e5).measured(0.5).interval(0.95)  # doctest: +SKIP
        """
        if value_se is None or items is not None:
            raise InputError(
                "For a value, give value_se= (--value-se), the standard error of the measurement; items= (--items) is "
                "only for scores and rates."
            )
        errors = self.per_point("value_se", value_se, "a standard error of zero or more")
        spread = self.values.spread(errors)
        noise = spread * np.random.default_rng(len(self.points)).standard_normal(self.log_draws.shape)
        return dataclasses.replace(self, scale=np.hypot(self.scale, spread), log_draws=self.log_draws + noise)


def on_scale(forecast: Forecast, scale: ResponseScale | None, drawn: DrawnScore | None = None) -> Forecast:
    """Return a forecast of the response from that of ln of what laws describe; without a scale that is a loss.

    Args:
        forecast: The forecast.
        scale: Relation of a score or a value to what laws describe; None for a loss, whose forecast is not changed.
        drawn: Range and concentration of a score in each draw, for fits that sample them; else None.
    """
    if scale is None:
        return forecast
    fields: dict[str, Any] = {field.name: getattr(forecast, field.name) for field in dataclasses.fields(forecast)}
    if isinstance(scale, ValueScale):
        return ValueForecast(**fields, values=scale)
    return ScoreForecast(**fields, range=scale, drawn=drawn).resampled()
