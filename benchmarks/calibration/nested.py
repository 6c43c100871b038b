"""Nested choice of the default's numbers: each source is forecast with numbers that were chosen without it.

    python -m benchmarks nested --design ladder     measures what is missing and prints the table

A candidate is one set of numbers for a design of one input. All are scored on all problems of the design, once; the
choice is a function of the scores of some sources, so it can be made without any of them.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import bayescale as bs
from bayescale.evaluate import scores
from bayescale.laws.priors import Plateaus
from bayescale.model.designs import find_design
from benchmarks.core.markdown import grid
from benchmarks.core.methods.prediction import runs_of
from benchmarks.core.problems import Problem
from benchmarks.core.rows import store, stored

RESULTS = Path(__file__).parents[1] / "results" / "nested.json"
LEVELS = (0.5, 0.8, 0.9, 0.95)
GROUPS = ("one input", "lcdb")
"""Groups of problems of one input: those that stress the model, or lie far out, have no part in the choice."""
MOST = 160
"""Most problems of a source, evenly spaced among them: families of large sources are alike."""
DRAWS = 400
"""Components of a forecast."""
TIE = 1e-9


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Numbers of the default discrepancy and of its mixture, see `bayescale.Discrepancy` and `bayescale.Plateaus`.

    Attributes:
        median: Median amplitude.
        power: How it grows with the fall of the law.
        sd: Spread of its logarithm.
        trend: Trend of innovations beyond the data.
        weights: Weight of each shape of the law.
    """

    median: float
    power: float
    sd: float
    trend: float
    weights: tuple[tuple[str, float], ...]

    @property
    def name(self) -> str:
        """The numbers in one line."""
        shares = "/".join(f"{weight:.2g}" for _, weight in self.weights)
        return f"median {self.median:g}, power {self.power:g}, sd {self.sd:g}, trend {self.trend:g}, weights {shares}"

    @property
    def prior(self) -> tuple[float, float, float]:
        """What changes a fit; the rest changes forecasts only."""
        return self.median, self.power, self.sd


MIXTURES = (
    (("present", 0.5), ("absent", 0.5), ("power", 0.0)),
    (("present", 0.5), ("absent", 0.25), ("power", 0.25)),
    (("present", 0.34), ("absent", 0.33), ("power", 0.33)),
)
PRIORS = ((0.2, 0.5, 0.8), (0.2, 0.5, 1.2), (0.1, 1.0, 0.8), (0.1, 1.0, 1.2), (0.05, 1.0, 0.8), (0.05, 1.0, 1.2))
TRENDS = (0.0, 0.3)
CANDIDATES = tuple(
    Candidate(*prior, trend, mixture) for prior, trend, mixture in itertools.product(PRIORS, TRENDS, MIXTURES)
)


def measure(design: str, problems: Sequence[Problem], path: Path = RESULTS, most: int = MOST) -> Path:
    """Score the candidates that are missing on the problems of a design, and store a row a candidate and source.

    Args:
        design: ladder or curve.
        problems: All problems.
        path: The file of the rows.
        most: Most problems of a source.
    """
    chosen = list(suited(design, problems, most))
    for prior in PRIORS:
        rows = stored(path)
        known = {(row["design"], row["candidate"]) for row in rows}
        own = [candidate for candidate in CANDIDATES if candidate.prior == prior]
        if missing := [candidate for candidate in own if (design, candidate.name) not in known]:
            fits = {shape: fitted(chosen, shape, prior) for shape in ("present", "absent", "power")}
            found = [row for trend in TRENDS for row in scored(design, same(missing, trend), chosen, fits)]
            store(rows + found, path)
            print(f"{design}: {prior} done", file=sys.stderr)
    return path


def same(candidates: Sequence[Candidate], trend: float) -> list[Candidate]:
    """Return the candidates of a trend; of one prior they differ in weights only."""
    return [candidate for candidate in candidates if candidate.trend == trend]


def suited(design: str, problems: Sequence[Problem], most: int = MOST) -> Iterator[Problem]:
    """Yield the problems of a design, none of them twice, at most so many of a source."""
    found: dict[str, list[Problem]] = {}
    seen: set[Any] = set()
    for problem in problems:
        if problem.group not in GROUPS or len(problem.inputs) > 1 or find_design(problem.inputs) != design:
            continue
        # The largest run left out is often what a ratio of two leaves out.
        same = (problem.source, problem.family, problem.metric, len(problem.train), len(problem.held))
        if same not in seen:
            seen.add(same)
            found.setdefault(problem.source, []).append(problem)
    for own in found.values():
        picks = np.unique(np.linspace(0, len(own) - 1, min(most, len(own))).round().astype(int))
        yield from (own[i] for i in picks)


def fitted(problems: Sequence[Problem], shape: str, prior: tuple[float, float, float]) -> dict[str, bs.Posterior]:
    """Return fits by importance sampling of one shape of the law, by the problem's key; without those that fail."""
    median, power, sd = prior
    discrepancy = bs.Discrepancy(median=median, power=power, sd=sd)
    priors = {"terms": Plateaus(plateau=shape)}
    found = {}
    results = bs.fit_each(
        [runs_of(problem) for problem in problems],
        "plateau_power",
        seed=0,
        discrepancy=discrepancy,
        priors=priors,
        method="importance",
        progress=False,
    )
    for number, result in results:
        if isinstance(result, bs.Posterior):
            found[problems[number].key] = result
    return found


