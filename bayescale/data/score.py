"""Scores: fractions of right items between chance and a ceiling, and the odds against a right answer, for laws."""

from __future__ import annotations

import dataclasses
import shlex

import numpy as np
import pandas as pd

from bayescale import checked
from bayescale._record import Array
from bayescale.checked import known_keywords
from bayescale.data.columns import words_of
from bayescale.data.log import LogEntry
from bayescale.errors import InputError, counted, some

WIDEST_SD = 0.25
"""Largest standard deviation of chance or ceiling, as a fraction of the range; with more, their order is unclear."""
OUTSIDE = 3.0
"""A score is refused if it lies outside its range by this many standard errors."""
GUESSED_ITEMS = 1000
"""Number of items that is assumed for a benchmark of unknown size; most have some hundreds to some thousands."""
PERCENT = frozenset("acc accuracy percent percentage pct rate score".split())
"""Words of columns whose whole numbers up to 100 are percentages."""


@known_keywords
@dataclasses.dataclass(frozen=True)
class ScoreScale:
    """Range of a score: from the score of guessing to a ceiling that no model exceeds.

    A score s is written as s = chance + (ceiling - chance) / (1 + o), where o are the odds against a right answer. Laws
    describe o, which decreases as models get better.

    With `chance_sd` or `ceiling_sd` the fit samples that end of the range, with a prior around the given value (see
    `model.score_range`). The columns that reading computes use the given values.

    Attributes:
        chance: Score of guessing: 1 / choices of a multiple-choice task, else 0.
        ceiling: Score that no model exceeds; 1 if all items have a right answer.
        chance_sd: Standard deviation of the prior of chance; None for a known chance.
        ceiling_sd: Standard deviation of the prior of the ceiling; None for a known ceiling.

    Raises:
        InputError: Unless 0 <= chance < ceiling <= 1, and for standard deviations that are not positive or exceed a
            quarter of the range.

    Example:
        >>> ScoreScale(chance=0.25, chance_sd=0.02).uncertain
        True
    """

    chance: float = 0.0
    ceiling: float = 1.0
    chance_sd: float | None = None
    ceiling_sd: float | None = None

    def __post_init__(self) -> None:
        """Refuse values that do not satisfy 0 <= chance < ceiling <= 1."""
        for name in ("chance", "ceiling"):
            checked.options(**{name: (getattr(self, name), checked.FINITE)})
        if not 0.0 <= self.chance < self.ceiling <= 1.0:
            raise InputError(
                f"chance and ceiling must satisfy 0 <= chance < ceiling <= 1; found chance={self.chance:g} (--chance) "
                f"and ceiling={self.ceiling:g} (--ceiling). For a task of four choices, give chance=0.25."
            )

        for name in ("chance_sd", "ceiling_sd"):
            option, sd = "--" + name.replace("_", "-"), getattr(self, name)
            checked.options(**{name: (sd, checked.optional(checked.POSITIVE))})
            if sd is not None and sd > WIDEST_SD * (self.ceiling - self.chance):
                raise InputError(
                    f"{name} ({option}) must be at most a quarter of ceiling - chance, "
                    f"{WIDEST_SD * (self.ceiling - self.chance):g}; found {sd:g}."
                )

    @property
    def uncertain(self) -> bool:
        """Return whether chance or ceiling is sampled."""
        return self.chance_sd is not None or self.ceiling_sd is not None

    @property
    def higher_is_better(self) -> bool:
        """Return True: a score grows as models get better."""
        return True

    def response(self, log_loss: Array) -> np.ndarray:
        """Return the score from ln of what laws describe, the odds; see `score`."""
        return self.score(log_loss)

    def log_loss(self, value: Array) -> np.ndarray:
        """Return ln of what laws describe, the odds, from the score; see `log_odds`."""
        return self.log_odds(value)

    def check_target(self, target: float) -> None:
        """Refuse a target that is not between chance and ceiling; an end that is sampled does not bound targets.

        Raises:
            InputError: With what was found.
        """
        if not checked.POSITIVE.holds(target):
            raise InputError(f"target must be a positive score; found {checked.shortened(target)}.")
        low = self.chance if self.chance_sd is None else 0.0
        high = self.ceiling if self.ceiling_sd is None else 1.0
        if not low < target < high:
            raise InputError(
                f"The target (--target) of a score lies between chance {low:g} and its ceiling {high:g}, as 0.7 for "
                f"70 %; found {target:g}."
            )

    def score(self, log_odds: Array) -> np.ndarray:
        """Return the score from ln of the odds against a right answer, of any shape.

        Example:
            >>> float(ScoreScale(chance=0.25).score(0.0))
            0.625
        """
        with np.errstate(over="ignore"):
            return self.chance + (self.ceiling - self.chance) / (1.0 + np.exp(np.asarray(log_odds, float)))

    def log_odds(self, score: Array) -> np.ndarray:
        """Return ln of the odds against a right answer: infinite up to chance, minus infinite from the ceiling on.

        Example:
            >>> float(ScoreScale().log_odds(0.5))
            0.0
        """
        share = (np.asarray(score, float) - self.chance) / (self.ceiling - self.chance)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.log1p(-share) - np.log(share)
        return np.where(share <= 0.0, np.inf, np.where(share >= 1.0, -np.inf, found))

    def shrunk(self, score: Array, items: Array) -> np.ndarray:
        """Return scores moved inside chance and ceiling, as one additional half-right item would move them.

        Args:
            score: Measured scores, shape (row,).
            items: Number of items of each score, shape (row,).
        """
        width = self.ceiling - self.chance
        share = np.clip((np.asarray(score, float) - self.chance) / width, 0.0, 1.0)
        return self.chance + width * (share * items + 0.5) / (np.asarray(items, float) + 1.0)


