"""Sensitivity: how much an answer depends on assumptions rather than on the runs.

The same question is answered under one change at a time: another law, another discrepancy, a weaker or stronger prior,
more seed noise, or one run left out.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import pandas as pd

from bayescale import laws
from bayescale._jax import on_cores
from bayescale.checked import known_keywords
from bayescale.data.drawn_score import joined
from bayescale.data.runs import Runs
from bayescale.decide.outcomes import at_point
from bayescale.decide.utility import check_target
from bayescale.errors import InputError, Status
from bayescale.fitting.fit import progress_bar
from bayescale.fitting.fit_many import fit_many
from bayescale.forecast import At, Forecast
from bayescale.model.parameters import read
from bayescale.posterior.fitted import Fitted
from bayescale.posterior.mixture import combine
from bayescale.posterior.posterior import Posterior
from bayescale.score_forecast import ScoreForecast

LAWS = {1: ("saturating_power", "power"), 2: ("chinchilla", "kaplan_joint")}
"""Laws that a fit is compared with, by number of inputs: one with an irreducible loss and one without."""
EXACT = "no discrepancy: the law is exact"
DISCREPANCIES = {
    "discrepancy twice as large": 2.0,
    "discrepancy half as large": 0.5,
    EXACT: 1e-4,
}
"""Factors on the discrepancy's median amplitude; 0.0001 stands for none, without compiling another program."""
NESTED = {"chinchilla_outer": ("chinchilla",)}
"""Laws to which a law reduces at some values of its constants; the posterior may already be close to these values."""
SEED_FACTOR = 3.0
LEFT_OUT = 10
"""Number of runs that are left out one by one: the largest, because an extrapolation depends on them."""
WEIGHABLE = 0.7
"""Pareto k of the importance weights above which a reweighted answer is not given."""
QUANTILES = (0.1, 0.5, 0.9)


@known_keywords
def sensitivity(
    posterior: Fitted,
    target: float | None = None,
    *,
    at: At | None = None,
    progress: bool | None = None,
    **inputs: float,
) -> pd.DataFrame:
    """Repeat a question under changed assumptions.

    Args:
        posterior: The fit.
        target: Loss, or score, that the run should meet; without it only quantiles are given.
        at: Inputs of the run in question in raw counts, as a mapping from names or a table of one row.
        progress: Show a progress bar; by default only on a terminal.
        **inputs: The same inputs as keyword arguments, unless an input has the name of an option.

    Returns:
        One row a change: `change`, `group` ("as fitted", "law", "discrepancy", "prior", "seed noise", "one run left
        out"), `probability` that one run meets the target, `low`, `median` and `high` of that run's response (80 %
        interval), and `status`. The status says whether a fit did not converge or importance weights are unreliable.

    Raises:
        InputError: For inputs that are missing or not positive.

    References:
        kallioinen2024detecting, for power-scaled priors.

    Example:
        >>> bs.decide.sensitivity(post, 2.6, flops=1e21)  # doctest: +SKIP
    """
    at = at_point(posterior, at, inputs)
    if target is not None:
        check_target(target, posterior.runs.response_scale)
    changes = changes_of(posterior, at, target)
    rows = [answer("as fitted", "as fitted", posterior, at, target)]
    with progress_bar(len(changes), progress, "changing assumptions") as advance:
        for change in changes:
            rows += change()
            advance(1)
    return pd.DataFrame(rows)


