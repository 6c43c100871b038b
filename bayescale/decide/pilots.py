"""Pilots: which smaller run to buy next, ranked by what it would teach about one larger run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayescale import checked
from bayescale._display import Display
from bayescale._record import Array
from bayescale.checked import known_keywords
from bayescale.decide.information import information, sample_information
from bayescale.decide.outcomes import JointDraws, at_point, joint_draws
from bayescale.decide.trust import Caveat, caveats
from bayescale.decide.utility import Utility, make_utility, money
from bayescale.digits import NOTHING, inputs_text
from bayescale.errors import InputError, some
from bayescale.forecast import At, as_numbers, beside
from bayescale.posterior.fitted import Fitted

RUNGS = (0.25, 0.5, 0.75)
"""Sizes of the default pilots: fractions of the way from the largest run to the run in question, in log scale."""
NEARLY = 0.8
"""Within a budget, pilots with at least this fraction of the greatest information count as equally informative.

Chosen on sweeps that were used to choose defaults; see `docs/evidence/decisions.md`.
"""
WORTHLESS = 1e-3
"""Information below this many nats counts as none, because chance correlations of draws are as large."""
BATCH = checked.whole(1, 1000)
"""Allowed numbers of pilots to buy together."""


@known_keywords
@dataclasses.dataclass(frozen=True)
class Ranking(Display):
    """Candidate pilots, best first, and the batch to buy.

    Attributes:
        frame: One row a candidate: its inputs, `cost`, `evsi` (expected value of sample information, in the unit of
            cost) with `evsi_error`, `enbs` (evsi - cost), `information` about the curve at the target run in nats,
            `sd_after` (standard deviation of ln of that curve that remains), `kind` ("size", or "seed" for another seed
            at inputs that were already run) and `rank`. Without cost and value, evsi and enbs are nan.
        batch: Rows of `frame` to buy together, in the order of choice; empty if no pilot is worth its cost.
        batch_value: `enbs` of the batch; without cost and value its information in nats.
        at: Inputs of the target run, the larger run that the pilots are for.
        sd_now: Standard deviation of ln of the curve at the target run, without a pilot.
        evpi: Expected value of perfect information, an upper bound of every evsi; None without cost and value.
        unit: Unit of cost.
        caveats: Reasons for which the target run cannot be judged yet.
    """

    frame: pd.DataFrame
    batch: list[int]
    batch_value: float
    at: dict[str, float]
    sd_now: float
    evpi: float | None
    unit: str
    caveats: list[Caveat]

    @property
    def text(self) -> str:
        """The answer in words."""
        where = inputs_text(self.at)
        if not self.batch:
            return f"No candidate is worth its cost for the run at {where}: decide with what is known."
        chosen = [self.frame.loc[number] for number in self.batch]
        columns = {name: next((c for c in (f"{name} (input)", name) if c in self.frame), None) for name in self.at}
        inputs = {name: column for name, column in columns.items() if column is not None}
        listed = "; ".join(
            ("another seed of the run at " if row["kind"] == "seed" else "")
            + inputs_text({name: float(row[c]) for name, c in inputs.items()})
            for row in chosen
        )
        spent = money(sum(row["cost"] for row in chosen), self.unit)
        if self.evpi is None:
            first = chosen[0]
            after = "" if len(chosen) > 1 else f", which brings its uncertainty from {self.sd_now:.3%}"
            after += "" if len(chosen) > 1 else f" to {first['sd_after']:.3%}"
            return f"Run {listed} ({spent}): {self.batch_value:.2f} nats about the run at {where}{after}."
        error = below_error(self.batch_value, chosen[0]["evsi_error"], self.unit) if len(chosen) == 1 else ""
        return f"Run {listed} for {spent}: worth {money(self.batch_value, self.unit)} more than it costs{error}."

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.frame.copy()

    def to_dict(self) -> dict[str, Any]:
        """Return all results as plain values, ready for JSON."""
        return {
            "text": self.text,
            "at": self.at,
            "sd_now": self.sd_now,
            "evpi": self.evpi,
            "unit": self.unit,
            "batch": self.batch,
            "batch_value": self.batch_value,
            "candidates": self.frame.astype(object).where(self.frame.notna(), None).to_dict("records"),
            "caveats": [dataclasses.asdict(caveat) for caveat in self.caveats],
        }

    def __repr__(self) -> str:
        """Return the text, cut to one screen."""
        return checked.one_screen(str(self))

    def __str__(self) -> str:
        """Return the answer, the table and the caveats."""
        table = self.frame.to_string(index=False, na_rep=NOTHING, float_format=lambda value: f"{value:.4g}")
        return "\n".join([self.text, table, *(f"warning: {caveat}" for caveat in self.caveats)])


def below_error(worth: float, error: float, unit: str) -> str:
    """Return a phrase saying that a worth is less than its Monte-Carlo error; empty where it is not less."""
    return f", less than the Monte-Carlo error of {money(error, unit)}" if worth < error else ""


RESULTS = ("cost", "evsi", "evsi_error", "enbs", "information", "sd_after", "kind", "rank")
"""Columns that a ranking has besides the inputs."""


@known_keywords
def next_run(
    posterior: Fitted,
    candidates: pd.DataFrame | None = None,
    *,
    target: float | None = None,
    cost: float | None = None,
    value: float | None = None,
    utility: str | Callable[[Array], Array] = "step",
    pilot_cost: Callable[[pd.DataFrame], Any] | None = None,
    batch: int = 1,
    budget: float | None = None,
    unit: str = "",
    at: At | None = None,
    **inputs: float,
) -> Ranking:
    """Rank pilots by what they would teach about one larger run, the target run.

    With `target`, `cost` and `value`, a pilot is worth the expected value of sample information (the better decisions
    that it allows) less its own cost. Otherwise a pilot's score is its information about the target run's curve, in
    nats, times one minus its cost as a fraction of the target run's cost. Both come from joint draws of the pilots' and
    the target run's losses, with law, discrepancy and noise; nothing is fitted again.

    Args:
        posterior: The fit.
        candidates: One row a pilot, a column for each input in raw counts, and optionally `cost`. A pilot at inputs
            that were already run is another seed. By default, sizes between the largest run and the target run, and
            another seed at the largest run.
        target: Loss, or score, that the target run must meet.
        cost: Cost of the target run, in any unit. If you give costs of pilots but not this one, pilots are ranked by
            information alone.
        value: What meeting the target is worth, in the same unit; see `utility.UTILITIES`.
        utility: Name of a utility, or a function from outcomes to the worth of going.
        pilot_cost: Cost of candidates without a `cost` column, a function of the table. By default proportional to
            scale (compute where inputs give it), so that the target run costs `cost`, or 1.
        batch: Largest number of pilots to buy together.
        budget: Largest sum of the pilots' costs. Without `target`, `cost` and `value`, it is spent on information.
        unit: Unit of cost and value, printed in texts.
        at: Inputs of the target run, as a mapping or a table of one row.
        **inputs: The same inputs as keyword arguments, unless an input has the name of an option.

    Raises:
        InputError: For missing or impossible inputs.

    References:
        raiffa1961applied for the value of sample information; strong2015estimating for regression.

    Example:
        >>> bs.decide.next_run(post, target=2.6, cost=3e6, value=9e6, flops=1e21)  # doctest: +SKIP
    """
    at = at_point(posterior, at, inputs)
    checked.options(
        batch=(batch, BATCH), unit=(unit, checked.TEXT), budget=(budget, checked.optional(checked.POSITIVE))
    )
    checked.options(cost=(cost, checked.optional(checked.AT_LEAST_ZERO)))
    checked.options(pilot_cost=(pilot_cost, checked.optional(checked.CALLABLE)))
    chosen = None
    if target is not None:
        chosen = make_utility(utility, target, 1.0 if cost is None else cost, value, posterior.runs.response_scale)
    elif not isinstance(utility, str) or utility != "step":
        raise InputError("utility (--utility) has no effect without target (--target), the loss to be met.")
    elif value is not None:
        raise InputError("value= (--value) also needs target= (--target), the loss to be met.")
    posterior.on_ray(pd.DataFrame([at]), {})
    table = ladder(posterior, at) if candidates is None else as_table(candidates).reset_index(drop=True)
    # Costs that the user gave for pilots imply no cost of the target run, which must be given too.
    own = cost is None and (pilot_cost is not None or (candidates is not None and "cost" in candidates))
    if unit and cost is None and not own:
        raise InputError(
            "unit (--unit) has no effect without cost= (--cost), or candidates (--candidates) with a column cost: "
            "costs are relative to that of the run in question then."
        )
    price = np.inf if own else 1.0 if cost is None else cost
    table = priced(posterior, table, at, 1.0 if cost is None else cost, pilot_cost)
    return rank(posterior, table, at, chosen, batch, unit, price, np.inf if budget is None else budget)


def rank(
    posterior: Fitted,
    table: pd.DataFrame,
    at: dict[str, float],
    utility: Utility | None,
    batch: int,
    unit: str,
    price: float = np.inf,
    budget: float = np.inf,
) -> Ranking:
    """Rank candidates whose costs are known; see `next_run`."""
    names = list(posterior.law.inputs)
    points = pd.concat([pd.DataFrame([at])[names], table[names]], ignore_index=True)
    here = joint_draws(posterior, points)
    rng = np.random.default_rng([posterior.seed, 3])
    shown = np.column_stack([here.run(1 + row, rng) for row in range(len(table))])
    curve = here.seen(here.curve[:, 0])
    gain = None if utility is None else utility.gain(here.spread(0)).mean(1)
    rows = [appraise(here, curve, gain, shown[:, [number]]) for number in range(len(table))]
    frame = beside(table[names], RESULTS)
    frame["cost"] = table["cost"].to_numpy(float)
    for name in ("evsi", "evsi_error", "information", "sd_after"):
        frame[name] = [row[name] for row in rows]
    frame.insert(len(names) + 3, "enbs", frame["evsi"] - frame["cost"])
    old = {tuple(row) for row in posterior.runs.frame[names].to_numpy(float)}
    frame["kind"] = ["seed" if tuple(row) in old else "size" for row in table[names].to_numpy(float)]
    score = frame["enbs"] if utility is not None else thrifty(frame["information"], frame["cost"], price)
    frame["rank"] = score.rank(ascending=False, method="first").astype(int)
    shelf = Shelf(here, curve, gain, shown, frame["cost"].to_numpy(float), price, budget)
    bought, worth = shelf.buy(batch, rng)
    frame = frame.sort_values("rank")
    if utility is None:
        frame = frame.drop(columns=["evsi", "evsi_error", "enbs"])
    known = None
    if utility is not None:
        each = utility.gain(here.spread(0))
        known = float(min(np.maximum(each, 0).mean(), np.maximum(-each, 0).mean()))
    return Ranking(frame, bought, worth, at, float(curve.std()), known, unit, caveats(posterior, at))


def appraise(here: JointDraws, curve: np.ndarray, gain: np.ndarray | None, shown: np.ndarray) -> dict[str, float]:
    """Return the value of buying some pilots together.

    Args:
        here: Joint draws of all candidates.
        curve: Ln of the mean curve at the target run, shape (draw,).
        gain: Worth of going minus that of not going, one value a draw; None without cost and value.
        shown: Ln losses that the pilots would show, shape (draw, pilot).

    Returns:
        `information` in nats, `sd_after`, `evsi` and `evsi_error`, as in `Ranking.frame`.
    """
    nats = information(curve, shown)
    nats = nats if nats > WORTHLESS else 0.0
    found = {"information": nats, "sd_after": float(curve.std() * np.exp(-nats)), "evsi": np.nan, "evsi_error": np.nan}
    if gain is not None:
        value = sample_information(gain, curve, shown)
        found["evsi"] = value.evsi if nats > 0.0 else 0.0
        found["evsi_error"] = here.error(value.each)
    return found


def thrifty(nats: Any, cost: Any, price: float) -> Any:
    """Return the information times one minus the pilot's cost as a fraction of `price`, the cost of the target run."""
    return nats * np.maximum(1.0 - cost / price, 0.0)


