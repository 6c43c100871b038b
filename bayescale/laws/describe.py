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
from bayescale.laws.published import FORMS, VERIFIED, Published
from bayescale.laws.registry import ALIASES, LAWS, papers_of
from bayescale.laws.responses import RESPONSES

SECTIONS = {
    "one_input": "One scale input",
    "joint": "Parameters with tokens, steps, compute or shape",
    "data": "Data: repetition, fine-tuning, filtering, mixtures, teachers",
    "architecture": "Architecture",
    "precision": "Precision",
    "schedule": "Schedules and best settings",
    "downstream": "Scores: tasks by scale, loss and skill",
    "trends": "Minima, maxima, sudden changes, straight lines and no trend",
    "inference": "Compute at test time",
    "posttraining": "Post-training: reinforcement learning, rewards, fine-tuning, languages",
    "data_decisions": "Decisions about data",
    "shape": "Shape at a budget, stability",
}
"""Heading of each section, by the module that registers its laws."""

TRENDS = {
    "a score by any scale input": ("logistic", "logistic_ceiling", "gompertz"),
    "a score of a task that has easy and hard items": ("difficulty_mixture",),
    "a score with a maximum or a minimum": ("inverted_u_score", "u_shaped_score", "thinking_peak"),
    "a score at a fixed budget with a best setting": ("valley", "moving_valley"),
    "pass@k, best of n, search with a verifier": ("coverage_power", "coverage_beta", "attempts_plateau"),
    "accuracy by thinking tokens, or by rounds of revision": ("thinking_logistic", "votes"),
    "a score by the number of examples or tasks of fine-tuning": (
        "instruction_data",
        "instruction_tasks",
        "finetune_mixture",
    ),
    "reinforcement learning by compute": ("scale_rl", "rl_compute", "rl_logistic"),
    "an error by model size, data and a third input": ("three_input_outer", "width_depth_resolution"),
    "a response that may not change with scale": ("signed_power", "no_trend"),
    "a sudden change": ("sharp_transition", "broken_1"),
}
"""Laws for trends that papers report without an equation, by trend."""

NOT_LAWS = {
    "Choice of single items (schaeffer2024elusive)": "needs a categorical likelihood, with the log likelihoods of all "
    "choices of each item as the response. `choice_probabilities` describes their mean.",
    "Skills behind many benchmarks (ruan2024observational, Sloth)": "is a factor model whose response is a table of "
    "models by benchmarks. `observational` treats the skill as known, without error.",
    "Several demands at once (zhou2025general)": "is a factor model of item responses in many dimensions. "
    "`demand_ability` has one demand.",
    "Linearity and breakthroughness (BIG-bench, PaLM)": "are measures of a curve, not curves. Compute them on draws of "
    "`predict`. `sharp_transition` of a score describes a breakthrough.",
    "Families from few runs (Hitchhiker's guide, the fine line)": "is advice on pooling families and sizes, not a "
    "curve: see `bs.pool`.",
    "Conformal control of test-time scaling (ATTS)": "is a procedure with a guarantee for exchangeable answers, not a "
    "curve.",
    "Metrics of test-time scaling (ARISE)": "are metrics. With `thinking_peak`, P(T < x) is the probability that more "
    "tokens decrease the score.",
    "Budgets over stages (AgentTTS)": "is a choice among products of laws. `laws.optimum.best` accepts any path.",
    "Particle methods at inference": "are algorithms. `bs.decide.compare` compares the rates of two algorithms.",
    "Accuracy at a cost (sadhukhan2025kinetics)": "needs two laws with different responses: `kinetics` for the cost "
    "and a law of coverage for the accuracy.",
    "Threshold theory of grokking": "gives bounds without constants for tasks of group arithmetic.",
    "Counter-examples (Alice in Wonderland, LIMR)": "show that a trend fails. `check` looks for this in data.",
}
"""Papers whose law is not in the catalogue, with the reason."""

LEFT_OUT = (
    "No source was found for the constants of hestness, farseer, precision, floating_point, distillation, "
    "sparse_experts, multilingual, encoder_decoder, time_series and interatomic_potential.",
    "quantised_training, 16-bit weights with an 8-bit second layer: the available copy of the table is corrupt.",
    "chinchilla, other subsets of the Gemstones runs: the paper prints exponents without amplitudes.",
    "optimal_params, untuned recipes of porian2024resolving: the paper prints exponents from .864 down to .571 without "
    "amplitudes.",
    "leverage: the best rate C^-.1529 and the best batch C^.3644 are quoted without amplitudes.",
)
"""Constants that are not in the registry, with the reason."""


def section(law: Law) -> str:
    """Return the section of the catalogue to which a law belongs."""
    return law.info.section or law.function.__module__.rsplit(".", 1)[-1]


def only(law: Law) -> str:
    """Return what a law is limited to besides its response: to scores, or to responses that are no score."""
    return {"odds": " (scores only)", "quantity": " (not for scores)"}.get(law.info.describes, "")


def aliases(law: Law) -> dict[str, str]:
    """Return the other names of a law and the citation key of each."""
    return {name: entry.cite for name, entry in ALIASES.items() if entry.law == law.name}


