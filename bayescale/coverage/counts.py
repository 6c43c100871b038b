"""Counts: a table of correct attempts by problem, read and checked, and the unbiased estimate of pass@k."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import gammaln

from bayescale import checked
from bayescale.checked import known_keywords
from bayescale.errors import InputError, counted, some, unknown_keyword

if TYPE_CHECKING:
    from jaxtyping import Float, Int

NAMES = {
    "correct": (
        "correct n_correct num_correct number_correct correct_count passed n_passed num_passed passes solved n_solved "
        "num_solved successes n_successes num_successes success hits is_correct c"
    ),
    "attempts": (
        "attempts n_attempts num_attempts tries trials n_trials num_trials samples n_samples num_samples n_sampled "
        "num_sampled sampled sample_count num_samples_total n_items num_items total n_total num_total n"
    ),
    "problem": (
        "problem problem_id problem_idx problem_index problem_name task task_id question question_id prompt prompt_id "
        "prompt_idx item item_id instance instance_id example_id id"
    ),
    "family": "family model model_name model_id model_nickname system run",
}
"""Names of columns by what they contain, preferred names first, in lower case with words joined by underscores."""
SPELT = {role: tuple(names.split()) for role, names in NAMES.items()}
FEWEST = 2
"""Fewest problems of a table; one problem does not show how problems differ."""
MOST_ATTEMPTS = 10**9
"""Larger numbers of attempts at one problem are refused as errors."""


class Distinct(NamedTuple):
    """Distinct pairs of attempts and correct attempts, and the number of problems with each pair; all (pair,)."""

    attempts: Int[np.ndarray, "pair"]
    correct: Int[np.ndarray, "pair"]
    problems: Int[np.ndarray, "pair"]


@known_keywords
@dataclasses.dataclass(frozen=True)
class Counts:
    """Numbers of attempts, and of correct attempts, at each problem.

    Attributes:
        name: What was sampled, e.g. a model.
        problems: Name of each problem.
        attempts: Number of attempts, shape (problem,).
        correct: Number of correct attempts, shape (problem,).
        notes: Remarks on how the table was read.
    """

    name: str
    problems: tuple[str, ...]
    attempts: Int[np.ndarray, "problem"]
    correct: Int[np.ndarray, "problem"]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Count the problems."""
        return len(self.attempts)

    @property
    def solved(self) -> int:
        """Number of problems that at least one attempt solved."""
        return int((self.correct > 0).sum())

    @property
    def distinct(self) -> Distinct:
        """Distinct pairs of counts; problems with equal counts have the same likelihood."""
        pairs, problems = np.unique(np.stack([self.attempts, self.correct]), axis=1, return_counts=True)
        return Distinct(pairs[0], pairs[1], problems)

    @property
    def stopped(self) -> bool:
        """Sign that sampling stopped at the first success: problems with fewer attempts have exactly one success."""
        fewer = self.attempts < self.attempts.max()
        return bool(fewer.any() and (self.correct[fewer] == 1).all() and (self.correct <= 1).all())

    def describe(self) -> str:
        """Describe the counts in one line."""
        low, high = int(self.attempts.min()), int(self.attempts.max())
        made = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        each = counted(high, "attempt").partition(" ")[2]
        return f"{counted(len(self), 'problem')} of {made} {each} each, {self.solved:,} solved at least once"


@known_keywords
def pass_at_k(correct: Any, attempts: Any, k: Any) -> pd.DataFrame:
    """Return the unbiased estimate of pass@k with its standard error over problems.

    The estimate for a problem is the probability that k of its n attempts, drawn without replacement, include one of
    the c correct ones: 1 - C(n - c, k) / C(n, k). Problems with fewer than k attempts are left out. The standard error
    is that of a mean over problems drawn at random. Where sampling stopped at the first success the estimate is biased.

    Args:
        correct: Number of correct attempts c at each problem.
        attempts: Number of attempts n at each problem, or one number for all.
        k: One or several numbers of attempts.

    Returns:
        A table with a row for each k: k, the estimate, its standard error, and the number of problems that it is based
            on.

    Raises:
        InputError: For impossible counts, or a k larger than all numbers of attempts.

    Example:
        >>> pass_at_k([0, 1, 4], 4, 2).round(3).to_dict("records")
        [{'k': 2, 'estimate': 0.5, 'se': 0.289, 'problems': 3}]
    """
    made, right = whole_numbers(attempts, "attempts", 1), whole_numbers(correct, "correct", 0)
    made, right = np.broadcast_arrays(made, right)
    refuse_more_correct(right, made)
    rows = []
    for one in asked_attempts(k):
        enough = made >= one
        if not enough.any():
            raise InputError(
                f"pass@{one:,} needs problems with at least {one:,} attempts; the largest number found is "
                f"{made.max():,}."
            )
        chance = 1.0 - unsolved_among(right[enough], made[enough], one)
        number = int(enough.sum())
        error = float(chance.std(ddof=1) / number**0.5) if number > 1 else float("nan")
        rows.append({"k": one, "estimate": float(chance.mean()), "se": error, "problems": number})
    return pd.DataFrame(rows)


