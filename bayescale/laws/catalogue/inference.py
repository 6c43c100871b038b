"""Laws of compute at test time: samples per problem, length of answers, horizons, verifiers and cost."""

from __future__ import annotations

from math import log
from typing import Any

import jax.numpy as jnp

from bayescale.laws.catalogue.downstream import ODDS
from bayescale.laws.priors import Exponent, Fixed, Fraction, Level, Positive, Real, Shares, Slope
from bayescale.laws.published import paper, secondary
from bayescale.laws.registry import register_law, variant
from bayescale.laws.shapes import above_zero, gate, log_gamma_ratio, odds_against, raised

SAMPLES = ("samples_per_problem",)
MONKEYS = {
    "pythia_70m": (8.026, 0.194),
    "pythia_160m": (6.591, 0.280),
    "pythia_410m": (5.524, 0.286),
    "pythia_1b": (5.452, 0.315),
    "pythia_2_8b": (4.104, 0.336),
    "pythia_6_9b": (4.255, 0.348),
    "pythia_12b": (4.113, 0.370),
    "claude_3_5_opus_jailbreak": (2.630, 0.448),
    "claude_3_5_sonnet_jailbreak": (3.436, 0.312),
    "gpt_4o_jailbreak": (3.639, 0.395),
    "gpt_4o_mini_jailbreak": (3.637, 0.492),
    "gemini_1_5_flash_jailbreak": (6.158, 0.303),
    "gemini_1_5_pro_jailbreak": (6.296, 0.256),
}
"""a and b of exp(-a k^-b), by model: Pythia on 128 problems of MATH, and best-of-n jailbreaking of text."""


# --- Repeated samples --------------------------------------------------------------------------------------

variant(
    "gompertz",
    name="coverage_power",
    section="inference",
    summary="Coverage of k samples per problem, exp(-a k^-b): odds against e^(A k^-c) - 1 with A = a and c = b.",
    cite="schaeffer2025monkeys",
    caveats="This is the limit for many samples if many problems have pass rates near zero. If you have counts for "
    "each problem, use `bayescale coverage`, which treats new problems and the problems of the table separately.",
    form="paper",
    equation="tables 1 and 2",
    inputs=SAMPLES,
    published={key: paper(A=a, c=b) for key, (a, b) in MONKEYS.items()},
    nicknames=("pass@k", "large language monkeys", "best-of-n jailbreaking"),
)


@register_law(
    inputs=SAMPLES,
    cite="schaeffer2025monkeys",
    priors={"alpha": Positive(0.3, 0.5), "beta": Positive(3.0, 1.0)},
    scales={"samples_per_problem": ""},
    units=lambda constants, ref: {},
    decreasing=SAMPLES,
    nicknames=("pass@k", "beta-binomial", "large language monkeys"),
    **ODDS,
)
def coverage_beta(k: Any, *, alpha: Any, beta: Any) -> Any:
    """Coverage of k samples if pass rates are Beta(alpha, beta): 1 - B(alpha, beta + k) / B(alpha, beta).

    It is the coverage of new problems of the same kind. For large k a fraction C k^-alpha of them is not solved.
    """
    # Gamma(beta + k) / Gamma(alpha + beta + k), divided by its value at k = 0.
    missed = log_gamma_ratio(beta + k, alpha) - log_gamma_ratio(beta, alpha)
    return 1.0 / jnp.expm1(-missed)


variant(
    "difficulty_cluster",
    name="coverage_ceiling",
    section="inference",
    summary="Coverage of k samples with a ceiling, exp(-a k^-b - c): a fraction 1 - e^-c of problems is never solved.",
    cite="wu2025temperature",
    caveats="The paper finds that sampling at one temperature leaves problems unsolved that other temperatures solve. "
    "The curve was written for this package.",
    form="ours",
    inputs=SAMPLES,
    nicknames=("pass@k", "unsolvable problems", "temperature"),
)


@register_law(
    inputs=SAMPLES,
    cite="wang2025scalingover",
    priors={"F": Fraction(1.0, 1.5), "r": Positive(1.0, 1.2)},
    units={"r": ("samples_per_problem", -1.0)},
    decreasing=SAMPLES,
    form="secondary",
    nicknames=("TTSPM", "test-time scaling plateau", "revision rounds"),
    **ODDS,
)
def attempts_plateau(k: Any, *, F: Any, r: Any) -> Any:
    """Score after k samples or rounds, F (1 - (1 - p)^k): r = -ln(1 - p), and F is the limit for large k.

    All problems that can be solved have the same success rate p. For different rates use `coverage_power`.
    """
    solved = gate(k * r, 1.0)
    return (1.0 - F * solved) / (F * solved)


