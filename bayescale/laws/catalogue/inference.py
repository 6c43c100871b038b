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
    summary="Coverage (pass@k) by the number k of samples per problem, exp(-A k^-c): odds against e^(A k^-c) - 1.",
    cite="schaeffer2025monkeys",
    caveats="Schaeffer et al. (2025) write exp(-a k^-b), so A = a and c = b. The law is the limit for many samples "
    "if many problems have pass rates near zero. If you have counts for each problem, use `bayescale coverage`, "
    "which forecasts separately for new problems and for the problems of the table.",
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
    """Coverage (pass@k) if the pass rates of problems are Beta(alpha, beta): 1 - B(alpha, beta + k) / B(alpha, beta).

    B is the beta function. The law gives the coverage of new problems of the same kind. For large k, the fraction of
    unsolved problems is proportional to k^-alpha.
    """
    # Gamma(beta + k) / Gamma(alpha + beta + k), divided by its value at k = 0.
    missed = log_gamma_ratio(beta + k, alpha) - log_gamma_ratio(beta, alpha)
    return 1.0 / jnp.expm1(-missed)


variant(
    "difficulty_cluster",
    name="coverage_ceiling",
    section="inference",
    summary="Coverage (pass@k) by the number k of samples with a ceiling e^-c: exp(-a k^-b - c).",
    cite="wu2025temperature",
    caveats="A fraction 1 - e^-c of problems is never solved. Wu et al. (2025) find that sampling at one temperature "
    "leaves problems unsolved that other temperatures solve. The curve was written for this package.",
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
    """Score after k samples or rounds: F (1 - e^(-r k)).

    F is the limit for large k. Wang et al. (2025) write (1 - p)^k for e^(-r k), so r = -ln(1 - p). All problems that
    can be solved have the same success rate p. If success rates differ, use `coverage_power`.
    """
    solved = gate(k * r, 1.0)
    return (1.0 - F * solved) / (F * solved)


variant(
    "attempts_plateau",
    name="imperfect_verifier",
    summary="Accuracy if a model samples up to k answers until a verifier accepts one: F (1 - e^(-r k)).",
    cite="stroebl2024flaws",
    caveats="A fraction F of accepted answers is correct. Let p be the rate of correct answers, and t and e the true "
    "and false positive rates of the verifier. If p is the same for all items, then 1 - e^-r = p t + (1 - p) e, "
    "and Bayes' rule gives F = p t / (1 - e^-r). Stroebl et al. (2024) report that the best number of samples is "
    "often below ten.",
    form="ours",
    nicknames=("resampling", "false positives"),
)
variant(
    "saturating_power",
    name="votes",
    section="inference",
    summary="Accuracy of a majority vote of k answers: odds against E + A k^-c.",
    cite="balachandran2025inference",
    caveats="E is due to problems that most answers miss. Balachandran et al. (2025) report averages over repeated "
    "calls and give no equation.",
    form="ours",
    inputs=SAMPLES,
    nicknames=("self-consistency", "majority voting"),
    **ODDS,
)
variant(
    "power",
    name="robot_samples",
    section="inference",
    summary="Error of a robot's action that a verifier chooses among k samples: A k^-c.",
    cite="kwok2025robomonkey",
    caveats="The abstract of Kwok et al. (2025) calls the law an exponentiated power law. The constants could not be "
    "verified.",
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
    summary="Accuracy by the number x of thinking tokens, nearly linear in ln x: odds against A x^-c.",
    cite="ballon2025thinks",
    caveats="The law is a logistic curve between chance and ceiling. It describes token budgets that are imposed on "
    "a model. If a model chooses the length itself, long answers are less accurate; use `thinking_peak`.",
    form="ours",
    inputs=("thinking_tokens",),
    nicknames=("o1", "log-linear", "test-time compute"),
    **ODDS,
)
variant(
    "growing_power",
    name="verifier_gap",
    section="inference",
    summary="Score of training with a verifier minus score without, by the token budget H: A H^c with c of about .5.",
    cite="setlur2025verification",
    caveats="The theory of Setlur et al. (2025) gives this form as a bound. The response is a difference of scores "
    "and must be positive.",
    form="secondary",
    inputs=("thinking_tokens",),
    priors={"c": Exponent(0.5, 0.3)},
    response="lead in score",
)
variant(
    "chinchilla",
    name="video_text",
    section="inference",
    summary="1 - alignment of video and text by frames f and captions c at test time: E + A f^-alpha + B c^-beta.",
    cite="zhu2025dynamic",
    caveats="Zhu et al. (2025) write the alignment as S - (C_f f^-alpha + C_c c^-beta), so E = 1 - S. They choose "
    "the layers of the model separately for each setting.",
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

    For nu = 1 and an accuracy p of each step, A = -ln p. For nu below 1, the failure rate decreases with the number of
    steps already done. The length t with success s is (-ln(s) / A)^(1/nu).
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

    A is the mean failure rate per step. theta is the squared coefficient of variation of the failure rate between
    tasks. With theta = 0 all tasks have the same rate.
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
    """Task length with success s by scale x: S / ln(1 + A x^-c).

    S is -ln s, fixed at ln 2 for a success of one half. A x^-c are the odds against a correct step, so the accuracy of
    a step is logistic in ln x. If this accuracy is near 1, the length grows as x^c although the accuracy hardly
    changes.
    """
    return S / jnp.log1p(A * raised(x, -c))


# --- Attacks -----------------------------------------------------------------------------------------------

variant(
    "growing_power",
    name="attack_tokens",
    section="inference",
    summary="Number of tokens that an attacker can force by controlling the activations of x tokens: A x^c, c near 1.",
    cite="fort2023attacks",
    caveats="Fort (2023) states that the numbers t of forced and a of controlled tokens are proportional, t = kappa "
    "a. The values of kappa could not be verified.",
    inputs=("controlled_tokens",),
    priors={"c": Exponent(1.0, 0.15)},
    response="forced tokens",
    nicknames=("adversarial attacks",),
)
variant(
    "demand_ability",
    name="attack_success",
    section="inference",
    summary="Success of an attack by the numbers of forced tokens t and controlled tokens a: odds against A (t / a)^c.",
    cite="fort2023attacks",
    caveats="The odds are even at t = kappa a with A = kappa^-c. Fort (2023) states this threshold. The logistic "
    "curve around it was written for this package.",
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

    N is the number of parameters, and a is 2. H is twice the width of all heads and layers together. K is 562.5 times
    twice the width of keys and values, because one memory access costs as much as 562.5 operations. Answers share only
    the prompt in memory.
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

    B is the response at D0, N0 and b0, the geometric means over the data. Yan et al. (2025) call the response a rate,
    but it is a count: at most the length of the draft plus one. The coefficients could not be found.
    """
    return B * above_zero(1.0 + a * jnp.log(D / D0) + b * jnp.log(N / N0) + c * jnp.log(batch / b0))
