"""Results of a comparison of recipes: one record for the point in question, with one record for each pair."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayescale import checked
from bayescale._display import Display
from bayescale.checked import known_keywords
from bayescale.decide.course import FARTHEST
from bayescale.decide.crossing import Crossing, share
from bayescale.decide.trust import Caveat
from bayescale.digits import factor_shown
from bayescale.errors import InputError, some
from bayescale.forecast import RECORD_RATIO

TOLD_APART = 0.65
"""Two recipes count as told apart if one of them is better with at least this probability."""


@known_keywords
@dataclasses.dataclass(frozen=True)
class Duel(Display):
    """Two recipes, A and B, compared at the point in question.

    Attributes:
        first: Name of A.
        second: Name of B.
        p_first: Probability that A's curve is the better one.
        p_first_run: Probability that one run of A beats one run of B.
        p_equal: Probability that the curves differ by less than the region of practical equality.
        p_first_clearly: Probability that A is better by more than that region.
        p_second_clearly: Probability that B is better by more than that region.
        difference: Quantiles of ln y_A - ln y_B, by probability; for values of A's value minus B's.
        speedup: Quantiles of the factor on the axis by which A must grow to equal B at the point; inf beyond 1000.
        p_unreachable: Probability that A does not equal B even at 1000 times the cost.
        paired: Whether the law was fitted to the ratio of their losses instead of to each recipe.
        common: Number of scales at which both were measured.
        says: Statement of which uncertainty the probabilities contain.
        caveats: Reasons for which no confident answer is possible.
        response: Name of the response.
        axis: Name of the axis: cost, or the one input along which recipes were compared.
        values: Whether the response is a value of any sign, such as a reward.
    """

    first: str
    second: str
    p_first: float
    p_first_run: float
    p_equal: float
    p_first_clearly: float
    p_second_clearly: float
    difference: Mapping[float, float]
    speedup: Mapping[float, float]
    p_unreachable: float
    paired: bool
    common: int
    says: str
    caveats: tuple[str, ...] = ()
    response: str = "loss"
    axis: str = "cost"
    values: bool = False

    def __repr__(self) -> str:
        """Return the text, cut to one screen."""
        return checked.one_screen(str(self))

    def __str__(self) -> str:
        """Return the answer in words."""
        return self.text

    @property
    def text(self) -> str:
        """The answer in words."""
        if self.caveats:
            return f"Cannot say whether {self.first} or {self.second} is better. {' '.join(self.caveats)}"
        ends = [self.difference[level] for level in (0.05, 0.5, 0.95)]
        low, middle, high = (signed(end if self.values else 100.0 * np.expm1(end)) for end in ends)
        middle = middle if self.values else f"{middle} %"
        return (
            f"{self.first} against {self.second}: better with probability {share(self.p_first)} (one run of each: "
            f"{share(self.p_first_run)}).\n"
            f"  Its {self.response}: {middle} (90 %: {low} to {high}).\n"
            f"  To equal {self.second}, {self.first} needs {self.speedup_text}."
        )

    @property
    def speedup_text(self) -> str:
        """Return the factor on the axis by which A must grow to equal B, median and 90 % interval, as text."""

        def times(value: float) -> str:
            if np.isinf(value):
                return f"more than {factor_shown(FARTHEST)}x"
            # A factor near one has more digits, because it matters on which side of one it lies.
            return f"{factor_shown(value, 2 if value >= 2.0 else 3)}x"

        low, middle, high = (times(self.speedup[level]) for level in (0.05, 0.5, 0.95))
        return f"{middle} the {self.axis} (90 %: {low} to {high})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers; a speed-up that is infinite becomes None."""
        return {
            **dataclasses.asdict(self),
            "difference": {f"{level:g}": value for level, value in self.difference.items()},
            "speedup": {f"{level:g}": value if np.isfinite(value) else None for level, value in self.speedup.items()},
        }


