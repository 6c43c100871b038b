"""Covariates of families: categories and numbers, which explain a part of the differences between families."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayescale.checked import shortened
from bayescale.data.log import LogEntry
from bayescale.data.runs import Runs
from bayescale.errors import InputError, nearest, some

Value = str | float
"""A category, or a number."""
FORM = "Give covariates=pd.DataFrame({'architecture': [...]}, index=names of families), or names of columns of the runs"


@dataclasses.dataclass(frozen=True)
class Covariate:
    """A property of families, as it was seen in a pool.

    Attributes:
        name: Its name.
        levels: Categories in the pool, in order; empty for a number.
        center: Mean of a number over the families of the pool.
        scale: Standard deviation of a number over the families of the pool.
    """

    name: str
    levels: tuple[str, ...] = ()
    center: float = 0.0
    scale: float = 1.0

    @property
    def columns(self) -> int:
        """Number of columns of the design: one less than levels, because their effects sum to zero; 1 for a number."""
        return len(self.levels) - 1 if self.levels else 1

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the name of each effect: of each level, or of one standard deviation of a number."""
        if not self.levels:
            return (f"{self.name} (+{self.scale:.3g})",)
        return tuple(f"{self.name}={level}" for level in self.levels)

    def effects(self) -> np.ndarray:
        """Return what turns standard normal draws of the columns into effects, shape (effect, column).

        Effects of levels are deviations that sum to zero. Each has a standard deviation of one.
        """
        count = len(self.levels)
        if not count:
            return np.ones((1, 1))
        # Orthonormal contrasts have variance 1 - 1 / count at each level.
        own = np.array([np.r_[np.ones(k), -k, np.zeros(count - k - 1)] / np.sqrt(k * (k + 1)) for k in range(1, count)])
        return own.T * np.sqrt(count / (count - 1))

    def known(self, value: Value) -> bool:
        """Return whether the pool informs about a value: any number, and the levels of its families."""
        return not self.levels or value in self.levels

    def row(self, value: Value) -> np.ndarray:
        """Return the design of a value, shape (column,); zeros for a level that no family of the pool has."""
        if not self.levels:
            return np.array([(float(value) - self.center) / self.scale])
        return self.effects()[self.levels.index(str(value))] if self.known(value) else np.zeros(self.columns)


@dataclasses.dataclass(frozen=True)
class Covariates:
    """The covariates of a pool.

    Attributes:
        parts: The covariates.
        values: Value of each covariate of each family, by names of family and covariate.
        counted: For inputs that families count differently, their common name by the name in a table of runs.
    """

    parts: tuple[Covariate, ...]
    values: dict[str, dict[str, Value]]
    counted: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the covariates."""
        return tuple(part.name for part in self.parts)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the effects."""
        return tuple(label for part in self.parts for label in part.labels)

    @property
    def design(self) -> np.ndarray:
        """Return the design of the families of the pool, shape (family, column)."""
        return np.stack([self.row(values) for values in self.values.values()])

    def row(self, values: Mapping[str, Value]) -> np.ndarray:
        """Return the design of one family, shape (column,)."""
        return np.concatenate([part.row(values[part.name]) for part in self.parts])

    def effects(self) -> np.ndarray:
        """Return what turns draws of the columns into effects, shape (effect, column)."""
        from scipy.linalg import block_diag

        return block_diag(*(part.effects() for part in self.parts))

    def unknown(self, values: Mapping[str, Value]) -> tuple[str, ...]:
        """Return the names of covariates whose level no family of the pool has."""
        return tuple(part.name for part in self.parts if not part.known(values[part.name]))

    def of_further(self, given: Any, runs: Runs | None = None) -> dict[str, Value]:
        """Return the values of another family, from a mapping or else from columns of its runs.

        Raises:
            InputError: For covariates that are missing, unknown or not of the kind that the pool has.
        """
        if given is not None and not isinstance(given, Mapping):
            raise InputError(
                f"covariates of one family are values by name, e.g. covariates={{{self.names[0]!r}: ...}}; found "
                f"{shortened(given)}."
            )
        told = dict(given or {})
        if given is None and runs is not None:
            told = {name: one_value(runs, name) for name in self.names}
        family = "The new family" if runs is None else runs.name
        if strange := [name for name in told if name not in self.names]:
            raise InputError(f"The pool has no covariate {strange[0]!r}. {nearest(str(strange[0]), self.names)}")
        missing = [part for part in self.parts if blank(told.get(part.name))]
        if missing:
            known = f"known levels: {some(missing[0].levels)}" if missing[0].levels else "a number"
            raise InputError(
                f"{family} lacks the covariate {missing[0].name} ({known}), with which the families were pooled. "
                f"Give covariates={{{missing[0].name!r}: ...}}."
            )
        return {part.name: of_kind(told[part.name], part, family) for part in self.parts}


