"""Caveats: reasons for which a posterior cannot answer a question, and the run that would change that."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from bayescale.checked import known_keywords
from bayescale.data.ray import OFF_RAY
from bayescale.digits import factor_shown, inputs_text
from bayescale.errors import Status
from bayescale.forecast import RECORD_RATIO, TESTED
from bayescale.posterior.checks import COLLINEAR, REVERSED, grave_notes
from bayescale.posterior.fitted import Fitted
from bayescale.posterior.track_record import ONLY_LARGER

INSIDE = 1.05
"""A point counts as inside the data if each input lies within this factor of its training range."""


@known_keywords
@dataclasses.dataclass(frozen=True)
class Caveat:
    """One reason for which a question cannot be answered from these runs.

    Attributes:
        code: Short name of the reason, which programs may rely on.
        text: The reason in one sentence.
        run: Inputs of the cheapest run that would remove the reason; None where no run would.
        remedy: What to do, in one sentence.
    """

    code: str
    text: str
    run: dict[str, float] | None
    remedy: str

    def __str__(self) -> str:
        """Return the reason and the remedy."""
        return f"{self.text} {self.remedy}"


@known_keywords
def caveats(posterior: Fitted, at: dict[str, float]) -> list[Caveat]:
    """List the caveats of an answer about the run `at`; an empty list means that a confident answer is possible.

    Args:
        posterior: The fit.
        at: Inputs of the run in question: raw counts by name.

    Returns:
        The caveats, the most serious first.
    """
    found = [not_a_law(posterior, at), unconverged(posterior), one_ray(posterior, at), two_scales(posterior, at)]
    return [caveat for caveat in found if caveat is not None]


def unconverged(posterior: Fitted) -> Caveat | None:
    """Return the caveat about a fit whose chains did not converge."""
    if posterior.status is Status.OK:
        return None
    remedy = (
        "Fit again with longer chains, settings=Nuts(warmup=1000, draws=2000) (bayescale fit --warmup 1000 --draws "
        "2000); no new run is needed."
    )
    return Caveat("unconverged", f"The fit cannot be relied on: {posterior.status}", None, remedy)


def not_a_law(posterior: Fitted, at: dict[str, float]) -> Caveat | None:
    """Return the caveat about a flat curve, a curve that rises again, or data that are repeated too often."""
    grave = grave_notes(posterior, pd.DataFrame([at]))
    if not grave:
        return None
    remedy = "Model the cause (repeated data, over-fitting) or repeat runs."
    if grave[0].code == "at_chance":
        remedy = "Add larger runs until the score leaves chance, or forecast the loss."
    elif grave[0].code == "flat":
        remedy = "Add larger runs until the loss moves, or use a finer metric."
    elif grave[0].shape == "rising" or grave[0].code in REVERSED:
        remedy = "No new run is needed."
    elif grave[0].shape == "hump" and posterior.runs.value is None:
        law = "rise_then_fall" if posterior.runs.score is None else "inverted_u_score"
        remedy = f"Fit a law that turns: law={law!r} (bayescale fit --law {law})."
    return Caveat(grave[0].code, grave[0].text, None, remedy)


def log_inputs(posterior: Fitted) -> np.ndarray:
    """Return ln of the fitted runs' inputs, shape (run, input)."""
    return np.log(posterior.runs.frame[list(posterior.law.inputs)].to_numpy(float))


def one_ray(posterior: Fitted, at: dict[str, float]) -> Caveat | None:
    """Return the caveat about a question off the ray (inputs that grow together) on which all runs lie."""
    if posterior.ray is not None:
        return off_ray(posterior, at)
    names = posterior.law.inputs
    x = log_inputs(posterior)
    moving = np.ptp(x, axis=0) > np.log(1.5)
    if moving.sum() < 2 or len(x) < 3:
        return None
    part = x[:, moving]
    center = part.mean(0)
    _, _, axes = np.linalg.svd(part - center, full_matrices=False)
    correlation = np.corrcoef(part.T)
    if np.abs(correlation - np.eye(len(correlation))).max() <= COLLINEAR:
        return None
    there = np.log([at[name] for name in names])[moving] - center
    along = (there @ axes[0]) * axes[0]
    if np.abs(there - along).max() < np.log(OFF_RAY):
        return None
    # The distance is stated where the first input has the value in question, which is how people compare.
    away = np.abs(there - axes[0] * (there[0] / axes[0][0])).max()
    # The proposed run has the size of the smallest run, moved off the ray towards the question.
    run = x[np.argmin(x.sum(1))].copy()
    run[moving] += there - along
    inputs = {name: float(np.exp(value)) for name, value in zip(names, run, strict=True)}
    listed = " and ".join(np.asarray(names)[moving])
    text = f"{listed} moved together in all {len(x)} runs, and the question lies off their ray by a factor "
    text += f"{np.exp(away):.2g}: what each of them does alone is not in these data."
    return Caveat("one_ray", text, inputs, f"Add small runs off the ray, the cheapest at {inputs_text(inputs)}.")


