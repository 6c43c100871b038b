"""Laws of parameters together with tokens, steps, compute or shape."""

from __future__ import annotations

from math import exp, log
from typing import Any

import jax.numpy as jnp

from bayescale.laws.priors import Exponent, Fall, Fixed, Fraction, Outer, Positive, Real, Shares
from bayescale.laws.published import paper, refit, secondary
from bayescale.laws.registry import register_law
from bayescale.laws.shapes import raised, root, with_embeddings

ND = ("n_params", "n_tokens")
WITHOUT = {"n_params": "without embeddings"}
BESIROGLU = {"E": 1.81686, "A": 482.00572, "alpha": 0.34781, "B": 2085.4342, "beta": 0.36585}
GEMSTONES = {"E": exp(0.76632), "A": exp(5.4575), "alpha": 0.29892, "B": exp(14.9720), "beta": 0.69283}


# --- Chinchilla's sum --------------------------------------------------------------------------------------


@register_law(
    inputs=ND,
    cite="hoffmann2022training",
    equation="eq. 10",
    priors={"terms": Shares(("E", "A", "B")), "alpha": Exponent(0.35), "beta": Exponent(0.35)},
    units={"A": ("n_params", "alpha"), "B": ("n_tokens", "beta")},
    decreasing=ND,
    floor="E",
    counting={"n_params": "with embeddings"},
    published={
        "hoffmann2022": paper(E=1.69, A=406.4, alpha=0.34, B=410.7, beta=0.28),
        "hoffmann2022_unrounded": paper(E=1.693374, A=406.401, alpha=0.33917084, B=410.723, beta=0.2849083),
        "besiroglu2024": paper(cite="besiroglu2024chinchilla", **BESIROGLU),
        "gemstones2025": paper(cite="mcleish2025gemstones", note="all checkpoints", **GEMSTONES),
        "krajewski2024_dense": paper(
            cite="krajewski2024scaling", note="dense", E=0.47, A=16.3, alpha=0.126, B=26.7, beta=0.127
        ),
    },
    nicknames=("Chinchilla approach 3", "Chinchilla scaling law"),
)
def chinchilla(N: Any, D: Any, *, E: Any, A: Any, alpha: Any, B: Any, beta: Any) -> Any:
    """Sum of a floor and one power law each in parameters N and tokens D: E + A N^-alpha + B D^-beta.

    Hoffmann et al. (2022) print rounded exponents. Rounding alone changes the best number of tokens per parameter at
    the compute of their largest model from 59 to 93; the replication by Besiroglu et al. (2024) gives 18. Exponents
    differ more between experimental designs (McLeish et al. 2025) than the interval of one fit shows.
    """
    return E + A * N**-alpha + B * D**-beta


@register_law(
    inputs=ND,
    cite="skaling2026",
    equation="joint form",
    priors={
        "k": Outer(),
        "terms": Shares(("E", "A", "B"), outer="k"),
        "falls": Fall(("alpha", "beta"), median=0.5),
    },
    units={"A": ("n_params", "alpha"), "B": ("n_tokens", "beta")},
    decreasing=ND,
    floor="E",
    form="secondary",
    nests={"chinchilla": {"k": 1.0}},
    aliases={"skaling": "skaling2026", "distillation_supervised": "busbridge2025distillation"},
    published={
        "busbridge2025": secondary(
            cite="busbridge2025distillation", E=1.220, A=3355.0, alpha=0.408, B=18186.0, beta=0.431, k=0.452
        ),
    },
    nicknames=("Skaling",),
)
def chinchilla_outer(N: Any, D: Any, *, E: Any, A: Any, alpha: Any, B: Any, beta: Any, k: Any) -> Any:
    """Floor plus an outer power of Chinchilla's two power laws: E + (A N^-alpha + B D^-beta)^k.

    With k = 1 it is `chinchilla`. With k < 1, more tokens reduce the loss more for larger models. The best split of a
    compute budget between N and D does not depend on k. It is the default law for two inputs.
    """
    return E + raised(A * raised(N, -alpha) + B * raised(D, -beta), k)


@register_law(
    inputs=("n_params", "n_tokens", "unique_tokens"),
    cite="skaling2026",
    equation="joint form, with one more term",
    priors={
        "k": Outer(),
        "terms": Shares(("E", "A", "B", "C"), outer="k"),
        "falls": Fall(("alpha", "beta", "gamma"), median=0.5),
    },
    units={"A": ("n_params", "alpha"), "B": ("n_tokens", "beta"), "C": ("unique_tokens", "gamma")},
    decreasing=("n_params", "n_tokens", "unique_tokens"),
    floor="E",
    form="ours",
    nicknames=("Skaling",),
)
def three_input_outer(
    N: Any, D: Any, U: Any, *, E: Any, A: Any, alpha: Any, B: Any, beta: Any, C: Any, gamma: Any, k: Any
) -> Any:
    """Floor plus an outer power of three power laws: E + (A N^-alpha + B D^-beta + C U^-gamma)^k.

    It is the default law for any three inputs. In some draws from the prior with a high floor, the curve is extremely
    steep below the middle of the data. Data that show how the loss decreases exclude such curves.
    """
    return E + raised(A * raised(N, -alpha) + B * raised(D, -beta) + C * raised(U, -gamma), k)


