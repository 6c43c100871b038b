"""Store: scored rows on disk, as a journal that a run appends to and as compact columns for the repository.

A journal is a JSONL file, one row a held-out run. All rows of one problem are appended in one write; a problem whose
rows are not all there (the power went, the process was killed) does not count, so that no row is lost or doubled.

`pack` turns journals into Parquet files: `problems.parquet` holds what every method was asked, once, and
`METHOD.parquet` what a method answered. Scores keep every digit that a run writes (five). Quantiles are written as
distances from the median in widths of the 95 % interval, rounded to a two-thousandth, and the median as its distance
from the outcome, rounded to a ten-thousandth. Twelve methods on up to 51,000 held-out runs take a third of what their
text took, compressed. A problem keeps its number, so a method that is scored again changes its own file only.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from bayescale import _io
from bayescale.evaluate.backtest import QUANTILES

RESULTS = Path(__file__).parents[1] / "results"
NAMED = ("source", "family", "metric", "group", "split")
"""Columns that a problem's name is made of."""
ASKED = (*NAMED, "n_train", "rises", "y", "ratio")
"""Columns of `problems.parquet`, beside the number of the problem; a problem's rows are in order."""
SAME = ("key", "n_train", "y", "ratio")
"""Columns that tell a problem from an earlier one of the same name."""
ANSWERED = ("status", "seconds", "notes")
"""Columns of a method that are written as they are."""
LEVELS = tuple(f"q{level:g}" for level in QUANTILES)
LOW, MIDDLE, HIGH = LEVELS[0], LEVELS[len(LEVELS) // 2], LEVELS[-1]
FURTHEST = 690.0
"""Ln of the largest number that a quantile may be; what lies beyond is zero, or no number."""
NARROWEST = 1e-4
"""Widths below count as this one where quantiles are written in widths."""
MISSING = np.iinfo(np.int32).min
"""Stands for what is no number."""


@dataclasses.dataclass(frozen=True)
class Decimal:
    """Numbers of so many significant digits as whole numbers in the same order: exponent, then digits.

    Attributes:
        digits: Significant digits.
        least: Exponent of ten of the smallest positive number; smaller ones become zero.
    """

    digits: int
    least: int

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Turn numbers into whole numbers; zero is zero, and negative numbers are negative."""
        size = np.where(np.isfinite(values), np.abs(values), 0.0)
        with np.errstate(divide="ignore"):
            power = np.floor(np.log10(size))
        power = np.maximum(np.where(size > 0.0, power, self.least), self.least)
        ten = 10 ** (self.digits - 1)
        figures = np.round(size * 10.0 ** (self.digits - 1 - power))
        # 99999.7 is 1.00000e5, and a logarithm may be rounded down.
        power, figures = np.where(figures >= 10 * ten, power + 1, power), np.where(figures >= 10 * ten, ten, figures)
        codes = np.where(figures < ten, 0, 1 + (power - self.least) * 9 * ten + figures - ten)
        return np.where(np.isfinite(values), np.sign(values) * codes, MISSING).astype(np.int32)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Turn whole numbers back into numbers."""
        ten = 10 ** (self.digits - 1)
        places = np.where(codes == MISSING, 0, np.abs(codes.astype(np.int64)))
        power, figures = np.divmod(np.maximum(places - 1, 0), 9 * ten)
        shift = power + self.least - self.digits + 1
        # Divided by a power of ten a number is the float of its decimals; multiplied by one it need not be.
        size = np.where(shift < 0, (figures + ten) / 10.0 ** np.maximum(-shift, 0), (figures + ten) * 10.0**shift)
        return np.where(codes == MISSING, np.nan, np.where(codes == 0, 0.0, np.sign(codes) * size))


@dataclasses.dataclass(frozen=True)
class Rounded:
    """Numbers as multiples of a step.

    Attributes:
        step: Width of a step.
    """

    step: float

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Turn numbers into whole numbers."""
        codes = np.clip(np.round(values / self.step), MISSING + 1, -MISSING - 1)
        return np.where(np.isnan(codes), MISSING, codes).astype(np.int32)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Turn whole numbers back into numbers."""
        return np.where(codes == MISSING, np.nan, codes * self.step)


PROBLEMS = {"y": Decimal(8, -9), "ratio": Decimal(5, -9)}
"""Codings of numbers in `problems.parquet`."""
ANSWERS: dict[str, Decimal | Rounded] = {
    "pit": Decimal(5, -100),
    "crps": Decimal(5, -20),
    "log_score": Decimal(5, -20),
    "width": Decimal(5, -20),
    "miss": Rounded(1e-4),
    **{level: Rounded(5e-4) for level in LEVELS if level not in (MIDDLE, HIGH)},
}
"""Codings of the numbers of a method: `miss` is ln(y / median), quantiles are ln(quantile / median), both in widths."""


# --- Journals ------------------------------------------------------------------------------------------------


def slug(name: str) -> str:
    """File name of a method."""
    return name.replace(",", "").replace(" ", "-")


def journal(method: str, folder: Path = RESULTS) -> Path:
    """Path of the journal of a method."""
    return folder / f"{slug(method)}.jsonl"


def short(value: float, digits: int = 5) -> float | None:
    """Round to significant digits; what is not finite has no place in JSON and becomes null."""
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a journal, up to a line that was cut off."""
    rows = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        # A line that was cut off is no JSON, and may end within a character.
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def whole(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the problems that are complete, each once."""
    groups: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["key"], {})[row["row"]] = row
    return [row for rows in groups.values() if len(rows) == next(iter(rows.values()))["rows"] for row in rows.values()]


