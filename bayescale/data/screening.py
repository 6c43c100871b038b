"""Screening: which rows of a table are failed, unfinished or repeated runs, and what else could mislead a fit."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayescale.data.checkpoints import clock_of, run_numbers
from bayescale.data.log import LogEntry
from bayescale.data.outliers import find_outliers
from bayescale.data.runs import COUNTS, DISTINCT, family_labels
from bayescale.data.trends import rank_correlation, warnings_about
from bayescale.data.value import ValueScale
from bayescale.errors import InputError, counted, some

VOCABULARIES = (
    *(32000, 32064, 32768, 49152, 50257, 50280, 50304, 50432, 51200, 64000, 65536),
    *(100256, 100277, 100278, 100352, 128000, 128256, 129280, 131072, 151643, 151936, 152064),
    *(163840, 199998, 200019, 201088, 202048, 250112, 256000, 256128, 262144),
)
"""Usual sizes of vocabularies; the loss of a model that learned nothing is ln of one of them."""
NEAR_VOCABULARY = 0.02
"""Losses closer than this to ln of a vocabulary count as equal to it, if they are also far above other runs."""
SHORT = 0.02
"""A run whose tokens fall short of the planned ones by more than this fraction is unfinished."""
MOST_REPEATED = 0.3
"""If at most this fraction of rows repeats a run and its inputs, they are logs of resumed runs, not replicates."""
UNEQUAL = 0.1
"""Runs whose last checkpoints differ by more than this fraction had schedules of different lengths."""
UNFINISHED = (
    *("running", "crashed", "crash", "failed", "failure", "killed", "preempted", "preempting", "queued", "pending"),
    *("partial", "incomplete", "unfinished", "oom", "nan", "inf", "diverged", "stopped", "aborted", "cancelled"),
    *("canceled", "interrupted", "timeout", "error", "scheduled", "starting", "paused", "stalled", "in progress"),
    *("in_progress", "in-progress", "not started", "not_started", "unstable", "terminated", "early stopped", "spiked"),
    *(
        "early_stopped",
        "not finished",
        "not done",
        "broken",
        "invalid",
        "excluded",
        "todo",
        "ongoing",
        "training",
        "wip",
        "dead",
        "lost",
        "evicted",
    ),
)
"""Words of a status column that mean that a run failed or has not finished."""
FINISHED = (
    "done",
    "finished",
    "finish",
    "completed",
    "complete",
    "success",
    "succeeded",
    "successful",
    "ok",
    "final",
    "yes",
)
NOTED = (
    *("running", "crashed", "failed", "killed", "preempted", "queued", "partial", "incomplete", "unfinished", "oom"),
    *("diverged", "aborted", "interrupted", "in progress", "still training", "not finished", "not done", "broken"),
)
"""Words and phrases of a free note with the same meaning."""
DENIED = r"\b(?:not|never|no|nothing|didn't|hasn't|without|if|replaces|replaced|resumed after)\s+(?:\w+\s+)?$"
"""Words that negate such a word when they precede it."""
SETTINGS = re.compile(
    r"(^|[._/])(lr|learning_?rate|peak_lr|max_lr|batch(_?size)?|width|depth|n_?layers?|d_model|hidden(_(dim|size))?|epochs|"
    r"weight_decay|wd|dropout|warmup(_\w+)?|experts|n_experts|tokens_per_param\w*|ratio)$",
    re.IGNORECASE,
)
"""Names of columns with settings on which a loss depends; other columns may be further results."""
MOST_SETTINGS = 3
"""Largest number of settings, besides the inputs, in the fit that the test for failures uses."""


def screen(
    table: pd.DataFrame,
    inputs: tuple[str, ...],
    *,
    keep: bool = False,
    scored: bool = False,
    value: ValueScale | None = None,
) -> tuple[pd.DataFrame, tuple[LogEntry, ...]]:
    """Return the rows that a fit should use, and a log of findings about the other rows and about the table.

    Args:
        table: Recognised columns by canonical name (family, run, seed, step, the inputs, loss, value_se, status, note,
            planned_tokens, train_loss), others by their own; the index is the number of the row in the file.
        inputs: Scale inputs of the fit.
        keep: Return every row that a fit can use; the log then says which rows would have been left out.
        scored: Whether the response is a score, with the odds against a right answer in column loss. Near chance these
            odds scatter by factors, so rows far from the others are not called failures.
        value: The direction if the response is a value of any sign, with exp(y) in column loss (see `ValueScale`); rows
            far from the others are not called failures either.

    Example:
        >>> import pandas as pd
        >>> from bayescale.data.screening import screen
        >>> table = pd.DataFrame({"flops": [1e18, 1e19, 1e20], "loss": [3.5, float("nan"), 2.8]}, index=[1, 2, 3])
        >>> rows, log = screen(table, ("flops",))
        >>> list(rows.index), log[0].code
        ([1, 3], 'missing_loss')
    """
    left = table
    entries: list[LogEntry] = []
    unusable: list[int] = []
    for rule in RULES[:-1] if scored or value is not None else RULES:
        for finding in rule(left, inputs):
            rows = tuple(int(row) for row in finding.rows)
            if value is not None and finding.code == "missing_loss":
                finding = dataclasses.replace(finding, text=finding.text.removesuffix("loss") + "value")
            if not finding.excludes:
                entries.append(LogEntry(finding.code, "warning", finding.text, rows, finding.columns))
            elif not (named := left.index.intersection(list(rows))).empty:
                severity = "warning" if keep and finding.usable else "excluded"
                text = f"{finding.text}: {done(finding, keep)}."
                entries.append(LogEntry(finding.code, severity, text, rows, finding.columns))
                unusable += [] if finding.usable else list(named)
                left = left.drop(index=named)
    if len(left) == 0 and len(table) and (not keep or len(unusable) == len(table)):
        usable = len(unusable) < len(table)
        advice = " Use screen='keep' (--screen keep) to fit those that have a loss and inputs." if usable else ""
        raise InputError(f"No row is left of {len(table)}: {entries[-1].text}{advice}")
    entries += warnings_about(left, inputs, family_labels(left, ""), shapes=not scored, value=value)
    return (table.drop(index=unusable) if keep else left), tuple(entries)


def done(finding: Finding, keep: bool) -> str:
    """Return a clause that says what was done with the rows of a finding, and how to keep usable ones."""
    if not finding.usable:
        return "left out"
    if keep:
        return "kept, as requested"
    return f"left out (screen='keep', --screen keep in the shell, keeps {'it' if len(finding.rows) == 1 else 'them'})"


@dataclasses.dataclass(frozen=True)
class Finding:
    """Rows that a screening rule found, with the reason.

    Attributes:
        code: Kind of finding, for use in programs.
        rows: Row numbers.
        text: A sentence; without its full stop where rows are left out.
        columns: Columns concerned.
        excludes: Whether the rows are to be left out.
        usable: Whether a fit could use the rows; False for rows without a loss or an input.
    """

    code: str
    rows: Sequence[int]
    text: str
    columns: tuple[str, ...] = ()
    excludes: bool = True
    usable: bool = True


def numbered(rows: Sequence[object]) -> str:
    """Write row numbers: ``row 3``, ``rows 3, 17``."""
    return ("row " if len(rows) == 1 else "rows ") + some(list(rows))


def _statuses(table: pd.DataFrame, inputs: tuple[str, ...]) -> Iterator[Finding]:
    """Yield runs whose status says that they failed or are still running."""
    if "status" not in table:
        return
    words = table["status"].map(_plain)
    unknown = []
    for word in dict.fromkeys(words):
        rows = table.index[words == word]
        if _says(word, UNFINISHED):
            they = "has" if len(rows) == 1 else "have"
            are = "it is" if len(rows) == 1 else "they are"
            yield Finding(
                "unfinished", rows, f"{numbered(rows)} {they} status {word!r}, so {are} not finished", ("status",)
            )
        elif re.search(r"\w", word) and not _says(word, FINISHED):
            unknown.append(word)
    if unknown:
        text = (
            f"The status {some([repr(word) for word in unknown])} is unknown (known are words such as 'finished', "
            "'running', 'crashed' and 'failed'), so its rows are used. Drop them if these runs are not finished."
        )
        yield Finding("unknown_status", table.index[words.isin(unknown)], text, ("status",), excludes=False)


def _notes(table: pd.DataFrame, inputs: tuple[str, ...]) -> Iterator[Finding]:
    """Yield runs whose free note says that they failed or are still running."""
    if "note" not in table:
        return
    notes = table["note"].map(_plain)
    for note in dict.fromkeys(notes):
        if _says(note, NOTED):
            rows = table.index[notes == note]
            have = "has" if len(rows) == 1 else "have"
            yield Finding("unfinished", rows, f"{numbered(rows)} {have} the note {note!r}, so not finished", ("note",))


def _plain(cell: Any) -> str:
    """Return the text of a cell in lower case; empty for a missing one."""
    return "" if pd.isna(cell) else str(cell).strip().lower()


def _says(text: str, words: Sequence[str]) -> bool:
    """Return whether a text contains one of some words without a negation before it."""
    for word in words:
        for match in re.finditer(rf"(?<![a-z]){re.escape(word)}(?![a-z])", text):
            if not re.search(DENIED, text[: match.start()]):
                return True
    return False


def _missing(table: pd.DataFrame, inputs: tuple[str, ...]) -> Iterator[Finding]:
    """Yield rows whose loss or input is missing or not finite."""
    for column in ("loss", *inputs):
        if column not in table:
            continue
        values = pd.to_numeric(table[column], errors="coerce").to_numpy(float)
        gone = table.index[~np.isfinite(values)]
        if len(gone):
            infinite = np.isinf(values).any()
            what = "no finite" if infinite else "no"
            code = "missing_loss" if column == "loss" else "missing_input"
            verb = "has" if len(gone) == 1 else "have"
            yield Finding(code, gone, f"{numbered(gone)} {verb} {what} {column}", (column,), usable=False)


def _short_of_plan(table: pd.DataFrame, inputs: tuple[str, ...]) -> Iterator[Finding]:
    """Yield runs that end before their planned tokens, if other runs reached theirs or every row is a run."""
    for done, planned in (("n_tokens", "planned_tokens"), ("step", "planned_steps")):
        if done not in table or planned not in table or len(table) == 0:
            continue
        ends, plan = (pd.to_numeric(table[name], errors="coerce").to_numpy(float) for name in (done, planned))
        share = ends / plan
        short = share < 1.0 - SHORT
        runs = run_numbers(table)
        # One run with several rows is a curve, whose points are not failures.
        if not short.any() or (len(np.unique(runs)) == 1 and len(table) > 1):
            continue
        rows = table.index[short]
        told = [f"row {row} at {part:.0%}" for row, part in zip(rows, share[short], strict=True)]
        reason = f"{some(told)} of its planned {'tokens' if done == 'n_tokens' else 'steps'}, so not finished"
        yield Finding("short_of_plan", rows, reason, (done, planned))


def _checkpoints(table: pd.DataFrame, inputs: tuple[str, ...]) -> Iterator[Finding]:
    """Yield earlier checkpoints of runs that were stopped at different fractions of their schedules."""
    clock = clock_of(table)
    if "run" not in table or clock is None or len(table) < 2:
        return
    for _, part in table.groupby(family_labels(table, ""), sort=False):
        runs = pd.Series(run_numbers(part), index=part.index)
        time = pd.to_numeric(part[clock], errors="coerce")
        sizes, ends = runs.map(runs.value_counts()), time.groupby(runs).transform("max")
        earlier = part.index[(sizes > 1) & (time < ends)]
        if len(earlier) == 0 or runs.nunique() < 2:
            continue
        last = ends.groupby(runs).first()
        single = int((runs.value_counts() == 1).sum())
        unequal = last.max() > last.min() * (1.0 + UNEQUAL)
        if not unequal and not single:
            continue
        final = part.drop(index=earlier)
        scales = [name for name in inputs if name in final]
        enough = bool(scales) and len(final.drop_duplicates(scales)) >= 3
        why = (
            f"{counted(single, 'run')} of this family {'has' if single == 1 else 'have'} only the last checkpoint"
            if single
            else f"runs of this family end at {last.min():.4g} to {last.max():.4g} {clock}"
        )
        text = (
            "In the middle of a learning-rate schedule, the loss is higher than that of a finished run of the same "
            f"length. Here {why}, and {numbered(earlier)} are checkpoints before the end of their runs"
        )
        if not enough:
            text += ". Too few runs would be left without these rows, so they are used: forecasts are of checkpoints."
        yield Finding("checkpoint", earlier, text, ("run", clock), excludes=enough)


def _copies(table: pd.DataFrame, inputs: tuple[str, ...]) -> Iterator[Finding]:
    """Yield rows that repeat another row in every column."""
    if len(table) == 0:
        return
    same = table.astype(str).groupby(list(table.columns), sort=False, dropna=False).ngroup().to_numpy()
    _, first = np.unique(same, return_index=True)
    original = table.index[first[same]]
    copies = np.flatnonzero(table.index != original)
    if len(copies) == 0:
        return
    told = some([f"row {table.index[copy]} repeats row {original[copy]}" for copy in copies])
    named = {*inputs, "loss", "value", "family", "metric", "value_se", "status"}
    if all(column in named for column in table) and _coarse(table["value" if "value" in table else "loss"]):
        text = (
            f"{told} in every column. Losses with so few digits can agree by chance, so these rows count as separate "
            "runs. Drop the repeated rows if they are copies; otherwise add a column run or seed."
        )
        yield Finding("duplicate", table.index[copies], text, excludes=False)
    else:
        yield Finding("duplicate", table.index[copies], f"{told} in every column")


def _coarse(values: pd.Series) -> bool:
    """Return whether numbers have at most three significant digits."""
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(float)
    return all(float(f"{value:.3g}") == value for value in numbers[np.isfinite(numbers)])


def _several_losses(table: pd.DataFrame, inputs: tuple[str, ...]) -> Iterator[Finding]:
    """Yield all but the last measurement of a run at the same inputs."""
    if "run" not in table or len(table) == 0:
        return
    keys = [name for name in dict.fromkeys(("family", "metric", "run", "seed", "step", *inputs)) if name in table]
    several = (table.duplicated(keys, keep=False) & (table["run"].map(_plain) != "")).to_numpy()
    if not several.any():
        return
    rows = table.index[several]
    told = f"{numbered(rows)} give several losses of one run at the same inputs"
    if several.mean() > MOST_REPEATED:
        text = f"{told}. If they are replicates, add a column seed or give each its own run name; if not, average them."
        yield Finding("repeated_run", rows, text, ("run", "loss"), excludes=False)
        return
    earlier = rows[table[several].duplicated(keys, keep="last").to_numpy()]
    reason = f"{told}, as in the log of a resumed run, so only the last one is used; {numbered(earlier)}"
    yield Finding("repeated_run", earlier, reason, ("run", "loss"))


def _failures(table: pd.DataFrame, inputs: tuple[str, ...]) -> Iterator[Finding]:
    """Yield runs whose loss lies far above the prediction from the other runs of their family."""
    rows: list[int] = []
    told: list[str] = []
    for label, part in table.groupby(family_labels(table, ""), sort=False):
        loss = pd.to_numeric(part["loss"], errors="coerce")
        part = part[(loss > 0).to_numpy()]
        covariates = _covariates(part, inputs)
        if not covariates or len(part) < 3:
            continue
        x = np.log(part[covariates].to_numpy(float))
        y = np.log(part["loss"].to_numpy(float))
        # Most failed scores lie below the others and are kept; no normal score lies far above those of all larger runs.
        rising = _grows(x, y)
        # What rises up to 1 is an accuracy that was read as a loss, whose best runs must stay.
        if rising and part["loss"].max() <= 1.0:
            continue
        result = find_outliers(x, y, rising=rising)
        for index in np.flatnonzero(result.named & (y > result.expected)):
            row, value, expected = part.index[index], np.exp(y[index]), np.exp(result.expected[index])
            rows.append(row)
            told.append(
                f"row {row} has loss {value:.5g}, {_far(value / expected)} the {expected:.4g} that the other runs"
                f"{f' of {label}' if label else ''} predict at its inputs{_guessing(value)}"
            )
    if rows:
        yield Finding("diverged", rows, f"{some(told)}; diverged or broken", ("loss",))


def _far(factor: float) -> str:
    """Return a phrase that says how far a loss lies above another."""
    return f"{factor - 1.0:.1%} above" if factor < 2.0 else f"{factor:.2g} times"


def _guessing(loss: float) -> str:
    """Return a note if a loss equals that of uniform guessing over a vocabulary, else an empty text."""
    near = min(VOCABULARIES, key=lambda size: abs(np.log(size) - loss))
    return f" (ln {near:,} = {np.log(near):.4g}: nothing learned)" if abs(np.log(near) - loss) < NEAR_VOCABULARY else ""


def _grows(x: np.ndarray, y: np.ndarray) -> bool:
    """Return whether a response increases with the scale that it depends on most."""
    along = [x[:, column] for column in range(x.shape[1]) if np.ptp(x[:, column]) > 1e-9]
    if not along or np.ptp(y) < 1e-12:
        return False
    strongest = max((rank_correlation(axis, y) for axis in along), key=abs)
    return strongest > 0.7


def _covariates(part: pd.DataFrame, inputs: tuple[str, ...]) -> list[str]:
    """Return the columns on which a loss depends: inputs, other scales, and settings that differ at equal inputs."""
    chosen = [name for name in inputs if name in part]

    def usable(name: str) -> bool:
        if not pd.api.types.is_numeric_dtype(part[name]) or part[name].nunique() < 2:
            return False
        values = part[name].to_numpy(float)
        return bool(np.isfinite(values).all() and (values > 0).all())

    if not all(usable(name) or part[name].nunique() == 1 for name in chosen):
        return []
    others = [name for name in (*COUNTS, *DISTINCT) if name in part and name not in chosen and usable(name)]
    if chosen:
        settings = [str(name) for name in part if SETTINGS.search(str(name)) and name not in (*chosen, *others)]
        differ = part.groupby(chosen, sort=False)
        others += [name for name in settings if usable(name) and (differ[name].nunique() > 1).any()][:MOST_SETTINGS]
    # With more settings than a quarter of the rows, the fit could explain any failure.
    most = max(len(chosen), len(part) // 4)
    return [*chosen, *others][:most] if chosen else []


RULES: tuple[Callable[[pd.DataFrame, tuple[str, ...]], Iterator[Finding]], ...] = (
    *(_statuses, _notes, _missing, _short_of_plan, _checkpoints, _copies, _several_losses, _failures),
)
"""Rules in the order in which they are applied; each gets the rows that the earlier rules left."""
