"""Quantities that are pooled or shared, and draws of them from the fit of one family."""

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
"""Unconstrained parameter of each standard deviation that can be pooled."""
GROUP_EXPONENT = Exponent(0.3, 1.0)
"""Prior of the mean exponent over families, where the caller gives none."""
FLOOR_PART, FLOOR_SPREAD = 0.6, 0.7
"""Median of the common floor relative to the response in the middle of the runs, and sd of its logarithm."""


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A quantity of every family that is pooled or shared.

    Attributes:
        name: A constant of the law, or a key of `SPREADS`.
        kind: Scale on which it is pooled: "log", "logit", "real" (unchanged), or "floor" for the logarithm of an
            irreducible loss.
        coordinate: The unconstrained parameter from which it is computed.
        shared: Whether all families have one value.
    """

    name: str
    kind: str
    coordinate: str
    shared: bool

    def constrain(self, value: Any) -> Any:
        """Return the quantity in its own units, from its value on the scale on which it is pooled."""
        return value if self.kind == "real" else expit(value) if self.kind == "logit" else np.exp(value)


class Normal(NamedTuple):
    """Mean and standard deviation of a quantity on the scale on which it is pooled."""

    mean: float
    sd: float


class Seen(NamedTuple):
    """Draws of a quantity of one family.

    Attributes:
        value: The quantity on the scale on which it is pooled, shape (draw,).
        log_prior: Its log prior density in the separate fit, given all other parameters, shape (draw,).
    """

    value: np.ndarray
    log_prior: np.ndarray


# --- Which quantities ----------------------------------------------------------------------------------------


def default_pooled(law: Law) -> tuple[str, ...]:
    """Return the names of the quantities that are pooled by default: the exponents of the law."""
    return tuple(
        name
        for key, prior in law.priors.items()
        if isinstance(prior, Fall | Slope | Exponent)
        for name in law.covered[key]
    )


def find_quantities(job: Job, pooled: Sequence[str], shared: Sequence[str]) -> tuple[Quantity, ...]:
    """Return the quantities with the given names, for a job whose pooled exponents have separate priors.

    Args:
        job: The model of one family.
        pooled: Names of the quantities whose values vary between families.
        shared: Names of the quantities with one value for all families.

    Raises:
        InputError: For names that are unknown, given twice, or cannot be pooled.
    """
    known = possible(job)
    for name in (*pooled, *shared):
        if name not in known:
            raise InputError(refusal(job.law, name, known))
    if twice := [name for name in pooled if name in shared]:
        raise InputError(f"{twice[0]} is in both pooled= and shared= (--pooled, --shared). Name it in one of them.")
    if not pooled and not shared:
        raise InputError(
            f"Nothing is pooled or shared. Give pooled= or shared= (--pooled, --shared) some of {', '.join(known)}."
        )
    return tuple(dataclasses.replace(known[name], shared=name in shared) for name in (*pooled, *shared))


def possible(job: Job) -> dict[str, Quantity]:
    """Return the quantities that can be pooled, for the model of one family, by name."""
    law, found = job.law, {}
    moving = scaled_constants(law)
    for key, prior in law.priors.items():
        names = law.covered[key]
        kind = kind_of(prior)
        if isinstance(prior, Fall | Slope):
            # Exponents get separate priors if they are pooled or shared, see `families.plan_families`.
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
    """Return the scale on which a constant with this prior is pooled, a kind of `Quantity`.

    Empty if it cannot be pooled.
    """
    if isinstance(prior, Slope | Turn):
        return ""
    kinds = ((Positive, "log"), (Fraction, "logit"), (Real, "real"))
    return next((kind for role, kind in kinds if isinstance(prior, role)), "")


def scaled_constants(law: Law) -> set[str]:
    """Return the constants whose values depend on the reference scale of a family and so cannot be compared."""
    if not law.units:
        return set()
    ones = dict.fromkeys(law.constants, 1.1)
    moved = law.at_unit_scale(ones, dict.fromkeys(law.inputs, 3.0))
    return {name for name in law.constants if abs(float(moved[name]) - 1.1) > 1e-9}


def refusal(law: Law, name: str, known: Mapping[str, Quantity]) -> str:
    """Return the reason why a name cannot be pooled."""
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
    """Return the prior of a quantity on its pooled scale in a job; for a floor, that of the logit of its fraction."""
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
    """Return the prior of the mean of a quantity over families."""
    if quantity.kind != "floor":
        return prior_of(quantity, jobs[0])
    center = float(np.mean([float(job.problem.center) for job in jobs]))
    return Normal(center + float(np.log(FLOOR_PART)), FLOOR_SPREAD)


def look(quantity: Quantity, posterior: Posterior) -> Seen:
    """Return the draws of a quantity from a fit, with their prior density."""
    job = posterior.job
    prior = prior_of(quantity, job)
    index = posterior.names.index(quantity.coordinate)
    column = posterior.unconstrained[..., index].ravel()
    log_prior = norm.logpdf(column, prior.mean, prior.sd)
    if quantity.kind == "floor":
        level = np.broadcast_to(posterior.values.level, posterior.unconstrained.shape[:2]).ravel()
        # Density of the logarithm of the floor at a given level: d logit(fraction) / d ln(fraction) = 1 / (1 -
        # fraction).
        return Seen(log_expit(column) + float(job.problem.center) + level, log_prior - log_expit(-column))
    if quantity.name == "discrepancy":
        # The amplitude is proportional to the decrease of ln f over the runs; it is pooled for a decrease of 1.
        column = column - prior_means(posterior)[:, index] + prior.mean
    return Seen(column, norm.logpdf(column, prior.mean, prior.sd))


def prior_means(posterior: Posterior) -> np.ndarray:
    """Return the prior mean of each parameter given the earlier ones, for all draws, shape (draw, parameter)."""
    position = posterior.unconstrained.reshape(-1, posterior.unconstrained.shape[-1])
    with on_cores():
        return np.asarray(means_given(position, posterior.job.model, posterior.job.problem))


@jax.jit
def means_given(position: Any, model: Model, problem: Problem) -> Any:
    """Return the prior means of parameters, shape (draw, parameter); compiled once for each shape of problem."""

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
    """Return priors of one family that are near the distribution of quantities over families.

    Args:
        quantities: The quantities.
        found: Mean and standard deviation of each quantity, on its pooled scale.
        job: The model whose priors are replaced.
        level: Logarithm of the response in the middle of the family's runs.

    Returns:
        Replacements of priors of the law, of fields of the likelihood and of fields of the discrepancy.
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
