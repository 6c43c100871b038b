"""Laws for losses: one scale input, or parameters and tokens."""

from __future__ import annotations

from typing import Any

from bayescale.laws import register_law
from bayescale.priors import Exponent, Fall, Level, Outer, Plateaus, Positive, Shares


@register_law(
    inputs=("x",),
    cite="kaplan2020scaling",
    equation="eqs. 1.1-1.3",
    priors={"A": Level(), "falls": Fall(("c",))},
    units={"A": ("x", "c")},
    decreasing=("x",),
)
def power(x: Any, *, A: Any, c: Any) -> Any:
    """Power law without a floor: A x^-c."""
    return A * x**-c


@register_law(
    inputs=("x",),
    cite="alabdulmohsin2022revisiting",
    equation="M2",
    priors={"terms": Shares(("E", "A")), "falls": Fall(("c",))},
    units={"A": ("x", "c")},
    decreasing=("x",),
    floor="E",
)
def saturating_power(x: Any, *, E: Any, A: Any, c: Any) -> Any:
    """Power law that approaches a floor: E + A x^-c."""
    return E + A * x**-c


@register_law(
    inputs=("x",),
    cite="alabdulmohsin2022revisiting",
    equation="M4 with unit exponent",
    priors={"terms": Plateaus(("E", "A", "g")), "falls": Fall(("c",))},
    units={"A": ("x", "c"), "g": ("x", "c")},
    decreasing=("x",),
    floor="E",
)
def bounded_power(x: Any, *, E: Any, A: Any, g: Any, c: Any) -> Any:
    """Power law between a plateau E + A / g and a floor: E + A / (g + x^c); g = 0 is the saturating power law."""
    return E + A / (g + x**c)


@register_law(
    inputs=("x",),
    cite="alabdulmohsin2022revisiting",
    equation="M3",
    priors={"A": Level(), "g": Positive(1.0, 1.7), "falls": Fall(("c",))},
    units={"A": ("x", "c"), "g": ("x", -1.0)},
    decreasing=("x",),
)
def shifted_power(x: Any, *, A: Any, g: Any, c: Any) -> Any:
    """Shifted power law, which flattens at x of about 1/g: A (1/x + g)^c."""
    return A * (1.0 / x + g) ** c


@register_law(
    inputs=("n_params", "n_tokens"),
    cite="hoffmann2022training",
    equation="eq. 10",
    priors={
        "terms": Shares(("E", "A", "B")),
        "alpha": Exponent(0.35),
        "beta": Exponent(0.35),
    },
    units={"A": ("n_params", "alpha"), "B": ("n_tokens", "beta")},
    decreasing=("n_params", "n_tokens"),
    floor="E",
    published={
        "hoffmann2022": {"E": 1.69, "A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28},
        "hoffmann2022_unrounded": {
            "E": 1.693374,
            "A": 406.401,
            "alpha": 0.33917084,
            "B": 410.723,
            "beta": 0.2849083,
        },
        "besiroglu2024": {
            "E": 1.81686,
            "A": 482.00572,
            "alpha": 0.34781,
            "B": 2085.4342,
            "beta": 0.36585,
        },
    },
)
def chinchilla(N: Any, D: Any, *, E: Any, A: Any, alpha: Any, B: Any, beta: Any) -> Any:
    """Sum of a floor and one power law each in parameters and tokens: E + A N^-alpha + B D^-beta."""
    return E + A * N**-alpha + B * D**-beta


@register_law(
    inputs=("n_params", "n_tokens"),
    cite="skaling2026",
    equation="joint form",
    priors={
        "k": Outer(),
        "terms": Shares(("E", "A", "B"), outer="k"),
        "falls": Fall(("alpha", "beta"), median=0.5),
    },
    units={"A": ("n_params", "alpha"), "B": ("n_tokens", "beta")},
    decreasing=("n_params", "n_tokens"),
    floor="E",
)
def chinchilla_outer(N: Any, D: Any, *, E: Any, A: Any, alpha: Any, B: Any, beta: Any, k: Any) -> Any:
    """Chinchilla's sum under an outer power: E + (A N^-alpha + B D^-beta)^k; k = 1 is Chinchilla."""
    return E + (A * N**-alpha + B * D**-beta) ** k


@register_law(
    inputs=("x", "y", "z"),
    cite="skaling2026",
    equation="joint form, one more term",
    priors={
        "k": Outer(),
        "terms": Shares(("E", "A", "B", "C"), outer="k"),
        "falls": Fall(("alpha", "beta", "gamma"), median=0.5),
    },
    units={"A": ("x", "alpha"), "B": ("y", "beta"), "C": ("z", "gamma")},
    decreasing=("x", "y", "z"),
    floor="E",
)
def three_input_outer(
    x: Any, y: Any, z: Any, *, E: Any, A: Any, alpha: Any, B: Any, beta: Any, C: Any, gamma: Any, k: Any
) -> Any:
    """One power law each in three inputs under an outer power: E + (A x^-alpha + B y^-beta + C z^-gamma)^k."""
    return E + (A * x**-alpha + B * y**-beta + C * z**-gamma) ** k
