"""Folders of runs: one file per run, with its scale in columns or in the file's name."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from bayescale.data.cells import SUFFIXES, missing, read_column
from bayescale.data.columns import headings
from bayescale.data.formats.table import Table
from bayescale.data.log import LogEntry
from bayescale.errors import InputError, counted, some

SUFFIX_LIST = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".parquet", ".pq", ".md", ".gz")
"""Suffixes of files that may hold runs."""
PROSE = (".txt", ".md")
CHINCHILLA = 20.0
"""Tokens per parameter that a Chinchilla multiple of 1 stands for, as in 5xC."""
_SIZE = re.compile(
    r"(?<![A-Za-z0-9.])[ND]?(\d+(?:\.\d+)?)([KMBT])(?:T|tok|tokens|params?)?(?![A-Za-z0-9])", re.IGNORECASE
)
_MULTIPLE = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)xC?(?![A-Za-z0-9])", re.IGNORECASE)
_SEED = re.compile(r"(?<![A-Za-z0-9])seed[-_=]?(\d+)(?![A-Za-z0-9])", re.IGNORECASE)


def read_folder(folder: Path, load: Callable[[Path], Table], *, checkpoints: bool = False) -> Table:
    """Read a folder with one file per run; a model size in a file name, such as 70M, becomes a column.

    Args:
        folder: The folder; the files are in it, or each in its own subfolder.
        load: Function that reads one file.
        checkpoints: Keep every row of a run; by default only the last one.

    Raises:
        InputError: If there are no files, or if some file names give a model size and others do not.
    """
    files, aside = run_files(folder)
    if not files:
        raise InputError(f"{folder} is a folder without tables; one file per run is expected: {some(SUFFIX_LIST)}.")
    parts: dict[str, pd.DataFrame] = {}
    for name, paths in files.items():
        frames = {path.name: load(path).frame for path in paths}
        histories = {file: frame for file, frame in frames.items() if len(frame) > 1}
        if len(histories) > 1:
            parts |= {f"{name}/{file}": frame for file, frame in frames.items()}
            continue
        # Settings or results of a run may be in other files beside its history.
        whole = next(iter(histories.values()), next(iter(frames.values())))
        for frame in frames.values():
            if frame is not whole:
                new = [column for column in frame if column not in whole]
                whole = whole.assign(**{column: frame[column].iloc[0] for column in new})
        parts[name] = whole
    table = join_runs(parts, folder.resolve().name, checkpoints)
    read = [str(path.relative_to(folder)) for paths in files.values() for path in paths]
    text = f"Read {counted(len(read), 'file')} of the folder: {some(read)}"
    text += f"; not read: {some(aside)}." if aside else "."
    return dataclasses.replace(table, log=(LogEntry("folder", "info", text), *table.log))


def join_runs(parts: dict[str, pd.DataFrame], title: str, checkpoints: bool) -> Table:
    """Join the tables of runs, with the last row or all rows of each.

    Args:
        parts: Rows of each run, by its name.
        title: Name of all runs together.
        checkpoints: Keep every row, also those of a single run, which is a curve.
    """
    log: list[LogEntry] = []
    many = {name for name, frame in parts.items() if len(frame) > 1}
    scales = [own_scales(frame) for frame in parts.values()]
    # A folder may contain one table, or several, whose rows are runs.
    tables = many and all(len(scale) and len(np.unique(scale, axis=0)) > 1 for scale in scales)
    fractions = {name: np.ones(len(frame)) for name, frame in parts.items()}
    if many and not tables and len(parts) > 1:
        left = 0
        for name in many:
            frame, fraction = final_row(parts[name])
            left += 0 if checkpoints else len(parts[name]) - len(frame)
            parts[name], fractions[name] = (parts[name], fraction) if checkpoints else (frame, np.ones(len(frame)))
        if left:
            text = (
                f"Only the last row of each of {len(parts)} runs is used. {left} earlier checkpoints, at different "
                "fractions of their schedules, are left out; checkpoints=True (--checkpoints) keeps them."
            )
            log.append(LogEntry("checkpoints", "excluded", text))
    known = {found.role for frame in parts.values() for found in headings(frame.columns).values()}
    named = {} if tables else {name: sizes_of(name) for name in parts}
    from_name = "n_params" not in known and any("n_params" in size for size in named.values())
    if from_name:
        log += from_names(parts, named, fractions, known)
    joined = [frame.assign(**({} if "run" in known or tables else {"run": name})) for name, frame in parts.items()]
    rest = {name: size.get("rest", "") for name, size in named.items()} if from_name else {}
    if len(set(rest.values())) > 1:
        joined = [frame.assign(**{"file label": rest[name]}) for frame, name in zip(joined, parts, strict=True)]
    whole = pd.concat(joined, ignore_index=True).astype(object)
    whole.index = pd.RangeIndex(1, len(whole) + 1)
    return Table(whole, title, tuple(log))


def run_files(folder: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """Return the files of a folder that hold runs: data files, and text files only if there are no others.

    Args:
        folder: The folder; the files are in it, or else in its subfolders.

    Returns:
        Files of each run by its name, which is that of the files or of their subfolder; and the names of the other
            files there, which are not read.
    """
    directories = [folder, *(path for path in visible(folder) if path.is_dir())]
    present = {directory: [path for path in visible(directory) if path.is_file()] for directory in directories}
    tables = {directory: [p for p in files if p.suffix.lower() in SUFFIX_LIST] for directory, files in present.items()}

    def chosen(wanted: Callable[[Path], bool]) -> dict[Path, list[Path]]:
        """Return wanted files in the folder itself, or else those in its subfolders."""
        found = {directory: files for directory, own in tables.items() if (files := [p for p in own if wanted(p)])}
        return {folder: found[folder]} if folder in found else found

    # A text file beside tables is a note.
    found = (
        chosen(lambda p: p.suffix.lower() not in PROSE)
        or chosen(lambda p: "readme" not in p.name.lower())
        or chosen(lambda p: True)
    )
    files: dict[str, list[Path]] = {}
    for directory, own in found.items():
        for path in own:
            files.setdefault(stem(path) if directory == folder else directory.name, []).append(path)
    read = {path for own in files.values() for path in own}
    entered = {path.parent for path in read}
    aside = [f"{directory.name}/" for directory in directories[1:] if directory not in entered and present[directory]]
    for directory in (folder, *(directory for directory in directories[1:] if directory in entered)):
        aside += [str(path.relative_to(folder)) for path in present[directory] if path not in read]
    return files, sorted(aside)


def visible(directory: Path) -> list[Path]:
    """Return the entries of a folder except hidden files, in order."""
    return sorted(path for path in directory.iterdir() if not path.name.startswith("."))


def stem(path: Path) -> str:
    """Return the name of a file without suffixes; the end of a number such as 1.3B is not a suffix."""
    return next(
        (path.name[: -len(end)] for end in (".csv.gz", *SUFFIX_LIST) if path.name.lower().endswith(end)), path.stem
    )


def own_scales(frame: pd.DataFrame) -> np.ndarray:
    """Return the parameters of each row of a file, shape (row, column); empty without such a column."""
    columns = [name for name, found in headings(frame.columns).items() if found.role in ("n_params", "flops")]
    return np.array([read_column(frame[name].tolist(), compute=True).values for name in columns]).T


def final_row(frame: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the last row of a run that has a response, and the fraction of training that each row has reached."""
    found = headings(frame.columns)
    responses = [name for name, h in found.items() if h.role in ("loss", "train_loss")]
    measured = [not responses or any(not missing(v) for v in row) for row in frame[responses].to_numpy(object)]
    along = next((name for role in ("step", "n_tokens") for name, h in found.items() if h.role == role), None)
    progress = np.arange(1.0, len(frame) + 1) if along is None else read_column(frame[along].tolist()).values
    progress = np.where(np.array(measured) & np.isfinite(progress), progress, -np.inf)
    last = int(np.argmax(progress))
    with np.errstate(invalid="ignore", divide="ignore"):
        fraction = np.where(np.isfinite(progress), progress, np.nan) / progress[last]
    return frame.iloc[[last]], fraction