def replace(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a journal completely or not at all."""
    _io.write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def append(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Append rows in one write, and wait until they are on the disk."""
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))
        file.flush()
        os.fsync(file.fileno())


# --- Any rows as a Parquet file ------------------------------------------------------------------------------


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write rows of any columns, lists and mappings among them, completely or not at all."""
    return write_table(path, pa.Table.from_pylist(list(rows)))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read what `write_rows` wrote; no rows where there is no file."""
    return parquet.read_table(path).to_pylist() if path.exists() else []


def write_table(path: Path, table: pa.Table, **options: Any) -> Path:
    """Write a Parquet file completely or not at all."""
    options = {"compression": "zstd", "compression_level": 19, "write_statistics": False, **options}
    return _io.write(path, lambda part: parquet.write_table(table, part, **options))


# --- Rows of the calibration benchmark -----------------------------------------------------------------------


def packed(method: str, folder: Path = RESULTS) -> Path:
    """Path of the Parquet file of a method."""
    return folder / f"{slug(method)}.parquet"


def stored(method: str, folder: Path = RESULTS) -> pd.DataFrame:
    """Read the complete rows of a method: those of its journal, and packed ones of problems that it lacks.

    Args:
        method: Name of the method.
        folder: Where its files lie.

    Returns:
        A row a held-out run with the columns that `run.rows_of` makes; without any columns where there are no rows.
    """
    fresh = pd.DataFrame(whole(read_journal(journal(method, folder))))
    path = packed(method, folder)
    if not path.exists():
        return fresh
    old = unpack(parquet.read_table(path), problems(folder))
    if len(fresh):
        old = old[~old["key"].isin(fresh["key"])]
    return pd.concat([fresh, old], ignore_index=True) if len(fresh) and len(old) else (fresh if len(fresh) else old)


def keys(method: str, folder: Path = RESULTS) -> set[str]:
    """Names of the problems that a method has complete rows of."""
    rows = stored(method, folder)
    return set(rows["key"]) if len(rows) else set()


def problems(folder: Path = RESULTS) -> pd.DataFrame:
    """Read the problems of a folder: a row a held-out run, with the number of its problem."""
    path = folder / "problems.parquet"
    if not path.exists():
        return pd.DataFrame(columns=["problem", "key", "row", "rows", *ASKED])
    table = parquet.read_table(path).to_pandas()
    table = table.assign(**{name: coding.decode(table[name].to_numpy()) for name, coding in PROBLEMS.items()})
    names = {name: table[name].astype(str) for name in NAMED}
    grouped = table.groupby("problem")["y"]
    counts = {"row": grouped.cumcount(), "rows": grouped.transform("size")}
    return table.assign(**names, key=functools.reduce(lambda a, b: a + "|" + b, names.values()), **counts)


