"""Laws of decisions about data: pruning, filters, pools, distance to a target, harmful repetition."""

from __future__ import annotations

from math import log
from typing import Any

import jax.numpy as jnp

from bayescale.laws.priors import Exponent, Fixed, Level, Positive, Real, Shares
from bayescale.laws.registry import register_law, variant
from bayescale.laws.shapes import above_zero, raised, raised_from_zero, repeats


@register_law(
    inputs=("n_samples", "kept_share"),
    cite="sorscher2022pruning",
    priors={
        **{"terms": Shares(("E", "A")), "c": Exponent(0.3, 0.5)},
        **{"h": Positive(0.1, 0.7), "k": Real(0.3, 0.5)},
    },
    units=lambda c, ref: {
        "A": c["A"] * ref["n_samples"] ** c["c"],
        "k": c["k"] + c["h"] * log(ref["n_samples"]),
    },
    scales={"kept_share": ""},
    decreasing=("n_samples",),
    floor="E",
    counting={"n_samples": "kept examples"},
    form="ours",
    response="error",
    nicknames=("data pruning", "beyond neural scaling laws"),
)
def data_pruning(n: Any, share: Any, *, E: Any, A: Any, c: Any, h: Any, k: Any) -> Any:
    """Error on the n hardest examples, a fraction of a set: E + A n^-(c + h (1 - share)) e^(k (1 - share)).

    Pruning increases the exponent by h and the amplitude by k. It decreases the error above n = e^(k/h) and increases
    it below. The curves of the paper follow from a perceptron and have no closed form. With the best fraction at each n
    they decrease faster than any power.
    """
    dropped = 1.0 - share
    return E + A * raised(n, -c) * jnp.exp(dropped * (k - h * jnp.log(n)))


@register_law(
    inputs=("flops", "kept_share"),
    cite="mizrahi2025target",
    priors={
        **{"A": Level(), "c": Exponent(0.1, 0.7), "b": Positive(0.3, 0.7)},
        **{"T": Positive(1.0, 0.7), "m": Real(0.0, 0.1)},
    },
    units={"A": ("flops", "c"), "T": [("kept_share", 1.0), ("flops", "-m")]},
    form="ours",
    nicknames=("BETR", "filter share", "selection rate"),
)
def moving_valley(C: Any, s: Any, *, A: Any, c: Any, b: Any, T: Any, m: Any) -> Any:
    """Valley with a minimum that moves with scale: A C^-c exp((b ln(s / (T C^m)))^2 / 2), best at s = T C^m.

    An example is the best fraction of the data that a filter keeps, by compute. The paper finds that a weaker filter is
    better at larger budgets, and gives no such curve.
    """
    return A * raised(C, -c) * jnp.exp(0.5 * (b * (jnp.log(s / T) - m * jnp.log(C))) ** 2)


variant(
    "moving_valley",
    name="aspect_valley",
    section="shape",
    summary="Loss by size and aspect ratio with a best ratio T N^m: A N^-c exp((b ln(r / (T N^m)))^2 / 2).",
    cite="schapiro2025creativity",
    caveats="The paper finds best depths and widths for a score of creativity at fixed compute, and gives no equation.",
    form="ours",
    inputs=("n_params", "aspect_ratio"),
    nicknames=("depth and width", "best shape"),
)
variant(
    "moving_valley",
    name="rate_valley",
    section="shape",
    summary="Loss by size and learning rate with a best rate T N^m; a larger b means more sensitivity to the rate.",
    cite="wortsman2023small",
    caveats="The paper measures sensitivity as the mean increase of the loss at rates around the best rate. There it "
    "grows with size; here b is the same for all sizes.",
    form="ours",
    inputs=("n_params", "lr"),
    priors={"m": Real(-0.3, 0.2)},
    nicknames=("learning rate sensitivity", "small-scale proxies"),
)


