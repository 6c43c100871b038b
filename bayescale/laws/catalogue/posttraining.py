"""Laws of post-training: reinforcement learning, rewards, fine-tuning on several domains, languages."""

from __future__ import annotations

from math import log
from typing import Any

import jax.numpy as jnp

from bayescale.laws.catalogue.downstream import ODDS
from bayescale.laws.priors import Exponent, Fixed, Fraction, Level, Positive, Real, Shares
from bayescale.laws.registry import register_law, variant
from bayescale.laws.shapes import raised

# --- Reinforcement learning --------------------------------------------------------------------------------

variant(
    "saturating_power",
    name="scale_rl",
    section="posttraining",
    summary="Pass rate by hours C of reinforcement learning, logistic up to a ceiling: odds against E + A C^-c.",
    cite="khatri2025scalerl",
    caveats="Khatri et al. (2025) write the pass rate as R0 + (A' - R0) / (1 + (m / C)^B), where R0 is its value "
    "before training. Pass chance=R0 when you read the data. Then c = B, A = m^B (1 + E), and the ceiling is A' "
    "= R0 + (1 - R0) / (1 + E). Runs before the bend of the curve contain little information about the ceiling. "
    "Khatri et al. (2025) leave out the first 1,500 hours.",
    form="secondary",
    inputs=("accelerator_hours",),
    nicknames=("ScaleRL", "reinforcement learning"),
    **ODDS,
)


@register_law(
    inputs=("n_params", "flops"),
    cite="tan2025rl",
    priors={
        **{"A": Level(), "e": Exponent(0.15, 0.7), "K": Exponent(0.15, 0.4)},
        **{"N0": Positive(1.0, 1.0), "X0": Fixed(1.0)},
    },
    units={"A": ("n_params", "e"), "N0": ("n_params", 1.0), "X0": ("flops", 1.0)},
    decreasing=("flops",),
    response="error rate on held-out problems",
    nicknames=("GRPO", "reinforcement learning"),
)
def rl_compute(N: Any, X: Any, *, A: Any, e: Any, K: Any, N0: Any, X0: Any) -> Any:
    """Error after reinforcement learning by parameters N and compute X: A N^-e (X / X0)^-k(N), k(N) = K / (1 + N0 / N).

    Tan et al. (2025) write ln L = -k(N) ln X + E(N) with a free E for each size. Here E is linear in ln N. X0 is the
    geometric mean of X over the data. The published K and N0 differ by 12 to 60 % between two ways of fitting: for base
    models they are .135 and 13.1e9 if fitted within runs, and .152 and 17.4e9 if fitted between sizes.
    """
    return A * raised(N, -e) * raised(X / X0, -K / (1.0 + N0 / N))


variant(
    "rl_compute",
    name="rl_data",
    summary="Error after reinforcement learning by parameters N and examples X: A N^-e (X / X0)^-k(N), k(N) = K / (1 "
    "+ N0 / N).",
    cite="tan2025rl",
    caveats="X0 is the geometric mean of X over the data. For base models Tan et al. (2025) publish a K of .135 and "
    "an N0 of 11.5e9 fitted within runs, and .163 and 17.0e9 fitted between sizes.",
    inputs=("n_params", "n_samples"),
    counting={"n_samples": "different problems"},
    nicknames=("GRPO", "reinforcement learning"),
)


@register_law(
    inputs=("n_params", "n_samples"),
    cite="tan2025rl",
    equation="appendix D",
    priors={
        **{"terms": Shares(("E", "A", "H")), "alpha": Exponent(0.3, 0.5), "l": Real(0.2, 0.2)},
        **{"b": Positive(1.0, 1.0), "beta": Exponent(1.0, 0.5)},
    },
    units={"A": ("n_params", "alpha"), "H": ("n_params", "-l"), "b": ("n_samples", 1.0)},
    decreasing=("n_samples",),
    response="error rate on held-out problems",
    nicknames=("reinforcement learning",),
)
def rl_logistic(N: Any, X: Any, *, E: Any, A: Any, alpha: Any, H: Any, l: Any, b: Any, beta: Any) -> Any:  # noqa: E741
    """Error after reinforcement learning, logistic in ln X: E + A N^-alpha + H N^l / (1 + (X/b)^beta).

    In Tan et al. (2025) each size has its own height and position of the decrease. Here the height grows as N^l, and
    the position b is the same for all sizes. In the middle of the decrease the curve is similar to `rl_data`.
    """
    return E + A * raised(N, -alpha) + H * raised(N, l) / (1.0 + raised(X / b, beta))


# --- Rewards -----------------------------------------------------------------------------------------------

REWARD: dict[str, Any] = {
    "cite": "gao2022overoptimization",
    "response": "e to minus the gold reward",
    "describes": "quantity",
    "nicknames": ("reward hacking", "overoptimisation", "Goodhart"),
}


