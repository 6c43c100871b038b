"""Laws of one input that turn, rise, jump or do nothing, and straight lines in its logarithm."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from bayescale.laws.catalogue.downstream import ODDS, STEEP
from bayescale.laws.priors import Break, Exponent, Fixed, Level, Shares, Slope, Turn
from bayescale.laws.registry import alias, register_law, variant
from bayescale.laws.shapes import above_zero, raised

# --- Does it scale at all? ---------------------------------------------------------------------------------


@register_law(
    inputs=("x",),
    cite="wang2025worldpm",
    priors={"A": Level()},
    units=lambda constants, ref: {},
    form="ours",
    nicknames=("constant", "flat"),
)
def no_trend(x: Any, *, A: Any) -> Any:
    """Constant response: A.

    Compare its fit with that of a decreasing law. Wang et al. (2025) find that subjective preferences do not change
    with scale.
    """
    return A + 0.0 * x


variant(
    "power",
    name="signed_power",
    section="trends",
    summary="Increasing or decreasing power law, A x^-c with c of either "
    "sign; P(c > 0) is the probability of a decrease.",
    cite="wang2025worldpm",
    caveats="The priors of most other laws allow only decreases, so those laws decrease slightly even if the data do "
    "not.",
    form="ours",
    priors={"c": Turn(sd=0.6)},
    decreasing=(),
    nicknames=("no trend", "does it scale"),
)
alias("subjective_preference", "signed_power", "wang2025worldpm")


# --- Straight lines in ln x --------------------------------------------------------------------------------


@register_law(
    inputs=("x",),
    cite="shao2024datastore",
    priors={"B": Level(), "a": Turn(sd=0.4), "x0": Fixed(1.0)},
    units={"x0": ("x", 1.0)},
    response="response",
    describes="quantity",
    form="ours",
    nicknames=("log-linear", "linear in the logarithm"),
)
def log_linear(x: Any, *, B: Any, a: Any, x0: Any) -> Any:
    """Straight line in ln x, increasing or decreasing: B (1 + a ln(x / x0)).

    B is the response at x0, the geometric mean of x over the data. When x grows by a factor of e, the response changes
    by the product of B and a. A line reaches zero at some x. For a score that is linear in ln x between chance and
    ceiling use `logistic`.
    """
    return B * above_zero(1.0 + a * jnp.log(x / x0))


variant(
    "log_linear",
    name="retrieval_datastore",
    summary="Loss of a retrieval model by the number x of tokens in its datastore: B (1 + a ln(x / x0)).",
    cite="shao2024datastore",
    caveats="B is the loss at x0, the geometric mean of x over the data. Shao et al. (2024) show that the loss is "
    "about linear in ln x, and give no equation.",
    form="ours",
    inputs=("datastore_tokens",),
    response="loss",
    nicknames=("MassiveDS", "retrieval"),
)
variant(
    "growing_power",
    name="annotated_samples",
    section="trends",
    summary="Capability by the number N of annotated samples: A N^c with c of about .07.",
    cite="liu2025fundus",
    caveats="The abstract of Liu and Song (2025) gives the exponent .068 and no amplitude. It calls the capability L.",
    inputs=("n_samples",),
    priors={"c": Exponent(0.068, 0.4)},
    response="capability",
    nicknames=("FundusExpert",),
)


# --- Turns -------------------------------------------------------------------------------------------------


@register_law(
    inputs=("x",),
    cite="mckenzie2023inverse",
    priors={"A": Level(), "T": Break(("T",), 0.5, 0.6), "c": Slope(), "d": Slope()},
    units={"T": ("x", 1.0)},
    form="ours",
    nicknames=("U-shaped loss", "turn", "over-training"),
)
def turning(x: Any, *, A: Any, T: Any, c: Any, d: Any) -> Any:
    """Response with a minimum A at x = T: A (d (x/T)^-c + c (x/T)^d) / (c + d).

    It is a power law far from T on either side. The posterior draws of T, `post.draws["T"]`, give the probability that
    the minimum lies below a given input. If the data show no minimum, the posterior of T equals its prior, which has
    most of its mass within one training span of the data (on the axis of ln x).
    """
    ratio = x / T
    return A * (d * raised(ratio, -c) + c * raised(ratio, d)) / (c + d)


variant(
    "turning",
    name="inverted_u_score",
    summary="Score that increases up to x = T and then decreases: odds against A (d (x/T)^-c + c (x/T)^d) / (c + d).",
    cite="mckenzie2023inverse",
    caveats="The odds against have their minimum A at x = T. For scores that first decrease use `u_shaped_score`, "
    "and for scores that only increase or only decrease use `signed_power`.",
    form="ours",
    priors={"c": STEEP, "d": STEEP},
    nicknames=("inverse scaling", "inverted U"),
    **ODDS,
)
variant(
    "turning",
    name="thinking_peak",
    section="inference",
    summary="Accuracy with a maximum at x = T thinking tokens: odds against A (d (x/T)^-c + c (x/T)^d) / (c + d).",
    cite="huang2025m1",
    caveats="The odds against have their minimum A at x = T. Huang et al. (2025) report a maximum of the accuracy "
    "near 4,000 tokens and give no equation.",
    form="ours",
    inputs=("thinking_tokens",),
    priors={"c": STEEP, "d": STEEP, "T": Break(("T",), 0.0, 0.5)},
    nicknames=("m1", "overthinking", "thinking budget"),
    **ODDS,
)


@register_law(
    inputs=("x",),
    cite="wei2022inverse",
    priors={"A": Level(), "T": Break(("T",), -0.4, 0.5), "c": Slope(), "d": Slope()},
    units={"T": ("x", 1.0)},
    form="ours",
    nicknames=("hump", "double descent"),
)
def rise_then_fall(x: Any, *, A: Any, T: Any, c: Any, d: Any) -> Any:
    """Response with a maximum A at x = T: A (c + d) / (d (x/T)^c + c (x/T)^-d).

    It increases as x^d far below T and decreases as x^-c far above T.
    """
    ratio = x / T
    return A * (c + d) / (d * raised(ratio, c) + c * raised(ratio, -d))


variant(
    "rise_then_fall",
    name="u_shaped_score",
    summary="Score that decreases up to x = T and then increases: odds against A (c + d) / (d (x/T)^c + c (x/T)^-d).",
    cite="wei2022inverse",
    caveats="The odds against have their maximum A at x = T. Wei et al. (2022) study eleven tasks of inverse "
    "scaling: the scores of four decreased up to the largest models, and those of six were U-shaped.",
    form="ours",
    priors={"c": STEEP, "d": STEEP},
    nicknames=("inverse scaling", "U-shaped scaling"),
    **ODDS,
)


@register_law(
    inputs=("x",),
    cite="schapiro2025creativity",
    priors={"A": Level(), "T": Break(("T",), 0.0, 0.4), "b": Slope(1.0, 0.6)},
    units={"T": ("x", 1.0)},
    form="ours",
    nicknames=("best shape", "parabola"),
)
def valley(x: Any, *, A: Any, T: Any, b: Any) -> Any:
    """Parabola on log-log axes with a minimum at x = T: A exp((b ln(x/T))^2 / 2).

    x is e.g. depth or width at a fixed budget. For a score the law describes the odds against, so the score is best at
    T. Schapiro et al. (2025) find such optima of depth and width, and give no equation.
    """
    return A * jnp.exp(0.5 * (b * jnp.log(x / T)) ** 2)


# --- Jumps -------------------------------------------------------------------------------------------------


@register_law(
    inputs=("x",),
    cite="park2024iclr",
    priors={"terms": Shares(("E", "H")), "T": Break(("T",), 0.0, 0.4), "k": Slope(5.0, 0.6)},
    units={"T": ("x", 1.0)},
    decreasing=("x",),
    floor="E",
    form="ours",
    nicknames=("phase transition", "threshold", "emergence"),
)
def sharp_transition(x: Any, *, E: Any, H: Any, T: Any, k: Any) -> Any:
    """Decrease from E + H to E around a threshold x = T: E + H / (1 + (x/T)^k).

    The decrease is sudden if k is large. Park et al. (2024) find that representations change suddenly as a context
    grows, and give no such curve.
    """
    return E + H / (1.0 + jnp.exp(jnp.minimum(k * jnp.log(x / T), 80.0)))
