"""Descriptions of registered laws, for the command line and for the page `docs/laws.md`.

`python -m bayescale.laws.describe` writes `docs/laws.md`.
"""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

from bayescale.laws import BUILT_IN
from bayescale.laws.inputs import INPUTS
from bayescale.laws.law import Law
from bayescale.laws.page_text import LEFT_OUT, NOT_LAWS, ROLES, SECTIONS, SYMBOLS, TOP, TRENDS
from bayescale.laws.papers import paper_of
from bayescale.laws.published import FORMS, VERIFIED, Published
from bayescale.laws.registry import ALIASES, LAWS, papers_of
from bayescale.laws.responses import RESPONSES

FEW_NUMBERS = 2
"""Number of parameters of a prior up to which the page shows all of them, defaults too."""


def section(law: Law) -> str:
    """Return the section of the catalogue to which a law belongs."""
    return law.info.section or law.function.__module__.rsplit(".", 1)[-1]


def only(law: Law) -> str:
    """Return the kind of data to which a law is limited, to be printed after its response; empty without a limit."""
    return {
        "odds": ", calculated from a score (the data must have one)",
        "quantity": " (not for data with a score)",
    }.get(law.info.describes, "")


def aliases(law: Law) -> dict[str, str]:
    """Return the other names of a law and the citation key of each."""
    return {name: entry.cite for name, entry in ALIASES.items() if entry.law == law.name}


def input_lines(law: Law) -> dict[str, str]:
    """Return the meaning of each input of a law."""
    counting = dict(law.info.counting)
    lines = {name: INPUTS.get(name, "one input of any name" if name == "x" else "") for name in law.inputs}
    return {name: f"{text}, {counting[name]}" if name in counting else text for name, text in lines.items()}


def prior_text(prior: Any) -> str:
    """Return the kind and the numbers of a prior as text."""
    numbers = {f.name: getattr(prior, f.name) for f in dataclasses.fields(prior) if f.name != "names"}
    return f"{type(prior).__name__}({', '.join(f'{key}={value}' for key, value in numbers.items())})"


def short_prior(prior: Any) -> str:
    """Return a prior as text without the defaults that the top of the page explains, linked to its explanation there.

    One or two numbers, such as a median and its sd, are always shown.
    """
    kind, fields = type(prior).__name__, [f for f in dataclasses.fields(prior) if f.name != "names"]
    shown = [f.name for f in fields if len(fields) <= FEW_NUMBERS or getattr(prior, f.name) != f.default]
    numbers = ", ".join(f"{name}={getattr(prior, name)}" for name in shown)
    return f"[`{kind}({numbers})`](#{kind.lower()})" if numbers else f"[`{kind}`](#{kind.lower()})"


def prior_lines(law: Law) -> dict[str, tuple[str, str]]:
    """Return the prior of each constant, and its kind in words."""
    lines = {}
    for key, prior in law.priors.items():
        role = (inspect.getdoc(type(prior)) or "").splitlines()[0]
        lines |= {", ".join(law.covered[key]): (prior_text(prior), role)}
    return lines


def reference(cite: str, *, titled: bool = False) -> str:
    """Return authors and year of a paper, its title if `titled`, and its citation key as Markdown."""
    paper = paper_of(cite)
    if paper is None:
        return f"`{cite}`"
    title = f", *{paper.title}*" if titled and paper.authors else ""
    return f"{paper.label}{title} (`{cite}`)"


def symbols(law: Law) -> tuple[str, ...]:
    """Return the symbol of each input in the formula of a law's summary."""
    signature = inspect.signature(law.function).parameters.values()
    own = tuple(one.name for one in signature if one.kind is not one.KEYWORD_ONLY)
    return SYMBOLS.get(law.name, own)


def constants_text(source: Published) -> str:
    """Return a set of constants as one line of text."""
    return ", ".join(f"{name} = {value:.7g}" for name, value in source.constants)


def nesting_text(law: Law, quote: str = "") -> str:
    """Return the laws to which this one reduces, each name in quotes, and the values at which it does, as text."""
    return "; ".join(
        f"{quote}{other}{quote} at {', '.join(f'{k} = {v:g}' for k, v in fixed)}" for other, fixed in law.info.nests
    )


def card(law: Law) -> dict[str, Any]:
    """Return the description of a law as plain values."""
    return {
        "name": law.name,
        "aliases": aliases(law),
        "summary": law.info.summary,
        "caveats": law.info.caveats,
        "inputs": list(law.inputs),
        "units": input_lines(law),
        "response": law.response,
        "describes": RESPONSES[law.info.describes],
        "cite": law.info.cite,
        "papers": [f"{paper.label}: {paper.title}" for paper in papers_of(law)],
        "nicknames": list(law.info.nicknames),
        "equation": law.info.equation,
        "form": FORMS[law.info.form],
        "constants": list(law.constants),
        "priors": {key: repr(prior) for key, prior in law.priors.items()},
        "decreasing": list(law.decreasing),
        "floor": law.floor,
        "discrepancy_over": [name for name, _ in law.axes] or list(law.inputs),
        "becomes": {other: dict(fixed) for other, fixed in law.info.nests},
        "published": {
            source.key: {
                "constants": {k: v if abs(v) < float("inf") else str(v) for k, v in source.constants},
                "cite": source.cite,
                "verified": VERIFIED[source.verified],
                "note": source.note,
            }
            for source in law.info.published
        },
    }