variant(
    "attempts_plateau",
    name="imperfect_verifier",
    summary="Accuracy of resampling until a verifier accepts, F (1 - "
    "e^-(r k)): a fraction F of accepted answers is correct.",
    cite="stroebl2024flaws",
    caveats="Let p be the rate of correct answers, and t and e the true and false positive rates of the verifier. If p"
    " is the same for all items, Bayes' rule gives 1 - e^-r = p t + (1 - p) e and F = p t / (1 - e^-r). The paper "
    "reports that the best number of samples is often below ten.",
    form="ours",
    nicknames=("resampling", "false positives"),
)
variant(
    "saturating_power",
    name="votes",
    section="inference",
    summary="Accuracy of a majority vote of k answers: odds against E + "
    "A k^-c; E is due to problems that most answers miss.",
    cite="balachandran2025inference",
    caveats="The paper reports averages over repeated calls and gives no equation.",
    form="ours",
    inputs=SAMPLES,
    nicknames=("self-consistency", "majority voting"),
    **ODDS,
)
variant(
    "power",
    name="robot_samples",
    section="inference",
    summary="Error of a robot's action if a verifier chooses among k samples: A k^-c.",
    cite="kwok2025robomonkey",
    caveats="The abstract calls it an exponentiated power law. Constants could not be verified.",
    form="secondary",
    inputs=SAMPLES,
    response="error",
    nicknames=("RoboMonkey",),
)


# --- Length of an answer -----------------------------------------------------------------------------------

variant(
    "power",
    name="thinking_logistic",
    section="inference",
    summary="Accuracy by tokens of thought, linear in their logarithm between chance and ceiling: odds against A x^-c.",
    cite="ballon2025thinks",
    caveats="The law describes token budgets that are imposed on a model. If a model chooses the length itself, long "
    "answers are less accurate; use `thinking_peak`.",
    form="ours",
    inputs=("thinking_tokens",),
    nicknames=("o1", "log-linear", "test-time compute"),
    **ODDS,
)
variant(
    "growing_power",
    name="verifier_gap",
    section="inference",
    summary="Score of verifier-based minus verifier-free training by the token budget H: A H^c with c about one half.",
    cite="setlur2025verification",
    caveats="It is a bound from theory. The response is a difference of scores and must be positive.",
    form="secondary",
    inputs=("thinking_tokens",),
    priors={"c": Exponent(0.5, 0.3)},
    response="lead in score",
)
variant(
    "chinchilla",
    name="video_text",
    section="inference",
    summary="1 - alignment by frames and captions at test time, E + A f^-alpha + B c^-beta; 1 - E is the limit.",
    cite="zhu2025dynamic",
    caveats="The paper writes S - (C_f f^-alpha + C_c c^-beta) for the alignment, S = 1 - E. It chooses the layers "
    "separately for each setting.",
    inputs=("n_frames", "n_captions"),
    form="secondary",
    response="1 - alignment",
    describes="quantity",
    published={
        "videomae_v2": secondary(E=0.59, A=0.15, alpha=0.75, B=0.13, beta=1.30),
        "dinov2": secondary(E=0.63, A=0.05, alpha=1.76, B=0.13, beta=1.40),
    },
    nicknames=("Dynamic Reflections",),
)


# --- Horizons ----------------------------------------------------------------------------------------------

HORIZON: dict[str, Any] = {"inputs": ("task_length",), "cite": "sinha2025illusion", "form": "ours", **ODDS}


@register_law(
    priors={"A": Positive(0.3, 1.2), "nu": Exponent(1.0, 0.4)},
    units={"A": ("task_length", "-nu")},
    nicknames=("time horizon", "METR"),
    **HORIZON,
)
def horizon(t: Any, *, A: Any, nu: Any) -> Any:
    """Success at a task of t steps, exp(-A t^nu): odds against e^(A t^nu) - 1; nu = 1 if steps fail independently.

    The length t with success s is (-ln(s) / A)^(1/nu). For nu = 1, A = -ln p with the accuracy p of a step. For nu
    below 1, the failure rate decreases with the number of steps already done.
    """
    return odds_against(A * raised(t, nu))


@register_law(
    priors={"A": Positive(1.0, 1.2), "theta": Positive(1.0, 1.0)},
    units={"A": ("task_length", -1.0)},
    nicknames=("gamma frailty", "time horizon"),
    **HORIZON,
)
def horizon_frailty(t: Any, *, A: Any, theta: Any) -> Any:
    """Success at a task of t steps if tasks have different failure rates: (1 + theta A t)^(-1/theta).

    A is the mean failure rate per step. theta is the squared coefficient of variation between tasks; theta = 0 is a
    common rate.
    """
    return odds_against(jnp.log1p(theta * A * t) / theta)


@register_law(
    inputs=("x",),
    cite="sinha2025illusion",
    priors={"S": Fixed(log(2.0)), "A": Positive(0.05, 1.0), "c": Slope(2.0, 0.7)},
    units={"A": ("x", "c")},
    response="task length at a success of one half",
    describes="quantity",
    form="ours",
    nicknames=("time horizon", "diminishing returns"),
)
def step_horizon(x: Any, *, S: Any, A: Any, c: Any) -> Any:
    """Task length at a success s by scale: ln s / ln p with the accuracy p of a step logistic in ln x.

    S is -ln s, fixed at ln 2 for a success of one half. A x^-c are the odds against a correct step. If p is near 1, the
    length grows as x^c although p hardly changes.
    """
    return S / jnp.log1p(A * raised(x, -c))


