"""Laws of architecture: experts, sparsity, streams, vocabulary, encoder and decoder, knowledge."""

from __future__ import annotations

from math import exp, inf, log, log10
from typing import Any

import jax.numpy as jnp

from bayescale.laws.priors import Exponent, Level, Positive, Real, Shares
from bayescale.laws.published import paper, refit, secondary
from bayescale.laws.registry import register_law, variant
from bayescale.laws.shapes import smooth_minimum, two_sided

# --- Experts -----------------------------------------------------------------------------------------------


@register_law(
    inputs=("n_params", "n_experts"),
    cite="clark2022unified",
    equation="the authors' notebook",
    priors={
        **{"A": Level(), "a": Exponent(0.08, 0.5), "b": Real(0.04, 0.05), "c": Real(0.0, 0.01)},
        **{"E_start": Positive(2.0, 0.5), "E_max": Positive(300.0, 0.7)},
    },
    units=lambda constants, ref: {
        "A": constants["A"] * ref["n_params"] ** constants["a"],
        "b": constants["b"] + constants["c"] * log10(ref["n_params"]),
    },
    scales={"n_experts": ""},
    counting={"n_params": "of the dense model, without the other experts"},
    published={
        "s_base": refit(note="seed 42", A=10**1.1136, a=0.0830, b=0.1180, c=0.0099, E_start=2.075, E_max=238.7),
        "rl_r": refit(note="seed 42", A=10**1.1070, a=0.0827, b=0.1234, c=0.0112, E_start=1.722, E_max=470.1),
        "hash": refit(note="seed 42", A=10**1.1595, a=0.0874, b=0.1384, c=0.0126, E_start=4.269, E_max=427.3),
    },
    nicknames=("unified scaling law", "MoE"),
)
def routed(N: Any, E: Any, *, A: Any, a: Any, b: Any, c: Any, E_start: Any, E_max: Any) -> Any:
    """Loss of routed language models by parameters N and experts E: A N^-a Ehat^-(b - c log10 N).

    Ehat is a smooth function of the number of experts E: it is E_start for one expert, and approaches E_max for many.
    Clark et al. (2022) write log10 L = a log10 N + b log10 Ehat + c log10 N log10 Ehat + d, so their a and b are
    negative and A = 10^d. Above N = 10^(b/c), more experts do not reduce the loss. The losses were measured after 130e9
    tokens. The data hardly determine E_max.
    """
    experts = two_sided(E - 1.0, E_start, E_max)
    return A * N**-a * experts ** (c * jnp.log10(N) - b)


@register_law(
    inputs=("n_params", "n_tokens", "granularity"),
    cite="krajewski2024scaling",
    equation="table 1",
    priors={
        "terms": Shares(("c", "g", "a", "b")),
        **{"gamma": Exponent(0.6, 0.5), "alpha": Exponent(0.15, 0.6), "beta": Exponent(0.15, 0.6)},
    },
    units={
        "g": [("n_params", "alpha"), ("granularity", "gamma")],
        "a": ("n_params", "alpha"),
        "b": ("n_tokens", "beta"),
    },
    decreasing=("n_params", "n_tokens", "granularity"),
    floor="c",
    counting={"granularity": "dense width of the feed-forward layer divided by that of one expert"},
    published={
        "krajewski2024": paper(
            note="64 experts",
            **{"a": 18.1, "alpha": 0.115, "b": 30.8, "beta": 0.147, "g": 2.1, "gamma": 0.58, "c": 0.47},
        ),
    },
    nicknames=("granularity", "MoE"),
)
def fine_grained(N: Any, D: Any, G: Any, *, c: Any, g: Any, gamma: Any, a: Any, alpha: Any, b: Any, beta: Any) -> Any:
    """Loss of mixtures of fine-grained experts: c + (g G^-gamma + a) N^-alpha + b D^-beta.

    The tables of Krajewski et al. (2024) agree with the law (within about .02) only if their model "64 x 7B" has 43
    times 7e9 parameters, because its feed-forward layers are replicated and its attention layers are not.
    """
    return c + (g * G**-gamma + a) * N**-alpha + b * D**-beta