def sizes_of(name: str) -> dict[str, object]:
    """Return parameters, tokens and seed that a name such as ``190M-5xC-seed2`` contains, and the rest of the name."""
    found: dict[str, object] = {}
    sizes = [float(number) * SUFFIXES[suffix.lower()] for number, suffix in _SIZE.findall(name)]
    multiples = [float(number) for number in _MULTIPLE.findall(name)]
    if sizes:
        found["n_params"] = sizes[0]
    if len(sizes) > 1:
        found["n_tokens"] = sizes[1]
    elif sizes and multiples:
        found["n_tokens"] = CHINCHILLA * multiples[0] * sizes[0]
    if seed := _SEED.search(name):
        found["seed"] = int(seed[1])
    rest = _SEED.sub("", _MULTIPLE.sub("", _SIZE.sub("", name)))
    return {**found, "rest": re.sub(r"[^A-Za-z0-9]+", " ", rest).strip()}


def from_names(
    parts: dict[str, pd.DataFrame],
    named: Mapping[str, Mapping[str, object]],
    fractions: Mapping[str, np.ndarray],
    known: set[str],
) -> list[LogEntry]:
    """Add the values that file names contain as columns, and return log entries about them."""
    added = [
        role
        for role in ("n_params", "n_tokens", "seed")
        if role not in known and any(role in s for s in named.values())
    ]
    for role in added:
        lacking = [name for name, size in named.items() if role not in size]
        if lacking and role == "n_params":
            raise InputError(
                f"The file names of some runs contain the model size, but not those of {some(lacking)}. Rename these "
                "files like 190M-5xC.csv, or move them elsewhere."
            )
    for name, frame in parts.items():
        values = {role: named[name].get(role) for role in added}
        columns = {
            r: (fractions[name] * v if r == "n_tokens" and isinstance(v, float) else v) for r, v in values.items()
        }
        parts[name] = frame.assign(**columns)
    first = next(iter(named))
    told = ", ".join(f"{role} = {named[first].get(role):g}" for role in added if named[first].get(role) is not None)
    multiple = f" (1xC is {CHINCHILLA:g} tokens per parameter)" if _MULTIPLE.search(first) else ""
    return [LogEntry("recognised", "info", f"Read from file names, e.g. {first}: {told}{multiple}.")]
