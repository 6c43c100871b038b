"""Allocate: how to split a budget between two inputs, in most cases parameters and tokens.

The choice minimises the posterior expectation of ln loss, with law and discrepancy. (The expected loss itself is
infinite far from the data, where the tails of ln loss are heavy, so its estimate would grow with the number of draws.)
The exp of that expectation is called the typical loss. The choice differs from the plug-in, which is the optimum of the
law at the medians of its constants: where the loss is uncertain, sizes far from the data cost more on average than they
gain.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

import numpy as np
import pandas as pd

from bayescale import checked
from bayescale._display import Display
from bayescale.checked import known_keywords
from bayescale.decide.budgets import Allocations
from bayescale.decide.optima import connected, law_optima, lowest, refined
from bayescale.decide.trust import Caveat, caveats
from bayescale.digits import factor_shown, inputs_text
from bayescale.errors import InputError, nearest
from bayescale.forecast import RECORD_RATIO, TESTED, Forecast, known_kind
from bayescale.laws.optimum import train_flops
from bayescale.laws.published import PublishedLaw
from bayescale.posterior.fitted import Fitted
from bayescale.posterior.posterior import fitted
from bayescale.posterior.track_record import ONLY_LARGER

SEARCH = (1e2, 1e16)
"""Range of the first input within which the law's optimum is sought."""
COARSE = 500
LARGEST = 1e30
"""Largest value of the second input that is tried."""
CONTAINS = "the law's constants and the discrepancy; not the cost function, nor a change of data or recipe"


