"""Laws of scores, test time, post-training, data and shape: what their papers and algebra give, and what is refused."""

import jax
import numpy as np
import pandas as pd
import pytest
from scipy.special import betaln, gammaln

import bayescale as bs
from bayescale.data.score import ScoreScale
from bayescale.evaluate.designs import made_up
from bayescale.laws import optimum
from bayescale.laws.describe import section
from bayescale.laws.inputs import INPUTS
from bayescale.laws.registry import LAWS
from bayescale.laws.responses import RESPONSES
from bayescale.laws.shapes import log_gamma_ratio
from bayescale.model.prepare import make_jobs
from bayescale.posterior.checks import reasons_for_distrust

SECTIONS = ("downstream", "trends", "inference", "posttraining", "data_decisions", "shape")
NEW = [law for law in LAWS.values() if section(law) in SECTIONS]


def scored(name, *inputs, chance=0.0, **constants):
    """The score that a law of scores gives."""
    return ScoreScale(chance=chance).score(np.log(LAWS[name](*map(np.asarray, inputs), **constants)))


# --- Numbers of the papers ----------------------------------------------------------------------------------


def test_difficulty_cluster():
    got = scored("difficulty_cluster", [1.0, 100.0, 1e4], chance=0.25, a=5.0, b=0.2, c=0.05)
    np.testing.assert_allclose(got, [0.2548, 0.3475, 0.5730], atol=5e-5)


def test_scale_rl():
    # C / C_mid of a quarter, one and four, with R0 = .3, A = .61 and B = 1.8.
    start, ceiling, B, middle = 0.3, 0.61, 1.8, 5e3
    E = (1.0 - ceiling) / (ceiling - start)
    hours = middle * np.array([0.25, 1.0, 4.0])
    got = scored("scale_rl", hours, chance=start, E=E, A=middle**B * (1.0 + E), c=B)
    np.testing.assert_allclose(got, [0.3236, 0.4550, 0.5864], atol=5e-5)
    np.testing.assert_allclose(start + (1 - start) / (1 + E), ceiling)


def test_pass_rates_are_exponentials_of_a_power_law():
    sizes = np.array([1e8, 2e8, 4e8])
    surprise = -np.log(scored("pass_until", sizes, A=3000.0, c=0.4))
    np.testing.assert_allclose(surprise[1:] / surprise[:-1], 2.0**-0.4, rtol=1e-9)


def test_horizons():
    for p, length in ((0.9, 6.6), (0.95, 13.5), (0.99, 69.0), (0.999, 692.8)):
        np.testing.assert_allclose(scored("horizon", length, A=-np.log(p), nu=1.0), 0.5, atol=3e-3)
        np.testing.assert_allclose(LAWS["step_horizon"](1.0, S=np.log(2), A=1 / p - 1, c=1.0), length, rtol=4e-3)
    # Steps that fail independently: half of the tasks are 3.106 times as long as those of which .8 succeed.
    lengths = np.geomspace(1.0, 1e3, 4001)
    reach = [lengths[np.argmin(np.abs(scored("horizon", lengths, A=0.01, nu=1.0) - s))] for s in (0.5, 0.8)]
    np.testing.assert_allclose(reach[0] / reach[1], 3.106, rtol=5e-3)
    same = scored("horizon", lengths, A=0.01, nu=1.0)
    np.testing.assert_allclose(scored("horizon_frailty", lengths, A=0.01, theta=1e-6), same, atol=1e-4)
    np.testing.assert_allclose(scored("horizon_frailty", 30.0, A=0.01, theta=2.0), (1 + 2 * 0.3) ** -0.5, rtol=1e-12)


@pytest.mark.parametrize(("p", "limit"), [(0.3, 0.8108), (0.05, 0.3448)])
def test_no_number_of_samples_passes_an_imperfect_verifier(p, limit):
    accepted = p + (1 - p) * 0.1
    got = scored("imperfect_verifier", [1.0, 1e6], F=p / accepted, r=-np.log1p(-accepted))
    np.testing.assert_allclose(got, [p, limit], atol=5e-5)


def test_attempts_plateau():
    np.testing.assert_allclose(scored("attempts_plateau", 7.0, F=0.6, r=-np.log(0.9)), 0.6 * (1 - 0.9**7))


def test_bleu_log():
    np.testing.assert_allclose(LAWS["bleu_log"](1e9, K=0.0, alpha=0.1, beta=2.0), 4.2945, rtol=1e-4)