def off_ray(posterior: Fitted, at: dict[str, float]) -> Caveat | None:
    """Return the caveat about a question off the ray, for a fit of one input along the ray."""
    ray = posterior.ray
    assert ray is not None, "a fit along a ray"
    full, beside = ray.locate(pd.DataFrame([at]))
    if beside[0] <= OFF_RAY:
        return None
    run, remedy = ray.remedy(full.iloc[0].astype(float).to_dict(), posterior.ray_start)
    text = (
        f"All {len(posterior.runs)} runs lie on one ray ({ray.text}), and the question lies off it by a factor "
        f"{ray.departure(full.iloc[0])}: what each input does alone is not in these data."
    )
    return Caveat("one_ray", text, run, remedy)


def two_scales(posterior: Fitted, at: dict[str, float]) -> Caveat | None:
    """Return the caveat about an extrapolation from fewer than three values of an input."""
    frame = posterior.runs.frame
    for name in posterior.law.inputs:
        values = np.sort(frame[name].unique().astype(float))
        beyond = max(at[name] / values[-1], values[0] / at[name])
        if (len(values) >= 3 and values[-1] / values[0] >= 1.5) or beyond <= INSIDE:
            continue
        middle = float(np.sqrt(values[-1] * at[name]))
        inputs = at | {other: float(frame[other].median()) for other in posterior.law.inputs} | {name: middle}
        count = f"only {len(values)} value{'s' if len(values) > 1 else ''}" if len(values) < 3 else "nearly one value"
        text = f"{name} takes {count} in these runs, which show no bend and no floor, and the question lies beyond."
        return Caveat("few_scales", text, inputs, f"Add a run at {inputs_text(inputs)}.")
    return None


def law_point(posterior: Fitted, at: dict[str, float]) -> np.ndarray:
    """Return the run in question as inputs of the law, shape (1, input); a law along a ray has one input."""
    return posterior.law_inputs(posterior.locate(pd.DataFrame([at]), {})[0])


def far_caveat(posterior: Fitted, at: dict[str, float]) -> str | None:
    """Return a remark on a question farther beyond the data than intervals were tested, with the run that helps.

    Returns:
        The sentences, or None where the main test on held-out runs reaches the question.
    """
    names, frame = posterior.law.inputs, posterior.runs.frame
    point = law_point(posterior, at)
    worst = float(posterior.ratio(point)[0])
    if worst <= RECORD_RATIO * (1.0 + 1e-9):
        return None
    if posterior.below(point)[0]:
        return f"The question lies {factor_shown(worst, 3)} times below the data. {ONLY_LARGER}"
    inputs = {}
    # Along a ray the extrapolation factor is that of the product of all inputs.
    reach = RECORD_RATIO ** (1.0 / posterior.ray_power)
    for name in names:
        low, high = float(frame[name].min()), float(frame[name].max())
        near = min(max(at[name], low / reach), high * reach)
        # An input within reach of the data needs no value beyond the data in the cheapest run.
        inputs[name] = min(max(at[name], low), high) if near == at[name] else max(at[name] / reach, high)
        if at[name] < low / reach:
            inputs[name] = at[name] * reach
    return (
        f"The question lies {factor_shown(worst, 3)} times beyond the data; {TESTED}. A run at {inputs_text(inputs)}, "
        f"or a larger one, would bring it within {RECORD_RATIO:g} times."
    )