@known_keywords
@dataclasses.dataclass(frozen=True)
class Allocation(Display):
    """Best split of a budget, with its uncertainty.

    Attributes:
        budget: Amount to be spent, in units of the cost.
        over: The two inputs between which it is split.
        choice: All inputs of the law, by name, at the split with the least typical loss.
        plug_in: All inputs of the law at the split that minimises the law at the medians of its constants.
        law_best: First input at the optimum of the law alone, shape (draw,).
        best: First input at the optimum of law and discrepancy, shape (draw,), on the grid of `table`.
        mean: Forecast of the curve at the choice.
        run: Forecast of one run at the choice.
        table: The grid of splits: both inputs, `typical` loss, its `excess` over that of the choice, typical `regret`
            (excess over the best size of each draw), quantiles `q05`, `q50`, `q95` of the loss, whether the excess is
            within the tolerance (`flat`), and the extrapolation factor (`ratio`).
        regret: Excess up to which sizes count as equally good, in units of the loss.
        flat: Smallest and largest first input around the choice whose excess stays below `regret`.
        plug_in_excess: Typical loss at the plug-in minus that at the choice.
        caveats: Reasons for which no confident answer is possible; with one, the numbers are those of the law alone.
        label: Name of the law and of the runs.
    """

    budget: float
    over: tuple[str, str]
    choice: dict[str, float]
    plug_in: dict[str, float]
    law_best: np.ndarray
    best: np.ndarray
    mean: Forecast
    run: Forecast
    table: pd.DataFrame
    regret: float
    flat: tuple[float, float]
    plug_in_excess: float
    caveats: tuple[Caveat, ...]
    label: str

    @property
    def answer(self) -> str:
        """Return "allocate", or "cannot say"."""
        return "cannot say" if self.caveats else "allocate"

    @property
    def remaining_regret(self) -> float:
        """Typical loss that the choice gives up compared with the best size, which is not known exactly."""
        return float(np.interp(np.log(self.choice[self.over[0]]), np.log(self.table[self.over[0]]), self.table.regret))

    def interval(self, level: float = 0.9, *, discrepancy: bool = False) -> tuple[float, float]:
        """Return the central interval of the best first input: at the optimum of the law, or of law and discrepancy."""
        draws = self.best if discrepancy else self.law_best
        low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2])
        return float(low), float(high)

    @property
    def text(self) -> str:
        """The answer in words."""
        first, second = self.over
        if self.caveats:
            reasons = " ".join(str(caveat) for caveat in self.caveats)
            return f"Cannot say how to split {self.budget:.3g} between {first} and {second}. {reasons}"
        low, high = (float(end[0]) for end in self.mean.interval(0.9))
        run_low, run_high = (float(end[0]) for end in self.run.interval(0.9))
        best, law = self.interval(0.9, discrepancy=True), self.interval(0.9)
        lines = [
            f"Spend {self.budget:.3g} on {inputs_text({name: self.choice[name] for name in self.over})}.",
            f"Typical loss {float(self.mean.typical[0]):.4g} (90 % interval of the curve {low:.4g} to {high:.4g}, of "
            f"one run {run_low:.4g} to {run_high:.4g}).",
            f"Any {first} from {self.flat[0]:.3g} to {self.flat[1]:.3g} is expected to cost at most {self.regret:g} "
            "more.",
            f"The best {first} lies between {best[0]:.3g} and {best[1]:.3g} with 90 % probability (by the law alone, "
            f"without discrepancy, between {law[0]:.3g} and {law[1]:.3g}); the plug-in, {self.plug_in[first]:.3g}, is "
            f"expected to cost {max(self.plug_in_excess, 0.0):.2g} more than the choice.",
            f"Contained: {CONTAINS}.",
        ]
        if (far := float(self.mean.ratio[0])) > RECORD_RATIO and np.any(self.mean.below):
            lines.append(f"The choice lies {factor_shown(far, 3)} times below the data. {ONLY_LARGER}")
        elif far > RECORD_RATIO:
            lines.append(f"The choice lies {factor_shown(far, 3)} times beyond the data; {TESTED}.")
        if not self.mean.scale.any() and len(self.mean.location) == 1:
            lines[1:] = [f"Loss {float(self.mean.typical[0]):.4g}; printed constants carry no uncertainty.", lines[2]]
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """Return the grid of splits, a copy of `table`."""
        return self.table.copy()

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and texts, ready for JSON."""
        first = self.over[0]
        return {
            "answer": self.answer,
            "text": self.text,
            "budget": self.budget,
            "over": list(self.over),
            "choice": dict(self.choice),
            "plug_in": dict(self.plug_in),
            "plug_in_excess": self.plug_in_excess,
            "typical_loss": float(self.mean.typical[0]),
            "loss_90": {
                "mean": [float(end[0]) for end in self.mean.interval(0.9)],
                "run": [float(end[0]) for end in self.run.interval(0.9)],
            },
            f"best_{first}_90": {
                "law": list(self.interval()),
                "law_and_discrepancy": list(self.interval(discrepancy=True)),
            },
            "flat": {"regret": self.regret, "low": self.flat[0], "high": self.flat[1]},
            "remaining_regret": self.remaining_regret,
            "caveats": [dataclasses.asdict(caveat) for caveat in self.caveats],
            "contains": CONTAINS,
            "fit": self.label,
        }

    def __repr__(self) -> str:
        """Return the text, cut to one screen."""
        return checked.one_screen(str(self))

    def __str__(self) -> str:
        """Return the answer with its reasons."""
        return f"{self.label}\n{self.text}"


@overload
def allocate(posterior: Fitted | PublishedLaw, flops: float, **options: Any) -> Allocation: ...
@overload
def allocate(posterior: Fitted | PublishedLaw, flops: Sequence[float] | np.ndarray, **options: Any) -> Allocations: ...
# Both overloads pass on the options, which are documented once, below.
@known_keywords
def allocate(  # pyright: ignore[reportInconsistentOverload]
    posterior: Fitted | PublishedLaw,
    flops: float | Sequence[float] | np.ndarray,
    *,
    cost: Callable[[Any, Any], Any] = train_flops,
    over: tuple[str, str] = ("n_params", "n_tokens"),
    at: Mapping[str, float] | None = None,
    served: float = 0.0,
    unique_tokens: float | None = None,
    min_params: float | None = None,
    max_params: float | None = None,
    min_tokens: float | None = None,
    max_tokens: float | None = None,
    regret: float = 0.01,
    kind: str = "mean",
) -> Allocation | Allocations:
    """Split a budget, or each of several, between two inputs so that the typical loss is least.

    Args:
        posterior: A fit, or a law with printed constants.
        flops: The budget, in units of `cost` (FLOPs by default), or a list of budgets.
        cost: Function from the two inputs to the cost, increasing in both; the unit may also be money or hours.
        over: The two inputs; "params" and "tokens" below mean the first and the second.
        at: The law's other inputs: raw counts by name.
        served: Tokens that the model will process after training; adds 2 N `served` to the cost, with N parameters.
        unique_tokens: Distinct tokens that exist, for laws with that input; training on more tokens repeats them.
        min_params: Smallest first input, such as what the task needs.
        max_params: Largest first input, such as what the hardware holds.
        min_tokens: Smallest second input.
        max_tokens: Largest second input, such as all the data that exist. Sizes that would need more than this to use
            up the budget leave part of it unspent.
        regret: Sizes whose typical loss is within this much of the least count as equally good.
        kind: "mean" or "run": minimise the typical loss of the mean curve or of one run. The choice hardly differs,
            because noise is alike at all sizes.

    Raises:
        InputError: For inputs that the law lacks, limits that no size meets, or a cost that does not increase.

    Example:
        >>> import bayescale as bs
        >>> from bayescale.decide.allocation import allocate
        >>> law = bs.laws.get("chinchilla").published("besiroglu2024")
        >>> {name: f"{value:.3g}" for name, value in allocate(law, 5.88e23).choice.items()}
        {'n_params': '7.31e+10', 'n_tokens': '1.34e+12'}

    References:
        hoffmann2022training, section 3; besiroglu2024.
    """
    if not np.isscalar(flops) and np.ndim(flops):
        if not np.size(flops):
            raise InputError("flops is empty. Give one budget or more, e.g. flops=[1e21, 1e22] (--flops 1e21).")
        return Allocations(
            tuple(
                allocate(
                    posterior,
                    budget,
                    **{"cost": cost, "over": over, "at": at, "served": served, "unique_tokens": unique_tokens},
                    **{"min_params": min_params, "max_params": max_params},
                    **{"min_tokens": min_tokens, "max_tokens": max_tokens, "regret": regret, "kind": kind},
                )
                for budget in np.ravel(flops).tolist()
            )
        )
    if isinstance(posterior, Fitted) and (measured := posterior.runs.response_kind) != "loss":
        raise InputError(f"A budget is split with a fit of losses, and this fit describes a {measured}. Fit the loss.")
    perhaps = checked.optional(checked.POSITIVE)
    checked.options(flops=(flops, checked.POSITIVE), regret=(regret, checked.POSITIVE), cost=(cost, checked.CALLABLE))
    checked.options(unique_tokens=(unique_tokens, perhaps), min_params=(min_params, perhaps))
    checked.options(
        max_params=(max_params, perhaps), min_tokens=(min_tokens, perhaps), max_tokens=(max_tokens, perhaps)
    )
    known_kind(kind)
    check_request(posterior, over, at, served)
    budget, law = float(flops), posterior.law
    others = given(law.inputs, over, at, unique_tokens)

    def total(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return evaluated(cost, first, second) + 2.0 * first * served

    def along(first: np.ndarray) -> pd.DataFrame:
        second = affordable(total, budget, first)
        second = np.where(second < (min_tokens or 0.0), np.nan, np.minimum(second, max_tokens or np.inf))
        return inputs_table(law.inputs, over, first, second, others)

    limits = min_params or SEARCH[0], max_params or SEARCH[1]
    wide = along(np.geomspace(*limits, COARSE)) if limits[0] < limits[1] else along(np.array([limits[0]]))
    if not len(wide) or limits[0] > limits[1]:
        raise InputError(
            f"No {over[0]} from {limits[0]:.3g} to {limits[1]:.3g} leaves enough of the budget {budget:.3g} for "
            f"{over[1]} of at least {min_tokens or 1:.3g}. Raise the budget or loosen a limit."
        )
    return best_split(posterior, Spending(budget, over, along, wide, limits), float(regret), kind)


@dataclasses.dataclass(frozen=True)
class Spending:
    """All ways to spend one budget.

    Attributes:
        budget: Amount to be spent.
        over: Names of the two inputs.
        along: Function from values of the first input to a table of the law's inputs that use up the budget.
        wide: That table over the whole search range.
        limits: Smallest and largest first input.
    """

    budget: float
    over: tuple[str, str]
    along: Callable[[np.ndarray], pd.DataFrame]
    wide: pd.DataFrame
    limits: tuple[float, float]


def best_split(posterior: Fitted | PublishedLaw, spending: Spending, regret: float, kind: str) -> Allocation:
    """Return the split with the least typical loss, the excess of the plug-in, and the sizes that are equally good."""
    over, along, wide = spending.over, spending.along, spending.wide
    law_best, plug_in = law_optima(posterior, wide, over[0])
    fine, forecast = refined(posterior, along, wide, over[0], law_best, kind)
    typical = forecast.typical
    x = np.log(fine[over[0]].to_numpy())
    point = float(np.exp(lowest(x, np.log(typical)[None])[0]))
    both = along(np.array([point, plug_in]))
    inputs = list(dict.fromkeys([*posterior.law.inputs, *over]))
    chosen, plugged = ({str(k): float(v) for k, v in row.items()} for row in both[inputs].to_dict("records"))
    least = posterior.predict(both, kind=kind).typical
    joint = forecast.log_draws.reshape(-1, len(fine))
    excess = typical - least[0]
    flat = connected(excess <= regret, int(np.argmin(typical)))
    q05, q50, q95 = forecast.quantile([0.05, 0.5, 0.95])
    table = fine.assign(
        **{"typical": typical, "excess": excess, "regret": typical - np.exp(joint.min(1).mean())},
        **{"q05": q05, "q50": q50, "q95": q95, "flat": flat, "ratio": forecast.ratio},
    )
    sizes = [point, *fine[over[0]].to_numpy(float)[flat]]
    return Allocation(
        budget=spending.budget,
        over=over,
        choice=chosen,
        plug_in=plugged,
        law_best=law_best,
        best=np.exp(lowest(x, joint)),
        mean=posterior.predict(both.iloc[:1], kind="mean"),
        run=posterior.predict(both.iloc[:1], kind="run"),
        table=table,
        regret=regret,
        flat=(float(min(sizes)), float(max(sizes))),
        plug_in_excess=float(least[1] - least[0]),
        caveats=tuple(reasons(posterior, chosen, wide[over[0]].to_numpy(), over[0], spending.limits)),
        label=forecast.label,
    )


def check_request(
    posterior: Fitted | PublishedLaw, over: tuple[str, str], at: Mapping[str, float] | None, served: float
) -> None:
    """Refuse impossible arguments, and runs along one ray, from which no split can be learnt.

    Raises:
        InputError: With what was expected and what was found.
    """
    if not isinstance(posterior, PublishedLaw):
        fitted(posterior)
    if not checked.AT_LEAST_ZERO.holds(served):
        raise InputError(f"served must be a number of tokens of at least 0; found {checked.shortened(served)}.")
    if not (isinstance(over, tuple | list) and len(over) == 2 and all(isinstance(name, str) for name in over)):
        raise InputError(f"over must be the names of two inputs; found {checked.shortened(over)}.")
    if at is not None:
        checked.mapping("at", at, 'at={"n_experts": 8}')
        checked.options(**{str(name): (value, checked.POSITIVE) for name, value in at.items()})
    if isinstance(posterior, Fitted) and (ray := posterior.ray) is not None and set(over) <= set(ray.names):
        small = posterior.ray_start
        point = ray.inputs(small).iloc[0].astype(float).to_dict()
        _, remedy = ray.remedy(point | {over[1]: 4.0 * point[over[1]]}, small)
        raise InputError(
            f"All runs lie on one ray ({ray.text}), which cannot tell how to split a budget between {over[0]} and "
            f"{over[1]}. {remedy}"
        )


# --- Inputs -------------------------------------------------------------------------------------------------


DERIVED = ("flops", "tokens_per_param")
"""Inputs of a law that are computed from parameters and tokens."""


def on_cost_line(inputs: tuple[str, ...], sizes: np.ndarray, flops: float, per: float) -> pd.DataFrame:
    """Return points of equal compute, flops = per N D, with parameters N, tokens D and further inputs of the law."""
    table = pd.DataFrame({"n_params": sizes, "n_tokens": flops / (per * np.asarray(sizes, float))})
    return with_derived(table, inputs, per)


def with_derived(table: pd.DataFrame, inputs: tuple[str, ...], per: float = 6.0) -> pd.DataFrame:
    """Add compute and tokens per parameter to a table of parameters and tokens, where the law has these inputs."""
    if not {"n_params", "n_tokens"} <= set(table):
        return table
    known = {"flops": lambda: per * table["n_params"] * table["n_tokens"]}
    known["tokens_per_param"] = lambda: table["n_tokens"] / table["n_params"]
    return table.assign(**{name: known[name]() for name in DERIVED if name in inputs and name not in table})


def inputs_table(
    names: tuple[str, ...], over: tuple[str, str], first: np.ndarray, second: np.ndarray, others: Mapping[str, float]
) -> pd.DataFrame:
    """Return the law's inputs at pairs of the two inputs, shape (pair, input); pairs with a nan are left out."""
    table = pd.DataFrame({over[0]: first, over[1]: second, **others}).dropna(ignore_index=True)
    table = with_derived(table, names)
    if "unique_tokens" in table:
        table["unique_tokens"] = np.minimum(table["unique_tokens"], table[over[1]])
    return table


