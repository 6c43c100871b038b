"""Registry: laws by name, their declaration, and the default law for a table."""

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
    """Another name for a law, from another paper: same function and same priors, without constants of its own."""

    law: str
    cite: str
    summary: str


ALIASES: dict[str, Alias] = {}
"""Names that refer to a law with another name."""


def unit_table(units: Any) -> Any:
    """Return `units` as hashable rows (constant, ((input, power), ...)); a function is returned unchanged."""
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
    """Convert a plain function to a law and enter it in `LAWS`.

    The first paragraph of the function's docstring is the summary in `Law.info`; the other paragraphs are its caveats.

    Args:
        inputs: Names of the scale inputs, in the order of the function's arguments.
        priors: Prior of each constant, by its name; a prior that covers several constants may have any key.
        name: Name in the registry; by default that of the function.
        units: Powers of inputs in the unit of a constant, e.g. `{"A": ("n_params", "alpha")}` if A multiplies
            n_params**-alpha. Powers are names of constants ("-alpha" for the inverse) or numbers. More complicated
            conversions are a function of constants and references that returns the constants that change.
        scales: Inputs that a fit does not divide by their own geometric mean. They are divided by that of another
            input, `{"unique_tokens": "n_tokens"}`, or not at all, `{"n_experts": ""}`.
        decreasing: Inputs in which the law decreases (tests check this).
        floor: Constant that the law approaches as all inputs grow.
        response: Name of what the law describes.
        equation: Location of the equation in the paper.
        cite: Key in `references.bib`.
        published: Constants in the paper's units: `paper(...)`, `refit(...)`, `secondary(...)` or a plain mapping.
        counting: How the paper counts an input, e.g. `{"n_params": "without embeddings"}`.
        form: How the equation was checked: "paper", "secondary", "recalled" or "ours".
        nests: Laws to which this one reduces, with the values of constants or inputs at which it does.
        aliases: Other names, with the citation key of each.
        nicknames: Other names of the law, its paper or its models, by which `bayescale.laws.search` finds it.
        axes: Positive quantities, by name, as functions of the law's inputs; the discrepancy varies along their
            logarithms instead of those of the inputs. Useful for inputs that are labels, or if the law may be wrong
            along other quantities: `{"size": lambda recipe, N: N}`.
        describes: Meaning of the law's value: "loss" for a response that decreases, or for a score its odds against a
            right answer; "odds" for these odds only; "quantity" for another positive response.

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
    """Refuse a law whose function, inputs and priors contradict each other."""
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
        raise InputError(f"{label}: describes={describes!r} is not a known response. {nearest(describes, RESPONSES)}")


def entered(published: Mapping[str, Any] | None, cite: str) -> tuple[Published, ...]:
    """Return sets of constants with their keys; a plain mapping counts as read in the paper."""
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
    """Add a law with the function of another one, but its own inputs, priors, paper and constants.

    Args:
        base: Name of the law with the function.
        name: Name of the new law.
        summary: Description in one sentence.
        cite: Key in `references.bib`.
        caveats: Limitations of the law.
        equation: See `register_law`.
        form: See `register_law`.
        inputs: Its inputs, in the order of those of the base.
        priors: Priors that differ, see `Law.with_priors`.
        published: See `register_law`.
        counting: See `register_law`.
        nicknames: See `register_law`.
        section: Section of the catalogue; by default that of the base.
        describes: See `register_law`; by default as for the base.
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
    """Add a name under which another paper describes a law."""
    ALIASES[name] = Alias(law, cite, summary or LAWS[law].info.summary)


@known_keywords
def get(law: str | Law) -> Law:
    """Return a law by name or alias; a `Law` is returned unchanged.

    Raises:
        InputError: For an unknown name, with the most similar one.
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
    """Return the names of laws found by name, nickname, or author, year or title of the paper.

    Args:
        text: One or several words, e.g. "muennighoff", "hoffmann 2022" or "data mixing". Case, accents and punctuation
            are ignored. All words must match.

    Returns:
        Names in the order of the registry: laws that match by name, nickname, first author or year. If there are none,
        laws whose paper matches by co-author or title.

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
    """Return a sentence about the laws that a wrong name may mean, followed by a space; empty if there are none."""
    found = search(text) if words_of(text) else ()
    by = [paper for name in found for paper in papers_of(LAWS[name]) if matches(words_of(text), paper.authors[:1])]
    # A nickname may belong to several laws; here the paper that all of them share is found.
    labels = {paper.label for paper in by or [paper_of(LAWS[name].info.cite) for name in found] if paper is not None}
    near = suggestion(text, [*LAWS, *ALIASES])
    if not found or (near and not by and not has_nickname(text, found)):
        return near
    names = some([repr(name) for name in found])
    return f"{labels.pop()} is {names}. " if len(labels) == 1 else f"Laws with this name: {names}. "


def has_nickname(text: str, names: Sequence[str]) -> bool:
    """Return whether one of the laws has this nickname, up to case and punctuation."""
    return any("".join(words_of(text)) == "".join(words_of(one)) for name in names for one in LAWS[name].info.nicknames)


@known_keywords
def automatic(inputs: tuple[str, ...]) -> Law:
    """Return the default law for some inputs, whatever their names.

    For one input it is a power law, in half of the draws with a floor and below a plateau (see `priors.Plateaus`). For
    two or three inputs it is a sum of power laws, one for each input, raised to an outer power, with a floor. For a
    learning rate, alone or with parameters, it is a law with a best rate.

    Raises:
        InputError: For more than three inputs, for which no default has been tested.
    """
    if "lr" in inputs and set(inputs) <= {"lr", "n_params"}:
        return LAWS["rate_valley"] if len(inputs) > 1 else renamed(LAWS["valley"], ("lr",))
    defaults = {1: "plateau_power", 2: "chinchilla_outer", 3: "three_input_outer"}
    if len(inputs) not in defaults:
        raise InputError(
            f"law='auto' covers one to three inputs, found {len(inputs)}. Choose some with inputs= (--input), name a "
            "law (--law), or write one."
        )
    return renamed(LAWS[defaults[len(inputs)]], tuple(inputs))
