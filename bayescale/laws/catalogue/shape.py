"""Laws of the shape of models at a budget: width, depth, resolution, run time, logits, sparsity and tokens."""

from __future__ import annotations

from math import log
from typing import Any

import jax.numpy as jnp
import numpy as np

from bayescale.laws.priors import Exponent, Level, Real, Shares
from bayescale.laws.registry import alias, register_law, variant
from bayescale.laws.shapes import raised


@register_law(
    inputs=("width", "depth", "resolution"),
    cite="dollar2021fast",
    priors={"terms": Shares(("E", "A", "B", "C")), **{name: Exponent(0.5, 0.6) for name in ("a", "b", "c")}},
    units={"A": ("width", "a"), "B": ("depth", "b"), "C": ("resolution", "c")},
    decreasing=("width", "depth", "resolution"),
    floor="E",
    form="ours",
    response="error",
    nicknames=("compound scaling", "EfficientNet"),
)
def width_depth_resolution(w: Any, d: Any, r: Any, *, E: Any, A: Any, a: Any, B: Any, b: Any, C: Any, c: Any) -> Any:
    """Error of a vision model by width w, depth d and resolution r: E + A w^-a + B d^-b + C r^-c.

    `laws.optimum` finds the best shape for a given cost. The number of operations is proportional to w^2 d r^2. The
    number of activations, which determines the run time, is proportional to w d r^2. Dollár et al. (2021) compare rules
    of scaling and fit no such curve.
    """
    return E + A * raised(w, -a) + B * raised(d, -b) + C * raised(r, -c)


alias("resnet_scaling", "width_depth_resolution", "bello2021revisiting")


@register_law(
    inputs=("flops", "activations"),
    cite="dollar2021fast",
    priors={"A": Level(1.0), "a": Exponent(0.3, 0.6), "b": Exponent(0.7, 0.4)},
    units={"A": [("flops", "-a"), ("activations", "-b")]},
    counting={"flops": "of one forward pass"},
    form="ours",
    response="run time",
    describes="quantity",
    nicknames=("fast compound scaling", "cost model"),
)
def run_time(C: Any, M: Any, *, A: Any, a: Any, b: Any) -> Any:
    """Run time by operations C and activations M of a forward pass: A C^a M^b.

    Dollár et al. (2021) find that activations predict run time better than operations do.
    """
    return A * raised(C, a) * raised(M, b)


variant(
    "run_time",
    name="logit_growth",
    summary="Largest attention logit or gradient norm by parameters N and learning rate lr: A N^a lr^b.",
    cite="wortsman2023small",
    caveats="Use `predict` for the probability that the logit at a size and rate exceeds a threshold. Wortsman et "
    "al. (2023) extrapolate the logit by size for each rate; the product of powers was written for this package.",
    form="ours",
    inputs=("n_params", "lr"),
    response="largest logit",
    nicknames=("instability", "small-scale proxies"),
)


@register_law(
    inputs=("tokens_per_param", "active_share"),
    cite="nakamura2025sparsity",
    priors={"A": Level(), "c": Exponent(0.2, 0.7), "d": Real(0.0, 0.3), "q": Real(0.0, 0.1)},
    units=lambda c, ref: {
        "A": c["A"]
        * np.exp(
            c["c"] * log(ref["tokens_per_param"])
            - c["d"] * log(ref["active_share"])
            + c["q"] * log(ref["tokens_per_param"]) * log(ref["active_share"])
        ),
        "c": c["c"] + c["q"] * log(ref["active_share"]),
        "d": c["d"] - c["q"] * log(ref["tokens_per_param"]),
    },
    form="ours",
    counting={"tokens_per_param": "all experts"},
    nicknames=("MoE", "optimal sparsity", "reasoning"),
)
def reasoning_sparsity(t: Any, s: Any, *, A: Any, c: Any, d: Any, q: Any) -> Any:
    """Loss by tokens per parameter t and active fraction s of experts: A t^-c s^d e^(q ln t ln s).

    The constant q is an interaction of t and s. Fit the loss and the score, and compare: Nakamura et al. (2025) find
    that the best number of tokens per parameter is larger for reasoning scores than for the loss. They give no
    equation.
    """
    spread = jnp.log(s)
    return A * raised(t, -c) * jnp.exp(spread * (d + q * jnp.log(t)))