def changes_of(
    posterior: Fitted, at: dict[str, float], target: float | None
) -> list[Callable[[], list[dict[str, Any]]]]:
    """Return a function for each change of an assumption; each takes seconds and returns rows of the answer."""

    def refit(label: str, group: str, **assumed: Any) -> Callable[[], list[dict[str, Any]]]:
        fit = exact(posterior) if label == EXACT else posterior
        return lambda: [refitted(label, group, fit, at, target, **assumed)]

    changes: list[Callable[[], list[dict[str, Any]]]] = []
    for name in LAWS.get(len(posterior.law.inputs), ()):
        own = posterior.law.name
        if name == own or name in NESTED.get(own, ()):
            continue
        law = laws.get(name)
        law = law if law.inputs == ("x",) else laws.renamed(law, posterior.law.inputs)
        floor = "" if law.floor else ", no floor"
        changes.append(refit(f"law {name}{floor}", "law", law=law))
    if posterior.discrepancy is not None:
        for label, factor in DISCREPANCIES.items():
            discrepancy = dataclasses.replace(posterior.discrepancy, median=posterior.discrepancy.median * factor)
            changes.append(refit(label, "discrepancy", discrepancy=discrepancy))
    for label, power in {"priors a fifth weaker": 0.8, "priors a quarter stronger": 1.25}.items():
        changes.append(functools.partial(lambda *asked: [reweighted(*asked)], label, posterior, power, at, target))
    if posterior.likelihood.seed_sd is not None:
        noise = dataclasses.replace(posterior.likelihood, seed_sd=posterior.likelihood.seed_sd * SEED_FACTOR)
        changes.append(refit(f"seed noise {SEED_FACTOR:g} times as large", "seed noise", likelihood=noise))
    return [*changes, lambda: without_one(posterior, at, target)]


def exact(fit: Fitted) -> Fitted:
    """Return the fit without the components of a mixture that allow for a wrong law; see `designs.shape_weights`."""
    pairs = list(zip(fit.components, fit.weights, strict=True))
    kept = [(part, weight) for part, weight in pairs if shape_of(part) != "power"] or pairs
    return combine([part for part, _ in kept], [weight for _, weight in kept])


def shape_of(part: Posterior) -> str:
    """Return the shape of a component's law, a key of `priors.PLATEAUS`; empty for a law without such a prior."""
    return getattr(part.law.level[1], "plateau", "") if part.law.level else ""


def refitted(
    label: str, group: str, posterior: Fitted, at: dict[str, float], target: float | None, **changes: Any
) -> dict[str, Any]:
    """Return the answer of a fit with one assumption changed, in every component."""
    try:
        (changed,) = fit_again(posterior, [posterior.runs], **changes)
    except InputError as error:
        return empty(label, group, str(error))
    return answer(label, group, changed, at, target)


def fit_again(posterior: Fitted, families: Sequence[Runs], seed: int | None = None, **changes: Any) -> list[Fitted]:
    """Fit families as `posterior` was fitted, each component by itself, with some assumptions changed.

    Args:
        posterior: The fit.
        families: Runs to fit.
        seed: Seed; by default that of the fit.
        **changes: Any of law, discrepancy and likelihood. Another law is fitted once, with its default priors.

    Raises:
        InputError: For families that cannot be fitted.
    """
    seed = posterior.seed if seed is None else seed
    if "law" in changes:
        same = {
            "discrepancy": posterior.discrepancy,
            "likelihood": posterior.likelihood,
            "settings": posterior.settings,
        }
        return list(fit_many(families, seed=seed, failures="raise", progress=False, **same | changes))
    fits = []
    for part in posterior.components:
        assumed: dict[str, Any] = {
            "law": part.law,
            "discrepancy": part.discrepancy,
            "likelihood": part.likelihood,
        } | changes
        options = {"seed": seed, "settings": part.settings, "failures": "raise", "progress": False}
        fits.append(fit_many(families, **options | assumed))
    return [combine([fit.first for fit in own], posterior.weights) for own in zip(*fits, strict=True)]


def without_one(posterior: Fitted, at: dict[str, float], target: float | None) -> list[dict[str, Any]]:
    """Return the answers with one of the largest runs left out."""
    frame = posterior.runs.frame
    if len(frame) < 4:
        return []
    names = list(posterior.law.inputs)
    order = np.argsort(-np.log(frame[names].to_numpy(float)).sum(1), kind="stable")[:LEFT_OUT]
    families: list[Runs] = [posterior.runs.select(np.arange(len(frame)) != row) for row in order]
    try:
        fits = fit_again(posterior, families)
    except InputError as error:
        return [empty("one run left out", "one run left out", str(error))]
    labels = [", ".join(f"{name}={frame[name].iloc[row]:.3g}" for name in names) for row in order]
    labels = apart(labels, frame.iloc[order])
    pairs = zip(labels, fits, strict=True)
    return [answer(f"without {label}", "one run left out", fit, at, target) for label, fit in pairs]


