"""Laws of one scale input: power laws, with floors, ceilings and breaks."""

from __future__ import annotations

from math import exp
from typing import Any

import jax.numpy as jnp
from jax.nn import sigmoid, softplus

from bayescale.laws.priors import Break, Exponent, Fall, Level, Plateaus, Positive, Shares, Slope, Turn
from bayescale.laws.published import paper
from bayescale.laws.registry import alias, register_law, variant
from bayescale.laws.shapes import break_factor, raised, root

PF_DAY = 8.64e19
"""FLOPs of a petaflop/s-day, the unit of compute in two papers."""


# --- Power laws --------------------------------------------------------------------------------------------


@register_law(
    inputs=("x",),
    cite="kaplan2020scaling",
    form="secondary",
    priors={"A": Level(), "falls": Fall(("c",))},
    units={"A": ("x", "c")},
    decreasing=("x",),
    aliases={"alabdulmohsin_m1": "alabdulmohsin2022revisiting", "preference_model": "wang2025worldpm"},
)
def power(x: Any, *, A: Any, c: Any) -> Any:
    """Power law without a floor: A x^-c.

    As x grows, the response goes to 0.
    """
    return A * x**-c


variant(
    "power",
    name="kaplan_params",
    summary="Loss by parameters N, without a floor: A N^-c.",
    cite="kaplan2020scaling",
    caveats="Kaplan et al. (2020) write (N_c / N)^a, so A = N_c^a and c = a. The loss goes to 0 as N grows. The "
    "published constants are valid for one tokenizer (WebText2, 50257 tokens).",
    form="secondary",
    inputs=("n_params",),
    counting={"n_params": "without embeddings"},
    priors={"c": Exponent(0.08, 0.7)},
    published={"kaplan2020": paper(A=8.8e13**0.076, c=0.076)},
)
variant(
    "power",
    name="kaplan_tokens",
    summary="Loss by training tokens D, without a floor, for large models with early stopping: A D^-c.",
    cite="kaplan2020scaling",
    caveats="Kaplan et al. (2020) write (D_c / D)^a, so A = D_c^a and c = a.",
    form="secondary",
    inputs=("n_tokens",),
    priors={"c": Exponent(0.1, 0.7)},
    published={"kaplan2020": paper(A=5.4e13**0.095, c=0.095)},
)
variant(
    "power",
    name="kaplan_compute",
    summary="Loss by compute C, without a floor, at the best model size and a small batch: A C^-c.",
    cite="kaplan2020scaling",
    caveats="Kaplan et al. (2020) write (C_c / C)^a, so A = C_c^a and c = a. They count compute in PF-days (8.64e19 "
    "FLOPs) and without embeddings. One of their figures prints C_c = 2.3e8.",
    form="secondary",
    inputs=("flops",),
    priors={"c": Exponent(0.05, 0.7)},
    published={"kaplan2020": paper(A=(3.1e8 * PF_DAY) ** 0.050, c=0.050)},
)
variant(
    "power",
    name="kaplan_critical_batch",
    summary="Critical batch size by the loss L reached in training: A L^-c.",
    cite="kaplan2020scaling",
    caveats="Kaplan et al. (2020) write B* / L^(1/a), so A = B* and c = 1/a.",
    response="critical batch in tokens",
    describes="quantity",
    inputs=("reached_loss",),
    priors={"c": Exponent(4.8, 0.3)},
    published={"kaplan2020": paper(A=2e8, c=1.0 / 0.21)},
)
variant(
    "power",
    name="time_series",
    summary="Loss of time-series models by parameters, data or compute: A x^-c.",
    cite="yao2024timeseries",
    caveats="The loss is the negative log likelihood of a density, which may be negative. Add a constant to make it "
    "positive. Fit encoders and decoders as separate families. Likewise separate test data from the training "
    "distribution and from other distributions. The exponents of Yao et al. (2024) could not be verified.",
    form="secondary",
    priors={"c": Exponent(0.1, 0.7)},
)
variant(
    "power",
    name="interatomic_potential",
    nicknames=("DPA3",),
    summary="Generalisation error of an interatomic potential by layers, parameters, data or compute: A x^-c.",
    cite="zhang2025dpa3",
    caveats="The constants of Zhang et al. (2025) could not be verified.",
    form="secondary",
    response="error",
)
variant(
    "power",
    name="accelerator_hours",
    nicknames=("Languini",),
    summary="Perplexity by training hours H on one kind of accelerator: A H^-c.",
    cite="stanic2023languini",
    caveats="`laws.optimum.crossing` computes the hours at which the curves of two architectures cross. The "
    "posterior of the crossing has heavy tails, so report quantiles of its logarithm.",
    form="secondary",
    response="perplexity",
    inputs=("accelerator_hours",),
)
variant(
    "power",
    name="imitation_learning",
    summary="Optimality gap, 1 - normalised score, by the number of objects, environments or their pairs: A x^-c.",
    cite="lin2024imitation",
    caveats="Lin et al. (2024) fit six points without a floor. For some tasks the fitted gap exceeds 1 at x = 1.",
    response="optimality gap",
    priors={"c": Exponent(0.6, 0.5)},
    published={
        key: paper(note="read off the authors' figure", A=A, c=c)
        for key, (A, c) in {
            "pour_water_objects": (0.825, 0.703),
            "pour_water_environments": (1.180, 0.844),
            "pour_water_pairs": (1.068, 0.579),
            "mouse_objects": (0.826, 0.697),
            "mouse_environments": (0.827, 0.466),
            "mouse_pairs": (1.263, 0.683),
        }.items()
    },
)


