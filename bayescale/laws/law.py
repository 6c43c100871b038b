"""Law: the mathematics of a scaling law with its priors, and LawInfo: its documentation."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from bayescale._jax import on_cores
from bayescale._record import record, static
from bayescale.checked import known_keywords
from bayescale.errors import InputError, nearest
from bayescale.laws.priors import LEVELS, Exponent, Fall, Level, Plateaus, Prior, Shares
from bayescale.laws.published import Published, PublishedLaw

if TYPE_CHECKING:
    from jaxtyping import Float


@known_keywords
@dataclasses.dataclass(frozen=True)
class LawInfo:
    """Documentation of a law; it does not affect fits."""

    summary: str = ""
    """Description of the law in one sentence."""
    caveats: str = ""
    """Limitations of the law."""
    cite: str = ""
    """Key in `references.bib`."""
    equation: str = ""
    """Location of the equation in the paper."""
    form: str = "paper"
    """How the equation was checked, a key of `published.FORMS`."""
    published: tuple[Published, ...] = ()
    """Printed sets of constants, each with how it was checked."""
    counting: tuple[tuple[str, str], ...] = ()
    """How the paper counts an input, by name of the input."""
    nests: tuple[tuple[str, tuple[tuple[str, float], ...]], ...] = ()
    """Laws to which this one reduces, with the values of constants or inputs at which it does."""
    nicknames: tuple[str, ...] = ()
    """Other names of the law, its paper or its models, for `bayescale.laws.search`."""
    section: str = ""
    """Section of the catalogue; by default the module of the law's function."""
    describes: str = "loss"
    """Meaning of the law's value, a key of `responses.RESPONSES`; runs with another kind of response are refused."""


@known_keywords
@record
class Law:
    """The mean function of a scaling law with the priors of its constants.

    The function takes scalars, inputs first and constants by name, and is written like the paper's equation. During a
    fit the inputs are divided by their geometric mean over the data, so an amplitude is the value of its term within
    the data; `at_unit_scale` returns the paper's own constants. Inputs whose raw value has a meaning (bits, experts)
    are not divided: see `scales`.
    """

    function: Callable[..., Any] = static()
    name: str = static()
    inputs: tuple[str, ...] = static()
    priors: dict[str, Any]
    rescale: tuple[Any, ...] | None = None
    """Function from x / reference to each argument of the law; None if that is x / reference itself."""
    units: Any = static(default=())
    scales: tuple[tuple[str, str], ...] = static(default=())
    decreasing: tuple[str, ...] = static(default=())
    floor: str | None = static(default=None)
    response: str = static(default="loss")
    axes: tuple[tuple[str, Callable[..., Any]], ...] = static(default=())
    """Axes of the discrepancy by name, as functions of the law's inputs; if empty, the inputs themselves."""
    info: LawInfo = static(default=LawInfo())

    def __call__(self, *inputs: Any, **constants: Any) -> Any:
        """Evaluate the law at raw inputs with the given constants, in double precision."""
        with on_cores():
            value = self.function(*inputs, **constants)
        return value if isinstance(value, jax.core.Tracer) else np.asarray(value)[()]

    @property
    def constants(self) -> tuple[str, ...]:
        """Return the names of the constants in the order of the function's signature."""
        return tuple(signature_constants(self.function))

    @property
    def covered(self) -> dict[str, tuple[str, ...]]:
        """Return the constants covered by each prior, by the prior's key."""
        return {key: prior.names or (key,) for key, prior in self.priors.items()}

    @property
    def level(self) -> tuple[str, Level | Shares | Plateaus] | None:
        """Return the key and the prior of the level, which scales the whole law, or None for a law without a level."""
        for key, prior in self.priors.items():
            if isinstance(prior, LEVELS):
                return key, prior
        return None

    def with_priors(self, priors: Mapping[str, Prior]) -> Law:
        """Return the law with some priors replaced.

        Args:
            priors: By the key in the law's declaration, or by the name of an exponent that a `Fall` covers.

        Raises:
            InputError: For an unknown name, or the name of a fraction in `Shares`, which has no separate prior.
        """
        new = dict(self.priors)
        for name, prior in priors.items():
            holder = next((k for k, names in self.covered.items() if name in (k, *names)), None)
            if holder is None:
                known = [*self.priors, *self.constants]
                raise InputError(f"{self.name} has no prior {name!r}. {nearest(name, known)}")
            joint = new[holder]
            if name == holder:
                # The numbers of a prior may change, but not the constants that it covers.
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
                f"{self.name} does not declare how its constants depend on the units of the inputs. Declare "
                'units={"A": ("n_params", "alpha")} if A multiplies n_params**-alpha.'
            )
        # For extreme exponents the result may overflow; the draw is then infinite or nan instead of an error.
        with np.errstate(over="ignore", invalid="ignore"):
            if callable(self.units):
                return {**params, **self.units(params, ref)}
            result = dict(params)
            for name, factors in self.units:
                for source, power in factors:
                    # A constant that a component lacks remains zero, however large the factor.
                    scaled = result[name] * ref[source] ** named_power(power, params)
                    result[name] = np.where(np.equal(result[name], 0.0), 0.0, scaled)[()]
        return result

    @property
    def exempt(self) -> tuple[str, ...]:
        """Return the inputs that a fit uses without division."""
        return tuple(name for name, source in self.scales if not source)

    def divisors(self, ref: Mapping[str, Any]) -> dict[str, Any]:
        """Return the divisor of each input in a fit with geometric means `ref`."""
        shared = dict(self.scales)
        return {name: ref[source] if (source := shared.get(name, name)) else 1.0 for name in self.inputs}

    def referred(self, reference: Float[Any, "input"]) -> Law:
        """Return the law for constants that refer to given raw inputs, shape (input,); most laws are unchanged."""
        if not self.scales:
            return self
        ref = {name: float(value) for name, value in zip(self.inputs, reference, strict=True)}
        divisors = self.divisors(ref)
        return dataclasses.replace(self, rescale=tuple(ref[name] / divisors[name] for name in self.inputs))

    def arguments(self, x: Float[Any, "input"]) -> list[Any]:
        """Return the arguments of the function from x / reference, shape (input,)."""
        scaled = [x[i] for i in range(len(self.inputs))]
        return scaled if self.rescale is None else [a * b for a, b in zip(scaled, self.rescale, strict=True)]

    def coordinates(self, z: Float[Any, "row input"]) -> Float[np.ndarray, "row axis"]:
        """Return logarithms of the discrepancy's axes, shape (row, axis), at z = ln(x / reference), (row, input)."""
        if not self.axes:
            return np.asarray(z)
        with on_cores():
            x = self.arguments(np.exp(np.asarray(z, float)).T)
            return np.log(np.stack([np.asarray(jax.vmap(axis)(*x)) for _, axis in self.axes], axis=1))

    def published(self, key: str | None = None) -> PublishedLaw:
        """Return the law with constants printed in a paper; it has `predict`, like a posterior.

        Args:
            key: Name of the set of constants; may be left out if there is only one.

        Raises:
            InputError: For an unknown key, with a list of the known ones.

        Example:
            >>> import bayescale as bs
            >>> chinchilla = bs.laws.get("chinchilla").published("besiroglu2024")
            >>> round(float(chinchilla.predict(n_params=70e9, n_tokens=1.4e12).mean[0]), 3)
            1.973
        """
        known = {source.key: source for source in self.info.published}
        if key is None and len(known) == 1:
            (key,) = known
        if key not in known:
            if not known:
                raise InputError(f"No verified published constants are known for {self.name}.")
            raise InputError(f"{self.name} has no published set {key!r}. {nearest(str(key), known)}")
        return PublishedLaw(self, known[key])