@register_law(
    inputs=("n_params", "n_tokens", "n_experts"),
    cite="ludziejewski2025joint",
    equation="tables 3 and 4",
    priors={
        **{"terms": Shares(("c", "a", "b")), "alpha": Exponent(0.2, 0.5), "beta": Exponent(0.2, 0.5)},
        **{"delta": Real(0.0, 0.2), "omega": Real(0.0, 0.2), "gamma": Real(0.0, 0.02), "zeta": Real(0.0, 0.02)},
        **{"E_start": Positive(2.0, 0.5), "E_max": Positive(300.0, 0.7)},
    },
    units=lambda c, ref: {
        "a": c["a"] * ref["n_params"] ** c["alpha"],
        "b": c["b"] * ref["n_tokens"] ** c["beta"],
        "delta": c["delta"] - c["gamma"] * log(ref["n_params"]),
        "omega": c["omega"] - c["zeta"] * log(ref["n_tokens"]),
    },
    scales={"n_experts": ""},
    floor="c",
    counting={"n_params": "active, with embeddings"},
    published={
        "ludziejewski2025": paper(
            **{"a": 35.91, "alpha": 0.1889, "delta": -0.2285, "gamma": 0.0098, "c": 1.3637},
            **{"b": 35.98, "beta": 0.1775, "omega": 0.5529, "zeta": -0.0259, "E_start": 2.0732, "E_max": 290.4521},
        ),
    },
    nicknames=("MoE", "memory-efficient MoE"),
)
def joint_experts(N: Any, D: Any, E: Any, *, c, a, alpha, delta, gamma, b, beta, omega, zeta, E_start, E_max) -> Any:
    """Loss with E experts: a Ehat^delta N^(-alpha + gamma ln Ehat) + b Ehat^omega D^(-beta + zeta ln Ehat) + c.

    Ehat is the function of E in `routed`: it is E_start for one expert, and approaches E_max for many. At a fixed
    number E of experts this is `chinchilla`. Ludziejewski et al. (2025) write negative alpha and beta.
    """
    experts = jnp.log(two_sided(E - 1.0, E_start, E_max))
    size = jnp.exp(delta * experts) * N ** (gamma * experts - alpha)
    data = jnp.exp(omega * experts) * D ** (zeta * experts - beta)
    return a * size + b * data + c


@register_law(
    inputs=("flops", "active_share", "granularity"),
    cite="tian2025leverage",
    priors={
        **{"a": Real(-0.3, 0.2), "d": Real(-0.05, 0.03), "gamma": Real(0.02, 0.01), "beta": Real(-0.1, 0.05)},
        **{"A_s": Positive(0.02, 0.7), "A_m": Positive(1e3, 2.0)},
    },
    units=lambda c, ref: {"a": c["a"] - c["d"] * log10(ref["flops"])},
    scales={"active_share": "", "granularity": ""},
    response="leverage: compute of a dense model of equal loss divided by that of the experts",
    describes="quantity",
    counting={"granularity": "twice the width divided by that of one expert"},
    published={
        "tian2025": paper(
            note="the paper does not state the bases of its logarithms; only these bases give its figures",
            **{"a": 1.23, "d": -0.0761, "gamma": 0.0167, "beta": -0.117, "A_s": 0.0163, "A_m": 5.28e16},
        ),
    },
    nicknames=("efficiency leverage", "MoE"),
)
def leverage(C: Any, A: Any, G: Any, *, a: Any, d: Any, gamma: Any, beta: Any, A_s: Any, A_m: Any) -> Any:
    """Compute saved by experts (leverage): Ahat^(a + d log10 C + gamma (log2 G)^2 + beta log2 G).

    Ahat is A_s for an active fraction A of 0, grows with A, and has the upper limit A_m. The exponent is negative at
    the scales of Tian et al. (2025). With their constants, the law gives .990 instead of 1 if all experts are active.
    """
    steps = jnp.log2(G)
    exponent = a + d * jnp.log10(C) + gamma * steps**2 + beta * steps
    return two_sided(A, A_s, A_m) ** exponent


