"""Pooling suites of models: what two small models with checkpoints say of the largest, given other suites.

A suite is a set of models of one kind in several sizes, with losses over tokens. The two smallest sizes of a suite are
fitted with their checkpoints, together with all sizes of the other suites of the source (leave one out), and the final
loss of its largest size is forecast. The comparison is with fits of the four smallest sizes of the same suite alone, in
two ways: the losses at which the four runs ended, against the size, and the whole grid of sizes and tokens. For each
source the way with the lower CRPS counts, which is known only afterwards.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import bayescale as bs
from bayescale.evaluate import scores
from benchmarks.core.markdown import grid
from benchmarks.core.problems import METRICS
from benchmarks.core.rows import store, stored
from benchmarks.core.sources import table

VARIANT = "two smallest sizes with checkpoints"
FEWEST_SIZES, FEWEST_SUITES = 5, 3
"""Fewest sizes of a suite, four to fit and one to forecast, and fewest suites of a source."""
CHECKPOINTS, ROWS = 12, 48
"""Most checkpoints of a size, and most rows of a suite."""
SMALL, ALONE = 2, 4
"""Number of smallest sizes that are fitted in the pool, and alone."""
SMALLEST = 1e-3
"""Smallest size, relative to the largest."""
SETTINGS = bs.Nuts(warmup=150, draws=500, chains=2, least_ess=200.0)
LEVELS = (0.5, 0.8, 0.95)
SIDES = ("pooled", "alone", "same")
"""Pooled, four sizes alone, and the two sizes that are pooled alone."""
GPT3 = {"Small": 0.125, "Medium": 0.35, "Large": 0.76, "XL": 1.3, "2.7B": 2.7, "6.7B": 6.7, "13B": 13.0}
"""Billions of parameters, by the name of the model."""


class Suite(NamedTuple):
    """Models of one kind.

    Attributes:
        source: Name of the source.
        name: Name of the suite.
        inputs: Size and data.
        rows: Columns of the inputs and loss.
    """

    source: str
    name: str
    inputs: tuple[str, str]
    rows: pd.DataFrame

    @property
    def sizes(self) -> np.ndarray:
        """Sizes in ascending order."""
        found = np.sort(self.rows[self.inputs[0]].unique())
        return found[found >= SMALLEST * found.max()]

    @property
    def held(self) -> pd.DataFrame:
        """The final loss of the largest size."""
        own = self.rows[self.rows[self.inputs[0]] == self.sizes[-1]]
        return own.nlargest(1, self.inputs[1]).reset_index(drop=True)

    def runs(self, sizes: Sequence[float], most: int = CHECKPOINTS) -> bs.Runs:
        """Return the losses of some sizes, thinned evenly in the logarithm of the data."""
        parts = []
        for size in sizes:
            own = self.rows[self.rows[self.inputs[0]] == size].sort_values(self.inputs[1], ignore_index=True)
            x = np.log(own[self.inputs[1]].to_numpy(float))
            wanted = np.linspace(x.min(), x.max(), most)
            parts.append(own.iloc[np.unique(np.abs(x[None] - wanted[:, None]).argmin(1))])
        return bs.Runs.from_frame(pd.concat(parts, ignore_index=True), inputs=self.inputs, name=self.name)

    def full(self) -> bs.Runs:
        """Return all sizes, thinned."""
        return self.runs(self.sizes, min(CHECKPOINTS, ROWS // len(self.sizes)))

    def ladder(self) -> bs.Runs | None:
        """Return final losses of the four smallest sizes, or None where the runs do not end alike.

        They end with the same data as the largest size, or with the same ratio of data to size.
        """
        size, data = self.inputs
        target = self.held.iloc[0]
        for power in (0.0, 1.0):
            wanted = target[data] * (self.rows[size] / target[size]) ** power
            near = self.rows[(self.rows[data] / wanted).between(0.9, 1.1)]
            found = near[near[size].isin(self.sizes[:ALONE])].sort_values(data).groupby(size, as_index=False).last()
            if len(found) == ALONE:
                return bs.Runs.from_frame(found, inputs=(size,), name=self.name)
        return None


# --- Suites of the sources ----------------------------------------------------------------------------------


def curve_suites() -> Iterator[Suite]:
    """Suites of published training curves, with sizes from their names; v0 of Pythia has other losses."""
    rows = table("nslpfn_colpret")
    perplexity = rows["flag"].astype(object) == "perplexity, not nats"
    rows = rows.assign(loss=np.where(perplexity, np.log(rows["loss"]), rows["loss"]))
    patterns = {
        "GPT-3": r"GPT-3 (\S+)",
        "OPT": r"OPT-([\d.]+[BT])",
        "lambda": r"lambda-([\d.]+[BM])",
        "pythia": r"pythia-([\d.]+[bm])",
        "pythia-deduped": r"pythia-([\d.]+[bm])-deduped",
    }
    for name, pattern in patterns.items():
        size = rows["family"].str.extract(f"^{pattern}$", expand=False)
        own = rows[size.notna()].assign(n_params=size.dropna().map(size_of))
        # Two sizes of Pythia stop at half of the tokens.
        own = own[own["n_tokens"].groupby(own["n_params"]).transform("max") > 0.85 * own["n_tokens"].max()]
        yield Suite("nslpfn_colpret", name, ("n_params", "n_tokens"), own[["n_params", "n_tokens", "loss"]])


def size_of(text: str) -> float:
    """Return parameters from a name such as 1.4b or XL."""
    if text in GPT3:
        return 1e9 * GPT3[text]
    return float(text[:-1]) * {"m": 1e6, "b": 1e9, "t": 1e12}[text[-1].lower()]


def overtrain_suites(metric: int) -> Iterator[Suite]:
    """Suites of the overtraining study, one for each data set: finished runs with other numbers of tokens."""
    rows = table("overtrain")
    rows = rows[~rows["metric"].str.startswith("err_")]
    for family, part in rows.groupby("family", sort=False):
        name = list(part["metric"].unique())[metric]
        own = part[part["metric"] == name][["n_params", "n_tokens", "loss"]]
        yield Suite(f"overtrain, {name}", str(family), ("n_params", "n_tokens"), own)


def game_suites() -> Iterator[Suite]:
    """Suites of imitated players, one for each Atari game: losses at budgets of compute."""
    rows = table("il_games")
    rows = rows[(rows["metric"] == "bc_eval_loss") & rows["flops"].notna()]
    for family, part in rows.groupby("family", sort=False):
        if str(family).startswith("atari"):
            yield Suite("il_games", str(family), ("n_params", "n_samples"), part[["n_params", "n_samples", "loss"]])


def suites() -> dict[str, list[Suite]]:
    """Return the suites of each source that has enough, of those with enough sizes."""
    found: dict[str, list[Suite]] = {}
    for suite in (*curve_suites(), *(suite for i in range(METRICS) for suite in overtrain_suites(i)), *game_suites()):
        rows = suite.rows.astype(float)
        suite = suite._replace(rows=rows[(rows > 0).all(axis=1)])
        if len(suite.sizes) >= FEWEST_SIZES:
            found.setdefault(suite.source, []).append(suite)
    return {source: own for source, own in found.items() if len(own) >= FEWEST_SUITES}


# --- Scores -------------------------------------------------------------------------------------------------


def measure_suites(path: Path) -> Path:
    """Score the sources that are missing, and store a row for each."""
    for source, own in suites().items():
        rows = stored(path)
        if any(row["source"] == source and row["variant"] == VARIANT for row in rows):
            continue
        found = scored(own)
        if found is not None:
            store([*rows, {"source": source, "variant": VARIANT} | found], path)
            print(f"{source}: {VARIANT} done", file=sys.stderr)
    return path


def scored(own: Sequence[Suite]) -> dict[str, Any] | None:
    """Return the row of a source: scores of pooled fits and of the best fit of four sizes alone."""
    alone = {"ladder": [ladder_score(suite) for suite in own], "grid": [grid_score(suite) for suite in own]}
    usable = [i for i in range(len(own)) if any(part[i] is not None for part in alone.values())]
    if not usable:
        return None
    complete = {way: part for way, part in alone.items() if all(part[i] is not None for i in usable)}
    best = min(complete, key=lambda way: float(np.mean([part["crps"] for i in usable if (part := complete[way][i])])))
    pooled, same = [], []
    for i in usable:
        others = {suite.name: suite.full() for j, suite in enumerate(own) if j != i}
        small = own[i].runs(own[i].sizes[:SMALL])
        pooled.append(score(own[i], bs.pool(others, seed=0, settings=SETTINGS).fit(small)))
        same.append(score(own[i], bs.fit(small, seed=0, method="auto", settings=SETTINGS)))
    return summary({"pooled": pooled, "alone": [complete[best][i] for i in usable], "same": same}, best)


def ladder_score(suite: Suite) -> dict[str, float] | None:
    """Return the scores of the default fit of four final losses, or None without such a ladder."""
    runs = suite.ladder()
    return None if runs is None else score(suite, bs.fit(runs, seed=0, method="auto", settings=SETTINGS))


def grid_score(suite: Suite) -> dict[str, float]:
    """Return the scores of the default fit of four sizes with their checkpoints."""
    runs = suite.runs(suite.sizes[:ALONE])
    return score(suite, bs.fit(runs, seed=0, method="auto", settings=SETTINGS))


def score(suite: Suite, fit: bs.Fitted) -> dict[str, float]:
    """Return the scores of the forecast of the final loss of the largest size."""
    forecast = fit.predict(suite.held, kind="run", force=True)
    y = np.log(suite.held["loss"].to_numpy(float))
    pit = float(scores.pit(y, forecast.location, forecast.scale)[0])
    crps = float(scores.crps(y, forecast.location, forecast.scale)[0])
    error = abs(float(np.log(forecast.quantile([0.5]))[0, 0]) - float(y[0]))
    return {"crps": crps, "error": error} | {f"{level:g}": float(abs(pit - 0.5) <= level / 2) for level in LEVELS}


def summary(sides: dict[str, Any], best: str) -> dict[str, Any]:
    """Return the row of a source: means of scores, and the ratios of pooled ones to those of others.

    Args:
        sides: Scores of each suite: pooled, of four sizes alone, and of the same two sizes alone.
        best: Which fit of four sizes is compared.
    """
    tables = {name: pd.DataFrame(part) for name, part in sides.items()}
    row: dict[str, Any] = {"suites": len(tables["pooled"]), "best_alone": best}
    for name, part in tables.items():
        row |= {f"{name}_{key}": float(f"{value:.4g}") for key, value in part.mean().items()}
    for key in ("error", "crps"):
        for name, other in (("", "alone"), ("_same", "same")):
            ratio = tables["pooled"][key].mean() / tables[other][key].mean()
            row[f"{key}{name}_ratio"] = float(f"{ratio:.4g}")
    return row


def told_suites(path: Path) -> str:
    """Return the table of suites, a row for each source."""
    rows = [row for row in stored(path) if row["variant"] == VARIANT]
    head = ["source", "suites", "best fit of four sizes", "error, pooled / four alone", "CRPS, pooled / four alone"]
    head += ["CRPS, pooled / same two alone", "pooled 50/80/95", "four alone", "same two alone"]
    body = []
    for row in rows:
        inside = ["/".join(f"{row[f'{side}_{level:g}']:.2f}" for level in LEVELS) for side in SIDES]
        ratios = [f"{row[name]:.2f}" for name in ("error_ratio", "crps_ratio", "crps_same_ratio")]
        body.append([row["source"], str(row["suites"]), row["best_alone"], *ratios, *inside])
    return f"Pooled: {VARIANT}.\n\n{grid(head, body)}" if rows else ""
