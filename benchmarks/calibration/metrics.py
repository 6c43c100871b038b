"""Metrics: what one loss of a run says of another loss of the same run.

    python -m benchmarks metrics     measures what is missing and prints the table

Runs of a study with several losses are cut at a third, a tenth and a hundredth of their largest compute. Two losses of
the runs below the cut are fitted jointly. Each loss of the largest runs is forecast by a fit of that loss alone, by the
joint fit, and by the joint fit given the other loss of the run.
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
from benchmarks.core.rows import store, stored
from benchmarks.core.sources import table

RESULTS = Path(__file__).parents[1] / "results" / "metrics.json"
LEVELS = (0.5, 0.8, 0.95)
RATIOS = (3.0, 10.0, 100.0)
OTHERS = 3
"""Metrics of a study that are each paired with its first."""
MOST, HELD = 32, 6
"""Most runs of a metric that are fitted, evenly spaced in compute, and most runs that are forecast, the largest."""
FEWEST = 6
"""Fewest runs that are fitted."""
WAYS = ("alone", "joint", "given")
SETTINGS = bs.Nuts(warmup=200, draws=500, chains=2, least_ess=200.0)


class Study(NamedTuple):
    """Runs with several losses.

    Attributes:
        source: Name of the source.
        family: Name of the family.
        rows: Columns n_params, n_tokens, flops, and one for each metric.
        metrics: Names of the metrics.
    """

    source: str
    family: str
    rows: pd.DataFrame
    metrics: tuple[str, ...]


def studies() -> Iterator[Study]:
    """Return the families with several losses of the same runs; of gemstones, each checkpoint counts as a run."""
    rows = table("overtrain")
    rows = rows[~rows["metric"].str.startswith("err_")]
    for family, part in rows.groupby("family", sort=False):
        yield study("overtrain", str(family), part)
    rows = table("gemstones")
    yield study("gemstones", "gemstones_hot", rows[rows["family"] == "gemstones_hot"])


def study(source: str, family: str, rows: pd.DataFrame) -> Study:
    """Return a family with a column for each metric, of the runs that have all."""
    names = list(rows["metric"].unique())[: 1 + OTHERS]
    wide = rows[rows["metric"].isin(names)].pivot_table("loss", ["n_params", "n_tokens", "flops"], "metric")
    return Study(source, family, wide[names].dropna().reset_index(), tuple(names))


def measure(path: Path = RESULTS) -> Path:
    """Score the pairs that are missing, and store two rows for each: either metric given the other."""
    for own in studies():
        for other in own.metrics[1:]:
            for ratio in RATIOS:
                pair, rows = (own.metrics[0], other), stored(path)
                key = {"source": own.source, "family": own.family, "pair": list(pair), "ratio": ratio}
                if any(all(row[name] == value for name, value in key.items()) for row in rows):
                    continue
                found = scored(own, pair, ratio)
                store([*rows, *(key | one for one in found)], path)
                print(f"{own.family}, {other}, {ratio:g}x: done", file=sys.stderr)
    return path


def scored(own: Study, pair: tuple[str, str], ratio: float) -> list[dict[str, Any]]:
    """Return the scores of the forecasts of each of two metrics at the largest runs."""
    rows = own.rows.sort_values("flops", ignore_index=True)
    before = [len(rows[rows["flops"] <= rows["flops"].max() / other]) for other in RATIOS if other < ratio]
    cut = rows["flops"].max() / ratio
    train, held = rows[rows["flops"] <= cut], rows[rows["flops"] > cut].tail(HELD)
    # A cut with the same runs as a nearer one is left out.
    if len(train) < FEWEST or len(train) in before:
        return []
    train = train.iloc[np.unique(np.linspace(0, len(train) - 1, MOST).round().astype(int))]
    inputs = ("n_params", "n_tokens")
    runs = {name: bs.Runs.from_frame(train.assign(loss=train[name]), inputs=inputs, name=name) for name in pair}
    at = {name: held[name].to_numpy(float) for name in inputs}
    joint = bs.fit_metrics(runs, seed=0, settings=SETTINGS)
    together = joint.predict(at)
    links = joint.correlations().set_index("of")["median"].to_dict()
    found = []
    for name, other in (pair, pair[::-1]):
        y = held[name].to_numpy(float)
        alone = bs.fit(runs[name], seed=0, method="auto", settings=SETTINGS)
        given, worth = [], []
        for number, row in enumerate(held.to_dict("records")):
            point = {key: float(values[number]) for key, values in at.items()}
            one = joint.predict(point, given={other: row[other]})
            given.append(one[name])
            worth.append(one.worth)
        ways = {"alone": [alone.predict(at)], "joint": [together[name]], "given": given}
        row: dict[str, Any] = {"metric": name, "runs": len(train), "held": len(held), "links": links}
        row |= {"status": joint.status.name, "worth": min(worth)}
        found.append(row | {way: score(y, parts) for way, parts in ways.items()})
    return found


def score(y: np.ndarray, parts: Sequence[bs.Forecast]) -> dict[str, Any]:
    """Return the mean CRPS of ln(loss), the coverage and the mean width of the 80 % interval of forecasts."""
    log_y = np.split(np.log(y), np.cumsum([len(part) for part in parts])[:-1])
    crps = np.concatenate([scores.crps(own, part.location, part.scale) for own, part in zip(log_y, parts, strict=True)])
    inside = []
    for level in LEVELS:
        ends = np.log(np.concatenate([part.interval(level) for part in parts], axis=1))
        inside.append(float(((ends[0] <= np.log(y)) & (np.log(y) <= ends[1])).mean()))
    ends = np.log(np.concatenate([part.interval(0.8) for part in parts], axis=1))
    return {"crps": float(crps.mean()), "inside": inside, "width": float((ends[1] - ends[0]).mean())}


def summary_of(scored_rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return a row for each source, ratio and way of forecasting."""
    found = []
    for (source, ratio), rows in pd.DataFrame(list(scored_rows)).groupby(["source", "ratio"], sort=False):
        held = rows["held"].to_numpy()
        alone = np.array([row["crps"] for row in rows["alone"]])
        for way in WAYS:
            crps = np.array([row["crps"] for row in rows[way]])
            inside = np.average([row["inside"] for row in rows[way]], axis=0, weights=held)
            width = np.average([row["width"] for row in rows[way]], weights=held)
            told = {"source": source, "beyond": f"{ratio:g}x", "way": way, "forecasts": int(held.sum())}
            told |= {"CRPS / alone": float(np.exp(np.log(crps / alone).mean())), "wins": float((crps < alone).mean())}
            told |= {f"{100 * level:g} %": value for level, value in zip(LEVELS, inside, strict=True)}
            found.append(told | {"80 % width": width})
    return pd.DataFrame(found)


def told(path: Path = RESULTS) -> str:
    """Return the summary as a table in Markdown."""
    rows = summary_of(stored(path))
    cells = []
    for row in rows.to_dict("records"):
        cells.append(
            [
                row["source"],
                row["beyond"],
                row["way"],
                str(row["forecasts"]),
                f"{row['CRPS / alone']:.2f}",
                f"{row['wins']:.0%}",
                *(f"{row[f'{100 * level:g} %']:.0%}" for level in LEVELS),
                f"{100 * row['80 % width']:.2f} %",
            ]
        )
    return grid([*rows.columns], cells)