@dataclasses.dataclass(frozen=True)
class Shelf:
    """Pilots on offer and their costs, with joint draws of what they and the target run would show.

    Attributes:
        here: Joint draws at the target run (the first point) and at all pilots.
        curve: Ln of the mean curve at the target run, shape (draw,).
        gain: Worth of going minus that of not going, one value a draw; None without cost and value.
        shown: Ln losses that the pilots would show, shape (draw, pilot).
        cost: Cost of each pilot, shape (pilot,).
        price: Cost of the target run; may be infinite.
        budget: What all bought pilots together may cost; may be infinite.
    """

    here: JointDraws
    curve: np.ndarray
    gain: np.ndarray | None
    shown: np.ndarray
    cost: np.ndarray
    price: float
    budget: float

    def buy(self, batch: int, rng: np.random.Generator) -> tuple[list[int], float]:
        """Choose pilots one after the other, each for what it adds to those chosen.

        A pilot chosen twice is run with two seeds.
        """
        if self.gain is not None:
            return self.add(batch, rng, lambda worth, cost: worth["evsi"] - cost, stop=True)
        if np.isfinite(self.budget):
            # A given budget is meant to be spent, so costs within it do not count.
            return self.add(batch, rng, lambda worth, cost: worth["information"], stop=False)
        return self.add(batch, rng, lambda worth, cost: thrifty(worth["information"], cost, self.price), stop=False)

    def nearest(self, offers: list[Any]) -> Any:
        """Return the pilot closest to the target run among those that inform alike.

        Farther away the law may be wrong.
        """
        x = np.log(self.here.points.to_numpy(float))
        away = np.abs(x[1:] - x[0]).sum(1)
        return min(offers, key=lambda offer: away[offer[1]])

    def add(
        self, batch: int, rng: np.random.Generator, score: Callable[[dict[str, float], float], float], stop: bool
    ) -> tuple[list[int], float]:
        """Add the pilot with the best score until the batch is full, the budget spent or, with `stop`, none pays."""
        bought: list[int] = []
        columns, spent, best, nats = np.empty((len(self.curve), 0)), 0.0, 0.0, 0.0
        for _ in range(batch):
            offers = []
            for number in np.flatnonzero(spent + self.cost <= self.budget * (1.0 + 1e-9)):
                # A size that is bought a second time is run with another seed.
                column = self.shown[:, number] if number not in bought else self.here.run(1 + number, rng)
                together = np.column_stack([columns, column])
                worth = appraise(self.here, self.curve, self.gain, together)
                price = spent + float(self.cost[number])
                offers.append((score(worth, price), int(number), together, price, worth["information"]))
            if not offers:
                break
            top = max(offers, key=lambda offer: offer[0])
            if np.isfinite(self.budget) and not stop:
                top = self.nearest([offer for offer in offers if offer[4] >= NEARLY * top[4]])
            if top[0] <= best if stop else top[4] <= nats + WORTHLESS:
                break
            bought.append(top[1])
            best, _, columns, spent, nats = top[0], top[1], top[2], top[3], top[4]
        return bought, best if stop else nats


