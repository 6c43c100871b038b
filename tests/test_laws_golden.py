"""Numbers that papers, their authors' code or refits of public data give, and identities that need no data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bayescale as bs
from bayescale.laws import shapes
from bayescale.laws.catalogue.schedule import cosine, multi_power
from bayescale.laws.registry import LAWS
from bayescale.laws.shapes import gate, repeats, root, share_curve, smooth_minimum, two_sided, with_embeddings

ND = ("n_params", "n_tokens")
MIX = {f"share_{i}": 0.2 for i in range(1, 6)}
EQUAL_MIX = np.exp(0.975) + np.exp(-2.139 + np.mean([-10.09, 2.71, 2.71, 2.61, 1.59]))


def krajewski(base, tokens, granularity):
    """Inputs behind a label such as 64 x 7B: feed-forward layers are replicated 64 times, attention is not."""
    return {"n_params": base * (8 * 64 + 4) / 12, "n_tokens": tokens, "granularity": granularity}


def gadre(n_params, tokens_per_param):
    return {"flops": 6.0 * n_params**2 * tokens_per_param, "tokens_per_param": tokens_per_param}


GOLDEN = [
    # law, set of constants, inputs, value, relative tolerance
    ("kaplan_params", "kaplan2020", {"n_params": 1e8}, 2.8300, 2e-5),
    ("kaplan_params", "kaplan2020", {"n_params": 1e9}, 2.3756, 2e-5),
    ("kaplan_tokens", "kaplan2020", {"n_tokens": 22e9}, 2.0992, 2e-5),
    # At C_c = 3.1e8 PF-days the law gives 1 nat, whatever the exponent.
    ("kaplan_compute", "kaplan2020", {"flops": 3.1e8 * 8.64e19}, 1.0, 1e-9),
    ("kaplan_critical_batch", "kaplan2020", {"reached_loss": 3.0}, 1.069e6, 1e-3),
    ("kaplan_critical_batch", "kaplan2020", {"reached_loss": 2.5}, 2.547e6, 1e-3),
    ("kaplan_joint", "kaplan2020", {"n_params": 1e9, "n_tokens": 22e9}, 2.36932, 1e-5),
    ("kaplan_joint", "kaplan2020", {"n_params": 1e9, "n_tokens": 1e300}, 2.31883, 1e-5),
    ("kaplan_steps", "kaplan2020", {"n_params": 1e9, "n_steps": 1e5}, 2.40051, 1e-5),
    ("kaplan_batch", "kaplan2020", {"n_params": 1e9, "n_steps": 1e5, "batch_tokens": 1e15}, 2.40051, 1e-5),
    ("optimal_params", "porian2024_tuned", {"flops": 1e19}, 3.28e8, 2e-3),
    ("optimal_params", "gemstones2025", {"flops": 1e21}, 1.784e9, 1e-3),
    ("superposition", "liu2025_opt", {"width": 4096}, 2.4535, 2e-5),
    ("henighan_params", "image_32", {"n_params": 1e8}, 2.35628, 1e-5),
    ("chinchilla", "hoffmann2022", {"n_params": 70e9, "n_tokens": 1.4e12}, 1.93665, 1e-5),
    ("chinchilla", "hoffmann2022_unrounded", {"n_params": 70e9, "n_tokens": 1.4e12}, 1.92085, 1e-5),
    ("chinchilla", "besiroglu2024", {"n_params": 70e9, "n_tokens": 1.4e12}, 1.97342, 1e-5),
    ("chinchilla", "gemstones2025", {"n_params": 1e9, "n_tokens": 1e11}, 2.70639, 1e-5),
    ("chinchilla_outer", "busbridge2025", {"n_params": 1e9, "n_tokens": 20e9}, 2.37469, 1e-5),
    ("chinchilla_outer", "busbridge2025", {"n_params": 1e9, "n_tokens": 512e9}, 2.16255, 1e-5),
    ("gadre", "redpajama", gadre(1.44e9, 640), 2.5198, 2e-4),
    ("gadre", "redpajama", gadre(6.89e9, 20), 2.4427, 2e-4),
    ("gadre_error", "redpajama", gadre(1.44e9, 640), 0.4925, 2e-4),
    ("gadre_error", "redpajama", gadre(6.89e9, 20), 0.4719, 3e-4),
    # Printed by the authors' code with sixteen digits.
    ("data_constrained", "muennighoff2023", dict(zip((*ND, "unique_tokens"), (6.34e9, 242e9, 25e9), strict=True)),
     2.2256440889984477, 1e-12),
    ("data_constrained", "muennighoff2023", dict(zip((*ND, "unique_tokens"), (8.67e9, 178e9, 25e9), strict=True)),
     2.2269634075087867, 1e-12),
    ("mixing_5", "ye2024_notebook", MIX, EQUAL_MIX, 1e-9),
    ("fine_grained", "krajewski2024", krajewski(7e9, 137.6e9, 32), 2.076, 0.015),
    ("fine_grained", "krajewski2024", krajewski(1e9, 28.94e9, 16), 2.491, 0.015),
    ("fine_grained", "krajewski2024", krajewski(1e12, 7.94e12, 64), 1.367, 0.015),
    ("leverage", "tian2025", {"flops": 1e22, "active_share": 0.031, "granularity": 12}, 7.245, 1e-4),
    ("leverage", "tian2025", {"flops": 1e22, "active_share": 1.0, "granularity": 12}, 0.990, 1e-3),
    ("parallel_streams", "pile", {"n_params": 4.4145e9, "p_streams": 8}, 1.7785, 2e-5),
    ("parallel_streams", "stack", {"n_params": 4.4145e9, "p_streams": 8}, 0.97968, 1e-4),
    ("vocabulary", "tao2024", {"n_params": 1.129891136e9, "vocab_size": 96256, "width": 2048, "n_chars": 2.36122e11},
     np.exp(-5.21804), 1e-5),
    ("knowledge", "allenzhu2024_1000", {"n_params": 7e9}, 1.4e10, 1e-9),
    ("step_rate", "li2025", {"n_params": 1e9, "n_tokens": 1e11}, 1.6325e-3, 1e-4),
    ("step_batch", "li2025", {"n_tokens": 1e11}, 1.1077e6, 1e-4),
    ("expert_rate", "ludziejewski2025", {"n_params": 1e9, "n_experts": 8}, 1.3426e-4, 1e-4),
    ("imitation_learning", "pour_water_objects", {"x": 32}, 0.0722, 1e-3),
    ("imitation_learning", "pour_water_environments", {"x": 16}, 0.1137, 1e-3),
    # Odds against a coverage.
    ("coverage_power", "pythia_12b", {"samples_per_problem": 1}, 1 / 0.0164 - 1, 4e-3),
    ("coverage_power", "pythia_12b", {"samples_per_problem": 100}, 1 / 0.4731 - 1, 3e-4),
    ("coverage_power", "pythia_12b", {"samples_per_problem": 1e4}, 1 / 0.8727 - 1, 1e-3),
    ("coverage_power", "gpt_4o_jailbreak", {"samples_per_problem": 1e4}, 1 / 0.909 - 1, 6e-3),
    ("video_text", "videomae_v2", {"n_frames": 1, "n_captions": 1}, 1 - 0.130, 1e-9),
    ("video_text", "videomae_v2", {"n_frames": 8, "n_captions": 1}, 1 - 0.2485, 1e-4),
    ("video_text", "videomae_v2", {"n_frames": 80, "n_captions": 10}, 1 - 0.3979, 1e-4),
    ("video_text", "dinov2", {"n_frames": 1, "n_captions": 1}, 1 - 0.190, 1e-9),
    ("kinetics", "qwen3_8b", {"n_params": 8.19e9, "thinking_tokens": 16384, "samples_per_problem": 1},
     (352.5 + 11_828) * 1e12, 1e-4),
]  # fmt: skip

UNCHECKED = {
    "quantisation_rise": {"second_text"},
    "chinchilla": {"krajewski2024_dense"},
    "pearce_song": {"pearce2024"},
    "gadre": {"c4", "refinedweb"},
    "gadre_error": {"c4", "refinedweb"},
    "gemstones_shape": {"gemstones2025"},
    "henighan_params": set(dict.fromkeys(source.key for source in LAWS["henighan_params"].info.published))
    - {"image_32"},
    "henighan_compute": {source.key for source in LAWS["henighan_compute"].info.published},
    "henighan_optimum": {source.key for source in LAWS["henighan_optimum"].info.published},
    "joint_experts": {"ludziejewski2025"},
    "quantised_training": {"w4a4", "w4a16", "w16a4", "w4a4_fc2_8bit"},
    "routed": {"s_base", "rl_r", "hash"},
    "annealing": {"luo2025_400m"},
    "coverage_power": {source.key for source in LAWS["coverage_power"].info.published}
    - {"pythia_12b", "gpt_4o_jailbreak"},
    "imitation_learning": {source.key for source in LAWS["imitation_learning"].info.published}
    - {"pour_water_objects", "pour_water_environments"},
    "multi_power": {"luo2025_25m", "luo2025_100m", "luo2025_400m"},
}
"""Sets without a row above: no value is known, or a test of their own below has it."""


@pytest.mark.parametrize(("name", "key", "inputs", "value", "tolerance"), GOLDEN)
def test_golden(name, key, inputs, value, tolerance):
    published = LAWS[name].published(key)
    np.testing.assert_allclose(published.predict(**inputs).mean, [value], rtol=tolerance)


def test_every_published_set_is_checked_or_listed():
    listed = {(name, key) for name, keys in UNCHECKED.items() for key in keys}
    checked = {(name, key) for name, key, *_ in GOLDEN}
    assert {(law.name, source.key) for law in LAWS.values() for source in law.info.published} == checked | listed


def value(name, key=None, **inputs):
    return float(LAWS[name].published(key).predict(**inputs).mean[0])


@pytest.mark.parametrize(
    ("name", "inputs", "low", "high"),
    [
        ("henighan_params", {"n_params": 1e8}, 0.4, 4.5),
        ("henighan_compute", {"flops": 1e20}, 0.2, 4.5),
        ("henighan_optimum", {"flops": 8.64e19}, 1e8, 1e10),
        ("gadre", gadre(1e9, 20), 2.2, 3.2),
        ("gadre_error", gadre(1e9, 20), 0.4, 0.7),
        ("gemstones_shape", {"width": 2048, "depth": 20, "n_params": 1e9, "n_tokens": 1e11}, 2.2, 3.2),
        ("routed", {"n_params": 1e8, "n_experts": 64}, 2.1, 2.8),
        ("chinchilla", {"n_params": 1e9, "n_tokens": 1e11}, 2.0, 3.2),
        ("coverage_power", {"samples_per_problem": 1000}, 0.1, 10.0),
        ("imitation_learning", {"x": 32}, 0.05, 0.2),
    ],
)
def test_published_sets_are_plausible(name, inputs, low, high):
    for source in LAWS[name].info.published:
        assert low < value(name, source.key, **inputs) < high, source.key


# --- Laws whose golden values are not one number -----------------------------------------------------------


def test_quantised_training():
    at = {"n_params": 594e6, "n_tokens": 100e9}
    # Groups of one number have no error of quantisation: log2 1 = 0.
    base = value("quantised_training", "w4a4", **at, group_size=1)
    rise = {key: value("quantised_training", key, **at, group_size=128) - base for key in ("w4a4", "w4a16", "w16a4")}
    np.testing.assert_allclose(base, 2.74093, rtol=1e-5)
    np.testing.assert_allclose(rise["w4a4"], 0.05730, rtol=2e-4)
    np.testing.assert_allclose(0.906 * (rise["w4a16"] + rise["w16a4"]), 0.05525, rtol=2e-4)


@pytest.mark.parametrize(
    ("experts", "m", "mu", "n", "nu"),
    [
        (1, 30.364, -0.1817, 53.984, -0.1965),
        (8, 21.833, -0.1676, 119.91, -0.2338),
        (32, 16.542, -0.1557, 234.67, -0.2652),
    ],
)
def test_joint_experts_is_chinchilla_at_fixed_experts(experts, m, mu, n, nu):
    law, constants = LAWS["joint_experts"], LAWS["joint_experts"].published().constants
    one, two = (law(N, 1e300, experts, **constants) - constants["c"] for N in (1e8, 1e10))
    exponent = np.log(two / one) / np.log(100.0)
    np.testing.assert_allclose(exponent, mu, atol=3e-4)
    np.testing.assert_allclose(one * 1e8**-mu, m, rtol=0.01)
    one, two = (law(1e300, D, experts, **constants) - constants["c"] for D in (1e10, 1e12))
    np.testing.assert_allclose(np.log(two / one) / np.log(100.0), nu, atol=3e-4)
    np.testing.assert_allclose(one * 1e10**-nu, n, rtol=0.01)


@pytest.mark.parametrize(
    ("key", "number", "step", "loss"),
    [("luo2025_400m", 1, 71936, 2.61848), ("luo2025_100m", 1, 71920, 2.86176), ("luo2025_400m", 2, 23936, 2.70045)],
)
def test_multi_power(key, number, step, loss):
    peak, last, warmup = 3e-4, 3e-5, 2160
    decay = peak * (last / peak) ** (np.arange(4000) / 4000)
    stable = np.concatenate([peak * np.arange(warmup) / warmup, np.full(20_000 - warmup, peak), decay])
    law = multi_power([cosine(72_000, peak, last, warmup), stable], name="golden")
    del LAWS["golden"]
    forecast = law.published(key).predict(schedule=number, step=step)
    np.testing.assert_allclose(forecast.mean, [loss], rtol=2e-6)


# --- Identities --------------------------------------------------------------------------------------------


def test_two_sided_power():
    law = LAWS["two_sided_power"]
    # a = 1: (E + r eps_0) / (1 + r) with r = b x^-c.
    np.testing.assert_allclose(law(1e4, E=0.1, H=0.9, a=1.0, B=50.0, c=0.5), 0.4, rtol=1e-12)
    x, small = np.geomspace(1e3, 1e6, 5), 1e-4
    with np.errstate(all="ignore"):
        got = law(x, E=0.1, H=0.9, a=small, B=10.0, c=0.5)
    # As a goes to 0 the ceiling no longer bends the curve.
    np.testing.assert_allclose(got, LAWS["saturating_power"](x, E=0.1, A=9.0, c=0.5), rtol=1e-3)
    np.testing.assert_allclose(law(1e-30, E=0.1, H=0.9, a=1.0, B=50.0, c=0.5), 1.0, rtol=1e-12)


def test_implicit_curves_are_solved():
    rng = np.random.default_rng(0)
    E, H, B = 0.1, 0.9, np.exp(1.5 * rng.standard_normal(2000))
    a, c, x = np.exp(rng.standard_normal(2000)), 0.5, np.exp(4.0 * rng.standard_normal(2000))
    u = (LAWS["two_sided_power"](x, E=E, H=H, a=a, B=B, c=c) - E) / H
    inside = (u > 1e-6) & (u < 1 - 1e-6)
    assert inside.mean() > 0.9
    u, want = u[inside], (B * x**-c)[inside]
    np.testing.assert_allclose(u * (1 - u) ** -a[inside], want, rtol=1e-7)
    constants = {**LAWS["kaplan_batch"].published().constants, "a_B": a / 5}
    batch, steps = np.exp(13 + rng.standard_normal(2000)), np.exp(10 + 2 * rng.standard_normal(2000))
    loss = LAWS["kaplan_batch"](1e9, steps, batch, **constants)
    fewest = steps / (1 + constants["B_star"] * loss ** (-5 / a) / batch)
    plain = {name: constants[name] for name in LAWS["kaplan_steps"].constants}
    np.testing.assert_allclose(LAWS["kaplan_steps"](1e9, fewest, **plain), loss, rtol=1e-10)


def test_broken():
    got = LAWS["broken_1"](1e4, a=0.1, b=2.0, c0=0.1, d1=1e3, c1=0.5, f1=0.2)
    np.testing.assert_allclose(got, 0.351785, rtol=1e-6)
    # Far from the break the exponents are c0 and c0 + c1.
    value = [LAWS["broken_1"](x, a=0.0, b=2.0, c0=0.1, d1=1e3, c1=0.5, f1=0.2) for x in (1e-6, 1e-5, 1e12, 1e13)]
    np.testing.assert_allclose(-np.diff(np.log10(value))[[0, 2]], [0.1, 0.6], rtol=1e-6)


def test_kaplan_batch_at_the_critical_batch():
    constants = LAWS["kaplan_batch"].published().constants
    loss = 2.4
    critical = constants["B_star"] * loss ** (-1 / constants["a_B"])
    size = constants["A"] * 1e9 ** -constants["a_N"]
    fewest = (constants["B"] / (loss - size)) ** (1 / constants["a_S"])
    # At the critical batch a loss takes twice the fewest steps.
    got = LAWS["kaplan_batch"](1e9, 2 * fewest, critical, **constants)
    np.testing.assert_allclose(got, loss, rtol=1e-10)


def test_pearce_song_counts():
    np.testing.assert_allclose(with_embeddings(1e6, 47491.0), 5.7491e6, rtol=1e-6)


def test_gadre_is_chinchilla_with_tied_exponents():
    constants = dict(LAWS["gadre"].published("c4").constants)
    eta = constants["eta"]
    # C = 6 N D and M = D / N: a (M / C)^eta = a 6^-eta N^(-2 eta), b (C M)^-eta = b 6^-eta D^(-2 eta).
    tied = {"E": constants["E"], "A": constants["a"] * 6**-eta, "alpha": 2 * eta}
    tied |= {"B": constants["b"] * 6**-eta, "beta": 2 * eta}
    N, D = 1e9, 3e10
    np.testing.assert_allclose(LAWS["gadre"](6 * N * D, D / N, **constants), LAWS["chinchilla"](N, D, **tied))


def test_repetition():
    np.testing.assert_allclose(repeats(1.0, 4.0, 15.387756), 3.7257, rtol=1e-5)
    np.testing.assert_allclose(repeats(1.0, 16.0, 15.387756), 10.582, rtol=1e-4)
    np.testing.assert_allclose(repeats(1.0, 1e9, 15.387756), 16.388, rtol=1e-4)
    constants = dict(LAWS["data_constrained"].published().constants)
    plain = {**{k: constants[k] for k in ("E", "A", "B", "alpha")}, "beta": constants["alpha"]}
    # A small model on fresh tokens is Chinchilla's.
    got = LAWS["data_constrained"](1e8, 1e11, 1e11, **constants)
    np.testing.assert_allclose(got, LAWS["chinchilla"](1e8, 1e11, **plain), rtol=1e-6)


def test_quality_quantity():
    law = LAWS["quality_quantity"]
    constants = {"d": 0.1, "a": 0.5, "b": 0.3, "tau": 2.0}
    np.testing.assert_allclose(law(7.0, 10.0, **constants), 0.1 + 0.5 * 7.0**-0.3)
    third = 0.5 * 10.0**-0.3 * 2.0 ** (-0.3 * 2 ** (-1 / 2)) * 1.2 ** (-0.3 * 2 ** (-2 / 2))
    np.testing.assert_allclose(law(24.0, 10.0, **constants), 0.1 + third, rtol=1e-6)


def test_rectified():
    law = LAWS["rectified"]
    np.testing.assert_allclose(law(1e-9, E=1.0, B=6.0, D_l=3.0, b=0.5), 3.0, rtol=1e-4)
    np.testing.assert_allclose(law(1e4, E=1.0, B=6.0, D_l=0.0, b=0.5), 1.0 + 6.0 / 100)


def test_distillation_limit():
    constants = {"E": 1.2, "A": 3000.0, "B": 18000.0, "k": 0.45, "alpha": 0.41, "beta": 0.43, "A_s": 2000.0}
    constants |= {"B_s": 24000.0, "k_s": 0.76, "alpha_s": 0.32, "beta_s": 0.64, "c0": 2.5, "d1": 1.3, "f1": 0.09}
    constants["c1f1"] = 47.0
    # An endless student on endless data reaches its teacher and no more.
    np.testing.assert_allclose(LAWS["distillation"](1e300, 1e300, 2.0, **constants), 2.0, rtol=1e-6)
    assert LAWS["distillation"](1e9, 5e11, 2.0, **constants) > 2.0


def test_share_curve_ends():
    np.testing.assert_allclose([share_curve(0.0, 0.7, 0.5, 0.8), share_curve(1.0, 0.7, 0.5, 0.8)], [0.0, 1.0])


def test_gates():
    np.testing.assert_allclose(gate(np.array([3.0, 4.0, 8.0, 16.0]), 2.6745), [0.674, 0.776, 0.950, 0.997], atol=1e-3)
    law = LAWS["precision"]
    constants = {"E": 0.0, "A": 4299.0, "B": 0.0, "alpha": 0.4965, "g_w": 2.6745, "g_a": 1.0, "g_kv": 1.0}
    # Weights in few bits, everything else exact.
    got = [law(1e8, 1e9, bits, 1e9, 1e9, **constants) for bits in (4.0, 1e9)]
    np.testing.assert_allclose(got, [0.520, 0.459], atol=1e-3)


def test_equal_gates_share_one_best_precision():
    # Three tensors at P bits and alpha = beta: at equal cost N D P the best P solves 3 u e^-u = 1 - e^-u, u = P / g.
    from bayescale.laws import optimum

    constants = {"E": 1.0, "A": 400.0, "B": 400.0, "alpha": 0.4, "g_w": 2.0, "g_a": 2.0, "g_kv": 2.0}
    bits, _ = optimum.best(
        LAWS["precision"],
        constants,
        lambda P: {
            **{"n_params": jnp.sqrt(1e20 / P / gate(P, 2.0) ** 3), "n_tokens": jnp.sqrt(1e20 / P * gate(P, 2.0) ** 3)},
            **{"bits_weight": P, "bits_act": P, "bits_cache": P},
        },
        1.0,
        30.0,
    )
    np.testing.assert_allclose(bits, 1.904 * 2.0, rtol=1e-3)


def test_two_sided():
    np.testing.assert_allclose([two_sided(0.0, 2.0, 300.0), two_sided(1e9, 2.0, 300.0)], [2.0, 300.0], rtol=1e-5)


def test_smooth_minimum():
    np.testing.assert_allclose(smooth_minimum(2.0, np.array([1e9, 2.0]), 4.0), [2.0, 2.0 * 2 ** (-1 / 4)], rtol=1e-6)


def test_mean_along():
    np.testing.assert_allclose(shapes.mean_along([4.0, 1.0], [1, 3]), 1.75)


def test_weight_decay_keeps_the_top_singular_value():
    # Rate d^-1 and decay d^(1/2): sqrt(rate / decay) d^(3/4) does not depend on the width.
    width = np.array([256.0, 1024.0, 4096.0])
    rate, decay = LAWS["rate_by_width"](width, A=1.0, c=1.0), LAWS["weight_decay_width"](width, A=1.0, c=0.5)
    np.testing.assert_allclose(np.sqrt(rate / decay) * width**0.75, 1.0)


def test_root_differentiates_implicitly():
    # x + ln x = y: dx/dy = 1 / (1 + 1/x), and the second derivative follows too.
    solve = lambda y: root(lambda x: x + jnp.log(x) - y, jnp.ones_like(y))  # noqa: E731
    with jax.enable_x64(True):
        x = solve(3.0)
        np.testing.assert_allclose(x + np.log(x), 3.0, rtol=1e-14)
        np.testing.assert_allclose(jax.grad(solve)(3.0), x / (1 + x), rtol=1e-12)
        np.testing.assert_allclose(jax.grad(jax.grad(solve))(3.0), x / (1 + x) ** 3, rtol=1e-10)
        np.testing.assert_allclose(jax.vmap(jax.grad(solve))(jnp.array([3.0, 3.0])), x / (1 + x), rtol=1e-12)


def test_steps_are_traced_once():
    trace = lambda steps: str(jax.make_jaxpr(lambda y: root(lambda x: x + jnp.log(x) - y, y, steps))(2.0))  # noqa: E731
    assert len(trace(3).splitlines()) == len(trace(40).splitlines())


# --- Schedules ---------------------------------------------------------------------------------------------


def slow_sums(rates, step, decay):
    """S1 and S2 of the annealing law, step by step."""
    memory, total = 0.0, 0.0
    for i in range(1, step + 1):
        memory = decay * memory + rates[i - 1] - rates[i]
        total += memory
    return rates[: step + 1].sum(), total


def test_annealing_against_the_definition():
    from bayescale.laws.catalogue.schedule import annealing

    rates = np.repeat([3e-4, 2e-4, 0.5e-4], [40, 25, 35])
    law = annealing([rates], name="golden")
    del LAWS["golden"]
    constants = {"L0": 2.0, "A": 0.5, "alpha": 0.6, "C": 0.4, "lam": 0.97}
    for step in (10, 40, 70, 99):
        spent, memory = slow_sums(rates, step, 0.97)
        np.testing.assert_allclose(law(1, step, **constants), 2.0 + 0.5 * spent**-0.6 - 0.4 * memory, rtol=1e-12)


def test_multi_power_against_the_definition():
    rates = np.concatenate([np.linspace(0.0, 3e-4, 20), np.full(30, 3e-4), np.linspace(3e-4, 1e-4, 50), [0.0] * 20])
    law = multi_power([np.full(9, 1e-4), rates], name="golden")
    del LAWS["golden"]
    constants = {"L0": 2.0, "A": 0.5, "alpha": 0.6, "B": 400.0, "C": 2.0, "beta": 0.6, "gamma": 0.6}
    for step in (5, 40, 80, 99):
        gain = sum(
            (rates[k - 1] - rates[k]) * (1 - (1 + 2.0 * rates[k] ** -0.6 * rates[k : step + 1].sum()) ** -0.6)
            for k in range(1, step + 1)
        )
        want = 2.0 + 0.5 * rates[: step + 1].sum() ** -0.6 - 400.0 * gain
        np.testing.assert_allclose(law(2, step, **constants), want, rtol=1e-12)


def test_unknown_schedule_is_refused():
    with pytest.raises(bs.InputError, match="not positive at these inputs"):
        LAWS["multi_power"].published("luo2025_400m").predict(schedule=3, step=1e4)


def test_bad_schedules():
    for bad in ([], [np.zeros(5)], [np.array([1.0, np.nan])], [np.ones((2, 2))], [np.array([-1.0, 1.0])]):
        with pytest.raises(bs.InputError, match=r"expected|must be"):
            multi_power(bad, name="bad")
    assert "bad" not in LAWS
