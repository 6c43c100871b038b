"""Joint fit of several metrics of the same runs, such as losses on different test sets."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayescale import checked
from bayescale.checked import known_keywords
from bayescale.data.runs import Runs
from bayescale.errors import InputError, Status, counted, nearest
from bayescale.fitting.plan import share
from bayescale.forecast import At, Forecast, known_kind
from bayescale.inference.nuts import Nuts, check_settings
from bayescale.laws.law import Law
from bayescale.laws.priors import Prior, check_priors
from bayescale.model.discrepancy import Discrepancy
from bayescale.model.likelihood import Likelihood
from bayescale.pooling.metrics_fit import Component, sample_plan
from bayescale.pooling.metrics_forecast import MetricsForecast, forecast_component, mixed
from bayescale.pooling.metrics_plan import MetricsPlan, plan_metrics
from bayescale.pooling.tables import ends_of
from bayescale.posterior.checks import refuse_beyond_turn
from bayescale.posterior.fitted import PLATEAU_LABELS, Fitted
from bayescale.posterior.mixture import combine


@known_keywords
def fit_metrics(
    metrics: Mapping[str, Runs],
    law: str | Law | Mapping[str, str | Law] = "auto",
    *,
    seed: int,
    discrepancy: Discrepancy | str | None = "auto",
    likelihood: Likelihood | str = "auto",
    priors: Mapping[str, Prior] | None = None,
    design: str = "auto",
    settings: Nuts | None = None,
) -> MetricsPosterior:
    """Sample one joint posterior of several metrics of the same runs.

    Each metric has the model that a fit of it alone has, with its own law, discrepancy and noise. The discrepancies of
    two metrics are correlated, and so is the noise of one run: residuals and seed noise with one common correlation.
    Both correlation matrices have the prior LKJ(1), uniform over correlation matrices. A measured metric of a new run
    therefore changes the forecast of the others.

    Rows of different metrics belong to one run if their run (and seed) and inputs agree; without names of runs, if
    their inputs agree. Some runs may lack some metrics. Priors are relative to the range of all runs together.

    Args:
        metrics: Losses by the name of the metric; 2 to 8 metrics with at most 300 losses together.
        law: A law or its name, see `fit`, or one for each metric by its name; all with the same inputs.
        seed: Seed of all random numbers.
        discrepancy: See `fit`.
        likelihood: See `fit`; normal only.
        priors: Priors of the laws of all metrics to replace, by name; see `fit`.
        design: See `fit`.
        settings: Warm-up steps, draws, chains and target acceptance of NUTS.

    Returns:
        A `MetricsPosterior`.

    Raises:
        InputError: For metrics that cannot be fitted together.

    Example:
        >>> import bayescale as bs
        >>> joint = bs.fit_metrics({"c4": c4_runs, "code": code_runs}, seed=0)  # doctest: +SKIP
        >>> joint.predict(flops=1e22, given={"c4": 2.31})["code"]  # doctest: +SKIP
    """
    checked.options(seed=(seed, checked.SEED))
    settings = check_settings(settings)
    check_priors(priors)
    plan = plan_metrics(metrics, law, discrepancy=discrepancy, likelihood=likelihood, priors=priors, design=design)
    return fit_plan(plan, seed, settings)


def fit_plan(plan: MetricsPlan, seed: int, settings: Nuts, linked: bool = True) -> MetricsPosterior:
    """Sample the joint posterior of a plan.

    Args:
        plan: The models and the rows.
        seed: Seed of all random numbers.
        settings: Settings of the whole fit.
        linked: Whether metrics are correlated.
    """
    own = share(settings, max(plan.weights))
    return MetricsPosterior(plan, sample_plan(plan, seed, own, linked), seed, settings)


@known_keywords
@dataclasses.dataclass(frozen=True, repr=False)
class MetricsPosterior:
    """A joint posterior of several metrics of the same runs: one model, or a mixture with fixed weights.

    Attributes:
        plan: The models of the metrics and their rows.
        components: Draws of each component.
        seed: Seed of the fit.
        settings: Settings of the fit.
    """

    plan: MetricsPlan
    components: tuple[Component, ...]
    seed: int
    settings: Nuts

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the metrics."""
        return self.plan.names

    @property
    def status(self) -> Status:
        """The status of the first component that did not converge, or `Status.OK`."""
        found = [part.diagnostics.status for part in self.components]
        return next((status for status in found if status is not Status.OK), Status.OK)

    @functools.cached_property
    def kept(self) -> tuple[Component, ...]:
        """The components, with chains thinned so that numbers of draws are proportional to weights."""
        shapes = [part.first.unconstrained.shape[:2] for part in self.components]
        total = min(chains * draws / w for (chains, draws), w in zip(shapes, self.plan.weights, strict=True))
        lengths = [
            max(1, int(w * total / chains + 1e-9)) for (chains, _), w in zip(shapes, self.plan.weights, strict=True)
        ]
        return tuple(part.thinned(length) for part, length in zip(self.components, lengths, strict=True))

    @functools.cached_property
    def fits(self) -> dict[str, Fitted]:
        """The draws of each metric as a fit, for constants and their table.

        Forecasts of these fits know the parameters learned from all metrics, but only the metric's own losses; use
        `predict` of the joint posterior.
        """
        return {name: combine([part.fits[name] for part in self.components], self.plan.weights) for name in self.names}

    def predict(
        self,
        at: At | None = None,
        *,
        kind: str = "run",
        given: Mapping[str, Any] | None = None,
        force: bool = False,
        **inputs: float | np.ndarray,
    ) -> MetricsForecast:
        """Forecast all metrics at new inputs, jointly.

        Args:
            at: Inputs in raw counts, see `Fitted.predict`.
            kind: "run" for the metrics of one future run, "mean" for the curves themselves.
            given: Measured losses of the new run by metric: one number, or one for each point. Forecasts of the other
                metrics are conditional on them.
            force: Forecast also beyond data that rise and then fall, see `Fitted.predict`.
            **inputs: The same inputs as keyword arguments.

        Raises:
            InputError: For an unknown kind or metric, losses that are not positive, and inputs as `Fitted.predict`.

        Example:
            >>> joint.predict(flops=1e22, given={"c4": 2.31})["code"].interval(0.8)  # doctest: +SKIP
        """
        known_kind(kind)
        first = self.fits[self.names[0]]
        points = first.on_ray(at, inputs)
        x = first.law_inputs(points)
        measured = self.measured(given, len(points))
        if kind == "run" and len(measured) == len(self.names):
            raise InputError("All metrics of the run are given, so none is left to forecast. Leave some out of given=.")
        rng = np.random.default_rng([self.seed, 1])
        z = np.log(x / first.reference)
        logs = {self.names.index(name): np.log(values) for name, values in measured.items()}
        parts = [forecast_component(part, self.plan.joint, z, kind, logs, rng) for part in self.kept]
        whole, worth, pareto, _ = mixed(parts, bool(measured), rng)
        found = {}
        for number, name in enumerate(self.names):
            if kind == "run" and name in measured:
                continue
            fit = self.fits[name]
            drawn = whole.draws[:, number]
            found[name] = Forecast(
                points=points,
                kind=kind,
                location=whole.location[:, number],
                scale=whole.scale[:, number],
                log_draws=drawn[None] if measured else first.folded(drawn),
                ratio=np.maximum(fit.ratio(x), 1.0),
                label=f"{fit.law_names} on {name}" + (f" given {', '.join(measured)}" if measured else ""),
                response=fit.response,
                below=fit.below(x),
            )
            if not force:
                refuse_beyond_turn(fit, found[name])
        return MetricsForecast(found, measured, worth, pareto)

    def measured(self, given: Any, points: int) -> dict[str, np.ndarray]:
        """Return measured losses of new runs by metric, shape (point,) each.

        Raises:
            InputError: For unknown metrics, other numbers of values, and values that are not positive.
        """
        if given is None:
            return {}
        checked.mapping("given", given, "{'c4': 2.31}")
        found = {}
        for name, value in given.items():
            if name not in self.names:
                raise InputError(f"given= names the metric {name!r}. {nearest(str(name), self.names)}")
            values = np.atleast_1d(np.asarray(value, float))
            if values.shape != (points,) or not (np.isfinite(values) & (values > 0)).all():
                raise InputError(
                    f"given= takes one positive loss for each of {counted(points, 'point')}; found "
                    f"{checked.shortened(value)} for {name}."
                )
            found[name] = values
        return found

    def probability_all(
        self,
        targets: Mapping[str, float],
        at: At | None = None,
        *,
        kind: str = "run",
        given: Mapping[str, Any] | None = None,
        **inputs: float | np.ndarray,
    ) -> np.ndarray:
        """Return the probability that all metrics lie below their targets at new inputs, shape (point,).

        Args:
            targets: Target of each metric by its name.
            at: Inputs in raw counts, see `predict`.
            kind: See `predict`.
            given: See `predict`.
            **inputs: The same inputs as keyword arguments.

        Raises:
            InputError: As `predict`, and for unknown metrics and targets that are not positive.

        Example:
            >>> joint.probability_all({"c4": 2.3, "code": 1.1}, flops=1e22)  # doctest: +SKIP
        """
        return self.predict(at, kind=kind, given=given, **inputs).probability_all(targets)

    def correlations(self, level: float = 0.9) -> pd.DataFrame:
        """Return a table of the correlations between metrics, one row for each pair: median and interval.

        Column `of` is "discrepancy" for the departures from the laws, and "noise" for residuals and seed noise of one
        run. Without data about a correlation, its interval is that of its prior.

        Args:
            level: Central probability of the intervals.
        """
        checked.options(level=(level, checked.PROBABILITY))
        rows = []
        kinds = ("discrepancy", "noise") if self.fits[self.names[0]].discrepancy is not None else ("noise",)
        for kind in kinds:
            tables = [getattr(part.links, kind) for part in self.kept]
            drawn = np.concatenate([table.reshape(-1, *table.shape[2:]) for table in tables])
            for i, one in enumerate(self.names):
                for j, other in enumerate(self.names[i + 1 :], i + 1):
                    low, middle, high = np.quantile(drawn[:, i, j], ends_of(level))
                    pair = {"of": kind, "first": one, "second": other}
                    rows.append(pair | {"median": middle, "low": low, "high": high})
        return pd.DataFrame(rows)

    def summary(self, level: float = 0.9) -> pd.DataFrame:
        """Return the table of `Fitted.summary` for each metric, one below the other, with a column metric.

        Args:
            level: Central probability of the intervals.
        """
        return pd.concat([fit.summary(level).assign(metric=name) for name, fit in self.fits.items()])

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the metrics."""
        return iter(self.names)

    def __len__(self) -> int:
        """Count the metrics."""
        return len(self.names)

    def __repr__(self) -> str:
        """Return the text, cut to one screen."""
        return checked.one_screen(str(self))

    def __str__(self) -> str:
        """Return the metrics, their correlations, and the diagnostics."""
        measured = np.asarray(self.plan.joint.mask).sum(1).astype(int)
        first = self.fits[self.names[0]]
        laws = " and ".join(dict.fromkeys(fit.law_names for fit in self.fits.values()))
        lines = [f"Joint fit of {counted(len(self.names), 'metric')} of {self.plan.joint.rows} rows: {laws}"]
        lines += [
            f"  {name}: {counted(int(n), 'loss', 'losses')}" for name, n in zip(self.names, measured, strict=True)
        ]
        if len(self.components) > 1:
            shapes = [
                PLATEAU_LABELS.get(getattr(part.first.law.level[1], "plateau", ""), "") if part.first.law.level else ""
                for part in self.components
            ]
            told = ", ".join(f"{w:.3g} {shape}" for w, shape in zip(self.plan.weights, shapes, strict=True))
            lines.append(f"A mixture of models, by weight: {told}.")
        lines.append("Correlations (median, 90 % interval):")
        for row in self.correlations().itertuples():
            lines.append(
                f"  {row.of} of {row.first} and {row.second}: {row.median:.2f} ({row.low:.2f} to {row.high:.2f})"
            )
        if not first.replicated:
            lines.append("No two runs have equal settings, so noise is residual and seed noise together.")
        worst = max(part.diagnostics.largest_rhat for part in self.components)
        least = min(float(part.diagnostics.ess_bulk.min()) for part in self.components)
        gone = sum(part.diagnostics.divergences for part in self.components)
        lines.append(
            f"{self.status} Largest R-hat {worst:.3f}, smallest effective sample size {least:.0f}, "
            f"{counted(gone, 'divergent draw')}."
        )
        return "\n".join(lines)