def as_table(candidates: Any) -> pd.DataFrame:
    """Return the candidates if they are a table.

    Raises:
        InputError: For anything else than a table.
    """
    checked.instance(
        "A table of candidates",
        candidates,
        pd.DataFrame,
        hint="One row a pilot, a column for each input.",
    )
    return candidates


def ladder(posterior: Fitted, at: dict[str, float]) -> pd.DataFrame:
    """Return the default pilots: sizes between the largest run and the target run, and another seed of the largest."""
    names = list(posterior.law.inputs)
    frame = posterior.runs.frame
    largest = frame[names].iloc[int(np.argmax(posterior.scales(frame)))].astype(float)
    rungs = [largest.to_dict()]
    for share in RUNGS:
        rungs.append({name: float(largest[name] ** (1.0 - share) * at[name] ** share) for name in names})
    table = pd.DataFrame(rungs)
    wanted = posterior.scales(pd.DataFrame([at]))[0]
    return table[posterior.scales(table) < wanted].reset_index(drop=True)


def priced(
    posterior: Fitted,
    table: pd.DataFrame,
    at: dict[str, float],
    cost: float,
    pilot_cost: Callable[[pd.DataFrame], Any] | None,
) -> pd.DataFrame:
    """Add the cost of every candidate.

    Raises:
        InputError: For missing inputs, or costs that are not positive.
    """
    names = list(posterior.law.inputs)
    if posterior.ray is not None:
        # On a ladder along one ray all inputs grow together, so any of them gives the scale.
        table = table.assign(**posterior.on_ray(table, {}))
    checked.positive_columns("candidates", table, names)
    if "cost" in names:
        raise InputError("'cost' is the name of an input and of the column with the costs of pilots. Rename the input.")
    if "cost" in table:
        prices = checked.positive_columns("candidates", table, ["cost"])["cost"].to_numpy()
    elif pilot_cost is not None:
        prices = np.broadcast_to(as_numbers("Costs of candidates", pilot_cost(table)), len(table))
    elif cost <= 0:
        raise InputError(f"Pilots are priced in proportion to cost= (--cost), a positive number; found {cost:g}.")
    else:
        prices = cost * posterior.scales(table) / posterior.scales(pd.DataFrame([at]))[0]
    if not (np.isfinite(prices) & (prices > 0)).all():
        raise InputError(f"Costs of candidates must be positive numbers; found {some(list(prices))}.")
    return table.assign(cost=prices)


def seeds(table: pd.DataFrame, counts: Sequence[int]) -> pd.DataFrame:
    """Repeat each candidate once for each seed, as often as `counts` says.

    `next_run(batch=...)` may buy these together.
    """
    return table.loc[table.index.repeat(list(counts))].reset_index(drop=True)