def input_lines(law: Law) -> dict[str, str]:
    """Return the meaning of each input of a law."""
    counting = dict(law.info.counting)
    lines = {name: INPUTS.get(name, "any one scale input" if name == "x" else "") for name in law.inputs}
    return {name: f"{text}, {counting[name]}" if name in counting else text for name, text in lines.items()}


def prior_text(prior: Any) -> str:
    """Return the kind and the numbers of a prior as text."""
    numbers = {f.name: getattr(prior, f.name) for f in dataclasses.fields(prior) if f.name != "names"}
    return f"{type(prior).__name__}({', '.join(f'{key}={value}' for key, value in numbers.items())})"


def prior_lines(law: Law) -> dict[str, tuple[str, str]]:
    """Return the prior of each constant, and its kind in words."""
    lines = {}
    for key, prior in law.priors.items():
        role = (inspect.getdoc(type(prior)) or "").splitlines()[0]
        lines |= {", ".join(law.covered[key]): (prior_text(prior), role)}
    return lines


def constants_text(source: Published) -> str:
    """Return a set of constants as one line of text."""
    return ", ".join(f"{name} = {value:.7g}" for name, value in source.constants)


def nesting_text(law: Law) -> str:
    """Return the laws to which this one reduces, and the values at which it does, as text."""
    return "; ".join(f"{other} at {', '.join(f'{k} = {v:g}' for k, v in fixed)}" for other, fixed in law.info.nests)


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
    where = f"{law.info.cite}, {law.info.equation}" if law.info.equation else law.info.cite
    lines = [f"### `{law.name}`", "", law.info.summary + (f" {law.info.caveats}" if law.info.caveats else ""), ""]
    lines.append(f"- paper: {where}; {FORMS[law.info.form]}")
    lines.append("- inputs: " + "; ".join(f"`{name}` ({text})" for name, text in input_lines(law).items()))
    lines.append(f"- response: {law.response}{only(law)}")
    if law.axes:
        lines.append(f"- discrepancy over: {', '.join(name for name, _ in law.axes)}")
    lines.append("- priors: " + "; ".join(f"{names}: `{prior}`" for names, (prior, _) in prior_lines(law).items()))
    for source in law.info.published:
        note = f"; {source.note}" if source.note else ""
        cite = f", {source.cite}" if source.cite != law.info.cite else ""
        lines.append(f"- `{source.key}` ({VERIFIED[source.verified]}{cite}{note}): {constants_text(source)}")
    if law.info.nests:
        lines.append(f"- becomes {nesting_text(law)}")
    if aliases(law):
        lines.append("- other names: " + ", ".join(f"`{name}` ({cite})" for name, cite in aliases(law).items()))
    if law.info.nicknames:
        lines.append("- search terms: " + ", ".join(law.info.nicknames))
    return [*lines, ""]


def markdown() -> str:
    """Return the text of `docs/laws.md`."""
    built_in = {name: LAWS[name] for name in BUILT_IN}
    functions = len({law.function for law in built_in.values()})
    lines = [
        "# Laws",
        "",
        f"{len(built_in)} laws with {functions} different functions, generated from the registry by "
        "`python -m bayescale.laws.describe`. `bayescale laws NAME` shows a law by name, nickname, author or title. "
        '`bs.laws.get(name)` returns a law, `bs.laws.search("muennighoff")` finds names, and '
        "`law.published(key)` is the law with the constants of a paper. Citation keys refer to `references.bib`.",
        "",
        "Constants are for raw counts as inputs and the paper's unit of the response. Each set says how it was checked:"
        " " + "; ".join(f"*{text}*" for text in VERIFIED.values()) + ".",
        "",
        "Priors describe constants for inputs divided by their geometric mean over the data. Inputs with a fixed "
        "meaning (bits, experts, fractions) are not divided. Kinds of priors:",
        "",
        *(f"- `{name}`: {role}" for name, role in sorted(roles(built_in).items())),
        "",
    ]
    for module, heading in SECTIONS.items():
        members = [law for law in built_in.values() if section(law) == module]
        lines += [f"## {heading}", ""]
        for law in members:
            lines += block(law)
    lines += ["## Laws for trends that papers report without an equation", ""]
    lines += [f"- {trend}: {', '.join(f'`{name}`' for name in names)}" for trend, names in TRENDS.items()]
    lines += ["", "## Papers whose law is not in the catalogue", ""]
    lines += [f"- {name}: {reason}" for name, reason in NOT_LAWS.items()]
    lines += ["", "## Constants left out", "", *(f"- {reason}" for reason in LEFT_OUT), ""]
    return "\n".join(lines)


def roles(laws: dict[str, Law]) -> dict[str, str]:
    """Return the first line of the docstring of each kind of prior that laws use."""
    kinds = {type(prior) for law in laws.values() for prior in law.priors.values()}
    return {kind.__name__: (inspect.getdoc(kind) or "").splitlines()[0] for kind in kinds}


if __name__ == "__main__":
    Path("docs/laws.md").write_text(markdown(), encoding="utf-8")
