"""Subcommands about decisions: each calls one function of `bayescale.decide`."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bayescale.cli.given import check_files, refuse_idle
from bayescale.cli.options import (
    FIT,
    READING,
    Json,
    LawName,
    Plot,
    Seed,
    amount,
    emit,
    fit_options,
    numbers,
    reads,
    tell_log,
    told_unless_answered,
)
from bayescale.errors import InputError

STAKELESS = "without --cost and --value, which define the cost of mistakes; give both, or leave this option out"
"""Reason why options about costs have no effect without both."""

FITTED = "on a saved fit; give the table of its runs instead"
"""Reason why options of reading and fitting have no effect on a saved fit."""
AT_SCALES = ("at", "axis", "low", "high", "equal", "deadline", "rate", "cost", "cost_unit", "law", "seed", *FIT)
"""Options of a comparison of fitted curves."""

Fit = Annotated[Path, typer.Argument(help="Posterior written by `bayescale fit --out`.")]
At = Annotated[str, typer.Option(help="Inputs of the run in question, e.g. n_params=70e9,n_tokens=1.4e12.")]
Targets = Annotated[
    list[float] | None, typer.Option("--target", help="Loss, score or value that the run should meet; repeatable.")
]
Cost = Annotated[float | None, amount("What the run costs, in any unit.")]
Value = Annotated[float | None, amount("What meeting the target is worth, in the unit of --cost.")]
UtilityName = Annotated[str, typer.Option(help="step, per_nat or opportunity; see `bayescale.decide.UTILITIES`.")]
Unit = Annotated[str, typer.Option(help="Unit of cost and value, printed in texts, e.g. USD or GPU-hours.")]
Pilots = Annotated[Path | None, typer.Option(help="CSV of possible pilots: inputs, and optionally cost.")]
Batch = Annotated[int, typer.Option(help="Largest number of pilots to buy together.")]
Page = Annotated[Path | None, typer.Option(help="Also write a report of the decision here (.html or .md).")]
Sensitive = Annotated[
    bool,
    typer.Option("--sensitivity/--no-sensitivity", help="Refit under changed assumptions, for the page of --report."),
]


def decide(
    context: typer.Context,
    fit: Fit,
    at: At,
    target: Targets = None,
    cost: Cost = None,
    value: Value = None,
    utility: UtilityName = "step",
    unit: Unit = "",
    pilots: Pilots = None,
    batch: Batch = 1,
    report: Page = None,
    sensitivity: Sensitive = True,
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    """Decide go, no-go or pilot first: the probability that a run meets its target, and what a wrong decision costs."""
    check_files(page=report, picture=plot)
    point = numbers(at)
    if not target:
        raise InputError("Give the loss or score that the run must reach, e.g. --target 2.0 (repeatable).")
    if (report or plot) and len(target) > 1:
        raise InputError("--report and --plot need a single --target; call the command once for each target.")
    if cost is None and value is None:
        refuse_idle(context, ("utility", "unit", "pilots", "batch"), STAKELESS)
    if report is None:
        refuse_idle(context, ("sensitivity",), "without --report, the page that shows the refits")
    import bayescale as bs
    from bayescale.data.read import read_table

    posterior = bs.load(fit)
    offered = "auto" if pilots is None else read_table(pilots)
    stakes: dict[str, Any] = {"cost": cost, "value": value, "utility": utility, "unit": unit}
    decisions = [bs.decide.go(posterior, goal, **stakes, pilots=offered, batch=batch, at=point) for goal in target]
    written = []
    if report is not None:
        page = bs.report(posterior, decisions[0], command=command(), with_sensitivity=sensitivity, **quiet(as_json))
        written.append(str(page.save(report)))
    if plot is not None:
        written.append(str(bs.plot.save(bs.plot.forecast(decisions[0].forecast, target=target[0]), plot)))
    tell([decision.to_dict() for decision in decisions], decisions, "decisions", written, as_json)


def allocate(
    fit: Fit,
    flops: Annotated[list[float], amount("The budget in FLOPs, 6 N D; repeatable.")],
    at: Annotated[str | None, typer.Option(help="The law's other inputs, e.g. n_experts=8.")] = None,
    served: Annotated[
        float, amount("Tokens that the model will process after training; adds 2 N times this to the cost.")
    ] = 0.0,
    unique_tokens: Annotated[float | None, amount("Distinct tokens that exist.")] = None,
    min_params: Annotated[float | None, amount("Smallest allowed first input.")] = None,
    max_params: Annotated[float | None, amount("Largest allowed first input.")] = None,
    min_tokens: Annotated[float | None, amount("Smallest allowed second input.")] = None,
    max_tokens: Annotated[float | None, amount("Largest allowed second input.")] = None,
    regret: Annotated[float, typer.Option(help="Sizes within this loss of the best count as equally good.")] = 0.01,
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    """Split a compute budget between parameters and tokens, and list the sizes that are equally good."""
    check_files(picture=plot)
    others = None if at is None else numbers(at)
    import bayescale as bs

    found: Any = bs.decide.allocate(
        bs.load(fit),
        flops if len(flops) > 1 else flops[0],
        at=others,
        served=served,
        unique_tokens=unique_tokens,
        min_params=min_params,
        max_params=max_params,
        min_tokens=min_tokens,
        max_tokens=max_tokens,
        regret=regret,
    )
    written = [] if plot is None else [str(bs.plot.save(bs.plot.isoflop(found), plot))]
    tell(found.to_dict(), [found], "", written, as_json)


@reads
@fit_options
def isoflop(
    context: typer.Context,
    runs: Annotated[
        str,
        typer.Argument(help="Table of the runs of an isoFLOP sweep, - for stdin; or a fit written by `bayescale fit`."),
    ],
    reading: dict[str, Any],
    options: dict[str, Any],
    budget: Annotated[
        list[float] | None, amount("Budget to look at besides those of the runs, in FLOPs; repeatable.")
    ] = None,
    regret: Annotated[float, typer.Option(help="Sizes within this loss of the best count as equally good.")] = 0.01,
    level: Annotated[float, typer.Option(help="Central probability of intervals.")] = 0.9,
    law: LawName = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Also write the fit here, for `allocate`, `decide` and others.")
    ] = None,
    plot: Plot = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Find the best sizes and tokens at each budget of an isoFLOP sweep, and the powers of compute they grow with."""
    check_files(fit=out, picture=plot)
    import bayescale as bs

    further: dict[str, Any] = {"budgets": budget, "regret": regret, "level": level}
    if runs.endswith(".nc"):
        refuse_idle(context, ("law", "seed", *FIT, *READING), FITTED)
        found = bs.decide.isoflop(bs.load(runs), **further)
    else:
        table = bs.read(runs, **reading)
        # The answer contains what was left out.
        with told_unless_answered(table.log):
            found = bs.decide.isoflop(table, **further, seed=seed, law=law, **options)
    written = []
    if out is not None:
        found.posterior.save(out)
        written.append(str(out))
    if plot is not None:
        written.append(str(bs.plot.save(bs.plot.isoflop(found), plot)))
    tell(found.to_dict(), [found], "", written, as_json)


