"""Laws: mean curves of scaling laws, each one declaration, and the registry that collects them."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bayescale.errors import InputError, nearest
from bayescale.forecast import Forecast, query_points
from bayescale.priors import LEVELS, Exponent, Fall, Level, Plateaus, Prior, Shares
from bayescale.records import Array, record, static

LAWS: dict[str, Law] = {}
"""Every registered law by name, built-in ones first."""


@record
class Published:
    """Constants printed in a paper, in the paper's own units."""

    key: str = static()
    cite: str = static()
    constants: tuple[tuple[str, float], ...] = static()


@record
class Law:
    """The mean curve of a scaling law: a plain function, its constants with priors, its source.

    The curve takes scalars, inputs first and constants by name, and reads like the paper's equation.
    During a fit the inputs are divided by the geometric mean of the data, so an amplitude is the value of
    its term where the data can see it; `at_unit_scale` returns the paper's own constants.
    """

    curve: Callable[..., Any] = static()
    name: str = static()
    inputs: tuple[str, ...] = static()
    priors: dict[str, Any]
    units: tuple[tuple[str, tuple[tuple[str, str | float], ...]], ...] = static(default=())
    decreasing: tuple[str, ...] = static(default=())
    floor: str | None = static(default=None)
    response: str = static(default="loss")
    equation: str = static(default="")
    cite: str = static(default="")
    sources: tuple[Published, ...] = static(default=())

    def __call__(self, *inputs: Any, **constants: Any) -> Any:
        """Evaluate the curve at raw inputs with the given constants."""
        return self.curve(*inputs, **constants)

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
                'units=dict(A=("n_params", "alpha")) if A multiplies n_params**-alpha.'
            )
        result = dict(params)
        for name, factors in self.units:
            for source, power in factors:
                exponent = params[power] if isinstance(power, str) else power
                # A far tail of exponents may exceed what floats hold; the draw is then infinite, not an error.
                with np.errstate(over="ignore"):
                    result[name] = result[name] * ref[source] ** exponent
        return result

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


@record
class PublishedLaw:
    """A law with fixed constants: no uncertainty, so every interval has zero width."""

    law: Law
    source: Published = static()

    @property
    def constants(self) -> dict[str, float]:
        """The printed constants by name."""
        return dict(self.source.constants)

    def predict(self, frame: Any = None, *, kind: str = "mean", **inputs: float | Array) -> Forecast:
        """Evaluate the law at raw inputs (counts); see `Posterior.predict`.

        Raises:
            InputError: For missing or non-positive inputs.
        """
        points = query_points(self.law.inputs, frame, inputs)
        columns = [points[name].to_numpy(float) for name in self.law.inputs]
        value = np.broadcast_to(np.asarray(self.law(*columns, **self.constants)), (len(points),))
        location = np.log(value)[None, :]
        return Forecast(
            points=points,
            kind=kind,
            location=location,
            scale=np.zeros_like(location),
            log_draws=location[None, :, :],
            ratio=np.full(len(points), np.nan),
            label=f"{self.law.name}, constants of {self.source.key}",
        )


def signature_constants(curve: Callable[..., Any]) -> list[str]:
    """Names of the keyword-only parameters of a curve."""
    parameters = inspect.signature(curve).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]


def register_law(
    *,
    inputs: str | tuple[str, ...],
    priors: Mapping[str, Any],
    name: str | None = None,
    units: Mapping[str, Any] | None = None,
    decreasing: tuple[str, ...] = (),
    floor: str | None = None,
    response: str = "loss",
    equation: str = "",
    cite: str = "",
    published: Mapping[str, Mapping[str, float]] | None = None,
) -> Callable[[Callable[..., Any]], Law]:
    """Turn a plain function into a law and enter it in `LAWS`.

    Args:
        inputs: Names of the scale inputs, in the order of the function's arguments.
        priors: Prior by constant, or by any label for priors that cover several constants.
        name: Name in the registry; the function's own by default.
        units: Which power of which input a constant carries, e.g. `dict(A=("n_params", "alpha"))` when A
            multiplies n_params**-alpha; powers are names of constants or numbers.
        decreasing: Inputs in which the curve falls (a claim that tests check).
        floor: Constant that the curve approaches as all inputs grow.
        response: What the curve describes.
        equation: Where the equation stands in the source.
        cite: Key in `references.bib`.
        published: Printed constants in the paper's units, by citation key.

    Raises:
        InputError: If constants and priors do not match.

    Example:
        >>> import bayescale as bs
        >>> @bs.register_law(inputs="flops", priors=dict(A=bs.Level(), c=bs.Exponent(0.05)))
        ... def compute_power(C, *, A, c):
        ...     return A * C**-c
        >>> bs.laws.get("compute_power").constants
        ('A', 'c')
    """
    names = (inputs,) if isinstance(inputs, str) else tuple(inputs)

    def declare(curve: Callable[..., Any]) -> Law:
        label = name or curve.__name__
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
        unit_table = tuple(
            (key, tuple(value) if isinstance(value, list) else (tuple(value),)) for key, value in (units or {}).items()
        )
        law = Law(
            curve=curve,
            name=label,
            inputs=names,
            priors=dict(priors),
            units=unit_table,
            decreasing=tuple(decreasing),
            floor=floor,
            response=response,
            equation=equation,
            cite=cite,
            sources=tuple(Published(key, key, tuple(values.items())) for key, values in (published or {}).items()),
        )
        LAWS[label] = law
        return law

    return declare


def get(law: str | Law) -> Law:
    """Return a law by name (a law passes through).

    Raises:
        InputError: For an unknown name, with the nearest known one.
    """
    if isinstance(law, Law):
        return law
    if law not in LAWS:
        raise InputError(f"There is no law {law!r}. {nearest(str(law), LAWS)}")
    return LAWS[law]


def automatic(inputs: tuple[str, ...]) -> Law:
    """Return the default law for some inputs, whatever they are called.

    One input: a power law between a plateau and a floor. Two or three: one power law each under an outer power, with a
    floor.

    Raises:
        InputError: For more than three inputs, where no default has been shown to work.
    """
    defaults = {1: "bounded_power", 2: "chinchilla_outer", 3: "three_input_outer"}
    if len(inputs) not in defaults:
        raise InputError(
            f"law='auto' covers one to three inputs, found {len(inputs)}. Choose inputs=..., name a law or write one."
        )
    return tie(LAWS[defaults[len(inputs)]], inputs)


def tie(law: Law, inputs: tuple[str, ...]) -> Law:
    """Give the inputs of a law other names, in order; its curve and priors stay."""
    names = dict(zip(law.inputs, inputs, strict=True))
    units = tuple((constant, tuple((names[x], p) for x, p in factors)) for constant, factors in law.units)
    return dataclasses.replace(law, inputs=inputs, units=units, decreasing=tuple(names[x] for x in law.decreasing))


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
        return tie(law, inputs)
    missing = [name for name in law.inputs if name not in inputs]
    if missing:
        raise InputError(
            f"{law.name} needs {', '.join(law.inputs)}; the runs have {', '.join(inputs)}. Map a column with "
            f"columns={{{missing[0]!r}: 'your_column'}} or take another law."
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


from bayescale.laws import loss as loss
