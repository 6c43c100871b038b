"""The package simple-scaling-laws, used as its documentation says."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.core.methods.prediction import MIXTURE, Prediction
from benchmarks.core.problems import Problem

SMALLEST = 1e-6
"""Loss that stands for one that is not positive."""


def simple_scaling_laws(problems: Sequence[Problem]) -> Iterator[Prediction]:
    """The package simple-scaling-laws with its defaults and its interval of one new run (at least 1e-6).

    It fits a sum of power laws and a floor. Its forecast is drawn from the curve and the runs of a wild cluster
    bootstrap; quantiles of it stand for it here.
    """
    import polars as pl
    from simple_scaling_laws import fit

    levels = (np.arange(MIXTURE) + 0.5) / MIXTURE
    for problem in problems:
        begin = time.perf_counter()
        roles = {name: f"{'model' if 'param' in name else 'dataset'}_size__{name}" for name in problem.inputs}
        train, held = (
            pl.DataFrame({role: rows[name].to_numpy(float) for name, role in roles.items()})
            for rows in (problem.train, problem.held)
        )
        names = pl.Series("training_run_id", [str(i) for i in range(len(train))])
        loss = pl.Series("test_loss__loss", problem.train["loss"].to_numpy(float))
        try:
            model = fit(train.with_columns(names, loss), seed=0)
            with warnings.catch_warnings():
                # It says at each forecast that it is one.
                warnings.simplefilter("ignore")
                table = model.predict(held, kind="new-run", quantiles=levels.tolist())
            found = np.column_stack([table[name] for name in table.columns if name.startswith("test_loss__loss__")])
            # It knows no positive responses, so its intervals may reach below zero.
            location, state = np.log(np.maximum(np.sort(found, axis=1).T, SMALLEST)), "OK"
        except ValueError:
            location, state = np.full((MIXTURE, len(held)), np.nan), "REFUSED"
        width = np.maximum(np.gradient(location, axis=0), 1e-6)
        yield Prediction(location, width, state, time.perf_counter() - begin)