def pack(methods: Iterable[str], folder: Path = RESULTS) -> list[Path]:
    """Pack the journal of each method that has one.

    Args:
        methods: Names of methods.
        folder: Where their files lie.

    Returns:
        The Parquet files of these methods.
    """
    written = []
    for method in methods:
        rows, path = pd.DataFrame(whole(read_journal(journal(method, folder)))), packed(method, folder)
        if not len(rows):
            continue
        known = problems(folder)
        numbers, everything = numbered(rows, known)
        if len(everything) > len(known) or not everything["rises"].equals(known["rises"]):
            write_problems(folder / "problems.parquet", everything)
        table = answers(rows, numbers, method)
        if path.exists():
            # What was packed before stays as it is, but for problems that were scored again.
            old = parquet.read_table(path)
            names = everything.drop_duplicates("problem").set_index("problem")["key"]
            stays = ~names[old["problem"].to_numpy()].isin(rows["key"]).to_numpy()
            # Text may have been written as another type of string.
            old = old.filter(pa.array(stays)).cast(table.schema)
            table = pa.concat_tables([old, table]).unify_dictionaries()
        whole_numbers = [name for name in table.column_names if name in ANSWERS]
        split = {"problem": "DELTA_BINARY_PACKED", **dict.fromkeys(whole_numbers, "BYTE_STREAM_SPLIT")}
        words = [name for name in table.column_names if name not in split]
        write_table(path, table.combine_chunks(), use_dictionary=words, column_encoding=split)
        written.append(path)
    return written


def write_problems(path: Path, everything: pd.DataFrame) -> Path:
    """Write all problems, a row a held-out run."""
    codes = {name: coding.encode(everything[name].to_numpy(float)) for name, coding in PROBLEMS.items()}
    table = pa.Table.from_pandas(everything[["problem", *ASKED]].assign(**codes), preserve_index=False)
    split = {"problem": "DELTA_BINARY_PACKED", **dict.fromkeys(PROBLEMS, "BYTE_STREAM_SPLIT")}
    words = [name for name in table.column_names if name not in split]
    return write_table(path, table.replace_schema_metadata(None), use_dictionary=words, column_encoding=split)


def numbered(rows: pd.DataFrame, known: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame]:
    """Number the problem of each row, and add new problems to those that are known.

    Args:
        rows: Rows of one method, those of a problem together.
        known: Problems as `problems` reads them.

    Returns:
        The number of each row's problem, and all problems, earlier ones in their place.
    """
    number: dict[tuple[Any, ...], int] = {}
    if len(known):
        number = dict(zip(signatures(known), known["problem"].drop_duplicates().tolist(), strict=True))
    fresh, found = [], []
    for signature, (_, part) in zip(signatures(rows), rows.groupby("key", sort=False), strict=True):
        if signature not in number:
            number[signature] = len(number)
            fresh.append(part.reindex(columns=["key", *ASKED]).assign(problem=number[signature]))
        found += [number[signature]] * len(part)
    everything = pd.concat([known, *fresh], ignore_index=True) if fresh else known
    # Rows of an older run may not say whether the curve rises; then those of another method do.
    says = pd.Series(rows["rises"].to_numpy(object) if "rises" in rows else None, index=found, dtype=object).dropna()
    says = says[~says.index.duplicated()]
    rises = everything["rises"].astype(object)
    rises = rises.where(rises.notna(), everything["problem"].map(says))
    order = everything.assign(rises=rises.where(rises.notna(), None)).astype({"problem": np.int32})
    return np.asarray(found, np.int32), order


def signatures(rows: pd.DataFrame) -> list[tuple[Any, ...]]:
    """What tells each problem from all others: its name, its held-out runs, and how many runs were fitted."""
    by = "problem" if "problem" in rows else "key"
    parts = [rows[name].to_numpy() for name in SAME]
    starts = np.flatnonzero(rows[by].to_numpy() != rows[by].shift().to_numpy())
    ends = np.append(starts[1:], len(rows))
    return [
        (parts[0][a], *(tuple(part[a:b].tolist()) for part in parts[1:])) for a, b in zip(starts, ends, strict=True)
    ]