# --- Attacks -----------------------------------------------------------------------------------------------

variant(
    "growing_power",
    name="attack_tokens",
    section="inference",
    summary="Number of tokens that an attacker can force by controlling the activations of x tokens: A x^c, c near 1.",
    cite="fort2023attacks",
    caveats="The paper states that the numbers are proportional, t = "
    "kappa a. The values of kappa could not be verified.",
    inputs=("controlled_tokens",),
    priors={"c": Exponent(1.0, 0.15)},
    response="forced tokens",
    nicknames=("adversarial attacks",),
)
variant(
    "demand_ability",
    name="attack_success",
    section="inference",
    summary="Success of an attack on t tokens by controlling a tokens: "
    "odds against A (t / a)^c, even odds at t = kappa a.",
    cite="fort2023attacks",
    caveats="A = kappa^-c. The paper states the threshold. The logistic curve around it was written for this package.",
    form="ours",
    inputs=("forced_tokens", "controlled_tokens"),
    nicknames=("adversarial attacks",),
)


# --- Cost and speed ----------------------------------------------------------------------------------------


@register_law(
    inputs=("n_params", "thinking_tokens", "samples_per_problem"),
    cite="sadhukhan2025kinetics",
    equation="the authors' code, dense attention",
    priors={"terms": Shares(("a", "H", "K"), floor=False), "P": Positive(0.1, 1.0)},
    units={
        "a": [("n_params", -1.0), ("thinking_tokens", -1.0)],
        "H": ("thinking_tokens", -2.0),
        "K": ("thinking_tokens", -2.0),
        "P": ("thinking_tokens", 1.0),
    },
    scales={"samples_per_problem": ""},
    response="eFLOPs of a problem: operations, and accesses of memory in operations",
    describes="quantity",
    published={
        "qwen3_8b": paper(
            note="36 layers, heads of width 128, 32 heads of queries and 8 of keys, a prompt of 512 tokens",
            **{"a": 2.0, "H": 2.0 * 32 * 128 * 36, "K": 2.0 * 562.5 * 8 * 128 * 36, "P": 512.0},
        ),
    },
    nicknames=("eFLOPs", "cost of inference"),
)
def kinetics(N: Any, L: Any, k: Any, *, a: Any, H: Any, K: Any, P: Any) -> Any:
    """Cost of k answers of L tokens: a N L k + H (2 P + L) L k + K (2 P + k L) L after a prompt of P tokens.

    a is 2. H is twice the width of all heads and layers. K is 562.5 times twice the width of keys and values; one
    memory access costs as much as 562.5 operations. Answers have the prompt in memory in common, and nothing else.
    """
    return a * N * L * k + H * (2.0 * P + L) * L * k + K * (2.0 * P + k * L) * L


@register_law(
    inputs=("draft_tokens",),
    cite="yan2025speculative",
    priors={"p": Fraction(1.4, 1.0), "c": Positive(0.1, 0.7)},
    scales={"draft_tokens": ""},
    units=lambda constants, ref: {},
    response="speed-up",
    describes="quantity",
    form="secondary",
    nicknames=("speculative decoding",),
)
def speculative_speedup(g: Any, *, p: Any, c: Any) -> Any:
    """Speed-up of speculative decoding with drafts of g tokens: (1 - p^(g+1)) / ((1 - p) (g c + 1)).

    p is the probability that a drafted token is accepted, equal for all tokens. c is the cost of a step of the draft
    model divided by the cost of a step of the large model. At the best g, one more drafted token costs as much as it
    gains.
    """
    return -jnp.expm1((g + 1.0) * jnp.log(p)) / ((1.0 - p) * (g * c + 1.0))


@register_law(
    inputs=("n_tokens", "draft_params", "batch"),
    cite="yan2025speculative",
    priors={
        **{"B": Level(), **{name: Real(0.03, 0.05) for name in ("a", "b")}, "c": Real(-0.02, 0.05)},
        **{name: Fixed(1.0) for name in ("D0", "N0", "b0")},
    },
    units={"D0": ("n_tokens", 1.0), "N0": ("draft_params", 1.0), "b0": ("batch", 1.0)},
    response="accepted tokens of a draft",
    describes="quantity",
    form="secondary",
    counting={"n_tokens": "of the draft model"},
    nicknames=("speculative decoding", "acceptance rate", "Scylla"),
)
def speculative_acceptance(D: Any, N: Any, batch: Any, *, B, a, b, c, D0, N0, b0) -> Any:
    """Accepted tokens of a draft, linear in logarithms: B (1 + a ln(D/D0) + b ln(N/N0) + c ln(batch/b0)).

    B is the response at D0, N0 and b0, the middle of the runs. The response is a count, although the paper calls it a
    rate; it is at most the length of the draft plus one. Coefficients could not be found.
    """
    return B * above_zero(1.0 + a * jnp.log(D / D0) + b * jnp.log(N / N0) + c * jnp.log(batch / b0))