def test_exponents_of_reinforcement_learning():
    constants = {"A": 1.0, "e": 0.1, "K": 0.1518, "N0": 17.37e9, "X0": 1e20}
    for size, exponent in ((32e9, 0.0984), (72e9, 0.1223)):
        ratio = LAWS["rl_compute"](size, 1e21, **constants) / LAWS["rl_compute"](size, 1e20, **constants)
        np.testing.assert_allclose(-np.log10(ratio), exponent, atol=6e-5)
    np.testing.assert_allclose(ratio, 0.755, atol=5e-4)


def test_rewards_peak_where_the_papers_say():
    grid = np.linspace(0.01, 12.0, 20_001)
    reward = -np.log(LAWS["reward_policy"](grid, F=1.0, alpha=1.0, beta=0.4))
    np.testing.assert_allclose([grid[reward.argmax()], reward.max()], [4.482, 1.793], atol=1e-3)
    reward = -np.log(LAWS["reward_best_of_n"](grid, F=1.0, alpha=1.0, beta=0.2))
    np.testing.assert_allclose([grid[reward.argmax()], reward.max()], [1 / 0.4, 1 / 0.8], atol=1e-3)
    same = LAWS["reward_by_size"](grid, 3e8, F=1.0, alpha=1.0, a=0.2, beta=0.4, d0=1.0, N0=3e8)
    np.testing.assert_allclose(same, LAWS["reward_policy"](grid, F=1.0, alpha=1.0, beta=0.4))


def test_capability_by_annotated_samples():
    gain = LAWS["annotated_samples"](np.array([2.0, 10.0]), A=1.0, c=0.068) - 1.0
    np.testing.assert_allclose(gain, [0.0483, 0.169], atol=6e-4)


# --- Identities ---------------------------------------------------------------------------------------------


def test_coverage_of_beta_rates():
    k, alpha, beta = np.array([1.0, 10.0, 1e4, 1e9]), 0.3, 3.0
    want = -np.expm1(betaln(alpha, beta + k) - betaln(alpha, beta))
    np.testing.assert_allclose(scored("coverage_beta", k, alpha=alpha, beta=beta), want, rtol=1e-8)
    # Many samples miss a power law's share, however few pass.
    missed = 1.0 - want[2:]
    np.testing.assert_allclose(-np.diff(np.log(missed)) / np.log(1e5), alpha, rtol=1e-4)


def test_ratio_of_gamma_functions():
    z, a = np.meshgrid(np.geomspace(0.01, 1e4, 9), np.geomspace(0.01, 30.0, 7))
    with jax.enable_x64(True):
        got = log_gamma_ratio(z, a)
    np.testing.assert_allclose(got, gammaln(z) - gammaln(z + a), rtol=1e-9, atol=1e-7)


def test_difficulty_mixture():
    easy, hard = np.exp(-2.0 * 5.0**-0.5), np.exp(-4.0 * 2.0 * 5.0**-0.5)
    got = scored("difficulty_mixture", 5.0, w=0.3, A=2.0, c=0.5, r=3.0)
    np.testing.assert_allclose(got, 0.3 * easy + 0.7 * hard, rtol=1e-12)


def test_task_ladder_is_both_steps():
    loss = 0.5 + 40.0 * 1e9**-0.25 + 90.0 * 2e10**-0.25
    k, middle = 6.0, 0.9
    second = LAWS["loss_sigmoid"](loss, F=np.exp(-k * middle), k=k)
    got = LAWS["task_ladder"](1e9, 2e10, F=np.exp(k * (0.5 - middle)), A=k * 40, alpha=0.25, B=k * 90, beta=0.25)
    np.testing.assert_allclose(got, second, rtol=1e-12)


def test_turns():
    x = np.geomspace(1.0, 1e4, 4001)
    down = LAWS["turning"](x, A=2.0, T=50.0, c=0.7, d=0.2)
    up = LAWS["rise_then_fall"](x, A=2.0, T=50.0, c=0.7, d=0.2)
    bottom = LAWS["valley"](x, A=2.0, T=50.0, b=0.4)
    for place in (down.argmin(), up.argmax(), bottom.argmin()):
        np.testing.assert_allclose(x[place], 50.0, rtol=3e-3)
    np.testing.assert_allclose([down.min(), up.max(), bottom.min()], 2.0, rtol=1e-4)
    # Power laws far from the turn.
    far = np.array([[1e-12, 1e-11], [1e14, 1e15]])
    slopes = np.diff(np.log10(LAWS["turning"](far, A=2.0, T=50.0, c=0.7, d=0.2)))[:, 0]
    np.testing.assert_allclose(slopes, [-0.7, 0.2], atol=1e-6)
    np.testing.assert_allclose(
        LAWS["sharp_transition"](np.array([1.0, 50.0, 1e4]), E=1.0, H=2.0, T=50.0, k=8.0), [3, 2, 1]
    )


