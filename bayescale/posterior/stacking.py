"""Stacking: weights of candidates from their forecasts of held-out runs, and the record of where they come from.

After yao2018stacking: the weights are those under which the weighted mean of the candidates' predictive densities is
largest at the held-out runs. Held out are the largest runs, as burkner2020future holds out the future: runs beyond the
data are what is forecast.
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
"""How far below its maximum the objective may end, in nats per held-out run."""
ITERATIONS = 1000
SMALLEST_STEP = 1e-12
ENOUGH = 0.25
"""Share of the gain that a Newton step promises, of which a step must bring so much."""


@dataclasses.dataclass(frozen=True)
class Cut:
    """One cut of the runs, and how well each candidate forecast the runs beyond it.

    Attributes:
        ratio: Factor that was asked for, or that the held-out runs reach beyond the others.
        fitted: Runs that were fitted.
        held_out: Runs that were forecast.
        log_scores: Log predictive density of the held-out runs under each candidate, summed over them.
    """

    ratio: float
    fitted: int
    held_out: int
    log_scores: tuple[float, ...]


@known_keywords
@dataclasses.dataclass(frozen=True, repr=False)
class Stacking:
    """Weights of candidates, and the forecasts that they come from.

    Attributes:
        labels: Name of each candidate.
        weights: Weight of each.
        concentration: Of the Dirichlet prior of the weights.
        cuts: The cuts of the runs.
        owners: Of each component of the mixture, the name of the candidate that it belongs to.
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
        """Number of forecasts of held-out runs; a run that several cuts hold out counts in each."""
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
        """Return the weights and mean log scores of the candidates, and what was held out."""
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
        """Return labels, weights, scores and cuts as JSON, as the file of a mixture holds them."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def decode(cls, text: str) -> Stacking:
        """Return what `encode` wrote as a `Stacking`."""
        told = json.loads(text)
        cuts = [Cut(**{**cut, "log_scores": tuple(cut["log_scores"])}) for cut in told["cuts"]]
        lists = {name: tuple(told[name]) for name in ("labels", "weights", "owners", "skipped")}
        return cls(concentration=told["concentration"], cuts=tuple(cuts), **lists)


def stacking_weights(log_densities: np.ndarray, concentration: float) -> np.ndarray:
    """Return the weights that maximise the log density of the weighted mixture plus a symmetric Dirichlet log prior.

    The objective, sum_i ln(sum_k w_k p_ik) + (concentration - 1) sum_k ln w_k, is strictly concave on the simplex and
    falls without bound towards its faces, so damped Newton steps reach its only maximum from any start. By concavity no
    point lies higher than `gap`, the largest component of the gradient less its weighted mean: the loop ends where
    that is at most `TOLERANCE` for each held-out run.

    Args:
        log_densities: ln p_ik of held-out run i under candidate k, shape (run, candidate).
        concentration: Above 1. Each candidate keeps at least the weight (concentration - 1) / (n + K (concentration -
            1)) of n runs and K candidates, as if concentration - 1 runs of its own had been held out.

    Returns:
        Shape (candidate,), positive, with sum one.

    Example:
        >>> stacking_weights(np.log([[0.2, 0.2], [0.5, 0.5]]), 2.0).tolist()
        [0.5, 0.5]
    """
    found = np.asarray(log_densities, float)
    # Relative to the best candidate of each run: a factor common to all candidates moves no weight.
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
    """Return the weights after as much of a step as raises the objective by enough, and stays inside the simplex."""
    here, size = objective(weights), 1.0
    while size > SMALLEST_STEP:
        tried = weights + size * step
        if (tried > 0.0).all() and objective(tried) >= here + ENOUGH * size * promised:
            return tried
        size /= 2.0
    # Rounding hides what is left to gain.
    return weights
