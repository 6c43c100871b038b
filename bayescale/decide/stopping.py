"""Stopping: which runs in progress to stop early, from their losses so far."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayescale import checked
from bayescale._display import Display
from bayescale.checked import known_keywords
from bayescale.decide.outcomes import at_point, error_odds, joint_draws
from bayescale.decide.trust import Caveat, caveats
from bayescale.decide.utility import check_target, money
from bayescale.digits import NOTHING, inputs_text
from bayescale.errors import InputError
from bayescale.forecast import At
from bayescale.posterior.fitted import Fitted
from bayescale.posterior.posterior import fitted

CHANCE = 0.1
"""Without costs, a run is stopped if its probability of meeting the target is below this."""


@known_keywords
@dataclasses.dataclass(frozen=True)
class Stops(Display):
    """Recommended action for each run in progress.

    Attributes:
        frame: One row a run: `run`, `action` ("stop", "continue" or "cannot say", which means continue), `probability`
            that the final loss meets the target, its Monte-Carlo error, the `median` and the 80 % ends (`low`, `high`)
            of the final loss, `p_best`, the probability that it ends as the best of these runs, and with costs the
            expected regret of stopping and of continuing.
        target: Loss, or score, that the finished run must meet.
        at: Inputs at which runs end.
        chance: Probability of meeting the target below which a run is stopped.
        unit: Unit of the regrets.
        caveats: Reasons for "cannot say" by run.
    """

    frame: pd.DataFrame
    target: float
    at: dict[str, float]
    chance: float
    unit: str
    caveats: dict[str, list[Caveat]]

    @property
    def text(self) -> str:
        """The answer in words."""
        stopped = self.frame[self.frame["action"] == "stop"]
        where = inputs_text(self.at)
        rule = f"their chance to meet {self.target:g} at {where} is under {self.chance:.2g}"
        head = "No run should be stopped" if stopped.empty else f"Stop {', '.join(stopped['run'])}: {rule}"
        if stopped.empty:
            head += f": none has a chance under {self.chance:.2g} to meet {self.target:g} at {where}"
        unsure = self.frame.loc[self.frame["action"] == "cannot say", "run"]
        if len(unsure):
            head += f". Nothing can be said of {', '.join(unsure)} ({self.caveats[unsure.iloc[0]][0].text})"
        if "regret_stop" in self.frame and len(stopped):
            head += (
                f". Expected regret of stopping them {money(stopped['regret_stop'].sum(), self.unit)}, of continuing "
            )
            head += money(stopped["regret_continue"].sum(), self.unit)
        return head.rstrip(".") + "."

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.frame.copy()

    def to_dict(self) -> dict[str, Any]:
        """Return all results as plain values, ready for JSON."""
        listed = {run: [dataclasses.asdict(caveat) for caveat in found] for run, found in self.caveats.items()}
        plain = {"text": self.text, "target": self.target, "at": self.at, "chance": self.chance, "unit": self.unit}
        return plain | {"runs": self.frame.to_dict("records"), "caveats": listed}

    def __repr__(self) -> str:
        """Return the text, cut to one screen."""
        return checked.one_screen(str(self))

    def __str__(self) -> str:
        """Return the answer and the table."""
        return "\n".join(
            [self.text, self.frame.to_string(index=False, na_rep=NOTHING, float_format=lambda value: f"{value:.4g}")]
        )


@known_keywords
def stop_early(
    posteriors: Fitted | Mapping[str, Fitted],
    target: float,
    *,
    remaining: float | None = None,
    value: float | None = None,
    chance: float = CHANCE,
    unit: str = "",
    at: At | None = None,
    **inputs: float,
) -> Stops:
    """Recommend which runs in progress to stop.

    Each posterior is a fit to the losses of one run so far, over its own steps or tokens. A run is stopped if its
    probability of meeting the target is below `chance`. With `remaining` and `value`, it is stopped if continuing costs
    more than it is expected to bring.

    Args:
        posteriors: One fit, or a mapping from names of runs to fits.
        target: Loss, or score, that the finished run must meet.
        remaining: Cost of finishing a run.
        value: What a finished run that meets the target is worth, in the same unit.
        chance: Probability below which a run is stopped. With `remaining` and `value`, a run is stopped below the
            probability remaining / value instead.
        unit: Unit of `remaining` and `value`, printed in texts.
        at: Inputs at which runs end, e.g. `{"step": 100_000}`, as a mapping or a table of one row.
        **inputs: The same inputs as keyword arguments, unless an input has the name of an option.

    Raises:
        InputError: For only one of `remaining` and `value`, or impossible inputs.

    Example:
        >>> bs.decide.stop_early({"lr 3e-4": post_a, "lr 1e-3": post_b}, 2.9, step=50_000)  # doctest: +SKIP
    """
    if not isinstance(posteriors, Mapping):
        posteriors = {"run": fitted(posteriors)}
    named = {name: fitted(posterior) for name, posterior in posteriors.items()}
    perhaps = checked.optional(checked.POSITIVE)
    for posterior in named.values():
        check_target(target, posterior.runs.response_scale)
    checked.options(chance=(chance, checked.PROBABILITY), unit=(unit, checked.TEXT))
    checked.options(remaining=(remaining, perhaps), value=(value, perhaps))
    if not named:
        raise InputError("No run was given; expected a posterior, or posteriors by name.")
    chance = chance_to_stop(remaining, value, chance, unit)
    rows, final, reasons = [], [], {}
    point: dict[str, float] = {}
    for name, posterior in named.items():
        point = at_point(posterior, at, inputs)
        forecast = posterior.forecast_at(pd.DataFrame([point]), "run")
        p = float(forecast.probability_met(target)[0])
        here = joint_draws(posterior, pd.DataFrame([point]))
        spread = here.spread(0)
        met = (spread > target if forecast.higher_is_better else spread < target).mean(1)
        found = caveats(posterior, point)
        low, high = forecast.interval(0.8)[:, 0]
        row = {"run": name, "action": "stop" if p < chance else "continue", "probability": p}
        row |= {"probability_error": here.error(met), "median": float(forecast.quantile(0.5)[0])}
        row |= {"low": float(low), "high": float(high)}
        if remaining is not None and value is not None:
            row |= {"regret_stop": p * max(value - remaining, 0.0), "regret_continue": (1.0 - p) * remaining}
        if found:
            row["action"] = "cannot say"
            reasons[name] = found
        rows.append(row)
        rng = np.random.default_rng([posterior.seed, len(final)])
        run = here.run(0, rng)
        if (scale := posterior.runs.value) is not None:
            # Each fit has its own y; values with the sign of losses are comparable.
            run = scale.sign * scale.response(run)
        elif posterior.runs.score is not None and any(one.drawn_score is not None for one in named.values()):
            # Log odds are comparable only within one range.
            run = run if posterior.drawn_score is not None else error_odds(posterior.runs.score.score(run))
        final.append(rng.permutation(run))
    frame = pd.DataFrame(rows)
    size = min(len(values) for values in final)
    best = np.argmin(np.stack([values[:size] for values in final]), axis=0)
    frame.insert(3, "p_best", np.bincount(best, minlength=len(final)) / size)
    return Stops(frame, float(target), point, float(chance), unit, reasons)


def chance_to_stop(remaining: float | None, value: float | None, chance: float, unit: str) -> float:
    """Return the probability of success below which a run is stopped: remaining / value, or `chance` without these.

    Raises:
        InputError: For only one of `remaining` and `value`, or for options that have no effect with or without them.
    """
    if (remaining is None) != (value is None):
        raise InputError(
            "remaining= and value= belong together (--remaining, --value): what finishing costs, and what meeting the "
            "target is worth."
        )
    if remaining is not None and chance != CHANCE:
        raise InputError(
            "chance (--chance) has no effect together with remaining and value (--remaining, --value), because their "
            "ratio is used instead. Leave it out."
        )
    if remaining is None and unit:
        raise InputError("unit (--unit) has no effect without remaining and value (--remaining, --value).")
    if remaining is not None and value is not None:
        if not (remaining > 0 and value > 0):
            raise InputError(f"remaining and value must be positive; found {remaining} and {value}.")
        return remaining / value
    return chance
