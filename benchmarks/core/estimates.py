"""Estimates: means and medians over families, with 95 % bootstrap intervals over sources and families within them.

Sources are drawn, then families within each, since the families of one paper are alike; the curves of one LCDB data set
share its test set, so they are drawn together.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import pandas as pd

RESAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A figure over families.

    Attributes:
        value: Mean over families (median for widths).
        low: Lower end of its 95 % bootstrap interval over families.
        high: Upper end.
        families: How many families.
    """

    value: float
    low: float
    high: float
    families: int


def cluster_of(table: pd.DataFrame) -> pd.Series:
    """What is drawn together in the bootstrap: a family, or the curves of one LCDB data set."""
    dataset = table["family"].str.split("/").str[0]
    return table["source"] + "|" + table["family"].where(~table["source"].str.startswith("lcdb"), dataset)


def estimate(values: Any, clusters: Any, typical: str = "mean") -> Estimate:
    """Average over families, with an interval by resampling clusters of them.

    Args:
        values: One number a family; a mean over infinite ones has no interval.
        clusters: Which families are drawn together.
        typical: mean or median.
    """
    values = np.asarray(values, float)
    if not len(values):
        return Estimate(np.nan, np.nan, np.nan, 0)
    if typical == "mean" and not np.isfinite(values).all():
        return Estimate(float(values.mean()), np.nan, np.nan, len(values))
    if typical == "mean":
        again, value = means_again(values, clusters), values.mean()
    else:
        names, number = np.unique(np.asarray(clusters, str), return_inverse=True)
        draws = resampled(tuple(names))
        order = np.argsort(values)
        weight = np.cumsum(draws[:, number[order]], axis=1)
        place = (weight >= 0.5 * weight[:, -1:]).argmax(1)
        again, value = values[order][place], np.median(values)
    low, high = np.quantile(again, [0.025, 0.975])
    return Estimate(float(value), float(low), float(high), len(values))


def means_again(values: Any, clusters: Any) -> np.ndarray:
    """Means over families in each resample of their clusters, shape (resample,)."""
    names, number = np.unique(np.asarray(clusters, str), return_inverse=True)
    draws = resampled(tuple(names))
    return (draws @ np.bincount(number, np.asarray(values, float))) / (draws @ np.bincount(number))


@functools.lru_cache(maxsize=64)
def resampled(names: tuple[str, ...]) -> np.ndarray:
    """How often each of some clusters is drawn, shape (resample, cluster): sources first, then clusters within them.

    The families of one paper are alike, so they are no independent evidence; those of a single source are all there is.
    """
    rng, count = np.random.default_rng(0), len(names)
    if len({source_of(name) for name in names}) == 1:
        return rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    sources, number = np.unique([source_of(name) for name in names], return_inverse=True)
    often = rng.multinomial(len(sources), np.full(len(sources), 1 / len(sources)), RESAMPLES)
    draws = np.zeros((RESAMPLES, count))
    for source in range(len(sources)):
        own = np.flatnonzero(number == source)
        draws[:, own] = rng.multinomial(often[:, source] * len(own), np.full(len(own), 1 / len(own)))
    return draws


def source_of(cluster: str) -> str:
    """Source that a cluster belongs to; both halves of LCDB are one."""
    source = cluster.split("|")[0]
    return "lcdb" if source.startswith("lcdb") else source
