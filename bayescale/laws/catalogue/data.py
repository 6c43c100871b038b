"""Laws of data: repetition, fine-tuning, filtering, mixtures, languages and teachers."""

from __future__ import annotations

from math import exp
from typing import Any

import jax.numpy as jnp

from bayescale.laws.priors import Exponent, Outer, Positive, Real, Shares
from bayescale.laws.published import paper
from bayescale.laws.registry import register_law
from bayescale.laws.shapes import break_factor, exponential_mix, raised, repeats, share_curve

MOST_EPOCHS = 64
"""Number of passes over a bucket that are counted; at a tau of 5, later exponents are below 2e-4 of the first."""


# --- Repetition --------------------------------------------------------------------------------------------


@register_law(
    inputs=("n_params", "n_tokens", "unique_tokens"),
    cite="muennighoff2023scaling",
    equation="the authors' code",
    priors={
        **{"terms": Shares(("E", "A", "B")), "alpha": Exponent(0.35)},
        **{"R_D": Positive(15.0, 0.8), "R_N": Positive(5.0, 0.8)},
    },
    units={"A": ("n_params", "alpha"), "B": ("n_tokens", "alpha")},
    scales={"unique_tokens": "n_tokens"},
    decreasing=("n_tokens",),
    published={
        "muennighoff2023": paper(
            **{"E": exp(0.6254804), "A": exp(6.255414), "B": exp(7.3049974), "alpha": 0.3526596},
            **{"R_D": 15.387756, "R_N": 5.309743},
        ),
    },
    nicknames=("repeated data", "epochs"),
)
def data_constrained(N: Any, D: Any, U: Any, *, E: Any, A: Any, B: Any, alpha: Any, R_D: Any, R_N: Any) -> Any:
    """Loss by parameters N and tokens D, of which U are unique: E + A N'^-alpha + B D'^-alpha.

    D' = U (1 + R_D (1 - e^(-R / R_D))) with R = D / U - 1 repetitions; N' is computed in the same way from N, R_N and
    the number of parameters that U tokens support. After R_D repetitions, a repeated token is worth 1/e of a new token;
    R_D is not a half-life in epochs. In this law more repetitions never increase the loss, but in experiments they
    increase it beyond about 60 epochs. The published E and amplitudes are not valid for other corpora.
    """
    unique = jnp.minimum(U, D)
    ratio = (A / B) ** (1.0 / (2.0 * alpha))
    supported = jnp.minimum(N, unique * ratio**2)
    return E + A * raised(repeats(supported, N, R_N), -alpha) + B * raised(repeats(unique, D, R_D), -alpha)


@register_law(
    inputs=("n_samples", "unique_samples"),
    cite="goyal2024filtering",
    equation="the authors' code",
    priors={"terms": Shares(("d", "a")), "b": Exponent(0.2, 0.6), "tau": Positive(5.0, 1.0)},
    units={"a": ("n_samples", "b")},
    scales={"unique_samples": "n_samples"},
    decreasing=("n_samples",),
    response="error",
    nicknames=("QQT", "data filtering"),
)
def quality_quantity(n: Any, U: Any, *, d: Any, a: Any, b: Any, tau: Any) -> Any:
    """Error by examples seen over epochs j: d + a prod_j (n_j / n_(j-1))^-b_j, with b_j = b 2^(-(j-1)/tau).

    An epoch is one pass over the U unique examples. n_j is the number of examples seen after epoch j, and n_0 = 1.
    Goyal et al. (2024) write a negative b, and count n in units of 1e5 examples. For a mixture of buckets of data, b is
    the mean of the b of the buckets, and tau is multiplied by the number of buckets. In their released code d also
    decays with later epochs; here d is constant.
    """
    finished = jnp.arange(1.0, MOST_EPOCHS)
    passes = jnp.asarray(n / U)[..., None]
    # ln(n_j / n_(j-1)) of each later epoch: 0 before the epoch starts, a part of its value during the epoch.
    growth = jnp.log(jnp.clip(passes, finished, finished + 1.0) / finished)
    worth = 2.0 ** (-finished / jnp.asarray(tau)[..., None])
    return d + a * jnp.exp(-b * (jnp.log(jnp.minimum(n, U)) + (worth * growth).sum(-1)))