def find_covariates(given: Any, families: Mapping[str, Runs]) -> Covariates | None:
    """Return the covariates of families, or None without any.

    Args:
        given: A table with one row a family, a series, values by family by covariate or the reverse, names of columns
            of the runs, or None.
        families: Runs by the family's name.

    Raises:
        InputError: For values that are missing, not finite, or equal in all families.
    """
    if given is None or (isinstance(given, list | tuple) and not given):
        return None
    told = by_family(given, families)
    names = list(dict.fromkeys(name for values in told.values() for name in values))
    if not names:
        raise InputError(f"There are no covariates in {shortened(given)}. {FORM}.")
    parts = tuple(described(name, {family: told[family].get(name) for family in families}) for name in names)
    values = {family: {part.name: of_kind(told[family][part.name], part, family) for part in parts} for family in told}
    return Covariates(parts, values)


def by_family(given: Any, families: Mapping[str, Runs]) -> dict[str, dict[str, Any]]:
    """Return values by names of family and covariate.

    Raises:
        InputError: For another form, and for families without a row.
    """
    if isinstance(given, str):
        given = (given,)
    if isinstance(given, list | tuple):
        return {family: {str(name): one_value(runs, name, True) for name in given} for family, runs in families.items()}
    if isinstance(given, pd.Series):
        given = given.to_frame(given.name or "covariate")
    if isinstance(given, pd.DataFrame):
        table = given.set_index("family") if "family" in given else given
        if table.index.has_duplicates:
            twice = table.index[table.index.duplicated()][0]
            raise InputError(f"The covariates have two rows of {twice!r}; keep one row for each family.")
        given = {str(name): dict(row) for name, row in zip(table.index, table.to_dict("records"), strict=True)}
    if not isinstance(given, Mapping) or not all(isinstance(part, Mapping | pd.Series) for part in given.values()):
        raise InputError(f"Covariates are a table with one row for each family; found {shortened(given)}. {FORM}.")
    rows = {str(name): {str(key): value for key, value in dict(part).items()} for name, part in given.items()}
    if not set(families) & set(rows) and any(set(families) & set(part) for part in rows.values()):
        rows = {family: {name: part.get(family) for name, part in rows.items()} for family in families}
    if missing := [family for family in families if family not in rows]:
        raise InputError(f"The covariates have no row of {missing[0]!r}; they have {some(list(rows))}. {FORM}.")
    return {family: rows[family] for family in families}


def one_value(runs: Runs, name: Any, needed: bool = False) -> Any:
    """Return the one value of a column of a family's runs, or None without that column unless it is needed.

    Raises:
        InputError: For a column with several values, and for one that is needed and absent.
    """
    if name not in runs.frame:
        if needed:
            raise InputError(
                f"{runs.name} has no column {name!r}, which is given as a covariate (--covariate). "
                f"{nearest(str(name), list(runs.frame))}"
            )
        return None
    found = list(pd.unique(runs.frame[name]))
    if len(found) > 1:
        raise InputError(
            f"A covariate (--covariate) has one value for each family, and {name} of {runs.name} has {len(found)} "
            f"({some([str(value) for value in found])}). Name another column, or split the family."
        )
    return found[0]


def blank(value: Any) -> bool:
    """Return whether a value is missing."""
    return value is None or (isinstance(value, str) and not value.strip()) or bool(pd.isna(value))