def score_columns(
    table: pd.DataFrame, scale: ScoreScale, items: float | None, rows: np.ndarray
) -> tuple[dict[str, np.ndarray], list[LogEntry]]:
    """Return the columns of a family of scores: score, n_items, and as loss the odds against a right answer.

    Args:
        table: Rows with a column score, and n_items where it is known for each row.
        scale: Chance and ceiling.
        items: Number of items of all rows, if the table has no such column.
        rows: Row numbers to print in messages.

    Raises:
        InputError: For scores outside 0 and 1, and impossible numbers of items.
    """
    log: list[LogEntry] = []
    if items is not None:
        checked.options(n_items=(items, checked.POSITIVE))
    score = pd.to_numeric(table["score"], errors="coerce").to_numpy(float)
    if not np.isfinite(score).all():
        bad = [int(rows[i]) for i in np.flatnonzero(~np.isfinite(score))]
        raise InputError(f"score must be a number in every row; rows {some(bad)} have none. Drop those runs.")
    if score.max(initial=0.0) > 1.0 and score.max() <= 100.0 and score.min() >= 0.0:
        mixed = np.flatnonzero((score > 0.0) & (score < 1.0))
        if len(mixed):
            raise InputError(
                f"Scores must be either fractions up to 1 or percentages up to 100; rows "
                f"{some([int(rows[i]) for i in mixed])} have {some([float(score[i]) for i in mixed])}, other rows up "
                f"to {score.max():g}. If all are percentages, give units={{'loss': '%'}} (--unit loss=%); otherwise "
                "correct the table."
            )
        score = score / 100.0
        log.append(LogEntry("converted", "info", "Scores go up to 100 and were divided by 100."))
    bad = np.flatnonzero((score < 0.0) | (score > 1.0))
    if len(bad):
        low, high = score[bad].min(), score[bad].max()
        told = f"rows {some([int(rows[i]) for i in bad])} hold " + (
            f"{low:g}" if low == high else f"{low:g} to {high:g}"
        )
        raise InputError(
            f"score must be a fraction of right items between 0 and 1, or a percentage; {told}. If the response is not "
            "bounded this way and decreases with scale, read it as a loss with loss= (--loss)."
        )
    if items is not None:
        number = np.full(len(table), float(items))
    elif "n_items" in table and table["n_items"].notna().all():
        number = pd.to_numeric(table["n_items"], errors="coerce").to_numpy(float)
        if not (np.isfinite(number) & (number >= 1.0)).all():
            bad = [int(rows[i]) for i in np.flatnonzero(~(number >= 1.0))]
            raise InputError(f"n_items must be a number of at least 1; it is not in rows {some(bad)}.")
    else:
        number = np.full(len(table), float(GUESSED_ITEMS))
        text = (
            f"The number of items behind a score is unknown. {GUESSED_ITEMS} are assumed, so the standard error of a "
            f"score is up to {100 * 0.5 / np.sqrt(GUESSED_ITEMS):.1f} percentage points. Give the number with n_items= "
            "(--n-items)."
        )
        log.append(LogEntry("items", "warning", text, (), ("score",)))
    log += check_range(score, number, scale)
    odds = np.exp(scale.log_odds(scale.shrunk(score, number)))
    return {"score": score, "n_items": number, "loss": odds}, log