@register_law(
    inputs=("x",),
    cite="hoffmann2022training",
    equation="approach 1",
    priors={"A": Level(), "c": Exponent(0.5, 0.4)},
    units={"A": ("x", "-c")},
    response="count",
    describes="quantity",
)
def growing_power(x: Any, *, A: Any, c: Any) -> Any:
    """Growing power law: A x^c, e.g. for the best model size, batch or number of tokens at a budget x."""
    return A * x**c


variant(
    "growing_power",
    name="optimal_params",
    nicknames=("Chinchilla approach 1",),
    summary="Best number of parameters at a compute budget C: A C^c.",
    cite="hoffmann2022training",
    caveats="This is approach 1 of Hoffmann et al. (2022); Porian et al. (2024) also fit this law. The lowest loss "
    "of a sweep is biased low, because the run with the luckiest noise is chosen. Porian et al. (2024) find "
    "exponents from .86 to .50, depending on how FLOPs are counted and on warm-up, decay and tuning. Do not pool "
    "families that differ in these.",
    equation="approach 1",
    response="best number of parameters",
    describes="quantity",
    inputs=("flops",),
    published={
        "porian2024_tuned": paper(
            cite="porian2024resolving", note="RefinedWeb, tuned, constant rate", A=0.1189, c=0.4969
        ),
        "gemstones2025": paper(cite="mcleish2025gemstones", note="with embeddings", A=exp(-2.8451), c=0.49938),
    },
)


# --- Floors and ceilings -----------------------------------------------------------------------------------


@register_law(
    inputs=("x",),
    cite="alabdulmohsin2022revisiting",
    equation="M2",
    priors={"terms": Shares(("E", "A")), "falls": Fall(("c",))},
    units={"A": ("x", "c")},
    decreasing=("x",),
    floor="E",
    aliases={"alabdulmohsin_m2": "alabdulmohsin2022revisiting", "click_through": "lai2025exploring"},
    nicknames=("power law with a floor", "offset power law"),
)
def saturating_power(x: Any, *, E: Any, A: Any, c: Any) -> Any:
    """Power law that approaches a floor: E + A x^-c.

    The floor is E.
    """
    return E + A * x**-c


@register_law(
    inputs=("x",),
    cite="alabdulmohsin2022revisiting",
    equation="M4 with a = 1",
    form="recalled",
    priors={"terms": Plateaus(("E", "A", "g")), "falls": Fall(("c",))},
    units={"A": ("x", "c"), "g": ("x", "c")},
    decreasing=("x",),
    floor="E",
)
def plateau_power(x: Any, *, E: Any, A: Any, g: Any, c: Any) -> Any:
    """Power law between a plateau E + A / g at small x and a floor E at large x: E + A / (g + x^c).

    With g = 0 it is `saturating_power`. It is the default law for one input.
    """
    return E + A / (g + raised(x, c))