# --- Fine-tuning and synthetic data ------------------------------------------------------------------------


@register_law(
    inputs=("n_samples",),
    cite="lin2024selecting",
    priors={"terms": Shares(("E", "B")), "D_l": Positive(1.0, 1.2), "b": Exponent(0.4, 0.5)},
    units={"B": ("n_samples", "b"), "D_l": ("n_samples", "b")},
    decreasing=("n_samples",),
    floor="E",
    aliases={"synthetic_data": "qin2025synthetic"},
    nicknames=("rectified scaling law",),
)
def rectified(D: Any, *, E: Any, B: Any, D_l: Any, b: Any) -> Any:
    """Loss after fine-tuning on D examples, where pre-training is worth D_l: E + B / (D_l + D^b).

    The loss is nearly constant at E + B / D_l until D^b reaches D_l, and then follows a power law. Each task has
    constants of its own.
    """
    return E + B / (D_l + D**b)


# --- Mixtures ----------------------------------------------------------------------------------------------


@register_law(
    inputs=("share_1", "share_2", "share_3"),
    cite="ye2024mixing",
    equation="the authors' code",
    priors={"terms": Shares(("c", "k")), "t1": Real(-1.0, 2.0), "t2": Real(0.0, 2.0)},
    units=lambda constants, ref: {},
    scales={"share_1": "", "share_2": "", "share_3": ""},
    nicknames=("data mixing law",),
)
def mixing_3(r1: Any, r2: Any, r3: Any, *, c: Any, k: Any, t1: Any, t2: Any) -> Any:
    """Loss on one domain by the fractions r of three domains: c + k e^(t1 r1 + t2 r2 + t3 r3), t3 = -t1 - t2.

    The loss is on the domain of `share_1`. The fractions sum to 1, so k and the slopes t are identifiable together only
    if the slopes have a fixed sum, here 0.
    """
    return c + k * exponential_mix((r1, r2, r3), (t1, t2))


@register_law(
    inputs=("share_1", "share_2", "share_3", "share_4", "share_5"),
    cite="ye2024mixing",
    equation="the authors' code",
    priors={
        "terms": Shares(("c", "k")),
        "t1": Real(-1.0, 2.0),
        **{name: Real(0.0, 2.0) for name in ("t2", "t3", "t4")},
    },
    units=lambda constants, ref: {},
    scales={f"share_{i}": "" for i in range(1, 6)},
    published={
        "ye2024_notebook": paper(
            note="the authors' notebook, one domain; .094 was added to each of their slopes so that these sum to 0",
            **{"c": exp(0.975), "k": exp(-2.139 - 0.094), "t1": -9.996, "t2": 2.804, "t3": 2.804, "t4": 2.704},
        ),
    },
    nicknames=("data mixing law",),
)
def mixing_5(r1: Any, r2: Any, r3: Any, r4: Any, r5: Any, *, c: Any, k: Any, t1: Any, t2: Any, t3: Any, t4: Any):
    """Loss on one domain by the fractions r of five domains: c + k e^(t1 r1 + ... + t5 r5), slopes t that sum to 0.

    The loss is on the domain of `share_1`. The last slope is t5 = -t1 - t2 - t3 - t4.
    """
    return c + k * exponential_mix((r1, r2, r3, r4, r5), (t1, t2, t3, t4))


