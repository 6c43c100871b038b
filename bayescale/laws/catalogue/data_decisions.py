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
    """Test error after training on the n hardest examples: E + A n^-(c + h (1 - share)) e^(k (1 - share)).

    The n examples are a fraction share of a data set. This pruning increases the exponent by h (1 - share) and
    multiplies the amplitude by e^(k (1 - share)). At equal n, pruning decreases the error if n is above e^(k/h), and
    increases it if n is below. The curves of Sorscher et al. (2022) follow from a perceptron and have no closed form.
    With the best fraction at each n, their curves decrease faster than any power of n.
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
    """Valley with a best setting s = T C^m that moves with compute C: A C^-c exp((b ln(s / (T C^m)))^2 / 2).

    An example of s is the fraction of the data that a filter keeps. Mizrahi et al. (2025) find that a weaker filter is
    better at larger budgets, and give no such curve.
    """
    return A * raised(C, -c) * jnp.exp(0.5 * (b * (jnp.log(s / T) - m * jnp.log(C))) ** 2)


variant(
    "moving_valley",
    name="aspect_valley",
    section="shape",
    summary="Loss by parameters N and aspect ratio r, best at r = T N^m: A N^-c exp((b ln(r / (T N^m)))^2 / 2).",
    cite="schapiro2025creativity",
    caveats="Schapiro et al. (2025) find best depths and widths for a score of creativity at fixed compute, and give "
    "no equation.",
    form="ours",
    inputs=("n_params", "aspect_ratio"),
    nicknames=("depth and width", "best shape"),
)


@register_law(
    inputs=("n_params", "lr"),
    cite="wortsman2023small",
    priors={
        **{"terms": Shares(("E", "A")), "c": Exponent(0.3, 0.5), "b": Positive(0.3, 0.7)},
        **{"T": Positive(1.0, 0.7), "m": Real(-0.3, 0.2)},
    },
    units={"A": ("n_params", "c"), "T": [("lr", 1.0), ("n_params", "-m")]},
    floor="E",
    form="ours",
    nicknames=("learning rate sensitivity", "small-scale proxies"),
)
def rate_valley(N: Any, lr: Any, *, E: Any, A: Any, c: Any, b: Any, T: Any, m: Any) -> Any:
    """Loss by parameters N and rate lr, best at lr = T N^m: (E + A N^-c) exp((b ln(lr / (T N^m)))^2 / 2).

    A larger b means that the loss is more sensitive to the rate. Wortsman et al. (2023) measure sensitivity as the mean
    increase of the loss at rates around the best rate. It grows with size in their runs; here b is the same for all
    sizes.
    """
    return (E + A * raised(N, -c)) * jnp.exp(0.5 * (b * (jnp.log(lr / T) - m * jnp.log(N))) ** 2)


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

    The exponent of a mixture is the mean of the exponents b1 and b2 of the pools, weighted by their fractions; this is
    the rule of Goyal et al. (2024). a is the amplitude at n0, the geometric mean of n over the data. If data are
    repeated, use `quality_quantity`.
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
    """Loss by n examples and the distance w of their mixture to the target data: B (1 + b w - c ln(n / n0)).

    n0 is the geometric mean of n over the data. Kang et al. (2023) fit each size separately and project from two pilot
    sizes linearly in ln n, as this law does.
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
    """Loss by D tokens, of which U are unique, if repetition harms: (E + B D'^-beta) (1 + H R^h).

    R = D/U - 1 is the number of repetitions. D' is the number of new tokens that are worth as much as the D tokens, as
    in `data_constrained`. As there, R_D is the number of repetitions after which a repeated token is worth 1/e of a new
    token. The law is for models of one size. Xue et al. (2023) report that repetition increases the loss, and give no
    equation.
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
    """Loss across data sets by n examples, intrinsic dimension d and label sharpness K: A K^q (n/n0)^(-g/d).

    The dimension and the sharpness are measured on each data set. The bound of Konz and Mazurowski (2024) has g = q =
    1. A is the amplitude at n0, the geometric mean of n over the data.
    """
    return A * raised(K, q) * raised(n / n0, -g / d)
