"""Items: models compared by their answers to the same items."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta

import bayescale as bs
from bayescale.decide.items import PRIOR, accuracy_draws


def simulated(items: int, seed: int, abilities=(0.5, 0.8)) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(0.0, 2.0, items)
    right = {f"m{i}": rng.logistic(size=items) < ability - difficulty for i, ability in enumerate(abilities)}
    return pd.DataFrame(right).astype(int)


def test_accuracy_of_one_model_has_a_beta_posterior():
    draws = accuracy_draws(np.repeat([[1.0], [0.0]], [30, 10], axis=0), np.random.default_rng(0))
    expected = beta(30 + PRIOR / 2.0, 10 + PRIOR / 2.0).ppf([0.05, 0.5, 0.95])
    np.testing.assert_allclose(np.quantile(draws, [0.05, 0.5, 0.95]), expected, atol=0.01)


def test_difference_depends_on_the_discordant_items_only_through_their_frequencies():
    answers = {"a": [1] * 60 + [1] * 4 + [0] * 12 + [0] * 24, "b": [1] * 60 + [0] * 4 + [1] * 12 + [0] * 24}
    found = bs.decide.compare_items(answers)
    # P(p01 > p10) for a Dirichlet is that of a beta variable of the two discordant counts.
    exact = beta(12 + PRIOR, 4 + PRIOR).sf(0.5)
    assert found.differences()["better"].iloc[0] == pytest.approx(exact, abs=0.02)
    assert found.differences()["median"].iloc[0] == pytest.approx(0.08, abs=0.01)
    np.testing.assert_allclose(found.ranks().to_numpy().sum(0), 1.0)
    np.testing.assert_allclose(found.accuracies()["best"].sum(), 1.0)


def test_intervals_hold_and_are_narrower_than_for_different_items():
    """Population accuracies are those of a hundred thousand items."""
    truth = simulated(100_000, 10_000).mean()
    inside, ratios, wrong = [], [], []
    for seed in range(200):
        table = simulated(300, seed)
        row = bs.decide.compare_items(table, level=0.8, seed=seed).differences().iloc[0]
        gap = truth["m1"] - truth["m0"]
        inside.append(row["low"] <= gap <= row["high"])
        ratios.append(row["width_ratio"])
        middle, half = 0.5 * (row["low"] + row["high"]), 0.5 * (row["high"] - row["low"]) / row["width_ratio"]
        wrong.append(middle - half <= gap <= middle + half)
    assert 0.72 < np.mean(inside) < 0.88
    assert 0.5 < np.mean(ratios) < 0.9
    # Without pairing the intervals would be too wide.
    assert np.mean(wrong) > np.mean(inside) + 0.03


def test_tasks_count_alike():
    table = pd.DataFrame({"task": ["a"] * 90 + ["b"] * 10, "one": [1] * 90 + [0] * 10, "two": [0] * 90 + [1] * 10})
    found = bs.decide.compare_items(table, task="task")
    assert found.tasks == ("a", "b") and "mean of 2 tasks" in str(found)
    np.testing.assert_allclose(found.accuracies()["median"], 0.5, atol=0.05)
    assert bs.decide.compare_items(table.drop(columns="task")).accuracies()["median"].round(1).tolist() == [0.9, 0.1]


def test_equal_answers_decide_nothing():
    row = bs.decide.compare_items({"a": [1, 1, 0], "b": [1, 1, 0]}).differences().iloc[0]
    assert row["better"] == pytest.approx(0.5, abs=0.03) and row["low"] < 0.0 < row["high"]


@pytest.mark.parametrize(
    ("answers", "options", "message"),
    [
        ({"a": [1, 0]}, {}, "needs two models"),
        ({"a": [1, 0], "b": [1, None]}, {}, r"b has none in rows 2\. Drop items"),
        ({"a": [1, 0], "b": [1, 3]}, {}, "b has none in rows 2"),
        ({"a": [1, 0], "b": [1, 1]}, {"task": "subject"}, "no column 'subject'; found a, b"),
        ({"a": [1, 0], "b": [1, 1]}, {"level": 1.5}, "level"),
    ],
)
def test_impossible_answers_are_refused(answers, options, message):
    with pytest.raises(bs.InputError, match=message):
        bs.decide.compare_items(answers, **options)
