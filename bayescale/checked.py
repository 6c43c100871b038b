"""Checks of options: which values are valid; others are refused in one sentence before anything is computed."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bayescale.errors import InputError, some, unknown_keyword

ALIKE = 0.75
"""Similarity above which a keyword counts as a misspelt option."""


EXAMPLES = {"seed": "0", "simulations": "500", "range": "(1e20, 1e22)"}
"""Example values of required arguments, for messages."""


class Rule(NamedTuple):
    """Rule for the values of an option.

    Attributes:
        words: The rule in words that follow "must be".
        holds: Function that returns whether a value is valid; it may raise for values of other types.
    """

    words: str
    holds: Callable[[Any], bool]


def is_real(value: Any) -> bool:
    """Return whether a value is one finite number (not a bool)."""
    if isinstance(value, np.ndarray) or hasattr(value, "__jax_array__") or hasattr(value, "item"):
        if np.ndim(value):
            return False
        value = np.asarray(value).item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def is_whole(value: Any) -> bool:
    """Return whether a value is an integer; a float with an integer value is not."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


POSITIVE = Rule("a positive number", lambda value: is_real(value) and value > 0)
AT_LEAST_ZERO = Rule("a number of at least 0", lambda value: is_real(value) and value >= 0)
FINITE = Rule("a finite number", is_real)
PROBABILITY = Rule("a probability inside (0, 1)", lambda value: is_real(value) and 0 < value < 1)
SEED = Rule("a whole number below 2^63 and of zero or more", lambda value: is_whole(value) and 0 <= value < 2**63)
TEXT = Rule("a text", lambda value: isinstance(value, str))
FLAG = Rule("True or False", lambda value: isinstance(value, bool | np.bool_))
CALLABLE = Rule("a function", callable)


def whole(low: int, high: int) -> Rule:
    """Return the rule for whole numbers from `low` to `high`."""
    words = f"a whole number of at least {low} and at most {high:,}"
    return Rule(words, lambda value: is_whole(value) and low <= value <= high)


def optional(rule: Rule) -> Rule:
    """Return a rule that also allows None."""
    return Rule(f"{rule.words}, or None", lambda value: value is None or rule.holds(value))


def options(**given: tuple[Any, Rule]) -> None:
    """Refuse the first option whose value is invalid.

    Args:
        **given: Value and rule of each option, by its name.

    Raises:
        InputError: With the option's name, what was expected and what was found.

    Example:
        >>> options(level=(0.8, PROBABILITY), seed=(-1, SEED))
        Traceback (most recent call last):
        bayescale.errors.InputError: seed must be a whole number below 2^63 and of zero or more; found -1.
    """
    for name, (value, rule) in given.items():
        if not rule.holds(value):
            raise InputError(f"{name} must be {rule.words}; found {shortened(value)}.")


def fields(record: Any, rules: Mapping[str, Rule]) -> None:
    """Refuse the first field of a record whose value is invalid.

    Args:
        record: A record. JAX may rebuild records with arrays, tracers or placeholders as fields; these are accepted,
            and so is None.
        rules: Rule of each field, by its name.

    Raises:
        InputError: As `options`.
    """
    given = {name: (getattr(record, name), rule) for name, rule in rules.items()}
    options(**{name: pair for name, pair in given.items() if isinstance(pair[0], int | float | str)})


def instance(name: str, value: Any, *kinds: type, hint: str) -> None:
    """Refuse a value of another class.

    Args:
        name: Description of the expected value, for the message.
        value: The given value.
        *kinds: Accepted classes.
        hint: Advice that ends the message.

    Raises:
        InputError: With the class that was found.
    """
    if not isinstance(value, kinds):
        raise InputError(f"{name} is expected; found {type(value).__name__}. {hint}")


def mapping(name: str, value: Any, example: str) -> None:
    """Refuse a value that is not a mapping from names."""
    instance(f"A mapping for {name}", value, Mapping, hint=f"Give it as {example}.")


def positive_columns(what: str, table: Any, names: Any, *, start: float = 0.0) -> pd.DataFrame:
    """Return columns of a table as numbers.

    Args:
        what: Name of the rows of the table, e.g. "candidates".
        table: A table.
        names: Columns.
        start: Values must be above this.

    Raises:
        InputError: For another object than a table, missing columns, texts, and numbers that are not finite and
            positive.
    """
    instance(f"A table of {what}", table, pd.DataFrame, hint=f"Its columns are {', '.join(names)}, in raw counts.")
    missing = [name for name in names if name not in table]
    if missing:
        raise InputError(f"{what} need the columns {', '.join(names)}; {', '.join(missing)} is missing.")
    for name in names:
        bad = [value for value in table[name] if not (is_real(value) and value > start)]
        if bad:
            raise InputError(f"{what} must have positive numbers in {name}, in raw counts; found {shortened(bad)}.")
    return table[list(names)].astype(float)