def check_range(score: np.ndarray, items: np.ndarray, scale: ScoreScale) -> list[LogEntry]:
    """Return a warning about scores below chance; refuse a chance above most scores and a ceiling below a score.

    Scores are outside if sampling of items does not explain the distance.

    Args:
        score: Scores, shape (row,).
        items: Number of items of each score, shape (row,).
        scale: Chance and ceiling.

    Raises:
        InputError: With the score that is outside.
    """
    if not len(score):
        return []
    chance, ceiling = scale.chance, scale.ceiling
    doubt, doubt_above = scale.chance_sd or 0.0, scale.ceiling_sd or 0.0
    best = int(np.argmax(score))
    below = score < chance - OUTSIDE * np.sqrt(chance * (1.0 - chance) / items + doubt**2)
    if below.mean() > 0.5:
        given = f" and chance_sd={doubt:g} (--chance-sd)" if doubt else ""
        raise InputError(
            f"{below.sum()} of {len(score)} scores lie below chance={chance:g} (--chance) by more than the sampling of "
            f"items{given} explains. chance must be the score of guessing, 1 / choices. For models that score below "
            f"it, e.g. because of their answers' format, give {'a larger ' if doubt else ''}chance_sd= (--chance-sd)."
        )
    if score[best] > ceiling + OUTSIDE * np.sqrt(ceiling * (1.0 - ceiling) / items[best] + doubt_above**2):
        raise InputError(
            f"A score of {score[best]:g} lies above ceiling={ceiling:g} (--ceiling), the score that no model exceeds. "
            "Leave the ceiling out or raise it, or say how uncertain it is with ceiling_sd= (--ceiling-sd)."
        )
    if not below.any():
        return []
    text = (
        f"{counted(int(below.sum()), 'score')} of {len(score)}, down to {score[below].min():.4g}, "
        f"{'lies' if below.sum() == 1 else 'lie'} below chance={chance:g} (--chance) by more than the sampling of "
        "items explains. If models may score below chance, e.g. because of their answers' format, give chance_sd=0.05 "
        "(--chance-sd 0.05)."
    )
    return [LogEntry("below_chance", "warning", text, columns=("score",))]


def are_shares(values: np.ndarray) -> bool:
    """Return whether numbers look like fractions: at most 1, and not all whole."""
    values = values[np.isfinite(values)]
    return bool(values.max(initial=0.0) <= 1.0 and (values % 1 != 0).any())


def counts_items(table: pd.DataFrame, n_items: float | None, name: str) -> bool:
    """Return whether a column of scores contains counts of right items, judged by its numbers.

    Args:
        table: Rows whose column loss is the score.
        n_items: Number of items of all rows, if the table has no such column.
        name: Name of the column in the file.

    Raises:
        InputError: For whole numbers that may be counts or percentages.
    """
    total = table.get("n_items", n_items)
    values = table["loss"].to_numpy(float)
    if total is None or not len(values):
        return False
    total = np.broadcast_to(np.asarray(total, float), len(table))
    there = np.isfinite(values) & np.isfinite(total)
    values, total = values[there], total[there]
    if (values % 1 != 0).any() or values.max(initial=0.0) <= 1.0 or (values > total).any():
        return False
    if values.max() > 100.0:
        return True
    if (total == 100.0).all() or set(words_of(name)) & PERCENT:
        return False
    raise InputError(
        f"{name!r} has whole numbers up to {values.max():g}, with up to {total.max():g} items: they may be counts of "
        f"right items or percentages. For counts, give columns={{'correct': {name!r}}}, score='correct' (--column "
        f"correct={shlex.quote(name)} --score correct); for percentages, units={{'loss': '%'}} (--unit loss=%)."
    )


def scored_table(
    table: pd.DataFrame, scale: ScoreScale, n_items: float | None, *, name: str, counts: bool | None
) -> tuple[pd.DataFrame, list[LogEntry]]:
    """Return a table with scores and numbers of items in place of the response, and log entries about them.

    Args:
        table: Rows whose column loss is the score.
        scale: Chance and ceiling.
        n_items: Number of items of all rows, if the table has no such column.
        name: Name of the column in the file.
        counts: Whether the column contains counts of right items, according to the caller or its name; None if neither
            decides.

    Raises:
        InputError: For numbers that are not scores.
    """
    if "n_items" not in table and "attempts" in table:
        table = table.rename(columns={"attempts": "n_items"})
    values = table["loss"].to_numpy(float)
    log: list[LogEntry] = []
    if counts is None and counts_items(table, n_items, name):
        counts = True
        log.append(LogEntry("converted", "info", f"Whole numbers in {name!r} were read as counts of right items."))
    if counts and not are_shares(values):
        total = table.get("n_items", n_items)
        if total is None:
            raise InputError(
                "Counts of right items need the number of all items: give a column n_items (--column n_items=...), or "
                "n_items= (--n-items)."
            )
        total = np.broadcast_to(np.asarray(total, float), len(table))
        if len(bad := np.flatnonzero(~(total > 0.0) | (values > total) | (values < 0.0))):
            first = bad[0]
            raise InputError(
                f"The number of right items must lie between 0 and the number of items, which must be positive; rows "
                f"{some([int(table.index[i]) for i in bad])} have {values[first]:g} of {total[first]:g}."
            )
        values = values / total
    there = np.isfinite(values)
    known = table[there].drop(columns="loss").assign(score=values[there])
    found, entries = score_columns(known, scale, n_items, known.index.to_numpy())
    table = table.drop(columns=["n_items", "correct"], errors="ignore").assign(loss=np.nan)
    for role, column in found.items():
        table[role] = pd.Series(column, index=known.index)
    return table, [*log, *entries]


def counts(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers of right items and of items, shape (row,) each.

    Right items may be fractional for averaged scores.
    """
    items = frame["n_items"].to_numpy(float)
    return frame["score"].to_numpy(float) * items, items
