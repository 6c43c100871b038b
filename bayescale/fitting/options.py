"""Options of a fit, defined once for every function that fits."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bayescale import checked
from bayescale.data.runs import Runs
from bayescale.errors import InputError, closest, nearest, unknown_keyword
from bayescale.fitting.plan import FitPlan, plan_fit
from bayescale.inference.nuts import Nuts, check_settings
from bayescale.laws.law import Law
from bayescale.model.options import ModelOptions
from bayescale.model.prepare import make_jobs

METHODS = ("nuts", "importance", "auto")
"""Names of samplers; see `fit`."""
COUNTS = ("draws", "warmup", "chains", "target_accept")
"""Options of the command line that are fields of `Nuts` in Python."""


class FitOptions(ModelOptions, total=False):
    """Options of a fit besides law and seed: those of the model, and those of the sampler below; see `fit`."""

    settings: Nuts | None
    """Warm-up steps, draws, chains and target acceptance of NUTS."""
    method: str
    """A name in `METHODS`."""


@dataclasses.dataclass(frozen=True)
class FitRequest:
    """Checked options of a fit.

    Attributes:
        law: A law or its name.
        seed: Seed of all random streams.
        model: Options of the model that the caller gave.
        settings: Settings of the first attempt, for all components of a family together.
        method: A name in `METHODS`.
    """

    law: str | Law
    seed: int
    model: ModelOptions
    settings: Nuts
    method: str = "nuts"

    def plan(self, runs: Runs) -> FitPlan:
        """Return the models to fit to one family.

        Raises:
            InputError: For runs to which the law cannot be fitted.
        """
        return plan_fit(runs, self.law, **self.model)


def request_fit(law: str | Law, seed: int, options: FitOptions) -> FitRequest:
    """Return the checked options of a fit.

    Args:
        law: A law or its name.
        seed: Seed of all random streams.
        options: Options as the caller gave them.

    Raises:
        InputError: For an option that does not exist, an unknown sampler, or an invalid seed or settings.
    """
    known = option_defaults()
    for name in options:
        if name not in known:
            raise unknown_option("A fit", name, known)
    method = options.get("method", known["method"])
    if method not in METHODS:
        raise InputError(f"There is no method {method!r}. {nearest(str(method), METHODS)}")
    checked.options(seed=(seed, checked.SEED))
    settings = check_settings(options.get("settings"))
    model: Any = {name: value for name, value in options.items() if name in ModelOptions.__annotations__}
    return FitRequest(law, seed, model, settings, method)


def option_defaults() -> dict[str, Any]:
    """Return the default of each option of a fit, from the functions that use them."""
    model = inspect.signature(make_jobs).parameters.values()
    return {p.name: p.default for p in model if p.kind is p.KEYWORD_ONLY} | {"settings": None, "method": "nuts"}


def list_fit_options[**P, R](**changed: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that adds the options of a fit to a function's signature, for `help` and completion.

    Keyword arguments that neither the function nor a fit has are refused, with the most similar valid name.

    Args:
        **changed: Defaults of the function that differ from those of `fit`.
    """
    types: Mapping[str, Any] = ModelOptions.__annotations__ | FitOptions.__annotations__
    listed = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=types[name])
        for name, default in (option_defaults() | changed).items()
    ]

    def shown(function: Callable[P, R]) -> Callable[P, R]:
        own = inspect.signature(function)
        kept = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        known = {p.name for p in [*kept, *listed]}

        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in kwargs:
                if name not in known:
                    raise unknown_option(f"{function.__name__}()", name, known)
            checked.refuse_missing(function.__name__, own.parameters.values(), args, kwargs)
            return function(*args, **kwargs)

        run.__signature__ = own.replace(parameters=[*kept, *listed])  # type: ignore[attr-defined]
        return run

    return shown


def unknown_option(what: str, name: str, known: Iterable[str]) -> InputError:
    """Return the error for an option that does not exist.

    Args:
        what: The function that lacks the option.
        name: Name of the given option.
        known: Names of its options.
    """
    near = closest(name, [*known, *COUNTS])
    if near in COUNTS:
        return InputError(
            f"{what} has no option {name!r}. Did you mean settings=bs.Nuts({near}=...) (--{near.replace('_', '-')})?"
        )
    return unknown_keyword(what, name, known)