def given(
    names: tuple[str, ...], over: tuple[str, str], at: Mapping[str, float] | None, unique_tokens: float | None
) -> dict[str, float]:
    """Collect the inputs that stay fixed, and refuse those that the law does not have."""
    others = dict(at or {}) | ({} if unique_tokens is None else {"unique_tokens": unique_tokens})
    # A law of compute and size, or of compute and tokens per parameter, can be written as one of size and tokens.
    split = set(over) == {"n_params", "n_tokens"}
    follows = {name for name in DERIVED if name in names and split and name not in others}
    enough = len(follows) == 2 or (len(follows) == 1 and any(name in names for name in over))
    for name in (*over, *others):
        if name not in names and not (enough and name in over):
            hint = ""
            if name in over and len(names) == 1:
                hint = " A split needs a fit on two inputs, such as n_params and n_tokens."
            elif name in over:
                hint = " Choose the two with over=(...), in Python; the shell splits n_params and n_tokens."
            raise InputError(f"The law has no input {name!r}. {nearest(name, names)}{hint}")
    if fixed := [name for name in others if name in over]:
        raise InputError(
            f"{fixed[0]} is what the budget is split over, so at= (--at) cannot fix it; limit it instead, with "
            "min_params=, max_params=, min_tokens= or max_tokens= (--min-params and so on)."
        )
    missing = [name for name in names if name not in (*over, *others, *(follows if enough else ()))]
    if missing:
        raise InputError(
            f"The law needs {', '.join(missing)} as well; give it with at={{{missing[0]!r}: ...}} "
            f"(--at {missing[0]}=...), a raw count."
        )
    return {name: float(value) for name, value in others.items()}