@known_keywords
@dataclasses.dataclass(frozen=True)
class Comparison(Display):
    """Recipes compared: the better one, with probabilities.

    Attributes:
        names: The recipes.
        at: Inputs of each recipe at the point in question.
        point: The point in question on the axis.
        axis: Name of the axis.
        p_best: Probability that each recipe has the best curve, by name.
        regret: Expected ln loss of each recipe minus that of the best one, by name.
        regret_nats: The same regret in units of the response; for values `regret` has this unit too.
        equal: Half-width of the region of practical equality, in ln loss; for values in units of the value.
        duels: A `Duel` for each pair of recipes.
        crossings: A `Crossing` for each pair, if a range was given.
        caveats: Reasons for which no confident answer is possible, by recipe.
        remarks: Sentences that qualify the answer, such as that the question lies beyond the tested extrapolation
            factor.
        next_point: Point of the axis at which one more run of each recipe would help to tell the recipes apart.
        higher_is_better: Whether a higher response is better.
        kind: Kind of the response: "loss", "score" or "value".
        reach: Extrapolation factor of the point for the recipe with the largest one; 1 inside the data.
    """

    names: tuple[str, ...]
    at: Mapping[str, Mapping[str, float]]
    point: float
    axis: str
    p_best: Mapping[str, float]
    regret: Mapping[str, float]
    regret_nats: Mapping[str, float]
    equal: float
    duels: tuple[Duel, ...]
    crossings: tuple[Crossing, ...]
    caveats: Mapping[str, tuple[Caveat, ...]]
    remarks: tuple[str, ...] = ()
    next_point: float = float("nan")
    reach: float = 1.0
    higher_is_better: bool = False
    kind: str = "loss"

    @property
    def where(self) -> str:
        """The point in words, with its extrapolation factor where that is larger than intervals were tested."""
        told = f"at {self.axis} {self.point:.3g}"
        return f"{told}, {factor_shown(self.reach, 3)} times beyond the data" if self.reach > RECORD_RATIO else told

    @property
    def best(self) -> str:
        """The recipe with the least expected regret, whatever the caveats."""
        return min(self.names, key=lambda name: (self.regret[name], name))

    @property
    def answer(self) -> str:
        """Return the recipe to choose, or "cannot say"."""
        return "cannot say" if any(self.caveats.values()) else self.best

    @property
    def tied(self) -> tuple[str, ...]:
        """The best recipe and those that the fits cannot tell from it; empty where no other recipe is as good."""
        others = [name for name in self.names if name != self.best and self.p_better(self.best, name) < TOLD_APART]
        return (self.best, *others) if others else ()

    def p_better(self, first: str, second: str) -> float:
        """Return the probability that the curve of one recipe lies below that of another."""
        for duel in self.duels:
            if {duel.first, duel.second} == {first, second}:
                return duel.p_first if duel.first == first else 1.0 - duel.p_first
        raise KeyError((first, second))

    @property
    def choice(self) -> str:
        """Sentences that name the recipe to choose, or state that the best ones cannot be told apart."""
        best, where = self.best, self.where
        names = (best, *(name for name in self.names if name != best))
        lost = ", ".join(f"{name} {self.regret_nats[name]:.2g}" for name in names)
        side = f"{self.kind} {'below' if self.higher_is_better else 'above'}"
        given = f"Expected {side} that of the best recipe, by choice: {lost}."
        if not self.tied:
            share_best = share(self.p_best[best])
            return f"Choose {best} {where}: its curve is the best with probability {share_best}.\n{given}"
        shares = ", ".join(f"{name} {share(self.p_best[name])}" for name in self.tied)
        named = f"{', '.join(self.tied[:-1])} and {self.tied[-1]}"
        text = f"These fits cannot tell {named} apart {where} (probability to be the best: {shares}).\n{given}"
        return f"{text}\nOne more run of each at {self.axis} {self.next_point:.3g}, with shared seeds, would say most."

    def duel(self, first: str, second: str) -> Duel:
        """Return the duel of two recipes, in the order in which they were given.

        Raises:
            InputError: For names that were not compared in this order.
        """
        for found in self.duels:
            if (found.first, found.second) == (first, second):
                return found
        known = [f"{found.first} against {found.second}" for found in self.duels]
        raise InputError(f"There is no duel of {first!r} against {second!r}; there is {', '.join(known)}.")

    @property
    def text(self) -> str:
        """The answer in words."""
        where = self.where
        if self.answer == "cannot say":
            reasons: dict[str, list[str]] = {}
            for name, found in self.caveats.items():
                for caveat in found:
                    reasons.setdefault(str(caveat), []).append(name)
            told = [f"{some(names)}: {reason}" for reason, names in reasons.items()]
            return "\n".join([f"Cannot say which is better {where}.", *told])
        lines = [self.choice]
        for duel in self.duels:
            lines.append(duel.text)
            if self.equal > 0:
                unit = "units of the value" if self.kind == "value" else "in ln loss"
                lines.append(f"They differ by less than {self.equal:g} {unit} with probability {share(duel.p_equal)}.")
        lines += [crossing.text for crossing in self.crossings]
        lines += list(dict.fromkeys(duel.says for duel in self.duels))
        lines += self.remarks
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """Return one row a pair."""
        rows = []
        for duel in self.duels:
            row = {name: value for name, value in duel.to_dict().items() if not isinstance(value, dict)}
            row |= {f"difference_q{level:g}": value for level, value in duel.difference.items()}
            rows.append(row | {f"speedup_q{level:g}": value for level, value in duel.speedup.items()})
        return pd.DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and texts, ready for JSON."""
        return {
            "answer": self.answer,
            "best": self.best,
            "tied": list(self.tied),
            "text": self.text,
            "at": {name: dict(inputs) for name, inputs in self.at.items()},
            "axis": self.axis,
            "point": self.point,
            "p_best": dict(self.p_best),
            "regret": dict(self.regret),
            "regret_nats": dict(self.regret_nats),
            "equal": self.equal,
            "duels": [duel.to_dict() for duel in self.duels],
            "crossings": [crossing.to_dict() for crossing in self.crossings],
            "caveats": {name: [dataclasses.asdict(caveat) for caveat in found] for name, found in self.caveats.items()},
            "remarks": list(self.remarks),
        }

    def __repr__(self) -> str:
        """Return the text, cut to one screen."""
        return checked.one_screen(str(self))

    def __str__(self) -> str:
        """Return the answer in words."""
        return self.text


def signed(value: float) -> str:
    """Write a difference with its sign and two significant digits, without an exponent."""
    return f"{'-' if value < 0 else '+'}{factor_shown(abs(value))}"
