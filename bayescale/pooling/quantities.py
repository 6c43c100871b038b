"""Quantities that families share or have in common, and what a draw of one family says of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.special import expit, log_expit
from scipy.stats import norm

from bayescale._jax import on_cores
from bayescale.errors import InputError, nearest
from bayescale.laws.law import Law
from bayescale.laws.priors import Exponent, Fall, Fraction, Plateaus, Positive, Prior, Real, Shares, Slope, Turn
from bayescale.model.parameters import draw, taker
from bayescale.model.problem import Job, Model, Problem
from bayescale.posterior.posterior import Posterior

SPREADS = {
    "discrepancy": "log_discrepancy",
    "residual_sd": "log_residual_sd",
    "seed_sd": "log_seed_sd",
}
"""Coordinate of each standard deviation that can be pooled."""
GROUP_EXPONENT = Exponent(0.3, 1.0)
"""Prior of the middle of the exponents of families where the caller gives none."""
FLOOR_PART, FLOOR_SPREAD = 0.6, 0.7
"""Middle and spread (of its logarithm) of the common floor, relative to the response in the middle of the runs."""


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A quantity of every family that is pooled or shared.

    Attributes:
        name: A constant of the law, or a key of `SPREADS`.
        kind: "log" and "logit" for what is pooled as logarithm or logit, "real" for what is pooled itself, "floor" for
            the logarithm of an irreducible loss.
        coordinate: The coordinate of a fit that it is read from.
        shared: Whether all families have one value.
    """

    name: str
    kind: str
    coordinate: str
    shared: bool

    def constrain(self, value: Any) -> Any:
        """Return the quantity in its own units from what is pooled."""
        return value if self.kind == "real" else expit(value) if self.kind == "logit" else np.exp(value)


class Normal(NamedTuple):
    """Mean and standard deviation of what is pooled."""

    mean: float
    sd: float


class Seen(NamedTuple):
    """Draws of a quantity of one family.

    Attributes:
        value: What is pooled, shape (draw,).
        log_prior: Its log prior density in the fit that drew them, given all else, shape (draw,).
    """

    value: np.ndarray
    log_prior: np.ndarray


# --- Which quantities ----------------------------------------------------------------------------------------


def default_pooled(law: Law) -> tuple[str, ...]:
    """Return what is pooled by default: the exponents of a law."""
    return tuple(
        name
        for key, prior in law.priors.items()
        if isinstance(prior, Fall | Slope | Exponent)
        for name in law.covered[key]
    )


def find_quantities(job: Job, pooled: Sequence[str], shared: Sequence[str]) -> tuple[Quantity, ...]:
    """Return the quantities of some names, for a job whose pooled exponents have priors of their own.

    Args:
        job: The model of one family.
        pooled: Names of what families have in common up to a spread.
        shared: Names of what families have one value of.

    Raises:
        InputError: For names that are none, or given twice, or cannot be pooled.
    """
    known = possible(job)
    for name in (*pooled, *shared):
        if name not in known:
            raise InputError(refusal(job.law, name, known))
    if twice := [name for name in pooled if name in shared]:
        raise InputError(
            f"{twice[0]} is pooled or shared, not both; name it in one of pooled= and shared= (--pooled, --shared)."
        )
    if not pooled and not shared:
        raise InputError(
            "Name what families have in common with pooled= or shared= (--pooled, --shared): some of "
            f"{', '.join(known)}."
        )
    return tuple(dataclasses.replace(known[name], shared=name in shared) for name in (*pooled, *shared))


def possible(job: Job) -> dict[str, Quantity]:
    """Return what can be pooled of the model of one family, by name."""
    law, found = job.law, {}
    moving = scaled_constants(law)
    for key, prior in law.priors.items():
        names = law.covered[key]
        kind = kind_of(prior)
        if isinstance(prior, Fall | Slope):
            # Exponents get priors of their own once they are named, see `families.plan_families`.
            found |= {name: Quantity(name, "log", f"log_{name}", False) for name in names}
        elif kind and names[0] not in moving:
            coordinate = names[0] if kind == "real" else f"{kind}_{names[0]}"
            found[names[0]] = Quantity(names[0], kind, coordinate, False)
        elif isinstance(prior, Shares) and prior.floor:
            found[names[0]] = Quantity(names[0], "floor", f"logit_share_{names[0]}", False)
        elif isinstance(prior, Plateaus) and prior.plateau == "absent":
            found[names[0]] = Quantity(names[0], "floor", "bend", False)
    spreads = dict(SPREADS)
    if job.discrepancy is None:
        del spreads["discrepancy"]
    if job.likelihood.seed_sd is None:
        del spreads["seed_sd"]
    return found | {name: Quantity(name, "log", coordinate, False) for name, coordinate in spreads.items()}


def kind_of(prior: Any) -> str:
    """Return how a constant of a prior is pooled, a kind of `Quantity`; empty where it cannot be by itself."""
    if isinstance(prior, Slope | Turn):
        return ""
    kinds = ((Positive, "log"), (Fraction, "logit"), (Real, "real"))
    return next((kind for role, kind in kinds if isinstance(prior, role)), "")


def scaled_constants(law: Law) -> set[str]:
    """Return the constants whose numbers depend on the reference scale of a family, so that they are not comparable."""
    if not law.units:
        return set()
    ones = dict.fromkeys(law.constants, 1.1)
    moved = law.at_unit_scale(ones, dict.fromkeys(law.inputs, 3.0))
    return {name for name in law.constants if abs(float(moved[name]) - 1.1) > 1e-9}


