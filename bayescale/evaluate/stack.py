"""Stack: a mixture of laws or models, weighted by how well each forecasts runs larger than those it was fitted to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import numpy as np
from scipy.special import gammaln, logsumexp, xlogy

from bayescale.checked import Rule, is_real, shortened, whole
from bayescale.checked import options as check_options
from bayescale.data.runs import Runs, checked, scale_of
from bayescale.errors import InputError, because, counted, some
from bayescale.evaluate import scores
from bayescale.evaluate.backtest import (
    FEWEST,
    Split,
    checked_cuts,
    cut_family,
    forecast_held,
    training_runs,
    why_not,
)
from bayescale.fitting.fit_many import fit_many
from bayescale.fitting.options import FitOptions, FitRequest, list_fit_options, request_fit
from bayescale.laws.law import Law
from bayescale.posterior.fitted import Fitted
from bayescale.posterior.mixture import Mixture
from bayescale.posterior.posterior import Failure
from bayescale.posterior.stacking import Cut, Stacking, stacking_weights
from bayescale.score_forecast import ScoreForecast

SHARES = (0.125, 0.25, 0.5)
"""Fractions of the sizes, largest first, that are held out by default; at least one size each."""
CONCENTRATION = 2.0
"""Concentration of the Dirichlet prior: the prior counts like one held-out run for each candidate alone."""
ABOVE_ONE = Rule("a finite number above 1", lambda value: is_real(value) and value > 1)
Candidates = Sequence[str | Law] | Mapping[str, str | Law | Mapping[str, Any]]


@list_fit_options(method="auto")
def stack(
    runs: Runs,
    laws: Candidates,
    *,
    seed: int,
    ratio: float | Sequence[float] | None = None,
    largest: int | Sequence[int] | None = None,
    concentration: float = CONCENTRATION,
    min_train: int = FEWEST,
    progress: bool | None = None,
    folder: str | Path | None = None,
    executor: Executor | None = None,
    **options: Unpack[FitOptions],
) -> Mixture:
    """Fit several laws or models to one family, weighted by how well each forecasts larger runs from smaller ones.

    The runs are cut by scale as in `backtest`. Each candidate is fitted to the runs below a cut and forecasts the runs
    beyond it. The weights maximise the sum of ln(weighted mean of the predictive densities) over these forecasts, plus
    the logarithm of a Dirichlet prior. The components of the result are fits to all runs.

    Args:
        runs: Runs of one family.
        laws: Laws or their names, at least two; or a mapping from a label to a law or to options of a fit, such as
            `{"trusted": {"law": "chinchilla", "discrepancy": None}, "default": "auto"}`.
        seed: Seed of all random numbers.
        ratio: Extrapolation factor of a cut, or several, as in `backtest`: hold out the runs within this factor of the
            largest.
        largest: Instead of `ratio`, the number of largest sizes to hold out, or several. If neither is given, the
            largest eighth, quarter and half of the sizes are held out (at least one size), as far as enough runs
            remain.
        concentration: Concentration of the symmetric Dirichlet prior, above 1; larger values give more equal weights.
            The prior counts like `concentration - 1` further held-out runs that are possible under each candidate
            alone.
        min_train: Cuts with fewer runs below them are skipped.
        progress: Show a progress bar; by default only on a terminal.
        folder: Folder of finished fits, see `fit_many`.
        executor: Where to fit, see `fit_many`.
        **options: Options of all fits, see `fit`; options of a candidate override them. `method` is "auto" by default,
            as in `backtest`.

    Returns:
        A mixture of all candidates; its attribute `stacking` has the scores and weights.

    Raises:
        InputError: Before anything is compiled: for fewer than two candidates, equal labels, candidates with different
            inputs, impossible options, or if no cut leaves enough runs.

    References:
        yao2018stacking; burkner2020future for holding out what comes later.

    Example:
        >>> post = bs.stack(runs, ["auto", "saturating_power"], seed=0)  # doctest: +SKIP
        >>> post.stacking.to_frame()  # doctest: +SKIP
    """
    check_options(concentration=(concentration, ABOVE_ONE), min_train=(min_train, whole(1, 1_000_000)))
    requests = requested(laws, seed, FitOptions(**{"method": "auto", **options}))
    refuse_unlike(checked(runs), requests)
    splits, skipped = usable(runs, cuts_of(runs, ratio, largest), min_train, requests)
    where: dict[str, Any] = {"seed": seed, "folder": folder, "executor": executor, "progress": progress}
    return mixed(scored(runs, requests, splits, where), concentration, skipped)


class Scored(NamedTuple):
    """Candidates, fitted and scored.

    Attributes:
        fits: The fit of each candidate to all runs, by its label.
        splits: The cuts.
        densities: For each cut, the log predictive densities of the held-out runs, shape (run, candidate).
    """

    fits: dict[str, Fitted]
    splits: Sequence[Split]
    densities: list[np.ndarray]


def scored(runs: Runs, requests: Mapping[str, FitRequest], splits: Sequence[Split], where: Mapping[str, Any]) -> Scored:
    """Fit each candidate to all runs and to the runs below each cut, and score its forecasts of the runs beyond.

    Args:
        runs: The runs.
        requests: How to fit each candidate, by its label.
        splits: The cuts.
        where: Seed, folder, executor and progress of `fit_many`.
    """
    families = [*map(training_runs, splits), runs]
    fits = {label: fitted_candidate(label, request, families, where) for label, request in requests.items()}
    table = [
        np.column_stack([log_densities(split, own[number]) for own in fits.values()])
        for number, split in enumerate(splits)
    ]
    return Scored({label: own[-1] for label, own in fits.items()}, splits, table)


def mixed(found: Scored, concentration: float, skipped: Sequence[str] = ()) -> Mixture:
    """Return the mixture of scored candidates.

    Args:
        found: The candidates.
        concentration: Concentration of the Dirichlet prior of the weights.
        skipped: Cuts that could not be made, each with the reason.
    """
    fits, weights = found.fits, stacking_weights(np.concatenate(found.densities), concentration).tolist()
    cuts = [
        Cut(split.ratio, int(split.train.sum()), len(own), tuple(own.sum(0).tolist()))
        for split, own in zip(found.splits, found.densities, strict=True)
    ]
    owners = tuple(label for label, fit in fits.items() for _ in fit.components)
    record = Stacking(tuple(fits), tuple(weights), float(concentration), tuple(cuts), owners, tuple(skipped))
    pairs = list(zip(fits.values(), weights, strict=True))
    return Mixture(
        tuple(part for fit, _ in pairs for part in fit.components),
        tuple(weight * share for fit, weight in pairs for share in fit.weights),
        record,
    )


def fitted_candidate(
    label: str, request: FitRequest, families: Sequence[Runs], where: Mapping[str, Any]
) -> list[Fitted]:
    """Return the fits of a candidate to the runs below each cut and to all runs.

    Args:
        label: Name of the candidate.
        request: How to fit the candidate.
        families: The runs below each cut, and all runs.
        where: Seed, folder, executor and progress of `fit_many`.

    Raises:
        InputError: If one of these fits fails.
    """
    own: Any = {**request.model, "settings": request.settings, "method": request.method}
    found: list[Fitted] = []
    for result in fit_many(families, request.law, **where, **own):
        if isinstance(result, Failure):
            size = counted(len(result.runs), "run")
            raise InputError(f"The candidate {label} cannot be fitted to {size} of {result.runs.name}. {result.reason}")
        found.append(result)
    return found


def requested(laws: Candidates, seed: int, options: FitOptions) -> dict[str, FitRequest]:
    """Return the checked options of each candidate, by its label.

    Raises:
        InputError: For fewer than two candidates, equal labels, or impossible options.
    """
    example = 'e.g. laws=["auto", "saturating_power"] (--law auto --law saturating_power in the shell)'
    if isinstance(laws, str | Law) or not isinstance(laws, Sequence | Mapping):
        raise InputError(f"Stacking needs several laws, {example}; found {shortened(laws)}.")
    if isinstance(laws, Mapping):
        named = [(label, value) for label, value in laws.items()]
    else:
        for law in laws:
            if not isinstance(law, str | Law):
                raise InputError(
                    "Candidates in a list are laws or their names; give options under a label of their own, as "
                    f'{{"trusted": {{"law": "auto", "discrepancy": None}}}}; found {shortened(law)}.'
                )
        named = [(law.name if isinstance(law, Law) else law, law) for law in laws]
    labels = [label for label, _ in named]
    if bad := [label for label in labels if not isinstance(label, str) or not label.strip()]:
        raise InputError(f"The label of a candidate must be a string; found {shortened(bad[0])}.")
    if twice := [label for label in dict.fromkeys(labels) if labels.count(label) > 1]:
        raise InputError(
            f"Two candidates are called {twice[0]}; leave one out (give --law {twice[0]} only once), or label "
            "them, as in laws={'one': ..., 'other': ...}."
        )
    if len(named) < 2:
        raise InputError(f"Stacking needs at least two candidates, {example}; found {some(labels) or 'none'}.")
    found = {}
    for label, value in named:
        own: dict[str, Any] = dict(value) if isinstance(value, Mapping) else {"law": value}
        law = own.pop("law", "auto")
        if not isinstance(law, str | Law):
            raise InputError(f"The law of the candidate {label} is a law or its name; found {shortened(law)}.")
        found[label] = request_fit(law, seed, FitOptions(**{**options, **own}))
    return found


def refuse_unlike(runs: Runs, requests: Mapping[str, FitRequest]) -> None:
    """Refuse runs of several families, and candidates that do not fit the runs or have different inputs.

    Raises:
        InputError: With the candidate.
    """
    families = [str(part.frame["family"].iloc[0]) for part in runs.split()]
    if len(families) > 1:
        raise InputError(
            f"Stacking needs the runs of one family; {runs.name} has {len(families)} ({some(families)}). Stack "
            "each part of "
            "runs.split() by itself, or a file of one family in the shell."
        )
    first = ""
    told: Any = None
    for label, request in requests.items():
        try:
            job = request.plan(runs).jobs[0]
        except InputError as error:
            raise InputError(f"The candidate {label} cannot be fitted to {runs.name}. {error}") from None
        along = job.law.inputs, job.ray
        if told is None:
            first, told = label, along
        elif along != told:
            raise InputError(
                f"All candidates must have the same inputs; found {some(list(told[0]))} of {first} and "
                f"{some(list(along[0]))} of {label}. Leave one out."
            )


def cuts_of(
    runs: Runs, ratio: float | Sequence[float] | None, largest: int | Sequence[int] | None
) -> list[tuple[float | None, int | None]]:
    """Return the requested or default cuts, each as an extrapolation factor or a number of sizes.

    Raises:
        InputError: If both are given, and for impossible values.
    """
    if ratio is not None:
        return [(value, None) for value in checked_cuts(ratio, None if largest is None else 1)]
    if largest is None:
        sizes = len(np.unique(scale_of(runs)))
        return [(None, max(1, int(share * sizes))) for share in SHARES]
    several = list(largest) if isinstance(largest, Sequence) and not isinstance(largest, str) else [largest]
    for number in several or [largest]:
        checked_cuts(None, number)  # pyright: ignore[reportArgumentType]
    return [(None, number) for number in several]


def usable(
    runs: Runs,
    cuts: Sequence[tuple[float | None, int | None]],
    min_train: int,
    requests: Mapping[str, FitRequest],
) -> tuple[list[Split], list[str]]:
    """Return the distinct cuts below which every candidate can be fitted, and the reasons against the other cuts.

    Raises:
        InputError: If there is no such cut.
    """
    found: list[Split] = []
    skipped: list[tuple[str, str]] = []
    for ratio, largest in cuts:
        split = cut_family(runs, runs.name, ratio, largest)
        if any(np.array_equal(split.train, other.train) for other in found):
            continue
        reason = why_not(split, min_train) or unfit(split, requests)
        if reason:
            name = f"largest {largest} held out" if ratio is None else f"ratio {ratio:g}"
            skipped.append((name, reason))
        else:
            found.append(split)
    if not found:
        raise InputError(
            f"No cut of the {counted(len(runs), 'run')} of {runs.name} can be scored. {because(dict(skipped).items())} "
            f"Stacking needs at least {min_train} runs of two or more sizes below those that it holds out: add smaller "
            "runs, or hold out fewer: largest=1 (--largest 1)."
        )
    return found, [f"{name}: {reason}" for name, reason in dict(skipped).items()]


def unfit(split: Split, requests: Mapping[str, FitRequest]) -> str:
    """Return the reason why a candidate cannot be fitted to the training runs of a cut; empty if all can."""
    for label, request in requests.items():
        try:
            request.plan(training_runs(split))
        except InputError as error:
            return f"{label} cannot be fitted to {counted(int(split.train.sum()), 'run')}: {error}"
    return ""


def log_densities(split: Split, posterior: Fitted) -> np.ndarray:
    """Return the log predictive density of each held-out run of a cut, shape (run,).

    For losses it is the density of ln(loss); for scores it is the probability of the number of right items; for values
    it is the density of the value in units of the fit's scale.
    """
    forecast, y = forecast_held(split, posterior)
    if isinstance(forecast, ScoreForecast):
        items = split.family.frame["n_items"].to_numpy(float)[~split.train]
        return log_probability_of_items(forecast, y * items, items)
    return scores.log_score(forecast.log_of(y), forecast.location, forecast.scale)


def log_probability_of_items(forecast: ScoreForecast, right: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return the log probability of the numbers of right items, shape (point,), by quadrature over normal log odds.

    Args:
        forecast: The forecast, whose draws give the distribution of the log odds.
        right: Number of right items at each point.
        items: Number of items at each point.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    terms = []
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        share = forecast.expected(forecast.location + node * forecast.scale)
        if forecast.drawn is None:
            each = xlogy(right, share) + xlogy(items - right, 1.0 - share)
        else:
            each = forecast.drawn.log_probability(right, items, share)
        terms.append(np.log(weight) + each)
    ways = gammaln(items + 1.0) - gammaln(right + 1.0) - gammaln(items - right + 1.0)
    return ways + logsumexp(np.stack(terms), axis=(0, 1)) - np.log(len(forecast.location))