@register_law(
    inputs=("x",),
    cite="alabdulmohsin2022revisiting",
    equation="M3",
    priors={"A": Level(), "g": Positive(1.0, 1.7), "falls": Fall(("c",))},
    units={"A": ("x", "c"), "g": ("x", -1.0)},
    decreasing=("x",),
    form="recalled",
    aliases={"alabdulmohsin_m3": "alabdulmohsin2022revisiting"},
)
def shifted_power(x: Any, *, A: Any, g: Any, c: Any) -> Any:
    """Shifted power law, which becomes flat above x of about 1/g: A (1/x + g)^c."""
    return A * (1.0 / x + g) ** c


@register_law(
    inputs=("x",),
    cite="hestness2017deep",
    equation="its three regions",
    priors={"terms": Shares(("E", "A")), "b": Break(("b",), mean=-0.3), "c": Slope()},
    units={"b": ("x", 1.0)},
    decreasing=("x",),
    floor="E",
    form="ours",
)
def bounded_power(x: Any, *, E: Any, A: Any, b: Any, c: Any) -> Any:
    """Power law between a plateau E + A at small x and a floor E at large x: E + A (1 + x/b)^-c.

    Hestness et al. (2017) distinguish three regions of the error by the number of examples m. They fit only the middle
    region, with a m^b + g. This law is one smooth curve through all three regions, so you need not choose their
    borders. The exponents of single domains in Hestness et al. (2017) could not be verified.
    """
    return E + A * break_factor(x, b, 1.0, c)


variant(
    "bounded_power",
    name="hestness",
    summary="Error by the number m of training examples, between a plateau and a floor: E + A (1 + m/b)^-c.",
    cite="hestness2017deep",
    caveats="The plateau at small m is E + A, and the floor is E.",
    response="error",
    inputs=("n_samples",),
)
variant(
    "bounded_power",
    name="vision_language_frontier",
    summary="Lowest error of vision-language models at a compute C: E + A (1 + C/b)^-c.",
    cite="nezhurina2025vision",
    caveats="Nezhurina et al. (2025) write a (C + b)^-c + d, so E = d and A = a b^-c. The lowest error is a minimum "
    "over hyper-parameters, so it is biased low. The constants could not be found.",
    equation="saturation on both sides",
    response="error",
    form="paper",
    inputs=("flops",),
)


@register_law(
    inputs=("x",),
    cite="alabdulmohsin2022revisiting",
    equation="M4",
    priors={"terms": Shares(("E", "H")), "a": Positive(1.0, 0.5), "B": Positive(1.0, 1.5), "c": Slope(1.0)},
    units={"B": ("x", "c")},
    decreasing=("x",),
    floor="E",
    form="recalled",
    aliases={"alabdulmohsin_m4": "alabdulmohsin2022revisiting"},
)
def two_sided_power(x: Any, *, E: Any, H: Any, a: Any, B: Any, c: Any) -> Any:
    """Power law between a ceiling E + H and a floor E: E + H u, where u solves u (1 - u)^-a = B x^-c.

    With a = 0 it is a power law with a floor, and with a = 1 a logistic curve in ln x. Alabdulmohsin et al. (2022)
    write eps_inf = E, eps_0 = E + H and b = B H^(1-a).
    """
    target = jnp.log(B) - c * jnp.log(x)
    # In terms of the logit s of u, the left side is a straight line at both ends, with slopes 1 and a.
    start = jnp.where(target < 0, target, target / a)
    return E + H * sigmoid(root(lambda s: s + (a - 1.0) * softplus(s) - target, start))


# --- Known exponents ---------------------------------------------------------------------------------------


@register_law(
    inputs=("x",),
    cite="bahri2021explaining",
    priors={"terms": Shares(("E", "A"))},
    units={"A": ("x", 1.0)},
    decreasing=("x",),
    floor="E",
    form="recalled",
)
def variance_limited(x: Any, *, E: Any, A: Any) -> Any:
    """Power law with exponent 1: E + A / x, by data at fixed width or by width at fixed data.

    Bahri et al. (2021) call this the variance-limited regime.
    """
    return E + A / x


