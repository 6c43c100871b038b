"""Wide tables: charts of trackers with one row per step and one column per run, and tables with one column per seed."""

from __future__ import annotations

import dataclasses
import re

import pandas as pd

from bayescale.data.cells import missing, read_column
from bayescale.data.columns import heading
from bayescale.data.formats.table import Table
from bayescale.data.log import LogEntry
from bayescale.errors import InputError, counted, some

AXES = re.compile(
    r"^(_?step|global_?step|trainer/global_step|relative time.*|wall time|epoch|.*tokens.*)$", re.IGNORECASE
)
_SEED = re.compile(r"^(?P<stem>.*?)[\s_./(-]*seed[\s_=-]*(?P<seed>\d+)\)?$", re.IGNORECASE)
_SERIES = re.compile(r"^(?P<run>.+) - (?P<metric>.+?)(?P<bound>__MIN|__MAX)?$")


def is_chart(table: Table) -> bool:
    """Return whether a table has one column per run: first the axis, then columns named `name - metric`."""
    columns = [str(column) for column in table.frame.columns]
    series = [_SERIES.match(column) for column in columns[1:]]
    return len(columns) > 1 and bool(AXES.match(columns[0].strip())) and all(series)


def melted(table: Table, label: str, metric: str | None = None) -> Table:
    """Convert a chart to a table with one row for each run and step.

    Args:
        table: The chart.
        label: Name of the file, for messages.
        metric: Metric to use, if the chart shows several.

    Raises:
        InputError: For several metrics if `metric` is None.
    """
    frame = table.frame
    axis = str(frame.columns[0])
    found = {str(column): _SERIES.match(str(column)) for column in frame.columns[1:]}
    main = {column: parts for column, parts in found.items() if parts and not parts["bound"]}
    metrics = list(dict.fromkeys(parts["metric"] for parts in main.values()))
    if metric is None and len(metrics) > 1:
        raise InputError(
            f"{label} shows {len(metrics)} metrics: {some(metrics)}; choose one with loss={metrics[0]!r} "
            f"(--loss {metrics[0]})."
        )
    if metric is not None and metric not in metrics:
        raise InputError(f"{label} shows no metric {metric!r}; it shows {some(metrics)}.")
    chosen = metric or metrics[0]
    kept: list[pd.DataFrame] = []
    for column, parts in main.items():
        if parts["metric"] != chosen:
            continue
        part = frame[[axis, column]].rename(columns={column: chosen})
        part = part[[not missing(value) for value in part[chosen]]]
        kept.append(part.assign(run=parts["run"], family=parts["run"]))
    rows = pd.concat(kept)
    log = [
        LogEntry(
            "chart", "info", f"A chart of {counted(len(kept), 'run')}: each run is a separate family, along {axis!r}."
        )
    ]
    bounds = [column for column, parts in found.items() if parts and parts["bound"]]
    if bounds:
        log.append(
            LogEntry(
                "unused",
                "info",
                f"Not used: {counted(len(bounds), 'column')} with minima or maxima over combined steps.",
            )
        )
    ours = heading(axis).role
    along = ours if ours in ("n_tokens", "step") else "step" if "step" in axis.lower() else axis
    start = (read_column(rows[axis].tolist()).values <= 0).nonzero()[0]
    if len(start):
        numbers = tuple(sorted({int(rows.index[i]) for i in start}))
        text = f"{axis} 0 is a baseline before training, not a scale: {counted(len(start), 'value')} left out."
        log.append(LogEntry("baseline", "excluded", text, numbers, (axis,)))
        rows = rows.drop(index=list(numbers))
    # A row of the chart holds values of several runs, so rows of the file no longer identify measurements.
    rows.index = pd.RangeIndex(1, len(rows) + 1)
    roles = {"loss": chosen, **({} if along == axis else {along: axis})}
    return dataclasses.replace(table, frame=rows, log=(*table.log, *log), inputs=(along,), roles=roles)


def by_seed(table: Table) -> Table:
    """Convert a table with one column of losses for each seed to one row per seed; return other tables unchanged."""
    frame = table.frame
    found = {str(column): parts for column in frame.columns if (parts := _SEED.match(str(column)))}
    stems = {parts["stem"] for parts in found.values()}
    if len(found) < 2 or len(stems) != 1:
        return table
    stem = stems.pop() or "loss"
    rest = [column for column in frame.columns if column not in found]
    if stem in rest or "seed" in rest or heading(stem).role not in ("loss", "train_loss"):
        return table
    parts = [
        frame[[*rest, column]].rename(columns={column: stem}).assign(seed=int(parts["seed"]))
        for column, parts in found.items()
    ]
    rows = pd.concat(parts).sort_index(kind="stable")
    rows = rows[[not missing(value) for value in rows[stem]]]
    rows.index = pd.RangeIndex(1, len(rows) + 1)
    text = f"Each of {len(found)} columns has {stem!r} of one seed: {len(frame)} rows became {len(rows)}, one per seed."
    return dataclasses.replace(
        table, frame=rows, log=(*table.log, LogEntry("seeds", "info", text, columns=tuple(found)))
    )
