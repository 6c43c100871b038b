"""Priors by role: the role of a constant in a law decides how it is sampled.

Every prior is a short generative program over unconstrained parameters: `draw(sample, ...)` calls `sample(name,
distribution)` once for each parameter and returns the law's constants. The function `sample` decides what happens.
`numpyro.sample` makes the prior part of an ordinary NumPyro model. Fits read the parameters from their vector and add
up the log density. A random generator simulates.

The numbers of a prior are traced data, so changing them needs no new compilation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from bayescale import checked
from bayescale._record import Array, record, static
from bayescale.checked import known_keywords
from bayescale.errors import InputError

Sample = Callable[[str, dist.Distribution], Any]
"""Supplier of unconstrained parameters: `sample(name, distribution)` returns the value of the parameter."""


class Scene(NamedTuple):
    """Values on which a prior may depend: constants drawn before it, and the law at the scale of the data."""

    drawn: Mapping[str, Any]
    unit_falls: Callable[[Mapping[str, Any]], Array]
    """-d ln f / d ln x_j at the reference scale, shape (input,), for given constants."""
    spans: Array
    """Training span of ln x_j, shape (input,)."""
    plateau: Array | float = 1.0
    """One; zero in the component of a mixture without a plateau (see `Plateaus`)."""


class Prior(Protocol):
    """Base class of the priors."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the covered constants, in order; if empty, the key under which a law declares the prior."""
        ...

    def draw(self, sample: Sample, names: tuple[str, ...], scene: Scene) -> dict[str, Any]:
        """Draw the constants `names`; `sample` is called once for each unconstrained parameter."""
        ...


def check_priors(priors: Any) -> None:
    """Refuse priors that are not given by name, and values that are no priors.

    Raises:
        InputError: With what was found.
    """
    if priors is None:
        return
    checked.mapping("priors", priors, 'priors={"a": bs.Exponent(0.3, 0.5)}')
    for name, prior in priors.items():
        # Priors of all roles have `draw` and the names of the constants that they cover.
        if isinstance(prior, type) or not (callable(getattr(prior, "draw", None)) and hasattr(prior, "names")):
            raise InputError(
                f"The prior of {name!r} must be a prior, e.g. bs.Exponent(); found {checked.shortened(prior)}."
            )
        if isinstance(prior, Plateaus) and prior.plateau not in PLATEAUS:
            raise InputError(
                f"Plateaus(plateau=...) is one of {', '.join(map(repr, PLATEAUS))}; found {prior.plateau!r}."
            )


@known_keywords
@record
class Positive:
    """A positive constant, sampled through its logarithm: LogNormal(ln median, sd)."""

    median: float
    sd: float = 1.0
    names: tuple[str, ...] = static(default=())

    def draw(self, sample: Sample, names: tuple[str, ...], scene: Scene) -> dict[str, Any]:
        """Draw the constant by way of its logarithm."""
        (name,) = names
        return {name: jnp.exp(sample(f"log_{name}", dist.Normal(jnp.log(self.median), self.sd)))}


@known_keywords
@record
class Exponent(Positive):
    """A positive exponent of an input: LogNormal(ln median, sd); used where published laws suggest a median."""

    median: float = 0.35
    sd: float = 0.5


@known_keywords
@record
class Outer(Positive):
    """The outer power k of a sum of terms: LogNormal(ln median, sd)."""

    median: float = 1.0
    sd: float = 0.5


@known_keywords
@record
class Fraction:
    """A constant in (0, 1): its logit is Normal(mean, sd)."""

    mean: float = 0.0
    sd: float = 1.7
    names: tuple[str, ...] = static(default=())

    def draw(self, sample: Sample, names: tuple[str, ...], scene: Scene) -> dict[str, Any]:
        """Draw the constant by way of its logit."""
        (name,) = names
        return {name: jax.nn.sigmoid(sample(f"logit_{name}", dist.Normal(self.mean, self.sd)))}