@register_law(
    inputs=("share", "n_tokens"),
    cite="ge2024bimix",
    priors={"terms": Shares(("C", "B")), "a": Exponent(0.1, 0.7), "b": Exponent(0.3, 0.5)},
    units={"C": ("share", "a"), "B": [("share", "a"), ("n_tokens", "b")]},
    decreasing=("share", "n_tokens"),
    nicknames=("data mixing law",),
)
def bimix(r: Any, s: Any, *, C: Any, B: Any, a: Any, b: Any) -> Any:
    """Loss on a domain that has the fraction r of s training tokens: r^-a (B s^-b + C).

    The loss is infinite at r = 0. Ge et al. (2024) have a further amplitude A; it is 1 here, because B and C already
    scale the law. They count s in steps; counting tokens changes only B.
    """
    return r**-a * (B * s**-b + C)


@register_law(
    inputs=("n_params", "share"),
    cite="fernandes2023multilingual",
    equation="eqs. 11 and 12",
    priors={
        **{"terms": Shares(("E", "A")), "alpha": Exponent(0.3)},
        **{"c1": Positive(0.5, 0.8), "c2": Positive(1.0, 0.5), "c3": Positive(1.0, 0.5)},
    },
    units={"A": ("n_params", "alpha")},
    scales={"share": ""},
    decreasing=("n_params",),
    floor="E",
)
def multilingual(N: Any, p: Any, *, E: Any, A: Any, alpha: Any, c1: Any, c2: Any, c3: Any) -> Any:
    """Loss on a language pair with fraction p of the data: E + A (f(p) N)^-alpha, f(p) = p + c1 p^c2 (1-p)^c3.

    The fraction changes only the effective number of parameters f(p) N. At p = 1 the pair is trained alone.
    """
    return E + A * (share_curve(p, c1, c2, c3) * N) ** -alpha


# --- Teachers ----------------------------------------------------------------------------------------------


@register_law(
    inputs=("n_params", "n_tokens", "teacher_loss"),
    cite="busbridge2025distillation",
    equation="eq. 8",
    priors={
        **{"E": Positive(1.2, 0.2), "A": Positive(1.0, 0.6), "B": Positive(1.0, 0.6), "k": Outer(0.5, 0.3)},
        **{"alpha": Exponent(0.4, 0.3), "beta": Exponent(0.4, 0.3)},
        **{"A_s": Positive(0.3, 0.8), "B_s": Positive(0.3, 0.8), "k_s": Outer(0.8, 0.3)},
        **{"alpha_s": Exponent(0.35, 0.4), "beta_s": Exponent(0.5, 0.4)},
        **{"c0": Positive(2.0, 0.4), "d1": Positive(1.3, 0.2), "f1": Positive(0.1, 0.4), "c1f1": Positive(33.0, 0.6)},
    },
    units={
        **{"A": ("n_params", "alpha"), "A_s": ("n_params", "alpha_s")},
        **{"B": ("n_tokens", "beta"), "B_s": ("n_tokens", "beta_s")},
    },
    scales={"teacher_loss": ""},
    form="secondary",
)
def distillation(
    N: Any, D: Any, teacher: Any, *, E, A, B, k, alpha, beta, A_s, B_s, k_s, alpha_s, beta_s, c0, d1, f1, c1f1
) -> Any:
    """Student of a teacher with loss T: T + T^-c0 (1 + (T/(d1 L))^(1/f1))^-c1f1 (A_s N^-alpha_s + B_s D^-beta_s)^k_s.

    L = E + (A N^-alpha + B D^-beta)^k is the student's loss if it is trained without a teacher. Busbridge et al. (2025)
    write c1 f1 for c1f1; data determine this product better than c1. The teacher affects the student only through its
    loss T. As D grows, the loss of the student approaches T. Two of three printed copies of the equation have the outer
    power k_s, and the third does not. Priors assume a loss in nats per token. The constants of the student could not be
    verified.
    """
    alone = E + raised(A * raised(N, -alpha) + B * raised(D, -beta), k)
    gap = raised(teacher, -c0) * break_factor(teacher, d1 * alone, f1, c1f1 / f1)
    return teacher + gap * raised(A_s * raised(N, -alpha_s) + B_s * raised(D, -beta_s), k_s)
