"""Optimum: closed forms, golden values of papers, and draws that travel through."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayescale.laws import optimum
from bayescale.laws.optimum import allocation, best, best_mixture, crossing, equivalent, marginal, minimum
from bayescale.laws.registry import LAWS

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def published(name, key=None):
    return LAWS[name], dict(LAWS[name].published(key).constants)


@pytest.mark.parametrize(
    ("key", "share", "ratio"),
    [("hoffmann2022", 0.4516, 92.8), ("hoffmann2022_unrounded", 0.4565, 59.0), ("besiroglu2024", 0.5126, 18.33)],
)
def test_chinchilla_budget(key, share, ratio):
    _, constants = published("chinchilla", key)
    params, tokens = allocation(constants, 5.88e23)
    np.testing.assert_allclose(tokens / params, ratio, rtol=2e-3)
    more, _ = allocation(constants, 5.88e24)
    np.testing.assert_allclose(np.log10(more / params), share, atol=1e-4)


def test_gemstones_budget():
    _, constants = published("chinchilla", "gemstones2025")
    params, tokens = allocation(constants, 1e21)
    np.testing.assert_allclose([params, tokens / params], [3.911e9, 10.9], rtol=1e-3)


@pytest.mark.parametrize("name", ["chinchilla", "chinchilla_outer"])
def test_search_finds_the_closed_form(name):
    law, constants = published(name, "besiroglu2024" if name == "chinchilla" else "busbridge2025")
    rng = np.random.default_rng(0)
    # Draws of the constants, in any shape.
    constants = {key: value * np.exp(0.02 * rng.standard_normal((2, 3))) for key, value in constants.items()}
    found = optimum.optimum(law, constants, 1e22)
    params, tokens = allocation(constants, 1e22)
    assert found["n_params"].shape == (2, 3)
    np.testing.assert_allclose(found["n_params"], params, rtol=1e-6)
    np.testing.assert_allclose(found["n_tokens"], tokens, rtol=1e-6)
    np.testing.assert_allclose(found["value"], law(params, tokens, **constants), rtol=1e-10)


def test_serving_makes_models_smaller():
    law, constants = published("chinchilla", "besiroglu2024")
    alone = optimum.optimum(law, constants, 1e22)
    served = optimum.optimum(law, constants, 1e22, cost=lambda N, D: 6.0 * N * D + 2.0 * N * 1e12)
    np.testing.assert_allclose(6 * served["n_params"] * served["n_tokens"] + 2e12 * served["n_params"], 1e22, rtol=1e-9)
    assert served["n_params"] < alone["n_params"]
    # At the optimum the gain of each input is proportional to its price.
    gain = marginal(law, constants, {key: served[key] for key in law.inputs})
    price = 6 * served["n_tokens"] + 2e12, 6 * served["n_params"]
    np.testing.assert_allclose(gain["n_params"] / price[0], gain["n_tokens"] / price[1], rtol=1e-6)


@pytest.mark.parametrize(
    ("experts", "params", "tokens"), [(1, 5.71e9, 29.2e9), (8, 3.79e9, 44.0e9), (32, 2.88e9, 57.9e9)]
)
def test_joint_experts_table(experts, params, tokens):
    law, constants = published("joint_experts")
    found = optimum.optimum(law, constants, 1e21, at={"n_experts": experts})
    np.testing.assert_allclose([found["n_params"], found["n_tokens"]], [params, tokens], rtol=3e-3)


def test_count_without_embeddings_explains_kaplan():
    law, constants = published("pearce_song")
    # Small and large budgets; those between follow the same constants, and each compiles two searches.
    for budget, size, exponent in ((1e17, 9.8e6, 0.85), (1e21, 2.7e9, 0.52)):
        here, above = (optimum.optimum(law, constants, more * budget, low=1e2)["n_params"] for more in (1.0, 1.1))
        np.testing.assert_allclose(here, size, rtol=0.01)
        np.testing.assert_allclose(np.log(above / here) / np.log(1.1), exponent, atol=0.005)


def test_best_granularity():
    law, constants = published("leverage")
    number, value = best(
        law,
        constants,
        lambda G: {"flops": 1e22, "active_share": 0.031, "granularity": G},
        1.0,
        256.0,
        largest=True,
    )
    np.testing.assert_allclose(number, 2 ** (0.117 / (2 * 0.0167)), rtol=1e-6)
    np.testing.assert_allclose(number, 11.34, rtol=1e-3)
    assert value > 7.2


def test_best_vocabulary():
    law, constants = published("vocabulary")

    def path(vocabulary):
        # The budget leaves a number of tokens; the law wants characters.
        thousands = jnp.log(vocabulary / 1e3)
        tokens = 7.1e21 / (6.0 * (7e9 + 4096.0 * vocabulary))
        chars = tokens / (0.00639222 * thousands**2 - 0.15811069 * thousands + 1.20470122)
        return {"n_params": 7e9, "vocab_size": vocabulary, "width": 4096.0, "n_chars": chars}

    number, _ = best(law, constants, path, 5e3, 1.9e5)
    # The paper's budget for this size is known to two digits.
    np.testing.assert_allclose(number, 59548, rtol=5e-3)


def test_best_rate_and_batch():
    law = LAWS["step_valley"]
    constants = {"E": 1.7, "A": 400.0, "alpha": 0.34, "B": 2000.0, "beta": 0.37, "h": 0.01, "g": 0.005}
    constants |= {"c": 1.79, "p": 0.713, "q": 0.307, "d": 0.58, "r": 0.571}
    at = {"n_params": 1e9, "n_tokens": 1e11}
    rate, _ = best(law, constants, lambda x: {**at, "lr": x, "batch_tokens": 1e6}, 1e-5, 1e-1)
    batch, _ = best(law, constants, lambda x: {**at, "lr": 1e-3, "batch_tokens": x}, 1e4, 1e8)
    np.testing.assert_allclose([rate, batch], [1.6325e-3, 1.1077e6], rtol=1e-4)


def test_best_at_an_end():
    law, constants = published("chinchilla", "besiroglu2024")
    number, _ = best(law, constants, lambda N: {"n_params": N, "n_tokens": 1e11}, 1e8, 1e10)
    np.testing.assert_allclose(number, 1e10, rtol=1e-9)


def test_encoder_and_decoder():
    constants = {"E": 1.0, "A": 50.0, "p_e": 0.1, "p_d": 0.2}
    encoder, _ = best(
        LAWS["encoder_decoder"], constants, lambda N: {"n_encoder": N, "n_decoder": 1e9 - N}, 1e6, 0.999e9
    )
    np.testing.assert_allclose(encoder / (1e9 - encoder), 0.5, rtol=1e-5)


def test_critical_number_of_tokens():
    # Floating point: D^(2 beta) = d N^alpha (E+.5)^delta (M+.5)^nu / (h log2 B).
    constants = {"eps": 1.9, "n": 70.0, "alpha": 0.24, "d": 7e4, "beta": 0.52, "h": 1e-4, "delta": 3.2, "nu": 3.0}
    at = {"n_params": 1e9, "exponent_bits": 2.0, "mantissa_bits": 1.0, "block_size": 128.0}
    tokens, _ = best(LAWS["floating_point"], constants, lambda D: {**at, "n_tokens": D}, 1e8, 1e16)
    worth = 7e4 * 1e9**0.24 * 2.5**3.2 * 1.5**3.0 / (1e-4 * 7.0)
    np.testing.assert_allclose(tokens, worth ** (1 / (2 * 0.52)), rtol=1e-6)


def test_effective_size_of_routed_models():
    law, constants = published("routed", "s_base")
    a, b, c, first = (constants[key] for key in ("a", "b", "c", "E_start"))
    dense = equivalent(law, constants, {"n_params": 1e9, "n_experts": 64}, "n_params", {"n_experts": 1})
    experts = 1.0 / (1.0 / (63 + 1.0 / (1.0 / first - 1.0 / constants["E_max"])) + 1.0 / constants["E_max"])
    slope = {number: -a + c * np.log10(number) for number in (experts, first)}
    want = (1e9 ** slope[experts] * (experts / first) ** -b) ** (1 / slope[first])
    np.testing.assert_allclose(dense, want, rtol=1e-6)
    # At N = 10^(b/c) routing pays no longer.
    cut = 10 ** (b / c)
    np.testing.assert_allclose(law(cut, 64, **constants), law(cut, 2, **constants), rtol=1e-9)


def test_equivalent_out_of_reach():
    law, constants = published("parallel_streams", "pile")
    assert np.isnan(
        equivalent(law, constants, {"n_params": 1e9, "p_streams": 8}, "n_params", {"p_streams": 1}, reach=1.01)
    )
    more = equivalent(law, constants, {"n_params": 1e9, "p_streams": 8}, "n_params", {"p_streams": 1})
    np.testing.assert_allclose(more, 1e9 * (constants["k"] * np.log(8) + 1), rtol=1e-9)


def test_mixture_inside_and_at_the_edge():
    def loss(r, c):
        return c["k1"] * jnp.exp(-c["t1"] * r[0]) + c["k2"] * jnp.exp(-c["t2"] * r[1])

    constants = {"k1": np.array([1.0, 2.0, 1.0]), "k2": 1.0, "t1": 2.0, "t2": np.array([3.0, 3.0, 0.1])}
    shares, value = best_mixture(loss, constants, 2)
    inner = (np.log(2.0 * constants["k1"] / constants["t2"]) + constants["t2"]) / (2.0 + constants["t2"])
    # The last draw's second domain helps too little to get any share.
    np.testing.assert_allclose(shares[:, 0], [*inner[:2], 1.0], atol=1e-6)
    np.testing.assert_allclose(shares.sum(1), 1.0)
    assert value.shape == (3,)


def test_mixture_of_five_beats_its_neighbours():
    law, constants = published("mixing_5")
    objective = lambda r, c: law.function(*r, **c) + 0.2 * (r**2).sum()  # noqa: E731
    shares, value = best_mixture(objective, constants, 5)
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        for _ in range(50):
            near = shares * np.exp(0.05 * rng.standard_normal(5))
            assert objective(near / near.sum(), constants) >= value


def test_crossing():
    # 4 x^-.05 and 6 x^-.07 meet at 6.38e8.
    place = np.exp(crossing({"A": 4.0, "c": 0.05}, {"A": 6.0, "c": 0.07}))
    np.testing.assert_allclose(place, 6.38e8, rtol=1e-3)
    assert np.isinf(crossing({"A": 4.0, "c": 0.05}, {"A": 6.0, "c": 0.05}))


def test_critical_batch():
    _, constants = published("kaplan_batch")
    np.testing.assert_allclose(optimum.critical_batch(constants, np.array([3.0, 2.5])), [1.069e6, 2.547e6], rtol=1e-3)


def test_optimum_follows_its_constants():
    # d/da of argmin (x - a)^2 + (x - a)^4 is 1.
    with jax.enable_x64(True):
        place = lambda a: minimum(lambda x: (x - a) ** 2 + (x - a) ** 4, -5.0, 5.0)  # noqa: E731
        np.testing.assert_allclose([place(0.7), jax.grad(place)(0.7)], [0.7, 1.0], rtol=1e-6)
