"""Registry: laws by name, how they are declared, and which one suits a table."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from bayescale.checked import handing_on, known_keywords
from bayescale.errors import InputError, nearest, some, suggestion
from bayescale.laws.law import Law, LawInfo, renamed, signature_constants
from bayescale.laws.papers import Paper, matches, paper_of, words_of
from bayescale.laws.priors import Prior
from bayescale.laws.published import FORMS, Published
from bayescale.laws.responses import RESPONSES

LAWS: dict[str, Law] = {}
"""Every registered law by name, built-in ones first."""


@known_keywords
class Alias(NamedTuple):
    """Another paper's name for a law: same function, same priors, no constants of its own."""

    law: str
    cite: str
    summary: str


ALIASES: dict[str, Alias] = {}
"""Names that lead to a law of another name."""


def unit_table(units: Any) -> Any:
    """Write `units` as hashable rows (constant, ((input, power), ...)); functions stay as they are."""
    if callable(units):
        return units
    rows = (units or {}).items()
    return tuple((key, tuple(value) if isinstance(value, list) else (tuple(value),)) for key, value in rows)


@known_keywords
def register_law(
    *,
    inputs: str | tuple[str, ...],
    priors: Mapping[str, Any],
    name: str | None = None,
    units: Any = None,
    scales: Mapping[str, str] | None = None,
    decreasing: tuple[str, ...] = (),
    floor: str | None = None,
    response: str = "loss",
    equation: str = "",
    cite: str = "",
    published: Mapping[str, Any] | None = None,
    counting: Mapping[str, str] | None = None,
    form: str = "paper",
    nests: Mapping[str, Mapping[str, float]] | None = None,
    aliases: Mapping[str, str] | None = None,
    nicknames: tuple[str, ...] = (),
    axes: Mapping[str, Callable[..., Any]] | None = None,
    describes: str = "loss",
) -> Callable[[Callable[..., Any]], Law]:
    """Turn a plain function into a law and enter it in `LAWS`.

    The first paragraph of the function's docstring is the summary of `Law.info`, the rest its caveats.

    Args:
        inputs: Names of the scale inputs, in the order of the function's arguments.
        priors: Prior by constant, or by any label for priors that cover several constants.
        name: Name in the registry; the function's own by default.
        units: Which power of which input a constant carries, e.g. `{"A": ("n_params", "alpha")}` when A
            multiplies n_params**-alpha; powers are names of constants ("-alpha" for the inverse) or numbers.
            Where that is not enough, a function of constants and references returns those that change.
        scales: Inputs that a fit does not divide by their own geometric mean but by that of another input,
            `{"unique_tokens": "n_tokens"}`, or not at all, `{"n_experts": ""}`.
        decreasing: Inputs in which the law falls (a claim that tests check).
        floor: Constant that the law approaches as all inputs grow.
        response: What the law describes.
        equation: Where the source has the equation.
        cite: Key in `references.bib`.
        published: Constants in the paper's units: `paper(...)`, `refit(...)`, `secondary(...)` or a plain mapping.
        counting: How the paper counts an input, e.g. `{"n_params": "without embeddings"}`.
        form: How the equation was checked: "paper", "secondary", "recalled" or "ours".
        nests: Laws that this one becomes, with the constants or inputs at which it does.
        aliases: Other names, with the citation key of each.
        nicknames: What people call the law, its paper or its models; `bayescale.laws.search` finds it by them.
        axes: Positive quantities in whose logarithms a discrepancy runs instead of those of the inputs, by name, each a
            function of what the law takes. For inputs that are labels, or when something else tells where the law
            may be wrong: `{"size": lambda recipe, N: N}`.
        describes: What the law's value is: "loss" for whatever falls, of a score the odds against being right; "odds"
            for those odds only; "quantity" for another positive response.

    Raises:
        InputError: If constants and priors do not match.

    Example:
        >>> import bayescale as bs
        >>> @bs.register_law(inputs="flops", priors={"A": bs.Level(), "c": bs.Exponent(0.05)})
        ... def compute_power(C, *, A, c):
        ...     return A * C**-c
        >>> bs.laws.get("compute_power").constants
        ('A', 'c')
    """
    names = (inputs,) if isinstance(inputs, str) else tuple(inputs)

    def declare(function: Callable[..., Any]) -> Law:
        label = name or function.__name__
        check_declaration(label, function, names, priors, form, describes)
        summary, _, caveats = inspect.cleandoc(function.__doc__ or "").partition("\n\n")
        law = Law(
            function=function,
            name=label,
            inputs=names,
            priors=dict(priors),
            units=unit_table(units),
            scales=tuple((scales or {}).items()),
            decreasing=tuple(decreasing),
            floor=floor,
            response=response,
            axes=tuple((axes or {}).items()),
            info=LawInfo(
                summary=" ".join(summary.split()),
                caveats=" ".join(caveats.split()),
                cite=cite,
                equation=equation,
                form=form,
                published=entered(published, cite),
                counting=tuple((counting or {}).items()),
                nests=tuple((other, tuple(fixed.items())) for other, fixed in (nests or {}).items()),
                nicknames=tuple(nicknames),
                describes=describes,
            ),
        )
        LAWS[label] = law
        for other, source in (aliases or {}).items():
            alias(other, label, source)
        return law

    return declare