variant(
    "saturating_power",
    name="resolution_limited",
    summary="Power law with a floor on a smooth data manifold of dimension d: E + A x^-c with c of about 4/d.",
    cite="bahri2021explaining",
    caveats="Bahri et al. (2021) call this the resolution-limited regime. The relation c = 4/d was not checked "
    "against their paper. It is used only for the prior of c, with d of about 10. Sharma and Kaplan (2020) state "
    "it for parameters.",
    form="recalled",
    priors={"c": Exponent(0.4, 0.7)},
)
variant(
    "saturating_power",
    name="superposition",
    summary="Loss by model width m if several features share a dimension: E + A m^-c with c near 1.",
    cite="liu2025superposition",
    caveats="Liu et al. (2025) find the same A and c for four model classes and four corpora. Only E differs, "
    "because it contains the effect of the tokenizer.",
    inputs=("width",),
    priors={"c": Exponent(1.0, 0.2)},
    published={"liu2025_opt": paper(note="OPT on the first corpus", E=2.2074, A=476.08, c=0.9098)},
)
variant(
    "saturating_power",
    name="patchification",
    summary="Loss by the number x of patches into which an image is cut: E + A x^-c.",
    cite="wang2025patchification",
    caveats="Wang et al. (2025) show that smaller patches help down to one pixel. No equation of their paper could "
    "be verified.",
    form="ours",
    inputs=("n_tokens",),
    counting={"n_tokens": "patches of one image"},
)
variant(
    "saturating_power",
    name="bit_level",
    nicknames=("bit-level scaling law",),
    summary="Loss by the bits of the model (parameters times bits per parameter): E + A x^-c.",
    cite="ding2025dissecting",
    caveats="Fit each number format separately, and compare the posteriors. Ding et al. (2025) compare number "
    "formats of vision models at equal bits, and fit no such curve.",
    form="ours",
    inputs=("model_bits",),
)


# --- Henighan's domains ------------------------------------------------------------------------------------

HENIGHAN = {
    "language": ((0.0, 1.47e14, 0.070), (0.0, 3.47e8, 0.048), (3.3e-13, 0.73)),
    "image_8": ((3.12, 80.0, 0.24), (3.13, 1.8e-8, 0.19), (5.3e-14, 0.64)),
    "image_16": ((2.64, 280.0, 0.22), (2.64, 1.6e-8, 0.16), (4.8e-12, 0.75)),
    "image_32": ((2.20, 63.0, 0.13), (2.21, 3.6e-9, 0.10), (1.6e-13, 0.65)),
    "image_vq16": ((3.99, 2.7e4, 0.13), (4.09, 6.1e-7, 0.11), (6.2e-14, 0.64)),
    "image_vq32": ((3.07, 1.9e4, 0.14), (3.17, 2.6e-6, 0.12), (9.4e-13, 0.70)),
    "text_to_image": ((2.0, 5.1e3, 0.16), (1.93, 1.5e-6, 0.15), (9.4e-13, 0.70)),
    "image_to_text": ((2.0, 5.5e3, 0.15), (1.97, 1.5e-6, 0.16), (3.3e-12, 0.72)),
    "video_vq": ((1.01, 3.7e4, 0.24), (0.95, 2.2e-5, 0.14), (1.13e-12, 0.71)),
    "math": ((0.28, 1.1e4, 0.16), (0.14, 1.4e-5, 0.17), (2.3e-12, 0.69)),
}
"""By domain: floor, scale and exponent of L(N) and of L(C), and scale and exponent of the best N; C in PF-days."""

variant(
    "saturating_power",
    name="henighan_params",
    summary="Loss by parameters N in ten domains: E + A N^-c.",
    cite="henighan2020scaling",
    caveats="Henighan et al. (2020) write L_inf + (N_0 / N)^a, so E = L_inf, A = N_0^a and c = a. They draw the "
    "curve as a lower bound of the runs; it is not a regression. The loss of a multimodal model is the sum of "
    "the image loss and the text loss, weighted 9 : 1.",
    equation="table 1",
    inputs=("n_params",),
    counting={"n_params": "without embeddings"},
    published={key: paper(E=floor, A=scale**a, c=a) for key, ((floor, scale, a), _, _) in HENIGHAN.items()},
)
variant(
    "saturating_power",
    name="henighan_compute",
    summary="Loss by compute C in ten domains: E + A C^-c.",
    cite="henighan2020scaling",
    caveats="Henighan et al. (2020) write L_inf + (C_0 / C)^a, so E = L_inf, A = C_0^a and c = a. They draw the "
    "curve as a lower bound of the runs; it is not a regression. The loss of a multimodal model is the sum of "
    "the image loss and the text loss, weighted 9 : 1.",
    equation="table 1",
    inputs=("flops",),
    published={
        key: paper(E=floor, A=(scale * PF_DAY) ** a, c=a) for key, (_, (floor, scale, a), _) in HENIGHAN.items()
    },
)
variant(
    "growing_power",
    name="henighan_optimum",
    summary="Best number of parameters by compute C in ten domains: A C^c.",
    cite="henighan2020scaling",
    caveats="Henighan et al. (2020) write (C / C_N)^b, so A = C_N^-b and c = b. All ten published exponents lie "
    "between .64 and .75.",
    equation="table 1",
    response="best number of parameters, without embeddings",
    describes="quantity",
    inputs=("flops",),
    priors={"c": Exponent(0.7, 0.1)},
    published={key: paper(A=(scale * PF_DAY) ** -b, c=b) for key, (_, _, (scale, b)) in HENIGHAN.items()},
)


