"""Run: score methods on problems, one row a held-out run, in files that survive being interrupted.

    python -m benchmarks run --method bayescale --source finetune_rectified

Each method appends to its own journal (`store`), one row a held-out run. Problems that are done, in the journal or in
the packed file of the method, are not done again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bayescale.errors import InputError, nearest
from bayescale.evaluate import scores
from bayescale.evaluate.backtest import QUANTILES
from bayescale.fitting.fit import progress_bar
from bayescale.forecast import mixture_quantile
from benchmarks.core import store
from benchmarks.core.methods import METHODS, PARTIAL, Prediction, conformal
from benchmarks.core.problems import Problem
from benchmarks.core.store import RESULTS, short


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
        folder: Where the files of the method lie or will lie.
        again: Discard what is there, packed or not, and begin anew.
        progress: Show a bar; by default only on a terminal.

    Returns:
        The journal.

    Raises:
        InputError: For an unknown method.
    """
    if method not in METHODS:
        raise InputError(f"There is no method {method!r}. {nearest(method, METHODS)}")
    folder.mkdir(parents=True, exist_ok=True)
    path = store.journal(method, folder)
    if again:
        for old in (path, store.packed(method, folder)):
            old.unlink(missing_ok=True)
    if path.exists():
        # Without rows of problems that were cut off.
        store.replace(path, store.whole(store.read_journal(path)))
    done = store.keys(method, folder)
    suited = PARTIAL.get(method, lambda problem: True)
    todo = [problem for problem in chosen if problem.key not in done and suited(problem)]
    # Closed, so that samplers working ahead stop when this is interrupted.
    found = contextlib.closing(predictions(method, todo, chosen))
    with progress_bar(len(todo), progress) as advance, found as pairs:
        for problem, prediction in pairs:
            store.append(path, rows_of(problem, method, prediction))
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