@known_keywords
@record
class Real:
    """A constant of either sign: Normal(mean, sd)."""

    mean: float = 0.0
    sd: float = 1.0
    names: tuple[str, ...] = static(default=())

    def draw(self, sample: Sample, names: tuple[str, ...], scene: Scene) -> dict[str, Any]:
        """Draw the constant."""
        (name,) = names
        return {name: sample(name, dist.Normal(self.mean, self.sd))}


@known_keywords
@record
class Level:
    """The amplitude that scales the whole law.

    The logarithm of the law's value at the reference scale is Normal(0, sd) around the mean of the data. It is
    integrated out exactly, so the amplitude needs no unconstrained parameter.
    """

    sd: float = 0.3
    names: tuple[str, ...] = static(default=())

    def draw(self, sample: Sample, names: tuple[str, ...], scene: Scene) -> dict[str, Any]:
        """Return the amplitude in units of the level."""
        del sample, scene
        (name,) = names
        return {name: 1.0}

    def scaled(self, values: Mapping[str, Any], names: tuple[str, ...], level: Any) -> dict[str, Any]:
        """Multiply the law by `level`; return the constants that change."""
        (name,) = names
        return {name: values[name] * level}


@known_keywords
@record
class Shares:
    """Terms that add up to the law's value at the reference scale: a level and the fractions of the terms.

    `Shares(("E", "A", "B"))` samples the irreducible fraction E / (E + A + B) and the fraction A / (A + B), which the
    data determine better than E, A and B themselves. The level is integrated out as for `Level`.

    Attributes:
        names: Constants of the terms, first the floor.
        floor_mean: Mean of the logit of the floor's fraction.
        floor_sd: Standard deviation of this logit.
        share_sd: Standard deviation of the logit of each further term's fraction of what remains. The mean of this
            logit is -ln m if m terms follow.
        sd: Standard deviation of the logarithm of the law's value at the reference scale.
        outer: Name of the power k, if the terms after the floor are raised to it together: E + (A + B)^k.
        floor: Whether the first name is a floor; if false, it is a term like the others.
    """

    names: tuple[str, ...] = static(default=())
    floor_mean: float = 0.0
    floor_sd: float = 1.7
    share_sd: float = 1.5
    sd: float = 0.3
    outer: str | None = static(default=None)
    floor: bool = static(default=True)

    def draw(self, sample: Sample, names: tuple[str, ...], scene: Scene) -> dict[str, Any]:
        """Draw the fractions by stick breaking: first the floor, then one term after the other."""
        values: dict[str, Any] = {}
        terms, rest = names, 1.0
        if self.floor:
            floor = jax.nn.sigmoid(sample(f"logit_share_{names[0]}", dist.Normal(self.floor_mean, self.floor_sd)))
            values[names[0]] = floor
            terms, rest = names[1:], 1.0 - floor
            if self.outer is not None:
                rest = rest ** (1.0 / scene.drawn[self.outer])
        for position, term in enumerate(terms[:-1]):
            remaining = len(terms) - position
            share = jax.nn.sigmoid(sample(f"logit_share_{term}", dist.Normal(-jnp.log(remaining - 1.0), self.share_sd)))
            values[term] = rest * share
            rest = rest * (1.0 - share)
        values[terms[-1]] = rest
        return values

    def scaled(self, values: Mapping[str, Any], names: tuple[str, ...], level: Any) -> dict[str, Any]:
        """Multiply the law by `level`; return the constants that change."""
        inner = level if self.outer is None else level ** (1.0 / values[self.outer])
        floor = names[:1] if self.floor else ()
        return {name: values[name] * (level if name in floor else inner) for name in names}