def test_best_shares_move_with_compute():
    constants = {"A": 3.0, "c": 0.05, "b": 0.4, "T": 0.5, "m": 0.02}
    best, _ = optimum.best(LAWS["moving_valley"], constants, lambda s: {"flops": 1e20, "kept_share": s}, 0.01, 10.0)
    np.testing.assert_allclose(best, 0.5 * 1e20**0.02, rtol=1e-3)


def test_projection_from_two_sizes():
    # The straight line in ln n through losses at two pilot sizes, for a mixture at distance .4.
    law, constants = LAWS["transport"], {"B": 2.0, "b": 0.5, "c": 0.03, "n0": 1e4}
    small, large = law(1e4, 0.4, **constants), law(1e6, 0.4, **constants)
    n = 1e8
    projected = (np.log(n / 1e4) * large - np.log(n / 1e6) * small) / np.log(1e6 / 1e4)
    np.testing.assert_allclose(law(n, 0.4, **constants), projected, rtol=1e-12)


def test_pools_before_they_repeat():
    one = LAWS["quality_quantity"](500.0, 1e3, d=0.1, a=0.5, b=0.3, tau=2.0)
    both = {"d": 0.1, "a": 0.5, "b1": 0.3, "b2": 0.1, "n0": 1.0}
    np.testing.assert_allclose(LAWS["two_pools"](500.0, 1.0, **both), one)
    np.testing.assert_allclose(LAWS["two_pools"](500.0, 0.5, **both), 0.1 + 0.5 * 500.0**-0.2)


def test_pruning_pays_beyond_its_break():
    constants = {"E": 0.0, "A": 5.0, "c": 0.3, "h": 0.2, "k": 2.0}
    n = np.exp(10.0) * np.array([0.1, 1.0, 10.0])
    gain = LAWS["data_pruning"](n, 1.0, **constants) / LAWS["data_pruning"](n, 0.4, **constants)
    assert gain[0] < 1.0 < gain[2]
    np.testing.assert_allclose(gain[1], 1.0)


def test_repetition():
    constants = {"E": 1.5, "B": 900.0, "beta": 0.3, "R_D": 15.0, "H": 0.002, "h": 1.0}
    fresh = LAWS["repetition_harm"](1e10, 1e10, **constants)
    np.testing.assert_allclose(fresh, 1.5 + 900.0 * 1e10**-0.3)
    epochs = LAWS["repetition_harm"](1e10 * np.array([1.0, 4.0, 16.0, 256.0]), 1e10, **constants)
    assert epochs[1] < epochs[0] and epochs[3] > epochs[0]


def test_speculative_decoding_counts_accepted_tokens():
    # One token always, and each drafted one if all before it were accepted.
    got = LAWS["speculative_speedup"](4.0, p=0.8, c=0.1)
    np.testing.assert_allclose(got, sum(0.8**i for i in range(5)) / 1.4, rtol=1e-12)


def test_a_single_language_lacks_the_leap():
    got = LAWS["parallel_languages"](np.array([1.0, 2.0, 8.0]), A=0.5, b=0.25, gap=0.2)
    np.testing.assert_allclose(got, [0.4, 0.5 * 2**0.25, 0.5 * 8**0.25])


def test_an_example_of_another_domain_counts_in_part():
    law, constants = LAWS["finetune_mixture"], {"E": 0.2, "A": 3.0, "t": 0.25, "c": 0.4}
    np.testing.assert_allclose(law(1e4, 0.2, **constants), law(1e4 * 0.4, 1.0, **constants))


def test_dimension_decides_the_exponent():
    constants = {"A": 2.0, "g": 1.0, "q": 1.0, "n0": 1.0}
    loss = LAWS["intrinsic_dimension"](np.array([1e3, 1e5]), 20.0, 3.0, **constants)
    np.testing.assert_allclose(np.diff(np.log(loss)), -np.log(100.0) / 20.0)
    np.testing.assert_allclose(loss[0], 6.0 * 1e3 ** (-1 / 20))


# --- What a law describes -----------------------------------------------------------------------------------

SIZES = np.geomspace(1e8, 1e10, 8)


def runs_of(response):
    """Eight runs with a score or with a loss."""
    frame = pd.DataFrame({"n_params": SIZES, "score": np.linspace(0.3, 0.8, 8), "n_items": 500})
    if response == "score":
        return bs.read(frame, score="score")
    return bs.Runs.from_frame(frame.assign(loss=2.0).drop(columns=["score", "n_items"]), inputs=("n_params",))