# --- Broken power laws -------------------------------------------------------------------------------------

TURNS = {"c1": Turn(), "f1": Positive(0.3, 0.5)}


@register_law(
    inputs=("x",),
    cite="caballero2022broken",
    equation="n = 1",
    priors={"terms": Shares(("a", "b")), "c0": Slope(), "places": Break(("d1",)), **TURNS},
    units={"b": ("x", "c0"), "d1": ("x", 1.0)},
    floor="a",
    nicknames=("BNSL", "broken neural scaling law"),
)
def broken_1(x: Any, *, a: Any, b: Any, c0: Any, d1: Any, c1: Any, f1: Any) -> Any:
    """Smoothly broken power law with one break: a + b x^-c0 (1 + (x/d1)^(1/f1))^(-c1 f1).

    The exponent is c0 far below the break d1 and c0 + c1 far above it. A small f1 makes the break sharp. If d1 lies
    outside the data, its posterior is its prior. The law needs dozens of runs: in a simulation with ten runs, 13 of 40
    fits converged.
    """
    return a + b * x**-c0 * break_factor(x, d1, f1, c1)


TURNS = {**TURNS, "c2": Turn(), "f2": Positive(0.3, 0.5)}


@register_law(
    inputs=("x",),
    cite="caballero2022broken",
    equation="n = 2",
    priors={"terms": Shares(("a", "b")), "c0": Slope(), "places": Break(("d1", "d2"), -0.15, 0.3), **TURNS},
    units={"b": ("x", "c0"), "d1": ("x", 1.0), "d2": ("x", 1.0)},
    floor="a",
    nests={"broken_1": {"c2": 0.0}},
    nicknames=("BNSL", "broken neural scaling law"),
)
def broken_2(x: Any, *, a: Any, b: Any, c0: Any, d1: Any, c1: Any, f1: Any, d2: Any, c2: Any, f2: Any) -> Any:
    """Smoothly broken power law with two breaks d1 < d2, each with a factor as in `broken_1`.

    The law is a + b x^-c0 times (1 + (x/d)^(1/f))^(-c f) for each break, with (d, c, f) = (d1, c1, f1) and (d2, c2,
    f2).
    """
    return a + b * x**-c0 * break_factor(x, d1, f1, c1) * break_factor(x, d2, f2, c2)


TURNS = {**TURNS, "c3": Turn(), "f3": Positive(0.3, 0.5)}


@register_law(
    inputs=("x",),
    cite="caballero2022broken",
    equation="n = 3",
    priors={"terms": Shares(("a", "b")), "c0": Slope(), "places": Break(("d1", "d2", "d3"), -0.3, 0.25), **TURNS},
    units={"b": ("x", "c0"), "d1": ("x", 1.0), "d2": ("x", 1.0), "d3": ("x", 1.0)},
    floor="a",
    nests={"broken_2": {"c3": 0.0}},
    nicknames=("BNSL", "broken neural scaling law"),
)
def broken_3(
    x: Any, *, a: Any, b: Any, c0: Any, d1: Any, c1: Any, f1: Any, d2: Any, c2: Any, f2: Any, d3: Any, c3: Any, f3: Any
) -> Any:
    """Smoothly broken power law with three breaks d1 < d2 < d3, each with a factor as in `broken_1`.

    The law is a + b x^-c0 times (1 + (x/d)^(1/f))^(-c f) for each break, with (d, c, f) = (d1, c1, f1), (d2, c2, f2)
    and (d3, c3, f3).
    """
    bends = break_factor(x, d1, f1, c1) * break_factor(x, d2, f2, c2) * break_factor(x, d3, f3, c3)
    return a + b * x**-c0 * bends


for number in (1, 2, 3):
    alias(f"bnsl_{number}", f"broken_{number}", "caballero2022broken")