def scored(
    design: str, candidates: Sequence[Candidate], problems: Sequence[Problem], fits: dict[str, dict[str, bs.Posterior]]
) -> Iterator[dict[str, Any]]:
    """Yield a row a candidate and source: its scores, families alike, and problems alike within them.

    Args:
        design: ladder or curve.
        candidates: Candidates that differ in their weights only.
        problems: The problems of the design.
        fits: Fits of each shape of the law by the problem's key.
    """
    rows: dict[str, list[dict[str, Any]]] = {candidate.name: [] for candidate in candidates}
    for problem in problems:
        if not candidates or not all(problem.key in own for own in fits.values()):
            continue
        y = np.log(problem.held["loss"].to_numpy(float))
        parts = {shape: forecast(candidates[0].trend, problem, own) for shape, own in fits.items()}
        for candidate in candidates:
            location, scale = mixed(candidate, parts)
            pit = scores.pit(y, location, scale)
            inside = {f"{level:g}": (np.abs(pit - 0.5) <= level / 2).mean() for level in LEVELS}
            score = {
                "crps": scores.crps(y, location, scale).mean(),
                "log_score": scores.log_score(y, location, scale).mean(),
            }
            named = {"source": problem.source, "family": problem.family, "pit": pit.mean()}
            rows[candidate.name].append(named | score | inside)
    for name, own in rows.items():
        table = pd.DataFrame(own).groupby(["source", "family"]).mean()
        means, counts = table.groupby("source").mean(), table.groupby("source").size()
        for source, row in means.iterrows():
            numbers = {measure: float(f"{value:.5g}") for measure, value in row.items()}
            yield {"design": design, "candidate": name, "source": source, "families": int(counts[source])} | numbers


def forecast(trend: float, problem: Problem, fits: dict[str, bs.Posterior]) -> tuple[np.ndarray, np.ndarray]:
    """Return the components of one shape's forecast of the held-out runs under a trend, shape (draw, held)."""
    fit = fits[problem.key]
    discrepancy = dataclasses.replace(fit.job.model.discrepancy, trend=np.asarray(trend))
    job = dataclasses.replace(fit.job, model=dataclasses.replace(fit.job.model, discrepancy=discrepancy))
    found = dataclasses.replace(fit, job=job).predict(problem.held, kind="run", force=True)
    return found.location, found.scale


def mixed(candidate: Candidate, parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the components of a candidate's forecast, means and sds, from those of each shape of the law."""
    chosen = []
    for shape, weight in candidate.weights:
        location, scale = parts[shape]
        picks = np.linspace(0, len(location) - 1, round(DRAWS * weight)).round().astype(int)
        chosen.append((location[picks], scale[picks]))
    location, scale = (np.concatenate(sides) for sides in zip(*chosen, strict=True))
    return location, scale


# --- The choice ----------------------------------------------------------------------------------------------


def choose(table: pd.DataFrame) -> str:
    """Return the candidate of the lowest mean over sources of ln CRPS minus log score.

    Args:
        table: Rows of `measure` of one design and of the sources that may be looked at.
    """
    loss = (np.log(table["crps"]) - table["log_score"]).groupby(table["candidate"]).mean()
    return str(loss[loss <= loss.min() + TIE].index.sort_values()[0])


def nested(table: pd.DataFrame) -> pd.DataFrame:
    """Return the row of each source under the candidate that is chosen without it; a table of one design."""
    rows = []
    for source in table["source"].unique():
        choice = choose(table[table["source"] != source])
        rows.append(table[(table["source"] == source) & (table["candidate"] == choice)].iloc[0])
    return pd.DataFrame(rows).reset_index(drop=True)


def told(design: str, path: Path = RESULTS) -> str:
    """Return the table of a design: each source under the choice made without it, beside one candidate for all."""
    table = pd.DataFrame(stored(path))
    table = table[table["design"] == design]
    whole = choose(table)
    first = CANDIDATES[0].name
    outer = nested(table).set_index("source")
    base = table[table["candidate"] == first].set_index("source")
    body = []
    for source, row in outer.iterrows():
        ratio, gain = row["crps"] / base["crps"][source], row["log_score"] - base["log_score"][source]
        held = "/".join(f"{row[f'{level:g}']:.2f}" for level in LEVELS)
        body.append([str(source), str(row["families"]), row["candidate"], f"{ratio:.2f}", f"{gain:+.2f}", held])
    errors = {level: np.abs(outer[f"{level:g}"] - level).mean() for level in LEVELS}
    head = ["source", "families", "chosen without it", "CRPS ratio", "log score", "50/80/90/95"]
    return "\n\n".join(
        [
            f"Chosen on all sources: {whole}. Ratios and differences are to {first}.",
            grid(head, body),
            "Mean absolute error of coverage over sources: "
            + ", ".join(f"{100 * error:.0f} points at {level:.0%}" for level, error in errors.items())
            + ".",
        ]
    )