@known_keywords
@record
class Plateaus:
    """A floor below and a plateau above a power law, E + A / (g + x^c): a level, and a number for the curvature.

    The floor is the fraction f of the law's value at the reference scale, and the plateau keeps the fraction g / (1 +
    g) of the remaining value flat. Let F = f / (1 - f) and W = g (1 + F). The data determine F - W, the curvature on
    log-log axes in units of the slope: positive where the curve flattens, negative where it still steepens. arsinh(F -
    W) is Normal(mean, spread). The product F W, about which data contain almost no information, is fixed at `both`
    squared. The level is integrated out as for `Level`. W = 0 is a power law with a floor, F = 0 would be a power law
    with a plateau.

    Attributes:
        names: Floor, amplitude and plateau.
        mean: Mean of arsinh(F - W).
        spread: Standard deviation of arsinh(F - W).
        both: Square root of the product F W.
        sd: Standard deviation of the level in log units.
        floor_mean: Mean of the logit of the floor's fraction in the model without a plateau.
        floor_sd: Standard deviation of this logit.
        plateau: A key of `PLATEAUS`. Data rarely show whether a curve has a plateau, but far forecasts depend on it. A
            mixture forecasts most published curves better than either model alone (docs/evidence/choices.md).
    """

    names: tuple[str, ...] = static(default=())
    mean: float = 0.8
    spread: float = 2.0
    both: float = 0.9
    sd: float = 0.3
    floor_mean: float = 0.0
    floor_sd: float = 1.7
    plateau: str = static(default="mixture")

    def draw(self, sample: Sample, names: tuple[str, ...], scene: Scene) -> dict[str, Any]:
        """Draw the curvature, arsinh(F - W) or, without a plateau, ln F; return floor, amplitude and plateau."""
        here = jnp.asarray(scene.plateau) > 0.5
        center = jnp.where(here, self.mean, self.floor_mean)
        bend = sample("bend", dist.Normal(center, jnp.where(here, self.spread, self.floor_sd)))
        # F and W are computed from their difference and their product, without cancellation.
        half = 0.5 * jnp.sinh(bend) / self.both
        larger = jnp.abs(half) + jnp.sqrt(half**2 + 1.0)
        floored = jnp.where(jnp.asarray(scene.plateau) < -0.5, 0.0, jnp.exp(bend))
        below = jnp.where(here, self.both * jnp.where(half > 0, larger, 1.0 / larger), floored)
        above = jnp.where(here, self.both**2 / jnp.where(here, below, 1.0), 0.0)
        plateau = above / (1.0 + below)
        floor, term, knee = names
        return {floor: below / (1.0 + below), term: (1.0 + plateau) / (1.0 + below), knee: plateau}

    def scaled(self, values: Mapping[str, Any], names: tuple[str, ...], level: Any) -> dict[str, Any]:
        """Multiply the law by `level`; return the constants that change."""
        return {name: values[name] * level for name in names[:2]}


PLATEAUS = {
    "mixture": "a mixture of the posteriors below, with weights that depend on the design",
    "present": "one posterior, with a floor and a plateau",
    "absent": "one posterior, with a floor and no plateau",
    "power": "one posterior, a power law with neither",
}
"""Values of `Plateaus.plateau`."""

LEVELS = (Level, Shares, Plateaus)
"""Kinds of priors that scale the whole law, so that its level can be integrated out."""


