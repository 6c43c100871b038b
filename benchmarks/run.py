"""Run: score methods on problems, one row a held-out run, in files that survive being interrupted.

    bayescale benchmark run --method bayescale --source finetune_rectified

Each method writes its own JSONL file. All rows of one problem are appended in one write; a problem whose rows are not
all there when a run begins (the power went, the process was killed) is cut away and done again, so that no row is
lost or doubled. Problems that are done are not done again, be their rows in the JSONL file or in its compressed copy.
"""

from __future__ import annotations

import contextlib
import json
import lzma
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bayescale import _io
from bayescale.errors import InputError, nearest
from bayescale.evaluate import scores
from bayescale.evaluate.backtest import QUANTILES
from bayescale.fitting.fit import progress_bar
from bayescale.forecast import mixture_quantile
from benchmarks.methods import METHODS, PARTIAL, Prediction, conformal
from benchmarks.problems import Problem

RESULTS = Path(__file__).parent / "results"


def slug(name: str) -> str:
    """File name of a method."""
    return name.replace(",", "").replace(" ", "-")


def rows_of(problem: Problem, method: str, prediction: Prediction) -> list[dict[str, Any]]:
    """Score one problem's forecasts: a row for each held-out run."""
    y = problem.held["loss"].to_numpy(float)
    log_y, location, spread = np.log(y), prediction.location, prediction.scale
    quantiles = np.exp(mixture_quantile(np.array(QUANTILES), location, spread))
    pit = scores.pit(log_y, location, spread)
    crps = scores.crps(log_y, location, spread)
    density = scores.log_score(log_y, location, spread)
    ratio, rises = problem.ratio, problem.rises
    return [
        {
            "key": problem.key,
            "source": problem.source,
            "family": problem.family,
            "metric": problem.metric,
            "group": problem.group,
            "split": problem.split,
            "method": method,
            "ratio": short(ratio[i]),
            "n_train": len(problem.train),
            "row": i,
            "rows": len(y),
            "y": short(y[i], 8),
            **{f"q{q:g}": short(value, 6) for q, value in zip(QUANTILES, quantiles[:, i], strict=True)},
            "pit": short(pit[i]),
            "crps": short(crps[i]),
            "log_score": short(density[i]),
            "width": short(np.log(quantiles[-1, i] / quantiles[0, i])),
            "status": prediction.status,
            "seconds": short(prediction.seconds, 3),
            "notes": ",".join(prediction.notes),
            "rises": rises,
        }
        for i in range(len(y))
    ]


def short(value: float, digits: int = 5) -> float | None:
    """Round to significant digits; what is not finite has no place in JSON and becomes null."""
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None


def read(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a JSONL file, compressed or not, up to a line that was cut off."""
    if not path.exists():
        return []
    rows = []
    with lzma.open(path, "rb") if path.suffix == ".xz" else path.open("rb") as file:
        for line in file:
            # A line that was cut off is no JSON, and may end within a character.
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
    return rows


def whole(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the problems that are complete, each once."""
    groups: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["key"], {})[row["row"]] = row
    return [row for rows in groups.values() if len(rows) == next(iter(rows.values()))["rows"] for row in rows.values()]


def stored(method: str, folder: Path = RESULTS) -> list[dict[str, Any]]:
    """Complete rows of a method: those of its JSONL file, and of the compressed copy where problems are missing."""
    path = folder / f"{slug(method)}.jsonl"
    rows = whole(read(path))
    done = {row["key"] for row in rows}
    return rows + [row for row in whole(read(path.with_suffix(".jsonl.xz"))) if row["key"] not in done]


def replace(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a JSONL file, compressed or not, completely or not at all."""
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    _io.write(path, lambda part: part.write_bytes(lzma.compress(lines, preset=9) if path.suffix == ".xz" else lines))


def append(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Append rows in one write, and wait until they are on the disk."""
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))
        file.flush()
        os.fsync(file.fileno())


def run(
    method: str,
    chosen: Sequence[Problem],
    folder: Path = RESULTS,
    *,
    again: bool = False,
    progress: bool | None = None,
) -> Path:
    """Score a method on problems, continuing where an earlier run stopped.

    Args:
        method: A name in `METHODS`.
        chosen: The problems.
        folder: Where the JSONL file of the method lies or will lie.
        again: Forget what is there, compressed or not, and begin anew.
        progress: Show a bar; by default only on a terminal.

    Returns:
        The JSONL file.

    Raises:
        InputError: For an unknown method.
    """
    if method not in METHODS:
        raise InputError(f"There is no method {method!r}. {nearest(method, METHODS)}")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{slug(method)}.jsonl"
    if again:
        for old in (path, path.with_suffix(".jsonl.xz")):
            old.unlink(missing_ok=True)
    kept = stored(method, folder)
    if kept or path.exists():
        replace(path, kept)
    done = {row["key"] for row in kept}
    suited = PARTIAL.get(method, lambda problem: True)
    todo = [problem for problem in chosen if problem.key not in done and suited(problem)]
    # Closed, so that samplers working ahead stop when this is interrupted.
    found = contextlib.closing(predictions(method, todo, chosen))
    with progress_bar(len(todo), progress) as advance, found as pairs:
        for problem, prediction in pairs:
            append(path, rows_of(problem, method, prediction))
            advance(1)
    return path


def predictions(
    method: str, todo: Sequence[Problem], chosen: Sequence[Problem]
) -> Iterator[tuple[Problem, Prediction]]:
    """Predict problems, one after the other; the conformal method needs all of them at once."""
    if METHODS[method] is conformal and todo:
        wanted = {problem.key for problem in todo}
        yield from (pair for pair in zip(chosen, conformal(chosen), strict=True) if pair[0].key in wanted)
    else:
        yield from zip(todo, METHODS[method](todo), strict=True)


def pack(folder: Path = RESULTS) -> list[Path]:
    """Compress the JSONL file of each method that has one, for the repository."""
    packed = []
    for method in METHODS:
        path = folder / f"{slug(method)}.jsonl"
        if path.exists():
            packed.append(path.with_suffix(".jsonl.xz"))
            replace(packed[-1], stored(method, folder))
    return packed


if __name__ == "__main__":
    # One command line, that of the package, is enough.
    from bayescale.cli.main import main

    sys.argv[1:1] = ["benchmark", "run"]
    main()