def unsolved_among(correct: np.ndarray, attempts: np.ndarray, k: int) -> Float[np.ndarray, "problem"]:
    """Return the probability that k of the attempts made, drawn without replacement, include no correct one."""
    wrong = attempts - correct
    rest = np.maximum(wrong - k, 0)
    log_chance = gammaln(wrong + 1.0) - gammaln(rest + 1.0) - gammaln(attempts + 1.0) + gammaln(attempts - k + 1.0)
    return np.where(wrong >= k, np.exp(np.minimum(log_chance, 0.0)), 0.0)


def asked_attempts(k: Any) -> list[int]:
    """Return the requested numbers of attempts as a list.

    Raises:
        InputError: For no number, and for anything but whole numbers of at least 1.
    """
    values = list(np.ravel(k)) if isinstance(k, list | tuple | range | np.ndarray | pd.Series) else [k]
    bad = [one for one in values if not (checked.is_real(one) and float(one).is_integer() and 1 <= one <= 1e12)]
    if bad or not values:
        found = checked.shortened(bad or k)
        raise InputError(f"k (--k) must be whole numbers of attempts from 1 to 1e12, e.g. [1, 100]; found {found}.")
    return [int(one) for one in values]


# --- Reading -------------------------------------------------------------------------------------------------


@known_keywords
def read(source: Any, *, columns: Mapping[str, str] | None = None) -> dict[str, Counts]:
    """Read counts of correct attempts, by family.

    A row is a problem with its number of attempts and of correct attempts. Rows of the same problem are added up.
    Without a column of attempts, each row is one attempt, correct or not.

    Args:
        source: A table, a mapping of columns, or the path of a CSV, JSON, JSON lines or Parquet file.
        columns: The table's columns for any of ``correct``, ``attempts``, ``problem`` and ``family`` that have unusual
            names.

    Returns:
        Counts by family, in the order in which families appear.

    Raises:
        InputError: For tables without these columns, impossible counts, and fewer than two problems.

    Example:
        >>> read({"passed": [0, 3, 9], "num_samples": [10, 10, 10]})["counts"].describe()
        '3 problems of 10 attempts each, 2 solved at least once'
    """
    table, name = table_of(source)
    if not len(table):
        raise InputError(f"{name} has no rows; expected one row per problem with correct and attempts.")
    roles = roles_of(table, columns)
    families = [(name, table)]
    if "family" in roles:
        column = roles["family"]
        if table[column].isna().any():
            rows = list(np.flatnonzero(table[column].isna()))
            raise InputError(f"{column} is empty in rows {some(rows)}; fill in the family, or remove these rows.")
        families = [(str(family), part) for family, part in table.groupby(column, sort=False)]
    return {family: counts_of(part, roles, family) for family, part in families}


def table_of(source: Any) -> tuple[pd.DataFrame, str]:
    """Return the table that was given or read from a file, and a name for it."""
    if isinstance(source, pd.DataFrame):
        return source.reset_index(drop=True), "counts"
    if isinstance(source, Mapping):
        try:
            return pd.DataFrame(dict(source)), "counts"
        except (ValueError, TypeError) as error:
            raise InputError(f"Counts need columns of equal length; pandas says: {error}.") from None
    if not isinstance(source, str | os.PathLike):
        checked.instance("A table of counts", source, pd.DataFrame, hint="Its columns are correct and attempts.")
    path = Path(source)
    readers = {
        ".csv": pd.read_csv,
        ".tsv": lambda file: pd.read_csv(file, sep="\t"),
        ".json": pd.read_json,
        ".jsonl": lambda file: pd.read_json(file, lines=True),
        ".parquet": pd.read_parquet,
    }
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() in readers]
    if not path.is_file():
        raise InputError(f"There is no file {path!s:.100}; expected a table of correct attempts by problem.")
    if not suffixes:
        raise InputError(f"{path.name} must end in {some(list(readers))} to be read as a table of counts.")
    try:
        return readers[suffixes[-1]](path), path.stem
    except (OSError, ValueError, ImportError, pd.errors.ParserError) as error:
        text = " ".join(str(error).split())
        raise InputError(f"{path.name} was not read as a table of counts ({text:.120}).") from None


