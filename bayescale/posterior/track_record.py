"""Track record: how often intervals contained the losses of published held-out runs, by extrapolation factor.

The table is part of the package; `python -m benchmarks record` computes it, in a checkout of the repository.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pandas as pd

from bayescale.data.wording import long_count
from bayescale.laws.registry import automatic
from bayescale.model.discrepancy import default_discrepancy
from bayescale.posterior.fitted import Fitted

FILE = Path(__file__).with_name("track_record.json")
KINDS = {"ladder": "ladders", "curve": "curves", "several": "several inputs"}
"""Designs that the track record distinguishes, by the key in the file; see `model.designs`."""
ONLY_LARGER = "Forecasts were tested on runs larger than the fitted ones only, so none was tested there."
"""Remark on a question below the data, which the track record does not cover."""
NOT_DEFAULT = "The intervals of this model were not tested on published runs. With the default model of losses:"
"""Remark on fits with another law or discrepancy."""
VALUES = (
    "Intervals of values were too narrow on published rewards and returns: 80 % intervals contained 40 to 64 % of the "
    "values measured 1.25 to 10 times beyond the fitted runs."
)
"""The track record of values of any sign, from `python -m benchmarks values` (docs/how-to/rewards.md)."""
INSIDE = 1.05
"""A question within this factor of the data does not count as an extrapolation."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """Rows of the track record that belong to a question.

    Attributes:
        table: Rows of the design of the fit: factor, number of families, and the fraction of runs inside the 50, 80 and
            95 % intervals.
        nearest_row: Number of the row for the question: that of the smallest factor at least as large, or the last row;
            None below the data, which the track record does not cover.
        factor: Extrapolation factor beyond (or below) the data: along the input for a law of one input, of compute for
            several.
        text: The sentences for a reader.
    """

    table: pd.DataFrame
    nearest_row: int | None
    factor: float
    text: str


def has_default_model(posterior: Fitted) -> bool:
    """Return whether a fit has the default law and discrepancy of its inputs, with which forecasts were tested."""
    job = posterior.first.job
    if job.discrepancy is None or job.law.name != automatic(job.law.inputs).name:
        return False
    default = default_discrepancy(job.design)
    return all(np.isclose(getattr(job.discrepancy, name), getattr(default, name)) for name in ("median", "power", "sd"))


@functools.cache
def record() -> pd.DataFrame:
    """Return the whole track record, one row for each design and factor."""
    return pd.DataFrame(json.loads(FILE.read_text(encoding="utf-8")))


def entry(posterior: Fitted, at: dict[str, float]) -> Entry:
    """Find the rows of the track record for the extrapolation factor of a question.

    Args:
        posterior: The fit.
        at: Inputs of the run in question: raw counts by name.

    Example:
        >>> entry(post, {"flops": 1e21}).text  # doctest: +SKIP
    """
    several = len(posterior.law.inputs) > 1
    design = "several" if several else posterior.first.job.design
    factor = distance(posterior, at)
    everything = record()
    rows = everything[everything["kind"] == design].sort_values("factor").reset_index(drop=True)
    x = posterior.law_inputs(posterior.locate(pd.DataFrame([at]), {})[0])
    lower = float(posterior.ratio(x)[0])
    # With several inputs, one may lie below the data although compute does not.
    if posterior.below(x)[0] and lower > INSIDE and (factor <= INSIDE or not several):
        return Entry(rows, None, lower, f"This question lies {long_count(lower)} times below the data. {ONLY_LARGER}")
    reached = rows["factor"].to_numpy(float) >= factor / INSIDE
    nearest_row = int(np.argmax(reached)) if reached.any() else len(rows) - 1
    row = rows.iloc[nearest_row]
    kind, unit = KINDS[design], " the compute" if several else ""
    # Without tokens or compute the distance is that of the input that goes farthest.
    own = unit if {"n_params", "n_tokens"} <= set(at) or "flops" in at else ""
    said = (
        f"At {row['factor']:g} times{unit}, on {kind}, 80 % intervals contained {100 * row['held80']:.0f} % of the "
        f"runs of {row['families']:.0f} published families, and 95 % intervals {100 * row['held95']:.0f} %."
    )
    if factor <= INSIDE < lower:
        said = (
            f"This question lies {long_count(lower)} times beyond the data in one input, and within them in compute. "
            f"Tests of forecasts count by compute, and begin beyond the data. {said}"
        )
    elif factor <= INSIDE:
        said = f"This question lies within the data, nearer than all tested forecasts. {said}"
    elif not reached.any():
        away = f"{long_count(factor)} times{own} beyond the data, farther than any test on {kind}"
        said = f"This question lies {away}. {said}"
    else:
        said = f"This question lies {long_count(factor)} times{own} beyond the data. {said}"
    if "lr" in posterior.law.inputs:
        said = "Forecasts along a learning rate were not tested on published runs."
    elif not has_default_model(posterior):
        said = f"{NOT_DEFAULT} {said}"
    return Entry(rows, nearest_row, factor, said)


def distance(posterior: Fitted, at: dict[str, float]) -> float:
    """Return the extrapolation factor of a question: along one input or a ray, or of compute for several inputs."""
    ratio = float(posterior.ratio(posterior.law_inputs(posterior.locate(pd.DataFrame([at]), {})[0]))[0])
    if len(posterior.law.inputs) == 1:
        return max(ratio, 1.0)
    if {"n_params", "n_tokens"} <= set(at):
        both = posterior.runs.frame
        return max(at["n_params"] * at["n_tokens"] / float((both["n_params"] * both["n_tokens"]).max()), 1.0)
    if "flops" in at:
        return max(at["flops"] / float(posterior.runs.frame["flops"].max()), 1.0)
    return max(ratio, 1.0)