@known_keywords
@record
class Fall:
    """Exponents, sampled through the decrease of ln(law) over the training spans of the inputs.

    The training span of an input is the range of ln x in the data. Let b be the decrease of ln(law) when all inputs
    grow by their training spans, computed from the slope of the law at the reference scale. b is LogNormal(ln median,
    sd). For any two inputs, the ratio of exponent times training span is LogNormal(0, 1). No unit of ln x is involved,
    so forecasts do not change if an input is replaced by its square. The unconstrained parameters are ln b and, for
    several inputs, the log ratios of their contributions b_j to b.

    Attributes:
        names: Exponents.
        median: Median of b.
        sd: Standard deviation of ln b.
    """

    names: tuple[str, ...] = static(default=())
    median: float = 0.4
    sd: float = 1.2

    def draw(self, sample: Sample, names: tuple[str, ...], scene: Scene) -> dict[str, Any]:
        """Draw the net decreases and convert them to exponents.

        When this is called, every exponent in `scene.drawn` equals 1, and `scene.spans` has only the inputs of `names`.
        """
        falls = scene.unit_falls(scene.drawn)
        fall = jnp.exp(sample("log_fall", dist.Normal(jnp.log(self.median), self.sd)))
        if len(names) == 1:
            return {names[0]: fall / (scene.spans[0] * falls[0])}
        tilt = jnp.log(falls) - jnp.log(falls[-1])
        ratios: list[Any] = []
        for position, name in enumerate(names[:-1]):
            # An equal correlation of 1/2 between the log ratios makes every pair of inputs differ by Normal(0, 1).
            mean = sum(ratios, 0.0) / (position + 1.0)
            sd = jnp.sqrt(0.5 * (1.0 + 1.0 / (position + 1.0)))
            net = sample(f"log_fall_ratio_{name}", dist.Normal(tilt[position] + mean, sd))
            ratios.append(net - tilt[position])
        weights = jax.nn.softmax(jnp.stack([tilt[i] + ratio for i, ratio in enumerate([*ratios, 0.0])]))
        exponents = fall * weights / (scene.spans * falls)
        return {name: exponents[i] for i, name in enumerate(names)}


@known_keywords
@record
class Fixed:
    """A constant that is not sampled."""

    value: float = 1.0
    names: tuple[str, ...] = static(default=())

    def draw(self, sample: Sample, names: tuple[str, ...], scene: Scene) -> dict[str, Any]:
        """Return the constant; it has no unconstrained parameter."""
        del sample, scene
        (name,) = names
        return {name: self.value}


# --- Roles for laws of one input, in units of its training span ---------------------------------------------


@known_keywords
@record
class Slope(Positive):
    """An exponent; multiplied by the training span of ln x, it is LogNormal(ln median, sd)."""

    median: float = 0.7
    sd: float = 0.8

    def draw(self, sample: Sample, names: tuple[str, ...], scene: Scene) -> dict[str, Any]:
        """Draw the product of exponent and span by way of its logarithm."""
        (name,) = names
        (span,) = scene.spans
        return {name: jnp.exp(sample(f"log_{name}", dist.Normal(jnp.log(self.median), self.sd))) / span}


@known_keywords
@record
class Turn(Real):
    """A change of exponent of either sign; multiplied by the training span of ln x, it is Normal(mean, sd)."""

    sd: float = 0.5

    def draw(self, sample: Sample, names: tuple[str, ...], scene: Scene) -> dict[str, Any]:
        """Draw the product of that change and the span."""
        (name,) = names
        (span,) = scene.spans
        return {name: sample(name, dist.Normal(self.mean, self.sd)) / span}


@known_keywords
@record
class Break:
    """Inputs at which the slope of a law changes, in increasing order: within the data, or somewhat outside.

    On a logarithmic axis on which the training data range from -1/2 to 1/2, the first of these inputs is Normal(mean,
    sd), and the distance from each one to the next is LogNormal(ln gap, 0.5).
    """

    names: tuple[str, ...] = static(default=())
    mean: float = 0.0
    sd: float = 0.35
    gap: float = 0.3

    def draw(self, sample: Sample, names: tuple[str, ...], scene: Scene) -> dict[str, Any]:
        """Draw the first input, then the logarithms of the distances."""
        (span,) = scene.spans
        point, values = sample(f"place_{names[0]}", dist.Normal(self.mean, self.sd)), {}
        values[names[0]] = jnp.exp(span * point)
        for name in names[1:]:
            point = point + jnp.exp(sample(f"log_step_{name}", dist.Normal(jnp.log(self.gap), 0.5)))
            values[name] = jnp.exp(span * point)
        return values