def check_declaration(
    label: str,
    function: Callable[..., Any],
    names: tuple[str, ...],
    priors: Mapping[str, Any],
    form: str,
    describes: str,
) -> None:
    """Refuse a law whose function, inputs and priors do not fit together."""
    covered = [c for key, prior in priors.items() for c in (prior.names or (key,))]
    constants = signature_constants(function)
    positional = len(inspect.signature(function).parameters) - len(constants)
    if positional != len(names):
        raise InputError(
            f"{label} takes {positional} positional arguments but declares inputs {names}; write one "
            "positional argument for each input and the constants after a '*'."
        )
    if sorted(covered) != sorted(constants):
        raise InputError(
            f"{label}: each constant needs exactly one prior. Constants: {sorted(constants)}; "
            f"covered by priors: {sorted(covered)}."
        )
    if form not in FORMS:
        raise InputError(f"{label}: there is no form {form!r}. {nearest(form, FORMS)}")
    if describes not in RESPONSES:
        raise InputError(f"{label}: describes= is no response {describes!r}. {nearest(describes, RESPONSES)}")


def entered(published: Mapping[str, Any] | None, cite: str) -> tuple[Published, ...]:
    """Enter sets of constants under their keys; a plain mapping counts as read in the paper."""
    return tuple(
        (values if isinstance(values, Published) else Published("", "", tuple(values.items()))).entered(key, cite)
        for key, values in (published or {}).items()
    )


@handing_on(Law.__dataclass_fields__)
def variant(
    base: str,
    *,
    name: str,
    summary: str,
    cite: str,
    caveats: str = "",
    equation: str = "",
    form: str = "paper",
    inputs: tuple[str, ...] | None = None,
    priors: Mapping[str, Prior] | None = None,
    published: Mapping[str, Any] | None = None,
    counting: Mapping[str, str] | None = None,
    nicknames: tuple[str, ...] = (),
    section: str | None = None,
    describes: str | None = None,
    **changes: Any,
) -> Law:
    """Enter a law that shares the function of another: its own inputs, priors, source and constants.

    Args:
        base: Name of the law whose function it shares.
        name: Its own name.
        summary: What it is, in one sentence.
        cite: Key in `references.bib`.
        caveats: What to beware of.
        equation: See `register_law`.
        form: See `register_law`.
        inputs: Its inputs in the order of the base's.
        priors: Priors that differ, see `Law.with_priors`.
        published: See `register_law`.
        counting: See `register_law`.
        nicknames: See `register_law`.
        section: Section of the catalogue; that of the base by default.
        describes: See `register_law`; as the base by default.
        **changes: Other fields of `Law` that differ, e.g. `response`.
    """
    law = renamed(get(base), inputs or LAWS[base].inputs).with_priors(priors or {})
    info = LawInfo(
        summary=summary,
        caveats=caveats,
        cite=cite,
        equation=equation,
        form=form,
        published=entered(published, cite),
        counting=tuple((counting or {}).items()),
        nicknames=nicknames,
        section=law.info.section if section is None else section,
        describes=law.info.describes if describes is None else describes,
    )
    law = dataclasses.replace(law, name=name, info=info, **changes)
    LAWS[name] = law
    return law