@register_law(
    inputs=("n_params", "n_tokens", "active_share"),
    cite="abnar2025parameters",
    priors={
        "terms": Shares(("e", "a", "b", "c", "d")),
        **{"alpha": Exponent(0.5, 0.4), "beta": Exponent(0.4, 0.4), "gamma": Exponent(0.15, 0.5)},
        **{"lam": Real(-0.15, 0.15), "delta": Real(0.15, 0.15)},
    },
    units={
        "a": ("n_params", "alpha"),
        "b": ("n_tokens", "beta"),
        "c": ("active_share", "lam"),
        "d": [("active_share", "delta"), ("n_params", "gamma")],
    },
    decreasing=("n_params", "n_tokens"),
    form="recalled",
    counting={"n_params": "all experts"},
    nicknames=("MoE", "optimal sparsity"),
)
def sparse_experts(N: Any, D: Any, s: Any, *, e, a, alpha, b, beta, c, lam, d, delta, gamma) -> Any:
    """Sparse experts, active fraction s = 1 - sparsity: e + a N^-alpha + b D^-beta + c s^-lam + d s^-delta N^-gamma.

    The constants of Abnar et al. (2025) could not be verified.
    """
    return e + a * N**-alpha + b * D**-beta + c * s**-lam + d * s**-delta * N**-gamma


variant(
    "chinchilla",
    name="sparse_average",
    nicknames=("sparse pre-training", "pruning"),
    section="architecture",
    summary="Loss of models pruned during training, by their mean number Nbar of active parameters: E + A "
    "Nbar^-alpha + B D^-beta.",
    cite="jin2025journey",
    caveats="`shapes.mean_along` computes Nbar from the pruning schedule. The constants of Jin et al. (2025) could "
    "not be found.",
    form="secondary",
    counting={"n_params": "mean over training of the parameters that are active"},
)


# --- Streams, vocabulary, two stacks, knowledge ------------------------------------------------------------


@register_law(
    inputs=("n_params", "p_streams"),
    cite="chen2025parallel",
    priors={"terms": Shares(("E", "A"), outer="alpha"), "k": Positive(0.35, 0.6), "alpha": Exponent(0.2, 0.5)},
    units={"A": ("n_params", 1.0)},
    scales={"p_streams": ""},
    decreasing=("n_params", "p_streams"),
    floor="E",
    counting={"n_params": "without embeddings"},
    published={
        "stack": refit(note="reproduces the authors' script", E=0.6912, A=1.131e7, k=0.3935, alpha=0.1894),
        "pile": refit(note="reproduces the authors' script", E=1.2886, A=1.975e8, k=0.3344, alpha=0.1963),
    },
    nicknames=("ParScale",),
)
def parallel_streams(N: Any, P: Any, *, E: Any, A: Any, k: Any, alpha: Any) -> Any:
    """Loss of a model that runs P parallel streams: E + (A / (N (k ln P + 1)))^alpha.

    Chen et al. (2025) have 24 runs on each of two corpora, all with the same number of tokens.
    """
    return E + (A / (N * (k * jnp.log(P) + 1.0))) ** alpha