@pytest.mark.parametrize(
    ("law", "response", "said"),
    [
        ("pass_until", "loss", "pass_until describes a score through the odds against.*score= \\(--score\\)"),
        ("logistic", "loss", "these runs have a loss"),
        ("growing_power", "score", "growing_power describes count and not the odds.*loss= \\(--loss\\)"),
        ("log_linear", "score", "--law logistic"),
    ],
)
def test_a_law_of_another_response_is_refused(law, response, said):
    with pytest.raises(bs.InputError, match=said) as refusal:
        bs.fit(runs_of(response), law, seed=0)
    assert "\n" not in str(refusal.value)


def test_laws_of_losses_describe_odds_as_well():
    for name in ("saturating_power", "turning", "no_trend"):
        assert make_jobs(runs_of("score"), name)[0].law.info.describes == "loss"


def test_an_unknown_response_is_refused():
    with pytest.raises(bs.InputError, match="describes='score' is not a known response"):

        @bs.register_law(inputs="x", priors={"A": bs.Level()}, describes="score")
        def bad(x, *, A):
            return A + 0.0 * x

    assert "bad" not in LAWS
    assert {law.info.describes for law in LAWS.values()} == set(RESPONSES)


def test_variants_describe_what_their_base_does_unless_said():
    assert LAWS["power"].info.describes == "loss"
    assert {LAWS[name].info.describes for name in ("logistic", "pass_rate", "win_rate_policy")} == {"odds"}
    assert {LAWS[name].info.describes for name in ("growing_power", "henighan_optimum")} == {"quantity"}


def test_inputs_are_read_by_their_names():
    names = tuple(dict.fromkeys(name for law in NEW for name in law.inputs if name != "x"))
    rng = np.random.default_rng(0)
    table = pd.DataFrame({name: 100 * np.exp(rng.normal(size=9)) for name in names})
    table["share"] = rng.uniform(0.1, 0.5, 9)
    scores = bs.read(table.assign(acc=0.5, n_items=100), score="acc", inputs=names, units=dict.fromkeys(names, 1.0))
    assert scores.inputs == names


def test_the_catalogue_is_complete():
    assert len(bs.laws.BUILT_IN) >= 110
    assert {name for law in NEW for name in law.inputs} <= {*INPUTS, "x"}
    for law in NEW:
        assert made_up(law).inputs == (("flops",) if law.inputs == ("x",) else law.inputs)


# --- Recovered ----------------------------------------------------------------------------------------------


MORE = bs.Nuts(chains=2, draws=1000)


@pytest.mark.slow
def test_a_pass_rate_law_is_recovered_and_reaches_further():
    law, truth = LAWS["pass_until"], {"A": 2e4, "c": 0.5}
    sizes = np.geomspace(1e7, 2e9, 8)
    right = np.random.default_rng(2).binomial(2000, scored("pass_until", sizes, **truth))
    table = pd.DataFrame({"n_params": sizes, "passes": right / 2000, "n_items": 2000})
    post = bs.fit(bs.read(table, score="passes"), law, seed=0, discrepancy=None, settings=MORE)
    assert post.status is bs.Status.OK
    low, high = np.quantile(post.draws["c"], [0.01, 0.99])
    assert low < 0.5 < high < 0.6
    (low,), (high,) = post.predict(n_params=2e10).interval(0.98)
    assert low < scored("pass_until", 2e10, **truth) < high < low + 0.2


@pytest.mark.slow
def test_the_turn_of_a_score_has_a_probability():
    law, truth = LAWS["inverted_u_score"], {"A": 0.5, "T": 2e9, "c": 0.8, "d": 0.6}
    sizes = np.geomspace(1e8, 2e10, 12)
    right = np.random.default_rng(1).binomial(2000, scored("inverted_u_score", sizes, **truth))
    table = pd.DataFrame({"n_params": sizes, "acc": right / 2000, "n_items": 2000})
    post = bs.fit(bs.read(table, score="acc"), law, seed=0, discrepancy=None, settings=MORE)
    assert post.status is bs.Status.OK
    # A law that turns where the score does is no reason for distrust.
    assert reasons_for_distrust(post) == []
    turn = post.draws["T"]
    low, high = np.quantile(turn, [0.01, 0.99])
    assert low < 2e9 < high
    assert np.mean(turn < sizes[-1]) > 0.99 and np.mean(turn < sizes[4]) < 0.01


def test_the_input_of_a_law_that_the_runs_do_not_have_is_named():
    frame = pd.DataFrame({"GPU hours": [100, 200, 400], "accuracy": [0.3, 0.4, 0.5], "n_items": 1000})
    with pytest.raises(bs.InputError, match="scale_rl needs accelerator_hours") as told:
        bs.fit(bs.read(frame, score="accuracy"), law="scale_rl", seed=0)
    assert "(--input accelerator_hours)" in str(told.value)
    assert "--column accelerator_hours=" in str(told.value)