def signature_constants(function: Callable[..., Any]) -> list[str]:
    """Return the names of the keyword-only parameters of a function."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]


def named_power(power: str | float, params: Mapping[str, Any]) -> Any:
    """Return a power in `units`: a number, or the value of a named exponent, negative after a minus sign."""
    if not isinstance(power, str):
        return power
    return -params[power[1:]] if power.startswith("-") else params[power]


def renamed(law: Law, inputs: tuple[str, ...]) -> Law:
    """Return a law with its inputs renamed everywhere."""
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
        info=dataclasses.replace(
            law.info, counting=tuple((new[name], text) for name, text in law.info.counting if name in new)
        ),
    )


def bind(law: Law, inputs: tuple[str, ...]) -> Law:
    """Return a law with the columns of some runs as inputs; the placeholder input "x" becomes their only input.

    Raises:
        InputError: If the runs lack an input, or have several for a law with one.
    """
    if law.inputs == ("x",):
        if len(inputs) != 1:
            names, name = ", ".join(inputs), inputs[0] if inputs else "n_params"
            raise InputError(
                f"{law.name} has one input and the runs have {len(inputs) or 'none'}"
                f"{f' ({names})' if names else ''}; choose one when reading them: bs.read(..., inputs={name!r}) "
                f"(--input {name})."
            )
        return renamed(law, tuple(inputs))
    missing = [name for name in law.inputs if name not in inputs]
    if missing:
        asked = " ".join(f"--input {name}" for name in law.inputs)
        raise InputError(
            f"{law.name} needs {', '.join(law.inputs)}; the runs have {', '.join(inputs) or 'no input'}. Choose "
            f"inputs={law.inputs} ({asked}), with columns={{{missing[0]!r}: 'your_column'}} (--column "
            f"{missing[0]}=your_column) where yours has another name, or another law."
        )
    return law


def without_span(law: Law, inert: tuple[bool, ...]) -> Law:
    """Return a law with priors per unit of ln x for exponents of inputs that hardly vary, which have no span."""
    lost = {
        name: Exponent()
        for prior in law.priors.values()
        if isinstance(prior, Fall)
        for name, flag in zip(prior.names, inert, strict=False)
        if flag
    }
    return law.with_priors(lost)