@register_law(
    inputs=("n_params", "vocab_size", "width", "n_chars"),
    cite="tao2024vocabulary",
    equation="approach 3, the authors' code",
    priors={
        **{"F": Level(0.5), "A1": Positive(0.2, 0.7), "A2": Positive(0.1, 0.8), "B": Positive(0.2, 0.7)},
        **{"a1": Exponent(0.4, 0.25), "a2": Exponent(0.6, 0.25)},
    },
    units={
        "A1": ("n_params", "a1"),
        "A2": ("width", "a2"),
        "B": ("n_chars", "a1"),
    },
    scales={"vocab_size": ""},
    decreasing=("n_params", "width", "n_chars"),
    response="e to the unigram-normalised loss",
    describes="quantity",
    counting={"n_params": "without vocabulary"},
    published={
        "tao2024": paper(
            note="amplitudes converted from millions, thousands and billions to raw counts",
            **{"F": exp(-5.5327847), "A1": 1.8313852 * 1e6**0.4466063, "A2": 0.1958424 * 1e3**0.6707375},
            **{"B": 2.1241123 * 1e9**0.4466063, "a1": 0.4466063, "a2": 0.6707375},
        ),
    },
)
def vocabulary(N: Any, V: Any, d: Any, H: Any, *, F: Any, A1: Any, A2: Any, B: Any, a1: Any, a2: Any) -> Any:
    """Exponential of the loss of a vocabulary of V tokens: F e^(A1 N^-a1 + A2 (V d / 1000)^-a2 + B D^-a1).

    d is the width, and D = f(V) H is the number of tokens that H characters give. Tao et al. (2024) write the loss
    itself, which is below 0 because it is relative to a unigram model, with a constant -E = ln F. They fit f(V) = .0064
    ln(V)^2 - .158 ln V + 1.205. Their fitting script inserts V in thousands into f by mistake. The published constants
    were fitted with this mistake, so the law keeps it.
    """
    thousands = jnp.minimum(V, 2e5) / 1e3
    log = jnp.log(thousands)
    tokens = H * (0.00639222 * log**2 - 0.15811069 * log + 1.20470122)
    return F * jnp.exp(A1 * N**-a1 + A2 * (V / 1e3 * d) ** -a2 + B * tokens**-a1)


@register_law(
    inputs=("n_encoder", "n_decoder"),
    cite="ghorbani2021translation",
    equation="in the form of eq. 2 of Fernandes et al. (2023)",
    priors={"terms": Shares(("E", "A")), "p_e": Exponent(0.2, 0.5), "p_d": Exponent(0.2, 0.5)},
    units={"A": [("n_encoder", "p_e"), ("n_decoder", "p_d")]},
    decreasing=("n_encoder", "n_decoder"),
    floor="E",
    nicknames=("machine translation", "NMT"),
)
def encoder_decoder(N_e: Any, N_d: Any, *, E: Any, A: Any, p_e: Any, p_d: Any) -> Any:
    """Loss of translation with an encoder and a decoder: E + A N_e^-p_e N_d^-p_d.

    The best ratio of their parameters is N_e / N_d = p_e / p_d. The law is not valid for very shallow decoders.
    """
    return E + A * N_e**-p_e * N_d**-p_d


@register_law(
    inputs=("n_params",),
    cite="allenzhu2024knowledge",
    priors={"terms": Shares(("R", "K"), floor=False), "s": Positive(4.0, 0.5)},
    units={"R": ("n_params", -1.0)},
    response="bits of knowledge",
    describes="quantity",
    published={
        "allenzhu2024_1000": secondary(
            note="R at 1000 exposures; K and s were added for this package", R=2.0, K=inf, s=4.0
        )
    },
    form="ours",
    nicknames=("knowledge capacity", "Physics of Language Models"),
)
def knowledge(N: Any, *, R: Any, K: Any, s: Any) -> Any:
    """Bits of knowledge in N parameters: the smooth minimum of R N and K, ((R N)^-s + K^-s)^(-1/s).

    A model stores R bits per parameter, but at most the K bits in the data. Allen-Zhu and Li (2024) find R = 2 after
    1000 exposures of each fact. The limit K and the sharpness s were added for this package.
    """
    return smooth_minimum(R * N, K, s)
