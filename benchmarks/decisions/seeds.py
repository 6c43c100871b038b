"""Seeds: does half of the published replicates predict the others, and do looks after every seed keep their error?

    python -m benchmarks seeds

Every group of published runs that differ in their seed alone is split in two; the first half, with the prior of the
seed sd, forecasts each run of the second. The prior is chosen for each source by the log score of the others, sources
alike: of those within `TIE` of the lowest, the widest. No curve is fitted, so no result is stored.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd

from bayescale.corpus import builtin
from bayescale.decide import seed_differences
from bayescale.decide.seed_differences import DRAWS, relative_sds
from bayescale.decide.sequential import ERROR, MOST_SEEDS, levels, p_values
from bayescale.forecast import mixture_cdf
from benchmarks.core.sources import table

MEDIANS, SDS = (0.0004, 0.0008, 0.0016, 0.0032), (0.8, 1.2, 1.6, 2.0)
"""Priors that are compared: median of the relative seed sd, and sd of its logarithm."""
SHIPPED = (seed_differences.PRIOR_MEDIAN, seed_differences.PRIOR_SD)
LEVELS = (0.5, 0.8, 0.9, 0.95)
TIE = 0.01
"""Log scores that differ by less say nothing about which prior is better."""
SPLITS = 10
LEAST = 1e-3
"""A log score counts a density of the relative loss below this as much."""
GAPS = (0.0, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
"""True differences that are simulated, in standard deviations of the difference of two runs."""
EXPERIMENTS = 10_000
WITHIN = ("family", "metric", "n_params", "n_params_active", "n_params_nonembed", "n_tokens", "unique_tokens", "step")


def groups() -> Iterator[tuple[str, np.ndarray]]:
    """Yield the source and the losses of every group of published runs that differ in their seed alone."""
    tables = {name: table(name) for name in ("datablations", "routing")}
    tables["built-in"] = builtin.published().rename(columns={"value": "loss"})
    for source, rows in tables.items():
        rows = rows[rows["seed"].notna()]
        for _, group in rows.groupby([name for name in WITHIN if name in rows], dropna=False):
            losses = group.groupby("seed")["loss"].mean().to_numpy(float)
            if len(losses) > 1 and np.ptp(losses) > 0.0:
                yield source, losses


def scored(losses: np.ndarray, median: float, sd: float) -> tuple[float, np.ndarray]:
    """Return the mean log score and the share of runs inside each interval, over splits in halves.

    Args:
        losses: Losses of one group, shape (seed,).
        median: Median of the prior of the relative seed sd.
        sd: Standard deviation of its logarithm.
    """
    rng = np.random.default_rng(0)
    scores, inside = [], []
    for _ in range(SPLITS):
        order = rng.permutation(losses)
        fitted, held = np.split(order, [max(1, len(order) // 2)])
        mean = fitted.mean()
        square = float(((fitted / mean - 1.0) ** 2).sum())
        scale = relative_sds(square, len(fitted) - 1, sd, median) * np.sqrt(1.0 + 1.0 / len(fitted))
        z = (held / mean - 1.0) / scale[:, None]
        density = (np.exp(-0.5 * z**2) / (scale[:, None] * np.sqrt(2.0 * np.pi))).mean(0)
        scores.append(-np.log(np.maximum(density, LEAST)).mean())
        below = mixture_cdf(held / mean - 1.0, np.zeros((DRAWS, len(held))), np.repeat(scale[:, None], len(held), 1))
        inside.append(np.abs(below - 0.5)[:, None] < 0.5 * np.array(LEVELS))
    return float(np.mean(scores)), np.concatenate(inside).mean(0)


def halves() -> pd.DataFrame:
    """Return one row a source and prior: `groups`, `log`, and the share inside each interval, groups alike."""
    rows = []
    for source, losses in groups():
        for median, sd in itertools.product(MEDIANS, SDS):
            score, inside = scored(losses, median, sd)
            rows.append([source, median, sd, score, *inside])
    frame = pd.DataFrame(rows, columns=["source", "median", "sd", "log", *LEVELS])
    grouped = frame.groupby(["source", "median", "sd"])
    return grouped.mean().assign(groups=grouped.size()).reset_index()


def chosen(frame: pd.DataFrame, without: str = "") -> tuple[float, float]:
    """Return the widest prior within `TIE` of the lowest mean log score on all sources but one, sources alike."""
    others = frame[frame["source"] != without].groupby(["sd", "median"])["log"].mean()
    sd, median = others[others <= others.min() + TIE].index[-1]
    return float(median), float(sd)


def looks() -> pd.DataFrame:
    """Return one row a true gap: how often the right and the wrong recipe is named, seeds used, and a fixed test."""
    rng = np.random.default_rng(0)
    limits = levels(MOST_SEEDS, ERROR)
    rows = []
    for gap in GAPS:
        differences = gap + rng.standard_normal((EXPERIMENTS, MOST_SEEDS))
        p = p_values(differences)
        hit = p <= limits
        after = np.where(hit.any(1), hit.argmax(1) + 2, MOST_SEEDS)
        mean = np.take_along_axis(differences.cumsum(1), after[:, None] - 1, 1)[:, 0]
        rows.append(
            {
                "gap": gap,
                "named": hit.any(1).mean(),
                "wrong": (hit.any(1) & (mean < 0.0)).mean(),
                "seeds": after.mean(),
                "saved": 1.0 - after.mean() / MOST_SEEDS,
                "fixed": (p[:, -1] <= ERROR).mean(),
                "naive": (p <= ERROR).any(1).mean(),
            }
        )
    return pd.DataFrame(rows)


def lines() -> Iterator[str]:
    """Yield the lines that the command prints."""
    frame = halves()
    yield "Halves of published replicates: share of the other half inside intervals of one run, by source."
    yield "source (groups): prior of the relative seed sd; inside 50, 80, 90, 95 %; log score"
    for source in frame["source"].unique():
        own = frame[frame["source"] == source].set_index(["median", "sd"])
        for label, prior in (("chosen on the others", chosen(frame, source)), ("shipped", SHIPPED)):
            row = own.loc[prior]
            inside = ", ".join(f"{row[level]:.2f}" for level in LEVELS)
            yield f"{source} ({row['groups']}): {label}, {named(prior)}; {inside}; {row['log']:.3f}"
    yield f"Chosen on all sources: {named(chosen(frame))}; shipped: {named(SHIPPED)}."
    yield ""
    yield (
        f"Looks after every seed, {MOST_SEEDS} planned, error {ERROR:g}, {EXPERIMENTS:,} experiments a gap "
        "(in sds of the difference of two runs):"
    )
    for row in looks().itertuples():
        yield (
            f"gap {row.gap:g}: named {row.named:.3f}, the wrong one {row.wrong:.4f}, seeds used {row.seeds:.2f} "
            f"({100 * row.saved:.0f} % saved); one test after {MOST_SEEDS} seeds names {row.fixed:.3f}, tests at "
            f"{ERROR:g} after every seed {row.naive:.3f}"
        )


def named(prior: tuple[float, float]) -> str:
    """Return a prior as text."""
    return f"LogNormal(ln {prior[0]:g}, {prior[1]:g})"
