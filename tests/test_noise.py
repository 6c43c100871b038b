"""Questions about replicates: seed sd, differences of recipes, bars, resolution; simulated data with known answers."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import nct, ttest_1samp, ttest_ind
from scipy.stats import t as t_distribution

import bayescale as bs
from bayescale.decide.noise import noise, smallest_gaps
from bayescale.decide.seed_differences import rounding
from bayescale.decide.sequential import levels, look, p_values
from bayescale.digits import shown


def runs_of(table, **options):
    return bs.Runs.from_frame(pd.DataFrame(table), inputs=[], **options)


def recipes(rng, gap=-0.002, seeds=6, common=0.0005, own=0.00005, level=3.28):
    """Two recipes whose runs of one seed share most of their noise."""
    shared = common * rng.standard_normal(seeds)
    rows = []
    for name, mean in (("base", level), ("new", level + gap)):
        values = mean + shared + own * rng.standard_normal(seeds)
        rows += [{"family": name, "seed": seed, "loss": value} for seed, value in enumerate(values)]
    return runs_of(rows)


def test_seed_sd_is_what_runs_were_simulated_with():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        losses = 3.0 * np.exp(0.0006 * rng.standard_normal(8))
        found = noise(runs_of({"seed": range(8), "loss": losses}))
        low, high = found.sd[0.05], found.sd[0.95]
        inside += low < 0.0018 < high
    # 90 % intervals under a prior that is centred near the truth: 180 +- 12.
    assert 165 <= inside <= 199
    assert found.freedom == 7


def test_differences_are_paired_by_shared_seeds():
    rng = np.random.default_rng(1)
    found = noise(recipes(rng))
    (difference,) = found.differences
    assert difference.pairs == 6
    assert difference.difference == pytest.approx(-0.002, abs=1e-4)
    assert difference.error < 0.2 * difference.unpaired_error
    assert difference.p_better > 0.999
    assert "new is better" in found.text
    inside = 0
    for _ in range(200):
        (one,) = noise(recipes(rng)).differences
        inside += one.low < -0.002 < one.high
    assert 165 <= inside <= 199


def test_recipes_without_common_seeds_are_not_paired():
    rng = np.random.default_rng(2)
    table = recipes(rng).frame
    apart = table.assign(seed=table["seed"] + np.where(table["family"] == "new", 100, 0))
    (difference,) = noise(runs_of(apart)).differences
    assert difference.pairs == 0
    assert difference.error == difference.unpaired_error
    assert "not paired" in difference.text


def test_first_step_below_a_bar_with_digits_that_tell_it_apart():
    rng = np.random.default_rng(3)
    rows = []
    offsets = 0.001 * rng.standard_normal(14)
    offsets -= offsets.mean()
    for step, mean in ((2740, 3.27944), (2750, 3.27925), (2760, 3.27907), (2780, 3.27872)):
        rows += [{"seed": seed, "step": step, "loss": mean + offset} for seed, offset in enumerate(offsets)]
    found = noise(runs_of(rows), bar=3.27893)
    (first,) = found.first_met.values()
    assert first["step"] == 2780
    assert "3.27872" in found.text
    assert "step 2760 has 3.27907" in found.text
    # Fourteen runs at four steps are fourteen runs.
    assert found.freedom == 13
    assert "is not below" in noise(runs_of(rows), bar=3.2).text


def test_more_seeds_show_smaller_gaps():
    found = noise(recipes(np.random.default_rng(4)), seeds=[2, 8])
    two, eight = found.resolution["gap"]
    # Twice by the number of seeds, and more because two seeds say little of their sd.
    assert 2.0 * eight < two < 4.0 * eight
    assert (found.resolution["gap_paired"] < found.resolution["gap"]).all()


def test_another_run_within_a_tolerance():
    losses = 2.7112 + 0.002 * np.random.default_rng(5).standard_normal(10)
    runs = runs_of({"seed": range(10), "loss": losses})
    (wide,) = noise(runs, reference=2.7112, within=0.01).p_same.values()
    (narrow,) = noise(runs, reference=2.7112, within=0.001).p_same.values()
    assert wide > 0.99
    assert 0.2 < narrow < 0.6


def test_compare_takes_runs_of_one_scale():
    runs = recipes(np.random.default_rng(6))
    found = bs.decide.compare(runs)
    assert found.differences == noise(runs).differences
    json.dumps(found.to_dict())
    with pytest.raises(bs.InputError, match="fits by the recipe's name"):
        bs.decide.compare(runs.frame)
    with pytest.raises(bs.InputError, match="one recipe"):
        bs.decide.compare(runs.split()[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bar": -1.0}, "bar must be a positive number"),
        ({"reference": 2.0}, "belong together"),
        ({"seeds": [0]}, "whole numbers from 1"),
        ({"seeds": [2.5]}, "whole numbers from 1"),
        ({"level": 1.5}, r"lie in \(0, 1\)"),
        ({"most_seeds": 1}, "most_seeds"),
        ({"error": 0.0}, "error"),
    ],
)
def test_options_that_cannot_be_are_refused(options, words):
    with pytest.raises(bs.InputError, match=words):
        noise(recipes(np.random.default_rng(0)), **options)


def test_runs_without_replicates_are_refused():
    with pytest.raises(bs.InputError, match="no replicates"):
        noise(bs.Runs.from_frame(pd.DataFrame({"flops": [1e18, 1e19], "loss": [3.0, 2.8]})))


def test_numbers_are_written_as_precisely_as_they_are_known():
    assert shown(3.278721, 0.0003) == "3.27872"
    assert shown(1234.5, 100.0) == "1234"
    assert shown(2.0, 0.0) == "2.0000"


def test_differences_at_several_settings_are_a_table_of_equal_decimals():
    rng = np.random.default_rng(4)
    rows = [(f, n, s, 2.0 + rng.normal(0, 0.002)) for f in "ab" for n in (1e8, 3e8, 1e9) for s in range(3)]
    frame = pd.DataFrame(rows, columns=["family", "n_params", "seed", "loss"])
    lines = noise(bs.Runs.from_frame(frame)).text.splitlines()
    table = [line for line in lines if "b less a" in line]
    assert len(table) == 3 and "n_params 3e+08" in table[1]
    decimals = {len(number.partition(".")[2]) for line in table for number in re.findall(r"[+-]\d\.\d+", line)}
    assert len(decimals) == 1 and len({len(line) for line in table}) == 1
    told = next(line for line in lines if "Smallest difference" in line)
    gaps = re.findall(r"seeds (0\.\d+)", told)
    assert len(gaps) == 5 and len({len(gap) for gap in gaps}) == 1


def test_a_smallest_difference_states_its_certainty_and_power():
    rows = [("a", 0, 3.28), ("a", 1, 3.281), ("b", 2, 3.27), ("b", 3, 3.272)]
    found = noise(bs.Runs.from_frame(pd.DataFrame(rows, columns=["family", "seed", "loss"]), inputs=[]), seeds=[4])
    (row,) = found.resolution.to_dict("records")
    assert "95 % certainty of its sign in 80 % of experiments (power)" in found.text
    assert (row["certainty"], row["power"]) == (0.95, 0.8)
    # Of experiments with that difference, so many have a t statistic beyond the critical value.
    size = row["gap"] / (found.sd[0.5] * np.sqrt(2.0 / 4))
    assert nct.sf(t_distribution.ppf(0.95, 6), 6, size) == pytest.approx(0.8, abs=1e-6)
    assert "1 seed none" in noise(recipes(np.random.default_rng(0)), seeds=[1, 2]).text


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_the_smallest_difference_is_found_as_often_as_stated(seeds):
    rng = np.random.default_rng(seeds)
    (row,) = smallest_gaps([seeds], 0.0015, 0.0007).to_dict("records")
    a, b = 0.0015 * rng.standard_normal((2, 4000, seeds))
    apart = 0.0007 * rng.standard_normal((4000, seeds))
    unpaired = ttest_ind(a + row["gap"], b, axis=1, alternative="greater").pvalue
    paired = ttest_1samp(apart + row["gap_paired"], 0.0, axis=1, alternative="greater").pvalue
    assert (unpaired < 0.05).mean() == pytest.approx(0.8, abs=0.025)
    assert (paired < 0.05).mean() == pytest.approx(0.8, abs=0.025)


def accuracies(**options):
    rows = [("A", a) for a in (71.2, 71.6, 70.9, 71.3)] + [("B", b) for b in (72.4, 72.9, 72.0, 72.5)]
    table = pd.DataFrame(rows, columns=["method", "accuracy"]).assign(seed=[0, 1, 2, 3] * 2)
    return bs.read(table, family="method", **options)


def test_scores_are_compared_as_scores():
    found = noise(accuracies(score="accuracy", n_items=50_000), bar=0.72)
    (difference,) = found.differences
    assert difference.difference == pytest.approx(0.012, abs=1e-9)
    assert difference.p_better > 0.99 and difference.looks.named == "B"
    assert found.sd[0.5] == pytest.approx(0.0032, abs=0.001)
    assert found.table["mean"].round(4).tolist() == [0.7125, 0.7245]
    assert "mean of A is not above 0.72" in found.text and "mean of B is first above 0.72" in found.text
    errors = noise(accuracies(derive="error_rate", units={"loss": "%"})).differences[0]
    assert errors.difference == pytest.approx(-0.012, abs=1e-9) and errors.p_better > 0.99


def test_bars_of_scores_are_shares():
    with pytest.raises(bs.InputError, match=r"between 0 and 1, as 0\.64"):
        noise(accuracies(score="accuracy"), bar=72.0)


def test_the_seed_sd_has_a_trend_along_a_ray():
    runs = replicates(np.random.default_rng(0), 0.0)
    ray = bs.Runs.from_frame(runs.frame.assign(n_tokens=20 * runs.frame["n_params"]))
    assert noise(ray).trend.slope == noise(runs).trend.slope


def test_scores_that_were_read_as_losses_are_refused():
    with pytest.raises(bs.InputError, match=r"--score accuracy.*--derive"):
        noise(accuracies())
    with pytest.raises(bs.InputError, match="count as the worse"):
        bs.decide.compare(accuracies())


def test_intervals_of_differences_state_their_level_and_empty_cells_a_dash():
    rows = [("a", 0, 3.28), ("a", 1, 3.281), ("b", 2, 3.27), ("b", 3, 3.272), ("c", 0, 3.26), ("c", 1, 3.263)]
    table = pd.DataFrame(rows, columns=["family", "seed", "loss"])
    one = bs.decide.noise(bs.Runs.from_frame(table[table["family"] != "c"], inputs=[]), level=0.8)
    assert "(80 %: -0." in one.differences[0].text
    several = str(bs.decide.noise(bs.Runs.from_frame(table, inputs=[])))
    assert "90 % interval" in several
    assert " \N{EN DASH} " in several and " - " not in several


# --- Looks after every seed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("most_seeds", "error"), [(8, 0.05), (5, 0.1), (12, 0.01)])
def test_looks_after_every_seed_keep_their_error(most_seeds, error):
    rng = np.random.default_rng(most_seeds)
    # Any sd: the statistics do not depend on it.
    p = p_values(0.003 * rng.standard_normal((10_000, most_seeds)))
    named = (p <= levels(most_seeds, error)).any(axis=1).mean()
    assert abs(named - error) < 4.0 * np.sqrt(error * (1.0 - error) / 10_000)
    # The wrong way, asking for p at most `error` at each look, names far more often.
    assert (p <= error).any(axis=1).mean() > 2.0 * error


def test_p_values_are_those_of_scipy():
    values = np.random.default_rng(1).normal(0.3, 1.0, (4, 6))
    found = p_values(values)
    for row, own in zip(values, found, strict=True):
        expected = [ttest_1samp(row[:size], 0.0).pvalue for size in range(2, 7)]
        np.testing.assert_allclose(own, expected, rtol=1e-9)


def test_a_large_gap_is_named_early_and_the_first_verdict_stays():
    rng = np.random.default_rng(2)
    saved, right = [], []
    for _ in range(300):
        found = look(("old", "new"), -0.01 + 0.002 * rng.standard_normal(8))
        saved.append(8 - (found.after or 8))
        right.append(found.named == "new")
    assert np.mean(right) > 0.99
    # A gap of five sds of a difference saves about 4.4 of eight seeds.
    assert 4.1 < np.mean(saved) < 4.7
    early = look(("old", "new"), [-0.0021, -0.0033, -0.0024, -0.0029])
    late = look(("old", "new"), [-0.0021, -0.0033, -0.0024, -0.0029, 0.04, 0.05])
    assert early.named == late.named == "new" and early.after == late.after == 4


def test_losses_that_agree_by_rounding_name_nobody():
    assert look(("a", "b"), [-0.002, -0.002, -0.002], unit=0.001).named == ""
    assert look(("a", "b"), [-0.002, -0.002, -0.002]).named == "b"
    assert look(("a", "b"), [0.0, 0.0, 0.0]).named == ""
    assert rounding(np.array([3.28, 3.281])) == 0.001
    assert rounding(np.array([3.2812345678912])) == 0.0


def test_the_verdict_is_in_the_text_and_the_chance_of_one_follows_the_gap():
    rng = np.random.default_rng(3)
    (difference,) = noise(recipes(rng)).differences
    assert difference.looks.named == "new"
    assert "named after" in noise(recipes(rng)).text
    rows = [("a", 0, 3.2812), ("a", 1, 3.2795), ("a", 2, 3.2803), ("b", 0, 3.2801), ("b", 1, 3.2792), ("b", 2, 3.2781)]
    few = noise(bs.Runs.from_frame(pd.DataFrame(rows, columns=["family", "seed", "loss"]), inputs=[]))
    looks = few.differences[0].looks
    assert looks.named == "" and looks.seen == 3 and 0.3 < looks.chance < 0.99 and 1.0 <= looks.further <= 5.0
    assert "open after 3" in few.text
    used_up = look(("a", "b"), [0.001, -0.001, 0.002, -0.001, 0.003], most_seeds=4)
    assert "1 further seed of each" in used_up.text and used_up.short == "none in 4"
    assert "no look yet" in look(("a", "b"), [0.001]).text


def test_seeds_are_looked_at_in_the_order_of_the_rows():
    rows = [(f, s, 3.28 + 0.001 * s * (f == "b")) for f in "ab" for s in (10, 2, 1)]
    found = noise(bs.Runs.from_frame(pd.DataFrame(rows, columns=["family", "seed", "loss"]), inputs=[]))
    looks = found.differences[0].looks
    assert looks.p[0] == pytest.approx(p_values(np.array([[0.010, 0.002]]), 0.001)[0, 0])


# --- Seed sd by scale ----------------------------------------------------------------------------------------------


def replicates(rng, slope, *, seeds=8, scales=5):
    x = np.geomspace(1e8, 1e10, scales)
    rows = [
        ("a", n, seed, 3.0 * (n / 1e8) ** -0.05 * (1.0 + 0.002 * (n / 1e9) ** slope * rng.standard_normal()))
        for n in x
        for seed in range(seeds)
    ]
    return bs.Runs.from_frame(pd.DataFrame(rows, columns=["family", "n_params", "seed", "loss"]))


def test_the_exponent_of_the_seed_sd_is_found():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(60):
        slope = 0.5 * rng.standard_normal()
        found = noise(replicates(rng, slope, seeds=4)).trend
        inside.append(found.slope[0.05] < slope < found.slope[0.95])
    # 90 % intervals, the exponent drawn from its prior: 54 +- 2.3.
    assert 47 <= sum(inside) <= 60
    falling = noise(replicates(rng, -0.4))
    assert falling.trend.p_falls > 0.99 and "n_params to the power -0." in falling.text
    assert noise(replicates(rng, 0.0, scales=2)).trend is None


def test_runs_that_did_not_recover_are_named():
    rng = np.random.default_rng(1)
    clean = replicates(rng, 0.0, seeds=6)
    assert noise(clean).far.empty
    broken = clean.frame.copy()
    broken.loc[7, "loss"] *= 1.1
    found = noise(bs.Runs.from_frame(broken))
    assert found.far.index.size == 1 and found.far["seed"].tolist() == [1]
    assert "Too far from the other runs" in found.text
    named = sum(len(noise(replicates(rng, 0.0, seeds=6)).far) > 0 for _ in range(60))
    assert named <= 4


def test_settings_with_few_pairs_borrow_the_spread_of_the_others():
    rows = [("a", n, s, 3.0 - 0.1 * i + 0.001 * s) for i, n in enumerate((1e8, 3e8, 1e9)) for s in range(2)]
    # By luck both pairs of the middle size agree to the last digit.
    gaps = {(1e8, 0): 0.020, (1e8, 1): 0.030, (3e8, 0): 0.0250, (3e8, 1): 0.0250, (1e9, 0): 0.022, (1e9, 1): 0.030}
    rows += [("b", n, s, loss + gaps[n, s]) for _, n, s, loss in rows]
    runs = bs.Runs.from_frame(pd.DataFrame(rows, columns=["family", "n_params", "seed", "loss"]))
    widths = [difference.high - difference.low for difference in noise(runs).differences]
    assert min(widths) > 0.9 * max(widths)
