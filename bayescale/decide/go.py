"""Go or no-go: whether to buy a run, the probability that it meets its target, and what a wrong decision costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr

from bayescale import checked
from bayescale._display import Display
from bayescale._record import Array
from bayescale.checked import known_keywords
from bayescale.data.value import ResponseScale
from bayescale.decide.chained import Outlook, through
from bayescale.decide.outcomes import at_point, joint_draws, mean_error
from bayescale.decide.pilots import BATCH, Ranking, below_error, ladder, priced, rank
from bayescale.decide.trust import Caveat, caveats, far_caveat, law_point
from bayescale.decide.utility import Utility, make_utility, money, regrets
from bayescale.digits import inputs_text, shown
from bayescale.errors import InputError, some
from bayescale.forecast import RECORD_RATIO, At, Forecast
from bayescale.posterior.chain import Chain
from bayescale.posterior.fitted import Fitted
from bayescale.posterior.track_record import INSIDE, VALUES
from bayescale.score_forecast import ScoreForecast

ANSWERS = {
    "go": "buy the run",
    "no-go": "do not buy the run",
    "pilot first": "buy a smaller run first and decide again",
    "cannot say": "these runs are not enough for an answer",
}
"""Every answer and what it means."""
EVEN = "even stakes: no cost and value were given, so both mistakes count alike"
CLEAR = 2.0
"""Expected worths of the two actions count as different if they differ by this many Monte-Carlo standard errors."""


@known_keywords
@dataclasses.dataclass(frozen=True)
class Decision(Display):
    """Decision whether to buy a run.

    Attributes:
        answer: A key of `ANSWERS`.
        target: Loss, or score, that the run should meet.
        at: Inputs of the run.
        cost: What the run costs.
        value: What meeting the target is worth; None if the utility is a function.
        unit: Unit of cost, value, worth, regret and information.
        utility: Worth of going and of not going, as functions of the outcome.
        probability: Probability that one run with a new seed meets the target, with the uncertainty of law and
            discrepancy, and with run-to-run and seed noise.
        probability_error: Monte-Carlo standard error of `probability`.
        probability_curve: Probability that the mean curve meets the target, with the uncertainty of law and discrepancy
            but without noise.
        probability_curve_error: Monte-Carlo standard error of `probability_curve`.
        forecast: The forecast of the run.
        break_even: Probability of meeting the target above which going pays; None where the probability alone does not
            decide.
        turning_target: Target at which the answer would change between go and no-go; None where there is no such
            target.
        worth: Expected worth of going minus that of not going.
        worth_error: Monte-Carlo standard error of `worth`.
        regret: Expected regret of "go" and of "no-go".
        evpi: Expected value of perfect information: the smaller of the two regrets.
        pilots: Ranking of pilots; None if no pilots were considered.
        caveats: Reasons for which no confident answer is given.
        stakes: Whether cost and value were given.
        remarks: Sentences that qualify the answer: the question lies beyond the tested extrapolation factor, or such a
            run is already in the data.
    """

    answer: str
    target: float
    at: dict[str, float]
    cost: float
    value: float | None
    unit: str
    utility: Utility
    probability: float
    probability_error: float
    probability_curve: float
    probability_curve_error: float
    forecast: Forecast
    break_even: float | None
    turning_target: float | None
    worth: float
    worth_error: float
    regret: dict[str, float]
    evpi: float
    pilots: Ranking | None
    caveats: list[Caveat]
    stakes: bool
    remarks: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The answer in sentences: what to do, the probabilities, the costs of mistakes, and what would change it."""
        return " ".join([self.headline, self.chances, self.stake, self.change, *self.remarks])

    @property
    def higher_is_better(self) -> bool:
        """Return whether a higher response is better, as for a score."""
        return self.forecast.higher_is_better

    @property
    def side(self) -> str:
        """Return the side of the target on which the run has to end: `below` for a loss, `above` for a score."""
        return "above" if self.higher_is_better else "below"

    @property
    def headline(self) -> str:
        """The answer in one sentence."""
        what, far = f"the run at {inputs_text(self.at)}", ""
        if self.forecast.ratio[0] > RECORD_RATIO:
            far = f", {self.forecast.distance(0)}"
        if self.answer == "cannot say":
            return f"Cannot say whether {what} meets {self.target:g}: {self.caveats[0].text}"
        if self.answer == "pilot first":
            assert self.pilots is not None
            return f"Pilot first, before {what}{far}. {self.pilots.text}"
        answer = "Go" if self.answer == "go" else "No go"
        return f"{answer}{far}: {what}." if far else f"{answer} on {what}."

    @property
    def chances(self) -> str:
        """The probability of meeting the target, and which uncertainty it contains."""
        low, high = self.forecast.interval(0.8)[:, 0]
        middle, fine = self.forecast.quantile(0.5)[0], self.forecast.resolution[0]
        trust = "By the model alone, which is not to be relied on here, the" if self.caveats else "The"
        # Another response than the loss is named, so that nobody compares its target with losses.
        response = self.forecast.response
        run = "run" if response in ("loss", "score") else f"{response} of the run"
        return (
            f"{trust} {run} ends {self.side} {self.target:g} with probability {self.probability:.2f} (Monte-Carlo "
            f"error {self.probability_error:.3f}; law, discrepancy, run-to-run and seed noise; the mean curve alone "
            f"{self.probability_curve:.2f}); median {shown(middle, fine)}, 80 % {shown(low, fine)} to "
            f"{shown(high, fine)}."
        )

    @property
    def stake(self) -> str:
        """Return a sentence about the costs of wrong decisions."""
        parts = []
        if self.break_even is not None and self.break_even >= 1.0:
            parts.append("Going never pays: it costs at least what a success is worth")
        elif self.break_even is not None:
            parts.append(f"Going pays above a probability of {self.break_even:.2f}")
        if self.stakes:
            parts.append(
                f"expected regret {money(self.regret['go'], self.unit)} if we go and "
                f"{money(self.regret['no-go'], self.unit)} if we do not, so knowing the outcome beforehand "
                f"would be worth {money(self.evpi, self.unit)}"
            )
        else:
            parts.append(f"({EVEN})")
        return " ".join(parts)[:1].upper() + ("; " if self.stakes else " ").join(parts)[1:] + "."

    @property
    def change(self) -> str:
        """Return sentences about what would change the answer."""
        if self.answer == "cannot say":
            return self.caveats[0].remedy
        sentences = []
        if abs(self.worth) < CLEAR * self.worth_error:
            sentences.append(
                "The two actions are closer than the Monte-Carlo error: draw more before relying on either."
            )
        if self.turning_target is not None:
            direction = "An easier" if (self.turning_target < self.target) == self.higher_is_better else "A harder"
            turned = "no-go" if self.worth > 0 else "go"
            turning_point = shown(self.turning_target, self.forecast.resolution[0])
            sentences.append(f"{direction} target of {turning_point} would turn it to {turned}.")
        if self.answer != "pilot first" and self.pilots is not None and self.stakes:
            best = self.pilots.frame.iloc[0]
            inputs = inputs_text({name: float(best[name]) for name in self.at if name in best})
            sentences.append(
                f"No pilot pays: the best, {'another seed of the run ' if best['kind'] == 'seed' else ''}at {inputs}, "
                f"costs {money(best['cost'], self.unit)} and its result is worth {money(best['evsi'], self.unit)}"
                f"{below_error(best['evsi'], best['evsi_error'], self.unit)}."
            )
        return " ".join(sentences)

    def to_frame(self) -> pd.DataFrame:
        """Return one row with the numbers of the decision."""
        row = {**self.at, "target": self.target, "answer": self.answer, "probability": self.probability}
        row |= {"probability_error": self.probability_error, "probability_curve": self.probability_curve}
        row |= {"break_even": self.break_even, "worth": self.worth, "regret_go": self.regret["go"]}
        return pd.DataFrame([row | {"regret_no_go": self.regret["no-go"], "evpi": self.evpi}])

    def to_dict(self) -> dict[str, Any]:
        """Return all results as plain values, ready for JSON."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name in ("utility", "forecast", "pilots", "caveats"):
            plain.pop(name)
        quantiles = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
        ends = self.forecast.quantile(quantiles)[:, 0]
        return plain | {
            "text": self.text,
            "utility": self.utility.says,
            "quantiles": {f"q{q:g}": float(end) for q, end in zip(quantiles, ends, strict=True)},
            "extrapolation": float(self.forecast.ratio.max()),
            "pilots": None if self.pilots is None else self.pilots.to_dict(),
            "caveats": [dataclasses.asdict(caveat) for caveat in self.caveats],
        }

    def __repr__(self) -> str:
        """Return the text, cut to one screen."""
        return checked.one_screen(str(self))

    def __str__(self) -> str:
        """Return the text with one sentence on each line."""
        lines = [self.answer.upper(), self.headline, self.chances, self.stake, self.change, *self.remarks]
        return "\n".join([line for line in lines if line] + [f"warning: {caveat}" for caveat in self.caveats[1:]])


@known_keywords
def go(
    posterior: Fitted | Chain,
    target: float,
    *,
    cost: float | None = None,
    value: float | None = None,
    utility: str | Callable[[Array], Array] = "step",
    pilots: pd.DataFrame | str | None = "auto",
    pilot_cost: Callable[[pd.DataFrame], Any] | None = None,
    batch: int = 1,
    unit: str = "",
    at: At | None = None,
    **inputs: float,
) -> Decision:
    """Decide whether to buy a run.

    The run pays if its expected worth over posterior predictive draws (law, discrepancy, run-to-run and seed noise) is
    positive. A pilot, a smaller run, comes first if its result is worth more than it costs. The answer is "cannot say"
    if chains did not converge, if the runs have two scales only, or if all runs lie on one ray (inputs that grow
    together) and the question lies off it. Questions far beyond the data are answered. Their intervals are wide because
    of the discrepancy, whose size was chosen on held-out runs; a remark says up to which extrapolation factor intervals
    were tested.

    Args:
        posterior: The fit, or a chain of two fits, for which no pilots are ranked.
        target: Loss (or score or value) that the run should meet, on the scale of the runs.
        cost: What the run costs, in any unit.
        value: What meeting the target is worth (`"step"`, `"opportunity"`), or what each nat below it is worth
            (`"per_nat"`), in the unit of `cost`. Without cost and value both wrong decisions count alike.
        utility: A name from `utility.UTILITIES`, or a function from an array of losses to the net worth of going.
        pilots: Candidates for `next_run`; "auto" for sizes between the largest run and this one; or None.
        pilot_cost: See `next_run`.
        batch: Largest number of pilots to buy together.
        unit: Unit of cost and value, printed in texts.
        at: Inputs of the run in raw counts, as a mapping from names or a table of one row.
        **inputs: The same inputs as keyword arguments, unless an input has the name of an option.

    Raises:
        InputError: For missing or impossible inputs, costs, values or names.

    References:
        raiffa1961applied, chapters 4 and 5.

    Example:
        >>> bs.decide.go(post, 2.6, cost=3e6, value=9e6, unit="USD", flops=1e21).answer  # doctest: +SKIP
        'go'
    """
    fit = posterior.losses if isinstance(posterior, Chain) else posterior
    at = at_point(fit, at, inputs)
    checked.options(unit=(unit, checked.TEXT), cost=(cost, checked.optional(checked.AT_LEAST_ZERO)))
    check_pilots(pilots, pilot_cost, batch)
    stakes = cost is not None or value is not None or callable(utility)
    price = 1.0 if cost is None else float(cost)
    if not stakes:
        refuse_stakeless(
            utility != "step", isinstance(pilots, pd.DataFrame), pilot_cost is not None, batch > 1, unit != ""
        )
    scored = posterior.scores if isinstance(posterior, Chain) else posterior
    chosen = chosen_utility(utility, target, cost, value, scored.runs.response_scale, stakes=stakes)
    found = through(posterior, at) if isinstance(posterior, Chain) else direct(posterior, at)
    (p, p_error), (q, q_error) = (chance(found, one, target) for one in (found.forecast, found.curve))
    gain = chosen.gain(found.outcomes)
    regret_go, regret_stay = regrets(chosen.go(found.outcomes), chosen.stay(found.outcomes))
    worth, ranking = float(gain.mean()), None
    table = candidates(posterior, pilots, at) if stakes else None
    if table is not None and len(table):
        table = priced(fit, table.reset_index(drop=True), at, price, pilot_cost)
        ranking = rank(fit, table, at, chosen, batch, unit)
    return Decision(
        answer=answer_of(worth, found.caveats, ranking),
        target=float(target),
        at=at,
        cost=price,
        value=None if value is None else float(value),
        unit=unit,
        utility=chosen,
        probability=p,
        probability_error=p_error,
        probability_curve=q,
        probability_curve_error=q_error,
        forecast=found.forecast,
        break_even=chosen.break_even,
        turning_target=turning(found.forecast, chosen.break_even),
        worth=worth,
        worth_error=found.error(gain.mean(1)),
        regret={"go": regret_go, "no-go": regret_stay},
        evpi=min(regret_go, regret_stay),
        pilots=ranking,
        caveats=found.caveats,
        stakes=stakes,
        remarks=found.remarks,
    )


def candidates(posterior: Fitted | Chain, pilots: pd.DataFrame | str | None, at: dict[str, float]) -> Any:
    """Return a table of candidates for a pilot, or None.

    Raises:
        InputError: For a table of pilots of a chain.
    """
    if not isinstance(posterior, Chain):
        return ladder(posterior, at) if isinstance(pilots, str) else pilots
    if isinstance(pilots, pd.DataFrame):
        raise InputError("Pilots are not ranked for a chain. Leave out pilots=, or rank them for chain.losses.")
    return None


def check_pilots(pilots: pd.DataFrame | str | None, pilot_cost: Any, batch: int) -> None:
    """Refuse impossible values of the options about pilots.

    Raises:
        InputError: With the option and the value that was found.
    """
    checked.options(batch=(batch, BATCH), pilot_cost=(pilot_cost, checked.optional(checked.CALLABLE)))
    if not (pilots is None or isinstance(pilots, pd.DataFrame) or (isinstance(pilots, str) and pilots == "auto")):
        raise InputError(f"pilots must be 'auto', None or a table; found {checked.shortened(pilots)}.")


def chosen_utility(
    utility: str | Callable[[Array], Array],
    target: float,
    cost: float | None,
    value: float | None,
    scale: ResponseScale | None,
    *,
    stakes: bool,
) -> Utility:
    """Return the utility of a run; without cost and value, both wrong decisions count alike.

    Raises:
        InputError: For a value without a cost, unless `utility` is a function, which contains both.
    """
    if not stakes:
        return make_utility("opportunity", target, 1.0, 1.0, scale)
    if cost is None and not callable(utility):
        raise InputError("value= (--value) was given without cost= (--cost): say what the run costs, in the same unit.")
    if callable(utility) and value is not None:
        raise InputError(
            "value has no effect if utility= is a function, because the function gives the value of each outcome."
        )
    return make_utility(utility, target, 1.0 if cost is None else float(cost), value, scale)


def answer_of(worth: float, reasons: Sequence[Caveat], ranking: Ranking | None) -> str:
    """Return a key of `ANSWERS`: a caveat means "cannot say", and a pilot that pays comes before the run."""
    if reasons:
        return "cannot say"
    if ranking is not None and ranking.batch:
        return "pilot first"
    return "go" if worth > 0 else "no-go"


def refuse_stakeless(*given: bool) -> None:
    """Refuse options that have no effect without cost and value.

    Args:
        *given: Whether the caller gave utility, pilots, pilot_cost, batch and unit, in this order.

    Raises:
        InputError: With the names of those options.
    """
    names = ("utility", "pilots", "pilot_cost", "batch", "unit")
    if idle := [name for name, was in zip(names, given, strict=True) if was]:
        raise InputError(
            f"{some(idle)} {'has' if len(idle) == 1 else 'have'} no effect without cost= and value= (--cost, --value), "
            "which are the stakes. Give both, or leave it out."
        )


def remarks(posterior: Fitted, at: dict[str, float]) -> tuple[str, ...]:
    """Return remarks on an answer: a question beyond the tested extrapolation factor, or a run already in the data."""
    found = [far] if (far := far_caveat(posterior, at)) is not None else []
    if posterior.runs.value is not None and float(posterior.ratio(law_point(posterior, at))[0]) > INSIDE:
        found.append(VALUES)
    names = list(posterior.law.inputs)
    there = np.isclose(posterior.runs.frame[names].to_numpy(float), law_point(posterior, at), rtol=1e-9).all(1)
    if there.any():
        losses = posterior.runs.shown[there]
        showed = f"showed {losses[0]:.6g}" if len(losses) == 1 else f"showed {losses.min():.6g} to {losses.max():.6g}"
        count = "A run" if len(losses) == 1 else f"{len(losses)} runs"
        found.append(f"{count} at these inputs is in the data and {showed}: the answer is about another seed.")
    return tuple(found)


def direct(posterior: Fitted, at: dict[str, float]) -> Outlook:
    """Return the forecasts, outcomes and caveats of a run of one fit."""
    point = pd.DataFrame([at])
    here = joint_draws(posterior, point)
    return Outlook(
        forecast=posterior.forecast_at(point, "run"),
        curve=posterior.forecast_at(point, "mean"),
        outcomes=here.spread(0),
        error=here.error,
        curve_error=lambda values: mean_error(values, posterior.layout),
        caveats=caveats(posterior, at),
        remarks=remarks(posterior, at),
    )


def chance(found: Outlook, forecast: Forecast, target: float) -> tuple[float, float]:
    """Return the probability that the target is met, and its Monte-Carlo standard error."""
    # Target and forecast are compared by the logarithm of what the law describes, which decreases as models get better.
    if isinstance(forecast, ScoreForecast) and forecast.drawn is not None:
        each = forecast.probability_above_each(target)
    else:
        each = ndtr((forecast.log_of(target) - forecast.location[:, 0]) / np.maximum(forecast.scale[:, 0], 1e-12))
    return float(each.mean()), found.curve_error(each)


def turning(forecast: Forecast, break_even: float | None) -> float | None:
    """Return the target whose probability equals `break_even`; None where the probability alone does not decide."""
    if break_even is None or not 0.0 < break_even < 1.0:
        return None
    return float(forecast.quantile(1.0 - break_even if forecast.higher_is_better else break_even)[0])