def apart(labels: list[str], rows: pd.DataFrame) -> list[str]:
    """Label rows that share a label by their seed or run, or by their loss where they have neither.

    Args:
        labels: One label for each row.
        rows: The rows.
    """

    def own(number: int) -> str:
        row = rows.iloc[number]
        alike = rows[[label == labels[number] for label in labels]]
        for name in ("seed", "run"):
            if name in rows and alike[name].notna().all() and alike[name].nunique() == len(alike):
                return f", {name} {row[name]:g}" if isinstance(row[name], float) else f", {name} {row[name]}"
        return f", loss {row['loss']:.6g}"

    return [label + own(number) if labels.count(label) > 1 else label for number, label in enumerate(labels)]


def reweighted(
    label: str, posterior: Fitted, power: float, at: dict[str, float], target: float | None
) -> dict[str, Any]:
    """Return the answer with every prior raised to a power, by importance weights of the draws (PSIS of ArviZ)."""
    from arviz_stats.base import array_stats

    point, locations, scales, ranges = pd.DataFrame([at]), [], [], []
    # The components of a mixture keep their weights.
    for part, (chains, draws) in zip(posterior.components, posterior.layout, strict=True):
        one = part.thinned(draws)
        flat = one.unconstrained.reshape(chains * draws, -1)
        with on_cores():
            log_prior = np.asarray(prior_density(flat, one.job.model, one.job.problem))
        # ArviZ expects the negative of log weights, as in leave-one-out cross-validation.
        weighed, k = array_stats.psislw((1.0 - power) * log_prior)
        if not k < WEIGHABLE:
            return empty(label, "prior", f"not stated: the draws cannot be reweighted that far (Pareto k {k:.2f})")
        weights = np.exp(weighed - np.logaddexp.reduce(weighed))
        # Draws are resampled at even steps of the cumulative weight, which adds no noise.
        steps = (np.arange(len(weights)) + 0.5) / len(weights)
        pick = np.searchsorted(np.cumsum(weights) / weights.sum(), steps).clip(0, len(weights) - 1)
        found = one.forecast_at(point, "run")
        if isinstance(found, ScoreForecast) and found.drawn is not None:
            ranges.append(found.drawn.picked(pick))
        locations.append(found.location[pick])
        scales.append(found.scale[pick])
    whole = posterior.forecast_at(point, "run")
    whole = dataclasses.replace(whole, location=np.concatenate(locations), scale=np.concatenate(scales))
    if isinstance(whole, ScoreForecast) and ranges:
        # The joint draws were not reweighted, so draws of the reweighted log odds take their place.
        noise = np.random.default_rng(posterior.seed).standard_normal(whole.location.shape)
        draws = (whole.location + whole.scale * noise)[None]
        whole = dataclasses.replace(whole, log_draws=draws, drawn=joined(ranges)).resampled()
    return state(label, "prior", whole, target, posterior.status)


@jax.jit
def prior_density(vectors: Any, model: Any, problem: Any) -> Any:
    """Return ln of the prior density of each coordinate vector, shape (draw,)."""
    return jax.vmap(lambda vector: read(vector, model, problem)[1].sum())(vectors)


def answer(label: str, group: str, posterior: Fitted, at: dict[str, float], target: float | None) -> dict[str, Any]:
    """Return one row of the table from a posterior."""
    forecast = posterior.forecast_at(pd.DataFrame([at]), "run")
    return state(label, group, forecast, target, posterior.status)


def state(label: str, group: str, forecast: Forecast, target: float | None, status: Status) -> dict[str, Any]:
    """Return one row of the table from a forecast."""
    low, median, high = forecast.quantile(QUANTILES)[:, 0]
    row: dict[str, Any] = {"change": label, "group": group}
    if target is not None:
        row["probability"] = float(forecast.probability_met(target)[0])
    return row | {"low": float(low), "median": float(median), "high": float(high), "status": status.name}


def empty(label: str, group: str, why: str) -> dict[str, Any]:
    """Return a row for an answer that could not be computed, with the reason as its status."""
    return {"change": label, "group": group, "low": np.nan, "median": np.nan, "high": np.nan, "status": why}