@register_law(
    inputs=ND,
    cite="pearce2024reconciling",
    priors={
        **{"terms": Shares(("E", "A", "B")), "alpha": Exponent(0.35), "beta": Exponent(0.35)},
        "g": Positive(0.3, 1.5),
    },
    units={"A": ("n_params", "alpha"), "B": ("n_tokens", "beta"), "g": ("n_params", 2.0 / 3.0)},
    decreasing=ND,
    floor="E",
    counting=WITHOUT,
    nests={"chinchilla": {"g": 0.0}},
    published={
        "pearce2024": paper(
            note="g is from the paper (vocabulary of 32k tokens); the other constants are from besiroglu2024chinchilla",
            **BESIROGLU,
            g=47491.0,
        ),
    },
)
def pearce_song(N: Any, D: Any, *, E: Any, A: Any, alpha: Any, B: Any, beta: Any, g: Any) -> Any:
    """Chinchilla's law for N parameters without embeddings: E + A (N + g N^(1/3))^-alpha + B D^-beta.

    The term g N^(1/3) is the number of embedding parameters. The law explains why Kaplan et al. (2020) found a larger
    exponent for the best N: with the constants `pearce2024` and compute 6 N D, the best N grows as a power of compute
    with local exponent .85 at 1e7 parameters, .57 at 2e8 and .52 at 3e9.
    """
    return E + A * with_embeddings(N, g) ** -alpha + B * D**-beta


@register_law(
    inputs=ND,
    cite="li2025farseer",
    priors={
        "terms": Shares(("E", "A")),
        "c": Exponent(0.35, 0.4),
        **{name: Real(mean, sd) for name, mean, sd in (("a1", 0.0, 0.15), ("a2", -0.4, 0.3), ("a3", -0.4, 0.3))},
        **{name: Positive(0.3, 0.3) for name in ("p1", "p2", "p3")},
        "D0": Fixed(1.0),
    },
    units=lambda c, ref: {
        **{f"a{i}": c[f"a{i}"] * ref["n_params"] ** -c[f"p{i}"] for i in (1, 2, 3)},
        "D0": c["D0"] * ref["n_tokens"],
    },
    response="loss, bits per character in the paper",
    form="secondary",
    counting=WITHOUT,
)
def farseer(N: Any, D: Any, *, E: Any, a3: Any, p3: Any, A: Any, a2: Any, p2: Any, c: Any, a1: Any, p1: Any, D0: Any):
    """Floor, amplitude and exponent that depend on N: E e^(a3 N^p3) + A e^(a2 N^p2) (D/D0)^(-c e^(a1 N^p1)).

    Li et al. (2025) have D0 = 1 and write E, A and c as exponentials. Here D0 is the geometric mean of D over the data,
    where the data determine A well. The constants of Li et al. (2025) could not be verified.
    """
    exponent = c * jnp.exp(a1 * N**p1)
    return E * jnp.exp(a3 * N**p3) + A * jnp.exp(a2 * N**p2 - exponent * jnp.log(D / D0))


# --- Kaplan's joint laws -----------------------------------------------------------------------------------


@register_law(
    inputs=ND,
    cite="kaplan2020scaling",
    equation="table 2",
    priors={
        "terms": Shares(("A", "B"), outer="a_D", floor=False),
        "a_N": Exponent(0.08, 0.5),
        "a_D": Exponent(0.1, 0.5),
    },
    units=lambda c, ref: {
        "A": c["A"] * ref["n_params"] ** (c["a_N"] / c["a_D"]),
        "B": c["B"] * ref["n_tokens"],
    },
    decreasing=ND,
    counting=WITHOUT,
    published={"kaplan2020": paper(A=6.4e13 ** (0.076 / 0.103), a_N=0.076, B=1.8e13, a_D=0.103)},
)
def kaplan_joint(N: Any, D: Any, *, A: Any, a_N: Any, B: Any, a_D: Any) -> Any:
    """Loss by parameters and tokens, without a floor: (A N^(-a_N/a_D) + B / D)^a_D.

    Kaplan et al. (2020) write [(N_c/N)^(a_N/a_D) + D_c/D]^a_D, so A = N_c^(a_N/a_D) and B = D_c. Their constants differ
    from those of their laws of one input. Their fit leaves out the runs on 1/1024 of the data.
    """
    return (A * N ** (-a_N / a_D) + B / D) ** a_D


