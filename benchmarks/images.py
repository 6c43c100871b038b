"""Coverage of the default on 72 published image few-shot curves, each with the split its authors chose.

Source: alabdulmohsin2022revisiting, the image part. Dense curves are thinned log-evenly to 40 points.

    python benchmarks/images.py TABLE.csv.gz

TABLE has the columns family, n_samples, domain, upstream_split (fit or extrapolate) and value.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd

import bayescale as bs

POINTS = 40


def thin(rows: pd.DataFrame) -> pd.DataFrame:
    """Keep at most `POINTS` rows, evenly spaced in the logarithm of the number of examples."""
    rows = rows.sort_values("n_samples")
    wanted = np.geomspace(rows["n_samples"].iloc[0], rows["n_samples"].iloc[-1], POINTS)
    nearest = np.abs(np.log(rows["n_samples"].to_numpy()[None, :] / wanted[:, None])).argmin(1)
    return rows.iloc[np.unique(nearest)] if len(rows) > POINTS else rows


def main(path: str) -> None:
    """Fit every curve's own training part and print coverage and the error of the median."""
    table = pd.read_csv(path)
    table = table[table["domain"] == "IC"]
    training, targets = [], []
    for name, rows in table.groupby("family", sort=False):
        columns = ["n_samples", "value"]
        fitted = thin(rows[rows["upstream_split"] == "fit"])[columns]
        training.append(bs.Runs.from_frame(fitted, name=str(name)))
        targets.append(rows[rows["upstream_split"] != "fit"][columns])
    posteriors = bs.fit_many(training, seed=0)
    lines = []
    for posterior, held in zip(posteriors, targets, strict=True):
        forecast = posterior.predict(n_samples=held["n_samples"].to_numpy(), kind="run")
        y = held["value"].to_numpy()
        line = {"status": posterior.status.name}
        for level in (0.5, 0.8, 0.95):
            low, high = forecast.interval(level)
            line[f"cover{level:g}"] = float(((low <= y) & (y <= high)).mean())
        line["rmsle"] = float(np.sqrt((np.log(forecast.quantile(0.5) / y) ** 2).mean()))
        lines.append(line)
    result = pd.DataFrame(lines)
    print(f"{len(result)} curves, {(result['status'] == 'OK').sum()} converged")
    print(result.drop(columns="status").mean().round(4).to_string())


if __name__ == "__main__":
    main(sys.argv[1])
