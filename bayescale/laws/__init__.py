"""Laws: mean curves of scaling laws, each one declaration, and the registry that collects them."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from bayescale.errors import InputError, nearest
from bayescale.laws.published import FORMS, Published, PublishedLaw
from bayescale.priors import LEVELS, Exponent, Fall, Level, Plateaus, Prior, Shares
from bayescale.programs import on_cores
from bayescale.records import record, static

LAWS: dict[str, Law] = {}
"""Every registered law by name, built-in ones first."""


class Alias(NamedTuple):
    """Another paper's name for a law: same curve, same priors, no constants of its own."""

    law: str
    cite: str
    says: str


ALIASES: dict[str, Alias] = {}
"""Names that lead to a law of another name."""


@record
class Law:
    """The mean curve of a scaling law: a plain function, its constants with priors, its source.

    The curve takes scalars, inputs first and constants by name, and reads like the paper's equation.
    During a fit the inputs are divided by the geometric mean of the data, so an amplitude is the value of
    its term where the data can see it; `at_unit_scale` returns the paper's own constants. Inputs that mean
    something as they are (bits, experts) are exempt: see `scales`.
    """

    curve: Callable[..., Any] = static()
    name: str = static()
    inputs: tuple[str, ...] = static()
    priors: dict[str, Any]
    rescale: tuple[Any, ...] | None = None
    """What turns each input of a fit, x / reference, into what the curve takes; None if that is x / reference."""
    units: Any = static(default=())
    scales: tuple[tuple[str, str], ...] = static(default=())
    decreasing: tuple[str, ...] = static(default=())
    floor: str | None = static(default=None)
    response: str = static(default="loss")
    equation: str = static(default="")
    cite: str = static(default="")
    sources: tuple[Published, ...] = static(default=())
    says: str = static(default="")
    caveats: str = static(default="")
    counting: tuple[tuple[str, str], ...] = static(default=())
    form: str = static(default="paper")
    nests: tuple[tuple[str, tuple[tuple[str, float], ...]], ...] = static(default=())
    home: str = static(default="")
    """Section of the catalogue; by default the module of the curve."""
    axes: tuple[tuple[str, Callable[..., Any]], ...] = static(default=())
    """What a drift runs over, by name, as functions of the curve's inputs; the inputs themselves if there are none."""

    def __call__(self, *inputs: Any, **constants: Any) -> Any:
        """Evaluate the curve at raw inputs with the given constants, in double precision."""
        with on_cores():
            value = self.curve(*inputs, **constants)
        return value if isinstance(value, jax.core.Tracer) else np.asarray(value)[()]

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of the constants in the order of the function's signature."""
        return tuple(signature_constants(self.curve))

    @property
    def covered(self) -> dict[str, tuple[str, ...]]:
        """Which constants each prior covers, by the prior's key."""
        return {key: prior.names or (key,) for key, prior in self.priors.items()}

    @property
    def level(self) -> tuple[str, Level | Shares | Plateaus] | None:
        """Key and prior that scale the whole law, or None when its constants are absolute."""
        for key, prior in self.priors.items():
            if isinstance(prior, LEVELS):
                return key, prior
        return None

    def with_priors(self, priors: Mapping[str, Prior]) -> Law:
        """Replace priors one by one.

        Args:
            priors: By the key in the declaration, or by the name of an exponent that a `Fall` covers.

        Raises:
            InputError: For a name that the law does not have, or a share that cannot stand alone.
        """
        new = dict(self.priors)
        for name, prior in priors.items():
            holder = next((k for k, names in self.covered.items() if name in (k, *names)), None)
            if holder is None:
                known = [*self.priors, *self.constants]
                raise InputError(f"{self.name} has no prior {name!r}. {nearest(name, known)}")
            joint = new[holder]
            if name == holder:
                # Numbers may change freely; who is covered stays as the law declares it.
                new[name] = dataclasses.replace(prior, names=joint.names)
            elif isinstance(joint, Fall):
                rest = tuple(n for n in joint.names if n != name)
                new[name] = prior
                if rest:
                    new[holder] = Fall(rest, joint.median, joint.sd)
                else:
                    del new[holder]
            else:
                raise InputError(
                    f"{name!r} is one share of {joint.names} and has no prior of its own; pass "
                    f"priors={{{holder!r}: Shares(names, floor_mean=..., floor_sd=...)}} instead, or write a law "
                    "whose constants have absolute priors."
                )
        return dataclasses.replace(self, priors=new)

    def at_unit_scale(self, params: Mapping[str, Any], ref: Mapping[str, Any]) -> dict[str, Any]:
        """Return the paper's constants from constants at a reference scale.

        Args:
            params: Constants for inputs divided by `ref`; scalars or arrays of one shape.
            ref: Reference value of each input, in raw counts.

        Raises:
            InputError: If the law does not declare how its constants scale (`units`).

        Example:
            >>> import bayescale as bs
            >>> law = bs.laws.get("chinchilla")
            >>> scaled = dict(E=1.8, A=0.5, alpha=0.5, B=0.4, beta=0.5)
            >>> law.at_unit_scale(scaled, {"n_params": 1e8, "n_tokens": 1e10})["A"]
            5000.0
        """
        if not self.units and any(isinstance(p, (*LEVELS, Fall)) for p in self.priors.values()):
            raise InputError(
                f"{self.name} does not say how its constants scale with the inputs; declare "
                'units={"A": ("n_params", "alpha")} if A multiplies n_params**-alpha.'
            )
        # A far tail of exponents may exceed what floats hold; the draw is then infinite, not an error.
        with np.errstate(over="ignore"):
            if callable(self.units):
                return {**params, **self.units(params, ref)}
            result = dict(params)
            for name, factors in self.units:
                for source, power in factors:
                    result[name] = result[name] * ref[source] ** named_power(power, params)
        return result

    @property
    def exempt(self) -> tuple[str, ...]:
        """Inputs that mean something as they are."""
        return tuple(name for name, source in self.scales if not source)

    def divisors(self, ref: Mapping[str, Any]) -> dict[str, Any]:
        """What each input is divided by in a fit whose geometric means are `ref`."""
        shared = dict(self.scales)
        return {name: ref[source] if (source := shared.get(name, name)) else 1.0 for name in self.inputs}

    def referred(self, reference: Any) -> Law:
        """Tell a law at which raw inputs its constants hold, shape (input,); most laws need not know."""
        if not self.scales:
            return self
        ref = {name: float(value) for name, value in zip(self.inputs, reference, strict=True)}
        divisors = self.divisors(ref)
        return dataclasses.replace(self, rescale=tuple(ref[name] / divisors[name] for name in self.inputs))

    def arguments(self, x: Any) -> list[Any]:
        """Arguments of the curve from x / reference, shape (input,)."""
        scaled = [x[i] for i in range(len(self.inputs))]
        return scaled if self.rescale is None else [a * b for a, b in zip(scaled, self.rescale, strict=True)]

    def coordinates(self, z: Any) -> np.ndarray:
        """Logarithms of what a drift runs over, shape (row, axis), at z = ln(x / reference), shape (row, input)."""
        if not self.axes:
            return np.asarray(z)
        with on_cores():
            x = self.arguments(np.exp(np.asarray(z, float)).T)
            return np.log(np.stack([np.asarray(jax.vmap(axis)(*x)) for _, axis in self.axes], axis=1))

    def published(self, key: str | None = None) -> PublishedLaw:
        """Return the law with constants printed in a paper; it predicts like a posterior.

        Args:
            key: Which set of constants; may be left out when there is only one.

        Raises:
            InputError: For an unknown key; the known ones are listed.

        Example:
            >>> import bayescale as bs
            >>> chinchilla = bs.laws.get("chinchilla").published("besiroglu2024")
            >>> round(float(chinchilla.predict(n_params=70e9, n_tokens=1.4e12).mean[0]), 3)
            1.973
        """
        known = {source.key: source for source in self.sources}
        if key is None and len(known) == 1:
            (key,) = known
        if key not in known:
            if not known:
                raise InputError(f"No verified published constants are known for {self.name}.")
            raise InputError(f"{self.name} has no published set {key!r}. {nearest(str(key), known)}")
        return PublishedLaw(self, known[key])


