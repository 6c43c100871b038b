"""Calibration by simulation of the default models, of wrong ones, and of every law, at made-up runs of its inputs.

    python -m benchmarks sbc                     simulates what is missing and writes benchmarks/results/sbc.json
    python -m benchmarks sbc --long --only NAME  one law again with the package's default chains
    python -m benchmarks pages simulated         renews the tables in docs/evidence/calibration.md

Stopped at any point, the next call goes on. Laws of one curve and equal kinds of priors share a compiled program.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bayescale.evaluate.designs import made_up
from bayescale.model.choice import components
from bayescale.posterior.mixture import combine
from benchmarks.core.markdown import grid, templates
from benchmarks.core.rows import store, stored
from benchmarks.simulated import drawn

RESULTS = Path(__file__).parents[1] / "results" / "sbc.json"
RUNS, SIMULATIONS = 16, 60
MANY = 500
"""Simulations of each case."""
SHORT = {"chains": 2, "draws": 199}
"""Chains of the usual run: long enough for 99 ranks, too short to be tried again."""
MIXED = 1.05
"""R-hat below which so short chains count as mixed."""
BOUNDED = ("schedule", "step", "share", "share_1", "share_2", "share_3", "share_4", "share_5", "active_share")
"""Inputs that cannot grow tenfold."""
render = templates(__file__)


@dataclasses.dataclass(frozen=True)
class Case:
    """A default model, or one that is wrong on purpose.

    Attributes:
        law: Its law.
        right: Whether ranks should be uniform.
        options: What `bs.sbc.run` is given.
        narrow: Factor on the posterior's width, for a sampler that is wrong.
    """

    law: str
    right: bool = True
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    narrow: float = 1.0


def cases() -> dict[str, Case]:
    """Name the cases."""
    import bayescale as bs

    one, two, three = "plateau_power", "chinchilla_outer", "three_input_outer"
    return {
        "one input": Case(one),
        "one input, importance sampling first": Case(one, options={"method": "auto"}),
        "one input, no discrepancy": Case(one, options={"discrepancy": None}),
        "one input, Student-t scatter, no discrepancy": Case(
            one, options={"discrepancy": None, "likelihood": "student"}
        ),
        "parameters and tokens": Case(two),
        "parameters and tokens, importance sampling first": Case(two, options={"method": "auto"}),
        "three inputs, importance sampling first": Case(three, options={"method": "auto"}),
        "wrong: scatter of a tenth, assumed to be of the prior's size": Case(
            one, False, {"true_likelihood": bs.Likelihood(residual_sd=0.1)}
        ),
        "wrong: the slope remembers a tenth of a span, assumed one": Case(
            one, False, {"true_discrepancy": bs.Discrepancy(memory=0.1)}
        ),
        "wrong: a sampler that explores two thirds of the width": Case(one, False, narrow=0.66),
    }


def calibrated(name: str, simulations: int = MANY) -> dict[str, Any]:
    """Simulate and fit data of one case with default settings."""
    import bayescale as bs

    case = cases()[name]
    begin, law = time.process_time(), bs.LAWS[case.law]
    if case.right and len(components(law, ("present", "absent"))) > 1:
        # So many for each component.
        simulations *= 2
    with narrowed(case.narrow):
        ranks = bs.sbc.run(made_up(law, RUNS), law, simulations=simulations, seed=0, progress=False, **case.options)
    ok = [status.name == "OK" for status in ranks.statuses]
    return {"case": name, "right": case.right} | verdict(ranks, simulations, ok, begin)


@contextlib.contextmanager
def narrowed(factor: float) -> Iterator[None]:
    """Let samplers explore a share of the posterior's width only."""
    from bayescale.evaluate import sbc

    right = sbc.results_of

    def timid(*arguments: Any) -> Iterator[Any]:
        for number, fit in right(*arguments):
            parts = []
            for part in fit.components:
                center = part.unconstrained.mean((0, 1))
                parts.append(dataclasses.replace(part, unconstrained=center + factor * (part.unconstrained - center)))
            yield number, combine(parts, fit.weights)

    if factor != 1.0:
        sbc.results_of = timid
    try:
        yield
    finally:
        sbc.results_of = right


