"""Questions about replicates: seed sd, differences of recipes, bars, resolution; simulated data with known answers."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import bayescale as bs
from bayescale.decide.noise import noise
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
    (first,) = found.first_below.values()
    assert first["step"] == 2780
    assert "3.27872" in found.text
    assert "step 2760 has 3.27907" in found.text
    # Fourteen runs at four steps are fourteen runs.
    assert found.freedom == 13
    assert "is not below" in noise(runs_of(rows), bar=3.2).text


def test_more_seeds_show_smaller_gaps():
    found = noise(recipes(np.random.default_rng(4)), seeds=[2, 8])
    two, eight = found.resolution["gap"]
    assert two == pytest.approx(2.0 * eight)
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
    # Of experiments with that difference, so many have an estimate above the certain one.
    error = found.sd[0.5] * np.sqrt(2.0 / 4)
    assert norm.sf(norm.ppf(row["certainty"]) - row["gap"] / error) == pytest.approx(row["power"], abs=1e-3)


def test_intervals_of_differences_state_their_level_and_empty_cells_a_dash():
    rows = [("a", 0, 3.28), ("a", 1, 3.281), ("b", 2, 3.27), ("b", 3, 3.272), ("c", 0, 3.26), ("c", 1, 3.263)]
    table = pd.DataFrame(rows, columns=["family", "seed", "loss"])
    one = bs.decide.noise(bs.Runs.from_frame(table[table["family"] != "c"], inputs=[]), level=0.8)
    assert "(80 %: -0." in one.differences[0].text
    several = str(bs.decide.noise(bs.Runs.from_frame(table, inputs=[])))
    assert "90 % interval" in several
    assert " \N{EN DASH} " in several and " - " not in several
