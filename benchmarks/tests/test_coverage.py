"""Forecasts of pass@k: the rivals do what they say, and the table sums rows up."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import betaln

from bayescale.coverage.counts import Counts
from benchmarks.coverage import measure


def simulated(alpha, beta, problems=20_000):
    rng = np.random.default_rng(0)
    made = np.full(problems, measure.SAMPLES)
    return Counts("x", ("",) * problems, made, rng.binomial(made, rng.beta(alpha, beta, problems)))


def test_maximum_likelihood_finds_the_coverage_of_a_beta_binomial():
    truth = 1 - np.exp(betaln(0.4, 3 + 1_000) - betaln(0.4, 3))
    assert measure.maximum_likelihood(simulated(0.4, 3), 1_000) == pytest.approx(truth, abs=0.01)


def test_the_power_law_goes_through_what_it_was_fitted_to():
    counts = simulated(0.3, 1.0)
    truth = 1 - np.exp(betaln(0.3, 1 + 50) - betaln(0.3, 1))
    assert measure.power_law(counts, 50) == pytest.approx(truth, abs=0.03)
    assert measure.power_law(counts, 10_000) > measure.power_law(counts, 100)
    none = Counts("x", ("", ""), np.array([100, 100]), np.array([100, 100]))
    assert measure.power_law(none, 1_000) == 1.0


def test_the_table_has_errors_and_shares():
    rows = [
        {
            "source": "s",
            "horizon": "far",
            "model": m,
            "method": "a",
            "forecast": f,
            "truth": 0.5,
            "in 0.8": f < 0.6,
            "width 0.8": 0.1,
        }
        | {"in 0.95": True, "width 0.95": 0.2}
        for m, f in (("x", 0.4), ("y", 0.7))
    ]
    table = measure.table(pd.DataFrame(rows))
    assert table["mean absolute error"][0] == pytest.approx(0.15)
    assert table["mean error"][0] == pytest.approx(0.05)
    assert table["in 0.8"][0] == 0.5 and table["models"][0] == 2


def test_the_first_batch_of_stopped_sampling_is_known():
    """Of four problems, one is solved in the first batch, one in the second, one after k = 1,020, and one never."""
    sampled, correct = np.array([60, 120, 6_000, 10_020]), np.array([7, 2, 1, 0])
    task = measure.first_batches("x", ("a", "b", "c", "d"), sampled, correct)
    assert list(task.counts.correct) == [7, 0, 0, 0] and set(task.counts.attempts) == {60}
    assert task.k == (1_020, 10_020) and task.truth == (0.5, 0.75)


def test_a_task_is_scored_at_each_k_by_each_method():
    counts = simulated(0.4, 3.0, problems=40)
    rows = pd.DataFrame(measure.scored(measure.Task("s", "x", counts, (1_000, 9_000), (0.8, 0.9))))
    assert set(rows.groupby("method")["k"].agg(tuple)) == {(1_000, 9_000)}
    assert set(rows["method"]) == {*(f"bayescale, {law}" for law in measure.LAWS), *measure.RIVALS}
    assert (rows[rows["horizon"] == "far"]["forecast"].to_numpy() >= rows[rows["horizon"] == "near"]["forecast"]).all()
