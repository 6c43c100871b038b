"""Chains: forecasts at inputs that are themselves forecasts, such as a score at a loss that another fit forecasts.

Two parts are fitted: the loss of a run by its scale, with draws theta, and the score of a run by its loss, with draws
phi. Given all losses L, the density of the runs is p(L | theta) p(score | L, phi). So if every run with a score has a
measured loss, the joint posterior of theta and phi is the product of two posteriors. Runs with a score but without a
loss connect them: `Chain` then weights joint draws by the density of those scores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binom

from bayescale._display import Display
from bayescale.checked import known_keywords
from bayescale.data.runs import Runs
from bayescale.data.score import counts
from bayescale.errors import InputError, Status, counted
from bayescale.forecast import At, Forecast, known_kind
from bayescale.posterior.fitted import Fitted
from bayescale.posterior.notes import Notes
from bayescale.posterior.predictive import run_variance
from bayescale.score_forecast import ScoreForecast

NODES = 64
"""Number of equally likely values of the forecast input at which the second fit is evaluated."""
INVERSE_PERPLEXITY = "inverse_perplexity"
"""Name of the input exp(-loss). A power law of the odds in it is a sigmoid of the score in the loss."""
PAIRS = 8000
"""Number of pairs of draws of both fits, if runs without a loss connect them."""
LEAST_EFFECTIVE = 100
"""Smallest effective number of weighted pairs that can be relied on."""


def uncertain(at: Any, inputs: Mapping[str, Any]) -> bool:
    """Return whether one of the given inputs is a forecast."""
    given = [*inputs.values(), *(at.values() if isinstance(at, Mapping) else ())]
    return any(isinstance(value, Forecast) for value in given)


def predict_through(
    fit: Fitted, given: Mapping[str, Any], kind: str, of: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> Forecast:
    """Forecast at an input that is the forecast of another fit, including its uncertainty.

    The two fits are treated as independent: the result is the mixture of this fit's forecasts at equally likely values
    of the input.

    Args:
        fit: The fit that makes the forecast.
        given: Inputs of `fit` by name, one of which is a forecast, at one point or several.
        kind: "mean" or "run".
        of: Monotone function from the values of the forecast to the input.

    Raises:
        InputError: For several inputs that are forecasts, or other inputs of another length.
    """
    names = [name for name, value in given.items() if isinstance(value, Forecast)]
    if len(names) > 1:
        raise InputError(f"Only one input may be a forecast; found {', '.join(names)}.")
    name = names[0]
    input: Forecast = given[name]
    points = len(input)
    nodes = of(input.quantile((np.arange(NODES) + 0.5) / NODES))
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
    shown = of(input.quantile(0.5))
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


@known_keywords
@dataclasses.dataclass(frozen=True, repr=False)
class Chain(Display):
    """A fit of losses by scale and a fit of scores by the loss, as one posterior; `fit_chain` makes it.

    Attributes:
        losses: The fit of the losses.
        scores: The fit of the scores. Its only input is the loss, or exp(-loss) under the name inverse_perplexity.
        unmeasured: Runs with a score and without a loss, or None. Their inputs are those of `losses`.
    """

    losses: Fitted
    scores: Fitted
    unmeasured: Runs | None = None

    def __post_init__(self) -> None:
        """Refuse fits that are no chain.

        Raises:
            InputError: For a second fit with several inputs, or without a score, and a first fit of scores or values.
        """
        if self.scores.runs.score is None or len(self.scores.law.inputs) != 1:
            raise InputError(
                "The second fit of a chain must be a fit of scores with one input, the loss or exp(-loss); found "
                f"{self.scores.response} by {', '.join(self.scores.law.inputs)}. bs.fit_chain(losses, scores) makes it."
            )
        if self.losses.runs.response_scale is not None:
            raise InputError(f"The first fit of a chain must be a fit of losses; found {self.losses.response}.")
        shown, known = self.losses.runs.shown, self.scores.runs.frame[self.through].to_numpy(float)
        known = -np.log(known) if self.through == INVERSE_PERPLEXITY else known
        if known.max() < shown.min() or known.min() > shown.max():
            raise InputError(
                f"The losses of the first fit go from {shown.min():.4g} to {shown.max():.4g}, and the input of the "
                f"second from {known.min():.4g} to {known.max():.4g}: they must be the same loss in the same unit."
            )

    @property
    def through(self) -> str:
        """Name of the second fit's input: `INVERSE_PERPLEXITY`, or the name of the loss."""
        return self.scores.law.inputs[0]

    def input_of(self, loss: np.ndarray) -> np.ndarray:
        """Return the input of the second fit at losses of any shape."""
        return np.exp(-loss) if self.through == INVERSE_PERPLEXITY else np.asarray(loss)

    @property
    def status(self) -> Status:
        """The status of the first fit that did not converge, or `Status.OK`."""
        return next((fit.status for fit in (self.losses, self.scores) if fit.status is not Status.OK), Status.OK)

    def check(self) -> Notes:
        """Return the warnings of both fits, those of the losses first."""
        return Notes([*self.losses.check(), *self.scores.check()])

    def predict(
        self, at: At | None = None, *, kind: str = "run", force: bool = False, **inputs: float | np.ndarray
    ) -> Forecast:
        """Forecast scores at new inputs of the losses' fit.

        Args:
            at: Inputs in raw counts, see `Fitted.predict`.
            kind: "run" for one future run, "mean" for the curves of loss and score themselves.
            force: Forecast also beyond data that rise and then fall.
            **inputs: The same inputs as keyword arguments.

        Raises:
            InputError: As `Fitted.predict`, and if too few pairs of draws agree with the scores of runs without a loss.

        Example:
            >>> chain.predict(flops=1e22).interval(0.8)  # doctest: +SKIP
        """
        known_kind(kind)
        loss = self.losses.predict(at, kind=kind, force=force, **inputs)
        through = predict_through(self.scores, {self.through: loss}, kind, self.input_of)
        if self.unmeasured is not None:
            through = self.weighted(through, loss, kind)
        return dataclasses.replace(through, points=loss.points, ratio=loss.ratio, below=loss.below)

    def weighted(self, through: Forecast, loss: Forecast, kind: str) -> Forecast:
        """Return a forecast in which runs with a score and without a loss weight the draws.

        Pairs of draws of both fits, with a joint path of each over the points and those runs, are drawn from the
        product of the two posteriors, weighted by the binomial probability of the scores, and resampled.

        Args:
            through: The forecast without weights.
            loss: Forecast of the loss at the points.
            kind: "run" or "mean".

        Raises:
            InputError: If the effective number of weighted pairs is below `LEAST_EFFECTIVE`.
        """
        assert self.unmeasured is not None and isinstance(through, ScoreForecast), "runs without a loss"
        if through.drawn is not None:
            raise InputError(
                "Runs with a score and without a loss need a binomial likelihood and a known range: read the scores "
                "without chance_sd= and ceiling_sd=, or without those runs."
            )
        here = self.losses.locate(self.unmeasured.frame[list(self.unmeasured.inputs)], {})[0]
        rows, rng = len(here), np.random.default_rng([self.scores.seed, 7])
        # The path of the loss is joint over these runs and the points.
        path = self.losses.forecast_at(pd.concat([here, loss.points], ignore_index=True), kind).log_draws
        path = path.reshape(-1, path.shape[-1])
        if kind == "mean":
            noise = np.sqrt(run_variance(self.losses.flat_values, self.losses.first.job.problem))[:, None]
            path[:, :rows] += noise * rng.standard_normal((len(path), rows))
        grid = np.linspace(path.min(), path.max(), 4 * NODES)
        table = pd.DataFrame({self.through: self.input_of(np.exp(grid))})
        odds = self.scores.forecast_at(table, "mean").log_draws.reshape(-1, len(grid))
        noise = np.sqrt(run_variance(self.scores.flat_values, self.scores.first.job.problem))
        noise = np.broadcast_to(noise, len(odds))
        first, second = (np.resize(rng.permutation(size), PAIRS) for size in (len(path), len(odds)))
        middle = np.array([np.interp(path[i], grid, odds[j]) for i, j in zip(first, second, strict=True)])
        spread = noise[second][:, None] * rng.standard_normal(middle.shape)
        if kind == "mean":
            spread[:, rows:] = 0.0
        drawn = middle + spread
        right, items = (np.rint(part) for part in counts(self.unmeasured.frame))
        scale = self.scores.runs.score
        assert scale is not None, "scores"
        log_weight = binom.logpmf(right, items, scale.score(drawn[:, :rows])).sum(1)
        weight = np.exp(log_weight - log_weight.max())
        effective = weight.sum() ** 2 / (weight**2).sum()
        if not effective >= LEAST_EFFECTIVE:
            raise InputError(
                f"Only {effective:.0f} of {PAIRS} pairs of draws agree with the scores of {counted(rows, 'run')} "
                "without a loss. Measure their loss, or leave them out."
            )
        # Systematic resampling has less noise than independent draws.
        edges = np.cumsum(weight) / weight.sum()
        kept = np.searchsorted(edges, (np.arange(PAIRS) + rng.uniform()) / PAIRS).clip(max=PAIRS - 1)
        sd = noise[second][kept][:, None] if kind == "run" else np.zeros((PAIRS, 1))
        return dataclasses.replace(
            through,
            location=middle[kept, rows:],
            scale=np.broadcast_to(sd, (PAIRS, middle.shape[1] - rows)).copy(),
            log_draws=drawn[kept, rows:][None],
        )

    def __repr__(self) -> str:
        """Return which fits form the chain, and their status."""
        lines = [
            f"Chain: {self.losses.response} by {', '.join(self.losses.law.inputs)} ({self.losses.law_names}), then "
            f"{self.scores.response} by {self.through} ({self.scores.law_names})."
        ]
        if self.unmeasured is not None:
            lines.append(f"{counted(len(self.unmeasured), 'run')} with a score and without a loss weight the draws.")
        return "\n".join([*lines, str(self.status)])

    __str__ = __repr__