def answers(rows: pd.DataFrame, numbers: np.ndarray, method: str) -> pa.Table:
    """Return what a method answered as it is packed.

    Args:
        rows: Rows of one method.
        numbers: Number of the problem of each row.
        method: Name of the method.
    """
    logs = {name: log_quantile(rows[name]) for name in LEVELS}
    given = rows["width"].astype(float).to_numpy()
    # Where even the highest quantile is zero, or the lowest infinite, there is no width.
    width = np.where(np.isfinite(given), given, np.where(logs[HIGH] > logs[LOW], logs[HIGH] - logs[LOW], np.nan))
    scale = scale_of(ANSWERS["width"].decode(ANSWERS["width"].encode(width)))
    values = {name: rows[name].astype(float).to_numpy() for name in ("pit", "crps", "log_score")}
    values |= {"width": width, "miss": (np.log(rows["y"].to_numpy(float)) - logs[MIDDLE]) / scale}
    values |= {name: (logs[name] - logs[MIDDLE]) / scale for name in ANSWERS if name in logs}
    columns = {"problem": pa.array(numbers)}
    columns |= {name: pa.array(rows[name], pa.string()).dictionary_encode() for name in ("status", "notes")}
    columns |= {"seconds": pa.array(rows["seconds"].to_numpy(np.float32))}
    columns |= {name: pa.array(coding.encode(values[name])) for name, coding in ANSWERS.items()}
    return pa.table(columns).replace_schema_metadata({"method": method})


def unpack(table: pa.Table, asked: pd.DataFrame) -> pd.DataFrame:
    """Turn what `answers` packed into rows.

    Args:
        table: The file of a method.
        asked: Problems as `problems` reads them.
    """
    values = {name: coding.decode(table[name].to_numpy()) for name, coding in ANSWERS.items()}
    numbers = table["problem"].to_numpy()
    starts = asked.groupby("problem").indices
    first = np.flatnonzero(np.diff(numbers, prepend=-1))
    rows = asked.iloc[np.concatenate([starts[number] for number in numbers[first]])].reset_index(drop=True)
    method = (table.schema.metadata or {})[b"method"].decode()
    width, scale = values["width"], scale_of(values["width"])
    away = {name: values[name] * scale for name in LEVELS if name in values}
    away |= {MIDDLE: np.zeros(len(rows)), HIGH: away[LOW] + np.nan_to_num(width)}
    middle = np.log(rows["y"].to_numpy(float)) - values["miss"] * scale
    quantiles = {name: quantile(middle + away[name]) for name in LEVELS}
    finite = np.isfinite(quantiles[HIGH]) & (quantiles[LOW] > 0.0)
    scores = {name: values[name] for name in ("pit", "crps", "log_score")}
    scores |= {"width": np.where(finite, width, np.nan)}
    rest = {name: table[name].to_pandas() for name in ANSWERED}
    rest["seconds"] = np.array([float(f"{value:.3g}") for value in rest["seconds"]])
    return rows.drop(columns="problem").assign(method=method, **quantiles, **scores, **rest)


def scale_of(width: np.ndarray) -> np.ndarray:
    """Unit in which distances from the median are written."""
    return np.where(np.isfinite(width), np.maximum(width, NARROWEST), 1.0)


def log_quantile(values: pd.Series) -> np.ndarray:
    """Ln of quantiles, within bounds; what is no number was infinite."""
    given = values.astype(float).fillna(np.inf).to_numpy()
    return np.clip(np.log(np.clip(given, 1e-320, 1e308)), -FURTHEST, FURTHEST)


def quantile(logs: np.ndarray) -> np.ndarray:
    """Quantiles from their logarithms; zero and no number at the bounds."""
    values = six_digits(np.exp(np.clip(logs, -FURTHEST, FURTHEST)))
    # A step of the coding is far smaller than what is left to the bounds.
    return np.where(logs <= 1.0 - FURTHEST, 0.0, np.where(logs >= FURTHEST - 1.0, np.nan, values))


def six_digits(values: np.ndarray) -> np.ndarray:
    """Round to the six digits that a run writes of a quantile."""
    power = np.floor(np.log10(values)) - 5.0
    # Divided by a power of ten a number is the float of its decimals; multiplied by one it need not be.
    small = np.round(values * 10.0**-power) / 10.0 ** np.maximum(-power, 0.0)
    return np.where(power < 0.0, small, np.round(values / 10.0**power) * 10.0**power)
