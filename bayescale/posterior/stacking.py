"""Stacking: weights of candidates from their forecasts of held-out runs, and a record of how the weights were computed.

The weights maximise the log of the weighted mean of the candidates' predictive densities at the held-out runs, after
yao2018stacking. The largest runs are held out, as burkner2020future holds out the future, because forecasts are made
for runs beyond the data.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pandas as pd

from bayescale.checked import known_keywords, one_screen
from bayescale.digits import factor_shown
from bayescale.errors import counted

TOLERANCE = 1e-9
"""Largest allowed distance of the objective from its maximum, in nats per held-out run."""
ITERATIONS = 1000
SMALLEST_STEP = 1e-12
ENOUGH = 0.25
"""A step must achieve this fraction of the gain that Newton's method predicts for it."""


@dataclasses.dataclass(frozen=True)
class Cut:
    """One cut of the runs by size, and how well each candidate forecast the runs beyond it.

    Attributes:
        ratio: Requested extrapolation factor, or the factor by which the held-out runs exceed the fitted ones.
        fitted: Number of fitted runs.
        held_out: Number of forecast runs.
        log_scores: Log predictive density of the held-out runs under each candidate, summed over runs.
    """

    ratio: float
    fitted: int
    held_out: int
    log_scores: tuple[float, ...]


@known_keywords
@dataclasses.dataclass(frozen=True, repr=False)
class Stacking:
    """Weights of candidates, and the forecasts from which they were computed.

    Attributes:
        labels: Name of each candidate.
        weights: Weight of each candidate.
        concentration: Concentration of the Dirichlet prior of the weights.
        cuts: The cuts of the runs.
        owners: For each component of the mixture, the name of the candidate to which it belongs.
        skipped: Cuts that could not be made, each with the reason.
    """

    labels: tuple[str, ...]
    weights: tuple[float, ...]
    concentration: float
    cuts: tuple[Cut, ...]
    owners: tuple[str, ...]
    skipped: tuple[str, ...] = ()

    @property
    def held_out(self) -> int:
        """Number of forecasts of held-out runs; a run counts once for each cut that holds it out."""
        return sum(cut.held_out for cut in self.cuts)

    def to_frame(self) -> pd.DataFrame:
        """Return one row a candidate: its weight, its log score over all cuts, and that of each cut.

        Columns are weight, log_score (the mean log predictive density of a held-out run; larger is better), and
        `ratio_R` with the same mean for each cut.
        """
        total = np.sum([cut.log_scores for cut in self.cuts], axis=0) / self.held_out
        table = pd.DataFrame({"weight": self.weights, "log_score": total}, index=pd.Index(self.labels))
        for cut in self.cuts:
            table[f"ratio_{cut.ratio:.6g}"] = np.array(cut.log_scores) / cut.held_out
        return table

    def __repr__(self) -> str:
        """Return the text, cut to one screen."""
        return one_screen(str(self))

    def __str__(self) -> str:
        """Return the weights and mean log scores of the candidates, and a description of the held-out runs."""
        ratios = ", ".join(factor_shown(cut.ratio, 3) for cut in self.cuts)
        lines = [
            f"Stacked by {counted(self.held_out, 'forecast')} of held-out runs, "
            f"{counted(len(self.cuts), 'cut')} (ratio {ratios}), Dirichlet concentration {self.concentration:g}:"
        ]
        width = max(map(len, self.labels))
        for name, weight, score in zip(self.labels, self.weights, self.to_frame()["log_score"], strict=True):
            lines.append(f"  {name:<{width}} weight {weight:.3f}, log score {score:.3f} a held-out run")
        return "\n".join([*lines, *(f"  skipped {reason}" for reason in self.skipped)])

    def encode(self) -> str:
        """Return labels, weights, scores and cuts as JSON, as stored in the file of a mixture."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def decode(cls, text: str) -> Stacking:
        """Rebuild a `Stacking` from the output of `encode`."""
        told = json.loads(text)
        cuts = [Cut(**{**cut, "log_scores": tuple(cut["log_scores"])}) for cut in told["cuts"]]
        lists = {name: tuple(told[name]) for name in ("labels", "weights", "owners", "skipped")}
        return cls(concentration=told["concentration"], cuts=tuple(cuts), **lists)


def stacking_weights(log_densities: np.ndarray, concentration: float) -> np.ndarray:
    """Return the weights that maximise the log density of the weighted mixture plus a symmetric Dirichlet log prior.

    The objective, sum_i ln(sum_k w_k p_ik) + (concentration - 1) sum_k ln w_k, is strictly concave on the simplex and
    decreases without bound towards its faces, so damped Newton steps reach its only maximum from any start. Because of
    concavity, the maximum is at most `gap` higher than the current value, where `gap` is the largest component of the
    gradient minus its weighted mean. The loop ends when `gap` is at most `TOLERANCE` for each held-out run.

    Args:
        log_densities: ln p_ik of held-out run i under candidate k, shape (run, candidate).
        concentration: Above 1. Each candidate keeps at least the weight (concentration - 1) / (n + K (concentration -
            1)), with n runs and K candidates, as if concentration - 1 runs of its own had been held out.

    Returns:
        Shape (candidate,), positive, with sum one.

    Example:
        >>> stacking_weights(np.log([[0.2, 0.2], [0.5, 0.5]]), 2.0).tolist()
        [0.5, 0.5]
    """
    found = np.asarray(log_densities, float)
    # Densities relative to the best candidate of each run: a factor common to all candidates changes no weight.
    density = np.exp(found - found.max(axis=1, keepdims=True))
    runs, candidates = density.shape
    pseudo = concentration - 1.0

    def objective(weights: np.ndarray) -> float:
        return float(np.log(density @ weights).sum() + pseudo * np.log(weights).sum())

    weights = np.full(candidates, 1.0 / candidates)
    for _ in range(ITERATIONS):
        relative = density / (density @ weights)[:, None]
        gradient = relative.sum(0) + pseudo / weights
        gap = gradient.max() - weights @ gradient
        if gap <= TOLERANCE * runs:
            break
        curvature = relative.T @ relative + np.diag(pseudo / weights**2)
        toward, level = np.linalg.solve(curvature, np.column_stack([gradient, np.ones(candidates)])).T
        step = toward - toward.sum() / level.sum() * level
        weights = along(weights, step, float(step @ gradient), objective)
    return weights / weights.sum()


def along(
    weights: np.ndarray, step: np.ndarray, promised: float, objective: Callable[[np.ndarray], float]
) -> np.ndarray:
    """Return the weights after a step, halved until it stays inside the simplex and raises the objective enough."""
    here, size = objective(weights), 1.0
    while size > SMALLEST_STEP:
        tried = weights + size * step
        if (tried > 0.0).all() and objective(tried) >= here + ENOUGH * size * promised:
            return tried
        size /= 2.0
    # The remaining gain is smaller than rounding errors.
    return weights