def signature_constants(curve: Callable[..., Any]) -> list[str]:
    """Names of the keyword-only parameters of a curve."""
    parameters = inspect.signature(curve).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]


def named_power(power: str | float, params: Mapping[str, Any]) -> Any:
    """Read a power in `units`: a number, the name of an exponent, or its name after a minus sign."""
    if not isinstance(power, str):
        return power
    return -params[power[1:]] if power.startswith("-") else params[power]


def unit_table(units: Any) -> Any:
    """Write `units` as hashable rows (constant, ((input, power), ...)); functions stay as they are."""
    if callable(units):
        return units
    rows = (units or {}).items()
    return tuple((key, tuple(value) if isinstance(value, list) else (tuple(value),)) for key, value in rows)


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
    axes: Mapping[str, Callable[..., Any]] | None = None,
) -> Callable[[Callable[..., Any]], Law]:
    """Turn a plain function into a law and enter it in `LAWS`.

    The first line of the function's docstring says what the law is, the rest what to beware of.

    Args:
        inputs: Names of the scale inputs, in the order of the function's arguments.
        priors: Prior by constant, or by any label for priors that cover several constants.
        name: Name in the registry; the function's own by default.
        units: Which power of which input a constant carries, e.g. `{"A": ("n_params", "alpha")}` when A
            multiplies n_params**-alpha; powers are names of constants ("-alpha" for the inverse) or numbers.
            Where that is not enough, a function of constants and references returns those that change.
        scales: Inputs that a fit does not divide by their own geometric mean but by that of another input,
            `{"unique_tokens": "n_tokens"}`, or not at all, `{"n_experts": ""}`.
        decreasing: Inputs in which the curve falls (a claim that tests check).
        floor: Constant that the curve approaches as all inputs grow.
        response: What the curve describes.
        equation: Where the equation stands in the source.
        cite: Key in `references.bib`.
        published: Constants in the paper's units: `paper(...)`, `refit(...)`, `secondary(...)` or a plain mapping.
        counting: How the paper counts an input, e.g. `{"n_params": "without embeddings"}`.
        form: How the equation was checked, a key of `FORMS`.
        nests: Laws that this one becomes, with the constants or inputs at which it does.
        aliases: Other names, with the citation key of each.
        axes: Positive quantities in whose logarithms a drift runs instead of those of the inputs, by name, each a
            function of what the curve takes. For inputs that are labels, or when something else tells where the law
            may be wrong: `{"size": lambda recipe, N: N}`.

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

    def declare(curve: Callable[..., Any]) -> Law:
        label = name or curve.__name__
        check_declaration(label, curve, names, priors, form)
        says, _, caveats = inspect.cleandoc(curve.__doc__ or "").partition("\n\n")
        law = Law(
            curve=curve,
            name=label,
            inputs=names,
            priors=dict(priors),
            units=unit_table(units),
            scales=tuple((scales or {}).items()),
            decreasing=tuple(decreasing),
            floor=floor,
            response=response,
            equation=equation,
            cite=cite,
            sources=entered(published, cite),
            says=" ".join(says.split()),
            caveats=" ".join(caveats.split()),
            counting=tuple((counting or {}).items()),
            form=form,
            nests=tuple((other, tuple(fixed.items())) for other, fixed in (nests or {}).items()),
            axes=tuple((axes or {}).items()),
        )
        LAWS[label] = law
        for other, source in (aliases or {}).items():
            alias(other, label, source)
        return law

    return declare


def check_declaration(
    label: str, curve: Callable[..., Any], names: tuple[str, ...], priors: Mapping[str, Any], form: str
) -> None:
    """Refuse a law whose function, inputs and priors do not fit together."""
    covered = [c for key, prior in priors.items() for c in (prior.names or (key,))]
    constants = signature_constants(curve)
    positional = len(inspect.signature(curve).parameters) - len(constants)
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


def entered(published: Mapping[str, Any] | None, cite: str) -> tuple[Published, ...]:
    """Enter sets of constants under their keys; a plain mapping counts as read in the paper."""
    return tuple(
        (values if isinstance(values, Published) else Published("", "", tuple(values.items()))).entered(key, cite)
        for key, values in (published or {}).items()
    )


def variant(
    base: str,
    *,
    name: str,
    says: str,
    cite: str,
    caveats: str = "",
    equation: str = "",
    form: str = "paper",
    inputs: tuple[str, ...] | None = None,
    priors: Mapping[str, Prior] | None = None,
    published: Mapping[str, Any] | None = None,
    counting: Mapping[str, str] | None = None,
    **changes: Any,
) -> Law:
    """Enter a law that shares the curve of another: its own inputs, priors, source and constants.

    Args:
        base: Name of the law whose curve it shares.
        name: Its own name.
        says: What it is, in one line.
        cite: Key in `references.bib`.
        caveats: What to beware of.
        equation: See `register_law`.
        form: See `register_law`.
        inputs: Its inputs in the order of the base's.
        priors: Priors that differ, see `Law.with_priors`.
        published: See `register_law`.
        counting: See `register_law`.
        **changes: Other fields of `Law` that differ, e.g. `response`.
    """
    law = renamed(LAWS[base], inputs or LAWS[base].inputs).with_priors(priors or {})
    law = dataclasses.replace(
        law,
        name=name,
        says=says,
        cite=cite,
        caveats=caveats,
        equation=equation,
        form=form,
        sources=entered(published, cite),
        counting=tuple((counting or {}).items()),
        nests=(),
        **changes,
    )
    LAWS[name] = law
    return law


def renamed(law: Law, inputs: tuple[str, ...]) -> Law:
    """Give the inputs of a law other names, everywhere they occur."""
    new = dict(zip(law.inputs, inputs, strict=True))
    units = law.units
    if not callable(units):
        units = tuple((name, tuple((new[source], power) for source, power in rows)) for name, rows in units)
    return dataclasses.replace(
        law,
        inputs=inputs,
        units=units,
        scales=tuple((new[name], new.get(source, source)) for name, source in law.scales),
        decreasing=tuple(new[name] for name in law.decreasing),
        counting=tuple((new[name], text) for name, text in law.counting if name in new),
    )


def alias(name: str, law: str, cite: str, says: str = "") -> None:
    """Let `get` find a law under the name that another paper gives it."""
    ALIASES[name] = Alias(law, cite, says or LAWS[law].says)


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
        raise InputError(f"There is no law {law!r}. {nearest(str(law), [*LAWS, *ALIASES])}")
    return LAWS[name]


def automatic(inputs: tuple[str, ...]) -> Law:
    """Return the default law for some inputs, whatever they are called.

    One input: a power law with a floor, in half of the draws below a plateau (see `priors.Plateaus`). Two or three: one
    power law each under an outer power, with a floor.

    Raises:
        InputError: For more than three inputs, where no default has been shown to work.
    """
    defaults = {1: "plateau_power", 2: "chinchilla_outer", 3: "three_input_outer"}
    if len(inputs) not in defaults:
        raise InputError(
            f"law='auto' covers one to three inputs, found {len(inputs)}. Choose inputs=..., name a law or write one."
        )
    return renamed(LAWS[defaults[len(inputs)]], tuple(inputs))


def bind(law: Law, inputs: tuple[str, ...]) -> Law:
    """Tie a law to the columns of some runs; the placeholder input "x" takes their only input.

    Raises:
        InputError: If the runs lack an input, or have several for a law of one.
    """
    if law.inputs == ("x",):
        if len(inputs) != 1:
            raise InputError(
                f"{law.name} has one input and the runs have {len(inputs)} ({', '.join(inputs)}); choose one with "
                "Runs.from_frame(..., inputs=('n_params',)) or --input n_params."
            )
        return renamed(law, tuple(inputs))
    missing = [name for name in law.inputs if name not in inputs]
    if missing:
        raise InputError(
            f"{law.name} needs {', '.join(law.inputs)}; the runs have {', '.join(inputs)}. Choose inputs={law.inputs} "
            f"(--input), with columns={{{missing[0]!r}: 'your_column'}} where yours has another name, or another law."
        )
    return law


def without_span(law: Law, inert: tuple[bool, ...]) -> Law:
    """Give exponents of inputs that never varied a prior per unit of ln x; the data cannot span it."""
    lost = {
        name: Exponent()
        for prior in law.priors.values()
        if isinstance(prior, Fall)
        for name, flag in zip(prior.names, inert, strict=False)
        if flag
    }
    return law.with_priors(lost)


# Laws of other files share curves of the first two.
from bayescale.laws import loss as loss  # isort: skip
from bayescale.laws import joint as joint  # isort: skip
from bayescale.laws import architecture as architecture
from bayescale.laws import data as data
from bayescale.laws import optimum as optimum
from bayescale.laws import precision as precision
from bayescale.laws import schedule as schedule

BUILT_IN = tuple(LAWS)
"""Names of the laws that come with the package."""
