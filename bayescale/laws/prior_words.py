"""Priors in words: descriptions of a law's priors for readers of a report rather than of code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.special import expit, ndtr, ndtri

from bayescale.laws.law import Law

WIDE = float(ndtri(0.95))
"""Distance of the ends of a 90 % interval from the centre, in standard deviations."""


def prior_words(law: Law) -> list[str]:
    """Describe each prior of a law in words, with one clause for each prior.

    Example:
        >>> import bayescale as bs
        >>> prior_words(bs.laws.get("power"))[0]
        "the law's value in the middle of the runs lies within a factor 1.64 of their mean loss (90 %)"
    """
    found: list[str] = []
    for key, prior in law.priors.items():
        words = WORDS.get(type(prior).__name__)
        names = law.covered[key]
        found += [f"{', '.join(names)} as {prior!r}"] if words is None else words(prior, names)
    return found


def several(names: tuple[str, ...]) -> str:
    """Write names as a list in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def ends(transform: Callable[[Any], Any], mean: float, sd: float) -> str:
    """Write the median and the 90 % interval of a transformed normal variable."""
    low, middle, high = (float(transform(mean + z * sd)) for z in (-WIDE, 0.0, WIDE))
    return f"median {middle:.3g}, 90 % {low:.3g} to {high:.3g}"


def positive(prior: Any, names: tuple[str, ...]) -> list[str]:
    """Describe a log-normal prior."""
    return [f"{several(names)} is positive ({ends(np.exp, np.log(float(prior.median)), float(prior.sd))})"]


def fraction(prior: Any, names: tuple[str, ...]) -> list[str]:
    """Describe a logit-normal prior."""
    return [f"{several(names)} lies between 0 and 1 ({ends(expit, float(prior.mean), float(prior.sd))})"]


def real(prior: Any, names: tuple[str, ...]) -> list[str]:
    """Describe a normal prior."""
    return [f"{several(names)} may be positive or negative ({ends(float, float(prior.mean), float(prior.sd))})"]


def level(prior: Any, names: tuple[str, ...]) -> list[str]:
    """Describe the prior of a level."""
    factor = np.exp(WIDE * float(prior.sd))
    return [f"the law's value in the middle of the runs lies within a factor {factor:.3g} of their mean loss (90 %)"]


def shares(prior: Any, names: tuple[str, ...]) -> list[str]:
    """Describe the prior of terms that add up."""
    terms = names[1:] if prior.floor else names
    told = level(prior, names)
    if prior.floor:
        told.append(
            f"the floor {names[0]} is a share of the law's value in the middle of the runs, between 0 and 1 "
            f"({ends(expit, float(prior.floor_mean), float(prior.floor_sd))})"
        )
    if len(terms) > 1:
        told.append(f"{several(terms)} share the rest about equally, typically to within a factor of a few")
    else:
        told.append(f"{terms[0]} is the rest")
    return told


def plateaus(prior: Any, names: tuple[str, ...]) -> list[str]:
    """Describe the prior of a floor and a plateau."""
    told, (floor, _, knee) = level(prior, names), names
    if prior.plateau in ("mixture", "absent"):
        told.append(
            f"the floor {floor} is a share of the law's value in the middle of the runs, between 0 and 1 "
            f"({ends(expit, float(prior.floor_mean), float(prior.floor_sd))})"
        )
    if prior.plateau in ("mixture", "present"):
        share = 100.0 * float(ndtr(float(prior.mean) / float(prior.spread)))
        told.append(
            f"{knee}, the plateau at small scale, and {floor}, the floor, are both unknown: with "
            f"probability {share:.0f} % the curve becomes flatter within the runs, otherwise steeper"
        )
    return told


def fall(prior: Any, names: tuple[str, ...]) -> list[str]:
    """Describe the prior of the net decrease of the law."""
    between = ends(lambda log: np.exp(np.exp(log)), np.log(float(prior.median)), float(prior.sd))
    verb = "is" if len(names) == 1 else "are"
    told = [f"{several(names)} {verb} such that the law decreases over the range of the runs by a factor ({between})"]
    if len(names) > 1:
        told.append("its inputs contribute about equally to that decrease, typically to within a factor of a few")
    return told


def fixed(prior: Any, names: tuple[str, ...]) -> list[str]:
    """Describe a constant that is not sampled."""
    return [f"{several(names)} is fixed at {float(prior.value):.4g}"]


def slope(prior: Any, names: tuple[str, ...]) -> list[str]:
    """Describe the prior of an exponent, in terms of the decrease that it causes."""
    between = ends(lambda log: np.exp(np.exp(log)), np.log(float(prior.median)), float(prior.sd))
    return [f"the power {several(names)} alone decreases over the range of the runs by a factor ({between})"]


def turn(prior: Any, names: tuple[str, ...]) -> list[str]:
    """Describe the prior of a change of exponent."""
    factor = np.exp(WIDE * float(prior.sd))
    return [
        f"{several(names)}, a change of the exponent, may be positive or negative and changes the law over the "
        f"range of the runs by a factor of at most {factor:.3g} (90 %)"
    ]


def breaks(prior: Any, names: tuple[str, ...]) -> list[str]:
    """Describe the prior of bends."""
    told, verb = ("breakpoint", "lies") if len(names) == 1 else ("breakpoints in increasing order", "lie")
    return [f"{several(names)}, the {told} of the curve, {verb} in the range of the runs or somewhat outside"]


WORDS: Mapping[str, Callable[[Any, tuple[str, ...]], list[str]]] = {
    "Positive": positive,
    "Exponent": positive,
    "Outer": positive,
    "Fraction": fraction,
    "Real": real,
    "Level": level,
    "Shares": shares,
    "Plateaus": plateaus,
    "Fall": fall,
    "Fixed": fixed,
    "Slope": slope,
    "Turn": turn,
    "Break": breaks,
}
"""Function that describes each kind of prior, by the name of its class."""