@known_keywords
def alias(name: str, law: str, cite: str, summary: str = "") -> None:
    """Add the name that another paper gives a law."""
    ALIASES[name] = Alias(law, cite, summary or LAWS[law].info.summary)


@known_keywords
def get(law: str | Law) -> Law:
    """Return a law by name or alias (a law passes through).

    Raises:
        InputError: For an unknown name, with the nearest known one.
    """
    if isinstance(law, Law):
        return law
    if not isinstance(law, str):
        raise InputError(f"law must be a Law or the name of one, e.g. 'auto'; found {type(law).__name__}.")
    name = ALIASES[law].law if law in ALIASES else law
    if name not in LAWS:
        listed = f"bayescale laws (bs.LAWS) lists the {len(LAWS)} laws."
        raise InputError(f"There is no law {law!r}. {meant(law)}{listed}")
    return LAWS[name]


def papers_of(law: Law) -> list[Paper]:
    """Return the papers of a law: its own, those of its constants, and those of its other names."""
    cites = [law.info.cite, *(source.cite for source in law.info.published)]
    cites += [entry.cite for entry in ALIASES.values() if entry.law == law.name]
    return [paper for cite in dict.fromkeys(cites) if (paper := paper_of(cite)) is not None]


@known_keywords
def search(text: str) -> tuple[str, ...]:
    """Return the names of laws by name, nickname, author, year or title of the paper.

    Args:
        text: One or several words, e.g. "muennighoff", "hoffmann 2022" or "data mixing"; case, accents and
            punctuation do not matter. All words must match.

    Returns:
        Names in the order of the registry. Laws that match by name, nickname, first author or year come alone; only
        where there are none, those whose paper has such a co-author or title.

    Raises:
        InputError: For a text without a letter or digit.

    Example:
        >>> import bayescale as bs
        >>> bs.laws.search("muennighoff")
        ('data_constrained',)
    """
    wanted = words_of(text) if isinstance(text, str) else ()
    if not wanted:
        raise InputError(f"A search needs a name, author or nickname, e.g. 'muennighoff'; found {text!r}.")
    close, wide = [], []
    for name, law in LAWS.items():
        papers = papers_of(law)
        own = [name, *law.info.nicknames, *(other for other, entry in ALIASES.items() if entry.law == name)]
        cited = [f"{word} {paper.year}" for paper in papers for word in paper.authors[:1]]
        if matches(wanted, [*own, *cited, law.info.cite]):
            close.append(name)
        elif matches(wanted, [f"{' '.join(paper.authors)} {paper.year} {paper.title}" for paper in papers]):
            wide.append(name)
    return tuple(close or wide)


def meant(text: str) -> str:
    """Return a sentence, and a space, about the laws that a wrong name may mean; empty where there is none."""
    found = search(text) if words_of(text) else ()
    by = [paper for name in found for paper in papers_of(LAWS[name]) if matches(words_of(text), paper.authors[:1])]
    # Of a nickname, the one paper of all the laws that have it.
    labels = {paper.label for paper in by or [paper_of(LAWS[name].info.cite) for name in found] if paper is not None}
    near = suggestion(text, [*LAWS, *ALIASES])
    if not found or (near and not by and not has_nickname(text, found)):
        return near
    names = some([repr(name) for name in found])
    return f"{labels.pop()} is {names}. " if len(labels) == 1 else f"Laws that are called so: {names}. "


def has_nickname(text: str, names: Sequence[str]) -> bool:
    """Return whether one of the laws has this nickname, up to case and punctuation."""
    return any("".join(words_of(text)) == "".join(words_of(one)) for name in names for one in LAWS[name].info.nicknames)


@known_keywords
def automatic(inputs: tuple[str, ...]) -> Law:
    """Return the default law for some inputs, whatever they are called.

    One input: a power law, in half of the draws with a floor and below a plateau (see `priors.Plateaus`). Two or
    three: one power law each under an outer power, with a floor.

    Raises:
        InputError: For more than three inputs, where no default has been shown to work.
    """
    defaults = {1: "plateau_power", 2: "chinchilla_outer", 3: "three_input_outer"}
    if len(inputs) not in defaults:
        raise InputError(
            f"law='auto' covers one to three inputs, found {len(inputs)}. Choose some with inputs= (--input), name a "
            "law (--law), or write one."
        )
    return renamed(LAWS[defaults[len(inputs)]], tuple(inputs))
