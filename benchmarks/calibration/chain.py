"""Chain: loss and mean task score of large runs, forecast from five small ones through the loss.

    python -m benchmarks scores --through-loss

The runs are those of gadre2024overtraining: for each of three training data sets, five runs below half a billion
parameters are fitted (20 tokens per parameter, and the smallest model at 320), as in the paper. The larger runs are
forecast: their loss on C4 with the law `chinchilla`, and one minus their mean error on 46 tasks through that loss. The
mean error has no known chance level, so it is sampled around .25. The number of items is that of a few large tasks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

import bayescale as bs
from bayescale import corpus

FITTED = ((20, 5e8), (320, 2e7))
"""Tokens per parameter of the fitted runs, and the largest number of parameters with it."""
LARGE = 1e9
"""Smallest number of parameters of the runs in question."""
ITEMS = 20_000
SCALE = bs.ScoreScale(0.25, chance_sd=0.05)
LEVEL = 0.9
INPUTS = ("n_params", "n_tokens")


def runs(family: str) -> pd.DataFrame:
    """Return the runs of one training data set: inputs, tokens per parameter, loss, and mean score of all tasks."""
    rows = corpus.frame("overtrain")
    rows = rows[rows["family"] == family]
    wide = rows.pivot_table(index=["run", *INPUTS], columns="metric", values="value").reset_index()
    errors = [name for name in wide if str(name).startswith("err_")]
    table = wide[["run", *INPUTS]].astype(dict.fromkeys(INPUTS, float))
    return table.assign(
        per_param=(wide["n_tokens"] / wide["n_params"]).round(),
        loss=wide["c4_val_loss"],
        score=1.0 - wide[errors].mean(axis=1),
        n_items=float(ITEMS),
    )


def forecasts(family: str) -> list[dict[str, Any]]:
    """Fit the small runs of one data set and forecast its large ones; a row for each."""
    table = runs(family)
    small = np.logical_or.reduce([(table["per_param"] == m) & (table["n_params"] < most) for m, most in FITTED])
    known, asked = table[small].reset_index(drop=True), table[table["n_params"] > LARGE].reset_index(drop=True)
    columns = ["run", *INPUTS]
    losses = bs.Runs.from_frame(known[[*columns, "loss"]], inputs=INPUTS, name=family)
    scores = bs.Runs.from_frame(known[[*columns, "score", "n_items"]], inputs=INPUTS, score=SCALE, name=family)
    chain = bs.fit_chain(losses, scores, "chinchilla", seed=0)
    loss, score = (fit.predict(asked[list(INPUTS)], force=True) for fit in (chain.losses, chain))
    rows = []
    for number, run in asked.iterrows():
        row: dict[str, Any] = {"data": family.removeprefix("overtrain_"), "parameters": run["n_params"]}
        row |= {"tokens per parameter": run["per_param"], "status": chain.status.name}
        for name, forecast in (("loss", loss), ("score", score)):
            low, high = forecast.interval(LEVEL)[:, number]
            middle = float(forecast.quantile(0.5)[number])
            row |= {name: run[name], f"{name} median": middle, f"{name} error": middle / run[name] - 1.0}
            row |= {f"{name} low": low, f"{name} high": high, f"{name} inside": bool(low <= run[name] <= high)}
        rows.append(row)
    return rows


def measure() -> pd.DataFrame:
    """Return the forecasts of all three data sets."""
    families = [str(name) for name in corpus.frame("overtrain")["family"].unique()]
    return pd.DataFrame([row for family in families for row in forecasts(family)])
