"""Speed-ups: the factor that is read off measured curves."""

import numpy as np
import pytest

from benchmarks.decisions import speedups


def test_true_factor_of_power_laws():
    log_x = np.linspace(0.0, 6.0, 7)
    slow, fast = 1.0 - 0.1 * log_x, 0.95 - 0.1 * log_x
    # The slow recipe reaches the loss of the fast one half an e-fold of scale later.
    assert speedups.true_factor(log_x, slow, 3.0, fast[3]) == pytest.approx(0.5)
    assert speedups.true_factor(log_x, fast, 3.0, slow[3]) == pytest.approx(-0.5)
    assert speedups.true_factor(log_x, slow, 6.0, fast[6]) is None


def test_nearest_of_several_crossings_counts():
    log_x = np.arange(5.0)
    assert speedups.true_factor(log_x, np.array([3.0, 1.0, 2.0, 1.0, 0.0]), 2.6, 1.5) == pytest.approx(2.5 - 2.6)


def test_table_counts_what_intervals_hold():
    rows = [
        {
            **{"key": str(i), "source": "s", "cluster": str(i), "beyond": 10.0, "truth": 0.1 * i},
            **{"paired": [-0.05, 0.1, 0.25], "apart": [-1.0, 0.1, None]},
        }
        for i in range(5)
    ]
    text = speedups.table(rows)
    # Truths 0, .1 and .2 of five lie within the paired interval, all within the other.
    assert "| 0.60 (" in text and "| 1.00 (" in text