@reads
@fit_options
def compare(
    context: typer.Context,
    fits: Annotated[
        list[str],
        typer.Argument(
            help="Posteriors, one a recipe, whose file names are the recipes' names; or one table of runs of several "
            "recipes, which are fitted first, or compared by their seeds where all runs have one scale."
        ),
    ],
    reading: dict[str, Any],
    options: dict[str, Any],
    at: Annotated[str | None, typer.Option(help="Inputs at the point in question, e.g. n_params=7e9.")] = None,
    axis: Annotated[str | None, typer.Option(help="Input along which recipes are compared.")] = None,
    low: Annotated[float | None, amount("Start of the range of --axis in which crossings are sought.")] = None,
    high: Annotated[float | None, amount("End of that range.")] = None,
    equal: Annotated[float, typer.Option(help="Largest difference in ln(loss) that counts as equal.")] = 0.0,
    deadline: Annotated[float | None, amount("Point by which a recipe should be better.")] = None,
    rate: Annotated[
        list[str] | None,
        typer.Option(help="RECIPE=amount of the input per unit of cost[:sd of its ln], e.g. a=3e15:0.1; repeatable."),
    ] = None,
    cost: Annotated[float | None, amount("Cost at which recipes are compared; needs --rate.")] = None,
    cost_unit: Annotated[str, typer.Option(help="Unit of the cost, e.g. GPU-hours or USD.")] = "cost",
    law: LawName = "auto",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compare recipes: which one is better, from which scale on, and with what probability."""
    stretch = stretch_of(low, high)
    if stretch is None:
        refuse_idle(context, ("deadline",), "without --low and --high, the range in which crossings are sought")
    if not rate:
        refuse_idle(context, ("cost", "cost_unit"), "without --rate, what one unit of cost buys for each recipe")
    bought = dict(map(read_rate, rate or [])) or None
    import bayescale as bs

    if len(fits) == 1 and not fits[0].endswith(".nc"):
        runs = bs.read(fits[0], **reading)
        tell_log(runs.log)
        if all(runs.frame[name].nunique() == 1 for name in runs.inputs):
            refuse_idle(context, AT_SCALES, "on runs of one scale, which are compared by their seeds")
            found = bs.decide.compare(runs)
            tell(found.to_dict(), [found], "", [], as_json)
            return
        recipes: Any = {part.name: bs.fit(part, law, seed=seed, **options) for part in runs.split()}
    else:
        refuse_idle(context, ("law", *FIT, *READING), FITTED)
        recipes = load_recipes(fits)
    found = bs.decide.compare(
        recipes,
        at=None if at is None else numbers(at),
        axis=axis,
        range=stretch,
        equal=equal,
        rates=bought,
        cost=cost,
        unit=cost_unit,
        deadline=deadline,
        seed=seed,
    )
    tell(found.to_dict(), [found], "", [], as_json)


def stretch_of(low: float | None, high: float | None) -> tuple[float, float] | None:
    """Return the part of the axis between --low and --high; None where neither is given."""
    if (low is None) != (high is None):
        raise InputError("Give --low and --high together: both ends of the range in which crossings are sought.")
    return None if low is None or high is None else (low, high)


def load_recipes(files: list[str]) -> dict[str, Any]:
    """Load the fit of each recipe; the file name without suffix is the name of the recipe."""
    import bayescale as bs

    recipes = {Path(file).stem: bs.load(file) for file in files}
    if len(recipes) < len(files):
        raise InputError("Fits must have different file names, because these are used as the names of the recipes.")
    return recipes


def read_rate(text: str) -> tuple[str, tuple[float, float]]:
    """Read a rate such as `a=3e15:0.1`."""
    name, equals, numbers_text = text.partition("=")
    rate, _, sd = numbers_text.partition(":")
    try:
        if not (name and equals):
            raise ValueError
        return name, (float(rate), float(sd or 0.0))
    except ValueError:
        raise InputError(f"--rate expects RECIPE=rate or RECIPE=rate:sd, e.g. a=3e15:0.1; found {text!r}.") from None


def next_run(
    context: typer.Context,
    fit: Fit,
    at: At,
    candidates: Pilots = None,
    target: Annotated[
        float | None, typer.Option(help="Loss, score or value that the run in question must meet.")
    ] = None,
    cost: Cost = None,
    value: Value = None,
    utility: UtilityName = "step",
    unit: Unit = "",
    batch: Batch = 1,
    budget: Annotated[float | None, amount("Largest sum of the pilots' costs.")] = None,
    as_json: Json = False,
) -> None:
    """Rank pilots by how much they would tell about one larger run."""
    point = numbers(at)
    if target is None:
        refuse_idle(context, ("utility", "value"), "without --target, the loss that the run in question must meet")
    import bayescale as bs
    from bayescale.data.read import read_table

    ranking = bs.decide.next_run(
        bs.load(fit),
        None if candidates is None else read_table(candidates),
        target=target,
        cost=cost,
        value=value,
        utility=utility,
        batch=batch,
        budget=budget,
        unit=unit,
        at=point,
    )
    tell(ranking.to_dict(), [ranking], "", [], as_json)


def stop(
    context: typer.Context,
    fits: Annotated[list[Path], typer.Argument(help="Posteriors of runs in progress, fitted over their own steps.")],
    at: Annotated[str, typer.Option(help="Where the runs end, e.g. step=100000.")],
    target: Annotated[float, typer.Option(help="Loss, score or value that a finished run must meet.")],
    remaining: Annotated[float | None, amount("Cost of finishing a run.")] = None,
    value: Value = None,
    chance: Annotated[
        float | None,
        typer.Option(
            help="Stop runs whose probability of meeting the target is below this, without --remaining and --value."
        ),
    ] = None,
    unit: Unit = "",
    as_json: Json = False,
) -> None:
    """Choose which runs in progress to stop, from their losses so far."""
    point = numbers(at)
    if remaining is not None and value is not None:
        refuse_idle(context, ("chance",), "with --remaining and --value, whose ratio is used instead")
    elif remaining is None and value is None:
        refuse_idle(context, ("unit",), "without --remaining and --value")
    import bayescale as bs

    posteriors = {path.stem: bs.load(path) for path in fits}
    if len(posteriors) < len(fits):
        raise InputError("Fits must have different file names, which are the names of the runs.")
    options = {} if chance is None else {"chance": chance}
    stops = bs.decide.stop_early(posteriors, target, remaining=remaining, value=value, unit=unit, **options, at=point)
    tell(stops.to_dict(), [stops], "", [], as_json)


def power(
    context: typer.Context,
    at: At,
    fit: Annotated[Path | None, typer.Option(help="Posterior that the plan adds to; else give --law.")] = None,
    law: Annotated[str | None, typer.Option(help="Law whose priors say what may come, before any run.")] = None,
    constants: Annotated[str | None, typer.Option(help="Published constants of that law, e.g. besiroglu2024.")] = None,
    low: Annotated[str | None, typer.Option(help="Smallest run of a ladder, e.g. flops=1e18.")] = None,
    high: Annotated[str | None, typer.Option(help="Largest run of a ladder.")] = None,
    runs: Annotated[list[int] | None, typer.Option(help="Number of sizes of a ladder; repeatable.")] = None,
    seeds: Annotated[list[int] | None, typer.Option(help="Seeds at each size; repeatable.")] = None,
    plan: Annotated[list[Path] | None, typer.Option(help="CSV with the inputs of a plan's runs; repeatable.")] = None,
    width: Annotated[float | None, typer.Option(help="Aim: width of one run's interval in ln loss.")] = None,
    difference: Annotated[float | None, typer.Option(help="Aim: difference of two recipes in ln loss.")] = None,
    target: Annotated[float | None, typer.Option(help="Aim: a clear go or no-go on this loss or score.")] = None,
    sure: Annotated[float, typer.Option(help="Probability at which go or no-go is clear.")] = 0.9,
    level: Annotated[float, typer.Option(help="Central probability of intervals.")] = 0.8,
    wanted: Annotated[float, typer.Option(help="Power that is enough.")] = 0.8,
    simulations: Annotated[int, typer.Option(help="Simulated data sets a plan, where they are fitted.")] = 40,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Find the number of runs, their sizes and the number of seeds that an aim needs."""
    point = numbers(at)
    if (fit is None) == (law is None):
        raise InputError("Give either --fit, a saved posterior, or --law, for a plan before any run.")
    if constants is not None and law is None:
        raise InputError(f"--constants {constants} is only for --law, since --fit has its own constants; leave it out.")
    if fit is not None:
        refuse_idle(context, ("simulations",), "with --fit, whose draws replace the simulations")
    if target is None:
        refuse_idle(context, ("sure",), "without --target, the aim to which it applies")
    if low is None and high is None:
        refuse_idle(context, ("runs", "seeds"), "without --low and --high, the ends of a ladder")
    import bayescale as bs
    from bayescale.data.read import read_table

    plans = {path.stem: read_table(path) for path in plan or []}
    if low is not None or high is not None:
        if low is None or high is None or not runs:
            raise InputError(
                "A ladder needs --low, --high and --runs, e.g. --low flops=1e18 --high flops=1e20 --runs 6."
            )
        plans |= bs.decide.ladders(numbers(low), numbers(high), runs, seeds)
    if fit is not None:
        source: Any = bs.load(fit)
    else:
        source = bs.laws.get(str(law))
        source = source if constants is None else source.published(constants)
    aims = {"width": width, "difference": difference, "target": target}
    options: dict[str, Any] = {"sure": sure, "level": level, "wanted": wanted, "simulations": simulations, "seed": seed}
    found = bs.decide.power(source, plans, **aims, **options, at=point)
    tell(found.to_dict(), [found], "", [], as_json)


def report(
    context: typer.Context,
    fit: Fit,
    out: Annotated[Path, typer.Option(help="The page: .html, or .md for a pull request.")],
    at: Annotated[str | None, typer.Option(help="Inputs of the run in question.")] = None,
    target: Annotated[float | None, typer.Option(help="Loss, score or value to be met.")] = None,
    cost: Cost = None,
    value: Value = None,
    utility: UtilityName = "step",
    unit: Unit = "",
    title: Annotated[str | None, typer.Option(help="The question; made from the decision by default.")] = None,
    sensitivity: Sensitive = True,
    as_json: Json = False,
) -> None:
    """Write one self-contained page for a fit, or for the decision about one run."""
    check_files(page=out)
    if (at is None) != (target is None):
        raise InputError("Give --at and --target together: the run, and the loss or score that it must reach.")
    if at is None:
        why = "without --at and --target: the report of a fit alone has no decision"
        refuse_idle(context, ("cost", "value", "utility", "unit", "sensitivity"), why)
    if cost is None and value is None:
        refuse_idle(context, ("utility", "unit"), STAKELESS)
    import bayescale as bs

    posterior = bs.load(fit)
    decision = None
    if at is not None and target is not None:
        stakes: dict[str, Any] = {"cost": cost, "value": value, "utility": utility, "unit": unit}
        decision = bs.decide.go(posterior, target, **stakes, at=numbers(at))
    page = bs.report(
        posterior, decision, title=title, command=command(), with_sensitivity=sensitivity, **quiet(as_json)
    )
    page.save(out)
    if as_json:
        emit({"written": [str(out)], "answer": page.answer, "headline": page.headline})
        return
    print(f"wrote {out}", file=sys.stderr)


def tell(plain: Any, people: list[Any], name: str, written: list[str], as_json: bool) -> None:
    """Print an answer: one JSON object, or text."""
    if as_json:
        body = {name: plain} if name else dict(plain)
        emit(finite({**body, **({"written": written} if written else {})}))
        return
    print("\n\n".join(str(answer) for answer in people))
    for path in written:
        print(f"wrote {path}", file=sys.stderr)


def quiet(as_json: bool) -> dict[str, Any]:
    """Return the option that hides progress bars when the answer is printed as JSON."""
    return {"progress": False if as_json else None}


def finite(value: Any) -> Any:
    """Return NumPy's numbers as plain ones, and None (null in JSON) for numbers that are not finite."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return finite(dataclasses.asdict(value))
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value


def command() -> str:
    """Return the command line as typed, for the provenance of a page."""
    return shlex.join(["bayescale", *sys.argv[1:]])


VERBS = {
    "decide": decide,
    "allocate": allocate,
    "isoflop": isoflop,
    "compare": compare,
    "next-run": next_run,
    "stop": stop,
    "power": power,
    "report": report,
}
"""Every subcommand here, by its name on the command line."""