def roles_of(table: pd.DataFrame, columns: Mapping[str, str] | None) -> dict[str, str]:
    """Return the column of the table for each role, such as ``correct``.

    Raises:
        InputError: For specified columns that do not exist, and roles that several columns may have.
    """
    given = dict(columns or {}) if isinstance(columns, Mapping | None) else None
    if given is None:
        raise InputError(
            f"columns= (--column) maps bayescale's names to the table's, {{'correct': 'hits'}}; found {columns!r:.60}."
        )
    for role, column in given.items():
        if role not in SPELT:
            raise unknown_keyword("columns= (--column)", str(role), SPELT)
        if column not in table:
            raise InputError(f"There is no column {column!r:.60} for {role}; columns: {some(list(table), 12)}.")
    plain = {column: re.sub(r"[^a-z0-9]+", "_", str(column).lower()).strip("_") for column in table}
    for role, names in SPELT.items():
        fitting = [column for column in table if plain[column] in names and column not in given.values()]
        if role in given or not fitting:
            continue
        fitting.sort(key=lambda column: names.index(plain[column]))
        if len(fitting) > 1 and role in ("correct", "attempts") and not same(table, fitting):
            raise InputError(
                f"{some(fitting)} could be {role}; choose one with columns={{'{role}': '{fitting[0]}'}} "
                f"(--column {role}={fitting[0]})."
            )
        given[role] = fitting[0]
    if "correct" not in given:
        raise InputError(
            f"No column was recognised as correct attempts. Give it with columns={{'correct': ...}} (--column "
            f"correct=...); columns: {some(list(table), 12)}."
        )
    return given


def same(table: pd.DataFrame, columns: Iterable[str]) -> bool:
    """Return whether columns hold the same values."""
    first, *others = columns
    return all(table[other].equals(table[first]) for other in others)


def counts_of(part: pd.DataFrame, roles: Mapping[str, str], name: str) -> Counts:
    """Return the counts of one family, with rows of the same problem added up."""
    correct = part[roles["correct"]]
    right = whole_numbers(correct.astype(int) if correct.dtype == bool else correct, roles["correct"], 0)
    notes = []
    if "attempts" in roles:
        made = whole_numbers(part[roles["attempts"]], roles["attempts"], 1)
    elif "problem" in roles and right.max() <= 1 and part[roles["problem"]].duplicated().any():
        made = np.ones(len(right), int)
        notes.append("There is no column of attempts, so each row counts as one attempt.")
    else:
        raise InputError(
            f"{name} has no column of attempts. Give it with columns={{'attempts': ...}} (--column attempts=...), or "
            "give one row per attempt, with the problem's name and 0 or 1 in correct."
        )
    refuse_more_correct(right, made, name)
    problems = [str(one) for one in part[roles["problem"]]] if "problem" in roles else None
    if problems is not None and len(set(problems)) < len(problems):
        codes, names = pd.factorize(np.array(problems, object))
        if "attempts" in roles:
            notes.append(f"{counted(len(problems) - len(names), 'row')} of repeated problems were added up.")
        problems = list(names)
        made, right = (np.bincount(codes, values).astype(np.int64) for values in (made, right))
    if len(made) < FEWEST:
        raise InputError(f"{name} has {counted(len(made), 'problem')}; at least {FEWEST} are needed.")
    if made.max() > MOST_ATTEMPTS:
        raise InputError(f"{name} has {made.max():,} attempts at a problem; at most {MOST_ATTEMPTS:,} are expected.")
    counts = Counts(name, tuple(problems or map(str, range(len(made)))), made, right)
    if counts.stopped:
        notes.append(
            "Sampling seems to have stopped at the first success. The fit allows for this, but the estimates of pass@k "
            "from counts alone are then biased."
        )
    return dataclasses.replace(counts, notes=tuple(notes))


def whole_numbers(values: Any, name: str, least: int) -> Int[np.ndarray, "row"]:
    """Return counts as integers.

    Raises:
        InputError: For anything but whole numbers of at least `least`.
    """
    listed = np.ravel(np.asarray(values, object))
    numbers = pd.to_numeric(pd.Series(listed), errors="coerce").to_numpy(float)
    with np.errstate(invalid="ignore"):
        bad = ~(np.isfinite(numbers) & (numbers == np.floor(numbers)) & (numbers >= least) & (numbers < 2**53))
    if bad.any() or not len(numbers):
        rows, found = np.flatnonzero(bad), some([checked.shortened(str(one)) for one in listed[bad]])
        raise InputError(
            f"{name} must be whole numbers of at least {least}; found {found} in rows {some(list(rows))}, from 0."
            if len(numbers)
            else f"{name} is empty; expected a whole number for each problem."
        )
    return numbers.astype(np.int64)


def refuse_more_correct(correct: np.ndarray, attempts: np.ndarray, name: str = "The table") -> None:
    """Refuse more correct attempts than attempts."""
    bad = np.flatnonzero(correct > attempts)
    if len(bad):
        pairs = [f"{correct[row]} of {attempts[row]}" for row in bad]
        raise InputError(f"{name} has more correct than attempts in rows {some(list(bad))}, from 0: {some(pairs)}.")