def line(law: Law) -> str:
    """Return a one-line description of a law, for lists."""
    return f"{law.name}({', '.join(law.inputs)}): {law.info.summary}  [{law.info.cite}]"


def text(law: Law) -> str:
    """Return the description of a law as text for a terminal."""
    where = f"{law.info.cite}, {law.info.equation}" if law.info.equation else law.info.cite
    lines = [
        f"{law.name}({', '.join(law.inputs)}): {law.info.summary}",
        f"  source     {where}; {FORMS[law.info.form]}",
    ]
    lines += [f"  paper      {paper.label}: {paper.title}" for paper in papers_of(law)]
    lines.append(f"  response   {law.response}{only(law)}")
    lines += [f"  input      {name}: {text}" for name, text in input_lines(law).items()]
    if law.axes:
        lines.append(f"  discrepancy over {', '.join(name for name, _ in law.axes)}")
    lines += [f"  prior      {names}: {prior}" for names, (prior, _) in prior_lines(law).items()]
    for source in law.info.published:
        note = f" ({source.note})" if source.note else ""
        lines.append(f"  constants  {source.key}, {VERIFIED[source.verified]}{note}: {constants_text(source)}")
    if law.info.nests:
        lines.append(f"  becomes    {nesting_text(law)}")
    if aliases(law):
        lines.append(f"  also       {', '.join(aliases(law))}")
    if law.info.nicknames:
        lines.append(f"  known as   {', '.join(law.info.nicknames)}")
    if law.info.caveats:
        lines.append(f"  caveat     {law.info.caveats}")
    return "\n".join(lines)


def block(law: Law) -> list[str]:
    """Return the description of a law as lines of Markdown."""
    where = reference(law.info.cite, titled=True) + (f", {law.info.equation}" if law.info.equation else "")
    lines = [f"### `{law.name}`", "", law.info.summary + (f" {law.info.caveats}" if law.info.caveats else ""), ""]
    lines.append(f"- paper: {where}; {FORMS[law.info.form]}")
    meanings = zip(input_lines(law).items(), symbols(law), strict=True)
    named = [f"`{name}` ({text if sign == name else f'{sign}: {text}'})" for (name, text), sign in meanings]
    lines.append(f"- inputs: {'; '.join(named)}")
    lines.append(f"- response: {law.response}{only(law)}")
    if law.axes:
        lines.append(f"- discrepancy over: {', '.join(name for name, _ in law.axes)}")
    priors = [f"{', '.join(law.covered[key])}: {short_prior(prior)}" for key, prior in law.priors.items()]
    lines.append(f"- priors: {'; '.join(priors)}")
    if law.info.published:
        lines.append("- published constants:")
    for source in law.info.published:
        note = f"; {source.note}" if source.note else ""
        cite = f", {reference(source.cite)}" if source.cite != law.info.cite else ""
        lines.append(f"    - `{source.key}` ({VERIFIED[source.verified]}{cite}{note}): {constants_text(source)}")
    if law.info.nests:
        lines.append(f"- equals {nesting_text(law, '`')}")
    if aliases(law):
        other = ", ".join(f"`{name}` ({reference(cite)})" for name, cite in aliases(law).items())
        lines.append(f"- other names: {other}")
    if law.info.nicknames:
        lines.append("- search terms: " + ", ".join(law.info.nicknames))
    return [*lines, ""]


def markdown() -> str:
    """Return the text of `docs/laws.md`."""
    built_in = {name: LAWS[name] for name in BUILT_IN}
    functions = len({law.function for law in built_in.values()})
    checks = [f"    - *{text}*" for text in VERIFIED.values()]
    lines = ["# Laws", "", TOP.format(laws=len(built_in), functions=functions, checks="\n".join(checks))]
    for name in sorted({type(prior).__name__ for law in built_in.values() for prior in law.priors.values()}):
        lines += [f"### {name}", "", ROLES[name], ""]
    for module, heading in SECTIONS.items():
        members = [law for law in built_in.values() if section(law) == module]
        lines += [f"## {heading}", ""]
        for law in members:
            lines += block(law)
    lines += ["## Laws for trends that papers report without an equation", ""]
    lines += [f"- {trend}: {', '.join(f'`{name}`' for name in names)}" for trend, names in TRENDS.items()]
    lines += ["", "## Papers whose law is not in the catalogue", ""]
    lines += [f"- {name}: {reason}" for name, reason in NOT_LAWS.items()]
    lines += ["", "## Published constants that the catalogue leaves out", "", *(f"- {reason}" for reason in LEFT_OUT)]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    Path("docs/laws.md").write_text(markdown(), encoding="utf-8")