def one_screen(text: str, lines: int = 30, width: int = 400) -> str:
    """Return a text cut to a number of lines and of characters a line, with a note on how much was cut."""
    rows = text.splitlines()
    kept = [row if len(row) <= width else f"{row[: width - 3]}..." for row in rows[:lines]]
    return "\n".join(
        kept + ([f"... and {len(rows) - lines} more lines; print() shows all"] if len(rows) > lines else [])
    )


def shortened(value: Any) -> str:
    """Return a value as Python code, shortened if it is a long list or text."""
    if isinstance(value, list | tuple) and len(value) > 1:
        return some([shortened(one) for one in value])
    try:
        text = repr(value.item() if isinstance(value, np.generic) else value)
    except ValueError:  # an integer with more digits than Python prints
        return "a number of thousands of digits"
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def known_keywords[T](named: T) -> T:
    """Return a function or class that refuses unknown keyword arguments and suggests the most similar valid one.

    For a class, this applies to its constructor and its public methods. For a function that takes inputs of a law as
    keyword arguments (`**inputs`), a keyword counts as a misspelt option if it is similar to an option and not to an
    input. For other functions with arbitrary keyword arguments, see `handing_on`.

    Args:
        named: The function or class.

    Example:
        >>> @known_keywords
        ... def read(path, loss=None):
        ...     return path
        >>> read("runs.csv", los="x")
        Traceback (most recent call last):
        bayescale.errors.InputError: read() has no option 'los'. Did you mean 'loss'? Known names: loss, path.
    """
    if isinstance(named, type):
        for name, member in list(vars(named).items()):
            inside = member.__func__ if isinstance(member, classmethod) else member
            if inspect.isfunction(inside) and (name == "__init__" or not name.startswith("_")):
                guarded = refusing_others(inside, named.__name__ if name == "__init__" else name)
                setattr(named, name, classmethod(guarded) if isinstance(member, classmethod) else guarded)
        return named
    return refusing_others(named, getattr(named, "__name__", ""))


def handing_on(names: Iterable[str]) -> Callable[..., Any]:
    """Return a decorator like `known_keywords` for a function that passes keywords of these names to another."""
    return lambda function: refusing_others(function, function.__name__, frozenset(names))


def names_of(function: Any) -> set[str]:
    """Return the names of the keywords of a function."""
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name for name, parameter in inspect.signature(function).parameters.items() if parameter.kind in by_name}


def refusing_others(function: Any, name: str, handed_on: frozenset[str] = frozenset()) -> Any:
    """Return a function that refuses unknown keyword arguments; see `known_keywords`.

    Args:
        function: The function.
        name: Name of the function in messages.
        handed_on: Further keywords, which the function passes to another.
    """
    parameters = list(inspect.signature(function).parameters.values())
    rest = next((parameter.name for parameter in parameters if parameter.kind is parameter.VAR_KEYWORD), None)
    if rest not in (None, "inputs") and not handed_on:
        return function
    known = names_of(function) | handed_on

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        if not kwargs.keys() <= known:
            others = [given for given in kwargs if given not in known]
            if rest == "inputs":
                taken = inputs_of(args[0] if args else None)
                others = [one for one in others if one not in taken and nearer_option(one, known, taken)]
            for given in others:
                raise unknown_keyword(f"{name}()", given, known - {"self", "cls"})
        refuse_missing(name, parameters, args, kwargs)
        return function(*args, **kwargs)

    return guarded


def refuse_missing(
    name: str, parameters: Iterable[inspect.Parameter], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    """Refuse a call of a function that lacks a required argument; calls of methods are not checked.

    Args:
        name: Name of the function.
        parameters: Its parameters.
        args: The positional arguments.
        kwargs: The keyword arguments.

    Raises:
        InputError: With the first missing argument, and an example of a valid call.
    """
    needed = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if any(p.name in ("self", "cls") for p in needed):
        return
    named = [p for p in needed if p.kind is p.KEYWORD_ONLY]
    missing = [p for p in [p for p in needed if p not in named][len(args) :] + named if p.name not in kwargs]
    if missing:
        call = [p.name if p not in named else f"{p.name}={EXAMPLES.get(p.name, '...')}" for p in needed]
        raise InputError(f"{missing[0].name} is missing: {name}({', '.join(call)}).")


def inputs_of(asked: Any) -> set[str]:
    """Return the inputs of a law, or of the law of a fit or of the first of several fits, and the inputs of compute."""
    if isinstance(asked, Mapping):
        asked = next(iter(asked.values()), None)
    law = getattr(asked, "law", asked)
    return {"flops", "n_params", "n_tokens", *(getattr(law, "inputs", None) or ())}


def nearer_option(name: str, options: Iterable[str], inputs: Iterable[str]) -> bool:
    """Return whether a keyword is similar to an option and more similar to it than to any input."""

    def likeness(others: Iterable[str]) -> float:
        return max(difflib.SequenceMatcher(None, name, other).ratio() for other in others)

    return likeness(options) >= max(ALIKE, likeness(inputs))