@register_law(
    inputs=("root_kl",),
    priors={"F": Level(), "alpha": Positive(1.0, 0.7), "beta": Positive(0.3, 0.7)},
    units={"alpha": ("root_kl", -1.0), "beta": ("root_kl", -2.0)},
    **REWARD,
)
def reward_best_of_n(d: Any, *, F: Any, alpha: Any, beta: Any) -> Any:
    """Exponential of minus the gold reward R of the best of n answers: F e^-R with R = d (alpha - beta d).

    d is the square root of the KL divergence; for the best of n answers d^2 = ln n - (n - 1) / n. The response is
    e^-reward, because the reward may be negative and higher rewards are better. R has its maximum at d = alpha / (2
    beta). F shifts the zero of the reward.
    """
    return F * jnp.exp(-d * (alpha - beta * d))


@register_law(
    inputs=("root_kl",),
    priors={"F": Level(), "alpha": Positive(1.0, 0.7), "beta": Positive(0.4, 0.7)},
    units=lambda c, ref: {
        "alpha": (c["alpha"] + c["beta"] * log(ref["root_kl"])) / ref["root_kl"],
        "beta": c["beta"] / ref["root_kl"],
    },
    **REWARD,
)
def reward_policy(d: Any, *, F: Any, alpha: Any, beta: Any) -> Any:
    """Exponential of minus the gold reward R of a trained policy: F e^-R with R = d (alpha - beta ln d).

    d is the square root of the KL divergence. The response is e^-reward, because the reward may be negative and higher
    rewards are better. R has its maximum, beta d, at d = e^(alpha / beta - 1). The law is inaccurate near d = 0. Gao et
    al. (2022) show coefficients only in figures.
    """
    return F * jnp.exp(-d * (alpha - beta * jnp.log(d)))


variant(
    "reward_policy",
    name="win_rate_policy",
    summary="Win rate of a directly aligned policy: odds against winning F e^(-d (alpha - beta ln d)).",
    cite="rafailov2024scaling",
    caveats="d is the square root of the KL divergence. F is the odds against winning at d = 0, without training: "
    "about 1 against the reference answers. Rafailov et al. (2024) fit this form to the win rate itself, and "
    "show coefficients only in figures.",
    form="ours",
    nicknames=("DPO", "direct alignment", "overoptimisation"),
    response="odds against winning",
    describes="odds",
)


@register_law(
    inputs=("root_kl", "n_params"),
    priors={
        **{"F": Level(), "alpha": Real(1.0, 0.7), "a": Real(0.1, 0.1)},
        **{"beta": Positive(0.4, 0.7), "d0": Fixed(1.0), "N0": Fixed(1.0)},
    },
    units={
        **{"alpha": ("root_kl", -1.0), "a": ("root_kl", -1.0), "beta": ("root_kl", -1.0)},
        **{"d0": ("root_kl", 1.0), "N0": ("n_params", 1.0)},
    },
    counting={"n_params": "of the reward model"},
    form="secondary",
    **REWARD,
)
def reward_by_size(d: Any, N: Any, *, F: Any, alpha: Any, a: Any, beta: Any, d0: Any, N0: Any) -> Any:
    """Exponential of minus the gold reward by size of the reward model: F e^(-d (alpha + a ln(N/N0) - beta ln(d/d0))).

    d is the square root of the KL divergence; d0 and N0 are the geometric means over the data. In Gao et al. (2022)
    both coefficients are about linear in ln N; here only alpha is.
    """
    return F * jnp.exp(-d * (alpha + a * jnp.log(N / N0) - beta * jnp.log(d / d0)))


# --- Fine-tuning and languages -----------------------------------------------------------------------------


@register_law(
    inputs=("n_samples", "share"),
    cite="dong2023abilities",
    priors={"terms": Shares(("E", "A")), "t": Fraction(-1.5, 1.2), "c": Exponent(0.35, 0.5)},
    units={"A": ("n_samples", "c")},
    scales={"share": ""},
    decreasing=("n_samples",),
    floor="E",
    form="ours",
    nicknames=("SFT", "supervised fine-tuning", "data composition"),
)
def finetune_mixture(n: Any, share: Any, *, E: Any, A: Any, t: Any, c: Any) -> Any:
    """Loss after fine-tuning on n examples, a fraction share from its domain: E + A (n (share + t (1 - share)))^-c.

    An example of another domain counts as t examples of the domain of the loss. The law does not describe abilities
    that become worse with examples of other domains. Dong et al. (2023) report trends and give no equation.
    """
    return E + A * raised(n * (share + t * (1.0 - share)), -c)


@register_law(
    inputs=("n_languages",),
    cite="yang2025parallel",
    priors={"A": Level(), "b": Exponent(0.3, 0.6), "gap": Fraction(-1.0, 1.0)},
    scales={"n_languages": ""},
    units=lambda constants, ref: {},
    response="transfer index",
    describes="quantity",
    nicknames=("parallel scaling law", "cross-lingual transfer", "first-parallel leap"),
)
def parallel_languages(n: Any, *, A: Any, b: Any, gap: Any) -> Any:
    """Transfer between languages by the number n of training languages: A n^b, and (1 - gap) A for n = 1.

    A single language lies below the power law by the fraction gap, so the second language adds more than the power law
    predicts. The exponents of Yang et al. (2025) could not be verified. In their experiments the amount of data grows
    with the number of languages.
    """
    return A * raised(n, b) * jnp.where(n < 1.5, 1.0 - gap, 1.0)
