"""isoFLOP: the best size and number of tokens at each budget of a sweep, and the powers of compute they grow with.

A valley is the loss along a line of equal compute. All valleys come from one posterior, so that every run informs every
valley. A budget with only two runs has a valley too. The minimum of a lopsided or off-centre valley is not misplaced,
but that of a parabola would be. The minimum of a parabola through the runs of each budget, the usual method, is also
given.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayescale import checked
from bayescale._display import Display
from bayescale.checked import handing_on, known_keywords, names_of
from bayescale.data.ray import FLOPS_PER_PARAMETER_AND_TOKEN
from bayescale.data.runs import Runs
from bayescale.data.wording import power_of_ten, short_count
from bayescale.decide.allocation import on_cost_line
from bayescale.decide.optima import connected, law_optima, lowest
from bayescale.decide.trust import Caveat, caveats
from bayescale.digits import shown
from bayescale.errors import InputError, counted, some
from bayescale.fitting.fit import fit
from bayescale.forecast import as_numbers
from bayescale.posterior.fitted import Fitted

SAME_BUDGET = 1.25
"""Runs whose compute differs by less than this factor belong to one budget."""
FEWEST_CELLS = 3
"""Fewest sizes with which a budget gets a parabola of its own."""
POINTS = 61
"""Number of sizes at which one valley is evaluated."""
MOST_POINTS = 480
"""Largest number of sizes, over all valleys, that one joint draw covers."""
SEARCH = (1e2, 1e16)
"""Range of parameters within which the law's optimum is sought."""
ND = ("n_params", "n_tokens")