def is_number(value: Any) -> bool:
    """Return whether a value is a number; truth values are categories."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_)


def described(name: str, values: Mapping[str, Any]) -> Covariate:
    """Return a covariate from the values of all families.

    Raises:
        InputError: For values that are missing, not finite, or equal in all families.
    """
    if missing := [family for family, value in values.items() if blank(value)]:
        raise InputError(
            f"The covariate {name} of {missing[0]} is missing. Give it a value, or leave out the covariate or the "
            "family (--covariate in the shell)."
        )
    if len({str(value) for value in values.values()}) < 2:
        raise InputError(
            f"The covariate {name} is {next(iter(values.values()))} in every family, so its effect cannot be told from "
            "the mean. Leave it out (--covariate in the shell)."
        )
    if all(is_number(value) for value in values.values()):
        found = np.array([float(value) for value in values.values()])
        if not np.isfinite(found).all():
            raise InputError(f"The covariate {name} must be finite; found {found[~np.isfinite(found)][0]}.")
        return Covariate(name, (), float(found.mean()), float(found.std()))
    return Covariate(name, tuple(dict.fromkeys(str(value) for value in values.values())))


def of_kind(value: Any, part: Covariate, family: str) -> Value:
    """Return a value as a covariate has it: text for a category, a float for a number.

    Raises:
        InputError: For text where the pool has numbers.
    """
    if part.levels:
        return str(value)
    if not is_number(value) or not np.isfinite(float(value)):
        raise InputError(f"The covariate {part.name} is a number; {family} has {shortened(value)}.")
    return float(value)


# --- Inputs that families count differently ------------------------------------------------------------------

COUNTED = ("nonembedding", "nonembed", "nonemb", "noembed", "embedding", "embed", "emb", "non", "no", "with", "without")
"""Words in the name of an input that say how it is counted."""


def plain(name: str) -> str:
    """Return the name of an input without words about embeddings, e.g. n_params of n_params_nonembed."""
    return "_".join(word for word in name.split("_") if word.lower() not in COUNTED) or name


def names_convention(families: Mapping[str, Runs], values: Mapping[str, Mapping[str, Any]], name: str) -> bool:
    """Return whether a covariate has different values in families that count their inputs differently."""
    seen: dict[Any, set[str]] = {}
    for family, runs in families.items():
        inputs = seen.setdefault(str(values[family][name]), set(runs.inputs))
        if inputs != set(runs.inputs):
            return False
    return True


def counted_alike(
    families: Mapping[str, Runs], covariates: Covariates | None
) -> tuple[dict[str, Runs], dict[str, str]]:
    """Return families whose inputs have common names, where a covariate tells how each family counts them.

    Families with and without embeddings in their parameters have similar exponents, and amplitudes of their own.

    Returns:
        The families, and the common name of each input that has another in some family.
    """
    named = {tuple(sorted(runs.inputs)) for runs in families.values()}
    if covariates is None or len(named) < 2 or len({tuple(sorted(map(plain, inputs))) for inputs in named}) > 1:
        return dict(families), {}
    if not any(names_convention(families, covariates.values, name) for name in covariates.names):
        return dict(families), {}
    common = {name: plain(name) for inputs in named for name in inputs if plain(name) != name}
    return {family: recounted(runs, common) for family, runs in families.items()}, common


def recounted(runs: Runs, common: Mapping[str, str]) -> Runs:
    """Return runs whose inputs have the common names of a pool, and say so in their log."""
    own = {name: common[name] for name in runs.inputs if name in common}
    if not own:
        return runs
    frame = runs.frame.drop(columns=[name for name in own.values() if name in runs.frame]).rename(columns=own)
    said = ", ".join(f"{name} is called {other}" for name, other in own.items())
    text = f"{said} in this pool; exponents are pooled, and a covariate says how families count it."
    inputs = tuple(own.get(name, name) for name in runs.inputs)
    return dataclasses.replace(runs, frame=frame, inputs=inputs, log=(*runs.log, LogEntry("counted", "info", text)))