def refusal(law: Law, name: str, known: Mapping[str, Quantity]) -> str:
    """Return why a name cannot be pooled."""
    if name not in law.constants:
        return f"Families of {law.name} have no {name!r} to pool. {nearest(name, known)}"
    if name == law.floor or any(isinstance(prior, Plateaus) for prior in law.priors.values()):
        return (
            f"{name} of {law.name} has no floor of one meaning in all parts of its mixture; name a law with one floor, "
            f"law='saturating_power' (--law saturating_power), or pool some of {', '.join(known)}."
        )
    return (
        f"{name} of {law.name} depends on the scale of the runs or is free by its kind, so families do not have it in "
        f"common; pool some of {', '.join(known)}."
    )


# --- What a fit says of them ---------------------------------------------------------------------------------


def prior_of(quantity: Quantity, job: Job) -> Normal:
    """Return the prior of what is pooled in a job, that of a floor as the logit of its share."""
    if quantity.name in SPREADS:
        likelihood, discrepancy = job.likelihood, job.discrepancy
        if quantity.name == "discrepancy":
            assert discrepancy is not None, "a discrepancy"
            return Normal(float(np.log(discrepancy.median)), float(discrepancy.sd))
        if quantity.name == "residual_sd":
            return Normal(float(np.log(likelihood.residual_sd)), float(likelihood.residual_spread))
        return Normal(float(np.log(likelihood.seed_sd or 1.0)), float(likelihood.seed_spread))
    prior = next(prior for key, prior in job.law.priors.items() if quantity.name in job.law.covered[key])
    if quantity.kind == "floor":
        return Normal(float(prior.floor_mean), float(prior.floor_sd))
    center = np.log(prior.median) if quantity.kind == "log" else prior.mean
    return Normal(float(center), float(prior.sd))


def group_prior(quantity: Quantity, jobs: Sequence[Job]) -> Normal:
    """Return the prior of the middle of a quantity over families."""
    if quantity.kind != "floor":
        return prior_of(quantity, jobs[0])
    center = float(np.mean([float(job.problem.center) for job in jobs]))
    return Normal(center + float(np.log(FLOOR_PART)), FLOOR_SPREAD)


def look(quantity: Quantity, posterior: Posterior) -> Seen:
    """Return what the draws of a fit say of a quantity."""
    job = posterior.job
    prior = prior_of(quantity, job)
    index = posterior.names.index(quantity.coordinate)
    column = posterior.unconstrained[..., index].ravel()
    log_prior = norm.logpdf(column, prior.mean, prior.sd)
    if quantity.kind == "floor":
        level = np.broadcast_to(posterior.values.level, posterior.unconstrained.shape[:2]).ravel()
        # In logarithms of the floor at a given level: d logit(share) / d ln(share) = 1 / (1 - share).
        return Seen(log_expit(column) + float(job.problem.center) + level, log_prior - log_expit(-column))
    if quantity.name == "discrepancy":
        # The amplitude goes with the fall of the law: what is pooled is that of a law of one fall.
        column = column - prior_means(posterior)[:, index] + prior.mean
    return Seen(column, norm.logpdf(column, prior.mean, prior.sd))


def prior_means(posterior: Posterior) -> np.ndarray:
    """Return the mean of each coordinate's prior given those before it, for all draws, shape (draw, coordinate)."""
    position = posterior.unconstrained.reshape(-1, posterior.unconstrained.shape[-1])
    with on_cores():
        return np.asarray(means_given(position, posterior.job.model, posterior.job.problem))


@jax.jit
def means_given(position: Any, model: Model, problem: Problem) -> Any:
    """Return the prior means of coordinates, shape (draw, coordinate); compiled once for each shape of problem."""

    def one(vector: Any) -> Any:
        take, means = taker(vector), []

        def sample(name: str, distribution: Any) -> Any:
            value = take(name, distribution)
            means.append(jax.numpy.broadcast_to(distribution.mean, jax.numpy.shape(value)).reshape(-1))
            return value

        draw(sample, model, problem)
        return jax.numpy.concatenate(means)

    return jax.vmap(one)(position)


# --- Priors that propose -------------------------------------------------------------------------------------


def told_priors(
    quantities: Sequence[Quantity], found: Sequence[Normal], job: Job, level: float
) -> tuple[dict[str, Prior], dict[str, float], dict[str, float]]:
    """Return priors of one family that put quantities where a distribution over families has them.

    Args:
        quantities: The quantities.
        found: Mean and standard deviation of what is pooled, of each.
        job: The model whose priors are replaced.
        level: Logarithm of the response in the middle of the family's runs.

    Returns:
        Replacements of priors of the law, and of fields of the likelihood and of the discrepancy.
    """
    priors: dict[str, Prior] = {}
    likelihood: dict[str, float] = {}
    discrepancy: dict[str, float] = {}
    for quantity, (mean, sd) in zip(quantities, found, strict=True):
        if quantity.name in SPREADS:
            median = float(np.exp(mean))
            if quantity.name == "discrepancy":
                discrepancy |= {"median": median, "sd": sd}
            else:
                spread = quantity.name.replace("_sd", "_spread")
                likelihood |= {quantity.name: median, spread: sd}
            continue
        key = next(key for key, names in job.law.covered.items() if quantity.name in names)
        prior = job.law.priors[key]
        if quantity.kind == "floor":
            share = float(np.clip(np.exp(mean - level), 0.02, 0.98))
            wide = {"floor_mean": float(np.log(share / (1.0 - share))), "floor_sd": min(sd / (1.0 - share), 3.0)}
            priors[key] = dataclasses.replace(prior, **wide)
        elif quantity.kind == "log":
            priors[key] = dataclasses.replace(prior, median=float(np.exp(mean)), sd=sd)
        else:
            priors[key] = dataclasses.replace(prior, mean=mean, sd=sd)
    return priors, likelihood, discrepancy