@register_law(
    inputs=("n_params", "n_steps"),
    cite="kaplan2020scaling",
    equation="table 3",
    priors={"terms": Shares(("A", "B"), floor=False), "a_N": Exponent(0.08, 0.5), "a_S": Exponent(0.7, 0.3)},
    units={"A": ("n_params", "a_N"), "B": ("n_steps", "a_S")},
    decreasing=("n_params", "n_steps"),
    counting={**WITHOUT, "n_steps": "at a batch far above the critical one, S_min"},
    published={"kaplan2020": paper(A=6.5e13**0.077, a_N=0.077, B=2.1e3**0.76, a_S=0.76)},
)
def kaplan_steps(N: Any, S: Any, *, A: Any, a_N: Any, B: Any, a_S: Any) -> Any:
    """Loss by parameters and optimiser steps at a large batch, without a floor: A N^-a_N + B S_min^-a_S.

    Kaplan et al. (2020) write (N_c/N)^a_N + (S_c/S_min)^a_S, so A = N_c^a_N and B = S_c^a_S.
    """
    return A * N**-a_N + B * S**-a_S


@register_law(
    inputs=("n_params", "n_steps", "batch_tokens"),
    cite="kaplan2020scaling",
    equation="table 3",
    priors={
        **{"A": Positive(2.5, 0.3), "a_N": Exponent(0.08, 0.5), "B": Positive(0.4, 1.0), "a_S": Exponent(0.7, 0.3)},
        **{"B_star": Positive(2e8, 1.0), "a_B": Exponent(0.2, 0.3)},
    },
    units={"A": ("n_params", "a_N"), "B": ("n_steps", "a_S")},
    scales={"batch_tokens": ""},
    decreasing=("n_params", "n_steps", "batch_tokens"),
    counting=WITHOUT,
    aliases={"unraveling": "su2024unraveling"},
    nests={"kaplan_steps": {"batch_tokens": 1e30}},
    published={"kaplan2020": paper(A=6.5e13**0.077, a_N=0.077, B=2.1e3**0.76, a_S=0.76, B_star=2e8, a_B=0.21)},
)
def kaplan_batch(N: Any, S: Any, batch: Any, *, A: Any, a_N: Any, B: Any, a_S: Any, B_star: Any, a_B: Any) -> Any:
    """Loss L by parameters, steps S and batch, without a floor: A N^-a_N + B (S / (1 + B_crit/batch))^-a_S.

    The critical batch is B_crit = B_star L^(-1/a_B), so the equation is solved for L. Priors assume a loss in nats per
    token.
    """
    size, steps = A * raised(N, -a_N), B * raised(S, -a_S)
    far = jnp.log(B_star / batch)

    def gap(log_loss: Any) -> Any:
        # In logarithms, the slope of the term of steps decreases steadily.
        critical = jnp.exp(far - log_loss / a_B)
        return log_loss - jnp.log(size + steps * raised(1.0 + critical, a_S))

    # The starting point is the larger of the loss at a large batch and the term of steps at a small one, rounded where
    # they are equal.
    large, small = jnp.log(size + steps), (jnp.log(steps) + a_S * far) / (1.0 + a_S / a_B)
    start = 0.5 * (large + small) + jnp.sqrt(0.25 * (large - small) ** 2 + a_B**2)
    return jnp.exp(root(gap, start, 2))


# --- Compute and over-training -----------------------------------------------------------------------------

GADRE = {
    "c4": {"E": 1.50826, "a": 141.28, "b": 189.52, "eta": 0.12124},
    "redpajama": {"E": 1.83665, "a": 212.24, "b": 366.69, "eta": 0.13643},
    "refinedweb": {"E": 1.73446, "a": 157.12, "b": 246.21, "eta": 0.12720},
}
"""Loss on the C4 evaluation set by training set, refitted with the authors' code to their data."""
GADRE_ERRORS = {
    "c4": (0.84974, 2.07891, 0.75612),
    "redpajama": (0.85699, 2.20649, 0.71459),
    "refinedweb": (0.86528, 2.21481, 0.70705),
}
"""Mean error on 17 tasks, eps - k e^(-gamma loss): (eps, k, gamma)."""
CM = ("flops", "tokens_per_param")
CM_UNITS = {
    "a": [("flops", "eta"), ("tokens_per_param", "-eta")],
    "b": [("flops", "eta"), ("tokens_per_param", "eta")],
}