def evaluated(cost: Callable[[Any, Any], Any], first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Evaluate a cost on arrays, element by element if it was written for single numbers."""
    try:
        value = np.asarray(cost(first, second), float)
    except (TypeError, ValueError):
        value = np.asarray(np.vectorize(cost)(first, second), float)
    return np.broadcast_to(value, np.shape(first))


def affordable(total: Callable[..., np.ndarray], budget: float, first: np.ndarray) -> np.ndarray:
    """Return the second input that uses up the budget, by bisection on its logarithm; nan where 1 is too expensive.

    Raises:
        InputError: If the cost does not grow with the second input.
    """
    low, high = np.zeros(len(first)), np.full(len(first), np.log(LARGEST))
    start, end = total(first, np.exp(low)), total(first, np.exp(high))
    if not (np.isfinite(start) & np.isfinite(end)).all() or (end <= start).any():
        raise InputError("cost(first, second) must be finite and grow with the second input, as 6 * N * D does.")
    if (end < budget).any():
        raise InputError(
            f"With the smallest value of the first input, a budget of {budget:.3g} buys more than {LARGEST:g} of the "
            "second input. Check that cost and budget have the same unit, or set a minimum for the first input "
            "(min_params=, --min-params)."
        )
    for _ in range(60):
        middle = 0.5 * (low + high)
        above = total(first, np.exp(middle)) > budget
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.where(start > budget, np.nan, np.exp(0.5 * (low + high)))


# --- Caveats ------------------------------------------------------------------------------------------------


def reasons(
    posterior: Fitted | PublishedLaw,
    choice: dict[str, float],
    sizes: np.ndarray,
    name: str,
    limits: tuple[float, float],
) -> list[Caveat]:
    """Return the caveats about the choice; one of them is that the best size lies at an end of the search range."""
    found = [] if isinstance(posterior, PublishedLaw) else caveats(posterior, choice)
    free = [end for end, search in zip(limits, SEARCH, strict=True) if end == search]
    ends = [size for size in (sizes.min(), sizes.max()) if any(abs(np.log(size / end)) < 0.1 for end in free)]
    if any(abs(np.log(choice[name] / end)) < 0.1 for end in ends):
        text = f"The typical loss is least at the end of the search, {name} = {choice[name]:.3g}: the law has no best."
        found.append(Caveat("no_optimum", text, None, f"Limit {name}, or name the cost that a larger one brings."))
    return found
