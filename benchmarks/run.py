"""Run: score methods on problems, one row a held-out run, in files that survive being interrupted.

    python -m benchmarks.run --method bayescale --source finetune_rectified

Each method writes its own JSONL file. All rows of one problem are appended in one write; a problem whose rows are not
all there when a run begins (the power went, the process was killed) is cut away and done again, so that no row is
lost or doubled. Problems that are done are not done again.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bayescale import scores
from bayescale.backtesting import QUANTILES
from bayescale.errors import InputError, nearest
from bayescale.fitting import progress_bar
from bayescale.forecast import mixture_quantile
from benchmarks.methods import METHODS, Prediction, conformal
from benchmarks.problems import SOURCES, Problem, problems

RESULTS = Path(__file__).parent / "results"
CHUNK = 20
"""Problems between two writes."""


def slug(name: str) -> str:
    """File name of a method."""
    return name.replace(" ", "-")


def rows_of(problem: Problem, method: str, prediction: Prediction) -> list[dict[str, Any]]:
    """Score one problem's forecasts: a row for each held-out run."""
    y = problem.held["loss"].to_numpy(float)
    log_y, location, spread = np.log(y), prediction.location, prediction.scale
    quantiles = np.exp(mixture_quantile(np.array(QUANTILES), location, spread))
    pit = scores.pit(log_y, location, spread)
    crps = scores.crps(log_y, location, spread)
    density = scores.log_score(log_y, location, spread)
    ratio = problem.ratio
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
    with lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8") as file:
        for line in file:
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return rows


def whole(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the problems that are complete, each once."""
    groups: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["key"], {})[row["row"]] = row
    return [row for rows in groups.values() if len(rows) == next(iter(rows.values()))["rows"] for row in rows.values()]


def replace(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a JSONL file completely or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with part.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    os.replace(part, path)


def append(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Append rows in one write, and wait until they are on the disk."""
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))
        file.flush()
        os.fsync(file.fileno())


def run(method: str, chosen: Sequence[Problem], folder: Path = RESULTS, *, progress: bool | None = None) -> Path:
    """Score a method on problems, continuing where an earlier run stopped.

    Args:
        method: A name in `METHODS`.
        chosen: The problems.
        folder: Where the JSONL file of the method lies or will lie.
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
    kept = whole(read(path))
    if path.exists():
        replace(path, kept)
    done = {row["key"] for row in kept}
    todo = [problem for problem in chosen if problem.key not in done]
    with progress_bar(len(todo), progress) as advance:
        for part in parts(method, todo, chosen):
            append(path, [row for problem, prediction in part for row in rows_of(problem, method, prediction)])
            advance(len(part))
    return path


def parts(
    method: str, todo: Sequence[Problem], chosen: Sequence[Problem]
) -> Iterator[list[tuple[Problem, Prediction]]]:
    """Predict problems a few at a time; the conformal method needs all of them at once."""
    if METHODS[method] is conformal and todo:
        wanted = {problem.key for problem in todo}
        both = zip(chosen, conformal(chosen), strict=True)
        yield [(problem, prediction) for problem, prediction in both if problem.key in wanted]
        return
    for first in range(0, len(todo), CHUNK):
        some = todo[first : first + CHUNK]
        yield list(zip(some, METHODS[method](some), strict=True))


def pack(folder: Path = RESULTS) -> list[Path]:
    """Compress every JSONL file of a folder, for the repository."""
    packed = []
    for path in sorted(folder.glob("*.jsonl")):
        target = path.with_suffix(".jsonl.xz")
        with lzma.open(target, "wt", encoding="utf-8", preset=9) as file:
            file.writelines(json.dumps(row) + "\n" for row in whole(read(path)))
        packed.append(target)
    return packed


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", action="append", choices=list(METHODS), help="repeatable; all by default")
    parser.add_argument("--source", action="append", choices=list(SOURCES), help="repeatable; all by default")
    parser.add_argument("--every", type=int, default=1, help="score every so manieth problem only")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSONL files")
    parser.add_argument("--pack", action="store_true", help="compress the JSONL files of the folder and stop")
    options = parser.parse_args()
    if options.pack:
        print(*pack(options.out), sep="\n")
        return
    chosen = problems(options.source)[:: options.every]
    print(f"{len(chosen)} problems", file=sys.stderr)
    for method in options.method or METHODS:
        print(run(method, chosen, options.out))


if __name__ == "__main__":
    main()
