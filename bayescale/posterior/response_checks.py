"""Checks of curves of scores and values: whether they turn, are flat, or lie at chance."""

from __future__ import annotations

import numpy as np

from bayescale.data.score import counts
from bayescale.data.trends import has_trough
from bayescale.posterior.curves import RISE, counted_curve, rise, rises, steepens, sure_rise, turns
from bayescale.posterior.fitted import Fitted
from bayescale.posterior.notes import Note

FALLEN = 3.0
"""A score counts as fallen if it is lower than an earlier one by this many standard errors."""
TROUGH = 0.3
"""Values of five to seven points fall again if they fall by more than this fraction of their range."""
RISES_THROUGHOUT = 0.7
"""Correlation of ln x and ln y above which a response counts as rising throughout instead of rising again."""


def check_score(posterior: Fitted) -> list[Note]:
    """Return notes on a score that decreases again, and on one that no run raised above chance."""
    runs, name = posterior.runs, posterior.law.inputs[0]
    assert runs.score is not None, "scores"
    right, items = counts(runs.frame)
    x, group = np.unique(runs.frame[name].to_numpy(float), return_inverse=True)
    right, items = np.bincount(group, right), np.bincount(group, items)
    score = right / items
    # One half-right item is added, so that no error is zero where no item or every item is right.
    share = (right + 0.5) / (items + 1.0)
    seed_sd = float(np.median(np.asarray(posterior.flat_values.seed_sd, float)))
    drawn = posterior.drawn_score
    chance = runs.score.chance if drawn is None else float(np.median(drawn.chance))
    # Scores of single runs also scatter by their beta distribution.
    apart = 1.0 / items + (0.0 if drawn is None else 1.0 / (1.0 + float(np.median(drawn.concentration))))
    error = np.hypot(np.sqrt(share * (1.0 - share) * apart), seed_sd * share * (1.0 - share))
    notes = []
    top = int(np.argmax(score - error))
    fall = (score[top] - score) / np.hypot(error[top], error)
    # A score as a function of a loss falls with its input.
    better = -x if rises(posterior) else x
    low = int(np.argmax(np.where(better > better[top], fall, 0.0)))
    if better[low] > better[top] and fall[low] > FALLEN and not turns(posterior):
        text = (
            f"The score falls from {score[top]:.3g} at {name} {x[top]:.3g} to {score[low]:.3g} at {x[low]:.3g}, more "
            "than its items explain. A law that moves in one direction only does not describe this, and no interval "
            "here foresees the next turn: do not decide on this forecast."
        )
        notes.append(Note("not_monotone", "warning", text, "hump"))
    # Where guessing is never right, one right item is above chance.
    if (score - chance < FALLEN * error).all() and not (chance == 0.0 and right.any()):
        text = (
            f"No run is above chance ({chance:.3g}) by more than its items explain. When the score begins to rise, and "
            "how fast, is not in these data: do not decide on this forecast."
        )
        notes.append(Note("at_chance", "warning", text))
    return notes


def check_value(posterior: Fitted) -> list[Note]:
    """Return notes on values of one input that are all equal, that become worse, or that become worse again."""
    runs, name = posterior.runs, posterior.law.inputs[0]
    value = runs.value
    assert value is not None, "values"
    x, y, count = counted_curve(runs, name)
    if len(y) > 1 and np.ptp(runs.frame["value"].to_numpy(float)) == 0.0:
        text = (
            f"All {len(y)} values are equal ({runs.frame['value'].iloc[0]:.4g}): nothing was learned yet, or the "
            "metric is too coarse to show it. When such a curve begins to move, and how fast, is not in these data: do "
            "not decide on this forecast."
        )
        return [Note("flat", "warning", text)]
    if len(y) < 4 or rises(posterior) or turns(posterior):
        return []
    later = []
    # A sigmoid that bends is steep in its middle third; only a curve whose last third is the steepest goes on.
    if steepens(x, y) and steepens(x[len(x) // 3 :], y[len(y) // 3 :]):
        text = (
            "The curve still steepens: where rewards had just begun to move, forecasts of published curves were too "
            "low more often than stated."
        )
        later = [Note("steepening", "info", text)]
    above = rise(y)
    if above <= RISE * np.ptp(y):
        return later
    verb, option = "rises", "when reading, leave out lower_is_better= (--lower-is-better)"
    if value.higher_is_better:
        verb, option = "falls", "when reading, give lower_is_better=True (--lower-is-better)"
    if np.corrcoef(x, y)[0, 1] > RISES_THROUGHOUT:
        text = (
            f"The value {verb} with {name}, and {posterior.law.name} describes values that become better: do not "
            f"decide on this forecast. If the direction is wrong, {option}."
        )
        return [Note("not_monotone", "warning", text, "rising")]
    if not (has_trough(y) and y[-1] - y.min() > TROUGH * np.ptp(y)) and sure_rise(y, count) <= 1.0:
        return later
    text = (
        f"The value {verb} again by {above / np.ptp(y):.0%} of its range. A law that moves in one direction only does "
        "not describe this, and no interval here foresees the next turn: do not decide on this forecast."
    )
    return [Note("not_monotone", "warning", text, "hump")]