@known_keywords
@dataclasses.dataclass(frozen=True)
class Sweep(Display):
    """The valleys of an isoFLOP sweep, and the frontier through their minima.

    Attributes:
        frontier: One row a budget: `budget`; number of measured runs, `cells`; `n_params`, `n_tokens` and `loss` at the
            minimum, each with `_low` and `_high`; the sizes whose loss is within `regret` of the least (`flat_low`,
            `flat_high`; in tokens `flat_tokens_low`, `flat_tokens_high`); the parabola's `parabola_params` and
            `parabola_tokens` (nan where there is none, with the reason in `parabola`); and the extrapolation factor of
            the minimum, `ratio`.
        exponents: Rows n_params, n_tokens: power of compute with `low` and `high`, and that of the parabolas.
        valleys: One row for each budget and size: budget, n_params, n_tokens, `typical` loss, `q05`, `q95`, and whether
            the loss is within `regret` of the least (`flat`).
        measured: The runs: budget, n_params, n_tokens, loss.
        flops_per: FLOPs per parameter and token; 6 unless the compute of the runs implies another value.
        regret: Sizes whose loss is within this much of the least count as equally good.
        level: Central probability of the intervals.
        left_out: Which rows were left out when the table was read, and why.
        broken: The runs that were left out: budget (nan if it is none of the sweep's), n_params, n_tokens, loss (nan
            where missing).
        notes: Further remarks.
        caveats: Reasons not to rely on an answer, by budget.
        posterior: The fit.
    """

    frontier: pd.DataFrame
    exponents: pd.DataFrame
    valleys: pd.DataFrame
    measured: pd.DataFrame
    flops_per: float
    regret: float
    level: float
    left_out: tuple[str, ...]
    broken: pd.DataFrame
    notes: tuple[str, ...]
    caveats: dict[float, list[Caveat]]
    posterior: Fitted

    @property
    def label(self) -> str:
        """Name of the law and of the runs."""
        return f"{self.posterior.law_names} on {self.posterior.runs.name}"

    @property
    def text(self) -> str:
        """The answer in words."""
        percent = f"{100 * self.level:g} %"
        asked = int((self.frontier["cells"] == 0).sum())
        beside = f" and {counted(asked, 'requested budget')}" if asked else ""
        budgets = counted(len(self.frontier) - asked, "budget")
        lines = [f"{self.label}: {budgets} with runs{beside}, C = {self.flops_per:.3g} N D."]
        for row in self.frontier.to_dict("records"):
            loss = shown(row["loss"], row["loss_high"] - row["loss_low"])
            flat = f"{short_count(row['flat_low'])} to {short_count(row['flat_high'])}"
            runs = counted(row["cells"], "run")
            lines += [
                f"  C = {power_of_ten(row['budget'])}: N* {span(row, 'n_params')}, D* {span(row, 'n_tokens')}, "
                f"loss {loss}; within {self.regret:g} of the least: N {flat}; {runs}, {row['parabola']}"
            ]
        for name, sign in {"n_params": "N*", "n_tokens": "D*"}.items():
            if name in self.exponents.index:
                a = self.exponents.loc[name]
                beside = "" if np.isnan(a["parabola"]) else f"; parabolas {a['parabola']:.3f}"
                lines.append(
                    f"{sign} grows as C^{a['power']:.3f} ({percent} {a['low']:.3f} to {a['high']:.3f}{beside})."
                )
        lines.append(
            f"In brackets: {percent} intervals of the curve of law and discrepancy; run-to-run noise is not in them."
        )
        lines += self.notes
        lines += [f"Left out: {text}" for text in self.left_out]
        lines += self.broken_lines
        # A cause that all budgets share, such as chains that did not converge, is printed once.
        reasons: dict[str, list[str]] = {}
        for budget, found in self.caveats.items():
            if found:
                reasons.setdefault(str(found[0]), []).append(power_of_ten(budget))
        lines += [f"warning: C = {some(where)}: {reason}" for reason, where in reasons.items()]
        return "\n".join(lines)

    @property
    def broken_lines(self) -> list[str]:
        """Budget and size of each run that was left out, in one line; none without such runs."""
        told = []
        for row in self.broken.to_dict("records"):
            where = "no budget here" if np.isnan(row["budget"]) else f"C = {power_of_ten(row['budget'])}"
            loss = "no loss" if np.isnan(row["loss"]) else f"loss {row['loss']:.4g}"
            told.append(f"{where}, N {short_count(row['n_params'])}, D {short_count(row['n_tokens'])} ({loss})")
        return [f"Cells left out: {'; '.join(told)}."] if told else []

    def to_frame(self) -> pd.DataFrame:
        """Return the frontier, one row a budget."""
        return self.frontier.copy()

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and texts, ready for JSON."""
        return {
            "text": self.text,
            "budgets": records(self.frontier),
            "exponents": records(self.exponents.rename_axis("input").reset_index()),
            "flops_per_parameter_and_token": self.flops_per,
            "regret": self.regret,
            "level": self.level,
            "left_out": list(self.left_out),
            "cells_left_out": records(self.broken),
            "notes": list(self.notes),
            "caveats": [
                {"budget": budget, **dataclasses.asdict(caveat)}
                for budget, all_ in self.caveats.items()
                for caveat in all_
            ],
            "fit": self.label,
            "status": str(self.posterior.status),
        }

    def __repr__(self) -> str:
        """Return the text, cut to one screen."""
        return checked.one_screen(str(self))

    def __str__(self) -> str:
        """Return the sentences."""
        return self.text


@handing_on(names_of(fit) - {"runs"})
def isoflop(
    source: Runs | Fitted,
    *,
    budgets: Sequence[float] | None = None,
    regret: float = 0.01,
    level: float = 0.9,
    seed: int = 0,
    **options: Any,
) -> Sweep:
    """Find the best size at each budget of an isoFLOP sweep, and the frontier through these minima.

    Args:
        source: Runs of a sweep with n_params and n_tokens (`bs.read` derives one from the other and the budget), or a
            fit of such runs.
        budgets: Further budgets in FLOPs, such as that of the next run.
        regret: Sizes whose typical loss is within this much of the least count as equally good.
        level: Central probability of the intervals.
        seed: Seed of the fit.
        **options: Further arguments of `bs.fit`, such as law, discrepancy or method.

    Raises:
        InputError: For runs that are no sweep, options of `bs.fit` when `source` is a fit already, or impossible
            numbers.

    Example:
        >>> bs.decide.isoflop(bs.read("sweep.csv"), budgets=[1e21]).to_frame()  # doctest: +SKIP

    References:
        hoffmann2022training, section 3.2.
    """
    given = source if isinstance(source, Runs) else getattr(source, "runs", None)
    if (kind := getattr(given, "response_kind", "loss")) != "loss":
        raise InputError(f"isoflop needs losses, and these runs have {kind}s. Read a loss with loss= (--loss).")
    if not checked.POSITIVE.holds(regret):
        raise InputError(f"regret must be a positive loss (regret=, --regret); found {checked.shortened(regret)}.")
    if not checked.PROBABILITY.holds(level):
        found = checked.shortened(level)
        raise InputError(f"level must be a probability inside (0, 1) (level=, --level); found {found}.")
    asked = np.atleast_1d(as_numbers("budgets", [] if budgets is None else budgets))
    if not (np.isfinite(asked) & (asked > 0)).all():
        raise InputError(f"budgets must be positive FLOPs (budgets=, --budget); found {some(list(asked))}.")
    if isinstance(source, Runs):
        check_sweep(source)
        posterior = fit(source, seed=seed, **options)
    elif isinstance(source, Fitted):
        if options:
            raise InputError(
                f"{', '.join(options)} can be given only together with runs, not with a fit. Give the runs instead."
            )
        posterior = source
    else:
        raise InputError(
            f"isoflop takes runs or a fit, e.g. isoflop(bs.read('sweep.csv')); found {type(source).__name__}."
        )
    return view(posterior, asked, regret, level)


def check_sweep(runs: Runs) -> None:
    """Refuse runs without two inputs between which a budget can be split, before anything is fitted.

    Raises:
        InputError: With the input that is missing.
    """
    if {"n_params", "n_tokens"} <= set(runs.inputs) or {"flops", "n_params"} <= set(runs.inputs):
        return
    raise InputError(
        f"An isoFLOP sweep needs n_params and n_tokens, or one of them and flops; these runs have "
        f"{', '.join(runs.inputs) or 'no scale input'}. Name the columns with columns={{...}} (--column n_tokens=...), "
        "and leave inputs=, --input away."
    )


def view(posterior: Fitted, asked: np.ndarray, regret: float, level: float) -> Sweep:
    """Evaluate a posterior along lines of equal compute: at the budgets of its runs and at the requested ones."""
    if posterior.ray is not None:
        raise InputError(
            f"All runs lie on one ray ({posterior.ray.text}): there is one size at each budget and no valley. Add "
            "runs of other sizes at the same budgets."
        )
    measured, flops_per, notes = cells(posterior)
    own = np.unique(measured["budget"].dropna())
    further = [c for c in asked if not np.isclose(np.log(own), np.log(c), atol=np.log(SAME_BUDGET) / 2).any()]
    budgets = np.sort(np.concatenate([own, further]))
    if not len(budgets):
        raise InputError(
            "No two of these runs have the same compute. Give the budgets with budgets=[1e20, 1e21] (--budget 1e20)."
        )
    count = int(np.clip(MOST_POINTS // len(budgets), 21, POINTS))
    paths = [valley_path(posterior, measured, c, flops_per, count) for c in budgets]
    forecast = posterior.forecast_at(pd.concat(paths, ignore_index=True), "mean")
    joint = forecast.log_draws.reshape(-1, len(budgets), count)
    x = np.stack([np.log(path["n_params"].to_numpy(float)) for path in paths])
    best = np.stack([lowest(x[i], joint[:, i]) for i in range(len(budgets))], axis=1)
    typical = forecast.typical.reshape(len(budgets), count)
    q05, q95 = forecast.quantile([0.05, 0.95]).reshape(2, len(budgets), count)
    log_size = np.median(best, axis=0)
    best_inputs = [
        on_cost_line(posterior.law.inputs, np.exp([log_size[i]]), c, flops_per) for i, c in enumerate(budgets)
    ]
    at_best = posterior.forecast_at(pd.concat(best_inputs, ignore_index=True), "mean")
    sides = [0.5 - level / 2, 0.5 + level / 2]
    ends, losses = np.quantile(best, sides, axis=0), at_best.quantile(sides)
    rows, long, found = [], [], {}
    for i, c in enumerate(budgets):
        flat = connected(typical[i] - float(at_best.typical[i]) <= regret, int(np.argmin(typical[i])))
        sizes = np.exp([log_size[i], *x[i][flat]])
        row = {"cells": int((measured["budget"] == c).sum()), "n_params": np.exp(log_size[i])}
        row |= {"n_params_low": np.exp(ends[0, i]), "n_params_high": np.exp(ends[1, i])}
        row |= {"loss": at_best.typical[i], "loss_low": losses[0, i], "loss_high": losses[1, i]}
        row |= {"flat_low": sizes.min(), "flat_high": sizes.max(), "ratio": at_best.ratio[i]}
        rows.append(frontier_row(float(c), c / flops_per, row, measured[measured["budget"] == c]))
        table = paths[i][list(ND)].assign(budget=float(c), typical=typical[i], q05=q05[i], q95=q95[i], flat=flat)
        long.append(table)
        found[float(c)] = caveats(posterior, best_inputs[i].iloc[0].astype(float).to_dict())
        if log_size[i] in (x[i, 0], x[i, -1]):
            text = f"The loss at C = {power_of_ten(c)} is least at the end of the search: this valley has no minimum."
            found[float(c)].append(Caveat("no_optimum", text, None, "Add runs of other sizes at this budget."))
    frontier = pd.DataFrame(rows)
    return Sweep(
        frontier=frontier,
        exponents=powers(frontier, np.isin(budgets, own), best, sides),
        valleys=pd.concat(long, ignore_index=True),
        measured=measured,
        flops_per=flops_per,
        regret=float(regret),
        level=float(level),
        left_out=tuple(entry.text for entry in posterior.runs.log if entry.severity == "excluded"),
        broken=broken_cells(posterior.runs.left_out, flops_per, budgets),
        notes=tuple(notes),
        caveats=found,
        posterior=posterior,
    )


def frontier_row(budget: float, product: float, found: dict[str, Any], runs: pd.DataFrame) -> dict[str, Any]:
    """Return one row of `Sweep.frontier`; tokens are the known product at a budget divided by the size.

    Args:
        budget: The budget in FLOPs.
        product: Parameters times tokens at this budget.
        found: Number of runs, best size, loss there, interval, sizes that are equally good, and the extrapolation
            factor.
        runs: Runs at this budget, to which the parabola of the usual method is fitted.
    """
    parabola, said = parabola_of(runs)
    value = {name: float(number) for name, number in found.items()}
    return {
        **{"budget": budget, "cells": found["cells"]},
        **{name: value[name] for name in ("n_params", "n_params_low", "n_params_high")},
        **{"n_tokens": product / value["n_params"]},
        **{"n_tokens_low": product / value["n_params_high"], "n_tokens_high": product / value["n_params_low"]},
        **{name: value[name] for name in ("loss", "loss_low", "loss_high", "flat_low", "flat_high")},
        **{"flat_tokens_low": product / value["flat_high"], "flat_tokens_high": product / value["flat_low"]},
        **{"parabola_params": parabola, "parabola_tokens": product / parabola, "parabola": said},
        **{"ratio": value["ratio"]},
    }


# --- Runs of a sweep ------------------------------------------------------------------------------------------


def cells(posterior: Fitted) -> tuple[pd.DataFrame, float, list[str]]:
    """Return the runs with their budgets, the FLOPs per parameter and token, and remarks.

    Raises:
        InputError: For a law with other inputs.
    """
    frame, inputs = posterior.runs.frame, posterior.law.inputs
    if set(inputs) not in ({"n_params", "n_tokens"}, {"flops", "n_params"}):
        raise InputError(
            f"An isoFLOP view needs a fit of n_params and n_tokens, or of flops and n_params; {posterior.law.name} is "
            f"a law of {', '.join(inputs)}. Fit with law='auto' (--law auto) to n_params and n_tokens."
        )
    size = frame["n_params"].to_numpy(float)
    if "n_tokens" in frame:
        tokens = frame["n_tokens"].to_numpy(float)
    else:
        tokens = frame["flops"].to_numpy(float) / (FLOPS_PER_PARAMETER_AND_TOKEN * size)
    compute = FLOPS_PER_PARAMETER_AND_TOKEN * size * tokens
    if "flops" in frame and frame["flops"].notna().all():
        compute = frame["flops"].to_numpy(float)
    per = compute / (size * tokens)
    flops_per, notes = float(np.exp(np.median(np.log(per)))), []
    if per.max() > 1.1 * per.min():
        notes.append(
            f"Compute over N D goes from {per.min():.3g} to {per.max():.3g} among the runs; valleys are drawn at "
            f"C = {flops_per:.3g} N D."
        )
    table = pd.DataFrame({"budget": budgets_of(compute), "n_params": size, "n_tokens": tokens})
    few = table["budget"].value_counts()
    few = few[few < FEWEST_CELLS]
    if len(few):
        listed = some([power_of_ten(c) for c in sorted(few.index)])
        notes.append(
            f"Fewer than {FEWEST_CELLS} runs are left at C = {listed}: these valleys come from the joint fit alone."
        )
    return table.assign(loss=frame["loss"].to_numpy(float)), flops_per, notes


def broken_cells(gone: pd.DataFrame | None, flops_per: float, budgets: np.ndarray) -> pd.DataFrame:
    """Return the runs that were left out when the table was read, with the budgets nearest to their compute."""
    columns = ["budget", *ND, "loss"]
    if gone is None or "loss" not in gone:
        return pd.DataFrame(columns=columns, dtype=float)
    known = {name: gone[name].to_numpy(float) for name in (*ND, "flops") if name in gone}
    if "n_params" not in known or len(known) < 2:
        return pd.DataFrame(columns=columns, dtype=float)
    size = known["n_params"]
    tokens = known["n_tokens"] if "n_tokens" in known else known["flops"] / (flops_per * size)
    compute = known.get("flops", flops_per * size * tokens)
    away = np.abs(np.log(compute)[:, None] - np.log(budgets))
    near = np.where(away.min(1) < np.log(SAME_BUDGET), budgets[away.argmin(1)], np.nan)
    table = pd.DataFrame({"budget": near, "n_params": size, "n_tokens": tokens, "loss": gone["loss"].to_numpy(float)})
    return table[np.isfinite(size) & np.isfinite(tokens)].reset_index(drop=True)


def budgets_of(compute: np.ndarray) -> np.ndarray:
    """Return the budget of each run: the geometric mean of its group of similar compute, or nan without groups."""
    order = np.argsort(compute)
    logs = np.log(compute[order])
    group = np.concatenate([[0], np.cumsum(np.diff(logs) > np.log(SAME_BUDGET))])
    result = np.full(len(compute), np.nan)
    for number in range(group[-1] + 1):
        members = order[group == number]
        values = compute[members]
        # Where all steps in compute are small, the runs fill the plane of sizes and tokens and have no budgets.
        if values.max() <= values.min() * SAME_BUDGET**2:
            same = np.ptp(values) < 1e-9 * values[0]
            result[members] = values[0] if same else float(f"{np.exp(np.log(values).mean()):.3g}")
    return result


def is_sweep(posterior: Fitted) -> bool:
    """Return whether the runs are an isoFLOP sweep: most of them at budgets that have at least three sizes."""
    if posterior.ray is not None or set(posterior.law.inputs) not in (
        {"n_params", "n_tokens"},
        {"flops", "n_params"},
    ):
        return False
    table = cells(posterior)[0]
    sizes = table.groupby("budget")["n_params"].nunique()
    full = sizes[sizes >= FEWEST_CELLS].index
    return len(full) > 0 and bool(table["budget"].isin(full).mean() > 0.5)


# --- Valleys ------------------------------------------------------------------------------------------------------


def valley_path(posterior: Fitted, measured: pd.DataFrame, budget: float, per: float, count: int) -> pd.DataFrame:
    """Return the points at which one valley is evaluated: around the law's optima, and over all measured sizes."""
    wide = on_cost_line(posterior.law.inputs, np.geomspace(*SEARCH, 300), budget, per)
    wide = wide[wide["n_tokens"] >= 1.0].reset_index(drop=True)
    law_best, _ = law_optima(posterior, wide, "n_params")
    low, high = np.quantile(law_best, [0.05, 0.95])
    own = measured.loc[measured["budget"] == budget, "n_params"]
    ends = [low / 2.0, high * 2.0, *([own.min() / 1.2, own.max() * 1.2] if len(own) else [])]
    return on_cost_line(posterior.law.inputs, np.geomspace(min(ends), max(ends), count), budget, per)