@register_law(
    inputs=("n_samples", "share"),
    cite="goyal2024filtering",
    priors={
        **{"terms": Shares(("d", "a")), "b1": Exponent(0.25, 0.5), "b2": Exponent(0.2, 0.5)},
        "n0": Fixed(1.0),
    },
    units={"n0": ("n_samples", 1.0)},
    scales={"share": ""},
    decreasing=("n_samples",),
    floor="d",
    counting={"share": "of the first pool"},
    response="error",
    form="ours",
    nicknames=("QQT", "data filtering", "several pools"),
)
def two_pools(n: Any, share: Any, *, d: Any, a: Any, b1: Any, b2: Any, n0: Any) -> Any:
    """Error on a mixture of two pools without repetition: d + a (n/n0)^-(share b1 + (1 - share) b2).

    By the paper's rule the exponent of a mixture is the mean of the utilities b of the pools. For repetitions use
    `quality_quantity`. a is the amplitude at n0, the middle of the runs.
    """
    return d + a * raised(n / n0, -(share * b1 + (1.0 - share) * b2))


@register_law(
    inputs=("n_samples", "transport_distance"),
    cite="kang2023projektor",
    priors={"B": Level(), "b": Positive(0.3, 0.8), "c": Real(0.05, 0.05), "n0": Fixed(1.0)},
    units={"b": ("transport_distance", -1.0), "n0": ("n_samples", 1.0)},
    form="recalled",
    response="loss",
    describes="quantity",
    nicknames=("projektor", "optimal transport"),
)
def transport(n: Any, w: Any, *, B: Any, b: Any, c: Any, n0: Any) -> Any:
    """Loss by examples and the distance w of their mixture to the target: B (1 + b w - c ln(n / n0)).

    The law is linear in the distance and in ln n, like the paper's projection from two pilot sizes. The paper fits each
    size separately.
    """
    return B * above_zero(1.0 + b * w - c * jnp.log(n / n0))


@register_law(
    inputs=("n_tokens", "unique_tokens"),
    cite="xue2023repeat",
    priors={
        **{"terms": Shares(("E", "B")), "beta": Exponent(0.35), "R_D": Positive(15.0, 0.8)},
        **{"H": Positive(0.003, 1.2), "h": Positive(1.0, 0.4)},
    },
    units={"B": ("n_tokens", "beta")},
    scales={"unique_tokens": "n_tokens"},
    form="ours",
    nicknames=("token crisis", "epochs", "multi-epoch degradation"),
)
def repetition_harm(D: Any, U: Any, *, E: Any, B: Any, beta: Any, R_D: Any, H: Any, h: Any) -> Any:
    """Repeated data that increases the loss: (E + B D'^-beta) (1 + H R^h) after R = D/U - 1 repetitions of U tokens.

    D' is the number of new tokens that the repeated tokens are worth, as in `data_constrained`, for models of one size.
    The paper reports the increase and gives no equation.
    """
    repeated = jnp.maximum(D / U - 1.0, 0.0)
    learned = E + B * raised(repeats(jnp.minimum(U, D), D, R_D), -beta)
    return learned * (1.0 + H * raised_from_zero(repeated, h))


@register_law(
    inputs=("n_samples", "intrinsic_dimension", "label_sharpness"),
    cite="konz2024intrinsic",
    priors={
        **{"A": Level(), "g": Exponent(0.1, 0.7), "q": Exponent(1.0, 0.4)},
        "n0": Fixed(1.0),
    },
    units={"A": ("label_sharpness", "-q"), "g": ("intrinsic_dimension", 1.0), "n0": ("n_samples", 1.0)},
    decreasing=("n_samples",),
    form="recalled",
    nicknames=("intrinsic dimension", "label sharpness"),
)
def intrinsic_dimension(n: Any, d: Any, K: Any, *, A: Any, g: Any, q: Any, n0: Any) -> Any:
    """Loss across data sets by examples, intrinsic dimension d and label sharpness K: A K^q (n/n0)^(-g/d).

    The paper's bound has g = q = 1. The dimension and the sharpness are measured on the data sets. A is the amplitude
    at n0, the middle of the runs.
    """
    return A * raised(K, q) * raised(n / n0, -g / d)
