"""Errors: one exception for bad input, and an enumeration of the states of a fit."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterable, Sequence


class InputError(ValueError):
    """Error for invalid input; its message says what was expected, what was found and what to do.

    It is raised before anything is compiled, so that a mistake costs milliseconds.
    """


class UntrustworthyFit(RuntimeError):
    """Error for a fit that finished but must not be relied on; raised only with `strict=True`."""


class Status(enum.Enum):
    """State of a fit; its value is the sentence that is printed."""

    OK = "Converged: effective sample sizes suffice and all diagnostics passed."
    FEW_DRAWS = (
        "Effective sample size is too small for stable quantiles; fit with settings=Nuts(draws=2000) (--draws 2000)."
    )
    NOT_MIXED = (
        "Chains disagree (R-hat too high); the posterior may have several modes. "
        "Fit with settings=Nuts(warmup=1000, draws=2000) (--warmup 1000 --draws 2000), and look at the draws."
    )
    DIVERGENT = (
        "NUTS diverged, so a region of the posterior may be missed, and importance sampling could not replace it; fit "
        "with smaller steps, settings=Nuts(target_accept=0.999) (--target-accept 0.999), or choose a simpler law."
    )
    LOW_ENERGY = (
        "Energy diagnostic (E-FMI) is low, so tails are explored slowly; fit with settings=Nuts(warmup=1000, "
        "draws=2000) (--warmup 1000 --draws 2000), or choose a simpler law."
    )
    REFUSED = "This law cannot be fitted to these runs, so nothing was sampled."
    FAILED = "Fitting stopped with an error, so there is no posterior."
    HEAVY_WEIGHTS = (
        "Importance weights have a heavy tail (Pareto k of 0.7 or more), so a few draws dominate the posterior; "
        'fit with method="nuts" (--method nuts), or with "auto", which then uses NUTS by itself.'
    )
    FEW_POINTS = (
        "Effective sample size of the importance weights is too small for stable quantiles; "
        'fit with method="nuts" (--method nuts), or with "auto", which then uses NUTS by itself.'
    )
    NONFINITE = "The log density was not finite at the starting point; check whether this law can describe the data."

    def __str__(self) -> str:
        return self.value


def one_scale(name: str, step: bool = False) -> InputError:
    """Return the error for runs of one scale, which no law can be fitted to.

    Args:
        name: Name of the runs.
        step: Whether the runs have steps along which a curve could be fitted.
    """
    along = " To fit the loss as a function of steps, use --input step." if step else ""
    return InputError(
        f"All runs of {name!r} have one scale, but at least two different scales are needed to fit a law. For seed "
        "noise, use bs.decide.noise (bayescale noise); for recipes, bs.decide.compare (bayescale compare)."
        f"{along}"
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the closest known names and a list of the others.

    Args:
        name: Name that the user typed.
        known: All valid names.
    """
    names = sorted(known)
    shown = ", ".join(names[:40]) + (f" and {len(names) - 40} more" if len(names) > 40 else "")
    return f"{suggestion(name, names)}Known names: {shown}."


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return a question with the closest known name, followed by a space; empty where no name is close."""
    close = closest(name, known)
    return f"Did you mean {close!r}? " if close else ""


def unknown_keyword(what: str, name: str, known: Iterable[str]) -> InputError:
    """Return the error for a keyword argument that does not exist, with the most similar one that does.

    Args:
        what: The function or class that lacks the option.
        name: Name of the given keyword argument.
        known: Names of its options.
    """
    return InputError(f"{what} has no option {name!r}. {nearest(name, known)}")


def closest(name: str, known: Iterable[str]) -> str:
    """Return the known name most similar to another; empty where none is similar."""
    return next(iter(difflib.get_close_matches(str(name), sorted(known), n=1, cutoff=0.5)), "")


def some(items: Sequence[object], most: int = 5) -> str:
    """Write up to `most` items and the number of further ones: ``3, 17 and 4 more``."""
    head = ", ".join(str(item) for item in items[:most])
    rest = len(items) - most
    return head + (f" and {rest} more" if rest > 0 else "")


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Write a number with its noun: ``1 run``, ``3 runs``.

    Args:
        number: How many.
        noun: The noun in the singular.
        plural: The plural, if it is not the noun with an s.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def because(reasons: Iterable[tuple[str, str]], most: int = 3) -> str:
    """Write the reasons why items cannot be used, each reason once: ``a, b and 4 more: 3 rows; c: no rows``.

    Args:
        reasons: Pairs of a name and its reason.
        most: Largest number of names for each reason, and of reasons, that are written.
    """
    names: dict[str, list[str]] = {}
    for name, reason in reasons:
        names.setdefault(reason.rstrip("."), []).append(name)
    told = [f"{some(alike, most)}: {reason}" for reason, alike in names.items()]
    rest = len(told) - most
    return "; ".join(told[:most]) + (f"; and {rest} more reasons." if rest > 0 else ".")
