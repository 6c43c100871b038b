"""Suggestions for options and subcommands that do not exist."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

from bayescale.errors import some

CLOSE = 0.6
"""Smallest similarity at which a name is suggested."""
OPTIONS = {
    "--discrepancy": "drift gp residual-process model-error misspecification",
    "--likelihood": "noise observation error-model noise-model",
    "--law": "model curve form function scaling-law",
    "--target": "goal threshold bar aim target-loss",
    "--at": "point inputs where x query",
    "--out": "output save o to file out-file output-file",
    "--draws": "samples num-samples n-samples num-draws n-draws iterations iter",
    "--warmup": "num-warmup tune burn-in burnin adapt warm-up",
    "--chains": "num-chains n-chains",
    "--target-accept": "adapt-delta target-accept-prob accept",
    "--method": "sampler algorithm inference engine",
    "--levels": "level interval intervals quantiles ci credible",
    "--level": "levels interval ci credible",
    "--input": "inputs scale scales x axis",
    "--column": "columns map rename col",
    "--loss": "response metric y value-column",
    "--family": "families group by groupby recipe",
    "--flops": "budget compute c",
    "--budget": "flops compute c",
    "--json": "format as-json output-format",
    "--cost": "price stake",
    "--value": "benefit reward worth payoff",
    "--seed": "random-seed rng random-state",
    "--ratio": "factor extrapolation holdout hold-out split",
    "--plot": "picture figure fig png",
    "--equal": "rope tolerance margin",
    "--screen": "keep drop outliers filter exclude",
}
"""Alternative names of options: those of earlier versions and of other tools."""
VERBS = {
    "predict": "forecast extrapolate",
    "decide": "go gate decision",
    "fit": "train sample estimate infer run",
    "isoflop": "valley valleys sweep",
    "next-run": "next pilot design",
    "power": "plan planning",
    "allocate": "optimal optimum split budget chinchilla",
    "compare": "diff versus",
    "noise": "seeds replicates",
    "read": "load show parse check",
    "laws": "law list models",
    "corpus": "data datasets",
    "coverage": "pass-at-k passk pass monkeys repeated-sampling",
    "backtest": "validate holdout cv",
}
"""Alternative names of subcommands."""


def meant(name: str, known: Iterable[str], others: dict[str, str]) -> str | None:
    """Return the known name that was probably meant, or None.

    Args:
        name: The name that was typed.
        known: The existing names.
        others: Alternative names, separated by spaces, of each known name.

    Example:
        >>> meant("--noise", ["--loss", "--likelihood"], OPTIONS)
        '--likelihood'
    """
    listed = list(known)
    bare = name.lstrip("-").lower().replace("_", "-")
    for right, wrong in others.items():
        if right in listed and bare in wrong.split():
            return right
    close = difflib.get_close_matches(name.lower().replace("_", "-"), listed, n=1, cutoff=CLOSE)
    return close[0] if close else None


def misspelt(error: Any) -> str | None:
    """Return the error message for an option or subcommand that does not exist.

    None for other errors of the command line.
    """
    context = getattr(error, "ctx", None)
    if context is None:
        return None
    names, command = [], context
    while command.parent is not None:
        names.insert(0, command.info_name)
        command = command.parent
    verb = " ".join(["bayescale", *names])
    if type(error).__name__ == "NoSuchOption":
        name = error.option_name
        known = [option for parameter in context.command.params for option in parameter.opts + parameter.secondary_opts]
        right = meant(name, [option for option in known if option.startswith("--")], OPTIONS)
        hint = f"did you mean {right}?" if right else f"{verb} --help lists its options."
        return f"{verb} has no option {name}; {hint}"
    found = re.match(r"No such command '([^']*)'", str(error.message))
    if found:
        known = sorted(context.command.commands)
        right = meant(found[1], known, VERBS)
        hint = f"did you mean {right}?" if right else f"its subcommands are {some(known, len(known))}."
        return f"{verb} has no subcommand {found[1]!r}; {hint}"
    return None
