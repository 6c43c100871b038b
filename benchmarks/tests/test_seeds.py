"""Seeds: halves of replicates, on simulated groups with a known sd."""

import numpy as np
import pandas as pd
import pytest

from bayescale.decide.sequential import ERROR
from benchmarks.decisions import seeds


def test_halves_of_simulated_groups_hold_as_often_as_stated():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(300):
        sd = 0.0016 * np.exp(1.6 * rng.standard_normal())
        inside.append(seeds.scored(3.0 * (1.0 + sd * rng.standard_normal(4)), 0.0016, 1.6)[1])
    # The sd comes from the prior itself; four seeds a group, 300 groups.
    np.testing.assert_allclose(np.mean(inside, axis=0), seeds.LEVELS, atol=0.05)
    wrong = [seeds.scored(3.0 * (1.0 + 0.02 * rng.standard_normal(4)), 0.0004, 0.8)[1] for _ in range(50)]
    assert np.mean(wrong, axis=0)[2] < 0.7


def test_prior_is_the_widest_of_those_that_tie():
    rows = [("a", 0.0004, 0.8, -1.0), ("a", 0.0016, 1.2, -2.0), ("a", 0.0016, 1.6, -1.995), ("b", 0.0004, 0.8, -9.0)]
    frame = pd.DataFrame(rows, columns=["source", "median", "sd", "log"])
    assert seeds.chosen(frame, without="b") == (0.0016, 1.6)


def test_looks_keep_their_error_and_save_seeds():
    found = seeds.looks().set_index("gap")
    assert found.loc[0.0, "named"] == pytest.approx(ERROR, abs=0.008)
    assert found.loc[0.0, "naive"] > 0.15
    assert found.loc[3.0, "saved"] > 0.4
    assert (found["wrong"] <= ERROR / 2 + 0.005).all()