def verdict(ranks: Any, simulations: int, converged: Sequence[bool], begin: float) -> dict[str, Any]:
    """What a row says of the ranks."""
    summary = ranks.summary()
    return {
        "simulations": simulations,
        "p": {key: float(f"{value:.3g}") for key, value in summary["p"].items()},
        "outside": list(map(str, summary.index[summary["outside"]])),
        "converged": float(np.mean(converged)),
        "seconds": round(time.process_time() - begin, 1),
    }


def simulate(name: str, long: bool, simulations: int = SIMULATIONS) -> dict[str, Any]:
    """Simulate and fit data of one law: are ranks uniform?"""
    import bayescale as bs

    begin, law = time.process_time(), bs.LAWS[name]
    ratios = (1.0,) if set(law.inputs) & set(BOUNDED) else (3.0, 10.0)
    discrepancy = None if "schedule" in law.inputs else "auto"
    settings = bs.Nuts() if long else bs.Nuts(**SHORT)
    ranks = bs.sbc.run(
        made_up(law, RUNS),
        law,
        simulations=simulations,
        seed=0,
        discrepancy=discrepancy,
        ratios=ratios,
        settings=settings,
        progress=False,
    )
    mixed = [s.name == "OK" for s in ranks.statuses] if long else ranks.rhat < MIXED
    return {"law": name, "long": long, "discrepancy": discrepancy is not None} | verdict(
        ranks, simulations, mixed, begin
    )


# --- The file ------------------------------------------------------------------------------------------------


def run(only: str = "", long: bool = False, path: Path = RESULTS) -> Path:
    """Simulate the cases and laws that are missing, or whose name begins with a text."""
    import bayescale as bs

    def keep(name: str, row: dict[str, Any]) -> None:
        store([*stored(path), row], path)
        print(name, f"{row['seconds']:.0f} s, smallest p {min(row['p'].values()):.2g}", row["outside"], flush=True)

    for name in () if long else cases():
        if name.startswith(only) and not any(row.get("case") == name for row in stored(path)):
            keep(name, calibrated(name))
    for name in bs.laws.BUILT_IN:
        known = any((row.get("law"), row.get("long")) == (name, long) for row in stored(path))
        if name.startswith(only) and not known:
            keep(name, simulate(name, long))
    return path


# --- The table -----------------------------------------------------------------------------------------------


def section(path: Path = RESULTS) -> str:
    """Table of all laws; a law simulated again with long chains shows those."""
    from bayescale.laws import BUILT_IN

    laws = [row for row in stored(path) if "law" in row]
    found = {row["law"]: row for row in sorted(laws, key=lambda row: row["long"])}
    rows = [found[name] for name in BUILT_IN if name in found]
    if not rows:
        return ""
    words = render(
        "laws",
        simulations=rows[0]["simulations"],
        runs=RUNS,
        **SHORT,
        mixed=MIXED,
        again=sum(row["long"] for row in rows),
        laws=len(rows),
        outside=sum(bool(row["outside"]) for row in rows),
        missing=[f"`{name}`" for name in BUILT_IN if name not in found],
        table=table("law", {f"`{row['law']}`" + (" (long)" if row["long"] else ""): row for row in rows}),
    )
    known = [row for row in stored(path) if "case" in row]
    return "\n\n".join([*cases_section(known), words, *([more] if (more := drawn.section()) else [])])


def cases_section(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Words and table on the default models and on wrong ones, where any were simulated."""
    if not rows:
        return []
    found = {row["case"]: row for row in rows}
    right, wrong = ([row for row in rows if row["right"] == kind] for kind in (True, False))
    words = render(
        "cases",
        many=MANY,
        stay=sum(not row["outside"] for row in right),
        right=len(right),
        leave=sum(bool(row["outside"]) for row in wrong),
        wrong=len(wrong),
        missing=[name for name in cases() if name not in found],
        table=table("case", {name: found[name] for name in cases() if name in found}),
    )
    return [words]


def table(kind: str, rows: Mapping[str, dict[str, Any]]) -> str:
    """A line a row, by what it is called."""
    body = []
    for name, row in rows.items():
        where = min(row["p"], key=row["p"].get)
        least = f"{row['p'][where]:.2g} of {len(row['p'])} ({where})"
        body.append([name, least, ", ".join(row["outside"]) or "none", f"{100 * row['converged']:.0f} %"])
    return grid([kind, "smallest p", "outside the 99 % band", "converged"], body)