def parabola_of(runs: pd.DataFrame) -> tuple[float, str]:
    """Return the size at the minimum of the parabola in ln N through the runs of one budget, with a text about it."""
    if runs["n_params"].nunique() < FEWEST_CELLS:
        return np.nan, "too few for a parabola"
    x = np.log(runs["n_params"].to_numpy(float))
    center = x.mean()
    bend, slope, _ = np.polyfit(x - center, runs["loss"].to_numpy(float), 2)
    if bend <= 0:
        return np.nan, "the parabola has no bottom"
    vertex = center - slope / (2.0 * bend)
    size = float(np.exp(np.clip(vertex, -700, 700)))
    outside = "" if x.min() <= vertex <= x.max() else ", outside the sizes measured"
    return size, f"parabola N* {short_count(size)}{outside}"


def powers(frontier: pd.DataFrame, own: np.ndarray, best: np.ndarray, sides: list[float]) -> pd.DataFrame:
    """Return the powers of compute with which best size and tokens grow over the measured budgets, with intervals."""
    log_budget = np.log(frontier["budget"].to_numpy(float))
    chosen = own if own.sum() > 1 else np.ones(len(frontier), bool)
    if chosen.sum() < 2:
        return pd.DataFrame(columns=["power", "low", "high", "parabola"])
    away = log_budget[chosen] - log_budget[chosen].mean()
    slopes = best[:, chosen] @ away / (away @ away)
    bottoms = np.log(frontier["parabola_params"].to_numpy(float))
    known = np.isfinite(bottoms)
    theirs = float(np.polyfit(log_budget[known], bottoms[known], 1)[0]) if known.sum() > 1 else np.nan
    low, middle, high = np.quantile(slopes, [sides[0], 0.5, sides[1]])
    rows = {
        "n_params": {"power": middle, "low": low, "high": high, "parabola": theirs},
        "n_tokens": {"power": 1 - middle, "low": 1 - high, "high": 1 - low, "parabola": 1 - theirs},
    }
    return pd.DataFrame(rows).T


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as mappings, with None for nan."""
    rows = table.to_dict("records")
    return [{str(k): None if isinstance(v, float) and np.isnan(v) else v for k, v in row.items()} for row in rows]


def span(row: Mapping[Any, Any], name: str) -> str:
    """Write a size with its interval."""
    return f"{short_count(row[name])} ({short_count(row[name + '_low'])} to {short_count(row[name + '_high'])})"
