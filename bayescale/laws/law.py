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
    """The documentation of a law: nothing here changes a fit."""

    summary: str = ""
    """What the law is, one sentence."""
    caveats: str = ""
    """What to beware of."""
    cite: str = ""
    """Key in `references.bib`."""
    equation: str = ""
    """Where the source has the equation."""
    form: str = "paper"
    """How the equation was checked, a key of `published.FORMS`."""
    published: tuple[Published, ...] = ()
    """Sets of constants that were printed, each with how it was checked."""
    counting: tuple[tuple[str, str], ...] = ()
    """How the paper counts an input, by input."""
    nests: tuple[tuple[str, tuple[tuple[str, float], ...]], ...] = ()
    """Laws that this one becomes, with the constants or inputs at which it does."""
    nicknames: tuple[str, ...] = ()
    """What people call the law, its paper or its models, for `bayescale.laws.search`."""
    section: str = ""
    """Section of the catalogue; by default the module of the law's function."""
    describes: str = "loss"
    """What the law's value is, a key of `responses.RESPONSES`; it decides which runs are refused."""


@known_keywords
@record
class Law:
    """The mean function of a scaling law with the priors of its constants.

    The function takes scalars, inputs first and constants by name, and reads like the paper's equation.
    During a fit the inputs are divided by the geometric mean of the data, so an amplitude is the value of
    its term where the data can see it; `at_unit_scale` returns the paper's own constants. Inputs that mean
    something as they are (bits, experts) are exempt: see `scales`.
    """

    function: Callable[..., Any] = static()
    name: str = static()
    inputs: tuple[str, ...] = static()
    priors: dict[str, Any]
    rescale: tuple[Any, ...] | None = None
    """What turns each input of a fit, x / reference, into what the function takes; None if that is x / reference."""
    units: Any = static(default=())
    scales: tuple[tuple[str, str], ...] = static(default=())
    decreasing: tuple[str, ...] = static(default=())
    floor: str | None = static(default=None)
    response: str = static(default="loss")
    axes: tuple[tuple[str, Callable[..., Any]], ...] = static(default=())
    """Axes of the discrepancy by name, as functions of the law's inputs; the inputs themselves if there are none."""
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
        """Return the constants that each prior covers, by the prior's key."""
        return {key: prior.names or (key,) for key, prior in self.priors.items()}

    @property
    def level(self) -> tuple[str, Level | Shares | Plateaus] | None:
        """Return the key and prior that scale the whole law, or None when its constants are absolute."""
        for key, prior in self.priors.items():
            if isinstance(prior, LEVELS):
                return key, prior
        return None

    def with_priors(self, priors: Mapping[str, Prior]) -> Law:
        """Replace priors one by one.

        Args:
            priors: By the key in the declaration, or by the name of an exponent that a `Fall` covers.

        Raises:
            InputError: For a name that the law does not have, or a share, which has no prior of its own.
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
        # A far tail of exponents may exceed what floats hold; the draw is then infinite, or no number, not an error.
        with np.errstate(over="ignore", invalid="ignore"):
            if callable(self.units):
                return {**params, **self.units(params, ref)}
            result = dict(params)
            for name, factors in self.units:
                for source, power in factors:
                    # A constant that a component lacks stays zero, however large the factor.
                    scaled = result[name] * ref[source] ** named_power(power, params)
                    result[name] = np.where(np.equal(result[name], 0.0), 0.0, scaled)[()]
        return result

    @property
    def exempt(self) -> tuple[str, ...]:
        """Return the inputs that a fit takes as they are, without division."""
        return tuple(name for name, source in self.scales if not source)

    def divisors(self, ref: Mapping[str, Any]) -> dict[str, Any]:
        """Return what each input is divided by in a fit whose geometric means are `ref`."""
        shared = dict(self.scales)
        return {name: ref[source] if (source := shared.get(name, name)) else 1.0 for name in self.inputs}

    def referred(self, reference: Float[Any, "input"]) -> Law:
        """Return the law for constants that hold at some raw inputs, shape (input,); most laws stay as they are."""
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
    """Read a power in `units`: a number, the name of an exponent, or its name after a minus sign."""
    if not isinstance(power, str):
        return power
    return -params[power[1:]] if power.startswith("-") else params[power]


def renamed(law: Law, inputs: tuple[str, ...]) -> Law:
    """Rename the inputs of a law, everywhere they occur."""
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
    """Tie a law to the columns of some runs; the placeholder input "x" takes their only input.

    Raises:
        InputError: If the runs lack an input, or have several for a law of one.
    """
    if law.inputs == ("x",):
        if len(inputs) != 1:
            names, name = ", ".join(inputs), inputs[0] if inputs else "n_params"
            raise InputError(
                f"{law.name} has one input and the runs have {len(inputs) or 'none'}"
                f"{f' ({names})' if names else ''}; say one when reading them: bs.read(..., inputs={name!r}) "
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
    """Replace priors of exponents of inputs that never varied by ones per unit of ln x; the data cannot span it."""
    lost = {
        name: Exponent()
        for prior in law.priors.values()
        if isinstance(prior, Fall)
        for name, flag in zip(prior.names, inert, strict=False)
        if flag
    }
    return law.with_priors(lost)
