"""Reading: tables of training runs in any layout become `Runs`, with a log of what was recognised and changed."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bayescale.checked import handing_on, known_keywords
from bayescale.data.assign import Cells, assign, with_prefixes
from bayescale.data.checkpoints import WARM_UP, after_burn_in
from bayescale.data.formats import load
from bayescale.data.formats.folder import stem
from bayescale.data.log import LogEntry
from bayescale.data.notice import differing, no_scale, unused
from bayescale.data.numbers import canonical, not_numbers, quoted, read_units, recognised
from bayescale.data.reading import Options, Screen
from bayescale.data.runs import COUNTS, Runs, family_labels
from bayescale.data.scales import DERIVED, LEAST, UnknownUnit, check_units, default_inputs, derive
from bayescale.data.score import scored_table
from bayescale.data.screening import numbered, screen
from bayescale.data.value import rescaled, valued_table
from bayescale.data.zeros import lifted
from bayescale.errors import InputError, because, counted, nearest

COUNTED = ("correct", "n_items", "attempts")
"""Counts from which responses are computed."""


@known_keywords
def read(
    source: Any,
    *,
    columns: Mapping[str, str] | None = None,
    inputs: Sequence[str] | None = None,
    loss: str | None = None,
    family: str | None = None,
    name: str | None = None,
    units: Mapping[str, str | float] | None = None,
    decimal: str | None = None,
    derive: str | None = None,
    score: str | None = None,
    chance: float | None = None,
    ceiling: float | None = None,
    chance_sd: float | None = None,
    ceiling_sd: float | None = None,
    n_items: float | None = None,
    value: str | None = None,
    lower_is_better: bool = False,
    screen: Screen = "exclude",
    checkpoints: bool = False,
    burn_in: float | None = None,
    table: int | None = None,
) -> Runs:
    r"""Read training runs from a file, folder or DataFrame of any layout.

    Columns are recognised by their usual names, numbers in their usual spellings (`91M`, `2.00×10¹⁹`, `1.000.000`), and
    `runs.log` lists everything that was recognised, converted, derived and left out. If something is ambiguous, an
    error tells how to specify it.

    Args:
        source: Path of a file (CSV in any delimiter, JSON, Markdown, Parquet, spreadsheet, export of a tracker) or of a
            folder with one file per run, "-" for standard input, a file object, or a DataFrame.
        columns: Mapping from canonical names to column names of the file, e.g. `{"n_params": "size"}`;
            `Runs.from_frame` lists the canonical names.
        inputs: Scale inputs to use. By default n_params and n_tokens (one of them may be computed from C = 6 N D), else
            the one that the file has. Give `()` if all runs have one scale.
        loss: Column of the response; short for `columns={"loss": ...}`.
        family: Column that distinguishes families; short for `columns={"family": ...}`.
        name: Name of the runs; by default the file's name.
        units: Units of inputs in the file, e.g. `{"n_params": "M"}`; 1 means raw counts.
        decimal: "." or ","; by default inferred from the numbers in the file.
        derive: "error_rate" for 1 - correct / items, or 1 - accuracy, as the response; "log_perplexity" for
            ln(perplexity).
        score: Column of the response if it is a score, which increases as models get better: a fraction of right items,
            a percentage, or a count of right items. Its likelihood is binomial.
        chance: Score of guessing, 1 / choices of a multiple-choice task; 0 by default.
        ceiling: Score that no model exceeds; 1 by default.
        chance_sd: Standard deviation of the prior of chance, which is then sampled; by default chance is known.
        ceiling_sd: Standard deviation of the prior of the ceiling, which is then sampled; by default it is known.
        n_items: Number of items on which all scores are measured, if the file has no such column.
        value: Column of the response if it is a value of any sign, such as a reward, an Elo rating, a return or a
            difference of two runs. Its likelihood is normal on its own scale.
        lower_is_better: Whether lower values are better; by default higher ones are.
        screen: "exclude" leaves out diverged and unfinished runs; "keep" only reports them in the log.
        checkpoints: For a folder of runs, keep all rows of each run instead of the last one.
        burn_in: Leave out the first checkpoints of each run, up to this fraction of its last one. During the warm-up of
            the learning rate, losses do not follow a law of scale.
        table: Number of the table or sheet to read, counted from 1, if the file has several.

    Raises:
        InputError: For a file that cannot be read, ambiguous columns or numbers, or runs that no fit could use.

    Example:
        >>> import bayescale as bs, io
        >>> runs = bs.read(io.StringIO("params,tokens,val_bpb\n88M,0.79B,.8954\n110M,0.99B,.8775\n"))
        >>> runs.inputs, float(runs.frame["n_tokens"][0])
        (('n_params', 'n_tokens'), 790000000.0)
        >>> print(runs.log[0])
        info: Recognised: n_tokens = 'tokens', n_params = 'params', loss = 'val_bpb'.
    """
    found, unfit = read_families(
        source,
        columns=columns,
        inputs=inputs,
        loss=loss,
        family=family,
        name=name,
        units=units,
        decimal=decimal,
        derive=derive,
        score=score,
        chance=chance,
        ceiling=ceiling,
        chance_sd=chance_sd,
        ceiling_sd=ceiling_sd,
        n_items=n_items,
        value=value,
        lower_is_better=lower_is_better,
        screen=screen,
        checkpoints=checkpoints,
        burn_in=burn_in,
        table=table,
    )
    return joined(found, unfit, name or source_name(source))


def joined(found: list[Runs], unfit: Mapping[str, str], name: str) -> Runs:
    """Return the runs of all families together.

    Args:
        found: Runs of each family.
        unfit: For each family that cannot be used, the reason.
        name: Name of the runs, if they are not those of the only family.

    Raises:
        InputError: For families with different inputs.
    """
    if unfit:
        text = f"Families without runs that can be used: {because(unfit.items())}"
        entry = LogEntry("family", "excluded", text)
        found = [dataclasses.replace(part, log=(*part.log, entry)) for part in found]
    refuse_other_inputs(found)
    frame = pd.concat([part.frame for part in found], ignore_index=True)
    log = tuple(dict.fromkeys(entry for part in found for entry in part.log))
    called = found[0].name if len(found) == 1 and not unfit else name
    gone = [part.left_out for part in found if part.left_out is not None]
    left = pd.concat(gone, ignore_index=True) if gone else None
    # Families of values were read relative to their own values.
    return rescaled(dataclasses.replace(found[0], frame=frame, name=called, log=log, left_out=left))


def refuse_other_inputs(families: Sequence[Runs]) -> None:
    """Refuse families that do not have the same scale inputs.

    Raises:
        InputError: With the inputs of up to five families.
    """
    kinds = {part.inputs for part in families}
    if len(kinds) > 1:
        told = "; ".join(f"{part.name}: {', '.join(part.inputs) or 'none'}" for part in families[:5])
        raise InputError(
            f"Families have different scale inputs ({told}); choose common ones with inputs=(...) (--input), or read "
            "them one by one with read_families."
        )


def source_name(source: Any) -> str:
    """Return the name of runs that are read from a source."""
    return stem(Path(source)) if isinstance(source, (str, Path)) and source != "-" else "runs"


@handing_on(Options.__dataclass_fields__)
def read_families(source: Any, **options: Any) -> tuple[list[Runs], dict[str, str]]:
    """Read the families of a table separately, so that a bad family does not stop the others.

    Args:
        source: See `read`.
        **options: Options of `read`; by default each family has the inputs for which it has values.

    Returns:
        Runs of each family under its own name; and for each family that cannot be used, the reason.

    Raises:
        InputError: As `read`, or if no family can be used.
    """
    chosen = Options(**options)
    given = read_canonical(source, chosen)
    table = given.table
    labels = pd.Series(family_labels(table, given.name), table.index)
    ready: dict[str, Usable] = {}
    unfit: dict[str, str] = {}
    unitless = 0
    for label, part in table.groupby(labels, sort=False):
        try:
            ready[str(label)] = usable(part, given, chosen)
        except InputError as error:
            unfit[str(label)] = str(error)
            unitless += isinstance(error, UnknownUnit)
    if unitless == len(unfit) > 1 and not ready:
        # A unit that is missing for all families is asked for once.
        check_units(table, given.stated)
    burnt = [entry for part in ready.values() for entry in part.log if entry.code == "burn_in"]
    if burnt and not any(entry.rows for entry in burnt):
        raise InputError(f"{burnt[0].text} Leave the option out, or name the column of runs with columns= (--column).")
    # Log entries about columns concern all families and are kept once.
    notices: dict[tuple[str, ...], list[LogEntry]] = {}
    for wanted in dict.fromkeys(part.wanted for part in ready.values()):
        rows = pd.concat([part.rows for part in ready.values() if part.wanted == wanted])
        own = ["score"] * (chosen.score is not None) + ["value"] * (chosen.value is not None)
        others = rows.drop(columns=own, errors="ignore")
        notices[wanted] = [*unused(others, wanted), *differing(others, wanted)]
    spoken = [entry for part in ready.values() for entry in part.log]
    found: list[Runs] = []
    for label, (part, wanted, entries, gone) in ready.items():
        if len(ready) + len(unfit) > 1:
            part = part.assign(family=label).drop(columns="metric", errors="ignore")
        try:
            # Log entries about some families only contain the names of these families.
            named = any(entry.code == "score" for entry in given.log)
            own = [
                e if spoken.count(e) == len(ready) else dataclasses.replace(e, text=f"{label}: {e.text}")
                for e in entries
                if not (named and e.code == "score")
            ]
            runs = checked_runs(part, wanted, label, (*given.log, *own, *notices[wanted]), chosen)
            found.append(dataclasses.replace(runs, left_out=left_out(gone, label), response=given.response))
        except InputError as error:
            unfit[label] = str(error)
    if not found:
        raise InputError(next(iter(unfit.values())) if len(unfit) == 1 else because(unfit.items()))
    return found, {str(label): unfit[label] for label in dict.fromkeys(labels) if label in unfit}


@dataclasses.dataclass(frozen=True)
class Canonical:
    """A table with canonical column names and numbers in raw counts.

    Attributes:
        table: The columns; the index is the row of the file.
        log: What was converted or noticed.
        inputs: Scale inputs that the caller requested or the file format implies; None if neither does.
        name: Name of the table.
        stated: Columns whose unit the caller specified.
        chosen: Columns of the file by canonical name.
        unreadable: Rows whose cells could not be read as numbers, with a function that returns the error message for
            some of them, by canonical name.
        quote: Function that quotes the cells of a canonical column in some rows.
        response: Name of the response.
    """

    table: pd.DataFrame
    log: tuple[LogEntry, ...]
    inputs: tuple[str, ...] | None
    name: str
    stated: set[str]
    chosen: Mapping[str, str]
    unreadable: Mapping[str, tuple[list[int], Callable[[list[int]], str]]]
    quote: Callable[[str, Sequence[int]], str]
    response: str = "loss"

    def readable(self, part: pd.DataFrame, columns: Sequence[str]) -> tuple[pd.DataFrame, list[LogEntry]]:
        """Return the rows whose needed cells are numbers, and log entries about the other rows.

        Raises:
            InputError: If at least half of a column's cells could not be read as numbers, with these rows and cells.
        """
        log: list[LogEntry] = []
        for column in columns:
            rows, text = self.unreadable.get(column, ([], str))
            if not (held := [row for row in rows if row in part.index]):
                continue
            if len(held) >= int(part[column].notna().sum()):
                raise InputError(text(held))
            theirs = self.chosen[column]
            are = "is not a number" if len(held) == 1 else "are not numbers"
            told = f"Column {theirs!r}, {numbered(held)}: {self.quote(column, held)} {are}: left out."
            log.append(LogEntry("unreadable", "excluded", told, tuple(held), (theirs,)))
            part = part.drop(index=held)
        return part, log

    def quoting(self, entry: LogEntry) -> LogEntry:
        """Return a log entry about missing values with the cells as written in the file, unless they are empty."""
        column = entry.columns[0] if entry.columns else ""
        if entry.code not in ("missing_loss", "missing_input") or column not in self.chosen:
            return entry
        if not (cells := self.quote(column, entry.rows)):
            return entry
        told = f"{column} (column {self.chosen[column]!r} holds {cells})"
        return dataclasses.replace(entry, text=entry.text.replace(column, told, 1))

    def check(self, part: pd.DataFrame, columns: Sequence[str]) -> None:
        """Refuse rows whose cells could not be read as numbers.

        Raises:
            InputError: With rows and cells.
        """
        for column in columns:
            rows, text = self.unreadable.get(column, ([], str))
            if held := [row for row in rows if row in part.index]:
                raise InputError(text(held))


def read_canonical(source: Any, options: Options, *, response: bool = True) -> Canonical:
    """Read a table and give its columns canonical names.

    Args:
        source: See `read`.
        options: Options of `read`.
        response: Whether a response is needed.
    """
    loaded = load(source, table=options.table, metric=options.loss, checkpoints=options.checkpoints)
    fixed = with_prefixes({**loaded.roles, **options.fixed}, loaded.frame)
    cells = Cells.of(loaded.frame, options.decimal).named(fixed)
    inputs = asked(options.inputs, cells) if options.inputs is not None else loaded.inputs
    counted = options.derive == "error_rate" and any(head.role == "correct" for head in cells.heads.values())
    chosen, log = assign(cells, fixed, inputs, response=response and not counted)
    # An input may also be given by its name in the file.
    own = [name for name in inputs or () if name in cells.heads and name not in chosen]
    chosen = {**chosen, **{name: name for name in own if name not in chosen.values()}}
    factors = read_units(options.units, chosen)
    counts = COUNTED if options.derive is not None or options.score is not None else ()
    table, converted, unreadable = canonical(
        cells, chosen, factors, (*(inputs or ()), *counts), options.kind != "value"
    )
    log = [*loaded.log, *recognised(cells, chosen, options.kind), *log, *converted]
    if options.derive is not None:
        table, entries = DERIVED[options.derive](table)
        log = [*(entry for entry in log if entry.code not in ("score", "perplexity")), *entries]
    elif (scale := options.range) is not None:
        name = chosen["loss"]
        named = options.score == "correct" or cells.heads[name].role == "correct"
        told = True if named else False if "loss" in factors else None
        table, entries = scored_table(table, scale, options.n_items, name=name, counts=told)
        log = [*(entry for entry in log if entry.code != "score"), *entries]
    elif options.direction is not None:
        table, _ = valued_table(table, options.direction)
    elif "correct" in table and response:
        text = (
            "Counts of right items are not used. Fit them as a score with score='correct' (--score correct), or as an "
            "error rate, 1 - correct / items, with derive='error_rate' (--derive error_rate)."
        )
        log.append(LogEntry("counts", "info", text))
    reasons = {role: (rows, functools.partial(not_numbers, cells, chosen, role)) for role, rows in unreadable.items()}

    called = str(chosen.get("loss", "loss")) if options.derive is None else options.derive.replace("_", " ")

    def quote(role: str, rows: Sequence[int]) -> str:
        return quoted(cells, chosen[role], rows)

    return Canonical(
        table, tuple(log), inputs, options.name or loaded.name, set(factors), chosen, reasons, quote, called
    )


def asked(inputs: Sequence[str], cells: Cells) -> tuple[str, ...]:
    """Return the requested scale inputs, by canonical name where a column is recognised as one of these."""
    given = (inputs,) if isinstance(inputs, str) else tuple(inputs)
    if given in (("none",), ("",)) and "none" not in cells.heads:
        return ()
    ours = [
        cells.heads[name].role if name in cells.heads and cells.heads[name].role in COUNTS else name for name in given
    ]
    if doubled := [name for name in ours if ours.count(name) > 1]:
        raise InputError(f"inputs (--input) contains {doubled[0]} twice: {', '.join(given)}.")
    return tuple(ours)


class Usable(NamedTuple):
    """The usable rows of one family, their scale inputs, log entries about the other rows, and those other rows."""

    rows: pd.DataFrame
    wanted: tuple[str, ...]
    log: list[LogEntry]
    gone: pd.DataFrame


def left_out(gone: pd.DataFrame, label: str) -> pd.DataFrame | None:
    """Return inputs and loss of rows that are left out, for plots; None if there are none."""
    kept = [name for name in (*COUNTS, "loss") if name in gone]
    return gone[kept].reset_index(drop=True).assign(family=label) if len(gone) else None


def usable(part: pd.DataFrame, given: Canonical, options: Options) -> Usable:
    """Return the usable rows of one family, and log entries about the other rows.

    Raises:
        InputError: For cells that are not numbers, implausible units, or inputs that do not exist.
    """
    entire = part
    counted_in = [name for name in ("loss", *COUNTS) if name in given.unreadable]
    bad = [row for name in counted_in for row in given.unreadable[name][0]]
    wanted = default_inputs(part.drop(index=bad, errors="ignore"), COUNTS) if given.inputs is None else given.inputs
    part, log = given.readable(part, ["loss", "value_se", *COUNTED, *(wanted or COUNTS)])
    theirs = given.chosen.get("flops", "flops")
    if theirs != "flops" and "flops" not in {*wanted, *given.stated} and not compute(part).all():
        text = f"{theirs!r} is too small for compute in FLOPs; it is kept under its own name and not used."
        log.append(LogEntry("units", "info", text, columns=(theirs,)))
        part = part.rename(columns={"flops": theirs})
    log += check_units(part, given.stated)
    part, entries = derive(part, wanted)
    part = part.assign(**{name: lifted(name, part[name].to_numpy(float)) for name in wanted if name in part})
    log += entries
    lacking = [name for name in wanted if name not in part]
    if lacking:
        raise InputError(f"There is no column {lacking[0]!r}. {nearest(lacking[0], map(str, part.columns))}")
    if not wanted and given.inputs is None:
        log += no_scale(part)
    if "step" in wanted and "step" in part and (start := part.index[part["step"].to_numpy(float) <= 0]).size:
        text = f"Step 0 is a baseline before training, not a scale: {counted(len(start), 'row')} left out."
        log.append(LogEntry("baseline", "excluded", text, tuple(map(int, start))))
        part, entire = part.drop(index=start), entire.drop(index=start)
    if options.burn_in is not None:
        part, entry = after_burn_in(part, wanted, options.burn_in)
        log.append(entry)
    if len(part):
        scales = {"scored": options.score is not None, "value": options.direction}
        part, entries = screen(part, wanted, keep=options.screen == "keep", **scales)
        log += [given.quoting(entry) for entry in entries]
        if options.screen == "keep" and options.burn_in is None and any(e.code == "checkpoint" for e in entries):
            log.append(WARM_UP)
    needed = ["loss", *wanted]
    measured = np.isfinite(part[needed].to_numpy(float))
    if not measured.all():
        gone = part.index[~measured.all(1)]
        lacks = [", ".join(n for n, there in zip(needed, row, strict=True) if not there) for row in measured]
        reasons = because((str(row), f"{lack} missing") for row, lack in zip(part.index, lacks, strict=True) if lack)
        text = f"{len(gone)} of {len(part)} rows left out. Row {reasons}"
        log.append(LogEntry("missing", "excluded", text, tuple(map(int, gone))))
        part = part.drop(index=gone)
    # Inputs that are computed from others are also known for the rows that are left out.
    return Usable(part, wanted, log, derive(entire, wanted)[0].drop(index=part.index))


def compute(part: pd.DataFrame) -> pd.Series:
    """Return whether each value of compute is large enough to be in FLOPs."""
    values = part["flops"] if "flops" in part else pd.Series(dtype=float)
    return values.isna() | (values >= LEAST["flops"])


def checked_runs(
    part: pd.DataFrame, inputs: tuple[str, ...], name: str, log: tuple[LogEntry, ...], options: Options
) -> Runs:
    """Return the runs of one family, with all columns of the file."""
    if not len(part):
        reasons = [entry.text for entry in log if entry.severity == "excluded"]
        raise InputError(f"No row can be used. {' '.join(reasons[:3])}")
    if options.score is None and "score" in part:
        part = part.rename(columns={"score": "score (not used)"})
    scales = {"score": options.range, "value": options.direction}
    runs = Runs.from_frame(part, inputs=inputs, name=name, rows=part.index.to_numpy(), **scales)
    extra = part[[column for column in part if column not in runs.frame]].reset_index(drop=True)
    # Compute that is known for some rows only cannot order all rows.
    extra = extra.rename(columns={column: f"{column} (partly)" for column in COUNTS if column in extra})
    frame = pd.concat([runs.frame, extra.dropna(axis=1, how="all")], axis=1)
    return dataclasses.replace(runs, frame=frame, log=log)


def read_table(source: Any, columns: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Read a table of inputs without a response, such as pilots and plans, with canonical column names.

    Raises:
        InputError: As `read`.
    """
    given = read_canonical(source, Options(columns=columns), response=False)
    given.check(given.table, list(given.unreadable))
    check_units(given.table, given.stated)
    return given.table.reset_index(drop=True)


@known_keywords
def read_csv(
    path: Any, *, columns: Mapping[str, str] | None = None, inputs: Any = None, name: str | None = None
) -> Runs:
    """Read runs from a file; `read` has replaced this function."""
    return read(path, columns=columns, inputs=inputs, name=name)