@register_law(
    inputs=CM,
    cite="gadre2024overtraining",
    equation="the authors' code",
    priors={"terms": Shares(("E", "a", "b")), "eta": Exponent(0.13, 0.5)},
    units=CM_UNITS,
    decreasing=("flops",),
    floor="E",
    published={key: refit(**constants) for key, constants in GADRE.items()},
    nicknames=("over-training", "OpenLM"),
)
def gadre(C: Any, M: Any, *, E: Any, a: Any, b: Any, eta: Any) -> Any:
    """Loss by compute C = 6 N D and tokens per parameter M = D / N: E + (a M^eta + b M^-eta) C^-eta.

    It is `chinchilla` with alpha = beta = 2 eta. Gadre et al. (2024) fit these four constants to five runs. A posterior
    from so few runs depends strongly on the prior.
    """
    return E + (a * M**eta + b * M**-eta) * C**-eta


@register_law(
    inputs=CM,
    cite="gadre2024overtraining",
    equation="the authors' code",
    priors={
        **{"E": Positive(1.7, 0.2), "a": Positive(0.5, 0.7), "b": Positive(0.5, 0.7), "eta": Exponent(0.13, 0.5)},
        **{"eps": Fraction(1.8, 0.4), "gamma": Positive(0.8, 0.4), "r": Fraction(1.0, 0.7)},
    },
    units=CM_UNITS,
    decreasing=("flops",),
    response="mean error of downstream tasks",
    describes="quantity",
    published={
        key: refit(**GADRE[key], eps=eps, gamma=gamma, r=log(k / eps) / (gamma * GADRE[key]["E"]))
        for key, (eps, k, gamma) in GADRE_ERRORS.items()
    },
    nicknames=("over-training", "OpenLM"),
)
def gadre_error(C: Any, M: Any, *, E: Any, a: Any, b: Any, eta: Any, eps: Any, gamma: Any, r: Any) -> Any:
    """Mean error of downstream tasks by the loss L of the law `gadre`: eps (1 - e^(gamma (r E - L))).

    L is E + (a M^eta + b M^-eta) C^-eta. Gadre et al. (2024) write eps - k e^(-gamma L), so k = eps e^(gamma r E). The
    error would be 0 at L = r E. The constant r replaces k, because r < 1 keeps errors positive: the loss is always
    above E.
    """
    loss = E + (a * M**eta + b * M**-eta) * C**-eta
    return -eps * jnp.expm1(-gamma * (loss - r * E))


@register_law(
    inputs=("flops", "n_params"),
    cite="hoffmann2022training",
    equation="approach 2, as a model of all its runs",
    priors={
        **{"terms": Shares(("E", "A")), "c": Exponent(0.15, 0.4), "a": Positive(0.5, 0.2)},
        **{"h": Positive(0.02, 0.8), "N0": Positive(1.0, 1.0)},
    },
    units={"A": ("flops", "c"), "N0": [("n_params", 1.0), ("flops", "-a")]},
    floor="E",
    form="ours",
    nicknames=("Chinchilla approach 2", "isoFLOP valleys"),
)
def isoflop(C: Any, N: Any, *, E: Any, A: Any, c: Any, h: Any, N0: Any, a: Any) -> Any:
    """Loss by compute C and parameters N, with a best N for each C: (E + A C^-c) (1 + h ln(N / (N0 C^a))^2).

    The best number of parameters is N0 C^a. Hoffmann et al. (2022) fit a parabola to the runs of each budget instead.
    Such a parabola has a wrong minimum if the losses are asymmetric around it, or if most sizes lie on one side of it.
    """
    return (E + A * C**-c) * (1.0 + h * (jnp.log(N / N0) - a * jnp.log(C)) ** 2)


@register_law(
    inputs=("width", "depth", "n_params", "n_tokens"),
    cite="mcleish2025gemstones",
    priors={
        "terms": Shares(("E", "A", "B", "F", "G")),
        **{"a": Exponent(0.25), "b": Exponent(0.45), "f": Exponent(0.35), "g": Exponent(0.5)},
    },
    units={"A": ("width", "a"), "B": ("depth", "b"), "F": ("n_params", "f"), "G": ("n_tokens", "g")},
    decreasing=("width", "depth", "n_params", "n_tokens"),
    floor="E",
    counting={"n_params": "with embeddings"},
    published={
        "gemstones2025": paper(
            **{"E": exp(0.3966), "A": exp(1.0739), "B": exp(-0.2098), "F": exp(6.2175), "G": exp(10.9040)},
            **{"a": 0.2053, "b": 0.4741, "f": 0.3721, "g": 0.5116},
        ),
    },
    nicknames=("Gemstones",),
)
def gemstones_shape(w: Any, d: Any, N: Any, D: Any, *, E: Any, A: Any, a: Any, B: Any, b: Any, F: Any, f: Any, G, g):
    """Loss by width w, depth d, parameters N and tokens D: E + A w^-a + B d^-b + F N^-f + G D^-g."""
    return E + A * w**-a + B * d**-b + F * N**-f + G * D**-g
